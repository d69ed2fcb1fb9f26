#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""catalog.py: options, indexes, TTL and views follow the source, on servers as strict as real ones, and beside
the replay: nothing that one collection waits for holds up the others.
"""
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True

import datetime

from bson.son import SON

import strict
from job import EXIT, towline
from proxy import behind
from scenario import Pair, Scenario, wait_until

DAWN = datetime.datetime(1970, 1, 1)


def rows(count=200, **fields):
    return [dict({"_id": n, "n": n}, **fields) for n in range(count)]


def names(client, database, name):
    return sorted(index["name"] for index in client[database][name].list_indexes())


def indexes(client, database, name):
    return {index["name"]: index for index in client[database][name].list_indexes()}


class Sides(Pair):
    """Both sides, or the destination alone, behind a strict server of that version."""

    def __init__(self, pair, version, destination=None):
        super().__init__(strict.behind(pair.source, version),
                         strict.behind(pair.destination, destination or version))

    def close(self):
        for side in self:
            side.close()


def ttl_last(scenario, pair):
    """The destination's TTL monitor runs as soon as it may: nothing is compared, repaired or missed after
    that. What never expires at the source keeps its documents, whatever their dates."""
    source, destination = pair.source.client["data"], pair.destination.client["data"]
    source["old"].insert_many([{"_id": n, "at": DAWN} for n in range(50)])
    source["old"].create_index("at", name="ttl", expireAfterSeconds=3600)
    proxy = behind(pair.destination)

    def monitor(request, serve):
        answer = serve(request)
        destination["old"].delete_many({})
        return answer

    proxy.script.on("collMod", when=lambda request: request.body.get("index", {}).get(
        "expireAfterSeconds") == 3600, times=None).act(monitor, "a TTL monitor that never rests")
    job = scenario.job(Pair(pair.source, proxy))
    job.wait_in_sync()
    held = indexes(pair.destination.client, "data", "old")["ttl"]["expireAfterSeconds"]
    scenario.expect(held == 2147483647, "the TTL is held off by %s" % held)
    summary = job.finish()
    proxy.close()
    scenario.expect(not job.repaired(), job.repaired)
    found = indexes(pair.destination.client, "data", "old")["ttl"]["expireAfterSeconds"]
    scenario.expect(found == 3600 and "bug" not in str(summary), "%s: %s" % (found, summary))


def never_expires(scenario, pair):
    """From 4.4 to itself and to 7.0: NaN is sent on nowhere, and told by the check."""
    for version in ("4.4.6", "7.0.14"):
        scenario.reset(*pair)
        sides = Sides(pair, "4.4.6", version)
        client = sides.source.client
        client["data"]["c"].insert_one({"_id": 1, "at": DAWN})
        client["data"].command("createIndexes", "c", indexes=[
            {"key": {"at": 1}, "name": "never", "expireAfterSeconds": float("nan")},
            {"key": {"b": 1}, "name": "some", "expireAfterSeconds": 60.5}])
        sent = []
        sides.destination.script.on("createIndexes", times=None).act(
            lambda request, serve: (sent.append(str(request.body)), serve(request))[1])
        checked = towline("check", "--source", sides.source.uri, "--destination", sides.destination.uri)
        scenario.expect("data.c" in checked.stdout and "expireAfterSeconds" in checked.stdout, checked.stdout)
        job = scenario.job(sides)
        job.wait_in_sync()
        job.finish()
        found = indexes(sides.destination.client, "data", "c")
        ttl = [found[name].get("expireAfterSeconds") for name in ("never", "some")]
        scenario.expect(ttl == [None if version == "4.4.6" else 2147483647, 60], "%s has %s" % (version, ttl))
        scenario.expect(sent and not any("nan" in text for text in sent), "%s" % sent)
        sides.close()


def beside_builds(scenario, pair):
    """While the destination builds an index for long, collMod and rename of that collection are refused; the
    other collections' changes arrive all the same, and the rename does not wait for the end."""
    source = pair.source.client["data"]
    source["slow"].insert_many(rows())
    source["other"].insert_many(rows())
    sides = Pair(pair.source, strict.behind(pair.destination, "7.0.14"))
    job = scenario.job(sides)
    job.wait_in_sync()
    sides.destination.build_seconds = 4
    source["slow"].create_index("n")
    wait_until("the build", lambda: "data.slow" in sides.destination.known.building)
    source.command("collMod", "slow", validator={"n": {"$gte": 0}})
    source["other"].insert_one({"_id": "beside the collMod"})
    began = time.monotonic()
    wait_until("the other's insert", lambda: pair.destination.client["data"]["other"].find_one(
        {"_id": "beside the collMod"}))
    scenario.expect(time.monotonic() - began < 2, "it waited for the build")
    source["slow"].rename("moved")
    source["moved"].insert_one({"_id": "after the rename", "n": 1000})
    wait_until("validator and index", lambda: "n_1" in names(pair.destination.client, "data", "moved") and
               "validator" in pair.destination.client["data"]["moved"].options())
    sides.destination.build_seconds = 0
    job.finish()
    sides.destination.close()
    scenario.expect_equal(pair)


def made_and_dropped(scenario, pair):
    """A unique index that was made and dropped while builds were queued is not built any more: it would refuse
    what the source takes."""
    source = pair.source.client["data"]
    for name in "abc":
        source[name].insert_many(rows())
    sides = Pair(pair.source, strict.behind(pair.destination, "7.0.14"))
    job = scenario.job(sides)
    job.wait_in_sync()
    known = sides.destination.known
    sides.destination.build_seconds = 1.5
    source["a"].create_index("n")
    source["b"].create_index("n")
    wait_until("the builds", lambda: len(known.building) == 2)
    source["c"].create_index("u", name="u", unique=True, sparse=True)
    source["c"].drop_index("u")
    job.wait_caught_up(pair.source.client)
    wait_until("all is built", lambda: all("n_1" in names(pair.destination.client, "data", name)
                                           for name in "ab") and not known.building)
    time.sleep(0.3)  # for a build that should not be there to begin
    wait_until("whatever is built still", lambda: not known.building)
    source["c"].insert_many([{"_id": "one", "u": 1}, {"_id": "two", "u": 1}])
    job.wait_caught_up(pair.source.client, timeout=15)
    source["c"].create_index([("other", 1)], name="u")
    job.finish()
    sides.destination.close()
    scenario.expect_equal(pair)


def dropped_without_events(scenario, pair):
    """From 4.4, whose stream does not say that a unique index was dropped: what the source takes since then gets
    through, also after a restart."""
    sides = Sides(pair, "4.4.6")
    data = sides.source.client["data"]
    data["c"].insert_many(rows())
    for field in "ab":
        data["c"].create_index(field, unique=True, sparse=True)
    job = scenario.job(sides)
    job.wait_in_sync()
    time.sleep(1)  # the look at both catalogs with which "in sync" begins is over
    data["c"].drop_index("a_1")
    data["c"].insert_many([{"_id": "one", "a": 1}, {"_id": "two", "a": 1}])
    job.wait_caught_up(sides.source.client, timeout=15)
    job.signal(15)
    job.wait()
    data["c"].drop_index("b_1")
    data["c"].insert_many([{"_id": "three", "b": 1}, {"_id": "four", "b": 1}])
    job.start()
    job.wait_caught_up(sides.source.client, timeout=15)
    job.finish()
    scenario.expect_equal(sides)
    sides.close()


def member_down(scenario, pair):
    """While a voting member is down a build by the default quorum never ends; where quorums are switched off,
    one that asks for a quorum is refused."""
    source = pair.source.client["data"]
    for name in "ab":
        source[name].insert_many(rows())
        source[name].create_index("n")
    proxy = behind(pair.destination)
    asks = "commitQuorum"
    proxy.script.on("createIndexes", when=lambda request: request.collection == "a" and asks not in request.body,
                    times=None).error(262, "ExceededTimeLimit", "a build that never ends")
    proxy.script.on("createIndexes", when=lambda request: request.collection == "b" and asks in request.body,
                    times=None).error(2, "BadValue", "commitQuorum is supported only for two phase index builds with "
                                      "commit quorum support enabled, and requires FCV 4.4")
    job = scenario.job(Pair(pair.source, proxy))
    job.wait_in_sync(timeout=20)
    job.finish()
    proxy.close()
    scenario.expect_equal(pair)


def in_place(scenario, pair):
    """An index becomes unique, and gets a TTL, by collMod: it is not built again."""
    source = pair.source.client["data"]
    source["c"].insert_many(rows())
    source["c"].create_index("n")
    source["c"].create_index("at")
    proxy = behind(pair.destination)
    job = scenario.job(Pair(pair.source, proxy))
    job.wait_in_sync()
    rule = proxy.script.on("dropIndexes", times=None).error(20, "IllegalOperation", "no index is dropped here")
    source.command("collMod", "c", index={"name": "n_1", "prepareUnique": True})
    source.command("collMod", "c", index={"name": "n_1", "unique": True})
    source.command("collMod", "c", index={"name": "at_1", "expireAfterSeconds": 500})
    source.command("collMod", "c", index={"name": "at_1", "hidden": True})

    def arrived():
        found = indexes(pair.destination.client, "data", "c")
        return found["n_1"].get("unique") and found["at_1"].get("hidden") and (
            found["at_1"].get("expireAfterSeconds") == 2147483647)

    wait_until("unique", arrived)
    job.finish()
    scenario.expect(not rule or not proxy.script.acted(), "an index was dropped")
    proxy.close()
    scenario.expect_equal(pair)


def without_events(scenario, pair):
    """From 4.4, whose stream has no event of it, indexes and options arrive while in sync, and what $out makes
    has the target's. From 7.0, which has no event that a view is followed by, so do views."""
    later = Sides(pair, "7.0.14")
    later.source.client["later"]["c"].insert_one({"_id": 1})
    seven = scenario.job(later, name="seven", include="later")
    sides = Sides(pair, "4.4.6")
    client = sides.source.client
    data = client["data"]
    data["c"].insert_many(rows())
    data.create_collection("report", collation={"locale": "en", "strength": 2})
    data["report"].create_index("n", collation={"locale": "simple"})
    job = scenario.job(sides, exclude="later")
    for each in (seven, job):
        each.wait_in_sync()
    data["c"].create_index("n", unique=True)
    data.command("collMod", "c", validator={"n": {"$gte": 0}})
    time.sleep(1)  # the look with which "in sync" begins is over
    for database in (data, later.source.client["later"]):
        database.create_collection("view", viewOn="c", pipeline=[])
    list(data["c"].aggregate([{"$out": "report"}]))
    there = sides.destination.client["data"]
    wait_until("the report's index", lambda: there["report"].count_documents({}) == 200 and
               "n_1" in names(sides.destination.client, "data", "report"))
    began = time.monotonic()
    wait_until("what no event tells of", lambda: "n_1" in names(sides.destination.client, "data", "c") and
               "validator" in there["c"].options() and "view" in there.list_collection_names())
    scenario.expect(time.monotonic() - began < 45, "it took %.0f s" % (time.monotonic() - began))
    wait_until("the other job's view", lambda: "view" in later.destination.client["later"].list_collection_names())
    data["c"].drop_index("n_1")
    for each in (seven, job):
        each.finish()
    scenario.expect_equal(sides)
    for each in (sides, later):
        each.close()


def becomes_a_view(scenario, pair):
    """A collection that is dropped before its range is read, and whose name a view has then."""
    sides = Sides(pair, "7.0.14")
    data = pair.source.client["data"]
    for name in "ab":
        data[name].insert_many(rows())
        data[name].create_index("n")
    source = sides.source
    source.script.on("getMore", when=lambda request: request.collection == "$cmd.aggregate", times=None).delay(7)
    reading = []

    def slowly(request, serve):
        reading.append(request)
        time.sleep(3)
        return serve(request)

    source.script.on("find", when=lambda request: request.collection == "a", times=None).act(slowly)
    job = scenario.job(sides, workers=1)
    job.wait_for("a's range", lambda progress: reading)
    data["b"].drop()
    data.create_collection("b", viewOn="a", pipeline=[{"$match": {"n": 1}}])
    job.wait_for("the end of the copy", lambda progress: progress["phase"] != "copying")
    source.script.clear()
    job.wait_in_sync()
    job.finish()
    sides.close()
    scenario.expect_equal(pair)


def refused_view(scenario, pair):
    """A view whose pipeline the destination does not know is refused by the check, before anything is written;
    one that it refuses only when it is made, while the job is prepared."""
    data = pair.source.client["data"]
    data["a"].insert_many(rows())
    data.create_collection("odd", viewOn="a", pipeline=[{"$match": {"n": 1}}])
    sides = Pair(pair.source, behind(pair.destination))
    script = sides.destination.script
    script.on("aggregate", when=lambda request: request.database == "data", times=None).error(
        40324, "Location40324", "Unrecognized pipeline stage name: '$odd'")
    done = towline("run", "--source", sides.source.uri, "--destination", sides.destination.uri, "--job", "odd")
    scenario.expect(done.returncode == EXIT["unsuitable"] and "--exclude data.odd" in done.stderr, done.stderr)
    scenario.expect("data" not in pair.destination.client.list_database_names(), "something was written")
    script.clear()
    script.on("create", when=lambda request: "viewOn" in request.body, times=None).error(
        40324, "Location40324", "Unrecognized pipeline stage name: '$odd'")
    done = towline("run", "--source", sides.source.uri, "--destination", sides.destination.uri, "--job", "odd",
                   "--cutover", "manual", timeout=60)
    scenario.expect(done.returncode == EXIT["server"] and "data.odd" in done.stderr, done.stderr)
    sides.destination.close()


def refused_later(scenario, pair):
    """Views made while the job goes on, one of which the destination refuses, and one whose name is somebody's: the look
    goes on past them, and the cutover is called off and names them."""
    sides = Sides(pair, "4.4.6")
    data, there = sides.source.client["data"], pair.destination.client["data"]
    data["z"].insert_many(rows())
    sides.destination.script.on("create", when=lambda request: request.body["create"] == "odd", times=None).error(
        40324, "Location40324", "Unrecognized pipeline stage name: '$odd'")
    job = scenario.job(sides)
    job.wait_in_sync()
    job.signal(15)  # "in sync" begins with a look
    job.wait()
    there["taken"].insert_one({"_id": "somebody's"})
    for name in ("odd", "taken", "view"):
        data.create_collection(name, viewOn="z", pipeline=[])
    data["z"].create_index("n")
    job.start()
    job.wait_in_sync()
    wait_until("what comes after the refused view", lambda: "n_1" in names(sides.destination.client, "data", "z") and
               "view" in there.list_collection_names(), 10)
    for name in ("taken", "odd"):
        log = job.tail(1000)
        job.commit()
        wait_until("the cutover that is called off", lambda: "called off: " in job.tail(1000)[len(log):])
        line = [line for line in job.tail(1000)[len(log):].splitlines() if "called off: " in line][0]
        scenario.expect("data." + name in line and "ask for the cutover again" in line, line)
        job.wait_in_sync()
        (there if name == "taken" else data)[name].drop()
    job.finish()
    scenario.expect(there["taken"].count_documents({}) == 200, "the view is not there")
    scenario.expect_equal(sides)
    sides.close()


def former_format(scenario, pair):
    """The records of a job of another version are refused, and not taken for none."""
    pair.source.client["data"]["c"].insert_many(rows())
    job = scenario.job(pair)
    job.wait_in_sync()
    job.signal(15)
    job.wait()
    state = pair.destination.client["towline_test"]["job"]
    state.update_one({}, {"$unset": {"format": 1}})
    job.start()
    scenario.expect(job.wait() == EXIT["settings"] and "format 1" in job.error_line(), job.error_line())
    state.update_one({}, {"$set": {"format": 2}})
    job.start()
    job.wait_in_sync()
    job.finish()
    scenario.expect_equal(pair)


CASES = {"TTL comes back after the comparison": ttl_last, "what never expires": never_expires,
         "DDL beside an index build": beside_builds, "an index made and dropped": made_and_dropped,
         "a unique index dropped without an event": dropped_without_events,
         "a build while a member is down": member_down, "indexes that change in place": in_place, "no events of options and indexes": without_events,
         "a collection becomes a view": becomes_a_view, "a view that is refused": refused_view,
         "views that are refused later": refused_later,
         "records of another format": former_format}


def main():
    with Scenario(__doc__) as scenario:
        pair = scenario.pair()
        for name, case in CASES.items():
            if scenario.arguments.only and scenario.arguments.only not in name:
                continue
            scenario.reset(*pair)
            with scenario.case(name):
                case(scenario, pair)
            for job in scenario.jobs:
                job.close()


if __name__ == "__main__":
    main()
