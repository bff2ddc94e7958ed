// SPDX-License-Identifier: GPL-2.0-only
/*
 * Options as the kernel's own driver reads them: arch/um/drivers/ubd_kern.c,
 * ubd_setup_common(). Each word is copied to memory of just its size, so that
 * a sanitizer sees a byte read beyond it.
 */
#include "../../drivers/ubd/core/options.hh"
#include "fake.hh"

using namespace ubd;
using namespace ubd::test;

namespace
{

// What one word is taken for.
struct Parsed {
	ubd_options *o;
	ubd_option_state state{};
	ubd_option_kind kind = UBD_OPTION_OTHER;
	char why[160];

	Parsed() : o(static_cast<ubd_options *>(ubd_test_alloc(sizeof(ubd_options)))) {}
	~Parsed() { ubd_test_free(o); }
	Parsed(const Parsed &) = delete;
	Parsed &operator=(const Parsed &) = delete;

	ubd_option_kind parse(const char *word, size_t bytes)
	{
		why[0] = '\0';
		__builtin_memset(o, 0x5a, sizeof(*o)); // what an earlier word left
		char *exact = static_cast<char *>(ubd_test_alloc(bytes ? bytes : 1));
		__builtin_memcpy(exact, word, bytes);
		kind = ubd_parse_option(bytes ? exact : exact + 1, bytes, &state, o, why, sizeof(why));
		ubd_test_free(exact);
		return kind;
	}
	ubd_option_kind parse(const char *word) { return parse(word, __builtin_strlen(word)); }
};

bool same(const char *a, const char *b)
{
	size_t n = __builtin_strlen(a);
	return n == __builtin_strlen(b) && !__builtin_memcmp(a, b, n);
}

constexpr u32 R = 1, S = 2, D = 4, C = 8, T = 16;

u32 flags_of(const ubd_options &o)
{
	return (o.read_only ? R : 0u) | (o.cache == UBD_CACHE_WRITETHROUGH ? S : 0u) | (o.plain ? D : 0u) |
	       (o.shared ? C : 0u) | (o.no_discard ? T : 0u);
}

struct Good {
	const char *word;
	u32 index;
	u32 flags;
	const char *path;
	const char *backing;
	const char *serial;
};

constexpr Good good[] = {
	{ "ubd0=/a", 0, 0, "/a", "", "" },
	{ "ubd7=rel/file", 7, 0, "rel/file", "", "" },
	{ "ubda=/a", 0, 0, "/a", "", "" },
	{ "ubdp=/a", 15, 0, "/a", "", "" },
	{ "ubdz=/a", 25, 0, "/a", "", "" },
	// base 0: decimal, octal, hexadecimal
	{ "ubd10=/a", 10, 0, "/a", "", "" },
	{ "ubd010=/a", 8, 0, "/a", "", "" },
	{ "ubd0x10=/a", 16, 0, "/a", "", "" },
	{ "ubd0X1f=/a", 31, 0, "/a", "", "" },
	{ "ubd0x1F=/a", 31, 0, "/a", "", "" },
	{ "ubd00=/a", 0, 0, "/a", "", "" },
	{ "ubd0007=/a", 7, 0, "/a", "", "" },
	{ "ubd1023=/a", 1023, 0, "/a", "", "" },
	{ "ubd0x3ff=/a", 1023, 0, "/a", "", "" },
	{ "ubd01777=/a", 1023, 0, "/a", "", "" },
	// a hexadecimal number takes the letters that would be flags
	{ "ubd0xd=/a", 13, 0, "/a", "", "" },
	{ "ubd0x1cd=/a", 0x1cd, 0, "/a", "", "" },
	{ "ubd0x1r=/a", 1, R, "/a", "", "" },
	// and a decimal or octal one does not
	{ "ubd1d=/a", 1, D, "/a", "", "" },
	{ "ubd0c=/a", 0, C, "/a", "", "" },
	{ "ubdd=/a", 3, 0, "/a", "", "" },
	{ "ubddd=/a", 3, D, "/a", "", "" },
	{ "ubdrr=/a", 17, R, "/a", "", "" },
	// flags, at most six, in any order, repeated or not
	{ "ubd0r=/a", 0, R, "/a", "", "" },
	{ "ubd0s=/a", 0, S, "/a", "", "" },
	{ "ubd0t=/a", 0, T, "/a", "", "" },
	{ "ubd0rscdt=/a", 0, R | S | C | D | T, "/a", "", "" },
	{ "ubd0tdcsr=/a", 0, R | S | C | D | T, "/a", "", "" },
	{ "ubd0rrrrrr=/a", 0, R, "/a", "", "" },
	{ "ubd0rscdtt=/a", 0, R | S | C | D | T, "/a", "", "" },
	// files: both separators, empty fields, what comes after the third
	{ "ubd0=/a,/b", 0, 0, "/a", "/b", "" },
	{ "ubd0=/a:/b", 0, 0, "/a", "/b", "" },
	{ "ubd0=/a,/b,ser", 0, 0, "/a", "/b", "ser" },
	{ "ubd0=/a:/b:ser", 0, 0, "/a", "/b", "ser" },
	{ "ubd0=/a:/b,ser", 0, 0, "/a", "/b", "ser" },
	{ "ubd0=/a,,ser", 0, 0, "/a", "", "ser" },
	{ "ubd0=/a::ser", 0, 0, "/a", "", "ser" },
	{ "ubd0=/a,", 0, 0, "/a", "", "" },
	{ "ubd0=/a,,", 0, 0, "/a", "", "" },
	{ "ubd0=/a,/b,", 0, 0, "/a", "/b", "" },
	{ "ubd0=/a,/b,ser,more", 0, 0, "/a", "/b", "ser" },
	{ "ubd0=/a,/b,ser:", 0, 0, "/a", "/b", "ser" },
	{ "ubd0d=/a,,ser", 0, D, "/a", "", "ser" },
	{ "ubd0r=/a,/b", 0, R, "/a", "/b", "" },
	// '=' is an ordinary character of a name
	{ "ubd0==", 0, 0, "=", "", "" },
	{ "ubd0=/a=b,/c=d", 0, 0, "/a=b", "/c=d", "" },
	{ "ubd0=/a b", 0, 0, "/a b", "", "" },
	{ "ubd0=.", 0, 0, ".", "", "" },
};

struct Bad {
	const char *word;
	const char *why;
};

constexpr Bad bad[] = {
	{ "ubd", "no device number" },
	{ "ubdA=/a", "no device number" },
	{ "ubd-1=/a", "no device number" },
	{ "ubd =/a", "no device number" },
	{ "ubd{=/a", "no device number" }, // the character behind z
	{ "ubd,", "no device number" },
	{ "ubd=", "only ubd=sync" },
	{ "ubd=3", "only ubd=sync" },
	{ "ubd=/a", "only ubd=sync" },
	{ "ubd=syn", "only ubd=sync" },
	{ "ubd=sync1", "only ubd=sync" },
	{ "ubd=cache", "only ubd=sync, ubd=cache:MODE, ubd=engine:NAME, ubd=werror:POLICY and ubd=hotplug:DIRECTORY" },
	{ "ubd=cache=none", "only ubd=sync" },
	{ "ubd=hotplug", "only ubd=sync" },
	{ "ubd=hotplug=/a", "only ubd=sync" },
	{ "ubd=hotplug:", "the directory is missing" },
	{ "ubd=engine", "only ubd=sync" },
	{ "ubd=engine:", "unknown engine" },
	{ "ubd=engine:thread", "unknown engine" },
	{ "ubd=engine:threads1", "unknown engine" },
	{ "ubd=engine:Auto", "unknown engine" },
	{ "ubd1024=/a", "out of range" },
	{ "ubd0x400=/a", "out of range" },
	{ "ubd02000=/a", "out of range" },
	{ "ubd4294967296=/a", "out of range" },
	{ "ubd18446744073709551616=/a", "out of range" },
	{ "ubd99999999999999999999999999999999=/a", "out of range" },
	{ "ubd0", "'='" },
	{ "ubda", "'='" },
	{ "ubd0r", "'='" },
	{ "ubd0rrrrrr", "'='" },
	{ "ubd0x", "flag" }, // octal 0, then x
	{ "ubd0x=/a", "flag" },
	{ "ubd0xg=/a", "flag" },
	{ "ubd08=/a", "flag" }, // octal 0, then 8
	{ "ubd0b1=/a", "flag" },
	{ "ubd0w=/a", "flag" },
	{ "ubd0R=/a", "flag" },
	{ "ubdab=/a", "flag" },
	{ "ubd0,/a", "flag" },
	{ "ubd0 =/a", "flag" },
	{ "ubd0rrrrrrr=/a", "too many flags" },
	{ "ubd0rscdtrs=/a", "too many flags" },
	{ "ubd0rscdtrsrscdtrs", "too many flags" },
	{ "ubd0=", "file name is missing" },
	{ "ubd0=,", "file name is missing" },
	{ "ubd0=,/b", "file name is missing" },
	{ "ubd0=:,ser", "file name is missing" },
	{ "ubd0d=/a,/b", "exclude" },
	{ "ubd0rd=/a:/b:ser", "exclude" },
};

constexpr const char *others[] = {
	"",          "u",        "ub",           "root=/dev/ubda",     "udb0=/a",
	"Ubd0=/a",   " ubd0=/a", "ubd.prefix=x", "ubd.device=ubd0=/a", "ubd.",
	"init=ubd0",
};

UBD_CASE(good_words)
{
	for (const Good &g : good) {
		Parsed p;
		p.parse(g.word);
		bool ok = p.kind == UBD_OPTION_DEVICE && p.o->index == g.index && flags_of(*p.o) == g.flags &&
			  same(p.o->path, g.path) && same(p.o->backing, g.backing) && same(p.o->serial, g.serial);
		if (!ok)
			failed_here(__FILE__, __LINE__, "%s: kind %d, index %u, flags %x, %s|%s|%s; %s", g.word, p.kind,
				    p.o->index, flags_of(*p.o), p.o->path, p.o->backing, p.o->serial, p.why);
	}
}

UBD_CASE(bad_words)
{
	for (const Bad &b : bad) {
		Parsed p;
		p.parse(b.word);
		if (p.kind != UBD_OPTION_BAD || !contains(p.why, b.why) || p.state.cache || p.state.engine ||
		    p.state.werror)
			failed_here(__FILE__, __LINE__, "%s: kind %d, \"%s\", expected \"%s\"", b.word, p.kind, p.why,
				    b.why);
	}
}

UBD_CASE(words_of_others)
{
	for (const char *word : others) {
		Parsed p;
		if (p.parse(word) != UBD_OPTION_OTHER || p.state.cache || p.state.engine || p.state.werror)
			failed_here(__FILE__, __LINE__, "\"%s\": kind %d, \"%s\"", word, p.kind, p.why);
	}
}

UBD_CASE(the_engine_counts_from_there_on)
{
	Parsed p;
	CHECK_EQ(p.parse("ubd0=/a"), UBD_OPTION_DEVICE);
	CHECK_EQ(p.o->engine, UBD_ENGINE_DEFAULT);
	CHECK_EQ(p.parse("ubd=engine:threads"), UBD_OPTION_GLOBAL);
	CHECK_EQ(p.parse("ubd1=/b"), UBD_OPTION_DEVICE);
	CHECK_EQ(p.o->engine, UBD_ENGINE_THREADS);
	CHECK_EQ(p.o->cache, UBD_CACHE_WRITEBACK);
	CHECK_EQ(p.parse("ubd=engine:nonsense"), UBD_OPTION_BAD);
	CHECK_EQ(p.parse("ubd=engine:io_uring"), UBD_OPTION_GLOBAL);
	CHECK_EQ(p.parse("ubd2s=/c"), UBD_OPTION_DEVICE);
	CHECK_EQ(p.o->engine, UBD_ENGINE_IO_URING);
	CHECK_EQ(p.parse("ubd=engine:auto"), UBD_OPTION_GLOBAL);
	CHECK_EQ(p.parse("ubd3=/d"), UBD_OPTION_DEVICE);
	CHECK_EQ(p.o->engine, UBD_ENGINE_AUTO);
	CHECK_EQ(p.parse("ubd=engine:threads0=/x", 18), UBD_OPTION_GLOBAL); // the word ends there
	CHECK_EQ(p.state.engine, UBD_ENGINE_THREADS);
}

UBD_CASE(the_last_directory_of_hot_plug)
{
	Parsed p;
	static constexpr char word[] = "ubd=hotplug:/a:b,c";
	CHECK_EQ(p.parse("ubd0=/a"), UBD_OPTION_DEVICE);
	CHECK(!p.state.hotplug);
	CHECK_EQ(ubd_parse_option(word, sizeof(word) - 1, &p.state, p.o, p.why, sizeof(p.why)), UBD_OPTION_GLOBAL);
	CHECK(p.state.hotplug == word + 12 && p.state.hotplug_bytes == 6);
	CHECK_EQ(p.parse("ubd=hotplug:"), UBD_OPTION_BAD);
	CHECK(p.state.hotplug == word + 12 && p.state.hotplug_bytes == 6);
	CHECK_EQ(ubd_parse_option(word, sizeof(word) - 4, &p.state, p.o, p.why, sizeof(p.why)), UBD_OPTION_GLOBAL);
	CHECK_EQ(p.state.hotplug_bytes, 3);
}

UBD_CASE(sync_counts_from_there_on)
{
	Parsed p;
	CHECK_EQ(p.parse("ubd0=/a"), UBD_OPTION_DEVICE);
	CHECK_EQ(p.o->cache, UBD_CACHE_WRITEBACK);
	CHECK_EQ(p.parse("ubd=sync"), UBD_OPTION_GLOBAL);
	CHECK_EQ(p.parse("ubd1=/a"), UBD_OPTION_DEVICE);
	CHECK_EQ(p.o->cache, UBD_CACHE_WRITETHROUGH);
	CHECK_EQ(p.parse("ubd2r=/a"), UBD_OPTION_DEVICE);
	CHECK(p.o->cache == UBD_CACHE_WRITETHROUGH && p.o->read_only);
}

constexpr const char *cache_names[UBD_CACHE_COUNT] = { "writeback", "none", "writethrough", "directsync", "unsafe" };

// Each mode, for all devices that follow, with s and without.
UBD_CASE(cache_modes)
{
	static constexpr struct {
		ubd_cache mode, with_s, without_direct;
		bool direct, sync;
	} table[] = {
		{ UBD_CACHE_WRITEBACK, UBD_CACHE_WRITETHROUGH, UBD_CACHE_WRITEBACK, false, false },
		{ UBD_CACHE_NONE, UBD_CACHE_DIRECTSYNC, UBD_CACHE_WRITEBACK, true, false },
		{ UBD_CACHE_WRITETHROUGH, UBD_CACHE_WRITETHROUGH, UBD_CACHE_WRITETHROUGH, false, true },
		{ UBD_CACHE_DIRECTSYNC, UBD_CACHE_DIRECTSYNC, UBD_CACHE_WRITETHROUGH, true, true },
		{ UBD_CACHE_UNSAFE, UBD_CACHE_WRITETHROUGH, UBD_CACHE_UNSAFE, false, false },
	};
	for (auto &t : table) {
		Parsed p;
		char word[40];
		ubd_k_snprintf(word, sizeof(word), "ubd=cache:%s", cache_names[t.mode]);
		CHECK(same(name_of(t.mode), cache_names[t.mode]));
		CHECK_EQ(p.parse(word), UBD_OPTION_GLOBAL);
		CHECK_EQ(p.parse("ubd0=/a"), UBD_OPTION_DEVICE);
		CHECK_EQ(p.o->cache, t.mode);
		CHECK_EQ(p.parse("ubd1s=/a"), UBD_OPTION_DEVICE);
		CHECK_EQ(p.o->cache, t.with_s);
		// Only of that one.
		CHECK_EQ(p.parse("ubd2r=/a"), UBD_OPTION_DEVICE);
		CHECK_EQ(p.o->cache, t.mode);
		CHECK_EQ(p.parse("ubd=sync"), UBD_OPTION_GLOBAL);
		CHECK_EQ(p.parse("ubd3=/a"), UBD_OPTION_DEVICE);
		CHECK_EQ(p.o->cache, t.with_s);
		// And what is said last holds.
		CHECK_EQ(p.parse("ubd=cache:writeback"), UBD_OPTION_GLOBAL);
		CHECK_EQ(p.parse("ubd4=/a"), UBD_OPTION_DEVICE);
		CHECK_EQ(p.o->cache, UBD_CACHE_WRITEBACK);
		CHECK_EQ(is_direct(t.mode), t.direct);
		CHECK_EQ(is_sync(t.mode), t.sync);
		CHECK_EQ(without_direct(t.mode), t.without_direct);
	}
}

// One that is wrong changes nothing.
UBD_CASE(bad_cache_modes)
{
	static constexpr const char *table[] = { "",      "non",   "nones",        "None",   "write-back", "writebac",
						 "none,", "none ", "none:ubd0=/a", "direct", "sync" };
	for (const char *mode : table) {
		Parsed p;
		CHECK_EQ(p.parse("ubd=cache:none"), UBD_OPTION_GLOBAL);
		char word[40];
		ubd_k_snprintf(word, sizeof(word), "ubd=cache:%s", mode);
		CHECK_EQ(p.parse(word), UBD_OPTION_BAD);
		CHECK(contains(p.why,
			       "unknown cache mode; the modes are writeback, none, writethrough, directsync, unsafe"));
		CHECK_EQ(p.state.cache, UBD_CACHE_NONE);
		ubd_cache parsed = UBD_CACHE_DIRECTSYNC;
		CHECK(!ubd_parse_cache(mode, __builtin_strlen(mode), &parsed));
		CHECK_EQ(parsed, UBD_CACHE_DIRECTSYNC);
	}
}

// For all devices that follow; what is wrong changes nothing.
UBD_CASE(policies_for_want_of_space)
{
	static constexpr struct {
		const char *word;
		ubd_option_kind kind;
		ubd_werror then;
		const char *why;
	} table[] = {
		{ "ubd=werror:stop", UBD_OPTION_GLOBAL, UBD_WERROR_STOP, "" },
		{ "ubd=werror:nonsense", UBD_OPTION_BAD, UBD_WERROR_STOP, "is neither report nor stop" },
		{ "ubd=werror:ignore", UBD_OPTION_BAD, UBD_WERROR_STOP, "would lose data and tell nobody" },
		{ "ubd=werror:", UBD_OPTION_BAD, UBD_WERROR_STOP, "is neither report nor stop" },
		{ "ubd=werror:stop,", UBD_OPTION_BAD, UBD_WERROR_STOP, "is neither report nor stop" },
		{ "ubd=rerror:stop", UBD_OPTION_BAD, UBD_WERROR_STOP, "ubd=werror:POLICY" },
		{ "ubd=cache:none", UBD_OPTION_GLOBAL, UBD_WERROR_STOP, "" },
		{ "ubd=werror:report", UBD_OPTION_GLOBAL, UBD_WERROR_REPORT, "" },
		{ "ubd=werror:Stop", UBD_OPTION_BAD, UBD_WERROR_REPORT, "is neither report nor stop" },
		{ "ubd=werror:enospc", UBD_OPTION_GLOBAL, UBD_WERROR_STOP, "" },
	};
	Parsed p;
	CHECK_EQ(p.parse("ubd0=/a"), UBD_OPTION_DEVICE);
	CHECK_EQ(p.o->werror, UBD_WERROR_REPORT);
	for (auto &t : table) {
		CHECK_EQ(p.parse(t.word), t.kind);
		CHECK(contains(p.why, t.why));
		CHECK_EQ(p.state.werror, t.then);
		CHECK_EQ(p.parse("ubd1rs=/b"), UBD_OPTION_DEVICE);
		CHECK_EQ(p.o->werror, t.then);
		CHECK(same(name_of(p.o->werror), t.then == UBD_WERROR_STOP ? "stop" : "report"));
	}
}

// A word that starts well and goes on for longer than the caller says.
UBD_CASE(length_is_not_exceeded)
{
	Parsed p;
	CHECK_EQ(p.parse("ubd=synchronous", 8), UBD_OPTION_GLOBAL);
	CHECK_EQ(p.parse("ubd=cache:nonesense", 14), UBD_OPTION_GLOBAL);
	CHECK_EQ(p.parse("ubd=cache:none", 13), UBD_OPTION_BAD);
	CHECK_EQ(p.parse("ubd=cache:none", 9), UBD_OPTION_BAD);
	CHECK_EQ(p.parse("ubd12=/abc", 8), UBD_OPTION_DEVICE);
	CHECK_EQ(p.o->index, 12);
	CHECK(same(p.o->path, "/a"));
	CHECK_EQ(p.parse("ubd0x10=/a", 5), UBD_OPTION_BAD);
	CHECK_EQ(p.parse("ubd0=/a", 3), UBD_OPTION_BAD);
	CHECK_EQ(p.parse("ubd0=/a", 2), UBD_OPTION_OTHER);
	// Every prefix of every word: nothing beyond it is read.
	for (const Good &g : good)
		for (size_t n = 0; n <= __builtin_strlen(g.word); n++)
			p.parse(g.word, n);
	for (const Bad &b : bad)
		for (size_t n = 0; n <= __builtin_strlen(b.word); n++)
			p.parse(b.word, n);
}

// Fields that just fit and that just do not.
UBD_CASE(lengths_of_fields)
{
	char *word = static_cast<char *>(ubd_test_alloc(3 * UBD_SPEC_MAX));
	struct {
		size_t path, backing, serial;
		bool ok;
	} table[] = {
		{ UBD_PATH_MAX - 1, 0, 0, true },
		{ UBD_PATH_MAX, 0, 0, false },
		{ 1, UBD_PATH_MAX - 1, 0, true },
		{ 1, UBD_PATH_MAX, 0, false },
		{ 1, 1, UBD_SERIAL_MAX - 1, true },
		{ 1, 1, UBD_SERIAL_MAX, false },
		{ 1, 0, UBD_SERIAL_MAX - 1, true },
		{ UBD_PATH_MAX - 1, UBD_PATH_MAX - 1, UBD_SERIAL_MAX - 1, true },
		{ 2 * UBD_PATH_MAX + 500, 0, 0, false },
		{ 2 * UBD_SPEC_MAX, 0, 0, false },
	};
	for (auto &t : table) {
		char *at = word;
		__builtin_memcpy(at, "ubd5=", 5);
		at += 5;
		__builtin_memset(at, 'p', t.path);
		at += t.path;
		*at++ = ',';
		__builtin_memset(at, 'b', t.backing);
		at += t.backing;
		*at++ = ',';
		__builtin_memset(at, 's', t.serial);
		at += t.serial;
		Parsed p;
		p.parse(word, static_cast<size_t>(at - word));
		CHECK_EQ(p.kind, t.ok ? UBD_OPTION_DEVICE : UBD_OPTION_BAD);
		if (t.ok) {
			CHECK_EQ(__builtin_strlen(p.o->path), t.path);
			CHECK_EQ(__builtin_strlen(p.o->backing), t.backing);
			CHECK_EQ(__builtin_strlen(p.o->serial), t.serial);
		} else {
			CHECK(contains(p.why, "too long"));
		}
	}
	ubd_test_free(word);
}

// A long word of somebody else's is not ours to complain about.
UBD_CASE(long_words_of_others)
{
	char *word = static_cast<char *>(ubd_test_alloc(2 * UBD_SPEC_MAX));
	__builtin_memset(word, 'x', 2 * UBD_SPEC_MAX);
	Parsed p;
	CHECK_EQ(p.parse(word, 2 * UBD_SPEC_MAX), UBD_OPTION_OTHER);
	__builtin_memcpy(word, "ubd.", 4);
	CHECK_EQ(p.parse(word, 2 * UBD_SPEC_MAX), UBD_OPTION_OTHER);
	ubd_test_free(word);
}

// The reason fits a buffer of any size, and ends.
UBD_CASE(short_buffer_for_the_reason)
{
	Parsed p;
	char why[8];
	for (size_t n = 1; n <= sizeof(why); n++) {
		__builtin_memset(why, 'x', sizeof(why));
		CHECK_EQ(ubd_parse_option("ubd", 3, &p.state, p.o, why, n), UBD_OPTION_BAD);
		CHECK(__builtin_strlen(why) == n - 1);
	}
}

// Names in messages have nothing that a terminal obeys.
UBD_CASE(shown_names)
{
	static constexpr struct {
		const char *path, *shown;
	} table[] = {
		{ "/a b\xc3\xa4\xe2\x82\xac~", "/a b\xc3\xa4\xe2\x82\xac~" },
		{ "/\033[2J\n<0>\x7f\t", "/?[2J?<0>??" },
		{ "/\xc2\x9b"
		  "2J\xc2\x80\xc2\xa0\xc2",
		  "/??2J??\xc2\xa0\xc2" },
	};
	char shown[UBD_SHOWN_MAX];
	for (auto &t : table) {
		shorten_path(t.path, shown);
		CHECK(same(shown, t.shown));
	}
	// What comes from the command line, too; the path itself is left as it is.
	Parsed p;
	CHECK_EQ(p.parse("ubd0=/a\033b,/c\nd"), UBD_OPTION_DEVICE);
	CHECK(same(p.o->path, "/a\033b") && same(p.o->shown, "/a?b"));
	CHECK(same(p.o->backing, "/c\nd") && same(p.o->backing_shown, "/c?d"));
	// Shortened between the two bytes, or not.
	char path[600];
	for (u32 n = 0; n < 300; n++) {
		for (u32 i = 0; i < 500; i++)
			path[i] = static_cast<char>((i + n) % 2 ? 0x9b : 0xc2);
		path[n + 199] = '\0';
		shorten_path(path, shown);
		CHECK_EQ(__builtin_strlen(shown), 199);
		for (u32 i = 0; shown[i]; i++)
			CHECK(static_cast<u8>(shown[i]) != 0xc2 || static_cast<u8>(shown[i + 1]) != 0x9b);
	}
}

UBD_CASE(disk_names)
{
	struct {
		u32 index;
		const char *name;
	} table[] = {
		{ 0, "ubda" },    { 1, "ubdb" },     { 15, "ubdp" },     { 25, "ubdz" },
		{ 26, "ubdaa" },  { 27, "ubdab" },   { 51, "ubdaz" },    { 52, "ubdba" },
		{ 701, "ubdzz" }, { 702, "ubdaaa" }, { 1023, "ubdamj" },
	};
	char name[32];
	for (auto &t : table) {
		ubd_disk_name("ubd", t.index, name, sizeof(name));
		if (!same(name, t.name))
			failed_here(__FILE__, __LINE__, "%u: %s, expected %s", t.index, name, t.name);
	}
	ubd_disk_name("aubd", 1, name, sizeof(name));
	CHECK(same(name, "aubdb"));
	ubd_disk_name("ubd", 0, name, 4);
	CHECK(same(name, "ubd"));
}

} // namespace

const ubd_test_case ubd_suite_options[] = {
	UBD_ENTRY(good_words),
	UBD_ENTRY(bad_words),
	UBD_ENTRY(words_of_others),
	UBD_ENTRY(the_engine_counts_from_there_on),
	UBD_ENTRY(the_last_directory_of_hot_plug),
	UBD_ENTRY(sync_counts_from_there_on),
	UBD_ENTRY(cache_modes),
	UBD_ENTRY(policies_for_want_of_space),
	UBD_ENTRY(bad_cache_modes),
	UBD_ENTRY(length_is_not_exceeded),
	UBD_ENTRY(lengths_of_fields),
	UBD_ENTRY(long_words_of_others),
	UBD_ENTRY(short_buffer_for_the_reason),
	UBD_ENTRY(shown_names),
	UBD_ENTRY(disk_names),
	{ nullptr, nullptr },
};
