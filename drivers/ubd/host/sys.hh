// SPDX-License-Identifier: GPL-2.0-only
/*
 * System calls of the host, made directly: a UML kernel is a host process, and
 * a module cannot reach the C library's wrappers. Each returns what the kernel
 * returned: a value, or a negative errno. Any context; some block, as their
 * manual pages say. None touches the C library's errno or locks, so the relay
 * (host/relay.hh), which is no thread of the C library's, may use them too.
 */
#ifndef UBD_HOST_SYS_HH
#define UBD_HOST_SYS_HH

#include <sys/stat.h>
#include <sys/syscall.h>

#include "../core/base.hh"

namespace ubd::sys
{

// Of what one of these returned.
inline Error to_error(long result)
{
	return Error{ result < 0 ? static_cast<int>(-result) : 0 };
}

inline long call(long nr, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0)
{
	long result;
	register long r10 asm("r10") = d;
	register long r8 asm("r8") = e;
	register long r9 asm("r9") = f;
	asm volatile("syscall"
		     : "=a"(result)
		     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
		     : "rcx", "r11", "memory");
	return result;
}

template <class T> inline long arg(T *p)
{
	return reinterpret_cast<long>(p);
}

inline int open(const char *path, int flags, int mode = 0)
{
	return static_cast<int>(call(SYS_openat, -100 /* AT_FDCWD */, arg(path), flags, mode));
}

inline int close(int fd)
{
	return static_cast<int>(call(SYS_close, fd));
}

inline long read(int fd, void *to, size_t bytes)
{
	return call(SYS_read, fd, arg(to), static_cast<long>(bytes));
}

inline long write(int fd, const void *from, size_t bytes)
{
	return call(SYS_write, fd, arg(from), static_cast<long>(bytes));
}

// Owns a descriptor.
class Fd {
public:
	Fd() = default;
	explicit Fd(int fd) : fd_(fd) {}
	~Fd() { reset(); }
	Fd(const Fd &) = delete;
	Fd &operator=(const Fd &) = delete;

	int get() const { return fd_; }
	bool valid() const { return fd_ >= 0; }
	void reset(int fd = -1)
	{
		if (fd_ >= 0)
			close(fd_);
		fd_ = fd;
	}
	int release()
	{
		int fd = fd_;
		fd_ = -1;
		return fd;
	}

private:
	int fd_ = -1;
};

} // namespace ubd::sys

#endif
