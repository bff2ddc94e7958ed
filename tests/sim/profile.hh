// SPDX-License-Identifier: GPL-2.0-only
/*
 * What kind of world a seed makes: sizes, the host's temper, the guest's
 * memory, the workload. Drawn once, before the world begins.
 */
#ifndef UBD_SIM_PROFILE_HH
#define UBD_SIM_PROFILE_HH

#include "sim.hh"

namespace ubd::sim
{

enum class Memory : u8 {
	plenty,
	none, // for ever
	scarce, // fails at a fixed rate
	phases, // gone and back
};

enum class Ending : u8 {
	drain, // all that was to come has come
	removal, // nothing more is sent, in mid-flight
	synchronous, // reboot, in mid-flight
};

// A time in which every operation of one kind fails.
struct Persistent {
	Time from = never;
	Time until = never;
	HostOp op = HostOp::read;
	int error = 0;
};

struct Profile {
	explicit Profile(Random &random);

	// the device
	u64 sectors = 0;
	bool cow = false;
	u64 data_offset = 0; // of sector 0 in file 0, bytes
	u64 stripe = 0; // runs end at its multiples, bytes; 0: they do not
	u64 file_sectors = 0; // of file 0: fewer than the device has if truncated
	u64 file_tail = 0; // and so many bytes of one more
	bool sync_writes = false;
	bool no_flush = false;
	bool direct = false; // O_DIRECT, by sectors
	bool stop_when_full = false;
	bool told_of_space = false; // by somebody, now and then
	bool await_host = false; // time travel
	u32 queues = 1;

	// the ring
	u32 capacity = 1;
	u32 ring = 1;
	bool deferred = false; // DEFER_TASKRUN

	// the host
	u32 inline_percent = 0;
	Time latency_least = 0, latency_most = 0;
	u32 hang_permille = 0;
	u32 fatal_permille = 0;
	u32 transient_permille = 0;
	u32 sync_loss_permille = 0; // an fdatasync cannot write back
	u32 short_percent = 0;
	u32 refuse_permille = 0;
	u32 partial_percent = 0;
	u32 meddle_percent = 0; // completes something while core calls the engine
	bool no_punch = false;
	bool no_zero = false;
	bool no_cancel = false;
	Persistent persistent;
	bool faults = false; // a FaultEngine between
	Time full_from = never, full_until = never; // the host has no space
	u32 full_percent = 0; // of what needs some then
	int full_error = 0;

	// interrupts, polling and timer
	u32 poll_ns = 0;
	Time interrupt_delay = 0;
	u32 lost_percent = 0;
	Time timer_late = 0;

	// the guest
	u32 tags = 1;
	u32 requests = 1;
	u32 weight[UBD_OP_COUNT]{};
	u64 most_sectors = 1; // of one request
	u64 segment_sectors = 1; // most of one segment
	u32 gap_percent = 0; // segments that do not touch the one before
	u32 fua_percent = 0;
	u32 batch = 1;
	Time think = 0; // between batches
	u32 nest_percent = 0; // something happens where the lock is released
	Memory memory = Memory::plenty;
	u32 memory_percent = 0;
	u32 pool_minimum = 0;
	Ending ending = Ending::drain;
	u32 end_after = 0; // requests sent, for removal and synchronous

private:
	void draw_device(Random &r);
	void draw_ring(Random &r);
	void draw_host(Random &r);
	void draw_trouble(Random &r);
	void draw_guest(Random &r);
	void draw_workload(Random &r);
	void draw_mode(Random &r);
	void draw_full(Random &r);
	void draw_clock(Random &r);
	void draw_queues(Random &r);
};

} // namespace ubd::sim

#endif
