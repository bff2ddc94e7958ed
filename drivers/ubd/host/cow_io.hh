// SPDX-License-Identifier: GPL-2.0-only
/*
 * Plain host calls that making, opening and growing a COW file share.
 *
 * Context: process, may sleep.
 */
#ifndef UBD_HOST_COW_IO_HH
#define UBD_HOST_COW_IO_HH

#include "sys.hh"

#include <fcntl.h>

namespace ubd
{

inline constexpr const char *more_memory = "give the guest more (mem=)";

// What helps when a file cannot be made or written.
const char *write_remedy(Error e);
// What the file has from its beginning on, at most `most` bytes.
Error read_some(int fd, void *to, size_t most, size_t &have);
// All of it, or an errno. errno_io if the file ends before.
Error read_all(int fd, void *to, size_t bytes, u64 offset);
Error write_all(int fd, const void *from, size_t bytes, u64 offset);
Error sync_data(int fd);
// The same with its times; or of a directory, its names.
Error sync_whole(int fd);
// A name that nobody has: a stray file of a crash must not be in the way.
Error random_name(const char *path, char *to, size_t bytes);

// Memory that is too much for a kernel's stack.
class Scratch {
public:
	explicit Scratch(size_t bytes) : memory_(static_cast<char *>(ubd_k_zalloc(bytes))) {}
	~Scratch() { ubd_k_free(memory_); }
	Scratch(const Scratch &) = delete;
	Scratch &operator=(const Scratch &) = delete;
	char *get() const { return memory_; }

private:
	char *const memory_;
};

// The directory that the file is in, for sys::open(); UBD_PATH_MAX bytes at most.
inline void copy_directory(const char *path, char *to)
{
	size_t n = __builtin_strlen(path);
	while (n && path[n - 1] != '/')
		n--;
	ubd_k_snprintf(to, UBD_PATH_MAX, "%.*s", n ? static_cast<int>(n) : 1, n ? path : ".");
}

// The same in memory of its own. nullptr: there was none.
class Directory : public Scratch {
public:
	explicit Directory(const char *path) : Scratch(UBD_PATH_MAX)
	{
		if (get())
			copy_directory(path, get());
	}
};

inline constexpr int new_file_flags = O_RDWR | O_CLOEXEC | O_LARGEFILE;
inline constexpr int new_file_mode = 0644; // less the umask

inline bool no_unnamed_files(const sys::Fd &fd)
{
	return fd.get() == -errno_opnotsupp || fd.get() == -errno_isdir || fd.get() == -errno_inval;
}

} // namespace ubd

#endif
