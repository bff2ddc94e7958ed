# SPDX-License-Identifier: GPL-2.0-only
#
# Plots of the results by gnuplot, each as SVG and PNG.

import os
import re
import shutil
import subprocess

import growth
import rows
from competitors import TITLES

SIZE = {"svg": "svg size 900,540 dynamic font 'sans,14' background '#ffffff'",
        "png": "pngcairo size 1350,810 font 'sans,16'"}


def gnuplot(out, name, script):
    for kind, terminal in SIZE.items():
        text = f"set terminal {terminal} noenhanced\nset output '{os.path.join(out, name)}.{kind}'\n{script}"
        done = subprocess.run(["gnuplot"], input=text, text=True, capture_output=True)
        if done.returncode:
            raise RuntimeError(f"gnuplot: {name}: {done.stderr[-400:]}")
    return name


def block(name, points):
    return f"${name} << EOD\n" + "\n".join(" ".join(f'"{v}"' if isinstance(v, str) else f"{v:g}" for v in p)
                                           for p in points) + "\nEOD\n"


def plain(title):
    return title.replace("`", "").replace("µ", "u")


def against_in_tree(cells, out):
    """How many times as fast as the kernel's own driver, with the span over the repetitions."""
    points = []
    for row in rows.all_rows():
        by = cells.get(row.id, {})
        if "ours" not in by or "tree" not in by or "flush" in row.words:
            continue
        ours, tree = by["ours"], by["tree"]
        points.append((f"{row.title}, {row.kind}", ours.per_second / tree.per_second,
                       ours.least / tree.most, ours.most / tree.least))
    if not points:
        return None
    points.reverse()
    bars = block("data", [(i, *p[1:], p[0]) for i, p in enumerate(points)])
    return gnuplot(out, "against-in-tree", bars + f"""
        set title 'Operations a second, as a multiple of the in-tree driver'
        set logscale x 2
        set xrange [0.25:*]
        set yrange [-1:{len(points)}]
        set ytics font ',9'
        set grid x
        set arrow from 1, graph 0 to 1, graph 1 nohead lw 2 lc rgb '#c04040'
        set lmargin 46
        unset key
        plot $data using 2:1:3:4:yticlabels(5) with xerrorbars pt 7 ps 0.8 lc rgb '#2060a0'""")


def latencies(data, cells, out):
    """What share of the operations took at most so long: all repetitions together."""
    made = []
    for row in rows.all_rows():
        if not re.fullmatch(r"(randread-4k-(1|32)-(warm|cold)|randwrite-4k-(1|32)|flush-1)/raw", row.id) or row.id not in cells:
            continue
        part = "flush_latency" if "flush" in row.words else "latency"
        blocks, plots = "", []
        for name, cell in cells[row.id].items():
            counts = {}
            for run in cell.runs:
                for at, n in run[part]["buckets"]:
                    counts[at] = counts.get(at, 0) + n
            total, seen, points = sum(counts.values()), 0, []
            for at in sorted(counts):
                seen += counts[at]
                points.append((max(at, 1) / 1000, 100 * seen / total))
            if points:
                key = "d" + re.sub(r"\W", "_", name)
                blocks += block(key, points)
                plots.append(f"${key} using 1:2 with steps lw 2 title '{plain(TITLES[name])}'")
        what = "flushes" if part == "flush_latency" else "operations"
        name = "latency-" + row.id.replace("/", "-")
        made.append(gnuplot(out, name, blocks + f"""
            set title '{plain(row.title)}: share of the {what} that ended within'
            set logscale x
            set xlabel 'us'
            set ylabel '%'
            set yrange [0:100]
            set key bottom right
            set grid
            plot {', '.join(plots)}"""))
    return made


def growths(data, out):
    made = []
    for plot, by in growth.series(data).items():
        blocks, plots = "", []
        for i, (name, points) in enumerate(by.items()):
            blocks += block(f"d{i}", points)
            plots.append(f"$d{i} using 1:2 with linespoints pt 7 lw 2 title '{plain(name)}'")
        x, y = growth.AXES[plot]
        made.append(gnuplot(out, "growth-" + re.sub(r"\W+", "-", plot), blocks + f"""
            set title '{plot[0].upper()}{plot[1:]}'
            set logscale xy
            set xlabel '{x}'
            set ylabel '{y}'
            set key top left
            set grid
            set yrange [{'*:*' if plot in ('request size', 'time to add a device') else '100:*'}]
            plot {', '.join(plots)}"""))
    return made


def write(data, cells, out):
    """Names of the plots that were made."""
    if not shutil.which("gnuplot"):
        data["absent"]["plots"] = "gnuplot is not installed (Debian: gnuplot-nox)"
        return []
    try:
        return [n for n in [against_in_tree(cells, out), *latencies(data, cells, out), *growths(data, out)] if n]
    except RuntimeError as e:
        data["absent"]["plots"] = str(e)
        return []
