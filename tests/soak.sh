#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Tests for a long time: `make soak MINUTES=10`.
#
#	soak.sh MINUTES
#
# The steps below take turns until the time is over. A step that has begun is
# always brought to its end, so the whole may take some minutes longer. Seeds
# come from the clock. What fails is kept under build/soak/, and named with what
# repeats it; nothing is tried twice. The last line is "N passed, N failed"; the
# status is 0 if none failed and some ran.
set -u -o pipefail
export LC_ALL=C

top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top" || exit 1
soak_root=$top/build/soak

# In this order: so the first minutes have some of each kind.
steps=(fire.no_memory simulator fuzz crash fire.swap_in_64m fire.by_chance build.module cow.killed power.records
	fire.swap_without_slab faults.chance cow_model.random_errors fire.parallel_again build.kernel)
# Seconds that must be left for a step to be begun, where that is more than one.
declare -A needs=([build.kernel]=5400)
simulator_seeds=50000
# For each target.
fuzz_seconds=20

passed=0
failed=0
failures=()
declare -A done_steps=()
step_pid=

usage() {
	echo "usage: make soak MINUTES=10" >&2
	exit 2
}

# finish STATUS: which is that of an interrupted soak, or 0
finish() {
	local line step

	echo
	for step in "${steps[@]}"; do
		echo "$step: ${done_steps[$step]:-0} times"
	done
	for line in "${failures[@]}"; do
		echo "failed: $line"
	done
	echo "$passed passed, $failed failed"
	[ "$1" = 0 ] || exit "$1"
	[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
	exit
}

interrupted() {
	trap - INT TERM
	[ -z "$step_pid" ] || { kill "$step_pid" && wait "$step_pid"; } 2>/dev/null
	echo 'interrupted: the step that ran counts as nothing'
	finish 130
}

left() {
	echo $((end > SECONDS ? end - SECONDS : 0))
}

# command_of STEP: what runs it, and repeats it
command_of() {
	case $1 in
	simulator) echo "make -s -C tests/sim check FIRST=$first_seed SEEDS=$simulator_seeds" ;;
	crash) echo "make -s -C tests/crash check FIRST=$first_seed" ;;
	fuzz) echo "make -s -C tests/fuzz check EACH=$fuzz_seconds SEED=$chance_seed" ;;
	*)
		echo "UBD_SOAK_SECONDS=$step_seconds UBD_SOAK_SEED=$chance_seed" \
			"tests/run.sh --no-build --full --only '^${1/./\\.}\$'"
		;;
	esac
}

# run_step NUMBER STEP
run_step() {
	local dir=$soak_root/$1-$2
	local log=$dir/log
	local start=$SECONDS
	local status=0
	local command

	# No two steps of a soak have a seed in common.
	first_seed=$(((clock % 1000000) * 1000000 + $1 * simulator_seeds))
	chance_seed=$(((clock + $1 * 1000) % 1000000))
	command=$(command_of "$2")
	mkdir -p "$dir"
	UBD_TEST_ROOT=$dir bash -c "$command" >"$log" 2>&1 &
	step_pid=$!
	wait "$step_pid" || status=$?
	step_pid=
	done_steps[$2]=$((${done_steps[$2]:-0} + 1))
	if [ "$status" = 0 ]; then
		passed=$((passed + 1))
		printf 'ok   %-24s %5s s, %s s left\n' "$2" $((SECONDS - start)) "$(left)"
		# What the step has to say: figures, and how much it did.
		grep -E '^    |^(fuzz|sim|crash): ' "$log"
		rm -rf "$dir"
		return
	fi
	failed=$((failed + 1))
	failures+=("$2: $command (kept in ${dir#"$top/"})")
	printf 'FAIL %-24s %5s s, %s s left\n' "$2" $((SECONDS - start)) "$(left)"
	tail -n 25 "$log" | sed 's/^/    /'
	echo "    kept in ${dir#"$top/"}; to repeat it: $command"
}

main() {
	local number=0
	local step

	[[ $# = 1 && $1 =~ ^[1-9][0-9]{0,5}$ ]] || usage
	make -s modules modules-debug modules-compare || exit 1
	rm -rf "$soak_root"
	mkdir -p "$soak_root"
	trap interrupted INT TERM
	end=$((SECONDS + $1 * 60))
	clock=$(date +%s)
	# Long enough to be more than `make test`, short enough for many turns.
	step_seconds=$(($1 * 3))
	[ "$step_seconds" -le 300 ] || step_seconds=300
	echo "soak for $1 minutes; seeds from the clock ($clock), long forms of $step_seconds s"
	while [ "$(left)" -gt 0 ]; do
		for step in "${steps[@]}"; do
			[ "$(left)" -gt "${needs[$step]:-0}" ] || continue
			number=$((number + 1))
			run_step "$number" "$step"
		done
	done
	finish 0
}

main "$@"
