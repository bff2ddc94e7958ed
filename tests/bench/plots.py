# SPDX-License-Identifier: GPL-2.0-only
#
# Plots of the results by gnuplot, each as SVG and PNG.

import os
import re
import shutil
import subprocess
from statistics import median

import asked
import growth
import rows
from competitors import TITLES

SIZE = {"svg": "svg size 900,{height} dynamic font 'sans,14' background '#ffffff'",
        "png": "pngcairo size 1350,{pixels} font 'sans,16'"}


# Of each competitor in each plot; growth has series of its own.
COLOURS = {"ours": "#2060a0", "tree": "#c04040", "tree-s": "#e09090", "virtio": "#d08020", "null": "#30a060",
           "null0": "#90c8a0", "host": "#404040", "host-threads": "#a0a0a0"}
SERIES = ("#2060a0", "#d08020", "#c04040", "#30a060")


def gnuplot(out, name, script, height=540, kinds=tuple(SIZE)):
    for kind in kinds:
        terminal = SIZE[kind].format(height=height, pixels=height * 3 // 2)
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


def against_in_tree(data, out):
    """How many times as fast as the kernel's own driver, with the span over the turns."""
    speed, points = asked.by_turn(data["runs"]), []
    for row in rows.all_rows():
        by = speed.get(row.id, {})
        ratios = asked.ratios(by.get("ours"), by.get("tree"))
        if ratios and not row.flushes:
            points.append((f"{row.title}, {row.kind}", median(ratios), min(ratios), max(ratios)))
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
        plot $data using 2:1:3:4:yticlabels(5) with xerrorbars pt 7 ps 0.8 lc rgb '#2060a0'""", 260 + 15 * len(points))


def overview(data, wanted, out):
    """bench.svg: some rows of the raw disk, each competitor's speed as a multiple of
    the in-tree driver's. wanted: (row id, title)"""
    speed = asked.by_turn(data["runs"])
    shown = (("ours", 7), ("virtio", 5), ("host", 9))
    blocks, lines = "", []
    wanted = [w for w in reversed(wanted) if speed.get(w[0], {}).get("tree")]
    for name, shape in shown:
        points = []
        for i, (row_id, title) in enumerate(wanted):
            found = asked.ratios(speed[row_id].get(name), speed[row_id]["tree"])
            if found:
                points.append((i, median(found), min(found), max(found)))
        if points:
            blocks += block(name, points)
            lines.append(f"${name} using 2:1:3:4 with xerrorbars pt {shape} ps 1 lw 1.5 lc rgb '{COLOURS[name]}' "
                         f"title '{plain(TITLES[name])}'")
    if not lines:
        return
    names = ", ".join(f"'{plain(title)}' {i}" for i, (_, title) in enumerate(wanted))
    gnuplot(out, "bench", blocks + f"""
        set title 'Speed as a multiple of the in-tree driver (median, least and most)'
        set logscale x 2
        set yrange [-0.7:{len(wanted) - 0.3}]
        set ytics ({names})
        set lmargin 44
        set grid x
        set key outside bottom center horizontal
        set arrow from 1, graph 0 to 1, graph 1 nohead lw 2 lc rgb '#c04040'
        plot {', '.join(lines)}""", 200 + 30 * len(wanted), ("svg",))


def latencies(data, cells, out):
    """What share of the operations took at most so long: all repetitions together."""
    made = []
    for row in rows.all_rows():
        wanted = r"(randread-4k-(1|32)-(warm|cold|direct)|randwrite-4k-(1|32)|seq.*-1024k|flush-1|flush-1-8writers)/raw|flush-1/cow"
        if not re.fullmatch(wanted, row.id) or row.id not in cells:
            continue
        blocks, plots = "", []
        for name, cell in cells[row.id].items():
            if row.flushes and name == "null":
                continue
            counts = {}
            for run in cell.runs:
                for at, n in run[cell.part]["buckets"]:
                    counts[at] = counts.get(at, 0) + n
            total, seen, points = sum(counts.values()), 0, []
            for at in sorted(counts):
                seen += counts[at]
                points.append((max(at, 1) / 1000, 100 * seen / total))
            if points:
                key = "d" + re.sub(r"\W", "_", name)
                blocks += block(key, points)
                title = plain(TITLES[name]) + (" (does not flush)" if row.flushes and name == "tree" else "")
                plots.append(f"${key} using 1:2 with steps lw 2 lc rgb '{COLOURS[name]}' title '{title}'")
        what = "flushes" if row.flushes else "operations"
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
            plots.append(f"$d{i} using 1:2 with linespoints pt 7 lw 2 lc rgb '{SERIES[i % len(SERIES)]}' "
                         f"title '{plain(name)}'")
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
    # Those of an earlier run may be of other rows.
    for name in os.listdir(out):
        if name.endswith((".svg", ".png")):
            os.unlink(os.path.join(out, name))
    try:
        return [n for n in [against_in_tree(data, out), *latencies(data, cells, out), *growths(data, out)] if n]
    except RuntimeError as e:
        data["absent"]["plots"] = str(e)
        return []
