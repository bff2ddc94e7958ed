// SPDX-License-Identifier: GPL-2.0-only
/*
 * The header of a copy-on-write (COW) file: reads versions 1, 2, 3 and the
 * padded 3 of old 64-bit programs, makes version 3. The layout on disk is in
 * include/ubd/cow_format.h; facts about it come from arch/um/drivers/cow_user.c
 * and from files that uml_mkcow wrote.
 *
 * What is read may come from anywhere: nothing of it is believed unchecked.
 *
 * Context: any, no lock, no memory but the caller's.
 */
#ifndef UBD_CORE_COW_FORMAT_HH
#define UBD_CORE_COW_FORMAT_HH

#include "base.hh"
#include "ubd/cow_format.h"

namespace ubd
{

enum class CowVersion : u8 { v1, v2, v3, v3_padded };

struct CowHeader {
	CowVersion version = CowVersion::v3;
	bool merging = false; // into the backing file; or that was killed, see below
	u64 bytes = 0; // size of the device, and of the backing file
	u64 mtime = 0; // of the backing file, seconds; the format holds 32 bits
	u32 alignment = 0; // of bitmap and data, bytes
	u64 bitmap_offset = 0; // in the file, bytes
	u64 bitmap_bytes = 0; // one bit for each sector, rounded up to a byte
	u64 data_offset = 0; // of sector 0 in the file, bytes
	char backing[UBD_COW_PATH_MAX]{}; // as written there, NUL-terminated

	u64 sectors() const { return bytes >> UBD_SECTOR_SHIFT; }
	u64 file_bytes() const { return data_offset + bytes; }
};

enum class CowRead : u8 {
	ok,
	plain, // no COW file: another magic, or too short to have one
	bad, // a COW file that cannot be used; `why` says what is wrong with it
};

// Reads a header from the first `n` bytes of a file (UBD_COW_HEADER_MAX are
// enough, fewer if the file is shorter). `why` gets a text for messages that
// goes on after "is a COW file, but ". Otherwise `out` is of no use.
CowRead read_cow_header(const u8 *from, size_t n, CowHeader &out, const char *&why);

// Whether a file that begins so would be taken for a COW file, whole or not.
// 4 bytes are looked at.
bool begins_as_cow(const void *from);

// Fills in the places of a new version 3 file: bytes, mtime, alignment and
// backing are given. errno_inval if these make no such file (see `why`).
Error place_cow(CowHeader &h, const char *&why);

// How a file becomes one for a larger device.
enum class CowGrowth : u8 {
	refused, // `why` says it
	in_place, // the data stay: the longer bitmap ends before them
	moved, // they begin further behind: that is another file
};

/*
 * Makes the header of a file that is good that of one for a device of `bytes`, more
 * than it has, over a backing file of that size and time. In place it keeps its
 * layout; a file whose data move is a version 3, whose data begin at a multiple of
 * UBD_COW_ALIGNMENT at least.
 */
CowGrowth grow_cow(CowHeader &h, u64 bytes, u64 mtime, const char *&why);

/*
 * The part of the header that growth in place changes: time and size lie side by side,
 * in one sector of 512 bytes in each version, and a sector is written whole or not at
 * all. So it is written by itself, and a crash leaves the old size or the new one.
 */
struct CowHeaderPart {
	u32 offset; // in the file, bytes
	u32 bytes;
};
CowHeaderPart size_in_header(CowVersion version);

// Writes a version 3 header, UBD_COW_HEADER_V3_BYTES, zeros after the name.
// A header that was read from another version keeps its version and layout.
// Returns how many bytes it is (from the file's beginning).
size_t write_cow_header(const CowHeader &h, u8 *to, size_t room);

/*
 * A merge into the backing file (ubd-cow) changes that file's mtime long before the
 * header may learn the new one. So that a merge which was killed can be run again,
 * the header says meanwhile that one is under way: in the last bytes of the name's
 * field, far behind the name, where no program looks. The mark is for one name: a
 * header that was given another has none. False if the name leaves no room for it:
 * then none is written.
 */
bool can_mark_merging(const CowHeader &h);

} // namespace ubd

#endif
