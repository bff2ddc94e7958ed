// SPDX-License-Identifier: GPL-2.0-only
#include "tag.hh"

#include <string.h>

namespace ubd::sim
{
namespace
{

constexpr u8 nobodys = 0xc5;
constexpr u64 gap_bytes = 64;

} // namespace

const char *op_name(u8 op)
{
	static constexpr const char *names[] = { "read", "write", "flush", "discard", "zeroes" };
	return names[op];
}

bool Tag::handed_all() const
{
	return statuses || memory_errors > max_memory_pauses || (op == UBD_OP_FLUSH ? sync_handed : handed == bytes);
}

void Tag::make_memory(const Profile &p, Random &random)
{
	segments.clear();
	std::vector<u64> gaps;
	memory_bytes = gap_bytes;
	for (u64 left = bytes; left;) {
		u64 n = min(left, random.range(1, p.segment_sectors) * sector_bytes);
		if (p.segment_sectors > 64)
			n = left;
		const u64 gap = random.percent(p.gap_percent) ? gap_bytes : 0;
		memory_bytes += gap;
		segments.push_back({ reinterpret_cast<void *>(memory_bytes), n });
		memory_bytes += n;
		left -= n;
	}
	memory_bytes += gap_bytes;
	memory.reset(new u8[memory_bytes]);
	memset(memory.get(), nobodys, memory_bytes);
	for (ubd_iovec &v : segments)
		v.base = memory.get() + reinterpret_cast<u64>(v.base);
	pattern = random.next();
	if (op != UBD_OP_WRITE)
		return;
	each_segment([this](u8 *data, u64 n, u64 at) {
		for (u64 i = 0; i < n; i += 8) {
			const u64 word = pattern + (at + i) / 8 * 0x9e3779b97f4a7c15ull;
			memcpy(data + i, &word, 8);
		}
	});
}

bool Tag::holds(const ubd_iovec &v) const
{
	for (const ubd_iovec &s : segments) {
		auto *from = static_cast<const u8 *>(s.base), *base = static_cast<const u8 *>(v.base);
		if (base >= from && base < from + s.bytes)
			return base + v.bytes <= memory.get() + memory_bytes;
	}
	return false;
}

void Tag::check_memory() const
{
	const u8 *at = memory.get();
	auto nobody = [this, &at](const u8 *end) {
		for (; at < end; at++)
			if (*at != nobodys)
				fail("request %llu: memory that is not its own was written", arrival);
	};
	each_segment([&](u8 *data, u64 n, u64 position) {
		nobody(data);
		at = data + n;
		for (u64 i = 0; op == UBD_OP_WRITE && i < n; i += 8) {
			const u64 word = pattern + (position + i) / 8 * 0x9e3779b97f4a7c15ull;
			if (memcmp(data + i, &word, 8))
				fail("request %llu: the data of a write was changed", arrival);
		}
	});
	nobody(memory.get() + memory_bytes);
}

} // namespace ubd::sim
