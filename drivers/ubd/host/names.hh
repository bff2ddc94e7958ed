// SPDX-License-Identifier: GPL-2.0-only
/*
 * Names of host files: anywhere, as the host's user wrote them, or only below the
 * one directory that he named for hot plug (ubd=hotplug:DIR), when it is the
 * guest's root who names them. The host's kernel sees to the latter
 * (RESOLVE_BENEATH of openat2(2)): no "..", no symbolic link and no race leads out.
 *
 * Context: process, may sleep, under kernel/'s device mutex.
 */
#ifndef UBD_HOST_NAMES_HH
#define UBD_HOST_NAMES_HH

#include "sys.hh"

namespace ubd
{

// What a name is good for, as long as this is there: it may hold a descriptor.
class HostName {
public:
	HostName() = default;
	HostName(const HostName &) = delete;
	HostName &operator=(const HostName &) = delete;

	// With `below`, finds what the text names below the directory, and only
	// there: errno_xdev if it is elsewhere. Without, all names are good.
	Error find(const char *text, bool below);
	// For sys::open() and others. Of what was found, whatever is renamed since.
	const char *path() const { return path_; }
	// That are open for it in this process.
	u32 descriptors() const { return fd_.valid(); }

private:
	sys::Fd fd_;
	const char *path_ = "";
	char link_[40];
};

// stat(2), or an errno.
Error stat_path(const char *path, struct stat &st, bool below = false);

// The name from the root directory on, as it is written into COW headers.
Error make_absolute(const char *path, bool below, char *to, size_t bytes);

} // namespace ubd

#endif
