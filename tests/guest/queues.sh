#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Several queues of one disk, where one CPU is all that a test needs: a debug module
# has as many as it is told to, and tags decide. What several CPUs are needed for is
# in smp.sh.
. "$(dirname "$0")/lib.sh"

default_limit=180

# In the guest:
#
#	queue_of DISK N COUNTER		of that queue
#	in_all DISK N COUNTER		the sum of the first N queues
queues_script='
queue_of() {
	awk -v name="$3" "\$1 == name { print \$2; found = 1 } END { exit !found }" $stats_dir/$1/queue$2
}
in_all() {
	local i
	local sum=0

	for ((i = 0; i < $2; i++)); do
		sum=$((sum + $(queue_of $1 $i $3)))
	done
	echo $sum
}
'

# fio verifies what went by any queue, with what passes by itself; each queue has its
# part, and a disk counts what its queues do.
test_several() {
	use_debug
	image a.img 32M >/dev/null
	guest one "ubd0=$work/a.img" <<-EOF
		$queues_script
		load queues=3 queue_depth=16
		same queues "\$(stat_of ubda queues) \$(ls \$stats_dir/ubda | grep -c '^queue[0-9]')" '3 3'
		run_fio() {
			fio --thread --verify=crc32c --verify_state_save=0 --direct=1 --rw=randwrite --bsrange=512-128k \
				--size=8M --ioengine=libaio --iodepth=32 --fsync=64 --filename=/dev/ubda --eta=never \
				--name=a --offset=0 --name=b --offset=8M --output=\$work/fio.out ||
				die "\$(tail -n 5 \$work/fio.out)"
		}
		run_fio
		fault ubda 'any errno=11 chance=10 seed=3; any short chance=20 seed=5; any delay=20 chance=5 seed=7'
		run_fio
		cat \$stats_dir/ubda/fault
		same 'rules' "\$(grep -c '^queue [012]:' \$stats_dir/ubda/fault)" 3
		fault ubda off
		for counter in read_requests write_requests flush_requests host_syncs chunks; do
			same \$counter "\$(stat_of ubda \$counter)" "\$(in_all ubda 3 \$counter)"
			for i in 0 1 2; do
				[ "\$(queue_of ubda \$i \$counter)" -gt 0 ] || die "queue \$i: no \$counter"
			done
		done
		same 'in flight' "\$(stat_of ubda in_flight) \$(stat_of ubda queued)" '0 0'
		same 'memory, at rest again' "\$(stat_of ubda memory_now)" "\$(stat_of ubda memory_at_rest)"
		same errors "\$(stat_of ubda errors)" 0
		unload
		no_leaks
		lockdep_is_on
	EOF
	expect_silent one 'failed|hung'
}

# One fdatasync fails, of one queue: nothing of the device is durable any more.
test_loss_is_shared() {
	use_debug
	expected_complaint='Buffer I/O error|I/O error, dev'
	image a.img 16M >/dev/null
	image b.img 16M >/dev/null
	guest one "ubd0=$work/a.img" "ubd1=$work/b.img" <<-EOF
		$queues_script
		load queues=2
		for i in 1 2 3 4 5 6 7 8; do
			"\$tool" syncs /dev/ubda 1 sync
		done
		fault ubda 'sync errno=5'
		refused "\$tool" syncs /dev/ubda 1 sync
		fault ubda off
		syncs=\$(in_all ubda 2 host_syncs)
		before=(\$(queue_of ubda 0 write_requests) \$(queue_of ubda 1 write_requests))
		for i in \$(seq 20); do
			refused dd if=/dev/zero of=/dev/ubda bs=4k count=1 seek=\$i oflag=direct
			refused "\$tool" syncs /dev/ubda 1 sync
		done 2>/dev/null
		same 'syncs since' "\$(in_all ubda 2 host_syncs)" \$syncs
		for i in 0 1; do
			[ "\$(queue_of ubda \$i write_requests)" -gt "\${before[i]}" ] || die "queue \$i was not asked"
		done
		dd if=/dev/ubda of=/dev/null bs=64k count=16 iflag=direct status=none
		"\$tool" syncs /dev/ubdb 8 sync
		unload
		lockdep_is_on
	EOF
	expect_once one 'ubda: .*the host failed to make data durable'
	expect_silent one 'ubdb: .*failed'
}

# Bitmap, seal and commit are one queue's; and what is out of range is refused.
test_how_many() {
	use_debug
	image base.img 16M >/dev/null
	image a.img 16M >/dev/null
	guest one "ubd0=$work/a.cow,$work/base.img" "ubd1=$work/a.img" <<-EOF
		refused load queues=9
		refused load queues=-1
		load queues=8
		same queues "\$(stat_of ubda queues) \$(stat_of ubdb queues)" '1 8'
		dd if=/dev/urandom of=/dev/ubda bs=64k count=16 oflag=direct conv=fsync status=none
		same commits "\$(stat_of ubda commits)" 1
		unload
		load
		same queues "\$(stat_of ubda queues) \$(stat_of ubdb queues)" '1 1'
		unload
	EOF
	expect_once one 'queues=9 is out of range; it goes from 0 to 8'
	use_release
	guest two "ubd1=$work/a.img" <<-'EOF'
		load queues=8
		same 'queues of one CPU' "$(stat_of ubdb queues) $(ls /sys/block/ubdb/mq | wc -l)" '1 1'
		unload
	EOF
}

# Both queues have something with the host when the guest ends: it is waited for.
test_power_off() {
	use_debug
	image a.img 16M >/dev/null
	guest one "ubd0=$work/a.img" <<-EOF
		$queues_script
		load queues=2
		fault ubda 'write delay=5000'
		for i in \$(seq 8); do
			tr '\0' a </dev/zero | dd of=/dev/ubda bs=64k count=1 iflag=fullblock seek=\$i oflag=direct status=none &
		done
		until [ "\$(stat_of ubda in_flight)" = 8 ]; do
			sleep 0.01
		done
		for i in 0 1; do
			[ "\$(queue_of ubda \$i in_flight)" -gt 0 ] || die "nothing in queue \$i"
		done
	EOF
	same=$(tr -d 'a\0' <a.img | wc -c)
	expect_eq 'other bytes' "$same" 0
	expect_eq 'bytes that were written' "$(tr -d '\0' <a.img | wc -c)" $((8 * 65536))
}

# A request that hangs is named, whichever queue it is in.
limit[timeout]=120
property[timeout]=full
test_timeout() {
	use_debug
	image a.img 16M >/dev/null
	guest one "ubd0=$work/a.img" <<-EOF
		$queues_script
		load queues=2
		fault ubda 'read drop'
		for i in 1 2 3 4; do
			dd if=/dev/ubda of=/dev/null bs=4k count=1 skip=\$i iflag=direct status=none &
		done
		until [ "\$(stat_of ubda timeouts)" = 4 ]; do
			sleep 1
		done
		for i in 0 1; do
			[ "\$(queue_of ubda \$i timeouts)" -gt 0 ] || die "no timeout in queue \$i"
		done
		fault ubda off
		wait
		same errors "\$(stat_of ubda errors)" 0
		unload
	EOF
	expect_log one 'read of 8 sectors at sector (8|16|24|32) has not ended for 3'
}

run_tests "$@"
