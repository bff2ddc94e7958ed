// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a test brought from a guest: the record of the host's calls that
 * drivers/ubd/core/record.hh describes, and the writer's own journal, which says
 * what it asked for and when it was told that it was done (tests/guest/tool.cc,
 * `storm`).
 */
#ifndef UBD_CRASH_REPLAY_INPUT_HH
#define UBD_CRASH_REPLAY_INPUT_HH

#include <string>
#include <unordered_map>
#include <vector>

#include "../../../drivers/ubd/core/record.hh"
#include "../crash.hh"

namespace ubd::crash
{

// One call of the host's. Files that cannot be used end the program.
struct Call {
	HostOp op;
	u8 file;
	u64 number; // from 1
	u64 offset, length;
	const u8 *data; // of a write
	u32 handed, completed; // entries, from 1; never
	s32 result;

	bool changes() const { return op != HostOp::read && op != HostOp::sync && op != HostOp::allocate; }
};

struct Event {
	RecordEntry::Kind kind;
	u32 call; // index
	u64 mark;
};

struct Record {
	std::vector<u8> bytes;
	std::vector<Call> calls; // as they were handed over
	std::vector<Event> events;

	explicit Record(const char *path);

private:
	bool add(const RecordEntry &entry, const u8 *data);

	std::unordered_map<u64, u32> under_way_; // calls, by what the record names them
};

// What the writer did.
struct Act {
	enum Kind : u8 { write, fua, zeroes, discard, flush };

	Kind kind;
	bool ok;
	bool durable; // when it has ended well
	u64 number; // of the record that it wrote
	u64 first, count; // sectors
	Moment begin, end;
};

struct Journal {
	u32 threads = 0;
	std::vector<Act> acts;

	explicit Journal(const char *path);
};

std::vector<u8> read_file(const char *path);
// A file cannot be used: says why, and ends the program with status 2.
[[noreturn]] [[gnu::format(printf, 1, 2)]] void refuse(const char *format, ...);

} // namespace ubd::crash

#endif
