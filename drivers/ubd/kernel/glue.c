// SPDX-License-Identifier: GPL-2.0-only
/*
 * The kernel services that core asks for, one small function each.
 *
 * Context: any, unless a function says otherwise.
 */
#define pr_fmt(fmt) "ubd: " fmt

#include <linux/bvec.h>
#include <linux/delay.h>
#include <linux/module.h>
#include <linux/ratelimit.h>
#include <linux/slab.h>

#include "ubd_kernel.h"

/* Atomic, no reclaim that could come back to us, no complaint when dry. */
#define UBD_GFP (GFP_NOWAIT | __GFP_NOWARN)

static struct kmem_cache *header_cache;
static struct kmem_cache *chunk_cache;

/* Context: process, may sleep. */
int ubd_glue_init(void)
{
	header_cache = kmem_cache_create("ubd_header", ubd_header_bytes(), 0, 0, NULL);
	chunk_cache = kmem_cache_create("ubd_chunk", ubd_chunk_bytes(), 0, 0, NULL);
	if (header_cache && chunk_cache)
		return 0;
	ubd_glue_exit();
	pr_err("no memory for the pools; give the guest more (mem=)\n");
	return -ENOMEM;
}

/* Context: process, may sleep. */
void ubd_glue_exit(void)
{
	kmem_cache_destroy(header_cache);
	kmem_cache_destroy(chunk_cache);
	header_cache = NULL;
	chunk_cache = NULL;
}

/* Context: softirq. */
static void kqueue_timer(struct timer_list *t)
{
	struct ubd_kqueue *k = container_of(t, struct ubd_kqueue, timer);

	if (ubd_queue_timer(k->queue))
		ubd_check_relay();
}

#ifdef UBD_FAULTS

/* Context: softirq. */
static void kqueue_fault_timer(struct timer_list *t)
{
	struct ubd_kqueue *k = container_of(t, struct ubd_kqueue, fault_timer);

	ubd_device_fault_timer(k->owner->device, k);
}

/*
 * A jiffy has begun already: so it may be early. In time travel who waits for the
 * completion looks by himself, at the host's clock.
 * Context: under the queue lock.
 */
void ubd_k_arm_fault_timer(struct ubd_kqueue *k, u32 ms)
{
	if (!ubd_time_travels())
		mod_timer(&k->fault_timer, jiffies + max(1UL, msecs_to_jiffies(ms)));
}

u64 ubd_k_now_ms(void)
{
	return ubd_time_travels() ? ubd_host_now_ms() : ktime_to_ms(ktime_get());
}

static void fault_timer_init(struct ubd_kqueue *k)
{
	timer_setup(&k->fault_timer, kqueue_fault_timer, 0);
}

static void fault_timer_exit(struct ubd_kqueue *k)
{
	timer_delete_sync(&k->fault_timer);
}

#else

static void fault_timer_init(struct ubd_kqueue *k) {}
static void fault_timer_exit(struct ubd_kqueue *k) {}

#endif

/* Context: process (a work item): the queue's limits may be changed. */
static void kqueue_limits_work(struct work_struct *work)
{
	struct ubd_kqueue *k = container_of(work, struct ubd_kqueue, limits_work);

	if (k->disk && READ_ONCE(k->no_discard))
		blk_queue_disable_discard(k->disk->queue);
}

/* Context: process, may sleep. */
int ubd_kqueue_init(struct ubd_kqueue *k, struct ubd_disk *owner)
{
	int err;

	k->owner = owner;
	spin_lock_init(&k->lock);
	timer_setup(&k->timer, kqueue_timer, 0);
	fault_timer_init(k);
	INIT_WORK(&k->limits_work, kqueue_limits_work);
	err = mempool_init_slab_pool(&k->headers, UBD_POOL_MIN, header_cache);
	if (err)
		return err;
	k->headers_ready = true;
	err = mempool_init_slab_pool(&k->chunks, UBD_POOL_MIN, chunk_cache);
	if (err)
		return err;
	k->chunks_ready = true;
	return 0;
}

/* Context: process, may sleep; no request is left. */
void ubd_kqueue_exit(struct ubd_kqueue *k)
{
	timer_delete_sync(&k->timer);
	fault_timer_exit(k);
	cancel_work_sync(&k->limits_work);
	if (k->chunks_ready)
		mempool_exit(&k->chunks);
	if (k->headers_ready)
		mempool_exit(&k->headers);
}

unsigned long ubd_k_lock(struct ubd_kqueue *k)
{
	unsigned long flags;

	spin_lock_irqsave(&k->lock, flags);
	return flags;
}

void ubd_k_unlock(struct ubd_kqueue *k, unsigned long flags)
{
	spin_unlock_irqrestore(&k->lock, flags);
}

/* Context: under the queue lock: atomic. */
void *ubd_k_header_alloc(struct ubd_kqueue *k)
{
	lockdep_assert_held(&k->lock);
	return mempool_alloc(&k->headers, UBD_GFP);
}

/* Context: under the queue lock. */
void ubd_k_header_free(struct ubd_kqueue *k, void *header)
{
	mempool_free(header, &k->headers);
}

/* Context: under the queue lock: atomic. */
void *ubd_k_chunk_alloc(struct ubd_kqueue *k)
{
	lockdep_assert_held(&k->lock);
	return mempool_alloc(&k->chunks, UBD_GFP);
}

/* Context: under the queue lock. */
void ubd_k_chunk_free(struct ubd_kqueue *k, void *chunk)
{
	mempool_free(chunk, &k->chunks);
}

/*
 * Guest memory is host memory, physically contiguous means contiguous.
 * Context: under the queue lock.
 */
u32 ubd_k_map(struct ubd_request *rq, struct ubd_iovec *iov, u32 max_iovs, u64 max_bytes, u64 *bytes)
{
	struct req_iterator *at = (struct req_iterator *)&rq->cursor;
	const struct req_iterator start = *at;
	u64 sum = 0;
	u32 n = 0;

	BUILD_BUG_ON(sizeof(struct req_iterator) > sizeof(rq->cursor));
	while (at->bio && sum < max_bytes) {
		struct bio_vec bv;
		void *base;

		if (!at->iter.bi_size) {
			at->bio = at->bio->bi_next;
			if (at->bio)
				at->iter = at->bio->bi_iter;
			continue;
		}
		bv = mp_bvec_iter_bvec(at->bio->bi_io_vec, at->iter);
		if (bv.bv_len > max_bytes - sum)
			bv.bv_len = max_bytes - sum;
		base = page_address(bv.bv_page) + bv.bv_offset;
		if (n && iov[n - 1].base + iov[n - 1].bytes == base) {
			iov[n - 1].bytes += bv.bv_len;
		} else {
			if (n == max_iovs)
				break;
			iov[n].base = base;
			iov[n].bytes = bv.bv_len;
			n++;
		}
		sum += bv.bv_len;
		bio_advance_iter_single(at->bio, &at->iter, bv.bv_len);
	}
	/* Pieces may end anywhere, a part of a request ends with a sector. */
	if (sum % UBD_SECTOR_SIZE && sum < max_bytes) {
		*at = start;
		return ubd_k_map(rq, iov, max_iovs, round_down(sum, UBD_SECTOR_SIZE), bytes);
	}
	*bytes = sum;
	return n;
}

static blk_status_t to_blk_status(u8 status)
{
	switch (status) {
	case UBD_STATUS_OK:
		return BLK_STS_OK;
	case UBD_STATUS_NOSPC:
		return BLK_STS_NOSPC;
	case UBD_STATUS_NOTSUPP:
		return BLK_STS_NOTSUPP;
	default:
		return BLK_STS_IOERR;
	}
}

/* Context: any, without the queue lock: what waits for these requests runs here. */
void ubd_k_end_requests(struct ubd_kqueue *k, struct ubd_request *list)
{
	DEFINE_IO_COMP_BATCH(iob);

	lockdep_assert_not_held(&k->lock);

	while (list) {
		struct ubd_request *r = list;
		struct request *rq = blk_mq_rq_from_pdu(r);

		/* After the end its memory is somebody else's. */
		list = r->next;
		ubd_trace_ended(k, r);
		if (!blk_mq_add_to_batch(rq, &iob, r->status != UBD_STATUS_OK, blk_mq_end_request_batch))
			blk_mq_end_request(rq, to_blk_status(r->status));
	}
	if (iob.complete)
		iob.complete(&iob);
}

/* Context: under the queue lock. */
void ubd_k_arm_timer(struct ubd_kqueue *k, u32 ms)
{
	mod_timer(&k->timer, jiffies + max(1UL, msecs_to_jiffies(ms)));
}

void ubd_k_disable_discard(struct ubd_kqueue *k)
{
	WRITE_ONCE(k->no_discard, true);
	schedule_work(&k->limits_work);
}

void ubd_k_log(enum ubd_log_level level, bool limited, const char *format, ...)
{
	static DEFINE_RATELIMIT_STATE(limit, 5 * HZ, 10);
	struct va_format vaf;
	va_list args;

	if (limited && !__ratelimit(&limit))
		return;
	va_start(args, format);
	vaf.fmt = format;
	vaf.va = &args;
	switch (level) {
	case UBD_LOG_ERROR:
		pr_err("%pV", &vaf);
		break;
	case UBD_LOG_WARN:
		pr_warn("%pV", &vaf);
		break;
	default:
		pr_info("%pV", &vaf);
		break;
	}
	va_end(args);
}

int ubd_k_snprintf(char *to, size_t bytes, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(to, bytes, format, args);
	va_end(args);
	return n;
}

void ubd_k_assert_failed(const char *what, const char *file, int line)
{
	pr_crit("%s:%d: broken invariant: %s\n", file, line, what);
	BUG();
}

/*
 * Not while a disk is frozen, see resize.c.
 * Context: process, may sleep.
 */
void *ubd_k_zalloc(size_t bytes)
{
	WARN_ON_ONCE(current->flags & PF_MEMALLOC_NOIO);
	return kvzalloc(bytes, GFP_KERNEL);
}

/* Context: process, may sleep. */
void ubd_k_free(void *p)
{
	kvfree(p);
}

/*
 * In time travel msleep() takes none of the host's time, and that is what is meant; who
 * can run has the CPU then, too.
 * Context: process, sleeps.
 */
void ubd_k_sleep_ms(u32 ms)
{
	if (!ubd_time_travels()) {
		msleep(ms);
		return;
	}
	ubd_host_sleep_ms(ms);
	schedule();
}

bool ubd_k_one_cpu(void)
{
	return num_possible_cpus() == 1;
}
