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

Error parse(const char *text, FaultRules &rules)
{
	size_t n = __builtin_strlen(text);
	char *exact = static_cast<char *>(ubd_test_alloc(n ? n : 1));
	__builtin_memcpy(exact, text, n);
	Error e = FaultRules::parse(n ? exact : exact + 1, n, rules);
	ubd_test_free(exact);
	return e;
}

void set(World &w, const char *text)
{
	FaultRules rules;
	CHECK(!parse(text, rules));
	w.faults.set(rules);
}

// What reading the file gives.
class Shown {
public:
	explicit Shown(World &w) { w.faults.show(text, UBD_FAULT_TEXT_MAX); }
	Shown(const Shown &) = delete;
	Shown &operator=(const Shown &) = delete;
	~Shown() { ubd_test_free(text); }

	char *const text = static_cast<char *>(ubd_test_alloc(UBD_FAULT_TEXT_MAX));
};

void shows(World &w, const char *text)
{
	const Shown is(w);
	if (__builtin_strcmp(is.text, text))
		failed_here(__FILE__, __LINE__, "expected:\n%s\ngot:\n%s", text, is.text);
}

// The one rule of a text.
FaultRule rule(const char *text)
{
	FaultRules r;
	CHECK(!parse(text, r));
	CHECK_EQ(r.count, 1);
	return r.rule[0];
}

UBD_CASE(rules)
{
	FaultRule r = rule("read errno=5");
	CHECK(r.effect == FaultRule::Effect::fail && r.op == HostOp::read && r.error == 5 && !r.any && !r.on_submit);
	CHECK(r.every == 1 && r.times == for_ever && r.after == 0 && r.chance == 100 && r.delay_ms == 0);
	r = rule("  write_sync\tshort every=3 times=7 after=2\n");
	CHECK(r.effect == FaultRule::Effect::cut && r.op == HostOp::write_sync);
	CHECK(r.every == 3 && r.times == 7 && r.after == 2);
	r = rule("any drop");
	CHECK(r.effect == FaultRule::Effect::drop && r.any);
	r = rule("submit errno=11 times=4");
	CHECK(r.on_submit && r.error == 11);
	CHECK_EQ(rule("write errno=28 after=0 times=0").times, 0);
	CHECK_EQ(rule("punch errno=4095").error, 4095);
	r = rule("read delay=3000 chance=20 seed=7");
	CHECK(r.effect == FaultRule::Effect::late && r.delay_ms == 3000 && r.chance == 20 && r.seed == 7);
	r = rule("write errno=5 delay=999999999 chance=100");
	CHECK(r.effect == FaultRule::Effect::fail && r.delay_ms == 999999999 && r.chance == 100);
	CHECK_EQ(rule("write short delay=1").delay_ms, 1);
	for (const char *op : each("read", "write", "write_sync", "sync", "punch", "zero", "any")) {
		char text[32];
		ubd_k_snprintf(text, sizeof(text), "%s errno=1", op);
		CHECK_EQ(rule(text).error, 1);
	}
}

UBD_CASE(several_rules)
{
	FaultRules r;
	REQUIRE(!parse(" read errno=5;; write drop; any delay=4 ;\n", r));
	REQUIRE(r.count == 3);
	CHECK(r.rule[0].op == HostOp::read && r.rule[0].error == 5);
	CHECK(r.rule[1].op == HostOp::write && r.rule[1].effect == FaultRule::Effect::drop);
	CHECK(r.rule[2].any && r.rule[2].delay_ms == 4);
	for (const char *text : each("off", "off\n", " ;off;\n")) {
		REQUIRE(!parse(text, r));
		CHECK_EQ(r.count, 0);
	}
	static constexpr char nine[] =
		"any drop;any drop;any drop;any drop;any drop;any drop;any drop;any drop;any drop";
	CHECK(!FaultRules::parse(nine, 8 * 9, r));
	CHECK_EQ(r.count, 8);
	CHECK_EQ((FaultRules::parse(nine, sizeof(nine) - 1, r).number), errno_inval);
}

UBD_CASE(rules_that_are_none)
{
	for (const char *text :
	     each("", " ", "\n", ";", "read", "errno=5", "read errno=0", "read errnos=5", "read errno=4096",
		  "read errno=", "read errno=-5", "read errno=5x", "read errno=99999999999999999999", "reads errno=5",
		  "rea errno=5", "read short drop", "submit short", "submit drop", "read errno=5 every=0",
		  "read errno=5 every", "read errno=5 often=1", "off off", "off now", "read off", "READ errno=5",
		  "read  errno = 5", "read errno=5,times=1", "read delay", "read delay=", "read delay=0",
		  "read delay=1s", "read delay=1000000000", "read delay=5 delay=6", "read drop delay=5",
		  "submit delay=5", "submit errno=5 delay=5", "read errno=5 delay=0", "read chance=50",
		  "read short chance=0", "read short chance=101", "read short chance", "read short seed=",
		  "off;read short", "read short;off", "off;off", "read short;write", "read short\nwrite drop")) {
		FaultRules r;
		if (!parse(text, r))
			failed_here(__FILE__, __LINE__, "taken: \"%s\"", text);
	}
}

// What is read can be written again, without the part behind the colon.
UBD_CASE(rules_shown)
{
	Fixture f({ .faults = true });
	World &w = *f;
	shows(w, "off\nheld back: 0 dropped, 0 late\n");
	set(w, "read errno=5 delay=7 chance=30 seed=9 every=2 times=3 after=4;write_sync short;any drop;sync delay=1;"
	       "submit errno=11 chance=100 seed=1 every=1 after=0");
	shows(w, "read errno=5 delay=7 chance=30 seed=9 every=2 times=3 after=4: hit 0 of 0\n"
		 "write_sync short: hit 0 of 0\nany drop: hit 0 of 0\nsync delay=1: hit 0 of 0\n"
		 "submit errno=11: hit 0 of 0\nheld back: 0 dropped, 0 late\n");
	char small[8];
	w.faults.show(small, sizeof(small));
	CHECK(!__builtin_strcmp(small, "read er"));
	set(w, "off");
}

// Even the longest rules, eight times, can be read as a whole.
UBD_CASE(longest_rules_shown)
{
	Fixture f({ .faults = true });
	World &w = *f;
	static constexpr char longest[] =
		"write_sync errno=4095 delay=999999999 chance=99 seed=999999999 every=999999999 "
		"times=999999999 after=999999999;";
	char text[8 * sizeof(longest)];
	for (u32 i = 0; i < 8; i++)
		__builtin_memcpy(text + i * (sizeof(longest) - 1), longest, sizeof(longest));
	set(w, text);
	const Shown is(w);
	CHECK(contains(is.text, "held back: 0 dropped, 0 late\n"));
	// The counters may grow by 19 digits each.
	CHECK((__builtin_strlen(is.text) + 8 * 2 * 19 + 2 * 19 < UBD_FAULT_TEXT_MAX));
	set(w, "off");
}

UBD_CASE(an_errno)
{
	Fixture f({ .faults = true });
	World &w = *f;
	set(w, "write errno=28");
	CHECK_EQ((w.send_new(UBD_OP_WRITE, 0, 512).status()), UBD_STATUS_NOSPC);
	CHECK((w.send_new(UBD_OP_READ, 0, 512).ok()));
	shows(w, "write errno=28: hit 1 of 1\nheld back: 0 dropped, 0 late\n");
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
	shows(w, "read errno=5 every=4 times=3 after=3: hit 3 of 40\nheld back: 0 dropped, 0 late\n");
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
	CHECK(w.queue.timeout(b.rq, 30000));
	CHECK_EQ(w.engine.cancels, 0); // a stuck host thread heeds none
	shows(w, "read drop times=2: hit 2 of 3\nheld back: 2 dropped, 0 late\n");
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
	     each("any errno=11 every=2", "any short", "any errno=4 every=3", "submit errno=11 every=2", "any delay=20",
		  "any errno=11 chance=30; any short delay=5")) {
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

// A rule sees what those before it let pass; one rule hits.
UBD_CASE(rules_together)
{
	Fixture f({ .faults = true });
	World &w = *f;
	set(w, "read errno=5 times=1; any errno=28 after=1; read errno=5; submit errno=16 times=1");
	CHECK_EQ((w.send_new(UBD_OP_READ, 0, 512).status()), UBD_STATUS_IOERR); // the first
	FakeRequest &a = w.send_new(UBD_OP_WRITE, 0, 512); // passes, but is not submitted
	CHECK_EQ((w.send_new(UBD_OP_READ, 0, 512).status()), UBD_STATUS_NOSPC); // the second
	CHECK(w.settle());
	CHECK(a.ok());
	shows(w, "read errno=5 times=1: hit 1 of 2\nany errno=28 after=1: hit 1 of 2\nread errno=5: hit 0 of 0\n"
		 "submit errno=16 times=1: hit 1 of 2\nheld back: 0 dropped, 0 late\n");
	set(w, "off");
}

// Which of 400 reads fail, by a hash.
u64 chance_of(const char *text, u32 &failed)
{
	Fixture f({ .faults = true });
	World &w = *f;
	set(w, text);
	u64 which = 0;
	failed = 0;
	for (u32 i = 0; i < 400; i++)
		if (!w.send_new(UBD_OP_READ, i, 512).ok()) {
			which = which * 31 + i;
			failed++;
		}
	return which;
}

UBD_CASE(chance)
{
	u32 failed, again;
	const u64 which = chance_of("read errno=5 chance=20", failed);
	CHECK(failed > 50 && failed < 110);
	CHECK_EQ((chance_of("read errno=5 chance=20 seed=1", again)), which);
	CHECK_EQ(failed, again);
	CHECK((chance_of("read errno=5 chance=20 seed=2", again) != which));
	CHECK(again > 50 && again < 110);
	chance_of("read errno=5 chance=1 seed=0", failed);
	CHECK(failed < 20);
	chance_of("read errno=5 chance=99", failed);
	CHECK(failed > 380 && failed < 400);
	chance_of("read errno=5 chance=20 times=7", failed);
	CHECK_EQ(failed, 7);
	chance_of("read errno=5 chance=100", failed);
	CHECK_EQ(failed, 400);
	chance_of("read errno=5 chance=50 every=2", failed); // of those that every= lets through
	CHECK(failed > 70 && failed < 130);
}

// Late, each in its time, and announced: neither the timer nor a timeout brings it.
UBD_CASE(delayed)
{
	Fixture f({ .faults = true });
	World &w = *f;
	set(w, "read delay=3000 times=1; read delay=200 times=1");
	FakeRequest &c = w.make(UBD_OP_WRITE, 0, 4096);
	c.write_pattern(3);
	w.send(c);
	FakeRequest &a = w.send_new(UBD_OP_READ, 0, 2048);
	const u64 began = w.k.now_ms;
	FakeRequest &b = w.send_new(UBD_OP_READ, 0, 4096);
	FakeRequest &d = w.send_new(UBD_OP_READ, 1, 512);
	CHECK(c.ok() && !a.ended && !b.ended && d.ok()); // the others go on
	CHECK_EQ(w.engine.ops[0], 3); // the host is done with them all
	shows(w, "read delay=3000 times=1: hit 1 of 3\nread delay=200 times=1: hit 1 of 2\nheld back: 0 dropped, 2 "
		 "late\n");
	CHECK(w.expire() && w.queue.timeout(a.rq, 30000));
	CHECK(!a.ended && !b.ended);
	CHECK_EQ(w.engine.cancels, 0); // a stuck host thread heeds none
	CHECK(w.expire_faults());
	CHECK(!a.ended && b.ok() && b.has_pattern(3));
	CHECK_EQ(w.k.now_ms, began + 200);
	CHECK(w.expire_faults());
	CHECK(a.ok());
	CHECK_EQ(w.k.now_ms, began + 3000);
	CHECK_EQ(w.stats().missed_wakeups, 0);
	CHECK_EQ(w.stats().interrupt_completions, 2);
	CHECK(!w.expire_faults());
	shows(w, "read delay=3000 times=1: hit 1 of 3\nread delay=200 times=1: hit 1 of 2\nheld back: 0 dropped, 0 "
		 "late\n");
}

// The time begins when the host is done.
UBD_CASE(delayed_after_the_host)
{
	Fixture f({ .faults = true });
	World &w = *f;
	w.engine.hold = true;
	set(w, "write delay=100");
	FakeRequest &a = w.send_new(UBD_OP_WRITE, 0, 512);
	CHECK(w.queue.timeout(a.rq, 30000));
	CHECK_EQ(w.engine.cancels, 0);
	CHECK_EQ(w.faults.late(), 0);
	CHECK(!w.expire_faults());
	w.k.now_ms += 5000;
	w.engine.complete_all();
	CHECK(w.interrupt());
	CHECK_EQ(w.faults.late(), 1);
	CHECK_EQ(w.k.fault_timer_at, w.k.now_ms + 100);
	CHECK(w.settle());
	CHECK(a.ok());
}

// The timer is for whole ticks: it may come early, or late for one of several.
UBD_CASE(fault_timer_comes_early_and_late)
{
	Fixture f({ .faults = true });
	World &w = *f;
	set(w, "read delay=50");
	FakeRequest &a = w.send_new(UBD_OP_READ, 0, 512);
	w.k.fault_timer_at -= 5;
	CHECK(w.expire_faults());
	CHECK(!a.ended);
	CHECK_EQ(w.k.fault_timer_at, w.k.now_ms + 5);
	w.k.now_ms += 20;
	FakeRequest &b = w.send_new(UBD_OP_READ, 1, 512); // a is due already
	CHECK_EQ(w.k.fault_timer_at, w.k.now_ms + 1);
	CHECK(w.expire_faults());
	CHECK(a.ok() && !b.ended);
	CHECK(w.settle());
	CHECK(b.ok());
}

UBD_CASE(errors_and_shorts_that_are_late)
{
	Fixture f({ .faults = true });
	World &w = *f;
	set(w, "write errno=28 delay=40 times=1; write short delay=30 times=2");
	FakeRequest &a = w.send_new(UBD_OP_WRITE, 0, 4096);
	CHECK_EQ(w.engine.ops[1], 0); // never reached the host
	FakeRequest &b = w.make(UBD_OP_WRITE, 0, 4096);
	b.write_pattern(6);
	w.send(b);
	CHECK(!a.ended && !b.ended);
	CHECK(w.settle());
	CHECK_EQ(a.status(), UBD_STATUS_NOSPC);
	REQUIRE(b.ok());
	CHECK_EQ(w.stats().chunks_continued, 2);
	CHECK_EQ(w.k.now_ms, 1060); // 1000, and two shorts, one after the other
	FakeRequest &c = w.send_new(UBD_OP_READ, 0, 4096);
	CHECK(c.ok() && c.has_pattern(6));
}

// With new rules what is late comes at once, and what the host still has is no
// longer to be late.
UBD_CASE(delayed_and_another_rule)
{
	Fixture f({ .faults = true });
	World &w = *f;
	set(w, "any delay=9000");
	FakeRequest &a = w.send_new(UBD_OP_READ, 0, 512);
	w.engine.hold = true;
	FakeRequest &b = w.send_new(UBD_OP_READ, 1, 512);
	set(w, "write drop");
	w.queue.commit();
	CHECK(a.ok() && !b.ended);
	w.engine.complete_all();
	CHECK(w.interrupt());
	CHECK(b.ok());
	CHECK_EQ(w.k.now_ms, 1000);
	CHECK(w.expire_faults()); // and finds nothing
	set(w, "off");
}

// No more can be late than there is room for: the others pass, and are not hit.
UBD_CASE(most_that_can_be_late)
{
	Fixture f({ .faults = true });
	World &w = *f;
	w.engine.limit = w.engine.ring = 200;
	set(w, "read delay=50");
	for (u32 i = 0; i < 140; i++)
		w.send_new(UBD_OP_READ, i, 512);
	CHECK_EQ(w.faults.late(), FaultEngine::most_late);
	CHECK_EQ(w.pending(), FaultEngine::most_late);
	shows(w, "read delay=50: hit 128 of 140\nheld back: 0 dropped, 128 late\n");
	CHECK(w.settle());
}

// The engine keeps its word also when it is not core that asks.
UBD_CASE(listen_tells_what_is_ready)
{
	Fixture f({ .faults = true });
	World &w = *f;
	auto *c = new (Place{ ubd_test_alloc(sizeof(Chunk)) }) Chunk;
	set(w, "read errno=5");
	unsigned long flags = ubd_k_lock(&w.k);
	w.faults.quiet();
	w.faults.prepare(*c);
	CHECK(w.faults.ready());
	CHECK(w.faults.listen());
	CHECK(!w.engine.listening());
	Completion done;
	CHECK_EQ((w.faults.reap(&done, 1)), 1);
	CHECK(done.chunk == c && done.result == -5);
	CHECK(!w.faults.ready());
	CHECK(!w.faults.listen());
	CHECK(w.engine.listening());
	CHECK(!__builtin_strcmp(w.faults.name(), w.engine.name()));
	ubd_k_unlock(&w.k, flags);
	ubd_test_free(c);
}

// At reboot the late ones are waited for.
UBD_CASE(synchronous_mode_with_delays)
{
	Fixture f({ .faults = true });
	World &w = *f;
	w.engine.hold = true;
	set(w, "any delay=4000 times=3; any delay=70");
	FakeRequest *r[8];
	for (u32 i = 0; i < 8; i++) {
		r[i] = &w.make(i % 2 ? UBD_OP_WRITE : UBD_OP_READ, i, 512);
		w.send(*r[i], false);
	}
	w.queue.go_synchronous();
	CHECK_EQ(w.pending(), 0);
	for (FakeRequest *q : r)
		CHECK(q->ok());
	CHECK(w.k.now_ms >= 5000);
	CHECK((w.send_new(UBD_OP_READ, 0, 512).ok()));
}

// More than a guest that ends waits for: it says so, and does not hang.
UBD_CASE(synchronous_mode_gives_up_on_a_delay)
{
	Fixture f({ .faults = true });
	World &w = *f;
	set(w, "read delay=60000");
	FakeRequest &a = w.send_new(UBD_OP_READ, 0, 512);
	w.queue.go_synchronous();
	CHECK(!a.ended);
	CHECK(log_has("the host does not complete I/O"));
	CHECK_EQ(w.k.now_ms, 11000);
	CHECK(w.settle());
	CHECK(a.ok());
}

} // namespace

const ubd_test_case ubd_suite_faults[] = {
	UBD_ENTRY(rules),
	UBD_ENTRY(several_rules),
	UBD_ENTRY(rules_that_are_none),
	UBD_ENTRY(rules_shown),
	UBD_ENTRY(longest_rules_shown),
	UBD_ENTRY(an_errno),
	UBD_ENTRY(every_times_after),
	UBD_ENTRY(an_errno_that_is_tried_again),
	UBD_ENTRY(short_transfers),
	UBD_ENTRY(dropped_until_off),
	UBD_ENTRY(dropped_and_another_rule),
	UBD_ENTRY(refused_submits),
	UBD_ENTRY(faults_without_memory),
	UBD_ENTRY(synchronous_mode_with_faults),
	UBD_ENTRY(rules_together),
	UBD_ENTRY(chance),
	UBD_ENTRY(delayed),
	UBD_ENTRY(delayed_after_the_host),
	UBD_ENTRY(fault_timer_comes_early_and_late),
	UBD_ENTRY(errors_and_shorts_that_are_late),
	UBD_ENTRY(delayed_and_another_rule),
	UBD_ENTRY(most_that_can_be_late),
	UBD_ENTRY(listen_tells_what_is_ready),
	UBD_ENTRY(synchronous_mode_with_delays),
	UBD_ENTRY(synchronous_mode_gives_up_on_a_delay),
	{ nullptr, nullptr },
};
