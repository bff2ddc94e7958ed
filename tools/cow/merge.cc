// SPDX-License-Identifier: GPL-2.0-only
/*
 * Merging a COW file into its backing file, or both into a new one.
 *
 * In place, a crash at any point leaves a COW file that shows what it showed:
 * only sectors that it has itself are written in the backing file. What does not
 * fit meanwhile is the backing file's mtime; the mark in the header (core/cow_format.hh)
 * tells the next merge that this is why. The order:
 *	mark, fdatasync		from here on the mtime may differ
 *	data, fsync		the backing file and its mtime are durable
 *	mtime, fdatasync	it fits again
 *	no mark, fsync
 */
#include "commands.hh"
#include "make.hh"

#include <cstdio>

namespace ubd::tool
{
namespace
{

// A range may be all of the device: by pieces, so that the bar moves.
template <class Visit> void in_pieces(const Range &r, Visit visit)
{
	constexpr u64 piece = 256 << 20;
	for (u64 done = 0; done < r.bytes; done += piece)
		visit(Range{ r.at + done, std::min(piece, r.bytes - done) });
}

void copy_runs(const Image &cow, const File &to)
{
	Copier copier(cow.file, to, false);
	Progress progress("merging", cow.header.bytes);
	for_each_run(cow, [&](const Range &r) {
		in_pieces(r, [&](const Range &part) {
			copier.copy(cow.header.data_offset + part.at, part.at, part.bytes);
			progress.at(part.end());
		});
	});
}

int merge_in_place(const std::string &path)
{
	Image cow = open_cow(path, Access::write);
	const File backing = open_own_backing(cow, Access::write);
	if (!can_mark_merging(cow.header))
		fail(path, "its backing file's name leaves no room to note that it is being merged",
		     "give that a shorter name (ubd-cow rebase --trust), or merge into a new file (--into)");
	cow.header.merging = true;
	write_header(cow);
	cow.file.sync_data();
	copy_runs(cow, backing);
	backing.sync();
	cow.header.mtime = mtime_of(backing);
	write_header(cow);
	cow.file.sync_data();
	cow.header.merging = false;
	write_header(cow);
	cow.file.sync();
	warn_of_header(backing, backing.path());
	std::printf("%s: merged into %s; it can be deleted now, or used on\n", shown(path).c_str(),
		    shown(backing.path()).c_str());
	return status_done;
}

} // namespace

int merge(const std::string &path, const std::string &into)
{
	if (into.empty())
		return merge_in_place(path);
	const Image cow = open_cow(path, Access::read);
	const File backing = open_own_backing(cow, Access::read);
	NewFile made(into);
	flatten(cow, backing, made.file());
	warn_of_header(made.file(), into);
	made.keep();
	return status_done;
}

void flatten(const Image &cow, const File &backing, const File &to)
{
	// Many small runs would leave little that can be shared between them.
	if (to.share(backing)) {
		copy_runs(cow, to);
		return;
	}
	to.truncate(cow.header.bytes);
	Copier ours(cow.file, to, true), theirs(backing, to, true);
	Progress progress("copying", cow.header.bytes);
	for_each_part(cow, [&](const Range &r, bool in_cow) {
		in_pieces(r, [&](const Range &part) {
			if (in_cow)
				ours.copy(cow.header.data_offset + part.at, part.at, part.bytes);
			else
				theirs.copy(part.at, part.at, part.bytes);
			progress.at(part.end());
		});
	});
}

} // namespace ubd::tool
