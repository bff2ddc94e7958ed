# SPDX-License-Identifier: GPL-2.0-only
#
# What is measured: the loads of the guest's kernel, one row for each and each
# kind of disk.
#
# Kinds of disk:
#	raw	a plain file
#	cow	a COW file, of which the region has half the sectors, in runs; for
#		writes: each block is written once, so half of them is new. Where
#		a row flushes, all of it is new
#	full	the same COW file, in a region of which it has each sector; to be
#		compared with raw, which uses the same region

from dataclasses import dataclass, field


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
    # Runs end by time, unless each block is touched once.
    fixed: bool = False
    # The host's ways to do the same: words beside the row's own.
    host: list = field(default_factory=list)
    devices: int = 1
    # (competitor, least ratio), also (competitor, ratio, row, kind): another row's
    asks: list = field(default_factory=list)

    @property
    def id(self):
        return f"{self.name}/{self.kind}"

    @property
    def writes(self):
        return self.words["op"] != "read"

    @property
    def unit(self):
        return "MB/s" if int(self.words.get("bs", 4096)) >= 65536 and self.words["op"] != "discard" else "/s"


URING = {"engine": "uring"}
SYNC = {"engine": "sync"}


def random_reads():
    for cache in ("warm", "cold", "direct"):
        for depth in (1, 32, 128):
            for kind in ("raw", "cow", "full"):
                asks = []
                if cache == "warm":
                    asks = {1: [("tree", 2.5)], 32: [("tree", 1.3)]}.get(depth, [])
                elif depth == 32 and kind == "raw":
                    asks = [("host", 0.85)]
                words = {"op": "read", "order": "random" if cache == "warm" else "once", "bs": 4096, "depth": depth}
                host = [URING, SYNC] if depth == 1 else [URING]
                yield Row(f"randread-4k-{depth}-{cache}", f"random read 4 KiB, depth {depth}, {cache}", words, kind,
                          "half" if kind == "cow" else "all", cache, host=host if kind == "raw" else [], asks=asks)


def random_writes():
    mixed = iter(("mixed0", "mixed1"))
    for depth in (1, 32):
        for kind in ("raw", "cow", "full"):
            fixed = kind == "cow"
            yield Row(f"randwrite-4k-{depth}", f"random write 4 KiB, depth {depth}",
                      {"op": "write", "order": "once" if fixed else "random", "bs": 4096, "depth": depth}, kind,
                      next(mixed) if fixed else "all", fixed=fixed,
                      host=[URING, SYNC] if kind == "raw" else [],
                      asks=[("tree", 1.0)])
    yield Row("randwrite-4k-32-direct", "random write 4 KiB, depth 32, direct",
              {"op": "write", "order": "random", "bs": 4096, "depth": 32}, "raw", "all", "direct", host=[URING],
              asks=[("host", 0.85)])


def sequential():
    mixed = iter(("mixed2", "mixed3"))
    for op in ("read", "write"):
        for size, text in ((128 << 10, "128 KiB"), (1 << 20, "1 MiB")):
            name = f"seq{op}-{size >> 10}k"
            asks = [("tree", 1.0)]
            if size == 1 << 20 and op == "read":
                asks.append(("host", 0.9))
            for kind in ("raw", "cow", "full"):
                fixed = op == "write" and kind == "cow"
                region = {"raw": "all", "full": "all", "cow": "half"}[kind]
                yield Row(name, f"sequential {op} {text}, depth 4", {"op": op, "order": "seq", "bs": size, "depth": 4},
                          kind, next(mixed) if fixed else region, fixed=fixed,
                          host=[URING, SYNC] if kind == "raw" else [], asks=asks)
    yield Row("seqread-1024k-direct", "sequential read 1 MiB, depth 4, direct",
              {"op": "read", "order": "seq", "bs": 1 << 20, "depth": 4}, "raw", "all", "direct", host=[URING],
              asks=[("tree", 1.0), ("host", 0.9)])


def flushes():
    fresh = iter(f"fresh{i}" for i in range(6))
    for every in (1, 8, 100):
        words = {"op": "write", "order": "random", "bs": 4096, "depth": 1, "flush": every}
        title = f"write 4 KiB, flush after {every}"
        asks = [("host", 0.8)] if every == 1 else []
        for kind in ("raw", "full"):
            yield Row(f"flush-{every}", title, words, kind, "all", host=[URING, SYNC] if kind == "raw" else [],
                      asks=asks if kind == "raw" else [(*ask, f"flush-{every}", "raw") for ask in asks])
        yield Row(f"flush-{every}", title + ", first touch", {**words, "order": "once"}, "cow", next(fresh),
                  host=[{**SYNC, "op": "commit", "flush": 0}] if every == 1 else [],
                  asks=[("host", 0.8)] if every == 1 else [])
    words = {"op": "write", "order": "random", "bs": 4096, "depth": 8, "flush": 1}
    for kind in ("raw", "full"):
        yield Row("flush-1-8writers", "8 writers, each 4 KiB and a flush", words, kind, "all",
                  host=[URING, SYNC] if kind == "raw" else [], asks=[("ours", 3.0, "flush-1", kind)])
    yield Row("flush-1-8writers", "8 writers, each 4 KiB and a flush, first touch", {**words, "order": "once"}, "cow",
              next(fresh), asks=[("ours", 3.0, "flush-1", "cow")])


def others():
    for kind in ("raw", "full"):
        yield Row("discard-64k", "discard 64 KiB, depth 4", {"op": "discard", "order": "once", "bs": 65536, "depth": 4},
                  kind, "discard", fixed=True, host=[URING] if kind == "raw" else [])
    yield Row("four-disks", "random read 4 KiB, depth 32, on four disks at once",
              {"op": "read", "order": "random", "bs": 4096, "depth": 32}, "raw", "small", host=[URING], devices=4)


# Rows that the quick form leaves out; the long form has each kind of each row.
NOT_QUICK = {
    "randread-4k-128-warm": ("full",),
    "randread-4k-1-cold": ("cow", "full"), "randread-4k-32-cold": ("full",), "randread-4k-128-cold": ("cow", "full"),
    "randread-4k-1-direct": ("cow", "full"), "randread-4k-32-direct": ("cow", "full"),
    "randread-4k-128-direct": ("cow", "full"),
    "seqread-128k": ("full",), "seqwrite-128k": ("full",),
    "flush-8": ("full",), "flush-100": ("cow", "full"),
}


def all_rows(full=True):
    """With what is asked of each row of a kind."""
    rows = [row for row in (*random_reads(), *random_writes(), *sequential(), *flushes(), *others())
            if full or row.kind not in NOT_QUICK.get(row.name, ())]
    for row in rows:
        row.asks = list(row.asks)
        against = {ask[0] for ask in row.asks if len(ask) == 2}
        if "flush" not in row.words and row.cache != "direct" and "tree" not in against:
            row.asks.append(("tree", 1.0))
        if "flush" not in row.words and row.words["op"] != "discard":
            row.asks.append(("virtio", 2.0 if row.cache == "warm" else 1.0))
        if row.kind == "full":
            row.asks.append(("ours", 0.95, row.name, "raw"))
    return rows
