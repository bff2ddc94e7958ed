// SPDX-License-Identifier: GPL-2.0-only
/*
 * Runs the shared suites (tests/suites) as GoogleTest cases on the host, beside
 * the cases of this directory that need a hosted C++.
 *
 *	UBD_TEST_SEEDS=n	seeds for each random case (default 2000)
 */
#include <cstdio>
#include <cstdlib>

#include <gtest/gtest.h>

#include "../suites/suites.h"

void ubd_test_fail(const char *file, int line, const char *text)
{
	ADD_FAILURE_AT(file, line) << text;
}

void *ubd_test_alloc(size_t bytes)
{
	void *p = calloc(1, bytes ? bytes : 1);
	if (!p)
		ubd_test_stop("out of memory");
	return p;
}

void ubd_test_free(void *p)
{
	free(p);
}

int ubd_test_vsnprintf(char *to, size_t bytes, const char *format, va_list args)
{
	return vsnprintf(to, bytes, format, args);
}

unsigned int ubd_test_seeds()
{
	static const char *text = getenv("UBD_TEST_SEEDS");
	static const unsigned int seeds = text ? static_cast<unsigned int>(strtoul(text, nullptr, 0)) : 2000;
	return seeds;
}

void ubd_test_stop(const char *why)
{
	const testing::TestInfo *info = testing::UnitTest::GetInstance()->current_test_info();
	fprintf(stderr, "%s.%s: stopped: %s\n", info ? info->test_suite_name() : "?", info ? info->name() : "?", why);
	abort();
}

namespace
{

class SharedCase : public testing::Test {
public:
	explicit SharedCase(const ubd_test_case &c) : case_(c) {}
	void TestBody() override { case_.run(nullptr); }

private:
	const ubd_test_case &case_;
};

void add(const char *suite, const ubd_test_case *cases)
{
	for (const ubd_test_case *c = cases; c->name; c++)
		testing::RegisterTest(suite, c->name, nullptr, nullptr, __FILE__, __LINE__,
				      [c]() -> testing::Test * { return new SharedCase(*c); });
}

} // namespace

int main(int argc, char **argv)
{
	testing::InitGoogleTest(&argc, argv);
#define ADD(name) add("ubd_" #name, ubd_suite_##name);
	UBD_SHARED_SUITES(ADD)
	int status = RUN_ALL_TESTS();
	const auto &t = *testing::UnitTest::GetInstance();
	printf("unit: %d passed, %d failed\n", t.successful_test_count(), t.failed_test_count());
	// A filter that matches nothing, a suite that went missing: no success.
	return status || !t.successful_test_count();
}
