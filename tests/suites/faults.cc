// SPDX-License-Identifier: GPL-2.0-only
/*
 * Faults on demand: the text that sets one, and that the engine around the
 * engine does what it says, no more, and lets go when it is off.
 */
#include "fake.hh"

using namespace ubd;
using namespace ubd::test;

namespace
{

Error parse(const char *text, FaultRule &rule)
{
	size_t n = __builtin_strlen(text);
	char *exact = static_cast<char *>(ubd_test_alloc(n ? n : 1));
	__builtin_memcpy(exact, text, n);
	Error e = FaultRule::parse(n ? exact : exact + 1, n, rule);
	ubd_test_free(exact);
	return e;
}

void set(World &w, const char *text)
{
	FaultRule rule;
	CHECK(!parse(text, rule));
	w.faults.set(rule);
}

UBD_CASE(rules)
{
	FaultRule r;
	REQUIRE(!parse("read errno=5", r));
	CHECK(r.effect == FaultRule::Effect::fail && r.op == HostOp::read && r.error == 5 && !r.any && !r.on_submit);
	CHECK(r.every == 1 && r.times == for_ever && r.after == 0);
	REQUIRE(!parse("  write_sync\tshort every=3 times=7 after=2\n", r));
	CHECK(r.effect == FaultRule::Effect::cut && r.op == HostOp::write_sync);
	CHECK(r.every == 3 && r.times == 7 && r.after == 2);
	REQUIRE(!parse("any drop", r));
	CHECK(r.effect == FaultRule::Effect::drop && r.any);
	REQUIRE(!parse("submit errno=11 times=4", r));
	CHECK(r.on_submit && r.error == 11);
	REQUIRE(!parse("write errno=28 after=0 times=0", r));
	CHECK(r.times == 0);
	REQUIRE(!parse("punch errno=4095", r));
	CHECK(r.error == 4095);
	REQUIRE(!parse("off\n", r));
	CHECK(r.effect == FaultRule::Effect::none);
	for (const char *op : each("read", "write", "write_sync", "sync", "punch", "zero", "any")) {
		char text[32];
		ubd_k_snprintf(text, sizeof(text), "%s errno=1", op);
		CHECK(!parse(text, r));
	}
}

UBD_CASE(rules_that_are_none)
{
	for (const char *text :
	     each("", " ", "\n", "read", "errno=5", "read errno=0", "read errno=4096", "read errno=", "read errno=-5",
		  "read errno=5x", "read errno=99999999999999999999", "reads errno=5", "rea errno=5", "read short drop",
		  "submit short", "submit drop", "read errno=5 every=0", "read errno=5 every", "read errno=5 often=1",
		  "off off", "off now", "read off", "READ errno=5", "read  errno = 5", "read errno=5,times=1")) {
		FaultRule r;
		if (!parse(text, r))
			failed_here(__FILE__, __LINE__, "taken: \"%s\"", text);
	}
}

UBD_CASE(an_errno)
{
	Fixture f({ .faults = true });
	World &w = *f;
	set(w, "write errno=28");
	CHECK_EQ((w.send_new(UBD_OP_WRITE, 0, 512).status()), UBD_STATUS_NOSPC);
	CHECK((w.send_new(UBD_OP_READ, 0, 512).ok()));
	CHECK_EQ(w.faults.hits(), 1);
	CHECK_EQ(w.engine.ops[1], 0); // never reached the host
	set(w, "off");
	CHECK((w.send_new(UBD_OP_WRITE, 0, 512).ok()));
}

UBD_CASE(every_times_after)
{
	Fixture f({ .faults = true });
	World &w = *f;
	set(w, "read errno=5 after=3 every=4 times=3");
	u32 failed = 0;
	for (u32 i = 0; i < 40; i++)
		if (!w.send_new(UBD_OP_READ, i, 512).ok()) {
			CHECK(i == 3 || i == 7 || i == 11);
			failed++;
		}
	CHECK_EQ(failed, 3);
	CHECK_EQ(w.faults.hits(), 3);
}

UBD_CASE(an_errno_that_is_tried_again)
{
	Fixture f({ .faults = true });
	World &w = *f;
	set(w, "any errno=4 times=20");
	CHECK((w.send_new(UBD_OP_READ, 0, 512).ok()));
	set(w, "any errno=11 times=5");
	FakeRequest &r = w.send_new(UBD_OP_WRITE, 0, 512);
	CHECK(w.settle());
	CHECK(r.ok());
}

UBD_CASE(short_transfers)
{
	Fixture f({ .faults = true });
	World &w = *f;
	set(w, "any short");
	FakeRequest &a = w.make(UBD_OP_WRITE, 0, 65536, 0, 4096);
	a.write_pattern(4);
	w.send(a);
	CHECK(w.settle());
	REQUIRE(a.ok());
	FakeRequest &b = w.send_new(UBD_OP_READ, 0, 65536);
	CHECK(w.settle());
	REQUIRE(b.ok());
	CHECK(b.has_pattern(4));
	CHECK_EQ(w.stats().chunks_continued, 14); // 32 K, 16 K ... 512, 512: twice
	CHECK((w.send_new(UBD_OP_FLUSH, ~0ull, 0).ok()));
	CHECK((w.send_new(UBD_OP_WRITE_ZEROES, 0, 4096).ok()));
}

UBD_CASE(dropped_until_off)
{
	Fixture f({ .faults = true });
	World &w = *f;
	set(w, "read drop times=2");
	FakeRequest &a = w.send_new(UBD_OP_READ, 0, 512);
	FakeRequest &b = w.send_new(UBD_OP_READ, 1, 512);
	FakeRequest &c = w.send_new(UBD_OP_READ, 2, 512);
	CHECK(!a.ended && !b.ended && c.ok());
	for (u32 i = 0; i < 3; i++)
		CHECK(w.expire()); // the watch
	CHECK(!a.ended && !b.ended);
	CHECK(w.queue.timeout(a.rq, 30000));
	CHECK(log_has("1 parts are with the host"));
	set(w, "off");
	w.queue.commit();
	CHECK(w.settle());
	CHECK(a.ok() && b.ok());
}

// What was held back is tried again, whatever rule comes next.
UBD_CASE(dropped_and_another_rule)
{
	Fixture f({ .faults = true });
	World &w = *f;
	set(w, "read drop times=1");
	FakeRequest &a = w.send_new(UBD_OP_READ, 0, 512);
	set(w, "write errno=5");
	w.queue.commit();
	CHECK(w.settle());
	CHECK(a.ok());
}

UBD_CASE(refused_submits)
{
	Fixture f({ .faults = true });
	World &w = *f;
	set(w, "submit errno=16 times=3");
	FakeRequest &r = w.send_new(UBD_OP_READ, 0, 512);
	CHECK(!r.ended);
	CHECK_EQ(w.engine.submits, 0);
	CHECK(w.settle());
	CHECK(r.ok());
	CHECK_EQ(w.stats().submit_retries, 3);
}

UBD_CASE(faults_without_memory)
{
	Fixture f({ .faults = true });
	World &w = *f;
	w.k.headers.limit = w.k.chunks.limit = 0;
	w.engine.limit = w.engine.ring = 1;
	for (const char *text :
	     each("any errno=11 every=2", "any short", "any errno=4 every=3", "submit errno=11 every=2")) {
		set(w, text);
		FakeRequest &a = w.make(UBD_OP_WRITE, 5, 40960, UBD_RQ_FUA, 512);
		a.write_pattern(8);
		w.send(a);
		FakeRequest &b = w.send_new(UBD_OP_READ, 5, 40960, 0, 1024);
		CHECK(w.settle());
		CHECK(a.ok() && b.ok());
		CHECK(b.has_pattern(8));
	}
}

UBD_CASE(synchronous_mode_with_faults)
{
	Fixture f({ .faults = true });
	World &w = *f;
	w.engine.hold = true;
	set(w, "any errno=11 every=2 times=10");
	for (u32 i = 0; i < 5; i++)
		w.send(w.make(UBD_OP_READ, i, 512), false);
	w.queue.go_synchronous();
	CHECK_EQ(w.pending(), 0);
}

} // namespace

const ubd_test_case ubd_suite_faults[] = {
	UBD_ENTRY(rules),
	UBD_ENTRY(rules_that_are_none),
	UBD_ENTRY(an_errno),
	UBD_ENTRY(every_times_after),
	UBD_ENTRY(an_errno_that_is_tried_again),
	UBD_ENTRY(short_transfers),
	UBD_ENTRY(dropped_until_off),
	UBD_ENTRY(dropped_and_another_rule),
	UBD_ENTRY(refused_submits),
	UBD_ENTRY(faults_without_memory),
	UBD_ENTRY(synchronous_mode_with_faults),
	{ nullptr, nullptr },
};
