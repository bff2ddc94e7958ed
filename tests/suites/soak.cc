// SPDX-License-Identifier: GPL-2.0-only
/*
 * The queue against a model disk: a seed makes a host (rings, order, shorts,
 * errors, refusals), a memory (from plenty to none) and a stream of requests.
 * Checked: data as in the model, durability where it was promised, each request
 * ends once, ticket order, no leak, progress. A failing seed is printed.
 */
#include "fake.hh"

using namespace ubd;
using namespace ubd::test;

namespace
{

constexpr u32 disk_sectors = 256;
constexpr u64 disk_bytes = disk_sectors * sector_bytes;
constexpr u32 most_pending = 48;

struct Soak {
	World &w;
	Random random;
	u32 seed;
	u32 left;
	bool errors;
	bool bad = false;
	u8 *model;
	u8 *scratch;
	bool unknown[disk_sectors]{};
	u8 readers[disk_sectors]{};
	bool writer[disk_sectors]{};
	FakeRequest *pending[most_pending]{};
	u32 pendings = 0;
	u32 unsent = 0; // sent as not last

	Soak(World &world, u32 s) : w(world), random(s), seed(s)
	{
		model = static_cast<u8 *>(ubd_test_alloc(disk_bytes));
		scratch = static_cast<u8 *>(ubd_test_alloc(disk_bytes));
	}
	~Soak()
	{
		ubd_test_free(model);
		ubd_test_free(scratch);
	}
	Soak(const Soak &) = delete;
	Soak &operator=(const Soak &) = delete;

	void fail(const char *what)
	{
		if (!bad)
			failed_here(__FILE__, __LINE__, "seed %u: %s", seed, what);
		bad = true;
	}
	static u32 first(const FakeRequest &r) { return static_cast<u32>(r.rq.sector); }
	static u32 end(const FakeRequest &r) { return static_cast<u32>(r.rq.sector + r.rq.bytes / sector_bytes); }
	static bool changes(u8 op) { return op != UBD_OP_READ && op != UBD_OP_FLUSH; }

	bool free_for(u8 op, u32 from, u32 to) const
	{
		for (u32 s = from; s < to; s++)
			if (writer[s] || (changes(op) && readers[s]))
				return false;
		return true;
	}
	void occupy(const FakeRequest &r, bool yes)
	{
		if (r.rq.op == UBD_OP_FLUSH)
			return;
		for (u32 s = first(r); s < end(r); s++) {
			if (changes(r.rq.op))
				writer[s] = yes;
			else
				readers[s] = static_cast<u8>(readers[s] + (yes ? 1 : -1));
		}
	}

	void send();
	void ended(FakeRequest &r);
	void check_read(const FakeRequest &r);
	void apply(FakeRequest &r);
	void host_step();
	void script();
	void settle_memory();
};

void Soak::send()
{
	if (!left || pendings == most_pending)
		return;
	static constexpr u8 kinds[] = { UBD_OP_READ,  UBD_OP_READ,    UBD_OP_READ,         UBD_OP_WRITE, UBD_OP_WRITE,
					UBD_OP_WRITE, UBD_OP_DISCARD, UBD_OP_WRITE_ZEROES, UBD_OP_FLUSH };
	u8 op = kinds[random.below(sizeof(kinds))];
	u32 n = 1 + random.below(random.percent(20) ? 160 : 12);
	u32 from = random.below(disk_sectors - n + 1);
	if (op != UBD_OP_FLUSH && !free_for(op, from, from + n))
		return;
	u8 flags = 0;
	if (changes(op) && op != UBD_OP_DISCARD && random.percent(20))
		flags |= UBD_RQ_FUA;
	if (op == UBD_OP_WRITE_ZEROES && random.percent(50))
		flags |= UBD_RQ_NOUNMAP;
	static constexpr u32 pieces[] = { 0, 512, 1024, 4096, 128, 700 };
	FakeRequest &r = op == UBD_OP_FLUSH ? w.make(op, ~0ull, 0)
					    : w.make(op, from, n * sector_bytes, flags, pieces[random.below(6)]);
	if (op == UBD_OP_WRITE)
		r.write_pattern(seed * 1000 + left);
	left--;
	occupy(r, true);
	pending[pendings++] = &r;
	bool last = random.percent(60);
	unsent = last ? 0 : unsent + 1;
	w.send(r, last);
}

void Soak::check_read(const FakeRequest &r)
{
	if (!r.ok())
		return;
	r.copy_out(scratch);
	for (u32 s = first(r); s < end(r); s++)
		if (!unknown[s] &&
		    __builtin_memcmp(scratch + (s - first(r)) * sector_bytes, model + s * sector_bytes, sector_bytes))
			return fail("a read has wrong data");
}

// A change that failed leaves either content, sector by sector.
void Soak::apply(FakeRequest &r)
{
	u8 *at = model + first(r) * sector_bytes;
	bool ok = r.ok();
	if (r.rq.op == UBD_OP_DISCARD && r.status() == UBD_STATUS_NOTSUPP)
		return; // nothing was changed
	for (u32 s = first(r); s < end(r); s++) {
		unknown[s] = !ok;
		if (ok && (r.rq.flags & UBD_RQ_FUA) && w.engine.dirty[s])
			fail("a FUA request ended before it was durable");
	}
	if (!ok)
		return;
	if (r.rq.op == UBD_OP_WRITE)
		r.copy_out(at);
	else
		__builtin_memset(at, 0, r.rq.bytes);
}

void Soak::ended(FakeRequest &r)
{
	for (u32 i = 0; i < pendings; i++)
		if (pending[i] == &r)
			pending[i] = pending[--pendings];
	occupy(r, false);
	if (!errors && r.status() != UBD_STATUS_OK && r.rq.op != UBD_OP_DISCARD)
		fail("a request failed on a good host");
	if (r.rq.op == UBD_OP_READ)
		check_read(r);
	else if (r.rq.op != UBD_OP_FLUSH)
		apply(r);
	else if (r.ok() && w.engine.last_sync <= r.sent_at)
		fail("a flush ended without a sync");
	else if (r.ok() && log_has("failed to make data durable"))
		fail("a flush succeeds after durability was lost");
	while (left && random.percent(25))
		send();
}

void on_end(void *context, FakeRequest &r)
{
	static_cast<Soak *>(context)->ended(r);
}

void Soak::script()
{
	w.engine.clear_script();
	if (random.percent(40))
		return;
	for (u32 i = random.below(6); i; i--) {
		static constexpr s32 soft[] = {
			-errno_intr, -errno_again, -errno_canceled, 512, 1024, 300, 1, in_full
		};
		static constexpr s32 hard[] = { -errno_io, -errno_nospc, -errno_fault };
		bool is_hard = errors && random.percent(10);
		s32 result = is_hard ? hard[random.below(3)] : soft[random.below(8)];
		// A sync is lost for good: rarely.
		u8 op = is_hard && random.percent(90) ? static_cast<u8>(random.below(2))
			: random.percent(50)          ? any_op
						      : static_cast<u8>(random.below(6));
		w.engine.script(op, result, random.below(4));
	}
	static constexpr int refusals[] = { errno_again, errno_busy, errno_intr, errno_nomem };
	if (random.percent(40))
		w.engine.script_submit(refusals[random.below(4)], random.below(5));
}

void Soak::settle_memory()
{
	static constexpr u32 percents[] = { 0, 0, 10, 50, 90, 100 };
	w.k.headers.refuse_percent = percents[random.below(6)];
	w.k.chunks.refuse_percent = percents[random.below(6)];
}

void Soak::host_step()
{
	u32 n = w.engine.with_host();
	switch (random.below(12)) {
	case 0:
	case 1:
	case 2:
		if (n)
			w.engine.complete(random.below(n));
		break;
	case 3:
		w.engine.complete_all(random.percent(50));
		break;
	case 4:
	case 5:
		w.interrupt();
		break;
	case 6:
		w.expire();
		break;
	case 7:
		if (random.percent(10) && pendings)
			w.queue.timeout(pending[random.below(pendings)]->rq, 30000);
		break;
	case 8:
		if (random.percent(30))
			w.queue.commit();
		break;
	case 9:
		if (random.percent(20))
			script();
		break;
	case 10:
		if (random.percent(10))
			settle_memory();
		break;
	default:
		w.engine.hold = random.percent(70);
		w.engine.lose_wakeups = random.percent(10);
		w.engine.at_listen = random.below(4);
	}
}

bool run(u32 seed)
{
	Random dice(~static_cast<u64>(seed));
	Fixture f({ .sync_writes = dice.percent(15), .faults = dice.percent(20), .file_bytes = disk_bytes });
	World &w = *f;
	auto *state = static_cast<Soak *>(ubd_test_alloc(sizeof(Soak)));
	Soak &run = *new (Place{ state }) Soak(w, seed);
	w.engine.ring = 1 + dice.below(dice.percent(50) ? 3 : 20);
	w.engine.limit = 1 + dice.below(dice.percent(50) ? 4 : 40);
	w.engine.take = 1 + dice.below(dice.percent(50) ? 2 : 40);
	w.engine.no_punch = dice.percent(20);
	w.engine.no_zero = dice.percent(20);
	w.engine.obeys_cancel = dice.percent(50);
	w.engine.can_cancel = dice.percent(80);
	run.errors = dice.percent(30);
	run.left = 40 + dice.below(80);
	w.k.random = &run.random;
	w.k.on_end = on_end;
	w.k.context = &run;
	run.settle_memory();
	for (u32 steps = 0; (run.left || w.pending()) && !run.bad; steps++) {
		if (run.random.percent(40))
			run.send();
		run.host_step();
		if (steps > 200000)
			run.fail("no end");
	}
	if (run.unsent)
		w.queue.commit();
	w.engine.clear_script();
	if (!w.settle())
		run.fail("stalled");
	if (asserts_failed())
		run.fail("an invariant was broken");
	for (u32 s = 0; s < disk_sectors; s++)
		if (!run.unknown[s] && __builtin_memcmp(w.engine.content(0) + s * sector_bytes,
							run.model + s * sector_bytes, sector_bytes))
			run.fail("the disk is not the model");
	bool ok = !run.bad;
	w.k.random = nullptr;
	w.k.on_end = nullptr;
	run.~Soak();
	ubd_test_free(state);
	return ok;
}

UBD_CASE(seeds)
{
	for (u32 seed = 0; seed < ubd_test_seeds(); seed++)
		if (!run(seed))
			return;
}

} // namespace

const ubd_test_case ubd_suite_soak[] = {
	UBD_ENTRY(seeds),
	{ nullptr, nullptr },
};
