/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a load does, and how its latencies are counted: one text for the guest's
 * module (C, in a kernel) and for the host's program (C++), so that both do the
 * same operations in the same order.
 *
 * Context: any; needs nothing but the compiler.
 */
#ifndef UBD_BENCH_PLAN_H
#define UBD_BENCH_PLAN_H

typedef unsigned long long plan_u64;
typedef unsigned int plan_u32;

enum plan_order {
	PLAN_SEQ,
	PLAN_RANDOM,
	PLAN_ONCE, /* each block once, in a scattered order, then the load ends */
};

/* Which blocks come next: one for each thread. Lengths and offsets in bytes. */
struct plan {
	enum plan_order order;
	plan_u64 offset;
	plan_u64 blocks;
	plan_u64 block_bytes;
	plan_u64 at; /* how many were given out */
	plan_u64 rng; /* xorshift64*, never 0 */
	plan_u64 step; /* PLAN_ONCE: prime to `blocks` */
};

static inline plan_u64 plan_random(struct plan *p)
{
	p->rng ^= p->rng >> 12;
	p->rng ^= p->rng << 25;
	p->rng ^= p->rng >> 27;
	return p->rng * 2685821657736338717ull;
}

static inline plan_u64 plan_gcd(plan_u64 a, plan_u64 b)
{
	while (b) {
		plan_u64 rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

static inline void plan_init(struct plan *p, enum plan_order order, plan_u64 offset, plan_u64 blocks,
			     plan_u64 block_bytes, plan_u64 seed)
{
	p->order = order;
	p->offset = offset;
	p->blocks = blocks;
	p->block_bytes = block_bytes;
	p->at = 0;
	p->rng = (seed + 1) * 0x9e3779b97f4a7c15ull | 1;
	plan_random(p);
	/* About the golden section of the region: neighbours come far apart. */
	p->step = blocks * 5 / 8 + 1;
	while (plan_gcd(p->step, blocks) != 1)
		p->step++;
}

/* False when PLAN_ONCE has given out each block. */
static inline int plan_next(struct plan *p, plan_u64 *offset)
{
	plan_u64 block;

	switch (p->order) {
	case PLAN_RANDOM:
		/* The high half: the low bits of this generator are its weakest. */
		block = (plan_random(p) >> 32) % p->blocks;
		break;
	case PLAN_ONCE:
		if (p->at == p->blocks)
			return 0;
		block = p->at * p->step % p->blocks;
		break;
	default:
		block = p->at % p->blocks;
		break;
	}
	p->at++;
	*offset = p->offset + block * p->block_bytes;
	return 1;
}

/*
 * What is on a disk: each 4096 bytes begin with the place where they belong, in
 * bytes, and in the highest byte a tag of who wrote them. So a read can tell that
 * it got what it asked for, and the host's file afterwards that it was written.
 */
#define PLAN_STAMP_BYTES 4096
#define PLAN_STAMP_TAG 56
/* Of a large read this much lies between two stamps that are looked at. */
#define PLAN_CHECK_BYTES 65536

/* From the first stamp's place in a piece of a buffer that belongs at `offset`. */
static inline plan_u64 plan_first_stamp(plan_u64 offset)
{
	return -offset & (PLAN_STAMP_BYTES - 1);
}

static inline void plan_stamp(void *piece, plan_u64 bytes, plan_u64 offset, plan_u64 tag)
{
	plan_u64 at;

	for (at = plan_first_stamp(offset); at + sizeof(plan_u64) <= bytes; at += PLAN_STAMP_BYTES)
		*(plan_u64 *)((char *)piece + at) = (offset + at) | tag << PLAN_STAMP_TAG;
}

/* How many of the stamps that are looked at are not those of this place. */
static inline plan_u64 plan_wrong(const void *piece, plan_u64 bytes, plan_u64 offset)
{
	plan_u64 at, wrong = 0;

	for (at = plan_first_stamp(offset); at + sizeof(plan_u64) <= bytes; at += PLAN_CHECK_BYTES) {
		plan_u64 found = *(const plan_u64 *)((const char *)piece + at);

		wrong += (found ^ (offset + at)) << (64 - PLAN_STAMP_TAG) != 0;
	}
	return wrong;
}

/*
 * Latencies in nanoseconds: 16 buckets for each power of two, so a value is
 * known to 6 %.
 */
#define PLAN_SUB_BITS 4
#define PLAN_SUB (1 << PLAN_SUB_BITS)
#define PLAN_BUCKETS ((64 - PLAN_SUB_BITS + 1) * PLAN_SUB)

struct plan_histogram {
	plan_u64 count;
	plan_u64 sum;
	plan_u64 max;
	plan_u32 buckets[PLAN_BUCKETS];
};

static inline plan_u32 plan_bucket(plan_u64 ns)
{
	plan_u32 power;

	if (ns < PLAN_SUB)
		return ns;
	power = 63 - __builtin_clzll(ns);
	return ((power - PLAN_SUB_BITS + 1) << PLAN_SUB_BITS) + ((ns >> (power - PLAN_SUB_BITS)) & (PLAN_SUB - 1));
}

/* The least value that a bucket holds. */
static inline plan_u64 plan_bucket_from(plan_u32 bucket)
{
	plan_u32 power = bucket >> PLAN_SUB_BITS;

	if (!power)
		return bucket;
	return (plan_u64)(PLAN_SUB + (bucket & (PLAN_SUB - 1))) << (power - 1);
}

static inline void plan_count(struct plan_histogram *h, plan_u64 ns)
{
	h->count++;
	h->sum += ns;
	if (ns > h->max)
		h->max = ns;
	h->buckets[plan_bucket(ns)]++;
}

static inline void plan_merge(struct plan_histogram *to, const struct plan_histogram *from)
{
	plan_u32 i;

	to->count += from->count;
	to->sum += from->sum;
	if (from->max > to->max)
		to->max = from->max;
	for (i = 0; i < PLAN_BUCKETS; i++)
		to->buckets[i] += from->buckets[i];
}

/* The middle of the bucket below which so many of a thousand values lie. */
static inline plan_u64 plan_permille(const struct plan_histogram *h, plan_u32 permille)
{
	plan_u64 wanted = (h->count * permille + 999) / 1000;
	plan_u64 seen = 0;
	plan_u32 i;

	if (!h->count)
		return 0;
	for (i = 0; i < PLAN_BUCKETS - 1; i++) {
		seen += h->buckets[i];
		if (seen >= wanted) {
			plan_u64 middle = (plan_bucket_from(i) + plan_bucket_from(i + 1)) / 2;

			return middle < h->max ? middle : h->max;
		}
	}
	return h->max;
}

#endif
