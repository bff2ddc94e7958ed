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
//	memory=shared	buffers are pages of a file in a tmpfs, mapped shared, as the
//			RAM of a UML guest is; private: of anonymous memory
//	shift=0		where the disk's first byte is in the file
//	op=commit	as a first write to a copy-on-write file and its flush:
//			write, fdatasync, write of a bitmap block, fdatasync
//	bitmap=0	where that bitmap begins
//
// op=zeroes is FALLOC_FL_ZERO_RANGE, op=discard a punched hole, a flush is
// fdatasync. threads= adds places in flight, no rings; plug= means nothing. The
// result has, beside the module's, CPU time, context switches and host calls of
// the load alone.
//
// Context: a program of the host's.

#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
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
	std::string memory = "shared";
	Op op = Op::read;
	plan_order order = PLAN_RANDOM;
	u64 bs = 4096, depth = 32, threads = 1;
	u64 ms = 1000, ios = 0;
	u64 offset = 0, length = 0;
	u64 flush = 0, fua = 0, seed = 1, pages = 0, plug = 1, direct = 0;
	u64 tag = 0, check = 0, shift = 0, bitmap = 0;
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

// What this process, with all its threads, has used.
struct Used {
	u64 cpu_ns = 0, switches = 0;
};

Used used()
{
	timespec t;
	rusage r;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	getrusage(RUSAGE_SELF, &r);
	return { t.tv_sec * 1000000000ull + t.tv_nsec, static_cast<u64>(r.ru_nvcsw + r.ru_nivcsw) };
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
	u64 wrong = 0;
	std::atomic<u64> calls = 0;
	Used before, after;
	std::unique_ptr<plan_histogram> ops = std::make_unique<plan_histogram>();
	std::unique_ptr<plan_histogram> flushes = std::make_unique<plan_histogram>();
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
	if (!s.flushing && (l.p.op == Op::write || l.p.op == Op::commit))
		plan_stamp(s.buffer, l.p.bs, s.offset, l.p.tag);
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
	if (l.p.check && !s.flushing && l.p.op == Op::read && result > 0)
		l.wrong += plan_wrong(s.buffer, l.p.bs, s.offset);
	if (end_ns > l.last_ns)
		l.last_ns = end_ns;
	plan_count(s.flushing ? l.flushes.get() : l.ops.get(), end_ns - s.begin_ns);
}

void start_clock(Load &l)
{
	l.before = used();
	l.first_ns = now_ns();
	if (l.p.ms)
		l.deadline_ns = l.first_ns + l.p.ms * 1000000;
}

// --- io_uring ---------------------------------------------------------------

void put_sqe(Load &l, io_uring &ring, Slot &s, unsigned index)
{
	io_uring_sqe *sqe = io_uring_get_sqe(&ring);
	u64 place = s.offset + l.p.shift;

	if (s.flushing)
		io_uring_prep_fsync(sqe, 0, IORING_FSYNC_DATASYNC);
	else if (l.p.op == Op::read)
		io_uring_prep_read(sqe, 0, s.buffer, l.p.bs, place);
	else if (l.p.op == Op::write)
		io_uring_prep_write(sqe, 0, s.buffer, l.p.bs, place);
	else
		io_uring_prep_fallocate(sqe, 0,
					FALLOC_FL_KEEP_SIZE |
						(l.p.op == Op::discard ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE),
					place, l.p.bs);
	if (l.p.fua && !s.flushing)
		sqe->rw_flags = RWF_DSYNC;
	sqe->flags |= IOSQE_FIXED_FILE;
	sqe->user_data = index;
}

void init_ring(Load &l, io_uring &ring)
{
	unsigned flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
	unsigned entries = l.p.depth * l.p.threads;
	int err = io_uring_queue_init(entries, &ring, flags);

	if (err == -EINVAL)
		err = io_uring_queue_init(entries, &ring, 0);
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
	start_clock(l);
	for (unsigned i = 0; i < slots.size(); i++) {
		if (prepare(l, slots[i])) {
			put_sqe(l, ring, slots[i], i);
			in_flight++;
		}
	}
	while (in_flight) {
		int err = io_uring_submit_and_wait(&ring, 1);
		l.calls++;
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
	l.after = used();
	io_uring_queue_exit(&ring);
}

// --- plain calls ------------------------------------------------------------

long host_call(const Load &l, const Slot &s)
{
	u64 place = s.offset + l.p.shift;
	long n;

	if (s.flushing)
		n = fdatasync(l.fd);
	else if (l.p.op == Op::read)
		n = pread(l.fd, s.buffer, l.p.bs, place);
	else if (l.p.op == Op::write || l.p.op == Op::commit) {
		iovec v = { s.buffer, l.p.bs };
		n = pwritev2(l.fd, &v, 1, place, l.p.fua ? RWF_DSYNC : 0);
	} else
		n = fallocate(l.fd,
			      FALLOC_FL_KEEP_SIZE |
				      (l.p.op == Op::discard ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE),
			      place, l.p.bs);
	return n < 0 ? -errno : n;
}

// What a commit does after the data: a block of the bitmap has 32768 bits.
long commit_calls(const Load &l, const Slot &s)
{
	u64 block = l.p.bitmap + s.offset / 512 / 32768 * 4096;

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
		l.calls++;
		if (n >= 0 && l.p.op == Op::commit) {
			n = commit_calls(l, s);
			l.calls += 3;
		}
		u64 end = now_ns();
		guard.lock();
		account(l, s, n, end);
	}
}

void run_sync(Load &l, std::vector<Slot> &slots)
{
	std::vector<std::thread> threads;
	std::mutex lock;

	start_clock(l);
	for (unsigned i = 1; i < slots.size(); i++)
		threads.emplace_back([&, i] { run_place(l, slots[i], lock); });
	run_place(l, slots[0], lock);
	for (std::thread &t : threads)
		t.join();
	l.after = used();
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
		{ "bs", &Params::bs },         { "depth", &Params::depth },   { "threads", &Params::threads },
		{ "ms", &Params::ms },         { "ios", &Params::ios },       { "offset", &Params::offset },
		{ "length", &Params::length }, { "flush", &Params::flush },   { "fua", &Params::fua },
		{ "seed", &Params::seed },     { "pages", &Params::pages },   { "plug", &Params::plug },
		{ "direct", &Params::direct }, { "tag", &Params::tag },       { "check", &Params::check },
		{ "shift", &Params::shift },   { "bitmap", &Params::bitmap },
	};
	const char *equals = std::strchr(word, '=');
	std::string name(word, equals ? equals - word : std::strlen(word));
	std::string value(equals ? equals + 1 : "");

	if (name == "dev")
		p.dev = value;
	else if (name == "engine")
		p.engine = value;
	else if (name == "memory")
		p.memory = value;
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
	if (l.p.shift > size)
		die("shift= is behind the file's end");
	size -= l.p.shift;
	if (!l.p.length && l.p.offset < size)
		l.p.length = size - l.p.offset;
	if (!l.p.bs || !l.p.depth || !l.p.threads || l.p.length < l.p.bs || l.p.offset > size ||
	    l.p.length > size - l.p.offset)
		die("the region is not in the file");
	if (!l.p.ms && !l.p.ios && l.p.order != PLAN_ONCE)
		die("it would never end");
	if (l.p.op == Op::commit && l.p.engine != "sync")
		die("op=commit needs engine=sync");
}

// One place's buffer after the other. Shared, they are pages of tmpfs, as UML makes
// its RAM: small ones, unless the host gives huge ones to such files.
char *make_buffers(const Params &p, u64 bytes)
{
	bool shared = p.memory == "shared";
	int fd = -1;
	void *mapped;

	if (!shared && p.memory != "private")
		die("memory= is shared or private");
	if (shared) {
		fd = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
		if (fd < 0)
			fd = memfd_create("loop", MFD_CLOEXEC);
		if (fd < 0 || ftruncate(fd, bytes))
			die("no shared memory", errno);
	}
	mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, shared ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, fd, 0);
	if (mapped == MAP_FAILED)
		die("no memory", errno);
	std::memset(mapped, 0xa5, bytes);
	return static_cast<char *>(mapped);
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
	std::printf("{\"begin_ns\":%llu,\"ns\":%llu,\"bytes\":%llu,\"error\":%d", l.first_ns,
		    l.last_ns ? l.last_ns - l.first_ns : 0, l.p.op == Op::flush ? 0 : l.ops->count * l.p.bs, l.error);
	show_histogram("ops", *l.ops);
	show_histogram("flushes", *l.flushes);
	std::printf(",\"wrong\":%llu,\"cpu_ns\":%llu,\"switches\":%llu,\"calls\":%llu}\n", l.wrong,
		    l.after.cpu_ns - l.before.cpu_ns, l.after.switches - l.before.switches, l.calls.load());
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
	std::vector<Slot> slots(l.p.depth * l.p.threads);
	u64 each = (l.p.bs + 4095) / 4096 * 4096;
	char *buffers = make_buffers(l.p, each * slots.size());
	for (unsigned i = 0; i < slots.size(); i++)
		slots[i].buffer = buffers + i * each;
	if (l.p.engine == "uring")
		run_uring(l, slots);
	else if (l.p.engine == "sync")
		run_sync(l, slots);
	else
		die("engine= is uring or sync");
	show(l);
	return l.error ? 1 : 0;
}
