# SPDX-License-Identifier: GPL-2.0-only
#
# Guests of the benchmark, the daemon that serves disks to one of them, and what
# the host counts of their processes.
#
# A Guest is a UML process whose init is guest-init.sh; run() has it do a
# line of shell and gives back what it printed.

import os
import select
import shlex
import shutil
import signal
import subprocess
import tempfile
import time


class GuestError(Exception):
    pass


class GuestHangs(GuestError):
    """It does not answer, or has ended: start another one."""


class Guest:
    def __init__(self, name, kernel, words, work, memory="320M", patience=120):
        self.name = name
        self.work = work
        self.patience = patience
        self.log_path = os.path.join(work, name + ".log")
        self._words = words
        self._kernel = kernel
        self._memory = memory
        self._text = b""
        self.process = None

    def start(self):
        directory = os.path.join(self.work, self.name)
        os.makedirs(directory, exist_ok=True)
        init = os.path.join(self.work, self.name + ".init")
        here = os.path.dirname(os.path.abspath(__file__))
        with open(os.path.join(here, "guest-init.sh")) as f:
            first, rest = f.read().split("\n", 1)
        with open(init, "w") as f:
            f.write(f"{first}\nbin={shlex.quote(mount_programs(self.work))} mnt={shlex.quote(directory)}\n{rest}")
        os.chmod(init, 0o755)
        # Sockets' names are short: the directory may be deep.
        self._sockets = tempfile.mkdtemp(prefix="ubd-bench.")
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        self._in, self._out = ours_in, ours_out
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [self._kernel, "mem=" + self._memory, *self._words, "root=/dev/root", "rootfstype=hostfs",
                 "rootflags=/", "rw", "init=" + init, "con=null", "con0=fd:0,fd:1",
                 f"con1=fd:{theirs_in},fd:{theirs_out}", "loglevel=5", "uml_dir=" + self._sockets,
                 "umid=" + self.name],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(theirs_in, theirs_out))
        os.close(theirs_in)
        os.close(theirs_out)
        os.set_blocking(self._in, False)
        self._until(b"#ready\n", time.monotonic() + self.patience)
        return self

    def run(self, line, patience=None):
        status, text = self.try_run(line, patience)
        if status != 0:
            raise GuestError(f"{self.name}: {line[:200]}: status {status}: {text[-500:]}")
        return text

    def try_run(self, line, patience=None):
        os.write(self._out, line.encode() + b"\n")
        deadline = time.monotonic() + (patience or self.patience)
        text = self._until(b"\n#end ", deadline)
        status = self._until(b"\n", deadline)
        return int(status), text.decode(errors="replace")

    def _until(self, mark, deadline):
        while mark not in self._text:
            left = deadline - time.monotonic()
            if left <= 0:
                raise GuestHangs(f"{self.name} does not answer; {self.state()}; its log is {self.log_path}")
            if not select.select([self._in], [], [], min(left, 1))[0]:
                if self.process.poll() is not None:
                    raise GuestHangs(f"{self.name} ended; its log is {self.log_path}")
                continue
            part = os.read(self._in, 1 << 16)
            if not part:
                raise GuestHangs(f"{self.name} ended; its log is {self.log_path}")
            self._text += part
        text, _, self._text = self._text.partition(mark)
        return text

    def state(self):
        """What the host sees of a guest that does not answer."""
        try:
            before = Usage([self.process.pid])
            time.sleep(1)
            used = Usage([self.process.pid]).since(before)["cpu_ns"] / 1e9
            with open(f"/proc/{self.process.pid}/wchan") as f:
                return f"its process waits in {f.read() or '?'} and used {used:.2f} s of the last second's CPU"
        except OSError as e:
            return str(e)

    def stop(self):
        """Powers it off; gives back the seconds that this took."""
        if self.process is None:
            return 0
        begin = time.monotonic()
        try:
            os.write(self._out, b"power_off\n")
            self.process.wait(30)
        except (OSError, subprocess.TimeoutExpired):
            pass
        self.kill()
        return time.monotonic() - begin

    def kill(self):
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._in)
        os.close(self._out)
        shutil.rmtree(self._sockets, ignore_errors=True)
        self.process = None

    def pids(self):
        return tree(self.process.pid)


def mount_programs(work):
    """Copies of the set-uid programs that guests need: where the host's root is
    mapped to nobody, they would become nobody's."""
    bin_dir = os.path.join(work, "bin")
    os.makedirs(bin_dir, exist_ok=True)
    for name in ("mount", "umount"):
        to = os.path.join(bin_dir, name)
        if not os.path.exists(to):
            shutil.copyfile(shutil.which(name), to)
            os.chmod(to, 0o755)
    return bin_dir


class Daemon:
    """qemu-storage-daemon with vhost-user-blk exports."""

    def __init__(self, work, disks, program="qemu-storage-daemon"):
        """disks: (name, driver and file options of the block device)"""
        self.program = shutil.which(program)
        if not self.program:
            raise GuestError(f"{program} is not installed (Debian: qemu-system-common)")
        self.sockets = tempfile.mkdtemp(prefix="ubd-bench.")
        self.log_path = os.path.join(work, "qemu-storage-daemon.log")
        words = []
        self.words = []
        for name, options in disks:
            socket = os.path.join(self.sockets, name)
            words += ["--blockdev", f"node-name={name},{options}", "--export",
                      f"type=vhost-user-blk,id={name},node-name={name},addr.type=unix,addr.path={socket},writable=on"]
            # 2 is the virtio device type "block".
            self.words.append(f"virtio_uml.device={socket}:2")
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([self.program, *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 10
        while not all(os.path.exists(os.path.join(self.sockets, name)) for name, _ in disks):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                with open(self.log_path, errors="replace") as log:
                    raise GuestError("qemu-storage-daemon: " + log.read()[-500:])
            time.sleep(0.02)

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.sockets, ignore_errors=True)

    def pids(self):
        return tree(self.process.pid)


def tree(root):
    """A process and all that come from it."""
    children = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as f:
                stat = f.read()
        except OSError:
            continue
        parent = int(stat[stat.rindex(b")") + 2:].split()[1])
        children.setdefault(parent, []).append(int(name))
    found, at = [root], 0
    while at < len(found):
        found += children.get(found[at], [])
        at += 1
    return found


class Usage:
    """What processes have used until now: differences of two are of interest."""

    def __init__(self, pids):
        self.cpu_ns = {}
        self.wait_ns = {}
        self.switches = {}
        for pid in pids:
            try:
                tasks = os.listdir(f"/proc/{pid}/task")
            except OSError:
                continue
            for task in tasks:
                self._add(f"/proc/{pid}/task/{task}", int(task))

    def _add(self, path, task):
        try:
            with open(path + "/schedstat") as f:
                run, wait, _ = f.read().split()
            with open(path + "/status") as f:
                switches = sum(int(line.split()[1]) for line in f if "ctxt_switches" in line)
        except OSError:
            return
        self.cpu_ns[task] = int(run)
        self.wait_ns[task] = int(wait)
        self.switches[task] = switches

    def since(self, before):
        """Tasks that ended in between are lost; those that began count from 0."""
        def total(name):
            then, now = getattr(before, name), getattr(self, name)
            return sum(value - then.get(task, 0) for task, value in now.items())
        return {"cpu_ns": total("cpu_ns"), "wait_ns": total("wait_ns"), "switches": total("switches")}


def host_busy_ns():
    """CPU time of all processes of the machine."""
    with open("/proc/stat") as f:
        fields = [int(n) for n in f.readline().split()[1:]]
    tick = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    user, nice, system, _, _, irq, softirq = fields[:7]
    return (user + nice + system + irq + softirq) * tick


def memory_of(pids):
    """KiB of anonymous memory, for those that are no guest's RAM (which is shared)."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/status") as f:
                total += sum(int(line.split()[1]) for line in f if line.startswith("RssAnon"))
        except OSError:
            pass
    return total
