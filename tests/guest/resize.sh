#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Disks that grow while they are used: the attribute `resize` has the driver look at
# the size of the host's file again.
. "$(dirname "$0")/lib.sh"
. "$guest_dir/cow_files.sh"

mib=1048576
ubd_cow=${UBD_COW:-$top/build/ubd-cow}
fio_common='--thread --verify=crc32c --verify_fatal=1 --verify_state_save=0 --do_verify=1 --group_reporting'

# In the guest.
resize_script='
mib=1048576
resize() {
	echo 1 >/sys/block/$1/ubd/resize
}
# size_is DISK BYTES
size_is() {
	same "size of $1" "$(blockdev --getsize64 /dev/$1)" "$2"
}
# In the background: writes and verifies until file $mnt/stop is there.
fio_until_stop() {
	while [ ! -e $mnt/stop ]; do
		fio --thread --verify=crc32c --verify_fatal=1 --verify_state_save=0 --do_verify=1 --direct=1 \
			--rw=randwrite --bsrange=512-128k --ioengine=libaio --iodepth=16 --name=a --filename=/dev/$1 \
			--size=$2 --io_size=4M --randseed=$RANDOM --output=$work/fio.out || exit 1
		! grep -qE "verify:|error" $work/fio.out || exit 1
		touch $mnt/ran
	done
}
'

# base MIB: a backing file without a zero sector
base() {
	image base.img "$1M" >/dev/null
	noise base.img "$1"
}

# A raw disk grows under load; everybody is told. What is refused changes nothing.
limit[raw]=240
test_raw() {
	local img

	img=$(image a.img 32M)
	guest one "ubd0=$img" "ubd1r=$img.r" <<-EOF
		$resize_script
		load
		"\$tool" uevents \$work/events &
		listener=\$!
		until_file \$work/events
		fio_until_stop ubda 24M &
		until_file \$mnt/ran
		truncate -s 48M $img
		size_is ubda $((32 * mib))
		resize ubda
		size_is ubda $((48 * mib))
		"\$tool" pattern write /dev/ubda $((47 * 2048)) 2048 1
		# Nothing to be done, and done well.
		resize ubda
		size_is ubda $((48 * mib))
		rm \$mnt/ran
		until_file \$mnt/ran
		truncate -s 47M $img
		refused resize ubda
		truncate -s $((48 * mib + 100)) $img
		refused resize ubda
		truncate -s 48M $img
		for bad in 0 2 11 rescan '' '1 1' -1; do
			refused eval 'echo "\$bad" >/sys/block/ubda/ubd/resize'
		done
		refused dd if=/dev/zero of=/sys/block/ubda/ubd/resize bs=4096 count=1 status=none
		size_is ubda $((48 * mib))
		same mode "\$(stat -c %a /sys/block/ubda/ubd/resize)" 200
		touch \$mnt/stop
		wait %2
		kill \$listener
		same events "\$(grep -c '^change@.*/ubda .* RESIZE=1' \$work/events)" 1
		# Never written beyond, so zeros after the part that was cut.
		"\$tool" pattern check /dev/ubda $((46 * 2048)) 0 1
		# Again by two at a time, and by one who removes it meanwhile.
		for n in \$(seq 49 60); do
			truncate -s \${n}M $img
			resize ubda &
			resize ubda
			wait %3 2>/dev/null || wait || true
			size_is ubda \$((n * mib))
		done
		while resize ubda 2>/dev/null; do :; done &
		sleep 0.2
		unload
		wait
	EOF
	expect_eq 'capacity changes' "$(log_count one 'ubda: detected capacity change')" 13
	expect_once one "ubda: $img: the device keeps its 50331648 bytes, the file has 49283072: a disk in use does not shrink"
	expect_once one "ubda: $img: the device keeps its 50331648 bytes, the file has 50331748: that is no multiple"
	expect_eq 'lines about what it takes' "$(log_count one 'ubda: resize takes 1')" 8
}
run_tests "$@"
