/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The shared test suites: written once, run on the host under GoogleTest
 * (tests/unit) and in the guest under KUnit (tests/kunit). Read by C and C++.
 *
 * A case is a function; a suite is a table of cases that ends with a NULL. The
 * two runners implement the functions at the end.
 */
#ifndef UBD_TESTS_SUITES_H
#define UBD_TESTS_SUITES_H

#ifdef __KERNEL__
#include <linux/stdarg.h>
#include <linux/types.h>
#else
#include <stdarg.h>
#include <stddef.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

struct kunit; /* KUnit's; a null pointer on the host */

struct ubd_test_case {
	const char *name;
	void (*run)(struct kunit *);
};

/* Each is a table `ubd_suite_<name>`. */
#define UBD_SHARED_SUITES(X) \
	X(options)           \
	X(plug)              \
	X(split)             \
	X(tickets)           \
	X(pools)             \
	X(pump)              \
	X(ring_limits)       \
	X(queues)            \
	X(errors)            \
	X(werror)            \
	X(cow_format)        \
	X(cow_bitmap)        \
	X(cow_commit)        \
	X(resize)            \
	X(cache_modes)       \
	X(zeroes)            \
	X(guard)             \
	X(timeouts)          \
	X(polling)           \
	X(await)             \
	X(faults)            \
	X(record)            \
	X(trace)             \
	X(soak)

#define UBD_DECLARE_SUITE(name) extern const struct ubd_test_case ubd_suite_##name[];
UBD_SHARED_SUITES(UBD_DECLARE_SUITE)

/* -- implemented by the runner ------------------------------------------- */

/* Marks the case that runs as failed; it goes on. Any context. */
void ubd_test_fail(const char *file, int line, const char *text);
/* Zeroed; the case fails and the runner stops when there is none. Atomic. */
void *ubd_test_alloc(size_t bytes);
void ubd_test_free(void *p);
int ubd_test_vsnprintf(char *to, size_t bytes, const char *format, va_list args);
/* How many seeds a random case takes: many on the host, few in a guest. */
unsigned int ubd_test_seeds(void);
/* After a failure that cannot be gone on from. Does not return. */
void ubd_test_stop(const char *why);

#ifdef __cplusplus
}
#endif

#endif
