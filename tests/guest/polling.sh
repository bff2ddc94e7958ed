#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Who looks for completions, or works beside the guest: what it costs the host's
# CPU, and that the guest is well without it.
. "$(dirname "$0")/lib.sh"

default_limit=180

# CPU time of a guest's process until now, in ticks: ten milliseconds
cpu_ticks() {
	awk '{ print $14 + $15 }' "/proc/${guest_pid[$1]}/stat"
}

# An operation that the host takes long for is looked for no longer than for the
# window; then the guest's CPU is idle.
test_looking_ends() {
	local ticks

	use_debug
	image a.img 16M >/dev/null
	guest_start one "ubd0=$work/a.img" <<-'EOF'
		load
		for i in $(seq 100); do
			dd if=/dev/ubda of=/dev/null bs=4k count=1 skip=$i iflag=direct status=none
		done
		fault ubda 'read delay=5000 times=1'
		dd if=/dev/ubda of=/dev/null bs=4k count=1 skip=999 iflag=direct status=none &
		sleep 1
		touch $work/held
		wait
		same errors "$(stat_of ubda errors)" 0
		unload
	EOF
	guest_await one held
	ticks=$(cpu_ticks one)
	sleep 2
	ticks=$(($(cpu_ticks one) - ticks))
	guest_wait one
	expect_eq status "$status" 0
	echo "$ticks ticks of 200 while the host held one read"
	[ "$ticks" -le 40 ] || fail "the guest took $ticks ticks of 200 while the host held one read"
}

# The host allows no thread: io_uring does all, and the log says so once.
test_no_thread() {
	needs_uring
	image a.img 16M >/dev/null
	image b.img 16M >/dev/null
	launcher=("$tool" forbid thread=11 --)
	guest one "ubd0=$work/a.img" "ubd1r=$work/b.img" <<-'EOF'
		load
		"$tool" pattern write /dev/ubda 0 32768 1
		"$tool" pattern check /dev/ubda 0 32768 1
		"$tool" syncs /dev/ubda 5 sync
		dd if=/dev/ubda of=/dev/null bs=1M iflag=direct status=none
		same errors "$(stat_of ubda errors)" 0
		unload
	EOF
	expect_once one "ubda: $work/a.img: .*no thread .*Resource temporarily unavailable \(11\); .*ulimit -u"
	expect_silent one 'ubdb: .*no thread'
}

# Threads may neither move to another CPU nor give theirs away: nothing depends
# on it.
test_no_scheduling() {
	image a.img 16M >/dev/null
	launcher=("$tool" forbid sched_setaffinity=1 sched_yield=1 --)
	guest one "ubd0=$work/a.img" <<-'EOF'
		load
		for i in 1 2 3 4; do
			"$tool" pattern write /dev/ubda 0 32768 $i
			"$tool" pattern check /dev/ubda 0 32768 $i
		done
		"$tool" syncs /dev/ubda 5 sync
		same errors "$(stat_of ubda errors)" 0
		unload
	EOF
}

# One CPU of the host's: the thread does not look, and nothing waits for it.
test_one_cpu() {
	image a.img 16M >/dev/null
	launcher=(taskset -c "$(taskset -pc $$ | sed 's/.*: //; s/[-,].*//')")
	guest one "ubd0=$work/a.img" <<-'EOF'
		load
		for i in 1 2 3 4; do
			"$tool" pattern write /dev/ubda 0 32768 $i
			"$tool" pattern check /dev/ubda 0 32768 $i
		done
		"$tool" syncs /dev/ubda 5 sync
		same errors "$(stat_of ubda errors)" 0
		same 'missed wake-ups' "$(stat_of ubda missed_wakeups)" 0
		unload
	EOF
}

test_window_out_of_range() {
	guest one <<-'EOF'
		refused load poll_us=1001
		load poll_us=0
		unload
		load poll_us=1000
		unload
	EOF
	expect_once one 'poll_us=1001 is out of range; it goes from 0 to 1000'
}

run_tests "$@"
