// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the guest tests need and no common program does. Runs on the host and,
 * the host's root being the guest's, in the guest. Each command is explained
 * where its function is; a wrong result ends with status 1 and says why.
 */
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/cdrom.h>
#include <linux/falloc.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/hdreg.h>
#include <linux/io_uring.h>
#include <linux/magic.h>
#include <linux/netlink.h>
#include <linux/reboot.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sector.hh"

namespace
{

using u8 = uint8_t;
using u32 = uint32_t;
using u64 = uint64_t;

constexpr size_t sector_bytes = 512;

[[noreturn]] void die(const std::string &what)
{
	fprintf(stderr, "tool: %s: %s\n", what.c_str(), strerror(errno));
	exit(1);
}

[[noreturn]] void wrong(const std::string &what)
{
	fprintf(stderr, "tool: %s\n", what.c_str());
	exit(1);
}

int open_or_die(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0666);
	if (fd < 0)
		die(path);
	return fd;
}

u64 number(const char *text)
{
	char *end;
	u64 n = strtoull(text, &end, 0);
	if (*end || end == text)
		wrong(std::string(text) + " is no number");
	return n;
}

struct Freer {
	void operator()(void *p) const { free(p); }
};
using Buffer = std::unique_ptr<u8[], Freer>;

Buffer aligned(size_t bytes)
{
	void *p = nullptr;
	if (posix_memalign(&p, 4096, bytes))
		wrong("no memory");
	memset(p, 0, bytes);
	return Buffer(static_cast<u8 *>(p));
}

bool is_zero(const u8 *p, size_t bytes)
{
	return !p[0] && !memcmp(p, p + 1, bytes - 1);
}

constexpr u64 record_sectors = 16;
constexpr size_t record_bytes = record_sectors * sector_bytes;
constexpr u64 record_slots = 512;

/*
 * records write|land DEVICE ACK [COUNT]
 * Writes numbered records, from 1, round and round over the first 4 MiB. Each
 * is made durable (`land`: it is written, no more); then its number goes to the
 * file ACK (on the host).
 */
int write_records(const char *device, const char *ack_file, u64 count, bool durable)
{
	int fd = open_or_die(device, O_RDWR | O_DIRECT);
	int ack = open_or_die(ack_file, O_WRONLY | O_CREAT | O_TRUNC);
	Buffer b = aligned(record_bytes);
	for (u64 n = 1; n <= count; n++) {
		for (u64 s = 0; s < record_sectors; s++)
			make_sector(b.get() + s * sector_bytes, n, s);
		if (pwrite(fd, b.get(), record_bytes, static_cast<off_t>(n % record_slots * record_bytes)) !=
		    static_cast<ssize_t>(record_bytes))
			die(device);
		if (durable && fdatasync(fd))
			die("fdatasync");
		std::string text = std::to_string(n) + "\n";
		if (pwrite(ack, text.data(), text.size(), 0) < 0)
			die(ack_file);
	}
	return 0;
}

/*
 * records verify DEVICE ACKED
 * Each sector is that of the last durable record of its place, or of one later,
 * never anything else.
 */
int verify_records(const char *device, u64 acked)
{
	int fd = open_or_die(device, O_RDONLY);
	Buffer b = aligned(record_bytes), want = aligned(sector_bytes);
	u64 newest = 0;
	for (u64 slot = 0; slot < record_slots; slot++) {
		if (pread(fd, b.get(), record_bytes, static_cast<off_t>(slot * record_bytes)) !=
		    static_cast<ssize_t>(record_bytes))
			die(device);
		u64 least = acked < slot ? 0 : acked - (acked - slot) % record_slots;
		for (u64 s = 0; s < record_sectors; s++) {
			const u8 *p = b.get() + s * sector_bytes;
			u64 record = *reinterpret_cast<const u64 *>(p);
			if (!record && !least && is_zero(p, sector_bytes))
				continue;
			make_sector(want.get(), record, s);
			if (memcmp(p, want.get(), sector_bytes) || record % record_slots != slot)
				wrong("slot " + std::to_string(slot) + " sector " + std::to_string(s) +
				      " is no sector of a record");
			if (record < least)
				wrong("slot " + std::to_string(slot) + " sector " + std::to_string(s) +
				      " is of record " + std::to_string(record) + ", but " + std::to_string(least) +
				      " was durable");
			newest = record > newest ? record : newest;
		}
	}
	printf("records: %llu durable, newest found %llu\n", static_cast<unsigned long long>(acked),
	       static_cast<unsigned long long>(newest));
	return 0;
}

/*
 * A stream of records goes on from guest to guest: each finds what the ones
 * before it left, and writes on. Its slots lie PLACE MiB from the device's
 * beginning, every other one 32 MiB behind that, so that two blocks of a COW
 * file's bitmap get bits from it. On the host,
 *	NAME.state	has what was found last: of which record each sector is
 *	NAME.ack	has the number of the last record that was acknowledged
 *	NAME.up		is made before the first record of each guest
 */
class Stream {
public:
	Stream(const char *path, int flags, u64 place_mib, const std::string &name)
		: fd_(open_or_die(path, flags)), place_(place_mib << 20), name_(name), b_(aligned(record_bytes))
	{
	}
	void make();
	u64 find();
	void note();
	[[noreturn]] void write(const std::string &how);

private:
	static constexpr u64 slots = 256;
	static constexpr u64 sectors = slots * record_sectors;

	off_t at(u64 record) const
	{
		const u64 slot = record % slots;
		return static_cast<off_t>(place_ + slot % 2 * (32 << 20) + slot / 2 * record_bytes);
	}
	void make_record(u64 n)
	{
		for (u64 s = 0; s < record_sectors; s++)
			make_sector(b_.get() + s * sector_bytes, n, s);
	}
	u64 least(u64 slot, u64 sector) const;

	const int fd_;
	const u64 place_;
	const std::string name_;
	Buffer b_;
	u64 acked_ = 0;
	u64 next_ = 0; // the first that is this guest's
	std::vector<u64> found_;
};

// A file with a record in each slot, so that there are no zeros.
void Stream::make()
{
	next_ = slots;
	for (u64 n = 0; n < slots; n++) {
		make_record(n + slots);
		if (pwrite(fd_, b_.get(), record_bytes, at(n)) != static_cast<ssize_t>(record_bytes))
			die(name_);
		found_.insert(found_.end(), record_sectors, n + slots);
		next_++;
	}
}

// What was written over by a record that was acknowledged may have that content,
// or one that came later.
u64 Stream::least(u64 slot, u64 sector) const
{
	const u64 before = found_[slot * record_sectors + sector];
	const u64 last = acked_ < slot ? 0 : acked_ - (acked_ - slot) % slots;
	return last < next_ ? before : std::max(before, last);
}

// Returns how many sectors are wrong, and says it.
u64 Stream::find()
{
	std::vector<u64> state(1 + sectors);
	const size_t bytes = state.size() * sizeof(u64);
	const int fd = open_or_die((name_ + ".state").c_str(), O_RDONLY);
	if (read(fd, state.data(), bytes) != static_cast<ssize_t>(bytes))
		die(name_ + ".state");
	close(fd);
	next_ = state[0];
	found_.assign(state.begin() + 1, state.end());
	char text[32] = "0";
	const int ack = open((name_ + ".ack").c_str(), O_RDONLY | O_CLOEXEC);
	if (ack >= 0 && read(ack, text, sizeof(text) - 1) < 0)
		die(name_ + ".ack");
	close(ack);
	acked_ = strtoull(text, nullptr, 10);

	u64 lost = 0, foreign = 0, newest = 0;
	Buffer want = aligned(sector_bytes);
	for (u64 slot = 0; slot < slots; slot++) {
		if (pread(fd_, b_.get(), record_bytes, at(slot)) != static_cast<ssize_t>(record_bytes))
			die(name_);
		for (u64 s = 0; s < record_sectors; s++) {
			const u8 *p = b_.get() + s * sector_bytes;
			const u64 record = *reinterpret_cast<const u64 *>(p);
			u64 &found = found_[slot * record_sectors + s];
			make_sector(want.get(), record, s);
			if (memcmp(p, want.get(), sector_bytes) || record % slots != slot)
				foreign++;
			else if (record < least(slot, s))
				lost++;
			else
				newest = std::max(newest, found = record);
		}
	}
	const u64 acked = acked_ < next_ ? 0 : acked_ - next_ + 1;
	printf("stream %s: %llu records acknowledged, newest %llu; sectors: %llu lost, %llu foreign\n", name_.c_str(),
	       static_cast<unsigned long long>(acked), static_cast<unsigned long long>(newest),
	       static_cast<unsigned long long>(lost), static_cast<unsigned long long>(foreign));
	fflush(stdout);
	next_ = std::max({ next_, newest + 1, acked_ + 1 });
	return lost + foreign;
}

// Whole, or as it was: the guest may be killed meanwhile. What was acknowledged
// up to now is in it.
void Stream::note()
{
	std::vector<u64> state{ next_ };
	state.insert(state.end(), found_.begin(), found_.end());
	const size_t bytes = state.size() * sizeof(u64);
	const std::string to = name_ + ".state", by = to + ".new";
	const int fd = open_or_die(by.c_str(), O_WRONLY | O_CREAT | O_TRUNC);
	if (::write(fd, state.data(), bytes) != static_cast<ssize_t>(bytes) || close(fd) ||
	    rename(by.c_str(), to.c_str()))
		die(to);
}

void Stream::write(const std::string &how)
{
	const int ack = open_or_die((name_ + ".ack").c_str(), O_WRONLY | O_CREAT);
	close(open_or_die((name_ + ".up").c_str(), O_WRONLY | O_CREAT));
	iovec v{ b_.get(), record_bytes };
	for (u64 n = next_;; n++) {
		make_record(n);
		if (pwritev2(fd_, &v, 1, at(n), how == "fua" ? RWF_DSYNC : 0) != static_cast<ssize_t>(record_bytes))
			die(name_);
		if (how == "write" && fdatasync(fd_))
			die(name_ + ": fdatasync");
		const std::string text = std::to_string(n) + "\n";
		if (how != "try" && pwrite(ack, text.data(), text.size(), 0) < 0)
			die(name_ + ".ack");
		if (how == "land" || how == "try")
			usleep(500); // so that others get the CPU
	}
}

/*
 * stream new|find|write|fua|land|try FILE PLACE NAME
 * new: makes it; find: says what is wrong, on the host; or finds it and writes
 * on: with fdatasync, with FUA, or with neither. Who only tries acknowledges
 * nothing.
 */
int stream(const std::string &how, const char *path, u64 place_mib, const char *name)
{
	const bool finding = how == "find";
	Stream s(path, finding ? O_RDONLY : how == "new" ? O_RDWR : O_RDWR | O_DIRECT, place_mib, name);
	if (how == "new") {
		s.make();
		s.note();
		return 0;
	}
	if (s.find())
		return 1;
	if (finding)
		return 0;
	s.note();
	s.write(how);
}

constexpr size_t page_bytes = 4096;

/*
 * Fills memory, then reads it and fills it anew, until `rounds` are done and
 * `seconds` are over. Returns the rounds. What one seed stores is not what
 * another one stores.
 */
u64 fill_memory(u64 mib, u64 rounds, u64 seconds, u64 seed)
{
	const u64 pages = (mib << 20) / page_bytes;
	const time_t end = time(nullptr) + static_cast<time_t>(seconds);
	void *m = mmap(nullptr, mib << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m == MAP_FAILED)
		die("mmap");
	auto *base = static_cast<u64 *>(m);
	u64 round = 0;
	for (; round <= rounds || time(nullptr) < end; round++)
		for (u64 i = 0; i < pages; i++) {
			u64 *p = base + i * page_bytes / 8;
			for (size_t w = 0; w < page_bytes / 8; w++) {
				const u64 place = seed + i * 512 + w;
				if (round && p[w] != mix(place + round * 7919))
					wrong("page " + std::to_string(i) + " is not what was stored there");
				p[w] = mix(place + (round + 1) * 7919);
			}
		}
	return round - 1;
}

// hog MIB ROUNDS: fills so much memory, and checks it so often
int hog(u64 mib, u64 rounds)
{
	fill_memory(mib, rounds, 0, 0);
	return 0;
}

/*
 * hogs MIB PROCESSES SECONDS
 * So many processes fill so much memory each, and check it at least once, for
 * so long.
 */
int hogs(u64 mib, u64 processes, u64 seconds)
{
	std::vector<pid_t> children;
	for (u64 i = 0; i < processes; i++) {
		pid_t child = fork();
		if (child < 0)
			die("fork");
		if (!child) {
			printf("hog %llu: %llu rounds\n", static_cast<unsigned long long>(i),
			       static_cast<unsigned long long>(fill_memory(mib, 1, seconds, i << 40)));
			exit(0);
		}
		children.push_back(child);
	}
	int bad = 0;
	for (pid_t child : children) {
		int status;
		if (waitpid(child, &status, 0) != child || status)
			bad++;
	}
	if (bad)
		wrong(std::to_string(bad) + " of " + std::to_string(processes) + " processes ended badly");
	return 0;
}

// Has all else swapped out by using so much memory for a moment.
void press_out(u64 mib)
{
	void *m = mmap(nullptr, mib << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m == MAP_FAILED)
		die("mmap");
	for (u64 at = 0; at < mib << 20; at += page_bytes)
		static_cast<u8 *>(m)[at] = 1;
	munmap(m, mib << 20);
}

/*
 * refill MIB PRESS_MIB
 * So much memory is swapped out, swapped in by reading it, filled anew by a
 * system call, and swapped out again: what the system call stored is there.
 */
int refill(u64 mib, u64 press_mib)
{
	const size_t bytes = mib << 20;
	Buffer b = aligned(bytes);
	memset(b.get(), 0xee, bytes);
	press_out(press_mib);
	u64 sum = 0;
	for (size_t at = 0; at < bytes; at += page_bytes)
		sum += *static_cast<volatile u8 *>(b.get() + at);
	if (sum != bytes / page_bytes * 0xee)
		wrong("memory is not what was stored there");
	int fd = open_or_die("/dev/zero", O_RDONLY);
	for (size_t at = 0; at < bytes; at += page_bytes)
		if (read(fd, b.get() + at, page_bytes) != static_cast<ssize_t>(page_bytes))
			die("/dev/zero");
	press_out(press_mib);
	u64 lost = 0;
	for (size_t at = 0; at < bytes; at += page_bytes)
		if (!is_zero(b.get() + at, page_bytes))
			lost++;
	if (lost)
		wrong(std::to_string(lost) + " of " + std::to_string(bytes / page_bytes) +
		      " pages lost what a system call stored in them");
	return 0;
}

/*
 * syncs DEVICE COUNT sync|fua
 * Writes COUNT blocks, each made durable by fdatasync or by RWF_DSYNC.
 */
int syncs(const char *device, u64 count, bool fua)
{
	int fd = open_or_die(device, O_RDWR | O_DIRECT);
	Buffer b = aligned(4096);
	iovec v{ b.get(), 4096 };
	for (u64 i = 0; i < count; i++) {
		memset(b.get(), static_cast<int>(i + 1), 4096);
		off_t at = static_cast<off_t>(i * 4096);
		if (pwritev2(fd, &v, 1, at, fua ? RWF_DSYNC : 0) != 4096)
			die("write");
		if (!fua && fdatasync(fd))
			die("fdatasync");
	}
	return 0;
}

// lock-wait FILE SECONDS: a lock on it can be had within that time
int lock_wait(const char *path, u64 seconds)
{
	int fd = open_or_die(path, O_RDWR);
	struct flock l {};
	l.l_type = F_WRLCK;
	for (u64 tries = 0; tries <= seconds * 20; tries++) {
		if (!fcntl(fd, F_OFD_SETLK, &l))
			return 0;
		usleep(50000);
	}
	return 1;
}

// Leaves its number in the file, and stays.
[[noreturn]] void mark_and_stay(const char *mark)
{
	dprintf(open_or_die(mark, O_CREAT | O_WRONLY), "%d\n", getpid());
	for (;;)
		pause();
}

// lock-hold FILE MARK: takes the lock, makes the file MARK, and stays
int lock_hold(const char *path, const char *mark)
{
	int fd = open_or_die(path, O_RDWR);
	struct flock l {};
	l.l_type = F_WRLCK;
	if (fcntl(fd, F_SETLK, &l))
		die("lock");
	mark_and_stay(mark);
}

// lock-hold-odd FILE MARK: the same by a process whose name a terminal would obey
int lock_hold_odd(const char *path, const char *mark)
{
	prctl(PR_SET_NAME, "a\033[2Jb\nubd: c");
	return lock_hold(path, mark);
}

// Ends with its parent, in any way.
pid_t fork_or_die()
{
	pid_t child = fork();
	if (child < 0)
		die("fork");
	if (child == 0)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return child;
}

/*
 * lock-inherit FILE MARK
 * A process takes a lock and forks. Its child has the lock as well, and the
 * smaller number: what looks for it in /proc meets the child first.
 */
int lock_inherit(const char *path, const char *mark)
{
	int last = open_or_die("/proc/sys/kernel/ns_last_pid", O_WRONLY);
	if (pwrite(last, "20000", 5, 0) != 5)
		die("ns_last_pid");
	if (fork_or_die() > 0)
		for (;;)
			pause();

	int fd = open_or_die(path, O_RDWR);
	struct flock l {};
	l.l_type = F_WRLCK;
	if (fcntl(fd, F_OFD_SETLK, &l))
		die("lock");
	for (;;) {
		if (pwrite(last, "300", 3, 0) != 3)
			die("ns_last_pid");
		pid_t child = fork_or_die();
		if (child == 0) {
			prctl(PR_SET_NAME, "helper");
			for (;;)
				pause();
		}
		if (child < getpid())
			break;
		kill(child, SIGKILL); // somebody else chose a number in between
		waitpid(child, nullptr, 0);
	}
	mark_and_stay(mark);
}

/*
 * lock-hide FILE MARK
 * Takes a lock that belongs to no process: its descriptor is on its way through
 * a socket. So a ring holds one that still works after its process is gone.
 */
int lock_hide(const char *path, const char *mark)
{
	int fd = open_or_die(path, O_RDWR), sockets[2];
	struct flock l {};
	l.l_type = F_WRLCK;
	if (fcntl(fd, F_OFD_SETLK, &l))
		die("lock");
	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, sockets))
		die("socketpair");
	char byte = 0;
	iovec v{ &byte, 1 };
	alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
	msghdr m{};
	m.msg_iov = &v;
	m.msg_iovlen = 1;
	m.msg_control = control;
	m.msg_controllen = sizeof(control);
	cmsghdr *c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	if (sendmsg(sockets[0], &m, 0) != 1)
		die("sendmsg");
	close(fd);
	mark_and_stay(mark);
}

// Lets the tracee go on to its next system call, or out of one; false if it has ended.
bool next_stop(pid_t tracee, __ptrace_syscall_info &call)
{
	int status;
	if (ptrace(PTRACE_SYSCALL, tracee, nullptr, nullptr) || waitpid(tracee, &status, __WALL) != tracee ||
	    !WIFSTOPPED(status))
		return false;
	call.op = PTRACE_SYSCALL_INFO_NONE;
	if (WSTOPSIG(status) == (SIGTRAP | 0x80) && ptrace(PTRACE_GET_SYSCALL_INFO, tracee, sizeof(call), &call) < 0)
		die("PTRACE_GET_SYSCALL_INFO");
	return true;
}

/*
 * kill-at-signal RELAY GUEST
 * The relay is stopped when it is about to signal the guest, until the guest was
 * killed and its parent has waited for it. Status 77 if nobody may trace it.
 */
int kill_at_signal(pid_t relay, pid_t guest)
{
	int status;
	if (ptrace(PTRACE_SEIZE, relay, nullptr, PTRACE_O_TRACESYSGOOD))
		return errno == EPERM ? 77 : (perror("tool: PTRACE_SEIZE"), 1);
	if (ptrace(PTRACE_INTERRUPT, relay, nullptr, nullptr) || waitpid(relay, &status, __WALL) != relay)
		die("PTRACE_INTERRUPT");
	__ptrace_syscall_info call{};
	do {
		if (!next_stop(relay, call))
			wrong("the relay has ended");
	} while (call.op != PTRACE_SYSCALL_INFO_ENTRY || call.entry.nr != SYS_pidfd_send_signal);
	if (kill(guest, SIGKILL))
		die("kill");
	while (!kill(guest, 0))
		usleep(1000);
	if (ptrace(PTRACE_DETACH, relay, nullptr, nullptr))
		die("PTRACE_DETACH");
	return 0;
}

// identity DEVICE: what HDIO_GET_IDENTITY, HDIO_GETGEO and CDROMVOLREAD say
int identity(const char *device)
{
	int fd = open_or_die(device, O_RDONLY);
	u8 id[512];
	if (ioctl(fd, HDIO_GET_IDENTITY, id))
		die("HDIO_GET_IDENTITY");
	// Strings are words with their bytes swapped, padded with blanks.
	auto text = [&](size_t at, size_t bytes) {
		std::string s;
		for (size_t i = 0; i < bytes; i++)
			s += static_cast<char>(id[(at + i) ^ 1]);
		while (!s.empty() && s.back() == ' ')
			s.pop_back();
		return s;
	};
	printf("serial %s\nmodel %s\nrevision %s\n", text(20, 20).c_str(), text(54, 40).c_str(), text(46, 8).c_str());
	printf("identity cylinders %u\n", id[2] | id[3] << 8);
	hd_geometry g{};
	if (ioctl(fd, HDIO_GETGEO, &g))
		die("HDIO_GETGEO");
	printf("geometry %u %u %u start %lu\n", g.cylinders, g.heads, g.sectors, g.start);
	cdrom_volctrl v{};
	if (!ioctl(fd, CDROMVOLREAD, &v))
		printf("volume %u\n", v.channel0);
	return 0;
}

u32 crc32(const u8 *p, size_t bytes)
{
	u32 c = ~0u;
	for (size_t i = 0; i < bytes; i++) {
		c ^= p[i];
		for (int k = 0; k < 8; k++)
			c = c >> 1 ^ (c & 1 ? 0xedb88320u : 0);
	}
	return ~c;
}

void put(u8 *to, u64 value, int bytes)
{
	for (int i = 0; i < bytes; i++, value >>= 8)
		to[i] = static_cast<u8>(value);
}

void write_at(int fd, const u8 *p, size_t bytes, u64 sector)
{
	if (pwrite(fd, p, bytes, static_cast<off_t>(sector * sector_bytes)) != static_cast<ssize_t>(bytes))
		die("write");
}

void mbr_entry(u8 *sector, int slot, u8 type, u32 start, u32 count)
{
	u8 *e = sector + 446 + 16 * slot;
	e[4] = type;
	put(e + 8, start, 4);
	put(e + 12, count, 4);
	sector[510] = 0x55;
	sector[511] = 0xaa;
}

/*
 * mbr IMAGE: two primary partitions (2048 + 65536, 67584 + 65536 sectors) and
 * an extended one with three logical ones of 8192 sectors each
 */
int write_mbr(const char *image)
{
	int fd = open_or_die(image, O_RDWR);
	u8 s[sector_bytes] = {};
	constexpr u32 extended = 133120, step = 10240;
	mbr_entry(s, 0, 0x83, 2048, 65536);
	mbr_entry(s, 1, 0x83, 67584, 65536);
	mbr_entry(s, 2, 0x05, extended, 3 * step);
	write_at(fd, s, sizeof(s), 0);
	for (u32 i = 0; i < 3; i++) {
		u8 e[sector_bytes] = {};
		mbr_entry(e, 0, 0x83, 2048, 8192);
		if (i < 2)
			mbr_entry(e, 1, 0x05, (i + 1) * step, step);
		write_at(fd, e, sizeof(e), extended + i * step);
	}
	return 0;
}

// gpt IMAGE COUNT: COUNT partitions of 2048 sectors each from sector 2048 on
int write_gpt(const char *image, u64 count)
{
	int fd = open_or_die(image, O_RDWR);
	const u64 end = static_cast<u64>(lseek(fd, 0, SEEK_END)) / sector_bytes - 1;
	std::vector<u8> entries(128 * 128);
	for (u64 i = 0; i < count; i++) {
		u8 *e = entries.data() + i * 128;
		memset(e, 0x11, 16); // some type
		put(e + 16, mix(i + 1), 8); // some number of its own
		put(e + 24, i + 1, 8);
		put(e + 32, 2048 + i * 2048, 8);
		put(e + 40, 2048 + i * 2048 + 2047, 8);
	}
	u8 mbr[sector_bytes] = {};
	mbr_entry(mbr, 0, 0xee, 1, static_cast<u32>(end));
	write_at(fd, mbr, sizeof(mbr), 0);
	for (bool backup : { false, true }) {
		u64 own = backup ? end : 1, table = backup ? end - 32 : 2;
		u8 h[sector_bytes] = {};
		memcpy(h, "EFI PART\0\0\1\0", 12);
		put(h + 12, 92, 4);
		put(h + 24, own, 8);
		put(h + 32, backup ? 1 : end, 8);
		put(h + 40, 34, 8);
		put(h + 48, end - 33, 8);
		memset(h + 56, 0x22, 16);
		put(h + 72, table, 8);
		put(h + 80, 128, 4);
		put(h + 84, 128, 4);
		put(h + 88, crc32(entries.data(), entries.size()), 4);
		put(h + 16, crc32(h, 92), 4);
		write_at(fd, entries.data(), entries.size(), table);
		write_at(fd, h, sizeof(h), own);
	}
	return 0;
}

/*
 * pattern write|check FILE FIRST COUNT SEED
 * Sectors that are different from each other; check compares.
 */
int pattern(const std::string &verb, const char *path, u64 first, u64 count, u64 seed)
{
	bool writing = verb == "write";
	int fd = open_or_die(path, writing ? O_RDWR : O_RDONLY);
	constexpr u64 at_once = 2048;
	Buffer b = aligned(at_once * sector_bytes), want = aligned(sector_bytes);
	for (u64 s = first; s < first + count;) {
		u64 n = first + count - s < at_once ? first + count - s : at_once;
		off_t at = static_cast<off_t>(s * sector_bytes);
		size_t bytes = n * sector_bytes;
		if (writing)
			for (u64 i = 0; i < n; i++)
				make_sector(b.get() + i * sector_bytes, seed, s + i);
		ssize_t done = writing ? pwrite(fd, b.get(), bytes, at) : pread(fd, b.get(), bytes, at);
		if (done != static_cast<ssize_t>(bytes))
			die(verb);
		for (u64 i = 0; i < n && !writing; i++) {
			make_sector(want.get(), seed, s + i);
			if (memcmp(want.get(), b.get() + i * sector_bytes, sector_bytes))
				wrong(std::string(path) + ": sector " + std::to_string(s + i) +
				      " is not what was written");
		}
		s += n;
	}
	if (writing && fsync(fd))
		die("fsync");
	return 0;
}

// zeros FILE FIRST COUNT: these sectors are zeros
int zeros(const char *path, u64 first, u64 count)
{
	int fd = open_or_die(path, O_RDONLY);
	std::vector<u8> s(sector_bytes);
	for (u64 i = first; i < first + count; i++) {
		if (pread(fd, s.data(), sector_bytes, static_cast<off_t>(i * sector_bytes)) !=
		    static_cast<ssize_t>(sector_bytes))
			die(path);
		if (!is_zero(s.data(), sector_bytes))
			wrong(std::string(path) + ": sector " + std::to_string(i) + " is not zero");
	}
	return 0;
}

// peek DEVICE SECTOR: it goes to stdout, read directly over what is not zero
int peek(const char *device, u64 sector)
{
	int fd = open_or_die(device, O_RDONLY | O_DIRECT);
	Buffer b = aligned(4096);
	memset(b.get(), 0xee, 4096);
	if (pread(fd, b.get(), sector_bytes, static_cast<off_t>(sector * sector_bytes)) !=
	    static_cast<ssize_t>(sector_bytes))
		die(device);
	return fwrite(b.get(), sector_bytes, 1, stdout) == 1 ? 0 : 1;
}

// zero DEVICE FIRST COUNT punch|zero: zeros, allocated or not, by ioctl or fallocate
int make_zeros(const char *device, u64 first, u64 count, const std::string &how)
{
	int fd = open_or_die(device, O_RDWR);
	off_t at = static_cast<off_t>(first * sector_bytes), bytes = static_cast<off_t>(count * sector_bytes);
	int mode = how == "punch" ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE : FALLOC_FL_ZERO_RANGE;
	if (fallocate(fd, mode, at, bytes))
		die("fallocate");
	return 0;
}

// A call that a host may forbid: by name, or clone(2) for a thread.
struct Call {
	const char *name;
	u32 number;
	u32 flag; // only with this in the first argument
};

constexpr Call calls_to_forbid[] = {
	{ "io_uring_setup", SYS_io_uring_setup, 0 },
	{ "thread", SYS_clone, CLONE_THREAD },
	{ "sched_setaffinity", SYS_sched_setaffinity, 0 },
	{ "sched_yield", SYS_sched_yield, 0 },
};

// Appends to a filter that such a call fails with that error. `word` is CALL=ERRNO.
void forbid_call(std::vector<sock_filter> &code, const std::string &word)
{
	const size_t equals = word.find('=');
	for (const Call &call : calls_to_forbid) {
		if (word.substr(0, equals) != call.name)
			continue;
		const u32 error = static_cast<u32>(number(word.c_str() + equals + 1));
		const u8 unless = call.flag ? 1 : 0; // the flag is missing
		const std::vector<sock_filter> more = {
			BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
			BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call.number, 0, 3),
			BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[0])),
			BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, call.flag, 0, unless),
			BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		};
		code.insert(code.end(), more.begin(), more.end());
		return;
	}
	wrong(word + " cannot be forbidden");
}

/*
 * forbid CALL=ERRNO... -- COMMAND...
 * Runs it where these calls fail so, as containers do it. Needs no privilege.
 */
int forbid(char **words)
{
	std::vector<sock_filter> code;
	for (; *words && strcmp(*words, "--"); words++)
		forbid_call(code, *words);
	if (!*words || !words[1])
		wrong("forbid: no command");
	code.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
	sock_fprog program{ static_cast<unsigned short>(code.size()), code.data() };
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		die("seccomp");
	execvp(words[1], words + 1);
	die(words[1]);
}

// Answers each fstatfs of the process that has the filter.
[[noreturn]] void answer_nfs(int listener)
{
	for (;;) {
		seccomp_notif asked{};
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &asked)) {
			if (errno != EINTR)
				exit(0); // nobody is left
			continue;
		}
		struct statfs fs {};
		fs.f_type = NFS_SUPER_MAGIC;
		const iovec from{ &fs, sizeof(fs) }, to{ reinterpret_cast<void *>(asked.data.args[1]), sizeof(fs) };
		seccomp_notif_resp answer{ asked.id, 0, 0, 0 };
		if (process_vm_writev(static_cast<pid_t>(asked.pid), &from, 1, &to, 1, 0) != sizeof(fs))
			answer.error = -EFAULT;
		(void)ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
	}
}

/*
 * nfs COMMAND...
 * Runs it where fstatfs says of each file that it lies on NFS. Needs root, as a child
 * takes a descriptor of its parent's.
 */
int pretend_nfs(char **words)
{
	int told[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, told))
		die("socketpair");
	const pid_t parent = getpid();
	const pid_t child = fork();
	if (child < 0)
		die("fork");
	if (!child) {
		int theirs;
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (read(told[0], &theirs, sizeof(theirs)) != sizeof(theirs))
			exit(1);
		const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, parent, 0));
		const int listener = static_cast<int>(syscall(SYS_pidfd_getfd, pidfd, theirs, 0));
		if (listener < 0 || write(told[0], &theirs, sizeof(theirs)) != sizeof(theirs))
			die("pidfd_getfd");
		answer_nfs(listener);
	}
	std::vector<sock_filter> code = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fstatfs, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	sock_fprog program{ static_cast<unsigned short>(code.size()), code.data() };
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		die("prctl");
	const int listener = static_cast<int>(
		syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program));
	if (listener < 0 || write(told[1], &listener, sizeof(listener)) != sizeof(listener))
		die("seccomp");
	int taken; // it is closed by exec
	if (read(told[1], &taken, sizeof(taken)) != sizeof(taken))
		die("a child that answers");
	execvp(words[0], words);
	die(words[0]);
}

/*
 * vectors DEVICE ROUNDS
 * Direct reads and writes of many buffers of some sectors each, at addresses
 * that are multiples of eight bytes and of nothing more, so that pages cut them
 * anywhere. Checked against what memory should hold.
 */
int vectors(const char *device, u64 rounds)
{
	int fd = open_or_die(device, O_RDWR | O_DIRECT);
	constexpr size_t most = 256 << 10, room = 2 << 20;
	Buffer image = aligned(room), scattered = aligned(room), disk = aligned(room);
	if (pwrite(fd, image.get(), room, 0) != static_cast<ssize_t>(room))
		die("write");
	u64 seed = 1;
	auto random = [&](u64 below) { return (seed = mix(seed + 0x9e3779b97f4a7c15ull)) % below; };
	for (u64 round = 0; round < rounds; round++) {
		const size_t bytes = (1 + random(most / sector_bytes)) * sector_bytes;
		const u64 at = random((room - bytes) / sector_bytes + 1) * sector_bytes;
		const bool writing = random(2);
		std::vector<iovec> v;
		u8 *p = scattered.get();
		for (size_t left = bytes; left;) {
			size_t n = (1 + random(random(2) ? 2 : 40)) * sector_bytes;
			n = n < left ? n : left;
			p += random(400) * 8;
			if (p + n > scattered.get() + room)
				wrong("the scratch room is too small");
			v.push_back({ p, n });
			p += n;
			left -= n;
		}
		size_t done = 0;
		for (const iovec &i : v) {
			auto *b = static_cast<u8 *>(i.iov_base);
			for (size_t k = 0; k < i.iov_len; k++)
				b[k] = writing ? static_cast<u8>(random(256)) : 0xaa;
			if (writing)
				memcpy(image.get() + at + done, b, i.iov_len);
			done += i.iov_len;
		}
		ssize_t n = writing ? pwritev(fd, v.data(), static_cast<int>(v.size()), static_cast<off_t>(at))
				    : preadv(fd, v.data(), static_cast<int>(v.size()), static_cast<off_t>(at));
		if (n != static_cast<ssize_t>(bytes))
			die(writing ? "write" : "read");
		done = 0;
		for (const iovec &i : v) {
			if (memcmp(i.iov_base, image.get() + at + done, i.iov_len))
				wrong("round " + std::to_string(round) + ": a buffer holds something else");
			done += i.iov_len;
		}
	}
	if (pread(fd, disk.get(), room, 0) != static_cast<ssize_t>(room))
		die("read");
	if (memcmp(disk.get(), image.get(), room))
		wrong("the disk holds something else");
	return 0;
}

/*
 * storm DEVICE MARKS JOURNAL SEED OPERATIONS FIRST [through]
 * Eight threads write, make zeros, discard and flush on a disk of 64 MiB, each
 * one operation at a time, at overlapping places: some of few, which are soon
 * allocated, and some that move on over the disk, so that there are always
 * sectors that nobody touched before. Each write is of a record of its own, from
 * FIRST on. When an operation has made something durable, a mark says so in the
 * file MARKS ("-": none): the moment at which that was known. `through`: the disk
 * is write-through, so each but a discard does. In the end all goes to the file
 * JOURNAL, with moments that count what began and what ended.
 *
 * Buffers are not touched while they are written from. An operation that fails
 * is noted as such. Prints how many there were, and how many failed.
 */
class Storm {
public:
	Storm(const char *device, const char *marks, u64 seed, u64 operations, u64 first, bool through)
		: fd_(open_or_die(device, O_RDWR | O_DIRECT)),
		  marks_(strcmp(marks, "-") ? open_or_die(marks, O_WRONLY) : -1), seed_(seed), operations_(operations),
		  through_(through), next_record_(first)
	{
	}

	int run(const char *journal)
	{
		std::vector<std::thread> threads;
		for (u64 t = 0; t < thread_count; t++)
			threads.emplace_back([this, t] { work(t); });
		for (std::thread &t : threads)
			t.join();
		// What was last done by each is promised, too.
		Worker last{ {}, seed_, aligned(most_sectors * sector_bytes) };
		perform(last, Act{ flush, false, 0, 0, 0, 0, 0 });
		worker_[0].acts.push_back(last.acts[0]);
		return write_journal(journal);
	}

private:
	enum Kind { write, fua, zeroes, discard, flush };
	static constexpr const char *names[] = { "write", "fua", "zeroes", "discard", "flush" };
	static constexpr u64 thread_count = 8, most_sectors = 64;
	static constexpr u64 disk_sectors = 131072, bitmap_block = 32768;

	struct Act {
		Kind kind;
		bool ok;
		u64 record, sector, count, begin, end;
	};
	struct Worker {
		std::vector<Act> acts;
		u64 random;
		Buffer buffer;

		u64 below(u64 n) { return (random = mix(random + 0x9e3779b97f4a7c15ull)) % n; }
	};

	void work(u64 t)
	{
		Worker &w = worker_[t];
		w.random = mix(seed_ * 1000 + t);
		w.buffer = aligned(most_sectors * sector_bytes);
		for (u64 done; (done = done_++) < operations_;)
			perform(w, choose(w, done));
	}

	Act choose(Worker &w, u64 done)
	{
		// A hundred each: as said above, with few flushes, at old places only.
		const u64 phase = done / 100 % 3;
		const u64 dice = w.below(phase == 1 ? 87 : 100);
		Act a{ write, false, 0, 0, 0, 0, 0 };
		a.kind = dice < 66   ? write
			 : dice < 72 ? (phase == 1 ? write : fua)
			 : dice < 80 ? zeroes
			 : dice < 86 ? discard
				     : flush;
		a.count = 1 + w.below(phase == 2 ? 8 : 1 + w.below(w.below(8) ? 16 : most_sectors));
		const u64 block = w.below(4) * bitmap_block;
		if (phase < 2 && w.below(3)) // moves on
			a.sector = block + 5000 + done * 4096 / operations_ + w.below(48);
		else // across the end of a unit, or of a block, of the bitmap
			a.sector = block + (w.below(2) ? bitmap_block - 40 : 4070) + w.below(36);
		a.sector = std::min(a.sector, disk_sectors - a.count);
		return a;
	}

	void perform(Worker &w, Act a)
	{
		if (a.kind == write || a.kind == fua) {
			a.record = next_record_++;
			for (u64 i = 0; i < a.count; i++)
				make_sector(w.buffer.get() + i * sector_bytes, a.record, a.sector + i);
		}
		a.begin = moment_++;
		a.ok = carry_out(w, a);
		a.end = moment_++;
		w.acts.push_back(a);
		if (a.ok && is_durable(a))
			mark();
	}

	bool is_durable(const Act &a) const
	{
		return a.kind == fua || a.kind == flush || (through_ && a.kind != discard);
	}

	bool carry_out(Worker &w, const Act &a)
	{
		const size_t bytes = a.count * sector_bytes;
		const auto at = static_cast<off_t>(a.sector * sector_bytes);
		u64 range[2] = { a.sector * sector_bytes, bytes };
		iovec v{ w.buffer.get(), bytes };
		switch (a.kind) {
		case write:
		case fua:
			return pwritev2(fd_, &v, 1, at, a.kind == fua ? RWF_DSYNC : 0) == static_cast<ssize_t>(bytes);
		case zeroes:
			return !fallocate(
				fd_, w.below(2) ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE : FALLOC_FL_ZERO_RANGE, at,
				static_cast<off_t>(bytes));
		case discard:
			return !ioctl(fd_, BLKDISCARD, range);
		default:
			return !fdatasync(fd_);
		}
	}

	void mark()
	{
		const std::string text = "mark " + std::to_string(moment_++);
		if (marks_ >= 0 && ::write(marks_, text.data(), text.size()) != static_cast<ssize_t>(text.size()))
			die("mark");
	}

	int write_journal(const char *path)
	{
		u64 acts = 0, failed = 0;
		FILE *f = fopen(path, "we");
		if (!f)
			die(path);
		fprintf(f, "threads %llu\n", static_cast<unsigned long long>(thread_count));
		for (const Worker &w : worker_)
			for (const Act &a : w.acts) {
				const u64 fields[] = {
					a.record, a.sector, a.count, a.begin, a.end, a.ok, is_durable(a)
				};
				fputs(names[a.kind], f);
				for (u64 n : fields)
					fprintf(f, " %llu", static_cast<unsigned long long>(n));
				fputc('\n', f);
				acts++;
				failed += !a.ok;
			}
		if (fclose(f))
			die(path);
		printf("storm: %llu operations, %llu failed\n", static_cast<unsigned long long>(acts),
		       static_cast<unsigned long long>(failed));
		return 0;
	}

	const int fd_, marks_;
	const u64 seed_, operations_;
	const bool through_;
	std::atomic<u64> next_record_, moment_{ 1 }, done_{ 0 };
	Worker worker_[thread_count];
};

// Parts of a device that are in use: a part is changed by one, or read by many.
class Parts {
public:
	class Hold {
	public:
		Hold(Parts &parts, u64 first, u64 count, bool alone) : parts_(parts), part_{ first, count, alone }
		{
			std::unique_lock lock(parts_.mutex_);
			parts_.freed_.wait(lock, [&] { return parts_.is_free(part_); });
			parts_.used_.push_back(part_);
		}
		~Hold()
		{
			std::lock_guard lock(parts_.mutex_);
			parts_.used_.erase(std::find(parts_.used_.begin(), parts_.used_.end(), part_));
			parts_.freed_.notify_all();
		}
		Hold(const Hold &) = delete;
		Hold &operator=(const Hold &) = delete;

	private:
		struct Part {
			u64 first, count;
			bool alone;
			bool operator==(const Part &) const = default;
		};
		friend class Parts;
		Parts &parts_;
		const Part part_;
	};

private:
	bool is_free(const Hold::Part &p) const
	{
		return std::none_of(used_.begin(), used_.end(), [&](const Hold::Part &u) {
			return (u.alone || p.alone) && u.first < p.first + p.count && p.first < u.first + u.count;
		});
	}

	std::mutex mutex_;
	std::condition_variable freed_;
	std::vector<Hold::Part> used_;
};

/*
 * model DEVICE FILE OPERATIONS THREADS ALIGNMENT SEED [changes] [errors] [count]
 *
 * Random direct reads of 512 bytes to 256 KiB, several at a time, from the
 * device; each has to be what the file (on the host) has there. Buffers begin at
 * multiples of ALIGNMENT.
 *	changes	half of the operations are writes, zeroes, discards and flushes;
 *		in the end the file gets what the device then has to hold
 *	count	wrong sectors are counted, and fail nothing
 *	errors	operations may fail
 *
 * After a write that failed each sector has its old content or its new one, after
 * a discard its old one or zeros, and keeps that.
 *
 */
class ModelTest {
public:
	ModelTest(const char *device, const char *file);

	bool changes = false, errors = false, count = false;
	u64 alignment = sector_bytes;

	int run(u64 operations, u64 threads, u64 seed);

private:
	enum Kind { reads, writes, zeroes, discards, flushes, kinds };
	static constexpr u64 most_sectors = 512;
	static constexpr size_t buffer_bytes = most_sectors * sector_bytes + (64 << 10);

	struct Part {
		u64 first, count; // sectors
		size_t bytes() const { return count * sector_bytes; }
		off_t at() const { return static_cast<off_t>(first * sector_bytes); }
	};

	// One thread.
	struct Worker {
		explicit Worker(u64 seed) : state(mix(seed)), scattered(aligned(buffer_bytes)) {}
		u64 random(u64 below) { return (state = mix(state + 0x9e3779b97f4a7c15ull)) % below; }
		u64 state;
		Buffer scattered; // what the device reads and writes
		std::vector<u8> straight = std::vector<u8>(most_sectors * sector_bytes); // as it was read
		std::vector<u8> wanted = std::vector<u8>(most_sectors * sector_bytes);
		u64 done[kinds] = {}, failed = 0, wrong_reads = 0, wrong_sectors = 0, read_sectors = 0;
	};

	u8 *content(u64 sector) { return content_.data() + sector * sector_bytes; }
	void work(Worker &w, u64 operations);
	void one(Worker &w);
	Part part(Worker &w) const;
	std::vector<iovec> scatter(Worker &w, size_t bytes) const;
	bool read(Worker &w, Part p);
	bool write(Worker &w, Part p);
	bool make_zeros(Worker &w, Part p);
	bool discard(Part p);
	void expect(Worker &w, Part p);
	bool ended(Worker &w, bool ok);
	void changed(Worker &w, Part p, bool surely);
	void read_surely(Worker &w, Part p);
	void whole(Worker &w);

	const std::string device_, file_;
	const int fd_;
	u64 sectors_ = 0;
	Parts parts_;
	std::vector<u8> content_;
};

ModelTest::ModelTest(const char *device, const char *file)
	: device_(device), file_(file), fd_(open_or_die(device, O_RDWR | O_DIRECT))
{
	int from = open_or_die(file, O_RDONLY);
	const u64 bytes = static_cast<u64>(lseek(from, 0, SEEK_END));
	if (static_cast<u64>(lseek(fd_, 0, SEEK_END)) != bytes)
		wrong(device_ + " and " + file_ + " are not of one size");
	sectors_ = bytes / sector_bytes;
	content_.resize(bytes);
	for (u64 at = 0; at < bytes;) {
		ssize_t n = pread(from, content_.data() + at, bytes - at, static_cast<off_t>(at));
		if (n <= 0)
			die(file);
		at += static_cast<u64>(n);
	}
	close(from);
}

int ModelTest::run(u64 operations, u64 threads, u64 seed)
{
	std::vector<Worker> workers;
	std::vector<std::thread> running;
	for (u64 i = 0; i < threads; i++)
		workers.emplace_back(seed * 1000 + i);
	for (Worker &w : workers)
		running.emplace_back([this, &w, n = operations / threads] { work(w, n); });
	for (std::thread &t : running)
		t.join();
	if (changes)
		whole(workers[0]);
	Worker sum(0);
	for (const Worker &w : workers) {
		for (int k = 0; k < kinds; k++)
			sum.done[k] += w.done[k];
		sum.failed += w.failed;
		sum.wrong_reads += w.wrong_reads;
		sum.wrong_sectors += w.wrong_sectors;
		sum.read_sectors += w.read_sectors;
	}
	auto n = [](u64 v) { return static_cast<unsigned long long>(v); };
	if (changes)
		printf("%llu writes, %llu zeroes, %llu discards, %llu flushes, %llu failed; ", n(sum.done[writes]),
		       n(sum.done[zeroes]), n(sum.done[discards]), n(sum.done[flushes]), n(sum.failed));
	printf("%llu of %llu reads wrong, %llu of %llu sectors\n", n(sum.wrong_reads), n(sum.done[reads]),
	       n(sum.wrong_sectors), n(sum.read_sectors));
	return 0;
}

void ModelTest::work(Worker &w, u64 operations)
{
	for (u64 i = 0; i < operations; i++)
		one(w);
}

void ModelTest::one(Worker &w)
{
	const Part p = part(w);
	const u64 dice = changes ? w.random(100) : 0;
	const Kind kind = dice < 50 ? reads : dice < 80 ? writes : dice < 88 ? zeroes : dice < 94 ? discards : flushes;
	w.done[kind]++;
	if (kind == flushes) {
		ended(w, !fdatasync(fd_));
		return;
	}
	Parts::Hold hold(parts_, p.first, p.count, kind != reads);
	bool ok;
	switch (kind) {
	case reads:
		if (ended(w, read(w, p)))
			expect(w, p);
		return;
	case writes:
		for (size_t i = 0; i < p.bytes(); i += 8) {
			const u64 word = w.random(~0ull);
			memcpy(w.wanted.data() + i, &word, 8);
		}
		ok = ended(w, write(w, p));
		break;
	case zeroes:
		std::fill(w.wanted.begin(), w.wanted.end(), u8{ 0 });
		ok = ended(w, make_zeros(w, p));
		break;
	default:
		std::fill(w.wanted.begin(), w.wanted.end(), u8{ 0 });
		ended(w, discard(p));
		ok = false;
		break;
	}
	changed(w, p, ok);
}

// Short ones are as frequent as long ones.
ModelTest::Part ModelTest::part(Worker &w) const
{
	const u64 n = 1 + w.random(std::min(sectors_, w.random(2) ? most_sectors : 24));
	return { w.random(sectors_ - n + 1), n };
}

// Up to four buffers, with gaps between them.
std::vector<iovec> ModelTest::scatter(Worker &w, size_t bytes) const
{
	std::vector<iovec> v;
	u8 *p = w.scattered.get();
	for (size_t left = bytes; left;) {
		const size_t sectors = left / sector_bytes;
		const size_t n = v.size() == 3 ? left : (1 + w.random(sectors)) * sector_bytes;
		p += w.random((8 << 10) / alignment) * alignment;
		v.push_back({ p, n });
		p += n;
		left -= n;
	}
	return v;
}

// What was read is in w.straight then.
bool ModelTest::read(Worker &w, Part p)
{
	const std::vector<iovec> v = scatter(w, p.bytes());
	for (const iovec &i : v)
		memset(i.iov_base, 0xaa, i.iov_len);
	const ssize_t n = preadv(fd_, v.data(), static_cast<int>(v.size()), p.at());
	u8 *to = w.straight.data();
	for (const iovec &i : v)
		to = std::copy_n(static_cast<u8 *>(i.iov_base), i.iov_len, to);
	return n == static_cast<ssize_t>(p.bytes());
}

bool ModelTest::write(Worker &w, Part p)
{
	const std::vector<iovec> v = scatter(w, p.bytes());
	const u8 *from = w.wanted.data();
	for (const iovec &i : v) {
		std::copy_n(from, i.iov_len, static_cast<u8 *>(i.iov_base));
		from += i.iov_len;
	}
	const int flags = w.random(16) ? 0 : RWF_DSYNC;
	return pwritev2(fd_, v.data(), static_cast<int>(v.size()), p.at(), flags) == static_cast<ssize_t>(p.bytes());
}

bool ModelTest::make_zeros(Worker &w, Part p)
{
	const int mode = w.random(2) ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE : FALLOC_FL_ZERO_RANGE;
	return !fallocate(fd_, mode, p.at(), static_cast<off_t>(p.bytes()));
}

bool ModelTest::discard(Part p)
{
	u64 range[2] = { static_cast<u64>(p.at()), p.bytes() };
	return !ioctl(fd_, BLKDISCARD, range);
}

// Compares what was read.
void ModelTest::expect(Worker &w, Part p)
{
	u64 bad = 0;
	w.read_sectors += p.count;
	for (u64 i = 0; i < p.count; i++) {
		const u64 s = p.first + i;
		const u8 *got = w.straight.data() + i * sector_bytes;
		if (!memcmp(got, content(s), sector_bytes))
			continue;
		if (!count)
			wrong(device_ + ": sector " + std::to_string(s) + ", read with " + std::to_string(p.count) +
			      " from " + std::to_string(p.first) + " on, is not what the model has");
		bad++;
	}
	w.wrong_sectors += bad;
	w.wrong_reads += bad != 0;
}

// True if the operation ended well; without `errors` it has to.
bool ModelTest::ended(Worker &w, bool ok)
{
	w.failed += !ok;
	if (!ok && !errors)
		die(device_);
	return ok;
}

// The model follows: each sector has what was wanted, or, if that is not sure, as
// it is seen, this or what it had.
void ModelTest::changed(Worker &w, Part p, bool surely)
{
	if (!surely)
		read_surely(w, p);
	for (u64 i = 0; i < p.count; i++) {
		const u8 *wanted = w.wanted.data() + i * sector_bytes;
		if (surely || !memcmp(wanted, w.straight.data() + i * sector_bytes, sector_bytes))
			std::copy_n(wanted, sector_bytes, content(p.first + i));
	}
	if (!surely)
		expect(w, p);
}

void ModelTest::read_surely(Worker &w, Part p)
{
	for (u64 tries = 0; !ended(w, read(w, p)); tries++)
		if (tries == 1000)
			die(device_);
}

// All of the device, compared once more; the file gets it.
void ModelTest::whole(Worker &w)
{
	int to = open_or_die(file_.c_str(), O_WRONLY);
	for (u64 first = 0; first < sectors_; first += most_sectors) {
		const Part p{ first, std::min(most_sectors, sectors_ - first) };
		read_surely(w, p);
		expect(w, p);
		if (pwrite(to, content(first), p.bytes(), p.at()) != static_cast<ssize_t>(p.bytes()))
			die(file_);
	}
	close(to);
}

int model(int words, char **word)
{
	ModelTest test(word[0], word[1]);
	test.alignment = number(word[4]);
	for (int i = 6; i < words; i++) {
		const std::string option = word[i];
		if (option == "changes")
			test.changes = true;
		else if (option == "errors")
			test.errors = true;
		else if (option == "count")
			test.count = true;
		else
			wrong("unknown option: " + option);
	}
	return test.run(number(word[2]), number(word[3]), number(word[5]));
}

// power off|restart: at once, as poweroff -f and reboot -f do it
int power(const std::string &how)
{
	long n = syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2,
			 how == "restart" ? LINUX_REBOOT_CMD_RESTART : LINUX_REBOOT_CMD_POWER_OFF, nullptr);
	return n ? 1 : 0;
}

// HOW=FILE=PLACE=NAME
int stream_of(const std::string &word)
{
	std::vector<std::string> parts{ "" };
	for (char c : word) {
		if (c == '=')
			parts.emplace_back();
		else
			parts.back() += c;
	}
	if (parts.size() != 4)
		wrong(word + " is no stream");
	return stream(parts[0], parts[1].c_str(), number(parts[2].c_str()), parts[3].c_str());
}

/*
 * streams MODULE[:PARAMETER]...|- HOW=FILE=PLACE=NAME... end
 * As the first process of a guest, which is there much sooner without a shell:
 * loads the module, and is a process for each of these streams. (Behind the end
 * come words of UML's.)
 */
int streams(const std::string &module, int count, char **words)
{
	if (mount("devtmpfs", "/dev", "devtmpfs", 0, nullptr))
		die("/dev");
	const size_t colon = module.find(':');
	const std::string path = module.substr(0, colon);
	std::string parameters = colon == std::string::npos ? "" : module.substr(colon + 1);
	std::replace(parameters.begin(), parameters.end(), ':', ' ');
	if (module != "-" && syscall(SYS_finit_module, open_or_die(path.c_str(), O_RDONLY), parameters.c_str(), 0))
		die(module);
	for (int i = 0; i < count && strcmp(words[i], "end"); i++) {
		const pid_t child = fork();
		if (child < 0)
			die("fork");
		if (!child)
			exit(stream_of(words[i]));
	}
	// They go on for ever, unless something is wrong.
	wait(nullptr);
	fprintf(stderr, "tool: a stream has ended\n");
	return power("off");
}

// write-errno FILE TEXT: writes it as a line, by one call, and prints the errno's name,
// or 0.
int write_errno(const char *file, const char *text)
{
	const std::string line = std::string(text) + "\n";
	const int fd = open_or_die(file, O_WRONLY);
	const ssize_t n = write(fd, line.data(), line.size());
	puts(n < 0 ? strerrorname_np(errno) : "0");
	return 0;
}

/*
 * starve mkdir DIR, starve write FILE
 * Makes the directory, or writes 1 to the file, again and again, each time with another
 * one of the allocations of memory failing that it takes, until all did (fail-nth of the
 * debug kernel). The log has a line before each try, and one after it: with the errno's
 * name, or 0; then it is undone, by rmdir or by writing 0.
 */
int starve(const std::string &what, const char *path)
{
	const bool writes = what == "write";
	const int fd = writes ? open_or_die(path, O_WRONLY) : -1;
	const int nth = open_or_die("/proc/thread-self/fail-nth", O_RDWR), log = open_or_die("/dev/kmsg", O_WRONLY);
	char left[16] = "0";
	auto put = [](int to, const std::string &text) {
		if (pwrite(to, text.data(), text.size(), 0) < 0 && write(to, text.data(), text.size()) < 0)
			die(text);
	};
	for (u64 n = 1; left[0] == '0'; n++) {
		const std::string name = "starved: " + what + " " + std::to_string(n);
		put(log, name);
		put(nth, std::to_string(n));
		const long result = writes ? pwrite(fd, "1", 1, 0) : mkdir(path, 0755);
		const int error = errno;
		if (pread(nth, left, sizeof(left), 0) <= 0)
			die("fail-nth");
		put(nth, "0");
		put(log, name + ": " + (result < 0 ? strerrorname_np(error) : "0"));
		if (result >= 0 && (writes ? pwrite(fd, "0", 1, 0) : rmdir(path)) < 0)
			die(path);
	}
	return 0;
}

/*
 * uevents FILE: writes what the kernel tells its listeners, a line for each event, with
 * blanks between its parts. The file is there as soon as nothing is missed. Never ends.
 */
int uevents(const char *path)
{
	sockaddr_nl all{};
	all.nl_family = AF_NETLINK;
	all.nl_groups = 1;
	const int from = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT);
	if (from < 0 || bind(from, reinterpret_cast<sockaddr *>(&all), sizeof(all)))
		die("cannot listen to the kernel's events");
	const int to = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (to < 0)
		die(path);
	for (;;) {
		char text[4096];
		const ssize_t n = recv(from, text, sizeof(text), 0);
		if (n <= 0)
			die("recv");
		std::replace(text, text + n, '\0', ' ');
		text[n - 1] = '\n';
		if (write(to, text, static_cast<size_t>(n)) != n)
			die(path);
	}
}

int run(int argc, char **argv)
{
	std::string verb = argc > 1 ? argv[1] : "";
	if (verb == "records" && argc >= 5 && strcmp(argv[2], "verify"))
		return write_records(argv[3], argv[4], argc > 5 ? number(argv[5]) : ~0ull, !strcmp(argv[2], "write"));
	if (verb == "records" && argc == 5 && !strcmp(argv[2], "verify"))
		return verify_records(argv[3], number(argv[4]));
	if (verb == "stream" && argc == 6)
		return stream(argv[2], argv[3], number(argv[4]), argv[5]);
	if (verb == "streams" && argc >= 4)
		return streams(argv[2], argc - 3, argv + 3);
	if (verb == "hog" && argc == 4)
		return hog(number(argv[2]), number(argv[3]));
	if (verb == "hogs" && argc == 5)
		return hogs(number(argv[2]), number(argv[3]), number(argv[4]));
	if (verb == "refill" && argc == 4)
		return refill(number(argv[2]), number(argv[3]));
	if (verb == "syncs" && argc == 5)
		return syncs(argv[2], number(argv[3]), !strcmp(argv[4], "fua"));
	if (verb == "lock-wait" && argc == 4)
		return lock_wait(argv[2], number(argv[3]));
	if (verb == "lock-hold" && argc == 4)
		return lock_hold(argv[2], argv[3]);
	if (verb == "lock-hold-odd" && argc == 4)
		return lock_hold_odd(argv[2], argv[3]);
	if (verb == "lock-inherit" && argc == 4)
		return lock_inherit(argv[2], argv[3]);
	if (verb == "kill-at-signal" && argc == 4)
		return kill_at_signal(static_cast<pid_t>(number(argv[2])), static_cast<pid_t>(number(argv[3])));
	if (verb == "lock-hide" && argc == 4)
		return lock_hide(argv[2], argv[3]);
	if (verb == "identity" && argc == 3)
		return identity(argv[2]);
	if (verb == "mbr" && argc == 3)
		return write_mbr(argv[2]);
	if (verb == "gpt" && argc == 4)
		return write_gpt(argv[2], number(argv[3]));
	if (verb == "pattern" && argc == 7)
		return pattern(argv[2], argv[3], number(argv[4]), number(argv[5]), number(argv[6]));
	if (verb == "zeros" && argc == 5)
		return zeros(argv[2], number(argv[3]), number(argv[4]));
	if (verb == "peek" && argc == 4)
		return peek(argv[2], number(argv[3]));
	if (verb == "zero" && argc == 6)
		return make_zeros(argv[2], number(argv[3]), number(argv[4]), argv[5]);
	if (verb == "has-io-uring" && argc == 2) {
		io_uring_params p{};
		return syscall(SYS_io_uring_setup, 1, &p) < 0;
	}
	if (verb == "vectors" && argc == 4)
		return vectors(argv[2], number(argv[3]));
	if (verb == "model" && argc >= 8)
		return model(argc - 2, argv + 2);
	if (verb == "nfs" && argc >= 3)
		return pretend_nfs(argv + 2);
	if (verb == "forbid" && argc >= 5)
		return forbid(argv + 2);
	if (verb == "storm" && (argc == 8 || (argc == 9 && !strcmp(argv[8], "through"))))
		return Storm(argv[2], argv[3], number(argv[5]), number(argv[6]), number(argv[7]), argc == 9)
			.run(argv[4]);
	if (verb == "write-errno" && argc == 4)
		return write_errno(argv[2], argv[3]);
	if (verb == "starve" && argc == 4)
		return starve(argv[2], argv[3]);
	if (verb == "uevents" && argc == 3)
		return uevents(argv[2]);
	if (verb == "power" && argc == 3)
		return power(argv[2]);
	wrong("unknown command: " + verb);
}

} // namespace

int main(int argc, char **argv)
{
	return run(argc, argv);
}
