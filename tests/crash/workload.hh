// SPDX-License-Identifier: GPL-2.0-only
/*
 * Random workloads: the whole life of a COW file, from a seed. Some guests one
 * after the other, each with several requests at a time, on a host that fails
 * now and then; each guest ends in another way.
 */
#ifndef UBD_CRASH_WORKLOAD_HH
#define UBD_CRASH_WORKLOAD_HH

#include "crash.hh"

namespace ubd::crash
{

void run_seed(u64 seed);

} // namespace ubd::crash

#endif
