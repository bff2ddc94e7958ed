// SPDX-License-Identifier: GPL-2.0-only
/*
 * The device's data, twice: as the host's files hold it, and as the guest may
 * expect it (the model). And how durable it is: which writes a successful
 * fdatasync has covered, which pages a failed one has lost.
 *
 * A raw disk is file 0, from data_offset on. A COW disk has a bit for each
 * sector that says whether it lies there or in file 1 at its own place; bits
 * are set when a write has ended, as the COW layer is to do it.
 *
 * Durability is kept in stamps, the world's count of events: a sector is
 * durable if its last write is older than the beginning of an fdatasync that
 * succeeded, or was made with RWF_DSYNC.
 */
#ifndef UBD_SIM_DISK_HH
#define UBD_SIM_DISK_HH

#include <vector>

#include "profile.hh"

namespace ubd::sim
{

class Disk final : public Layout {
public:
	Disk(const Profile &profile, Random &random);
	Disk(const Disk &) = delete;
	Disk &operator=(const Disk &) = delete;

	Run next_run(u8 op, ByteOffset at, ByteCount most) const override;
	// Where a byte of a file lies in the device.
	u64 device_offset(u8 file, u64 offset) const { return file ? offset : offset - data_offset_; }

	// -- the host's files ---------------------------------------------------
	// Bytes from there to the file's end; 0 beyond it.
	u64 left_in_file(u8 file, u64 offset) const;
	void read(u8 file, u64 offset, void *to, u64 n) const;
	void write(u64 offset, const void *from, u64 n);
	void zero(u64 offset, u64 n);

	void wrote(u64 offset, u64 n, u64 stamp, bool durable);
	void sync_succeeded(u64 began);
	void sync_failed();
	// How often data was lost. Linux tells each opening of the file of each time.
	u64 losses() const { return losses_; }

	// -- what the guest sees ------------------------------------------------
	// The byte's place in the host's files, as a read would find it.
	const u8 *content(u64 device_byte) const;
	u8 *model(u64 device_byte) { return &model_[device_byte]; }
	void set_bits(u64 sector, u64 sectors);
	bool bit(u64 sector) const { return !cow_ || bits_[sector]; }
	// What the files hold is what the guest has to expect from now on.
	void accept(u64 sector, u64 sectors);
	void acknowledged(u64 sector, u64 sectors, u64 stamp);

	bool durable(u64 sector) const;
	// The first sector whose acknowledged content an fdatasync now proves
	// nothing for, among what was acknowledged before `stamp`; or none.
	u64 first_not_durable(u64 stamp) const;
	void check_all() const;

private:
	const bool cow_;
	const u64 sectors_, data_offset_, stripe_;
	u64 file_end_;
	std::vector<u8> file_[2];
	std::vector<u8> model_;
	std::vector<u8> bits_, lost_;
	std::vector<u64> written_, dsync_, acknowledged_;
	u64 losses_ = 0;
	u64 synced_ = 0; // the newest beginning of a successful fdatasync
};

} // namespace ubd::sim

#endif
