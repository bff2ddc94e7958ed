#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Bugs put into core on purpose, one at a time, in a copy under build/: the
# crash simulator has to find each, without core's own assertions.
#
#	mutants.sh [PATTERN]	only those whose name holds it
#	mutants.sh --applies	whether each edit still changes its file; nothing runs
#
# Prints for each the first seed that shows it, how long that took, and the
# first workload of up to two operations that shows it, if there is one. The
# last line is "mutants: N found, N not found"; an edit that does not apply is
# an error.
set -u -o pipefail
export LC_ALL=C

top=$(cd "$(dirname "$0")/../.." && pwd)
base=${O:-$top/build/crash}
core=${CORE:-$top/drivers/ubd/core}
out=$base/mutants
seeds=${SEEDS:-20000}
pattern=${1:-}
found=0
missed=0
. "$top/tests/applies.sh"

begin() {
	make -s -C "$top/tests/crash" O="$base" CORE="$core" >/dev/null || exit 1
	rm -rf "$out"
	mkdir -p "$out"
	# Where core itself fails, a mutant that fails says nothing.
	if ! "$base/ubd-crash" --stop --seeds 2000 >"$out/core.log" 2>&1; then
		cat "$out/core.log" >&2
		echo 'mutants: core fails without a bug put in' >&2
		exit 1
	fi
}
[ -n "$applies" ] || begin

prepare() { # NAME FILE SED-SCRIPT
	local dir=$out/$1
	mkdir -p "$dir/source"
	cp -p "$core"/*.cc "$core"/*.hh "$dir/source/"
	cp -pr "$base/core" "$base/crash" "$dir/"
	sed -i "$3" "$dir/source/$2"
	if cmp -s "$dir/source/$2" "$core/$2"; then
		echo "mutants: $1: the edit does not apply to $2: look at what became of that code" >&2
		exit 1
	fi
	if ! make -s -C "$top/tests/crash" O="$dir" CORE="$dir/source" >"$dir/build.log" 2>&1; then
		cat "$dir/build.log" >&2
		echo "mutants: $1 does not compile" >&2
		exit 1
	fi
}

mutant() { # NAME FILE SED-SCRIPT WHAT
	local name=$1 log=$out/$1/run.log bounded=$out/$1/bounded.log
	if [ -n "$applies" ]; then
		edit_applies "$1" "$core/$2" "$3"
		return
	fi
	[[ $name == *"$pattern"* ]] || return 0
	prepare "$1" "$2" "$3"
	"$out/$name/ubd-crash" --stop --ignore-asserts --seeds "$seeds" >"$log" 2>&1
	"$out/$name/ubd-crash" --stop --ignore-asserts --bounded 2 --faults 2 >"$bounded" 2>&1
	if grep -q '^FAIL' "$log"; then
		found=$((found + 1))
		printf 'found      %-20s %s\n' "$name" "$4"
		sed -n 's/^first failure: seed \([0-9]*\) after \([0-9.]*\) s/           seed \1, \2 s:/p' "$log" | tr '\n' ' '
		sed -n 's/^FAIL seed [0-9]*: //p' "$log" | head -n 1
	else
		missed=$((missed + 1))
		printf 'NOT FOUND  %-20s %s\n' "$name" "$4"
	fi
	sed -n 's/^first failure: \(.*\) after .*/           workload \1/p' "$bounded"
	rm -rf "$out/$name/core" "$out/$name/crash"
}

q=queue.cc
mutant bit-at-submission $q '/^void Queue::to_engine/,/^}/s/^\tengine_.prepare(chunk);/\tlanded(chunk);\n&/' \
	'a bit is set when its write is handed to the host'
mutant bit-of-short-write $q '/^void Queue::complete_ok/,/^}/s/^\tchunk.advance(done);/\tlanded(chunk);\n&/' \
	'bits are set when a part of the write has landed'
mutant bit-of-failed-write $q '/^void Queue::refuse/,/^}/s/^\tfail(chunk, status_of(error));/\tlanded(chunk);\n&/' \
	'a write that failed sets its bits'
mutant no-first-sync $q \
	'/^bool Queue::lead_sync/,/^}/s/dirty_ms_ = 0;/&\n\t\tnext_block_ = 0;\n\t\tphase_ = SyncPhase::blocks;\n\t\twrite_blocks(chunk);\n\t\treturn false;/' \
	'bits are written before their data is durable'
mutant no-second-sync $q \
	'/^void Queue::write_blocks/,/^}/s/^\t\tleader.op = HostOp::sync;/&\n\t\treturn advance_sync(leader, ByteCount(0));/' \
	'a flush ends before the bits are durable'
mutant no-next cow.cc 's/bitmap.copy(block,/bitmap.copy_live(block,/' \
	'bits that were set after the seal are written with it'
mutant seal-late $q '/case SyncPhase::data:/,/case SyncPhase::blocks:/s/^\t\tnext_block_ = 0;/\t\tcow->bitmap.seal();\n&/' \
	'the seal is made when the fdatasync has ended'
mutant seal-once $q '/^bool Queue::lead_sync/,/^}/s/if (has_news())/if (has_news() \&\& !config_.cow->bitmap.sealed())/' \
	'who joins a commit that is tried again is not sealed'
mutant seal-forgets cow_bitmap.cc \
	'/^void CowBitmap::end_committed/,/^}/s/^\tend_commit();/\tfor (u64 i = 0; i < block_words_for(sectors_); i++)\n\t\tm_.dirty[i] = 0;\n\tdirty_blocks_ = 0;\n\tdirty_span_ = Span{};\n&/' \
	'bits that were set during a commit are taken for committed'
mutant joins-running $q '/^bool Queue::lead_sync/,/^}/s/sync_waiting_.push(chunk);/sync_joined_.push(chunk);/' \
	'a flush joins a commit whose fdatasync is with the host'
mutant joined-told-well $q '/^void Queue::end_sync/,/^}/s/^\t\tfail(chunk, status);//' \
	'who joined a commit that failed is told that it went well'
mutant failed-not-dirty $q '/^void Queue::end_sync/,/^}/s/bitmap.end_failed();/bitmap.end_committed();/' \
	'blocks that could not be written are dirty no more'
mutant blocks-cut $q '/case SyncPhase::blocks:/,/case SyncPhase::bits:/s/if (leader.bytes.value)/if (false)/' \
	'a short write of blocks is not continued'
mutant blocks-mixed cow.cc 's/CowBitmap::block_bytes \* n++,\|CowBitmap::block_bytes \* n++)/CowBitmap::block_bytes * (n++ \& 1))/' \
	'blocks that are written together take the place of others'
mutant loss-not-sticky $q '/^void Queue::durability_lost/,/^}/{s/if (state_.lose_durability())/if (false)/;s/config_.cow->poisoned = true;/;/}' \
	'a failed fdatasync is forgotten'
mutant loss-not-told $q 's/config_.cow->poisoned = true;/;/' \
	'the last commit does not know of a failed fdatasync'
mutant fua-not-committed $q 's/h.sync_pending = by_commit;/h.sync_pending = false;/' \
	'a write-through write does not wait for its bits'
mutant fua-zeroes $q 's/h.sync_pending = durable;/h.sync_pending = false;/' \
	'write-through zeroes are not made durable'
mutant discard-sets-bits $q \
	'/^bool Queue::skip_unneeded/,/^}/s/^\t\th.prepared = h.prepared + run.bytes;/\t\tconfig_.cow->bitmap.set(at.value >> UBD_SECTOR_SHIFT, sectors(run.bytes));\n&/' \
	'a discard of sectors of the backing file sets bits'
mutant discard-not-split cow.cc '/^Run CowLayout::next_run/,/^}/s/if (op != UBD_OP_READ && op != UBD_OP_DISCARD)/if (op != UBD_OP_READ)/' \
	'a discard punches what is not in the COW file'
mutant discard-in-backing cow.cc 's/run.skip = op == UBD_OP_DISCARD;/;/' \
	'a discard goes to the backing file'
mutant bits-not-loaded cow_bitmap.cc '/^void CowBitmap::load/,/^}/s/^\t\tput(m_.touched, block);/\t\t;/' \
	'bits that are read from the file are not used'
mutant last-bits-dropped cow_bitmap.cc '/^void CowBitmap::load/,/^}/s/mask(0, here - i \* word_bits)/0/' \
	'the last bits of the device are not read'
mutant bits-without-space $q '/^bool Queue::allocate/,/^}/s/if (!run.bytes.value)/if (true)/' \
	'a write does not wait for the space of its bits'
mutant space-not-there $q '/^void Queue::end_allocate/,/^}/s/if (have)/if (true)/' \
	'space that could not be made is taken for made'
mutant space-too-short cow.cc '/^Run Cow::unallocated/,/^}/s/min(end \*/min((first + 1) */' \
	'of several parts of the bitmap only the first is given space'
mutant run-too-long cow_bitmap.cc '/^u64 CowBitmap::run/,/^}/s/^\t\t\tbreak;/\t\t\tat = block_end;/' \
	'a run goes on where its bits end'
mutant read-from-wrong-file cow.cc 's/^\trun.file = backing_file;/\trun.file = main_file;/' \
	'what is not in the COW file is read from it'

mutants_end
