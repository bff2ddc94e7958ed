// SPDX-License-Identifier: GPL-2.0-only
/*
 * A device put together: its files, its layout, its queues, each with an engine.
 * Opened and closed in process context, under kernel/'s device mutex.
 */
#ifndef UBD_HOST_DEVICE_HH
#define UBD_HOST_DEVICE_HH

#include "../core/fault.hh"
#include "../core/queue.hh"
#include "cow_file.hh"
#include "file.hh"
#include "threads.hh"
#include "uring.hh"

namespace ubd
{

#ifdef UBD_FAULTS
// The kernel's clock and timer, for faults on demand.
class KernelFaultTimer final : public FaultTimer {
public:
	explicit KernelFaultTimer(ubd_kqueue *k) : k_(k) {}
	u64 now_ms() override;
	void arm(u64 ms) override;

private:
	ubd_kqueue *const k_;
};
#endif

/*
 * A queue with what is its own: engine, and faults on demand. Where the host's
 * file is written to, it also has openings of its own (HostFile::open_for_queue()).
 */
class DeviceQueue {
public:
	explicit DeviceQueue(ubd_kqueue *kernel) : k(kernel) {}
	DeviceQueue(const DeviceQueue &) = delete;
	DeviceQueue &operator=(const DeviceQueue &) = delete;
	~DeviceQueue() { close(); }

	void make(const Layout &layout, const QueueConfig &c);
	void close();
	u64 host_bytes() const { return engine == &uring ? uring.host_bytes() : threads.host_bytes(); }

	ubd_kqueue *const k;
	UringEngine uring;
	ThreadsEngine threads;
	Engine *engine = nullptr; // the one of them that is open
	Queue *queue = nullptr;
	void *guard = nullptr; // see QueueConfig
#ifdef UBD_FAULTS
	FaultEngine *faults = nullptr; // made around the engine
#endif

private:
#ifdef UBD_FAULTS
	KernelFaultTimer fault_timer_{ k };
	alignas(FaultEngine) char faults_memory_[sizeof(FaultEngine)];
#endif
	// Made when it is known what it is for.
	alignas(Queue) char queue_memory_[sizeof(Queue)];
};

class Device {
public:
	Device(const ubd_options &o, const ubd_open_settings &s, const char *disk, ubd_kqueue *k);
	Device(const Device &) = delete;
	Device &operator=(const Device &) = delete;
	~Device();

	Error open();
	void info(ubd_device_info &out) const;
	void host_memory(ubd_host_memory &out) const;
	// See ubd_device_measure(), ubd_device_begin_growth() and what follows.
	Error measure(u64 &bytes);
	Error begin_growth();
	Error grow(u64 &bytes);
	void end_growth();
	bool is_cow() const { return is_cow_; }
	// One that every device has.
	Queue &queue() { return *first_.queue; }
	Error add_queue(ubd_kqueue *k, Queue *&out);
	// The file is one of the device's, and one of both sides writes to it.
	bool conflicts(const struct stat &st, bool read_only) const
	{
		return (file_.is(st) && !(file_.read_only() && read_only)) ||
		       (cow_file_.backing().is(st) && !read_only);
	}
#ifdef UBD_FAULTS
	void set_faults(const FaultRules &rules);
	void show_faults(char *to, size_t bytes);
	void fault_timer(ubd_kqueue *k);
	Error record(const RecordCommand &c);
	long read_record(u64 offset, void *to, size_t bytes);
#endif

private:
	Error open_files();
	Error open_snapshot();
	Error open_over(const char *base, const char *base_shown);
	Error open_unnamed(const sys::Fd &fd, const char *backing, const char *backing_shown);
	Error open_direct();
	Error add_direct(const OpenRequest &r, HostFile &file, char *why, size_t bytes);
	void check_direct(char *why, size_t bytes);
	Error check_block_size();
	void check_werror();
	EngineFiles engine_files() const;
	Error open_engine();
	Error make_silent_event();
	Error open_uring(DeviceQueue &q, const EngineFiles &files);
	Error open_threads(DeviceQueue &q, const EngineFiles &files);
	void tell_relay(bool may_commit = true);
	Error grow_cow_file(u64 bytes);
	Error take_grown(u64 bytes);
	u64 bytes() const
	{
		return is_cow_ ? cow_file_.size().value : file_.size().value;
	}
	Error make_queue(DeviceQueue &q);
	OpenRequest request(FileRole role) const;
	CowRequest cow_request() const;
	CowRequest cow_request(const char *backing, const char *backing_shown, bool any_data) const;

	const char *const disk_;
	const u32 index_;
	const bool want_read_only_;
	ubd_werror werror_; // as asked for; report, where stop would lose data
	ubd_cache cache_; // as asked for; without O_DIRECT, where the host has none
	const bool shared_;
	const bool no_discard_;
	const bool plain_;
	const ubd_open_settings settings_;
	const bool snapshot_;
	const ubd_engine asked_; // for this engine
	bool is_cow_ = false;
	bool is_own_base_ = false; // a snapshot's backing file is what was named
	u32 logical_block_ = UBD_SECTOR_SIZE; // bytes
	// What O_DIRECT asks of all files together, bytes; 1: it is not used.
	u32 direct_block_ = 1;
	u32 memory_alignment_ = piece_alignment; // bytes
	char path_[UBD_PATH_MAX];
	char shown_[UBD_SHOWN_MAX]; // path for messages
	char backing_[UBD_PATH_MAX]; // as on the command line
	char backing_shown_[UBD_SHOWN_MAX];
	char serial_[UBD_SERIAL_MAX];

	sys::Fd silent_event_; // as the files
	int wake_fd_ = -1;
	HostFile file_; // outlives the engines: declared before them
	CowFile cow_file_;
	CowGrown *grown_ = nullptr; // while it grows
	RawLayout raw_layout_;
	CowLayout cow_layout_{ cow_file_.cow() };
	DeviceState state_;
	DeviceQueue first_;
	DeviceQueue *queues_[UBD_MAX_QUEUES]{ &first_ }; // the others on the heap
	u32 queue_count_ = 1;
};

} // namespace ubd

#endif
