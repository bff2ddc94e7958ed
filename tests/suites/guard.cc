// SPDX-License-Identifier: GPL-2.0-only
/*
 * A raw disk whose file was looked at does not become a COW file by what the guest
 * writes to its first sector.
 */
#include "fake.hh"

using namespace ubd;
using namespace ubd::test;

namespace
{

constexpr u64 sizes[] = { 512, 4096, 6144, 64 << 10 };
constexpr u64 segments[] = { 0, 512, 1536, 4096 }; // 0: in one piece
constexpr u8 magic[2][4] = { { 'O', 'O', 'O', 'M' }, { 'M', 'O', 'O', 'O' } };

bool is_at_start(World &w, const u8 (&bytes)[4])
{
	return !__builtin_memcmp(w.engine.content(0), bytes, 4);
}

UBD_CASE(header_is_refused)
{
	for (const auto &bytes : magic) {
		for (u64 size : sizes) {
			Fixture f({ .guard = true });
			World &w = *f;
			FakeRequest &r = w.make(UBD_OP_WRITE, 0, size);
			r.copy_in(w.engine.content(0));
			__builtin_memcpy(r.segment[0].base, bytes, 4);
			w.send(r);
			CHECK(w.settle());
			CHECK_EQ(r.ended, 1);
			CHECK_EQ(r.status(), UBD_STATUS_IOERR);
			CHECK(!is_at_start(w, bytes));
			CHECK_EQ(w.engine.traces, 0);
			CHECK_EQ(w.stats().errors, 1);
			CHECK(log_has("not written to sector 0"));
			// Nothing of the queue's is lost with it.
			FakeRequest &next = w.make(UBD_OP_WRITE, 0, size);
			next.write_pattern(7);
			w.send(next);
			CHECK(w.settle());
			CHECK(next.ok());
		}
	}
}

// By who asked for plain data, and anywhere else, it is data as any other.
UBD_CASE(header_is_data_elsewhere)
{
	Fixture f;
	World &w = *f;
	FakeRequest &r = w.make(UBD_OP_WRITE, 0, 4096);
	__builtin_memcpy(r.segment[0].base, magic[0], 4);
	w.send(r);
	CHECK(w.settle());
	CHECK(r.ok());
	CHECK(is_at_start(w, magic[0]));

	Fixture g({ .guard = true });
	World &other = *g;
	FakeRequest &behind = other.make(UBD_OP_WRITE, 1, 4096);
	__builtin_memcpy(behind.segment[0].base, magic[0], 4);
	other.send(behind);
	CHECK(other.settle());
	CHECK(behind.ok());
	CHECK_EQ(other.engine.trace(0).iovs, 1);
	CHECK_EQ(other.engine.trace(0).bytes, 4096);
}

// In pieces, and longer than what is looked at: all of it arrives.
UBD_CASE(data_arrives)
{
	for (u64 segment : segments) {
		for (u64 size : sizes) {
			Fixture f({ .guard = true });
			World &w = *f;
			FakeRequest &r = w.make(UBD_OP_WRITE, 0, size, 0, segment);
			r.write_pattern(static_cast<u32>(segment + size));
			w.send(r);
			CHECK(w.settle());
			CHECK(r.ok());
			CHECK_EQ(w.engine.trace(0).iovs, 1);
			CHECK(w.engine.trace(0).bytes <= guard_bytes);
			FakeRequest &back = w.send_new(UBD_OP_READ, 0, size);
			CHECK(w.settle());
			CHECK(back.has_pattern(static_cast<u32>(segment + size)));
		}
	}
}

// What the guest makes of its pages once it was looked at is nobody's concern.
UBD_CASE(pages_may_change)
{
	Fixture f({ .guard = true });
	World &w = *f;
	w.engine.hold = true;
	FakeRequest &r = w.make(UBD_OP_WRITE, 0, 4096);
	r.write_pattern(3);
	w.send(r);
	CHECK_EQ(w.engine.with_host(), 1);
	__builtin_memcpy(r.segment[0].base, magic[0], 4);
	w.engine.complete_all();
	CHECK(w.settle());
	CHECK(r.ok());
	CHECK(!is_at_start(w, magic[0]));
}

// One is looked at at a time; who waits goes on by itself, short transfers and errors
// included, and those behind keep their order.
UBD_CASE(one_after_the_other)
{
	Fixture f({ .guard = true });
	World &w = *f;
	w.engine.hold = true;
	w.engine.script(static_cast<u8>(HostOp::write), 512);
	w.engine.script(static_cast<u8>(HostOp::write), -4); // EINTR
	FakeRequest *r[4];
	for (u32 i = 0; i < 4; i++) {
		r[i] = &w.make(UBD_OP_WRITE, i == 2 ? 64 : 0, 4096);
		r[i]->write_pattern(i + 1);
		w.send(*r[i]);
	}
	CHECK_EQ(w.engine.with_host(), 1);
	CHECK_EQ(w.stats().queued, 3);
	CHECK(w.settle());
	for (u32 i = 0; i < 4; i++)
		CHECK(r[i]->ok());
	FakeRequest &back = w.send_new(UBD_OP_READ, 0, 4096);
	CHECK(w.settle());
	CHECK(back.has_pattern(4));
}

// On the reserve alone.
UBD_CASE(without_memory)
{
	Fixture f({ .guard = true });
	World &w = *f;
	w.k.headers.limit = 0;
	w.k.chunks.limit = 0;
	for (u32 i = 0; i < 3; i++) {
		FakeRequest &bad = w.make(UBD_OP_WRITE, 0, 4096);
		__builtin_memcpy(bad.segment[0].base, magic[i & 1], 4);
		w.send(bad);
		FakeRequest &good = w.make(UBD_OP_WRITE, 0, 16 << 10, UBD_RQ_FUA);
		good.write_pattern(i);
		w.send(good);
		CHECK(w.settle());
		CHECK_EQ(bad.status(), UBD_STATUS_IOERR);
		CHECK(good.ok());
	}
	CHECK_EQ(w.stats().errors, 3);
}

} // namespace

const ubd_test_case ubd_suite_guard[] = {
	UBD_ENTRY(header_is_refused), UBD_ENTRY(header_is_data_elsewhere), UBD_ENTRY(data_arrives),
	UBD_ENTRY(pages_may_change),  UBD_ENTRY(one_after_the_other),      UBD_ENTRY(without_memory),
	{ nullptr, nullptr },
};
