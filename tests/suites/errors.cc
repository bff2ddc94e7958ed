// SPDX-License-Identifier: GPL-2.0-only
/*
 * Short transfers, errors, durability: what is tried again, what the guest is
 * told, what the log says, and that nothing is lost or promised falsely.
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

UBD_CASE(short_transfers_are_continued)
{
	for (u32 piece : each(1u, 100u, 512u, 700u, 4096u, 5000u)) {
		Fixture f;
		World &w = *f;
		w.engine.script(op_write, static_cast<s32>(piece), for_ever);
		FakeRequest &a = w.make(UBD_OP_WRITE, 3, 8192, 0, 1024);
		a.write_pattern(piece);
		w.send(a);
		CHECK(w.settle());
		REQUIRE(a.ok());
		w.engine.clear_script();
		w.engine.script(op_read, static_cast<s32>(piece), for_ever);
		FakeRequest &b = w.send_new(UBD_OP_READ, 3, 8192, 0, 2048);
		CHECK(w.settle());
		REQUIRE(b.ok());
		CHECK(b.has_pattern(piece));
		CHECK_EQ(w.stats().chunks_continued, 2 * ((8192 + piece - 1) / piece - 1));
		CHECK_EQ(w.stats().chunks, 2);
		CHECK_EQ(w.stats().errors, 0);
	}
}

// Beyond the end of a file that was truncated is zero, and one warning.
UBD_CASE(reads_past_the_end)
{
	Fixture f;
	World &w = *f;
	__builtin_memset(w.engine.content(0), 0x77, 1 << 20);
	w.engine.file_end[0] = 10000;
	FakeRequest &across = w.make(UBD_OP_READ, 16, 4096, 0, 512); // 8192 to 12288
	FakeRequest &beyond = w.make(UBD_OP_READ, 100, 4096);
	across.write_pattern(9);
	beyond.write_pattern(9);
	w.send(across);
	w.send(beyond);
	CHECK(w.settle());
	CHECK(across.ok() && beyond.ok());
	u32 bad = 0, at = 8192;
	for (u32 i = 0; i < across.segments; i++)
		for (u64 j = 0; j < across.segment[i].bytes; j++, at++)
			bad += across.segment[i].base[j] != (at < 10000 ? 0x77 : 0);
	CHECK_EQ(bad, 0);
	CHECK(beyond.is_zero());
	CHECK_EQ(w.stats().zeroed_reads, 2);
	CHECK_EQ(log_lines(), 1);
	CHECK(log_has("ubdt") && log_has("/host/file") && log_has("truncate"));
}

UBD_CASE(a_write_without_effect_fails)
{
	Fixture f;
	World &w = *f;
	w.engine.script(op_write, 0);
	FakeRequest &r = w.send_new(UBD_OP_WRITE, 0, 512);
	CHECK_EQ(r.status(), UBD_STATUS_IOERR);
	w.engine.script(op_write, 512);
	w.engine.script(op_write, 0);
	FakeRequest &half = w.send_new(UBD_OP_WRITE, 0, 1024);
	CHECK_EQ(half.status(), UBD_STATUS_IOERR);
	CHECK((w.send_new(UBD_OP_WRITE, 0, 512).ok()));
}

UBD_CASE(interrupted_operations)
{
	for (u8 op = 0; op < 6; op++) {
		Fixture f;
		World &w = *f;
		w.engine.script(op, -errno_intr, 10);
		static constexpr u8 ops[] = { UBD_OP_READ,  UBD_OP_WRITE,   UBD_OP_WRITE,
					      UBD_OP_FLUSH, UBD_OP_DISCARD, UBD_OP_WRITE_ZEROES };
		u8 flags = op == op_write_sync ? UBD_RQ_FUA : op == 5 ? UBD_RQ_NOUNMAP : 0;
		FakeRequest &r = w.send_new(ops[op], 0, op == op_sync ? 0 : 4096, flags);
		CHECK(r.ok()); // at once
		CHECK_EQ(w.stats().chunks_retried, 10);
		CHECK_EQ(w.stats().errors, 0);
		CHECK_EQ(log_lines(), 0);
	}
}

// A host that is interrupted for ever does not hang the guest's CPU.
UBD_CASE(interrupted_for_ever)
{
	Fixture f;
	World &w = *f;
	w.engine.script(op_read, -errno_intr, for_ever);
	FakeRequest &r = w.send_new(UBD_OP_READ, 0, 512);
	CHECK(!r.ended);
	CHECK(w.engine.traces <= 200);
	CHECK(w.k.timer_ms > 0);
	w.engine.clear_script();
	CHECK(w.settle());
	CHECK(r.ok());
}

UBD_CASE(again_is_tried_after_a_pause)
{
	Fixture f;
	World &w = *f;
	w.engine.script(op_read, -errno_again, 9);
	FakeRequest &r = w.send_new(UBD_OP_READ, 0, 512);
	u32 ms = 10;
	for (u32 i = 0; i < 9; i++) {
		CHECK(!r.ended);
		CHECK_EQ(w.engine.traces, i + 1);
		CHECK_EQ(w.k.timer_ms, ms);
		CHECK(w.expire());
		ms = min(2 * ms, 1000u);
	}
	CHECK(r.ok());
	CHECK_EQ(w.stats().chunks_retried, 9);
	// A success resets the pause.
	w.engine.script(op_read, -errno_again);
	FakeRequest &s = w.send_new(UBD_OP_READ, 0, 512);
	CHECK_EQ(w.k.timer_ms, 10);
	CHECK(w.settle());
	CHECK(s.ok());
}

// Others are served while one waits for its next try.
// The host has no memory for an operation: it is asked again, but not for ever.
UBD_CASE(no_memory_on_the_host)
{
	for (u8 op : each(op_read, op_write, u8(HostOp::write_sync), u8(HostOp::punch), u8(HostOp::zero))) {
		CHECK(judge(HostOp(op), errno_nomem) == Verdict::retry_bounded);
		static constexpr u8 of[] = { UBD_OP_READ,  UBD_OP_WRITE,        UBD_OP_WRITE,
					     UBD_OP_FLUSH, UBD_OP_WRITE_ZEROES, UBD_OP_WRITE_ZEROES };
		const u8 flags = op == u8(HostOp::write_sync) ? UBD_RQ_FUA
				 : op == u8(HostOp::zero)     ? UBD_RQ_NOUNMAP
							      : 0;
		for (u64 times : each(1ull, 16ull, 17ull, for_ever)) {
			Fixture f;
			World &w = *f;
			w.engine.script(op, -errno_nomem, times);
			FakeRequest &r = w.send_new(of[op], 8, 4096, flags);
			CHECK_EQ(r.ended, 0);
			CHECK(w.settle());
			CHECK_EQ(r.ended, 1);
			CHECK_EQ(r.status(), times > 16 ? UBD_STATUS_IOERR : UBD_STATUS_OK);
			CHECK_EQ(w.stats().chunks_retried, min<u64>(times, 16));
			CHECK_EQ(log_lines(), times > 16 ? 1 : 0);
			CHECK(times <= 16 || log_has("Cannot allocate memory (12); free memory on the host"));
			// It is not this device that is broken.
			w.engine.clear_script();
			CHECK((w.send_new(UBD_OP_WRITE, 40, 8192).ok()));
		}
	}
	// What was to be durable may be lost: no second try proves that it is not.
	Fixture f;
	World &w = *f;
	w.engine.script(u8(HostOp::sync), -errno_nomem);
	CHECK_EQ((w.send_new(UBD_OP_FLUSH, ~0ull, 0).status()), UBD_STATUS_IOERR);
	CHECK_EQ((w.send_new(UBD_OP_WRITE, 40, 8192).status()), UBD_STATUS_IOERR);
}

UBD_CASE(a_pause_holds_up_nobody_else)
{
	Fixture f;
	World &w = *f;
	w.engine.script(op_read, -errno_again);
	FakeRequest &a = w.send_new(UBD_OP_READ, 0, 512);
	for (u32 i = 0; i < 20; i++)
		CHECK((w.send_new(UBD_OP_READ, i, 512).ok()));
	CHECK(!a.ended);
	CHECK(w.settle());
	CHECK(a.ok());
}

UBD_CASE(cancelled_operations_are_tried_again)
{
	Fixture f;
	World &w = *f;
	w.engine.script(op_write, -errno_canceled, 3);
	FakeRequest &r = w.send_new(UBD_OP_WRITE, 0, 512);
	CHECK(!r.ended);
	CHECK(w.settle());
	CHECK(r.ok());
	CHECK_EQ(log_lines(), 0);
}

UBD_CASE(status_of_errors)
{
	struct {
		int error;
		u8 status;
	} table[] = {
		{ errno_io, UBD_STATUS_IOERR },    { errno_nospc, UBD_STATUS_NOSPC },
		{ errno_dquot, UBD_STATUS_NOSPC }, { errno_rofs, UBD_STATUS_READONLY },
		{ errno_perm, UBD_STATUS_IOERR },  { errno_fbig, UBD_STATUS_IOERR },
		{ errno_fault, UBD_STATUS_IOERR }, { errno_inval, UBD_STATUS_IOERR },
		{ 116, UBD_STATUS_IOERR },         { errno_opnotsupp, UBD_STATUS_NOTSUPP },
		{ 4000, UBD_STATUS_IOERR },
	};
	for (auto &t : table) {
		Fixture f;
		World &w = *f;
		w.engine.script(op_write, -t.error);
		FakeRequest &r = w.send_new(UBD_OP_WRITE, 40, 8192);
		CHECK(w.settle());
		CHECK_EQ(r.status(), t.status);
		CHECK_EQ(w.stats().errors, 1);
		CHECK_EQ(log_lines(), 1);
		// Device, file, what, where, cause, remedy.
		CHECK(log_has("ubdt: /host/file: write of 16 sectors at sector 40 failed: "));
		CHECK(log_has(errno_words(t.error)));
		CHECK(log_has(remedy_for(t.error)));
		// Nothing sticks.
		CHECK((w.send_new(UBD_OP_WRITE, 40, 8192).ok()));
		CHECK((w.send_new(UBD_OP_FLUSH, ~0ull, 0).ok()));
	}
}

UBD_CASE(policy_table)
{
	for (u8 i = 0; i < 6; i++) {
		auto op = static_cast<HostOp>(i);
		bool makes_holes = op == HostOp::punch || op == HostOp::zero;
		CHECK(judge(op, errno_intr) == Verdict::retry_now);
		CHECK(judge(op, errno_again) == Verdict::retry_later);
		CHECK(judge(op, errno_canceled) == Verdict::retry_later);
		CHECK(judge(op, errno_opnotsupp) == (makes_holes ? Verdict::unsupported : Verdict::fail));
		CHECK(judge(op, errno_nosys) == (makes_holes ? Verdict::unsupported : Verdict::fail));
		for (int e : each(int(errno_io), int(errno_nospc), int(errno_inval), 9999))
			CHECK(judge(op, e) == Verdict::fail);
		// Whatever an fdatasync fails with, it has failed.
		CHECK_EQ(loses_durability(op, errno_io), op == HostOp::sync || op == HostOp::write_sync);
		CHECK_EQ(loses_durability(op, errno_nospc), op == HostOp::sync);
	}
	CHECK_EQ(status_of(0), UBD_STATUS_OK);
	for (int e = 1; e < 140; e++) {
		CHECK(status_of(e) != UBD_STATUS_OK);
		CHECK(remedy_for(e)[0]);
		CHECK(errno_words(e)[0]);
	}
	CHECK(contains(remedy_for(errno_nospc), "space"));
	CHECK(contains(remedy_for(errno_fault), "memory"));
	CHECK(contains(operation_name(UBD_OP_READ), "read"));
	CHECK(contains(operation_name(UBD_OP_WRITE_ZEROES), "zeroes"));
	CHECK(contains(operation_name(200), "?"));
}

UBD_CASE(words_for_errors)
{
	struct {
		int number;
		const char *words;
	} table[] = {
		{ 1, "Operation not permitted" },
		{ 5, "Input/output error" },
		{ 28, "No space left on device" },
		{ 30, "Read-only file system" },
		{ 122, "Disk quota exceeded" },
		{ 125, "Operation canceled" },
		{ 95, "Operation not supported" },
		{ 0, "error" },
		{ -5, "error" },
		{ 9999, "error" },
	};
	for (auto &t : table)
		CHECK(contains(errno_words(t.number), t.words));
}

// One part of many fails: the rest is let go, the request ends once with it.
UBD_CASE(an_error_in_the_middle)
{
	for (u32 which = 0; which < 6; which++)
		for (bool hold : each(false, true)) {
			Fixture f;
			World &w = *f;
			w.engine.hold = hold;
			w.engine.limit = 2;
			for (u32 i = 0; i < which; i++)
				w.engine.script(op_write, in_full);
			w.engine.script(op_write, -errno_nospc);
			FakeRequest &r = w.send_new(UBD_OP_WRITE, 0, 6 * 64 * 512, 0, 512);
			FakeRequest &after = w.send_new(UBD_OP_READ, 900, 512);
			CHECK(w.settle());
			CHECK_EQ(r.ended, 1);
			CHECK_EQ(r.status(), UBD_STATUS_NOSPC);
			CHECK(after.ok());
			CHECK_EQ(w.stats().errors, 1);
			// Not much was sent after the error was known.
			u64 writes = w.engine.ops[op_write];
			CHECK(writes <= which + 3);
		}
}

// The head waits in the middle of its parts when the error comes.
UBD_CASE(an_error_while_the_head_waits)
{
	Fixture f;
	World &w = *f;
	w.engine.hold = true;
	w.k.chunks.limit = 0;
	w.engine.script(op_write, -errno_io);
	FakeRequest &r = w.send_new(UBD_OP_WRITE, 0, 4 * 64 * 512, 0, 512);
	FakeRequest &next = w.send_new(UBD_OP_READ, 0, 512);
	CHECK_EQ(w.engine.with_host(), 1);
	w.engine.complete(0);
	CHECK(w.interrupt());
	CHECK_EQ(r.ended, 1);
	CHECK_EQ(r.status(), UBD_STATUS_IOERR);
	CHECK_EQ(w.engine.ops[op_write], 0);
	CHECK(w.settle());
	CHECK(next.ok());
}

// -- durability ------------------------------------------------------------------------

UBD_CASE(fua_writes_are_dsync_writes)
{
	Fixture f;
	World &w = *f;
	w.send_new(UBD_OP_WRITE, 0, 4096);
	w.send_new(UBD_OP_WRITE, 8, 4096, UBD_RQ_FUA);
	CHECK(w.engine.trace(0).op == HostOp::write);
	CHECK(w.engine.trace(1).op == HostOp::write_sync);
	CHECK_EQ(w.stats().host_dsync_writes, 1);
	CHECK(w.engine.dirty[0] && !w.engine.dirty[8]);
}

UBD_CASE(writethrough)
{
	Fixture f({ .sync_writes = true });
	World &w = *f;
	w.engine.script(op_write_sync, 512, 3);
	w.send_new(UBD_OP_WRITE, 0, 4096);
	CHECK_EQ(w.engine.ops[op_write], 0);
	CHECK_EQ(w.engine.ops[op_write_sync], 4);
	w.send_new(UBD_OP_WRITE_ZEROES, 0, 4096);
	CHECK_EQ(w.engine.ops[op_sync], 1);
	CHECK(w.engine.trace(w.engine.traces - 1).op == HostOp::sync);
	w.engine.no_punch = w.engine.no_zero = true;
	w.send_new(UBD_OP_WRITE_ZEROES, 0, 4096);
	CHECK_EQ(w.engine.ops[op_sync], 2);
	for (u32 i = 0; i < 8; i++)
		CHECK(!w.engine.dirty[i]);
}

UBD_CASE(flush_covers_what_was_ended_before)
{
	Fixture f;
	World &w = *f;
	w.send_new(UBD_OP_WRITE, 0, 65536);
	FakeRequest &flush = w.send_new(UBD_OP_FLUSH, ~0ull, 0);
	CHECK(flush.ok());
	CHECK(w.engine.last_sync > flush.sent_at);
	for (u32 i = 0; i < 128; i++)
		CHECK(!w.engine.dirty[i]);
}

// After a failed fdatasync no success proves anything.
UBD_CASE(a_failed_sync_sticks)
{
	for (int e : each(int(errno_io), int(errno_nospc), int(errno_dquot))) {
		Fixture f;
		World &w = *f;
		w.engine.script(op_sync, -e);
		FakeRequest &a = w.send_new(UBD_OP_FLUSH, ~0ull, 0);
		CHECK(a.ended == 1 && a.status() != UBD_STATUS_OK);
		CHECK(log_has("ubdt: /host/file: the host failed to make data durable"));
		CHECK(log_has("restart the guest"));
		u64 before = w.engine.traces;
		CHECK_EQ((w.send_new(UBD_OP_FLUSH, ~0ull, 0).status()), UBD_STATUS_IOERR);
		CHECK_EQ((w.send_new(UBD_OP_WRITE, 0, 512).status()), UBD_STATUS_IOERR);
		CHECK_EQ((w.send_new(UBD_OP_WRITE_ZEROES, 0, 512).status()), UBD_STATUS_IOERR);
		CHECK_EQ(w.engine.traces, before);
		CHECK((w.send_new(UBD_OP_READ, 0, 512).ok()));
	}
}

UBD_CASE(a_failed_dsync_write_sticks)
{
	struct {
		int error;
		bool sticks;
	} table[] = {
		{ errno_io, true },    { 116, true },          { errno_nospc, false }, { errno_dquot, false },
		{ errno_fbig, false }, { errno_fault, false }, { errno_rofs, false },
	};
	for (auto &t : table) {
		Fixture f;
		World &w = *f;
		w.engine.script(op_write_sync, -t.error);
		FakeRequest &a = w.send_new(UBD_OP_WRITE, 0, 512, UBD_RQ_FUA);
		CHECK(a.ended == 1 && a.status() != UBD_STATUS_OK);
		CHECK_EQ((w.send_new(UBD_OP_FLUSH, ~0ull, 0).ok()), !t.sticks);
		CHECK_EQ((w.send_new(UBD_OP_WRITE, 0, 512).ok()), !t.sticks);
		CHECK_EQ(log_has("the host failed to make data durable"), t.sticks);
	}
}

// The host tells a lost write once for each open file: of two fdatasync calls
// under way one would be told success for what the other lost. So there is one
// at a time, and who waits for it is not told success either.
UBD_CASE(flushes_that_wait_fail_with_the_first)
{
	Fixture f;
	World &w = *f;
	w.engine.hold = true;
	FakeRequest &a = w.send_new(UBD_OP_FLUSH, ~0ull, 0);
	FakeRequest &b = w.send_new(UBD_OP_FLUSH, ~0ull, 0);
	FakeRequest &c = w.send_new(UBD_OP_FLUSH, ~0ull, 0);
	w.engine.script(op_sync, -errno_io);
	CHECK(w.settle());
	for (FakeRequest *r : each(&a, &b, &c))
		CHECK_EQ(r->status(), UBD_STATUS_IOERR);
	CHECK_EQ(w.stats().errors, 3);
}

UBD_CASE(flushes_share_the_next_sync)
{
	Fixture f;
	World &w = *f;
	w.engine.hold = true;
	w.send_new(UBD_OP_FLUSH, ~0ull, 0);
	for (u32 i = 0; i < 5; i++) {
		CHECK_EQ(w.engine.with_host(), 1);
		w.send_new(UBD_OP_FLUSH, ~0ull, 0);
	}
	w.send_new(UBD_OP_WRITE_ZEROES, 0, 4096, UBD_RQ_FUA);
	CHECK_EQ(w.engine.with_host(), 2);
	w.engine.complete(1); // the zeroes need a sync as well
	CHECK(w.interrupt());
	CHECK_EQ(w.engine.with_host(), 1);
	w.engine.complete(0);
	CHECK(w.interrupt());
	CHECK_EQ(w.pending(), 6);
	CHECK_EQ(w.engine.with_host(), 1);
	// Who comes now is too late for this one.
	FakeRequest &late = w.send_new(UBD_OP_FLUSH, ~0ull, 0);
	w.engine.complete(0);
	CHECK(w.interrupt());
	CHECK_EQ(w.pending(), 1);
	CHECK(!late.ended);
	CHECK(w.settle());
	CHECK(late.ok());
	CHECK_EQ(w.stats().host_syncs, 3);
	CHECK_EQ(w.stats().syncs_shared, 5);
}

// The one that the others share is tried again: they wait with it.
UBD_CASE(a_shared_sync_is_tried_again)
{
	for (int e : each(int(errno_intr), int(errno_again), int(errno_canceled)))
		for (bool dry : each(false, true)) {
			Fixture f;
			World &w = *f;
			w.engine.hold = true;
			if (dry)
				w.k.chunks.limit = 3;
			FakeRequest *r[4];
			for (FakeRequest *&q : r)
				q = &w.send_new(UBD_OP_FLUSH, ~0ull, 0);
			w.engine.script(op_sync, -e, 3);
			CHECK(w.settle());
			for (FakeRequest *q : r)
				CHECK(q->ok());
			CHECK(w.stats().host_syncs <= 2);
		}
}

// A sync that ends after a durable write beside it failed is not believed. One
// that ended before is: durable writes have an opening of the file of their
// own, so they cannot take the host's report of a loss from it.
UBD_CASE(a_flush_fails_with_a_durable_write)
{
	for (bool flush_first : each(false, true)) {
		Fixture f;
		World &w = *f;
		w.engine.hold = true;
		FakeRequest &d = w.send_new(UBD_OP_WRITE, 0, 512, UBD_RQ_FUA);
		FakeRequest &a = w.send_new(UBD_OP_FLUSH, ~0ull, 0);
		REQUIRE(w.engine.with_host() == 2);
		w.engine.script(op_write_sync, -errno_io);
		// Both are there when the queue looks, in either order.
		w.engine.complete(flush_first ? 1 : 0);
		w.engine.complete(0);
		CHECK(w.interrupt());
		CHECK_EQ(d.status(), UBD_STATUS_IOERR);
		CHECK_EQ(a.status(), flush_first ? UBD_STATUS_OK : UBD_STATUS_IOERR);
	}
}

// One that ends after another one's loss is not told success, whatever the host
// says of it; the loss itself is told once.
UBD_CASE(a_durable_write_fails_with_another)
{
	for (bool both : each(false, true)) {
		Fixture f;
		World &w = *f;
		w.engine.hold = true;
		FakeRequest &a = w.send_new(UBD_OP_WRITE, 0, 512, UBD_RQ_FUA);
		FakeRequest &b = w.send_new(UBD_OP_WRITE, 8, 512, UBD_RQ_FUA);
		REQUIRE(w.engine.with_host() == 2);
		w.engine.script(op_write_sync, -errno_io, both ? 2 : 1);
		w.engine.complete(0);
		w.engine.complete(0);
		CHECK(w.interrupt());
		CHECK_EQ(a.status(), UBD_STATUS_IOERR);
		CHECK_EQ(b.status(), UBD_STATUS_IOERR);
		// What failed, each time; and once what follows.
		CHECK_EQ(log_lines(), both ? 3 : 2);
	}
}

// The same for durable zeroes, whose fdatasync begins or ends after the loss.
UBD_CASE(durable_zeroes_under_way_fail_with_a_flush)
{
	for (bool zeroes_done : each(false, true)) {
		Fixture f;
		World &w = *f;
		w.engine.hold = true;
		FakeRequest &z = w.send_new(UBD_OP_WRITE_ZEROES, 0, 4096, UBD_RQ_FUA);
		FakeRequest &a = w.send_new(UBD_OP_FLUSH, ~0ull, 0);
		REQUIRE(w.engine.with_host() == 2);
		w.engine.script(op_sync, -errno_io);
		if (zeroes_done) {
			w.engine.complete(0);
			CHECK(w.interrupt()); // its fdatasync waits for the flush's
		}
		w.engine.complete(zeroes_done ? 0 : 1);
		CHECK(w.interrupt());
		CHECK_EQ(a.status(), UBD_STATUS_IOERR);
		CHECK(w.settle());
		CHECK_EQ(z.status(), UBD_STATUS_IOERR);
		CHECK_EQ(w.engine.traces, 2); // no fdatasync that would prove nothing
	}
}

// A flush has no place on the disk: the message names none.
UBD_CASE(a_failed_flush_names_no_sector)
{
	Fixture f;
	World &w = *f;
	w.engine.script(op_sync, -errno_io);
	w.send_new(UBD_OP_FLUSH, ~0ull, 0); // as blk-mq numbers it
	CHECK(log_has("flush") && log_has("Input/output error (5)"));
	CHECK(!log_has("18446744073709551615"));
}

// What a request is told is what went wrong first.
UBD_CASE(the_first_error_counts)
{
	Fixture f;
	World &w = *f;
	w.engine.hold = true;
	FakeRequest &r = w.send_new(UBD_OP_WRITE, 0, 3 * 64 * 512, 0, 512);
	REQUIRE(w.engine.with_host() == 3);
	w.engine.script(op_write, -errno_nospc);
	w.engine.script(op_write, in_full);
	w.engine.script(op_write, -errno_io);
	w.engine.complete_all();
	CHECK(w.interrupt());
	CHECK_EQ(r.status(), UBD_STATUS_NOSPC);
}

// Noticed while there is I/O, and said once.
UBD_CASE(a_removed_file)
{
	Fixture f;
	World &w = *f;
	w.engine.removed = true;
	for (u32 i = 0; i < 3; i++) {
		w.engine.hold = true;
		FakeRequest &r = w.send_new(UBD_OP_WRITE, 0, 512);
		CHECK(w.expire());
		CHECK(w.settle());
		CHECK(r.ok());
	}
	CHECK_EQ(log_lines(), 1);
	CHECK(log_has("ubdt: /host/file: the file was removed") && log_has("copy what you need"));
}

} // namespace

const ubd_test_case ubd_suite_errors[] = {
	UBD_ENTRY(short_transfers_are_continued),
	UBD_ENTRY(reads_past_the_end),
	UBD_ENTRY(a_write_without_effect_fails),
	UBD_ENTRY(interrupted_operations),
	UBD_ENTRY(interrupted_for_ever),
	UBD_ENTRY(again_is_tried_after_a_pause),
	UBD_ENTRY(no_memory_on_the_host),
	UBD_ENTRY(a_pause_holds_up_nobody_else),
	UBD_ENTRY(cancelled_operations_are_tried_again),
	UBD_ENTRY(status_of_errors),
	UBD_ENTRY(policy_table),
	UBD_ENTRY(words_for_errors),
	UBD_ENTRY(an_error_in_the_middle),
	UBD_ENTRY(an_error_while_the_head_waits),
	UBD_ENTRY(fua_writes_are_dsync_writes),
	UBD_ENTRY(writethrough),
	UBD_ENTRY(flush_covers_what_was_ended_before),
	UBD_ENTRY(a_failed_sync_sticks),
	UBD_ENTRY(a_failed_dsync_write_sticks),
	UBD_ENTRY(flushes_that_wait_fail_with_the_first),
	UBD_ENTRY(flushes_share_the_next_sync),
	UBD_ENTRY(a_shared_sync_is_tried_again),
	UBD_ENTRY(a_flush_fails_with_a_durable_write),
	UBD_ENTRY(a_durable_write_fails_with_another),
	UBD_ENTRY(durable_zeroes_under_way_fail_with_a_flush),
	UBD_ENTRY(a_failed_flush_names_no_sector),
	UBD_ENTRY(the_first_error_counts),
	UBD_ENTRY(a_removed_file),
	{ nullptr, nullptr },
};
