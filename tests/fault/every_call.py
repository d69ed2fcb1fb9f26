#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""every_call.py: the k-th call to a server fails, for every k, and nothing is lost.

Between the engine and each server stands a proxy. The k-th command on a side is broken in one of
four ways: the connection breaks before the server sees it; the server does it and all or half of the
answer is lost; the server refuses it for a change of roles. Calls are counted from the start of the
job, until the fault would come after it is in sync, and again from the cutover, until it comes after
the job's end. The job must go on, or end with a clear error and go on when it is run again; in the
end both sides are compared. Meanwhile a writer changes the source.

  --stride N   tries every N-th k, from a random one on (default 250; 1: every call)
  --side SIDE  of the calls to this server only: source, destination
"""
import pathlib
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True

from faults import faults
from job import EXIT
from proxy import Proxied
from scenario import Scenario

SIDES = ("source", "destination")
MODES = {"cut before": lambda rule: rule.close(),
         "answer lost": lambda rule: rule.lost(),
         "half an answer": lambda rule: rule.half(),
         "not primary": lambda rule: rule.error(10107, "NotWritablePrimary",
                                                labels=["RetryableWriteError"])}
# A job that a fault ended may say one of these, and the same command then goes on.
CLEAR = (EXIT["unreachable"], EXIT["server"], EXIT["interrupted"], EXIT["not-in-sync"])


def fill(client):
    for name in ("a", "b"):
        client["data"][name].insert_many([{"_id": n, "n": n % 10, "u": n} for n in range(200)])
        client["data"][name].create_index("n")
    client["data"]["a"].create_index("u", unique=True)


def write(client, stopped):
    number = 0
    while not stopped.wait(0.003):  # the pace
        number += 1
        client["data"]["a"].update_one({"_id": number % 200}, {"$inc": {"x": 1}})
        client["data"]["b"].delete_one({"_id": number % 200})
        client["data"]["b"].replace_one({"_id": number % 200}, {"n": number}, upsert=True)
        if number % 50 == 0:
            client["data"]["made%d" % number].insert_one({"_id": 1})


def run_once(scenario, sides, before_cutover):
    """A whole job under writes; how often it had to be started."""
    stopped = threading.Event()
    client = sides.pair.source.client
    writer = threading.Thread(target=write, args=(client, stopped), daemon=True)
    writer.start()
    job = scenario.job(sides, retry_window=20)
    try:
        while job.starts < 6:
            reached = job.wait_or_end("in sync", lambda progress:
                                      progress["phase"] == "in-sync" and progress["canCommit"])
            if reached:
                stopped.set()
                writer.join()
                before_cutover()
                before_cutover = lambda: None
                if finish(job):
                    faults.recovered()
                    return job.starts
            scenario.expect(job.wait() in CLEAR, lambda: "status %s: %s" % (job.status,
                                                                            job.error_line()))
            job.start()
        raise AssertionError("the job ended %d times" % job.starts)
    finally:
        stopped.set()
        writer.join()


def finish(job):
    """Whether the cutover came to its end; a fault may have taken its turn there."""
    try:
        job.commit()
    except Exception:  # the job ended, or refused because it fell behind: what happens next tells
        pass
    reached = job.wait_or_end("the end", lambda progress: progress["phase"] == "in-sync")
    while reached:
        try:
            job.commit()
        except Exception:
            pass
        reached = job.wait_or_end("the end", lambda progress: progress["phase"] == "in-sync")
    return job.wait() == 0


def try_call(scenario, pair, side, mode, moment, number):
    """False when the job made fewer calls than that in this part of it."""
    scenario.fresh(pair)
    fill(pair.source.client)
    sides = Proxied(pair)
    script = getattr(sides, side).script
    counted = {"start": 0}

    def arm():
        MODES[mode](script.on("*", after=number))

    def before_cutover():
        counted["cutover"] = script.count
        counted["in time"] = script.acted()
        if moment == "cutover":
            arm()

    try:
        if moment == "start":
            arm()
        starts = run_once(scenario, sides, before_cutover)
        found = scenario.differences(pair)
        what = next(iter(script.log[counted[moment] + number:]), "none")
        scenario.expect(not found, lambda: "call %d (%s): %d differences, first %s" % (
            number, what, len(found), found[0]))
        acted = counted["in time"] if moment == "start" else script.acted()
        if acted:
            last = counted["cutover"] if moment == "start" else script.count - counted["cutover"]
            print("# %s, %s, call %d of %d from the %s: %s, %d start%s" % (
                side, mode, number, last, moment, what, starts, "s" * (starts > 1)), flush=True)
        return acted > 0
    finally:
        for job in scenario.jobs:
            job.close()
        sides.close()


def main():
    with Scenario(__doc__, [("--stride", {"type": int, "default": 250}),
                            ("--side", {"choices": SIDES})]) as scenario:
        pair = scenario.pair()
        stride = scenario.arguments.stride
        for side in [scenario.arguments.side] if scenario.arguments.side else SIDES:
            for mode in MODES:
                for moment in ("start", "cutover"):
                    with scenario.case("%s: %s at the k-th call from the %s" % (side, mode, moment)):
                        number, acted = scenario.random.randrange(stride), 0
                        while try_call(scenario, pair, side, mode, moment, number):
                            acted += 1
                            number += stride
                        scenario.expect(acted > 0, "no call failed")


if __name__ == "__main__":
    main()
