// SPDX-License-Identifier: GPL-2.0-only
/*
 * Hot plug: a directory in /sys/kernel/config/ubd is a disk that the guest's root
 * describes by the files there and switches on and off by the file power. What
 * the files take is decided in core/plug.cc, below which directory of the host
 * files may lie in host/names.cc.
 *
 * A disk that is on pins its directory: rmdir is refused then. So nobody removes
 * one while it is being added, or the other way round.
 *
 * Context: process, may sleep. All of it runs under ubd_devices_lock, which is
 * taken inside configfs's own locks, and never the other way round.
 */
#define pr_fmt(fmt) "ubd: " fmt

#include <linux/configfs.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "compat.h"
#include "ubd_kernel.h"

struct plug_item {
	struct config_item item;
	struct ubd_plug plug;
	struct ubd_disk *disk; /* NULL: it is off */
};

static const struct ubd_settings *settings;

static struct plug_item *to_plug(struct config_item *item)
{
	return container_of(item, struct plug_item, item);
}

/* One line for what was refused; what was written is shown as far as it is short. */
static int refuse(struct plug_item *p, const char *file, const char *text, size_t bytes, const char *why, int err)
{
	char shown[UBD_SHOWN_MAX], name[UBD_SHOWN_MAX];

	if (bytes && text[bytes - 1] == '\n')
		bytes--;
	ubd_show_text(text, bytes, shown);
	ubd_show_text(config_item_name(&p->item), strlen(config_item_name(&p->item)), name);
	pr_err("hot plug %s: %s \"%s\": %s\n", name, file, shown, why);
	return err;
}

static ssize_t plug_show(struct config_item *item, enum ubd_plug_file file, char *page)
{
	mutex_lock(&ubd_devices_lock);
	ubd_plug_show(&to_plug(item)->plug, file, page, PAGE_SIZE);
	mutex_unlock(&ubd_devices_lock);
	return strlen(page);
}

static ssize_t plug_store(struct config_item *item, enum ubd_plug_file file, const char *name, const char *page,
			  size_t bytes)
{
	struct plug_item *p = to_plug(item);
	char why[160];
	int err;

	mutex_lock(&ubd_devices_lock);
	if (p->disk)
		err = refuse(p, name, page, bytes, "the disk is on; write 0 to power first", -EBUSY);
	else if (bytes >= UBD_PLUG_TEXT_MAX) /* what follows would come as a value of its own */
		err = refuse(p, name, page, bytes, "is too long", -ENAMETOOLONG);
	else
		err = -ubd_plug_set(&p->plug, file, page, bytes, why, sizeof(why));
	if (err && err != -EBUSY && bytes < UBD_PLUG_TEXT_MAX)
		refuse(p, name, page, bytes, why, err);
	mutex_unlock(&ubd_devices_lock);
	return err ?: bytes;
}

#define PLUG_FILE(name, NAME, mode)                                                                  \
	static ssize_t plug_##name##_show(struct config_item *item, char *page)                      \
	{                                                                                            \
		return plug_show(item, UBD_PLUG_##NAME, page);                                       \
	}                                                                                            \
	static ssize_t plug_##name##_store(struct config_item *item, const char *page, size_t bytes) \
	{                                                                                            \
		return plug_store(item, UBD_PLUG_##NAME, #name, page, bytes);                        \
	}                                                                                            \
	static struct configfs_attribute plug_attr_##name = {                                        \
		.ca_name = #name,                                                                    \
		.ca_mode = mode,                                                                     \
		.ca_owner = THIS_MODULE,                                                             \
		.show = plug_##name##_show,                                                          \
		.store = plug_##name##_store,                                                        \
	}
/* The host's names are for the guest's root alone, as in stats.c. */
PLUG_FILE(path, PATH, 0600);
PLUG_FILE(backing, BACKING, 0600);
PLUG_FILE(serial, SERIAL, 0644);
PLUG_FILE(cache, CACHE, 0644);
PLUG_FILE(engine, ENGINE, 0644);
PLUG_FILE(werror, WERROR, 0644);
PLUG_FILE(index, INDEX, 0644);
PLUG_FILE(read_only, READ_ONLY, 0644);
PLUG_FILE(discard, DISCARD, 0644);
PLUG_FILE(shared, SHARED, 0644);
PLUG_FILE(plain, PLAIN, 0644);
PLUG_FILE(block_size, BLOCK_SIZE, 0644);
PLUG_FILE(queue_depth, QUEUE_DEPTH, 0644);
PLUG_FILE(commit_ms, COMMIT_MS, 0644);
PLUG_FILE(poll_us, POLL_US, 0644);
#undef PLUG_FILE

static int first_free_index(u32 *index)
{
	struct ubd_disk *d;
	bool taken = true;

	for (*index = 0; *index < UBD_MAX_DEVICES && taken; *index += taken) {
		taken = false;
		list_for_each_entry(d, &ubd_disks, link)
			taken |= d->index == *index;
	}
	return taken ? -ENOSPC : 0;
}

static int add_disk_of(struct plug_item *p)
{
	struct ubd_settings s = *settings;
	struct ubd_disk *d;
	int err = 0;

	if (p->plug.any_index)
		err = first_free_index(&p->plug.options.index);
	if (err)
		return refuse(p, "power", "1", 1, "there are as many disks as can be", err);
	ubd_plug_settings(&p->plug, &s.open);
	d = ubd_disk_add(&p->plug.options, &s);
	if (IS_ERR(d))
		return PTR_ERR(d);
	p->disk = d;
	return 0;
}

/* ubd_devices_lock held. */
static int power_on(struct plug_item *p)
{
	char why[160];
	int err;

	if (p->disk)
		return 0;
	err = -ubd_plug_complete(&p->plug, why, sizeof(why));
	if (err)
		return refuse(p, "power", "1", 1, why, err);
	/* Fails if rmdir was faster. */
	err = configfs_depend_item_unlocked(p->item.ci_group->cg_subsys, &p->item);
	if (err)
		return refuse(p, "power", "1", 1, "its directory is being removed", -ENODEV);
	err = add_disk_of(p);
	if (err)
		configfs_undepend_item(&p->item);
	return err;
}

/* The same. */
static int power_off(struct plug_item *p)
{
	int err;

	if (!p->disk)
		return 0;
	err = ubd_disk_retire(p->disk);
	if (err)
		return refuse(p, "power", "0", 1, "the disk is in use: unmount it, swapoff, or close it first", err);
	p->disk = NULL;
	configfs_undepend_item(&p->item);
	return 0;
}

static ssize_t plug_power_store(struct config_item *item, const char *page, size_t bytes)
{
	struct plug_item *p = to_plug(item);
	int on = ubd_parse_switch(page, bytes);
	int err;

	mutex_lock(&ubd_devices_lock);
	if (on < 0)
		err = refuse(p, "power", page, bytes, "is neither 0 nor 1", -EINVAL);
	else
		err = on ? power_on(p) : power_off(p);
	mutex_unlock(&ubd_devices_lock);
	return err ?: bytes;
}

static ssize_t plug_power_show(struct config_item *item, char *page)
{
	ssize_t n;

	mutex_lock(&ubd_devices_lock);
	n = sysfs_emit(page, "%d\n", !!to_plug(item)->disk);
	mutex_unlock(&ubd_devices_lock);
	return n;
}
CONFIGFS_ATTR(plug_, power);

static ssize_t plug_disk_show(struct config_item *item, char *page)
{
	struct plug_item *p = to_plug(item);
	ssize_t n;

	mutex_lock(&ubd_devices_lock);
	n = sysfs_emit(page, "%s\n", p->disk ? p->disk->name : "");
	mutex_unlock(&ubd_devices_lock);
	return n;
}
CONFIGFS_ATTR_RO(plug_, disk);

static struct configfs_attribute *plug_attrs[] = {
	&plug_attr_path,        &plug_attr_backing,   &plug_attr_serial,
	&plug_attr_cache,       &plug_attr_engine,    &plug_attr_werror,
	&plug_attr_index,       &plug_attr_read_only, &plug_attr_discard,
	&plug_attr_shared,      &plug_attr_plain,     &plug_attr_block_size,
	&plug_attr_queue_depth, &plug_attr_commit_ms, &plug_attr_poll_us,
	&plug_attr_power,       &plug_attr_disk,      NULL,
};

/* Its directory is gone, so it is off. */
static void plug_release(struct config_item *item)
{
	kvfree(to_plug(item));
}

static struct configfs_item_operations plug_item_ops = {
	.release = plug_release,
};

static const struct config_item_type plug_type = {
	.ct_item_ops = &plug_item_ops,
	.ct_attrs = plug_attrs,
	.ct_owner = THIS_MODULE,
};

static struct config_item *refuse_plug(const char *name, const char *why, int err)
{
	char shown[UBD_SHOWN_MAX];

	ubd_show_text(name, strlen(name), shown);
	pr_err("hot plug %s: %s\n", shown, why);
	return ERR_PTR(err);
}

static struct config_item *make_plug(struct config_group *group, const char *name)
{
	struct plug_item *p;

	if (!ubd_hotplug_allowed())
		return refuse_plug(name,
				   "is off; start the guest with ubd=hotplug:DIRECTORY to allow the host's files below "
				   "that",
				   -EPERM);
	p = kvzalloc(sizeof(*p), GFP_KERNEL);
	if (!p)
		return refuse_plug(name, "no memory; give the guest more (mem=)", -ENOMEM);
	ubd_plug_init(&p->plug, &settings->open, settings->cache, settings->werror);
	config_item_init_type_name(&p->item, name, &plug_type);
	/* It does not say so when it has no memory for a name of 20 bytes or more. */
	if (!config_item_name(&p->item)) {
		kvfree(p);
		return refuse_plug(name, "no memory for its name; give the guest more (mem=)", -ENOMEM);
	}
	return &p->item;
}

static struct configfs_group_operations group_ops = {
	.make_item = make_plug,
};

static const struct config_item_type group_type = {
	.ct_group_ops = &group_ops,
	.ct_owner = THIS_MODULE,
};

static struct configfs_subsystem subsystem = {
	.su_group = {
		.cg_item = {
			.ci_namebuf = "ubd",
			.ci_type = &group_type,
		},
	},
	.su_mutex = __MUTEX_INITIALIZER(subsystem.su_mutex),
};

int ubd_configfs_init(const struct ubd_settings *s)
{
	int err;

	settings = s;
	config_group_init(&subsystem.su_group);
	err = configfs_register_subsystem(&subsystem);
	if (err)
		pr_err("cannot make /sys/kernel/config/ubd: error %d\n", err);
	return err;
}

/* No directory is left: each keeps the module here. */
void ubd_configfs_exit(void)
{
	configfs_unregister_subsystem(&subsystem);
}
