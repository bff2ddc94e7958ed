// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the fuzz targets share: an input that is taken apart from its front, and
 * the way out when a rule is broken. libFuzzer keeps the input that led there.
 */
#ifndef UBD_FUZZ_FUZZ_HH
#define UBD_FUZZ_FUZZ_HH

#include <cstring>
#include <memory>

#include "../../drivers/ubd/core/base.hh"

// libFuzzer calls these.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

namespace ubd::fuzz
{

// Says what was broken, and ends the process as a crash does.
[[noreturn]] [[gnu::format(printf, 3, 4)]] void fail(const char *file, int line, const char *format, ...);

#define REQUIRE(condition)                                                       \
	do {                                                                     \
		if (!(condition))                                                \
			::ubd::fuzz::fail(__FILE__, __LINE__, "%s", #condition); \
	} while (0)

#define REQUIRE_EQ(a, b)                                                                                             \
	do {                                                                                                         \
		const unsigned long long fuzz_a = (a), fuzz_b = (b);                                                 \
		if (fuzz_a != fuzz_b)                                                                                \
			::ubd::fuzz::fail(__FILE__, __LINE__, "%s is %llu, and %s is %llu", #a, fuzz_a, #b, fuzz_b); \
	} while (0)

// What is asked for beyond the input's end is zero.
class Input {
public:
	Input(const u8 *at, size_t left) : at_(at), left_(left) {}

	bool empty() const { return !left_; }
	size_t left() const { return left_; }
	const u8 *at() const { return at_; }
	u8 byte() { return static_cast<u8>(number(1)); }
	// Little-endian, of so many bytes.
	u64 number(u32 bytes)
	{
		u64 v = 0;
		for (u32 i = 0; i < bytes && left_; i++, at_++, left_--)
			v |= static_cast<u64>(*at_) << 8 * i;
		return v;
	}
	// At most `most` bytes.
	Input part(size_t most)
	{
		const size_t n = most < left_ ? most : left_;
		const Input front(at_, n);
		at_ += n;
		left_ -= n;
		return front;
	}

private:
	const u8 *at_;
	size_t left_;
};

// Memory of just this size, so that AddressSanitizer sees a byte that is read
// beyond it; also where the size is 0.
template <class T> class Exact {
public:
	explicit Exact(size_t n) : memory_(new T[n ? n : 1]()), empty_(!n) {}
	Exact(const void *from, size_t n) : Exact(n)
	{
		if (n)
			std::memcpy(memory_.get(), from, n * sizeof(T));
	}
	T *get() const { return memory_.get() + empty_; }

private:
	const std::unique_ptr<T[]> memory_;
	const bool empty_;
};

} // namespace ubd::fuzz

#endif
