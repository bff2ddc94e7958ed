// SPDX-License-Identifier: GPL-2.0-only
/*
 * The kernel's side of the device suite: a disk of ubd.ko's, and bios to it.
 * Process context.
 */
#include <linux/atomic.h>
#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/completion.h>
#include <linux/file.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/wait.h>

#include "disk.h"

struct test_disk {
	struct ubd_disk *disk;
	struct file *file;
	struct block_device *bdev;
	atomic_t in_flight;
	wait_queue_head_t idle;
};

struct test_bio {
	struct test_disk *disk;
	int *result;
};

struct test_disk *test_disk_open(const char *spec, int *err)
{
	struct test_disk *t = kzalloc(sizeof(*t), GFP_KERNEL);

	*err = -ENOMEM;
	if (!t)
		return NULL;
	init_waitqueue_head(&t->idle);
	t->disk = ubd_test_disk_add(spec);
	if (IS_ERR(t->disk)) {
		*err = PTR_ERR(t->disk);
		goto out_free;
	}
	t->file = bdev_file_open_by_dev(disk_devt(ubd_test_gendisk(t->disk)), BLK_OPEN_READ, NULL, NULL);
	if (IS_ERR(t->file)) {
		*err = PTR_ERR(t->file);
		goto out_remove;
	}
	t->bdev = file_bdev(t->file);
	*err = 0;
	return t;

out_remove:
	ubd_test_disk_remove(t->disk);
out_free:
	kfree(t);
	return NULL;
}

void test_disk_close(struct test_disk *t)
{
	if (!t)
		return;
	/* A kernel thread's fput() is put off; the disk must be closed first. */
	bdev_fput(t->file);
	flush_delayed_fput();
	ubd_test_disk_remove(t->disk);
	kfree(t);
}

u64 test_disk_sectors(struct test_disk *t)
{
	return bdev_nr_sectors(t->bdev);
}

bool test_disk_read_only(struct test_disk *t)
{
	return bdev_read_only(t->bdev);
}

bool test_disk_write_cache(struct test_disk *t)
{
	return bdev_write_cache(t->bdev);
}

void test_disk_stats(struct test_disk *t, struct ubd_stats *to)
{
	ubd_test_stats(t->disk, to);
}

static void bio_ended(struct bio *bio)
{
	struct test_bio *b = bio->bi_private;
	struct test_disk *t = b->disk;

	*b->result = blk_status_to_errno(bio->bi_status);
	kfree(b);
	bio_put(bio);
	if (atomic_dec_and_test(&t->in_flight))
		wake_up(&t->idle);
}

int test_disk_submit(struct test_disk *t, enum test_op op, u64 sector, const struct test_vec *vec, u32 n, int *result)
{
	blk_opf_t opf = op == TEST_READ ? REQ_OP_READ : REQ_OP_WRITE;
	struct test_bio *b = kmalloc(sizeof(*b), GFP_KERNEL);
	struct bio *bio;
	u32 i;

	*result = 1;
	if (!b)
		return -ENOMEM;
	if (op == TEST_WRITE_FUA)
		opf |= REQ_FUA;
	bio = bio_alloc(t->bdev, n, opf, GFP_KERNEL);
	bio->bi_iter.bi_sector = sector;
	for (i = 0; i < n; i++) {
		if (bio_add_page(bio, virt_to_page(vec[i].base), vec[i].bytes, offset_in_page(vec[i].base)) !=
		    vec[i].bytes) {
			bio_put(bio);
			kfree(b);
			return -EINVAL;
		}
	}
	*b = (struct test_bio){ t, result };
	bio->bi_private = b;
	bio->bi_end_io = bio_ended;
	atomic_inc(&t->in_flight);
	submit_bio(bio);
	return 0;
}

int test_disk_wait(struct test_disk *t)
{
	return wait_event_timeout(t->idle, !atomic_read(&t->in_flight), 30 * HZ) ? 0 : -ETIMEDOUT;
}

int test_disk_flush(struct test_disk *t)
{
	return blkdev_issue_flush(t->bdev);
}

int test_disk_discard(struct test_disk *t, u64 sector, u64 sectors)
{
	return blkdev_issue_discard(t->bdev, sector, sectors, GFP_KERNEL);
}

int test_disk_zero(struct test_disk *t, u64 sector, u64 sectors, bool unmap)
{
	return blkdev_issue_zeroout(t->bdev, sector, sectors, GFP_KERNEL,
				    BLKDEV_ZERO_NOFALLBACK | (unmap ? 0 : BLKDEV_ZERO_NOUNMAP));
}

void *test_pages_alloc(size_t bytes)
{
	return alloc_pages_exact(bytes, GFP_KERNEL | __GFP_ZERO);
}

void test_pages_free(void *p, size_t bytes)
{
	if (p)
		free_pages_exact(p, bytes);
}
