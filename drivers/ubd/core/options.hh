// SPDX-License-Identifier: GPL-2.0-only
/*
 * The command line of the kernel's own driver:
 *
 *	ubd<n><flags>=<file>[(,|:)<backing>[(,|:)<serial>]]
 *	ubd=sync
 *	ubd=cache:<mode>
 *
 * n is a number (decimal, 0octal, 0xhex) or one small letter, flags are any of
 * r s c d t, at most six. What is accepted and what is not follows
 * arch/um/drivers/ubd_kern.c, ubd_setup_common(); the messages are ours, and
 * ubd=cache: is, which holds for what follows, as ubd=sync does.
 * Any context, no lock, no memory.
 */
#ifndef UBD_CORE_OPTIONS_HH
#define UBD_CORE_OPTIONS_HH

#include "base.hh"

namespace ubd
{

// A path for messages: its beginning and end, if it is long, and question marks
// for control characters. `to` has room for UBD_SHOWN_MAX.
void shorten_path(const char *path, char *to);

} // namespace ubd

#endif
