// SPDX-License-Identifier: GPL-2.0-only
#include "engine.hh"
#include "world.hh"

namespace ubd::crash
{

void HostEngine::prepare(Chunk &chunk)
{
	if (!space())
		fail("core prepares more than there is room for");
	world_.prepared(chunk);
	prepared_.push_back(&chunk);
}

Error HostEngine::submit()
{
	if (world_.busy())
		return Error{ errno_again };
	for (Chunk *chunk : prepared_) {
		if (flights_.size() + posted_.size() > capacity_)
			fail("more is in flight than completions have room for");
		flights_.push_back({ chunk, {} });
		if (chunk->op == HostOp::sync)
			flights_.back().sync = world_.file().begin_sync();
	}
	prepared_.clear();
	world_.submitted();
	return no_error;
}

void HostEngine::end(size_t flight, const Outcome &outcome)
{
	Flight f = std::move(flights_[flight]);
	flights_.erase(flights_.begin() + static_cast<long>(flight));
	posted_.push_back({ f.chunk, world_.execute(f, outcome) });
}

u32 HostEngine::reap(Completion *to, u32 max)
{
	u32 n = 0;
	while (n < max && n < posted_.size()) {
		to[n] = posted_[n];
		world_.told(to[n]);
		n++;
	}
	posted_.erase(posted_.begin(), posted_.begin() + n);
	return n;
}

void HostEngine::wait()
{
	world_.wait();
}

} // namespace ubd::crash
