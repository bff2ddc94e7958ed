# SPDX-License-Identifier: GPL-2.0-only
#
# What is measured: the loads of the guest's kernel, one row for each and each
# kind of disk; and what is asked of each (demands()).
#
# Kinds of disk:
#	raw	a plain file
#	cow	a COW file, of which the region has half the sectors, in runs; for
#		writes: each block is written once, so half of them is new. Where
#		a row flushes, all of it is new
#	full	the same COW file, in a region of which it has each sector; to be
#		compared with raw

from dataclasses import dataclass, field

KINDS = ("raw", "cow", "full")


@dataclass
class Row:
    name: str
    title: str
    # Words for load/ and host/ alike.
    words: dict
    kind: str
    region: str
    # warm, cold or direct: the host's page cache, or O_DIRECT
    cache: str = "warm"
    # How long it runs, as a multiple of the others, and how often in a turn: a disk's
    # fdatasync sometimes takes a hundred times as long, and hits few of many short runs.
    slow: int = 1
    again: int = 1
    # Ends when each block was touched once, if not before.
    one_pass: bool = False
    # The host's ways to do the same with one thread: words beside the row's own.
    host: list = field(default_factory=list)
    devices: int = 1

    @property
    def id(self):
        return f"{self.name}/{self.kind}"

    @property
    def op(self):
        return self.words["op"]

    @property
    def writes(self):
        return self.op != "read"

    @property
    def first_touch(self):
        """Writes what a COW file does not have: once for each copy of the file."""
        return self.op == "write" and self.kind == "cow"

    @property
    def turns_have_parts(self):
        """The turns of a repetition share the region, since it is as new but once."""
        return self.first_touch or self.op == "discard"

    @property
    def flushes(self):
        return "flush" in self.words

    @property
    def durable_beside(self):
        """The kernel's own driver does it in its `s` mode, too. (Large requests take
        that seconds each: it writes 4 KiB at a time, and syncs each.)"""
        return self.flushes or (self.op == "write" and self.cache == "direct" and self.words["order"] != "seq")

    @property
    def in_flight(self):
        return self.words["depth"] * self.words.get("threads", 1)

    @property
    def threads_matter(self):
        """The host may do it faster with a thread for each operation in flight."""
        return (bool(self.host) and self.in_flight > 1 and self.cache == "warm" and self.devices == 1
                and self.op != "discard" and not self.first_touch)

    @property
    def folios(self):
        """Of the row's data in the host's page cache. ext4 walks all blocks of a folio for
        each write into it: 4 KiB into a large one cost ten to fifty times as much, which
        hides who writes; and large writes into single pages are as slow. So each has the
        pages that its own kind of access makes."""
        if self.cache != "warm":
            return "none"
        if self.words["order"] == "seq":
            return "large"
        return "small" if self.op == "write" else "any"

    @property
    def unit(self):
        return "MB/s" if int(self.words.get("bs", 4096)) >= 65536 and self.op != "discard" else "/s"


URING = {"engine": "uring"}
SYNC = {"engine": "sync"}


def host_ways(depth, cache="warm"):
    """One thread each: who has one in flight may also make plain calls."""
    return [URING, SYNC] if depth == 1 and cache != "direct" else [URING]


def random_reads(cache):
    for depth in (1, 32, 128):
        for kind in KINDS:
            words = {"op": "read", "order": "random" if cache == "warm" else "once", "bs": 4096, "depth": depth}
            yield Row(f"randread-4k-{depth}-{cache}", f"random read 4 KiB, depth {depth}, {cache}", words, kind,
                      "half" if kind == "cow" else "all", cache, slow=1 if cache == "warm" else 2,
                      host=host_ways(depth, cache) if kind == "raw" else [])


def random_writes(cache, mixed):
    for depth in (1, 32):
        for kind in KINDS:
            once = kind == "cow"
            name, title = f"randwrite-4k-{depth}", f"random write 4 KiB, depth {depth}"
            if cache == "direct":
                name, title = name + "-direct", title + ", direct"
            yield Row(name, title, {"op": "write", "order": "once" if once else "random", "bs": 4096, "depth": depth},
                      kind, next(mixed) if once else "all", cache, slow=2 if cache == "direct" else 1,
                      host=host_ways(depth, cache) if kind != "full" else [])


def sequential(cache, sizes, mixed):
    for op in ("read", "write"):
        for size in sizes:
            text = f"{size >> 10} KiB" if size < 1 << 20 else f"{size >> 20} MiB"
            name, title = f"seq{op}-{size >> 10}k", f"sequential {op} {text}, depth 4"
            if cache == "direct":
                name, title = name + "-direct", title + ", direct"
            for kind in KINDS:
                new = op == "write" and kind == "cow"
                region = next(mixed) if new else "half" if kind == "cow" else "all"
                yield Row(name, title, {"op": op, "order": "seq", "bs": size, "depth": 4}, kind, region, cache,
                          slow=2 if cache == "direct" else 1, one_pass=new or cache == "direct",
                          host=host_ways(4, cache) if kind == "raw" or new else [])


def flushes():
    fresh = iter(f"fresh{i}" for i in range(4))
    for every in (1, 8, 100):
        words = {"op": "write", "order": "random", "bs": 4096, "depth": 1, "flush": every}
        title = f"write 4 KiB, depth 1, flush after {every}"
        for kind in ("raw", "full"):
            yield Row(f"flush-{every}", title, words, kind, "all", slow=2, again=2,
                      host=host_ways(1) if kind == "raw" else [])
        # The four calls: data, fdatasync, a block of the bitmap, fdatasync.
        yield Row(f"flush-{every}", title + ", first touch", {**words, "order": "once"}, "cow", next(fresh), slow=2, again=2,
                  host=[{**SYNC, "op": "commit", "flush": 0}] if every == 1 else [])
    words = {"op": "write", "order": "random", "bs": 4096, "depth": 1, "threads": 8, "flush": 1}
    title = "8 writers, each 4 KiB and a flush"
    for kind in ("raw", "full"):
        yield Row("flush-1-8writers", title, words, kind, "all", slow=3, host=[URING] if kind == "raw" else [])
    yield Row("flush-1-8writers", title + ", first touch", {**words, "order": "once"}, "cow", next(fresh), slow=2, again=2)


def discards():
    for kind in KINDS:
        yield Row("discard-64k", "discard 64 KiB, depth 4", {"op": "discard", "order": "once", "bs": 65536, "depth": 4},
                  kind, "half-discard" if kind == "cow" else "discard", host=[URING] if kind == "raw" else [])


def several_disks():
    for kind in KINDS:
        yield Row("four-disks", "random read 4 KiB, depth 32, on four disks at once",
                  {"op": "read", "order": "random", "bs": 4096, "depth": 32}, kind,
                  "half-small" if kind == "cow" else "small", host=[URING] if kind == "raw" else [], devices=4)


def all_rows():
    """Warm rows first: what the page cache forgets for the others has to come back."""
    mixed = iter(f"mixed{i}" for i in range(4))
    mixed_seq = iter(f"mixed-seq{i}" for i in range(3))
    both = (128 << 10, 1 << 20)
    return [*random_reads("warm"), *several_disks(), *sequential("warm", both, mixed_seq),
            *random_writes("warm", mixed), *flushes(), *discards(), *random_reads("cold"), *random_reads("direct"),
            *sequential("direct", (1 << 20,), mixed_seq), *random_writes("direct", mixed)]


def by_name(rows):
    """The kinds of each row side by side: [[Row, ...], ...]"""
    groups = {}
    for row in rows:
        groups.setdefault(row.name, []).append(row)
    return list(groups.values())


# --- what is asked ------------------------------------------------------------

@dataclass
class Demand:
    """That `ours` does a row at least so many times as fast as somebody does one."""
    what: str
    row: Row
    against: str
    # None: the ratio is shown, and nothing is asked of it.
    asked: float
    # The other's row, if it is another.
    other: str = ""

    @property
    def other_row(self):
        return self.other or self.row.id


# The lines of the list, in its order: the key, and what stands in the report.
LINES = {
    "in-tree": "every row without a flush, raw and COW, against the in-tree driver",
    "warm-1": "warm random read, depth 1, against in-tree",
    "warm-32": "warm random read, depth 32, against in-tree",
    "buffered-write": "buffered random write, depth 1 and 32, against in-tree",
    "disk-read": "cold and O_DIRECT random read, depth 32, against the host's own",
    "disk-write": "O_DIRECT random write, depth 32, against the host's own",
    "sequential-tree": "sequential 1 MiB, warm and O_DIRECT, against in-tree",
    "sequential-host": "sequential 1 MiB, warm and O_DIRECT, against the host's own",
    "flush": "write and flush, depth 1, allocated sectors, against the host's write and fdatasync",
    "first-touch": "the same on first-touched COW sectors, against the host's same four calls",
    "writers": "8 writers with flush, against one",
    "cow": "COW on allocated sectors, every row, against raw",
    "virtio-warm": "warm rows, against virtio_uml with qemu-storage-daemon",
    "virtio-disk": "rows that the disk binds, against virtio_uml with qemu-storage-daemon",
    "fio": "fio in the guest, depth 32: 0.9 of null_blk in the same guest, or 0.85 of the host's own, whichever is lower",
    "whole": "whole work in `unsafe` mode: seconds, against in-tree (at most)",
    "size": "a request's cost, 1 TiB device against 1 GiB (at most)",
    "growth": "cost against size, depth, devices, fragmentation, request size: at most linear",
}


def demands(rows=None):
    """For the rows of part (a)."""
    for row in rows or all_rows():
        yield from tree_demands(row)
        yield from host_demands(row)
        if row.name == "flush-1-8writers":
            yield Demand("writers", row, "ours", 3.0, f"flush-1/{row.kind}")
        if row.kind == "full":
            yield Demand("cow", row, "ours", 0.95, f"{row.name}/raw")
        # An fdatasync, and a hole in a file, are the disk's and its journal's.
        disk = row.cache != "warm" or row.flushes or row.op == "discard"
        yield Demand("virtio-disk" if disk else "virtio-warm", row, "virtio", 1.0 if disk else 2.0)


def tree_demands(row):
    if row.flushes:
        # It does not flush: no comparison; with `s` it does the durable write, and no flush.
        yield Demand("flush", row, "tree-s", None)
        return
    what, asked = "in-tree", 1.0
    if row.name == "randread-4k-1-warm":
        what, asked = "warm-1", 2.5
    elif row.name == "randread-4k-32-warm":
        what, asked = "warm-32", 1.3
    elif row.op == "write" and row.cache == "warm" and "randwrite" in row.name:
        what = "buffered-write"
    elif row.words["bs"] == 1 << 20:
        what = "sequential-tree"
    yield Demand(what, row, "tree", asked)
    if row.durable_beside:
        # It has no O_DIRECT: the one writes into the page cache, the other waits for the disk.
        yield Demand(what, row, "tree-s", None)


def host_demands(row):
    """Where the host has not this kind of disk, against its raw file."""
    raw = "" if row.host else f"{row.name}/raw"
    if row.words["depth"] == 32 and row.cache != "warm":
        yield Demand("disk-write" if row.writes else "disk-read", row, "host", 0.85, raw)
    elif row.words["bs"] == 1 << 20:
        yield Demand("sequential-host", row, "host", 0.9, raw)
        if row.cache == "warm" and not row.first_touch:
            yield Demand("sequential-host", row, "host-threads", None, raw)
    elif row.name == "flush-1" and row.kind == "cow":
        yield Demand("first-touch", row, "host", 0.8)
    elif row.name == "flush-1":
        yield Demand("flush", row, "host", 0.8, raw)
