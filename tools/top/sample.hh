// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the disks say of themselves at a moment: the files of
 * /sys/block/<disk>/ubd, see ubd(4).
 */
#ifndef UBD_TOOLS_TOP_SAMPLE_HH
#define UBD_TOOLS_TOP_SAMPLE_HH

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace ubd::top
{

using u64 = uint64_t;

enum Figure : unsigned {
	read_requests,
	read_bytes,
	write_requests,
	write_bytes,
	discard_requests,
	write_zeroes_requests,
	flush_requests,
	errors,
	inline_completions,
	polled_completions,
	interrupt_completions,
	missed_wakeups,
	submit_calls,
	submit_retries,
	chunks_retried,
	interrupts,
	commits,
	header_reserve_uses,
	chunk_reserve_uses,
	queued,
	in_flight,
	in_flight_host,
	in_flight_retry,
	in_flight_flush,
	in_flight_space,
	dirty_sectors,
	figures,
};

// One disk at one moment.
struct Sample {
	double at = 0; // seconds of the monotonic clock
	u64 figure[figures]{};

	u64 operator[](Figure f) const { return figure[f]; }
};

// "ubdb" before "ubdaa".
struct DiskOrder {
	bool operator()(const std::string &a, const std::string &b) const
	{
		return a.size() != b.size() ? a.size() < b.size() : a < b;
	}
};

struct Samples {
	double at = 0; // when it was begun
	std::map<std::string, Sample, DiskOrder> disks;
};

// Seconds of the monotonic clock.
double now();

// Reads them. System calls are dear in a UML guest: so the files stay open.
class Sampler {
public:
	// Of these disks, or of all that are there if it is empty.
	explicit Sampler(std::vector<std::string> wanted);
	Sampler(const Sampler &) = delete;
	Sampler &operator=(const Sampler &) = delete;
	~Sampler();

	// False, and errno, if sysfs cannot be read.
	bool take(Samples &out);

private:
	struct Files {
		int fd[figures];
	};

	bool open_disk(const std::string &disk, Files &files);
	static void close_files(Files &files);
	static bool read_disk(const Files &files, Sample &out);
	bool take_disk(const std::string &disk, Sample &out);

	const std::vector<std::string> wanted_;
	std::map<std::string, Files> open_;
};

// The module's, "" if it is not there.
std::string module_version();

} // namespace ubd::top

#endif
