// SPDX-License-Identifier: GPL-2.0-only
/*
 * Bugs that a driver might have, put into a record: what it would look like if
 * the driver had them, or if what it relies on were not so. The replay has to
 * find each; a test of the test.
 */
#ifndef UBD_CRASH_REPLAY_BUGS_HH
#define UBD_CRASH_REPLAY_BUGS_HH

#include "input.hh"

namespace ubd::crash
{

struct Shape;

struct Bug {
	const char *name;
	const char *words;
	// Returns in how many places the record is another one now.
	u64 (*put)(Record &, const Shape &);
};

// nullptr if there is none of that name.
const Bug *find_bug(const char *name);
// Ends with one whose name is nullptr.
extern const Bug bugs[];

} // namespace ubd::crash

#endif
