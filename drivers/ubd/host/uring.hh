// SPDX-License-Identifier: GPL-2.0-only
/*
 * The io_uring engine: one ring for each queue, one eventfd for the module.
 * Calls come under the queue lock, in the host thread that is the guest's CPU.
 *
 * Announcements: between quiet() and listen() the host raises no eventfd
 * (IORING_CQ_EVENTFD_DISABLED). listen() looks once more after a full barrier,
 * at the completions and at the flags TASKRUN and CQ_OVERFLOW: with
 * DEFER_TASKRUN, work that the host queued in between is never announced.
 */
#ifndef UBD_HOST_URING_HH
#define UBD_HOST_URING_HH

#include <liburing.h>

#include "../core/list.hh"
#include "workers.hh"

namespace ubd
{

class UringEngine final : public Engine {
public:
	UringEngine() = default;
	UringEngine(const UringEngine &) = delete;
	UringEngine &operator=(const UringEngine &) = delete;

	// Sets up a ring for `depth` chunks in flight that announces completions
	// on `wake_fd`. With `writer` a thread of its own does the plain writes; if
	// the host lets us have none, the ring does all. Process context.
	Error open(u32 depth, int wake_fd, const EngineFiles &files, bool writer);
	// Nothing may be in flight. Process context.
	void close();

	u32 capacity() const override { return capacity_; }
	u64 best_read_bytes() const override { return share_reads_ ? part_read_bytes : ~0ull; }
	u32 space() const override;
	void prepare(Chunk &chunk) override;
	u32 unsent() const override;
	Error submit() override;
	bool ready() const override { return workers_.ready() || io_uring_cq_ready(&ring_) || flagged(); }
	u32 reap(Completion *to, u32 max) override;
	void quiet() override;
	bool listen() override;
	bool cancel(Chunk &chunk) override;
	void wait() override;
	u32 overflows() const override { return *ring_.cq.koverflow; }
	bool file_removed() const override { return !unnamed_ && files_.have_no_name(); }
	const char *name() const override { return "io_uring"; }
	// Why there is no such thread.
	Error writer_error() const { return writer_error_; }
	// Memory of the host that the rings take, bytes.
	u64 host_bytes() const;

private:
	static constexpr u32 cancel_slots = 1;
	static constexpr u64 part_read_bytes = 256 << 10;
	static constexpr u32 own_slots = cancel_slots + 1; // and a commit

	bool is_large_read(const Chunk &chunk) const;
	bool wants_worker(const Chunk &chunk);
	void share_reads();
	void prepare_entry(Chunk &chunk);
	bool flagged() const;

	io_uring ring_{};
	Workers workers_;
	// Prepared behind a part that is not the ring's: so that order is kept.
	Fifo<Chunk> mixed_;
	u32 mixed_count_ = 0;
	u32 large_reads_ = 0; // of these
	const Chunk *slow_ = nullptr; // the worker waits for the host's disk
	bool share_reads_ = false; // there is a second CPU
	Error writer_error_;
	EngineFiles files_;
	u32 capacity_ = 0;
	u32 cancels_ = 0; // in flight
	bool opened_ = false;
	bool unnamed_ = false; // the first file never had a name
};

} // namespace ubd

#endif
