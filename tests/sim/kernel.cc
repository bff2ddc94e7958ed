// SPDX-License-Identifier: GPL-2.0-only
/*
 * The kernel that a world has: lock, pools, timer, the end of requests; and the
 * C names under which core calls them.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "world.hh"

namespace ubd::sim
{

// -- pools --------------------------------------------------------------------------

namespace
{

constexpr u8 poison = 0x6b;
// Calls of the engine before core returns.
constexpr u32 most_engine_calls = 200000;

} // namespace

Pool::~Pool()
{
	for (auto *list : { &kept_, &live_, &spare_ })
		for (void *element : *list)
			free(element);
}

void Pool::fill(u32 minimum)
{
	minimum_ = minimum;
	while (kept_.size() < minimum)
		kept_.push_back(malloc(bytes_));
}

void *Pool::fresh()
{
	if (spare_.empty())
		return malloc(bytes_);
	void *element = spare_.back();
	spare_.pop_back();
	return element;
}

void *Pool::take(bool dry)
{
	void *element = nullptr;
	if (!dry) {
		element = fresh();
	} else if (!kept_.empty()) {
		element = kept_.back();
		kept_.pop_back();
	} else {
		return nullptr;
	}
	memset(element, poison, bytes_);
	live_.push_back(element);
	return element;
}

void Pool::give(void *element)
{
	for (size_t i = 0; i < live_.size(); i++) {
		if (live_[i] != element)
			continue;
		live_[i] = live_.back();
		live_.pop_back();
		memset(element, poison, bytes_);
		(kept_.size() < minimum_ ? kept_ : spare_).push_back(element);
		return;
	}
	fail("a %s is freed that is not in use", name_);
}

// -- lock and timer -------------------------------------------------------------------

void World::must_be_locked(const Lane &l, const char *what) const
{
	if (!l.locked)
		fail("%s without the queue lock", what);
}

unsigned long World::lock(Lane &l)
{
	if (l.locked)
		fail("the queue lock is taken twice");
	for (const auto &other : lanes_)
		if (other->locked)
			fail("two queue locks are held at a time");
	l.locked = true;
	return ++l.lock_count;
}

void World::unlock(Lane &l, unsigned long flags)
{
	if (!l.locked || flags != l.lock_count)
		fail("the queue lock is released by somebody else");
	l.locked = false;
	nest();
}

void *World::take(Lane &l, Pool &pool)
{
	must_be_locked(l, "an allocation");
	return pool.take(random_.percent(dry_percent_));
}

void World::give(Lane &l, Pool &pool, void *element)
{
	must_be_locked(l, "a free");
	pool.give(element);
}

void World::arm_timer(Lane &l, u32 milliseconds)
{
	must_be_locked(l, "ubd_k_arm_timer()");
	if (!milliseconds || milliseconds > 1000)
		fail("the timer is armed for %u ms", milliseconds);
	l.timer_armed = true;
	l.timer_at = now_ + milliseconds * ms + profile_.timer_late;
	TRACE("  timer in %u ms", milliseconds);
}

void World::want_poll(Lane &l)
{
	must_be_locked(l, "ubd_k_poll()");
	l.poll_wanted = true;
}

u64 Lane::LateTimer::now_ms()
{
	return l_.world.now() / ms;
}

void Lane::LateTimer::arm(u64 milliseconds)
{
	l_.world.must_be_locked(l_, "the fault timer");
	if (!milliseconds)
		fail("the fault timer is armed for no time");
	l_.fault_timer_at = l_.world.now() + milliseconds * ms;
	TRACE("  fault timer in %llu ms", milliseconds);
}

// Time passes in the host's calls: a little, so that what core tries again and
// again without a pause sees the trouble end.
void World::engine_called(const Lane &l)
{
	must_be_locked(l, "a call of the engine");
	now_ += synchronous_ || profile_.await_host ? 50 : 1;
	if (++engine_calls_ > most_engine_calls)
		fail("core does not return");
}

void World::wait_until(Lane &l, Time t)
{
	waiting_ = &l;
	if (!synchronous_ && !profile_.await_host)
		fail("core waits in atomic context");
	if (now_ < t)
		now_ = t;
}

// At reboot, when the host does nothing, core waits no more: as announced.
void World::gave_up()
{
	if (!synchronous_ || now_ < progress_at_ + second)
		fail("core gives up waiting after %llu us", now_ - progress_at_);
	waiting_->gave_up = true;
}

void World::progressed()
{
	progress_at_ = now_;
	progress_step_ = steps_;
}

// -- the end of a request ---------------------------------------------------------------

void World::end(Lane &l, ubd_request *list)
{
	if (l.locked)
		fail("requests are ended with the queue lock held");
	if (l.ending)
		fail("requests are ended from within the end of others");
	l.ending = true;
	while (list) {
		ubd_request *next = list->next;
		if (profile_.await_host && next && next->ticket < list->ticket)
			fail("requests end in the order of the host");
		Tag &tag = Tag::of(list);
		if (&tag < tags_.data() || &tag >= tags_.data() + tags_.size() || !tag.active || tag.queue != l.index)
			fail("a request is ended that is not pending");
		end_one(tag);
		list = next;
		nest();
	}
	l.ending = false;
}

void World::end_one(Tag &tag)
{
	TRACE("end #%llu status %u", tag.arrival, tag.rq.status);
	lanes_[tag.queue]->watch.ends(tag);
	check_status(tag);
	if (tag.has_data())
		tag.check_memory();
	if (tag.rq.status == UBD_STATUS_OK)
		ended_well(tag);
	else
		ended_badly(tag);
	claim(tag, -1);
	memset(&tag.rq, 0xa5, sizeof(tag.rq));
	tag.active = false;
	tag.memory.reset();
	busy_--;
	progressed();
}

// Errors are neither lost nor made up.
void World::check_status(const Tag &tag)
{
	const u8 status = tag.rq.status;
	if (status == UBD_STATUS_OK) {
		if (tag.statuses)
			fail("request %llu ends well after an error", tag.arrival);
		if (tag.after_loss && tag.op != UBD_OP_READ)
			fail("request %llu came after durability was lost and ends well", tag.arrival);
		if (tag.op == UBD_OP_FLUSH && profile_.no_flush)
			return;
		if (tag.op != UBD_OP_FLUSH && !tag.handed_all())
			fail("request %llu ends well, but the host was not asked for all of it", tag.arrival);
		return;
	}
	const Watch &watch = lanes_[tag.queue]->watch;
	u32 explained = tag.statuses;
	if (tag.op == UBD_OP_FLUSH || (tag.op == UBD_OP_WRITE_ZEROES && tag.durable))
		explained |= watch.sync_statuses();
	if (status < 8 && (explained & (1u << status)))
		return;
	if (status == UBD_STATUS_IOERR && tag.memory_errors > max_memory_pauses)
		return;
	if (status == UBD_STATUS_IOERR && durability_lost() && tag.op != UBD_OP_READ)
		return;
	if (status == UBD_STATUS_NOTSUPP && tag.op == UBD_OP_DISCARD && watch.punch_is_known_to_fail())
		return;
	fail("request %llu ends with status %u, which no error explains", tag.arrival, status);
}

void World::ended_well(Tag &tag)
{
	const u64 start = tag.sector * sector_bytes;
	if (tag.op == UBD_OP_READ)
		return check_read(tag);
	if (tag.op == UBD_OP_FLUSH)
		return profile_.no_flush ? void() : check_durable(tag);
	if (tag.op != UBD_OP_DISCARD)
		disk_.set_bits(tag.sector, tag.sectors());
	if (tag.op == UBD_OP_WRITE)
		tag.each_segment([&](const u8 *data, u64 n, u64 at) { memcpy(disk_.model(start + at), data, n); });
	for (u64 s = tag.sector; s < tag.sector + tag.sectors(); s++) {
		if (tag.op != UBD_OP_WRITE && disk_.bit(s))
			memset(disk_.model(s * sector_bytes), 0, sector_bytes);
		if (memcmp(disk_.content(s * sector_bytes), disk_.model(s * sector_bytes), sector_bytes))
			fail("request %llu ends well, but sector %llu does not hold its data", tag.arrival, s);
		if (tag.durable && !disk_.durable(s))
			fail("request %llu ends, but sector %llu is not durable", tag.arrival, s);
	}
	disk_.acknowledged(tag.sector, tag.sectors(), stamp());
}

// Each byte is the old or the new one, and stays so.
void World::ended_badly(Tag &tag)
{
	const u64 start = tag.sector * sector_bytes;
	if (!tag.exclusive())
		return;
	for (u64 at = 0; at < tag.bytes; at++) {
		const u8 is = *disk_.content(start + at);
		const u8 wanted = tag.op == UBD_OP_WRITE ? tag.pattern_at(at) : 0;
		if (is != *disk_.model(start + at) && is != wanted)
			fail("request %llu failed and left at byte %llu what is neither old nor "
			     "new",
			     tag.arrival, start + at);
	}
	disk_.accept(tag.sector, tag.sectors());
	disk_.acknowledged(tag.sector, tag.sectors(), 0);
}

void World::check_read(const Tag &tag)
{
	const u64 start = tag.sector * sector_bytes;
	tag.each_segment([&](const u8 *data, u64 n, u64 at) {
		for (u64 i = 0; i < n; i += sector_bytes)
			if (memcmp(data + i, disk_.model(start + at + i), sector_bytes))
				fail("request %llu reads something else at sector %llu", tag.arrival,
				     (start + at + i) / sector_bytes);
	});
}

void World::check_durable(const Tag &tag)
{
	const u64 s = disk_.first_not_durable(tag.queued);
	if (s < profile_.sectors)
		fail("flush %llu ends well, but sector %llu is not durable", tag.arrival, s);
	if (lanes_[tag.queue]->watch.proven() < tag.queued)
		fail("flush %llu ends well without an fdatasync that began after it", tag.arrival);
}

// -- rules that hold whenever core is not running -----------------------------------------

ubd_stats World::stats(Lane &l)
{
	ubd_stats s;
	nesting_ = false;
	ubd_queue_stats(l.c_queue(), &s);
	nesting_ = true;
	return s;
}

std::string World::state(Lane &l)
{
	char text[80];
	nesting_ = false;
	if (ubd_queue_show_state(l.c_queue(), text, sizeof(text)) != !strcmp(text, "running"))
		fail("the state \"%s\" is told in two ways", text);
	nesting_ = true;
	return text;
}

void World::check_idle(Lane &l)
{
	const ubd_stats s = stats(l);
	if (l.locked)
		fail("the queue lock is still held");
	if (l.ring.quiet_now() && !profile_.await_host)
		fail("announcements are still off");
	if (l.ring.has_completions() && !l.ring.announced && !l.interrupt_lost && !profile_.await_host)
		fail("lost wake-up: there is a completion that was not announced");
	if (s.in_flight > profile_.capacity || s.max_in_flight > profile_.capacity)
		fail("%llu in flight, capacity is %u", s.max_in_flight, profile_.capacity);
	if (l.watch.held() > s.in_flight)
		fail("%llu in flight, but the engine has %zu", s.in_flight, l.watch.held());
	if (s.in_flight_host + s.in_flight_retry + s.in_flight_flush + s.in_flight_space != s.in_flight + s.committing)
		fail("%llu in flight and %llu commits, but %llu with the host, %llu to be tried again, %llu behind a "
		     "flush, %llu for want of space",
		     s.in_flight, s.committing, s.in_flight_host, s.in_flight_retry, s.in_flight_flush,
		     s.in_flight_space);
	if (s.in_flight_host < l.watch.held())
		fail("%llu are said to be with the engine, which has %zu", s.in_flight_host, l.watch.held());
	if (s.in_flight && (!l.timer_armed || l.timer_at > now_ + second + profile_.timer_late))
		fail("chunks are in flight, but the timer is not armed");
	if (l.chunks.live() > s.in_flight || l.chunks.live() + 1 < s.in_flight)
		fail("%llu in flight, but %zu chunks are in use", s.in_flight, l.chunks.live());
	if (s.in_flight_space && !s.stopped)
		fail("%llu parts wait for space, but the queue is not stopped", s.in_flight_space);
	// Those that wait in other queues are told of a loss by the next trial.
	const bool to_be_told = durability_lost() && !l.watch.durability_lost();
	if ((s.in_flight_space > l.watch.kept() && !to_be_told) || (s.stopped && !s.in_flight_space && !s.in_flight))
		fail("stopped: %llu parts wait for space, which the host had not for %zu", s.in_flight_space,
		     l.watch.kept());
	if (const char *wanted = durability_lost() ? "failed: "
				 : s.stopped       ? "stopped: "
						   : "running";
	    strncmp(state(l).c_str(), wanted, strlen(wanted)))
		fail("the state is \"%s\", not \"%s\"", state(l).c_str(), wanted);
	if (l.faults.late() && l.fault_timer_at == never)
		fail("%u completions are late, and nothing will bring them", l.faults.late());
	// What the documentation says a device takes at most.
	if (s.max_begun > min<u64>(profile_.tags, profile_.capacity + 1))
		fail("%llu requests were begun at a time, with %u tags and a capacity of %u", s.max_begun,
		     profile_.tags, profile_.capacity);
	if (l.headers.live() > s.begun || l.headers.live() + 1 < s.begun)
		fail("%llu requests are begun, but %zu headers are in use", s.begun, l.headers.live());
	if (l.headers.live() > busy_)
		fail("%zu headers for %u requests", l.headers.live(), busy_);
	check_progress(l, s);
}

void World::check_progress(const Lane &l, const ubd_stats &s)
{
	if (l.uncommitted)
		return;
	const bool refused = !l.ring.space() && l.timer_armed;
	if (s.queued && !s.in_flight && !refused)
		fail("%llu requests wait, and nothing is in flight", s.queued);
	const bool full = s.in_flight == profile_.capacity || !l.ring.space();
	if (s.queued && l.served_with_memory && !full && !s.stopped)
		fail("there is memory, but %llu requests wait with %llu of %u in flight", s.queued, s.in_flight,
		     profile_.capacity);
	if (synchronous_ && !l.gave_up && (s.queued || s.in_flight))
		fail("synchronous, but %llu requests wait and %llu chunks are in flight", s.queued, s.in_flight);
}

void World::check_end()
{
	ubd_stats sum{};
	for (auto &lane : lanes_) {
		Lane &l = *lane;
		const ubd_stats s = stats(l);
		u64 requests = 0;
		for (u64 n : s.requests)
			requests += n;
		ubd_stats_add(&sum, &s);
		if (requests != l.sent || s.queued || s.in_flight || s.completion_overflows)
			fail("at the end: %llu of %llu requests counted, %llu queued, %llu in flight", requests, l.sent,
			     s.queued, s.in_flight);
		if (l.headers.live() || l.chunks.live() || l.watch.held() || l.ring.holds())
			fail("leak: %zu headers, %zu chunks, %zu with the engine", l.headers.live(), l.chunks.live(),
			     l.watch.held());
		if (!ubd_queue_drained(l.c_queue()))
			fail("at the end the host has something of a device that goes");
		// It might have stayed, as one that grows.
		ubd_queue_resume(l.c_queue());
		if (!ubd_queue_drained(l.c_queue()))
			fail("at the end a device that stood goes on by itself");
	}
	u64 requests = 0;
	for (u64 n : sum.requests)
		requests += n;
	if (requests != sent_)
		fail("at the end the device counts %llu of %llu requests", requests, sent_);
	disk_.check_all();
	TRACE("the end");
}

} // namespace ubd::sim

// -- the C names ----------------------------------------------------------------------------

using ubd::sim::world;

unsigned long ubd_k_lock(ubd_kqueue *k)
{
	return world->lock(*k->lane);
}

void ubd_k_unlock(ubd_kqueue *k, unsigned long flags)
{
	world->unlock(*k->lane, flags);
}

void *ubd_k_header_alloc(ubd_kqueue *k)
{
	return world->take(*k->lane, k->lane->headers);
}

void ubd_k_header_free(ubd_kqueue *k, void *header)
{
	world->give(*k->lane, k->lane->headers, header);
}

void *ubd_k_chunk_alloc(ubd_kqueue *k)
{
	return world->take(*k->lane, k->lane->chunks);
}

void ubd_k_chunk_free(ubd_kqueue *k, void *chunk)
{
	world->give(*k->lane, k->lane->chunks, chunk);
}

// The cursor: which segment, and how far into it.
ubd_u32 ubd_k_map(ubd_request *rq, ubd_iovec *iov, ubd_u32 max_iovs, ubd_u64 max_bytes, ubd_u64 *bytes)
{
	const auto &segments = ubd::sim::Tag::of(rq).segments;
	ubd_u64 &segment = rq->cursor.word[0], &done = rq->cursor.word[1];
	ubd_u64 sum = 0;
	ubd_u32 n = 0;
	while (segment < segments.size() && sum < max_bytes) {
		char *base = static_cast<char *>(segments[segment].base) + done;
		const ubd_u64 part = ubd::min<ubd_u64>(segments[segment].bytes - done, max_bytes - sum);
		if (n && static_cast<char *>(iov[n - 1].base) + iov[n - 1].bytes == base) {
			iov[n - 1].bytes += part;
		} else {
			if (n == max_iovs)
				break;
			iov[n++] = { base, part };
		}
		sum += part;
		done += part;
		if (done == segments[segment].bytes) {
			segment++;
			done = 0;
		}
	}
	*bytes = sum;
	return n;
}

void ubd_k_end_requests(ubd_kqueue *k, ubd_request *list)
{
	world->end(*k->lane, list);
}

void ubd_k_arm_timer(ubd_kqueue *k, ubd_u32 milliseconds)
{
	world->arm_timer(*k->lane, milliseconds);
}

void ubd_k_poll(ubd_kqueue *k)
{
	world->want_poll(*k->lane);
}

ubd_u64 ubd_k_now_ns()
{
	return ubd::sim::world->now() * 1000;
}

void ubd_k_disable_discard(ubd_kqueue *)
{
	TRACE("  discard is disabled");
}

void ubd_k_log(ubd_log_level, bool, const char *format, ...)
{
	char text[600];
	va_list args;
	va_start(args, format);
	const int n = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (n <= 0 || n >= static_cast<int>(sizeof(text)) || text[n - 1] != '\n' || strncmp(text, "ubda: /sim: ", 12))
		ubd::sim::fail("a message without name or end: %s", text);
	text[n - 1] = 0;
	if (strstr(text, "the host does not complete I/O"))
		world->gave_up();
	TRACE("  log: %s", text);
}

int ubd_k_snprintf(char *to, size_t bytes, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	const int n = vsnprintf(to, bytes, format, args);
	va_end(args);
	return n;
}

void ubd_k_assert_failed(const char *what, const char *file, int line)
{
	if (!ubd::sim::asserts_ignored)
		ubd::sim::fail("%s:%d: broken invariant: %s", strrchr(file, '/') ? strrchr(file, '/') + 1 : file, line,
			       what);
}
