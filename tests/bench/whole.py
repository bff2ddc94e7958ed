# SPDX-License-Identifier: GPL-2.0-only
#
# Part (c): whole work in a guest, from the first command to the last, on a file
# system on its disk: files are unpacked and a program is compiled there, a large
# image gets a file system that is checked, a repository is cloned, a guest boots and
# powers off. Each run has a disk of its own that nothing was written to before.
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
        self.disk = {"tree": "/dev/ubda", "virtio": "/dev/vda"}.get(name, "/dev/aubda")
        # Of our module.
        self.parameters = ["cache=unsafe"] if name == "ours-unsafe" else []

    @property
    def ours(self):
        return self.name.startswith("ours")

    def daemon(self, path):
        if self.name != "virtio":
            return None
        return Daemon(self.bench.disks.work, [("disk", "driver=raw,file.driver=file,file.aio=io_uring,file.locking=off,"
                                                       f"discard=unmap,file.discard=unmap,file.filename={path}")])

    def boot(self, path, label):
        b = self.bench
        daemon = self.daemon(path)
        words = daemon.words if daemon else [f"ubd0={path}"] if self.name == "tree" else []
        guest = Guest(f"work-{self.name}-{label}", b.kernel, words, b.disks.work, memory="512M", patience=600)
        guest.daemon = daemon
        try:
            guest.start()
            if self.ours:
                guest.run(f"insmod {b.module} {' '.join(self.parameters)} device=0={path}")
            if daemon:
                guest.run("echo write back >/sys/block/vda/cache_type")
        except Exception:
            self.shut(guest)
            raise
        guest.disk = self.disk
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
        self.make_initramfs()
        source = bench_source(self.bench)
        self.tar = self.bench.disks.path("source.tar")
        subprocess.run(["tar", "-cf", self.tar, "-C", source, *PARTS[self.bench.options.full],
                        "-C", os.path.join(self.top, "drivers/ubd"), "core",
                        "-C", os.path.join(self.top, "include"), "ubd"], check=True)
        self.repository = None
        if shutil.which("git"):
            self.repository = self.bench.disks.path("repository")
            os.makedirs(self.repository)
            subprocess.run(["tar", "-C", self.repository, "-xf", self.tar], check=True)
            git = ["git", "-C", self.repository, "-c", "user.name=bench", "-c", "user.email=bench", "-c", "gc.auto=0"]
            # Packed, as a repository is that has lived for some time.
            for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "all"], ["gc", "-q"]):
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
            build = " ".join(f"g++ -std=c++20 -O1 -c -I$mnt/d -o {name}.o ../core/{name}.cc &&"
                             for name in ("queue", "request", "cow", "cow_bitmap", "options", "policy"))
            begin = time.monotonic()
            guest.run(f"cd $mnt/d && tar -xf {self.tar} && mkdir o && cd o && TMPDIR=$mnt/d/o && export TMPDIR && "
                      f"{build} [ -s policy.o ] && cd / && sync && umount $mnt/d")
            seconds = time.monotonic() - begin
            self.must_be_there(guest, "o/policy.o")
            return seconds
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
            seconds = time.monotonic() - begin
            self.must_be_there(guest, "clone/kernel/fork.c")
            return seconds
        finally:
            way.shut(guest)

    def boot_to_off(self, way):
        """Its root is on the disk; with the module in the initramfs where it is needed."""
        image = self.bench.disks.path("root.img")
        if os.path.exists(image):
            os.unlink(image)
        subprocess.run(["cp", "--sparse=always", os.path.join(self.top, "build/busybox.img"), image], check=True)
        words = ["initrd=" + self.initramfs[way.ours], "root=" + way.disk, "mem=256M", "con=null", "con0=fd:0,fd:1",
                 "quiet"]
        words += [f"ubd.{p}" for p in [*way.parameters, f"device=0={image}"]] if way.ours else []
        words += [f"ubd0={image}"] if way.name == "tree" else []
        log = self.bench.disks.path("boot.log")
        begin = time.monotonic()
        daemon = way.daemon(image)
        try:
            with open(log, "wb") as out:
                subprocess.run([self.bench.kernel, *words, *(daemon.words if daemon else [])],
                               stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=60)
            seconds = time.monotonic() - begin
        finally:
            if daemon:
                daemon.stop()
        # Not timed: it read all, and what it wrote is there.
        with open(log, errors="replace") as f:
            text = f.read()
        there = subprocess.run(["debugfs", "-R", "cat /root/booted", image], capture_output=True, text=True).stdout
        if not re.search(r"^\d{6,}$", text, re.MULTILINE) or there != "boot\n":
            raise GuestError("it did not boot: " + text[-300:])
        return seconds

    def make_initramfs(self):
        """{with our module or not: file}; an archive with what the guest does lies behind each."""
        self.initramfs = {}
        command = self.bench.disks.path("ubd-cmd")
        with open(command, "w") as f:
            f.write("for d in /bin /etc /lib /usr; do find $d -type f -exec cat {} +; done 2>/dev/null | wc -c; "
                    "echo boot >/root/booted && sync")
        archive = subprocess.run(["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0"], input=b"ubd-cmd\n",
                                 cwd=self.work, check=True, capture_output=True).stdout
        for with_module in (True, False):
            path = self.bench.disks.path(f"initramfs-{int(with_module)}")
            subprocess.run([os.path.join(self.top, "tools/initramfs.sh"), path, os.path.join(self.top, "build/init"),
                            *([self.bench.module] if with_module else [])], check=True)
            with open(path, "ab") as f:
                # An archive begins at a multiple of four.
                f.write(b"\0" * (-f.tell() % 4) + archive)
            self.initramfs[with_module] = path

    @staticmethod
    def must_be_there(guest, path):
        """Not timed: what was written can be read from the disk."""
        guest.run(f"mount {guest.disk} $mnt/d && [ -s $mnt/d/{path} ] && umount $mnt/d")


JOBS = (("boot to power-off", Work.boot_to_off), ("untar and build", Work.untar_build),
        ("mkfs and fsck", Work.mkfs_fsck), ("git clone", Work.git_clone))
# How often: who takes part in the like-for-like comparison, and the others, which
# flush, or are not asked about. Short jobs more often.
ROUNDS = {False: 5, True: 12}
OTHERS_ROUNDS = {False: 2, True: 4}
MORE = {"boot to power-off": 3, "mkfs and fsck": 2}


def bench_source(bench):
    source = os.path.join(os.path.dirname(os.path.dirname(bench.kernel)), "release/source")
    if not os.path.isdir(source):
        raise GuestError(f"no kernel source ({source})")
    return os.path.realpath(source)


def run(bench):
    full = bench.options.full
    names = [n for n in ("ours", "tree", "virtio") if n in bench.options.competitors and n not in bench.data["absent"]]
    if not full and "virtio" in names:
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
    for i, (title, job) in enumerate(jobs):
        # So that the first is no slower: the host's page cache gets the programs.
        one(bench, work, title, job, names[0], None)
        rounds = ROUNDS[full] * MORE.get(title, 1)
        for n in range(rounds):
            # Each is before the other as often as after.
            for name in names[::-1] if n % 2 else names:
                if n >= OTHERS_ROUNDS[full] and name not in ("ours-unsafe", "tree"):
                    continue
                bench.progress.show("whole work", (i + n / rounds) / len(jobs), f"{title}, {name}")
                one(bench, work, title, job, name, n)
    bench.progress.show("whole work", 1, "done")


def one(bench, work, title, job, name, turn):
    """turn None: it does not count"""
    try:
        seconds = job(work, Way(name, bench))
    except (GuestError, OSError, subprocess.CalledProcessError) as e:
        bench.data["absent"][f"{name}, {title}"] = str(e)[-300:]
        bench.progress.say(f"{name}, {title}: {e}")
        return
    if turn is not None:
        bench.data["whole"].append({"title": title, "competitor": name, "turn": turn, "seconds": seconds})


def table(data):
    """Lines of the report."""
    cells = {}
    for r in data["whole"]:
        cells.setdefault(r["title"], {}).setdefault(r["competitor"], []).append(r["seconds"])
    names = [n for n in ("ours", "ours-unsafe", "tree", "virtio") if any(n in by for by in cells.values())]
    titles = {**TITLES, "ours-unsafe": "ours, `unsafe`"}
    lines = ["| work | " + " | ".join(titles[n] for n in names) + " |", "|---|" + "---:|" * len(names)]
    for title, _ in JOBS:
        by = cells.get(title)
        if by:
            texts = [f"{median(by[n]):.2f} s ({min(by[n]):.2f} to {max(by[n]):.2f})" if n in by else "" for n in names]
            lines.append(f"| {title} | " + " | ".join(texts) + " |")
    return lines


def verdicts(data, verdict):
    """Seconds of ours in `unsafe` mode, against the kernel's own driver, which does not
    flush either; and the price of flushing."""
    cells = {}
    for r in data["whole"]:
        cells.setdefault(r["title"], {}).setdefault(r["competitor"], {})[r["turn"]] = r["seconds"]

    def ratios(by, mine, theirs):
        mine, theirs = by.get(mine, {}), by.get(theirs, {})
        return [mine[t] / theirs[t] for t in sorted(mine) if t in theirs]

    for title, _ in JOBS:
        by = cells.get(title, {})
        yield verdict("whole", f"{title}: seconds, `unsafe`", "raw", TITLES["tree"], 1.03,
                      ratios(by, "ours-unsafe", "tree"), at_most=True)
        yield verdict("whole", f"{title}: seconds, with flushes", "raw", TITLES["tree"], None,
                      ratios(by, "ours", "tree"), at_most=True, note="in-tree does not flush")
        yield verdict("whole", f"{title}: price of flushing", "raw", "ours, `unsafe`", None,
                      ratios(by, "ours", "ours-unsafe"), at_most=True)
