#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""capped.py: a capped collection is a log, whose natural order is content.

The destination stands behind a proxy that answers as servers before 5.0 do: no document of a capped
collection can be deleted (20), and an update may not change its size (10003). It also looks at what is sent:
a duplicate that is inserted into a full one would push out its oldest document. Nothing is verified, so that
no repair hides anything, but where a case is about the verification.
"""
import pathlib
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True

import bson
from bson.son import SON

from pymongo.errors import DuplicateKeyError

from job import towline
from proxy import behind
from scenario import Pair, Scenario, wait_until

PAD = "x" * 200
NAMES = ("ring", "other", "moved", "small")


class Sides:
    """The pair with an old destination."""

    def __init__(self, pair):
        self.pair, self.destination = pair, behind(pair.destination)
        self.collections = pair.destination.client["data"]
        self.duplicates = []
        script = self.destination.script
        script.on("buildInfo", times=10**6).change(self._is_old)
        script.on("insert", when=self._is_capped, times=10**6).change(self._look)
        script.on("delete", when=self._is_capped, times=10**6).reply(self._refuse_delete)
        script.on("update", when=self._changes_size, times=10**6).reply(self._refuse_size)

    def uris(self):
        return self.pair.source.uri, self.destination.uri

    def close(self):
        self.destination.close()

    @staticmethod
    def _is_capped(request):
        return request.database == "data" and request.collection in NAMES

    @staticmethod
    def _is_old(request, document):
        document["version"] = "4.4.6"
        document["versionArray"] = [4, 4, 6, 0]

    def _look(self, request, document):
        self.duplicates += [error for error in document.get("writeErrors", ()) if error["code"] == 11000]

    @staticmethod
    def _refused(request, name, code, message):
        return SON([("ok", 1.0), ("n", 0), ("nModified", 0), ("writeErrors", [
            SON([("index", index), ("code", code), ("errmsg", message)])
            for index in range(len(request.list_of(name)))])])

    def _refuse_delete(self, request):
        return self._refused(request, "deletes", 20, "cannot remove from a capped collection")

    def _changes_size(self, request):
        if not self._is_capped(request):
            return False
        for raw in request.list_of("updates"):
            statement = bson.decode(raw)
            old = self.collections[request.collection].find_one(statement["q"])
            if old and "_id" in statement["u"] and len(bson.encode(old)) != len(bson.encode(statement["u"])):
                return True
        return False

    def _refuse_size(self, request):
        return self._refused(request, "updates", 10003, "Cannot change the size of a document in a capped "
                                                        "collection")


def rows(first, count, **more):
    return [{"_id": n, "n": 0, "pad": PAD, **more} for n in range(first, first + count)]


def begin(scenario, pair, documents=300, **options):
    scenario.reset(*pair)
    data = pair.source.client["data"]
    data.create_collection("ring", capped=True, size=1 << 20, max=500)
    data["ring"].insert_many(rows(0, documents))
    sides = Sides(pair)
    job = scenario.job(sides, **{"no_verify": True, **options})
    job.wait_in_sync()
    return data["ring"], sides, job


def order(server, name="ring"):
    return [document["_id"] for document in server.client["data"][name].find().sort("$natural", 1)]


def end(scenario, pair, sides, job, copies=None):
    job.wait_caught_up(pair.source.client)
    for entry in pair.destination.client["data"].list_collections():
        name = entry["name"]
        if not entry["options"].get("capped"):
            continue
        # One that is copied again is there a moment after the floor has passed.
        wait_until("equal order of %s before the cutover" % name,
                   lambda: order(pair.source, name) == order(pair.destination, name), 30)
    job.wait_in_sync()
    job.finish()
    scenario.expect_equal(pair, capped_order=True)
    scenario.expect(not sides.duplicates, lambda: "duplicates were sent: %s" % sides.duplicates[:1])
    again = job.tail(400).count("is copied again")
    scenario.expect(copies is None or again == 2 * copies, lambda: "it was copied again %d times" % again)
    sides.close()


def followed(scenario, pair):
    """Four writers, updates in place, and more than the cap holds."""
    ring, sides, job = begin(scenario, pair)

    def write(first):
        for turn in range(20):
            ring.insert_many(rows(first + turn * 20, 20))
            ring.update_one({"_id": first + turn * 20}, {"$inc": {"n": 1}})
    writers = [threading.Thread(target=write, args=(1000 * number,)) for number in range(1, 5)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    end(scenario, pair, sides, job, copies=0)


def restarted(scenario, pair):
    """Killed; then something is written, and more than the cap holds, and only updated in place."""
    ring, sides, job = begin(scenario, pair, 450)
    ring.insert_many(rows(450, 250))
    job.wait_caught_up(pair.source.client)
    for first, count in ((700, 50), (750, 700), (1450, 0), (1450, 499)):
        job.kill()
        if count:
            ring.insert_many(rows(first, count))
        ring.update_many({"_id": {"$gte": first - 20, "$lt": first + 20}}, {"$inc": {"n": 1}})
        job.start()
        job.wait_in_sync()
        job.wait_caught_up(pair.source.client)
    end(scenario, pair, sides, job, copies=0)


def backlog(scenario, pair):
    """Keys are only collected meanwhile: many more than the cap holds, and then some that it does."""
    ring, sides, job = begin(scenario, pair)
    for first, count in ((300, 2500), (2800, 120)):
        job.pause()
        for start in range(first, first + count, 20):
            ring.insert_many(rows(start, 20))
        ring.update_many({"_id": {"$mod": [7, 0]}}, {"$inc": {"n": 1}})
        job.resume()
        job.wait_caught_up(pair.source.client)
    end(scenario, pair, sides, job, copies=0)


def ids_again(scenario, pair):
    """A ring whose _ids come again when the cap has dropped them."""
    ring, sides, job = begin(scenario, pair, 500)
    number = 500
    for count in (30, 140, 330):
        job.pause()
        for number in range(number, number + count):
            ring.insert_one({"_id": number % 501, "n": number, "pad": PAD})
        number += 1
        job.resume()
        job.wait_caught_up(pair.source.client)
    end(scenario, pair, sides, job)


def answers(scenario, pair):
    """An answer is lost, a write is refused, a read fails: the order stays."""
    ring, sides, job = begin(scenario, pair)
    script = sides.destination.script
    rules = script.rules[:]
    capped = Sides._is_capped
    for number, plant in enumerate((
            lambda: script.on("insert", when=capped).lost(),
            lambda: script.on("insert", when=capped).error_after(91, "ShutdownInProgress"),
            lambda: script.on("insert", when=capped).close(),
            lambda: script.on("find", when=capped).error(91, "ShutdownInProgress"),
            lambda: script.on("insert", when=capped).reply(SON([("ok", 1.0), ("n", 0), ("writeErrors", [
                SON([("index", 0), ("code", 121), ("errmsg", "scripted: refused")])])])))):
        with script.lock:
            script.rules[:] = []
        plant()
        with script.lock:
            script.rules += rules
        ring.insert_many(rows(1000 + number * 100, 100))
        ring.insert_many(rows(1050 + number * 100 + 10000, 3))
        job.wait_caught_up(pair.source.client)
        found = [order(server) for server in pair]
        scenario.expect(found[0] == found[1], lambda: "fault %d: another order" % number)
    end(scenario, pair, sides, job, copies=1)


def grown(scenario, pair):
    """An update that changes the size, which the source may do: the collection is copied again."""
    ring, sides, job = begin(scenario, pair)
    ring.create_index("n")
    ring.insert_many(rows(300, 20))
    ring.update_one({"_id": 290}, {"$set": {"longer": PAD}})
    end(scenario, pair, sides, job)


def converted(scenario, pair):
    """convertToCapped and renames while keys wait."""
    ring, sides, job = begin(scenario, pair)
    data = ring.database
    data["other"].insert_many(rows(0, 100))
    job.wait_caught_up(pair.source.client)
    job.pause()
    ring.insert_many(rows(300, 50))
    ring.rename("moved")
    data["moved"].insert_many(rows(350, 50))
    data.command("convertToCapped", "other", size=1 << 16)
    data["other"].insert_many(rows(200, 50))
    job.resume()
    end(scenario, pair, sides, job)


def reorder(server, name="ring"):
    """The two newest documents change places, in the same collection: the test server deletes from it."""
    collection = server.client["data"][name]
    newest = list(collection.find().sort("$natural", -1).limit(2))
    collection.delete_many({"_id": {"$in": [document["_id"] for document in newest]}})
    collection.insert_many(newest)


def verified(scenario, pair):
    """Only the order differs: the comparison says so, alone and in a job, which repairs it."""
    ring, sides, job = begin(scenario, pair, no_verify=False, verify_repair="yes", verify_rate=0)
    reorder(pair.destination)
    done = towline("verify", "--source", pair.source.uri, "--destination", pair.destination.uri)
    scenario.expect(done.returncode == 12 and "natural order, after about 298 documents" in done.stdout,
                    lambda: "status %d: %s %s" % (done.returncode, done.stdout[-600:], done.stderr[-300:]))
    job.wait_in_sync()
    summary = job.finish()
    scenario.expect_equal(pair, capped_order=True)
    found = summary["verification"]
    scenario.expect(found["differencesTotal"] == 1 and found["repaired"] == 1, lambda: "found %s" % found)
    done = towline("verify", "--source", pair.source.uri, "--destination", pair.destination.uri)
    scenario.expect(done.returncode == 0, lambda: "afterwards: %s" % done.stdout)
    sides.close()


def no_room(scenario, pair):
    """The source holds more than its cap for the moment: what has no room at the destination is no difference."""
    scenario.reset(*pair)
    for server, count in zip(pair, (40, 30)):
        data = server.client["data"]
        data.create_collection("ring", capped=True, size=1 << 16)
        data["ring"].insert_many(rows(40 - count, count))
    cap = len(bson.encode(rows(0, 1)[0])) * 30 + 100

    def small(request, document):
        for entry in document["cursor"]["firstBatch"]:
            if entry["name"] == "ring":
                entry["options"]["size"] = cap
    sides = [behind(server) for server in pair]
    for side in sides:
        side.script.on("listCollections", times=None).change(small)
    done = towline("verify", "--source", sides[0].uri, "--destination", sides[1].uri)
    scenario.expect(done.returncode == 0 and "capped_shorter" in done.stderr,
                    lambda: "status %d: %s %s" % (done.returncode, done.stdout[-600:], done.stderr[-300:]))
    reorder(pair.destination)
    done = towline("verify", "--source", sides[0].uri, "--destination", sides[1].uri)
    scenario.expect(done.returncode == 12, lambda: "another order besides: status %d" % done.returncode)
    for side in sides:
        side.close()


def pushed_out(scenario, pair):
    """The last write to a full log is refused as a duplicate: the source has one document less, and its stream
    says nothing. The destination's oldest goes, or where it cannot be deleted the log is copied again."""
    for old in (True, False):
        scenario.reset(*pair)
        ring = pair.source.client["data"].create_collection("ring", capped=True, size=1 << 20, max=100)
        ring.insert_many(rows(0, 100))
        source = behind(pair.source)
        source.script.on("buildInfo", times=10**6).change(Sides._is_old)

        def forget_deletes(request, document):
            batch = document.get("cursor", {}).get("nextBatch", [])
            batch[:] = [event for event in batch if event.get("operationType") != "delete"]

        source.script.on("getMore", when=lambda request: request.collection == "$cmd.aggregate",
                         times=10**6).change(forget_deletes)
        sides = Sides(Pair(source, pair.destination)) if old else Pair(source, pair.destination)
        job = scenario.job(sides, no_verify=True)
        job.wait_in_sync()
        try:
            ring.insert_one({"_id": 50})
        except DuplicateKeyError:
            pass
        if ring.find_one({"_id": 0}):  # no real server before 5.0
            ring.delete_one({"_id": 0})
        pair.source.client["data"]["plain"].insert_one({"_id": 1})
        job.wait_caught_up(pair.source.client)
        job.finish()
        scenario.expect(order(pair.destination) == list(range(1, 100)), "the order is %s …" % order(pair.destination)[:3])
        for side in (source, sides) if old else (source,):
            side.close()
        job.close()
        scenario.expect_equal(pair)


CASES = [
    ("a duplicate that pushes out the oldest", pushed_out),
    ("four writers, and updates in place", followed),
    ("killed while more is written than the cap holds", restarted),
    ("a backlog of keys", backlog),
    ("_ids that come again", ids_again),
    ("answers are lost, writes and reads fail", answers),
    ("a document changes its size", grown),
    ("converted and renamed", converted),
    ("another order is found and repaired", verified),
    ("a source beyond its cap", no_room),
]


def main():
    with Scenario(__doc__) as scenario:
        pair = scenario.pair()
        for name, case in CASES:
            if scenario.arguments.only not in name:
                continue
            with scenario.case(name):
                case(scenario, pair)
            for job in scenario.jobs:
                job.close()


if __name__ == "__main__":
    main()
