// SPDX-License-Identifier: GPL-2.0-only
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
	char *stack = nullptr; // with a guard page below
	int pid = 0;
	int parent = 0;
	// For the helper; its numbers are valid in its own table.
	int event_fd = -1;
	int lifeline_read = -1;
	int pidfd = -1;
	int state = starting; // a futex
};

// One for the module. No constructor runs at load time: constinit.
constinit Relay *the_relay = nullptr;

/*
 * Closes all descriptors but three, which it moves to 0, 1, 2. The table is
 * the helper's own.
 */
bool keep_only(int a, int b, int c)
{
	// First out of the way of each other, then down.
	int fds[3] = { a, b, c };
	constexpr int above = 3;
	for (int &fd : fds) {
		fd = static_cast<int>(sys::call(SYS_fcntl, fd, F_DUPFD, above));
		if (fd < 0)
			return false;
	}
	for (int i = 0; i < 3; i++)
		if (sys::call(SYS_dup3, fds[i], i, O_CLOEXEC) < 0)
			return false;
	return sys::call(SYS_close_range, 3, ~0u, 0) >= 0;
}

void set_state(Relay &r, RelayState state)
{
	__atomic_store_n(&r.state, state, __ATOMIC_SEQ_CST);
	(void)sys::call(SYS_futex, sys::arg(&r.state), FUTEX_WAKE, 1);
}

// The helper's whole life. Runs on its own stack, in the memory of the UML
// process, with every signal blocked. Returns to clone's caller, who exits.
int relay_main(void *argument)
{
	Relay &r = *static_cast<Relay *>(argument);
	constexpr int event = 0, process = 2; // and the lifeline between
	(void)sys::call(SYS_prctl, PR_SET_NAME, sys::arg("ubd-relay"));
	if (!keep_only(r.event_fd, r.lifeline_read, r.pidfd)) {
		set_state(r, failed);
		return 1;
	}
	int poll = static_cast<int>(sys::call(SYS_epoll_create1, EPOLL_CLOEXEC));
	for (int fd = event; fd <= process; fd++) {
		epoll_event e{};
		// Edge by edge: the handler reads the eventfd, we never do.
		e.events = fd == event ? EPOLLIN | EPOLLET : EPOLLIN;
		e.data.fd = fd;
		if (sys::call(SYS_epoll_ctl, poll, EPOLL_CTL_ADD, fd, sys::arg(&e)) < 0) {
			set_state(r, failed);
			return 1;
		}
	}
	// A sandbox that forbids this would leave the guest without interrupts.
	if (sys::call(SYS_pidfd_send_signal, process, 0, 0, 0) < 0) {
		set_state(r, failed);
		return 1;
	}
	set_state(r, running);
	for (;;) {
		epoll_event events[3];
		long n = sys::call(SYS_epoll_wait, poll, sys::arg(events), 3, -1);
		if (n == -errno_intr)
			continue;
		bool wake = false;
		for (long i = 0; i < n; i++) {
			if (events[i].data.fd != event)
				return 0; // stopped, or the process is gone or another program
			wake = true;
		}
		if (n < 0)
			return 1;
		// By pidfd: it never reaches a stranger with a reused number.
		if (wake && sys::call(SYS_pidfd_send_signal, process, SIGIO, 0, 0) < 0)
			return 0;
	}
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

int make_lifeline(Relay &r, sys::Fd &lifeline_read, sys::Fd &pidfd)
{
	int pipe[2];
	long n = sys::call(SYS_pipe2, sys::arg(pipe), O_CLOEXEC);
	if (n < 0)
		return check(n);
	lifeline_read.reset(pipe[0]);
	r.lifeline.reset(pipe[1]);
	r.parent = static_cast<int>(sys::call(SYS_getpid));
	if (n = sys::call(SYS_pidfd_open, r.parent, 0); n < 0)
		return check(n);
	pidfd.reset(static_cast<int>(n));
	r.lifeline_read = lifeline_read.get();
	r.pidfd = pidfd.get();
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

// Starts the helper; the eventfd and the stack are there.
int start_helper(Relay &r)
{
	sys::Fd lifeline_read, pidfd;
	if (int e = make_lifeline(r, lifeline_read, pidfd))
		return e;
	r.state = starting;
	return launch(r);
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
	r->lifeline.reset(); // our only write end: the helper sees the hang-up
	// A guest process may still hold a copy for a moment; do not depend on it.
	(void)sys::call(SYS_kill, r->pid, SIGKILL);
	wait_for_end(r->pid);
	tear_down(r);
}

void ubd_relay_ack()
{
	ubd_u64 count;
	if (ubd::the_relay)
		(void)ubd::sys::read(ubd::the_relay->event.get(), &count, sizeof(count));
}
