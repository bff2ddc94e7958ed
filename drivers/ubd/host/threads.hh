// SPDX-License-Identifier: GPL-2.0-only
/*
 * The threads engine: plain calls by host threads, for hosts that forbid io_uring.
 *
 * One thread does the buffered writes: on most file systems a file's writes
 * exclude each other, and several threads would only wait in turns. A pool does
 * what may wait for the disk. A read of what the host has in its page cache is made at once,
 * by who submits it (RWF_NOWAIT): that costs no switch.
 *
 * Announcements are those of the workers (workers.hh). A cancel is not possible: a
 * thread that hangs in a call cannot be called back.
 */
#ifndef UBD_HOST_THREADS_HH
#define UBD_HOST_THREADS_HH

#include "../core/list.hh"
#include "workers.hh"

namespace ubd
{

class ThreadsEngine final : public Engine {
public:
	ThreadsEngine() = default;
	ThreadsEngine(const ThreadsEngine &) = delete;
	ThreadsEngine &operator=(const ThreadsEngine &) = delete;

	// For `depth` chunks in flight, announced on `wake_fd`; one of so many of the
	// device, which share the threads that it may have. With fewer threads than it
	// wants if the host lets it have no more; an error if it has none. Process context.
	Error open(u32 depth, int wake_fd, const EngineFiles &files, u32 engines = 1);
	// Nothing may be in flight. Process context.
	void close();

	u32 capacity() const override { return capacity_; }
	u64 best_read_bytes() const override { return share_reads_ ? part_read_bytes : ~0ull; }
	u32 space() const override { return capacity_ + own_slots - held_; }
	void prepare(Chunk &chunk) override;
	u32 unsent() const override { return unsent_; }
	Error submit() override;
	bool ready() const override { return !read_.empty() || pool_.ready() || writer_.ready(); }
	u32 reap(Completion *to, u32 max) override;
	void quiet() override;
	bool listen() override;
	bool cancel(Chunk &) override { return false; }
	void wait() override;
	u32 overflows() const override { return 0; }
	bool file_removed() const override { return !unnamed_ && files_.have_no_name(); }
	const char *name() const override { return "threads"; }
	u64 host_bytes() const { return pool_.host_bytes() + writer_.host_bytes(); }

private:
	static constexpr u32 own_slots = 1; // a commit
	static constexpr u64 part_read_bytes = 256 << 10;

	bool is_large_read(const Chunk &chunk) const;
	bool read_at_once(Chunk &chunk);
	void hand_over();

	Workers pool_;
	Workers writer_; // may not run: then the pool writes
	Fifo<Chunk> prepared_;
	Fifo<Chunk> read_; // at once, and not yet reaped
	u32 unsent_ = 0; // prepared
	u32 large_reads_ = 0; // of these
	u32 held_ = 0; // prepared, and not yet reaped
	bool share_reads_ = false; // there is a second CPU
	bool may_wait_[EngineFiles::most]{}; // RWF_NOWAIT is of no use there
	EngineFiles files_;
	u32 capacity_ = 0;
	bool unnamed_ = false; // the first file never had a name
};

} // namespace ubd

#endif
