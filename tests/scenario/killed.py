#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""killed.py: the engine is killed (SIGKILL) again and again, and the same command continues.

The writers and the comparison are those of randomized.py. The moments are random, spread over the
phases; between two lives the state on the destination is read: a range that was finished before
must still be the same finished range, with the as-of interval of its one and only copy.
"""
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True

from job import ApiError
from randomized import Load, finish
from scenario import Scenario

KILLS = 5


class Moments:
    """Where the next kill falls: each takes the job there, or returns when it has ended."""

    def __init__(self, job, choice):
        self.job, self.choice = job, choice
        self.wanted = [self.at_once, self.in_copy, self.in_copy, self.catching_up, self.in_sync]

    def next(self):
        moment = self.wanted.pop(0) if self.wanted else self.choice.choice(
            [self.at_once, self.in_copy, self.catching_up, self.in_sync])
        moment()
        self.job.ended.wait(self.choice.random() * 0.3)  # anywhere within the phase
        return moment.__name__

    def at_once(self):
        """From the first instruction to about the middle of the preparations."""
        self.job.ended.wait(self.choice.random() * 0.5)

    def in_copy(self):
        part = self.choice.random()
        self.reach(("catching-up", "in-sync"), lambda now: now["phase"] == "copying" and
                   now["collectionCopy"]["estimatedCopiedBytes"] >=
                   part * now["collectionCopy"]["estimatedTotalBytes"])

    def catching_up(self):
        self.reach(("catching-up", "in-sync"), lambda now: False)

    def in_sync(self):
        events = self.choice.randrange(1000)
        self.job.wait_in_sync()
        seen = self.job.now().get("eventsSeen", 0)
        self.reach((), lambda now: now["eventsSeen"] >= seen + events)

    def reach(self, phases, condition):
        self.job.wait_for("a moment to kill at", lambda now:
                          now["phase"] in phases or condition(now))


def finished_ranges(client, database):
    """{(ns, n, read time of the collection): (lo, hi)} of the ranges that are done."""
    state = client[database]
    read = {entry["_id"]: entry.get("readTime") for entry in state["collections"].find()}
    return {(entry["_id"]["ns"], entry["_id"]["n"], str(read.get(entry["_id"]["ns"]))):
            (entry.get("lo"), entry.get("hi")) for entry in state["ranges"].find({"state": "done"})}


def check_ranges(scenario, before, after):
    """A collection that was dropped or renamed meanwhile has another read time, or none at all."""
    again = ["%s range %d" % key[:2] for key, interval in before.items()
             if key in after and after[key] != interval]
    scenario.expect(not again, "copied twice: %s" % ", ".join(again[:10]))
    wrong = ["%s range %d" % key[:2] for key, (lo, hi) in after.items() if lo and lo > hi]
    scenario.expect(not wrong, "as-of interval the wrong way round: %s" % ", ".join(wrong[:10]))
    lost = ["%s range %d" % key[:2] for key in before
            if key[0].startswith("ballast.") and key not in after]
    scenario.expect(not lost, "finished, and forgotten: %s" % ", ".join(lost[:10]))


def kill_often(scenario, pair, job, kills):
    moments = Moments(job, scenario.random)
    destination = pair.destination.client
    finished, places = {}, []
    for number in range(kills):
        place = moments.next()
        phase = job.now().get("phase", "before the control server")
        scenario.expect(job.running(), "it ended by itself: %s" % job.status)
        job.kill()
        places.append("%s (%s)" % (place, phase))
        now = finished_ranges(destination, "towline_" + job.name)
        check_ranges(scenario, finished, now)
        finished = now
        print("# kill %d: %s, %d ranges finished" % (number + 1, places[-1], len(now)), flush=True)
        job.start()
    job.wait_in_sync()
    check_ranges(scenario, finished, finished_ranges(destination, "towline_" + job.name))
    return finished


def killed_in_cutover(scenario, pair, job, load):
    """The last kill falls into the cutover; asked again, it comes to its end."""
    job.wait_in_sync()
    load.stop()
    job.commit()
    job.ended.wait(scenario.random.random() * 0.4)
    if not job.running():
        scenario.expect(job.status == 0, "the cutover ended with %s" % job.status)
        print("# the cutover was done before the kill")
        return
    job.kill()
    job.start()
    while job.running():
        if job.wait_or_end("canCommit", lambda now: now.get("canCommit")) is None:
            break
        try:
            job.api("POST", "commit")
        except (ApiError, OSError):
            pass  # it finishes already, by the answer that it gave before it was killed
        job.ended.wait(0.2)
    job.wait_done()


def one_seed(scenario, seed, kills):
    pair = scenario.pair()
    load = Load(pair.source, seed, ballast=40000)
    try:
        with scenario.case("seed %d: %d kills, no finished range is copied twice" % (seed, kills)):
            load.fill()
            load.start()
            job = scenario.job(pair, name="killed%d" % seed)
            finished = kill_often(scenario, pair, job, kills)
            scenario.expect(finished, "no range was ever seen finished")
        with scenario.case("seed %d: nothing lost after %d kills" % (seed, kills)):
            scenario.expect(job.running(), "the job ended with %s" % job.status)
            if scenario.random.random() < 0.5:
                finish(scenario, pair, job, load)
            else:
                killed_in_cutover(scenario, pair, job, load)
                scenario.expect_equal(pair)
                scenario.expect_no_state(pair, job)
    finally:
        load.stop()
    scenario.stop_pair(pair)


def main():
    arguments = [("--seeds", dict(type=int, default=int(os.environ.get("SCENARIO_SEEDS", "4")),
                                  help="how many seeds in a row")),
                 ("--kills", dict(type=int, default=KILLS, help="kills of each run"))]
    with Scenario(__doc__, arguments) as scenario:
        for number in range(scenario.arguments.seeds):
            one_seed(scenario, scenario.seed + number, scenario.arguments.kills)


if __name__ == "__main__":
    main()
