// SPDX-License-Identifier: GPL-2.0-only
/*
 * Process 1 of the initramfs: loads ubd.ko, finds and mounts the root that the
 * kernel command line names, and hands over to its init. It does for root=,
 * rootfstype=, rootflags=, ro, rw, rootwait, rootdelay= and init= what the
 * kernel itself does where there is no initramfs; the words
 * ubd.<parameter>=<value> go to the module.
 *
 * When it cannot go on it says why and offers a shell; when that ends it tries
 * once more. Then, or when nobody wants the shell, it powers the guest off with
 * status 1.
 *
 * Started under any other process number it is /run/ubd/run: see command.hh.
 */
#include "blockdev.hh"
#include "cmdline.hh"
#include "command.hh"
#include "text.hh"

#include <cerrno>
#include <cstdio>
#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

namespace
{

constexpr const char *module_path = "/ubd.ko";
constexpr const char *command_path = "/ubd-cmd";
constexpr const char *new_root = "/newroot";
/* A disk that our own module brings is there when it is loaded. */
constexpr unsigned default_wait_ms = 5000;
constexpr unsigned poll_ms = 20;
constexpr int shell_wait_s = 30;

void mount_or_say(const char *type, const char *point)
{
	mkdir(point, 0755);
	if (mount(type, point, type, 0, nullptr) != 0 && errno != EBUSY)
		say("cannot mount %s on %s: %s", type, point, strerror(errno));
}

void load_module(const CommandLine &line)
{
	int fd = open(module_path, O_RDONLY | O_CLOEXEC);

	if (fd < 0) {
		/* The kernel's own driver makes ours unnecessary. */
		if (access("/sys/bus/platform/drivers/uml-blkdev", F_OK) != 0)
			say("%s is not in the initramfs (%s): there will be no ubd disks", module_path,
			    strerror(errno));
		return;
	}
	if (line.module_parameters.truncated())
		say("the ubd.* parameters are too long, and were cut off");
	if (syscall(SYS_finit_module, fd, line.module_parameters.c_str(), 0) != 0 && errno != EEXIST) {
		int error = errno;
		say("cannot load %s with parameters '%s': %s", module_path, line.module_parameters.c_str(),
		    strerror(error));
		if (error == ENOEXEC)
			say("it was built for another kernel than this one; see dmesg");
	}
	close(fd);
}

/* Does this file system do without a block device? False for unknown ones, too. */
bool is_nodev(Text type)
{
	char text[4096];
	Text rest(text, read_file("/proc/filesystems", text, sizeof(text)));

	while (!rest.empty()) {
		Text name = next_field(rest, '\n');
		Text nodev = next_field(name, '\t');

		if (name == type)
			return nodev == "nodev";
	}
	return false;
}

bool wait_for_root(const CommandLine &line, Path &device)
{
	if (line.rootdelay_s > 0)
		sleep(line.rootdelay_s);

	for (unsigned waited = 0;; waited += poll_ms) {
		if (find_block_device(line.root, device))
			return true;
		if (!line.rootwait && waited >= default_wait_ms)
			return false;
		if (waited == 1000)
			say("waiting for the root device %s", line.root.data());
		usleep(poll_ms * 1000);
	}
}

/* One attempt. False when the type is not the right one. */
bool try_mount(const char *device, const char *type, const CommandLine &line, int &error)
{
	unsigned long flags = MS_SILENT | (line.read_only ? MS_RDONLY : 0);
	const char *options = line.rootflags.empty() ? nullptr : line.rootflags.data();

	if (mount(device, new_root, type, flags, options) == 0)
		return true;
	error = errno;
	/* As the kernel does: a medium that cannot be written still boots. */
	if ((error == EACCES || error == EROFS) && !line.read_only &&
	    mount(device, new_root, type, flags | MS_RDONLY, options) == 0) {
		say("%s cannot be written: mounted read-only", device);
		return true;
	}
	return false;
}

/*
 * Calls @attempt(type) for each type that comes into question until one fits:
 * those that rootfstype= lists, or else what the superblock says and then all
 * that the kernel knows.
 */
template <typename Attempt> bool any_type(const char *device, const CommandLine &line, Attempt attempt)
{
	char text[4096];

	if (!line.rootfstype.empty()) {
		Text rest = line.rootfstype;

		while (!rest.empty()) {
			if (attempt(Path(next_field(rest, ','))))
				return true;
		}
		return false;
	}

	Text probed = probe_file_system(device);
	if (!probed.empty() && attempt(Path(probed)))
		return true;
	Text rest(text, read_file("/proc/filesystems", text, sizeof(text)));
	while (!rest.empty()) {
		Text name = next_field(rest, '\n');
		Text nodev = next_field(name, '\t');

		if (!nodev.empty() || name == probed)
			continue;
		if (attempt(Path(name)))
			return true;
	}
	return false;
}

bool mount_device(const char *device, const CommandLine &line)
{
	Buffer<512> tried;

	bool mounted = any_type(device, line, [&](const Path &type) {
		int error = 0;

		if (try_mount(device, type.c_str(), line, error))
			return true;
		tried.append(tried.empty() ? "" : ", ")
			.append(type.text())
			.append(" (")
			.append(strerror(error))
			.append(")");
		return false;
	});
	if (!mounted)
		say("cannot mount root %s; tried %s%s%s", device, tried.empty() ? "no file system type" : tried.c_str(),
		    line.rootflags.empty() ? "" : ", with rootflags=",
		    line.rootflags.empty() ? "" : line.rootflags.data());
	return mounted;
}

bool mount_root(const CommandLine &line)
{
	Path device;

	mkdir(new_root, 0755);
	if (is_nodev(line.rootfstype)) {
		int error = 0;

		if (try_mount("root", line.rootfstype.data(), line, error))
			return true;
		say("cannot mount root of type %s with rootflags=%s: %s", line.rootfstype.data(), line.rootflags.data(),
		    strerror(error));
		return false;
	}
	if (line.root.empty()) {
		say("the kernel command line names no root=");
		return false;
	}
	if (!valid_device_spec(line.root)) {
		say("cannot understand root=%s: give /dev/NAME, MAJOR:MINOR, UUID=, LABEL=, "
		    "PARTUUID= or PARTLABEL=",
		    line.root.data());
		return false;
	}
	if (!wait_for_root(line, device)) {
		say("the root device %s does not exist (waited %u s)", line.root.data(), default_wait_ms / 1000);
		return false;
	}
	return mount_device(device.c_str(), line);
}

/* Is @program one that can be started in the new root? A link there may be absolute. */
bool executable_in_root(const char *program)
{
	pid_t child = fork();
	int status;

	/* Only in a root of its own is a path resolved as it will be. */
	if (child == 0)
		_exit(chroot(new_root) == 0 && access(program, X_OK) == 0 ? 0 : 1);
	return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

const char *find_init(const CommandLine &line)
{
	static constexpr const char *candidates[] = { "/sbin/init", "/etc/init", "/bin/init", "/bin/sh" };

	if (!line.init.empty()) {
		if (executable_in_root(line.init.data()))
			return line.init.data();
		say("root has no program init=%s", line.init.data());
		return nullptr;
	}
	for (const char *candidate : candidates) {
		if (executable_in_root(candidate))
			return candidate;
	}
	say("root has no init: tried /sbin/init, /etc/init, /bin/init, /bin/sh");
	return nullptr;
}

/* Empties a directory of the initramfs, and stays on its file system. */
void remove_contents(int parent, dev_t device)
{
	DIR *directory = fdopendir(parent);

	if (directory == nullptr)
		return;
	while (const dirent *entry = readdir(directory)) {
		struct stat status;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (fstatat(dirfd(directory), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0 ||
		    status.st_dev != device)
			continue;
		if (S_ISDIR(status.st_mode)) {
			int child = openat(dirfd(directory), entry->d_name,
					   O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
			if (child >= 0)
				remove_contents(child, device);
			unlinkat(dirfd(directory), entry->d_name, AT_REMOVEDIR);
		} else {
			unlinkat(dirfd(directory), entry->d_name, 0);
		}
	}
	closedir(directory);
}

/* Its files are guest memory that nobody could reach any more. */
void free_initramfs()
{
	struct statfs fs;
	struct stat status;
	int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (root < 0)
		return;
	/* Never delete from anything that could be somebody's disk. */
	if (fstatfs(root, &fs) == 0 && fstat(root, &status) == 0 &&
	    (fs.f_type == RAMFS_MAGIC || fs.f_type == TMPFS_MAGIC))
		remove_contents(root, status.st_dev);
	else
		close(root);
}

void move_mount(const char *from)
{
	Path to;

	to.append(new_root).append(from);
	if (mount(from, to.c_str(), nullptr, MS_MOVE, nullptr) != 0)
		umount2(from, MNT_DETACH);
}

bool switch_root()
{
	move_mount("/dev");
	move_mount("/proc");
	move_mount("/sys");
	if (chdir(new_root) != 0) {
		say("cannot enter the root: %s", strerror(errno));
		return false;
	}
	free_initramfs();
	if (mount(".", "/", nullptr, MS_MOVE, nullptr) != 0 || chroot(".") != 0 || chdir("/") != 0) {
		say("cannot make the mounted file system the root: %s", strerror(errno));
		return false;
	}
	return true;
}

/* Mounts the root and becomes its init. Returns only when that fails. */
void boot(const CommandLine &line, bool with_command, char **arguments)
{
	if (!mount_root(line))
		return;

	bool hook = access("/newroot/etc/ubd-run", F_OK) == 0;
	const char *program = with_command && !hook ? "" : find_init(line);

	if (program == nullptr || (with_command && hook && !hand_over_command(new_root, "/proc/self/exe"))) {
		umount2(new_root, MNT_DETACH);
		return;
	}
	if (!switch_root()) {
		/* There is no initramfs to go back to. */
		set_exit_code(1);
		power_off();
	}
	if (with_command && !hook) {
		mount("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755");
		mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, nullptr);
		run_command("-c");
		power_off();
	}
	arguments[0] = const_cast<char *>(program);
	execv(program, arguments);
	say("cannot start %s: %s", program, strerror(errno));
	set_exit_code(1);
	power_off();
}

/*
 * Is somebody there? A console whose input is at its end, or was never one,
 * gives nothing at all, and a shell would wait for ever.
 */
bool user_wants_shell()
{
	char line[64];
	int fd = open("/dev/tty0", O_RDONLY | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		fd = open("/dev/console", O_RDONLY | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return false;

	say("press Enter within %d s for a shell", shell_wait_s);
	pollfd input = { fd, POLLIN, 0 };
	bool wanted = poll(&input, 1, shell_wait_s * 1000) == 1 && read(fd, line, sizeof(line)) > 0;
	close(fd);
	return wanted;
}

/* A shell that is the console's own session, so that ^C and ^Z work. */
void run_shell()
{
	pid_t child = fork();

	if (child == 0) {
		setsid();
		/* /dev/console cannot be a controlling terminal; what is behind it can. */
		int fd = open("/dev/tty0", O_RDWR);
		if (fd < 0)
			fd = open("/dev/console", O_RDWR);
		if (fd >= 0) {
			ioctl(fd, TIOCSCTTY, 1);
			for (int to = 0; to <= 2; ++to)
				dup2(fd, to);
		}
		setenv("PS1", "initramfs# ", 1);
		execl("/bin/busybox", "sh", nullptr);
		say("cannot start a shell: %s", strerror(errno));
		_exit(127);
	}
	while (child > 0 && wait(nullptr) != child)
		;
}

/* As /run/ubd/run: see command.hh. */
int run_in_root(int count, char **arguments)
{
	bool login = false;
	bool end_guest = false;

	for (int i = 1; i < count; ++i) {
		login |= strcmp(arguments[i], "--login") == 0;
		end_guest |= strcmp(arguments[i], "--power-off") == 0;
	}
	if (!load_command("/run/ubd/cmd")) {
		fprintf(stderr, "%s is for process 1 of the ubd initramfs\n", arguments[0]);
		return 2;
	}
	run_command(login ? "-lc" : "-c");
	if (end_guest)
		power_off();
	return 0;
}

} // namespace

int main(int count, char **arguments)
{
	if (getpid() != 1)
		return run_in_root(count, arguments);

	mount_or_say("proc", "/proc");
	mount_or_say("sysfs", "/sys");
	mount_or_say("devtmpfs", "/dev");

	const CommandLine &line = kernel_command_line();
	bool with_command = load_command(command_path);

	/* Whoever waits for a command's status must not take our end for success. */
	if (with_command)
		set_exit_code(1);
	load_module(line);
	boot(line, with_command, arguments);

	list_block_devices();
	if (!with_command && user_wants_shell()) {
		say("when this shell ends, the root is tried once more");
		run_shell();
		boot(line, with_command, arguments);
	}
	say("no root: powering off");
	set_exit_code(1);
	power_off();
}
