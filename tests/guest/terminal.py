# SPDX-License-Identifier: GPL-2.0-only
"""
terminal.py TOP DISK BUSY: runs ubd-top on a terminal of its own, as somebody would who
looks, makes the window larger and smaller, presses keys, and goes. Ends with
status 1 and says why when something is not as it should be.

DISK and BUSY are two of the many; BUSY is not the first, and has something to do.

The terminal knows the sequences that ubd-top uses, and no other; it does not
bear a text that runs over the right edge or scrolls.
"""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time

PATIENCE = 20


def fail(what):
    print(f"terminal: {what}")
    sys.exit(1)


class Terminal:
    SEQUENCE = re.compile(rb"\033\[(\??[0-9;]*)([A-Za-z])")

    def __init__(self, rows, columns):
        self.rows, self.columns = rows, columns
        self.grid = []
        self.row = self.column = 0
        self.other = self.cursor_hidden = False
        self.clears = 0
        self.rest = b""
        self.erase(0, 0)

    def erase(self, row, column):
        del self.grid[row + 1 :]
        while len(self.grid) <= row:
            self.grid.append("")
        self.grid[row] = self.grid[row][:column]

    def feed(self, data):
        data = self.rest + data
        self.rest = b""
        while data:
            if data[:1] == b"\033":
                match = self.SEQUENCE.match(data)
                if not match:
                    if len(data) > 16:
                        fail(f"an unknown sequence: {data[:16]}")
                    self.rest = data
                    return
                self.obey(match[1].decode(), match[2].decode())
                data = data[match.end() :]
                continue
            self.put(chr(data[0]))
            data = data[1:]

    def obey(self, number, letter):
        if number + letter in ("?1049h", "?1049l"):
            self.other = letter == "h"
        elif number + letter in ("?25h", "?25l"):
            self.cursor_hidden = letter == "l"
        elif number + letter == "H":
            self.row = self.column = 0
        elif number + letter == "2J":
            self.grid = [""]
            self.clears += 1
        elif number + letter == "J":
            self.erase(self.row, self.column)
        elif number + letter == "K":
            self.touch()
            self.grid[self.row] = self.grid[self.row][: self.column]
        else:
            fail(f"an unknown sequence: ESC [ {number}{letter}")

    def touch(self):
        while len(self.grid) <= self.row:
            self.grid.append("")

    def put(self, letter):
        if letter == "\r":
            self.column = 0
        elif letter == "\n":
            self.row += 1
            if self.row >= self.rows:
                fail(f"it scrolls, with {self.rows} rows")
        elif letter < " " or letter > "~":
            fail(f"a strange character: {ord(letter)}")
        else:
            if self.column >= self.columns:
                fail(f"a line runs over the edge, with {self.columns} columns: {self.grid[self.row]}")
            self.touch()
            line = self.grid[self.row].ljust(self.column)
            self.grid[self.row] = line[: self.column] + letter + line[self.column + 1 :]
            self.column += 1

    def line(self, begin):
        return next((line for line in self.grid if line.startswith(begin)), None)


class Session:
    """ubd-top on such a terminal."""

    def __init__(self, rows, columns, *command):
        self.screen = Terminal(rows, columns)
        master, slave = pty.openpty()
        self.master, self.slave = master, slave
        self.resize(rows, columns, tell=False)
        self.modes = termios.tcgetattr(slave)
        self.pid = os.fork()
        if not self.pid:
            os.close(master)
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
            for fd in range(3):
                os.dup2(slave, fd)
            os.execv(command[0], command)

    def resize(self, rows, columns, tell=True):
        self.screen.rows, self.screen.columns = rows, columns
        self.screen.clears = 0
        # The kernel sends SIGWINCH.
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        if tell:
            # What was drawn for the former size is of no interest.
            drawn = b""
            while b"\033[2J" not in drawn:
                drawn += self.read("nothing is drawn anew after a resize")
            at = drawn.rindex(b"\033[H\033[2J")
            self.screen.rest = b""
            self.screen.feed(drawn[at:])

    def read(self, complaint):
        ready, _, _ = select.select([self.master], [], [], PATIENCE)
        if not ready:
            fail(f"{complaint}; the screen is {self.screen.grid}")
        # To the end of what is drawn at once.
        data = b""
        while select.select([self.master], [], [], 0.1)[0]:
            data += os.read(self.master, 65536)
        return data

    def drop(self, seconds):
        """Lets it draw what nobody looks at."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if select.select([self.master], [], [], 0.05)[0]:
                os.read(self.master, 65536)

    def until(self, condition, complaint):
        """Reads until the screen is so."""
        deadline = time.monotonic() + PATIENCE
        while not condition(self.screen):
            if time.monotonic() > deadline:
                fail(f"{complaint}; the screen is {self.screen.grid}")
            self.screen.feed(self.read(complaint))

    def key(self, key):
        os.write(self.master, key.encode())

    def ended(self, wanted, what):
        deadline = time.monotonic() + PATIENCE
        while True:
            while select.select([self.master], [], [], 0.05)[0]:
                self.screen.feed(os.read(self.master, 65536))
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > deadline:
                fail(f"{what}: it does not end")
        if os.waitstatus_to_exitcode(status) != wanted:
            fail(f"{what}: ends with {os.waitstatus_to_exitcode(status)}")

    def as_before(self, what):
        if self.screen.other or self.screen.cursor_hidden:
            fail(f"{what}: the terminal still shows the other screen, or no cursor")
        if termios.tcgetattr(self.slave) != self.modes:
            fail(f"{what}: the terminal's modes are not as before")

    def close(self):
        os.close(self.master)
        os.close(self.slave)


def titles(screen):
    return [word for line in screen.grid if line.startswith("disk ") for word in line.split()[1:]]


def look(top, disk):
    s = Session(30, 80, top, "-d", "0.3")
    s.until(lambda t: t.line(disk), "the disk is not shown")
    if not s.screen.other or not s.screen.cursor_hidden:
        fail("it draws where the shell's text is, or with a cursor")
    if termios.tcgetattr(s.slave)[3] & (termios.ECHO | termios.ICANON):
        fail("keys are shown, or wait for a newline")
    all_titles = titles(s.screen)
    if len(all_titles) != 21 or "r/s" not in all_titles or "error" not in all_titles:
        fail(f"not all columns are there: {all_titles}")
    parts = sum(line.startswith(disk + " ") for line in s.screen.grid)
    if parts != 2:
        fail(f"{parts} parts in 80 columns")

    # The next one comes by itself.
    head = s.screen.grid[0]
    s.until(lambda t: t.grid[0] != head, "no next report")

    s.resize(40, 200)
    s.until(lambda t: t.line(disk), "the disk is not shown in a wide window")
    if sum(line.startswith(disk + " ") for line in s.screen.grid) != 1 or titles(s.screen) != all_titles:
        fail("a wide window does not have all in one line")
    s.resize(50, 40)
    s.until(lambda t: titles(t) == all_titles, "a narrow window does not have all columns")
    if max(map(len, s.screen.grid)) > 40:
        fail("wider than the window")
    for rows, columns in ((3, 20), (1, 1), (2, 7), (30, 80)):
        s.resize(rows, columns)
    s.until(lambda t: titles(t) == all_titles, "not all columns after all these sizes")

    # Many sizes, faster than it draws.
    for i in range(200):
        fcntl.ioctl(s.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 1 + i % 40, 1 + i * 7 % 150, 0, 0))
    s.drop(1)
    s.resize(30, 100)
    s.until(lambda t: titles(t) == all_titles, "not all columns after a storm of sizes")

    s.key("\033[A")  # does nothing
    s.key("c")
    s.until(lambda t: t.grid[0].endswith("totals") and "r" in titles(t), "no totals")
    with open(f"/sys/block/{disk}/ubd/read_requests", encoding="ascii") as figure:
        wanted = figure.read().strip()
    s.until(lambda t: t.line(disk) and t.line(disk).split()[1] == wanted, f"reads are not {wanted}")
    s.key("c")
    s.until(lambda t: titles(t) == all_titles, "no rates again")
    s.key("q")
    s.ended(0, "q")
    s.as_before("q")
    s.close()


def busiest(top, first, busy, count):
    """Where not all disks fit, each part has the one that does something."""
    s = Session(2 * count + 8, 80, top, "-d", "0.3")
    s.until(
        lambda t: len([line for line in t.grid[1:] if line]) == 2 * (count + 2) and t.line(busy),
        "not all disks are there where all fit",
    )
    s.resize(9, 80)
    wanted = ["disk", busy, "all", "disk", busy, "all"]
    s.until(
        lambda t: [line.split()[0] for line in t.grid[1:] if line] == wanted,
        "a low window does not have just the busiest disk, in both parts",
    )
    s.resize(11, 80)
    wanted = ["disk", first, busy, "all", "disk", first, busy, "all"]
    s.until(
        lambda t: [line.split()[0] for line in t.grid[1:] if line] == wanted,
        "a window for two does not have the busiest and, of the rest, the first",
    )
    s.key("q")
    s.ended(0, "q")
    s.close()


def number_of_reports(top):
    s = Session(30, 80, top, "-d", "0.1", "-n", "3")
    s.ended(0, "-n 3")
    s.as_before("-n 3")
    s.close()


def signals(top, disk):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        s = Session(30, 80, top, "-d", "60")
        s.until(lambda t: t.line(disk), "the disk is not shown")
        os.kill(s.pid, number)
        s.ended(0, number.name)
        s.as_before(number.name)
        s.close()


def stop_and_go_on(top, disk):
    s = Session(30, 80, top, "-d", "0.3")
    s.until(lambda t: t.line(disk), "the disk is not shown")
    s.key("\x1a")  # ^Z
    pid, status = os.waitpid(s.pid, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        fail("^Z does not stop it")
    while select.select([s.master], [], [], 0.2)[0]:
        s.screen.feed(os.read(s.master, 65536))
    s.as_before("^Z")
    os.kill(s.pid, signal.SIGCONT)
    s.until(lambda t: t.other and t.cursor_hidden and t.line(disk), "it does not go on after ^Z")
    s.key("\x03")  # ^C
    s.ended(0, "^C")
    s.as_before("^C")
    s.close()


def terminal_goes(top, disk):
    s = Session(30, 80, top, "-d", "0.3")
    s.until(lambda t: t.line(disk), "the disk is not shown")
    s.close()
    deadline = time.monotonic() + PATIENCE
    while not os.waitpid(s.pid, os.WNOHANG)[0]:
        if time.monotonic() > deadline:
            fail("it lives on without its terminal")
        time.sleep(0.05)


def main():
    top, disk, busy = sys.argv[1:]
    look(top, disk)
    busiest(top, disk, busy, sum(os.path.exists(f"/sys/block/{name}/ubd") for name in os.listdir("/sys/block")))
    number_of_reports(top)
    signals(top, disk)
    stop_and_go_on(top, disk)
    terminal_goes(top, disk)


main()
