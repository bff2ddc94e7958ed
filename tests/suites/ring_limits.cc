// SPDX-License-Identifier: GPL-2.0-only
/*
 * Never more in flight than the completion ring takes, never an entry without
 * a slot: for every small pair of sizes. The script engine counts at each
 * prepare().
 */
#include "fake.hh"

using namespace ubd;
using namespace ubd::test;

namespace
{

UBD_CASE(every_small_ring)
{
	for (u32 ring = 1; ring <= 5; ring++)
		for (u32 limit = 1; limit <= 7; limit++)
			for (bool hold : each(false, true)) {
				Fixture f({ .file_bytes = 64 << 10 });
				World &w = *f;
				w.engine.ring = ring;
				w.engine.limit = limit;
				w.engine.hold = hold;
				w.engine.script(any_op, 512, 9);
				w.engine.script(any_op, -errno_intr, 5);
				w.engine.script(any_op, -errno_again, 5);
				for (u32 i = 0; i < 12; i++)
					w.send(w.make(i % 2 ? UBD_OP_READ : UBD_OP_WRITE, i, i % 5 ? 2048 : 100 * 512,
						      0, 512),
					       i % 4 == 3);
				CHECK(w.settle());
				CHECK(w.stats().max_in_flight <= limit);
				CHECK(w.engine.most_held <= limit);
			}
}

UBD_CASE(full_to_the_brim)
{
	Fixture f;
	World &w = *f;
	w.engine.hold = true;
	w.engine.limit = w.engine.ring = 16;
	for (u32 i = 0; i < 100; i++)
		w.send_new(UBD_OP_READ, i, 512);
	CHECK_EQ(w.engine.with_host(), 16);
	CHECK_EQ(w.stats().in_flight, 16);
	CHECK_EQ(w.stats().queued, 84);
	CHECK(w.stats().pump_waits_ring > 0);
	w.engine.complete(5);
	CHECK(w.interrupt());
	CHECK_EQ(w.engine.with_host(), 16);
	w.engine.complete_all();
	CHECK(w.interrupt());
	CHECK_EQ(w.engine.with_host(), 16);
	CHECK(w.settle());
	CHECK_EQ(w.stats().max_in_flight, 16);
	CHECK_EQ(w.engine.most_held, 16);
}

// What waits to be tried again keeps its place among those in flight: else it
// would have none when it comes back.
UBD_CASE(a_waiting_chunk_counts)
{
	Fixture f;
	World &w = *f;
	w.engine.hold = true;
	w.engine.limit = 2;
	w.engine.script(static_cast<u8>(HostOp::read), -errno_again);
	w.send_new(UBD_OP_READ, 0, 512);
	w.send_new(UBD_OP_READ, 1, 512);
	w.send_new(UBD_OP_READ, 2, 512);
	w.engine.complete(0);
	CHECK(w.interrupt());
	CHECK_EQ(w.engine.with_host(), 1); // and one that waits: the third has no place
	CHECK_EQ(w.stats().in_flight, 2);
	CHECK(w.expire());
	CHECK_EQ(w.engine.with_host(), 2);
	CHECK(w.settle());
}

// The ring is shorter than the capacity: several calls, no loss.
UBD_CASE(submission_ring_shorter_than_capacity)
{
	Fixture f;
	World &w = *f;
	w.engine.hold = true;
	w.engine.ring = 4;
	w.engine.limit = 32;
	for (u32 i = 0; i < 40; i++)
		w.send(w.make(UBD_OP_READ, i, 512), i == 39);
	CHECK_EQ(w.engine.with_host(), 32);
	CHECK_EQ(w.engine.submits, 8);
	CHECK(w.settle());
}

// Retries that find the ring full wait without a busy loop, and are not lost.
UBD_CASE(retries_without_space)
{
	Fixture f;
	World &w = *f;
	w.engine.hold = true;
	w.engine.ring = 2;
	w.engine.limit = 8;
	for (u32 i = 0; i < 8; i++)
		w.send(w.make(UBD_OP_WRITE, 8 * i, 4096), i == 7);
	CHECK_EQ(w.engine.with_host(), 8);
	w.engine.script(static_cast<u8>(HostOp::write), 512, 8);
	w.engine.script_submit(errno_again, for_ever);
	w.engine.complete_all();
	CHECK(w.interrupt()); // eight continuations, two slots, none taken
	CHECK_EQ(w.engine.unsent(), 2);
	CHECK_EQ(w.stats().in_flight, 8);
	CHECK(w.k.timer_ms > 0);
	w.engine.clear_script();
	CHECK(w.settle());
	for (u32 i = 0; i < 8; i++)
		CHECK_EQ(w.engine.trace(i).ticket, i);
}

// A large request alone fills the ring, goes on as parts come back, and does
// not need the memory of all its parts at once.
UBD_CASE(a_request_larger_than_the_ring)
{
	Fixture f;
	World &w = *f;
	w.engine.hold = true;
	w.engine.ring = w.engine.limit = 2;
	FakeRequest &r = w.make(UBD_OP_WRITE, 0, 1024 * 512, 0, 512); // 16 parts
	r.write_pattern(3);
	w.send(r);
	CHECK_EQ(w.engine.with_host(), 2);
	CHECK(w.settle());
	CHECK(r.ok());
	CHECK_EQ(w.engine.traces, 16);
	CHECK(w.k.chunks.most <= 2);
	FakeRequest &back = w.send_new(UBD_OP_READ, 0, 1024 * 512);
	CHECK(w.settle());
	CHECK(back.has_pattern(3));
}

} // namespace

const ubd_test_case ubd_suite_ring_limits[] = {
	UBD_ENTRY(every_small_ring),
	UBD_ENTRY(full_to_the_brim),
	UBD_ENTRY(a_waiting_chunk_counts),
	UBD_ENTRY(submission_ring_shorter_than_capacity),
	UBD_ENTRY(retries_without_space),
	UBD_ENTRY(a_request_larger_than_the_ring),
	{ nullptr, nullptr },
};
