// SPDX-License-Identifier: GPL-2.0-only
/*
 * The relay: an eventfd raises no SIGIO, so one helper for the whole module
 * waits for it and sends SIGIO to the UML process. The eventfd stays readable
 * for UML's own epoll, whose interrupt handler alone reads it.
 *
 * The helper is a clone that shares memory and nothing else: it has its own
 * descriptor table (so it keeps no lock, ring or file alive), blocks every
 * signal from before its first instruction, has exit signal 0, and makes only
 * direct system calls. It ends when
 *   - ubd_relay_stop() says so,
 *   - the UML process is gone (its pidfd becomes readable),
 *   - the UML process called execve, as a guest's reboot does: then the write
 *     end of the lifeline pipe, which is close-on-exec, is closed.
 * Its second task: when the UML process has ended, it unlocks the files that it
 * was given copies of. One of UML's processes for guest programs, which share
 * the descriptor table, can outlive a killed UML (it is cloned before it asks
 * to die with its parent), and would keep files and locks for ever. By then
 * nothing is in flight: the host waits for a process's io_uring requests before
 * the process is gone, and before execve closes descriptors.
 * Contexts: start and stop in process context, ack in interrupt context.
 */
#ifndef UBD_HOST_RELAY_HH
#define UBD_HOST_RELAY_HH

#include "sys.hh"

#endif
