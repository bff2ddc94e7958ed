// SPDX-License-Identifier: GPL-2.0-only
/*
 * Keeps so many bios in flight on a block device, from kernel threads, and says
 * how long they took. What programs in a UML guest measure is mostly the cost of
 * their own system calls; this has none.
 *
 * A load is one line written to /sys/kernel/debug/ubd_load: words NAME=VALUE, of
 * which `dev` alone has no default. The write returns when the load is done; a
 * read of the same opening gets the result, one line of JSON. Several openings
 * run side by side. Sizes may end with k, m or g.
 *
 *	dev=PATH	the block device
 *	op=read		or write, discard, zeroes, flush
 *	order=random	or seq, or once: each block one time, scattered
 *	bs=4k		bytes of each operation
 *	depth=32	operations in flight, for each thread
 *	threads=1	each on its own share of the region
 *	ms=1000		ends after so many milliseconds; 0: not by time
 *	ios=0		ends after so many operations; 0: not by number
 *	offset=0 length=0	the region; a length of 0 is all that follows
 *	flush=0		after each K writes of one place in flight, a flush
 *	fua=0		1: writes with FUA
 *	seed=1		of the random order
 *	pages=0		order of the pages of a buffer: 2^N lie side by side
 *	plug=1		0: each bio is submitted by itself
 *	tag=0		of what is written: at most 255
 *	check=0		1: reads are compared with the stamps of plan.h, some of them
 *			where requests are large; "wrong" is how many were others
 *
 * What is written is a pattern with these stamps.
 *
 * Context: process, may sleep, but for slot_end_io().
 */
#define pr_fmt(fmt) "ubd_load: " fmt

#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/debugfs.h>
#include <linux/kthread.h>
#include <linux/llist.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/parser.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "plan.h"

#define LINE_MAX_BYTES 1024
#define DEPTH_MAX 4096
#define THREADS_MAX 64

struct load_params {
	char *dev;
	enum req_op op;
	u64 order;
	u64 bs, depth, threads;
	u64 ms, ios;
	u64 offset, length;
	u64 flush, fua, seed, pages, plug;
	u64 tag, check;
};

struct load;

/* A thread, and what it has in flight. */
struct worker {
	struct load *load;
	struct task_struct *task;
	struct completion ended;
	struct plan plan;
	struct slot *slots;
	u64 left; /* operations that may still begin */
	unsigned int in_flight;
	/* Slots whose bio has ended; who makes it non-empty wakes the thread. */
	struct llist_head done;
	wait_queue_head_t wait;
	blk_status_t error;
	u64 wrong; /* stamps that were others */
	u64 first_ns, last_ns;
	struct plan_histogram ops, flushes;
};

/* One place in flight. */
struct slot {
	struct worker *worker;
	struct llist_node node;
	struct page **pages;
	struct bio_vec *vecs;
	u64 offset; /* in bytes, on the device */
	u64 begin_ns, end_ns;
	u64 since_flush;
	blk_status_t status;
	bool flushing;
	struct bio bio;
};

/* One opening of the file. */
struct load {
	struct mutex lock;
	struct load_params params;
	struct file *file;
	struct block_device *bdev;
	u64 deadline_ns;
	unsigned int vecs; /* pieces of a buffer */
	struct worker *workers;
	char *result;
};

static bool has_data(const struct load_params *p)
{
	return p->op == REQ_OP_READ || p->op == REQ_OP_WRITE;
}

/* Context: any, also from within submit_bio(). */
static void slot_end_io(struct bio *bio)
{
	struct slot *s = container_of(bio, struct slot, bio);
	struct worker *w = s->worker;

	s->end_ns = ktime_get_ns();
	s->status = bio->bi_status;
	if (llist_add(&s->node, &w->done))
		wake_up(&w->wait);
}

static void prepare_flush(struct slot *s)
{
	bio_reset(&s->bio, s->worker->load->bdev, REQ_OP_WRITE | REQ_PREFLUSH | REQ_SYNC);
	s->flushing = true;
	s->since_flush = 0;
}

static void prepare_op(struct slot *s, u64 offset)
{
	struct load *l = s->worker->load;
	const struct load_params *p = &l->params;
	unsigned int piece = PAGE_SIZE << p->pages;
	blk_opf_t opf = p->op;
	unsigned int i, bytes;

	if (p->op == REQ_OP_WRITE)
		opf |= REQ_SYNC | REQ_IDLE | (p->fua ? REQ_FUA : 0);
	bio_reset(&s->bio, l->bdev, opf);
	s->bio.bi_iter.bi_sector = offset >> SECTOR_SHIFT;
	s->offset = offset;
	s->flushing = false;
	s->since_flush++;
	if (!has_data(p)) {
		s->bio.bi_iter.bi_size = p->bs;
		return;
	}
	for (i = 0, bytes = p->bs; bytes; i++) {
		unsigned int n = min(bytes, piece);

		if (p->op == REQ_OP_WRITE)
			plan_stamp(page_address(s->pages[i]), n, offset + p->bs - bytes, p->tag);
		__bio_add_page(&s->bio, s->pages[i], n, 0);
		bytes -= n;
	}
}

/* False when this place has nothing more to do. */
static bool prepare(struct slot *s)
{
	struct worker *w = s->worker;
	const struct load_params *p = &w->load->params;
	u64 offset;

	if (p->flush && s->since_flush == p->flush) {
		prepare_flush(s);
		return true;
	}
	if (w->error || !w->left || (w->load->deadline_ns && s->begin_ns >= w->load->deadline_ns))
		return false;
	if (p->op == REQ_OP_FLUSH) {
		prepare_flush(s);
	} else if (plan_next(&w->plan, &offset)) {
		prepare_op(s, offset);
	} else {
		return false;
	}
	w->left--;
	return true;
}

static void begin(struct slot *s)
{
	s->begin_ns = ktime_get_ns();
	if (!prepare(s))
		return;
	s->bio.bi_end_io = slot_end_io;
	s->worker->in_flight++;
	submit_bio(&s->bio);
}

/* Stamps of what was read that belong elsewhere. */
static u64 wrong_stamps(const struct slot *s)
{
	const struct load_params *p = &s->worker->load->params;
	u64 piece = PAGE_SIZE << p->pages;
	u64 step = max_t(u64, piece, PLAN_CHECK_BYTES);
	u64 at, wrong = 0;

	for (at = 0; at < p->bs; at += step)
		wrong += plan_wrong(page_address(s->pages[at / piece]), min(piece, p->bs - at), s->offset + at);
	return wrong;
}

static void account(struct slot *s)
{
	struct worker *w = s->worker;

	w->in_flight--;
	if (w->load->params.check && !s->status && bio_op(&s->bio) == REQ_OP_READ)
		w->wrong += wrong_stamps(s);
	if (s->status && !w->error)
		w->error = s->status;
	w->last_ns = max(w->last_ns, s->end_ns);
	plan_count(s->flushing ? &w->flushes : &w->ops, s->end_ns - s->begin_ns);
}

/* What ended goes on, in the order in which it ended. */
static void begin_again(struct worker *w)
{
	struct llist_node *list = llist_reverse_order(llist_del_all(&w->done));
	struct slot *s, *next;

	llist_for_each_entry_safe(s, next, list, node)
	{
		account(s);
		begin(s);
	}
}

static int worker_main(void *data)
{
	struct worker *w = data;
	const struct load_params *p = &w->load->params;
	struct blk_plug plug;
	u64 i;

	w->first_ns = ktime_get_ns();
	if (p->plug)
		blk_start_plug(&plug);
	for (i = 0; i < p->depth; i++)
		begin(&w->slots[i]);
	if (p->plug)
		blk_finish_plug(&plug);
	while (w->in_flight) {
		wait_event_idle(w->wait, !llist_empty(&w->done));
		if (p->plug)
			blk_start_plug(&plug);
		begin_again(w);
		if (p->plug)
			blk_finish_plug(&plug);
		cond_resched();
	}
	/* Nothing of the module's runs after this: it may be unloaded. */
	kthread_complete_and_exit(&w->ended, 0);
}

static void free_slot(struct slot *s, unsigned int vecs, unsigned int order)
{
	unsigned int i;

	if (s->worker)
		bio_uninit(&s->bio);
	for (i = 0; s->pages && i < vecs; i++)
		if (s->pages[i])
			__free_pages(s->pages[i], order);
	kvfree(s->pages);
	kvfree(s->vecs);
}

static int init_slot(struct slot *s, struct worker *w)
{
	struct load *l = w->load;
	unsigned int order = l->params.pages;
	unsigned int i;

	s->pages = kvcalloc(max(l->vecs, 1u), sizeof(*s->pages), GFP_KERNEL);
	s->vecs = kvcalloc(max(l->vecs, 1u), sizeof(*s->vecs), GFP_KERNEL);
	if (!s->pages || !s->vecs)
		return -ENOMEM;
	s->worker = w;
	bio_init(&s->bio, l->bdev, s->vecs, l->vecs, REQ_OP_READ);
	for (i = 0; i < l->vecs; i++) {
		s->pages[i] = alloc_pages(GFP_KERNEL | __GFP_COMP, order);
		if (!s->pages[i])
			return -ENOMEM;
		memset(page_address(s->pages[i]), 0xa5 ^ i, PAGE_SIZE << order);
	}
	return 0;
}

static void free_workers(struct load *l)
{
	const struct load_params *p = &l->params;
	u64 i, j;

	for (i = 0; l->workers && i < p->threads; i++) {
		for (j = 0; l->workers[i].slots && j < p->depth; j++)
			free_slot(&l->workers[i].slots[j], l->vecs, p->pages);
		kvfree(l->workers[i].slots);
	}
	kvfree(l->workers);
	l->workers = NULL;
}

static int init_worker(struct worker *w, struct load *l, u64 index)
{
	const struct load_params *p = &l->params;
	u64 blocks = div64_u64(p->length, p->bs * p->threads);
	u64 i;
	int err;

	w->load = l;
	init_completion(&w->ended);
	init_llist_head(&w->done);
	init_waitqueue_head(&w->wait);
	w->left = p->ios ? div64_u64(p->ios + p->threads - 1 - index, p->threads) : U64_MAX;
	plan_init(&w->plan, p->order, p->offset + index * blocks * p->bs, blocks, p->bs, p->seed + index);
	w->slots = kvcalloc(p->depth, sizeof(*w->slots), GFP_KERNEL);
	if (!w->slots)
		return -ENOMEM;
	for (i = 0; i < p->depth; i++) {
		err = init_slot(&w->slots[i], w);
		if (err)
			return err;
	}
	return 0;
}

static int init_workers(struct load *l)
{
	const struct load_params *p = &l->params;
	u64 i;
	int err;

	l->vecs = has_data(p) ? DIV_ROUND_UP(p->bs, PAGE_SIZE << p->pages) : 0;
	l->workers = kvcalloc(p->threads, sizeof(*l->workers), GFP_KERNEL);
	if (!l->workers)
		return -ENOMEM;
	for (i = 0; i < p->threads; i++) {
		err = init_worker(&l->workers[i], l, i);
		if (err)
			return err;
	}
	return 0;
}

static int start_workers(struct load *l)
{
	u64 i;

	for (i = 0; i < l->params.threads; i++) {
		struct task_struct *task = kthread_create(worker_main, &l->workers[i], "ubd_load/%llu", i);

		if (IS_ERR(task)) {
			while (i--)
				kthread_stop(l->workers[i].task);
			return PTR_ERR(task);
		}
		l->workers[i].task = task;
	}
	if (l->params.ms)
		l->deadline_ns = ktime_get_ns() + l->params.ms * NSEC_PER_MSEC;
	for (i = 0; i < l->params.threads; i++)
		wake_up_process(l->workers[i].task);
	return 0;
}

/* --- the result ------------------------------------------------------------ */

#define RESULT_BYTES (2 * PLAN_BUCKETS * 24 + 1024)

static int show_histogram(char *to, size_t room, const char *name, const struct plan_histogram *h)
{
	const char *comma = "";
	int n, i;

	n = scnprintf(to, room,
		      ",\"%s\":{\"count\":%llu,\"mean_ns\":%llu,\"p50_ns\":%llu,\"p99_ns\":%llu,\"p999_ns\":%llu,"
		      "\"max_ns\":%llu,\"buckets\":[",
		      name, h->count, h->count ? div64_u64(h->sum, h->count) : 0, plan_permille(h, 500),
		      plan_permille(h, 990), plan_permille(h, 999), h->max);
	for (i = 0; i < PLAN_BUCKETS; i++) {
		if (!h->buckets[i])
			continue;
		n += scnprintf(to + n, room - n, "%s[%llu,%u]", comma, plan_bucket_from(i), h->buckets[i]);
		comma = ",";
	}
	return n + scnprintf(to + n, room - n, "]}");
}

/* The workers' counts, all in the first of them. */
static int make_result(struct load *l)
{
	const struct load_params *p = &l->params;
	struct worker *w = l->workers;
	char *to = kvzalloc(RESULT_BYTES, GFP_KERNEL);
	u64 i;
	int n;

	if (!to)
		return -ENOMEM;
	for (i = 1; i < p->threads; i++) {
		plan_merge(&w->ops, &l->workers[i].ops);
		plan_merge(&w->flushes, &l->workers[i].flushes);
		w->first_ns = min(w->first_ns, l->workers[i].first_ns);
		w->last_ns = max(w->last_ns, l->workers[i].last_ns);
		w->wrong += l->workers[i].wrong;
		if (!w->error)
			w->error = l->workers[i].error;
	}
	n = scnprintf(to, RESULT_BYTES, "{\"begin_ns\":%llu,\"ns\":%llu,\"bytes\":%llu,\"error\":%d", w->first_ns,
		      w->last_ns ? w->last_ns - w->first_ns : 0, p->op == REQ_OP_FLUSH ? 0 : w->ops.count * p->bs,
		      blk_status_to_errno(w->error));
	n += show_histogram(to + n, RESULT_BYTES - n, "ops", &w->ops);
	n += show_histogram(to + n, RESULT_BYTES - n, "flushes", &w->flushes);
	scnprintf(to + n, RESULT_BYTES - n, ",\"wrong\":%llu}\n", w->wrong);
	kvfree(l->result);
	l->result = to;
	return 0;
}

/* --- the line of words ----------------------------------------------------- */

static int parse_op(struct load_params *p, const char *value)
{
	static const struct {
		const char *name;
		enum req_op op;
	} ops[] = {
		{ "read", REQ_OP_READ },           { "write", REQ_OP_WRITE }, { "discard", REQ_OP_DISCARD },
		{ "zeroes", REQ_OP_WRITE_ZEROES }, { "flush", REQ_OP_FLUSH },
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(ops); i++) {
		if (!strcmp(value, ops[i].name)) {
			p->op = ops[i].op;
			return 0;
		}
	}
	return -EINVAL;
}

static int parse_order(struct load_params *p, const char *value)
{
	static const char *const names[] = { [PLAN_SEQ] = "seq", [PLAN_RANDOM] = "random", [PLAN_ONCE] = "once" };
	int i = match_string(names, ARRAY_SIZE(names), value);

	if (i < 0)
		return -EINVAL;
	p->order = i;
	return 0;
}

static int parse_number(u64 *to, const char *value)
{
	char *end;

	*to = memparse(value, &end);
	return end == value || *end ? -EINVAL : 0;
}

static int parse_word(struct load_params *p, const char *name, char *value)
{
	const struct {
		const char *name;
		u64 *value;
	} numbers[] = {
		{ "bs", &p->bs },   { "depth", &p->depth },   { "threads", &p->threads }, { "ms", &p->ms },
		{ "ios", &p->ios }, { "offset", &p->offset }, { "length", &p->length },   { "flush", &p->flush },
		{ "fua", &p->fua }, { "seed", &p->seed },     { "pages", &p->pages },     { "plug", &p->plug },
		{ "tag", &p->tag }, { "check", &p->check },
	};
	int i;

	if (!strcmp(name, "dev")) {
		p->dev = value;
		return 0;
	}
	if (!strcmp(name, "op"))
		return parse_op(p, value);
	if (!strcmp(name, "order"))
		return parse_order(p, value);
	for (i = 0; i < ARRAY_SIZE(numbers); i++)
		if (!strcmp(name, numbers[i].name))
			return parse_number(numbers[i].value, value);
	return -EINVAL;
}

static int parse_line(struct load_params *p, char *line)
{
	char *word, *value;

	*p = (struct load_params){
		.op = REQ_OP_READ,
		.order = PLAN_RANDOM,
		.bs = 4096,
		.depth = 32,
		.threads = 1,
		.ms = 1000,
		.seed = 1,
		.plug = 1,
	};
	line = strim(line);
	while ((word = strsep(&line, " \t\n"))) {
		if (!*word)
			continue;
		value = strchr(word, '=');
		if (value)
			*value++ = 0;
		if (!value || parse_word(p, word, value)) {
			pr_err("%s=%s is not understood\n", word, value ?: "");
			return -EINVAL;
		}
	}
	return 0;
}

/* Against the device, too, which is open. */
static int check_params(struct load *l)
{
	struct load_params *p = &l->params;
	u64 size = bdev_nr_bytes(l->bdev);
	u64 block = bdev_logical_block_size(l->bdev);
	const char *why = NULL;

	if (!p->length && p->offset < size)
		p->length = size - p->offset;
	if (!p->depth || p->depth > DEPTH_MAX || !p->threads || p->threads > THREADS_MAX)
		why = "depth or threads out of range";
	else if (!p->bs || p->bs % block || p->offset % block)
		why = "bs and offset must be multiples of the logical block";
	else if (p->offset > size || p->length > size - p->offset || p->length < p->bs * p->threads)
		why = "the region is not on the device, or smaller than what threads need";
	else if (p->pages > MAX_PAGE_ORDER)
		why = "no pages of that order";
	else if (p->tag > 255)
		why = "tag= is one byte";
	else if (has_data(p) && DIV_ROUND_UP(p->bs, PAGE_SIZE << p->pages) > BIO_MAX_VECS)
		why = "bs is more than a bio can hold; give pages=";
	else if (!has_data(p) && p->bs > UINT_MAX)
		why = "bs is more than a bio can hold";
	else if ((p->flush || p->fua) && p->op != REQ_OP_WRITE)
		why = "only writes have flush= and fua=";
	else if (!p->ms && !p->ios && p->order != PLAN_ONCE)
		why = "it would never end";
	if (!why)
		return 0;
	pr_err("%s: %s\n", p->dev, why);
	return -EINVAL;
}

static int open_device(struct load *l)
{
	struct load_params *p = &l->params;
	blk_mode_t mode = p->op == REQ_OP_READ ? BLK_OPEN_READ : BLK_OPEN_READ | BLK_OPEN_WRITE;

	if (!p->dev) {
		pr_err("dev= is missing\n");
		return -EINVAL;
	}
	l->file = bdev_file_open_by_path(p->dev, mode, NULL, NULL);
	if (IS_ERR(l->file)) {
		pr_err("%s: cannot be opened: error %ld\n", p->dev, PTR_ERR(l->file));
		return PTR_ERR(l->file);
	}
	l->bdev = file_bdev(l->file);
	return 0;
}

/* What is in flight has to end: nobody can be told that it does not. */
static int run_workers(struct load *l)
{
	int err = init_workers(l);
	u64 i;

	if (!err)
		err = start_workers(l);
	for (i = 0; !err && i < l->params.threads; i++)
		wait_for_completion(&l->workers[i].ended);
	if (!err)
		err = make_result(l);
	free_workers(l);
	return err;
}

static int run_line(struct load *l, char *line)
{
	int err = parse_line(&l->params, line);

	l->deadline_ns = 0;
	if (!err)
		err = open_device(l);
	if (err)
		return err;
	err = check_params(l);
	if (!err)
		err = run_workers(l);
	bdev_fput(l->file);
	return err;
}

static int load_open(struct inode *inode, struct file *file)
{
	struct load *l = kzalloc(sizeof(*l), GFP_KERNEL);

	if (!l)
		return -ENOMEM;
	mutex_init(&l->lock);
	file->private_data = l;
	return 0;
}

static ssize_t load_write(struct file *file, const char __user *from, size_t bytes, loff_t *pos)
{
	struct load *l = file->private_data;
	char *line;
	int err;

	if (bytes > LINE_MAX_BYTES)
		return -EINVAL;
	line = memdup_user_nul(from, bytes);
	if (IS_ERR(line))
		return PTR_ERR(line);
	mutex_lock(&l->lock);
	err = run_line(l, line);
	mutex_unlock(&l->lock);
	kfree(line);
	/* A read begins with this load's result. */
	*pos = 0;
	return err ?: bytes;
}

static ssize_t load_read(struct file *file, char __user *to, size_t bytes, loff_t *pos)
{
	struct load *l = file->private_data;
	ssize_t n = 0;

	mutex_lock(&l->lock);
	if (l->result)
		n = simple_read_from_buffer(to, bytes, pos, l->result, strlen(l->result));
	mutex_unlock(&l->lock);
	return n;
}

static int load_release(struct inode *inode, struct file *file)
{
	struct load *l = file->private_data;

	kvfree(l->result);
	kfree(l);
	return 0;
}

static const struct file_operations load_fops = {
	.owner = THIS_MODULE,
	.open = load_open,
	.read = load_read,
	.write = load_write,
	/* A shell reads what it cannot seek in byte by byte. */
	.llseek = default_llseek,
	.release = load_release,
};

static struct dentry *load_file;

static int __init load_init(void)
{
	load_file = debugfs_create_file("ubd_load", 0600, NULL, NULL, &load_fops);
	return PTR_ERR_OR_ZERO(load_file);
}

static void __exit load_exit(void)
{
	debugfs_remove(load_file);
}

module_init(load_init);
module_exit(load_exit);
MODULE_DESCRIPTION("Load generator for block devices, in the kernel");
MODULE_LICENSE("GPL");
