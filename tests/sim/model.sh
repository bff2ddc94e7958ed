#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Checks the models in drivers/ubd/core/model exhaustively with spin, for some
# bounds: no broken assertion, no state from which nothing goes on, each request
# ended at last. Then checks that the check can fail: the states that matter are
# reached, and each bug put in by -D is found. The seconds are those of the
# search alone.
#
#	model.sh [--full] [--only PATTERN]
#
#	--full		some larger bounds too: 2 GB, minutes
#	--only PATTERN	only checks whose whole name matches (a regular expression)
#
# The last line is "model: N passed, N failed".
set -u -o pipefail
export LC_ALL=C

top=$(cd "$(dirname "$0")/../.." && pwd)
models=$top/drivers/ubd/core/model
model=$models/queue.pml
out=${O:-$top/build/sim}/model
depth=100000
full=
only=
passed=0
failed=0

while [ $# -gt 0 ]; do
	case $1 in
	--full) full=yes ;;
	--only)
		only=${2-}
		shift
		;;
	*)
		echo 'usage: model.sh [--full] [--only PATTERN]' >&2
		exit 2
		;;
	esac
	shift
done

for tool in spin gcc; do
	if ! command -v $tool >/dev/null; then
		echo "model: $tool is missing: install the package of that name" >&2
		exit 1
	fi
done
rm -rf "$out"
mkdir -p "$out"

# build NAME OPTIONS DEFINES...: makes the checker $out/NAME/pan
build() {
	local name=$1 options=$2
	shift 2
	mkdir -p "$out/$name" && cd "$out/$name" || return 1
	if ! spin -a "$@" "$model" >spin.log 2>&1; then
		cat spin.log
		return 1
	fi
	# shellcheck disable=SC2086
	gcc -w -DVECTORSZ=2048 -DMEMLIM=3000 $options -o pan pan.c
}

verdict() { # ok|bad NAME TEXT
	if [ "$1" = ok ]; then
		printf '  ok    %-44s %s\n' "$2" "$3"
	else
		printf '  FAIL  %-44s %s\n' "$2" "$3"
	fi >"$PWD/verdict"
}

states() {
	awk '/states, stored/ { print $1; exit }' pan.log
}

seconds() {
	awk '/elapsed time/ { print $4; exit }' pan.log
}

# Searched to the end, and nothing found.
complete() {
	grep -q 'errors: 0$' pan.log && grep -q '^Full statespace search' pan.log &&
		! grep -qi 'search not completed\|search depth too small\|out of memory\|warning' pan.log
}

why() {
	grep -m 1 '^pan:1:\|^pan: .*error\|depth too small\|out of memory\|Warning' pan.log || echo "errors, see $PWD/pan.log"
}

# safe NAME DEFINES...: no broken assertion, no end that is none
safe() {
	local name=$1
	shift
	build "$name" '-O1 -DSAFETY -DNOCLAIM' "$@" && ./pan -m$depth >pan.log 2>&1
	if complete; then
		verdict ok "$name" "$(states) states, $(seconds) s: no deadlock, no broken assertion"
	else
		verdict bad "$name" "$(why)"
	fi
}

# lives NAME DEFINES...: each request is ended, if every process gets its turn
lives() {
	local name=$1
	shift
	build "$name" '-O1 -DNFAIR=3' "$@" && ./pan -a -f -m$depth >pan.log 2>&1
	if complete; then
		verdict ok "$name" "$(states) states, $(seconds) s: each is ended"
	else
		verdict bad "$name" "$(why)"
	fi
}

# reached STATE DEFINES...
reached() {
	local name=$1
	shift
	build "$name" -DSAFETY "-DREACH=$name" "$@" && ./pan -m$depth >pan.log 2>&1
	if grep -q 'assertion violated 0' pan.log; then
		verdict ok "$name" reached
	else
		verdict bad "$name" 'is never reached: the model does not say what it should'
	fi
}

# found BUG DEFINES...
found() {
	local name=$1
	shift
	build "$name" '-DSAFETY -DNOCLAIM' "-D$name" "$@" && ./pan -m$depth >pan.log 2>&1
	if grep -q 'errors: [1-9]' pan.log; then
		verdict ok "$name" "found in $(seconds) s: $(grep -m 1 '^pan:1:' pan.log | sed 's/^pan:1: //; s/ (at depth.*//')"
	else
		verdict bad "$name" 'is not found'
	fi
}

# starves NAME BUG DEFINES...: the proof of liveness fails when it has to
starves() {
	local name=$1 bug=$2
	shift 2
	build "$name" '-DNFAIR=3' "-D$bug" "$@" && ./pan -a -f -m$depth >pan.log 2>&1
	if grep -q 'acceptance cycle' pan.log; then
		verdict ok "$name" "found in $(seconds) s: a request that is never ended"
	else
		verdict bad "$name" 'is not found'
	fi
}

# Begins a check; waits while as many run as there are CPUs.
names=()
check() {
	local n=$2
	[[ -z $only || $n =~ ^($only)$ ]] || return 0
	names+=("$n")
	while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do
		wait -n
	done
	mkdir -p "$out/$n"
	("$@") &
}

# The verdicts of what was begun since the last call, in that order.
report() {
	wait
	[ ${#names[@]} -gt 0 ] || return 0
	echo "$1"
	for n in "${names[@]}"; do
		[ -e "$out/$n/verdict" ] || echo "  FAIL  $n did not run" >"$out/$n/verdict"
		cat "$out/$n/verdict"
		if grep -q '^  ok' "$out/$n/verdict"; then
			passed=$((passed + 1))
		else
			failed=$((failed + 1))
		fi
	done
	names=()
}

three=(-DREQUESTS=3 -DCAPACITY=2 -DPOOL=1 -DMEMORY=2)
ring_1=(-DREQUESTS=3 -DCAPACITY=1 -DPOOL=0)
ring_3=(-DREQUESTS=2 -DCAPACITY=3 -DPOOL=2)
cpus_2=(-DREQUESTS=2 -DCAPACITY=2 -DPOOL=1 -DMEMORY=2 -DSUBMITTERS=2)
# Two requests on what memory there is, with trouble from the host.
two=(-DREQUESTS=2 -DCAPACITY=2 -DPOOL=1 -DMEMORY=0)
entry_1=("${two[@]}" -DRING=1 -DREFUSALS=1 -DRETRIES=1)
reserves=(-DREQUESTS=2 -DCAPACITY=1 -DPOOL=0 -DHEADERS=0 -DMEMORY=0 -DREFUSALS=1 -DRETRIES=1)
direct=-DTASKRUN=0

# Those that take longest come first.
if [ -n "$full" ]; then
	check safe full-headers-pools "${two[@]}" -DMEMORY=1 -DHEADERS=1 -DREFUSALS=1 -DRETRIES=1 $direct
	check safe full-ring-entry-1 "${entry_1[@]}" -DREFUSALS=2 $direct
	check safe full-cpus-2 "${two[@]}" -DREFUSALS=1 -DRETRIES=1 -DSUBMITTERS=2 $direct
	check safe full-headers-requests-3 "${three[@]}" -DHEADERS=1
fi
check safe headers-pools-refusals-retries "${two[@]}" -DHEADERS=1 -DREFUSALS=1 -DRETRIES=1 $direct
check safe ring-entry-1-refusals-retries "${entry_1[@]}" $direct
check safe requests-3-ring-2 "${three[@]}" $direct
check safe requests-3-ring-2-taskrun "${three[@]}"
check safe requests-3-ring-1-no-pool "${ring_1[@]}" $direct
check safe requests-3-ring-1-no-pool-taskrun "${ring_1[@]}"
check safe requests-2-ring-3-taskrun "${ring_3[@]}"
check safe cpus-2-requests-2-ring-2 "${cpus_2[@]}" $direct
check safe cpus-2-requests-2-ring-2-taskrun "${cpus_2[@]}"
check safe headers-requests-3 "${three[@]}" -DHEADERS=1 -DMEMORY=1 $direct
check safe headers-cpus-2-taskrun "${cpus_2[@]}" -DMEMORY=1 -DHEADERS=1
check safe reserves-alone-requests-3 -DREQUESTS=3 -DCAPACITY=2 -DPOOL=0 -DHEADERS=0 -DMEMORY=0
check safe reserves-alone-refusals-retries "${reserves[@]}"
check safe refusals-taskrun "${two[@]}" -DREFUSALS=2
check safe retries-taskrun "${two[@]}" -DRETRIES=1
check lives live-requests-2-ring-2 -DREQUESTS=2 $direct
check lives live-requests-2-ring-2-taskrun -DREQUESTS=2
check lives live-requests-3-ring-1-no-pool "${ring_1[@]}" $direct
check lives live-requests-3-ring-1-no-pool-taskrun "${ring_1[@]}"
check lives live-cpus-2-taskrun "${cpus_2[@]}" -DMEMORY=1
check lives live-headers -DREQUESTS=2 -DHEADERS=1 -DMEMORY=1
check lives live-reserves-alone-refusals-retries "${reserves[@]}" $direct
check lives live-refusals "${two[@]}" -DREFUSALS=1 $direct
check lives live-retries "${two[@]}" -DRETRIES=1 $direct
report 'the protocol holds'

check reached saw_reserve
check reached saw_full
check reached saw_second_look $direct
check reached saw_taskrun_look
check reached saw_stale_flag
check reached ended_dry
check reached two_reserve_owners -DPOOL=0 -DHEADERS=1 $direct
check reached refused_alone "${two[@]}" -DREFUSALS=1
check reached paused_alone "${two[@]}" -DRETRIES=1
check reached retry_without_space "${entry_1[@]}" $direct
report 'what matters is reached'

check found BUG_NO_SECOND_LOOK $direct
check found BUG_NO_TASKRUN_LOOK
check found BUG_NO_BARRIER
check found BUG_ACK_LATE
check found BUG_RESERVE
check found BUG_HEADER -DHEADERS=0 -DMEMORY=0 $direct
check found BUG_RESERVE_KEPT -DPOOL=0
check found BUG_LIMIT -DCAPACITY=1
check found BUG_NO_PUMP
check found BUG_TICKET
check found BUG_END_LOCKED
check found BUG_RETRY_UNCOUNTED -DREQUESTS=2 -DCAPACITY=1 -DRETRIES=1 $direct
check found BUG_RETRY_SPACE "${entry_1[@]}" $direct
check found BUG_REFUSED "${two[@]}" -DREFUSALS=1
check found BUG_LATER "${two[@]}" -DRETRIES=1
check found BUG_TIMER_FLAG "${two[@]}" -DREFUSALS=2
check starves starves-NO_PUMP BUG_NO_PUMP -DREQUESTS=2 -DCAPACITY=1
check starves starves-STALE_FLAG BUG_STALE_FLAG -DREQUESTS=2
check starves starves-NO_TASKRUN_LOOK BUG_NO_TASKRUN_LOOK -DREQUESTS=2
check starves starves-REFUSED BUG_REFUSED "${two[@]}" -DREFUSALS=1 $direct
report 'bugs put in on purpose are found'

model=$models/sync.pml
check safe flushes-3-writes-2
check safe flushes-4-failures-2 -DFLUSHES=4 -DFAILURES=2
check lives live-flushes-3-retries-2 -DRETRIES=2
report 'flushes share an fdatasync, and none is told what is not so'

check reached saw_shared
check reached saw_told
check reached saw_failed_waiting
check found BUG_SIDE_BY_SIDE
check found BUG_JOIN_RUNNING
check found BUG_LOSS_FORGOTTEN
check found BUG_NO_NEXT
check found BUG_RETRY_WAITS
check starves starves-NO_NEXT BUG_NO_NEXT
report 'what matters is reached, bugs are found'

model=$models/workers.pml
one=(-DTHREADS=1 -DJOBS=2)
if [ -n "$full" ]; then
	check safe full-workers-2-jobs-3 -DTOTAL=3
	check lives full-live-workers-2-jobs-3 -DTOTAL=3
fi
check safe workers-2-jobs-2 -DTOTAL=2
check safe workers-2-job-1-times-3 -DJOBS=1 -DTOTAL=3
check safe workers-1-jobs-4 "${one[@]}" -DTOTAL=4
check lives live-workers-2-jobs-2 -DTOTAL=2
check lives live-workers-1-jobs-3 "${one[@]}" -DTOTAL=3
report 'worker threads lose nothing'

check reached saw_woken
check reached saw_tail_moved
check reached saw_race
check reached saw_push_race
check reached saw_second_look
check reached saw_nothing_new
check reached saw_stop_asleep
check found BUG_NO_WAKE
check found BUG_TAIL_BARRIER
check found BUG_SEEN_LATE
check found BUG_TAIL_EARLY
check found BUG_NO_EXCHANGE
check found BUG_SLOTS
check found BUG_PUSH
check found BUG_ORDER "${one[@]}"
check found BUG_SILENT
check found BUG_LISTENING_EARLY
check found BUG_LISTEN_BARRIER
check found BUG_NO_LOOK
check found BUG_KEPT
check found BUG_STOP_ONCE
report 'what matters is reached, bugs are found'

echo "model: $passed passed, $failed failed"
[ $failed -eq 0 ] && [ $passed -gt 0 ]
