// SPDX-License-Identifier: GPL-2.0-only
/*
 * The shared parts, and what the sources of host/ ask of a kernel.
 */
#include "bench.hh"

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <string>

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

void ubd_k_assert_failed(const char *what, const char *file, int line)
{
	fprintf(stderr, "%s:%d: broken invariant: %s\n", file, line, what);
	abort();
}

bool ubd_k_one_cpu(void)
{
	return ubd::test::one_cpu;
}

namespace ubd::test
{

bool one_cpu = true;

double now_seconds()
{
	timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}

void full_barrier()
{
	static int nothing;
	__atomic_exchange_n(&nothing, 1, __ATOMIC_SEQ_CST);
}

double test_seconds()
{
	static const char *text = getenv("UBD_TEST_SECONDS");
	return text ? atof(text) : 1;
}

namespace
{

size_t entries(const char *directory)
{
	size_t n = 0;
	for ([[maybe_unused]] const auto &e : std::filesystem::directory_iterator(directory))
		n++;
	return n;
}

} // namespace

size_t open_files()
{
	return entries("/proc/self/fd");
}

size_t tasks()
{
	return entries("/proc/self/task");
}

size_t mappings()
{
	std::ifstream maps("/proc/self/maps");
	size_t n = 0;
	for (std::string line; std::getline(maps, line);)
		n++;
	return n;
}

u64 Dice::next()
{
	u64 z = state_ += 0x9e3779b97f4a7c15ull;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

Bench::Bench(u64 bytes)
{
	const char *dir = getenv("TMPDIR");
	const int fd = open(dir ? dir : "/tmp", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, static_cast<off_t>(bytes)))
		abort();
	files.fds[0] = fd;
	files.sync_write_fd = open(("/proc/self/fd/" + std::to_string(fd)).c_str(), O_RDWR | O_CLOEXEC);
	wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (files.sync_write_fd < 0 || wake_fd < 0)
		abort();
}

Bench::~Bench()
{
	close(files.fds[0]);
	close(files.sync_write_fd);
	close(wake_fd);
}

bool Bench::announced(double seconds) const
{
	const double until = now_seconds() + seconds;
	for (;;) {
		pollfd p{ wake_fd, POLLIN, 0 };
		const double left = until - now_seconds();
		if (poll(&p, 1, left > 0 ? static_cast<int>(left * 1000) + 1 : 0) == 1)
			return true;
		if (left <= 0)
			return false;
	}
}

void Bench::acknowledge() const
{
	u64 count;
	(void)!read(wake_fd, &count, sizeof(count));
}

void Part::ask_pieces(HostOp op, u64 offset, size_t bytes, u32 pieces)
{
	chunk.op = op;
	chunk.file = 0;
	chunk.offset = ByteOffset(offset);
	chunk.bytes = ByteCount(bytes * pieces);
	chunk.first = 0;
	chunk.iovs = moves_data(op) ? pieces : 0;
	for (u32 i = 0; i < chunk.iovs; i++)
		chunk.iov[i] = { data_.data(), bytes };
}

void Part::ask(HostOp op, u64 offset, size_t bytes)
{
	ask_pieces(op, offset, bytes, 1);
}

void Part::fill(u64 version)
{
	for (size_t i = 0; i < data_.size(); i++)
		data_[i] = version * 0x9e3779b97f4a7c15ull + i;
}

bool Part::holds(u64 version) const
{
	for (size_t i = 0; i < chunk.bytes.value / sizeof(u64); i++)
		if (data_[i] != version * 0x9e3779b97f4a7c15ull + i)
			return false;
	return true;
}

bool Part::zero() const
{
	for (size_t i = 0; i < chunk.bytes.value / sizeof(u64); i++)
		if (data_[i])
			return false;
	return true;
}

} // namespace ubd::test
