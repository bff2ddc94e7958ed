// SPDX-License-Identifier: GPL-2.0-only
#include "check_host.hh"

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <fcntl.h>
#include <unistd.h>

namespace ubd::fuzz
{
namespace
{

int root_fd = -1;
bool watching = false;
bool is_durable = true;
std::string may_be_written;
HostFault *to_fail = nullptr;

// The name within the root. False for what is outside.
bool inside(const std::string &name, std::string &within)
{
	const size_t first = name.find_first_not_of('/');
	if (name.empty())
		return false;
	within = first == std::string::npos ? "." : name.substr(first);
	return ("/" + within + "/").find("/../") == std::string::npos;
}

// True if this call is the one that is to fail.
bool fails(Call call)
{
	if (!watching || !to_fail || to_fail->hit || to_fail->call != call)
		return false;
	if (to_fail->after) {
		to_fail->after--;
		return false;
	}
	to_fail->hit = true;
	errno = to_fail->error;
	return true;
}

// Less than was asked for, and not nothing.
size_t part_of(size_t bytes)
{
	return bytes > 1 ? bytes / 2 : bytes;
}

int lowest_free_fd()
{
	const int fd = dup(STDERR_FILENO);
	REQUIRE(fd >= 0);
	close(fd);
	return fd;
}

} // namespace

void set_root(int fd)
{
	root_fd = fd;
}

int root()
{
	return root_fd;
}

bool look(const std::string &name, struct stat &st)
{
	std::string within;
	errno = ENOENT;
	return inside(name, within) && !fstatat(root_fd, within.c_str(), &st, 0);
}

Watch::Watch(const std::string &writable, HostFault *fault) : next_fd_(lowest_free_fd())
{
	may_be_written = writable;
	to_fail = fault;
	is_durable = true;
	watching = true;
}

Watch::~Watch()
{
	watching = false;
	to_fail = nullptr;
	REQUIRE_EQ(lowest_free_fd(), next_fd_); // nothing was left open, or locked
}

bool Watch::durable() const
{
	return is_durable;
}

} // namespace ubd::fuzz

using namespace ubd::fuzz;

extern "C" {

int __real_open(const char *name, int flags, ...);
int __real_stat(const char *name, struct stat *st);
ssize_t __real_pread(int fd, void *to, size_t bytes, off_t at);
ssize_t __real_pwrite(int fd, const void *from, size_t bytes, off_t at);
int __real_ftruncate(int fd, off_t bytes);
int __real_fsync(int fd);
int __real_fdatasync(int fd);
int __real_unlink(const char *name);
int __real_linkat(int from_dir, const char *from, int to_dir, const char *to, int flags);
int __real_renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned int flags);

int __wrap_open(const char *name, int flags, ...)
{
	va_list args;
	va_start(args, flags);
	const int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, int) : 0;
	va_end(args);
	if (!watching)
		return __real_open(name, flags, mode);
	REQUIRE(!(flags & (O_CREAT | O_TRUNC)) && (flags & O_CLOEXEC));
	REQUIRE((flags & O_ACCMODE) == O_RDONLY || (!may_be_written.empty() && name == may_be_written));
	std::string within;
	errno = ENOENT;
	return inside(name, within) ? openat(root_fd, within.c_str(), flags) : -1;
}

int __wrap_stat(const char *name, struct stat *st)
{
	if (!watching)
		return __real_stat(name, st);
	return look(name, *st) ? 0 : -1;
}

ssize_t __wrap_pread(int fd, void *to, size_t bytes, off_t at)
{
	if (!fails(Call::read))
		return __real_pread(fd, to, bytes, at);
	return to_fail->error ? -1 : __real_pread(fd, to, part_of(bytes), at);
}

ssize_t __wrap_pwrite(int fd, const void *from, size_t bytes, off_t at)
{
	is_durable = is_durable && !watching;
	if (!fails(Call::write))
		return __real_pwrite(fd, from, bytes, at);
	return to_fail->error ? -1 : __real_pwrite(fd, from, part_of(bytes), at);
}

int __wrap_ftruncate(int fd, off_t bytes)
{
	is_durable = is_durable && !watching;
	return fails(Call::truncate) && to_fail->error ? -1 : __real_ftruncate(fd, bytes);
}

static int sync_of(int fd, int (*sync)(int))
{
	if (!watching)
		return sync(fd);
	if (fails(Call::sync) && to_fail->error)
		return -1;
	is_durable = true;
	return 0;
}

int __wrap_fsync(int fd)
{
	return sync_of(fd, __real_fsync);
}

int __wrap_fdatasync(int fd)
{
	return sync_of(fd, __real_fdatasync);
}

int __wrap_unlink(const char *name)
{
	REQUIRE(!watching);
	return __real_unlink(name);
}

int __wrap_linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
	REQUIRE(!watching);
	return __real_linkat(from_dir, from, to_dir, to, flags);
}

int __wrap_renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned int flags)
{
	REQUIRE(!watching);
	return __real_renameat2(from_dir, from, to_dir, to, flags);
}
}
