// SPDX-License-Identifier: GPL-2.0-only
#include "ranges.hh"

#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>
#include <unistd.h>

namespace ubd::tool
{
namespace
{

size_t name_room(const CowHeader &h)
{
	return h.version == CowVersion::v1 ? UBD_COW_PATH_V1 : UBD_COW_PATH_MAX;
}

std::string absolute(const std::string &path)
{
	char here[PATH_MAX];
	if (path[0] == '/')
		return path;
	if (!getcwd(here, sizeof(here)))
		fail_errno(".", "the name of this directory cannot be learnt", errno, "name the file from the root on");
	return std::string(here) + (here[1] ? "/" : "") + path;
}

bool is_cow(const File &file)
{
	CowHeader header;
	const char *why = "";
	return read_header(file, header, why) != CowRead::plain;
}

} // namespace

CowRead read_header(const File &file, CowHeader &header, const char *&why)
{
	u8 bytes[UBD_COW_HEADER_MAX];
	const size_t have = file.read_some(bytes, sizeof(bytes), 0);
	return read_cow_header(bytes, have, header, why);
}

Image open_cow(const std::string &path, Access access)
{
	Image cow{ File::open(path, access), {} };
	const char *why = "";
	cow.file.lock(access);
	switch (read_header(cow.file, cow.header, why)) {
	case CowRead::plain:
		fail(path, "is no COW file", "name one (ubd-cow create makes them)");
	case CowRead::bad:
		fail(path, std::string("is a COW file, but ") + why, "restore it from a copy");
	case CowRead::ok:
		break;
	}
	if (cow.file.size() < cow.header.bitmap_offset + cow.header.bitmap_bytes)
		fail(path, "is cut short: its bitmap is not whole", "restore it from a copy");
	return cow;
}

void refuse_cut(const Image &cow)
{
	const u64 bytes = cow.file.size();
	if (bytes < cow.header.file_bytes() && end_of_bits(cow) > bytes)
		fail(cow.file.path(),
		     "is cut short: by its bitmap it has sectors behind its end at byte " + std::to_string(bytes) +
			     ", which are lost",
		     "restore it from a copy, or say, to have zeros there: truncate -s " +
			     std::to_string(cow.header.file_bytes()) + " " + shown(cow.file.path()));
}

std::string backing_path(const Image &cow)
{
	struct stat st;
	const std::string name = cow.header.backing;
	if (name[0] == '/' || !stat(name.c_str(), &st))
		return name;
	const std::string beside = directory_of(cow.file.path()) + "/" + name;
	return stat(beside.c_str(), &st) ? name : beside;
}

File open_backing_of_any_size(const Image &cow, const std::string &path, Access access)
{
	const std::string remedy = "give the COW file another by ubd-cow rebase --trust " + shown(cow.file.path());
	struct stat st;
	if (stat(path.c_str(), &st))
		fail_errno(path, "the backing file of " + shown(cow.file.path()) + " cannot be found", errno,
			   "correct its name, or, if it was moved, say: ubd-cow rebase --trust " +
				   shown(cow.file.path()) + " NEWNAME");
	if (cow.file.is_same(st))
		fail(cow.file.path(), "names itself as its backing file", remedy + " BACKING");
	File backing = File::open(path, access);
	backing.lock(access);
	if (is_cow(backing))
		fail(path, "is a COW file itself, and can be no backing file", "merge it first (ubd-cow merge)");
	return backing;
}

File open_backing(const Image &cow, const std::string &path, Access access)
{
	File backing = open_backing_of_any_size(cow, path, access);
	if (backing.size() != cow.header.bytes)
		fail(path,
		     "has " + std::to_string(backing.size()) + " bytes, but " + shown(cow.file.path()) +
			     " is for a backing file of " + std::to_string(cow.header.bytes),
		     "name the right file" + remedy_if_grown(cow, backing));
	return backing;
}

std::string remedy_if_grown(const Image &cow, const File &backing)
{
	if (backing.size() < cow.header.bytes)
		return "";
	return "; if it was grown, and nothing else, say: ubd-cow resize " + shown(cow.file.path());
}

File open_own_backing(const Image &cow, Access access)
{
	refuse_cut(cow);
	File backing = open_backing(cow, backing_path(cow), access);
	if (!mtime_matches(cow.header, backing) && !cow.header.merging)
		fail(cow.file.path(), mtime_text(cow.header, backing),
		     "if its content is the same as then, say first: ubd-cow rebase --trust " + shown(cow.file.path()));
	return backing;
}

u64 mtime_of(const File &backing)
{
	return static_cast<u32>(backing.stat().st_mtime);
}

bool mtime_matches(const CowHeader &header, const File &backing)
{
	return S_ISBLK(backing.stat().st_mode) || mtime_of(backing) == header.mtime;
}

std::string mtime_text(const CowHeader &header, const File &backing)
{
	return "its backing file " + shown(backing.path()) + " was changed at " + date(mtime_of(backing)) +
	       ", but the COW file was made over one that was last changed at " + date(header.mtime);
}

void set_name(CowHeader &header, const std::string &file, const std::string &path)
{
	const std::string name = absolute(path);
	if (name.size() >= name_room(header))
		fail(file,
		     "its header has no room for the backing file's name of " + std::to_string(name.size()) + " bytes",
		     "choose a shorter name");
	std::memset(header.backing, 0, sizeof(header.backing));
	std::memcpy(header.backing, name.data(), name.size());
}

void set_backing(Image &cow, const std::string &path)
{
	set_name(cow.header, cow.file.path(), path);
}

void write_header(const Image &cow)
{
	u8 bytes[UBD_COW_HEADER_MAX];
	const size_t n = write_cow_header(cow.header, bytes, sizeof(bytes));
	cow.file.write(bytes, n, 0);
}

void warn_of_header(const File &plain, const std::string &path)
{
	u8 bytes[8];
	plain.read(bytes, sizeof(bytes), 0);
	if (begins_as_cow(bytes))
		std::fprintf(
			stderr,
			"ubd-cow: %s: its content begins as a COW file; guests take it for one, unless they are given "
			"it with the flag d (ubd0d=FILE)\n",
			shown(path).c_str());
}

} // namespace ubd::tool
