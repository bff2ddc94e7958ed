// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a queue counted, in debugfs: ubd/<disk>/stats. In builds with faults on
 * demand also ubd/<disk>/fault, see core/fault.hh, and ubd/<disk>/record, see
 * core/record.hh.
 *
 * Context: process, may sleep.
 */
#include <linux/debugfs.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "ubd_kernel.h"

static struct dentry *root;

static void show_ops(struct seq_file *m, const struct ubd_stats *s)
{
	static const char *const names[UBD_OP_COUNT] = { "read", "write", "flush", "discard", "write_zeroes" };
	int i;

	for (i = 0; i < UBD_OP_COUNT; i++) {
		seq_printf(m, "%s_requests %llu\n", names[i], s->requests[i]);
		if (i != UBD_OP_FLUSH)
			seq_printf(m, "%s_bytes %llu\n", names[i], s->bytes[i]);
	}
}

static void show_memory(struct seq_file *m, struct ubd_disk *d)
{
	struct ubd_host_memory of_host;
	struct ubd_memory memory;

	ubd_disk_memory(d, &memory);
	ubd_device_host_memory(d->device, &of_host);
	seq_printf(m, "memory_at_rest %llu\n", memory.at_rest);
	seq_printf(m, "memory_now %llu\n", memory.now);
	seq_printf(m, "memory_at_most %llu\n", memory.at_most);
	seq_printf(m, "memory_of_host %llu\n", of_host.rings + of_host.bitmap);
	seq_printf(m, "bitmap_memory %llu\n", of_host.bitmap);
	seq_printf(m, "bitmap_reserved %llu\n", of_host.bitmap_reserved);
}

static int stats_show(struct seq_file *m, void *unused)
{
	struct ubd_disk *d = m->private;
	struct ubd_stats s;

	ubd_queue_stats(d->kq.queue, &s);
	show_ops(m, &s);
#define SHOW(field) seq_printf(m, #field " %llu\n", s.field)
	SHOW(errors);
	SHOW(chunks);
	SHOW(chunks_continued);
	SHOW(chunks_retried);
	SHOW(zeroed_reads);
	SHOW(inline_completions);
	SHOW(interrupt_completions);
	SHOW(polled_completions);
	SHOW(host_syncs);
	SHOW(syncs_shared);
	SHOW(host_dsync_writes);
	SHOW(commits);
	SHOW(bitmap_writes);
	SHOW(bitmap_allocations);
	SHOW(submit_calls);
	SHOW(submit_retries);
	SHOW(interrupts);
	SHOW(missed_wakeups);
	SHOW(header_reserve_uses);
	SHOW(chunk_reserve_uses);
	SHOW(pump_waits_memory);
	SHOW(pump_waits_ring);
	SHOW(timeouts);
	SHOW(cancels);
	SHOW(completion_overflows);
	SHOW(max_in_flight);
	SHOW(in_flight);
	SHOW(max_begun);
	SHOW(begun);
	SHOW(dirty_sectors);
	SHOW(queued);
#undef SHOW
	show_memory(m, d);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(stats);

#ifdef UBD_FAULTS

static int fault_show(struct seq_file *m, void *unused)
{
	struct ubd_disk *d = m->private;
	char *text = kmalloc(UBD_FAULT_TEXT_MAX, GFP_KERNEL);

	if (!text)
		return -ENOMEM;
	ubd_device_show_fault(d->device, text, UBD_FAULT_TEXT_MAX);
	seq_puts(m, text);
	kfree(text);
	return 0;
}

static int fault_open(struct inode *inode, struct file *file)
{
	return single_open(file, fault_show, inode->i_private);
}

static ssize_t fault_write(struct file *file, const char __user *from, size_t bytes, loff_t *pos)
{
	struct ubd_disk *d = file_inode(file)->i_private;
	char *text;
	int err;

	/* Each write replaces what was set: the second of one opening is a mistake. */
	if (*pos || bytes > UBD_FAULT_TEXT_MAX)
		return -EINVAL;
	text = memdup_user(from, bytes);
	if (IS_ERR(text))
		return PTR_ERR(text);
	err = ubd_device_set_fault(d->device, text, bytes);
	kfree(text);
	if (err)
		return -err;
	*pos += bytes;
	return bytes;
}

static const struct file_operations fault_fops = {
	.owner = THIS_MODULE,
	.open = fault_open,
	.read = seq_read,
	.write = fault_write,
	.llseek = seq_lseek,
	.release = single_release,
};

static ssize_t record_read(struct file *file, char __user *to, size_t bytes, loff_t *pos)
{
	struct ubd_disk *d = file_inode(file)->i_private;
	char *part;
	long n;

	bytes = min_t(size_t, bytes, UBD_RECORD_READ_MAX);
	part = kmalloc(bytes, GFP_KERNEL);
	if (!part)
		return -ENOMEM;
	n = ubd_device_read_record(d->device, *pos, part, bytes);
	if (n > 0 && copy_to_user(to, part, n))
		n = -EFAULT;
	kfree(part);
	if (n > 0)
		*pos += n;
	return n;
}

/* One after the other, by one opening: nothing here has a position. */
static ssize_t record_write(struct file *file, const char __user *from, size_t bytes, loff_t *pos)
{
	struct ubd_disk *d = file_inode(file)->i_private;
	char text[UBD_RECORD_TEXT_MAX];
	int err;

	if (bytes > sizeof(text))
		return -EINVAL;
	if (copy_from_user(text, from, bytes))
		return -EFAULT;
	err = ubd_device_record(d->device, text, bytes);
	return err ? -err : bytes;
}

static const struct file_operations record_fops = {
	.owner = THIS_MODULE,
	.read = record_read,
	.write = record_write,
	.llseek = default_llseek,
};

static void add_fault(struct ubd_disk *d)
{
	debugfs_create_file("fault", 0600, d->debugfs, d, &fault_fops);
	debugfs_create_file("record", 0600, d->debugfs, d, &record_fops);
}

/* Nobody can say "off" any more, and the disk's removal waits for its requests. */
static void end_faults(struct ubd_disk *d)
{
	ubd_device_set_fault(d->device, "off", 3);
}

#else

static void add_fault(struct ubd_disk *d) {}
static void end_faults(struct ubd_disk *d) {}

#endif

void ubd_debugfs_init(void)
{
	root = debugfs_create_dir("ubd", NULL);
}

void ubd_debugfs_exit(void)
{
	debugfs_remove(root);
}

void ubd_debugfs_add(struct ubd_disk *d)
{
	d->debugfs = debugfs_create_dir(d->name, root);
	debugfs_create_file("stats", 0444, d->debugfs, d, &stats_fops);
	add_fault(d);
}

void ubd_debugfs_remove(struct ubd_disk *d)
{
	debugfs_remove(d->debugfs);
	end_faults(d);
}
