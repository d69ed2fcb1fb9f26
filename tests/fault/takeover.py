#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""takeover.py: one job, several processes: whoever loses the job destroys nothing, and nothing that it sent
arrives.

The cases run without verification, so that nothing is put right behind the tests' back.

  --only TEXT   the cases whose name holds it
"""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True

import shards
from faults import faults
from job import EXIT, ApiError, binary, clean_environment, towline
from proxy import Proxied
from scenario import Scenario, wait_until
from wire import Closed

NAME = "over"
REPAIR = "towline_verify+repair"


class Hold:
    """The next request that fits stops here, before it is done, until let go."""

    def __init__(self, side, command, when=None, after=0):
        self.reached, self.go = threading.Event(), threading.Event()

        def perform(request, serve):
            self.reached.set()
            self.go.wait(60)
            return serve(request)
        side.script.on(command, when=when, after=after).act(perform, "a request is held")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.go.set()


def of_state(request):
    return request.database == "towline_" + NAME


def state(pair):
    return pair.destination.client["towline_" + NAME]["job"].find_one({"_id": "job"}) or {}


def fill(scenario, pair, count=300):
    scenario.reset(*pair)
    for name in ("a", "b"):
        pair.source.client["data"][name].insert_many([{"_id": n, "n": n} for n in range(count)])


def expect_status(scenario, job, status, *words):
    scenario.expect(job.wait() == EXIT[status], lambda: "it ended with %s: %s" % (job.status, job.error_line()))
    for word in words:
        scenario.expect(word in job.error_line(), lambda: "no %r in: %s" % (word, job.error_line()))


def start(scenario, sides, **options):
    return scenario.job(sides, name=NAME, no_verify=True, **options)


# Clearing the destination -----------------------------------------------------------------------------

def started_twice(scenario, pair):
    """The second process passed all checks when the first had not begun; then the first copies."""
    fill(scenario, pair)
    pair.destination.client["data"]["a"].insert_one({"_id": "old"})
    sides = Proxied(pair)
    with Hold(sides.destination, "connectionStatus", after=1) as hold:  # the first is of the checks
        second = start(scenario, sides, clear_destination=True)
        wait_until("the second process checked", hold.reached.is_set)
        first = start(scenario, pair, clear_destination=True)
        first.wait_in_sync()
        hold.go.set()
        expect_status(scenario, second, "lease", "renews")
        first.finish()
        scenario.expect_equal(pair)
    sides.close()


def started_late(scenario, pair):
    """The same, and the first process is done and gone: what it copied was in no check of the second."""
    fill(scenario, pair)
    sides = Proxied(pair)
    with Hold(sides.destination, "connectionStatus", after=1) as hold:
        second = start(scenario, sides, clear_destination=True)
        wait_until("the second process checked", hold.reached.is_set)
        start(scenario, pair, clear_destination=True).finish()
        hold.go.set()
        expect_status(scenario, second, "conflict", "run the same command again")
        scenario.expect_equal(pair)
        scenario.expect_no_state(pair, second)
    sides.close()


def killed_while_clearing(scenario, pair):
    """Killed between two drops it has not begun: the next start looks again, and drops only when asked."""
    fill(scenario, pair)
    target = pair.destination.client["data"]
    for name in ("a", "b"):
        target[name].insert_one({"_id": "old"})
    sides = Proxied(pair)

    def kill(request):
        job.signal(signal.SIGKILL)
        raise Closed("killed")

    sides.destination.script.on("drop", when=lambda request: request.database == "data", after=1).reply(kill)
    job = start(scenario, sides, clear_destination=True)
    job.wait()
    scenario.expect([entry["_id"] for entry in pair.destination.client["towline_" + NAME]["cleared"].find(
        sort=[("_id", 1)])] == ["data.a", "data.b"], "what is dropped was not recorded")
    sides.destination.script.clear()
    job.options["clear_destination"] = False
    job.start()
    expect_status(scenario, job, "conflict")
    scenario.expect(sum(target[name].count_documents({}) for name in ("a", "b")) == 1, "it was dropped all the same")
    job.options["clear_destination"] = True
    job.start()
    job.finish()
    scenario.expect_equal(pair)
    sides.close()


def killed_while_preparing(scenario, pair):
    """All names were claimed, and one of two collections made: what somebody else makes under the other stays."""
    fill(scenario, pair)
    source, target = pair.source.client["data"], pair.destination.client["data"]
    sides = Proxied(pair)

    def kill(request):
        job.signal(signal.SIGKILL)
        raise Closed("killed")

    sides.destination.script.on("create", when=lambda request: request.database == "data", after=1).reply(kill)
    job = start(scenario, sides)
    job.wait()
    sides.destination.script.clear()
    claimed = list(pair.destination.client["towline_" + NAME]["made"].find())
    name = [entry["_id"] for entry in claimed if entry["_id"].startswith("data.") and "uuid" not in entry][0][5:]
    target[name].insert_one({"_id": "theirs"})
    job.start()
    expect_status(scenario, job, "conflict", "data." + name, "not made by this job")
    kept = [document for document in source[name].find()]
    source[name].drop()  # nor is it dropped as something that the source has no more
    job.start()
    job.wait_in_sync()
    scenario.expect(target[name].find_one() == {"_id": "theirs"}, "theirs is gone")
    job.signal(signal.SIGTERM)
    job.wait()
    target[name].drop()
    source[name].insert_many(kept)
    job.start()
    job.finish()
    scenario.expect_equal(pair)
    sides.close()


def other_job(scenario, pair):
    """A second job with --clear-destination on what another job copied: not while that may run; one that was
    stopped does not go on afterwards; one with other namespaces works beside it."""
    fill(scenario, pair)
    first = start(scenario, pair, include="data.a")
    first.wait_in_sync()
    second = scenario.job(pair, name="second", no_verify=True, clear_destination=True, include="data.a")
    expect_status(scenario, second, "conflict", "data.a", "towline_" + NAME)
    scenario.expect_no_state(pair, second)
    beside = scenario.job(pair, name="beside", no_verify=True, clear_destination=True, include="data.b")
    beside.wait_in_sync()
    first.kill()
    second.start()
    expect_status(scenario, second, "conflict", "data.a", "towline_" + NAME)
    first.start()
    first.wait_in_sync()
    first.signal(signal.SIGTERM)
    first.wait()
    second.start()
    second.wait_in_sync()
    first.start()
    expect_status(scenario, first, "conflict", "towline_second", "cleared")
    for job in (second, beside):
        job.finish()
    scenario.expect_equal(pair)


def both_clear(scenario, pair):
    """Two jobs were checked before either cleared anything: the second sees what the first is about to drop."""
    fill(scenario, pair)
    pair.destination.client["data"]["a"].insert_one({"_id": "old"})
    sides, others = Proxied(pair), Proxied(pair)
    with Hold(sides.destination, "connectionStatus", after=1) as hold:
        second = scenario.job(sides, name="second", no_verify=True, clear_destination=True)
        wait_until("the second job was checked", hold.reached.is_set)
        with Hold(others.destination, "drop", when=lambda request: request.database == "data") as clearing:
            first = start(scenario, others, clear_destination=True)
            wait_until("the first job clears", clearing.reached.is_set)
            hold.go.set()
            expect_status(scenario, second, "conflict", "data.a", "towline_" + NAME)
            scenario.expect(pair.destination.client["data"]["a"].find_one({"_id": "old"}), "it was dropped")
    first.finish()
    scenario.expect_equal(pair)
    sides.close()
    others.close()


# Losing the job ---------------------------------------------------------------------------------------

def cancelled_late(scenario, pair):
    """A cancel that waits for a process which stands still: by the time it is heard the job is another's."""
    fill(scenario, pair)
    first = start(scenario, pair)
    first.wait_in_sync()
    first.signal(signal.SIGSTOP)
    asking = threading.Thread(target=lambda: swallow(first.api, "POST", "cancel"), daemon=True)
    asking.start()
    second = start(scenario, pair)
    second.wait_in_sync()
    first.signal(signal.SIGCONT)
    expect_status(scenario, first, "lease", "nothing is lost")
    scenario.expect(state(pair).get("lease"), "the state of the other process is gone")
    pair.source.client["data"]["a"].insert_one({"_id": "more"})
    second.wait_caught_up(pair.source.client)
    second.finish()
    scenario.expect_equal(pair)


def swallow(act, *arguments):
    try:
        act(*arguments)
    except (OSError, ApiError, ValueError):
        pass


def state_gone(scenario, pair):
    """Somebody removed the state: that is not told as if nothing were lost."""
    fill(scenario, pair)
    job = start(scenario, pair)
    job.wait_in_sync()
    faults.injected("job's database dropped")
    pair.destination.client.drop_database("towline_" + NAME)
    expect_status(scenario, job, "lease", "was removed", "from the start")
    scenario.expect("nothing is lost" not in job.error_line(), job.error_line())
    scenario.expect_no_state(pair, job)


def stopped_in(scenario, pair, phase):
    """A process stands still over its lease in that phase and wakes when another has the job."""
    fill(scenario, pair)
    sides = Proxied(pair)
    command = {"copying": "insert", "in-sync": "update", "finalizing": "update"}[phase]
    first = start(scenario, sides)
    if phase != "copying":
        first.wait_in_sync()
    with Hold(sides.destination, command, when=lambda request: request.database == "data") as hold:
        pair.source.client["data"]["a"].update_one({"_id": 1}, {"$set": {"v": "old"}})
        if phase == "finalizing":
            swallow(first.api, "POST", "commit")
        wait_until("a write on its way", hold.reached.is_set)
        first.signal(signal.SIGSTOP)
        second = start(scenario, pair)
        second.wait_in_sync()
        pair.source.client["data"]["a"].update_one({"_id": 1}, {"$set": {"v": "new"}})
        second.wait_caught_up(pair.source.client)
    first.signal(signal.SIGCONT)
    expect_status(scenario, first, "lease")
    second.finish()
    scenario.expect_equal(pair)
    sides.close()


# Taking the job ---------------------------------------------------------------------------------------

def waited_for(scenario, pair):
    """Of a killed process nothing but its lease is believed: it is waited for, and that is said."""
    fill(scenario, pair)
    job = start(scenario, pair)
    job.wait_in_sync()
    job.kill()
    before = state(pair)
    job.start()
    job.wait_in_sync()
    after = state(pair)
    scenario.expect("waiting for the lease of process" in job.tail(400), "nothing was said of the wait")
    scenario.expect(after["epoch"] == before["epoch"] + 1, "epochs %s, %s" % (before["epoch"], after["epoch"]))
    taken = after["lease"]["taken"].timestamp() * 1000
    scenario.expect(taken >= before["lease"]["expires"], "it was taken %d ms early" % (
        before["lease"]["expires"] - taken))
    job.finish()
    scenario.expect_equal(pair)


def other_user(scenario, pair):
    """Who cannot end the sessions of the process before does not take the job."""
    fill(scenario, pair)
    job = start(scenario, pair)
    job.wait_in_sync()
    job.kill()
    pair.destination.client["towline_" + NAME]["job"].update_one({"_id": "job"}, {"$set": {"user": "somebody@admin"}})
    job.start()
    expect_status(scenario, job, "settings", "somebody@admin")


def sessions_first(scenario, pair):
    """A session is named in the state before any write of data in it."""
    fill(scenario, pair)
    sides, unnamed, seen = Proxied(pair), [], set()

    def look(request, serve):
        lsid = request.body["lsid"]
        seen.add(bytes(lsid["id"]))
        if lsid["id"] not in [session["id"] for session in state(pair).get("sessions", [])]:
            unnamed.append(request.name)
        return serve(request)
    for command in ("insert", "update", "delete"):
        sides.destination.script.on(command, when=lambda request: request.database == "data" and
                                    "txnNumber" in request.body, times=None).act(look)
    job = start(scenario, sides)
    job.wait_in_sync()
    pair.source.client["data"]["a"].update_many({}, {"$set": {"v": 1}})
    pair.source.client["data"]["b"].delete_many({})
    job.wait_caught_up(pair.source.client)
    job.finish()
    scenario.expect(seen and not unnamed, "%d sessions, writes in unnamed ones: %s" % (len(seen), unnamed))
    scenario.expect_equal(pair)
    sides.close()


def straggler(scenario, pair, sides):
    """A job in sync, and killed while a write of an old document is on its way."""
    fill(scenario, pair)
    released = threading.Event()
    job = start(scenario, sides)
    job.wait_in_sync()
    script = sides.destination.script
    answers = sides.destination.hold_back(script.on("update", when=lambda request: request.database == "data"),
                                          released)
    pair.source.client["data"]["a"].update_one({"_id": 1}, {"$set": {"v": "old"}})
    wait_until("a write on its way", lambda: script.acted() > 0)
    job.kill()
    script.clear()
    return job, released, answers


def arrives(scenario, pair, job, released, answers):
    pair.source.client["data"]["a"].update_one({"_id": 1}, {"$set": {"v": "new"}})
    job.wait_caught_up(pair.source.client)
    released.set()
    wait_until("the straggler's answer", lambda: answers)
    found = pair.destination.client["data"]["a"].find_one({"_id": 1})
    scenario.expect(found["v"] == "new", "the destination has the %s document" % found["v"])
    job.finish()
    scenario.expect_equal(pair)


def is_fencing(request):
    return of_state(request) and any(b"$pull" in update and b"sessions" in update
                                     for update in request.list_of("updates"))


def killed_taking_over(scenario, sides, job, begin):
    """The job is started and killed by the rule that begin(script) makes."""
    begin(sides.destination.script)
    job.start()
    job.wait()
    scenario.expect(sides.destination.script.acted() == 1, "nothing was fenced")
    sides.destination.script.clear()


def fencing_killed(scenario, pair, step):
    """The process that takes over is killed before the step-th session is fenced, and after the last."""
    sides = Proxied(pair)
    job, released, answers = straggler(scenario, pair, sides)

    def kill(request):
        job.signal(signal.SIGKILL)
        raise Closed("killed")
    killed_taking_over(scenario, sides, job, lambda script: script.on(
        "update", when=is_fencing, after=step).reply(kill))
    job.start()
    job.wait_in_sync()
    arrives(scenario, pair, job, released, answers)
    sides.close()


def fencing_unanswered(scenario, pair):
    """The answers to the fences are lost, and they are sent again."""
    sides = Proxied(pair)
    job, released, answers = straggler(scenario, pair, sides)
    sides.destination.script.on("update", when=is_fencing, times=2).lost()
    job.start()
    job.wait_in_sync()
    scenario.expect(sides.destination.script.acted() == 2, "no answer was lost")
    scenario.expect(len(state(pair)["sessions"]) <= 4, "sessions were not forgotten: %s" % state(pair)["sessions"])
    arrives(scenario, pair, job, released, answers)
    sides.close()


def killed_at(scenario, pair, steps):
    """kill -9 at the k-th write to the state of a process that takes over, one after another."""
    sides = Proxied(pair)
    job, released, answers = straggler(scenario, pair, sides)
    for step in steps:
        def kill(request):
            job.signal(signal.SIGKILL)
            raise Closed("killed")
        sides.destination.script.on("update", when=of_state, after=step).reply(kill)
        job.start()
        job.wait_or_end("in sync", lambda progress: progress["canCommit"])
        scenario.expect(not job.running() or sides.destination.script.acted() == 0, "it was not killed")
        sides.destination.script.clear()
        if job.running():
            job.kill()
    job.start()
    job.wait_in_sync()
    arrives(scenario, pair, job, released, answers)
    sides.close()


def both_silent(scenario, pair):
    """Both sides answer nothing for longer than the lease while the job is taken over."""
    sides = Proxied(pair)
    job, released, answers = straggler(scenario, pair, sides)
    with Hold(sides.destination, "update", when=is_fencing) as hold:
        job.start()
        wait_until("the fence", hold.reached.is_set)
        for side in sides:
            side.stall(4)
    job.wait_in_sync()
    arrives(scenario, pair, job, released, answers)
    sides.close()


class Sharded:
    """A scenario's pair whose destination says that it is a cluster; its user data is not on the shard of the
    job's document."""

    def __init__(self, pair):
        self.source, self.destination = pair.source, shards.behind(pair.destination)

    def uris(self):
        return self.source.uri, self.destination.uri

    def close(self):
        self.destination.close()


def is_marking(request):
    return of_state(request) and request.name == "update" and request.collection.startswith("fence_")


def late_on_a_shard(scenario, pair, kill=None):
    """A write of the killed process arrives on a shard that the job's document is not on; `kill`: the first
    process that takes over is killed in its k-th session."""
    sides = Sharded(pair)
    job, released, answers = straggler(scenario, pair, sides)
    if kill is not None:
        def die(request, serve):
            answer = serve(request)
            job.signal(signal.SIGKILL)
            return answer
        killed_taking_over(scenario, sides, job, lambda script: script.on(
            "update", when=is_marking, after=kill).act(die))
    job.start()
    job.wait_in_sync()
    scenario.expect(not [name for name in pair.destination.client["towline_" + NAME].list_collection_names()
                         if name.startswith("fence_")] or kill is not None, "what made the fence is left")
    arrives(scenario, pair, job, released, answers)
    codes = [entry["code"] for entry in answers[0].get("writeErrors", [])]
    scenario.expect(codes == [225], "the late write was answered %s" % answers[0])
    scenario.expect(not sides.destination.gaps, "gaps: %s" % sides.destination.gaps)
    sides.close()


def refused_on_a_shard(scenario, pair):
    """A process that lives on learns from the refusal of a shard, in a reply of the mongos that is fine
    otherwise, that the job is another's."""
    fill(scenario, pair)
    sides = Sharded(pair)
    first = start(scenario, sides)
    first.wait_in_sync()
    with Hold(sides.destination, "update", when=lambda request: request.database == "data") as hold:
        pair.source.client["data"]["a"].update_one({"_id": 1}, {"$set": {"v": "old"}})
        wait_until("a write on its way", hold.reached.is_set)
        # Its lease is not renewed, nor does it hear why: the write's refusal is the first that it hears.
        def after_refusal(request, serve):
            sides.destination.too_old.wait(60)
            time.sleep(0.5)  # that answer is under way
            return serve(request)
        holder = state(pair)["lease"]["holder"].encode()
        sides.destination.script.on("update", when=lambda request: of_state(request) and any(
            holder in update and b"$literal" not in update for update in request.list_of("updates")), times=None
                                    ).act(after_refusal)
        second = start(scenario, sides)
        second.wait_in_sync()
        pair.source.client["data"]["a"].update_one({"_id": 1}, {"$set": {"v": "new"}})
        second.wait_caught_up(pair.source.client)
    scenario.expect(sides.destination.too_old.wait(10), "the late write was not refused")
    expect_status(scenario, first, "lease", "ended what this one was writing")
    second.finish()
    scenario.expect_equal(pair)
    sides.close()


def late_drop(scenario, pair):
    """A drop of the killed process arrives when its collection was made again and filled."""
    fill(scenario, pair)
    sides, released = Proxied(pair), threading.Event()
    source, destination = (server.client["data"] for server in pair)
    job = start(scenario, sides, verify_repair="yes")
    job.wait_in_sync()
    answers = sides.destination.hold_back(sides.destination.script.on(
        "drop", when=lambda request: request.database == "data"), released)
    source.drop_collection("a")
    wait_until("a drop on its way", lambda: sides.destination.script.acted() > 0)
    job.kill()
    sides.destination.script.clear()
    named = list(state(pair)["operations"].values())
    scenario.expect([(entry["what"], entry["namespace"]) for entry in named] == [("drop", "data.a")],
                    "operations: %s" % named)
    source["a"].insert_many([{"_id": "again %d" % n} for n in range(50)])
    job.start()
    job.wait_in_sync()
    job.wait_caught_up(pair.source.client)
    scenario.expect(destination["a"].count_documents({}) == 50, "it was not made again")
    released.set()
    wait_until("the answer to the drop", lambda: answers)
    scenario.expect(destination["a"].count_documents({}) == 0, "the drop was refused")
    source["a"].insert_one({"_id": "and more"})
    job.wait_caught_up(pair.source.client)
    job.finish()
    scenario.expect_equal(pair)
    sides.close()


# Repairs ----------------------------------------------------------------------------------------------

def repair_late(scenario, pair):
    """A write of `verify --repair` is under way, and so is a drop, when the stopped job is started again: not while
    the repair has its lease; after it was killed, neither changes what the job goes on with unnoticed."""
    fill(scenario, pair)
    source, copy = (server.client["data"]["a"] for server in pair)
    job = start(scenario, pair)
    job.wait_in_sync()
    job.signal(signal.SIGTERM)
    job.wait()
    source.update_one({"_id": 1}, {"$set": {"v": "old"}})
    sides, released = Proxied(pair), threading.Event()
    script, answers = sides.destination.script, []

    def arrive_late(request, serve):
        released.wait(60)
        answers.append(serve(request))
        return answers[0]
    script.on("update", when=lambda request: request.database == "data").act(arrive_late)
    command = [binary(), "verify", "--source", sides.source.uri, "--destination", sides.destination.uri,
               "--include", "data", "--repair", "--progress", "none"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                          env=clean_environment()) as repair:
        wait_until("a write of the repair", lambda: script.acted() > 0)
        scenario.expect(pair.destination.client[REPAIR]["job"].find_one()["sessions"], "it names no session")
        job.start()
        expect_status(scenario, job, "lease", "repair")
        repair.kill()
    script.clear()
    pair.destination.client[REPAIR]["job"].update_one({}, {"$set": {"lease.expires": 0, "operations.o0": {
        "what": "drop", "namespace": "data.b", "to": None}}})  # its time is over
    source.update_one({"_id": 1}, {"$set": {"v": "new"}})
    job.start()
    job.wait_in_sync()
    scenario.expect(not pair.destination.client[REPAIR].list_collection_names(), "the repair's state is left")
    scenario.expect([entry["namespace"] for entry in state(pair)["late"]] == ["data.b"], str(state(pair).get("late")))
    job.wait_caught_up(pair.source.client)
    released.set()
    wait_until("the straggler's answer", lambda: answers)
    scenario.expect(copy.find_one({"_id": 1})["v"] == "new", "the destination has the old document")
    job.finish()
    scenario.expect_equal(pair)
    sides.close()


def repair_begun(scenario, pair):
    """A job that was killed may still have something under way: nothing is repaired until it was started again."""
    fill(scenario, pair)
    job = start(scenario, pair, lease="3s")
    job.wait_in_sync()
    job.kill()
    time.sleep(3.2)  # the lease has run out
    done = towline("verify", "--source", pair.source.uri, "--destination", pair.destination.uri, "--include", "data",
                   "--repair")
    scenario.expect(done.returncode == EXIT["lease"] and "towline_" + NAME in done.stderr, done.stderr)
    scenario.expect(not pair.destination.client[REPAIR].list_collection_names(), "the repair's state is left")
    job.start()
    job.finish()


# The end ----------------------------------------------------------------------------------------------

def killed_before_told(scenario, pair, sides, **options):
    """A job that came to a good end, killed when its state is gone and before it said so."""
    fill(scenario, pair)
    job = start(scenario, sides, **options)
    job.wait_in_sync()
    reached, go = threading.Event(), threading.Event()

    def perform(request, serve):
        answer = serve(request)
        reached.set()
        go.wait(60)
        return answer
    sides.destination.script.on("dropDatabase").act(perform)
    job.commit()
    wait_until("the end of the state", reached.is_set)
    job.kill()
    go.set()
    return job


def end_of_another_time(scenario, pair):
    """The record of an end is believed only while the destination has what it speaks of."""
    sides = Proxied(pair)
    job = killed_before_told(scenario, pair, sides)
    pair.destination.client.drop_database("data")  # the rehearsal is over
    pair.source.client["data"]["a"].insert_many([{"_id": "new %d" % n} for n in range(20)])
    job.start()
    job.finish()
    scenario.expect("done_ignored" in job.tail(400), "the record was not mentioned")
    scenario.expect_equal(pair)
    sides.close()


def end_of_another_source(scenario, pair):
    """The record of an end is not believed of another source at the same address: nothing was copied from that."""
    sides = Proxied(pair)
    job = killed_before_told(scenario, pair, sides)
    record = pathlib.Path(job.options["spool"], "towline-%s.done" % NAME)
    kept = json.loads(record.read_text(encoding="utf-8"))
    scenario.expect(kept.get("sourceDeployment"), "the record does not say whose it is")
    kept["sourceDeployment"] = "set id=000102030405060708090a0b hosts=elsewhere:27017 name=another"
    record.write_text(json.dumps(kept) + "\n", encoding="utf-8")
    job.start()
    expect_status(scenario, job, "conflict", "data.a")
    scenario.expect("done_ignored" in job.tail(400), "the record was not mentioned")
    sides.close()


def end_in_part(scenario, pair):
    """Some of what was copied is in use, and some is gone: nothing is dropped, and a person is asked."""
    sides = Proxied(pair)
    job = killed_before_told(scenario, pair, sides, clear_destination=True)
    pair.destination.client["data"].drop_collection("a")
    pair.destination.client["data"]["b"].insert_one({"_id": "by the application"})
    job.start()
    expect_status(scenario, job, "conflict", "in use", ".done")
    scenario.expect(pair.destination.client["data"]["b"].find_one({"_id": "by the application"}),
                    "the application's collection was dropped")
    sides.close()


def end_replaced(scenario, pair):
    """The application replaced all of what was copied: it is in use all the same."""
    sides = Proxied(pair)
    job = killed_before_told(scenario, pair, sides, clear_destination=True)
    for name in ("a", "b"):
        pair.destination.client["data"].drop_collection(name)
        pair.destination.client["data"][name].insert_one({"_id": "by the application"})
    job.start()
    expect_status(scenario, job, "conflict", "in use", ".done")
    scenario.expect(pair.destination.client["data"]["a"].find_one({"_id": "by the application"}),
                    "the application's collection was dropped")
    sides.close()


def end_of_before(scenario, pair):
    """All of it is there: it is done, and says when and by whom."""
    sides = Proxied(pair)
    job = killed_before_told(scenario, pair, sides, clear_destination=True)
    job.start()
    summary = job.wait_done()
    scenario.expect(summary["state"] == "done" and summary["doneBefore"].startswith("20"), str(summary)[:300])
    scenario.expect("done at 20" in job.tail(400), "it does not say when")
    scenario.expect_equal(pair)
    sides.close()


def nothing_recorded(scenario, pair):
    """Neither record nor summary can be written at the end: it is a good end all the same, which the state
    remembers, so that the same command drops nothing."""
    fill(scenario, pair)
    job = start(scenario, pair, clear_destination=True)
    job.wait_in_sync()
    record = pathlib.Path(job.options["spool"], "towline-%s.done" % NAME)
    record.mkdir()
    place = os.path.join(job.folder, "elsewhere")
    open_files = pathlib.Path("/proc/%d/fd" % job.process.pid)
    scenario.expect(any(os.readlink(file).startswith(job.summary_file) for file in open_files.iterdir()),
                    "no room was taken for the summary")
    os.mkdir(job.summary_file)
    faults.injected("record and summary cannot be written")
    job.commit()
    scenario.expect(job.wait() == 0, lambda: "it ended with %s: %s" % (job.status, job.error_line()))
    scenario.expect('"state":"done"' in job.tail(400), "the summary is nowhere")
    scenario.expect("end_not_recorded" in job.tail(400), "nothing was said of the record")
    scenario.expect(state(pair).get("ended"), "the state does not say that the job ended")
    pair.destination.client["data"]["a"].insert_one({"_id": "by the application"})
    record.rmdir()
    job.options["summary"] = job.summary_file = place
    job.start()
    scenario.expect(job.wait_done()["doneBefore"], "it does not say that it was done before")
    scenario.expect(pair.destination.client["data"]["a"].delete_one({"_id": "by the application"}).deleted_count,
                    "the application's document is gone")
    scenario.expect_equal(pair)
    scenario.expect_no_state(pair, job)


def not_told(scenario, pair):
    """Standard output is full: it is done, which has a status to itself, and the state says so wherever the same
    command runs next; nothing is cleared."""
    fill(scenario, pair)
    words = [binary(), "run", "--source", pair.source.uri, "--destination", pair.destination.uri, "--job", NAME,
             "--listen", "none", "--cutover", "auto", "--no-verify", "--clear-destination", "--progress", "json"]
    with open("/dev/full", "w", encoding="ascii") as full:
        done = subprocess.run([*words, "--spool", scenario.folder()], stdout=full, stderr=subprocess.PIPE, text=True,
                              timeout=120, env=clean_environment())
    scenario.expect(done.returncode == EXIT["output"], "%d: %s" % (done.returncode, done.stderr[-300:]))
    scenario.expect(state(pair).get("ended"), "the state does not say that the job ended")
    pair.destination.client["data"]["a"].insert_one({"_id": "by the application"})
    pair.destination.client["towline_" + NAME]["job"].update_one({}, {"$set": {"lease.expires": 0}})
    done = towline(*words[1:], "--spool", scenario.folder())
    scenario.expect(done.returncode == 0 and "done at 20" in done.stderr, "%d: %s" % (
        done.returncode, done.stderr[-300:]))
    scenario.expect(pair.destination.client["data"]["a"].delete_one({"_id": "by the application"}).deleted_count,
                    "the application's document is gone")
    scenario.expect(not pair.destination.client["towline_" + NAME].list_collection_names(), "the state is left")


def no_room(scenario, pair):
    """A summary that could not be written is refused before anything else."""
    done = towline("run", "--source", pair.source.uri, "--destination", pair.destination.uri, "--job", NAME,
                   "--listen", "none", "--cutover", "auto", "--spool", scenario.folder(),
                   "--summary", "/nowhere/summary.json")
    scenario.expect(done.returncode == EXIT["option"] and "/nowhere/summary.json" in done.stderr, done.stderr)
    scenario.expect("phase:" not in done.stderr, "it began")


def asked_to_the_end(scenario, pair, end):
    """Progress and collections are asked for in a tight loop while the job ends."""
    scenario.reset(*pair)
    for number in range(200):
        pair.source.client["data"]["c%d" % number].insert_one({"_id": 1})
    job = start(scenario, pair)
    if end == "cancel while copying":
        job.wait_phase("copying", "catching-up", "in-sync")
    else:
        job.wait_in_sync()
    over, lists = threading.Event(), []

    def ask():
        while not over.is_set():
            for path in ("collections?limit=1000", "progress"):
                try:
                    answer = job.api("GET", path)
                    if "total" in answer:
                        lists.append(answer["total"])
                except (OSError, ApiError, ValueError):
                    pass
    askers = [threading.Thread(target=ask, daemon=True) for _ in range(3)]
    for asker in askers:
        asker.start()
    if end == "SIGTERM":
        job.signal(signal.SIGTERM)
    else:
        job.api("POST", "commit" if end == "cutover" else "cancel")
    status = job.wait()
    over.set()
    for asker in askers:
        asker.join()
    expected = {"cutover": "ok", "SIGTERM": "interrupted"}.get(end, "cancelled")
    scenario.expect(status == EXIT[expected], lambda: "it ended with %s: %s" % (status, job.error_line()))
    scenario.expect(len(lists) > 0 and lists[-1] == 200 or end == "cancel while copying",
                    "lists of collections: %s" % lists[-5:])


def main():
    with Scenario(__doc__) as scenario:
        pair = scenario.pair()
        cases = [
            ("two processes are started at once with --clear-destination", started_twice, ()),
            ("a process that was checked long ago clears the destination", started_late, ()),
            ("another job clears what a job copied", other_job, ()),
            ("two jobs clear at once", both_clear, ()),
            ("killed while the destination is cleared", killed_while_clearing, ()),
            ("killed while preparing", killed_while_preparing, ()),
            ("a cancel is heard when the job is another's", cancelled_late, ()),
            ("the state is removed", state_gone, ()),
            *(("a process stands still over its lease while %s" % phase, stopped_in, (phase,))
              for phase in ("copying", "in-sync", "finalizing")),
            ("the lease of a killed process is waited for", waited_for, ()),
            ("another user takes the job over", other_user, ()),
            ("sessions are named before they are used", sessions_first, ()),
            *(("killed before session %d is fenced" % step, fencing_killed, (step,)) for step in (0, 2)),
            ("the answers to fences are lost", fencing_unanswered, ()),
            ("killed at each step of a takeover", killed_at, ((0, 1, 4, 7),)),
            ("both sides are silent during a takeover", both_silent, ()),
            ("a write arrives late on another shard", late_on_a_shard, ()),
            ("a write arrives late on another shard, and who took over was killed", late_on_a_shard, (1,)),
            ("a shard refuses a write of who lost the job", refused_on_a_shard, ()),
            ("a drop arrives late", late_drop, ()),
            ("a write of a repair arrives late", repair_late, ()),
            ("a repair after a job was killed", repair_begun, ()),
            ("an end is recorded, and the destination emptied since", end_of_another_time, ()),
            ("an end is recorded, of another source", end_of_another_source, ()),
            ("an end is recorded, and a part of the destination is gone", end_in_part, ()),
            ("an end is recorded, and the application replaced all", end_replaced, ()),
            ("an end is recorded, and all is there", end_of_before, ()),
            ("nothing can be recorded at the end", nothing_recorded, ()),
            ("the end cannot be printed", not_told, ()),
            ("no room for the summary", no_room, ()),
            *(("asked to the end: %s" % end, asked_to_the_end, (end,))
              for end in ("cutover", "cancel while copying", "cancel in sync", "SIGTERM"))]
        for name, case, given in cases:
            if scenario.arguments.only not in name:
                continue
            with scenario.case(name):
                case(scenario, pair, *given)
            for job in scenario.jobs:
                job.close()


if __name__ == "__main__":
    main()
