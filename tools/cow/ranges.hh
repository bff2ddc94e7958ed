// SPDX-License-Identifier: GPL-2.0-only
/*
 * The bitmap of a COW file, by windows of 1 MiB (4 GiB of the device) that are
 * skipped where the file has a hole: memory stays small whatever the device's
 * size, and an empty file of 64 TiB is done at once.
 */
#ifndef UBD_TOOLS_COW_RANGES_HH
#define UBD_TOOLS_COW_RANGES_HH

#include "../../drivers/ubd/core/cow_bitmap.hh"
#include "image.hh"

#include <algorithm>

// Fuzzers take small ones: these have more borders.
#ifndef UBD_COW_WINDOW_BLOCKS
#define UBD_COW_WINDOW_BLOCKS 256
#endif

namespace ubd::tool
{

// A part of the device, bytes.
struct Range {
	u64 at = 0;
	u64 bytes = 0;
	u64 end() const { return at + bytes; }
};

class BitWindow {
public:
	static constexpr u64 blocks = UBD_COW_WINDOW_BLOCKS;
	static constexpr u64 bytes = blocks * CowBitmap::block_bytes;
	static constexpr u64 sectors = blocks * CowBitmap::block_sectors;

	BitWindow();
	// Reads the window that begins at `first`, a multiple of `sectors`.
	void load(const Image &cow, u64 first);
	// Makes durable what was set: the data first, then the bits.
	void commit(const Image &cow);

	// Sectors of it count from the window's first.
	CowBitmap bitmap;
	u64 first() const { return first_; }

private:
	std::vector<u64> memory_;
	std::vector<u8> buffer_;
	u64 first_ = 0;
};

// Calls visit(Range) for each maximal run of sectors that are in the COW file.
template <class Visit> void for_each_run(const Image &cow, Visit visit)
{
	const CowHeader &h = cow.header;
	BitWindow window;
	Extents extents(cow.file);
	Range run;
	for (u64 first = 0; first < h.sectors(); first += BitWindow::sectors) {
		u64 end;
		if (!extents.data_at(h.bitmap_offset + first / 8, end)) {
			if (end >= h.bitmap_offset + h.bitmap_bytes)
				break;
			first = (end - h.bitmap_offset) / BitWindow::bytes * BitWindow::sectors;
		}
		window.load(cow, first);
		const CowBitmap &bits = window.bitmap;
		for (u64 at = 0, n; at < bits.sectors(); at += n) {
			bool set;
			n = bits.run(at, bits.sectors() - at, set);
			if (!set)
				continue;
			const Range r{ (first + at) * UBD_SECTOR_SIZE, n * UBD_SECTOR_SIZE };
			if (run.bytes && run.end() == r.at) {
				run.bytes += r.bytes;
				continue;
			}
			if (run.bytes)
				visit(run);
			run = r;
		}
	}
	if (run.bytes)
		visit(run);
}

// Behind the last sector that the file has by its bitmap, in the file; 0: it has
// none.
u64 end_of_bits(const Image &cow);

// Calls visit(Range, bool in_cow) for the whole device, in order.
template <class Visit> void for_each_part(const Image &cow, Visit visit)
{
	u64 at = 0;
	for_each_run(cow, [&](const Range &r) {
		if (at < r.at)
			visit(Range{ at, r.at - at }, false);
		visit(r, true);
		at = r.end();
	});
	if (at < cow.header.bytes)
		visit(Range{ at, cow.header.bytes - at }, false);
}

// Makes neighbours one: visit(Range) is called for maximal ranges, the last by
// finish().
template <class Visit> class Joiner {
public:
	explicit Joiner(Visit visit) : visit_(visit) {}
	void add(const Range &r)
	{
		if (range_.bytes && range_.end() == r.at) {
			range_.bytes += r.bytes;
			return;
		}
		finish();
		range_ = r;
	}
	void finish()
	{
		if (range_.bytes)
			visit_(range_);
		range_.bytes = 0;
	}

private:
	Visit visit_;
	Range range_;
};

} // namespace ubd::tool

#endif
