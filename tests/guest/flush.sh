#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# A flush of the guest is an fdatasync of the host: by the driver's own count,
# and by that of the host's kernel, which knows nothing of the driver.
. "$(dirname "$0")/lib.sh"

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

# start_witness FILE: counts fsyncs of that file in the host's kernel
start_witness() {
	local tracing=$work/tracing

	[ "$(id -u)" = 0 ] || skip "the outside witness (host tracefs) needs root"
	[ "$(findmnt -n -o FSTYPE -T "$1")" = ext4 ] || skip "the outside witness knows ext4, and the images lie on another file system"
	mkdir -p "$tracing"
	mount -t tracefs tracefs "$tracing" 2>/dev/null || skip "the host's kernel offers no tracefs here"
	at_end "umount $tracing"
	witness=$tracing/instances/ubd-test-$$
	mkdir "$witness" 2>/dev/null || skip "the host's kernel lets no trace instance be made"
	at_end "rmdir $witness"
	[ -e "$witness/events/ext4/ext4_sync_file_enter" ] || skip "the host's kernel has no ext4 trace events"
	echo "ino == $(stat -c %i "$1")" >"$witness/events/ext4/ext4_sync_file_enter/filter"
	echo 1 >"$witness/events/ext4/ext4_sync_file_enter/enable"
	at_end "echo 0 >$witness/events/enable"
}

# The witness sees each fdatasync, and each write with RWF_DSYNC once.
test_flush_outside_witness() {
	local img
	local seen

	img=$(image a.img 8M)
	start_witness "$img"
	guest one "ubd0=$img" <<-EOF
		$flush_script
	EOF
	seen=$(grep -c ext4_sync_file_enter "$witness/trace")
	echo "the host saw $seen syncs; counted: $(cat syncs) flushes, $(cat dsync_writes) durable writes"
	expect_eq 'syncs that the host saw' "$seen" $(($(cat syncs) + $(cat dsync_writes)))
}

run_tests "$@"
