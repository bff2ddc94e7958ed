// SPDX-License-Identifier: GPL-2.0-only
/*
 * A COW file grows, together with its backing file, while its device waits.
 *
 * The bitmap lies before the data. Where a longer one still ends before them, the
 * file grows in place:
 *
 *	length, bits (all of the new ones are 0), fdatasync; then the header's size
 *	and time, which are one sector; fdatasync
 *
 * What comes before the header changes nothing that the old header speaks of. Else
 * the data move, and another file is made in the same directory:
 *
 *	data, bits, header, fsync; a name; rename over the old one; fsync of the
 *	directory
 *
 * Before all that the backing file's length and time, which the header gets, are made
 * durable. So after a crash at any point the name stands for the old file or for the
 * new one, each whole. The new one has no name as long as it is not (where the host's
 * file system knows such files): when the guest is killed, nothing is left behind.
 *
 * Context: process, may sleep, under kernel/'s device mutex; the device's queue is
 * frozen, so no memory of the guest is to be had (kernel/resize.c says why).
 */
#include "cow_file.hh"
#include "cow_io.hh"

#include <fcntl.h>
#include <linux/fs.h>

namespace ubd
{
namespace
{

using sys::to_error;

// Less is copied faster by a buffer than by the host's kernel.
constexpr u64 least_in_kernel = 256 << 10;
// After so much the guest's other tasks have a turn.
constexpr u64 breath_bytes = 16 << 20;
// Fewer sectors than that between two that are written are copied with them.
constexpr u64 copied_gap = 128;

// The name is the file's, and its only one.
Error check_name(const OpenRequest &r, const HostFile &file, const char *name)
{
	struct stat st, named;
	if (long n = sys::call(SYS_fstat, file.fd(), sys::arg(&st)); n < 0)
		return refuse_errno(r, "cannot look at the file", to_error(n), "check the host");
	if (st.st_nlink > 1)
		return refuse(r, errno_mlink,
			      "its data have to move to a new file, which can replace only one of its names",
			      "remove its hard links");
	if (!st.st_nlink)
		return refuse(r, errno_noent, "its data have to move to a new file, but it has no name any more",
			      "copy what you need to another disk");
	if (stat_path(name, named) || !file.is(named))
		return refuse(r, errno_again,
			      "its data have to move to a new file, but it was renamed meanwhile, or is not to be "
			      "found by its name",
			      "try again");
	return no_error;
}

/*
 * The name that the file has now, without symbolic links: whatever name it was
 * opened by, and whoever moved it since. The one message says why it has none that
 * another file could get.
 */
Error find_name(const OpenRequest &r, const HostFile &file, const struct stat &st, char *to)
{
	char link[40];
	ubd_k_snprintf(link, sizeof(link), "/proc/self/fd/%d", file.fd());
	const long n = sys::call(SYS_readlink, sys::arg(link), sys::arg(to), UBD_PATH_MAX - 1);
	if (n < 0)
		return refuse_errno(r, "its name cannot be learnt, by /proc/self/fd", to_error(n),
				    "mount /proc on the host");
	to[n] = '\0';
	if (!S_ISREG(st.st_mode))
		return refuse(r, errno_opnotsupp,
			      "its data would have to move, but it is no file that another one can replace",
			      "make a COW file that is larger");
	return check_name(r, file, to);
}

/*
 * Where a file has an access control list, the mode's bits for its group are a bound
 * for all whom it names, and not what the group may. If it has none, what its directory
 * gives to new files is not meant for it. The buffer has Cow::buffer_bytes.
 */
Error copy_acl(int from, int to, u8 *buffer)
{
	constexpr const char *acl = "system.posix_acl_access";
	long n = sys::call(SYS_fgetxattr, from, sys::arg(acl), sys::arg(buffer), Cow::buffer_bytes);
	if (n >= 0)
		return to_error(sys::call(SYS_fsetxattr, to, sys::arg(acl), sys::arg(buffer), n, 0));
	if (n == -errno_nodata)
		n = sys::call(SYS_fremovexattr, to, sys::arg(acl));
	return n == -errno_nodata || n == -errno_opnotsupp ? no_error : to_error(n);
}

/*
 * A file without a name, or `name`, in the directory; whoever may use the old one, open
 * as `from`, may use it. The buffer has Cow::buffer_bytes.
 */
Error make_file(const char *path, const char *directory, int from, const struct stat &old, u8 *buffer, sys::Fd &fd,
		char *name)
{
	if (Error e = random_name(path, name, UBD_PATH_MAX)) {
		name[0] = '\0'; // nobody's
		return e;
	}
	fd.reset(sys::open(directory, new_file_flags | O_TMPFILE, 0600));
	if (no_unnamed_files(fd))
		fd.reset(sys::open(name, new_file_flags | O_CREAT | O_EXCL, 0600));
	UBD_TRY(to_error(fd.get()));
	struct stat st;
	UBD_TRY(to_error(sys::call(SYS_fstat, fd.get(), sys::arg(&st))));
	if (st.st_uid != old.st_uid || st.st_gid != old.st_gid)
		UBD_TRY(to_error(sys::call(SYS_fchown, fd.get(), old.st_uid, old.st_gid)));
	UBD_TRY(copy_acl(from, fd.get(), buffer)); // before the mode, which would say too much without it
	return to_error(sys::call(SYS_fchmod, fd.get(), old.st_mode & 07777));
}

/*
 * Gives it the name, unless the file system knows none without, and opens it by that:
 * one that was opened without a name is known to have none for ever, and its name is
 * looked for when it grows again.
 */
Error open_named(const sys::Fd &unnamed, const char *name, sys::Fd &fd)
{
	struct stat st;
	UBD_TRY(to_error(sys::call(SYS_fstat, unnamed.get(), sys::arg(&st))));
	if (!st.st_nlink) {
		char link[40];
		ubd_k_snprintf(link, sizeof(link), "/proc/self/fd/%d", unnamed.get());
		UBD_TRY(to_error(
			sys::call(SYS_linkat, AT_FDCWD, sys::arg(link), AT_FDCWD, sys::arg(name), AT_SYMLINK_FOLLOW)));
	}
	fd.reset(sys::open(name, O_RDWR | O_CLOEXEC | O_LARGEFILE | O_NOFOLLOW));
	return to_error(fd.get());
}

// Returns how far it came; the rest, and any error, is left to read and write.
u64 copy_in_kernel(int from, int to, u64 at, u64 end, u64 shift)
{
	u64 in = at, out = at + shift;
	while (in < end) {
		const long n = sys::call(SYS_copy_file_range, from, sys::arg(&in), to, sys::arg(&out),
					 static_cast<long>(end - in), 0);
		if (n == -errno_intr)
			continue;
		if (n <= 0)
			break;
	}
	return in - at;
}

} // namespace

/*
 * What is copied goes on to the host's disk as it comes, while the guest's other tasks
 * have a turn: in the fsync at the end the whole guest stands, so there should be little
 * left for it to do. It alone says whether all went well.
 */
class Breath {
public:
	explicit Breath(int fd) : fd_(fd) {}
	// So many bytes more, and what was copied ends there.
	void copied(u64 bytes, u64 end)
	{
		bytes_ += bytes;
		if (bytes_ < breath_bytes)
			return;
		(void)sys::call(SYS_sync_file_range, fd_, static_cast<long>(begun_), static_cast<long>(end - begun_),
				SYNC_FILE_RANGE_WRITE);
		begun_ = end;
		bytes_ = 0;
		ubd_k_sleep_ms(1);
	}

private:
	const int fd_;
	u64 begun_ = 0; // write-back has, up to there
	u64 bytes_ = 0; // since then
};

Error CowFile::commit_now(const OpenRequest &r, const HostFile &file, bool &lost)
{
	CowBitmap &bitmap = cow_.bitmap;
	Error e = no_flush_ ? no_error : sync_data(file.fd());
	lost = !!e;
	if (!e && bitmap.dirty()) {
		bitmap.seal();
		u64 block = 0;
		for (Run run = cow_.gather(block); !e && run.bytes.value; run = cow_.gather(block))
			e = write_all(file.fd(), cow_.buffer, run.bytes.value, run.offset.value);
		if (!e && !no_flush_) {
			e = sync_data(file.fd());
			lost = !!e;
		}
		e ? bitmap.end_failed() : bitmap.end_committed();
	}
	return e ? refuse_errno(r, "what was written cannot be made durable", e, write_remedy(e)) : no_error;
}

Error CowFile::prepare_growth(const OpenRequest &r, const HostFile &file, u64 bytes, CowGrown &out)
{
	struct stat st;
	const char *why = "";
	// A header that outlives the length and time that it speaks of is for another file;
	// and whoever grew that one need not have waited.
	if (Error e = sync_whole(backing_.fd()))
		return refuse_errno(r, "the length of its backing file cannot be made durable", e,
				    "check the host's disk");
	if (long n = sys::call(SYS_fstat, backing_.fd(), sys::arg(&st)); n < 0)
		return refuse_errno(r, "cannot look at its backing file", to_error(n), "check the host");
	UBD_TRY(measure_whole(r, file, out.old_bytes));
	out.header = header_;
	const CowGrowth how = grow_cow(out.header, bytes, static_cast<u64>(st.st_mtime), why);
	if (how == CowGrowth::refused)
		return refuse(r, errno_inval, why, "give its backing file another size");
	UBD_TRY(out.memory.map(r, out.header.sectors()));
	out.bitmap = cow_.bitmap;
	out.bitmap.move_to(out.memory.parts, out.header.sectors());
	out.moved = how == CowGrowth::moved;
	return out.moved ? grow_moved(r, file, out) : grow_in_place(r, file, out);
}

// Somebody may have cut it off, and once it is longer nobody could see that any more. A
// block device may have grown.
Error CowFile::measure_whole(const OpenRequest &r, const HostFile &file, u64 &bytes) const
{
	UBD_TRY(file.measure_again(r, bytes));
	return check_length(r, bytes);
}

void CowFile::adopt(HostFile &file, CowGrown &out)
{
	const BitmapMemory old = memory_;
	header_ = out.header;
	cow_.bitmap = out.bitmap;
	use(out.memory);
	out.memory = old;
	if (out.moved)
		file.replace(out.file, ByteCount(header_.file_bytes()));
	backing_.set_size(ByteCount(header_.bytes));
}

// -- in place -----------------------------------------------------------------

Error CowFile::grow_in_place(const OpenRequest &r, const HostFile &file, CowGrown &out)
{
	if (file.is_block_device() && out.old_bytes < out.header.file_bytes())
		return refuse(r, errno_nospc, "is on a block device that is too small for it", "grow that first");
	if (Error e = extend(file, out))
		return refuse_errno(r, "cannot grow", e, write_remedy(e));
	(void)write_cow_header(out.header, out.written, sizeof(out.written));
	const CowHeaderPart part = size_in_header(out.header.version);
	if (Error e = write_all(file.fd(), out.written + part.offset, part.bytes, part.offset))
		return refuse_errno(r, "cannot write its header", e, write_remedy(e));
	// By now it may be there, or not: both are right, but no later success would
	// prove anything.
	const Error e = no_flush_ ? no_error : sync_data(file.fd());
	out.lost = !!e;
	return e ? refuse_errno(r, "its header cannot be made durable", e, write_remedy(e)) : no_error;
}

/*
 * The last bits of a bitmap that does not end with a byte, and what lies behind it,
 * are whatever their writer left there: all of the new bits are written. The old ones
 * in the same block are as they were committed.
 */
Error CowFile::extend(const HostFile &file, CowGrown &out)
{
	const CowHeader &grown = out.header;
	if (out.old_bytes < grown.file_bytes())
		UBD_TRY(to_error(sys::call(SYS_ftruncate, file.fd(), static_cast<long>(grown.file_bytes()))));
	const u64 block = CowBitmap::block_bytes;
	Error e;
	for (u64 at = header_.sectors() / 8 / block * block; !e && at < grown.bitmap_bytes; at += block) {
		const u64 n = min(block, grown.bitmap_bytes - at);
		if (at / block < cow_.bitmap.blocks())
			cow_.bitmap.copy_live(at / block, cow_.buffer);
		else
			__builtin_memset(cow_.buffer, 0, block);
		e = write_all(file.fd(), cow_.buffer, n, grown.bitmap_offset + at);
	}
	if (!e && !no_flush_) {
		e = sync_data(file.fd());
		out.lost = !!e;
	}
	return e;
}

// -- into another file ----------------------------------------------------------

Error CowFile::grow_moved(const OpenRequest &r, const HostFile &file, CowGrown &out)
{
	struct stat st;
	if (long n = sys::call(SYS_fstat, file.fd(), sys::arg(&st)); n < 0)
		return refuse_errno(r, "cannot look at the file", to_error(n), "check the host");
	UBD_TRY(find_name(r, file, st, out.path));
	copy_directory(out.path, out.directory);
	sys::Fd dir(sys::open(out.directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	sys::Fd fd;
	Error e = to_error(dir.get());
	// Better now than when the name is another file's.
	if (!e)
		e = sync_whole(dir.get());
	if (!e)
		e = make_file(out.path, out.directory, file.fd(), st, cow_.buffer, fd, out.name);
	if (!e)
		e = fill_successor(file, fd.get(), out);
	if (!e)
		e = open_named(fd, out.name, out.file.fd);
	if (e)
		e = refuse_errno(r, "its data have to move to a new file, which cannot be made", e, write_remedy(e));
	else
		e = file.prepare(r, out.file);
	// To copy takes minutes. Was all there, and is the name still not another file's?
	if (!e)
		e = measure_whole(r, file, out.old_bytes);
	if (!e)
		e = check_name(r, file, out.path);
	if (!e && (e = to_error(sys::call(SYS_rename, sys::arg(out.name), sys::arg(out.path)))))
		e = refuse_errno(r, "its new file cannot take its place", e, write_remedy(e));
	if (e) {
		(void)sys::call(SYS_unlink, sys::arg(out.name));
		return e;
	}
	// From here on there is no way back: which of both files a crash would leave,
	// nobody knows, and what is written goes to one of them.
	e = sync_whole(dir.get());
	out.lost = !!e;
	if (e)
		(void)refuse_errno(r, "the name of its new file cannot be made durable", e, write_remedy(e));
	return no_error;
}

Error CowFile::fill_successor(const HostFile &file, int to, CowGrown &out)
{
	UBD_TRY(copy_data(file, to, out));
	UBD_TRY(write_bits(to, out.header));
	const size_t n = write_cow_header(out.header, out.written, sizeof(out.written));
	UBD_TRY(write_all(to, out.written, n, 0));
	return sync_whole(to);
}

Error CowFile::write_bits(int fd, const CowHeader &grown)
{
	const u64 block = CowBitmap::block_bytes;
	for (u64 sector = 0; cow_.bitmap.next_stretch(sector, 1);
	     sector = (sector / CowBitmap::block_sectors + 1) * CowBitmap::block_sectors) {
		const u64 at = sector / CowBitmap::block_sectors * block;
		cow_.bitmap.copy_live(at / block, cow_.buffer);
		UBD_TRY(write_all(fd, cow_.buffer, min(block, grown.bitmap_bytes - at), grown.bitmap_offset + at));
	}
	return no_error;
}

// Shared where the host's file system can, copied where not. What was never written
// is a hole, and what was made zeros too.
Error CowFile::copy_data(const HostFile &file, int to, const CowGrown &out)
{
	const CowHeader &grown = out.header;
	file_clone_range all{};
	all.src_fd = file.fd();
	all.src_offset = header_.data_offset;
	all.src_length = out.old_bytes - min(out.old_bytes, header_.data_offset);
	all.dest_offset = grown.data_offset;
	const bool shared = all.src_length && sys::call(SYS_ioctl, to, FICLONERANGE, sys::arg(&all)) == 0;
	if (!shared)
		UBD_TRY(to_error(sys::call(SYS_ftruncate, to, 0))); // it may have begun
	UBD_TRY(to_error(sys::call(SYS_ftruncate, to, static_cast<long>(grown.file_bytes()))));
	if (shared)
		return no_error;
	Breath breath(to);
	u64 first = 0, n;
	for (; (n = cow_.bitmap.next_stretch(first, copied_gap)); first += n) {
		const u64 at = header_.data_offset + (first << UBD_SECTOR_SHIFT);
		UBD_TRY(copy_stretch(file.fd(), to, at, at + (n << UBD_SECTOR_SHIFT),
				     grown.data_offset - header_.data_offset, breath));
	}
	return no_error;
}

// Bytes of the old file, which lie `shift` further behind in the new one.
Error CowFile::copy_stretch(int from, int to, u64 first, u64 end, u64 shift, Breath &breath)
{
	for (u64 at = first; at < end;) {
		const long data = sys::call(SYS_lseek, from, static_cast<long>(at), SEEK_DATA);
		if (data == -errno_nxio)
			break;
		// Where the host knows no holes, all is data.
		at = data < 0 ? at : max(at, static_cast<u64>(data));
		const long hole = data < 0 ? -1 : sys::call(SYS_lseek, from, data, SEEK_HOLE);
		const u64 stop = hole < 0 ? end : min(static_cast<u64>(hole), end);
		while (at < stop) {
			const u64 n = min(stop - at, breath_bytes);
			const u64 there = n >= least_in_kernel ? copy_in_kernel(from, to, at, at + n, shift) : 0;
			for (u64 done = there; done < n;) {
				const u64 part = min<u64>(n - done, Cow::buffer_bytes);
				UBD_TRY(read_all(from, cow_.buffer, part, at + done));
				UBD_TRY(write_all(to, cow_.buffer, part, at + done + shift));
				done += part;
			}
			at += n;
			breath.copied(n, at + shift);
		}
	}
	return no_error;
}

} // namespace ubd
