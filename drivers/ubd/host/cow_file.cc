// SPDX-License-Identifier: GPL-2.0-only
/*
 * Making, checking and loading COW files. What is the same in the kernel's own
 * driver follows arch/um/drivers/ubd_kern.c, open_ubd_file().
 *
 * Context: process, may sleep, under kernel/'s device mutex.
 */
#include "cow_file.hh"
#include "cow_io.hh"

#include "../core/options.hh"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/mman.h>

namespace ubd
{

using sys::to_error;

const char *write_remedy(Error e)
{
	switch (e.number) {
	case errno_nospc:
	case errno_dquot:
		return "free space on the host's file system";
	case errno_noent:
		return "make its directory first";
	case errno_fbig:
		return "the host's file system, or ulimit -f, allows no file of that length";
	case errno_acces:
	case errno_perm:
		return "check the permissions of its directory";
	default:
		return "check the host's file system";
	}
}

Error read_some(int fd, void *to, size_t most, size_t &have)
{
	for (have = 0; have < most;) {
		long n = sys::call(SYS_pread64, fd, sys::arg(static_cast<char *>(to) + have),
				   static_cast<long>(most - have), static_cast<long>(have));
		if (n == -errno_intr)
			continue;
		if (n < 0)
			return to_error(n);
		if (!n)
			break;
		have += static_cast<size_t>(n);
	}
	return no_error;
}

Error read_all(int fd, void *to, size_t bytes, u64 offset)
{
	auto *at = static_cast<char *>(to);
	while (bytes) {
		long n = sys::call(SYS_pread64, fd, sys::arg(at), static_cast<long>(bytes), static_cast<long>(offset));
		if (n == -errno_intr)
			continue;
		if (n <= 0)
			return n < 0 ? to_error(n) : Error{ errno_io };
		at += n;
		bytes -= static_cast<size_t>(n);
		offset += static_cast<u64>(n);
	}
	return no_error;
}

Error write_all(int fd, const void *from, size_t bytes, u64 offset)
{
	auto *at = static_cast<const char *>(from);
	while (bytes) {
		long n = sys::call(SYS_pwrite64, fd, sys::arg(at), static_cast<long>(bytes), static_cast<long>(offset));
		if (n == -errno_intr)
			continue;
		if (n <= 0)
			return n < 0 ? to_error(n) : Error{ errno_io };
		at += n;
		bytes -= static_cast<size_t>(n);
		offset += static_cast<u64>(n);
	}
	return no_error;
}

Error sync_data(int fd)
{
	long n;
	while ((n = sys::call(SYS_fdatasync, fd)) == -errno_intr)
		;
	return to_error(n);
}

Error sync_whole(int fd)
{
	long n;
	while ((n = sys::call(SYS_fsync, fd)) == -errno_intr)
		;
	return to_error(n);
}

Error random_name(const char *path, char *to, size_t bytes)
{
	u64 random = 0;
	(void)sys::call(SYS_getrandom, sys::arg(&random), sizeof(random), 0);
	int n = ubd_k_snprintf(to, bytes, "%s.new-%016llx", path, random);
	return static_cast<size_t>(n) < bytes ? no_error : Error{ errno_nametoolong };
}

namespace
{

// A file without a name, or, where the host's file system knows none, by a name
// that it loses at once.
Error open_unnamed(const char *directory, sys::Fd &fd)
{
	fd.reset(sys::open(directory, new_file_flags | O_TMPFILE, 0600));
	if (fd.valid() || !no_unnamed_files(fd))
		return to_error(fd.get());
	Scratch plain(UBD_PATH_MAX), name(UBD_PATH_MAX);
	if (!plain.get() || !name.get())
		return Error{ errno_nomem };
	ubd_k_snprintf(plain.get(), UBD_PATH_MAX, "%s/ubd", directory);
	UBD_TRY(random_name(plain.get(), name.get(), UBD_PATH_MAX));
	fd.reset(sys::open(name.get(), new_file_flags | O_CREAT | O_EXCL, 0600));
	if (fd.valid())
		(void)sys::call(SYS_unlink, sys::arg(name.get()));
	return to_error(fd.get());
}

Error write_cow(int fd, const CowHeader &h)
{
	Scratch header(UBD_COW_HEADER_MAX);
	if (!header.get())
		return Error{ errno_nomem };
	const size_t n = write_cow_header(h, reinterpret_cast<u8 *>(header.get()), UBD_COW_HEADER_MAX);
	UBD_TRY(to_error(sys::call(SYS_ftruncate, fd, static_cast<long>(h.file_bytes()))));
	return write_all(fd, header.get(), n, 0);
}

// Makes the file and its name durable, or removes it.
Error sync_with_name(int fd, const char *path, const char *directory)
{
	sys::Fd dir(sys::open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	Error e = to_error(dir.get());
	if (!e)
		e = to_error(sys::call(SYS_fsync, fd));
	if (!e)
		e = to_error(sys::call(SYS_fsync, dir.get()));
	if (e)
		(void)sys::call(SYS_unlink, sys::arg(path));
	return e;
}

// For file systems that know no files without a name.
Error create_by_other_name(const char *path, const char *directory, const CowHeader &h)
{
	Scratch name(UBD_PATH_MAX);
	if (!name.get())
		return Error{ errno_nomem };
	UBD_TRY(random_name(path, name.get(), UBD_PATH_MAX));
	sys::Fd fd(sys::open(name.get(), new_file_flags | O_CREAT | O_EXCL, new_file_mode));
	UBD_TRY(to_error(fd.get()));
	Error e = write_cow(fd.get(), h);
	if (!e)
		e = to_error(sys::call(SYS_fsync, fd.get()));
	if (!e) // only if the name is new
		e = to_error(sys::call(SYS_renameat2, AT_FDCWD, sys::arg(name.get()), AT_FDCWD, sys::arg(path),
				       RENAME_NOREPLACE));
	if (e.number == errno_inval)
		e = to_error(sys::call(SYS_link, sys::arg(name.get()), sys::arg(path)));
	(void)sys::call(SYS_unlink, sys::arg(name.get()));
	return e ? e : sync_with_name(fd.get(), path, directory);
}

/*
 * The file is made whole and durable before it gets its name: whatever happens,
 * nothing has that name that is not a COW file, and what went wrong leaves
 * nothing behind.
 */
Error create_named(const char *path, const CowHeader &h, bool below)
{
	Directory directory(path);
	HostName place;
	Scratch there(below ? UBD_PATH_MAX : 0);
	if (!directory.get() || !there.get())
		return Error{ errno_nomem };
	if (below) {
		UBD_TRY(place.find(directory.get(), below));
		const char *last = path + __builtin_strlen(path);
		while (last > path && last[-1] != '/')
			last--;
		ubd_k_snprintf(there.get(), UBD_PATH_MAX, "%s/%s", place.path(), last);
		ubd_k_snprintf(directory.get(), UBD_PATH_MAX, "%s", place.path());
		path = there.get();
	}
	sys::Fd fd(sys::open(directory.get(), new_file_flags | O_TMPFILE, new_file_mode));
	if (no_unnamed_files(fd))
		return create_by_other_name(path, directory.get(), h);
	UBD_TRY(to_error(fd.get()));
	UBD_TRY(write_cow(fd.get(), h));
	UBD_TRY(to_error(sys::call(SYS_fsync, fd.get())));
	char link[40];
	ubd_k_snprintf(link, sizeof(link), "/proc/self/fd/%d", fd.get());
	UBD_TRY(to_error(sys::call(SYS_linkat, AT_FDCWD, sys::arg(link), AT_FDCWD, sys::arg(path), AT_SYMLINK_FOLLOW)));
	return sync_with_name(fd.get(), path, directory.get());
}

// Copies what the file has data for; shares it where the host's file system can.
Error copy_file(int from, int to, u64 bytes)
{
	// With its length: without one the host may stop before the end, and not say so.
	file_clone_range all{};
	all.src_fd = from;
	all.src_length = bytes;
	if (sys::call(SYS_ioctl, to, FICLONERANGE, sys::arg(&all)) == 0)
		return no_error;
	UBD_TRY(to_error(sys::call(SYS_ftruncate, to, 0))); // it may have begun
	UBD_TRY(to_error(sys::call(SYS_ftruncate, to, static_cast<long>(bytes))));
	Scratch buffer(Cow::buffer_bytes);
	if (!buffer.get())
		return Error{ errno_nomem };
	for (u64 at = 0; at < bytes;) {
		const long data = sys::call(SYS_lseek, from, static_cast<long>(at), SEEK_DATA);
		if (data == -errno_nxio)
			break;
		at = data < 0 ? at : static_cast<u64>(data);
		const long hole = data < 0 ? -1 : sys::call(SYS_lseek, from, data, SEEK_HOLE);
		const u64 end = hole < 0 ? bytes : min(static_cast<u64>(hole), bytes);
		for (; at < end;) {
			const u64 n = min<u64>(end - at, Cow::buffer_bytes);
			UBD_TRY(read_all(from, buffer.get(), n, at));
			UBD_TRY(write_all(to, buffer.get(), n, at));
			at += n;
		}
	}
	return no_error;
}

// Seconds since 1970 as "2026-01-31 12:00:00 UTC".
struct Date {
	char text[40];

	explicit Date(u64 seconds)
	{
		// Years that begin in March, so that the odd day is the last; a cycle
		// of 400 years has 146097 days.
		const u64 day = seconds / 86400 + 719468, rest = seconds % 86400;
		const u64 era = day / 146097, of_era = day % 146097;
		const u64 year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
		const u64 of_year = of_era - (365 * year + year / 4 - year / 100);
		const u64 m = (5 * of_year + 2) / 153, month = m < 10 ? m + 3 : m - 9;
		ubd_k_snprintf(text, sizeof(text), "%04llu-%02llu-%02llu %02llu:%02llu:%02llu UTC",
			       year + era * 400 + (month <= 2), month, of_year - (153 * m + 2) / 5 + 1, rest / 3600,
			       rest / 60 % 60, rest % 60);
	}
};

} // namespace

// The header of a new file, over the backing file that `r` names.
Error CowFile::make_header(const CowRequest &r)
{
	OpenRequest base = r.file;
	base.path = r.backing;
	base.below = r.below;
	base.beside = r.beside;
	base.shown = r.backing_shown;
	base.read_only = true;
	base.role = FileRole::backing;
	struct stat st;
	UBD_TRY(backing_.open(base));
	const u64 bytes = backing_.size().value;
	Error e = check_plain(r, base);
	backing_.close();
	if (!e && (e = stat_path(r.backing, st, r.below)))
		return refuse_errno(base, "cannot look at the file", e, "check the host");
	if (e)
		return e;
	const char *why = "";
	new (Place{ &header_ }) CowHeader; // too large for a stack
	header_.bytes = bytes;
	header_.mtime = static_cast<u32>(st.st_mtime);
	header_.alignment = UBD_COW_ALIGNMENT;
	if ((e = make_absolute(r.backing, r.below, header_.backing, sizeof(header_.backing))))
		return refuse_errno(base, "cannot write its whole name into the COW file", e, "choose a shorter one");
	e = place_cow(header_, why);
	if (e)
		ubd_k_log(UBD_LOG_ERROR, false, "%s: %s: no COW file can be made for %s: %s\n", r.file.disk,
			  r.file.shown, r.backing_shown, why);
	return e;
}

Error CowFile::create_if_missing(const CowRequest &r)
{
	struct stat st;
	const OpenRequest &file = r.file;
	if (!r.backing[0] || stat_path(file.path, st, file.below).number != errno_noent)
		return no_error;
	if (file.read_only)
		return refuse(file, errno_noent, "does not exist, and is to be read only",
			      "give no r flag the first time");
	UBD_TRY(make_header(r));
	Error e = create_named(file.path, header_, file.below);
	if (e.number == errno_exist)
		return no_error; // another guest was faster: it is opened as any other
	if (e)
		return refuse_errno(file, "cannot be made", e, write_remedy(e));
	ubd_k_log(UBD_LOG_INFO, false, "%s: %s: made, a COW file over %s\n", file.disk, file.shown, r.backing_shown);
	return no_error;
}

Error CowFile::create_unnamed(const CowRequest &r, const char *directory, sys::Fd &fd)
{
	UBD_TRY(make_header(r));
	Error e = open_unnamed(directory, fd);
	if (!e)
		e = write_cow(fd.get(), header_);
	return e ? refuse_errno(r.file, "no temporary file can be made for what is written", e,
				"name another directory by snapshot_dir=, or free space there")
		 : no_error;
}

Error CowFile::copy_unnamed(const OpenRequest &r, const HostFile &from, const char *directory, sys::Fd &fd)
{
	Error e = open_unnamed(directory, fd);
	if (!e)
		e = copy_file(from.fd(), fd.get(), from.size().value);
	return e ? refuse_errno(r, "no temporary copy can be made of it", e,
				"name another directory by snapshot_dir=, or free space there")
		 : no_error;
}

Error CowFile::read_header(const OpenRequest &r, const HostFile &file)
{
	Scratch header(UBD_COW_HEADER_MAX);
	if (!header.get())
		return refuse(r, errno_nomem, "no memory", more_memory);
	size_t have;
	if (Error e = read_some(file.fd(), header.get(), UBD_COW_HEADER_MAX, have))
		return refuse_errno(r, "cannot be read", e, "check the host's file and its disk");
	kind_ = read_cow_header(reinterpret_cast<u8 *>(header.get()), have, header_, why_);
	return no_error;
}

Error CowFile::detect(const OpenRequest &r, const HostFile &file, bool &is_cow)
{
	UBD_TRY(read_header(r, file));
	is_cow = kind_ != CowRead::plain;
	return no_error;
}

Error CowFile::open(const CowRequest &r, HostFile &file)
{
	const OpenRequest &f = r.file;
	if (kind_ == CowRead::plain)
		return refuse(f, errno_inval, "is no COW file, but is to be one over a backing file",
			      "give it alone, or name another file, which will be made");
	if (kind_ == CowRead::bad) {
		ubd_k_log(UBD_LOG_ERROR, false,
			  "%s: %s: is a COW file, but %s; look at it with ubd-cow check, or give the d flag to take it "
			  "as plain data\n",
			  f.disk, f.shown, why_);
		return Error{ errno_inval };
	}
	UBD_TRY(open_backing(r, file));
	UBD_TRY(check_sizes(r, file));
	BitmapMemory memory;
	UBD_TRY(memory.map(f, header_.sectors()));
	cow_.bitmap.attach(memory.parts, header_.sectors());
	use(memory);
	UBD_TRY(load_bitmap(r, file));
	UBD_TRY(lengthen(f, file));
	return switch_backing(r, file);
}

/*
 * A name that does not begin at the root begins, for the kernel's own driver,
 * where UML was started; programs that only move such files about mean the
 * directory of the COW file. The first of both that is there.
 */
Error CowFile::find_backing(const CowRequest &r)
{
	struct stat st;
	ubd_k_snprintf(backing_path_, sizeof(backing_path_), "%s", header_.backing);
	if (header_.backing[0] == '/' || stat_path(header_.backing, st, r.below).number != errno_noent)
		return no_error;
	Directory directory(r.near ? r.near : r.file.path);
	Scratch path(UBD_PATH_MAX);
	if (!directory.get() || !path.get())
		return refuse(r.file, errno_nomem, "no memory", more_memory);
	int n = ubd_k_snprintf(path.get(), UBD_PATH_MAX, "%s/%s", directory.get(), header_.backing);
	if (n < UBD_PATH_MAX && !stat_path(path.get(), st, r.below)) {
		ubd_k_snprintf(backing_path_, sizeof(backing_path_), "%s", path.get());
		shorten_path(header_.backing, backing_shown_);
		ubd_k_log(UBD_LOG_INFO, false,
			  "%s: %s: its backing file %s is not in %s; taken from the COW file's own\n", r.file.disk,
			  r.file.shown, backing_shown_,
			  r.below ? "the directory of hot plug" : "the directory that UML was started in");
	}
	return no_error;
}

// Opens what the header names, or the command line.
Error CowFile::open_backing(const CowRequest &r, HostFile &file)
{
	if (r.backing[0])
		ubd_k_snprintf(backing_path_, sizeof(backing_path_), "%s", r.backing);
	else
		UBD_TRY(find_backing(r));
	shorten_path(backing_path_, backing_shown_);
	OpenRequest base = r.file;
	base.read_only = true;
	base.role = FileRole::backing;
	base.path = backing_path_;
	base.below = r.below;
	base.beside = r.beside;
	base.shown = backing_shown_;
	struct stat st;
	if (!stat_path(backing_path_, st, r.below) && file.is(st))
		return refuse(r.file, errno_inval, "names itself as its backing file",
			      "look at it with ubd-cow info, and give it another with ubd-cow rebase");
	UBD_TRY(backing_.open(base));
	return check_plain(r, base);
}

// To the kernel's own driver a backing file is plain data, whatever it is. But
// nobody wants to see a header and a bitmap as his disk.
Error CowFile::check_plain(const CowRequest &r, const OpenRequest &base)
{
	if (r.any_data)
		return no_error;
	Scratch header(UBD_COW_HEADER_MAX);
	auto *parsed = static_cast<CowHeader *>(ubd_k_zalloc(sizeof(CowHeader)));
	const char *why = "";
	Error e = header.get() && parsed ? no_error : Error{ errno_nomem };
	size_t have = 0;
	if (!e)
		e = read_some(backing_.fd(), header.get(), UBD_COW_HEADER_MAX, have);
	const bool plain = e ||
			   read_cow_header(reinterpret_cast<u8 *>(header.get()), have, *parsed, why) == CowRead::plain;
	ubd_k_free(parsed);
	if (e)
		return refuse_errno(base, "cannot be read", e, "check the host's file, its disk and its free memory");
	if (!plain)
		return refuse(base, errno_inval, "is a COW file itself, and can be no backing file",
			      "merge it first (ubd-cow merge)");
	return no_error;
}

Error CowFile::check_sizes(const CowRequest &r, const HostFile &file)
{
	const OpenRequest &f = r.file;
	if (backing_.size().value != header_.bytes) {
		const bool grown = backing_.size().value > header_.bytes;
		ubd_k_log(UBD_LOG_ERROR, false,
			  "%s: %s: is for a backing file of %llu bytes, but %s has %llu; name the right file, or "
			  "make a new COW file%s%s\n",
			  f.disk, f.shown, header_.bytes, backing_shown_, backing_.size().value,
			  grown ? "; if it was grown, and nothing else, say: ubd-cow resize " : "",
			  grown ? f.shown : "");
		return Error{ errno_inval };
	}
	const u64 bytes = file.size().value;
	if (bytes < header_.bitmap_offset + header_.bitmap_bytes)
		return refuse(f, errno_inval, "is cut short: its bitmap is not whole",
			      "restore it from a copy, or look at it with ubd-cow check");
	if (bytes < header_.file_bytes() && file.is_block_device())
		return refuse(f, errno_inval, "is on a block device that is too small for it", "take a larger one");
	return no_error;
}

// Whether a file of that length has all sectors that are its own by the bitmap. If not
// it was cut.
Error CowFile::check_length(const OpenRequest &r, u64 bytes) const
{
	if (bytes >= header_.file_bytes())
		return no_error;
	bool lost;
	const u64 there = bytes > header_.data_offset ? (bytes - header_.data_offset) >> UBD_SECTOR_SHIFT : 0;
	const u64 rest = header_.sectors() - there;
	if (cow_.bitmap.run(there, rest, lost) < rest || lost) {
		ubd_k_log(UBD_LOG_ERROR, false,
			  "%s: %s: is cut short: by its bitmap it has sectors behind its end at byte %llu, which are "
			  "lost; restore it from a copy, or say, to have zeros there: truncate -s %llu %s\n",
			  r.disk, r.shown, bytes, header_.file_bytes(), r.shown);
		return Error{ errno_inval };
	}
	return no_error;
}

// As the kernel's own driver leaves it, it ends behind the last sector that was
// written: then it gets its whole length.
Error CowFile::lengthen(const OpenRequest &r, const HostFile &file)
{
	const u64 bytes = file.size().value;
	UBD_TRY(check_length(r, bytes));
	if (bytes >= header_.file_bytes() || file.read_only())
		return no_error;
	Error e = to_error(sys::call(SYS_ftruncate, file.fd(), static_cast<long>(header_.file_bytes())));
	return e ? refuse_errno(r, "cannot get its whole length", e, write_remedy(e)) : no_error;
}

Error CowFile::check_mtime(const CowRequest &r, const struct stat &st)
{
	// The node of a block device has a time of its own.
	const u64 mtime = static_cast<u32>(st.st_mtime);
	if (S_ISBLK(st.st_mode) || mtime == static_cast<u32>(header_.mtime))
		return no_error;
	if (header_.merging) {
		ubd_k_log(
			UBD_LOG_ERROR, false,
			"%s: %s: a merge into its backing file %s was begun and not ended; nothing is lost: end it by: "
			"ubd-cow merge %s\n",
			r.file.disk, r.file.shown, backing_shown_, r.file.shown);
		return Error{ errno_inval };
	}
	ubd_k_log(UBD_LOG_ERROR, false,
		  "%s: %s: its backing file %s was changed at %s, but the COW file was made over one that was last "
		  "changed at %s: it was written to, or copied without its time. If its content is the same as then, "
		  "go on after: ubd-cow rebase --trust %s%s%s\n",
		  r.file.disk, r.file.shown, backing_shown_, Date(mtime).text, Date(header_.mtime).text, r.file.shown,
		  r.backing[0] ? " " : "", r.backing_shown);
	return Error{ errno_inval };
}

/*
 * The kernel's own driver writes a new name of the backing file into the header,
 * if size and mtime are right, and goes on with the old file if not; we do the
 * first. (It writes version 3 whatever was there, over what follows older
 * headers; here each keeps its layout.)
 */
Error CowFile::switch_backing(const CowRequest &r, HostFile &file)
{
	struct stat st, named;
	if (long n = sys::call(SYS_fstat, backing_.fd(), sys::arg(&st)); n < 0)
		return refuse_errno(r.file, "cannot look at its backing file", to_error(n), "check the host");
	UBD_TRY(check_mtime(r, st));
	if (!r.backing[0] || (!stat_path(header_.backing, named, r.below) && backing_.is(named)))
		return no_error;
	char old[UBD_SHOWN_MAX];
	shorten_path(header_.backing, old);
	Error e = make_absolute(r.backing, r.below, header_.backing,
				header_.version == CowVersion::v1 ? UBD_COW_PATH_V1 : UBD_COW_PATH_MAX);
	if (e)
		return refuse_errno(r.file, "cannot write the whole name of its backing file", e,
				    "choose a shorter one");
	header_.mtime = static_cast<u32>(st.st_mtime);
	header_.merging = false;
	if (!file.read_only())
		UBD_TRY(write_header(r.file, file));
	ubd_k_log(UBD_LOG_INFO, false, "%s: %s: backing file is now %s, no longer %s%s\n", r.file.disk, r.file.shown,
		  r.backing_shown, old, file.read_only() ? " (this time: it is not to be written)" : "");
	return no_error;
}

// Only the name changes: a crash leaves the old or the new one, unless it is so
// long that the host's disk may tear it.
Error CowFile::write_header(const OpenRequest &r, const HostFile &file)
{
	Scratch header(UBD_COW_HEADER_MAX);
	if (!header.get())
		return refuse(r, errno_nomem, "no memory", more_memory);
	const size_t n = write_cow_header(header_, reinterpret_cast<u8 *>(header.get()), UBD_COW_HEADER_MAX);
	Error e = write_all(file.fd(), header.get(), n, 0);
	if (!e)
		e = sync_data(file.fd());
	return e ? refuse_errno(r, "cannot write its header", e, write_remedy(e)) : no_error;
}

Error BitmapMemory::map(const OpenRequest &r, u64 sectors)
{
	const u64 words = CowBitmap::words_for(sectors);
	const u64 blocks = CowBitmap::block_words_for(sectors);
	const u64 parts_words = Cow::allocated_words_for(sectors);
	bytes = (2 * words + 4 * blocks + parts_words) * sizeof(u64) + Cow::buffer_bytes;
	long m = sys::call(SYS_mmap, 0, static_cast<long>(bytes), PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (m < 0 && m > -4096)
		return refuse_errno(r, "no memory of the host for its bitmap", to_error(m),
				    "free memory there, or raise its limits (ulimit -v, vm.overcommit_memory)");
	at = reinterpret_cast<char *>(m);
	// Guest processes have no use for it, and huge pages would fill it.
	(void)sys::call(SYS_madvise, m, static_cast<long>(bytes), MADV_DONTFORK);
	(void)sys::call(SYS_madvise, m, static_cast<long>(bytes), MADV_NOHUGEPAGE);
	parts.live = reinterpret_cast<u64 *>(at);
	parts.next = parts.live + words;
	parts.touched = parts.next + words;
	parts.dirty = parts.touched + blocks;
	parts.sealed = parts.dirty + blocks;
	parts.next_touched = parts.sealed + blocks;
	allocated = parts.next_touched + blocks;
	buffer = reinterpret_cast<u8 *>(allocated + parts_words);
	return no_error;
}

void BitmapMemory::unmap()
{
	if (at)
		(void)sys::call(SYS_munmap, sys::arg(at), static_cast<long>(bytes));
	at = nullptr;
}

// The bitmap is in that memory, and header_ says where it lies in the file.
void CowFile::use(const BitmapMemory &memory)
{
	memory_ = memory;
	cow_.allocated = memory.allocated;
	cow_.buffer = memory.buffer;
	cow_.bitmap_offset = ByteOffset(header_.bitmap_offset);
	cow_.bitmap_bytes = ByteCount(header_.bitmap_bytes);
	cow_.data_offset = ByteOffset(header_.data_offset);
	last_ = { memory.parts.live,     memory.parts.dirty,   memory.parts.sealed, cow_.bitmap.blocks(),
		  header_.bitmap_offset, header_.bitmap_bytes, &cow_.poisoned,      no_flush_ };
}

// By a piece at a time: the whole of a large device would need much to hold the
// answer.
u64 CowFile::memory_now() const
{
	constexpr u64 page = 4096, piece = 1024; // pages
	u8 there[piece];
	u64 pages = 0;
	for (u64 at = 0; at < memory_reserved(); at += piece * page) {
		const u64 bytes = min(piece * page, memory_.bytes - at);
		if (sys::call(SYS_mincore, sys::arg(memory_.at + at), static_cast<long>(bytes), sys::arg(there)))
			break;
		for (u64 i = 0; i < (bytes + page - 1) / page; i++)
			pages += there[i] & 1;
	}
	return pages * page;
}

// Only where the file has data: an unwritten bitmap is a hole.
Error CowFile::load_bitmap(const CowRequest &r, const HostFile &file)
{
	const u64 begin = header_.bitmap_offset, end = begin + header_.bitmap_bytes;
	Error e;
	for (u64 at = begin; at < end && !e;) {
		long data = sys::call(SYS_lseek, file.fd(), static_cast<long>(at), SEEK_DATA);
		if (data == -errno_nxio)
			break; // holes to the end
		// Where the host knows no holes, all is data.
		const u64 from = data < 0 ? at : static_cast<u64>(data);
		long hole = data < 0 ? -1 : sys::call(SYS_lseek, file.fd(), data, SEEK_HOLE);
		const u64 to = hole < 0 ? end : min(static_cast<u64>(hole), end);
		if (from >= end)
			break;
		// Whole blocks: what lies between two stretches of data may be read twice.
		const u64 block = CowBitmap::block_bytes;
		const u64 last = min(begin + (to - begin + block - 1) / block * block, end);
		e = load_extent(file, begin + (from - begin) / block * block, last);
		at = last;
	}
	return e ? refuse_errno(r.file, "cannot read its bitmap", e, "check the host's file and its disk") : no_error;
}

// Bytes of the file, from the beginning of a block of the bitmap on.
Error CowFile::load_extent(const HostFile &file, u64 from, u64 end)
{
	while (from < end) {
		const u64 n = min<u64>(end - from, Cow::buffer_bytes);
		UBD_TRY(read_all(file.fd(), cow_.buffer, n, from));
		for (u64 done = 0; done < n; done += CowBitmap::block_bytes)
			cow_.bitmap.load((from + done - header_.bitmap_offset) / CowBitmap::block_bytes,
					 cow_.buffer + done,
					 static_cast<u32>(min<u64>(n - done, CowBitmap::block_bytes)));
		from += n;
	}
	return no_error;
}

void CowFile::commit_last(const OpenRequest &r, const HostFile &file)
{
	const CowBitmap &bitmap = cow_.bitmap;
	if (!memory_.at || file.read_only() || cow_.poisoned || bitmap.next_unsaved(0) == bitmap.blocks())
		return;
	Error e = no_flush_ ? no_error : sync_data(file.fd());
	for (u64 b = bitmap.next_unsaved(0); !e && b < bitmap.blocks(); b = bitmap.next_unsaved(b + 1)) {
		const u64 at = b * CowBitmap::block_bytes;
		bitmap.copy_live(b, cow_.buffer);
		e = write_all(file.fd(), cow_.buffer, min<u64>(CowBitmap::block_bytes, cow_.bitmap_bytes.value - at),
			      cow_.bitmap_offset.value + at);
	}
	if (!e && !no_flush_)
		e = sync_data(file.fd());
	if (e)
		ubd_k_log(UBD_LOG_ERROR, false,
			  "%s: %s: the last commit of the COW bitmap failed: %s (%d); what was written since the last "
			  "flush is lost; %s\n",
			  r.disk, r.shown, errno_words(e.number), e.number, write_remedy(e));
}

void CowFile::set_no_flush()
{
	no_flush_ = true;
	last_.no_flush = true;
}

void CowFile::close()
{
	memory_.unmap();
	backing_.close();
}

} // namespace ubd
