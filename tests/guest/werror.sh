#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# A host that is really full, and werror=stop: who writes waits, nobody is told of
# an error, and all goes on when there is space, by itself or when told so.
. "$(dirname "$0")/lib.sh"

# In the guest:
#	state_of DISK
#	stopped DISK	waits until it is
#	running DISK SECONDS	waits so long at most until it is
#	fill DISK MIB	writes so much, in any order, flushes, and verifies it
werror_script='
state_of() {
	cat /sys/block/$1/ubd/state
}
wait_state() {
	local i

	for i in $(seq $(($3 * 10))); do
		[ "$(state_of $1)" != "$2" ] || return 0
		sleep 0.1
	done
	die "$1 is $(state_of $1), not $2"
}
stopped() {
	wait_state $1 "stopped: No space left on device" 30
}
running() {
	wait_state $1 running $2
}
fill() {
	fio --thread --verify=crc32c --verify_fatal=1 --verify_state_save=0 --do_verify=1 --direct=1 --rw=randwrite \
		--bsrange=4k-128k --size=$2M --ioengine=libaio --iodepth=16 --name=$1 --filename=/dev/$1 --fsync=50 \
		--output=$work/fio.$1 || die "$(tail -n 5 $work/fio.$1)"
	! grep -qE "verify:|error" $work/fio.$1 || die "fio found errors on $1"
}
no_errors() {
	same "errors of $1" "$(stat_of $1 errors)" 0
	same "in flight of $1" "$(stat_of $1 in_flight)" 0
	same "$1" "$(state_of $1)" running
}
'

# A host with a.img, and with what keeps it from being filled.
raw_on_full_host() {
	small_host 48m <<-EOF
		truncate -s 64M $work/small/a.img
		dd if=/dev/zero of=$work/small/filler bs=1M count=24 status=none
	EOF
}

expect_stopped_once() {
	expect_once one "ubd: $1: $work/small/[^ ]*: the host has no space for [0-9]+ bytes of .*: No space left on device \(28\); the device is stopped, nothing is lost: free space on the host's file system; it goes on by itself within 10 s, or at once by echo 1 >/sys/block/$1/ubd/resume"
	expect_once one "ubd: $1: $work/small/[^ ]*: the device goes on after [0-9]+ s"
	expect_silent one "$1: .*failed"
}

test_goes_on_by_itself() {
	raw_on_full_host
	guest one ubd=werror:stop "ubd0=$work/small/a.img" <<-EOF
		$werror_script
		load
		same policy "\$(cat /sys/block/ubda/ubd/werror)" stop
		echo 1000 >/sys/block/ubda/queue/io_timeout
		fill ubda 40 &
		stopped ubda
		same stops "\$(stat_of ubda stops) \$(stat_of ubda stopped)" '1 1'
		# Long enough for some trials, and for the block layer to ask.
		sleep 4
		same stopped "\$(stat_of ubda stopped)" 1
		same timeouts "\$(stat_of ubda timeouts)" 0
		$top/build/ubd-top -b -c -n 1 ubda | awk '
			\$1 == "disk" { for (i = 1; i <= NF; i++) if (\$i == "space") space = i }
			\$1 == "ubda" { print \$space }' >$work/space
		same 'what ubd-top shows' "\$(<$work/space)" "\$(stat_of ubda in_flight_space)"
		[ "\$(<$work/space)" -gt 0 ]
		rm $work/small/filler
		running ubda 11
		wait \$!
		no_errors ubda
		unload
	EOF
	expect_stopped_once ubda
	expect_silent one 'has not ended'
	expect_once one "ubda: $work/small/a.img: .*, werror=stop, "
}

# When it is told that there is space, it does not wait for its next trial, which
# would come 15 seconds after it was stopped.
test_resume() {
	raw_on_full_host
	guest one "ubd0=$work/small/a.img" <<-EOF
		$werror_script
		load werror=stop
		fill ubda 40 &
		stopped ubda
		sleep 8
		for bad in 2 yes 11; do
			refused bash -c "echo \$bad >/sys/block/ubda/ubd/resume" 2>/dev/null
		done
		# It is not true.
		echo 1 >/sys/block/ubda/ubd/resume
		same state "\$(state_of ubda)" 'stopped: No space left on device'
		sleep 4
		rm $work/small/filler
		echo 1 >/sys/block/ubda/ubd/resume
		# By itself it would be tried four seconds from here.
		running ubda 2
		wait \$!
		no_errors ubda
		echo 1 >/sys/block/ubda/ubd/resume
		unload
	EOF
	expect_stopped_once ubda
	expect_eq 'complaints' "$(log_count one 'ubd: ubda: resume takes nothing but 1$')" 3
}

# A COW file: space for its bits is asked for first, data after that.
test_cow() {
	image base.img 64M >/dev/null
	"$tool" pattern write base.img 0 131072 1
	small_host 48m <<-EOF
		dd if=/dev/zero of=$work/small/filler bs=1M count=24 status=none
	EOF
	guest one ubd=werror:enospc "ubd0=$work/small/a.cow,$work/base.img" <<-EOF
		$werror_script
		load
		fill ubda 40 &
		stopped ubda
		# Who flushes waits, too.
		sync /dev/ubda &
		flush=\$!
		sleep 2
		kill -0 \$flush || die 'a flush ended while the device was stopped'
		rm $work/small/filler
		wait
		no_errors ubda
		"$tool" pattern check /dev/ubda 81920 49152 1
		unload
		load
		# It was made durable, bits and all.
		fio --thread --verify=crc32c --verify_only --rw=randwrite --bsrange=4k-128k --size=40M --direct=1 \
			--name=ubda --filename=/dev/ubda --output=$work/fio.again || die "\$(tail -n 5 $work/fio.again)"
		"$tool" pattern check /dev/ubda 81920 49152 1
		unload
	EOF
	expect_stopped_once ubda
}

# A raw disk that is stopped can grow. A COW disk cannot, as its requests would have to
# end; that is said at once.
test_resize() {
	image base.img 64M >/dev/null
	small_host 160m <<-EOF
		truncate -s 64M $work/small/a.img
		dd if=/dev/zero of=$work/small/filler bs=1M count=136 status=none
	EOF
	guest one ubd=werror:stop "ubd0=$work/small/a.img" "ubd1=$work/small/b.cow,$work/base.img" <<-EOF
		$werror_script
		load
		fill ubda 40 &
		raw=\$!
		stopped ubda
		fill ubdb 40 &
		cow=\$!
		stopped ubdb
		truncate -s 80M $work/small/a.img $work/base.img
		start=\$SECONDS
		echo 1 >/sys/block/ubda/ubd/resize
		same 'errno of the COW disk' "\$("$tool" write-errno /sys/block/ubdb/ubd/resize 1)" EBUSY
		[ \$((SECONDS - start)) -lt 10 ] || die "it took \$((SECONDS - start)) s"
		same sizes "\$(blockdev --getsize64 /dev/ubda /dev/ubdb | xargs)" '$((80 << 20)) $((64 << 20))'
		same states "\$(cat /sys/block/ubd[ab]/ubd/state | uniq)" 'stopped: No space left on device'
		rm $work/small/filler
		running ubda 11
		running ubdb 11
		echo 1 >/sys/block/ubdb/ubd/resize
		same 'size of ubdb' "\$(blockdev --getsize64 /dev/ubdb)" $((80 << 20))
		wait \$raw
		wait \$cow
		no_errors ubda
		no_errors ubdb
		unload
	EOF
	expect_once one "ubdb: $work/base.img: the device keeps its 67108864 bytes, the file has 83886080: it is stopped for want of space on the host; free space there, let it go on"
}

# Full from the beginning: not even the bits' space is there.
test_cow_without_space() {
	image base.img 64M >/dev/null
	small_host 8m <<<true
	guest one ubd=werror:stop "ubd0=$work/small/a.cow,$work/base.img" <<-EOF
		$werror_script
		load
		dd if=/dev/zero of=$work/small/filler bs=64k status=none 2>/dev/null || true
		"$tool" pattern write /dev/ubda 4096 2048 2 &
		stopped ubda
		same 'allocations' "\$(stat_of ubda bitmap_allocations) \$(stat_of ubda dirty_sectors)" '1 0'
		rm $work/small/filler
		wait \$!
		no_errors ubda
		"$tool" pattern check /dev/ubda 4096 2048 2
		unload
	EOF
	expect_stopped_once ubda
}

# Each device has its own policy; one that is stopped holds up no other.
test_policies() {
	raw_on_full_host
	image c.img 16M >/dev/null
	guest one "ubd0=$work/small/b.img" ubd=werror:stop "ubd1=$work/small/a.img" "ubd2=$work/c.img" <<-EOF
		$werror_script
		truncate -s 64M $work/small/b.img
		load
		fill ubdb 40 &
		stopped ubdb
		refused dd if=/dev/urandom of=/dev/ubda bs=1M count=40 oflag=direct 2>$work/dd
		grep -q 'No space left on device' $work/dd || die 'the guest was not told that there is no space'
		same 'stops of the others' "\$(stat_of ubda stops) \$(stat_of ubdc stops)" '0 0'
		"$tool" syncs /dev/ubdc 5 sync
		"$tool" pattern write /dev/ubdc 0 32768 3
		"$tool" pattern check /dev/ubdc 0 32768 3
		same policies "\$(cat /sys/block/ubd[abc]/ubd/werror | xargs)" 'report stop stop'
		rm $work/small/filler
		wait \$!
		no_errors ubdb
		unload
	EOF
	expect_once one "ubdb: .* the device goes on"
	expect_log one "ubda: $work/small/b.img: write of .* failed: No space left on device"
	expect_silent one 'ubda: .*stopped'
}

# The guest reboots: what waits fails, and the guest comes back.
test_reboot() {
	local start

	raw_on_full_host
	start=$SECONDS
	expected_complaint='Buffer I/O error|I/O error, dev'
	guest one ubd=werror:stop "ubd0=$work/small/a.img" <<-EOF
		$werror_script
		load
		if [ -e $work/second ]; then
			same state "\$(state_of ubda)" running
			"$tool" pattern check /dev/ubda 0 8192 1
			rm $work/small/filler
			"$tool" pattern write /dev/ubda 0 65536 2
			no_errors ubda
			unload
			exit 0
		fi
		"$tool" pattern write /dev/ubda 0 8192 1
		dd if=/dev/urandom of=/dev/ubda bs=64k seek=128 oflag=direct status=none &
		dd if=/dev/urandom of=/dev/ubda bs=64k seek=768 status=none &
		stopped ubda
		touch $work/second
		"$tool" power restart
	EOF
	expect_eq boots "$(log_count one '^Linux version')" 2
	expect_log one "ubda: $work/small/a.img: write of .* failed: No space left on device"
	expect_silent one 'does not complete'
	[ $((SECONDS - start)) -lt 30 ] || fail "it took $((SECONDS - start)) s"
}

# A commit that nobody asked for finds no space. The device goes, and what the
# commit could not do is done by the last one. (debugfs makes the errors: a COW
# file's bits have their space before the data are written.)
test_removed() {
	use_debug
	image base.img 16M >/dev/null
	image wanted.img 16M >/dev/null
	"$tool" pattern write wanted.img 0 32768 2
	guest one ubd=werror:stop "ubd0=$work/a.cow,$work/base.img" <<-EOF
		$werror_script
		load commit_ms=2000
		"$tool" pattern write /dev/ubda 0 2048 1
		# Not flushed.
		dd if=$work/wanted.img of=/dev/ubda bs=4k skip=512 seek=512 count=1 oflag=direct status=none
		fault ubda 'write errno=28'
		stopped ubda
		same committing "\$(stat_of ubda committing)" 1
		sleep 2
		unload
		load
		"$tool" pattern check /dev/ubda 0 2048 1
		"$tool" pattern check /dev/ubda 4096 8 2
		unload
		lockdep_is_on
	EOF
	expect_once one 'ubda: .* of commit of the COW bitmap: No space'
	expect_once one 'ubda: .*commit of the COW bitmap failed: No space'
}

# Under the debug kernel: all kinds of requests, without and with memory, on raw
# and COW; no space, and no quota.
limit[debug]=240
test_debug() {
	use_debug
	patience=200
	image a.img 64M >/dev/null
	image base.img 64M >/dev/null
	guest one ubd=werror:stop "ubd0=$work/a.img" "ubd1=$work/b.cow,$work/base.img" "ubd2s=$work/a2.cow,$work/base.img" <<-EOF
		$werror_script
		echo scan >/sys/kernel/debug/kmemleak
		echo clear >/sys/kernel/debug/kmemleak
		load commit_ms=200
		for disk in ubda ubdb ubdc; do
			fault \$disk 'write errno=28 every=40; any errno=4 every=50; write short every=7'
			fill \$disk 8 &
		done
		while [ -n "\$(jobs -r)" ]; do
			for disk in ubda ubdb ubdc; do
				echo 1 >/sys/block/\$disk/ubd/resume
			done
			sleep 0.1
		done
		for disk in ubda ubdb ubdc; do
			[ "\$(stat_of \$disk stops)" -ge 5 ] || die "\$disk was stopped \$(stat_of \$disk stops) times"
			no_errors \$disk
			fault \$disk 'zero errno=122 times=2; punch errno=122 times=2; write_sync errno=28 times=1'
		done
		for disk in ubda ubdb ubdc; do
			blkdiscard -o 32M -l 8M /dev/\$disk
			blkdiscard -z -o 40M -l 8M /dev/\$disk
			"$tool" zero /dev/\$disk 100001 3001 zero
			"$tool" syncs /dev/\$disk 3 fua
			no_errors \$disk
			fault \$disk off
		done
		unload
		no_leaks
		lockdep_is_on
	EOF
	expect_log one 'ubda: .*Disk quota exceeded \(122\); the device is stopped'
}

# Swap that is stopped: who needs a page of it waits, and gets it. That may be all
# of the guest, so it is the host that makes room.
test_swap() {
	local until

	small_host 224m <<-EOF
		truncate -s 192M $work/small/swap.img
		dd if=/dev/zero of=$work/small/filler bs=1M count=192 status=none
	EOF
	image a.img 16M >/dev/null
	mem=96M
	guest_start one ubd=werror:stop "ubd0=$work/small/swap.img" "ubd1=$work/a.img" <<-EOF
		$werror_script
		load
		swap_to /dev/ubda
		"$tool" hog 120 2
		"$tool" pattern write /dev/ubdb 0 32768 1
		swapoff /dev/ubda
		no_errors ubda
		unload
	EOF
	until=$((SECONDS + patience))
	until [ -e one.log ] && [ "$(log_count one 'the device is stopped')" -gt 0 ]; do
		kill -0 "${guest_pid[one]}" && [ "$SECONDS" -lt "$until" ] || fail "the swap was not filled"
		sleep 0.1
	done
	sleep 3
	expect_silent one 'goes on after'
	rm "/proc/${guest_pid[one]}/root$work/small/filler"
	guest_wait one
	expect_eq status "$status" 0
	expect_stopped_once ubda
	expect_silent one 'Out of memory|failed'
}

# ext4 finds blocks late, but promises them early; by the page cache and without it.
test_delayed_allocation() {
	[ "$(id -u)" = 0 ] || skip "a file system of our own on the host needs root"
	small_host 96m <<-EOF
		truncate -s 48M $work/ext4
		mkfs.ext4 -q -m 0 -O ^has_journal $work/ext4
		mount -o loop $work/ext4 $work/small
		truncate -s 64M $work/small/a.img $work/small/b.img
		dd if=/dev/zero of=$work/small/filler bs=1M count=28 status=none
	EOF
	guest one ubd=werror:stop "ubd0=$work/small/a.img" ubd=cache:none "ubd1=$work/small/b.img" <<-EOF
		$werror_script
		load
		fill ubda 16 &
		fill ubdb 16 &
		stopped ubda
		stopped ubdb
		sleep 1
		rm $work/small/filler
		wait
		no_errors ubda
		no_errors ubdb
		unload
	EOF
}

# A disk that came by hot plug. It is in use while it is stopped, so it stays.
test_hot_plug() {
	raw_on_full_host
	guest one "ubd=hotplug:$work/small" <<-EOF
		$werror_script
		load
		mount -t configfs configfs /sys/kernel/config
		mkdir /sys/kernel/config/ubd/data
		cd /sys/kernel/config/ubd/data
		same 'policy at first' "\$(cat werror)" report
		refused bash -c 'echo ignore >werror' 2>/dev/null
		echo enospc >werror
		same policy "\$(cat werror)" stop
		echo a.img >path
		echo 1 >power
		fill ubda 40 &
		stopped ubda
		same 'errno of the removal' "\$("$tool" write-errno power 0)" EBUSY
		same state "\$(state_of ubda)" 'stopped: No space left on device'
		rm $work/small/filler
		wait \$!
		no_errors ubda
		echo 0 >power
		[ ! -e /dev/ubda ]
		cd /
		rmdir /sys/kernel/config/ubd/data
		unload
	EOF
	expect_once one 'ubda: a.img: the host has no space for .*; the device is stopped, '
	expect_once one 'ubda: a.img: the device goes on after'
	expect_once one 'hot plug data: werror "ignore": would lose data'
}

# On NFS, ENOSPC may mean that something else was lost: no stop by the page cache.
test_nfs() {
	[ "$(id -u)" = 0 ] || skip "a process that answers for the host needs root"
	launcher=("$tool" nfs)
	image a.img 16M >/dev/null
	image b.img 16M >/dev/null
	image c.img 16M >/dev/null
	guest one ubd=werror:stop "ubd0=$work/a.img" ubd=cache:none "ubd1=$work/b.img" "ubd2=$work/c.cow,$work/c.img" <<-'EOF'
		load
		same policies "$(cat /sys/block/ubd[abc]/ubd/werror | xargs)" 'report stop report'
		"$tool" pattern write /dev/ubda 0 32768 1
		"$tool" pattern check /dev/ubda 0 32768 1
		unload
	EOF
	expect_once one "ubda: $work/a.img: werror=stop cannot be had on NFS by the page cache, .*; werror=report takes its place"
	expect_once one "ubdc: $work/c.cow: werror=stop cannot be had on NFS by the page cache"
	expect_silent one 'ubdb: .*cannot be had'
	expect_eq stopping "$(log_count one ', werror=stop, ')" 1
}

test_bad_policies() {
	local img

	img=$(image a.img 8M)
	guest one ubd=werror:ignore ubd=werror:pause "ubd0=$img" <<-'EOF'
		refused load werror=ignore
		refused load werror=always
		refused load werror=
		load
		same policy "$(cat /sys/block/ubda/ubd/werror)" report
		unload
	EOF
	expect_once one 'ubd: option "ubd=werror:ignore": would lose data and tell nobody; take report, or stop'
	expect_once one 'ubd: option "ubd=werror:pause": is neither report nor stop'
	expect_once one 'ubd: werror=ignore would lose data'
	expect_once one 'ubd: werror=always is neither report nor stop'
	expect_once one 'ubd: werror= is neither'
}

run_tests "$@"
