#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""versions.py: a whole job between servers that answer as those of 4.2 to 8.0 do.

Both sides are the test server behind tests/lib/strict.py, and the job's users have exactly the roles of the
README. Each pair is one job: check, copy, in sync, changes and DDL of every kind, a stop, a kill, cutover,
verify. `--only "from 4.4"` runs some pairs, `--part NAME` plants one part of the catalog alone, which shows
which part a failure belongs to. PAIRS, TO_MONGOS and TO_STANDALONE are what the README's compatibility
table rests on.
On a real server (TOWLINE_TEST_MONGOD) there is one job, with the server as it is.
"""
import pathlib
import re
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True

from bson import Code
from bson.son import SON

import corpus
import differences as real
import shards
import strict
from job import towline
from scenario import Pair, Scenario, wait_until

# (source, destination)
PAIRS = (("4.2.14", "4.2.14"), ("4.4.6", "4.4.6"), ("5.0.9", "5.0.9"), ("6.0.4", "6.0.4"),
         ("7.0.14", "7.0.14"), ("8.0.4", "8.0.4"), ("4.2.14", "7.0.14"), ("4.4.6", "8.0.4"))
# To a mongos, and to a standalone, of these from a set of the same; with SOME_PARTS.
TO_MONGOS = ("4.2.14", "4.4.6", "5.0.9", "6.0.4", "7.0.14", "8.0.4")
TO_STANDALONE = ("4.2.14", "4.4.6", "5.0.9", "6.0.4", "7.0.14", "8.0.4")
# Of these tests/run has time for those that differ most; tests/nightly makes all (--all).
FEW = ("from 4.2.14 to 4.2.14", "from 4.4.6 to 4.4.6", "from 5.0.9 to 5.0.9", "from 7.0.14 to 7.0.14",
       "from 4.4.6 to 8.0.4", "to a mongos of 4.4.6", "to a mongos of 6.0.4", "to a standalone of 4.2.14",
       "to a standalone of 8.0.4")
SOME_PARTS = ("plain", "validators", "ttl", "views", "indexes", "system.js")


class Real:
    """A pair of real servers, as they are."""

    def __init__(self, pair):
        self.source, self.destination, self.users = pair.source, pair.destination, ()
        self.uris = pair.uris

    def __iter__(self):
        return iter((self.source, self.destination))

    def close(self):
        pass


class Sides:
    """A source and a destination of two versions. URIs of the job are those of its users."""

    def __init__(self, pair, versions, root, mongos):
        self.source = strict.behind(pair.source, versions[0])
        self.source.out_seconds = 0.01  # long enough for the job to look at what is in the making
        self.destination = (shards.behind(pair.destination, versions[1]) if mongos
                            else strict.behind(pair.destination, versions[1]))
        roles = (None, None) if root else ("reader", "writer of a mongos" if mongos else "writer")
        self.users = tuple(side.user(role) for side, role in zip(self, roles))

    def __iter__(self):
        return iter((self.source, self.destination))

    def uris(self):
        return self.users[0].uri, self.users[1].uri

    def close(self):
        for side in (*self, *self.users):
            side.close()


# The parts: what is planted, and what happens to it while the job is in sync -----------------------

def command(client, database, *pairs):
    return client[database].command(SON(pairs))


def plain(client):
    client.shop.plain.insert_many([{"_id": number, "n": number} for number in range(500)])


def plain_changes(client):
    client.shop.plain.update_many({"n": {"$lt": 50}}, {"$set": {"changed": 1}})
    client.shop.plain.update_one({"_id": 77}, [{"$set": {"piped": {"$literal": 1}}}])
    client.shop.plain.delete_many({"n": {"$gte": 450}})
    client.shop.plain.insert_many([{"_id": "new %d" % number} for number in range(50)])
    client.shop.young.insert_one({"_id": 1})
    client.shop.young.rename("renamed")


def validators(client):
    command(client, "shop", ("create", "valid"), ("validator", {"$or": [{"n": {"$gt": 0}}, {"old": True}]}),
            ("validationAction", "error"), ("validationLevel", "moderate"))
    client.shop.valid.insert_many([{"_id": number, "n": 1} for number in range(20)])
    command(client, "shop", ("create", "schema"), ("validator", {"$jsonSchema": {"required": ["n"]}}))
    client.shop.schema.insert_one({"_id": 1, "n": 1})


def validators_changes(client):
    command(client, "shop", ("collMod", "valid"), ("validator", {"n": {"$type": "number"}}))
    client.shop.valid.insert_one({"_id": "late", "n": 2})


def ttl(client):
    command(client, "shop", ("createIndexes", "ttl"), ("indexes", [
        {"key": {"t": 1}, "name": "hour", "expireAfterSeconds": 3600},
        {"key": {"u": 1}, "name": "long", "expireAfterSeconds": 1500000000}]))
    client.shop.ttl.insert_many([{"_id": number} for number in range(20)])


def ttl_changes(client):
    command(client, "shop", ("collMod", "ttl"), ("index", {"name": "hour", "expireAfterSeconds": 7200}))


def views(client):
    client.shop.viewed.insert_many([{"_id": number, "n": number} for number in range(20)])
    client.shop.create_collection("view", viewOn="viewed", pipeline=[{"$match": {"n": {"$gt": 3}}}])
    client.shop.create_collection("french", viewOn="viewed", pipeline=[], collation={"locale": "fr"})


def views_changes(client):
    client.shop.create_collection("late view", viewOn="viewed", pipeline=[])
    client.shop.drop_collection("french")


def collations(client):
    client.shop.create_collection("collated", collation={"locale": "en", "strength": 2})
    client.shop.collated.insert_many([{"_id": "k%d" % number, "e": "x%d" % number} for number in range(50)])
    command(client, "shop", ("createIndexes", "collated"), ("indexes", [
        {"key": {"e": 1}, "name": "inherits", "unique": True},
        {"key": {"e": -1}, "name": "simple", "collation": {"locale": "simple"}},
        {"key": {"t": "text"}, "name": "text", "collation": {"locale": "simple"}},
        {"key": {"p": "2d"}, "name": "flat", "collation": {"locale": "simple"}}]))


def collations_changes(client):
    for number in range(20):
        client.shop.collated.delete_one({"_id": "k%d" % number})
        client.shop.collated.insert_one({"_id": "Z%d" % number, "e": "X%d" % number})


def capped(client):
    client.shop.create_collection("capped", capped=True, size=100000, max=40)
    client.shop.capped.insert_many([{"_id": number, "n": 0} for number in range(60)])
    client.shop.create_collection("log", capped=True, size=8192)
    client.shop.log.insert_many([{"_id": number, "line": "x" * 50} for number in range(20)])


def capped_changes(client):
    client.shop.capped.insert_many([{"_id": number, "n": 0} for number in range(60, 90)])
    client.shop.capped.update_one({"_id": 80}, {"$set": {"n": 9}})
    client.shop.log.insert_many([{"_id": number, "line": "y" * 50} for number in range(20, 30)])


def capped_away(client):
    """The job is not there to see it, and goes on from before the cap came round."""
    client.shop.capped.insert_many([{"_id": "away %s" % n, "n": 0} for n in range(45)])
    client.shop.log.insert_one({"_id": "away", "line": "z" * 50})


def indexes(client):
    client.shop.indexed.insert_many([{"_id": number, "a": number, "p": [number % 90, 1]}
                                     for number in range(100)])
    kinds = [{"key": {"a": 1}, "name": "a", "unique": True}, {"key": {"a": -1, "b": 1}, "name": "ab"},
             {"key": {"s": 1}, "name": "sparse", "sparse": True, "background": True},
             {"key": {"f": 1}, "name": "partial", "partialFilterExpression": {"f": {"$gt": 5}}},
             {"key": {"p": "2d"}, "name": "flat", "bits": 20}, {"key": {"g": "2dsphere"}, "name": "sphere"},
             {"key": {"h": "hashed"}, "name": "hashed"}, {"key": {"$**": 1}, "name": "wild"},
             {"key": SON([("c", 1), ("t", "text"), ("s", "text")]), "name": "text", "weights": {"t": 5},
              "default_language": "french"},
             {"key": {"k": 1}, "name": "german", "collation": {"locale": "de", "strength": 1}}]
    for kind in kinds:
        corpus.attempt("index %s" % kind["name"], lambda kind=kind: command(
            client, "shop", ("createIndexes", "indexed"), ("indexes", [kind])))


def indexes_changes(client):
    command(client, "shop", ("createIndexes", "indexed"), ("indexes", [{"key": {"late": 1}, "name": "late"}]))
    command(client, "shop", ("dropIndexes", "indexed"), ("index", "ab"))
    command(client, "shop", ("createIndexes", "fresh"), ("indexes", [{"key": {"b": 1}, "name": "b"}]))


def legacy(client):
    """Options that only old servers took, and a TTL of NaN, which never expires anything."""
    client.shop.legacy.insert_many([{"_id": number, "a": number} for number in range(10)])
    command(client, "shop", ("createIndexes", "nan"), ("indexes", [
        {"key": {"t": 1}, "name": "nan", "expireAfterSeconds": float("nan")}]))
    client.shop.nan.insert_one({"_id": 1})


def system_js(client):
    client.shop["system.js"].insert_many([{"_id": "f%d" % number, "value": Code("function() {}")}
                                          for number in range(5)])
    client.gone["system.js"].insert_one({"_id": "g", "value": Code("function() {}")})
    client.gone.c.insert_one({"_id": 1})


def system_js_changes(client):
    client.shop["system.js"].insert_one({"_id": "late", "value": Code("function() { return 1 }")})
    client.shop["system.js"].delete_one({"_id": "f1"})
    client.drop_database("gone")


def system_js_away(client):
    client.shop["system.js"].insert_one({"_id": "away", "value": Code("function() { return 2 }")})


def dollars(client):
    for number in range(20):
        client.shop.dollars.insert_one(SON([("_id", number), ("n", {"$inside": 1, "x.y": 2})]))
        corpus.insert(client.shop.dollars, "a field that begins with a dollar",
                      SON([("_id", "top %d" % number), ("$top", 1)]))


def dollars_changes(client):
    client.shop.dollars.update_many({}, {"$set": {"changed": 1}})
    client.shop.dollars.delete_one({"_id": 3})
    client.shop.dollars.insert_one(SON([("_id", 3), ("n", {"$again": 1})]))


def out(client):
    client.shop.big.insert_many([{"_id": number, "n": number} for number in range(300)])
    client.shop.report.insert_one({"_id": "old"})
    client.shop.report.create_index("n")


def out_changes(client):
    list(client.shop.big.aggregate([{"$match": {"n": {"$lt": 60}}}, {"$out": "report"}]))
    list(client.shop.big.aggregate([{"$match": {"n": {"$lt": 100}}}, {"$out": "first report"}]))


def out_away(client):
    list(client.shop.big.aggregate([{"$match": {"n": {"$lt": 150}}}, {"$out": "report"}]))


def pre_images(client):
    corpus.attempt("recordPreImages", lambda: command(client, "shop", ("create", "images"),
                                                      ("recordPreImages", True)))
    client.shop.images.insert_one({"_id": 1})


def pre_images_changes(client):
    client.shop.images.update_one({"_id": 1}, {"$set": {"n": 1}})


def documents(client):
    corpus.plant(client)


def documents_changes(client):
    stirrer = corpus.Stirrer(client, 1, pace=0.002)
    wait_until("changes", lambda: stirrer.done > 150 or stirrer.error)
    stirrer.stop()


# name: (what is planted, what changes while the job is in sync, what changes while it is stopped)
PARTS = {"plain": (plain, plain_changes), "validators": (validators, validators_changes),
         "ttl": (ttl, ttl_changes), "views": (views, views_changes),
         "collations": (collations, collations_changes), "capped": (capped, capped_changes, capped_away),
         "indexes": (indexes, indexes_changes), "legacy": (legacy,),
         "system.js": (system_js, system_js_changes, system_js_away), "dollars": (dollars, dollars_changes),
         "out": (out, out_changes, out_away), "pre-images": (pre_images, pre_images_changes),
         "documents": (documents, documents_changes)}


# The job ------------------------------------------------------------------------------------------

def plant_legacy(source):
    """What listIndexes of 4.2 to 5.0 still gives back of an index from before 3.4, and createIndexes refuses."""
    if isinstance(source, strict.Strict) and source.version < (6,):
        source.plant_index("shop.legacy", SON([("v", 2), ("key", SON(a=1)), ("name", "safe"), ("safe", True),
                                               ("w", 1)]))


def differences(scenario, sides):
    """What must differ: a TTL of NaN is a large number there, unknown options of indexes are gone, and
    recordPreImages is called changeStreamPreAndPostImages from 6.0 on."""
    found = [entry for entry in scenario.differences(sides) if not (
        (entry.namespace in ("shop.nan", "shop.legacy") and entry.kind == "indexes") or
        (entry.namespace == "shop.images" and entry.kind == "options" and
         "changeStreamPreAndPostImages" in entry.text))]
    client = sides.destination.client
    held = [index.get("expireAfterSeconds") for index in client.shop.nan.list_indexes()
            if index["name"] == "nan"]
    scenario.expect(all(seconds is None or seconds > 10 ** 8 for seconds in held),
                    "a TTL of NaN became %s" % held)
    names = [sorted(index["name"] for index in side.client.shop.legacy.list_indexes()) for side in sides]
    scenario.expect(names[0] == names[1], "indexes of shop.legacy: %s and %s" % tuple(names))
    return found


def run(parts, which, client):
    for part in parts:
        if len(part) > which:
            part[which](client)


def whole_job(scenario, sides, parts):
    scenario.reset(sides.source, sides.destination)
    try:
        client = sides.source.client
        for part in parts:
            part[0](client)
        if PARTS["legacy"] in parts:
            plant_legacy(sides.source)
        checked = towline("check", "--source", sides.uris()[0], "--destination", sides.uris()[1])
        scenario.expect(checked.returncode == 0, "check: exit %d: %s" % (
            checked.returncode, (checked.stdout + checked.stderr)[-600:]))
        job = scenario.job(sides)
        job.wait_in_sync()
        run(parts, 1, client)
        job.wait_caught_up(client)
        for stop in (15, 9):
            job.wait_in_sync()
            job.signal(stop)
            job.wait()
            client.shop.plain.update_many({}, {"$set": {"stopped by": stop}})
            if stop == 9:
                run(parts, 2, client)
            job.start()
        job.wait_in_sync()
        job.wait_caught_up(client)
        summary = job.finish()
        scenario.expect(not re.search(r"bug of Towline|were repaired", str(summary)),
                        lambda: "the verification repaired something: %s" % summary)
        found = differences(scenario, sides)
        for difference in found:
            sys.stderr.write("difference: %s: %s: %s\n" % difference)
        scenario.expect(not found, lambda: "%d differences, first: %s: %s: %s" % (len(found), *found[0]))
        verified = towline("verify", "--source", sides.uris()[0], "--destination", sides.uris()[1],
                           "--progress", "none")
        known = (0, 12) if PARTS["legacy"] in parts else (0,)
        scenario.expect(verified.returncode in known, "verify: exit %d: %s" % (
            verified.returncode, (verified.stdout + verified.stderr)[-600:]))
        gaps = [name for user in sides.users for name in user.gaps]
        scenario.expect(not gaps, "the table of roles lacks %s" % gaps)
    finally:
        sides.close()


def while_building(scenario, pair):
    """Finding 11: collMod and renameCollection are refused while the destination builds an index of the
    collection (12587). They end the build, which begins again after them, and no other collection waits."""
    scenario.reset(*pair)
    sides = Sides(pair, ("7.0.14", "7.0.14"), scenario.arguments.root, False)
    try:
        client = sides.source.client
        for name in ("slow", "other"):
            client.shop[name].insert_many([{"_id": number, "a": number} for number in range(100)])
        job = scenario.job(sides)
        job.wait_in_sync()
        builder = sides.users[1]
        builder.build_seconds, began = 60, time.monotonic()
        client.shop.slow.create_index("a")
        wait_until("the build", lambda: builder.known.building)
        command(client, "shop", ("collMod", "slow"), ("validator", {"a": {"$exists": True}}))
        client.shop.slow.rename("renamed")
        client.shop.other.insert_one({"_id": "meanwhile"})
        wait_until("the other collection's insert", lambda: sides.destination.client.shop.other.find_one(
            {"_id": "meanwhile"}))
        scenario.expect(time.monotonic() - began < 30, "another collection waited for the build")
        builder.build_seconds = 0
        job.wait_caught_up(client)
        builder.build_seconds = 0
        job.finish()
        scenario.expect_equal(sides)
        scenario.expect(not builder.gaps, "strict.py failed: %s" % builder.gaps)
    finally:
        sides.close()


def main():
    arguments = [("--all", {"action": "store_true", "help": "every pair of versions"}),
                 ("--root", {"action": "store_true", "help": "the job's users may do everything"}),
                 ("--part", {"help": "one part of the catalog: %s" % ", ".join(PARTS)})]
    with Scenario(__doc__, arguments) as scenario:
        pair = scenario.pair()
        alone = Pair(pair.source, scenario.server(standalone=True))
        cases = [("from %s to %s" % versions, versions, "set", PARTS) for versions in PAIRS]
        cases += [("to a mongos of %s" % version, (version, version), "mongos", SOME_PARTS)
                  for version in TO_MONGOS]
        cases += [("to a standalone of %s" % version, (version, version), "standalone", SOME_PARTS)
                  for version in TO_STANDALONE]
        if real.is_real():
            cases = [("from one real server to another", None, "set", PARTS)]
        elif not scenario.arguments.all and not scenario.arguments.only:
            cases = [case for case in cases if case[0] in FEW]
            assert len(cases) == len(FEW)
        name = "DDL while the destination builds an index"
        if scenario.arguments.only in name and not real.is_real():
            with scenario.case(name):
                while_building(scenario, pair)
        for name, versions, kind, parts in cases:
            if scenario.arguments.only not in name:
                continue
            parts = [PARTS[part] for part in parts if scenario.arguments.part in (None, part)]
            with scenario.case(name):
                sides = alone if kind == "standalone" else pair
                whole_job(scenario, Sides(sides, versions, scenario.arguments.root, kind == "mongos")
                          if versions else Real(sides), parts)
            for job in scenario.jobs:
                job.close()


if __name__ == "__main__":
    main()
