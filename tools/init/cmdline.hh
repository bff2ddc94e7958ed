/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel command line, as far as an initramfs has to obey it. The words
 * and their defaults are those of the kernel's own init/do_mounts.c and of
 * Documentation/admin-guide/kernel-parameters.txt.
 */
#pragma once

#include "text.hh"

struct CommandLine {
	Text root;
	Text rootfstype;
	Text rootflags;
	Text init;
	bool read_only = true;
	bool rootwait = false;
	unsigned rootdelay_s = 0;
	/* Hosts' channels of the consoles that a command's output goes to. */
	bool has_con1 = false;
	bool has_con2 = false;
	/* What the words ubd.<parameter>=<value> say, as finit_module takes it. */
	Buffer<4096> module_parameters;
};

/*
 * Reads /proc/cmdline. The texts live in static storage, and each ends with a
 * NUL, so that data() is a C string.
 */
const CommandLine &kernel_command_line();
