# SPDX-License-Identifier: GPL-2.0-only
#
# Makes a qcow2 overlay that has some ranges of its disk, as qemu itself would have
# laid it out when they were written in order: qemu-io is too slow for it, and
# qemu-img copies all or nothing. And makes it as new again, when more was written.
#
# The format is in QEMU's docs/interop/qcow2.txt (version 3, all fields big-endian).
#
#	cluster 0	header
#	then		L1 table, L2 tables, refcount table, refcount blocks
#	then		the data, in the order of the ranges

import os
import struct

CLUSTER = 64 << 10
COPIED = 1 << 63
# Clusters of the disk that an L2 table has, and of the file that a refcount block has.
IN_L2 = CLUSTER // 8
IN_REFCOUNTS = CLUSTER // 2


def clusters(nbytes):
    return -(-nbytes // CLUSTER)


class Overlay:
    def __init__(self, path, backing, size, ranges):
        """ranges: (offset, length) on the disk, in order, whole clusters"""
        self.path, self.backing, self.size = path, backing, size
        self.ranges = list(ranges)
        self.l2_tables = -(-clusters(size) // IN_L2)
        self.l1_clusters = clusters(8 * self.l2_tables)
        data = sum(length for _, length in self.ranges) // CLUSTER
        # The blocks have themselves in them, too.
        self.blocks = 1
        while self.first_data + data > self.blocks * IN_REFCOUNTS:
            self.blocks += 1
        self.end = (self.first_data + data) * CLUSTER

    @property
    def table_cluster(self):
        return 1 + self.l1_clusters + self.l2_tables

    @property
    def table_clusters(self):
        return clusters(8 * self.blocks)

    @property
    def first_data(self):
        return self.table_cluster + self.table_clusters + self.blocks

    def places(self):
        """(offset on the disk, offset in the file, length) of each range"""
        at = self.first_data * CLUSTER
        for offset, length in self.ranges:
            yield offset, at, length
            at += length

    def write_metadata(self):
        """All but the data; what the file got beyond that goes."""
        l1_at, l2_at = CLUSTER, (1 + self.l1_clusters) * CLUSTER
        table_at = self.table_cluster * CLUSTER
        blocks_at = table_at + self.table_clusters * CLUSTER
        l2 = [0] * (self.l2_tables * IN_L2)
        for offset, at, length in self.places():
            for i in range(length // CLUSTER):
                l2[offset // CLUSTER + i] = at + i * CLUSTER | COPIED
        l1 = [l2_at + i * CLUSTER | COPIED for i in range(self.l2_tables)]
        table = [blocks_at + i * CLUSTER for i in range(self.blocks)]
        counts = [1] * (self.end // CLUSTER)
        counts += [0] * (self.blocks * IN_REFCOUNTS - len(counts))
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            os.ftruncate(fd, self.end)
            self._put(fd, 0, self._header(l1_at, table_at))
            self._put(fd, l1_at, struct.pack(f">{len(l1)}Q", *l1))
            self._put(fd, l2_at, struct.pack(f">{len(l2)}Q", *l2))
            self._put(fd, table_at, struct.pack(f">{len(table)}Q", *table))
            self._put(fd, blocks_at, struct.pack(f">{len(counts)}H", *counts))
        finally:
            os.close(fd)

    @staticmethod
    def _put(fd, at, data):
        os.pwrite(fd, data.ljust(clusters(len(data)) * CLUSTER, b"\0"), at)

    def _header(self, l1_at, table_at):
        name = os.fsencode(self.backing)
        backing_format = struct.pack(">II", 0xe2792aca, 3) + b"raw".ljust(8, b"\0")
        extensions = backing_format + struct.pack(">II", 0, 0)
        header = struct.pack(">4sIQIIQIIQQIIQQQQII", b"QFI\xfb", 3, 104 + len(extensions), len(name), 16, self.size,
                             0, self.l2_tables, l1_at, table_at, self.table_clusters, 0, 0, 0, 0, 0, 4, 104)
        return header + extensions + name
