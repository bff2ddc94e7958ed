// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where the sectors of a COW device lie, and what its commits write.
 *
 * Context: under the queue lock of the device.
 */
#include "cow.hh"

namespace ubd
{

Run Cow::gather(u64 &block) const
{
	const u64 first = bitmap.next_sealed(block);
	Run run{ bitmap_offset + ByteCount(first * CowBitmap::block_bytes), ByteCount(0), bitmap_file };
	u32 n = 0;
	for (block = first; n < buffer_blocks && block < bitmap.blocks() && bitmap.next_sealed(block) == block; block++)
		bitmap.copy(block, buffer + CowBitmap::block_bytes * n++);
	if (!n)
		return run;
	// The bitmap ends with the device, not with a block.
	run.bytes =
		ByteCount(min<u64>(n * CowBitmap::block_bytes, bitmap_bytes.value - first * CowBitmap::block_bytes));
	return run;
}

Run Cow::unallocated(u64 sector, u64 count) const
{
	u64 first = sector / part_sectors;
	u64 end = (sector + count - 1) / part_sectors + 1;
	Run run{ bitmap_offset, ByteCount(0), bitmap_file };
	if (!allocated)
		return run;
	auto has = [&](u64 part) { return allocated[part / 64] >> part % 64 & 1; };
	while (first < end && has(first))
		first++;
	while (first < end && has(end - 1))
		end--;
	if (first == end)
		return run;
	run.offset = bitmap_offset + ByteCount(first * buffer_bytes);
	run.bytes = ByteCount(min(end * buffer_bytes, bitmap_bytes.value) - first * buffer_bytes);
	return run;
}

void Cow::set_allocated(u64 sector, u64 count)
{
	for (u64 part = sector / part_sectors; part <= (sector + count - 1) / part_sectors; part++)
		allocated[part / 64] |= 1ull << part % 64;
}

/*
 * Reads come from where each sector lies. What changes sectors goes to the COW
 * file, whatever lay where; but a discard is for what is there already: to
 * forget a sector of the backing file would need a bit.
 */
Run CowLayout::next_run(u8 op, ByteOffset at, ByteCount max) const
{
	const Run in_cow{ ByteOffset(cow_.data_offset.value + at.value), max, main_file };
	if (op != UBD_OP_READ && op != UBD_OP_DISCARD)
		return in_cow;
	bool set;
	const u64 sectors = cow_.bitmap.run(at.value >> UBD_SECTOR_SHIFT, max.value >> UBD_SECTOR_SHIFT, set);
	Run run = in_cow;
	run.bytes = ByteCount(sectors << UBD_SECTOR_SHIFT);
	if (set)
		return run;
	run.offset = at;
	run.file = backing_file;
	run.skip = op == UBD_OP_DISCARD;
	return run;
}

} // namespace ubd
