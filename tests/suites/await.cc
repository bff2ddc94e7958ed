// SPDX-License-Identifier: GPL-2.0-only
/*
 * Time travel: what the host has is awaited at once, and what happens in the guest
 * does not depend on how fast the host is or on what it does first.
 */
#include "fake.hh"

using namespace ubd;
using namespace ubd::test;

namespace
{

constexpr u64 us = 1000;

WorldConfig awaiting()
{
	WorldConfig c;
	c.await_host = true;
	c.poll_ns = 200 * us; // of no effect
	return c;
}

UBD_CASE(done_when_it_was_sent)
{
	Fixture f(awaiting());
	World &w = *f;
	w.engine.hold = true; // nothing is complete when it is handed over
	static constexpr ubd_op ops[] = { UBD_OP_READ, UBD_OP_WRITE, UBD_OP_FLUSH };
	for (const ubd_op op : ops)
		CHECK(w.send_new(op, 0, op == UBD_OP_FLUSH ? 0 : 4096).ok());
	CHECK(w.engine.waits >= 3);
	CHECK_EQ(w.stats().in_flight, 0);
	CHECK_EQ(w.stats().missed_wakeups, 0);
	CHECK_EQ(w.stats().interrupts, 0);
	CHECK_EQ(w.k.poll_calls, 0);
}

// In the order in which they were sent, though the host does the last one first.
UBD_CASE(they_end_by_tickets)
{
	struct Ends {
		u64 ticket[16];
		u32 count = 0;
	} ends;
	Fixture f(awaiting());
	World &w = *f;
	w.engine.hold = true;
	w.engine.last_first = true;
	w.k.context = &ends;
	w.k.on_end = [](void *context, FakeRequest &r) {
		Ends &e = *static_cast<Ends *>(context);
		e.ticket[e.count++ % 16] = r.rq.ticket;
	};
	for (u32 i = 0; i < 8; i++)
		w.send(w.make(i % 2 ? UBD_OP_READ : UBD_OP_WRITE, 8 * i, 4096), i == 7);
	w.k.on_end = nullptr;
	CHECK_EQ(ends.count, 8);
	for (u32 i = 0; i < 8; i++)
		CHECK_EQ(ends.ticket[i], i);
}

// It is said once, and nothing is given up.
UBD_CASE(a_slow_host)
{
	Fixture f(awaiting());
	World &w = *f;
	w.engine.hold = true;
	w.engine.slowness = 350; // pauses of 100 ms
	CHECK(w.send_new(UBD_OP_WRITE, 0, 4096).ok());
	CHECK_EQ(log_lines(), 1);
	CHECK(log_has("the host takes long for I/O, and the guest's clock stands"));
	CHECK(w.send_new(UBD_OP_WRITE, 0, 4096).ok());
	CHECK_EQ(log_lines(), 2); // that is another one
}

// What the host refuses for now is tried again after a pause, of which the guest sees
// nothing. For want of memory it is not tried for ever.
UBD_CASE(a_pause_is_the_hosts)
{
	Fixture f(awaiting());
	World &w = *f;
	const u64 before = w.k.now_ms;
	w.engine.script(static_cast<u8>(HostOp::read), -errno_again);
	CHECK(w.send_new(UBD_OP_READ, 0, 4096).ok());
	CHECK_EQ(w.k.now_ms - before, 100);
	w.engine.script(static_cast<u8>(HostOp::read), -errno_nomem, for_ever);
	CHECK_EQ((w.send_new(UBD_OP_READ, 0, 4096).status()), UBD_STATUS_IOERR);
	CHECK_EQ(w.k.now_ms - before, 1700);
}

UBD_CASE(a_difficult_host)
{
	Fixture f(awaiting());
	World &w = *f;
	w.engine.hold = true;
	w.k.headers.limit = w.k.chunks.limit = 0;
	w.engine.script(any_op, -errno_again, 20);
	w.engine.script(any_op, -errno_intr, 200);
	w.engine.script(any_op, 512, 20);
	w.engine.script_submit(errno_again, 10);
	w.engine.script_submit(errno_intr, 100);
	for (u32 i = 0; i < 5; i++)
		w.send(w.make(UBD_OP_READ, i, 4096), i == 4);
	CHECK_EQ(w.pending(), 0);
}

UBD_CASE(a_reboot_may_give_up)
{
	Fixture f(awaiting());
	World &w = *f;
	w.queue.go_synchronous();
	w.engine.hold = true;
	w.engine.slowness = 5;
	CHECK(w.send_new(UBD_OP_WRITE, 0, 4096).ok());
}

// A COW file's bits, too, when the guest's clock says so.
UBD_CASE(a_commit_is_awaited)
{
	WorldConfig c = awaiting();
	c.cow_sectors = 2048;
	Fixture f(c);
	World &w = *f;
	CHECK(w.send_new(UBD_OP_WRITE, 0, 4096).ok());
	w.engine.hold = true;
	for (u32 i = 0; i < 20 && !w.stats().commits; i++)
		CHECK(w.expire());
	CHECK_EQ(w.stats().commits, 1);
	CHECK_EQ(w.stats().dirty_sectors, 0);
}

// At once when the guest ends: there is no other time.
UBD_CASE(a_reboot_commits)
{
	WorldConfig c = awaiting();
	c.cow_sectors = 1024;
	Fixture f(c);
	World &w = *f;
	w.engine.hold = true;
	CHECK((w.send_new(UBD_OP_WRITE, 9, 512).ok()));
	CHECK_EQ(w.stats().commits, 0);
	w.queue.go_synchronous();
	CHECK_EQ(w.stats().commits, 1);
}

// All that two runs of one workload could differ in.
struct Run {
	ubd_stats stats;
	u64 order; // in which requests ended
	u64 asked; // what the host was asked for, in order
};

u64 mixed(u64 a, u64 b)
{
	return (a ^ b) * 0x9e3779b97f4a7c15ull + (a >> 29);
}

// On a host that completes in the order of a seed, slowly or not.
Run run(u64 seed, bool cow, u32 slowness)
{
	WorldConfig c = awaiting();
	c.cow_sectors = cow ? 1024 : 0;
	Fixture f(c);
	World &w = *f;
	Random host(seed), guest(7);
	w.engine.hold = true;
	w.engine.any_order = seed ? &host : nullptr;
	w.engine.slowness = slowness;
	w.engine.limit = 6;
	FakeRequest *sent[60];
	for (u32 i = 0; i < 60; i++) {
		static constexpr u8 ops[] = { UBD_OP_READ,  UBD_OP_WRITE,   UBD_OP_WRITE,
					      UBD_OP_FLUSH, UBD_OP_DISCARD, UBD_OP_WRITE_ZEROES };
		const u8 op = ops[guest.below(6)];
		const bool changes = op == UBD_OP_WRITE || op == UBD_OP_WRITE_ZEROES;
		const bool fua = guest.percent(50) && changes;
		const bool flush = op == UBD_OP_FLUSH;
		sent[i] = &w.make(op, flush ? ~0ull : i * 16, flush ? 0 : 512 * (1 + guest.below(16)),
				  fua ? UBD_RQ_FUA : 0, 512);
		w.send(*sent[i], i % 12 == 11);
		CHECK(i % 12 != 11 || !w.pending());
		if (i % 24 == 23)
			w.expire();
	}
	Run r{ w.stats(), 0, 0 };
	for (FakeRequest *s : sent)
		r.order = mixed(r.order, s->end_order);
	for (u64 i = 0; i < w.engine.traces; i++) {
		const Trace &t = w.engine.trace(i);
		r.asked = mixed(mixed(mixed(mixed(r.asked, static_cast<u64>(t.op)), t.ticket), t.offset), t.bytes);
	}
	return r;
}

void compare_runs(bool cow)
{
	const Run first = run(0, cow, 0);
	CHECK(first.stats.chunks > 40);
	for (u64 seed = 1; seed < 30; seed++) {
		const Run other = run(seed, cow, static_cast<u32>(seed % 3));
		CHECK_EQ(other.order, first.order);
		CHECK_EQ(other.asked, first.asked);
		CHECK(!__builtin_memcmp(&other.stats, &first.stats, sizeof(ubd_stats)));
	}
}

UBD_CASE(the_order_of_the_host_does_not_show)
{
	compare_runs(false);
}

UBD_CASE(nor_on_a_cow_device)
{
	compare_runs(true);
}

// What faults on demand make late is waited for, by the host's clock.
UBD_CASE(delays)
{
	WorldConfig c = awaiting();
	c.faults = true;
	Fixture f(c);
	World &w = *f;
	FaultRules rules;
	static constexpr char text[] = "any delay=20000 times=3; any delay=70";
	REQUIRE((!FaultRules::parse(text, sizeof(text) - 1, rules)));
	w.faults.set(rules);
	w.engine.hold = true;
	FakeRequest *r[8];
	for (u32 i = 0; i < 8; i++) {
		r[i] = &w.make(i % 2 ? UBD_OP_WRITE : UBD_OP_READ, i, 512);
		w.send(*r[i], i == 7);
	}
	for (u32 i = 0; i < 8; i++)
		CHECK_EQ(r[i]->end_order, i + 1);
	CHECK(w.k.now_ms >= 21000);
	CHECK(log_has("the guest's clock stands"));
}

// An error is the request's own, in whatever order it came.
UBD_CASE(errors)
{
	Fixture f(awaiting());
	World &w = *f;
	Random host(3);
	w.engine.hold = true;
	w.engine.any_order = &host;
	w.engine.script(static_cast<u8>(HostOp::write), -errno_nospc, for_ever);
	FakeRequest &a = w.make(UBD_OP_READ, 0, 512), &b = w.make(UBD_OP_WRITE, 8, 512);
	FakeRequest &c = w.make(UBD_OP_READ, 16, 512);
	w.send(a, false);
	w.send(b, false);
	w.send(c);
	CHECK(a.ok() && c.ok());
	CHECK_EQ(b.status(), UBD_STATUS_NOSPC);
}

} // namespace

const ubd_test_case ubd_suite_await[] = {
	UBD_ENTRY(done_when_it_was_sent),
	UBD_ENTRY(they_end_by_tickets),
	UBD_ENTRY(a_slow_host),
	UBD_ENTRY(a_pause_is_the_hosts),
	UBD_ENTRY(a_difficult_host),
	UBD_ENTRY(a_reboot_may_give_up),
	UBD_ENTRY(a_commit_is_awaited),
	UBD_ENTRY(a_reboot_commits),
	UBD_ENTRY(the_order_of_the_host_does_not_show),
	UBD_ENTRY(nor_on_a_cow_device),
	UBD_ENTRY(delays),
	UBD_ENTRY(errors),
	{},
};
