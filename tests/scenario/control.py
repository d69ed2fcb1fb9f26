#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""control.py: a job driven over HTTP and by the verbs, and what its progress says meanwhile."""
import http.client
import json
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True

import corpus
from job import EXIT, VERIFY, ApiError, binary, clean_environment, free_port, source_time, stamp, towline, token
from scenario import Scenario, scaled, wait_until

NUMBER = (int, float)
# Field: type, as mongosync documents them and as the README adds them.
FIELDS = {"state": str, "canCommit": bool, "canWrite": bool, "info": str, "totalEventsApplied": int,
          "lagTimeSeconds": int, "collectionCopy.estimatedTotalBytes": int,
          "collectionCopy.estimatedCopiedBytes": int, "indexBuilding.indexesBuilt": int,
          "indexBuilding.totalIndexesToBuild": int, "source.pingLatencyMs": NUMBER,
          "destination.pingLatencyMs": NUMBER, "phase": str, "lagMs": NUMBER, "eventsSeen": int,
          "dirtyKeys": int, "spoolBytes": int, "positions": dict}
POSITIONS = ("start", "read", "spooled", "floor", "checkpoint", "consistent", "stop", "verified")


def field(progress, path):
    for name in path.split("."):
        progress = progress.get(name) if isinstance(progress, dict) else None
    return progress


def verb(job, *words):
    return towline(*words, "--listen", "127.0.0.1:%d" % job.port)


def status_of(job, method, path, body=b"{}", headers=None):
    """The HTTP status of a request that no client of ours would send."""
    connection = http.client.HTTPConnection("127.0.0.1", job.port, timeout=20)
    try:
        connection.request(method, path, body=body,
                           headers={"Authorization": "Bearer " + token(), **(headers or {})})
        reply = connection.getresponse()
        reply.read()
        return reply.status
    finally:
        connection.close()


def refused(scenario, request, what):
    try:
        request()
    except ApiError as error:
        scenario.expect(error.body.get("success") is False, "success is not false: %s" % error.body)
        scenario.expect(error.name and error.description, "no error, no description: %s"
                        % error.body)
        return error
    scenario.expect(False, "%s was accepted" % what)


def fields(scenario, job):
    with scenario.case("progress has the documented fields"):
        progress = job.wait_for("known lag", lambda now: now["lagTimeSeconds"] is not None)
        for path, kind in FIELDS.items():
            value = field(progress, path)
            scenario.expect(isinstance(value, kind), "%s is %r" % (path, value))
        scenario.expect(job.api("GET", "progress").get("success") is True, "success is not true")
        scenario.expect(progress["state"] == "RUNNING", "state %s in sync" % progress["state"])
        scenario.expect(progress["canWrite"] is False, "canWrite before the cutover")
    with scenario.case("positions are those of the design"):
        positions = job.wait_for("a checkpoint", lambda now:
                                 now["positions"]["checkpoint"])["positions"]
        missing = [name for name in POSITIONS if name not in positions]
        scenario.expect(not missing, "no %s" % missing)
        scenario.expect(stamp(positions["start"]) > (0, 0), "start is %s" % positions["start"])
        scenario.expect(stamp(positions["stop"]) == (0, 0), "stop is set before the cutover")
        scenario.expect(stamp(positions["start"]) <= stamp(positions["consistent"]),
                        "consistent is before start: %s" % positions)
        scenario.expect(stamp(positions["checkpoint"]) <= stamp(positions["floor"])
                        <= stamp(positions["read"]), "order of positions: %s" % positions)
    with scenario.case("the command's progress lines are the same object"):
        with job.changed:
            wait = job.changed.wait_for(lambda: "positions" in job.progress, timeout=10)
        scenario.expect(wait, "no line with positions on stdout")


def idle(scenario, job, client):
    with scenario.case("floor passes a mere note within a second"):
        slowest = 0.0
        for number in range(5):
            client.admin.command("appendOplogNote", 1, data={"number": number})
            noted = source_time(client)
            began = time.monotonic()
            job.wait_for("floor at the note", lambda now:
                         stamp(now["positions"]["floor"]) >= noted, 10)
            slowest = max(slowest, time.monotonic() - began)
        print("# slowest of five notes: %.0f ms" % (slowest * 1000))
        scenario.expect(slowest < 1, "took %.2f s" % slowest)
    with scenario.case("lag of an idle source is 0"):
        progress = job.wait_for("lag 0", lambda now: now["lagMs"] == 0, 10)
        scenario.expect(progress["lagTimeSeconds"] == 0, "lagTimeSeconds %s"
                        % progress["lagTimeSeconds"])


def pause_and_resume(scenario, job, pair):
    source, destination = pair.source.client, pair.destination.client
    with scenario.case("resume of a job that is not paused is refused"):
        refused(scenario, lambda: job.api("POST", "resume"), "resume")
        done = verb(job, "resume")
        scenario.expect(done.returncode == EXIT["state"], "verb: exit status %d: %s"
                        % (done.returncode, done.stderr))
    with scenario.case("pause: nothing is applied, events pile up, lag grows"):
        job.pause()
        scenario.expect(job.now()["state"] == "PAUSED", "state %s" % job.now()["state"])
        before = destination["data"]["c"].count_documents({"late": True})
        events, floor = job.now()["eventsSeen"], stamp(job.now()["positions"]["floor"])
        for number in range(5):
            source["data"]["c"].insert_many([{"late": True} for _ in range(scaled(200))])
        wanted = 5 * scaled(200)
        now = job.wait_for("events to pile up", lambda now: now["eventsSeen"] >= events + wanted)
        # The source's time moves on with whatever is written, and the floor stands.
        now = job.wait_for("lag to grow", lambda now: now["lagMs"] >= 2000)
        scenario.expect(now["phase"] == "paused", "phase %s" % now["phase"])
        floors = stamp(now["positions"]["floor"])
        scenario.expect(floors < source_time(source), "the floor passed unapplied events")
        scenario.expect(floors >= floor, "the floor moved back")
        scenario.expect(destination["data"]["c"].count_documents({"late": True}) == before,
                        "something was applied while paused")
    with scenario.case("a paused job refuses to cut over, and to pause again"):
        refused(scenario, lambda: job.api("POST", "commit"), "commit")
        refused(scenario, lambda: job.api("POST", "pause"), "pause")
        done = verb(job, "cutover")
        scenario.expect(done.returncode in (EXIT["state"], EXIT["not-in-sync"]),
                        "verb: exit status %d" % done.returncode)
    with scenario.case("resume drains what piled up"):
        job.resume()
        job.wait_caught_up(source)
        got = destination["data"]["c"].count_documents({"late": True})
        scenario.expect(got == wanted, "%d of %d are there" % (got, wanted))
        job.wait_for("lag below 1 s", lambda now: 0 <= now["lagMs"] < 1000)
        job.wait_phase("in-sync")


def verbs(scenario, job):
    with scenario.case("verbs status, pause and resume"):
        done = verb(job, "status")
        scenario.expect(done.returncode == 0 and "in-sync" in done.stdout, "status: %d %s%s"
                        % (done.returncode, done.stdout, done.stderr))
        done = verb(job, "pause")
        scenario.expect(done.returncode == 0, "pause: %d %s" % (done.returncode, done.stderr))
        job.wait_phase("paused")
        done = verb(job, "status")
        scenario.expect("paused" in done.stdout, "status: %s" % done.stdout)
        done = verb(job, "status", "--wait", "in-sync", "--timeout", "1s")
        scenario.expect(done.returncode == EXIT["timeout"] and "paused" in done.stderr, "status --wait: %d %s"
                        % (done.returncode, done.stderr))
        done = verb(job, "resume")
        scenario.expect(done.returncode == 0, "resume: %d %s" % (done.returncode, done.stderr))
    with scenario.case("status --wait comes back when it is there; --json is the progress"):
        for goal in ("in-sync", "verified") if VERIFY else ("in-sync",):
            done = verb(job, "status", "--wait", goal, "--json")
            scenario.expect(done.returncode == 0 and json.loads(done.stdout)["phase"] == "in-sync", "%s: %d %s%s"
                            % (goal, done.returncode, done.stdout, done.stderr))
        scenario.expect(json.loads(verb(job, "status", "--json").stdout).keys() == job.now().keys(), "fields")


def foreign_requests(scenario, job):
    """Also with the token: a page of another site must not be able to drive it."""
    wanted = [("GET", "/api/v1/nothing", {}, (404,)), ("GET", "/api/v1/pause", {}, (405,)),
              ("POST", "/api/v1/progress", {}, (405,)),
              ("POST", "/api/v1/pause", {"Host": "evil.example:27182"}, (400, 403, 421)),
              ("POST", "/api/v1/pause", {"Origin": "http://evil.example"}, (400, 403))]
    for method, path, headers, statuses in wanted:
        with scenario.case("%s %s %s is refused" % (method, path, json.dumps(headers))):
            got = status_of(job, method, path, headers=headers)
            scenario.expect(got in statuses, "HTTP %d" % got)
    with scenario.case("a body that is no JSON, or too long, is refused"):
        for body in (b"{", b"[]", b"{" + b" " * (1 << 20)):
            try:
                got = status_of(job, "POST", "/api/v1/pause", body)
            except OSError:
                continue  # closing the connection on an endless body is a refusal too
            scenario.expect(400 <= got < 500, "HTTP %d for %r" % (got, body[:8]))
        scenario.expect(job.now()["phase"] == "in-sync", "the job is %s" % job.now()["phase"])


def cutover(scenario, pair, job, by_verb):
    if by_verb:
        deadline = time.monotonic() + 30
        done = verb(job, "cutover", "--wait", "--timeout", "60s")
        # A slow build may fall behind between two looks at it: refused, it is asked again.
        while done.returncode == EXIT["not-in-sync"] and time.monotonic() < deadline:
            job.wait_in_sync()
            done = verb(job, "cutover", "--wait", "--timeout", "60s")
        scenario.expect(done.returncode == 0, "exit status %d: %s" % (done.returncode, done.stderr))
        scenario.expect("done" in done.stdout, done.stdout)
        summary = job.wait_done()
        scenario.expect("done" in job.phases[-1:], "the last phase is %s" % job.phases[-1:])
    else:
        summary = job.finish()
    scenario.expect(summary["state"] == "done", "state %s" % summary["state"])
    scenario.expect_equal(pair)
    scenario.expect_no_state(pair, job)


def main():
    with Scenario(__doc__) as scenario:
        pair = scenario.pair()
        source = pair.source.client
        source["data"]["c"].insert_many([{"_id": n} for n in range(scaled(5000, 100))])
        corpus.plant(source)
        job = scenario.job(pair)
        job.wait_in_sync()
        with scenario.case("a kill would leave nothing in shared memory"):
            left = [path for path in pathlib.Path("/dev/shm").glob("*-%d" % job.process.pid)]
            scenario.expect(not left, str(left))
        fields(scenario, job)
        idle(scenario, job, source)
        foreign_requests(scenario, job)
        pause_and_resume(scenario, job, pair)
        verbs(scenario, job)
        with scenario.case("a manual job waits in sync"):
            scenario.expect(job.running() and job.now()["phase"] == "in-sync", "it does not")
        watching = subprocess.Popen([binary(), "status", "--watch", "--json", "--listen", "127.0.0.1:%d" % job.port],
                                    stdout=subprocess.PIPE, env=clean_environment())
        first = json.loads(watching.stdout.readline())
        with scenario.case("cutover by the verb"):
            cutover(scenario, pair, job, True)
        with scenario.case("status --watch shows all of it, and ends with the job's exit status"):
            lines = [json.loads(line) for line in watching.communicate(timeout=30)[0].splitlines()]
            scenario.expect(watching.returncode == 0 and lines, "%s, %d lines"
                            % (watching.returncode, len(lines)))
            scenario.expect(first["phase"] == "in-sync" and lines[-1]["phase"] == "done" and
                            lines[-1]["exitStatus"] == 0, str(lines[-1]))
        with scenario.case("the control server is gone with the job"):
            wait_until("end", lambda: not job.running())
            scenario.expect(verb(job, "status").returncode == EXIT["control"], "it answers")
        with scenario.case("status reads what the job left beside its spool"):
            left = ("status", "--spool", job.options["spool"], "--job", job.name)
            done = verb(job, *left)
            scenario.expect(done.returncode == 0 and "ended at" in done.stdout and "Summary of job test: done"
                            in done.stdout and not done.stderr, done.stdout + done.stderr)
            done = verb(job, *left, "--json", "--wait", "done")
            scenario.expect(done.returncode == 0 and json.loads(done.stdout)["summary"] == job.summary(),
                            done.stdout)
            scenario.expect(towline(*left, "--listen", "127.0.0.1:%d" % free_port()).returncode == EXIT["control"],
                            "another process's job is shown")
        with scenario.case("commit over HTTP, with the source's last write just before"):
            scenario.reset(*pair)
            source["data"]["c"].insert_many([{"_id": n} for n in range(100)])
            job = scenario.job(pair)
            job.wait_in_sync()
            source["data"]["c"].insert_many([{"last": n} for n in range(scaled(2000, 100))])
            cutover(scenario, pair, job, False)


if __name__ == "__main__":
    main()
