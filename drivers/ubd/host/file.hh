// SPDX-License-Identifier: GPL-2.0-only
/*
 * A file or block device of the host that holds a device's data: opened,
 * checked, measured and locked. Process context; open() may sleep for some
 * seconds, waiting for a lock that a dying guest still holds.
 */
#ifndef UBD_HOST_FILE_HH
#define UBD_HOST_FILE_HH

#include "names.hh"

namespace ubd
{

// What a file is for.
enum class FileRole : u8 {
	device, // holds the device's data
	container, // the same, with more: its size is not the device's
	backing, // of a COW file: others read it as well, and nobody writes
};

struct OpenRequest {
	const char *disk; // for messages
	const char *shown; // the path for messages
	const char *path;
	bool read_only;
	bool lock;
	bool beside; // the kernel's own driver is in this process as well
	bool below; // the directory of hot plug, and nowhere else
	FileRole role = FileRole::device;
};

// The one message why a file is not taken; returns the error. `what` may end with
// the words of an errno.
Error refuse(const OpenRequest &r, int number, const char *what, const char *remedy);
Error refuse_errno(const OpenRequest &r, const char *what, Error e, const char *remedy);

// Another file that is to take the place of one that is open: see HostFile::replace().
struct Successor {
	sys::Fd fd; // locked
	sys::Fd sync_fd;
	sys::Fd direct_fd;
};

class HostFile {
public:
	HostFile() = default;
	~HostFile() { close(); }
	HostFile(const HostFile &) = delete;
	HostFile &operator=(const HostFile &) = delete;

	// Logs the one message when it fails.
	Error open(const OpenRequest &request);
	// For one that was opened as a container, and is none.
	Error check_size(const OpenRequest &request) const;
	/*
	 * Opens it once more, for its data, with O_DIRECT. Where the host cannot do
	 * that, no error is returned: `why` says it, and the file is as it was before.
	 */
	Error open_direct(const OpenRequest &request, const char *&why);
	void close_direct();
	// That it is, is decided: the writes of sync_fd() go by O_DIRECT, too.
	Error make_sync_direct(const OpenRequest &request);
	/*
	 * Openings for another queue, numbered from 1: one in place of data_fd(), one
	 * in place of sync_fd(), which are what `data` and `sync` hold before. They
	 * stay open as long as the file. One that is only read needs none.
	 */
	Error open_for_queue(const OpenRequest &request, u32 number, int &data, int &sync);
	void close();
	// The size that it has now. Logs the one message when it fails.
	Error measure_again(const OpenRequest &request, u64 &bytes) const;
	void set_size(ByteCount size) { size_ = size; }
	// Opens what replace() needs of another file, whose descriptor is there, and
	// locks it. Logs the one message when it fails.
	Error prepare(const OpenRequest &request, Successor &other) const;
	/*
	 * That file takes the place of this one, under the same descriptors: so whoever
	 * knows these uses it from now on. Cannot fail. Nothing may be in flight.
	 */
	void replace(Successor &other, ByteCount size);

	int fd() const { return fd_.get(); }
	// For data: with O_DIRECT if open_direct() did it.
	int data_fd() const { return direct_fd_.valid() ? direct_fd_.get() : fd_.get(); }
	// What O_DIRECT asks for: of offsets and lengths, and of memory. Bytes, powers
	// of two, at most a page.
	u32 direct_block() const { return direct_block_; }
	u32 direct_memory() const { return direct_memory_; }
	/*
	 * A second opening of the same file, for writes with RWF_DSYNC. Linux
	 * tells each opening of a failed write-back once: by one of their own,
	 * such a write cannot take the news from an fdatasync, nor it from them.
	 */
	int sync_fd() const { return sync_fd_.get(); }
	ByteCount size() const { return size_; }
	bool read_only() const { return read_only_; }
	u32 logical_block() const { return logical_block_; } // bytes
	u32 physical_block() const { return physical_block_; } // bytes
	// A single write-zeroes may have this length at most: where the host has
	// no call for it, zeros are written.
	u64 max_zeroes() const { return max_zeroes_; } // bytes
	/*
	 * Where write(2) may say ENOSPC of what another write has left in the page
	 * cache, and is lost, and nobody is told again: see nfs_file_write() in Linux.
	 */
	bool loses_for_space() const { return nfs_; }
	bool is_block_device() const { return block_device_; }
	bool is(const struct stat &st) const { return fd_.valid() && st.st_dev == dev_ && st.st_ino == ino_; }

private:
	Error check_type(const OpenRequest &r, const struct stat &st);
	Error open_fd(const OpenRequest &r, const char *path);
	Error open_again(const OpenRequest &r, int flags, sys::Fd &fd) const { return reopen(r, fd_.get(), flags, fd); }
	Error reopen(const OpenRequest &r, int which, int flags, sys::Fd &fd) const;
	void measure_direct();
	Error measure(const OpenRequest &r, const struct stat &st);
	Error take_lock(const OpenRequest &r);
	Error check_name(const OpenRequest &r) const;
	void refuse_lock(const OpenRequest &r, short type) const;
	u32 own_openings(const struct stat &st) const;

	// All that are open, for own_openings().
	static HostFile *first_open;
	HostFile *next_open_ = nullptr;
	sys::Fd fd_;
	sys::Fd sync_fd_;
	sys::Fd direct_fd_;
	struct {
		sys::Fd data;
		sys::Fd sync;
	} more_[UBD_MAX_QUEUES - 1];
	ByteCount size_;
	u64 dev_ = 0;
	u64 ino_ = 0;
	u64 max_zeroes_ = 0;
	u32 logical_block_ = UBD_SECTOR_SIZE;
	u32 physical_block_ = UBD_SECTOR_SIZE;
	u32 direct_block_ = 0;
	u32 direct_memory_ = 0;
	bool read_only_ = false;
	bool locked_ = false;
	bool block_device_ = false;
	bool nfs_ = false;
};

// A variable of the host's environment, such as "TMPDIR="; false if it is not
// there, empty, or longer than `bytes`. Process context.
bool host_variable(const char *name, char *to, size_t bytes);

} // namespace ubd

#endif
