# SPDX-License-Identifier: GPL-2.0-only
#
# What results.json says, as report.md. Figures are medians over repetitions;
# the spread is (most - least) / median. A ratio is that of the medians of the
# same run of the benchmark.

import os
from statistics import median

import calls
import growth
import plots
import programs
import rows
import whole
from competitors import TITLES

COLUMNS = ("ours", "tree", "tree-s", "virtio", "null", "null0", "host")


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
        part = "flush_latency" if runs[0]["flush_latency"]["count"] else "latency"
        self.p50 = median(r[part]["p50_ns"] for r in runs)
        self.p99 = median(r[part]["p99_ns"] for r in runs)
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


def verdicts(row, cells):
    """(against whom, asked, is or None, that of the best repetitions) for each thing asked of a row."""
    mine = cells.get(row.id, {}).get("ours")
    for ask in row.asks:
        other = ask[0] if len(ask) == 2 else f"{ask[0]}, {ask[2]}/{ask[3]}"
        theirs = cells.get(row.id if len(ask) == 2 else f"{ask[2]}/{ask[3]}", {}).get(ask[0])
        if len(ask) == 4 and ask[0] != "ours":
            other = TITLES.get(ask[0], ask[0]) + f", {ask[3]}"
        elif len(ask) == 4:
            other = f"ours, {ask[3]}" if ask[2] == row.name else f"ours, {ask[2]}/{ask[3]}"
        else:
            other = TITLES.get(ask[0], ask[0])
        if not mine or not theirs:
            yield other, ask[1], None, None
        else:
            yield other, ask[1], mine.per_second / theirs.per_second, mine.most / theirs.most


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
                texts.append(f"{value} ±{50 * cell.spread:.0f} %<br>{time_of(cell.p50)}, p99 {time_of(cell.p99)}")
        lines.append(f"| {row.title} | {row.kind} | " + " | ".join(texts) + " |")
    return lines


def fio_cell(runs):
    values = [r["per_second"] for r in runs]
    return (f"{number(median(values))}/s ±{50 * (max(values) - min(values)) / median(values):.0f} %<br>"
            f"{time_of(median(r['p50_ns'] for r in runs))}, p99 {time_of(median(r['p99_ns'] for r in runs))}")


def cost_table(all_rows, cells):
    lines = ["| row | disk | who | host CPU, µs | switches | interrupts | host calls |", "|---|---|---|" + "---:|" * 4]
    for row in all_rows:
        by = cells.get(row.id, {})
        for name in COLUMNS:
            cell = by.get(name)
            if not cell:
                continue
            calls = f"{host_calls(cell):.3g}" if cell.stat("chunks") else ""
            lines.append(f"| {row.title} | {row.kind} | {TITLES[name]} | " + " | ".join(
                "" if cell.cost(c) is None else f"{cell.cost(c):.3g}" for c in ("cpu_us", "switches", "interrupts")) +
                f" | {calls} |")
    return lines


def host_calls(cell):
    """Ours, by its own count: each submission is one call."""
    return cell.stat("submit_calls")


def asked_table(all_rows, cells):
    lines = ["| row | disk | against | asked | is | of the best | |", "|---|---|---|---:|---:|---:|---|"]
    reached = missed = absent = 0
    for row in all_rows:
        if row.id not in cells:
            continue
        for other, asked, ratio, best in verdicts(row, cells):
            if ratio is None:
                absent += 1
                texts, mark = " | ", "not measured"
            elif ratio >= asked:
                reached += 1
                texts, mark = f"{ratio:.2f} | {best:.2f}", "yes"
            else:
                missed += 1
                texts, mark = f"{ratio:.2f} | {best:.2f}", "**no**"
            lines.append(f"| {row.title} | {row.kind} | {other} | {asked} | {texts} | {mark} |")
    return [f"{reached} reached, {missed} missed, {absent} not measured. \"Is\" compares the medians, \"of the best\" the "
            "fastest repetition of each: where other programs take CPUs that one is nearer to the truth.", ""] + lines


def write(data, out):
    cells = table(data)
    all_rows = rows.all_rows()
    all_rows = [row for row in all_rows if row.id in cells or data["full"]]
    lines = ["<!-- SPDX-License-Identifier: GPL-2.0-only -->", "# Benchmark", ""]
    lines += [f"* {name}: {text}" for name, text in data["machine"].items()]
    lines += [f"* form: {'full' if data['full'] else 'quick'}, {data['repetitions']} repetitions,"
              f" {data.get('seconds', 0):.0f} s (" +
              ", ".join(f"{name} {seconds:.0f}" for name, seconds in data["seconds_of"].items()) + ")"]
    others = [r["other_cpus"] for r in data["runs"]]
    if others:
        lines.append(f"* CPUs that others used meanwhile: {median(others):.2f} in the median run, {max(others):.2f} at most"
                     " (kernel threads that write back are counted there)")
    lines += ["", "Median of the repetitions; ± is half of the span from the least to the most; below it the median"
              " latency and the 99th percentile, in rows with a flush those of the flushes.", ""]
    if cells:
        lines += ["## Loads in the guest's kernel", "", *speed_table(all_rows, cells), "",
                  "The kernel's own driver does not flush: its rows with a flush lose what a host's crash takes. With"
                  " `s` each of its writes is durable.", "",
                  "## What was asked", "", *asked_table(all_rows, cells), "",
                  "## Cost of each operation", "", "Host CPU time, context switches and interrupts of the guest, for"
                  " each operation, with all threads and helpers; host calls as our statistics count them.", "",
                  *cost_table(all_rows, cells), ""]
    if data["calls"]:
        lines += ["## Host calls of each operation", "", "By strace on all threads and helpers of each.", "",
                  *calls.table(data), ""]
    if data["fio"]:
        lines += ["## fio with io_uring in the guest", "", *programs.table(data, median, fio_cell), ""]
    if data["whole"]:
        lines += ["## Whole work", "", "Seconds; least and most in brackets.", "", *whole.table(data), ""]
    if data["growth"]:
        lines += ["## Growth", "", *growth.table(data)]
    if data["memory"]:
        lines += ["## Memory", "", "Anonymous memory on the host beside the guest's RAM, KiB, after all rows:", ""]
        lines += [f"* {TITLES.get(n, n)}: {median(m):.0f}" for n, m in data["memory"].items() if m and m[0] is not None]
        lines.append("")
    made = plots.write(data, cells, out)
    if made:
        lines += ["## Plots", "", *(f"![{name}]({name}.svg)" for name in made), ""]
    if data["hangs"]:
        lines += ["## Guests that hung, and were started again", "",
                  *(f"* {TITLES.get(name, name)}: {n} times" for name, n in data["hangs"].items()), ""]
    if data["absent"]:
        lines += ["## What is missing, and why", ""]
        lines += [f"* {what}: {why}" for what, why in data["absent"].items()]
        lines.append("")
    with open(os.path.join(out, "report.md"), "w") as f:
        f.write("\n".join(lines))
