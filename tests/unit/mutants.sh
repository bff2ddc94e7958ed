#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Bugs put into the engines of drivers/ubd/host on purpose, one at a time, in copies
# under build/: the programs that test them have to find each.
#
#	mutants.sh [PATTERN]	only those whose name holds it
#	mutants.sh --applies	whether each edit still changes its file; nothing runs
#
# Prints for each what was broken and which test saw it. The last line is
# "mutants: N found, N not found"; an edit that does not apply is an error.
set -u -o pipefail
export LC_ALL=C

top=$(cd "$(dirname "$0")/../.." && pwd)
out=${O:-$top/build/unit}/mutants
pattern=${1:-}
limit=90
found=0
missed=0
. "$top/tests/applies.sh"

begin() {
	rm -rf "$out"
	mkdir -p "$out/drivers/ubd"
	ln -s "$top/drivers/ubd/core" "$out/drivers/ubd/core"
	ln -s "$top/include" "$out/include"
}
[ -n "$applies" ] || begin

# run PROGRAM: false if it fails, or does not end
run() {
	{ timeout -s KILL "$limit" setarch -R "$out/$1" --gtest_brief=1 --gtest_fail_fast >"$out/run.log" 2>&1; } 2>/dev/null
}

# saw PROGRAM: what it complained of first
saw() {
	local what

	what=$(grep -oE 'ThreadSanitizer: [a-z ]*|broken invariant.*|[a-z_]*[.][a-z]*:[0-9]*: Failure' "$out/run.log" | head -n 1)
	printf '           %s: %s\n' "$1" "${what:-it hangs, or dies}"
}

# mutant NAME FILE SED-SCRIPT WHAT
mutant() {
	local program

	if [ -n "$applies" ]; then
		edit_applies "$1" "$top/drivers/ubd/host/$2" "$3"
		return
	fi
	[[ $1 == *"$pattern"* ]] || return 0
	rm -rf "$out/drivers/ubd/host"
	cp -pr "$top/drivers/ubd/host" "$out/drivers/ubd/host"
	sed -i "$3" "$out/drivers/ubd/host/$2"
	if cmp -s "$out/drivers/ubd/host/$2" "$top/drivers/ubd/host/$2"; then
		echo "mutants: $1: the edit does not apply to $2: look at what became of that code" >&2
		exit 1
	fi
	if ! make -s -C "$top/tests/unit" O="$out" HOST="$out/drivers/ubd/host" engines >"$out/build.log" 2>&1; then
		cat "$out/build.log" >&2
		echo "mutants: $1 does not compile" >&2
		exit 1
	fi
	for program in ubd_host ubd_host_tsan; do
		if ! run $program; then
			found=$((found + 1))
			printf 'found      %-20s %s\n' "$1" "$4"
			saw $program
			return
		fi
	done
	missed=$((missed + 1))
	printf 'NOT FOUND  %-20s %s\n' "$1" "$4"
}

# What only another order of two loads or stores shows is for core/model/workers.pml.
w=workers.cc
mutant wake-forgotten $w '/^void Workers::submit/,/^}/s/if (__atomic_load_n(&s.sleepers, __ATOMIC_SEQ_CST))/if (false)/' \
	'who sleeps is not woken'
mutant wakes-one-only $w '/^void Workers::submit/,/^}/s/if (__atomic_load_n(&s.sleepers, __ATOMIC_SEQ_CST))/if (!job_was_there)/; /^void Workers::submit/,/^}/s/^\tbusy_ += n;/\tconst bool job_was_there = busy_;\n\tbusy_ += n;/' \
	'nobody is woken while others work'
mutant sleepers-late $w 's/^\t\t__atomic_fetch_add(&s.sleepers, 1, __ATOMIC_SEQ_CST);/\t\tjob = next_job(s);/; s/^\t\tif ((job = next_job(s)) == nullptr && \(.*\))$/\t\t__atomic_fetch_add(\&s.sleepers, 1, __ATOMIC_SEQ_CST);\n\t\tif (!job \&\& \1)/; s/^\t\tconst u32 seen = .*/\t\tu32 seen = 0;/; s/FUTEX_WAIT_PRIVATE, seen)/FUTEX_WAIT_PRIVATE, seen = __atomic_load_n(\&s.tail, __ATOMIC_RELAXED))/' \
	'it looks for a job before it says that it sleeps, and sleeps on whatever came'
mutant tail-relaxed $w 's/__atomic_store_n(&s.tail, s.tail + n, __ATOMIC_SEQ_CST)/__atomic_store_n(\&s.tail, s.tail + n, __ATOMIC_RELAXED)/; s/if (head == __atomic_load_n(&s.tail, __ATOMIC_ACQUIRE))/if (head == __atomic_load_n(\&s.tail, __ATOMIC_RELAXED))/; s/const u32 seen = __atomic_load_n(&s.tail, __ATOMIC_ACQUIRE)/const u32 seen = __atomic_load_n(\&s.tail, __ATOMIC_RELAXED)/' \
	'a job is seen before what is in it'
mutant finished-relaxed $w '/^void Workers::done/,/^}/s/__ATOMIC_SEQ_CST/__ATOMIC_RELAXED/' \
	'what is done is seen before its result'
mutant reaped-relaxed $w 's/__atomic_exchange_n(&shared_->finished, nullptr, __ATOMIC_ACQUIRE)/__atomic_exchange_n(\&shared_->finished, nullptr, __ATOMIC_RELAXED)/' \
	'a result is read before it is there'
mutant taken-twice $w '/^Workers::Job \*Workers::next_job/,/^}/s/if (__atomic_compare_exchange_n(.*/if ((__atomic_store_n(\&s.head, head + 1, __ATOMIC_RELEASE), true))/' \
	'two threads take the same job'
mutant stack-order $w '/^u32 Workers::reap/,/^}/s/^\t\t\twhile (last) {/\t\t\treaped_ = last;\n\t\t\tlast = nullptr;\n\t\t\twhile (last) {/' \
	'what is done comes back in the wrong order'
mutant push-lost $w '/^void Workers::done/,/^}/s/} while (!__atomic_compare_exchange_n(.*/\tfor (volatile int i = 0; i < 20; i++)\n\t\t\t;\n\t\t__atomic_store_n(\&s.finished, \&job, __ATOMIC_SEQ_CST);\n\t} while (false);/' \
	'of two that are done at once one is lost'
mutant asleep-silent $w '/^Workers::Job \*Workers::await_job/,/^}/{/^\tannounce(s);/d}' \
	'a thread goes to sleep and announces nothing'
mutant announced-always $w '/^void Workers::announce/,/^}/s/!__atomic_load_n(&s.listening, __ATOMIC_SEQ_CST) || //; s/^\t    !__atomic_exchange_n(&s.listening, 0, __ATOMIC_SEQ_CST))/\t    false)/' \
	'it is announced whether somebody listens or not'
mutant hidden $w "s/if (job->chunk->op != HostOp::write || now_cycles/if (now_cycles/" \
	'what is done is announced when the next one is, however long that takes'
mutant listening-kept $w 's/!__atomic_exchange_n(&s.listening, 0, __ATOMIC_SEQ_CST))/!__atomic_load_n(\&s.listening, __ATOMIC_SEQ_CST))/' \
	'each part is announced'
mutant stop-unseen $w 's/if (__atomic_load_n(&s.stop, __ATOMIC_SEQ_CST))$/if (false)/' \
	'a thread does not end'
mutant not-awaited $w '/^void Workers::stop/,/^}/s/while ((tid = __atomic_load_n(&s.threads\[i\].tid, __ATOMIC_SEQ_CST))) {/if ((tid = 1)) {/' \
	'the memory goes before the threads'
mutant job-not-free $w '/^u32 Workers::reap/,/^}/s/^\t\tfree_ = job;/\t\t;/' \
	'a job is used once'
mutant ring-small $w 's/^\twhile (slots < jobs)/\twhile (2 * slots < jobs)/' \
	'the ring is too small for the jobs'
mutant event-left $w '/^void Workers::stop/,/^}/s/^\tevent_.reset();/\t(void)event_.release();/' \
	'a descriptor is left open'
mutant memory-left $w '/^void Workers::stop/,/^}/s/(void)sys::call(SYS_munmap, .*/;/' \
	'memory is left'
mutant read-iov $w 's/sys::arg(c.iov + c.first), iovs = c.iovs - c.first/sys::arg(c.iov), iovs = c.iovs - 1/' \
	'no data is moved'
mutant wait-for-others $w '/^void Workers::wait/,/^}/s/ || p\[0\].revents)/ || n > 0)/' \
	'what another disk announces ends a pause'
mutant wait-deaf $w '/^void Workers::wait/,/^}/s/if (here || there)/if (false)/' \
	'a wait goes on though something is there'
t=threads.cc
mutant part-for-all $t '/^bool ThreadsEngine::read_at_once/,/^}/s/return n >= 0 && .*/return n > 0;/' \
	'a part of a read is taken for all of it'
mutant not-handed-over $t 's/^\tlarge_reads_ = 0;/\tlarge_reads_ = 0;\n\treturn no_error;/' \
	'what was prepared is not handed over'
mutant threads-no-look $t '/^bool ThreadsEngine::listen/,/^}/s/if (!ready())/if (true)/' \
	'listen() does not look once more'
mutant threads-deaf $t '/^bool ThreadsEngine::listen/,/^}/s/^\tpool_.listen();/\t;/' \
	'the pool is not told that somebody listens'
mutant never-at-once $t 's/may_wait_\[chunk.file\] = n < 0 .*/may_wait_[chunk.file] = true;/' \
	'cached reads go to threads after the first'
mutant held-for-ever $t 's/^\theld_ -= taken;/\t;/' 'room is not given back'
mutant all-or-nothing $t 's/for (u32 n = min(pool_threads \/ engines, depth); n; n \/= 2)/for (u32 n = min(pool_threads, depth); n; n = 0)/' \
	'fewer threads than it wants are not enough'
u=uring.cc
mutant uring-worker-deaf $u '/^bool UringEngine::listen/,/^}/s/ && !workers_.ready())/)/; /^bool UringEngine::listen/,/^}/s/^\t\tworkers_.listen();/\t\tworkers_.quiet();/' \
	'what the thread has done is not announced'
mutant mixed-uncounted $u '/^u32 UringEngine::space/,/^}/s/ - mixed_count_//' \
	'what waits for a thread takes no room in the ring'
mutant mixed-left $u '/^Error UringEngine::submit/,/^}/s/^\t\tif (mixed_.empty())/\t\tif (true)/' \
	'what waits for the ring is not handed over'
mutant ring-of-one-cpu $u '/^Error UringEngine::open/,/several CPUs/s/if (ubd_k_one_cpu())/if (true)/' \
	'several CPUs use a ring that is for one'
mutant descriptor-of-one-cpu $u '/that is for the host thread/,/register_ring_fd/s/if (ubd_k_one_cpu())/if (true)/' \
	'the same by the registered descriptor alone'

mutants_end
