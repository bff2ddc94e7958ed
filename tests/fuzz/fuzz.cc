// SPDX-License-Identifier: GPL-2.0-only
#include "fuzz.hh"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>

namespace ubd::fuzz
{

void fail(const char *file, int line, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	std::fprintf(stderr, "fuzz: broken: %s:%d: ", file, line);
	std::vfprintf(stderr, format, args);
	std::fputc('\n', stderr);
	va_end(args);
	std::abort();
}

} // namespace ubd::fuzz
