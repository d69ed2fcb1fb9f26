#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""positions.py: what the stream and the positions must be right about on real servers, beside answers.py: a source
that looks through its oplog for long, streams that break at the wrong moment, answers that are lost, rights that
are missing, collections that no stream tells of.
"""
import json
import os
import pathlib
import signal
import sys
import threading
import time

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / "lib"),
                str(pathlib.Path(__file__).resolve().parent)]
sys.dont_write_bytecode = True

import uuid

import bson
from bson.son import SON

from answers import Sides, caught_up, change
from fake import Fake
from faults import faults
from job import EXIT, towline
from proxy import behind
from scenario import Scenario, wait_until
from wire import Closed, is_barrier, reply_body

SECRET = "hunter2"


class Through(Sides):
    """The destination is behind a proxy that does as real servers do; options of the source's URI."""

    def __init__(self, scenario, destination, uri_options="", **options):
        super().__init__(scenario, destination, **options)
        self.uri_options, self.proxy = uri_options, behind(destination)
        self.proxy.script.on("drop", when=lambda request: request.collection.startswith("system."),
                             times=None).error(20, "IllegalOperation", "can't drop system collection")

    def uris(self):
        return self.source.uri + self.uri_options, self.proxy.uri


def end(scenario, sides, job):
    job.finish()
    found = sides.differences()
    scenario.expect(not found, lambda: "; ".join(found))
    scenario.expect(not sides.source.gaps, lambda: "the fake lacks: %s" % sides.source.gaps[:3])


def logged(job, name):
    with job.changed:
        return [line for line in job.log if name in line]


# The stream -------------------------------------------------------------------------------------------------

def unsealed(scenario, destination):
    """The stream breaks while a block of keys is being filled, and is opened again in direct mode: those keys come
    before what the new stream gives. The engine itself aborts where they do not."""
    sides = Sides(scenario, destination)
    fake, copied, state = sides.source, threading.Event(), {}

    def stream(request, serve):
        if state.get("sent") and not state.get("broken"):
            state["broken"] = True
            copied.set()
            time.sleep(1.5)  # by then the job wishes direct mode
            faults.injected("stream broken behind unsealed keys")
            raise Closed("scripted")
        answer = serve(request)
        if state.get("wrote") and reply_body(answer)["cursor"].get("nextBatch"):
            state["sent"] = True
        return answer

    def hold(request, serve):
        copied.wait(30)
        return serve(request)

    fake.script.on("find", when=lambda request: request.database == "shop", times=None).act(hold)
    fake.script.on("getMore", when=fake.is_stream, times=None).act(stream)
    job = scenario.job(sides)
    job.wait_phase("copying")
    state["wrote"] = True
    change(fake, 1)
    wait_until("the stream to break", lambda: state.get("broken"), 30)
    job.wait_for("direct mode", lambda progress: progress["mode"] == "direct")
    change(fake, 2)
    fake.tick(1)
    caught_up(job, fake)
    end(scenario, sides, job)


def long_look(scenario, destination):
    """A mongod answers a getMore only when it has looked through all of its oplog, which may take longer than the
    URI's socketTimeoutMS."""
    sides = Through(scenario, destination, "&socketTimeoutMS=1500")
    fake, job = sides.source, scenario.job(sides)
    job.wait_in_sync()
    job.wait_for("direct mode", lambda progress: progress["mode"] == "direct")
    opened = len(fake.opened)
    fake.script.on("getMore", when=fake.is_stream).delay(4, "a look through a long oplog")
    wait_until("the long look", lambda: fake.script.acted() > 0)
    change(fake, 1)
    fake.tick(1)
    caught_up(job, fake)
    scenario.expect(len(fake.opened) == opened, "the stream was opened again")
    end(scenario, sides, job)


def stopped_while_looking(scenario, destination):
    """A stop need not wait for such an answer, and stores its checkpoint."""
    sides = Through(scenario, destination)
    fake, job = sides.source, scenario.job(sides)
    job.wait_in_sync()
    fake.script.on("getMore", when=fake.is_stream).delay(20, "a look through a long oplog")
    wait_until("the long look", lambda: fake.script.acted() > 0)
    began = time.monotonic()
    job.signal(signal.SIGTERM)
    status = job.wait(15)
    took = time.monotonic() - began
    scenario.expect(status == EXIT["interrupted"] and took < 4, "exit %s after %.1f s" % (status, took))
    scenario.expect("without a last checkpoint" not in job.tail(50), job.tail(50))
    change(fake, 1)
    job.start()
    job.wait_in_sync()
    end(scenario, sides, job)


def of_nothing(scenario, destination):
    """An event without a namespace (endOfTransaction) is no DDL and no unknown one."""
    sides = Sides(scenario, destination)
    fake, job = sides.source, scenario.job(sides)
    job.wait_in_sync()
    with fake.changed:
        fake.unknown_event("shop.a", "endOfTransaction")
        del fake.oplog[-1].event["ns"]
    change(fake, 1)
    fake.tick(1)
    caught_up(job, fake)
    scenario.expect("endOfTransaction" not in job.tail(400), "it was taken for one")
    end(scenario, sides, job)


def watch_lost(scenario, destination):
    """The position of the watch on the destination is gone, which a mongod finds out by a getMore: everything is
    compared again, and the watch goes on from now."""
    sides = Through(scenario, destination)
    job = scenario.job(sides, verify_rate=100)
    job.wait_in_sync()
    job.wait_for("all is compared", lambda now: now["positions"]["verified"])
    sides.proxy.script.on("getMore", when=Fake.is_stream).error(286, "ChangeStreamHistoryLost")
    wait_until("the reset", lambda: logged(job, "verify_reset"), 20)
    change(sides.source, 1)
    sides.source.tick(1)
    caught_up(job, sides.source)
    end(scenario, sides, job)


def told_with_its_time(scenario, destination):
    """A server refuses an afterClusterTime that it has not heard of. One client of the engine hears of an event's
    time, and another one reads after it: the newest $clusterTime goes with the read."""
    sides, bare = Sides(scenario, destination), []
    fake, job = sides.source, scenario.job(sides)
    job.wait_in_sync()

    def look(request):
        after = request.body.get("readConcern", {}).get("afterClusterTime")
        if after and request.body.get("$clusterTime", {}).get("clusterTime", after) < after:
            bare.append(after)
        return False

    fake.script.on("find", when=look).close()
    for number in range(300):
        fake.update("shop.a", number % 300, mark=number)
        time.sleep(0.005)  # the writer's pace
    fake.tick(1)
    caught_up(job, fake)
    end(scenario, sides, job)
    scenario.expect(not bare, "%d reads without" % len(bare))


# The catalog ------------------------------------------------------------------------------------------------

def put_functions(fake, ns, *names):
    """No stream tells of it."""
    with fake.changed:
        fake.collections.setdefault(ns, {"options": SON(), "uuid": uuid.uuid4(), "documents": []})
        fake.collections[ns]["documents"] = [bson.encode({"_id": name, "value": name}) for name in names]


def functions(scenario, destination):
    """system.js is written to while in sync: it is read again at the end, without any comparison."""
    sides = Through(scenario, destination)
    fake = sides.source
    put_functions(fake, "shop.system.js", "f", "g")
    job = scenario.job(sides, no_verify=True)
    job.wait_in_sync()
    put_functions(fake, "shop.system.js", "g", "h")
    end(scenario, sides, job)


def functions_dropped(scenario, destination):
    """dropDatabase takes system.js along, which servers do not drop by its name."""
    sides = Through(scenario, destination)
    fake = sides.source
    put_functions(fake, "gone.system.js", "f")
    fake.insert("gone.c", {"_id": 1})
    job = scenario.job(sides, no_verify=True)
    job.wait_in_sync()
    with fake.changed:
        fake._put("gone.c", "drop")
        fake._put("gone.c", "dropDatabase")
        del fake.collections["gone.c"], fake.collections["gone.system.js"]
    fake.tick(1)
    caught_up(job, fake)
    end(scenario, sides, job)
    left = destination.client["gone"].list_collection_names()
    scenario.expect(not left, "the destination still has %s" % left)


def rename_lost(scenario, destination):
    """The answer of a rename is lost, and its repetition says that there is no such collection: it was done."""
    sides = Through(scenario, destination)
    fake, job = sides.source, scenario.job(sides, no_verify=True)
    job.wait_in_sync()
    sides.proxy.script.on("renameCollection").lost()
    with fake.changed:
        fake._put("shop.b", "rename", to=SON([("db", "shop"), ("coll", "c")]))
        fake.collections["shop.c"] = fake.collections.pop("shop.b")
    fake.insert("shop.c", {"_id": "after", "n": 1})
    fake.tick(1)
    caught_up(job, fake)
    scenario.expect(not logged(job, "copy_again"), "it was copied again")
    end(scenario, sides, job)


def no_sample(scenario, destination, times):
    """$sample finds too few documents (28799): less are drawn, and in the end the collection is one range."""
    sides = Sides(scenario, destination)
    fake = sides.source
    fake.insert("shop.big", *[{"_id": number, "pad": "x" * 2000} for number in range(1500)])
    fake.script.on("aggregate", when=lambda request: "$sample" in str(request.body["pipeline"]),
                   times=times).error(28799, "Location28799", "$sample stage could not find a non-duplicate "
                                                              "document after 100 while using a random cursor.")
    job = scenario.job(sides)
    job.wait_in_sync()
    scenario.expect(fake.script.acted() == (times or 3), "it was asked %d times" % fake.script.acted())
    end(scenario, sides, job)


# Rights and members ------------------------------------------------------------------------------------------

def check(*uris):
    done = towline("check", "--source", uris[0], "--destination", uris[1], "--json")
    return {finding["name"]: finding for finding in json.loads(done.stdout)["checks"]}


def no_majority(scenario, destination):
    """enableMajorityReadConcern: false is found out before the start."""
    fake = Fake(version="4.4.6")
    fake.insert("shop.a", {"_id": 1})
    fake.script.on("find", when=is_barrier, times=None).error(148, "ReadConcernMajorityNotEnabled",
                                                              "Majority read concern requested, but it is not "
                                                              "supported by the storage engine.")
    found = check(fake.uri, destination.uri)["source_reads"]
    scenario.expect(found["result"] == "failure" and "enableMajorityReadConcern" in found["advice"], str(found))


def refused_time(scenario, destination):
    """A source that will not tell its time ends the job; otherwise it would wait for ever."""
    sides = Sides(scenario, destination, sharded=True)
    fake, job = sides.source, scenario.job(sides)
    job.wait_in_sync()
    fake.script.on("listDatabases", times=None).error(13, "Unauthorized", "not authorized")
    status = job.wait(30)
    scenario.expect(status == EXIT["unreachable"] and "ask the source for its time" in job.error_line(),
                    "exit %s: %s" % (status, job.error_line()))


def one_host(scenario, destination):
    """A URI that names one member, which is a secondary: the primary is found, unless it is to be used alone."""
    one, two = Fake(), Fake()
    two.insert("shop.a", {"_id": 1})
    hosts = ["127.0.0.1:%d" % side.port for side in (one, two)]
    for side, primary in ((one, False), (two, True)):
        def hello(request, plain=side.do_hello, own=hosts[0 if side is one else 1], primary=primary):
            return SON(plain(request), setName="both", hosts=hosts, me=own, primary=hosts[1],
                       isWritablePrimary=primary, ismaster=primary, secondary=not primary)
        side.do_hello = side.do_isMaster = side.do_ismaster = hello
    alone = "mongodb://%s/" % hosts[0]
    found = check(alone, destination.uri)
    scenario.expect(found["source_member"]["result"] == "pass" and found["source_reads"]["result"] == "pass",
                    "%s" % found["source_member"])
    found = check(alone + "?directConnection=true", destination.uri)
    scenario.expect(found["source_member"]["result"] == "warning" and
                    "directConnection" in found["source_member"]["advice"], str(found["source_member"]))


def with_user(scenario, roles, plant):
    """A server with authorization whose only user has these roles; its URI."""
    storage = scenario.folder()
    server = scenario.server(storage=storage)
    server.client.admin.command("createUser", "user", pwd=SECRET, roles=roles)
    plant(server.client)
    server.stop()
    scenario.servers.remove(server)
    server = scenario.server(storage=storage, auth=True)
    return server.uri.replace("//", "//user:%s@" % SECRET) + "&authSource=admin"


def documented_roles(scenario):
    """Exactly the roles of the README on either side: check, run, restart, cutover, verify."""
    class Uris(list):
        def uris(self):
            return self

    sides = Uris([with_user(scenario, ["readAnyDatabase", "clusterMonitor"], lambda client: client["shop"][
        "orders"].insert_many([{"_id": number} for number in range(1000)])),
        with_user(scenario, ["readWriteAnyDatabase", "dbAdminAnyDatabase"], lambda client: None)])
    for name, finding in check(*sides).items():
        scenario.expect(finding["result"] != "failure", "%s: %s" % (name, finding))
    job = scenario.job(sides)
    job.wait_in_sync()
    job.kill()
    job.start()
    job.wait_in_sync()
    job.finish()
    done = towline("verify", "--source", sides[0], "--destination", sides[1], "--progress", "none")
    scenario.expect(done.returncode == 0, "exit %d: %s" % (done.returncode, done.stderr[-400:]))


def main():
    with Scenario(__doc__) as scenario:
        destination = scenario.server()
        cases = [("a stream that breaks behind unsealed keys", unsealed, {}),
                 ("a getMore longer than the socket time-out", long_look, {}),
                 ("stopped while the source looks for long", stopped_while_looking, {}),
                 ("an event without a namespace", of_nothing, {}),
                 ("a watch whose position is gone", watch_lost, {}),
                 ("a time that another client heard of", told_with_its_time, {}),
                 ("system.js is read again at the end", functions, {}),
                 ("dropDatabase with system.js", functions_dropped, {}),
                 ("a rename whose answer is lost", rename_lost, {}),
                 ("28799: drawn again", no_sample, {"times": 1}),
                 ("28799: one range", no_sample, {"times": None}),
                 ("148: no majority reads", no_majority, {}),
                 ("a source that refuses its time", refused_time, {}),
                 ("one host of a replica set", one_host, {}),
                 ("the documented roles", lambda scenario, _: documented_roles(scenario), {})]
        for name, case, options in cases:
            if (scenario.arguments.only or "") not in name:
                continue
            with scenario.case(name):
                case(scenario, destination, **options)
            for job in scenario.jobs:
                job.close()


if __name__ == "__main__":
    main()
