#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
#
# Writes inputs for the fuzz targets that chance would find late, if ever: whole
# headers of each version, words of a command line, rules. See the heads of the
# targets for what the bytes of an input mean.
#
#	seeds.py DIRECTORY	one directory in it for each target
import hashlib
import os
import struct
import sys

MAGIC = 0x4F4F4F4D
TIB = 1 << 40


def header(version, size=8 << 20, name=b"base", mtime=1000000, alignment=4096, sector=512, form=0, magic=MAGIC):
    """The fields before and behind the name, and where those behind lie."""
    if version == 1:
        return struct.pack("<II", magic, 1) + name.ljust(256, b"\0") + struct.pack("<IQI", mtime, size, sector), b""
    if version == 2:
        return struct.pack(">II", magic, 2) + name, struct.pack(">IQI", mtime, size, sector)
    if version == 3:
        return struct.pack(">IIIQIII", magic, 3, mtime, size, sector, alignment, form) + name, b""
    # 3 with padding: of the mtime's eight bytes four count
    return struct.pack(">IIIIQIII", magic, 3, mtime, 0, size, sector, alignment, form) + name, b""


def headers():
    """What differs from a good header, in each version."""
    for version in 1, 2, 3, 4:
        for size in 512, 8 << 20, (8 << 20) + 512, 511, 0, 64 * TIB, 64 * TIB + 512, (1 << 64) - 512, 7 * 512:
            yield header(version, size=size), version
        yield header(version, name=b""), version
        yield header(version, name=b"x" * (255 if version == 1 else 40)), version
        yield header(version, name=b"x" * (256 if version == 1 else 40)), version
        yield header(version, sector=4096), version
        yield header(version, magic=0x4D4F4F4F), version
    for size in 232 * 4096 + 512, 488 * 4096 + 7 * 512:
        # The bitmap's last byte finds no room before the data.
        yield header(1 if size < 1 << 20 else 2, size=size), 1 if size < 1 << 20 else 2
    for version in 3, 4:
        for alignment in 0, 1, 512, 513, 1 << 20, (1 << 20) + 512, 1 << 31:
            yield header(version, alignment=alignment), version
        yield header(version, form=1), version


END = {1: 280, 2: 4120, 3: 4128, 4: 4136}


def header_seeds():
    for (front, tail), version in headers():
        for length in END[version], END[version] - 1, 4224:
            if tail and length != END[version]:
                continue
            yield struct.pack("<HHB", length, len(front), 0) + front + tail
        if version != 1:
            # a name that fills its field, with and without its NUL
            yield struct.pack("<HHB", END[version], len(front), 0x61) + front + (tail if version == 2 else b"\0")
            yield struct.pack("<HHB", END[version], len(front), 0x61) + front + tail
    for length in 0, 1, 7, 8, 12, 35, 36:
        yield struct.pack("<HHB", length, length, 0) + header(3)[0][:length]


def bitmap_seeds():
    def sectors(n):
        return bytes([17]) + struct.pack("<I", n - 1)[:3]

    def span(how, delta, bits, n):
        return bytes([how, delta & 255, bits]) + struct.pack("<I", n - 1)[:3]

    for n in 1, 7, 8, 9, 63, 64, 65, 32767, 32768, 32769, 98304, 98404:
        yield sectors(n) + b"\0"
        yield sectors(n) + b"\0" + b"\0" + span(0, 0, 17, n) + b"\5" + b"\6\0" + b"\0" + span(0x40, -1, 0, 1) + b"\7"
        # every block loaded with ones, the last bits included
        load = b"".join(bytes([block]) + struct.pack("<H", 4096) + b"\0\xff" for block in range(4))
        yield sectors(n) + b"\4" + load + b"\3" + span(0, 0, 17, n)
    border = b"".join(b"\0" + span(1, d, 2, k) for d in (-3, -1, 0, 1) for k in (1, 2, 4))
    yield sectors(70000) + b"\0" + border + b"\5" + border + b"\6\1" + b"\x08" + b"\5\7" + b"\4" + span(1, -9, 5, 30) + b"\0"


def option_seeds():
    words = """ubd0=/a ubd0=a,b,c ubda=/a:/b:serial ubd1023rscdt=/x ubd1024=/x ubd0x3ff=/x ubd01777=/x ubd=sync ubd=
        ubd.prefix=x other ubd0 ubd0rrrrrrr=/x ubd0q=/x ubd0= ubd0=,b ubd0d=/a,/b ubd0x=/a ubd09=/a ubd99999999999=/a""".split()
    for word in words:
        yield word.encode()
    yield b"ubd=sync ubd0=/a ubd1s=/b"
    for mode in b"writeback", b"none", b"writethrough", b"directsync", b"unsafe", b"other", b"":
        yield b"ubd=cache:" + mode + b" ubd0=/a ubd1s=/b ubd=sync ubds=/c"
    yield b"ubd0=/\x17"  # 128 times the last byte
    yield b"ubd0=/a\x1cb\x1c"
    yield b"ubd0=/\x1c,/\x1c,x"
    yield b"ubd0=/a,/b,s\x17"
    # As long as names may be, and a byte longer.
    path = b"x" + bytes(range(0x1B, 0x10, -1))
    serial = b"x" + bytes(range(0x16, 0x10, -1))
    for more in b"", b"\x10":
        yield b"ubd0=" + path + more
        yield b"ubd0=x," + path + more
        yield b"ubd0=x,x," + serial + more
        yield b"ubd0=" + path + b"," + path + b"," + serial + more
        yield b"ubd" + path + path + path + more


def fault_seeds():
    rules = """write errno=28 times=3|sync errno=5|any short every=2|read delay=3000 times=1; any errno=11 chance=20 seed=7|
        write errno=5 delay=500 after=100|read drop|off| off ; |submit errno=11|submit short|read short delay=1|punch errno=95|
        zero errno=4095|zero errno=4096|write_sync errno=1|read|read errno=|read errno=0|any errno=5 chance=0|any errno=5 chance=100
        |any errno=5 chance=101|any errno=5 every=0|read errno=999999999|read errno=5 times=0|off;read drop|read drop;off"""
    for rule in rules.split("|"):
        yield rule.encode()
    yield b";".join([b"read drop"] * 8)
    yield b";".join([b"read drop"] * 9)
    yield b";".join([b"write_sync errno=4095 delay=999999999 chance=99 seed=999999999 every=999999999 times=999999999 after=999999999"] * 4)


def check_seeds():
    def piece(relative_to, where, data):
        return struct.pack("<BHB", relative_to, where & 0xFFFF, len(data)) + data

    def file(front, tail, *pieces, around=0, length=0, more=0, call=0, how=0xC0):
        behind = piece(0, 4104, tail) if tail else b""
        return struct.pack("<BBbBBH", around, length, more, call, how, len(front)) + front + behind + b"".join(pieces)

    # By bits 4 and 5 of `around` the file is called cow, dir/cow, /cow and link.
    some = piece(1, 0, b"\xff\0\x0f"), piece(3, 0, b"data"), piece(7, 16, b"more")
    beyond = piece(2, -1, b"\xff")
    for version in 1, 2, 3, 4:
        good = header(version)
        odd = header(version, size=(8 << 20) + 3 * 512)
        yield file(*good)
        for around in 0x10, 0x20, 0x30, 0x40, 0x48, 1, 4, 5, 6, 7, 8:
            yield file(*good, *some, around=around)
            yield file(*good, *some, around=around, how=0x40)
        yield file(*odd, *some, beyond)
        for length in range(6):
            for more in -1, 0, 1, 2:
                yield file(*odd, *some, beyond, length=length, more=more)
                yield file(*odd, beyond, length=length, more=more)
        for call in range(1, 5) if version == 3 else ():
            for after in range(4):
                for how in 0, 1, 2, 3:
                    yield file(*odd, beyond, length=2, call=after << 3 | call, how=how)
        for name in b"cow", b"/cow", b"link", b"dir/cow", b"old", b"dir", b"fifo", b"null", b"loop", b"secret", b"near", b"/", \
                b"dir/near", b"../base", b"nothing", b"base/x", b"\x1b[2Jx", b"\x7f\n", b"\xc2\x9b2J", b"\xff\xfe":
            if version in (2, 4):
                continue
            yield file(*header(version, name=name), *some)
            yield file(*header(version, name=name), *some, around=0x10)
        for size in 512, 7 * 512, 4096 * 4096, 64 * TIB, (64 << 40) - 512, 5 << 32:
            large = header(version, size=size)
            yield file(*large)
            yield file(*large, piece(1, 0, b"\1"), piece(5, 1, b"\x80"), piece(6, 1, b"\xff"), piece(6, 16383, b"\xff"), beyond)
            yield file(*large, piece(2, -2, b"\xff\xff"), length=3)
        for damaged in dict(size=0), dict(size=64 * TIB + 512), dict(sector=4096), dict(magic=0), dict(name=b""):
            yield file(*header(version, **damaged))
    for version in 3, 4:
        for alignment in 512, 1 << 20, 0, 1000:
            yield file(*header(version, alignment=alignment), *some, beyond)
    # Many runs, over the border of two windows.
    yield file(*header(3, size=64 * TIB), piece(0x86, 1, b"\x55" * 60), piece(0x81, 0, b"\x33" * 8))
    for length in 0, 1, 7, 8, 31, 32, 100:
        yield struct.pack("<BBbBBH", 0, 1, 0, 0, 0x80, length) + header(3)[0][:length]


SEEDS = {"header": header_seeds, "bitmap": bitmap_seeds, "check": check_seeds, "options": option_seeds, "faults": fault_seeds}


def main():
    for target, seeds in SEEDS.items():
        directory = os.path.join(sys.argv[1], target)
        os.makedirs(directory, exist_ok=True)
        for seed in seeds():
            # as libFuzzer names them
            with open(os.path.join(directory, hashlib.sha1(seed).hexdigest()), "wb") as file:
                file.write(seed)


main()
