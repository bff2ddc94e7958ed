#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
#
# The benchmark: `make bench`, and with --full `make bench FULL=1`.
#
#	run.py [--full] [--rows PATTERN] [--competitors NAME,...] [--parts a,b,...]
#	       [--repetitions N] [--turns N] [--seconds N] [--ms N] [--out DIR] [--keep]
#
# Competitors take turns at each row; after some turns guests are booted anew, with
# COW files that are as new: a repetition. Results go to results.json, report.md and plots in DIR
# (build/bench). Needs no root. Words may also come in $BENCH.

import argparse
import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import traceback

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
        self.load_module = os.path.join(top, "build/bench/load/ubd_load.ko")
        self.loop = os.path.join(top, "build/bench/loop")
        null = os.path.join(cache, "compare/drivers/block/null_blk/null_blk.ko")
        self.null_module = null if os.path.exists(null) else None
        work = os.path.join(self.out, "work")
        shutil.rmtree(work, ignore_errors=True)
        os.makedirs(work)
        self.disks = Disks(work, os.path.join(top, "build/ubd-cow"), 2 if options.full else 1)
        # Of all repetitions: whose results are compared with each other.
        self.turn = 0
        self.tag = 0
        self.progress = Progress()
        self.data = {"machine": machine.describe(top, work, self.kernel), "full": options.full,
                     "turns": 0,
                     "restricted": bool(options.rows) or set(options.parts) != set(PARTS),
                     "date": time.strftime("%Y-%m-%d"), "absent": {}, "runs": [], "calls": [], "fio": [],
                     "whole": [], "growth": [], "seconds_of": {}, "seconds_spent": {}, "hangs": {}, "memory": {}}
        # Ranges of files that the page cache should have, and in which folios.
        self._folios = {}

    def module_has(self, parameter):
        text = subprocess.run(["modinfo", "-p", self.module], capture_output=True, text=True, check=True).stdout
        return any(line.startswith(parameter + ":") for line in text.splitlines())

    def next_tag(self):
        """For what the next load writes; 254 and 255 are of the disks as they were made."""
        self.tag = self.tag % 253 + 1
        return self.tag

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
        """The page cache as the row wants it, and nothing left to be written back.
        Gives back the share of the row's data that is in the page cache."""
        d = self.disks
        files, ranges = competitor.files(row), competitor.ranges(row)
        if not files:
            return None
        if row.writes:
            d.sync(files[:1])
        if row.op == "discard" and row.kind == "raw":
            # All have this file; COW files are their own, and as new in each repetition.
            d.refill(files[0], row.region)
        wanted = row.folios
        if wanted == "none":
            d.make_cold(ranges)
            gone = {path for path, _, _ in ranges}
            self._folios = {r: state for r, state in self._folios.items() if r[0] not in gone}
        else:
            self._make_warm(row, files[0], ranges, wanted)
        share = d.cached(ranges)
        if wanted != "none" and share < 0.999:
            # It did not stay there.
            for r in ranges:
                self._folios.pop(r, None)
            self._make_warm(row, files[0], ranges, wanted)
            share = d.cached(ranges)
        return share

    def _make_warm(self, row, written, ranges, wanted):
        d = self.disks
        if wanted == "small" and any(self._folios.get(r) != "small" for r in ranges if r[0] == written):
            d.make_small(written, d.own_ranges(written, row.region))
            self._folios.update({r: "small" for r in ranges if r[0] == written})
        # What is not written may be as it is, if it is there.
        missing = [r for r in ranges if self._folios.get(r) not in (("large",) if wanted == "large" else ("large", "small"))]
        if missing:
            d.make_large(missing)
            self._folios.update({r: "large" for r in missing})

    # --- part (a) ---

    def run_loads(self):
        """In the quick form it comes last and takes the time that is left."""
        o = self.options
        groups = rows.by_name(row for row in rows.all_rows() if re.search(o.rows, row.id))
        names = [name for name in competitors.ALL if name in o.competitors]
        most = o.repetitions * o.turns
        done, begin = 0, time.monotonic()
        while groups and done < most and not self._late(done, begin):
            there = self.start(names)
            try:
                for _ in range(o.turns):
                    if done and self._late(done, begin):
                        break
                    self._run_turn(groups, there, done, most)
                    done += 1
                for competitor in there:
                    memory = competitors.memory(competitor)
                    if memory:
                        self.data["memory"].setdefault(competitor.name, []).append(memory)
            finally:
                for competitor in there:
                    competitor.stop()
        self.data["turns"] = done
        self.progress.show("loads", 1, "done")

    def _late(self, done, begin):
        """Another turn would take longer than there is time."""
        if not self.options.seconds or done < LEAST_TURNS:
            return False
        now = time.monotonic()
        return now - self.progress.begin + (now - begin) / done > self.options.seconds

    def _run_turn(self, groups, there, done, most):
        total = sum(len(group) * group[0].again for group in groups)
        at = 0
        for group in groups:
            for again in range(group[0].again):
                self.turn = done * group[0].again + again
                for row in group:
                    at += 1
                    self._run_row(row, there, (done + at / total) / most)

    def start(self, names, instead=None):
        """Those that can be here; why others cannot is noted. instead: other classes than
        the usual ones, by name."""
        self.there = there = []
        for name in names:
            if name in self.data["absent"]:
                continue
            competitor = (instead or {}).get(name, competitors.ALL[name])(name, self)
            try:
                competitor.start()
                there.append(competitor)
            except Exception as e:  # whatever it is, the report says so
                self.data["absent"][name] = f"{type(e).__name__}: {e}"
                self.progress.say(f"{name} cannot be measured: {e}")
        return there

    def _run_row(self, row, there, share):
        # Who is first has no advantage in the long run.
        turn = self.turn % max(len(there), 1)
        for competitor in there[turn:] + there[:turn]:
            device = competitor.device(row)
            if device is None or competitor.absent:
                continue
            self.progress.show("loads", share, f"{row.title}, {row.kind}, {competitor.name}")
            begin = time.monotonic()
            cached = self.settle(row, competitor)
            settled = time.monotonic()
            # The kernel's own driver does not flush: its rows of flushes are quick.
            slow = 1 if competitor.name == "tree" and row.flushes else row.slow
            try:
                result = competitor.measure(row, device, self.options.ms * slow)
            except GuestError as e:
                self.data["absent"][f"{competitor.name}, {row.id}"] = str(e)[-300:]
                self.progress.say(f"{competitor.name}, {row.id}: {e}")
                if isinstance(e, GuestHangs):
                    self._start_again(competitor)
                continue
            measured = time.monotonic()
            if row.writes:
                self.disks.sync(competitor.files(row)[:1])
            end = time.monotonic()
            self._spent(competitor.name, settled - begin, measured - settled, end - measured)
            result["cached"] = cached
            result["fault"] = fault(row, result)
            column = "ours" if competitor.name == "ours-direct" else competitor.name
            self.data["runs"].append({"row": row.id, "competitor": column, "turn": self.turn, **result})

    def _spent(self, name, *seconds):
        """Where the time goes: settling, measuring, syncing."""
        spent = self.data["seconds_spent"].setdefault(name, [0, 0, 0])
        for i, n in enumerate(seconds):
            spent[i] += n

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
        try:
            if {"a", "b", "calls"} & set(self.options.parts):
                self.progress.say("making the disks")
                self.disks.make()
            for name, part in PARTS.items():
                if name in self.options.parts:
                    self._run_part(name, part)
        finally:
            # Also of what there is when it is interrupted.
            self.data["seconds"] = time.monotonic() - self.progress.begin
            with open(os.path.join(self.out, "results.json"), "w") as f:
                json.dump(self.data, f)
            if not self.options.keep:
                shutil.rmtree(self.disks.work, ignore_errors=True)
            report.write(self.data, self.out)
            print(f"bench: {self.data['seconds']:.0f} s; the report is {os.path.join(self.out, 'report.md')}")

    def _run_part(self, name, part):
        begin = time.monotonic()
        try:
            part(self)
        except Exception as e:  # the others are measured all the same
            traceback.print_exc()
            self.data["absent"][f"part {name}"] = f"{type(e).__name__}: {e}"
        except BaseException:
            self.data["restricted"] = True
            raise
        finally:
            self.data["seconds_of"][name] = time.monotonic() - begin


def fault(row, result):
    """Why a run does not count, or None: it read or wrote other things than it should
    have, or the page cache was not as the row says."""
    if result["wrong"]:
        return f"{result['wrong']} of what it read was not what is there"
    if result["cached"] is not None and row.op != "discard":
        if row.cache == "warm" and not row.writes and result["cached"] < 0.99:
            return f"only {100 * result['cached']:.0f} % of its data was in the page cache"
        if row.cache != "warm" and result["cached"] > 0.01:
            return f"{100 * result['cached']:.0f} % of its data was in the page cache"
    if result["written"]:
        found, blocks = result["written"]
        n = result["count"] * row.words["bs"] / 4096
        each_once = row.words["order"] != "random"
        expected = min(n, blocks) if each_once else blocks * (1 - math.exp(-n / blocks))
        if found < 0.97 * expected - 4:
            return f"{found} blocks were written, and not {expected:.0f}"
    return None


# In the order in which they run.
PARTS = {"c": whole.run, "growth": growth.run, "calls": calls.run, "b": programs.run, "a": Bench.run_loads}
# Of part (a), however long they take.
LEAST_TURNS = 3


def parse():
    p = argparse.ArgumentParser(description="Measures ubd beside others.")
    p.add_argument("--full", action="store_true", help="the long form")
    p.add_argument("--rows", default="", help="only rows whose name/kind matches")
    p.add_argument("--competitors", default=",".join(competitors.ALL), type=lambda s: s,
                   help="of " + ",".join(competitors.ALL))
    p.add_argument("--parts", default=",".join(PARTS))
    p.add_argument("--repetitions", type=int)
    p.add_argument("--turns", type=int, help="runs of each row in a repetition")
    p.add_argument("--seconds", type=int, help="part (a) begins no further turn when it would take longer than that")
    p.add_argument("--ms", type=int, help="milliseconds of a run; those of slow rows are longer")
    p.add_argument("--out", default=os.path.join(os.path.dirname(os.path.dirname(here)), "build/bench"))
    p.add_argument("--keep", action="store_true", help="keep disks and logs of guests")
    o = p.parse_args(sys.argv[1:] + shlex.split(os.environ.get("BENCH", "")))
    o.competitors = o.competitors.split(",")
    o.parts = o.parts.split(",")
    # A limit is for who does not say how often.
    o.seconds = o.seconds or (None if o.full or o.repetitions or o.turns else 540)
    o.repetitions = o.repetitions or 4
    o.turns = o.turns or (3 if o.full else 2)
    o.ms = o.ms or (500 if o.full else 60)
    for name in o.competitors:
        if name not in competitors.ALL:
            p.error(f"no competitor {name}")
    return o


if __name__ == "__main__":
    # Where modinfo is, which an ordinary user's PATH may not have.
    os.environ["PATH"] = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    # So that guests are ended, and disks removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    Bench(parse()).run()
