#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""foreign.py: what servers say is foreign, and what is on a destination is mostly somebody else's.

Proxies stand before two real servers and change what they say: lists that are no lists, entries that cannot be
read, lists that a role made shorter, names of one deployment that differ on both sides. None of it may drop or
change what the job did not make, pass for "there is nothing", or end the process by a signal. The last case
changes replies at random, by a seed.
"""
import pathlib
import random
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True

import bson
from bson.datetime_ms import DatetimeMS
from bson.int64 import Int64
from bson.son import SON
from bson.timestamp import Timestamp

from job import EXIT, ApiError, towline
from proxy import Proxied
from scenario import Scenario, scaled, wait_until

DOCUMENTS = 300


def fill(pair):
    for name in ("a", "b"):
        pair.source.client["shop"][name].insert_many([{"_id": n, "n": n} for n in range(DOCUMENTS)])
    pair.source.client["stock"]["items"].insert_many([{"_id": n} for n in range(DOCUMENTS)])


def counts(server):
    client = server.client
    return {"%s.%s" % (name, each): client[name][each].count_documents({})
            for name in client.list_database_names()
            if name not in ("admin", "local", "config") and not name.startswith("towline_")
            for each in client[name].list_collection_names()}


class Sides:
    """A proxied pair, closed at the end of its block."""

    def __init__(self, scenario, pair):
        scenario.reset(*pair)
        fill(pair)
        self.proxied = Proxied(pair)

    def __enter__(self):
        return self.proxied

    def __exit__(self, *_):
        self.proxied.close()


def called_off(scenario, job, *texts):
    """The cutover is asked for and called off; the job goes on, in sync. What the log said before is no answer."""
    said = "the cutover is called off"
    job.wait_in_sync()
    before = len(job.tail(4000))
    job.commit()
    wait_until("a cutover that is called off", lambda: said in job.tail(4000)[before:] or job.ended.is_set())
    scenario.expect(not job.ended.is_set(), lambda: "the job ended: %s" % job.error_line())
    log = job.tail(4000)[before:]
    for text in texts:
        scenario.expect(text in log, "%r is not in the log" % text)


# Who is who -------------------------------------------------------------------------------------------

def rename_members(request, document):
    """One deployment under other names, whose id its user may not read: as through another horizon."""
    if "hosts" in document:
        document["hosts"] = ["elsewhere.example:%d" % 27017]
        document["me"] = document["primary"] = document["hosts"][0]
    if "topologyVersion" in document:
        document["topologyVersion"]["processId"] = bson.ObjectId()


def blind(proxy, renamed):
    proxy.script.on("replSetGetConfig", times=None).error(13, "Unauthorized")
    if renamed:
        for name in ("hello", "isMaster"):
            proxy.script.on(name, times=None).change(rename_members)


def one_deployment(scenario, pair, renamed):
    """The roles of the README do not let the destination's user read who it is."""
    scenario.reset(*pair)
    fill(pair)
    proxied = Proxied(type(pair)(pair.source, pair.source))
    try:
        blind(proxied.destination, renamed)
        if renamed:
            done = towline("check", "--source", proxied.source.uri, "--destination", proxied.destination.uri,
                           "--clear-destination")
            scenario.expect("run proves it" in done.stdout, "check does not say who proves it: " + done.stdout)
        before = counts(pair.source)
        done = towline("run", "--source", proxied.source.uri, "--destination", proxied.destination.uri,
                       "--clear-destination", "--cutover", "auto", "--spool", scenario.folder())
        scenario.expect(counts(pair.source) == before, lambda: "the source has %s" % counts(pair.source))
        scenario.expect(done.returncode == EXIT["unsuitable"], "status %d: %s" % (done.returncode, done.stderr[-300:]))
        scenario.expect("same deployment" in done.stderr, done.stderr[-300:])
        scenario.expect("towline_default" not in pair.source.client.list_database_names(), "a state is left there")
    finally:
        proxied.close()


def two_deployments(scenario, pair):
    """The same blindness, and two deployments: the mark says so, and is gone afterwards."""
    with Sides(scenario, pair) as sides:
        blind(sides.destination, True)
        job = scenario.job(sides)
        job.wait_in_sync()
        names = pair.destination.client["towline_test"].list_collection_names()
        scenario.expect(not [name for name in names if name.startswith("proof")], "the mark is still there")
        job.finish()
        scenario.expect_equal(pair)


def member_replaced(scenario, pair):
    """A job goes on although the id can no longer be read and a member was replaced by another."""
    def more(hosts):
        def put(request, document):
            if "hosts" in document:
                document["hosts"] = document["hosts"] + hosts
        return put

    with Sides(scenario, pair) as sides:
        for name in ("hello", "isMaster"):
            sides.source.script.on(name, times=None).change(more(["old.example:1"]))
        job = scenario.job(sides)
        job.wait_in_sync()
        job.kill()
        sides.source.script.clear()
        for name in ("hello", "isMaster"):
            sides.source.script.on(name, times=None).change(more(["new.example:1"]))
        blind(sides.source, False)
        job.start()
        job.wait_in_sync()
        job.finish()
        scenario.expect_equal(pair)


# Lists --------------------------------------------------------------------------------------------------

def without(field):
    return lambda request, document: document.pop(field, None)


def nameless(request, document):
    for entry in document.get("cursor", {}).get("firstBatch", []):
        entry.pop("name", None)


def put(field, value):
    def change(request, document):
        document[field] = value
    return change


def batch(value):
    def change(request, document):
        for name in ("firstBatch", "nextBatch"):
            if name in document.get("cursor", {}):
                document["cursor"][name] = value
    return change


LISTS = [("listDatabases without databases", "listDatabases", without("databases")),
         ("databases is a number", "listDatabases", put("databases", 3)),
         ("databases are numbers", "listDatabases", put("databases", [{"name": 1}, {"name": 2}])),
         ("collections without names", "listCollections", nameless),
         ("collections are numbers", "listCollections", batch([1, 2, 3])),
         ("no batch of collections", "listCollections", batch({})),
         ("indexes without names", "listIndexes", nameless)]


def unreadable(scenario, pair):
    """Each at the start: refused with status 8, and nothing was written."""
    for name, command, change in LISTS:
        with scenario.case("at the start: " + name), Sides(scenario, pair) as sides:
            sides.source.script.on(command, times=None).change(change)
            done = towline("run", "--source", sides.source.uri, "--destination", sides.destination.uri, "--cutover",
                           "auto", "--spool", scenario.folder())
            scenario.expect(done.returncode == EXIT["server"], "status %d: %s" % (done.returncode, done.stderr[-300:]))
            scenario.expect(not counts(pair.destination), "something was copied")


def unreadable_later(scenario, pair):
    """At the cutover: once, which is asked again; then always, with status 8 and nothing dropped."""
    with Sides(scenario, pair) as sides:
        job = scenario.job(sides)
        job.wait_in_sync()
        have = counts(pair.destination)
        for _, command, change in LISTS:
            sides.source.script.on(command, times=None).change(change)
        job.commit()
        scenario.expect(job.wait() == EXIT["server"], lambda: "status %s" % job.status)
        scenario.expect(counts(pair.destination) == have, "the destination has %s" % counts(pair.destination))
        sides.source.script.clear()
        for _, command, change in LISTS:  # once each
            sides.source.script.on(command).change(change)
        job.start()
        job.wait_in_sync()
        job.finish()
        scenario.expect_equal(pair)


def endless(scenario, pair):
    """A listing that never ends is given up, in little memory; a stop ends it at once."""
    def more(request, document):
        cursor = document["cursor"]
        cursor["id"] = Int64(77)
        cursor["nextBatch"] = cursor.pop("firstBatch", [])
        if request.name == "listCollections":
            cursor["firstBatch"] = cursor.pop("nextBatch")

    def page(request):
        pad = "x" * 4000000
        return {"cursor": {"id": Int64(77), "ns": "shop.$cmd.listCollections", "nextBatch": [
            SON([("name", "c%d" % n), ("type", "collection"), ("options", {"x": pad})]) for n in range(3)]}, "ok": 1.0}

    with Sides(scenario, pair) as sides:
        script = sides.source.script
        script.on("listCollections", times=None).change(more)
        script.on("getMore", when=lambda request: request.body["getMore"] == 77, times=None).reply(page)
        job = scenario.job(sides, cutover="auto", retry_window=5)
        scenario.expect(job.wait() == EXIT["server"], lambda: "status %s: %s" % (job.status, job.error_line()))
        scenario.expect("does not end" in job.error_line(), job.error_line())
        scenario.expect(job.peak_bytes < 1 << 30, "%d MB of memory" % (job.peak_bytes >> 20))


def broken_stream(scenario, pair):
    """F17: entries of a batch of events that are no documents, and events that lack what they need."""
    def is_stream(request):
        return request.body.get("collection") == "$cmd.aggregate"

    def each(change_event):
        def change(request, document):
            for event in document.get("cursor", {}).get("nextBatch", []):
                change_event(event)
        return change

    changes = [batch([1, 2, 3]), batch(["x"]), batch(5), each(lambda event: event.pop("operationType")),
               each(lambda event: event.pop("_id")), each(lambda event: event.update(clusterTime=3)),
               each(lambda event: event.pop("documentKey", None)), each(lambda event: event.update(ns=[])),
               each(lambda event: event.update(operationType=1))]
    with Sides(scenario, pair) as sides:
        job = scenario.job(sides)
        job.wait_in_sync()
        documents = pair.source.client["shop"]["a"]
        for number, change in enumerate(changes):
            script = sides.source.script
            script.clear()
            script.on("getMore", when=is_stream, times=3).change(change)
            documents.update_many({"_id": {"$mod": [7, number % 7]}}, {"$inc": {"n": 1}})
            job.wait_caught_up(pair.source.client)
        job.finish()
        scenario.expect_equal(pair)


# What is somebody else's ---------------------------------------------------------------------------------

def strangers(scenario, pair):
    """F5, R1: what others make on the destination while the job runs stays, also over a restart; what the job
    made and the source dropped goes."""
    with Sides(scenario, pair) as sides:
        job = scenario.job(sides)
        job.wait_in_sync()
        target = pair.destination.client
        target["tenant2"]["orders"].insert_many([{"_id": n} for n in range(50)])
        target["shop"]["report"].insert_one({"_id": "theirs"})
        target["shop"].create_collection("theirview", viewOn="report", pipeline=[])
        target["towline_other"]["job"].insert_one({"_id": "job", "lease": {}})
        source = pair.source.client
        source["shop"]["late"].insert_one({"_id": 1})
        source["shop"].create_collection("view", viewOn="a", pipeline=[])
        source["shop"]["b"].drop()
        # Made and dropped at the source, under a name that is theirs on the destination.
        source["shop"]["theirs"].insert_one({"_id": 1})
        job.wait_caught_up(source)
        job.kill()
        job.start()
        job.wait_in_sync()
        source["shop"]["late"].drop()
        job.wait_caught_up(source)
        summary = job.finish()
        have = counts(pair.destination)
        for name, count in (("tenant2.orders", 50), ("shop.report", 1), ("shop.theirview", 1), ("shop.a", DOCUMENTS),
                            ("shop.view", DOCUMENTS), ("shop.theirs", 1)):
            scenario.expect(have.get(name) == count, "%s: %s" % (name, have))
        for name in ("shop.b", "shop.late"):
            scenario.expect(name not in have, "%s is still there" % name)
        scenario.expect(target["towline_other"]["job"].count_documents({}) == 1, "another job's state is gone")
        notes = " ".join(summary["notes"])
        scenario.expect("tenant2.orders" in notes and "left alone" in notes, "the notes do not say it: " + notes)


def in_the_way(scenario, pair):
    """A name that both sides have, and the destination's is not ours: a question, and no answer of ours."""
    with Sides(scenario, pair) as sides:
        job = scenario.job(sides)
        job.wait_in_sync()
        target, source = pair.destination.client, pair.source.client
        same = source["shop"]["b"].find_one()
        # Somebody drops it and makes one of their own: nothing that only writes of the job can have made.
        for documents, options, index in (([], {}, None), ([same], {}, "n"), ([same], {"validator": {"_id": {"$ne": 0.5}}}, None),
                                          ([{**same, "n": "theirs"}], {}, None), ([same, {"_id": "theirs"}], {}, None)):
            target["shop"]["b"].drop()
            made = target["shop"].create_collection("b", **options)
            if index:
                made.create_index(index)
            if documents:
                made.insert_many(documents)
            called_off(scenario, job, "shop.b", "did not make")
            scenario.expect(made.count_documents({}) == len(documents), "theirs is gone: %s" % documents)
        target["shop"]["b"].delete_one({"_id": same["_id"]})
        source["shop"]["b"].drop()  # its event must not drop theirs either
        job.wait_caught_up(source)
        scenario.expect(target["shop"]["b"].count_documents({}) == 1, "theirs is gone")
        job.wait_in_sync()
        job.finish()
        scenario.expect(target["shop"]["b"].count_documents({}) == 1, "theirs is gone")


def shortened(scenario, pair):
    """A role that was taken away makes lists shorter, with ok: 1: the cutover asks."""
    def hide(request, document):
        document["databases"] = [entry for entry in document["databases"] if entry["name"] != "stock"]

    with Sides(scenario, pair) as sides:
        job = scenario.job(sides)
        job.wait_in_sync()
        sides.source.script.on("listDatabases", times=None).change(hide)
        sides.source.script.on("listCollections", when=lambda request: request.database == "stock",
                               times=None).error(13, "Unauthorized")
        called_off(scenario, job, "stock.items", "no longer lists")
        scenario.expect(pair.destination.client["stock"]["items"].count_documents({}) == DOCUMENTS, "it was dropped")
        sides.source.script.clear()
        job.wait_in_sync()
        job.finish()
        scenario.expect_equal(pair)


def left_out(scenario, pair):
    """R5: a time series that is made while in sync is named, and the cutover waits for somebody to copy it."""
    with Sides(scenario, pair) as sides:
        job = scenario.job(sides)
        job.wait_in_sync()
        pair.source.client["shop"].create_collection("metrics", timeseries={"timeField": "t"})
        called_off(scenario, job, "shop.metrics", "by hand")
        pair.destination.client["shop"].create_collection("metrics", timeseries={"timeField": "t"})
        job.wait_in_sync()
        summary = job.finish()
        scenario.expect("shop.metrics" in " ".join(summary["notes"]), "the summary does not name it")


def prefix(scenario, pair):
    """R4: a database whose name begins like a job's is data; only this job's own is left out, and named."""
    with Sides(scenario, pair) as sides:
        source = pair.source.client
        source["towline_orders"]["a"].insert_many([{"_id": n} for n in range(20)])
        source["towline_test"]["old"].insert_one({"_id": 1})
        done = towline("check", "--source", sides.source.uri, "--destination", sides.destination.uri, "--job", "test")
        scenario.expect("towline_test.old" in done.stdout, "check does not name what is left out")
        job = scenario.job(sides)
        job.wait_in_sync()
        source["towline_orders"]["a"].insert_one({"_id": "later"})
        job.wait_caught_up(source)
        job.finish()
        have = pair.destination.client["towline_orders"]["a"].count_documents({})
        scenario.expect(have == 21, "%d documents of 21" % have)


def others_state(scenario, pair):
    """The state of another job is not cleared, whatever the source has under that name."""
    with Sides(scenario, pair) as sides:
        pair.source.client["towline_other"]["a"].insert_one({"_id": 1})
        pair.destination.client["towline_other"]["job"].insert_one({"_id": "job", "lease": {}})
        done = towline("run", "--source", sides.source.uri, "--destination", sides.destination.uri,
                       "--clear-destination", "--cutover", "auto", "--spool", scenario.folder())
        scenario.expect(done.returncode == EXIT["conflict"], "status %d: %s" % (done.returncode, done.stderr[-300:]))
        scenario.expect(pair.destination.client["towline_other"]["job"].count_documents({}) == 1, "it was cleared")


# Anything ------------------------------------------------------------------------------------------------

VALUES = [None, True, 0, -1, Int64(-(1 << 62)), 1e308, float("nan"), "", "x" * 1000, "a\x00b", [], [1], {}, {"": 1},
          b"\x00" * 16, bson.ObjectId(b"\x00" * 12), Timestamp(0, 0), Timestamp(4294967295, 1),
          DatetimeMS(-(1 << 63)), DatetimeMS((1 << 63) - 1)]
# What the engine reads of replies. A value of the right type that is not true is a lie, which no reader can tell;
# what is of another type, missing, or no document where one belongs, each has to.
FIELDS = ("cursor", "id", "ns", "firstBatch", "nextBatch", "postBatchResumeToken", "databases", "name", "type", "key",
          "options", "info", "n", "writeErrors", "index", "_id", "operationType", "clusterTime", "documentKey",
          "lease", "epoch", "holder", "host", "pid", "expires", "localTime", "checkpoint", "config", "settings",
          "numObjects", "size")
# Data: documents are what they are.
DATA = ("fullDocument", "documentKey", "updateDescription", "options", "key")
# Replies that the driver itself trusts.
SPARED = ("hello", "isMaster", "ismaster", "saslStart", "saslContinue", "endSessions", "killCursors", "ping",
          "buildInfo")


def family(value):
    return "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__


def places(value, data):
    """(container, key) of everything in a reply that may be damaged."""
    for key, inner in value.items():
        if key in FIELDS:
            yield value, key
        if isinstance(inner, dict) and key not in DATA:
            yield from places(inner, data)
        if isinstance(inner, list) and key in ("firstBatch", "nextBatch", "databases", "writeErrors"):
            for index, entry in enumerate(inner):
                yield inner, index
                if isinstance(entry, dict) and not data:
                    yield from places(entry, data)


def damage(choose, document, data):
    container, key = choose.choice(list(places(document, data)) or [(document, "cursor")])
    if isinstance(container, dict) and choose.random() < 0.4:
        container.pop(key, None)
    else:
        have = container[key] if isinstance(container, list) else container.get(key)
        other = [value for value in VALUES if family(value) != family(have) and
                 not (isinstance(have, dict) and isinstance(value, dict))]
        container[key] = choose.choice(other)


def at_random(scenario, pair):
    """A share of all replies is changed at random while a job runs: it ends by no signal, and never says that
    all is done when it is not."""
    choose = random.Random(scenario.seed)
    lock = threading.Lock()

    def change(request, document):
        with lock:
            damage(choose, document, request.database in ("shop", "stock"))

    def wanted(request):
        with lock:
            return request.name not in SPARED and choose.random() < 0.03

    for turn in range(scaled(4)):
        with Sides(scenario, pair) as sides:
            for side in sides:
                side.script.on("*", when=wanted, times=None).change(change)
            job = scenario.job(sides, retry_window=10)
            source = pair.source.client["shop"]["a"]
            for number in range(30):
                source.update_many({"_id": {"$mod": [13, number % 13]}}, {"$inc": {"n": 1}})
                if job.ended.wait(0.1):
                    break
            for _ in range(200):  # nothing is written any more
                if job.ended.wait(0.1):
                    break
                try:
                    job.api("POST", "commit")
                except (ApiError, OSError):
                    continue
            job.signal(15)
            job.wait()
            scenario.expect(job.status >= 0, lambda: "turn %d: signal %d" % (turn, -job.status))
            scenario.expect(job.status < 128, lambda: "turn %d: status %d" % (turn, job.status))
            if job.status == 0:
                found = scenario.differences(pair)
                scenario.expect(not found, lambda: "turn %d: done, and %s" % (turn, found[:2]))


def main():
    with Scenario(__doc__) as scenario:
        pair = scenario.pair()
        cases = [("one deployment, by the names of its members", lambda *sides: one_deployment(*sides, False)),
                 ("one deployment under other names", lambda *sides: one_deployment(*sides, True)),
                 ("two deployments that only the mark tells apart", two_deployments),
                 ("a member is replaced, and the id not readable any more", member_replaced),
                 ("lists that cannot be read, at the cutover", unreadable_later),
                 ("a listing without an end", endless),
                 ("a change stream that cannot be read", broken_stream),
                 ("what others make on the destination", strangers),
                 ("what others make under a name of the source", in_the_way),
                 ("a role that was taken away", shortened),
                 ("a time series made while in sync", left_out),
                 ("databases with the prefix", prefix),
                 ("another job's state", others_state),
                 ("replies changed at random", at_random)]
        for name, run in cases:
            if scenario.arguments.only in name:
                with scenario.case(name):
                    run(scenario, pair)
        if scenario.arguments.only in "at the start":
            unreadable(scenario, pair)


if __name__ == "__main__":
    main()
