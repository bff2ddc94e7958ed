// SPDX-License-Identifier: GPL-2.0-only
/*
 * Another backing file. The safe way first makes the COW file independent of
 * what differs between the old and the new one: data, fdatasync, bits,
 * fdatasync, so at any point it shows the same over the old one, and in the end
 * over both. Then the header. What was done is found done by the next run.
 */
#include "commands.hh"
#include "copy.hh"

namespace ubd::tool
{
namespace
{

void copy_differences(const Image &cow, const File &from, const File &to)
{
	BitWindow window;
	Comparer comparer(from, to);
	Copier copier(from, cow.file, false);
	Progress progress("comparing", cow.header.bytes);
	for (u64 first = 0; first < cow.header.sectors(); first += BitWindow::sectors) {
		window.load(cow, first);
		CowBitmap &bits = window.bitmap;
		for (u64 at = 0, n; at < bits.sectors(); at += n) {
			bool set;
			// Short enough for the bar to move.
			n = bits.run(at, std::min(bits.sectors() - at, CowBitmap::block_sectors), set);
			const u64 offset = (first + at) * UBD_SECTOR_SIZE;
			progress.at(offset);
			if (set)
				continue;
			comparer.compare(offset, offset, n * UBD_SECTOR_SIZE, [&](const Range &r) {
				copier.copy(offset + r.at, cow.header.data_offset + offset + r.at, r.bytes);
				bits.set(at + r.at / UBD_SECTOR_SIZE, r.bytes / UBD_SECTOR_SIZE);
			});
		}
		window.commit(cow);
	}
}

// Name and mtime lie in one sector unless the name is long: see the manual page.
void point_to(Image &cow, const std::string &path, const File &backing)
{
	set_backing(cow, path);
	cow.header.mtime = mtime_of(backing);
	cow.header.merging = false;
	write_header(cow);
	cow.file.sync();
}

} // namespace

int rebase(const std::string &path, const std::string &new_path)
{
	Image cow = open_cow(path, Access::write);
	const File now = open_own_backing(cow, Access::read);
	const File next = open_backing(cow, new_path, Access::read);
	// Its last sectors may not be there yet, as the kernel's own driver leaves it.
	if (cow.file.size() < cow.header.file_bytes())
		cow.file.truncate(cow.header.file_bytes());
	copy_differences(cow, now, next);
	point_to(cow, new_path, next);
	return status_done;
}

int rebase_trusting(const std::string &path, const std::string &new_path)
{
	Image cow = open_cow(path, Access::write);
	const std::string name = new_path.empty() ? backing_path(cow) : new_path;
	point_to(cow, name, open_backing(cow, name, Access::read));
	return status_done;
}

} // namespace ubd::tool
