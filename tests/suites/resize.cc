// SPDX-License-Identifier: GPL-2.0-only
/*
 * Disks that grow: what is refused, where a COW file's parts lie afterwards, its
 * bitmap in other memory, and the queue that stands meanwhile.
 */
#include "../../drivers/ubd/core/resize.hh"
#include "../../drivers/ubd/core/cow_format.hh"
#include "fake.hh"

using namespace ubd;
using namespace ubd::test;

namespace
{

constexpr u64 mib = 1 << 20;
constexpr u64 per_block = CowBitmap::block_sectors;

ResizeFacts facts(u64 now, u64 wanted, bool cow = false)
{
	ResizeFacts f;
	f.now = now;
	f.wanted = wanted;
	f.cow = cow;
	return f;
}

bool is_refused(const ResizeFacts &f, int number, const char *reason)
{
	const ResizeVerdict v = judge_resize(f);
	return v.what == Resize::refused && v.number == number && contains(v.reason, reason) && v.remedy[0];
}

UBD_CASE(what_is_refused)
{
	for (bool cow : each(false, true)) {
		CHECK(judge_resize(facts(mib, mib, cow)).what == Resize::same);
		CHECK(judge_resize(facts(mib, mib + 512, cow)).what == Resize::grow);
		CHECK(is_refused(facts(mib, mib - 512, cow), errno_busy, "does not shrink"));
		CHECK(is_refused(facts(mib, 0, cow), errno_busy, "does not shrink"));
		CHECK(is_refused(facts(mib, mib + 511, cow), errno_inval, "no multiple"));
		ResizeFacts f = facts(mib, mib + 512, cow);
		f.block = 4096;
		CHECK(is_refused(f, errno_inval, "no multiple"));
		f.wanted = mib + 4096;
		CHECK(judge_resize(f).what == Resize::grow);
	}
}

// Of a raw disk none of that matters; and without another size nothing does.
UBD_CASE(what_is_refused_of_a_cow_file)
{
	static constexpr struct {
		bool ResizeFacts::*what;
		int number;
		const char *reason;
	} table[] = {
		{ &ResizeFacts::snapshot, errno_opnotsupp, "temporary" },
		{ &ResizeFacts::read_only, errno_rofs, "not to be written" },
		{ &ResizeFacts::shared, errno_busy, "c flag" },
		{ &ResizeFacts::poisoned, errno_io, "durable" },
		{ &ResizeFacts::stopped, errno_busy, "for want of space" },
	};
	for (auto &t : table) {
		ResizeFacts f = facts(mib, 2 * mib, true);
		f.*t.what = true;
		CHECK(is_refused(f, t.number, t.reason));
		f.cow = false;
		CHECK(judge_resize(f).what == Resize::grow);
		f.cow = true;
		f.wanted = f.now;
		CHECK(judge_resize(f).what == Resize::same);
	}
}

// Too large for a stack.
class Header {
public:
	explicit Header(u64 bytes, u32 alignment = UBD_COW_ALIGNMENT)
		: h_(new (Place{ ubd_test_alloc(sizeof(CowHeader)) }) CowHeader)
	{
		const char *why = "";
		h_->bytes = bytes;
		h_->mtime = 1000;
		h_->alignment = alignment;
		__builtin_memcpy(h_->backing, "/base", 6);
		CHECK(!place_cow(*h_, why));
	}
	~Header() { ubd_test_free(h_); }
	Header(const Header &) = delete;
	Header &operator=(const Header &) = delete;
	CowHeader *operator->() { return h_; }
	CowHeader &operator*() { return *h_; }

private:
	CowHeader *h_;
};

UBD_CASE(growth_in_place)
{
	// A block of 4096 bytes of the bitmap is for 16 MiB.
	static constexpr struct {
		u64 from, to;
		CowGrowth how;
		u64 data;
	} table[] = {
		{ 1 * mib, 16 * mib, CowGrowth::in_place, 8192 + 4096 },
		{ 15 * mib + 512, 16 * mib, CowGrowth::in_place, 8192 + 4096 },
		{ 16 * mib, 16 * mib + 512, CowGrowth::moved, 8192 + 8192 },
		{ 1 * mib, 16 * mib + 512, CowGrowth::moved, 8192 + 8192 },
		{ 1 * mib, 1024 * mib, CowGrowth::moved, 8192 + 64 * 4096 },
		{ 512, UBD_COW_SIZE_MAX, CowGrowth::moved, 8192 + (UBD_COW_SIZE_MAX >> 12) },
	};
	for (auto &t : table) {
		Header h(t.from);
		const char *why = "";
		CHECK(grow_cow(*h, t.to, 2000, why) == t.how);
		CHECK_EQ(h->bytes, t.to);
		CHECK_EQ(h->mtime, 2000);
		CHECK_EQ(h->bitmap_offset, 8192);
		CHECK_EQ(h->bitmap_bytes, t.to / 4096 + !!(t.to % 4096));
		CHECK_EQ(h->data_offset, t.data);
		CHECK(h->version == CowVersion::v3 && h->alignment == 4096 && contains(h->backing, "/base"));
	}
}

UBD_CASE(growth_of_other_alignments)
{
	const char *why = "";
	// Data of a file that moves begin where O_DIRECT can have them.
	Header small(mib, 512);
	CHECK_EQ(small->data_offset, 4608 + 512);
	CHECK(grow_cow(*small, 2 * mib, 1, why) == CowGrowth::in_place);
	CHECK_EQ(small->alignment, 512);
	CHECK(grow_cow(*small, 4 * mib, 1, why) == CowGrowth::moved);
	CHECK_EQ(small->alignment, 4096);
	CHECK_EQ(small->data_offset, 8192 + 4096);
	Header large(mib, 64 << 10);
	CHECK(grow_cow(*large, 256 * mib, 1, why) == CowGrowth::in_place);
	CHECK_EQ(large->data_offset, 128 << 10);
	CHECK(grow_cow(*large, 256 * mib + 512, 1, why) == CowGrowth::moved);
	CHECK_EQ(large->alignment, 64 << 10);
	CHECK_EQ(large->data_offset, 192 << 10);
}

// Those keep their layout in place; one that moves is a version 3.
UBD_CASE(growth_of_old_versions)
{
	for (CowVersion v : each(CowVersion::v1, CowVersion::v2, CowVersion::v3_padded)) {
		const char *why = "";
		Header h(64 * mib, v == CowVersion::v3_padded ? 4096 : 512);
		h->version = v;
		// As they are read; see the suite cow_format.
		h->bitmap_offset = v == CowVersion::v1 ? 280 : v == CowVersion::v2 ? 4120 : 8192;
		h->data_offset = v == CowVersion::v1 ? 16896 : v == CowVersion::v2 ? 20992 : 24576;
		const u64 slack = h->data_offset - h->bitmap_offset - 16384;
		const u64 most = 64 * mib + slack * 4096;
		const u64 begin = h->data_offset;
		if (slack) {
			CHECK(grow_cow(*h, most, 1, why) == CowGrowth::in_place);
			CHECK(h->version == v && h->data_offset == begin);
		}
		CHECK(grow_cow(*h, most + 4096, 1, why) == CowGrowth::moved);
		CHECK(h->version == CowVersion::v3 && h->alignment == 4096);
		CHECK_EQ(h->bitmap_offset, 8192);
		CHECK_EQ(h->data_offset, 8192 + 5 * 4096);
	}
}

// The bitmap of an old version would end within the data.
UBD_CASE(growth_without_room)
{
	Header h(231 * 4096, 512);
	const char *why = "";
	h->version = CowVersion::v1;
	h->bitmap_offset = 280;
	h->data_offset = 512;
	CHECK(grow_cow(*h, 232 * 4096 + 512, 1, why) == CowGrowth::moved);
	CHECK(h->version == CowVersion::v3 && h->data_offset == 8192 + 4096);
}

UBD_CASE(growth_that_is_no_file)
{
	static constexpr u64 table[] = { 2 * mib + 1, UBD_COW_SIZE_MAX + 512 };
	for (u64 bytes : table) {
		Header h(mib);
		const char *why = "";
		CHECK(grow_cow(*h, bytes, 1, why) == CowGrowth::refused && why[0]);
	}
	// And a name that a longer header could not be made with.
	Header h(mib);
	const char *why = "";
	h->backing[0] = 0;
	CHECK(grow_cow(*h, 64 * mib, 1, why) == CowGrowth::refused && contains(why, "no name"));
}

// What growth in place changes of a header is in that part, which no sector's border
// divides.
UBD_CASE(one_sector_of_the_header)
{
	auto *old = static_cast<u8 *>(ubd_test_alloc(2 * UBD_COW_HEADER_MAX));
	u8 *grown = old + UBD_COW_HEADER_MAX;
	for (CowVersion v : each(CowVersion::v1, CowVersion::v2, CowVersion::v3, CowVersion::v3_padded)) {
		const CowHeaderPart p = size_in_header(v);
		CHECK(p.bytes >= 12 && p.offset / 512 == (p.offset + p.bytes - 1) / 512);
		Header h(mib);
		h->version = v;
		const size_t n = write_cow_header(*h, old, UBD_COW_HEADER_MAX);
		h->mtime = ~0u;
		h->bytes = ~0ull;
		CHECK_EQ(write_cow_header(*h, grown, UBD_COW_HEADER_MAX), n);
		bool inside = false;
		for (u32 i = 0; i < n; i++) {
			const bool in_part = i >= p.offset && i < p.offset + p.bytes;
			CHECK(in_part || old[i] == grown[i]);
			inside |= in_part && old[i] != grown[i];
		}
		CHECK(inside);
	}
	ubd_test_free(old);
}

class Bitmap {
public:
	explicit Bitmap(u64 sectors) : memory_(make(sectors)) { map.attach(parts(sectors), sectors); }
	~Bitmap()
	{
		ubd_test_free(memory_);
		ubd_test_free(old_);
	}
	Bitmap(const Bitmap &) = delete;
	Bitmap &operator=(const Bitmap &) = delete;

	void move_to(u64 sectors)
	{
		ubd_test_free(old_);
		old_ = memory_;
		memory_ = make(sectors);
		map.move_to(parts(sectors), sectors);
		// Of no use any more.
		__builtin_memset(old_, 0xff, CowBitmap::block_bytes);
	}
	void commit()
	{
		map.seal();
		map.end_committed();
	}

	CowBitmap map;

private:
	static u64 *make(u64 sectors)
	{
		return static_cast<u64 *>(ubd_test_alloc(
			(2 * CowBitmap::words_for(sectors) + 4 * CowBitmap::block_words_for(sectors)) * 8));
	}
	CowBitmap::Memory parts(u64 sectors) const
	{
		const u64 words = CowBitmap::words_for(sectors), blocks = CowBitmap::block_words_for(sectors);
		CowBitmap::Memory m;
		m.live = memory_;
		m.next = m.live + words;
		m.touched = m.next + words;
		m.dirty = m.touched + blocks;
		m.sealed = m.dirty + blocks;
		m.next_touched = m.sealed + blocks;
		return m;
	}

	u64 *memory_;
	u64 *old_ = nullptr;
};

UBD_CASE(bits_in_other_memory)
{
	const u64 sectors = 5 * per_block + 77;
	Bitmap b(sectors);
	b.map.set(3, 10);
	b.map.set(2 * per_block - 1, 2);
	b.map.set(sectors - 1, 1);
	b.commit();
	for (u64 more : each(sectors, sectors + 1, 9 * per_block)) {
		b.move_to(more);
		CHECK_EQ(b.map.sectors(), more);
		CHECK(!b.map.dirty() && !b.map.sealed());
		u64 set = 0;
		for (u64 s = 0; s < more; s++)
			set += b.map.test(s);
		CHECK_EQ(set, 13);
		CHECK(b.map.test(3) && b.map.test(12) && b.map.test(2 * per_block - 1) && b.map.test(2 * per_block));
		CHECK(b.map.test(sectors - 1));
	}
	// And goes on there.
	b.map.set(9 * per_block - 1, 1);
	CHECK(b.map.dirty() && b.map.next_unsaved(0) == 8);
	b.map.seal();
	CHECK_EQ(b.map.next_sealed(0), 8);
	b.map.end_committed();
	CHECK(b.map.test(9 * per_block - 1) && b.map.test(3));
}

UBD_CASE(stretches)
{
	Bitmap b(3 * per_block);
	u64 first = 0;
	CHECK_EQ(b.map.next_stretch(first, 1), 0);
	b.map.set(10, 10);
	b.map.set(27, 3); // 7 between
	b.map.set(2 * per_block, per_block);
	struct {
		u64 gap, at[3], n[3];
	} const table[] = {
		{ 1, { 10, 27, 2 * per_block }, { 10, 3, per_block } },
		{ 7, { 10, 27, 2 * per_block }, { 10, 3, per_block } },
		{ 8, { 10, 2 * per_block, 3 * per_block }, { 20, per_block, 0 } },
		{ 3 * per_block, { 10, 3 * per_block, 3 * per_block }, { 3 * per_block - 10, 0, 0 } },
	};
	for (auto &t : table) {
		first = 0;
		for (u32 i = 0; i < 3; i++) {
			CHECK_EQ(b.map.next_stretch(first, t.gap), t.n[i]);
			CHECK_EQ(first, t.at[i]);
			first += t.n[i];
		}
	}
	first = 15;
	CHECK_EQ(b.map.next_stretch(first, 1), 5);
	CHECK_EQ(first, 15);
	// A gap that goes on to the end belongs to nothing.
	Bitmap c(per_block);
	c.map.set(5, 1);
	first = 0;
	CHECK_EQ(c.map.next_stretch(first, per_block), 1);
	first += 1;
	CHECK_EQ(c.map.next_stretch(first, per_block), 0);
	CHECK_EQ(first, per_block);
	CHECK_EQ(c.map.next_stretch(first, per_block), 0);
}

// While it stands no commit begins, and nobody complains of a file that is about to
// be another one. Then all is as before.
UBD_CASE(a_queue_stands)
{
	WorldConfig c;
	c.cow_sectors = 512;
	c.commit_ms = 1000;
	Fixture f(c);
	World &w = *f;
	CHECK(w.send_new(UBD_OP_WRITE, 0, 4096).ok());
	CHECK(w.queue.drained());
	w.engine.removed = true;
	CHECK(w.expire());
	CHECK_EQ(log_lines(), 0);
	CHECK_EQ(w.stats().commits, 0);
	CHECK_EQ(w.stats().dirty_sectors, 8);
	w.engine.removed = false;
	w.queue.resume();
	CHECK(w.expire());
	CHECK(w.settle());
	CHECK_EQ(w.stats().commits, 1);
	CHECK_EQ(w.stats().dirty_sectors, 0);
	w.engine.removed = true;
	CHECK(w.send_new(UBD_OP_READ, 0, 4096).ok());
	CHECK(w.expire());
	CHECK(log_has("was removed"));
}

// What landed is made durable while the guest goes on, so that little is left for when
// it stands: bits, and what has no new ones.
UBD_CASE(a_queue_commits_before_it_stands)
{
	WorldConfig c;
	c.cow_sectors = 512;
	c.commit_ms = 0;
	Fixture f(c);
	World &w = *f;
	CHECK(w.send_new(UBD_OP_WRITE, 0, 4096).ok());
	for (u32 commits : each(1u, 1u)) {
		const u64 syncs = w.engine.ops[static_cast<u8>(HostOp::sync)];
		w.engine.hold = true;
		ubd_queue_begin_commit(reinterpret_cast<ubd_queue *>(&w.queue)); // as kernel/ does it
		CHECK(!w.queue.drained());
		while (w.engine.with_host()) {
			w.engine.complete(0);
			w.interrupt();
		}
		CHECK(w.queue.drained());
		CHECK_EQ(w.stats().dirty_sectors, 0);
		CHECK_EQ(w.stats().commits, commits);
		CHECK(w.engine.ops[static_cast<u8>(HostOp::sync)] > syncs);
		w.queue.resume();
		w.engine.hold = false;
		CHECK(w.send_new(UBD_OP_WRITE, 0, 4096).ok());
	}
	w.queue.lose_durability(errno_io);
	w.queue.begin_commit();
	CHECK(w.queue.drained());
}

// The guest reboots while a commit is waited for: what landed after its seal is
// committed, too, since who waits does not come to it any more.
UBD_CASE(a_queue_stands_when_the_guest_ends)
{
	WorldConfig c;
	c.cow_sectors = 512;
	c.commit_ms = 1000;
	Fixture f(c);
	World &w = *f;
	CHECK(w.send_new(UBD_OP_WRITE, 0, 4096).ok());
	w.engine.hold = true;
	CHECK(w.expire());
	CHECK_EQ(w.stats().committing, 1);
	FakeRequest &late = w.send_new(UBD_OP_WRITE, 100, 512);
	CHECK(!w.queue.drained());
	w.queue.go_synchronous();
	CHECK(late.ok());
	CHECK_EQ(w.stats().commits, 2);
	CHECK_EQ(w.stats().dirty_sectors, 0);
	CHECK(w.queue.drained());
}

// An fdatasync that the engine did not make says as much as one that it did.
UBD_CASE(durability_lost_elsewhere)
{
	WorldConfig c;
	c.cow_sectors = 512;
	Fixture f(c);
	World &w = *f;
	CHECK(w.send_new(UBD_OP_WRITE, 0, 4096).ok());
	w.queue.lose_durability(errno_io);
	w.queue.lose_durability(errno_io);
	CHECK_EQ(log_lines(), 1);
	CHECK(w.cow.poisoned && log_has("failed to make data durable"));
	CHECK_EQ(w.send_new(UBD_OP_WRITE, 8, 4096).status(), UBD_STATUS_IOERR);
	CHECK_EQ(w.send_new(UBD_OP_FLUSH, ~0ull, 0).status(), UBD_STATUS_IOERR);
	CHECK(w.send_new(UBD_OP_READ, 0, 4096).ok());
}

} // namespace

const ubd_test_case ubd_suite_resize[] = {
	UBD_ENTRY(what_is_refused),
	UBD_ENTRY(what_is_refused_of_a_cow_file),
	UBD_ENTRY(growth_in_place),
	UBD_ENTRY(growth_of_other_alignments),
	UBD_ENTRY(growth_of_old_versions),
	UBD_ENTRY(growth_without_room),
	UBD_ENTRY(growth_that_is_no_file),
	UBD_ENTRY(one_sector_of_the_header),
	UBD_ENTRY(bits_in_other_memory),
	UBD_ENTRY(stretches),
	UBD_ENTRY(a_queue_stands),
	UBD_ENTRY(a_queue_commits_before_it_stands),
	UBD_ENTRY(a_queue_stands_when_the_guest_ends),
	UBD_ENTRY(durability_lost_elsewhere),
	{ nullptr, nullptr },
};
