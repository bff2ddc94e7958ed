// SPDX-License-Identifier: GPL-2.0-only
//
// The host's own speed: the loads of load/ubd_load.c, done on a file by
// io_uring or by plain calls, without any guest. Words and result are the same.
//
//	loop NAME=VALUE...
//
// Its words beside those of the module:
//
//	dev=PATH	a file or block device
//	engine=uring	or sync: plain calls, one thread for each place in flight
//	direct=0	1: O_DIRECT
//	op=commit	as a first write to a copy-on-write file and its flush:
//			write, fdatasync, write of a bitmap block, fdatasync
//
// op=zeroes is FALLOC_FL_ZERO_RANGE, op=discard a punched hole, a flush is
// fdatasync. threads= and plug= mean nothing here.
//
// Context: a program of the host's.

#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "../load/plan.h"

namespace
{

using u64 = plan_u64;

enum class Op { read, write, discard, zeroes, flush, commit };

struct Params {
	std::string dev;
	std::string engine = "uring";
	Op op = Op::read;
	plan_order order = PLAN_RANDOM;
	u64 bs = 4096, depth = 32, threads = 1;
	u64 ms = 1000, ios = 0;
	u64 offset = 0, length = 0;
	u64 flush = 0, fua = 0, seed = 1, pages = 0, plug = 1, direct = 0;
};

[[noreturn]] void die(const char *what, int err = 0)
{
	std::fprintf(stderr, "loop: %s%s%s\n", what, err ? ": " : "", err ? std::strerror(err) : "");
	std::exit(1);
}

u64 now_ns()
{
	timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

// The state of a load: the plan and the counts are shared by all in flight.
struct Load {
	Params p;
	int fd = -1;
	plan pl{};
	u64 left = 0;
	u64 deadline_ns = 0;
	u64 first_ns = 0, last_ns = 0;
	int error = 0;
	std::unique_ptr<plan_histogram> ops = std::make_unique<plan_histogram>();
	std::unique_ptr<plan_histogram> flushes = std::make_unique<plan_histogram>();
	// Where the "bitmap" of op=commit is: a region of its own at the file's end.
	u64 bitmap_offset = 0;
};

// One place in flight.
struct Slot {
	char *buffer = nullptr;
	u64 offset = 0;
	u64 begin_ns = 0;
	u64 since_flush = 0;
	bool flushing = false;
};

// False when this place has nothing more to do.
bool prepare(Load &l, Slot &s)
{
	s.begin_ns = now_ns();
	if (l.p.flush && s.since_flush == l.p.flush) {
		s.flushing = true;
		s.since_flush = 0;
		return true;
	}
	if (l.error || !l.left || (l.deadline_ns && s.begin_ns >= l.deadline_ns))
		return false;
	s.flushing = l.p.op == Op::flush;
	if (!s.flushing && !plan_next(&l.pl, &s.offset))
		return false;
	s.since_flush++;
	l.left--;
	return true;
}

void account(Load &l, const Slot &s, long result, u64 end_ns)
{
	bool data = !s.flushing && (l.p.op == Op::read || l.p.op == Op::write);

	if (result < 0 && !l.error)
		l.error = result;
	else if (data && static_cast<u64>(result) != l.p.bs && !l.error)
		l.error = -EIO;
	if (end_ns > l.last_ns)
		l.last_ns = end_ns;
	plan_count(s.flushing ? l.flushes.get() : l.ops.get(), end_ns - s.begin_ns);
}

// --- io_uring ---------------------------------------------------------------

void put_sqe(Load &l, io_uring &ring, Slot &s, unsigned index)
{
	io_uring_sqe *sqe = io_uring_get_sqe(&ring);

	if (s.flushing)
		io_uring_prep_fsync(sqe, 0, IORING_FSYNC_DATASYNC);
	else if (l.p.op == Op::read)
		io_uring_prep_read(sqe, 0, s.buffer, l.p.bs, s.offset);
	else if (l.p.op == Op::write)
		io_uring_prep_write(sqe, 0, s.buffer, l.p.bs, s.offset);
	else
		io_uring_prep_fallocate(sqe, 0,
					FALLOC_FL_KEEP_SIZE |
						(l.p.op == Op::discard ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE),
					s.offset, l.p.bs);
	if (l.p.fua && !s.flushing)
		sqe->rw_flags = RWF_DSYNC;
	sqe->flags |= IOSQE_FIXED_FILE;
	sqe->user_data = index;
}

void init_ring(Load &l, io_uring &ring)
{
	unsigned flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
	int err = io_uring_queue_init(l.p.depth, &ring, flags);

	if (err == -EINVAL)
		err = io_uring_queue_init(l.p.depth, &ring, 0);
	if (err)
		die("no io_uring", -err);
	err = io_uring_register_files(&ring, &l.fd, 1);
	if (err)
		die("cannot register the file", -err);
	io_uring_register_ring_fd(&ring);
}

void run_uring(Load &l, std::vector<Slot> &slots)
{
	std::vector<io_uring_cqe *> cqes(slots.size());
	io_uring ring;
	unsigned in_flight = 0;

	init_ring(l, ring);
	l.first_ns = now_ns();
	for (unsigned i = 0; i < slots.size(); i++) {
		if (prepare(l, slots[i])) {
			put_sqe(l, ring, slots[i], i);
			in_flight++;
		}
	}
	while (in_flight) {
		int err = io_uring_submit_and_wait(&ring, 1);
		if (err < 0 && err != -EINTR && err != -EAGAIN)
			die("io_uring_enter", -err);
		unsigned n = io_uring_peek_batch_cqe(&ring, cqes.data(), cqes.size());
		u64 end = now_ns();
		in_flight -= n;
		for (unsigned i = 0; i < n; i++) {
			Slot &s = slots[cqes[i]->user_data];

			account(l, s, cqes[i]->res, end);
			if (prepare(l, s)) {
				put_sqe(l, ring, s, cqes[i]->user_data);
				in_flight++;
			}
		}
		io_uring_cq_advance(&ring, n);
	}
	io_uring_queue_exit(&ring);
}

// --- plain calls ------------------------------------------------------------

long host_call(const Load &l, const Slot &s)
{
	long n;

	if (s.flushing)
		n = fdatasync(l.fd);
	else if (l.p.op == Op::read)
		n = pread(l.fd, s.buffer, l.p.bs, s.offset);
	else if (l.p.op == Op::write || l.p.op == Op::commit) {
		iovec v = { s.buffer, l.p.bs };
		n = pwritev2(l.fd, &v, 1, s.offset, l.p.fua ? RWF_DSYNC : 0);
	} else
		n = fallocate(l.fd,
			      FALLOC_FL_KEEP_SIZE |
				      (l.p.op == Op::discard ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE),
			      s.offset, l.p.bs);
	return n < 0 ? -errno : n;
}

// What a commit does after the data: a block of the bitmap has 32768 bits.
long commit_calls(const Load &l, const Slot &s)
{
	u64 block = l.bitmap_offset + s.offset / 512 / 32768 * 4096;

	if (fdatasync(l.fd) || pwrite(l.fd, s.buffer, 4096, block) != 4096 || fdatasync(l.fd))
		return -errno;
	return l.p.bs;
}

void run_place(Load &l, Slot &s, std::mutex &lock)
{
	std::unique_lock guard(lock);

	while (prepare(l, s)) {
		guard.unlock();
		long n = host_call(l, s);
		if (n >= 0 && l.p.op == Op::commit)
			n = commit_calls(l, s);
		u64 end = now_ns();
		guard.lock();
		account(l, s, n, end);
	}
}

void run_sync(Load &l, std::vector<Slot> &slots)
{
	std::vector<std::thread> threads;
	std::mutex lock;

	l.first_ns = now_ns();
	for (unsigned i = 1; i < slots.size(); i++)
		threads.emplace_back([&, i] { run_place(l, slots[i], lock); });
	run_place(l, slots[0], lock);
	for (std::thread &t : threads)
		t.join();
}

// --- words ------------------------------------------------------------------

u64 number(const char *name, const std::string &value)
{
	char *end;
	u64 n = std::strtoull(value.c_str(), &end, 0);
	int shift = 0;

	if (*end && !end[1]) {
		switch (*end | 0x20) {
		case 'k':
			shift = 10;
			break;
		case 'm':
			shift = 20;
			break;
		case 'g':
			shift = 30;
			break;
		default:
			die(name, EINVAL);
		}
	} else if (end == value.c_str() || *end) {
		die(name, EINVAL);
	}
	return n << shift;
}

template <typename T, size_t N>
T choice(const char *word, const std::string &value, const std::pair<const char *, T> (&names)[N])
{
	for (const auto &[name, result] : names)
		if (value == name)
			return result;
	die(word, EINVAL);
}

void parse_word(Params &p, const char *word)
{
	const std::pair<const char *, u64 Params::*> numbers[] = {
		{ "bs", &Params::bs },         { "depth", &Params::depth }, { "threads", &Params::threads },
		{ "ms", &Params::ms },         { "ios", &Params::ios },     { "offset", &Params::offset },
		{ "length", &Params::length }, { "flush", &Params::flush }, { "fua", &Params::fua },
		{ "seed", &Params::seed },     { "pages", &Params::pages }, { "plug", &Params::plug },
		{ "direct", &Params::direct },
	};
	const char *equals = std::strchr(word, '=');
	std::string name(word, equals ? equals - word : std::strlen(word));
	std::string value(equals ? equals + 1 : "");

	if (name == "dev")
		p.dev = value;
	else if (name == "engine")
		p.engine = value;
	else if (name == "op")
		p.op = choice<Op>(word, value,
				  { { "read", Op::read },
				    { "write", Op::write },
				    { "discard", Op::discard },
				    { "zeroes", Op::zeroes },
				    { "flush", Op::flush },
				    { "commit", Op::commit } });
	else if (name == "order")
		p.order = choice<plan_order>(word, value,
					     { { "seq", PLAN_SEQ }, { "random", PLAN_RANDOM }, { "once", PLAN_ONCE } });
	else
		p.*choice<u64 Params::*>(word, name, numbers) = number(word, value);
}

void open_file(Load &l)
{
	int flags = (l.p.op == Op::read ? O_RDONLY : O_RDWR) | O_CLOEXEC | (l.p.direct ? O_DIRECT : 0);
	struct stat st;
	u64 size;

	l.fd = open(l.p.dev.c_str(), flags);
	if (l.fd < 0 || fstat(l.fd, &st))
		die(l.p.dev.c_str(), errno);
	size = st.st_size;
	if (S_ISBLK(st.st_mode) && ioctl(l.fd, BLKGETSIZE64, &size))
		die(l.p.dev.c_str(), errno);
	if (l.p.op == Op::commit) {
		u64 bitmap = (size / 512 / 8 + 4095) / 4096 * 4096;

		size = (size - bitmap) / 4096 * 4096;
		l.bitmap_offset = size;
	}
	if (!l.p.length && l.p.offset < size)
		l.p.length = size - l.p.offset;
	if (!l.p.bs || !l.p.depth || l.p.length < l.p.bs || l.p.offset > size || l.p.length > size - l.p.offset)
		die("the region is not in the file");
	if (!l.p.ms && !l.p.ios && l.p.order != PLAN_ONCE)
		die("it would never end");
	if (l.p.op == Op::commit && l.p.engine != "sync")
		die("op=commit needs engine=sync");
}

// Pages of a guest are spread over its memory; these are, at least, one by one.
char *buffer(u64 bytes, unsigned fill)
{
	void *p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		die("no memory", errno);
	std::memset(p, 0xa5 ^ fill, bytes);
	return static_cast<char *>(p);
}

void show_histogram(const char *name, const plan_histogram &h)
{
	const char *comma = "";

	std::printf(",\"%s\":{\"count\":%llu,\"mean_ns\":%llu,\"p50_ns\":%llu,\"p99_ns\":%llu,\"p999_ns\":%llu,"
		    "\"max_ns\":%llu,\"buckets\":[",
		    name, h.count, h.count ? h.sum / h.count : 0, plan_permille(&h, 500), plan_permille(&h, 990),
		    plan_permille(&h, 999), h.max);
	for (unsigned i = 0; i < PLAN_BUCKETS; i++) {
		if (h.buckets[i]) {
			std::printf("%s[%llu,%u]", comma, plan_bucket_from(i), h.buckets[i]);
			comma = ",";
		}
	}
	std::printf("]}");
}

void show(const Load &l)
{
	std::printf("{\"ns\":%llu,\"bytes\":%llu,\"error\":%d", l.last_ns ? l.last_ns - l.first_ns : 0,
		    l.p.op == Op::flush ? 0 : l.ops->count * l.p.bs, l.error);
	show_histogram("ops", *l.ops);
	show_histogram("flushes", *l.flushes);
	std::printf("}\n");
}

} // namespace

int main(int argc, char **argv)
{
	Load l;

	for (int i = 1; i < argc; i++)
		parse_word(l.p, argv[i]);
	open_file(l);
	plan_init(&l.pl, l.p.order, l.p.offset, l.p.length / l.p.bs, l.p.bs, l.p.seed);
	l.left = l.p.ios ? l.p.ios : ULLONG_MAX;
	std::vector<Slot> slots(l.p.depth);
	for (unsigned i = 0; i < slots.size(); i++)
		slots[i].buffer = buffer(l.p.bs < 4096 ? 4096 : l.p.bs, i);
	if (l.p.ms)
		l.deadline_ns = now_ns() + l.p.ms * 1000000;
	if (l.p.engine == "uring")
		run_uring(l, slots);
	else if (l.p.engine == "sync")
		run_sync(l, slots);
	else
		die("engine= is uring or sync");
	show(l);
	return l.error ? 1 : 0;
}
