// SPDX-License-Identifier: GPL-2.0-only
/*
 * A file system that forgets, as a host whose power fails: what was not made
 * durable is lost. For tests;
 *
 *	forgetful DIRECTORY MOUNTPOINT [SEED [MS]]
 *
 * DIRECTORY is the disk: what its regular files hold is what is durable. At
 * MOUNTPOINT they are seen with what was done to them since, which is only in
 * this program's memory until it is synced:
 *	content		by sectors of 512 bytes: fsync or fdatasync of the file, or
 *			a write that asks for it (O_DSYNC, RWF_DSYNC)
 *	length		the same when it grows; at once when it shrinks
 *	mtime		fsync of the file; fdatasync if the length has changed
 *	names		made, linked, removed, renamed: fsync of the directory. The
 *			order is kept, as by a journal. (With ext4 an fsync of a new
 *			file is enough; that is nothing to rely on.)
 *	owner, mode	at once
 * When the power fails all else is lost. With a SEED other than 0 it is lost by
 * chance, as a disk may have got any of it by then: each sector, length and mtime
 * for itself; the changes of names from one of them on. A truncate changes length
 * and mtime at once, and no later mtime is there without it: ext4, XFS and btrfs
 * write an inode as a whole, in their order. A sector that is written
 * again before it is synced may have become durable with what it held before.
 *
 * An fsync takes MS milliseconds; only then is anything durable by it.
 *
 * What DIRECTORY's own host does is another matter: it does not crash here.
 *
 * One writes to the file .power:
 *	off		The power fails. Nothing is answered any more; SIGTERM ends
 *			the program, and all that still waits for an answer.
 *	off-at-sync F	The same when an fsync or fdatasync of the file F comes next,
 *			or after a second.
 *	off-after N	It fails after N more calls that change or sync something;
 *			from then on each call ends with EIO.
 *	hold		An fsync or fdatasync of a file hangs.
 *	pass		It does not; those that hang do so still.
 *	release		They are done, too.
 * and reads what is unsynced, what hangs and what was done there.
 *
 * There is one thread, so calls are done one after the other, each at once. The
 * host's kernel caches no writes here (no FUSE_CAP_WRITEBACK_CACHE): each comes
 * as it was made. Locks are the kernel's own.
 */
#define FUSE_USE_VERSION 35
#include <fuse_lowlevel.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <dirent.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

namespace
{

using u8 = uint8_t;
using u64 = uint64_t;

constexpr u64 sector_bytes = 512;
constexpr u64 never_ms = ~0ull;
// The disk's own calls fail only where the test's host is at fault.
constexpr int status_broken = 1;
constexpr int status_no_mount = 77;

[[noreturn]] void die(const std::string &what)
{
	fprintf(stderr, "forgetful: %s: %s\n", what.c_str(), strerror(errno));
	exit(status_broken);
}

void must(long result, const char *what)
{
	if (result < 0)
		die(what);
}

// What happens by chance; never, with the seed 0.
class Chance {
public:
	explicit Chance(u64 seed) : state_(seed), never_(!seed)
	{
		// Some crashes lose little, some nearly all.
		static constexpr unsigned percents[] = { 10, 50, 50, 90 };
		percent_ = percents[below(4)];
	}
	bool happens() { return !never_ && below(100) < percent_; }
	u64 below(u64 end)
	{
		u64 x = state_ += 0x9e3779b97f4a7c15ull;
		x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
		x = (x ^ x >> 27) * 0x94d049bb133111ebull;
		return (x ^ x >> 31) % end;
	}
	u64 some_of(u64 all) { return never_ ? 0 : below(all + 1); }

private:
	u64 state_;
	bool never_;
	unsigned percent_;
};

// Without bytes: zeros, and no space.
using Sector = std::unique_ptr<std::array<u8, sector_bytes>>;
using Sectors = std::map<u64, Sector>;

timespec now()
{
	timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return t;
}

class File {
public:
	explicit File(int fd) : fd_(fd)
	{
		struct stat st;
		must(fstat(fd, &st), "fstat");
		size_ = durable_size_ = static_cast<u64>(st.st_size);
		mtime_ = durable_mtime_ = st.st_mtim;
	}
	File(const File &) = delete;
	~File() { close(fd_); }

	int fd() const { return fd_; }
	u64 size() const { return size_; }
	size_t unsynced() const { return unsynced_.size(); }
	void set_mtime(timespec t) { mtime_ = t; }

	void look(struct stat &st) const
	{
		must(fstat(fd_, &st), "fstat");
		st.st_size = static_cast<off_t>(size_);
		st.st_mtim = mtime_;
	}
	std::vector<u8> read(u64 at, u64 bytes) const;
	void write(const u8 *from, u64 at, u64 bytes, Chance &chance);
	void zero(u64 at, u64 bytes, Chance &chance);
	void resize(u64 size);
	void grow_to(u64 size)
	{
		if (size > size_)
			size_ = size;
	}
	void sync(bool datasync);
	void sync_range(u64 at, u64 bytes);
	void lose(Chance &chance, u64 &lost, u64 &all);
	off_t seek(u64 at, int whence) const;

private:
	void put(u64 sector, Sector content, Chance &chance);
	void make_durable(Sectors::iterator from, Sectors::iterator end);
	void write_run(Sectors::iterator &from, Sectors::iterator end);
	u64 data_at(u64 at) const;
	u64 hole_at(u64 at) const;

	const int fd_;
	u64 size_;
	u64 durable_size_;
	timespec mtime_;
	timespec durable_mtime_;
	bool truncated_ = false; // its length was set, and is not durable
	timespec truncate_mtime_{};
	Sectors unsynced_;
};

std::vector<u8> File::read(u64 at, u64 bytes) const
{
	if (at >= size_)
		return {};
	std::vector<u8> to(std::min(bytes, size_ - at));
	// What was not durable when the file was cut is not there; what lies
	// behind its durable end are zeros.
	must(pread(fd_, to.data(), to.size(), static_cast<off_t>(at)), "pread");
	const u64 end = at + to.size();
	for (auto i = unsynced_.lower_bound(at / sector_bytes); i != unsynced_.end(); ++i) {
		const u64 begin = i->first * sector_bytes;
		if (begin >= end)
			break;
		const u64 from = std::max(begin, at), n = std::min(begin + sector_bytes, end) - from;
		if (i->second)
			memcpy(&to[from - at], i->second->data() + (from - begin), n);
		else
			memset(&to[from - at], 0, n);
	}
	return to;
}

void File::put(u64 sector, Sector content, Chance &chance)
{
	auto [i, fresh] = unsynced_.try_emplace(sector);
	if (!fresh && (sector + 1) * sector_bytes <= durable_size_ && chance.happens())
		make_durable(i, std::next(i)); // the disk got it by itself
	i->second = std::move(content);
}

void File::write(const u8 *from, u64 at, u64 bytes, Chance &chance)
{
	const u64 end = at + bytes;
	for (u64 sector = at / sector_bytes; sector * sector_bytes < end; sector++) {
		const u64 begin = sector * sector_bytes;
		const u64 first = std::max(begin, at), n = std::min(begin + sector_bytes, end) - first;
		auto content = std::make_unique<std::array<u8, sector_bytes>>();
		if (n < sector_bytes) {
			const std::vector<u8> old = read(begin, sector_bytes);
			std::copy(old.begin(), old.end(), content->begin());
		}
		memcpy(content->data() + (first - begin), from + (first - at), n);
		put(sector, std::move(content), chance);
	}
	grow_to(end);
	mtime_ = now();
}

void File::zero(u64 at, u64 bytes, Chance &chance)
{
	static constexpr std::array<u8, sector_bytes> zeros{};
	const u64 end = std::min(at + bytes, size_);
	while (at < end) {
		const u64 n = std::min(sector_bytes - at % sector_bytes, end - at);
		if (n == sector_bytes)
			put(at / sector_bytes, nullptr, chance);
		else
			write(zeros.data(), at, n, chance);
		at += n;
	}
	mtime_ = now();
}

void File::resize(u64 size)
{
	if (size < size_) {
		unsynced_.erase(unsynced_.lower_bound((size + sector_bytes - 1) / sector_bytes), unsynced_.end());
		if (size < durable_size_) {
			must(ftruncate(fd_, static_cast<off_t>(size)), "ftruncate");
			durable_size_ = size;
		}
		// What is grown again later reads as zeros.
		auto last = unsynced_.find(size / sector_bytes);
		if (last != unsynced_.end() && last->second)
			std::fill(last->second->begin() + size % sector_bytes, last->second->end(), 0);
	}
	size_ = size;
	mtime_ = truncate_mtime_ = now();
	truncated_ = true;
}

// A run of sectors of one kind.
void File::write_run(Sectors::iterator &from, Sectors::iterator end)
{
	std::vector<u8> bytes;
	const u64 first = from->first;
	const bool zeros = !from->second;
	u64 next = first;
	for (; from != end && from->first == next && !from->second == zeros; ++from, ++next)
		if (!zeros)
			bytes.insert(bytes.end(), from->second->begin(), from->second->end());
	const u64 at = first * sector_bytes;
	const u64 n = std::min(next * sector_bytes, size_) - at;
	if (zeros)
		must(fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(at),
			       static_cast<off_t>(n)),
		     "fallocate");
	else if (pwrite(fd_, bytes.data(), n, static_cast<off_t>(at)) != static_cast<ssize_t>(n))
		die("pwrite");
}

void File::make_durable(Sectors::iterator from, Sectors::iterator end)
{
	while (from != end)
		write_run(from, end);
	const timespec times[2] = { { 0, UTIME_OMIT }, durable_mtime_ };
	must(futimens(fd_, times), "futimens");
}

void File::sync_range(u64 at, u64 bytes)
{
	auto from = unsynced_.lower_bound(at / sector_bytes);
	auto end = unsynced_.lower_bound((at + bytes + sector_bytes - 1) / sector_bytes);
	if (size_ != durable_size_)
		durable_mtime_ = mtime_;
	durable_size_ = size_;
	truncated_ = false;
	must(ftruncate(fd_, static_cast<off_t>(size_)), "ftruncate");
	make_durable(from, end);
	unsynced_.erase(from, end);
}

void File::sync(bool datasync)
{
	if (!datasync)
		durable_mtime_ = mtime_;
	sync_range(0, ~0ull - sector_bytes);
}

void File::lose(Chance &chance, u64 &lost, u64 &all)
{
	all += unsynced_.size();
	u64 end = durable_size_;
	for (auto i = unsynced_.begin(); i != unsynced_.end();) {
		if (!chance.happens()) {
			i = unsynced_.erase(i);
			lost++;
			continue;
		}
		end = std::max(end, std::min((i->first + 1) * sector_bytes, size_));
		++i;
	}
	const bool length_stays = chance.happens();
	const bool time_stays = chance.happens();
	if (!length_stays)
		size_ = end;
	if (truncated_ && length_stays)
		durable_mtime_ = truncate_mtime_;
	if (time_stays && (length_stays || !truncated_))
		durable_mtime_ = mtime_;
	const timespec mtime = durable_mtime_;
	sync(true);
	durable_mtime_ = mtime;
	make_durable(unsynced_.end(), unsynced_.end());
}

// What is on the disk is data, even where zeros are to replace it.
u64 File::data_at(u64 at) const
{
	const off_t there = lseek(fd_, static_cast<off_t>(at), SEEK_DATA);
	u64 data = there < 0 ? size_ : static_cast<u64>(there);
	for (auto i = unsynced_.lower_bound(at / sector_bytes); i != unsynced_.end() && i->first * sector_bytes < data;
	     ++i)
		if (i->second)
			return std::max(i->first * sector_bytes, at);
	return std::min(data, size_);
}

u64 File::hole_at(u64 at) const
{
	for (u64 before = ~0ull; at != before && at < size_;) {
		before = at;
		const off_t there = lseek(fd_, static_cast<off_t>(at), SEEK_HOLE);
		if (there >= 0)
			at = static_cast<u64>(there);
		for (auto i = unsynced_.find(at / sector_bytes);
		     i != unsynced_.end() && i->first == at / sector_bytes && i->second; ++i)
			at = (i->first + 1) * sector_bytes;
	}
	return std::min(at, size_);
}

off_t File::seek(u64 at, int whence) const
{
	if (at >= size_)
		return -1;
	const u64 found = whence == SEEK_DATA ? data_at(at) : hole_at(at);
	return whence == SEEK_DATA && found == size_ ? -1 : static_cast<off_t>(found);
}

struct NameChange {
	enum Kind { made, linked, removed, renamed } kind;
	std::string name;
	std::string to;
	fuse_ino_t ino;
	unsigned flags;
};

// An fsync that is not done yet.
struct Sync {
	fuse_req_t request;
	fuse_ino_t ino;
	bool datasync;
	u64 due_ms;
};

enum class Power {
	on,
	failing, // each call ends with EIO
	off, // none ends
};

struct Disk {
	Disk(const char *directory, u64 seed, u64 sync_ms);

	File &file(fuse_ino_t ino) { return *files.at(ino); }
	void apply(const NameChange &c);
	void sync_names(u64 count);
	void lose(Power then);
	std::string report() const;

	int dir;
	Chance chance;
	Power power = Power::on;
	u64 changes = 0;
	u64 last_change = ~0ull;
	fuse_ino_t off_at_sync = 0; // of this file
	u64 off_at_ms = never_ms; // the time
	const u64 sync_ms;
	std::vector<Sync> syncs; // the first is due first
	bool holding = false;
	std::vector<Sync> held;
	// By inode number; they stay until the end. The first is none, the second the
	// directory, the third .power.
	std::vector<std::unique_ptr<File>> files;
	std::map<std::string, fuse_ino_t> names;
	std::vector<NameChange> name_changes;
};

constexpr fuse_ino_t ino_power = 2;
constexpr fuse_ino_t first_ino = 3;
constexpr const char *power_name = ".power";

Disk::Disk(const char *directory, u64 seed, u64 ms)
	: dir(open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)), chance(seed), sync_ms(ms), files(first_ino)
{
	must(dir, directory);
	DIR *all = fdopendir(dup(dir));
	if (!all)
		die(directory);
	while (const dirent *e = readdir(all)) {
		if (e->d_type != DT_REG)
			continue;
		const int fd = openat(dir, e->d_name, O_RDWR | O_CLOEXEC);
		must(fd, e->d_name);
		names[e->d_name] = files.size();
		files.push_back(std::make_unique<File>(fd));
	}
	closedir(all);
}

// In their order, so DIRECTORY is as it was before the change.
void Disk::apply(const NameChange &c)
{
	const char *name = c.name.c_str(), *to = c.to.c_str();
	switch (c.kind) {
	case NameChange::made:
		must(linkat(AT_FDCWD, ("/proc/self/fd/" + std::to_string(file(c.ino).fd())).c_str(), dir, name,
			    AT_SYMLINK_FOLLOW),
		     "linkat");
		break;
	case NameChange::linked:
		must(linkat(dir, name, dir, to, 0), "linkat");
		break;
	case NameChange::removed:
		must(unlinkat(dir, name, 0), "unlinkat");
		break;
	case NameChange::renamed:
		must(renameat2(dir, name, dir, to, c.flags), "renameat2");
		break;
	}
}

void Disk::sync_names(u64 count)
{
	for (u64 i = 0; i < count; i++)
		apply(name_changes[i]);
	name_changes.erase(name_changes.begin(), name_changes.begin() + static_cast<long>(count));
}

void Disk::lose(Power then)
{
	u64 lost = 0, all = 0;
	sync_names(chance.some_of(name_changes.size()));
	for (auto &f : files)
		if (f)
			f->lose(chance, lost, all);
	power = then;
	if (then == Power::failing)
		for (const Sync &s : std::exchange(syncs, {}))
			fuse_reply_err(s.request, EIO);
	printf("power failed after %llu changes: %llu of %llu unsynced sectors lost, %zu changes of names\n",
	       static_cast<unsigned long long>(changes), static_cast<unsigned long long>(lost),
	       static_cast<unsigned long long>(all), name_changes.size());
	fflush(stdout);
}

std::string Disk::report() const
{
	u64 unsynced = 0;
	for (const auto &f : files)
		unsynced += f ? f->unsynced() : 0;
	return "changes " + std::to_string(changes) + "\nunsynced " + std::to_string(unsynced) + "\nheld " +
	       std::to_string(held.size()) + "\n";
}

// One for the program, which libfuse hands to each call.
Disk &disk_of(fuse_req_t request)
{
	return *static_cast<Disk *>(fuse_req_userdata(request));
}

// Each call begins by one of these; when there is no power it ends there.
bool powered(fuse_req_t request)
{
	if (disk_of(request).power == Power::on)
		return true;
	fuse_reply_err(request, EIO);
	return false;
}

bool powered_change(fuse_req_t request)
{
	Disk &d = disk_of(request);
	if (d.power == Power::on && d.changes == d.last_change)
		d.lose(Power::failing);
	d.changes++;
	return powered(request);
}

u64 links(const Disk &d, fuse_ino_t ino)
{
	u64 n = 0;
	for (const auto &[name, other] : d.names)
		n += other == ino;
	return n;
}

struct stat attributes(Disk &d, fuse_ino_t ino)
{
	struct stat st {};
	if (ino == FUSE_ROOT_ID || ino == ino_power) {
		st.st_mode = ino == FUSE_ROOT_ID ? S_IFDIR | 0700 : S_IFREG | 0600;
		st.st_nlink = 1;
		st.st_uid = getuid();
		st.st_gid = getgid();
	} else {
		d.file(ino).look(st);
		st.st_nlink = links(d, ino);
	}
	st.st_ino = ino;
	return st;
}

fuse_entry_param entry(Disk &d, fuse_ino_t ino)
{
	fuse_entry_param e{};
	e.ino = ino;
	e.attr = attributes(d, ino);
	return e;
}

fuse_ino_t find(const Disk &d, const char *name)
{
	if (!strcmp(name, power_name))
		return ino_power;
	auto i = d.names.find(name);
	return i == d.names.end() ? 0 : i->second;
}

void on_init(void *, fuse_conn_info *connection)
{
	connection->want &= ~FUSE_CAP_WRITEBACK_CACHE;
}

void on_lookup(fuse_req_t request, fuse_ino_t, const char *name)
{
	if (!powered(request))
		return;
	Disk &d = disk_of(request);
	const fuse_ino_t ino = find(d, name);
	if (!ino) {
		fuse_reply_err(request, ENOENT);
		return;
	}
	const fuse_entry_param e = entry(d, ino);
	fuse_reply_entry(request, &e);
}

void on_getattr(fuse_req_t request, fuse_ino_t ino, fuse_file_info *)
{
	if (!powered(request))
		return;
	const struct stat st = attributes(disk_of(request), ino);
	fuse_reply_attr(request, &st, 0);
}

void on_setattr(fuse_req_t request, fuse_ino_t ino, struct stat *st, int what, fuse_file_info *)
{
	Disk &d = disk_of(request);
	if (ino >= first_ino) {
		if (!powered_change(request))
			return;
		File &f = d.file(ino);
		if (what & FUSE_SET_ATTR_SIZE)
			f.resize(static_cast<u64>(st->st_size));
		if (what & FUSE_SET_ATTR_MODE)
			must(fchmod(f.fd(), st->st_mode & 07777), "fchmod");
		if (what & FUSE_SET_ATTR_MTIME)
			f.set_mtime(what & FUSE_SET_ATTR_MTIME_NOW ? now() : st->st_mtim);
	} else if (!powered(request)) {
		return;
	}
	const struct stat seen = attributes(d, ino);
	fuse_reply_attr(request, &seen, 0);
}

void on_readdir(fuse_req_t request, fuse_ino_t, size_t bytes, off_t from, fuse_file_info *)
{
	if (!powered(request))
		return;
	Disk &d = disk_of(request);
	std::vector<char> to(bytes);
	size_t used = 0;
	off_t at = 0;
	for (const auto &[name, ino] : d.names) {
		if (at++ < from)
			continue;
		const struct stat st = attributes(d, ino);
		const size_t n = fuse_add_direntry(request, &to[used], bytes - used, name.c_str(), &st, at);
		if (n > bytes - used)
			break;
		used += n;
	}
	fuse_reply_buf(request, to.data(), used);
}

void on_create(fuse_req_t request, fuse_ino_t, const char *name, mode_t mode, fuse_file_info *fi)
{
	if (!powered_change(request))
		return;
	Disk &d = disk_of(request);
	const int fd = openat(d.dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, mode);
	if (fd < 0) {
		fuse_reply_err(request, errno);
		return;
	}
	const fuse_ino_t ino = d.files.size();
	d.files.push_back(std::make_unique<File>(fd));
	d.names[name] = ino;
	d.name_changes.push_back({ NameChange::made, name, "", ino, 0 });
	const fuse_entry_param e = entry(d, ino);
	fuse_reply_create(request, &e, fi);
}

void on_link(fuse_req_t request, fuse_ino_t ino, fuse_ino_t, const char *to)
{
	if (!powered_change(request))
		return;
	Disk &d = disk_of(request);
	std::string from;
	for (const auto &[name, other] : d.names)
		if (other == ino)
			from = name;
	if (from.empty() || find(d, to)) {
		fuse_reply_err(request, from.empty() ? ENOENT : EEXIST);
		return;
	}
	d.names[to] = ino;
	d.name_changes.push_back({ NameChange::linked, from, to, ino, 0 });
	const fuse_entry_param e = entry(d, ino);
	fuse_reply_entry(request, &e);
}

void on_unlink(fuse_req_t request, fuse_ino_t, const char *name)
{
	if (!powered_change(request))
		return;
	Disk &d = disk_of(request);
	const bool there = d.names.erase(name);
	if (there)
		d.name_changes.push_back({ NameChange::removed, name, "", 0, 0 });
	fuse_reply_err(request, there ? 0 : ENOENT);
}

void on_rename(fuse_req_t request, fuse_ino_t, const char *from, fuse_ino_t, const char *to, unsigned flags)
{
	if (!powered_change(request))
		return;
	Disk &d = disk_of(request);
	const fuse_ino_t ino = find(d, from);
	if (ino < first_ino || flags & ~RENAME_NOREPLACE || (flags && find(d, to))) {
		fuse_reply_err(request, !ino ? ENOENT : flags & RENAME_NOREPLACE ? EEXIST : EINVAL);
		return;
	}
	d.names.erase(from);
	d.names[to] = ino;
	d.name_changes.push_back({ NameChange::renamed, from, to, ino, flags });
	fuse_reply_err(request, 0);
}

void on_open(fuse_req_t request, fuse_ino_t ino, fuse_file_info *fi)
{
	if (ino == ino_power) {
		if (!powered(request))
			return;
		fi->direct_io = 1;
	} else if (fi->flags & O_TRUNC) {
		if (!powered_change(request))
			return;
		disk_of(request).file(ino).resize(0);
	} else if (!powered(request)) {
		return;
	}
	fuse_reply_open(request, fi);
}

void on_read(fuse_req_t request, fuse_ino_t ino, size_t bytes, off_t at, fuse_file_info *)
{
	if (!powered(request))
		return;
	Disk &d = disk_of(request);
	if (ino == ino_power) {
		const std::string text = at ? "" : d.report();
		fuse_reply_buf(request, text.data(), std::min(bytes, text.size()));
		return;
	}
	const std::vector<u8> b = d.file(ino).read(static_cast<u64>(at), bytes);
	fuse_reply_buf(request, reinterpret_cast<const char *>(b.data()), b.size());
}

u64 now_ms()
{
	timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return static_cast<u64>(t.tv_sec) * 1000 + static_cast<u64>(t.tv_nsec) / 1000000;
}

void finish_sync(Disk &d, const Sync &s)
{
	d.file(s.ino).sync(s.datasync);
	fuse_reply_err(s.request, 0);
}

// Does what is due. Returns milliseconds to what comes next, or -1.
int do_due(Disk &d)
{
	if (d.power != Power::on)
		return -1;
	const u64 now = now_ms();
	if (d.off_at_ms <= now) {
		d.lose(Power::off);
		return -1;
	}
	while (!d.syncs.empty() && d.syncs[0].due_ms <= now) {
		finish_sync(d, d.syncs[0]);
		d.syncs.erase(d.syncs.begin());
	}
	const u64 next = std::min(d.off_at_ms, d.syncs.empty() ? never_ms : d.syncs[0].due_ms);
	return next == never_ms ? -1 : static_cast<int>(next - now);
}

bool obey(Disk &d, const std::string &command)
{
	if (command == "off") {
		d.lose(Power::off);
	} else if (!command.compare(0, 12, "off-at-sync ")) {
		d.off_at_sync = find(d, command.c_str() + 12);
		d.off_at_ms = now_ms() + 1000;
	} else if (!command.compare(0, 10, "off-after ")) {
		d.last_change = d.changes + strtoull(command.c_str() + 10, nullptr, 0);
	} else if (command == "hold") {
		d.holding = true;
	} else if (command == "pass" || command == "release") {
		d.holding = false;
		if (command == "release")
			for (const Sync &s : std::exchange(d.held, {}))
				finish_sync(d, s);
	} else {
		return false;
	}
	return true;
}

void on_write(fuse_req_t request, fuse_ino_t ino, const char *from, size_t bytes, off_t at, fuse_file_info *fi)
{
	Disk &d = disk_of(request);
	if (ino == ino_power) {
		if (!powered(request))
			return;
		std::string command(from, bytes);
		while (!command.empty() && command.back() == '\n')
			command.pop_back();
		if (obey(d, command))
			fuse_reply_write(request, bytes);
		else
			fuse_reply_err(request, EINVAL);
		return;
	}
	if (!powered_change(request))
		return;
	File &f = d.file(ino);
	f.write(reinterpret_cast<const u8 *>(from), static_cast<u64>(at), bytes, d.chance);
	if (fi->flags & (O_DSYNC | O_SYNC))
		f.sync_range(static_cast<u64>(at), bytes);
	fuse_reply_write(request, bytes);
}

void on_fsync(fuse_req_t request, fuse_ino_t ino, int datasync, fuse_file_info *)
{
	Disk &d = disk_of(request);
	if (ino == ino_power) {
		fuse_reply_err(request, 0);
		return;
	}
	if (d.off_at_sync == ino)
		d.lose(Power::off);
	if (d.power == Power::off || !powered_change(request))
		return;
	const Sync s{ request, ino, datasync != 0, now_ms() + d.sync_ms };
	if (d.holding)
		d.held.push_back(s);
	else if (d.sync_ms)
		d.syncs.push_back(s);
	else
		finish_sync(d, s);
}

void on_fsyncdir(fuse_req_t request, fuse_ino_t, int, fuse_file_info *)
{
	if (!powered_change(request))
		return;
	Disk &d = disk_of(request);
	d.sync_names(d.name_changes.size());
	fuse_reply_err(request, 0);
}

void on_fallocate(fuse_req_t request, fuse_ino_t ino, int mode, off_t at, off_t bytes, fuse_file_info *)
{
	constexpr int known = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
	if (mode & ~known || ino < first_ino) {
		fuse_reply_err(request, EOPNOTSUPP);
		return;
	}
	if (!powered_change(request))
		return;
	Disk &d = disk_of(request);
	File &f = d.file(ino);
	if (!(mode & FALLOC_FL_KEEP_SIZE))
		f.grow_to(static_cast<u64>(at + bytes));
	if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		f.zero(static_cast<u64>(at), static_cast<u64>(bytes), d.chance);
	fuse_reply_err(request, 0);
}

void on_lseek(fuse_req_t request, fuse_ino_t ino, off_t at, int whence, fuse_file_info *)
{
	if (!powered(request))
		return;
	const off_t found = ino < first_ino ? -1 : disk_of(request).file(ino).seek(static_cast<u64>(at), whence);
	if (found < 0)
		fuse_reply_err(request, ENXIO);
	else
		fuse_reply_lseek(request, found);
}

void on_statfs(fuse_req_t request, fuse_ino_t)
{
	struct statvfs st;
	must(fstatvfs(disk_of(request).dir, &st), "fstatvfs");
	fuse_reply_statfs(request, &st);
}

constexpr fuse_lowlevel_ops operations()
{
	fuse_lowlevel_ops o{};
	o.init = on_init;
	o.lookup = on_lookup;
	o.getattr = on_getattr;
	o.setattr = on_setattr;
	o.readdir = on_readdir;
	o.create = on_create;
	o.link = on_link;
	o.unlink = on_unlink;
	o.rename = on_rename;
	o.open = on_open;
	o.read = on_read;
	o.write = on_write;
	o.fsync = on_fsync;
	o.fsyncdir = on_fsyncdir;
	o.fallocate = on_fallocate;
	o.lseek = on_lseek;
	o.statfs = on_statfs;
	return o;
}

// SIGTERM and SIGINT as something to read.
int signals()
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, nullptr);
	signal(SIGPIPE, SIG_IGN);
	const int fd = signalfd(-1, &set, SFD_CLOEXEC);
	must(fd, "signalfd");
	return fd;
}

void serve(fuse_session *session, Disk &d, int ending)
{
	pollfd p[2] = { { ending, POLLIN, 0 }, { fuse_session_fd(session), POLLIN, 0 } };
	fuse_buf buffer{};
	while (!fuse_session_exited(session)) {
		const int wait_ms = do_due(d);
		p[1].revents = 0;
		if (poll(p, d.power == Power::off ? 1 : 2, wait_ms) < 0)
			continue; // stopped, and gone on
		if (p[0].revents)
			break;
		if (!p[1].revents)
			continue;
		const int n = fuse_session_receive_buf(session, &buffer);
		if (n > 0)
			fuse_session_process_buf(session, &buffer);
		else if (n != -EINTR && n != -EAGAIN)
			break; // unmounted
	}
	free(buffer.mem);
}

int run(const char *directory, const char *mountpoint, u64 seed, u64 sync_ms)
{
	Disk d(directory, seed, sync_ms);
	const int ending = signals();
	const fuse_lowlevel_ops o = operations();
	char name[] = "forgetful", option[] = "-o", options[] = "fsname=forgetful,nosuid,nodev";
	char *words[] = { name, option, options };
	fuse_args arguments = FUSE_ARGS_INIT(3, words);
	fuse_session *session = fuse_session_new(&arguments, &o, sizeof(o), &d);
	if (!session)
		return status_broken;
	if (fuse_session_mount(session, mountpoint))
		return status_no_mount;
	must(fcntl(fuse_session_fd(session), F_SETFL, O_NONBLOCK), "fcntl");
	serve(session, d, ending);
	fuse_session_unmount(session);
	fuse_session_destroy(session);
	return 0;
}

} // namespace

int main(int argc, char **argv)
{
	if (argc < 3 || argc > 5) {
		fprintf(stderr, "usage: forgetful DIRECTORY MOUNTPOINT [SEED [MS]]\n");
		return 2;
	}
	// Nobody else would end it, and what waits for it.
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	umask(0); // the kernel has done that already
	auto number = [&](int i) { return i < argc ? strtoull(argv[i], nullptr, 0) : 0; };
	return run(argv[1], argv[2], number(3), number(4));
}
