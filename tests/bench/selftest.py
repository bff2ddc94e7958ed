#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
#
# Looks at the benchmark itself, without any guest: what a report says of results
# that are made up, and that each thing that was asked is asked of a row that there
# is. Part of `make bench-check`.

import json
import os
import sys
import tempfile
import unittest

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, here)

import asked  # noqa: E402
import rows  # noqa: E402
from competitors import summary  # noqa: E402
from disks import Disks, within  # noqa: E402
from run import fault  # noqa: E402

EMPTY = {"runs": [], "fio": [], "whole": [], "growth": []}


def runs(row, who, speeds, **more):
    return [{"row": row, "competitor": who, "turn": turn, "per_second": speed, "fault": None, **more}
            for turn, speed in enumerate(speeds)]


def verdict(data, what, row_kind, against):
    found = [v for v in asked.all_of({**EMPTY, **data})
             if v.what == what and v.kind == row_kind and v.against == against]
    assert len(found) == 1, found
    return found[0]


class Asked(unittest.TestCase):
    def of(self, ours, tree):
        row = "randread-4k-1-warm/raw"
        return verdict({"runs": runs(row, "ours", ours) + runs(row, "tree", tree)}, "warm-1", "raw", "in-tree")

    def test_ratio_is_that_of_each_turn(self):
        # The medians' ratio would be 2; that of the turns is 3.
        v = self.of([300, 400, 2000], [100, 200, 400])
        self.assertEqual(v.got, 3)
        self.assertEqual(v.state, asked.MET)

    def test_missed(self):
        self.assertEqual(self.of([249, 249, 249], [100, 100, 100]).state, asked.MISSED)
        self.assertEqual(self.of([250, 250, 250], [100, 100, 100]).state, asked.MET)

    def test_who_was_not_measured_has_met_nothing(self):
        for v in asked.all_of(EMPTY):
            self.assertEqual(v.state, asked.ABSENT)
        self.assertEqual(self.of([300], []).state, asked.ABSENT)
        self.assertIn("not measured", "\n".join(asked.lines(EMPTY)))

    def test_runs_with_a_fault_do_not_count(self):
        row = "randread-4k-1-warm/raw"
        data = runs(row, "ours", [900]) + runs(row, "tree", [100])
        data[0]["fault"] = "read the wrong blocks"
        self.assertEqual(verdict({"runs": data}, "warm-1", "raw", "in-tree").state, asked.ABSENT)

    def test_turns_that_only_one_has_are_left_out(self):
        row = "randread-4k-1-warm/raw"
        data = runs(row, "ours", [1, 300]) + runs(row, "tree", [500, 100])[1:]
        self.assertEqual(verdict({"runs": data}, "warm-1", "raw", "in-tree").ratios, [3])

    def test_at_most(self):
        for unsafe, state in ((1.03, asked.MET), (1.04, asked.MISSED)):
            data = [{"title": "git clone", "competitor": who, "turn": 0, "seconds": s}
                    for who, s in (("ours-unsafe", unsafe), ("tree", 1.0), ("ours", 9.0))]
            found = [v for v in asked.all_of({**EMPTY, "whole": data})
                     if v.row == "git clone: seconds, `unsafe`"]
            self.assertEqual([v.state for v in found], [state])

    def test_fio_has_the_lower_goal(self):
        def fio(who, speed):
            return {"title": "random read 4 KiB, depth 32", "kind": "raw", "competitor": who, "turn": 0,
                    "per_second": speed}
        for null, host, ours, state in ((100, 900, 90, asked.MET), (100, 900, 89, asked.MISSED),
                                        (900, 100, 85, asked.MET), (900, 100, 84, asked.MISSED),
                                        (None, 100, 999, asked.ABSENT)):
            data = [fio(who, s) for who, s in (("ours", ours), ("null", null), ("host", host)) if s]
            found = [v for v in asked.all_of({**EMPTY, "fio": data})
                     if v.what == "fio" and v.row.endswith("read 4 KiB, depth 32") and v.kind == "raw"
                     and v.asked is not None]
            self.assertEqual([v.state for v in found], [state])

    def test_growth(self):
        def size(x, y):
            return {"plot": "device size", "series": "ours, raw", "x": x, "y": min(y), "rounds": y}
        for last, state in ([105, 210], asked.MET), ([106, 212], asked.MISSED):
            data = [size(1, [100, 200]), size(1024, last)]
            found = [v for v in asked.all_of({**EMPTY, "growth": data}) if v.what == "size" and v.kind == "raw"]
            self.assertEqual([v.state for v in found], [state])
        for exponent, state in (1, asked.MET), (1.1, asked.MISSED):
            data = [{"plot": "request size", "series": "ours, read", "x": x, "y": x ** exponent, "rounds": []}
                    for x in (1, 10, 100)]
            found = [v for v in asked.all_of({**EMPTY, "growth": data}) if v.row.startswith("request size")]
            self.assertEqual([v.state for v in found], [state])


class SideBySide(unittest.TestCase):
    @staticmethod
    def load(begin, ns, count):
        part = {"count": count, "p50_ns": 1, "p99_ns": 1, "p999_ns": 1, "max_ns": 1, "buckets": [[1, count]]}
        return "result " + json.dumps({"begin_ns": begin, "ns": ns, "bytes": 0, "error": 0, "wrong": 0,
                                       "ops": part, "flushes": {**part, "count": 0, "buckets": []}})

    def per_second(self, *loads):
        return summary("\n".join(self.load(*l) for l in loads), {"cpu_ns": 0}, 0)["per_second"]

    def test_rate_of_several_loads(self):
        second = 10 ** 9
        self.assertEqual(self.per_second((5, second, 100)), 100)
        self.assertEqual(self.per_second((5, second, 100), (5, second, 100)), 200)
        # One after the other: no faster than one.
        self.assertEqual(self.per_second((0, second, 100), (second, second, 100)), 100)
        self.assertEqual(self.per_second((second, second, 100), (0, second, 100)), 100)
        self.assertEqual(self.per_second((0, 4 * second, 100), (second, second, 100)), 50)


class Rows(unittest.TestCase):
    def test_each_is_there_for_each_kind(self):
        for group in rows.by_name(rows.all_rows()):
            self.assertEqual({row.kind for row in group}, set(rows.KINDS), group[0].name)

    def test_demands_are_of_rows_that_there_are(self):
        ids = {row.id for row in rows.all_rows()}
        self.assertEqual(len(ids), len(rows.all_rows()))
        for demand in rows.demands():
            self.assertIn(demand.other_row, ids)
            self.assertIn(demand.what, rows.LINES)

    def test_the_host_is_measured_where_it_is_the_goal(self):
        by_id = {row.id: row for row in rows.all_rows()}
        for demand in rows.demands():
            if demand.against == "host":
                self.assertTrue(by_id[demand.other_row].host, demand.other_row)
            if demand.against == "host-threads":
                self.assertTrue(by_id[demand.other_row].threads_matter, demand.other_row)

    def test_no_row_is_left_out(self):
        """Each line of the list, counted: rows by kinds."""
        n = {}
        for demand in rows.demands():
            if demand.asked is not None:
                key = demand.what, demand.asked
                n[key] = n.get(key, 0) + 1
        without_flush = sum(n.get((what, of), 0) for what, of in (
            ("in-tree", 1.0), ("warm-1", 2.5), ("warm-32", 1.3), ("buffered-write", 1.0), ("sequential-tree", 1.0)))
        self.assertEqual(without_flush, sum(not row.flushes for row in rows.all_rows()))
        self.assertEqual(n["cow", 0.95], len(rows.all_rows()) // 3)
        self.assertEqual(n["warm-1", 2.5], 3)
        self.assertEqual(n["warm-32", 1.3], 3)
        self.assertEqual(n["buffered-write", 1.0], 6)
        self.assertEqual(n["disk-read", 0.85], 6)
        self.assertEqual(n["disk-write", 0.85], 3)
        self.assertEqual(n["sequential-tree", 1.0], 12)
        self.assertEqual(n["sequential-host", 0.9], 12)
        self.assertEqual(n["flush", 0.8], 2)
        self.assertEqual(n["first-touch", 0.8], 1)
        self.assertEqual(n["writers", 3.0], 3)
        self.assertEqual(n["virtio-warm", 2.0] + n["virtio-disk", 1.0], len(rows.all_rows()))


class Faults(unittest.TestCase):
    """What makes a run not count."""

    def of(self, row_id, **result):
        row = next(row for row in rows.all_rows() if row.id == row_id)
        return fault(row, {"wrong": 0, "cached": None, "written": None, "count": 1000, **result})

    def test_read(self):
        self.assertIsNone(self.of("randread-4k-1-warm/raw", cached=1.0))
        self.assertIn("not what is there", self.of("randread-4k-1-warm/raw", cached=1.0, wrong=1))
        self.assertIn("page cache", self.of("randread-4k-1-warm/raw", cached=0.9))
        self.assertIsNone(self.of("randread-4k-1-cold/raw", cached=0.0))
        self.assertIn("page cache", self.of("randread-4k-1-cold/raw", cached=0.1))

    def test_written(self):
        self.assertIsNone(self.of("randwrite-4k-1/cow", written=(1000, 4096)))
        self.assertIn("were written", self.of("randwrite-4k-1/cow", written=(900, 4096)))
        # Of 1000 random writes some hit the same block.
        self.assertIsNone(self.of("randwrite-4k-1/raw", written=(890, 4096)))
        self.assertIn("were written", self.of("randwrite-4k-1/raw", written=(800, 4096)))


class Files(unittest.TestCase):
    def test_stamps_and_tags(self):
        with tempfile.TemporaryDirectory() as work:
            disks = Disks(work, None, 1)
            path = disks.path("a.img")
            disks.fill(path, 0, 1 << 20)
            disks.fill(path, 64 << 10, 8 << 10, tag=7)
            self.assertEqual(disks.tagged(path, 0, 1 << 20, 7), 2)
            self.assertEqual(disks.tagged(path, 68 << 10, 64 << 10, 7), 1)
            with open(path, "rb") as f:
                f.seek(68 << 10)
                self.assertEqual(int.from_bytes(f.read(8), "little"), 68 << 10 | 7 << 56)

    def test_half_is_half(self):
        disks = Disks("/", None, 1)
        offset, length = disks.regions.at["half"]
        inside = sum(n for _, n in within(disks.regions.in_cow(), offset, length))
        self.assertAlmostEqual(inside / length, 0.5, delta=0.05)
        whole = sum(n for _, n in disks.regions.in_cow()) + sum(n for _, n in disks.regions.not_in_cow())
        self.assertEqual(whole, disks.regions.size)


if __name__ == "__main__":
    unittest.main()
