/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A plug-in for GNU make: $(exit-make N) ends make with status N, where a
 * recipe that fails makes it 2 whatever the recipe's status was. Without it (a
 * make without plug-ins) `make run` still fails when the guest's command does.
 */
#include <gnumake.h>
#include <stdio.h>
#include <stdlib.h>

int plugin_is_GPL_compatible;

static char *exit_make(const char *name, unsigned int count, char **arguments)
{
	(void)name;
	(void)count;
	fflush(stdout);
	exit(atoi(arguments[0]));
}

int make_exit_gmk_setup(void)
{
	gmk_add_function("exit-make", exit_make, 1, 1, GMK_FUNC_DEFAULT);
	return 1;
}
