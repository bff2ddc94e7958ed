// SPDX-License-Identifier: GPL-2.0-only
/*
 * What all parts of the crash simulator share. Random numbers, trace and the
 * way out when a rule is broken have the names that the simulator of the queue
 * (tests/sim) gave them.
 *
 * A sector's content is a number: who wrote it. Blocks of the bitmap are bytes.
 */
#ifndef UBD_CRASH_CRASH_HH
#define UBD_CRASH_CRASH_HH

#include "../sim/sim.hh"

namespace ubd::crash
{

using sim::fail;
using sim::Random;

using Value = u32;
// What nobody wrote there: never to be seen.
inline constexpr Value garbage = 0;
// The backing file's sector of the same number.
inline constexpr Value from_backing = 1;
inline constexpr Value zeros = 2;
// From here on: the writes of the guest, each its own.
inline constexpr Value first_stamp = 3;

// When the guest sent a request, or was told of its end: a count of both.
using Moment = u32;
inline constexpr Moment never = ~0u;

inline constexpr u64 sector_bytes = UBD_SECTOR_SIZE;

} // namespace ubd::crash

#endif
