#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""basics.py: an idle source with everything a catalog and a document can hold is moved whole.

One job with --cutover auto; then one case for each namespace of the source, the job's end, its
summary and what it left behind. What a server cannot create is said in a `# left out` line, because
the servers under test differ (see servers.md), and the case is made of the rest.
"""
import datetime
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True

from bson import Binary, Decimal128, ObjectId, Timestamp
from bson.son import SON

import compare
import corpus
from scenario import Scenario, scaled

COLLECTIONS = [
    ("capped", dict(capped=True, size=100000, max=50)),
    ("validated", dict(validator={"$jsonSchema": {"required": ["n"]}}, validationLevel="moderate",
                       validationAction="warn")),
    ("strict", dict(validator={"n": {"$lt": 10}})),
    ("collated", dict(collation={"locale": "en", "strength": 2})),
    ("clustered", dict(clusteredIndex={"key": {"_id": 1}, "unique": True, "name": "cluster"})),
    ("images", dict(changeStreamPreAndPostImages={"enabled": True})),
    ("empty", {}), ("one", {}), ("empty_with_index", {}), ("system.js", {}),
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

def fill_catalog(client):
    database = client["catalog"]
    for name, options in COLLECTIONS:
        command = SON([("create", name)] + list(options.items()))
        if corpus.attempt("collection %s" % name[:40], lambda: database.command(command)):
            count = {"empty": 0, "empty_with_index": 0, "one": 1, "capped": 80}.get(name, 7)
            documents = [{"_id": n, "n": n, "text": name} for n in range(count)]
            if documents:
                database[name].insert_many(documents)
    database["empty_with_index"].create_index("a")
    for keys, options in INDEXES:
        corpus.attempt("index %r" % (keys,), lambda: database["indexed"].create_index(keys, **options))
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
    corpus.attempt("view with a collation", lambda: database.command(
        "create", "view_collated", viewOn="one", pipeline=[], collation={"locale": "fr"}))


def fill_documents(client):
    database = client["documents"]
    corpus.plant(client, large=scaled(4, 1))
    # The same many times over, so that the ranges' bounds fall between and onto the types.
    many = []
    for number in range(scaled(600, 50)):
        many += [number, "s%d" % number, number + 0.5, {"k": number},
                 Binary(b"%016d" % number, 4), ObjectId("%024x" % number),
                 Decimal128("%d.25" % number), Timestamp(number, 1),
                 datetime.datetime(2000, 1, 1) + datetime.timedelta(number)]
    database["mixed"].insert_many(
        [{"_id": identity, "pad": "x" * 400} for identity in many], ordered=False)
    # An unordered collection: what its insertion order was must not matter.
    keys = list(range(scaled(20000, 2000)))
    database["shuffled"].insert_many([{"_id": (n * 7919) % len(keys), "n": n} for n in keys],
                                     ordered=False)


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
    scenario.expect("admin.kept" in json.dumps(summary), "what is in admin is not named")


def main():
    with Scenario(__doc__) as scenario:
        pair = scenario.pair()
        client = pair.source.client
        fill_catalog(client)
        fill_documents(client)
        client["admin"]["kept"].insert_one({"_id": 1})
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
