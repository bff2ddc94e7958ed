#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# No memory: allocations that fail, all of them, while data is verified; and
# guests so small that they live in what they swapped out to our disk. With
# UBD_SOAK_SECONDS each goes on for that long; what is left to chance begins with
# UBD_SOAK_SEED.
. "$(dirname "$0")/lib.sh"

default_limit=$((240 + 3 * soak_seconds))
fire_patience=$((200 + 2 * soak_seconds))

# Many requests at once on three disks - one that is written, one each of whose
# writes is durable, one that is only read -, while the module is asked to go.
# Each kind of allocation that a queue makes fails: first by the slab's hand,
# then by the page allocator's, then all in the kernel that may not wait.
test_no_memory() {
	use_debug
	patience=$fire_patience
	image a.img 32M >/dev/null
	image b.img 32M >/dev/null
	image c.img 32M >/dev/null
	fio --name=c --filename=c.img --rw=write --bs=4k --size=32M --verify=crc32c --do_verify=0 >/dev/null
	guest one "ubd0=$work/a.img" "ubd1s=$work/b.img" "ubd2r=$work/c.img" <<-'EOF'
		echo scan >/sys/kernel/debug/kmemleak
		echo clear >/sys/kernel/debug/kmemleak
		load
		counters='header_reserve_uses chunk_reserve_uses pump_waits_memory'
		ask_to_go() {
			until [ -e $mnt/done ]; do
				refused rmmod ubd 2>$mnt/rmmod
				grep -q 'in use' $mnt/rmmod || die "rmmod says: $(cat $mnt/rmmod)"
				echo asked >>$mnt/asked
				sleep 0.1
			done
		}
		verify() {
			local asker

			rm -f $mnt/done $mnt/asked
			# Open from now on, so that the module never may go.
			exec 3</dev/ubda 4</dev/ubdb 5</dev/ubdc
			ask_to_go &
			asker=$!
			fio --eta=never --thread --direct=1 --ioengine=libaio --iodepth=64 --iodepth_batch_submit=32 \
				--iodepth_batch_complete_min=16 --verify=crc32c --verify_state_save=0 --output=$work/fio.out \
				--name=a --filename=/dev/ubda --rw=randwrite --bsrange=512-256k --size=32M \
				--name=b --filename=/dev/ubdb --rw=randwrite --bsrange=512-16k --size=4M \
				--name=c --filename=/dev/ubdc --rw=randread --bs=4k --size=16M ||
				die "fio, $1: $(grep -E 'verify|err=' $work/fio.out | head -n 5)"
			touch $mnt/done
			wait $asker
			[ -s $mnt/asked ] || die 'the module was not asked to go'
			exec 3<&- 4<&- 5<&-
		}
		count() {
			local disk counter

			for disk in ubda ubdb ubdc; do
				for counter in $counters; do
					seen[$disk.$counter]=$(stat_of $disk $counter)
				done
			done
		}
		# grew PHASE COUNTER...: for each disk, since count
		grew() {
			local disk counter now

			for disk in ubda ubdb ubdc; do
				for counter in "${@:2}"; do
					now=$(stat_of $disk $counter)
					echo "$1: $disk: $counter $((now - seen[$disk.$counter]))"
					[ "$now" -gt "${seen[$disk.$counter]}" ] || die "$1: $disk: no $counter"
				done
				same "$1: $disk: errors" "$(stat_of $disk errors)" 0
				same "$1: $disk: in flight" "$(stat_of $disk in_flight)" 0
			done
		}
		some() {
			echo "$1: $2 allocations failed"
			[ "$2" -gt 1000 ] || die "$1: hardly any allocation failed"
		}
		phases() {
			count
			fail_slab
			verify slab
			some slab "$(faults_end failslab)"
			grew slab $counters
			count
			fail_pages
			verify pages
			some pages "$(faults_end fail_page_alloc)"
			# A slab holds many headers: the chunks are short before them.
			grew pages chunk_reserve_uses pump_waits_memory
			count
			fail_slab
			failer failslab cache-filter N
			fail_pages
			verify both
			some 'both, slab' "$(faults_end failslab)"
			some 'both, pages' "$(faults_end fail_page_alloc)"
			grew both $counters
		}
		declare -A seen=()
		phases
		until [ $SECONDS -ge $soak_seconds ]; do
			phases
		done
		count
		verify none
		for disk in ubda ubdb ubdc; do
			for counter in $counters; do
				same "none: $disk: $counter" "$(stat_of $disk $counter)" "${seen[$disk.$counter]}"
			done
		done
		unload
		no_leaks
		lockdep_is_on
	EOF
}

# What the pools and the reserve hold goes on, no more; when memory is back, all
# goes on again, though nothing completes meanwhile.
test_parallel_again() {
	use_debug
	image a.img 16M >/dev/null
	guest one "ubd0=$work/a.img" <<-'EOF'
		load queue_depth=64
		until_in_flight() {
			until [ "$(stat_of ubda in_flight)" -ge "$1" ]; do
				sleep 0.05
			done
		}
		reserve_uses() {
			echo "$(stat_of ubda header_reserve_uses) headers, $(stat_of ubda chunk_reserve_uses) chunks"
		}
		# A request that takes too long has the queue looked at: here it shall not.
		echo 3600000 >/sys/block/ubda/queue/io_timeout
		fail_slab
		fault ubda 'write drop'
		fio --eta=never --thread --direct=1 --ioengine=libaio --iodepth=64 --iodepth_batch_submit=64 \
			--verify=crc32c --verify_state_save=0 --output=$work/fio.out --name=a --filename=/dev/ubda \
			--rw=randwrite --bs=4k --size=4M &
		fio=$!
		# Eight in the pools, and the head's own one.
		until_in_flight 9
		# The timer looks each second.
		sleep 2.5
		same 'in flight without memory' "$(stat_of ubda in_flight)" 9
		same 'uses of the reserve' "$(reserve_uses)" '1 headers, 1 chunks'
		[ "$(faults_end failslab)" -gt 0 ] || die 'no allocation failed'
		until_in_flight 64
		fault ubda off
		wait $fio || die "fio: $(grep -E 'verify|err=' $work/fio.out | head -n 5)"
		same 'uses of the reserve' "$(reserve_uses)" '1 headers, 1 chunks'
		same errors "$(stat_of ubda errors)" 0
		same 'in flight' "$(stat_of ubda in_flight)" 0
		unload
		lockdep_is_on
	EOF
}

# Four times the guest's memory in use, on a disk each of whose writes has to
# wait: so writes pile up while there is no memory for them. Nothing is made to
# fail here; when the reserve is needed is chance, but it will be.
test_swap_in_64m() {
	patience=$fire_patience
	mem=64M
	image swap.img 1G >/dev/null
	# Of its own accord a slab cache keeps some empty slabs, and newer kernels keep what
	# was freed besides, but not in caches that are checked.
	guest one "ubd0s=$work/swap.img" slab_debug=F,ubd_header,ubd_chunk <<-'EOF'
		load
		echo 0 >/sys/kernel/slab/ubd_header/min_partial
		echo 0 >/sys/kernel/slab/ubd_chunk/min_partial
		swap_to /dev/ubda
		memory=$(awk '/^MemTotal:/ { print $2 }' /proc/meminfo)
		[ "$memory" -lt 65536 ] || die "the guest has $memory KiB"
		"$tool" hogs 64 4 $soak_seconds
		until [ "$(stat_of ubda chunk_reserve_uses)" -gt 0 ]; do
			"$tool" hogs 64 4 1
		done
		refused rmmod ubd
		echo "swap: $(stat_of ubda write_bytes) bytes written, $(stat_of ubda read_bytes) read"
		echo "reserve: $(stat_of ubda header_reserve_uses) headers, $(stat_of ubda chunk_reserve_uses) chunks"
		[ "$(stat_of ubda write_bytes)" -gt $((192 << 20)) ] || die 'hardly anything was written to swap'
		[ "$(stat_of ubda read_bytes)" -gt $((128 << 20)) ] || die 'hardly anything was read from swap'
		swapoff /dev/ubda
		same errors "$(stat_of ubda errors)" 0
		same 'in flight' "$(stat_of ubda in_flight)" 0
		unload
	EOF
}

# Swapping with what the pools and the reserve hold and no more, under the eyes
# of the kernel's checkers. Page allocations cannot be made to fail as well: then
# the kernel can make no swap entry, and kills the hogs.
test_swap_without_slab() {
	use_debug
	patience=$fire_patience
	mem=128M
	image swap.img 1G >/dev/null
	guest one "ubd0=$work/swap.img" <<-'EOF'
		load
		swap_to /dev/ubda
		fail_slab
		"$tool" hogs 56 3 $soak_seconds
		failed=$(faults_end failslab)
		echo "$failed allocations failed"
		[ "$failed" -gt 1000 ] || die 'hardly any allocation failed'
		echo "reserve: $(stat_of ubda header_reserve_uses) headers, $(stat_of ubda chunk_reserve_uses) chunks"
		[ "$(stat_of ubda header_reserve_uses)" -gt 0 ] || die 'no header came from the reserve'
		[ "$(stat_of ubda chunk_reserve_uses)" -gt 0 ] || die 'no chunk came from the reserve'
		[ "$(stat_of ubda read_bytes)" -gt $((64 << 20)) ] || die 'hardly anything was read from swap'
		swapoff /dev/ubda
		same errors "$(stat_of ubda errors)" 0
		same 'in flight' "$(stat_of ubda in_flight)" 0
		unload
		lockdep_is_on
	EOF
}

# Errors that pass, short transfers, late completions, refused calls and failing
# allocations, each by chance: under a verifying fio, and under swap at once.
test_by_chance() {
	use_debug
	patience=$fire_patience
	mem=160M
	image a.img 32M >/dev/null
	image swap.img 1G >/dev/null
	guest one "ubd0=$work/a.img" "ubd1=$work/swap.img" <<-'EOF'
		seed=$soak_seed
		load
		swap_to /dev/ubdb
		round() {
			local rules="any errno=4 chance=10 seed=$seed; any errno=11 chance=1 seed=$seed"
			rules="$rules; any short chance=20 seed=$seed; any delay=10 chance=2 seed=$seed"
			rules="$rules; submit errno=16 chance=2 seed=$seed"
			echo "seed $seed"
			fault ubda "$rules"
			fault ubdb "$rules"
			fail_slab
			failer failslab probability 50
			"$tool" hogs 48 3 1 &
			hogs=$!
			fio --eta=never --thread --direct=1 --ioengine=libaio --iodepth=64 --iodepth_batch_submit=32 \
				--iodepth_batch_complete_min=16 --verify=crc32c --verify_state_save=0 --output=$work/fio.out \
				--name=a --filename=/dev/ubda --rw=randwrite --bsrange=512-64k --size=8M --fsync=50 \
				--randseed=$seed || die "fio: $(grep -E 'verify|err=' $work/fio.out | head -n 5)"
			wait $hogs || die 'a hog found something else in its memory'
			for disk in ubda ubdb; do
				cat $stats_dir/$disk/fault
				fault $disk off
				same "$disk: errors" "$(stat_of $disk errors)" 0
			done
			[ "$(faults_end failslab)" -gt 100 ] || die 'hardly any allocation failed'
			seed=$((seed + 1))
		}
		round
		until [ $SECONDS -ge $soak_seconds ]; do
			round
		done
		for disk in ubda ubdb; do
			for counter in chunks_retried chunks_continued submit_retries; do
				[ "$(stat_of $disk $counter)" -gt 0 ] || die "$disk: no $counter"
			done
			same "$disk: in flight" "$(stat_of $disk in_flight)" 0
		done
		swapoff /dev/ubdb
		unload
		lockdep_is_on
	EOF
}

run_tests "$@"
