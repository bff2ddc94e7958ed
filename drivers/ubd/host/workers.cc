// SPDX-License-Identifier: GPL-2.0-only
/*
 * The two sides of the worker threads.
 *
 * Context: under the queue lock, interrupts off, unless a function says
 * otherwise. "In a thread" is outside the kernel: a host thread of its own, which
 * takes no lock of the kernel's and makes only direct system calls.
 */
#include "workers.hh"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/futex.h>
#include <linux/prctl.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <time.h>

#include "clone.hh"

namespace ubd
{
namespace
{

constexpr u64 page_bytes = 4096;
// How long what is done may wait for somebody who looks by himself.
constexpr u64 announce_after_ns = 5000;
// The same while a thread has more to do: some 20 microseconds.
constexpr u64 announce_after_cycles = 50000;
// A thread leaves the CPU of who waits for it that often at most: some milliseconds.
constexpr u64 move_pause_cycles = 10000000;
constexpr u64 stack_bytes = 16 << 10; // the lowest page of it is a guard

#ifndef RWF_DSYNC
constexpr int RWF_DSYNC = 2;
#endif

constexpr u64 round_up(u64 n, u64 to)
{
	return (n + to - 1) / to * to;
}

// In a thread, or anywhere.
u64 now_ns()
{
	timespec t{};
	(void)sys::call(SYS_clock_gettime, CLOCK_MONOTONIC, sys::arg(&t));
	return static_cast<u64>(t.tv_sec) * 1000000000 + static_cast<u64>(t.tv_nsec);
}

// The CPU that this runs on, as the host numbers them; the time in the CPU's units.
struct CpuAndTime {
	u32 cpu;
	u64 cycles;
};

// Linux keeps the number where this instruction reads it.
CpuAndTime here_and_now()
{
	u32 low, high, cpu;
	asm volatile("rdtscp" : "=a"(low), "=d"(high), "=c"(cpu));
	return { cpu & 0xfff, static_cast<u64>(high) << 32 | low };
}

u64 now_cycles()
{
	return __builtin_ia32_rdtsc();
}

bool has_rdtscp()
{
	u32 a = 0x80000000, b = 0, c = 0, d = 0;
	asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	if (a < 0x80000001)
		return false;
	a = 0x80000001;
	asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	return d & 1 << 27;
}

// CPUs by number; the host knows of no more.
struct CpuSet {
	u64 word[64]{}; // 4096
	void remove(u32 cpu) { word[cpu / 64] &= ~(1ull << cpu % 64); }
	bool empty() const
	{
		for (u64 w : word)
			if (w)
				return false;
		return true;
	}
};

// In a thread: moves it to another CPU. It may return later: that is the host's
// to decide.
void leave_cpu(u32 cpu)
{
	CpuSet all, others;
	const long bytes = sys::call(SYS_sched_getaffinity, 0, sizeof(all), sys::arg(&all));
	if (bytes < 0)
		return;
	others = all;
	others.remove(cpu);
	if (others.empty() || sys::call(SYS_sched_setaffinity, 0, bytes, sys::arg(&others)) < 0)
		return;
	(void)sys::call(SYS_sched_setaffinity, 0, bytes, sys::arg(&all));
}

// In a thread: the one call that a chunk asks for; bytes or -errno.
s32 perform(const EngineFiles &files, const Chunk &c)
{
	const int fd = files.of(c);
	const long iov = sys::arg(c.iov + c.first), iovs = c.iovs - c.first;
	const long offset = static_cast<long>(c.offset.value), bytes = static_cast<long>(c.bytes.value);
	switch (c.op) {
	case HostOp::read:
		return static_cast<s32>(sys::call(SYS_preadv, fd, iov, iovs, offset));
	case HostOp::write:
		return static_cast<s32>(sys::call(SYS_pwritev, fd, iov, iovs, offset));
	case HostOp::write_sync:
		return static_cast<s32>(sys::call(SYS_pwritev2, fd, iov, iovs, offset, 0, RWF_DSYNC));
	case HostOp::sync:
		return static_cast<s32>(sys::call(SYS_fdatasync, fd));
	case HostOp::punch:
		return static_cast<s32>(
			sys::call(SYS_fallocate, fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, offset, bytes));
	case HostOp::zero:
		return static_cast<s32>(
			sys::call(SYS_fallocate, fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_ZERO_RANGE, offset, bytes));
	case HostOp::allocate:
		return static_cast<s32>(sys::call(SYS_fallocate, fd, FALLOC_FL_KEEP_SIZE, offset, bytes));
	}
	return -errno_inval;
}

} // namespace

// From what the host has cached: a file server that hangs must not stop us.
bool EngineFiles::have_no_name() const
{
	struct statx st;
	return sys::call(SYS_statx, fds[0], sys::arg(""), AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_NLINK,
			 sys::arg(&st)) == 0 &&
	       st.stx_nlink == 0;
}

struct Workers::Job {
	Chunk *chunk;
	s32 result;
	Job *next;
};

struct Workers::Thread {
	Shared *shared;
	int tid; // a futex: zero when it has ended
};

// What both sides use. What one side writes often has a cache line of its own.
struct Workers::Shared {
	EngineFiles files;
	int event_fd;
	u32 spin_ns;
	u32 mask; // of ring
	Job **ring;
	bool stop;
	Thread threads[most];
	alignas(64) u32 tail; // a futex; written by the producer only
	u32 producer_cpu; // where it was last
	bool know_cpu;
	u32 sleepers;
	alignas(64) u32 head;
	alignas(64) Job *finished; // the last one first
	int listening;
};

// In a thread: takes a job from the ring, if there is one.
Workers::Job *Workers::next_job(Shared &s)
{
	u32 head = __atomic_load_n(&s.head, __ATOMIC_ACQUIRE);
	for (;;) {
		if (head == __atomic_load_n(&s.tail, __ATOMIC_ACQUIRE))
			return nullptr;
		// Not overwritten before head has moved, and then the exchange fails.
		Job *job = __atomic_load_n(&s.ring[head & s.mask], __ATOMIC_RELAXED);
		if (__atomic_compare_exchange_n(&s.head, &head, head + 1, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
			return job;
	}
}

// In a thread: what is done is announced, if that is wanted.
void Workers::announce(Shared &s)
{
	// With listen(): either it sees the job, or this sees that it listens.
	if (!__atomic_load_n(&s.listening, __ATOMIC_SEQ_CST) || !__atomic_load_n(&s.finished, __ATOMIC_SEQ_CST) ||
	    !__atomic_exchange_n(&s.listening, 0, __ATOMIC_SEQ_CST))
		return;
	const u64 one = 1;
	(void)sys::write(s.event_fd, &one, sizeof(one));
}

/*
 * In a thread: the next job, or null at the end. What was done is announced before
 * the thread sleeps, but not at once: a guest that has work is not interrupted for
 * each part, and one that looks by itself not at all. But it is announced before
 * what may take long: plain writes to the page cache are what does not, as a rule.
 * `begun` is when jobs began to follow each other, or when the last announcement was.
 */
Workers::Job *Workers::await_job(Shared &s, PollWindow &window, u64 &begun)
{
	Job *job = next_job(s);
	if (job) {
		if (job->chunk->op != HostOp::write || now_cycles() - begun > announce_after_cycles) {
			announce(s);
			begun = now_cycles();
		}
		return job;
	}
	const u64 since = now_ns();
	for (u64 waited = 0; waited < window.ns(); waited = now_ns() - since) {
		if (waited >= announce_after_ns)
			announce(s);
		(void)sys::call(SYS_sched_yield);
		if ((job = next_job(s))) {
			window.waited(now_ns() - since);
			begun = now_cycles();
			return job;
		}
	}
	announce(s);
	for (;;) {
		const u32 seen = __atomic_load_n(&s.tail, __ATOMIC_ACQUIRE);
		__atomic_fetch_add(&s.sleepers, 1, __ATOMIC_SEQ_CST);
		// With submit() and stop(): one of us sees what the other wrote.
		if ((job = next_job(s)) == nullptr && !__atomic_load_n(&s.stop, __ATOMIC_SEQ_CST))
			(void)sys::call(SYS_futex, sys::arg(&s.tail), FUTEX_WAIT_PRIVATE, seen);
		__atomic_fetch_sub(&s.sleepers, 1, __ATOMIC_SEQ_CST);
		if (job || (job = next_job(s))) {
			window.waited(now_ns() - since);
			begun = now_cycles();
			return job;
		}
		if (__atomic_load_n(&s.stop, __ATOMIC_SEQ_CST))
			return nullptr;
	}
}

/*
 * In a thread: the host may have put it on the CPU of who waits for it, and leave
 * it there though another one is idle: then the two take turns. `moved` is when it
 * last left such a place.
 */
void Workers::keep_off(Shared &s, u64 &moved)
{
	if (!s.know_cpu)
		return;
	const CpuAndTime now = here_and_now();
	if (now.cpu != __atomic_load_n(&s.producer_cpu, __ATOMIC_RELAXED) || now.cycles - moved < move_pause_cycles)
		return;
	moved = now.cycles;
	leave_cpu(now.cpu);
}

// In a thread: gives it back.
void Workers::done(Shared &s, Job &job)
{
	Job *old = __atomic_load_n(&s.finished, __ATOMIC_RELAXED);
	do {
		job.next = old;
	} while (!__atomic_compare_exchange_n(&s.finished, &old, &job, true, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
}

// In a thread: its whole life.
int Workers::thread_main(void *thread)
{
	Shared &s = *static_cast<Thread *>(thread)->shared;
	(void)sys::call(SYS_prctl, PR_SET_NAME, sys::arg("ubd-worker"));
	PollWindow window(s.spin_ns);
	u64 moved = 0, begun = 0;
	while (Job *job = await_job(s, window, begun)) {
		keep_off(s, moved);
		job->result = perform(s.files, *job->chunk);
		done(s, *job);
	}
	return 0;
}

// Context: process, may sleep, no lock held.
Error Workers::start(u32 count, u32 jobs, int wake_fd, const EngineFiles &files, u32 spin_ns)
{
	UBD_ASSERT(count && count <= most && !shared_);
	u32 slots = 1;
	while (slots < jobs)
		slots *= 2;
	// Stacks first, since they are whole pages.
	const u64 stacks = count * stack_bytes;
	const u64 bytes = round_up(stacks + sizeof(Shared) + slots * sizeof(Job *) + jobs * sizeof(Job), page_bytes);
	const long m = sys::call(SYS_mmap, 0, static_cast<long>(bytes), PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m < 0 && m > -4096)
		return sys::to_error(m);
	// UML forks for each guest process: those have no use for it.
	(void)sys::call(SYS_madvise, m, static_cast<long>(bytes), MADV_DONTFORK);
	mapping_ = reinterpret_cast<char *>(m);
	mapped_ = bytes;
	shared_ = new (Place{ mapping_ + stacks }) Shared{};
	Shared &s = *shared_;
	s.files = files;
	s.spin_ns = spin_ns;
	s.mask = slots - 1;
	s.know_cpu = spin_ns && has_rdtscp();
	s.ring = reinterpret_cast<Job **>(mapping_ + stacks + sizeof(Shared));
	auto *job = reinterpret_cast<Job *>(s.ring + slots);
	for (u32 i = 0; i < jobs; i++, job++) {
		job->next = free_;
		free_ = job;
	}
	// Of our own: the relay's is closed before the last of us has ended.
	event_.reset(static_cast<int>(sys::call(SYS_fcntl, wake_fd, F_DUPFD_CLOEXEC, 0)));
	s.event_fd = event_.get();
	Error e = sys::to_error(event_.get());
	for (; !e && threads_ < count; threads_++) {
		Thread &t = s.threads[threads_];
		char *stack = mapping_ + threads_ * stack_bytes;
		t.shared = &s;
		t.tid = 1;
		(void)sys::call(SYS_mprotect, sys::arg(stack), page_bytes, PROT_NONE);
		const long tid = clone_on(stack + stack_bytes,
					  CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
						  CLONE_SYSVSEM | CLONE_CHILD_CLEARTID,
					  thread_main, &t, &t.tid);
		e = sys::to_error(tid);
		if (e)
			break;
	}
	if (e)
		stop();
	return e;
}

// Context: process, may sleep, no lock held.
void Workers::stop()
{
	if (!shared_)
		return;
	Shared &s = *shared_;
	UBD_ASSERT(!busy_ && !unsent_);
	__atomic_store_n(&s.stop, true, __ATOMIC_SEQ_CST);
	for (u32 i = 0; i < threads_; i++) {
		const struct {
			long sec, nsec;
		} pause{ 0, 1000 * 1000 };
		int tid;
		while ((tid = __atomic_load_n(&s.threads[i].tid, __ATOMIC_SEQ_CST))) {
			(void)sys::call(SYS_futex, sys::arg(&s.tail), FUTEX_WAKE_PRIVATE, most);
			// The host wakes by the shared kind of futex when a thread ends.
			(void)sys::call(SYS_futex, sys::arg(&s.threads[i].tid), FUTEX_WAIT, tid, sys::arg(&pause));
		}
	}
	(void)sys::call(SYS_munmap, sys::arg(mapping_), static_cast<long>(mapped_));
	shared_ = nullptr;
	free_ = reaped_ = nullptr;
	threads_ = 0;
	event_.reset();
}

void Workers::prepare(Chunk &chunk)
{
	Shared &s = *shared_;
	Job *job = free_;
	UBD_ASSERT(job);
	free_ = job->next;
	job->chunk = &chunk;
	__atomic_store_n(&s.ring[(s.tail + unsent_) & s.mask], job, __ATOMIC_RELAXED);
	unsent_++;
}

void Workers::submit()
{
	Shared &s = *shared_;
	if (!unsent_)
		return;
	const u32 n = unsent_;
	busy_ += n;
	unsent_ = 0;
	if (s.know_cpu)
		__atomic_store_n(&s.producer_cpu, here_and_now().cpu, __ATOMIC_RELAXED);
	__atomic_store_n(&s.tail, s.tail + n, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&s.sleepers, __ATOMIC_SEQ_CST))
		(void)sys::call(SYS_futex, sys::arg(&s.tail), FUTEX_WAKE_PRIVATE, static_cast<long>(n));
}

bool Workers::ready() const
{
	return reaped_ || (shared_ && __atomic_load_n(&shared_->finished, __ATOMIC_ACQUIRE));
}

u32 Workers::reap(Completion *to, u32 max)
{
	u32 taken = 0;
	while (taken < max) {
		if (!reaped_ && ready()) {
			Job *last = __atomic_exchange_n(&shared_->finished, nullptr, __ATOMIC_ACQUIRE);
			while (last) {
				Job *before = last->next;
				last->next = reaped_;
				reaped_ = last;
				last = before;
			}
		}
		if (!reaped_)
			break;
		Job *job = reaped_;
		reaped_ = job->next;
		to[taken++] = Completion{ job->chunk, job->result };
		job->next = free_;
		free_ = job;
	}
	busy_ -= taken;
	return taken;
}

void Workers::quiet()
{
	__atomic_store_n(&shared_->listening, 0, __ATOMIC_RELAXED);
}

void Workers::listen()
{
	__atomic_store_n(&shared_->listening, 1, __ATOMIC_SEQ_CST);
}

// True if there is something to reap; what is done later will be announced.
bool Workers::listen_and_look()
{
	if (!running())
		return false;
	u64 count;
	(void)sys::read(event_.get(), &count, sizeof(count));
	listen();
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return ready();
}

// The eventfd is every disk's: what another one announces there is not what is
// waited for, and must not count as a pause.
void Workers::wait(Workers &a, Workers &b, int other_fd)
{
	const int event = a.running() ? a.event_.get() : b.event_.get(); // two names for one
	struct pollfd p[2] = { { other_fd, POLLIN, 0 }, { event, POLLIN, 0 } };
	struct {
		long sec, nsec;
	} rest{ 0, 100 * 1000 * 1000 }; // the host writes back what is left
	for (;;) {
		const bool here = a.listen_and_look(), there = b.listen_and_look();
		if (here || there)
			return;
		const long n = sys::call(SYS_ppoll, sys::arg(p), 2, sys::arg(&rest));
		if (n == 0 || (n < 0 && n != -errno_intr) || p[0].revents)
			return;
	}
}

} // namespace ubd
