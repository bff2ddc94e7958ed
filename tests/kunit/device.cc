// SPDX-License-Identifier: GPL-2.0-only
/*
 * A real disk of ubd.ko's on a real file of the host, and bios to it: what the
 * guest writes is on the host, what it reads is what was written, and flush,
 * FUA, discard and zeroes do on the host what their names say.
 */
#include "../suites/check.hh"
#include "../suites/fake.hh"
#include "disk.h"

using namespace ubd;
using namespace ubd::test;

namespace
{

constexpr u64 disk_bytes = 16 << 20;
constexpr u64 buffer_bytes = 1 << 20;
constexpr u32 first_number = 900; // of a disk

// A file on the host, a disk on it, a buffer to write from and one to read to.
struct Disk {
	char path[200];
	char spec[240];
	test_disk *t = nullptr;
	u8 *out, *in;
	int err = 0;

	explicit Disk(const char *flags = "", u64 bytes = disk_bytes, u32 number = first_number)
	{
		ubd_k_snprintf(path, sizeof(path), "%s/ubd-kunit-%d-%u", test_dir(), host_pid(), number);
		ubd_k_snprintf(spec, sizeof(spec), "ubd%u%s=%s", number, flags, path);
		out = static_cast<u8 *>(test_pages_alloc(buffer_bytes));
		in = static_cast<u8 *>(test_pages_alloc(buffer_bytes));
		if (!out || !in)
			ubd_test_stop("no memory for buffers");
		err = host_create(path, bytes);
		if (!err)
			t = test_disk_open(spec, &err);
		if (!t)
			failed_here(__FILE__, __LINE__, "%s: error %d", spec, err);
	}
	~Disk()
	{
		test_disk_close(t);
		host_unlink(path);
		test_pages_free(out, buffer_bytes);
		test_pages_free(in, buffer_bytes);
	}
	Disk(const Disk &) = delete;
	Disk &operator=(const Disk &) = delete;

	void pattern(u32 seed, u64 bytes)
	{
		for (u64 i = 0; i < bytes; i++)
			out[i] = static_cast<u8>((i * 2654435761u + seed * 40503u) >> 9);
	}
	int io(test_op op, u64 sector, const test_vec *vec, u32 n)
	{
		int result = 0;
		int e = test_disk_submit(t, op, sector, vec, n, &result);
		if (!e)
			e = test_disk_wait(t);
		return e ? e : result;
	}
	int io(test_op op, u64 sector, u64 bytes)
	{
		test_vec v{ op == TEST_READ ? in : out, static_cast<u32>(bytes) };
		return io(op, sector, &v, 1);
	}
	// True if the host's file has what `out` has.
	bool on_host(u64 offset, u64 bytes)
	{
		__builtin_memset(in, 0xcc, bytes);
		return host_read(path, offset, in, bytes) == static_cast<long>(bytes) &&
		       !__builtin_memcmp(in, out, bytes);
	}
	ubd_stats stats()
	{
		ubd_stats s;
		test_disk_stats(t, &s);
		return s;
	}
};

// Cuts `bytes` of memory into vectors of at most `piece`, which begin `skip`
// bytes after each other's end.
u32 cut(test_vec *vec, u32 most, u8 *memory, u64 bytes, u32 piece, u32 skip)
{
	u32 n = 0;
	for (; bytes && n < most; n++) {
		u32 part = static_cast<u32>(min<u64>(bytes, piece));
		vec[n] = { memory, part };
		memory += part + skip;
		bytes -= part;
	}
	return n;
}

bool zero(const u8 *p, u64 bytes)
{
	for (u64 i = 0; i < bytes; i++)
		if (p[i])
			return false;
	return true;
}

UBD_CASE(sizes_and_places)
{
	Disk d;
	REQUIRE(d.t);
	CHECK_EQ(test_disk_sectors(d.t), disk_bytes / 512);
	CHECK(!test_disk_read_only(d.t) && test_disk_write_cache(d.t));
	u32 seed = 0;
	for (u64 bytes : each(512ull, 1024ull, 3584ull, 4096ull, 4608ull, 65536ull, 131072ull + 512, 1048576ull))
		for (u64 sector : each(0ull, 1ull, 7ull, 8ull, 2047ull, disk_bytes / 512 - 2048)) {
			d.pattern(++seed, bytes);
			CHECK_EQ(d.io(TEST_WRITE, sector, bytes), 0);
			CHECK(d.on_host(sector * 512, bytes));
			__builtin_memset(d.in, 0xcc, bytes);
			CHECK_EQ(d.io(TEST_READ, sector, bytes), 0);
			CHECK(!__builtin_memcmp(d.in, d.out, bytes));
		}
}

// Vectors that begin anywhere in a page, cross pages, are many, are short: as the disk's
// dma_alignment has it, which bios are held to since 6.18.
UBD_CASE(vectors)
{
	Disk d;
	REQUIRE(d.t);
	auto *vec = static_cast<test_vec *>(ubd_test_alloc(256 * sizeof(test_vec)));
	struct {
		u32 piece, skip, start;
		u64 bytes;
	} table[] = {
		{ 4096, 0, 0, 65536 },
		{ 4096, 4096, 0, 65536 },
		{ 512, 0, 512, 16384 },
		{ 512, 512, 512, 65536 },
		{ 8192, 4096, 0, 131072 },
		{ 12288, 512, 512, 98304 },
		{ 20480, 1024, 3072, 40960 },
		{ 520, 8, 8, 520 * 128 },
		{ 4088, 8, 8, 512 * 1023 },
		{ 512, 3584, 0, 200 * 512 },
		{ 2048, 104, 8, 128 * 2048 },
		{ 65536, 0, 512, 524288 },
		{ 8, 8, 8, 1024 },
	};
	u32 seed = 100;
	for (auto &row : table) {
		__builtin_memset(d.out, 0, buffer_bytes);
		d.pattern(++seed, buffer_bytes);
		u32 n = cut(vec, 256, d.out + row.start, row.bytes, row.piece, row.skip);
		CHECK_EQ(d.io(TEST_WRITE, 64, vec, n), 0);
		// On the host it is in one piece.
		CHECK(host_read(d.path, 64 * 512, d.in, row.bytes) == static_cast<long>(row.bytes));
		u8 *at = d.in;
		for (u32 i = 0; i < n; at += vec[i++].bytes)
			CHECK(!__builtin_memcmp(at, vec[i].base, vec[i].bytes));
		CHECK_EQ(at - d.in, row.bytes);
		// And comes back into other vectors as it was.
		__builtin_memset(d.in, 0xcc, buffer_bytes);
		u32 m = cut(vec, 256, d.in + row.start, row.bytes, row.piece, row.skip);
		CHECK_EQ(d.io(TEST_READ, 64, vec, m), 0);
		for (u32 i = 0; i < m; i++)
			CHECK(!__builtin_memcmp(vec[i].base, d.out + (static_cast<u8 *>(vec[i].base) - d.in),
						vec[i].bytes));
		// What lies between the vectors was let alone.
		if (row.skip)
			CHECK_EQ(d.in[row.start + row.piece], 0xcc);
	}
	ubd_test_free(vec);
}

UBD_CASE(flush_reaches_the_host)
{
	Disk d;
	REQUIRE(d.t);
	ubd_stats before = d.stats();
	for (u32 i = 0; i < 5; i++) {
		CHECK_EQ(d.io(TEST_WRITE, i, 512), 0);
		CHECK_EQ(test_disk_flush(d.t), 0);
	}
	ubd_stats after = d.stats();
	CHECK_EQ(after.host_syncs - before.host_syncs, 5);
	CHECK_EQ(after.requests[UBD_OP_FLUSH] - before.requests[UBD_OP_FLUSH], 5);
	CHECK_EQ(after.host_dsync_writes, before.host_dsync_writes);
}

UBD_CASE(fua_is_one_durable_write)
{
	Disk d;
	REQUIRE(d.t);
	ubd_stats before = d.stats();
	d.pattern(5, 8192);
	CHECK_EQ(d.io(TEST_WRITE_FUA, 16, 8192), 0);
	CHECK(d.on_host(8192, 8192));
	ubd_stats after = d.stats();
	CHECK_EQ(after.host_dsync_writes - before.host_dsync_writes, 1);
	CHECK_EQ(after.host_syncs, before.host_syncs);
}

// With the flag s each write is durable, and a flush has nothing to do.
UBD_CASE(synchronous_device)
{
	Disk d("s");
	REQUIRE(d.t);
	CHECK(!test_disk_write_cache(d.t));
	CHECK_EQ(d.io(TEST_WRITE, 0, 4096), 0);
	CHECK_EQ(d.io(TEST_WRITE_FUA, 8, 4096), 0);
	CHECK_EQ(test_disk_flush(d.t), 0);
	CHECK_EQ(d.stats().host_dsync_writes, 2);
	CHECK_EQ(d.stats().host_syncs, 0);
}

UBD_CASE(discard_frees_blocks)
{
	Disk d;
	REQUIRE(d.t);
	d.pattern(6, buffer_bytes);
	for (u32 i = 0; i < 4; i++)
		CHECK_EQ(d.io(TEST_WRITE, i * 2048, buffer_bytes), 0);
	CHECK_EQ(test_disk_flush(d.t), 0);
	long full = host_blocks(d.path);
	CHECK(full >= 4 * 2048);
	CHECK_EQ(test_disk_discard(d.t, 2048, 4096), 0);
	long less = host_blocks(d.path);
	CHECK(less <= full - 4096);
	__builtin_memset(d.in, 0xcc, buffer_bytes);
	CHECK_EQ(d.io(TEST_READ, 2048, buffer_bytes), 0);
	CHECK(zero(d.in, buffer_bytes));
	CHECK(d.on_host(0, buffer_bytes));
	CHECK(d.on_host(3 * buffer_bytes, buffer_bytes));
}

UBD_CASE(no_discard_with_the_flag)
{
	Disk d("t");
	REQUIRE(d.t);
	d.pattern(13, 4096);
	CHECK_EQ(d.io(TEST_WRITE, 0, 4096), 0);
	(void)test_disk_discard(d.t, 0, 8); // the block layer swallows EOPNOTSUPP
	CHECK_EQ(d.stats().requests[UBD_OP_DISCARD], 0);
	CHECK(d.on_host(0, 4096));
}

UBD_CASE(zeroes_of_both_kinds)
{
	for (bool unmap : each(false, true)) {
		Disk d;
		REQUIRE(d.t);
		d.pattern(7, buffer_bytes);
		for (u32 i = 0; i < 3; i++)
			CHECK_EQ(d.io(TEST_WRITE, i * 2048, buffer_bytes), 0);
		CHECK_EQ(test_disk_flush(d.t), 0);
		long full = host_blocks(d.path);
		CHECK_EQ(test_disk_zero(d.t, 2048 + 3, 1024, unmap), 0);
		CHECK(d.stats().requests[UBD_OP_WRITE_ZEROES] >= 1);
		long now = host_blocks(d.path);
		if (unmap)
			CHECK(now < full);
		else
			CHECK(now >= full); // zeroed, and still there
		CHECK_EQ(d.io(TEST_READ, 2048, buffer_bytes), 0);
		CHECK(!__builtin_memcmp(d.in, d.out, 3 * 512));
		CHECK(zero(d.in + 3 * 512, 1024 * 512));
		CHECK(!__builtin_memcmp(d.in + 1027 * 512, d.out + 1027 * 512, buffer_bytes - 1027 * 512));
		CHECK_EQ(d.stats().errors, 0);
	}
}

UBD_CASE(a_file_that_shrinks)
{
	Disk d;
	REQUIRE(d.t);
	d.pattern(8, buffer_bytes);
	CHECK_EQ(d.io(TEST_WRITE, 0, buffer_bytes), 0);
	CHECK_EQ(host_truncate(d.path, 300000), 0);
	__builtin_memset(d.in, 0xcc, buffer_bytes);
	CHECK_EQ(d.io(TEST_READ, 0, buffer_bytes), 0);
	CHECK(!__builtin_memcmp(d.in, d.out, 300000));
	CHECK(zero(d.in + 300000, buffer_bytes - 300000));
	CHECK(d.stats().zeroed_reads >= 1);
	__builtin_memset(d.in, 0xcc, 4096);
	CHECK_EQ(d.io(TEST_READ, 20000, 4096), 0);
	CHECK(zero(d.in, 4096));
	// A write makes it grow again.
	CHECK_EQ(d.io(TEST_WRITE, 20000, 4096), 0);
	CHECK(d.on_host(20000 * 512, 4096));
}

// More bios than tags, reads and writes mixed, each answered once.
UBD_CASE(many_in_flight)
{
	constexpr u32 n = 400;
	Disk d;
	REQUIRE(d.t);
	auto *result = static_cast<int *>(ubd_test_alloc(n * sizeof(int)));
	d.pattern(9, buffer_bytes);
	for (u32 round = 0; round < 4; round++) {
		__builtin_memset(d.in, 0xcc, buffer_bytes);
		bool write = !(round & 1);
		for (u32 i = 0; i < n; i++) {
			// Scattered, so that they do not merge.
			u32 slot = (i * 7) % n;
			test_vec v{ (write ? d.out : d.in) + slot * 2048, 2048 };
			REQUIRE(!test_disk_submit(d.t, write ? TEST_WRITE : TEST_READ, slot * 16, &v, 1, &result[i]));
		}
		CHECK_EQ(test_disk_wait(d.t), 0);
		u32 bad = 0;
		for (u32 i = 0; i < n; i++)
			bad += result[i] != 0;
		CHECK_EQ(bad, 0);
		if (!write)
			CHECK(!__builtin_memcmp(d.in, d.out, n * 2048));
	}
	ubd_stats s = d.stats();
	CHECK_EQ(s.in_flight, 0);
	CHECK_EQ(s.queued, 0);
	CHECK_EQ(s.errors, 0);
	CHECK_EQ(s.completion_overflows, 0);
	CHECK(s.max_in_flight >= 1 && s.max_in_flight <= 1024);
	ubd_test_free(result);
}

UBD_CASE(two_disks_at_once)
{
	Disk a, b("", disk_bytes, first_number + 1);
	REQUIRE(a.t && b.t);
	a.pattern(10, buffer_bytes);
	b.pattern(11, buffer_bytes);
	int ra[64], rb[64];
	for (u32 i = 0; i < 64; i++) {
		test_vec va{ a.out + i * 8192, 8192 }, vb{ b.out + i * 8192, 8192 };
		REQUIRE(!test_disk_submit(a.t, TEST_WRITE, i * 32, &va, 1, &ra[i]));
		REQUIRE(!test_disk_submit(b.t, TEST_WRITE, i * 32, &vb, 1, &rb[i]));
	}
	CHECK_EQ(test_disk_wait(a.t), 0);
	CHECK_EQ(test_disk_wait(b.t), 0);
	for (u32 i = 0; i < 64; i++)
		CHECK(!ra[i] && !rb[i]);
	for (u32 i = 0; i < 64; i++) {
		CHECK_EQ(host_read(a.path, i * 16384, a.in, 8192), 8192);
		CHECK_EQ(host_read(b.path, i * 16384, b.in, 8192), 8192);
		CHECK(!__builtin_memcmp(a.in, a.out + i * 8192, 8192));
		CHECK(!__builtin_memcmp(b.in, b.out + i * 8192, 8192));
	}
}

UBD_CASE(a_removed_file_still_works)
{
	Disk d;
	REQUIRE(d.t);
	CHECK_EQ(host_unlink(d.path), 0);
	d.pattern(12, 65536);
	CHECK_EQ(d.io(TEST_WRITE, 0, 65536), 0);
	CHECK_EQ(test_disk_flush(d.t), 0);
	CHECK_EQ(d.io(TEST_READ, 0, 65536), 0);
	CHECK(!__builtin_memcmp(d.in, d.out, 65536));
}

UBD_CASE(read_only)
{
	Disk d("r");
	REQUIRE(d.t);
	CHECK(test_disk_read_only(d.t));
	__builtin_memset(d.in, 0xcc, 4096);
	CHECK_EQ(d.io(TEST_READ, 0, 4096), 0);
	CHECK(zero(d.in, 4096));
	(void)test_disk_discard(d.t, 0, 8);
	CHECK_EQ(d.stats().requests[UBD_OP_DISCARD], 0);
}

// What cannot be opened leaves nothing behind and harms no other.
UBD_CASE(refused)
{
	Disk d;
	REQUIRE(d.t);
	int before = host_descriptors();
	char spec[300];
	int err = 0;
	struct {
		const char *format;
		u32 number;
	} table[] = {
		{ "ubd%u=%s", first_number }, // the number is taken
		{ "ubd%u=%s", first_number + 1 }, // the file is
		{ "ubd%u=%s-missing", first_number + 2 },
		{ "ubd%u=%s/below", first_number + 3 },
		{ "ubd%ux=%s", first_number + 4 },
		{ "ubd9%u=%s", first_number + 5 },
	};
	for (auto &t : table) {
		ubd_k_snprintf(spec, sizeof(spec), t.format, t.number, d.path);
		test_disk *other = test_disk_open(spec, &err);
		if (other) {
			failed_here(__FILE__, __LINE__, "%s: taken", spec);
			test_disk_close(other);
		}
		CHECK(err < 0);
	}
	CHECK_EQ(host_descriptors(), before);
	CHECK_EQ(d.io(TEST_READ, 0, 4096), 0);
}

UBD_CASE(sizes_that_are_no_disk)
{
	for (u64 bytes : each(0ull, 1ull, 511ull, 513ull, 1048577ull)) {
		char path[200], spec[240];
		int err = 0;
		ubd_k_snprintf(path, sizeof(path), "%s/ubd-kunit-%d-odd", test_dir(), host_pid());
		ubd_k_snprintf(spec, sizeof(spec), "ubd%u=%s", first_number, path);
		CHECK_EQ(host_create(path, bytes), 0);
		test_disk *t = test_disk_open(spec, &err);
		CHECK(!t);
		CHECK_EQ(err, -errno_inval);
		test_disk_close(t);
		host_unlink(path);
	}
}

UBD_CASE(come_and_go)
{
	int before = host_descriptors();
	for (u32 i = 0; i < 20; i++) {
		Disk d;
		REQUIRE(d.t);
		d.pattern(i, 4096);
		CHECK_EQ(d.io(TEST_WRITE, i, 4096), 0);
		CHECK(d.on_host(i * 512, 4096));
	}
	CHECK_EQ(host_descriptors(), before);
}

// The same file again, at once: the lock of the first must be gone.
UBD_CASE(the_lock_goes_with_the_disk)
{
	Disk d;
	REQUIRE(d.t);
	for (u32 i = 0; i < 5; i++) {
		d.pattern(i, 65536);
		CHECK_EQ(d.io(TEST_WRITE, 0, 65536), 0);
		test_disk_close(d.t);
		d.t = test_disk_open(d.spec, &d.err);
		REQUIRE(d.t);
		CHECK_EQ(d.io(TEST_READ, 0, 65536), 0);
		CHECK(!__builtin_memcmp(d.in, d.out, 65536));
	}
}

} // namespace

extern "C" {
extern const ubd_test_case ubd_suite_device[];
const ubd_test_case ubd_suite_device[] = {
	UBD_ENTRY(sizes_and_places),
	UBD_ENTRY(vectors),
	UBD_ENTRY(flush_reaches_the_host),
	UBD_ENTRY(fua_is_one_durable_write),
	UBD_ENTRY(synchronous_device),
	UBD_ENTRY(discard_frees_blocks),
	UBD_ENTRY(no_discard_with_the_flag),
	UBD_ENTRY(zeroes_of_both_kinds),
	UBD_ENTRY(a_file_that_shrinks),
	UBD_ENTRY(many_in_flight),
	UBD_ENTRY(two_disks_at_once),
	UBD_ENTRY(a_removed_file_still_works),
	UBD_ENTRY(read_only),
	UBD_ENTRY(refused),
	UBD_ENTRY(sizes_that_are_no_disk),
	UBD_ENTRY(come_and_go),
	UBD_ENTRY(the_lock_goes_with_the_disk),
	{ nullptr, nullptr },
};
}
