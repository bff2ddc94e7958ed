// SPDX-License-Identifier: GPL-2.0-only
/*
 * Stands between core and its engine and sees to it that core keeps the rules:
 * the order of tickets, the reserve's one owner, the capacity, what the host is
 * asked for and what core makes of the answer.
 */
#ifndef UBD_SIM_WATCH_HH
#define UBD_SIM_WATCH_HH

#include <vector>

#include "ring.hh"

namespace ubd::sim
{

class Watch final : public Engine {
public:
	Watch(World &w, Lane &lane, Engine &inner, const Disk &disk, const Profile &p)
		: world_(w), lane_(lane), inner_(inner), disk_(disk), direct_(p.direct), no_flush_(p.no_flush),
		  stops_(p.stop_when_full)
	{
	}
	Watch(const Watch &) = delete;
	Watch &operator=(const Watch &) = delete;

	// The engine has a part of it.
	bool holds(const Tag &tag) const;
	size_t held() const { return held_.size(); }
	bool durability_lost() const { return lost_; }
	// When the last fdatasync was prepared that core was told the success of,
	// and that proves something: a stamp.
	u64 proven() const { return proven_; }
	// Bits of the ubd_status that failed fdatasync calls mean to all who shared.
	u32 sync_statuses() const { return sync_statuses_; }
	// What waits for space fails from now on.
	void end_stops();
	// Parts that the host had no space for, and that have not been tried since.
	size_t kept() const { return kept_.size(); }
	bool punch_is_known_to_fail() const { return no_punch_; }
	// The request is about to be ended.
	void ends(const Tag &tag);

	u32 capacity() const override { return inner_.capacity(); }
	u32 space() const override { return inner_.space(); }
	void prepare(Chunk &chunk) override;
	u32 unsent() const override { return inner_.unsent(); }
	Error submit() override { return inner_.submit(); }
	bool ready() const override { return inner_.ready(); }
	u32 reap(Completion *to, u32 most) override;
	void quiet() override { inner_.quiet(); }
	bool listen() override { return inner_.listen(); }
	bool cancel(Chunk &chunk) override { return inner_.cancel(chunk); }
	void wait() override { inner_.wait(); }
	u32 overflows() const override { return inner_.overflows(); }
	bool file_removed() const override { return inner_.file_removed(); }
	const char *name() const override { return inner_.name(); }

private:
	// What must not change while the engine has it.
	struct Held {
		Chunk *chunk;
		Tag *tag;
		HostOp op;
		u64 offset, bytes;
		u32 first, iovs;
		u64 prepared; // stamp
		u8 file;
	};

	void check_operation(const Chunk &chunk, const Tag &tag) const;
	void check_range(const Chunk &chunk, const Tag &tag) const;
	bool note_fresh(const Chunk &chunk, Tag &tag) const;
	void check_order(const Tag &tag);
	void check_reserve(const Chunk &chunk, const Tag &tag, bool fresh);
	void check_sync(const Chunk &chunk, const Tag &tag) const;
	void note(const Held &h, s32 result);
	void note_error(const Held &h, int error);
	bool keeps(const Held &h, int error) const;

	World &world_;
	Lane &lane_;
	Engine &inner_;
	const Disk &disk_;
	const bool direct_;
	const bool no_flush_; // the host is asked for no fdatasync
	bool stops_; // what the host has no space for is kept
	std::vector<Held> held_;
	std::vector<Held> kept_;
	u64 newest_ = 0; // arrival of the last request of which a fresh part came
	const Tag *header_reserve_ = nullptr; // who has it
	u64 proven_ = 0;
	u32 sync_statuses_ = 0;
	bool lost_ = false;
	bool no_punch_ = false;
};

// The block layer's word for an error that core must not retry.
u8 status_for(int error);

} // namespace ubd::sim

#endif
