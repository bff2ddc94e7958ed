// SPDX-License-Identifier: GPL-2.0-only
/*
 * The three things that an I/O is made of.
 *
 *   Request   what the block layer sent; lives in blk-mq's memory for the tag.
 *   Header    what core has to remember while the request is being served; a
 *             mempool element, one for each request that was begun.
 *   Chunk     one operation of the host on one file; a mempool element. A
 *             request breaks into chunks: maximal runs that lie in one file
 *             and fit one descriptor.
 *
 * All are protected by the queue lock, but for what the host reads and writes
 * through a chunk's iovecs while the chunk is in flight.
 */
#ifndef UBD_CORE_REQUEST_HH
#define UBD_CORE_REQUEST_HH

#include "base.hh"

namespace ubd
{

using Request = ubd_request;

struct Chunk;

struct Header {
	Request *rq = nullptr;
	Chunk *chunks = nullptr; // all that exist for it, linked by siblings
	ByteCount prepared; // bytes of the request that chunks were made for
	u8 status = UBD_STATUS_OK;
	bool all_prepared = false;
	bool sync_pending = false; // durability still to be had by an fdatasync
	bool allocating = false; // its bits get their space first
	bool from_reserve = false;
};

enum class HostOp : u8 {
	read, // preadv
	write, // pwritev
	write_sync, // pwritev2 with RWF_DSYNC
	sync, // fdatasync
	punch, // fallocate: PUNCH_HOLE | KEEP_SIZE
	zero, // fallocate: ZERO_RANGE | KEEP_SIZE
	allocate, // fallocate: KEEP_SIZE
};

inline constexpr const char *host_op_names[] = { "read", "write", "write_sync", "sync", "punch", "zero", "allocate" };
inline constexpr u8 host_op_count = sizeof(host_op_names) / sizeof(host_op_names[0]);
static_assert(host_op_count == static_cast<u8>(HostOp::allocate) + 1);

constexpr const char *name_of(HostOp op)
{
	return host_op_names[static_cast<u8>(op)];
}

constexpr bool moves_data(HostOp op)
{
	return op == HostOp::read || op == HostOp::write || op == HostOp::write_sync;
}

/*
 *   engine -> (completion) -> freed
 *     ^            |
 *     +- waiting <-+  short transfer, EINTR, EAGAIN
 */
enum class ChunkState : u8 {
	engine, // prepared, or with the host
	waiting, // on one of the queue's retry lists
};

/*
 * Since Linux 6.18 pieces of a user's memory need not be blocks: they need this
 * alignment, bytes, in address and length. So as many as a chunk can hold make a sector
 * at least, whatever the guest's programs do.
 */
inline constexpr u32 piece_alignment = 8;
static_assert(piece_alignment * UBD_CHUNK_IOVS >= UBD_SECTOR_SIZE);

struct Chunk {
	Chunk *next = nullptr; // on one of the queue's lists
	Chunk *sibling_next = nullptr;
	Chunk *sibling_prev = nullptr;
	Header *header = nullptr;
	HostOp op = HostOp::read;
	ChunkState state = ChunkState::engine;
	u8 file = 0; // index among the device's files, see layout.hh
	bool from_reserve = false;
	bool zero_pages = false; // writes zeros; its iovecs point at a buffer of them
	bool cancelled = false; // the host was asked to give it back
	u8 pauses = 0; // made because the host had no memory
	bool to_worker = false; // the engine's: who does it
	bool guarded = false; // writes from the queue's guard
	bool cut = false; // a test wants its transfer to be short,
	s32 injected = 0; // or has its result kept here until it is to come
	s32 result = 0; // the host's, kept until its round ends, see Queue::collect()
	u32 sectors = 0; // of the device that it was made for, from
	SectorNumber sector;
	ByteOffset offset; // in the file
	ByteCount bytes; // still to be transferred
	u32 first = 0; // iovecs before this one are done
	u32 iovs = 0;
	ubd_iovec iov[UBD_CHUNK_IOVS];

	// Drops `n` transferred bytes from the front. n <= bytes.
	void advance(ByteCount n);
	// Fills what is left with zeros: a read beyond the file's end.
	void zero_rest();
	// Points the iovecs at zeros, for as many of `bytes` as they can hold.
	void fill_zero_iovs();
	// Bytes that the iovecs hold from `first` on: what one call asks for.
	ByteCount iov_bytes() const;
};

} // namespace ubd

#endif
