#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""silent.py: a side that does not answer is shown as such within five seconds, wherever a state is shown; no
cutover is accepted meanwhile, and one that had been accepted is called off. Then the job goes on."""
import contextlib
import pathlib
import signal
import subprocess
import sys
import time
import types
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True

from job import EXIT, ApiError, binary, clean_environment, free_port, token, towline
from proxy import Proxied
from scenario import Scenario, wait_until

WITHIN = 5  # seconds


def metric(job, name):
    request = urllib.request.Request("http://127.0.0.1:%d/metrics" % job.port,
                                     headers={"Authorization": "Bearer " + token()})
    with urllib.request.urlopen(request, timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("towline_%s{" % name))


def ready(job):
    """Status and text of /readyz, asked without a token."""
    try:
        with urllib.request.urlopen("http://127.0.0.1:%d/readyz" % job.port, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@contextlib.contextmanager
def stopped(server):
    server.kill(signal.SIGSTOP)
    try:
        yield
    finally:
        server.kill(signal.SIGCONT)


def shown(scenario, pair, job, side):
    with stopped(getattr(pair, side)):
        look(scenario, job, side)
    now = job.wait_in_sync()
    scenario.expect(now[side]["silentMs"] == 0 and metric(job, side + "_up") == 1, str(now[side]))
    wait_until("readiness", lambda: ready(job) == (200, "ready: the job is in-sync\n"), WITHIN)
    wait_until("the floor's move", lambda: time.time() - metric(job, "last_progress_timestamp") < 3, WITHIN)


def look(scenario, job, side):
    began = time.monotonic()
    now = job.wait_for("the silence", lambda progress: progress[side]["silentMs"] > 0, WITHIN)
    scenario.expect(not now["canCommit"] and "the %s has not answered" % side in now["reason"], now["reason"])
    scenario.expect(side == "destination" or now["lagMs"] >= 3000, "the lag is shown as %s ms" % now["lagMs"])
    scenario.expect(metric(job, side + "_up") == 0, "towline_%s_up is not 0" % side)
    status = towline("status", "--listen", "127.0.0.1:%d" % job.port)
    scenario.expect(side in status.stdout and "has not answered for" in status.stdout, status.stdout)
    refused = towline("cutover", "--listen", "127.0.0.1:%d" % job.port)
    scenario.expect(refused.returncode == EXIT["not-in-sync"] and "has not answered" in refused.stderr,
                    "cutover: %d %s" % (refused.returncode, refused.stderr))
    scenario.expect(time.monotonic() - began < WITHIN + 2, "it took %.1f s" % (time.monotonic() - began))
    status, text = ready(job)
    scenario.expect(status == 503 and text.startswith("not ready: the %s has not answered for " % side),
                    "/readyz: %d %s" % (status, text))
    later = job.now()
    scenario.expect(later[side]["silentMs"] > now[side]["silentMs"], "the silence does not grow")


def called_off(scenario, pair, job, side):
    with stopped(getattr(pair, side)):
        try:
            job.api("POST", "cutover", '{"writesStopped": true}')
        except ApiError as error:
            scenario.expect(False, "refused at once: %s" % error)
        now = job.wait_for("the cutover called off", lambda now: now["cutover"]["step"] == "none", 15)
        scenario.expect(not now["canCommit"], "canCommit while the %s is silent" % side)
    scenario.expect("called off: the %s has not answered" % side in "".join(job.log), job.tail(5))
    job.wait_in_sync()


def silent_at_the_look(scenario, pair):
    """The source falls silent while its oplog is looked at, which holds up the thread that asks it."""
    scenario.reset(*pair)
    pair.source.client["data"]["a"].insert_many([{"_id": n} for n in range(500)])
    sides = Proxied(pair)
    job = scenario.job(sides, name="look")
    job.wait_in_sync()

    def stop(request, serve):
        pair.source.kill(signal.SIGSTOP)
        return serve(request)
    rule = sides.source.script.on("find", when=lambda request: request.collection == "oplog.rs")
    rule.act(stop)
    try:
        wait_until("a look at the oplog", lambda: sides.source.script.acted() > 0, 15)
        job.wait_for("the silence", lambda now: now["source"]["silentMs"] > 0, WITHIN)
    finally:
        pair.source.kill(signal.SIGCONT)
    job.wait_in_sync()
    job.finish()
    sides.close()


def stalled_unwatched(scenario, pair):
    """The time of the last move is that of the move, not of the scrape that sees it: nobody asks in between."""
    words = [binary(), "run", "--source", pair.source.uri, "--destination", pair.destination.uri, "--job", "unwatched",
             "--cutover", "manual", "--progress", "none", "--spool", scenario.folder(), "--listen"]
    job = types.SimpleNamespace(port=free_port())
    with subprocess.Popen(words + ["127.0.0.1:%d" % job.port], stderr=subprocess.PIPE, text=True,
                          env=clean_environment()) as process:
        try:
            while "phase: in-sync" not in (line := process.stderr.readline()):
                scenario.expect(line, "it ended")
            metric(job, "last_progress_timestamp")
            time.sleep(3)  # the idle source's floor moves each second
            with stopped(pair.source):
                began = time.time()
                time.sleep(4)
                moved = metric(job, "last_progress_timestamp")
            scenario.expect(began - 3 < moved < began + 2, "it moved %.1f s after the stop" % (moved - began))
        finally:
            process.terminate()
            process.communicate(timeout=20)


def main():
    with Scenario(__doc__) as scenario:
        pair = scenario.pair()
        pair.source.client["data"]["a"].insert_many([{"_id": n} for n in range(500)])
        job = scenario.job(pair)
        job.wait_in_sync()
        for side in ("source", "destination"):
            with scenario.case("a silent %s is shown within five seconds, everywhere" % side):
                shown(scenario, pair, job, side)
            with scenario.case("a cutover that meets a silent %s is called off" % side):
                called_off(scenario, pair, job, side)
        with scenario.case("the oplog's reach is shown"):
            now = job.wait_for("headroom", lambda progress: progress["oplogHeadroomSeconds"] is not None, 15)
            scenario.expect(now["estimatedOplogTimeRemaining"].endswith("s"), str(now["estimatedOplogTimeRemaining"]))
        with scenario.case("and then it ends well"):
            pair.source.client["data"]["a"].insert_one({"_id": "after"})
            job.finish()
            scenario.expect_equal(pair)
        with scenario.case("the time of a stall is known though nobody asked"):
            scenario.reset(pair.destination)
            stalled_unwatched(scenario, pair)
        with scenario.case("a source that falls silent while its oplog is looked at"):
            silent_at_the_look(scenario, pair)


if __name__ == "__main__":
    main()
