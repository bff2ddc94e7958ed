// SPDX-License-Identifier: GPL-2.0-only
/*
 * What Debian's liburing.a and the compiler ask of a C library, in a module
 * that has none. liburing allocates only in functions that the module does not
 * call (its probe and its combined constructor).
 *
 * Context: any for what ends the kernel; process, may sleep, for the allocator.
 */
#include "sys.hh"

extern "C" {

[[noreturn]] void __stack_chk_fail()
{
	ubd_k_assert_failed("stack protector", "liburing", 0);
	for (;;)
		;
}

[[noreturn]] void __cxa_pure_virtual()
{
	ubd_k_assert_failed("pure virtual call", "ubd", 0);
	for (;;)
		;
}

void *ubd_liburing_calloc(size_t count, size_t bytes)
{
	size_t total;
	return __builtin_mul_overflow(count, bytes, &total) ? nullptr : ubd_k_zalloc(total);
}

void ubd_liburing_free(void *p)
{
	ubd_k_free(p);
}
}
