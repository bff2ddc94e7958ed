// SPDX-License-Identifier: GPL-2.0-only
#include "watch.hh"

#include "world.hh"

namespace ubd::sim
{

u8 status_for(int error)
{
	if (error == errno_nospc || error == errno_dquot)
		return UBD_STATUS_NOSPC;
	if (error == errno_opnotsupp || error == errno_nosys)
		return UBD_STATUS_NOTSUPP;
	return error == errno_rofs ? UBD_STATUS_READONLY : UBD_STATUS_IOERR;
}

bool Watch::holds(const Tag &tag) const
{
	for (const Held &h : held_)
		if (h.tag == &tag)
			return true;
	return false;
}

void Watch::ends(const Tag &tag)
{
	if (holds(tag))
		fail("request %llu ends while the engine has a part of it", tag.arrival);
	if (header_reserve_ == &tag)
		header_reserve_ = nullptr;
}

void Watch::prepare(Chunk &chunk)
{
	world_.must_be_locked(lane_, "prepare()");
	if (!inner_.space())
		fail("prepare() without space");
	if (held_.size() >= inner_.capacity())
		fail("more in flight than the engine's capacity of %u", inner_.capacity());
	for (const Held &h : held_)
		if (h.chunk == &chunk)
			fail("a chunk is prepared that the engine has already");
	Tag &tag = Tag::of(chunk.header->rq);
	if (!tag.active || tag.queue != lane_.index)
		fail("a chunk of a request that has ended, or is another queue's, is prepared");
	check_operation(chunk, tag);
	if (chunk.op != HostOp::sync)
		check_range(chunk, tag);
	const bool fresh = note_fresh(chunk, tag);
	if (fresh)
		check_order(tag);
	if (fresh && !kept_.empty())
		fail("request %llu is served while the queue is stopped", tag.arrival);
	std::erase_if(kept_, [&](const Held &h) { return h.chunk == &chunk; });
	check_reserve(chunk, tag, fresh);
	check_sync(chunk, tag);
	TRACE("  prepare #%llu %s file %u offset %llu bytes %llu iovs %u%s%s", tag.arrival, name_of(chunk.op),
	      chunk.file, chunk.offset.value, chunk.bytes.value, chunk.iovs - chunk.first, fresh ? "" : " again",
	      chunk.from_reserve ? " reserve" : "");
	held_.push_back({ &chunk, &tag, chunk.op, chunk.offset.value, chunk.bytes.value, chunk.first, chunk.iovs,
			  world_.stamp(), chunk.file });
	inner_.prepare(chunk);
}

void Watch::check_operation(const Chunk &chunk, const Tag &tag) const
{
	bool right = false;
	switch (tag.op) {
	case UBD_OP_READ:
		right = chunk.op == HostOp::read;
		break;
	case UBD_OP_WRITE:
		right = chunk.op == (tag.durable ? HostOp::write_sync : HostOp::write);
		break;
	case UBD_OP_FLUSH:
		right = chunk.op == HostOp::sync;
		break;
	case UBD_OP_DISCARD:
		right = chunk.op == HostOp::punch;
		break;
	case UBD_OP_WRITE_ZEROES:
		right = (chunk.op == HostOp::punch && !(tag.flags & UBD_RQ_NOUNMAP)) || chunk.op == HostOp::zero ||
			(chunk.op == HostOp::write && chunk.zero_pages) ||
			(chunk.op == HostOp::sync && tag.durable && tag.handed == tag.bytes && !holds(tag));
		break;
	}
	if (!right || (chunk.op == HostOp::sync && no_flush_))
		fail("request %llu: host operation %s for a %s", tag.arrival, name_of(chunk.op), op_name(tag.op));
	if (chunk.file % buffered_file && tag.op != UBD_OP_READ)
		fail("request %llu changes the backing file", tag.arrival);
}

// The part lies in the request, in the right file, and its memory is its own.
void Watch::check_range(const Chunk &chunk, const Tag &tag) const
{
	const u64 start = tag.sector * sector_bytes;
	const u64 at = disk_.device_offset(chunk.file % buffered_file, chunk.offset.value);
	if (at < start || !chunk.bytes.value || at + chunk.bytes.value > start + tag.bytes)
		fail("request %llu: a part at byte %llu of %llu bytes is not in it", tag.arrival, at,
		     chunk.bytes.value);
	if (tag.op == UBD_OP_READ && disk_.bit(at / sector_bytes) == (chunk.file % buffered_file != 0))
		fail("request %llu reads byte %llu from the wrong file", tag.arrival, at);
	if (!moves_data(chunk.op))
		return;
	if (chunk.iovs > UBD_CHUNK_IOVS || chunk.first >= chunk.iovs)
		fail("request %llu: iovecs %u to %u", tag.arrival, chunk.first, chunk.iovs);
	const u64 sum = chunk.iov_bytes().value;
	if (chunk.zero_pages ? sum > chunk.bytes.value || !sum : sum != chunk.bytes.value)
		fail("request %llu: iovecs of %llu bytes for a part of %llu", tag.arrival, sum, chunk.bytes.value);
	for (u32 i = chunk.first; i < chunk.iovs && !chunk.zero_pages; i++)
		if (!tag.holds(chunk.iov[i]))
			fail("request %llu: an iovec points at memory that is not its own", tag.arrival);
}

// True for what the engine gets for the first time: that is in order, too.
bool Watch::note_fresh(const Chunk &chunk, Tag &tag) const
{
	if (chunk.op == HostOp::sync) {
		// Not the one that was served, and then waited for another's.
		const bool first = !tag.sync_handed && tag.op == UBD_OP_FLUSH && !tag.rq.served;
		tag.sync_handed = true;
		return first;
	}
	const u64 at = disk_.device_offset(chunk.file % buffered_file, chunk.offset.value) - tag.sector * sector_bytes;
	if (at + chunk.bytes.value <= tag.handed)
		return false;
	if (at != tag.handed)
		fail("request %llu: a part at byte %llu of it, after %llu bytes", tag.arrival, at, tag.handed);
	tag.handed += chunk.bytes.value;
	return true;
}

// Whoever came earlier is wholly handed over, or was refused.
void Watch::check_order(const Tag &tag)
{
	if (tag.arrival < newest_)
		fail("request %llu is served after %llu", tag.arrival, newest_);
	newest_ = tag.arrival;
	for (const Tag &other : world_.tags()) {
		if (!other.active || other.queue != tag.queue || other.arrival >= tag.arrival || other.handed_all())
			continue;
		// It shares the fdatasync after the one that runs.
		if (other.op == UBD_OP_FLUSH && other.rq.served)
			continue;
		const bool given_up = (world_.durability_lost() && other.op != UBD_OP_READ) ||
				      (no_punch_ && other.op == UBD_OP_DISCARD && !other.handed);
		if (!given_up)
			fail("request %llu overtakes %llu", tag.arrival, other.arrival);
	}
}

void Watch::check_reserve(const Chunk &chunk, const Tag &tag, bool fresh)
{
	if (chunk.header->from_reserve) {
		// One that is done, and only waits to be ended, gave it back.
		const bool used = header_reserve_ && header_reserve_->rq.header;
		if (used && header_reserve_ != &tag)
			fail("the reserve's header has two owners: %llu and %llu", header_reserve_->arrival,
			     tag.arrival);
		header_reserve_ = &tag;
	}
	if (!chunk.from_reserve || !fresh)
		return;
	for (const Held &h : held_)
		if (h.chunk->from_reserve)
			fail("the reserve's chunk has two owners: %llu and %llu", h.tag->arrival, tag.arrival);
}

// Linux tells an open file of a failed write-back once: of two fdatasync calls
// side by side, one could be told success for what the other lost.
void Watch::check_sync(const Chunk &chunk, const Tag &tag) const
{
	for (const Held &h : held_)
		if (chunk.op == HostOp::sync && h.op == HostOp::sync)
			fail("an fdatasync for %llu while one for %llu is with the host", tag.arrival, h.tag->arrival);
}

u32 Watch::reap(Completion *to, u32 most)
{
	world_.must_be_locked(lane_, "reap()");
	const u32 n = inner_.reap(to, most);
	for (u32 i = 0; i < n; i++) {
		size_t k = 0;
		while (held_[k].chunk != to[i].chunk)
			if (++k == held_.size())
				fail("the engine gives back what it does not have");
		const Held h = held_[k];
		held_.erase(held_.begin() + static_cast<long>(k));
		const Chunk &c = *h.chunk;
		if (c.op != h.op || c.offset.value != h.offset || c.bytes.value != h.bytes || c.first != h.first ||
		    c.iovs != h.iovs)
			fail("request %llu: a chunk was changed while the host had it", h.tag->arrival);
		note(h, to[i].result);
	}
	return n;
}

void Watch::note(const Held &h, s32 result)
{
	TRACE("  reap #%llu %s offset %llu: %d", h.tag->arrival, name_of(h.op), h.offset, result);
	if (result < 0)
		return note_error(h, -result);
	world_.progressed();
	if (!result && (h.op == HostOp::write || h.op == HostOp::write_sync))
		return note_error(h, errno_io);
	if (h.op == HostOp::sync && !lost_)
		proven_ = h.prepared;
}

bool Watch::keeps(const Held &h, int error) const
{
	return stops_ && (error == errno_nospc || error == errno_dquot) && h.op != HostOp::sync && h.op != HostOp::read;
}

void Watch::end_stops()
{
	stops_ = false;
	for (const Held &h : kept_)
		h.tag->statuses |= 1u << UBD_STATUS_NOSPC;
	kept_.clear();
}

void Watch::note_error(const Held &h, int error)
{
	if (keeps(h, error)) {
		kept_.push_back(h);
		return;
	}
	if (error == errno_intr || error == errno_again || error == errno_canceled)
		return;
	world_.progressed();
	// Tried again, but not for ever: World::check_status() knows how often.
	if (error == errno_nomem && h.op != HostOp::sync) {
		h.tag->memory_errors++;
		return;
	}
	// By O_DIRECT: it goes by the page cache then.
	if (error == errno_inval && direct_ && moves_data(h.op) && h.file < buffered_file)
		return;
	const bool cannot = (h.op == HostOp::punch || h.op == HostOp::zero) &&
			    (error == errno_opnotsupp || error == errno_nosys);
	if (cannot && h.op == HostOp::punch)
		no_punch_ = true;
	if (cannot && h.tag->op == UBD_OP_WRITE_ZEROES)
		return; // another way is found
	h.tag->statuses |= 1u << status_for(error);
	if (h.op == HostOp::sync)
		sync_statuses_ |= 1u << status_for(error);
	static constexpr int harmless[] = { errno_nospc, errno_dquot, errno_fbig, errno_fault,
					    errno_nomem, errno_inval, errno_perm, errno_rofs };
	bool loses = h.op == HostOp::sync || h.op == HostOp::write_sync;
	for (int e : harmless)
		if (h.op == HostOp::write_sync && error == e)
			loses = false;
	lost_ = lost_ || loses;
	if (lost_)
		world_.end_stops();
}

} // namespace ubd::sim
