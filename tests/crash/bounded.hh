// SPDX-License-Identifier: GPL-2.0-only
/*
 * Every workload of up to three operations on a disk of four sectors, in every
 * order in which they can be sent and the host can end what it was asked for,
 * with no fault or one of each kind at each place: the bounded search of
 * CrashMonkey (OSDI 2018), with the order of events searched as well.
 */
#ifndef UBD_CRASH_BOUNDED_HH
#define UBD_CRASH_BOUNDED_HH

#include "crash.hh"

namespace ubd::crash
{

// How many workloads of up to `most` operations there are.
u64 bounded_workloads(u32 most);
// "W12 F Z0"
const char *workload_words(u64 workload);
// Runs one in every order. Returns how many orders.
u64 run_workload(u64 workload, bool faults);

} // namespace ubd::crash

#endif
