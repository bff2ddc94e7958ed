// SPDX-License-Identifier: GPL-2.0-only
/*
 * A world for core to live in: a kernel (lock, pools, timer, log, ending of
 * requests), an engine that follows a script, a disk in memory. Each watches
 * the rules that core has to keep, and fails the case when one is broken:
 *
 *   kernel  the lock is not recursive; pools and timer are used under it,
 *           requests are ended outside it, each once; nothing leaks
 *   engine  is called under the lock; never holds more than its capacity;
 *           prepare() only with space; fresh parts come in ticket order
 *
 * Freestanding: runs on the host and in a guest. One world at a time, but for the
 * queues of one device (WorldConfig::state), which have the log and the clock in
 * common.
 */
#ifndef UBD_TESTS_FAKE_HH
#define UBD_TESTS_FAKE_HH

#include "../../drivers/ubd/core/cow.hh"
#include "../../drivers/ubd/core/fault.hh"
#include "../../drivers/ubd/core/queue.hh"
#include "check.hh"

namespace ubd::test
{

inline constexpr u64 sector_bytes = UBD_SECTOR_SIZE;
// As a result in a script: all that was asked for.
inline constexpr s32 in_full = 0x7fffffff;
inline constexpr u64 for_ever = ~0ull;
inline constexpr u8 any_op = 255;

struct Segment {
	u8 *base;
	u64 bytes;
};

// What the block layer's request is to core, and what the case knows of it.
struct FakeRequest {
	ubd_request rq{}; // first: core gives back a pointer to it
	FakeRequest *next = nullptr;
	u8 *memory = nullptr;
	u32 segments = 0;
	Segment *segment = nullptr;
	u64 handed = 0; // bytes that the engine was given for the first time
	bool sync_handed = false;
	u32 ended = 0; // how often
	u64 end_order = 0; // 1 for the first that ended
	u64 sent_at = 0; // the engine's clock
	u64 tag = 0; // the case's own
	u8 status() const { return rq.status; }
	bool ok() const { return ended == 1 && rq.status == UBD_STATUS_OK; }
	// The request's data as one piece.
	void write_pattern(u32 seed);
	bool has_pattern(u32 seed) const;
	bool is_zero() const;
	void copy_out(u8 *to) const;
	void copy_in(const u8 *from);
};

// A pool of mempool elements with a script.
struct Pool {
	u64 limit = for_ever; // elements that can be out at once
	u32 refuse_percent = 0;
	u64 live = 0;
	u64 most = 0;
	u64 refused = 0;
};

class Random {
public:
	explicit Random(u64 seed) : state_(seed * 0x9e3779b97f4a7c15ull + 0x1234567) {}
	u64 next();
	// 0 to n - 1
	u32 below(u32 n) { return n ? static_cast<u32>((next() >> 33) % n) : 0; }
	bool percent(u32 p) { return below(100) < p; }

private:
	u64 state_;
};

} // namespace ubd::test

// The kernel side of a queue.
struct ubd_kqueue {
	bool locked = false;
	ubd::test::Pool headers;
	ubd::test::Pool chunks;
	ubd::test::Random *random = nullptr; // for Pool::refuse_percent
	ubd::u32 timer_ms = 0; // 0: not armed
	ubd::u32 timer_calls = 0;
	ubd::u32 poll_calls = 0;
	ubd::u64 now_ms = 1000; // for faults on demand, as the next
	ubd::u64 fault_timer_at = ~0ull;
	ubd::u32 discard_disabled = 0;
	ubd::u64 ended = 0;
	ubd::u32 end_depth = 0;
	ubd::u32 end_depth_most = 0;
	ubd::u32 lock_count = 0;
	// Completion code of whoever sent the request. Called outside the lock.
	void (*on_end)(void *context, ubd::test::FakeRequest &r) = nullptr;
	void *context = nullptr;
};

namespace ubd::test
{

// What ubd_k_now_ns() says.
extern u64 fake_now_ns;

struct Trace {
	u64 ticket;
	HostOp op;
	u8 file;
	bool fresh;
	bool reserve;
	u32 iovs;
	u64 offset;
	u64 bytes;
};

class ScriptEngine final : public Engine {
public:
	static constexpr u32 slots = 2048;

	ScriptEngine(ubd_kqueue &k, u64 file_bytes);
	ScriptEngine(const ScriptEngine &) = delete;
	ScriptEngine &operator=(const ScriptEngine &) = delete;
	~ScriptEngine();

	// -- the host's behaviour ---------------------------------------------
	u32 ring = 64; // entries that prepare() fills
	u32 limit = 64; // capacity()
	u32 own = 0; // beside it, for what the queue does by itself
	u32 take = slots; // most that one submit() takes
	bool hold = false; // completions come when the case says so
	Random *any_order = nullptr; // waits complete what this says
	bool last_first = false; // who waits sees the last one completed first
	bool lose_wakeups = false;
	bool hints = false; // ready() says yes though nothing is there
	u32 at_listen = 0; // that many complete just before listen() looks
	bool can_cancel = true;
	bool obeys_cancel = false; // a cancel brings the chunk back with ECANCELED
	bool no_punch = false;
	bool no_zero = false;
	bool watch_order = true; // false: something between queue and engine holds parts back
	bool data = true; // false: transfers move nothing
	u32 block = 1; // what O_DIRECT asks of offsets and lengths, bytes
	u32 overflow_count = 0;
	bool removed = false; // the file has no name any more
	u64 file_end[2]; // where the files end now

	// The next `times` operations of that kind get this result: a negative
	// errno, at most so many bytes, or in_full. Entries are used up in turn.
	void script(u8 op, s32 result, u64 times = 1);
	void script_submit(int error, u64 times = 1);
	void clear_script();

	// -- the host goes on -------------------------------------------------
	u32 with_host() const { return hosts_; }
	u32 prepared() const { return unsent_; }
	// Completes what the host holds, by its place there.
	void complete(u32 i);
	void complete_all(bool backwards = false);
	// The file's content.
	u8 *content(u8 file) { return file_[file]; }

	// -- what was seen ----------------------------------------------------
	bool announced() const { return announced_; }
	bool take_announcement();
	bool listening() const { return listening_; }
	u32 submits = 0; // calls
	u32 taken_last = 0; // by the last successful one
	u32 cancels = 0;
	u32 waits = 0;
	u32 slowness = 0; // waits in which nothing is completed, before each completion
	u64 ops[host_op_count]{}; // by HostOp, performed
	u64 clock = 0; // ticks with each operation performed
	u64 last_sync = 0; // when
	u32 holds() const { return unsent_ + hosts_ + dones_; }
	u32 most_held = 0;
	u64 traces = 0; // prepare() calls
	const Trace &trace(u64 i) const { return trace_[i % slots]; }
	// Sectors written and not yet made durable, in file 0.
	u8 *dirty = nullptr;

	// -- Engine -----------------------------------------------------------
	u32 capacity() const override { return limit; }
	u32 space() const override { return ring - min(ring, unsent_); }
	void prepare(Chunk &chunk) override;
	u32 unsent() const override { return unsent_; }
	Error submit() override;
	bool ready() const override { return dones_ || hints; }
	u32 reap(Completion *to, u32 max) override;
	void quiet() override;
	bool listen() override;
	bool cancel(Chunk &chunk) override;
	void wait() override;
	u32 overflows() const override { return overflow_count; }
	bool file_removed() const override { return removed; }
	const char *name() const override { return "script"; }

private:
	struct Step {
		u8 op;
		s32 result;
		u64 times;
	};

	void watch(const char *what) const;
	void check_order(const Chunk &chunk, Trace &t);
	void check_block(const Chunk &chunk) const;
	void finish(Chunk &chunk, s32 result);
	s32 scripted(HostOp op);
	s32 perform(Chunk &chunk);
	s32 transfer(Chunk &chunk, u64 most);
	s32 make_zeros(Chunk &chunk);
	void mark(u64 offset, u64 bytes, bool is_dirty);

	ubd_kqueue &k_;
	u8 *file_[2]{};
	u64 file_bytes_;
	bool listening_ = true;
	bool announced_ = false;
	u64 highest_ticket_ = 0;
	u32 unsent_ = 0, hosts_ = 0, dones_ = 0;
	u32 waited_ = 0;
	u32 steps_ = 0, submit_steps_ = 0;
	Step step_[32];
	Step submit_step_[8];
	Chunk *unsent_chunk_[slots];
	Chunk *host_chunk_[slots];
	Completion done_[slots];
	Trace trace_[slots];
};

// Like a COW file over a backing file: runs of `run` bytes that lie in the one
// and in the other by turns, at the same offset. All changes go to file 0.
class StripedLayout final : public Layout {
public:
	explicit StripedLayout(u64 run) : run_(run) {}
	Run next_run(u8 op, ByteOffset at, ByteCount max) const override;

private:
	u64 run_;
};

struct WorldConfig {
	const Layout *layout = nullptr; // nullptr: one raw file
	bool sync_writes = false;
	bool no_flush = false;
	u32 block = 1; // above 1: O_DIRECT
	bool faults = false; // a FaultEngine between queue and script
	u64 file_bytes = 1 << 20;
	// Above 0: a COW device of so many sectors. File 0 is the COW file.
	u64 cow_sectors = 0;
	bool cow_allocate = false; // its bitmap is given space by parts
	u32 commit_ms = 5000;
	u32 poll_ns = 0;
	bool stop_when_full = false;
	bool await_host = false;
	bool guard = false; // its file was looked at, and is no COW file
	DeviceState *state = nullptr; // shared by worlds that are queues of one device
};

// Where a COW world's file has its parts, bytes.
inline constexpr u64 cow_bitmap_at = 8192;
inline constexpr u64 cow_data_at = 64 << 10;

// The kernel's clock and timer, for faults on demand.
class FakeFaultTimer final : public FaultTimer {
public:
	explicit FakeFaultTimer(ubd_kqueue &k) : k_(k) {}
	u64 now_ms() override { return k_.now_ms; }
	void arm(u64 ms) override;

private:
	ubd_kqueue &k_;
};

class World {
public:
	explicit World(const WorldConfig &c);
	World(const World &) = delete;
	World &operator=(const World &) = delete;
	~World();

	ubd_kqueue k;
	ScriptEngine engine;
	FakeFaultTimer fault_timer;
	FaultEngine faults;
	RawLayout raw;
	Cow cow;
	u64 *cow_memory = nullptr; // filled in while the queue is made: before it
	CowLayout cow_layout{ cow };
	alignas(8) u8 guard_memory[guard_bytes];
	Queue queue;

	// A request whose data lies in segments of at most `segment` bytes that
	// do not touch each other (segment 0: in one piece).
	FakeRequest &make(u8 op, u64 sector, u64 bytes, u8 flags = 0, u64 segment = 0);
	// The same with segments of the sizes given, in bytes, `gap` bytes apart.
	FakeRequest &make_from(u8 op, u64 sector, const u32 *sizes, u32 n, u32 gap, u8 flags = 0);
	void send(FakeRequest &r, bool last = true);
	FakeRequest &send_new(u8 op, u64 sector, u64 bytes, u8 flags = 0, u64 segment = 0)
	{
		FakeRequest &r = make(op, sector, bytes, flags, segment);
		send(r);
		return r;
	}
	// Frees an ended request before the world ends.
	void forget(FakeRequest &r);

	// What UML does: an interrupt if one was announced. False if none was.
	bool interrupt();
	// The armed timer expires. False if it is not armed.
	bool expire();
	// The same of the one that brings late completions.
	bool expire_faults();
	// Lets interrupts and timers come until all that was sent has ended.
	// False, and the case has failed, if nothing is left that could end it.
	bool settle();
	u64 sent() const { return sent_; }
	u64 pending() const { return sent_ - k.ended; }
	bool idle() const;
	ubd_stats stats() { return queue.stats(); }

private:
	void give_up();
	QueueConfig queue_config(const WorldConfig &c);
	const Layout &choose_layout(const WorldConfig &c);
	FakeRequest &add(u8 op, u64 sector, u8 flags, u32 segments);

	FakeRequest *requests_ = nullptr;
	u64 sent_ = 0;
};

// A world on the heap: it is too large for a kernel's stack.
class Fixture {
public:
	explicit Fixture(const WorldConfig &c = {});
	~Fixture();
	Fixture(const Fixture &) = delete;
	Fixture &operator=(const Fixture &) = delete;
	World &operator*() { return *world_; }

private:
	World *world_;
};

// Between on and off, what core tells who traces, one line for each event.
void trace_events(bool on);
const char *traced_events();

// What ubd_k_log() was given since the world began, or since log_clear().
const char *log_text();
u32 log_lines();
bool log_has(const char *text);
void log_clear();
// Calls of ubd_k_assert_failed() are failures unless they are expected.
u32 asserts_failed();
void expect_asserts(bool expected);

bool contains(const char *text, const char *part);

} // namespace ubd::test

#endif
