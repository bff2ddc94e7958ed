// SPDX-License-Identifier: GPL-2.0-only
#include <string.h>

#include "../file.hh"
#include "bugs.hh"

namespace ubd::crash
{
namespace
{

// What an fdatasync was for, by the writes of bits around it.
enum class Purpose : u8 { plain, data, bits };

bool is_bitmap(const Call &call, const Shape &shape)
{
	return call.op == HostOp::write && call.offset < shape.header.data_offset;
}

// Calls visit(sync, purpose) for each fdatasync.
template <class F> void for_syncs(Record &r, const Shape &shape, F visit)
{
	Call *sync = nullptr;
	bool bits_before = false, bits_since = false;
	auto end = [&] {
		if (sync)
			visit(*sync, bits_before ? Purpose::bits : bits_since ? Purpose::data : Purpose::plain);
	};
	for (Call &call : r.calls) {
		if (call.op == HostOp::sync) {
			end();
			bits_before = bits_since;
			bits_since = false;
			sync = &call;
		}
		bits_since |= is_bitmap(call, shape);
	}
	end();
}

template <Purpose purpose> u64 drop_syncs(Record &r, const Shape &shape)
{
	u64 n = 0;
	for_syncs(r, shape, [&](Call &sync, Purpose p) {
		if (p != purpose)
			return;
		sync.op = HostOp::read; // which makes nothing durable
		n++;
	});
	return n;
}

// Calls visit(call, data) for each that changes data and for which `when` holds,
// and each that writes bits.
template <class F> u64 add_bits(Record &r, const Shape &shape, F when)
{
	u64 n = 0;
	for (Call &bits : r.calls) {
		if (!is_bitmap(bits, shape))
			continue;
		u8 *to = &r.bytes[static_cast<size_t>(bits.data - r.bytes.data())];
		const u64 first = (bits.offset - shape.header.bitmap_offset) * 8, end = first + bits.length * 8;
		for (const Call &call : r.calls) {
			if (call.op != HostOp::write || is_bitmap(call, shape) || !when(call, bits))
				continue;
			u64 sector = (call.offset - shape.header.data_offset) / sector_bytes;
			for (u64 left = call.length / sector_bytes; left; left--, sector++)
				if (sector >= first && sector < end) {
					u8 &byte = to[(sector - first) / 8];
					n += !(byte >> sector % 8 & 1);
					byte |= static_cast<u8>(1 << sector % 8);
				}
		}
	}
	return n;
}

u64 late_bits(Record &r, const Shape &shape)
{
	return add_bits(r, shape, [](const Call &call, const Call &bits) { return call.completed < bits.handed; });
}

u64 early_bits(Record &r, const Shape &shape)
{
	return add_bits(r, shape, [](const Call &call, const Call &bits) { return call.handed < bits.handed; });
}

// Each bit goes to the sector behind.
u64 shifted_bits(Record &r, const Shape &shape)
{
	u64 n = 0;
	for (const Call &bits : r.calls) {
		if (!is_bitmap(bits, shape))
			continue;
		u8 *to = &r.bytes[static_cast<size_t>(bits.data - r.bytes.data())];
		for (u64 i = bits.length; i--;)
			to[i] = static_cast<u8>(to[i] << 1 | (i ? to[i - 1] >> 7 : 0));
		n++;
	}
	return n;
}

// One in a hundred writes of data, though the host said that it was done.
u64 lost_writes(Record &r, const Shape &shape)
{
	u64 writes = 0, n = 0;
	for (Call &call : r.calls)
		if (call.op == HostOp::write && !is_bitmap(call, shape) && ++writes % 100 == 0) {
			call.op = HostOp::read;
			n++;
		}
	return n;
}

} // namespace

const Bug bugs[] = {
	{ "no-data-sync", "bits are written before their data is durable", drop_syncs<Purpose::data> },
	{ "no-bits-sync", "a flush ends before its bits are durable", drop_syncs<Purpose::bits> },
	{ "no-plain-sync", "a flush without new bits is none", drop_syncs<Purpose::plain> },
	{ "late-bits", "a flush writes the bits of its end, not those of its beginning", late_bits },
	{ "early-bits", "bits are set when a write is handed over", early_bits },
	{ "shifted-bits", "bits are those of the sectors behind", shifted_bits },
	{ "lost-writes", "a write that has ended has changed nothing", lost_writes },
	{ nullptr, nullptr, nullptr },
};

const Bug *find_bug(const char *name)
{
	for (const Bug *b = bugs; b->name; b++)
		if (!strcmp(b->name, name))
			return b;
	return nullptr;
}

} // namespace ubd::crash
