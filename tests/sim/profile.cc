// SPDX-License-Identifier: GPL-2.0-only
/*
 * Draws a world's nature. Each trouble is absent from many worlds, so that what
 * one hides (an error ends the request whose order was wrong) another shows.
 */
#include "profile.hh"

namespace ubd::sim
{

Profile::Profile(Random &r)
{
	draw_device(r);
	draw_ring(r);
	draw_host(r);
	if (r.percent(60))
		draw_trouble(r);
	draw_guest(r);
	draw_workload(r);
	poll_ns = r.percent(50) ? 0 : static_cast<u32>(r.spread(2 * ms) * 1000);
	// By numbers of its own: what a seed made before there were modes it makes still.
	Random aside(r);
	draw_mode(aside);
	draw_full(aside);
	draw_clock(aside);
	if (!cow && !await_host && aside.percent(25))
		draw_queues(aside);
}

// What they have in common is what an fdatasync may lose for all.
void Profile::draw_queues(Random &r)
{
	queues = static_cast<u32>(r.range(2, 4));
	if (r.percent(50))
		return;
	sync_loss_permille = static_cast<u32>(r.spread(300));
	weight[UBD_OP_FLUSH] += 10;
	fua_percent = static_cast<u32>(r.range(1, 60));
}

void Profile::draw_clock(Random &r)
{
	await_host = r.percent(7);
	if (await_host)
		poll_ns = 0;
}

void Profile::draw_mode(Random &r)
{
	no_flush = r.percent(8) && !sync_writes;
	direct = r.percent(20);
	if (direct && file_sectors < sectors)
		file_tail = r.below(sector_bytes);
}

void Profile::draw_full(Random &r)
{
	stop_when_full = r.percent(40);
	told_of_space = stop_when_full && r.percent(50);
	if (!r.percent(stop_when_full ? 60 : 10))
		return;
	full_from = r.below(20 * ms);
	full_until = full_from + r.spread(60 * second);
	full_percent = static_cast<u32>(r.percent(50) ? 100 : r.range(1, 99));
	full_error = r.percent(70) ? errno_nospc : errno_dquot;
}

void Profile::draw_device(Random &r)
{
	const bool large = r.percent(1);
	sectors = large ? 8192 : r.range(16, 400);
	most_sectors = large ? 4096 : r.spread(sectors < 160 ? sectors : 160);
	cow = r.percent(30);
	data_offset = r.percent(50) ? 0 : r.range(1, 16) * sector_bytes;
	stripe = r.percent(30) ? r.spread(64) * sector_bytes : 0;
	file_sectors = r.percent(85) ? sectors : r.below(sectors);
	sync_writes = r.percent(10);
}

void Profile::draw_ring(Random &r)
{
	capacity = static_cast<u32>(r.percent(20) ? 1 : r.spread(24));
	ring = static_cast<u32>(r.percent(50) ? capacity : r.range(1, capacity));
	deferred = r.percent(50);
}

void Profile::draw_host(Random &r)
{
	static constexpr u32 inlines[] = { 0, 0, 30, 60, 90, 100 };
	static constexpr Time latencies[] = { 20, 200, 2 * ms, 20 * ms, second };
	inline_percent = inlines[r.below(6)];
	latency_most = latencies[r.below(5)];
	latency_least = r.percent(50) ? 1 : latency_most / 2;
	partial_percent = r.percent(30) ? static_cast<u32>(r.range(5, 60)) : 0;
	meddle_percent = r.percent(70) ? static_cast<u32>(r.range(1, 40)) : 0;
	interrupt_delay = r.percent(50) ? 5 : r.spread(20 * ms);
	timer_late = r.percent(70) ? 0 : r.spread(50 * ms);
}

void Profile::draw_trouble(Random &r)
{
	static constexpr int persistent_errors[] = { errno_nospc, errno_dquot,    errno_io,       errno_fault,
						     errno_rofs,  errno_fbig,     errno_again,    errno_intr,
						     errno_nomem, errno_canceled, errno_opnotsupp };
	if (r.percent(30))
		fatal_permille = static_cast<u32>(r.spread(200));
	if (r.percent(40))
		transient_permille = static_cast<u32>(r.spread(500));
	if (r.percent(40))
		short_percent = static_cast<u32>(r.range(1, 80));
	if (r.percent(30))
		refuse_permille = static_cast<u32>(r.spread(600));
	if (r.percent(10))
		hang_permille = static_cast<u32>(r.spread(100));
	if (r.percent(20))
		lost_percent = static_cast<u32>(r.range(1, 100));
	no_punch = r.percent(15);
	no_zero = r.percent(15);
	no_cancel = r.percent(20);
	if (r.percent(15)) {
		persistent.from = r.below(20 * ms);
		persistent.op = static_cast<HostOp>(r.below(6));
		persistent.error = persistent_errors[r.below(11)];
		// After EINTR core asks again without a pause: that must not last.
		// For want of memory it asks for some ten seconds before it gives up.
		const Time longest = persistent.error == errno_intr    ? 20 * ms
				     : persistent.error == errno_nomem ? 20 * second
								       : 3 * second;
		persistent.until = persistent.from + r.below(longest);
	}
	faults = r.percent(12);
}

void Profile::draw_guest(Random &r)
{
	tags = static_cast<u32>(r.percent(10) ? 1 : r.spread(40));
	nest_percent = r.percent(60) ? static_cast<u32>(r.range(1, 50)) : 0;
	pool_minimum = static_cast<u32>(r.percent(30) ? 0 : r.range(0, UBD_POOL_MIN));
	switch (r.below(4)) {
	case 0:
		break;
	case 1:
		memory = Memory::none;
		break;
	case 2:
		memory = Memory::scarce;
		memory_percent = static_cast<u32>(r.range(5, 99));
		break;
	case 3:
		memory = Memory::phases;
		break;
	}
	ending = static_cast<Ending>(r.percent(70) ? 0 : r.range(1, 2));
}

void Profile::draw_workload(Random &r)
{
	requests = static_cast<u32>(most_sectors > 200 ? r.range(4, 20) : r.range(8, 72));
	end_after = static_cast<u32>(r.below(requests));
	for (u32 &w : weight)
		w = static_cast<u32>(r.percent(25) ? 0 : r.range(1, 20));
	weight[UBD_OP_READ] += 1;
	weight[UBD_OP_WRITE] += 1 + static_cast<u32>(r.below(20));
	// One piece, pages, or single sectors that do not touch each other.
	static constexpr u64 segments[] = { 4096, 8, 8, 3, 1 };
	segment_sectors = segments[r.below(5)];
	if (most_sectors > 200 && segment_sectors < 16)
		segment_sectors = 16; // at most 256 segments
	gap_percent = r.percent(50) ? static_cast<u32>(r.range(1, 100)) : 0;
	fua_percent = r.percent(50) ? 0 : static_cast<u32>(r.range(1, 60));
	batch = static_cast<u32>(r.spread(16));
	think = r.percent(60) ? 0 : r.spread(50 * ms);
}

} // namespace ubd::sim
