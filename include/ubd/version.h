/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The release: the one place that has it. The module, the tools, `make dist`,
 * the packages and the installed manual pages take it from here.
 */
#ifndef UBD_VERSION_H
#define UBD_VERSION_H

#define UBD_VERSION "0.1.0"

#endif
