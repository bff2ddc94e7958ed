// SPDX-License-Identifier: GPL-2.0-only
#include "commands.hh"
#include "make.hh"

namespace ubd::tool
{

CowHeader new_header(const std::string &path, const File &backing)
{
	CowHeader header, other;
	const char *why = "";
	backing.lock(Access::read);
	if (read_header(backing, other, why) != CowRead::plain)
		fail(backing.path(), "is a COW file itself, and can be no backing file",
		     "merge it first (ubd-cow merge)");
	header.bytes = backing.size();
	header.mtime = mtime_of(backing);
	header.alignment = UBD_COW_ALIGNMENT;
	set_name(header, path, backing.path());
	if (place_cow(header, why))
		fail(path, std::string("no COW file can be made: ") + why,
		     "correct the size of " + shown(backing.path()));
	return header;
}

int create(const std::string &path, const std::string &backing_name)
{
	const File backing = File::open(backing_name, Access::read);
	const CowHeader header = new_header(path, backing);
	NewFile made(path);
	Image cow{ std::move(made.file()), header };
	cow.file.truncate(header.file_bytes());
	write_header(cow);
	made.file() = std::move(cow.file);
	made.keep();
	return status_done;
}

} // namespace ubd::tool
