# SPDX-License-Identifier: Apache-2.0
"""mutants.py: see run. Works in a copy of the tree, by replacing text, in one build folder."""
import argparse
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True

from table import MUTANTS

ROOT = pathlib.Path(__file__).resolve().parents[2]
README = ROOT / "tests" / "mutants" / "README.md"
UNIT_SECONDS, PROGRAM_SECONDS = 300, 500
FAILED = re.compile(r"\[  FAILED  \] ([a-z]\w+)$|^not ok (.*)|Assertion `(.*)' failed|ERROR: AddressSanitizer")

INTRO = """# Mutants

Each is one line of the engine's heart, broken on purpose (`table.py`). `run` applies one after the
other to a copy of the tree, builds what is needed, and runs the program that should notice first; a
mutant that survives, or whose text is not in the code exactly once, fails the run. A mutant whose text
is gone is corrected in the table: its line was changed, and the fault is still possible. `nightly` runs
all; the table below is made by the run.

| mutant | killed by | seconds |
| --- | --- | ---: |
"""


class Tree:
    """The copy, and its build folder."""

    def __init__(self):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="towline-mutants-"))
        names = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                               cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout.decode()
        for name in filter(None, names.split("\0")):
            if (ROOT / name).is_file():
                (self.path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.path / name)
        self.run("meson", "setup", "build", "-Dwerror=false")

    def run(self, *words):
        done = subprocess.run(words, cwd=self.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, check=False)
        if done.returncode:
            sys.exit("%s: %s" % (" ".join(words), done.stdout[-3000:]))

    def build(self, suite):
        """Whether it builds."""
        targets = (["tests/unit/" + suite] if suite.startswith("unit_") else
                   ["tests/sim/simulate"] if suite.startswith("simulate") else
                   ["engine/cmd/towline", "tests/libshim.so", "tests/order"])
        words = ["ninja", "-C", "build"] + targets
        return subprocess.run(words, cwd=self.path, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, check=False).returncode == 0

    def remove(self):
        shutil.rmtree(self.path, ignore_errors=True)


def command_of(tree, suite):
    """The words, the environment and the seconds of a suite: `unit_NAME`, or a program below tests with its
    arguments, before which variables may stand."""
    environment = dict(os.environ, UNIT_SEED="1", SCENARIO_SEED="1", SCENARIO_SEEDS="1",
                       TOWLINE_BIN=str(tree.path / "build/engine/cmd/towline"))
    words = suite.split(" ")
    while "=" in words[0]:
        name, value = words.pop(0).split("=", 1)
        environment[name] = value
    if words[0] == "simulate":
        return [str(tree.path / "build/tests/sim/simulate"), "--no-shrink", *words[1:]], environment, PROGRAM_SECONDS
    if words[0].startswith("unit_"):
        return [str(tree.path / "build/tests/unit" / words[0])], environment, UNIT_SECONDS
    arguments = " ".join(words[1:]).split(" --only ")  # a case's name has spaces
    only = ["--only", arguments[1]] if len(arguments) > 1 else []
    first = [word for word in arguments[0].split(" ") if word and word != "--only"]
    if arguments[0].startswith("--only "):
        first, only = [], ["--only", arguments[0][len("--only "):]]
    return ([sys.executable, str(tree.path / "tests" / (words[0] + ".py")), *first, *only], environment,
            PROGRAM_SECONDS)


def first_failure(tree, suite):
    """What failed first, or None when all passed. The program ends at its first failure."""
    words, environment, seconds = command_of(tree, suite)
    process = subprocess.Popen(words, cwd=tree.path, env=environment, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, errors="replace",
                               start_new_session=True)
    over = threading.Event()

    def end(number=signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            pass

    def time_out():
        over.set()
        end()

    timer = threading.Timer(seconds, time_out)
    timer.start()
    found = None
    try:
        for line in process.stdout:
            match = FAILED.search(line.rstrip())
            if match:
                found = next((text for text in match.groups() if text), "AddressSanitizer")
                break
        else:
            process.wait()
    finally:
        timer.cancel()
        end()
        process.stdout.close()
        status = process.wait()
    if found:
        return found.split(": ")[0]
    if over.is_set():
        return "time-out after %d s" % seconds
    return None if status == 0 else "exit status %d" % status


def find(root, mutant):
    """(the text of its file, None), or (None, what is wrong): its own must be in there once."""
    path = root / mutant.file
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    count = text.count(mutant.old)
    if count != 1:
        return None, "its text is in %s %d times instead of once" % (mutant.file, count)
    return text, None


def mutate(tree, mutant):
    """Puts the mutant in; gives back what was there, or says what is wrong."""
    path = tree.path / mutant.file
    text, wrong = find(tree.path, mutant)
    if wrong:
        return None, wrong
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    return text, None


def try_mutant(tree, mutant):
    """(killed by, or None; what is wrong, or None)."""
    before, wrong = mutate(tree, mutant)
    if wrong:
        return None, wrong
    try:
        for suite in mutant.suites:
            if not tree.build(suite):
                return None, "it does not build"
            failure = first_failure(tree, suite)
            if failure:
                return "`%s`: %s" % (suite, failure), None
        return None, "it survives"
    finally:
        (tree.path / mutant.file).write_text(before, encoding="utf-8")


def check_suites(tree, mutants):
    """Unbroken, each suite passes: otherwise what it kills says nothing."""
    bad = {}
    for suite in sorted({suite for mutant in mutants for suite in mutant.suites}):
        began = time.monotonic()
        failure = "it does not build" if not tree.build(suite) else first_failure(tree, suite)
        print("# %s: %s (%.1f s)" % (suite, failure or "passes", time.monotonic() - began), flush=True)
        if failure:
            bad[suite] = failure
    return bad


def read_rows():
    rows = {}
    if README.exists():
        for line in README.read_text(encoding="utf-8").splitlines():
            match = re.match(r"\| (\S+): .* \| .* \| .* \|$", line)
            if match:
                rows[match.group(1)] = line
    return rows


def put_row(name, row):
    """Other rows stay as they are: a run may be of some mutants alone. None: it was not killed."""
    rows = read_rows()
    rows[name] = row
    lines = [rows[mutant.name] for mutant in MUTANTS if rows.get(mutant.name)]
    README.write_text(INTRO + "".join(line + "\n" for line in lines), encoding="utf-8")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="a regular expression: those of whose name, file and suite it takes a part")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--check", action="store_true", help="only whether each one's text is in the code once")
    parser.add_argument("--suite", help="try these against another suite, such as 'simulate --seeds 1000'; the "
                        "README stays as it is")
    arguments = parser.parse_args()
    wanted = [mutant for mutant in MUTANTS if re.search(arguments.only, " ".join(
        (mutant.name, mutant.file) + mutant.suites))]
    if arguments.suite:
        wanted = [mutant._replace(suites=(arguments.suite,)) for mutant in wanted]
    if arguments.list:
        for mutant in wanted:
            print("%s: %s (%s)" % (mutant.name, mutant.what, ", ".join(mutant.suites)))
        return 0
    if arguments.check:
        gone = [(mutant.name, find(ROOT, mutant)[1]) for mutant in wanted]
        gone = [(name, wrong) for name, wrong in gone if wrong]
        for one in gone:
            print("not ok %s: %s" % one)
        return 1 if gone else 0
    tree, failed = Tree(), 0
    try:
        bad = check_suites(tree, wanted)
        for mutant in wanted:
            began = time.monotonic()
            broken = [suite for suite in mutant.suites if suite in bad]
            killer, wrong = (None, "%s fails without it" % broken[0]) if broken else try_mutant(tree, mutant)
            seconds = time.monotonic() - began
            if wrong:
                failed += 1
                print("not ok %s: %s" % (mutant.name, wrong), flush=True)
                if not arguments.suite:
                    put_row(mutant.name, None)
            else:
                print("ok %s: %s (%.1f s)" % (mutant.name, killer, seconds), flush=True)
                if not arguments.suite:
                    put_row(mutant.name, "| %s: %s | %s | %.0f |" % (mutant.name, mutant.what,
                                                                     killer.replace("|", "/"), seconds))
    finally:
        tree.remove()
    print("%d killed, %d not" % (len(wanted) - failed, failed))
    return 1 if failed or not wanted else 0


if __name__ == "__main__":
    sys.exit(main())
