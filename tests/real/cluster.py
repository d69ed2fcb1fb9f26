#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""cluster.py: a real sharded cluster is the source: writers of every kind, chunks and primaries that move.

Shard key values change, documents move between shards, databases move their primaries, collections are
sharded and get other keys, DDL runs, and the engine is killed in between. The writers end, and the cutover must take seconds. Needs a real mongod and
mongos (TOWLINE_TEST_MONGOD, TOWLINE_TEST_MONGOS).

  --seeds N   so many seeds, each on fresh servers      --kills K   SIGKILLs of the engine in each
"""
import ast
import datetime
import os
import pathlib
import random
import re
import sys
import threading
import time

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / part) for part in ("lib", "scenario")]
sys.dont_write_bytecode = True

from pymongo import MongoClient
from pymongo.errors import OperationFailure

import compare
from killed import Moments
from randomized import Load
from scenario import Pair, Scenario

KEYS = 2000
SHARDS = ["shard0", "shard1"]
# StaleConfig and its kin, LockBusy, LockTimeout, ConflictingOperationInProgress, a chunk that another move has moved
PASSING = {63, 13388, 46, 24, 117, 70, 125, 189, 96, 11600, 202, 50, 262}


class Worker:
    """A thread that calls step() until it is stopped; what is not expected is raised by stop()."""

    def __init__(self, uri, seed, pace):
        self.client, self.random = MongoClient(uri), random.Random(seed)
        self.done, self.refused, self.error, self.pace = 0, 0, None, pace
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.work, daemon=True)

    def start(self):
        self.thread.start()
        return self

    def work(self):
        try:
            while not self.stopped.wait(self.pace):  # the pace, no synchronisation
                try:
                    self.step()
                    self.done += 1
                except OperationFailure as error:
                    if error.code not in PASSING and not error.has_error_label("TransientTransactionError") \
                            and not self.passes(error):
                        raise
                    self.refused += 1
        except Exception as error:
            self.error = error

    def passes(self, error):
        return False

    def stop(self):
        self.stopped.set()
        if self.thread.is_alive():
            self.thread.join()
        self.client.close()
        if self.error:
            raise self.error


class ShardedPen(Worker):
    """Writes to a collection sharded by {k: 1}: changes of the shard key move documents between shards.

    Each worker inserts numbers of its own, since shards would take an _id each, and a set can hold but one."""

    def __init__(self, uri, number, of, seed, pace):
        super().__init__(uri, seed, pace)
        self.number, self.of = number, of

    def passes(self, error):
        return error.code in (11000, 112, 251)

    def step(self):
        pens = self.client["sharded"]["pens"]
        number = self.random.randrange(KEYS)
        dice = self.random.random()
        if dice < 0.05:  # goes to all shards, and so to the orphans of a moved chunk as well, as whole replacements
            pens.update_many({"_id": {"$gte": number, "$lt": number + 20}}, [{"$set": {"p": self.done}}])
        elif dice < 0.15:
            pens.update_one({"_id": number}, [{"$set": {"p": self.done}}])
        elif dice < 0.35:
            pens.update_one({"_id": number}, {"$inc": {"n": 1}, "$set": {"f%d" % (dice * 20): dice}})
        elif dice < 0.6:  # the document moves to where its new key belongs
            found = pens.find_one({"_id": number})
            if found:
                pens.update_one({"_id": number, "k": found["k"]},
                                {"$set": {"k": self.random.randrange(KEYS), "moved": self.done}})
        elif dice < 0.75:
            pens.delete_one({"_id": number})
        elif dice < 0.95:
            number += self.number - number % self.of
            if not pens.find_one({"_id": number}):
                pens.insert_one({"_id": number, "k": self.random.randrange(KEYS), "n": 0, "pad": "x" * 100})
        else:
            with self.client.start_session() as session, session.start_transaction():
                pens.update_one({"_id": number}, {"$inc": {"t": 1}}, session=session)
                self.client["loose"]["payments"].insert_one({"of": number}, session=session)


class Successor(Worker):
    """Names whose collections end and begin again before the merged stream reports the first event of any."""

    def step(self):
        database = self.client["ends"]
        if self.random.random() < 0.5:
            database["again"].insert_many([{"n": n} for n in range(100)])
            database["again"].drop()
            database["again"].insert_one({"_id": "new", "of": self.done})
            return
        for name in ("one", "two"):
            database[name].insert_many([{"of": name, "n": n, "round": self.done} for n in range(20)])
        database["one"].rename("target", dropTarget=True)
        database["two"].rename("target", dropTarget=True)
        if self.random.random() < 0.3:
            database["target"].drop()
            database["target"].insert_one({"_id": "after", "round": self.done})


class Walker(Worker):
    """Writes to a database whose primary moves: a plain collection, a capped one and one that expires."""

    def passes(self, error):
        return True  # a server before 5.0 refuses, or loses, what is written while the primary moves

    def step(self):
        database, number = self.client["walks"], self.random.randrange(300)
        dice = self.random.random()
        if dice < 0.3:
            database["log"].insert_one({"n": self.done})
        elif dice < 0.5:
            database["gone"].insert_one({"at": datetime.datetime.now(datetime.timezone.utc), "n": number})
        elif dice < 0.8:
            database["people"].update_one({"_id": number}, {"$inc": {"n": 1}, "$set": {"f%d" % (dice * 20): dice}},
                                          upsert=True)
        else:
            database["people"].delete_one({"_id": number})


class Grower(Worker):
    """Collections that are made, filled, sharded, given a longer key, and dropped while they are written to."""

    def passes(self, error):
        return True  # such as a collection that is sharded already

    def step(self):
        name = "c%d" % self.random.randrange(3)
        namespace, collection = "grow." + name, self.client["grow"][name]
        dice = self.random.random()
        if dice < 0.04:
            collection.drop()
        elif dice < 0.1:
            collection.create_index("k")
            self.client.admin.command("shardCollection", namespace, key={"k": 1})
            self.client.admin.command("split", namespace, middle={"k": 50})
            self.client.admin.command("moveChunk", namespace, find={"k": 1}, to=self.random.choice(SHARDS))
        elif dice < 0.14:
            collection.create_index([("k", 1), ("z", 1)])
            self.client.admin.command("refineCollectionShardKey", namespace, key={"k": 1, "z": 1})
        elif dice < 0.5:
            number = self.random.randrange(10 ** 6)
            collection.insert_many([{"_id": number + n, "k": n, "z": number} for n in range(20)])
        elif dice < 0.8:
            collection.update_many({"k": self.random.randrange(100)}, {"$inc": {"n": 1}})
        else:
            collection.delete_many({"k": self.random.randrange(100)})


class Mover(Worker):
    """Moves chunks, and the primaries of two databases, of which one is written to."""

    def passes(self, error):
        return True  # a move may be refused for a dozen reasons, and is tried again

    def step(self):
        if self.random.random() < 0.15:
            self.client.admin.command("movePrimary", self.random.choice(["still", "walks"]),
                                      to=self.random.choice(SHARDS))
            return
        namespace, key = self.random.choice([("sharded.pens", "k"), ("ballast.numbers", "_id")])
        chunk = self.random.choice(list(self.client["config"]["chunks"].find({"ns": namespace})))
        to = next(shard for shard in SHARDS if shard != chunk["shard"])
        self.client.admin.command("moveChunk", namespace, bounds=[chunk["min"], chunk["max"]], to=to)

    def moves(self):
        return "%d moves, %d refused" % (self.done, self.refused)


def shard(client, load):
    for database in ("sharded", "ballast", "grow"):
        client.admin.command("enableSharding", database)
    client.admin.command("shardCollection", "sharded.pens", key={"k": 1})
    for number in range(1, 8):
        client.admin.command("split", "sharded.pens", middle={"k": number * KEYS // 8})
    client["sharded"]["pens"].insert_many(
        [{"_id": n, "k": (n * 7) % KEYS, "n": 0, "pad": "y" * 100} for n in range(KEYS)])
    client["still"]["life"].insert_many([{"_id": n, "text": "z" * 50} for n in range(500)])
    client["walks"].create_collection("log", capped=True, size=1 << 16, max=500)
    client["walks"]["gone"].create_index("at", expireAfterSeconds=3600)
    client["walks"]["people"].insert_many([{"_id": n} for n in range(300)])
    client["loose"].create_collection("payments")  # 4.4 makes none inside a transaction of several shards
    load.fill()
    client["shop"].create_collection("payments")
    client.admin.command("shardCollection", "ballast.numbers", key={"_id": 1})
    for number in range(1, 6):
        client.admin.command("split", "ballast.numbers", middle={"_id": number * load.ballast.count // 6})
    for number in (0, 2, 4):
        client.admin.command("moveChunk", "ballast.numbers", to="shard1" if primary(client, "ballast") == "shard0"
                             else "shard0", find={"_id": number * load.ballast.count // 6 + 1})


def primary(client, database):
    return client["config"]["databases"].find_one({"_id": database})["primary"]


def kill(scenario, job, kills):
    moments = Moments(job, scenario.random)
    for number in range(kills):
        moment = moments.next()
        if not job.running():
            scenario.expect(False, "the job ended by itself: %s\n%s" % (job.status, job.tail(5)))
        job.kill()
        print("# kill %d: %s, in %s" % (number + 1, moment, job.phases[-1:]), flush=True)
        job.start()


def tell_history(pair):
    """What is known of each _id that differs: on both sides, on each shard, and in the oplog of each."""
    source = pair.source.client
    for difference in compare.compare(pair.source.uri, pair.destination.uri):
        print("# %s %s: %s" % difference)
        found = re.match(r"_id (.*?) (is|differs)", difference.text)
        if not found:
            continue
        database, name = difference.namespace.split(".", 1)
        try:
            wanted = {"_id": ast.literal_eval(found[1])}
        except (SyntaxError, ValueError):
            continue
        for side in (source, pair.destination.client):
            print("#   through %s: %s, scanned %s" % (side.address, list(side[database][name].find(wanted)), [
                document for document in side[database][name].find() if document["_id"] == wanted["_id"]]))
        for entry in source["config"]["shards"].find():
            host = entry["host"].split("/")[1].split(",")[0]
            with MongoClient("mongodb://" + host, directConnection=True) as shard:
                print("#   %s: %s" % (entry["_id"], list(shard[database][name].find(wanted))))
                for change in shard["local"]["oplog.rs"].find({"$or": [
                        {"o._id": wanted["_id"]}, {"o2._id": wanted["_id"]},
                        {"o.applyOps.o._id": wanted["_id"]}, {"o.applyOps.o2._id": wanted["_id"]}]}):
                    print("#     %s" % str({key: change.get(key) for key in (
                        "ts", "op", "ns", "o", "o2", "fromMigrate", "txnNumber")})[:600])
        for chunk in source["config"]["chunks"].find({"ns": difference.namespace}):
            print("#   chunk %s to %s on %s" % (chunk["min"], chunk["max"], chunk["shard"]))


def part_twins(client):
    """A shard key that changes while its chunk moves leaves, on a 4.4, the old document on the new shard too: an
    _id twice, both visible. A set can hold one of them, and a verification would say so; here one goes."""
    pens = client["sharded"]["pens"]
    for twin in pens.aggregate([{"$group": {"_id": "$_id", "keys": {"$push": "$k"}}},
                                {"$match": {"keys.1": {"$exists": True}}}]):
        print("# the source has _id %(_id)s with the shard keys %(keys)s; the first goes" % twin, flush=True)
        pens.delete_one({"_id": twin["_id"], "k": twin["keys"][0]})


def cut_over(scenario, pair, job):
    """The end of a job whose writers rest; how many seconds it took."""
    job.wait_in_sync()
    began = time.monotonic()
    job.finish()
    seconds = time.monotonic() - began
    try:
        scenario.expect_equal(pair)
    except Exception:
        tell_history(pair)
        raise
    scenario.expect_no_state(pair, job)
    return seconds


def one_seed(scenario, seed):
    scenario.random.seed(seed)
    pair = Pair(scenario.server(cluster=True), scenario.server())
    load = Load(pair.source, seed, ballast=8000, rate=400)
    uri, workers = pair.source.uri, []
    with scenario.case("seed %d" % seed):
        try:
            shard(pair.source.client, load)
            mover = Mover(uri, seed + 1, 0.5)
            workers = ([ShardedPen(uri, number, 3, seed + 2 + number, 0.01) for number in range(3)]
                       + [Walker(uri, seed + 6, 0.02), Grower(uri, seed + 7, 0.5), Successor(uri, seed + 5, 4), mover])
            load.start()
            for worker in workers:
                worker.start()
            job = scenario.job(pair, name="seed%d" % seed)
            kill(scenario, job, scenario.arguments.kills)
            job.wait_in_sync()
            seen = job.now()["eventsSeen"]
            job.wait_for("events in sync", lambda now: now["eventsSeen"] >= seen + 1000)
            load.stop()
            for worker in workers:
                worker.stop()
            part_twins(pair.source.client)
            seconds = cut_over(scenario, pair, job)
            print("# cutover %.1f s; phases %s; peak %d MB, cpu %.1f s; %s; pens %s"
                  % (seconds, " ".join(job.phases), job.peak_bytes >> 20, job.cpu_seconds, mover.moves(),
                     "/".join("%d" % worker.done for worker in workers[:3])), flush=True)
            scenario.expect(seconds < 5, "the cutover took %.1f s" % seconds)
        finally:
            for worker in workers:
                worker.stopped.set()
            load.stop()
    for job in scenario.jobs:
        job.close()
    scenario.stop_pair(pair)


def main(title, run):
    """`run(scenario, seed)` for each of the seeds."""
    arguments = [("--seeds", dict(type=int, default=int(os.environ.get("SCENARIO_SEEDS", "1")), help="how many")),
                 ("--kills", dict(type=int, default=2, help="SIGKILLs of the engine"))]
    with Scenario(title, arguments) as scenario:
        for number in range(scenario.arguments.seeds):
            run(scenario, scenario.seed + number)


if __name__ == "__main__":
    main(__doc__, one_seed)
