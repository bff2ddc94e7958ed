# SPDX-License-Identifier: GPL-2.0-only
#
# The host's files that are measured, and what is done to them between runs.
#
# raw.img	a plain disk
# base.img	the backing file of the copy-on-write disks
# half.cow	a COW file over it: in region `half` and the `mixed` ones every
#		other run of sectors is in the COW file, `all` and `discard` are
#		there as a whole, the `fresh` ones not at all
# half.qcow2	the same as qcow2
# small<N>.img	for loads on several disks at once
#
# Each competitor works on copies of its own of the copy-on-write files, which
# are made anew for each repetition, and all on the same raw.img.

import os
import random
import shutil
import subprocess

MIB = 1 << 20
RUN = 64 << 10
SMALL_DISKS = 4
SMALL_MIB = 32


class Regions:
    """Where what lies, in bytes: the same on each disk."""

    def __init__(self, scale):
        self.at = {}
        end = 0
        sizes = [("all", 128 * scale), ("half", 128 * scale), ("discard", 64)]
        sizes += [(f"mixed{i}", 32) for i in range(6)]
        sizes += [(f"fresh{i}", 16) for i in range(6)]
        for name, mib in sizes:
            self.at[name] = (end, mib * MIB)
            end += mib * MIB
        self.size = end

    def in_cow(self):
        """The ranges that the COW files have."""
        rng = random.Random(1)
        for name, (offset, length) in self.at.items():
            if name.startswith("fresh"):
                continue
            if not (name == "half" or name.startswith("mixed")):
                yield offset, length
                continue
            at, inside = offset, rng.random() < 0.5
            while at < offset + length:
                n = min(RUN * rng.randint(1, 8), offset + length - at)
                if inside:
                    yield at, n
                inside = not inside
                at += n


class Disks:
    def __init__(self, work, ubd_cow, scale):
        self.work = work
        self.ubd_cow = ubd_cow
        self.regions = Regions(scale)
        self.raw = self.path("raw.img")
        self.base = self.path("base.img")
        self.small = [self.path(f"small{i}.img") for i in range(SMALL_DISKS)]
        # Does not repeat within a host page, and is cheap to make.
        self._noise = os.urandom(MIB)

    def path(self, name):
        return os.path.join(self.work, name)

    def bytes_needed(self):
        # raw, base, and half as much for each of five copies
        return self.regions.size * 5 + len(self.small) * SMALL_MIB * MIB

    def make(self):
        self.fill(self.raw, 0, self.regions.size)
        self.fill(self.base, 0, self.regions.size)
        for path in self.small:
            self.fill(path, 0, SMALL_MIB * MIB)
        self._make_cow()
        return self._make_qcow2()

    def fill(self, path, offset, length):
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            for at in range(offset, offset + length, MIB):
                os.pwrite(fd, self._noise[:min(MIB, offset + length - at)], at)
        finally:
            os.close(fd)

    def cow_data_offset(self):
        bitmap = (self.regions.size // 512 + 7) // 8
        return (8192 + bitmap + 4095) // 4096 * 4096

    def _make_cow(self):
        cow = self.path("half.cow")
        if os.path.exists(cow):
            os.unlink(cow)
        subprocess.run([self.ubd_cow, "create", cow, self.base], check=True, stdout=subprocess.DEVNULL)
        bitmap = bytearray((self.regions.size // 512 + 7) // 8)
        for offset, length in self.regions.in_cow():
            # Ranges are multiples of 4096: whole bytes of the bitmap.
            bitmap[offset // 4096:(offset + length) // 4096] = b"\xff" * (length // 4096)
            self.fill(cow, self.cow_data_offset() + offset, length)
        with open(cow, "r+b") as f:
            f.seek(8192)
            f.write(bitmap)

    def _make_qcow2(self):
        """None, or why there is none."""
        if not shutil.which("qemu-io") or not shutil.which("qemu-img"):
            return "qemu-img and qemu-io are not installed (Debian: qemu-utils)"
        qcow = self.path("half.qcow2")
        try:
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", self.base, "-F", "raw", qcow],
                           check=True, capture_output=True)
            script = "".join(f"write -q -P 165 {offset + at} {min(16 * MIB, length - at)}\n"
                             for offset, length in self.regions.in_cow() for at in range(0, length, 16 * MIB))
            subprocess.run(["qemu-io", "-f", "qcow2", qcow], input=script, text=True, check=True,
                           capture_output=True)
        except subprocess.CalledProcessError as e:
            return "qemu: " + str(e.stderr)[-300:]
        return None

    def copy_cow(self, name, kind="cow"):
        to = self.path(f"{name}.{kind}")
        subprocess.run(["cp", "--sparse=always", "--reflink=auto", self.path("half." + kind), to], check=True)
        self.sync([to])
        return to

    @staticmethod
    def sync(paths):
        for path in paths:
            fd = os.open(path, os.O_RDWR)
            os.fdatasync(fd)
            os.close(fd)

    @staticmethod
    def make_cold(paths):
        Disks.sync(paths)
        for path in paths:
            fd = os.open(path, os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)

    @staticmethod
    def make_warm(paths):
        buffer = bytearray(4 * MIB)
        for path in paths:
            with open(path, "rb", buffering=0) as f:
                at, end = 0, os.fstat(f.fileno()).st_size
                while at < end:
                    try:
                        at = os.lseek(f.fileno(), at, os.SEEK_DATA)
                    except OSError:
                        break
                    f.seek(at)
                    at += f.readinto(buffer) or end

    def refill(self, raw_or_cow, path, region):
        """Gives a region of a disk its data again, after a discard."""
        offset, length = self.regions.at[region]
        self.fill(path, offset + (self.cow_data_offset() if raw_or_cow == "cow" else 0), length)
        self.sync([path])
