// SPDX-License-Identifier: GPL-2.0-only
/*
 * A device put together: its file, its engine, its layout, its queue. Opened
 * and closed in process context, under kernel/'s device mutex.
 */
#ifndef UBD_HOST_DEVICE_HH
#define UBD_HOST_DEVICE_HH

#include "../core/fault.hh"
#include "../core/queue.hh"
#include "file.hh"
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

class Device {
public:
	Device(const ubd_options &o, const char *disk, ubd_kqueue *k);
	Device(const Device &) = delete;
	Device &operator=(const Device &) = delete;
	~Device()
	{
		engine_.close();
		ubd_relay_release(index_);
	}

	Error open(int wake_fd, bool beside, u32 depth);
	void info(ubd_device_info &out) const;
	Queue &queue() { return queue_; }
	const HostFile &file() const { return file_; }
	ubd_kqueue *kernel() const { return k_; }
#ifdef UBD_FAULTS
	FaultEngine &faults()
	{
		return faults_;
	}
#endif

private:
	static QueueConfig queue_config(const char *disk, const char *path, bool sync);

	ubd_kqueue *const k_;
	const char *const disk_;
	const u32 index_;
	const bool want_read_only_;
	const bool sync_;
	const bool shared_;
	const bool no_discard_;
	char path_[UBD_PATH_MAX];
	char shown_[UBD_SHOWN_MAX]; // path for messages
	char serial_[UBD_SERIAL_MAX];

	HostFile file_; // outlives the engine: declared before it
	UringEngine engine_;
#ifdef UBD_FAULTS
	KernelFaultTimer fault_timer_{ k_ };
	FaultEngine faults_{ engine_, fault_timer_ };
#endif
	RawLayout layout_;
	Queue queue_;
};

} // namespace ubd

#endif
