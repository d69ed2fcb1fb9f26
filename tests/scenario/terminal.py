#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""terminal.py: what a terminal shows of a job: one block that log lines, a resize and ^C never break."""
import codecs
import contextlib
import fcntl
import os
import pathlib
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
import unicodedata

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True

from job import EXIT, binary, clean_environment, free_port
from scenario import Scenario, scaled

SECONDS = 60
LABELS = ("phase", "copied", "changes", "verified", "cutover", "next", "source", "destination", "retries", "not yet")
LOG = re.compile(r"^\d{4}-\d\d-\d\dT\S+Z +(debug|info|warning|error) ")


class Screen:
    """What a terminal makes of the bytes; it breaks long lines, also those that are there when it becomes
    narrower, as most do."""

    def __init__(self, columns, rows):
        self.columns, self.rows = columns, rows
        self.lines, self.row, self.column = [""], 0, 0
        self.cursor, self.unknown, self.broken = True, [], 0
        self.rest, self.decoder = "", codecs.getincrementaldecoder("utf-8")("strict")

    def feed(self, data):
        text = self.rest + self.decoder.decode(data)
        self.rest = ""
        while text:
            found = re.match(r"\x1b\[(\??)(\d*)([A-Za-z])", text)
            if found:
                self.control(*found.groups())
                text = text[found.end():]
            elif text[0] == "\x1b" and len(text) < 12 and not re.match(r"\x1b\[\??\d*[^\d?]", text):
                self.rest = text
                return
            else:
                self.put(text[0])
                text = text[1:]

    def control(self, private, number, letter):
        if private and number == "25":
            self.cursor = letter == "h"
        elif letter == "A":
            self.row = max(self.row - int(number or 1), len(self.lines) - self.rows, 0)
        elif letter == "J" and not number:
            self.lines[self.row] = self.lines[self.row][:self.column]
            del self.lines[self.row + 1:]
        elif letter != "m":
            self.unknown.append("%s%s%s" % (private, number, letter))

    def put(self, letter):
        if letter == "\r":
            self.column = 0
        elif letter == "\n":
            self.down()
        else:
            cells = 2 if unicodedata.east_asian_width(letter) in "WF" else 1
            if self.column + cells > self.columns:
                self.broken += 1
                self.down()
                self.column = 0
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[:self.column] + letter + line[self.column + 1:]
            self.column += cells

    def down(self):
        self.row += 1
        if self.row == len(self.lines):
            self.lines.append("")

    def resize(self, columns):
        lines, row = [], 0
        for number, line in enumerate(self.lines):
            if number == self.row:
                row = len(lines)
            lines += [line[at:at + columns] for at in range(0, len(line), columns)] or [""]
        self.lines, self.columns, self.row = lines, columns, row


class Terminal:
    """A program with a terminal of its own."""

    def __init__(self, words, columns, rows=40, **environment):
        self.screen, self.raw = Screen(columns, rows), b""
        self.file, inner = pty.openpty()
        self.resize(columns, rows)
        self.process = subprocess.Popen([binary(), *words], stdin=inner, stdout=inner, stderr=inner, close_fds=True,
                                        start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
                                        env={**clean_environment(), "TERM": "xterm", **environment})
        os.close(inner)

    def resize(self, columns, rows=40):
        while select.select([self.file], [], [], 0)[0]:  # what was drawn for the size of before
            self.read(0)
        fcntl.ioctl(self.file, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        if self.screen.columns != columns:
            self.screen.resize(columns)

    def read(self, seconds):
        """False: the program closed it."""
        if select.select([self.file], [], [], seconds)[0]:
            try:
                data = os.read(self.file, 65536)
            except OSError:
                return False
            self.raw += data
            self.screen.feed(data)
            return bool(data)
        return True

    def wait_for(self, what, condition):
        deadline = time.monotonic() + SECONDS
        while not condition(self):
            if not self.read(0.1) or time.monotonic() > deadline:
                raise AssertionError("no %s:\n%s" % (what, "\n".join(self.screen.lines)))

    def type(self, text):
        os.write(self.file, text.encode())

    def end(self):
        while self.read(SECONDS):
            pass
        return self.process.wait(SECONDS)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.file)


def block_of(terminal):
    """The lines of the block, which is all from the last line `phase` to the cursor."""
    lines = terminal.screen.lines
    first = max((n for n, line in enumerate(lines) if line.startswith("phase ")), default=None)
    return lines[first:terminal.screen.row] if first is not None else []


def expect_whole(scenario, terminal):
    """One block at the end, log lines above it, and nothing between."""
    lines = terminal.screen.lines
    heads = [n for n, line in enumerate(lines) if line.startswith("phase ")]
    shown = "\n".join(lines)
    scenario.expect(len(heads) == 1, "%d blocks:\n%s" % (len(heads), shown))
    for line in lines[heads[0]:terminal.screen.row]:
        scenario.expect(line.startswith((*(label + " " for label in LABELS), "  ")) and
                        len(line) < terminal.screen.columns, "'%s' in the block:\n%s" % (line, shown))
    scenario.expect(terminal.screen.row == len(lines) - 1 and lines[-1] == "" and terminal.screen.cursor,
                    "the cursor is elsewhere, or hidden:\n%s" % shown)
    scenario.expect(not terminal.screen.unknown, str(terminal.screen.unknown))
    scenario.expect(sum("phase: " in line for line in lines[:heads[0]]) == shown.count("phase: "), shown)


def words_of(scenario, pair, name, *more):
    return ["run", "--source", pair.source.uri, "--destination", pair.destination.uri, "--job", name, "--lease", "3s",
            "--listen", "127.0.0.1:%d" % free_port(), "--no-token", "--spool", scenario.folder(), *more]


def in_sync(terminal):
    return "in-sync" in "".join(block_of(terminal)[:1]) and "cutover" in "".join(block_of(terminal))


def one_block(scenario, pair, columns):
    """From the start to ^C, with every log line that there is, at one width and then at another."""
    words = words_of(scenario, pair, "block%d" % columns, "--log-level", "debug")
    with contextlib.closing(Terminal(words, columns)) as terminal:
        terminal.wait_for("block", block_of)
        terminal.wait_for("in sync", in_sync)
        expect_whole(scenario, terminal)
        for name in range(3):  # each a line of the log while the block stands
            pair.source.client["more"].create_collection("n%d_%d" % (columns, name))
            logged = b"n%d_%d" % (columns, name)
            terminal.wait_for("a log line", lambda terminal: logged in terminal.raw)
            terminal.wait_for("end of the frame", lambda terminal: terminal.raw.endswith(b"\x1b[?25h"))
            expect_whole(scenario, terminal)
        for width in (30, 120):
            before = len(terminal.raw)
            terminal.resize(width)
            terminal.wait_for("a frame of %d columns" % width, lambda terminal: len(terminal.raw) > before and
                              terminal.raw.endswith(b"\x1b[?25h"))
            expect_whole(scenario, terminal)
        terminal.type("\x03")
        scenario.expect(terminal.end() == EXIT["interrupted"], "exit status %s" % terminal.process.returncode)
        lines = [line for line in terminal.screen.lines if line]
        shown = "\n".join(lines)
        scenario.expect(lines[-1] == "towline: stopped, resumable: run the same command again to go on", shown)
        scenario.expect(not block_of(terminal) and "Summary" not in shown and terminal.screen.cursor, shown)
        scenario.expect(b"\x1b[32m" in terminal.raw, "no colours")


def to_the_end(scenario, pair):
    """The block goes, the summary comes; without colours where NO_COLOR asks for none."""
    with contextlib.closing(Terminal(words_of(scenario, pair, "end", "--cutover", "auto"), 80, NO_COLOR="1")) as terminal:
        terminal.wait_for("block", block_of)
        scenario.expect(terminal.end() == 0, "\n".join(terminal.screen.lines))
        shown = "\n".join(terminal.screen.lines)
        scenario.expect("Summary of job end: done" in shown and not block_of(terminal) and
                        "connect to" in terminal.screen.lines[-2], shown)
        scenario.expect(not re.search(rb"\x1b\[\d*m", terminal.raw), "colours")


def without_a_cursor(scenario, pair):
    """TERM=dumb: lines, and no escape sequence."""
    words = words_of(scenario, pair, "dumb", "--cutover", "auto")
    with contextlib.closing(Terminal(words, 80, TERM="dumb")) as terminal:
        scenario.expect(terminal.end() == 0, "\n".join(terminal.screen.lines))
        scenario.expect(b"\x1b" not in terminal.raw and b"Summary" in terminal.raw, repr(terminal.raw[:2000]))


def watched(scenario, pair):
    """`status --watch` draws the same block; ^C leaves the job alone."""
    words = words_of(scenario, pair, "watched")
    with contextlib.closing(Terminal(words, 80)) as job:
        job.wait_for("in sync", in_sync)
        address = words[words.index("--listen") + 1]
        with contextlib.closing(Terminal(["status", "--watch", "--no-token", "--listen", address], 45)) as terminal:
            terminal.wait_for("block", in_sync)
            expect_whole(scenario, terminal)
            terminal.type("\x03")
            terminal.end()
            scenario.expect(terminal.screen.cursor, "the cursor is hidden")
        scenario.expect(job.process.poll() is None, "the job ended")
        job.type("\x03")
        job.end()


def compared(scenario, pair):
    words = ["verify", "--source", pair.source.uri, "--destination", pair.destination.uri, "--log-level", "debug"]
    with contextlib.closing(Terminal(words, 45)) as terminal:
        terminal.end()
        shown = "\n".join(terminal.screen.lines)
        scenario.expect("Verification: " in shown and "\ncompared" not in shown, shown)


def main():
    with Scenario(__doc__) as scenario:
        pair = scenario.pair()
        pair.source.client["shop"]["orders"].insert_many([{"_id": n, "pad": "x" * 500} for n in range(scaled(20000, 500))])
        pair.source.client["shop"]["注文" * 20].insert_many([{"_id": n} for n in range(500)])
        cases = [("one block at %d columns" % columns, lambda s, p, columns=columns: one_block(s, p, columns))
                 for columns in (45, 80, 200)]
        cases += [("the summary takes the block's place", to_the_end), ("verify", compared), ("TERM=dumb", without_a_cursor),
                  ("status --watch", watched)]
        for name, case in cases:
            if scenario.arguments.only in name:
                scenario.reset(pair.destination)
                with scenario.case(name):
                    case(scenario, pair)


if __name__ == "__main__":
    main()
