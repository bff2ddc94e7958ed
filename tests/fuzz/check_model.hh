// SPDX-License-Identifier: GPL-2.0-only
/*
 * What ubd-cow has to find in a COW file and to say of it, worked out from the
 * file's bytes another way. Of core only the parser of headers is used, which has
 * a target of its own.
 */
#ifndef UBD_FUZZ_CHECK_MODEL_HH
#define UBD_FUZZ_CHECK_MODEL_HH

#include "../../drivers/ubd/core/cow_format.hh"
#include "check_files.hh"

namespace ubd::fuzz
{

// A part of the device, sectors.
struct Sectors {
	u64 first = 0, end = 0;
	bool operator==(const Sectors &) const = default;
};

CowRead header_of(const Content &file, CowHeader &header);
// The sectors that it has by its bitmap: maximal runs, ascending.
std::vector<Sectors> runs_of(const Content &cow, const CowHeader &h);
// Where the last of these ends in the file, or 0 if there is none.
u64 end_of_bits(const Content &cow, const CowHeader &h);
// What of these is not all zeros, as is its backing file: by pieces of so many
// sectors.
std::vector<Sectors> differences(const Content &cow, const CowHeader &h, u64 piece);
bool is_within(const std::vector<Sectors> &inner, const std::vector<Sectors> &outer);

// The kinds that `ubd-cow check` has to name, in this order.
std::vector<std::string> findings(const Content &cow, const std::string &name);
// What --repair makes of it.
Content repaired(const Content &cow);
// The path by which the backing file is looked for.
std::string backing_path(const CowHeader &h, const std::string &name);

} // namespace ubd::fuzz

#endif
