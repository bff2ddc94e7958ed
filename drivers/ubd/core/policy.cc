// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tables of what errors mean.
 *
 * Context: any, no lock.
 */
#include "policy.hh"

namespace ubd
{

Verdict judge(HostOp op, int error)
{
	switch (error) {
	case errno_intr:
		return Verdict::retry_now;
	case errno_again:
	case errno_canceled: // only we cancel, and only to get it moving again
		return Verdict::retry_later;
	case errno_nomem:
		// A shortage passes. But who lost write-back for it is not asked twice.
		return op == HostOp::sync ? Verdict::fail : Verdict::retry_bounded;
	case errno_opnotsupp:
	case errno_nosys:
		return op == HostOp::punch || op == HostOp::zero || op == HostOp::allocate ? Verdict::unsupported
											   : Verdict::fail;
	case errno_inval:
		// A block device wants whole blocks, which a bitmap need not be. It has space.
		return op == HostOp::allocate ? Verdict::unsupported : Verdict::fail;
	default:
		return Verdict::fail;
	}
}

u8 status_of(int error)
{
	switch (error) {
	case 0:
		return UBD_STATUS_OK;
	case errno_nospc:
	case errno_dquot:
		return UBD_STATUS_NOSPC;
	case errno_opnotsupp:
	case errno_nosys:
		return UBD_STATUS_NOTSUPP;
	case errno_rofs:
		return UBD_STATUS_READONLY;
	default:
		return UBD_STATUS_IOERR;
	}
}

bool loses_durability(HostOp op, int error)
{
	if (op == HostOp::sync)
		return true;
	if (op != HostOp::write_sync)
		return false;
	switch (error) {
	case errno_nospc:
	case errno_dquot:
	case errno_fbig:
	case errno_fault:
	case errno_nomem:
	case errno_inval:
	case errno_perm:
	case errno_rofs:
		return false;
	default:
		return true;
	}
}

bool waits_for_space(HostOp op, int error)
{
	return (error == errno_nospc || error == errno_dquot) && op != HostOp::sync && op != HostOp::read;
}

const char *remedy_for(int error)
{
	switch (error) {
	case errno_nospc:
		return "free space on the host's file system";
	case errno_dquot:
		return "raise the host user's disk quota";
	case errno_fbig:
		return "raise the host's file size limit (ulimit -f)";
	case errno_fault:
		return "the host has no memory left for the guest's RAM: make room where TMPDIR or /dev/shm lies";
	case errno_nomem:
		return "free memory on the host";
	case errno_rofs:
		return "remount the host's file system read-write, or give the r flag";
	case errno_perm:
	case errno_acces:
		return "check the host file's permissions";
	default:
		return "check the host's kernel log and its disk";
	}
}

const char *operation_name(u8 op)
{
	static constexpr const char *names[UBD_OP_COUNT] = { "read", "write", "flush", "discard", "write-zeroes" };
	return op < UBD_OP_COUNT ? names[op] : "?";
}

} // namespace ubd
