// SPDX-License-Identifier: GPL-2.0-only
/*
 * The engines on the host, each through what core sees of it: operations at random
 * on a file beside a model, announcements, waiting as at a reboot.
 *
 *	UBD_TEST_SECONDS=n	for each of the long cases (default 1)
 */
#include <barrier>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../../drivers/ubd/host/threads.hh"
#include "../../../drivers/ubd/host/uring.hh"
#include "bench.hh"

using namespace ubd;
using namespace ubd::test;

namespace
{

constexpr size_t small_bytes = 4096;
constexpr size_t large_bytes = 256 << 10;
constexpr u32 small_parts = 40, large_parts = 8;
constexpr u32 parts = small_parts + large_parts;
constexpr u32 depth = 24;
constexpr double patience = 10;

constexpr u64 place_of(u32 i)
{
	return i < small_parts ? i * small_bytes : small_parts * small_bytes + (i - small_parts) * large_bytes;
}

// What a queue does with an engine.
class Driver {
public:
	Driver(Engine &engine, Bench &bench, u64 seed) : engine_(engine), bench_(bench), dice_(seed), version_(parts)
	{
		for (u32 i = 0; i < parts; i++)
			parts_.push_back(std::make_unique<Part>(bytes_of(i) / sizeof(u64)));
	}
	void run(double seconds)
	{
		const double until = now_seconds() + seconds;
		while (now_seconds() < until && !testing::Test::HasFatalFailure())
			for (u32 i = 0; i < 50 && !testing::Test::HasFatalFailure(); i++)
				step();
		end();
	}
	// As the CPUs of a guest: each is a thread, and who has the lock goes on with
	// what any of them began. None ends before all is done: with a thread the host
	// cancels what it began.
	void run_on_cpus(u32 cpus, double seconds)
	{
		std::mutex lock;
		std::barrier together(cpus);
		std::vector<std::thread> threads;
		const double until = now_seconds() + seconds;
		for (u32 cpu = 0; cpu < cpus; cpu++)
			threads.emplace_back([&, cpu] {
				while (now_seconds() < until && !testing::Test::HasFatalFailure()) {
					const std::lock_guard guard(lock);
					step();
				}
				together.arrive_and_wait();
				if (!cpu)
					end();
				together.arrive_and_wait();
			});
		for (std::thread &t : threads)
			t.join();
	}
	u64 done() const { return done_; }

private:
	void end()
	{
		while (out_ && !testing::Test::HasFatalFailure())
			sleep();
		EXPECT_EQ(engine_.unsent(), 0u);
		EXPECT_GE(engine_.space(), engine_.capacity());
		EXPECT_FALSE(engine_.ready());
	}
	static size_t bytes_of(u32 i) { return i < small_parts ? small_bytes : large_bytes; }
	void step()
	{
		const u32 what = dice_.below(100);
		if (what < 60) {
			engine_.quiet();
			for (u32 n = 1 + dice_.below(8); n; n--)
				give(dice_.below(parts));
			if (dice_.percent(90))
				submit();
			take();
		} else if (what < 70) {
			forget_cache();
		} else {
			sleep();
		}
	}
	// Reads may have to wait for the disk.
	void forget_cache()
	{
		if (dice_.percent(10))
			fdatasync(bench_.files.fds[0]);
		posix_fadvise(bench_.files.fds[0], 0, 0, POSIX_FADV_DONTNEED);
	}
	void give(u32 i)
	{
		Part &p = *parts_[i];
		if (p.out || out_ >= engine_.capacity() || !engine_.space())
			return;
		const u32 what = dice_.below(1000);
		const HostOp ops[] = { HostOp::punch, HostOp::allocate, HostOp::write_sync, HostOp::sync };
		const HostOp op = what < 500 ? HostOp::read : what < 990 ? HostOp::write : ops[dice_.below(4)];
		if (op == HostOp::write || op == HostOp::write_sync)
			p.fill(++version_[i]);
		else if (op == HostOp::punch)
			version_[i] = 0;
		const u32 pieces = i < small_parts || op != HostOp::read || dice_.percent(50) ? 1 : 4;
		p.ask(op, place_of(i), bytes_of(i));
		if (pieces > 1)
			cut(p.chunk, pieces);
		p.out = true;
		out_++;
		engine_.prepare(p.chunk);
	}
	static void cut(Chunk &c, u32 pieces)
	{
		auto *base = static_cast<char *>(c.iov[0].base);
		const size_t each = c.iov[0].bytes / pieces;
		for (u32 i = 0; i < pieces; i++)
			c.iov[i] = { base + i * each, each };
		c.iovs = pieces;
	}
	void submit()
	{
		for (u32 tries = 0; engine_.unsent(); tries++) {
			ASSERT_LT(tries, 1000u);
			(void)engine_.submit();
		}
	}
	void take()
	{
		Completion c[7];
		for (u32 n; (n = engine_.reap(c, 7));)
			for (u32 i = 0; i < n; i++)
				check(c[i]);
	}
	void check(const Completion &c)
	{
		u32 i = 0;
		while (i < parts && &parts_[i]->chunk != c.chunk)
			i++;
		ASSERT_LT(i, parts) << "a chunk that nobody gave";
		Part &p = *parts_[i];
		ASSERT_TRUE(p.out) << "done twice";
		p.out = false;
		out_--;
		done_++;
		ASSERT_EQ(c.result, moves_data(p.chunk.op) ? static_cast<s32>(bytes_of(i)) : 0) << name_of(p.chunk.op);
		ASSERT_TRUE(p.chunk.op != HostOp::read || (version_[i] ? p.holds(version_[i]) : p.zero()))
			<< "part " << i << " is not what was written last";
	}
	void sleep()
	{
		submit();
		if (!out_)
			return;
		if (!engine_.listen()) {
			ASSERT_TRUE(bench_.announced(patience)) << (engine_.ready() ? "not announced" : "not done");
			bench_.acknowledge();
		}
		engine_.quiet();
		take();
	}

	Engine &engine_;
	Bench &bench_;
	Dice dice_;
	std::vector<u64> version_;
	std::vector<std::unique_ptr<Part>> parts_;
	u32 out_ = 0;
	u64 done_ = 0;
};

// The engines have no type information, which GoogleTest asks for.
struct WithThreads {
	ThreadsEngine engine;
	Error open(const Bench &b) { return engine.open(depth, b.wake_fd, b.files); }
};

struct WithUring {
	UringEngine engine;
	Error open(const Bench &b) { return engine.open(depth, b.wake_fd, b.files, true); }
};

template <class E> class Engines : public testing::Test {
protected:
	void SetUp() override
	{
		const int error = of.open(bench).number;
		if (error == EPERM || error == ENOSYS)
			GTEST_SKIP() << "this host forbids io_uring";
		ASSERT_EQ(error, 0);
	}
	void TearDown() override { engine.close(); }

	Bench bench{ place_of(parts) };
	E of;
	decltype(of.engine) &engine = of.engine;
};

#ifdef __SANITIZE_THREAD__ // it knows nothing of the host's side of a ring
using EngineTypes = testing::Types<WithThreads>;
#else
using EngineTypes = testing::Types<WithThreads, WithUring>;
#endif
TYPED_TEST_SUITE(Engines, EngineTypes, );

// Of a guest with several CPUs, which are threads of the host.
template <class E> class EnginesOfCpus : public Engines<E> {
protected:
	void SetUp() override
	{
		one_cpu = false;
		Engines<E>::SetUp();
	}
	void TearDown() override
	{
		Engines<E>::TearDown();
		one_cpu = true;
	}
};

TYPED_TEST_SUITE(EnginesOfCpus, EngineTypes, );

TYPED_TEST(EnginesOfCpus, at_random)
{
	Driver d(this->engine, this->bench, 3);
	d.run_on_cpus(3, test_seconds());
	EXPECT_GT(d.done(), 100u);
}

TYPED_TEST(Engines, at_random)
{
	u64 done = 0;
	for (u64 seed = 1; seed <= 4 && !this->HasFatalFailure(); seed++) {
		Driver d(this->engine, this->bench, seed);
		// A clean file for each.
		ASSERT_EQ(ftruncate(this->bench.files.fds[0], 0), 0);
		ASSERT_EQ(ftruncate(this->bench.files.fds[0], static_cast<off_t>(place_of(parts))), 0);
		d.run(test_seconds() / 4);
		done += d.done();
	}
	printf("%s: %llu operations\n", this->engine.name(), done);
	EXPECT_GT(done, 200u);
}

// As many as it says that it can take, and one more for a commit.
TYPED_TEST(Engines, takes_what_it_promises)
{
	std::vector<std::unique_ptr<Part>> all;
	for (u32 i = 0; i <= this->engine.capacity(); i++) {
		const u32 room = this->engine.space();
		ASSERT_GT(room, 0u) << i;
		all.push_back(std::make_unique<Part>(512));
		all[i]->ask(i % 3 ? HostOp::write : HostOp::sync, 0, 512);
		this->engine.prepare(all[i]->chunk);
		EXPECT_EQ(this->engine.unsent(), i + 1);
		EXPECT_EQ(this->engine.space(), room - 1);
	}
	EXPECT_FALSE(this->engine.submit());
	EXPECT_EQ(this->engine.unsent(), 0u);
	u32 n = 0;
	Completion c[4];
	for (const double until = now_seconds() + patience; n < all.size() && now_seconds() < until;)
		n += this->engine.reap(c, 4);
	EXPECT_EQ(n, all.size());
	EXPECT_GT(this->engine.space(), this->engine.capacity());
}

// At a reboot: a wait takes its 100 ms if nothing comes, whatever other disks announce
// meanwhile, and no longer than until something comes.
TYPED_TEST(Engines, waits_for_its_own)
{
	const double begin = now_seconds();
	const int wake_fd = this->bench.wake_fd;
	std::thread others([wake_fd] {
		const u64 one = 1;
		for (u32 i = 0; i < 10; i++) {
			(void)!write(wake_fd, &one, sizeof(one));
			usleep(5000);
		}
	});
	this->engine.wait();
	const double waited = now_seconds() - begin;
	others.join();
	EXPECT_GE(waited, 0.095);
	EXPECT_LT(waited, patience);
	Part p(512);
	u32 seen = 0;
	for (u32 i = 0; i < 200; i++) {
		p.ask(i % 2 ? HostOp::write : HostOp::sync, 0, 4096);
		this->engine.prepare(p.chunk);
		EXPECT_FALSE(this->engine.submit());
		this->engine.wait();
		Completion c;
		seen += this->engine.reap(&c, 1);
		for (const double until = now_seconds() + patience; seen < i + 1 && now_seconds() < until;)
			seen += this->engine.reap(&c, 1);
	}
	EXPECT_EQ(seen, 200u);
	EXPECT_LT(now_seconds() - begin, patience);
}

TYPED_TEST(Engines, knows_whether_the_file_has_a_name)
{
	EXPECT_FALSE(this->engine.file_removed()); // it never had one
}

// What is in the host's page cache is there when submit() returns, and no thread was
// asked.
TEST(threads, cached_reads_are_made_at_once)
{
	Bench bench(1 << 20);
	ThreadsEngine engine;
	ASSERT_FALSE(engine.open(depth, bench.wake_fd, bench.files));
	Part p(512), q(512);
	p.fill(3);
	p.ask(HostOp::read, 0, 4096);
	ASSERT_EQ(pwrite(bench.files.fds[0], p.chunk.iov[0].base, 4096, 0), 4096);
	u32 at_once = 0;
	for (u32 i = 0; i < 100; i++) {
		q.ask(HostOp::read, 0, 4096);
		engine.prepare(q.chunk);
		ASSERT_FALSE(engine.submit());
		Completion c;
		at_once += engine.ready() && engine.reap(&c, 1) == 1;
		while (engine.space() <= engine.capacity())
			(void)engine.reap(&c, 1);
		EXPECT_TRUE(q.holds(3));
	}
	// Some file systems do not know how; then threads read.
	char probe;
	iovec v{ &probe, 1 };
	const bool knows = preadv2(bench.files.fds[0], &v, 1, 0, RWF_NOWAIT) == 1;
	EXPECT_EQ(at_once, knows ? 100u : at_once);
	engine.close();
}

// Of what is there in part, all is read: no short transfer comes of it.
TEST(threads, a_part_is_no_read)
{
	constexpr size_t bytes = 64 << 10;
	Bench bench(1 << 20);
	const int fd = bench.files.fds[0];
	Part all(bytes / sizeof(u64)), read(bytes / sizeof(u64));
	all.fill(5);
	all.ask(HostOp::write, 0, bytes);
	ASSERT_EQ(pwrite(fd, all.chunk.iov[0].base, bytes, 0), static_cast<ssize_t>(bytes));
	ThreadsEngine engine;
	ASSERT_FALSE(engine.open(depth, bench.wake_fd, bench.files));
	posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM); // nothing is read ahead
	for (u32 i = 0; i < 20; i++) {
		fdatasync(fd);
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		char first;
		ASSERT_EQ(pread(fd, &first, 1, 0), 1);
		read.fill(6);
		read.ask(HostOp::read, 0, bytes);
		engine.prepare(read.chunk);
		ASSERT_FALSE(engine.submit());
		Completion c{};
		for (const double until = now_seconds() + patience; !engine.reap(&c, 1) && now_seconds() < until;)
			;
		ASSERT_EQ(c.result, static_cast<s32>(bytes));
		ASSERT_TRUE(read.holds(5));
	}
	engine.close();
}

TEST(threads, removed_file)
{
	Bench bench(1 << 20);
	char name[] = "/tmp/ubd-test-XXXXXX";
	const int fd = mkstemp(name);
	ASSERT_GE(fd, 0);
	EngineFiles files;
	files.fds[0] = fd;
	ThreadsEngine engine;
	ASSERT_FALSE(engine.open(1, bench.wake_fd, files));
	EXPECT_FALSE(engine.file_removed());
	unlink(name);
	EXPECT_TRUE(engine.file_removed());
	engine.close();
	close(fd);
}

#ifndef __SANITIZE_THREAD__ // there threads are made by other means

// In a process of its own, as a user who may have so many threads: the exit status
// says how many there were, or 100 and the error.
int threads_under_limit(rlim_t limit)
{
	const pid_t child = fork();
	if (!child) {
		Bench bench(1 << 20);
		const rlimit r{ limit, limit };
		if (setuid(54321) || setrlimit(RLIMIT_NPROC, &r))
			_exit(99);
		ThreadsEngine engine;
		const Error e = engine.open(depth, bench.wake_fd, bench.files);
		const int n = static_cast<int>(tasks()) - 1;
		Part p(512);
		p.fill(1);
		p.ask(HostOp::write, 0, 4096);
		if (!e) {
			engine.prepare(p.chunk);
			(void)engine.submit();
			for (Completion c; !engine.reap(&c, 1);)
				;
			engine.close();
		}
		_exit(e ? 100 + e.number : n);
	}
	int status = -1;
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(threads, fewer_are_enough)
{
	if (getuid())
		GTEST_SKIP() << "only root can become a user without processes";
	EXPECT_EQ(threads_under_limit(100), 17);
	const int few = threads_under_limit(5);
	EXPECT_GE(few, 1);
	EXPECT_LE(few, 4);
	EXPECT_EQ(threads_under_limit(2), 1); // it reads and writes
	EXPECT_EQ(threads_under_limit(1), 100 + EAGAIN);
}

#endif

} // namespace
