# SPDX-License-Identifier: GPL-2.0-only
#
# How the cost of an operation grows: with the size of the device, the depth, the
# number of devices, the fragmentation of a COW file's bitmap, the size of a
# request; and the time to add a device with its size.
#
# The points of a plot are measured in rounds, one after the other in each. What is
# shown of a point is its best round: other programs only ever make it slower, and
# what is asked for is the shape. A ratio of two points is that of each round, and
# then the median.

import math
import os
import re
import subprocess

from competitors import TITLES, summary
from guests import Guest, GuestError

MIB = 1 << 20
GIB = 1 << 30


class Growth:
    def __init__(self, bench):
        self.bench = bench
        self.full = bench.options.full
        self.paths = []

    def file(self, name, size, data=0):
        path = self.bench.disks.path("growth-" + name)
        with open(path, "wb") as f:
            f.truncate(size)
        if data:
            self.bench.disks.fill(path, 0, data)
        self.paths.append(path)
        return path

    def cow(self, name, base, inside):
        """A COW file over a base with the ranges that are given."""
        d = self.bench.disks
        path = d.path("growth-" + name)
        if os.path.exists(path):
            os.unlink(path)
        subprocess.run([d.ubd_cow, "create", path, base], check=True, stdout=subprocess.DEVNULL)
        size = os.path.getsize(base)
        bitmap_bytes = (size // 512 + 7) // 8
        data = (8192 + bitmap_bytes + 4095) // 4096 * 4096
        fd = os.open(path, os.O_RDWR)
        for offset, length in inside:
            os.pwrite(fd, b"\xff" * (length // 4096), 8192 + offset // 4096)
            for at in range(offset, offset + length, MIB):
                os.pwrite(fd, os.urandom(min(MIB, offset + length - at)), data + at)
        os.close(fd)
        self.paths.append(path)
        return path

    def boot(self, name, devices, parameters=""):
        """devices: "FILE" or "COW,BACKING"; gives back the guest and the names of its disks"""
        b = self.bench
        words = [f"ubd{i}={d}" for i, d in enumerate(devices)] if name == "tree" else []
        guest = Guest(f"growth-{name}", b.kernel, words, b.disks.work, memory="512M")
        guest.start()
        try:
            guest.run(f"insmod {b.load_module}")
            if name == "ours":
                guest.run(f"insmod {b.module} {parameters} " + " ".join(f"device={i}={d}" for i, d in enumerate(devices)))
        except Exception:
            guest.stop()
            raise
        prefix = "/dev/ubd" if name == "tree" else "/dev/aubd"
        return guest, [prefix + chr(ord("a") + i) for i in range(len(devices))]

    def rounds(self, name):
        """Ours is what something is asked of."""
        return (15 if self.full else 7) if name == "ours" else 2

    def measure(self, guest, name, plot, points, after=None):
        """points: (series, x, line); the first round is not counted."""
        times = [[] for _ in points]
        for _ in range(1 + self.rounds(name)):
            for (_, _, line), found in zip(points, times):
                result = summary(guest.run(line), {"cpu_ns": 0}, 0)
                found.append(1e9 / result["per_second"])
                if after:
                    after()
        for (series, x, _), found in zip(points, times):
            self.note(plot, series, x, found[1:])

    def note(self, plot, series, x, times):
        """times: of each round, in ns"""
        self.bench.data["growth"].append({"plot": plot, "series": series, "x": x, "y": min(times), "rounds": times})

    def forget_files(self):
        for path in self.paths:
            if os.path.exists(path):
                os.unlink(path)
        self.paths = []

    # --- the plots ---

    def device_size(self, name):
        sizes = [GIB, 16 * GIB, 128 * GIB, 1024 * GIB] if self.full else [GIB, 64 * GIB, 1024 * GIB]
        devices = []
        for size in sizes:
            raw = self.file(f"{size >> 30}g.img", size)
            devices += [raw, f"{self.cow(f'{size >> 30}g.cow', self.file(f'{size >> 30}g.base', size), [])},"
                             f"{self.bench.disks.path(f'growth-{size >> 30}g.base')}"]
        guest, disks = self.boot(name, devices)
        try:
            for first, kind in ((0, "raw"), (1, "COW")):
                # Its last 64 MiB: blocks all over it would show what the host's page cache
                # takes for pages that lie far apart.
                self.measure(guest, name, "device size", [
                    (f"{TITLES[name]}, {kind}", size / GIB, f"one dev={disks[2 * i + first]} depth=32 ms=0 ios=32768 "
                     f"seed=7 offset={size - 64 * MIB} length=64m") for i, size in enumerate(sizes)])
        finally:
            guest.stop()

    def add_device(self, name):
        if name != "ours":
            return
        sizes = [GIB, 16 * GIB, 128 * GIB, 1024 * GIB] if self.full else [GIB, 32 * GIB, 1024 * GIB]
        for kind in ("raw", "COW", "COW, all written"):
            for size in sizes:
                spec = self.file(f"add-{size >> 30}.img", size)
                if kind != "raw":
                    # A bitmap that is there, of which each block has a bit.
                    spec = f"{self.cow(f'add-{size >> 30}.cow', spec, [])},{spec}"
                    if kind != "COW":
                        self.fill_bitmap(spec.split(",")[0], size)
                guest = Guest("growth-add", self.bench.kernel, [], self.bench.disks.work)
                guest.start()
                try:
                    self.note("time to add a device", kind, size / GIB, [self.add_seconds(guest, spec) * 1e9])
                finally:
                    guest.stop()
                    self.forget_files()

    @staticmethod
    def fill_bitmap(path, size):
        with open(path, "r+b") as f:
            f.seek(8192)
            for _ in range(0, size // 512 // 8, MIB):
                f.write(b"\xff" * min(MIB, size // 512 // 8))

    def add_seconds(self, guest, spec):
        """insmod with the device, less insmod without. Less than a millisecond cannot be
        told from what insmod itself varies by."""
        text = guest.run(f"for i in 1 2 3 4 5; do for d in '' device=0={spec}; do t=${{EPOCHREALTIME/./}}; "
                         f"insmod {self.bench.module} $d; echo took $((${{EPOCHREALTIME/./}} - t)); rmmod ubd; done; done")
        took = [int(line.split()[1]) for line in text.splitlines() if line.startswith("took")]
        return max(min(took[1::2]) - min(took[0::2]), 1000) / 1e6

    def depth(self, name):
        raw = self.file("depth.img", 64 * MIB, 64 * MIB)
        guest, disks = self.boot(name, [raw], "queue_depth=1024")
        try:
            depths = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024) if self.full else (1, 4, 16, 64, 256, 1024)
            self.measure(guest, name, "depth", [
                (TITLES[name], depth, f"one dev={disks[0]} depth={depth} ms=0 ios={max(16384, 16 * depth)} seed=7")
                for depth in depths])
        finally:
            guest.stop()

    def device_count(self, name):
        # The kernel's own driver has sixteen.
        most = 26 if name == "ours" else 16
        files = [self.file(f"n{i}.img", 8 * MIB, 8 * MIB) for i in range(most)]
        guest, disks = self.boot(name, files)
        try:
            # By time: what a shell for each needs to begin them, one by one, is to be little.
            counts = [n for n in ((1, 2, 4, 8, 16, 26) if self.full else (1, 4, 16, 26)) if n <= most]
            self.measure(guest, name, "devices at once", [
                (TITLES[name], n, f"several {','.join(disks[:n])} depth=8 ms=500 seed=7")
                for n in counts])
        finally:
            guest.stop()

    def fragmentation(self, name):
        base = self.file("frag.base", 64 * MIB, 64 * MIB)
        runs = [4096 << i for i in range(0, 11, 1 if self.full else 2)]
        devices = []
        for run in runs:
            inside = [(at, run) for at in range(0, 64 * MIB, 2 * run)]
            devices.append(f"{self.cow(f'frag-{run}.cow', base, inside)},{base}")
        guest, disks = self.boot(name, devices)
        try:
            for size, ios in ((4, 16384), (1024, 256)):
                self.measure(guest, name, f"runs in the COW file, requests of {size} KiB", [
                    (TITLES[name], run / 1024, f"one dev={disk} depth=4 bs={size}k ms=0 ios={ios} seed=7")
                    for run, disk in zip(runs, disks)])
        finally:
            guest.stop()

    def request_size(self, name):
        raw = self.file("size.img", 64 * MIB, 64 * MIB)
        guest, disks = self.boot(name, [raw])
        try:
            sizes = [512 << i for i in range(0, 12, 1 if self.full else 2)] + ([] if self.full else [MIB])
            for op in ("read", "write"):
                self.measure(guest, name, "request size", [
                    (f"{TITLES[name]}, {op}", size / 1024, f"one dev={disks[0]} op={op} depth=4 bs={size} ms=0 "
                     f"ios={max(256, min(8192, 32 * MIB // size))}") for size in sizes],
                    (lambda: self.bench.disks.sync([raw])) if op == "write" else None)
        finally:
            guest.stop()


AXES = {
    "device size": ("GiB", "ns for each 4 KiB read, depth 32"),
    "time to add a device": ("GiB", "ns (less than 1 ms cannot be told)"),
    "depth": ("in flight", "ns for each 4 KiB read"),
    "devices at once": ("devices", "ns for each 4 KiB read, depth 8 on each"),
    "runs in the COW file, requests of 4 KiB": ("KiB in a run", "ns for each read, depth 4"),
    "runs in the COW file, requests of 1024 KiB": ("KiB in a run", "ns for each read, depth 4"),
    "request size": ("KiB", "ns for each request, depth 4"),
}
PLOTS = (Growth.device_size, Growth.add_device, Growth.depth, Growth.device_count, Growth.fragmentation,
         Growth.request_size)


def run(bench):
    plots = [p for p in PLOTS if re.search(bench.options.rows, "growth, " + p.__name__)]
    names = [n for n in ("ours", "tree") if n in bench.options.competitors]
    growth = Growth(bench)
    for i, plot in enumerate(plots):
        for j, name in enumerate(names):
            bench.progress.show("growth", (i * len(names) + j) / (len(plots) * len(names)),
                                f"{plot.__name__.replace('_', ' ')}, {name}")
            try:
                plot(growth, name)
            except (GuestError, OSError, subprocess.CalledProcessError) as e:
                bench.data["absent"][f"growth, {plot.__name__.replace('_', ' ')}, {name}"] = str(e)[-300:]
                bench.progress.say(f"{plot.__name__}, {name}: {e}")
            growth.forget_files()
    if plots:
        bench.progress.show("growth", 1, "done")


def series(data):
    """{plot: {series: [(x, y)]}}"""
    found = {}
    for g in data["growth"]:
        found.setdefault(g["plot"], {}).setdefault(g["series"], []).append((g["x"], g["y"]))
    return found


def table(data):
    """Lines of the report."""
    lines = []
    for plot, by in series(data).items():
        xs = sorted({x for points in by.values() for x, _ in points})
        lines += [f"### {plot[0].upper()}{plot[1:]}", "", f"{AXES[plot][1]}, by {AXES[plot][0]}", "",
                  "| | " + " | ".join(f"{x:g}" for x in xs) + " | last / first |", "|---|" + "---:|" * (len(xs) + 1)]
        for name, points in by.items():
            at = dict(points)
            lines.append(f"| {name} | " + " | ".join(f"{at[x]:.0f}" if x in at else "" for x in xs) +
                         f" | {points[-1][1] / points[0][1]:.2f} |")
        lines.append("")
    return lines


def exponent(points):
    """Of the power of x that fits best: 0 is flat, 1 linear."""
    xs, ys = [math.log(x) for x, _ in points], [math.log(y) for _, y in points]
    x0, y0 = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((x - x0) * (y - y0) for x, y in zip(xs, ys)) / sum((x - x0) ** 2 for x in xs)


def verdicts(data, verdict):
    """The largest device against the smallest; and no cost that grows faster than what
    it is plotted against."""
    ours, found = TITLES["ours"], series(data)
    for kind in ("raw", "COW"):
        rounds = {g["x"]: g["rounds"] for g in data["growth"]
                  if g["plot"] == "device size" and g["series"] == f"{ours}, {kind}"}
        there = 1 in rounds and 1024 in rounds
        yield verdict("size", "random read 4 KiB, depth 32", kind, "ours, 1 GiB", 1.05,
                      [b / a for a, b in zip(rounds[1], rounds[1024])] if there else [], at_most=True)
    for plot, (x, _) in AXES.items():
        mine = {name: points for name, points in found.get(plot, {}).items()
                if name.startswith(ours) or plot == "time to add a device"}
        for name, points in mine.items() or {"": []}.items():
            # The shorter the runs, the more of them.
            sign = -1 if "runs" in plot else 1
            yield verdict("growth", f"{plot}: exponent of growth", name.removeprefix(ours).strip(", "), "", 1.0,
                          [sign * exponent(points)] if len(points) > 1 else [], at_most=True)
