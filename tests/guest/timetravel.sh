#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Time travel: in a kernel whose clock is its own, all that the driver does takes no
# time of the guest's, however long the host takes; so a run can be repeated exactly.
. "$(dirname "$0")/lib.sh"
. "$guest_dir/forgetful.sh"
default_limit=150
for name in twice slow_host modes exact slow_disk hang lock; do
	property[$name]=full
done

use_timetravel() {
	kernel=$cache/timetravel/linux
	module=$top/build/timetravel/ubd.ko
	[ -x "$kernel" ] || fail "no kernel for time travel ($kernel); make kernel-timetravel"
	[ -e "$module" ] || fail "no module for it ($module); make modules-timetravel"
}

# In the guest: work NAME works on a raw disk and a COW disk, and notes in NAME.notes
# what the clock says at each step, and at the end what the disks counted.
work_script='
note() {
	echo "$(date +%s.%N) $(cut -d " " -f 1 /proc/uptime) $*" >>$work/$name.notes
}
on_disk() {
	mkfs.ext4 -q -U 01234567-89ab-cdef-0123-456789abcdef -E hash_seed=01234567-89ab-cdef-0123-456789abcdef /dev/$1
	note "$1 has a file system"
	mkdir -p $mnt/$1
	mount /dev/$1 $mnt/$1
	for i in 1 2 3 4 5; do
		dd if=$work/noise of=$mnt/$1/$i bs=64k count=32 status=none
		[ $i != 3 ] || sync
		note "$1 has file $i"
	done
	sleep 7
	note "$1 after a nap"
	rm $mnt/$1/[24]
	fstrim $mnt/$1
	dd if=/dev/zero of=$mnt/$1/direct bs=4k count=100 oflag=direct,dsync status=none
	note "$1 was trimmed and written to"
	echo 3 >/proc/sys/vm/drop_caches
	for i in 1 3 5; do
		cmp -n 2097152 $work/noise $mnt/$1/$i
	done
	note "$1 is as it was written"
	umount $mnt/$1
	note "$1 is done"
}
load
on_disk ubda
on_disk ubdb
{ dd if=/dev/ubda of=/dev/null bs=128k status=none; note a; } &
{ dd if=/dev/ubdb of=/dev/null bs=32k status=none; note b; } &
wait
for disk in ubda ubdb; do
	grep -s . /sys/block/$disk/ubd/* | grep -v "memory\|bitmap_reserved\|/path:\|/backing:\|submit_calls" >>$work/$name.notes || true
done
unload
note end
'

# travel NAME MODE: one such run, on new files. The tool's noise is the same each time.
travel() {
	rm -f a.img b.cow
	truncate -s 64M a.img
	"$top/build/ubd-cow" create b.cow base.img >/dev/null
	guest_start "$1" "time-travel$2" time-travel-start=1000000000000000000 norandmaps "ubd0=$work/a.img" "ubd1=$work/b.cow" \
		<<-EOF
			$work_script
		EOF
}

# How much memory a UML guest finds depends on where the host puts the process.
fix_addresses() {
	setarch -R true 2>/dev/null || skip 'the host lets nobody choose addresses that are the same each time (setarch -R)'
	launcher=(setarch -R)
}

prepare() {
	use_timetravel
	fix_addresses
	truncate -s 64M base.img
	dd if=/dev/urandom of=noise bs=1M count=2 status=none
	touch -d @1000000000 base.img
}

travelled() {
	guest_wait "$1"
	expect_eq "status of guest $1" "$status" 0
	expect_once "$1" 'ubd: time travel: completions are awaited at once, so that nothing depends on the host.s clock'
	[ "$(wc -l <"$1.notes")" -gt 100 ] || fail "guest $1 noted nothing"
}

# same_runs ONE TWO: what was done and counted is the same, and the clock was, but for
# some of its own readings: each takes 256 ns, and UML makes some more or less in each
# run (without our disks, too: on a loop device).
same_runs() {
	paste -d '|' "$1.notes" "$2.notes" | awk -F '|' '
		{
			split($1, a, " ")
			split($2, b, " ")
			off = a[1] > b[1] ? a[1] - b[1] : b[1] - a[1]
			if ($1 ~ /^[0-9]/ && off < 5e-6) {
				sub(/^[^ ]* /, "", $1)
				sub(/^[^ ]* /, "", $2)
			}
			if ($1 != $2) {
				print $1 " is not " $2
				bad = 1
			}
		}
		END { exit bad }' || fail "guests $1 and $2 differ"
}

test_twice() {
	prepare
	travel one =inf-cpu
	travelled one
	travel two =inf-cpu
	travelled two
	same_runs one two
	grep -q '^/sys/block/ubda/ubd/interrupts:0$' one.notes || fail 'there were interrupts of the disk'
}

# The same clock at each step, though the host stops again and again.
test_slow_host() {
	local pid

	prepare
	travel one =inf-cpu
	travelled one
	travel two =inf-cpu
	pid=${guest_pid[two]}
	while kill -STOP "$pid" 2>/dev/null; do
		sleep 0.05
		kill -CONT "$pid" 2>/dev/null || break
		sleep "0.0$((RANDOM % 10))"
	done
	travelled two
	same_runs one two
}

# In the other mode, too, in which programs take time.
test_modes() {
	prepare
	travel one ''
	travelled one
}

# In the guest: `step WHAT` notes the time by the guest's clock, `figures` what the
# driver counted; all goes to the file steps. What is random in a guest is no part of
# it: times at which the kernel does work of its own when it idles for seconds, and
# what ext4 puts into inodes.
# shellcheck disable=SC2016 # it is the guest's
exact_script='
step() {
	echo "$* at $(date +%s.%N)" >>$work/steps
}
figures() {
	(cd /sys/block/$1/ubd && grep -Hs . *) | grep -v "^path\|^backing\|^memory" | sed "s/^/$1 /" >>$work/steps || true
	step "$1 counted"
}
sums() {
	echo 1 >/proc/sys/vm/drop_caches
	step "$1 reads $(sha256sum <$1 | cut -d " " -f 1)"
}
change() {
	dd if=$work/noise of=/dev/$1 bs=64k count=64 status=none
	step "$1 written"
	sync /dev/$1
	step "$1 synced"
	dd if=$work/noise of=/dev/$1 bs=4k skip=1000 seek=2000 count=50 oflag=direct,dsync status=none
	step "$1 written directly"
	sums /dev/$1
	blkdiscard -o 1M -l 1M /dev/$1
	blkdiscard -z -o 3M -l 512k /dev/$1
	step "$1 discarded"
	sums /dev/$1
	dd if=$work/noise of=/dev/$1 bs=16k seek=500 count=20 oflag=direct status=none
	sleep 0.03
	step "$1 committed by its age"
	sums /dev/$1
	figures $1
}
files() {
	E2FSPROGS_FAKE_TIME=1000000000 mke2fs -q -t ext4 -U 00000000-0000-0000-0000-000000000001 -E \
		hash_seed=00000000-0000-0000-0000-000000000002,lazy_itable_init=0,lazy_journal_init=0 /dev/$1
	step "$1 has a file system"
	mount -o noinit_itable /dev/$1 $mnt
	for i in 1 2 3 4; do
		head -c $((i * 300000)) $work/noise >$mnt/$i &
	done
	wait
	step "four files"
	sync
	mv $mnt/1 $mnt/one
	rm $mnt/2
	umount $mnt
	mount -o ro /dev/$1 $mnt
	step "files $(cd $mnt && sha256sum one 3 4 | cut -c 1-16 | xargs)"
	umount $mnt
	figures $1
}
load commit_ms=10
change ubda
change ubdb
files ubda
files ubdb
unload
'

# The same as `change` on the file $1, by the host itself: its sums, in order.
expected() {
	truncate -s 16M "$1"
	dd if=noise of="$1" bs=64k count=64 conv=notrunc status=none
	dd if=noise of="$1" bs=4k skip=1000 seek=2000 count=50 conv=notrunc status=none
	checksum "$1"
	dd if=/dev/zero of="$1" bs=1M seek=1 count=1 conv=notrunc status=none
	dd if=/dev/zero of="$1" bs=512k seek=6 count=1 conv=notrunc status=none
	checksum "$1"
	dd if=noise of="$1" bs=16k seek=500 count=20 conv=notrunc status=none
	checksum "$1"
}

# exactly DIRECTORY: begins such a run, on new disks there
exactly() {
	[ -e noise ] || noise noise 8
	rm -f "$1"/*
	truncate -s 16M "$1/a.img"
	cp noise "$1/base.img"
	truncate -s 16M "$1/base.img"
	: >steps
	guest_start one time-travel=inf-cpu time-travel-start=1000000000 norandmaps "ubd0=$1/a.img" \
		"ubd1=$1/b.cow,$1/base.img" <<-EOF
			$exact_script
		EOF
}

# exactly_done NAME: it ends well; its steps are kept under that name
exactly_done() {
	guest_wait one
	expect_eq status "$status" 0
	mv steps "steps.$1"
}

# reads_right STEPS DISK FILE: what the disk read is what the host makes of the file
reads_right() {
	expect_eq "what $2 reads" "$(sed -n "s/.*$2 reads \\([0-9a-f]*\\) .*/\\1/p" "$1")" "$(expected "$3")"
}

# same_steps NAME NAME
same_steps() {
	cmp -s "steps.$1" "steps.$2" || fail "the runs differ: $(diff "steps.$1" "steps.$2" | sed -n 1,10p)"
}

# What is read is what was written, and each run is as the one before: each step at
# the same nanosecond, with all that was counted, calls of the host, too.
test_exact() {
	use_timetravel
	fix_addresses
	mkdir dsk
	exactly "$work/dsk"
	exactly_done first
	: >zeros
	reads_right steps.first ubda zeros
	cp noise base
	reads_right steps.first ubdb base
	exactly "$work/dsk"
	exactly_done second
	same_steps first second
}

# busy PID: as long as that runs, somebody else has the host's CPUs
busy() {
	local i

	for i in 1 2; do
		while kill -0 "$1"; do :; done 2>/dev/null &
	done
}

# By the guest's clock, a disk that takes 40 ms for each sync takes none.
limit[slow_disk]=240
test_slow_disk() {
	use_timetravel
	fix_addresses
	make_disk
	power_on 0 0
	exactly "$mnt"
	exactly_done fast
	unplug
	power_on 0 40
	exactly "$mnt"
	busy "${guest_pid[one]}"
	exactly_done slow
	unplug
	same_steps fast slow
}

# The host's disk hangs for seconds, and with it the guest, and its clock; it says so,
# once, and goes on. Then it is killed when it hangs again.
test_hang() {
	use_timetravel
	make_disk
	power_on
	truncate -s 16M "$mnt/a.img"
	guest_start one time-travel=inf-cpu "ubd0=$mnt/a.img" <<-'EOF'
		load
		now() {
			read -r up _ </proc/uptime
			echo "$up"
		}
		for i in 1 2; do
			touch $work/ready.$i
			until_file $work/hold.$i
			before=$(now)
			dd if=/dev/urandom of=/dev/ubda bs=4k count=1 oflag=direct status=none
			sync /dev/ubda
			same "seconds that the sync took" "$(now)" "$before"
			touch $work/synced.$i
		done
	EOF
	guest_await one ready.1
	tell_disk hold
	touch hold.1
	sleep 13
	[ ! -e synced.1 ] || fail 'the guest does not wait for the host'
	expect_once one "the host takes long for I/O, and the guest's clock stands"
	tell_disk release
	tell_disk pass
	guest_await one ready.2
	[ -e synced.1 ] || fail 'the sync did not end'
	tell_disk hold
	touch hold.2
	sleep 1
	[ ! -e synced.2 ] || fail 'the guest does not wait for the host'
	kill -KILL "${guest_pid[one]}"
	tell_disk release
	wait "${guest_pid[one]}" 2>/dev/null || true
	forget_guest one
	expect_no_trace
	expect_unlocked "$mnt/a.img"
	unplug
}

# A lock that another guest still has is waited for by the host's clock.
test_lock() {
	use_timetravel
	image a.img 1M >/dev/null
	"$tool" lock-hold a.img "$work/held" &
	until [ -e held ]; do
		sleep 0.01
	done
	{ sleep 2 && kill -KILL $!; } &
	guest one time-travel=inf-cpu "ubd0=$work/a.img" <<-'EOF'
		load
		[ -b /dev/ubda ]
	EOF
}

run_tests "$@"
