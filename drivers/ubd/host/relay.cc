// SPDX-License-Identifier: GPL-2.0-only
/*
 * The relay's two sides.
 *
 * Context: process, may sleep, under kernel/'s device mutex, unless a function
 * says otherwise. "In the helper" is outside the kernel altogether: a host
 * process of its own on the same memory, which takes no lock of the kernel's
 * and makes only direct system calls.
 */
#include "relay.hh"

#include <fcntl.h>
#include <linux/futex.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/wait.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>

namespace ubd
{
namespace
{

constexpr size_t stack_bytes = 64 << 10;
constexpr u64 all_signals = ~0ull;
// Lowest number for the eventfd; within any limit of open files.
constexpr int uncommon_fd = 200;
constexpr int start_patience_ms = 5000;

enum RelayState : int {
	starting = 0,
	running = 1,
	failed = 2,
};

struct Relay {
	sys::Fd event; // completions; the helper has a copy
	sys::Fd lifeline; // write end, close-on-exec
	sys::Fd control; // our end of a socket to the helper
	char *stack = nullptr; // with a guard page below
	int pid = 0;
	int parent = 0;
	// For the helper; in our table, of which it begins with a copy.
	int event_fd = -1;
	int lifeline_read = -1;
	int pidfd = -1;
	int control_end = -1;
	int state = starting; // a futex
	// Descriptor + 1 of each file to unlock: in our table, in the helper's.
	int held[UBD_MAX_DEVICES]{};
	int copies[UBD_MAX_DEVICES]{};
};

// What goes over the control socket: with a descriptor to hold, or without.
struct Order {
	u32 slot;
	u32 hold;
};

// A message with an order and room for one descriptor.
struct Parcel {
	Order order{};
	iovec part{ &order, sizeof(order) };
	alignas(cmsghdr) char rights[CMSG_SPACE(sizeof(int))]{};
	msghdr message{};

	Parcel()
	{
		message.msg_iov = &part;
		message.msg_iovlen = 1;
	}
	void make_room()
	{
		message.msg_control = rights;
		message.msg_controllen = sizeof(rights);
	}
	cmsghdr &header() { return *reinterpret_cast<cmsghdr *>(rights); }
	void *descriptor() { return CMSG_DATA(&header()); }
};

// One for the module. No constructor runs at load time: constinit.
constinit Relay *the_relay = nullptr;

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

// In the helper: takes an order from the control socket.
void take_order(Relay &r)
{
	Parcel p;
	p.make_room();
	long n = sys::call(SYS_recvmsg, fd_control, sys::arg(&p.message), MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n != sizeof(p.order) || p.order.slot >= UBD_MAX_DEVICES)
		return;
	int &copy = r.copies[p.order.slot];
	if (copy)
		sys::close(copy - 1);
	copy = 0;
	if (p.order.hold && p.message.msg_controllen) {
		__builtin_memcpy(&copy, p.descriptor(), sizeof(copy));
		copy++;
	}
}

// In the helper: the process has ended. Whoever still has its descriptors is
// nobody whom a lock protects.
void unlock_all(Relay &r)
{
	struct flock lock {};
	lock.l_type = F_UNLCK;
	for (int copy : r.copies)
		if (copy)
			(void)sys::call(SYS_fcntl, copy - 1, F_OFD_SETLK, sys::arg(&lock));
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

// In the helper: relays until the process is gone, or another program.
int relay_loop(Relay &r, int poll)
{
	for (;;) {
		epoll_event events[helper_fds];
		long n = sys::call(SYS_epoll_wait, poll, sys::arg(events), helper_fds, -1);
		if (n < 0 && n != -errno_intr)
			return 1;
		bool wake = false, ended = false;
		for (long i = 0; i < n; i++) {
			int fd = events[i].data.fd;
			wake |= fd == fd_event;
			ended |= fd == fd_process || fd == fd_lifeline;
			if (fd == fd_control)
				take_order(r);
		}
		if (ended) {
			unlock_all(r);
			return 0;
		}
		// By pidfd: it never reaches a stranger with a reused number.
		if (wake && sys::call(SYS_pidfd_send_signal, fd_process, SIGIO, 0, 0) < 0)
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

/*
 * clone(2) with a stack of the child's own. The C library's wrapper is not
 * exported to modules. Returns the child's pid or -errno; the child calls
 * fn(argument) and exits with its result.
 */
long clone_on(char *stack_top, unsigned long flags, int (*fn)(void *), void *argument)
{
	auto *sp = reinterpret_cast<void **>(stack_top) - 2;
	sp[0] = reinterpret_cast<void *>(fn);
	sp[1] = argument;
	long result;
	register long r10 asm("r10") = 0;
	register long r8 asm("r8") = 0;
	asm volatile("syscall\n\t"
		     "test %%rax, %%rax\n\t"
		     "jnz 1f\n\t"
		     "xor %%ebp, %%ebp\n\t"
		     "pop %%rax\n\t"
		     "pop %%rdi\n\t"
		     "call *%%rax\n\t"
		     "mov %%eax, %%edi\n\t"
		     "mov %[exit], %%eax\n\t"
		     "syscall\n\t"
		     "hlt\n"
		     "1:"
		     : "=a"(result)
		     : "a"(SYS_clone), "D"(flags), "S"(sp), "d"(0), "r"(r10), "r"(r8), [exit] "i"(SYS_exit)
		     : "rcx", "r11", "memory");
	return result;
}

int check(long result)
{
	return result < 0 ? static_cast<int>(-result) : 0;
}

int make_stack(Relay &r)
{
	long m = sys::call(SYS_mmap, 0, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK,
			   -1, 0);
	if (m < 0 && m > -4096)
		return check(m);
	r.stack = reinterpret_cast<char *>(m);
	(void)sys::call(SYS_mprotect, m, 4096, PROT_NONE);
	// UML forks for each guest process: those have no use for it.
	return check(sys::call(SYS_madvise, m, stack_bytes, MADV_DONTFORK));
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

void wait_for_end(int pid)
{
	while (sys::call(SYS_wait4, pid, 0, __WALL) == -errno_intr)
		;
}

int launch(Relay &r)
{
	u64 old = 0;
	// Blocked before the clone: a signal that the helper took would run
	// UML's handlers on a thread that is not UML.
	(void)sys::call(SYS_rt_sigprocmask, SIG_SETMASK, sys::arg(&all_signals), sys::arg(&old), sizeof(old));
	long pid = clone_on(r.stack + stack_bytes, CLONE_VM, relay_main, &r);
	(void)sys::call(SYS_rt_sigprocmask, SIG_SETMASK, sys::arg(&old), 0, sizeof(old));
	if (pid < 0)
		return check(pid);
	r.pid = static_cast<int>(pid);
	struct {
		long sec, nsec;
	} pause{ start_patience_ms / 1000, 0 };
	while (__atomic_load_n(&r.state, __ATOMIC_SEQ_CST) == starting) {
		long n = sys::call(SYS_futex, sys::arg(&r.state), FUTEX_WAIT, starting, sys::arg(&pause));
		// UML's clock interrupts the wait, which begins anew: look at the
		// helper each time, it may have been killed by a sandbox.
		if (sys::call(SYS_wait4, r.pid, 0, WNOHANG | __WALL) == r.pid)
			return errno_perm;
		if (n < 0 && n != -errno_intr && n != -errno_again) {
			(void)sys::call(SYS_kill, r.pid, SIGKILL);
			wait_for_end(r.pid);
			return check(n);
		}
	}
	if (r.state == failed) {
		wait_for_end(r.pid);
		return errno_io;
	}
	return 0;
}

// Tells the helper to hold the file, or to let go of it. Lost if the helper is
// gone: then the lock goes with the last descriptor, as any lock does.
void send_order(Relay &r, u32 slot, int fd)
{
	Parcel p;
	p.order = { slot, fd >= 0 };
	if (fd >= 0) {
		p.make_room();
		p.header().cmsg_level = SOL_SOCKET;
		p.header().cmsg_type = SCM_RIGHTS;
		p.header().cmsg_len = CMSG_LEN(sizeof(int));
		__builtin_memcpy(p.descriptor(), &fd, sizeof(fd));
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
	for (int &copy : r.copies)
		copy = 0;
	if (int e = launch(r))
		return e;
	for (u32 slot = 0; slot < UBD_MAX_DEVICES; slot++)
		if (r.held[slot])
			send_order(r, slot, r.held[slot] - 1);
	return 0;
}

int set_up(Relay &r)
{
	if (int e = make_event(r))
		return e;
	if (int e = make_stack(r))
		return e;
	return start_helper(r);
}

void tear_down(Relay *r)
{
	if (r->stack)
		(void)sys::call(SYS_munmap, sys::arg(r->stack), stack_bytes);
	r->~Relay();
	ubd_k_free(r);
}

} // namespace
} // namespace ubd

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

int ubd_relay_revive()
{
	using namespace ubd;
	Relay *r = the_relay;
	// Zero: it lives. Else it was just waited for, or was before.
	if (!r || sys::call(SYS_wait4, r->pid, 0, WNOHANG | __WALL) == 0)
		return 0;
	int e = start_helper(*r);
	return e ? -e : 1;
}

void ubd_relay_stop()
{
	using namespace ubd;
	Relay *r = the_relay;
	if (!r)
		return;
	the_relay = nullptr;
	// Not by the lifeline: at a reboot the locks stay until the very end.
	(void)sys::call(SYS_kill, r->pid, SIGKILL);
	wait_for_end(r->pid);
	tear_down(r);
}

void ubd_relay_hold(ubd_u32 slot, int fd)
{
	using namespace ubd;
	if (!the_relay)
		return;
	the_relay->held[slot] = fd + 1;
	send_order(*the_relay, slot, fd);
}

void ubd_relay_release(ubd_u32 slot)
{
	using namespace ubd;
	if (!the_relay || !the_relay->held[slot])
		return;
	the_relay->held[slot] = 0;
	send_order(*the_relay, slot, -1);
}

// Context: interrupt.
void ubd_relay_ack()
{
	ubd_u64 count;
	if (ubd::the_relay)
		(void)ubd::sys::read(ubd::the_relay->event.get(), &count, sizeof(count));
}
