// SPDX-License-Identifier: GPL-2.0-only
/*
 * Host threads that do what io_uring cannot do without blocking, or everything
 * where the host forbids io_uring: plain calls, one after the other.
 *
 * They are threads of the UML process, not processes as the relay: exit and
 * execve() end them, so nothing has to see to that. They block every signal and
 * touch nothing but chunks, and what is in Shared: memory of the host's own.
 *
 * Jobs go to them by a ring with one producer, who holds the queue lock, and any
 * number of consumers; what is done comes back by a stack that any of them
 * pushes to and that the producer empties. There are as many jobs as the engine
 * may have in flight, so neither can fill up. Who has nothing to do looks for a
 * moment and then sleeps on a futex.
 *
 * Announcements are those of the engines: between quiet() and listen() none is
 * made, and after listen() the first job that is done writes to the eventfd.
 */
#ifndef UBD_HOST_WORKERS_HH
#define UBD_HOST_WORKERS_HH

#include "../core/engine.hh"
#include "../core/layout.hh"
#include "../core/poll_window.hh"
#include "sys.hh"

namespace ubd
{

// Descriptors for the operations, by Chunk::file: the second half is there if the
// first is open with O_DIRECT. Writes with RWF_DSYNC have an opening of their own.
struct EngineFiles {
	static constexpr u32 most = 2 * buffered_file;

	int fds[most] = { -1, -1, -1, -1 };
	int sync_write_fd = -1;
	bool direct = false; // what is written to

	int of(const Chunk &c) const
	{
		return c.op == HostOp::write_sync && c.file == main_file ? sync_write_fd : fds[c.file];
	}
	// The host's page cache is between.
	bool buffered(const Chunk &c) const { return !direct || c.file >= buffered_file; }
	// The first one has lost its last name, or never had one.
	bool have_no_name() const;
};

class Workers {
public:
	static constexpr u32 most = 16;

	Workers() = default;
	~Workers() { stop(); }
	Workers(const Workers &) = delete;
	Workers &operator=(const Workers &) = delete;

	// Starts `count` threads for `jobs` chunks in flight. They look for work
	// that many nanoseconds before they sleep. Process context, may sleep.
	Error start(u32 count, u32 jobs, int wake_fd, const EngineFiles &files, u32 spin_ns);
	// Nothing is in flight. Process context, may sleep.
	void stop();
	bool running() const { return shared_; }

	// As the functions of Engine; under the queue lock.
	void prepare(Chunk &chunk);
	u32 unsent() const { return unsent_; }
	void submit();
	u32 reap(Completion *to, u32 max);
	bool ready() const;
	void quiet();
	// Announces again. Whether something is there is for ready() to say, after
	// a full barrier.
	void listen();
	/*
	 * Waits until one of them has something to reap, or `other_fd` is readable,
	 * if it is not -1; 100 ms at most. Who does not run is left out. At reboot
	 * only; blocks the host thread.
	 */
	static void wait(Workers &a, Workers &b, int other_fd);
	// Jobs that are not yet back.
	u32 busy() const { return busy_; }
	u64 host_bytes() const { return mapped_; }

private:
	struct Job;
	struct Shared;
	struct Thread;

	static int thread_main(void *thread);
	static Job *next_job(Shared &s);
	static Job *await_job(Shared &s, PollWindow &window, u64 &begun);
	static void done(Shared &s, Job &job);
	static void announce(Shared &s);
	static void keep_off(Shared &s, u64 &moved);
	bool listen_and_look();

	char *mapping_ = nullptr; // all that the threads use
	u64 mapped_ = 0; // bytes of it
	Shared *shared_ = nullptr; // in it
	u32 threads_ = 0;
	u32 unsent_ = 0;
	u32 busy_ = 0;
	Job *free_ = nullptr;
	Job *reaped_ = nullptr; // in the order in which they were done
	sys::Fd event_;
};

} // namespace ubd

#endif
