# SPDX-License-Identifier: Apache-2.0
"""scenario.py: what every scenario program shares: its arguments, servers, cases and clean-up.

    with Scenario(__doc__) as scenario:
        pair = scenario.pair()
        with scenario.case("name of the case"):
            job = scenario.job(pair)
            …
            scenario.expect(condition, "what was wrong")
        scenario.equal(pair)

A case prints one line, `ok NAME` or `not ok NAME: reason`; details go to stderr. The program's exit
status is 0 when at least one case ran and all passed.
"""
import argparse
import contextlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback

from pymongo import MongoClient

import compare
import corpus
import differences
from faults import faults
from job import ROOT, SECONDS, SIGNALS, Job

SERVERS = os.environ.get("SCENARIO_SERVERS", str(ROOT / "tests" / "lib" / "servers"))
SCALE = float(os.environ.get("SCENARIO_SCALE", "1"))


class Server:
    """One server of tests/lib/servers, which alone knows what it is and how it is started."""

    def __init__(self, sync=False, storage=None, standalone=False, auth=False, tls=None,
                 oplog=None, members=None, cluster=False):
        self.options = ["--sync"] if sync else []
        self.options += ["--standalone"] if standalone else []
        self.options += ["--auth"] if auth else []
        self.options += ["--tls", tls] if tls else []
        self.options += ["--oplog", str(oplog)] if oplog else []
        self.options += ["--members", str(members)] if members else []
        self.options += ["--cluster"] if cluster else []
        self.storage = storage
        if storage:
            self.options += ["--storage", storage]
        self.name = self.pid = self.uri = self._client = None
        self.start()

    def start(self, port=None):
        words = [SERVERS, "start", *self.options, "--for", str(os.getpid())]
        words += ["--port", str(port)] if port else []
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, timeout=SECONDS)
        if done.returncode != 0:
            raise RuntimeError("%s ended with status %d" % (" ".join(words), done.returncode))
        self.name, pid, self.uri = done.stdout.strip().splitlines()[-1].split(None, 2)
        self.pid = int(pid)

    @property
    def client(self):
        if self._client is None:
            self._client = MongoClient(self.uri, appname="towline-scenario",
                                       serverSelectionTimeoutMS=30000)
        return self._client

    @property
    def port(self):
        return int(self.uri.split("//", 1)[1].split("/", 1)[0].split("@")[-1].rsplit(":", 1)[1])

    def kill(self, number=9):
        """Signals the server; for SIGKILL its process is gone when this returns."""
        if number in SIGNALS:
            faults.injected("server " + SIGNALS[number])
        os.kill(self.pid, number)
        deadline = time.monotonic() + 20
        while number == 9 and self.alive():
            if time.monotonic() > deadline:
                raise RuntimeError("server %d is still there after SIGKILL" % self.pid)
            time.sleep(0.01)

    def alive(self):
        try:
            with open("/proc/%d/stat" % self.pid) as file:
                return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
        except OSError:
            return False

    def restart(self):
        """On the same data and port, as after a crash."""
        self.start(self.port)

    def stop(self):
        if self._client is not None:
            self._client.close()
        subprocess.run([SERVERS, "stop", self.name], stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, timeout=SECONDS, check=False)


class Pair:
    """A source and a destination."""

    def __init__(self, source, destination):
        self.source, self.destination = source, destination

    def __iter__(self):
        return iter((self.source, self.destination))

    def uris(self):
        return self.source.uri, self.destination.uri


class Expectation(AssertionError):
    """A case found something that must not be."""


class Scenario:
    def __init__(self, description, arguments=()):
        parser = argparse.ArgumentParser(description=description.split("\n")[0])
        parser.add_argument("--seed", type=int, default=None, help="of the random choices; default: SCENARIO_SEED, else random")
        parser.add_argument("--keep", action="store_true", help="keep the jobs' folders")
        parser.add_argument("--only", default="", help="only the cases whose name holds this, in programs that look at it")
        for name, settings in arguments:
            parser.add_argument(name, **settings)
        self.arguments = parser.parse_args()
        self.seed = self.arguments.seed
        if self.seed is None and "SCENARIO_SEED" in os.environ:
            self.seed = int(os.environ["SCENARIO_SEED"])
        if self.seed is None:
            self.seed = random.SystemRandom().randrange(1 << 31)
        self.random = random.Random(self.seed)
        self.passed = self.failed = 0
        self.servers, self.jobs, self.folders = [], [], []
        self.began = time.monotonic()
        print("# %s --seed %d (scale %g)" % (os.path.basename(sys.argv[0]), self.seed, SCALE),
              flush=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if error is not None and not isinstance(error, (KeyboardInterrupt, SystemExit)):
            traceback.print_exception(kind, error, trace)
            self.report("set-up", "%s: %s" % (kind.__name__, first_line(error)))
        self.clean()
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            return False
        print("# %d passed, %d failed in %.1f s"
              % (self.passed, self.failed, time.monotonic() - self.began), flush=True)
        sys.exit(1 if self.failed or not self.passed else 0)

    def clean(self):
        for job in self.jobs:
            if self.arguments.keep:
                print("# job folder %s" % job.folder)
                if job.running():
                    os.kill(job.process.pid, 9)
            else:
                job.close()
        for server in self.servers:
            server.stop()
        for folder in self.folders:
            shutil.rmtree(folder, ignore_errors=True)
        self.jobs, self.servers, self.folders = [], [], []
        faults.save()

    # Cases --------------------------------------------------------------------------------------

    def report(self, name, reason=None):
        if reason is None:
            self.passed += 1
            print("ok %s" % name, flush=True)
        else:
            self.failed += 1
            print("not ok %s: %s" % (name, reason), flush=True)

    def expect(self, condition, reason):
        """Ends the case with `reason` (text, or a function that makes it) unless it holds."""
        if not condition:
            raise Expectation(reason() if callable(reason) else reason)

    @contextlib.contextmanager
    def case(self, name):
        """What fails inside is reported, and the program goes on behind the case."""
        first_job = len(self.jobs)
        began = time.monotonic()
        try:
            yield
        except Exception as error:  # any failure is this case's failure, and nothing else's
            sys.stderr.write("--- %s\n" % name)
            traceback.print_exc()
            for job in self.jobs[first_job:]:
                sys.stderr.write("--- log of job %s (status %s)\n%s" % (job.name, job.status,
                                                                       job.tail(60)))
            sys.stderr.flush()
            difference = differences.known(sys.argv[0], name)
            if difference:  # it is not counted
                print("# known difference: %s: %s (%s)" % (name, difference, first_line(error)), flush=True)
            else:
                self.report(name, first_line(error))
            faults.case_ended(False)
        else:
            self.report(name)
            faults.case_ended(True)
        if time.monotonic() - began >= 1:
            print("# %s took %.1f s" % (name, time.monotonic() - began), flush=True)

    # What cases need ----------------------------------------------------------------------------

    def server(self, **options):
        server = Server(**options)
        self.servers.append(server)
        return server

    def pair(self, **options):
        return Pair(self.server(**options), self.server(**options))

    def stop_pair(self, pair):
        for server in pair:
            server.stop()
            self.servers.remove(server)

    def folder(self):
        path = tempfile.mkdtemp(prefix="towline-scenario-")
        self.folders.append(path)
        return path

    def secret(self, text):
        """A file that holds it and that nobody else may read, as Towline demands."""
        path = os.path.join(self.folder(), "secret")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text + "\n")
        return path

    def job(self, pair, **options):
        """A new job on the pair, started."""
        job = Job(*pair.uris(), **options)
        self.jobs.append(job)
        return job.start()

    def reset(self, *servers):
        """Drops everything but the servers' own databases, jobs' databases too."""
        for server in servers:
            for name in server.client.list_database_names():
                if name not in compare.INTERNAL:
                    server.client.drop_database(name)

    def fresh(self, pair):
        """Both sides empty, but for the corpus at the source."""
        self.reset(*pair)
        corpus.plant(pair.source.client)

    def differences(self, pair, **options):
        found = compare.compare(*pair.uris(), **options)
        faults.compared(len(found))
        return found

    def expect_equal(self, pair, **options):
        """Both sides hold the same, though the last job's verification had nothing to repair, and something
        at all: an empty source would prove nothing."""
        found = self.differences(pair, **options)
        for difference in found:
            sys.stderr.write("difference: %s: %s: %s\n" % difference)
        self.expect(not found, lambda: "%d differences, first: %s" % (
            len(found), "%s: %s: %s" % found[0]))
        for job in self.jobs[-1:]:
            self.expect(not job.repaired(), job.repaired)
        names = pair.destination.client.list_database_names()
        self.expect(any(map(compare.is_user_database, names)), "both sides are empty")

    def expect_no_state(self, pair, job):
        """Of a job that the API told to have ended it goes a moment later."""
        wait_until("end of the job's database", lambda: "towline_" + job.name not in
                   pair.destination.client.list_database_names(), 5)


def first_line(error):
    lines = str(error).strip().splitlines()
    return "%s%s" % ("" if isinstance(error, AssertionError) else type(error).__name__ + ": ",
                     lines[0][:600] if lines else "")


def wait_until(what, condition, timeout=SECONDS):
    """For what no job tells, such as the state of a server."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise Expectation("no %s within %d s" % (what, timeout))
        time.sleep(0.01)


def scaled(number, least=1):
    return max(least, int(number * SCALE))


