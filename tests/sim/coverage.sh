#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Coverage of drivers/ubd/core by the simulator (SEEDS worlds, 5000) and the
# unit tests together, by gcov. Prints for each file the lines that ran and the
# branches that were taken. Fails when a line did not run, or a branch was not
# taken, that is not in uncovered.txt with its reason; and when one is there
# that did run.
#
# Both are built here without optimization and sanitizers, which would add
# branches of their own, and with the same flags for core: so what the two took
# of a line can be summed up.
set -u -o pipefail
export LC_ALL=C

top=$(cd "$(dirname "$0")/../.." && pwd)
core=$top/drivers/ubd/core
out=${O:-$top/build/sim}/coverage
seeds=${SEEDS:-5000}
jobs=$(nproc)
flags='-O0 -g --coverage'

build() {
	make -s -j"$jobs" -C "$top/tests/sim" O="$out/sim" CXXFLAGS="$flags" all &&
		make -s -j"$jobs" -C "$top/tests/unit" O="$out/unit" CXXFLAGS="$flags" SANITIZE= all
}

# run NAME COMMAND...: its last line, or all that it said if it failed
run() {
	local log=$out/$1.log

	shift
	if ! "$@" >"$log" 2>&1; then
		cat "$log"
		exit 1
	fi
	tail -n 1 "$log"
}

# collect NAME OBJECTS: what gcov knows of core's objects, to $out/NAME.json
collect() {
	(cd "$2" && gcov --json-format --stdout --branch-probabilities ./*.o) >"$out/$1.json"
}

rm -rf "$out"
mkdir -p "$out"
run build build
run simulator "$out/sim/ubd-sim" --seeds "$seeds"
run unit "$out/unit/ubd_unit" --gtest_brief=1
collect simulator "$out/sim/core" || exit 1
collect unit "$out/unit/core" || exit 1
exec python3 "$top/tests/sim/coverage.py" "$core" "$top/tests/sim/uncovered.txt" "$out/simulator.json" "$out/unit.json"
