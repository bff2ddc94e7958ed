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

struct Run {
	ByteOffset offset; // in the file
	ByteCount bytes; // > 0
	u8 file = 0;
};

class Layout {
public:
	// The longest run that begins at `at`, at most `max` bytes (> 0), for a
	// read or for anything that changes the device.
	virtual Run next_run(bool reading, ByteOffset at, ByteCount max) const = 0;

protected:
	~Layout() = default;
};

// One raw file, byte for byte.
class RawLayout final : public Layout {
public:
	Run next_run(bool, ByteOffset at, ByteCount max) const override { return Run{ at, max, 0 }; }
};

} // namespace ubd

#endif
