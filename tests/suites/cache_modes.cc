// SPDX-License-Identifier: GPL-2.0-only
/*
 * What cache modes ask of core: unsafe, in which nothing is made durable and the
 * bits of a COW file are written all the same; and O_DIRECT, by which transfers
 * begin and end at blocks.
 */
#include "fake.hh"

using namespace ubd;
using namespace ubd::test;

namespace
{

constexpr u64 device_sectors = 1024;
constexpr u8 op_read = static_cast<u8>(HostOp::read);
constexpr u8 op_write = static_cast<u8>(HostOp::write);
constexpr u8 op_sync = static_cast<u8>(HostOp::sync);

WorldConfig unsafe_cow(u32 commit_ms = 5000)
{
	WorldConfig c;
	c.no_flush = true;
	c.cow_sectors = device_sectors;
	c.commit_ms = commit_ms;
	return c;
}

u32 bits_in_file(World &w)
{
	u32 n = 0;
	for (u64 s = 0; s < device_sectors; s++)
		n += w.engine.content(0)[cow_bitmap_at + s / 8] >> (s % 8) & 1;
	return n;
}

bool is_bitmap_write(const Trace &t)
{
	return t.op == HostOp::write && t.offset >= cow_bitmap_at && t.offset < cow_data_at;
}

// Whoever asks, and whatever is under way.
UBD_CASE(unsafe_asks_for_no_sync)
{
	Fixture f({ .no_flush = true });
	World &w = *f;
	CHECK((w.send_new(UBD_OP_FLUSH, ~0ull, 0).ok()));
	CHECK_EQ(w.engine.traces, 0);
	CHECK((w.send_new(UBD_OP_WRITE, 0, 4096, UBD_RQ_FUA).ok()));
	CHECK((w.send_new(UBD_OP_WRITE_ZEROES, 8, 4096, UBD_RQ_FUA).ok()));
	CHECK_EQ(w.engine.traces, 2);
	CHECK(w.engine.trace(0).op == HostOp::write && w.engine.trace(1).op == HostOp::punch);
	w.engine.hold = true;
	FakeRequest &wr = w.send_new(UBD_OP_WRITE, 0, 4096);
	FakeRequest &flush = w.send_new(UBD_OP_FLUSH, ~0ull, 0);
	CHECK(!wr.ended && flush.ok());
	// Nor any memory.
	w.k.headers.limit = w.k.chunks.limit = 0;
	w.send_new(UBD_OP_WRITE, 8, 4096);
	CHECK((w.send_new(UBD_OP_FLUSH, ~0ull, 0).ok()));
	CHECK(w.settle());
	CHECK_EQ(w.stats().requests[UBD_OP_FLUSH], 3);
	CHECK_EQ(w.engine.ops[op_sync], 0);
	CHECK_EQ(w.stats().host_syncs, 0);
	CHECK_EQ(w.stats().errors, 0);
}

// In turn, too: one that waits for memory is not overtaken.
UBD_CASE(unsafe_flushes_keep_their_turn)
{
	Fixture f({ .no_flush = true });
	World &w = *f;
	w.engine.hold = true;
	w.engine.limit = 1;
	w.send_new(UBD_OP_WRITE, 0, 4096);
	FakeRequest &second = w.send_new(UBD_OP_WRITE, 8, 4096);
	FakeRequest &flush = w.send_new(UBD_OP_FLUSH, ~0ull, 0);
	CHECK(!flush.ended);
	CHECK(w.settle());
	CHECK(flush.ok() && flush.end_order < second.end_order);
}

// Bits are written after a while, and only of what has landed.
UBD_CASE(unsafe_background_commit)
{
	Fixture f(unsafe_cow(1000));
	World &w = *f;
	CHECK((w.send_new(UBD_OP_WRITE, 7, 512).ok()));
	CHECK((w.send_new(UBD_OP_FLUSH, ~0ull, 0).ok()));
	CHECK_EQ(w.engine.traces, 1);
	w.engine.hold = true;
	FakeRequest &flying = w.send_new(UBD_OP_WRITE, 9, 512);
	w.engine.hold = false;
	CHECK(w.expire());
	REQUIRE(w.engine.traces == 3);
	CHECK(is_bitmap_write(w.engine.trace(2)));
	CHECK_EQ(bits_in_file(w), 1);
	w.engine.complete_all();
	w.interrupt();
	CHECK(flying.ok());
	CHECK_EQ(w.stats().dirty_sectors, 1);
	CHECK(w.expire());
	CHECK_EQ(bits_in_file(w), 2);
	CHECK_EQ(w.stats().dirty_sectors, 0);
	CHECK_EQ(w.stats().commits, 2);
	CHECK_EQ(w.stats().bitmap_writes, 2);
	CHECK_EQ(w.engine.ops[op_sync], 0);
	CHECK_EQ(w.stats().host_syncs, 0);
	// Then there is rest.
	for (u32 i = 0; w.expire(); i++)
		REQUIRE(i < 5);
	CHECK_EQ(w.engine.traces, 4);
}

// What lands while bits are being written is for the next time.
UBD_CASE(unsafe_bits_set_during_a_commit)
{
	Fixture f(unsafe_cow(1000));
	World &w = *f;
	w.send_new(UBD_OP_WRITE, 7, 512);
	w.engine.hold = true;
	CHECK(w.expire());
	REQUIRE(w.engine.with_host() == 1);
	w.send_new(UBD_OP_WRITE, 9, 512);
	w.engine.complete(1);
	w.interrupt();
	CHECK(w.cow.bitmap.test(9));
	w.engine.complete(0);
	w.interrupt();
	CHECK_EQ(bits_in_file(w), 1);
	CHECK(w.cow.bitmap.dirty() && !w.cow.bitmap.sealed());
	w.engine.hold = false;
	CHECK(w.expire());
	CHECK_EQ(bits_in_file(w), 2);
}

UBD_CASE(unsafe_commit_that_fails)
{
	Fixture f(unsafe_cow(100));
	World &w = *f;
	w.send_new(UBD_OP_WRITE, 7, 512);
	w.engine.script(op_write, -errno_nospc);
	CHECK(w.expire());
	CHECK(log_has("commit of the COW bitmap failed: No space left on device (28)"));
	CHECK_EQ(bits_in_file(w), 0);
	CHECK(w.cow.bitmap.dirty() && !w.cow.poisoned);
	CHECK((w.send_new(UBD_OP_FLUSH, ~0ull, 0).ok()));
	CHECK(w.expire());
	CHECK_EQ(bits_in_file(w), 1);
	CHECK_EQ(w.stats().errors, 0);
}

UBD_CASE(unsafe_synchronous_mode_commits)
{
	Fixture f(unsafe_cow());
	World &w = *f;
	w.engine.hold = true;
	FakeRequest &a = w.send_new(UBD_OP_WRITE, 7, 512);
	w.queue.go_synchronous();
	CHECK(a.ok());
	CHECK_EQ(bits_in_file(w), 1);
	CHECK((w.send_new(UBD_OP_WRITE, 9, 512).ok()));
	CHECK_EQ(bits_in_file(w), 2);
	CHECK_EQ(w.engine.ops[op_sync], 0);
}

// Short transfers that end within a block: the block is done again.
UBD_CASE(direct_continues_at_blocks)
{
	for (u32 block : each(512u, 4096u))
		for (u32 piece : each(block, block + 1, 2 * block - 1, 2 * block, 3 * block + block / 2)) {
			Fixture f({ .block = block });
			World &w = *f;
			const u64 bytes = 8 * block;
			w.engine.script(op_write, static_cast<s32>(piece), for_ever);
			FakeRequest &a = w.make(UBD_OP_WRITE, 16, bytes, 0, block);
			a.write_pattern(piece);
			w.send(a);
			CHECK(w.settle());
			REQUIRE(a.ok());
			w.engine.clear_script();
			w.engine.script(op_read, static_cast<s32>(piece), for_ever);
			FakeRequest &b = w.send_new(UBD_OP_READ, 16, bytes, 0, 2 * block);
			CHECK(w.settle());
			REQUIRE(b.ok());
			CHECK(b.has_pattern(piece));
			CHECK_EQ(w.stats().chunks_continued, 2 * ((8 + piece / block - 1) / (piece / block) - 1));
			CHECK_EQ(w.stats().zeroed_reads, 0);
			CHECK_EQ(log_lines(), 0);
		}
}

// A file that ends within a block: what is missing is zero, wherever the host
// came to an end.
UBD_CASE(direct_reads_past_the_end)
{
	for (u32 block : each(512u, 4096u))
		for (u64 end : each(0u, 1u, block - 1, block, block + 1, 3 * block, 3 * block + 100, 4 * block - 1)) {
			Fixture f({ .block = block });
			World &w = *f;
			__builtin_memset(w.engine.content(0), 0x77, 8 * block);
			w.engine.file_end[0] = end;
			FakeRequest &r = w.make(UBD_OP_READ, 0, 4 * block, 0, block);
			r.write_pattern(9);
			w.send(r);
			CHECK(w.settle());
			REQUIRE(r.ok());
			u32 bad = 0;
			u64 at = 0;
			for (u32 i = 0; i < r.segments; i++)
				for (u64 j = 0; j < r.segment[i].bytes; j++, at++)
					bad += r.segment[i].base[j] != (at < end ? 0x77 : 0);
			CHECK_EQ(bad, 0);
			CHECK_EQ(w.stats().zeroed_reads, 1);
			CHECK_EQ(w.engine.traces, end < block ? 1 : 2);
			CHECK_EQ(log_lines(), 1);
			CHECK(log_has("the file ends before the device does"));
		}
}

// No file ends where one writes: that much of a block is an error.
UBD_CASE(direct_writes_of_a_part_of_a_block)
{
	Fixture f({ .block = 4096 });
	World &w = *f;
	w.engine.script(op_write, 512);
	CHECK_EQ((w.send_new(UBD_OP_WRITE, 0, 8192).status()), UBD_STATUS_IOERR);
	w.engine.script(op_write, 4096 + 512);
	w.engine.script(op_write, 4095);
	CHECK_EQ((w.send_new(UBD_OP_WRITE, 0, 8192).status()), UBD_STATUS_IOERR);
	CHECK((w.send_new(UBD_OP_WRITE, 0, 8192).ok()));
}

// Zeros that are written come from memory that is aligned, also after a part.
UBD_CASE(direct_zeroes)
{
	Fixture f({ .block = 4096 });
	World &w = *f;
	w.engine.no_punch = w.engine.no_zero = true;
	__builtin_memset(w.engine.content(0), 0x77, 1 << 20);
	w.engine.script(op_write, 4096 + 17);
	w.engine.script(op_write, 65536 + 4095);
	CHECK((w.send_new(UBD_OP_WRITE_ZEROES, 8, 300 << 10).ok()));
	FakeRequest &r = w.send_new(UBD_OP_READ, 8, 300 << 10, 0, 65536);
	CHECK(r.ok() && r.is_zero());
}

// A COW file: data by the one descriptor, bits and their space by the other.
UBD_CASE(direct_cow)
{
	WorldConfig c;
	c.block = 4096;
	c.cow_sectors = device_sectors;
	c.cow_allocate = true;
	Fixture f(c);
	World &w = *f;
	CHECK((w.send_new(UBD_OP_WRITE, 8, 8192).ok() && w.send_new(UBD_OP_FLUSH, ~0ull, 0).ok()));
	CHECK((w.send_new(UBD_OP_READ, 0, 16384).ok()));
	static constexpr struct {
		HostOp op;
		u8 file;
		u64 offset;
	} expected[] = {
		{ HostOp::allocate, buffered_file, cow_bitmap_at },
		{ HostOp::write, main_file, cow_data_at + 4096 },
		{ HostOp::sync, main_file, 0 },
		{ HostOp::write, buffered_file, cow_bitmap_at },
		{ HostOp::sync, main_file, 0 },
		{ HostOp::read, backing_file, 0 },
		{ HostOp::read, main_file, cow_data_at + 4096 },
		{ HostOp::read, backing_file, 12288 },
	};
	REQUIRE(w.engine.traces == 8);
	for (u32 i = 0; i < 8; i++) {
		const Trace &t = w.engine.trace(i);
		CHECK(t.op == expected[i].op);
		CHECK_EQ(t.file, expected[i].file);
		CHECK(t.op == HostOp::sync || t.offset == expected[i].offset);
	}
	CHECK_EQ(bits_in_file(w), 16);
	// Messages about it name the COW file.
	w.engine.script(op_write, in_full);
	w.engine.script(op_write, -errno_nospc);
	CHECK((w.send_new(UBD_OP_WRITE, 64, 4096).ok()));
	CHECK_EQ((w.send_new(UBD_OP_FLUSH, ~0ull, 0).status()), UBD_STATUS_NOSPC);
	CHECK(log_has("/host/file") && !log_has("/host/backing"));
}

// What O_DIRECT refuses for its alignment goes by the page cache, once.
UBD_CASE(direct_what_is_refused)
{
	WorldConfig c;
	c.block = 4096;
	c.cow_sectors = device_sectors;
	Fixture f(c);
	World &w = *f;
	w.engine.script(op_write, -errno_inval);
	FakeRequest &a = w.make(UBD_OP_WRITE, 16, 8192);
	a.write_pattern(5);
	w.send(a);
	CHECK(a.ok());
	REQUIRE(w.engine.traces == 2);
	CHECK_EQ(w.engine.trace(0).file, main_file);
	CHECK_EQ(w.engine.trace(1).file, buffered_file);
	w.engine.script(op_read, -errno_inval);
	CHECK((w.send_new(UBD_OP_READ, 64, 4096).ok()));
	CHECK_EQ(w.engine.trace(3).file, backing_file + buffered_file);
	CHECK((w.send_new(UBD_OP_READ, 16, 8192).has_pattern(5)));
	CHECK_EQ(w.engine.trace(4).file, main_file);
	CHECK_EQ(log_lines(), 0);
	w.engine.script(op_read, -errno_inval, 2);
	CHECK_EQ((w.send_new(UBD_OP_READ, 64, 4096).status()), UBD_STATUS_IOERR);
	CHECK(log_has("/host/backing: read of 8 sectors at sector 64 failed"));
}

// Without O_DIRECT there is no other way.
UBD_CASE(buffered_what_is_refused)
{
	Fixture f;
	World &w = *f;
	w.engine.script(op_write, -errno_inval);
	CHECK_EQ((w.send_new(UBD_OP_WRITE, 16, 8192).status()), UBD_STATUS_IOERR);
	CHECK_EQ(w.engine.traces, 1);
}

// Faults on demand: what is cut short ends at a block, as the host's does.
UBD_CASE(direct_short_by_demand)
{
	Fixture f({ .block = 4096, .faults = true });
	World &w = *f;
	FaultRules rules;
	REQUIRE(!FaultRules::parse("any short", 9, rules));
	w.faults.set(rules);
	FakeRequest &a = w.make(UBD_OP_WRITE, 16, 10 * 4096, 0, 4096);
	a.write_pattern(3);
	w.send(a);
	CHECK(w.settle());
	FakeRequest &b = w.send_new(UBD_OP_READ, 16, 10 * 4096);
	CHECK(w.settle());
	CHECK(a.ok() && b.ok() && b.has_pattern(3));
	CHECK(w.stats().chunks_continued > 4);
	CHECK_EQ(w.stats().zeroed_reads, 0);
}

} // namespace

const ubd_test_case ubd_suite_cache_modes[] = {
	UBD_ENTRY(unsafe_asks_for_no_sync),
	UBD_ENTRY(unsafe_flushes_keep_their_turn),
	UBD_ENTRY(unsafe_background_commit),
	UBD_ENTRY(unsafe_bits_set_during_a_commit),
	UBD_ENTRY(unsafe_commit_that_fails),
	UBD_ENTRY(unsafe_synchronous_mode_commits),
	UBD_ENTRY(direct_continues_at_blocks),
	UBD_ENTRY(direct_reads_past_the_end),
	UBD_ENTRY(direct_writes_of_a_part_of_a_block),
	UBD_ENTRY(direct_zeroes),
	UBD_ENTRY(direct_cow),
	UBD_ENTRY(direct_what_is_refused),
	UBD_ENTRY(buffered_what_is_refused),
	UBD_ENTRY(direct_short_by_demand),
	{ nullptr, nullptr },
};
