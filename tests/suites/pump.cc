// SPDX-License-Identifier: GPL-2.0-only
/*
 * The pump: batches, one host call for each, inline completions, interrupts,
 * announcements, requests sent from completion code, refusals of the host's
 * submit call, synchronous mode.
 */
#include "fake.hh"

using namespace ubd;
using namespace ubd::test;

namespace
{

UBD_CASE(nothing_before_commit)
{
	Fixture f;
	World &w = *f;
	w.engine.hold = true;
	for (u32 i = 0; i < 10; i++)
		w.send(w.make(UBD_OP_READ, i, 512), false);
	CHECK_EQ(w.engine.traces, 0);
	CHECK_EQ(w.engine.submits, 0);
	CHECK_EQ(w.stats().queued, 10);
	CHECK_EQ(w.stats().in_flight, 0);
	w.queue.commit();
	CHECK_EQ(w.engine.with_host(), 10);
	CHECK_EQ(w.engine.submits, 1);
	CHECK_EQ(w.stats().queued, 0);
	CHECK_EQ(w.stats().in_flight, 10);
	CHECK(w.settle());
}

UBD_CASE(last_commits_the_batch_by_one_call)
{
	Fixture f;
	World &w = *f;
	w.engine.hold = true;
	for (u32 i = 0; i < 10; i++)
		w.send(w.make(UBD_OP_READ, i, 512), i == 9);
	CHECK_EQ(w.engine.submits, 1);
	CHECK_EQ(w.engine.taken_last, 10);
	CHECK_EQ(w.stats().submit_calls, 1);
	CHECK(w.settle());
}

UBD_CASE(commit_of_nothing)
{
	Fixture f;
	World &w = *f;
	w.queue.commit();
	w.queue.interrupt();
	w.queue.timer();
	CHECK_EQ(w.engine.submits, 0);
	CHECK_EQ(w.stats().interrupts, 0);
	CHECK_EQ(w.k.timer_ms, 0);
}

// A read that the host completes at once costs no interrupt.
UBD_CASE(inline_completions_are_silent)
{
	Fixture f;
	World &w = *f;
	FakeRequest &r = w.send_new(UBD_OP_READ, 0, 4096);
	CHECK(r.ok());
	CHECK(!w.engine.announced());
	CHECK(w.engine.listening());
	CHECK_EQ(w.stats().inline_completions, 1);
	CHECK_EQ(w.stats().interrupt_completions, 0);
	CHECK_EQ(w.stats().missed_wakeups, 0);
}

UBD_CASE(late_completions_come_by_interrupt)
{
	Fixture f;
	World &w = *f;
	w.engine.hold = true;
	FakeRequest &r = w.send_new(UBD_OP_READ, 0, 4096);
	CHECK(!r.ended);
	CHECK(w.engine.listening());
	w.engine.complete(0);
	CHECK(w.interrupt());
	CHECK(r.ok());
	CHECK_EQ(w.stats().interrupts, 1);
	CHECK_EQ(w.stats().interrupt_completions, 1);
	CHECK_EQ(w.stats().inline_completions, 0);
}

UBD_CASE(one_interrupt_drains_a_burst)
{
	Fixture f;
	World &w = *f;
	w.engine.hold = true;
	w.engine.limit = w.engine.ring = 200;
	for (u32 i = 0; i < 200; i++)
		w.send(w.make(UBD_OP_READ, i, 512), i == 199);
	w.engine.complete_all(true);
	CHECK(w.interrupt());
	CHECK_EQ(w.pending(), 0);
	CHECK_EQ(w.stats().interrupts, 1);
	CHECK_EQ(w.stats().interrupt_completions, 200);
}

// A completion makes room for what waits: the interrupt pumps.
UBD_CASE(an_interrupt_runs_the_pump)
{
	Fixture f;
	World &w = *f;
	w.engine.hold = true;
	w.engine.limit = 1;
	for (u32 i = 0; i < 5; i++)
		w.send_new(UBD_OP_READ, i, 512);
	for (u32 i = 0; i < 5; i++) {
		CHECK_EQ(w.engine.with_host(), 1);
		w.engine.complete(0);
		REQUIRE(w.interrupt());
	}
	CHECK_EQ(w.pending(), 0);
	CHECK_EQ(w.stats().interrupts, 5);
}

UBD_CASE(spurious_interrupts_do_no_harm)
{
	Fixture f;
	World &w = *f;
	w.engine.hold = true;
	w.send_new(UBD_OP_READ, 0, 512);
	for (u32 i = 0; i < 5; i++)
		w.queue.interrupt();
	CHECK_EQ(w.pending(), 1);
	CHECK(w.engine.listening());
	CHECK(w.settle());
	w.queue.interrupt();
	CHECK_EQ(w.engine.traces, 1);
}

// What completes after the last look and before the announcements are on again
// is never announced.
UBD_CASE(completions_before_listening)
{
	for (u32 n : each(1u, 2u, 5u)) {
		Fixture f;
		World &w = *f;
		w.engine.hold = true;
		for (u32 i = 0; i < n; i++)
			w.send(w.make(UBD_OP_READ, i, 512), false);
		w.engine.at_listen = n;
		w.queue.commit();
		CHECK_EQ(w.pending(), 0);
		CHECK(w.engine.listening());
		CHECK(!w.engine.announced());
		// The same when an interrupt does the serving.
		w.engine.limit = 1;
		for (u32 i = 0; i < n + 1; i++)
			w.send_new(UBD_OP_READ, i, 512);
		w.engine.at_listen = n;
		w.engine.complete(0);
		CHECK(w.interrupt());
		CHECK_EQ(w.pending(), 0);
	}
}

// While anything is with the host the watch is armed, and finds what no
// announcement told.
UBD_CASE(the_watch_finds_lost_wakeups)
{
	Fixture f;
	World &w = *f;
	w.engine.hold = true;
	w.engine.lose_wakeups = true;
	FakeRequest &r = w.send_new(UBD_OP_READ, 0, 512);
	CHECK_EQ(w.k.timer_ms, 1000);
	CHECK(w.expire());
	CHECK(!r.ended);
	CHECK_EQ(w.k.timer_ms, 1000);
	w.engine.complete(0);
	CHECK(!w.interrupt());
	CHECK(w.expire());
	CHECK(r.ok());
	CHECK_EQ(w.stats().missed_wakeups, 1);
}

// Only what was there before the timer looked is a missed wake-up.
UBD_CASE(a_retry_by_the_timer_is_no_missed_wakeup)
{
	Fixture f;
	World &w = *f;
	w.engine.script(static_cast<u8>(HostOp::read), -errno_again);
	FakeRequest &r = w.send_new(UBD_OP_READ, 0, 512);
	CHECK(w.expire());
	CHECK(r.ok());
	CHECK_EQ(w.stats().missed_wakeups, 0);
}

// It looks once more after the last request, and then no more.
UBD_CASE(an_idle_queue_arms_no_timer)
{
	Fixture f;
	World &w = *f;
	w.send_new(UBD_OP_READ, 0, 512);
	w.expire();
	CHECK_EQ(w.k.timer_ms, 0);
	w.engine.hold = true;
	w.send_new(UBD_OP_READ, 0, 512);
	w.engine.complete(0);
	CHECK(w.interrupt());
	CHECK(w.expire());
	CHECK_EQ(w.k.timer_ms, 0);
}

// -- completion code sends the next request -----------------------------------------

struct Chain {
	World *w;
	u32 left;
};

void send_next(void *context, FakeRequest &)
{
	auto *c = static_cast<Chain *>(context);
	if (!c->left)
		return;
	c->left--;
	c->w->send(c->w->make(UBD_OP_READ, c->left % 1000, 512));
}

UBD_CASE(requests_from_completion_code)
{
	for (bool hold : each(false, true))
		for (bool dry : each(false, true)) {
			Fixture f;
			World &w = *f;
			Chain chain{ &w, 500 };
			w.k.on_end = send_next;
			w.k.context = &chain;
			w.engine.hold = hold;
			if (dry)
				w.k.headers.limit = w.k.chunks.limit = 0;
			w.send_new(UBD_OP_READ, 0, 512);
			CHECK(w.settle());
			CHECK_EQ(chain.left, 0);
			CHECK_EQ(w.sent(), 501);
			CHECK_EQ(w.k.end_depth_most, 1);
		}
}

// Many end at once, and each sends two more, not last, and a commit.
void send_two(void *context, FakeRequest &)
{
	auto *c = static_cast<Chain *>(context);
	for (u32 i = 0; i < 2 && c->left; i++, c->left--)
		c->w->send(c->w->make(UBD_OP_READ, c->left % 1000, 512), false);
	c->w->queue.commit();
}

UBD_CASE(bursts_from_completion_code)
{
	Fixture f;
	World &w = *f;
	Chain chain{ &w, 1000 };
	w.k.on_end = send_two;
	w.k.context = &chain;
	w.engine.limit = 7;
	w.engine.ring = 3;
	for (u32 i = 0; i < 20; i++)
		w.send(w.make(UBD_OP_READ, i, 512), i == 19);
	CHECK(w.settle());
	CHECK_EQ(w.sent(), 1020);
	CHECK_EQ(w.k.end_depth_most, 1);
}

// An interrupt, the timer and statistics from within completion code.
void come_between(void *context, FakeRequest &)
{
	auto *w = static_cast<World *>(context);
	if (w->engine.with_host())
		w->engine.complete(0);
	w->queue.interrupt();
	w->queue.timer();
	(void)w->stats();
}

UBD_CASE(interrupts_while_requests_are_ended)
{
	Fixture f;
	World &w = *f;
	w.k.on_end = come_between;
	w.k.context = &w;
	w.engine.hold = true;
	for (u32 i = 0; i < 50; i++)
		w.send(w.make(UBD_OP_READ, i, 512), i == 49);
	w.engine.complete(0);
	CHECK(w.interrupt());
	CHECK_EQ(w.pending(), 0); // each one's end completed the next
	CHECK_EQ(w.k.end_depth_most, 1);
}

// -- the host refuses to be entered ----------------------------------------------------

UBD_CASE(submit_interrupted)
{
	Fixture f;
	World &w = *f;
	w.engine.script_submit(errno_intr, 5);
	FakeRequest &r = w.send_new(UBD_OP_READ, 0, 512);
	CHECK(r.ok());
	CHECK_EQ(w.engine.submits, 6);
	CHECK_EQ(w.stats().submit_retries, 5);
	CHECK_EQ(w.engine.traces, 1); // never prepared twice
}

UBD_CASE(submit_interrupted_for_ever)
{
	Fixture f;
	World &w = *f;
	w.engine.script_submit(errno_intr, for_ever);
	FakeRequest &r = w.send_new(UBD_OP_READ, 0, 512);
	CHECK(!r.ended);
	CHECK(w.k.timer_ms > 0 && w.k.timer_ms <= 1000);
	CHECK(w.engine.submits <= 200);
	w.engine.clear_script();
	CHECK(w.expire());
	CHECK(r.ok());
}

UBD_CASE(submit_refused_with_nothing_in_flight)
{
	for (int e : each(int(errno_again), int(errno_busy), int(errno_nomem))) {
		Fixture f;
		World &w = *f;
		w.engine.script_submit(e, for_ever);
		FakeRequest &r = w.send_new(UBD_OP_READ, 0, 512);
		CHECK_EQ(w.k.timer_ms, 10);
		CHECK_EQ(w.engine.unsent(), 1);
		u32 ms = 10;
		for (u32 i = 0; i < 12; i++) {
			u32 before = w.engine.submits;
			CHECK(w.expire());
			CHECK_EQ(w.engine.submits, before + 1);
			CHECK_EQ(w.k.timer_ms, min(ms * 2, 1000u));
			ms = w.k.timer_ms;
		}
		CHECK_EQ(log_lines(), 0); // these are no errors
		w.engine.clear_script();
		CHECK(w.expire());
		CHECK(r.ok());
		CHECK_EQ(w.engine.traces, 1);
		CHECK_EQ(w.stats().submit_retries, 13);
	}
}

UBD_CASE(submit_refused_is_tried_by_the_next_completion)
{
	Fixture f;
	World &w = *f;
	w.engine.hold = true;
	w.send_new(UBD_OP_READ, 0, 512);
	w.engine.script_submit(errno_again);
	w.send_new(UBD_OP_READ, 1, 512);
	CHECK_EQ(w.engine.with_host(), 1);
	CHECK_EQ(w.engine.unsent(), 1);
	w.engine.complete(0);
	CHECK(w.interrupt());
	CHECK_EQ(w.engine.with_host(), 1);
	CHECK_EQ(w.engine.unsent(), 0);
	CHECK(w.settle());
}

UBD_CASE(submit_takes_a_part)
{
	Fixture f;
	World &w = *f;
	w.engine.hold = true;
	w.engine.take = 3;
	for (u32 i = 0; i < 10; i++)
		w.send(w.make(UBD_OP_READ, i, 512), i == 9);
	CHECK_EQ(w.engine.with_host(), 10);
	CHECK_EQ(w.engine.submits, 4);
	CHECK(w.settle());
}

// An unexpected errno is said, and the request is not lost.
UBD_CASE(submit_fails_oddly)
{
	Fixture f;
	World &w = *f;
	w.engine.script_submit(errno_nodev, 3);
	FakeRequest &r = w.send_new(UBD_OP_READ, 0, 512);
	CHECK(log_has("ubdt") && log_has("/host/file") && log_has("No such device (19)"));
	CHECK(w.settle());
	CHECK(r.ok());
}

// The pause grows with each pause that was in vain, not with the traffic.
UBD_CASE(backoff_grows_by_pauses_only)
{
	Fixture f;
	World &w = *f;
	w.engine.hold = true;
	w.engine.script(static_cast<u8>(HostOp::write), -errno_again, 2);
	FakeRequest &r = w.send_new(UBD_OP_WRITE, 0, 512);
	w.engine.complete(0);
	CHECK(w.interrupt());
	CHECK_EQ(w.k.timer_ms, 10);
	for (u32 i = 0; i < 10; i++) // requests that neither fail nor end meanwhile
		w.send_new(UBD_OP_READ, i, 512);
	CHECK_EQ(w.k.timer_ms, 10);
	CHECK(w.expire());
	REQUIRE(w.engine.with_host() == 11);
	w.engine.complete(10);
	CHECK(w.interrupt());
	CHECK_EQ(w.k.timer_ms, 20);
	CHECK(w.settle());
	CHECK(r.ok());
}

// -- nobody announces any more ------------------------------------------------------------

UBD_CASE(synchronous_mode)
{
	Fixture f;
	World &w = *f;
	w.engine.hold = true;
	w.engine.limit = 4;
	for (u32 i = 0; i < 10; i++)
		w.send_new(UBD_OP_READ, i, 512);
	CHECK_EQ(w.pending(), 10);
	w.queue.go_synchronous();
	CHECK_EQ(w.pending(), 0);
	FakeRequest &a = w.send_new(UBD_OP_WRITE, 0, 200 * 512, UBD_RQ_FUA, 512);
	CHECK(a.ok());
	FakeRequest &b = w.send_new(UBD_OP_FLUSH, ~0ull, 0);
	CHECK(b.ok());
	FakeRequest &c = w.send_new(UBD_OP_WRITE_ZEROES, 0, 4096, UBD_RQ_FUA);
	CHECK(c.ok());
	w.send(w.make(UBD_OP_READ, 0, 512), false);
	CHECK_EQ(w.pending(), 1);
	w.queue.commit();
	CHECK_EQ(w.pending(), 0);
	w.queue.go_synchronous(); // again
}

UBD_CASE(synchronous_mode_with_a_difficult_host)
{
	Fixture f;
	World &w = *f;
	w.engine.hold = true;
	w.k.headers.limit = w.k.chunks.limit = 0;
	w.engine.script(any_op, -errno_again, 20);
	w.engine.script(any_op, -errno_intr, 200);
	w.engine.script(any_op, 512, 20);
	w.engine.script_submit(errno_again, 10);
	w.engine.script_submit(errno_intr, 100);
	for (u32 i = 0; i < 5; i++)
		w.send(w.make(UBD_OP_READ, i, 4096), false);
	w.queue.go_synchronous();
	CHECK_EQ(w.pending(), 0);
}

// Short of memory, but it answers: that is no host that does nothing.
UBD_CASE(synchronous_mode_with_a_host_short_of_memory)
{
	Fixture f;
	World &w = *f;
	w.engine.hold = true;
	w.engine.slowness = 10;
	w.engine.script(any_op, -errno_nomem, 16);
	FakeRequest &r = w.send_new(UBD_OP_READ, 0, 512);
	w.queue.go_synchronous();
	CHECK(r.ok());
}

UBD_CASE(synchronous_mode_and_completion_code)
{
	Fixture f;
	World &w = *f;
	Chain chain{ &w, 100 };
	w.k.on_end = send_next;
	w.k.context = &chain;
	w.engine.hold = true;
	w.send_new(UBD_OP_READ, 0, 512);
	w.queue.go_synchronous();
	CHECK_EQ(w.pending(), 0);
	CHECK_EQ(chain.left, 0);
	CHECK_EQ(w.k.end_depth_most, 1);
}

UBD_CASE(statistics)
{
	Fixture f;
	World &w = *f;
	w.send_new(UBD_OP_READ, 0, 4096);
	w.send_new(UBD_OP_READ, 0, 512);
	w.send_new(UBD_OP_WRITE, 0, 8192);
	w.send_new(UBD_OP_WRITE, 0, 8192, UBD_RQ_FUA);
	w.send_new(UBD_OP_FLUSH, ~0ull, 0);
	w.send_new(UBD_OP_DISCARD, 0, 65536);
	w.send_new(UBD_OP_WRITE_ZEROES, 0, 65536);
	ubd_stats s;
	ubd_queue_stats(reinterpret_cast<ubd_queue *>(&w.queue), &s);
	CHECK_EQ(s.requests[UBD_OP_READ], 2);
	CHECK_EQ(s.bytes[UBD_OP_READ], 4608);
	CHECK_EQ(s.requests[UBD_OP_WRITE], 2);
	CHECK_EQ(s.bytes[UBD_OP_WRITE], 16384);
	CHECK_EQ(s.requests[UBD_OP_FLUSH], 1);
	CHECK_EQ(s.requests[UBD_OP_DISCARD], 1);
	CHECK_EQ(s.bytes[UBD_OP_DISCARD], 65536);
	CHECK_EQ(s.requests[UBD_OP_WRITE_ZEROES], 1);
	CHECK_EQ(s.chunks, 7);
	CHECK_EQ(s.inline_completions, 7);
	CHECK_EQ(s.host_syncs, 1);
	CHECK_EQ(s.host_dsync_writes, 1);
	CHECK_EQ(s.submit_calls, 7);
	CHECK_EQ(s.errors + s.chunks_continued + s.chunks_retried + s.zeroed_reads + s.submit_retries + s.interrupts +
			 s.missed_wakeups + s.timeouts + s.cancels + s.completion_overflows + s.pump_waits_memory +
			 s.pump_waits_ring + s.header_reserve_uses + s.chunk_reserve_uses + s.in_flight + s.queued,
		 0);
	CHECK_EQ(s.max_in_flight, 1);
}

UBD_CASE(overflows_are_shown)
{
	Fixture f;
	World &w = *f;
	CHECK_EQ(w.stats().completion_overflows, 0);
	w.engine.overflow_count = 3;
	CHECK_EQ(w.stats().completion_overflows, 3);
}

// The C names do what the members do.
UBD_CASE(c_interface)
{
	Fixture f;
	World &w = *f;
	auto *q = reinterpret_cast<ubd_queue *>(&w.queue);
	CHECK(ubd_header_bytes() == sizeof(Header) && ubd_chunk_bytes() == sizeof(Chunk));
	w.engine.hold = true;
	w.send(w.make(UBD_OP_READ, 0, 512), false);
	ubd_queue_commit(q);
	w.engine.complete(0);
	ubd_queue_interrupt(q);
	CHECK_EQ(w.pending(), 0);
	w.engine.lose_wakeups = true;
	FakeRequest &r = w.send_new(UBD_OP_READ, 0, 512);
	w.engine.complete(0);
	CHECK(!ubd_queue_timeout(q, &r.rq, 30000));
	w.send_new(UBD_OP_READ, 0, 512);
	w.engine.complete(0);
	ubd_queue_timer(q);
	CHECK_EQ(w.pending(), 0);
	w.send_new(UBD_OP_READ, 0, 512);
	ubd_queue_go_synchronous(q);
	CHECK_EQ(w.pending(), 0);
	FakeRequest &last = w.make(UBD_OP_READ, 0, 512);
	w.send(last, false);
	FakeRequest &end = w.make(UBD_OP_READ, 0, 512);
	w.send(end);
	CHECK(last.ok() && end.ok());
}

} // namespace

const ubd_test_case ubd_suite_pump[] = {
	UBD_ENTRY(nothing_before_commit),
	UBD_ENTRY(last_commits_the_batch_by_one_call),
	UBD_ENTRY(commit_of_nothing),
	UBD_ENTRY(inline_completions_are_silent),
	UBD_ENTRY(late_completions_come_by_interrupt),
	UBD_ENTRY(one_interrupt_drains_a_burst),
	UBD_ENTRY(an_interrupt_runs_the_pump),
	UBD_ENTRY(spurious_interrupts_do_no_harm),
	UBD_ENTRY(completions_before_listening),
	UBD_ENTRY(the_watch_finds_lost_wakeups),
	UBD_ENTRY(a_retry_by_the_timer_is_no_missed_wakeup),
	UBD_ENTRY(an_idle_queue_arms_no_timer),
	UBD_ENTRY(requests_from_completion_code),
	UBD_ENTRY(bursts_from_completion_code),
	UBD_ENTRY(interrupts_while_requests_are_ended),
	UBD_ENTRY(submit_interrupted),
	UBD_ENTRY(submit_interrupted_for_ever),
	UBD_ENTRY(submit_refused_with_nothing_in_flight),
	UBD_ENTRY(submit_refused_is_tried_by_the_next_completion),
	UBD_ENTRY(submit_takes_a_part),
	UBD_ENTRY(submit_fails_oddly),
	UBD_ENTRY(backoff_grows_by_pauses_only),
	UBD_ENTRY(synchronous_mode),
	UBD_ENTRY(synchronous_mode_with_a_difficult_host),
	UBD_ENTRY(synchronous_mode_with_a_host_short_of_memory),
	UBD_ENTRY(synchronous_mode_and_completion_code),
	UBD_ENTRY(statistics),
	UBD_ENTRY(overflows_are_shown),
	UBD_ENTRY(c_interface),
	{ nullptr, nullptr },
};
