// SPDX-License-Identifier: GPL-2.0-only
/*
 * A host with a COW file, a guest kernel's part of what core needs, and a guest
 * that sends requests. What happens next is said by a Driver: by random numbers
 * (workload.cc), or by a search through all that can happen (bounded.cc).
 *
 * After each event check() looks at every crash that could come now. What a
 * sector reads as after a crash depends on two units of the file, that with its
 * bit and that with its data; so it is enough to look at each pair of contents
 * that these two may have, and no crash is left out. Some crashes are drawn as
 * well, and their file opened by core: header, bitmap, layout.
 */
#ifndef UBD_CRASH_WORLD_HH
#define UBD_CRASH_WORLD_HH

#include <memory>
#include <vector>

#include "engine.hh"
#include "promise.hh"

namespace ubd::crash
{

struct Plan {
	Shape shape;
	u32 depth = 8; // requests at a time
	u32 capacity = 16; // of the engine
	u32 commit_ms = 0;
	bool write_through = false;
	bool allocate = false; // the host can make space for the bitmap
	u32 images = 0; // drawn and opened at each crash point
};

class Driver {
public:
	// Below n, to draw a crash by.
	virtual u32 pick(u32 n) = 0;
	// Of what a failed fdatasync was about: is this unit lost, or written?
	virtual bool unit_lost() = 0;
	// A write under way when the guest was killed: does it land?
	virtual bool write_lands() = 0;
	// How an operation ends when nobody waits for it any more.
	virtual Outcome outcome(const Chunk &chunk) = 0;
	// False if this moment was looked at before.
	virtual bool is_new() const = 0;
	virtual bool no_memory() = 0;
	virtual bool host_busy() = 0;
	// Core waits for the host: let it do something.
	virtual void wait() = 0;
	// Sectors that one chunk takes of `most`, and iovecs for it.
	virtual u64 mapped(u64 most) = 0;

protected:
	~Driver() = default;
};

struct Counts {
	u64 points = 0; // moments at which a crash was tried
	u64 images = 0; // files that core opened after one
};

class World {
public:
	World(const Plan &plan, Driver &driver, const std::vector<u64> &owned);
	~World();
	World(const World &) = delete;
	World &operator=(const World &) = delete;

	// -- what may happen --------------------------------------------------
	bool may_send() const { return sent_ < plan_.depth; }
	void send(u8 op, u8 flags, u64 sector, u64 sectors, bool last);
	void commit();
	void end_operation(size_t flight, const Outcome &outcome);
	void interrupt();
	void timer();
	void go_synchronous();

	const std::vector<HostEngine::Flight> &flights() const { return engine_->flights(); }
	bool posted() const { return !engine_->posted().empty(); }
	bool timer_armed() const { return timer_armed_; }
	// The page cache has what the file will never get.
	bool lost() const { return lost_; }
	u64 step() const { return point_; }
	u32 requests() const { return sent_; }
	bool is_bitmap(const Chunk &chunk) const;

	// -- the end of a guest, and another one -------------------------------
	// The relay's last commit; false if it does not get that far.
	bool last_commit();
	// UML is gone, the host goes on; `committed`: the relay has done its part.
	void guest_killed(bool committed);
	void host_crashed();

	void check();
	// Of all worlds so far.
	static Counts counts;
	static u64 stop_at; // the crash point to be described; then it ends

	// -- for the engine -----------------------------------------------------
	File &file() { return *file_; }
	bool busy() { return driver_.host_busy(); }
	void prepared(const Chunk &chunk);
	void submitted();
	s32 execute(const HostEngine::Flight &flight, const Outcome &outcome);
	void told(const Completion &c);
	void wait() { driver_.wait(); }

	// -- the kernel -----------------------------------------------------------
	bool no_memory() { return driver_.no_memory(); }
	u32 map(ubd_request &rq, ubd_iovec *iov, u32 max_iovs, u64 max_bytes, u64 &bytes);
	void end(ubd_request *list);
	void arm_timer() { timer_armed_ = true; }

private:
	struct Request {
		ubd_request rq; // first: core's pointer is ours
		bool used = false;
		Value value = garbage;
		Moment sent = 0;
		u32 hot = 0, hot_end = 0; // sectors of it that matter
		std::vector<Value> read;
	};
	// A bitmap and its memory.
	struct Bits {
		std::vector<u64> words;
		std::vector<u64> allocated;
		Cow cow;

		void open(const Shape &shape, const Image &image);
	};

	void start();
	Request &request_at(const void *address, u64 &byte);
	u64 sector_at(const Chunk &chunk, u64 position) const;
	Value written_at(const Chunk &chunk, u64 position);
	template <class F> void for_hot(const Chunk &chunk, u64 bytes, F f);
	void land(const Chunk &chunk, u64 bytes);
	void read(const Chunk &chunk, u64 bytes);
	s32 execute_sync(const HostEngine::Flight &flight, const Outcome &outcome);
	void end(Request &r);
	void check_read(const Request &r);
	void look_at_flights();
	void check_sector(u32 hot);
	void check_seen(u32 hot);
	void check_space(const Chunk &chunk) const;
	void check_drawn();
	Image draw(u32 kind);
	Value opened_value(const Image &image, u32 hot) const;
	void open_and_check(const Image &image);
	void settle();
	void describe() const;
	void describe_sector(u32 hot) const;

	const Plan plan_;
	Driver &driver_;
	std::unique_ptr<File> file_;
	std::unique_ptr<HostEngine> engine_;
	std::unique_ptr<Queue> queue_;
	Bits bits_, opened_;
	Cow &cow_ = bits_.cow;
	CowLayout layout_{ cow_ }, opened_layout_{ opened_.cow };
	std::vector<u8> buffer_;
	Promise promise_;

	std::vector<Request> requests_;
	u32 sent_ = 0;
	Value next_value_ = first_stamp;
	Moment now_ = 1;
	Moment sync_lost_ = never; // when core was told of a failed fdatasync
	bool lost_ = false;
	bool cannot_allocate_ = false; // core was told so
	std::vector<bool> has_space_; // bytes of the bitmap, by parts of 64 KiB
	bool timer_armed_ = false;
	u64 point_ = 0;

	// What is under way, and may be found by a crash.
	std::vector<std::vector<Value>> landing_;
	std::vector<const Chunk *> landing_front_;
};

// Hot sectors that the first bytes of a chunk are about, and where in it.
template <class F> void World::for_hot(const Chunk &chunk, u64 bytes, F f)
{
	const u64 first = sector_at(chunk, 0);
	const u32 end = plan_.shape.hot_from(first + bytes / sector_bytes);
	for (u32 hot = plan_.shape.hot_from(first); hot < end; hot++)
		f(hot, (plan_.shape.hot[hot] - first) * sector_bytes);
}

extern World *world;

const char *outcome_words(const Outcome &outcome);

} // namespace ubd::crash

#endif
