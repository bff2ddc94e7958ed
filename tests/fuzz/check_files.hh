// SPDX-License-Identifier: GPL-2.0-only
/*
 * The files among which ubd-cow is let loose, and what is in them. All are made
 * once; an input changes the COW file and its backing file.
 *
 *	cow, dir/cow, link	the COW file: two names of it, and a symbolic link
 *	base			its backing file
 *	dir/near		one that is only there beside the COW file
 *	old			another COW file, over the first
 *	fifo, dir, null, loop, secret	what can be no backing file
 */
#ifndef UBD_FUZZ_CHECK_FILES_HH
#define UBD_FUZZ_CHECK_FILES_HH

#include <array>
#include <map>
#include <string>
#include <vector>

#include "fuzz.hh"

namespace ubd::fuzz
{

// What a sparse file has, whatever its length: pages that are not all zeros.
class Content {
public:
	static constexpr u64 page_bytes = 4096;
	using Page = std::array<u8, page_bytes>;

	u64 size() const { return size_; }
	const std::map<u64, Page> &pages() const { return pages_; } // by their number
	u8 get(u64 at) const;
	void read(u8 *to, u64 bytes, u64 at) const;
	// Makes it longer if need be.
	void write(const u8 *from, u64 bytes, u64 at);
	void truncate(u64 bytes);
	bool operator==(const Content &o) const = default;

	// To and from a file that is there. False if its file system has no room for
	// that length.
	bool put(int fd) const;
	static Content of(int fd);

private:
	u64 size_ = 0;
	std::map<u64, Page> pages_;
};

class Files {
public:
	static constexpr u64 near_bytes = 8 << 20;
	static constexpr long old_time = 12345; // what has another was changed

	// In $UBD_FUZZ_DIR, or where files are in memory.
	Files();
	~Files();
	Files(const Files &) = delete;
	Files &operator=(const Files &) = delete;

	bool set_cow(const Content &c) const;
	bool set_base(const Content &c, u64 mtime) const;
	Content cow() const { return Content::of(cow_); }
	// All that can be seen of each file from outside: kind, time, size. Of the COW
	// file only the time, and that only if asked for.
	std::vector<std::string> state(bool with_cow) const;

private:
	void make(const char *name, const Content &c, unsigned int mode);
	void set_time(const char *name, u64 seconds) const;

	std::string path_;
	int directory_ = -1, cow_ = -1, base_ = -1;
};

} // namespace ubd::fuzz

#endif
