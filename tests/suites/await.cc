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

// What the host refuses for now is tried again after a pause of the guest's clock.
UBD_CASE(a_pause_is_the_guests)
{
	Fixture f(awaiting());
	World &w = *f;
	w.engine.script(static_cast<u8>(HostOp::read), -errno_again);
	FakeRequest &r = w.send_new(UBD_OP_READ, 0, 4096);
	CHECK(!r.ended);
	CHECK(w.k.timer_ms);
	CHECK(w.expire());
	CHECK(r.ok());
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

} // namespace

const ubd_test_case ubd_suite_await[] = {
	UBD_ENTRY(done_when_it_was_sent),
	UBD_ENTRY(they_end_by_tickets),
	UBD_ENTRY(a_slow_host),
	UBD_ENTRY(a_pause_is_the_guests),
	UBD_ENTRY(a_reboot_may_give_up),
	UBD_ENTRY(a_commit_is_awaited),
	{},
};
