#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Errors of the host on demand, under the debug kernel: each goes to the one who
# asked, with a message; what passes by itself is never seen; nobody hangs.
. "$(dirname "$0")/lib.sh"

default_limit=180
expected_complaint='Buffer I/O error|I/O error, dev|EXT4-fs'

# a.img, full of a pattern, and b.img, for a guest of the debug kernel
two_disks() {
	use_debug
	image a.img 16M >/dev/null
	image b.img 16M >/dev/null
	"$tool" pattern write a.img 0 32768 1
}

io_error='Input/output error'

test_read_error() {
	two_disks
	guest one "ubd0=$work/a.img" "ubd1=$work/b.img" <<-'EOF'
		load
		fault ubda 'read errno=5 times=1'
		refused dd if=/dev/ubda of=/dev/null bs=4k count=1 iflag=direct 2>$work/dd
		grep -q 'Input/output error' $work/dd || die 'the guest was not told'
		"$tool" pattern check /dev/ubda 0 32768 1
		fault ubda 'read errno=5'
		"$tool" pattern write /dev/ubdb 0 8192 2
		"$tool" pattern check /dev/ubdb 0 8192 2
		fault ubda off
		"$tool" pattern check /dev/ubda 0 32768 1
		unload
	EOF
	expect_log one "ubda: $work/a.img: read of 8 sectors at sector 0 failed: $io_error \(5\); check the host"
	expect_silent one 'ubdb: .*failed'
}

test_write_error() {
	two_disks
	guest one "ubd0=$work/a.img" "ubd1=$work/b.img" <<-'EOF'
		load
		fault ubda 'write errno=5'
		refused dd if=/dev/zero of=/dev/ubda bs=64k count=4 seek=8 oflag=direct 2>$work/dd
		grep -q 'Input/output error' $work/dd || die 'the guest was not told'
		"$tool" pattern write /dev/ubdb 0 8192 2
		fault ubda off
		blockdev --flushbufs /dev/ubda
		"$tool" pattern check /dev/ubda 0 32768 1
		"$tool" pattern write /dev/ubda 0 32768 3
		"$tool" pattern check /dev/ubda 0 32768 3
		fault ubda 'write errno=28 times=1'
		refused dd if=/dev/zero of=/dev/ubda bs=64k count=1 oflag=direct 2>$work/dd
		grep -q 'No space left on device' $work/dd || die 'no space is not named so'
		unload
	EOF
	expect_log one "ubda: $work/a.img: write of .* failed: $io_error \(5\); check the host"
	expect_log one "ubda: $work/a.img: write of .* failed: No space left on device \(28\); free space"
	expect_silent one 'ubdb: .*failed'
	"$tool" pattern check "$work/b.img" 0 8192 2
}

# After a sync that failed no later one proves anything.
test_sync_error_stays() {
	two_disks
	guest one "ubd0=$work/a.img" "ubd1=$work/b.img" <<-'EOF'
		load
		fault ubda 'sync errno=5 times=1'
		refused dd if=/dev/zero of=/dev/ubda bs=4k count=1 seek=100 oflag=direct conv=fsync
		fault ubda off
		refused dd if=/dev/zero of=/dev/ubda bs=4k count=1 seek=200 oflag=direct conv=fsync
		refused "$tool" syncs /dev/ubda 1 sync
		refused "$tool" syncs /dev/ubda 1 fua
		refused blkdiscard -z -o 1M -l 1M /dev/ubda
		# What is readable stays readable.
		"$tool" pattern check /dev/ubda 0 800 1
		"$tool" pattern check /dev/ubda 808 792 1
		"$tool" syncs /dev/ubdb 3 sync
		unload
		load
		"$tool" syncs /dev/ubda 1 sync
		unload
	EOF
	expect_once one "ubda: $work/a.img: the host failed to make data durable: $io_error \(5\); .*copy what you need"
	expect_silent one 'ubdb: .*failed'
}

# FUA: a write that should have been durable and was not.
test_fua_error_stays() {
	two_disks
	guest one "ubd0=$work/a.img" <<-'EOF'
		load
		fault ubda 'write_sync errno=5 times=1'
		refused "$tool" syncs /dev/ubda 1 fua
		fault ubda off
		refused "$tool" syncs /dev/ubda 1 sync
		"$tool" pattern check /dev/ubda 8 1000 1
		unload
	EOF
	expect_once one 'ubda: .*the host failed to make data durable'
}

# No space for a FUA write is no loss: it was never taken.
test_fua_no_space() {
	two_disks
	guest one "ubd0=$work/a.img" <<-'EOF'
		load
		fault ubda 'write_sync errno=28 times=1'
		refused "$tool" syncs /dev/ubda 1 fua
		"$tool" syncs /dev/ubda 5 fua
		"$tool" syncs /dev/ubda 5 sync
		unload
	EOF
	expect_silent one 'make data durable'
}

# What passes by itself: short transfers, EINTR, EAGAIN, a host that is busy.
test_transient() {
	two_disks
	guest one "ubd0=$work/a.img" <<-'EOF'
		load
		turn() {
			fault ubda "$1"
			"$tool" pattern write /dev/ubda 0 16384 $2
			blockdev --flushbufs /dev/ubda
			"$tool" pattern check /dev/ubda 0 16384 $2
			"$tool" pattern check /dev/ubda 16384 16384 1
			"$tool" syncs /dev/ubda 2 fua
			same "errors with '$1'" "$(stat_of ubda errors)" 0
			fault ubda off
		}
		turn 'any short' 2
		turn 'write errno=4 every=2' 3
		turn 'read errno=11 every=3' 4
		turn 'any errno=4 every=5' 5
		turn 'write errno=11 times=30' 6
		turn 'submit errno=16 every=2' 7
		turn 'submit errno=11 times=20' 8
		turn 'submit errno=4 every=2' 9
		turn 'submit errno=12 times=10' 10
		turn 'sync errno=4 times=3' 11
		[ "$(stat_of ubda chunks_continued)" -gt 0 ] || die 'no short transfer was continued'
		[ "$(stat_of ubda chunks_retried)" -gt 0 ] || die 'nothing was tried again'
		[ "$(stat_of ubda submit_retries)" -gt 0 ] || die 'nothing was submitted again'
		same 'in flight' "$(stat_of ubda in_flight)" 0
		unload
	EOF
	expect_silent one 'ubda: .*failed'
}

# A host that punches no holes: no discard any more, zeros another way.
test_no_punch() {
	two_disks
	guest one "ubd0=$work/a.img" <<-'EOF'
		load
		fault ubda 'punch errno=95'
		# The kernel takes it as done: to discard is advice.
		blkdiscard -o 0 -l 1M /dev/ubda || true
		"$tool" pattern check /dev/ubda 0 32768 1
		"$tool" zero /dev/ubda 1001 3001 punch
		blkdiscard -z -o 4M -l 4M /dev/ubda
		"$tool" zeros /dev/ubda 1001 3001
		"$tool" zeros /dev/ubda 8192 8192
		"$tool" pattern check /dev/ubda 16384 16384 1
		sleep 0.2
		same discard_max "$(cat /sys/block/ubda/queue/discard_max_bytes)" 0
		unload
		load
		fault ubda 'zero errno=95'
		"$tool" zero /dev/ubda 20001 3001 zero
		"$tool" zeros /dev/ubda 20001 3001
		"$tool" pattern check /dev/ubda 23002 9766 1
		same errors "$(stat_of ubda errors)" 0
		unload
	EOF
	expect_silent one 'ubda: .*failed'
}

# A request that the host does not answer: told by name, waited for, and
# completed with the right data.
test_timeout() {
	two_disks
	guest one "ubd0=$work/a.img" "ubd1=$work/b.img" <<-'EOF'
		load
		echo 1000 >/sys/block/ubda/queue/io_timeout
		fault ubda 'write drop times=2'
		"$tool" pattern write /dev/ubda 0 8192 5 &
		writer=$!
		sleep 4
		kill -0 $writer || die 'the request ended by itself'
		[ "$(stat_of ubda timeouts)" -gt 0 ] || die 'no timeout was counted'
		"$tool" pattern write /dev/ubdb 0 8192 6
		fault ubda off
		wait $writer
		blockdev --flushbufs /dev/ubda
		"$tool" pattern check /dev/ubda 0 8192 5
		"$tool" pattern check /dev/ubda 8192 24576 1
		fault ubda 'read drop times=1'
		dd if=/dev/ubda of=$work/read bs=64k count=1 skip=64 iflag=direct status=none &
		reader=$!
		sleep 3
		kill -0 $reader || die 'the read ended by itself'
		fault ubda off
		wait $reader
		cmp $work/read <(dd if=$work/a.img bs=64k skip=64 count=1 status=none)
		fault ubda 'sync drop times=1'
		"$tool" syncs /dev/ubda 1 sync &
		syncer=$!
		sleep 3
		fault ubda off
		wait $syncer
		same 'in flight' "$(stat_of ubda in_flight)" 0
		same errors "$(stat_of ubda errors)" 0
		unload
	EOF
	expect_log one "ubda: $work/a.img: write of [0-9]+ sectors at sector [0-9]+ has not ended for [0-9]+ ms: .*look at the host's disk"
	expect_log one "ubda: $work/a.img: read of 128 sectors at sector 8192 has not ended for"
	expect_log one "ubda: $work/a.img: flush .*has not ended for"
	expect_silent one 'ubdb: .*has not ended'
}

# The same with the time that it has by default.
limit[timeout_30s]=240
property[timeout_30s]=full
test_timeout_30s() {
	patience=180
	two_disks
	guest one "ubd0=$work/a.img" <<-'EOF'
		load
		fault ubda 'write drop times=1'
		"$tool" pattern write /dev/ubda 0 8192 5 &
		sleep 70
		fault ubda off
		wait $!
		"$tool" pattern check /dev/ubda 0 8192 5
		unload
	EOF
	expect_log one 'ubda: .*write of .* has not ended for 3[0-9]{4} ms'
}

# The host's disk hangs, and the guest wants to reboot: it must not hang with it
# without a word.
test_reboot_with_hanging_host() {
	two_disks
	patience=60
	guest_start one "ubd0=$work/a.img" "ubd1=$work/b.img" <<-'EOF'
		if [ -e $work/second ]; then
			load
			dd if=/dev/ubda of=/dev/null bs=64k count=1 iflag=direct status=none
			unload
			touch $work/third
			exit 0
		fi
		touch $work/second
		load
		fault ubda 'write drop times=1'
		dd if=/dev/zero of=/dev/ubda bs=64k count=1 oflag=direct status=none &
		sleep 1
		"$tool" power restart
	EOF
	guest_wait one
	expect_eq status "$status" 0
	[ -e third ] || fail 'the guest that came again had no disk'
	expect_log one 'ubda: .*(has not ended|still with the host|hang)'
}

# A disk that is slow now and then: nobody else waits, what is late is announced
# like any other completion, and it is the right data.
test_delay() {
	two_disks
	guest one "ubd0=$work/a.img" "ubd1=$work/b.img" <<-'EOF'
		load
		since_boot() { # in units of 10 ms
			cut -d ' ' -f 1 /proc/uptime | tr -d .
		}
		hits() {
			sed -n '1s/.*: hit \([0-9]*\) of .*/\1/p' $stats_dir/ubda/fault
		}
		fault ubda 'read delay=3000 times=2'
		began=$(since_boot)
		dd if=/dev/ubda of=$work/one bs=64k count=1 skip=64 iflag=direct status=none &
		one=$!
		dd if=/dev/ubda of=$work/two bs=4k count=1 skip=3 iflag=direct status=none &
		two=$!
		until [ "$(hits)" = 2 ]; do
			sleep 0.05
		done
		"$tool" pattern check /dev/ubda 0 32768 1
		"$tool" pattern write /dev/ubda 16384 8192 2
		"$tool" syncs /dev/ubda 3 sync
		"$tool" pattern write /dev/ubdb 0 8192 3
		wait $one
		wait $two
		# Less cannot have passed, however fast or slow all else was.
		[ $(($(since_boot) - began)) -ge 299 ] || die 'nothing was late'
		cmp $work/one <(dd if=$work/a.img bs=64k skip=64 count=1 status=none)
		cmp $work/two <(dd if=$work/a.img bs=4k skip=3 count=1 status=none)
		same held "$(tail -n 1 $stats_dir/ubda/fault)" 'held back: 0 dropped, 0 late'
		# Longer than a request may take, and so with a cancel that comes to nothing.
		echo 1000 >/sys/block/ubda/queue/io_timeout
		fault ubda 'write delay=4000 times=1; sync delay=2500 times=1'
		"$tool" pattern write /dev/ubda 0 8192 4
		"$tool" syncs /dev/ubda 1 sync
		[ "$(stat_of ubda timeouts)" -gt 0 ] || die 'no timeout was counted'
		blockdev --flushbufs /dev/ubda
		"$tool" pattern check /dev/ubda 8 8184 4
		"$tool" pattern check /dev/ubda 16384 8192 2
		# All of them a little, as on a slow disk.
		fault ubda 'any delay=30'
		fio --thread --verify=crc32c --verify_state_save=0 --filename=/dev/ubda --direct=1 --rw=randwrite \
			--bsrange=512-64k --size=4M --ioengine=libaio --iodepth=32 --name=slow --output=$work/fio.out ||
			die "$(tail -n 5 $work/fio.out)"
		same errors "$(stat_of ubda errors)" 0
		same 'in flight' "$(stat_of ubda in_flight)" 0
		unload
	EOF
	expect_log one "ubda: $work/a.img: write of .* has not ended for"
	expect_silent one 'ubdb: .*has not ended'
}

# By chance, and of several kinds at once; the same seed brings the same.
test_chance() {
	two_disks
	guest one "ubd0=$work/a.img" <<-'EOF'
		load
		turn() { # TEXT RULES
			fault ubda "$1"
			fio --thread --verify=crc32c --verify_state_save=0 --filename=/dev/ubda --direct=1 --rw=randwrite \
				--bsrange=512-64k --size=4M --ioengine=libaio --iodepth=32 --name=chance --fsync=50 \
				--output=$work/fio.out || die "$(tail -n 5 $work/fio.out)"
			cat $stats_dir/ubda/fault
			# Each rule has hit some, and not all.
			same "rules that hit with '$1'" "$(awk -F 'hit | of ' 'NF == 3 && $2 > 0 && $2 < $3' \
				$stats_dir/ubda/fault | wc -l)" $2
			same "errors with '$1'" "$(stat_of ubda errors)" 0
			fault ubda off
			same 'in flight' "$(stat_of ubda in_flight)" 0
		}
		turn 'any errno=11 chance=20' 1
		[ "$(stat_of ubda chunks_retried)" -gt 0 ] || die 'nothing was tried again'
		turn 'any errno=4 chance=10 seed=3; any short chance=20; any delay=40 chance=30; submit errno=16 chance=20' 4
		[ "$(stat_of ubda chunks_continued)" -gt 0 ] || die 'no short transfer was continued'
		[ "$(stat_of ubda submit_retries)" -gt 0 ] || die 'nothing was submitted again'
		# Which reads of 80 fail is the seed's choice.
		failing() {
			local i

			fault ubda "read errno=5 chance=20 seed=$1"
			for i in {0..79}; do
				dd if=/dev/ubda of=/dev/null bs=4k count=1 skip=$i iflag=direct status=none 2>$work/dd || echo $i
			done
			fault ubda off
		}
		failing 5 >$work/first
		failing 5 >$work/again
		failing 6 >$work/other
		cmp $work/first $work/again
		refused cmp -s $work/first $work/other
		[ -s $work/first ] || die 'no read failed'
		unload
	EOF
}

# The module goes at once after its timer was armed, and not before what is late
# has come.
test_unload_with_delay() {
	two_disks
	guest one "ubd0=$work/a.img" <<-'EOF'
		read_one() {
			dd if=/dev/ubda of=$work/read bs=64k count=1 skip=64 iflag=direct status=none &
			reader=$!
			until grep -q 'hit [1-9]' $stats_dir/ubda/fault; do
				sleep 0.05
			done
		}
		load
		for text in 'read delay=60000 times=1' 'read drop times=1'; do
			fault ubda "$text"
			read_one
			refused rmmod ubd
			kill -KILL $reader
			refused rmmod ubd
			fault ubda off
			wait $reader || true
			# Its timer is armed still.
			unload
			load
			"$tool" pattern check /dev/ubda 0 32768 1
		done
		fault ubda 'read delay=1500 times=1'
		read_one
		fault ubda off
		wait $reader
		unload
		sleep 2
		load
		# What is late comes, and the end of the dd lets the module go.
		fault ubda 'read delay=1000 times=1; any delay=20'
		read_one
		wait $reader
		unload
		cmp $work/read <(dd if=$work/a.img bs=64k skip=64 count=1 status=none)
	EOF
}

# Before a reboot the late ones are waited for.
test_reboot_with_delay() {
	two_disks
	image new 64K >/dev/null
	"$tool" pattern write new 0 128 7
	guest one "ubd0=$work/a.img" <<-'EOF'
		load
		if [ -e $work/second ]; then
			"$tool" pattern check /dev/ubda 0 128 7
			"$tool" pattern check /dev/ubda 128 32640 1
			exit 0
		fi
		touch $work/second
		fault ubda 'write delay=4000'
		dd if=$work/new of=/dev/ubda bs=64k count=1 oflag=direct status=none &
		until grep -q 'hit [1-9]' $stats_dir/ubda/fault; do
			sleep 0.05
		done
		"$tool" power restart
	EOF
	expect_silent one 'the host does not complete I/O'
}

# What is no rule is refused, and changes none.
test_bad_fault_text() {
	two_disks
	guest one "ubd0=$work/a.img" <<-'EOF'
		load
		file=$stats_dir/ubda/fault
		same 'no rules' "$(cat $file)" $'off\nheld back: 0 dropped, 0 late'
		fault ubda 'read errno=5 after=1000000; write delay=70 chance=5 seed=2; sync short'
		cat $file >$work/rules
		same rules "$(cat $work/rules)" $'read errno=5 after=1000000: hit 0 of 0
		write delay=70 chance=5 seed=2: hit 0 of 0
		sync short: hit 0 of 0
		held back: 0 dropped, 0 late'
		for text in '' 'read' 'read errno=' 'read errno=0' 'read errno=5000' 'what errno=5' 'off on' \
			'submit drop' 'read short every=0' 'read delay=' 'read delay=0' 'read drop delay=1' 'submit delay=1' \
			'read short chance=0' 'read short chance=101' 'read short; off' \
			"$(printf 'any short;%.0s' {1..9})" "$(printf 'x%.0s' {1..200})" "$(printf 'x%.0s' {1..5000})"; do
			refused fault ubda "$text"
			cmp $file $work/rules
		done
		# Each write replaces all: a shell that writes line by line is told so.
		refused fault ubda $'any drop times=0\nany short times=0'
		fault ubda "$(printf 'any short times=0;%.0s' {1..8})"
		same 'eight rules' "$(grep -c 'any short times=0: hit' $file)" 8
		"$tool" pattern check /dev/ubda 0 32768 1
		same counted "$(grep -c 'any short times=0: hit 0 of [1-9]' $file)" 8
		unload
	EOF
}

run_tests "$@"
