// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a disk counted and what it is: in sysfs, one value for each file of
 * /sys/block/<disk>/ubd/, and as the lines of debugfs. Both come from the one
 * list below, so they cannot differ. Documentation/man/ubd.4 says what each is.
 * And two that are written to: `resize` and `resume`.
 *
 * Context: process, may sleep.
 */
#define pr_fmt(fmt) "ubd: " fmt

#include <linux/delay.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/sysfs.h>

#include "ubd_kernel.h"

struct figures {
	struct ubd_stats stats;
	struct ubd_memory memory;
	struct ubd_host_memory host;
	u64 memory_of_host;
	u64 queues;
};

/* Name, and the member of struct figures: what each queue counts, and all. */
#define UBD_COUNTERS(X)                                               \
	X(read_requests, stats.requests[UBD_OP_READ])                 \
	X(read_bytes, stats.bytes[UBD_OP_READ])                       \
	X(write_requests, stats.requests[UBD_OP_WRITE])               \
	X(write_bytes, stats.bytes[UBD_OP_WRITE])                     \
	X(flush_requests, stats.requests[UBD_OP_FLUSH])               \
	X(discard_requests, stats.requests[UBD_OP_DISCARD])           \
	X(discard_bytes, stats.bytes[UBD_OP_DISCARD])                 \
	X(write_zeroes_requests, stats.requests[UBD_OP_WRITE_ZEROES]) \
	X(write_zeroes_bytes, stats.bytes[UBD_OP_WRITE_ZEROES])       \
	X(errors, stats.errors)                                       \
	X(chunks, stats.chunks)                                       \
	X(chunks_continued, stats.chunks_continued)                   \
	X(chunks_retried, stats.chunks_retried)                       \
	X(zeroed_reads, stats.zeroed_reads)                           \
	X(inline_completions, stats.inline_completions)               \
	X(interrupt_completions, stats.interrupt_completions)         \
	X(polled_completions, stats.polled_completions)               \
	X(host_syncs, stats.host_syncs)                               \
	X(syncs_shared, stats.syncs_shared)                           \
	X(host_dsync_writes, stats.host_dsync_writes)                 \
	X(commits, stats.commits)                                     \
	X(bitmap_writes, stats.bitmap_writes)                         \
	X(bitmap_allocations, stats.bitmap_allocations)               \
	X(submit_calls, stats.submit_calls)                           \
	X(submit_retries, stats.submit_retries)                       \
	X(interrupts, stats.interrupts)                               \
	X(missed_wakeups, stats.missed_wakeups)                       \
	X(header_reserve_uses, stats.header_reserve_uses)             \
	X(chunk_reserve_uses, stats.chunk_reserve_uses)               \
	X(pump_waits_memory, stats.pump_waits_memory)                 \
	X(pump_waits_ring, stats.pump_waits_ring)                     \
	X(timeouts, stats.timeouts)                                   \
	X(cancels, stats.cancels)                                     \
	X(completion_overflows, stats.completion_overflows)           \
	X(max_in_flight, stats.max_in_flight)                         \
	X(in_flight, stats.in_flight)                                 \
	X(in_flight_host, stats.in_flight_host)                       \
	X(in_flight_retry, stats.in_flight_retry)                     \
	X(in_flight_flush, stats.in_flight_flush)                     \
	X(in_flight_space, stats.in_flight_space)                     \
	X(stops, stats.stops)                                         \
	X(stopped, stats.stopped)                                     \
	X(committing, stats.committing)                               \
	X(max_begun, stats.max_begun)                                 \
	X(begun, stats.begun)                                         \
	X(dirty_sectors, stats.dirty_sectors)                         \
	X(queued, stats.queued)

#define UBD_FIGURES(X)                    \
	X(queues, queues)                 \
	UBD_COUNTERS(X)                   \
	X(memory_at_rest, memory.at_rest) \
	X(memory_now, memory.now)         \
	X(memory_at_most, memory.at_most) \
	X(memory_of_host, memory_of_host) \
	X(bitmap_memory, host.bitmap)     \
	X(bitmap_reserved, host.bitmap_reserved)

static void collect(struct ubd_disk *d, struct figures *f)
{
	ubd_disk_stats(d, &f->stats);
	ubd_disk_memory(d, &f->memory);
	ubd_device_host_memory(d->device, &f->host);
	f->memory_of_host = f->host.rings + f->host.bitmap;
	f->queues = d->queues;
}

void ubd_stats_show(struct seq_file *m, struct ubd_disk *d)
{
	struct figures f;

	collect(d, &f);
#define LINE(name, member) seq_printf(m, #name " %llu\n", f.member);
	UBD_FIGURES(LINE)
}

void ubd_queue_stats_show(struct seq_file *m, struct ubd_kqueue *k)
{
	struct figures f;

	ubd_queue_stats(k->queue, &f.stats);
	UBD_COUNTERS(LINE)
#undef LINE
}

static struct ubd_disk *disk_of(struct device *dev)
{
	return dev_to_disk(dev)->private_data;
}

struct figure_attribute {
	struct device_attribute attr;
	size_t at;
};

static ssize_t figure_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct figures f;

	collect(disk_of(dev), &f);
	return sysfs_emit(buf, "%llu\n", *(u64 *)((void *)&f + container_of(attr, struct figure_attribute, attr)->at));
}

#define FIGURE(name, member)                             \
	static struct figure_attribute figure_##name = { \
		__ATTR(name, 0444, figure_show, NULL),   \
		offsetof(struct figures, member),        \
	};
UBD_FIGURES(FIGURE)
#undef FIGURE

#define WORD(name, mode)                                                                         \
	static ssize_t name##_show(struct device *dev, struct device_attribute *attr, char *buf) \
	{                                                                                        \
		return sysfs_emit(buf, "%s\n", disk_of(dev)->info.name);                         \
	}                                                                                        \
	static struct device_attribute word_##name = __ATTR(name, mode, name##_show, NULL)
WORD(mode, 0444);
WORD(engine, 0444);
WORD(werror, 0444);
/* The host's names are for the guest's root alone. */
WORD(path, 0400);
WORD(backing, 0400);
#undef WORD

/*
 * Who removes the disk holds the lock, and waits for who writes here: so this does not
 * wait for the lock, but has the call made anew, which fails once the disk is gone.
 */
static ssize_t resize_store(struct device *dev, struct device_attribute *attr, const char *buf, size_t count)
{
	struct ubd_disk *d = disk_of(dev);
	int err;

	if (!sysfs_streq(buf, "1")) {
		pr_err("%s: resize takes 1, to look at the size of the host's file, and nothing else\n", d->name);
		return -EINVAL;
	}
	if (!mutex_trylock(&ubd_devices_lock)) {
		msleep(20);
		return restart_syscall();
	}
	err = ubd_disk_resize(d);
	mutex_unlock(&ubd_devices_lock);
	return err ?: count;
}
static DEVICE_ATTR_WO(resize);

static ssize_t state_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct ubd_disk *d = disk_of(dev);
	struct ubd_kqueue *k;
	char state[80];

	/* That of the first queue that does not run. */
	ubd_for_each_queue(k, d) {
		if (!ubd_queue_show_state(k->queue, state, sizeof(state)))
			break;
	}
	return sysfs_emit(buf, "%s\n", state);
}
static DEVICE_ATTR_RO(state);

/* 1: somebody has made space on the host. */
static ssize_t resume_store(struct device *dev, struct device_attribute *attr, const char *buf, size_t bytes)
{
	struct ubd_disk *d = disk_of(dev);
	struct ubd_kqueue *k;

	if (!sysfs_streq(buf, "1")) {
		pr_err("%s: resume takes nothing but 1\n", d->name);
		return -EINVAL;
	}
	ubd_for_each_queue(k, d)
		ubd_queue_try_again(k->queue);
	return bytes;
}
static DEVICE_ATTR_WO(resume);

#define FIGURE(name, member) &figure_##name.attr.attr,
static struct attribute *attrs[] = {
	UBD_FIGURES(FIGURE) & word_mode.attr,
	&word_engine.attr,
	&word_werror.attr,
	&word_path.attr,
	&word_backing.attr,
	&dev_attr_resize.attr,
	&dev_attr_state.attr,
	&dev_attr_resume.attr,
	NULL,
};
#undef FIGURE

const struct attribute_group ubd_stats_group = {
	.name = "ubd",
	.attrs = attrs,
};
