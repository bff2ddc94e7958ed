// SPDX-License-Identifier: GPL-2.0-only
/*
 * What happens next in a world, and the calls of core that follow from it.
 */
#include "world.hh"

#include <stdio.h>
#include <string.h>

namespace ubd::sim
{
namespace
{

// Longest time without any progress that the troubles of a profile explain.
constexpr Time patience = 600 * second;
constexpr u64 patience_steps = 20000;
constexpr u32 most_nesting = 3;
constexpr Time request_timeout = UBD_REQUEST_TIMEOUT_MS * ms;

QueueConfig queue_config(const Profile &p, DeviceState &state)
{
	QueueConfig c;
	c.disk = "ubda";
	c.path = "/sim";
	c.backing = "/sim";
	c.sync_writes = p.sync_writes;
	c.poll_ns = p.poll_ns;
	c.no_flush = p.no_flush;
	c.block = p.direct ? sector_bytes : 1;
	c.stop_when_full = p.stop_when_full;
	c.await_host = p.await_host;
	c.state = &state;
	return c;
}

Engine &engine_of(const Profile &p, Ring &ring, FaultEngine &faults)
{
	if (p.faults)
		return faults;
	return ring;
}

} // namespace

World *world;

Lane::Lane(World &w, u32 number, const Profile &p, Disk &disk, Random &random, DeviceState &state)
	: world(w), index(number), headers("header", ubd_header_bytes()), chunks("chunk", ubd_chunk_bytes()),
	  ring(w, *this, p, disk, random), faults(ring, late_timer),
	  watch(w, *this, engine_of(p, ring, faults), disk, p), queue(&kernel, watch, disk, queue_config(p, state))
{
	headers.fill(p.pool_minimum);
	chunks.fill(p.pool_minimum);
}

// A call of core for a queue, for the time it takes.
class World::Entered {
public:
	Entered(World &w, Lane &l, bool serves) : w_(w), l_(l)
	{
		if (!w_.depth_++)
			w_.engine_calls_ = 0;
		// timeout() may serve, or not.
		l.served_with_memory = l.served_with_memory && !w_.dry_percent_;
		if (!serves)
			return;
		l.uncommitted = false;
		l.interrupt_lost = false;
		l.served_with_memory = !w_.dry_percent_;
	}
	~Entered()
	{
		if (!--w_.depth_ && w_.profile_.await_host && l_.watch.held() && !l_.gave_up)
			fail("core came back, and the host has something");
	}
	Entered(const Entered &) = delete;
	Entered &operator=(const Entered &) = delete;

private:
	World &w_;
	Lane &l_;
};

World::World(u64 seed)
	: random_(seed), profile_(random_), disk_(profile_, random_), tags_(profile_.tags), users_(profile_.sectors)
{
	world = this;
	for (u32 i = 0; i < profile_.queues; i++)
		lanes_.push_back(std::make_unique<Lane>(*this, i, profile_, disk_, random_, state_));
	left_ = profile_.requests;
	for (u32 i = 0; i < tags_.size(); i++)
		tags_[i].index = i;
	change_memory();
	TRACE("device of %llu sectors%s%s%s%s, %u queues, ring %u, capacity %u%s, %u tags, %u requests, pools "
	      "keep %u%s%s",
	      profile_.sectors, profile_.cow ? ", cow" : "", profile_.sync_writes ? ", sync" : "",
	      profile_.no_flush ? ", unsafe" : "", profile_.direct ? ", direct" : "", profile_.queues, profile_.ring,
	      profile_.capacity, profile_.deferred ? ", deferred" : "", profile_.tags, profile_.requests,
	      profile_.pool_minimum, profile_.faults ? ", faults" : "", profile_.stop_when_full ? ", stops" : "");
	if (profile_.await_host)
		TRACE("the host is awaited");
}

void World::run()
{
	while (work_left())
		step();
	check_end();
}

// One queue of those for which it holds, or nullptr.
template <class Condition> Lane *World::one_of(Condition c)
{
	const size_t n = lanes_.size();
	for (size_t i = n > 1 ? random_.below(n) : 0, k = 0; k < n; k++, i = (i + 1) % n)
		if (c(*lanes_[i]))
			return lanes_[i].get();
	return nullptr;
}

bool World::durability_lost() const
{
	for (const auto &l : lanes_)
		if (l->watch.durability_lost())
			return true;
	return false;
}

// -- what happens next ------------------------------------------------------------

void World::step()
{
	u32 weights[static_cast<size_t>(Action::count)], sum = 0;

	if (++steps_ - progress_step_ > patience_steps)
		fail("no progress in %llu steps", patience_steps);
	if (now_ > progress_at_ + patience && busy_)
		fail("no progress in %llu s", patience / second);
	for (auto &l : lanes_)
		check_idle(*l);
	for (u8 i = 0; i < static_cast<u8>(Action::count); i++)
		sum += weights[i] = weight(static_cast<Action>(i));
	u64 n = random_.below(sum);
	u8 i = 0;
	while (n >= weights[i])
		n -= weights[i++];
	act(static_cast<Action>(i));
}

namespace
{

template <class Condition> bool any_of(const std::vector<std::unique_ptr<Lane>> &lanes, Condition c)
{
	for (const auto &l : lanes)
		if (c(*l))
			return true;
	return false;
}

} // namespace

u32 World::weight(Action a) const
{
	switch (a) {
	case Action::submit:
		return left_ && busy_ < tags_.size() && submit_at_ <= now_ ? 60 : 0;
	case Action::commit:
		return any_of(lanes_, [](const Lane &l) { return l.uncommitted; }) ? 20 : 0;
	case Action::host:
		return any_of(lanes_, [this](const Lane &l) { return l.ring.next_due() <= now_; }) ? 40 : 0;
	case Action::interrupt:
		return any_of(lanes_,
			      [this](const Lane &l) {
				      return l.ring.announced && l.ring.announced_at + profile_.interrupt_delay <= now_;
			      })
			       ? 40
			       : 0;
	case Action::poll:
		return any_of(lanes_, [](const Lane &l) { return l.poll_wanted; }) ? 30 : 0;
	case Action::timer:
		return any_of(lanes_, [this](const Lane &l) { return l.timer_armed && l.timer_at <= now_; }) ? 20 : 0;
	case Action::timeout:
		for (const Tag &t : tags_)
			if (t.active && t.timeout_at <= now_)
				return 30;
		return 0;
	case Action::fault_timer:
		return any_of(lanes_, [this](const Lane &l) { return l.fault_timer_at <= now_; }) ? 30 : 0;
	case Action::odd:
		return 1;
	default:
		return 4;
	}
}

void World::act(Action a)
{
	switch (a) {
	case Action::submit:
		return submit();
	case Action::commit:
		return commit(*one_of([](const Lane &l) { return l.uncommitted; }));
	case Action::host:
		one_of([this](const Lane &l) { return l.ring.next_due() <= now_; })->ring.run();
		return;
	case Action::interrupt:
		return interrupt(false);
	case Action::poll:
		return poll();
	case Action::timer:
		return timer(*one_of([this](const Lane &l) { return l.timer_armed && l.timer_at <= now_; }));
	case Action::timeout:
		return timeout();
	case Action::fault_timer:
		return fault_timer(*one_of([this](const Lane &l) { return l.fault_timer_at <= now_; }));
	case Action::odd:
		return odd();
	default:
		return advance();
	}
}

Time World::next_event() const
{
	Time t = never;
	for (const auto &l : lanes_) {
		t = min(t, l->ring.next_due());
		if (l->ring.announced)
			t = min(t, l->ring.announced_at + profile_.interrupt_delay);
		if (l->timer_armed)
			t = min(t, l->timer_at);
		t = min(t, l->fault_timer_at);
	}
	if (left_ && busy_ < tags_.size())
		t = min(t, submit_at_);
	t = min(t, memory_changes_);
	t = min(t, faults_off_);
	for (const Tag &tag : tags_)
		if (tag.active)
			t = min(t, tag.timeout_at);
	return t;
}

// To the next thing that is due; a little further if that is due already.
void World::advance()
{
	const Time t = next_event();
	if (t == never) {
		if (busy_ && !any_of(lanes_, [](const Lane &l) { return l.uncommitted; }))
			fail("%u requests have not ended, and nothing will ever happen", busy_);
		return;
	}
	now_ = t > now_ ? t : now_ + random_.spread(ms);
	if (memory_changes_ <= now_)
		change_memory();
	if (faults_off_ <= now_)
		set_fault("off");
}

void World::change_memory()
{
	switch (profile_.memory) {
	case Memory::plenty:
		return;
	case Memory::none:
		dry_percent_ = 100;
		return;
	case Memory::scarce:
		dry_percent_ = profile_.memory_percent;
		return;
	case Memory::phases:
		dry_percent_ = dry_percent_ ? 0 : static_cast<u32>(random_.percent(70) ? 100 : random_.range(1, 99));
		memory_changes_ = now_ + random_.spread(random_.percent(50) ? 2 * ms : second);
		TRACE("allocations fail: %u %%", dry_percent_);
	}
}

// -- the block layer ----------------------------------------------------------------

Tag *World::free_tag()
{
	const size_t n = tags_.size();
	for (size_t i = random_.below(n), k = 0; k < n; k++, i = (i + 1) % n)
		if (!tags_[i].active)
			return &tags_[i];
	return nullptr;
}

bool World::may_conflict(u64 sector, u64 n, bool exclusive) const
{
	for (u64 s = sector; s < sector + n; s++)
		if (users_[s] < 0 || (exclusive && users_[s]))
			return true;
	return false;
}

// What conflicts has no defined outcome: the file system above never does it.
bool World::draw_range(Tag &tag)
{
	for (u32 tries = 0; tries < 6; tries++) {
		const u64 n = tries < 4 ? random_.spread(profile_.most_sectors) : 1;
		tag.sector = random_.below(profile_.sectors - n + 1);
		tag.bytes = n * sector_bytes;
		if (!may_conflict(tag.sector, n, tag.exclusive()))
			return true;
	}
	return false;
}

bool World::draw_request(Tag &tag)
{
	u32 sum = 0;
	for (u32 w : profile_.weight)
		sum += w;
	u64 n = random_.below(sum);
	tag.op = 0;
	while (n >= profile_.weight[tag.op])
		n -= profile_.weight[tag.op++];
	tag.flags = 0;
	tag.sector = tag.bytes = 0;
	if (tag.op != UBD_OP_FLUSH && !draw_range(tag))
		return false;
	const bool changes = tag.op == UBD_OP_WRITE || tag.op == UBD_OP_WRITE_ZEROES;
	if (random_.percent(profile_.fua_percent) && changes)
		tag.flags |= UBD_RQ_FUA;
	if (tag.op == UBD_OP_WRITE_ZEROES && random_.percent(50))
		tag.flags |= UBD_RQ_NOUNMAP;
	tag.durable = changes && !profile_.no_flush && ((tag.flags & UBD_RQ_FUA) || profile_.sync_writes);
	return true;
}

void World::claim(const Tag &tag, int by)
{
	for (u64 s = tag.sector; s < tag.sector + tag.sectors(); s++)
		users_[s] = by > 0 ? (tag.exclusive() ? -1 : users_[s] + 1) : (tag.exclusive() ? 0 : users_[s] - 1);
}

void World::submit()
{
	Tag *tag = free_tag();
	if (!tag || !draw_request(*tag)) {
		submit_at_ = now_ + 50 * ms; // all ranges are in use
		return;
	}
	if (!batch_left_) {
		batch_left_ = static_cast<u32>(random_.spread(profile_.batch));
		batch_queue_ = lanes_.size() > 1 ? static_cast<u32>(random_.below(lanes_.size())) : 0;
	}
	batch_left_--;
	left_--;
	if (!batch_left_ && profile_.think)
		submit_at_ = now_ + random_.below(profile_.think);
	send(*tag, !batch_left_ && random_.percent(90));
}

void World::send(Tag &tag, bool last)
{
	Lane &l = *lanes_[batch_queue_];
	claim(tag, 1);
	if (tag.has_data())
		tag.make_memory(profile_, random_);
	memset(&tag.rq, 0xa5, sizeof(tag.rq));
	tag.rq.op = tag.op;
	tag.rq.flags = tag.flags;
	tag.rq.sector = tag.sector;
	tag.rq.bytes = tag.bytes;
	memset(&tag.rq.cursor, 0, sizeof(tag.rq.cursor));
	tag.active = true;
	tag.queue = l.index;
	l.sent++;
	tag.arrival = ++sent_;
	tag.queued = stamp();
	tag.since = now_;
	tag.timeout_at = now_ + request_timeout;
	tag.handed = 0;
	tag.sync_handed = false;
	tag.statuses = 0;
	tag.memory_errors = 0;
	tag.after_loss = durability_lost();
	if (!busy_++)
		progressed();
	TRACE("send #%llu to queue %u %s sector %llu+%llu%s%s%s", tag.arrival, l.index, op_name(tag.op), tag.sector,
	      tag.sectors(), tag.durable ? " durable" : "", tag.flags & UBD_RQ_NOUNMAP ? " nounmap" : "",
	      last ? " last" : "");
	Entered entered(*this, l, last);
	l.uncommitted = l.uncommitted || !last;
	ubd_queue_enqueue(l.c_queue(), &tag.rq, last);
}

void World::commit(Lane &l)
{
	TRACE("commit of queue %u", l.index);
	Entered entered(*this, l, true);
	ubd_queue_commit(l.c_queue());
}

// The handler reads the eventfd, which is the whole device's, then looks.
void World::interrupt(bool nested)
{
	bool announced = false;
	for (auto &l : lanes_)
		announced = announced || l->ring.announced;
	if (announced && !nested && random_.percent(profile_.lost_percent)) {
		TRACE("interrupt is lost");
		for (auto &l : lanes_) {
			l->interrupt_lost = l->interrupt_lost || l->ring.announced;
			l->ring.announced = false;
		}
		return;
	}
	TRACE("interrupt%s%s", announced ? "" : " of somebody else", nested ? " within" : "");
	for (auto &l : lanes_)
		l->ring.announced = false;
	for (auto &l : lanes_) {
		Entered entered(*this, *l, true);
		ubd_queue_interrupt(l->c_queue());
	}
}

// Of a thread that has the CPU until somebody else wants it; interrupts come.
void World::poll()
{
	for (auto &l : lanes_)
		l->poll_wanted = false;
	if (!any_of(lanes_, [](Lane &l) { return ubd_queue_wants_poll(l.c_queue()); }))
		return;
	TRACE("polls");
	for (auto &l : lanes_) {
		Entered entered(*this, *l, false); // it may serve, or not
		ubd_queue_begin_poll(l->c_queue());
	}
	for (u32 looks = 0; looks < 300 && !random_.percent(2); looks++) {
		bool more = false;
		now_ += random_.spread(20);
		for (auto &l : lanes_) {
			while (l->ring.next_due() <= now_ && l->ring.run())
				;
			Entered entered(*this, *l, false);
			more |= ubd_queue_poll(l->c_queue(), now_ * 1000);
		}
		if (!more)
			break;
		Entered entered(*this, *lanes_[0], false);
		nest();
	}
	for (auto &l : lanes_) {
		Entered entered(*this, *l, false);
		ubd_queue_end_poll(l->c_queue());
	}
}

void World::timer(Lane &l)
{
	TRACE("timer of queue %u", l.index);
	l.timer_armed = false;
	Entered entered(*this, l, true);
	ubd_queue_timer(l.c_queue());
}

void World::timeout()
{
	for (Tag &tag : tags_) {
		if (!tag.active || tag.timeout_at > now_)
			continue;
		const u64 arrival = tag.arrival;
		TRACE("timeout of #%llu", arrival);
		tag.timeout_at = now_ + request_timeout;
		bool waits;
		const u64 nested = nested_;
		{
			Lane &l = *lanes_[tag.queue];
			Entered entered(*this, l, false);
			waits = ubd_queue_timeout(l.c_queue(), &tag.rq, (now_ - tag.since) / ms);
		}
		const bool same = tag.active && tag.arrival == arrival;
		if (nested == nested_ && waits && !same)
			fail("request %llu ended, but timeout() says it has not", arrival);
		if (!depth_ && !waits && same)
			fail("request %llu has not ended, but timeout() says it has", arrival);
		return;
	}
}

// -- what seldom happens --------------------------------------------------------------

void World::odd()
{
	if (profile_.ending == Ending::removal && sent_ >= profile_.end_after && left_) {
		TRACE("removal: %u requests are not sent", left_);
		left_ = 0;
		end_stops();
		for (auto &l : lanes_) {
			Entered entered(*this, *l, true);
			ubd_queue_end_stops(l->c_queue());
		}
		return;
	}
	if (profile_.ending == Ending::synchronous && sent_ >= profile_.end_after && !synchronous_)
		return go_synchronous();
	if (profile_.faults && !synchronous_ && random_.percent(40))
		return random_fault();
	if (profile_.told_of_space && random_.percent(10))
		return resume();
	if (random_.percent(20))
		interrupt(false);
	else if (random_.percent(20))
		commit(*one_of([](const Lane &) { return true; }));
}

// From now on nothing waits for space.
void World::end_stops()
{
	for (auto &l : lanes_)
		l->watch.end_stops();
}

// Somebody says that there is space; it may be so.
void World::resume()
{
	TRACE("resume");
	for (auto &l : lanes_) {
		Entered entered(*this, *l, false); // it serves if it was stopped
		ubd_queue_try_again(l->c_queue());
	}
}

// The host may go on being slow, but does go on.
void World::go_synchronous()
{
	if (profile_.faults)
		set_fault(random_.percent(50) ? "off" : "any delay=150 chance=30");
	TRACE("from now on synchronous");
	synchronous_ = true;
	end_stops();
	for (auto &l : lanes_) {
		Entered entered(*this, *l, true);
		ubd_queue_go_synchronous(l->c_queue());
	}
}

// As ubd_device_fault_timer() does it.
void World::fault_timer(Lane &l)
{
	TRACE("fault timer of queue %u", l.index);
	l.fault_timer_at = never;
	l.locked = true;
	l.faults.expire();
	l.locked = false;
	Entered entered(*this, l, true);
	ubd_queue_interrupt(l.c_queue());
}

// As a write to the file `fault` in debugfs does it. Some last until requests
// time out.
void World::set_fault(const char *text)
{
	FaultRules rules;
	faults_off_ = strcmp(text, "off") ? now_ + random_.below((random_.percent(90) ? 3 : 60) * second) : never;
	if (Error e = FaultRules::parse(text, strlen(text), rules))
		fail("fault rules \"%s\" were refused: %d", text, e.number);
	TRACE("fault: %s", text);
	for (auto &l : lanes_) {
		l->locked = true;
		l->faults.set(rules);
		l->locked = false;
		commit(*l);
	}
}

// Up to three rules.
void World::random_fault()
{
	char text[400];
	size_t used = 0;
	for (u64 n = random_.spread(3); n; n--)
		used += random_rule(text + used, sizeof(text) - used);
	set_fault(text);
}

// Prints one, and a semicolon. Returns its length.
size_t World::random_rule(char *to, size_t bytes)
{
	static constexpr const char *operations[] = { "any",  "read",  "write", "write_sync",
						      "sync", "punch", "zero",  "submit" };
	static constexpr const char *effects[] = { "errno=5",  "errno=28",  "errno=4", "errno=11",
						   "errno=95", "errno=125", "short",   "drop" };
	const u64 operation = random_.below(8), drawn = random_.below(10);
	// Who awaits the host waits for ever for what it has lost.
	const u64 effect = drawn == 7 && profile_.await_host ? 8 : drawn;
	const bool submit = operation == 7, drop = effect == 7, late = effect > 7;
	const u64 delay = random_.spread(random_.percent(80) ? 500 : 50000);
	auto n = static_cast<size_t>(snprintf(to, bytes, "%s", operations[operation]));
	auto put = [&](const char *key, u64 value) {
		n += static_cast<size_t>(snprintf(to + n, bytes - n, " %s=%llu", key, value));
	};
	if (submit && effect > 5)
		put("errno", errno_busy);
	else if (late)
		put("delay", delay);
	else
		n += static_cast<size_t>(snprintf(to + n, bytes - n, " %s", effects[effect]));
	if (!submit && !drop && !late && random_.percent(20))
		put("delay", delay);
	if (random_.percent(50)) {
		put("chance", random_.range(1, 99));
		put("seed", random_.below(1000));
	}
	put("every", random_.spread(4));
	put("times", random_.spread(20));
	put("after", random_.below(5));
	return n + static_cast<size_t>(snprintf(to + n, bytes - n, ";"));
}

// Something comes between where core has just released its lock: another
// processor, an interrupt, a completion that sends the next request.
void World::nest()
{
	if (!nesting_ || !depth_ || depth_ > most_nesting || !random_.percent(profile_.nest_percent))
		return;
	nested_++;
	switch (random_.below(6)) {
	case 0:
	case 1:
		if (left_ && busy_ < tags_.size())
			submit();
		return;
	case 2:
		return commit(*one_of([](const Lane &) { return true; }));
	case 3:
		if (Lane *l = one_of([this](const Lane &o) { return o.timer_armed && o.timer_at <= now_; }))
			timer(*l);
		return;
	case 4:
		return timeout();
	default:
		if (any_of(lanes_, [](const Lane &l) { return l.ring.announced; }) || random_.percent(20))
			interrupt(true);
	}
}

} // namespace ubd::sim
