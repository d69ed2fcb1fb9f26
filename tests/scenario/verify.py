#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""verify.py: the verifier finds and names every planted difference, invents none, and repairs them.

A table of differences is planted on a destination that was equal: each kind, singly and in pairs, at
the first, last and only document, for every type of _id, in every kind of collection, and in what a
catalog holds. The report must name exactly these; after a repair `tests/lib/compare.py`, which shares
nothing with the verifier, must find both sides equal. Then the same in running jobs, and with kill -9.
"""
import datetime
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True

import bson
import bson.json_util
from bson import (Binary, Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp)
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from bson.son import SON
from pymongo.errors import DuplicateKeyError, OperationFailure

import corpus
import differences
from job import EXIT, ROOT, binary, clean_environment, source_time, stamp, towline
from proxy import behind
from scenario import SCALE, Pair, Scenario, scaled, wait_until
from writer import Writer

# One _id of every type; each gets a collection for each kind of difference.
IDS = {
    "int": 7, "long": Int64(1 << 40), "double": 2.5, "nan": float("nan"), "zero": 0.0,
    "infinity": float("inf"), "decimal": Decimal128("1.70"), "string": "text", "empty": "",
    "nul": "a\0b", "unicode": "\u65e5\U0001f600", "object": SON([("b", 1), ("a", 2)]),
    "nothing": {}, "binary": Binary(b"1234", 0), "uuid": Binary(b"1" * 16, 4),
    "oid": ObjectId("5f" * 12), "true": True, "false": False,
    "date": datetime.datetime(1960, 1, 1), "null": None, "timestamp": Timestamp(5, 6),
    "code": Code("f()"), "min": MinKey(), "max": MaxKey(),
}


def raw(*fields):
    """A document of (name, value) pairs in which a name may stand twice."""
    body = b"".join(bson.encode({name: value})[4:-1] for name, value in fields)
    return RawBSONDocument((len(body) + 5).to_bytes(4, "little") + body + b"\0")


# What the source has and what the destination has of one document, and the path of the difference.
CONTENTS = {
    "value": (SON(_id=1, a=1), SON(_id=1, a=2), "a"),
    "int or long": (SON(_id=1, a=1), SON(_id=1, a=Int64(1)), "a"),
    "int or double": (SON(_id=1, a=1), SON(_id=1, a=1.0), "a"),
    "zero's sign": (SON(_id=1, a=0.0), SON(_id=1, a=-0.0), "a"),
    "nan or null": (SON(_id=1, a=float("nan")), SON(_id=1, a=None), "a"),
    "nan's bits": (raw(("_id", 1), ("a", float("nan"))), raw(("_id", 1), ("a", -float("nan"))), "a"),
    "decimal's digits": (SON(_id=1, a=Decimal128("1.0")), SON(_id=1, a=Decimal128("1.00")), "a"),
    "field order": (SON([("_id", 1), ("a", 1), ("b", 2)]), SON([("_id", 1), ("b", 2), ("a", 1)]), "a"),
    "order inside": (SON([("_id", 1), ("x", SON([("a", 1), ("b", 2)]))]),
                     SON([("_id", 1), ("x", SON([("b", 2), ("a", 1)]))]), "x.a"),
    "order of items": (SON(_id=1, a=[1, 2]), SON(_id=1, a=[2, 1]), "a.0"),
    "twice the name": (raw(("_id", 1), ("a", 1), ("a", 2)), raw(("_id", 1), ("a", 2), ("a", 1)), "a"),
    "twice or once": (raw(("_id", 1), ("a", 1), ("a", 1)), raw(("_id", 1), ("a", 1)), "a"),
    "nested or flat": (SON([("_id", 1), ("a", {"b": 1})]), SON([("_id", 1), ("a.b", 1)]), "a"),
    "in or beside": (SON([("_id", 1), ("a", {"b": 1, "c": 2})]),
                     SON([("_id", 1), ("a", {"b": 1}), ("c", 2)]), "a.c"),
    "dollar field": (SON([("_id", 1), ("$x", 1)]), SON([("_id", 1), ("$x", 2)]), "$x"),
    "empty name": (SON([("_id", 1), ("", 1)]), SON([("_id", 1), ("", 2)]), ""),
    "field missing": (SON(_id=1, a=1, b=2), SON(_id=1, a=1), "b"),
    "field extra": (SON(_id=1, a=1), SON(_id=1, a=1, b=2), "b"),
    "null or missing": (SON(_id=1, a=None), SON(_id=1), "a"),
    "binary's subtype": (SON(_id=1, a=Binary(b"x", 0)), SON(_id=1, a=Binary(b"x", 128)), "a"),
    "regex's flags": (SON(_id=1, a=Regex("x", "i")), SON(_id=1, a=Regex("x", "m")), "a"),
    "deep": (SON(_id=1, a=[{"b": [0, {"c": 1}]}]), SON(_id=1, a=[{"b": [0, {"c": 2}]}]), "a.0.b.1.c"),
    "one key, int or double": (SON(_id=1, a=1), SON(_id=1.0, a=1), "_id"),
    "one key, nan": (SON(_id=float("nan"), a=1), SON(_id=Decimal128("NaN"), a=1), "_id"),
    "large": (SON([("_id", 1), ("x", "y" * 16000000)]),
              SON([("_id", 1), ("x", "y" * 15999999 + "z")]), "x"),
}

CAPPED_MOST = 3  # ranges that a cutover may read whole: those without an order of _id
POSITIONS = scaled(18000, 300)  # too many to be mapped by the first reading
PAD = 500


class Plan:
    """What is planted: a set of (namespace, kind, _id as BSON or None, path or None)."""

    def __init__(self, pair):
        self.pair, self.planted = pair, set()

    def expect(self, namespace, kind, identity=None, path=None):
        known = None if kind in ("options", "indexes") else bson.encode({"v": identity})
        self.planted.add((namespace, kind, known, path))

    def both(self, name, documents, **options):
        """A collection with the same documents on both sides; its two pymongo collections."""
        for server in self.pair:
            database = server.client["table"]
            if options:
                database.create_collection(name, **options)
            if documents:
                database[name].insert_many(documents)
        return [server.client["table"][name] for server in self.pair]


def attempt(what, action):
    try:
        action()
        return True
    except OperationFailure as error:
        print("# left out, refused by this server: %s (%s)" % (what, error.code))
        return False


def raw_of(collection):
    return [bytes(batch) for batch in collection.find_raw_batches()]


def plant_ids(plan):
    """Missing as the only document, extra as the only document, different between others."""
    for name, identity in IDS.items():
        source, destination = plan.both("missing_%s" % name, [])
        if not attempt("_id %s" % name, lambda: source.insert_one(SON([("_id", identity), ("a", 1)]))):
            continue
        plan.expect("table.missing_%s" % name, "missing", identity)
        destination.database.create_collection("missing_%s" % name)
        source, destination = plan.both("extra_%s" % name, [])
        destination.insert_one(SON([("_id", identity), ("a", 1)]))
        source.database.create_collection("extra_%s" % name)
        plan.expect("table.extra_%s" % name, "extra", identity)
        source, destination = plan.both("content_%s" % name,
                                        [SON([("_id", "zz"), ("a", 1)]), SON([("_id", -9), ("a", 1)]),
                                         SON([("_id", identity), ("a", 1)])])
        destination.update_one({"_id": {"$eq": identity}}, {"$set": {"a": 2}})
        plan.expect("table.content_%s" % name, "different", identity, "a")


def plant_contents(plan):
    for number, (name, (ours, theirs, path)) in enumerate(CONTENTS.items()):
        source, destination = plan.both("pair%d" % number, [SON([("_id", "other"), ("a", 1)])])
        if not attempt(name, lambda: (source.insert_one(ours), destination.insert_one(theirs))):
            continue
        if raw_of(source) == raw_of(destination):
            print("# left out, this server does not keep it: %s" % name)
            continue
        identity = bson.decode(bytes(ours.raw))["_id"] if hasattr(ours, "raw") else ours["_id"]
        plan.expect("table.pair%d" % number, "different", identity, path)


def plant_positions(plan):
    """First, last, in the middle, above and below; alone and in pairs that a weaker sum would miss."""
    documents = [SON([("_id", n), ("n", n), ("pad", "x" * PAD)]) for n in range(POSITIONS)]
    for name, many in (("first", True), ("last", False), ("middle", False), ("ends", True),
                       ("neighbours", False)):
        count = POSITIONS if many else POSITIONS // 10
        last = count - 1
        places = {"first": [0], "last": [last], "middle": [last // 2], "ends": [0, last],
                  "neighbours": [5, 6]}[name]
        for kind in ("missing", "different", "extra"):
            if name not in ("first", "ends") and kind == "extra":
                continue
            _, destination = plan.both("%s_%s" % (name, kind), documents[:count])
            for place in places:
                if kind == "missing":
                    destination.delete_one({"_id": place})
                elif kind == "different":
                    destination.update_one({"_id": place}, {"$set": {"n": -1}})
                else:
                    place = -1 - place if place == 0 else place + 1
                    destination.insert_one({"_id": place})
                plan.expect("table.%s_%s" % (name, kind), kind, place,
                            "n" if kind == "different" else None)
    few = documents[:40]
    # As many documents and bytes as before: one gone, one more of the same length.
    _, destination = plan.both("instead", few)
    destination.delete_one({"_id": 3})
    destination.insert_one(SON([("_id", 77), ("n", 3), ("pad", "x" * PAD)]))
    plan.expect("table.instead", "missing", 3)
    plan.expect("table.instead", "extra", 77)
    # Two documents that exchanged their contents.
    _, destination = plan.both("exchanged", few)
    destination.update_one({"_id": 3}, {"$set": {"n": 4}})
    destination.update_one({"_id": 4}, {"$set": {"n": 3}})
    plan.expect("table.exchanged", "different", 3, "n")
    plan.expect("table.exchanged", "different", 4, "n")
    # One byte flipped twice over: the XOR of both sides' bytes is the same.
    _, destination = plan.both("flipped", few)
    for place in (8, 9):
        destination.update_one({"_id": place}, {"$set": {"pad": "x" * (PAD - 1) + "y"}})
        plan.expect("table.flipped", "different", place, "pad")
    # The same document in two collections, as many times on either side.
    plan.both("here", few)[1].delete_one({"_id": 1})
    plan.both("there", few)[1].insert_one({"_id": 100})
    plan.expect("table.here", "missing", 1)
    plan.expect("table.there", "extra", 100)


def plant_kinds(plan):
    """In every kind of collection."""
    kinds = {"capped": dict(capped=True, size=1000000),
             "clustered": dict(clusteredIndex={"key": {"_id": 1}, "unique": True}),
             "collated": dict(collation={"locale": "en", "strength": 2}),
             "system.js": {}, "with space": {}, "dots.in.name": {}}
    for name, options in kinds.items():
        if not attempt(name, lambda: plan.both(name, [SON([("_id", "k%d" % n), ("n", n)])
                                                      for n in range(50)], **options)):
            continue
        destination = plan.pair.destination.client["table"][name]
        destination.update_one({"_id": "k0"}, {"$set": {"n": -1}})
        plan.expect("table." + name, "different", "k0", "n")
        destination.insert_one(SON([("_id", "more"), ("n", 1)]))
        plan.expect("table." + name, "extra", "more")
        if attempt("delete from %s" % name, lambda: destination.delete_one({"_id": "k49"})):
            plan.expect("table." + name, "missing", "k49")


def plant_catalog(plan):
    ours, theirs = [server.client["table"] for server in plan.pair]
    plan.both("validated", [{"_id": 1}], validator={"a": 1}, validationLevel="moderate",
              validationAction="warn")
    theirs.command("collMod", "validated", validator={"a": 2})
    plan.expect("table.validated", "options", path="validator")
    for name, options in (("index_missing", None), ("index_changed", dict(sparse=True)),
                          ("index_ttl", dict(expireAfterSeconds=99999))):
        for collection in plan.both(name, [{"_id": 1, "a": 1}]):
            if collection.database.client is plan.pair.source.client:
                collection.create_index("a", name="i", **(dict(expireAfterSeconds=88888)
                                                          if name == "index_ttl" else {}))
            elif options:
                collection.create_index("a", name="i", **options)
    plan.expect("table.index_missing", "indexes", path="index i: missing at the destination")
    plan.expect("table.index_changed", "indexes", path="index i: sparse")
    plan.expect("table.index_ttl", "indexes", path="index i: expireAfterSeconds")
    plan.both("index_extra", [{"_id": 1}])[1].create_index("b", name="i")
    plan.expect("table.index_extra", "indexes", path="index i: missing at the source")
    # A unique index can only be built once the documents are repaired.
    plan.both("unique", [{"_id": n, "u": n} for n in range(5)])
    ours["unique"].create_index("u", unique=True, name="u")
    theirs["unique"].update_one({"_id": 1}, {"$set": {"u": 2}})
    plan.expect("table.unique", "indexes", path="index u: missing at the destination")
    plan.expect("table.unique", "different", 1, "u")
    # One that is there stands in the way of a repair one by one: a ring of values.
    for collection in plan.both("ring", [{"_id": n, "u": n} for n in range(5)]):
        collection.create_index("u", unique=True, name="u")
    for n in range(5):
        theirs["ring"].update_one({"_id": n}, {"$set": {"u": 100 + n}})
    for n in range(5):
        theirs["ring"].update_one({"_id": n}, {"$set": {"u": (n + 1) % 5}})
        plan.expect("table.ring", "different", n, "u")
    for database, count in ((ours, 1), (theirs, 2)):
        database.command("create", "view", viewOn="validated",
                         pipeline=[{"$match": {"_id": {"$lt": count}}}])
    plan.expect("table.view", "options", path="pipeline")
    ours.command("create", "view_missing", viewOn="validated", pipeline=[])
    plan.expect("table.view_missing", "options", path="a view, missing at the destination")
    ours["whole"].insert_many([{"_id": n} for n in range(3)])
    plan.expect("table.whole", "options", path="a collection, missing at the destination")
    for n in range(3):
        plan.expect("table.whole", "missing", n)
    theirs["surplus"].insert_one({"_id": 1})
    plan.expect("table.surplus", "options", path="a collection, missing at the source")
    plan.expect("table.surplus", "extra", 1)
    for server in plan.pair:
        server.client["quiet"]["same"].insert_many([{"_id": n, "a": [n]} for n in range(500)])


def found_in(report):
    found = set()
    for item in report["differences"]:
        identity = bson.json_util.loads(item["id"]) if "id" in item else None
        found.add((item["ns"], item["kind"],
                   bson.encode({"v": identity}) if "id" in item else None, item.get("path")))
    return found


def verify_command(pair, folder, *more):
    return ["verify", "--source", pair.source.uri, "--destination", pair.destination.uri,
            "--report", os.path.join(folder, "report.json"), "--progress", "none", *more]


def verify(pair, folder, *more):
    """Exit status and report of `towline verify`."""
    done = towline(*verify_command(pair, folder, *more), timeout=300)
    path = os.path.join(folder, "report.json")
    if not os.path.exists(path):
        raise AssertionError("no report; exit %d: %s" % (done.returncode, done.stderr[-600:]))
    with open(path, encoding="utf-8") as file:
        report = json.load(file)
    os.unlink(path)
    report["stderr"], report["stdout"] = done.stderr, done.stdout
    return done.returncode, report


def expect_planted(scenario, plan, report):
    found = found_in(report)
    missed, invented = plan.planted - found, found - plan.planted
    scenario.expect(not missed, lambda: "%d missed: %s" % (len(missed), sorted(missed, key=str)[:4]))
    scenario.expect(not invented, lambda: "%d invented: %s" % (len(invented),
                                                               sorted(invented, key=str)[:4]))
    scenario.expect(report["differencesTotal"] == len(plan.planted), "counted %d of %d"
                    % (report["differencesTotal"], len(plan.planted)))


def table(scenario, pair, folder):
    plan = Plan(pair)
    for plant in (plant_ids, plant_contents, plant_positions, plant_kinds, plant_catalog):
        plant(plan)
    print("# %d differences planted" % len(plan.planted), flush=True)
    with scenario.case("table: every planted difference is named, and no other"):
        status, report = verify(pair, folder)
        scenario.expect(status == EXIT["verify"], "exit %d: %s" % (status, report["stderr"][-300:]))
        expect_planted(scenario, plan, report)
    with scenario.case("table: the same where collections are cut into ranges"):
        _, cut = verify(pair, folder, "--range-size", "2")
        expect_planted(scenario, plan, cut)
        scenario.expect(SCALE < 1 or cut["rangesRead"] > report["rangesRead"] + 10,
                        "%d ranges, %d before" % (cut["rangesRead"], report["rangesRead"]))
    with scenario.case("table: both lengths stand in the report"):
        item = next(item for item in report["differences"] if item["ns"] == "table.exchanged")
        scenario.expect(item["sourceLength"] == item["destinationLength"] > PAD, "%s" % item)
    with scenario.case("table: at most --max-differences are listed, all are counted"):
        status, few = verify(pair, folder, "--max-differences", "5")
        scenario.expect(len(few["differences"]) == 5, "%d listed" % len(few["differences"]))
        scenario.expect(few["differencesTotal"] == len(plan.planted),
                        "%d counted" % few["differencesTotal"])
    # SecantusDB keeps only one of two fields of a name when a document comes by a retryable command,
    # whether update or insert: what it cannot store cannot be repaired there.
    for number, name in enumerate(CONTENTS):
        if name.startswith("twice"):
            print("# left out of the repair: %s" % name)
            for server in pair:
                server.client["table"]["pair%d" % number].drop()
            plan.planted = {item for item in plan.planted if item[0] != "table.pair%d" % number}
    with scenario.case("repair: drops no collection unless told to"):
        status, report = verify(pair, folder, "--repair")
        scenario.expect(status == EXIT["verify"], "exit %d: %s" % (status, report["stderr"][-300:]))
        left = {item["ns"] for item in report["differences"] if not item["repaired"]}
        scenario.expect(left == {"table.surplus"}, "left %s" % sorted(left))
        scenario.expect(report["repaired"] == len(plan.planted) - 2 - 3,
                        "%d repaired" % report["repaired"])  # `whole` was copied as a whole
    with scenario.case("repair: with --clear-destination everything is equal"):
        status, report = verify(pair, folder, "--repair", "--clear-destination")
        scenario.expect(status == 0 and report["equal"], "exit %d: %s" % (status, report["stderr"][-300:]))
    with scenario.case("repair: the independent comparison finds nothing"):
        scenario.expect_equal(pair, capped_order=True)
    with scenario.case("repair: a third look finds nothing"):
        status, report = verify(pair, folder)
        scenario.expect(status == 0 and report["differencesTotal"] == 0, "exit %d, %d differences"
                        % (status, report["differencesTotal"]))


def modes(scenario, pair, folder):
    """What a mode ignores is not reported, and nothing else is ignored."""
    ours, theirs = [server.client["modes"] for server in pair]
    ours["order"].insert_one(SON([("_id", 1), ("a", 1), ("b", SON([("c", 1), ("d", 2)]))]))
    theirs["order"].insert_one(SON([("_id", 1), ("b", SON([("d", 2), ("c", 1)])), ("a", 1)]))
    ours["number"].insert_one(SON([("_id", 1), ("a", 1), ("b", [Decimal128("2.0")])]))
    theirs["number"].insert_one(SON([("_id", 1), ("a", Int64(1)), ("b", [2.0])]))
    ours["value"].insert_one({"_id": 1, "a": 1})
    theirs["value"].insert_one({"_id": 1, "a": 2})
    for mode, wanted in (("bytes", {"order", "number", "value"}),
                         ("field-order", {"number", "value"}), ("numeric-type", {"order", "value"})):
        with scenario.case("mode %s" % mode):
            _, report = verify(pair, folder, "--verify-mode", mode, "--include", "modes")
            found = {item["ns"].split(".")[1] for item in report["differences"]}
            scenario.expect(found == wanted and report["mode"] == mode, "found %s" % sorted(found))


def stale(scenario, pair, folder):
    """A copy that is out of date in one document of five is brought up to date, killed in between."""
    count = scaled(30000, 1000)
    rows = [{"_id": n, "n": n, "pad": "x" * 500} for n in range(count)]
    for server in pair:
        server.client["shop"]["orders"].insert_many(rows)
    orders = pair.source.client["shop"]["orders"]
    orders.update_many({"_id": {"$mod": [5, 0]}}, {"$set": {"n": -1}})
    orders.delete_many({"_id": {"$mod": [50, 1]}})
    orders.insert_many([{"_id": count + n, "n": n} for n in range(count // 50)])
    with scenario.case("re-sync: killed in the middle, and finished by the same command"):
        process = subprocess.Popen([binary()] + verify_command(pair, folder, "--repair"),
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, env=clean_environment())
        copy = pair.destination.client["shop"]["orders"]
        wait_until("the first repair", lambda: process.poll() is not None or
                   copy.count_documents({"n": -1}) > 0)
        process.send_signal(signal.SIGKILL)
        scenario.expect(process.wait() == -signal.SIGKILL, "it had ended before it was killed")
        before = copy.count_documents({"n": -1})
        status, report = verify(pair, folder, "--repair")
        scenario.expect(status == 0, "exit %d: %s" % (status, report["stderr"][-300:]))
        scenario.expect(0 < report["repaired"] == report["differencesTotal"], "%d of %d repaired"
                        % (report["repaired"], report["differencesTotal"]))
        scenario.expect(len(report["differences"]) == min(1000, report["differencesTotal"]),
                        "%d listed" % len(report["differences"]))
        print("# %d repaired before the kill, %d after" % (before, report["repaired"]))
        scenario.expect_equal(pair)


def state_of(path):
    """The ranges that a state file holds: namespaces, as often as they have ranges."""
    if not os.path.exists(path):
        return []
    with open(path, "rb") as file:
        documents = bson.decode_all(file.read())
    header, ranges = documents[0], documents[1:]
    assert header["ranges"] == len(ranges), "the file is torn"
    return [item["_id"]["ns"] for item in ranges]


def resumed(scenario, pair, folder):
    """Killed in the middle, a plain comparison goes on where it was, and misses nothing written since."""
    count, stop_at = 12, "c07"
    for server in pair:
        for n in range(count):
            server.client["parts"]["c%02d" % n].insert_many(
                [{"_id": m, "n": m, "pad": "x" * 500} for m in range(scaled(2000, 200))])
    ours, theirs = [server.client["parts"] for server in pair]
    databases = [sorted(server.client.list_database_names()) for server in pair]
    state, copy = os.path.join(folder, "state"), os.path.join(folder, "copy")
    more = ["--state", state, "--workers", "2"]
    proxy = behind(pair.source)
    with scenario.case("resume: what was compared stands in the file when it is killed"):
        proxy.script.on("find", when=lambda request: request.collection == stop_at).delay(300)
        command = verify_command(Pair(proxy, pair.destination), folder, *more)
        process = subprocess.Popen([binary()] + command, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   env=clean_environment())
        try:
            wait_until("seven ranges in the file", lambda: process.poll() is not None or
                       len(state_of(state)) == 7)
        finally:
            process.kill()
        scenario.expect(process.wait() == -signal.SIGKILL, "it had ended before it was killed")
        proxy.close()
        kept = state_of(state)
        shutil.copy(state, copy)
    theirs["c00"].update_one({"_id": 5}, {"$set": {"n": -1}})
    ours["c01"].delete_one({"_id": 6})
    ours["c02"].insert_one({"_id": "new"})
    theirs["c11"].delete_one({"_id": 7})
    ours["c03"].drop()
    ours["c03"].insert_many(theirs["c03"].find({"_id": {"$ne": 9}}))
    with scenario.case("resume: another comparison's file is refused, and left as it is"):
        for text, options in (("verify-mode", ["--verify-mode", "field-order"]),
                              ("filter", ["--exclude", "parts.c05"])):
            done = towline(*verify_command(pair, folder, *more, *options))
            scenario.expect(done.returncode == EXIT["settings"] and text in done.stderr,
                            "exit %d: %s" % (done.returncode, done.stderr[-300:]))
        with open(copy, "rb") as before, open(state, "rb") as after:
            scenario.expect(before.read() == after.read(), "the file was changed")
        done = towline(*verify_command(pair, folder, "--state", os.path.join(folder, "none", "state")))
        scenario.expect(done.returncode == EXIT["option"] and "cannot write" in done.stderr,
                        "exit %d: %s" % (done.returncode, done.stderr[-300:]))
        for damaged in (b"", b"hello", open(copy, "rb").read()[:-9]):
            path = os.path.join(folder, "damaged")
            with open(path, "wb") as file:
                file.write(damaged)
            done = towline(*verify_command(pair, folder, "--state", path))
            scenario.expect(done.returncode == EXIT["option"] and path in done.stderr,
                            "exit %d: %s" % (done.returncode, done.stderr[-300:]))
            with open(path, "rb") as file:
                scenario.expect(file.read() == damaged, "the file was changed")
    with scenario.case("resume: goes on, and names what was written while nobody compared"):
        status, report = verify(pair, folder, *more)
        wanted = [("parts.c00", "different", "5"), ("parts.c01", "extra", "6"),
                  ("parts.c02", "missing", '"new"'), ("parts.c03", "extra", "9"),
                  ("parts.c11", "missing", "7")]
        scenario.expect(status == EXIT["verify"] and named(report) == wanted,
                        "exit %d, named %s" % (status, named(report)))
        scenario.expect(report["rangesKept"] == len(kept) - 1, "%d ranges kept" % report["rangesKept"])
        scenario.expect(report["rangesRead"] == count - len(kept) + 1 and report["keysRead"] >= 3,
                        "%d ranges and %d keys read" % (report["rangesRead"], report["keysRead"]))
        scenario.expect("verify_resumed" in report["stderr"] or "goes on" in report["stderr"],
                        "not told: %s" % report["stderr"][-300:])
        scenario.expect(not os.path.exists(state), "the file is still there")
    with scenario.case("resume: the sums are those of a comparison from the beginning"):
        _, whole = verify(pair, folder)
        sums = [[(item["ns"], item[side]["documents"], item[side]["bytes"], item["equal"])
                 for item in each["collections"] for side in ("source", "destination")]
                for each in (report, whole)]
        keyed = ("parts.c00", "parts.c01", "parts.c02")  # compared by key: as when last read whole
        sums = [[item for item in each if item[0] not in keyed] for each in sums]
        scenario.expect(sums[0] == sums[1], lambda: "%s" % [
            pair for pair in zip(*sums) if pair[0] != pair[1]][:3])
        scenario.expect(named(whole) == wanted, "named %s" % named(whole))
    with scenario.case("resume: nothing was written to either side"):
        after = [sorted(server.client.list_database_names()) for server in pair]
        scenario.expect(after == databases, "databases are %s" % after)


def job_repairs(scenario, pair):
    """Somebody writes to the destination while a job runs: named and repaired at the cutover."""
    orders = pair.source.client["shop"]["orders"]
    orders.insert_many([{"_id": n, "n": n} for n in range(2000)])
    copy = pair.destination.client["shop"]["orders"]

    def damage():
        copy.delete_one({"_id": 3})
        copy.update_one({"_id": 1999}, {"$set": {"n": -1}})
        copy.insert_one({"_id": "mine"})

    with scenario.case("job: with --verify-repair no it fails and names them"):
        job = scenario.job(pair, verify_repair="no")
        job.wait_in_sync()
        damage()
        job.commit()
        scenario.expect(job.wait() == EXIT["verify"], "exit %s" % job.status)
        scenario.expect(job.summary()["verification"]["differencesTotal"] == 3,
                        "%s" % job.summary()["verification"])
    with scenario.case("job: the same job repairs them, and says so"):
        job.options["verify_repair"] = "yes"
        job.start()
        summary = job.finish()
        verification = summary["verification"]
        scenario.expect(verification["equal"] and verification["repaired"] == 3, "%s" % verification)
        ids = sorted(item["id"] for item in verification["differences"])
        scenario.expect(ids == ["\"mine\"", "1999", "3"], "named %s" % ids)
        with job.changed:
            told = [line for line in job.log if " difference" in line and "bug of Towline" in line]
        scenario.expect(len(told) >= 3, "the log does not tell them: %d" % len(told))
        scenario.expect_equal(pair)


def beside(scenario, pair):
    """A repair next to a job: refused while the job runs, and never at the cost of a job's state."""
    pair.source.client["shop"]["orders"].insert_many([{"_id": n, "n": n} for n in range(500)])
    folder = scenario.folder()
    job = scenario.job(pair)
    job.wait_in_sync()
    clear = verify_command(pair, folder, "--repair", "--clear-destination")
    for command in (clear, clear[:-1]):
        with scenario.case("beside: %s is refused while a job runs" % " ".join(command[9:])):
            done = towline(*command, timeout=60)
            scenario.expect(done.returncode == EXIT["lease"] and "towline_test" in done.stderr,
                            "exit %d: %s" % (done.returncode, done.stderr[-300:]))
    with scenario.case("beside: of a stopped job it keeps the state"):
        job.signal(signal.SIGTERM)
        job.wait()
        pair.destination.client["shop"]["extra"].insert_one({"_id": 1})
        status, report = verify(pair, folder, "--repair", "--clear-destination")
        scenario.expect(status == 0 and report["equal"], "exit %d" % status)
        scenario.expect(pair.destination.client["towline_test"]["job"].count_documents({}) == 1,
                        "the state is gone")
        scenario.expect("extra" not in pair.destination.client["shop"].list_collection_names(),
                        "what the source does not have is there")
    with scenario.case("beside: the job goes on from it"):
        job.start()
        job.finish()
        scenario.expect_equal(pair)


def named(verification):
    return sorted((item["ns"], item["kind"], item["id"]) for item in verification["differences"])


def compared(pair, job, namespace):
    """How many documents of a namespace stand with the job as compared."""
    stored = pair.destination.client["towline_" + job.name]["compared"].find()
    return sum(item["documents"] for item in stored if item["_id"]["ns"] == namespace)


def online(scenario, pair):
    """While the source is written to all the time: compared, repaired, and little left at the cutover."""
    still = pair.source.client["still"]["rows"]
    copy = pair.destination.client["still"]["rows"]
    count = scaled(6000, 2000)
    for first in range(0, count, 2000):
        still.insert_many([{"_id": n, "n": n, "pad": "x" * 4000}
                           for n in range(first, min(first + 2000, count))])
    one = pair.source.client["still"]["one"]  # small enough to be a single range
    one.insert_many([{"_id": n, "n": n, "pad": "x" * 300} for n in range(2000)])
    writer = Writer(pair.source.uri, threads=4, seed=scenario.seed, rate=max(50, 200 * SCALE))
    writer.fill(orders=scaled(3000, 300))
    writer.start()
    job = scenario.job(pair, verify_repair="yes", verify_rate=1000)
    running = True
    try:
        job.wait_in_sync()
        with scenario.case("online: every range is compared while the source is written to"):
            job.wait_for("documents compared", lambda now:
                         now["verification"]["hashedDocumentCount"] > 0)
            wait_until("the compared ranges", lambda: compared(pair, job, "still.rows") == count and
                       compared(pair, job, "still.one") == 2000)
        with scenario.case("online: a write to the destination is undone"):
            copy.delete_one({"_id": 5})
            copy.update_one({"_id": count - 1}, {"$set": {"n": -1}})
            copy.insert_one({"_id": "mine"})
            wait_until("the repair", lambda: copy.find_one({"_id": 5}) and
                       (copy.find_one({"_id": count - 1}) or {}).get("n") == count - 1 and
                       not copy.find_one({"_id": "mine"}))
            scenario.expect(job.running(), "the job ended")
        writer.stop()
        running = False
        with scenario.case("online: verified reaches what the source wrote last"):
            goal = source_time(pair.source.client)
            job.wait_for("verified at %s" % (goal,),
                         lambda now: stamp(now["positions"]["verified"]) >= goal)
        with scenario.case("online: the cutover reads only what was written since"):
            still.update_many({"_id": {"$lt": 3}}, {"$set": {"n": 0}})
            one.update_many({"_id": {"$mod": [10, 0]}}, {"$set": {"n": 0}})  # 200 keys: not the range
            summary = job.finish()
            verification = summary["verification"]
            scenario.expect(verification["rangesRead"] <= CAPPED_MOST, "%d ranges were read"
                            % verification["rangesRead"])
            print("# read at the cutover: %d ranges, %d keys; downtime %.2f s" % (
                verification["rangesRead"], verification["keysRead"], summary["downtimeSeconds"]))
        with scenario.case("online: exactly the writes to the destination are named"):
            wanted = [("still.rows", "different", str(count - 1)), ("still.rows", "extra", '"mine"'),
                      ("still.rows", "missing", "5")]
            scenario.expect(named(verification) == wanted, "named %s" % named(verification))
            scenario.expect(all(item.get("outside") for item in verification["differences"]),
                            "not known as such: %s" % verification["differences"])
            scenario.expect(verification["repaired"] == 3 and verification["equal"],
                            "%d repaired" % verification["repaired"])
            scenario.expect_equal(pair)
    finally:
        if running:
            writer.stop()


def restarted(scenario, pair):
    """What was compared is not compared again after kill -9, but for what was written meanwhile."""
    rows = pair.source.client["still"]["rows"]
    copy = pair.destination.client["still"]["rows"]
    count = scaled(12000, 2000)
    for first in range(0, count, 2000):
        rows.insert_many([{"_id": n, "n": n, "pad": "x" * 4000} for n in range(first, min(first + 2000, count))])
    job = scenario.job(pair, verify_repair="yes", verify_rate=1000)
    job.wait_in_sync()
    with scenario.case("restart: compared ranges stand with the job"):
        wait_until("the compared ranges", lambda: compared(pair, job, "still.rows") == count)
        scenario.expect(job.running(), "the job ended")
    job.kill()
    rows.update_one({"_id": 0}, {"$set": {"n": -5}})
    copy.update_one({"_id": count - 1}, {"$set": {"n": -1}})
    with scenario.case("restart: what was written while nobody listened is compared, and no more"):
        job.options["verify_rate"] = 1  # a megabyte a second: it cannot read all of it again
        job.start()
        job.wait_in_sync()
        wait_until("the repair", lambda: (copy.find_one({"_id": count - 1}) or {}).get("n") == count - 1)
        goal = source_time(pair.source.client)
        job.wait_for("verified at %s" % (goal,), lambda now:
                     stamp(now["positions"]["verified"]) >= goal,
                     timeout=max(6, count * 4000 / 2e6))
        # Most documents of one range, and few enough keys: that is compared key by key.
        rows.update_many({"_id": {"$lt": 200}}, {"$inc": {"n": 1}})
        summary = job.finish()
        verification = summary["verification"]
        scenario.expect(named(verification) == [("still.rows", "different", str(count - 1))],
                        "named %s" % named(verification))
        scenario.expect(verification["rangesRead"] == 0, "%d ranges were read at the cutover"
                        % verification["rangesRead"])
        scenario.expect_equal(pair)


def killed(scenario, pair):
    """kill -9 in the middle of the comparison in the background, and of the repair of what it found."""
    rows = pair.source.client["still"]["rows"]
    copy = pair.destination.client["still"]["rows"]
    count = scaled(12000, 2000)
    rows.insert_many([{"_id": n, "n": n, "pad": "x" * 2000} for n in range(count)])
    job = scenario.job(pair, verify_repair="yes", verify_rate=5)
    job.wait_in_sync()
    with scenario.case("killed: in the middle of the comparison"):
        wait_until("the first ranges", lambda: compared(pair, job, "still.rows") > 0)
        job.kill()
        done = compared(pair, job, "still.rows")
        scenario.expect(0 < done < count, "%d of %d documents were compared" % (done, count))
        print("# killed when %d of %d documents were compared" % (done, count))
        rows.update_many({"_id": {"$mod": [500, 3]}}, {"$inc": {"n": 1}})
        copy.update_many({}, {"$set": {"n": -1}})  # in ranges that were compared, and in all others
    with scenario.case("killed: in the middle of the repair"):
        job.options["verify_rate"] = 1000
        job.start()
        wait_until("the first repair", lambda: not job.running() or
                   copy.count_documents({"n": -1}) < count)
        job.kill()
        left = copy.count_documents({"n": -1})
        scenario.expect(0 < left < count, "%d of %d documents were left" % (left, count))
        print("# killed when %d of %d documents were left to repair" % (left, count))
    with scenario.case("killed: everything is found and repaired all the same"):
        job.start()
        summary = job.finish()
        scenario.expect(summary["verification"]["equal"], "not equal: %s" %
                        summary["verification"]["differences"][:3])
        scenario.expect_equal(pair)


def order(scenario, pair):
    """Ranges end where the server's order says: ours must be the same, over all types of _ids. The test server
    compares binary values by their bytes alone, real ones by length and subtype first; and code with a
    scope stands behind code everywhere but in its arrays."""
    known = [value for value in corpus.IDS if not isinstance(value, (bytes, Code))]
    client, choice = pair.source.client, scenario.random
    ids = client["order"].get_collection("ids", CodecOptions(document_class=RawBSONDocument))
    makers = (lambda: choice.randrange(-1000, 1000), lambda: choice.uniform(-1000, 1000),
              lambda: Int64(choice.randrange(-1 << 63, 1 << 63)), lambda: Timestamp(choice.randrange(9), 1),
              lambda: Decimal128("%dE%d" % (choice.randrange(-999, 999), choice.randrange(-30, 30))),
              lambda: "".join(choice.choices("ab\0\u00e9\U0001f600", k=choice.randrange(6))),
              lambda: Binary(choice.randbytes(2), 0),
              lambda: choice.choice(known), lambda: choice.choice((True, False, None)))
    for _ in range(3000):
        one, two = choice.choice(makers)(), choice.choice(makers)()
        for value in (one, {"k": one}, SON([("k", one), ("l", two)]), {"k": [one, two]}):
            try:
                ids.insert_one({"_id": value})
            except DuplicateKeyError:
                continue
    for what, collection in (("made at random", ids), ("of the corpus", client["corpus"]["ids"])):
        documents = b"".join(document.raw for document in
                             collection.with_options(CodecOptions(document_class=RawBSONDocument)).find(
                                 projection={"_id": 1}, sort=[("_id", 1)]))
        with scenario.case("order: _ids %s stand as the server sorts them" % what):
            done = subprocess.run([str(ROOT / "build" / "tests" / "order")], input=documents,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
            scenario.expect(done.returncode == 0, done.stderr.decode()[:600])
            print("# %s documents in order" % done.stdout.decode().strip())


def rollover(scenario):
    """The source's oplog loses what a stopped job had still to read: it is not copied again."""
    os.environ["TOWLINE_TEST_OPLOG"] = "2000"  # entries
    try:
        source = scenario.server()
    finally:
        del os.environ["TOWLINE_TEST_OPLOG"]
    pair = Pair(source, scenario.server())
    rows = source.client["still"]["rows"]
    rows.insert_many([{"_id": n, "n": 0} for n in range(1000)])
    source.client["still"]["gone"].insert_one({"_id": 1})
    job = scenario.job(pair)
    job.wait_in_sync()
    job.kill()
    rows.update_many({"_id": {"$lt": 300}}, {"$set": {"n": 1}})
    rows.delete_many({"_id": {"$gte": 900}})
    rows.insert_many([{"_id": "new%d" % n} for n in range(50)])
    source.client["still"]["gone"].drop()
    source.client["still"]["born"].insert_one({"_id": 1})
    for first in range(0, 20000, 1000):
        source.client["noise"]["noise"].insert_many([{"_id": first + n} for n in range(1000)])
    oplog = source.client["local"]["oplog.rs"]
    with scenario.case("rollover: a job that lost its position goes on, and repairs by ranges"):
        wait_until("the oplog to forget", lambda: oplog.estimated_document_count() < 15000)
        job.start()
        summary = job.finish()
        notes = [note for note in summary["notes"] if "oplog" in note or "equal again" in note]
        scenario.expect(len(notes) == 2, "notes are %s" % summary["notes"])
        scenario.expect("450 documents" in notes[1], notes[1])
        scenario.expect(summary["verification"]["differencesTotal"] == 0, "%s"
                        % summary["verification"]["differences"][:3])
        scenario.expect_equal(pair)


def unseen(scenario, pair):
    """What applyOps writes is in the oplog of a server before 6.0, and in no change stream."""
    if not differences.is_real():  # the test server has no such command
        return
    rows = pair.source.client["still"]["rows"]
    for verify, name in (False, "repaired"), (True, "compared"):
        rows.drop()
        rows.insert_many([{"_id": n} for n in range(50)])
        job = scenario.job(pair, name=name, clear_destination=True, no_verify=not verify, verify_repair="no")
        with scenario.case("unseen: applyOps after everything was %s" % ("compared" if verify else "copied")):
            job.wait_in_sync()
            if verify:
                wait_until("the compared ranges", lambda: compared(pair, job, "still.rows") == 50)
            pair.source.client.admin.command("applyOps", [
                {"op": "i", "ns": "still.rows", "o": {"_id": "new"}},
                {"op": "u", "ns": "still.rows", "o2": {"_id": 1}, "o": {"$set": {"n": 1}}},
                {"op": "d", "ns": "still.rows", "o": {"_id": 2}}])
            job.finish()
            scenario.expect_equal(pair)
            scenario.expect("written to by applyOps" in job.tail(), job.tail())


def main():
    only = ("--part", dict(default="", help="only the parts whose name holds this"))
    with Scenario(__doc__, [only]) as scenario:
        wanted = scenario.arguments.part
        pair = scenario.pair()
        folder = scenario.folder()
        for part in (part for part in (table, modes, stale, resumed) if wanted in part.__name__):
            scenario.reset(*pair)
            with scenario.case("part %s came to its end" % part.__name__):
                part(scenario, pair, folder)
        for part in (part for part in (order, job_repairs, beside, online, restarted, killed, unseen) if wanted in part.__name__):
            scenario.fresh(pair)
            with scenario.case("part %s came to its end" % part.__name__):
                part(scenario, pair)
        if wanted in "rollover":
            with scenario.case("part rollover came to its end"):
                rollover(scenario)


if __name__ == "__main__":
    main()
