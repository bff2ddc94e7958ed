// SPDX-License-Identifier: GPL-2.0-only
#include "command.hh"

#include "cmdline.hh"
#include "text.hh"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

namespace
{

/* As long as one argument of a program may be (MAX_ARG_STRLEN of Linux). */
constexpr size_t command_max = 128 * 1024;
char command_text[command_max];
size_t command_length;

bool write_whole_file(const char *path, const char *data, size_t length, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

	if (fd < 0)
		return false;
	while (length > 0) {
		ssize_t n = write(fd, data, length);
		if (n <= 0)
			break;
		data += n;
		length -= n;
	}
	return close(fd) == 0 && length == 0;
}

bool copy_file(const char *from, const char *to, mode_t mode)
{
	static char block[65536];
	ssize_t n = -1;
	int in = open(from, O_RDONLY | O_CLOEXEC);
	int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

	if (in >= 0 && out >= 0) {
		while ((n = read(in, block, sizeof(block))) > 0 && write(out, block, n) == n)
			;
	}
	if (in >= 0)
		close(in);
	if (out >= 0 && close(out) != 0)
		n = -1;
	return n == 0;
}

/*
 * Opens a console for output that goes into a pipe or a file of the host, byte
 * by byte: whether it needs carriage returns is for the host's terminal to say.
 */
int open_output(const char *path)
{
	termios settings;
	int fd = open(path, O_WRONLY | O_NOCTTY | O_CLOEXEC);

	if (fd >= 0 && tcgetattr(fd, &settings) == 0) {
		settings.c_oflag &= ~OPOST;
		tcsetattr(fd, TCSANOW, &settings);
	}
	return fd;
}

int open_console_output(bool own, const char *path)
{
	int fd = own ? open_output(path) : -1;

	return fd >= 0 ? fd : open("/dev/console", O_WRONLY | O_NOCTTY | O_CLOEXEC);
}

[[noreturn]] void exec_command(int out, int err, const char *shell_options)
{
	static const char *const environment[] = {
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root",
		"USER=root",
		"LOGNAME=root",
		"SHELL=/bin/sh",
		"TERM=dumb",
		"DEBIAN_FRONTEND=noninteractive",
		nullptr,
	};
	int in = open("/dev/null", O_RDONLY);

	setsid();
	if (in >= 0)
		dup2(in, STDIN_FILENO);
	else
		close(STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	dup2(err, STDERR_FILENO);
	if (in > STDERR_FILENO)
		close(in);
	if (chdir("/root") != 0 && chdir("/") != 0)
		_exit(126);
	execle("/bin/sh", "sh", shell_options, command_text, nullptr, environment);
	say("cannot run /bin/sh: %s", strerror(errno));
	_exit(127);
}

/* Waits for one child; as process 1 this also reaps those that nobody waits for. */
int wait_for(pid_t child)
{
	int status;

	for (;;) {
		pid_t done = wait(&status);

		if (done < 0 && errno != EINTR)
			return 127;
		if (done != child)
			continue;
		if (WIFEXITED(status))
			return WEXITSTATUS(status);
		if (WIFSIGNALED(status))
			return 128 + WTERMSIG(status);
	}
}

/* Switches off all swap, so that its devices are idle when the guest ends. */
void swap_off()
{
	char text[2048];
	Text rest(text, read_file("/proc/swaps", text, sizeof(text)));

	next_field(rest, '\n');
	while (!rest.empty()) {
		Text line = next_field(rest, '\n');
		Path path(next_field(line, ' '));

		if (!path.empty())
			swapoff(path.c_str());
	}
}

/* Those that hold nothing to be lost, and what we may still need of them. */
bool is_virtual(Text type)
{
	static constexpr Text types[] = { "proc",  "sysfs",   "devtmpfs", "devpts",  "tmpfs",  "rootfs",
					  "ramfs", "debugfs", "configfs", "tracefs", "cgroup", "cgroup2" };

	for (Text known : types) {
		if (type == known)
			return true;
	}
	return false;
}

/* Unmounts file systems, the last mounted first; what is busy gets read-only. */
void unmount_all()
{
	static char text[65536];
	static Text points[512];
	size_t count = 0;
	Text rest(text, read_file("/proc/self/mounts", text, sizeof(text)));

	while (!rest.empty() && count < sizeof(points) / sizeof(points[0])) {
		Text line = next_field(rest, '\n');

		next_field(line, ' ');
		Text point = next_field(line, ' ');
		if (!is_virtual(next_field(line, ' ')))
			points[count++] = point;
	}
	while (count > 0) {
		Path point(points[--count]);

		if (umount2(point.c_str(), UMOUNT_NOFOLLOW) != 0)
			mount(nullptr, point.c_str(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr);
	}
}

} // namespace

bool load_command(const char *path)
{
	command_length = read_file(path, command_text, sizeof(command_text));
	return command_length > 0;
}

bool hand_over_command(const char *root, const char *program)
{
	Path run, directory, file;

	run.append(root).append("/run");
	mkdir(run.c_str(), 0755);
	if (mount("tmpfs", run.c_str(), "tmpfs", MS_NOSUID | MS_NODEV, "mode=755") != 0) {
		say("cannot mount a tmpfs on %s: %s", run.c_str(), strerror(errno));
		return false;
	}
	directory.append(run.text()).append("/ubd");
	mkdir(directory.c_str(), 0755);
	file.append(directory.text()).append("/cmd");
	if (!write_whole_file(file.c_str(), command_text, command_length, 0644)) {
		say("cannot write %s: %s", file.c_str(), strerror(errno));
		return false;
	}
	Path copy;
	copy.append(directory.text()).append("/run");
	if (!copy_file(program, copy.c_str(), 0755)) {
		say("cannot copy %s to %s: %s", program, copy.c_str(), strerror(errno));
		return false;
	}
	return true;
}

int run_command(const char *shell_options)
{
	const CommandLine &line = kernel_command_line();
	int out = open_console_output(line.has_con1, "/dev/tty1");
	int err = open_console_output(line.has_con2, "/dev/tty2");

	/* A command that powers off by itself has not failed. */
	set_exit_code(0);
	pid_t child = fork();
	if (child == 0)
		exec_command(out, err, shell_options);
	int status = child < 0 ? 127 : wait_for(child);
	if (child < 0)
		say("cannot start the command: %s", strerror(errno));

	/* A full pipe on the host keeps output back: the guest must not end before. */
	tcdrain(out);
	tcdrain(err);
	set_exit_code(status);
	return status;
}

void set_exit_code(int code)
{
	char text[16];

	int n = snprintf(text, sizeof(text), "%d\n", code);
	write_file("/proc/exitcode", Text(text, n));
}

void power_off()
{
	sync();
	/* What a command left running would keep file systems busy. */
	kill(-1, SIGTERM);
	usleep(50 * 1000);
	kill(-1, SIGKILL);
	swap_off();
	unmount_all();
	sync();
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}
