// SPDX-License-Identifier: GPL-2.0-only
/*
 * An io_uring that follows a seed, with the host's file system behind it. The
 * engine's half mirrors drivers/ubd/host/uring.cc; the host's half completes
 * inline or late, in any order, in bursts, with errors, short, or refuses to be
 * entered.
 *
 * Announcements are the eventfd's: one that falls due while the application
 * said quiet() is lost for ever. With DEFER_TASKRUN a completion is announced
 * when it becomes task work, and can be seen only after the ring was entered.
 */
#ifndef UBD_SIM_RING_HH
#define UBD_SIM_RING_HH

#include <vector>

#include "disk.hh"
#include "tag.hh"

namespace ubd::sim
{

class World;
class Lane;

class Ring final : public Engine {
public:
	Ring(World &w, Lane &lane, const Profile &profile, Disk &disk, Random &random);
	Ring(const Ring &) = delete;
	Ring &operator=(const Ring &) = delete;

	// -- the host ------------------------------------------------------------
	Time next_due() const;
	// Completes one operation whose time has come; false if there is none.
	bool run();
	bool quiet_now() const { return quiet_; }
	// There is a chunk to be had from reap().
	bool has_completions() const;
	u32 holds() const;

	bool announced = false; // the eventfd's counter
	Time announced_at = 0;

	// -- Engine ----------------------------------------------------------------
	u32 capacity() const override { return profile_.capacity; }
	u32 space() const override;
	void prepare(Chunk &chunk) override;
	u32 unsent() const override { return static_cast<u32>(sq_.size()); }
	Error submit() override;
	bool ready() const override { return !cq_.empty() || !work_.empty(); }
	u32 reap(Completion *to, u32 most) override;
	void quiet() override;
	bool listen() override;
	bool cancel(Chunk &chunk) override;
	void wait() override;
	u32 overflows() const override { return 0; } // the world ends at the first
	bool file_removed() const override;
	const char *name() const override { return "sim"; }

private:
	struct Entry {
		Chunk *chunk = nullptr;
		bool cancel = false; // asks for the chunk, is not the chunk
		u64 began = 0; // stamp
		Time due = 0;
		s32 result = 0;
	};

	void called();
	void meddle();
	int refusal();
	void start(Entry e);
	void start_cancel(Entry e);
	void finish(size_t i);
	void post(const Entry &e);
	void to_completions(const Entry &e);
	void get_events();
	void announce();
	s32 execute(Entry &e);
	s32 execute_sync(const Entry &e, int error);
	bool told_of_loss(u64 &seen);
	s32 transfer(Chunk &chunk, bool cut);
	void check_direct(const Chunk &chunk) const;
	u64 move(Chunk &chunk, u64 n);
	int trouble(const Chunk &chunk);
	int some_error();

	World &world_;
	Lane &lane_;
	const Profile &profile_;
	Disk &disk_;
	Random &random_;
	std::vector<Entry> sq_, running_, work_, cq_;
	bool quiet_ = false;
	u32 cancels_ = 0;
	// Losses that the openings were told of which this queue has: for fdatasync, and
	// for RWF_DSYNC.
	u64 sync_seen_ = 0, dsync_seen_ = 0;
	u32 storm_ = 0; // submissions that will be refused
	int storm_error_ = 0;
};

} // namespace ubd::sim

#endif
