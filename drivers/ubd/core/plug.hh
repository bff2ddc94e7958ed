// SPDX-License-Identifier: GPL-2.0-only
/*
 * A disk that the guest's root describes by the files of a directory (configfs)
 * and then switches on: what these files take, and which disks go beside each
 * other.
 *
 * Any context, no lock, no memory.
 */
#ifndef UBD_CORE_PLUG_HH
#define UBD_CORE_PLUG_HH

#include "base.hh"

namespace ubd
{

/*
 * What a name is relative to `root` (an absolute name): a relative one itself, an
 * absolute one what follows the root's name.
 * nullptr if it does not begin so. It is the host's kernel that keeps it below
 * (host/names.hh): this is no check.
 */
const char *name_below(const char *root, const char *path);

} // namespace ubd

#endif
