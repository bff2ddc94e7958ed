// SPDX-License-Identifier: GPL-2.0-only
#include "commands.hh"
#include "ranges.hh"

#include <cstdio>
#include <nlohmann/json.hpp>

namespace ubd::tool
{
namespace
{

const char *version_name(CowVersion v)
{
	static constexpr const char *names[] = { "1", "2", "3", "3, padded" };
	return names[static_cast<u8>(v)];
}

u64 bytes_in_cow(const Image &cow)
{
	u64 bytes = 0;
	for_each_run(cow, [&](const Range &r) { bytes += r.bytes; });
	return bytes;
}

void print(const char *what, const std::string &value)
{
	std::printf("%-22s %s\n", what, value.c_str());
}

std::string bytes_text(u64 bytes)
{
	return std::to_string(bytes) + (bytes < 1024 ? "" : " (" + amount(bytes) + ")");
}

} // namespace

int info(const std::string &path, bool json)
{
	const Image cow = open_cow(path, Access::read);
	const CowHeader &h = cow.header;
	const u64 own = bytes_in_cow(cow);
	const u64 allocated = static_cast<u64>(cow.file.stat().st_blocks) * 512;
	if (json) {
		const nlohmann::ordered_json out = {
			{ "file", path },
			{ "version", version_name(h.version) },
			{ "bytes", h.bytes },
			{ "backing", h.backing },
			{ "backing_path", backing_path(cow) },
			{ "backing_mtime", h.mtime },
			{ "merging", cow.header.merging },
			{ "alignment", h.alignment },
			{ "bitmap_offset", h.bitmap_offset },
			{ "bitmap_bytes", h.bitmap_bytes },
			{ "data_offset", h.data_offset },
			{ "cow_bytes", own },
			{ "allocated_bytes", allocated },
		};
		std::puts(out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
		return status_done;
	}
	print("file", shown(path));
	print("version", version_name(h.version));
	print("size of the device", bytes_text(h.bytes));
	print("backing file", shown(h.backing));
	if (backing_path(cow) != h.backing)
		print("  found at", shown(backing_path(cow)));
	print("  last changed", date(h.mtime));
	if (cow.header.merging)
		print("  state", "a merge into it was begun and not ended");
	print("alignment", std::to_string(h.alignment));
	print("bitmap at", std::to_string(h.bitmap_offset) + ", " + bytes_text(h.bitmap_bytes));
	print("data at", std::to_string(h.data_offset));
	print("data in this file", bytes_text(own));
	print("takes on the host", bytes_text(allocated));
	return status_done;
}

} // namespace ubd::tool
