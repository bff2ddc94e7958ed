// SPDX-License-Identifier: GPL-2.0-only
/*
 * Progress without memory: both pools, the static reserve, who may use it, and
 * that requests run side by side again once memory is back.
 */
#include "fake.hh"

using namespace ubd;
using namespace ubd::test;

namespace
{

UBD_CASE(no_reserve_while_there_is_memory)
{
	Fixture f;
	World &w = *f;
	for (u32 i = 0; i < 100; i++)
		w.send_new(UBD_OP_READ, i, 64 << 10, 0, 512);
	CHECK(w.settle());
	CHECK_EQ(w.stats().header_reserve_uses, 0);
	CHECK_EQ(w.stats().chunk_reserve_uses, 0);
	CHECK_EQ(w.stats().pump_waits_memory, 0);
	CHECK_EQ(w.k.headers.live, 0);
	CHECK_EQ(w.k.chunks.live, 0);
}

// Both pools fail for ever: one chunk at a time, but everything ends.
UBD_CASE(everything_ends_on_the_reserve_alone)
{
	Fixture f;
	World &w = *f;
	w.k.headers.limit = w.k.chunks.limit = 0;
	w.engine.hold = true;
	FakeRequest *r[10];
	for (u32 i = 0; i < 10; i++) {
		r[i] = &w.make(i % 2 ? UBD_OP_WRITE : UBD_OP_READ, 8 * i, i % 3 ? 4096 : 150 * 512,
			       i == 3 ? UBD_RQ_FUA : 0, 512);
		w.send(*r[i]);
		CHECK(w.engine.holds() <= 1);
	}
	FakeRequest &flush = w.send_new(UBD_OP_FLUSH, ~0ull, 0);
	FakeRequest &zeroes = w.send_new(UBD_OP_WRITE_ZEROES, 0, 1 << 20, UBD_RQ_FUA);
	w.send_new(UBD_OP_DISCARD, 0, 1 << 20);
	for (u32 turns = 0; w.pending(); turns++) {
		REQUIRE(turns < 100);
		REQUIRE(w.engine.with_host() == 1);
		CHECK(w.engine.trace(w.engine.traces - 1).reserve);
		w.engine.complete(0);
		CHECK(w.interrupt());
	}
	for (FakeRequest *q : r)
		CHECK(q->ok());
	CHECK(flush.ok() && zeroes.ok());
	CHECK_EQ(w.engine.most_held, 1);
	CHECK_EQ(w.stats().header_reserve_uses, 13);
	CHECK_EQ(w.stats().max_in_flight, 1);
	CHECK(w.stats().chunk_reserve_uses >= 13);
	CHECK(w.stats().pump_waits_memory > 0);
}

UBD_CASE(headers_dry_chunks_not)
{
	Fixture f;
	World &w = *f;
	w.k.headers.limit = 0;
	w.engine.hold = true;
	// One header: its request may have many chunks, but no other begins.
	w.send_new(UBD_OP_READ, 0, 256 * 512, 0, 512);
	w.send_new(UBD_OP_READ, 300, 512);
	CHECK_EQ(w.engine.with_host(), 4);
	CHECK_EQ(w.stats().header_reserve_uses, 1);
	CHECK(w.settle());
	CHECK_EQ(w.stats().header_reserve_uses, 2);
	CHECK_EQ(w.stats().chunk_reserve_uses, 0);
}

UBD_CASE(chunks_dry_headers_not)
{
	Fixture f;
	World &w = *f;
	w.k.chunks.limit = 0;
	w.engine.hold = true;
	w.send_new(UBD_OP_READ, 0, 512);
	w.send_new(UBD_OP_READ, 1, 512);
	CHECK_EQ(w.engine.with_host(), 1);
	// The second is the head now and has its header, no more.
	CHECK_EQ(w.k.headers.live, 2);
	CHECK(w.settle());
	CHECK_EQ(w.stats().chunk_reserve_uses, 2);
	CHECK_EQ(w.stats().header_reserve_uses, 0);
}

// Only the head takes the reserve: a younger request never has it while an
// older one lacks what it needs.
UBD_CASE(only_the_head_uses_the_reserve)
{
	Fixture f;
	World &w = *f;
	w.k.chunks.limit = 3;
	w.engine.hold = true;
	w.send_new(UBD_OP_READ, 0, 250 * 512, 0, 512); // 4 chunks: 3 and the reserve
	CHECK_EQ(w.stats().chunk_reserve_uses, 1);
	FakeRequest &b = w.send_new(UBD_OP_READ, 300, 250 * 512, 0, 512);
	FakeRequest &c = w.send_new(UBD_OP_READ, 600, 512);
	CHECK_EQ(b.handed, 0);
	CHECK_EQ(c.handed, 0);
	while (w.pending()) {
		w.engine.complete(w.engine.with_host() - 1);
		REQUIRE(w.interrupt());
		// c has nothing before b has all.
		CHECK(b.handed == b.rq.bytes || !c.handed);
		u32 reserved = 0;
		for (u64 i = 0; i < w.engine.traces; i++)
			reserved += w.engine.trace(i).reserve;
		CHECK_EQ(reserved, w.stats().chunk_reserve_uses);
		CHECK(w.k.chunks.live <= 3);
	}
}

// Memory is back: all that waits goes to the host at the next event.
UBD_CASE(parallel_at_once_when_memory_returns)
{
	Fixture f;
	World &w = *f;
	w.k.headers.limit = w.k.chunks.limit = 0;
	w.engine.hold = true;
	for (u32 i = 0; i < 32; i++)
		w.send_new(UBD_OP_READ, i, 512);
	CHECK_EQ(w.engine.with_host(), 1);
	w.k.headers.limit = w.k.chunks.limit = for_ever;
	w.engine.complete(0);
	CHECK(w.interrupt());
	CHECK_EQ(w.engine.with_host(), 31);
	w.engine.complete_all();
	CHECK(w.interrupt());
	CHECK_EQ(w.pending(), 0);
}

// The same when it is the timer, or the next request, that comes first.
UBD_CASE(parallel_again_by_timer_or_request)
{
	for (bool by_timer : each(true, false)) {
		Fixture f;
		World &w = *f;
		w.k.headers.limit = w.k.chunks.limit = 0;
		w.engine.hold = true;
		for (u32 i = 0; i < 8; i++)
			w.send_new(UBD_OP_READ, i, 512);
		w.k.headers.limit = w.k.chunks.limit = for_ever;
		if (by_timer)
			CHECK(w.expire());
		else
			w.send_new(UBD_OP_READ, 9, 512);
		CHECK_EQ(w.engine.with_host(), by_timer ? 8 : 9);
		CHECK(w.settle());
	}
}

// The reserve is given back on every way a request can end.
UBD_CASE(reserve_comes_back_after_errors)
{
	Fixture f;
	World &w = *f;
	w.k.headers.limit = w.k.chunks.limit = 0;
	w.engine.script(static_cast<u8>(HostOp::read), -errno_io);
	w.engine.script(static_cast<u8>(HostOp::write), -errno_nospc);
	w.engine.script(static_cast<u8>(HostOp::read), -errno_intr, 3);
	w.engine.script(static_cast<u8>(HostOp::read), -errno_again, 3);
	w.engine.no_punch = w.engine.no_zero = true;
	CHECK_EQ((w.send_new(UBD_OP_READ, 0, 512).status()), UBD_STATUS_IOERR);
	CHECK_EQ((w.send_new(UBD_OP_WRITE, 0, 512).status()), UBD_STATUS_NOSPC);
	CHECK_EQ((w.send_new(UBD_OP_DISCARD, 0, 512).status()), UBD_STATUS_NOTSUPP);
	FakeRequest &z = w.send_new(UBD_OP_WRITE_ZEROES, 0, 4096, UBD_RQ_FUA);
	FakeRequest &r = w.send_new(UBD_OP_READ, 0, 512);
	CHECK(w.settle());
	CHECK(z.ok() && r.ok());
	CHECK_EQ(w.stats().header_reserve_uses, 5);
	CHECK_EQ(w.stats().chunk_reserve_uses, 5);
}

// A chunk of the reserve that waits for its second try is still in use.
UBD_CASE(reserve_stays_taken_over_a_retry)
{
	Fixture f;
	World &w = *f;
	w.k.headers.limit = w.k.chunks.limit = 0;
	w.engine.script(static_cast<u8>(HostOp::read), -errno_again);
	FakeRequest &a = w.send_new(UBD_OP_READ, 0, 512);
	FakeRequest &b = w.send_new(UBD_OP_READ, 1, 512);
	CHECK(!a.ended && !b.ended);
	CHECK_EQ(b.handed, 0);
	CHECK(w.settle());
	CHECK(a.ok() && b.ok());
	CHECK(a.end_order < b.end_order);
}

// FUA zeroes need a second operation: it takes no new memory.
UBD_CASE(durable_zeroes_allocate_once)
{
	Fixture f;
	World &w = *f;
	w.engine.hold = true;
	w.send_new(UBD_OP_WRITE_ZEROES, 0, 4096, UBD_RQ_FUA);
	CHECK_EQ(w.k.chunks.live, 1);
	w.k.headers.limit = w.k.chunks.limit = 0; // from here on
	w.engine.complete(0);
	CHECK(w.interrupt());
	CHECK_EQ(w.pending(), 1);
	CHECK(w.engine.trace(1).op == HostOp::sync);
	CHECK_EQ(w.stats().chunk_reserve_uses, 0);
	CHECK_EQ(w.k.chunks.most, 1);
	CHECK(w.settle());
}

UBD_CASE(random_refusals)
{
	for (u32 percent : each(1u, 20u, 50u, 80u, 99u, 100u)) {
		Random random(percent);
		Fixture f;
		World &w = *f;
		w.k.random = &random;
		w.k.headers.refuse_percent = w.k.chunks.refuse_percent = percent;
		w.engine.hold = true;
		FakeRequest *r[60];
		for (u32 i = 0; i < 60; i++) {
			r[i] = &w.make(UBD_OP_WRITE, 8 * i, 4096, 0, 128);
			r[i]->write_pattern(i);
			w.send(*r[i], random.percent(50));
			while (w.engine.with_host() && random.percent(30))
				w.engine.complete(random.below(w.engine.with_host()));
			if (random.percent(30))
				w.interrupt();
		}
		w.queue.commit();
		CHECK(w.settle());
		for (u32 i = 0; i < 60; i++) {
			CHECK(r[i]->ok());
			u8 flat[512];
			FakeRequest &back = w.make(UBD_OP_READ, 8 * i, 512);
			w.send(back);
			CHECK(w.settle());
			back.copy_out(flat);
			CHECK(flat[100] == r[i]->segment[0].base[100]);
		}
	}
}

// What is said of the memory is what is used of it.
UBD_CASE(the_account_of_memory)
{
	Fixture f;
	World &w = *f;
	auto account = [&](u64 depth) {
		ubd_memory m{};
		m.fixed = 1000000;
		m.depth = depth;
		m.headers_kept = 5;
		m.chunks_kept = 7;
		ubd_queue_memory(reinterpret_cast<ubd_queue *>(&w.queue), &m); // as kernel/ asks
		return m;
	};
	const u64 header = sizeof(Header), chunk = sizeof(Chunk);
	CHECK_EQ(account(10).at_rest, 1000000 + UBD_POOL_MIN * (header + chunk));
	CHECK_EQ(account(10).now, 1000000 + 5 * header + 7 * chunk);
	// The ring takes 64 chunks, and no more requests than that and one begin.
	CHECK_EQ(account(10).at_most, 1000000 + (UBD_POOL_MIN + 10) * header + (UBD_POOL_MIN + 64) * chunk);
	CHECK_EQ(account(500).at_most, 1000000 + (UBD_POOL_MIN + 65) * header + (UBD_POOL_MIN + 64) * chunk);
	w.engine.hold = true;
	w.send_new(UBD_OP_READ, 0, 128 * 512, 0, 512); // two chunks
	w.send_new(UBD_OP_READ, 300, 512);
	CHECK_EQ(w.stats().begun, 2);
	CHECK_EQ(account(10).now, 1000000 + (5 + 2) * header + (7 + 3) * chunk);
	// The reserve is part of what is fixed.
	w.k.headers.limit = w.k.chunks.limit = 0;
	w.send_new(UBD_OP_READ, 300, 512);
	CHECK_EQ(w.stats().begun, 3);
	CHECK_EQ(account(10).now, 1000000 + (5 + 2) * header + (7 + 3) * chunk);
	CHECK(w.settle());
	CHECK_EQ(w.stats().begun, 0);
	CHECK_EQ(w.stats().max_begun, 3);
	CHECK_EQ(account(10).now, 1000000 + 5 * header + 7 * chunk);
}

} // namespace

const ubd_test_case ubd_suite_pools[] = {
	UBD_ENTRY(no_reserve_while_there_is_memory),
	UBD_ENTRY(everything_ends_on_the_reserve_alone),
	UBD_ENTRY(headers_dry_chunks_not),
	UBD_ENTRY(chunks_dry_headers_not),
	UBD_ENTRY(only_the_head_uses_the_reserve),
	UBD_ENTRY(parallel_at_once_when_memory_returns),
	UBD_ENTRY(parallel_again_by_timer_or_request),
	UBD_ENTRY(reserve_comes_back_after_errors),
	UBD_ENTRY(reserve_stays_taken_over_a_retry),
	UBD_ENTRY(durable_zeroes_allocate_once),
	UBD_ENTRY(random_refusals),
	UBD_ENTRY(the_account_of_memory),
	{ nullptr, nullptr },
};
