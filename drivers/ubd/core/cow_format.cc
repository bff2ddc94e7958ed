// SPDX-License-Identifier: GPL-2.0-only
/*
 * The four headers, field by field: Documentation/cow-format.md has them as a
 * table.
 *
 * Context: any, no lock, no memory but the caller's.
 */
#include "cow_format.hh"

namespace ubd
{
namespace
{

// Alignments that make no sense are damage; the largest page is far below.
constexpr u32 most_alignment = 1 << 20;

// Where a version keeps its fields, bytes from the file's beginning.
struct Fields {
	u32 mtime, size, sector_size, backing;
	u32 path_bytes; // with its NUL
	u32 end; // of the header
	u32 alignment, format; // 0: it has none
};

constexpr Fields fields[] = {
	{ 264, 268, 276, 8, UBD_COW_PATH_V1, 280, 0, 0 },
	{ 4104, 4108, 4116, 8, UBD_COW_PATH_MAX, 4120, 0, 0 },
	{ 8, 12, 20, 32, UBD_COW_PATH_MAX, 4128, 24, 28 },
	{ 8, 16, 24, 36, UBD_COW_PATH_MAX, 4136, 28, 32 },
};

const Fields &fields_of(CowVersion v)
{
	return fields[static_cast<u8>(v)];
}

u32 load32(const u8 *at, bool little)
{
	u32 v;
	__builtin_memcpy(&v, at, 4);
	return little ? v : __builtin_bswap32(v);
}

u64 load64(const u8 *at, bool little)
{
	u64 v;
	__builtin_memcpy(&v, at, 8);
	return little ? v : __builtin_bswap64(v);
}

void store32(u8 *at, u32 v, bool little)
{
	v = little ? v : __builtin_bswap32(v);
	__builtin_memcpy(at, &v, 4);
}

void store64(u8 *at, u64 v, bool little)
{
	v = little ? v : __builtin_bswap64(v);
	__builtin_memcpy(at, &v, 8);
}

constexpr u64 round_up(u64 n, u64 to)
{
	return (n + to - 1) / to * to;
}

// A version 1 header has the byte order of the machine that wrote it.
bool is_little(CowVersion v)
{
	return v == CowVersion::v1;
}

CowRead bad(const char *&why, const char *text)
{
	why = text;
	return CowRead::bad;
}

struct MergeMark {
	char text[8];
	u32 name; // hash of the backing file's
};

MergeMark mark_for(const CowHeader &h)
{
	u32 hash = 2166136261; // FNV-1a
	for (const char *c = h.backing; *c; c++)
		hash = (hash ^ static_cast<u8>(*c)) * 16777619;
	return { { 'u', 'b', 'd', 'm', 'e', 'r', 'g', 'e' }, hash };
}

// In the file; the byte behind it ends the name's field, and is zero.
u32 mark_at(const Fields &f)
{
	return f.backing + f.path_bytes - 1 - static_cast<u32>(sizeof(MergeMark));
}

// Which version it is, by its first words and by what a padded one has where
// the name of others begins. False if there is none that we know.
bool version_of(const u8 *from, size_t n, bool little, CowVersion &v)
{
	switch (load32(from + 4, little)) {
	case 1:
		v = CowVersion::v1;
		return true;
	case 2:
		v = CowVersion::v2;
		return true;
	case 3:
		v = n >= 36 && !load32(from + fields_of(CowVersion::v3).backing, false) ? CowVersion::v3_padded
											: CowVersion::v3;
		return true;
	default:
		return false;
	}
}

/*
 * Bitmap and data follow the header. Versions 1 and 2 counted the bitmap's
 * bytes short by one if the device is no multiple of eight sectors: the last
 * bits are in what the data's alignment leaves, where it leaves something.
 */
CowRead place(CowHeader &h, const char *&why)
{
	const bool old = h.version == CowVersion::v1 || h.version == CowVersion::v2;
	const u32 header = fields_of(h.version).end;
	h.bitmap_bytes = (h.sectors() + 7) / 8;
	h.bitmap_offset = old ? header : round_up(header, h.alignment);
	const u64 counted = old ? (h.bytes + UBD_SECTOR_SIZE - 1) / (8 * UBD_SECTOR_SIZE) : h.bitmap_bytes;
	h.data_offset = round_up(h.bitmap_offset + counted, h.alignment);
	if (h.bitmap_offset + h.bitmap_bytes > h.data_offset)
		return bad(why,
			   "its bitmap has no room for the last sectors, as old versions had it; copy its content to a "
			   "new one in a guest with the kernel's own driver");
	return CowRead::ok;
}

CowRead check_size(u64 bytes, const char *&why)
{
	if (!bytes)
		return bad(why, "it is for a device of no size");
	if (bytes > UBD_COW_SIZE_MAX)
		return bad(why, "it is for a device of more than 64 TiB");
	if (bytes % UBD_SECTOR_SIZE)
		return bad(why, "it is for a device whose size is no multiple of 512 bytes");
	return CowRead::ok;
}

// What follows a name is of no meaning: the kernel's own driver leaves what was in
// its memory there.
CowRead copy_name(const u8 *from, u32 room, CowHeader &h, const char *&why)
{
	u32 n = 0;
	while (n < room && from[n])
		n++;
	if (!n || n == room)
		return bad(why, "its backing file's name has no beginning or no end");
	__builtin_memset(h.backing, 0, sizeof(h.backing));
	__builtin_memcpy(h.backing, from, n);
	return CowRead::ok;
}

CowRead check_alignment(u32 alignment, const char *&why)
{
	if (!alignment || alignment % UBD_SECTOR_SIZE || alignment > most_alignment)
		return bad(why, "its alignment makes no sense");
	return CowRead::ok;
}

} // namespace

bool begins_as_cow(const void *from)
{
	const auto *at = static_cast<const u8 *>(from);
	return load32(at, true) == UBD_COW_MAGIC || load32(at, false) == UBD_COW_MAGIC;
}

CowRead read_cow_header(const u8 *from, size_t n, CowHeader &out, const char *&why)
{
	if (n < 8 || !begins_as_cow(from))
		return CowRead::plain;
	const bool native = load32(from, true) == UBD_COW_MAGIC;
	CowHeader &h = out; // too large for a kernel's stack twice
	if (!version_of(from, n, native, h.version))
		return bad(why, "its version is none of 1, 2 and 3");
	const Fields &f = fields_of(h.version);
	if (n < f.end)
		return bad(why, "its header is cut short");
	const bool little = is_little(h.version);
	h.mtime = load32(from + f.mtime, little);
	h.bytes = load64(from + f.size, little);
	h.alignment = f.alignment ? load32(from + f.alignment, little) : UBD_SECTOR_SIZE;
	if (load32(from + f.sector_size, little) != UBD_SECTOR_SIZE)
		return bad(why, "its sectors are not of 512 bytes");
	if (f.format && load32(from + f.format, little))
		return bad(why, "it has no bitmap but something else that we do not know");
	if (CowRead r = check_size(h.bytes, why); r != CowRead::ok)
		return r;
	if (CowRead r = check_alignment(h.alignment, why); r != CowRead::ok)
		return r;
	if (CowRead r = copy_name(from + f.backing, f.path_bytes, h, why); r != CowRead::ok)
		return r;
	const MergeMark mark = mark_for(h);
	h.merging = can_mark_merging(h) && !__builtin_memcmp(from + mark_at(f), &mark, sizeof(mark));
	return place(h, why);
}

Error place_cow(CowHeader &h, const char *&why)
{
	h.version = CowVersion::v3;
	if (!h.backing[0] || h.backing[sizeof(h.backing) - 1]) {
		why = "its backing file has no name, or one that is too long";
		return Error{ errno_inval };
	}
	if (check_size(h.bytes, why) != CowRead::ok || check_alignment(h.alignment, why) != CowRead::ok)
		return Error{ errno_inval };
	(void)place(h, why); // of this version each bitmap has room
	return no_error;
}

CowGrowth grow_cow(CowHeader &h, u64 bytes, u64 mtime, const char *&why)
{
	const u64 begin = h.data_offset;
	if (check_size(bytes, why) != CowRead::ok)
		return CowGrowth::refused;
	h.bytes = bytes;
	h.mtime = static_cast<u32>(mtime);
	// An old version may have no room for its last bits: then its data move, too.
	if (place(h, why) == CowRead::ok && h.data_offset == begin)
		return CowGrowth::in_place;
	if (h.version != CowVersion::v3 || h.alignment % UBD_COW_ALIGNMENT)
		h.alignment = UBD_COW_ALIGNMENT;
	return place_cow(h, why) ? CowGrowth::refused : CowGrowth::moved;
}

CowHeaderPart size_in_header(CowVersion version)
{
	const Fields &f = fields_of(version);
	return { f.mtime, f.size + 8 - f.mtime };
}

size_t write_cow_header(const CowHeader &h, u8 *to, size_t room)
{
	const Fields &f = fields_of(h.version);
	UBD_ASSERT(room >= f.end && !h.backing[f.path_bytes - 1]);
	const bool little = is_little(h.version);
	__builtin_memset(to, 0, f.end);
	store32(to, UBD_COW_MAGIC, little);
	store32(to + 4, h.version == CowVersion::v1 ? 1 : h.version == CowVersion::v2 ? 2 : 3, little);
	store32(to + f.mtime, static_cast<u32>(h.mtime), little);
	store64(to + f.size, h.bytes, little);
	store32(to + f.sector_size, UBD_SECTOR_SIZE, little);
	if (f.alignment)
		store32(to + f.alignment, h.alignment, little);
	__builtin_memcpy(to + f.backing, h.backing, f.path_bytes);
	if (h.merging && can_mark_merging(h)) {
		const MergeMark mark = mark_for(h);
		__builtin_memcpy(to + mark_at(f), &mark, sizeof(mark));
	}
	return f.end;
}

bool can_mark_merging(const CowHeader &h)
{
	return __builtin_strlen(h.backing) + 1 + sizeof(MergeMark) < fields_of(h.version).path_bytes;
}

} // namespace ubd
