// SPDX-License-Identifier: GPL-2.0-only
/*
 * The tracepoints of trace.h, for core. Only in builds for kernels that have
 * them (UBD_TRACE).
 *
 * Context: under the queue lock, unless a function says otherwise.
 */
#include "ubd_kernel.h"

/* How many events somebody watches. */
u32 ubd_trace_on;

/* Context: process, under the kernel's lock of tracepoints. */
static int ubd_trace_reg(void)
{
	WRITE_ONCE(ubd_trace_on, ubd_trace_on + 1);
	return 0;
}

/* Context: as ubd_trace_reg(). */
static void ubd_trace_unreg(void)
{
	WRITE_ONCE(ubd_trace_on, ubd_trace_on - 1);
}

static const char *ubd_kqueue_name(const struct ubd_kqueue *k)
{
	return k->owner->name;
}

#define CREATE_TRACE_POINTS
#include "trace.h"

void ubd_k_trace_enqueue(struct ubd_kqueue *k, const struct ubd_request *rq, bool last)
{
	trace_ubd_enqueue(k, rq, last);
}

void ubd_k_trace_begin(struct ubd_kqueue *k, const struct ubd_request *rq, bool reserve)
{
	trace_ubd_begin(k, rq, reserve);
}

void ubd_k_trace_chunk(struct ubd_kqueue *k, struct ubd_trace_chunk c)
{
	trace_ubd_chunk(k, &c);
}

void ubd_k_trace_completed(struct ubd_kqueue *k, struct ubd_trace_chunk c, s32 result)
{
	trace_ubd_completed(k, &c, result);
}

void ubd_k_trace_retry(struct ubd_kqueue *k, struct ubd_trace_chunk c, enum ubd_retry why, int error, bool later)
{
	trace_ubd_retry(k, &c, why, error, later);
}

void ubd_k_trace_share(struct ubd_kqueue *k, u64 ticket, u64 leader)
{
	trace_ubd_share(k, ticket, leader);
}

void ubd_k_trace_commit(struct ubd_kqueue *k, u64 ticket, enum ubd_commit_phase phase, u64 sectors, u8 status)
{
	trace_ubd_commit(k, ticket, phase, sectors, status);
}

void ubd_k_trace_submit(struct ubd_kqueue *k, u32 entries, u32 left, int error)
{
	trace_ubd_submit(k, entries, left, error);
}

/* Context: that of ubd_k_end_requests(). */
void ubd_trace_end(struct ubd_kqueue *k, const struct ubd_request *rq)
{
	trace_ubd_end(k, rq);
}
