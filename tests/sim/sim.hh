// SPDX-License-Identifier: GPL-2.0-only
/*
 * What all parts of the simulator share: the seed's random numbers, the trace,
 * and the way out when a rule is broken. One thread, one world at a time; what
 * a world does follows from its seed alone.
 */
#ifndef UBD_SIM_SIM_HH
#define UBD_SIM_SIM_HH

#include "../../drivers/ubd/core/fault.hh"
#include "../../drivers/ubd/core/queue.hh"

namespace ubd::sim
{

// Time in the simulated world, in microseconds.
using Time = u64;
inline constexpr Time never = ~0ull;
inline constexpr Time ms = 1000;
inline constexpr Time second = 1000 * ms;

inline constexpr u64 sector_bytes = UBD_SECTOR_SIZE;

class Random {
public:
	explicit Random(u64 seed) : state_(seed * 0xd1342543de82ef95ull + 0x2545f4914f6cdd1dull) {}

	// splitmix64
	u64 next()
	{
		u64 z = state_ += 0x9e3779b97f4a7c15ull;
		z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
		z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
		return z ^ (z >> 31);
	}

	// 0 to n - 1
	u64 below(u64 n) { return static_cast<u64>((static_cast<unsigned __int128>(next()) * n) >> 64); }
	// least to most, both included
	u64 range(u64 least, u64 most) { return least + below(most - least + 1); }
	bool percent(u64 p) { return p && below(100) < p; }
	bool permille(u64 p) { return p && below(1000) < p; }
	// Small numbers as often as large ones: 1 to most.
	u64 spread(u64 most) { return range(1, range(1, range(1, most))); }

private:
	u64 state_;
};

// A rule is broken: names it, and ends this world.
[[noreturn]] [[gnu::format(printf, 1, 2)]] void fail(const char *format, ...);

extern bool tracing;
// UBD_ASSERT in core is not obeyed: the simulator's own rules have to notice.
extern bool asserts_ignored;
[[gnu::format(printf, 1, 2)]] void trace(const char *format, ...);

#define TRACE(...)                                            \
	do {                                                  \
		if (__builtin_expect(::ubd::sim::tracing, 0)) \
			::ubd::sim::trace(__VA_ARGS__);       \
	} while (0)

} // namespace ubd::sim

#endif
