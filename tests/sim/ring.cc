// SPDX-License-Identifier: GPL-2.0-only
#include "ring.hh"

#include <string.h>

#include "world.hh"

namespace ubd::sim
{
namespace
{

constexpr u32 cancel_slots = 1;

bool needs_space(HostOp op)
{
	return op != HostOp::read && op != HostOp::sync;
}

bool transient(int error)
{
	return error == errno_intr || error == errno_again || error == errno_canceled;
}

} // namespace

Ring::Ring(World &w, Lane &lane, const Profile &profile, Disk &disk, Random &random)
	: world_(w), lane_(lane), profile_(profile), disk_(disk), random_(random)
{
	sq_.reserve(profile.ring + cancel_slots);
	running_.reserve(profile.capacity + cancel_slots);
	work_.reserve(profile.capacity + cancel_slots);
	cq_.reserve(profile.capacity + cancel_slots);
}

// -- the engine's half ----------------------------------------------------------

// Each call of core: under the lock, at most so many before core returns. The
// host goes on meanwhile.
void Ring::called()
{
	world_.engine_called(lane_);
	meddle();
}

u32 Ring::space() const
{
	const u32 left = profile_.ring + cancel_slots - unsent();
	return left > cancel_slots ? left - cancel_slots : 0;
}

void Ring::prepare(Chunk &chunk)
{
	called();
	if (unsent() == profile_.ring + cancel_slots)
		fail("the submission ring overflows");
	sq_.push_back(Entry{ &chunk });
}

Error Ring::submit()
{
	called();
	if (int error = refusal()) {
		TRACE("host refuses submission: %d", error);
		return Error{ error };
	}
	size_t n = sq_.size();
	if (n > 1 && random_.percent(profile_.partial_percent))
		n = random_.range(1, n - 1);
	TRACE("host takes %zu of %zu", n, sq_.size());
	for (size_t i = 0; i < n; i++)
		start(sq_[i]);
	sq_.erase(sq_.begin(), sq_.begin() + static_cast<long>(n));
	if (profile_.deferred)
		get_events();
	return no_error;
}

u32 Ring::reap(Completion *to, u32 most)
{
	called();
	if (cq_.empty() && !work_.empty())
		get_events();
	u32 taken = 0;
	size_t seen = 0;
	for (; seen < cq_.size() && taken < most; seen++) {
		if (cq_[seen].cancel)
			cancels_--;
		else
			to[taken++] = Completion{ cq_[seen].chunk, cq_[seen].result };
	}
	cq_.erase(cq_.begin(), cq_.begin() + static_cast<long>(seen));
	return taken;
}

void Ring::quiet()
{
	called();
	quiet_ = true;
}

bool Ring::listen()
{
	called();
	quiet_ = false;
	meddle();
	if (cq_.empty() && work_.empty())
		return false;
	quiet();
	return true;
}

bool Ring::cancel(Chunk &chunk)
{
	called();
	if (cancels_ >= cancel_slots || unsent() == profile_.ring + cancel_slots || profile_.no_cancel)
		return false;
	sq_.push_back(Entry{ &chunk, true });
	cancels_++;
	return true;
}

// Until the ring is readable, or for so long.
void Ring::wait()
{
	constexpr Time longest = 100 * ms;

	called();
	if (!cq_.empty() || !work_.empty())
		return;
	const Time limit = world_.now() + longest;
	world_.wait_until(lane_, min(limit, next_due()));
	(void)run();
}

bool Ring::file_removed() const
{
	return world_.stamp_now() % 7 == 0;
}

// -- the host's half ------------------------------------------------------------

// It works while others do.
void Ring::meddle()
{
	while (!running_.empty() && random_.percent(profile_.meddle_percent)) {
		const size_t i = random_.below(running_.size());
		if (running_[i].due > world_.now() + second)
			return; // that one hangs
		finish(i);
	}
}

int Ring::refusal()
{
	static constexpr int errors[] = { errno_again, errno_busy, errno_intr, errno_nomem, errno_io };
	if (!storm_ && random_.permille(profile_.refuse_permille)) {
		storm_ = static_cast<u32>(random_.spread(12));
		storm_error_ = errors[random_.below(random_.percent(10) ? 5 : 4)];
		if (storm_error_ == errno_intr)
			storm_ *= 16; // core asks again at once
	}
	if (!storm_)
		return 0;
	storm_--;
	return storm_error_;
}

void Ring::start(Entry e)
{
	e.began = world_.stamp();
	if (e.cancel)
		return start_cancel(e);
	if (random_.percent(profile_.inline_percent)) {
		e.result = execute(e);
		to_completions(e);
		return announce();
	}
	e.due = world_.now() + random_.range(profile_.latency_least, profile_.latency_most);
	if (random_.permille(profile_.hang_permille))
		e.due = world_.now() + random_.range(2 * second, 150 * second);
	running_.push_back(e);
}

void Ring::start_cancel(Entry e)
{
	for (size_t i = 0; i < running_.size(); i++) {
		if (running_[i].chunk != e.chunk || random_.percent(30))
			continue;
		Entry found = running_[i];
		running_.erase(running_.begin() + static_cast<long>(i));
		if (random_.percent(50))
			(void)transfer(*found.chunk, true); // it had begun
		found.result = random_.percent(80) ? -errno_canceled : -errno_intr;
		TRACE("host cancels");
		post(found);
		break;
	}
	to_completions(e);
	announce();
}

Time Ring::next_due() const
{
	Time due = never;
	for (const Entry &e : running_)
		due = min(due, e.due);
	return due;
}

bool Ring::run()
{
	const size_t n = running_.size();
	for (size_t i = n ? random_.below(n) : 0, k = 0; k < n; k++, i = (i + 1) % n) {
		if (running_[i].due > world_.now())
			continue;
		finish(i);
		return true;
	}
	return false;
}

void Ring::finish(size_t i)
{
	Entry e = running_[i];
	running_.erase(running_.begin() + static_cast<long>(i));
	e.result = execute(e);
	post(e);
}

void Ring::post(const Entry &e)
{
	if (profile_.deferred)
		work_.push_back(e);
	else
		to_completions(e);
	announce();
}

void Ring::to_completions(const Entry &e)
{
	if (cq_.size() == profile_.capacity + cancel_slots)
		fail("the completion ring overflows");
	cq_.push_back(e);
}

void Ring::get_events()
{
	while (!work_.empty()) {
		const size_t i = random_.percent(80) ? 0 : random_.below(work_.size());
		to_completions(work_[i]);
		work_.erase(work_.begin() + static_cast<long>(i));
	}
}

void Ring::announce()
{
	if (quiet_ || announced)
		return;
	announced = true;
	announced_at = world_.now();
}

bool Ring::has_completions() const
{
	if (!work_.empty())
		return true;
	for (const Entry &e : cq_)
		if (!e.cancel)
			return true;
	return false;
}

u32 Ring::holds() const
{
	u32 n = 0;
	for (auto *list : { &sq_, &running_, &work_, &cq_ })
		for (const Entry &e : *list)
			n += !e.cancel;
	return n;
}

// -- operations -----------------------------------------------------------------

int Ring::some_error()
{
	static constexpr int errors[] = { errno_io,        errno_nospc, errno_dquot, errno_fbig, errno_fault,
					  errno_nomem,     errno_inval, errno_rofs,  errno_perm, errno_acces,
					  errno_opnotsupp, errno_nosys, 110,         121 };
	return errors[random_.below(sizeof(errors) / sizeof(errors[0]))];
}

int Ring::trouble(const Chunk &chunk)
{
	static constexpr int passing[] = { errno_intr, errno_again, errno_canceled };
	const Persistent &p = profile_.persistent;
	if (chunk.op == HostOp::punch && profile_.no_punch)
		return errno_opnotsupp;
	if (chunk.op == HostOp::zero && profile_.no_zero)
		return random_.percent(50) ? errno_opnotsupp : errno_nosys;
	if (p.op == chunk.op && world_.now() >= p.from && world_.now() < p.until)
		return p.error;
	const bool full = world_.now() >= profile_.full_from && world_.now() < profile_.full_until;
	if (full && needs_space(chunk.op) && random_.percent(profile_.full_percent))
		return profile_.full_error;
	if (chunk.op == HostOp::sync && random_.permille(profile_.sync_loss_permille))
		return errno_io;
	if (random_.permille(profile_.transient_permille))
		return passing[random_.below(3)];
	if (random_.permille(profile_.fatal_permille))
		return some_error();
	return 0;
}

s32 Ring::execute(Entry &e)
{
	Chunk &chunk = *e.chunk;
	const int error = trouble(chunk);
	if (chunk.op == HostOp::sync)
		return execute_sync(e, error);
	if (error) {
		if (random_.percent(50))
			(void)transfer(chunk, true);
		return -error;
	}
	if (chunk.op == HostOp::write_sync && profile_.queues > 1 && told_of_loss(dsync_seen_))
		return -errno_io;
	if (moves_data(chunk.op) && chunk.op != HostOp::read && random_.permille(profile_.fatal_permille) &&
	    random_.percent(20))
		return 0; // a write without effect
	return transfer(chunk, moves_data(chunk.op) && random_.percent(profile_.short_percent));
}

// What another queue's fdatasync could not write back, this queue is told as well, by
// openings of its own: errseq_check_and_advance() in lib/errseq.c.
bool Ring::told_of_loss(u64 &seen)
{
	const bool news = seen != disk_.losses();
	seen = disk_.losses();
	return news;
}

s32 Ring::execute_sync(const Entry &e, int error)
{
	if (error && transient(error))
		return -error;
	if (error)
		disk_.sync_failed();
	if (told_of_loss(sync_seen_) && !error)
		return -errno_io;
	if (!error)
		disk_.sync_succeeded(e.began);
	return -error;
}

// The host would say EINVAL.
void Ring::check_direct(const Chunk &chunk) const
{
	bool whole = chunk.op == HostOp::sync || !((chunk.offset.value | chunk.bytes.value) % sector_bytes);
	for (u32 i = chunk.first; moves_data(chunk.op) && i < chunk.iovs; i++)
		whole = whole && !(chunk.iov[i].bytes % sector_bytes);
	if (!whole)
		fail("%s of %llu bytes at %llu by O_DIRECT", name_of(chunk.op), chunk.bytes.value, chunk.offset.value);
}

// Moves the data, all of it or only the beginning. Returns how many bytes.
s32 Ring::transfer(Chunk &chunk, bool cut)
{
	const bool moving = moves_data(chunk.op);
	if (profile_.direct)
		check_direct(chunk);
	u64 n = moving ? chunk.iov_bytes().value : chunk.bytes.value;
	if (chunk.op == HostOp::read)
		n = min(n, disk_.left_in_file(chunk.file % buffered_file, chunk.offset.value));
	if (cut && n > 1 && chunk.op != HostOp::sync) {
		const u64 all = n;
		n = random_.range(1, n - 1);
		if (n > sector_bytes && random_.percent(50))
			n &= ~(sector_bytes - 1);
		if (profile_.direct && n < sector_bytes)
			n = min(all, sector_bytes); // less than a block is the file's end
	}
	if (!n)
		return 0;
	if (moving)
		n = move(chunk, n);
	else if (chunk.op != HostOp::sync)
		disk_.zero(chunk.offset.value, n);
	if (chunk.op != HostOp::read && chunk.op != HostOp::sync)
		disk_.wrote(chunk.offset.value, n, world_.stamp(), chunk.op == HostOp::write_sync);
	return moving ? static_cast<s32>(n) : 0;
}

u64 Ring::move(Chunk &chunk, u64 n)
{
	u64 done = 0;
	for (u32 i = chunk.first; i < chunk.iovs && done < n; i++) {
		const u64 part = min<u64>(chunk.iov[i].bytes, n - done);
		if (chunk.op == HostOp::read)
			disk_.read(chunk.file % buffered_file, chunk.offset.value + done, chunk.iov[i].base, part);
		else
			disk_.write(chunk.offset.value + done, chunk.iov[i].base, part);
		done += part;
	}
	return done;
}

} // namespace ubd::sim
