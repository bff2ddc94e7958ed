// SPDX-License-Identifier: GPL-2.0-only
#include <string.h>

#include <string>

#include "bounded.hh"
#include "world.hh"

namespace ubd::crash
{
namespace
{

// Four sectors, two on each side of a border of blocks of the bitmap.
constexpr u64 first_sector = CowBitmap::block_sectors - 2;
constexpr u32 disk_sectors = 4;

struct Letter {
	const char *name;
	u8 op, flags;
	u32 first, sectors;
	bool timer;
};

constexpr Letter letters[] = {
	{ "W0", UBD_OP_WRITE, 0, 0, 1, false },
	{ "W1", UBD_OP_WRITE, 0, 1, 1, false },
	{ "W12", UBD_OP_WRITE, 0, 1, 2, false },
	{ "W0123", UBD_OP_WRITE, 0, 0, 4, false },
	{ "T1", UBD_OP_WRITE, UBD_RQ_FUA, 1, 1, false },
	{ "T12", UBD_OP_WRITE, UBD_RQ_FUA, 1, 2, false },
	{ "Z1", UBD_OP_WRITE_ZEROES, 0, 1, 1, false },
	{ "Z0123", UBD_OP_WRITE_ZEROES, UBD_RQ_NOUNMAP, 0, 4, false },
	{ "Y12", UBD_OP_WRITE_ZEROES, UBD_RQ_FUA, 1, 2, false },
	{ "D1", UBD_OP_DISCARD, 0, 1, 1, false },
	{ "D0123", UBD_OP_DISCARD, 0, 0, 4, false },
	{ "F", UBD_OP_FLUSH, 0, 0, 0, false },
	// What the timer does after a while: a commit that nobody asked for.
	{ "B", UBD_OP_FLUSH, 0, 0, 0, true },
};
constexpr u32 letter_count = sizeof(letters) / sizeof(letters[0]);

std::vector<const Letter *> letters_of(u64 workload)
{
	std::vector<const Letter *> list;
	u64 n = letter_count;
	while (workload >= n) {
		workload -= n;
		n *= letter_count;
	}
	for (; n > 1; n /= letter_count) {
		list.push_back(&letters[workload % letter_count]);
		workload /= letter_count;
	}
	return list;
}

Plan tiny()
{
	Plan p;
	p.shape.header.bytes = (CowBitmap::block_sectors + 8) * sector_bytes;
	p.shape.header.alignment = UBD_SECTOR_SIZE;
	p.shape.header.backing[0] = 'b';
	p.shape.place();
	for (u32 i = 0; i < disk_sectors; i++)
		p.shape.hot.push_back(first_sector + i);
	p.depth = 3;
	p.capacity = 4;
	p.commit_ms = 1000;
	p.images = 1;
	return p;
}

// Goes through all sequences of decisions, the last decision first.
class Decisions {
public:
	u32 next(u32 n)
	{
		if (n == 1)
			return 0;
		if (at_ == list_.size())
			list_.push_back({ 0, n });
		return list_[at_++].taken;
	}
	bool is_new() const { return at_ >= seen_; }
	// To the next sequence; false if there is none.
	bool advance()
	{
		at_ = 0;
		while (!list_.empty() && ++list_.back().taken == list_.back().of)
			list_.pop_back();
		seen_ = list_.size();
		return !list_.empty();
	}

private:
	struct Decision {
		u32 taken, of;
	};
	std::vector<Decision> list_;
	size_t at_ = 0;
	size_t seen_ = 0; // before this many were made, all is as last time
};

class Run final : public Driver {
public:
	Run(const Plan &plan, const std::vector<const Letter *> &workload, Decisions &decisions, bool faults)
		: workload_(workload), decisions_(decisions), faults_(faults), world_(plan, *this, owned())
	{
	}

	void run()
	{
		while (step())
			;
	}

	u32 pick(u32 n) override { return (picked_ = picked_ * 1103515245 + 12345) / 65536 % n; }
	bool unit_lost() override { return true; }
	bool write_lands() override { return false; }
	Outcome outcome(const Chunk &) override { return {}; }
	bool is_new() const override { return decisions_.is_new(); }
	bool no_memory() override { return false; }
	bool host_busy() override { return false; }
	void wait() override {}
	u64 mapped(u64 most) override { return most; }

private:
	struct Event {
		size_t flight; // that ends
		Outcome outcome;
		bool send; // then the next operation is sent; core learns of the end late
	};
	static constexpr size_t no_flight = ~0ul;

	std::vector<u64> owned();
	void send();
	bool step();
	void add_faults(size_t flight, const Chunk &chunk);

	const std::vector<const Letter *> &workload_;
	Decisions &decisions_;
	bool faults_; // one may still come
	World world_;
	size_t sent_ = 0;
	u32 picked_ = 1;
	std::vector<Event> events_;
};

// Some sectors are in the COW file from the beginning, or none.
std::vector<u64> Run::owned()
{
	if (decisions_.next(2))
		return { first_sector + 1, first_sector + 2 };
	return {};
}

void Run::send()
{
	const Letter &l = *workload_[sent_++];
	if (!l.timer)
		return world_.send(l.op, l.flags, l.sectors ? first_sector + l.first : 0, l.sectors, true);
	if (world_.timer_armed())
		world_.timer();
}

bool Run::step()
{
	const auto &flights = world_.flights();
	const bool more = sent_ < workload_.size();
	events_.clear();
	if (more)
		events_.push_back({ no_flight, {}, true });
	for (size_t i = 0; i < flights.size(); i++) {
		events_.push_back({ i, {}, false });
		if (more)
			events_.push_back({ i, {}, true });
		if (faults_)
			add_faults(i, *flights[i].chunk);
	}
	if (events_.empty()) {
		if (world_.requests())
			fail("core hangs");
		return false;
	}
	const Event e = events_[decisions_.next(static_cast<u32>(events_.size()))];
	if (e.outcome.error || e.outcome.bytes != ~0ull)
		faults_ = false;
	if (e.flight != no_flight)
		world_.end_operation(e.flight, e.outcome);
	if (e.send)
		send();
	else
		world_.interrupt();
	return true;
}

void Run::add_faults(size_t flight, const Chunk &chunk)
{
	if (chunk.op == HostOp::sync) {
		events_.push_back({ flight, { errno_io, 0, false }, false });
		events_.push_back({ flight, { errno_intr, 0, false }, false });
		return;
	}
	events_.push_back({ flight, { errno_nospc, 0, false }, false });
	events_.push_back({ flight, { errno_io, ~0ull, true }, false });
	if (moves_data(chunk.op) && chunk.bytes.value > sector_bytes)
		events_.push_back({ flight, { 0, sector_bytes, false }, false });
}

} // namespace

u64 bounded_workloads(u32 most)
{
	u64 sum = 0;
	for (u64 n = letter_count; most--; n *= letter_count)
		sum += n;
	return sum;
}

const char *workload_words(u64 workload)
{
	static std::string text;
	text.clear();
	for (const Letter *l : letters_of(workload))
		text += (text.empty() ? "" : " ") + std::string(l->name);
	return text.c_str();
}

u64 run_workload(u64 workload, bool faults)
{
	const Plan plan = tiny();
	const auto list = letters_of(workload);
	Decisions decisions;
	u64 orders = 0;
	do {
		orders++;
		if (sim::tracing)
			sim::trace("-- order %llu of %s", orders, workload_words(workload));
		Run(plan, list, decisions, faults).run();
	} while (decisions.advance());
	return orders;
}

} // namespace ubd::crash
