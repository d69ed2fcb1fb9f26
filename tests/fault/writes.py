#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""writes.py: what a destination may answer to a write although, or because, it did something else.

A proxy (tests/lib/proxy.py) stands before a real destination and changes its answers: some statements of
a bulk failed, the majority did not acknowledge, the answer was lost, the server was busy. Each case
plants its fault while the job copies and again while it follows a load, and ends with both sides
compared.
"""
import pathlib
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True

import bson
from bson.son import SON

import corpus
from job import source_time, stamp
from proxy import Proxied, behind
from scenario import Scenario, wait_until

WRITES = ("insert", "update", "delete")


class Sides:
    def __init__(self, pair):
        self.pair, self.destination = pair, behind(pair.destination)

    def uris(self):
        return self.pair.source.uri, self.destination.uri


def of_data(request):
    """Writes of the job's data, not of its state."""
    return not request.database.startswith("towline_") and len(request.list_of(
        {"insert": "documents", "update": "updates", "delete": "deletes"}[request.name])) > 0


def some_fail(code, name):
    """Every seventh statement is reported as failed. The server did them all: what it says is not what
    it did, and the engine may rely on neither."""
    def put(request, document):
        count = len(request.list_of({"insert": "documents", "update": "updates",
                                     "delete": "deletes"}[request.name]))
        errors = [SON([("index", index), ("code", code), ("codeName", name),
                       ("errmsg", "scripted: " + name)]) for index in range(0, count, 7)]
        document["writeErrors"] = errors
        document["n"] = max(0, document.get("n", 0) - len(errors))
    return put


FAULTS = [
    ("a write conflict in the middle of a bulk",
     lambda rule: rule.change(some_fail(112, "WriteConflict"),
                              "statements of a bulk failed: WriteConflict")),
    ("a time-out in the middle of a bulk",
     lambda rule: rule.change(some_fail(50, "MaxTimeMSExpired"),
                              "statements of a bulk failed: MaxTimeMSExpired")),
    ("an unknown error in the middle of a bulk",
     lambda rule: rule.change(some_fail(8, "UnknownError"),
                              "statements of a bulk failed: UnknownError")),
    ("the majority does not acknowledge", lambda rule: rule.concern_error()),
    ("the majority is lost to a change of roles",
     lambda rule: rule.concern_error(189, "PrimarySteppedDown")),
    ("done, but reported as interrupted by a change of roles",
     lambda rule: rule.error_after(11602, "InterruptedDueToReplStateChange",
                                   labels=["RetryableWriteError"])),
    ("done, and the answer is lost", lambda rule: rule.lost()),
    ("refused for pressure on the cache",
     lambda rule: rule.error(365, "TemporarilyUnavailable")),
]


def one_fault(scenario, pair, plant, writes):
    scenario.reset(*pair)
    client = pair.source.client
    client["data"]["a"].insert_many([{"_id": n, "u": n, "n": 0} for n in range(3000)])
    client["data"]["a"].create_index("u", unique=True)
    corpus.plant(client)
    sides = Sides(pair)
    script = sides.destination.script

    def plant_all():
        for name in writes:
            plant(script.on(name, when=of_data, after=1))
            plant(script.on(name, when=of_data, after=1))

    plant_all()
    job = scenario.job(sides)
    load = corpus.Stirrer(client, scenario.seed)
    try:
        job.wait_in_sync()
        plant_all()
        for turn in range(6):
            client["data"]["a"].update_many({"_id": {"$mod": [3, turn % 3]}}, {"$inc": {"n": 1}})
            client["data"]["a"].delete_many({"_id": {"$mod": [11, turn]}})
            client["data"]["a"].insert_many([{"_id": "%d-%d" % (turn, n), "u": "%d-%d" % (turn, n)}
                                             for n in range(50)])
            job.wait_caught_up(client)
    finally:
        load.stop()
    scenario.expect(script.acted() >= len(writes),
                    lambda: "only %d faults happened" % script.acted())
    job.wait_in_sync()
    job.finish()
    scenario.expect_equal(pair)
    sides.destination.close()


def expect_same(scenario, what, source, destination):
    """Now, before the cutover's verification would repair it."""
    sides = [{document["_id"]: document for document in side.find()} for side in (source, destination)]
    different = [key for key in sides[0].keys() | sides[1].keys() if sides[0].get(key) != sides[1].get(key)]
    scenario.expect(not different, "%s: %d documents differ, as _id %s" % (what, len(different), different[:1]))


def stragglers(scenario, pair):
    """A write arrives when its document has long changed again, or is gone: it must come to nothing."""
    scenario.reset(*pair)
    source, destination = (server.client["data"]["a"] for server in pair)
    source.insert_many([{"_id": n, "n": 0} for n in range(200)])
    sides = Sides(pair)
    released = threading.Event()
    answers = sides.destination.hold_back(sides.destination.script.on("insert", when=of_data), released)
    job = scenario.job(sides)
    job.wait_in_sync()
    source.delete_many({"_id": {"$gte": 150}})
    job.wait_caught_up(pair.source.client)
    released.set()
    wait_until("the answer to the straggler of the copy", lambda: answers)
    expect_same(scenario, "copied", source, destination)
    sides.destination.script.clear()
    for change in ("changed", "deleted", "inserted"):
        released = threading.Event()
        answers = [sides.destination.hold_back(sides.destination.script.on(name, when=of_data), released)
                   for name in WRITES]
        if change == "inserted":
            source.delete_many({"_id": {"$lt": 50}})
        else:
            source.update_many({"_id": {"$lt": 50}}, {"$set": {"n": change}})
        wait_until("a write on its way", lambda: sides.destination.script.acted() > 0)
        sides.destination.script.clear()
        if change == "changed":
            source.update_many({}, {"$set": {"n": "again"}})
        elif change == "deleted":
            source.delete_many({"_id": {"$lt": 50}})
        else:
            source.insert_many([{"_id": n, "n": "new"} for n in range(50)])
        job.wait_caught_up(pair.source.client)
        released.set()
        wait_until("the straggler's answer", lambda: any(answers))
        expect_same(scenario, change, source, destination)
        if change == "deleted":
            source.insert_many([{"_id": n, "n": 0} for n in range(50)])
            job.wait_caught_up(pair.source.client)
    job.finish()
    scenario.expect_equal(pair)
    sides.destination.close()


def stragglers_of_the_killed(scenario, pair):
    """The process is killed while its writes are on their way, and they arrive when the next process has
    written newer ones."""
    scenario.reset(*pair)
    source, destination = (server.client["data"]["a"] for server in pair)
    source.insert_many([{"_id": n, "n": 0} for n in range(200)])
    sides = Sides(pair)
    script = sides.destination.script

    def hold():
        released = threading.Event()
        return released, [sides.destination.hold_back(script.on(name, when=of_data), released)
                          for name in WRITES]

    def kill():
        wait_until("a write on its way", lambda: script.acted() > 0)
        job.kill()
        script.clear()

    def arrive(released, answers, what):
        job.wait_caught_up(pair.source.client)
        released.set()
        wait_until("the straggler's answer", lambda: any(answers))
        expect_same(scenario, what, source, destination)

    held = hold()
    job = scenario.job(sides)
    kill()
    source.delete_many({"_id": {"$gte": 150}})
    job.start()
    job.wait_in_sync()
    arrive(*held, "copied")
    held = hold()
    source.update_many({}, {"$set": {"n": "changed"}})
    kill()
    source.update_many({}, {"$set": {"n": "again"}})
    job.start()
    job.wait_in_sync()
    arrive(*held, "changed")
    held = hold()
    source.delete_many({"_id": {"$lt": 50}})
    kill()
    source.insert_many([{"_id": n, "n": "new"} for n in range(50)])
    job.start()
    job.wait_in_sync()
    arrive(*held, "deleted")
    job.finish()
    scenario.expect_equal(pair)
    sides.destination.close()


def refuse_all(request):
    """What a mongos answers while the shard of all these statements has no primary; none is done."""
    count = len(request.list_of({"insert": "documents", "update": "updates",
                                 "delete": "deletes"}[request.name]))
    return SON([("ok", 1.0), ("n", 0), ("writeErrors", [
        SON([("index", index), ("code", 189), ("errmsg", "scripted: PrimarySteppedDown")])
        for index in range(count)])])


def shard_away(scenario, pair):
    """That is no word about the documents: none is to blame, and it passes."""
    scenario.reset(*pair)
    data = pair.source.client["data"]
    data["a"].insert_many([{"_id": n, "u": n} for n in range(3000)])
    data["a"].create_index("u", unique=True)
    sides = Sides(pair)
    script = sides.destination.script
    state = lambda request: request.database.startswith("towline_") and request.collection == "ranges"
    script.on("insert", when=of_data, times=5).reply(refuse_all)
    script.on("update", when=state, times=3).reply(refuse_all)
    job = scenario.job(sides)
    job.wait_in_sync()
    scenario.expect(script.acted() == 8, lambda: "%d faults happened" % script.acted())
    for name in WRITES:
        script.on(name, when=of_data, times=3).reply(refuse_all)
    data["a"].update_many({"_id": {"$lt": 500}}, {"$set": {"after": 1}})
    data["a"].delete_many({"_id": {"$gte": 2900}})
    job.wait_caught_up(pair.source.client)
    scenario.expect("PrimarySteppedDown" in job.tail(400), "it was not taken for a failure of the server")
    job.wait_in_sync()
    job.finish()
    scenario.expect_equal(pair)
    sides.destination.close()


UNIQUE = {"partial": dict(partialFilterExpression={"active": True}),
          "collated": dict(collation={"locale": "en", "strength": 2}),
          "sparse": dict(sparse=True), "plain": {}}


def of_value(kind, turn):
    """A document that holds the value of its collection's index, as the one of the turn before does."""
    value = {"collated": "Value" if turn % 2 else "vALUE", "sparse": None, "plain": []}.get(kind, "value")
    return {"_id": "holder %d" % turn, "value": value, "active": True}


def say_nothing(request, document):
    """A mongos says which statement, and neither index nor value; beyond 1 MB no server says a word."""
    for error in document.get("writeErrors", ()):
        for name in ("keyPattern", "keyValue", "collation", "hexEncoded"):
            error.pop(name, None)
        if error["code"] == 11000:
            error["errmsg"] = ""


def statements(job):
    return job.now()["statementsApplied"]


def values_move(scenario, pair, silent):
    """The value of a unique index goes from document to document, which are in different lanes: while they are
    followed, and with all of it waiting. The index stays, and nobody but the holders is touched."""
    scenario.reset(*pair)
    source, destination = (server.client["data"] for server in pair)
    for kind, options in UNIQUE.items():
        source[kind].create_index("value", unique=True, **options)
        source[kind].insert_many([{"_id": n, "n": n} if kind == "sparse" else
                                  {"_id": n, "value": "value"} if kind == "partial" else
                                  {"_id": n, "value": n} for n in range(3000)])
        source[kind].insert_one(of_value(kind, 0))
    sides = Sides(pair)
    if silent:
        for name in ("insert", "update"):
            sides.destination.script.on(name, when=of_data, times=None).change(say_nothing)
    job = scenario.job(sides)
    job.wait_in_sync()
    turn, sent = 0, statements(job)
    for waits in (False, True):
        if waits:
            job.pause()
        for turn in range(turn, turn + 40):
            for kind in UNIQUE:
                source[kind].delete_one({"_id": "holder %d" % turn})
                source[kind].insert_one(of_value(kind, turn + 1))
        turn += 1
        # Two that wait for each other, and can only go together.
        for kind in UNIQUE:
            source[kind].insert_one({"_id": "second", "value": "second", "active": True})
        if waits:
            job.resume()
        job.wait_caught_up(pair.source.client, timeout=40)
        for kind in UNIQUE:
            source[kind].delete_one({"_id": "second"})
        job.wait_caught_up(pair.source.client, timeout=40)
        for kind in UNIQUE:
            expect_same(scenario, kind, source[kind], destination[kind])
            scenario.expect("value_1" in destination[kind].index_information(), "%s: no index" % kind)
    scenario.expect("index_broken" not in job.tail(400), "an index was taken for broken")
    scenario.expect(statements(job) - sent < 3000, lambda: "%d statements for some 660 events" % (
        statements(job) - sent))
    job.wait_in_sync()
    job.finish()
    scenario.expect_equal(pair)
    sides.destination.close()


def swap_values(scenario, pair):
    """Documents that exchange their values in one go, under a collation: no order of single writes does it."""
    scenario.reset(*pair)
    source, destination = (server.client["data"]["collated"] for server in pair)
    source.create_index("value", unique=True, collation={"locale": "en", "strength": 2})
    source.insert_many([{"_id": n, "value": "Name %d" % n} for n in range(50)])
    sides = Sides(pair)
    job = scenario.job(sides)
    job.wait_in_sync()
    for turn in range(2):
        job.pause()
        source.update_many({}, [{"$set": {"value": {"$concat": ["spare ", {"$toString": "$_id"}]}}}])
        for number in range(50):
            source.update_one({"_id": number}, {"$set": {"value": ("NAME %d", "name %d")[turn] % (
                (number + 1 + turn) % 50)}})
        job.resume()
        job.wait_caught_up(pair.source.client, timeout=40)
        expect_same(scenario, "swapped", source, destination)
    scenario.expect("index_broken" not in job.tail(400), "an index was taken for broken")
    job.wait_in_sync()
    job.finish()
    scenario.expect_equal(pair)
    sides.destination.close()


def large_ids(scenario, pair):
    """145 _ids of 120 KB: no request is larger than a server takes."""
    scenario.reset(*pair)
    data = pair.source.client["data"]["large"]
    sides, sent = Proxied(pair), []
    for side in sides:
        side.script.on("*", when=lambda request: sent.append(len(request.message))).delay(0)
    data.insert_many([{"_id": "%03d %s" % (n, "x" * 120000), "k": n} for n in range(145)])
    job = scenario.job(sides, workers=1)
    job.wait_in_sync()
    job.pause()
    for first in range(0, 145, 73):  # the test server puts all that it has into one reply
        data.delete_many({"k": {"$gte": first, "$lt": first + 73}})
        goal = source_time(pair.source.client)
        job.wait_for("the events", lambda progress: stamp(progress["positions"]["read"]) >= goal)
    job.resume()
    job.wait_caught_up(pair.source.client, timeout=60)
    expect_same(scenario, "large", data, pair.destination.client["data"]["large"])
    scenario.expect(max(sent) < 16793600, lambda: "a request of %d bytes" % max(sent))
    data.insert_one({"_id": 1})
    job.wait_in_sync()
    job.finish()
    scenario.expect_equal(pair)
    sides.close()


def has_dollar(value):
    if isinstance(value, dict):
        return any(name.startswith("$") or has_dollar(child) for name, child in value.items())
    return isinstance(value, list) and any(map(has_dollar, value))


def nested_dollars(scenario, pair):
    """A destination before 5.0 refuses a replacement with a nested $x (52), and takes an insert."""
    scenario.reset(*pair)
    data = pair.source.client["data"]["a"]
    sides = Sides(pair)
    script, seen = sides.destination.script, []

    def refused(request):
        seen.append(1)
        return SON([("ok", 1.0), ("n", 0), ("writeErrors", [
            SON([("index", index), ("code", 52), ("errmsg", "scripted: the dollar ($) prefixed field")])
            for index, raw in enumerate(request.list_of("updates"))])])
    script.on("buildInfo", times=None).change(lambda request, document: document.update(
        version="4.4.6", versionArray=[4, 4, 6, 0]))
    script.on("update", when=lambda request: of_data(request) and any(
        has_dollar(bson.decode(raw)["u"]) for raw in request.list_of("updates")), times=None).reply(refused)
    data.insert_many([{"_id": n, "a": [{"b": {"$x": n}}], "t": bson.Timestamp(0, 0)} for n in range(100)])
    job = scenario.job(sides)
    job.wait_in_sync()
    for waits in (False, True):
        if waits:
            job.pause()
        data.update_many({}, {"$inc": {"n": 1}})
        data.insert_many([{"_id": "%s %d" % (waits, n), "a": {"$y": n}} for n in range(50)])
        if waits:
            job.resume()
        job.wait_caught_up(pair.source.client, timeout=40)
        expect_same(scenario, "dollars", data, pair.destination.client["data"]["a"])
    scenario.expect(not seen, "a replacement was sent that the server refuses")
    job.wait_in_sync()
    job.finish()
    scenario.expect_equal(pair)
    sides.destination.close()


CASES = [
    ("a write that arrives late", stragglers),
    ("a write arrives when its process was killed", stragglers_of_the_killed),
    ("a shard has no primary for a while", shard_away),
    ("values of unique indexes move", lambda scenario, pair: values_move(scenario, pair, False)),
    ("values move, and the server does not say which", lambda scenario, pair: values_move(scenario, pair, True)),
    ("values are swapped under a collation", swap_values),
    ("large _ids", large_ids),
    ("nested dollars on an old destination", nested_dollars),
]


def main():
    with Scenario(__doc__) as scenario:
        pair = scenario.pair()
        # The driver looks for a new primary for two seconds after each change of roles.
        cases = [(name, one_fault, (plant, ("update",) if "roles" in name else WRITES))
                 for name, plant in FAULTS]
        cases += [(name, case, ()) for name, case in CASES]
        for name, case, arguments in cases:
            if scenario.arguments.only not in name:
                continue
            with scenario.case(name):
                case(scenario, pair, *arguments)
            for job in scenario.jobs:
                job.close()


if __name__ == "__main__":
    main()
