// SPDX-License-Identifier: GPL-2.0-only
/*
 * Discard and write-zeroes on hosts that can and cannot: punch a hole, zero a
 * range, write zeros; learned once, at any length, durable when asked.
 */
#include "fake.hh"

using namespace ubd;
using namespace ubd::test;

namespace
{

constexpr u8 op_write = static_cast<u8>(HostOp::write);
constexpr u8 op_sync = static_cast<u8>(HostOp::sync);
constexpr u8 op_punch = static_cast<u8>(HostOp::punch);
constexpr u8 op_zero = static_cast<u8>(HostOp::zero);

// All combinations: what the host can, which kind, durable or not. Twice: the
// second time what the host cannot is known.
UBD_CASE(every_way_to_make_zeros)
{
	for (u32 host = 0; host < 4; host++)
		for (int flags : each(0, int(UBD_RQ_NOUNMAP), int(UBD_RQ_FUA), int(UBD_RQ_NOUNMAP | UBD_RQ_FUA))) {
			Fixture f;
			World &w = *f;
			w.engine.no_punch = host & 1;
			w.engine.no_zero = host & 2;
			HostOp asked = flags & UBD_RQ_NOUNMAP ? HostOp::zero : HostOp::punch;
			HostOp done = asked;
			if (done == HostOp::punch && w.engine.no_punch)
				done = HostOp::zero;
			if (done == HostOp::zero && w.engine.no_zero)
				done = HostOp::write;
			for (u32 round = 0; round < 2; round++) {
				__builtin_memset(w.engine.content(0), 0x5a, 1 << 20);
				u64 before = w.engine.traces;
				FakeRequest &r = w.send_new(UBD_OP_WRITE_ZEROES, 8, 300 << 10, static_cast<u8>(flags));
				CHECK(w.settle());
				REQUIRE(r.ok());
				u32 bad = 0;
				for (u32 i = 0; i < 1 << 20; i++)
					bad += w.engine.content(0)[i] !=
					       (i >= 4096 && i < 4096 + (300 << 10) ? 0 : 0x5a);
				CHECK_EQ(bad, 0);
				u64 last = w.engine.traces - 1;
				if (flags & UBD_RQ_FUA) {
					CHECK(w.engine.trace(last).op == HostOp::sync);
					CHECK(!w.engine.dirty[8] && !w.engine.dirty[607]);
					last--;
				}
				CHECK(w.engine.trace(last).op == done);
				if (round == 1) // nothing is tried in vain again
					CHECK_EQ(last, before);
			}
			CHECK_EQ(w.engine.ops[op_sync], flags & UBD_RQ_FUA ? 2 : 0);
			CHECK_EQ(w.k.discard_disabled, asked == HostOp::punch && w.engine.no_punch);
			CHECK_EQ(w.stats().errors, 0);
			CHECK_EQ(log_lines(), 0);
		}
}

// Many MiB of zeros by writing: one chunk, many host calls, none too large.
UBD_CASE(long_zeroes_by_writing)
{
	for (u64 bytes : each(64 * 65536ull, 64 * 65536ull + 512, 20ull << 20, (1ull << 31) - 512)) {
		Fixture f;
		World &w = *f;
		w.engine.data = false;
		w.engine.no_punch = w.engine.no_zero = true;
		w.k.headers.limit = w.k.chunks.limit = 0;
		w.engine.script(op_write, 700 * 512, 3); // some are short
		FakeRequest &r = w.send_new(UBD_OP_WRITE_ZEROES, 2048, bytes, UBD_RQ_FUA);
		CHECK(w.settle());
		REQUIRE(r.ok());
		u64 writes = w.engine.ops[op_write];
		CHECK(writes >= bytes / (64 * 65536) && writes <= bytes / (64 * 65536) + 5);
		const Trace &last = w.engine.trace(w.engine.traces - 2);
		CHECK(last.op == HostOp::write);
		CHECK_EQ(last.offset + last.bytes, (2048ull << 9) + bytes);
		CHECK_EQ(w.engine.ops[op_sync], 1);
	}
}

UBD_CASE(zeroes_by_writing_can_fail)
{
	Fixture f;
	World &w = *f;
	w.engine.no_punch = w.engine.no_zero = true;
	w.engine.script(op_write, 512);
	w.engine.script(op_write, -errno_nospc);
	FakeRequest &r = w.send_new(UBD_OP_WRITE_ZEROES, 0, 65536, UBD_RQ_FUA);
	CHECK(w.settle());
	CHECK_EQ(r.status(), UBD_STATUS_NOSPC);
	CHECK_EQ(w.engine.ops[op_sync], 0); // there is nothing to make durable
	CHECK(log_has("write-zeroes of 128 sectors at sector 0 failed: No space left on device (28)"));
	CHECK((w.send_new(UBD_OP_WRITE_ZEROES, 0, 4096).ok()));
}

UBD_CASE(discard_unsupported)
{
	Fixture f;
	World &w = *f;
	w.engine.hold = true;
	w.engine.no_punch = true;
	// Three under way when it is learned: said once.
	FakeRequest *r[3];
	for (u32 i = 0; i < 3; i++)
		r[i] = &w.send_new(UBD_OP_DISCARD, 8 * i, 4096);
	CHECK(w.settle());
	for (FakeRequest *q : r)
		CHECK_EQ(q->status(), UBD_STATUS_NOTSUPP);
	CHECK_EQ(w.k.discard_disabled, 1);
	u64 before = w.engine.traces;
	CHECK_EQ((w.send_new(UBD_OP_DISCARD, 0, 4096).status()), UBD_STATUS_NOTSUPP);
	CHECK_EQ(w.engine.traces, before);
	CHECK_EQ(log_lines(), 0);
}

UBD_CASE(discard_makes_a_hole)
{
	Fixture f;
	World &w = *f;
	__builtin_memset(w.engine.content(0), 0x5a, 1 << 20);
	CHECK((w.send_new(UBD_OP_DISCARD, 8, 4096).ok()));
	CHECK_EQ(w.engine.content(0)[4095], 0x5a);
	CHECK_EQ(w.engine.content(0)[4096], 0);
	CHECK_EQ(w.engine.content(0)[8191], 0);
	CHECK_EQ(w.engine.content(0)[8192], 0x5a);
	CHECK_EQ(w.engine.ops[op_sync], 0);
	w.engine.script(op_punch, -errno_io);
	CHECK_EQ((w.send_new(UBD_OP_DISCARD, 8, 4096).status()), UBD_STATUS_IOERR);
	CHECK_EQ(w.k.discard_disabled, 0);
}

// Several under way when the host turns out to be unable: each falls back.
UBD_CASE(zeroes_under_way_fall_back)
{
	Fixture f;
	World &w = *f;
	w.engine.hold = true;
	w.engine.no_punch = w.engine.no_zero = true;
	FakeRequest *r[6];
	for (u32 i = 0; i < 6; i++)
		r[i] = &w.send_new(UBD_OP_WRITE_ZEROES, 128 * i, 65536, i % 2 ? UBD_RQ_NOUNMAP : 0);
	__builtin_memset(w.engine.content(0), 0x5a, 1 << 20);
	CHECK(w.settle());
	for (FakeRequest *q : r)
		CHECK(q->ok());
	for (u32 i = 0; i < 6 * 65536; i++)
		if (w.engine.content(0)[i]) {
			CHECK_EQ(i, ~0u);
			break;
		}
}

UBD_CASE(errors_while_falling_back)
{
	Fixture f;
	World &w = *f;
	w.engine.no_punch = true;
	w.engine.script(op_zero, -errno_intr, 2);
	w.engine.script(op_zero, -errno_again, 1);
	w.engine.script(op_zero, -errno_nosys, 1);
	w.engine.script(op_write, -errno_intr, 1);
	FakeRequest &r = w.send_new(UBD_OP_WRITE_ZEROES, 0, 4096);
	CHECK(w.settle());
	CHECK(r.ok());
	CHECK_EQ(w.engine.ops[op_write], 1);
}

// Durability is had once, after the last part.
UBD_CASE(one_sync_for_many_parts)
{
	struct Halves final : Layout {
		Run next_run(u8, ByteOffset at, ByteCount max) const override
		{
			return Run{ at, ByteCount(min<u64>(max.value, 64 << 10)), 0 };
		}
	} layout;
	Fixture f({ .layout = &layout });
	World &w = *f;
	w.engine.hold = true;
	FakeRequest &r = w.send_new(UBD_OP_WRITE_ZEROES, 0, 512 << 10, UBD_RQ_FUA);
	CHECK_EQ(w.engine.with_host(), 8);
	for (u32 i = 8; i; i--) {
		CHECK_EQ(w.engine.ops[op_sync], 0);
		w.engine.complete(i / 2);
		CHECK(w.interrupt());
	}
	CHECK_EQ(w.engine.with_host(), 1);
	CHECK_EQ(r.ended, 0);
	CHECK(w.settle());
	CHECK(r.ok());
	CHECK_EQ(w.engine.ops[op_sync], 1);
	CHECK_EQ(w.engine.traces, 9);
}

} // namespace

const ubd_test_case ubd_suite_zeroes[] = {
	UBD_ENTRY(every_way_to_make_zeros),   UBD_ENTRY(long_zeroes_by_writing),  UBD_ENTRY(zeroes_by_writing_can_fail),
	UBD_ENTRY(discard_unsupported),       UBD_ENTRY(discard_makes_a_hole),    UBD_ENTRY(zeroes_under_way_fall_back),
	UBD_ENTRY(errors_while_falling_back), UBD_ENTRY(one_sync_for_many_parts), { nullptr, nullptr },
};
