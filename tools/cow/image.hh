// SPDX-License-Identifier: GPL-2.0-only
/*
 * A COW file that was opened, its header, and its backing file, found and
 * checked by the same rules as the driver has (drivers/ubd/host/cow_file.cc).
 */
#ifndef UBD_TOOLS_COW_IMAGE_HH
#define UBD_TOOLS_COW_IMAGE_HH

#include "../../drivers/ubd/core/cow_format.hh"
#include "file.hh"

namespace ubd::tool
{

struct Image {
	File file;
	CowHeader header;
};

// The name that the file's first bytes say it has: for detection.
CowRead read_header(const File &file, CowHeader &header, const char *&why);

// Opens and locks a COW file whose header is good and whose bitmap is whole.
Image open_cow(const std::string &path, Access access);

// Fails if it ends before sectors that it has by its bitmap: what it lost would be read
// as zeros, and nobody could see that any more once it has its length again.
void refuse_cut(const Image &cow);

// The path of the backing file that the header names, from here.
std::string backing_path(const Image &cow);
// Opens and locks a backing file: of the right size, plain data, not the COW
// file itself.
File open_backing(const Image &cow, const std::string &path, Access access);
// Of another size than the header says, if it was grown.
File open_backing_of_any_size(const Image &cow, const std::string &path, Access access);
// The one that the header names, and it is as it was.
File open_own_backing(const Image &cow, Access access);

// What helps against a backing file that is larger than the header says.
std::string remedy_if_grown(const Image &cow, const File &backing);

// The time that a header has of a file.
u64 mtime_of(const File &backing);
// The node of a block device has a time of its own, which says nothing.
bool mtime_matches(const CowHeader &header, const File &backing);
std::string mtime_text(const CowHeader &header, const File &backing);

// Puts the absolute name into the header, which is written by write_header().
void set_backing(Image &cow, const std::string &path);
void set_name(CowHeader &header, const std::string &file, const std::string &path);
void write_header(const Image &cow);

// A plain image's content may begin as a COW file does, if a guest wrote that: says
// what to do, lest the next guest that is given the image opens what is named there.
void warn_of_header(const File &plain, const std::string &path);

} // namespace ubd::tool

#endif
