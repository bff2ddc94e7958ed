// SPDX-License-Identifier: GPL-2.0-only
/*
 * What several commands make.
 */
#ifndef UBD_TOOLS_COW_MAKE_HH
#define UBD_TOOLS_COW_MAKE_HH

#include "copy.hh"

namespace ubd::tool
{

// The header of a new file of that path over the backing file, which is locked.
CowHeader new_header(const std::string &path, const File &backing);

// What the guest sees, into a new file.
void flatten(const Image &cow, const File &backing, const File &to);

} // namespace ubd::tool

#endif
