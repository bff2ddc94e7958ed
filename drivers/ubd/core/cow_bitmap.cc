// SPDX-License-Identifier: GPL-2.0-only
/*
 * The bitmap's operations: whole words, and no block that has no bit.
 *
 * Context: under the queue lock of the device.
 */
#include "cow_bitmap.hh"

namespace ubd
{
namespace
{

constexpr u64 word_bits = 64;

bool get(const u64 *map, u64 i)
{
	return map[i / word_bits] >> i % word_bits & 1;
}

void put(u64 *map, u64 i)
{
	map[i / word_bits] |= 1ull << i % word_bits;
}

// The compiler's own would be a call into its library.
u32 ones(u64 w)
{
	w -= w >> 1 & 0x5555555555555555;
	w = (w & 0x3333333333333333) + (w >> 2 & 0x3333333333333333);
	w = (w + (w >> 4)) & 0x0f0f0f0f0f0f0f0f;
	return static_cast<u32>(w * 0x0101010101010101 >> 56);
}

// `count` bits (1 to 64) of a word from `first` on.
u64 mask(u64 first, u64 count)
{
	return ~0ull >> (word_bits - count) << first;
}

// The first bit from `from` on that is not `value`, or `end`.
u64 find_other(const u64 *map, bool value, u64 from, u64 end)
{
	const u64 flip = value ? ~0ull : 0;
	u64 i = from / word_bits;
	u64 w = (map[i] ^ flip) & ~0ull << from % word_bits;
	while (!w) {
		if (++i * word_bits >= end)
			return end;
		w = map[i] ^ flip;
	}
	return min(i * word_bits + static_cast<u64>(__builtin_ctzll(w)), end);
}

// The guest may be killed between any two stores, and its relay looks for what
// is dirty or sealed: it must find a block in one set at least.
void in_this_order()
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

bool is_zero(const u8 *from, u32 bytes)
{
	return !bytes || (!from[0] && !__builtin_memcmp(from, from + 1, bytes - 1));
}

// The first bit from `from` on that is set, or `end`.
u64 find_set(const u64 *map, u64 from, u64 end)
{
	return from < end ? find_other(map, false, from, end) : end;
}

} // namespace

void CowBitmap::Span::add(u64 block)
{
	first = min(first, block);
	end = end > block ? end : block + 1;
}

void CowBitmap::Span::add(const Span &o)
{
	first = min(first, o.first);
	end = end > o.end ? end : o.end;
}

void CowBitmap::attach(const Memory &memory, u64 sectors)
{
	m_ = memory;
	sectors_ = sectors;
}

bool CowBitmap::test(u64 sector) const
{
	return get(m_.touched, sector / block_sectors) && get(m_.live, sector);
}

u64 CowBitmap::run(u64 sector, u64 most, bool &set) const
{
	const u64 end = sector + most;
	UBD_ASSERT(most && end <= sectors_);
	set = test(sector);
	u64 at = sector;
	while (at < end) {
		const u64 block_end = min((at / block_sectors + 1) * block_sectors, end);
		if (get(m_.touched, at / block_sectors))
			at = find_other(m_.live, set, at, block_end);
		else // and not set, or the run would have ended before
			at = block_end;
		if (at < block_end || (at < end && test(at) != set))
			break;
	}
	return at - sector;
}

bool CowBitmap::set_in_groups(u32 group) const
{
	// The lowest bit of each group.
	const u64 lowest = ~0ull / (group == 8 ? 0xff : group == 4 ? 0xf : 0x3);
	for (u64 b = find_set(m_.touched, 0, blocks()); b < blocks(); b = find_set(m_.touched, b + 1, blocks()))
		for (u64 i = b * block_words; i < (b + 1) * block_words; i++) {
			u64 any = m_.live[i], all = any;
			for (u32 step = 1; step < group; step *= 2) {
				any |= any >> step;
				all &= all >> step;
			}
			if ((any ^ all) & lowest)
				return false;
		}
	return true;
}

// Returns how many were not set before.
u64 CowBitmap::set_in_block(u64 sector, u64 count)
{
	u64 added = 0;
	for (u64 left = count; left;) {
		const u64 first = sector % word_bits, n = min(left, word_bits - first);
		const u64 i = sector / word_bits, fresh = mask(first, n) & ~m_.live[i];
		if (fresh) {
			m_.live[i] |= fresh;
			if (is_sealed_)
				m_.next[i] |= fresh;
			added += ones(fresh);
		}
		sector += n;
		left -= n;
	}
	return added;
}

void CowBitmap::set(u64 sector, u64 count)
{
	UBD_ASSERT(sector + count <= sectors_);
	while (count) {
		const u64 block = sector / block_sectors;
		const u64 n = min(count, (block + 1) * block_sectors - sector);
		if (u64 added = set_in_block(sector, n)) {
			put(m_.touched, block);
			dirty_sectors_ += added;
			dirty_blocks_ += !get(m_.dirty, block);
			put(m_.dirty, block);
			dirty_span_.add(block);
			if (is_sealed_) {
				put(m_.next_touched, block);
				next_span_.add(block);
			}
		}
		sector += n;
		count -= n;
	}
}

void CowBitmap::load(u64 block, const u8 *from, u32 bytes)
{
	UBD_ASSERT(block < blocks() && bytes <= block_bytes);
	if (is_zero(from, bytes))
		return;
	u64 *live = m_.live + block * block_words;
	__builtin_memcpy(live, from, bytes);
	const u64 here = min(sectors_ - block * block_sectors, block_sectors);
	for (u64 i = here / word_bits; i < block_words; i++)
		live[i] &= i * word_bits < here ? mask(0, here - i * word_bits) : 0;
	if (find_set(live, 0, here) < here)
		put(m_.touched, block);
}

void CowBitmap::move_to(const Memory &memory, u64 sectors)
{
	UBD_ASSERT(sectors >= sectors_);
	UBD_ASSERT(!dirty());
	UBD_ASSERT(!sealed());
	for (u64 b = find_set(m_.touched, 0, blocks()); b < blocks(); b = find_set(m_.touched, b + 1, blocks())) {
		__builtin_memcpy(memory.live + b * block_words, m_.live + b * block_words, block_bytes);
		put(memory.touched, b);
	}
	attach(memory, sectors);
}

u64 CowBitmap::next_stretch(u64 &first, u64 gap) const
{
	bool set;
	if (first < sectors_ && !test(first))
		first += run(first, sectors_ - first, set);
	u64 end = first;
	while (end < sectors_) {
		end += run(end, sectors_ - end, set);
		if (end == sectors_)
			break;
		const u64 hole = run(end, sectors_ - end, set);
		if (hole >= gap || end + hole == sectors_)
			break;
		end += hole;
	}
	return end - first;
}

// What was set since the last seal belongs to this one.
void CowBitmap::forget_next()
{
	const u64 end = next_span_.end;
	for (u64 b = find_set(m_.next_touched, next_span_.first, end); b < end;
	     b = find_set(m_.next_touched, b + 1, end)) {
		__builtin_memset(m_.next + b * block_words, 0, block_bytes);
		m_.next_touched[b / word_bits] &= ~(1ull << b % word_bits);
	}
	next_span_ = Span{};
}

void CowBitmap::seal()
{
	for (u64 i = dirty_span_.first_word(); i < dirty_span_.end_word(); i++) {
		m_.sealed[i] |= m_.dirty[i];
		in_this_order();
		m_.dirty[i] = 0;
	}
	sealed_span_.add(dirty_span_);
	dirty_span_ = Span{};
	sealed_sectors_ += dirty_sectors_;
	dirty_sectors_ = 0;
	dirty_blocks_ = 0;
	forget_next();
	is_sealed_ = true;
}

u64 CowBitmap::next_sealed(u64 from) const
{
	const u64 at = find_set(m_.sealed, from, sealed_span_.end);
	return at < sealed_span_.end ? at : blocks();
}

void CowBitmap::copy(u64 block, u8 *to) const
{
	const u64 *live = m_.live + block * block_words, *next = m_.next + block * block_words;
	if (!get(m_.next_touched, block))
		return copy_live(block, to);
	for (u32 i = 0; i < block_words; i++) {
		const u64 w = live[i] & ~next[i];
		__builtin_memcpy(to + 8 * i, &w, 8);
	}
}

void CowBitmap::copy_live(u64 block, u8 *to) const
{
	__builtin_memcpy(to, m_.live + block * block_words, block_bytes);
}

u64 CowBitmap::next_unsaved(u64 from) const
{
	const u64 dirty = find_set(m_.dirty, from, dirty_span_.end), sealed = next_sealed(from);
	return min(dirty < dirty_span_.end ? dirty : blocks(), sealed);
}

void CowBitmap::end_committed()
{
	for (u64 i = sealed_span_.first_word(); i < sealed_span_.end_word(); i++)
		m_.sealed[i] = 0;
	end_commit();
}

void CowBitmap::end_failed()
{
	for (u64 i = sealed_span_.first_word(); i < sealed_span_.end_word(); i++) {
		dirty_blocks_ += ones(m_.sealed[i] & ~m_.dirty[i]);
		m_.dirty[i] |= m_.sealed[i];
		in_this_order();
		m_.sealed[i] = 0;
	}
	dirty_span_.add(sealed_span_);
	dirty_sectors_ += sealed_sectors_;
	end_commit();
}

void CowBitmap::end_commit()
{
	sealed_span_ = Span{};
	sealed_sectors_ = 0;
	is_sealed_ = false;
	forget_next();
}

} // namespace ubd
