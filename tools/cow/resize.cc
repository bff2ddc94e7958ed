// SPDX-License-Identifier: GPL-2.0-only
/*
 * A larger disk: the COW file follows its backing file, or both grow. As the driver
 * does it while a guest runs (drivers/ubd/host/cow_grow.cc): in place where the longer
 * bitmap still ends before the data, else by a new file that takes the old one's
 * place. Killed at any moment the COW file is the old or the new one, whole; run it
 * again.
 */
#include "commands.hh"
#include "copy.hh"

#include <sys/stat.h>
#include <unistd.h>

namespace ubd::tool
{
namespace
{

[[noreturn]] void refuse_smaller(const std::string &path, u64 now, u64 wanted)
{
	fail(path, "has a disk of " + std::to_string(now) + " bytes, and " + std::to_string(wanted) + " are fewer",
	     "a disk does not shrink: copy what you need to a smaller one");
}

// Whether the first bytes of a backing file that grew are as they were, its time would
// say only if nobody had grown it: who runs this says so.
void check_backing(const Image &cow, const File &backing)
{
	if (backing.size() < cow.header.bytes)
		refuse_smaller(cow.file.path(), cow.header.bytes, backing.size());
	if (mtime_matches(cow.header, backing))
		return;
	if (cow.header.merging)
		fail(cow.file.path(), "a merge into its backing file was begun and not ended",
		     "run it again: ubd-cow merge " + shown(cow.file.path()));
	if (backing.size() == cow.header.bytes)
		fail(cow.file.path(), mtime_text(cow.header, backing),
		     "if its content is the same as then, say first: ubd-cow rebase --trust " + shown(cow.file.path()));
}

/*
 * The last thing before the COW file is another one: before that nothing has changed.
 * Its time stays, so that other COW files over it can see that only its length is
 * another one. Returns that time.
 */
u64 grow_backing(const File &backing, u64 bytes)
{
	const struct stat before = backing.stat();
	const timespec times[] = { { 0, UTIME_OMIT }, before.st_mtim };
	if (backing.size() > bytes)
		fail(backing.path(), "was made larger meanwhile, by somebody who asks for no lock", "run this again");
	if (backing.size() < bytes) {
		if (!S_ISREG(before.st_mode))
			fail(backing.path(), "is no regular file, and cannot be grown here", "grow it by other means");
		backing.truncate(bytes);
		(void)futimens(backing.fd(), times); // who does not own it cannot
	}
	// Whoever grew it: a header that outlives the length and time that it speaks of
	// would be for another file.
	backing.sync();
	return mtime_of(backing);
}

// The file's own bits of the first sectors that are new, and of all behind these.
void clear_new_bits(const Image &cow, const CowHeader &grown)
{
	const u64 sectors = cow.header.sectors(), first = sectors / 8;
	std::vector<u8> bits(grown.bitmap_bytes - first);
	if (sectors % 8) {
		cow.file.read(bits.data(), 1, cow.header.bitmap_offset + first);
		bits[0] = static_cast<u8>(bits[0] & ((1 << sectors % 8) - 1));
	}
	cow.file.write(bits.data(), bits.size(), cow.header.bitmap_offset + first);
}

void grow_in_place(const Image &cow, const File &backing, CowHeader &grown)
{
	u8 bytes[UBD_COW_HEADER_MAX];
	if (cow.file.size() < grown.file_bytes()) {
		if (S_ISBLK(cow.file.stat().st_mode))
			fail(cow.file.path(), "is on a block device that is too small for it", "grow that first");
		cow.file.truncate(grown.file_bytes());
	}
	clear_new_bits(cow, grown);
	cow.file.sync_data();
	grown.mtime = grow_backing(backing, grown.bytes);
	write_cow_header(grown, bytes, sizeof(bytes));
	const CowHeaderPart part = size_in_header(grown.version);
	cow.file.write(bytes + part.offset, part.bytes, part.offset);
	cow.file.sync_data();
}

void copy_bits(const Image &cow, const Image &grown)
{
	const u64 sectors = cow.header.sectors();
	Copier(cow.file, grown.file, true)
		.copy(cow.header.bitmap_offset, grown.header.bitmap_offset, (sectors + 7) / 8);
	if (sectors % 8) {
		u8 last;
		const u64 at = grown.header.bitmap_offset + sectors / 8;
		grown.file.read(&last, 1, at);
		last = static_cast<u8>(last & ((1 << sectors % 8) - 1));
		grown.file.write(&last, 1, at);
	}
}

void grow_moved(const Image &cow, const File &backing, const CowHeader &header)
{
	constexpr u64 piece = 256 << 20;
	Replacement replacement(cow.file);
	Image grown{ std::move(replacement.file()), header };
	grown.file.truncate(header.file_bytes());
	Copier copier(cow.file, grown.file, true);
	Progress progress("copying", cow.header.bytes);
	for_each_run(cow, [&](const Range &r) {
		for (u64 at = r.at; at < r.end(); at += piece) {
			copier.copy(cow.header.data_offset + at, header.data_offset + at,
				    std::min(piece, r.end() - at));
			progress.at(at);
		}
	});
	copy_bits(cow, grown);
	grown.header.mtime = grow_backing(backing, header.bytes);
	write_header(grown);
	replacement.file() = std::move(grown.file);
	replacement.take_place();
}

void grow_to(const Image &cow, const File &backing, u64 bytes)
{
	const char *why = "";
	CowHeader grown = cow.header;
	const CowGrowth how = grow_cow(grown, bytes, 0, why);
	if (how == CowGrowth::refused)
		fail(cow.file.path(), std::string("cannot grow: ") + why, "give its backing file another size");
	if (how == CowGrowth::moved)
		grow_moved(cow, backing, grown);
	else
		grow_in_place(cow, backing, grown);
	std::printf("%s: %s instead of %s\n", shown(cow.file.path()).c_str(), amount(bytes).c_str(),
		    amount(cow.header.bytes).c_str());
}

void check_asked(const Image &cow, const File &backing, u64 bytes)
{
	if (bytes < backing.size())
		refuse_smaller(cow.file.path(), backing.size(), bytes);
	if (bytes % UBD_SECTOR_SIZE || bytes > UBD_COW_SIZE_MAX)
		fail(cow.file.path(), "cannot have a disk of " + std::to_string(bytes) + " bytes",
		     "ask for whole sectors of 512 bytes, 64T at most");
}

} // namespace

int resize(const std::string &path, u64 bytes)
{
	const Image cow = open_cow(path, Access::write);
	refuse_cut(cow);
	const std::string name = backing_path(cow);
	File backing = open_backing_of_any_size(cow, name, Access::read);
	check_backing(cow, backing);
	if (bytes)
		check_asked(cow, backing, bytes);
	if (bytes > backing.size()) {
		backing = File(); // its lock is in our own way
		backing = open_backing_of_any_size(cow, name, Access::write);
		// Without a lock anybody may have had it.
		check_backing(cow, backing);
		check_asked(cow, backing, bytes);
		grow_to(cow, backing, bytes);
	} else if (backing.size() > cow.header.bytes) {
		grow_to(cow, backing, backing.size());
	} else {
		std::printf("%s: has that size already\n", shown(path).c_str());
	}
	return status_done;
}

} // namespace ubd::tool
