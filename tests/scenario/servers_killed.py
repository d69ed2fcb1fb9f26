#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""servers_killed.py: either server is killed and comes back on its data; the job goes on.

The servers sync on each commit, because without it their last acknowledged writes are lost with
them, which no engine could put right. The writer notes what it was told was done.
"""
import os
import pathlib
import random
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True

from pymongo import MongoClient
from pymongo.errors import ConnectionFailure, DuplicateKeyError, OperationFailure

import corpus
from scenario import Pair, Scenario, scaled


class Pen:
    """One thread that inserts, changes and deletes, and tries again while the server is away."""

    def __init__(self, uri, seed):
        self.client = MongoClient(uri, serverSelectionTimeoutMS=2000, socketTimeoutMS=20000)
        self.random, self.done, self.error = random.Random(seed), 0, None
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self):
        try:
            while not self.stopped.wait(0.005):  # the pace, no synchronisation
                try:
                    self.step()
                    self.done += 1
                except (ConnectionFailure, DuplicateKeyError):
                    continue  # whether it was done is known to the server alone, and that is fine
                except OperationFailure as error:
                    if not error.has_error_label("RetryableWriteError"):
                        raise
        except Exception as error:
            self.error = error

    def step(self):
        collection = self.client["data"][self.random.choice(("a", "b"))]
        key = self.random.randrange(3000)
        dice = self.random.random()
        if dice < 0.4:
            collection.update_one({"_id": key}, {"$inc": {"n": 1}, "$set": {"x": dice}}, True)
        elif dice < 0.7:
            collection.replace_one({"_id": key}, {"n": 0, "whole": dice}, True)
        elif dice < 0.85:
            collection.delete_one({"_id": key})
        else:
            collection.insert_one({"inserted": dice})

    def stop(self):
        self.stopped.set()
        self.thread.join()
        self.client.close()
        if self.error:
            raise self.error


def synced_pair(scenario):
    return Pair(*[scenario.server(sync=True, storage=os.path.join(scenario.folder(), "data"))
                  for _ in range(2)])


def fill(client):
    for name in ("a", "b"):
        client["data"][name].insert_many([{"_id": n, "n": 0} for n in range(3000)])
        client["data"][name].create_index("n")
    for number in range(2):
        client["ballast"]["c%d" % number].insert_many(
            [{"_id": n, "pad": os.urandom(700).hex()} for n in range(scaled(15000, 500))])
    corpus.plant(client)


def kill_and_restart(scenario, server, job, pen, seconds):
    """Dead for a random while; afterwards the job must move again, which the caller waits for."""
    server.kill()
    job.ended.wait(scenario.random.random() * seconds)
    scenario.expect(job.running(), "the job ended with %s while the server was away" % job.status)
    server.restart()


def killed_while_copying(scenario, side):
    with scenario.case("the %s is killed during the copy, and in sync" % side):
        pair = synced_pair(scenario)
        server = getattr(pair, side)
        fill(pair.source.client)
        pen = Pen(pair.source.uri, scenario.seed)
        try:
            job = scenario.job(pair, name=side, retry_window=120)
            job.wait_phase("copying", "catching-up", "in-sync")
            print("# killed in phase %s" % job.now().get("phase"))
            kill_and_restart(scenario, server, job, pen, 2)
            job.wait_in_sync()
            for _ in range(2):
                kill_and_restart(scenario, server, job, pen, 3)
                done = pen.done
                job.wait_for("writes after the restart", lambda now: pen.done > done + 20)
                job.wait_caught_up(pair.source.client)
            job.wait_in_sync()
            pen.stop()
            scenario.expect(job.now()["retries"] > 0, "no retry was counted")
            job.finish()
            scenario.expect_equal(pair)
        finally:
            pen.stop()
        scenario.stop_pair(pair)


def both_killed(scenario):
    with scenario.case("both servers are killed at once, in sync"):
        pair = synced_pair(scenario)
        fill(pair.source.client)
        pen = Pen(pair.source.uri, scenario.seed + 1)
        try:
            job = scenario.job(pair, name="both", retry_window=120)
            job.wait_in_sync()
            for server in pair:
                server.kill()
            job.ended.wait(scenario.random.random() * 2)
            for server in pair:
                server.restart()
            job.wait_caught_up(pair.source.client)
            pen.stop()
            job.finish()
            scenario.expect_equal(pair)
        finally:
            pen.stop()
        scenario.stop_pair(pair)


def stays_away(scenario):
    """Longer than the retry window: the job ends with the server's name in its message, and the
    same command continues."""
    with scenario.case("a destination that stays away ends the job, which can continue"):
        pair = synced_pair(scenario)
        fill(pair.source.client)
        job = scenario.job(pair, name="away", retry_window=3)
        job.wait_in_sync()
        pair.destination.kill()
        pair.source.client["data"]["a"].update_many({}, {"$set": {"away": 1}})
        status = job.wait()
        scenario.expect(status in (3, 8), "ended with %s" % status)
        scenario.expect("destination" in job.error_line(), "said %s" % job.error_line())
        pair.destination.restart()
        job.start()
        job.finish()
        scenario.expect_equal(pair)
        scenario.stop_pair(pair)


def main():
    with Scenario(__doc__) as scenario:
        killed_while_copying(scenario, "destination")
        killed_while_copying(scenario, "source")
        both_killed(scenario)
        stays_away(scenario)


if __name__ == "__main__":
    main()
