// SPDX-License-Identifier: GPL-2.0-only
/*
 * clone_on() by POSIX threads, which ThreadSanitizer knows; host_cpus() as it is.
 * The stack that is given is not used.
 */
#include "../../../drivers/ubd/host/clone.hh"

#include <cerrno>

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

namespace ubd
{
namespace
{

struct Start {
	int (*fn)(void *);
	void *argument;
	int *tid;
};

void *thread_main(void *p)
{
	const Start s = *static_cast<Start *>(p);
	delete static_cast<Start *>(p);
	s.fn(s.argument);
	__atomic_store_n(s.tid, 0, __ATOMIC_SEQ_CST);
	(void)sys::call(SYS_futex, sys::arg(s.tid), FUTEX_WAKE, 1);
	return nullptr;
}

} // namespace

long clone_on(char *, unsigned long, int (*fn)(void *), void *argument, int *tid)
{
	pthread_t thread;
	if (pthread_create(&thread, nullptr, thread_main, new Start{ fn, argument, tid }))
		return -EAGAIN;
	pthread_detach(thread);
	return 1;
}

u32 host_cpus()
{
	return static_cast<u32>(sysconf(_SC_NPROCESSORS_ONLN));
}

} // namespace ubd
