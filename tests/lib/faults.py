# SPDX-License-Identifier: Apache-2.0
"""faults.py: counts what tests break on purpose, and what became of it.

A fault is open from its moment on. It is recovered when the job is in sync, caught up or done again, and
the differences that the next comparison finds are its own. One that is still open when its case has
passed ended the job with the error that the case asked for: it was told. The libraries that break
things (job.py, proxy.py, scenario.py, wire.py) call this; a program calls it for what it breaks itself.

    faults.py FILE…     prints the table of what programs added to these files (SCENARIO_FAULTS)
"""
import collections
import json
import os
import sys
import threading
import time

_COLUMNS = ("injected", "recovered", "told", "differences", "longest")


class Faults:
    def __init__(self):
        self.lock = threading.Lock()
        self.open, self.uncompared = [], []  # [(name, moment)], [name]; guarded by lock, as is the table
        self.table = collections.defaultdict(lambda: dict.fromkeys(_COLUMNS, 0))

    def injected(self, name, times=1):
        with self.lock:
            self.table[name]["injected"] += times
            self.open += [(name, time.monotonic())] * times

    def recovered(self):
        with self.lock:
            now = time.monotonic()
            for name, moment in self.open:
                row = self.table[name]
                row["recovered"] += 1
                row["longest"] = max(row["longest"], now - moment)
                self.uncompared.append(name)
            self.open = []

    def compared(self, differences):
        with self.lock:
            for name in set(self.uncompared):
                self.table[name]["differences"] += differences
            self.uncompared = []

    def case_ended(self, passed):
        with self.lock:
            for name, _ in self.open if passed else ():
                self.table[name]["told"] += 1
            self.open, self.uncompared = [], []

    def save(self):
        """Adds what was counted to the file that SCENARIO_FAULTS names, if any."""
        path = os.environ.get("SCENARIO_FAULTS")
        if path and self.table:
            with open(path, "a", encoding="utf-8") as file:
                for name, row in self.table.items():
                    file.write(json.dumps({"fault": name, **row}) + "\n")
        self.table.clear()


faults = Faults()


def total(paths):
    rows = collections.defaultdict(lambda: dict.fromkeys(_COLUMNS, 0))
    for path in paths:
        with open(path, encoding="utf-8") as file:
            for line in map(json.loads, file):
                row = rows[line["fault"]]
                for column in _COLUMNS[:-1]:
                    row[column] += line[column]
                row["longest"] = max(row["longest"], line["longest"])
    return rows


def main():
    rows = total(path for path in sys.argv[1:] if os.path.exists(path))
    print("| fault | injected | recovered | ended with its error | differences | longest recovery, s |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name in sorted(rows):
        row = rows[name]
        print("| %s | %d | %d | %d | %d | %.1f |" % (name, *(row[column] for column in _COLUMNS)))
    print("| all | %d | %d | %d | %d | %.1f |" % (
        *(sum(row[column] for row in rows.values()) for column in _COLUMNS[:-1]),
        max((row["longest"] for row in rows.values()), default=0)))


if __name__ == "__main__":
    main()
