#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# What an operation costs, in counts: chunks, calls that hand them to the host,
# interrupts, fdatasyncs, and how often the UML process gives up its CPU. Loads
# come from tests/bench/load in the guest's kernel, with a number of operations that is
# always the same. Times vary from host to host; these do not, and a bound that
# is passed is work that was not there before.
. "$(dirname "$0")/lib.sh"

# The load module for the kernel of the next guest.
build_load() {
	mkdir -p "$work/load"
	cp -rs "$top/tests/bench/load/." "$work/load/"
	env -u MAKEFLAGS -u MFLAGS make -s -C "$(dirname "$kernel")" ARCH=um "M=$work/load" modules
}

# In the guest:
#
#	count DISK WORD...		does a load, and keeps what changed
#	at_most COUNTER EACH		so many for each of 1000 operations, or less
#	exactly COUNTER EACH		just so many
#
# Voluntary switches are those of the host's process: the host's /proc is there.
counts_script='
insmod $work/load/ubd_load.ko
load "$@"
declare -A was now
snapshot() {
	local -n to=$1
	local name value

	while read -r name value; do
		to[$name]=$value
	done <$stats_dir/$disk/stats
}
count() {
	disk=$1
	shift
	snapshot was
	exec 3<>/sys/kernel/debug/ubd_load
	echo "dev=/dev/$disk ms=0 $*" >&3
	read -r result <&3
	exec 3>&-
	snapshot now
	[[ $result == *\"error\":0,\"ops\":{\"count\":* ]] || die "$disk $*: $result"
	ops=${result#*\"count\":}
	ops=${ops%%,*}
	load=$*
	echo "$disk $*:" $(for name in chunks submit_calls inline_completions polled_completions interrupt_completions interrupts host_syncs host_dsync_writes \
		syncs_shared commits bitmap_writes bitmap_allocations chunks_continued chunks_retried missed_wakeups; do
		[ $((now[$name] - was[$name])) = 0 ] || echo "$name $((now[$name] - was[$name]))"
	done) >>$work/figures
}
changed() {
	echo $((now[$1] - was[$1]))
}
at_most() {
	[ $(($(changed $1) * 1000)) -le $(($2 * ops)) ] ||
		die "$load: $1 is $(changed $1) for $ops operations; at most $2 for 1000"
}
exactly() {
	[ $(($(changed $1) * 1000)) = $(($2 * ops)) ] ||
		die "$load: $1 is $(changed $1) for $ops operations, not $2 for 1000"
}
'

# What is in the host's page cache is there when the call returns: no interrupt,
# and one call for each batch.
test_reads() {
	image a.img 64M >/dev/null
	noise a.img 64
	build_load
	guest one "ubd0=$work/a.img" <<-EOF
		$counts_script
		count ubda depth=1 ios=2000
		exactly chunks 1000
		at_most submit_calls 1000
		at_most interrupts 10
		count ubda depth=32 ios=6400
		exactly chunks 1000
		at_most submit_calls 40
		at_most interrupts 10
		# The host's other CPU may copy half of it: then the last part is seldom late.
		count ubda bs=128k order=seq depth=4 ios=512
		at_most chunks 1000
		at_most submit_calls 500
		at_most interrupts 300
		count ubda bs=1m pages=4 order=seq depth=4 ios=256
		at_most chunks 4000
		at_most submit_calls 1000
		at_most interrupts 400
		for counter in chunks_retried chunks_continued missed_wakeups host_syncs; do
			same \$counter "\$(stat_of ubda \$counter)" 0
		done
	EOF
	cat figures
}

# A write is one chunk, and at most one interrupt; a flush is one fdatasync, and
# flushes of several writers share them.
test_writes() {
	local shared=500

	# 7.2, which has no PREEMPT_NONE, runs who wants a flush sooner: 300 to 770, in the same
	# time, of which many find nothing left to write.
	[ "$test_variant" != next ] || shared=900
	image a.img 64M >/dev/null
	noise a.img 64
	build_load
	guest one "ubd0=$work/a.img" <<-EOF
		$counts_script
		count ubda op=write depth=1 ios=1000
		exactly chunks 1000
		at_most submit_calls 1050
		at_most interrupts 400
		exactly host_syncs 0
		count ubda op=write depth=32 ios=3200
		exactly chunks 1000
		at_most submit_calls 1050
		at_most interrupts 400
		# What comes to sector 0, each 64th, goes there by itself.
		count ubda op=write bs=1m pages=4 order=seq depth=4 ios=128
		at_most chunks 1016
		at_most submit_calls 1100
		count ubda op=write depth=1 ios=50 flush=1
		exactly chunks 2000
		exactly host_syncs 1000
		at_most submit_calls 2100
		at_most interrupts 2100
		count ubda op=write depth=8 ios=200 flush=1
		at_most host_syncs $shared
		at_most submit_calls $((2 * shared))
		count ubda op=write fua=1 depth=4 ios=50
		exactly chunks 1000
		exactly host_dsync_writes 1000
		exactly host_syncs 0
		count ubda op=discard bs=64k depth=4 ios=100
		exactly chunks 1000
		at_most submit_calls 1050
		exactly host_syncs 0
	EOF
	cat figures
}

# A commit is two fdatasyncs and one write of the bitmap, and only where a sector
# is new; it is shared like a flush. A bitmap costs a read nothing.
test_cow() {
	image base.img 64M >/dev/null
	noise base.img 64
	build_load
	guest one "ubd0=$work/a.cow,$work/base.img" <<-EOF
		set -- commit_ms=0
		$counts_script
		count ubda depth=32 ios=6400
		exactly chunks 1000
		at_most submit_calls 40
		at_most interrupts 10
		# The first makes space for 64 KiB of the bitmap, which is more than all of it.
		count ubda op=write bs=4k ios=1 offset=60m
		exactly chunks 2000
		exactly bitmap_allocations 1000
		count ubda op=flush ios=1
		count ubda op=write depth=1 ios=50 flush=1 order=once length=32m
		exactly bitmap_allocations 0
		exactly chunks 2000
		exactly commits 1000
		exactly host_syncs 2000
		exactly bitmap_writes 1000
		at_most submit_calls 4200
		count ubda op=write depth=8 ios=200 flush=1 order=once offset=32m
		at_most commits 500
		at_most host_syncs 1000
		at_most bitmap_writes 500
		at_most submit_calls 1500
		count ubda op=write bs=64k depth=8 order=once
		exactly chunks 1000
		exactly commits 0
		count ubda op=flush ios=1
		same commits "\$(changed commits)" 1
		same 'writes of the bitmap, side by side' "\$(changed bitmap_writes)" 1
		count ubda depth=32 ios=6400
		exactly chunks 1000
		at_most submit_calls 40
		at_most interrupts 10
		count ubda bs=1m pages=4 order=seq depth=4 ios=256
		at_most chunks 4000
		count ubda op=write depth=1 ios=50 flush=1
		exactly host_syncs 1000
		exactly bitmap_writes 0
	EOF
	cat figures
}

# Voluntary switches of all threads and helpers of a guest, until now.
switches() {
	local pid

	for pid in "${guest_pid[$1]}" $(relay_of "$1"); do
		cat "/proc/$pid"/task/*/status
	done | awk '$1 == "voluntary_ctxt_switches:" { n += $2 } END { print n }'
}

# The guest's waiting for files, a program each time, is some thousand of them.
test_switches() {
	local before after

	image a.img 64M >/dev/null
	noise a.img 64
	build_load
	guest_start one "ubd0=$work/a.img" <<-EOF
		$counts_script
		touch \$work/ready
		until_file \$work/go
		count ubda depth=32 ios=64000
		count ubda depth=1 ios=64000
		touch \$work/done
		until_file \$work/end
	EOF
	guest_await one ready
	before=$(switches one)
	touch go
	guest_await one 'done'
	after=$(switches one)
	touch end
	guest_wait one
	expect_eq status "$status" 0
	echo "$((after - before)) voluntary switches for 128000 reads" | tee -a figures
	[ $((after - before)) -le 12800 ] || fail "$((after - before)) switches for 128000 reads; at most 12800"
}

run_tests "$@"
