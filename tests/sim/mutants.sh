#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Bugs put into core on purpose, one at a time, in a copy under build/: the
# simulator has to find each. Core's own assertions count for nothing there, but
# for the bugs that are named "assert-...".
#
#	mutants.sh [PATTERN]	only those whose name holds it
#	mutants.sh --applies	whether each edit still changes its file; nothing runs
#	mutants.sh --named	only the four that each proof of its own has to find:
#				the unit tests, the simulator, and the model (which
#				has the same bug by -D)
#
# Prints for each the first seed that shows it, and how long that took. The last
# line is "mutants: N found, N not found"; an edit that does not apply is an
# error.
set -u -o pipefail
export LC_ALL=C

top=$(cd "$(dirname "$0")/../.." && pwd)
base=$top/build/sim
unit=$top/build/unit
out=$base/mutants
seeds=${SEEDS:-20000}
named=
pattern=${1:-}
found=0
missed=0
. "$top/tests/applies.sh"
if [ "$pattern" = --named ]; then
	named=yes
	pattern=
	out=$base/named-mutants
fi
# The same bug in drivers/ubd/core/model/queue.pml.
declare -A in_model=(
	[reserve-not-head]='BUG_RESERVE|BUG_HEADER'
	[assert-ticket-bit]=BUG_TICKET
	[reap-without-pump]=BUG_NO_PUMP
	[ring-limit]=BUG_LIMIT
)

begin() {
	make -s -C "$top/tests/sim" O="$base" >/dev/null || exit 1
	[ -z "$named" ] || make -s -C "$top/tests/unit" O="$unit" all >/dev/null || exit 1
	rm -rf "$out"
	mkdir -p "$out"
	# Where core itself fails, a mutant that fails says nothing.
	if ! "$base/ubd-sim" --stop --seeds "$seeds" >"$out/core.log" 2>&1; then
		cat "$out/core.log" >&2
		echo 'mutants: core fails without a bug put in' >&2
		exit 1
	fi
}
[ -n "$applies" ] || begin

prepare() { # NAME FILE SED-SCRIPT
	local dir=$out/$1
	mkdir -p "$dir/source"
	cp -p "$top"/drivers/ubd/core/*.cc "$top"/drivers/ubd/core/*.hh "$dir/source/"
	cp -pr "$base/core" "$base/sim" "$dir/"
	sed -i "$3" "$dir/source/$2"
	if cmp -s "$dir/source/$2" "$top/drivers/ubd/core/$2"; then
		echo "mutants: $1: the edit does not apply to $2: look at what became of that code" >&2
		exit 1
	fi
	# What is copied still includes the ABI by its path from the top.
	if ! make -s -C "$top/tests/sim" O="$dir" CORE="$dir/source" >"$dir/build.log" 2>&1; then
		cat "$dir/build.log" >&2
		echo "mutants: $1 does not compile" >&2
		exit 1
	fi
}

mutant() { # NAME FILE SED-SCRIPT WHAT
	if [ -n "$applies" ]; then
		edit_applies "$1" "$top/drivers/ubd/core/$2" "$3"
		return
	fi
	if [ -n "$named" ]; then
		[ -n "${in_model[$1]-}" ] || return 0
	else
		[[ $1 == *"$pattern"* ]] || return 0
	fi
	prepare "$1" "$2" "$3"
	printf '%-22s %s\n' "$1" "$4"
	by_simulator "$1"
	if [ -n "$named" ]; then
		by_unit_tests "$1"
		by_model "$1"
	fi
	rm -rf "$out/$1/core" "$out/$1/sim" "$out/$1/unit" "$out/$1/model"
}

verdict() { # PROOF HOW, which is empty if it did not find it
	if [ -n "$2" ]; then
		found=$((found + 1))
		printf '  found      %-10s %s\n' "$1" "$2"
	else
		missed=$((missed + 1))
		printf '  NOT FOUND  %-10s see %s\n' "$1" "${log#"$top/"}"
	fi
}

by_simulator() { # NAME
	local asserts=--ignore-asserts log=$out/$1/run.log seed seconds why
	[[ $1 == assert-* ]] && asserts=
	# shellcheck disable=SC2086
	"$out/$1/ubd-sim" --stop $asserts --seeds "$seeds" >"$log" 2>&1
	read -r seed seconds < <(sed -n 's/^first failure: seed \([0-9]*\) after \([0-9.]*\) s/\1 \2/p' "$log")
	why=$(sed -n "s/^FAIL seed ${seed:-none}: //p" "$log" | head -n 1)
	verdict simulator "${seed:+$seconds s: seed $seed: $why}"
}

# Only what the edit changed is compiled anew.
by_unit_tests() { # NAME
	local dir=$out/$1/unit log=$out/$1/unit.log start case
	cp -pr "$unit" "$dir"
	if ! make -s -C "$top/tests/unit" O="$dir" CORE="$out/$1/source" all >"$log" 2>&1; then
		cat "$log" >&2
		exit 1
	fi
	start=${EPOCHREALTIME/./}
	timeout 100 "$dir/ubd_unit" --gtest_brief=1 --gtest_fail_fast >"$log" 2>&1
	start=$((${EPOCHREALTIME/./} - start))
	case=$(sed -n 's/^\[  FAILED  \] \(ubd_[a-z_.]*\) .*/\1/p; s/^\(ubd_[a-z_.]*\): stopped:.*/\1/p' "$log" | head -n 1)
	verdict unit "${case:+$((start / 1000000)).$(printf %06d $((start % 1000000)) | cut -c1-2) s: $case}"
}

by_model() { # NAME
	local log=$out/$1/model.log how=
	O=$out/$1 "$top/tests/sim/model.sh" --only "${in_model[$1]}" >"$log" 2>&1 &&
		how=$(sed -n 's/^  ok  *\(BUG_[A-Z_]*\)  *found in \([0-9.]* s\): .*/\2: \1/p' "$log" | paste -sd ';' | sed 's/;/; /g')
	verdict model "$how"
}

q=queue.cc
# Takes the list apart and puts the new one before it.
goes_first='s/^\tfifo_.push(rq);/'
goes_first+='\tbool begun = fifo_.front() \&\& fifo_.front()->header;\n'
goes_first+='\tRequest *rest = rq.ticket % 2 \&\& !begun ? fifo_.take() : nullptr;\n'
goes_first+='\tfifo_.push(rq);\n'
goes_first+='\twhile (rest) {\n\t\tRequest \&r = *rest;\n\t\trest = r.next;\n\t\tfifo_.push(r);\n\t}/'
# The request behind the head gets it, and keeps it until it is the head itself.
behind='s/^\th->rq = &rq;/'
behind+='\tif (h->from_reserve \&\& rq.next) {\n'
behind+='\t\th->rq = rq.next;\n\t\trq.next->header = h;\n\t\tbegun_++;\n\t\treturn false;\n\t}\n'
behind+='\th->rq = \&rq;/'
mutant reserve-not-head $q "$behind" 'the reserve goes to a request that is not at the head'
mutant head-goes-last $q \
	'/Header \*h = take_header();/,/return false;/s/return false;/fifo_.push(fifo_.pop());\n\t\treturn false;/' \
	'without memory the head goes behind the others'
mutant reserve-chunk-owners $q 's/} else if (!chunk_reserved_) {/} else if (true) {/' \
	'the reserve chunk is taken twice'
mutant reserve-header-owners $q '/^Header \*Queue::take_header/,/^}/s/if (header_reserved_)/if (false)/' \
	'the reserve header is taken twice'
mutant reserve-never $q 's/} else if (!chunk_reserved_) {/} else if (false) {/' 'the reserve is not used'
mutant reserve-kept $q 's/^\t\tchunk_reserved_ = false;/\t\t;/' 'the reserve is not given back'
mutant assert-ticket-bit $q 's/rq.ticket = next_ticket_++;/rq.ticket = next_ticket_++ \& ~1ull;/' \
	'the lowest bit of the ticket is dropped'
mutant order $q "$goes_first" \
	'every other request goes before those that wait'
mutant reap-without-pump $q \
	's/^\tserve(Reaper::interrupt);/\tengine_.quiet();\n\tdo {\n\t\treap(Reaper::interrupt);\n\t} while (engine_.listen());\n\tarm();/' \
	'the interrupt reaps and does not run the pump'
mutant ring-limit $q 's/in_flight_ >= engine_.capacity()/in_flight_ > engine_.capacity()/' \
	'one more in flight than fits'
mutant ring-space $q '/bool Queue::prepare_waiting/,/^}/s/if (!engine_.space())/if (false)/' \
	'a retry does not look for ring space'
mutant no-second-look $q 's/ \&\& engine_.listen());/ \&\& engine_.listen() \&\& false);/' \
	'what the second look finds is left there'
mutant late-space $q 's/bool sent = submit();/submit();\n\t\t\tbool sent = false;/' \
	'ring space that a late submit() frees is not used'
mutant short-transfer $q '/^void Queue::complete_ok/,/^}/s/if (!chunk.bytes.value)/if (true)/' \
	'a short transfer is not continued'
mutant short-offset request.cc 's/^\toffset = offset + n;/\t;/' 'it is continued at its beginning'
mutant eof-not-zeroed $q 's/^\tchunk.zero_rest();/\t;/' 'what is beyond the end of the file is not zeroed'
mutant error-lost $q 's/fail(chunk, status_of(error));/;/' 'an error is forgotten'
mutant cancel-is-final policy.cc '/case errno_canceled:/d' 'what was cancelled is not tried again'
mutant later-never $q '/Queue::timer()/,/^}/s/while (!later_.empty())/while (false)/' \
	'what waits for a pause is never tried again'
mutant timer-not-armed $q 's/^\tubd_k_arm_timer(k_, ms);/\t;/' 'the timer is not armed'
mutant poll-not-announced $q '/^void Queue::end_poll/,/^}/s/if (engine_.listen())/if (false)/' \
	'after looking, completions are not announced again'
mutant poll-no-last-look $q '/^void Queue::end_poll/,/^}/s/if (engine_.listen())/if (engine_.listen(), false)/' \
	'what came at the end of the looking is missed'
mutant poll-never-ends $q '/^void Queue::end_poll/,/^}/s/polling_ = false;/;/' 'who looks goes on looking'
mutant fua-ignored $q 's/durable && !by_commit ? HostOp::write_sync : HostOp::write/HostOp::write/' 'FUA is ignored'
mutant sync-pending $q 's/h.sync_pending = durable;/h.sync_pending = false;/' \
	'durable zeroes are not made durable'
mutant sync-joins-running $q '/^bool Queue::lead_sync/,/^}/s/sync_waiting_.push(chunk);/sync_joined_.push(chunk);/' \
	'a flush shares the fdatasync that runs already'
mutant sync-side-by-side $q 's/if (sync_leader_ && sync_leader_ != &chunk)/if (false)/' \
	'two fdatasync calls at a time'
mutant sync-loss-forgotten $q 's/if (state_.lose_durability())/if (false)/' 'a failed fdatasync is forgotten'
mutant sync-loss-not-shared $q 's/\bstate_\./own_state_./' 'a failed fdatasync is known to its own queue only'
mutant nounmap-ignored $q 's/rq.flags & UBD_RQ_NOUNMAP ? HostOp::zero : HostOp::punch/HostOp::punch/' \
	'NOUNMAP is ignored'
mutant ends-early $q 's/h.all_prepared && h.chunks == &chunk && !chunk.sibling_next/h.all_prepared/' \
	'a request ends with its first chunk'
mutant ends-locked $q '/while (Request \*list/,/}/{/ubd_k_unlock/d;/flags_ = ubd_k_lock/d}' \
	'requests are ended under the lock'
mutant ending-guard $q 's/if (!q_.ending_) {/if (true) {/' 'requests are ended from within the end of others'
mutant chunk-leak $q 's/ubd_k_chunk_free(k_, &chunk);/;/' 'a chunk is not freed'
mutant unsafe-asks $q 's/rq.op == UBD_OP_FLUSH && config_.no_flush/false/' 'in unsafe mode a flush asks the host'
mutant unsafe-fua $q 's/((rq.flags & UBD_RQ_FUA) && !config_.no_flush)/(rq.flags \& UBD_RQ_FUA)/' \
	'in unsafe mode FUA asks the host'
mutant direct-goes-on $q 's/^\t\tdone = whole;/\t\t;/' 'by O_DIRECT a transfer goes on within a block'
mutant direct-end $q 's/^\tif (!whole.value) {/\tif (!done.value) {/' 'by O_DIRECT a part of a block is not the end of the file'
mutant stop-reports $q 's/may_stop() && waits_for_space/false \&\& waits_for_space/' \
	'what there is no space for fails though it should wait'
mutant stop-sync policy.cc 's/ && op != HostOp::sync && op != HostOp::read;/;/' \
	'an fdatasync that found no space is tried again'
mutant stop-serves $q 's/waiting_.empty() && !stop_error_)/waiting_.empty())/' \
	'what is new is served while the queue is stopped'
mutant stop-for-ever $q '/^void Queue::go_on/,/^}/s/while (!kept_.empty())/while (false)/' \
	'what was kept is forgotten when it goes on'
mutant stop-no-trial $q 's/stop_waited_ms_ >= stop_pause_ms_/false/' 'nothing is tried again by itself'
mutant stop-trial-stays $q '/^void Queue::keep/,/^}/s/trial_ = nullptr;/;/' 'after a trial that failed there is none'
mutant stop-failed-trial $q '/^void Queue::finish_chunk/,/^}/s/if (&chunk == trial_)/if (false)/' \
	'a trial that fails otherwise does not end the stop'
mutant stop-at-reboot $q '/^void Queue::go_synchronous/,/^}/s/drop_kept();/;/' 'at reboot it stays stopped'
mutant stop-when-lost $q '/^void Queue::durability_lost/,/^}/s/drop_kept();/;/' \
	'it stays stopped though durability is lost'
mutant stop-dropped $q '/^void Queue::drop_kept/,/^}/s/refuse(kept_.pop(), error);/finish_chunk(kept_.pop());/' \
	'who waited in vain is told that all went well'
mutant synchronous $q 's/else if (!again && synchronous_)/else if (false)/' 'at reboot nobody waits for completions'
mutant travel-no-wait $q '/again = await_round(/s/=.*/= false;/' 'in time travel nobody waits for completions'
mutant travel-no-pause $q '/^bool Queue::await_round/,/^}/s/while (!later_.empty())/while (false)/' \
	'in time travel what waits for a pause is never tried again'
mutant travel-no-more $q '/^bool Queue::await_round/,/^}/s/return !fifo_.empty() .*/return false;/' \
	'in time travel a second round is not begun'
mutant travel-unsent $q '/^bool Queue::await_round/,/^}/s/if (engine_.unsent())/if (false)/' \
	'in time travel what the host refused is not offered again'

mutants_end
