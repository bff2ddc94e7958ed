// SPDX-License-Identifier: GPL-2.0-only
/*
 * ubd-sim [--seeds N] [--first S] [--seed S] [--trace] [--jobs N]
 *
 *	--seeds N	so many worlds (100000)
 *	--first S	beginning with seed S (1)
 *	--seed S	only this one
 *	--trace		says all that happens; the same seed says the same
 *	--jobs N	processes side by side (one for each CPU)
 *	--stop		at the first failure
 *	--ignore-asserts  core's own assertions count for nothing
 *
 * Each seed that fails is named, with the command that shows it. The last line
 * is "sim: N passed, N failed", the status 0 if none failed.
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

#include <memory>

#include "world.hh"

namespace ubd::sim
{

bool tracing;
bool asserts_ignored;

namespace
{

jmp_buf way_out;
char reason[400];

struct Options {
	u64 first = 1;
	u64 seeds = 100000;
	u64 jobs = 0;
	bool stop = false;
	const char *program = "ubd-sim";
};

// One process's part of the work, in shared memory: it may crash.
struct Share {
	volatile u64 next; // seed that is being run, or will be
	volatile u64 passed;
	volatile u64 failed;
	volatile double found_at; // the first failure
	volatile u64 found;
};

constexpr u64 most_named = 10;
// A world that takes so many seconds will never end.
constexpr unsigned most_seconds = 30;

double clock_now()
{
	timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}

// False, and `reason` says why, if a rule was broken.
bool run_seed(u64 seed)
{
	auto w = std::make_unique<World>(seed);
	if (setjmp(way_out))
		return false;
	w->run();
	return true;
}

void name_failure(const Options &o, u64 seed, const char *why)
{
	char line[800];
	const int n = snprintf(line, sizeof(line), "FAIL seed %llu: %s\n     %s%s --seed %llu --trace\n", seed, why,
			       o.program, asserts_ignored ? " --ignore-asserts" : "", seed);
	fflush(stdout);
	(void)!write(STDOUT_FILENO, line, static_cast<size_t>(n));
}

void failed(const Options &o, Share &share, u64 seed, const char *why, double began)
{
	if (!share.failed) {
		share.found = seed;
		share.found_at = clock_now() - began;
	}
	share.failed = share.failed + 1;
	if (share.failed <= most_named)
		name_failure(o, seed, why);
}

void work(const Options &o, Share &share, double began)
{
	while (share.next < o.first + o.seeds) {
		alarm(most_seconds);
		if (run_seed(share.next))
			share.passed = share.passed + 1;
		else
			failed(o, share, share.next, reason, began);
		if (o.stop && share.failed)
			return;
		share.next = share.next + o.jobs;
	}
}

// A world that crashes takes its process with it: another goes on after it.
void supervise(const Options &o, Share &share, double began)
{
	while (share.next < o.first + o.seeds && !(o.stop && share.failed)) {
		int status = 0;
		const pid_t pid = fork();
		if (!pid) {
			work(o, share, began);
			exit(0); // not _exit(): coverage is written then
		}
		if (pid < 0 || waitpid(pid, &status, 0) != pid || !status)
			break;
		char why[80];
		snprintf(why, sizeof(why), "crashed (wait status 0x%x)", static_cast<unsigned>(status));
		failed(o, share, share.next, why, began);
		share.next = share.next + o.jobs;
	}
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
	for (u64 j = 0; j < o.jobs; j++) {
		sum.passed = sum.passed + shares[j].passed;
		if (shares[j].failed && (!sum.failed || shares[j].found_at < sum.found_at)) {
			sum.found = shares[j].found;
			sum.found_at = shares[j].found_at;
		}
		sum.failed = sum.failed + shares[j].failed;
	}
	const double took = clock_now() - began;
	if (sum.failed)
		printf("first failure: seed %llu after %.2f s\n", sum.found, sum.found_at);
	printf("%.1f s, %.0f seeds/s\n", took, static_cast<double>(sum.passed + sum.failed) / took);
	printf("sim: %llu passed, %llu failed\n", sum.passed, sum.failed);
	return sum.failed || sum.passed != o.seeds;
}

int run_one(const Options &o)
{
	const bool ok = run_seed(o.first);
	if (!ok)
		name_failure(o, o.first, reason);
	printf("sim: %d passed, %d failed\n", ok, !ok);
	return !ok;
}

[[noreturn]] void usage()
{
	fputs("usage: ubd-sim [--seeds N] [--first S] [--seed S] [--trace] [--jobs N] [--stop] "
	      "[--ignore-asserts]\n",
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
			o.seeds = number(next), i++;
		else if (!strcmp(argv[i], "--first"))
			o.first = number(next), i++;
		else if (!strcmp(argv[i], "--seed"))
			o.first = number(next), o.seeds = 0, i++;
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
	return o;
}

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
	printf("%12llu ", world->now());
	vprintf(format, args);
	putchar('\n');
	va_end(args);
}

} // namespace ubd::sim

int main(int argc, char **argv)
{
	const ubd::sim::Options o = ubd::sim::parse(argc, argv);
	return o.seeds ? ubd::sim::run_all(o) : ubd::sim::run_one(o);
}
