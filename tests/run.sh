#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Runs the tests: `make test`, and with --full `make test-full`.
#
#	run.sh [--full] [--only PATTERN] [--list] [--no-build] [--jobs N]
#
#	--full		the long tests too
#	--only PATTERN	only tests whose name holds it (a regular expression)
#	--list		the names of the tests that can be picked one by one
#	--no-build	take what is built already
#	--jobs N	so many guests side by side (3, or 1 on a single CPU)
#
# A test that fails leaves its log under build/test/, which is named. The last
# line is "N passed, N failed"; the status is 0 if none failed and some ran.
set -u -o pipefail
export LC_ALL=C TZ=UTC
PATH=$PATH:/usr/sbin:/sbin

top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top" || exit 1
test_root=${UBD_TEST_ROOT:-$top/build/test}
cache=${UBD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ubd}
results=$test_root/results

full=
full_targets=
only=
build=yes
listing=
cpus=$(nproc)
# Guests wait much, for what they are to wait for: one more than there are CPUs.
jobs=$cpus
[ "$jobs" -le 1 ] || jobs=3

passed=0
failed=0
skipped=0
skips=()
failures=()
stages=()
running=()

usage() {
	sed -n '/^#	run.sh/,/^#	--jobs/s/^#	\{0,1\}//p' "$0" >&2
	exit 2
}

parse_arguments() {
	while [ $# -gt 0 ]; do
		case $1 in
		--full)
			full=yes
			full_targets='modules-next modules-next-debug modules-next-compare modules-next-smp modules-timetravel'
			;;
		--only)
			[ $# -ge 2 ] || usage
			only=$2
			shift
			;;
		--jobs)
			[ $# -ge 2 ] || usage
			jobs=$2
			shift
			;;
		--list) listing=yes ;;
		--no-build) build= ;;
		*) usage ;;
		esac
		shift
	done
}

wanted() {
	[ -z "$only" ] || [[ $1 =~ $only ]]
}

# report ok|FAIL NAME SECONDS [DETAIL]
report() {
	case $1 in
	ok) passed=$((passed + ${4:-1})) ;;
	FAIL)
		failed=$((failed + 1))
		failures+=("$2")
		;;
	skip)
		skipped=$((skipped + 1))
		skips+=("$2: $4")
		;;
	esac
	printf '%-4s %-36s %4s s\n' "$1" "$2" "$3"
}

# stage NAME FUNCTION...: runs it and notes its seconds
stage() {
	local name=$1
	local start=$SECONDS

	shift
	"$@"
	stages+=("$name $((SECONDS - start))")
}

# Shows the end of a failed test's log, and where the whole is.
show_log() {
	sed 's/^/    /' <(tail -n "${2:-25}" "$1")
	echo "    (the log is ${1#"$top/"})"
}

build_all() {
	local log=$test_root/build.log
	local start=$SECONDS

	# shellcheck disable=SC2086 # targets
	if make -s all build/busybox.img modules-debug modules-compare $full_targets 2>&1 | tee "$log" && ! grep -qi 'warning:' "$log"; then
		report ok build $((SECONDS - start))
	else
		report FAIL build $((SECONDS - start))
		finish
	fi
}

# make_test NAME ARGUMENT...: one test that is a make target
make_test() {
	local name=$1
	local log=$test_root/$1.log
	local start=$SECONDS

	shift
	if make -s "$@" >"$log" 2>&1; then
		report ok "$name" $((SECONDS - start))
	else
		report FAIL "$name" $((SECONDS - start))
		show_log "$log"
	fi
}

# printed_test NAME ARGUMENT...: the same, and its figures are shown
printed_test() {
	local before=$failed

	make_test "$@"
	[ "$failed" != "$before" ] || sed '/^  [A-Z]* *[a-z]/d; s/^/    /' "$test_root/$1.log"
}

# Sums up what GoogleTest says, of any number of programs.
unit_tests() {
	local log=$test_root/unit.log
	local start=$SECONDS
	local status=0
	local good bad

	make -s -j"$cpus" -C tests/unit check >"$log" 2>&1 || status=$?
	good=$(awk '/^\[  PASSED  \] [0-9]+ test/ { n += $4 } END { print n + 0 }' "$log")
	bad=$(awk '/^\[  FAILED  \] [0-9]+ test/ { n += $4 } END { print n + 0 }' "$log")
	count_suite unit "$good" "$bad" "$status" $((SECONDS - start)) "$log"
}

# kunit_tests VARIANT MODULES: the KUnit suites in a guest
kunit_tests() {
	local log=$test_root/kunit-$1.log
	local console=$test_root/kunit-$1.console
	local start=$SECONDS
	local status=0
	local good bad

	UBD_KUNIT_LOG=$console UBD_KUNIT_SECONDS=600 \
		timeout -k 15 660 tests/kunit/run.sh "$cache/$1/linux" "$2" >"$log" 2>&1 || status=$?
	good=$(sed -n 's/^kunit: \([0-9]*\) passed, [0-9]* failed.*/\1/p' "$log" | tail -n 1)
	bad=$(sed -n 's/^kunit: [0-9]* passed, \([0-9]*\) failed.*/\1/p' "$log" | tail -n 1)
	count_suite "kunit-$1" "${good:-0}" "${bad:-0}" "$status" $((SECONDS - start)) "$log"
	kunit_complaints "$1" "$console"
}

# Not one warning of the kernel's in all that it said while KUnit ran.
kunit_complaints() {
	local lines

	if [ ! -s "$2" ]; then
		report FAIL "kunit-$1-no-warning" 0
		echo "    no console output was kept"
		return
	fi
	lines=$(grep -aE "$complaints" "$2" | head -n 5) || true
	if [ -n "$lines" ]; then
		report FAIL "kunit-$1-no-warning" 0
		printf '    %s\n' "$lines"
	else
		report ok "kunit-$1-no-warning" 0
	fi
}
complaints='BUG|WARNING:|KASAN|UBSAN|Oops|Kernel panic|Call Trace|INFO: task|possible (recursive|circular|irq)|kmemleak: [1-9]|unreferenced object'

# count_suite NAME PASSED FAILED STATUS SECONDS LOG
count_suite() {
	if [ "$3" -gt 0 ] || [ "$4" != 0 ] || [ "$2" = 0 ]; then
		report FAIL "$1" "$5"
		# The report counted one.
		[ "$3" -le 1 ] || failed=$((failed + $3 - 1))
		passed=$((passed + $2))
		show_log "$6" 40
	else
		report ok "$1 ($2 tests)" "$5" "$2"
	fi
}

# Guest tests that run with the threads engine, too (the others with io_uring, if the
# host has it): some in the short form, and in the full one whole files.
on_threads='flush[.].*|io[.](fio_sizes|vectors)|discard[.](discard_edges|discard_frees|write_zeroes)|cow[.]poisoned
cow[.]landed_(SIGKILL|reboot)|faults[.](read_error|sync_error_stays)|fire[.]parallel_again
reboot[.](reboot|busy_reboot|busy_sigkill|busy_sigterm)|werror[.](goes_on_by_itself|cow|reboot)|resize[.](raw|cow)'
on_threads_full='(flush|io|discard|faults|reboot|cow|cow_model|crash|fire|power|swap|hostfile|werror|resize)[.].*'

# Of the full form, with the newest kernel: all but what is about the host's programs,
# about kernels of its own, or a comparison with the kernel's own driver.
not_on_next='packaging[.](install.*|packages|dkms|dist|lintian|debian)|(ubd_cow|smp|timetravel|objects|docs)[.].*
boot[.]((run_)?documented|initramfs|make_run|missing_root|programs_inside|run_command|run_status|standalone.*)
power[.](records_smp|merge|rebase|new_file|resize)|kernels[.](newest|one_header)|build[.]module_beside'

runs_on_next() {
	[[ -n $full && ! $1 =~ ^(${not_on_next//$'\n'/|})$ ]]
}

runs_on_threads() {
	[[ $1 != *own_driver* && ! $1 =~ ^power[.](merge|rebase|new_file|resize)$ ]] && [[ $1 =~ ^(${on_threads//$'\n'/|})$ || (-n $full && $1 =~ ^($on_threads_full)$) ]]
}

# Prints FILE NAME[@VARIANT] LIMIT PROPERTY... of each guest test that is to run;
# those that want to be alone come last.
guest_tests() {
	local file name rest list

	for file in tests/guest/*.sh; do
		[[ $(head -n 1 "$file") == '#!/bin/bash' ]] || continue
		# A file that is not understood is a test that fails.
		list=$(bash "$file" --list) && [ -n "$list" ] || list='unlisted 10'
		while read -r name rest; do
			[[ -n $full || $rest != *full* ]] || continue
			if wanted "$(basename "$file" .sh).$name"; then
				echo "$file $name $rest"
			fi
			if runs_on_threads "$(basename "$file" .sh).$name" && wanted "$(basename "$file" .sh).$name@threads"; then
				echo "$file $name@threads $rest"
			fi
			if runs_on_next "$(basename "$file" .sh).$name" && wanted "$(basename "$file" .sh).$name@next"; then
				echo "$file $name@next $rest"
			fi
		done <<<"$list"
	done | awk '/ alone/ { last[++n] = $0; next } { print } END { for (i = 1; i <= n; i++) print last[i] }'
}

# start_guest_test INDEX FILE NAME[@VARIANT] LIMIT
start_guest_test() {
	(
		start=$SECONDS
		status=0
		[[ $3 != *@* ]] || export UBD_TEST_VARIANT=${3#*@}
		timeout -k 15 "$4" bash "$2" "${3%@*}" >"$results/$1.log" 2>&1 &
		trap 'kill $! && wait $!; exit 143' TERM
		wait $! || status=$?
		echo "$status $((SECONDS - start))" >"$results/$1.new"
		mv "$results/$1.new" "$results/$1"
	) &
	running+=($!)
}

# show_result INDEX FILE NAME LIMIT
show_result() {
	local status seconds
	local name
	local dir

	name=$(basename "$2" .sh).$3
	dir=$test_root/$name
	read -r status seconds <"$results/$1"
	case $status in
	0)
		report ok "$name" "$seconds"
		# What a test measured is for people to read, and fails nothing.
		[ ! -e "$dir/figures" ] || sed 's/^/    /' "$dir/figures"
		rm -rf "$dir"
		return
		;;
	77)
		if [ -s "$dir/skip" ]; then
			report skip "$name" "$seconds" "$(cat "$dir/skip")"
			rm -rf "$dir"
			return
		fi
		echo 'FAILED: status 77, and no reason to skip it' >>"$results/$1.log"
		;;
	124 | 137) echo "FAILED: not done within $4 s" >>"$results/$1.log" ;;
	esac
	mkdir -p "$dir"
	mv "$results/$1.log" "$dir/test.log"
	report FAIL "$name" "$seconds"
	show_log "$dir/test.log"
}

# Drops from $running what has ended.
reap() {
	local pid
	local left=()

	for pid in "${running[@]}"; do
		if kill -0 "$pid" 2>/dev/null; then
			left+=("$pid")
		fi
	done
	running=("${left[@]}")
}

# Results are shown in the tests' order, whoever ends first.
run_guest_tests() {
	local tests=()
	local next=0
	local shown=0
	local room

	rm -rf "$results"
	mkdir -p "$results"
	mapfile -t tests < <(guest_tests)
	while [ "$shown" -lt "${#tests[@]}" ]; do
		reap
		room=$jobs
		[[ $next -lt ${#tests[@]} && ${tests[next]} == *\ alone* ]] && room=1
		# shellcheck disable=SC2086 # fields of a line
		if [ "$next" -lt "${#tests[@]}" ] && [ "${#running[@]}" -lt "$room" ]; then
			start_guest_test "$next" ${tests[next]}
			next=$((next + 1))
			continue
		fi
		# shellcheck disable=SC2086
		while [ "$shown" -lt "$next" ] && [ -e "$results/$shown" ]; do
			show_result "$shown" ${tests[shown]}
			shown=$((shown + 1))
		done
		# Nobody runs, and there is no result: it could not be written, or was killed.
		if [ "${#running[@]}" = 0 ] && [ "$shown" -lt "$next" ] && [ ! -e "$results/$shown" ]; then
			report FAIL "${tests[shown]%% *} (test $shown has left no result)" 0
			shown=$((shown + 1))
		fi
		sleep 0.1
	done
	wait
	running=()
}

list_all() {
	local file name rest

	full=yes
	guest_tests | while read -r file name rest; do
		echo "$(basename "$file" .sh).$name"
	done
	for name in format mutants-apply bench-check unit simulator crash fuzz coverage model mutants crash-mutants fuzz-mutants engine-mutants mutants-all \
		kunit-release kunit-debug kunit-next kunit-next-debug; do
		if wanted "$name"; then
			echo "$name"
		fi
	done
}

show_stages() {
	local line
	local sum=0

	[ "${#stages[@]}" -gt 0 ] || return 0
	echo
	echo "seconds for each stage"
	for line in "${stages[@]}"; do
		printf '  %-20s %5d\n' "${line% *}" "${line##* }"
		sum=$((sum + ${line##* }))
	done
	printf '  %-20s %5d\n' sum "$sum"
	echo
}

# The last line, and the status.
finish() {
	local line

	show_stages
	for line in "${skips[@]}"; do
		echo "skipped: $line"
	done
	for line in "${failures[@]}"; do
		echo "failed: $line"
	done
	if [ "$skipped" -gt 0 ]; then
		echo "$passed passed, $failed failed, $skipped skipped"
	else
		echo "$passed passed, $failed failed"
	fi
	[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
	exit
}

interrupted() {
	trap - INT TERM
	[ "${#running[@]}" = 0 ] || kill "${running[@]}" 2>/dev/null
	echo "interrupted"
	wait
	exit 130
}

# UML keeps the guests' memory in files under TMPDIR or /dev/shm, which is
# small in some containers.
choose_memory_place() {
	local free

	[ -z "${TMPDIR:-}" ] || return 0
	free=$(df --output=avail -k /dev/shm 2>/dev/null | tail -n 1) || free=0
	if [ "$free" -lt 1500000 ] || findmnt -n -o OPTIONS -T /dev/shm 2>/dev/null | grep -qw noexec; then
		export TMPDIR=/tmp
	fi
}

main() {
	parse_arguments "$@"
	if [ -n "$listing" ]; then
		list_all
		exit 0
	fi
	mkdir -p "$test_root"
	trap interrupted INT TERM
	choose_memory_place
	[ -z "$build" ] || stage build build_all
	if wanted format; then stage format make_test format format-check; fi
	if wanted mutants-apply; then stage mutants-apply make_test mutants-apply mutants-apply; fi
	if wanted bench-check; then stage bench-check make_test bench-check bench-check; fi
	if wanted unit; then stage unit unit_tests; fi
	if wanted simulator; then stage simulator make_test simulator -j"$cpus" -C tests/sim check; fi
	if wanted crash; then stage crash printed_test crash -j"$cpus" -C tests/crash "check${full:+-full}"; fi
	if wanted fuzz; then stage fuzz printed_test fuzz -C tests/fuzz check; fi
	if wanted coverage; then stage coverage printed_test coverage -C tests/sim coverage; fi
	if wanted model; then stage model make_test model -C tests/sim "model${full:+-full}"; fi
	if wanted mutants; then stage mutants printed_test mutants -C tests/sim mutants-named; fi
	if [ -n "$full" ] && wanted crash-mutants; then stage crash-mutants make_test crash-mutants -C tests/crash mutants; fi
	if [ -n "$full" ] && wanted fuzz-mutants; then stage fuzz-mutants make_test fuzz-mutants -C tests/fuzz mutants; fi
	if [ -n "$full" ] && wanted engine-mutants; then stage engine-mutants make_test engine-mutants -C tests/unit mutants; fi
	if [ -n "$full" ] && wanted mutants-all; then stage mutants-all make_test mutants-all -C tests/sim mutants; fi
	if wanted kunit-release; then stage kunit-release kunit_tests release build; fi
	stage guest run_guest_tests
	if wanted kunit-debug; then stage kunit-debug kunit_tests debug build/debug; fi
	if [ -n "$full" ] && wanted kunit-next; then stage kunit-next kunit_tests next build/next; fi
	if [ -n "$full" ] && wanted kunit-next-debug; then stage kunit-next-debug kunit_tests next-debug build/next-debug; fi
	finish
}

main "$@"
