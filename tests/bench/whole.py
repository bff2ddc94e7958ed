# SPDX-License-Identifier: GPL-2.0-only
#
# Part (c): whole work in a guest, from the first command to the last, on a file
# system on its disk: files are unpacked and a program is compiled, a large image
# gets a file system that is checked, a repository is cloned, a guest boots and
# powers off.
#
# The kernel's own driver does not flush; the driver's mode that does not either
# is what it is compared with. The price of flushing stands beside it.

import os
import re
import shutil
import subprocess
import time
from statistics import median

from competitors import TITLES
from guests import Daemon, Guest, GuestError

GIB = 1 << 30
# The part of a kernel's source that is unpacked and cloned.
PARTS = {False: ("kernel", "fs/ext4", "block", "mm", "include/linux"),
         True: ("kernel", "fs", "block", "mm", "include", "lib", "net", "arch/um")}


class Way:
    """How a disk comes into the guest."""

    def __init__(self, name, bench):
        self.name, self.bench = name, bench

    def boot(self, path, label):
        b = self.bench
        words, daemon = [], None
        if self.name == "tree":
            words = [f"ubd0={path}"]
        elif self.name == "virtio":
            daemon = Daemon(b.disks.work, [("disk", "driver=raw,file.driver=file,file.aio=io_uring,file.locking=off,"
                                                    f"discard=unmap,file.discard=unmap,file.filename={path}")])
            words = daemon.words
        guest = Guest(f"work-{self.name}-{label}", b.kernel, words, b.disks.work, memory="512M", patience=600)
        guest.daemon = daemon
        try:
            guest.start()
            if self.name.startswith("ours"):
                mode = "cache=unsafe " if self.name == "ours-unsafe" else ""
                guest.run(f"insmod {b.module} {mode}device=0={path}")
            if self.name == "virtio":
                guest.run("echo write back >/sys/block/vda/cache_type")
        except Exception:
            self.shut(guest)
            raise
        guest.disk = {"tree": "/dev/ubda", "virtio": "/dev/vda"}.get(self.name, "/dev/aubda")
        return guest

    @staticmethod
    def shut(guest):
        guest.stop()
        if guest.daemon:
            guest.daemon.stop()


class Work:
    def __init__(self, bench):
        self.bench = bench
        self.work = bench.disks.work
        self.top = bench.top

    def prepare(self):
        source = bench_source(self.bench)
        self.tar = self.bench.disks.path("source.tar")
        subprocess.run(["tar", "-C", source, "-cf", self.tar, *PARTS[self.bench.options.full]], check=True)
        self.repository = None
        if shutil.which("git"):
            self.repository = self.bench.disks.path("repository")
            os.makedirs(self.repository)
            subprocess.run(["tar", "-C", self.repository, "-xf", self.tar], check=True)
            git = ["git", "-C", self.repository, "-c", "user.name=bench", "-c", "user.email=bench", "-c", "gc.auto=0"]
            for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "all"]):
                subprocess.run([*git, *words], check=True)

    def image(self, name, size):
        path = self.bench.disks.path(name)
        if os.path.exists(path):
            os.unlink(path)
        with open(path, "wb") as f:
            f.truncate(size)
        return path

    # Each job is timed by its caller, from its first word in the guest.

    def untar_build(self, way):
        guest = way.boot(self.image("work.img", 2 * GIB), "build")
        try:
            guest.run(f"mkfs.ext4 -q {guest.disk} && mkdir $mnt/d && mount {guest.disk} $mnt/d")
            core = os.path.join(self.top, "drivers/ubd/core")
            build = " ".join(f"g++ -std=c++20 -O1 -c -I{self.top}/include -o {name}.o {core}/{name}.cc &&"
                             for name in ("queue", "request", "cow", "cow_bitmap", "options", "policy"))
            begin = time.monotonic()
            guest.run(f"cd $mnt/d && tar -xf {self.tar} && mkdir o && cd o && TMPDIR=$mnt/d/o && export TMPDIR && "
                      f"{build} cd / && sync && umount $mnt/d")
            return time.monotonic() - begin
        finally:
            way.shut(guest)

    def mkfs_fsck(self, way):
        size = (512 if self.bench.options.full else 64) * GIB
        guest = way.boot(self.image("large.img", size), "mkfs")
        try:
            begin = time.monotonic()
            guest.run(f"mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0,nodiscard {guest.disk} && "
                      f"e2fsck -fn {guest.disk} && sync")
            return time.monotonic() - begin
        finally:
            way.shut(guest)

    def git_clone(self, way):
        if not self.repository:
            raise GuestError("git is not installed")
        guest = way.boot(self.image("work.img", 2 * GIB), "clone")
        try:
            guest.run(f"mkfs.ext4 -q {guest.disk} && mkdir $mnt/d && mount {guest.disk} $mnt/d")
            guest.run("export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'")
            begin = time.monotonic()
            guest.run(f"git clone -q --no-local {self.repository} $mnt/d/clone && sync && umount $mnt/d")
            return time.monotonic() - begin
        finally:
            way.shut(guest)

    def boot_to_off(self, way):
        image = self.bench.disks.path("root.img")
        if not os.path.exists(image):
            shutil.copyfile(os.path.join(self.top, "build/busybox.img"), image)
        begin = time.monotonic()
        guest = way.boot(image, "boot")
        try:
            guest.run(f"mkdir $mnt/d && mount {guest.disk} $mnt/d && find $mnt/d -type f -exec cat {{}} + | wc -c && "
                      "echo boot >>$mnt/d/booted && umount $mnt/d")
        finally:
            way.shut(guest)
        return time.monotonic() - begin


JOBS = (("boot to power-off", Work.boot_to_off), ("untar and build", Work.untar_build),
        ("mkfs and fsck", Work.mkfs_fsck), ("git clone", Work.git_clone))


def bench_source(bench):
    source = os.path.join(os.path.dirname(os.path.dirname(bench.kernel)), "release/source")
    if not os.path.isdir(source):
        raise GuestError(f"no kernel source ({source})")
    return os.path.realpath(source)


def run(bench):
    names = [n for n in ("ours", "tree", "virtio") if n in bench.options.competitors and n not in bench.data["absent"]]
    if not bench.options.full and "virtio" in names:
        names.remove("virtio")
    if "ours" in names:
        if bench.module_has("cache"):
            names.insert(1, "ours-unsafe")
        else:
            bench.data["absent"]["whole work, ours without flushing"] = \
                "the module has no parameter cache=, so no unsafe mode: ours flushes, and the kernel's own does not"
    jobs = [(title, job) for title, job in JOBS if re.search(bench.options.rows, "work, " + title)]
    if not jobs or not names:
        return
    work = Work(bench)
    try:
        work.prepare()
    except (GuestError, OSError, subprocess.CalledProcessError) as e:
        bench.data["absent"]["whole work"] = str(e)
        return
    repetitions = 5 if bench.options.full else 3
    for n in range(repetitions):
        for i, (title, job) in enumerate(jobs):
            for name in names[n % len(names):] + names[:n % len(names)]:
                bench.progress.show("whole work", (n * len(jobs) + i) / (repetitions * len(jobs)), f"{title}, {name}")
                if bench.options.full:
                    os.sync()
                try:
                    seconds = job(work, Way(name, bench))
                except (GuestError, OSError, subprocess.CalledProcessError) as e:
                    bench.data["absent"][f"{name}, {title}"] = str(e)[-300:]
                    bench.progress.say(f"{name}, {title}: {e}")
                    continue
                bench.data["whole"].append({"title": title, "competitor": name, "repetition": n, "seconds": seconds})
    bench.progress.show("whole work", 1, "done")


def table(data):
    """Lines of the report."""
    cells = {}
    for r in data["whole"]:
        cells.setdefault(r["title"], {}).setdefault(r["competitor"], []).append(r["seconds"])
    names = [n for n in ("ours", "ours-unsafe", "tree", "virtio") if any(n in by for by in cells.values())]
    titles = {**TITLES, "ours-unsafe": "ours, `unsafe`"}
    lines = ["| work | " + " | ".join(titles[n] for n in names) + " | in-tree / ours | in-tree / ours, `unsafe` |",
             "|---|" + "---:|" * len(names) + "---:|---:|"]
    for title, _ in JOBS:
        by = cells.get(title)
        if not by:
            continue
        texts = [f"{median(by[n]):.2f} s ({min(by[n]):.2f} to {max(by[n]):.2f})" if n in by else "" for n in names]
        ratios = [f"{median(by['tree']) / median(by[n]):.2f}" if n in by and "tree" in by else ""
                  for n in ("ours", "ours-unsafe")]
        lines.append(f"| {title} | " + " | ".join(texts + ratios) + " |")
    return lines
