// SPDX-License-Identifier: GPL-2.0-only
/*
 * The bridge between KUnit and test cases in C++: makes a KUnit suite of each
 * table of tests/suites and of the device suite, and gives the cases what they
 * ask of a runner. Cases run one at a time, each in a kernel thread.
 *
 *	ubd_test.dir=/path	directory on the host for files (default /tmp)
 *	ubd_test.seeds=n	seeds for each random case (default 100)
 */
#include <kunit/test.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "../../drivers/ubd/kernel/compat.h"
#include "../suites/suites.h"
#include "disk.h"

static char *dir = "/tmp";
module_param(dir, charp, 0444);
MODULE_PARM_DESC(dir, "directory on the host for files of the device suite (default /tmp)");

static uint seeds = 100;
module_param(seeds, uint, 0444);
MODULE_PARM_DESC(seeds, "seeds for each random case (default 100)");

extern const struct ubd_test_case ubd_suite_device[];

/* The case that runs. */
static struct kunit *now;

static int case_begins(struct kunit *test)
{
	now = test;
	return 0;
}

static void case_ended(struct kunit *test)
{
	now = NULL;
}

#define SUITE(title) \
	static struct kunit_suite suite_##title = { .name = "ubd_" #title, .init = case_begins, .exit = case_ended };
UBD_SHARED_SUITES(SUITE)
SUITE(device)

#define SUITE_ENTRY(title) &suite_##title,
kunit_test_suites(UBD_SHARED_SUITES(SUITE_ENTRY) & suite_device);

/* KUnit reads them until after the module's exit function: so they are static. */
static struct kunit_case cases[512];
static unsigned int cases_used;

/* Makes KUnit's table of ours. */
static int fill(struct kunit_suite *suite, const struct ubd_test_case *table)
{
	suite->test_cases = cases + cases_used;
	for (; table->name; table++) {
		/* One stays empty: it ends the table. */
		if (cases_used + 1 >= ARRAY_SIZE(cases))
			return -ENOSPC;
		cases[cases_used].run_case = table->run;
		cases[cases_used].name = table->name;
		cases[cases_used].module_name = KBUILD_MODNAME;
		cases_used++;
	}
	cases_used++;
	return 0;
}

/* KUnit runs the suites when this has returned. */
static int __init ubd_test_init(void)
{
	int err = 0;

#define FILL(title) err = err ?: fill(&suite_##title, ubd_suite_##title);
	UBD_SHARED_SUITES(FILL)
	FILL(device)
	return err;
}

static void __exit ubd_test_exit(void) {}

void ubd_test_fail(const char *file, int line, const char *text)
{
	KUNIT_FAIL(now, "%s:%d: %s", file, line, text);
}

void ubd_test_stop(const char *why)
{
	KUNIT_ASSERT_TRUE_MSG(now, false, "stopped: %s", why);
	unreachable();
}

void *ubd_test_alloc(size_t bytes)
{
	void *p = kvzalloc(bytes ?: 1, GFP_KERNEL);

	if (!p)
		ubd_test_stop("out of memory");
	return p;
}

void ubd_test_free(void *p)
{
	kvfree(p);
}

int ubd_test_vsnprintf(char *to, size_t bytes, const char *format, va_list args)
{
	return vsnprintf(to, bytes, format, args);
}

unsigned int ubd_test_seeds(void)
{
	return seeds;
}

const char *test_dir(void)
{
	return dir;
}

module_init(ubd_test_init);
module_exit(ubd_test_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("KUnit suites of ubd");
UBD_IMPORT;
