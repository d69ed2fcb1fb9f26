#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""answers.py: what a real source may answer and the test server never does (shared/servers.md).

The source is tests/lib/fake.py, with KeyString tokens and a clock of its own; the destination is a
real server. Every case ends with both sides compared document by document.
"""
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True

import bson
from bson.raw_bson import RawBSONDocument
from bson.codec_options import CodecOptions
from bson.son import SON

from fake import Fake
from faults import faults
from job import EXIT, binary, clean_environment, stamp, towline
from scenario import Scenario, wait_until
from wire import is_barrier

# Of a sharded source; what the README's compatibility table rests on.
MONGOS_VERSIONS = ("4.2.14", "4.4.6", "5.0.9", "6.0.4", "7.0.14", "8.0.4")
RAW = CodecOptions(document_class=RawBSONDocument)
NOT_PRIMARY = ((10107, "NotWritablePrimary"), (13435, "NotPrimaryNoSecondaryOk"),
               (189, "PrimarySteppedDown"), (91, "ShutdownInProgress"),
               (11602, "InterruptedDueToReplStateChange"))


class Sides:
    """A fake source and a real destination, as a scenario's pair."""

    def __init__(self, scenario, destination, noop_seconds=1, **options):
        self.source, self.destination = Fake(**options), destination
        scenario.reset(destination)
        if self.source.sharded:
            self.source.shard_collection("shop.a")
            self.source.shard_collection("shop.b")
            self.source.noop_seconds = noop_seconds
            self.source.run()  # a mongos has nothing to tell while the clocks of its shards stand still
        for number in range(300):
            self.source.insert("shop.a", {"_id": number, "n": 0})
            self.source.insert("shop.b", {"_id": "k%d" % number, "n": 0})

    def uris(self):
        return self.source.uri, self.destination.uri

    def differences(self):
        found = []
        for ns in self.source.collections:
            database, name = ns.split(".", 1)
            have = sorted(raw.raw for raw in
                          self.destination.client[database].get_collection(name, RAW).find())
            want = sorted(self.source.collections[ns]["documents"])
            if have != want:
                found.append("%s: %d documents of %d are equal" % (
                    ns, len(set(have) & set(want)), len(want)))
        faults.compared(len(found))
        return found


@contextlib.contextmanager
def following(scenario, destination, plant=None, job_options=None, **options):
    """A job that is in sync; behind the block it is brought to its end, and both sides are compared.
    `plant(fake)` comes before its start."""
    sides = Sides(scenario, destination, **options)
    if plant:
        plant(sides.source)
    job = scenario.job(sides, **(job_options or {}))
    job.wait_in_sync()
    yield sides.source, job
    job.finish()
    expect_alike(scenario, sides)


def expect_alike(scenario, sides):
    found = sides.differences()
    scenario.expect(not found, lambda: "; ".join(found))
    scenario.expect(not sides.source.gaps, lambda: "the fake lacks: %s" % sides.source.gaps[:3])


def change(fake, mark):
    for number in range(0, 300, 7):
        fake.update("shop.a", number, mark=mark)
    fake.delete("shop.b", "k%d" % (mark % 300))
    fake.insert("shop.b", {"_id": "new%d" % mark, "n": mark})


def caught_up(job, fake):
    goal = fake.now()
    progress = job.wait_for("floor at %s" % goal, lambda progress:
                            stamp(progress["positions"]["floor"]) >= (goal.time, goal.inc))
    faults.recovered()
    return progress


def whole_job(scenario, destination, **options):
    with following(scenario, destination, **options) as (fake, job):
        for mark in range(3):
            change(fake, mark)
            fake.tick(1)
        caught_up(job, fake)


def idle_lag(scenario, destination):
    """The clock stands still, so lag is exact: 0 while idle, whatever time passes in the world."""
    with following(scenario, destination) as (fake, job):
        for _ in range(3):
            fake.tick(10)
            progress = caught_up(job, fake)
            scenario.expect(progress["positions"]["floor"]["t"] == fake.seconds,
                            "the floor is not the high-water mark")
            job.wait_for("lag 0", lambda progress: progress["lagMs"] == 0)


def stalled_lag(scenario, destination):
    """The stream answers nothing while the source writes on: lag must grow, and never show 0."""
    with following(scenario, destination) as (fake, job):
        fake.script.on("getMore", when=fake.is_stream).delay(5, "stream stalls")
        wait_until("a getMore that hangs", lambda: fake.script.acted() > 0)
        fake.tick(1)
        change(fake, 1)
        progress = job.wait_for("lag of a stalled stream", lambda now: now["lagMs"] >= 3000)
        scenario.expect(not progress["canCommit"], "it may be cut over while 3 s behind")
        caught_up(job, fake)


def expect_told(scenario, job):
    scenario.expect("no longer reaches back" in job.tail(400), "the log does not say what happened")


def history_lost(scenario, destination, code, name):
    """The position is gone while the job runs, and with it changes that no stream will tell of: the
    ranges are compared and repaired."""
    with following(scenario, destination) as (fake, job):
        with fake.changed:  # the stream sees none of it
            change(fake, 1)
            fake.lose_oplog()
            fake.script.on("getMore", when=fake.is_stream).error(
                code, name, labels=["NonResumableChangeStreamError"])
        wait_until("the error", lambda: fake.script.acted() > 0)
        change(fake, 2)
        fake.tick(1)
        caught_up(job, fake)
        job.wait_for("in-sync after the rollover", lambda now: now["phase"] == "in-sync")
        expect_told(scenario, job)
    scenario.expect("were repaired" in str(job.summary()), "the summary does not tell of it")


def lost_at_cutover(scenario, destination):
    """The position is gone after the cutover began, and with it the last changes before it."""
    sides = Sides(scenario, destination)
    fake = sides.source

    def lose(request, serve):
        with fake.changed:
            change(fake, 1)
            fake.lose_oplog()
            fake.script.on("getMore", when=fake.is_stream).error(
                280, "ChangeStreamFatalError", labels=["NonResumableChangeStreamError"])
            fake.tick(1)
        return serve(request)

    job = scenario.job(sides, no_verify=True)
    job.wait_in_sync()
    fake.script.on("find", when=is_barrier).act(lose)
    job.finish()
    found = sides.differences()
    scenario.expect(not found, lambda: "; ".join(found))
    scenario.expect(not fake.gaps, lambda: "the fake lacks: %s" % fake.gaps[:3])
    scenario.expect("were repaired" in str(job.summary()), "the summary does not tell of it")


def rolled_over_and_hot(scenario, destination):
    """A document that changes between any two looks at it does not keep a job from going on behind a
    rollover: the new stream tells of it."""
    ended = threading.Event()

    def write(fake):
        number = 0
        while not ended.is_set():
            number += 1
            fake.update("shop.a", 1, hot=number)

    with following(scenario, destination) as (fake, job):
        job.kill()
        fake.tick(3600)
        change(fake, 1)
        fake.forget_history()
        writer = threading.Thread(target=write, args=(fake,))
        writer.start()
        try:
            job.start()
            job.wait_for("both sides are equal again",
                         lambda progress: "both sides are equal again" in job.tail(400))
        finally:
            ended.set()
            writer.join()
        job.wait_in_sync()
        expect_told(scenario, job)


def rolled_over(scenario, destination):
    """The job is away for longer than the oplog reaches back."""
    with following(scenario, destination) as (fake, job):
        job.kill()
        fake.tick(3600)
        change(fake, 1)
        fake.forget_history()
        job.start()
        caught_up(job, fake)
        job.wait_in_sync()
        expect_told(scenario, job)


def survives(scenario, destination, make):
    """A job on whose source `make(script)` plants faults, while copying and again while following."""
    with following(scenario, destination, make) as (fake, job):
        make(fake)
        for mark in range(4):
            change(fake, mark)
            fake.tick(1)
            caught_up(job, fake)
        scenario.expect(fake.script.acted() > 0, "no fault happened")


def stream_errors(fake):
    script = fake.script
    script.on("getMore", when=fake.is_stream, after=1).error(9999, "SomethingNew", labels=[
        "ResumableChangeStreamError"])
    for number, name in NOT_PRIMARY:
        script.on("getMore", when=fake.is_stream, after=1).error(number, name)
    script.on("getMore", when=fake.is_stream, after=1).error(43, "CursorNotFound")
    script.on("getMore", when=fake.is_stream, after=1).error(262, "ExceededTimeLimit")
    script.on("aggregate", when=fake.is_stream).error(189, "PrimarySteppedDown")
    script.on("getMore", when=fake.is_stream, after=1).half()
    script.on("getMore", when=fake.is_stream, after=1).lost()


def read_errors(fake):
    script = fake.script
    for number, name in NOT_PRIMARY + ((262, "ExceededTimeLimit"), (175, "QueryPlanKilled"),
                                       (50, "MaxTimeMSExpired")):
        script.on("find", when=lambda request: request.database == "shop").error(number, name)
    script.on("getMore", when=lambda request: request.database == "shop").error(43,
                                                                                "CursorNotFound")
    script.on("find", when=lambda request: request.database == "shop", after=2).half()
    script.on("find", when=lambda request: request.database == "shop", after=2).lost()
    script.on("hello").close()
    script.on("listCollections").error(10107, "NotWritablePrimary")
    script.on("listIndexes").close()
    script.on("find", when=is_barrier).lost()


def large_event(scenario, destination):
    """BSONObjectTooLarge comes again at every resume, until the stream leaves the large fields out. So
    no event need be split: the server is never asked to."""
    with following(scenario, destination) as (fake, job):
        job.wait_for("direct mode", lambda progress: progress["mode"] == "direct")
        for number in range(0, 300, 50):
            fake.update("shop.a", number, large=True, n=number)
            change(fake, number)
            fake.tick(1)
            caught_up(job, fake)
        scenario.expect(fake.failed_large > 0, "no event was too large")
        scenario.expect("$changeStreamSplitLargeEvent" not in str(fake.opened), "it was asked to")


def idle_token_ahead(scenario, destination):
    """An opaque token's time is a clock: changes made before it may come after it."""
    copying = []

    def late(fake):
        """Changes made during the copy that the stream does not deliver yet."""
        fake.script.on("find", when=lambda request: request.database == "shop",
                       times=4).delay(0.5)
        copying.append(threading.Thread(target=meanwhile, args=(fake,)))
        copying[0].start()

    def meanwhile(fake):
        wait_until("the copy", lambda: fake.script.acted() > 0)
        fake.hold()
        for number in range(0, 300, 3):
            fake.update("shop.a", number, late=True)
        for number in range(100):
            fake.delete("shop.b", "k%d" % number)
        fake.tick(5)
        wait_until("idle tokens", lambda: fake.idle >= 5)  # the job may believe none of them
        fake.release()
        fake.tick(1)

    with following(scenario, destination, late, opaque=True) as (fake, job):
        copying[0].join()
        fake.insert("shop.a", {"_id": "last"})


# A sharded source: reviews/real-servers.md ----------------------------------------------------------------

NO_VERIFY = {"no_verify": True}  # no comparison hides what the replay lost


def silent_shard(scenario, destination, shared):
    """Finding 3: a mongos of 4.4 has no appendOplogNote, and what it says of `admin` is the config server's
    time. The last writes are held back by a shard that was silent; the cutover waits for all of them, and
    pushes that shard. shared: the silent shard's last time is that of the last write."""
    sides = Sides(scenario, destination, noop_seconds=10, sharded=True, version="4.4.6")
    fake, ended = sides.source, threading.Event()

    def wake():
        """The config server's no-op comes after a second, the silent shard's own one late."""
        if not ended.wait(1):
            fake.config = None
            fake.tick(1)
        if not ended.wait(11):
            fake.release()
            fake.tick(1)

    job = scenario.job(sides, **NO_VERIFY)
    job.wait_in_sync()
    fake.silence(1)
    with fake.changed:
        fake.config = fake.shards[1].now
        for mark in range(5):
            fake.update("shop.a", mark, shard=0, last=mark)
        fake.insert("shop.b", {"_id": "last"}, shard=0)
        if shared:
            fake.shards[1].now = fake.config = fake.shards[0].now
    thread = threading.Thread(target=wake)
    thread.start()
    began = time.monotonic()
    try:
        job.finish()
    finally:
        ended.set()
        thread.join()
    expect_alike(scenario, sides)
    scenario.expect(time.monotonic() - began < 8, "the cutover took %.1f s" % (time.monotonic() - began))


def idle_shard(scenario, destination):
    """Finding 22: one shard writes, the other is idle and writes a no-op every ten seconds. The job stays in
    sync all the time, then with no write at all, and the cutover takes seconds."""
    sides = Sides(scenario, destination, noop_seconds=10, sharded=True, version="4.4.6")
    fake, job = sides.source, scenario.job(sides)
    job.wait_in_sync()
    samples, number = [], 0
    began = time.monotonic()
    while time.monotonic() - began < 9:
        if time.monotonic() - began < 5 and number % 3 == 0:
            fake.update("shop.a", number % 300, shard=0, busy=number)
        samples.append(job.now().get("canCommit"))
        number += 1
        time.sleep(0.1)  # the writer's pace
    began = time.monotonic()
    job.finish()
    took = time.monotonic() - began
    expect_alike(scenario, sides)
    scenario.expect(samples.count(True) >= 0.9 * len(samples),
                    "in sync in %d of %d looks" % (samples.count(True), len(samples)))
    scenario.expect(took < 6, "the cutover took %.1f s" % took)


def moved(scenario, destination, insert_first, equal):
    """Finding 1: a document that moves between shards is deleted and inserted, and the stream may tell of the
    insert first."""
    with following(scenario, destination, job_options=NO_VERIFY, sharded=True, version="4.4.6") as (fake, job):
        job.wait_for("direct mode", lambda progress: progress["mode"] == "direct")
        for number in range(20):
            fake.move("shop.a", number, insert_first, equal, k=number)
            if number % 5 == 4:
                fake.tick(1)
                caught_up(job, fake)


def primary_moved(scenario, destination):
    """Finding 2: movePrimary sends drop events of the old shard for collections that live on."""
    def plant(fake):
        for number in range(50):
            fake.insert("lone.u", {"_id": number})
        fake.insert("lone.v", {"_id": 1})

    with following(scenario, destination, plant, NO_VERIFY, sharded=True, version="4.4.6") as (fake, job):
        fake.move_primary("lone", 1)
        fake.tick(1)
        caught_up(job, fake)
        fake.insert("lone.u", {"_id": "after"})
        fake.tick(1)
        caught_up(job, fake)


def dropped_at_once(scenario, destination):
    """One drop event of each shard, and two collections' drops with one cluster time are two."""
    def plant(fake):
        for number in range(50):
            fake.insert("one.c", {"_id": number})
            fake.insert("two.c", {"_id": number})
        fake.shard_collection("shop.gone")
        fake.insert("shop.gone", {"_id": 1})

    with following(scenario, destination, plant, NO_VERIFY, sharded=True, version="4.4.6") as (fake, job):
        fake.move_primary("two", 1)
        fake.tick(1)
        caught_up(job, fake)
        with fake.changed:
            at = max(shard.next() for shard in fake.shards)
            fake.drop("one.c", at)
            fake.drop("two.c", at)
        fake.drop("shop.gone")
        fake.tick(1)
        caught_up(job, fake)
    names = destination.client.list_database_names()
    scenario.expect("one" not in names and "two" not in names, "one of two drops was passed over")
    scenario.expect("gone" not in destination.client.shop.list_collection_names(), "shop.gone is still there")


def sharded_rename(scenario, destination):
    """Finding 24: on 5.0 every shard tells of the rename of a sharded collection."""
    def plant(fake):
        fake.shard_collection("shop.r")
        for number in range(100):
            fake.insert("shop.r", {"_id": number})

    with following(scenario, destination, plant, NO_VERIFY, sharded=3, version="5.0.9") as (fake, job):
        fake.rename("shop.r", "shop.s")
        fake.insert("shop.s", {"_id": "after"})
        fake.tick(1)
        caught_up(job, fake)
        job.wait_in_sync()
        scenario.expect("copy_again" not in job.tail(400), "it was copied again")


def large_through_mongos(scenario, destination):
    """Finding 18: no $project helps there, since the shards fail before it; what was lost is compared."""
    with following(scenario, destination, sharded=True, version="4.4.6") as (fake, job):
        fake.update("shop.a", 7, large=True, n=1)
        for mark in range(3):
            change(fake, mark)
            fake.tick(1)
        wait_until("the event that is too large", lambda: fake.failed_large > 0)
        job.wait_for("in-sync behind it", lambda now: now["phase"] == "in-sync" and now["canCommit"])


def empty_replies(scenario, _):
    """Finding 23: an empty reply of a mongos says nothing. A comparison that goes on from a file learns what
    was written since, however long a silent shard holds it back."""
    sides, ended = (Fake(sharded=True, version="4.4.6"), Fake()), threading.Event()
    command, _ = interrupted_verify(scenario, sides)
    sides[0].run()
    with sides[0].changed:
        sides[0].silence(1)
        sides[0].update("shop.a", 3, shard=0, n=2)

    def wake():
        if not ended.wait(3):
            sides[0].release()
            sides[0].tick(1)
    thread = threading.Thread(target=wake)
    thread.start()
    try:
        done = towline(*command)
    finally:
        ended.set()
        thread.join()
    scenario.expect(done.returncode == EXIT["verify"], "exit %d: %s" % (done.returncode, done.stderr[-400:]))
    expect_no_gaps(scenario, sides)


def overtaken(scenario, destination, code):
    """A stream that the oplog has overtaken ends without any label: 136 where it had read, 326 where its first
    getMore comes too late."""
    with following(scenario, destination) as (fake, job):
        if code == 326:
            job.kill()
            change(fake, 1)
        fake.script.on("getMore", when=fake.is_stream).delay(2, "stream stalls")
        if code == 326:
            job.start()
        wait_until("a getMore that hangs", lambda: fake.script.acted() > 0)
        with fake.changed:
            change(fake, 2)
            fake.forget_history()
            fake.lose_oplog()
        fake.tick(1)
        caught_up(job, fake)
        job.wait_in_sync()
        expect_told(scenario, job)


def unknown_event(scenario, destination):
    with following(scenario, destination) as (fake, job):
        fake.unknown_event("shop.a", "somethingOfVersion9")
        fake.unknown_event("shop.a", "somethingOfVersion9")
        change(fake, 3)
        caught_up(job, fake)
        said = job.tail(400).count("unknown type 'somethingOfVersion9'")
        scenario.expect(said == 1, "an unknown event was logged %d times" % said)


def killed_with_keystrings(scenario, destination):
    """Killed while following, it goes on from the token of its checkpoint."""
    with following(scenario, destination) as (fake, job):
        for mark in range(4):
            change(fake, mark)
            job.kill()
            change(fake, mark + 50)
            fake.tick(1)
            job.start()
            job.wait_in_sync()


def shard_keys(scenario, destination):
    """Two sharded clusters: every difference in how a collection is sharded is named, and no other."""
    def entry(name, key, unique=False, **more):
        return SON([("_id", "shop." + name), ("key", SON(key)), ("unique", unique), *more.items()])

    sides = Fake(sharded=True), Fake(sharded=True)
    for side in sides:
        for name in "abcdefgh":
            side.insert("shop." + name, {"_id": 1, "n": 1})
    sides[0].shard_keys = [
        entry("a", [("x", 1), ("y", "hashed")]), entry("b", [("x", 1)]),
        entry("c", [("x", 1), ("y", 1)]), entry("d", [("x", 1)]), entry("e", [("x", 1)], True),
        entry("g", [("_id", 1)], unsplittable=True), entry("h", [("x", 1)], dropped=True)]
    sides[1].shard_keys = [
        entry("a", [("x", 1.0), ("y", "hashed")]), entry("b", [("x", "hashed")]),
        entry("c", [("y", 1), ("x", 1)]), entry("e", [("x", 1)]), entry("f", [("x", 1)])]
    wanted = {"shop.b": "shardKey.key", "shop.c": "shardKey.key",
              "shop.d": "shardKey, not sharded at the destination", "shop.e": "shardKey.unique",
              "shop.f": "shardKey, not sharded at the source"}
    report = os.path.join(scenario.folder(), "report.json")
    command = ["verify", "--source", sides[0].uri, "--destination", sides[1].uri, "--progress", "none",
               "--report", report]
    done = towline(*command)
    scenario.expect(done.returncode == EXIT["verify"], "exit %d: %s" % (done.returncode,
                                                                      done.stderr[-300:]))
    with open(report, encoding="utf-8") as file:
        found = json.load(file)["differences"]
    scenario.expect({item["ns"]: item["path"] for item in found} == wanted and
                    {item["kind"] for item in found} == {"options"}, "found %s" % found)
    sides[1].script.on("find", when=lambda request: request.collection == "collections", times=None).error(
        13, "Unauthorized", "not authorized on config to execute command")
    done = towline(*command)
    scenario.expect(done.returncode == 0 and "shard keys are not compared" in done.stderr,
                    "exit %d: %s" % (done.returncode, done.stderr[-300:]))
    done = towline("check", "--source", sides[0].uri, "--destination", destination.uri, "--json")
    found = [check for check in json.loads(done.stdout)["checks"] if check["name"] == "sharding"]
    scenario.expect([check["result"] for check in found] == ["warning"] and
                    "5 are sharded" in found[0]["facts"], "%s" % found)
    sides[0].script.on("find", when=lambda request: request.collection == "collections", times=None).error(
        13, "Unauthorized", "not authorized on config to execute command")
    done = towline("check", "--source", sides[0].uri, "--destination", destination.uri, "--json")
    found = [check for check in json.loads(done.stdout)["checks"] if check["name"] == "sharding"]
    scenario.expect([check["result"] for check in found] == ["skipped"], "%s" % found)
    for side in sides:
        scenario.expect(not side.gaps, lambda: "the fake lacks: %s" % side.gaps[:3])


def expect_no_gaps(scenario, sides):
    for side in sides:
        scenario.expect(not side.gaps, lambda: "the fake lacks: %s" % side.gaps[:3])


def interrupted_verify(scenario, sides):
    """A comparison of six collections that is killed at the fourth: its command, and a function that kills it
    again."""
    for side in sides:
        for name in "abcdef":
            side.insert("shop." + name, *[{"_id": number, "n": 1} for number in range(10)])
    folder = scenario.folder()
    report, state = os.path.join(folder, "report.json"), os.path.join(folder, "state")
    command = ["verify", "--source", sides[0].uri, "--destination", sides[1].uri, "--progress", "none",
               "--report", report, "--state", state, "--workers", "2"]

    def ranges():
        if not os.path.exists(state):
            return 0
        with open(state, "rb") as file:
            return bson.decode_all(file.read())[0]["ranges"]

    def killed():
        sides[0].script.on("find", when=lambda request: request.collection == "d").delay(60)
        process = subprocess.Popen([binary()] + command, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   env=clean_environment())
        try:
            wait_until("three ranges", lambda: process.poll() is not None or ranges() == 3)
        finally:
            process.kill()
            process.wait()

    killed()
    return command, killed


def forgotten(scenario, _):
    """A comparison that was killed, and whose position a side has forgotten, starts over and says so."""
    sides = Fake(), Fake()
    command, killed = interrupted_verify(scenario, sides)
    report = command[command.index("--report") + 1]

    def expect(kept, text):
        done = towline(*command)
        scenario.expect(done.returncode == 0 and text in done.stderr, "exit %d: %s"
                        % (done.returncode, done.stderr[-400:]))
        with open(report, encoding="utf-8") as file:
            found = json.load(file)
        scenario.expect((found["rangesKept"], found["rangesRead"]) == (kept, 6 - kept),
                        "%d ranges kept, %d read" % (found["rangesKept"], found["rangesRead"]))

    expect(3, "goes on")
    killed()
    sides[1].tick(3600)
    sides[1].forget_history()
    expect(0, "everything is compared again")
    expect_no_gaps(scenario, sides)


def main():
    with Scenario(__doc__) as scenario:
        destination = scenario.server()
        cases = [("KeyString tokens, from start to cutover", whole_job, {}),
                 *[("a mongos of %s" % version, whole_job, {"sharded": True, "version": version})
                   for version in MONGOS_VERSIONS],
                 ("opaque tokens", whole_job, {"opaque": True}),
                 ("finding 3: a silent shard at the cutover", silent_shard, {"shared": False}),
                 ("finding 3: a silent shard, at the time of the last write", silent_shard, {"shared": True}),
                 ("finding 22: an idle shard, and in sync all the time", idle_shard, {}),
                 ("finding 1: a moved document, delete first", moved,
                  {"insert_first": False, "equal": False}),
                 ("finding 1: a moved document, insert first", moved,
                  {"insert_first": True, "equal": False}),
                 ("finding 1: a moved document, insert first at the same time", moved,
                  {"insert_first": True, "equal": True}),
                 ("finding 2: movePrimary", primary_moved, {}),
                 ("drops of several shards", dropped_at_once, {}),
                 ("finding 24: rename of a sharded collection", sharded_rename, {}),
                 ("finding 18: an event over 16 MB through a mongos", large_through_mongos, {}),
                 ("finding 23: empty replies of a mongos", empty_replies, {}),
                 ("finding 6: a mongos of 4.4 with the documented roles", whole_job,
                  {"sharded": True, "version": "4.4.6", "roles": "reader"}),
                 ("finding 6: a set of 4.4 with the documented roles", whole_job,
                  {"version": "4.4.6", "roles": "reader"}),
                 ("overtaken where it had read: 136", overtaken, {"code": 136}),
                 ("overtaken before its first getMore: 326", overtaken, {"code": 326}),
                 ("shard keys of two clusters", shard_keys, {}),
                 ("a comparison whose position is forgotten", forgotten, {}),
                 ("version 4.4", whole_job, {"version": "4.4.29"}),
                 ("lag of an idle source is 0", idle_lag, {}),
                 ("lag of a stalled stream grows", stalled_lag, {}),
                 ("286: history lost", history_lost, {"code": 286,
                                                      "name": "ChangeStreamHistoryLost"}),
                 ("136: capped position lost", history_lost, {"code": 136,
                                                              "name": "CappedPositionLost"}),
                 ("280: fatal", history_lost, {"code": 280, "name": "ChangeStreamFatalError"}),
                 ("280 while it cuts over", lost_at_cutover, {}),
                 ("the oplog rolled over while it was away", rolled_over, {}),
                 ("the same, with a document that changes all the time", rolled_over_and_hot, {}),
                 ("errors of the stream", survives, {"make": stream_errors}),
                 ("errors of reads", survives, {"make": read_errors}),
                 ("an event over 16 MB", large_event, {}),
                 ("an idle token ahead of undelivered events", idle_token_ahead, {}),
                 ("an unknown event", unknown_event, {}),
                 ("killed, with KeyString tokens", killed_with_keystrings, {})]
        only = scenario.arguments.only or ""
        for name, case, options in cases:
            if only not in name:
                continue
            with scenario.case(name):
                case(scenario, destination, **options)
            for job in scenario.jobs:
                job.close()


if __name__ == "__main__":
    main()
