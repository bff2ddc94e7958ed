// SPDX-License-Identifier: GPL-2.0-only
/*
 * How many queues there are, and the sum of what they count.
 *
 * Context: any.
 */
#include "device_state.hh"

namespace ubd
{

u32 queue_count(u32 asked, u32 cpus, bool is_cow)
{
	if (is_cow)
		return 1;
	return max(1u, min<u32>(min(asked ? asked : cpus, cpus), UBD_MAX_QUEUES));
}

// All are counters that add up, but what was the most at a time: of two queues that
// need not have been at the same time.
void add_stats(ubd_stats &sum, const ubd_stats &one)
{
	const u64 in_flight = max(sum.max_in_flight, one.max_in_flight);
	const u64 begun = max(sum.max_begun, one.max_begun);
	static_assert(sizeof(ubd_stats) % sizeof(ubd_u64) == 0 && alignof(ubd_stats) == alignof(ubd_u64));
	auto *to = reinterpret_cast<ubd_u64 *>(&sum);
	auto *from = reinterpret_cast<const ubd_u64 *>(&one);
	for (size_t i = 0; i < sizeof(ubd_stats) / sizeof(ubd_u64); i++)
		to[i] += from[i];
	sum.max_in_flight = in_flight;
	sum.max_begun = begun;
}

} // namespace ubd
