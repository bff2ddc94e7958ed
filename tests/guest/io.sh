#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# fio writes and verifies: block sizes from 512 bytes to 1 MiB, depths from 1 to
# 64, several engines, several devices at once.
. "$(dirname "$0")/lib.sh"

fio_common='--thread --verify=crc32c --verify_fatal=1 --verify_state_save=0 --do_verify=1 --group_reporting --output-format=terse'
fio_script="
verify() {
	fio $fio_common \"\$@\" >\$work/fio.out || { tail -n 5 \$work/fio.out; die 'fio found errors'; }
	! grep -qE 'verify:|error' \$work/fio.out || die 'fio found errors'
}
quiet_queue() {
	same \"\$1 errors\" \$(stat_of \$1 errors) 0
	same \"\$1 in flight\" \$(stat_of \$1 in_flight) 0
	same \"\$1 queued\" \$(stat_of \$1 queued) 0
	same \"\$1 overflows\" \$(stat_of \$1 completion_overflows) 0
	same \"\$1 timeouts\" \$(stat_of \$1 timeouts) 0
}
"

test_fio_sizes() {
	local img

	img=$(image a.img 256M)
	guest one "ubd0=$img" <<-EOF
		$fio_script
		load
		verify --filename=/dev/ubda --direct=1 --rw=randwrite --size=24M \
			--name=small --ioengine=libaio --iodepth=64 --bsrange=512-8k --offset=0 \
			--name=mixed --ioengine=io_uring --iodepth=16 --bsrange=512-1M --offset=32M --size=64M \
			--name=large --ioengine=libaio --iodepth=4 --bs=1M --offset=128M --size=64M \
			--name=plain --ioengine=psync --bsrange=4k-128k --offset=200M --size=32M
		quiet_queue ubda
		unload
	EOF
}

test_fio_depths() {
	local img

	img=$(image a.img 128M)
	guest one "ubd0=$img" <<-EOF
		$fio_script
		load
		for depth in 1 2 8 32 64; do
			verify --filename=/dev/ubda --direct=1 --rw=randrw --size=64M --io_size=24M --bsrange=4k-256k \
				--ioengine=libaio --iodepth=\$depth --iodepth_batch_submit=8 --name=depth\$depth \
				--randseed=\$depth --offset=32M
		done
		quiet_queue ubda
	EOF
}

test_fio_devices() {
	local i
	local words=()

	for i in 0 1 2 3; do
		words+=("ubd$i=$(image "$i.img" 64M)")
	done
	guest one "${words[@]}" <<-EOF
		$fio_script
		load
		verify --direct=1 --rw=randwrite --bsrange=512-256k --size=48M --ioengine=libaio --iodepth=32 \
			--name=a --filename=/dev/ubda --name=b --filename=/dev/ubdb \
			--name=c --filename=/dev/ubdc --name=d --filename=/dev/ubdd
		for disk in ubda ubdb ubdc ubdd; do
			quiet_queue \$disk
		done
	EOF
}

# Tags for one, for a few, and for more than the pools hold.
test_queue_depths() {
	local img

	img=$(image a.img 64M)
	guest one "ubd0=$img" <<-EOF
		$fio_script
		for depth in 1 3 1024; do
			load queue_depth=\$depth
			same "nr_requests" "\$(cat /sys/block/ubda/queue/nr_requests)" \$depth
			verify --filename=/dev/ubda --direct=1 --rw=randwrite --size=16M --bsrange=512-64k \
				--ioengine=libaio --iodepth=64 --name=depth\$depth
			quiet_queue ubda
			unload
		done
		refused load queue_depth=0
		refused load queue_depth=1025
	EOF
	expect_once one 'queue_depth=0 is out of range'
	expect_once one 'queue_depth=1025 is out of range'
}

# Through the page cache, written back by the kernel in its own pieces.
test_fio_buffered() {
	local img

	img=$(image a.img 256M)
	guest one "ubd0=$img" <<-EOF
		$fio_script
		load
		verify --filename=/dev/ubda --rw=randwrite --size=200M --io_size=64M --bsrange=512-64k --ioengine=psync \
			--invalidate=1 --end_fsync=1 --name=buffered
		quiet_queue ubda
	EOF
}

# Many buffers at odd addresses in a request.
test_vectors() {
	image a.img 2M >/dev/null
	image b.img 2M >/dev/null
	guest one "ubd0=$work/a.img" "ubd1s=$work/b.img" <<-'EOF'
		load
		"$tool" vectors /dev/ubda 400
		"$tool" vectors /dev/ubdb 100
		unload
	EOF
}

# As small as the kernel lets them be: from 6.18 on pieces of a sector need not be
# blocks. What it takes has the right data, what it does not take is an error.
test_small_pieces() {
	image a.img 1M >/dev/null
	"$tool" pattern write a.img 0 2048 1
	guest one "ubd0=$work/a.img" <<-'EOF'
		load
		cat >$mnt/pieces.py <<-'END'
			import mmap, os, sys
			fd = os.open('/dev/ubda', os.O_RDWR | os.O_DIRECT)
			want = os.pread(os.open('/dev/ubda', os.O_RDONLY), 1 << 16, 0)
			memory = memoryview(mmap.mmap(-1, 1 << 20))
			taken = []
			for size in 2, 4, 8, 16, 64, 256, 512:
			    for total in 512, 2048, 8192:
			        n = total // size
			        if n > 1024:
			            continue
			        # None touches the next one.
			        pieces = [memory[i * (size + 64):i * (size + 64) + size] for i in range(n)]
			        try:
			            got = os.preadv(fd, pieces, 4096)
			        except OSError as e:
			            assert e.errno == 22, e
			            continue
			        assert got == total, (size, total, got)
			        assert b''.join(pieces) == want[4096:4096 + total], (size, total)
			        assert os.pwritev(fd, pieces, 4096 + 32768) == total
			        taken.append(size)
			print('pieces taken:', sorted(set(taken)))
			assert 512 in taken and min(taken) >= 8, taken
		END
		python3 $mnt/pieces.py
		blockdev --flushbufs /dev/ubda
		dd if=/dev/ubda bs=512 skip=8 count=16 iflag=direct status=none | cmp - <(dd if=/dev/ubda bs=512 skip=72 count=16 iflag=direct status=none)
		unload
	EOF
	grep -a '^pieces taken' one.log
}

# Disks of few sectors, and of sizes that are no whole pages.
test_small_disks() {
	local i
	local sizes=(1 2 3 7 8 9 4095 4097)
	local words=()

	for i in "${!sizes[@]}"; do
		image "$i.img" $((sizes[i] * 512)) >/dev/null
		"$tool" pattern write "$i.img" 0 "${sizes[i]}" 1
		words+=("ubd$i=$work/$i.img")
	done
	guest one "${words[@]}" <<-'EOF'
		load
		for path in /sys/block/ubd*; do
			disk=/dev/${path##*/}
			n=$(blockdev --getsz $disk)
			"$tool" pattern check $disk 0 $n 1
			"$tool" pattern write $disk 0 $n 2
			blockdev --flushbufs $disk
			"$tool" pattern check $disk 0 $n 2
			dd if=$disk of=/dev/null bs=512 iflag=direct status=none
			dd if=/dev/urandom of=$disk bs=512 count=1 seek=$((n - 1)) oflag=direct status=none
			# Nothing beyond the end, neither in the guest nor on the host.
			refused dd if=/dev/zero of=$disk bs=512 count=1 seek=$n oflag=direct status=none
			[ $n = 1 ] || "$tool" pattern check $disk 0 $((n - 1)) 2
			blkdiscard -z $disk
			"$tool" zeros $disk 0 $n
		done
		unload
	EOF
	for i in "${!sizes[@]}"; do
		expect_eq "size of $i.img" "$(stat -c %s "$i.img")" $((sizes[i] * 512))
		"$tool" zeros "$i.img" 0 "${sizes[i]}"
	done
}

# What is changed while requests are under way: scheduler, number of tags.
test_settings_under_load() {
	local img

	img=$(image a.img 128M)
	guest one "ubd0=$img" <<-EOF
		$fio_script
		load
		verify --filename=/dev/ubda --direct=1 --rw=randwrite --size=96M --bsrange=512-128k --ioengine=libaio \
			--iodepth=64 --name=load &
		fio=\$!
		q=/sys/block/ubda/queue
		while kill -0 \$fio 2>/dev/null; do
			for scheduler in mq-deadline none; do
				echo \$scheduler >\$q/scheduler
				for n in 4 64 256; do
					echo \$n >\$q/nr_requests || true
				done
				echo 4 >\$q/max_sectors_kb
				echo 1024 >\$q/max_sectors_kb
				cat \$stats_dir/ubda/stats >/dev/null
			done
			sleep 0.05
		done
		wait \$fio
		quiet_queue ubda
		unload
	EOF
}

limit[soak]=1200
property[soak]=full
test_soak() {
	local img

	patience=1100
	img=$(image a.img 1G)
	guest one "ubd0=$img" <<-EOF
		$fio_script
		load
		verify --filename=/dev/ubda --direct=1 --rw=randrw --bsrange=512-1M --size=1G --ioengine=libaio \
			--iodepth=64 --loops=8 --name=soak
		quiet_queue ubda
	EOF
}

run_tests "$@"
