#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# ubd-report: what is in it, for root and for others, by any shell, and that it
# marks, or hides, the names of the host's files.
. "$(dirname "$0")/lib.sh"

test_contents() {
	mkdir private-place
	image private-place/private-a.img 64M >/dev/null
	image private-place/private-base.img 16M >/dev/null
	sfdisk -q private-place/private-a.img <<-EOF
		label: dos
		size=32M
	EOF
	guest one "ubd0=$work/private-place/private-a.img,,SERIAL7" \
		"ubd1=$work/private-place/private-b.cow,$work/private-place/private-base.img" \
		"ubd2=$work/private-place/private-missing.img" <<-'EOF'
		report=$top/tools/report/ubd-report
		# Before there is anything.
		sh $report >$mnt/none 2>$mnt/err
		grep -q '^  ubd  *(not loaded)$' $mnt/none
		grep -q '^  (none)$' $mnt/none
		load queue_depth=64 "snapshot_dir=$work/private-place"
		mkfs.ext4 -q /dev/ubda1
		mkdir $mnt/here
		mount /dev/ubda1 $mnt/here
		mkswap /dev/ubdb >/dev/null
		sync /dev/ubdb
		swapon /dev/ubdb
		sync /dev/ubda1
		sh $report >$mnt/report 2>>$mnt/err
		cp $mnt/report $work/report
		# value SECTION NAME: as the report has it
		value() {
			sed -n "/^== $1\$/,/^\$/s/^[! ] $2  *//p" $mnt/report
		}
		same version "$(value versions 'ubd version')" "$(cat /sys/module/ubd/version)"
		same kernel "$(value versions kernel | cut -d ' ' -f 2)" "$(uname -r)"
		same 'command line' "$(value versions 'command line')" "$(cat /proc/cmdline)"
		same 'name of the host' "$(value versions host)" "$(sed -n 's/^host.*: //p' /proc/cpuinfo)"
		for each in /sys/module/ubd/parameters/*; do
			same $each "$(value parameters ${each##*/})" "$(cat $each)"
		done
		same partitions "$(value 'disk ubda' partitions | xargs)" ubda1
		same serial "$(value 'disk ubda' serial)" SERIAL7
		same mount "$(value 'disk ubda' 'mounted, .dev.ubda1' | cut -d ' ' -f 1,2)" "$mnt/here ext4"
		value 'disk ubdb' 'swap, .dev.ubdb' | grep -q 'of 16380 KiB'
		same depth "$(value 'disk ubdb: limits' nr_requests)" 64
		same mode "$(value 'disk ubdb: what it is, and statistics' mode)" writeback
		same path "$(value 'disk ubdb: what it is, and statistics' path)" "$work/private-place/private-b.cow"
		same backing "$(value 'disk ubdb: what it is, and statistics' backing)" "$work/private-place/private-base.img"
		# Nobody uses the second disk now.
		for each in $(ls -d /sys/block/ubdb/ubd/* | grep -vE 'ubd/(resize|resume)$'); do # only written to
			same $each "$(value 'disk ubdb: what it is, and statistics' ${each##*/})" "$(cat $each)"
		done
		same commits "$(value 'disk ubdb: what it is, and statistics' commits)" 1
		same 'statistics' "$(sed -n '/^== disk ubda: what/,/^$/p' $mnt/report | grep -c '^[! ]')" "$(ls /sys/block/ubda/ubd | grep -cvxE 'resize|resume')"
		grep -q '^! .*EXT4-fs (ubda1): mounted' $mnt/report
		same 'what is not ours' "$(grep -E '^! .*(Linux version|Kernel command|mconsole)' $mnt/report || true)" ''
		grep -q '^  MemTotal  *[0-9]* kB$' $mnt/report
		grep -q '^  slab ubd_chunk  *[0-9]' $mnt/report
		grep -q '^! .*ubd: ubdc: .*private-missing.img: cannot find the file' $mnt/report
		same 'disks that are none' "$(grep -c '^== disk ubdc' $mnt/report || true)" 0
		# What is private is marked.
		[ "$(grep -c 'private-' $mnt/report)" -ge 8 ]
		same 'what is not marked' "$(grep 'private-' $mnt/report | grep -v '^!' || true)" ''
		# Or hidden: the same lines else.
		sh $report --public >$mnt/public 2>>$mnt/err
		same 'what is not hidden' "$(grep -E 'private-|'"$(uname -n)[ .]" $mnt/public || true)" ''
		grep -q '^! .*ubd: ubdc: (hidden): cannot find the file: No such file' $mnt/public
		same lines "$(wc -l <$mnt/public)" "$(wc -l <$mnt/report)"
		# For others, what they may read.
		setpriv --reuid 65534 --regid 65534 --clear-groups sh $report >$mnt/nobody 2>>$mnt/err
		# All but three names of files.
		same 'lines of nobody' $(grep -c private- $mnt/nobody) $(($(grep -c private- $mnt/report) - 3))
		grep -q '^! path  *(not readable by this user)$' $mnt/nobody
		grep -q '^  slabinfo  *(not readable by this user)$' $mnt/nobody
		grep -q "^  read_requests  *[0-9]" $mnt/nobody
		dmesg -n 7
		echo 1 >/proc/sys/kernel/dmesg_restrict
		setpriv --reuid 65534 --regid 65534 --clear-groups sh $report >$mnt/nobody 2>>$mnt/err
		same 'log of nobody' "$(sed -n '/^== kernel log/,$p' $mnt/nobody | tail -n 1)" '  (not readable by this user)'
		# By any shell.
		for shell in dash 'busybox sh' bash; do
			$shell $report >$mnt/other 2>>$mnt/err
			# Without numbers; and the log has times with some programs.
			for file in other report; do
				sed -e '1d' -e '/^== kernel log/,$d' -e '/^  .* [0-9]/d' $mnt/$file >$mnt/$file.text
			done
			cmp $mnt/other.text $mnt/report.text || die "with $shell it is another report"
			same "log with $shell" "$(sed -n 's/^! .*\(ubd: .*\)/\1/p' $mnt/other)" "$(sed -n 's/^! .*\(ubd: .*\)/\1/p' $mnt/report)"
		done
		same 'what went wrong' "$(cat $mnt/err)" ''
	EOF
}

# Names as most people type them, in messages that have two of them.
test_relative_names() {
	local ubd_cow=$top/build/ubd-cow

	image rel-a.img 16M >/dev/null
	image rel-b.img 16M >/dev/null
	image rel-base.img 16M >/dev/null
	"$ubd_cow" create rel-x.cow rel-base.img >/dev/null
	truncate -s 32M rel-base.img
	guest one ubd0=rel-a.img ubd0=rel-b.img ubd1=rel-x.cow,rel-base.img ubd2=rel-a.img <<-'EOF'
		load
		for shell in dash 'busybox sh' bash; do
			$shell $top/tools/report/ubd-report >$mnt/report
			for each in 'rel-b.img: the number is taken by rel-a.img;' 'but rel-base.img has 33554432;' \
				'rel-a.img: the file is in use already as ubda'; do
				grep -q "$each" $mnt/report || die "the log does not say: $each"
			done
			$shell $top/tools/report/ubd-report --public >$mnt/public
			same "what is not hidden by $shell" "$(grep 'rel-' $mnt/public || true)" ''
			grep -q 'the number is taken by (hidden); choose another' $mnt/public
			grep -q 'for a backing file of 16777216 bytes, but (hidden) has 33554432; name' $mnt/public
			same lines "$(wc -l <$mnt/public)" "$(wc -l <$mnt/report)"
		done
	EOF
}

test_usage() {
	local report=$top/build/ubd-report
	local is=0

	sh "$report" --secret >out 2>why || is=$?
	expect_eq status "$is" 2
	grep -q 'secret: no such option' why || fail "it says: $(cat why)"
	[ ! -s out ] || fail "it prints: $(cat out)"
	sh "$report" --help | grep -q '^usage: ubd-report'
	expect_eq version "$(sh "$report" --version)" \
		"ubd-report $(sed -n 's/^#define UBD_VERSION "\(.*\)"/\1/p' "$top/include/ubd/version.h")"
	is=0
	SYSFS_PATH=$work sh "$report" >out 2>why || is=$?
	expect_eq 'status without sysfs' "$is" 1
	for shell in dash bash 'busybox sh'; do
		$shell -n "$report" || fail "$shell does not understand it"
	done
}

run_tests "$@"
