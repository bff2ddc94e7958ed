// SPDX-License-Identifier: GPL-2.0-only
/*
 * Order: the host is handed requests in the order of their tickets, whatever
 * waits, and requests that were ended without the host do not disturb it. The
 * script engine checks each prepare(); the cases bring about what could upset it.
 */
#include "fake.hh"

using namespace ubd;
using namespace ubd::test;

namespace
{

// Fresh parts by ticket, from 0 on, each ticket present unless `skip`.
void check_fresh(World &w, u64 tickets, u64 skip = ~0ull)
{
	u64 next = 0;
	for (u64 i = 0; i < w.engine.traces; i++) {
		const Trace &t = w.engine.trace(i);
		if (!t.fresh)
			continue;
		if (next == skip)
			next++;
		if (t.ticket != next && t.ticket + 1 != next)
			failed_here(__FILE__, __LINE__, "part %llu has ticket %llu, expected %llu", i, t.ticket, next);
		next = t.ticket + 1;
	}
	CHECK_EQ(next, tickets);
}

UBD_CASE(numbered_from_zero)
{
	Fixture f;
	World &w = *f;
	for (u32 i = 0; i < 5; i++) {
		FakeRequest &r = w.send_new(UBD_OP_READ, i, 512);
		CHECK_EQ(r.rq.ticket, i);
	}
	check_fresh(w, 5);
}

UBD_CASE(a_batch_in_order)
{
	Fixture f;
	World &w = *f;
	w.engine.hold = true;
	for (u32 i = 0; i < 40; i++)
		w.send(w.make(i % 3 ? UBD_OP_READ : UBD_OP_WRITE, 40 - i, 512), i == 39);
	CHECK_EQ(w.engine.with_host(), 40);
	check_fresh(w, 40);
	CHECK(w.settle());
}

// Large before small: the small must not overtake while the large one waits.
UBD_CASE(no_overtaking_without_memory)
{
	Fixture f;
	World &w = *f;
	w.engine.hold = true;
	w.k.chunks.limit = 2;
	w.send_new(UBD_OP_READ, 0, 300 * 512, 0, 512);
	for (u32 i = 0; i < 10; i++)
		w.send_new(UBD_OP_READ, 400 + i, 512);
	while (w.pending()) {
		// The last first: what frees memory is not what came first.
		w.engine.complete(w.engine.with_host() - 1);
		REQUIRE(w.interrupt());
	}
	check_fresh(w, 11);
}

UBD_CASE(no_overtaking_without_ring)
{
	Fixture f;
	World &w = *f;
	w.engine.hold = true;
	w.engine.ring = 1;
	w.engine.limit = 3;
	Random random(7);
	for (u32 i = 0; i < 30; i++)
		w.send_new(UBD_OP_READ, i, i % 4 == 0 ? 100 * 512 : 512, 0, 512);
	while (w.pending()) {
		w.engine.complete(random.below(w.engine.with_host()));
		REQUIRE(w.interrupt());
	}
	check_fresh(w, 30);
}

UBD_CASE(order_survives_shorts_and_retries)
{
	Fixture f;
	World &w = *f;
	w.engine.hold = true;
	w.engine.limit = 4;
	for (u32 i = 0; i < 8; i++)
		w.engine.script(static_cast<u8>(HostOp::write), i % 2 ? -errno_again : 512, 3);
	for (u32 i = 0; i < 20; i++)
		w.send_new(UBD_OP_WRITE, 8 * i, 4096);
	CHECK(w.settle());
	check_fresh(w, 20);
	CHECK(w.stats().chunks_continued > 0);
	CHECK(w.stats().chunks_retried > 0);
}

UBD_CASE(order_survives_a_refusing_host)
{
	Fixture f;
	World &w = *f;
	w.engine.take = 1;
	w.engine.ring = 2;
	for (u32 i = 0; i < 8; i++) {
		w.engine.script_submit(i % 2 ? errno_again : errno_busy, 2);
		w.send_new(UBD_OP_READ, i, 512);
		w.send_new(UBD_OP_READ, 100 + i, 512);
		if (i == 7)
			break;
		CHECK(w.settle());
		w.engine.clear_script();
	}
	CHECK(w.settle());
	check_fresh(w, 16);
}

UBD_CASE(rejected_requests_take_their_turn)
{
	Fixture f;
	World &w = *f;
	w.engine.no_punch = true;
	w.send_new(UBD_OP_DISCARD, 0, 4096); // the host learns that it cannot
	w.engine.hold = true;
	w.engine.limit = 1;
	FakeRequest &a = w.send_new(UBD_OP_READ, 0, 512);
	FakeRequest &b = w.send_new(UBD_OP_READ, 1, 512);
	FakeRequest &d = w.send_new(UBD_OP_DISCARD, 8, 512);
	FakeRequest &c = w.send_new(UBD_OP_READ, 2, 512);
	CHECK_EQ(d.ended, 0); // behind b, which waits
	CHECK(w.settle());
	CHECK(a.ok() && b.ok() && c.ok());
	CHECK_EQ(d.status(), UBD_STATUS_NOTSUPP);
	CHECK_EQ(w.stats().queued, 0);
	check_fresh(w, 5, 3);
}

UBD_CASE(completion_out_of_order)
{
	Fixture f;
	World &w = *f;
	w.engine.hold = true;
	FakeRequest *r[16];
	for (u32 i = 0; i < 16; i++)
		r[i] = &w.send_new(UBD_OP_READ, i, 512);
	w.engine.complete_all(true);
	CHECK(w.interrupt());
	for (u32 i = 0; i < 16; i++)
		CHECK_EQ(r[i]->end_order, 16 - i);
}

} // namespace

const ubd_test_case ubd_suite_tickets[] = {
	UBD_ENTRY(numbered_from_zero),
	UBD_ENTRY(a_batch_in_order),
	UBD_ENTRY(no_overtaking_without_memory),
	UBD_ENTRY(no_overtaking_without_ring),
	UBD_ENTRY(order_survives_shorts_and_retries),
	UBD_ENTRY(order_survives_a_refusing_host),
	UBD_ENTRY(rejected_requests_take_their_turn),
	UBD_ENTRY(completion_out_of_order),
	{ nullptr, nullptr },
};
