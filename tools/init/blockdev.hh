/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Block devices as sysfs shows them, and who they are: by name, number,
 * partition table entry, or what the file system on them says.
 */
#pragma once

#include "text.hh"

/*
 * Finds the device that root= names: /dev/NAME, MAJOR:MINOR, a device number
 * in hexadecimal, PARTUUID=, PARTLABEL=, UUID= or LABEL=. True when it exists;
 * @path is then its node in /dev.
 */
bool find_block_device(Text spec, Path &path);

/* Is @spec of a form that find_block_device() knows? */
bool valid_device_spec(Text spec);

/* The type of the file system on a device ("ext4", "xfs"), or nothing. */
Text probe_file_system(const char *path);

/* Says which block devices exist, and what is on them. */
void list_block_devices();
