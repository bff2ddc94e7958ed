// SPDX-License-Identifier: GPL-2.0-only
/*
 * How a request breaks into chunks, and the arithmetic of a chunk. The table
 * says what is expected; the property test says what must hold for any.
 */
#include "fake.hh"

using namespace ubd;
using namespace ubd::test;

namespace
{

struct Split {
	const char *what;
	u64 bytes;
	u64 segment; // 0: one piece
	u32 chunks;
	u32 first_iovs;
};

constexpr Split splits[] = {
	{ "one sector", 512, 0, 1, 1 },
	{ "one page", 4096, 0, 1, 1 },
	{ "one large piece", 512 << 10, 0, 1, 1 },
	{ "two segments", 8192, 4096, 1, 2 },
	{ "as many as fit", UBD_CHUNK_IOVS * 4096ull, 4096, 1, UBD_CHUNK_IOVS },
	{ "one more than fits", (UBD_CHUNK_IOVS + 1) * 4096ull, 4096, 2, UBD_CHUNK_IOVS },
	{ "twice as many", 2 * UBD_CHUNK_IOVS * 4096ull, 4096, 2, UBD_CHUNK_IOVS },
	{ "256 sectors apart", 256 * 512, 512, 4, UBD_CHUNK_IOVS },
	{ "a short last segment", 4096 + 512, 4096, 1, 2 },
};

UBD_CASE(table)
{
	for (u8 op : each(u8(UBD_OP_READ), u8(UBD_OP_WRITE)))
		for (const Split &s : splits) {
			Fixture f;
			World &w = *f;
			FakeRequest &r = w.make(op, 8, s.bytes, 0, s.segment);
			r.write_pattern(1);
			w.send(r);
			CHECK(w.settle());
			CHECK(r.ok());
			if (w.engine.traces != s.chunks || w.engine.trace(0).iovs != s.first_iovs)
				failed_here(__FILE__, __LINE__, "%s: %llu chunks, the first of %u iovecs", s.what,
					    w.engine.traces, w.engine.trace(0).iovs);
			CHECK_EQ(w.engine.trace(0).offset, 8 * 512);
			CHECK_EQ(w.stats().chunks, s.chunks);
		}
}

UBD_CASE(flush_is_one_sync)
{
	Fixture f;
	World &w = *f;
	w.send_new(UBD_OP_FLUSH, ~0ull, 0);
	CHECK(w.settle());
	CHECK_EQ(w.engine.traces, 1);
	CHECK(w.engine.trace(0).op == HostOp::sync);
	CHECK_EQ(w.engine.trace(0).file, 0);
	CHECK_EQ(w.stats().host_syncs, 1);
}

UBD_CASE(discard_and_zeroes_are_one_chunk)
{
	Fixture f;
	World &w = *f;
	w.send_new(UBD_OP_DISCARD, 16, 256 << 10);
	w.send_new(UBD_OP_WRITE_ZEROES, 16, 512 << 10);
	w.send_new(UBD_OP_WRITE_ZEROES, 16, 512 << 10, UBD_RQ_NOUNMAP);
	CHECK(w.settle());
	CHECK_EQ(w.engine.traces, 3);
	CHECK(w.engine.trace(0).op == HostOp::punch);
	CHECK(w.engine.trace(1).op == HostOp::punch);
	CHECK(w.engine.trace(2).op == HostOp::zero);
	CHECK_EQ(w.engine.trace(1).bytes, 512 << 10);
	CHECK_EQ(w.engine.trace(1).offset, 16 * 512);
}

// Neighbours in memory are one iovec, however many segments they are.
UBD_CASE(neighbours_merge)
{
	Fixture f;
	World &w = *f;
	u32 sizes[256];
	for (u32 &s : sizes)
		s = 512;
	w.send(w.make_from(UBD_OP_READ, 0, sizes, 256, 0));
	CHECK(w.settle());
	CHECK_EQ(w.engine.traces, 1);
	CHECK_EQ(w.engine.trace(0).iovs, 1);
	CHECK_EQ(w.engine.trace(0).bytes, 256 * 512);
}

UBD_CASE(runs_of_two_files)
{
	StripedLayout layout(4096);
	Fixture f({ .layout = &layout });
	World &w = *f;
	for (u32 i = 0; i < 1 << 20; i++) {
		w.engine.content(0)[i] = static_cast<u8>(i / 4096 + 1);
		w.engine.content(1)[i] = static_cast<u8>(i / 4096 + 101);
	}
	FakeRequest &r = w.send_new(UBD_OP_READ, 4, 64 << 10);
	CHECK(w.settle());
	REQUIRE(r.ok());
	CHECK_EQ(w.engine.traces, 17);
	for (u32 i = 0; i < 17; i++)
		CHECK_EQ(w.engine.trace(i).file, i & 1);
	for (u32 i = 0; i < 64 << 10; i++) {
		u32 stripe = (i + 2048) / 4096;
		if (r.memory[i] != static_cast<u8>(stripe + (stripe & 1 ? 101 : 1))) {
			CHECK_EQ(i, ~0u);
			break;
		}
	}
	// Changes know but one file.
	w.send_new(UBD_OP_WRITE, 0, 64 << 10);
	CHECK(w.settle());
	CHECK_EQ(w.engine.traces, 18);
	CHECK_EQ(w.engine.trace(17).file, 0);
}

// Any sizes, gaps, runs, offsets: parts follow each other without gap or
// overlap, none is larger than a descriptor or a run, no two that could be one,
// and the data is right.
UBD_CASE(properties)
{
	for (u32 seed = 0; seed < ubd_test_seeds() / 4; seed++) {
		Random random(seed);
		u64 run = 512ull << random.below(9);
		StripedLayout striped(run);
		bool cow = random.percent(50);
		Fixture f({ .layout = cow ? &striped : nullptr, .file_bytes = 256 << 10 });
		World &w = *f;
		for (u32 i = 0; i < 256 << 10; i++)
			w.engine.content(0)[i] = static_cast<u8>(random.next()),
			w.engine.content(1)[i] = cow ? static_cast<u8>(i * 7 + i / 512) : w.engine.content(0)[i];
		u32 sizes[300], n = 1 + random.below(300), gap = random.percent(30) ? 0 : random.below(64);
		const u32 unit = random.percent(50) ? 512 : piece_alignment;
		const u32 most = unit == 512 ? 4 : random.percent(50) ? 200 : 3;
		u64 sum = 0;
		for (u32 i = 0; i < n; i++) {
			sizes[i] = unit * (1 + random.below(most));
			sum += sizes[i];
		}
		if (sum % 512)
			sizes[n - 1] += static_cast<u32>(512 - sum % 512);
		sum = (sum + 511) / 512 * 512;
		if (sum > 200 << 10)
			continue;
		u64 sector = random.below(static_cast<u32>(((256 << 10) - sum) / 512));
		bool write = random.percent(40);
		FakeRequest &r = w.make_from(write ? UBD_OP_WRITE : UBD_OP_READ, sector, sizes, n, gap);
		if (write)
			r.write_pattern(seed);
		w.send(r);
		if (!w.settle() || !r.ok())
			return (void)failed_here(__FILE__, __LINE__, "seed %u: status %u", seed, r.status());
		u64 at = sector * 512;
		for (u64 i = 0; i < w.engine.traces; i++) {
			const Trace &t = w.engine.trace(i);
			if (t.offset != at || !t.bytes || t.iovs > UBD_CHUNK_IOVS || !t.iovs)
				return (void)failed_here(__FILE__, __LINE__, "seed %u: part %llu at %llu", seed, i,
							 t.offset);
			if (cow && !write && t.offset / run != (t.offset + t.bytes - 1) / run)
				return (void)failed_here(__FILE__, __LINE__, "seed %u: part %llu crosses a run", seed,
							 i);
			at += t.bytes;
			bool ends_run = cow && !write && at % run == 0;
			// Small pieces: it ends with a sector.
			if (at != sector * 512 + sum && !ends_run && t.iovs < UBD_CHUNK_IOVS && unit == 512)
				return (void)failed_here(__FILE__, __LINE__, "seed %u: part %llu is not maximal", seed,
							 i);
		}
		CHECK_EQ(at, sector * 512 + sum);
		auto *flat = static_cast<u8 *>(ubd_test_alloc(sum));
		r.copy_out(flat);
		for (u64 i = 0; i < sum; i++) {
			u64 pos = sector * 512 + i;
			u8 file = cow && !write ? static_cast<u8>(pos / run & 1) : 0;
			if (flat[i] != w.engine.content(file)[pos]) {
				failed_here(__FILE__, __LINE__, "seed %u: byte %llu is wrong", seed, i);
				break;
			}
		}
		ubd_test_free(flat);
	}
}

// -- a chunk's own arithmetic ---------------------------------------------------

struct ChunkOf {
	u8 *memory;
	Chunk *c;

	ChunkOf(const u32 *sizes, u32 n)
	{
		memory = static_cast<u8 *>(ubd_test_alloc(1 << 16));
		c = new (Place{ ubd_test_alloc(sizeof(Chunk)) }) Chunk;
		u32 at = 0;
		for (u32 i = 0; i < n; at += sizes[i++] + 8) {
			c->iov[i] = { memory + at, sizes[i] };
			c->bytes = c->bytes + ByteCount(sizes[i]);
		}
		c->iovs = n;
		c->offset = ByteOffset(1000);
	}
	~ChunkOf()
	{
		ubd_test_free(memory);
		ubd_test_free(c);
	}
	ChunkOf(const ChunkOf &) = delete;
	ChunkOf &operator=(const ChunkOf &) = delete;
};

UBD_CASE(advance_over_iovecs)
{
	const u32 sizes[] = { 100, 200, 300, 400 };
	// Every way to cut 1000 bytes in two steps.
	for (u32 a = 0; a <= 1000; a += 25)
		for (u32 b = 0; a + b <= 1000; b += 25) {
			ChunkOf o(sizes, 4);
			o.c->advance(ByteCount(a));
			o.c->advance(ByteCount(b));
			u32 left = 1000 - a - b;
			CHECK_EQ(o.c->bytes.value, left);
			CHECK_EQ(o.c->iov_bytes().value, left);
			CHECK_EQ(o.c->offset.value, 1000 + a + b);
			if (left) {
				// The first iovec left ends where its segment ended.
				u32 first = o.c->first, start = 0;
				for (u32 i = 0; i < first; i++)
					start += sizes[i];
				CHECK_EQ(o.c->iov[first].bytes, start + sizes[first] - (a + b));
				CHECK(static_cast<u8 *>(o.c->iov[first].base) + o.c->iov[first].bytes ==
				      o.memory + start + first * 8 + sizes[first]);
			} else {
				CHECK_EQ(o.c->first, 4);
			}
		}
}

UBD_CASE(advance_too_far_is_an_assertion)
{
	Fixture f; // counts assertions
	expect_asserts(true);
	const u32 sizes[] = { 512, 512 };
	ChunkOf o(sizes, 2);
	o.c->zero_pages = true; // so that the vectors are made anew
	o.c->advance(ByteCount(1025));
	CHECK_EQ(asserts_failed(), 1);
}

UBD_CASE(zero_rest_spares_what_is_done)
{
	const u32 sizes[] = { 100, 200, 300 };
	for (u32 done = 0; done <= 600; done += 50) {
		ChunkOf o(sizes, 3);
		__builtin_memset(o.memory, 0xee, 1 << 16);
		o.c->advance(ByteCount(done));
		o.c->zero_rest();
		u32 at = 0, bad = 0;
		for (u32 i = 0; i < 3; i++)
			for (u32 j = 0; j < sizes[i]; j++, at++)
				bad += o.memory[at + 8 * i] != (at < done ? 0xee : 0);
		CHECK_EQ(bad, 0);
		for (u32 i = 0; i < 8; i++) // the gaps
			bad += o.memory[100 + i] != 0xee || o.memory[308 + i] != 0xee || o.memory[616 + i] != 0xee;
		CHECK_EQ(bad, 0);
	}
}

UBD_CASE(zero_iovecs)
{
	for (u64 bytes :
	     each(512ull, 4096ull, 65536ull, 65536ull + 512, 64 * 65536ull, 64 * 65536ull + 512, 1ull << 31)) {
		ChunkOf o(nullptr, 0);
		o.c->bytes = ByteCount(bytes);
		o.c->zero_pages = true;
		o.c->fill_zero_iovs();
		u64 held = o.c->iov_bytes().value;
		CHECK_EQ(held, min<u64>(bytes, UBD_CHUNK_IOVS * 65536ull));
		CHECK(o.c->iovs <= UBD_CHUNK_IOVS);
		u32 bad = 0;
		for (u32 i = 0; i < o.c->iovs; i++)
			for (u64 j = 0; j < o.c->iov[i].bytes; j += 97)
				bad += static_cast<u8 *>(o.c->iov[i].base)[j] != 0;
		CHECK_EQ(bad, 0);
		u64 part = held > 512 ? held / 2 / 512 * 512 : 512;
		o.c->advance(ByteCount(part));
		CHECK_EQ(o.c->bytes.value, bytes - part);
		CHECK_EQ(o.c->iov_bytes().value, min<u64>(bytes - part, UBD_CHUNK_IOVS * 65536ull));
	}
}

} // namespace

const ubd_test_case ubd_suite_split[] = {
	UBD_ENTRY(table),
	UBD_ENTRY(flush_is_one_sync),
	UBD_ENTRY(discard_and_zeroes_are_one_chunk),
	UBD_ENTRY(neighbours_merge),
	UBD_ENTRY(runs_of_two_files),
	UBD_ENTRY(properties),
	UBD_ENTRY(advance_over_iovecs),
	UBD_ENTRY(advance_too_far_is_an_assertion),
	UBD_ENTRY(zero_rest_spares_what_is_done),
	UBD_ENTRY(zero_iovecs),
	{ nullptr, nullptr },
};
