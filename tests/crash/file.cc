// SPDX-License-Identifier: GPL-2.0-only
#include <string.h>

#include <algorithm>

#include "file.hh"

namespace ubd::crash
{

void Shape::place()
{
	u8 bytes[UBD_COW_HEADER_MAX];
	const char *why = "";
	const size_t n = write_cow_header(header, bytes, sizeof(bytes));
	if (read_cow_header(bytes, n, header, why) != CowRead::ok)
		fail("core refuses a header that it made: %s", why);
}

u32 Shape::hot_from(u64 sector) const
{
	return static_cast<u32>(std::lower_bound(hot.begin(), hot.end(), sector) - hot.begin());
}

File::File(const Shape &shape, const Image &durable)
{
	front_.reserve(durable.front.size() / sector_bytes);
	for (size_t at = 0; at < durable.front.size(); at += sector_bytes) {
		Unit unit;
		memcpy(unit.data(), &durable.front[at], sector_bytes);
		front_.emplace_back(unit);
	}
	data_.reserve(shape.hot.size());
	for (Value v : durable.data)
		data_.emplace_back(v);
}

void File::write_front(u64 offset, const u8 *from, u64 n)
{
	while (n) {
		Contents<Unit> &contents = front_[offset / sector_bytes];
		const u64 within = offset % sector_bytes;
		const u64 here = min(n, sector_bytes - within);
		Unit unit = contents.newest();
		memcpy(&unit[within], from, here);
		contents.write(unit);
		offset += here;
		from += here;
		n -= here;
	}
}

File::Sync File::begin_sync() const
{
	Sync sync;
	sync.front.reserve(front_.size());
	sync.data.reserve(data_.size());
	for (const auto &unit : front_)
		sync.front.push_back(unit.number());
	for (const auto &unit : data_)
		sync.data.push_back(unit.number());
	return sync;
}

void File::end_sync(const Sync &sync)
{
	for (size_t i = 0; i < front_.size(); i++)
		front_[i].synced(sync.front[i]);
	for (size_t i = 0; i < data_.size(); i++)
		data_[i].synced(sync.data[i]);
}

Image File::newest() const
{
	auto last = [](size_t n) { return n - 1; };
	return after_crash(last, last);
}

} // namespace ubd::crash
