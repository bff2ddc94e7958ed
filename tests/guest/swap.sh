#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Swap on a device: more memory used than there is, each word of it checked.
. "$(dirname "$0")/lib.sh"

test_swap_filled() {
	local img

	img=$(image swap.img 256M)
	mem=96M
	guest one "ubd0=$img" <<-'EOF'
		load
		mkswap /dev/ubda >/dev/null
		swapon -d /dev/ubda
		"$tool" hog 160 2
		written=$(stat_of ubda write_bytes)
		read=$(stat_of ubda read_bytes)
		echo "swap: $written bytes written, $read read"
		[ "$written" -gt $((64 << 20)) ] || die 'hardly anything was written to swap'
		[ "$read" -gt $((64 << 20)) ] || die 'hardly anything was read from swap'
		refused unload
		swapoff /dev/ubda
		same errors "$(stat_of ubda errors)" 0
		unload
	EOF
}

# A file system beside it on the same host disk, both under pressure.
test_swap_and_files() {
	local swap
	local img

	swap=$(image swap.img 256M)
	img=$(image a.img 256M)
	mem=96M
	guest one "ubd0=$img" "ubd1=$swap" <<-'EOF'
		load
		mkfs.ext4 -q /dev/ubda
		mkswap /dev/ubdb >/dev/null
		swapon /dev/ubdb
		mount /dev/ubda $mnt
		"$tool" hog 128 2 &
		hog=$!
		for i in 1 2 3; do
			dd if=/dev/urandom of=$mnt/$i bs=1M count=32 conv=fsync status=none
		done
		sync
		sums=$(cat $mnt/[123] | sha256sum)
		echo 3 >/proc/sys/vm/drop_caches
		same checksum "$(cat $mnt/[123] | sha256sum)" "$sums"
		wait $hog
		umount $mnt
		swapoff /dev/ubdb
		unload
	EOF
	e2fsck -fn "$img" || fail "the host finds the file system broken"
}

# What a system call stores in memory that was swapped in is swapped out again.
# UML's kernel forgets it, unless tools/kernel/patches mends that.
test_store_to_swapped_in() {
	local img

	img=$(image swap.img 256M)
	mem=96M
	guest one "ubd0=$img" <<-'EOF'
		load
		swap_to /dev/ubda
		"$tool" refill 8 128
		[ "$(stat_of ubda read_bytes)" -gt $((8 << 20)) ] || die 'hardly anything was read from swap'
		swapoff /dev/ubda
		unload
	EOF
}

run_tests "$@"
