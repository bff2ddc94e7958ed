// SPDX-License-Identifier: GPL-2.0-only
/*
 * Opening, checking, measuring and locking a host file.
 *
 * Context: process, may sleep, under kernel/'s device mutex.
 */
#include "file.hh"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/statfs.h>

namespace ubd
{
namespace
{

// A guest that was killed holds its lock until its last write has landed.
constexpr u32 lock_patience_ms = 5000;
constexpr u32 lock_pause_ms = 50;
// Where zeros have to be written one by one, a request stays this short.
constexpr u64 most_written_zeroes = 4u << 20;
constexpr u64 most_zeroes = 1u << 31;
// More than a page of alignment no request of the guest can have.
constexpr u32 most_alignment = 4096;

/*
 * What statx(2) says of O_DIRECT. Older headers have neither the constant nor the
 * members, older hosts (before 6.1) do not set them.
 */
constexpr long statx_dioalign = 0x2000;
struct StatxDirect {
	u32 mask;
	u8 others[0x94];
	u32 memory_align;
	u32 offset_align;
	u8 rest[256 - 0xa0];
};
static_assert(__builtin_offsetof(StatxDirect, memory_align) == 0x98 && sizeof(StatxDirect) == 256);

using sys::to_error;

const char *open_remedy(const OpenRequest &r, int number)
{
	if (r.role == FileRole::backing && number != errno_xdev)
		return number == errno_noent
			       ? "correct its name, or if it was moved name it behind the COW file on the "
				 "command line"
			       : "a backing file has to be readable: check its permissions";
	switch (number) {
	case errno_xdev:
		return "name one below the directory that ubd=hotplug: allows";
	case errno_noent:
		return "create the file (truncate -s SIZE FILE) or correct its name";
	case errno_acces:
	case errno_perm:
		return "check the permissions, or give the r flag for read-only";
	case errno_rofs:
		return "give the r flag for read-only";
	default:
		return "check the name and the host";
	}
}

// Calls visit(name) for each entry whose name is a number, until it says true.
template <class Visit> bool any_number_in(const char *path, Visit visit)
{
	sys::Fd dir(sys::open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	if (!dir.valid())
		return false;
	struct Entry { // struct linux_dirent64 of getdents64(2)
		u64 ino;
		u64 off;
		unsigned short reclen;
		unsigned char type;
		char name[];
	};
	alignas(8) char buffer[1024];
	for (;;) {
		long n = sys::call(SYS_getdents64, dir.get(), sys::arg(buffer), sizeof(buffer));
		if (n <= 0)
			return false;
		for (long at = 0; at < n;) {
			auto *e = reinterpret_cast<Entry *>(buffer + at);
			at += e->reclen;
			if (e->name[0] >= '0' && e->name[0] <= '9' && visit(e->name))
				return true;
		}
	}
}

int number_of(const char *digits)
{
	int n = 0;
	for (; *digits >= '0' && *digits <= '9'; digits++)
		n = n * 10 + (*digits - '0');
	return n;
}

// True for ourselves, and for UML's helpers that share our descriptors.
bool shares_our_descriptors(const char *pid)
{
	constexpr int kcmp_files = 2;
	const long self = sys::call(SYS_getpid);
	return number_of(pid) == self || sys::call(SYS_kcmp, self, number_of(pid), kcmp_files) == 0;
}

// How often the process (a number, or "self") has the file open; counts no
// further than `most`.
u32 openings(const char *process, const struct stat &st, u32 most)
{
	char path[64];
	u32 n = 0;
	ubd_k_snprintf(path, sizeof(path), "/proc/%s/fd", process);
	(void)any_number_in(path, [&](const char *fd) {
		struct stat other;
		ubd_k_snprintf(path, sizeof(path), "/proc/%s/fd/%s", process, fd);
		n += !stat_path(path, other) && other.st_dev == st.st_dev && other.st_ino == st.st_ino;
		return n == most;
	});
	return n;
}

struct Holder {
	char pid[24];
	char name[UBD_SHOWN_MAX]; // for messages: a process chooses its own
};

// Returns bytes or -errno.
long read_whole(const char *path, char *to, size_t bytes)
{
	sys::Fd fd(sys::open(path, O_RDONLY | O_CLOEXEC));
	if (!fd.valid())
		return fd.get();
	size_t total = 0;
	while (total < bytes) {
		long n = sys::read(fd.get(), to + total, bytes - total);
		if (n == -errno_intr)
			continue;
		if (n < 0)
			return n;
		if (n == 0)
			break;
		total += static_cast<size_t>(n);
	}
	return static_cast<long>(total);
}

// The parent of a process, or 0: in its line of proc_pid_stat(5) a state and the
// parent follow the name, which stands in parentheses and may hold some itself.
int parent_of(const char *pid)
{
	char path[64];
	char line[256];
	ubd_k_snprintf(path, sizeof(path), "/proc/%s/stat", pid);
	const long n = read_whole(path, line, sizeof(line));
	for (long at = n - 1; at > 0; at--)
		if (line[at] == ')')
			return at + 4 < n ? number_of(line + at + 4) : 0;
	return 0;
}

/*
 * Who holds the lock that conflicts: the host says it for POSIX locks, for
 * others it is the first process outside of ours that has the file open and that
 * we may see, or rather the eldest of its family that has: helpers, such as our
 * relay, hold what their guest holds. False if it is not found.
 */
bool find_holder(int fd, short type, Holder &h)
{
	constexpr unsigned most_generations = 16;
	struct flock probe {};
	struct stat st;
	probe.l_type = type;
	if (sys::call(SYS_fcntl, fd, F_OFD_GETLK, sys::arg(&probe)) == 0 && probe.l_type != F_UNLCK &&
	    probe.l_pid > 0) {
		ubd_k_snprintf(h.pid, sizeof(h.pid), "%d", probe.l_pid);
	} else if (sys::call(SYS_fstat, fd, sys::arg(&st)) < 0) {
		return false;
	} else {
		bool found = any_number_in("/proc", [&](const char *pid) {
			if (shares_our_descriptors(pid) || !openings(pid, st, 1))
				return false;
			ubd_k_snprintf(h.pid, sizeof(h.pid), "%s", pid);
			return true;
		});
		if (!found)
			return false;
		for (unsigned n = 0; n < most_generations; n++) {
			char parent[24];
			ubd_k_snprintf(parent, sizeof(parent), "%d", parent_of(h.pid));
			if (shares_our_descriptors(parent) || !openings(parent, st, 1))
				break;
			ubd_k_snprintf(h.pid, sizeof(h.pid), "%s", parent);
		}
	}
	char path[64], name[24];
	ubd_k_snprintf(path, sizeof(path), "/proc/%s/comm", h.pid);
	const long n = read_whole(path, name, sizeof(name));
	ubd_show_text(name, n > 1 ? static_cast<size_t>(n - 1) : 0, h.name); // without its newline
	return true;
}

} // namespace

Error refuse(const OpenRequest &r, int number, const char *what, const char *remedy)
{
	ubd_k_log(UBD_LOG_ERROR, false, "%s: %s: %s; %s\n", r.disk, r.shown, what, remedy);
	return Error{ number };
}

Error refuse_errno(const OpenRequest &r, const char *what, Error e, const char *remedy)
{
	ubd_k_log(UBD_LOG_ERROR, false, "%s: %s: %s: %s (%d); %s\n", r.disk, r.shown, what, errno_words(e.number),
		  e.number, remedy);
	return e;
}

Error HostFile::open(const OpenRequest &r)
{
	struct stat st;
	HostName name;
	Error e = name.find(r.path, r.below);
	// Looked at by name first: to open a FIFO waits, and to close a second
	// descriptor of a file drops the locks that the kernel's own driver has.
	if (!e)
		e = stat_path(name.path(), st);
	if (e)
		return refuse_errno(r, "cannot find the file", e, open_remedy(r, e.number));
	UBD_TRY(check_type(r, st));
	// By descriptors, not names: the kernel's own driver may have got its
	// file by mconsole.
	const u32 ours = own_openings(st) + name.descriptors();
	if (r.beside && openings("self", st, ours + 1) > ours)
		return refuse(r, errno_busy,
			      "this UML process has the file open already, perhaps in its own ubd driver",
			      "name another file");
	UBD_TRY(open_fd(r, name.path()));
	if (long n = sys::call(SYS_fstat, fd_.get(), sys::arg(&st)); n < 0)
		return refuse_errno(r, "cannot look at the file", to_error(n), "check the host");
	UBD_TRY(check_type(r, st)); // it may have been exchanged meanwhile
	dev_ = st.st_dev;
	ino_ = st.st_ino;
	UBD_TRY(measure(r, st));
	if (!read_only_)
		UBD_TRY(open_again(r, 0, sync_fd_));
	next_open_ = first_open;
	first_open = this;
	return r.lock ? take_lock(r) : no_error;
}

constinit HostFile *HostFile::first_open = nullptr;

// Of the file that `st` is: how often devices of this module have it open.
u32 HostFile::own_openings(const struct stat &st) const
{
	u32 n = 0;
	for (const HostFile *f = first_open; f; f = f->next_open_) {
		if (!f->is(st))
			continue;
		n += 1 + f->sync_fd_.valid() + f->direct_fd_.valid();
		for (const auto &q : f->more_)
			n += q.data.valid() + q.sync.valid();
	}
	return n;
}

Error HostFile::check_type(const OpenRequest &r, const struct stat &st)
{
	if (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode))
		return no_error;
	if (S_ISDIR(st.st_mode))
		return refuse(r, errno_isdir, "is a directory", "name a file or a block device");
	return refuse(r, errno_inval, "is neither a regular file nor a block device", "name one of these");
}

Error HostFile::open_fd(const OpenRequest &r, const char *path)
{
	constexpr int common = O_CLOEXEC | O_NOCTTY | O_LARGEFILE;
	read_only_ = r.read_only;
	int fd = sys::open(path, common | (read_only_ ? O_RDONLY : O_RDWR));
	if ((fd == -errno_acces || fd == -errno_rofs) && !read_only_) {
		// As the kernel's own driver does: better read-only than not at all.
		int reader = sys::open(path, common | O_RDONLY);
		if (reader >= 0) {
			ubd_k_log(UBD_LOG_WARN, false, "%s: %s: cannot be written: %s (%d); the device is read-only\n",
				  r.disk, r.shown, errno_words(-fd), -fd);
			read_only_ = true;
			fd = reader;
		}
	}
	if (fd < 0)
		return refuse_errno(r, "cannot open the file", to_error(fd), open_remedy(r, -fd));
	fd_.reset(fd);
	return no_error;
}

// By the descriptor: the name may be another file's by now.
Error HostFile::reopen(const OpenRequest &r, int which, int flags, sys::Fd &fd) const
{
	char path[40];
	ubd_k_snprintf(path, sizeof(path), "/proc/self/fd/%d", which);
	fd.reset(sys::open(path, O_CLOEXEC | O_NOCTTY | O_LARGEFILE | flags | (read_only_ ? O_RDONLY : O_RDWR)));
	if (fd.valid() || (flags & O_DIRECT && fd.get() == -errno_inval))
		return no_error;
	return refuse_errno(r, "cannot open the file a second time, by /proc/self/fd", to_error(fd.get()),
			    "mount /proc on the host and check its limit of open files (ulimit -n)");
}

Error HostFile::open_direct(const OpenRequest &r, const char *&why)
{
	why = nullptr;
	UBD_TRY(open_again(r, O_DIRECT, direct_fd_));
	if (direct_fd_.valid())
		measure_direct();
	if (!direct_fd_.valid() || !direct_block_)
		why = "the host's file system has none";
	else if (direct_block_ > most_alignment || direct_memory_ > most_alignment)
		why = "the host wants more than 4096 bytes of alignment for that";
	if (why)
		close_direct();
	return no_error;
}

void HostFile::close_direct()
{
	direct_fd_.reset();
}

Error HostFile::make_sync_direct(const OpenRequest &r)
{
	return read_only_ ? no_error : open_again(r, O_DIRECT, sync_fd_);
}

Error HostFile::open_for_queue(const OpenRequest &r, u32 number, int &data, int &sync)
{
	if (read_only_)
		return no_error;
	const int flags = direct_fd_.valid() ? O_DIRECT : 0;
	auto &q = more_[number - 1];
	UBD_TRY(open_again(r, flags, q.data));
	UBD_TRY(open_again(r, flags, q.sync));
	if (!q.data.valid() || !q.sync.valid())
		return refuse(r, errno_inval, "the host has no O_DIRECT any more", "give cache=writeback");
	data = q.data.get();
	sync = q.sync.get();
	return no_error;
}

// Leaves 0 where O_DIRECT can be opened, and cannot be had.
void HostFile::measure_direct()
{
	StatxDirect st{};
	if (sys::call(SYS_statx, direct_fd_.get(), sys::arg(""), AT_EMPTY_PATH, statx_dioalign, sys::arg(&st)) == 0 &&
	    st.mask & statx_dioalign) {
		direct_block_ = st.offset_align;
		direct_memory_ = st.memory_align;
	} else if (block_device_) {
		direct_block_ = logical_block_;
	} else {
		// Not told: is a sector enough?
		alignas(UBD_SECTOR_SIZE) char sector[UBD_SECTOR_SIZE];
		const long n = sys::call(SYS_pread64, direct_fd_.get(), sys::arg(sector),
					 static_cast<long>(sizeof(sector)), 0);
		direct_block_ = n == -errno_inval ? most_alignment : UBD_SECTOR_SIZE;
	}
	if (direct_block_ && direct_block_ < UBD_SECTOR_SIZE)
		direct_block_ = UBD_SECTOR_SIZE;
	if (direct_memory_ < direct_block_)
		direct_memory_ = direct_block_; // older hosts want so much of each iovec's length
}

Error HostFile::measure(const OpenRequest &r, const struct stat &st)
{
	u64 bytes = static_cast<u64>(st.st_size);
	block_device_ = S_ISBLK(st.st_mode);
	if (block_device_) {
		unsigned int physical = 0;
		int logical = 0;
		if (long n = sys::call(SYS_ioctl, fd_.get(), BLKGETSIZE64, sys::arg(&bytes)); n < 0)
			return refuse_errno(r, "cannot learn the size", to_error(n), "check the host's device");
		if (sys::call(SYS_ioctl, fd_.get(), BLKSSZGET, sys::arg(&logical)) == 0 && logical > 0)
			logical_block_ = static_cast<u32>(logical);
		if (sys::call(SYS_ioctl, fd_.get(), BLKPBSZGET, sys::arg(&physical)) == 0 && physical > 0)
			physical_block_ = physical;
	} else {
		physical_block_ = static_cast<u32>(st.st_blksize);
	}
	// Only a power of two up to a page makes sense to the guest.
	if (physical_block_ & (physical_block_ - 1) || physical_block_ > 4096)
		physical_block_ = 4096;
	if (physical_block_ < logical_block_)
		physical_block_ = logical_block_;
	size_ = ByteCount(bytes);
	if (r.role != FileRole::container)
		UBD_TRY(check_size(r));
	struct statfs fs;
	max_zeroes_ = most_zeroes;
	long got;
	do
		got = sys::call(SYS_fstatfs, fd_.get(), sys::arg(&fs));
	while (got == -errno_intr); // a server may be asked
	if (got)
		return no_error;
	if (fs.f_type == TMPFS_MAGIC)
		max_zeroes_ = most_written_zeroes;
	nfs_ = fs.f_type == NFS_SUPER_MAGIC;
	return no_error;
}

Error HostFile::check_size(const OpenRequest &r) const
{
	const u64 bytes = size_.value;
	if (!bytes)
		return refuse(r, errno_inval, "is empty", "give it a size (truncate -s SIZE FILE)");
	if (bytes % logical_block_) {
		ubd_k_log(UBD_LOG_ERROR, false,
			  "%s: %s: has %llu bytes, which is no multiple of the block size %u; round it up with "
			  "truncate -s %%%u FILE\n",
			  r.disk, r.shown, bytes, logical_block_, logical_block_);
		return Error{ errno_inval };
	}
	return no_error;
}

Error HostFile::take_lock(const OpenRequest &r)
{
	// Open file description locks: they meet the POSIX locks that the kernel's
	// own driver takes, and unlike these outlive no close of ours elsewhere.
	struct flock lock {};
	lock.l_type = read_only_ ? F_RDLCK : F_WRLCK;
	long n = 0;
	for (u32 waited = 0;; waited += lock_pause_ms) {
		n = sys::call(SYS_fcntl, fd_.get(), F_OFD_SETLK, sys::arg(&lock));
		if ((n != -errno_again && n != -errno_acces) || waited >= lock_patience_ms)
			break;
		ubd_k_sleep_ms(lock_pause_ms);
	}
	if (!n) {
		locked_ = true;
		return check_name(r);
	}
	if (n != -errno_again && n != -errno_acces) {
		// Some network file systems know no locks; the kernel's own driver
		// refuses these too.
		return refuse_errno(r, "cannot be locked", to_error(n), "give the c flag to do without a lock");
	}
	refuse_lock(r, lock.l_type);
	return Error{ errno_busy };
}

// While the lock was waited for, its owner may have put another file in this one's
// place, as a resize does: nobody would ever see what is written to this one.
Error HostFile::check_name(const OpenRequest &r) const
{
	struct stat st;
	if (!stat_path(r.path, st, r.below) && is(st))
		return no_error;
	return refuse(r, errno_again, "was replaced by another file while it was opened", "try again");
}

void HostFile::refuse_lock(const OpenRequest &r, short type) const
{
	const char *remedy = "stop that guest, or give both the r flag to share it read-only";
	if (r.role == FileRole::backing)
		remedy = "it may be writing there, and a backing file must not change: stop it";
	struct stat st;
	Holder h;
	if (sys::call(SYS_fstat, fd_.get(), sys::arg(&st)) == 0 && own_openings(st) > 1u + sync_fd_.valid())
		ubd_k_log(UBD_LOG_ERROR, false,
			  "%s: %s: another disk of this guest has the file, and one of both is to write to it; name "
			  "another file\n",
			  r.disk, r.shown);
	else if (find_holder(fd_.get(), type, h))
		ubd_k_log(UBD_LOG_ERROR, false, "%s: %s: is locked by process %s (%s) of the host; %s\n", r.disk,
			  r.shown, h.pid, h.name, remedy);
	else
		ubd_k_log(UBD_LOG_ERROR, false, "%s: %s: is locked by another guest; %s\n", r.disk, r.shown, remedy);
}

Error HostFile::measure_again(const OpenRequest &r, u64 &bytes) const
{
	struct stat st;
	const long n = block_device_ ? sys::call(SYS_ioctl, fd_.get(), BLKGETSIZE64, sys::arg(&bytes))
				     : sys::call(SYS_fstat, fd_.get(), sys::arg(&st));
	if (n < 0)
		return refuse_errno(r, "cannot learn the size", to_error(n), "check the host's file or device");
	if (!block_device_)
		bytes = static_cast<u64>(st.st_size);
	return no_error;
}

Error HostFile::prepare(const OpenRequest &r, Successor &other) const
{
	struct flock lock {};
	lock.l_type = F_WRLCK;
	if (locked_)
		if (Error e = to_error(sys::call(SYS_fcntl, other.fd.get(), F_OFD_SETLK, sys::arg(&lock))))
			return refuse_errno(r, "its new file cannot be locked", e, "check the host's file system");
	UBD_TRY(reopen(r, other.fd.get(), 0, other.sync_fd));
	if (!direct_fd_.valid())
		return no_error;
	UBD_TRY(reopen(r, other.fd.get(), O_DIRECT, other.direct_fd));
	return other.direct_fd.valid() ? no_error
				       : refuse(r, errno_inval, "its new file knows no O_DIRECT", "check the host");
}

void HostFile::replace(Successor &other, ByteCount size)
{
	auto put = [](const sys::Fd &from, const sys::Fd &to) {
		while (to.valid() && sys::call(SYS_dup3, from.get(), to.get(), O_CLOEXEC) < 0)
			; // EINTR and EBUSY are what is possible
	};
	struct stat st;
	struct flock lock {};
	lock.l_type = F_UNLCK;
	// Who waits for its lock looks for its name then, see check_name().
	if (locked_)
		(void)sys::call(SYS_fcntl, fd_.get(), F_OFD_SETLK, sys::arg(&lock));
	put(other.fd, fd_);
	put(other.sync_fd, sync_fd_);
	put(other.direct_fd, direct_fd_);
	if (sys::call(SYS_fstat, fd_.get(), sys::arg(&st)) == 0) {
		dev_ = st.st_dev;
		ino_ = st.st_ino;
	}
	size_ = size;
}

void HostFile::close()
{
	for (HostFile **f = &first_open; *f; f = &(*f)->next_open_)
		if (*f == this) {
			*f = next_open_;
			break;
		}
	if (locked_) {
		// A ring that is still dissolving may hold the file: let go by name.
		struct flock lock {};
		lock.l_type = F_UNLCK;
		(void)sys::call(SYS_fcntl, fd_.get(), F_OFD_SETLK, sys::arg(&lock));
		locked_ = false;
	}
	for (auto &q : more_) {
		q.data.reset();
		q.sync.reset();
	}
	direct_fd_.reset();
	sync_fd_.reset();
	fd_.reset();
}

bool host_variable(const char *name, char *to, size_t bytes)
{
	constexpr size_t most = 128 << 10;
	auto *all = static_cast<char *>(ubd_k_zalloc(most));
	if (!all)
		return false;
	const size_t length = __builtin_strlen(name);
	const long end = read_whole("/proc/self/environ", all, most - 1);
	bool found = false;
	for (long at = 0; at < end && !found; at += static_cast<long>(__builtin_strlen(all + at)) + 1)
		if (!__builtin_strncmp(all + at, name, length)) {
			const int n = ubd_k_snprintf(to, bytes, "%s", all + at + length);
			found = n && static_cast<size_t>(n) < bytes;
		}
	ubd_k_free(all);
	return found;
}

} // namespace ubd

long ubd_host_read_cmdline(char *to, size_t bytes)
{
	return ubd::read_whole("/proc/self/cmdline", to, bytes);
}
