// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a sector's content is: see crash.hh, and ../../guest/sector.hh.
 */
#ifndef UBD_CRASH_REPLAY_CONTENT_HH
#define UBD_CRASH_REPLAY_CONTENT_HH

#include <string.h>

#include "../../guest/sector.hh"
#include "../crash.hh"

namespace ubd::crash
{

inline Value value_of_record(u64 record)
{
	return static_cast<Value>(first_stamp + record);
}

// garbage, if it is neither of a record for this sector nor zeros.
inline Value value_of_sector(const u8 *from, u64 sector)
{
	u8 want[sector_bytes] = {};
	if (!memcmp(from, want, sector_bytes))
		return zeros;
	uint64_t record;
	memcpy(&record, from, sizeof(record));
	make_sector(want, record, sector);
	return memcmp(from, want, sector_bytes) ? garbage : value_of_record(record);
}

} // namespace ubd::crash

#endif
