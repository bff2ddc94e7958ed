// SPDX-License-Identifier: GPL-2.0-only
/*
 * The COW file on the host, as far as a crash is concerned. It is made of units
 * of 512 bytes. The host writes each unit back when it likes, whole, as it is in
 * the page cache then: so after a crash a unit holds any of the contents that
 * it had since it was known to be durable, whatever the other units hold. Lost,
 * kept, reordered and torn writes are all of this kind.
 *
 * Only sectors that matter have a unit: the `hot` ones. In front of the data
 * each unit is there, as bytes.
 */
#ifndef UBD_CRASH_FILE_HH
#define UBD_CRASH_FILE_HH

#include <array>
#include <vector>

#include "../../drivers/ubd/core/cow_format.hh"
#include "crash.hh"

namespace ubd::crash
{

// Where things lie in the file, and which sectors are looked at.
struct Shape {
	CowHeader header;
	std::vector<u64> hot; // sectors, ascending

	// `header` is given but for its places.
	void place();
	// Index of the first hot sector that is not below this one.
	u32 hot_from(u64 sector) const;
	u64 bit_byte(u64 sector) const { return header.bitmap_offset + sector / 8; }
	u64 data_at(u64 sector) const { return header.data_offset + sector * sector_bytes; }
};

// A whole file, for one moment.
struct Image {
	std::vector<u8> front; // header and bitmap
	std::vector<Value> data; // of the hot sectors
};

// The contents of one unit that a crash may leave: from the one that is known
// to be durable to the one in the page cache.
template <class T> class Contents {
public:
	explicit Contents(const T &durable) : list_{ durable } {}
	auto begin() const { return list_.begin(); }
	auto end() const { return list_.end(); }
	size_t size() const { return list_.size(); }
	const T &operator[](size_t i) const { return list_[i]; }
	const T &newest() const { return list_.back(); }
	// Counts all that were ever written.
	u64 number() const { return first_ + list_.size() - 1; }

	void write(const T &t)
	{
		if (number() < lost_ || !(newest() == t))
			list_.push_back(t);
	}
	// The host has written it back, as of that number.
	void synced(u64 number)
	{
		if (number < lost_ || number <= first_)
			return;
		list_.erase(list_.begin(), list_.begin() + static_cast<long>(number - first_));
		first_ = number;
	}
	// The host failed to, and calls it clean: until it is written again, no
	// fdatasync is about it any more.
	void lost(u64 number) { lost_ = number + 1; }

private:
	std::vector<T> list_;
	u64 first_ = 0; // number of the first in the list
	u64 lost_ = 0; // what has a lower number is never written back
};

class File {
public:
	using Unit = std::array<u8, sector_bytes>;
	// How far each unit was when an fdatasync began: that is what it is about.
	struct Sync {
		std::vector<u64> front, data;
	};

	File(const Shape &shape, const Image &durable);

	const Contents<Value> &data(u32 hot) const { return data_[hot]; }
	const Contents<Unit> &front(u64 offset) const { return front_[offset / sector_bytes]; }
	void write_data(u32 hot, Value v) { data_[hot].write(v); }
	void write_front(u64 offset, const u8 *from, u64 n);

	Sync begin_sync() const;
	void end_sync(const Sync &sync);
	// Each unit in turn: does the host lose it?
	template <class Loses> void fail_sync(const Sync &sync, Loses loses);

	// What the page cache has.
	Image newest() const;
	// What a crash may leave; pick(n) chooses one of n contents, 0 the oldest.
	template <class PickFront, class PickData> Image after_crash(PickFront pick_front, PickData pick_data) const;

private:
	std::vector<Contents<Unit>> front_;
	std::vector<Contents<Value>> data_;
};

template <class Loses> void File::fail_sync(const Sync &sync, Loses loses)
{
	for (size_t i = 0; i < front_.size(); i++)
		loses() ? front_[i].lost(sync.front[i]) : front_[i].synced(sync.front[i]);
	for (size_t i = 0; i < data_.size(); i++)
		loses() ? data_[i].lost(sync.data[i]) : data_[i].synced(sync.data[i]);
}

template <class PickFront, class PickData> Image File::after_crash(PickFront pick_front, PickData pick_data) const
{
	Image image;
	image.front.resize(front_.size() * sector_bytes);
	image.data.resize(data_.size());
	for (size_t i = 0; i < front_.size(); i++) {
		const Unit &unit = front_[i][front_[i].size() == 1 ? 0 : pick_front(front_[i].size())];
		__builtin_memcpy(&image.front[i * sector_bytes], unit.data(), sector_bytes);
	}
	for (size_t i = 0; i < data_.size(); i++)
		image.data[i] = data_[i][data_[i].size() == 1 ? 0 : pick_data(data_[i].size())];
	return image;
}

} // namespace ubd::crash

#endif
