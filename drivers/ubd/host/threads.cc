// SPDX-License-Identifier: GPL-2.0-only
/*
 * The engine's functions.
 *
 * Context: under the queue lock, interrupts off, unless a function says
 * otherwise. The host calls made there do not block, but wait().
 */
#include "threads.hh"

#include <fcntl.h>

#include "clone.hh"

namespace ubd
{
namespace
{

// In the pools of a device at most: what may wait for the host's disk at a time.
constexpr u32 pool_threads = 16;
// The thread that writes looks that long for the next part before it sleeps.
constexpr u32 writer_spin_ns = 50000;
constexpr u64 shared_read_bytes = 128 << 10;

#ifndef RWF_NOWAIT
constexpr int RWF_NOWAIT = 8;
#endif

} // namespace

// Context: process, may sleep, no lock held.
Error ThreadsEngine::open(u32 depth, int wake_fd, const EngineFiles &files, u32 engines)
{
	files_ = files;
	unnamed_ = files_.have_no_name();
	capacity_ = depth;
	share_reads_ = host_cpus() > 1;
	// There the flag says nothing of how long it takes.
	for (u32 i = 0; i < EngineFiles::most; i++)
		may_wait_[i] = sys::call(SYS_fcntl, files.fds[i], F_GETFL) & O_DIRECT;
	Error e = no_error;
	for (u32 n = min(pool_threads / engines, depth); n; n /= 2)
		if (e = pool_.start(n, depth + own_slots, wake_fd, files, 0); !e)
			break;
	if (!e)
		(void)writer_.start(1, depth + own_slots, wake_fd, files, share_reads_ ? writer_spin_ns : 0);
	return e;
}

// Context: process, may sleep, no lock held.
void ThreadsEngine::close()
{
	writer_.stop();
	pool_.stop();
}

bool ThreadsEngine::is_large_read(const Chunk &chunk) const
{
	return share_reads_ && chunk.op == HostOp::read && chunk.bytes.value >= shared_read_bytes;
}

void ThreadsEngine::prepare(Chunk &chunk)
{
	large_reads_ += is_large_read(chunk);
	prepared_.push(chunk);
	unsent_++;
	held_++;
}

// True if all of it was in the host's page cache. A part of it is read again.
bool ThreadsEngine::read_at_once(Chunk &chunk)
{
	const long n = sys::call(SYS_preadv2, files_.of(chunk), sys::arg(chunk.iov + chunk.first),
				 chunk.iovs - chunk.first, static_cast<long>(chunk.offset.value), 0, RWF_NOWAIT);
	may_wait_[chunk.file] = n < 0 && n != -errno_again && n != -errno_io;
	return n >= 0 && static_cast<u64>(n) == chunk.bytes.value;
}

void ThreadsEngine::hand_over()
{
	pool_.submit();
	if (writer_.running())
		writer_.submit();
}

// Threads begin with what is theirs before something is read here. Of several large
// reads they do every second one: two CPUs copy then.
Error ThreadsEngine::submit()
{
	bool ours = false; // the next large one
	for (; !prepared_.empty(); unsent_--) {
		Chunk &chunk = prepared_.pop();
		const bool shared = large_reads_ > 1 && is_large_read(chunk);
		if (chunk.op == HostOp::read && !may_wait_[chunk.file] && (!shared || ours)) {
			hand_over();
			chunk.to_worker = !read_at_once(chunk);
		} else {
			chunk.to_worker = true;
		}
		ours ^= shared;
		if (!chunk.to_worker)
			read_.push(chunk);
		else if (chunk.op == HostOp::write && files_.buffered(chunk) && writer_.running())
			writer_.prepare(chunk);
		else
			pool_.prepare(chunk);
	}
	large_reads_ = 0;
	hand_over();
	return no_error;
}

u32 ThreadsEngine::reap(Completion *to, u32 max)
{
	u32 taken = 0;
	while (taken < max && !read_.empty()) {
		Chunk &chunk = read_.pop();
		to[taken++] = Completion{ &chunk, static_cast<s32>(chunk.bytes.value) };
	}
	taken += pool_.reap(to + taken, max - taken);
	if (writer_.running())
		taken += writer_.reap(to + taken, max - taken);
	held_ -= taken;
	return taken;
}

void ThreadsEngine::quiet()
{
	pool_.quiet();
	if (writer_.running())
		writer_.quiet();
}

bool ThreadsEngine::listen()
{
	pool_.listen();
	if (writer_.running())
		writer_.listen();
	// Who has done something looks whether we listen: one of us sees the other.
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!ready())
		return false;
	quiet();
	return true;
}

// Context: under the queue lock, at reboot and in time travel only; blocks the host thread.
void ThreadsEngine::wait()
{
	Workers::wait(pool_, writer_, -1);
}

} // namespace ubd
