// SPDX-License-Identifier: GPL-2.0-only
/*
 * Looking for completions before the CPU sleeps: for how long, without being
 * announced to, and that nothing is missed when it ends.
 */
#include "fake.hh"

using namespace ubd;
using namespace ubd::test;

namespace
{

constexpr u32 us = 1000;

WorldConfig polled(u32 most_us = 100)
{
	WorldConfig c;
	c.poll_ns = most_us * us;
	return c;
}

// One read that the host holds.
FakeRequest &held(World &w)
{
	w.engine.hold = true;
	return w.send_new(UBD_OP_READ, 0, 4096);
}

// As long as nobody looks, it is announced; one that is looked for is not.
UBD_CASE(what_is_looked_for_is_not_announced)
{
	Fixture f(polled());
	World &w = *f;
	FakeRequest &r = held(w);
	CHECK_EQ(w.k.poll_calls, 1);
	CHECK(w.queue.wants_poll());
	CHECK(w.engine.listening());
	w.queue.begin_poll();
	CHECK(!w.engine.listening());
	CHECK(w.queue.poll(fake_now_ns));
	CHECK(!r.ended);
	w.engine.complete(0);
	CHECK(!w.engine.announced());
	CHECK(!w.queue.poll(fake_now_ns)); // that was all
	CHECK(r.ok());
	CHECK_EQ(w.stats().polled_completions, 1);
	CHECK_EQ(w.stats().interrupts, 0);
	w.queue.end_poll();
	CHECK(w.engine.listening());
	CHECK(!w.queue.wants_poll());
}

UBD_CASE(nothing_to_look_for)
{
	Fixture f(polled());
	World &w = *f;
	CHECK(w.send_new(UBD_OP_READ, 0, 4096).ok()); // from the host's cache
	CHECK_EQ(w.k.poll_calls, 0);
	CHECK(!w.queue.wants_poll());
	w.queue.begin_poll();
	CHECK(!w.queue.poll(fake_now_ns));
	w.queue.end_poll();
	CHECK(w.engine.listening());
}

UBD_CASE(not_at_all)
{
	Fixture f(polled(0));
	World &w = *f;
	FakeRequest &r = held(w);
	CHECK_EQ(w.k.poll_calls, 0);
	CHECK(!w.queue.wants_poll());
	w.queue.begin_poll();
	CHECK(w.engine.listening());
	CHECK(!w.queue.poll(fake_now_ns));
	w.queue.end_poll();
	CHECK(w.settle());
	CHECK(r.ok());
}

// The look ends with the window, and then all is announced.
UBD_CASE(the_look_ends)
{
	Fixture f(polled());
	World &w = *f;
	FakeRequest &r = held(w);
	w.queue.begin_poll();
	fake_now_ns += 9 * us;
	CHECK(w.queue.poll(fake_now_ns));
	fake_now_ns += us;
	CHECK(!w.queue.poll(fake_now_ns));
	w.queue.end_poll();
	CHECK(w.engine.listening());
	w.engine.complete(0);
	CHECK(w.interrupt());
	CHECK(r.ok());
	CHECK_EQ(w.stats().polled_completions, 0);
}

// When the window is over, who looks can sleep: until something happens.
UBD_CASE(then_nobody_wants_it)
{
	Fixture f(polled());
	World &w = *f;
	FakeRequest &r = held(w);
	w.queue.begin_poll();
	fake_now_ns += 9 * us;
	w.queue.end_poll(); // called away
	CHECK(w.queue.wants_poll());
	w.queue.begin_poll();
	fake_now_ns += us;
	CHECK(!w.queue.poll(fake_now_ns));
	w.queue.end_poll();
	CHECK(!w.queue.wants_poll());
	w.queue.begin_poll(); // though nobody asked for it
	CHECK(w.engine.listening());
	FakeRequest &second = w.send_new(UBD_OP_READ, 8, 4096);
	CHECK(w.queue.wants_poll());
	CHECK_EQ(w.k.poll_calls, 2);
	w.engine.complete_all();
	CHECK(w.interrupt());
	CHECK(r.ok());
	CHECK(second.ok());
	CHECK(!w.queue.wants_poll());
}

// The host may ask to be entered for nothing, for as long as it likes.
UBD_CASE(a_hint_makes_it_no_longer)
{
	Fixture f(polled());
	World &w = *f;
	FakeRequest &r = held(w);
	w.engine.hints = true;
	w.queue.begin_poll();
	for (u32 i = 0; i < 9; i++) {
		fake_now_ns += us;
		CHECK(w.queue.poll(fake_now_ns));
	}
	fake_now_ns += us;
	CHECK(!w.queue.poll(fake_now_ns));
	w.queue.end_poll();
	CHECK(!w.queue.wants_poll());
	w.engine.hints = false;
	w.engine.complete(0);
	CHECK(w.interrupt());
	CHECK(r.ok());
}

// For how long it looks, in us.
u32 window_of(World &w)
{
	u32 looks = 0;
	held(w);
	w.queue.begin_poll();
	for (; w.queue.poll(fake_now_ns); looks++)
		fake_now_ns += us;
	w.queue.end_poll();
	CHECK(w.settle());
	return looks;
}

// What it looked for came with what it handed over itself: the wait is over, and the
// next completion, whenever that is, is not the end of it.
UBD_CASE(it_hands_over_and_gets_all)
{
	Fixture fresh(polled());
	const u32 wanted = window_of(*fresh);
	Fixture f(polled());
	World &w = *f;
	FakeRequest &r = held(w);
	w.queue.begin_poll();
	FakeRequest &second = w.make(UBD_OP_WRITE, 8, 4096);
	w.send(second, false);
	w.engine.hints = true;
	w.engine.hold = false;
	w.queue.poll(fake_now_ns);
	w.engine.hints = false;
	CHECK(r.ok());
	CHECK(second.ok());
	w.queue.end_poll();
	for (u32 i = 0; i < 5; i++) {
		fake_now_ns += 1000000 * us;
		CHECK(w.send_new(UBD_OP_READ, 0, 4096).ok());
	}
	CHECK_EQ(window_of(w), wanted);
}

// A clock that was read before the wait began.
UBD_CASE(the_clock_may_be_older)
{
	Fixture f(polled());
	World &w = *f;
	const u64 before = fake_now_ns;
	fake_now_ns += us;
	FakeRequest &r = held(w);
	w.queue.begin_poll();
	CHECK(w.queue.poll(before));
	w.queue.end_poll();
	w.engine.complete(0);
	CHECK(w.interrupt());
	CHECK(r.ok());
}

// What comes after the last look and before announcements are back.
UBD_CASE(nothing_is_missed_at_the_end)
{
	Fixture f(polled());
	World &w = *f;
	FakeRequest &r = held(w);
	w.queue.begin_poll();
	CHECK(w.queue.poll(fake_now_ns));
	w.engine.at_listen = 1;
	w.queue.end_poll();
	CHECK(r.ok());
	CHECK(w.engine.listening());
	CHECK(!w.engine.announced());
}

// Who submits or is interrupted meanwhile leaves announcements off.
UBD_CASE(others_act_meanwhile)
{
	Fixture f(polled());
	World &w = *f;
	FakeRequest &r = held(w);
	w.queue.begin_poll();
	FakeRequest &second = w.send_new(UBD_OP_WRITE, 8, 4096);
	CHECK(!w.engine.listening());
	w.queue.interrupt();
	CHECK(!w.engine.listening());
	CHECK(w.queue.poll(fake_now_ns));
	CHECK_EQ(w.k.poll_calls, 1); // who looks need not be asked
	w.engine.complete_all();
	CHECK(!w.queue.poll(fake_now_ns));
	CHECK(r.ok());
	CHECK(second.ok());
	w.queue.end_poll();
	CHECK(w.engine.listening());
}

// A completion makes room: what waits goes to the host at once.
UBD_CASE(a_look_runs_the_pump)
{
	Fixture f(polled());
	World &w = *f;
	w.engine.limit = 1;
	FakeRequest &first = held(w);
	FakeRequest &second = w.send_new(UBD_OP_READ, 8, 4096);
	w.queue.begin_poll();
	w.engine.complete(0);
	CHECK(w.queue.poll(fake_now_ns));
	CHECK(first.ok());
	CHECK_EQ(w.engine.with_host(), 1);
	w.engine.complete(0);
	CHECK(!w.queue.poll(fake_now_ns));
	CHECK(second.ok());
	w.queue.end_poll();
}

// One wait of so many microseconds, that ends by an interrupt.
void wait_once(World &w, u32 for_us)
{
	FakeRequest &r = w.send_new(UBD_OP_READ, 0, 4096);
	fake_now_ns += for_us * us;
	w.engine.complete(0);
	(void)w.interrupt();
	CHECK(r.ok());
}

// Long waits are not worth it; short ones are again.
UBD_CASE(it_learns_from_waits)
{
	Fixture f(polled());
	World &w = *f;
	w.engine.hold = true;
	for (u32 i = 0; i < 8; i++)
		wait_once(w, 5000);
	const u32 asked = w.k.poll_calls;
	wait_once(w, 5000);
	CHECK_EQ(w.k.poll_calls, asked);
	wait_once(w, 40);
	wait_once(w, 40);
	CHECK_EQ(w.k.poll_calls, asked + 1);
}

UBD_CASE(the_window)
{
	PollWindow none(0);
	none.waited(1);
	CHECK_EQ(none.ns(), 0);
	PollWindow w(100 * us);
	CHECK_EQ(w.ns(), 10 * us);
	w.waited(10 * us); // long enough
	CHECK_EQ(w.ns(), 10 * us);
	w.waited(11 * us);
	CHECK_EQ(w.ns(), 20 * us);
	for (u32 i = 0; i < 10; i++)
		w.waited(100 * us);
	CHECK_EQ(w.ns(), 100 * us);
	w.waited(101 * us);
	CHECK_EQ(w.ns(), 50 * us);
	for (u32 i = 0; i < 10; i++)
		w.waited(1000000 * us);
	CHECK_EQ(w.ns(), 0);
	w.waited(99 * us);
	CHECK_EQ(w.ns(), 10 * us);
	PollWindow small(3 * us);
	CHECK_EQ(small.ns(), 3 * us);
}

// A device that goes waits for the commit that uses its memory, and begins none; but
// at a reboot nobody else would.
UBD_CASE(no_commit_outlives_the_device)
{
	WorldConfig c;
	c.cow_sectors = 512;
	c.commit_ms = 1000;
	Fixture f(c);
	World &w = *f;
	CHECK(w.send_new(UBD_OP_WRITE, 0, 4096).ok());
	w.engine.hold = true;
	CHECK(w.expire());
	CHECK_EQ(w.engine.with_host(), 1); // its fdatasync
	CHECK(!w.queue.drained());
	for (u32 i = 0; i < 3; i++) { // data, bits, and that they are durable
		CHECK(!w.queue.drained());
		w.engine.complete(0);
		CHECK(w.interrupt());
	}
	CHECK(w.queue.drained());
	CHECK_EQ(w.stats().commits, 1);
	FakeRequest &read = w.send_new(UBD_OP_READ, 0, 4096);
	CHECK(!w.queue.drained());
	w.engine.complete(0);
	CHECK(w.interrupt());
	CHECK(read.ok());
	w.engine.hold = false;
	CHECK(w.send_new(UBD_OP_WRITE, 64, 4096).ok());
	CHECK(w.expire());
	CHECK_EQ(w.stats().commits, 1);
	w.queue.go_synchronous();
	CHECK_EQ(w.stats().commits, 2);
	CHECK(w.queue.drained());
	CHECK(w.send_new(UBD_OP_WRITE, 128, 4096).ok());
	CHECK_EQ(w.stats().commits, 2);
}

} // namespace

const ubd_test_case ubd_suite_polling[] = {
	UBD_ENTRY(what_is_looked_for_is_not_announced),
	UBD_ENTRY(nothing_to_look_for),
	UBD_ENTRY(not_at_all),
	UBD_ENTRY(the_look_ends),
	UBD_ENTRY(then_nobody_wants_it),
	UBD_ENTRY(a_hint_makes_it_no_longer),
	UBD_ENTRY(it_hands_over_and_gets_all),
	UBD_ENTRY(the_clock_may_be_older),
	UBD_ENTRY(nothing_is_missed_at_the_end),
	UBD_ENTRY(others_act_meanwhile),
	UBD_ENTRY(a_look_runs_the_pump),
	UBD_ENTRY(it_learns_from_waits),
	UBD_ENTRY(the_window),
	UBD_ENTRY(no_commit_outlives_the_device),
	{ nullptr, nullptr },
};
