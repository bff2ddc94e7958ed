// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the queues of one device have in common. Each queue has a lock of its own,
 * so all this is read and written by atomic operations, and only ever goes from
 * false to true.
 *
 * Durability is lost for a device, not for a queue: what an fdatasync of one queue
 * could not write back may have been written by any of them. Each queue has its own
 * openings of the file, and Linux tells each opening of the loss: so a flush that
 * runs beside the failed one in another queue fails by itself, and one that comes
 * later fails by this.
 *
 * Context: any, with or without a queue lock.
 */
#ifndef UBD_CORE_DEVICE_STATE_HH
#define UBD_CORE_DEVICE_STATE_HH

#include "base.hh"

namespace ubd
{

class DeviceState {
public:
	DeviceState() = default;
	DeviceState(const DeviceState &) = delete;
	DeviceState &operator=(const DeviceState &) = delete;

	bool durability_lost() const { return __atomic_load_n(&durability_lost_, __ATOMIC_ACQUIRE); }
	// Each of these is true for the first who says so: he tells the log.
	bool lose_durability() { return first(durability_lost_); }
	bool find_shrunk() { return first(shrunk_); }
	bool find_removed() { return first(removed_); }

private:
	static bool first(bool &what) { return !__atomic_exchange_n(&what, true, __ATOMIC_SEQ_CST); }

	bool durability_lost_ = false;
	bool shrunk_ = false; // the file ends before the device does
	bool removed_ = false; // the file has no name any more
};

// How many queues a device gets: `asked`, or 0 for one for each CPU; never more than
// CPUs, since the others would have nothing to do. Bitmap, seal and commit of a COW
// file are under the lock of one queue.
u32 queue_count(u32 asked, u32 cpus, bool is_cow);

// What the device counted, as far as its queues are added up.
void add_stats(ubd_stats &sum, const ubd_stats &one);

} // namespace ubd

#endif
