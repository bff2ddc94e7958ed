// SPDX-License-Identifier: GPL-2.0-only
#include "check_model.hh"

#include <algorithm>
#include <fcntl.h>
#include <unistd.h>

#include "check_host.hh"

namespace ubd::fuzz
{
namespace
{

u64 end_of_bitmap(const CowHeader &h)
{
	return h.bitmap_offset + h.bitmap_bytes;
}

// Those of the bitmap's last byte that are of no sector.
u8 bits_beyond(const CowHeader &h)
{
	const u64 used = h.sectors() - (h.bitmap_bytes - 1) * 8; // 1 to 8
	return static_cast<u8>(0xff << used);
}

void check_length(const Content &cow, const CowHeader &h, std::vector<std::string> &found)
{
	if (cow.size() >= h.file_bytes())
		return;
	if (cow.size() < end_of_bitmap(h))
		found.push_back("bitmap_truncated");
	else
		found.push_back(end_of_bits(cow, h) > cow.size() ? "data_truncated" : "length");
}

bool merging(const Content &cow, const CowHeader &h)
{
	static constexpr u64 rooms[] = { 256, 4096, 4096, 4096 }, names[] = { 8, 8, 32, 36 };
	const u64 room = rooms[static_cast<u8>(h.version)], at = names[static_cast<u8>(h.version)] + room - 13;
	u8 mark[12];
	u32 hash = 0x811c9dc5; // FNV-1a
	for (const char *c = h.backing; *c; c++)
		hash = (hash ^ static_cast<u8>(*c)) * 0x01000193;
	cow.read(mark, sizeof(mark), at);
	return std::strlen(h.backing) + 13 < room && !std::memcmp(mark, "ubdmerge", 8) &&
	       !std::memcmp(mark + 8, &hash, 4);
}

void check_backing(const Content &cow, const CowHeader &h, const std::string &name, std::vector<std::string> &found)
{
	struct stat st, own;
	const std::string path = backing_path(h, name);
	REQUIRE(look(name, own));
	if (!look(path, st))
		return found.push_back("backing_missing");
	if (st.st_ino == own.st_ino && st.st_dev == own.st_dev)
		return found.push_back("names_itself");
	if (!S_ISREG(st.st_mode))
		return found.push_back("backing_type");
	const int fd = openat(root(), path.c_str() + std::min(path.find_first_not_of('/'), path.size()), O_RDONLY);
	if (fd < 0)
		return found.push_back("backing_unreadable");
	CowHeader other;
	if (header_of(Content::of(fd), other) != CowRead::plain)
		found.push_back("backing_is_cow");
	close(fd);
	if (static_cast<u64>(st.st_size) != h.bytes)
		found.push_back("backing_size");
	if (merging(cow, h))
		found.push_back("merge_not_ended");
	else if (static_cast<u32>(st.st_mtime) != h.mtime)
		found.push_back("backing_mtime");
}

} // namespace

CowRead header_of(const Content &file, CowHeader &header)
{
	const u64 n = std::min<u64>(file.size(), UBD_COW_HEADER_MAX);
	const Exact<u8> bytes(n);
	const char *why;
	file.read(bytes.get(), n, 0);
	return read_cow_header(bytes.get(), n, header, why);
}

std::vector<Sectors> runs_of(const Content &cow, const CowHeader &h)
{
	std::vector<Sectors> runs;
	const u64 first = h.bitmap_offset / Content::page_bytes;
	for (auto page = cow.pages().lower_bound(first); page != cow.pages().end(); ++page)
		for (u64 i = 0; i < Content::page_bytes; i++) {
			const u64 at = page->first * Content::page_bytes + i;
			if (at < h.bitmap_offset || at >= end_of_bitmap(h) || !page->second[i])
				continue;
			for (u64 s = (at - h.bitmap_offset) * 8, bits = page->second[i]; bits; s++, bits >>= 1) {
				if (!(bits & 1) || s >= h.sectors())
					continue;
				if (!runs.empty() && runs.back().end == s)
					runs.back().end++;
				else
					runs.push_back({ s, s + 1 });
			}
		}
	return runs;
}

u64 end_of_bits(const Content &cow, const CowHeader &h)
{
	const std::vector<Sectors> runs = runs_of(cow, h);
	return runs.empty() ? 0 : h.data_offset + runs.back().end * UBD_SECTOR_SIZE;
}

std::vector<Sectors> differences(const Content &cow, const CowHeader &h, u64 piece)
{
	std::vector<Sectors> all;
	for (const Sectors &run : runs_of(cow, h)) {
		const u64 begin = h.data_offset + run.first * UBD_SECTOR_SIZE;
		const u64 end = h.data_offset + run.end * UBD_SECTOR_SIZE;
		auto page = cow.pages().lower_bound(begin / Content::page_bytes);
		for (; page != cow.pages().end() && page->first * Content::page_bytes < end; ++page)
			for (u64 i = 0; i < Content::page_bytes; i += UBD_SECTOR_SIZE) {
				const u64 at = page->first * Content::page_bytes + i;
				const auto from = page->second.begin() + static_cast<ptrdiff_t>(i);
				if (at < begin || at >= end ||
				    std::all_of(from, from + UBD_SECTOR_SIZE, [](u8 c) { return !c; }))
					continue;
				const u64 s = (at - h.data_offset) / UBD_SECTOR_SIZE;
				const Sectors d{ std::max(s / piece * piece, run.first),
						 std::min((s / piece + 1) * piece, run.end) };
				if (!all.empty() && all.back().end >= d.first)
					all.back().end = d.end;
				else
					all.push_back(d);
			}
	}
	return all;
}

bool is_within(const std::vector<Sectors> &inner, const std::vector<Sectors> &outer)
{
	return std::all_of(inner.begin(), inner.end(), [&](const Sectors &i) {
		return std::any_of(outer.begin(), outer.end(),
				   [&](const Sectors &o) { return o.first <= i.first && i.end <= o.end; });
	});
}

std::string backing_path(const CowHeader &h, const std::string &name)
{
	struct stat st;
	const std::string path = h.backing;
	const size_t slash = name.rfind('/');
	const std::string directory = slash == std::string::npos ? "." : slash ? name.substr(0, slash) : "/";
	const std::string beside = directory + "/" + path;
	if (path[0] == '/' || look(path, st) || !look(beside, st))
		return path;
	return beside;
}

std::vector<std::string> findings(const Content &cow, const std::string &name)
{
	CowHeader h;
	switch (header_of(cow, h)) {
	case CowRead::plain:
		return { "no_cow_file" };
	case CowRead::bad:
		return { "header" };
	case CowRead::ok:
		break;
	}
	std::vector<std::string> found;
	check_length(cow, h, found);
	if (cow.get(end_of_bitmap(h) - 1) & bits_beyond(h))
		found.push_back("bits_beyond_device");
	check_backing(cow, h, name, found);
	return found;
}

Content repaired(const Content &cow)
{
	CowHeader h;
	Content after = cow;
	if (header_of(cow, h) != CowRead::ok)
		return after;
	std::vector<std::string> found;
	check_length(cow, h, found);
	if (!found.empty() && found[0] == "length")
		after.truncate(h.file_bytes());
	const u64 last = end_of_bitmap(h) - 1;
	const u8 byte = cow.get(last);
	if (const u8 good = byte & static_cast<u8>(~bits_beyond(h)); good != byte)
		after.write(&good, 1, last);
	return after;
}

} // namespace ubd::fuzz
