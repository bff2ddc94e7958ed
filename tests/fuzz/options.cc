// SPDX-License-Identifier: GPL-2.0-only
/*
 * Fuzzes the command line: words with blanks between, as the kernel's command
 * line has them. What is taken for a device is put together again, and has to be
 * taken for the same.
 *
 * Input: the line, in which a byte of 0x10 to 0x1c stands for so many times the
 * byte before it: 1, 2, 4 up to 4096. Names that are too long are long.
 */
#include "../../drivers/ubd/core/options.hh"
#include "fuzz.hh"

#include <map>
#include <string>

using namespace ubd;
using namespace ubd::fuzz;

namespace
{

struct Parsed {
	ubd_option_kind kind;
	ubd_options options;
	std::string why;
};

Parsed parse(const std::string &word, ubd_option_state &state)
{
	Parsed p{};
	const Exact<char> exact(word.data(), word.size()), why(100);
	std::memset(&p.options, 0x5a, sizeof(p.options)); // what an earlier word left
	p.kind = ubd_parse_option(exact.get(), word.size(), &state, &p.options, why.get(), 100);
	REQUIRE(std::memchr(why.get(), 0, 100));
	p.why = why.get();
	return p;
}

template <size_t n> std::string text(const char (&from)[n])
{
	REQUIRE(std::memchr(from, 0, n));
	return from;
}

bool same(const ubd_options &a, const ubd_options &b)
{
	return a.index == b.index && a.engine == b.engine && a.werror == b.werror && a.read_only == b.read_only &&
	       a.cache == b.cache && a.shared == b.shared && a.plain == b.plain && a.no_discard == b.no_discard &&
	       text(a.path) == text(b.path) && text(a.backing) == text(b.backing) && text(a.serial) == text(b.serial) &&
	       text(a.shown) == text(b.shown) && text(a.backing_shown) == text(b.backing_shown);
}

std::string word_of(const ubd_options &o)
{
	std::string word = "ubd" + std::to_string(o.index);
	word += o.read_only ? "r" : "";
	word += o.shared ? "c" : "";
	word += o.plain ? "d" : "";
	word += o.no_discard ? "t" : "";
	return word + "=" + text(o.path) + "," + text(o.backing) + "," + text(o.serial);
}

// A path as messages have to show it: whole, or its beginning and its end, with
// question marks for control characters, also those that are two bytes in UTF-8.
std::string shown_of(const std::string &path)
{
	std::string shown = path;
	if (path.size() > 199)
		shown = path.substr(0, 60) + "..." + path.substr(path.size() - 136);
	for (size_t i = 0; i < shown.size(); i++) {
		const u8 c = static_cast<u8>(shown[i]), next = static_cast<u8>(i + 1 < shown.size() ? shown[i + 1] : 0);
		const bool wide = c == 0xc2 && next >= 0x80 && next <= 0x9f;
		if (c <= 0x1f || c == 0x7f || wide)
			shown.replace(i, wide ? 2 : 1, wide ? "??" : "?");
	}
	return shown;
}

void check_device(const ubd_options &o, const std::string &mode)
{
	REQUIRE(name_of(o.cache) == mode);
	REQUIRE(o.index < UBD_MAX_DEVICES);
	REQUIRE(o.path[0]);
	REQUIRE(!(o.plain && o.backing[0]));
	REQUIRE(text(o.shown) == shown_of(text(o.path)));
	REQUIRE(text(o.backing_shown) == shown_of(text(o.backing)));
	char disk[16];
	ubd_disk_name("ubd", o.index, disk, sizeof(disk));
	REQUIRE(std::memchr(disk, 0, sizeof(disk)) && std::strlen(disk) >= 4 && std::strlen(disk) <= 6);
	ubd_option_state state{ o.cache, o.werror, o.engine, nullptr, 0 };
	const Parsed again = parse(word_of(o), state);
	REQUIRE(again.kind == UBD_OPTION_DEVICE && same(again.options, o));
}

// What the modes that are named become by s.
const std::map<std::string, std::string> synced = { { "writeback", "writethrough" },
						    { "none", "directsync" },
						    { "writethrough", "writethrough" },
						    { "directsync", "directsync" },
						    { "unsafe", "writethrough" } };

// The mode of the devices that follow the word, if it is for them; else ""
std::string mode_after(const std::string &word, const std::string &mode)
{
	if (word == "ubd=sync")
		return synced.at(mode);
	return word.compare(0, 10, "ubd=cache:") == 0 && synced.count(word.substr(10)) ? word.substr(10) : "";
}

// That of a device: s stands among its flags, behind its number or letter.
std::string mode_of(const std::string &word, const std::string &mode)
{
	const bool s = word.substr(4, word.find('=') - 4).find('s') != std::string::npos;
	return s ? synced.at(mode) : mode;
}

// The engine that a word names, or the default.
ubd_engine engine_of(const std::string &word)
{
	return word == "ubd=engine:auto"       ? UBD_ENGINE_AUTO
	       : word == "ubd=engine:io_uring" ? UBD_ENGINE_IO_URING
	       : word == "ubd=engine:threads"  ? UBD_ENGINE_THREADS
					       : UBD_ENGINE_DEFAULT;
}

// The policy of the devices that follow the word, if it is for them; else ""
std::string policy_after(const std::string &word)
{
	return word == "ubd=werror:report"                                ? "report"
	       : word == "ubd=werror:stop" || word == "ubd=werror:enospc" ? "stop"
									  : "";
}

std::string line_of(Input in)
{
	std::string line;
	while (!in.empty()) {
		const char c = static_cast<char>(in.byte());
		if (c < 0x10 || c > 0x1c)
			line += c;
		else if (!line.empty() && line.size() < 20000)
			line.append(1ul << (c - 0x10), line.back());
	}
	return line;
}

} // namespace

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	const std::string line = line_of(Input(data, bytes));
	ubd_option_state state{};
	std::string mode = "writeback";
	std::string policy = "report";
	ubd_engine engine = UBD_ENGINE_DEFAULT;
	for (size_t at = 0, end; at < line.size(); at = end + 1) {
		end = std::min(line.find(' ', at), line.size());
		const std::string word = line.substr(at, end - at);
		const std::string after = mode_after(word, mode);
		const ubd_engine named = engine_of(word);
		const std::string waits = policy_after(word);
		engine = named == UBD_ENGINE_DEFAULT ? engine : named;
		const Parsed p = parse(word, state);
		REQUIRE((p.kind == UBD_OPTION_OTHER) ==
			(word.compare(0, 3, "ubd") != 0 || word.compare(0, 4, "ubd.") == 0));
		const bool known = word.compare(0, 12, "ubd=hotplug:") == 0 && word.size() - 3 < UBD_SPEC_MAX;
		const std::string directory = known ? word.substr(12) : "";
		REQUIRE((p.kind == UBD_OPTION_GLOBAL) ==
			(!after.empty() || !waits.empty() || named != UBD_ENGINE_DEFAULT || !directory.empty()));
		REQUIRE(directory.empty() || state.hotplug_bytes == directory.size());
		mode = after.empty() ? mode : after;
		policy = waits.empty() ? policy : waits;
		REQUIRE(name_of(state.werror) == policy);
		REQUIRE(name_of(state.cache) == mode);
		REQUIRE(state.engine == engine);
		REQUIRE((p.kind == UBD_OPTION_BAD) == !p.why.empty());
		if (p.kind == UBD_OPTION_DEVICE) {
			REQUIRE(p.options.engine == engine);
			REQUIRE(name_of(p.options.werror) == policy);
			check_device(p.options, mode_of(word, mode));
		}
	}
	return 0;
}
