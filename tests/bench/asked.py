# SPDX-License-Identifier: GPL-2.0-only
#
# What was asked, and what came of it: for each demand a verdict. A ratio is that
# of each turn, in which the two were measured beside each other; what counts is
# the median of the turns. Who was not measured has no verdict.

import math
from dataclasses import dataclass
from statistics import median

import growth
import programs
import rows
import whole
from competitors import TITLES

MET, MISSED, SHOWN, ABSENT = "met", "missed", "shown", "not measured"


@dataclass
class Verdict:
    # Key of rows.LINES.
    what: str
    row: str
    kind: str
    against: str
    asked: float
    # What each turn gave; empty when it was not measured.
    ratios: list
    at_most: bool = False
    # What the host itself reaches in the same comparison: the limit.
    limit: float = None
    note: str = ""

    @property
    def got(self):
        return median(self.ratios) if self.ratios else None

    @property
    def state(self):
        if not self.ratios:
            return ABSENT
        if self.asked is None:
            return SHOWN
        met = self.got <= self.asked if self.at_most else self.got >= self.asked
        return MET if met else MISSED

    @property
    def distance(self):
        """From what was asked: the least is the worst."""
        if not self.ratios or self.asked is None:
            return math.inf
        return self.asked / self.got if self.at_most else self.got / self.asked


def by_turn(runs):
    """{row id: {competitor: {turn: operations a second}}}, of the runs that count"""
    found = {}
    for run in runs:
        if not run.get("fault"):
            found.setdefault(run["row"], {}).setdefault(run["competitor"], {})[run["turn"]] = run["per_second"]
    return found


def ratios(mine, theirs):
    """Of the turns that both have."""
    if not mine or not theirs:
        return []
    return [mine[turn] / theirs[turn] for turn in sorted(mine) if turn in theirs]


def of_loads(data):
    speed = by_turn(data["runs"])
    for demand in rows.demands():
        mine = speed.get(demand.row.id, {}).get("ours")
        theirs = speed.get(demand.other_row, {}).get(demand.against)
        host = speed.get(demand.row.id, {}).get("host") or speed.get(f"{demand.row.name}/raw", {}).get("host")
        against = TITLES[demand.against]
        if demand.other:
            name, kind = demand.other.split("/")
            against += f", {kind}" if name == demand.row.name else f", {name}, {kind}"
        limit = ratios(host, theirs) if demand.against in ("tree", "tree-s", "virtio") else []
        notes = []
        if demand.row.cache == "direct" and demand.against.startswith("tree"):
            notes.append("in-tree has no O_DIRECT: " + (
                "read with a cold cache" if not demand.row.writes else
                "each write durable" if demand.against == "tree-s" else "it writes into the page cache"))
        yield Verdict(demand.what, demand.row.title, demand.row.kind, against, demand.asked, ratios(mine, theirs),
                      limit=median(limit) if limit else None, note="; ".join(notes))


def all_of(data):
    """Each verdict, in the order of the lines that were asked."""
    found = [*of_loads(data), *programs.verdicts(data, Verdict), *whole.verdicts(data, Verdict),
             *growth.verdicts(data, Verdict)]
    order = list(rows.LINES)
    return sorted(found, key=lambda v: order.index(v.what))


def fixed(value):
    return "" if value is None else f"{value:.2f}"


def lines(data):
    """Of the report: one table."""
    verdicts = all_of(data)
    out = [count(verdicts), "",
           "| row | disk | against | asked | got | least to most | the host itself | |",
           "|---|---|---|---:|---:|---:|---:|---|"]
    for what, title in rows.LINES.items():
        mine = [v for v in verdicts if v.what == what]
        out.append(head(title, mine))
        out += [line(v) for v in mine]
    return out


def count(verdicts):
    n = {state: sum(1 for v in verdicts if v.state == state and (v.asked is not None or state == SHOWN))
         for state in (MET, MISSED, ABSENT)}
    return f"{n[MET]} met, {n[MISSED]} missed, {n[ABSENT]} not measured."


def head(title, verdicts):
    asked = [v for v in verdicts if v.asked is not None]
    met = sum(v.state == MET for v in asked)
    worst = min(asked, key=lambda v: v.distance, default=None)
    least = f"{'most' if worst.at_most else 'least'} {worst.got:.2f}" if worst and worst.ratios else ""
    absent = sum(v.state == ABSENT for v in asked)
    text = f"{met} of {len(asked)}" + (f", {absent} not measured" if absent else "")
    goals = sorted({v.asked for v in asked})
    return (f"| **{title}** | | | **{' or '.join(f'{g:g}' for g in goals)}** | **{least}** | | | "
            f"**{text if asked else ABSENT}** |")


def line(v):
    spread = f"{min(v.ratios):.2f} to {max(v.ratios):.2f}" if v.ratios else ""
    asked = "" if v.asked is None else f"{'≤ ' if v.at_most else ''}{v.asked:g}"
    mark = {MET: "met", MISSED: "**missed**", SHOWN: "(not asked)", ABSENT: ABSENT}[v.state]
    note = f": {v.note}" if v.note else ""
    return (f"| {v.row} | {v.kind} | {v.against} | {asked} | {fixed(v.got)} | {spread} | {fixed(v.limit)} | "
            f"{mark}{note} |")
