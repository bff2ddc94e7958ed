// SPDX-License-Identifier: GPL-2.0-only
#include "disk.hh"

#include <string.h>

namespace ubd::sim
{
namespace
{

void fill_random(std::vector<u8> &to, u64 bytes, Random &random)
{
	u64 word = random.next();
	for (u64 i = 0; i + 8 <= bytes; i += 8) {
		memcpy(&to[i], &word, 8);
		word += 0x9e3779b97f4a7c15ull;
	}
}

} // namespace

Disk::Disk(const Profile &p, Random &random)
	: cow_(p.cow), sectors_(p.sectors), data_offset_(p.data_offset), stripe_(p.stripe),
	  file_end_(p.data_offset + p.file_sectors * sector_bytes + p.file_tail), bits_(p.sectors), lost_(p.sectors),
	  written_(p.sectors), dsync_(p.sectors), acknowledged_(p.sectors)
{
	file_[0].resize(p.data_offset + p.sectors * sector_bytes);
	fill_random(file_[0], file_end_, random);
	if (cow_) {
		file_[1].resize(p.sectors * sector_bytes);
		fill_random(file_[1], file_[1].size(), random);
		for (u64 s = 0; s < sectors_;) {
			const bool set = random.percent(50);
			for (u64 n = random.spread(32); n && s < sectors_; n--)
				bits_[s++] = set;
		}
	}
	model_.resize(p.sectors * sector_bytes);
	accept(0, sectors_);
}

Run Disk::next_run(u8 op, ByteOffset at, ByteCount most) const
{
	const u64 sector = at.value / sector_bytes;
	if (sector >= sectors_ || at.value % sector_bytes || !most.value)
		fail("layout asked for %llu bytes at %llu", most.value, at.value);
	u64 n = most.value;
	if (stripe_ && n > stripe_ - at.value % stripe_)
		n = stripe_ - at.value % stripe_;
	if (!cow_ || op != UBD_OP_READ)
		return Run{ ByteOffset(data_offset_ + at.value), ByteCount(n), 0 };
	u64 end = sector + 1;
	while (end * sector_bytes < at.value + n && bits_[end] == bits_[sector])
		end++;
	n = min(n, end * sector_bytes - at.value);
	if (bits_[sector])
		return Run{ ByteOffset(data_offset_ + at.value), ByteCount(n), 0 };
	return Run{ at, ByteCount(n), 1 };
}

u64 Disk::left_in_file(u8 file, u64 offset) const
{
	const u64 end = file ? file_[1].size() : file_end_;
	return offset < end ? end - offset : 0;
}

void Disk::read(u8 file, u64 offset, void *to, u64 n) const
{
	memcpy(to, &file_[file][offset], n);
}

void Disk::write(u64 offset, const void *from, u64 n)
{
	memcpy(&file_[0][offset], from, n);
	if (file_end_ < offset + n)
		file_end_ = offset + n;
}

// KEEP_SIZE: beyond the end nothing is to be done.
void Disk::zero(u64 offset, u64 n)
{
	memset(&file_[0][offset], 0, n);
}

void Disk::wrote(u64 offset, u64 n, u64 stamp, bool durable)
{
	const u64 first = (offset - data_offset_) / sector_bytes;
	const u64 last = (offset - data_offset_ + n - 1) / sector_bytes;
	for (u64 s = first; s <= last; s++) {
		written_[s] = stamp;
		lost_[s] = false;
		if (durable)
			dsync_[s] = stamp;
	}
}

void Disk::sync_succeeded(u64 began)
{
	if (synced_ < began)
		synced_ = began;
}

// Linux marks the pages clean that it failed to write.
void Disk::sync_failed()
{
	losses_++;
	for (u64 s = 0; s < sectors_; s++)
		if (!durable(s))
			lost_[s] = true;
}

const u8 *Disk::content(u64 at) const
{
	if (bit(at / sector_bytes))
		return &file_[0][data_offset_ + at];
	return &file_[1][at];
}

void Disk::set_bits(u64 sector, u64 n)
{
	memset(&bits_[sector], 1, n);
}

void Disk::accept(u64 sector, u64 n)
{
	for (u64 s = sector; s < sector + n; s++)
		memcpy(&model_[s * sector_bytes], content(s * sector_bytes), sector_bytes);
}

void Disk::acknowledged(u64 sector, u64 n, u64 stamp)
{
	for (u64 s = sector; s < sector + n; s++)
		acknowledged_[s] = stamp;
}

bool Disk::durable(u64 s) const
{
	return !lost_[s] && (written_[s] < synced_ || written_[s] <= dsync_[s]);
}

u64 Disk::first_not_durable(u64 stamp) const
{
	for (u64 s = 0; s < sectors_; s++) {
		const bool promised = acknowledged_[s] && acknowledged_[s] < stamp;
		// A newer write, not ended yet, hides what became of the older.
		if (promised && written_[s] < acknowledged_[s] && !durable(s))
			return s;
	}
	return sectors_;
}

void Disk::check_all() const
{
	for (u64 s = 0; s < sectors_; s++)
		if (memcmp(content(s * sector_bytes), &model_[s * sector_bytes], sector_bytes))
			fail("at the end sector %llu differs from the model", s);
}

} // namespace ubd::sim
