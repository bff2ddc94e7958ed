// SPDX-License-Identifier: GPL-2.0-only
/*
 * The COW file on the host's disk, at some place of a record: what each unit of
 * 512 bytes may hold after a crash there. A unit is of the bitmap, or the data
 * of a sector that the writer touched.
 *
 * A write (a hole that is punched, a range that is zeroed: a write of zeros) may
 * be there from the moment when it was handed over. It is durable when it had
 * completed before an fdatasync was handed over that has ended well. A content
 * is gone for good when another one of the unit is durable that was handed over
 * after this one had completed: of two writes that ran together either may have
 * been the last. What has failed is never durable, and what a failed fdatasync
 * was about is none of a later one's business.
 *
 * The host writes units back one by one and in any order: what one holds says
 * nothing about another. The file's length never changes, so it is durable; of a
 * place that was a hole the host's file system gives zeros or what was written,
 * never what lay on the disk before.
 */
#ifndef UBD_CRASH_REPLAY_DISK_HH
#define UBD_CRASH_REPLAY_DISK_HH

#include <set>

#include "../file.hh"
#include "input.hh"

namespace ubd::crash
{

class Disk {
public:
	static constexpr u32 at_start = ~0u; // as a call: the file as it was

	struct Content {
		u32 call; // index
		bool durable;
		bool whole; // the host said that this unit was transferred
		Value value; // of data
		std::array<u8, sector_bytes> bytes; // of the bitmap
	};
	// Oldest first.
	using Unit = std::vector<Content>;

	Disk(const Record &record, const Shape &shape, const Image &start);

	// An entry of the record. True if what a crash may leave is another now.
	bool handed(u32 call);
	bool completed(u32 call);

	u32 bitmap_units() const { return bitmap_units_; }
	const Unit &unit(u32 i) const { return units_[i]; }
	const Unit &data(u32 hot) const { return units_[bitmap_units_ + hot]; }
	// With the sector's bit.
	u32 bit_unit(u64 sector) const { return static_cast<u32>(sector / 8 / sector_bytes); }
	static bool bit(const Content &c, u64 sector) { return c.bytes[sector / 8 % sector_bytes] >> sector % 8 & 1; }
	bool is_data(u32 unit) const { return unit >= bitmap_units_; }
	// Those that may hold one of several contents.
	const std::set<u32> &open() const { return open_; }
	// Where it is sure what a crash leaves if nothing lands that needs not.
	static u32 base(const Unit &unit);
	bool is_bitmap(const Call &call) const { return call.offset < shape_.header.data_offset; }
	// Of the bitmap, as it was.
	const std::vector<u8> &start() const { return start_; }

private:
	void write_bitmap(u32 index);
	void write_data(u32 index);
	void add(u32 unit, const Content &c);
	void make_durable(u32 call);
	void prune(u32 unit);

	const Record &record_;
	const Shape &shape_;
	std::vector<u8> start_;
	std::vector<u8> hot_bits_; // of the bitmap: whose bits may be set
	u32 bitmap_units_;
	std::vector<Unit> units_;
	std::vector<std::vector<u32>> units_of_; // a call's
	std::vector<u32> completed_; // and not durable
	std::set<u32> open_;
	u32 lost_ = 0; // what was handed over before this entry is never durable
};

} // namespace ubd::crash

#endif
