# SPDX-License-Identifier: GPL-2.0-only
#
# The host's side of the guest tests: starts guests and watches them, and runs
# the functions test_* of the file that sources this.
#
#	FILE.sh [TEST...]	run these, or all
#	FILE.sh --list		name, time limit in seconds and properties of each
#
# Before run_tests, a file may set limit[TEST]=SECONDS (or default_limit) and
# property[TEST] to some of: alone (no other test beside it), full (only in the long form).
# UBD_TEST_ARGS=PARAMETER... has each guest load the module with these, too.
# UBD_TEST_VARIANT is threads (all runs with that engine) or next (with kernels of the
# newest source). With either the directory is another one.
# Each test has a directory $work of its own. It passes if its function ends
# well and no kernel complained; skip ends it as not possible here.
# shellcheck shell=bash
set -u -o pipefail
ulimit -c 0
export LC_ALL=C TZ=UTC
PATH=$PATH:/usr/sbin:/sbin

guest_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$guest_dir/../.." && pwd)
cache=${UBD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ubd}
test_variant=${UBD_TEST_VARIANT:-}
release_name=release debug_name=debug compare_name=compare release_build= compare_ko=ubd.ko
if [ "$test_variant" = next ]; then
	release_name=next debug_name=next-debug compare_name=next-compare release_build=/next
	# See Kbuild.
	compare_ko=aubd.ko
fi
release_kernel=${UBD_RELEASE_KERNEL:-$cache/$release_name/linux}
debug_kernel=${UBD_DEBUG_KERNEL:-$cache/$debug_name/linux}
compare_kernel=${UBD_COMPARE_KERNEL:-$cache/$compare_name/linux}
release_module=${UBD_RELEASE_MODULE:-$top/build$release_build/ubd.ko}
debug_module=${UBD_DEBUG_MODULE:-$top/build/$debug_name/ubd.ko}
compare_module=${UBD_COMPARE_MODULE:-$top/build/$compare_name/$compare_ko}
smp_kernel=${UBD_SMP_KERNEL:-$cache/next-smp/linux}
smp_module=${UBD_SMP_MODULE:-$top/build/next-smp/ubd.ko}
test_root=${UBD_TEST_ROOT:-$top/build/test}
tool=$test_root/tool
test_args=${UBD_TEST_ARGS:-}
[ "$test_variant" != threads ] || test_args=engine=threads

# What the next guest is made of.
kernel=$release_kernel
module=$release_module
mem=256M
# A command in front of the kernel, such as setpriv.
launcher=()
# Seconds that a guest may take.
patience=100
# Seconds that tests with a long form take for it (0 is the short form), and
# what their chances begin with.
soak_seconds=${UBD_SOAK_SECONDS:-0}
soak_seed=${UBD_SOAK_SEED:-1}
# Seconds that a test may take.
default_limit=240
# Complaints of a kernel that a test expects.
expected_complaint=

declare -A limit=() property=() guest_pid=() guest_directory=()
status=0

fail() {
	echo "FAILED: $*" >&2
	exit 1
}

# Ends the test as one that cannot be done here.
skip() {
	echo "$*" >"$work/skip"
	exit 77
}

# expect_eq WHAT GOT WANTED
expect_eq() {
	[ "$2" = "$3" ] || fail "$1: is '$2', should be '$3'"
}

# The engine that a disk has here if nobody chooses one: as containers do it, the host
# may forbid io_uring. What a test expects of a disk's line means this one by ", io_uring".
own_engine=
find_own_engine() {
	own_engine=threads
	[ "$test_variant" = threads ] || ! "$tool" has-io-uring || own_engine=io_uring
}

needs_uring() {
	"$tool" has-io-uring || skip 'the host forbids io_uring'
}

# log_count NAME PATTERN: lines of the guest's log that match
log_count() {
	grep -aEc -- "${2//, io_uring/, $own_engine}" "$work/$1.log" || true
}

expect_log() {
	[ "$(log_count "$1" "$2")" -gt 0 ] || fail "guest $1 does not say: $2"
}

# expect_once NAME PATTERN: exactly one line says so
expect_once() {
	local n

	n=$(log_count "$1" "$2")
	[ "$n" = 1 ] || fail "guest $1 says $n times, not once: $2"
}

expect_silent() {
	[ "$(log_count "$1" "$2")" = 0 ] || fail "guest $1 should not say: $(grep -aE -m1 -- "$2" "$work/$1.log")"
}

# The debug kernel, in which faults can be injected.
use_debug() {
	[ -x "$debug_kernel" ] || fail "no debug kernel ($debug_kernel); make kernel-$debug_name"
	[ -e "$debug_module" ] || fail "no module for the debug kernel ($debug_module); make modules-$debug_name"
	kernel=$debug_kernel
	module=$debug_module
	mem=512M
}

# A kernel that has the driver of its own built in.
use_compare() {
	[ -x "$compare_kernel" ] || fail "no kernel to compare with ($compare_kernel); make kernel-$compare_name"
	[ -e "$compare_module" ] || fail "no module for the kernel to compare with ($compare_module); make modules-$compare_name"
	kernel=$compare_kernel
	module=$compare_module
}

# A kernel for several CPUs; guests are started with $two_cpus.
use_smp() {
	[ -x "$smp_kernel" ] || fail "no kernel for several CPUs ($smp_kernel); make kernel-next-smp"
	[ -e "$smp_module" ] || fail "no module for several CPUs ($smp_module); make modules-next-smp"
	kernel=$smp_kernel
	module=$smp_module
	mem=512M
}
two_cpus=(seccomp=on ncpus=2)

use_release() {
	kernel=$release_kernel
	module=$release_module
	mem=256M
}

# image NAME SIZE: prints its path
image() {
	truncate -s "$2" "$work/$1"
	echo "$work/$1"
}

# small_host SIZE: the next guest sees a tmpfs of that size at $work/small, which
# nobody else sees, and which goes with it. What it holds at first comes from
# the script on stdin.
small_host() {
	local how=-m

	[ "$(id -u)" = 0 ] || how=-Urm
	mkdir -p "$work/small"
	unshare $how true 2>/dev/null || skip "no mount namespace may be made here (unshare $how)"
	launcher=(unshare $how bash -c "mount -t tmpfs -o size=$1 tmpfs $work/small && . $work/prepare && exec \"\$@\"" --)
	cat >"$work/prepare"
}

# noise FILE MIB [OFFSET_MIB]: fills a part of an image with what does not repeat
noise() {
	dd if=/dev/urandom of="$1" bs=1M count="$2" seek="${3:-0}" conv=notrunc status=none
}

# A copy of this tree with what was built in it, as ./copy: for what changes a tree.
tree_copy() {
	mkdir copy
	tar -C "$top" --exclude=./build/test --exclude=./build/soak --exclude=./build/bench --exclude=./build/run \
		--exclude=./.git -cf - . | tar -C copy -xf -
}

checksum() {
	sha256sum <"$1" | cut -d ' ' -f 1
}

# KiB that a file has on the host
allocated() {
	du -k "$1" | cut -f 1
}

write_init() {
	local name=$1

	{
		echo '#!/bin/bash'
		declare -p name work tool module top guest_dir test_root test_args soak_seconds soak_seed
		echo "mnt=$work/$name.mnt"
		echo ". $guest_dir/init.sh"
		echo ". $work/$name.sh"
	} >"$work/$name.init"
	chmod +x "$work/$name.init"
}

# guest_start NAME WORD...: the guest's script comes from stdin.
guest_start() {
	mkdir -p "$work/$1.mnt"
	cat >"$work/$1.sh"
	write_init "$1"
	launch "$@"
}

# guest_start_bare NAME WORD... -- ARGUMENT...: a guest without a shell, whose
# first process is the tool with these arguments.
guest_start_bare() {
	ln -sf "$tool" "$work/$1.init"
	launch "$@"
}

# launch NAME WORD...
launch() {
	local name=$1
	local sockets

	shift
	sockets=$(mktemp -d "${TMPDIR:-/tmp}/ubd-test.XXXXXX")
	chmod 777 "$sockets"
	guest_directory[$name]=$sockets
	"${launcher[@]}" "$kernel" "mem=$mem" root=/dev/root rootfstype=hostfs rootflags=/ rw \
		"init=$work/$name.init" con=null con0=fd:0,fd:1 loglevel=7 "uml_dir=$sockets" "umid=$name" "$@" \
		</dev/null >"$work/$name.log" 2>&1 &
	guest_pid[$name]=$!
}

# Where a guest stands that does not go on. UML 6.12 can lose its host timer:
# then its jiffies do not move.
diagnose() {
	local name=$1
	local pid=${guest_pid[$name]}
	local i

	echo "guest $name (process $pid) stands; its last lines:"
	tail -n 25 "$work/$name.log"
	grep -E 'State|Threads|SigBlk|SigPnd|ShdPnd' "/proc/$pid/status" || true
	cat "/proc/$pid/wchan" 2>/dev/null && echo
	if command -v gdb >/dev/null; then
		for i in 1 2; do
			timeout 20 gdb -p "$pid" -batch -ex 'p *(unsigned long *)&jiffies_64' -ex 'x/i $pc' -ex bt 2>/dev/null |
				grep -E '^(\$1|=>|#)' | head -n 15 || true
			sleep 2
		done
	fi
}

# Waits until a process is gone; false if it outlives the deadline (in SECONDS).
wait_gone() {
	while kill -0 "$1" 2>/dev/null; do
		[ "$SECONDS" -lt "$2" ] || return 1
		sleep 0.05
	done
}

# guest_wait NAME: sets $status; a guest that does not end fails the test.
guest_wait() {
	local name=$1
	local pid=${guest_pid[$name]}

	if ! wait_gone "$pid" $((SECONDS + patience)); then
		diagnose "$name"
		fail "guest $name did not end within $patience s"
	fi
	status=0
	wait "$pid" || status=$?
	forget_guest "$name"
	check_complaints "$name"
}

forget_guest() {
	rm -rf "${guest_directory[$1]}"
	unset "guest_pid[$1]"
}

# No kernel of a test may complain, unless that is what the test is about.
check_complaints() {
	local lines

	lines=$(grep -aE "$complaints" "$work/$1.log" | grep -avE "${expected_complaint:-^$}" | head -n 5) || true
	[ -z "$lines" ] || fail "guest $1 complains: $lines"
}
# What a part of a guest's script in the background says, whose status nobody takes, counts, too.
complaints='^guest: FAILED|BUG|WARNING:|KASAN|UBSAN|Oops|Kernel panic|Call Trace|INFO: task|possible (recursive|circular|irq)|general protection|kmemleak: [1-9]|broken invariant|Segfault'

# guest NAME WORD...: runs one to its end, which has to be a good one.
guest() {
	guest_start "$@"
	guest_wait "$1"
	[ "$status" = 0 ] || fail "guest $1 ended with status $status"
}

# guest_await NAME FILE: waits until the guest has made the file (in $work)
guest_await() {
	local until=$((SECONDS + patience))

	until [ -e "$work/$2" ]; do
		if ! kill -0 "${guest_pid[$1]}" 2>/dev/null; then
			fail "guest $1 ended before it made $2"
		fi
		if [ "$SECONDS" -ge "$until" ]; then
			diagnose "$1"
			fail "guest $1 did not make $2 within $patience s"
		fi
		sleep 0.05
	done
}

# streams_await GUEST STREAM...: these have found what is there, and write on
streams_await() {
	local guest=$1
	local stream
	local until=$((SECONDS + patience))

	shift
	for stream in "$@"; do
		until [ -e "$work/$stream.up" ]; do
			kill -0 "${guest_pid[$guest]}" 2>/dev/null && [ "$SECONDS" -lt "$until" ] ||
				fail "guest $guest: stream $stream does not begin: $(tail -n 20 "$work/$guest.log")"
			sleep 0.02
		done
	done
}

# streams_right GUEST: it is gone, nothing was wrong, and what its streams found
# is kept
streams_right() {
	! grep -aq 'tool:' "$work/$1.log" || fail "guest $1: $(grep -a 'tool:\|^stream' "$work/$1.log")"
	check_complaints "$1"
	grep -a '^stream ' "$work/$1.log" >>"$work/found"
	rm -rf "$work/$1".*
}

# The relays of guests that a test started: their memory is the guest's, so
# their command line names the test's directory.
relays() {
	local pid

	for pid in $(pgrep -x ubd-relay || true); do
		if tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF "$work/"; then
			echo "$pid"
		fi
	done
}

# relay_of NAME: the guest's helper process
relay_of() {
	pgrep -x -P "${guest_pid[$1]}" ubd-relay || true
}

# orphan PID: it has ended, and waits for an init process that does not look, as in
# a container whose first process is not made for it.
orphan() {
	local status

	status=$(tr '\t' ' ' 2>/dev/null <"/proc/$1/status") || return 1
	grep -qx 'State: Z.*' <<<"$status" && grep -qx 'PPid: 1' <<<"$status"
}

# expect_no_trace PID...: these processes are gone, as zombies too, and no relay of
# this test is left.
expect_no_trace() {
	local until=$((SECONDS + 5))
	local pid

	for pid in "$@" $(relays); do
		while [ -e "/proc/$pid" ] && ! orphan "$pid"; do
			[ "$SECONDS" -lt "$until" ] ||
				fail "process $pid is left: $(grep -E 'Name|State|PPid' "/proc/$pid/status" | tr '\n\t' '  ')"
			sleep 0.05
		done
	done
}

# expect_unlocked FILE: within some seconds
expect_unlocked() {
	"$tool" lock-wait "$1" 5 || fail "$1 is still locked: $(grep ":$(stat -c %i "$1") " /proc/locks)"
}

# What is left of guests of this test, such as a stub whose kernel was killed
# just when it made it: UML 6.12 forgets those. Found by their command line.
end_leftovers() {
	local pid

	for pid in $(pgrep -x linux || true); do
		if tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF "init=$work/"; then
			kill -KILL "$pid" 2>/dev/null || true
		fi
	done
}

end_guests() {
	local name

	for name in "${!guest_pid[@]}"; do
		kill -KILL "${guest_pid[$name]}" 2>/dev/null || true
		wait "${guest_pid[$name]}" 2>/dev/null || true
		rm -rf "${guest_directory[$name]}"
	done
}

# Who has a file open or locked, for the log of a test that failed.
tell_holders() {
	local inode pid

	inode=$(stat -c %i "$1") || return 0
	echo "locks on $1:"
	grep ":$inode " /proc/locks || echo "none"
	for pid in $(find /proc/[0-9]*/fd -lname "$1" 2>/dev/null | cut -d / -f 3 | sort -u); do
		echo "open in $pid: $(grep -E '^(Name|State|PPid|TracerPid)' "/proc/$pid/status" | tr '\n\t' '  ')"
	done
}

# What a test has to undo when it ends, in whatever way; the last comes first.
undo_list=()
# What keeps guests from ending, and is to be undone before they are ended.
release_list=()
# Files whose holders are of interest when a test fails.
tell_about=()
at_end() {
	undo_list=("$*" "${undo_list[@]}")
}

end_test() {
	local status=$?
	local undo

	trap - EXIT ERR
	set +e
	if [ "$status" != 0 ] && [ "$status" != 77 ]; then
		for undo in "${tell_about[@]}"; do
			tell_holders "$undo"
		done
	fi
	for undo in "${release_list[@]}"; do
		eval "$undo" || true
	done
	end_guests
	end_leftovers
	for undo in "${undo_list[@]}"; do
		eval "$undo" || true
	done
	exit "$status"
}

run_test() {
	(
		set -eE
		work=$test_root/$(basename "$0" .sh).$1${test_args:+@${test_args##*=}}
		[ -z "$test_variant" ] || work=${work%@*}@$test_variant
		rm -rf "$work"
		mkdir -p "$work"
		cd "$work" || exit 1
		trap end_test EXIT
		trap 'exit 143' TERM INT
		trap 'echo "FAILED: line $LINENO of ${BASH_SOURCE[0]}: $BASH_COMMAND" >&2' ERR
		"test_$1"
	)
}

list_tests() {
	local name

	for name in $(declare -F | sed -n 's/^declare -f test_//p'); do
		echo "$name ${limit[$name]:-$default_limit} ${property[$name]:-}"
	done
}

# Also copies of the set-uid programs that guests need: where the host's root is
# mapped to nobody, they would become nobody's. Tests that run side by side do
# this at once, so each file appears whole, by its name.
build_tool() {
	local name

	mkdir -p "$test_root/bin"
	for name in mount umount; do
		if [ ! -e "$test_root/bin/$name" ]; then
			cp "$(command -v $name)" "$test_root/bin/$name.$$" &&
				mv "$test_root/bin/$name.$$" "$test_root/bin/$name" || return 1
		fi
	done
	if [ ! -e "$tool" ] || [ "$guest_dir/tool.cc" -nt "$tool" ] || [ "$guest_dir/sector.hh" -nt "$tool" ]; then
		g++ -std=c++20 -O2 -Wall -Wextra -o "$tool.$$" "$guest_dir/tool.cc" && mv "$tool.$$" "$tool"
	fi
}

run_tests() {
	local name
	local failed=0

	if [ "${1:-}" = --list ]; then
		list_tests
		exit 0
	fi
	build_tool || exit 1
	find_own_engine
	if [ $# = 1 ]; then
		declare -F "test_$1" >/dev/null || fail "$0 has no test $1"
		run_test "$1"
		exit $?
	fi
	[ $# -gt 0 ] || set -- $(list_tests | cut -d ' ' -f 1)
	for name in "$@"; do
		run_test "$name" >"$test_root/$(basename "$0" .sh).$name.out" 2>&1
		case $? in
		0) echo "ok   $name" ;;
		77) echo "skip $name: $(cat "$test_root/$(basename "$0" .sh).$name/skip")" ;;
		*)
			echo "FAIL $name"
			tail -n 30 "$test_root/$(basename "$0" .sh).$name.out"
			failed=1
			;;
		esac
	done
	exit $failed
}
