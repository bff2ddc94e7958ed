// SPDX-License-Identifier: GPL-2.0-only
/*
 * What an error of the host means: to be tried again, a capability that is
 * missing, or the end of the request. Any context, no lock.
 */
#ifndef UBD_CORE_POLICY_HH
#define UBD_CORE_POLICY_HH

#include "request.hh"

namespace ubd
{

enum class Verdict : u8 {
	retry_now, // a signal came between
	retry_later, // the host is short of something
	retry_bounded, // the same, and after some pauses it is the end
	unsupported, // the file system cannot do this operation
	fail,
};

Verdict judge(HostOp op, int error);

// The block layer's word for an error that is final.
u8 status_of(int error);

// After this no later success would prove anything: Linux marks pages clean
// that it failed to write back (see fsync(2), "EIO"). A write with RWF_DSYNC
// that was refused for want of space never came as far as that.
bool loses_durability(HostOp op, int error);

// Nothing is lost by it, and the same operation goes well when somebody has made
// room on the host: it can be kept until then. Not fdatasync: where space is found
// late (NFS, btrfs), what it could not place is forgotten, as after any error.
bool waits_for_space(HostOp op, int error);

// What an administrator can do about it.
const char *remedy_for(int error);

const char *operation_name(u8 op); // of a ubd_op

} // namespace ubd

#endif
