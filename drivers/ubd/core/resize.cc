// SPDX-License-Identifier: GPL-2.0-only
/*
 * What speaks against another size.
 *
 * Context: any, no lock, no memory.
 */
#include "resize.hh"

namespace ubd
{
namespace
{

ResizeVerdict refused(int number, const char *reason, const char *remedy)
{
	return { Resize::refused, number, reason, remedy };
}

} // namespace

ResizeVerdict judge_resize(const ResizeFacts &f)
{
	if (f.wanted == f.now)
		return {};
	// What a file system has there would be gone.
	if (f.wanted < f.now)
		return refused(errno_busy, "a disk in use does not shrink", "grow the file back (truncate -s)");
	if (f.wanted % f.block)
		return refused(errno_inval, "that is no multiple of the block size",
			       "round it up (truncate -s %4096 FILE)");
	if (!f.cow)
		return { Resize::grow };
	if (f.snapshot)
		return refused(errno_opnotsupp, "what is written goes to a temporary file, which keeps its size",
			       "start the guest again");
	if (f.read_only)
		return refused(errno_rofs, "the COW file is not to be written",
			       "end the guest and say: ubd-cow resize FILE");
	if (f.shared)
		return refused(errno_busy, "by the c flag others may use the COW file, and would not notice",
			       "end all of them and say: ubd-cow resize FILE");
	if (f.poisoned)
		return refused(errno_io, "the host failed to make data durable",
			       "copy what you need, check the host's disk, and restart the guest");
	if (f.stopped)
		return refused(errno_busy, "it is stopped for want of space on the host",
			       "free space there, let it go on (write 1 to its attribute resume), and resize it again");
	return { Resize::grow };
}

} // namespace ubd
