// SPDX-License-Identifier: GPL-2.0-only
#include "file.hh"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/limits.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/xattr.h>
#include <unistd.h>

namespace ubd::tool
{
namespace
{

// A guest that was killed holds its lock until its last write has landed.
constexpr int lock_tries = 20;
constexpr useconds_t lock_pause_us = 50000;

constexpr size_t zeros_bytes = 1 << 20;

template <class Call> auto retry(Call call)
{
	decltype(call()) n;
	do
		n = call();
	while (n < 0 && errno == EINTR);
	return n;
}

std::string process_name(const std::string &pid)
{
	char name[64];
	const int fd = ::open(("/proc/" + pid + "/comm").c_str(), O_RDONLY | O_CLOEXEC);
	const ssize_t n = fd < 0 ? 0 : ::read(fd, name, sizeof(name));
	if (fd >= 0)
		close(fd);
	return n > 1 ? std::string(name, static_cast<size_t>(n) - 1) : std::string();
}

// Calls visit(name) for each entry that begins with a digit, until it says true.
template <class Visit> bool any_number_in(const std::string &path, Visit visit)
{
	DIR *dir = opendir(path.c_str());
	bool found = false;
	while (const dirent *e = dir && !found ? readdir(dir) : nullptr)
		found = e->d_name[0] >= '0' && e->d_name[0] <= '9' && visit(std::string(e->d_name));
	if (dir)
		closedir(dir);
	return found;
}

bool has_open(const std::string &pid, const struct stat &st)
{
	const std::string fds = "/proc/" + pid + "/fd";
	return any_number_in(fds, [&](const std::string &fd) {
		struct stat other;
		return !::stat((fds + "/" + fd).c_str(), &other) && other.st_dev == st.st_dev &&
		       other.st_ino == st.st_ino;
	});
}

// Who holds the lock that conflicts: the host says it for POSIX locks; for those
// of an open file description it is looked for among the processes we may see.
std::string holder(const File &file, short type)
{
	struct flock probe {};
	probe.l_type = type;
	std::string pid;
	if (!fcntl(file.fd(), F_OFD_GETLK, &probe) && probe.l_type != F_UNLCK && probe.l_pid > 0)
		pid = std::to_string(probe.l_pid);
	const struct stat st = file.stat();
	const std::string self = std::to_string(getpid());
	if (pid.empty())
		any_number_in("/proc", [&](const std::string &other) {
			if (other == self || !has_open(other, st))
				return false;
			pid = other;
			return true;
		});
	if (pid.empty())
		return "another process";
	return "process " + pid + " (" + shown(process_name(pid)) + ")";
}

} // namespace

File::~File()
{
	if (fd_ >= 0)
		close(fd_);
}

File &File::operator=(File &&o) noexcept
{
	std::swap(fd_, o.fd_);
	std::swap(path_, o.path_);
	return *this;
}

File File::open(const std::string &path, Access access)
{
	struct stat st;
	// Looked at by name first: to open a device may do things.
	if (::stat(path.c_str(), &st))
		fail_errno(path, "cannot find the file", errno, remedy_for(errno));
	if (S_ISDIR(st.st_mode))
		fail(path, "is a directory", "name a file or a block device");
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		fail(path, "is neither a regular file nor a block device", "name one of these");
	const int flags = (access == Access::write ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
	File file(retry([&] { return ::open(path.c_str(), flags); }), path);
	if (file.fd_ < 0)
		fail_errno(path, access == Access::write ? "cannot be opened for writing" : "cannot be opened", errno,
			   remedy_for(errno));
	st = file.stat(); // it may have been exchanged meanwhile
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		fail(path, "is neither a regular file nor a block device", "name one of these");
	return file;
}

struct stat File::stat() const
{
	struct stat st;
	if (fstat(fd_, &st))
		fail_errno(path_, "cannot be looked at", errno, remedy_for(errno));
	return st;
}

u64 File::size() const
{
	const struct stat st = stat();
	u64 bytes = static_cast<u64>(st.st_size);
	if (S_ISBLK(st.st_mode) && ioctl(fd_, BLKGETSIZE64, &bytes))
		fail_errno(path_, "its size cannot be learnt", errno, remedy_for(errno));
	return bytes;
}

bool File::is_same(const struct stat &st) const
{
	const struct stat own = stat();
	if (S_ISBLK(own.st_mode) && S_ISBLK(st.st_mode))
		return own.st_rdev == st.st_rdev;
	return own.st_dev == st.st_dev && own.st_ino == st.st_ino;
}

void File::lock(Access access) const
{
	struct flock lock {};
	lock.l_type = access == Access::write ? F_WRLCK : F_RDLCK;
	for (int i = 0; i < lock_tries; i++) {
		if (!fcntl(fd_, F_OFD_SETLK, &lock))
			return check_name();
		if (errno != EAGAIN && errno != EACCES)
			fail_errno(path_, "cannot be locked", errno, "copy it to a file system that knows locks");
		usleep(lock_pause_us);
	}
	throw Failure{ status_in_use, shown(path_) + ": is in use by " + holder(*this, lock.l_type) +
					      "; end it, or remove the device there, and run this again" };
}

// While the lock was waited for, its owner may have put another file in this one's
// place.
void File::check_name() const
{
	struct stat st;
	if (::stat(path_.c_str(), &st) || !is_same(st))
		fail(path_, "was replaced by another file while it was opened", "run this again");
}

void File::unlock() const
{
	struct flock lock {};
	lock.l_type = F_UNLCK;
	if (fcntl(fd_, F_OFD_SETLK, &lock))
		fail_errno(path_, "cannot be unlocked", errno, remedy_for(errno));
}

size_t File::read_some(void *to, size_t bytes, u64 at) const
{
	size_t have = 0;
	while (have < bytes) {
		const ssize_t n = retry([&] {
			return pread(fd_, static_cast<char *>(to) + have, bytes - have, static_cast<off_t>(at + have));
		});
		if (n < 0)
			fail_errno(path_, "cannot be read at byte " + std::to_string(at + have), errno,
				   remedy_for(errno));
		if (!n)
			break;
		have += static_cast<size_t>(n);
	}
	return have;
}

void File::read(void *to, size_t bytes, u64 at) const
{
	const size_t have = read_some(to, bytes, at);
	std::memset(static_cast<char *>(to) + have, 0, bytes - have);
}

void File::write(const void *from, size_t bytes, u64 at) const
{
	for (size_t done = 0; done < bytes;) {
		const ssize_t n = retry([&] {
			return pwrite(fd_, static_cast<const char *>(from) + done, bytes - done,
				      static_cast<off_t>(at + done));
		});
		if (n <= 0)
			fail_errno(path_, "cannot be written at byte " + std::to_string(at + done), n ? errno : EIO,
				   remedy_for(n ? errno : EIO));
		done += static_cast<size_t>(n);
	}
}

void File::zero(u64 at, u64 bytes) const
{
	static const std::vector<char> zeros(zeros_bytes);
	if (!retry([&] {
		    return fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(at),
				     static_cast<off_t>(bytes));
	    }))
		return;
	for (u64 done = 0; done < bytes;) {
		const size_t n = std::min<u64>(bytes - done, zeros_bytes);
		write(zeros.data(), n, at + done);
		done += n;
	}
}

bool File::share(const File &from) const
{
	// With its length: without one the host may stop before the end, and not say so.
	file_clone_range all{};
	all.src_fd = from.fd();
	all.src_length = from.size();
	if (all.src_length && !ioctl(fd_, FICLONERANGE, &all))
		return true;
	truncate(0); // it may have begun
	return false;
}

void File::truncate(u64 bytes) const
{
	if (retry([&] { return ftruncate(fd_, static_cast<off_t>(bytes)); }))
		fail_errno(path_, "cannot be given its length of " + std::to_string(bytes) + " bytes", errno,
			   remedy_for(errno));
}

void File::sync_data() const
{
	if (retry([&] { return fdatasync(fd_); }))
		fail_errno(path_, "cannot be made durable", errno, remedy_for(errno));
}

void File::sync() const
{
	if (retry([&] { return fsync(fd_); }))
		fail_errno(path_, "cannot be made durable", errno, remedy_for(errno));
}

bool Extents::data_at(u64 at, u64 &end)
{
	if (at < from_ || at >= to_)
		look(at);
	end = to_;
	return data_;
}

void Extents::look(u64 at)
{
	from_ = at;
	const off_t data = lseek(file_.fd(), static_cast<off_t>(at), SEEK_DATA);
	// Where the host knows no holes, all is data.
	data_ = data < 0 ? errno != ENXIO : static_cast<u64>(data) == at;
	if (data < 0) {
		to_ = ~0ull;
		return;
	}
	const off_t end = data_ ? lseek(file_.fd(), data, SEEK_HOLE) : data;
	to_ = end < 0 ? ~0ull : static_cast<u64>(end);
}

std::string directory_of(const std::string &path)
{
	const size_t slash = path.rfind('/');
	if (slash == std::string::npos)
		return ".";
	return slash ? path.substr(0, slash) : "/";
}

bool exists(const std::string &path)
{
	struct stat st;
	return !lstat(path.c_str(), &st);
}

namespace
{

bool no_unnamed_files(int number)
{
	return number == EOPNOTSUPP || number == EISDIR || number == EINVAL;
}

// What stands between a file's name and sixteen digits, while it has another one.
constexpr const char *other_name_mark = ".new-";
constexpr size_t other_name_digits = 16;

std::string random_name(const std::string &path)
{
	u64 random = 0;
	char digits[24];
	if (getrandom(&random, sizeof(random), 0) < 0)
		random = static_cast<u64>(getpid());
	std::snprintf(digits, sizeof(digits), "%016llx", random);
	return path + other_name_mark + digits;
}

// Tells others that somebody works on it. One byte, and not one that qemu-img, which
// opens such files too, has a lock on.
bool lock_other(const File &file)
{
	struct flock lock {};
	lock.l_type = F_WRLCK;
	lock.l_len = 1;
	return !fcntl(file.fd(), F_OFD_SETLK, &lock);
}

// Of a run that was killed: by its name, and nobody works on it.
void remove_if_left(const std::string &name)
{
	const File file(::open(name.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY), name);
	struct stat st;
	if (file.fd() < 0 || !S_ISREG(file.stat().st_mode) || !lock_other(file))
		return;
	if (!lstat(name.c_str(), &st) && file.is_same(st) && !unlink(name.c_str()))
		std::fprintf(stderr, "ubd-cow: %s: removed, it was left by a run that was killed\n",
			     shown(name).c_str());
}

void remove_leftovers(const std::string &path)
{
	const std::string begin = path.substr(path.rfind('/') + 1) + other_name_mark;
	const std::string directory = directory_of(path);
	std::vector<std::string> names;
	DIR *dir = opendir(directory.c_str());
	while (const dirent *e = dir ? readdir(dir) : nullptr) {
		const std::string name = e->d_name;
		if (name.size() == begin.size() + other_name_digits && !name.compare(0, begin.size(), begin) &&
		    name.find_first_not_of("0123456789abcdef", begin.size()) == std::string::npos)
			names.push_back(directory + "/" + name);
	}
	if (dir)
		closedir(dir);
	for (const std::string &name : names)
		remove_if_left(name);
}

constexpr int new_file_flags = O_RDWR | O_CLOEXEC;

// For file systems that know no files without a name. Another run may take it for
// a leftover, until it is locked; then there is another name.
File open_by_other_name(const std::string &path, std::string &other_name)
{
	remove_leftovers(path);
	for (;;) {
		other_name = random_name(path);
		File file(::open(other_name.c_str(), new_file_flags | O_CREAT | O_EXCL, 0666), path);
		if (file.fd() < 0)
			fail_errno(path, "cannot be made", errno, remedy_for(errno));
		(void)lock_other(file); // some file systems know no locks: then nobody else gets one
		if (file.stat().st_nlink)
			return file;
	}
}

/*
 * Where a file has one, the mode's bits for its group are a bound for all whom it names,
 * and not what the group may. If it has none, what its directory gives to new files is
 * not meant for it. -1 and errno if that cannot be.
 */
int copy_acl(int from, int to)
{
	constexpr const char *acl = "system.posix_acl_access";
	std::vector<char> value(XATTR_SIZE_MAX);
	const ssize_t n = fgetxattr(from, acl, value.data(), value.size());
	if (n >= 0)
		return fsetxattr(to, acl, value.data(), static_cast<size_t>(n), 0);
	if (errno == ENODATA && !fremovexattr(to, acl))
		return 0;
	return errno == ENODATA || errno == EOPNOTSUPP ? 0 : -1;
}

// `other_name` is empty if the file has none.
File open_new(const std::string &path, std::string &other_name)
{
	const int fd = ::open(directory_of(path).c_str(), new_file_flags | O_TMPFILE, 0666);
	if (fd < 0 && no_unnamed_files(errno))
		return open_by_other_name(path, other_name);
	if (fd < 0)
		fail_errno(path, "cannot be made", errno, remedy_for(errno));
	return File(fd, path);
}

} // namespace

NewFile::NewFile(const std::string &path) : path_(path), directory_(directory_of(path))
{
	if (exists(path))
		fail(path, "is there already", "remove it, or choose another name");
	file_ = open_new(path, other_name_);
}

NewFile::~NewFile()
{
	if (!other_name_.empty())
		unlink(other_name_.c_str());
}

void NewFile::give_name()
{
	const bool unnamed = other_name_.empty();
	const std::string from = unnamed ? "/proc/self/fd/" + std::to_string(file_.fd()) : other_name_;
	// By one step, where the host can.
	if (!unnamed && !renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, path_.c_str(), RENAME_NOREPLACE)) {
		other_name_.clear();
		return;
	}
	if (linkat(AT_FDCWD, from.c_str(), AT_FDCWD, path_.c_str(), AT_SYMLINK_FOLLOW))
		fail_errno(path_, "cannot get its name", errno, remedy_for(errno));
}

void NewFile::keep()
{
	file_.sync();
	give_name();
	File directory(::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC), directory_);
	if (directory.fd() < 0)
		fail_errno(directory_, "cannot be opened", errno, remedy_for(errno));
	directory.sync();
}

Replacement::Replacement(const File &old) : old_(old)
{
	char *real = realpath(old.path().c_str(), nullptr);
	path_ = real ? real : old.path();
	free(real);
	const struct stat st = old.stat();
	if (!S_ISREG(st.st_mode))
		fail(path_, "its data would have to move, but it is no file that another one can replace",
		     "make a COW file that is larger");
	check_name();
	remove_leftovers(path_);
	file_ = open_new(path_, name_);
	const struct stat made = file_.stat();
	if ((made.st_uid != st.st_uid || made.st_gid != st.st_gid) && fchown(file_.fd(), st.st_uid, st.st_gid))
		fail_errno(path_, "its owner cannot be given to a new file", errno,
			   "run this as its owner, or as root");
	if (copy_acl(old.fd(), file_.fd()))
		fail_errno(path_, "its access control list cannot be given to a new file", errno, remedy_for(errno));
	if (fchmod(file_.fd(), st.st_mode & 07777))
		fail_errno(path_, "its mode cannot be given to a new file", errno, remedy_for(errno));
}

Replacement::~Replacement()
{
	if (!name_.empty())
		unlink(name_.c_str());
}

// The name is still the old file's, and its only one.
void Replacement::check_name() const
{
	struct stat named;
	if (old_.stat().st_nlink > 1)
		fail(path_, "its data have to move to a new file, which can replace only one of its names",
		     "remove its hard links");
	if (::stat(path_.c_str(), &named) || !old_.is_same(named))
		fail(path_, "was renamed or removed meanwhile", "run this again");
}

void Replacement::take_place()
{
	struct flock lock {};
	lock.l_type = F_WRLCK;
	const std::string directory_name = directory_of(path_);
	const File directory(::open(directory_name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC), directory_name);
	if (directory.fd() < 0)
		fail_errno(directory_name, "cannot be opened", errno, remedy_for(errno));
	file_.sync();
	(void)fcntl(file_.fd(), F_OFD_SETLK, &lock); // nobody else has it yet
	if (name_.empty()) {
		name_ = random_name(path_);
		const std::string from = "/proc/self/fd/" + std::to_string(file_.fd());
		if (linkat(AT_FDCWD, from.c_str(), AT_FDCWD, name_.c_str(), AT_SYMLINK_FOLLOW))
			fail_errno(path_, "its new file cannot get a name", errno, remedy_for(errno));
	}
	// To copy takes minutes: whatever has the name by now is not to be replaced.
	check_name();
	if (rename(name_.c_str(), path_.c_str()))
		fail_errno(path_, "its new file cannot take its place", errno, remedy_for(errno));
	name_.clear();
	directory.sync();
}

File temporary_file(const std::string &beside)
{
	std::string name;
	File file = open_new(beside, name);
	if (!name.empty())
		unlink(name.c_str());
	return file;
}

} // namespace ubd::tool
