// SPDX-License-Identifier: GPL-2.0-only
/*
 * What every file of core stands on: units, errors, assertions. Freestanding:
 * nothing here comes from Linux or a C library.
 */
#ifndef UBD_CORE_BASE_HH
#define UBD_CORE_BASE_HH

#include "ubd/abi.h"

namespace ubd
{

using u8 = ubd_u8;
using u32 = ubd_u32;
using s32 = ubd_s32;
using u64 = ubd_u64;

// A broken invariant stops the kernel: going on after one would mean guessing
// about somebody's data.
#define UBD_ASSERT(condition)                                                \
	do {                                                                 \
		if (__builtin_expect(!(condition), 0))                       \
			ubd_k_assert_failed(#condition, __FILE__, __LINE__); \
	} while (0)

// A number with a unit. Units mix only where an operator below says so.
template <class Tag> struct Quantity {
	u64 value = 0;

	constexpr Quantity() = default;
	constexpr explicit Quantity(u64 v) : value(v) {}
	constexpr auto operator<=>(const Quantity &) const = delete;
	constexpr bool operator==(const Quantity &o) const { return value == o.value; }
	constexpr bool operator<(const Quantity &o) const { return value < o.value; }
	constexpr bool operator<=(const Quantity &o) const { return value <= o.value; }
	constexpr bool operator>(const Quantity &o) const { return value > o.value; }
	constexpr bool operator>=(const Quantity &o) const { return value >= o.value; }
};

// A length in bytes.
using ByteCount = Quantity<struct ByteCountTag>;
// A position in bytes in the device, or in one of its files.
using ByteOffset = Quantity<struct ByteOffsetTag>;
// A position in sectors of 512 bytes in the device.
using SectorNumber = Quantity<struct SectorNumberTag>;

constexpr ByteOffset operator+(ByteOffset at, ByteCount n)
{
	return ByteOffset(at.value + n.value);
}
constexpr ByteCount operator+(ByteCount a, ByteCount b)
{
	return ByteCount(a.value + b.value);
}
constexpr ByteCount operator-(ByteCount a, ByteCount b)
{
	return ByteCount(a.value - b.value);
}
constexpr ByteOffset to_bytes(SectorNumber s)
{
	return ByteOffset(s.value << UBD_SECTOR_SHIFT);
}

// An errno of the host, 0 for none. Must be looked at.
struct [[nodiscard]] Error {
	int number = 0;

	constexpr explicit operator bool() const { return number != 0; }
};

inline constexpr Error no_error{};

// Passes an error up to the caller.
#define UBD_TRY(expression)                                                   \
	do {                                                                  \
		if (::ubd::Error ubd_try_error = (expression); ubd_try_error) \
			return ubd_try_error;                                 \
	} while (0)

// The host's errno values that decide something here (asm-generic/errno.h,
// which x86-64 uses unchanged).
enum ErrnoValue : int {
	errno_perm = 1,
	errno_noent = 2,
	errno_srch = 3,
	errno_intr = 4,
	errno_io = 5,
	errno_nxio = 6,
	errno_again = 11,
	errno_nomem = 12,
	errno_acces = 13,
	errno_fault = 14,
	errno_busy = 16,
	errno_exist = 17,
	errno_xdev = 18,
	errno_nodev = 19,
	errno_isdir = 21,
	errno_inval = 22,
	errno_fbig = 27,
	errno_nospc = 28,
	errno_rofs = 30,
	errno_mlink = 31,
	errno_range = 34,
	errno_nametoolong = 36,
	errno_nosys = 38,
	errno_nodata = 61,
	errno_opnotsupp = 95,
	errno_timedout = 110,
	errno_canceled = 125,
	errno_dquot = 122,
};

// The words for an errno, as strerror(3) has them; "error" for unknown ones.
const char *errno_words(int number);

template <class T> constexpr T min(T a, T b)
{
	return b < a ? b : a;
}

template <class T> constexpr T max(T a, T b)
{
	return a < b ? b : a;
}

// Where an object is to be constructed: new (Place{memory}) T. Core has no
// library header, so <new> is not there, and where it is this does not clash.
struct Place {
	void *memory;
};

} // namespace ubd

inline void *operator new(size_t, ubd::Place place) noexcept
{
	return place.memory;
}

#endif
