// SPDX-License-Identifier: GPL-2.0-only
/*
 * A seed's world: the real queue, on a ring that follows the seed, under a
 * block layer, an allocator, a timer and an interrupt that do so too. Time
 * passes only between calls of core, or while core waits.
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

#include <string>
#include <vector>

#include "watch.hh"

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
	void must_be_locked(const char *what) const;
	void engine_called();
	void progressed();
	void gave_up();
	void wait_until(Time t);
	const std::vector<Tag> &tags() const { return tags_; }

	// -- the kernel's half, for ubd_k_*() -----------------------------------------
	unsigned long lock();
	void unlock(unsigned long flags);
	void *take(Pool &pool);
	void give(Pool &pool, void *element);
	void end(ubd_request *list);
	void arm_timer(u32 milliseconds);
	void want_poll();

	Pool headers;
	Pool chunks;

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
	// The clock and the timer of faults on demand.
	class LateTimer final : public FaultTimer {
	public:
		explicit LateTimer(World &w) : w_(w) {}
		u64 now_ms() override { return w_.now_ / ms; }
		void arm(u64 milliseconds) override;

	private:
		World &w_;
	};

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
	void commit();
	void interrupt(bool nested);
	void poll();
	void timer();
	void timeout();
	void odd();
	void resume();
	void fault_timer();
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

	void check_idle();
	void check_progress(const ubd_stats &s);
	void check_end();
	ubd_stats stats();
	std::string state();
	ubd_queue *queue() { return reinterpret_cast<ubd_queue *>(&queue_); }

	Random random_;
	const Profile profile_;
	Disk disk_;
	Ring ring_;
	LateTimer late_timer_;
	FaultEngine faults_;
	Watch watch_;
	Queue queue_;

	Time now_ = 0;
	u64 stamp_ = 0;
	std::vector<Tag> tags_;
	std::vector<int> users_; // of each sector: readers, or -1 for a writer
	u32 left_ = 0; // requests to be sent
	u32 busy_ = 0; // tags in use
	u64 sent_ = 0;
	u32 batch_left_ = 0;
	Time submit_at_ = 0;
	bool uncommitted_ = false; // queued without being served

	bool locked_ = false;
	unsigned long lock_count_ = 0;
	bool ending_ = false;
	u32 depth_ = 0; // calls of core, one within the other
	bool nesting_ = true;
	u64 nested_ = 0; // how often
	u32 engine_calls_ = 0;

	bool timer_armed_ = false;
	Time timer_at_ = never;
	Time interrupt_at_ = never;
	bool poll_wanted_ = false;
	bool interrupt_lost_ = false; // and no call of core since

	u32 dry_percent_ = 0; // of allocations fail
	Time memory_changes_ = never;
	bool served_with_memory_ = false;
	bool synchronous_ = false;
	bool gave_up_ = false; // waiting, since then
	Time faults_off_ = never;
	Time fault_timer_at_ = never;

	Time progress_at_ = 0;
	u64 steps_ = 0;
	u64 progress_step_ = 0;
};

extern World *world;

} // namespace ubd::sim

// The kernel side of a queue: there is one world at a time.
struct ubd_kqueue {
	ubd::sim::World *world;
};

#endif
