// SPDX-License-Identifier: GPL-2.0-only
/*
 * A request that takes long: it is named, the host is asked to give it back,
 * and it is waited for. It never ends while the host has its memory.
 */
#include "fake.hh"

using namespace ubd;
using namespace ubd::test;

namespace
{

UBD_CASE(says_what_hangs_and_waits_on)
{
	Fixture f;
	World &w = *f;
	w.engine.hold = true;
	FakeRequest &r = w.send_new(UBD_OP_WRITE, 24, 8192);
	CHECK(w.queue.timeout(r.rq, 30000));
	CHECK(!r.ended);
	CHECK(log_has("ubdt: /host/file: write of 16 sectors at sector 24 has not ended for 30000 "
		      "ms: 1 parts are with the host"));
	CHECK_EQ(w.engine.cancels, 1);
	CHECK_EQ(w.stats().timeouts, 1);
	CHECK_EQ(w.stats().cancels, 1);
	// Asked once, named each time.
	CHECK(w.queue.timeout(r.rq, 30000));
	CHECK_EQ(w.engine.cancels, 1);
	CHECK_EQ(w.stats().timeouts, 2);
	CHECK_EQ(log_lines(), 2);
	CHECK(w.settle());
	CHECK(r.ok());
}

UBD_CASE(a_cancelled_part_is_tried_again)
{
	Fixture f;
	World &w = *f;
	w.engine.hold = true;
	w.engine.obeys_cancel = true;
	FakeRequest &r = w.make(UBD_OP_WRITE, 24, 8192);
	r.write_pattern(5);
	w.send(r);
	CHECK(w.queue.timeout(r.rq, 30000));
	CHECK(w.interrupt());
	CHECK(!r.ended);
	CHECK(w.expire());
	CHECK_EQ(w.engine.with_host(), 1);
	CHECK_EQ(w.engine.traces, 2);
	// The second try may be asked back as well.
	CHECK(w.queue.timeout(r.rq, 30000));
	CHECK_EQ(w.engine.cancels, 2);
	w.engine.obeys_cancel = false;
	CHECK(w.settle());
	REQUIRE(r.ok());
	FakeRequest &back = w.send_new(UBD_OP_READ, 24, 8192);
	CHECK(w.settle());
	CHECK(back.has_pattern(5));
}

UBD_CASE(a_cancel_that_cannot_be_asked_is_asked_later)
{
	Fixture f;
	World &w = *f;
	w.engine.hold = true;
	w.engine.can_cancel = false;
	FakeRequest &r = w.send_new(UBD_OP_READ, 0, 512);
	CHECK(w.queue.timeout(r.rq, 30000));
	CHECK_EQ(w.stats().cancels, 0);
	w.engine.can_cancel = true;
	CHECK(w.queue.timeout(r.rq, 30000));
	CHECK_EQ(w.stats().cancels, 1);
	CHECK(w.settle());
}

// Only the announcement was lost: found, counted, nobody alarmed.
UBD_CASE(finds_a_missed_wakeup)
{
	Fixture f;
	World &w = *f;
	w.engine.hold = true;
	w.engine.lose_wakeups = true;
	FakeRequest &r = w.send_new(UBD_OP_READ, 0, 512);
	FakeRequest &other = w.send_new(UBD_OP_READ, 1, 512);
	w.engine.complete_all();
	CHECK(!w.queue.timeout(r.rq, 30000));
	CHECK(r.ok() && other.ok());
	CHECK_EQ(w.stats().missed_wakeups, 2);
	CHECK_EQ(w.stats().timeouts, 0);
	CHECK_EQ(log_lines(), 0);
}

struct TwoDone {
	World *w;
	FakeRequest *first, *second;
};

void time_out_the_second(void *context, FakeRequest &r)
{
	auto &two = *static_cast<TwoDone *>(context);
	if (&r == two.first)
		CHECK(!two.w->queue.timeout(two.second->rq, 30000));
}

// It is done, and somebody is about to end it: nothing hangs.
UBD_CASE(of_a_request_that_is_done)
{
	Fixture f;
	World &w = *f;
	w.engine.hold = true;
	TwoDone two{ &w, &w.send_new(UBD_OP_READ, 0, 512), &w.send_new(UBD_OP_READ, 1, 512) };
	w.k.on_end = time_out_the_second;
	w.k.context = &two;
	w.engine.complete_all();
	CHECK(w.interrupt());
	CHECK(two.first->ok() && two.second->ok());
	CHECK_EQ(w.stats().timeouts, 0);
	CHECK_EQ(w.engine.cancels, 0);
	CHECK_EQ(log_lines(), 0);
}

UBD_CASE(of_a_request_that_has_not_begun)
{
	Fixture f;
	World &w = *f;
	w.engine.hold = true;
	w.engine.limit = 1;
	w.send_new(UBD_OP_READ, 0, 512);
	w.send_new(UBD_OP_READ, 1, 512);
	FakeRequest &r = w.send_new(UBD_OP_READ, 2, 512);
	CHECK(w.queue.timeout(r.rq, 30000));
	CHECK(log_has("none has begun"));
	CHECK_EQ(w.engine.cancels, 0);
	CHECK(w.settle());
}

UBD_CASE(of_a_request_with_many_parts)
{
	Fixture f;
	World &w = *f;
	w.engine.hold = true;
	FakeRequest &r = w.send_new(UBD_OP_READ, 0, 4 * 64 * 512, 0, 512);
	CHECK_EQ(w.engine.with_host(), 4);
	w.engine.script(static_cast<u8>(HostOp::read), -errno_again);
	w.engine.complete(2);
	CHECK(w.interrupt());
	CHECK(w.queue.timeout(r.rq, 30000));
	CHECK(log_has("3 parts are with the host, 1 wait for the next try"));
	CHECK_EQ(w.engine.cancels, 3);
	CHECK(w.settle());
	CHECK(r.ok());
}

UBD_CASE(of_what_the_host_did_not_take)
{
	Fixture f;
	World &w = *f;
	w.engine.script_submit(errno_again, 3);
	FakeRequest &r = w.send_new(UBD_OP_READ, 0, 512);
	CHECK(w.queue.timeout(r.rq, 30000));
	CHECK(w.settle());
	CHECK(r.ok());
}

// What completes while the cancel is submitted must be announced, or found.
UBD_CASE(completions_during_the_timeout_are_not_lost)
{
	Fixture f;
	World &w = *f;
	w.engine.hold = true;
	w.engine.obeys_cancel = true;
	FakeRequest *r[4];
	for (u32 i = 0; i < 4; i++)
		r[i] = &w.send_new(UBD_OP_READ, i, 512);
	CHECK(w.queue.timeout(r[0]->rq, 30000));
	CHECK(w.engine.announced());
	w.engine.complete_all();
	CHECK(w.interrupt());
	CHECK_EQ(w.pending(), 1);
	CHECK(w.settle());
	for (FakeRequest *q : r)
		CHECK(q->ok());
}

} // namespace

const ubd_test_case ubd_suite_timeouts[] = {
	UBD_ENTRY(says_what_hangs_and_waits_on),
	UBD_ENTRY(a_cancelled_part_is_tried_again),
	UBD_ENTRY(a_cancel_that_cannot_be_asked_is_asked_later),
	UBD_ENTRY(finds_a_missed_wakeup),
	UBD_ENTRY(of_a_request_that_is_done),
	UBD_ENTRY(of_a_request_that_has_not_begun),
	UBD_ENTRY(of_a_request_with_many_parts),
	UBD_ENTRY(of_what_the_host_did_not_take),
	UBD_ENTRY(completions_during_the_timeout_are_not_lost),
	{ nullptr, nullptr },
};
