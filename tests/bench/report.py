# SPDX-License-Identifier: GPL-2.0-only
#
# What results.json says, as report.md. Figures are medians over the turns of all
# repetitions; ± is half of (most - least) / median. What was asked is in asked.py.

import os
from statistics import median

import asked
import calls
import growth
import plots
import programs
import rows
import whole
from competitors import TITLES

COLUMNS = ("ours", "tree", "tree-s", "virtio", "null", "null0", "host", "host-threads")


class Cell:
    """All runs of one row by one competitor."""

    def __init__(self, runs):
        self.runs = runs
        self.per_second = median(r["per_second"] for r in runs)
        values = [r["per_second"] for r in runs]
        self.least, self.most = min(values), max(values)
        self.spread = (self.most - self.least) / self.per_second
        self.mb = median(r["mb_per_second"] for r in runs)
        # Where there are flushes these are what takes long.
        self.part = "flush_latency" if runs[0]["flush_latency"]["count"] else "latency"
        self.p50 = median(r[self.part]["p50_ns"] for r in runs)
        self.p99 = median(r[self.part]["p99_ns"] for r in runs)
        self.other_cpus = median(r["other_cpus"] for r in runs)

    def cost(self, name):
        values = [r[name] for r in self.runs if r.get(name) is not None]
        return median(values) if values else None

    def stat(self, name):
        return median(r["stats"].get(name, 0) for r in self.runs)


def table(data):
    """{row id: {competitor: Cell}}"""
    found = {}
    for run in data["runs"]:
        if run.get("fault"):
            continue
        found.setdefault(run["row"], {}).setdefault(run["competitor"], []).append(run)
    return {row: {name: Cell(runs) for name, runs in by.items()} for row, by in found.items()}


def number(value):
    if value >= 1e6:
        return f"{value / 1e6:.2f} M"
    if value >= 1e4:
        return f"{value / 1e3:.0f} k"
    if value >= 1e3:
        return f"{value / 1e3:.1f} k"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def time_of(ns):
    return f"{ns / 1e6:.3g} ms" if ns >= 1e6 else f"{ns / 1e3:.3g} µs"


def speed_table(all_rows, cells):
    lines = ["| row | disk | " + " | ".join(TITLES[c] for c in COLUMNS) + " |",
             "|---|---|" + "---:|" * len(COLUMNS)]
    for row in all_rows:
        by = cells.get(row.id)
        if not by:
            continue
        texts = []
        for name in COLUMNS:
            cell = by.get(name)
            if not cell:
                texts.append("")
            else:
                value = f"{cell.mb:.0f} MB/s" if row.unit == "MB/s" else number(cell.per_second) + "/s"
                note = "<br>does not flush" if name == "tree" and row.flushes else ""
                texts.append(f"{value} ±{50 * cell.spread:.0f} %<br>{time_of(cell.p50)}, p99 {time_of(cell.p99)}{note}")
        lines.append(f"| {row.title} | {row.kind} | " + " | ".join(texts) + " |")
    return lines


def fio_cell(runs):
    values = [r["per_second"] for r in runs]
    return (f"{number(median(values))}/s ±{50 * (max(values) - min(values)) / median(values):.0f} %<br>"
            f"{time_of(median(r['p50_ns'] for r in runs))}, p99 {time_of(median(r['p99_ns'] for r in runs))}")


COSTS = ("cpu_us", "switches", "interrupts")


def cost_table(all_rows, cells, traced):
    """traced: {row id: {competitor: host calls by strace}}"""
    lines = ["| row | disk | who | host CPU, µs | switches | interrupts | host calls |", "|---|---|---|" + "---:|" * 4]
    for row in all_rows:
        by = cells.get(row.id, {})
        for name in COLUMNS:
            cell = by.get(name)
            if cell:
                texts = ["" if cell.cost(c) is None else f"{cell.cost(c):.3g}" for c in COSTS]
                texts.append(host_calls(cell, traced.get(row.id, {}).get(name)))
                lines.append(f"| {row.title} | {row.kind} | {TITLES[name]} | " + " | ".join(texts) + " |")
    return lines


def traced(data):
    """{row id: {competitor: host calls of an operation}}"""
    found = {}
    for c in data["calls"]:
        found.setdefault(c["row"], {})[c["competitor"]] = sum(c["calls"].values())
    return found


def host_calls(cell, traced):
    if traced is not None:
        return f"{traced:.3g} (strace)"
    own = cell.cost("host_calls")
    if own is not None:
        return f"{own:.3g}"
    return f"{cell.stat('submit_calls'):.3g} submissions" if cell.stat("chunks") else ""


def faults(data):
    """Runs that do not count, and why."""
    found = {}
    for run in data["runs"]:
        if run.get("fault"):
            found.setdefault((run["row"], run["competitor"]), []).append(run["fault"])
    return [f"* {row}, {TITLES[name]}, {len(why)} times: {why[0]}" for (row, name), why in found.items()]


def memory_lines(data):
    lines = ["| | host, KiB | guest, KiB |", "|---|---:|---:|"]
    for name, measured in data["memory"].items():
        host = median(m["host"] for m in measured)
        guest = [m["guest"] for m in measured if m["guest"] is not None]
        title = TITLES.get(name, name) + (" with O_DIRECT" if name == "ours-direct" else "")
        lines.append(f"| {title.replace('ours-direct', 'ours')} | {host:.0f} | {f'{median(guest):.0f}' if guest else ''} |")
    return lines


def head(data):
    lines = ["<!-- SPDX-License-Identifier: GPL-2.0-only -->", "# Benchmark", ""]
    lines += [f"* {name}: {text}" for name, text in data["machine"].items()]
    lines.append(f"* form: {'full' if data['full'] else 'quick'}, {data['turns']} turns, "
                 f"{data.get('seconds', 0):.0f} s (" +
                 ", ".join(f"{name} {seconds:.0f}" for name, seconds in data["seconds_of"].items()) + ")")
    if data["restricted"]:
        lines.append("* **only a part was run**: the rest is not measured")
    others = [r["other_cpus"] for r in data["runs"]]
    if others:
        lines.append(f"* CPUs that others used meanwhile: {median(others):.2f} in the median run, {max(others):.2f} at most"
                     " (kernel threads that write back are counted there)")
    return [*lines, ""]


def write(data, out):
    cells = table(data)
    all_rows = [row for row in rows.all_rows() if row.id in cells]
    lines = head(data)
    lines += ["## What was asked", "",
              "Each ratio is of one turn, in which the two ran one after the other; what was got is the median of the"
              " turns, with the least and the most of them. \"The host itself\" is what the host, without a guest,"
              " reaches against the same competitor: no guest can do more.", "", *asked.lines(data), ""]
    if cells:
        lines += ["## Loads in the guest's kernel", "",
                  "Median of the turns; ± is half of the span from the least to the most; below it the median latency and"
                  " the 99th percentile, in rows with a flush those of the flushes.", "", *speed_table(all_rows, cells), "",
                  "The kernel's own driver does not flush: its rows with a flush lose what a host's crash takes. With"
                  " `s` each of its writes is durable. It has no O_DIRECT: in such rows it reads with a cold cache, and"
                  " writes into the page cache.", "",
                  "## Cost of each operation", "", "CPU time on the host, context switches there, and interrupts of the"
                  " guest, for each operation, with all threads and helpers. Host calls: by strace where it says so; the"
                  " host's loop counts its own. Elsewhere our statistics know submissions to io_uring, and not the calls"
                  " of the thread that writes.", "", *cost_table(all_rows, cells, traced(data)), ""]
    if data["calls"]:
        lines += ["## Host calls of each operation", "", "By strace on all threads and helpers of each.", "",
                  *calls.table(data), ""]
    if data["fio"]:
        lines += ["## fio with io_uring in the guest", "", *programs.table(data, fio_cell), ""]
    if data["whole"]:
        lines += ["## Whole work", "", "Seconds; least and most in brackets.", "", *whole.table(data), ""]
    if data["growth"]:
        lines += ["## Growth", "", *growth.table(data)]
    if data["memory"]:
        lines += ["## Memory", "", "After all rows: anonymous memory on the host beside the guest's RAM, of all processes;"
                  " and the most that our disks had of the guest's.", "", *memory_lines(data), ""]
    made = plots.write(data, cells, out)
    if made:
        lines += ["## Plots", "", *(f"![{name}]({name}.svg)" for name in made), ""]
    wrong = faults(data)
    if wrong:
        lines += ["## Runs that do not count", "", *wrong, ""]
    if data["hangs"]:
        lines += ["## Guests that hung, and were started again", "",
                  *(f"* {TITLES.get(name, name)}: {n} times" for name, n in data["hangs"].items()), ""]
    if data["absent"]:
        lines += ["## What is missing, and why", ""]
        lines += [f"* {what}: {why}" for what, why in data["absent"].items()]
        lines.append("")
    with open(os.path.join(out, "report.md"), "w") as f:
        f.write("\n".join(lines))
