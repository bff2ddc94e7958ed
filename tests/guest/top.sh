#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# ubd-top: what it says of a load that is known, on a terminal, and without one.
. "$(dirname "$0")/lib.sh"

top_program=$top/build/ubd-top
[ -x "$top_program" ] || top_program=

build_load() {
	[ -n "$top_program" ] || fail "no build/ubd-top; make tools"
	mkdir -p "$work/load"
	cp -rs "$top/tests/bench/load/." "$work/load/"
	env -u MAKEFLAGS -u MFLAGS make -s -C "$(dirname "$kernel")" ARCH=um "M=$work/load" modules
}

# In the guest:
#
#	run DISK WORD...	does a load of ubd_load
#	column NAME DISK	what the last report in $mnt/report says there
#	totals WORD...		such a report of totals, now
top_script='
top_program=$top/build/ubd-top
insmod $work/load/ubd_load.ko
run() {
	exec 3<>/sys/kernel/debug/ubd_load
	echo "dev=/dev/$1 ms=0 ${*:2}" >&3
	cat <&3 >>$work/loads
	exec 3>&-
}
column() {
	awk -v name="$1" -v disk="$2" "
		\$1 == \"disk\" { for (i = 1; i <= NF; i++) if (\$i == name) column = i }
		\$1 == disk { found = \$column }
		END { if (!column || found == \"\") exit 1; print found }" $mnt/report
}
totals() {
	$top_program -b -c -n 1 "$@" >$mnt/report
}
'

# Totals, and rates: exactly the operations that were done.
test_figures() {
	image a.img 64M >/dev/null
	image base.img 64M >/dev/null
	build_load
	guest one "ubd0=$work/a.img" "ubd1=$work/b.cow,$work/base.img" "ubd26=$work/c.cow,$work/base.img" <<-EOF
		$top_script
		set -- commit_ms=0
		load "\$@"
		totals
		same disks "\$(awk 'NR > 2 && NF { print \$1 }' \$mnt/report | xargs)" 'ubda ubdb ubdaa all'
		# Each column is in the manual page.
		manual=\$(sed -n '/^.SH COLUMNS/,/^.SH EXIT/s/^.BR\{0,1\} //p' $top/Documentation/man/ubd-top.1)
		for each in \$(\$top_program -b -n 1 -d 0.1 | sed -n 's/^disk *//p'); do
			grep -qwF "\$each" <<<"\$manual" || die "\$each is not in the manual page"
		done
		reads=\$(column r ubda) megabytes=\$(column rMB ubda)
		# 51.2 MB, and what the kernel reads at first, which is less than 0.05.
		run ubda ios=1000 bs=51200 depth=1
		totals ubda
		same reads "\$(column r ubda)" \$((reads + 1000))
		same megabytes "\$(column rMB ubda)" "\$(awk "BEGIN { print \$megabytes + 51.2 }")"
		run ubdb op=write ios=30 bs=64k order=seq depth=1
		run ubdb op=discard ios=7 bs=64k offset=32m depth=1
		run ubdb op=zeroes ios=5 bs=64k offset=32m depth=1
		run ubdb op=flush ios=3 depth=1
		totals
		same writes "\$(column w ubdb) \$(column wMB ubdb)" '30 2.0'
		same 'discards and zeroes' "\$(column d ubdb)" 12
		same 'flushes, and commits' "\$(column flush ubdb) \$(column commit ubdb)" '3 1'
		run ubdb op=write ios=2 bs=4k order=seq offset=48m depth=1
		totals
		same 'sectors that are dirty' "\$(column dirty ubdb) \$(column dirty all)" '16 16'
		same 'all writes' "\$(column w all)" 32
		for each in queue flight host again behind space reserve retry error; do
			same "\$each" "\$(column \$each all)" 0
		done
		dir=/sys/block/ubdb/ubd
		# What nobody looked for at once is found by a look before sleeping, or is announced.
		inline=\$(<\$dir/inline_completions) polled=\$(<\$dir/polled_completions)
		later=\$((\$(<\$dir/interrupt_completions) + \$(<\$dir/missed_wakeups)))
		[ \$((polled + later)) -gt 0 ] || die 'writes that were done at once'
		percent() {
			awk "BEGIN { printf \"%.0f\", 100 * \$1 / (\$inline + \$polled + \$later) }"
		}
		same inline "\$(column inl% ubdb) \$(column poll% ubdb)" "\$(percent \$inline) \$(percent \$polled)"
		same calls "\$(column call ubdb)" "\$(<\$dir/submit_calls)"
		same interrupts "\$(column irq ubdb)" "\$(<\$dir/interrupts)"
		# All of a load in one interval: rate and time make the number.
		\$top_program -b -n 1 -d 8 >\$mnt/report &
		sleep 1
		run ubda ios=3000 bs=51200 depth=1
		run ubdb op=write ios=64 bs=50k order=seq depth=1
		run ubdb op=flush ios=1
		wait
		seconds=\$(awk 'NR == 1 { print \$(NF - 1) }' \$mnt/report)
		amount() {
			awk "BEGIN { printf \"%.0f\", \$(column \$1 \$2) * \$seconds }"
		}
		same 'reads in the interval' "\$(amount r/s ubda)" 3000
		same 'and their megabytes' "\$(amount rMB/s ubda)" 154
		same 'writes in the interval' "\$(amount w/s ubdb) \$(amount w/s all)" '64 64'
		same 'flushes in the interval' "\$(amount flush/s ubdb) \$(amount commit/s ubdb)" '1 1'
		same 'of a disk at rest' "\$(column r/s ubdaa) \$(column wMB/s ubdaa) \$(column inl% ubdaa)" '0.0 0.0 -'
		# So many reports, in that time.
		begin=\${EPOCHREALTIME/./}
		\$top_program -b -n 4 -d 0.5 ubda >\$mnt/report
		took=\$(((\${EPOCHREALTIME/./} - begin) / 1000))
		same reports "\$(grep -c '^disk ' \$mnt/report)" 4
		[ \$took -ge 2000 ] && [ \$took -lt 8000 ] || die "four reports took \$took ms"
		# Anybody may look.
		setpriv --reuid 65534 --regid 65534 --clear-groups \$top_program -b -n 1 -d 0.1 >\$mnt/report
		same disks "\$(grep -c '^ubd' \$mnt/report)" 4
		# Disks that go, are not there, and come with counters that begin anew.
		\$top_program -b -d 0.2 >\$mnt/report &
		sleep 0.5
		unload
		sleep 1
		load
		run ubda ios=1000
		sleep 0.5
		kill \$!
		wait \$! || same 'killed' \$? 143
		grep -q '0 disks' \$mnt/report || die 'disks that are gone are shown'
		grep -q 'not loaded' \$mnt/report
		\$top_program -b -n 1 -d 2 >>\$mnt/report &
		sleep 0.7
		unload
		load
		wait
		[ "\$(awk '\$1 == "ubda" && (\$2 < 0 || \$2 > 100000) { n++ } END { print n + 0 }' \$mnt/report)" = 0 ] ||
			die 'a strange rate'
	EOF
}

# Each state, and what should never be: as sysfs says.
test_trouble() {
	use_debug
	image base.img 16M >/dev/null
	build_load
	guest one "ubd0=$work/a.cow,$work/base.img" <<-EOF
		$top_script
		load queue_depth=16 commit_ms=0
		run ubda op=write ios=1 offset=4k length=4k
		fault ubda 'write errno=11 times=3; read errno=5 times=1'
		run ubda op=write ios=1 offset=4k length=4k
		run ubda ios=1
		fail_slab
		fault ubda 'read drop'
		# As many as the pools keep, one of the reserve, and three that wait.
		for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
			dd if=/dev/ubda of=/dev/null iflag=direct bs=4k count=1 status=none &
		done
		until [ "\$(</sys/block/ubda/ubd/queued)" = 3 ]; do
			sleep 0.05
		done
		totals
		for each in queue=queued flight=in_flight host=in_flight_host again=in_flight_retry behind=in_flight_flush \
			dirty=dirty_sectors error=errors retry=chunks_retried; do
			same \${each%=*} "\$(column \${each%=*} ubda)" "\$(</sys/block/ubda/ubd/\${each#*=})"
		done
		for each in 'queue 3' 'flight 9' 'host 9' 'reserve 2' 'retry 3' 'error 1' 'dirty 8'; do
			same \${each% *} "\$(column \${each% *} ubda)" \${each#* }
		done
		fault ubda off
		wait
		faults_end failslab >/dev/null
	EOF
}

test_terminal() {
	[ -n "$top_program" ] || fail "no build/ubd-top; make tools"
	image a.img 16M >/dev/null
	guest one "ubd0r=$work/a.img" "ubd1r=$work/a.img" "ubd2r=$work/a.img" "ubd3r=$work/a.img" "ubd4r=$work/a.img" <<-'EOF'
		load
		mkdir -p /dev/pts
		mount -t devpts devpts /dev/pts
		while dd if=/dev/ubdd of=/dev/null bs=4k count=10 iflag=direct status=none; do
			sleep 0.02
		done &
		TERM=linux python3 $guest_dir/terminal.py $top/build/ubd-top ubda ubdd
		kill $!
		# What is no terminal is refused.
		refused $top/build/ubd-top </dev/null >$mnt/out 2>$mnt/why
		grep -q 'use -b' $mnt/why
		same output "$(cat $mnt/out)" ''
	EOF
}

# What is wrong is said, with the status that the manual has.
test_usage() {
	[ -n "$top_program" ] || fail "no build/ubd-top; make tools"
	# wrong STATUS MESSAGE WORD...
	wrong() {
		local is=0

		"$top_program" "${@:3}" >out 2>why </dev/null || is=$?
		expect_eq "status of ${*:3}" "$is" "$1"
		grep -q -- "$2" why || fail "${*:3} says: $(cat why)"
		[ ! -s out ] || fail "${*:3} prints: $(cat out)"
	}
	wrong 2 'not a number of seconds' -d x
	wrong 2 'not a number of seconds' -d 0
	wrong 2 'not a number of seconds' -d nan
	wrong 2 'not a number of seconds' -d 3601
	wrong 2 'not a number of reports' -n 0
	wrong 2 'not a number of reports' -n -3
	wrong 2 'not a number of reports' -n 99999999999999999999
	wrong 2 usage: -x
	wrong 2 usage: -d
	wrong 1 'ubdz: no such ubd disk' -b -n 1 ubdz
	wrong 1 'no such ubd disk' -b -n 1 ../loop0
	wrong 1 'use -b'
	SYSFS_PATH=$work/none wrong 1 'sysfs cannot be read: No such file' -b
	"$top_program" --help >out
	grep -q '^usage: ubd-top' out
	# As its manual page and the module say.
	expect_eq version "$("$top_program" --version)" "ubd-top $(sed -n 's/^#define UBD_VERSION "\(.*\)"/\1/p' "$top/include/ubd/version.h")"
	# Who reads no more ends it.
	{ "$top_program" -b -d 0.1 || expect_eq status $? 141; } | head -n 1 >out
	grep -q '^ubd-top .* 0 disks' out
	# Written where there is no space.
	! "$top_program" -b -n 1 -d 0.1 >/dev/full 2>why || fail "a full disk is no error"
	grep -q 'No space left' why
}

run_tests "$@"
