// SPDX-License-Identifier: GPL-2.0-only
/*
 * Words for the host's error numbers, since neither the kernel nor a
 * freestanding C++ has strerror(3).
 *
 * Context: any, no lock.
 */
#include "base.hh"

namespace ubd
{
namespace
{

struct Words {
	int number;
	const char *text;
};

constexpr Words table[] = {
	{ 1, "Operation not permitted" },
	{ 2, "No such file or directory" },
	{ 4, "Interrupted system call" },
	{ 5, "Input/output error" },
	{ 6, "No such device or address" },
	{ 9, "Bad file descriptor" },
	{ 11, "Resource temporarily unavailable" },
	{ 12, "Cannot allocate memory" },
	{ 13, "Permission denied" },
	{ 14, "Bad address" },
	{ 16, "Device or resource busy" },
	{ 17, "File exists" },
	{ 18, "Invalid cross-device link" },
	{ 19, "No such device" },
	{ 20, "Not a directory" },
	{ 21, "Is a directory" },
	{ 22, "Invalid argument" },
	{ 23, "Too many open files in system" },
	{ 24, "Too many open files" },
	{ 26, "Text file busy" },
	{ 27, "File too large" },
	{ 28, "No space left on device" },
	{ 29, "Illegal seek" },
	{ 30, "Read-only file system" },
	{ 31, "Too many links" },
	{ 36, "File name too long" },
	{ 37, "No locks available" },
	{ 38, "Function not implemented" },
	{ 40, "Too many levels of symbolic links" },
	{ 61, "No data available" },
	{ 75, "Value too large for defined data type" },
	{ 95, "Operation not supported" },
	{ 110, "Connection timed out" },
	{ 116, "Stale file handle" },
	{ 117, "Structure needs cleaning" },
	{ 121, "Remote I/O error" },
	{ 122, "Disk quota exceeded" },
	{ 125, "Operation canceled" },
};

} // namespace

const char *errno_words(int number)
{
	for (const Words &w : table)
		if (w.number == number)
			return w.text;
	return "error";
}

} // namespace ubd
