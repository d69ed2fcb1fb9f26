#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""randomized.py: writers change everything at random while Towline copies, follows and cuts over.

At least eight threads of tests/lib/writer.py, and beside them a Ballast: collections that only grow
and change, large enough that the copy takes its time under the writes. Then the independent
comparison. `--seeds N` runs N seeds in a row, each on two fresh servers.
"""
import os
import pathlib
import random
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True

from pymongo import MongoClient, ReplaceOne, UpdateOne, DeleteOne

import corpus
from scenario import SCALE, Scenario, scaled
from writer import Writer

THREADS = 8
RATE = 1500  # operations a second, so that two cores are enough for writers, servers and engine
EVENTS_IN_SYNC = 2000  # the job follows at least so many before the cutover


class Ballast:
    """A few large collections that are never dropped, and one thread that changes them: every
    document counts its changes, so that a lost or a doubled one shows in its content."""

    NAMES = ("numbers", "strings")

    def __init__(self, uri, seed, count):
        self.client = MongoClient(uri, appname="towline-ballast")
        self.random = random.Random(seed)
        self.count, self.done, self.error = count, 0, None
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.work, daemon=True)

    def key(self, name, number):
        return number if name == "numbers" else "key %d" % number

    def fill(self):
        for name in self.NAMES:
            for first in range(0, self.count, 5000):
                self.client["ballast"][name].insert_many(
                    [{"_id": self.key(name, n), "changes": 0,
                      "pad": self.random.randbytes(350).hex()}
                     for n in range(first, min(first + 5000, self.count))], ordered=False)
            self.client["ballast"][name].create_index("changes")

    def start(self):
        self.thread.start()

    def work(self):
        try:
            while not self.stopped.wait(0.05):  # the pace, no synchronisation
                for name in self.NAMES:
                    operations = [self.operation(name) for _ in range(10)]
                    self.client["ballast"][name].bulk_write(operations, ordered=True)
                    self.done += len(operations)
        except Exception as error:
            self.error = error

    def operation(self, name):
        key = {"_id": self.key(name, self.random.randrange(self.count))}
        dice = self.random.random()
        if dice < 0.7:
            change = {"$inc": {"changes": 1}, "$set": {"t%d" % (dice * 10): self.done}}
            return UpdateOne(key, change, upsert=True)
        if dice < 0.9:
            return ReplaceOne(key, {"changes": -1, "replaced": self.done, "pad": "x" * 300},
                              upsert=True)
        return DeleteOne(key)

    def stop(self):
        self.stopped.set()
        self.thread.join()
        self.client.close()
        if self.error:
            raise self.error


class Load:
    """Writers and ballast of one seed."""

    def __init__(self, source, seed, ballast=15000, rate=RATE):
        self.writer = Writer(source.uri, threads=THREADS, seed=seed, rate=max(100, rate * SCALE))
        self.ballast = Ballast(source.uri, seed, scaled(ballast, 500))
        self.source, self.seed, self.running = source, seed, False

    def fill(self):
        self.ballast.fill()
        self.writer.fill()
        corpus.plant(self.source.client)

    def start(self):
        self.writer.start()
        self.ballast.start()
        self.stirrer = corpus.Stirrer(self.source.client, self.seed)
        self.running = True

    def stop(self):
        """Raises what a writer ran into that it did not expect."""
        if self.running:
            self.running = False
            try:
                self.writer.stop()
            finally:
                self.stirrer.stop()
                self.ballast.stop()


def finish(scenario, pair, job, load):
    """Follows for a while under writes, ends the writes, cuts over, compares."""
    job.wait_in_sync()
    seen = job.now()["eventsSeen"]
    job.wait_for("%d events in sync" % scaled(EVENTS_IN_SYNC), lambda now:
                 now["eventsSeen"] >= seen + scaled(EVENTS_IN_SYNC))
    load.stop()
    summary = job.finish()
    scenario.expect_equal(pair)
    scenario.expect_no_state(pair, job)
    return summary


def one_seed(scenario, seed):
    pair = scenario.pair()
    with scenario.case("seed %d" % seed):
        load = Load(pair.source, seed)
        try:
            load.fill()
            load.start()
            job = scenario.job(pair, name="seed%d" % seed)
            finish(scenario, pair, job, load)
            print("# phases %s; peak %d MB, cpu %.1f s; %d changes of the ballast"
                  % (" ".join(job.phases), job.peak_bytes >> 20, job.cpu_seconds,
                     load.ballast.done))
        finally:
            load.stop()
    scenario.stop_pair(pair)


def main():
    arguments = [("--seeds", dict(type=int, default=int(os.environ.get("SCENARIO_SEEDS", "2")),
                                  help="how many seeds in a row"))]
    with Scenario(__doc__, arguments) as scenario:
        for number in range(scenario.arguments.seeds):
            one_seed(scenario, scenario.seed + number)


if __name__ == "__main__":
    main()
