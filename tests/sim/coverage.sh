#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Coverage of drivers/ubd/core by the simulator and the unit tests, by gcov. For
# each file the lines and branches that ran, then each line that did not.
# SEEDS (10000) worlds are run. Branches are the simulator's alone: those of the
# unit tests' build are mixed with the sanitizers'.
set -u -o pipefail
export LC_ALL=C

top=$(cd "$(dirname "$0")/../.." && pwd)
out=$top/build/sim/coverage
seeds=${SEEDS:-10000}
flags='-O0 -g --coverage -fno-inline'

run_simulator() {
	make -s -C "$top/tests/sim" O="$out/sim" CXXFLAGS="$flags" all || return 1
	"$out/sim/ubd-sim" --seeds "$seeds" | tail -n 1
	(mkdir -p "$out/sim/gcov" && cd "$out/sim/gcov" && gcov -b -c -o ../core ../core/*.o >gcov.log 2>&1)
}

run_unit() {
	[ -e "$top/tests/unit/Makefile" ] || return 0
	if ! make -s -C "$top/tests/unit" O="$out/unit" CXXFLAGS="$flags" all >"$out/unit.log" 2>&1; then
		echo "the unit tests do not build here, see ${out#"$top"/}/unit.log: without them"
		return 0
	fi
	"$out/unit/ubd_unit" --gtest_brief=1 2>&1 | tail -n 1
	local core=$out/unit/drivers/ubd/core
	(mkdir -p "$out/unit/gcov" && cd "$out/unit/gcov" && gcov -o "$core" "$core"/*.o >gcov.log 2>&1)
}

# file.cc: "line count" for each line that is code, of one run
counts() {
	[ -e "$1" ] || return 0
	awk -F: '$1 !~ /^ *-$/ && $1 ~ /^ *([0-9]+\*?|#####|=====)$/ {
		n = $1; gsub(/[ *]/, "", n); line = $2 + 0
		print line, (n ~ /^[#=]/ ? 0 : n) }' "$1"
}

branches() {
	awk '/^branch/ { all++; if ($4 != "executed" && $4 + 0 > 0) taken++ } END { print taken + 0, all + 0 }' "$1"
}

# Assertions have a branch that is not to be taken.
branches_not_taken() {
	awk -v f="$1" '/^ *[0-9#=-]+\*?: *[0-9]+:/ { line = $0; sub(/^[^:]*: */, "", line) }
		/^branch/ && ($3 == "never" || ($3 == "taken" && $4 == 0)) && line !~ /UBD_ASSERT|new \(Place/ && line != said {
			print f ":" line; said = line }' "$2"
}

rm -rf "$out"
mkdir -p "$out"
run_simulator || exit 1
run_unit

printf '%-14s %16s %16s %18s\n' file 'lines, simulator' 'lines, all' 'branches'
for source in "$top"/drivers/ubd/core/*.cc; do
	f=$(basename "$source")
	counts "$out/sim/gcov/$f.gcov" >"$out/$f.sim"
	{ cat "$out/$f.sim"; counts "$out/unit/gcov/$f.gcov"; } |
		awk '{ n[$1] += $2 } END { for (l in n) print l, n[l] }' | sort -n >"$out/$f.all"
	read -r taken branches < <(branches "$out/sim/gcov/$f.gcov")
	printf '%-14s %16s %16s %18s\n' "$f" \
		"$(awk '{ a++; c += $2 > 0 } END { printf "%d of %d", c, a }' "$out/$f.sim")" \
		"$(awk '{ a++; c += $2 > 0 } END { printf "%d of %d", c, a }' "$out/$f.all")" "$taken of $branches"
done
echo 'lines that did not run:'
for source in "$top"/drivers/ubd/core/*.cc; do
	f=$(basename "$source")
	while read -r line n; do
		[ "$n" -gt 0 ] || printf '%s:%s:%s\n' "$f" "$line" "$(sed -n "${line}p" "$source")"
	done <"$out/$f.all"
done
echo 'lines with a branch that the simulator did not take (other than to a failed assertion):'
for f in queue.cc request.cc policy.cc fault.cc; do
	branches_not_taken $f "$out/sim/gcov/$f.gcov"
done
