#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""ddl.py: whatever changes the catalog of the source, at any moment, is found at the destination.

Each operation has three databases of its own: one where it happens while the job copies, one while
the job is paused in the midst of it, one in sync. After the cutover each of them is one case.
"""
import pathlib
import random
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True

import corpus
from scenario import Scenario, scaled

STAGES = ("copying", "paused", "insync")
ROWS = 300


def rows(first=0, count=ROWS, **fields):
    return [dict({"_id": n, "n": n, "pad": "x" * 100}, **fields)
            for n in range(first, first + count)]


# Operations: prepare(client, db) makes what stands before the job, act(client, db) is the change.
# The function's name is the case's name; the database is db(stage, name).

def prepare_rows(client, db):
    for name in ("a", "b", "c"):
        client[db][name].insert_many(rows(where=name))
        client[db][name].create_index("n")


def drop(client, db):
    client[db]["a"].drop()


def drop_and_create(client, db):
    client[db]["a"].drop()
    client[db]["a"].insert_many(rows(100, 50, again=True))
    client[db]["b"].drop()
    client[db].create_collection("b", capped=True, size=100000)
    client[db]["b"].insert_many(rows(1, 10))


def drop_and_create_often(client, db):
    for number in range(8):
        client[db]["a"].drop()
        client[db]["a"].insert_many(rows(number * 10, 30, turn=number))
        client[db]["a"].create_index("n", unique=number % 2 == 0)


def rename(client, db):
    client[db]["a"].rename("renamed")
    client[db]["renamed"].update_many({"n": {"$lt": 50}}, {"$set": {"after": 1}})
    client[db]["a"].insert_one({"_id": "a new one of the old name"})


def rename_in_a_ring(client, db):
    """a, b and c change places, so that each name is another collection than before."""
    client[db]["a"].rename("spare")
    client[db]["b"].rename("a")
    client[db]["c"].rename("b")
    client[db]["spare"].rename("c")
    for name in ("a", "b", "c"):
        client[db][name].delete_many({"n": {"$gte": 200}})


def rename_drop_target(client, db):
    client[db]["a"].insert_one({"_id": "just before"})
    client[db]["a"].rename("b", dropTarget=True)
    client[db]["b"].insert_one({"_id": "just after"})


def rename_across_databases(client, db):
    client.admin.command("renameCollection", db + ".a", to=db + "_x.moved")
    client[db + "_x"]["moved"].insert_one({"_id": "after the move"})
    client.admin.command("renameCollection", db + ".b", to=db + "_x.moved", dropTarget=True)


def drop_database(client, db):
    client.drop_database(db)


def drop_database_and_create(client, db):
    client.drop_database(db)
    client[db]["a"].insert_many(rows(5, 5))
    client[db]["z"].insert_many(rows(5, 5))


def major(client):
    """The server's version: what it does not have yet is left out."""
    return client.server_info()["versionArray"][0]


def create_with_options(client, db):
    database = client[db]
    database.create_collection("capped", capped=True, size=50000, max=20)
    database["capped"].insert_many(rows(0, 40))
    database.create_collection("collated", collation={"locale": "en", "strength": 2})
    database["collated"].insert_many([{"_id": "A"}, {"_id": "b"}])
    database.create_collection("validated", validator={"n": {"$gte": 0}})
    if major(client) >= 6:
        database.create_collection("clustered", clusteredIndex={"key": {"_id": 1}, "unique": True})
        database["clustered"].insert_many(rows(0, 20))
        database.create_collection("images", changeStreamPreAndPostImages={"enabled": True})
    database.create_collection("empty")


def create_indexes(client, db):
    collection = client[db]["a"]
    collection.create_index([("x", 1), ("n", -1)])
    if major(client) >= 5:  # before that one key has one index
        collection.create_index("n", name="second on n", partialFilterExpression={"n": {"$gt": 5}})
    collection.create_index("u", unique=True, sparse=True)
    collection.create_index("when", expireAfterSeconds=100000000)
    collection.insert_many(rows(1000, 20))
    client[db]["made"].create_index("first")  # makes the collection too


def drop_indexes(client, db):
    client[db]["a"].drop_index("n_1")
    client[db]["b"].create_index("x")
    client[db]["b"].drop_indexes()
    client[db]["c"].drop_index("n_1")
    client[db]["c"].create_index("n", unique=True)  # the same name with another meaning


def coll_mod(client, db):
    database = client[db]
    database["a"].create_index("when", expireAfterSeconds=100000000)
    database.command("collMod", "a", index={"name": "when_1", "expireAfterSeconds": 90000000})
    database.command("collMod", "a", index={"name": "n_1", "hidden": True})
    database.command("collMod", "b", validator={"n": {"$gte": 0}}, validationLevel="moderate")
    if major(client) >= 6:
        database.command("collMod", "c", changeStreamPreAndPostImages={"enabled": True})


def prepare_views(client, db):
    client[db]["a"].insert_many(rows())
    for name in ("kept", "changed", "dropped", "replaced"):
        client[db].create_collection(name, viewOn="a", pipeline=[{"$match": {"n": 1}}])


def views(client, db):
    database = client[db]
    database.command("collMod", "changed", viewOn="a", pipeline=[{"$match": {"n": 2}}])
    database["dropped"].drop()
    database["replaced"].drop()
    database["replaced"].insert_many(rows(0, 10))  # a collection where a view was
    database.create_collection("made", viewOn="kept", pipeline=[])


def prepare_unique(client, db):
    client[db]["a"].create_index("u", unique=True)
    client[db]["a"].insert_many([dict(row, u=row["n"]) for row in rows(count=100)])


def unique_swaps(client, db):
    """Values change places between documents: by a third value, by removing, in transactions."""
    collection = client[db]["a"]
    choice = random.Random(db)
    for turn in range(60):
        left, right = choice.sample(range(100), 2)
        values = [collection.find_one({"_id": number}).get("u") for number in (left, right)]
        if turn % 3 == 2:
            with client.start_session() as session, session.start_transaction():
                for key, value in ((left, -1 - turn), (right, values[0]), (left, values[1])):
                    collection.update_one({"_id": key}, {"$set": {"u": value, "turn": turn}},
                                          session=session)
            continue
        collection.update_one({"_id": left}, {"$unset": {"u": 1}} if turn % 3 else
                              {"$set": {"u": -1 - turn}})
        collection.update_one({"_id": right}, {"$set": {"u": values[0]}})
        collection.update_one({"_id": left}, {"$set": {"u": values[1]}})


def hot_document(client, db):
    for number in range(scaled(1500, 100)):
        client[db]["a"].update_one({"_id": 7}, {"$inc": {"count": 1}, "$push": {
            "last": {"$each": [number], "$slice": -5}}})


def transactions(client, db):
    for number in range(30):
        with client.start_session() as session, session.start_transaction():
            client[db]["a"].update_one({"_id": number}, {"$inc": {"n": -1}}, session=session)
            client[db]["b"].update_one({"_id": number}, {"$inc": {"n": 1}}, session=session)
            client[db]["c"].delete_one({"_id": number}, session=session)
            client[db]["a"].insert_one({"_id": 1000 + number}, session=session)
            if number % 3 == 0:
                session.abort_transaction()


def delete_all(client, db):
    client[db]["a"].delete_many({})
    client[db]["b"].delete_many({"n": {"$gte": 10}})


OPERATIONS = [(action, prepare_rows) for action in (
    drop, drop_and_create, drop_and_create_often, rename, rename_in_a_ring, rename_drop_target,
    rename_across_databases, drop_database, drop_database_and_create, create_with_options,
    create_indexes, drop_indexes, coll_mod, hot_document, transactions, delete_all)]
OPERATIONS += [(views, prepare_views), (unique_swaps, prepare_unique)]


def database_of(stage, action):
    return "%s_%s" % (stage, action.__name__)


def storm(scenario, client, stage):
    """All operations of one stage, in four threads, in an order of the seed's choice."""
    jobs = [action for action, _ in OPERATIONS]
    scenario.random.shuffle(jobs)
    failed = []

    def work(mine):
        for action in mine:
            try:
                action(client, database_of(stage, action))
            except Exception as error:
                failed.append("%s: %s" % (action.__name__, error))

    threads = [threading.Thread(target=work, args=(jobs[part::4],)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    scenario.expect(not failed, "the source refused: %s" % failed)


def all_stages(scenario, pair):
    client = pair.source.client
    for stage in STAGES:
        for action, prepare in OPERATIONS:
            prepare(client, database_of(stage, action))
    corpus.plant(client)
    # Something large keeps the copy going while the operations happen.
    for number in range(2):
        client["ballast%d" % number]["c"].insert_many(
            [{"_id": n, "pad": "x" * 3000} for n in range(scaled(12000, 500))])
    with scenario.case("a job with DDL in every phase ends with exit 0"):
        job = scenario.job(pair, workers=2)
        job.wait_phase("copying", "catching-up", "in-sync")
        storm(scenario, client, "copying")
        print("# phase behind the first storm: %s" % job.now().get("phase"))
        if job.now().get("phase") != "paused":
            job.pause()
        storm(scenario, client, "paused")
        job.resume()
        job.wait_in_sync()
        storm(scenario, client, "insync")
        job.finish()
    found = scenario.differences(pair)
    for stage in STAGES:
        for action, _ in OPERATIONS:
            with scenario.case("%s: %s" % (stage, action.__name__.replace("_", " "))):
                names = [database_of(stage, action), database_of(stage, action) + "_x"]
                mine = [item for item in found if item.namespace.split(".")[0] in names]
                scenario.expect(not mine, lambda: "%d differences, first %s: %s" % (
                    len(mine), mine[0].namespace, mine[0].text))
    with scenario.case("the rest is equal"):
        rest = [item for item in found if item.namespace.startswith(("ballast", "corpus"))]
        scenario.expect(not rest, lambda: "%s: %s" % (rest[0].namespace, rest[0].text))


def filter_boundary(scenario, pair):
    """A rename into the filter brings a collection that was never copied; one out of it takes it
    away, as far as the job is concerned."""
    client = pair.source.client
    for db in ("inside", "outside"):
        for name in ("goes", "stays", "target"):
            client[db][name].insert_many(rows(where=db))

    def takes(database, name):
        return database == "inside"

    with scenario.case("renames across the filter's boundary"):
        job = scenario.job(pair, include=["inside"])
        job.wait_in_sync()
        client.admin.command("renameCollection", "inside.goes", to="outside.came")
        client.admin.command("renameCollection", "outside.goes", to="inside.came")
        client["inside"]["came"].update_many({"n": {"$lt": 10}}, {"$set": {"after": 1}})
        client["outside"]["came"].update_many({}, {"$set": {"after": 1}})
        client.admin.command("renameCollection", "outside.stays", to="inside.target",
                             dropTarget=True)
        job.finish()
        scenario.expect_equal(pair, takes=takes)
        scenario.expect("outside" not in pair.destination.client.list_database_names(),
                        "something outside of the filter was written")
    with scenario.case("renames across the boundary within one database"):
        scenario.reset(*pair)
        for name in ("in1", "in2", "out1", "out2"):
            client["d"][name].insert_many(rows(where=name))
        job = scenario.job(pair, include=["d.in1", "d.in2", "d.in3"])
        job.wait_in_sync()
        client["d"]["in1"].rename("out3")
        client["d"]["out1"].rename("in1")
        client["d"]["in2"].rename("in3")
        client["d"]["out2"].rename("in3", dropTarget=True)
        client["d"]["in3"].insert_one({"_id": "after"})
        job.finish()
        scenario.expect_equal(pair, takes=lambda database, name: name in ("in1", "in2", "in3"))
        names = pair.destination.client["d"].list_collection_names()
        scenario.expect(sorted(names) == ["in1", "in3"], "the destination has %s" % names)


def main():
    with Scenario(__doc__) as scenario:
        pair = scenario.pair()
        all_stages(scenario, pair)
        scenario.reset(*pair)
        filter_boundary(scenario, pair)


if __name__ == "__main__":
    main()
