// SPDX-License-Identifier: GPL-2.0-only
/*
 * A request as the block layer has it: what was asked for, its data in pieces
 * all over the guest's memory, and what is known about its way so far.
 */
#ifndef UBD_SIM_TAG_HH
#define UBD_SIM_TAG_HH

#include <memory>
#include <vector>

#include "profile.hh"

namespace ubd::sim
{

// How often core asks again for an operation that the host had no memory for.
inline constexpr u32 max_memory_pauses = 16;

struct Tag {
	ubd_request rq{}; // first: core gives back a pointer to it
	u32 index = 0;
	bool active = false;
	u32 queue = 0; // that it was sent to

	// as it was asked for
	u8 op = 0;
	u8 flags = 0;
	u64 sector = 0;
	u64 bytes = 0;
	bool durable = false; // when it ends
	std::vector<ubd_iovec> segments;
	std::unique_ptr<u8[]> memory;
	u64 memory_bytes = 0;
	u64 pattern = 0;

	// its way
	u64 arrival = 0; // 1 for the first request of all
	u64 queued = 0; // stamp
	Time since = 0;
	Time timeout_at = never;
	u64 handed = 0; // bytes that the engine was given for the first time
	bool sync_handed = false;
	u32 statuses = 0; // bits of the ubd_status that its final errors mean
	u32 memory_errors = 0; // ENOMEM of its operations
	bool after_loss = false; // came when durability was lost already

	u64 sectors() const { return bytes / sector_bytes; }
	bool has_data() const { return op == UBD_OP_READ || op == UBD_OP_WRITE; }
	bool exclusive() const { return op != UBD_OP_READ && op != UBD_OP_FLUSH; }
	// Wholly in the engine's hands, or not going to be.
	bool handed_all() const;

	// Makes the pieces. Writes get a pattern, reads something else.
	void make_memory(const Profile &profile, Random &random);
	bool holds(const ubd_iovec &v) const;
	// Calls f(data, bytes, position in the request) for each piece.
	template <class F> void each_segment(F f) const
	{
		u64 at = 0;
		for (const ubd_iovec &v : segments) {
			f(static_cast<u8 *>(v.base), static_cast<u64>(v.bytes), at);
			at += v.bytes;
		}
	}
	// Nobody wrote between the pieces, nor into the data of a write.
	void check_memory() const;
	// One byte of a write's data.
	u8 pattern_at(u64 at) const
	{
		return static_cast<u8>((pattern + at / 8 * 0x9e3779b97f4a7c15ull) >> (at % 8 * 8));
	}

	static Tag &of(ubd_request *rq) { return *reinterpret_cast<Tag *>(rq); }
};

const char *op_name(u8 op);

} // namespace ubd::sim

#endif
