#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Time travel: in a kernel whose clock is its own, all that the driver does takes no
# time of the guest's, however long the host takes; so a run can be repeated exactly.
. "$(dirname "$0")/lib.sh"
default_limit=150
for name in twice slow_host modes; do
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

prepare() {
	use_timetravel
	# How much memory a UML guest finds depends on where the host puts the process.
	setarch -R true 2>/dev/null || skip 'the host lets nobody choose addresses that are the same each time (setarch -R)'
	launcher=(setarch -R)
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

run_tests "$@"
