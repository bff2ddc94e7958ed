#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# What a guest of the benchmark runs as its init: it mounts, then does what comes
# as lines on its second console, /dev/tty1, which is a pipe to guests.py.
# After each line it answers "#end STATUS". The caller's environment is at the
# head of a copy of this file: $bin, with copies of mount and umount, and $mnt.
set -u
: "${bin:?}" "${mnt:?}"
export PATH=$bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/ LC_ALL=C TERM=dumb
ulimit -c 0

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
[ -e /dev/fd ] || ln -s /proc/self/fd /dev/fd
mkdir -p /dev/shm
mount -t tmpfs tmpfs /dev/shm
mount -t debugfs debugfs /sys/kernel/debug
mount -t tmpfs tmpfs "$mnt"
stty raw -echo </dev/tty1
exec 9<>/dev/tty1

# one WORD...: a load of load/, and what the guest counted before and after.
# Builtins alone: no program of the guest runs beside it.
one() {
	local result=
	local disk=${*#*dev=/dev/}

	disk=${disk%% *}
	counts before "$disk"
	exec 3<>/sys/kernel/debug/ubd_load
	echo "$*" >&3 && read -r result <&3
	exec 3>&-
	counts after "$disk"
	echo "result $result"
}

# several DEVICE[,DEVICE]... WORD...: the same on several devices at once
several() {
	local devices=${1//,/ }
	local device disks
	local jobs=()

	shift
	disks=${devices//\/dev\//}
	# shellcheck disable=SC2086 # several words
	counts before $disks
	for device in $devices; do
		(
			exec 3<>/sys/kernel/debug/ubd_load
			echo "dev=$device $*" >&3 && read -r result <&3 && echo "result $result"
		) &
		jobs+=($!)
	done
	wait "${jobs[@]}"
	# shellcheck disable=SC2086
	counts after $disks
}

# counts WORD DISK...: interrupts of the guest, and the statistics of disks of ours
counts() {
	local word=$1
	local lines disk

	shift
	mapfile -t lines </proc/interrupts
	printf "$word irq %s\n" "${lines[@]:1}"
	for disk; do
		[ -e "/sys/kernel/debug/ubd/$disk/stats" ] || continue
		mapfile -t lines <"/sys/kernel/debug/ubd/$disk/stats"
		printf "$word stat $disk %s\n" "${lines[@]}"
	done
}

power_off() {
	echo o >/proc/sysrq-trigger
	sleep 1000
}

echo '#ready' >&9
while IFS= read -r line <&9; do
	eval "$line" >&9 2>&1
	printf '\n#end %s\n' "$?" >&9
done
power_off
