// SPDX-License-Identifier: GPL-2.0-only
#include "report.hh"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <unistd.h>

// Core's one wish for a way out.
extern "C" void ubd_k_assert_failed(const char *what, const char *file, int line)
{
	std::fprintf(stderr, "ubd-cow: broken invariant: %s (%s:%d)\n", what, file, line);
	std::abort();
}

namespace ubd::tool
{

void fail(const std::string &file, const std::string &what, const std::string &remedy)
{
	throw Failure{ status_failed, shown(file) + ": " + what + "; " + remedy };
}

void fail_errno(const std::string &file, const std::string &what, int number, const std::string &remedy)
{
	fail(file, what + ": " + errno_words(number) + " (" + std::to_string(number) + ")", remedy);
}

const char *remedy_for(int number)
{
	switch (number) {
	case ENOSPC:
	case EDQUOT:
		return "free space on that file system and run it again";
	case ENOENT:
		return "correct its name";
	case EACCES:
	case EPERM:
		return "check the permissions of the file and its directory";
	case EROFS:
		return "the file system is read-only: remount it, or take another place";
	case EFBIG:
		return "the file system, or ulimit -f, allows no file of that length";
	case EEXIST:
		return "remove it, or choose another name";
	case EIO:
		return "look into the system's log for errors of the disk";
	default:
		return "check the file and its file system";
	}
}

namespace
{

// The bytes of the character that begins there, in UTF-8. 0 if there is none, or
// if it is for the terminal: those of eight bits are as good as ESC.
size_t printable_at(const std::string &text, size_t at)
{
	const auto byte = [&](size_t i) { return at + i < text.size() ? static_cast<u8>(text[at + i]) : 0u; };
	const u32 first = byte(0), second = byte(1);
	if (first < 0x80)
		return first >= 0x20 && first != 0x7f;
	// Nothing that could have been shorter.
	const u32 least = first == 0xc2 || first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
	const size_t n = first < 0xc2 || first > 0xf4 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
	for (size_t i = 1; i < n; i++)
		if (byte(i) >> 6 != 2)
			return 0;
	return second < least ? 0 : n;
}

} // namespace

std::string shown(const std::string &name)
{
	std::string out;
	for (size_t at = 0, n; at < name.size(); at += n ? n : 1) {
		char hex[5];
		n = printable_at(name, at);
		std::snprintf(hex, sizeof(hex), "\\x%02x", static_cast<u8>(name[at]));
		out += n ? name.substr(at, n) : hex;
	}
	return out;
}

std::string date(u64 seconds)
{
	char text[64];
	struct tm tm;
	const time_t t = static_cast<time_t>(seconds);
	if (!gmtime_r(&t, &tm) || !std::strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S UTC", &tm))
		return std::to_string(seconds);
	return text;
}

std::string amount(u64 bytes)
{
	static constexpr const char *units[] = { "bytes", "KiB", "MiB", "GiB", "TiB" };
	double n = static_cast<double>(bytes);
	size_t unit = 0;
	for (; n >= 1024 && unit < 4; unit++)
		n /= 1024;
	char text[32];
	std::snprintf(text, sizeof(text), "%.*f %s", unit ? 1 : 0, n, units[unit]);
	return text;
}

Progress::Progress(const char *what, u64 total)
	: what_(what), total_(std::max<u64>(total, 1)), on_(isatty(STDERR_FILENO) == 1)
{
}

Progress::~Progress()
{
	if (on_)
		std::fputs("\r\033[K", stderr);
}

void Progress::at(u64 done)
{
	if (!on_ || Clock::now() < next_)
		return;
	next_ = Clock::now() + std::chrono::milliseconds(100);
	draw(std::min(done, total_));
}

void Progress::draw(u64 done) const
{
	constexpr int width = 40;
	const double part = static_cast<double>(done) / static_cast<double>(total_);
	const int full = static_cast<int>(part * width);
	std::fprintf(stderr, "\r%s [%.*s%*s] %3d%%", what_, full, "########################################",
		     width - full, "", static_cast<int>(part * 100));
	std::fflush(stderr);
}

} // namespace ubd::tool
