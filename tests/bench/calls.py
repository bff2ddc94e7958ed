# SPDX-License-Identifier: GPL-2.0-only
#
# Host calls of each operation, by strace on all processes of a competitor: the
# difference of a long and a short load, so that what is not of the load falls
# out. Counts, not times: strace slows all down.

import re
import shutil
import signal
import subprocess
import time

import competitors
import rows
from guests import GuestError

NAMES = ("ours", "tree", "virtio")
QUICK = ("randread-4k-1-warm/raw", "randread-4k-32-warm/raw", "randread-4k-32-warm/cow", "randwrite-4k-1/raw",
         "randwrite-4k-32/raw", "seqread-1024k/raw", "flush-1/raw")
FULL = ("randread-4k-1-warm/raw", "randread-4k-32-warm/raw", "randread-4k-32-warm/cow", "randwrite-4k-1/raw",
        "randwrite-4k-32/raw", "seqread-1024k/raw", "seqwrite-1024k/raw", "flush-1/raw", "discard-64k/raw")


# What UML does for the guest's programs, not for a disk.
NOT_OURS = {"ptrace", "wait4"}


def lengths(row):
    """Operations of the short load, and of the long one."""
    if int(row.words["bs"]) >= 1 << 20:
        return 20, 100
    return (50, 250) if "flush" in row.words else (200, 1200)


def traced_by_another(pid):
    with open(f"/proc/{pid}/status") as f:
        return any(line.startswith("TracerPid:") and line.split()[1] != "0" for line in f)


def is_zombie(pid):
    with open(f"/proc/{pid}/stat", "rb") as f:
        return f.read().rsplit(b")", 1)[1].split()[0] in b"ZX"


def count(bench, competitor, line):
    """{name of a call: how often} while a line runs in the competitor's guest"""
    pids = [p for p in competitor.pids() if not is_zombie(p) and not traced_by_another(p)]
    out = bench.disks.path("strace.out")
    words = [w for pid in pids for w in ("-p", str(pid))]
    child = subprocess.Popen(["strace", "-c", "-f", "-q", "-o", out, *words], stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        # Attached to all when the last process says so.
        until = time.monotonic() + 5
        while not all(traced_by_another(p) for p in pids):
            if child.poll() is not None or time.monotonic() > until:
                raise GuestError("strace: " + (child.communicate()[1] if child.poll() is not None else "no answer"))
            time.sleep(0.02)
        competitor.guest.run(line, patience=60)
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGINT)
        child.communicate()
    found = {}
    with open(out) as f:
        for text in f:
            m = re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", text)
            if m and m.group(2) != "total":
                found[m.group(2)] = found.get(m.group(2), 0) + int(m.group(1))
    return found


def measure(bench, row, competitor, device):
    counts = []
    bench.settle(row, competitor)
    for n in lengths(row):
        line = competitor.line(row, device, 0) + f" ios={n}"
        if row.op == "discard":
            line += " order=random"
        counts.append(count(bench, competitor, re.sub(r" ms=\d+", " ms=0", line)))
    short, long = lengths(row)
    calls = {name: (counts[1][name] - counts[0].get(name, 0)) / (long - short) for name in counts[1]}
    return {name: n for name, n in calls.items() if n > 0.004 and name not in NOT_OURS}


def run(bench):
    ids = FULL if bench.options.full else QUICK
    wanted = [r for r in rows.all_rows() if r.id in ids and re.search(bench.options.rows, r.id)]
    names = [n for n in NAMES if n in bench.options.competitors]
    if not wanted or not names:
        return
    if not shutil.which("strace"):
        bench.data["absent"]["host calls"] = "strace is not installed"
        return
    there = bench.start(names)
    try:
        for done, (row, competitor) in enumerate((r, c) for r in wanted for c in list(there)):
            device = competitor.device(row) if competitor in there else None
            if device is None:
                continue
            bench.progress.show("host calls", done / (len(wanted) * len(names)), f"{row.title}, {competitor.name}")
            try:
                calls = measure(bench, row, competitor, device)
            except (GuestError, OSError) as e:
                bench.data["absent"][f"host calls, {competitor.name}"] = str(e)[-300:]
                bench.progress.say(f"host calls of {competitor.name}: {e}")
                there.remove(competitor)
                competitor.stop()
                continue
            bench.data["calls"].append({"row": row.id, "competitor": competitor.name, "calls": calls})
    finally:
        for competitor in there:
            competitor.stop()
    bench.progress.show("host calls", 1, "done")


def table(data):
    """Lines of the report."""
    titles = {row.id: row for row in rows.all_rows()}
    lines = ["| row | disk | who | host calls | of which |", "|---|---|---|---:|---|"]
    for c in data["calls"]:
        row = titles[c["row"]]
        most = sorted(c["calls"].items(), key=lambda kv: -kv[1])[:5]
        lines.append(f"| {row.title} | {row.kind} | {competitors.TITLES[c['competitor']]} | "
                     f"{sum(c['calls'].values()):.2f} | " + ", ".join(f"{k} {v:.2f}" for k, v in most) + " |")
    return lines
