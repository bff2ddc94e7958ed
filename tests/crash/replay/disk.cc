// SPDX-License-Identifier: GPL-2.0-only
#include <string.h>

#include <algorithm>

#include "../../../drivers/ubd/core/policy.hh"
#include "content.hh"
#include "disk.hh"

namespace ubd::crash
{
namespace
{

// The host transferred so many bytes, at least.
bool reached(const Call &call, u64 bytes)
{
	return call.result >= 0 && static_cast<u64>(call.result) >= bytes;
}

} // namespace

Disk::Disk(const Record &record, const Shape &shape, const Image &start)
	: record_(record), shape_(shape), units_of_(record.calls.size())
{
	const CowHeader &h = shape.header;
	start_.assign(start.front.begin() + static_cast<long>(h.bitmap_offset), start.front.end());
	hot_bits_.assign(start_.size(), 0);
	for (u64 sector : shape.hot)
		hot_bits_[sector / 8] |= static_cast<u8>(1 << sector % 8);
	bitmap_units_ = static_cast<u32>((h.bitmap_bytes + sector_bytes - 1) / sector_bytes);
	units_.resize(bitmap_units_ + shape.hot.size());
	for (u32 i = 0; i < units_.size(); i++) {
		Content c{ at_start, true, true, garbage, {} };
		if (is_data(i))
			c.value = start.data[i - bitmap_units_];
		else
			memcpy(c.bytes.data(), &start_[i * sector_bytes], sector_bytes);
		units_[i].push_back(c);
	}
}

u32 Disk::base(const Unit &unit)
{
	u32 base = 0;
	for (u32 i = 0; i < unit.size(); i++)
		if (unit[i].durable)
			base = i;
	return base;
}

void Disk::add(u32 unit, const Content &c)
{
	const Unit &u = units_[unit];
	if (u.size() == 1 && u[0].value == c.value && u[0].bytes == c.bytes)
		return; // whether it lands or not
	units_[unit].push_back(c);
	units_of_[c.call].push_back(unit);
	open_.insert(unit);
}

bool Disk::handed(u32 index)
{
	const Call &call = record_.calls[index];
	if (!call.changes() && call.op != HostOp::sync)
		return false;
	if (call.file)
		fail("call %llu changes the backing file", call.number);
	if (call.op == HostOp::sync)
		return false;
	if (!call.length || call.offset % sector_bytes || call.offset + call.length > shape_.header.file_bytes())
		fail("call %llu is for bytes %llu to %llu, which are not all in the file", call.number, call.offset,
		     call.offset + call.length);
	is_bitmap(call) ? write_bitmap(index) : write_data(index);
	return true;
}

void Disk::write_bitmap(u32 index)
{
	const Call &call = record_.calls[index];
	const CowHeader &h = shape_.header;
	if (call.offset < h.bitmap_offset || call.offset + call.length > h.bitmap_offset + h.bitmap_bytes || !call.data)
		fail("call %llu changes bytes %llu to %llu, which are not all the bitmap's", call.number, call.offset,
		     call.offset + call.length);
	const u64 at = call.offset - h.bitmap_offset;
	for (u64 i = 0; i < call.length; i++)
		if ((call.data[i] ^ start_[at + i]) & ~hot_bits_[at + i])
			fail("call %llu changes the bit of a sector that nobody wrote: byte %llu of the bitmap",
			     call.number, at + i);
	for (u64 done = 0; done < call.length; done += sector_bytes) {
		const u64 n = min(call.length - done, sector_bytes);
		const u32 unit = static_cast<u32>((at + done) / sector_bytes);
		Content c{ index, false, reached(call, done + n), garbage, {} };
		// Behind the bitmap's end nothing ever changes.
		memcpy(c.bytes.data(), &start_[unit * sector_bytes], sector_bytes);
		memcpy(c.bytes.data(), call.data + done, n);
		add(unit, c);
	}
}

void Disk::write_data(u32 index)
{
	const Call &call = record_.calls[index];
	const u64 from = call.offset - shape_.header.data_offset;
	if (from % sector_bytes || call.length % sector_bytes)
		fail("call %llu changes a part of a sector", call.number);
	const u64 first = from / sector_bytes, end = first + call.length / sector_bytes;
	u32 hot = shape_.hot_from(first);
	if (shape_.hot_from(end) - hot != end - first)
		fail("call %llu changes sectors %llu to %llu, not all of which were written to", call.number, first,
		     end - 1);
	for (u64 sector = first; sector < end; sector++, hot++) {
		const u64 done = (sector - first) * sector_bytes;
		const Value v = call.data ? value_of_sector(call.data + done, sector) : zeros;
		if (v == garbage)
			fail("call %llu writes to sector %llu what nobody wrote there", call.number, sector);
		const bool whole = !call.data || reached(call, done + sector_bytes);
		add(bitmap_units_ + hot, { index, false, whole, v, {} });
	}
}

bool Disk::completed(u32 index)
{
	const Call &call = record_.calls[index];
	if (!call.changes() && call.op != HostOp::sync)
		return false;
	if (call.op == HostOp::write_sync && call.result > 0) {
		make_durable(index);
		return true;
	}
	if (call.op != HostOp::sync) {
		if (call.result >= 0)
			completed_.push_back(index);
		return false;
	}
	if (call.result < 0) {
		// One that is tried again has done nothing.
		if (judge(call.op, -call.result) == Verdict::fail)
			lost_ = call.completed;
		return false;
	}
	std::vector<u32> rest;
	for (u32 i : completed_) {
		const Call &c = record_.calls[i];
		if (c.completed < call.handed && c.handed >= lost_)
			make_durable(i);
		else
			rest.push_back(i);
	}
	completed_ = rest;
	return true;
}

void Disk::make_durable(u32 call)
{
	for (u32 u : units_of_[call]) {
		for (Content &c : units_[u])
			if (c.call == call && c.whole)
				c.durable = true;
		prune(u);
	}
}

// Drops what is gone for good.
void Disk::prune(u32 u)
{
	Unit &unit = units_[u];
	u32 newest = 0; // when the latest of those was handed over that are durable
	for (const Content &c : unit)
		if (c.durable && c.call != at_start)
			newest = std::max(newest, record_.calls[c.call].handed);
	auto gone = [&](const Content &c) {
		return c.call == at_start ? newest > 0 : record_.calls[c.call].completed < newest;
	};
	unit.erase(std::remove_if(unit.begin(), unit.end(), gone), unit.end());
	if (unit.size() == 1)
		open_.erase(u);
}

} // namespace ubd::crash
