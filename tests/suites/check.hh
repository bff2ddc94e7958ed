// SPDX-License-Identifier: GPL-2.0-only
/*
 * How a shared test case states what it expects. Freestanding: the same text
 * is compiled for GoogleTest and for KUnit.
 *
 *	CHECK(condition)	fails the case and goes on
 *	CHECK_EQ(a, b)		the same, and tells both values
 *	REQUIRE(condition)	fails the case and leaves the function
 *
 * UBD_CASE(name) begins a case; a static function that no table names is an
 * error of the compiler, so a case cannot be forgotten.
 */
#ifndef UBD_TESTS_CHECK_HH
#define UBD_TESTS_CHECK_HH

#include "../../drivers/ubd/core/base.hh"
#include "suites.h"

#pragma GCC diagnostic error "-Wunused-function"

namespace ubd::test
{

bool failed_here(const char *file, int line, const char *format, ...) __attribute__((format(printf, 3, 4)));

inline bool check(bool ok, const char *file, int line, const char *text)
{
	return ok || failed_here(file, line, "expected: %s", text);
}

template <class A, class B> bool check_equal(A a, B b, const char *file, int line, const char *at, const char *bt)
{
	auto x = static_cast<long long>(a), y = static_cast<long long>(b);
	return x == y || failed_here(file, line, "expected: %s == %s, got %lld and %lld", at, bt, x, y);
}

// The values of a loop: for (bool hold : each(false, true)). There is no
// <initializer_list> in a guest.
template <class T, u32 n> struct Values {
	T value[n];
	const T *begin() const { return value; }
	const T *end() const { return value + n; }
};
template <class T, class... More> constexpr Values<T, 1 + sizeof...(More)> each(T first, More... more)
{
	return { { first, static_cast<T>(more)... } };
}

} // namespace ubd::test

#define CHECK(condition) ((void)::ubd::test::check(!!(condition), __FILE__, __LINE__, #condition))
#define CHECK_EQ(a, b) ((void)::ubd::test::check_equal((a), (b), __FILE__, __LINE__, #a, #b))
#define REQUIRE(condition)                                                              \
	do {                                                                            \
		if (!::ubd::test::check(!!(condition), __FILE__, __LINE__, #condition)) \
			return;                                                         \
	} while (0)

#define UBD_CASE(name) static void name(struct kunit *)
#define UBD_ENTRY(name)     \
	{                   \
#name, name \
	}

#endif
