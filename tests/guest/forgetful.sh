# SPDX-License-Identifier: GPL-2.0-only
#
# The file system that forgets (forgetful.cc) as a test's disk of the host. Sourced
# by tests.
# shellcheck shell=bash disable=SC2034,SC2154 # of others

forgetful=$test_root/forgetful

build_forgetful() {
	[ -e /usr/include/fuse3/fuse_lowlevel.h ] || skip "libfuse3 is not installed here (libfuse3-dev)"
	if [ ! -e "$forgetful" ] || [ "$guest_dir/forgetful.cc" -nt "$forgetful" ]; then
		g++ -std=c++20 -O2 -Wall -Wextra -I/usr/include/fuse3 -o "$forgetful.$$" "$guest_dir/forgetful.cc" \
			-lfuse3 && mv "$forgetful.$$" "$forgetful"
	fi
}

# What is in $work/disk is durable, and seen at $mnt while there is power.
make_disk() {
	build_forgetful
	mnt=$work/mnt
	mkdir disk mnt
}

# power_on [SEED [MS]]: see forgetful.cc
power_on() {
	local until=$((SECONDS + patience))
	local ended=0

	echo "power on: ${*:-0}" >>power.log
	"$forgetful" "$work/disk" "$mnt" "${@:-0}" >>power.log 2>&1 &
	disk_pid=$!
	release_list=("kill $disk_pid 2>/dev/null; wait $disk_pid")
	until [ -e "$mnt/.power" ]; do
		if ! kill -0 "$disk_pid" 2>/dev/null; then
			wait "$disk_pid" || ended=$?
			[ "$ended" != 77 ] || skip "FUSE cannot be mounted here: $(tail -n 1 power.log)"
			fail "the file system ended with $ended: $(tail -n 1 power.log)"
		fi
		[ "$SECONDS" -lt "$until" ] || fail 'the file system is not there'
		sleep 0.01
	done
}

# What still waits for it ends with it. What was not durable is lost.
unplug() {
	kill "$disk_pid" 2>/dev/null || true
	wait "$disk_pid" || fail "the file system ended with $?: $(tail -n 1 power.log)"
	release_list=()
}

tell_disk() {
	echo "$1" >"$mnt/.power"
}

# disk_has WORD: a number from the disk's report
disk_has() {
	awk -v word="$1" '$1 == word { print $2 }' "$mnt/.power"
}
