// SPDX-License-Identifier: GPL-2.0-only
#include "check_files.hh"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <sys/stat.h>
#include <unistd.h>

#include "check_host.hh"

namespace ubd::fuzz
{
namespace
{

constexpr Content::Page zeros{};

constexpr const char *names[] = {
	".", "cow", "base", "dir", "dir/near", "link", "old", "fifo", "null", "loop", "secret"
};

// A version 3 header, for a device as large as the file `near`.
Content other_cow()
{
	static constexpr u8 header[] = { 'O', 'O', 'O', 'M', 0, 0, 0, 3, 0,    0, 0x30, 0x39, 0, 0, 0,   0,   0,  0x80,
					 0,   0,   0,   0,   2, 0, 0, 0, 0x10, 0, 0,    0,    0, 0, 'c', 'o', 'w' };
	Content c;
	c.write(header, sizeof(header), 0);
	c.truncate(12288 + Files::near_bytes);
	return c;
}

} // namespace

u8 Content::get(u64 at) const
{
	const auto page = pages_.find(at / page_bytes);
	return page == pages_.end() ? 0 : page->second[at % page_bytes];
}

void Content::read(u8 *to, u64 bytes, u64 at) const
{
	std::fill_n(to, bytes, 0);
	for (auto page = pages_.lower_bound(at / page_bytes); page != pages_.end(); ++page) {
		const u64 first = page->first * page_bytes;
		if (first >= at + bytes)
			return;
		const u64 begin = std::max(at, first), end = std::min(at + bytes, first + page_bytes);
		std::copy_n(page->second.begin() + static_cast<ptrdiff_t>(begin - first), end - begin,
			    to + (begin - at));
	}
}

void Content::write(const u8 *from, u64 bytes, u64 at)
{
	for (u64 done = 0, n; done < bytes; done += n) {
		const u64 number = (at + done) / page_bytes, begin = (at + done) % page_bytes;
		n = std::min(bytes - done, page_bytes - begin);
		Page &page = pages_[number];
		std::copy_n(from + done, n, page.begin() + static_cast<ptrdiff_t>(begin));
		if (page == zeros)
			pages_.erase(number);
	}
	size_ = std::max(size_, at + bytes);
}

void Content::truncate(u64 bytes)
{
	size_ = bytes;
	pages_.erase(pages_.lower_bound((bytes + page_bytes - 1) / page_bytes), pages_.end());
	const auto last = pages_.find(bytes / page_bytes);
	if (last == pages_.end())
		return;
	std::fill(last->second.begin() + static_cast<ptrdiff_t>(bytes % page_bytes), last->second.end(), 0);
	if (last->second == zeros)
		pages_.erase(last);
}

bool Content::put(int fd) const
{
	if (ftruncate(fd, 0) || ftruncate(fd, static_cast<off_t>(size_)))
		return false;
	for (const auto &[number, page] : pages_) {
		const u64 at = number * page_bytes, n = std::min(page_bytes, size_ - at);
		REQUIRE(pwrite(fd, page.data(), n, static_cast<off_t>(at)) == static_cast<ssize_t>(n));
	}
	return true;
}

Content Content::of(int fd)
{
	Content c;
	struct stat st;
	REQUIRE(!fstat(fd, &st));
	Page page;
	for (off_t at = 0; (at = lseek(fd, at, SEEK_DATA)) >= 0;) {
		const off_t end = lseek(fd, at, SEEK_HOLE);
		for (at -= at % static_cast<off_t>(page_bytes); at < end; at += page_bytes) {
			const ssize_t n = pread(fd, page.data(), page.size(), at);
			REQUIRE(n > 0);
			c.write(page.data(), static_cast<u64>(n), static_cast<u64>(at));
		}
	}
	c.size_ = static_cast<u64>(st.st_size);
	return c;
}

Files::Files()
{
	const char *place = std::getenv("UBD_FUZZ_DIR");
	path_ = std::string(place ? place : access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm") + "/ubd-fuzz.XXXXXX";
	REQUIRE(mkdtemp(path_.data()));
	directory_ = open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	REQUIRE(directory_ >= 0);
	set_root(directory_);
	Content near;
	near.truncate(near_bytes);
	REQUIRE(!mkdirat(directory_, "dir", 0755));
	make("cow", Content(), 0644);
	make("base", Content(), 0644);
	make("dir/near", near, 0644);
	make("old", other_cow(), 0644);
	make("secret", near, 0);
	REQUIRE(!linkat(directory_, "cow", directory_, "dir/cow", 0));
	REQUIRE(!symlinkat("cow", directory_, "link") && !symlinkat("loop", directory_, "loop"));
	REQUIRE(!symlinkat("/dev/null", directory_, "null") && !mkfifoat(directory_, "fifo", 0644));
	for (const char *name : names)
		set_time(name, old_time);
	set_time(".", old_time);
	cow_ = openat(directory_, "cow", O_RDWR | O_CLOEXEC);
	base_ = openat(directory_, "base", O_RDWR | O_CLOEXEC);
	REQUIRE(cow_ >= 0 && base_ >= 0);
}

Files::~Files()
{
	std::error_code ignored;
	std::filesystem::remove_all(path_, ignored);
}

void Files::make(const char *name, const Content &c, unsigned int mode)
{
	const int fd = openat(directory_, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	REQUIRE(fd >= 0 && c.put(fd));
	close(fd);
}

void Files::set_time(const char *name, u64 seconds) const
{
	const struct timespec time {
		static_cast<time_t>(seconds), 0
	};
	const struct timespec times[] = { time, time };
	REQUIRE(!utimensat(directory_, name, times, AT_SYMLINK_NOFOLLOW));
}

bool Files::set_cow(const Content &c) const
{
	if (!c.put(cow_))
		return false;
	set_time("cow", old_time);
	return true;
}

bool Files::set_base(const Content &c, u64 mtime) const
{
	if (!c.put(base_))
		return false;
	set_time("base", mtime);
	return true;
}

std::vector<std::string> Files::state(bool with_cow) const
{
	std::vector<std::string> all;
	for (const char *name : names) {
		struct stat st;
		REQUIRE(!fstatat(directory_, name, &st, AT_SYMLINK_NOFOLLOW));
		if (!with_cow && !std::strcmp(name, "cow"))
			st.st_size = st.st_mtim.tv_sec = st.st_mtim.tv_nsec = 0;
		all.push_back(std::string(name) + ": " + std::to_string(st.st_ino) + " " + std::to_string(st.st_mode) +
			      " " + std::to_string(st.st_nlink) + " " + std::to_string(st.st_size) + " " +
			      std::to_string(st.st_mtim.tv_sec) + "." + std::to_string(st.st_mtim.tv_nsec));
	}
	return all;
}

} // namespace ubd::fuzz
