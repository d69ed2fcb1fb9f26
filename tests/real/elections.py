#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""elections.py: real sets of three on both sides; primaries step down, are killed and come back, on either side.

The writers write with w: majority, since what a primary acknowledged alone may be rolled back. The engine is
killed in between. Needs a real mongod (TOWLINE_TEST_MONGOD).

  --seeds N   so many seeds, each on fresh servers      --rounds R   elections in each
"""
import os
import pathlib
import sys
import time

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / part) for part in ("lib", "scenario")]
sys.dont_write_bytecode = True

from pymongo.errors import ConnectionFailure, OperationFailure

from members import Members
from scenario import Pair, Scenario, scaled
from servers_killed import Pen
import corpus


def fill(client):
    for name in ("a", "b"):
        client["data"][name].insert_many([{"_id": n, "n": 0} for n in range(3000)])
        client["data"][name].create_index("n")
    client["data"].create_collection("log", capped=True, size=300000)
    client["data"]["log"].insert_many([{"n": n} for n in range(500)])
    for number in range(2):
        client["ballast"]["c%d" % number].insert_many(
            [{"_id": n, "pad": os.urandom(350).hex()} for n in range(scaled(8000, 500))])
    corpus.plant(client)


def break_something(scenario, pair, job, members):
    """One fault; its name."""
    side = scenario.random.choice(("source", "destination"))
    there = members[side]
    fault = scenario.random.choice(("step down", "kill the primary", "kill the engine", "stop the primary for 3 s"))
    if fault == "kill the engine":
        job.kill()
        job.start()
        return fault
    try:
        if fault == "step down":
            there.step_down()
        elif fault == "kill the primary":
            there.kill_primary()
            time.sleep(scenario.random.random() * 3)
            there.restart_dead()
        else:
            there.pause_primary(3)
    except (ConnectionFailure, OperationFailure) as error:
        return "%s of the %s (%s)" % (fault, side, str(error)[:60])
    return "%s of the %s" % (fault, side)


def one_seed(scenario, seed):
    scenario.random.seed(seed)
    pair = Pair(scenario.server(members=3), scenario.server(members=3))
    members = {"source": Members(pair.source), "destination": Members(pair.destination)}
    pens = []
    with scenario.case("seed %d" % seed):
        try:
            fill(pair.source.client)
            uri = pair.source.uri + "&w=majority"
            pens = [Pen(uri, seed + number) for number in range(3)]
            job = scenario.job(pair, name="seed%d" % seed)
            for number in range(scenario.arguments.rounds):
                job.ended.wait(scenario.random.random() * 4)
                print("# %s: %s" % (job.phases[-1:], break_something(scenario, pair, job, members)), flush=True)
                scenario.expect(job.running(), "the job ended with %s:\n%s" % (job.status, job.tail(5)))
            job.wait_in_sync()
            job.ended.wait(2)
            for pen in pens:
                pen.stop()
            job.wait_in_sync()
            began = time.monotonic()
            job.finish()
            seconds = time.monotonic() - began
            for side in members.values():
                side.settle()
            scenario.expect_equal(pair)
            scenario.expect_no_state(pair, job)
            print("# cutover %.1f s; phases %s; peak %d MB, cpu %.1f s; writes %s"
                  % (seconds, " ".join(job.phases), job.peak_bytes >> 20, job.cpu_seconds,
                     "/".join(str(pen.done) for pen in pens)), flush=True)
        finally:
            for pen in pens:
                pen.stopped.set()
    for job in scenario.jobs:
        job.close()
    scenario.stop_pair(pair)


def main():
    arguments = [("--seeds", dict(type=int, default=int(os.environ.get("SCENARIO_SEEDS", "1")), help="how many")),
                 ("--rounds", dict(type=int, default=6, help="faults in each"))]
    with Scenario(__doc__, arguments) as scenario:
        for number in range(scenario.arguments.seeds):
            one_seed(scenario, scenario.seed + number)


if __name__ == "__main__":
    main()
