#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# The memory that a device takes: what Documentation/design.md says, what the
# statistics say, and what the guest's allocator says.
. "$(dirname "$0")/lib.sh"

test_formula() {
	image a.img 64M >/dev/null
	noise a.img 64
	guest one "ubd0=$work/a.img" <<-'EOF'
		# slab CACHE: objects, and bytes of each
		slab() {
			awk -v name="$1" '$1 == name { print $2, $4; found = 1 } END { exit !found }' /proc/slabinfo
		}
		for depth in 2 32 128; do
			load queue_depth=$depth
			rest=$(stat_of ubda memory_at_rest)
			most=$(stat_of ubda memory_at_most)
			same "memory now, at rest" "$(stat_of ubda memory_now)" "$rest"
			read -r chunks chunk_bytes < <(slab ubd_chunk)
			read -r headers header_bytes < <(slab ubd_header)
			# 8 of each in the pools; at most a chunk for each place in the rings, and a header for each of these.
			same "at most, less at rest" $((most - rest)) $((depth * (chunk_bytes + header_bytes)))
			echo "depth $depth: $rest bytes at rest, $most at most, $(stat_of ubda memory_of_host) of the host;" \
				"$chunks chunks of $chunk_bytes, $headers headers of $header_bytes"
			fio --thread --filename=/dev/ubda --direct=1 --rw=randwrite --bs=256k --size=64M --ioengine=libaio \
				--iodepth=256 --runtime=2 --time_based --eta=never --name=load --output=$work/fio.out &
			while kill -0 $! 2>/dev/null; do
				now=$(stat_of ubda memory_now)
				[ "$now" -le "$most" ] || die "$now bytes in use, $most at most"
			done
			wait $!
			echo "depth $depth: $(stat_of ubda max_in_flight) chunks in flight at a time"
			[ "$(stat_of ubda max_in_flight)" -le "$depth" ] || die 'more in flight than fits'
			[ "$(stat_of ubda max_in_flight)" -gt 0 ] || die 'nothing was in flight'
			[ "$(stat_of ubda max_begun)" -le "$depth" ] || die 'more requests begun than there are'
			same "memory now, at rest again" "$(stat_of ubda memory_now)" "$rest"
			unload
			! grep -q '^ubd_' /proc/slabinfo || die 'a cache is left'
		done
	EOF
}

# With all that can be in flight held back, the most is in use, to the byte.
test_at_most() {
	use_debug
	image a.img 64M >/dev/null
	guest one "ubd0=$work/a.img" <<-'EOF'
		for depth in 1 32 128; do
			load queue_depth=$depth
			rest=$(stat_of ubda memory_at_rest)
			fault ubda 'write drop'
			fio --thread --filename=/dev/ubda --direct=1 --rw=randwrite --bs=4k --size=4M --ioengine=libaio \
				--iodepth=256 --iodepth_batch_submit=256 --eta=never --name=load --output=$work/fio.out &
			until [ "$(stat_of ubda in_flight)" = "$depth" ]; do
				sleep 0.05
			done
			same 'memory now' "$(stat_of ubda memory_now)" "$(stat_of ubda memory_at_most)"
			fault ubda off
			wait $!
			same "memory now, at rest again" "$(stat_of ubda memory_now)" "$rest"
			unload
		done
	EOF
}

run_tests "$@"
