# SPDX-License-Identifier: GPL-2.0-only
"""
coverage.py CORE LIST RUN.json...: judges the coverage of the files in CORE.

Each RUN is what `gcov --json-format --stdout --branch-probabilities` says of one
program; what they say is summed up. LIST names what cannot be covered and why,
see there. The last line is "coverage: N files covered, N complaints".
"""
import json
import os
import re
import sys


class Run:
    """Lines and branches of core's files that one program ran."""

    def __init__(self):
        self.lines = {}  # (file, line): times
        self.branches = {}  # (file, line, function, number): times

    def read(self, path, core):
        with open(path) as stream:
            for document in stream:
                for unit in json.loads(document)["files"]:
                    name = os.path.abspath(unit["file"])
                    if os.path.dirname(name) == core:
                        self.add(os.path.basename(name), unit)

    def add(self, name, unit):
        # The instances of a template begin at the same place, and are one
        # function; a lambda begins elsewhere than the function that it is in.
        begin = {f["name"]: (f["start_line"], f["start_column"]) for f in unit["functions"]}
        for line in unit["lines"]:
            key = (name, line["line_number"])
            self.lines[key] = self.lines.get(key, 0) + line["count"]
            where = begin.get(line.get("function_name"))
            for number, branch in enumerate(line["branches"]):
                key = (name, line["line_number"], where, number)
                self.branches[key] = self.branches.get(key, 0) + branch["count"]

    def merge(self, other):
        for to, what in ((self.lines, other.lines), (self.branches, other.branches)):
            for key, count in what.items():
                to[key] = to.get(key, 0) + count


class Excuse:
    """One entry of the list."""

    HEAD = re.compile(r"^([^,\s]+), (line|(\d+) branch(?:es)?): (.+)$")

    def __init__(self, match):
        self.name, kind, number, self.text = match.groups()
        self.is_line = kind == "line"
        self.branches = int(number or 0)
        self.reason = ""
        self.used = False

    def fits(self, name, text):
        if self.name not in ("*", name):
            return False
        if self.text.endswith("..."):
            return text.startswith(self.text[:-3])
        return text == self.text


def read_excuses(path):
    excuses = []
    with open(path) as stream:
        for number, line in enumerate(stream, 1):
            if line.startswith("#") or not line.strip():
                continue
            if line[0].isspace() and excuses:
                excuses[-1].reason += " " + line.strip()
                continue
            match = Excuse.HEAD.match(line.rstrip())
            if not match:
                sys.exit(f"{path}:{number}: neither an entry nor its reason")
            excuses.append(Excuse(match))
    for excuse in excuses:
        if not excuse.reason:
            sys.exit(f"{path}: {excuse.name}: {excuse.text}: has no reason")
    return excuses


def complain(run, sources, excuses):
    """What did not run and is not excused, one line of text each."""
    missing = {key: [] for key, count in run.lines.items() if not count}
    for (name, line, _, number), count in run.branches.items():
        if not count and run.lines[name, line]:
            missing.setdefault((name, line), []).append(number)
    for (name, line), branches in sorted(missing.items()):
        text = sources[name][line - 1].strip()
        excuse = next((e for e in excuses if e.is_line == (not branches) and e.fits(name, text)), None)
        if excuse:
            excuse.used = True
            if len(branches) <= excuse.branches:
                continue
        what = f"branch {', '.join(map(str, branches))} is not taken" if branches else "does not run"
        yield f"{name}:{line}: {what}: {text}"
    for excuse in excuses:
        if not excuse.used:
            yield f"the list says that this is not covered, but it is, or is not there: {excuse.name}: {excuse.text}"


def share(counts, name):
    mine = [count for key, count in counts.items() if key[0] == name]
    return f"{sum(count > 0 for count in mine)} of {len(mine)}"


def main():
    core, listing, *paths = sys.argv[1:]
    core = os.path.abspath(core)
    sources = {}
    for name in sorted(os.listdir(core)):
        if name.endswith((".cc", ".hh")):
            with open(os.path.join(core, name)) as stream:
                sources[name] = stream.read().split("\n")
    runs = {}
    total = Run()
    for path in paths:
        run = runs[os.path.splitext(os.path.basename(path))[0]] = Run()
        run.read(path, core)
        total.merge(run)

    titles = [f"lines, {name}" for name in runs] + ["lines", "branches"]
    print(f"{'file':14}" + "".join(f"{title:>18}" for title in titles))
    complaints = []
    seen = {name for name, _ in total.lines}
    for name in sources:
        if name in seen:
            columns = [share(run.lines, name) for run in runs.values()]
            columns += [share(total.lines, name), share(total.branches, name)]
            print(f"{name:14}" + "".join(f"{column:>18}" for column in columns))
        elif name.endswith(".cc"):
            complaints.append(f"{name}: is in neither program")
    excuses = read_excuses(listing)
    complaints += complain(total, sources, excuses)
    print("not covered, and why:")
    for excuse in excuses:
        print(f"  {excuse.name}: {excuse.text}\n     {excuse.reason}")
    for complaint in complaints:
        print(f"NOT COVERED  {complaint}")
    print(f"coverage: {len(seen)} files covered, {len(complaints)} complaints")
    return bool(complaints)


if __name__ == "__main__":
    sys.exit(main())
