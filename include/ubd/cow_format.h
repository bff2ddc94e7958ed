/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The COW file on disk. All of it is described in Documentation/cow-format.md.
 *
 * header | bitmap, one bit for each 512-byte sector, least significant bit
 * first | data, linear: sector n at data_offset + 512 n
 */
#ifndef UBD_COW_FORMAT_H
#define UBD_COW_FORMAT_H

#include "ubd/abi.h"

#define UBD_COW_MAGIC 0x4f4f4f4d /* "OOOM" as bytes of a big-endian file */
#define UBD_COW_PATH_V1 256
#define UBD_COW_PATH_MAX 4096 /* v2 and v3, with its NUL */
/* More than any header has. */
#define UBD_COW_HEADER_MAX 4224
/* Our version 3 header: magic .. cow_format, then the name. */
#define UBD_COW_HEADER_V3_BYTES (32 + UBD_COW_PATH_MAX)
#define UBD_COW_ALIGNMENT 4096
/* Largest image, bytes: 64 TiB. */
#define UBD_COW_SIZE_MAX (64ull << 40)

#endif
