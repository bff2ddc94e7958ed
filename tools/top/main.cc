// SPDX-License-Identifier: GPL-2.0-only
/*
 * ubd-top: what ubd disks do, live. See Documentation/man/ubd-top.1. Linked
 * statically, for guests of any kind.
 */
#include "../../include/ubd/version.h"
#include "screen.hh"
#include "table.hh"

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include <getopt.h>
#include <unistd.h>

using namespace ubd::top;

namespace
{

constexpr const char *version = "ubd-top " UBD_VERSION "\n";
constexpr const char *help = "usage: ubd-top [-b] [-c] [-d SECONDS] [-n REPORTS] [DISK]...\n"
			     "  -b, --batch          print report after report, for a file or another program\n"
			     "  -c, --totals         totals since the disk is there, not rates per second\n"
			     "  -d, --delay SECONDS  from report to report (1)\n"
			     "  -n, --number REPORTS so many, then end\n"
			     "  -h, --help           this text\n"
			     "  -V, --version\n"
			     "On a terminal: q quits, space is the next report, c changes between totals and rates.\n";
constexpr double shortest_delay = 0.1, longest_delay = 3600;
// Before the first report of rates on a terminal.
constexpr double first_delay = 0.2;

enum Status { status_done, status_failed, status_usage };

struct Settings {
	bool batch = false;
	double delay = 1;
	unsigned long reports = 0; // 0: without end
	std::vector<std::string> disks;
};

class Top {
public:
	Top(const Settings &s, bool totals) : settings_(s), sampler_(s.disks) { table_.totals = totals; }
	int run();

private:
	bool sample();
	bool knows_disks() const;
	std::string head() const;
	std::vector<std::string> report(size_t width, size_t height);
	int run_batch();
	int run_screen();

	const Settings settings_;
	Sampler sampler_;
	Table table_;
	Samples before_, after_;
};

int complain(const std::string &what)
{
	fprintf(stderr, "ubd-top: %s\n", what.c_str());
	return status_failed;
}

// Each report begins where the last one ended.
bool Top::sample()
{
	before_ = after_;
	return sampler_.take(after_);
}

bool Top::knows_disks() const
{
	for (const std::string &disk : settings_.disks) {
		if (!after_.disks.count(disk)) {
			complain(disk + ": no such ubd disk; /sys/block has those that are there");
			return false;
		}
	}
	return true;
}

std::string Top::head() const
{
	const time_t t = time(nullptr);
	char text[160], clock[16] = "";
	tm local;
	if (localtime_r(&t, &local))
		strftime(clock, sizeof(clock), "%H:%M:%S", &local);
	const size_t n = after_.disks.size();
	int used = snprintf(text, sizeof(text), "ubd-top %s  %zu %s  ", clock, n, n == 1 ? "disk" : "disks");
	if (table_.totals)
		snprintf(text + used, sizeof(text) - used, "totals");
	else
		snprintf(text + used, sizeof(text) - used, "%.3f s", after_.at - before_.at);
	return text;
}

std::vector<std::string> Top::report(size_t width, size_t height)
{
	std::vector<std::string> lines = table_.lines(before_, after_, width, height > 1 ? height - 1 : height);
	if (after_.disks.empty())
		lines = { module_version().empty() ? "no ubd disks: the module ubd is not loaded" : "no ubd disks" };
	lines.insert(lines.begin(), head());
	return lines;
}

void sleep_until(double at)
{
	for (double left; (left = at - now()) > 0;)
		usleep(static_cast<useconds_t>(std::fmin(left, 1) * 1e6) + 1);
}

int Top::run_batch()
{
	double next = now();
	// Rates need an interval.
	bool first = !table_.totals;
	for (unsigned long n = 0; !settings_.reports || n < settings_.reports;) {
		sleep_until(next);
		next += settings_.delay;
		if (!sample())
			return complain(std::string("sysfs cannot be read: ") + strerror(errno));
		if (first) {
			first = false;
			continue;
		}
		std::string text;
		for (const std::string &line : report(0, 0))
			text += line + "\n";
		if (!write_all(STDOUT_FILENO, text + "\n"))
			return errno == EPIPE ? status_done : complain(std::string("cannot write: ") + strerror(errno));
		n++;
	}
	return status_done;
}

int Top::run_screen()
{
	Screen screen;
	if (!screen.enter())
		return complain("this is no terminal that can be drawn on: use -b");
	double next = now() + std::fmin(first_delay, settings_.delay);
	Event e = Event::none;
	for (unsigned long n = 0; e != Event::quit && (!settings_.reports || n < settings_.reports);) {
		e = screen.wait(next);
		if (e == Event::lost)
			return status_failed;
		if (e == Event::totals)
			table_.totals = !table_.totals;
		if (e == Event::none || e == Event::now) {
			if (!sample())
				return complain("sysfs cannot be read");
			next = (e == Event::none ? next : now()) + settings_.delay;
			n++;
		}
		if (e != Event::quit && !screen.draw(report(screen.width(), screen.height())))
			return status_failed;
	}
	return status_done;
}

int Top::run()
{
	if (!sample())
		return complain(std::string("sysfs cannot be read: ") + strerror(errno) +
				"; mount it (mount -t sysfs sysfs /sys)");
	if (!knows_disks())
		return status_failed;
	return settings_.batch ? run_batch() : run_screen();
}

bool parse_delay(const char *text, double &out)
{
	char *end;
	out = strtod(text, &end);
	return end != text && !*end && out >= shortest_delay && out <= longest_delay;
}

bool parse_count(const char *text, unsigned long &out)
{
	char *end;
	errno = 0;
	out = strtoul(text, &end, 10);
	return end != text && !*end && !errno && text[0] >= '0' && text[0] <= '9' && out > 0;
}

int usage(const std::string &what)
{
	fprintf(stderr, "ubd-top: %s\n%s", what.c_str(), help);
	return status_usage;
}

} // namespace

int main(int argc, char **argv)
{
	static const option options[] = {
		{ "batch", no_argument, nullptr, 'b' },
		{ "totals", no_argument, nullptr, 'c' },
		{ "delay", required_argument, nullptr, 'd' },
		{ "number", required_argument, nullptr, 'n' },
		{ "help", no_argument, nullptr, 'h' },
		{ "version", no_argument, nullptr, 'V' },
		{ nullptr, 0, nullptr, 0 },
	};
	Settings s;
	bool totals = false;
	for (int c; (c = getopt_long(argc, argv, "bcd:n:hV", options, nullptr)) != -1;) {
		switch (c) {
		case 'b':
			s.batch = true;
			break;
		case 'c':
			totals = true;
			break;
		case 'd':
			if (!parse_delay(optarg, s.delay))
				return usage(std::string("-d ") + optarg +
					     ": not a number of seconds from 0.1 to 3600");
			break;
		case 'n':
			if (!parse_count(optarg, s.reports))
				return usage(std::string("-n ") + optarg + ": not a number of reports");
			break;
		case 'h':
			return write_all(STDOUT_FILENO, help) ? status_done : status_failed;
		case 'V':
			return write_all(STDOUT_FILENO, version) ? status_done : status_failed;
		default:
			fputs(help, stderr);
			return status_usage;
		}
	}
	s.disks.assign(argv + optind, argv + argc);
	return Top(s, totals).run();
}
