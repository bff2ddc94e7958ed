#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""The commands of the documentation, and what they are shown to print.

docs.py run PAGE		runs the console blocks of a page, in one shell in the
				directory that it is started in
docs.py others TOP TESTS	looks that each block of commands of all other pages is
				marked with the test that runs it, and that there is
				such a test (a file with their names)
docs.py block PAGE BEGIN	prints the lines of the block of commands that has a line
				which begins so
docs.py messages TOP PAGE	compares the messages of a page with the driver's sources
"""

import glob
import os
import re
import subprocess
import sys

MARK = re.compile(r'<!-- (run by|not run): (.*?) -->|^\.\\" (run by|not run): (.*)$')
# What a line of commands begins with, where blocks are not fenced.
WORDS = ('make', 'build/', 'tests/', 'insmod', 'linux', 'ubd-', 'echo', 'cat ', 'cd ', 'mount', 'mkdir', 'fio', '/usr/',
         'qemu-', 'truncate', 'tools/', 'git ', 'cp ', 'sed ', 'sudo ')


def console_blocks(text):
    """Yields [(command, [expected lines])] for each fenced console block."""
    for block in re.findall(r'^```console\n(.*?)^```', text, re.S | re.M):
        steps = []
        for line in block.splitlines():
            if line.startswith('$ '):
                steps.append([line[2:], []])
            elif line.startswith('> ') or line == '>':
                steps[-1][0] += '\n' + line[2:]
            else:
                steps[-1][1].append(line)
        yield steps


def matches(expected, got):
    """A line ... stands for any lines, three dots within one for any text."""
    pattern = ''
    for line in expected:
        if line == '...':
            pattern += r'(?:.*\n)*?'
        else:
            pattern += r'.*?'.join(re.escape(part) for part in line.split('...')) + r'\n'
    return re.fullmatch(pattern, got) is not None


def run(page):
    """Each command in turn, all in one shell."""
    steps = [step for block in console_blocks(open(page).read()) for step in block]
    shell = subprocess.Popen(['bash'], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                             errors='replace')
    bad = 0
    for command, expected in steps:
        shell.stdin.write(command + '\necho "--- $?"\n')
        shell.stdin.flush()
        got = []
        for line in shell.stdout:
            if line.startswith('--- '):
                break
            got.append(line.replace('\r', ''))
        else:
            sys.exit(f'the shell has ended in: {command}')
        status = line.split()[1]
        if status != '0' or not matches(expected, ''.join(got)):
            bad += 1
            print(f'$ {command}\nstatus {status}; it printed:\n{"".join(got)}instead of:\n' + '\n'.join(expected) + '\n')
    print(f'{page}: {len(steps)} commands, {bad} of them wrong')
    return bad or not steps


def command_blocks(path):
    """Yields (mark, line number, first line) of what looks like commands."""
    mark, inside, synopsis = None, False, False
    man = not path.endswith('.md')
    for number, line in enumerate(open(path), 1):
        found = MARK.search(line)
        if found:
            mark = tuple(part for part in found.groups() if part)
            continue
        code = line.startswith('\t') if not man else inside
        if man and re.match(r'\.SH SYNOPSIS', line):
            synopsis = True
        elif man and line.startswith('.SH'):
            synopsis = False
        if man and line.startswith('.nf'):
            inside, begun = not synopsis, False
        elif man and line.startswith('.fi'):
            inside, mark = False, None
        elif code and line.strip().startswith(WORDS):
            if not man or not begun:
                yield mark, number, line.strip()
            begun = True
            if not man:
                # The rest of the block is the same one's.
                mark = mark or ('', '')
        elif not man and line.strip() and not code:
            mark = None


def others(top, tests):
    """Each block of commands that is not in the guide."""
    names = set(open(tests).read().split())
    bad, seen = [], set()
    pages = [os.path.join(top, 'README.md')] + sorted(glob.glob(top + '/Documentation/*.md')) + \
        sorted(glob.glob(top + '/Documentation/man/*'))
    for path in pages:
        shown = os.path.relpath(path, top)
        if shown == 'Documentation/guide.md':
            continue
        before = None
        for mark, number, line in command_blocks(path):
            if not mark or not mark[0]:
                if before is None or number != before + 1:
                    bad.append(f'{shown}:{number}: nobody runs this: {line}')
            elif mark[0] == 'run by':
                for name in mark[1].split(', '):
                    if name not in names:
                        bad.append(f'{shown}:{number}: there is no test {name}')
            else:
                seen.add(f'{shown}: not run: {mark[1]}')
            before = number
    print('\n'.join(sorted(seen)))
    print('\n'.join(bad))
    return bad


def block(page, begin):
    """The commands as somebody reads them who copies them from the page."""
    lines, found, inside = [], False, False
    for line in open(page):
        if page.endswith('.md'):
            part, line = line.startswith('\t'), line[1:]
        elif line.startswith(('.nf', '.fi')):
            inside, part = line.startswith('.nf'), False
            if inside:
                continue
        else:
            part, line = inside, line.lstrip('\t')
        if part:
            lines.append(line)
            found = found or line.startswith(begin)
        elif found:
            break
        else:
            lines = []
    print(''.join(lines), end='')
    return not found


def messages(top, page):
    """The table's messages have to be in the sources, whose literals are put together."""
    sources = ''
    for path in glob.glob(top + '/drivers/ubd/*/*.c') + glob.glob(top + '/drivers/ubd/*/*.cc') + \
            glob.glob(top + '/drivers/ubd/*/*.h*'):
        sources += re.sub(r'"\s*\n\s*"', '', open(path).read()) + '\n'
    rows = re.findall(r'^\| `(.*?)` \| (.*?) \|$', open(page).read(), re.M)
    missing = [message for message, _ in rows if message not in sources]
    for message in missing:
        print(f'no source says: {message}')
    print(f'{len(rows)} messages')
    return missing or len(rows) < 20


if __name__ == '__main__':
    sys.exit(1 if globals()[sys.argv[1]](*sys.argv[2:]) else 0)
