// SPDX-License-Identifier: GPL-2.0-only
/*
 * The directory of hot plug, and names below it.
 *
 * Context: process, may sleep, under kernel/'s device mutex.
 */
#include "names.hh"

#include "../core/options.hh"
#include "../core/plug.hh"

#include <fcntl.h>
#include <linux/openat2.h>

namespace ubd
{
namespace
{

using sys::to_error;

// The directory: where it lies, whatever its name is later, and its whole names.
struct Root {
	int fd;
	char *given; // by the host's user
	char *name; // without symbolic links
};
constinit Root root = { -1, nullptr, nullptr };

int open_below(const Root &r, const char *path, int flags)
{
	constexpr int tries = 16; // something was renamed meanwhile
	open_how how{};
	how.flags = static_cast<u64>(flags);
	how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
	int fd = -errno_again;
	for (int i = 0; i < tries && (fd == -errno_again || fd == -errno_intr); i++)
		fd = static_cast<int>(
			sys::call(SYS_openat2, r.fd, sys::arg(path), sys::arg(&how), static_cast<long>(sizeof(how))));
	return fd;
}

// From where UML was started.
Error make_absolute_here(const char *path, char *to, size_t bytes)
{
	size_t n = 0;
	if (path[0] != '/') {
		long got = sys::call(SYS_getcwd, sys::arg(to), static_cast<long>(bytes));
		if (got == -errno_range)
			return Error{ errno_nametoolong };
		if (got < 0)
			return to_error(got);
		n = static_cast<size_t>(got) - 1; // with its NUL
		if (n > 1)
			to[n++] = '/';
	}
	const size_t length = __builtin_strlen(path);
	if (n + length >= bytes)
		return Error{ errno_nametoolong };
	__builtin_memcpy(to + n, path, length + 1);
	return no_error;
}

// COW headers may have either name of the directory. The given one comes first: it may
// lie in the directory that it stands for.
const char *rest_of(const char *path)
{
	const char *rest = name_below(root.given, path);
	return rest ? rest : name_below(root.name, path);
}

void free_root(Root &r)
{
	if (r.fd >= 0)
		(void)sys::close(r.fd);
	ubd_k_free(r.given);
	ubd_k_free(r.name);
	r = { -1, nullptr, nullptr };
}

// Leaves nothing behind when it fails.
Error open_root(const char *directory, Root &r)
{
	char link[40];
	r.fd = sys::open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	Error e = to_error(r.fd);
	if (!e) {
		ubd_k_snprintf(link, sizeof(link), "/proc/self/fd/%d", r.fd);
		r.given = static_cast<char *>(ubd_k_zalloc(UBD_PATH_MAX));
		r.name = static_cast<char *>(ubd_k_zalloc(UBD_PATH_MAX));
		e = r.given && r.name ? make_absolute_here(directory, r.given, UBD_PATH_MAX) : Error{ errno_nomem };
	}
	if (!e)
		e = to_error(sys::call(SYS_readlink, sys::arg(link), sys::arg(r.name), UBD_PATH_MAX - 1));
	if (e)
		free_root(r);
	return e;
}

} // namespace

Error HostName::find(const char *text, bool below)
{
	path_ = text;
	if (!below)
		return no_error;
	const char *rest = rest_of(text);
	if (!rest)
		return Error{ errno_xdev };
	// Opened for nothing but its place: that waits for no FIFO, and its closing
	// drops no lock of the kernel's own driver.
	fd_.reset(open_below(root, rest, O_PATH | O_CLOEXEC));
	if (!fd_.valid())
		return to_error(fd_.get());
	ubd_k_snprintf(link_, sizeof(link_), "/proc/self/fd/%d", fd_.get());
	path_ = link_;
	return no_error;
}

Error stat_path(const char *path, struct stat &st, bool below)
{
	HostName name;
	UBD_TRY(name.find(path, below));
	return to_error(sys::call(SYS_stat, sys::arg(name.path()), sys::arg(&st)));
}

Error make_absolute(const char *path, bool below, char *to, size_t bytes)
{
	if (!below)
		return make_absolute_here(path, to, bytes);
	const char *rest = rest_of(path);
	if (!rest)
		return Error{ errno_xdev };
	const char *slash = root.name[1] ? "/" : "";
	const int n = ubd_k_snprintf(to, bytes, "%s%s%s", root.name, slash, rest);
	return static_cast<size_t>(n) < bytes ? no_error : Error{ errno_nametoolong };
}

} // namespace ubd

int ubd_hotplug_open(const char *directory)
{
	using namespace ubd;
	char shown[UBD_SHOWN_MAX];
	shorten_path(directory, shown);
	Root r{ -1, nullptr, nullptr };
	Error e = open_root(directory, r);
	const char *what = e ? "cannot open the directory" : "the host has no openat2 with RESOLVE_BENEATH (Linux 5.6)";
	// Older hosts, and some sandboxes, have no such call.
	if (!e) {
		const sys::Fd probe(open_below(r, ".", O_PATH | O_CLOEXEC));
		e = to_error(probe.get());
	}
	if (e) {
		free_root(r);
		ubd_k_log(UBD_LOG_ERROR, false, "ubd=hotplug:%s: %s: %s (%d); hot plug stays off\n", shown, what,
			  errno_words(e.number), e.number);
		return e.number;
	}
	root = r;
	ubd_k_log(UBD_LOG_INFO, false, "hot plug: the guest's root may attach files below %s\n", shown);
	return 0;
}

bool ubd_hotplug_allowed()
{
	return ubd::root.fd >= 0;
}

void ubd_hotplug_close()
{
	ubd::free_root(ubd::root);
}
