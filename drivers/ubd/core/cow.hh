// SPDX-License-Identifier: GPL-2.0-only
/*
 * A device that is a COW file over a backing file: where its sectors lie, and
 * what its commits need. One for each such device, made by host/, used by the
 * device's queue.
 *
 * A commit makes durable what was written, and then that it was written:
 *
 *	idle -> data_sync -> blocks -> bits_sync -> idle
 *
 *	data_sync	the set of new bits is sealed; fdatasync of the data
 *	blocks		the sealed blocks of the bitmap are written
 *	bits_sync	fdatasync of these
 *
 * Without new bits it ends after data_sync. Queue does the steps with the
 * chunk of the flush that leads; a commit that nobody asked for is led by a
 * request of the queue's own, so it needs no memory and cannot be starved.
 *
 * Context: under the queue lock of the device. The one exception is the relay
 * of a killed guest, when nothing else runs any more.
 */
#ifndef UBD_CORE_COW_HH
#define UBD_CORE_COW_HH

#include "cow_bitmap.hh"
#include "layout.hh"
#include "request.hh"

namespace ubd
{

struct Cow {
	static constexpr u32 buffer_blocks = 16;
	static constexpr u32 buffer_bytes = buffer_blocks * CowBitmap::block_bytes;

	CowBitmap bitmap;
	ByteOffset data_offset; // of sector 0 in the COW file
	ByteOffset bitmap_offset; // of bit 0
	ByteCount bitmap_bytes;
	u8 *buffer = nullptr; // buffer_bytes, what a commit writes from
	// By which the bitmap is written: it has no blocks that O_DIRECT would bear.
	u8 bitmap_file = main_file;
	/*
	 * Which parts of the bitmap, of buffer_blocks each, have space in the file
	 * whatever else the host's disk is filled with: a bit for each part. So it
	 * is a write that is refused when the disk is full, not the flush of all that
	 * was written. nullptr: nobody cares.
	 */
	u64 *allocated = nullptr;
	u32 commit_ms = 5000; // age at which new bits are committed; 0: never
	// Durability is lost: no bit may reach the file any more.
	bool poisoned = false;

	// Copies the next sealed blocks, from `block` on, that lie side by side
	// into the buffer: at most buffer_blocks. Moves `block` behind them.
	// Returns where they go in the COW file, and how many bytes; 0 at the end.
	Run gather(u64 &block) const;

	static constexpr u64 part_sectors = buffer_blocks * CowBitmap::block_sectors; // 256 MiB of data
	static constexpr u64 allocated_words_for(u64 sectors)
	{
		return (CowBitmap::blocks_for(sectors) + 64 * buffer_blocks - 1) / (64 * buffer_blocks);
	}
	// The place in the COW file of those bits of these sectors that may have no
	// space there, in whole parts; 0 bytes if there are none. count > 0.
	Run unallocated(u64 sector, u64 count) const;
	// These have it now.
	void set_allocated(u64 sector, u64 count);
};

class CowLayout final : public Layout {
public:
	explicit CowLayout(const Cow &cow) : cow_(cow) {}
	Run next_run(u8 op, ByteOffset at, ByteCount max) const override;

private:
	const Cow &cow_;
};

} // namespace ubd

#endif
