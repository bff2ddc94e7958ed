# SPDX-License-Identifier: GPL-2.0-only
#
# The host's files that are measured, and what is done to them between runs.
#
# raw.img	a plain disk, each block of it written
# base.img	the backing file of the copy-on-write disks
# half.cow	a COW file over it: in region `half` and the `mixed` ones every
#		other run of sectors is in the COW file, `all` and `discard` are
#		there as a whole, the `fresh` ones not at all
# half.qcow2	the same as qcow2
# small<N>	for loads on several disks at once: .img, and .cow or .qcow2 over
#		.base
#
# Each competitor works on copies of its own of the copy-on-write files, which
# are as new for each repetition, and all on the same raw.img. Each 4 KiB of all
# of them begin with a stamp (load/plan.h), by which a load knows that it read
# what it asked for.

import copy
import ctypes
import mmap
import os
import random
import struct
import subprocess

from qcow2 import Overlay

MIB = 1 << 20
BLOCK = 4096
RUN = 64 << 10
SMALL_DISKS = 4
SMALL_MIB = 16
# Where the stamps of the disks as they were made came from.
TAG_BASE, TAG_DISK = 254, 255
SUFFIXES = (".img", ".base", ".cow", ".qcow2")


class Regions:
    """Where what lies, in bytes: the same on each disk, as far as it has it."""

    def __init__(self, sizes):
        """sizes: (name, MiB)"""
        self.at = {}
        self.size = 0
        for name, mib in sizes:
            self.at[name] = (self.size, mib * MIB)
            self.size += mib * MIB

    def in_cow(self):
        """The ranges that the COW files have."""
        rng = random.Random(1)
        for name, (offset, length) in self.at.items():
            if name.startswith("fresh"):
                continue
            if not name.startswith(("half", "mixed")):
                yield offset, length
                continue
            at, inside = offset, rng.random() < 0.5
            while at < offset + length:
                n = min(RUN * rng.randint(1, 8), offset + length - at)
                if inside:
                    yield at, n
                inside = not inside
                at += n

    def not_in_cow(self):
        at = 0
        for offset, length in [*self.in_cow(), (self.size, 0)]:
            if offset > at:
                yield at, offset - at
            at = offset + length


def within(ranges, offset, length):
    """The parts of some ranges that lie in one."""
    for at, n in ranges:
        begin, end = max(at, offset), min(at + n, offset + length)
        if begin < end:
            yield begin, end - begin


class Disks:
    def __init__(self, work, ubd_cow, scale):
        self.work = work
        self.ubd_cow = ubd_cow
        # The raw disk ends after the first two.
        sizes = [("all", 128 * scale), ("discard", 64), ("half", 128 * scale), ("half-discard", 64)]
        # What is written once for each turn.
        more = min(scale, 2)
        sizes += [(f"mixed{i}", 32 * more) for i in range(8)] + [(f"mixed-seq{i}", 128 * more) for i in range(3)]
        sizes += [(f"fresh{i}", 24 * more) for i in range(4)]
        self.regions = Regions(sizes)
        self.raw_size = sum(self.regions.at["discard"])
        self.small_regions = Regions([("small", SMALL_MIB), ("half-small", SMALL_MIB)])
        self.raw = self.path("raw.img")
        self.base = self.path("base.img")
        self.small = [self.path(f"small{i}.img") for i in range(SMALL_DISKS)]
        self._noise = bytearray(os.urandom(MIB))
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.mmap.restype = ctypes.c_void_p
        self._libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int,
                                    ctypes.c_long]
        self._libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        self._libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]

    def path(self, name):
        return os.path.join(self.work, name)

    def small_base(self, i):
        return self.path(f"small{i}.base")

    def small_cow(self, i, kind="cow"):
        return self.path(f"small{i}.{kind}")

    def bytes_needed(self):
        cow = sum(n for _, n in self.regions.in_cow())
        # half.cow, half.qcow2 and seven copies
        return self.raw_size + self.regions.size + 9 * cow + len(self.small) * 5 * SMALL_MIB * MIB

    def make(self):
        self.fill(self.raw, 0, self.raw_size)
        self.fill(self.base, 0, self.regions.size, tag=TAG_BASE)
        self._make_cow(self.path("half.cow"), self.base, self.regions)
        for i, path in enumerate(self.small):
            self.fill(path, 0, self.small_regions.size)
            self.fill(self.small_base(i), 0, self.small_regions.size, tag=TAG_BASE)
            self._make_cow(self.small_cow(i), self.small_base(i), self.small_regions)
            self._make_qcow2(self.small_cow(i, "qcow2"), self.small_base(i), self.small_regions)
        self.overlay = self._make_qcow2(self.path("half.qcow2"), self.base, self.regions)
        # So that nothing is written back later.
        self.sync(os.path.join(self.work, name) for name in os.listdir(self.work) if name.endswith(SUFFIXES))
        self.check_whole(self.raw, self.raw_size)
        self.check_whole(self.base, self.regions.size)

    @staticmethod
    def check_whole(path, size):
        """A hole would be read without the disk."""
        fd = os.open(path, os.O_RDONLY)
        try:
            if os.fstat(fd).st_size != size or os.lseek(fd, 0, os.SEEK_HOLE) != size:
                raise RuntimeError(f"{path} has holes")
        finally:
            os.close(fd)

    def fill(self, path, offset, length, shift=0, tag=TAG_DISK):
        """Stamped noise; what is at `offset` of the disk is `shift` further on in the file."""
        noise = self._noise
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            for at in range(offset, offset + length, MIB):
                n = min(MIB, offset + length - at)
                for block in range(0, n, BLOCK):
                    struct.pack_into("<Q", noise, block, at + block | tag << 56)
                os.pwrite(fd, memoryview(noise)[:n], shift + at)
        finally:
            os.close(fd)

    @staticmethod
    def data_offset(regions):
        bitmap = (regions.size // 512 + 7) // 8
        return (8192 + bitmap + 4095) // 4096 * 4096

    @property
    def cow_shift(self):
        return self.data_offset(self.regions)

    @staticmethod
    def bitmap_of(regions):
        bitmap = bytearray((regions.size // 512 + 7) // 8)
        for offset, length in regions.in_cow():
            # Ranges are multiples of 4096: whole bytes of the bitmap.
            bitmap[offset // 4096:(offset + length) // 4096] = b"\xff" * (length // 4096)
        return bitmap

    def _make_cow(self, cow, base, regions):
        if os.path.exists(cow):
            os.unlink(cow)
        subprocess.run([self.ubd_cow, "create", cow, base], check=True, stdout=subprocess.DEVNULL)
        for offset, length in regions.in_cow():
            self.fill(cow, offset, length, self.data_offset(regions))
        with open(cow, "r+b") as f:
            f.seek(8192)
            f.write(self.bitmap_of(regions))

    def _make_qcow2(self, path, base, regions):
        overlay = Overlay(path, base, regions.size, regions.in_cow())
        overlay.write_metadata()
        for offset, at, length in overlay.places():
            self.fill(path, offset, length, at - offset)
        return overlay

    def copy_cow(self, name):
        """A competitor's own, as new."""
        to = self.path(name + ".cow")
        if os.path.exists(to):
            self._renew(to)
        else:
            self._copy("half.cow", to)
        self.sync([to])
        return to

    def copy_qcow2(self, name):
        """The same as an overlay that qemu knows."""
        mine = copy.copy(self.overlay)
        mine.path = self.path(name + ".qcow2")
        if os.path.exists(mine.path):
            mine.write_metadata()
            for region in ("discard", "half-discard"):
                self.refill(mine.path, region)
        else:
            self._copy("half.qcow2", mine.path)
        self.sync([mine.path])
        return mine

    def _copy(self, name, to):
        subprocess.run(["cp", "--sparse=always", "--reflink=auto", self.path(name), to], check=True)

    def _renew(self, cow):
        """Blocks that loads gave to the COW file are holes again, with no bits."""
        fd = os.open(cow, os.O_RDWR)
        try:
            for offset, length in self.regions.not_in_cow():
                self._punch(fd, self.cow_shift + offset, length)
            os.pwrite(fd, self.bitmap_of(self.regions), 8192)
            for name in ("discard", "half-discard"):
                self.refill(cow, name)
        finally:
            os.close(fd)

    def _punch(self, fd, offset, length):
        keep_size, punch_hole = 1, 2
        if self._libc.fallocate(fd, keep_size | punch_hole, ctypes.c_long(offset), ctypes.c_long(length)):
            raise OSError(ctypes.get_errno(), "fallocate")

    @staticmethod
    def sync(paths):
        for path in paths:
            fd = os.open(path, os.O_RDWR)
            os.fdatasync(fd)
            os.close(fd)

    def refill(self, path, region):
        """Gives a region of a disk its data again, after a discard."""
        for at, n, shift in self.own_ranges(path, region):
            self.fill(path, at, n, shift)
        self.sync([path])

    # --- the page cache: ranges are (path, offset in the file, length) ---

    def ranges(self, kind, files, region):
        """Where a region's data is: in a raw file, or in a COW file and its base."""
        found = [(files[0], at + shift, n) for at, n, shift in self.own_ranges(files[0], region)]
        if kind != "raw":
            found += [(files[1], at, n) for at, n in within(self.regions.not_in_cow(), *self.regions.at[region])]
        return found

    def own_ranges(self, path, region):
        """(offset on the disk, length, how much further on in the file) of what the raw
        file, or a copy of the COW file, has of a region"""
        where = self.regions.at[region]
        if path == self.raw:
            return [(*where, 0)]
        if not path.endswith(".qcow2"):
            return [(at, n, self.cow_shift) for at, n in within(self.regions.in_cow(), *where)]
        return [(part, n, at - offset) for offset, at, length in self.overlay.places()
                for part, n in within([(offset, length)], *where)]

    @staticmethod
    def make_cold(ranges):
        for path in sorted({r[0] for r in ranges}):
            fd = os.open(path, os.O_RDWR)
            os.fdatasync(fd)
            mine = [r for r in ranges if r[0] == path]
            # Large folios are dropped when all of them is meant.
            begin = max(0, min(r[1] for r in mine) - 4 * MIB)
            end = max(r[1] + r[2] for r in mine) + 4 * MIB
            os.posix_fadvise(fd, begin, end - begin, os.POSIX_FADV_DONTNEED)
            os.close(fd)

    @staticmethod
    def make_large(ranges):
        """In the page cache in folios as large as readahead makes them."""
        Disks.make_cold(ranges)
        buffer = bytearray(MIB)
        for path in sorted({r[0] for r in ranges}):
            fd = os.open(path, os.O_RDONLY)
            for _, at, n in (r for r in ranges if r[0] == path):
                for part in range(at, at + n, MIB):
                    os.preadv(fd, [memoryview(buffer)[:min(MIB, at + n - part)]], part)
            os.close(fd)

    def make_small(self, path, ranges):
        """In the page cache in single pages, since each is written by itself.
        ranges: (offset on the disk, length, how much further on in the file)"""
        self.make_cold([(path, at + shift, n) for at, n, shift in ranges])
        block = bytearray(self._noise[:BLOCK])
        fd = os.open(path, os.O_RDWR)
        for at, n, shift in ranges:
            for place in range(at, at + n, BLOCK):
                struct.pack_into("<Q", block, 0, place | TAG_DISK << 56)
                os.pwrite(fd, block, place + shift)
        os.fdatasync(fd)
        os.close(fd)

    def cached(self, ranges):
        """The share that is in the page cache."""
        there = total = 0
        for path in sorted({r[0] for r in ranges}):
            mine = [(at, n) for p, at, n in ranges if p == path]
            begin = min(at for at, _ in mine) // mmap.PAGESIZE * mmap.PAGESIZE
            fd = os.open(path, os.O_RDONLY)
            try:
                pages = self._resident(fd, begin, max(at + n for at, n in mine) - begin)
            finally:
                os.close(fd)
            for at, n in mine:
                part = pages[(at - begin) // mmap.PAGESIZE:-(-(at + n - begin) // mmap.PAGESIZE)]
                total += len(part)
                there += part.count(1)
        return there / max(total, 1)

    def _resident(self, fd, begin, length):
        """A byte for each page, 1 when it is there. The other bits of mincore() mean nothing."""
        address = self._libc.mmap(None, length, mmap.PROT_READ, mmap.MAP_SHARED, fd, begin)
        if address == ctypes.c_void_p(-1).value:
            raise OSError(ctypes.get_errno(), "mmap")
        vector = ctypes.create_string_buffer(-(-length // mmap.PAGESIZE))
        failed = self._libc.mincore(address, length, vector)
        self._libc.munmap(address, length)
        if failed:
            raise OSError(ctypes.get_errno(), "mincore")
        return vector.raw.translate(bytes(i & 1 for i in range(256)))

    # --- what was written ---

    @staticmethod
    def tagged(path, offset, length, tag):
        """How many 4 KiB of a range of a file have this tag in their stamps."""
        fd = os.open(path, os.O_RDONLY)
        try:
            with mmap.mmap(fd, length + offset % mmap.ALLOCATIONGRANULARITY, prot=mmap.PROT_READ,
                           offset=offset // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY) as m:
                return m[offset % mmap.ALLOCATIONGRANULARITY + 7::BLOCK].count(tag)
        finally:
            os.close(fd)
