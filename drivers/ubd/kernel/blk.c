// SPDX-License-Identifier: GPL-2.0-only
/*
 * blk-mq: makes a disk of an opened device, and passes requests to its queue.
 *
 * Context: process, may sleep, unless a function says otherwise.
 */
#define pr_fmt(fmt) "ubd: " fmt

#include <linux/ata.h>
#include <linux/cdrom.h>
#include <linux/delay.h>
#include <linux/hdreg.h>
#include <linux/module.h>
#include <linux/rculist.h>
#include <linux/slab.h>
#include <linux/string_helpers.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "ubd_kernel.h"

/* As the kernel's own driver has it, for tools that still ask. */
#define UBD_HEADS 128
#define UBD_SECTORS 32

/* As HDIO_GET_IDENTITY, lsblk and our udev rules have it. */
#define UBD_MODEL "UML ubd"

/* One request: up to this many bytes, in at most so many pieces. */
#define UBD_MAX_SECTORS (2 << 11) /* 2 MiB */
#define UBD_MAX_SEGMENTS 256

/* Changed under ubd_devices_lock; the interrupt walks it under RCU, and a reboot: see list_disk(). */
LIST_HEAD(ubd_disks);

/* Context: that of ubd_queue_rq(). */
static bool fill_request(struct ubd_request *r, struct request *rq)
{
	struct req_iterator *at = (struct req_iterator *)&r->cursor;

	r->flags = 0;
	switch (req_op(rq)) {
	case REQ_OP_READ:
		r->op = UBD_OP_READ;
		break;
	case REQ_OP_WRITE:
		r->op = UBD_OP_WRITE;
		break;
	case REQ_OP_FLUSH:
		r->op = UBD_OP_FLUSH;
		break;
	case REQ_OP_DISCARD:
		r->op = UBD_OP_DISCARD;
		break;
	case REQ_OP_WRITE_ZEROES:
		r->op = UBD_OP_WRITE_ZEROES;
		break;
	default:
		return false;
	}
	if (rq->cmd_flags & REQ_FUA)
		r->flags |= UBD_RQ_FUA;
	if (rq->cmd_flags & REQ_NOUNMAP)
		r->flags |= UBD_RQ_NOUNMAP;
	r->sector = blk_rq_pos(rq);
	r->bytes = blk_rq_bytes(rq);
	at->bio = rq->bio;
	if (at->bio)
		at->iter = at->bio->bi_iter;
	return true;
}

static struct ubd_kqueue *kqueue_at(struct ubd_disk *d, u32 i)
{
	struct ubd_kqueue *k = &d->kq;

	while (i--)
		k = k->next;
	return k;
}

#ifdef UBD_FAULTS

static struct ubd_disk *disk_of(struct request_queue *q)
{
	return q->queuedata;
}

/* More queues than blk-mq has of one CPU: the tag decides, each is served at once. */
static bool is_spread(const struct ubd_disk *d)
{
	return d->queues > d->tag_set.nr_hw_queues;
}

static struct ubd_kqueue *kqueue_of(struct blk_mq_hw_ctx *hctx, const struct request *rq)
{
	struct ubd_disk *d = disk_of(hctx->queue);

	return is_spread(d) ? kqueue_at(d, rq->tag % d->queues) : hctx->driver_data;
}

static bool is_last(const struct blk_mq_hw_ctx *hctx, const struct blk_mq_queue_data *bd)
{
	return bd->last || is_spread(disk_of(hctx->queue));
}

#else

static struct ubd_kqueue *kqueue_of(struct blk_mq_hw_ctx *hctx, const struct request *rq)
{
	return hctx->driver_data;
}

static bool is_last(const struct blk_mq_hw_ctx *hctx, const struct blk_mq_queue_data *bd)
{
	return bd->last;
}

#endif

/* Context: atomic (no BLK_MQ_F_BLOCKING): never sleeps, always accepts. Any CPU. */
static blk_status_t ubd_queue_rq(struct blk_mq_hw_ctx *hctx, const struct blk_mq_queue_data *bd)
{
	if (!fill_request(blk_mq_rq_to_pdu(bd->rq), bd->rq))
		return BLK_STS_NOTSUPP;
	blk_mq_start_request(bd->rq);
	ubd_queue_enqueue(kqueue_of(hctx, bd->rq)->queue, blk_mq_rq_to_pdu(bd->rq), is_last(hctx, bd));
	return BLK_STS_OK;
}

/* Context: atomic. */
static void ubd_commit_rqs(struct blk_mq_hw_ctx *hctx)
{
	struct ubd_kqueue *k = hctx->driver_data;

	ubd_queue_commit(k->queue);
}

static int ubd_init_hctx(struct blk_mq_hw_ctx *hctx, void *data, unsigned int i)
{
	hctx->driver_data = kqueue_at(data, i);
	return 0;
}

/* Context: process (the block layer's timeout work), may not wait for requests. */
static enum blk_eh_timer_return ubd_timeout(struct request *rq)
{
	struct ubd_queue *q = kqueue_of(rq->mq_hctx, rq)->queue;
	u64 ms = rq->start_time_ns ? div_u64(ktime_get_ns() - rq->start_time_ns, NSEC_PER_MSEC)
				   : jiffies_to_msecs(rq->timeout);

	return ubd_queue_timeout(q, blk_mq_rq_to_pdu(rq), ms) ? BLK_EH_RESET_TIMER : BLK_EH_DONE;
}

static const struct blk_mq_ops ubd_mq_ops = {
	.queue_rq = ubd_queue_rq,
	.commit_rqs = ubd_commit_rqs,
	.timeout = ubd_timeout,
	.init_hctx = ubd_init_hctx,
};

static u32 cylinders(const struct ubd_disk *d)
{
	return d->info.bytes / (UBD_HEADS * UBD_SECTORS * UBD_SECTOR_SIZE);
}

static int ubd_getgeo(UBD_GETGEO_ARG, struct hd_geometry *geo)
{
	struct ubd_disk *d = ubd_getgeo_disk()->private_data;

	geo->heads = UBD_HEADS;
	geo->sectors = UBD_SECTORS;
	geo->cylinders = cylinders(d);
	return 0;
}

/* ATA identify strings: two characters a word, swapped, padded with blanks. */
static void ata_string(u16 *to, unsigned int words, const char *from)
{
	unsigned int i, n = strlen(from);

	for (i = 0; i < words; i++) {
		u8 a = 2 * i < n ? from[2 * i] : ' ';
		u8 b = 2 * i + 1 < n ? from[2 * i + 1] : ' ';

		to[i] = a << 8 | b;
	}
}

static int get_identity(struct ubd_disk *d, void __user *to)
{
	u16 id[ATA_ID_WORDS] = {};

	id[ATA_ID_CYLS] = min_t(u32, cylinders(d), U16_MAX);
	id[ATA_ID_HEADS] = UBD_HEADS;
	id[ATA_ID_SECTORS] = UBD_SECTORS;
	ata_string(id + ATA_ID_SERNO, ATA_ID_SERNO_LEN / 2, d->info.serial);
	ata_string(id + ATA_ID_FW_REV, ATA_ID_FW_REV_LEN / 2, THIS_MODULE->version ?: "");
	ata_string(id + ATA_ID_PROD, ATA_ID_PROD_LEN / 2, UBD_MODEL);
	return copy_to_user(to, id, sizeof(id)) ? -EFAULT : 0;
}

static int get_volume(void __user *arg)
{
	struct cdrom_volctrl v = { 255, 255, 255, 255 };

	return copy_to_user(arg, &v, sizeof(v)) ? -EFAULT : 0;
}

static int ubd_ioctl(struct block_device *bdev, blk_mode_t mode, unsigned int cmd, unsigned long arg)
{
	struct ubd_disk *d = bdev->bd_disk->private_data;

	switch (cmd) {
	case HDIO_GET_IDENTITY:
		return get_identity(d, (void __user *)arg);
	case CDROMVOLREAD:
		return get_volume((void __user *)arg);
	}
	return -ENOTTY;
}

/* The disk's open_mutex is held. */
static int ubd_open(struct gendisk *disk, blk_mode_t mode)
{
	struct ubd_disk *d = disk->private_data;

	return d->retired ? -ENXIO : 0;
}

static const struct block_device_operations ubd_fops = {
	.owner = THIS_MODULE,
	.open = ubd_open,
	.ioctl = ubd_ioctl,
	.compat_ioctl = blkdev_compat_ptr_ioctl,
	.getgeo = ubd_getgeo,
};

static ssize_t serial_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct ubd_disk *d = dev_to_disk(dev)->private_data;

	return sysfs_emit(buf, "%s", d->info.serial);
}
static DEVICE_ATTR_RO(serial);

static struct attribute *ubd_attrs[] = {
	&dev_attr_serial.attr,
	NULL,
};

static umode_t ubd_attr_visible(struct kobject *kobj, struct attribute *attr, int n)
{
	struct ubd_disk *d = dev_to_disk(kobj_to_dev(kobj))->private_data;

	return d->info.serial[0] ? attr->mode : 0;
}

static const struct attribute_group ubd_attr_group = {
	.attrs = ubd_attrs,
	.is_visible = ubd_attr_visible,
};

static const struct attribute_group *ubd_attr_groups[] = {
	&ubd_attr_group,
	&ubd_stats_group,
	NULL,
};

/*
 * Those of the platform device, which is /sys/block/ubda/device: lsblk reads
 * model, rev and serial there, and udev finds by the model which disks are ours.
 */
static ssize_t model_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, UBD_MODEL "\n");
}
static DEVICE_ATTR_RO(model);

static ssize_t rev_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", THIS_MODULE->version ?: "");
}
static DEVICE_ATTR_RO(rev);

static ssize_t parent_serial_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct ubd_disk *d = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%s\n", d->info.serial);
}
static struct device_attribute dev_attr_parent_serial = __ATTR(serial, 0444, parent_serial_show, NULL);

static struct attribute *ubd_parent_attrs[] = {
	&dev_attr_model.attr,
	&dev_attr_rev.attr,
	&dev_attr_parent_serial.attr,
	NULL,
};

static umode_t ubd_parent_attr_visible(struct kobject *kobj, struct attribute *attr, int n)
{
	struct ubd_disk *d = dev_get_drvdata(kobj_to_dev(kobj));

	return attr != &dev_attr_parent_serial.attr || d->info.serial[0] ? attr->mode : 0;
}

static const struct attribute_group ubd_parent_attr_group = {
	.attrs = ubd_parent_attrs,
	.is_visible = ubd_parent_attr_visible,
};

static const struct attribute_group *ubd_parent_attr_groups[] = {
	&ubd_parent_attr_group,
	NULL,
};

static struct queue_limits limits_of(const struct ubd_device_info *info)
{
	struct queue_limits lim = {
		.logical_block_size = info->logical_block,
		.physical_block_size = info->physical_block,
		.io_min = info->physical_block,
		.max_hw_sectors = UBD_MAX_SECTORS,
		.max_segments = UBD_MAX_SEGMENTS,
		.max_segment_size = UBD_MAX_SECTORS << UBD_SECTOR_SHIFT,
		.seg_boundary_mask = ULONG_MAX,
		.dma_alignment = info->memory_alignment - 1,
		.max_write_zeroes_sectors = info->max_write_zeroes_sectors,
	};

	if (info->write_cache)
		lim.features |= BLK_FEAT_WRITE_CACHE;
	if (info->fua)
		lim.features |= BLK_FEAT_FUA;
	if (info->discard_granularity) {
		lim.max_hw_discard_sectors = UINT_MAX >> UBD_SECTOR_SHIFT;
		lim.discard_granularity = info->discard_granularity;
	}
	return lim;
}

static int init_tag_set(struct ubd_disk *d, u32 depth)
{
	int err;

	d->tag_set.ops = &ubd_mq_ops;
	d->tag_set.nr_hw_queues = d->queues;
	d->tag_set.driver_data = d;
	d->tag_set.queue_depth = depth;
	d->tag_set.numa_node = NUMA_NO_NODE;
	d->tag_set.cmd_size = sizeof(struct ubd_request);
	d->tag_set.timeout = msecs_to_jiffies(UBD_REQUEST_TIMEOUT_MS);
	/* The host sorts its own queue; the order here is the order there. */
	d->tag_set.flags = UBD_MERGE_FLAG | BLK_MQ_F_NO_SCHED_BY_DEFAULT;
	err = blk_mq_alloc_tag_set(&d->tag_set);
	d->tag_set_ready = !err;
	return err;
}

/* The queues see it, or no longer. */
static void set_gendisk(struct ubd_disk *d, struct gendisk *disk)
{
	struct ubd_kqueue *k;

	ubd_for_each_queue(k, d) {
		if (!disk)
			cancel_work_sync(&k->limits_work);
		k->disk = disk;
	}
}

/* From here on a reboot finds it, unless that came first. ubd_devices_lock held. */
static int list_disk(struct ubd_disk *d)
{
	int err = 0;

	mutex_lock(&ubd_relay_lock);
	if (ubd_going_down)
		err = -ESHUTDOWN;
	else
		list_add_tail_rcu(&d->link, &ubd_disks);
	mutex_unlock(&ubd_relay_lock);
	return err;
}

static void unlink_disk(struct ubd_disk *d)
{
	list_del_rcu(&d->link);
	synchronize_rcu();
}

static int add_gendisk(struct ubd_disk *d, const struct ubd_settings *s)
{
	struct queue_limits lim = limits_of(&d->info);
	struct gendisk *disk = blk_mq_alloc_disk(&d->tag_set, &lim, d);
	int err;

	if (IS_ERR(disk))
		return PTR_ERR(disk);
	disk->major = s->major;
	disk->first_minor = d->index << UBD_MINOR_SHIFT;
	disk->minors = 1 << UBD_MINOR_SHIFT;
	disk->fops = &ubd_fops;
	disk->private_data = d;
	strscpy(disk->disk_name, d->name, sizeof(disk->disk_name));
	set_capacity(disk, d->info.bytes >> UBD_SECTOR_SHIFT);
	set_disk_ro(disk, d->info.read_only);
	set_gendisk(d, disk);
	/* device_add_disk() reads the partition table: completions must come. */
	err = list_disk(d);
	if (!err) {
		err = device_add_disk(d->pdev ? &d->pdev->dev : NULL, disk, ubd_attr_groups);
		if (err)
			unlink_disk(d);
	}
	if (err) {
		set_gendisk(d, NULL);
		put_disk(disk);
	}
	return err;
}

static void log_disk(const struct ubd_disk *d)
{
	char size[16];

	string_get_size(d->info.bytes >> UBD_SECTOR_SHIFT, UBD_SECTOR_SIZE, STRING_UNITS_2, size, sizeof(size));
	pr_info("%s: %s%s%.200s: %llu bytes (%s), %s, %s%s%s, %u-byte blocks\n", d->name, d->info.path,
		d->info.backing[0] ? " over " : "", d->info.backing, d->info.bytes, size, d->info.mode, d->info.engine,
		d->info.stops ? ", werror=stop" : "", d->info.read_only ? ", read-only" : "", d->info.logical_block);
}

/* Undoes all that was done, in any state of it. */
static void free_disk(struct ubd_disk *d)
{
	struct ubd_kqueue *k, *next;

	if (d->tag_set_ready)
		blk_mq_free_tag_set(&d->tag_set);
	if (d->pdev)
		platform_device_unregister(d->pdev);
	ubd_for_each_queue(k, d)
		ubd_kqueue_exit(k);
	if (d->device)
		ubd_device_close(d->device);
	for (k = d->kq.next; k; k = next) {
		next = k->next;
		kvfree(k);
	}
	kvfree(d);
}

static bool taken(const struct ubd_disk *d, const struct ubd_settings *s)
{
	bool read_only = d->options.read_only || s->open.snapshot;
	struct ubd_disk *other;
	bool same_file;

	list_for_each_entry(other, &ubd_disks, link) {
		same_file = ubd_device_conflicts(other->device, d->options.path, s->open.below, read_only);
		switch (ubd_beside(&d->options, &other->options, same_file)) {
		case UBD_TAKEN_NOT:
			continue;
		case UBD_TAKEN_NUMBER:
			pr_err("%s: %s: the number is taken by %s; choose another number\n", d->name, d->options.shown,
			       other->info.path);
			return true;
		case UBD_TAKEN_FILE:
			pr_err("%s: %s: the file is in use already as %s; name another file, or give both the r flag\n",
			       d->name, d->options.shown, other->name);
			return true;
		}
	}
	return false;
}

static int add_queue(struct ubd_disk *d)
{
	struct ubd_kqueue *k = kvzalloc(sizeof(*k), GFP_KERNEL);
	int err = k ? ubd_kqueue_init(k, d) : -ENOMEM;

	if (err)
		pr_err("%s: %s: no memory for another queue; give the guest more (mem=)\n", d->name, d->options.shown);
	else
		err = -ubd_device_add_queue(d->device, k, &k->queue);
	if (!err) {
		kqueue_at(d, d->queues++ - 1)->next = k;
		return 0;
	}
	if (k)
		ubd_kqueue_exit(k);
	kvfree(k);
	return err;
}

/* As many as it is to have. With fewer it does as well. */
static void add_queues(struct ubd_disk *d)
{
	int err = 0;

	while (d->queues < d->info.queues && !err)
		err = add_queue(d);
	if (err)
		pr_warn("%s: %s: so it has %u of %u queues; give queues=%u to ask for no more\n", d->name,
			d->options.shown, d->queues, d->info.queues, d->queues);
}

static int refuse_going_down(const struct ubd_disk *d)
{
	pr_err("%s: %s: is not added: the guest goes down; try again when it is up\n", d->name, d->options.shown);
	return -ESHUTDOWN;
}

static int open_disk(struct ubd_disk *d, const struct ubd_settings *s)
{
	int err;

	err = ubd_kqueue_init(&d->kq, d);
	if (err) {
		pr_err("%s: %s: no memory for the pools; give the guest more (mem=)\n", d->name, d->options.shown);
		return err;
	}
	/* To open it may take seconds, and nothing would come of it. */
	if (READ_ONCE(ubd_going_down))
		return refuse_going_down(d);
	if (taken(d, s))
		return -EBUSY;
	err = -ubd_device_open(&d->options, d->name, &d->kq, &s->open, &d->device);
	if (err)
		return err;
	ubd_device_get_info(d->device, &d->info);
	d->kq.queue = ubd_device_queue(d->device);
	d->queues = 1;
	add_queues(d);
	ubd_device_get_info(d->device, &d->info);
	return 0;
}

static int add_parent(struct ubd_disk *d, const struct ubd_settings *s)
{
	struct platform_device *pdev = platform_device_alloc(s->open.beside ? s->prefix : "uml-blkdev", d->index);
	int err;

	if (!pdev)
		return -ENOMEM;
	pdev->dev.groups = ubd_parent_attr_groups;
	platform_set_drvdata(pdev, d);
	err = platform_device_add(pdev);
	if (err)
		platform_device_put(pdev);
	else
		d->pdev = pdev;
	return err;
}

static int publish_disk(struct ubd_disk *d, const struct ubd_settings *s)
{
	int err = init_tag_set(d, s->open.queue_depth);

	if (!err)
		err = add_parent(d, s);
	return err ?: add_gendisk(d, s);
}

/* Why a device that is open becomes no disk. */
static void log_unpublished(const struct ubd_disk *d, int err)
{
	if (err == -ESHUTDOWN)
		refuse_going_down(d);
	else if (err == -ENOMEM)
		pr_err("%s: %s: no memory to make it a disk; give the guest more (mem=)\n", d->name, d->options.shown);
	else
		pr_err("%s: %s: cannot become a disk: error %d; another number or prefix= may help\n", d->name,
		       d->options.shown, err);
}

struct ubd_disk *ubd_disk_add(const struct ubd_options *options, const struct ubd_settings *s)
{
	struct ubd_disk *d = kvzalloc(sizeof(*d), GFP_KERNEL);
	int err = -ENOMEM;

	lockdep_assert_held(&ubd_devices_lock);
	if (!d) {
		pr_err("ubd%u: %s: no memory for the device; give the guest more (mem=)\n", options->index,
		       options->shown);
		return ERR_PTR(err);
	}
	INIT_LIST_HEAD(&d->link);
	d->index = options->index;
	d->options = *options;
	ubd_disk_name(s->prefix, d->index, d->name, sizeof(d->name));
	err = open_disk(d, s);
	if (!err) {
		err = publish_disk(d, s);
		if (err)
			log_unpublished(d, err);
	}
	if (err) {
		free_disk(d);
		return ERR_PTR(err);
	}
	ubd_debugfs_add(d);
	log_disk(d);
	return d;
}

/* Nobody has it open: the module's count, or the caller, sees to that. */
void ubd_disk_remove(struct ubd_disk *d)
{
	struct gendisk *disk = d->kq.disk;
	struct ubd_kqueue *k;

	lockdep_assert_held(&ubd_devices_lock);
	ubd_debugfs_remove(d);
	/* Who waits for space holds up the rest. */
	ubd_for_each_queue(k, d)
		ubd_queue_end_stops(k->queue);
	del_gendisk(disk);
	/* A commit uses the device's memory: it ends before that goes. */
	ubd_for_each_queue(k, d) {
		while (!ubd_queue_drained(k->queue))
			msleep(1);
	}
	unlink_disk(d);
	set_gendisk(d, NULL);
	put_disk(disk);
	free_disk(d);
}

/* Who only looked at it (udev, blkid) is waited for. */
#define RETIRE_PATIENCE_MS 500

int ubd_disk_retire(struct ubd_disk *d)
{
	struct gendisk *disk = d->kq.disk;
	unsigned int waited;

	for (waited = 0;; waited += 10) {
		mutex_lock(&disk->open_mutex);
		d->retired = !disk_openers(disk);
		mutex_unlock(&disk->open_mutex);
		if (d->retired || waited >= RETIRE_PATIENCE_MS)
			break;
		msleep(10);
	}
	if (!d->retired)
		return -EBUSY;
	pr_info("%s: %s: is taken out\n", d->name, d->info.path);
	ubd_disk_remove(d);
	return 0;
}

void ubd_disk_memory(struct ubd_disk *d, struct ubd_memory *m)
{
	struct ubd_kqueue *k;

	*m = (struct ubd_memory){};
	ubd_for_each_queue(k, d) {
		struct ubd_memory one = {
			.depth = d->tag_set.queue_depth,
			.headers_kept = READ_ONCE(k->headers.curr_nr),
			.chunks_kept = READ_ONCE(k->chunks.curr_nr),
		};

		one.fixed = (k == &d->kq ? sizeof(*d) + d->info.guest_bytes : sizeof(*k)) +
			    one.depth * ALIGN(sizeof(struct request) + d->tag_set.cmd_size, cache_line_size());
		ubd_queue_memory(k->queue, &one);
		m->at_rest += one.at_rest;
		m->now += one.now;
		m->at_most += one.at_most;
	}
}

void ubd_disk_stats(struct ubd_disk *d, struct ubd_stats *to)
{
	struct ubd_kqueue *k;

	*to = (struct ubd_stats){};
	ubd_for_each_queue(k, d) {
		struct ubd_stats one;

		ubd_queue_stats(k->queue, &one);
		ubd_stats_add(to, &one);
	}
}

/* Context: interrupt. */
void ubd_disks_interrupt(void)
{
	struct ubd_kqueue *k;
	struct ubd_disk *d;

	rcu_read_lock();
	list_for_each_entry_rcu(d, &ubd_disks, link) {
		ubd_for_each_queue(k, d)
			ubd_queue_interrupt(k->queue);
	}
	rcu_read_unlock();
}

/* Context: process, at reboot. */
void ubd_disks_go_synchronous(void)
{
	struct ubd_kqueue *k;
	struct ubd_disk *d;

	rcu_read_lock();
	list_for_each_entry_rcu(d, &ubd_disks, link) {
		ubd_for_each_queue(k, d)
			ubd_queue_go_synchronous(k->queue);
	}
	rcu_read_unlock();
}
