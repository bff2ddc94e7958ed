/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The C ABI between the layers of ubd.
 *
 * kernel/ (C, Linux headers) and core/ plus host/ (C++, no Linux headers) meet
 * here and nowhere else. Three groups:
 *   ubd_k_*      implemented by kernel/ (in tests: by a fake), called by core
 *                and host
 *   ubd_queue_*, ubd_device_*, ubd_host_*
 *                implemented in C++, called by kernel/
 *   structures   that both sides read
 *
 * Units: a name ending in _sectors or called `sector` counts 512-byte sectors,
 * `bytes` and `offset` count bytes. Errors are positive errno values of the
 * host (x86-64 Linux on both sides, so the numbers agree) unless said else.
 */
#ifndef UBD_ABI_H
#define UBD_ABI_H

#ifdef __KERNEL__
#include <linux/types.h>
#else
#include <stddef.h>
#include <stdint.h>
#ifndef __cplusplus
#include <stdbool.h>
#endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

#ifdef __KERNEL__
typedef u8 ubd_u8;
typedef u32 ubd_u32;
typedef s32 ubd_s32;
typedef u64 ubd_u64;
#else
typedef uint8_t ubd_u8;
typedef uint32_t ubd_u32;
typedef int32_t ubd_s32;
/* as the kernel's u64, so that %llu fits on both sides */
typedef unsigned long long ubd_u64;
#endif

#define UBD_SECTOR_SHIFT 9
#define UBD_SECTOR_SIZE 512

/* Device numbers: 16 minors each, as the kernel's own driver has them. */
#define UBD_MAX_DEVICES 1024
#define UBD_MINOR_SHIFT 4

/* Longest host file name that we take, with its NUL: PATH_MAX of the host. */
#define UBD_PATH_MAX 4096
/* Longest description of one device (`ubd0=...`), with its NUL. */
#define UBD_SPEC_MAX 8704
#define UBD_SERIAL_MAX 128
/* A file name as messages show it, with its NUL: a log line holds no more. */
#define UBD_SHOWN_MAX 200

/* What is written to a device's file `fault`, or read from it, at most. */
#define UBD_FAULT_TEXT_MAX 2048

/* The same of `record`, and how much is read from it by one call. */
#define UBD_RECORD_TEXT_MAX 64
#define UBD_RECORD_READ_MAX 65536

/* iovecs that one chunk descriptor holds */
#define UBD_CHUNK_IOVS 64

/* Elements that each queue's mempools keep, beside its static reserve. */
#define UBD_POOL_MIN 8

/* Queues of one device, at most. */
#define UBD_MAX_QUEUES 8

/* Milliseconds after which a request that is still with the host is named. */
#define UBD_REQUEST_TIMEOUT_MS 30000

struct ubd_kqueue; /* kernel side of a queue: lock, pools, timer, disk */
struct ubd_queue; /* C++ side of a queue */
struct ubd_device; /* C++ side of a device: files, engines, queues */

/* Layout of the host's struct iovec. */
struct ubd_iovec {
	void *base;
	size_t bytes;
};

enum ubd_op {
	UBD_OP_READ,
	UBD_OP_WRITE,
	UBD_OP_FLUSH,
	UBD_OP_DISCARD,
	UBD_OP_WRITE_ZEROES,
	UBD_OP_COUNT,
};

enum ubd_request_flag {
	UBD_RQ_FUA = 1 << 0, /* durable before it ends */
	UBD_RQ_NOUNMAP = 1 << 1, /* zeroes must stay allocated */
};

/* How a request ended; kernel/ maps it to a blk_status_t. */
enum ubd_status {
	UBD_STATUS_OK,
	UBD_STATUS_IOERR,
	UBD_STATUS_NOSPC,
	UBD_STATUS_NOTSUPP,
	UBD_STATUS_READONLY,
};

/* Position in a request's data: kernel/ keeps a bio and its iterator here. */
struct ubd_cursor {
	ubd_u64 word[5];
};

/*
 * A request, in the memory that blk-mq allocated with its tag. The first part
 * is filled by kernel/ before ubd_queue_enqueue(), the rest belongs to core
 * until ubd_k_end_requests().
 */
struct ubd_request {
	ubd_u64 sector;
	ubd_u64 bytes;
	struct ubd_cursor cursor;
	ubd_u8 op;
	ubd_u8 flags;
	ubd_u8 status;

	ubd_u8 served; /* its last chunk was prepared; for who watches */
	ubd_u8 done; /* to be ended, or ended */
	ubd_u64 ticket;
	struct ubd_request *next;
	void *header;
};

/* Counters of one queue. Written under the queue lock. Each is a ubd_u64. */
struct ubd_stats {
	ubd_u64 requests[UBD_OP_COUNT];
	ubd_u64 bytes[UBD_OP_COUNT];
	ubd_u64 errors;
	ubd_u64 chunks;
	ubd_u64 chunks_continued; /* after a short transfer */
	ubd_u64 chunks_retried; /* after EINTR or EAGAIN */
	ubd_u64 zeroed_reads; /* past the host file's end */
	ubd_u64 inline_completions; /* reaped by the submitter */
	ubd_u64 interrupt_completions;
	ubd_u64 polled_completions; /* seen before the CPU went idle */
	ubd_u64 host_syncs; /* fdatasync calls that the host completed */
	ubd_u64 syncs_shared; /* flushes that another one's fdatasync served */
	ubd_u64 host_dsync_writes; /* RWF_DSYNC writes that it completed */
	ubd_u64 commits; /* of new COW bits, made durable */
	ubd_u64 bitmap_writes; /* calls that wrote blocks of the bitmap */
	ubd_u64 bitmap_allocations; /* calls that made space for parts of it */
	ubd_u64 submit_calls;
	ubd_u64 submit_retries; /* refused by the host, entered again */
	ubd_u64 interrupts; /* that looked at this queue */
	ubd_u64 missed_wakeups; /* completions that only the timer saw */
	ubd_u64 header_reserve_uses;
	ubd_u64 chunk_reserve_uses;
	ubd_u64 pump_waits_memory;
	ubd_u64 pump_waits_ring;
	ubd_u64 timeouts;
	ubd_u64 cancels;
	ubd_u64 completion_overflows; /* must stay 0 */
	ubd_u64 max_in_flight; /* chunks */
	ubd_u64 in_flight; /* chunks, now: the sum of the next four, less `committing` */
	ubd_u64 in_flight_host; /* handed to the engine */
	ubd_u64 in_flight_retry; /* wait to be handed over again, or for the next step */
	ubd_u64 in_flight_flush; /* wait for another one's fdatasync */
	ubd_u64 in_flight_space; /* wait for space on the host */
	ubd_u64 stops; /* for want of it */
	ubd_u64 stopped; /* 1: it is, now */
	ubd_u64 committing; /* 1: a commit that nobody asked for goes on */
	ubd_u64 max_begun; /* requests that had a header at a time */
	ubd_u64 begun; /* requests that have a header, now */
	ubd_u64 dirty_sectors; /* written, but not yet committed, now */
	ubd_u64 queued; /* requests not wholly prepared, now */
};

/*
 * Memory of one device in bytes; the formula is in Documentation/design.md. The
 * first group is what kernel/ knows and core asks for.
 */
struct ubd_memory {
	ubd_u64 fixed; /* the device itself and blk-mq's requests */
	ubd_u64 depth; /* requests that blk-mq may send at a time */
	ubd_u64 headers_kept; /* elements that lie in the pools now */
	ubd_u64 chunks_kept;

	ubd_u64 at_rest;
	ubd_u64 now;
	ubd_u64 at_most;
};

/* Memory of the host that one device takes, in bytes. */
struct ubd_host_memory {
	ubd_u64 rings;
	ubd_u64 bitmap; /* of a COW file: what is there of it */
	ubd_u64 bitmap_reserved; /* addresses for it, which cost nothing by themselves */
};

/* What kernel/ needs to know of an opened device to make a disk of it. */
struct ubd_device_info {
	ubd_u64 bytes;
	ubd_u32 logical_block; /* bytes */
	ubd_u32 physical_block; /* bytes */
	ubd_u32 memory_alignment; /* of a request's pieces: address and length, bytes */
	ubd_u32 discard_granularity; /* bytes; 0: no discard */
	ubd_u32 max_write_zeroes_sectors;
	bool read_only;
	bool write_cache; /* a flush means something */
	bool fua;
	const char *path; /* for messages */
	const char *backing; /* "" if none */
	const char *serial; /* "" if none */
	const char *mode; /* cache mode's name */
	const char *engine; /* engine's name */
	const char *werror; /* policy's name */
	bool stops; /* it is stop */
	ubd_u32 queues; /* that it is to have */
	ubd_u64 guest_bytes; /* of the guest's memory that the device lies in */
};

/* -- what is traced, see kernel/trace.h ----------------------------------- */

/* The ticket of the queue's own commits. */
#define UBD_NO_TICKET (~(ubd_u64)0)

/* What the host is asked for, of one chunk. */
struct ubd_trace_chunk {
	ubd_u64 ticket; /* of its request */
	ubd_u64 offset; /* in the file */
	ubd_u64 bytes;
	const char *op; /* the host's */
	ubd_u32 file; /* 0: the one written to, 1: the backing file */
};

/* Why a chunk is to be handed over again. */
enum ubd_retry {
	UBD_RETRY_SHORT, /* the host did a part of it */
	UBD_RETRY_ERROR, /* of those that pass */
	UBD_RETRY_FALLBACK, /* by another operation, since the host has not this one */
	UBD_RETRY_SPACE, /* when the host has space */
};

/* What a commit goes to, see core/cow.hh. */
enum ubd_commit_phase {
	UBD_COMMIT_DATA,
	UBD_COMMIT_BLOCKS,
	UBD_COMMIT_BITS,
	UBD_COMMIT_END,
};

enum ubd_log_level {
	UBD_LOG_ERROR,
	UBD_LOG_WARN,
	UBD_LOG_INFO,
};

/* -- implemented by kernel/ --------------------------------------------- */

/* Queue lock. Any context; nests nothing of ours inside. */
unsigned long ubd_k_lock(struct ubd_kqueue *k);
void ubd_k_unlock(struct ubd_kqueue *k, unsigned long flags);

/* Pools. Never sleep, never reclaim; NULL when dry. Queue lock held. */
void *ubd_k_header_alloc(struct ubd_kqueue *k);
void ubd_k_header_free(struct ubd_kqueue *k, void *header);
void *ubd_k_chunk_alloc(struct ubd_kqueue *k);
void ubd_k_chunk_free(struct ubd_kqueue *k, void *chunk);

/*
 * Describes the request's next data bytes, from its cursor on, as at most
 * max_iovs host buffers of at most max_bytes in all; neighbours are merged.
 * Moves the cursor. Returns how many iovecs, their sum in *bytes.
 */
ubd_u32 ubd_k_map(struct ubd_request *rq, struct ubd_iovec *iov, ubd_u32 max_iovs, ubd_u64 max_bytes, ubd_u64 *bytes);

/* Ends a list of requests (linked by next). No lock of ours may be held. */
void ubd_k_end_requests(struct ubd_kqueue *k, struct ubd_request *list);

/* Calls ubd_queue_timer() once, that many milliseconds from now. */
void ubd_k_arm_timer(struct ubd_kqueue *k, ubd_u32 ms);

/* Have this queue polled, if the CPU has nothing else to do. Queue lock held. */
void ubd_k_poll(struct ubd_kqueue *k);
/* Since any time in the past. Any context. */
ubd_u64 ubd_k_now_ns(void);

/* Discard turned out to be unsupported: advertise none. Any context. */
void ubd_k_disable_discard(struct ubd_kqueue *k);

/* printk with the module's prefix. `limited`: at most a few in 5 seconds. */
#ifdef __GNUC__
__attribute__((format(printf, 3, 4)))
#endif
void ubd_k_log(enum ubd_log_level level, bool limited, const char *format, ...);
#ifdef __GNUC__
__attribute__((format(printf, 3, 4)))
#endif
int ubd_k_snprintf(char *to, size_t bytes, const char *format, ...);

/* An invariant is broken: says where, stops what it can. */
void ubd_k_assert_failed(const char *what, const char *file, int line);

/* Process context, may sleep. Zeroed. */
void *ubd_k_zalloc(size_t bytes);
void ubd_k_free(void *p);

/* So much of the host's time, about. Sleeps. Process context. */
void ubd_k_sleep_ms(ubd_u32 ms);

/* True if device interrupts and request submission share one CPU. */
bool ubd_k_one_cpu(void);

/*
 * What the relay is told, and whether there is one, is changed under this lock. Taken
 * inside the device mutex, and never held while a file is waited for. Process context,
 * sleeps.
 */
void ubd_k_relay_lock(void);
void ubd_k_relay_unlock(void);

/*
 * Called while ubd_trace_on is not 0: see core/trace.hh. Queue lock held. Only in
 * builds for kernels with tracepoints (UBD_TRACE).
 */
extern ubd_u32 ubd_trace_on;
void ubd_k_trace_enqueue(struct ubd_kqueue *k, const struct ubd_request *rq, bool last);
void ubd_k_trace_begin(struct ubd_kqueue *k, const struct ubd_request *rq, bool reserve);
void ubd_k_trace_chunk(struct ubd_kqueue *k, struct ubd_trace_chunk c);
void ubd_k_trace_completed(struct ubd_kqueue *k, struct ubd_trace_chunk c, ubd_s32 result);
void ubd_k_trace_retry(struct ubd_kqueue *k, struct ubd_trace_chunk c, enum ubd_retry why, int error, bool later);
void ubd_k_trace_share(struct ubd_kqueue *k, ubd_u64 ticket, ubd_u64 leader);
void ubd_k_trace_commit(struct ubd_kqueue *k, ubd_u64 ticket, enum ubd_commit_phase phase, ubd_u64 sectors,
			ubd_u8 status);
void ubd_k_trace_submit(struct ubd_kqueue *k, ubd_u32 entries, ubd_u32 left, int error);

#ifdef UBD_FAULTS
/*
 * Calls ubd_device_fault_timer() once, that many milliseconds from now or a
 * little earlier; replaces what was armed before. Queue lock held.
 */
void ubd_k_arm_fault_timer(struct ubd_kqueue *k, ubd_u32 ms);
/* Since any time in the past; goes on with interrupts off, and in host calls. Any context. */
ubd_u64 ubd_k_now_ms(void);
#endif

/* -- implemented in C++ --------------------------------------------------- */

size_t ubd_header_bytes(void);
size_t ubd_chunk_bytes(void);

/* Any context; see core/queue.hh. */
void ubd_queue_enqueue(struct ubd_queue *q, struct ubd_request *rq, bool last);
void ubd_queue_commit(struct ubd_queue *q);
void ubd_queue_interrupt(struct ubd_queue *q);
/* See core/queue.hh. Process context, not preemptible. */
bool ubd_queue_wants_poll(const struct ubd_queue *q);
void ubd_queue_begin_poll(struct ubd_queue *q);
bool ubd_queue_poll(struct ubd_queue *q, ubd_u64 now_ns);
void ubd_queue_end_poll(struct ubd_queue *q);
/* Returns how many completions had come without an announcement. */
ubd_u64 ubd_queue_timer(struct ubd_queue *q);
/* `ms` after it came; true if the request is still not ended. */
bool ubd_queue_timeout(struct ubd_queue *q, struct ubd_request *rq, ubd_u64 ms);
void ubd_queue_stats(struct ubd_queue *q, struct ubd_stats *out);
/* Adds what one queue counted to what others did. */
void ubd_stats_add(struct ubd_stats *sum, const struct ubd_stats *one);
/* Fills in the second group. */
void ubd_queue_memory(struct ubd_queue *q, struct ubd_memory *m);
/* Of a COW device: a commit begins, whatever its age. Process context. */
void ubd_queue_begin_commit(struct ubd_queue *q);
/*
 * The device goes, and no request is left: no commit begins any more. True when
 * none is in flight. Process context.
 */
bool ubd_queue_drained(struct ubd_queue *q);
/* It stays after all. Process context. */
void ubd_queue_resume(struct ubd_queue *q);
/*
 * From now on each submission waits for its completions. Process context, may
 * spin with interrupts off: for reboot, when nobody relays completions.
 */
void ubd_queue_go_synchronous(struct ubd_queue *q);
/* See core/queue.hh. Process context. */
void ubd_queue_try_again(struct ubd_queue *q);
void ubd_queue_end_stops(struct ubd_queue *q);
bool ubd_queue_show_state(struct ubd_queue *q, char *to, size_t bytes);

/* How a device uses the host's page cache; named as in QEMU, see core/options.hh. */
enum ubd_cache {
	UBD_CACHE_WRITEBACK, /* unless something else is said */
	UBD_CACHE_NONE,
	UBD_CACHE_WRITETHROUGH,
	UBD_CACHE_DIRECTSYNC,
	UBD_CACHE_UNSAFE,
	UBD_CACHE_COUNT,
};

/* False if the text (not NUL-terminated) names no mode. Any context. */
bool ubd_parse_cache(const char *text, size_t bytes, enum ubd_cache *mode);
/* All names, for messages. */
#define UBD_CACHE_NAMES "writeback, none, writethrough, directsync, unsafe"

/* What does a device's I/O on the host. */
enum ubd_engine {
	UBD_ENGINE_DEFAULT, /* as the module's parameter has it */
	UBD_ENGINE_AUTO, /* io_uring, or threads where the host forbids it */
	UBD_ENGINE_IO_URING,
	UBD_ENGINE_THREADS,
};

/* By its name (not NUL-terminated); UBD_ENGINE_DEFAULT if it is none. Any context. */
enum ubd_engine ubd_parse_engine(const char *name, size_t bytes);
#define UBD_ENGINE_NAMES "auto, io_uring, threads"

/* What becomes of a write that the host has no space for; see core/options.hh. */
enum ubd_werror {
	UBD_WERROR_REPORT, /* it fails; unless something else is said */
	UBD_WERROR_STOP, /* the device waits for space */
};

/*
 * Sets the policy that the text (not NUL-terminated) names, and returns NULL; else
 * what is wrong with it, to stand behind it in a message. Any context.
 */
const char *ubd_parse_werror(const char *text, size_t bytes, enum ubd_werror *policy);

/* One device as the command line describes it; see core/options.hh. */
struct ubd_options {
	ubd_u32 index;
	enum ubd_engine engine; /* of ubd=engine:NAME, or UBD_ENGINE_DEFAULT */
	bool read_only; /* r */
	bool plain; /* d: no COW detection */
	bool shared; /* c: no locks */
	bool no_discard; /* t */
	enum ubd_cache cache; /* with what s and ubd=sync make of it */
	enum ubd_werror werror;
	char path[UBD_PATH_MAX];
	char shown[UBD_SHOWN_MAX]; /* path for messages, shortened in the middle */
	char backing[UBD_PATH_MAX];
	char backing_shown[UBD_SHOWN_MAX];
	char serial[UBD_SERIAL_MAX];
};

/* State that goes from one option to the next. */
struct ubd_option_state {
	enum ubd_cache cache; /* of the devices that follow */
	enum ubd_werror werror;
	enum ubd_engine engine; /* of the last ubd=engine:NAME */
	const char *hotplug; /* of the last ubd=hotplug:DIRECTORY, in the word; or NULL */
	size_t hotplug_bytes;
};

enum ubd_option_kind {
	UBD_OPTION_DEVICE, /* *out describes one */
	UBD_OPTION_GLOBAL, /* for the devices that follow: in the state */
	UBD_OPTION_OTHER, /* not ours */
	UBD_OPTION_BAD, /* why[] says it */
};

/*
 * Takes one word of a command line, such as "ubd0r=/a/file" (`word` need not
 * be NUL-terminated). Logs nothing. Any context.
 */
enum ubd_option_kind ubd_parse_option(const char *word, size_t bytes, struct ubd_option_state *state,
				      struct ubd_options *out, char *why, size_t why_bytes);

/* "ubd" 0 -> "ubda", 26 -> "ubdaa". */
void ubd_disk_name(const char *prefix, ubd_u32 index, char *to, size_t bytes);

/* What holds for every device. */
struct ubd_open_settings {
	int wake_fd;
	bool below; /* its files are named by the guest: only below the directory of hot plug */
	bool beside; /* the kernel's own driver is there as well */
	bool await_host; /* time travel: completions are awaited at once, see core/queue.hh */
	bool snapshot; /* what is written goes with the guest */
	const char *snapshot_dir; /* of the host, for that; "" for the usual one */
	ubd_u32 queue_depth; /* of each queue */
	ubd_u32 queues; /* of each device; 0: one for each CPU */
	ubd_u32 cpus;
	ubd_u32 block_size; /* logical, bytes; 0: as the files have it */
	ubd_u32 poll_us; /* completions are looked for that long before the CPU idles; 0: never */
	enum ubd_engine engine; /* where the command line names none */
	ubd_u32 commit_ms; /* age at which new bits of a COW file are committed; 0: never */
};

/*
 * A disk that the guest's root describes by files of configfs, and then switches
 * on; see core/plug.hh. Nobody else touches it meanwhile. Any context.
 */
#define UBD_MAX_QUEUE_DEPTH 1024
#define UBD_MAX_POLL_US 1000
#define UBD_PLUG_TEXT_MAX 4095 /* what configfs passes at once */
enum ubd_plug_file {
	UBD_PLUG_PATH,
	UBD_PLUG_BACKING,
	UBD_PLUG_SERIAL,
	UBD_PLUG_CACHE,
	UBD_PLUG_ENGINE,
	UBD_PLUG_WERROR,
	UBD_PLUG_INDEX,
	UBD_PLUG_READ_ONLY,
	UBD_PLUG_DISCARD,
	UBD_PLUG_SHARED,
	UBD_PLUG_PLAIN,
	UBD_PLUG_BLOCK_SIZE,
	UBD_PLUG_QUEUE_DEPTH,
	UBD_PLUG_COMMIT_MS,
	UBD_PLUG_POLL_US,
};

struct ubd_plug {
	struct ubd_options options;
	bool any_index; /* the first that is free */
	bool discard;
	ubd_u32 block_size; /* these as in struct ubd_open_settings */
	ubd_u32 queue_depth;
	ubd_u32 commit_ms;
	ubd_u32 poll_us;
};

/* With what the module's parameters say. */
void ubd_plug_init(struct ubd_plug *p, const struct ubd_open_settings *s, enum ubd_cache cache, enum ubd_werror werror);
/*
 * Takes what was written to a file (a newline at its end is dropped). On failure
 * returns an errno, says in why[] what is wrong with it, and changes nothing.
 */
int ubd_plug_set(struct ubd_plug *p, enum ubd_plug_file file, const char *text, size_t bytes, char *why,
		 size_t why_bytes);
/* What the file shows, with a newline. */
void ubd_plug_show(const struct ubd_plug *p, enum ubd_plug_file file, char *to, size_t bytes);
/* 0 if there is all that it takes to be switched on; else an errno, and why[]. */
int ubd_plug_complete(const struct ubd_plug *p, char *why, size_t bytes);
/* Of its own, over those of all devices. */
void ubd_plug_settings(const struct ubd_plug *p, struct ubd_open_settings *s);
/* What was written, for messages: its beginning, with question marks for control characters. */
void ubd_show_text(const char *text, size_t bytes, char *to); /* UBD_SHOWN_MAX */
/* "0" or "1", with a newline or without: what it is. Or -1. */
int ubd_parse_switch(const char *text, size_t bytes);

/* May a device be there beside another one? `same_file` as ubd_device_conflicts(). */
enum ubd_taken {
	UBD_TAKEN_NOT,
	UBD_TAKEN_NUMBER,
	UBD_TAKEN_FILE,
};
enum ubd_taken ubd_beside(const struct ubd_options *mine, const struct ubd_options *other, bool same_file);

/*
 * The directory below which the guest's root may attach files of the host.
 * Process context. The first logs what it did, and returns an errno.
 */
int ubd_hotplug_open(const char *directory);
bool ubd_hotplug_allowed(void);
void ubd_hotplug_close(void);

/*
 * Opens the files and the engine. Process context, sleeps (retries the lock
 * for some seconds). On failure logs the one message and returns an errno.
 * `name` is the disk's name and stays valid as long as the device.
 */
int ubd_device_open(const struct ubd_options *options, const char *name, struct ubd_kqueue *k,
		    const struct ubd_open_settings *settings, struct ubd_device **out);
void ubd_device_get_info(struct ubd_device *d, struct ubd_device_info *out);
/* Of the host, as it is now. */
void ubd_device_host_memory(struct ubd_device *d, struct ubd_host_memory *out);
/* The first queue, which each device has. */
struct ubd_queue *ubd_device_queue(struct ubd_device *d);
/*
 * Another one, with an engine of its own; before requests come. At most as many as
 * ubd_device_info says. Process context, sleeps. On failure logs why and returns
 * an errno; the device is as it was.
 */
int ubd_device_add_queue(struct ubd_device *d, struct ubd_kqueue *k, struct ubd_queue **out);
/*
 * True if the file at `path` is one of the device's, by whatever name, and one of
 * both sides is to write to it. `below`: see struct ubd_open_settings.
 */
bool ubd_device_conflicts(struct ubd_device *d, const char *path, bool below, bool read_only);
/*
 * Looks at the size that the host's files have now: in *bytes what the device would
 * have. An errno if it cannot have that, which is logged. *quiet: no request may be
 * queued or in flight, nor a commit, while it is given that size.
 */
int ubd_device_measure(struct ubd_device *d, ubd_u64 *bytes, bool *quiet);
/*
 * Around a call of ubd_device_grow() for which requests are held up: gets the guest's
 * memory that it needs, and gives it back. ENOMEM is logged. Process context, sleeps.
 */
int ubd_device_begin_growth(struct ubd_device *d);
void ubd_device_end_growth(struct ubd_device *d);
/*
 * Measures once more and gives it that size. After an error, which is logged, the
 * device is as before. Process context, sleeps, takes no memory of the guest; a COW
 * file may be copied.
 */
int ubd_device_grow(struct ubd_device *d, ubd_u64 *bytes);
/* No request may be queued or in flight. Process context, sleeps. */
void ubd_device_close(struct ubd_device *d);
#ifdef UBD_FAULTS
/* Faults on demand, see core/fault.hh. Any context; the first returns an errno. */
int ubd_device_set_fault(struct ubd_device *d, const char *text, size_t bytes);
void ubd_device_show_fault(struct ubd_device *d, char *to, size_t bytes);
/*
 * A record of the host's calls, see core/record.hh. Process context. The first
 * returns an errno; the second how many bytes of the record it copied, from
 * `offset` on, or -errno.
 */
int ubd_device_record(struct ubd_device *d, const char *text, size_t bytes);
long ubd_device_read_record(struct ubd_device *d, ubd_u64 offset, void *to, size_t bytes);
/* Of the queue that `k` is the kernel's side of. Softirq context. */
void ubd_device_fault_timer(struct ubd_device *d, struct ubd_kqueue *k);
#endif

/* Lets others of the host have the CPU, if there is anybody. Any context. */
void ubd_host_yield(void);
/*
 * The host's clock, since any time in the past, and a sleep by it, in which the
 * whole guest stands: for guests whose clock is their own. Any context.
 */
ubd_u64 ubd_host_now_ms(void);
void ubd_host_sleep_ms(ubd_u32 ms);

/* The host process's command line, NUL-separated; returns bytes or -errno. */
long ubd_host_read_cmdline(char *to, size_t bytes);

/*
 * The wake-up eventfd and its relay; see host/relay.hh. Process context. The first
 * returns the eventfd or -errno. After the second nothing is relayed or held any more,
 * but the eventfd stays, for devices that are just being opened; the last one closes it.
 */
int ubd_relay_start(void);
void ubd_relay_stop(void);
void ubd_relay_free(void);
/* 1 if the helper was gone and runs again, 0 if it runs or was stopped, -errno. */
int ubd_relay_revive(void);
/* Reads the eventfd once. Interrupt context. */
void ubd_relay_ack(void);

#ifdef __cplusplus
}
#endif

#endif /* UBD_ABI_H */
