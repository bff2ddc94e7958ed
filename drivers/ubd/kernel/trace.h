/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The life of a request as tracepoints, ubd:ubd_*. Documentation/man/ubd.4 says
 * when each comes. All come under the queue lock, but for ubd_end.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM ubd

#if !defined(UBD_KERNEL_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define UBD_KERNEL_TRACE_H

#include <linux/tracepoint.h>

#include "ubd_kernel.h"

/* It would take these for functions. */
/* clang-format off */

TRACE_DEFINE_ENUM(UBD_OP_READ);
TRACE_DEFINE_ENUM(UBD_OP_WRITE);
TRACE_DEFINE_ENUM(UBD_OP_FLUSH);
TRACE_DEFINE_ENUM(UBD_OP_DISCARD);
TRACE_DEFINE_ENUM(UBD_OP_WRITE_ZEROES);
TRACE_DEFINE_ENUM(UBD_RQ_FUA);
TRACE_DEFINE_ENUM(UBD_RQ_NOUNMAP);
TRACE_DEFINE_ENUM(UBD_STATUS_OK);
TRACE_DEFINE_ENUM(UBD_STATUS_IOERR);
TRACE_DEFINE_ENUM(UBD_STATUS_NOSPC);
TRACE_DEFINE_ENUM(UBD_STATUS_NOTSUPP);
TRACE_DEFINE_ENUM(UBD_STATUS_READONLY);
TRACE_DEFINE_ENUM(UBD_RETRY_SHORT);
TRACE_DEFINE_ENUM(UBD_RETRY_ERROR);
TRACE_DEFINE_ENUM(UBD_RETRY_FALLBACK);
TRACE_DEFINE_ENUM(UBD_RETRY_SPACE);
TRACE_DEFINE_ENUM(UBD_COMMIT_DATA);
TRACE_DEFINE_ENUM(UBD_COMMIT_BLOCKS);
TRACE_DEFINE_ENUM(UBD_COMMIT_BITS);
TRACE_DEFINE_ENUM(UBD_COMMIT_END);

#define ubd_show_op(op)					\
	__print_symbolic(op,				\
		{ UBD_OP_READ, "read" },		\
		{ UBD_OP_WRITE, "write" },		\
		{ UBD_OP_FLUSH, "flush" },		\
		{ UBD_OP_DISCARD, "discard" },		\
		{ UBD_OP_WRITE_ZEROES, "write_zeroes" })

#define ubd_show_flags(flags)				\
	__print_flags(flags, "|",			\
		{ UBD_RQ_FUA, "fua" },			\
		{ UBD_RQ_NOUNMAP, "nounmap" })

#define ubd_show_status(status)				\
	__print_symbolic(status,			\
		{ UBD_STATUS_OK, "ok" },		\
		{ UBD_STATUS_IOERR, "ioerr" },		\
		{ UBD_STATUS_NOSPC, "nospc" },		\
		{ UBD_STATUS_NOTSUPP, "notsupp" },	\
		{ UBD_STATUS_READONLY, "readonly" })

#define ubd_show_why(why)				\
	__print_symbolic(why,				\
		{ UBD_RETRY_SHORT, "short" },		\
		{ UBD_RETRY_ERROR, "error" },		\
		{ UBD_RETRY_FALLBACK, "fallback" },	\
		{ UBD_RETRY_SPACE, "space" })

#define ubd_show_phase(phase)				\
	__print_symbolic(phase,				\
		{ UBD_COMMIT_DATA, "data" },		\
		{ UBD_COMMIT_BLOCKS, "blocks" },	\
		{ UBD_COMMIT_BITS, "bits" },		\
		{ UBD_COMMIT_END, "end" })

/* What all have that are about one chunk. */
#define UBD_CHUNK_FIELDS				\
	__string(disk, ubd_kqueue_name(k))		\
	__string(op, c->op)				\
	__field(u64, ticket)				\
	__field(u64, offset)				\
	__field(u64, bytes)				\
	__field(u32, file)

#define UBD_CHUNK_ASSIGN				\
	__assign_str(disk);				\
	__assign_str(op);				\
	__entry->ticket = c->ticket;			\
	__entry->offset = c->offset;			\
	__entry->bytes = c->bytes;			\
	__entry->file = c->file;

#define UBD_CHUNK_FORMAT "disk=%s ticket=%lld op=%s file=%u offset=%llu bytes=%llu"
#define UBD_CHUNK_ARGS					\
	__get_str(disk), __entry->ticket, __get_str(op), __entry->file, __entry->offset, __entry->bytes

/* A request got its ticket. */
TRACE_EVENT_FN(ubd_enqueue,
	TP_PROTO(const struct ubd_kqueue *k, const struct ubd_request *rq, bool last),
	TP_ARGS(k, rq, last),
	TP_STRUCT__entry(
		__string(disk, ubd_kqueue_name(k))
		__field(u64, ticket)
		__field(u64, sector)
		__field(u64, bytes)
		__field(u8, op)
		__field(u8, flags)
		__field(bool, last)
	),
	TP_fast_assign(
		__assign_str(disk);
		__entry->ticket = rq->ticket;
		__entry->sector = rq->op == UBD_OP_FLUSH ? 0 : rq->sector;
		__entry->bytes = rq->bytes;
		__entry->op = rq->op;
		__entry->flags = rq->flags;
		__entry->last = last;
	),
	TP_printk("disk=%s ticket=%lld op=%s flags=%s sector=%llu bytes=%llu last=%d",
		  __get_str(disk), __entry->ticket, ubd_show_op(__entry->op), ubd_show_flags(__entry->flags),
		  __entry->sector, __entry->bytes, __entry->last),
	ubd_trace_reg, ubd_trace_unreg
);

/* It is at the head, and has what it needs to be served. */
TRACE_EVENT_FN(ubd_begin,
	TP_PROTO(const struct ubd_kqueue *k, const struct ubd_request *rq, bool reserve),
	TP_ARGS(k, rq, reserve),
	TP_STRUCT__entry(
		__string(disk, ubd_kqueue_name(k))
		__field(u64, ticket)
		__field(bool, reserve)
	),
	TP_fast_assign(
		__assign_str(disk);
		__entry->ticket = rq->ticket;
		__entry->reserve = reserve;
	),
	TP_printk("disk=%s ticket=%lld reserve=%d", __get_str(disk), __entry->ticket, __entry->reserve),
	ubd_trace_reg, ubd_trace_unreg
);

/* A part of it was prepared for the host. */
TRACE_EVENT_FN(ubd_chunk,
	TP_PROTO(const struct ubd_kqueue *k, const struct ubd_trace_chunk *c),
	TP_ARGS(k, c),
	TP_STRUCT__entry(UBD_CHUNK_FIELDS),
	TP_fast_assign(UBD_CHUNK_ASSIGN),
	TP_printk(UBD_CHUNK_FORMAT, UBD_CHUNK_ARGS),
	ubd_trace_reg, ubd_trace_unreg
);

/* The host has completed it: bytes, or a negative errno. */
TRACE_EVENT_FN(ubd_completed,
	TP_PROTO(const struct ubd_kqueue *k, const struct ubd_trace_chunk *c, s32 result),
	TP_ARGS(k, c, result),
	TP_STRUCT__entry(
		UBD_CHUNK_FIELDS
		__field(s32, result)
	),
	TP_fast_assign(
		UBD_CHUNK_ASSIGN
		__entry->result = result;
	),
	TP_printk(UBD_CHUNK_FORMAT " result=%d", UBD_CHUNK_ARGS, __entry->result),
	ubd_trace_reg, ubd_trace_unreg
);

/* What is left of it is to be handed over again. */
TRACE_EVENT_FN(ubd_retry,
	TP_PROTO(const struct ubd_kqueue *k, const struct ubd_trace_chunk *c, enum ubd_retry why, int error,
		 bool later),
	TP_ARGS(k, c, why, error, later),
	TP_STRUCT__entry(
		UBD_CHUNK_FIELDS
		__field(int, error)
		__field(u8, why)
		__field(bool, later)
	),
	TP_fast_assign(
		UBD_CHUNK_ASSIGN
		__entry->error = error;
		__entry->why = why;
		__entry->later = later;
	),
	TP_printk(UBD_CHUNK_FORMAT " why=%s error=%d later=%d", UBD_CHUNK_ARGS, ubd_show_why(__entry->why),
		  __entry->error, __entry->later),
	ubd_trace_reg, ubd_trace_unreg
);

/* Its fdatasync, or commit, is that of another request, the leader. */
TRACE_EVENT_FN(ubd_share,
	TP_PROTO(const struct ubd_kqueue *k, u64 ticket, u64 leader),
	TP_ARGS(k, ticket, leader),
	TP_STRUCT__entry(
		__string(disk, ubd_kqueue_name(k))
		__field(u64, ticket)
		__field(u64, leader)
	),
	TP_fast_assign(
		__assign_str(disk);
		__entry->ticket = ticket;
		__entry->leader = leader;
	),
	TP_printk("disk=%s ticket=%lld leader=%lld", __get_str(disk), __entry->ticket, __entry->leader),
	ubd_trace_reg, ubd_trace_unreg
);

/* A commit of a COW device has come to this phase, for the bits of so many sectors. */
TRACE_EVENT_FN(ubd_commit,
	TP_PROTO(const struct ubd_kqueue *k, u64 ticket, enum ubd_commit_phase phase, u64 sectors, u8 status),
	TP_ARGS(k, ticket, phase, sectors, status),
	TP_STRUCT__entry(
		__string(disk, ubd_kqueue_name(k))
		__field(u64, ticket)
		__field(u64, sectors)
		__field(u8, phase)
		__field(u8, status)
	),
	TP_fast_assign(
		__assign_str(disk);
		__entry->ticket = ticket;
		__entry->sectors = sectors;
		__entry->phase = phase;
		__entry->status = status;
	),
	TP_printk("disk=%s ticket=%lld phase=%s sectors=%llu status=%s", __get_str(disk), __entry->ticket,
		  ubd_show_phase(__entry->phase), __entry->sectors, ubd_show_status(__entry->status)),
	ubd_trace_reg, ubd_trace_unreg
);

/* One call handed a batch to the host. */
TRACE_EVENT_FN(ubd_submit,
	TP_PROTO(const struct ubd_kqueue *k, u32 entries, u32 left, int error),
	TP_ARGS(k, entries, left, error),
	TP_STRUCT__entry(
		__string(disk, ubd_kqueue_name(k))
		__field(u32, entries)
		__field(u32, left)
		__field(int, error)
	),
	TP_fast_assign(
		__assign_str(disk);
		__entry->entries = entries;
		__entry->left = left;
		__entry->error = error;
	),
	TP_printk("disk=%s entries=%u left=%u error=%d", __get_str(disk), __entry->entries, __entry->left,
		  __entry->error),
	ubd_trace_reg, ubd_trace_unreg
);

/* The block layer is told how it went. */
TRACE_EVENT_FN(ubd_end,
	TP_PROTO(const struct ubd_kqueue *k, const struct ubd_request *rq),
	TP_ARGS(k, rq),
	TP_STRUCT__entry(
		__string(disk, ubd_kqueue_name(k))
		__field(u64, ticket)
		__field(u8, op)
		__field(u8, status)
	),
	TP_fast_assign(
		__assign_str(disk);
		__entry->ticket = rq->ticket;
		__entry->op = rq->op;
		__entry->status = rq->status;
	),
	TP_printk("disk=%s ticket=%lld op=%s status=%s", __get_str(disk), __entry->ticket,
		  ubd_show_op(__entry->op), ubd_show_status(__entry->status)),
	ubd_trace_reg, ubd_trace_unreg
);

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
