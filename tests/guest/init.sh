# SPDX-License-Identifier: GPL-2.0-only
#
# What a guest of the tests does first and last. Sourced by the script that is
# its init (lib.sh writes that), with the host's root as root file system. The
# test's own script comes after it; its status becomes that of the UML process.
# shellcheck shell=bash
set -eEu -o pipefail
export PATH=$test_root/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/ LC_ALL=C
stats_dir=/sys/kernel/debug/ubd

finish() {
	local status=$?

	trap - EXIT ERR
	echo "guest: $name ends with status $status"
	echo "$status" >/proc/exitcode
	"$tool" power off
}

# Mount points of the tests are under $mnt, which is the guest's alone.
mount_all() {
	mount -t proc proc /proc
	mount -t sysfs sysfs /sys
	mount -t devtmpfs devtmpfs /dev
	[ -e /dev/fd ] || ln -s /proc/self/fd /dev/fd
	mount -t debugfs debugfs /sys/kernel/debug
	mount -t tmpfs tmpfs "$mnt"
	case $work in
	/run/*) ;;
	*) mount -t tmpfs tmpfs /run ;;
	esac
}

# load [PARAMETER...]
load() {
	# shellcheck disable=SC2086 # words; what comes later counts
	insmod "$module" $test_args "$@"
}

unload() {
	rmmod "$(basename "$module" .ko)"
}

# stat_of DISK COUNTER
stat_of() {
	awk -v name="$2" '$1 == name { print $2; found = 1 } END { exit !found }' "$stats_dir/$1/stats"
}

# fault DISK TEXT: see core/fault.hh
fault() {
	echo "$2" >"$stats_dir/$1/fault"
}

# plug NAME FILE=VALUE...: a disk of hot plug, described and switched on; sets $disk.
plug() {
	local dir=/sys/kernel/config/ubd/$1
	local word

	[ -d /sys/kernel/config/ubd ] || mount -t configfs configfs /sys/kernel/config
	[ -d "$dir" ] || mkdir "$dir"
	shift
	for word in "$@"; do
		echo "${word#*=}" >"$dir/${word%%=*}"
	done
	echo 1 >"$dir/power" || return 1
	disk=$(cat "$dir/disk")
}

# unplug NAME
unplug() {
	echo 0 >"/sys/kernel/config/ubd/$1/power"
	rmdir "/sys/kernel/config/ubd/$1"
}

# swap_to DISK
swap_to() {
	mkswap "$1" >/dev/null
	swapon "$1"
}

# failer failslab|fail_page_alloc FILE VALUE...: debug kernel
failer() {
	local dir=/sys/kernel/debug/$1

	shift
	while [ $# -gt 0 ]; do
		echo "$2" >"$dir/$1"
		shift 2
	done
}

# Each allocation of the driver's own two kinds fails.
fail_slab() {
	echo 1 >/sys/kernel/slab/ubd_header/failslab
	echo 1 >/sys/kernel/slab/ubd_chunk/failslab
	failer failslab verbose 0 ignore-gfp-wait Y cache-filter Y times $most_faults probability 100
}

# Each allocation of pages fails that may not wait, as those for the driver.
fail_pages() {
	failer fail_page_alloc verbose 0 ignore-gfp-wait Y min-order 0 times $most_faults probability 100
}
most_faults=1000000000

# Ends that, and prints how many failed: injected failslab|fail_page_alloc
faults_end() {
	local left

	failer "$1" probability 0
	left=$(cat "/sys/kernel/debug/$1/times")
	echo $((most_faults - left))
}

# No memory of the driver's is left behind; kmemleak tells what is older than
# five seconds.
no_leaks() {
	sleep 6
	echo scan >/sys/kernel/debug/kmemleak
	echo scan >/sys/kernel/debug/kmemleak
	cat /sys/kernel/debug/kmemleak >"$work/leaks"
	! grep -q ubd "$work/leaks" || die "memory is left: $(head -n 20 "$work/leaks")"
}

# Lockdep gives up at its first complaint, and is silent from then on.
lockdep_is_on() {
	grep -q 'debug_locks: *1' /proc/lockdep_stats || die 'lockdep is off'
}

die() {
	echo "guest: FAILED: $*"
	exit 1
}

# same WHAT GOT WANTED
same() {
	[ "$2" = "$3" ] || die "$1: is '$2', should be '$3'"
}

# refused COMMAND...: it has to fail
refused() {
	if "$@"; then
		die "should have failed: $*"
	fi
}

# until_file FILE: the host says go
until_file() {
	until [ -e "$1" ]; do
		sleep 0.05
	done
}

mount_all
trap finish EXIT
trap 'echo "guest: FAILED: line $LINENO of ${BASH_SOURCE[0]}: $BASH_COMMAND"' ERR
