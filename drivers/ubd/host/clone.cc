// SPDX-License-Identifier: GPL-2.0-only
/*
 * Making host processes and threads.
 *
 * Context: process, may sleep.
 */
#include "clone.hh"

#include <signal.h>

namespace ubd
{

long clone_on(char *stack_top, unsigned long flags, int (*fn)(void *), void *argument, int *tid)
{
	constexpr u64 all_signals = ~0ull;
	u64 old = 0;
	(void)sys::call(SYS_rt_sigprocmask, SIG_SETMASK, sys::arg(&all_signals), sys::arg(&old), sizeof(old));
	auto *sp = reinterpret_cast<void **>(stack_top) - 2;
	sp[0] = reinterpret_cast<void *>(fn);
	sp[1] = argument;
	long result;
	register long r10 asm("r10") = sys::arg(tid);
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
	(void)sys::call(SYS_rt_sigprocmask, SIG_SETMASK, sys::arg(&old), 0, sizeof(old));
	return result;
}

u32 host_cpus()
{
	u64 mask[128]{}; // 8192 CPUs
	const long bytes = sys::call(SYS_sched_getaffinity, 0, sizeof(mask), sys::arg(mask));
	u32 n = 0;
	for (long i = 0; i < bytes / 8; i++)
		for (u64 left = mask[i]; left; left &= left - 1)
			n++;
	return n ? n : 1;
}

} // namespace ubd
