// SPDX-License-Identifier: GPL-2.0-only
/*
 * Fuzzes the parser of COW headers beside a second one, made from the table in
 * Documentation/cow-format.md and nothing else. What is accepted is written and
 * read again, and made a new version 3 of.
 *
 * Input: u16 the file's length, u16 how many of the bytes that follow lie at its
 * beginning (the rest lies at its end), u8 what is between. So a header with its
 * name's field of 4096 bytes is some fifty bytes of input.
 */
#include "../../drivers/ubd/core/cow_format.hh"
#include "fuzz.hh"

#include <algorithm>
#include <string>
#include <vector>

using namespace ubd;
using namespace ubd::fuzz;

namespace
{

using u128 = unsigned __int128;
using Bytes = std::vector<u8>;

constexpr size_t longest = UBD_COW_HEADER_MAX + 100;

Bytes file_of(Input in)
{
	const size_t bytes = in.number(2) % longest;
	const size_t front = std::min<size_t>(in.number(2), bytes);
	Bytes file(bytes, in.byte());
	const Input head = in.part(front);
	const size_t tail = std::min(in.left(), bytes - head.left());
	std::copy_n(head.at(), head.left(), file.begin());
	std::copy_n(in.at(), tail, file.end() - static_cast<ptrdiff_t>(tail));
	return file;
}

// A header as the table has it.
struct Wanted {
	CowRead verdict = CowRead::plain;
	CowVersion version = CowVersion::v3;
	u64 mtime = 0, alignment = 0;
	u128 bytes = 0, bitmap_offset = 0, bitmap_bytes = 0, data_offset = 0;
	std::string name;
};

// The number of `n` bytes at `at`.
u64 number(const Bytes &file, size_t at, size_t n, bool big)
{
	u64 v = 0;
	for (size_t i = 0; i < n; i++)
		v = v << 8 | file[at + (big ? i : n - 1 - i)];
	return v;
}

u128 up(u128 n, u128 to)
{
	while (n % to)
		n += to - n % to;
	return n;
}

// Numbers and name. False if the file is too short for them.
bool take_fields(const Bytes &file, Wanted &w, u64 &sector_size, u64 &format)
{
	struct Row {
		size_t mtime, size, sector, alignment, format, name, room, end;
	};
	static constexpr Row rows[] = {
		{ 264, 268, 276, 0, 0, 8, 256, 280 },
		{ 4104, 4108, 4116, 0, 0, 8, 4096, 4120 },
		{ 8, 12, 20, 24, 28, 32, 4096, 4128 },
		{ 8, 16, 24, 28, 32, 36, 4096, 4136 },
	};
	const Row &r = rows[static_cast<size_t>(w.version)];
	const bool big = w.version != CowVersion::v1;
	if (file.size() < r.end)
		return false;
	w.mtime = number(file, r.mtime, 4, big);
	w.bytes = number(file, r.size, 8, big);
	sector_size = number(file, r.sector, 4, big);
	w.alignment = r.alignment ? number(file, r.alignment, 4, big) : 512;
	format = r.format ? number(file, r.format, 4, big) : 0;
	const auto begin = file.begin() + static_cast<ptrdiff_t>(r.name);
	const auto end = std::find(begin, begin + static_cast<ptrdiff_t>(r.room), 0);
	if (end != begin + static_cast<ptrdiff_t>(r.room))
		w.name.assign(begin, end);
	w.bitmap_offset = r.alignment ? up(r.end, std::max<u64>(w.alignment, 1)) : r.end;
	return true;
}

Wanted reference(const Bytes &file)
{
	Wanted w;
	if (file.size() < 8)
		return w;
	const bool big = number(file, 0, 4, true) == 0x4f4f4f4d;
	if (!big && number(file, 0, 4, false) != 0x4f4f4f4d)
		return w;
	w.verdict = CowRead::bad;
	const u64 version = number(file, 4, 4, big);
	if (version < 1 || version > 3)
		return w;
	w.version = static_cast<CowVersion>(version - 1);
	if (version == 3 && file.size() >= 36 && !number(file, 32, 4, true))
		w.version = CowVersion::v3_padded;
	u64 sector_size, format;
	if (!take_fields(file, w, sector_size, format))
		return w;
	if (sector_size != 512 || format || !w.bytes || w.bytes % 512 || w.bytes > u128(64) << 40 || w.name.empty())
		return w;
	if (!w.alignment || w.alignment % 512 || w.alignment > 1 << 20)
		return w;
	const u128 in_file = version < 3 ? (w.bytes + 511) / 4096 : up(w.bytes / 512, 8) / 8;
	w.bitmap_bytes = up(w.bytes / 512, 8) / 8;
	w.data_offset = up(w.bitmap_offset + in_file, w.alignment);
	if (w.bitmap_offset + w.bitmap_bytes <= w.data_offset)
		w.verdict = CowRead::ok;
	return w;
}

CowRead read(const Bytes &file, CowHeader &h)
{
	const Exact<u8> bytes(file.data(), file.size());
	const char *why = nullptr;
	const CowRead verdict = read_cow_header(bytes.get(), file.size(), h, why);
	REQUIRE((verdict == CowRead::bad) == (why && *why));
	return verdict;
}

void compare(const CowHeader &h, const Wanted &w)
{
	REQUIRE(h.version == w.version);
	REQUIRE(h.bytes == w.bytes);
	REQUIRE(h.mtime == w.mtime);
	REQUIRE(h.alignment == w.alignment);
	REQUIRE(h.bitmap_offset == w.bitmap_offset);
	REQUIRE(h.bitmap_bytes == w.bitmap_bytes);
	REQUIRE(h.data_offset == w.data_offset);
	REQUIRE(h.backing == w.name);
	// Nothing lies over anything else, and all of it can be named by an off_t.
	REQUIRE(h.bitmap_offset + h.bitmap_bytes <= h.data_offset);
	REQUIRE(h.data_offset % UBD_SECTOR_SIZE == 0);
	REQUIRE(h.sectors() && h.bitmap_bytes * 8 >= h.sectors());
	REQUIRE(h.file_bytes() > h.data_offset && h.file_bytes() <= ~0ull >> 1);
	// Zeros behind the name.
	for (size_t i = w.name.size(); i < sizeof(h.backing); i++)
		REQUIRE(!h.backing[i]);
}

bool same(const CowHeader &a, const CowHeader &b)
{
	return a.version == b.version && a.bytes == b.bytes && a.mtime == b.mtime && a.alignment == b.alignment &&
	       a.bitmap_offset == b.bitmap_offset && a.bitmap_bytes == b.bitmap_bytes &&
	       a.data_offset == b.data_offset && !std::memcmp(a.backing, b.backing, sizeof(a.backing));
}

// In room of just that size.
Bytes written(const CowHeader &h, size_t room)
{
	const Exact<u8> bytes(room);
	std::memset(bytes.get(), 0xa5, room);
	const size_t n = write_cow_header(h, bytes.get(), room);
	REQUIRE(n <= room);
	return Bytes(bytes.get(), bytes.get() + n);
}

void write_again(const Bytes &file, const CowHeader &h)
{
	static constexpr size_t ends[] = { 280, 4120, 4128, 4136 };
	const Bytes bytes = written(h, ends[static_cast<size_t>(h.version)]);
	REQUIRE_EQ(bytes.size(), ends[static_cast<size_t>(h.version)]);
	CowHeader again;
	REQUIRE(read(bytes, again) == CowRead::ok && same(h, again));
	// What was written once stays the same, to the byte.
	REQUIRE(written(again, bytes.size()) == bytes);
	REQUIRE(bytes.size() <= file.size() && bytes.size() <= h.bitmap_offset);
}

void make_new(const CowHeader &h)
{
	CowHeader made, again;
	const char *why = "";
	made.bytes = h.bytes;
	made.mtime = h.mtime;
	made.alignment = h.alignment;
	std::memcpy(made.backing, h.backing, sizeof(made.backing));
	REQUIRE(!place_cow(made, why));
	REQUIRE(made.version == CowVersion::v3 && made.data_offset % made.alignment == 0);
	const Bytes bytes = written(made, UBD_COW_HEADER_V3_BYTES);
	REQUIRE(read(bytes, again) == CowRead::ok && same(made, again));
	compare(again, reference(bytes));
}

// What place_cow() is given need not come from a header.
void place_anything(Input in)
{
	CowHeader h;
	const char *why = "";
	h.bytes = in.number(8);
	h.alignment = static_cast<u32>(in.number(4));
	h.backing[0] = in.byte() ? '/' : 0;
	const bool good = h.backing[0] && h.bytes && h.bytes % 512 == 0 && h.bytes <= 64ull << 40 && h.alignment &&
			  h.alignment % 512 == 0 && h.alignment <= 1 << 20;
	REQUIRE(!place_cow(h, why) == good);
	REQUIRE(good == !*why);
	if (good)
		REQUIRE(h.file_bytes() > h.data_offset);
}

} // namespace

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	const Bytes file = file_of(Input(data, bytes));
	const Wanted wanted = reference(file);
	CowHeader h;
	REQUIRE(read(file, h) == wanted.verdict);
	if (wanted.verdict == CowRead::ok) {
		compare(h, wanted);
		write_again(file, h);
		make_new(h);
	}
	place_anything(Input(data, bytes));
	return 0;
}
