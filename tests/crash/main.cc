// SPDX-License-Identifier: GPL-2.0-only
/*
 * ubd-crash [--seeds N] [--first S] [--seed S [--step K]] [--trace] [--jobs N]
 *           [--bounded N [--faults N]] [--workload W [--faults N]] [--stop]
 *
 *	--seeds N	so many random workloads (10000)
 *	--first S	beginning with seed S (1)
 *	--seed S	only this one
 *	--step K	only until crash point K of it, which is described
 *	--bounded N	instead: every workload of up to N operations
 *	--faults N	there, for those of up to N: also with a fault (0)
 *	--workload W	instead: that one of them, in every order
 *	--trace		says all that happens; the same seed says the same
 *	--jobs N	processes side by side (one for each CPU)
 *	--stop		at the first failure
 *	--ignore-asserts  core's own assertions count for nothing
 *
 * Each failure is named, with the command that shows it. The last line is
 * "crash: N passed, N failed", the status 0 if none failed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bounded.hh"
#include "workload.hh"
#include "world.hh"

namespace ubd::sim
{

bool tracing;
bool asserts_ignored;

namespace
{

jmp_buf way_out;
char reason[600];

} // namespace

void fail(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(reason, sizeof(reason), format, args);
	va_end(args);
	trace("FAIL %s", reason);
	longjmp(way_out, 1);
}

void trace(const char *format, ...)
{
	if (!tracing)
		return;
	va_list args;
	va_start(args, format);
	printf("%6llu ", crash::world ? crash::world->step() : 0);
	vprintf(format, args);
	putchar('\n');
	va_end(args);
}

namespace
{

using crash::Counts;
using crash::World;

struct Options {
	u64 first = 1;
	u64 count = 10000;
	u64 jobs = 0;
	u32 bounded = 0; // operations; 0: random workloads
	u32 faults = 0;
	bool one = false;
	bool stop = false;
	const char *program = "ubd-crash";

	u64 end() const { return first + count; }
};

// One process's part of the work, in shared memory: it may crash.
struct Share {
	u64 next; // seed or workload that is being run, or will be
	u64 passed, failed;
	u64 orders;
	Counts counts;
	double found_at; // the first failure
	u64 found;
};

constexpr u64 most_named = 10;
// What takes so many seconds will never end.
constexpr unsigned most_seconds = 60;

double clock_now()
{
	timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}

bool with_faults(const Options &o, u64 workload)
{
	return workload < crash::bounded_workloads(o.faults);
}

// False, and `reason` says why, if a promise was broken.
bool run(const Options &o, Share &share, u64 number)
{
	if (setjmp(way_out))
		return false;
	if (!o.bounded) {
		crash::run_seed(number);
		return true;
	}
	share.orders += crash::run_workload(number, false);
	if (with_faults(o, number))
		share.orders += crash::run_workload(number, true);
	return true;
}

void name_failure(const Options &o, u64 number, const char *why)
{
	char line[1200];
	int n;
	if (o.bounded)
		n = snprintf(line, sizeof(line), "FAIL %s: %s\n     %s%s --workload %llu --faults %u --trace\n",
			     crash::workload_words(number), why, o.program, asserts_ignored ? " --ignore-asserts" : "",
			     number, o.faults);
	else
		n = snprintf(line, sizeof(line), "FAIL seed %llu: %s\n     %s%s --seed %llu --trace\n", number, why,
			     o.program, asserts_ignored ? " --ignore-asserts" : "", number);
	fflush(stdout);
	(void)!write(STDOUT_FILENO, line, static_cast<size_t>(n));
}

void failed(const Options &o, Share &share, const char *why, double began)
{
	if (!share.failed++) {
		share.found = share.next;
		share.found_at = clock_now() - began;
	}
	if (share.failed <= most_named)
		name_failure(o, share.next, why);
}

void work(const Options &o, Share &share, double began)
{
	while (share.next < o.end()) {
		alarm(most_seconds);
		if (run(o, share, share.next))
			share.passed++;
		else
			failed(o, share, reason, began);
		share.counts = World::counts;
		if (o.stop && share.failed)
			return;
		share.next += o.jobs;
	}
}

// What crashes takes its process with it: another goes on after it.
void supervise(const Options &o, Share &share, double began)
{
	while (share.next < o.end() && !(o.stop && share.failed)) {
		int status = 0;
		const pid_t pid = fork();
		if (!pid) {
			World::counts = share.counts;
			work(o, share, began);
			exit(0); // not _exit(): coverage is written then
		}
		if (pid < 0 || waitpid(pid, &status, 0) != pid || !status)
			break;
		char why[80];
		snprintf(why, sizeof(why), "crashed (wait status 0x%x)", static_cast<unsigned>(status));
		failed(o, share, why, began);
		share.next += o.jobs;
	}
}

void add(Share &sum, const Share &share)
{
	sum.passed += share.passed;
	sum.orders += share.orders;
	sum.counts.points += share.counts.points;
	sum.counts.images += share.counts.images;
	if (share.failed && (!sum.failed || share.found_at < sum.found_at)) {
		sum.found = share.found;
		sum.found_at = share.found_at;
	}
	sum.failed += share.failed;
}

int report(const Options &o, const Share &sum, double seconds)
{
	if (sum.failed && o.bounded)
		printf("first failure: %s after %.2f s\n", crash::workload_words(sum.found), sum.found_at);
	else if (sum.failed)
		printf("first failure: seed %llu after %.2f s\n", sum.found, sum.found_at);
	if (o.bounded)
		printf("every workload of up to %u operations (%llu), in every order (%llu), with faults: up to %u\n",
		       o.bounded, o.count, sum.orders, o.faults);
	printf("%.1f s, %llu crash points, %llu crashed files opened anew\n", seconds, sum.counts.points,
	       sum.counts.images);
	printf("crash: %llu passed, %llu failed\n", sum.passed, sum.failed);
	return sum.failed || sum.passed != o.count;
}

int run_all(const Options &o)
{
	const size_t bytes = sizeof(Share) * o.jobs;
	auto *shares =
		static_cast<Share *>(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	const double began = clock_now();
	for (u64 j = 0; j < o.jobs; j++) {
		shares[j].next = o.first + j;
		if (!fork()) {
			supervise(o, shares[j], began);
			_exit(0);
		}
	}
	while (wait(nullptr) > 0)
		;
	Share sum{};
	for (u64 j = 0; j < o.jobs; j++)
		add(sum, shares[j]);
	return report(o, sum, clock_now() - began);
}

int run_one(const Options &o)
{
	Share share{};
	const double began = clock_now();
	share.next = o.first;
	if (run(o, share, o.first))
		share.passed++;
	else
		failed(o, share, reason, began);
	share.counts = World::counts;
	return report(o, share, clock_now() - began);
}

[[noreturn]] void usage()
{
	fputs("usage: ubd-crash [--seeds N] [--first S] [--seed S [--step K]] [--trace] [--jobs N]\n"
	      "                 [--bounded N [--faults N]] [--workload W [--faults N]] [--stop] [--ignore-asserts]\n",
	      stderr);
	exit(2);
}

u64 number(const char *text)
{
	char *end;
	const u64 n = text ? strtoull(text, &end, 10) : 0;
	if (!text || !*text || *end)
		usage();
	return n;
}

Options parse(int argc, char **argv)
{
	Options o;
	o.program = argv[0];
	for (int i = 1; i < argc; i++) {
		const char *next = argv[i + 1];
		if (!strcmp(argv[i], "--seeds"))
			o.count = number(next), i++;
		else if (!strcmp(argv[i], "--first"))
			o.first = number(next), i++;
		else if (!strcmp(argv[i], "--seed"))
			o.first = number(next), o.one = true, i++;
		else if (!strcmp(argv[i], "--step"))
			World::stop_at = number(next), i++;
		else if (!strcmp(argv[i], "--bounded"))
			o.bounded = static_cast<u32>(number(next)), i++;
		else if (!strcmp(argv[i], "--faults"))
			o.faults = static_cast<u32>(number(next)), i++;
		else if (!strcmp(argv[i], "--workload"))
			o.first = number(next), o.one = true, o.bounded = 3, i++;
		else if (!strcmp(argv[i], "--jobs"))
			o.jobs = number(next), i++;
		else if (!strcmp(argv[i], "--trace"))
			tracing = true;
		else if (!strcmp(argv[i], "--stop"))
			o.stop = true;
		else if (!strcmp(argv[i], "--ignore-asserts"))
			asserts_ignored = true;
		else
			usage();
	}
	if (!o.jobs)
		o.jobs = static_cast<u64>(sysconf(_SC_NPROCESSORS_ONLN));
	if (o.bounded && !o.one)
		o.first = 0, o.count = crash::bounded_workloads(o.bounded);
	if (o.one)
		o.count = 1;
	return o;
}

} // namespace
} // namespace ubd::sim

int main(int argc, char **argv)
{
	const ubd::sim::Options o = ubd::sim::parse(argc, argv);
	return o.one ? ubd::sim::run_one(o) : ubd::sim::run_all(o);
}
