// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which sectors of a device are in its COW file, and which of these bits the
 * file itself has yet to learn.
 *
 * One bit for each sector, least significant bit first, as in the file. Four
 * sets share the numbering:
 *	live	what reads go by: set when the data has landed
 *	next	set since the running commit was sealed: not to be written by it
 * and by blocks of block_bytes of the bitmap (32768 sectors, 16 MiB of data):
 *	touched	live has a bit there: nothing else of live is looked at
 *	dirty	has bits that no commit has sealed
 *	sealed	is to be written by the running commit
 * What a commit writes of a block is live without next.
 *
 * Memory is the caller's (see words_for()), zeroed, and may be larger than RAM
 * if it is faulted in as needed: only blocks with bits are touched.
 *
 * Context: under the queue lock of the device; the killed guest's relay, when
 * nothing else runs any more, without. No allocation, whole words only.
 */
#ifndef UBD_CORE_COW_BITMAP_HH
#define UBD_CORE_COW_BITMAP_HH

#include "base.hh"

namespace ubd
{

class CowBitmap {
public:
	static constexpr u32 block_bytes = 4096;
	static constexpr u32 block_words = block_bytes / 8;
	static constexpr u64 block_sectors = block_bytes * 8;

	struct Memory {
		u64 *live = nullptr; // words_for(sectors)
		u64 *next = nullptr; // words_for(sectors)
		u64 *touched = nullptr; // block_words_for(sectors) each
		u64 *dirty = nullptr;
		u64 *sealed = nullptr;
		u64 *next_touched = nullptr; // blocks in which next has bits
	};
	// Whole blocks.
	static constexpr u64 words_for(u64 sectors) { return blocks_for(sectors) * block_words; }
	static constexpr u64 blocks_for(u64 sectors) { return (sectors + block_sectors - 1) / block_sectors; }
	static constexpr u64 block_words_for(u64 sectors) { return (blocks_for(sectors) + 63) / 64; }

	CowBitmap() = default;
	void attach(const Memory &memory, u64 sectors);

	u64 sectors() const { return sectors_; }
	bool test(u64 sector) const;
	// Length in sectors, 1 to `most`, of the run of equal bits that begins at
	// `sector`; `set` is their value. sector + most <= sectors().
	u64 run(u64 sector, u64 most, bool &set) const;
	// Of each `group` sectors (2, 4 or 8, from a multiple of it on) all are set or
	// none is. sectors() is a multiple of it.
	bool set_in_groups(u32 group) const;
	// The data of these sectors has landed.
	void set(u64 sector, u64 count);
	// Bits that were read from the file, for one block: `bytes` of them, at most
	// block_bytes. They are not dirty. Those beyond the device are dropped.
	void load(u64 block, const u8 *from, u32 bytes);
	// Goes on in other memory, for more sectors, of which none is set. Nothing is
	// dirty or sealed.
	void move_to(const Memory &memory, u64 sectors);
	// The next sectors from `first` on that are set, together with those between
	// them where fewer than `gap` are not. Moves `first` to them, returns how many;
	// 0: there are none.
	u64 next_stretch(u64 &first, u64 gap) const;

	// Bits are there that no commit has sealed.
	bool dirty() const { return dirty_blocks_ != 0; }
	bool sealed() const { return is_sealed_; }
	// Upper bounds of what a crash would lose now, in sectors / blocks, beside
	// what is sealed.
	u64 dirty_sectors() const { return dirty_sectors_; }
	u64 dirty_blocks() const { return dirty_blocks_; }
	u64 sealed_sectors() const { return sealed_sectors_; }

	// -- commit: seal(), then each block by next_sealed() and copy(), then end()
	// What is dirty is what this commit writes; what is set from now on is not.
	// Again, before anything was copied: what is dirty by then joins it.
	void seal();
	// The first sealed block from `from` on, or blocks() if there is none.
	u64 next_sealed(u64 from) const;
	u64 blocks() const { return blocks_for(sectors_); }
	// The block as it is to be written: live without next. block_bytes.
	void copy(u64 block, u8 *to) const;
	// For the last commit when the device goes: everything that is live,
	// whatever a commit was doing; blocks that it has to write by
	// next_unsaved(). (The relay of a killed guest looks at the sets itself: it
	// believes no span.)
	u64 next_unsaved(u64 from) const;
	void copy_live(u64 block, u8 *to) const;
	// All sealed blocks are durable.
	void end_committed();
	// They are not: what was sealed is dirty again.
	void end_failed();

private:
	// Blocks outside are not in the set: a large device costs no more to commit.
	struct Span {
		u64 first = ~0ull;
		u64 end = 0;

		void add(u64 block);
		void add(const Span &o);
		u64 first_word() const { return first / 64; }
		u64 end_word() const { return (end + 63) / 64; }
	};

	u64 set_in_block(u64 sector, u64 count);
	void forget_next();
	void end_commit();

	Memory m_;
	u64 sectors_ = 0;
	Span dirty_span_, sealed_span_, next_span_;
	u64 dirty_blocks_ = 0;
	u64 dirty_sectors_ = 0;
	u64 sealed_sectors_ = 0;
	bool is_sealed_ = false;
};

} // namespace ubd

#endif
