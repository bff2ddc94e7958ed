// SPDX-License-Identifier: GPL-2.0-only
/*
 * How the tool speaks: failures, names and numbers as people read them, and
 * the progress of long work.
 */
#ifndef UBD_TOOLS_COW_REPORT_HH
#define UBD_TOOLS_COW_REPORT_HH

#include "../../drivers/ubd/core/base.hh"

#include <chrono>
#include <string>

namespace ubd::tool
{

// What the program ends with; in the manual page.
enum Status : int {
	status_done = 0,
	status_failed = 1,
	status_usage = 2,
	status_damaged = 3, // check: something is wrong, and not repaired
	status_repaired = 4, // check: something was wrong, all is repaired
	status_in_use = 5,
};

// Ends a command. The text is the message: file, what, what to do.
struct Failure {
	int status;
	std::string text;
};

[[noreturn]] void fail(const std::string &file, const std::string &what, const std::string &remedy);
[[noreturn]] void fail_errno(const std::string &file, const std::string &what, int number, const std::string &remedy);

// What helps against an error of a write, an open and so on.
const char *remedy_for(int number);

// A name from anywhere, without what a terminal would obey.
std::string shown(const std::string &name);
// "2026-01-31 12:00:00 UTC"
std::string date(u64 seconds);
// "1.5 MiB"
std::string amount(u64 bytes);

// A bar on the terminal, if standard error is one.
class Progress {
public:
	Progress(const char *what, u64 total);
	~Progress();
	Progress(const Progress &) = delete;
	Progress &operator=(const Progress &) = delete;
	void at(u64 done);

private:
	using Clock = std::chrono::steady_clock;

	void draw(u64 done) const;

	const char *const what_;
	const u64 total_;
	const bool on_;
	Clock::time_point next_ = Clock::now();
};

} // namespace ubd::tool

#endif
