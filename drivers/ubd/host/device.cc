// SPDX-License-Identifier: GPL-2.0-only
/*
 * Putting a device together, and the C names of that.
 *
 * Context: process, may sleep, under kernel/'s device mutex, unless a function
 * says otherwise.
 */
#include "device.hh"

#include <signal.h>

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

} // namespace

Device::Device(const ubd_options &o, const char *disk, ubd_kqueue *k)
	: k_(k), disk_(disk), index_(o.index), want_read_only_(o.read_only), sync_(o.sync), shared_(o.shared),
	  no_discard_(o.no_discard),
#ifdef UBD_FAULTS
	  queue_(k, faults_, layout_, queue_config(disk, shown_, o.sync))
#else
	  queue_(k, engine_, layout_, queue_config(disk, shown_, o.sync))
#endif
{
	copy_text(path_, o.path, sizeof(path_));
	copy_text(shown_, o.shown, sizeof(shown_));
	copy_text(serial_, o.serial, sizeof(serial_));
}

QueueConfig Device::queue_config(const char *disk, const char *path, bool sync)
{
	QueueConfig c;
	c.disk = disk;
	c.path = path;
	c.sync_writes = sync;
	return c;
}

Error Device::open(int wake_fd, bool beside, u32 depth)
{
	OpenRequest request{ disk_, shown_, path_, want_read_only_, !shared_, beside };
	UBD_TRY(file_.open(request));
	if (!shared_)
		ubd_relay_hold(index_, file_.fd());
	ignore_file_size_signal();
	int fds[] = { file_.fd() };
	Error e = engine_.open(depth, wake_fd, fds, 1, file_.sync_fd());
	if (e)
		ubd_k_log(UBD_LOG_ERROR, false, "%s: %s: cannot set up io_uring: %s (%d); %s\n", disk_, shown_,
			  errno_words(e.number), e.number, ring_remedy(e.number));
	return e;
}

void Device::info(ubd_device_info &out) const
{
	out.bytes = file_.size().value;
	out.logical_block = file_.logical_block();
	out.physical_block = file_.physical_block();
	out.read_only = file_.read_only();
	out.discard_granularity = no_discard_ || out.read_only ? 0 : out.physical_block;
	out.max_write_zeroes_sectors = out.read_only ? 0 : static_cast<u32>(file_.max_zeroes() >> UBD_SECTOR_SHIFT);
	out.write_cache = !sync_ && !out.read_only;
	out.fua = out.write_cache;
	out.path = shown_;
	out.serial = serial_;
	out.mode = sync_ ? "writethrough" : "writeback";
	out.engine = engine_.name();
	out.guest_bytes = sizeof(*this);
	out.host_bytes = engine_.host_bytes();
}

} // namespace ubd

namespace
{

ubd::Device &device(ubd_device *d)
{
	return *reinterpret_cast<ubd::Device *>(d);
}

} // namespace

int ubd_device_open(const ubd_options *o, const char *name, ubd_kqueue *k, int wake_fd, bool beside, ubd_u32 depth,
		    ubd_device **out)
{
	using namespace ubd;
	if (o->backing[0]) {
		ubd_k_log(
			UBD_LOG_ERROR, false,
			"%s: %s: copy-on-write over a backing file (%.100s) is not supported by this version; give one "
			"file\n",
			name, o->shown, o->backing);
		return errno_opnotsupp;
	}
	void *memory = ubd_k_zalloc(sizeof(Device));
	if (!memory) {
		ubd_k_log(UBD_LOG_ERROR, false, "%s: %s: no memory for the device; give the guest more (mem=)\n", name,
			  o->shown);
		return errno_nomem;
	}
	auto *d = new (Place{ memory }) Device(*o, name, k);
	if (Error e = d->open(wake_fd, beside, depth)) {
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

ubd_queue *ubd_device_queue(ubd_device *d)
{
	return reinterpret_cast<ubd_queue *>(&device(d).queue());
}

bool ubd_device_same_file(ubd_device *d, const char *path)
{
	struct stat st;
	return !ubd::stat_path(path, st) && device(d).file().is(st);
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

int ubd_device_set_fault(ubd_device *d, const char *text, size_t bytes)
{
	ubd::FaultRules rules;
	if (ubd::Error e = ubd::FaultRules::parse(text, bytes, rules))
		return e.number;
	unsigned long flags = ubd_k_lock(device(d).kernel());
	device(d).faults().set(rules);
	ubd_k_unlock(device(d).kernel(), flags);
	device(d).queue().commit(); // what was held back comes now
	return 0;
}

void ubd_device_show_fault(ubd_device *d, char *to, size_t bytes)
{
	unsigned long flags = ubd_k_lock(device(d).kernel());
	device(d).faults().show(to, bytes);
	ubd_k_unlock(device(d).kernel(), flags);
}

// Context: softirq, no lock held. As an interrupt: the late ones are announced.
void ubd_device_fault_timer(ubd_device *d)
{
	unsigned long flags = ubd_k_lock(device(d).kernel());
	device(d).faults().expire();
	ubd_k_unlock(device(d).kernel(), flags);
	device(d).queue().interrupt();
}

#endif
