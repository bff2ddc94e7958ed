// SPDX-License-Identifier: GPL-2.0-only
/*
 * Files on the host, for the device suite, by the host's own system calls: the
 * guest must not have them in a cache. Process context.
 */
#include <fcntl.h>

#include "../../drivers/ubd/host/sys.hh"
#include "../suites/suites.h"
#include "disk.h"

using namespace ubd;

int host_create(const char *path, ubd_u64 bytes)
{
	sys::Fd fd(sys::open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
	if (!fd.valid())
		return fd.get();
	return static_cast<int>(sys::call(SYS_ftruncate, fd.get(), static_cast<long>(bytes)));
}

int host_truncate(const char *path, ubd_u64 bytes)
{
	return static_cast<int>(sys::call(SYS_truncate, sys::arg(path), static_cast<long>(bytes)));
}

int host_unlink(const char *path)
{
	return static_cast<int>(sys::call(SYS_unlink, sys::arg(path)));
}

long host_read(const char *path, ubd_u64 offset, void *to, size_t bytes)
{
	sys::Fd fd(sys::open(path, O_RDONLY | O_CLOEXEC));
	if (!fd.valid())
		return fd.get();
	return sys::call(SYS_pread64, fd.get(), sys::arg(to), static_cast<long>(bytes), static_cast<long>(offset));
}

long host_blocks(const char *path)
{
	struct stat st;
	long n = sys::call(SYS_stat, sys::arg(path), sys::arg(&st));
	return n < 0 ? n : st.st_blocks;
}

int host_descriptors()
{
	sys::Fd dir(sys::open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	if (!dir.valid())
		return dir.get();
	alignas(8) char buffer[1024];
	int count = 0;
	for (;;) {
		long n = sys::call(SYS_getdents64, dir.get(), sys::arg(buffer), sizeof(buffer));
		if (n <= 0)
			return count;
		// struct linux_dirent64: the record's length is at byte 16.
		for (long at = 0; at < n; at += *reinterpret_cast<unsigned short *>(buffer + at + 16))
			count++;
	}
}

int host_pid()
{
	return static_cast<int>(sys::call(SYS_getpid));
}

extern "C" void __cxa_pure_virtual()
{
	ubd_test_stop("pure virtual call");
}
