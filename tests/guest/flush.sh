#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# A flush of the guest is an fdatasync of the host: by the driver's own count,
# and by that of the host's kernel, which knows nothing of the driver.
. "$(dirname "$0")/lib.sh"
. "$guest_dir/witness.sh"

# 25 writes with a flush each, 25 with FUA, 10 flushes of nothing new.
flush_script='
load
s0=$(stat_of ubda host_syncs) d0=$(stat_of ubda host_dsync_writes)
"$tool" syncs /dev/ubda 25 sync
s1=$(stat_of ubda host_syncs) d1=$(stat_of ubda host_dsync_writes)
same "syncs for 25 flushes" $((s1 - s0)) 25
same "durable writes for 25 flushes" $((d1 - d0)) 0
"$tool" syncs /dev/ubda 25 fua
s2=$(stat_of ubda host_syncs) d2=$(stat_of ubda host_dsync_writes)
same "durable writes for 25 FUA writes" $((d2 - d1)) 25
echo $s2 >$work/syncs
echo $d2 >$work/dsync_writes
unload
'

test_flush_counted() {
	local img

	img=$(image a.img 8M)
	guest one "ubd0=$img" <<-EOF
		$flush_script
	EOF
}

# A file system's fsync gets there as well.
test_fsync_of_a_file() {
	local img

	img=$(image a.img 64M)
	guest one "ubd0=$img" <<-'EOF'
		load
		same write_cache "$(cat /sys/block/ubda/queue/write_cache)" 'write back'
		same fua "$(cat /sys/block/ubda/queue/fua)" 1
		mkfs.ext4 -q /dev/ubda
		mount /dev/ubda $mnt
		before=$(($(stat_of ubda host_syncs) + $(stat_of ubda host_dsync_writes)))
		for i in 1 2 3 4 5 6 7 8 9 10; do
			dd if=/dev/zero of=$mnt/$i bs=4k count=1 conv=fsync status=none
		done
		after=$(($(stat_of ubda host_syncs) + $(stat_of ubda host_dsync_writes)))
		[ $((after - before)) -ge 10 ] || die "ten fsyncs, but only $((after - before)) host syncs"
		umount $mnt
		unload
	EOF
}

# The witness sees each fdatasync, and each write with RWF_DSYNC once.
test_flush_outside_witness() {
	local img
	local seen

	img=$(image a.img 8M)
	start_witness "$img" || skip "$no_witness"
	guest one "ubd0=$img" <<-EOF
		$flush_script
	EOF
	seen=$(witnessed)
	echo "the host saw $seen syncs; counted: $(cat syncs) flushes, $(cat dsync_writes) durable writes"
	expect_eq 'syncs that the host saw' "$seen" $(($(cat syncs) + $(cat dsync_writes)))
}

run_tests "$@"
