// SPDX-License-Identifier: GPL-2.0-only
/*
 * The bitmap of a COW file beside a simple model of one, one byte for each
 * sector.
 */
#include "../../drivers/ubd/core/cow_bitmap.hh"
#include "fake.hh"

using namespace ubd;
using namespace ubd::test;

namespace
{

constexpr u64 per_block = CowBitmap::block_sectors;

class Bitmap {
public:
	explicit Bitmap(u64 sectors)
	{
		const u64 words = CowBitmap::words_for(sectors), blocks = CowBitmap::block_words_for(sectors);
		memory_ = static_cast<u64 *>(ubd_test_alloc((2 * words + 4 * blocks) * 8));
		CowBitmap::Memory m;
		m.live = memory_;
		m.next = m.live + words;
		m.touched = m.next + words;
		m.dirty = m.touched + blocks;
		m.sealed = m.dirty + blocks;
		m.next_touched = m.sealed + blocks;
		map.attach(m, sectors);
		block_ = static_cast<u8 *>(ubd_test_alloc(CowBitmap::block_bytes));
	}
	~Bitmap()
	{
		ubd_test_free(memory_);
		ubd_test_free(block_);
	}
	Bitmap(const Bitmap &) = delete;
	Bitmap &operator=(const Bitmap &) = delete;

	// The bit as the running commit writes it, or as it is.
	bool copied(u64 sector, bool live = false)
	{
		const u64 block = sector / per_block, bit = sector % per_block;
		if (live)
			map.copy_live(block, block_);
		else
			map.copy(block, block_);
		return block_[bit / 8] >> bit % 8 & 1;
	}
	u8 *block() { return block_; }

	CowBitmap map;

private:
	u64 *memory_;
	u8 *block_;
};

u64 run_of(const CowBitmap &map, u64 sector, u64 most, bool set)
{
	bool is;
	const u64 n = map.run(sector, most, is);
	return is == set ? n : 0;
}

UBD_CASE(sizes)
{
	CHECK_EQ(CowBitmap::blocks_for(1), 1);
	CHECK_EQ(CowBitmap::blocks_for(per_block), 1);
	CHECK_EQ(CowBitmap::blocks_for(per_block + 1), 2);
	CHECK_EQ(CowBitmap::words_for(1), 512);
	CHECK_EQ(CowBitmap::block_words_for(64 * per_block), 1);
	CHECK_EQ(CowBitmap::block_words_for(64 * per_block + 1), 2);
	// 64 TiB: 16 GiB of bits, whose blocks fit into half a MiB.
	CHECK_EQ(CowBitmap::words_for(64ull << 31) * 8, 16ull << 30);
	CHECK_EQ(CowBitmap::block_words_for(64ull << 31) * 8, 512 << 10);
}

// O_DIRECT asks for whole blocks: their sectors lie together, or they do not.
UBD_CASE(groups)
{
	constexpr u64 sectors = 3 * per_block;
	for (u32 group : each(2u, 4u, 8u)) {
		Bitmap b(sectors);
		CHECK(b.map.set_in_groups(group));
		b.map.set(0, group);
		b.map.set(5 * 64 - group, 3 * group);
		b.map.set(per_block, per_block);
		b.map.set(sectors - group, group);
		CHECK(b.map.set_in_groups(group));
		CHECK_EQ(b.map.set_in_groups(8), group == 8);
		for (u64 at :
		     each(0ull, 64ull - group, 64ull, per_block - group, 2 * per_block, 2 * per_block + 64 * 77))
			for (u32 first = 0; first < group; first++)
				for (u32 n = 1; n < group && first + n <= group; n++) {
					Bitmap c(sectors);
					c.map.set(at + first, n);
					CHECK(!c.map.set_in_groups(group));
				}
	}
}

UBD_CASE(runs)
{
	Bitmap b(3 * per_block + 5);
	CowBitmap &map = b.map;
	CHECK_EQ(run_of(map, 0, 3 * per_block + 5, false), 3 * per_block + 5);
	map.set(100, 1);
	map.set(per_block - 3, 6); // over a border of blocks
	map.set(3 * per_block + 4, 1); // the last
	CHECK_EQ(run_of(map, 0, 3 * per_block, false), 100);
	CHECK_EQ(run_of(map, 100, 2 * per_block, true), 1);
	CHECK_EQ(run_of(map, 101, 2 * per_block, false), per_block - 3 - 101);
	CHECK_EQ(run_of(map, per_block - 3, 100, true), 6);
	CHECK_EQ(run_of(map, per_block - 3, 4, true), 4);
	CHECK_EQ(run_of(map, per_block - 1, 1, true), 1);
	CHECK_EQ(run_of(map, per_block + 3, 2 * per_block + 2, false), 2 * per_block + 1);
	CHECK_EQ(run_of(map, 2 * per_block, per_block, false), per_block);
	CHECK_EQ(run_of(map, 3 * per_block + 4, 1, true), 1);
	map.set(per_block, 2 * per_block);
	// To a block that was never touched: here it ends with a touched one.
	CHECK_EQ(run_of(map, per_block - 3, 2 * per_block + 8, true), 2 * per_block + 3);
	CHECK_EQ(map.dirty_blocks(), 4);
	CHECK_EQ(map.dirty_sectors(), 1 + 6 + 1 + 2 * per_block - 3);
	Bitmap c(2 * per_block);
	c.map.set(per_block - 8, 8);
	CHECK_EQ(run_of(c.map, per_block - 8, 100, true), 8);
	Bitmap one(1);
	CHECK_EQ(run_of(one.map, 0, 1, false), 1);
	one.map.set(0, 1);
	CHECK_EQ(run_of(one.map, 0, 1, true), 1);
}

UBD_CASE(loaded_bits)
{
	Bitmap b(per_block + 13);
	u8 *bits = b.block();
	b.map.load(0, bits, CowBitmap::block_bytes);
	CHECK(!b.map.test(0));
	bits[4095] = 0x80;
	b.map.load(0, bits, CowBitmap::block_bytes);
	CHECK(b.map.test(per_block - 1) && !b.map.test(0));
	bits[0] = 0x81;
	b.map.load(0, bits, CowBitmap::block_bytes);
	CHECK(b.map.test(0) && b.map.test(7) && !b.map.test(8) && b.map.test(per_block - 1));
	__builtin_memset(bits, 0xff, CowBitmap::block_bytes);
	b.map.load(1, bits, 2);
	CHECK_EQ(run_of(b.map, per_block, 13, true), 13);
	CHECK(!b.map.dirty());
	// Bits beyond the device are nobody's.
	CHECK(!b.copied(per_block + 13, true));
	Bitmap c(per_block + 1);
	__builtin_memset(bits, 0, CowBitmap::block_bytes);
	c.map.load(1, bits, 0);
	c.block()[0] = 0xfe;
	c.map.load(1, c.block(), 1);
	CHECK(!c.map.test(per_block));
	CHECK_EQ(run_of(c.map, 0, per_block + 1, false), per_block + 1);
	// What is there already is not new.
	b.map.set(0, 8);
	CHECK_EQ(b.map.dirty_sectors(), 6);
}

UBD_CASE(commits)
{
	Bitmap b(70 * per_block);
	CowBitmap &map = b.map;
	CHECK_EQ(map.next_sealed(0), 70);
	CHECK_EQ(map.next_unsaved(0), 70);
	map.set(5 * per_block, 10);
	map.set(68 * per_block, 10);
	CHECK_EQ(map.next_unsaved(0), 5);
	map.seal();
	CHECK(!map.dirty() && map.sealed());
	CHECK_EQ(map.next_sealed(0), 5);
	CHECK_EQ(map.next_sealed(6), 68);
	CHECK_EQ(map.next_sealed(69), 70);
	map.set(5 * per_block + 10, 1);
	map.set(7 * per_block, 1);
	CHECK(map.test(7 * per_block));
	CHECK(b.copied(5 * per_block + 9) && !b.copied(5 * per_block + 10) && b.copied(5 * per_block + 10, true));
	CHECK(!b.copied(7 * per_block));
	CHECK_EQ(map.next_unsaved(6), 7);
	CHECK_EQ(map.next_unsaved(8), 68);
	// Before anything was written: all joins.
	map.seal();
	CHECK(b.copied(5 * per_block + 10) && b.copied(7 * per_block));
	CHECK_EQ(map.next_sealed(6), 7);
	map.set(7 * per_block + 1, 1);
	map.end_failed();
	CHECK(!map.sealed());
	CHECK_EQ(map.next_sealed(0), 70);
	CHECK_EQ(map.dirty_blocks(), 3);
	CHECK_EQ(map.dirty_sectors(), 23);
	map.seal();
	CHECK(b.copied(7 * per_block + 1));
	map.set(9 * per_block, 3);
	map.end_committed();
	CHECK_EQ(map.dirty_sectors(), 3);
	CHECK_EQ(map.next_unsaved(0), 9);
	map.seal();
	CHECK(b.copied(9 * per_block));
	map.end_committed();
	CHECK(!map.dirty());
	CHECK_EQ(map.next_unsaved(0), 70);
}

// One byte for each sector: 1 live, 2 dirty, 4 sealed.
UBD_CASE(random_operations)
{
	constexpr u64 sectors = 2 * per_block + 77;
	u8 *model = static_cast<u8 *>(ubd_test_alloc(sectors));
	for (u32 seed = 1; seed <= ubd_test_seeds() / 50 + 1; seed++) {
		Random random(seed);
		Bitmap b(sectors);
		bool sealed = false;
		__builtin_memset(model, 0, sectors);
		for (u32 step = 0; step < 60; step++) {
			const u64 at = random.percent(50)
					       ? random.below(sectors)
					       : min<u64>(sectors - 1, per_block * random.below(3) + random.below(70));
			const u64 n = 1 + random.below(static_cast<u32>(
						  min<u64>(sectors - at, random.percent(50) ? 70 : sectors)));
			const u32 dice = random.below(10);
			if (dice < 5) {
				b.map.set(at, n);
				for (u64 s = at; s < at + n; s++)
					model[s] = model[s] ? model[s] : 3;
			} else if (dice < 7) {
				b.map.seal();
				sealed = true;
				for (u64 s = 0; s < sectors; s++)
					model[s] = model[s] & 2 ? 5 : model[s];
			} else if (dice < 8 && sealed) {
				const bool ok = random.percent(50);
				ok ? b.map.end_committed() : b.map.end_failed();
				sealed = false;
				for (u64 s = 0; s < sectors; s++)
					model[s] = model[s] & 4 ? (ok ? 1 : 3) : model[s];
			}
			bool set;
			const u64 run = b.map.run(at, n, set);
			u64 want = 0;
			while (want < n && !!model[at + want] == !!model[at])
				want++;
			REQUIRE(run == want && set == !!model[at]);
			u64 dirty = 0;
			for (u64 s = 0; s < sectors; s++)
				dirty += !!(model[s] & 2);
			REQUIRE(b.map.dirty_sectors() == dirty && b.map.dirty() == !!dirty && b.map.sealed() == sealed);
			for (u32 i = 0; i < 4; i++) {
				const u64 s = i ? random.below(sectors) : at;
				REQUIRE(b.map.test(s) == !!model[s] && b.copied(s, true) == !!model[s]);
				REQUIRE(b.copied(s) == (model[s] && !(sealed && model[s] & 2)));
				if (model[s] & 6)
					REQUIRE(b.map.next_unsaved(s / per_block) == s / per_block);
				if (model[s] & 4)
					REQUIRE(b.map.next_sealed(s / per_block) == s / per_block);
			}
		}
	}
	ubd_test_free(model);
}

} // namespace

const ubd_test_case ubd_suite_cow_bitmap[] = {
	UBD_ENTRY(sizes),       UBD_ENTRY(groups),  UBD_ENTRY(runs),
	UBD_ENTRY(loaded_bits), UBD_ENTRY(commits), UBD_ENTRY(random_operations),
	{ nullptr, nullptr },
};
