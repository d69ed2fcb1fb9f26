#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""signals.py: SIGTERM, SIGINT and SIGHUP stop a job within five seconds in every phase, and the same command
goes on; a second signal ends it at once; a server that does not answer keeps nobody waiting.
"""
import os
import pathlib
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True

from pymongo.errors import AutoReconnect

import corpus
from job import EXIT, JobError, binary, clean_environment, free_port
from scenario import Scenario, scaled

STOP_SECONDS = 5


def fill(client):
    for name in ("a", "b"):
        client["data"][name].insert_many(
            [{"_id": n, "n": n % 100, "pad": os.urandom(300).hex()}
             for n in range(scaled(20000, 2000))])
        client["data"][name].create_index("n")
    corpus.plant(client)


def change_once(client, mark):
    client["data"]["a"].update_many({"_id": {"$lt": 500}}, {"$set": {"mark": mark}})
    client["data"]["b"].delete_many({"_id": {"$mod": [97, len(mark) % 97]}})
    client["data"]["c"].replace_one({"_id": mark}, {"n": len(mark)}, upsert=True)


def change(client, mark, tries=5):
    """Something that the job has to follow, and that tells afterwards whether it did. A server that
    was stopped for seconds may have closed the connections of before."""
    for attempt in range(tries):
        try:
            return change_once(client, mark)
        except AutoReconnect:
            if attempt == tries - 1:
                raise


def stop_with(scenario, job, number, within=STOP_SECONDS, status=EXIT["interrupted"]):
    began = time.monotonic()
    job.signal(number)
    ended = job.wait(within + 20)
    seconds = time.monotonic() - began
    scenario.expect(ended == status, lambda: "exit status %s: %s" % (ended, job.error_line()))
    scenario.expect(seconds <= within, "it took %.1f s to stop" % seconds)


def at_once(job):
    """The signal comes before anything is known to have begun."""


def copying(job):
    job.wait_phase("copying", "catching-up", "in-sync")


def in_sync(job):
    job.wait_in_sync()


def paused(job):
    job.wait_in_sync()
    job.pause()


PHASES = (at_once, copying, in_sync, paused)


def stopped_everywhere(scenario, pair):
    """One job that is stopped in each phase and in the end loses nothing."""
    job = scenario.job(pair, name="stopped")
    for reach in PHASES:
        for number in (signal.SIGTERM, signal.SIGINT):
            reach(job)
            change(pair.source.client, "%s %d" % (reach.__name__, number))
            if reach is at_once:
                job.wait_for("the control server", lambda progress: True)
            stop_with(scenario, job, number)
            scenario.expect("run the same command again" in job.error_line(),
                            lambda: "it does not say how to go on: %s" % job.error_line())
            job.start()
    job.finish()
    scenario.expect_equal(pair)
    scenario.expect_no_state(pair, job)


def lease_given_back(scenario, pair):
    """A clean stop gives the lease back: the next start waits for nobody."""
    job = scenario.job(pair, name="lease")
    job.wait_in_sync()
    stop_with(scenario, job, signal.SIGHUP)  # as when a session is cut off
    state = pair.destination.client["towline_lease"]["job"].find_one({"_id": "job"})
    scenario.expect(not state.get("lease"), "the lease is still there: %s" % state)
    began = time.monotonic()
    job.start()
    job.wait_in_sync()
    scenario.expect(time.monotonic() - began < 10, "the lease was waited for")
    job.finish()
    scenario.expect_equal(pair)


def hanging_server(scenario, pair, side):
    """A server that takes connections and answers nothing (SIGSTOP)."""
    server = getattr(pair, side)
    job = scenario.job(pair, name="hang_" + side)
    job.wait_in_sync()
    server.kill(signal.SIGSTOP)
    try:
        stop_with(scenario, job, signal.SIGTERM)
    finally:
        server.kill(signal.SIGCONT)
    change(pair.source.client, "hang " + side)
    job.start()
    job.finish()
    scenario.expect_equal(pair)


def kept_from_hangups(scenario, pair):
    """nohup: a process that was started to ignore SIGHUP goes on, and stops by another signal."""
    words = [binary(), "serve", "--listen", "127.0.0.1:%d" % free_port(), "--no-token"]
    for ignored in (True, False):
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=clean_environment(),
                              preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored
                                                               else signal.SIG_DFL)) as process:
            process.stdout.readline()
            process.send_signal(signal.SIGHUP)
            try:
                ended = process.wait(1 if ignored else STOP_SECONDS)
            except subprocess.TimeoutExpired:
                ended = None
            scenario.expect(ended is None if ignored else ended == 0, "ignored %s: %s" % (ignored, ended))
            process.terminate()
            scenario.expect(process.wait(STOP_SECONDS) == 0, "SIGTERM: %s" % process.returncode)


def says_resumable(scenario, pair):
    """^C ends with one line that says how to go on, and without a table."""
    words = [binary(), "run", "--source", pair.source.uri, "--destination", pair.destination.uri, "--job", "interrupted",
             "--cutover", "auto", "--listen", "none", "--spool", scenario.folder()]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env=clean_environment()) as process:
        log = ""
        while "phase: copying" not in log:
            line = process.stderr.readline()
            scenario.expect(line, "it ended: " + log)
            log += line
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=20)
    scenario.expect(process.returncode == EXIT["interrupted"], "exit status %d" % process.returncode)
    scenario.expect(said.splitlines()[-1] == "towline: stopped, resumable: run the same command again to go on", said)
    scenario.expect("phase: stopped, resumable" in said and "phase: failed" not in said, said)
    scenario.expect("Summary" not in out and "towline_interrupted: the same command goes on" in out, out)


def unread_summary(scenario, pair):
    """The summary can be written nowhere but to stderr, which nobody reads: the first signal ends the process."""
    summary, spool = os.path.join(scenario.folder(), "summary.json"), scenario.folder()
    ends = os.pipe()
    words = [binary(), "run", "--source", pair.source.uri, "--destination", pair.destination.uri, "--job", "unread",
             "--cutover", "manual", "--listen", "127.0.0.1:%d" % free_port(), "--spool", spool, "--summary", summary]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=ends[1], env=clean_environment())
    try:
        log = b""
        while b"phase: in-sync" not in log:
            log += os.read(ends[0], 4096)
            scenario.expect(process.poll() is None, log)
        os.mkdir(summary)
        # Of another open file: the process's own stays one that blocks.
        pipe = os.open("/proc/self/fd/%d" % ends[1], os.O_WRONLY | os.O_NONBLOCK)
        try:
            while True:
                os.write(pipe, b"x" * 1024)
        except BlockingIOError:
            os.close(pipe)
        began = time.monotonic()
        process.terminate()
        ended = process.wait(30)
        scenario.expect(ended == EXIT["interrupted"] and time.monotonic() - began < STOP_SECONDS + 4,
                        "exit status %s after %.1f s" % (ended, time.monotonic() - began))
    finally:
        process.kill()
        process.wait()
        for end in ends:
            os.close(end)


def hanging_command(scenario, pair):
    """A command of --on-phase that does not end: SIGTERM ends the process within docker's ten seconds."""
    job = scenario.job(pair, name="command", on_phase="sleep 60")
    job.wait_in_sync()
    stop_with(scenario, job, signal.SIGTERM, within=9)
    scenario.expect("--on-phase" in job.error_line(), lambda: job.error_line())


def second_signal(scenario, pair):
    job = scenario.job(pair, name="second")
    job.wait_in_sync()
    pair.destination.kill(signal.SIGSTOP)
    try:
        job.signal(signal.SIGTERM)
        try:
            job.wait(1)
        except JobError:
            pass  # it waits for the server, as it should
        stop_with(scenario, job, signal.SIGINT, within=1, status=128 + signal.SIGINT)
    finally:
        pair.destination.kill(signal.SIGCONT)
    change(pair.source.client, "second")
    job.start()
    job.finish()
    scenario.expect_equal(pair)


def main():
    with Scenario(__doc__) as scenario:
        cases = [("stopped in every phase, nothing lost", stopped_everywhere),
                 ("a stop gives the lease back", lease_given_back),
                 ("a hanging source", lambda s, p: hanging_server(s, p, "source")),
                 ("a hanging destination", lambda s, p: hanging_server(s, p, "destination")),
                 ("a hangup stops, but for nohup", kept_from_hangups),
                 ("a stopped job says that it is resumable", says_resumable),
                 ("a summary that nobody takes", unread_summary),
                 ("a command that does not end", hanging_command),
                 ("a second signal ends at once", second_signal)]
        for name, case in cases:
            if scenario.arguments.only not in name:
                continue
            pair = scenario.pair()
            fill(pair.source.client)
            with scenario.case(name):
                case(scenario, pair)
            scenario.stop_pair(pair)


if __name__ == "__main__":
    main()
