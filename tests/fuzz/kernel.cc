// SPDX-License-Identifier: GPL-2.0-only
/*
 * What core asks of the kernel, for targets that have nothing else which gives it.
 */
#include <cstdarg>
#include <cstdio>

#include "fuzz.hh"

int ubd_k_snprintf(char *to, size_t bytes, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	const int n = std::vsnprintf(to, bytes, format, args);
	va_end(args);
	return n;
}

void ubd_k_assert_failed(const char *what, const char *file, int line)
{
	ubd::fuzz::fail(file, line, "core asserts %s", what);
}
