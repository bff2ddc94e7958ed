#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# All kinds of requests under the debug kernel (KASAN, lockdep, kmemleak, UBSAN,
# atomic sleep): not one warning, and no memory left after the module is gone.
. "$(dirname "$0")/lib.sh"

limit[fio]=240
test_fio() {
	use_debug
	patience=200
	image a.img 64M >/dev/null
	image b.img 64M >/dev/null
	guest one "ubd0=$work/a.img" "ubd1s=$work/b.img" <<-'EOF'
		echo scan >/sys/kernel/debug/kmemleak
		echo clear >/sys/kernel/debug/kmemleak
		load
		fio --thread --verify=crc32c --verify_state_save=0 --direct=1 --rw=randwrite --bsrange=512-256k --size=24M \
			--ioengine=libaio --iodepth=32 --name=a --filename=/dev/ubda --name=b --filename=/dev/ubdb --io_size=12M \
			--output=$work/fio.out || die "$(tail -n 5 $work/fio.out)"
		"$tool" syncs /dev/ubda 20 sync
		"$tool" syncs /dev/ubda 20 fua
		blkdiscard -o 32M -l 8M /dev/ubda
		blkdiscard -z -o 40M -l 8M /dev/ubda
		"$tool" zero /dev/ubda 100001 3001 zero
		mkfs.ext4 -q /dev/ubda
		mount /dev/ubda $mnt
		dd if=/dev/urandom of=$mnt/file bs=1M count=20 conv=fsync status=none
		fstrim $mnt
		umount $mnt
		e2fsck -fn /dev/ubda
		for i in 1 2 3; do
			unload
			load "device=2=$work/missing" "device=3=$work/a.img"
		done
		unload
		# kmemleak tells what is older than five seconds.
		sleep 6
		for i in 1 2; do
			echo scan >/sys/kernel/debug/kmemleak
		done
		cat /sys/kernel/debug/kmemleak >$work/leaks
		! grep -q ubd $work/leaks || die "memory is left: $(head -n 20 $work/leaks)"
		grep -qv . $work/leaks || [ ! -s $work/leaks ] || echo "not ours: $(grep -c unreferenced $work/leaks)"
		# Lockdep has not given up before the end.
		grep -q 'debug_locks: *1' /proc/lockdep_stats || die 'lockdep is off'
	EOF
}

limit[swap_and_reboot]=240
test_swap_and_reboot() {
	use_debug
	mem=160M
	patience=200
	image a.img 16M >/dev/null
	image swap.img 256M >/dev/null
	guest one "ubd0=$work/a.img" "ubd1=$work/swap.img" <<-'EOF'
		load
		if [ -e $work/second ]; then
			"$tool" pattern check /dev/ubda 0 8192 1
			exit 0
		fi
		touch $work/second
		mkswap /dev/ubdb >/dev/null
		swapon /dev/ubdb
		"$tool" hog 150 1
		[ "$(stat_of ubdb write_bytes)" -gt $((8 << 20)) ] || die 'hardly anything was swapped'
		"$tool" pattern write /dev/ubda 0 8192 1
		"$tool" power restart
	EOF
}

run_tests "$@"
