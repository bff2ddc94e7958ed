// SPDX-License-Identifier: GPL-2.0-only
#include "text.hh"

#include <cstdarg>
#include <cstdio>
#include <fcntl.h>
#include <unistd.h>

size_t read_file(const char *path, char *buffer, size_t capacity)
{
	size_t length = 0;
	ssize_t n = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd >= 0) {
		while (length < capacity - 1 && (n = read(fd, buffer + length, capacity - 1 - length)) > 0)
			length += n;
		close(fd);
	}
	buffer[length] = '\0';
	return length;
}

bool write_file(const char *path, Text text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return false;
	bool ok = write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
	close(fd);
	return ok;
}

void say(const char *format, ...)
{
	char line[1024];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	/* One write, so that kernel messages do not land in the middle. */
	dprintf(STDERR_FILENO, "init: %s\n", line);
}
