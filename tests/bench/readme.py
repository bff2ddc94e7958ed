#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
#
# `make bench-readme`: takes what build/bench/results.json says into README.md (the
# rows that are of interest, and a plot) and Documentation/performance.md (all rows,
# and what was asked), between two comments, with a checksum of what is there.
#
#	readme.py [--results FILE] [--partial]	--partial: also of a run that left parts out
#	readme.py --check	only looks whether what is there was made so

import argparse
import hashlib
import json
import os
import re
import sys
import textwrap
from statistics import median

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, here)

import asked  # noqa: E402
import machine  # noqa: E402
import plots  # noqa: E402
import programs  # noqa: E402
import report  # noqa: E402
import rows  # noqa: E402
import whole  # noqa: E402

top = os.path.dirname(os.path.dirname(here))
BEGIN, END = "<!-- {}: begin -->\n", "<!-- {}: end -->"
MADE = "<!-- made by make bench-readme, not to be edited; sha256 {} -->\n"

# row, and its title where the row's own is too long
ROWS = (
    ("randread-4k-1-warm/raw", "random read 4 KiB, depth 1, page cache"),
    ("randread-4k-32-warm/raw", "random read 4 KiB, depth 32, page cache"),
    ("randread-4k-32-warm/cow", "the same, COW"),
    ("randread-4k-32-cold/raw", "random read 4 KiB, depth 32, from the disk"),
    ("randread-4k-32-direct/raw", "random read 4 KiB, depth 32, O_DIRECT"),
    ("randwrite-4k-1/raw", "random write 4 KiB, depth 1"),
    ("randwrite-4k-32/raw", "random write 4 KiB, depth 32"),
    ("randwrite-4k-32-direct/raw", "random write 4 KiB, depth 32, O_DIRECT"),
    ("seqread-1024k/raw", "sequential read 1 MiB"),
    ("seqwrite-1024k/raw", "sequential write 1 MiB"),
    ("flush-1/raw", "write 4 KiB and flush"),
    ("flush-1/cow", "the same on new sectors of a COW file"),
    ("flush-1-8writers/raw", "8 writers, each 4 KiB and a flush"),
)
COLUMNS = ("ours", "tree", "virtio", "null", "host")


def ratio(cells, speed, row, mine, other):
    """Median of the turns; none where the comparison would be of different things."""
    found = asked.ratios(speed.get(row.id, {}).get(mine), speed.get(row.id, {}).get(other))
    return median(found) if found and not (row.flushes and "tree" in (mine, other)) else None


def speed_lines(data):
    cells, speed = report.table(data), asked.by_turn(data["runs"])
    by_id = {row.id: row for row in rows.all_rows()}
    lines = ["| a second | " + " | ".join(report.TITLES[c] for c in COLUMNS) + " | ours / in-tree | ours / host |",
             "|---|" + "---:|" * (len(COLUMNS) + 2)]
    for row_id, title in ROWS:
        row, by = by_id[row_id], cells.get(row_id)
        if not by:
            continue
        texts = [speed_text(row, by.get(name), name) for name in COLUMNS]
        texts += [asked.fixed(ratio(cells, speed, row, "ours", other)) for other in ("tree", "host")]
        lines.append(f"| {title} | " + " | ".join(texts) + " |")
    return lines


def speed_text(row, cell, name):
    # Nothing has to be flushed in memory.
    if not cell or (row.flushes and name == "null"):
        return ""
    if row.unit == "MB/s":
        return f"{cell.mb:.0f} MB"
    return report.number(cell.per_second) + (" (no flush)" if row.flushes and name == "tree" else "")


def fio_lines(data):
    lines = []
    for (title, kind), by in programs.cells(data).items():
        if kind == "raw" and "depth 32" in title:
            texts = [report.number(median(r["per_second"] for r in by[c])) if c in by else "" for c in COLUMNS]
            ours = {r["turn"]: r["per_second"] for r in by.get("ours", [])}
            for other in ("tree", "host"):
                theirs = {r["turn"]: r["per_second"] for r in by.get(other, [])}
                found = asked.ratios(ours, theirs)
                texts.append(asked.fixed(median(found) if found else None))
            lines.append(f"| fio in the guest: {title} | " + " | ".join(texts) + " |")
    return lines


def readme_section(data):
    lines = [f"Operations a second of loads in the guest's kernel, medians of {data['turns']} turns, measured on "
             f"{data['date']}: {machine.brief(data['machine'])}. null_blk is what the guest's block layer leaves, the host "
             "is io_uring or plain calls on the same file without a guest.", "",
             "![speed beside other disks](Documentation/bench.svg)", "", *speed_lines(data), *fio_lines(data), ""]
    if data["whole"]:
        lines += ["Whole work, seconds (like for like is `unsafe`, since the in-tree driver does not flush):", "",
                  *whole.table(data), ""]
    lines += [f"What was asked of these: {asked.count(asked.all_of(data))} All rows are in "
              "[performance.md](Documentation/performance.md); `make bench` measures them on your machine.", ""]
    return lines


def performance_section(data):
    cells = report.table(data)
    found = [row for row in rows.all_rows() if row.id in cells]
    traced = report.traced(data)
    return [f"Measured on {data['date']}: {machine.brief(data['machine'])}. {data['turns']} turns.", "",
            "### What was asked, and what was got", "", *asked.lines(data), "",
            "### All rows", "", *report.speed_table(found, cells), "",
            "### Cost of each operation", "", *report.cost_table(found, cells, traced), "",
            "### fio in the guest", "", *programs.table(data, report.fio_cell), "",
            "### Whole work, seconds", "", *whole.table(data), "",
            "### Growth", "", *report.growth.table(data)]


def checksum(text):
    return hashlib.sha256(text.encode()).hexdigest()


def pattern(name):
    return re.compile("^" + BEGIN.format(name) + "(.*?)^" + END.format(name), re.MULTILINE | re.DOTALL)


def put(path, name, lines):
    with open(path) as f:
        text = f.read()
    if len(pattern(name).findall(text)) != 1:
        sys.exit(f"bench-readme: {path} has not one place for it: {BEGIN.format(name).strip()} and {END.format(name)}, "
                 "on lines of their own")
    # Text as wide as what stands around it; tables are one line for each row.
    lines = [line if line[:1] in ("|", "#", "!", "*") else textwrap.fill(line, 80) for line in lines]
    section = "\n".join(lines).strip("\n") + "\n"
    new = BEGIN.format(name) + MADE.format(checksum(section)) + section + END.format(name)
    with open(path, "w") as f:
        f.write(pattern(name).sub(lambda _: new, text))


def check(path, name):
    """Complaints."""
    with open(path) as f:
        found = pattern(name).findall(f.read())
    where = os.path.relpath(path, top)
    if len(found) != 1:
        return [f"{where}: one place for the benchmark's figures is expected, there are {len(found)}"]
    made = re.match(MADE.replace("{}", "([0-9a-f]*)"), found[0])
    # Before the first run there is some text that was written by hand.
    if made and made.group(1) != checksum(found[0][made.end():]):
        return [f"{where}: the benchmark's figures were edited: run make bench-readme"]
    return []


def main():
    p = argparse.ArgumentParser(description="Takes results of the benchmark into the documentation.")
    p.add_argument("--results", default=os.path.join(top, "build/bench/results.json"))
    p.add_argument("--partial", action="store_true", help="also of a run that left parts out")
    p.add_argument("--check", action="store_true", help="only looks whether the sections were edited")
    o = p.parse_args()
    places = ((os.path.join(top, "README.md"), "bench", readme_section),
              (os.path.join(top, "Documentation/performance.md"), "rows", performance_section))
    if o.check:
        complaints = [c for path, name, _ in places for c in check(path, name)]
        sys.exit("\n".join(complaints) or 0)
    try:
        with open(o.results) as f:
            data = json.load(f)
    except OSError as e:
        sys.exit(f"bench-readme: {e}: run make bench first")
    if data["restricted"] and not o.partial:
        sys.exit("bench-readme: these results are of a part of the benchmark; --partial takes them all the same")
    for path, name, section in places:
        put(path, name, section(data))
    plots.overview(data, [r for r in ROWS if not r[0].startswith("flush")], os.path.join(top, "Documentation"))


if __name__ == "__main__":
    main()
