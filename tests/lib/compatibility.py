#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""compatibility.py: the README's compatibility table says what tests show, no more and no less.

A cell "tested against a double" needs a case of that version and topology in the constants that
tests/scenario/versions.py and tests/fault/answers.py make their cases of; "tested on a real server" needs a
line in REAL; "not supported" must have neither. It needs nothing but Python, and prints what is wrong.
"""
import ast
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOUBLE, REAL_SERVER, NONE = "tested against a double", "tested on a real server", "not supported"

# (version, column): which run of this project's tests on a real server showed it: date, commit, programs.
SET = ("2026-11-27, 4.4.6, 7f942d0 and before: scenario/basics, scenario/versions, scenario/ddl; "
       "real/elections, 7 seeds with sets of three, 3 of them unverified; 44669b5 and 10a86b2: seeds 201 to 203")
REAL = {
    ("4.4", "source: replica set"): SET,
    ("4.4", "destination: replica set"): SET,
    ("4.4", "source: sharded cluster"): "2026-11-27, 4.4.6, e4ab447: real/cluster, 5 of 7 seeds, 2 of them unverified; in "
                                        "one a writer met a refusal that the test did not expect, in one the job was not in "
                                        "sync within 120 s on a loaded machine; 44669b5: seeds 201 and 202, with "
                                        "primaries that move and keys that change; 390e490: seeds 203 "
                                        "and 204, which were not in sync within 200 s on a loaded machine before",
    ("4.4", "destination: sharded cluster"): "2026-11-27, 4.4.6, 5b91470 and 44669b5: real/to_cluster, a seed each",
}


def constant(path, name):
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == name:
            return ast.literal_eval(node.value)
    raise KeyError("%s has no %s" % (path, name))


def series(version):
    return ".".join(version.split(".")[:2])


def shown():
    """{column: versions that a case is made of}"""
    pairs = constant("tests/scenario/versions.py", "PAIRS")
    return {"source: replica set": {series(source) for source, _ in pairs},
            "source: sharded cluster": set(map(series, constant("tests/fault/answers.py",
                                                                "MONGOS_VERSIONS"))),
            "destination: replica set": {series(destination) for _, destination in pairs},
            "destination: sharded cluster": set(map(series, constant("tests/scenario/versions.py",
                                                                     "TO_MONGOS"))),
            "destination: standalone": set(map(series, constant("tests/scenario/versions.py",
                                                                "TO_STANDALONE")))}


def table():
    """[(version, column, cell)]"""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- compatibility -->\n(.*?)<!-- /compatibility -->", text, re.S)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in found[1].splitlines()
            if line.startswith("|")]
    columns = rows[0][1:]
    return columns, [(row[0], column, cell) for row in rows[2:] for column, cell in zip(columns, row[1:])]


def problems():
    tested = shown()
    columns, cells = table()
    for column in set(tested) - set(columns):
        yield "no column for %s" % column
    for version, column, cell in cells:
        here = "%s, %s" % (version, column)
        versions = [version] if re.match(r"\d", version) else []
        double = any(one in tested.get(column, ()) for one in versions)
        if cell == DOUBLE and not double:
            yield "%s: no case shows it" % here
        elif cell.startswith(REAL_SERVER) and (version, column) not in REAL:
            yield "%s: no run on a real server is noted in tests/lib/compatibility.py" % here
        elif cell == NONE and (double or (version, column) in REAL):
            yield "%s: a case shows that it is supported" % here
        elif not (cell in (DOUBLE, NONE) or cell.startswith(REAL_SERVER)):
            yield "%s: %r is none of the three" % (here, cell)
    rows = {version for version, _, _ in cells}
    for column, versions in tested.items():
        for version in versions - rows:
            yield "no row for %s, which a case of %s shows" % (version, column)


def main():
    found = list(problems())
    for line in found:
        print("compatibility: " + line)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
