#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
#
# The benchmark: `make bench`, and with --full `make bench FULL=1`.
#
#	run.py [--full] [--rows PATTERN] [--competitors NAME,...] [--parts a,b,...]
#	       [--repetitions N] [--ms N] [--out DIR] [--keep]
#
# Competitors take turns at each row, and that is repeated. Results go to
# results.json, report.md and plots in DIR (build/bench). Needs no root. Words may
# also come in $BENCH.

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, here)

import calls  # noqa: E402
import competitors  # noqa: E402
import growth  # noqa: E402
import machine  # noqa: E402
import programs  # noqa: E402
import report  # noqa: E402
import rows  # noqa: E402
import whole  # noqa: E402
from disks import Disks  # noqa: E402
from guests import GuestError, GuestHangs  # noqa: E402

class Progress:
    """One line that is overwritten on a terminal, a line now and then elsewhere."""

    def __init__(self):
        self.begin = self.last = time.monotonic()
        self.terminal = sys.stdout.isatty()

    def show(self, part, share, text):
        now = time.monotonic()
        seconds = now - self.begin
        line = f"bench: {part}: {100 * share:3.0f} %, {seconds:4.0f} s: {text}"
        if self.terminal:
            print("\r\033[K" + line[:shutil.get_terminal_size().columns - 1], end="", flush=True)
        elif now - self.last >= 10 or share >= 1:
            self.last = now
            print(line, flush=True)
        if share >= 1 and self.terminal:
            print()

    def say(self, text):
        print(("\r\033[K" if self.terminal else "") + "bench: " + text, flush=True)


class Bench:
    def __init__(self, options):
        top = os.path.dirname(os.path.dirname(here))
        cache = os.environ.get("UBD_CACHE") or os.path.join(
            os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "ubd")
        self.options = options
        self.top = top
        self.out = os.path.abspath(options.out)
        self.kernel = os.path.join(cache, "compare/linux")
        self.module = os.path.join(top, "build/compare/ubd.ko")
        self.load_module = os.path.join(self.out, "load/ubd_load.ko")
        self.loop = os.path.join(self.out, "loop")
        null = os.path.join(cache, "compare/drivers/block/null_blk/null_blk.ko")
        self.null_module = null if os.path.exists(null) else None
        work = os.path.join(self.out, "work")
        shutil.rmtree(work, ignore_errors=True)
        os.makedirs(work)
        self.disks = Disks(work, os.path.join(top, "build/ubd-cow"), 4 if options.full else 1)
        self.repetition = 0
        self.progress = Progress()
        self.data = {"machine": machine.describe(top, work, self.kernel), "full": options.full,
                     "repetitions": options.repetitions, "absent": {}, "runs": [], "calls": [], "fio": [], "whole": [], "growth": [], "seconds_of": {}, "hangs": {}, "memory": {}}
        self._warm = None

    def module_has(self, parameter):
        text = subprocess.run(["modinfo", "-p", self.module], capture_output=True, text=True, check=True).stdout
        return any(line.startswith(parameter + ":") for line in text.splitlines())

    def check_room(self):
        needed = self.disks.bytes_needed()
        free = shutil.disk_usage(self.disks.work).free
        if free < needed * 1.1:
            sys.exit(f"bench: {needed >> 20} MiB are needed in {self.disks.work}, {free >> 20} are free: give --out")
        for line in machine.read("/proc/meminfo").splitlines():
            if line.startswith("MemAvailable:") and int(line.split()[1]) << 10 < needed + (1 << 30):
                self.progress.say("there is little memory: rows called warm may not be")

    # --- state of the host between runs ---

    def settle(self, row, competitor):
        """The page cache as the row wants it, and nothing left to be written back."""
        d = self.disks
        paths = competitor.files() or [d.raw]
        if row.writes:
            d.sync(paths)
        if row.words["op"] == "discard" and competitor.files():
            kind = "raw" if row.kind == "raw" else "cow"
            if paths[-1].endswith(".qcow2"):
                return
            d.refill(kind, paths[0] if kind == "raw" else paths[-1], row.region)
        if row.cache == "cold":
            d.make_cold([*paths, d.base])
            self._warm = None
        elif row.cache == "warm" and row.kind + competitor.name != self._warm:
            self._make_warm(row, competitor, paths)

    def _make_warm(self, row, competitor, paths):
        d = self.disks
        d.make_warm(d.small if row.devices > 1 else [d.raw] if row.kind == "raw" else [paths[-1], d.base])

    # --- part (a) ---

    def run_loads(self):
        o = self.options
        wanted = [row for row in rows.all_rows(o.full) if re.search(o.rows, row.id)]
        names = [name for name in competitors.ALL if name in o.competitors]
        rounds = o.repetitions * len(wanted)
        done = 0
        for self.repetition in range(o.repetitions):
            there = self.start(names)
            try:
                for row in wanted:
                    self._run_row(row, there, done / rounds)
                    done += 1
                for competitor in there:
                    self.data["memory"].setdefault(competitor.name, []).append(competitors.memory(competitor))
            finally:
                for competitor in there:
                    competitor.stop()
        self.progress.show("loads", 1, "done")

    def start(self, names):
        """Those that can be here; why others cannot is noted."""
        there = []
        for name in names:
            if name in self.data["absent"]:
                continue
            competitor = competitors.ALL[name](name, self)
            try:
                competitor.start()
                there.append(competitor)
            except Exception as e:  # whatever it is, the report says so
                self.data["absent"][name] = f"{type(e).__name__}: {e}"
                self.progress.say(f"{name} cannot be measured: {e}")
            for what, why in competitor.reasons.items():
                self.data["absent"][f"{name} ({what})"] = why
        return there

    def _run_row(self, row, there, share):
        # Who is first has no advantage in the long run.
        turn = self.repetition % max(len(there), 1)
        for competitor in there[turn:] + there[:turn]:
            device = competitor.device(row)
            if device is None or competitor.absent:
                continue
            self.progress.show("loads", share, f"{row.title}, {row.kind}, {competitor.name}")
            begin = time.monotonic()
            self.settle(row, competitor)
            settled = time.monotonic()
            try:
                # Flushes vary more than anything else.
                ms = self.options.ms * (3 if "flush" in row.words else 1)
                result = competitor.measure(row, device, ms)
            except GuestError as e:
                self.data["absent"][f"{competitor.name}, {row.id}"] = str(e)[-300:]
                self.progress.say(f"{competitor.name}, {row.id}: {e}")
                if isinstance(e, GuestHangs):
                    self._start_again(competitor)
                continue
            if row.writes:
                self.disks.sync(competitor.files())
            result["settle_seconds"] = settled - begin
            result["wall_seconds"] = time.monotonic() - begin
            column = "ours" if competitor.name == "ours-direct" else competitor.name
            self.data["runs"].append({"row": row.id, "competitor": column, "repetition": self.repetition, **result})

    def _start_again(self, competitor):
        self.data["hangs"][competitor.name] = self.data["hangs"].get(competitor.name, 0) + 1
        competitor.guest.kill()
        competitor.stop()
        try:
            competitor.start()
        except Exception as e:
            self.data["absent"][competitor.name] = f"not again after it hung: {e}"

    # --- all ---

    def run(self):
        for name, text in self.data["machine"].items():
            print(f"{name + ':':<32}{text}")
        self.check_room()
        self.progress.say("making the disks")
        self.disks.no_qcow = self.disks.make()
        try:
            for name, part in PARTS.items():
                if name in self.options.parts:
                    begin = time.monotonic()
                    part(self)
                    self.data["seconds_of"][name] = time.monotonic() - begin
        finally:
            self.data["seconds"] = time.monotonic() - self.progress.begin
            with open(os.path.join(self.out, "results.json"), "w") as f:
                json.dump(self.data, f)
            if not self.options.keep:
                shutil.rmtree(self.disks.work, ignore_errors=True)
        report.write(self.data, self.out)
        print(f"bench: {self.data['seconds']:.0f} s; the report is {os.path.join(self.out, 'report.md')}")


# In the order in which they run.
PARTS = {"a": Bench.run_loads, "calls": calls.run, "b": programs.run, "c": whole.run, "growth": growth.run}


def parse():
    p = argparse.ArgumentParser(description="Measures ubd beside others.")
    p.add_argument("--full", action="store_true", help="the long form")
    p.add_argument("--rows", default="", help="only rows whose name/kind matches")
    p.add_argument("--competitors", default=",".join(competitors.ALL), type=lambda s: s,
                   help="of " + ",".join(competitors.ALL))
    p.add_argument("--parts", default=",".join(PARTS))
    p.add_argument("--repetitions", type=int)
    p.add_argument("--ms", type=int, help="milliseconds of each run")
    p.add_argument("--out", default=os.path.join(os.path.dirname(os.path.dirname(here)), "build/bench"))
    p.add_argument("--keep", action="store_true", help="keep disks and logs of guests")
    o = p.parse_args(sys.argv[1:] + shlex.split(os.environ.get("BENCH", "")))
    o.competitors = o.competitors.split(",")
    o.parts = o.parts.split(",")
    o.repetitions = o.repetitions or (7 if o.full else 3)
    o.ms = o.ms or (1500 if o.full else 250)
    for name in o.competitors:
        if name not in competitors.ALL:
            p.error(f"no competitor {name}")
    return o


if __name__ == "__main__":
    # So that guests are ended, and disks removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    Bench(parse()).run()
