// SPDX-License-Identifier: GPL-2.0-only
/*
 * A seed's world: the real queue, or some of one device, each on a ring that follows
 * the seed, under a block layer, an allocator, timers and an interrupt that do so
 * too. Time passes only between calls of core, or while core waits.
 *
 * Rules that are looked at whenever no function of core is running:
 *
 *   wake-up    what can be reaped was announced, without the timer's help
 *   progress   something is in flight if anything is queued, memory or not (or
 *              the ring is full of what the host refuses, and the timer soon)
 *   depth      after a call with memory, the ring is full if anything is queued,
 *              unless the host has no space and the queue is stopped for it
 *   stop       it is stopped if something waits for space, and only then
 *   timer      it is armed while anything is in flight, for a second at most
 *   late       what a fault on demand makes late, its timer will bring
 *   reboot     nothing is left in flight
 */
#ifndef UBD_SIM_WORLD_HH
#define UBD_SIM_WORLD_HH

#include <memory>
#include <string>
#include <vector>

#include "watch.hh"

namespace ubd::sim
{
class Lane;
}

// The kernel side of a queue.
struct ubd_kqueue {
	ubd::sim::Lane *lane;
};

namespace ubd::sim
{

// mempool elements, some of them kept.
class Pool {
public:
	Pool(const char *name, size_t bytes) : name_(name), bytes_(bytes) {}
	Pool(const Pool &) = delete;
	Pool &operator=(const Pool &) = delete;
	~Pool();

	void fill(u32 minimum);
	void *take(bool dry);
	void give(void *element);
	size_t live() const { return live_.size(); }

private:
	void *fresh();

	const char *name_;
	const size_t bytes_;
	u32 minimum_ = 0;
	std::vector<void *> kept_;
	std::vector<void *> live_;
	std::vector<void *> spare_; // freed ones, so that malloc() is not asked each time
};

/*
 * One queue, with what is its own. Several have the file, the block layer and the
 * interrupt in common, and DeviceState. Where one releases its lock, another CPU may
 * do anything with any of them.
 */
class Lane {
	// The clock and the timer of faults on demand.
	class LateTimer final : public FaultTimer {
	public:
		explicit LateTimer(Lane &l) : l_(l) {}
		u64 now_ms() override;
		void arm(u64 milliseconds) override;

	private:
		Lane &l_;
	};

public:
	Lane(World &w, u32 number, const Profile &profile, Disk &disk, Random &random, DeviceState &state);
	Lane(const Lane &) = delete;
	Lane &operator=(const Lane &) = delete;

	ubd_queue *c_queue() { return reinterpret_cast<ubd_queue *>(&queue); }

	World &world;
	const u32 index;
	ubd_kqueue kernel{ this };
	Pool headers;
	Pool chunks;
	Ring ring;
	LateTimer late_timer{ *this };
	FaultEngine faults;
	Watch watch;
	Queue queue;

	u64 sent = 0;
	bool uncommitted = false; // queued without being served
	bool locked = false;
	unsigned long lock_count = 0;
	bool ending = false;
	bool timer_armed = false;
	Time timer_at = never;
	bool poll_wanted = false;
	bool interrupt_lost = false; // and no call of core since
	bool served_with_memory = false;
	bool gave_up = false; // waiting, in synchronous mode
	Time fault_timer_at = never;
};

class World {
public:
	explicit World(u64 seed);
	World(const World &) = delete;
	World &operator=(const World &) = delete;

	// Until all has ended. Leaves by fail() when a rule is broken.
	void run();

	// -- for the other parts ---------------------------------------------------
	Time now() const { return now_; }
	u64 stamp() { return ++stamp_; }
	u64 stamp_now() const { return stamp_; }
	void must_be_locked(const Lane &l, const char *what) const;
	void engine_called(const Lane &l);
	void progressed();
	void gave_up();
	void wait_until(Lane &l, Time t);
	// In any queue.
	bool durability_lost() const;
	void end_stops();
	const std::vector<Tag> &tags() const { return tags_; }

	// -- the kernel's half, for ubd_k_*() -----------------------------------------
	unsigned long lock(Lane &l);
	void unlock(Lane &l, unsigned long flags);
	void *take(Lane &l, Pool &pool);
	void give(Lane &l, Pool &pool, void *element);
	void end(Lane &l, ubd_request *list);
	void arm_timer(Lane &l, u32 milliseconds);
	void want_poll(Lane &l);

private:
	enum class Action : u8 {
		submit,
		commit,
		host,
		interrupt,
		poll,
		timer,
		timeout,
		fault_timer,
		odd,
		time_passes,
		count
	};
	class Entered;
	void step();
	u32 weight(Action a) const;
	void act(Action a);
	bool work_left() const { return left_ || busy_; }
	void advance();
	Time next_event() const;

	void submit();
	Tag *free_tag();
	bool draw_range(Tag &tag);
	bool draw_request(Tag &tag);
	void send(Tag &tag, bool last);
	template <class Condition> Lane *one_of(Condition c);
	void commit(Lane &l);
	void interrupt(bool nested);
	void poll();
	void timer(Lane &l);
	void timeout();
	void odd();
	void resume();
	void fault_timer(Lane &l);
	void set_fault(const char *text);
	void random_fault();
	size_t random_rule(char *to, size_t bytes);
	void go_synchronous();
	void change_memory();
	void nest();

	void end_one(Tag &tag);
	void check_status(const Tag &tag);
	void ended_well(Tag &tag);
	void ended_badly(Tag &tag);
	void check_read(const Tag &tag);
	void check_durable(const Tag &tag);
	bool may_conflict(u64 sector, u64 sectors, bool exclusive) const;
	void claim(const Tag &tag, int by);

	void check_idle(Lane &l);
	void check_progress(const Lane &l, const ubd_stats &s);
	void check_end();
	ubd_stats stats(Lane &l);
	std::string state(Lane &l);

	Random random_;
	const Profile profile_;
	Disk disk_;
	DeviceState state_;
	std::vector<std::unique_ptr<Lane>> lanes_;
	Lane *waiting_ = nullptr; // of those, who waited last

	Time now_ = 0;
	u64 stamp_ = 0;
	std::vector<Tag> tags_;
	std::vector<int> users_; // of each sector: readers, or -1 for a writer
	u32 left_ = 0; // requests to be sent
	u32 busy_ = 0; // tags in use
	u64 sent_ = 0;
	u32 batch_left_ = 0;
	u32 batch_queue_ = 0;
	Time submit_at_ = 0;

	u32 depth_ = 0; // calls of core, one within the other
	bool nesting_ = true;
	u64 nested_ = 0; // how often
	u32 engine_calls_ = 0;

	u32 dry_percent_ = 0; // of allocations fail
	Time memory_changes_ = never;
	bool synchronous_ = false;
	Time faults_off_ = never;

	Time progress_at_ = 0;
	u64 steps_ = 0;
	u64 progress_step_ = 0;
};

extern World *world;

} // namespace ubd::sim

#endif
