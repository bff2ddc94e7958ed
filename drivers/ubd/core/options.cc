// SPDX-License-Identifier: GPL-2.0-only
/*
 * The parser of the command line.
 *
 * Context: any, no lock, no memory but the caller's.
 */
#include "options.hh"

namespace ubd
{
namespace
{

// What is left of the word.
struct Text {
	const char *at;
	size_t left;

	bool empty() const { return !left; }
	char peek() const { return left ? *at : '\0'; }
	void skip(size_t n = 1)
	{
		at += n;
		left -= n;
	}
	bool take(const char *prefix)
	{
		size_t n = __builtin_strlen(prefix);
		if (left < n || __builtin_memcmp(at, prefix, n) != 0)
			return false;
		skip(n);
		return true;
	}
	bool is(const char *text) const
	{
		size_t n = __builtin_strlen(text);
		return left == n && __builtin_memcmp(at, text, n) == 0;
	}
};

// Where a parse leaves its reason.
struct Why {
	char *to;
	size_t bytes;

	ubd_option_kind bad(const char *reason) const
	{
		ubd_k_snprintf(to, bytes, "%s", reason);
		return UBD_OPTION_BAD;
	}
};

int digit_of(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return 99;
}

// A device number in the bases of simple_strtoul(s, 0). It stops growing when
// it is out of range anyway. False if there is none.
bool take_index(Text &t, u32 &index)
{
	char c = t.peek();
	if (c >= 'a' && c <= 'z') {
		index = static_cast<u32>(c - 'a');
		t.skip();
		return true;
	}
	if (c < '0' || c > '9')
		return false;
	int base = 10;
	if (c == '0') {
		base = 8;
		if (t.left > 2 && (t.at[1] == 'x' || t.at[1] == 'X') && digit_of(t.at[2]) < 16) {
			base = 16;
			t.skip(2);
		}
	}
	index = 0;
	for (int d; !t.empty() && (d = digit_of(t.peek())) < base; t.skip())
		if (index < UBD_MAX_DEVICES)
			index = index * static_cast<u32>(base) + static_cast<u32>(d);
	return true;
}

// Copies up to the next separator, which is dropped. False if it is too long.
bool take_field(Text &t, char *to, size_t bytes)
{
	size_t n = 0;
	while (n < t.left && t.at[n] != ',' && t.at[n] != ':')
		n++;
	if (n >= bytes)
		return false;
	__builtin_memcpy(to, t.at, n);
	to[n] = '\0';
	t.skip(n < t.left ? n + 1 : n);
	return true;
}

ubd_option_kind parse_flags(Text &t, ubd_options &o, const Why &why)
{
	constexpr int most = 6; // as many as the kernel's own driver takes
	for (int i = 0;; i++, t.skip()) {
		if (i > most)
			return why.bad("too many flags; take at most six of r s c d t");
		switch (t.peek()) {
		case '=':
			t.skip();
			return UBD_OPTION_DEVICE;
		case 'r':
			o.read_only = true;
			break;
		case 's':
			o.cache = with_sync(o.cache);
			break;
		case 'c':
			o.shared = true;
			break;
		case 'd':
			o.plain = true;
			break;
		case 't':
			o.no_discard = true;
			break;
		case '\0':
			return why.bad("'=' and a file name are missing");
		default:
			return why.bad("unknown flag; the flags are r s c d t, then comes '='");
		}
	}
}

ubd_option_kind parse_files(Text &t, ubd_options &o, const Why &why)
{
	if (!take_field(t, o.path, sizeof(o.path)))
		return why.bad("the file name is too long; a host path has at most 4095 bytes");
	if (!take_field(t, o.backing, sizeof(o.backing)))
		return why.bad("the backing file's name is too long; a host path has at most 4095 bytes");
	if (!take_field(t, o.serial, sizeof(o.serial)))
		return why.bad("the serial is too long; it has at most 127 bytes");
	if (!o.path[0])
		return why.bad("the file name is missing after '='");
	shorten_path(o.path, o.shown);
	shorten_path(o.backing, o.backing_shown);
	if (o.backing[0] && o.plain)
		return why.bad("flag d (plain data) and a backing file exclude each other");
	return UBD_OPTION_DEVICE;
}

ubd_option_kind parse(Text t, ubd_option_state &state, ubd_options &o, const Why &why)
{
	if (!t.take("ubd"))
		return UBD_OPTION_OTHER;
	if (t.peek() == '.') // a module parameter, as in ubd.prefix=
		return UBD_OPTION_OTHER;
	if (t.left >= UBD_SPEC_MAX)
		return why.bad("the description is too long");
	if (t.is("=sync")) {
		state.cache = with_sync(state.cache);
		return UBD_OPTION_GLOBAL;
	}
	if (t.take("=cache:"))
		return ubd_parse_cache(t.at, t.left, &state.cache)
			       ? UBD_OPTION_GLOBAL
			       : why.bad("unknown cache mode; the modes are " UBD_CACHE_NAMES);
	if (t.take("=werror:")) {
		const char *wrong = ubd_parse_werror(t.at, t.left, &state.werror);
		return wrong ? why.bad(wrong) : UBD_OPTION_GLOBAL;
	}
	if (t.take("=engine:")) {
		const ubd_engine engine = ubd_parse_engine(t.at, t.left);
		if (engine == UBD_ENGINE_DEFAULT)
			return why.bad("unknown engine; the engines are " UBD_ENGINE_NAMES);
		state.engine = engine;
		return UBD_OPTION_GLOBAL;
	}
	if (t.take("=hotplug:")) {
		if (t.empty())
			return why.bad("the directory is missing, below which files may be attached");
		state.hotplug = t.at;
		state.hotplug_bytes = t.left;
		return UBD_OPTION_GLOBAL;
	}
	if (t.peek() == '=')
		return why.bad("only ubd=sync, ubd=cache:MODE, ubd=engine:NAME, ubd=werror:POLICY and "
			       "ubd=hotplug:DIRECTORY are known without a device number");
	__builtin_memset(&o, 0, sizeof(o)); // 8 KiB: no temporary on a kernel stack
	o.cache = state.cache;
	o.engine = state.engine;
	o.werror = state.werror;
	if (!take_index(t, o.index))
		return why.bad("no device number; give one from 0 to 1023, or a letter from a to z");
	if (o.index >= UBD_MAX_DEVICES)
		return why.bad("the device number is out of range; it goes from 0 to 1023");
	if (ubd_option_kind k = parse_flags(t, o, why); k != UBD_OPTION_DEVICE)
		return k;
	return parse_files(t, o, why);
}

} // namespace

namespace
{

// What a terminal would obey: a name may be from a header that anybody wrote.
// U+0080 to U+009F are such, too: two bytes in UTF-8.
void hide_controls(char *text)
{
	for (char *c = text; *c; c++) {
		const u8 first = static_cast<u8>(c[0]), second = static_cast<u8>(c[1]);
		if (first < 0x20 || first == 0x7f) {
			c[0] = '?';
		} else if (first == 0xc2 && second >= 0x80 && second < 0xa0) {
			c[0] = c[1] = '?';
		}
	}
}

} // namespace

const char *name_of(ubd_cache mode)
{
	static constexpr const char *names[UBD_CACHE_COUNT] = { "writeback", "none", "writethrough", "directsync",
								"unsafe" };
	return names[mode];
}

const char *name_of(ubd_werror policy)
{
	return policy == UBD_WERROR_STOP ? "stop" : "report";
}

// A record of the kernel's log ends at about 1000 bytes, and the reason stands
// behind the name.
void shorten_path(const char *path, char *to)
{
	constexpr size_t head = 60, tail = UBD_SHOWN_MAX - 1 - head - 3;
	size_t n = __builtin_strlen(path);
	if (n < UBD_SHOWN_MAX)
		ubd_k_snprintf(to, UBD_SHOWN_MAX, "%s", path);
	else
		ubd_k_snprintf(to, UBD_SHOWN_MAX, "%.*s...%s", static_cast<int>(head), path, path + n - tail);
	hide_controls(to);
}

} // namespace ubd

bool ubd_parse_cache(const char *text, size_t bytes, ubd_cache *mode)
{
	for (ubd::u8 m = 0; m < UBD_CACHE_COUNT; m++) {
		if (!ubd::Text{ text, bytes }.is(ubd::name_of(static_cast<ubd_cache>(m))))
			continue;
		*mode = static_cast<ubd_cache>(m);
		return true;
	}
	return false;
}

const char *ubd_parse_werror(const char *text, size_t bytes, ubd_werror *policy)
{
	const ubd::Text t{ text, bytes };
	if (t.is("ignore"))
		return "would lose data and tell nobody; take report, or stop to wait for space";
	if (t.is("report"))
		*policy = UBD_WERROR_REPORT;
	else if (t.is("stop") || t.is("enospc"))
		*policy = UBD_WERROR_STOP;
	else
		return "is neither report nor stop";
	return nullptr;
}

ubd_option_kind ubd_parse_option(const char *word, size_t bytes, ubd_option_state *state, ubd_options *out, char *why,
				 size_t why_bytes)
{
	return ubd::parse(ubd::Text{ word, bytes }, *state, *out, ubd::Why{ why, why_bytes });
}

ubd_engine ubd_parse_engine(const char *name, size_t bytes)
{
	static constexpr const char *names[] = { "auto", "io_uring", "threads" };
	for (ubd::u32 i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (ubd::Text{ name, bytes }.is(names[i]))
			return static_cast<ubd_engine>(UBD_ENGINE_AUTO + i);
	return UBD_ENGINE_DEFAULT;
}

void ubd_disk_name(const char *prefix, ubd_u32 index, char *to, size_t bytes)
{
	// Bijective base 26, as sd and the kernel's own driver count: a..z, aa..
	char letters[8];
	char *at = letters + sizeof(letters) - 1;
	*at = '\0';
	for (ubd_u32 n = index + 1; n; n = (n - 1) / 26)
		*--at = static_cast<char>('a' + (n - 1) % 26);
	ubd_k_snprintf(to, bytes, "%s%s", prefix, at);
}

void ubd_show_text(const char *text, size_t bytes, char *to)
{
	constexpr size_t most = UBD_SHOWN_MAX - 1 - 3;
	const size_t n = bytes < most ? bytes : most;
	__builtin_memcpy(to, text, n);
	__builtin_memcpy(to + n, n < bytes ? "..." : "", n < bytes ? 4 : 1);
	ubd::hide_controls(to);
}
