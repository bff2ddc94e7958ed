// SPDX-License-Identifier: GPL-2.0-only
/*
 * The io_uring engine: one ring for each queue, one eventfd for the module.
 * Calls come under the queue lock, in the one thread that is the UML kernel.
 *
 * Announcements: between quiet() and listen() the host raises no eventfd
 * (IORING_CQ_EVENTFD_DISABLED). listen() looks once more after a full barrier,
 * at the completions and at the flags TASKRUN and CQ_OVERFLOW: with
 * DEFER_TASKRUN, work that the host queued in between is never announced.
 */
#ifndef UBD_HOST_URING_HH
#define UBD_HOST_URING_HH

#include <liburing.h>

#include "../core/engine.hh"

namespace ubd
{

class UringEngine final : public Engine {
public:
	UringEngine() = default;
	UringEngine(const UringEngine &) = delete;
	UringEngine &operator=(const UringEngine &) = delete;

	// Sets up a ring for `depth` chunks in flight that announces completions
	// on `wake_fd`, for these descriptors of files; writes with RWF_DSYNC go to
	// the first file by `sync_fd`. Process context.
	Error open(u32 depth, int wake_fd, const int *fds, u32 files, int sync_fd);
	// Nothing may be in flight. Process context.
	void close();

	u32 capacity() const override { return capacity_; }
	u32 space() const override;
	void prepare(Chunk &chunk) override;
	u32 unsent() const override;
	Error submit() override;
	u32 reap(Completion *to, u32 max) override;
	void quiet() override;
	bool listen() override;
	bool cancel(Chunk &chunk) override;
	void wait() override;
	u32 overflows() const override { return *ring_.cq.koverflow; }
	bool file_removed() const override;
	const char *name() const override { return "io_uring"; }
	// Memory of the host that the rings take, bytes.
	u64 host_bytes() const;

private:
	static constexpr u32 max_files = 2;
	static constexpr u32 cancel_slots = 1;
	static constexpr u32 own_slots = cancel_slots + 1; // and a commit

	bool flagged() const;
	bool has_no_name() const;

	io_uring ring_{};
	int fds_[max_files]{ -1, -1 };
	int sync_write_fd_ = -1;
	u32 capacity_ = 0;
	u32 cancels_ = 0; // in flight
	bool opened_ = false;
	bool unnamed_ = false; // the first file never had a name
};

} // namespace ubd

#endif
