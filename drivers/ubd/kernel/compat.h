/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What differs between the kernels that the module builds for, 6.12 and newer.
 * All of it is here.
 */
#ifndef UBD_COMPAT_H
#define UBD_COMPAT_H

#include <linux/blk-mq.h>
#include <linux/export.h>
#include <linux/module.h>
#include <linux/version.h>

/* 6.13: the namespace of a symbol became a string. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
#define UBD_EXPORT(symbol) EXPORT_SYMBOL_NS_GPL(symbol, UBD)
#define UBD_IMPORT MODULE_IMPORT_NS(UBD)
#else
#define UBD_EXPORT(symbol) EXPORT_SYMBOL_NS_GPL(symbol, "UBD")
#define UBD_IMPORT MODULE_IMPORT_NS("UBD")
#endif

/* 6.14: merging is always on. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 14, 0)
#define UBD_MERGE_FLAG BLK_MQ_F_SHOULD_MERGE
#else
#define UBD_MERGE_FLAG 0
#endif

/* 6.14: freezing a queue says itself how memory is allocated meanwhile. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 14, 0)
#define ubd_thaw_queue(q) blk_mq_unfreeze_queue(q)
#else
#define ubd_thaw_queue(q) blk_mq_unfreeze_queue_nomemrestore(q)
#endif

/* 6.18: getgeo() is asked of a disk. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 18, 0)
#define UBD_GETGEO_ARG struct block_device *bdev
#define ubd_getgeo_disk() (bdev->bd_disk)
#else
#define UBD_GETGEO_ARG struct gendisk *gendisk
#define ubd_getgeo_disk() (gendisk)
#endif

#endif
