// SPDX-License-Identifier: GPL-2.0-only
/*
 * The queue's functions.
 *
 * Context: under the queue lock, interrupts off, unless a function says
 * otherwise. Nothing here sleeps, waits or allocates, but for the two pools'
 * atomic allocations.
 */
#include "queue.hh"

#include "cow_format.hh"
#include "trace.hh"

namespace ubd
{
namespace
{

// While there is I/O, the ring is looked at this often in case UML lost the
// interrupt, and the file in case somebody removed it.
constexpr u32 watch_ms = 1000;
// Pause after the host was short of something: doubled from first to last.
constexpr u32 first_backoff_ms = 10;
constexpr u32 last_backoff_ms = 1000;
// Chunks tried again within one serve() before a pause is made.
constexpr u32 max_immediate_retries = 64;
// Pauses for an operation that the host has no memory for: some ten seconds.
constexpr u8 max_memory_pauses = 16;

// While the host has no space: doubled from first to last from trial to trial, and
// not begun anew if it went on for no longer than the last. The watch is the clock.
constexpr u32 first_stop_pause_ms = 1000;
constexpr u32 last_stop_pause_ms = 10000;

// In synchronous mode: waits of 100 ms in which nothing came, since something
// was done.
constexpr u32 max_futile_waits = 100;

constexpr u64 sectors(ByteCount n)
{
	return n.value >> UBD_SECTOR_SHIFT;
}

constexpr u64 ms_from_ns(u64 ns)
{
	return ns / 1000000;
}

// The order in which they came to the host.
bool comes_before(const Chunk &a, const Chunk &b)
{
	const u64 ticket = a.header->rq->ticket, other = b.header->rq->ticket;
	return ticket != other ? ticket < other : a.sector.value < b.sector.value;
}

} // namespace

/*
 * The queue lock for a scope. When the scope ends, ends the requests that were
 * completed in it - outside the lock, and by one owner at a time.
 * Context: any, no lock held.
 */
class Queue::Guard {
public:
	explicit Guard(Queue &q) : q_(q), flags_(ubd_k_lock(q.k_)) {}
	~Guard()
	{
		if (!q_.ending_) {
			q_.ending_ = true;
			while (Request *list = q_.done_.take()) {
				ubd_k_unlock(q_.k_, flags_);
				ubd_k_end_requests(q_.k_, list);
				flags_ = ubd_k_lock(q_.k_);
			}
			q_.ending_ = false;
		}
		ubd_k_unlock(q_.k_, flags_);
	}
	Guard(const Guard &) = delete;
	Guard &operator=(const Guard &) = delete;

private:
	Queue &q_;
	unsigned long flags_;
};

// Context: any that may submit: process or softirq; no lock held.
void Queue::enqueue(Request &rq, bool last)
{
	Guard guard(*this);
	rq.ticket = next_ticket_++;
	rq.header = nullptr;
	rq.served = false;
	rq.done = false;
	rq.status = UBD_STATUS_OK;
	stats_.requests[rq.op]++;
	stats_.bytes[rq.op] += rq.bytes;
	UBD_TRACE_EVENT(enqueue, &rq, last);
	fifo_.push(rq);
	active_ = true;
	if (last)
		serve(Reaper::submitter);
}

// Context: as enqueue().
void Queue::commit()
{
	Guard guard(*this);
	serve(Reaper::submitter);
}

// Context: interrupt, no lock held.
void Queue::interrupt()
{
	Guard guard(*this);
	if (!in_flight_ && !committing_ && fifo_.empty())
		return;
	stats_.interrupts++;
	serve(Reaper::interrupt);
}

// Context: softirq, no lock held.
u64 Queue::timer()
{
	Guard guard(*this);
	const u64 before = stats_.missed_wakeups;
	const u32 passed_ms = timer_ms_ + static_cast<u32>(ms_from_ns(cut_short_ns_));
	cut_short_ns_ = 0;
	if (backoff_ms_ && timer_ms_ == backoff_ms_) // a pause was made
		backoff_ms_ = min(backoff_ms_ * 2, last_backoff_ms);
	if (has_news()) {
		dirty_ms_ += passed_ms;
		if (dirty_ms_ >= config_.cow->commit_ms && config_.cow->commit_ms)
			start_commit();
	}
	if (stop_error_) {
		stop_waited_ms_ += passed_ms;
		if (stop_waited_ms_ >= stop_pause_ms_)
			trial();
	}
	timer_ms_ = 0;
	active_ = false;
	while (!later_.empty())
		waiting_.push(later_.pop());
	serve(Reaper::timer);
	check_file();
	return stats_.missed_wakeups - before;
}

// Context: process (the block layer's timeout work), no lock held.
bool Queue::timeout(Request &rq, u64 ms)
{
	Guard guard(*this);
	if (rq.done)
		return false;
	// Perhaps it is only the announcement that was lost.
	serve(Reaper::timer);
	if (rq.done)
		return false;
	auto *h = static_cast<Header *>(rq.header);
	if (is_excused(h))
		return true;
	if (resumed_ns_)
		ms = min(ms, ms_from_ns(ubd_k_now_ns() - resumed_ns_));
	stats_.timeouts++;
	u32 with_host = 0, waiting = 0;
	for (Chunk *c = h ? h->chunks : nullptr; c; c = c->sibling_next) {
		if (c->state == ChunkState::waiting) {
			waiting++;
			continue;
		}
		with_host++;
		if (!c->cancelled && engine_.cancel(*c)) {
			c->cancelled = true;
			stats_.cancels++;
		}
	}
	char where[64] = "";
	if (rq.op != UBD_OP_FLUSH)
		ubd_k_snprintf(where, sizeof(where), " of %llu sectors at sector %llu", rq.bytes >> UBD_SECTOR_SHIFT,
			       rq.sector);
	ubd_k_log(UBD_LOG_WARN, true,
		  "%s: %s: %s%s has not ended for %llu ms: %u parts are with the host, %u wait for the next try or for "
		  "another flush%s; waiting on - look at the host's disk\n",
		  config_.disk, config_.path, operation_name(rq.op), where, ms, with_host, waiting,
		  h ? "" : ", none has begun (earlier requests are waited for)");
	serve(Reaper::submitter); // the cancels, and what they make room for
	return !rq.done;
}

// The time in which the queue is stopped is not the host's fault.
bool Queue::is_excused(const Header *h) const
{
	if (!stop_error_)
		return resumed_ns_ && ms_from_ns(ubd_k_now_ns() - resumed_ns_) < UBD_REQUEST_TIMEOUT_MS;
	for (const Chunk *c = h ? h->chunks : nullptr; c; c = c->sibling_next)
		if (c->state == ChunkState::engine && (c != trial_ || stop_waited_ms_ >= UBD_REQUEST_TIMEOUT_MS))
			return false;
	return true;
}

// Context: process, no lock held.
void Queue::try_again()
{
	Guard guard(*this);
	if (!stop_error_)
		return;
	stop_pause_ms_ = first_stop_pause_ms;
	trial();
	serve(Reaper::submitter);
}

// Context: process, no lock held.
void Queue::end_stops()
{
	Guard guard(*this);
	drop_kept();
	serve(Reaper::submitter);
}

// Context: process, no lock held.
bool Queue::show_state(char *to, size_t bytes)
{
	Guard guard(*this);
	const bool failed = state_.durability_lost();
	if (failed)
		ubd_k_snprintf(to, bytes, "failed: durability is lost");
	else if (stop_error_)
		ubd_k_snprintf(to, bytes, "stopped: %s", errno_words(stop_error_));
	else
		ubd_k_snprintf(to, bytes, "running");
	return !failed && !stop_error_;
}

// Without new bits, too: what was overwritten in place is not durable either.
// Context: process, no lock held.
void Queue::begin_commit()
{
	Guard guard(*this);
	if (!config_.cow->poisoned)
		start_commit();
	serve(Reaper::submitter);
}

// Context: process, no lock held.
bool Queue::drained()
{
	Guard guard(*this);
	leaving_ = true;
	return !committing_ && !with_engine_;
}

// Context: process, no lock held.
void Queue::resume()
{
	Guard guard(*this);
	leaving_ = false;
	serve(Reaper::submitter);
}

// Context: process, no lock held.
void Queue::lose_durability(int error)
{
	Guard guard(*this);
	durability_lost(error);
}

// Context: process, no lock held.
void Queue::go_synchronous()
{
	Guard guard(*this);
	synchronous_ = true;
	// Who has the queue drained, to take the device away or to resize it, may never
	// come back to commit the rest.
	leaving_ = false;
	drop_kept();
	serve(Reaper::submitter);
}

// Context: process, no lock held.
ubd_stats Queue::stats()
{
	Guard guard(*this);
	ubd_stats s = stats_;
	s.in_flight = in_flight_;
	s.in_flight_host = with_engine_;
	s.in_flight_retry = waiting_.count() + later_.count();
	s.in_flight_flush = sync_waiting_.count() + sync_joined_.count();
	s.in_flight_space = kept_.count();
	s.stopped = stop_error_ != 0;
	s.committing = committing_;
	s.begun = begun_;
	if (config_.cow)
		s.dirty_sectors = config_.cow->bitmap.dirty_sectors() + config_.cow->bitmap.sealed_sectors();
	s.queued = next_ticket_ - served_;
	s.completion_overflows = engine_.overflows();
	return s;
}

/*
 * Each request that is begun has a chunk, but for the one at the head: so there
 * are no more headers than chunks and one. Context: process, no lock held.
 */
void Queue::account(ubd_memory &m)
{
	Guard guard(*this);
	const u64 most_chunks = engine_.capacity();
	const u64 most_headers = min<u64>(m.depth, most_chunks + 1);
	const u64 from_pools = begun_ - header_reserved_;
	const u64 chunks_from_pools = in_flight_ - chunk_reserved_;
	auto sum = [&](u64 headers, u64 chunks) { return m.fixed + headers * sizeof(Header) + chunks * sizeof(Chunk); };
	m.at_rest = sum(UBD_POOL_MIN, UBD_POOL_MIN);
	m.now = sum(m.headers_kept + from_pools, m.chunks_kept + chunks_from_pools);
	m.at_most = sum(UBD_POOL_MIN + most_headers, UBD_POOL_MIN + most_chunks);
}

/*
 * Take what the host completed meanwhile; then prepare, hand over by one call,
 * reap what the host completed inline, and again while that made room for more.
 * Completions are announced only for what is still in flight at the end.
 */
// model/queue.pml is a model of this, of listen(), of arm() and of the reserves.
void Queue::serve(Reaper reaper)
{
	retries_ = 0;
	engine_.quiet();
	if (reaper != Reaper::submitter)
		reap(reaper);
	do {
		bool again;
		do {
			u32 prepared = prepare();
			bool sent = submit();
			u32 got = reap(Reaper::submitter);
			again = (got || prepared || sent) && (!fifo_.empty() || !waiting_.empty());
			if (has_rounds())
				again = await_round(prepared || sent);
			else if (!again && synchronous_)
				again = wait_for_host();
		} while (again);
	} while (!polling_ && !config_.await_host && engine_.listen());
	arm();
	idle();
}

// What happens next comes from the host: how long that takes is watched, and
// perhaps looked for.
void Queue::idle()
{
	idle_since_ns_ = 0;
	look_ = false;
	if (!with_engine_ || synchronous_ || !window_.max())
		return;
	idle_since_ns_ = ubd_k_now_ns();
	look_ = window_.ns();
	if (look_ && !polling_)
		ubd_k_poll(k_);
}

// `now_ns` may be a little older than what it is compared with.
bool Queue::look_is_over(u64 now_ns) const
{
	return now_ns >= idle_since_ns_ + window_.ns();
}

// Context: process, not preemptible, no lock held; as the next two.
void Queue::begin_poll()
{
	if (!wants_poll())
		return;
	Guard guard(*this);
	polling_ = true;
	engine_.quiet();
}

bool Queue::poll(u64 now_ns)
{
	if (!polling_)
		return false;
	if (engine_.ready()) {
		Guard guard(*this);
		const u64 since = idle_since_ns_;
		const u64 before = stats_.polled_completions;
		serve(Reaper::poller);
		if (stats_.polled_completions != before)
			return look_;
		// Only a hint: it must not make the wait begin anew, if that still goes on.
		if (idle_since_ns_)
			idle_since_ns_ = since;
	}
	return look_ && !look_is_over(now_ns);
}

// Who polls may have been called away: then he comes back. But when the window is
// over nobody looks until something happens.
void Queue::end_poll()
{
	if (!polling_)
		return;
	Guard guard(*this);
	polling_ = false;
	if (look_ && look_is_over(ubd_k_now_ns()))
		look_ = false;
	if (engine_.listen())
		serve(Reaper::poller);
}

/*
 * Without announcements: waits here, when nothing else can be done. False if
 * nothing is left to wait for, or the host does nothing for long: then the
 * guest, which is about to end, shall not hang for ever.
 */
bool Queue::wait_for_host()
{
	if (gave_up_)
		return false;
	if (!with_engine_ && waiting_.empty() && later_.empty()) {
		// There may be no other time to commit what has just been written.
		if (!has_news() || commit_failed_ || leaving_)
			return false;
		start_commit();
		return true;
	}
	engine_.wait();
	if (reap(Reaper::submitter))
		return true;
	// A whole pause: who was to wait for one has done so.
	retries_ = 0;
	while (!later_.empty())
		waiting_.push(later_.pop());
	if (++futile_waits_ < max_futile_waits)
		return true;
	gave_up_ = true;
	ubd_k_log(UBD_LOG_ERROR, false,
		  "%s: %s: the host does not complete I/O; the guest ends without it: what was not written is lost - "
		  "look "
		  "at the host's disk\n",
		  config_.disk, config_.path);
	return false;
}

/*
 * Waits until the host has done all that it was handed, so that what comes next does
 * not depend on how fast it was, or on what it did first. What it refused to take is
 * offered again when something came, or after a pause. `moved`: there was something
 * to prepare or to submit. True if there is more. A host that hangs hangs the guest,
 * which has no time that passes; pauses are of the host's time, too. Who waits for
 * space does that by the guest's clock: somebody of the guest may make it.
 */
bool Queue::await_round(bool moved)
{
	while (with_engine_) {
		wait_in_round();
		if (engine_.unsent())
			return true;
	}
	if (moved)
		return !fifo_.empty() || !waiting_.empty() || !later_.empty();
	if (later_.empty())
		return false;
	wait_in_round(); // a whole pause: there is nothing to come
	while (!later_.empty())
		waiting_.push(later_.pop());
	return true;
}

void Queue::wait_in_round()
{
	engine_.wait();
	if (reap(Reaper::submitter)) {
		futile_waits_ = 0;
		return;
	}
	retries_ = 0; // a whole pause, see wait_for_host()
	if (++futile_waits_ == max_futile_waits)
		ubd_k_log(UBD_LOG_WARN, false,
			  "%s: %s: the host takes long for I/O, and the guest's clock stands until it is done; look at "
			  "the host's disk\n",
			  config_.disk, config_.path);
}

void Queue::collect(Chunk &chunk, s32 result)
{
	chunk.result = result;
	round_.insert(chunk, comes_before);
	collected_++;
}

// If all that was handed over is back.
void Queue::end_round()
{
	if (collected_ < with_engine_)
		return;
	collected_ = 0;
	while (!round_.empty()) {
		Chunk &chunk = round_.pop();
		complete(chunk, chunk.result);
	}
}

// Makes chunks for as much as memory, ring and completion space allow. Returns
// how many the engine was given.
u32 Queue::prepare()
{
	u64 before = to_engine_;
	while (!waiting_.empty() && prepare_waiting())
		;
	if (waiting_.empty() && !stop_error_)
		while (!fifo_.empty() && prepare_head())
			;
	return static_cast<u32>(to_engine_ - before);
}

// False if there is no room.
bool Queue::prepare_waiting()
{
	if (!engine_.space())
		return false;
	Chunk &chunk = waiting_.pop();
	to_engine(chunk);
	return true;
}

// Serves the request at the head. False if it has to wait.
bool Queue::prepare_head()
{
	Request &rq = *fifo_.front();
	UBD_ASSERT(rq.ticket == served_);
	if (!rq.header && !begin(rq))
		return false;
	if (auto *h = static_cast<Header *>(rq.header)) {
		while (!h->all_prepared)
			if (!next_chunk(*h))
				return false;
		fifo_.pop();
		served_++;
		rq.served = true;
		if (!h->chunks)
			finish(*h);
	}
	return true;
}

// Gives the head its header, or ends it where nothing is to be done. False if
// there is no memory.
bool Queue::begin(Request &rq)
{
	if (rq.op != UBD_OP_READ && state_.durability_lost()) {
		end_head(rq, UBD_STATUS_IOERR);
		return true;
	}
	if (rq.op == UBD_OP_DISCARD && no_punch_) {
		end_head(rq, UBD_STATUS_NOTSUPP);
		return true;
	}
	if (rq.op == UBD_OP_FLUSH && config_.no_flush) {
		end_head(rq, UBD_STATUS_OK);
		return true;
	}
	Header *h = take_header();
	if (!h) {
		stats_.pump_waits_memory++;
		return false;
	}
	h->rq = &rq;
	rq.header = h;
	begun_++;
	if (begun_ > stats_.max_begun)
		stats_.max_begun = begun_;
	UBD_TRACE_EVENT(begin, &rq, h->from_reserve);
	return true;
}

// Ends the head without asking the host.
void Queue::end_head(Request &rq, u8 status)
{
	fifo_.pop();
	served_++;
	rq.served = true;
	rq.status = status;
	rq.done = true;
	stats_.errors += status != UBD_STATUS_OK;
	end(rq);
}

// Makes the head's next chunk. False if something is short.
bool Queue::next_chunk(Header &h)
{
	if (h.status != UBD_STATUS_OK) {
		h.all_prepared = true; // the rest would be for nothing
		return true;
	}
	if (skip_unneeded(h))
		return true;
	const bool guarded = is_guarded(h);
	if (h.allocating || (guarded && guard_taken_))
		return false;
	if (in_flight_ >= engine_.capacity() || !engine_.space()) {
		stats_.pump_waits_ring++;
		return false;
	}
	Chunk *chunk = take_chunk(h);
	if (!chunk) {
		stats_.pump_waits_memory++;
		return false;
	}
	if (!allocate(*chunk, h))
		fill(*chunk, h);
	if (guarded && !guard(*chunk))
		return refuse_header(*chunk, h);
	stats_.chunks++;
	in_flight_++;
	if (in_flight_ > stats_.max_in_flight)
		stats_.max_in_flight = in_flight_;
	to_engine(*chunk);
	return true;
}

// Describes to the host the next part of the request. Decides which operation.
void Queue::fill(Chunk &chunk, Header &h)
{
	const Request &rq = *h.rq;
	ByteCount left = ByteCount(rq.bytes) - h.prepared;
	bool durable = config_.sync_writes || ((rq.flags & UBD_RQ_FUA) && !config_.no_flush);
	// There it takes a commit to make a write durable.
	const bool by_commit = durable && config_.cow;

	if (rq.op == UBD_OP_FLUSH) {
		chunk.op = HostOp::sync;
		h.all_prepared = true;
		return;
	}
	ByteOffset at = to_bytes(SectorNumber(rq.sector)) + h.prepared;
	Run run = layout_.next_run(rq.op, at, left);
	chunk.file = run.file;
	chunk.offset = run.offset;
	chunk.bytes = run.bytes;
	switch (rq.op) {
	case UBD_OP_READ:
		chunk.op = HostOp::read;
		map_data(chunk, h, run);
		break;
	case UBD_OP_WRITE:
		chunk.op = durable && !by_commit ? HostOp::write_sync : HostOp::write;
		h.sync_pending = by_commit;
		map_data(chunk, h, run);
		break;
	case UBD_OP_DISCARD:
		chunk.op = HostOp::punch;
		break;
	default: // UBD_OP_WRITE_ZEROES
		chunk.op = rq.flags & UBD_RQ_NOUNMAP ? HostOp::zero : HostOp::punch;
		h.sync_pending = durable;
		if (no_punch_ && chunk.op == HostOp::punch)
			chunk.op = HostOp::zero;
		if (no_zero_ && chunk.op == HostOp::zero)
			use_fallback(chunk);
		break;
	}
	chunk.sector = SectorNumber(at.value >> UBD_SECTOR_SHIFT);
	chunk.sectors = static_cast<u32>(sectors(chunk.bytes));
	h.prepared = h.prepared + chunk.bytes;
	h.all_prepared = h.prepared.value == rq.bytes;
}

/*
 * Bits of a COW file need space there as data does: a write has it made before it
 * begins, so that no later commit can fail for want of it. Nothing behind the head
 * goes on meanwhile; but this is once for each part of the bitmap. True if there
 * is something to be done; then the chunk asks the host for it.
 */
bool Queue::allocate(Chunk &chunk, Header &h)
{
	const Request &rq = *h.rq;
	if (!config_.cow || no_allocate_ || (rq.op != UBD_OP_WRITE && rq.op != UBD_OP_WRITE_ZEROES))
		return false;
	const u64 count = sectors(ByteCount(rq.bytes));
	const Run run = config_.cow->unallocated(rq.sector, count);
	if (!run.bytes.value)
		return false;
	stats_.bitmap_allocations++;
	h.allocating = true;
	chunk.op = HostOp::allocate;
	chunk.file = run.file;
	chunk.offset = run.offset;
	chunk.bytes = run.bytes;
	chunk.sector = SectorNumber(rq.sector);
	chunk.sectors = static_cast<u32>(count);
	return true;
}

// The host has made the space, or will not.
void Queue::end_allocate(Chunk &chunk, bool have)
{
	if (have)
		config_.cow->set_allocated(chunk.sector.value, chunk.sectors);
	chunk.header->allocating = false;
	finish_chunk(chunk);
}

// Steps over what the request's next part asks nothing of the host for. True if
// that was all of it.
bool Queue::skip_unneeded(Header &h)
{
	const Request &rq = *h.rq;
	while (rq.op == UBD_OP_DISCARD && h.prepared.value < rq.bytes) {
		const ByteOffset at = to_bytes(SectorNumber(rq.sector)) + h.prepared;
		const Run run = layout_.next_run(rq.op, at, ByteCount(rq.bytes) - h.prepared);
		if (!run.skip)
			return false;
		h.prepared = h.prepared + run.bytes;
		h.all_prepared = h.prepared.value == rq.bytes;
	}
	return h.all_prepared;
}

void Queue::map_data(Chunk &chunk, Header &h, const Run &run)
{
	ubd_u64 mapped = 0;
	u64 most = chunk.op == HostOp::read ? min(run.bytes.value, engine_.best_read_bytes()) : run.bytes.value;
	if (is_guarded(h))
		most = min<u64>(most, guard_bytes);
	chunk.iovs = ubd_k_map(h.rq, chunk.iov, UBD_CHUNK_IOVS, most, &mapped);
	UBD_ASSERT(chunk.iovs && mapped && mapped <= run.bytes.value);
	chunk.bytes = ByteCount(mapped);
}

// Its next part is a write of the device's first bytes.
bool Queue::is_guarded(const Header &h) const
{
	return config_.guard && h.rq->op == UBD_OP_WRITE && !h.rq->sector && !h.prepared.value;
}

// Looked at is a copy, and it is what the host writes: the guest's pages may change
// under its eyes. False if it would begin a COW file.
bool Queue::guard(Chunk &chunk)
{
	auto *to = static_cast<char *>(config_.guard);
	for (u32 i = 0; i < chunk.iovs; i++) {
		__builtin_memcpy(to, chunk.iov[i].base, chunk.iov[i].bytes);
		to += chunk.iov[i].bytes;
	}
	if (begins_as_cow(config_.guard))
		return false;
	chunk.iov[0] = ubd_iovec{ config_.guard, chunk.bytes.value };
	chunk.iovs = 1;
	chunk.guarded = true;
	guard_taken_ = true;
	return true;
}

// It is the request's first part, so there is no other.
bool Queue::refuse_header(Chunk &chunk, Header &h)
{
	ubd_k_log(
		UBD_LOG_ERROR, true,
		"%s: %s: what begins as a COW file is not written to sector 0: the next start would take the disk for "
		"one; give it the d flag, if it is to hold such data\n",
		config_.disk, config_.path);
	put_chunk(chunk);
	h.status = UBD_STATUS_IOERR;
	h.all_prepared = true;
	return true;
}

void Queue::to_engine(Chunk &chunk)
{
	if (chunk.op == HostOp::sync && !lead_sync(chunk))
		return;
	if (chunk.op == HostOp::sync && config_.no_flush)
		return advance_sync(chunk, ByteCount(0)); // of a commit: on to the bits, and no further
	chunk.state = ChunkState::engine;
	to_engine_++;
	with_engine_++;
	UBD_TRACE_EVENT(chunk, traced(chunk));
	engine_.prepare(chunk);
}

/*
 * One fdatasync at a time. Linux tells an open file of a failed write-back
 * once: with two in flight, the second would return success for what the first
 * lost. Who comes while one is with the host waits, and all who wait share the
 * next: it begins after all of them came. False if the chunk has to wait.
 * model/sync.pml is a model of this and of end_sync(), without the commit.
 *
 * On a COW device it is a commit, see cow.hh: the set of bits is sealed here,
 * before the fdatasync is handed over, so what is sealed was written before it.
 * Who joins here had its bits set before that.
 */
bool Queue::lead_sync(Chunk &chunk)
{
	if (sync_leader_ && sync_leader_ != &chunk) {
		chunk.state = ChunkState::waiting;
		sync_waiting_.push(chunk);
		return false;
	}
	sync_leader_ = &chunk;
	if (phase_ != SyncPhase::data)
		return true; // too late to join: a step of the commit
	while (!sync_waiting_.empty()) {
		stats_.syncs_shared++;
		UBD_TRACE_EVENT(share, sync_waiting_.front()->header->rq->ticket, chunk.header->rq->ticket);
		sync_joined_.push(sync_waiting_.pop());
	}
	if (has_news()) {
		config_.cow->bitmap.seal();
		dirty_ms_ = 0;
	}
	trace_commit(chunk, UBD_COMMIT_DATA, UBD_STATUS_OK);
	return true;
}

// The host has done what the leader asked for: what comes next.
void Queue::advance_sync(Chunk &leader, ByteCount done)
{
	Cow *cow = config_.cow;
	switch (phase_) {
	case SyncPhase::data:
		stats_.host_syncs += !config_.no_flush;
		if (!cow || !cow->bitmap.sealed())
			return end_sync(leader, UBD_STATUS_OK);
		next_block_ = 0;
		phase_ = SyncPhase::blocks;
		trace_commit(leader, UBD_COMMIT_BLOCKS, UBD_STATUS_OK);
		return write_blocks(leader);
	case SyncPhase::blocks:
		if (!done.value)
			return complete_error(leader, errno_io);
		leader.advance(done);
		if (leader.bytes.value) {
			stats_.chunks_continued++;
			return again(leader, UBD_RETRY_SHORT, 0, false);
		}
		return write_blocks(leader);
	case SyncPhase::bits:
		stats_.host_syncs += !config_.no_flush;
		stats_.commits++;
		cow->bitmap.end_committed();
		return end_sync(leader, UBD_STATUS_OK);
	}
}

// The leader writes the next blocks of the bitmap, or makes them durable if
// all are written.
void Queue::write_blocks(Chunk &leader)
{
	const Run run = config_.cow->gather(next_block_);
	leader.pauses = 0;
	if (run.bytes.value) {
		stats_.bitmap_writes++;
		leader.op = HostOp::write;
		leader.file = run.file;
		leader.offset = run.offset;
		leader.bytes = run.bytes;
		leader.first = 0;
		leader.iovs = 1;
		leader.iov[0] = { config_.cow->buffer, run.bytes.value };
	} else {
		phase_ = SyncPhase::bits;
		trace_commit(leader, UBD_COMMIT_BITS, UBD_STATUS_OK);
		leader.op = HostOp::sync;
		leader.file = main_file;
	}
	retry(leader, false);
}

void Queue::trace_commit(const Chunk &leader, ubd_commit_phase phase, u8 status) const
{
	if (config_.cow)
		UBD_TRACE_EVENT(commit, leader.header->rq->ticket, phase, config_.cow->bitmap.sealed_sectors(), status);
}

// Bits are there that no commit has sealed, and it is not too late for them.
bool Queue::has_news() const
{
	return config_.cow && !config_.cow->poisoned && config_.cow->bitmap.dirty();
}

/*
 * A commit that nobody asked for: of the queue's own request, which takes no
 * ticket and no memory, and has its own place in the rings. Later than the
 * writes whose bits it commits is all that it has to be.
 */
void Queue::start_commit()
{
	if (committing_ || leaving_)
		return;
	committing_ = true;
	commit_failed_ = false;
	commit_request_ = Request{};
	commit_request_.op = UBD_OP_FLUSH;
	commit_request_.ticket = UBD_NO_TICKET;
	commit_request_.served = true;
	commit_header_ = Header{};
	commit_header_.rq = &commit_request_;
	commit_header_.chunks = &commit_chunk_;
	commit_header_.all_prepared = true;
	new (Place{ &commit_chunk_ }) Chunk;
	commit_chunk_.header = &commit_header_;
	commit_chunk_.op = HostOp::sync;
	retry(commit_chunk_, false);
}

// The data of a chunk is where it belongs: from now on reads find it there.
void Queue::landed(const Chunk &chunk)
{
	const u8 op = chunk.header->rq->op;
	if (!config_.cow || (op != UBD_OP_WRITE && op != UBD_OP_WRITE_ZEROES))
		return;
	commit_failed_ = false;
	config_.cow->bitmap.set(chunk.sector.value, chunk.sectors);
}

// The fdatasync ended for all who shared it. The next one may begin, unless
// durability is lost: then there is none to be had.
void Queue::end_sync(Chunk &leader, u8 status)
{
	if (config_.cow && config_.cow->bitmap.sealed())
		config_.cow->bitmap.end_failed();
	if (state_.durability_lost()) {
		status = status == UBD_STATUS_OK ? u8{ UBD_STATUS_IOERR } : status;
		while (!sync_waiting_.empty())
			sync_joined_.push(sync_waiting_.pop());
	}
	trace_commit(leader, UBD_COMMIT_END, status);
	sync_leader_ = nullptr;
	phase_ = SyncPhase::data;
	if (!sync_waiting_.empty()) {
		sync_leader_ = &sync_waiting_.pop();
		waiting_.push(*sync_leader_);
	}
	Chunk *joined = sync_joined_.take();
	fail(leader, status);
	finish_chunk(leader);
	while (joined) {
		Chunk &chunk = *joined;
		joined = chunk.next;
		fail(chunk, status);
		finish_chunk(chunk);
	}
}

// One call for all that is prepared. What the host refuses stays prepared.
// True if it took anything.
bool Queue::submit()
{
	const u32 before = engine_.unsent();
	for (u32 tries = 0; engine_.unsent(); tries++) {
		stats_.submit_calls++;
		Error e = engine_.submit();
		UBD_TRACE_EVENT(submit, before, engine_.unsent(), e.number);
		if (!e)
			continue;
		stats_.submit_retries++;
		if (e.number == errno_intr && tries < max_immediate_retries)
			continue;
		if (e.number != errno_again && e.number != errno_busy && e.number != errno_nomem &&
		    e.number != errno_intr)
			ubd_k_log(UBD_LOG_ERROR, true, "%s: %s: the host refuses I/O: %s (%d); trying on\n",
				  config_.disk, config_.path, errno_words(e.number), e.number);
		break; // arm() sees unsent() and comes back
	}
	return engine_.unsent() < before;
}

// Takes completions until there is none. Returns how many.
u32 Queue::reap(Reaper reaper)
{
	u32 total = 0;
	for (;;) {
		u32 n = engine_.reap(batch_, batch_size);
		for (u32 i = 0; i < n; i++) {
			if (has_rounds())
				collect(*batch_[i].chunk, batch_[i].result);
			else
				complete(*batch_[i].chunk, batch_[i].result);
		}
		total += n;
		if (!n)
			break;
	}
	if (has_rounds())
		end_round();
	if (total && idle_since_ns_) {
		window_.waited(ubd_k_now_ns() - idle_since_ns_);
		idle_since_ns_ = 0;
	}
	switch (reaper) {
	case Reaper::poller:
		stats_.polled_completions += total;
		break;
	case Reaper::submitter:
		stats_.inline_completions += total;
		break;
	case Reaper::interrupt:
		stats_.interrupt_completions += total;
		break;
	case Reaper::timer:
		stats_.missed_wakeups += total;
		break;
	}
	return total;
}

void Queue::complete(Chunk &chunk, s32 result)
{
	with_engine_--;
	UBD_TRACE_EVENT(completed, traced(chunk), result);
	if (result < 0)
		return complete_error(chunk, -result);
	complete_done(chunk, result);
	if (&chunk == trial_) // and was not finished by this
		go_on();
}

void Queue::complete_done(Chunk &chunk, s32 result)
{
	backoff_ms_ = 0;
	futile_waits_ = 0;
	if (&chunk == sync_leader_)
		return advance_sync(chunk, ByteCount(static_cast<u32>(result)));
	if (chunk.op == HostOp::allocate)
		return end_allocate(chunk, true);
	if (!moves_data(chunk.op)) {
		landed(chunk);
		return finish_chunk(chunk);
	}
	complete_ok(chunk, ByteCount(static_cast<u32>(result)));
}

void Queue::complete_ok(Chunk &chunk, ByteCount done)
{
	// A part of a block is done again with the block. Where nothing but a part
	// comes, the file ends there.
	const ByteCount part(done.value % config_.block);
	const ByteCount whole = done - part;
	if (part.value && whole.value)
		done = whole;
	// An operation without effect would be tried for ever.
	if (!whole.value && chunk.op != HostOp::read)
		return complete_error(chunk, errno_io);
	if (!whole.value) {
		chunk.advance(done);
		return read_past_end(chunk);
	}
	if (chunk.op == HostOp::write_sync) {
		stats_.host_dsync_writes++;
		// Another call may have been told of the loss in this one's place.
		if (state_.durability_lost()) {
			fail(chunk, UBD_STATUS_IOERR);
			return finish_chunk(chunk);
		}
	}
	chunk.advance(done);
	if (!chunk.bytes.value) {
		landed(chunk);
		return finish_chunk(chunk);
	}
	stats_.chunks_continued++;
	again(chunk, UBD_RETRY_SHORT, 0, false);
}

// O_DIRECT refuses what is not aligned as it asks for, pieces of memory, too: that
// goes by the host's page cache.
bool Queue::use_buffered(Chunk &chunk)
{
	if (config_.block == 1 || !moves_data(chunk.op) || chunk.file >= buffered_file)
		return false;
	chunk.file = static_cast<u8>(chunk.file + buffered_file);
	return true;
}

// What is left of a read is beyond the end of the file.
void Queue::read_past_end(Chunk &chunk)
{
	stats_.zeroed_reads++;
	if (state_.find_shrunk())
		ubd_k_log(UBD_LOG_WARN, false,
			  "%s: %s: the file ends before the device does (read at byte %llu): was it truncated while in "
			  "use? What is missing reads as zeros; grow it back with truncate -s, and restore its "
			  "content\n",
			  config_.disk, path_of(chunk), chunk.offset.value);
	chunk.zero_rest();
	finish_chunk(chunk);
}

void Queue::complete_error(Chunk &chunk, int error)
{
	if (error == errno_inval && use_buffered(chunk)) {
		stats_.chunks_retried++;
		return again(chunk, UBD_RETRY_FALLBACK, error, false);
	}
	if (may_stop() && waits_for_space(chunk.op, error))
		return keep(chunk, error);
	Verdict verdict = judge(chunk.op, error);
	if (verdict == Verdict::retry_bounded) {
		futile_waits_ = 0; // the host does answer, and it is not asked for ever
		verdict = ++chunk.pauses <= max_memory_pauses ? Verdict::retry_later : Verdict::fail;
	}
	switch (verdict) {
	case Verdict::retry_now:
		stats_.chunks_retried++;
		return again(chunk, UBD_RETRY_ERROR, error, ++retries_ > max_immediate_retries);
	case Verdict::retry_later:
		stats_.chunks_retried++;
		return again(chunk, UBD_RETRY_ERROR, error, true);
	case Verdict::unsupported:
		if (chunk.op == HostOp::allocate) {
			no_allocate_ = true; // then a commit may find the disk full
			return end_allocate(chunk, false);
		}
		if (chunk.op == HostOp::punch && !no_punch_) {
			no_punch_ = true;
			ubd_k_disable_discard(k_);
		} else if (chunk.op == HostOp::zero) {
			no_zero_ = true;
		}
		if (chunk.header->rq->op == UBD_OP_WRITE_ZEROES) {
			use_fallback(chunk);
			return again(chunk, UBD_RETRY_FALLBACK, error, false);
		}
		fail(chunk, UBD_STATUS_NOTSUPP);
		return finish_chunk(chunk);
	case Verdict::retry_bounded: // was decided above
	case Verdict::fail:
		futile_waits_ = 0;
		return refuse(chunk, error);
	}
}

// The error is final.
void Queue::refuse(Chunk &chunk, int error)
{
	report(chunk, error);
	if (loses_durability(chunk.op, error))
		durability_lost(error);
	if (&chunk == sync_leader_)
		return end_sync(chunk, status_of(error));
	fail(chunk, status_of(error));
	if (chunk.op == HostOp::allocate)
		return end_allocate(chunk, false);
	finish_chunk(chunk);
}

// The host has no space for it: it is to have another try when there is some.
void Queue::keep(Chunk &chunk, int error)
{
	UBD_TRACE_EVENT(retry, traced(chunk), UBD_RETRY_SPACE, error, true);
	chunk.state = ChunkState::waiting;
	chunk.cancelled = false;
	kept_.insert(chunk, comes_before);
	futile_waits_ = 0;
	if (!stop_error_)
		stop(chunk, error);
	stop_error_ = error;
	if (&chunk != trial_)
		return;
	trial_ = nullptr;
	stop_waited_ms_ = 0;
	stop_pause_ms_ = min(stop_pause_ms_ * 2, last_stop_pause_ms);
}

void Queue::stop(const Chunk &chunk, int error)
{
	char what[80];
	stopped_ns_ = ubd_k_now_ns();
	const bool soon = resumed_ns_ && ms_from_ns(stopped_ns_ - resumed_ns_) < last_stop_pause_ms;
	stop_pause_ms_ = soon ? min(stop_pause_ms_ * 2, last_stop_pause_ms) : first_stop_pause_ms;
	stop_waited_ms_ = 0;
	stats_.stops++;
	ubd_k_log(
		UBD_LOG_WARN, false,
		"%s: %s: the host has no space for %llu bytes of %s: %s (%d); the device is stopped, nothing is lost: "
		"%s; it goes on by itself within %u s, or at once by echo 1 >/sys/block/%s/ubd/resume\n",
		config_.disk, config_.path, chunk.bytes.value, describe(chunk, what, sizeof(what)), errno_words(error),
		error, remedy_for(error), last_stop_pause_ms / 1000, config_.disk);
}

// Where durability is lost, in whatever queue, there is nothing to wait for.
bool Queue::may_stop() const
{
	return config_.stop_when_full && !no_stops_ && !state_.durability_lost();
}

// One of those that are kept is handed over: how it fares decides.
void Queue::trial()
{
	if (trial_)
		return;
	if (!may_stop())
		return drop_kept();
	stop_waited_ms_ = 0;
	trial_ = &kept_.pop();
	retry(*trial_, false);
}

// There is space, or what was tried failed otherwise: all are tried.
void Queue::go_on()
{
	if (!may_stop())
		return drop_kept();
	trial_ = nullptr;
	stop_error_ = 0;
	resumed_ns_ = ubd_k_now_ns();
	ubd_k_log(UBD_LOG_WARN, false, "%s: %s: the device goes on after %llu s\n", config_.disk, config_.path,
		  ms_from_ns(resumed_ns_ - stopped_ns_) / 1000);
	while (!kept_.empty())
		waiting_.push(kept_.pop());
}

// Who waits for space is told that there is none; nobody waits for it any more.
void Queue::drop_kept()
{
	const int error = stop_error_;
	no_stops_ = true;
	trial_ = nullptr;
	stop_error_ = 0;
	while (!kept_.empty())
		refuse(kept_.pop(), error);
}

// The next best way to make zeros: punch, zero range, write.
void Queue::use_fallback(Chunk &chunk)
{
	if (chunk.op == HostOp::punch && !no_zero_) {
		chunk.op = HostOp::zero;
		return;
	}
	chunk.op = HostOp::write;
	chunk.zero_pages = true;
	chunk.fill_zero_iovs();
}

// What the host did not do, or not all of it.
void Queue::again(Chunk &chunk, ubd_retry why, int error, bool later)
{
	UBD_TRACE_EVENT(retry, traced(chunk), why, error, later);
	retry(chunk, later);
}

// What is to be handed over as soon as there is space, or after a pause.
void Queue::retry(Chunk &chunk, bool later)
{
	chunk.state = ChunkState::waiting;
	chunk.cancelled = false;
	(later ? later_ : waiting_).push(chunk);
}

// A chunk is done, well or not. The last one of a request ends it, or stays to
// make it durable: so that needs no memory.
void Queue::finish_chunk(Chunk &chunk)
{
	Header &h = *chunk.header;
	if (&chunk == trial_)
		go_on();
	bool last = h.all_prepared && h.chunks == &chunk && !chunk.sibling_next;
	if (&chunk == &commit_chunk_) {
		committing_ = false;
		commit_failed_ = h.status != UBD_STATUS_OK;
		return;
	}
	if (last && h.sync_pending && h.status == UBD_STATUS_OK && state_.durability_lost())
		h.status = UBD_STATUS_IOERR;
	if (last && h.sync_pending && h.status == UBD_STATUS_OK) {
		h.sync_pending = false;
		chunk.op = HostOp::sync;
		chunk.zero_pages = false;
		chunk.bytes = ByteCount(0);
		return retry(chunk, false);
	}
	in_flight_--;
	put_chunk(chunk);
	if (last)
		finish(h);
}

void Queue::finish(Header &h)
{
	Request &rq = *h.rq;
	rq.status = h.status;
	rq.header = nullptr;
	rq.done = true;
	if (h.status != UBD_STATUS_OK)
		stats_.errors++;
	put_header(h);
	end(rq);
}

// In the order in which the host is done, or in that of tickets where nothing is to
// depend on the host.
void Queue::end(Request &rq)
{
	if (config_.await_host)
		done_.insert(rq, [](const Request &a, const Request &b) { return a.ticket < b.ticket; });
	else
		done_.push(rq);
}

// What a request is told is what went wrong first.
void Queue::fail(Chunk &chunk, u8 status)
{
	if (chunk.header->status == UBD_STATUS_OK)
		chunk.header->status = status;
}

void Queue::report(const Chunk &chunk, int error)
{
	char what[80];
	ubd_k_log(UBD_LOG_ERROR, true, "%s: %s: %s failed: %s (%d); %s\n", config_.disk, path_of(chunk),
		  describe(chunk, what, sizeof(what)), errno_words(error), error, remedy_for(error));
}

// The request that a chunk is of.
const char *Queue::describe(const Chunk &chunk, char *to, size_t bytes) const
{
	const Request &rq = *chunk.header->rq;
	if (&rq == &commit_request_)
		return "commit of the COW bitmap";
	if (rq.op == UBD_OP_FLUSH)
		return operation_name(rq.op);
	ubd_k_snprintf(to, bytes, "%s of %llu sectors at sector %llu", operation_name(rq.op),
		       sectors(ByteCount(rq.bytes)), rq.sector);
	return to;
}

const char *Queue::path_of(const Chunk &chunk) const
{
	return chunk.file % buffered_file == backing_file ? config_.backing : config_.path;
}

// Linux forgets which pages it failed to write back: no later success proves
// anything about them.
void Queue::durability_lost(int error)
{
	if (config_.cow)
		config_.cow->poisoned = true;
	if (state_.lose_durability())
		ubd_k_log(
			UBD_LOG_ERROR, false,
			"%s: %s: the host failed to make data durable: %s (%d); from now on each write and flush of "
			"this device fails, since what was lost cannot be known: copy what you need, check the host's "
			"disk, and restart the guest\n",
			config_.disk, config_.path, errno_words(error), error);
	drop_kept();
}

// Now and then, while there is I/O: says it once.
void Queue::check_file()
{
	// Who leaves, or stands, may be about to take another file.
	if (leaving_ || !engine_.file_removed() || !state_.find_removed())
		return;
	ubd_k_log(UBD_LOG_WARN, false,
		  "%s: %s: the file was removed on the host while in use; the device goes on, but all is lost when the "
		  "guest ends: copy what you need to another disk\n",
		  config_.disk, config_.path);
}

// Something is left that no announcement will bring: see that the timer does.
void Queue::arm()
{
	bool refused = engine_.unsent() && with_engine_ <= engine_.unsent();
	if (!later_.empty() || refused) {
		if (!backoff_ms_)
			backoff_ms_ = first_backoff_ms;
		need_timer(backoff_ms_);
	} else if (!waiting_.empty()) {
		need_timer(first_backoff_ms);
	} else if (in_flight_ || active_ || committing_ || (has_news() && config_.cow->commit_ms)) {
		need_timer(watch_interval());
	}
}

u32 Queue::watch_interval() const
{
	return has_news() && config_.cow->commit_ms ? min(watch_ms, config_.cow->commit_ms) : watch_ms;
}

void Queue::need_timer(u32 ms)
{
	if (timer_ms_ && timer_ms_ <= ms)
		return;
	const u64 now = ubd_k_now_ns();
	// Pauses must not make it forget the time by which bits and stops have waited.
	if (timer_ms_)
		cut_short_ns_ += now - armed_ns_;
	armed_ns_ = now;
	timer_ms_ = ms;
	ubd_k_arm_timer(k_, ms);
}

// For the head only, as all that begins a request is.
Header *Queue::take_header()
{
	if (void *memory = ubd_k_header_alloc(k_))
		return new (Place{ memory }) Header;
	if (header_reserved_)
		return nullptr;
	header_reserved_ = true;
	stats_.header_reserve_uses++;
	reserve_header_ = Header{};
	reserve_header_.from_reserve = true;
	return &reserve_header_;
}

void Queue::put_header(Header &h)
{
	begun_--;
	if (h.from_reserve)
		header_reserved_ = false;
	else
		ubd_k_header_free(k_, &h);
}

// For the head only.
Chunk *Queue::take_chunk(Header &h)
{
	Chunk *chunk = nullptr;
	if (void *memory = ubd_k_chunk_alloc(k_)) {
		chunk = new (Place{ memory }) Chunk;
	} else if (!chunk_reserved_) {
		UBD_ASSERT(fifo_.front() == h.rq);
		chunk_reserved_ = true;
		stats_.chunk_reserve_uses++;
		chunk = new (Place{ &reserve_chunk_ }) Chunk;
		chunk->from_reserve = true;
	} else {
		return nullptr;
	}
	chunk->header = &h;
	chunk->sibling_next = h.chunks;
	if (h.chunks)
		h.chunks->sibling_prev = chunk;
	h.chunks = chunk;
	return chunk;
}

void Queue::put_chunk(Chunk &chunk)
{
	Header &h = *chunk.header;
	if (chunk.sibling_next)
		chunk.sibling_next->sibling_prev = chunk.sibling_prev;
	if (chunk.sibling_prev)
		chunk.sibling_prev->sibling_next = chunk.sibling_next;
	else
		h.chunks = chunk.sibling_next;
	if (chunk.guarded)
		guard_taken_ = false;
	if (chunk.from_reserve)
		chunk_reserved_ = false;
	else
		ubd_k_chunk_free(k_, &chunk);
}

} // namespace ubd
