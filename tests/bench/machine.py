# SPDX-License-Identifier: GPL-2.0-only
#
# What machine this is: printed at first, kept in the results, named in the
# report.

import os
import platform
import re
import shutil
import subprocess


def first_line(command):
    try:
        text = subprocess.run(command, capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return text.strip().splitlines()[0] if text.strip() else ""


def read(path, default=""):
    try:
        with open(path) as f:
            return f.read().strip()
    except OSError:
        return default


def cpu():
    model, flags = "?", ""
    for line in read("/proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            model = value.strip()
        elif name.strip() == "flags":
            flags = value
    where = " in a virtual machine" if " hypervisor" in flags else ""
    return f"{model}, {os.cpu_count()} CPUs{where}"


def memory():
    for line in read("/proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            return f"{int(line.split()[1]) / (1 << 20):.1f} GiB"
    return "?"


def file_system(path):
    line = first_line(["findmnt", "-n", "-o", "FSTYPE,SOURCE,OPTIONS", "-T", path])
    return " ".join(line.split()) or "?"


def disk(path):
    """What /sys says of the disk under a directory."""
    number = os.stat(path).st_dev
    sys = f"/sys/dev/block/{os.major(number)}:{os.minor(number)}"
    if not os.path.exists(sys):
        return "no disk of its own (" + file_system(path).split(" ")[0] + ")"
    real = os.path.realpath(sys)
    if os.path.exists(os.path.join(real, "partition")):
        real = os.path.dirname(real)
    parts = [os.path.basename(real)]
    model = " ".join((read(real + "/device/vendor") + " " + read(real + "/device/model")).split())
    # The vendor of virtio's devices is a number.
    model = "virtio" if model == "0x1af4" else model
    if model:
        parts.append(model)
    parts.append(f"{int(read(real + '/size', '0')) * 512 / (1 << 30):.0f} GiB")
    parts.append("rotating" if read(real + "/queue/rotational") == "1" else "not rotating")
    parts.append(read(real + "/queue/write_cache", "?"))
    scheduler = read(real + "/queue/scheduler")
    if "[" in scheduler:
        parts.append("scheduler " + scheduler[scheduler.index("[") + 1:scheduler.index("]")])
    return ", ".join(parts)


def guest_kernel(kernel):
    return read(os.path.join(os.path.dirname(kernel), "include/config/kernel.release")) or first_line(
        [kernel, "--version"])


def brief(described):
    """For who reads of another machine: no names of devices, no paths."""
    def version(name):
        found = re.match(r"[0-9.]*[0-9]", described[name])
        return found.group() if found else "?"

    daemon = re.search(r"version ([0-9.]*[0-9])", described["qemu-storage-daemon"])
    return (f"{described['machine']}, {described['memory']} of memory; host: Linux {version('host kernel')}, "
            f"{described['host file system'].split(' ')[0]} on a disk ({described['disk'].partition(', ')[2]}); "
            f"guests: Linux {version('guest kernel')}; qemu-storage-daemon {daemon.group(1) if daemon else '?'}")


def describe(top, work, kernel):
    return {
        "machine": cpu(),
        "memory": memory(),
        "host kernel": platform.release(),
        "guest kernel": guest_kernel(kernel),
        "host file system": file_system(work),
        "disk": disk(work),
        "module": first_line(["git", "-C", top, "log", "-1", "--format=%h of %cs: %s"]) +
                  (" (with changes)" if first_line(["git", "-C", top, "status", "--porcelain", "-uno"]) else ""),
        "qemu-storage-daemon": first_line(["qemu-storage-daemon", "--version"])
        if shutil.which("qemu-storage-daemon") else "not installed",
        "fio": first_line(["fio", "--version"]) if shutil.which("fio") else "not installed",
        "load average at the beginning": " ".join(read("/proc/loadavg").split()[:3]),
    }
