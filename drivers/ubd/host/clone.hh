// SPDX-License-Identifier: GPL-2.0-only
/*
 * Host processes and threads of our own, beside the UML kernel's. Process context.
 */
#ifndef UBD_HOST_CLONE_HH
#define UBD_HOST_CLONE_HH

#include "sys.hh"

namespace ubd
{

/*
 * clone(2) with a stack of the child's own. The C library's wrapper is not
 * exported to modules. Returns the child's id or -errno; the child calls
 * fn(argument) and exits with its result. `tid` is for flags that ask for one.
 *
 * The child begins with all signals blocked, so that none of UML's handlers runs
 * on a thread that is not UML.
 */
long clone_on(char *stack_top, unsigned long flags, int (*fn)(void *), void *argument, int *tid = nullptr);

// CPUs of the host that this process may use.
u32 host_cpus();

} // namespace ubd

#endif
