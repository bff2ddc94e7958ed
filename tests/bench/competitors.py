# SPDX-License-Identifier: GPL-2.0-only
#
# Who is measured. Each but the host is a guest of its own with the same kernel,
# which has our driver and the kernel's own; all have the same raw file, of
# which only one at a time is used.
#
#	ours	this project's module
#	tree	the kernel's own driver
#	tree-s	the same in its `s` mode: rows that flush only, since otherwise it
#		does not make anything durable
#	virtio	virtio_uml with qemu-storage-daemon, aio=io_uring
#	null	null_blk with memory_backed=1: what the guest itself can do
#	null0	null_blk that moves no data
#	host	the host itself, without a guest
#
# device(row) is where a row's load runs: None when there is no such thing.

import json
import os
import subprocess

from disks import SMALL_DISKS
from guests import Daemon, Guest, GuestError, Usage, host_busy_ns, memory_of

NULL_MIB = 96

TITLES = {"ours": "ours", "tree": "in-tree", "tree-s": "in-tree, `s`", "virtio": "virtio_uml",
          "null": "null_blk, memory", "null0": "null_blk, empty", "host": "host"}


class Competitor:
    def __init__(self, name, bench):
        self.name = name
        self.bench = bench
        self.guest = None
        # Why it cannot run here.
        self.absent = None
        # Why it has no rows of a sort, by what device() was asked for.
        self.reasons = {}

    def words(self):
        return []

    def prepare(self):
        """Before its guest is started."""

    def after_boot(self):
        """In the guest, with the load module in."""

    def files(self):
        """Host files that it writes, for sync and the page cache."""
        return [self.bench.disks.raw]

    def start(self):
        try:
            self.prepare()
            self.guest = Guest(self.name, self.bench.kernel, self.words(), self.bench.disks.work)
            self.guest.start()
            self.guest.run(f"insmod {self.bench.load_module}")
            self.after_boot()
        except (GuestError, OSError, subprocess.CalledProcessError) as e:
            self.absent = str(e)
            self.stop()
            raise
        self.absent = None

    def stop(self):
        if self.guest:
            self.guest.stop()
            self.guest = None

    def pids(self):
        return self.guest.pids()

    def region(self, row):
        return self.bench.disks.regions.at[row.region]

    def line(self, row, device, ms):
        words = dict(row.words)
        if row.region != "small":
            words["offset"], words["length"] = self.region(row)
        words["ms"] = 10000 if row.fixed else ms
        words["seed"] = self.bench.repetition + 1
        text = " ".join(f"{k}={v}" for k, v in words.items())
        if row.devices > 1:
            return f"several {','.join(device)} {text}"
        return f"one dev={device} {text}"

    def measure(self, row, device, ms):
        before, busy = Usage(self.pids()), host_busy_ns()
        text = self.guest.run(self.line(row, device, ms), patience=40)
        usage = Usage(self.pids()).since(before)
        busy = host_busy_ns() - busy
        return summary(text, usage, busy)


class Ours(Competitor):
    def prepare(self):
        self.cow = self.bench.disks.copy_cow("ours")

    def files(self):
        return [self.bench.disks.raw, self.cow]

    def after_boot(self):
        d = self.bench.disks
        # No lock on the raw file (c): other guests have it, too, and do nothing meanwhile.
        devices = [f"0c={d.raw}", f"1={self.cow},{d.base}"]
        devices += [f"{2 + i}c={path}" for i, path in enumerate(d.small)]
        self.guest.run(f"insmod {self.bench.module} " + " ".join(f"device={x}" for x in devices))

    def device(self, row):
        if row.cache == "direct":
            return None
        if row.devices > 1:
            return ["/dev/aubd" + "cdefghij"[i] for i in range(SMALL_DISKS)]
        return "/dev/aubda" if row.kind == "raw" else "/dev/aubdb"


class OursDirect(Ours):
    """The same with O_DIRECT on the host's file."""

    def prepare(self):
        if not self.bench.module_has("cache"):
            raise GuestError("the module has no parameter cache=, so no O_DIRECT")
        self.cow = self.bench.disks.copy_cow("ours-direct")

    def after_boot(self):
        d = self.bench.disks
        self.guest.run(f"insmod {self.bench.module} cache=none device=0c={d.raw} device=1={self.cow},{d.base}")

    def device(self, row):
        if row.cache != "direct":
            return None
        return "/dev/aubda" if row.kind == "raw" else "/dev/aubdb"


class Tree(Competitor):
    def prepare(self):
        self.cow = self.bench.disks.copy_cow("tree")

    def files(self):
        return [self.bench.disks.raw, self.cow]

    def words(self):
        d = self.bench.disks
        return [f"ubd0c={d.raw}", f"ubd1={self.cow},{d.base}",
                *(f"ubd{2 + i}c={path}" for i, path in enumerate(d.small))]

    def device(self, row):
        if row.cache == "direct":
            return None
        if row.devices > 1:
            return ["/dev/ubd" + "cdefghij"[i] for i in range(SMALL_DISKS)]
        return "/dev/ubda" if row.kind == "raw" else "/dev/ubdb"


class TreeSync(Tree):
    def prepare(self):
        self.cow = self.bench.disks.copy_cow("tree-s")

    def words(self):
        d = self.bench.disks
        return [f"ubd0cs={d.raw}", f"ubd1s={self.cow},{d.base}"]

    def device(self, row):
        return super().device(row) if "flush" in row.words else None


class Virtio(Competitor):
    daemon = None

    def prepare(self):
        d = self.bench.disks
        options = "file.driver=file,file.aio=io_uring,file.locking=off"
        exports = [("raw", f"driver=raw,{options},cache.direct=off,discard=unmap,file.discard=unmap,"
                           f"file.filename={d.raw}"),
                   ("direct", f"driver=raw,{options},cache.direct=on,discard=unmap,file.discard=unmap,"
                              f"file.filename={d.raw}")]
        exports += [(f"small{i}", f"driver=raw,{options},file.filename={path}") for i, path in enumerate(d.small)]
        self.qcow = None
        if d.no_qcow:
            self.reasons["cow"] = d.no_qcow
        else:
            self.qcow = d.copy_cow("virtio", "qcow2")
            exports.append(("cow", f"driver=qcow2,{options},discard=unmap,backing.driver=raw,"
                                   f"backing.file.driver=file,backing.file.locking=off,"
                                   f"backing.file.filename={d.base},file.filename={self.qcow}"))
        self.names = [name for name, _ in exports]
        self.daemon = Daemon(d.work, exports)

    def files(self):
        return [self.bench.disks.raw] + ([self.qcow] if self.qcow else [])

    def words(self):
        return self.daemon.words

    def after_boot(self):
        # The daemon (7.2) leaves the guest to believe that there is no cache to flush.
        self.guest.run("for f in /sys/block/vd*/cache_type; do echo write back >$f; done")
        # They come in the order of the command line.
        for name in self.guest.run("cd /sys/block; ls -d vd*; cd /").split():
            if int(name[2:], 36) - 10 >= len(self.names):
                raise GuestError("more disks than exports: " + name)

    def device(self, row):
        def disk(name):
            return "/dev/vd" + chr(ord("a") + self.names.index(name)) if name in self.names else None
        if row.devices > 1:
            return [disk(f"small{i}") for i in range(SMALL_DISKS)]
        if row.cache == "direct":
            return disk("direct") if row.kind == "raw" else None
        return disk("raw" if row.kind == "raw" else "cow")

    def pids(self):
        return self.guest.pids() + self.daemon.pids()

    def stop(self):
        super().stop()
        if self.daemon:
            self.daemon.stop()
            self.daemon = None


class Null(Competitor):
    backed = 1

    def prepare(self):
        if not self.bench.null_module:
            raise GuestError("the guest's kernel has no null_blk module")

    def files(self):
        return []

    def after_boot(self):
        self.guest.run(f"""insmod {self.bench.null_module} nr_devices=0 &&
            mount -t configfs configfs /sys/kernel/config && cd /sys/kernel/config/nullb && mkdir nullb0 && cd nullb0 &&
            echo {self.backed} >memory_backed && echo {NULL_MIB} >size && echo 512 >blocksize && echo 1 >discard &&
            echo 1 >power; cd /; [ -b /dev/nullb0 ]""".replace("\n", " "))
        if self.backed:
            # So that reads find pages.
            self.guest.run(f"one dev=/dev/nullb0 op=write order=once bs=64k depth=4 ms=0 length={NULL_MIB}m")

    def region(self, row):
        return 0, NULL_MIB << 20

    def device(self, row):
        ours = row.kind == "raw" and row.cache == "warm" and row.devices == 1 and row.words["op"] != "discard"
        return "/dev/nullb0" if ours else None


class NullEmpty(Null):
    backed = 0

    def device(self, row):
        return super().device(row) if row.words["op"] == "read" else None


class Host(Competitor):
    """host/loop on the raw file; of several ways to do a row the fastest counts."""

    def start(self):
        pass

    def stop(self):
        pass

    def pids(self):
        return [os.getpid()]

    def files(self):
        return [self.bench.disks.raw]

    def device(self, row):
        if not row.host:
            return None
        return self.bench.disks.small if row.devices > 1 else self.bench.disks.raw

    def measure(self, row, device, ms):
        results = []
        for way in row.host:
            self.bench.settle(row, self)
            results.append(self._measure(row, device, ms, way))
        return max(results, key=lambda r: r["per_second"])

    def _measure(self, row, device, ms, way):
        words = dict(row.words)
        if row.region != "small":
            words["offset"], words["length"] = self.region(row)
        words["ms"] = 10000 if row.fixed else ms
        words["seed"] = self.bench.repetition + 1
        words["direct"] = int(row.cache == "direct")
        words.update(way)
        text = [f"{k}={v}" for k, v in words.items()]
        busy, cpu = host_busy_ns(), os.times()
        paths = device if row.devices > 1 else [device]
        children = [subprocess.Popen([self.bench.loop, "dev=" + path, *text], stdout=subprocess.PIPE, text=True)
                    for path in paths]
        output = ["result " + child.communicate()[0] for child in children]
        if any(child.returncode for child in children):
            raise GuestError(f"host: loop {' '.join(text)}: status {children[0].returncode}: {output}")
        now = os.times()
        cpu_ns = int((now.children_user + now.children_system - cpu.children_user - cpu.children_system) * 1e9)
        result = summary("\n".join(output), {"cpu_ns": cpu_ns}, host_busy_ns() - busy)
        result["way"] = words["engine"]
        return result


def merge(results):
    """Loads that ran side by side, as one."""
    first = results[0]
    for other in results[1:]:
        first["ns"] = max(first["ns"], other["ns"])
        first["bytes"] += other["bytes"]
        first["error"] = first["error"] or other["error"]
        for part in ("ops", "flushes"):
            a, b = first[part], other[part]
            a["count"] += b["count"]
            for name in ("p50_ns", "p99_ns", "p999_ns", "max_ns"):
                a[name] = max(a[name], b[name])
            buckets = dict(a["buckets"])
            for at, n in b["buckets"]:
                buckets[at] = buckets.get(at, 0) + n
            a["buckets"] = sorted(buckets.items())
    return first


def summary(text, usage, busy_ns):
    results, counts = [], {"before": {}, "after": {}}
    for line in text.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "result":
            results.append(json.loads(rest))
        elif word in counts:
            kind, _, rest = rest.partition(" ")
            note_count(counts[word], kind, rest)
    if not results:
        raise GuestError("no result: " + text[-500:])
    r = merge(results)
    if r["error"]:
        raise GuestError(f"the load failed: error {r['error']}")
    n = max(r["ops"]["count"], 1)
    seconds = max(r["ns"], 1) / 1e9
    out = {"count": r["ops"]["count"], "seconds": seconds, "per_second": n / seconds,
           "mb_per_second": r["bytes"] / seconds / 1e6, "latency": r["ops"], "flush_latency": r["flushes"],
           "cpu_us": usage["cpu_ns"] / n / 1e3,
           "other_cpus": max(0, busy_ns - usage["cpu_ns"]) / max(r["ns"], 1)}
    if "switches" in usage:
        out["switches"] = usage["switches"] / n
    if "wait_ns" in usage:
        out["waited"] = usage["wait_ns"] / max(r["ns"], 1)
    delta = {k: v - counts["before"].get(k, 0) for k, v in counts["after"].items()}
    out["interrupts"] = sum(v for k, v in delta.items() if k.startswith("irq ")) / n if delta else None
    out["stats"] = {k[5:]: v / n for k, v in delta.items() if k.startswith("stat ") and v}
    return out


def note_count(to, kind, text):
    """A line of /proc/interrupts (but the clock's) or of our statistics."""
    fields = text.split()
    if kind == "irq" and len(fields) > 3 and fields[0].rstrip(":").isdigit():
        if fields[2] == "SIGIO" and not fields[3].startswith(("console", "mconsole", "winch", "write")):
            name = "irq " + " ".join(fields[3:])
            to[name] = to.get(name, 0) + int(fields[1])
    elif kind == "stat" and len(fields) == 3 and fields[2].isdigit():
        name = "stat " + fields[1]
        to[name] = to.get(name, 0) + int(fields[2])


# memory_of() is for the report: what each takes beside the guest's RAM.
def memory(competitor):
    if isinstance(competitor, Host):
        return None
    return memory_of(competitor.pids())


ALL = {"ours": Ours, "ours-direct": OursDirect, "tree": Tree, "tree-s": TreeSync, "virtio": Virtio, "null": Null,
       "null0": NullEmpty, "host": Host}
