// SPDX-License-Identifier: GPL-2.0-only
/*
 * The record of what the host is asked for: the text that drives it, that it
 * holds all that was handed over and came back, in that order and with the data,
 * and that it says so when something did not fit.
 */
#include "fake.hh"

using namespace ubd;
using namespace ubd::test;

namespace
{

constexpr u8 op_write = static_cast<u8>(HostOp::write);

Error parse(const char *text, RecordCommand &c)
{
	const size_t n = __builtin_strlen(text);
	char *exact = static_cast<char *>(ubd_test_alloc(n ? n : 1));
	__builtin_memcpy(exact, text, n);
	Error e = RecordCommand::parse(n ? exact : exact + 1, n, c);
	ubd_test_free(exact);
	return e;
}

// What ubd_device_record() does.
Error obey(World &w, const char *text)
{
	RecordCommand c;
	UBD_TRY(parse(text, c));
	void *memory = c.verb == RecordCommand::Verb::on ? ubd_test_alloc(c.number) : nullptr;
	const unsigned long flags = ubd_k_lock(&w.k);
	const Error e = w.faults.recorder().obey(c, memory);
	ubd_k_unlock(&w.k, flags);
	ubd_test_free(memory);
	return e;
}

WorldConfig with_recorder(WorldConfig c)
{
	c.faults = true;
	return c;
}

// A world whose recorder's memory goes with it.
class Recorded {
public:
	explicit Recorded(const WorldConfig &c = {}) : fixture_(with_recorder(c)) {}
	~Recorded() { ubd_test_free((*fixture_).faults.recorder().take_memory()); }
	Recorded(const Recorded &) = delete;
	Recorded &operator=(const Recorded &) = delete;
	World &operator*() { return *fixture_; }

private:
	Fixture fixture_;
};

// What reading the file gives, by pieces of `step` bytes.
class Copy {
public:
	explicit Copy(World &w, u64 step = 4096)
	{
		u64 done = 0;
		do {
			if (w.faults.recorder().read(bytes, at + bytes, min(step, room - bytes), done))
				failed_here(__FILE__, __LINE__, "it cannot be read");
			bytes += done;
		} while (done);
	}
	~Copy() { ubd_test_free(at); }
	Copy(const Copy &) = delete;
	Copy &operator=(const Copy &) = delete;

	const RecordHead &head() const { return *reinterpret_cast<const RecordHead *>(at); }
	// The n-th entry.
	const RecordEntry &entry(u64 n) const
	{
		const u8 *p = at + sizeof(RecordHead);
		while (n--)
			p += reinterpret_cast<const RecordEntry *>(p)->bytes();
		return *reinterpret_cast<const RecordEntry *>(p);
	}
	const u8 *data(u64 n) const { return reinterpret_cast<const u8 *>(&entry(n)) + sizeof(RecordEntry); }

	static constexpr u64 room = 1 << 18;
	u64 bytes = 0;
	u8 *const at = static_cast<u8 *>(ubd_test_alloc(room));
};

void is_handed(const RecordEntry &e, HostOp op, u64 offset, u64 length, u32 data)
{
	CHECK_EQ(e.kind, RecordEntry::handed);
	CHECK(e.op == op);
	CHECK_EQ(e.offset, offset);
	CHECK_EQ(e.length, length);
	CHECK_EQ(e.data, data);
}

// It is the end of that one.
void is_completed(const RecordEntry &e, const RecordEntry &handed, s32 result)
{
	CHECK_EQ(e.kind, RecordEntry::completed);
	CHECK_EQ(e.number, handed.number);
	CHECK(e.op == handed.op && e.file == handed.file);
	CHECK_EQ(e.result, result);
	CHECK_EQ(e.data, 0);
}

UBD_CASE(commands)
{
	RecordCommand c;
	REQUIRE(!parse("on 65536", c));
	CHECK(c.verb == RecordCommand::Verb::on && c.number == 65536);
	REQUIRE(!parse(" on\t1073741824\n", c));
	CHECK_EQ(c.number, 1 << 30);
	REQUIRE(!parse("on 32", c)); // room for the head
	REQUIRE(!parse("off\n", c));
	CHECK(c.verb == RecordCommand::Verb::off);
	REQUIRE(!parse("mark 0", c));
	CHECK(c.verb == RecordCommand::Verb::mark && c.number == 0);
	REQUIRE(!parse("mark 9999999999999999999", c));
	CHECK((c.number == 9999999999999999999ull));
}

UBD_CASE(commands_that_are_none)
{
	for (const char *text : each("", " ", "\n", "on", "on ", "on 31", "on 0", "on 1073741825", "on 1k", "on -5",
				     "on 64 64", "off 1", "off off", "mark", "mark x", "mark 1x", "mark 1:", "mark 1/",
				     "mark 1 2", "mark 10000000000000000000", "marks 1", "o", "ON 64", "on64")) {
		RecordCommand c;
		if (!parse(text, c))
			failed_here(__FILE__, __LINE__, "taken: \"%s\"", text);
	}
}

// By whatever descriptor: of a COW file by O_DIRECT, its bits are in the same file.
UBD_CASE(one_file_by_two_descriptors)
{
	WorldConfig c;
	c.block = 512;
	c.cow_sectors = 1024;
	Recorded r(c);
	World &w = *r;
	REQUIRE(!obey(w, "on 65536"));
	CHECK((w.send_new(UBD_OP_WRITE, 8, 512).ok() && w.send_new(UBD_OP_FLUSH, ~0ull, 0).ok()));
	CHECK((w.send_new(UBD_OP_READ, 0, 512).ok()));
	REQUIRE(!obey(w, "off"));
	Copy copy(w);
	REQUIRE(copy.head().entries == 10);
	is_handed(copy.entry(0), HostOp::write, cow_data_at + 8 * 512, 512, 512);
	is_handed(copy.entry(4), HostOp::write, cow_bitmap_at, 128, 128);
	for (u32 i = 0; i < 10; i++)
		CHECK_EQ(copy.entry(i).file, i < 8 ? 0 : 1);
}

// Nothing was ever recorded: there is nothing to read, or to mark.
UBD_CASE(nothing)
{
	Recorded r;
	World &w = *r;
	CHECK((w.send_new(UBD_OP_WRITE, 0, 512).ok()));
	CHECK_EQ(obey(w, "mark 3").number, errno_inval);
	CHECK(!obey(w, "off"));
	CHECK_EQ(Copy(w).bytes, 0);
}

UBD_CASE(all_kinds)
{
	Recorded r;
	World &w = *r;
	CHECK((w.send_new(UBD_OP_WRITE, 7, 512).ok())); // before it began
	REQUIRE(!obey(w, "on 131072"));
	CHECK((w.send_new(UBD_OP_READ, 8, 1024).ok()));
	FakeRequest &a = w.make(UBD_OP_WRITE, 16, 8192, 0, 512); // in many pieces
	a.write_pattern(5);
	w.send(a);
	REQUIRE(!obey(w, "mark 77"));
	CHECK((w.send_new(UBD_OP_WRITE, 32, 512, UBD_RQ_FUA).ok()));
	CHECK((w.send_new(UBD_OP_FLUSH, ~0ull, 0).ok()));
	CHECK((w.send_new(UBD_OP_DISCARD, 40, 4096).ok()));
	CHECK((w.send_new(UBD_OP_WRITE_ZEROES, 48, 8192, UBD_RQ_NOUNMAP).ok()));
	u8 some[8];
	u64 done;
	CHECK_EQ((w.faults.recorder().read(0, some, sizeof(some), done).number), errno_busy);
	REQUIRE(!obey(w, "off"));
	CHECK((w.send_new(UBD_OP_READ, 0, 512).ok())); // after it ended

	const Copy c(w);
	CHECK((c.head().magic == RecordHead::magic_number));
	CHECK_EQ(c.head().bytes, c.bytes);
	CHECK_EQ(c.head().full, 0);
	REQUIRE(c.head().entries == 13);
	CHECK_EQ(c.bytes, sizeof(RecordHead) + 13 * sizeof(RecordEntry) + 8192 + 512);
	is_handed(c.entry(0), HostOp::read, 4096, 1024, 0);
	is_completed(c.entry(1), c.entry(0), 1024);
	is_handed(c.entry(2), HostOp::write, 8192, 8192, 8192);
	CHECK(!__builtin_memcmp(c.data(2), w.engine.content(0) + 8192, 8192));
	is_completed(c.entry(3), c.entry(2), 8192);
	CHECK_EQ(c.entry(4).kind, RecordEntry::mark);
	CHECK_EQ(c.entry(4).number, 77);
	is_handed(c.entry(5), HostOp::write_sync, 16384, 512, 512);
	is_completed(c.entry(6), c.entry(5), 512);
	is_handed(c.entry(7), HostOp::sync, 0, 0, 0);
	is_completed(c.entry(8), c.entry(7), 0);
	is_handed(c.entry(9), HostOp::punch, 20480, 4096, 0);
	is_completed(c.entry(10), c.entry(9), 0);
	is_handed(c.entry(11), HostOp::zero, 24576, 8192, 0);
	is_completed(c.entry(12), c.entry(11), 0);

	const Copy pieces(w, 24);
	CHECK_EQ(pieces.bytes, c.bytes);
	CHECK(!__builtin_memcmp(pieces.at, c.at, c.bytes));
}

// Data is what it was when it was handed over, and the order is that of the host.
UBD_CASE(in_the_order_of_what_happened)
{
	Recorded r;
	World &w = *r;
	REQUIRE(!obey(w, "on 65536"));
	w.engine.hold = true;
	FakeRequest &a = w.make(UBD_OP_WRITE, 0, 1024);
	a.write_pattern(1);
	u8 *before = static_cast<u8 *>(ubd_test_alloc(1024));
	a.copy_out(before);
	w.send(a);
	w.send_new(UBD_OP_READ, 9, 512);
	a.write_pattern(2); // what nobody should do
	w.engine.complete(1);
	CHECK(w.interrupt());
	w.engine.complete_all();
	CHECK(w.interrupt());
	CHECK(a.ok());
	REQUIRE(!obey(w, "off"));
	const Copy c(w);
	REQUIRE(c.head().entries == 4);
	is_handed(c.entry(0), HostOp::write, 0, 1024, 1024);
	CHECK(!__builtin_memcmp(c.data(0), before, 1024));
	is_handed(c.entry(1), HostOp::read, 4608, 512, 0);
	is_completed(c.entry(2), c.entry(1), 512);
	is_completed(c.entry(3), c.entry(0), 1024);
	ubd_test_free(before);
}

// A record does not begin in the middle of something.
UBD_CASE(begins_when_the_host_rests)
{
	Recorded r;
	World &w = *r;
	w.engine.hold = true;
	FakeRequest &a = w.send_new(UBD_OP_READ, 0, 512);
	CHECK_EQ(obey(w, "on 4096").number, errno_busy);
	CHECK_EQ(obey(w, "mark 1").number, errno_inval);
	w.engine.complete_all();
	CHECK(w.interrupt());
	CHECK(a.ok());
	CHECK(!obey(w, "on 4096"));
	// It may end there, and then the next has to wait.
	FakeRequest &b = w.send_new(UBD_OP_READ, 1, 512);
	CHECK(!obey(w, "off"));
	CHECK_EQ(obey(w, "on 4096").number, errno_busy);
	CHECK_EQ(Copy(w).head().entries, 1);
	w.engine.complete_all();
	CHECK(w.interrupt());
	CHECK(b.ok());
	// A new one knows nothing of it.
	CHECK(!obey(w, "on 8192"));
	CHECK(!obey(w, "off"));
	CHECK_EQ(Copy(w).head().entries, 0);
}

// Never cut in silence: nothing behind what did not fit, and everybody is told.
UBD_CASE(full)
{
	Recorded r;
	World &w = *r;
	// Room for two writes and their ends, and for the end of a third one.
	constexpr u64 room = sizeof(RecordHead) + 5 * sizeof(RecordEntry) + 2 * 512;
	char text[32];
	ubd_k_snprintf(text, sizeof(text), "on %llu", room);
	REQUIRE(!obey(w, text));
	for (u32 i = 0; i < 2; i++)
		CHECK((w.send_new(UBD_OP_WRITE, i, 512).ok()));
	CHECK(!obey(w, "mark 1")); // the fifth: it is full to the byte
	CHECK_EQ(obey(w, "mark 2").number, errno_nospc);
	CHECK((w.send_new(UBD_OP_WRITE, 3, 512).ok()));
	CHECK_EQ(obey(w, "mark 3").number, errno_nospc);
	REQUIRE(!obey(w, "off"));
	const Copy c(w);
	CHECK_EQ(c.head().full, 1);
	CHECK_EQ(c.head().entries, 5);
	CHECK_EQ(c.bytes, room);
}

// Nor is anything written behind the memory, which ends anywhere.
UBD_CASE(full_by_a_byte)
{
	for (u32 less : each(1, 7, 8)) {
		Recorded r;
		World &w = *r;
		char text[32];
		ubd_k_snprintf(text, sizeof(text), "on %llu",
			       sizeof(RecordHead) + 2 * sizeof(RecordEntry) - less + 0ull);
		REQUIRE(!obey(w, text));
		CHECK(!obey(w, "mark 1"));
		CHECK_EQ(obey(w, "mark 2").number, errno_nospc);
		REQUIRE(!obey(w, "off"));
		const Copy c(w);
		CHECK_EQ(c.head().full, 1);
		CHECK_EQ(c.head().entries, 1);
	}
}

// What is small enough is not noted either, once something was too large.
UBD_CASE(full_stays_full)
{
	Recorded r;
	World &w = *r;
	REQUIRE(!obey(w, "on 1000"));
	CHECK((w.send_new(UBD_OP_WRITE, 0, 4096).ok()));
	CHECK((w.send_new(UBD_OP_READ, 0, 512).ok()));
	CHECK_EQ(obey(w, "mark 1").number, errno_nospc);
	REQUIRE(!obey(w, "off"));
	const Copy c(w);
	CHECK_EQ(c.head().full, 1);
	CHECK_EQ(c.head().entries, 0);
	CHECK(!obey(w, "on 1000"));
	CHECK(!obey(w, "mark 1"));
	REQUIRE(!obey(w, "off"));
	CHECK_EQ(Copy(w).head().full, 0);
}

// What core is told counts, whoever made it so: what a rule refuses, holds back,
// cuts short or makes late.
UBD_CASE(with_faults)
{
	Recorded r;
	World &w = *r;
	REQUIRE(!obey(w, "on 65536"));
	FaultRules rules;
	static constexpr char text[] = "write short times=1; write errno=28 times=1; read drop times=1; read delay=40";
	REQUIRE(!FaultRules::parse(text, sizeof(text) - 1, rules));
	w.faults.set(rules);
	CHECK((!w.send_new(UBD_OP_WRITE, 0, 4096).ok())); // the rest of it hit the second
	FakeRequest &b = w.send_new(UBD_OP_READ, 0, 512);
	FakeRequest &d = w.send_new(UBD_OP_READ, 1, 512);
	CHECK(!b.ended && !d.ended);
	CHECK_EQ(obey(w, "on 4096").number, errno_busy); // the host still has something
	CHECK(w.expire_faults());
	CHECK(d.ok());
	CHECK_EQ(obey(w, "on 4096").number, errno_busy);
	REQUIRE(!FaultRules::parse("off", 3, rules));
	w.faults.set(rules);
	w.queue.commit();
	CHECK(w.settle());
	CHECK(b.ok());
	REQUIRE(!obey(w, "off"));
	const Copy c(w);
	REQUIRE(c.head().entries == 10);
	is_handed(c.entry(0), HostOp::write, 0, 4096, 4096);
	is_completed(c.entry(1), c.entry(0), 2048);
	is_handed(c.entry(2), HostOp::write, 2048, 2048, 2048);
	is_completed(c.entry(3), c.entry(2), -errno_nospc);
	is_handed(c.entry(4), HostOp::read, 0, 512, 0);
	is_handed(c.entry(5), HostOp::read, 512, 512, 0);
	is_completed(c.entry(6), c.entry(5), 512);
	is_completed(c.entry(7), c.entry(4), -errno_again);
	is_handed(c.entry(8), HostOp::read, 0, 512, 0);
	is_completed(c.entry(9), c.entry(8), 512);
}

// What the host fails is recorded as it is. A write that goes on is another one.
UBD_CASE(errors_and_continuations)
{
	Recorded r;
	World &w = *r;
	REQUIRE(!obey(w, "on 65536"));
	w.engine.script(op_write, 1536);
	w.engine.script(op_write, -errno_nospc);
	FakeRequest &a = w.make(UBD_OP_WRITE, 4, 4096, 0, 1024);
	a.write_pattern(6);
	w.send(a);
	CHECK(w.settle());
	CHECK(!a.ok());
	REQUIRE(!obey(w, "off"));
	const Copy c(w);
	REQUIRE(c.head().entries == 4);
	is_handed(c.entry(0), HostOp::write, 2048, 4096, 4096);
	is_completed(c.entry(1), c.entry(0), 1536);
	is_handed(c.entry(2), HostOp::write, 2048 + 1536, 4096 - 1536, 4096 - 1536);
	CHECK(!__builtin_memcmp(c.data(2), c.data(0) + 1536, 4096 - 1536));
	is_completed(c.entry(3), c.entry(2), -errno_nospc);
}

// Reads of a COW device go to two files; a commit writes a bitmap that ends
// anywhere: the next entry begins at a multiple of eight.
UBD_CASE(a_commit)
{
	Recorded r({ .cow_sectors = 100 });
	World &w = *r;
	REQUIRE(!obey(w, "on 65536"));
	CHECK((w.send_new(UBD_OP_WRITE, 3, 512).ok()));
	CHECK((w.send_new(UBD_OP_READ, 2, 1024).ok()));
	CHECK((w.send_new(UBD_OP_FLUSH, ~0ull, 0).ok()));
	REQUIRE(!obey(w, "mark 5"));
	REQUIRE(!obey(w, "off"));
	const Copy c(w);
	REQUIRE(c.head().entries == 13);
	is_handed(c.entry(0), HostOp::write, cow_data_at + 3 * 512, 512, 512);
	is_handed(c.entry(2), HostOp::read, 2 * 512, 512, 0);
	CHECK_EQ(c.entry(2).file, 1);
	is_handed(c.entry(3), HostOp::read, cow_data_at + 3 * 512, 512, 0);
	CHECK_EQ(c.entry(3).file, 0);
	CHECK_EQ(c.entry(4).file, 1);
	is_handed(c.entry(6), HostOp::sync, 0, 0, 0);
	is_completed(c.entry(7), c.entry(6), 0);
	is_handed(c.entry(8), HostOp::write, cow_bitmap_at, 13, 13);
	CHECK_EQ(c.entry(8).bytes(), sizeof(RecordEntry) + 16);
	CHECK_EQ(c.data(8)[0], 1 << 3);
	is_completed(c.entry(9), c.entry(8), 13);
	is_handed(c.entry(10), HostOp::sync, 0, 0, 0);
	is_completed(c.entry(11), c.entry(10), 0);
	CHECK_EQ(c.entry(12).number, 5);
}

} // namespace

const ubd_test_case ubd_suite_record[] = {
	UBD_ENTRY(commands),
	UBD_ENTRY(commands_that_are_none),
	UBD_ENTRY(one_file_by_two_descriptors),
	UBD_ENTRY(nothing),
	UBD_ENTRY(all_kinds),
	UBD_ENTRY(in_the_order_of_what_happened),
	UBD_ENTRY(begins_when_the_host_rests),
	UBD_ENTRY(full),
	UBD_ENTRY(full_by_a_byte),
	UBD_ENTRY(full_stays_full),
	UBD_ENTRY(with_faults),
	UBD_ENTRY(errors_and_continuations),
	UBD_ENTRY(a_commit),
	{ nullptr, nullptr },
};
