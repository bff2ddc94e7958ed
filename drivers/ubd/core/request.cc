// SPDX-License-Identifier: GPL-2.0-only
/*
 * Bookkeeping of a chunk that the host transferred in part.
 *
 * Context: under the queue lock, interrupts off.
 */
#include "request.hh"

namespace ubd
{
namespace
{

// What write-zeroes writes where the host has no call for it. Only read.
alignas(4096) u8 zeros[65536];

} // namespace

void Chunk::advance(ByteCount n)
{
	UBD_ASSERT(n <= bytes);
	offset = offset + n;
	bytes = bytes - n;
	if (zero_pages)
		return fill_zero_iovs();
	u64 left = n.value;
	while (left) {
		ubd_iovec &v = iov[first];
		if (left < v.bytes) {
			v.base = static_cast<char *>(v.base) + left;
			v.bytes -= left;
			return;
		}
		left -= v.bytes;
		first++;
	}
}

void Chunk::zero_rest()
{
	for (u32 i = first; i < iovs; i++)
		__builtin_memset(iov[i].base, 0, iov[i].bytes);
}

void Chunk::fill_zero_iovs()
{
	u64 left = bytes.value;
	first = 0;
	for (iovs = 0; left && iovs < UBD_CHUNK_IOVS; iovs++) {
		size_t n = min<u64>(left, sizeof(zeros));
		iov[iovs] = { zeros, n };
		left -= n;
	}
}

ByteCount Chunk::iov_bytes() const
{
	u64 sum = 0;
	for (u32 i = first; i < iovs; i++)
		sum += iov[i].bytes;
	return ByteCount(sum);
}

} // namespace ubd
