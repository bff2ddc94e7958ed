// SPDX-License-Identifier: GPL-2.0-only
/*
 * The module: its parameters, its one interrupt, and which devices there are.
 *
 * Devices come from the command line of the host process, which is the guest
 * kernel's (unless the kernel's own ubd driver has taken that), and from the
 * parameter device=. One that cannot be opened leaves its message and harms no
 * other.
 *
 * Context: process, may sleep, unless a function says otherwise.
 */
#define pr_fmt(fmt) "ubd: " fmt

#include <linux/interrupt.h>
#include <linux/major.h>
#include <linux/module.h>
#include <linux/reboot.h>
#include <linux/slab.h>

#include <irq_kern.h>
#include <irq_user.h>

#include "compat.h"
#include "ubd/test_api.h"
#include "ubd/version.h"
#include "ubd_kernel.h"

#define UBD_CMDLINE_MAX (128 << 10)
/* The disks' prefix when "ubd" is taken by the kernel's own driver. */
#define UBD_BESIDE_PREFIX "aubd"

DEFINE_MUTEX(ubd_devices_lock);
DEFINE_MUTEX(ubd_relay_lock);
bool ubd_going_down;

/* Context: process, sleeps. */
void ubd_k_relay_lock(void)
{
	mutex_lock(&ubd_relay_lock);
}

void ubd_k_relay_unlock(void)
{
	mutex_unlock(&ubd_relay_lock);
}

static struct ubd_settings settings;
static int wake_irq = -1;

/* device=, as often as it was given, in order. */
struct device_word {
	struct list_head link;
	size_t bytes;
	char text[];
};
static LIST_HEAD(device_words);

static int device_param_set(const char *value, const struct kernel_param *kp)
{
	struct device_word *w;
	size_t bytes = strlen(value);

	w = kvzalloc(struct_size(w, text, bytes + 1), GFP_KERNEL);
	if (!w)
		return -ENOMEM;
	w->bytes = bytes;
	memcpy(w->text, value, bytes);
	list_add_tail(&w->link, &device_words);
	return 0;
}

static void free_device_words(void)
{
	struct device_word *w, *next;

	list_for_each_entry_safe(w, next, &device_words, link)
		kvfree(w);
	INIT_LIST_HEAD(&device_words);
}

/* Also when another parameter does not parse, and ubd_init() is not called. */
static void device_param_free(void *unused)
{
	free_device_words();
}

static const struct kernel_param_ops device_param_ops = {
	.set = device_param_set,
	.free = device_param_free,
};
module_param_cb(device, &device_param_ops, NULL, 0);
MODULE_PARM_DESC(device,
		 "a device as on the UML command line: [ubd]<n><flags>=<file>[,<backing>[,<serial>]]; repeatable");

static char *prefix;
module_param(prefix, charp, 0444);
MODULE_PARM_DESC(prefix, "what disk names begin with (default: ubd, or aubd beside the kernel's own driver)");

static bool cmdline = true;
module_param(cmdline, bool, 0444);
MODULE_PARM_DESC(cmdline, "take devices from the UML command line (default: yes, unless the kernel's own driver did)");

static uint queue_depth = 128;
module_param(queue_depth, uint, 0444);
MODULE_PARM_DESC(queue_depth, "requests in flight for each queue of a device, 1 to 1024 (default 128)");

static uint queues;
module_param(queues, uint, 0444);
MODULE_PARM_DESC(queues,
		 "queues of a device, 0 to " __stringify(UBD_MAX_QUEUES) ", never more than CPUs; 0: one for "
									 "each CPU (default 0); a COW file has one");

static uint logical_block;
module_param_named(block_size, logical_block, uint, 0444);
MODULE_PARM_DESC(block_size, "logical block size in bytes, 512 or 4096 (default: what the host's file asks for)");

static char *cache;
module_param(cache, charp, 0444);
MODULE_PARM_DESC(cache, "use of the host's page cache: " UBD_CACHE_NAMES " (default writeback)");

static char *werror;
module_param(werror, charp, 0444);
MODULE_PARM_DESC(werror, "a write that the host has no space for: report (it fails) or stop (the device waits for "
			 "space) (default report)");

static uint commit_ms = 5000;
module_param(commit_ms, uint, 0444);
MODULE_PARM_DESC(commit_ms, "milliseconds after which a COW file learns what was written without a flush; 0: never "
			    "(default 5000)");

static uint poll_us = 200;
module_param(poll_us, uint, 0444);
MODULE_PARM_DESC(poll_us, "microseconds that an idle CPU looks for completions before it sleeps, at most: 0 to 1000 "
			  "(default 200)");

static char *engine = "auto";
module_param(engine, charp, 0444);
MODULE_PARM_DESC(engine, "what does the I/O on the host: io_uring, threads, or auto: threads where the host forbids "
			 "io_uring (default auto)");

static bool snapshot;
module_param(snapshot, bool, 0444);
MODULE_PARM_DESC(snapshot, "what is written goes to temporary files and is gone with the guest (default: no)");

static char *snapshot_dir;
module_param(snapshot_dir, charp, 0444);
MODULE_PARM_DESC(snapshot_dir, "directory of the host for these files (default: its $TMPDIR, or /var/tmp)");

/* One line that names the option, the reason, and what to do. */
static void bad_option(const char *word, size_t bytes, const char *why)
{
	char shown[UBD_SHOWN_MAX];

	ubd_show_text(word, bytes, shown);
	pr_err("option \"%s\": %s\n", shown, why);
}

struct option_scratch {
	struct ubd_options options;
	struct ubd_option_state state;
	char why[160];
};

/* ubd_devices_lock held. */
static void take_word(const char *word, size_t bytes, struct option_scratch *s)
{
	switch (ubd_parse_option(word, bytes, &s->state, &s->options, s->why, sizeof(s->why))) {
	case UBD_OPTION_DEVICE:
		ubd_disk_add(&s->options, &settings);
		break;
	case UBD_OPTION_BAD:
		bad_option(word, bytes, s->why);
		break;
	case UBD_OPTION_GLOBAL:
	case UBD_OPTION_OTHER:
		break;
	}
}

/* Of the host's user alone: what the guest says is refused below. */
static void allow_hotplug(struct option_scratch *s)
{
	char *directory;

	if (!s->state.hotplug)
		return;
	directory = kmemdup_nul(s->state.hotplug, s->state.hotplug_bytes, GFP_KERNEL);
	if (directory)
		ubd_hotplug_open(directory);
	else
		pr_err("ubd=hotplug: no memory; hot plug stays off\n");
	kfree(directory);
	s->state.hotplug = NULL;
}

/* With `devices`, all that it says; without, only about hot plug. */
static void take_cmdline(struct option_scratch *s, bool devices)
{
	char *line = kvzalloc(UBD_CMDLINE_MAX, GFP_KERNEL);
	char shown[UBD_SHOWN_MAX];
	long bytes, at, n;

	if (!line) {
		pr_err("no memory to read the command line; its devices are missing; give the guest more (mem=)\n");
		return;
	}
	bytes = ubd_host_read_cmdline(line, UBD_CMDLINE_MAX);
	if (bytes < 0)
		pr_err("cannot read /proc/self/cmdline of the host: error %ld; its devices are missing; mount /proc "
		       "there, or use device=\n",
		       bytes);
	/* The words follow each other, each with its NUL; the first is our name. */
	for (at = 0; at < bytes; at += n + 1) {
		n = strnlen(line + at, bytes - at);
		if (at && (devices || strstarts(line + at, "ubd=hotplug:")))
			take_word(line + at, n, s);
		if (at && devices && strstarts(line + at, "udb")) {
			ubd_show_text(line + at, n, shown);
			pr_warn("option \"%s\": is this a typing error for ubd?\n", shown);
		}
	}
	allow_hotplug(s);
	kvfree(line);
}

/* device= takes the text with or without the leading "ubd". */
static void take_device_words(struct option_scratch *s)
{
	struct device_word *w, *next;

	list_for_each_entry_safe(w, next, &device_words, link) {
		char *text = NULL;

		if (strncmp(w->text, "ubd", 3)) {
			text = kasprintf(GFP_KERNEL, "ubd%s", w->text);
			if (!text) {
				bad_option(w->text, w->bytes, "no memory; give the guest more (mem=)");
				continue;
			}
		}
		take_word(text ?: w->text, text ? strlen(text) : w->bytes, s);
		if (s->state.hotplug)
			bad_option(w->text, w->bytes, "counts only on the command line of the UML process");
		s->state.hotplug = NULL;
		kfree(text);
	}
}

/* Context: interrupt. */
static irqreturn_t wake_interrupt(int irq, void *unused)
{
	ubd_relay_ack();
	ubd_disks_interrupt();
	return IRQ_HANDLED;
}

static int start_relay(void)
{
	int err = ubd_relay_start();

	if (err < 0) {
		pr_err("cannot start the completion relay on the host: error %d; the host must allow clone, eventfd, "
		       "pidfd and another process and some open files (ulimit -u, ulimit -n)\n",
		       err);
		return err;
	}
	settings.open.wake_fd = err;
	wake_irq = um_request_irq(UM_IRQ_ALLOC, settings.open.wake_fd, IRQ_READ, wake_interrupt, 0, "ubd", &settings);
	if (wake_irq < 0) {
		err = wake_irq;
		pr_err("no UML interrupt is free: error %d\n", err);
		ubd_relay_free();
	}
	return err < 0 ? err : 0;
}

/* Completions came without an announcement: is there still who announces? */
static void revive_relay(struct work_struct *unused)
{
	int err = ubd_relay_revive();

	if (err > 0)
		pr_warn("the completion relay (process ubd-relay of the host) was killed; it runs again\n");
	else if (err < 0)
		pr_err("the completion relay (process ubd-relay of the host) was killed and cannot be started: error "
		       "%d; disks are slow until it can: check the host's limits on processes (ulimit -u)\n",
		       err);
}
static DECLARE_WORK(revive_work, revive_relay);

/* Context: any. */
void ubd_check_relay(void)
{
	schedule_work(&revive_work);
}

/* By the reboot notifier, or when that is there no longer, or not yet: by one at a time. */
static void stop_relay(void)
{
	if (wake_irq < 0)
		return;
	um_free_irq(wake_irq, &settings);
	wake_irq = -1;
	ubd_relay_stop();
}

/*
 * The guest reboots, halts or powers off: what is in flight ends now, what
 * comes later ends before it returns, and nothing of ours outlives the guest.
 *
 * Without ubd_devices_lock, whose holder may wait for a host that hangs, or for a
 * file's lock: it may be adding a disk, or growing one. A disk that is listed by now
 * is made synchronous here, and another one is refused. What either tells the relay
 * comes before it is stopped, or to nothing.
 */
static int reboot_event(struct notifier_block *nb, unsigned long event, void *unused)
{
	mutex_lock(&ubd_relay_lock);
	WRITE_ONCE(ubd_going_down, true);
	mutex_unlock(&ubd_relay_lock);
	ubd_disks_go_synchronous();
	stop_relay();
	return NOTIFY_DONE;
}

/* After the file systems' and devices' own. */
static struct notifier_block reboot_notifier = {
	.notifier_call = reboot_event,
	.priority = INT_MIN,
};

/* The names and the major of the kernel's own driver, where they are free. */
static int take_major(void)
{
	int major = register_blkdev(UBD_MAJOR, "ubd");

	settings.open.beside = major == -EBUSY;
	if (settings.open.beside && prefix && !strcmp(prefix, "ubd")) {
		pr_err("prefix=ubd is taken by the kernel's own ubd driver; choose another prefix\n");
		return -EBUSY;
	}
	if (settings.open.beside) {
		settings.prefix = prefix ?: UBD_BESIDE_PREFIX;
		major = register_blkdev(0, settings.prefix);
		if (major > 0)
			pr_info("the kernel's own ubd driver is here: disks are named %sa and so on, the command line "
				"is its own, device= is ours\n",
				settings.prefix);
		settings.major = major;
	} else {
		settings.prefix = prefix ?: "ubd";
		settings.major = UBD_MAJOR;
	}
	if (major < 0)
		pr_err("no block device number is free: error %d\n", major);
	return major < 0 ? major : 0;
}

static void release_major(void)
{
	unregister_blkdev(settings.major, settings.open.beside ? settings.prefix : "ubd");
}

static int check_parameters(void)
{
	const char *wrong = werror ? ubd_parse_werror(werror, strlen(werror), &settings.werror) : NULL;

	if (queue_depth < 1 || queue_depth > UBD_MAX_QUEUE_DEPTH) {
		pr_err("queue_depth=%u is out of range; it goes from 1 to 1024\n", queue_depth);
		return -EINVAL;
	}
	if (queues > UBD_MAX_QUEUES) {
		pr_err("queues=%u is out of range; it goes from 0 to %u\n", queues, UBD_MAX_QUEUES);
		return -EINVAL;
	}
	if (prefix && (!*prefix || strlen(prefix) > 15 || strpbrk(prefix, "/!. \t\n"))) {
		pr_err("prefix=\"%s\" cannot be part of a disk name; use 1 to 15 letters\n", prefix);
		return -EINVAL;
	}
	if (logical_block && logical_block != 512 && logical_block != 4096) {
		pr_err("block_size=%u is neither 512 nor 4096\n", logical_block);
		return -EINVAL;
	}
	if (poll_us > UBD_MAX_POLL_US) {
		pr_err("poll_us=%u is out of range; it goes from 0 to 1000\n", poll_us);
		return -EINVAL;
	}
	if (cache && !ubd_parse_cache(cache, strlen(cache), &settings.cache)) {
		pr_err("cache=%.40s is none of " UBD_CACHE_NAMES "\n", cache);
		return -EINVAL;
	}
	if (wrong) {
		pr_err("werror=%.40s %s\n", werror, wrong);
		return -EINVAL;
	}
	settings.open.engine = ubd_parse_engine(engine, strlen(engine));
	if (settings.open.engine == UBD_ENGINE_DEFAULT) {
		pr_err("engine=%.40s is none of " UBD_ENGINE_NAMES "\n", engine);
		return -EINVAL;
	}
	settings.open.queue_depth = queue_depth;
	settings.open.queues = queues;
	settings.open.cpus = nr_cpu_ids;
#ifdef UBD_FAULTS
	/* So that a test has several on one CPU, see kqueue_of(). */
	settings.open.cpus = max(settings.open.cpus, queues);
#endif
	settings.open.block_size = logical_block;
	settings.open.commit_ms = commit_ms;
	settings.open.poll_us = poll_us;
	settings.open.await_host = ubd_time_travels();
	if (settings.open.await_host)
		pr_info("time travel: completions are awaited at once, so that nothing depends on the host's clock\n");
	settings.open.snapshot = snapshot;
	settings.open.snapshot_dir = snapshot_dir ?: "";
	return 0;
}

/* Fails before it adds any. */
static int add_devices(void)
{
	struct option_scratch *s = kvzalloc(sizeof(*s), GFP_KERNEL);

	if (!s) {
		pr_err("no memory to read what devices there are; give the guest more (mem=)\n");
		return -ENOMEM;
	}
	s->state.cache = settings.cache;
	s->state.werror = settings.werror;
	mutex_lock(&ubd_devices_lock);
	take_cmdline(s, cmdline && !settings.open.beside);
	take_device_words(s);
	mutex_unlock(&ubd_devices_lock);
	kvfree(s);
	return 0;
}

struct ubd_disk *ubd_test_disk_add(const char *spec)
{
	struct option_scratch *s = kvzalloc(sizeof(*s), GFP_KERNEL);
	struct ubd_disk *d = ERR_PTR(-EINVAL);

	if (!s)
		return ERR_PTR(-ENOMEM);
	s->state.cache = settings.cache;
	s->state.werror = settings.werror;
	mutex_lock(&ubd_devices_lock);
	if (ubd_parse_option(spec, strlen(spec), &s->state, &s->options, s->why, sizeof(s->why)) == UBD_OPTION_DEVICE)
		d = ubd_disk_add(&s->options, &settings);
	mutex_unlock(&ubd_devices_lock);
	kvfree(s);
	return d;
}
UBD_EXPORT(ubd_test_disk_add);

void ubd_test_disk_remove(struct ubd_disk *d)
{
	mutex_lock(&ubd_devices_lock);
	ubd_disk_remove(d);
	mutex_unlock(&ubd_devices_lock);
}
UBD_EXPORT(ubd_test_disk_remove);

struct gendisk *ubd_test_gendisk(struct ubd_disk *d)
{
	return d->kq.disk;
}
UBD_EXPORT(ubd_test_gendisk);

void ubd_test_stats(struct ubd_disk *d, struct ubd_stats *to)
{
	ubd_disk_stats(d, to);
}
UBD_EXPORT(ubd_test_stats);

static void remove_devices(void)
{
	struct ubd_disk *d, *next;

	mutex_lock(&ubd_devices_lock);
	list_for_each_entry_safe(d, next, &ubd_disks, link)
		ubd_disk_remove(d);
	mutex_unlock(&ubd_devices_lock);
}

static int __init ubd_init(void)
{
	int err;

	pr_info("version " UBD_VERSION "\n");
	err = check_parameters();
	if (err)
		goto out;
	err = ubd_glue_init();
	if (err)
		goto out;
	err = take_major();
	if (err)
		goto out_glue;
	err = ubd_poll_init();
	if (err)
		goto out_major;
	err = start_relay();
	if (err)
		goto out_poll;
	ubd_debugfs_init();
	err = register_reboot_notifier(&reboot_notifier);
	if (err)
		goto out_relay;
	err = ubd_configfs_init(&settings);
	if (err)
		goto out_reboot;
	/*
	 * Last: a disk that is there may be open by now, and cannot be taken back. No
	 * directory of hot plug is made before the command line allows it, and power waits
	 * for the lock: so these disks have their numbers first.
	 */
	err = add_devices();
	if (err)
		goto out_configfs;
	free_device_words();
	return 0;

out_configfs:
	ubd_configfs_exit();
out_reboot:
	unregister_reboot_notifier(&reboot_notifier);
out_relay:
	ubd_debugfs_exit();
	stop_relay();
	ubd_relay_free();
out_poll:
	ubd_poll_exit();
out_major:
	release_major();
out_glue:
	ubd_glue_exit();
out:
	free_device_words();
	return err;
}

/* The other way round: a reboot finds the disks as long as there are any. */
static void __exit ubd_exit(void)
{
	ubd_configfs_exit();
	remove_devices();
	unregister_reboot_notifier(&reboot_notifier);
	ubd_hotplug_close();
	cancel_work_sync(&revive_work);
	ubd_debugfs_exit();
	stop_relay();
	ubd_relay_free();
	ubd_poll_exit();
	release_major();
	ubd_glue_exit();
}

module_init(ubd_init);
module_exit(ubd_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("User Mode Linux block devices on the host's io_uring");
MODULE_VERSION(UBD_VERSION);
MODULE_ALIAS_BLOCKDEV_MAJOR(UBD_MAJOR);
