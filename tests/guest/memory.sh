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

# resident NAME KIB: of the guest's mapping of that size, what the host has of it, in
# bytes
resident() {
	awk -v size="$2" '$1 == "Size:" { found = $2 == size } $1 == "Rss:" && found { print $2 * 1024; exit }' \
		"/proc/${guest_pid[$1]}/smaps"
}

# The bitmap of a COW file: addresses for all of it, memory for what has bits, and
# that is counted.
test_bitmap() {
	local empty now there reserved

	truncate -s 1T base.img 2>/dev/null || skip "the host's file system has no files of 1 TiB"
	guest_start one "ubd0=$work/a.cow,$work/base.img" "ubd1=$work/other.img" <<-'EOF'
		truncate -s 1M $work/other.img
		load
		rings=$(stat_of ubdb memory_of_host)
		same 'bitmap of a plain file' "$(stat_of ubdb bitmap_memory) $(stat_of ubdb bitmap_reserved)" '0 0'
		# Two sets of bits, four of blocks of these, one of what has space in the
		# file by 16 blocks, and what a commit writes from.
		blocks=$((1 << 40 >> 24))
		same reserved "$(stat_of ubda bitmap_reserved)" $((blocks * 2 * 4096 + 4 * blocks / 8 + blocks / 128 + 16 * 4096))
		empty=$(stat_of ubda bitmap_memory)
		[ "$empty" -le 65536 ] || die "an empty bitmap takes $empty bytes"
		same 'all of the host' "$(stat_of ubda memory_of_host)" $((rings + empty))
		for i in $(seq 100); do
			dd if=/dev/zero of=/dev/ubda bs=4k seek=$((i * 40000 + 7)) count=1 oflag=direct status=none
		done
		sync /dev/ubda
		now=$(stat_of ubda bitmap_memory)
		# A block for each, for bits that came while a commit ran another.
		[ $((now - empty)) -ge 409600 ] || die "100 blocks have bits, and take $((now - empty)) bytes"
		[ $((now - empty)) -le $((2 * 409600 + 65536)) ] || die "100 blocks have bits, and take $((now - empty)) bytes"
		same 'all of the host' "$(stat_of ubda memory_of_host)" $((rings + now))
		echo "$empty $now $(stat_of ubda bitmap_reserved)" >$work/said.new
		mv $work/said.new $work/said
		until_file $work/go
		unload
	EOF
	guest_await one said
	read -r empty now reserved <said
	there=$(resident one $(((reserved + 4095) / 4096 * 4)))
	touch go
	guest_wait one
	expect_eq status "$status" 0
	# The host does not count what was only read, a page of zeros that all share.
	[ "$there" -le "$now" ] && [ "$there" -ge $((now - 32768)) ] || fail "$now bytes are said to be there, the host has $there"
	echo "bitmap of 1 TiB: $empty bytes when empty, $now with bits in 100 of 65536 blocks, $reserved reserved" >figures
}

run_tests "$@"
