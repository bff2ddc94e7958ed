// SPDX-License-Identifier: GPL-2.0-only
/*
 * The relay: an eventfd raises no SIGIO, so one helper for the whole module
 * waits for it and sends SIGIO to the UML process. The eventfd stays readable
 * for UML's own epoll, whose interrupt handler alone reads it.
 *
 * The helper is a clone that shares memory and nothing else: it has its own
 * descriptor table (so it keeps no lock, ring or file alive), blocks every
 * signal from before its first instruction, has exit signal 0, and makes only
 * direct system calls. It ends when
 *   - ubd_relay_stop() says so,
 *   - the UML process is gone (its pidfd becomes readable),
 *   - the UML process called execve, as a guest's reboot does: then the write
 *     end of the lifeline pipe, which is close-on-exec, is closed.
 * Its second task: when the UML process has ended, it unlocks the files that it
 * was given copies of. One of UML's processes for guest programs, which share
 * the descriptor table, can outlive a killed UML (it is cloned before it asks
 * to die with its parent), and would keep files and locks for ever. By then
 * nothing is in flight: the host waits for a process's io_uring requests before
 * the process is gone, and before execve closes descriptors. For a COW file it
 * first commits, under that lock, what had landed: so a killed guest loses
 * nothing that had completed. That has a time limit: if the host's disk takes
 * longer, nothing is committed, and the file is as a crash would leave it.
 * A reboot stops it while others may still be opening devices, see ubd_relay_stop().
 * Contexts: ack in interrupt context, all else in process context; see relay.cc.
 */
#ifndef UBD_HOST_RELAY_HH
#define UBD_HOST_RELAY_HH

#include "sys.hh"

namespace ubd
{

/*
 * The files of a device that the helper gets copies of; -1 for none, and none
 * after one that is not there.
 */
struct HeldFiles {
	enum Place : u32 {
		locked, // to be unlocked
		backing, // the same
		unsynced, // of a COW file: an opening that no fdatasync was made by
		most,
	};
	int fds[most] = { -1, -1, -1 };
};

/*
 * What the helper needs for the last commit of a COW file: parts of its
 * CowBitmap (see there), in the memory that it shares.
 */
struct LastCommit {
	const u64 *live = nullptr;
	const u64 *dirty = nullptr;
	const u64 *sealed = nullptr;
	u64 blocks = 0;
	u64 bitmap_offset = 0; // in the file, bytes
	u64 bitmap_bytes = 0;
	const bool *poisoned = nullptr; // durability is lost: not to be made
	bool no_flush = false; // and it need not be durable
};

// The slot is a number of the caller's, below UBD_MAX_DEVICES. A commit that is
// not null is made if the UML process ends before relay_release(); it stays
// where it is until then. Nothing happens once the relay was stopped: the guest goes
// down. Context: process, sleeps; the relay lock is taken.
void relay_hold(u32 slot, const HeldFiles &files, const LastCommit *commit);
void relay_release(u32 slot);

} // namespace ubd

#endif
