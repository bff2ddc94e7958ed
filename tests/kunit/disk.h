/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the device suite (device.cc) needs of the kernel (disk.c) and of the
 * host (host_file.cc). Process context; all but the statistics sleep. Errors
 * are negative errno values.
 */
#ifndef UBD_TESTS_DISK_H
#define UBD_TESTS_DISK_H

#include "ubd/test_api.h"

#ifdef __cplusplus
extern "C" {
#endif

struct test_disk;

/* Memory of the guest's, by its address; may cross pages. */
struct test_vec {
	void *base;
	ubd_u32 bytes;
};

enum test_op {
	TEST_READ,
	TEST_WRITE,
	TEST_WRITE_FUA,
};

/* -- disk.c ----------------------------------------------------------------- */

/* Adds the disk and opens it. NULL and *err if that fails. */
struct test_disk *test_disk_open(const char *spec, int *err);
void test_disk_close(struct test_disk *t);
ubd_u64 test_disk_sectors(struct test_disk *t);
bool test_disk_read_only(struct test_disk *t);
bool test_disk_write_cache(struct test_disk *t);
void test_disk_stats(struct test_disk *t, struct ubd_stats *to);

/* Sends one bio and comes back at once; *result is set when it ends. */
int test_disk_submit(struct test_disk *t, enum test_op op, ubd_u64 sector, const struct test_vec *vec, ubd_u32 n,
		     int *result);
/* Waits for all that were sent. -ETIMEDOUT after a long time. */
int test_disk_wait(struct test_disk *t);
int test_disk_flush(struct test_disk *t);
int test_disk_discard(struct test_disk *t, ubd_u64 sector, ubd_u64 sectors);
int test_disk_zero(struct test_disk *t, ubd_u64 sector, ubd_u64 sectors, bool unmap);

/* Whole pages, physically contiguous, zeroed. */
void *test_pages_alloc(size_t bytes);
void test_pages_free(void *p, size_t bytes);

/* The directory on the host for files of tests. */
const char *test_dir(void);

/* -- host_file.cc ------------------------------------------------------------- */

int host_create(const char *path, ubd_u64 bytes);
int host_truncate(const char *path, ubd_u64 bytes);
int host_unlink(const char *path);
long host_read(const char *path, ubd_u64 offset, void *to, size_t bytes);
/* 512-byte blocks that it takes on the host's disk. */
long host_blocks(const char *path);
/* Descriptors that this UML process has open on the host. */
int host_descriptors(void);
int host_pid(void);

#ifdef __cplusplus
}
#endif

#endif
