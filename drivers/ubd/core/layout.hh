// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where the bytes of a device lie in its files. The pump asks for one run
 * after the other; a COW layout answers with the COW file for some and the
 * backing file for others. Queue lock held, atomic context, no allocation.
 */
#ifndef UBD_CORE_LAYOUT_HH
#define UBD_CORE_LAYOUT_HH

#include "base.hh"

namespace ubd
{

// Which of its files a device means, and by which opening: one that is used with
// O_DIRECT has another, buffered_file further.
inline constexpr u8 main_file = 0; // the one written to
inline constexpr u8 backing_file = 1;
inline constexpr u8 buffered_file = 2; // the one written to, not by O_DIRECT

struct Run {
	ByteOffset offset; // in the file
	ByteCount bytes; // > 0
	u8 file = main_file;
	bool skip = false; // nothing is to be done there
};

class Layout {
public:
	// The longest run that begins at `at`, at most `max` bytes (> 0), for an
	// operation (a ubd_op). Both are whole sectors.
	virtual Run next_run(u8 op, ByteOffset at, ByteCount max) const = 0;

protected:
	~Layout() = default;
};

// One raw file, byte for byte.
class RawLayout final : public Layout {
public:
	Run next_run(u8, ByteOffset at, ByteCount max) const override { return Run{ at, max, main_file }; }
};

} // namespace ubd

#endif
