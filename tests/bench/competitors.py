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
#	host	the host itself, without a guest: one thread
#	host-threads	the same with a thread for each operation in flight
#
# device(row) is where a row's load runs: None when there is no such thing.

import json
import os
import subprocess

from disks import BLOCK, SMALL_DISKS
from guests import Daemon, Guest, GuestError, Usage, host_busy_ns, memory_of

# As much as the region that is read on the other disks.
NULL_MIB = 128

TITLES = {"ours": "ours", "tree": "in-tree", "tree-s": "in-tree, `s`", "virtio": "virtio_uml",
          "null": "null_blk, memory", "null0": "null_blk, empty", "host": "host", "host-threads": "host, threads"}


class Competitor:
    def __init__(self, name, bench):
        self.name = name
        self.bench = bench
        self.guest = None
        # Why it cannot run here.
        self.absent = None

    guest_memory = "320M"

    def words(self):
        return []

    def prepare(self):
        """Before its guest is started."""

    def after_boot(self):
        """In the guest, with the load module in."""

    def files(self, row):
        """Host files of the row's disk, what is written first; a backing file last."""
        d = self.bench.disks
        return [d.raw] if row.kind == "raw" else [self.cow, d.base]

    def ranges(self, row):
        """Where on the host the row's data is, for the page cache."""
        d = self.bench.disks
        if row.devices == 1:
            return d.ranges(row.kind, self.files(row), row.region)
        paths = d.small if row.kind == "raw" else self.small_cows()
        return [(path, 0, os.path.getsize(path)) for path in paths]

    def small_cows(self):
        d = self.bench.disks
        return [path for i in range(SMALL_DISKS) for path in (d.small_cow(i), d.small_base(i))]

    def can_direct(self):
        """Else O_DIRECT rows are done with a page cache that is cold."""
        return True

    def start(self):
        try:
            self.prepare()
            self.guest = Guest(self.name, self.bench.kernel, self.words(), self.bench.disks.work,
                               self.guest_memory)
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
        d = self.bench.disks
        offset, length = (d.regions if row.devices == 1 else d.small_regions).at[row.region]
        if row.turns_have_parts:
            # Each turn of a repetition has its own part.
            parts = self.bench.options.turns * row.again
            # Whole blocks of the load, in whole clusters of a qcow2 file.
            part = length // parts // 65536 * 65536
            return offset + self.bench.turn % parts * part, part
        return offset, length

    def load_words(self, row, ms):
        """Of the row, for load/ and host/ alike."""
        words = dict(row.words)
        words["offset"], words["length"] = self.region(row)
        words["ms"] = ms
        if row.one_pass:
            words["ios"] = words["length"] // words["bs"]
        # The same blocks in the same order for all in a turn.
        words["seed"] = self.bench.turn + 1
        if row.op == "read":
            words["check"] = int(self.has_data)
        elif row.op == "write":
            words["tag"] = self.bench.next_tag()
        return words

    # Reads get what was written.
    has_data = True

    def line(self, row, device, ms):
        text = " ".join(f"{k}={v}" for k, v in self.load_words(row, ms).items())
        if row.devices > 1:
            return f"several {','.join(device)} {text}"
        return f"one dev={device} {text}"

    def measure(self, row, device, ms):
        before, busy = Usage(self.pids()), host_busy_ns()
        text = self.guest.run(self.line(row, device, ms), patience=40)
        usage = Usage(self.pids()).since(before)
        busy = host_busy_ns() - busy
        return summary(text, usage, busy) | {"written": self.written(row)}

    def written(self, row):
        """(how many 4 KiB of the region have the last load's tag, how many there are),
        or None where that cannot be seen from the host"""
        d = self.bench.disks
        path = self.files(row)[0]
        if row.op != "write" or path.endswith(".qcow2"):
            return None
        offset, length = self.region(row)
        shift = 0 if row.kind == "raw" else d.cow_shift
        return d.tagged(path, offset + shift, length, self.bench.tag), length // BLOCK


class Ours(Competitor):
    # A parameter of the module, for all disks.
    mode = ""

    def prepare(self):
        if self.mode and not self.bench.module_has("cache"):
            raise GuestError("the module has no parameter cache=")
        self.cow = self.bench.disks.copy_cow(self.name)

    def after_boot(self):
        d = self.bench.disks
        # No lock on the raw file (c): other guests have it, too, and do nothing meanwhile.
        devices = [f"0c={d.raw}", f"1={self.cow},{d.base}"]
        devices += [f"{2 + i}c={path}" for i, path in enumerate(d.small)]
        devices += [f"{2 + SMALL_DISKS + i}c={d.small_cow(i)},{d.small_base(i)}" for i in range(SMALL_DISKS)]
        self.guest.run(f"insmod {self.bench.module} {self.mode} " + " ".join(f"device={x}" for x in devices))

    def device(self, row):
        return None if row.cache == "direct" else disk_names("/dev/aubd", row)


class OursDirect(Ours):
    """The same with O_DIRECT on the host's file."""

    mode = "cache=none"

    def device(self, row):
        return disk_names("/dev/aubd", row) if row.cache == "direct" else None


def disk_names(prefix, row):
    """One disk, or several: raw, COW, four raw ones, four COW ones."""
    if row.devices == 1:
        return prefix + ("a" if row.kind == "raw" else "b")
    first = 2 if row.kind == "raw" else 2 + SMALL_DISKS
    return [prefix + "abcdefghij"[first + i] for i in range(SMALL_DISKS)]


class Tree(Competitor):
    # A flag of its disks: writes that are durable.
    sync = ""

    def prepare(self):
        self.cow = self.bench.disks.copy_cow(self.name)

    def words(self):
        d = self.bench.disks
        words = [f"ubd0c{self.sync}={d.raw}", f"ubd1{self.sync}={self.cow},{d.base}"]
        words += [f"ubd{2 + i}c={path}" for i, path in enumerate(d.small)]
        return words + [f"ubd{2 + SMALL_DISKS + i}c={d.small_cow(i)},{d.small_base(i)}" for i in range(SMALL_DISKS)]

    def can_direct(self):
        return False

    def device(self, row):
        return disk_names("/dev/ubd", row)


class TreeSync(Tree):
    sync = "s"

    def device(self, row):
        return super().device(row) if row.durable_beside else None


class Virtio(Competitor):
    daemon = None

    def prepare(self):
        d = self.bench.disks
        common = "file.driver=file,file.aio=io_uring,file.locking=off,discard=unmap,file.discard=unmap"

        def raw(path, direct="off"):
            return f"driver=raw,{common},cache.direct={direct},file.filename={path}"

        def qcow2(path, base, direct="off"):
            return (f"driver=qcow2,{common},cache.direct={direct},backing.driver=raw,backing.cache.direct={direct},"
                    f"backing.file.driver=file,backing.file.aio=io_uring,backing.file.locking=off,"
                    f"backing.file.filename={base},file.filename={path}")

        exports = [("raw", raw(d.raw)), ("raw direct", raw(d.raw, "on"))]
        exports += [(f"raw {i}", raw(path)) for i, path in enumerate(d.small)]
        self.qcow = d.copy_qcow2("virtio").path
        self.qcow_direct = d.copy_qcow2("virtio-direct").path
        exports += [("cow", qcow2(self.qcow, d.base)), ("cow direct", qcow2(self.qcow_direct, d.base, "on"))]
        exports += [(f"cow {i}", qcow2(d.small_cow(i, "qcow2"), d.small_base(i))) for i in range(SMALL_DISKS)]
        self.names = [name for name, _ in exports]
        self.daemon = Daemon(d.work, [(name.replace(" ", "-"), options) for name, options in exports])

    def files(self, row):
        d = self.bench.disks
        if row.kind == "raw":
            return [d.raw]
        return [self.qcow_direct if row.cache == "direct" else self.qcow, d.base]

    def small_cows(self):
        d = self.bench.disks
        return [path for i in range(SMALL_DISKS) for path in (d.small_cow(i, "qcow2"), d.small_base(i))]

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
        kind = "raw" if row.kind == "raw" else "cow"
        if row.devices > 1:
            names = [f"{kind} {i}" for i in range(SMALL_DISKS)]
        else:
            names = [kind + (" direct" if row.cache == "direct" else "")]
        disks = ["/dev/vd" + chr(ord("a") + self.names.index(name)) for name in names]
        return disks if row.devices > 1 else disks[0]

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

    def files(self, row):
        return []

    def ranges(self, row):
        return []

    def written(self, row):
        return None

    def after_boot(self):
        self.guest.run(f"""insmod {self.bench.null_module} nr_devices=0 &&
            mount -t configfs configfs /sys/kernel/config && cd /sys/kernel/config/nullb && mkdir nullb0 && cd nullb0 &&
            echo {self.backed} >memory_backed && echo {NULL_MIB} >size && echo 512 >blocksize && echo 1 >discard &&
            echo 1 >power; cd /; [ -b /dev/nullb0 ]""".replace("\n", " "))
        if self.backed:
            # So that reads find pages.
            self.guest.run(f"one dev=/dev/nullb0 op=write order=seq bs=64k depth=4 ms=0 ios={NULL_MIB << 4}")

    def region(self, row):
        return 0, min(NULL_MIB << 20, self.bench.disks.regions.at[row.region][1])

    def device(self, row):
        ours = row.kind == "raw" and row.cache == "warm" and row.devices == 1 and row.op != "discard"
        return "/dev/nullb0" if ours else None


class NullEmpty(Null):
    backed = 0
    has_data = False

    def device(self, row):
        return super().device(row) if row.op == "read" else None


class Host(Competitor):
    """host/loop on the same raw file; writes of the kind cow go to a COW file of its own,
    to the same places. Of several ways to do a row the faster counts."""

    def start(self):
        self.cow = self.bench.disks.copy_cow("host")

    def stop(self):
        pass

    def pids(self):
        return [os.getpid()]

    def ways(self, row):
        return row.host

    def device(self, row):
        if not self.ways(row):
            return None
        return self.bench.disks.small if row.devices > 1 else self.files(row)[0]

    def measure(self, row, device, ms):
        results = []
        for i, way in enumerate(self.ways(row)):
            if i:
                self.bench.settle(row, self)
            results.append(self._measure(row, device, ms, way))
        return max(results, key=lambda r: r["per_second"])

    def _measure(self, row, device, ms, way):
        d = self.bench.disks
        words = {**self.load_words(row, ms), "memory": "shared", "direct": int(row.cache == "direct")}
        if row.kind != "raw":
            words["shift"], words["bitmap"] = d.cow_shift, 8192
        words.update(way)
        text = [f"{k}={v}" for k, v in words.items()]
        busy = host_busy_ns()
        paths = device if row.devices > 1 else [device]
        children = [subprocess.Popen([self.bench.loop, "dev=" + path, *text], stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE, text=True) for path in paths]
        done = [child.communicate() for child in children]
        if any(child.returncode for child in children):
            raise GuestError(f"host: loop {' '.join(text)}: {done}")
        output = "\n".join("result " + out for out, _ in done)
        result = summary(output, None, host_busy_ns() - busy)
        return result | {"way": words["engine"], "written": self.written(row)}


class HostThreads(Host):
    """The same by plain calls of a thread for each operation in flight."""

    def start(self):
        self.cow = self.bench.disks.path("host.cow")

    def ways(self, row):
        return [{"engine": "sync"}] if row.threads_matter else []


def merge(results):
    """Loads that ran side by side, as one: from when the first of them began to when the
    last one ended, by the clock that they share."""
    first = results[0]
    for other in results[1:]:
        begin = min(first["begin_ns"], other["begin_ns"])
        first["ns"] = max(first["begin_ns"] + first["ns"], other["begin_ns"] + other["ns"]) - begin
        first["begin_ns"] = begin
        first["bytes"] += other["bytes"]
        first["error"] = first["error"] or other["error"]
        for name in ("wrong", "cpu_ns", "switches", "calls"):
            if name in first:
                first[name] += other[name]
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
    if usage is None:
        # The host's loop knows by itself.
        usage = {"cpu_ns": r["cpu_ns"], "switches": r["switches"]}
    n = max(r["ops"]["count"], 1)
    seconds = max(r["ns"], 1) / 1e9
    out = {"count": r["ops"]["count"], "seconds": seconds, "per_second": n / seconds,
           "mb_per_second": r["bytes"] / seconds / 1e6, "latency": r["ops"], "flush_latency": r["flushes"],
           "wrong": r["wrong"], "cpu_us": usage["cpu_ns"] / n / 1e3,
           "other_cpus": max(0, busy_ns - usage["cpu_ns"]) / max(r["ns"], 1)}
    if "switches" in usage:
        out["switches"] = usage["switches"] / n
    if "calls" in r:
        out["host_calls"] = r["calls"] / n
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


def memory(competitor):
    """KiB on the host beside the guest's RAM, and the most that our disks had of that; or None"""
    if isinstance(competitor, Host):
        return None
    text = competitor.guest.run("cat /sys/kernel/debug/ubd/*/stats 2>/dev/null || true")
    most = [int(line.split()[1]) for line in text.splitlines() if line.startswith("memory_at_most ")]
    return {"host": memory_of(competitor.pids()), "guest": sum(most) / 1024 if most else None}


ALL = {"ours": Ours, "ours-direct": OursDirect, "tree": Tree, "tree-s": TreeSync, "virtio": Virtio, "null": Null,
       "null0": NullEmpty, "host": Host, "host-threads": HostThreads}
