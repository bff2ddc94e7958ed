#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Discard and write-zeroes: what they free on the host, and that nothing else
# changes.
. "$(dirname "$0")/lib.sh"

test_discard_frees() {
	local img

	img=$(image a.img 64M)
	"$tool" pattern write "$img" 0 131072 1
	[ "$(allocated "$img")" -ge 65536 ] || fail "the image should be full"
	guest one "ubd0=$img" <<-'EOF'
		load
		[ "$(cat /sys/block/ubda/queue/discard_max_bytes)" -gt 0 ] || die 'no discard'
		blkdiscard -o 16M -l 32M /dev/ubda
		"$tool" zeros /dev/ubda 32768 65536
		"$tool" pattern check /dev/ubda 0 32768 1
		"$tool" pattern check /dev/ubda 98304 32768 1
		same errors "$(stat_of ubda errors)" 0
		unload
	EOF
	[ "$(allocated "$img")" -le 34000 ] || fail "discard freed nothing: $(allocated "$img") KiB are left"
	expect_eq size "$(stat -c %s "$img")" 67108864
	"$tool" pattern check "$img" 0 32768 1
	"$tool" zeros "$img" 32768 65536
}

# The whole device, in one go.
test_discard_all() {
	local img

	img=$(image a.img 64M)
	noise "$img" 64
	guest one "ubd0=$img" <<-'EOF'
		load
		blkdiscard /dev/ubda
		"$tool" zeros /dev/ubda 0 131072
	EOF
	[ "$(allocated "$img")" -le 64 ] || fail "$(allocated "$img") KiB are left"
	expect_eq size "$(stat -c %s "$img")" 67108864
}

# Odd edges: the sectors beside must not be touched, whatever the granularity.
test_discard_edges() {
	local img

	img=$(image a.img 8M)
	"$tool" pattern write "$img" 0 16384 1
	guest one "ubd0=$img" <<-'EOF'
		load
		blkdiscard -o $((7 * 512)) -l $((77 * 512)) /dev/ubda
		blkdiscard -z -o $((1001 * 512)) -l $((513 * 512)) /dev/ubda
		"$tool" zero /dev/ubda 3001 9 zero
		"$tool" zero /dev/ubda 4001 9 punch
		"$tool" pattern check /dev/ubda 0 7 1
		"$tool" pattern check /dev/ubda 84 917 1
		"$tool" zeros /dev/ubda 1001 513
		"$tool" pattern check /dev/ubda 1514 1487 1
		"$tool" zeros /dev/ubda 3001 9
		"$tool" pattern check /dev/ubda 3010 991 1
		"$tool" zeros /dev/ubda 4001 9
		"$tool" pattern check /dev/ubda 4010 12374 1
	EOF
	"$tool" zeros "$img" 1001 513
	"$tool" pattern check "$img" 4010 12374 1
}

# Without unmap the zeros keep their blocks, with it they need not. The host
# looks on in between.
test_write_zeroes() {
	local img

	img=$(image a.img 64M)
	noise "$img" 64
	guest_start one "ubd0=$img" <<-'EOF'
		load
		"$tool" zero /dev/ubda 0 32768 zero
		touch $work/kept
		until_file $work/go
		"$tool" zero /dev/ubda 32768 65536 punch
		blkdiscard -z -o 48M -l 8M /dev/ubda
		[ "$(stat_of ubda write_zeroes_requests)" -ge 3 ] || die 'no write-zeroes came'
		same errors "$(stat_of ubda errors)" 0
	EOF
	guest_await one kept
	[ "$(allocated "$img")" -ge 65000 ] || fail "zeroes without unmap lost their blocks"
	touch go
	guest_wait one
	expect_eq status "$status" 0
	[ "$(allocated "$img")" -le 34000 ] || fail "zeroes with unmap kept their blocks: $(allocated "$img") KiB"
	"$tool" zeros "$img" 0 $((56 * 2048))
}

# The host's tmpfs can punch holes but has no zero range: zeros are written.
test_host_tmpfs() {
	small_host 100m <<-EOF
		truncate -s 32M $work/small/a.img
		$tool pattern write $work/small/a.img 0 65536 1
	EOF
	guest one "ubd0=$work/small/a.img" <<-'EOF'
		load
		"$tool" zero /dev/ubda 1001 20003 zero
		"$tool" zeros /dev/ubda 1001 20003
		"$tool" pattern check /dev/ubda 0 1001 1
		"$tool" pattern check /dev/ubda 21004 1000 1
		before=$(du -k $work/small/a.img | cut -f 1)
		blkdiscard -o 16M -l 8M /dev/ubda
		"$tool" zeros /dev/ubda 32768 16384
		"$tool" pattern check /dev/ubda 49152 16384 1
		after=$(du -k $work/small/a.img | cut -f 1)
		[ $after -le $((before - 8000)) ] || die "discard freed nothing: $before KiB before, $after after"
		"$tool" zero /dev/ubda 50001 999 punch
		"$tool" zeros /dev/ubda 50001 999
		"$tool" pattern check /dev/ubda 51000 14536 1
		same errors "$(stat_of ubda errors)" 0
	EOF
	expect_silent one 'ubda: .*failed'
}

# A disk as large as numbers go: no sum overflows.
test_huge() {
	small_host 100m <<-EOF
		truncate -s 7E $work/small/a.img
		truncate -s 9223372036854775296 $work/small/b.img
	EOF
	guest one "ubd0=$work/small/a.img" "ubd1=$work/small/b.img" <<-'EOF'
		load
		same size "$(blockdev --getsize64 /dev/ubda)" $((7 << 60))
		last=$(((7 << 60) / 512 - 2048))
		"$tool" pattern write /dev/ubda $last 2048 1
		"$tool" pattern check /dev/ubda $last 2048 1
		blkdiscard -o $((last * 512)) -l 512K /dev/ubda
		"$tool" zeros /dev/ubda $last 1024
		"$tool" pattern check /dev/ubda $((last + 1024)) 1024 1
		if [ -b /dev/ubdb ]; then
			dd if=/dev/ubdb of=/dev/null bs=4k count=1 skip=$((9223372036854775296 / 4096 - 1)) iflag=direct
		fi
		unload
	EOF
}

# A file system's own discard.
test_mount_discard() {
	local img

	img=$(image a.img 128M)
	guest one "ubd0=$img" <<-'EOF'
		load
		mkfs.ext4 -q /dev/ubda
		mount -o discard /dev/ubda $mnt
		dd if=/dev/urandom of=$mnt/big bs=1M count=64 status=none
		sync
		rm $mnt/big
		sync
		fstrim $mnt
		umount $mnt
	EOF
	[ "$(allocated "$img")" -le 20000 ] || fail "$(allocated "$img") KiB are left after the file was removed"
	e2fsck -fn "$img"
}

run_tests "$@"
