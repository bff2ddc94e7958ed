// SPDX-License-Identifier: GPL-2.0-only
/*
 * Several queues of one device: how many there are, what they have in common, and
 * that nothing else is.
 */
#include "fake.hh"

using namespace ubd;
using namespace ubd::test;

namespace
{

constexpr u8 op_read = static_cast<u8>(HostOp::read);
constexpr u8 op_write = static_cast<u8>(HostOp::write);
constexpr u8 op_write_sync = static_cast<u8>(HostOp::write_sync);
constexpr u8 op_sync = static_cast<u8>(HostOp::sync);

WorldConfig config_with(DeviceState &state)
{
	WorldConfig c;
	c.state = &state;
	return c;
}

WorldConfig config_that_stops(DeviceState &state)
{
	WorldConfig c = config_with(state);
	c.stop_when_full = true;
	return c;
}

// Two queues of one device; each has its own engine, with its own file.
struct Pair {
	DeviceState state;
	Fixture first{ config_with(state) };
	Fixture second{ config_with(state) };
	World &a = *first;
	World &b = *second;

	void lose(World &w)
	{
		w.engine.script(op_sync, -errno_io);
		CHECK_EQ(w.send_new(UBD_OP_FLUSH, 0, 0).status(), UBD_STATUS_IOERR);
		CHECK(state.durability_lost());
	}
};

UBD_CASE(how_many)
{
	for (u32 cpus : each(1u, 2u, 5u, 8u)) {
		CHECK_EQ(queue_count(0, cpus, false), cpus);
		CHECK_EQ(queue_count(1, cpus, false), 1);
		CHECK_EQ(queue_count(3, cpus, false), min(3u, cpus));
		CHECK_EQ(queue_count(8, cpus, false), cpus);
		// Bitmap, seal and commit are under one lock.
		CHECK_EQ(queue_count(0, cpus, true), 1);
		CHECK_EQ(queue_count(8, cpus, true), 1);
	}
	CHECK_EQ(queue_count(0, 64, false), UBD_MAX_QUEUES);
	CHECK_EQ(queue_count(64, 64, false), UBD_MAX_QUEUES);
	CHECK_EQ(queue_count(0, 0, false), 1);
}

// Counters add up, also what is the last member; the most at a time does not.
UBD_CASE(counters_add_up)
{
	Pair p;
	for (u32 i = 0; i < 3; i++)
		p.a.send_new(UBD_OP_WRITE, i, 512);
	p.b.engine.hold = true;
	for (u32 i = 0; i < 2; i++)
		p.b.send_new(UBD_OP_WRITE, i, 1024);
	p.b.send_new(UBD_OP_READ, 0, 512);
	ubd_stats sum{};
	add_stats(sum, p.a.stats());
	add_stats(sum, p.b.stats());
	CHECK_EQ(sum.requests[UBD_OP_READ], 1);
	CHECK_EQ(sum.requests[UBD_OP_WRITE], 5);
	CHECK_EQ(sum.bytes[UBD_OP_WRITE], 3 * 512 + 2 * 1024);
	CHECK_EQ(sum.chunks, 6);
	CHECK_EQ(sum.in_flight, 3);
	CHECK_EQ(sum.in_flight_host, 3);
	CHECK_EQ(sum.max_in_flight, 3);
	CHECK_EQ(sum.max_begun, 3);
	CHECK_EQ(sum.begun, 3);
	ubd_stats one{};
	one.requests[0] = 5;
	one.queued = 7;
	one.max_in_flight = 9;
	one.max_begun = 2;
	sum = one;
	add_stats(sum, one);
	CHECK_EQ(sum.requests[0], 10);
	CHECK_EQ(sum.queued, 14);
	CHECK_EQ(sum.max_in_flight, 9);
	CHECK_EQ(sum.max_begun, 2);
	p.b.engine.hold = false;
	p.b.engine.complete_all();
	CHECK(p.b.settle());
}

// A failed fdatasync of one queue: what is written or flushed by the other fails, and
// the host is not asked; what is read does not. One message.
UBD_CASE(a_loss_is_the_devices)
{
	for (u32 who = 0; who < 2; who++) {
		Pair p;
		World &loser = who ? p.b : p.a, &other = who ? p.a : p.b;
		CHECK((other.send_new(UBD_OP_FLUSH, 0, 0).ok()));
		p.lose(loser);
		const u64 asked = other.engine.traces;
		CHECK_EQ(other.send_new(UBD_OP_FLUSH, 0, 0).status(), UBD_STATUS_IOERR);
		CHECK_EQ(other.send_new(UBD_OP_WRITE, 0, 4096).status(), UBD_STATUS_IOERR);
		CHECK_EQ(other.send_new(UBD_OP_WRITE, 0, 4096, UBD_RQ_FUA).status(), UBD_STATUS_IOERR);
		CHECK_EQ(other.send_new(UBD_OP_WRITE_ZEROES, 0, 4096).status(), UBD_STATUS_IOERR);
		CHECK_EQ(other.send_new(UBD_OP_DISCARD, 0, 4096).status(), UBD_STATUS_IOERR);
		CHECK_EQ(other.engine.traces, asked);
		CHECK((other.send_new(UBD_OP_READ, 0, 4096).ok()));
		CHECK_EQ(loser.send_new(UBD_OP_WRITE, 0, 4096).status(), UBD_STATUS_IOERR);
		CHECK(log_has("the host failed to make data durable"));
		CHECK_EQ(log_lines(), 2); // the flush, and what follows from it
	}
}

// What the other queue had with the host when durability was lost. A flush that
// comes back well then has proven nothing, for whoever shares it, too.
UBD_CASE(a_loss_meets_what_is_with_the_host)
{
	Pair p;
	p.b.engine.hold = true;
	FakeRequest &flush = p.b.send_new(UBD_OP_FLUSH, 0, 0);
	FakeRequest &behind = p.b.send_new(UBD_OP_FLUSH, 0, 0);
	FakeRequest &fua = p.b.send_new(UBD_OP_WRITE, 0, 4096, UBD_RQ_FUA);
	FakeRequest &zeroes = p.b.send_new(UBD_OP_WRITE_ZEROES, 64, 4096, UBD_RQ_FUA);
	FakeRequest &plain = p.b.send_new(UBD_OP_WRITE, 32, 4096);
	FakeRequest &read = p.b.send_new(UBD_OP_READ, 128, 4096);
	p.lose(p.a);
	CHECK_EQ(p.b.engine.ops[op_sync], 0);
	p.b.engine.hold = false;
	p.b.engine.complete_all();
	CHECK(p.b.settle());
	CHECK_EQ(flush.status(), UBD_STATUS_IOERR);
	CHECK_EQ(behind.status(), UBD_STATUS_IOERR);
	CHECK_EQ(fua.status(), UBD_STATUS_IOERR);
	CHECK_EQ(zeroes.status(), UBD_STATUS_IOERR);
	CHECK(plain.ok()); // it promised nothing
	CHECK(read.ok());
	CHECK_EQ(p.b.engine.ops[op_sync], 1);
	CHECK_EQ(p.b.engine.ops[op_write_sync], 1);
	CHECK_EQ(p.b.engine.ops[op_write], 1);
	CHECK_EQ(p.b.engine.ops[op_read], 1);
}

// Both fail side by side, each is told, and the log is told once.
UBD_CASE(two_losses)
{
	Pair p;
	p.a.engine.hold = p.b.engine.hold = true;
	p.a.engine.script(op_sync, -errno_io);
	p.b.engine.script(op_write_sync, -errno_io);
	FakeRequest &flush = p.a.send_new(UBD_OP_FLUSH, 0, 0);
	FakeRequest &fua = p.b.send_new(UBD_OP_WRITE, 0, 512, UBD_RQ_FUA);
	p.a.engine.complete_all();
	p.b.engine.complete_all();
	CHECK(p.a.settle() && p.b.settle());
	CHECK_EQ(flush.status(), UBD_STATUS_IOERR);
	CHECK_EQ(fua.status(), UBD_STATUS_IOERR);
	CHECK_EQ(log_lines(), 3); // two failures, one consequence
}

// One waits for space when the other one's loss makes that useless: who waits is told,
// at the next trial, or by how the trial ends that the host has.
UBD_CASE(a_loss_ends_waiting_for_space)
{
	for (bool in_trial : each(false, true)) {
		DeviceState state;
		Fixture first(config_that_stops(state)), second(config_that_stops(state));
		World &a = *first, &b = *second;
		b.engine.script(op_write, -errno_nospc, 2);
		b.engine.hold = true;
		FakeRequest &one = b.send_new(UBD_OP_WRITE, 0, 512);
		FakeRequest &two = b.send_new(UBD_OP_WRITE, 8, 512);
		b.engine.complete_all();
		b.interrupt();
		CHECK(b.stats().stopped && !one.ended && !two.ended);
		if (in_trial)
			b.queue.try_again();
		a.engine.script(op_sync, -errno_io);
		CHECK_EQ(a.send_new(UBD_OP_FLUSH, 0, 0).status(), UBD_STATUS_IOERR);
		char text[80];
		CHECK(!b.queue.show_state(text, sizeof(text)));
		CHECK(contains(text, "failed"));
		b.engine.hold = false;
		if (in_trial) {
			b.engine.complete_all();
			b.interrupt();
		}
		CHECK(b.settle());
		CHECK_EQ(one.ok() + two.ok(), in_trial);
		CHECK_EQ((one.status() == UBD_STATUS_NOSPC) + (two.status() == UBD_STATUS_NOSPC), 2 - in_trial);
		CHECK(!b.stats().stopped);
		CHECK(!log_has("goes on after"));
	}
}

// A flush is for what has ended, in any queue, and shares no fdatasync with those of
// another queue: each asks the host by an opening of its own.
UBD_CASE(flushes_are_a_queues_own)
{
	Pair p;
	p.a.engine.hold = p.b.engine.hold = true;
	FakeRequest &first = p.a.send_new(UBD_OP_FLUSH, 0, 0);
	FakeRequest &second = p.b.send_new(UBD_OP_FLUSH, 0, 0);
	CHECK_EQ(p.a.engine.with_host() + p.b.engine.with_host(), 2);
	p.b.engine.complete_all();
	p.b.settle();
	CHECK(second.ok() && !first.ended);
	p.a.engine.complete_all();
	CHECK(p.a.settle());
	CHECK(first.ok());
	CHECK_EQ(p.a.stats().host_syncs, 1);
	CHECK_EQ(p.b.stats().host_syncs, 1);
	CHECK_EQ(p.a.stats().syncs_shared + p.b.stats().syncs_shared, 0);
}

// One hangs, out of memory and out of places: the other goes on.
UBD_CASE(one_waits_the_other_does_not)
{
	Pair p;
	p.a.engine.hold = true;
	p.a.engine.ring = p.a.engine.limit = 2;
	p.a.k.headers.limit = p.a.k.chunks.limit = 0;
	for (u32 i = 0; i < 10; i++)
		p.a.send_new(UBD_OP_WRITE, i, 512);
	for (u32 i = 0; i < 10; i++)
		CHECK((p.b.send_new(UBD_OP_WRITE, i, 512).ok()));
	CHECK_EQ(p.a.pending(), 10);
	CHECK_EQ(p.b.stats().chunk_reserve_uses, 0);
	CHECK(p.a.settle());
}

// What is known of the file is said once.
UBD_CASE(the_file_is_the_devices)
{
	Pair p;
	p.a.engine.file_end[0] = p.b.engine.file_end[0] = 1000;
	p.a.send_new(UBD_OP_READ, 0, 4096);
	p.b.send_new(UBD_OP_READ, 0, 4096);
	CHECK_EQ(p.a.stats().zeroed_reads + p.b.stats().zeroed_reads, 2);
	CHECK(log_has("truncate"));
	CHECK_EQ(log_lines(), 1);
	log_clear();
	p.a.engine.removed = p.b.engine.removed = true;
	for (World *w : each(&p.a, &p.b)) {
		w->send_new(UBD_OP_READ, 0, 512);
		CHECK(w->expire());
	}
	CHECK(log_has("removed"));
	CHECK_EQ(log_lines(), 1);
}

UBD_CASE(each_is_drained_by_itself)
{
	Pair p;
	p.b.engine.hold = true;
	FakeRequest &r = p.b.send_new(UBD_OP_WRITE, 0, 512);
	CHECK(p.a.queue.drained());
	CHECK(!p.b.queue.drained());
	p.b.engine.complete_all();
	CHECK(p.b.settle());
	CHECK(r.ok() && p.b.queue.drained());
}

} // namespace

const ubd_test_case ubd_suite_queues[] = {
	UBD_ENTRY(how_many),
	UBD_ENTRY(counters_add_up),
	UBD_ENTRY(a_loss_is_the_devices),
	UBD_ENTRY(a_loss_meets_what_is_with_the_host),
	UBD_ENTRY(two_losses),
	UBD_ENTRY(a_loss_ends_waiting_for_space),
	UBD_ENTRY(flushes_are_a_queues_own),
	UBD_ENTRY(one_waits_the_other_does_not),
	UBD_ENTRY(the_file_is_the_devices),
	UBD_ENTRY(each_is_drained_by_itself),
	{ nullptr, nullptr },
};
