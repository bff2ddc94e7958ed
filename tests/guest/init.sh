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
	insmod "$module" "$@"
}

unload() {
	rmmod ubd
}

# stat_of DISK COUNTER
stat_of() {
	awk -v name="$2" '$1 == name { print $2; found = 1 } END { exit !found }' "$stats_dir/$1/stats"
}

# fault DISK TEXT: see core/fault.hh
fault() {
	echo "$2" >"$stats_dir/$1/fault"
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
