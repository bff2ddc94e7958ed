/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What ubd.ko exports (GPL, namespace "UBD") for its KUnit module: disks that
 * come and go. Process context, all sleep.
 */
#ifndef UBD_TEST_API_H
#define UBD_TEST_API_H

#include "ubd/abi.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ubd_disk;
struct gendisk;

/* "ubd7=/path": as on the command line. ERR_PTR() on failure. */
struct ubd_disk *ubd_test_disk_add(const char *spec);
/* Nobody may have it open. */
void ubd_test_disk_remove(struct ubd_disk *d);
struct gendisk *ubd_test_gendisk(struct ubd_disk *d);
void ubd_test_stats(struct ubd_disk *d, struct ubd_stats *to);

#ifdef __cplusplus
}
#endif

#endif
