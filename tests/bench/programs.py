# SPDX-License-Identifier: GPL-2.0-only
#
# Part (b): fio with io_uring in the guest, on its disks, and on the host, on the
# same raw file. It measures the guest's system calls, too.

import json
import os
import re
import shutil
import subprocess

from competitors import TITLES, Null
from guests import GuestError

NAMES = ("ours", "tree", "virtio", "null", "host")
# title, words, kinds of disk, and what is asked
ROWS = (
    ("random read 4 KiB, depth 1", ["--rw=randread", "--bs=4k", "--iodepth=1"], ("raw",), False),
    ("random read 4 KiB, depth 32", ["--rw=randread", "--bs=4k", "--iodepth=32"], ("raw", "cow", "full"), True),
    ("random write 4 KiB, depth 32", ["--rw=randwrite", "--bs=4k", "--iodepth=32"], ("raw", "full"), True),
    ("sequential read 1 MiB, depth 4", ["--rw=read", "--bs=1m", "--iodepth=4"], ("raw",), False),
)
COMMON = ["--name=row", "--thread", "--ioengine=io_uring", "--time_based", "--randrepeat=1", "--norandommap",
           "--output-format=json", "--eta=never", "--registerfiles=1", "--lat_percentiles=1", "--clat_percentiles=0"]


class Row:
    """As much of rows.Row as competitors look at."""

    def __init__(self, title, words, kind):
        self.title, self.kind, self.fio = title, kind, words
        self.words = {"op": "read" if "read" in words[0] else "write", "bs": 4096}
        self.region = "half" if kind == "cow" else "all"
        self.cache, self.devices, self.host = "warm", 1, [{}]
        self.writes = self.words["op"] == "write"
        self.id = f"fio, {title}/{kind}"


def command(bench, competitor, row, device):
    offset, length = competitor.region(row)
    out = bench.disks.path(competitor.name + ".fio.json")
    ms = 4000 if bench.options.full else 600
    words = ["fio", *COMMON, *row.fio, f"--filename={device}", f"--offset={offset}", f"--size={length}",
             f"--runtime={ms}ms", f"--output={out}", f"--direct={0 if competitor.name == 'host' else 1}"]
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


def measure(bench, competitor, row, device):
    words, out = command(bench, competitor, row, device)
    bench.settle(row, competitor)
    if os.path.exists(out):
        os.unlink(out)
    if competitor.name == "host":
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    else:
        competitor.guest.run(" ".join(words), patience=60)
    if row.writes:
        bench.disks.sync(competitor.files())
    return result(out)


def run(bench):
    wanted = [(Row(title, words, kind)) for title, words, kinds, _ in ROWS for kind in kinds
              if re.search(bench.options.rows, f"fio, {title}/{kind}")]
    names = [n for n in NAMES if n in bench.options.competitors]
    if not wanted:
        return
    if not shutil.which("fio"):
        bench.data["absent"]["fio"] = "fio is not installed"
        return
    repetitions = bench.options.repetitions if bench.options.full else 2
    there = bench.start(names)
    try:
        for n in range(repetitions):
            for i, row in enumerate(wanted):
                turn = n % max(len(there), 1)
                for competitor in there[turn:] + there[:turn]:
                    device = competitor.device(row)
                    if device is None or (isinstance(competitor, Null) and row.kind != "raw"):
                        continue
                    if competitor.name == "host" and row.kind != "raw":
                        continue
                    bench.progress.show("fio", (n * len(wanted) + i) / (repetitions * len(wanted)),
                                        f"{row.title}, {row.kind}, {competitor.name}")
                    try:
                        r = measure(bench, competitor, row, device)
                    except (GuestError, OSError, ValueError, subprocess.CalledProcessError) as e:
                        bench.data["absent"][f"{competitor.name}, {row.id}"] = str(e)[-300:]
                        continue
                    bench.data["fio"].append({"title": row.title, "kind": row.kind, "competitor": competitor.name,
                                              "repetition": n, **r})
    finally:
        for competitor in there:
            competitor.stop()
    bench.progress.show("fio", 1, "done")


def table(data, median, cell_text):
    """Lines of the report."""
    cells = {}
    for r in data["fio"]:
        cells.setdefault((r["title"], r["kind"]), {}).setdefault(r["competitor"], []).append(r)
    lines = ["| row | disk | " + " | ".join(TITLES[n] for n in NAMES) + " | asked | is | |",
             "|---|---|" + "---:|" * len(NAMES) + "---:|---:|---|"]
    for title, _, kinds, asked in ROWS:
        for kind in kinds:
            by = cells.get((title, kind))
            if not by:
                continue
            lines.append(f"| {title} | {kind} | " +
                         " | ".join(cell_text(by[n]) if n in by else "" for n in NAMES) + " | " +
                         verdict(by, cells.get((title, "raw"), {}), median, asked) + " |")
    return lines


def verdict(by, raw, median, asked):
    """0.9 of null_blk or 0.85 of the host, whichever is lower"""
    def speed(of, name):
        return median(r["per_second"] for r in of[name])
    if not asked or "ours" not in by or not ("null" in raw or "host" in raw):
        return " | |"
    goals = [(0.9 * speed(raw, "null"), "0.9 of null_blk")] if "null" in raw else []
    goals += [(0.85 * speed(raw, "host"), "0.85 of the host")] if "host" in raw else []
    goal, text = min(goals)
    is_ = speed(by, "ours") / goal
    return f"{text} | {is_:.2f} of that | {'yes' if is_ >= 1 else '**no**'}"
