// SPDX-License-Identifier: GPL-2.0-only
/*
 * The relay's two sides.
 *
 * Context: process, may sleep, under the relay lock, unless a function says
 * otherwise. Not all who come here have kernel/'s device mutex: a reboot does not
 * wait for it, since who holds it may wait for a host that hangs. "In the helper" is
 * outside the kernel altogether: a host process of its own on the same memory, which
 * takes no lock of the kernel's and makes only direct system calls.
 */
#include "relay.hh"

#include <fcntl.h>
#include <linux/futex.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/wait.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "../core/cow_bitmap.hh"
#include "clone.hh"

namespace ubd
{
namespace
{

constexpr size_t stack_bytes = 64 << 10;
// Lowest number for the eventfd; within any limit of open files.
constexpr int uncommon_fd = 200;
constexpr int start_patience_ms = 5000;
// When the guest does not answer a signal.
constexpr long first_repeat_us = 500;
constexpr long last_repeat_us = 1000000;
// For the last commits to make data durable: shorter than the next guest waits
// for a lock.
constexpr long commit_patience_s = 3;

enum RelayState : int {
	starting = 0,
	running = 1,
	failed = 2,
};

/*
 * How far the last commit of a file has come. Who is to unlock it is who takes
 * it out of `waiting` or `syncing`: the committer by `writing`, or the helper,
 * when its patience ends, by `abandoned`; no bit is written after that.
 */
enum CommitPhase : int {
	commit_waiting = 0,
	commit_syncing, // data is made durable: for how long, the host's disk says
	commit_writing, // bits go to the host's memory
	commit_ended, // unlocked
	commit_abandoned,
};

struct Relay {
	sys::Fd event; // completions; the helper has a copy
	sys::Fd lifeline; // write end, close-on-exec
	sys::Fd control; // our end of a socket to the helper
	char *stacks = nullptr; // of helper and committer, each with a guard page below
	int pid = 0; // 0: stopped, for good
	bool waited_for = false; // it has ended; its number may be anybody's by now
	int parent = 0;
	// For the helper; in our table, of which it begins with a copy.
	int event_fd = -1;
	int lifeline_read = -1;
	int pidfd = -1;
	int control_end = -1;
	int state = starting; // a futex
	HeldFiles held[UBD_MAX_DEVICES]; // in our table
	HeldFiles copies[UBD_MAX_DEVICES]; // in the helper's
	const LastCommit *commits[UBD_MAX_DEVICES]{};
	int phases[UBD_MAX_DEVICES]{}; // CommitPhase
	int commits_ended = 0; // a futex
};

// What goes over the control socket, with `files` descriptors.
struct Order {
	u32 slot;
	u32 files;
};

// A message with an order and room for descriptors.
struct Parcel {
	Order order{};
	iovec part{ &order, sizeof(order) };
	alignas(cmsghdr) char rights[CMSG_SPACE(sizeof(int) * HeldFiles::most)]{};
	msghdr message{};

	Parcel()
	{
		message.msg_iov = &part;
		message.msg_iovlen = 1;
	}
	void make_room(u32 files)
	{
		message.msg_control = rights;
		message.msg_controllen = CMSG_SPACE(sizeof(int) * files);
	}
	cmsghdr &header() { return *reinterpret_cast<cmsghdr *>(rights); }
	void *descriptors() { return CMSG_DATA(&header()); }
};

// One for the module, from start to free. No constructor runs at load time: constinit.
constinit Relay *the_relay = nullptr;

struct RelayGuard {
	RelayGuard() { ubd_k_relay_lock(); }
	~RelayGuard() { ubd_k_relay_unlock(); }
	RelayGuard(const RelayGuard &) = delete;
	RelayGuard &operator=(const RelayGuard &) = delete;
};

// The helper's descriptors, in its own table.
enum HelperFd : int {
	fd_event,
	fd_lifeline,
	fd_process,
	fd_control,
	helper_fds,
};

// In the helper: moves these to the numbers above and closes all others.
bool keep_only(int (&fds)[helper_fds])
{
	// First out of the way of each other, then down.
	for (int &fd : fds) {
		fd = static_cast<int>(sys::call(SYS_fcntl, fd, F_DUPFD, helper_fds));
		if (fd < 0)
			return false;
	}
	for (int i = 0; i < helper_fds; i++)
		if (sys::call(SYS_dup3, fds[i], i, O_CLOEXEC) < 0)
			return false;
	return sys::call(SYS_close_range, helper_fds, ~0u, 0) >= 0;
}

// In the helper: takes an order from the control socket. False if there is none.
bool take_order(Relay &r)
{
	Parcel p;
	p.make_room(HeldFiles::most);
	long n = sys::call(SYS_recvmsg, fd_control, sys::arg(&p.message), MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n != sizeof(p.order) || p.order.slot >= UBD_MAX_DEVICES)
		return false;
	HeldFiles &copy = r.copies[p.order.slot];
	for (int &fd : copy.fds) {
		if (fd >= 0)
			sys::close(fd);
		fd = -1;
	}
	u32 got = 0;
	if (p.message.msg_controllen >= CMSG_LEN(sizeof(int)))
		got = static_cast<u32>((p.header().cmsg_len - CMSG_LEN(0)) / sizeof(int));
	__builtin_memcpy(copy.fds, p.descriptors(), min<u32>(got, HeldFiles::most) * sizeof(int));
	return true;
}

// In the helper or the committer. Whoever still has the descriptor is nobody
// whom a lock protects.
void unlock(int fd)
{
	struct flock lock {};
	lock.l_type = F_UNLCK;
	if (fd >= 0)
		(void)sys::call(SYS_fcntl, fd, F_OFD_SETLK, sys::arg(&lock));
}

// In the helper. A bit is set when its data has landed: what is set is true,
// whatever the guest was doing when it was ended.
bool has_news(const LastCommit &c)
{
	if (__atomic_load_n(c.poisoned, __ATOMIC_RELAXED))
		return false;
	for (u64 word = 0; word < (c.blocks + 63) / 64; word++)
		if (c.dirty[word] | c.sealed[word])
			return true;
	return false;
}

// In the committer: a block of the bitmap as it is, since nobody changes it now.
bool write_block(const LastCommit &c, int fd, u64 block)
{
	const u64 at = block * CowBitmap::block_bytes;
	const u64 end = min<u64>(at + CowBitmap::block_bytes, c.bitmap_bytes);
	auto *live = reinterpret_cast<const char *>(c.live);
	for (u64 done = at; done < end;) {
		long n = sys::call(SYS_pwrite64, fd, sys::arg(live + done), static_cast<long>(end - done),
				   static_cast<long>(c.bitmap_offset + done));
		if (n <= 0)
			return false; // no signal comes, so none interrupts
		done += static_cast<u64>(n);
	}
	return true;
}

// In the committer.
void write_bits(const LastCommit &c, int fd)
{
	for (u64 word = 0; word < (c.blocks + 63) / 64; word++)
		for (u64 left = c.dirty[word] | c.sealed[word]; left; left &= left - 1)
			if (!write_block(c, fd, word * 64 + static_cast<u64>(__builtin_ctzll(left))))
				return;
}

bool go_on(Relay &r, u32 slot, CommitPhase from, CommitPhase to)
{
	int expected = from;
	return __atomic_compare_exchange_n(&r.phases[slot], &expected, to, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

/*
 * In the committer: data, then bits, each made durable, as in any commit. What
 * fails is left: the file is then as a crash would leave it.
 *
 * The fdatasync goes to an opening that none was ever made by, since Linux tells
 * each opening of a failed write-back once: if the guest was ended between such
 * news and the note that it would have made of it, this one gets it as well.
 * The last fdatasync needs no lock: it makes durable what the next guest sees.
 */
void commit_last(Relay &r, u32 slot)
{
	const LastCommit &c = *r.commits[slot];
	const HeldFiles &files = r.copies[slot];
	if (!go_on(r, slot, commit_waiting, commit_syncing))
		return;
	const bool durable = c.no_flush || sys::call(SYS_fdatasync, files.fds[HeldFiles::unsynced]) >= 0;
	if (!go_on(r, slot, commit_syncing, commit_writing))
		return;
	if (durable)
		write_bits(c, files.fds[HeldFiles::unsynced]);
	unlock(files.fds[HeldFiles::locked]);
	__atomic_store_n(&r.phases[slot], commit_ended, __ATOMIC_SEQ_CST);
	if (durable && !c.no_flush)
		(void)sys::call(SYS_fdatasync, files.fds[HeldFiles::unsynced]);
}

// In the committer: its whole life. The helper's memory and descriptors, on a
// stack of its own.
int committer_main(void *argument)
{
	Relay &r = *static_cast<Relay *>(argument);
	for (u32 slot = 0; slot < UBD_MAX_DEVICES; slot++)
		if (r.copies[slot].fds[HeldFiles::locked] >= 0 && r.phases[slot] == commit_waiting)
			commit_last(r, slot);
	__atomic_store_n(&r.commits_ended, 1, __ATOMIC_SEQ_CST);
	(void)sys::call(SYS_futex, sys::arg(&r.commits_ended), FUTEX_WAKE, 1);
	return 0;
}

// In the helper: unlocks at once what needs no commit. False if that is all.
bool unlock_committed(Relay &r)
{
	bool more = false;
	for (u32 slot = 0; slot < UBD_MAX_DEVICES; slot++) {
		const HeldFiles &files = r.copies[slot];
		if (files.fds[HeldFiles::locked] < 0)
			continue;
		unlock(files.fds[HeldFiles::backing]);
		if (r.commits[slot] && files.fds[HeldFiles::unsynced] >= 0 && has_news(*r.commits[slot])) {
			r.phases[slot] = commit_waiting;
			more = true;
		} else {
			r.phases[slot] = commit_ended;
			unlock(files.fds[HeldFiles::locked]);
		}
	}
	return more;
}

// In the helper: what waits for the host's disk has had its time.
void abandon_commits(Relay &r)
{
	for (u32 slot = 0; slot < UBD_MAX_DEVICES; slot++)
		if (r.copies[slot].fds[HeldFiles::locked] >= 0 && (go_on(r, slot, commit_waiting, commit_abandoned) ||
								   go_on(r, slot, commit_syncing, commit_abandoned)))
			unlock(r.copies[slot].fds[HeldFiles::locked]);
}

/*
 * In the helper: the UML process has ended. A process of its own commits, since
 * an fdatasync cannot be called off; one that it hangs in stays behind, and
 * does nothing more when it returns.
 */
void end_guest(Relay &r)
{
	while (take_order(r))
		;
	if (!unlock_committed(r))
		return;
	long pid = clone_on(r.stacks + 2 * stack_bytes, CLONE_VM | CLONE_FILES, committer_main, &r);
	if (pid < 0) { // the host lets us have no other process
		(void)committer_main(&r);
		return;
	}
	const struct {
		long sec, nsec;
	} patience{ commit_patience_s, 0 };
	if (!__atomic_load_n(&r.commits_ended, __ATOMIC_SEQ_CST) &&
	    sys::call(SYS_futex, sys::arg(&r.commits_ended), FUTEX_WAIT, 0, sys::arg(&patience)) == -errno_timedout)
		abandon_commits(r);
	else
		(void)sys::call(SYS_wait4, pid, 0, __WALL);
}

// In the helper.
void set_state(Relay &r, RelayState state)
{
	__atomic_store_n(&r.state, state, __ATOMIC_SEQ_CST);
	(void)sys::call(SYS_futex, sys::arg(&r.state), FUTEX_WAKE, 1);
}

// In the helper: epoll of all its descriptors; negative on failure.
int watch_all()
{
	int poll = static_cast<int>(sys::call(SYS_epoll_create1, EPOLL_CLOEXEC));
	for (int fd = 0; fd < helper_fds; fd++) {
		epoll_event e{};
		// Edge by edge: the handler reads the eventfd, we never do.
		e.events = fd == fd_event ? EPOLLIN | EPOLLET : EPOLLIN;
		e.data.fd = fd;
		if (sys::call(SYS_epoll_ctl, poll, EPOLL_CTL_ADD, fd, sys::arg(&e)) < 0)
			return -1;
	}
	return poll;
}

// In the helper: the guest has not yet read the eventfd.
bool unread()
{
	struct pollfd p {};
	p.fd = fd_event;
	p.events = POLLIN;
	return sys::call(SYS_poll, sys::arg(&p), 1, 0) == 1;
}

// In the helper: as epoll_wait, for at most so many microseconds; 0: for ever.
long wait_for_events(int poll, epoll_event *events, long us)
{
	const struct {
		long sec, nsec;
	} limit{ us / 1000000, us % 1000000 * 1000 };
	const long n = sys::call(SYS_epoll_pwait2, poll, sys::arg(events), helper_fds, us ? sys::arg(&limit) : 0);
	if (n != -errno_nosys) // Linux 5.11
		return n;
	return sys::call(SYS_epoll_wait, poll, sys::arg(events), helper_fds, us ? (us + 999) / 1000 : -1);
}

/*
 * In the helper: relays until the process is gone, or another program.
 *
 * UML goes to sleep without looking whether a signal has come since it last
 * looked for work: then it sleeps on until the next one. Its handler reads the
 * eventfd; as long as that has not happened, the signal is repeated, after
 * pauses that grow, since a guest may also be stopped.
 */
int relay_loop(Relay &r, int poll)
{
	long repeat_us = 0;
	for (;;) {
		epoll_event events[helper_fds];
		long n = wait_for_events(poll, events, repeat_us);
		if (n < 0 && n != -errno_intr)
			return 1;
		bool wake = false, ended = false;
		for (long i = 0; i < n; i++) {
			int fd = events[i].data.fd;
			wake |= fd == fd_event;
			ended |= fd == fd_process || fd == fd_lifeline;
			if (fd == fd_control)
				(void)take_order(r);
		}
		if (ended) {
			end_guest(r);
			return 0;
		}
		if (wake)
			repeat_us = first_repeat_us;
		else if (n == 0)
			repeat_us = unread() ? min(2 * repeat_us, last_repeat_us) : 0;
		else
			continue;
		// By pidfd: it never reaches a stranger with a reused number.
		const long sent = repeat_us ? sys::call(SYS_pidfd_send_signal, fd_process, SIGIO, 0, 0) : 0;
		if (sent == -errno_srch) // ended, and waited for, since we looked
			end_guest(r);
		if (sent < 0)
			return 0;
	}
}

// In the helper: its whole life. Runs on its own stack, in the memory of the UML
// process, with every signal blocked. Returns to clone's caller, who exits.
int relay_main(void *argument)
{
	Relay &r = *static_cast<Relay *>(argument);
	(void)sys::call(SYS_prctl, PR_SET_NAME, sys::arg("ubd-relay"));
	int fds[helper_fds] = { r.event_fd, r.lifeline_read, r.pidfd, r.control_end };
	int poll = keep_only(fds) ? watch_all() : -1;
	// A sandbox that forbids the signal would leave the guest without interrupts.
	if (poll < 0 || sys::call(SYS_pidfd_send_signal, fd_process, 0, 0, 0) < 0) {
		set_state(r, failed);
		return 1;
	}
	set_state(r, running);
	return relay_loop(r, poll);
}

int check(long result)
{
	return result < 0 ? static_cast<int>(-result) : 0;
}

int make_stacks(Relay &r)
{
	long m = sys::call(SYS_mmap, 0, 2 * stack_bytes, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	if (m < 0 && m > -4096)
		return check(m);
	r.stacks = reinterpret_cast<char *>(m);
	(void)sys::call(SYS_mprotect, m, 4096, PROT_NONE);
	(void)sys::call(SYS_mprotect, m + static_cast<long>(stack_bytes), 4096, PROT_NONE);
	// UML forks for each guest process: those have no use for it.
	return check(sys::call(SYS_madvise, m, 2 * stack_bytes, MADV_DONTFORK));
}

int make_event(Relay &r)
{
	long n = sys::call(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (n < 0)
		return check(n);
	r.event.reset(static_cast<int>(n));
	// UML frees the interrupt of a descriptor that it closed itself (a
	// terminal's, say) only later: a low number might still be registered.
	if (n = sys::call(SYS_fcntl, r.event.get(), F_DUPFD_CLOEXEC, uncommon_fd); n >= 0)
		r.event.reset(static_cast<int>(n));
	r.event_fd = r.event.get();
	return 0;
}

// The far ends of what connects us with the helper.
struct FarEnds {
	sys::Fd lifeline;
	sys::Fd pidfd;
	sys::Fd control;
};

int connect_helper(Relay &r, FarEnds &far)
{
	int pair[2];
	long n = sys::call(SYS_pipe2, sys::arg(pair), O_CLOEXEC);
	if (n < 0)
		return check(n);
	far.lifeline.reset(pair[0]);
	r.lifeline.reset(pair[1]);
	n = sys::call(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sys::arg(pair));
	if (n < 0)
		return check(n);
	far.control.reset(pair[0]);
	r.control.reset(pair[1]);
	r.parent = static_cast<int>(sys::call(SYS_getpid));
	if (n = sys::call(SYS_pidfd_open, r.parent, 0); n < 0)
		return check(n);
	far.pidfd.reset(static_cast<int>(n));
	r.lifeline_read = far.lifeline.get();
	r.pidfd = far.pidfd.get();
	r.control_end = far.control.get();
	return 0;
}

void wait_for_end(Relay &r)
{
	while (sys::call(SYS_wait4, r.pid, 0, __WALL) == -errno_intr)
		;
	r.waited_for = true;
}

// False if it lives.
bool has_ended(Relay &r)
{
	if (!r.waited_for)
		r.waited_for = sys::call(SYS_wait4, r.pid, 0, WNOHANG | __WALL) != 0;
	return r.waited_for;
}

void end(Relay &r)
{
	if (has_ended(r))
		return;
	(void)sys::call(SYS_kill, r.pid, SIGKILL);
	wait_for_end(r);
}

int launch(Relay &r)
{
	long pid = clone_on(r.stacks + stack_bytes, CLONE_VM, relay_main, &r);
	if (pid < 0)
		return check(pid);
	r.pid = static_cast<int>(pid);
	r.waited_for = false;
	struct {
		long sec, nsec;
	} pause{ start_patience_ms / 1000, 0 };
	while (__atomic_load_n(&r.state, __ATOMIC_SEQ_CST) == starting) {
		long n = sys::call(SYS_futex, sys::arg(&r.state), FUTEX_WAIT, starting, sys::arg(&pause));
		// UML's clock interrupts the wait, which begins anew: look at the
		// helper each time, it may have been killed by a sandbox.
		if (has_ended(r))
			return errno_perm;
		if (n < 0 && n != -errno_intr && n != -errno_again) {
			end(r);
			return check(n);
		}
	}
	if (r.state == failed) {
		wait_for_end(r);
		return errno_io;
	}
	return 0;
}

// Tells the helper what it holds for the slot: nothing if `files` is that. Lost
// if the helper is gone: then the lock goes with the last descriptor, as any
// lock does.
void send_order(Relay &r, u32 slot, const HeldFiles &files)
{
	Parcel p;
	p.order.slot = slot;
	while (p.order.files < HeldFiles::most && files.fds[p.order.files] >= 0)
		p.order.files++;
	if (p.order.files) {
		const size_t bytes = sizeof(int) * p.order.files;
		p.make_room(p.order.files);
		p.header().cmsg_level = SOL_SOCKET;
		p.header().cmsg_type = SCM_RIGHTS;
		p.header().cmsg_len = CMSG_LEN(bytes);
		__builtin_memcpy(p.descriptors(), files.fds, bytes);
	}
	while (sys::call(SYS_sendmsg, r.control.get(), sys::arg(&p.message), MSG_NOSIGNAL) == -errno_intr)
		;
}

// Starts the helper; the eventfd and the stack are there.
int start_helper(Relay &r)
{
	FarEnds far;
	if (int e = connect_helper(r, far))
		return e;
	r.state = starting;
	for (HeldFiles &copy : r.copies)
		copy = HeldFiles{};
	if (int e = launch(r))
		return e;
	for (u32 slot = 0; slot < UBD_MAX_DEVICES; slot++)
		if (r.held[slot].fds[HeldFiles::locked] >= 0)
			send_order(r, slot, r.held[slot]);
	return 0;
}

int set_up(Relay &r)
{
	if (int e = make_event(r))
		return e;
	if (int e = make_stacks(r))
		return e;
	return start_helper(r);
}

void tear_down(Relay *r)
{
	if (r->stacks)
		(void)sys::call(SYS_munmap, sys::arg(r->stacks), 2 * stack_bytes);
	r->~Relay();
	ubd_k_free(r);
}

} // namespace

// Context: process, may sleep.
void relay_hold(u32 slot, const HeldFiles &files, const LastCommit *commit)
{
	RelayGuard guard;
	if (!the_relay || !the_relay->pid)
		return;
	the_relay->held[slot] = files;
	the_relay->commits[slot] = commit;
	send_order(*the_relay, slot, files);
}

// Context: process, may sleep.
void relay_release(u32 slot)
{
	RelayGuard guard;
	if (!the_relay || !the_relay->pid || the_relay->held[slot].fds[HeldFiles::locked] < 0)
		return;
	the_relay->held[slot] = HeldFiles{};
	// At once: its memory may go before the helper has read the order.
	__atomic_store_n(&the_relay->commits[slot], nullptr, __ATOMIC_SEQ_CST);
	send_order(*the_relay, slot, HeldFiles{});
}

} // namespace ubd

// Context: process, may sleep; nobody else knows of it yet.
int ubd_relay_start()
{
	using namespace ubd;
	void *memory = ubd_k_zalloc(sizeof(Relay));
	if (!memory)
		return -errno_nomem;
	auto *r = new (Place{ memory }) Relay;
	if (int e = set_up(*r)) {
		tear_down(r);
		return -e;
	}
	the_relay = r;
	return r->event.get();
}

// Context: process, may sleep.
int ubd_relay_revive()
{
	using namespace ubd;
	RelayGuard guard;
	Relay *r = the_relay;
	if (!r || !r->pid || !has_ended(*r))
		return 0;
	int e = start_helper(*r);
	return e ? -e : 1;
}

// Context: process, may sleep.
void ubd_relay_stop()
{
	using namespace ubd;
	RelayGuard guard;
	Relay *r = the_relay;
	if (!r || !r->pid)
		return;
	// Not by the lifeline: at a reboot the locks stay until the very end.
	end(*r);
	r->pid = 0;
}

// Context: process, may sleep; no device is left, and no interrupt comes.
void ubd_relay_free()
{
	using namespace ubd;
	Relay *r = the_relay;
	ubd_relay_stop();
	the_relay = nullptr;
	if (r)
		tear_down(r);
}

// Context: interrupt, which is freed before the relay is.
void ubd_relay_ack()
{
	ubd_u64 count;
	if (ubd::the_relay)
		(void)ubd::sys::read(ubd::the_relay->event.get(), &count, sizeof(count));
}
