// SPDX-License-Identifier: GPL-2.0-only
/*
 * Putting a device together, and the C names of that.
 *
 * Context: process, may sleep, under kernel/'s device mutex, unless a function
 * says otherwise.
 */
#include "device.hh"
#include "clone.hh"

#include "../core/options.hh"
#include "../core/resize.hh"

#include <signal.h>
#include <sys/eventfd.h>
#include <time.h>

namespace ubd
{
namespace
{

void copy_text(char *to, const char *from, size_t bytes)
{
	ubd_k_snprintf(to, bytes, "%s", from);
}

/*
 * A write beyond the host's file size limit (ulimit -f) must fail, not end the
 * UML process. UML itself has no use for the signal.
 */
void ignore_file_size_signal()
{
	struct Action { // the kernel's struct sigaction, not the C library's
		void (*handler)(int);
		unsigned long flags;
		void (*restorer)();
		unsigned long mask;
	} old{}, ignore{ SIG_IGN, 0, nullptr, 0 };
	if (sys::call(SYS_rt_sigaction, SIGXFSZ, 0, sys::arg(&old), 8) == 0 && old.handler == SIG_DFL)
		(void)sys::call(SYS_rt_sigaction, SIGXFSZ, sys::arg(&ignore), 0, 8);
}

const char *ring_remedy(int error)
{
	switch (error) {
	case errno_perm:
	case errno_nosys:
	case errno_acces:
		return "the host forbids io_uring: allow it (sysctl kernel.io_uring_disabled=0, or the container's "
		       "seccomp profile)";
	case errno_nomem:
		return "raise the limit of locked memory (ulimit -l) or free memory on the host";
	default:
		return "check the host's kernel (5.10 or newer)";
	}
}

// By a sandbox, the administrator, or a limit: then there is another way.
bool is_forbidden(int error)
{
	return error == errno_perm || error == errno_acces || error == errno_nosys || error == errno_nomem;
}

// Where files without a name are made.
class TemporaryDirectory {
public:
	explicit TemporaryDirectory(const char *asked) : path_(static_cast<char *>(ubd_k_zalloc(UBD_PATH_MAX)))
	{
		if (path_ && !asked[0] && !host_variable("TMPDIR=", path_, UBD_PATH_MAX))
			copy_text(path_, "/var/tmp", UBD_PATH_MAX);
		else if (path_ && asked[0])
			copy_text(path_, asked, UBD_PATH_MAX);
	}
	~TemporaryDirectory() { ubd_k_free(path_); }
	TemporaryDirectory(const TemporaryDirectory &) = delete;
	TemporaryDirectory &operator=(const TemporaryDirectory &) = delete;
	const char *path() const { return path_ ? path_ : "/var/tmp"; }

private:
	char *const path_;
};

} // namespace

// Nothing is in flight.
void DeviceQueue::close()
{
	if (queue)
		queue->~Queue();
	queue = nullptr;
	uring.close();
	threads.close();
	ubd_k_free(guard);
	guard = nullptr;
#ifdef UBD_FAULTS
	if (faults)
		ubd_k_free(faults->recorder().take_memory());
	faults = nullptr;
#endif
}

void DeviceQueue::make(const Layout &layout, const QueueConfig &c)
{
#ifdef UBD_FAULTS
	faults = new (Place{ faults_memory_ }) FaultEngine(*engine, fault_timer_);
	faults->set_block(c.block);
	Engine &used = *faults;
#else
	Engine &used = *engine;
#endif
	queue = new (Place{ queue_memory_ }) Queue(k, used, layout, c);
}

Device::Device(const ubd_options &o, const ubd_open_settings &s, const char *disk, ubd_kqueue *k)
	: disk_(disk), index_(o.index), want_read_only_(o.read_only), werror_(o.werror),
	  cache_(s.snapshot && !o.read_only ? UBD_CACHE_WRITEBACK : o.cache), shared_(o.shared),
	  no_discard_(o.no_discard), plain_(o.plain), settings_(s), snapshot_(s.snapshot && !o.read_only),
	  asked_(o.engine != UBD_ENGINE_DEFAULT ? o.engine : s.engine), first_(k)
{
	copy_text(path_, o.path, sizeof(path_));
	copy_text(shown_, o.shown, sizeof(shown_));
	copy_text(backing_, o.backing, sizeof(backing_));
	copy_text(backing_shown_, o.backing_shown, sizeof(backing_shown_));
	copy_text(serial_, o.serial, sizeof(serial_));
}

// No request is queued or in flight.
Device::~Device()
{
	if (first_.queue && is_cow_)
		cow_file_.commit_last(request(FileRole::container), file_);
	while (queue_count_ > 1) {
		DeviceQueue *q = queues_[--queue_count_];
		q->~DeviceQueue();
		ubd_k_free(q);
	}
	first_.close();
	relay_release(index_);
}

OpenRequest Device::request(FileRole role) const
{
	return OpenRequest{ disk_, shown_, path_, want_read_only_, !shared_, settings_.beside, settings_.below, role };
}

CowRequest Device::cow_request() const
{
	return cow_request(backing_, backing_shown_, false);
}

CowRequest Device::cow_request(const char *backing, const char *backing_shown, bool any_data) const
{
	return CowRequest{
		request(FileRole::container), backing, backing_shown, any_data, path_, settings_.below, settings_.beside
	};
}

Error Device::open()
{
	ignore_file_size_signal();
	UBD_TRY(snapshot_ ? open_snapshot() : open_files());
	UBD_TRY(open_direct());
	UBD_TRY(check_block_size());
	check_werror();
	if (is_cow_ && cache_ == UBD_CACHE_UNSAFE)
		cow_file_.set_no_flush();
	tell_relay();
	UBD_TRY(open_engine());
	return make_queue(first_);
}

/*
 * The same engine by openings of its own: of two fdatasyncs by one opening that run
 * together, one may be told success for what the other one lost.
 */
Error Device::add_queue(ubd_kqueue *k, Queue *&out)
{
	UBD_ASSERT(!is_cow_ && queue_count_ < UBD_MAX_QUEUES);
	void *memory = ubd_k_zalloc(sizeof(DeviceQueue));
	if (!memory) {
		ubd_k_log(UBD_LOG_ERROR, false, "%s: %s: no memory for another queue; give the guest more (mem=)\n",
			  disk_, shown_);
		return Error{ errno_nomem };
	}
	auto *q = new (Place{ memory }) DeviceQueue(k);
	EngineFiles files = engine_files();
	Error e = file_.open_for_queue(request(FileRole::device), queue_count_, files.fds[main_file],
				       files.sync_write_fd);
	if (!e)
		e = first_.engine == &first_.uring ? open_uring(*q, files) : open_threads(*q, files);
	if (!e)
		e = make_queue(*q);
	if (e) {
		q->~DeviceQueue();
		ubd_k_free(q);
		return e;
	}
	queues_[queue_count_++] = q;
	out = q->queue;
	return no_error;
}

Error Device::open_files()
{
	UBD_TRY(cow_file_.create_if_missing(cow_request()));
	// Before its size is judged it must be known what it is.
	const OpenRequest r = request(plain_ ? FileRole::device : FileRole::container);
	UBD_TRY(file_.open(r));
	tell_relay(); // to wait for the backing file's lock may take seconds
	if (!plain_)
		UBD_TRY(cow_file_.detect(r, file_, is_cow_));
	is_cow_ = is_cow_ || backing_[0];
	if (!is_cow_)
		return file_.check_size(r);
	cow_file_.cow().commit_ms = settings_.commit_ms;
	return cow_file_.open(cow_request(), file_);
}

/*
 * What is written goes to a COW file that has no name and is never committed.
 * Over a plain file, that is the backing file; a COW file that is there is
 * copied first (the host's file system may share what is equal).
 */
Error Device::open_snapshot()
{
	struct stat st;
	if (backing_[0] && stat_path(path_, st, settings_.below).number == errno_noent)
		return open_over(backing_, backing_shown_);
	HostFile named;
	OpenRequest r = request(plain_ ? FileRole::device : FileRole::container);
	r.read_only = true;
	UBD_TRY(named.open(r));
	bool is_cow = false;
	if (!plain_)
		UBD_TRY(cow_file_.detect(r, named, is_cow));
	if (!is_cow && !backing_[0]) {
		UBD_TRY(named.check_size(r));
		named.close();
		is_own_base_ = true;
		return open_over(path_, shown_);
	}
	TemporaryDirectory directory(settings_.snapshot_dir);
	sys::Fd fd;
	UBD_TRY(cow_file_.copy_unnamed(r, named, directory.path(), fd));
	named.close();
	return open_unnamed(fd, backing_, backing_shown_);
}

Error Device::open_over(const char *base, const char *base_shown)
{
	TemporaryDirectory directory(settings_.snapshot_dir);
	sys::Fd fd;
	UBD_TRY(cow_file_.create_unnamed(cow_request(base, base_shown, plain_), directory.path(), fd));
	return open_unnamed(fd, "", "");
}

// By the descriptor, which stands for a COW file without a name.
Error Device::open_unnamed(const sys::Fd &fd, const char *backing, const char *backing_shown)
{
	char path[40];
	ubd_k_snprintf(path, sizeof(path), "/proc/self/fd/%d", fd.get());
	CowRequest r = cow_request(backing, backing_shown, plain_);
	r.file.path = path;
	r.file.below = false;
	r.file.beside = false; // it is open in this process, but by us
	UBD_TRY(file_.open(r.file));
	UBD_TRY(cow_file_.detect(r.file, file_, is_cow_));
	UBD_TRY(cow_file_.open(r, file_));
	is_cow_ = true;
	// Nobody will ever read its bits.
	cow_file_.cow().commit_ms = 0;
	cow_file_.cow().poisoned = true;
	return no_error;
}

// All files by O_DIRECT, or none: then the mode is the one that keeps as much.
Error Device::open_direct()
{
	if (!is_direct(cache_))
		return no_error;
	char why[160] = "";
	UBD_TRY(add_direct(request(FileRole::device), file_, why, sizeof(why)));
	if (is_cow_ && !why[0]) {
		OpenRequest base = request(FileRole::backing);
		base.shown = cow_file_.backing_shown();
		UBD_TRY(add_direct(base, cow_file_.backing(), why, sizeof(why)));
	}
	if (!why[0])
		check_direct(why, sizeof(why));
	if (!why[0]) {
		cow_file_.cow().bitmap_file = buffered_file;
		return is_cow_ ? no_error : file_.make_sync_direct(request(FileRole::device));
	}
	ubd_k_log(UBD_LOG_WARN, false, "%s: %s: cache=%s needs O_DIRECT, but %s; cache=%s takes its place\n", disk_,
		  shown_, name_of(cache_), why, name_of(without_direct(cache_)));
	cache_ = without_direct(cache_);
	file_.close_direct();
	cow_file_.backing().close_direct();
	direct_block_ = 1;
	memory_alignment_ = piece_alignment;
	return no_error;
}

// Takes what the file asks for. What speaks against it is left in `why`.
Error Device::add_direct(const OpenRequest &r, HostFile &file, char *why, size_t bytes)
{
	const char *reason;
	UBD_TRY(file.open_direct(r, reason));
	if (reason)
		ubd_k_snprintf(why, bytes, "%s%s", reason, r.role == FileRole::backing ? " of the backing file" : "");
	if (direct_block_ < file.direct_block())
		direct_block_ = file.direct_block();
	if (memory_alignment_ < file.direct_memory())
		memory_alignment_ = file.direct_memory();
	return no_error;
}

void Device::check_direct(char *why, size_t bytes)
{
	constexpr u32 page = 4096;
	const u64 size = is_cow_ ? cow_file_.size().value : file_.size().value;
	Cow &cow = cow_file_.cow();
	// Bits are written by the page cache: no page may have bits and data.
	if (is_cow_ && cow.data_offset.value % page)
		ubd_k_snprintf(why, bytes,
			       "its data begin at byte %llu, which is no multiple of %u (ubd-cow convert makes a file "
			       "that is right)",
			       cow.data_offset.value, page);
	else if (settings_.block_size && settings_.block_size < direct_block_)
		ubd_k_snprintf(why, bytes, "that wants blocks of %u bytes there, and block_size=%u was asked for",
			       direct_block_, settings_.block_size);
	else if (size % direct_block_)
		ubd_k_snprintf(why, bytes, "that wants blocks of %u bytes there, and the device has %llu bytes",
			       direct_block_, size);
	else if (is_cow_ && direct_block_ > UBD_SECTOR_SIZE &&
		 !cow.bitmap.set_in_groups(direct_block_ / UBD_SECTOR_SIZE))
		ubd_k_snprintf(why, bytes, "that wants blocks of %u bytes there, and of some only a part was written",
			       direct_block_);
}

// What was refused could be tried again, but not what was lost with it. A COW file's
// bits always go by the page cache.
void Device::check_werror()
{
	if (werror_ != UBD_WERROR_STOP || !file_.loses_for_space() || (is_direct(cache_) && !is_cow_))
		return;
	werror_ = UBD_WERROR_REPORT;
	ubd_k_log(
		UBD_LOG_WARN, false,
		"%s: %s: werror=stop cannot be had on NFS by the page cache, which forgets what it found no space for; "
		"werror=report takes its place; for a disk that is no COW file, cache=none helps\n",
		disk_, shown_);
}

Error Device::check_block_size()
{
	u32 asked = file_.logical_block() > direct_block_ ? file_.logical_block() : direct_block_;
	if (is_cow_ && cow_file_.backing().logical_block() > asked)
		asked = cow_file_.backing().logical_block();
	logical_block_ = settings_.block_size ? settings_.block_size : asked;
	const u64 bytes = is_cow_ ? cow_file_.size().value : file_.size().value;
	if (bytes % logical_block_ == 0)
		return no_error;
	ubd_k_log(
		UBD_LOG_ERROR, false,
		"%s: %s: the device has %llu bytes, which is no multiple of the block size %u; give block_size=512%s\n",
		disk_, shown_, bytes, logical_block_, is_cow_ ? "" : ", or round it up with truncate -s %4096 FILE");
	return Error{ errno_inval };
}

// What it is to unlock, and what to commit, if the UML process is ended.
void Device::tell_relay(bool may_commit)
{
	if (shared_)
		return;
	HeldFiles files;
	files.fds[HeldFiles::locked] = file_.fd();
	const LastCommit *commit = nullptr;
	if (cow_file_.backing().fd() >= 0) {
		files.fds[HeldFiles::backing] = cow_file_.backing().fd();
		files.fds[HeldFiles::unsynced] = file_.sync_fd(); // for FUA, which a COW device has none of
		if (may_commit && !snapshot_ && !file_.read_only())
			commit = &cow_file_.last_commit();
	}
	relay_hold(index_, files, commit);
}

EngineFiles Device::engine_files() const
{
	const HostFile &backing = cow_file_.backing();
	EngineFiles files;
	files.direct = file_.data_fd() != file_.fd();
	files.fds[main_file] = file_.data_fd();
	files.fds[backing_file] = backing.data_fd();
	files.fds[buffered_file] = file_.fd();
	files.fds[backing_file + buffered_file] = backing.fd();
	files.sync_write_fd = file_.sync_fd();
	return files;
}

Error Device::open_engine()
{
	const EngineFiles files = engine_files();
	wake_fd_ = settings_.wake_fd;
	if (settings_.await_host)
		UBD_TRY(make_silent_event());
	if (asked_ != UBD_ENGINE_THREADS) {
		const Error e = open_uring(first_, files);
		if (!e || asked_ == UBD_ENGINE_IO_URING || !is_forbidden(e.number))
			return e;
	}
	return open_threads(first_, files);
}

// Who awaits the host is not to be interrupted when it is done: the relay does not
// know this one.
Error Device::make_silent_event()
{
	silent_event_.reset(static_cast<int>(sys::call(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK)));
	if (!silent_event_.valid())
		return refuse_errno(request(FileRole::device), "cannot make an eventfd",
				    sys::to_error(silent_event_.get()), "raise the limit of open files (ulimit -n)");
	wake_fd_ = silent_event_.get();
	return no_error;
}

Error Device::open_uring(DeviceQueue &q, const EngineFiles &files)
{
	const Error e = q.uring.open(settings_.queue_depth, wake_fd_, files, !file_.read_only());
	// The first queue decides for all.
	const bool alone = asked_ == UBD_ENGINE_IO_URING || !is_forbidden(e.number) || &q != &first_;
	if (!e) {
		q.engine = &q.uring;
		if (const int why = q.uring.writer_error().number)
			ubd_k_log(UBD_LOG_WARN, false,
				  "%s: %s: the host lets us have no thread for writes: %s (%d); io_uring does them, "
				  "which is slower: raise the limits on processes (ulimit -u, pids.max)\n",
				  disk_, shown_, errno_words(why), why);
	} else if (alone) {
		ubd_k_log(UBD_LOG_ERROR, false, "%s: %s: cannot set up io_uring: %s (%d); %s\n", disk_, shown_,
			  errno_words(e.number), e.number, ring_remedy(e.number));
	} else {
		ubd_k_log(UBD_LOG_INFO, false, "%s: %s: the host allows no io_uring: %s (%d); threads do its work\n",
			  disk_, shown_, errno_words(e.number), e.number);
	}
	return e;
}

Error Device::open_threads(DeviceQueue &q, const EngineFiles &files)
{
	const u32 queues = queue_count(settings_.queues, settings_.cpus, is_cow_);
	const Error e = q.threads.open(settings_.queue_depth, wake_fd_, files, queues);
	if (!e)
		q.engine = &q.threads;
	else
		ubd_k_log(UBD_LOG_ERROR, false,
			  "%s: %s: cannot start threads: %s (%d); raise the limits on processes and open files "
			  "(ulimit -u, ulimit -n, pids.max)\n",
			  disk_, shown_, errno_words(e.number), e.number);
	return e;
}

Error Device::make_queue(DeviceQueue &q)
{
	QueueConfig c;
	if (!is_cow_ && !plain_ && !file_.read_only()) {
		// What has the size of a page begins with one.
		q.guard = ubd_k_zalloc(guard_bytes);
		if (!q.guard)
			return refuse(request(FileRole::device), errno_nomem, "no memory",
				      "give the guest more (mem=)");
		c.guard = q.guard;
	}
	c.disk = disk_;
	c.path = shown_;
	c.backing = cow_file_.backing_shown();
	c.sync_writes = is_sync(cache_);
	c.no_flush = cache_ == UBD_CACHE_UNSAFE;
	c.block = direct_block_;
	c.stop_when_full = werror_ == UBD_WERROR_STOP;
	// Where there is one CPU, the host cannot go on while we look.
	c.poll_ns = host_cpus() > 1 && !settings_.await_host ? settings_.poll_us * 1000 : 0;
	c.await_host = settings_.await_host;
	c.cow = is_cow_ ? &cow_file_.cow() : nullptr;
	c.state = &state_;
	q.make(is_cow_ ? static_cast<const Layout &>(cow_layout_) : raw_layout_, c);
	return no_error;
}

void Device::info(ubd_device_info &out) const
{
	out.bytes = bytes();
	out.backing = is_cow_ && !is_own_base_ ? cow_file_.backing_shown() : "";
	out.logical_block = logical_block_;
	out.memory_alignment = memory_alignment_;
	out.physical_block = file_.physical_block() > logical_block_ ? file_.physical_block() : logical_block_;
	out.read_only = file_.read_only();
	out.discard_granularity = no_discard_ || out.read_only ? 0 : out.physical_block;
	out.max_write_zeroes_sectors = out.read_only ? 0 : static_cast<u32>(file_.max_zeroes() >> UBD_SECTOR_SHIFT);
	out.write_cache = !is_sync(cache_) && cache_ != UBD_CACHE_UNSAFE && !snapshot_ && !out.read_only;
	out.fua = out.write_cache && !is_cow_; // there it takes a commit
	out.path = shown_;
	out.serial = serial_;
	out.mode = snapshot_ ? "snapshot" : name_of(cache_);
	out.engine = first_.engine->name();
	out.werror = name_of(werror_);
	out.stops = werror_ == UBD_WERROR_STOP;
	out.queues = queue_count(settings_.queues, settings_.cpus, is_cow_);
	out.guest_bytes = sizeof(*this) + (queue_count_ - 1) * sizeof(DeviceQueue);
	for (u32 i = 0; i < queue_count_; i++)
		out.guest_bytes += queues_[i]->guard ? guard_bytes : 0;
}

void Device::host_memory(ubd_host_memory &out) const
{
	out.rings = 0;
	for (u32 i = 0; i < queue_count_; i++)
		out.rings += queues_[i]->host_bytes();
	out.bitmap = cow_file_.memory_now();
	out.bitmap_reserved = cow_file_.memory_reserved();
}

Error Device::measure(u64 &wanted)
{
	OpenRequest r = request(is_cow_ ? FileRole::backing : FileRole::device);
	if (is_cow_)
		r.shown = cow_file_.backing_shown();
	UBD_TRY((is_cow_ ? cow_file_.backing() : file_).measure_again(r, wanted));
	ResizeFacts f;
	f.now = bytes();
	f.wanted = wanted;
	f.block = logical_block_;
	f.cow = is_cow_;
	f.snapshot = snapshot_;
	f.read_only = file_.read_only();
	f.shared = shared_;
	f.poisoned = cow_file_.cow().poisoned;
	f.stopped = is_cow_ && first_.queue->stats().stopped;
	const ResizeVerdict v = judge_resize(f);
	if (v.what != Resize::refused)
		return no_error;
	ubd_k_log(UBD_LOG_ERROR, false, "%s: %s: the device keeps its %llu bytes, the file has %llu: %s; %s\n", disk_,
		  r.shown, f.now, f.wanted, v.reason, v.remedy);
	return Error{ v.number };
}

Error Device::begin_growth()
{
	void *memory = ubd_k_zalloc(sizeof(CowGrown));
	if (!memory)
		return refuse(request(FileRole::container), errno_nomem, "no memory to grow",
			      "give the guest more (mem=)");
	grown_ = new (Place{ memory }) CowGrown;
	return no_error;
}

void Device::end_growth()
{
	grown_->~CowGrown();
	ubd_k_free(grown_);
	grown_ = nullptr;
}

Error Device::grow(u64 &wanted)
{
	UBD_TRY(measure(wanted));
	if (wanted == bytes())
		return no_error;
	if (is_cow_)
		return grow_cow_file(wanted);
	file_.set_size(ByteCount(wanted));
	return no_error;
}

// The relay commits nothing meanwhile: everything is committed, and what it looks at
// changes.
Error Device::grow_cow_file(u64 wanted)
{
	bool lost = false;
	Error e = cow_file_.commit_now(request(FileRole::container), file_, lost);
	if (!e) {
		tell_relay(false);
		e = take_grown(wanted);
		tell_relay();
	}
	if (lost || grown_->lost)
		first_.queue->lose_durability(errno_io);
	return e;
}

Error Device::take_grown(u64 wanted)
{
	UBD_TRY(cow_file_.prepare_growth(request(FileRole::container), file_, wanted, *grown_));
	const unsigned long flags = ubd_k_lock(first_.k);
	cow_file_.adopt(file_, *grown_);
	ubd_k_unlock(first_.k, flags);
	return no_error;
}

} // namespace ubd

namespace
{

ubd::Device &device(ubd_device *d)
{
	return *reinterpret_cast<ubd::Device *>(d);
}

} // namespace

int ubd_device_open(const ubd_options *o, const char *name, ubd_kqueue *k, const ubd_open_settings *settings,
		    ubd_device **out)
{
	using namespace ubd;
	void *memory = ubd_k_zalloc(sizeof(Device));
	if (!memory) {
		ubd_k_log(UBD_LOG_ERROR, false, "%s: %s: no memory for the device; give the guest more (mem=)\n", name,
			  o->shown);
		return errno_nomem;
	}
	auto *d = new (Place{ memory }) Device(*o, *settings, name, k);
	if (Error e = d->open()) {
		d->~Device();
		ubd_k_free(d);
		return e.number;
	}
	*out = reinterpret_cast<ubd_device *>(d);
	return 0;
}

void ubd_device_get_info(ubd_device *d, ubd_device_info *out)
{
	device(d).info(*out);
}

void ubd_device_host_memory(ubd_device *d, ubd_host_memory *out)
{
	device(d).host_memory(*out);
}

ubd_queue *ubd_device_queue(ubd_device *d)
{
	return reinterpret_cast<ubd_queue *>(&device(d).queue());
}

int ubd_device_add_queue(ubd_device *d, ubd_kqueue *k, ubd_queue **out)
{
	ubd::Queue *q = nullptr;
	const ubd::Error e = device(d).add_queue(k, q);
	*out = reinterpret_cast<ubd_queue *>(q);
	return e.number;
}

bool ubd_device_conflicts(ubd_device *d, const char *path, bool below, bool read_only)
{
	struct stat st;
	return !ubd::stat_path(path, st, below) && device(d).conflicts(st, read_only);
}

int ubd_device_measure(ubd_device *d, ubd_u64 *bytes, bool *quiet)
{
	*quiet = device(d).is_cow();
	return device(d).measure(*bytes).number;
}

int ubd_device_begin_growth(ubd_device *d)
{
	return device(d).begin_growth().number;
}

void ubd_device_end_growth(ubd_device *d)
{
	device(d).end_growth();
}

int ubd_device_grow(ubd_device *d, ubd_u64 *bytes)
{
	return device(d).grow(*bytes).number;
}

void ubd_device_close(ubd_device *d)
{
	device(d).~Device();
	ubd_k_free(d);
}

#ifdef UBD_FAULTS

// Context: under the queue lock.
ubd::u64 ubd::KernelFaultTimer::now_ms()
{
	return ubd_k_now_ms();
}

// Context: under the queue lock.
void ubd::KernelFaultTimer::arm(u64 ms)
{
	ubd_k_arm_fault_timer(k_, static_cast<u32>(ms));
}

// Each queue has the rules for itself, and counts by itself.
void ubd::Device::set_faults(const FaultRules &rules)
{
	for (u32 i = 0; i < queue_count_; i++) {
		DeviceQueue &q = *queues_[i];
		const unsigned long flags = ubd_k_lock(q.k);
		q.faults->set(rules);
		ubd_k_unlock(q.k, flags);
		q.queue->commit(); // what was held back comes now
	}
}

void ubd::Device::show_faults(char *to, size_t bytes)
{
	for (u32 i = 0; i < queue_count_; i++) {
		DeviceQueue &q = *queues_[i];
		size_t used = __builtin_strlen(to);
		if (queue_count_ > 1 && bytes - used > 20)
			used += static_cast<size_t>(ubd_k_snprintf(to + used, bytes - used, "queue %u:\n", i));
		const unsigned long flags = ubd_k_lock(q.k);
		q.faults->show(to + used, bytes - used);
		ubd_k_unlock(q.k, flags);
	}
}

// Context: softirq, no lock held. As an interrupt: the late ones are announced.
void ubd::Device::fault_timer(ubd_kqueue *k)
{
	for (u32 i = 0; i < queue_count_; i++) {
		DeviceQueue &q = *queues_[i];
		if (q.k != k)
			continue;
		const unsigned long flags = ubd_k_lock(k);
		q.faults->expire();
		ubd_k_unlock(k, flags);
		q.queue->interrupt();
	}
}

// Of one queue: what several do has no order.
ubd::Error ubd::Device::record(const RecordCommand &c)
{
	if (queue_count_ > 1)
		return Error{ errno_opnotsupp };
	void *memory = nullptr;
	if (c.verb == RecordCommand::Verb::on && !(memory = ubd_k_zalloc(c.number)))
		return Error{ errno_nomem };
	const unsigned long flags = ubd_k_lock(first_.k);
	const Error e = first_.faults->recorder().obey(c, memory);
	ubd_k_unlock(first_.k, flags);
	ubd_k_free(memory);
	return e;
}

long ubd::Device::read_record(u64 offset, void *to, size_t bytes)
{
	u64 done = 0;
	const unsigned long flags = ubd_k_lock(first_.k);
	const Error e = first_.faults->recorder().read(offset, to, bytes, done);
	ubd_k_unlock(first_.k, flags);
	return e ? -e.number : static_cast<long>(done);
}

int ubd_device_set_fault(ubd_device *d, const char *text, size_t bytes)
{
	ubd::FaultRules rules;
	if (ubd::Error e = ubd::FaultRules::parse(text, bytes, rules))
		return e.number;
	device(d).set_faults(rules);
	return 0;
}

void ubd_device_show_fault(ubd_device *d, char *to, size_t bytes)
{
	to[0] = '\0';
	device(d).show_faults(to, bytes);
}

int ubd_device_record(ubd_device *d, const char *text, size_t bytes)
{
	ubd::RecordCommand command;
	if (ubd::Error e = ubd::RecordCommand::parse(text, bytes, command))
		return e.number;
	return device(d).record(command).number;
}

long ubd_device_read_record(ubd_device *d, ubd_u64 offset, void *to, size_t bytes)
{
	return device(d).read_record(offset, to, bytes);
}

// Context: softirq, no lock held.
void ubd_device_fault_timer(ubd_device *d, ubd_kqueue *k)
{
	device(d).fault_timer(k);
}

#endif

// Context: any.
void ubd_host_yield()
{
	(void)ubd::sys::call(SYS_sched_yield);
}

// Context: any.
ubd_u64 ubd_host_now_ms()
{
	struct {
		long sec, nsec;
	} t{};
	(void)ubd::sys::call(SYS_clock_gettime, CLOCK_MONOTONIC, ubd::sys::arg(&t));
	return static_cast<ubd_u64>(t.sec) * 1000 + static_cast<ubd_u64>(t.nsec) / 1000000;
}

// Context: any.
void ubd_host_sleep_ms(ubd_u32 ms)
{
	struct {
		long sec, nsec;
	} rest{ ms / 1000, ms % 1000 * 1000000L };
	while (ubd::sys::call(SYS_nanosleep, ubd::sys::arg(&rest), ubd::sys::arg(&rest)) == -ubd::errno_intr)
		;
}
