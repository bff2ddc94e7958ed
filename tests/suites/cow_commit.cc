// SPDX-License-Identifier: GPL-2.0-only
/*
 * A COW device: where reads and writes go, when a bit is set, and the commit:
 * data, fdatasync, bits as they were sealed, fdatasync.
 */
#include "fake.hh"

using namespace ubd;
using namespace ubd::test;

namespace
{

constexpr u64 device_sectors = 1024;
constexpr u8 op_write = static_cast<u8>(HostOp::write);
constexpr u8 op_sync = static_cast<u8>(HostOp::sync);

WorldConfig cow_config(u32 commit_ms = 5000)
{
	WorldConfig c;
	c.cow_sectors = device_sectors;
	c.commit_ms = commit_ms;
	return c;
}

bool bit_in_file(World &w, u64 sector)
{
	return w.engine.content(0)[cow_bitmap_at + sector / 8] >> (sector % 8) & 1;
}

u32 bits_in_file(World &w)
{
	u32 n = 0;
	for (u64 s = 0; s < device_sectors; s++)
		n += bit_in_file(w, s);
	return n;
}

// The host did these, in this order, since `from`.
bool did(World &w, u64 from, const char *ops)
{
	u64 i = from;
	for (; *ops; ops++, i++) {
		if (i >= w.engine.traces)
			return false;
		const Trace &t = w.engine.trace(i);
		const bool bitmap = t.offset >= cow_bitmap_at && t.offset < cow_data_at && t.file == 0;
		const char is = t.op == HostOp::sync ? 's' : t.op == HostOp::write ? (bitmap ? 'b' : 'w') : '?';
		if (is != *ops)
			return false;
	}
	return i == w.engine.traces;
}

// Lets the host do one thing after the other, in order, until it has no more.
void run_dry(World &w)
{
	while (w.engine.with_host()) {
		w.engine.complete(0);
		w.interrupt();
	}
}

UBD_CASE(reads_go_where_the_sectors_are)
{
	Fixture f(cow_config());
	World &w = *f;
	u8 *backing = w.engine.content(1), *cow = w.engine.content(0) + cow_data_at;
	for (u32 i = 0; i < device_sectors * sector_bytes; i++) {
		backing[i] = static_cast<u8>(i / sector_bytes + 1);
		cow[i] = 0xee;
	}
	CHECK((w.send_new(UBD_OP_WRITE, 10, 3 * 512).ok()));
	CHECK((w.send_new(UBD_OP_WRITE, 20, 5 * 512).ok()));
	const u64 before = w.engine.traces;
	FakeRequest &r = w.send_new(UBD_OP_READ, 8, 20 * 512, 0, 1536);
	CHECK(r.ok());
	CHECK_EQ(w.engine.traces - before, 5);
	static constexpr struct {
		u64 first, sectors;
		u8 file;
	} runs[] = { { 8, 2, 1 }, { 10, 3, 0 }, { 13, 7, 1 }, { 20, 5, 0 }, { 25, 3, 1 } };
	for (u32 i = 0; i < 5; i++) {
		const Trace &t = w.engine.trace(before + i);
		CHECK_EQ(t.file, runs[i].file);
		CHECK_EQ(t.bytes, runs[i].sectors * 512);
		CHECK_EQ(t.offset, runs[i].first * 512 + (runs[i].file ? 0 : cow_data_at));
	}
	u8 *got = static_cast<u8 *>(ubd_test_alloc(20 * 512));
	r.copy_out(got);
	u32 bad = 0;
	for (u32 i = 0; i < 20 * 512; i++) {
		const u32 s = 8 + i / 512;
		const bool written = (s >= 10 && s < 13) || (s >= 20 && s < 25);
		bad += got[i] != (written ? 0 : static_cast<u8>(s + 1));
	}
	ubd_test_free(got);
	CHECK_EQ(bad, 0);
}

// Until a write has landed, reads find what was there before.
UBD_CASE(a_bit_is_set_when_the_data_has_landed)
{
	Fixture f(cow_config());
	World &w = *f;
	w.engine.hold = true;
	FakeRequest &wr = w.send_new(UBD_OP_WRITE, 5, 1024);
	CHECK(!w.cow.bitmap.test(5) && !w.cow.bitmap.dirty());
	w.send_new(UBD_OP_READ, 5, 1024);
	CHECK_EQ(w.engine.trace(w.engine.traces - 1).file, 1);
	// In two pieces: the first alone is not enough.
	w.engine.script(op_write, 512);
	w.engine.complete(0);
	w.interrupt();
	CHECK(!w.cow.bitmap.test(5) && !w.cow.bitmap.dirty() && !wr.ended);
	CHECK(w.settle());
	CHECK(wr.ok() && w.cow.bitmap.test(5) && w.cow.bitmap.test(6) && !w.cow.bitmap.test(7));
	CHECK_EQ(w.stats().dirty_sectors, 2);
	CHECK_EQ(bits_in_file(w), 0);
	w.engine.hold = false;
	w.send_new(UBD_OP_READ, 5, 1024);
	CHECK_EQ(w.engine.trace(w.engine.traces - 1).file, 0);
}

UBD_CASE(a_failed_write_sets_nothing)
{
	for (int e : each(int(errno_nospc), int(errno_io))) {
		Fixture f(cow_config());
		World &w = *f;
		w.engine.script(op_write, 512);
		w.engine.script(op_write, -e);
		FakeRequest &r = w.send_new(UBD_OP_WRITE, 5, 2048);
		CHECK(w.settle());
		CHECK(r.ended && !r.ok());
		CHECK(!w.cow.bitmap.dirty() && !w.cow.bitmap.test(5));
		w.send_new(UBD_OP_READ, 5, 512);
		CHECK_EQ(w.engine.trace(w.engine.traces - 1).file, 1);
		// And it goes on.
		CHECK((w.send_new(UBD_OP_WRITE, 5, 2048).ok() && w.cow.bitmap.test(8)));
		CHECK((w.send_new(UBD_OP_FLUSH, ~0ull, 0).ok() && bits_in_file(w) == 4));
	}
}

UBD_CASE(a_flush_is_a_commit)
{
	Fixture f(cow_config());
	World &w = *f;
	CHECK((w.send_new(UBD_OP_FLUSH, ~0ull, 0).ok()));
	CHECK(did(w, 0, "s")); // nothing to commit
	w.send_new(UBD_OP_WRITE, 7, 9 * 512);
	u64 from = w.engine.traces;
	CHECK((w.send_new(UBD_OP_FLUSH, ~0ull, 0).ok()));
	CHECK(did(w, from, "sbs"));
	for (u64 s = 0; s < device_sectors; s++)
		CHECK_EQ(bit_in_file(w, s), s >= 7 && s < 16);
	CHECK_EQ(w.engine.trace(from + 1).offset, cow_bitmap_at);
	CHECK_EQ(w.engine.trace(from + 1).bytes, device_sectors / 8);
	CHECK_EQ(w.stats().commits, 1);
	CHECK_EQ(w.stats().dirty_sectors, 0);
	// What was written before is written in place.
	w.send_new(UBD_OP_WRITE, 8, 4 * 512);
	from = w.engine.traces;
	CHECK((w.send_new(UBD_OP_FLUSH, ~0ull, 0).ok()));
	CHECK(did(w, from, "s"));
	// The file itself must be untouched outside of bitmap and data.
	for (u64 i = 0; i < cow_bitmap_at; i++)
		if (w.engine.content(0)[i])
			return CHECK_EQ(i, ~0ull);
}

// At each moment of a commit a write lands: its bit must wait for the next one.
UBD_CASE(bits_set_during_a_commit_wait_for_the_next)
{
	for (u32 moment : each(0u, 1u, 2u)) {
		Fixture f(cow_config());
		World &w = *f;
		w.send_new(UBD_OP_WRITE, 7, 512);
		w.engine.hold = true;
		FakeRequest &flush = w.send_new(UBD_OP_FLUSH, ~0ull, 0);
		for (u32 i = 0; i < moment; i++) {
			w.engine.complete(0);
			w.interrupt();
		}
		CHECK_EQ(w.stats().dirty_sectors, 1);
		w.send_new(UBD_OP_WRITE, 9, 512);
		w.engine.complete(w.engine.with_host() - 1);
		w.interrupt();
		CHECK(w.cow.bitmap.test(9) && !flush.ended);
		w.send_new(UBD_OP_READ, 9, 512);
		CHECK_EQ(w.engine.trace(w.engine.traces - 1).file, 0);
		run_dry(w);
		CHECK(flush.ok());
		CHECK(bit_in_file(w, 7) && !bit_in_file(w, 9));
		CHECK(w.cow.bitmap.dirty() && w.cow.bitmap.test(9));
		w.engine.hold = false;
		CHECK((w.send_new(UBD_OP_FLUSH, ~0ull, 0).ok()));
		CHECK_EQ(bits_in_file(w), 2);
	}
}

// One may share a commit only while its fdatasync has not been handed over.
UBD_CASE(a_flush_that_comes_too_late_gets_its_own)
{
	Fixture f(cow_config());
	World &w = *f;
	w.send_new(UBD_OP_WRITE, 7, 512);
	w.engine.hold = true;
	FakeRequest &first = w.send_new(UBD_OP_FLUSH, ~0ull, 0);
	w.send_new(UBD_OP_WRITE, 9, 512);
	w.engine.complete(1);
	w.interrupt();
	FakeRequest &second = w.send_new(UBD_OP_FLUSH, ~0ull, 0);
	FakeRequest &third = w.send_new(UBD_OP_FLUSH, ~0ull, 0);
	for (u32 i = 0; i < 3; i++) {
		CHECK(!first.ended && w.engine.with_host() == 1);
		w.engine.complete(0);
		w.interrupt();
	}
	CHECK(first.ok() && !second.ended && !bit_in_file(w, 9));
	run_dry(w);
	CHECK(second.ok() && third.ok() && bit_in_file(w, 9));
	CHECK_EQ(w.stats().commits, 2);
	CHECK_EQ(w.stats().syncs_shared, 1);
}

// The first fdatasync has to be tried again: who joins it then is sealed then.
UBD_CASE(a_commit_that_begins_anew_takes_all)
{
	Fixture f(cow_config());
	World &w = *f;
	w.send_new(UBD_OP_WRITE, 7, 512);
	w.engine.hold = true;
	FakeRequest &first = w.send_new(UBD_OP_FLUSH, ~0ull, 0);
	w.send_new(UBD_OP_WRITE, 9, 512);
	w.engine.complete(1);
	w.interrupt();
	FakeRequest &second = w.send_new(UBD_OP_FLUSH, ~0ull, 0);
	w.engine.script(op_sync, -errno_again);
	w.engine.complete(0);
	w.interrupt();
	CHECK(w.expire());
	run_dry(w);
	CHECK(first.ok() && second.ok());
	CHECK_EQ(w.stats().commits, 1);
	CHECK_EQ(bits_in_file(w), 2);
}

// What fails when the bits are written is not lost: they are written again.
UBD_CASE(a_failed_bitmap_write_is_repeated)
{
	Fixture f(cow_config());
	World &w = *f;
	w.send_new(UBD_OP_WRITE, 7, 512);
	w.engine.script(op_write, -errno_nospc);
	FakeRequest &r = w.send_new(UBD_OP_FLUSH, ~0ull, 0);
	CHECK_EQ(r.status(), UBD_STATUS_NOSPC);
	CHECK(log_has("flush failed: No space left on device (28)"));
	CHECK(w.cow.bitmap.dirty() && !w.cow.bitmap.sealed() && !w.cow.poisoned);
	CHECK_EQ(bits_in_file(w), 0);
	CHECK((w.send_new(UBD_OP_WRITE, 9, 512).ok()));
	// Short ones are continued, and one that moves nothing has failed.
	w.engine.script(op_write, 100);
	w.engine.script(op_write, 0);
	CHECK_EQ((w.send_new(UBD_OP_FLUSH, ~0ull, 0).status()), UBD_STATUS_IOERR);
	w.engine.clear_script();
	w.engine.script(op_write, 100);
	CHECK((w.send_new(UBD_OP_FLUSH, ~0ull, 0).ok()));
	CHECK(bit_in_file(w, 7) && bit_in_file(w, 9));
	CHECK_EQ(bits_in_file(w), 2);
	CHECK_EQ(w.stats().chunks_continued, 2);
}

// Neither the data nor the bits can be trusted then; no bit may follow.
UBD_CASE(a_failed_sync_ends_all_commits)
{
	for (u32 which : each(0u, 1u)) {
		Fixture f(cow_config());
		World &w = *f;
		CHECK((w.send_new(UBD_OP_WRITE, 1, 512).ok() && w.send_new(UBD_OP_FLUSH, ~0ull, 0).ok()));
		w.send_new(UBD_OP_WRITE, 7, 512);
		w.engine.hold = true;
		FakeRequest &flush = w.send_new(UBD_OP_FLUSH, ~0ull, 0);
		FakeRequest &later = w.send_new(UBD_OP_FLUSH, ~0ull, 0);
		if (which) {
			w.engine.complete(0);
			w.interrupt();
		}
		FakeRequest &landing = w.send_new(UBD_OP_WRITE, 9, 512);
		w.engine.script(op_sync, -errno_io);
		run_dry(w);
		w.engine.hold = false;
		CHECK_EQ(flush.status(), UBD_STATUS_IOERR);
		CHECK_EQ(later.status(), UBD_STATUS_IOERR);
		CHECK(landing.ended && w.cow.poisoned);
		CHECK_EQ((w.send_new(UBD_OP_WRITE, 11, 512).status()), UBD_STATUS_IOERR);
		CHECK_EQ((w.send_new(UBD_OP_FLUSH, ~0ull, 0).status()), UBD_STATUS_IOERR);
		const u64 before = w.engine.traces;
		for (u32 i = 0; i < 20; i++)
			w.expire();
		w.queue.go_synchronous();
		CHECK_EQ(w.engine.traces, before);
		CHECK(!bit_in_file(w, 9) && bit_in_file(w, 1));
		// What is readable stays so.
		CHECK((w.send_new(UBD_OP_READ, 7, 512).ok()));
	}
}

// Bits that nobody flushes are committed after a while, without any memory.
UBD_CASE(background_commit)
{
	for (bool dry : each(false, true)) {
		Fixture f(cow_config(3000));
		World &w = *f;
		w.send_new(UBD_OP_WRITE, 7, 512);
		FakeRequest *stuck = nullptr;
		if (dry) {
			// The reserve has an owner, and he does not come to an end.
			w.k.headers.limit = w.k.chunks.limit = 0;
			w.engine.hold = true;
			stuck = &w.send_new(UBD_OP_READ, 100, 512);
			w.send_new(UBD_OP_FLUSH, ~0ull, 0);
		}
		const u64 from = w.engine.traces;
		u32 turns = 0;
		while (!w.stats().commits) {
			REQUIRE(++turns <= 4);
			CHECK(dry || w.k.timer_ms == 1000);
			REQUIRE(w.expire());
			if (dry && turns == 3) {
				// Beside the read that hangs.
				for (u32 i = 0; i < 3; i++) {
					REQUIRE(w.engine.with_host() == 2);
					w.engine.complete(1);
					w.interrupt();
				}
				CHECK(!stuck->ended);
			}
		}
		CHECK_EQ(turns, 3);
		CHECK(did(w, from, "sbs"));
		CHECK_EQ(bits_in_file(w), 1);
		CHECK(w.settle());
		while (w.expire())
			REQUIRE(++turns < 10); // then there is rest
	}
}

// Its age goes on while a host that is short of something makes for short pauses.
UBD_CASE(background_commit_beside_pauses)
{
	Fixture f(cow_config(1000));
	World &w = *f;
	w.send_new(UBD_OP_WRITE, 7, 512);
	u32 turns = 0;
	while (!w.stats().commits) {
		REQUIRE(++turns <= 6);
		REQUIRE(w.k.timer_ms == 1000);
		fake_now_ns += 200000000;
		w.engine.script(static_cast<u8>(HostOp::read), -11); // EAGAIN
		w.send_new(UBD_OP_READ, 100, 512);
		REQUIRE(w.k.timer_ms == 10);
		fake_now_ns += 10000000;
		REQUIRE(w.expire());
	}
	CHECK_EQ(turns, 5);
	CHECK(w.settle());
}

// While one is under way no other begins; what has come since is for the next.
UBD_CASE(background_commit_that_takes_long)
{
	Fixture f(cow_config(1000));
	World &w = *f;
	w.send_new(UBD_OP_WRITE, 7, 512);
	CHECK(w.expire()); // nothing came since
	CHECK_EQ(w.stats().commits, 1);
	w.send_new(UBD_OP_WRITE, 9, 512);
	w.engine.hold = true;
	CHECK(w.expire());
	CHECK(w.expire());
	CHECK_EQ(w.engine.with_host(), 1);
	CHECK_EQ(w.stats().in_flight, 0);
	w.send_new(UBD_OP_WRITE, 11, 512);
	w.engine.complete(1);
	CHECK(w.interrupt());
	for (u32 i = 0; i < 3; i++)
		CHECK(w.expire());
	CHECK_EQ(w.engine.with_host(), 1);
	run_dry(w);
	CHECK_EQ(w.stats().commits, 2);
	CHECK_EQ(bits_in_file(w), 2);
	CHECK(w.expire());
	run_dry(w);
	CHECK_EQ(w.stats().commits, 3);
	CHECK_EQ(bits_in_file(w), 3);
}

UBD_CASE(background_commit_that_fails)
{
	Fixture f(cow_config(100));
	World &w = *f;
	w.send_new(UBD_OP_WRITE, 7, 512);
	w.engine.script(op_write, -errno_nospc, 2);
	CHECK_EQ(w.k.timer_ms, 100);
	CHECK(w.expire());
	CHECK(log_has("commit of the COW bitmap failed: No space left on device (28)"));
	CHECK_EQ(bits_in_file(w), 0);
	CHECK(w.expire() && !bits_in_file(w));
	CHECK(w.expire());
	CHECK_EQ(bits_in_file(w), 1);
	CHECK_EQ(w.stats().errors, 0);
}

// Never, where that was asked for.
UBD_CASE(no_background_commit)
{
	Fixture f(cow_config(0));
	World &w = *f;
	w.send_new(UBD_OP_WRITE, 7, 512);
	for (u32 i = 0; w.expire(); i++)
		REQUIRE(i < 5);
	CHECK_EQ(bits_in_file(w), 0);
}

// A reboot comes: what is written is committed before anything else happens.
UBD_CASE(synchronous_mode_commits)
{
	Fixture f(cow_config());
	World &w = *f;
	w.engine.hold = true;
	FakeRequest &a = w.send_new(UBD_OP_WRITE, 7, 512);
	w.queue.go_synchronous();
	CHECK(a.ok());
	CHECK_EQ(bits_in_file(w), 1);
	CHECK((w.send_new(UBD_OP_WRITE, 9, 512).ok()));
	CHECK_EQ(bits_in_file(w), 2);
	// When it cannot be done it is not tried for ever.
	w.engine.script(op_write, in_full);
	w.engine.script(op_write, -errno_nospc, for_ever);
	CHECK((w.send_new(UBD_OP_WRITE, 11, 512).ok()));
	CHECK_EQ(bits_in_file(w), 2);
	w.engine.clear_script();
	CHECK((w.send_new(UBD_OP_WRITE, 13, 512).ok()));
	CHECK_EQ(bits_in_file(w), 4);
}

UBD_CASE(write_through)
{
	WorldConfig c = cow_config();
	c.sync_writes = true;
	Fixture f(c);
	World &w = *f;
	u64 from = w.engine.traces;
	CHECK((w.send_new(UBD_OP_WRITE, 7, 512).ok()));
	CHECK(did(w, from, "wsbs"));
	CHECK_EQ(bits_in_file(w), 1);
	from = w.engine.traces;
	CHECK((w.send_new(UBD_OP_WRITE, 7, 512).ok()));
	CHECK(did(w, from, "ws"));
	CHECK((w.send_new(UBD_OP_WRITE_ZEROES, 100, 64 << 10).ok()));
	CHECK_EQ(bits_in_file(w), 129);
	// Side by side they share.
	w.engine.hold = true;
	FakeRequest *r[8];
	for (u32 i = 0; i < 8; i++)
		r[i] = &w.send_new(UBD_OP_WRITE, 300 + 2 * i, 512);
	w.engine.complete_all();
	w.interrupt();
	run_dry(w);
	for (FakeRequest *q : r)
		CHECK(q->ok());
	CHECK_EQ(bits_in_file(w), 137);
	CHECK(w.stats().commits <= 4);
	// One that cannot be committed has failed.
	w.engine.hold = false;
	w.engine.script(op_write, in_full);
	w.engine.script(op_write, -errno_nospc);
	CHECK_EQ((w.send_new(UBD_OP_WRITE, 400, 512).status()), UBD_STATUS_NOSPC);
}

// FUA is not advertised; who sets it is heard all the same.
UBD_CASE(fua_is_a_commit)
{
	Fixture f(cow_config());
	World &w = *f;
	CHECK((w.send_new(UBD_OP_WRITE, 7, 512, UBD_RQ_FUA).ok()));
	CHECK(did(w, 0, "wsbs"));
	CHECK_EQ(bits_in_file(w), 1);
}

// Zeros cover what was in the backing file; a discard leaves that alone.
UBD_CASE(zeroes_and_discards)
{
	Fixture f(cow_config());
	World &w = *f;
	__builtin_memset(w.engine.content(1), 0x77, device_sectors * sector_bytes);
	u64 from = w.engine.traces;
	CHECK((w.send_new(UBD_OP_DISCARD, 0, device_sectors * 512).ok()));
	CHECK_EQ(w.engine.traces, from);
	CHECK(!w.cow.bitmap.dirty());
	CHECK((w.send_new(UBD_OP_WRITE_ZEROES, 100, 300 * 512).ok()));
	CHECK_EQ(w.engine.traces, from + 1);
	CHECK_EQ(w.stats().dirty_sectors, 300);
	FakeRequest &r = w.send_new(UBD_OP_READ, 100, 300 * 512);
	CHECK(r.ok() && r.is_zero());
	FakeRequest &wr = w.make(UBD_OP_WRITE, 200, 100 * 512);
	wr.write_pattern(5);
	w.send(wr);
	CHECK(wr.ok());
	from = w.engine.traces;
	CHECK((w.send_new(UBD_OP_DISCARD, 0, device_sectors * 512).ok()));
	CHECK_EQ(w.engine.traces, from + 1);
	CHECK_EQ(w.engine.trace(from).offset, cow_data_at + 100 * 512);
	CHECK_EQ(w.engine.trace(from).bytes, 300 * 512);
	FakeRequest &all = w.send_new(UBD_OP_READ, 0, device_sectors * 512);
	CHECK(w.settle());
	u8 *flat = static_cast<u8 *>(ubd_test_alloc(device_sectors * 512));
	all.copy_out(flat);
	u32 bad = 0;
	for (u64 i = 0; i < device_sectors * 512; i++)
		bad += flat[i] != (i / 512 >= 100 && i / 512 < 400 ? 0 : 0x77);
	ubd_test_free(flat);
	CHECK_EQ(bad, 0);
	// A discard that ends among sectors of the backing file, with a full ring.
	w.engine.limit = 1;
	w.engine.hold = true;
	FakeRequest &d = w.send_new(UBD_OP_DISCARD, 50, 500 * 512);
	FakeRequest &d2 = w.send_new(UBD_OP_DISCARD, 300, 300 * 512);
	CHECK(w.settle());
	CHECK(d.ok() && d2.ok());
}

// Blocks that lie side by side are written by one call, as many as fit.
UBD_CASE(many_blocks)
{
	WorldConfig c;
	c.cow_sectors = 40 * CowBitmap::block_sectors + 100;
	Fixture f(c);
	World &w = *f;
	w.engine.data = false;
	const u64 n = CowBitmap::block_sectors;
	for (u64 b = 0; b < 20; b++)
		w.send_new(UBD_OP_WRITE, b * n, 512);
	w.send_new(UBD_OP_WRITE, 30 * n, 512);
	w.send_new(UBD_OP_WRITE, 40 * n + 99, 512);
	const u64 from = w.engine.traces;
	CHECK((w.send_new(UBD_OP_FLUSH, ~0ull, 0).ok()));
	CHECK_EQ(w.engine.traces - from, 6);
	static constexpr struct {
		u64 block, bytes;
	} writes[] = { { 0, 16 * 4096 }, { 16, 4 * 4096 }, { 30, 4096 }, { 40, 13 } };
	for (u32 i = 0; i < 4; i++) {
		const Trace &t = w.engine.trace(from + 1 + i);
		CHECK(t.op == HostOp::write);
		CHECK_EQ(t.offset, cow_bitmap_at + writes[i].block * 4096);
		CHECK_EQ(t.bytes, writes[i].bytes);
	}
	CHECK_EQ(w.stats().bitmap_writes, 4);
	CHECK(!w.cow.bitmap.dirty() && !w.cow.bitmap.sealed());
}

constexpr u8 op_allocate = static_cast<u8>(HostOp::allocate);
constexpr u64 part = Cow::part_sectors;

// Two parts of the bitmap, and a piece.
WorldConfig allocating()
{
	WorldConfig c;
	c.cow_sectors = 2 * part + 100;
	c.cow_allocate = true;
	return c;
}

bool allocates(const Trace &t, u64 first, u64 bytes)
{
	return t.op == HostOp::allocate && t.file == 0 && t.offset == cow_bitmap_at + first && t.bytes == bytes;
}

// A write has space made for its bits, once for each part of the bitmap.
UBD_CASE(bits_get_their_space_first)
{
	Fixture f(allocating());
	World &w = *f;
	w.engine.data = false;
	// Nobody but who sets bits needs it.
	CHECK((w.send_new(UBD_OP_READ, 0, 512).ok() && w.send_new(UBD_OP_DISCARD, 0, 4096).ok()));
	CHECK((w.send_new(UBD_OP_FLUSH, ~0ull, 0).ok()));
	u64 at = w.engine.traces;
	CHECK((w.send_new(UBD_OP_WRITE, part - 2, 2048).ok()));
	REQUIRE(w.engine.traces - at == 2);
	CHECK(allocates(w.engine.trace(at), 0, 2 * Cow::buffer_bytes));
	CHECK(w.engine.trace(at + 1).op == HostOp::write);
	at = w.engine.traces;
	CHECK((w.send_new(UBD_OP_WRITE, 2 * part - 1, 512).ok()));
	CHECK((w.send_new(UBD_OP_WRITE_ZEROES, 5, 512).ok()));
	CHECK_EQ(w.engine.traces - at, 2);
	// From the middle of a part that has it to the end of the device.
	at = w.engine.traces;
	CHECK((w.send_new(UBD_OP_WRITE_ZEROES, part + 7, (part + 93) * 512).ok()));
	REQUIRE(w.engine.traces - at == 2);
	CHECK(allocates(w.engine.trace(at), 2 * Cow::buffer_bytes, 13));
	CHECK_EQ(w.stats().bitmap_allocations, 2);
}

// From both ends only what is missing.
UBD_CASE(space_between_what_has_it)
{
	WorldConfig c = allocating();
	c.cow_sectors = 70 * part;
	Fixture f(c);
	World &w = *f;
	w.engine.data = false;
	CHECK((w.send_new(UBD_OP_WRITE, 10 * part, 512).ok() && w.send_new(UBD_OP_WRITE, 69 * part, 512).ok()));
	const u64 at = w.engine.traces;
	CHECK((w.send_new(UBD_OP_WRITE_ZEROES, 10 * part, 60 * part * 512).ok()));
	CHECK(allocates(w.engine.trace(at), 11 * Cow::buffer_bytes, 58 * Cow::buffer_bytes));
	CHECK_EQ(w.stats().bitmap_allocations, 3);
}

// Who is behind waits, and is served as soon as the space is there.
UBD_CASE(order_is_kept_while_space_is_made)
{
	for (bool dry : each(false, true)) {
		Fixture f(allocating());
		World &w = *f;
		w.engine.data = false;
		w.engine.hold = true;
		if (dry)
			w.k.headers.limit = w.k.chunks.limit = 0;
		FakeRequest &a = w.send_new(UBD_OP_WRITE, part, 512);
		FakeRequest &b = w.send_new(UBD_OP_READ, 0, 512);
		CHECK_EQ(w.engine.with_host(), 1);
		w.engine.script(op_allocate, -errno_intr);
		w.engine.script(op_allocate, -errno_again);
		CHECK(w.settle());
		CHECK(a.ok() && b.ok() && w.cow.bitmap.test(part) && !w.cow.bitmap.test(0));
		const u64 n = w.engine.traces;
		REQUIRE(n == 5);
		CHECK(w.engine.trace(2).op == HostOp::allocate);
		CHECK(w.engine.trace(3).op == HostOp::write && w.engine.trace(4).op == HostOp::read);
	}
}

// A full disk: the write fails, and nothing but it.
UBD_CASE(no_space_for_bits)
{
	Fixture f(allocating());
	World &w = *f;
	w.engine.data = false;
	CHECK((w.send_new(UBD_OP_WRITE, 0, 512).ok()));
	w.engine.script(op_allocate, -errno_nospc);
	const u64 at = w.engine.traces;
	FakeRequest &r = w.send_new(UBD_OP_WRITE, part, 4096);
	CHECK(r.ended && r.rq.status == UBD_STATUS_NOSPC);
	CHECK_EQ(w.engine.traces - at, 1);
	CHECK(!w.cow.bitmap.test(part));
	CHECK((w.send_new(UBD_OP_FLUSH, ~0ull, 0).ok() && !w.cow.bitmap.dirty()));
	// There is space again.
	CHECK((w.send_new(UBD_OP_WRITE, part, 4096).ok() && w.cow.bitmap.test(part + 7)));
	CHECK_EQ(w.stats().bitmap_allocations, 3);
}

// Not every file system can, and no block device does it for what is no block: then it
// is asked once.
UBD_CASE(space_cannot_be_made)
{
	for (int e : each(int(errno_opnotsupp), int(errno_inval))) {
		Fixture f(allocating());
		World &w = *f;
		w.engine.data = false;
		w.engine.script(op_allocate, -e);
		CHECK((w.send_new(UBD_OP_WRITE, 0, 512).ok() && w.send_new(UBD_OP_WRITE, part, 512).ok()));
		CHECK_EQ(w.stats().bitmap_allocations, 1);
		CHECK((w.cow.bitmap.test(0) && w.cow.bitmap.test(part)));
	}
}

// Random operations on a busy host; what is read is what a model holds.
UBD_CASE(random_operations)
{
	for (u32 seed = 1; seed <= ubd_test_seeds() / 40 + 2; seed++) {
		Fixture f(cow_config(seed % 3 ? 1000 : 100));
		World &w = *f;
		Random random(seed);
		u8 *model = static_cast<u8 *>(ubd_test_alloc(device_sectors * 512));
		for (u64 i = 0; i < device_sectors * 512; i++)
			w.engine.content(1)[i] = model[i] = static_cast<u8>(random.next() >> 40);
		w.engine.limit = w.engine.ring = 1 + random.below(8);
		w.k.random = &random;
		w.k.chunks.refuse_percent = w.k.headers.refuse_percent = seed % 2 ? 0 : random.below(101);
		for (u32 i = 0; i < 60; i++) {
			const u64 sector = random.below(device_sectors);
			const u64 n = 1 + random.below(static_cast<u32>(min<u64>(device_sectors - sector, 200)));
			if (random.percent(20))
				w.engine.script(op_write, static_cast<s32>(512 * (1 + random.below(3))));
			const u32 dice = random.below(10);
			u8 *at = model + sector * 512;
			if (dice < 4) {
				FakeRequest &r = w.make(UBD_OP_WRITE, sector, n * 512, 0, 512 * (1 + random.below(9)));
				r.write_pattern(i * 1000 + seed);
				w.send(r);
				CHECK(w.settle() && r.ok());
				r.copy_out(at);
			} else if (dice < 5) {
				CHECK((w.send_new(UBD_OP_WRITE_ZEROES, sector, n * 512, dice & 1 ? UBD_RQ_NOUNMAP : 0)
					       .status() != UBD_STATUS_IOERR));
				CHECK(w.settle());
				__builtin_memset(at, 0, n * 512);
			} else if (dice < 6) {
				w.send_new(UBD_OP_FLUSH, ~0ull, 0);
				CHECK(w.settle());
			} else {
				FakeRequest &r = w.make(UBD_OP_READ, sector, n * 512, 0, 512 * (1 + random.below(9)));
				w.send(r);
				CHECK(w.settle() && r.ok());
				u8 *flat = static_cast<u8 *>(ubd_test_alloc(n * 512));
				r.copy_out(flat);
				CHECK(!__builtin_memcmp(flat, at, n * 512));
				ubd_test_free(flat);
			}
			w.engine.clear_script();
		}
		w.k.chunks.refuse_percent = w.k.headers.refuse_percent = 0;
		w.send_new(UBD_OP_FLUSH, ~0ull, 0);
		CHECK(w.settle());
		for (u64 s = 0; s < device_sectors; s++)
			CHECK(bit_in_file(w, s) == w.cow.bitmap.test(s));
		ubd_test_free(model);
		w.k.random = nullptr;
	}
}

} // namespace

const ubd_test_case ubd_suite_cow_commit[] = {
	UBD_ENTRY(reads_go_where_the_sectors_are),
	UBD_ENTRY(a_bit_is_set_when_the_data_has_landed),
	UBD_ENTRY(a_failed_write_sets_nothing),
	UBD_ENTRY(a_flush_is_a_commit),
	UBD_ENTRY(bits_set_during_a_commit_wait_for_the_next),
	UBD_ENTRY(a_flush_that_comes_too_late_gets_its_own),
	UBD_ENTRY(a_commit_that_begins_anew_takes_all),
	UBD_ENTRY(a_failed_bitmap_write_is_repeated),
	UBD_ENTRY(a_failed_sync_ends_all_commits),
	UBD_ENTRY(background_commit),
	UBD_ENTRY(background_commit_beside_pauses),
	UBD_ENTRY(background_commit_that_takes_long),
	UBD_ENTRY(background_commit_that_fails),
	UBD_ENTRY(no_background_commit),
	UBD_ENTRY(synchronous_mode_commits),
	UBD_ENTRY(write_through),
	UBD_ENTRY(fua_is_a_commit),
	UBD_ENTRY(zeroes_and_discards),
	UBD_ENTRY(many_blocks),
	UBD_ENTRY(bits_get_their_space_first),
	UBD_ENTRY(space_between_what_has_it),
	UBD_ENTRY(order_is_kept_while_space_is_made),
	UBD_ENTRY(no_space_for_bits),
	UBD_ENTRY(space_cannot_be_made),
	UBD_ENTRY(random_operations),
	{ nullptr, nullptr },
};
