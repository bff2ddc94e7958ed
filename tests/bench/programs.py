# SPDX-License-Identifier: GPL-2.0-only
#
# Part (b): fio with io_uring in the guest, on its disks, and on the host, on the
# same raw file. It measures the guest's system calls, too: null_blk in the very
# guest that has our disks says what these leave.

import json
import os
import re
import shutil
import subprocess
from statistics import median

import competitors
import rows
from competitors import TITLES
from guests import GuestError

NAMES = ("ours", "null", "tree", "virtio", "host")
# title, words, kinds of disk, and whether something is asked
ROWS = (
    ("random read 4 KiB, depth 1", ["--rw=randread", "--bs=4k", "--iodepth=1"], ("raw",), False),
    ("random read 4 KiB, depth 32", ["--rw=randread", "--bs=4k", "--iodepth=32"], ("raw", "cow", "full"), True),
    ("random write 4 KiB, depth 32", ["--rw=randwrite", "--bs=4k", "--iodepth=32"], ("raw", "cow", "full"), True),
    ("sequential read 1 MiB, depth 4", ["--rw=read", "--bs=1m", "--iodepth=4"], ("raw",), False),
)
# invalidate=0: else it has the page cache forget the file.
COMMON = ["--name=row", "--thread", "--randrepeat=1", "--output-format=json", "--eta=never", "--lat_percentiles=1",
          "--clat_percentiles=0", "--invalidate=0"]
ENGINES = {"io_uring": ["--ioengine=io_uring", "--registerfiles=1"], "psync": ["--ioengine=psync"]}
# Regions in which COW files have half, for writes: one for each repetition.
FIRST_TOUCH = ("mixed4", "mixed5", "mixed6", "mixed7")


class Row(rows.Row):
    def __init__(self, title, words, kind):
        op = "read" if "read" in words[0] else "write"
        # What it writes has no stamps: not where loads will read.
        region = "half" if kind == "cow" else "all" if op == "read" else "discard"
        super().__init__("fio", title, {"op": op, "order": "random", "bs": 4096, "depth": 32}, kind, region,
                         host=[{}] if kind == "raw" else [])
        self.fio = words

    @property
    def id(self):
        return f"fio, {self.title}/{self.kind}"


class OursBesideNull(competitors.Ours):
    guest_memory = "512M"


class NullBesideOurs(competitors.Null):
    """null_blk in the guest that `ours` is."""

    def start(self):
        self.beside = next((c for c in self.bench.there if c.name == "ours"), None)
        if self.beside:
            self.guest = self.beside.guest
            self.after_boot()
        else:
            super().start()

    def stop(self):
        if self.beside:
            self.guest = None
        else:
            super().stop()


def command(bench, competitor, row, device, engine, repetition):
    offset, length = competitor.region(row)
    out = bench.disks.path(competitor.name + ".fio.json")
    ms = 3000 if bench.options.full else 300
    words = ["fio", *COMMON, *ENGINES[engine], *row.fio, f"--filename={device}", f"--offset={offset}",
             f"--size={length}", f"--output={out}", f"--direct={0 if competitor.name == 'host' else 1}",
             f"--randseed={repetition + 1}", f"--runtime={ms}ms"]
    # What is written for the first time is so but once: then each block has its turn.
    words += [] if row.first_touch else ["--time_based", "--norandommap"]
    return words, out


def result(path):
    with open(path) as f:
        text = f.read()
    # Notes may come before the JSON.
    job = json.loads(text[text.index("{"):])["jobs"][0]
    if job["error"]:
        raise GuestError(f"fio: error {job['error']}")
    part = max((job["read"], job["write"]), key=lambda p: p["total_ios"])
    percentile = part["lat_ns"].get("percentile", {})
    return {"per_second": part["iops"], "mb_per_second": part["bw_bytes"] / 1e6,
            "p50_ns": percentile.get("50.000000", 0), "p99_ns": percentile.get("99.000000", 0)}


def measure(bench, competitor, row, device, repetition):
    """On the host the faster of io_uring and plain calls."""
    results = []
    for engine in ("io_uring", "psync") if competitor.name == "host" else ("io_uring",):
        words, out = command(bench, competitor, row, device, engine, repetition)
        bench.settle(row, competitor)
        if os.path.exists(out):
            os.unlink(out)
        if competitor.name == "host":
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        else:
            competitor.guest.run(" ".join(words), patience=60)
        if row.writes:
            bench.disks.sync(competitor.files(row)[:1])
        results.append({**result(out), "way": engine})
    return max(results, key=lambda r: r["per_second"])


def run(bench):
    wanted = [Row(title, words, kind) for title, words, kinds, _ in ROWS for kind in kinds
              if re.search(bench.options.rows, f"fio, {title}/{kind}")]
    if not wanted:
        return
    if not shutil.which("fio"):
        bench.data["absent"]["fio"] = "fio is not installed"
        return
    repetitions = min(bench.options.repetitions, len(FIRST_TOUCH))
    there = bench.start([n for n in NAMES if n in bench.options.competitors],
                        {"ours": OursBesideNull, "null": NullBesideOurs})
    try:
        for n in range(repetitions):
            bench.turn = n
            for i, row in enumerate(wanted):
                if row.first_touch:
                    row.region = FIRST_TOUCH[n]
                turn = n % max(len(there), 1)
                for competitor in there[turn:] + there[:turn]:
                    device = competitor.device(row)
                    if device is None or not again(bench, n, row, competitor):
                        continue
                    bench.progress.show("fio", (n * len(wanted) + i) / (repetitions * len(wanted)),
                                        f"{row.title}, {row.kind}, {competitor.name}")
                    try:
                        r = measure(bench, competitor, row, device, n)
                    except (GuestError, OSError, ValueError, subprocess.CalledProcessError) as e:
                        bench.data["absent"][f"{competitor.name}, {row.id}"] = str(e)[-300:]
                        continue
                    bench.data["fio"].append({"title": row.title, "kind": row.kind, "competitor": competitor.name,
                                              "turn": n, **r})
    finally:
        for competitor in reversed(there):
            competitor.stop()
    bench.progress.show("fio", 1, "done")


def again(bench, n, row, competitor):
    """In the quick form later repetitions have what is asked, and of whom."""
    asked = {title for title, _, _, asked in ROWS if asked}
    return n == 0 or bench.options.full or (row.title in asked and competitor.name in ("ours", "null", "host"))


def cells(data):
    """{(title, kind): {competitor: [result of each turn]}}"""
    found = {}
    for r in data["fio"]:
        found.setdefault((r["title"], r["kind"]), {}).setdefault(r["competitor"], []).append(r)
    return found


def table(data, cell_text):
    """Lines of the report."""
    found = cells(data)
    lines = ["| row | disk | " + " | ".join(TITLES[n] for n in NAMES) + " |", "|---|---|" + "---:|" * len(NAMES)]
    for title, _, kinds, _ in ROWS:
        for kind in kinds:
            by = found.get((title, kind))
            if by:
                lines.append(f"| {title} | {kind} | " +
                             " | ".join(cell_text(by[n]) if n in by else "" for n in NAMES) + " |")
    return lines


def verdicts(data, verdict):
    """At depth 32: 0.9 of null_blk or 0.85 of the host's own, whichever is lower. Both
    have the raw disk's row alone. The rest is shown."""
    found = cells(data)
    for title, _, kinds, asked in ROWS:
        if not asked:
            continue
        raw = {name: {r["turn"]: r["per_second"] for r in of} for name, of in found.get((title, "raw"), {}).items()}
        goals = [(share * median(raw[name].values()), name, share) for name, share in (("null", 0.9), ("host", 0.85))
                 if name in raw]
        for kind in kinds:
            ours = {r["turn"]: r["per_second"] for r in found.get((title, kind), {}).get("ours", [])}
            # Both have to be there for "whichever is lower".
            goal, name, share = min(goals) if len(goals) == 2 else (None, "null", 0.9)
            ratios = [ours[t] / raw[name][t] for t in sorted(ours) if t in raw[name]] if goal else []
            yield verdict("fio", "fio, " + title, kind, TITLES[name] + " (the lower)" if goal else
                          "null_blk or host", share, ratios)
            for other in ("null", "host"):
                if goal and other != name:
                    yield verdict("fio", "fio, " + title, kind, TITLES[other], None,
                                  [ours[t] / raw[other][t] for t in sorted(ours) if t in raw[other]])
