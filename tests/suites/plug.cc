// SPDX-License-Identifier: GPL-2.0-only
/*
 * Disks of hot plug: what their files take, and what goes beside what. Each value
 * is copied to memory of just its size, so that a sanitizer sees a byte read
 * beyond it.
 */
#include "../../drivers/ubd/core/plug.hh"
#include "../../drivers/ubd/core/options.hh"
#include "fake.hh"

using namespace ubd;
using namespace ubd::test;

namespace
{

constexpr ubd_open_settings defaults = {
	.wake_fd = 3,
	.below = false,
	.beside = false,
	.await_host = false,
	.snapshot = false,
	.snapshot_dir = "",
	.queue_depth = 128,
	.queues = 0,
	.cpus = 1,
	.block_size = 0,
	.poll_us = 200,
	.engine = UBD_ENGINE_AUTO,
	.commit_ms = 5000,
};

bool same(const char *a, const char *b)
{
	const size_t n = __builtin_strlen(a);
	return n == __builtin_strlen(b) && !__builtin_memcmp(a, b, n);
}

struct Plugged {
	ubd_plug *p = static_cast<ubd_plug *>(ubd_test_alloc(sizeof(ubd_plug)));
	char *shown = static_cast<char *>(ubd_test_alloc(UBD_PATH_MAX + 1));
	char why[160];

	Plugged() { ubd_plug_init(p, &defaults, UBD_CACHE_NONE, UBD_WERROR_STOP); }
	~Plugged()
	{
		ubd_test_free(p);
		ubd_test_free(shown);
	}
	Plugged(const Plugged &) = delete;
	Plugged &operator=(const Plugged &) = delete;

	int set(ubd_plug_file file, const char *text, size_t bytes)
	{
		why[0] = '\0';
		char *exact = static_cast<char *>(ubd_test_alloc(bytes ? bytes : 1));
		__builtin_memcpy(exact, text, bytes);
		const int error = ubd_plug_set(p, file, bytes ? exact : exact + 1, bytes, why, sizeof(why));
		ubd_test_free(exact);
		return error;
	}
	int set(ubd_plug_file file, const char *text) { return set(file, text, __builtin_strlen(text)); }
	const char *show(ubd_plug_file file)
	{
		ubd_plug_show(p, file, shown, UBD_PATH_MAX + 1);
		return shown;
	}
};

constexpr ubd_plug_file all_files[] = {
	UBD_PLUG_PATH,   UBD_PLUG_BACKING,    UBD_PLUG_SERIAL,      UBD_PLUG_CACHE,     UBD_PLUG_ENGINE,
	UBD_PLUG_WERROR, UBD_PLUG_INDEX,      UBD_PLUG_READ_ONLY,   UBD_PLUG_DISCARD,   UBD_PLUG_SHARED,
	UBD_PLUG_PLAIN,  UBD_PLUG_BLOCK_SIZE, UBD_PLUG_QUEUE_DEPTH, UBD_PLUG_COMMIT_MS, UBD_PLUG_POLL_US,
};

UBD_CASE(what_it_is_at_first)
{
	static constexpr const char *shown[] = { "\n",  "\n",  "\n",  "none\n", "auto\n", "stop\n", "auto\n", "0\n",
						 "1\n", "0\n", "0\n", "0\n",    "128\n",  "5000\n", "200\n" };
	Plugged x;
	for (size_t i = 0; i < sizeof(all_files) / sizeof(all_files[0]); i++)
		if (!same(x.show(all_files[i]), shown[i]))
			failed_here(__FILE__, __LINE__, "file %u shows %s", all_files[i], x.shown);
}

// Each value that is taken is shown again, whether a newline ended it or not.
UBD_CASE(good_values)
{
	static constexpr struct {
		ubd_plug_file file;
		const char *value;
	} good[] = {
		{ UBD_PLUG_PATH, "a.img" },      { UBD_PLUG_PATH, "a b/\xc3\xa4" },
		{ UBD_PLUG_PATH, "" },           { UBD_PLUG_BACKING, "../base" },
		{ UBD_PLUG_SERIAL, "s-1,2:3" },  { UBD_PLUG_CACHE, "writeback" },
		{ UBD_PLUG_CACHE, "unsafe" },    { UBD_PLUG_ENGINE, "threads" },
		{ UBD_PLUG_ENGINE, "io_uring" }, { UBD_PLUG_ENGINE, "auto" },
		{ UBD_PLUG_WERROR, "report" },   { UBD_PLUG_WERROR, "stop" },
		{ UBD_PLUG_INDEX, "0" },         { UBD_PLUG_INDEX, "1023" },
		{ UBD_PLUG_INDEX, "auto" },      { UBD_PLUG_READ_ONLY, "1" },
		{ UBD_PLUG_READ_ONLY, "0" },     { UBD_PLUG_DISCARD, "0" },
		{ UBD_PLUG_DISCARD, "1" },       { UBD_PLUG_SHARED, "1" },
		{ UBD_PLUG_PLAIN, "1" },         { UBD_PLUG_BLOCK_SIZE, "512" },
		{ UBD_PLUG_BLOCK_SIZE, "4096" }, { UBD_PLUG_BLOCK_SIZE, "0" },
		{ UBD_PLUG_QUEUE_DEPTH, "1" },   { UBD_PLUG_QUEUE_DEPTH, "1024" },
		{ UBD_PLUG_COMMIT_MS, "0" },     { UBD_PLUG_COMMIT_MS, "4294967295" },
		{ UBD_PLUG_POLL_US, "0" },       { UBD_PLUG_POLL_US, "1000" },
	};
	for (auto &g : good)
		for (u32 newline = 0; newline < 2; newline++) {
			Plugged x;
			char line[64];
			const size_t n = __builtin_strlen(g.value);
			__builtin_memcpy(line, g.value, n);
			line[n] = '\n';
			line[n + 1] = '\0';
			if (x.set(g.file, line, n + newline) || !same(x.show(g.file), line))
				failed_here(__FILE__, __LINE__, "\"%s\" in file %u: %s, shows %s", g.value, g.file,
					    x.why, x.shown);
		}
}

// What is refused says why, and leaves every file as it was.
UBD_CASE(bad_values)
{
	static constexpr struct {
		ubd_plug_file file;
		const char *value;
		int error;
		const char *why;
	} bad[] = {
		{ UBD_PLUG_PATH, "a\nb", errno_inval, "control characters" },
		{ UBD_PLUG_PATH, "a\x1b[2J", errno_inval, "control characters" },
		{ UBD_PLUG_BACKING, "a\x7f", errno_inval, "control characters" },
		{ UBD_PLUG_SERIAL, "a\tb", errno_inval, "control characters" },
		{ UBD_PLUG_CACHE, "", errno_inval, "none of writeback" },
		{ UBD_PLUG_CACHE, "wb", errno_inval, "none of writeback" },
		{ UBD_PLUG_ENGINE, "", errno_inval, "none of auto" },
		{ UBD_PLUG_ENGINE, "aio", errno_inval, "none of auto" },
		{ UBD_PLUG_WERROR, "", errno_inval, "neither report nor stop" },
		{ UBD_PLUG_WERROR, "ignore", errno_inval, "would lose data" },
		{ UBD_PLUG_INDEX, "", errno_inval, "from 0 to 1023" },
		{ UBD_PLUG_INDEX, "a", errno_inval, "from 0 to 1023" },
		{ UBD_PLUG_INDEX, "autos", errno_inval, "from 0 to 1023" },
		{ UBD_PLUG_INDEX, "1024", errno_range, "from 0 to 1023" },
		{ UBD_PLUG_READ_ONLY, "", errno_inval, "neither 0 nor 1" },
		{ UBD_PLUG_READ_ONLY, "2", errno_inval, "neither 0 nor 1" },
		{ UBD_PLUG_DISCARD, "y", errno_inval, "neither 0 nor 1" },
		{ UBD_PLUG_SHARED, "11", errno_inval, "neither 0 nor 1" },
		{ UBD_PLUG_PLAIN, "1\n", errno_inval, "neither 0 nor 1" }, // and one more, see below
		{ UBD_PLUG_BLOCK_SIZE, "x", errno_inval, "no number" },
		{ UBD_PLUG_BLOCK_SIZE, "1024", errno_range, "none of 0" },
		{ UBD_PLUG_QUEUE_DEPTH, "0", errno_range, "from 1 to 1024" },
		{ UBD_PLUG_QUEUE_DEPTH, "1025", errno_range, "from 1 to 1024" },
		{ UBD_PLUG_QUEUE_DEPTH, "4294967297", errno_range, "from 1 to 1024" },
		{ UBD_PLUG_QUEUE_DEPTH, "18446744073709551617", errno_range, "from 1 to 1024" },
		{ UBD_PLUG_QUEUE_DEPTH, "1/", errno_inval, "no number" },
		{ UBD_PLUG_QUEUE_DEPTH, "-1", errno_inval, "no number" },
		{ UBD_PLUG_COMMIT_MS, "4294967296", errno_range, "from 0 to" },
		{ UBD_PLUG_POLL_US, "1001", errno_range, "from 0 to 1000" },
		{ UBD_PLUG_POLL_US, " 1", errno_inval, "no number" },
		{ static_cast<ubd_plug_file>(15), "1", errno_inval, "not known" },
	};
	Plugged x, untouched;
	CHECK_EQ(x.set(UBD_PLUG_INDEX, "5"), 0);
	CHECK_EQ(untouched.set(UBD_PLUG_INDEX, "5"), 0);
	for (auto &b : bad) {
		char line[64];
		const size_t n = __builtin_strlen(b.value);
		__builtin_memcpy(line, b.value, n);
		line[n] = '\n';
		const int error = x.set(b.file, line, n + 1);
		if (error != b.error || !contains(x.why, b.why))
			failed_here(__FILE__, __LINE__, "\"%s\" in file %u: %d, %s", b.value, b.file, error, x.why);
		CHECK(!__builtin_memcmp(x.p, untouched.p, sizeof(ubd_plug)));
	}
	CHECK(same(x.show(static_cast<ubd_plug_file>(15)), "\n"));
	CHECK_EQ(x.set(UBD_PLUG_INDEX, "auto"), 0); // and stays so
	CHECK_EQ(x.set(UBD_PLUG_INDEX, "1024"), errno_range);
	CHECK(x.p->any_index);
}

UBD_CASE(values_that_are_too_long)
{
	static constexpr struct {
		ubd_plug_file file;
		size_t most;
	} table[] = { { UBD_PLUG_PATH, UBD_PATH_MAX - 1 },
		      { UBD_PLUG_BACKING, UBD_PATH_MAX - 1 },
		      { UBD_PLUG_SERIAL, UBD_SERIAL_MAX - 1 } };
	Plugged x;
	char *text = static_cast<char *>(ubd_test_alloc(UBD_PATH_MAX + 1));
	__builtin_memset(text, 'x', UBD_PATH_MAX + 1);
	for (auto &t : table) {
		CHECK_EQ(x.set(t.file, text, t.most), 0);
		CHECK_EQ(__builtin_strlen(x.show(t.file)), t.most + 1);
		CHECK_EQ(x.set(t.file, "short"), 0);
		CHECK_EQ(x.set(t.file, text, t.most + 1), errno_nametoolong);
		CHECK(contains(x.why, "too long; it has at most"));
		CHECK(same(x.show(t.file), "short\n"));
	}
	ubd_test_free(text);
}

UBD_CASE(what_it_takes_to_be_switched_on)
{
	Plugged x;
	CHECK_EQ(ubd_plug_complete(x.p, x.why, sizeof(x.why)), errno_inval);
	CHECK(contains(x.why, "no file is named"));
	CHECK_EQ(x.set(UBD_PLUG_PATH, "a"), 0);
	CHECK_EQ(ubd_plug_complete(x.p, x.why, sizeof(x.why)), 0);
	CHECK_EQ(x.set(UBD_PLUG_PLAIN, "1"), 0);
	CHECK_EQ(ubd_plug_complete(x.p, x.why, sizeof(x.why)), 0);
	CHECK_EQ(x.set(UBD_PLUG_BACKING, "b"), 0);
	CHECK_EQ(ubd_plug_complete(x.p, x.why, sizeof(x.why)), errno_inval);
	CHECK(contains(x.why, "exclude each other"));
	CHECK_EQ(x.set(UBD_PLUG_PLAIN, "0"), 0);
	CHECK_EQ(ubd_plug_complete(x.p, x.why, sizeof(x.why)), 0);
	CHECK_EQ(x.set(UBD_PLUG_QUEUE_DEPTH, "7"), 0);
	CHECK_EQ(x.set(UBD_PLUG_BLOCK_SIZE, "512"), 0);
	CHECK_EQ(x.set(UBD_PLUG_COMMIT_MS, "8"), 0);
	CHECK_EQ(x.set(UBD_PLUG_POLL_US, "9"), 0);
	CHECK_EQ(x.set(UBD_PLUG_DISCARD, "0"), 0);
	CHECK(x.p->options.no_discard);
	ubd_open_settings s = defaults;
	ubd_plug_settings(x.p, &s);
	CHECK(s.below && s.wake_fd == 3); // whatever else is said
	CHECK(s.queue_depth == 7 && s.block_size == 512 && s.commit_ms == 8 && s.poll_us == 9);
}

UBD_CASE(switches)
{
	CHECK_EQ(ubd_parse_switch("1", 1), 1);
	CHECK_EQ(ubd_parse_switch("0\n", 2), 0);
	CHECK_EQ(ubd_parse_switch("1\n\n", 3), -1);
	CHECK_EQ(ubd_parse_switch("\n", 1), -1);
	CHECK_EQ(ubd_parse_switch("10", 1), 1);
	CHECK_EQ(ubd_parse_switch("", 0), -1);
}

UBD_CASE(names_below)
{
	static constexpr struct {
		const char *root, *path, *rest;
	} table[] = {
		{ "/images", "a", "a" },
		{ "/images", "../a", "../a" }, // the host's kernel says no
		{ "/images", "", "" },
		{ "/images", "/images/a/b", "a/b" },
		{ "/images", "/images//a", "a" },
		{ "/images", "/images", "." },
		{ "/images", "/images/", "." },
		{ "/images", "/images2/a", nullptr },
		{ "/images", "/image", nullptr },
		{ "/images", "/", nullptr },
		{ "/images", "/etc/passwd", nullptr },
		{ "/", "/etc/passwd", "etc/passwd" },
		{ "/", "//etc", "etc" },
		{ "/", "/", "." },
		{ "/images//", "/images/a", "a" }, // as the host's user wrote it
		{ "/images/", "/images2/a", nullptr },
	};
	for (auto &t : table) {
		const char *rest = name_below(t.root, t.path);
		if (!rest != !t.rest || (rest && !same(rest, t.rest)))
			failed_here(__FILE__, __LINE__, "%s below %s is %s", t.path, t.root, rest ? rest : "nothing");
	}
}

UBD_CASE(what_goes_beside_what)
{
	Plugged a, b;
	a.p->options.index = 1;
	b.p->options.index = 2;
	CHECK_EQ(ubd_beside(&a.p->options, &b.p->options, false), UBD_TAKEN_NOT);
	CHECK_EQ(ubd_beside(&a.p->options, &b.p->options, true), UBD_TAKEN_FILE);
	a.p->options.shared = true;
	CHECK_EQ(ubd_beside(&a.p->options, &b.p->options, true), UBD_TAKEN_FILE);
	CHECK_EQ(ubd_beside(&b.p->options, &a.p->options, true), UBD_TAKEN_FILE);
	b.p->options.shared = true;
	CHECK_EQ(ubd_beside(&a.p->options, &b.p->options, true), UBD_TAKEN_NOT);
	b.p->options.index = 1;
	CHECK_EQ(ubd_beside(&a.p->options, &b.p->options, false), UBD_TAKEN_NUMBER);
	CHECK_EQ(ubd_beside(&a.p->options, &b.p->options, true), UBD_TAKEN_NUMBER);
}

UBD_CASE(text_for_messages)
{
	char shown[UBD_SHOWN_MAX], text[UBD_SHOWN_MAX + 1];
	ubd_show_text("a\n\x1b[2Jb", 7, shown);
	CHECK(same(shown, "a??[2Jb"));
	ubd_show_text("abc", 0, shown);
	CHECK(same(shown, ""));
	__builtin_memset(text, 'x', sizeof(text));
	ubd_show_text(text, sizeof(shown) - 4, shown);
	CHECK_EQ(__builtin_strlen(shown), sizeof(shown) - 4);
	ubd_show_text(text, sizeof(text), shown);
	CHECK_EQ(__builtin_strlen(shown), sizeof(shown) - 1);
	CHECK(contains(shown, "xxx..."));
}

} // namespace

const ubd_test_case ubd_suite_plug[] = {
	UBD_ENTRY(what_it_is_at_first),
	UBD_ENTRY(good_values),
	UBD_ENTRY(bad_values),
	UBD_ENTRY(values_that_are_too_long),
	UBD_ENTRY(what_it_takes_to_be_switched_on),
	UBD_ENTRY(switches),
	UBD_ENTRY(names_below),
	UBD_ENTRY(what_goes_beside_what),
	UBD_ENTRY(text_for_messages),
	{},
};
