// SPDX-License-Identifier: GPL-2.0-only
/*
 * A disk gets the size that its host file has by now. Whether it may is core's to
 * decide, and what that takes on the host is host's to do; here requests are held up
 * meanwhile, and everybody is told.
 *
 * Context: process, may sleep.
 */
#define pr_fmt(fmt) "ubd: " fmt

#include <linux/delay.h>
#include <linux/sched/mm.h>

#include "compat.h"
#include "ubd_kernel.h"

/* Requests that the host does not end in that time are not waited for. */
#define UBD_QUIET_MS 30000

/*
 * Waits until no request is anywhere, and no commit; none begins until thaw(). Nothing
 * of ours asks for memory meanwhile: there may be none but what is to be swapped out, to
 * this disk, and a small piece is looked for until it is found. What others need for
 * themselves (a console) at least waits for no write to a disk.
 */
static int quiet(struct ubd_disk *d, unsigned int *noio)
{
	struct request_queue *q = d->kq.disk->queue;
	unsigned long until = jiffies + msecs_to_jiffies(UBD_QUIET_MS);

	*noio = memalloc_noio_save();
	blk_freeze_queue_start(q);
	if (!blk_mq_freeze_queue_wait_timeout(q, msecs_to_jiffies(UBD_QUIET_MS)))
		return -EBUSY;
	/* Host calls in which the guest stands have less to do then. */
	ubd_queue_begin_commit(d->kq.queue);
	while (!ubd_queue_drained(d->kq.queue)) {
		if (time_after(jiffies, until))
			return -EBUSY;
		msleep(1);
	}
	return 0;
}

static void thaw(struct ubd_disk *d, unsigned int noio)
{
	ubd_queue_resume(d->kq.queue);
	ubd_thaw_queue(d->kq.disk->queue);
	memalloc_noio_restore(noio);
}

static int grow_quietly(struct ubd_disk *d, u64 *bytes)
{
	unsigned int noio;
	int err = -ubd_device_begin_growth(d->device);

	if (err)
		return err;
	err = quiet(d, &noio);
	if (err)
		pr_err("%s: %s: is as large as it was: requests have not ended for %u s; look at the host's disk, and "
		       "try again\n",
		       d->name, d->info.path, UBD_QUIET_MS / 1000);
	else
		err = -ubd_device_grow(d->device, bytes);
	thaw(d, noio);
	ubd_device_end_growth(d->device);
	return err;
}

int ubd_disk_resize(struct ubd_disk *d)
{
	bool quietly;
	u64 bytes;
	int err;

	lockdep_assert_held(&ubd_devices_lock);
	err = -ubd_device_measure(d->device, &bytes, &quietly);
	if (err || bytes == d->info.bytes)
		return err;
	err = quietly ? grow_quietly(d, &bytes) : -ubd_device_grow(d->device, &bytes);
	if (err)
		return err;
	WRITE_ONCE(d->info.bytes, bytes);
	set_capacity_and_notify(d->kq.disk, bytes >> UBD_SECTOR_SHIFT);
	return 0;
}
