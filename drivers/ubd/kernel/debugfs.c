// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a disk counted, in debugfs: ubd/<disk>/stats (see stats.c), and each queue of
 * it: queue0 and so on. In builds with faults on demand also ubd/<disk>/fault, see
 * core/fault.hh, and ubd/<disk>/record, see core/record.hh.
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

static int stats_show(struct seq_file *m, void *unused)
{
	ubd_stats_show(m, m->private);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(stats);

static int queue_show(struct seq_file *m, void *unused)
{
	ubd_queue_stats_show(m, m->private);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(queue);

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
	struct ubd_kqueue *k;
	char name[16];
	u32 i = 0;

	d->debugfs = debugfs_create_dir(d->name, root);
	debugfs_create_file("stats", 0444, d->debugfs, d, &stats_fops);
	ubd_for_each_queue(k, d) {
		snprintf(name, sizeof(name), "queue%u", i++);
		debugfs_create_file(name, 0444, d->debugfs, k, &queue_fops);
	}
	add_fault(d);
}

void ubd_debugfs_remove(struct ubd_disk *d)
{
	debugfs_remove(d->debugfs);
	end_faults(d);
}
