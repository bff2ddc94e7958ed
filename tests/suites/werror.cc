// SPDX-License-Identifier: GPL-2.0-only
/*
 * A host without space, and werror=stop: what is kept, what goes on meanwhile,
 * when it is tried again, and what ends it.
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
constexpr u8 op_punch = static_cast<u8>(HostOp::punch);
constexpr u8 op_zero = static_cast<u8>(HostOp::zero);
constexpr u8 op_allocate = static_cast<u8>(HostOp::allocate);

constexpr u64 second = 1000000000;

WorldConfig stopping()
{
	WorldConfig c;
	c.stop_when_full = true;
	return c;
}

WorldConfig stopping_cow()
{
	WorldConfig c = stopping();
	c.cow_sectors = 1024;
	return c;
}

void fill_host(World &w, u8 op = op_write, int error = errno_nospc)
{
	w.engine.script(op, -error, for_ever);
}

bool state_is(World &w, const char *wanted)
{
	char state[80];
	w.queue.show_state(state, sizeof(state));
	const size_t n = __builtin_strlen(state);
	return n == __builtin_strlen(wanted) && !__builtin_memcmp(state, wanted, n);
}

// The timer's time passes. Returns how many parts the host was given meanwhile.
u64 after_seconds(World &w, u32 s)
{
	const u64 before = w.engine.traces;
	for (u64 ms = 0; ms < s * 1000ull;) {
		const u32 step = w.k.timer_ms;
		fake_now_ns += step * 1000000ull;
		ms += step;
		if (!w.expire())
			return failed_here(__FILE__, __LINE__, "the timer is not armed");
	}
	return w.engine.traces - before;
}

UBD_CASE(a_write_waits_for_space)
{
	Fixture f(stopping());
	World &w = *f;
	CHECK(state_is(w, "running"));
	fill_host(w);
	FakeRequest &r = w.make(UBD_OP_WRITE, 24, 8192);
	r.write_pattern(7);
	w.send(r);
	CHECK(!r.ended);
	CHECK(state_is(w, "stopped: No space left on device"));
	CHECK_EQ(w.stats().stops, 1);
	CHECK_EQ(w.stats().stopped, 1);
	CHECK_EQ(w.stats().in_flight_space, 1);
	CHECK_EQ(w.stats().in_flight, 1);
	CHECK_EQ(log_lines(), 1);
	CHECK(log_has("ubdt: /host/file: the host has no space for 8192 bytes of write of 16 sectors at sector 24: No "
		      "space left on device (28); the device is stopped, nothing is lost: free space on the host's "
		      "file system; it goes on by itself within 10 s, or at once by echo 1 "
		      ">/sys/block/ubdt/ubd/resume\n"));
	// One trial after 1, 2, 4, 8, and then each 10 seconds.
	for (u32 pause : each(1u, 2u, 4u, 8u, 10u, 10u)) {
		CHECK_EQ(after_seconds(w, pause - 1), 0);
		CHECK_EQ(after_seconds(w, 1), 1);
		CHECK(!r.ended);
	}
	CHECK_EQ(log_lines(), 1);
	w.engine.clear_script();
	CHECK(w.settle());
	CHECK(r.ok());
	CHECK(state_is(w, "running"));
	CHECK_EQ(log_lines(), 2);
	CHECK(log_has("ubdt: /host/file: the device goes on after 35 s\n"));
	CHECK_EQ(w.stats().errors, 0);
	CHECK_EQ(w.stats().stopped, 0);
	CHECK_EQ(w.stats().in_flight_space, 0);
	FakeRequest &back = w.send_new(UBD_OP_READ, 24, 8192);
	CHECK(back.ok() && back.has_pattern(7));
}

// Without the policy, and for what it is not for.
UBD_CASE(others_are_reported)
{
	static constexpr struct {
		u8 op, host_op;
		int error;
		u8 status;
		bool stop;
	} table[] = {
		{ UBD_OP_WRITE, op_write, errno_nospc, UBD_STATUS_NOSPC, false },
		{ UBD_OP_WRITE, op_write, errno_io, UBD_STATUS_IOERR, true },
		{ UBD_OP_WRITE, op_write, errno_fbig, UBD_STATUS_IOERR, true },
		{ UBD_OP_READ, op_read, errno_nospc, UBD_STATUS_NOSPC, true },
		// What an fdatasync did not find space for is lost: as with every error.
		{ UBD_OP_FLUSH, op_sync, errno_nospc, UBD_STATUS_NOSPC, true },
		{ UBD_OP_FLUSH, op_sync, errno_dquot, UBD_STATUS_NOSPC, true },
	};
	for (auto &t : table) {
		WorldConfig c;
		c.stop_when_full = t.stop;
		Fixture f(c);
		World &w = *f;
		fill_host(w, t.host_op, t.error);
		FakeRequest &r = w.send_new(t.op, 0, t.op == UBD_OP_FLUSH ? 0 : 4096);
		CHECK_EQ(r.ended, 1);
		CHECK_EQ(r.status(), t.status);
		CHECK_EQ(w.stats().stops, 0);
		CHECK(state_is(w, t.host_op == op_sync ? "failed: durability is lost" : "running"));
	}
}

UBD_CASE(each_kind_that_needs_space)
{
	static constexpr struct {
		u8 op, host_op, flags;
		int error;
	} table[] = {
		{ UBD_OP_WRITE, op_write, 0, errno_dquot },
		{ UBD_OP_WRITE, op_write_sync, UBD_RQ_FUA, errno_nospc },
		{ UBD_OP_WRITE_ZEROES, op_zero, UBD_RQ_NOUNMAP, errno_nospc },
		{ UBD_OP_WRITE_ZEROES, op_punch, 0, errno_nospc },
		{ UBD_OP_DISCARD, op_punch, 0, errno_nospc },
	};
	for (auto &t : table) {
		Fixture f(stopping());
		World &w = *f;
		fill_host(w, t.host_op, t.error);
		FakeRequest &r = w.send_new(t.op, 8, 4096, t.flags);
		CHECK(!r.ended);
		CHECK_EQ(w.stats().stopped, 1);
		CHECK(state_is(w, t.error == errno_dquot ? "stopped: Disk quota exceeded"
							 : "stopped: No space left on device"));
		CHECK_EQ(after_seconds(w, 3), 2);
		w.engine.clear_script();
		CHECK(w.settle());
		CHECK(r.ok());
		CHECK_EQ(w.stats().errors, 0);
	}
}

// What the host has is finished, whatever it is; of what came later nothing begins.
UBD_CASE(what_is_under_way_goes_on_and_nothing_else)
{
	Fixture f(stopping());
	World &w = *f;
	w.engine.hold = true;
	FakeRequest *r[5];
	for (u32 i = 0; i < 5; i++) {
		r[i] = &w.make(i == 2 ? UBD_OP_READ : UBD_OP_WRITE, 8 * i, 4096);
		if (i != 2)
			r[i]->write_pattern(i);
		w.send(*r[i]);
	}
	// The last first: 4 and 1 find no space, 3 fits, the read is short.
	w.engine.script(op_write, -errno_nospc);
	w.engine.script(op_write, in_full);
	w.engine.script(op_write, -errno_nospc, 2);
	w.engine.script(op_read, 512);
	w.engine.complete_all(true);
	w.interrupt();
	CHECK_EQ(w.stats().in_flight_space, 3);
	CHECK(r[3]->ok() && !r[2]->ended);
	FakeRequest &later = w.send_new(UBD_OP_READ, 100, 4096);
	FakeRequest &flush = w.send_new(UBD_OP_FLUSH, 0, 0);
	CHECK_EQ(w.engine.holds(), 1);
	w.engine.complete(0); // the rest of the read
	w.interrupt();
	CHECK(r[2]->ok());
	CHECK_EQ(w.engine.holds(), 0);
	CHECK_EQ(w.stats().queued, 2);
	CHECK_EQ(w.stats().stops, 1);
	// Space: first the oldest alone, then the others in their order, then the rest.
	w.engine.clear_script();
	const u64 before = w.engine.traces;
	w.queue.try_again();
	CHECK_EQ(w.engine.traces - before, 1);
	w.engine.complete(0);
	w.interrupt();
	CHECK_EQ(w.engine.traces - before, 5);
	static constexpr u64 order[] = { 0, 1, 4, 5, 6 };
	for (u32 i = 0; i < 5; i++)
		CHECK_EQ(w.engine.trace(before + i).ticket, order[i]);
	CHECK(w.settle());
	for (FakeRequest *one : r)
		CHECK(one->ok());
	CHECK(later.ok() && flush.ok());
	for (u32 i : each(0u, 1u, 3u, 4u)) {
		w.engine.hold = false;
		FakeRequest &back = w.send_new(UBD_OP_READ, 8 * i, 4096);
		CHECK(back.ok() && back.has_pattern(i));
	}
}

// The first part of one fits, the rest does not: only the rest is tried again.
UBD_CASE(a_part_fits)
{
	Fixture f(stopping());
	World &w = *f;
	w.engine.script(op_write, 3000);
	fill_host(w);
	FakeRequest &r = w.make(UBD_OP_WRITE, 0, 8192, 0, 1024);
	r.write_pattern(3);
	w.send(r);
	CHECK(!r.ended);
	CHECK(log_has("no space for 5192 bytes of write of 16 sectors at sector 0"));
	// A trial that makes room for a part is a success: it goes on, and stops again.
	w.engine.clear_script();
	w.engine.script(op_write, 1000);
	fill_host(w);
	CHECK_EQ(after_seconds(w, 1), 2);
	CHECK(!r.ended);
	CHECK_EQ(w.stats().stops, 2);
	w.engine.clear_script();
	const u64 before = w.engine.traces;
	CHECK(w.settle());
	CHECK_EQ(w.engine.trace(before).offset, 4000);
	CHECK_EQ(w.engine.trace(before).bytes, 4192);
	FakeRequest &back = w.send_new(UBD_OP_READ, 0, 8192);
	CHECK(r.ok() && back.has_pattern(3));
}

// Space that comes in drops does not make for a log full of it.
UBD_CASE(pauses_do_not_begin_anew_at_once)
{
	Fixture f(stopping());
	World &w = *f;
	FakeRequest *r[6];
	fill_host(w);
	for (u32 i = 0; i < 6; i++)
		r[i] = &w.send_new(UBD_OP_WRITE, 8 * i, 4096);
	static constexpr u32 pauses[] = { 1, 2, 4, 8, 10 };
	for (u32 i = 0; i < 5; i++) {
		w.engine.clear_script();
		w.engine.script(op_write, in_full);
		fill_host(w);
		CHECK_EQ(after_seconds(w, pauses[i] - 1), 0);
		CHECK(!r[i]->ended);
		after_seconds(w, 1);
		CHECK(r[i]->ok());
		CHECK_EQ(w.stats().stops, i + 2);
	}
	w.engine.clear_script();
	CHECK(w.settle());
	// But after a time without it they do.
	fake_now_ns += 10 * second;
	fill_host(w);
	FakeRequest &last = w.send_new(UBD_OP_WRITE, 0, 4096);
	CHECK_EQ(after_seconds(w, 1), 1);
	w.engine.clear_script();
	CHECK(w.settle());
	CHECK(last.ok());
}

UBD_CASE(somebody_says_that_there_is_space)
{
	Fixture f(stopping());
	World &w = *f;
	w.queue.try_again(); // nothing is stopped
	CHECK_EQ(w.engine.traces, 0);
	fill_host(w);
	FakeRequest &r = w.send_new(UBD_OP_WRITE, 0, 4096);
	after_seconds(w, 1 + 2 + 4);
	const u64 before = w.engine.traces;
	w.queue.try_again(); // it is not true
	CHECK_EQ(w.engine.traces - before, 1);
	CHECK(!r.ended);
	CHECK_EQ(w.stats().stopped, 1);
	CHECK_EQ(w.stats().stops, 1);
	CHECK_EQ(after_seconds(w, 1), 0);
	CHECK_EQ(after_seconds(w, 1), 1); // pauses are short again
	w.engine.clear_script();
	w.queue.try_again();
	CHECK(r.ok());
}

// One trial at a time, however long it takes.
UBD_CASE(a_trial_that_takes_long)
{
	Fixture f(stopping());
	World &w = *f;
	fill_host(w);
	FakeRequest &a = w.send_new(UBD_OP_WRITE, 0, 4096);
	FakeRequest &b = w.send_new(UBD_OP_WRITE, 8, 4096);
	w.engine.hold = true;
	CHECK_EQ(after_seconds(w, 1), 1);
	w.queue.try_again();
	CHECK_EQ(after_seconds(w, 20), 0);
	CHECK(w.queue.timeout(a.rq, 30000));
	CHECK(w.queue.timeout(b.rq, 30000));
	CHECK_EQ(w.engine.cancels, 0);
	CHECK_EQ(w.stats().timeouts, 0);
	// Now it is the host that hangs.
	CHECK_EQ(after_seconds(w, 11), 0);
	CHECK(w.queue.timeout(b.rq, 41000));
	CHECK_EQ(w.stats().timeouts, 0);
	CHECK(w.queue.timeout(a.rq, 41000));
	CHECK_EQ(w.stats().timeouts, 1);
	CHECK_EQ(w.engine.cancels, 1);
	w.engine.clear_script();
	CHECK(w.settle());
	CHECK(a.ok() && b.ok());
}

// What comes back from a trial otherwise.
UBD_CASE(a_trial_that_fails_otherwise)
{
	for (int error : each(errno_intr, errno_again, errno_io)) {
		Fixture f(stopping());
		World &w = *f;
		fill_host(w);
		FakeRequest &a = w.send_new(UBD_OP_WRITE, 0, 4096);
		FakeRequest &b = w.send_new(UBD_OP_WRITE, 8, 4096);
		w.engine.clear_script();
		w.engine.script(op_write, -error);
		w.engine.script(op_write, -errno_nospc, error == errno_io ? 0 : 1);
		w.queue.try_again();
		if (error == errno_io) { // the one fails, the others are no worse for it
			CHECK_EQ(a.status(), UBD_STATUS_IOERR);
			CHECK(b.ok());
			CHECK_EQ(w.stats().stopped, 0);
			continue;
		}
		if (error == errno_again)
			CHECK(w.expire());
		CHECK(!a.ended && !b.ended);
		CHECK_EQ(w.stats().stops, 1);
		CHECK_EQ(w.stats().stopped, 1);
		CHECK(!log_has("the device goes on"));
		CHECK(w.settle());
		CHECK(a.ok() && b.ok());
	}
}

// A file system that has no punch tells so in a trial: another way is found.
UBD_CASE(a_trial_that_is_not_supported)
{
	for (bool zeroes : each(false, true)) {
		Fixture f(stopping());
		World &w = *f;
		fill_host(w, op_punch);
		FakeRequest &r = w.send_new(zeroes ? UBD_OP_WRITE_ZEROES : UBD_OP_DISCARD, 0, 4096);
		FakeRequest &b = w.send_new(UBD_OP_WRITE, 8, 4096);
		CHECK(!r.ended && !b.ended);
		w.engine.clear_script();
		w.engine.no_punch = true;
		w.queue.try_again();
		CHECK(w.settle());
		CHECK_EQ(r.status(), zeroes ? UBD_STATUS_OK : UBD_STATUS_NOTSUPP);
		CHECK(b.ok());
		CHECK_EQ(w.stats().stopped, 0);
	}
}

// It is nobody's fault while it is stopped, nor for the time before.
UBD_CASE(no_timeout_while_it_is_stopped)
{
	Fixture f(stopping());
	World &w = *f;
	w.engine.hold = true;
	FakeRequest &hangs = w.send_new(UBD_OP_READ, 100, 4096);
	fill_host(w);
	FakeRequest &kept = w.send_new(UBD_OP_WRITE, 0, 4096);
	FakeRequest &waits = w.send_new(UBD_OP_READ, 8, 4096);
	w.engine.complete(1);
	w.interrupt();
	FakeRequest &not_begun = w.send_new(UBD_OP_READ, 16, 4096);
	log_clear();
	CHECK(w.queue.timeout(kept.rq, 60000));
	CHECK(w.queue.timeout(not_begun.rq, 60000));
	CHECK_EQ(log_lines(), 0);
	CHECK_EQ(w.stats().timeouts, 0);
	CHECK(w.queue.timeout(hangs.rq, 60000));
	CHECK_EQ(log_lines(), 1);
	CHECK_EQ(w.engine.cancels, 1);
	w.engine.complete(1);
	w.engine.complete(0);
	w.interrupt();
	CHECK(hangs.ok() && waits.ok());
	// It goes on, and then the host hangs.
	w.engine.clear_script();
	fake_now_ns += 100 * second;
	w.queue.try_again();
	w.engine.complete(0);
	w.interrupt();
	CHECK(kept.ok() && !not_begun.ended);
	log_clear();
	fake_now_ns += 29 * second;
	CHECK(w.queue.timeout(not_begun.rq, 129000));
	CHECK_EQ(log_lines(), 0);
	fake_now_ns += 2 * second;
	CHECK(w.queue.timeout(not_begun.rq, 131000));
	CHECK(log_has("has not ended for 31000 ms"));
	CHECK(w.settle());
}

// The device is removed, or the guest reboots: nothing waits any more.
UBD_CASE(whoever_goes_does_not_wait)
{
	for (bool reboot : each(false, true)) {
		for (bool in_trial : each(false, true)) {
			Fixture f(stopping());
			World &w = *f;
			fill_host(w);
			FakeRequest &a = w.send_new(UBD_OP_WRITE, 0, 4096);
			FakeRequest &b = w.send_new(UBD_OP_WRITE, 8, 4096);
			FakeRequest &c = w.send_new(UBD_OP_READ, 16, 4096);
			w.engine.hold = in_trial;
			if (in_trial)
				w.queue.try_again();
			if (reboot)
				w.queue.go_synchronous();
			else
				w.queue.end_stops();
			CHECK(w.settle());
			CHECK_EQ(a.status(), UBD_STATUS_NOSPC);
			CHECK_EQ(b.status(), UBD_STATUS_NOSPC);
			CHECK(c.ok());
			CHECK(log_has("write of 8 sectors at sector 0 failed: No space left on device"));
			CHECK_EQ(w.stats().stopped, 0);
			// From now on it is as with report.
			FakeRequest &d = w.send_new(UBD_OP_WRITE, 0, 4096);
			CHECK(w.settle());
			CHECK_EQ(d.status(), UBD_STATUS_NOSPC);
			CHECK_EQ(w.stats().stops, 1);
		}
	}
}

// With nothing but the reserve, which what is kept holds.
UBD_CASE(the_reserve_is_stopped_too)
{
	Fixture f(stopping());
	World &w = *f;
	w.k.headers.limit = w.k.chunks.limit = 0;
	fill_host(w);
	FakeRequest &a = w.send_new(UBD_OP_WRITE, 0, 8192, 0, 64);
	FakeRequest &b = w.send_new(UBD_OP_WRITE, 64, 8192, 0, 64);
	FakeRequest &c = w.send_new(UBD_OP_READ, 128, 4096);
	CHECK_EQ(w.stats().in_flight_space, 1);
	after_seconds(w, 3);
	w.engine.clear_script();
	CHECK(w.settle());
	CHECK(a.ok() && b.ok() && c.ok());
	CHECK_EQ(w.stats().stops, 1);
}

// A device that has failed does not wait for space.
UBD_CASE(durability_is_lost_meanwhile)
{
	Fixture f(stopping());
	World &w = *f;
	w.engine.hold = true;
	FakeRequest &flush = w.send_new(UBD_OP_FLUSH, 0, 0);
	FakeRequest &a = w.send_new(UBD_OP_WRITE, 0, 4096);
	FakeRequest &b = w.send_new(UBD_OP_WRITE, 8, 4096);
	fill_host(w);
	w.engine.script(op_sync, -errno_io);
	w.engine.complete(1);
	w.interrupt();
	CHECK_EQ(w.stats().stopped, 1);
	w.engine.complete(0);
	w.interrupt();
	CHECK_EQ(flush.status(), UBD_STATUS_IOERR);
	CHECK_EQ(a.status(), UBD_STATUS_NOSPC);
	CHECK(state_is(w, "failed: durability is lost"));
	CHECK_EQ(w.stats().stopped, 0);
	CHECK(w.settle());
	CHECK_EQ(b.status(), UBD_STATUS_NOSPC);
}

// The bits' space is asked for before the data: the write waits there.
UBD_CASE(space_for_bits)
{
	WorldConfig c = stopping_cow();
	c.cow_allocate = true;
	Fixture f(c);
	World &w = *f;
	fill_host(w, op_allocate);
	FakeRequest &r = w.send_new(UBD_OP_WRITE, 3, 4096);
	FakeRequest &second_one = w.send_new(UBD_OP_WRITE, 500, 4096);
	CHECK(!r.ended && !w.cow.bitmap.dirty());
	CHECK(log_has("of write of 8 sectors at sector 3: No space"));
	CHECK_EQ(after_seconds(w, 3), 2);
	w.engine.clear_script();
	CHECK(w.settle());
	CHECK(r.ok() && second_one.ok());
	CHECK(w.cow.bitmap.test(3) && w.cow.bitmap.test(500));
}

// A commit finds no space for its bits: it waits, and so does who flushes.
UBD_CASE(a_commit_waits)
{
	Fixture f(stopping_cow());
	World &w = *f;
	CHECK((w.send_new(UBD_OP_WRITE, 7, 512).ok()));
	fill_host(w);
	FakeRequest &flush = w.send_new(UBD_OP_FLUSH, 0, 0);
	FakeRequest &other = w.send_new(UBD_OP_FLUSH, 0, 0);
	CHECK(!flush.ended && !other.ended);
	CHECK(log_has("of flush: No space left on device (28); the device is stopped"));
	CHECK_EQ(w.engine.content(0)[cow_bitmap_at], 0);
	CHECK_EQ(after_seconds(w, 3), 2);
	CHECK_EQ(w.stats().commits, 0);
	w.engine.clear_script();
	CHECK(w.settle());
	CHECK(flush.ok() && other.ok());
	CHECK_EQ(w.engine.content(0)[cow_bitmap_at], 0x80);
	CHECK_EQ(w.stats().commits, 1);
	CHECK_EQ(w.stats().errors, 0);
}

// The same of one that nobody asked for; the device can go all the same.
UBD_CASE(a_commit_of_our_own_waits)
{
	for (bool goes : each(false, true)) {
		Fixture f(stopping_cow());
		World &w = *f;
		CHECK((w.send_new(UBD_OP_WRITE, 7, 512).ok()));
		fill_host(w);
		after_seconds(w, 6);
		CHECK_EQ(w.stats().committing, 1);
		CHECK_EQ(w.stats().stopped, 1);
		CHECK(log_has("of commit of the COW bitmap: No space"));
		CHECK_EQ(w.engine.content(0)[cow_bitmap_at], 0);
		CHECK(!w.queue.drained());
		if (goes) {
			w.queue.end_stops();
			CHECK(w.queue.drained());
			CHECK(log_has("commit of the COW bitmap failed: No space"));
			CHECK_EQ(w.stats().dirty_sectors, 1); // for the last commit
			continue;
		}
		FakeRequest &behind = w.send_new(UBD_OP_WRITE, 9, 512);
		CHECK(!behind.ended);
		w.engine.clear_script();
		after_seconds(w, 2);
		CHECK(behind.ok());
		CHECK_EQ(w.engine.content(0)[cow_bitmap_at], 0x80);
		CHECK_EQ(w.stats().commits, 1);
		CHECK(w.queue.drained());
	}
}

UBD_CASE(a_commit_of_which_a_part_fits)
{
	Fixture f(stopping_cow());
	World &w = *f;
	CHECK((w.send_new(UBD_OP_WRITE, 7, 512).ok()));
	w.engine.script(op_write, 50);
	fill_host(w);
	FakeRequest &flush = w.send_new(UBD_OP_FLUSH, 0, 0);
	CHECK(!flush.ended);
	CHECK(log_has("no space for 78 bytes of flush"));
	w.engine.clear_script();
	w.engine.script(op_write, 20);
	w.queue.try_again();
	CHECK(flush.ok());
	CHECK_EQ(w.engine.content(0)[cow_bitmap_at], 0x80);
	CHECK_EQ(w.stats().stopped, 0);
}

UBD_CASE(what_is_kept_is_traced)
{
	Fixture f(stopping());
	World &w = *f;
	fill_host(w);
	trace_events(true);
	w.send_new(UBD_OP_WRITE, 8, 4096);
	trace_events(false);
#ifdef UBD_TRACE
	CHECK(contains(traced_events(), "retry 0 write 0:4096+4096 space 28 later\n"));
#endif
	w.engine.clear_script();
	CHECK(w.settle());
}

} // namespace

const ubd_test_case ubd_suite_werror[] = {
	UBD_ENTRY(a_write_waits_for_space),
	UBD_ENTRY(others_are_reported),
	UBD_ENTRY(each_kind_that_needs_space),
	UBD_ENTRY(what_is_under_way_goes_on_and_nothing_else),
	UBD_ENTRY(a_part_fits),
	UBD_ENTRY(pauses_do_not_begin_anew_at_once),
	UBD_ENTRY(somebody_says_that_there_is_space),
	UBD_ENTRY(a_trial_that_takes_long),
	UBD_ENTRY(a_trial_that_fails_otherwise),
	UBD_ENTRY(a_trial_that_is_not_supported),
	UBD_ENTRY(no_timeout_while_it_is_stopped),
	UBD_ENTRY(whoever_goes_does_not_wait),
	UBD_ENTRY(the_reserve_is_stopped_too),
	UBD_ENTRY(durability_is_lost_meanwhile),
	UBD_ENTRY(space_for_bits),
	UBD_ENTRY(a_commit_waits),
	UBD_ENTRY(a_commit_of_our_own_waits),
	UBD_ENTRY(a_commit_of_which_a_part_fits),
	UBD_ENTRY(what_is_kept_is_traced),
	{ nullptr, nullptr },
};
