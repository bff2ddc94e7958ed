// SPDX-License-Identifier: GPL-2.0-only
/*
 * A COW file of the host and its backing file: made when it is not there,
 * checked against each other, its bitmap brought into memory, and committed
 * for the last time when the device goes.
 *
 * The bitmap lies in memory of the host's own, reserved for nothing and filled
 * where the file has data: a device of 1 TiB is there at once, and an empty one
 * takes next to nothing.
 *
 * Context: process, may sleep, under kernel/'s device mutex.
 */
#ifndef UBD_HOST_COW_FILE_HH
#define UBD_HOST_COW_FILE_HH

#include "../core/cow.hh"
#include "../core/cow_format.hh"
#include "file.hh"
#include "relay.hh"

namespace ubd
{

// What is asked for on the command line.
struct CowRequest {
	OpenRequest file; // the COW file; `shown` and `path` are its
	const char *backing; // "" if only the COW file names it
	const char *backing_shown;
	bool any_data = false; // the backing file is data, whatever it looks like
	const char *near = nullptr; // relative names in the header may begin beside this one; else beside the file
	bool below = false; // of the backing file, as in OpenRequest
	bool beside = false; // the same
};

// Memory of the host's own for the bitmap of a device, and what goes with it.
struct BitmapMemory {
	char *at = nullptr; // nullptr: none
	size_t bytes = 0;
	CowBitmap::Memory parts;
	u64 *allocated = nullptr;
	u8 *buffer = nullptr;

	// Logs the one message when it fails.
	Error map(const OpenRequest &r, u64 sectors);
	void unmap();
};

// What a COW file becomes that grows; see CowFile::prepare_growth(). And the memory to
// make it: there is to be had none on the way.
struct CowGrown {
	CowHeader header;
	BitmapMemory memory;
	CowBitmap bitmap; // in that memory
	Successor file; // if it has to be another one
	bool moved = false;
	u64 old_bytes = 0; // that the old file has
	bool lost = false; // what was made may not outlive a crash, and nothing does from now on

	char path[UBD_PATH_MAX]; // of the old file, without symbolic links
	char directory[UBD_PATH_MAX]; // in which it is
	char name[UBD_PATH_MAX]{}; // of the new one, until it takes the old one's place
	u8 written[UBD_COW_HEADER_MAX]; // the header as it is in the file

	~CowGrown() { memory.unmap(); }
};

class Breath; // see cow_grow.cc

class CowFile {
public:
	CowFile() = default;
	~CowFile() { close(); }
	CowFile(const CowFile &) = delete;
	CowFile &operator=(const CowFile &) = delete;

	// Makes the file if there is none, and it was said what it is to be over.
	Error create_if_missing(const CowRequest &r);
	// Makes one without a name, in the directory, over the backing file.
	Error create_unnamed(const CowRequest &r, const char *directory, sys::Fd &fd);
	// The same, as a copy of a COW file.
	Error copy_unnamed(const OpenRequest &r, const HostFile &from, const char *directory, sys::Fd &fd);
	// True if `file`, which is open, is a COW file, usable or not; then open()
	// says what is wrong with it.
	Error detect(const OpenRequest &r, const HostFile &file, bool &is_cow);
	// Checks header, backing file and sizes; fills in cow(). Logs the one
	// message when it fails.
	Error open(const CowRequest &r, HostFile &file);
	void close();
	// Makes durable what landed and is not yet committed. Nothing is in flight.
	void commit_last(const OpenRequest &r, const HostFile &file);
	// The same for the relay.
	const LastCommit &last_commit() const { return last_; }

	/*
	 * Growth, in cow_grow.cc. For all three: nothing is in flight and nothing comes;
	 * each logs the one message when it fails.
	 *
	 * Makes durable what landed, and that it did. If the host failed at that, which is
	 * final, `lost` is set.
	 */
	Error commit_now(const OpenRequest &r, const HostFile &file, bool &lost);
	/*
	 * Everything but that it is used: the file is one for the size that the backing
	 * file has, and durable. After an error it is as it was before, unless out.lost
	 * is set. What was written is committed.
	 */
	Error prepare_growth(const OpenRequest &r, const HostFile &file, u64 bytes, CowGrown &out);
	// Uses it from now on. Under the queue lock. Cannot fail; what was used before is
	// left in `out`.
	void adopt(HostFile &file, CowGrown &out);

	Cow &cow() { return cow_; }
	HostFile &backing() { return backing_; }
	const HostFile &backing() const { return backing_; }
	// Bits are written for all that, but nobody waits until they are durable.
	void set_no_flush();
	ByteCount size() const { return ByteCount(header_.bytes); }
	const char *backing_shown() const { return backing_shown_; }
	// Of the host, for the bitmap, in bytes: what is there of it, and addresses.
	u64 memory_now() const;
	u64 memory_reserved() const { return memory_.at ? memory_.bytes : 0; }

private:
	Error make_header(const CowRequest &r);
	Error read_header(const OpenRequest &r, const HostFile &file);
	Error write_header(const OpenRequest &r, const HostFile &file);
	Error find_backing(const CowRequest &r);
	Error open_backing(const CowRequest &r, HostFile &file);
	Error check_plain(const CowRequest &r, const OpenRequest &base);
	Error check_sizes(const CowRequest &r, const HostFile &file);
	Error check_length(const OpenRequest &r, u64 bytes) const;
	Error lengthen(const OpenRequest &r, const HostFile &file);
	Error check_mtime(const CowRequest &r, const struct stat &st);
	Error switch_backing(const CowRequest &r, HostFile &file);
	void use(const BitmapMemory &memory);
	Error write_bits(int fd, const CowHeader &header);
	Error grow_in_place(const OpenRequest &r, const HostFile &file, CowGrown &out);
	Error measure_whole(const OpenRequest &r, const HostFile &file, u64 &bytes) const;
	Error extend(const HostFile &file, CowGrown &out);
	Error grow_moved(const OpenRequest &r, const HostFile &file, CowGrown &out);
	Error fill_successor(const HostFile &file, int to, CowGrown &out);
	Error copy_data(const HostFile &file, int to, const CowGrown &out);
	Error copy_stretch(int from, int to, u64 first, u64 end, u64 shift, Breath &breath);
	Error load_bitmap(const CowRequest &r, const HostFile &file);
	Error load_extent(const HostFile &file, u64 from, u64 end);

	HostFile backing_;
	CowHeader header_;
	char backing_path_[UBD_PATH_MAX]{}; // under which it was found
	char backing_shown_[UBD_SHOWN_MAX]{};
	CowRead kind_ = CowRead::plain;
	const char *why_ = "";
	bool no_flush_ = false;
	Cow cow_;
	LastCommit last_;
	BitmapMemory memory_;
};

} // namespace ubd

#endif
