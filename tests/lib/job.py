# SPDX-License-Identifier: Apache-2.0
"""job.py: one `towline run` under test: start it, watch it, drive it, kill it, weigh it.

A Job may be started again and again with the same command, as an operator would after a crash. Its
progress (JSON lines on stdout), its log (stderr), its peak memory and its CPU time are kept; every
wait has a deadline, ends early when the process ends, and its failure shows the end of the log.
"""
import collections
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request

from faults import faults

ROOT = pathlib.Path(__file__).resolve().parents[2]
SECONDS = 120  # the deadline of a wait unless another is given
VERIFY = os.environ.get("SCENARIO_VERIFY", "yes") != "no"
SIGNALS = {signal.SIGKILL: "killed (SIGKILL)", signal.SIGTERM: "stopped (SIGTERM)",
           signal.SIGINT: "stopped (SIGINT)", signal.SIGSTOP: "stands still (SIGSTOP)"}

# Exit statuses as documented in engine/towline.h and the README.
EXIT = {"ok": 0, "internal": 1, "option": 2, "unreachable": 3, "unsuitable": 4, "conflict": 5,
        "settings": 6, "lease": 7, "server": 8, "history": 9, "spool": 10, "index": 11,
        "verify": 12, "not-in-sync": 13, "state": 14, "control": 15, "interrupted": 16,
        "cancelled": 17, "expired": 18, "timeout": 19, "called-off": 20, "output": 21}


class JobError(AssertionError):
    """A job did not do what was waited for; the message carries the end of its log."""


class ApiError(Exception):
    """The control API refused: .name and .description are its words, .status the HTTP status."""

    def __init__(self, status, body):
        self.status, self.body = status, body
        self.name = body.get("error", "")
        self.description = body.get("errorDescription", "")
        super().__init__("HTTP %d %s: %s" % (status, self.name, self.description))


def binary():
    return os.environ.get("TOWLINE_BIN", str(ROOT / "build" / "engine" / "cmd" / "towline"))


def free_port():
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def clean_environment():
    """Without TOWLINE_* twins of options, which would change the command under test."""
    kept = ("TOWLINE_BIN", "TOWLINE_TEST_MONGOD", "TOWLINE_TEST_LEAKS")
    return {name: value for name, value in os.environ.items()
            if not name.startswith("TOWLINE_") or name in kept}


def token():
    """What requests to a control server must show: the user's own secret, made by the first server."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    with open(os.path.join(state, "towline", "token"), encoding="ascii") as file:
        return file.read().strip()


def towline(*arguments, timeout=SECONDS, environment=None):
    """Runs the program to its end: a CompletedProcess with .stdout and .stderr as text."""
    return subprocess.run([binary(), *map(str, arguments)], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          errors="replace", timeout=timeout,
                          env=dict(clean_environment(), **(environment or {})))


def stamp(position):
    """A position {"t", "i"} as a tuple that compares by time; (0, 0) when there is none yet."""
    return (position["t"], position["i"]) if position else (0, 0)


class Job:
    """`towline run` from source to destination (URIs) with further options as on the command line.

    options: keywords become options, `keep_state=True` is --keep-state, a list repeats its option.

    Unless its test says otherwise its verification repairs nothing, so that what replay and copy left
    wrong stays wrong and is seen; with SCENARIO_VERIFY=no it does not verify at all, and the independent
    comparison alone judges.
    """

    def __init__(self, source, destination, name="test", cutover="manual", **options):
        self.source, self.destination, self.name = source, destination, name
        self.port = free_port()
        self.folder = tempfile.mkdtemp(prefix="towline-job-")
        self.summary_file = os.path.join(self.folder, "summary.json")
        self.options = {"cutover": cutover, "range-size": 1,  # many ranges also of little data
                        "verify_repair": "no", "no_verify": not self._verifies(options),
                        "spool": os.path.join(self.folder, "spool"),
                        "summary": self.summary_file, "progress": "json", "lease": "3s",
                        "listen": "127.0.0.1:%d" % self.port, **options}
        self.process = self.status = None
        self.ended = threading.Event()
        self.changed = threading.Condition()
        self.progress, self.output = {}, ""      # guarded by changed
        self.phases = []                         # guarded by changed; every phase that was seen
        self.log = collections.deque(maxlen=400)  # guarded by changed; over all starts
        self.peak_bytes, self.cpu_seconds, self.starts = 0, 0.0, 0

    @staticmethod
    def _verifies(options):
        """A test that says how to verify is about the verification."""
        return VERIFY or any(option.startswith("verify_") for option in options)

    def command(self):
        words = [binary(), "run", "--source", self.source, "--destination", self.destination,
                 "--job", self.name]
        for option, value in self.options.items():
            option = "--" + option.replace("_", "-")
            for item in value if isinstance(value, (list, tuple)) else [value]:
                if item is True:
                    words.append(option)
                elif item is not False and item is not None:
                    words += [option, str(item)]
        return words

    def start(self):
        """Starts the process; from the main thread only, whose end would end the process too."""
        assert self.process is None or self.ended.is_set(), "the job runs already"
        words = self.command()
        if shutil.which("setpriv"):  # the job must not outlive a test that is killed
            words = ["setpriv", "--pdeathsig", "KILL"] + words
        self.ended.clear()
        self.status = None
        with self.changed:
            self.progress, self.output = {}, ""
            self.log.append("--- start %d\n" % (self.starts + 1))
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, errors="replace",
                                        env=clean_environment())
        self.starts += 1
        readers = [threading.Thread(target=self._read_progress, args=(self.process.stdout,)),
                   threading.Thread(target=self._read_log, args=(self.process.stderr,))]
        watchers = [threading.Thread(target=self._weigh, args=(self.process.pid,)),
                    threading.Thread(target=self._reap, args=(self.process, readers))]
        for thread in readers + watchers:
            thread.daemon = True
            thread.start()
        return self

    # What the threads do ------------------------------------------------------------------------

    def _read_progress(self, stream):
        for line in stream:
            try:
                progress = json.loads(line) if line.startswith("{") else None
            except ValueError:
                progress = None
            with self.changed:
                if progress is None:
                    self.output += line  # the summary table
                else:
                    self._note(progress)
                self.changed.notify_all()

    def _note(self, progress):
        self.progress = progress.get("progress", progress)
        phase = self.progress.get("phase")
        if phase and (not self.phases or self.phases[-1] != phase):
            self.phases.append(phase)

    def _read_log(self, stream):
        for line in stream:
            with self.changed:
                self.log.append(line)

    def _weigh(self, pid):
        """VmHWM only grows, so the last sample before the end is the peak but for 20 ms."""
        while not self.ended.wait(0.02):
            try:
                with open("/proc/%d/status" % pid) as status:
                    for line in status:
                        if line.startswith("VmHWM:"):
                            self.peak_bytes = max(self.peak_bytes, int(line.split()[1]) * 1024)
            except OSError:
                return

    def _reap(self, process, readers):
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        for reader in readers:
            reader.join()
        self.cpu_seconds += usage.ru_utime + usage.ru_stime
        self.status = process.returncode
        self.ended.set()
        with self.changed:
            self.changed.notify_all()

    # Watching -----------------------------------------------------------------------------------

    def tail(self, lines=25):
        with self.changed:
            return "".join(list(self.log)[-lines:])

    def error_line(self):
        """The line `towline: …` that says why the program ended, or ""."""
        with self.changed:
            lines = [line.strip() for line in self.log if line.startswith("towline: ")]
        return lines[-1] if lines else ""

    def fail(self, text):
        with self.changed:
            progress = json.dumps(self.progress)
        raise JobError("%s; last progress %s; end of its log:\n%s" % (text, progress, self.tail()))

    def running(self):
        return self.process is not None and not self.ended.is_set()

    def api(self, method, path, body="{}", timeout=20):
        """One request to the control server, with `body` (text) for a POST; ApiError: it refuses, OSError: it is not there."""
        request = urllib.request.Request(
            "http://127.0.0.1:%d/api/v1/%s" % (self.port, path), method=method,
            data=body.encode() if method == "POST" else None,
            headers={"Content-Type": "application/json", "Authorization": "Bearer " + token()})
        try:
            with urllib.request.urlopen(request, timeout=timeout) as reply:
                return json.loads(reply.read())
        except urllib.error.HTTPError as error:
            text = error.read()
            try:
                body = json.loads(text)
            except ValueError:
                body = {"error": "NotJson", "errorDescription": repr(text[:200])}
            raise ApiError(error.code, body) from None

    def now(self):
        """Progress as of this moment; {} while the control server does not answer."""
        try:
            progress = self.api("GET", "progress")
        except (OSError, ValueError):
            return {}
        progress = progress.get("progress", progress)
        with self.changed:
            self._note(progress)
        return progress

    def wait_for(self, what, condition, timeout=SECONDS):
        """Waits until condition(progress) is true and returns that progress. The job has no way to
        tell when, so it is asked every few milliseconds."""
        deadline = time.monotonic() + timeout
        while True:
            progress = self.now()
            if progress and condition(progress):
                return progress
            if self.ended.wait(0.01):
                self.fail("the job ended with status %s while it was waited for %s"
                          % (self.status, what))
            if time.monotonic() > deadline:
                self.fail("no %s within %d s" % (what, timeout))

    def wait_phase(self, *phases, timeout=SECONDS):
        return self.wait_for(" or ".join(phases), lambda progress: progress["phase"] in phases,
                             timeout)

    def wait_or_end(self, what, condition, timeout=SECONDS):
        """The progress for which condition is true, or None when the job ended before."""
        deadline = time.monotonic() + timeout
        while not self.ended.wait(0.01):
            progress = self.now()
            if progress and condition(progress):
                return progress
            if time.monotonic() > deadline:
                self.fail("neither %s nor the end within %d s" % (what, timeout))
        return None

    def wait_in_sync(self, timeout=SECONDS):
        return self._well(self.wait_for("in-sync with canCommit", lambda progress:
                                        progress["phase"] == "in-sync" and progress["canCommit"],
                                        timeout))

    @staticmethod
    def _well(progress):
        faults.recovered()
        return progress

    def wait_caught_up(self, client, timeout=SECONDS):
        """Waits until everything that `client`'s source wrote so far is settled."""
        goal = source_time(client)
        return self._well(self.wait_for("floor at %s" % (goal,), lambda progress:
                                        stamp(progress["positions"]["floor"]) >= goal, timeout))

    def wait(self, timeout=SECONDS):
        """The exit status."""
        if not self.ended.wait(timeout):
            self.fail("the job did not end within %d s" % timeout)
        return self.status

    def wait_done(self, timeout=SECONDS):
        if self.wait(timeout) != 0:
            self.fail("the job ended with status %s" % self.status)
        return self._well(self.summary())

    def summary(self):
        with open(self.summary_file, encoding="utf-8") as file:
            return json.load(file)

    def repaired(self):
        """What the verification found different and repaired although nobody asked for it, as text; "" when
        there was nothing, and before the end."""
        if self.options["verify_repair"] == "yes" or not os.path.exists(self.summary_file):
            return ""
        report = self.summary().get("verification") or {}
        if not report.get("differencesTotal") and not report.get("repaired"):
            return ""
        return "job %s: its verification found %s differences and repaired %s, first %s" % (
            self.name, report["differencesTotal"], report["repaired"], report["differences"][:1])

    # Driving ------------------------------------------------------------------------------------

    def pause(self):
        self.api("POST", "pause")
        return self.wait_phase("paused")

    def resume(self):
        return self.api("POST", "resume")

    def commit(self, timeout=SECONDS):
        """Asks for the cutover, again while the job says that it is not in sync yet."""
        deadline = time.monotonic() + timeout
        while True:
            self.wait_for("canCommit", lambda progress: progress["canCommit"],
                          max(1, deadline - time.monotonic()))
            try:
                return self.api("POST", "commit")
            except ApiError as error:
                if time.monotonic() > deadline:
                    self.fail("commit refused: %s" % error)

    def finish(self, timeout=SECONDS):
        """Cuts over and returns the summary of a job that ended well."""
        self.commit(timeout)
        return self.wait_done(timeout)

    def signal(self, number):
        if not self.running():
            return
        if number in SIGNALS:
            with self.changed:
                phase = self.progress.get("phase", "before its first word")
            faults.injected("engine %s, %s" % (SIGNALS[number], phase))
        os.kill(self.process.pid, number)

    def kill(self):
        """SIGKILL, and its process is gone when this returns."""
        self.signal(signal.SIGKILL)
        return self.wait()

    def close(self):
        """Ends whatever still runs and removes the job's folder."""
        if self.running():
            os.kill(self.process.pid, signal.SIGKILL)
            self.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def source_time(client):
    """The last majority operation time of a replica set, as a tuple."""
    written = client.admin.command("hello")["lastWrite"]
    time_of = written.get("majorityOpTime", written["opTime"])["ts"]
    return (time_of.time, time_of.inc)
