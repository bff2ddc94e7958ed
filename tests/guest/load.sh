#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Loading and unloading, again and again: nothing is left on the host or in the
# guest; and never while somebody uses a disk.
. "$(dirname "$0")/lib.sh"

# What the UML process has on the host: descriptors, mappings, helpers, threads.
possessions() {
	local pid=$1

	find "/proc/$pid/fd" -type l | wc -l
	wc -l <"/proc/$pid/maps"
	relay_of one | wc -w
	find "/proc/$pid/task" -mindepth 1 -maxdepth 1 | wc -l
}

# expect_no_more PID BEFORE: hardly more than before, of anything. What is lost
# at each of fifty turns is far above the few that UML itself has more or less
# (hostfs keeps files open).
expect_no_more() {
	local before after names i
	local until=$((SECONDS + 5))

	names=(descriptors mappings helpers threads)
	mapfile -t before <<<"$2"
	for i in 0 1 2 3; do
		# The host ends threads of io_uring's when it likes.
		while mapfile -t after < <(possessions "$1") && [ "${after[i]}" -gt $((before[i] + (i < 2 ? 5 : 0))) ]; do
			[ "$SECONDS" -lt "$until" ] ||
				fail "the process has ${after[i]} ${names[i]}, before it had ${before[i]}"
			sleep 0.1
		done
		echo "${names[i]}: ${before[i]} before, ${after[i]} after"
	done
}

test_fifty_times() {
	local pid
	local first

	image a.img 16M >/dev/null
	image b.img 16M >/dev/null
	guest_start one "ubd0=$work/a.img" "ubd3=$work/b.img" <<-'EOF'
		turn() {
			load
			dd if=/dev/urandom of=/dev/ubda bs=64k count=8 oflag=direct status=none
			dd if=/dev/ubdd of=/dev/null bs=64k count=8 iflag=direct status=none
			unload
		}
		turn
		turn
		touch $work/first
		until_file $work/go
		before=$(awk '/^Slab|^VmallocUsed|^Percpu/ { n += $2 } END { print n }' /proc/meminfo)
		for i in $(seq 50); do
			turn
		done
		after=$(awk '/^Slab|^VmallocUsed|^Percpu/ { n += $2 } END { print n }' /proc/meminfo)
		echo "guest memory: $before KiB before, $after KiB after"
		[ $after -le $((before + 2000)) ] || die 'the guest loses memory'
		touch $work/last
		until_file $work/end
	EOF
	guest_await one first
	pid=${guest_pid[one]}
	sleep 0.3
	first=$(possessions "$pid")
	touch go
	guest_await one last
	sleep 0.3
	expect_no_more "$pid" "$first"
	expect_eq "helpers" "$(relay_of one)" ''
	expect_unlocked "$work/a.img"
	touch end
	guest_wait one
	expect_eq status "$status" 0
}

# Loading with devices that all fail leaves nothing either.
test_fifty_failures() {
	local pid
	local first

	image a.img 16M >/dev/null
	mkdir dir
	: >empty
	guest_start one "ubd0=$work/missing" "ubd1=$work/dir" "ubd2=$work/empty" "ubd3=$work/a.img,$work/b.img" <<-'EOF'
		load
		unload
		touch $work/first
		until_file $work/go
		for i in $(seq 50); do
			load
			unload
		done
		touch $work/last
		until_file $work/end
	EOF
	guest_await one first
	pid=${guest_pid[one]}
	sleep 0.3
	first=$(possessions "$pid")
	touch go
	guest_await one last
	sleep 0.3
	expect_no_more "$pid" "$first"
	touch end
	guest_wait one
	expect_eq status "$status" 0
}

test_busy() {
	image a.img 32M >/dev/null
	image b.img 32M >/dev/null
	guest one "ubd0=$work/a.img" "ubd1=$work/b.img" <<-'EOF'
		busy() {
			rmmod ubd 2>$work/rmmod && die "unloaded while $1"
			grep -q 'in use' $work/rmmod || die "unloading while $1: $(cat $work/rmmod)"
			[ -b /dev/ubda ]
		}
		load
		exec 9</dev/ubdb
		busy 'a disk is open'
		exec 9<&-
		mkfs.ext4 -q /dev/ubda
		mount /dev/ubda $mnt
		busy 'a disk is mounted'
		echo text >$mnt/file
		umount $mnt
		mkswap /dev/ubdb >/dev/null
		swapon /dev/ubdb
		busy 'there is swap'
		swapoff /dev/ubdb
		losetup /dev/loop0 /dev/ubda
		busy 'a loop device is on it'
		losetup -d /dev/loop0
		for i in 1 2 3 4 5; do
			unload && break
			sleep 0.2
		done
		load
		mount /dev/ubda $mnt
		same content "$(cat $mnt/file)" text
		umount $mnt
		unload
		[ ! -e /dev/ubda ]
	EOF
}

# Twice at once: the second load is refused.
test_loaded_twice() {
	image a.img 16M >/dev/null
	guest one "ubd0=$work/a.img" <<-'EOF'
		load
		refused load
		"$tool" pattern write /dev/ubda 0 1024 1
		unload
	EOF
}

# Unloading while other processes come and go with requests of all kinds.
test_unload_races() {
	image a.img 16M >/dev/null
	guest one "ubd0=$work/a.img" <<-'EOF'
		for i in $(seq 15); do
			load
			for j in 1 2 3; do
				dd if=/dev/urandom of=/dev/ubda bs=64k count=20 seek=$((j * 20)) status=none 2>/dev/null &
			done
			cat /sys/kernel/debug/ubd/ubda/stats >/dev/null 2>&1 &
			until rmmod ubd 2>/dev/null; do
				:
			done
			wait
			[ ! -b /dev/ubda ] || die 'a disk without a driver'
			rm -f /dev/ubda
		done
	EOF
}

run_tests "$@"
