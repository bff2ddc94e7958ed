#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# What happens to the host's file while it is in use: truncated, grown, removed,
# its disk full, its size limited. An error goes to the one who asked, with its
# name; the rest of the data stays; the device goes on.
. "$(dirname "$0")/lib.sh"

test_truncated() {
	local img

	img=$(image a.img 16M)
	image b.img 8M >/dev/null
	"$tool" pattern write "$img" 0 32768 1
	guest_start one "ubd0=$img" "ubd1=$work/b.img" <<-'EOF'
		load
		touch $work/ready
		until_file $work/truncated
		blockdev --flushbufs /dev/ubda
		# What is left, the part of a sector, and nothing after that.
		"$tool" pattern check /dev/ubda 0 2049 1
		"$tool" peek /dev/ubda 2049 >$work/part
		"$tool" peek /dev/ubda 2050 | cmp -n 512 - /dev/zero
		"$tool" zeros /dev/ubda 2050 30718
		[ "$(stat_of ubda zeroed_reads)" -gt 0 ]
		"$tool" pattern write /dev/ubdb 0 8192 2
		touch $work/seen
		until_file $work/grown
		"$tool" pattern write /dev/ubda 2049 30719 1
		blockdev --flushbufs /dev/ubda
		"$tool" pattern check /dev/ubda 0 32768 1
		same errors "$(stat_of ubda errors)" 0
		unload
	EOF
	guest_await one ready
	truncate -s $((2049 * 512 + 100)) "$img"
	touch truncated
	guest_await one seen
	cmp -n 100 part <(tail -c 100 "$img") || fail "the part of a sector is wrong"
	cmp <(tail -c 412 part) <(head -c 412 /dev/zero) || fail "the rest of that sector is not zero"
	truncate -s 16M "$img"
	touch grown
	guest_wait one
	expect_eq status "$status" 0
	expect_once one "ubda: $img: the file ends before the device does .*truncate -s"
	expect_silent one 'ubdb: .*(file ends|failed)'
	"$tool" pattern check "$img" 0 32768 1
}

# Cut to nothing, and the guest writes on: the file grows again.
test_truncated_to_nothing() {
	local img

	img=$(image a.img 16M)
	"$tool" pattern write "$img" 0 32768 1
	guest_start one "ubd0=$img" <<-'EOF'
		load
		touch $work/ready
		until_file $work/truncated
		blockdev --flushbufs /dev/ubda
		"$tool" zeros /dev/ubda 0 32768
		"$tool" pattern write /dev/ubda 16384 1024 2
		blkdiscard -o 0 -l 1M /dev/ubda
		blkdiscard -z -o 12M -l 1M /dev/ubda
		blockdev --flushbufs /dev/ubda
		"$tool" pattern check /dev/ubda 16384 1024 2
		"$tool" zeros /dev/ubda 0 16384
		"$tool" zeros /dev/ubda 17408 15360
		unload
	EOF
	guest_await one ready
	: >"$img"
	touch truncated
	guest_wait one
	expect_eq status "$status" 0
	expect_once one "ubda: $img: the file ends before the device does"
}

test_removed() {
	local img

	img=$(image a.img 16M)
	image b.img 8M >/dev/null
	guest_start one "ubd0=$img" "ubd1=$work/b.img" <<-'EOF'
		load
		"$tool" pattern write /dev/ubda 0 32768 1
		touch $work/ready
		until_file $work/removed
		for i in 1 2 3 4 5 6; do
			"$tool" pattern write /dev/ubda 0 16384 $i
			sleep 0.5
		done
		blockdev --flushbufs /dev/ubda
		"$tool" pattern check /dev/ubda 0 16384 6
		"$tool" pattern check /dev/ubda 16384 16384 1
		"$tool" pattern write /dev/ubdb 0 8192 2
		same errors "$(stat_of ubda errors)" 0
		unload
	EOF
	guest_await one ready
	rm "$img"
	touch removed
	guest_wait one
	expect_eq status "$status" 0
	expect_once one "ubda: $img: the file was removed on the host while in use; .*copy"
	expect_silent one 'ubdb: .*(was removed|failed)'
}

# The same with reads alone, which the host answers at once.
test_removed_while_reading() {
	local img

	img=$(image a.img 16M)
	noise "$img" 16
	guest_start one "ubd0=$img" <<-'EOF'
		load
		touch $work/ready
		until_file $work/removed
		for i in 1 2 3 4 5 6 7 8; do
			dd if=/dev/ubda of=/dev/null bs=64k iflag=direct status=none
			sleep 0.5
		done
	EOF
	guest_await one ready
	rm "$img"
	touch removed
	guest_wait one
	expect_eq status "$status" 0
	expect_once one "ubda: $img: the file was removed on the host while in use; "
}

# Another file under the old name is another file.
test_replaced() {
	local img

	img=$(image a.img 16M)
	image new.img 16M >/dev/null
	guest_start one "ubd0=$img" <<-'EOF'
		load
		touch $work/ready
		until_file $work/replaced
		"$tool" pattern write /dev/ubda 0 1024 1
		blockdev --flushbufs /dev/ubda
		"$tool" pattern check /dev/ubda 0 1024 1
	EOF
	guest_await one ready
	mv new.img a.img
	touch replaced
	guest_wait one
	expect_eq status "$status" 0
	"$tool" zeros a.img 0 32768
}

test_full_host_disk() {
	small_host 48m <<-EOF
		truncate -s 64M $work/small/a.img
		truncate -s 1M $work/small/b.img
		dd if=/dev/zero of=$work/small/b.img bs=1M count=1 conv=notrunc status=none
		dd if=/dev/zero of=$work/small/filler bs=1M count=16 status=none
	EOF
	guest one "ubd0=$work/small/a.img" "ubd1=$work/small/b.img" <<-'EOF'
		load
		"$tool" pattern write /dev/ubda 0 32768 1
		refused dd if=/dev/urandom of=/dev/ubda bs=1M count=40 seek=20 oflag=direct 2>$work/dd
		cat $work/dd
		grep -q 'No space left on device' $work/dd || die 'the guest was not told that there is no space'
		[ "$(stat_of ubda errors)" -gt 0 ]
		# What was there before is there; so is what came before the failure.
		blockdev --flushbufs /dev/ubda
		"$tool" pattern check /dev/ubda 0 32768 1
		# What has its blocks can be written, here and beside.
		"$tool" pattern write /dev/ubda 0 32768 2
		"$tool" pattern write /dev/ubdb 0 2048 3
		# Space comes back, by somebody else or by ourselves.
		rm $work/small/filler
		dd if=/dev/urandom of=/dev/ubda bs=1M count=4 seek=56 oflag=direct status=none
		blkdiscard -o 16M -l 48M /dev/ubda
		"$tool" pattern write /dev/ubda 65536 32768 4
		blockdev --flushbufs /dev/ubda
		"$tool" pattern check /dev/ubda 0 32768 2
		"$tool" pattern check /dev/ubda 65536 32768 4
		"$tool" zeros /dev/ubda 98304 32768
		"$tool" pattern check /dev/ubdb 0 2048 3
		unload
	EOF
	expect_log one "ubda: $work/small/a.img: write of [0-9]+ sectors at sector [0-9]+ failed: No space left on device \(28\); free space"
	expect_silent one 'ubdb: .*failed'
	[ "$(log_count one 'ubda: .*failed')" -le 12 ] || fail "a full disk floods the log"
}

# A file system on a full host disk: an error for the one who writes, and no
# harm to the rest.
test_full_host_disk_ext4() {
	small_host 40m <<-EOF
		truncate -s 96M $work/small/a.img
		mkfs.ext4 -q -E nodiscard $work/small/a.img
	EOF
	expected_complaint='Buffer I/O error|EXT4-fs'
	guest one "ubd0=$work/small/a.img" <<-'EOF'
		load
		mount /dev/ubda $mnt
		dd if=/dev/urandom of=$mnt/first bs=1M count=12 conv=fsync status=none
		sum=$(sha256sum <$mnt/first)
		refused dd if=/dev/urandom of=$mnt/second bs=1M count=60 conv=fsync 2>$work/dd
		cat $work/dd
		umount $mnt
		mount -o ro /dev/ubda $mnt
		same checksum "$(sha256sum <$mnt/first)" "$sum"
		umount $mnt
		unload
	EOF
}

# ulimit -f: the write fails, the guest lives.
test_file_size_limit() {
	local img

	# The guest's own memory is a file within the limit, too, of up to a GiB more
	# than mem= says (the gap to the program's break, which is random).
	img=$(image a.img 3G)
	launcher=(bash -c "ulimit -f $((2 << 20)) && exec \"\$@\"" --)
	guest one "ubd0=$img" <<-'EOF'
		load
		"$tool" pattern write /dev/ubda 0 32768 1
		refused dd if=/dev/urandom of=/dev/ubda bs=1M count=16 seek=2040 oflag=direct 2>$work/dd
		cat $work/dd
		refused dd if=/dev/urandom of=/dev/ubda bs=1M count=1 seek=2500 oflag=direct
		blockdev --flushbufs /dev/ubda
		"$tool" pattern check /dev/ubda 0 32768 1
		"$tool" pattern write /dev/ubda 0 32768 2
		"$tool" pattern check /dev/ubda 0 32768 2
		"$tool" zeros /dev/ubda $((2500 * 2048)) 2048
		unload
	EOF
	expect_log one "ubda: $img: write of .* failed: File too large \(27\); raise the host's file size limit"
}

# A block device of the host is a disk like another.
test_host_block_device() {
	local img
	local loop

	[ "$(id -u)" = 0 ] || skip "a host block device (a loop device) needs root"
	img=$(image a.img 32M)
	loop=$(losetup -f --show "$img" 2>/dev/null) || skip "the host lets no loop device be made"
	at_end "losetup -d $loop"
	guest one "ubd0=$loop" "ubd1=$loop" <<-'EOF'
		load
		same size "$(blockdev --getsize64 /dev/ubda)" $((32 << 20))
		same disks "$(ls -d /sys/block/ubd* | wc -l)" 1
		"$tool" pattern write /dev/ubda 0 65536 1
		blkdiscard -o 8M -l 8M /dev/ubda
		"$tool" zeros /dev/ubda 16384 16384
		"$tool" zero /dev/ubda 40000 1000 zero
		"$tool" zeros /dev/ubda 40000 1000
		"$tool" pattern check /dev/ubda 0 16384 1
		"$tool" pattern check /dev/ubda 41000 24536 1
		"$tool" syncs /dev/ubda 10 sync
		[ "$(stat_of ubda host_syncs)" -ge 10 ]
		same errors "$(stat_of ubda errors)" 0
		unload
	EOF
	"$tool" pattern check "$loop" 41000 24536 1
	[ "$(allocated "$img")" -le 26000 ] || fail "discard did not reach the host's device: $(allocated "$img") KiB"
}

# One with blocks of 4096 bytes.
test_host_block_device_4k() {
	local img
	local loop

	[ "$(id -u)" = 0 ] || skip "a host block device (a loop device) needs root"
	img=$(image a.img 32M)
	loop=$(losetup -f --show -b 4096 "$img" 2>/dev/null) || skip "the host lets no loop device of 4096-byte blocks be made"
	at_end "losetup -d $loop"
	guest one "ubd0=$loop" <<-'EOF'
		load
		same 'logical block' "$(blockdev --getss /dev/ubda)" 4096
		"$tool" pattern write /dev/ubda 0 65536 1
		refused dd if=/dev/ubda of=/dev/null bs=512 count=1 iflag=direct
		blkdiscard -o 8M -l 8M /dev/ubda
		"$tool" zeros /dev/ubda 16384 16384
		"$tool" pattern check /dev/ubda 32768 32768 1
		mkfs.ext4 -q -F /dev/ubda
		mount /dev/ubda $mnt
		dd if=/dev/urandom of=$mnt/file bs=1M count=8 conv=fsync status=none
		umount $mnt
		e2fsck -fn /dev/ubda
		same errors "$(stat_of ubda errors)" 0
		unload
	EOF
	expect_once one "ubda: $loop: .*4096-byte blocks"
}

# A read-only host file system: there for reading, with a warning.
test_read_only_host() {
	image a.img 8M >/dev/null
	small_host 32m <<-EOF
		cp $work/a.img $work/small/a.img
		mount -o remount,bind,ro $work/small
	EOF
	guest one "ubd0=$work/small/a.img" <<-'EOF'
		load
		same ro "$(blockdev --getro /dev/ubda)" 1
		dd if=/dev/ubda of=/dev/null bs=1M
		refused dd if=/dev/zero of=/dev/ubda bs=4k count=1 oflag=direct
		unload
	EOF
	expect_once one "ubda: $work/small/a.img: cannot be written: Read-only file system \(30\); the device is read-only"
}

# The host forbids io_uring, as containers do, and the guest wants nothing else.
forbidden_uring() {
	local img

	img=$(image a.img 8M)
	launcher=("$tool" forbid "io_uring_setup=$1" --)
	guest one "ubd0=$img" <<-'EOF'
		load engine=io_uring
		[ ! -e /dev/ubda ] || die 'io_uring was not forbidden'
		unload
	EOF
	expect_once one "ubda: $img: cannot set up io_uring: $2; the host forbids io_uring: allow it"
	expect_unlocked "$img"
}

test_uring_not_permitted() {
	forbidden_uring 1 'Operation not permitted \(1\)'
}

test_uring_not_there() {
	forbidden_uring 38 'Function not implemented \(38\)'
}

run_tests "$@"
