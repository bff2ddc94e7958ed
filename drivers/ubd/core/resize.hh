// SPDX-License-Identifier: GPL-2.0-only
/*
 * May a device take the size that its host file has by now? A raw device has that
 * file's, a COW device its backing file's.
 *
 * Context: any, no lock, no memory.
 */
#ifndef UBD_CORE_RESIZE_HH
#define UBD_CORE_RESIZE_HH

#include "base.hh"

namespace ubd
{

struct ResizeFacts {
	u64 now = 0; // the device has, bytes
	u64 wanted = 0; // the host's file has
	u32 block = UBD_SECTOR_SIZE; // the device's logical block, bytes
	// Of a COW device: its own file is written to, or replaced.
	bool cow = false;
	bool snapshot = false; // and goes with the guest
	bool read_only = false;
	bool shared = false; // others may use it, and would not notice
	bool poisoned = false; // durability is lost
	bool stopped = false; // its queue waits for space on the host, and would not be drained
};

enum class Resize : u8 {
	same, // nothing is to be done
	grow,
	refused,
};

struct ResizeVerdict {
	Resize what = Resize::same;
	// Of a refusal.
	int number = 0; // errno
	const char *reason = "";
	const char *remedy = "";
};

ResizeVerdict judge_resize(const ResizeFacts &f);

} // namespace ubd

#endif
