/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the C files of kernel/ share. This layer binds: it decides nothing that
 * core could decide.
 */
#ifndef UBD_KERNEL_H
#define UBD_KERNEL_H

#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/mempool.h>
#include <linux/platform_device.h>
#include <linux/spinlock.h>
#include <linux/timer.h>

#include <timetravel.h>

#include "ubd/abi.h"

/* The kernel side of one queue. */
struct ubd_kqueue {
	spinlock_t lock;
	struct timer_list timer;
#ifdef UBD_FAULTS
	struct timer_list fault_timer;
#endif
	mempool_t headers;
	mempool_t chunks;
	bool headers_ready;
	bool chunks_ready;
	bool no_discard; /* set in any context, applied by work */
	struct work_struct limits_work;
	struct gendisk *disk; /* NULL until it is added */
	struct ubd_disk *owner;
	struct ubd_kqueue *next; /* of the same disk, or NULL; constant while it is listed */
	struct ubd_queue *queue; /* NULL until the device is open */
};

/* One disk. Allocated, added and removed under ubd_devices_lock. */
struct ubd_disk {
	struct list_head link;
	u32 index;
	char name[DISK_NAME_LEN];
	struct ubd_options options;
	struct ubd_kqueue kq; /* the first queue, which each disk has */
	u32 queues; /* how many */
	struct ubd_device *device;
	struct ubd_device_info info;
	struct blk_mq_tag_set tag_set;
	struct platform_device *pdev;
	struct dentry *debugfs;
	bool tag_set_ready;
	bool retired; /* open_mutex of the disk: nobody may open it any more */
};

#define ubd_for_each_queue(k, d) for ((k) = &(d)->kq; (k); (k) = (k)->next)

/* The guest's clock is its own, and stands in host calls. Any mode counts. */
static inline bool ubd_time_travels(void)
{
	return time_travel_mode != TT_MODE_OFF;
}

/* main.c */
extern struct mutex ubd_devices_lock;
/*
 * See ubd_k_relay_lock(). Taken inside ubd_devices_lock. What it protects in C: that the
 * guest goes down, from which on no disk is listed.
 */
extern struct mutex ubd_relay_lock;
extern bool ubd_going_down;
/* Sees to it, later, that the relay runs. Any context. */
void ubd_check_relay(void);
struct ubd_settings {
	const char *prefix;
	int major;
	enum ubd_cache cache; /* where the command line says nothing else */
	enum ubd_werror werror; /* the same */
	struct ubd_open_settings open;
};

/* glue.c */
int ubd_glue_init(void);
void ubd_glue_exit(void);
int ubd_kqueue_init(struct ubd_kqueue *k, struct ubd_disk *owner);
void ubd_kqueue_exit(struct ubd_kqueue *k);

/* blk.c: process context, ubd_devices_lock held; errors are logged there */
struct ubd_disk *ubd_disk_add(const struct ubd_options *options, const struct ubd_settings *settings);
void ubd_disk_remove(struct ubd_disk *d);
/* The same for one that somebody may have open: then it stays, and -EBUSY. */
int ubd_disk_retire(struct ubd_disk *d);
/* All that were added; interrupt context may walk it, see ubd_disk_add(). */
extern struct list_head ubd_disks;
void ubd_disks_interrupt(void);
void ubd_disks_go_synchronous(void);
/* Process context: of all queues. */
void ubd_disk_memory(struct ubd_disk *d, struct ubd_memory *m);
void ubd_disk_stats(struct ubd_disk *d, struct ubd_stats *to);

/*
 * resize.c: process context, ubd_devices_lock held. The disk gets the size that its
 * host file has now, if that is larger. 0, or an error that is logged.
 */
int ubd_disk_resize(struct ubd_disk *d);

/* configfs.c */
int ubd_configfs_init(const struct ubd_settings *settings);
void ubd_configfs_exit(void);

/* poll.c */
int ubd_poll_init(void);
void ubd_poll_exit(void);

/* stats.c: process context */
struct seq_file;
void ubd_stats_show(struct seq_file *m, struct ubd_disk *d);
void ubd_queue_stats_show(struct seq_file *m, struct ubd_kqueue *k);
extern const struct attribute_group ubd_stats_group;

/* trace.c: what context ubd_k_end_requests() has */
void ubd_trace_end(struct ubd_kqueue *k, const struct ubd_request *rq);
static inline void ubd_trace_ended(struct ubd_kqueue *k, const struct ubd_request *rq)
{
#ifdef UBD_TRACE
	if (unlikely(READ_ONCE(ubd_trace_on)))
		ubd_trace_end(k, rq);
#endif
}

/* debugfs.c */
void ubd_debugfs_init(void);
void ubd_debugfs_exit(void);
void ubd_debugfs_add(struct ubd_disk *d);
void ubd_debugfs_remove(struct ubd_disk *d);

#endif
