#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""to_cluster.py: a real sharded cluster is the destination, with a writer at the source and kills of the engine.

After each kill the next process fences the sessions of the one before on every shard, which is looked up
there. Needs a real mongod and mongos (TOWLINE_TEST_MONGOD, TOWLINE_TEST_MONGOS).

  --seeds N   so many seeds, each on fresh servers      --kills K   SIGKILLs of the engine in each
"""
import pathlib
import sys

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / part) for part in ("lib", "scenario", "real")]
sys.dont_write_bytecode = True

from pymongo import MongoClient

import cluster
from randomized import Load
from scenario import Pair

FENCED = 2 ** 63 - 2  # the last number but one: no write with a smaller one takes effect any more


def sessions(pair, job):
    """Of the process that holds the job: the ids that its writes carry."""
    state = pair.destination.client["towline_" + job.name]["job"].find_one({"_id": "job"})
    return [session["id"] for session in state["sessions"]]


def shards(client):
    for shard in client["config"]["shards"].find():
        host = shard["host"].split("/")[1].split(",")[0]
        yield shard["_id"], MongoClient("mongodb://%s/?directConnection=true" % host)


def expect_fenced(scenario, pair, old):
    for name, client in shards(pair.destination.client):
        records = list(client["config"]["transactions"].find({"_id.id": {"$in": old}}))
        scenario.expect(len(records) == len(old) and all(record["txnNum"] >= FENCED for record in records),
                        "%s: %d of %d former sessions are known, with numbers from %s" % (
                            name, len(records), len(old), min([record["txnNum"] for record in records] or [0])))
        client.close()


def one_seed(scenario, seed):
    scenario.random.seed(seed)
    pair = Pair(scenario.server(), scenario.server(cluster=True))
    load = Load(pair.source, seed, ballast=8000, rate=300)
    with scenario.case("seed %d" % seed):
        try:
            load.fill()
            load.start()
            job = scenario.job(pair, name="seed%d" % seed)
            cluster.kill(scenario, job, scenario.arguments.kills)
            job.wait_in_sync()
            old = sessions(pair, job)
            job.kill()
            job.start()
            job.wait_in_sync()
            expect_fenced(scenario, pair, old)
            load.stop()
            seconds = cluster.cut_over(scenario, pair, job)
            print("# cutover %.1f s; %d sessions fenced on each shard; peak %d MB, cpu %.1f s"
                  % (seconds, len(old), job.peak_bytes >> 20, job.cpu_seconds), flush=True)
        finally:
            load.stop()
    for job in scenario.jobs:
        job.close()
    scenario.stop_pair(pair)


if __name__ == "__main__":
    cluster.main(__doc__, one_seed)
