#!/usr/bin/env python3
"""basics.py: an idle source with everything a catalog and a document can hold is moved whole.

One job with --cutover auto; then one case for each namespace of the source, the job's end, its
summary and what it left behind. What a server cannot create is said in a `# left out` line, because
the servers under test differ (see servers.md), and the case is made of the rest.
"""
import datetime
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True

import bson
from bson import (Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex,
                  Timestamp)
from bson.raw_bson import RawBSONDocument
from bson.son import SON
from pymongo.errors import DuplicateKeyError, OperationFailure

import compare
from scenario import Scenario, scaled

COLLECTIONS = [
    ("capped", dict(capped=True, size=100000, max=50)),
    ("validated", dict(validator={"$jsonSchema": {"required": ["n"]}}, validationLevel="moderate",
                       validationAction="warn")),
    ("strict", dict(validator={"n": {"$lt": 10}})),
    ("collated", dict(collation={"locale": "en", "strength": 2})),
    ("clustered", dict(clusteredIndex={"key": {"_id": 1}, "unique": True, "name": "cluster"})),
    ("images", dict(changeStreamPreAndPostImages={"enabled": True})),
    ("empty", {}), ("one", {}), ("empty_with_index", {}), ("with space", {}), ("dots.in.name", {}),
    ("\u00fcn\u00efc\u00f6d\u00e9.\u65e5\u672c\u8a9e", {}), ("emoji\U0001f600", {}), ("UPPER", {}),
    ("upper", {}), ("-dash", {}), ("x" * 240, {}), ("system.js", {}),
    ("quote\"'\\", {}), ("percent%s%n", {}), ("towline_lookalike", {}),
]

INDEXES = [
    ([("a", 1)], {}), ([("a", -1), ("b", 1)], {}), ([("a.b.c", 1)], {}),
    ([("ttl", 1)], dict(expireAfterSeconds=100000000)),
    ([("partial", 1)], dict(partialFilterExpression={"n": {"$gt": 1}})),
    ([("hidden", 1)], dict(hidden=True)), ([("sparse", 1)], dict(sparse=True)),
    ([("flat", "2d")], dict(min=-10, max=10, bits=20)), ([("sphere", "2dsphere")], {}),
    ([("$**", 1)], {}), ([("wild.$**", 1)], dict(name="wild")),
    ([("$**", 1)], dict(name="projected", wildcardProjection={"q": 1})),
    ([("unique", 1)], dict(unique=True, sparse=True)),
    ([("u1", 1), ("u2", -1)], dict(unique=True, name="odd n\u00e4me",
                                   partialFilterExpression={"u1": {"$exists": True}})),
    ([("collated", 1)], dict(collation={"locale": "de"})),
    ([("text", "text")], {}), ([("hashed", "hashed")], {}),
]

# Equal numbers are one _id to a server, so each number stands here once, in one of its types.
IDS = [
    1, "1", 2.0, 2.5, Int64(3), Int64(1 << 62), -(1 << 31), Decimal128("4"), Decimal128("1.70"),
    Decimal128("5.000"), Decimal128("1E+40"), -0.0, 5e-324, 1.7e308, float("nan"), float("inf"),
    float("-inf"), MinKey(), MaxKey(), None, True, False, ObjectId("5f" * 12), "", "a\0b",
    "\u65e5\U0001f600", "x" * 900, Binary(b"", 0), Binary(b"1" * 16, 4), Binary(b"x", 128),
    Binary(b"1" * 16, 3), datetime.datetime(1960, 1, 1), datetime.datetime(9999, 12, 31),
    Timestamp(5, 6), Timestamp(0, 0), Code("f()"), Code("g()", {"a": 1}), DBRef("c", 1), {},
    {"a": 1}, SON([("a", 1), ("b", 2)]), SON([("b", 2), ("a", 1)]), {"deep": {"er": [1, {"x": 2}]}},
    {"n": Int64(1 << 40)},
]


def deep(levels):
    document = {"bottom": 1}
    for _ in range(levels):
        document = {"d": document}
    return document


def duplicate_fields():
    """A document with one field name twice, which no driver makes by itself."""
    body = bson.encode(SON([("_id", "twice"), ("a", 1)]))[4:-1] + bson.encode({"a": 2})[4:-1]
    return RawBSONDocument((len(body) + 5).to_bytes(4, "little") + body + b"\0")


FIELDS = [
    SON([("_id", "dotted"), ("a.b", 1), ("a", {"b": 2})]), SON([("_id", "dollar"), ("$x", 1)]),
    SON([("_id", "dollar-set"), ("$set", {"a": 1})]), SON([("_id", "empty"), ("", 1)]),
    SON([("_id", "nested"), ("a", SON([("$y", 1), ("x.y", 2), ("", 3)]))]),
    SON([("_id", "numeric"), ("1", 1), ("0", {"2": 3})]),
    SON([("_id", "order"), ("z", 1), ("a", 2), ("m", 3)]),
    SON([("_id", "types"), ("d", 1.0), ("i", 1), ("l", Int64(1)), ("m", Decimal128("1.0")),
         ("nan", float("nan")), ("zero", -0.0), ("re", Regex("^a", "im")), ("min", MinKey()),
         ("max", MaxKey()), ("nil", None), ("code", Code("f", {"x": 1})), ("bin", Binary(b"\0", 0)),
         ("nested ts", {"t": Timestamp(0, 0)}), ("array ts", [Timestamp(0, 0)])]),
    SON([("_id", "zero bytes"), ("text", "a\0b\0"),
         ("planes", "\u00e9\u65e5\U0001f600\U0010ffff")]),
    SON([("_id", "array"), ("items", list(range(10000)))]),
    SON([("_id", "deepest"), ("d", deep(95))]), duplicate_fields(),
]


def attempt(what, action):
    """True when the server took it; a server that lacks the feature refuses, which is said."""
    try:
        action()
        return True
    except OperationFailure as error:
        if isinstance(error, DuplicateKeyError):
            print("# left out, one key with another to this server: %s" % what)
        else:
            print("# left out, refused by this server: %s (%s)" % (what, error.code))
        return False


def fill_catalog(client):
    database = client["catalog"]
    for name, options in COLLECTIONS:
        command = SON([("create", name)] + list(options.items()))
        if attempt("collection %s" % name[:40], lambda: database.command(command)):
            count = {"empty": 0, "empty_with_index": 0, "one": 1, "capped": 80}.get(name, 7)
            documents = [{"_id": n, "n": n, "text": name} for n in range(count)]
            if documents:
                database[name].insert_many(documents)
    database["empty_with_index"].create_index("a")
    for keys, options in INDEXES:
        attempt("index %r" % (keys,), lambda: database["indexed"].create_index(keys, **options))
    database["indexed"].insert_many(
        [{"_id": n, "a": n % 5, "n": n, "ttl": datetime.datetime(2026, 1, 1),
          "unique": n, "u1": n // 2, "u2": n % 2, "flat": [n % 10, 1], "hashed": n,
          "sphere": {"type": "Point", "coordinates": [n % 90, 1]}, "text": "word%d" % n,
          "collated": "n\u00e4me%d" % n} for n in range(500)])
    for number in range(50):
        database["many_indexes"].create_index([("f%d" % number, 1)])
    database["many_indexes"].insert_many([{"_id": n, "f%d" % (n % 50): n} for n in range(100)])
    # A view on a view, named so that neither order of names is the order of dependence.
    for name, on in (("view_m", "one"), ("view_a", "view_m"), ("view_z", "view_a")):
        database.command("create", name, viewOn=on, pipeline=[{"$match": {"n": {"$gte": 0}}}])
    attempt("view with a collation", lambda: database.command(
        "create", "view_collated", viewOn="one", pipeline=[], collation={"locale": "fr"}))


def fill_documents(client):
    database = client["documents"]
    for number, identity in enumerate(IDS):
        attempt("_id %r" % (identity,),
                lambda: database["ids"].insert_one(SON([("_id", identity), ("n", number)])))
    # The same many times over, so that the ranges' bounds fall between and onto the types.
    many = []
    for number in range(scaled(600, 50)):
        many += [number, "s%d" % number, number + 0.5, {"k": number},
                 Binary(b"%016d" % number, 4), ObjectId("%024x" % number),
                 Decimal128("%d.25" % number), Timestamp(number, 1),
                 datetime.datetime(2000, 1, 1) + datetime.timedelta(number)]
    database["mixed"].insert_many(
        [{"_id": identity, "pad": "x" * 400} for identity in many], ordered=False)
    for document in FIELDS:
        attempt("document %s" % document["_id"], lambda: database["fields"].insert_one(document))
    # A server replaces Timestamp(0,0) at the top level of an insert; a pipeline update sets it.
    database["zero_timestamp"].insert_one(SON([("_id", 1), ("before", 1), ("t", 0), ("after", 2)]))
    database["zero_timestamp"].update_one(
        {"_id": 1}, [{"$set": {"t": {"$literal": Timestamp(0, 0)}}}])
    # An unordered collection: what its insertion order was must not matter.
    keys = list(range(scaled(20000, 2000)))
    database["shuffled"].insert_many([{"_id": (n * 7919) % len(keys), "n": n} for n in keys],
                                     ordered=False)


def fill_large(client):
    """Documents at the limit: 1 byte under 16 MB, and some that fill a batch alone."""
    overhead = len(bson.encode(SON([("_id", 0), ("x", "")])))
    for number in range(scaled(4, 1)):
        room = 16 * 1024 * 1024 - overhead - 1 - number * 1000
        client["large"]["documents"].insert_one(SON([("_id", number), ("x", "y" * room)]))
    client["large"]["documents"].insert_many([{"_id": "s%d" % n} for n in range(100)])


SUMMARY_FIELDS = {"state": str, "durationSeconds": (int, float), "downtimeSeconds": (int, float),
                  "initialDocuments": int, "initialBytes": int, "collections": int, "indexes": int,
                  "eventsSeen": int, "keysRefetched": int, "statementsApplied": int,
                  "verification": dict}


def find_field(summary, name):
    """The value of a field wherever the summary groups it."""
    if isinstance(summary, dict):
        if name in summary:
            return summary[name]
        for value in summary.values():
            found = find_field(value, name)
            if found is not None:
                return found
    return None


def check_summary(scenario, summary, documents):
    for name, kind in SUMMARY_FIELDS.items():
        value = find_field(summary, name)
        scenario.expect(isinstance(value, kind) and not isinstance(value, bool),
                        "field %s is %r" % (name, value))
    scenario.expect(summary["state"] == "done", "state is %s" % summary["state"])
    scenario.expect(find_field(summary, "initialDocuments") == documents, "%s initial documents, "
                    "the source has %d" % (find_field(summary, "initialDocuments"), documents))
    verification = summary["verification"]
    scenario.expect(verification.get("equal") is True, "verification is not equal")
    scenario.expect(verification.get("collections"), "verification lists no collection")


def main():
    with Scenario(__doc__) as scenario:
        pair = scenario.pair()
        client = pair.source.client
        fill_catalog(client)
        fill_documents(client)
        fill_large(client)
        catalog = compare.read_catalog(client, lambda database, name: True)
        documents = sum(client[namespace.split(".", 1)[0]][namespace.split(".", 1)[1]]
                        .count_documents({}) for namespace, entry in catalog.items()
                        if entry.get("type") != "view")
        summary = {}
        with scenario.case("copy of an idle source ends with exit 0"):
            job = scenario.job(pair, cutover="auto")
            summary = job.wait_done()
            scenario.expect(job.error_line() == "", "said %s" % job.error_line())
        with scenario.case("summary file holds the fields of the README"):
            check_summary(scenario, summary, documents)
        with scenario.case("job's database is gone"):
            scenario.expect_no_state(pair, job)
        with scenario.case("phases are passed in order"):
            order = ["new", "validating", "preparing", "copying", "catching-up", "in-sync",
                     "finalizing", "done"]
            places = [order.index(phase) for phase in job.phases]
            scenario.expect(places and places == sorted(places), "phases were %s" % job.phases)
        found = scenario.differences(pair, capped_order=True)
        for namespace in sorted(catalog):
            with scenario.case("equal: " + namespace[:60]):
                mine = [item for item in found if item.namespace == namespace]
                scenario.expect(not mine, lambda: "%s: %s" % (mine[0].kind, mine[0].text))
        with scenario.case("nothing else is at the destination"):
            extra = [item.namespace for item in found if item.namespace not in catalog]
            scenario.expect(not extra, "not at the source: %s" % ", ".join(extra))


if __name__ == "__main__":
    main()
