// SPDX-License-Identifier: GPL-2.0-only
/*
 * A host file as the tool uses it: regular or block device, locked as the
 * driver locks it, sparse wherever the host can. Every failure ends the command
 * by an exception that says file, what, and what to do.
 */
#ifndef UBD_TOOLS_COW_FILE_HH
#define UBD_TOOLS_COW_FILE_HH

#include "report.hh"

#include <sys/stat.h>
#include <utility>
#include <vector>

namespace ubd::tool
{

enum class Access { read, write };

class File {
public:
	File() = default;
	File(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
	~File();
	File(File &&o) noexcept : fd_(std::exchange(o.fd_, -1)), path_(std::move(o.path_)) {}
	File &operator=(File &&o) noexcept;

	// Never waits for a FIFO, never takes a terminal.
	static File open(const std::string &path, Access access);

	int fd() const { return fd_; }
	const std::string &path() const { return path_; }
	struct stat stat() const;
	// Of a block device too.
	u64 size() const;
	bool is_same(const struct stat &st) const;

	// A lock of the open file description, which meets the driver's and that of
	// the kernel's own driver: shared by readers, alone for a writer. Fails with
	// status_in_use, naming the holder if it is found.
	void lock(Access access) const;
	void unlock() const;

	// What the file has there, at most `bytes`.
	size_t read_some(void *to, size_t bytes, u64 at) const;
	// What lies beyond the file's end reads as zeros.
	void read(void *to, size_t bytes, u64 at) const;
	void write(const void *from, size_t bytes, u64 at) const;
	// A hole where the host can.
	void zero(u64 at, u64 bytes) const;
	// Makes a new, empty file one that shares all blocks of `from`, and has its
	// size. False, and it is empty, where the host's file system cannot.
	bool share(const File &from) const;
	void truncate(u64 bytes) const;
	void sync_data() const;
	void sync() const;

private:
	void check_name() const;

	int fd_ = -1;
	std::string path_;
};

// Where a file has data, remembering the last answer. The file must not change
// meanwhile.
class Extents {
public:
	explicit Extents(const File &file) : file_(file) {}
	// False for a hole; `end` is where that ends. Beyond the file's end is a hole.
	bool data_at(u64 at, u64 &end);

private:
	void look(u64 at);

	const File &file_;
	u64 from_ = 0;
	u64 to_ = 0;
	bool data_ = false;
};

// A file that gets its name when it is whole and durable: whatever happens,
// nothing has that name that is not done.
class NewFile {
public:
	explicit NewFile(const std::string &path);
	~NewFile();
	NewFile(const NewFile &) = delete;
	NewFile &operator=(const NewFile &) = delete;

	File &file() { return file_; }
	void keep();

private:
	void give_name();

	const std::string path_;
	const std::string directory_;
	std::string other_name_; // where the file system knows no files without one
	File file_;
};

// A file that takes another one's place, with its name, owner and mode, when it is
// whole and durable. The other one is locked and stays so.
class Replacement {
public:
	// `old` outlives this.
	explicit Replacement(const File &old);
	~Replacement();
	Replacement(const Replacement &) = delete;
	Replacement &operator=(const Replacement &) = delete;

	File &file() { return file_; }
	void take_place();

private:
	void check_name() const;

	const File &old_;
	std::string path_; // without symbolic links
	std::string name_; // until it takes that
	File file_;
};

// Without a name, in the directory of `beside`.
File temporary_file(const std::string &beside);

// "dir" of "dir/name", "." of "name".
std::string directory_of(const std::string &path);
bool exists(const std::string &path);

} // namespace ubd::tool

#endif
