// SPDX-License-Identifier: GPL-2.0-only
/*
 * The command line of the kernel's own driver:
 *
 *	ubd<n><flags>=<file>[(,|:)<backing>[(,|:)<serial>]]
 *	ubd=sync
 *
 * and words of our own; the first three are for the devices after them, as ubd=sync
 * is, the last one counts only from the host's command line:
 *
 *	ubd=cache:<mode>
 *	ubd=engine:<name>
 *	ubd=werror:<policy>
 *	ubd=hotplug:<directory>
 *
 * n is a number (decimal, 0octal, 0xhex) or one small letter, flags are any of
 * r s c d t, at most six. What is accepted and what is not follows
 * arch/um/drivers/ubd_kern.c, ubd_setup_common(); the messages are ours.
 *
 * Cache modes are those of QEMU:
 *
 *			O_DIRECT	a write ends		a flush
 *	writeback	no		when the host has it	is one of the host's
 *	none		yes		when the host has it	is one of the host's
 *	writethrough	no		when it is durable	has nothing to do
 *	directsync	yes		when it is durable	has nothing to do
 *	unsafe		no		when the host has it	is none
 *
 * Policies for a write that the host has no space for (ENOSPC, EDQUOT), with the
 * words of QEMU's werror:
 *
 *	report	it fails, as every other error does
 *	stop	the device waits until there is space; QEMU calls that enospc, which
 *		is taken, too, since its stop is for other errors as well
 *
 * QEMU's ignore is refused: what was not written is lost, and nobody is told. There
 * is no rerror: no read needs space, so there is nothing to choose.
 *
 * Any context, no lock, no memory.
 */
#ifndef UBD_CORE_OPTIONS_HH
#define UBD_CORE_OPTIONS_HH

#include "base.hh"

namespace ubd
{

const char *name_of(ubd_cache mode);
const char *name_of(ubd_werror policy);

constexpr bool is_direct(ubd_cache mode)
{
	return mode == UBD_CACHE_NONE || mode == UBD_CACHE_DIRECTSYNC;
}

// Each write is durable before it ends.
constexpr bool is_sync(ubd_cache mode)
{
	return mode == UBD_CACHE_WRITETHROUGH || mode == UBD_CACHE_DIRECTSYNC;
}

// What the flag s makes of a mode: who asks for safety gets it.
constexpr ubd_cache with_sync(ubd_cache mode)
{
	return is_direct(mode) ? UBD_CACHE_DIRECTSYNC : UBD_CACHE_WRITETHROUGH;
}

// The mode that keeps as much as this one, where the host knows no O_DIRECT.
constexpr ubd_cache without_direct(ubd_cache mode)
{
	return !is_direct(mode) ? mode : is_sync(mode) ? UBD_CACHE_WRITETHROUGH : UBD_CACHE_WRITEBACK;
}

// A path for messages: its beginning and end, if it is long, and question marks
// for control characters. `to` has room for UBD_SHOWN_MAX.
void shorten_path(const char *path, char *to);

} // namespace ubd

#endif
