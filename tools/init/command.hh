/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A command that came with the initramfs, to be run in the guest's root: the
 * file /ubd-cmd, which `make run CMD=...` appends. Its output goes to consoles
 * of its own when there are some (con1= for stdout, con2= for stderr), and its
 * status becomes that of the User Mode Linux process, by /proc/exitcode.
 *
 * A root that knows of this has the file /etc/ubd-run and starts
 * /run/ubd/run, this program, when it is up, and then powers off (or has that
 * done by --power-off; with --login the shell reads its profile first); in any other root init itself runs the command, in place
 * of the root's init.
 */
#pragma once

/* Is there a command? Reads it into memory. */
bool load_command(const char *path);

/* Puts program and command into /run of the root at @root, a tmpfs. */
bool hand_over_command(const char *root, const char *program);

/*
 * Runs the command in the root that the caller is in, waits for it and tells
 * the host its status. Returns the status, as a shell counts. @shell_options are
 * for /bin/sh, the command follows them.
 */
int run_command(const char *shell_options);

/* What the User Mode Linux process exits with, from now on. */
void set_exit_code(int code);

/* Ends all processes, unmounts what can be unmounted, ends the guest. */
[[noreturn]] void power_off();
