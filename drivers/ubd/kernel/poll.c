// SPDX-License-Identifier: GPL-2.0-only
/*
 * A thread of the lowest priority that looks for completions while the CPU has
 * nothing else to do. For how long is core's decision, see core/poll_window.hh.
 *
 * Context: process, may sleep, unless a function says otherwise.
 */
#define pr_fmt(fmt) "ubd: " fmt

#include <linux/kthread.h>
#include <linux/rculist.h>
#include <linux/sched.h>
#include <linux/sched/stat.h>

#include "ubd_kernel.h"

static struct task_struct *poller;
static bool asleep;

/* Context: any, under RCU. */
static bool somebody_wants(void)
{
	struct ubd_kqueue *k;
	struct ubd_disk *d;

	list_for_each_entry_rcu(d, &ubd_disks, link) {
		ubd_for_each_queue(k, d) {
			if (ubd_queue_wants_poll(k->queue))
				return true;
		}
	}
	return false;
}

/* Context: as poll_disks(). */
static bool look(u64 now)
{
	struct ubd_kqueue *k;
	struct ubd_disk *d;
	bool more = false;

	list_for_each_entry_rcu(d, &ubd_disks, link) {
		ubd_for_each_queue(k, d)
			more |= ubd_queue_poll(k->queue, now);
	}
	return more;
}

/*
 * All queues, whichever CPU they belong to: what another CPU waits for is better
 * seen here than by an interrupt.
 * Context: process, not preemptible, under RCU.
 */
static void poll_disks(void)
{
	struct ubd_kqueue *k;
	struct ubd_disk *d;
	bool more;

	list_for_each_entry_rcu(d, &ubd_disks, link) {
		ubd_for_each_queue(k, d)
			ubd_queue_begin_poll(k->queue);
	}
	do {
		more = look(ktime_get_ns());
		ubd_host_yield();
	} while (more && !need_resched() && single_task_running());
	list_for_each_entry_rcu(d, &ubd_disks, link) {
		ubd_for_each_queue(k, d)
			ubd_queue_end_poll(k->queue);
	}
}

static int poll_main(void *unused)
{
	while (!kthread_should_stop()) {
		bool wanted;

		set_current_state(TASK_IDLE);
		WRITE_ONCE(asleep, true);
		smp_mb(); /* with ubd_k_poll(): one of us sees the other */
		rcu_read_lock();
		wanted = somebody_wants();
		rcu_read_unlock();
		if (!wanted && !kthread_should_stop())
			schedule();
		WRITE_ONCE(asleep, false);
		__set_current_state(TASK_RUNNING);
		if (single_task_running()) {
			preempt_disable();
			rcu_read_lock();
			poll_disks();
			rcu_read_unlock();
			preempt_enable();
		}
		schedule();
	}
	return 0;
}

/* Context: under a queue lock. */
void ubd_k_poll(struct ubd_kqueue *k)
{
	smp_mb(); /* with poll_main() */
	if (READ_ONCE(asleep))
		wake_up_process(poller);
}

u64 ubd_k_now_ns(void)
{
	return ktime_get_ns();
}

int ubd_poll_init(void)
{
	struct task_struct *t = kthread_create(poll_main, NULL, "ubd-poll");

	if (IS_ERR(t)) {
		pr_err("cannot start ubd-poll: error %ld; give the guest more memory (mem=)\n", PTR_ERR(t));
		return PTR_ERR(t);
	}
	sched_set_normal(t, MAX_NICE);
	poller = t;
	wake_up_process(t);
	return 0;
}

void ubd_poll_exit(void)
{
	if (poller)
		kthread_stop(poller);
	poller = NULL;
}
