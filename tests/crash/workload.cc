// SPDX-License-Identifier: GPL-2.0-only
#include "workload.hh"
#include "world.hh"

namespace ubd::crash
{
namespace
{

// Sectors that matter lie together in groups, so that requests overlap.
constexpr u64 group_sectors = 8;
constexpr u32 most_in_vain = 1000;

struct Habits {
	u32 requests, guests;
	u32 flush, zeroes, discard, read, large; // percent of requests
	u32 fua, not_last, split;
	u32 error, transient, cut, sync_error; // permille of the host's operations
	u32 busy, dry; // percent
	u32 send, slow_sync, deaf; // percent: how fast the parts are
};

class Workload final : public Driver {
public:
	explicit Workload(u64 seed)
		: random_(seed), habits_(draw_habits()), plan_(draw_plan()), world_(plan_, *this, draw_owned())
	{
	}

	void run();

	u32 pick(u32 n) override { return static_cast<u32>(random_.below(n)); }
	bool unit_lost() override { return random_.percent(75); }
	bool write_lands() override { return random_.percent(50); }
	Outcome outcome(const Chunk &chunk) override { return draw_outcome(chunk); }
	bool is_new() const override { return true; }
	bool no_memory() override { return random_.percent(habits_.dry); }
	bool host_busy() override { return random_.percent(habits_.busy); }
	void wait() override { host(); }
	u64 mapped(u64 most) override
	{
		return most > 1 && random_.percent(habits_.split) ? random_.range(1, most - 1) : most;
	}

private:
	Habits draw_habits();
	Plan draw_plan();
	std::vector<u64> draw_owned();
	void run_guest();
	void end_guest();
	bool step();
	void send();
	bool host();
	Outcome draw_outcome(const Chunk &chunk);
	int draw_error(HostOp op);

	Random random_;
	const Habits habits_;
	const Plan plan_;
	World world_;
	u32 left_ = 0; // requests to be sent by this guest
	bool unsaid_ = false; // sent with the word that more follow
	u32 in_vain_ = 0; // timers since the host did something
};

Habits Workload::draw_habits()
{
	auto upto = [&](u64 n) { return static_cast<u32>(random_.below(n + 1)); };
	const bool faults = random_.percent(60);
	Habits h;
	h.requests = 5 + upto(60);
	h.guests = 1 + upto(2);
	h.flush = 5 + upto(35);
	h.zeroes = upto(12);
	h.discard = upto(12);
	h.read = upto(15);
	h.large = random_.percent(50) ? upto(30) : 0;
	h.fua = random_.percent(50) ? upto(30) : 0;
	h.not_last = random_.percent(30) ? upto(60) : 0;
	h.split = random_.percent(30) ? upto(60) : 0;
	h.error = faults && random_.percent(60) ? upto(80) : 0;
	h.transient = faults && random_.percent(30) ? upto(100) : 0;
	h.cut = faults && random_.percent(40) ? upto(200) : 0;
	h.sync_error = faults && random_.percent(30) ? upto(100) : 0;
	h.busy = faults && random_.percent(20) ? upto(30) : 0;
	h.dry = random_.percent(20) ? upto(60) : 0;
	h.send = 10 + upto(60);
	h.slow_sync = random_.percent(60) ? upto(95) : 0;
	h.deaf = random_.percent(60) ? upto(90) : 0;
	return h;
}

Plan Workload::draw_plan()
{
	Plan p;
	CowHeader &h = p.shape.header;
	static constexpr CowVersion versions[] = { CowVersion::v1, CowVersion::v2, CowVersion::v3_padded };
	h.version = random_.percent(70) ? CowVersion::v3 : versions[random_.below(3)];
	h.alignment = random_.percent(70) ? UBD_COW_ALIGNMENT : UBD_SECTOR_SIZE;
	h.backing[0] = 'b';
	const u64 block = CowBitmap::block_sectors;
	// Few are so large that a commit needs its buffer twice.
	const u64 blocks = random_.permille(20) ? Cow::buffer_blocks + 2 : random_.below(4);
	// Old versions have room for whole bytes of the bitmap only.
	const u64 sectors = blocks * block + group_sectors * random_.range(2, 100);
	h.bytes = sectors * sector_bytes;
	p.shape.place();
	for (u64 border = 0; border <= blocks * block; border += block)
		for (u64 i = 0; i < group_sectors; i++)
			p.shape.hot.push_back((border ? border - group_sectors / 2 : 0) + i);
	for (u64 i = 0; i < group_sectors / 2; i++)
		p.shape.hot.push_back(sectors - group_sectors / 2 + i);
	p.depth = static_cast<u32>(random_.range(2, 12));
	p.capacity = static_cast<u32>(random_.range(1, 16));
	p.commit_ms = random_.percent(50) ? 1000 : 0;
	p.write_through = random_.percent(10);
	p.allocate = random_.percent(60);
	p.images = random_.percent(25) ? 2 : 1;
	return p;
}

std::vector<u64> Workload::draw_owned()
{
	std::vector<u64> owned;
	const u64 percent = random_.percent(50) ? random_.below(100) : 0;
	for (u64 sector : plan_.shape.hot)
		if (random_.percent(percent))
			owned.push_back(sector);
	return owned;
}

void Workload::run()
{
	for (u32 i = 0; i < habits_.guests; i++) {
		run_guest();
		end_guest();
		// Another guest on this file would be promised what is not there.
		if (world_.lost())
			break;
	}
}

void Workload::run_guest()
{
	left_ = habits_.requests;
	unsaid_ = false;
	// Some end in the midst of it.
	u64 steps = random_.percent(50) ? random_.below(habits_.requests * 5) : 100000;
	while (steps-- && step())
		;
}

void Workload::end_guest()
{
	switch (random_.below(4)) {
	case 0:
		return world_.host_crashed();
	case 1:
		world_.guest_killed(false);
		return;
	case 2:
		world_.guest_killed(world_.last_commit());
		return;
	default:
		// A reboot: core commits by itself, if the host lets it.
		world_.go_synchronous();
		const bool committed = !world_.requests() && world_.flights().empty() && !habits_.error &&
				       !habits_.transient && !habits_.busy && !world_.lost();
		world_.guest_killed(committed || world_.last_commit());
	}
}

// False when nothing is left that could happen.
bool Workload::step()
{
	if (left_ && world_.may_send() && random_.percent(habits_.send)) {
		send();
		return true;
	}
	if (unsaid_ && random_.percent(30)) {
		unsaid_ = false;
		world_.commit();
		return true;
	}
	if (world_.posted() && !random_.percent(habits_.deaf)) {
		world_.interrupt();
		return true;
	}
	if (world_.timer_armed() && random_.percent(8)) {
		world_.timer();
		return true;
	}
	if (host())
		return true;
	if (world_.timer_armed() && (world_.requests() || random_.percent(50))) {
		if (++in_vain_ > most_in_vain)
			fail("core hangs: the timer goes on, and nothing else");
		world_.timer();
		return true;
	}
	if (world_.requests() && !unsaid_ && !world_.posted() && !world_.timer_armed())
		fail("core hangs: requests, but nothing that will happen");
	return left_ || world_.requests() || unsaid_ || world_.posted();
}

void Workload::send()
{
	left_--;
	u8 op = UBD_OP_WRITE, flags = 0;
	u64 kind = random_.below(100);
	auto is = [&](u32 percent) {
		const bool yes = kind < percent;
		kind -= percent;
		return yes;
	};
	if (is(habits_.flush))
		op = UBD_OP_FLUSH;
	else if (is(habits_.zeroes))
		op = UBD_OP_WRITE_ZEROES;
	else if (is(habits_.discard))
		op = UBD_OP_DISCARD;
	else if (is(habits_.read))
		op = UBD_OP_READ;
	const bool last = !random_.percent(habits_.not_last);
	unsaid_ = !last;
	if (op == UBD_OP_FLUSH)
		return world_.send(op, 0, 0, 0, last);
	const bool writes = op == UBD_OP_WRITE || op == UBD_OP_WRITE_ZEROES;
	if (writes && random_.percent(habits_.fua))
		flags |= UBD_RQ_FUA;
	if (op == UBD_OP_WRITE_ZEROES && random_.percent(50))
		flags |= UBD_RQ_NOUNMAP;
	if ((op == UBD_OP_WRITE_ZEROES || op == UBD_OP_DISCARD) && random_.percent(habits_.large)) {
		const u64 sectors = plan_.shape.header.sectors(), first = random_.below(sectors);
		return world_.send(op, flags, first, random_.range(1, sectors - first), last);
	}
	const u64 at = random_.below(plan_.shape.hot.size());
	u64 n = 1;
	while (at + n < plan_.shape.hot.size() && plan_.shape.hot[at + n] == plan_.shape.hot[at] + n &&
	       random_.percent(60))
		n++;
	world_.send(op, flags, plan_.shape.hot[at], n, last);
}

// One operation of the host ends. False if there is none.
bool Workload::host()
{
	const auto &flights = world_.flights();
	if (flights.empty())
		return false;
	u64 i = random_.below(flights.size());
	if (flights[i].chunk->op == HostOp::sync && random_.percent(habits_.slow_sync))
		i = random_.below(flights.size());
	in_vain_ = 0;
	world_.end_operation(i, draw_outcome(*flights[i].chunk));
	return true;
}

Outcome Workload::draw_outcome(const Chunk &chunk)
{
	Outcome o;
	const bool sync = chunk.op == HostOp::sync;
	if (random_.permille(sync ? habits_.sync_error : habits_.error))
		o.error = draw_error(chunk.op);
	else if (random_.permille(habits_.transient))
		o.error = random_.percent(50) ? errno_intr : errno_again;
	// A unit is whole or not; but the bitmap may be of any bytes.
	const u64 unit = world_.is_bitmap(chunk) ? 1 : sector_bytes;
	const u64 units = chunk.bytes.value / unit;
	if (o.error) {
		o.lands = random_.percent(50);
		o.bytes = units ? random_.below(units + 1) * unit : 0;
		if (o.error == errno_opnotsupp || o.error == errno_again)
			o.lands = false;
	} else if (moves_data(chunk.op) && units > 1 && random_.permille(habits_.cut)) {
		o.bytes = random_.range(1, units - 1) * unit;
	}
	return o;
}

int Workload::draw_error(HostOp op)
{
	if ((op == HostOp::punch || op == HostOp::zero || op == HostOp::allocate) && random_.percent(30))
		return errno_opnotsupp;
	return random_.percent(50) ? errno_io : errno_nospc;
}

} // namespace

void run_seed(u64 seed)
{
	Workload(seed).run();
}

} // namespace ubd::crash
