// SPDX-License-Identifier: GPL-2.0-only
#include "ranges.hh"

namespace ubd::tool
{
namespace
{

constexpr u64 words = CowBitmap::words_for(BitWindow::sectors);
constexpr u64 block_words = CowBitmap::block_words_for(BitWindow::sectors);

} // namespace

BitWindow::BitWindow() : memory_(2 * words + 4 * block_words), buffer_(bytes) {}

void BitWindow::load(const Image &cow, u64 first)
{
	std::fill(memory_.begin(), memory_.end(), 0);
	u64 *at = memory_.data();
	CowBitmap::Memory parts;
	parts.live = at;
	parts.next = parts.live + words;
	parts.touched = parts.next + words;
	parts.dirty = parts.touched + block_words;
	parts.sealed = parts.dirty + block_words;
	parts.next_touched = parts.sealed + block_words;
	bitmap = CowBitmap();
	bitmap.attach(parts, std::min(sectors, cow.header.sectors() - first));
	first_ = first;
	const u64 n = (bitmap.sectors() + 7) / 8;
	cow.file.read(buffer_.data(), n, cow.header.bitmap_offset + first / 8);
	for (u64 done = 0; done < n; done += CowBitmap::block_bytes)
		bitmap.load(done / CowBitmap::block_bytes, buffer_.data() + done,
			    static_cast<u32>(std::min<u64>(n - done, CowBitmap::block_bytes)));
}

u64 end_of_bits(const Image &cow)
{
	u64 end = 0;
	for_each_run(cow, [&](const Range &r) { end = r.end(); });
	return end ? cow.header.data_offset + end : 0;
}

// As the driver commits: a bit that the file has is never ahead of its data.
void BitWindow::commit(const Image &cow)
{
	if (!bitmap.dirty())
		return;
	cow.file.sync_data();
	bitmap.seal();
	for (u64 b = bitmap.next_sealed(0); b < bitmap.blocks(); b = bitmap.next_sealed(b + 1)) {
		const u64 at = first_ / 8 + b * CowBitmap::block_bytes;
		bitmap.copy(b, buffer_.data());
		cow.file.write(buffer_.data(), std::min<u64>(CowBitmap::block_bytes, cow.header.bitmap_bytes - at),
			       cow.header.bitmap_offset + at);
	}
	cow.file.sync_data();
	bitmap.end_committed();
}

} // namespace ubd::tool
