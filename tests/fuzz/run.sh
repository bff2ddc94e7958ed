#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Runs the fuzz targets; called by the Makefile.
#
#	run.sh BUILD check|fuzz|merge SECONDS SEED TARGET...
#
#	check	the corpus that is kept and what seeds.py makes, then new inputs; the
#		finds are dropped
#	fuzz	the same, but they go to BUILD/found; seed 0 is another each time
#	merge	makes the corpus anew of itself and of BUILD/found
#
# Prints one line of figures for each target. An input that breaks something is
# kept in BUILD/broken, and named with what repeats it; the other targets are run
# all the same. The status is 0 if nothing broke.
set -u -o pipefail
export LC_ALL=C

top=$(cd "$(dirname "$0")/../.." && pwd)
out=$1
mode=$2
seconds=$3
seed=$4
shift 4
corpus=$top/tests/fuzz/corpus
# One input takes milliseconds.
limits=(-timeout=20 -rss_limit_mb=2560 -malloc_limit_mb=512)
declare -A longest=([header]=4500 [bitmap]=1000 [check]=4096 [options]=400 [faults]=500)
# This one runs commands on files: a hundred times slower than the others.
declare -A times=([check]=2)
export ASAN_OPTIONS=allow_addr2line=1${ASAN_OPTIONS:+:$ASAN_OPTIONS}
export UBSAN_OPTIONS=print_stacktrace=1${UBSAN_OPTIONS:+:$UBSAN_OPTIONS}

# Files that targets make are in memory, if there is such a place.
work=$(mktemp -d -p "${TMPDIR:-$([ -w /dev/shm ] && echo /dev/shm || echo /tmp)}" ubd-fuzz.XXXXXX) || exit 1
trap 'chmod -R u+rwx "$work"; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
mkdir -p "$out/broken"
seeds=$work/seeds
"$top/tests/fuzz/seeds.py" "$seeds" || exit 1

# target NAME OPTION... DIRECTORY...
target() {
	local name=$1
	local dict=$top/tests/fuzz/$1.dict

	shift
	mkdir -p "$work/files"
	UBD_FUZZ_DIR=$work/files "$out/fuzz-$name" "${limits[@]}" -max_len="${longest[$name]}" \
		-artifact_prefix="$out/broken/$name-" ${dict:+$([ -e "$dict" ] && echo "-dict=$dict")} "$@"
}

# figures NAME LOG KEPT: what the log of a run says, as one line
figures() {
	awk -v name="$1" -v kept="$3" '
		/^#[0-9]+\tDONE / { edges = $4; split($8, corpus, "/") }
		/^Done [0-9]+ runs in/ { runs = $2; took = $5 }
		END {
			printf "fuzz: %s: %d executions in %d s, %d edges, %d inputs (%d kept)\n",
				name, runs, took, edges, corpus[1], kept
			exit !runs
		}' "$2"
}

# fuzz_target NAME: status 1 if it broke something
fuzz_target() {
	local name=$1
	local log=$out/$1.log
	local found=$work/found-$1
	local kept

	[ "$mode" = check ] || found=$out/found/$name
	mkdir -p "$found" "$seeds/$name" "$corpus/$name"
	kept=$(find "$corpus/$name" -type f | wc -l)
	if [ "$kept" = 0 ] && [ "$mode" = check ]; then
		echo "fuzz: $name: there is no corpus in ${corpus#"$top/"}/$name"
		return 1
	fi
	if ! target "$name" -seed="$seed" -max_total_time=$((seconds * ${times[$name]:-1})) "$found" "$corpus/$name" \
		"$seeds/$name" >"$log" 2>&1; then
		grep -E '^(fuzz: broken|SUMMARY|==[0-9]+==ERROR|.*runtime error)' "$log"
		echo "fuzz: $name FAILED; the log is ${log#"$top/"}; to repeat it:"
		sed -n "s|.*Test unit written to |    UBD_FUZZ_DIR=/dev/shm ${out#"$top/"}/fuzz-$name |p" "$log"
		return 1
	fi
	if [ "$kept" -gt 0 ] && ! grep -q "^INFO: *$kept files found in $corpus/$name" "$log"; then
		echo "fuzz: $name: its corpus was not read; the log is ${log#"$top/"}"
		return 1
	fi
	figures "$name" "$log" "$kept"
}

merge_target() {
	local name=$1
	local dir=$work/merged-$1

	mkdir -p "$dir" "$seeds/$name" "$out/found/$name" "$corpus/$name"
	target "$name" -merge=1 -use_counters=0 "$dir" "$corpus/$name" "$seeds/$name" "$out/found/$name" \
		>"$out/$name.log" 2>&1 || {
		tail -n 25 "$out/$name.log"
		return 1
	}
	[ -n "$(ls "$dir")" ] || return 1
	rm -rf "${corpus:?}/$name"
	mkdir "$corpus/$name"
	cp "$dir"/* "$corpus/$name/"
	echo "fuzz: $name: $(find "$dir" -type f | wc -l) inputs of $(cat "$dir"/* | wc -c) bytes are the corpus"
}

status=0
for name; do
	case $mode in
	check | fuzz) fuzz_target "$name" ;;
	merge) merge_target "$name" ;;
	esac || status=1
done
exit $status
