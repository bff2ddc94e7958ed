// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the tests of the engines share: a file to work on, chunks for it, and an
 * eventfd that announcements come by.
 */
#ifndef UBD_TESTS_UNIT_HOST_BENCH_HH
#define UBD_TESTS_UNIT_HOST_BENCH_HH

#include <cstddef>
#include <vector>

#include "../../../drivers/ubd/host/workers.hh"

namespace ubd::test
{

// What ubd_k_one_cpu() says.
extern bool one_cpu;
// For as long as a loop of one test may take; UBD_TEST_SECONDS or 1.
double test_seconds();
double now_seconds();
// As a fence of the strongest kind; ThreadSanitizer knows no fences.
void full_barrier();
// Of this process.
size_t open_files();
size_t tasks();
size_t mappings();

class Dice {
public:
	explicit Dice(u64 seed) : state_(seed * 0x9e3779b97f4a7c15ull + 1) {}
	u64 next();
	u32 below(u32 n) { return static_cast<u32>((next() >> 33) % n); }
	bool percent(u32 p) { return below(100) < p; }

private:
	u64 state_;
};

// A file without a name, open twice, and an eventfd.
class Bench {
public:
	explicit Bench(u64 bytes);
	~Bench();
	Bench(const Bench &) = delete;
	Bench &operator=(const Bench &) = delete;

	EngineFiles files;
	int wake_fd;
	// Readable within so many seconds.
	bool announced(double seconds) const;
	// Reads it, as an interrupt handler does.
	void acknowledge() const;
};

// A chunk with a buffer of its own.
class Part {
public:
	explicit Part(size_t bytes) : data_(bytes) {}
	Part(const Part &) = delete;
	Part &operator=(const Part &) = delete;

	Chunk chunk;
	u64 ticket = 0;
	bool out = false; // it is with the engine
	void ask(HostOp op, u64 offset, size_t bytes);
	// In so many pieces of the same size, each the whole buffer.
	void ask_pieces(HostOp op, u64 offset, size_t bytes, u32 pieces);
	// Content that says where it belongs and which of `version` it is.
	void fill(u64 version);
	bool holds(u64 version) const;
	bool zero() const;

private:
	std::vector<u64> data_;
};

} // namespace ubd::test

#endif
