// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reading the disks' files. A disk may go at any time: then it is not there.
 */
#include "sample.hh"

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <utility>

#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
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
	"polled_completions",
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
	"in_flight_space",
	"dirty_sectors",
};
static_assert(sizeof(names) / sizeof(names[0]) == figures);

std::string sysfs()
{
	const char *path = getenv("SYSFS_PATH");
	return path && *path ? path : "/sys";
}

// A small file's text, without its newline; false if it cannot be read.
bool read_text(int fd, std::string &out)
{
	char text[256];
	ssize_t n = pread(fd, text, sizeof(text), 0);
	if (n < 0)
		return false;
	while (n > 0 && text[n - 1] == '\n')
		n--;
	out.assign(text, static_cast<size_t>(n));
	return true;
}

} // namespace

double now()
{
	timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

Sampler::Sampler(std::vector<std::string> wanted) : wanted_(std::move(wanted))
{
	rlimit files;
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
}

Sampler::~Sampler()
{
	for (auto &[disk, files] : open_)
		close_files(files);
}

bool Sampler::open_disk(const std::string &disk, Files &files)
{
	const int directory = open((sysfs() + "/block/" + disk + "/ubd").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (directory < 0)
		return false;
	bool all = true;
	for (unsigned f = 0; f < figures; f++) {
		files.fd[f] = openat(directory, names[f], O_RDONLY | O_CLOEXEC);
		all = all && files.fd[f] >= 0;
	}
	close(directory);
	if (!all)
		close_files(files);
	return all;
}

void Sampler::close_files(Files &files)
{
	for (int fd : files.fd)
		if (fd >= 0)
			close(fd);
}

bool Sampler::read_disk(const Files &files, Sample &out)
{
	out.at = now();
	for (unsigned f = 0; f < figures; f++) {
		std::string text;
		if (!read_text(files.fd[f], text))
			return false;
		out.figure[f] = strtoull(text.c_str(), nullptr, 10);
	}
	return true;
}

// What is open is of no use when the disk has gone, and another one may have come.
bool Sampler::take_disk(const std::string &disk, Sample &out)
{
	auto found = open_.find(disk);
	if (found != open_.end()) {
		if (read_disk(found->second, out))
			return true;
		close_files(found->second);
		open_.erase(found);
	}
	Files files;
	if (!open_disk(disk, files))
		return false;
	if (!read_disk(files, out)) {
		close_files(files);
		return false;
	}
	open_[disk] = files;
	return true;
}

bool Sampler::take(Samples &out)
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
		    (!wanted_.empty() && std::find(wanted_.begin(), wanted_.end(), disk) == wanted_.end()))
			continue;
		if (take_disk(disk, sample))
			out.disks[disk] = sample;
	}
	closedir(blocks);
	return true;
}

std::string module_version()
{
	std::string version;
	// Its name where ubd is the kernel's own driver.
	int fd = open((sysfs() + "/module/aubd/version").c_str(), O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		fd = open((sysfs() + "/module/ubd/version").c_str(), O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		read_text(fd, version);
		close(fd);
	}
	return version;
}

} // namespace ubd::top
