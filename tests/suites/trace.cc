// SPDX-License-Identifier: GPL-2.0-only
/*
 * What core tells who traces: the events of each kind of request, in order, with
 * what they say. And nothing to who does not.
 */
#include "fake.hh"

using namespace ubd;
using namespace ubd::test;

namespace
{

constexpr u8 op_read = static_cast<u8>(HostOp::read);
constexpr u8 op_write = static_cast<u8>(HostOp::write);
constexpr u8 op_zero = static_cast<u8>(HostOp::zero);
constexpr u8 op_sync = static_cast<u8>(HostOp::sync);

class Watch {
public:
	Watch() { trace_events(true); }
	~Watch() { trace_events(false); }
	Watch(const Watch &) = delete;
	Watch &operator=(const Watch &) = delete;
	// What came since then, or since the last question, is just this.
	bool saw(const char *events)
	{
		const bool same = !__builtin_strcmp(traced_events(), events);
		if (!same)
			failed_here(__FILE__, __LINE__, "there came:\n%.600s", traced_events());
		trace_events(true);
		return same;
	}
};

WorldConfig cow_config(u32 commit_ms = 5000)
{
	WorldConfig c;
	c.cow_sectors = 1024;
	c.commit_ms = commit_ms;
	return c;
}

UBD_CASE(each_operation)
{
	Fixture f;
	World &w = *f;
	Watch watch;
	w.send_new(UBD_OP_READ, 8, 4096);
	CHECK(watch.saw("enqueue 0 read 0 8+4096 last\nbegin 0\nchunk 0 read 0:4096+4096\nsubmit 1 0 0\n"
			"completed 0 read 0:4096+4096 4096\n"));
	w.send_new(UBD_OP_WRITE, 1, 512);
	CHECK(watch.saw("enqueue 1 write 0 1+512 last\nbegin 1\nchunk 1 write 0:512+512\nsubmit 1 0 0\n"
			"completed 1 write 0:512+512 512\n"));
	w.send_new(UBD_OP_WRITE, 1, 512, UBD_RQ_FUA);
	CHECK(watch.saw("enqueue 2 write 1 1+512 last\nbegin 2\nchunk 2 write_sync 0:512+512\nsubmit 1 0 0\n"
			"completed 2 write_sync 0:512+512 512\n"));
	w.send_new(UBD_OP_FLUSH, ~0ull, 0);
	CHECK(watch.saw("enqueue 3 flush 0 0+0 last\nbegin 3\nchunk 3 sync 0:0+0\nsubmit 1 0 0\n"
			"completed 3 sync 0:0+0 0\n"));
	w.send_new(UBD_OP_DISCARD, 8, 4096);
	CHECK(watch.saw("enqueue 4 discard 0 8+4096 last\nbegin 4\nchunk 4 punch 0:4096+4096\nsubmit 1 0 0\n"
			"completed 4 punch 0:4096+4096 0\n"));
	// Durable by an fdatasync of the same chunk.
	w.send_new(UBD_OP_WRITE_ZEROES, 8, 4096, UBD_RQ_NOUNMAP | UBD_RQ_FUA);
	CHECK(watch.saw(
		"enqueue 5 write-zeroes 3 8+4096 last\nbegin 5\nchunk 5 zero 0:4096+4096\nsubmit 1 0 0\n"
		"completed 5 zero 0:4096+4096 0\nchunk 5 sync 0:0+0\nsubmit 1 0 0\ncompleted 5 sync 0:0+0 0\n"));
}

// Two requests in one batch, one of them in two files.
UBD_CASE(a_batch)
{
	StripedLayout striped(1024);
	WorldConfig c;
	c.layout = &striped;
	Fixture f(c);
	World &w = *f;
	Watch watch;
	w.send(w.make(UBD_OP_READ, 0, 2048), false);
	CHECK(watch.saw("enqueue 0 read 0 0+2048\n"));
	w.send_new(UBD_OP_READ, 1, 512);
	CHECK(watch.saw("enqueue 1 read 0 1+512 last\n"
			"begin 0\nchunk 0 read 0:0+1024\nchunk 0 read 1:1024+1024\n"
			"begin 1\nchunk 1 read 0:512+512\nsubmit 3 0 0\n"
			"completed 0 read 0:0+1024 1024\ncompleted 0 read 1:1024+1024 1024\n"
			"completed 1 read 0:512+512 512\n"));
}

UBD_CASE(the_reserve)
{
	Fixture f;
	World &w = *f;
	Watch watch;
	w.k.headers.limit = 0;
	w.send_new(UBD_OP_READ, 0, 512);
	CHECK(contains(traced_events(), "begin 0 reserve\n"));
}

UBD_CASE(why_it_is_tried_again)
{
	Fixture f;
	World &w = *f;
	Watch watch;
	w.engine.script(op_read, 1024);
	w.engine.script(op_read, -errno_intr);
	w.engine.script(op_read, -errno_again);
	w.send_new(UBD_OP_READ, 8, 4096);
	CHECK(watch.saw("enqueue 0 read 0 8+4096 last\nbegin 0\nchunk 0 read 0:4096+4096\nsubmit 1 0 0\n"
			"completed 0 read 0:4096+4096 1024\nretry 0 read 0:5120+3072 short 0\n"
			"chunk 0 read 0:5120+3072\nsubmit 1 0 0\n"
			"completed 0 read 0:5120+3072 -4\nretry 0 read 0:5120+3072 error 4\n"
			"chunk 0 read 0:5120+3072\nsubmit 1 0 0\n"
			"completed 0 read 0:5120+3072 -11\nretry 0 read 0:5120+3072 error 11 later\n"));
	CHECK(w.expire());
	CHECK(watch.saw("chunk 0 read 0:5120+3072\nsubmit 1 0 0\ncompleted 0 read 0:5120+3072 3072\n"));
	w.engine.script(op_zero, -errno_opnotsupp);
	w.send_new(UBD_OP_WRITE_ZEROES, 8, 512, UBD_RQ_NOUNMAP);
	CHECK(watch.saw("enqueue 1 write-zeroes 2 8+512 last\nbegin 1\nchunk 1 zero 0:4096+512\nsubmit 1 0 0\n"
			"completed 1 zero 0:4096+512 -95\nretry 1 write 0:4096+512 fallback 95\n"
			"chunk 1 write 0:4096+512\nsubmit 1 0 0\ncompleted 1 write 0:4096+512 512\n"));
	// What the host refuses as a whole.
	w.engine.script_submit(errno_busy);
	w.send_new(UBD_OP_READ, 0, 512);
	CHECK(watch.saw("enqueue 2 read 0 0+512 last\nbegin 2\nchunk 2 read 0:0+512\nsubmit 1 1 16\n"));
	CHECK(w.settle());
	CHECK(watch.saw("submit 1 0 0\ncompleted 2 read 0:0+512 512\n"));
}

UBD_CASE(who_shares)
{
	Fixture f;
	World &w = *f;
	w.engine.hold = true;
	Watch watch;
	for (u32 i = 0; i < 3; i++)
		w.send_new(UBD_OP_FLUSH, ~0ull, 0);
	CHECK(watch.saw("enqueue 0 flush 0 0+0 last\nbegin 0\nchunk 0 sync 0:0+0\nsubmit 1 0 0\n"
			"enqueue 1 flush 0 0+0 last\nbegin 1\nenqueue 2 flush 0 0+0 last\nbegin 2\n"));
	w.engine.complete(0);
	w.interrupt();
	CHECK(watch.saw("completed 0 sync 0:0+0 0\nshare 2 1\nchunk 1 sync 0:0+0\nsubmit 1 0 0\n"));
	w.engine.complete(0);
	w.interrupt();
	CHECK(watch.saw("completed 1 sync 0:0+0 0\n"));
	CHECK(w.settle());
}

UBD_CASE(a_commit)
{
	Fixture f(cow_config());
	World &w = *f;
	Watch watch;
	w.send_new(UBD_OP_FLUSH, ~0ull, 0);
	CHECK(watch.saw("enqueue 0 flush 0 0+0 last\nbegin 0\ncommit 0 data 0 0\nchunk 0 sync 0:0+0\nsubmit 1 0 0\n"
			"completed 0 sync 0:0+0 0\ncommit 0 end 0 0\n"));
	w.send_new(UBD_OP_WRITE, 1, 1024);
	CHECK(watch.saw("enqueue 1 write 0 1+1024 last\nbegin 1\nchunk 1 write 0:66048+1024\nsubmit 1 0 0\n"
			"completed 1 write 0:66048+1024 1024\n"));
	w.engine.script(op_write, 100);
	w.send_new(UBD_OP_FLUSH, ~0ull, 0);
	CHECK(watch.saw("enqueue 2 flush 0 0+0 last\nbegin 2\ncommit 2 data 2 0\nchunk 2 sync 0:0+0\nsubmit 1 0 0\n"
			"completed 2 sync 0:0+0 0\ncommit 2 blocks 2 0\nchunk 2 write 0:8192+128\nsubmit 1 0 0\n"
			"completed 2 write 0:8192+128 100\nretry 2 write 0:8292+28 short 0\n"
			"chunk 2 write 0:8292+28\nsubmit 1 0 0\ncompleted 2 write 0:8292+28 28\n"
			"commit 2 bits 2 0\nchunk 2 sync 0:0+0\nsubmit 1 0 0\n"
			"completed 2 sync 0:0+0 0\ncommit 2 end 0 0\n"));
	w.send_new(UBD_OP_WRITE, 9, 512);
	trace_events(true);
	w.engine.script(op_sync, -errno_io);
	w.send_new(UBD_OP_FLUSH, ~0ull, 0);
	CHECK(watch.saw("enqueue 4 flush 0 0+0 last\nbegin 4\ncommit 4 data 1 0\nchunk 4 sync 0:0+0\nsubmit 1 0 0\n"
			"completed 4 sync 0:0+0 -5\ncommit 4 end 0 1\n"));
}

// Nobody asked for it: it has no ticket.
UBD_CASE(a_commit_of_its_own)
{
	Fixture f(cow_config(100));
	World &w = *f;
	w.send_new(UBD_OP_WRITE, 1, 512);
	Watch watch;
	CHECK(w.expire());
	CHECK(watch.saw("commit -1 data 1 0\nchunk -1 sync 0:0+0\nsubmit 1 0 0\n"
			"completed -1 sync 0:0+0 0\ncommit -1 blocks 1 0\nchunk -1 write 0:8192+128\nsubmit 1 0 0\n"
			"completed -1 write 0:8192+128 128\ncommit -1 bits 1 0\nchunk -1 sync 0:0+0\nsubmit 1 0 0\n"
			"completed -1 sync 0:0+0 0\ncommit -1 end 0 0\n"));
}

UBD_CASE(nobody_watches)
{
	Fixture f;
	World &w = *f;
	trace_events(true);
	trace_events(false);
	w.send_new(UBD_OP_READ, 8, 4096);
	CHECK(!traced_events()[0]);
}

} // namespace

const ubd_test_case ubd_suite_trace[] = {
	UBD_ENTRY(each_operation),        UBD_ENTRY(a_batch),        UBD_ENTRY(the_reserve),
	UBD_ENTRY(why_it_is_tried_again), UBD_ENTRY(who_shares),     UBD_ENTRY(a_commit),
	UBD_ENTRY(a_commit_of_its_own),   UBD_ENTRY(nobody_watches), { nullptr, nullptr },
};
