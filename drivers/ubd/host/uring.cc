// SPDX-License-Identifier: GPL-2.0-only
/*
 * The engine's functions.
 *
 * Context: under the queue lock, interrupts off, unless a function says
 * otherwise. The host calls made there do not block, but wait().
 */
#include "uring.hh"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>

#include "clone.hh"

namespace ubd
{
namespace
{

// user_data of a cancel request; a chunk's address is never 1.
constexpr u64 cancel_mark = 1;
// A worker looks that long for the next part before it sleeps, at most.
constexpr u32 worker_spin_ns = 50000;
constexpr u64 shared_read_bytes = 128 << 10;

#ifndef RWF_DSYNC
constexpr int RWF_DSYNC = 2;
#endif

using sys::to_error;

} // namespace

// Context: process, may sleep, no lock held.
Error UringEngine::open(u32 depth, int wake_fd, const EngineFiles &files, bool writer)
{
	files_ = files;
	unnamed_ = files_.have_no_name();
	// One submitter, who runs the ring's deferred work himself when he enters
	// the kernel: nothing interrupts guest code but the relay's signal.
	static constexpr unsigned one_cpu_flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
						  IORING_SETUP_TASKRUN_FLAG;
	int n = -errno_inval;
	if (ubd_k_one_cpu())
		n = io_uring_queue_init(depth + own_slots, &ring_, IORING_SETUP_CLAMP | one_cpu_flags);
	if (n == -errno_inval) // several CPUs, or a host before 6.1
		n = io_uring_queue_init(depth + own_slots, &ring_, IORING_SETUP_CLAMP);
	if (n < 0)
		return to_error(n);
	opened_ = true;
	capacity_ = min(depth, min(*ring_.sq.kring_entries, *ring_.cq.kring_entries) - own_slots);
	n = io_uring_ring_dontfork(&ring_);
	if (!n)
		n = io_uring_register_eventfd(&ring_, wake_fd);
	if (Error e = to_error(n)) {
		close();
		return e;
	}
	// So that the host need not look it up in each call; where it cannot, it does. But
	// that is for the host thread that asks, and each CPU is one.
	if (ubd_k_one_cpu())
		(void)io_uring_register_ring_fd(&ring_);
	if (writer)
		writer_error_ =
			workers_.start(1, capacity_ + own_slots, wake_fd, files, host_cpus() > 1 ? worker_spin_ns : 0);
	share_reads_ = workers_.running() && !files.direct && host_cpus() > 1;
	return no_error;
}

// Context: process, may sleep, no lock held.
void UringEngine::close()
{
	if (!opened_)
		return;
	opened_ = false;
	workers_.stop();
	(void)io_uring_unregister_eventfd(&ring_);
	io_uring_queue_exit(&ring_);
}

u32 UringEngine::space() const
{
	const u32 left = io_uring_sq_space_left(&ring_);
	return left > cancel_slots + mixed_count_ ? left - cancel_slots - mixed_count_ : 0;
}

bool UringEngine::is_large_read(const Chunk &chunk) const
{
	return share_reads_ && chunk.op == HostOp::read && chunk.bytes.value >= shared_read_bytes;
}

/*
 * What io_uring hands to a worker of its own anyway, ours begins at once: it looks
 * for the next part before it sleeps. But it does one at a time, so of what takes
 * long it does only what nothing else is waiting for.
 */
bool UringEngine::wants_worker(const Chunk &chunk)
{
	if (!workers_.running() || slow_)
		return false;
	switch (chunk.op) {
	case HostOp::read:
		return false;
	case HostOp::write:
		return files_.buffered(chunk);
	case HostOp::punch: // under the inode's lock, as writes are
	case HostOp::zero:
	case HostOp::allocate:
		return true;
	case HostOp::write_sync:
	case HostOp::sync:
		if (workers_.busy() || workers_.unsent() || mixed_count_)
			return false;
		slow_ = &chunk;
		return true;
	}
	return false;
}

void UringEngine::prepare(Chunk &chunk)
{
	const bool large = is_large_read(chunk);
	chunk.to_worker = wants_worker(chunk);
	if (mixed_.empty() && !large && !chunk.to_worker)
		return prepare_entry(chunk);
	large_reads_ += large;
	mixed_.push(chunk);
	mixed_count_++;
}

// Of several large reads the worker does half, by bytes: what the host has in its page
// cache is copied by two CPUs then.
void UringEngine::share_reads()
{
	u64 ours = 0, workers = 0;
	for (Chunk *c = mixed_.front(); c && large_reads_ > 1; c = c->next) {
		if (c->op != HostOp::read)
			continue;
		c->to_worker = is_large_read(*c) && workers <= ours;
		(c->to_worker ? workers : ours) += c->bytes.value;
	}
	large_reads_ = 0;
}

void UringEngine::prepare_entry(Chunk &chunk)
{
	io_uring_sqe *sqe = io_uring_get_sqe(&ring_);
	UBD_ASSERT(sqe);
	const int fd = files_.of(chunk);
	auto *iov = reinterpret_cast<const iovec *>(chunk.iov + chunk.first);
	const unsigned iovs = chunk.iovs - chunk.first;
	switch (chunk.op) {
	case HostOp::read:
		if (iovs == 1)
			io_uring_prep_read(sqe, fd, iov->iov_base, static_cast<unsigned>(iov->iov_len),
					   chunk.offset.value);
		else
			io_uring_prep_readv(sqe, fd, iov, iovs, chunk.offset.value);
		break;
	case HostOp::write:
	case HostOp::write_sync:
		if (iovs == 1)
			io_uring_prep_write(sqe, fd, iov->iov_base, static_cast<unsigned>(iov->iov_len),
					    chunk.offset.value);
		else
			io_uring_prep_writev(sqe, fd, iov, iovs, chunk.offset.value);
		sqe->rw_flags = chunk.op == HostOp::write_sync ? RWF_DSYNC : 0;
		break;
	case HostOp::sync:
		io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
		break;
	case HostOp::punch:
	case HostOp::zero:
	case HostOp::allocate:
		io_uring_prep_fallocate(sqe, fd,
					FALLOC_FL_KEEP_SIZE | (chunk.op == HostOp::punch  ? FALLOC_FL_PUNCH_HOLE
							       : chunk.op == HostOp::zero ? FALLOC_FL_ZERO_RANGE
											  : 0),
					static_cast<off_t>(chunk.offset.value), static_cast<off_t>(chunk.bytes.value));
		break;
	}
	io_uring_sqe_set_data(sqe, &chunk);
}

u32 UringEngine::unsent() const
{
	return io_uring_sq_ready(&ring_) + mixed_count_;
}

// One host call for what follows each other in the ring; with deferred task work
// it also collects what is complete.
Error UringEngine::submit()
{
	if (large_reads_)
		share_reads();
	for (;;) {
		if (io_uring_sq_ready(&ring_)) {
			const int n = ring_.flags & IORING_SETUP_DEFER_TASKRUN ? io_uring_submit_and_get_events(&ring_)
									       : io_uring_submit(&ring_);
			if (n < 0 || io_uring_sq_ready(&ring_))
				return to_error(n);
		}
		if (mixed_.empty())
			return no_error;
		for (; !mixed_.empty() && mixed_.front()->to_worker; mixed_count_--)
			workers_.prepare(mixed_.pop());
		workers_.submit();
		for (; !mixed_.empty() && !mixed_.front()->to_worker; mixed_count_--)
			prepare_entry(mixed_.pop());
	}
}

// The host waits to be entered before it completes more.
bool UringEngine::flagged() const
{
	return IO_URING_READ_ONCE(*ring_.sq.kflags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
}

u32 UringEngine::reap(Completion *to, u32 max)
{
	u32 taken = workers_.running() ? workers_.reap(to, max) : 0;
	for (u32 i = 0; i < taken && slow_; i++)
		if (to[i].chunk == slow_)
			slow_ = nullptr;
	if (!io_uring_cq_ready(&ring_) && flagged())
		(void)io_uring_get_events(&ring_);
	io_uring_cqe *cqe;
	unsigned head, seen = 0;
	io_uring_for_each_cqe(&ring_, head, cqe)
	{
		if (taken == max)
			break;
		seen++;
		if (cqe->user_data == cancel_mark)
			cancels_--; // what it cancelled tells its own result
		else
			to[taken++] = Completion{ static_cast<Chunk *>(io_uring_cqe_get_data(cqe)), cqe->res };
	}
	io_uring_cq_advance(&ring_, seen);
	return taken;
}

void UringEngine::quiet()
{
	IO_URING_WRITE_ONCE(*ring_.cq.kflags, static_cast<unsigned>(IORING_CQ_EVENTFD_DISABLED));
	if (workers_.running())
		workers_.quiet();
}

/*
 * core/model/queue.pml shows that no wake-up is lost, and that this comes to an end.
 * The host queues its deferred work and then sets TASKRUN: if the work was run in
 * between, the flag stays, with nothing behind it. So the flag alone is no reason
 * to look again for ever: the host is entered once, and what is queued later finds
 * its list empty and is announced.
 */
bool UringEngine::listen()
{
	IO_URING_WRITE_ONCE(*ring_.cq.kflags, 0u);
	if (workers_.running())
		workers_.listen();
	// The host reads the flag after it has published a completion: one of us
	// sees what the other wrote.
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!io_uring_cq_ready(&ring_) && !workers_.ready()) {
		if (!flagged())
			return false;
		if (io_uring_get_events(&ring_) >= 0 && !io_uring_cq_ready(&ring_))
			return false;
	}
	quiet();
	return true;
}

bool UringEngine::cancel(Chunk &chunk)
{
	if (cancels_ >= cancel_slots || chunk.to_worker) // no call can be called off
		return false;
	io_uring_sqe *sqe = io_uring_get_sqe(&ring_);
	if (!sqe)
		return false;
	io_uring_prep_cancel(sqe, &chunk, 0);
	sqe->user_data = cancel_mark;
	cancels_++;
	return true;
}

// Both rings are one mapping.
u64 UringEngine::host_bytes() const
{
	return ring_.sq.ring_sz + *ring_.sq.kring_entries * sizeof(io_uring_sqe) + workers_.host_bytes();
}

// Context: under the queue lock, at reboot and in time travel only; blocks the host thread. A ring is
// readable when it has completions, or work that will make some.
void UringEngine::wait()
{
	Workers::wait(workers_, workers_, ring_.ring_fd);
}

} // namespace ubd
