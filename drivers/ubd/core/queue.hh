// SPDX-License-Identifier: GPL-2.0-only
/*
 * A queue: tickets, pump, reserve, completions. One object under one lock, so
 * that a device can have several: a raw one has, where there are several CPUs.
 * What these share is in device_state.hh. There is no order between queues; the
 * block layer asks for none, and a flush is for what has ended, in any queue.
 *
 * enqueue() gives each request a ticket and appends it to the FIFO; it always
 * accepts. The pump serves the FIFO in order: a header for the request at the
 * head, a chunk descriptor for each of its runs, until memory, ring space or
 * completion space is gone; it stops there and goes on when something came
 * back. Nothing in this path sleeps or allocates but from the two pools.
 *
 * Progress: when a pool is dry, the head ticket - and it alone - may use the
 * one header and the one chunk embedded here. A request needs no more than one
 * chunk at a time to go on, so the head always moves.
 *
 * Order: chunks reach Engine::prepare() in ticket order, since only the head
 * is served. Continuations (short transfers, retries) belong to a ticket that
 * was served before and go first. A flush that shares the fdatasync after the
 * running one reaches the host with that: later is never too early for it.
 *
 * Stop: with stop_when_full, what the host has no space for is kept (kept_), in
 * ticket order, and nothing is served that has not begun; parts that are with the
 * host, and their continuations, go on. What is kept holds its header and chunks, the
 * reserve, too: nobody needs that meanwhile, as nobody is served. One part is tried
 * after each pause; when the host answers it otherwise, all goes on.
 *
 *	running -> stopped <-> trial -> running
 *
 * Requests are ended outside the lock, by one owner at a time (ending_): who
 * completes something while another ends requests leaves it to that one. So
 * completion code that sends the next request from within cannot recurse.
 *
 * Lock order: the queue lock is innermost; ubd_k_* that are called under it
 * take only the allocator's, the timer's and the console's own locks.
 */
#ifndef UBD_CORE_QUEUE_HH
#define UBD_CORE_QUEUE_HH

#include "cow.hh"
#include "device_state.hh"
#include "engine.hh"
#include "layout.hh"
#include "list.hh"
#include "policy.hh"
#include "poll_window.hh"

namespace ubd
{

struct QueueConfig {
	const char *disk = ""; // for messages
	const char *path = ""; // of the file written to
	const char *backing = ""; // path of the backing file
	bool sync_writes = false; // each write is durable before it ends
	bool no_flush = false; // nothing is made durable, whoever asks; without sync_writes
	// By O_DIRECT a transfer has to begin at a multiple of this, and ends at one,
	// but at the file's end. Bytes; a power of two.
	u32 block = 1;
	Cow *cow = nullptr; // of a COW device, which has one queue only
	DeviceState *state = nullptr; // of a device that has several queues
	u32 poll_ns = 0; // completions are looked for that long at most before the CPU idles
	bool stop_when_full = false; // what the host has no space for is kept, not failed
	// Nothing goes on before the host has done what it has: the guest's clock stands
	// meanwhile, and what happens does not depend on how long the host takes.
	bool await_host = false;
	// A raw disk whose file was looked at and found to be no COW file does not become one
	// by what the guest writes: at the next start its header would name a file of the
	// host's for the guest to read. guard_bytes of memory, aligned as the host wants it,
	// by which that part of a write at sector 0 goes; nullptr: it is not looked at.
	void *guard = nullptr;
};

inline constexpr u32 guard_bytes = 4096; // no block is larger

class Queue {
public:
	Queue(ubd_kqueue *k, Engine &engine, const Layout &layout, const QueueConfig &config)
		: k_(k), engine_(engine), layout_(layout), config_(config),
		  state_(config.state ? *config.state : own_state_), window_(config.poll_ns)
	{
	}
	Queue(const Queue &) = delete;
	Queue &operator=(const Queue &) = delete;

	// Accepts a request; `last`: no other follows at once. Any context.
	void enqueue(Request &rq, bool last);
	// Serves what enqueue() only queued. Any context.
	void commit();
	// The engine announced completions. Interrupt context.
	void interrupt();
	/*
	 * Who polls says so, looks, and says when it ends; in between completions
	 * are not announced. poll() is true as long as it is worth going on.
	 * See poll_window.hh. Process context, not preemptible.
	 */
	bool wants_poll() const { return look_; }
	void begin_poll();
	bool poll(u64 now_ns);
	void end_poll();
	// ubd_k_arm_timer() expired. Softirq context. Returns how many completions
	// were there without an announcement.
	u64 timer();
	// The block layer finds that this request takes long: `ms` since it came.
	// True if it is still not ended: wait on. Process context.
	bool timeout(Request &rq, u64 ms);
	// Somebody has made space: a trial, now. Does nothing unless it is stopped.
	void try_again();
	// The device, or the guest, goes: what waits for space fails, now and from
	// now on.
	void end_stops();
	// In words, at most so many bytes: running, stopped and why, or failed.
	// True if it is running.
	bool show_state(char *to, size_t bytes);
	// Of a COW device: what has landed is to be made durable now, though nobody asks for
	// that. Process context.
	void begin_commit();
	// The device goes: no more commits begin. True when none is with the host.
	bool drained();
	// It stays after all: commits begin again. Process context.
	void resume();
	// A host call that is not the engine's failed to make data durable. Process
	// context.
	void lose_durability(int error);
	// See ubd_queue_go_synchronous().
	void go_synchronous();
	ubd_stats stats();
	// Completes the account of the memory that kernel/ began. Any context.
	void account(ubd_memory &m);

private:
	enum class Reaper : u8 { submitter, interrupt, poller, timer };
	// See cow.hh. On a raw device there is the first one only.
	enum class SyncPhase : u8 { data, blocks, bits };
	class Guard;

	void serve(Reaper reaper);
	bool wait_for_host();
	bool has_rounds() const { return config_.await_host && !synchronous_; }
	bool await_round(bool moved);
	void wait_in_round();
	void collect(Chunk &chunk, s32 result);
	void end_round();
	void end(Request &rq);
	u32 prepare();
	bool prepare_waiting();
	bool prepare_head();
	bool begin(Request &rq);
	bool next_chunk(Header &h);
	void fill(Chunk &chunk, Header &h);
	bool allocate(Chunk &chunk, Header &h);
	void end_allocate(Chunk &chunk, bool have);
	void map_data(Chunk &chunk, Header &h, const Run &run);
	bool is_guarded(const Header &h) const;
	bool guard(Chunk &chunk);
	bool refuse_header(Chunk &chunk, Header &h);
	void to_engine(Chunk &chunk);
	bool lead_sync(Chunk &chunk);
	void advance_sync(Chunk &leader, ByteCount done);
	void write_blocks(Chunk &leader);
	void end_sync(Chunk &leader, u8 status);
	void trace_commit(const Chunk &leader, ubd_commit_phase phase, u8 status) const;
	void start_commit();
	void landed(const Chunk &chunk);
	bool has_news() const;
	u32 watch_interval() const;
	const char *path_of(const Chunk &chunk) const;
	bool skip_unneeded(Header &h);
	bool submit();
	u32 reap(Reaper reaper);
	void complete(Chunk &chunk, s32 result);
	void complete_done(Chunk &chunk, s32 result);
	void complete_ok(Chunk &chunk, ByteCount done);
	void read_past_end(Chunk &chunk);
	void complete_error(Chunk &chunk, int error);
	void use_fallback(Chunk &chunk);
	bool use_buffered(Chunk &chunk);
	void again(Chunk &chunk, ubd_retry why, int error, bool later);
	void retry(Chunk &chunk, bool later);
	bool is_excused(const Header *h) const;
	const char *describe(const Chunk &chunk, char *to, size_t bytes) const;
	void refuse(Chunk &chunk, int error);
	void keep(Chunk &chunk, int error);
	bool may_stop() const;
	void stop(const Chunk &chunk, int error);
	void trial();
	void go_on();
	void drop_kept();
	void finish_chunk(Chunk &chunk);
	void finish(Header &h);
	void end_head(Request &rq, u8 status);
	void fail(Chunk &chunk, u8 status);
	void report(const Chunk &chunk, int error);
	void durability_lost(int error);
	void check_file();
	void need_timer(u32 ms);
	void arm();
	void idle();
	bool look_is_over(u64 now_ns) const;

	Header *take_header();
	void put_header(Header &h);
	Chunk *take_chunk(Header &h);
	void put_chunk(Chunk &chunk);

	ubd_kqueue *const k_;
	Engine &engine_;
	const Layout &layout_;
	const QueueConfig config_;
	DeviceState own_state_; // where it has one queue
	DeviceState &state_;

	Fifo<Request> fifo_; // accepted, not wholly prepared
	Fifo<Request> done_; // to be ended
	Fifo<Chunk> waiting_; // to be prepared again as soon as there is space
	Fifo<Chunk> later_; // the same, after a pause
	Fifo<Chunk> kept_; // the host has no space for them; by tickets
	Fifo<Chunk> round_; // the host is done with them, but not with all of the round; by tickets
	u32 collected_ = 0; // so many
	Chunk *trial_ = nullptr; // one of them that is tried
	int stop_error_ = 0; // why it is stopped; 0: it is not
	u32 stop_pause_ms_ = 0; // from one trial to the next
	u32 stop_waited_ms_ = 0; // since the last one
	u64 stopped_ns_ = 0; // since when
	u64 resumed_ns_ = 0; // when it went on; 0: it never stopped
	Chunk *sync_leader_ = nullptr; // the one whose fdatasync runs, or is to
	Fifo<Chunk> sync_joined_; // share the leader's
	Fifo<Chunk> sync_waiting_; // came after it was prepared
	SyncPhase phase_ = SyncPhase::data; // of the leader, on a COW device
	u64 next_block_ = 0; // of the bitmap, in phase `blocks`
	u32 dirty_ms_ = 0; // how long there have been bits that are not committed
	bool committing_ = false; // by the queue's own request
	bool leaving_ = false; // no commit is begun any more
	bool no_stops_ = false; // no matter what was configured
	bool commit_failed_ = false; // that one did; not to be tried again at once
	u64 next_ticket_ = 0; // for the next request
	u64 served_ = 0; // ticket of the request that is at the head
	u64 to_engine_ = 0; // prepare() calls ever made
	u32 with_engine_ = 0; // prepared, and not yet back
	u32 in_flight_ = 0; // chunks that exist: the engine has them, or they wait
	u32 begun_ = 0; // headers that exist
	u32 retries_ = 0; // immediate ones in this serve()
	u32 timer_ms_ = 0; // what the timer is armed for; 0: it is not
	u64 armed_ns_ = 0; // when it was armed
	u64 cut_short_ns_ = 0; // of times that it was armed for, and armed anew before they were over
	u32 backoff_ms_ = 0; // pause before the host is asked again
	PollWindow window_;
	u64 idle_since_ns_ = 0; // the host has something, and nobody looks; or 0
	bool look_ = false; // it is worth looking, since then and for the window
	bool polling_ = false;
	bool active_ = false; // requests came since the timer looked
	bool ending_ = false;
	bool synchronous_ = false;
	bool gave_up_ = false; // waiting, in synchronous mode
	u32 futile_waits_ = 0;
	bool no_punch_ = false; // the host's file system cannot
	bool no_zero_ = false;
	bool no_allocate_ = false;

	// Not on the stack: who swaps out may have little of it left.
	static constexpr u32 batch_size = 32;
	Completion batch_[batch_size];

	Header reserve_header_;
	Chunk reserve_chunk_;
	// Of the commits that nobody asked for.
	Request commit_request_{};
	Header commit_header_;
	Chunk commit_chunk_;
	bool header_reserved_ = false; // the reserve is in use
	bool chunk_reserved_ = false;
	bool guard_taken_ = false; // a chunk writes from config_.guard

	ubd_stats stats_{};
};

} // namespace ubd

#endif
