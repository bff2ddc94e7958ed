// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reading the disks' files. A disk may go at any time: then it is not there.
 */
#include "sample.hh"

#include <algorithm>
#include <cstdlib>
#include <ctime>

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

namespace ubd::top
{
namespace
{

// In the order of the enumeration.
constexpr const char *names[] = {
	"read_requests",
	"read_bytes",
	"write_requests",
	"write_bytes",
	"discard_requests",
	"write_zeroes_requests",
	"flush_requests",
	"errors",
	"inline_completions",
	"interrupt_completions",
	"missed_wakeups",
	"submit_calls",
	"submit_retries",
	"chunks_retried",
	"interrupts",
	"commits",
	"header_reserve_uses",
	"chunk_reserve_uses",
	"queued",
	"in_flight",
	"in_flight_host",
	"in_flight_retry",
	"in_flight_flush",
	"dirty_sectors",
};
static_assert(sizeof(names) / sizeof(names[0]) == figures);

class Fd {
public:
	explicit Fd(int fd) : fd_(fd) {}
	~Fd()
	{
		if (fd_ >= 0)
			close(fd_);
	}
	Fd(const Fd &) = delete;
	Fd &operator=(const Fd &) = delete;
	int get() const { return fd_; }

private:
	const int fd_;
};

std::string sysfs()
{
	const char *path = getenv("SYSFS_PATH");
	return path && *path ? path : "/sys";
}

// The text of a small file, without its newline; false if there is none.
bool read_text(int directory, const char *name, std::string &out)
{
	Fd fd(openat(directory, name, O_RDONLY | O_CLOEXEC));
	char text[256];
	ssize_t n = fd.get() < 0 ? -1 : read(fd.get(), text, sizeof(text));
	if (n < 0)
		return false;
	while (n > 0 && text[n - 1] == '\n')
		n--;
	out.assign(text, static_cast<size_t>(n));
	return true;
}

bool take_sample(const std::string &disk, Sample &out)
{
	Fd directory(open((sysfs() + "/block/" + disk + "/ubd").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	if (directory.get() < 0)
		return false;
	out.at = now();
	for (unsigned f = 0; f < figures; f++) {
		std::string text;
		if (!read_text(directory.get(), names[f], text))
			return false;
		out.figure[f] = strtoull(text.c_str(), nullptr, 10);
	}
	return true;
}

} // namespace

double now()
{
	timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

bool take_samples(const std::vector<std::string> &wanted, Samples &out)
{
	out.disks.clear();
	out.at = now();
	DIR *blocks = opendir((sysfs() + "/block").c_str());
	if (!blocks)
		return false;
	while (const dirent *entry = readdir(blocks)) {
		const std::string disk = entry->d_name;
		Sample sample;
		if (disk[0] == '.' ||
		    (!wanted.empty() && std::find(wanted.begin(), wanted.end(), disk) == wanted.end()))
			continue;
		if (take_sample(disk, sample))
			out.disks[disk] = sample;
	}
	closedir(blocks);
	return true;
}

std::string module_version()
{
	std::string version;
	read_text(AT_FDCWD, (sysfs() + "/module/ubd/version").c_str(), version);
	return version;
}

} // namespace ubd::top
