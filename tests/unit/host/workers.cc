// SPDX-License-Identifier: GPL-2.0-only
/*
 * The worker threads, for real: jobs at random on a file, announcements asked for
 * and called off at any time, threads stopped and started. None may be lost, none
 * done twice, and nobody may sleep while there is work.
 *
 *	UBD_TEST_SECONDS=n	for each of the long cases (default 1)
 */
#include <memory>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.hh"

using namespace ubd;
using namespace ubd::test;

namespace
{

constexpr size_t part_bytes = 512;
constexpr u32 jobs = 32;
constexpr u32 spin_ns = 50000;
// Nothing that is right takes this long, also on a busy machine.
constexpr double patience = 10;

// The producer, and what each place of the file must hold.
class Stress {
public:
	Stress(u32 threads, u64 seed) : bench_(jobs * part_bytes), dice_(seed), threads_(threads), version_(jobs)
	{
		for (u32 i = 0; i < jobs; i++)
			parts_.push_back(std::make_unique<Part>(part_bytes / sizeof(u64)));
		start();
	}
	// Until time is over.
	void run(double seconds)
	{
		const double until = now_seconds() + seconds;
		while (now_seconds() < until && !testing::Test::HasFatalFailure())
			for (u32 i = 0; i < 200 && !testing::Test::HasFatalFailure(); i++)
				step();
		settle();
		workers_.stop();
	}
	u64 done() const { return done_; }
	u64 announcements() const { return announcements_; }
	u64 starts() const { return starts_; }

private:
	void start()
	{
		const u32 count = threads_ ? threads_ : 1 + dice_.below(Workers::most);
		const u32 spin = dice_.percent(50) ? spin_ns : 0;
		ASSERT_FALSE(workers_.start(count, jobs, bench_.wake_fd, bench_.files, spin));
		starts_++;
		in_order_ = count == 1;
	}
	void step()
	{
		const u32 what = dice_.below(1000);
		if (what < 500)
			give(1 + dice_.below(dice_.percent(10) ? jobs : 3));
		else if (what < 550)
			workers_.submit();
		else if (what < 750)
			take(1 + dice_.below(jobs));
		else if (what < 800)
			workers_.quiet();
		else if (what < 850)
			workers_.listen();
		else if (what < 997)
			sleep();
		else
			restart();
	}
	void give(u32 count)
	{
		for (u32 i = 0; i < jobs && count; i++) {
			Part &p = *parts_[i];
			if (p.out)
				continue;
			choose(p, i);
			p.out = true;
			p.ticket = given_++;
			out_++;
			workers_.prepare(p.chunk);
			count--;
		}
		if (dice_.percent(90))
			workers_.submit();
	}
	// What is asked of part `i`, and its place of the file.
	void choose(Part &p, u32 i)
	{
		const u64 at = i * part_bytes;
		const u32 what = dice_.below(1000);
		if (what < 500) {
			p.fill(++version_[i]);
			p.ask(HostOp::write, at, part_bytes);
		} else if (what < 980) {
			p.ask(HostOp::read, at, part_bytes);
		} else if (what < 999) {
			version_[i] = 0;
			p.ask(HostOp::punch, at, part_bytes);
		} else {
			p.ask(HostOp::sync, 0, 0);
		}
	}
	u32 take(u32 most)
	{
		Completion c[jobs];
		const u32 n = workers_.reap(c, most);
		for (u32 i = 0; i < n; i++)
			check(c[i]);
		return n;
	}
	void check(const Completion &c)
	{
		u32 i = 0;
		while (i < jobs && &parts_[i]->chunk != c.chunk)
			i++;
		ASSERT_LT(i, jobs) << "a chunk that nobody gave";
		Part &p = *parts_[i];
		ASSERT_TRUE(p.out) << "done twice";
		p.out = false;
		out_--;
		ASSERT_TRUE(!in_order_ || p.ticket == done_) << "one thread works in order";
		done_++;
		ASSERT_EQ(c.result, moves_data(p.chunk.op) ? static_cast<s32>(part_bytes) : 0);
		ASSERT_TRUE(p.chunk.op != HostOp::read || (version_[i] ? p.holds(version_[i]) : p.zero()))
			<< "part " << i << " is not what was written last";
	}
	// As a guest whose CPU has nothing to do: only an announcement wakes it.
	void sleep()
	{
		workers_.submit();
		if (!out_)
			return;
		workers_.listen();
		full_barrier();
		if (!workers_.ready()) {
			ASSERT_TRUE(bench_.announced(patience)) << (workers_.ready() ? "what is done was not announced"
										     : "nobody does what is to be done")
								<< " (" << out_ << " are out)";
			bench_.acknowledge();
			announcements_++;
		}
		if (dice_.percent(80))
			workers_.quiet();
		take(jobs);
	}
	void settle()
	{
		workers_.submit();
		while (out_ && !testing::Test::HasFatalFailure())
			sleep();
		EXPECT_EQ(workers_.busy(), 0u);
		EXPECT_EQ(workers_.unsent(), 0u);
	}
	void restart()
	{
		settle();
		if (testing::Test::HasFatalFailure())
			return;
		const u32 pause = dice_.below(200); // until they sleep, or not
		const double until = now_seconds() + pause * 1e-6;
		while (pause > 20 && now_seconds() < until)
			;
		workers_.stop();
		EXPECT_FALSE(workers_.running());
		start();
	}

	Bench bench_;
	Dice dice_;
	const u32 threads_;
	std::vector<u64> version_;
	std::vector<std::unique_ptr<Part>> parts_;
	Workers workers_;
	u64 given_ = 0, done_ = 0, announcements_ = 0, starts_ = 0;
	u32 out_ = 0;
	bool in_order_ = false;
};

void stress(u32 threads)
{
	const size_t files = open_files();
	u64 done = 0, announcements = 0, starts = 0;
	for (u64 seed = 1; seed <= 4; seed++) {
		Stress s(threads, seed);
		s.run(test_seconds() / 4);
		done += s.done();
		announcements += s.announcements();
		starts += s.starts();
		if (testing::Test::HasFatalFailure())
			return;
	}
	printf("%llu jobs, %llu announcements waited for, %llu starts\n", done, announcements, starts);
	EXPECT_GT(done, 1000u);
	EXPECT_GT(announcements, 10u);
	EXPECT_EQ(open_files(), files);
}

TEST(workers, one_thread)
{
	stress(1);
}

TEST(workers, two_threads)
{
	stress(2);
}

TEST(workers, as_many_as_there_may_be)
{
	stress(Workers::most);
}

TEST(workers, any_number)
{
	stress(0);
}

class Few : public testing::Test {
protected:
	void start(u32 threads, u32 spin = spin_ns)
	{
		ASSERT_FALSE(workers.start(threads, jobs, bench.wake_fd, bench.files, spin));
	}
	void TearDown() override { workers.stop(); }
	s32 perform(Part &p)
	{
		workers.prepare(p.chunk);
		workers.submit();
		Completion c[2];
		const double until = now_seconds() + patience;
		u32 n = 0;
		while (!n && now_seconds() < until)
			n = workers.reap(c, 2);
		EXPECT_EQ(n, 1u);
		EXPECT_EQ(c[0].chunk, &p.chunk);
		return c[0].result;
	}

	Bench bench{ 1 << 20 };
	Workers workers;
};

TEST_F(Few, each_operation)
{
	start(1);
	Part data(512), other(512);
	data.fill(7);
	data.ask(HostOp::write, 8192, 4096);
	EXPECT_EQ(perform(data), 4096);
	other.ask(HostOp::read, 8192, 4096);
	EXPECT_EQ(perform(other), 4096);
	EXPECT_TRUE(other.holds(7));
	data.fill(8);
	data.ask(HostOp::write_sync, 4096, 4096);
	EXPECT_EQ(perform(data), 4096);
	other.ask(HostOp::read, 4096, 4096);
	EXPECT_EQ(perform(other), 4096);
	EXPECT_TRUE(other.holds(8));
	data.ask(HostOp::sync, 0, 0);
	EXPECT_EQ(perform(data), 0);
	data.ask(HostOp::punch, 4096, 4096);
	EXPECT_EQ(perform(data), 0);
	EXPECT_EQ(perform(other), 4096);
	EXPECT_TRUE(other.zero());
	data.ask(HostOp::zero, 8192, 4096);
	const s32 zeroed = perform(data);
	EXPECT_TRUE(zeroed == 0 || zeroed == -EOPNOTSUPP);
	data.ask(HostOp::allocate, 16384, 4096);
	EXPECT_EQ(perform(data), 0);
	// Beyond the end, and with a file that is not there.
	other.ask(HostOp::read, 1 << 20, 4096);
	EXPECT_EQ(perform(other), 0);
	other.chunk.file = 1;
	EXPECT_EQ(perform(other), -EBADF);
}

// A write beyond the limit of file sizes is an error, and no end of the process.
TEST_F(Few, file_size_limit)
{
	signal(SIGXFSZ, SIG_IGN);
	rlimit old;
	getrlimit(RLIMIT_FSIZE, &old);
	const rlimit small{ 65536, old.rlim_max };
	ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
	start(1);
	Part p(512);
	p.ask(HostOp::write, 65536, 4096);
	EXPECT_EQ(perform(p), -EFBIG);
	EXPECT_EQ(perform(p), -EFBIG);
	setrlimit(RLIMIT_FSIZE, &old);
	p.fill(1);
	EXPECT_EQ(perform(p), 4096);
}

// What is done is announced before something begins that may take long.
TEST_F(Few, not_hidden_behind_a_long_one)
{
	constexpr u32 pieces = 64;
	constexpr size_t piece = 16 << 20;
	const int zeros = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	bench.files.fds[1] = zeros;
	start(1);
	Part quick(512), slow(piece / sizeof(u64));
	constexpr u32 rounds = 10;
	u32 early = 0;
	for (u32 i = 0; i < rounds; i++) {
		quick.ask(HostOp::read, 0, 4096);
		slow.ask_pieces(HostOp::read, 0, piece, pieces);
		slow.chunk.file = 1;
		workers.prepare(quick.chunk);
		workers.prepare(slow.chunk);
		workers.listen();
		workers.submit();
		ASSERT_TRUE(bench.announced(patience));
		bench.acknowledge();
		Completion c[2];
		u32 n = workers.reap(c, 2);
		ASSERT_GE(n, 1u);
		EXPECT_EQ(c[0].chunk, &quick.chunk);
		early += n == 1;
		for (const double until = now_seconds() + patience; n < 2 && now_seconds() < until;)
			n += workers.reap(c, 2);
		ASSERT_EQ(n, 2u);
	}
	// A busy host may have let us wait for both.
	printf("%u of %u announced early\n", early, rounds);
	EXPECT_GE(early, rounds - 1);
	close(zeros);
}

// Once for each time that somebody listens, and not for what he has seen by then.
TEST_F(Few, announced_once)
{
	start(4);
	workers.listen();
	EXPECT_FALSE(bench.announced(0.05));
	Part p(512), q(512);
	for (Part *part : { &p, &q }) {
		part->ask(HostOp::read, 0, 4096);
		workers.prepare(part->chunk);
	}
	workers.submit();
	EXPECT_TRUE(bench.announced(patience));
	bench.acknowledge();
	Completion c[2];
	u32 n = 0;
	for (const double until = now_seconds() + patience; n < 2 && now_seconds() < until;)
		n += workers.reap(c, 2);
	EXPECT_EQ(n, 2u);
	// Nobody has listened again; what is done lies there until the thread sleeps, and on.
	workers.prepare(p.chunk);
	workers.submit();
	for (const double until = now_seconds() + patience; !workers.ready() && now_seconds() < until;)
		;
	EXPECT_FALSE(bench.announced(0.05));
	EXPECT_EQ(workers.reap(c, 2), 1u);
}

// No descriptor is left: nothing is started, and nothing stays behind.
TEST(workers, no_descriptor)
{
	Bench bench(1 << 20);
	const size_t maps = mappings(), files = open_files();
	rlimit old;
	getrlimit(RLIMIT_NOFILE, &old);
	const rlimit none{ 3, old.rlim_max };
	ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
	Workers w;
	EXPECT_EQ(w.start(3, jobs, bench.wake_fd, bench.files, 0).number, EMFILE);
	setrlimit(RLIMIT_NOFILE, &old);
	EXPECT_FALSE(w.running());
	EXPECT_LE(mappings(), maps); // the sanitizer may give some back
	EXPECT_EQ(open_files(), files);
	EXPECT_FALSE(w.start(3, jobs, bench.wake_fd, bench.files, 0));
}

#ifndef __SANITIZE_THREAD__ // there threads are made by other means

TEST_F(Few, end_with_stop)
{
	const size_t before = tasks(), maps = mappings();
	for (u32 i = 0; i < 200; i++) {
		start(3);
		EXPECT_EQ(tasks(), before + 3);
		workers.stop();
	}
	EXPECT_EQ(tasks(), before);
	EXPECT_LE(mappings(), maps + 5);
}

// In a process of its own: clone(2) fails from now on.
void forbid_clone()
{
	sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAGAIN),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const sock_fprog program{ sizeof(code) / sizeof(code[0]), code };
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		_exit(1);
}

TEST(workers, no_thread)
{
	const pid_t child = fork();
	ASSERT_GE(child, 0);
	if (!child) {
		Bench bench(1 << 20);
		const size_t maps = mappings(), files = open_files();
		forbid_clone();
		Workers w;
		const Error e = w.start(3, jobs, bench.wake_fd, bench.files, 0);
		_exit(e.number == EAGAIN && !w.running() && mappings() == maps && open_files() == files ? 0 : 2);
	}
	int status = -1;
	waitpid(child, &status, 0);
	EXPECT_EQ(status, 0);
}
#endif

} // namespace
