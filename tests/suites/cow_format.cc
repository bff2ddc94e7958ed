// SPDX-License-Identifier: GPL-2.0-only
/*
 * Headers of COW files: all four layouts byte by byte, and what only looks like
 * one.
 */
#include "../../drivers/ubd/core/cow_format.hh"
#include "fake.hh"

using namespace ubd;
using namespace ubd::test;

namespace
{

constexpr u64 mib = 1 << 20;

void put32(u8 *at, u32 v)
{
	for (u32 i = 0; i < 4; i++)
		at[i] = static_cast<u8>(v >> (24 - 8 * i));
}

void put64(u8 *at, u64 v)
{
	put32(at, static_cast<u32>(v >> 32));
	put32(at + 4, static_cast<u32>(v));
}

void little32(u8 *at, u32 v)
{
	for (u32 i = 0; i < 4; i++)
		at[i] = static_cast<u8>(v >> 8 * i);
}

void put_name(u8 *at, const char *name)
{
	__builtin_memcpy(at, name, __builtin_strlen(name));
}

// A file's beginning, and what is read from it. Too large for a stack.
struct Header {
	u8 bytes[UBD_COW_HEADER_MAX];
	u8 again[UBD_COW_HEADER_MAX];
	CowHeader h;
	const char *why;
	size_t n;
};

class Case {
public:
	Case() : c_(new (Place{ ubd_test_alloc(sizeof(Header)) }) Header{}) {}
	~Case() { ubd_test_free(c_); }
	Case(const Case &) = delete;
	Case &operator=(const Case &) = delete;
	Header *operator->() { return c_; }

	CowRead read() { return read_cow_header(c_->bytes, c_->n, c_->h, c_->why); }
	bool is_bad(const char *why) { return read() == CowRead::bad && contains(c_->why, why); }
	// What was read is written as it was.
	bool same_again()
	{
		return write_cow_header(c_->h, c_->again, sizeof(c_->again)) == c_->n &&
		       !__builtin_memcmp(c_->bytes, c_->again, c_->n);
	}

	// The version by its layout, all of it right. 4 is the padded 3.
	void make(u32 version, u64 bytes = 64 * mib)
	{
		u8 *b = c_->bytes;
		__builtin_memset(b, 0, sizeof(c_->bytes));
		put32(b, 0x4f4f4f4d);
		put32(b + 4, min(version, 3u));
		switch (version) {
		case 1:
			little32(b, 0x4f4f4f4d);
			little32(b + 4, 1);
			put_name(b + 8, "/old/base");
			little32(b + 264, 1000000);
			little32(b + 268, static_cast<u32>(bytes));
			little32(b + 272, static_cast<u32>(bytes >> 32));
			little32(b + 276, 512);
			c_->n = 280;
			break;
		case 2:
			put_name(b + 8, "/old/base");
			put32(b + 4104, 1000000);
			put64(b + 4108, bytes);
			put32(b + 4116, 512);
			c_->n = 4120;
			break;
		case 3:
			put32(b + 8, 1000000);
			put64(b + 12, bytes);
			put32(b + 20, 512);
			put32(b + 24, 4096);
			put_name(b + 32, "/old/base");
			c_->n = 4128;
			break;
		default:
			put32(b + 8, 1000000);
			put64(b + 16, bytes);
			put32(b + 24, 512);
			put32(b + 28, 4096);
			put_name(b + 36, "/old/base");
			c_->n = 4136;
		}
	}

private:
	Header *c_;
};

UBD_CASE(all_versions)
{
	static constexpr struct {
		u32 version;
		CowVersion as;
		u64 bitmap, data;
	} table[] = {
		{ 1, CowVersion::v1, 280, 16896 },
		{ 2, CowVersion::v2, 4120, 20992 },
		{ 3, CowVersion::v3, 8192, 8192 + 16384 },
		{ 4, CowVersion::v3_padded, 8192, 8192 + 16384 },
	};
	for (auto &t : table) {
		Case c;
		c.make(t.version);
		REQUIRE(c.read() == CowRead::ok);
		CHECK(c->h.version == t.as);
		CHECK_EQ(c->h.bytes, 64 * mib);
		CHECK_EQ(c->h.sectors(), 131072);
		CHECK_EQ(c->h.mtime, 1000000);
		CHECK_EQ(c->h.alignment, t.version < 3 ? 512 : 4096);
		CHECK_EQ(c->h.bitmap_offset, t.bitmap);
		CHECK_EQ(c->h.bitmap_bytes, 16384);
		CHECK_EQ(c->h.data_offset, t.data);
		CHECK_EQ(c->h.file_bytes(), t.data + 64 * mib);
		CHECK(contains(c->h.backing, "/old/base") && c->h.backing[9] == 0);
		CHECK(c.same_again());
		// Longer files are no other; shorter ones are cut.
		const size_t whole = c->n;
		c->n = UBD_COW_HEADER_MAX;
		CHECK(c.read() == CowRead::ok);
		for (size_t n = 0; n < whole; n += n < 64 ? 1 : 131) {
			c->n = n;
			CHECK(n < 8 ? c.read() == CowRead::plain : c.is_bad("cut short"));
		}
	}
}

UBD_CASE(both_byte_orders)
{
	// The kernel's driver takes the version in the magic's order.
	Case c;
	c.make(1);
	put32(c->bytes, 0x4f4f4f4d);
	put32(c->bytes + 4, 1);
	CHECK(c.read() == CowRead::ok && c->h.version == CowVersion::v1 && c->h.bytes == 64 * mib);
	c.make(3);
	little32(c->bytes, 0x4f4f4f4d);
	little32(c->bytes + 4, 3);
	CHECK(c.read() == CowRead::ok && c->h.version == CowVersion::v3 && c->h.bytes == 64 * mib);
}

UBD_CASE(no_cow_file)
{
	Case c;
	c->n = sizeof(c->bytes);
	CHECK(c.read() == CowRead::plain);
	c.make(3);
	c->bytes[0]++;
	CHECK(c.read() == CowRead::plain);
}

UBD_CASE(bad_fields)
{
	Case c;
	for (u32 v : each(0u, 4u, 0x30000000u)) {
		c.make(3);
		put32(c->bytes + 4, v);
		CHECK(c.is_bad("version"));
	}
	for (u64 bytes : each(0ull, 511ull, 513ull, (64ull << 40) + 512, ~0ull, 1ull << 63)) {
		for (u32 version : each(1u, 2u, 3u, 4u)) {
			c.make(version, bytes);
			CHECK(c.is_bad("device"));
		}
	}
	for (u32 size : each(0u, 1024u, 4096u, 0xffffffffu)) {
		c.make(3);
		put32(c->bytes + 20, size);
		CHECK(c.is_bad("sectors"));
	}
	for (u32 alignment : each(0u, 1u, 511u, 513u, 0x80000000u, (1u << 20) + 512)) {
		c.make(3);
		put32(c->bytes + 24, alignment);
		CHECK(c.is_bad("alignment"));
	}
	for (u32 version : each(3u, 4u)) {
		c.make(version);
		put32(c->bytes + (version == 3 ? 28 : 32), 1);
		// Of a padded one that is how it is known.
		CHECK(version == 3 ? c.is_bad("no bitmap") : c.read() == CowRead::bad);
	}
}

UBD_CASE(names)
{
	Case c;
	for (u32 version : each(1u, 2u, 3u, 4u)) {
		const u32 at = version < 3 ? 8 : version == 3 ? 32 : 36, room = version == 1 ? 256 : 4096;
		c.make(version);
		__builtin_memset(c->bytes + at, 'a', room - 1);
		CHECK(c.read() == CowRead::ok && c->h.backing[room - 2] == 'a' && !c->h.backing[room - 1]);
		c->bytes[at + room - 1] = 'a';
		CHECK(c.is_bad("name"));
		c.make(version);
		c->bytes[at] = 0;
		// Four bytes of zero make a version 3 a padded one.
		if (version != 3)
			CHECK(c.is_bad("name"));
		// Whatever lies behind the name.
		c.make(version);
		__builtin_memset(c->bytes + at + 10, 0x5a, room - 10);
		CHECK(c.read() == CowRead::ok && c->h.backing[8] == 'e' && !c->h.backing[10]);
		CHECK(!c->h.backing[room - 1]);
	}
	c.make(3);
	put32(c->bytes + 32, 0);
	CHECK(c.read() == CowRead::bad);
}

// A mark in the last bytes of the name's field, of that name alone.
UBD_CASE(merging)
{
	Case c;
	for (u32 version : each(1u, 2u, 3u, 4u)) {
		const u32 at = version < 3 ? 8 : version == 3 ? 32 : 36, room = version == 1 ? 256 : 4096;
		c.make(version);
		CHECK(c.read() == CowRead::ok && !c->h.merging && can_mark_merging(c->h));
		c->h.merging = true;
		write_cow_header(c->h, c->again, sizeof(c->again));
		u32 differ = 0;
		for (u32 i = 0; i < c->n; i++) {
			const bool in_mark = i >= at + room - 13 && i < at + room - 1;
			CHECK(in_mark || c->again[i] == c->bytes[i]);
			differ += c->again[i] != c->bytes[i];
		}
		CHECK(differ >= 8 && differ <= 12);
		__builtin_memcpy(c->bytes, c->again, c->n);
		CHECK(c.read() == CowRead::ok && c->h.merging && c.same_again());
		CHECK(!c->h.backing[9] && !c->h.backing[room - 5]);
		// It goes with the header's next writing, or with the name.
		c->h.merging = false;
		write_cow_header(c->h, c->again, sizeof(c->again));
		CHECK(!c->again[at + room - 2] && !c->again[at + room - 13]);
		c->bytes[at + 1]++;
		CHECK(c.read() == CowRead::ok && !c->h.merging);
		// The longest name that leaves room, and the next.
		for (u32 length : each(room - 14, room - 13)) {
			c.make(version);
			__builtin_memset(c->bytes + at, 'a', length);
			CHECK(c.read() == CowRead::ok && can_mark_merging(c->h) == (length == room - 14));
			c->h.merging = true;
			write_cow_header(c->h, c->again, sizeof(c->again));
			__builtin_memcpy(c->bytes, c->again, c->n);
			CHECK(c.read() == CowRead::ok && c->h.merging == (length == room - 14));
			CHECK(c->h.backing[length - 1] == 'a' && !c->h.backing[length]);
		}
	}
}

// Of the last sectors' bits old versions forgot the byte.
UBD_CASE(short_bitmaps)
{
	Case c;
	for (u32 version : each(1u, 2u)) {
		const u64 header = version == 1 ? 280 : 4120;
		u32 good = 0, bad = 0;
		for (u64 sectors = 1; sectors < 20000; sectors++) {
			c.make(version, sectors * 512);
			const u64 counted = sectors / 8, needed = (sectors + 7) / 8;
			const u64 data = (header + counted + 511) / 512 * 512;
			if (header + needed > data) {
				CHECK(c.is_bad("no room for the last sectors"));
				bad++;
				continue;
			}
			REQUIRE(c.read() == CowRead::ok);
			REQUIRE(c->h.bitmap_bytes == needed && c->h.data_offset == data);
			good++;
		}
		CHECK(good > 10 * bad && bad > 0);
	}
	for (u64 sectors : each(1ull, 7ull, 8ull, 9ull, 32767ull, 32768ull, 32769ull, 64ull << 31)) {
		c.make(3, sectors * 512);
		REQUIRE(c.read() == CowRead::ok);
		CHECK_EQ(c->h.bitmap_bytes, (sectors + 7) / 8);
		CHECK_EQ(c->h.data_offset % 4096, 0);
		CHECK(c->h.data_offset >= 8192 + c->h.bitmap_bytes &&
		      c->h.data_offset < 8192 + 4096 + c->h.bitmap_bytes);
	}
}

UBD_CASE(new_files)
{
	Case c;
	CowHeader &h = c->h;
	h.bytes = 10 * mib;
	h.mtime = 0x123456789; // 32 bits are kept
	h.alignment = 4096;
	CHECK(place_cow(h, c->why) && contains(c->why, "name"));
	__builtin_memset(h.backing, 'a', sizeof(h.backing));
	CHECK(place_cow(h, c->why) && contains(c->why, "name"));
	__builtin_memset(h.backing, 0, sizeof(h.backing));
	put_name(reinterpret_cast<u8 *>(h.backing), "/b");
	CHECK(!place_cow(h, c->why));
	CHECK_EQ(h.bitmap_offset, 8192);
	CHECK_EQ(h.data_offset, 12288);
	c->n = write_cow_header(h, c->bytes, sizeof(c->bytes));
	CHECK_EQ(c->n, UBD_COW_HEADER_V3_BYTES);
	CHECK(c.read() == CowRead::ok && c.same_again());
	CHECK_EQ(h.mtime, 0x23456789);
	h.bytes = 100;
	CHECK(place_cow(h, c->why) && contains(c->why, "multiple"));
	h.bytes = mib;
	h.alignment = 100;
	CHECK(place_cow(h, c->why) && contains(c->why, "alignment"));
}

} // namespace

const ubd_test_case ubd_suite_cow_format[] = {
	UBD_ENTRY(all_versions), UBD_ENTRY(both_byte_orders), UBD_ENTRY(no_cow_file),   UBD_ENTRY(bad_fields),
	UBD_ENTRY(names),        UBD_ENTRY(merging),          UBD_ENTRY(short_bitmaps), UBD_ENTRY(new_files),
	{ nullptr, nullptr },
};
