#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# A crash of the host, for real calls of a real driver: what it hands to the host
# is recorded (debug kernel; core/record.hh) while many threads write, discard,
# make zeros and flush on a COW disk. ubd-replay (tests/crash/replay) then crashes
# the host after each entry of that record and looks at all that the COW file may
# be then.
. "$(dirname "$0")/lib.sh"

default_limit=$((120 + 2 * soak_seconds))
expected_complaint='I/O error, dev|Buffer I/O error'
replay=$top/build/crash/ubd-replay
record_bytes=$((48 << 20))
# Of the disk, and of the driver.
flags=
parameters=

# Tests run side by side, and share what is built.
build_replay() {
	(
		flock 9
		make -s -C "$top/tests/crash" replay
	) 9>"$test_root/replay.lock"
}

# record_storm SEED OPERATIONS RULES: leaves start.cow, record and journal
record_storm() {
	rm -f a.cow start.cow record journal ./*.img
	image base.img 64M >/dev/null
	guest "seed$1" "ubd0$flags=$work/a.cow,$work/base.img" <<-EOF
		load $parameters
		# Some sectors are there from the beginning.
		"\$tool" storm /dev/ubda - /dev/null $(($1 + 1000)) 150 1
		unload
		$replay --plant $work/a.cow
		cp --sparse=always $work/a.cow $work/start.cow
		# Commits that nobody asked for, too.
		load commit_ms=10 $parameters
		record=\$stats_dir/ubda/record
		echo 'on $record_bytes' >\$record
		refused cat \$record
		[ -z "$3" ] || fault ubda '$3'
		"\$tool" storm /dev/ubda \$record $work/journal $1 $2 1000000 ${flags:+through} >$work/storm
		fault ubda off
		echo off >\$record
		cat \$record >$work/record
		unload
	EOF
}

# crash_hosts SEED OPERATIONS RULES [FAILURES]: until the time of the long form
# is over; FAILURES: operations of the guest are to fail, else none
crash_hosts() {
	local seed=$1
	local end=$((SECONDS + soak_seconds))
	local failures

	use_debug
	build_replay
	: >figures
	while :; do
		record_storm "$seed" "$2" "$3"
		"$replay" --seed "$seed" start.cow record journal >replayed || {
			cat replayed
			fail "seed $seed: a promise was broken; the files are in $work"
		}
		cat storm replayed >>figures
		failures=$(sed -n 's/^storm: .* operations, \([0-9]*\) failed$/\1/p' storm)
		if [ -n "${4:-}" ]; then
			[ "$failures" -gt 0 ] || fail "seed $seed: no operation failed"
			expect_log "seed$seed" 'the host failed to make data durable'
		else
			expect_eq "operations that failed, seed $seed" "$failures" 0
		fi
		seed=$((seed + 1))
		[ "$SECONDS" -lt "$end" ] || break
	done
}

# Each bug that is put into the record is found, by each of the two checks.
bugs_are_found() {
	local bug check
	local found=0

	for bug in $("$replay" --bugs | cut -f 1); do
		for check in pairs states; do
			status=0
			"$replay" --bug "$bug" --check "$check" start.cow record journal >bug.out || status=$?
			expect_eq "status with the bug $bug, looked for by $check" "$status" 1
			grep -q '^BROKEN: ' bug.out || fail "the bug $bug is not described: $(cat bug.out)"
		done
		found=$((found + 1))
	done
	[ "$found" -gt 0 ] || fail 'there are no bugs to be found'
	echo "$found bugs put into the record, each found by both checks" >>figures
}

test_host() {
	crash_hosts "$soak_seed" 3000 ''
	bugs_are_found
}

# What passes by itself: short and late transfers, interrupted calls.
test_host_transient() {
	crash_hosts $((soak_seed + 100)) 1500 \
		'write short chance=10; sync errno=4 chance=20; any errno=11 chance=5; any delay=10 chance=10'
}

# Writes of data and of bits that find no space, and an fdatasync that fails:
# after that nothing may be promised any more.
test_host_errors() {
	crash_hosts $((soak_seed + 200)) 2000 'write errno=28 chance=4; sync errno=5 after=100 times=1' FAILURES
}

# Each write is durable when it has ended, though fdatasyncs are tried again.
test_host_through() {
	flags=s
	crash_hosts $((soak_seed + 300)) 1000 'sync errno=4 delay=10 chance=20'
}

# Those that share a commit that fails are all told.
test_host_through_errors() {
	flags=s
	crash_hosts $((soak_seed + 400)) 1500 'write errno=28 chance=25; sync errno=5 after=200 times=1' FAILURES
}

# By O_DIRECT, with what is short and late there.
test_host_direct() {
	parameters=cache=none
	crash_hosts $((soak_seed + 500)) 1500 'write short chance=10; sync errno=4 chance=20; any delay=10 chance=10'
	expect_log "seed$((soak_seed + 500))" 'ubda: .*, none, (io_uring|threads)'
	bugs_are_found
}

run_tests "$@"
