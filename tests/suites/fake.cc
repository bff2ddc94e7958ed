// SPDX-License-Identifier: GPL-2.0-only
/*
 * The fake kernel, engine and disk of fake.hh. The ubd_k_* here are this test
 * program's or this test module's own.
 */
#include "fake.hh"

using namespace ubd;
using namespace ubd::test;

namespace
{

struct Log {
	char text[16384];
	size_t used;
	u32 lines;
	u32 asserts;
	bool expect_asserts;
} the_log;

struct Events {
	char text[8192];
	size_t used;
} the_events;

void event(const char *format, ...)
{
	Events &e = the_events;
	va_list args;
	va_start(args, format);
	size_t room = sizeof(e.text) - e.used;
	int n = ubd_test_vsnprintf(e.text + e.used, room, format, args);
	va_end(args);
	if (static_cast<size_t>(n) >= room)
		ubd_test_stop("too many events");
	e.used += static_cast<size_t>(n);
}

void watch_event(const ubd_kqueue *k)
{
	if (!k->locked)
		failed_here(__FILE__, __LINE__, "an event outside the queue lock");
}

// Core stops being tested and starts to spin long before this.
constexpr u64 most_engine_calls = 50'000'000;
u64 engine_calls;

FakeRequest &fake(ubd_request *rq)
{
	return *reinterpret_cast<FakeRequest *>(rq);
}

bool refuses(ubd_kqueue *k, const Pool &p)
{
	return p.live >= p.limit || (k->random && k->random->percent(p.refuse_percent));
}

void *pool_alloc(ubd_kqueue *k, Pool &p, size_t bytes)
{
	if (!k->locked)
		failed_here(__FILE__, __LINE__, "pool used outside the queue lock");
	if (refuses(k, p)) {
		p.refused++;
		return nullptr;
	}
	p.live++;
	p.most = p.live > p.most ? p.live : p.most;
	void *m = ubd_test_alloc(bytes);
	__builtin_memset(m, 0xa5, bytes); // a mempool does not zero
	return m;
}

void pool_free(ubd_kqueue *k, Pool &p, void *m)
{
	if (!k->locked)
		failed_here(__FILE__, __LINE__, "pool used outside the queue lock");
	if (!p.live)
		failed_here(__FILE__, __LINE__, "more was freed than allocated");
	p.live--;
	ubd_test_free(m);
}

} // namespace

// -- the kernel ---------------------------------------------------------------

unsigned long ubd_k_lock(ubd_kqueue *k)
{
	if (k->locked)
		ubd_test_stop("the queue lock is taken twice");
	k->locked = true;
	k->lock_count++;
	return 0x10c4 + k->lock_count;
}

void ubd_k_unlock(ubd_kqueue *k, unsigned long flags)
{
	if (!k->locked)
		failed_here(__FILE__, __LINE__, "unlock without lock");
	if (flags != 0x10c4 + k->lock_count)
		failed_here(__FILE__, __LINE__, "unlock with the flags of another lock");
	k->locked = false;
}

void *ubd_k_header_alloc(ubd_kqueue *k)
{
	return pool_alloc(k, k->headers, ubd_header_bytes());
}

void ubd_k_header_free(ubd_kqueue *k, void *header)
{
	pool_free(k, k->headers, header);
}

void *ubd_k_chunk_alloc(ubd_kqueue *k)
{
	return pool_alloc(k, k->chunks, ubd_chunk_bytes());
}

void ubd_k_chunk_free(ubd_kqueue *k, void *chunk)
{
	pool_free(k, k->chunks, chunk);
}

// cursor: word[0] the segment, word[1] the byte in it.
u32 ubd_k_map(ubd_request *rq, ubd_iovec *iov, u32 max_iovs, ubd_u64 max_bytes, ubd_u64 *bytes)
{
	FakeRequest &r = fake(rq);
	const auto start = rq->cursor;
	u64 sum = 0;
	u32 n = 0;
	while (sum < max_bytes && rq->cursor.word[0] < r.segments) {
		const Segment &s = r.segment[rq->cursor.word[0]];
		u64 at = rq->cursor.word[1];
		u64 part = min(s.bytes - at, max_bytes - sum);
		u8 *base = s.base + at;
		if (n && static_cast<u8 *>(iov[n - 1].base) + iov[n - 1].bytes == base) {
			iov[n - 1].bytes += part;
		} else if (n < max_iovs) {
			iov[n++] = { base, part };
		} else {
			break;
		}
		sum += part;
		rq->cursor.word[1] += part;
		if (rq->cursor.word[1] == s.bytes)
			rq->cursor.word[0]++, rq->cursor.word[1] = 0;
	}
	// As kernel/glue.c does it.
	if (sum % UBD_SECTOR_SIZE && sum < max_bytes) {
		rq->cursor = start;
		return ubd_k_map(rq, iov, max_iovs, sum - sum % UBD_SECTOR_SIZE, bytes);
	}
	*bytes = sum;
	return n;
}

void ubd_k_end_requests(ubd_kqueue *k, ubd_request *list)
{
	if (k->locked)
		failed_here(__FILE__, __LINE__, "requests are ended under the queue lock");
	k->end_depth++;
	k->end_depth_most = k->end_depth > k->end_depth_most ? k->end_depth : k->end_depth_most;
	while (list) {
		FakeRequest &r = fake(list);
		list = list->next;
		if (r.ended++)
			failed_here(__FILE__, __LINE__, "ticket %llu ends twice", r.rq.ticket);
		r.end_order = ++k->ended;
		if (k->on_end)
			k->on_end(k->context, r);
	}
	k->end_depth--;
}

void ubd_k_arm_timer(ubd_kqueue *k, u32 ms)
{
	if (!k->locked)
		failed_here(__FILE__, __LINE__, "timer armed outside the queue lock");
	if (!ms)
		failed_here(__FILE__, __LINE__, "timer armed for no time");
	k->timer_ms = ms;
	k->timer_calls++;
}

void ubd_k_poll(ubd_kqueue *k)
{
	if (!k->locked)
		failed_here(__FILE__, __LINE__, "polling asked for outside the queue lock");
	k->poll_calls++;
}

ubd_u64 ubd_k_now_ns()
{
	return fake_now_ns;
}

void ubd_k_disable_discard(ubd_kqueue *k)
{
	k->discard_disabled++;
}

void ubd_k_log(ubd_log_level, bool, const char *format, ...)
{
	Log &l = the_log;
	va_list args;
	va_start(args, format);
	size_t room = sizeof(l.text) - l.used;
	int n = ubd_test_vsnprintf(l.text + l.used, room, format, args);
	va_end(args);
	size_t put = static_cast<size_t>(n) < room ? static_cast<size_t>(n) : room - 1;
	if (!put || l.text[l.used + put - 1] != '\n')
		if (put + 1 < room)
			failed_here(__FILE__, __LINE__, "a message does not end its line: %s", l.text + l.used);
	l.used += put;
	l.lines++;
}

int ubd_k_snprintf(char *to, size_t bytes, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	int n = ubd_test_vsnprintf(to, bytes, format, args);
	va_end(args);
	return n;
}

void ubd_k_assert_failed(const char *what, const char *file, int line)
{
	if (!the_log.asserts++ && !the_log.expect_asserts)
		failed_here(file, line, "broken invariant: %s", what);
	// In a driver nothing comes after this.
	if (the_log.asserts > 1000)
		ubd_test_stop(what);
}

u32 ubd_trace_on;

void ubd_k_trace_enqueue(ubd_kqueue *k, const ubd_request *rq, bool last)
{
	watch_event(k);
	event("enqueue %lld %s %u %llu+%llu%s\n", rq->ticket, operation_name(rq->op), rq->flags,
	      rq->op == UBD_OP_FLUSH ? 0 : rq->sector, rq->bytes, last ? " last" : "");
}

void ubd_k_trace_begin(ubd_kqueue *k, const ubd_request *rq, bool reserve)
{
	watch_event(k);
	event("begin %lld%s\n", rq->ticket, reserve ? " reserve" : "");
}

void ubd_k_trace_chunk(ubd_kqueue *k, ubd_trace_chunk c)
{
	watch_event(k);
	event("chunk %lld %s %u:%llu+%llu\n", c.ticket, c.op, c.file, c.offset, c.bytes);
}

void ubd_k_trace_completed(ubd_kqueue *k, ubd_trace_chunk c, s32 result)
{
	watch_event(k);
	event("completed %lld %s %u:%llu+%llu %d\n", c.ticket, c.op, c.file, c.offset, c.bytes, result);
}

void ubd_k_trace_retry(ubd_kqueue *k, ubd_trace_chunk c, ubd_retry why, int error, bool later)
{
	static constexpr const char *whys[] = { "short", "error", "fallback", "space" };
	watch_event(k);
	event("retry %lld %s %u:%llu+%llu %s %d%s\n", c.ticket, c.op, c.file, c.offset, c.bytes, whys[why], error,
	      later ? " later" : "");
}

void ubd_k_trace_share(ubd_kqueue *k, ubd_u64 ticket, ubd_u64 leader)
{
	watch_event(k);
	event("share %lld %lld\n", ticket, leader);
}

void ubd_k_trace_commit(ubd_kqueue *k, ubd_u64 ticket, ubd_commit_phase phase, ubd_u64 sectors, u8 status)
{
	static constexpr const char *phases[] = { "data", "blocks", "bits", "end" };
	watch_event(k);
	event("commit %lld %s %llu %u\n", ticket, phases[phase], sectors, status);
}

void ubd_k_trace_submit(ubd_kqueue *k, u32 entries, u32 left, int error)
{
	watch_event(k);
	event("submit %u %u %d\n", entries, left, error);
}

void *ubd_k_zalloc(size_t bytes)
{
	return ubd_test_alloc(bytes);
}

void ubd_k_free(void *p)
{
	ubd_test_free(p);
}

void ubd_k_sleep_ms(u32) {}

bool ubd_k_one_cpu()
{
	return true;
}

namespace ubd::test
{
u64 fake_now_ns = 1;
}

namespace ubd::test
{

bool failed_here(const char *file, int line, const char *format, ...)
{
	char text[400];
	va_list args;
	va_start(args, format);
	ubd_test_vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	ubd_test_fail(file, line, text);
	return false;
}

bool contains(const char *text, const char *part)
{
	size_t n = __builtin_strlen(part);
	for (size_t left = __builtin_strlen(text); left >= n; left--, text++)
		if (!__builtin_memcmp(text, part, n))
			return true;
	return false;
}

void trace_events(bool on)
{
	ubd_trace_on = on;
	if (on)
		the_events = {};
}

const char *traced_events()
{
	return the_events.text;
}

const char *log_text()
{
	return the_log.text;
}

u32 log_lines()
{
	return the_log.lines;
}

bool log_has(const char *text)
{
	return contains(the_log.text, text);
}

void log_clear()
{
	the_log.used = 0;
	the_log.lines = 0;
	the_log.text[0] = '\0';
}

u32 asserts_failed()
{
	return the_log.asserts;
}

void expect_asserts(bool expected)
{
	the_log.expect_asserts = expected;
}

u64 Random::next()
{
	// splitmix64
	u64 z = (state_ += 0x9e3779b97f4a7c15ull);
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

// -- requests -------------------------------------------------------------------

void FakeRequest::write_pattern(u32 seed)
{
	u32 at = 0;
	for (u32 i = 0; i < segments; i++)
		for (u64 j = 0; j < segment[i].bytes; j++, at++)
			segment[i].base[j] = static_cast<u8>((at * 2654435761u + seed * 40503u) >> 11);
}

bool FakeRequest::has_pattern(u32 seed) const
{
	u32 at = 0;
	for (u32 i = 0; i < segments; i++)
		for (u64 j = 0; j < segment[i].bytes; j++, at++)
			if (segment[i].base[j] != static_cast<u8>((at * 2654435761u + seed * 40503u) >> 11))
				return false;
	return true;
}

bool FakeRequest::is_zero() const
{
	for (u32 i = 0; i < segments; i++)
		for (u64 j = 0; j < segment[i].bytes; j++)
			if (segment[i].base[j])
				return false;
	return true;
}

void FakeRequest::copy_out(u8 *to) const
{
	for (u32 i = 0; i < segments; to += segment[i++].bytes)
		__builtin_memcpy(to, segment[i].base, segment[i].bytes);
}

void FakeRequest::copy_in(const u8 *from)
{
	for (u32 i = 0; i < segments; from += segment[i++].bytes)
		__builtin_memcpy(segment[i].base, from, segment[i].bytes);
}

// -- engine -----------------------------------------------------------------------

ScriptEngine::ScriptEngine(ubd_kqueue &k, u64 file_bytes) : k_(k), file_bytes_(file_bytes)
{
	for (u32 f = 0; f < 2; f++) {
		file_[f] = static_cast<u8 *>(ubd_test_alloc(file_bytes));
		file_end[f] = file_bytes;
	}
	dirty = static_cast<u8 *>(ubd_test_alloc(file_bytes / sector_bytes + 1));
}

ScriptEngine::~ScriptEngine()
{
	for (u8 *f : file_)
		ubd_test_free(f);
	ubd_test_free(dirty);
}

void ScriptEngine::watch(const char *what) const
{
	if (!k_.locked)
		failed_here(__FILE__, __LINE__, "engine: %s outside the queue lock", what);
	if (++engine_calls > most_engine_calls)
		ubd_test_stop("core asks the engine without end");
}

void ScriptEngine::script(u8 op, s32 result, u64 times)
{
	if (steps_ == sizeof(step_) / sizeof(step_[0]))
		ubd_test_stop("a script is too long");
	step_[steps_++] = { op, result, times };
}

void ScriptEngine::script_submit(int error, u64 times)
{
	if (submit_steps_ == sizeof(submit_step_) / sizeof(submit_step_[0]))
		ubd_test_stop("a script is too long");
	submit_step_[submit_steps_++] = { any_op, error, times };
}

void ScriptEngine::clear_script()
{
	steps_ = submit_steps_ = 0;
}

// A part that the engine sees for the first time must belong to the youngest
// ticket so far, or to a younger one; a continuation to one whose parts were
// all seen. An fdatasync may come late: flushes wait for each other's.
void ScriptEngine::check_order(const Chunk &chunk, Trace &t)
{
	FakeRequest &r = fake(chunk.header->rq);
	u64 begin = r.rq.sector * sector_bytes;
	if (chunk.op == HostOp::sync) {
		t.fresh = r.rq.op == UBD_OP_FLUSH && !r.sync_handed;
		r.sync_handed = true;
	} else {
		t.fresh = chunk.offset.value == begin + r.handed && r.handed < r.rq.bytes;
		if (t.fresh)
			r.handed += chunk.bytes.value;
		else if (chunk.offset.value + chunk.bytes.value > begin + r.handed || chunk.offset.value < begin)
			failed_here(__FILE__, __LINE__, "ticket %llu: a part at %llu that is none of its own", t.ticket,
				    t.offset);
	}
	if (t.ticket < highest_ticket_) {
		if (chunk.op == HostOp::sync)
			return;
		// Of a request that has failed already the rest is never handed over.
		bool whole = (r.rq.op == UBD_OP_FLUSH ? r.sync_handed : r.handed == r.rq.bytes) ||
			     chunk.header->status != UBD_STATUS_OK;
		if (t.fresh || !whole)
			failed_here(__FILE__, __LINE__, "ticket %llu is served after ticket %llu", t.ticket,
				    highest_ticket_);
	} else {
		highest_ticket_ = t.ticket;
	}
}

// The bitmap is written by another descriptor.
void ScriptEngine::check_block(const Chunk &chunk) const
{
	if (block == 1 || chunk.file >= buffered_file || chunk.op == HostOp::sync)
		return;
	bool whole = !(chunk.offset.value % block) && !(chunk.bytes.value % block);
	for (u32 i = chunk.first; moves_data(chunk.op) && i < chunk.iovs; i++)
		whole = whole && !(chunk.iov[i].bytes % block);
	if (chunk.zero_pages)
		whole = whole && !(reinterpret_cast<uintptr_t>(chunk.iov[0].base) % block);
	if (!whole)
		failed_here(__FILE__, __LINE__, "O_DIRECT: %s of %llu bytes at %llu", name_of(chunk.op),
			    chunk.bytes.value, chunk.offset.value);
}

void ScriptEngine::prepare(Chunk &chunk)
{
	watch("prepare");
	if (!space())
		failed_here(__FILE__, __LINE__, "prepare() without space");
	if (holds() >= limit + own)
		failed_here(__FILE__, __LINE__, "%u in flight, capacity %u", holds() + 1, limit + own);
	if (moves_data(chunk.op)) {
		u64 sum = 0;
		for (u32 i = chunk.first; i < chunk.iovs; i++)
			sum += chunk.iov[i].bytes;
		bool part = chunk.zero_pages && sum < chunk.bytes.value;
		if (!sum || (sum != chunk.bytes.value && !part))
			failed_here(__FILE__, __LINE__, "a part of %llu bytes has %llu in its vectors",
				    chunk.bytes.value, sum);
	}
	check_block(chunk);
	Trace t{ chunk.header->rq->ticket, chunk.op,           chunk.file,       false, chunk.from_reserve,
		 chunk.iovs - chunk.first, chunk.offset.value, chunk.bytes.value };
	if (watch_order)
		check_order(chunk, t);
	trace_[traces++ % slots] = t;
	unsent_chunk_[unsent_++] = &chunk;
	most_held = holds() > most_held ? holds() : most_held;
}

Error ScriptEngine::submit()
{
	watch("submit");
	submits++;
	for (u32 i = 0; i < submit_steps_; i++) {
		Step &s = submit_step_[i];
		if (!s.times)
			continue;
		if (s.times != for_ever)
			s.times--;
		return Error{ s.result };
	}
	u32 n = min(take, unsent_);
	taken_last = n;
	for (u32 i = 0; i < n; i++)
		host_chunk_[hosts_++] = unsent_chunk_[i];
	for (u32 i = n; i < unsent_; i++)
		unsent_chunk_[i - n] = unsent_chunk_[i];
	unsent_ -= n;
	if (!hold)
		complete_all();
	return no_error;
}

void ScriptEngine::complete(u32 i)
{
	if (i >= hosts_)
		return (void)failed_here(__FILE__, __LINE__, "the host holds %u parts, not part %u", hosts_, i);
	Chunk &c = *host_chunk_[i];
	for (u32 j = i + 1; j < hosts_; j++)
		host_chunk_[j - 1] = host_chunk_[j];
	hosts_--;
	finish(c, perform(c));
}

void ScriptEngine::complete_all(bool backwards)
{
	while (hosts_)
		complete(backwards ? hosts_ - 1 : 0);
}

void ScriptEngine::finish(Chunk &chunk, s32 result)
{
	done_[dones_++] = Completion{ &chunk, result };
	if (listening_ && !lose_wakeups)
		announced_ = true;
}

u32 ScriptEngine::reap(Completion *to, u32 max)
{
	watch("reap");
	u32 n = min(max, dones_);
	for (u32 i = 0; i < n; i++)
		to[i] = done_[i];
	for (u32 i = n; i < dones_; i++)
		done_[i - n] = done_[i];
	dones_ -= n;
	return n;
}

void ScriptEngine::quiet()
{
	watch("quiet");
	listening_ = false;
}

bool ScriptEngine::listen()
{
	watch("listen");
	for (; at_listen && hosts_; at_listen--)
		complete(0);
	// As io_uring: what came while it was quiet is never announced.
	listening_ = !dones_;
	return dones_;
}

bool ScriptEngine::take_announcement()
{
	bool was = announced_;
	announced_ = false;
	return was;
}

bool ScriptEngine::cancel(Chunk &chunk)
{
	watch("cancel");
	if (!can_cancel)
		return false;
	cancels++;
	for (u32 i = 0; obeys_cancel && i < hosts_; i++) {
		if (host_chunk_[i] != &chunk)
			continue;
		for (u32 j = i + 1; j < hosts_; j++)
			host_chunk_[j - 1] = host_chunk_[j];
		hosts_--;
		finish(chunk, -errno_canceled);
	}
	return true;
}

void ScriptEngine::wait()
{
	watch("wait");
	waits++;
	if (dones_)
		return;
	if (hosts_ && ++waited_ > slowness) {
		complete(any_order ? any_order->below(hosts_) : last_first ? hosts_ - 1 : 0);
		waited_ = 0;
	} else {
		k_.now_ms += 100;
	}
}

s32 ScriptEngine::scripted(HostOp op)
{
	for (u32 i = 0; i < steps_; i++) {
		Step &s = step_[i];
		if (!s.times || (s.op != any_op && s.op != static_cast<u8>(op)))
			continue;
		if (s.times != for_ever)
			s.times--;
		return s.result;
	}
	return in_full;
}

void ScriptEngine::mark(u64 offset, u64 bytes, bool is_dirty)
{
	for (u64 s = offset / sector_bytes; s <= (offset + bytes - 1) / sector_bytes; s++)
		if (s <= file_bytes_ / sector_bytes)
			dirty[s] = is_dirty;
}

s32 ScriptEngine::transfer(Chunk &chunk, u64 most)
{
	bool reading = chunk.op == HostOp::read;
	const u8 file = chunk.file % buffered_file;
	u64 at = chunk.offset.value, end = reading ? file_end[file] : file_bytes_;
	u64 moved = 0;
	for (u32 i = chunk.first; i < chunk.iovs && moved < most; i++) {
		u64 n = min<u64>(chunk.iov[i].bytes, most - moved);
		if (data) {
			n = at >= end ? 0 : min(n, end - at);
			u8 *disk = file_[file] + at;
			if (reading)
				__builtin_memcpy(chunk.iov[i].base, disk, n);
			else
				__builtin_memcpy(disk, chunk.iov[i].base, n);
		}
		at += n;
		moved += n;
		if (n < chunk.iov[i].bytes)
			break;
	}
	if (data && !reading && moved) {
		mark(chunk.offset.value, moved, chunk.op == HostOp::write);
		if (at > file_end[file])
			file_end[file] = at;
	}
	return static_cast<s32>(moved);
}

s32 ScriptEngine::make_zeros(Chunk &chunk)
{
	if (chunk.op == HostOp::punch ? no_punch : no_zero)
		return -errno_opnotsupp;
	u64 at = chunk.offset.value, n = chunk.bytes.value;
	if (data && at < file_bytes_) {
		__builtin_memset(file_[chunk.file] + at, 0, min(n, file_bytes_ - at));
		mark(at, min(n, file_bytes_ - at), true);
	}
	return 0;
}

s32 ScriptEngine::perform(Chunk &chunk)
{
	clock++;
	s32 result = scripted(chunk.op);
	if (result < 0)
		return result;
	ops[static_cast<u8>(chunk.op)]++;
	switch (chunk.op) {
	case HostOp::read:
	case HostOp::write:
	case HostOp::write_sync:
		return transfer(chunk, static_cast<u64>(result));
	case HostOp::allocate:
		return 0;
	case HostOp::sync:
		last_sync = clock;
		__builtin_memset(dirty, 0, file_bytes_ / sector_bytes + 1);
		return 0;
	default:
		return make_zeros(chunk);
	}
}

// -- the world -----------------------------------------------------------------------

Run StripedLayout::next_run(u8 op, ByteOffset at, ByteCount max) const
{
	if (op != UBD_OP_READ)
		return Run{ at, max, 0 };
	u64 stripe = at.value / run_;
	return Run{ at, ByteCount(min(max.value, (stripe + 1) * run_ - at.value)), static_cast<u8>(stripe & 1) };
}

// Called from the constructor's list, before the queue is there.
QueueConfig World::queue_config(const WorldConfig &c)
{
	QueueConfig q;
	q.disk = "ubdt";
	q.path = "/host/file";
	q.backing = "/host/backing";
	q.sync_writes = c.sync_writes;
	q.poll_ns = c.poll_ns;
	q.await_host = c.await_host;
	q.no_flush = c.no_flush;
	q.block = c.block;
	q.stop_when_full = c.stop_when_full;
	q.state = c.state;
	q.guard = c.guard ? guard_memory : nullptr;
	if (!c.cow_sectors)
		return q;
	const u64 words = CowBitmap::words_for(c.cow_sectors), blocks = CowBitmap::block_words_for(c.cow_sectors);
	const u64 parts = Cow::allocated_words_for(c.cow_sectors);
	cow_memory = static_cast<u64 *>(ubd_test_alloc((2 * words + 4 * blocks + parts) * 8 + Cow::buffer_bytes));
	CowBitmap::Memory m;
	m.live = cow_memory;
	m.next = m.live + words;
	m.touched = m.next + words;
	m.dirty = m.touched + blocks;
	m.sealed = m.dirty + blocks;
	m.next_touched = m.sealed + blocks;
	cow.bitmap.attach(m, c.cow_sectors);
	cow.allocated = c.cow_allocate ? m.next_touched + blocks : nullptr;
	cow.buffer = reinterpret_cast<u8 *>(m.next_touched + blocks + parts);
	cow.bitmap_offset = ByteOffset(cow_bitmap_at);
	cow.bitmap_bytes = ByteCount((c.cow_sectors + 7) / 8);
	cow.data_offset = ByteOffset(cow_data_at);
	cow.commit_ms = c.commit_ms;
	cow.bitmap_file = c.block > 1 ? buffered_file : main_file;
	q.cow = &cow;
	return q;
}

const Layout &World::choose_layout(const WorldConfig &c)
{
	if (c.cow_sectors)
		return cow_layout;
	return c.layout ? *c.layout : raw;
}

World::World(const WorldConfig &c)
	: engine(k, c.file_bytes), fault_timer(k), faults(engine, fault_timer),
	  queue(&k, c.faults ? static_cast<Engine &>(faults) : engine, choose_layout(c), queue_config(c))
{
	engine.watch_order = !c.faults && !c.cow_sectors;
	engine.own = c.cow_sectors ? 1 : 0;
	engine.block = c.block;
	faults.set_block(c.block);
	log_clear();
	the_log.asserts = 0;
	the_log.expect_asserts = false;
	engine_calls = 0;
}

World::~World()
{
	if (k.ended != sent_) {
		failed_here(__FILE__, __LINE__, "%llu requests were sent, %llu ended", sent_, k.ended);
		give_up();
	}
	if (k.headers.live || k.chunks.live)
		failed_here(__FILE__, __LINE__, "%llu headers and %llu chunks are lost", k.headers.live, k.chunks.live);
	if (engine.holds())
		failed_here(__FILE__, __LINE__, "the engine still holds %u parts", engine.holds());
	if (k.end_depth_most > 1)
		failed_here(__FILE__, __LINE__, "ending requests recurses, %u deep", k.end_depth_most);
	ubd_stats s = stats();
	if (s.in_flight || s.queued)
		failed_here(__FILE__, __LINE__, "an idle queue counts %llu in flight, %llu queued", s.in_flight,
			    s.queued);
	if (the_log.asserts && !the_log.expect_asserts)
		failed_here(__FILE__, __LINE__, "%u invariants were broken", the_log.asserts);
	while (FakeRequest *r = requests_)
		forget(*r);
	ubd_test_free(cow_memory);
}

// The case has failed: what is under way ends, lest it count as a leak as well.
void World::give_up()
{
	k.on_end = nullptr;
	k.random = nullptr;
	k.headers.limit = k.chunks.limit = for_ever;
	engine.clear_script();
	engine.hold = false;
	engine.take = ScriptEngine::slots;
	faults.set(FaultRules{});
	for (u32 i = 0; i < 1000 && k.ended != sent_; i++) {
		engine.complete_all();
		queue.timer();
	}
}

FakeRequest &World::add(u8 op, u64 sector, u8 flags, u32 segments)
{
	auto *r = new (Place{ ubd_test_alloc(sizeof(FakeRequest)) }) FakeRequest;
	r->rq.op = op;
	r->rq.flags = flags;
	r->rq.sector = sector;
	// blk-mq does not zero it between uses.
	r->rq.status = 0x55;
	r->rq.served = r->rq.done = 1;
	r->rq.header = r;
	r->rq.ticket = ~0ull;
	r->segments = segments;
	if (segments)
		r->segment = static_cast<Segment *>(ubd_test_alloc(segments * sizeof(Segment)));
	r->next = requests_;
	requests_ = r;
	return *r;
}

FakeRequest &World::make(u8 op, u64 sector, u64 bytes, u8 flags, u64 segment)
{
	bool has_data = op == UBD_OP_READ || op == UBD_OP_WRITE;
	if (!segment)
		segment = bytes;
	u32 n = has_data ? static_cast<u32>((bytes + segment - 1) / segment) : 0;
	FakeRequest &r = add(op, sector, flags, n);
	r.rq.bytes = bytes;
	if (!n)
		return r;
	u64 gap = n > 1 ? 16 : 0;
	r.memory = static_cast<u8 *>(ubd_test_alloc(bytes + n * gap));
	for (u32 i = 0; i < n; i++)
		r.segment[i] = { r.memory + i * (segment + gap), min(segment, bytes - i * segment) };
	return r;
}

FakeRequest &World::make_from(u8 op, u64 sector, const u32 *sizes, u32 n, u32 gap, u8 flags)
{
	FakeRequest &r = add(op, sector, flags, n);
	for (u32 i = 0; i < n; i++)
		r.rq.bytes += sizes[i];
	r.memory = static_cast<u8 *>(ubd_test_alloc(r.rq.bytes + n * gap + 1));
	u8 *at = r.memory;
	for (u32 i = 0; i < n; at += sizes[i++] + gap)
		r.segment[i] = { at, sizes[i] };
	return r;
}

void World::send(FakeRequest &r, bool last)
{
	sent_++;
	r.sent_at = engine.clock;
	queue.enqueue(r.rq, last);
}

void World::forget(FakeRequest &r)
{
	for (FakeRequest **at = &requests_; *at; at = &(*at)->next)
		if (*at == &r) {
			*at = r.next;
			break;
		}
	ubd_test_free(r.segment);
	ubd_test_free(r.memory);
	ubd_test_free(&r);
}

bool World::interrupt()
{
	if (!engine.take_announcement())
		return false;
	queue.interrupt();
	return true;
}

bool World::expire()
{
	if (!k.timer_ms)
		return false;
	k.timer_ms = 0;
	queue.timer();
	return true;
}

void FakeFaultTimer::arm(u64 ms)
{
	if (!k_.locked)
		failed_here(__FILE__, __LINE__, "timer armed outside the queue lock");
	if (!ms)
		failed_here(__FILE__, __LINE__, "timer armed for no time");
	k_.fault_timer_at = k_.now_ms + ms;
}

bool World::expire_faults()
{
	if (k.fault_timer_at == ~0ull)
		return false;
	k.now_ms = k.fault_timer_at > k.now_ms ? k.fault_timer_at : k.now_ms;
	k.fault_timer_at = ~0ull;
	unsigned long flags = ubd_k_lock(&k);
	faults.expire();
	ubd_k_unlock(&k, flags);
	queue.interrupt();
	return true;
}

bool World::settle()
{
	for (u32 idle_turns = 0; pending(); idle_turns++) {
		if (engine.hold && engine.with_host())
			engine.complete(0);
		if (interrupt() || expire_faults())
			idle_turns = 0;
		else if (!expire())
			return failed_here(__FILE__, __LINE__, "%llu requests wait for nothing", pending());
		if (idle_turns > 5000)
			return failed_here(__FILE__, __LINE__, "%llu requests do not end", pending());
	}
	return true;
}

bool World::idle() const
{
	return k.ended == sent_ && !engine.holds();
}

Fixture::Fixture(const WorldConfig &c) : world_(new (Place{ ubd_test_alloc(sizeof(World)) }) World(c)) {}

Fixture::~Fixture()
{
	world_->~World();
	ubd_test_free(world_);
}

} // namespace ubd::test
