#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""recorded.py: the doubles of tests/lib answer as real 4.4.6 servers were recorded to answer.

Each line that a double claims to know (CLAIMS in fake.py and strict.py) is sent to it, and the reply compared
with the recorded one (lib/recorded.py). A claim that no line here sends is a failure, too.
"""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True

from bson import Timestamp
from bson.son import SON

import fake
import strict
from recorded import Replay, claimed
from scenario import Scenario


def later(time_, more=1):
    return Timestamp(time_.time, time_.inc + more)


def finish(scenario, replay, claims):
    missed = claimed(claims) - replay.sent
    replay.found += ["%s claims %s:%d, which is not sent" % (replay.name, *claim) for claim in sorted(missed)]
    for text in replay.found:
        sys.stderr.write(text + "\n")
    scenario.expect(not replay.found, lambda: "%d differences, first: %s" % (len(replay.found),
                                                                             replay.found[0]))
    replay.connection.close()


# A mongod ---------------------------------------------------------------------------------------------

def handshake(replay):
    replay.line("handshake", 1, partial=("compression",))
    replay.line("handshake", 4, partial=("*",))
    replay.lines("handshake", 13, 15, 16, 17)
    replay.line("handshake", 65, partial=("databases",))
    replay.lines("handshake", 66, 101)


def writes(replay, double):
    """Retryable, duplicate, and into a full capped collection."""
    replay.lines("refusals", 307, 308, 309, 310)
    replay.line("refusals", 313)
    replay.expect(sorted(found["_id"] for found in double.documents("r.rw")) == [1, 2, 3],
                  "other documents under a used number were written")
    double.insert("r.dk", {"_id": 1})
    replay.line("refusals", 262)
    double.create("cap.a", capped=True, size=4096, max=5)
    double.insert("cap.a", *[{"_id": number} for number in range(8, 13)])
    held = len(double.documents("cap.a"))
    replay.line("capped", 12, change=lambda request: request.update(documents=[{"_id": 10}]))
    replay.expect(len(double.documents("cap.a")) == held - 1, "a refused insert pushes out the oldest")


def reads(replay, double):
    replay.lines("refusals", 174, 176, 195)
    double.insert("r.c", {"_id": 2, "a.b": 1})
    now = double.now()
    concern = {"level": "majority", "afterClusterTime": now}
    replay.line("refusals", 367, readConcern=concern)
    ahead = {"level": "majority", "afterClusterTime": later(now, 1000)}
    replay.line("refusals", 368, readConcern=ahead)
    replay.line("refusals", 369, readConcern=ahead)


def streams(replay, double):
    opened = replay.line("streams", 0)
    cursor = opened["cursor"]["id"]
    replay.expect(replay.token_time() > opened["operationTime"], "the first token is later than operationTime")
    replay.line("streams", 1, getMore=cursor)
    replay.lines("streams", 3, 5)
    double.insert("s.res", {"_id": 0})
    replay.connection.send(SON([("getMore", cursor), ("collection", "$cmd.aggregate"), ("$db", "admin")]))
    events = []
    for number in range(1, 4):
        double.insert("s.res", {"_id": number})
        events.append(double.oplog[-1])
    replay.line("streams", 171, pipeline=stream(events[0].token))
    replay.line("streams", 172, getMore=replay.last["cursor"]["id"])
    replay.expect(replay.token_time() == events[-1].time, "the token is the last event's own")
    future = dict(events[-1].token, _data=events[-1].token["_data"].replace(
        "%08X" % events[-1].time.inc, "%08X" % (events[-1].time.inc + 1000), 1))
    replay.line("streams", 193, pipeline=stream(future))
    replay.line("streams", 194, getMore=replay.last["cursor"]["id"])
    before = dict(events[0].token, _data=events[0].token["_data"].replace(
        "%08X" % events[0].time.inc, "%08X" % 0, 1))
    replay.line("streams", 195, pipeline=stream(before))
    replay.line("streams", 196, getMore=replay.last["cursor"]["id"])
    by_hand = {"_data": "82%08X%08X2B0229296E04" % (events[0].time.time, events[0].time.inc)}
    replay.line("streams", 198, pipeline=stream(by_hand))
    replay.line("streams", 199, getMore=replay.last["cursor"]["id"])
    replay.lines("streams", 186, 188, 189, 190, 191, 197, 180, 213)
    return cursor


def stream(token):
    return [{"$changeStream": {"allChangesForCluster": True, "resumeAfter": token}}]


def lost(replay, double):
    fresh = replay.connection.send(SON([("aggregate", 1), ("pipeline", [
        {"$changeStream": {"allChangesForCluster": True}}]), ("cursor", {"batchSize": 0}), ("$db", "admin")]))
    read = replay.connection.send(SON([("aggregate", 1), ("pipeline", [
        {"$changeStream": {"allChangesForCluster": True}}]), ("cursor", {"batchSize": 0}), ("$db", "admin")]))
    replay.connection.send(SON([("getMore", read["cursor"]["id"]), ("collection", "$cmd.aggregate"),
                                ("maxTimeMS", 10), ("$db", "admin")]))
    double.insert("s.res", {"_id": "gone"})
    gone = double.oplog[-1].token
    double.forget_history()
    double.lose_oplog()
    replay.line("streams", 255, getMore=fresh["cursor"]["id"])
    replay.line("streams", 256, getMore=read["cursor"]["id"])
    replay.line("streams", 257, pipeline=stream(gone))
    replay.line("streams", 258, getMore=replay.last["cursor"]["id"])
    replay.line("streams", 259, pipeline=stream(gone))
    mark = {"_data": gone["_data"][:18] + "2B0229296E04"}
    replay.line("streams", 260, pipeline=stream(mark))
    replay.line("streams", 261, getMore=replay.last["cursor"]["id"])


def fake_mongod(scenario):
    double = fake.Fake(version="4.4.6")
    replay = Replay("the fake mongod", double.port)
    for scene in (writes, reads, streams, lost):
        scene(replay, double)
    handshake(replay)
    scenario.expect(not double.gaps, "the fake lacks: %s" % double.gaps)
    finish(scenario, replay, fake.CLAIMS)


# A mongos ---------------------------------------------------------------------------------------------

def fake_mongos(scenario):
    double = fake.Fake(sharded=True, version="4.4.6")
    replay = Replay("the fake mongos", double.port)
    replay.line("handshake", 108)
    replay.lines("handshake", 113, 114, 115, 117, 118, 124, 128, 145)
    double.shard_collection("k.c", "x")
    double.insert("k.c", {"_id": 5, "x": 5})
    replay.line("handshake", 140, partial=("databases",))
    for _ in range(3):  # a no-op written directly on a shard
        double.shards[1].next()
    known = double.known
    replay.line("cluster", 1)
    replay.expect(replay.last["operationTime"] == known, "ping has the mongos's own knowledge")
    replay.line("cluster", 2)
    replay.line("cluster", 3)
    replay.expect(replay.last["operationTime"] < known, "find on admin has the config server's time")
    replay.line("cluster", 8, partial=("databases",))
    replay.expect(replay.last["operationTime"] == double.shards[1].now, "listDatabases learns every shard's")
    double.shards[1].next()
    replay.line("cluster", 10)
    replay.expect(replay.last["operationTime"] == double.shards[1].now, "a broadcast find learns every shard's")
    after = {"level": "majority", "afterClusterTime": double.now()}
    replay.line("cluster", 23, filter={"_id": 5}, readConcern=after)
    replay.expect(double.shards[0].now >= after["afterClusterTime"], "the idle shard was not pushed")
    replay.line("cluster", 26, readConcern={"level": "majority", "afterClusterTime": later(double.now(), 99)})
    replay.line("cluster", 27, readConcern={"level": "majority", "afterClusterTime": double.now()})
    replay.line("cluster", 28)
    waits(replay, double)
    cluster_events(replay, double)
    replay.line("cluster", 152, change=lambda request: request.update(
        documents=[{"_id": 910}, {"_id": 5}, {"_id": 911}], insert="c"))
    scenario.expect(not double.gaps, "the fake lacks: %s" % double.gaps)
    finish(scenario, replay, fake.CLUSTER_CLAIMS)


def more(replay, cursor):
    return replay.connection.send(SON([("getMore", cursor), ("collection", "$cmd.aggregate"),
                                       ("maxTimeMS", 50), ("$db", "admin")]))


def waits(replay, double):
    """Nothing comes before the slowest shard has come as far."""
    opened = replay.line("cluster", 30)
    cursor = opened["cursor"]["id"]
    replay.expect(replay.token_time() > opened["operationTime"], "the first token is later than operationTime")
    replay.line("cluster", 31, getMore=cursor)
    double.tick(1)
    more(replay, cursor)
    at = double.insert("k.c", {"_id": 100, "x": -50}, shard=0)
    reply = more(replay, cursor)
    replay.expect(not reply["cursor"]["nextBatch"], "an event came before the other shard had said anything")
    replay.expect(replay.token_time(reply) < at and reply["operationTime"] >= at,
                  "an empty reply has an old high-water mark")
    double.tick(1)  # both have come further than the event
    replay.line("cluster", 35, getMore=cursor)
    replay.cursor = cursor


def cluster_events(replay, double):
    cursor = replay.cursor
    double.insert("p.u", {"_id": 1})
    double.insert("p.v", {"_id": 1})
    double.tick(1)
    more(replay, cursor)
    double.move_primary("p", 1)
    double.tick(1)
    replay.line("cluster", 60, getMore=cursor)
    replay.expect("p.u" in double.collections, "the collections live on")
    double.tick(1)
    more(replay, cursor)
    double.drop("k.c")
    double.tick(1)
    events = more(replay, cursor)["cursor"]["nextBatch"]
    replay.expect([event["operationType"] for event in events] == ["drop", "drop"],
                  "one drop event of each shard")
    double.create("k.c")
    double.insert("k.c", {"_id": 5})


# The test server behind strict.py -----------------------------------------------------------------------

def plant(client):
    """What the recorded requests name; the recording program had made it before."""
    client.r.c.insert_one({"_id": 1})
    client.dd.c.insert_one({"_id": 1})
    client.r.create_collection("cap", capped=True, size=4096, max=5)
    client.r.cap.insert_many([SON([("_id", number), ("s", "abc")]) for number in range(1, 6)])
    client.r.create_collection("view", viewOn="c", pipeline=[])
    client.r.create_collection("colld", collation={"locale": "fr"})
    client.r.dk.insert_one({"_id": 1})
    client.r["system.js"].insert_one({"_id": "f", "value": 1})


def strict_server(scenario):
    double = strict.behind(scenario.server(), "4.4.6")
    plant(double.client)
    replay = Replay("the strict server", double.port)
    for name, lines in strict.CLAIMS.items():
        for line in lines:
            replay.line(name, line, partial=strict.PARTIAL.get((name, line), ()))
    held = double.client.r.cap.count_documents({})
    double.client.r.command({"insert": "cap", "documents": [{"_id": 5, "s": "abc"}]}, check=False)
    replay.expect(double.client.r.cap.count_documents({}) == held - 1, "a refused insert pushes out the oldest")
    now = double.client.admin.command("ping")["operationTime"]
    refused = double.client.r.command("find", "c", check=False, readConcern={
        "level": "majority", "afterClusterTime": Timestamp(now.time + 100, 1)})
    replay.expect(refused.get("code") == 72, "afterClusterTime of the future is refused: %s" % refused)
    scenario.expect(not double.gaps, "strict.py failed: %s" % double.gaps)
    finish(scenario, replay, strict.CLAIMS)


def strict_mongos(scenario):
    double = strict.behind(scenario.server(), "4.4.6", mongos=True)
    double.client.kinds.create_collection("plain")
    double.client.k.o.insert_one({"_id": 0})
    replay = Replay("the strict mongos", double.port)
    for name, lines in strict.MONGOS_CLAIMS.items():
        for line in lines:
            replay.line(name, line, partial=strict.PARTIAL.get((name, line), ()))
    scenario.expect(not double.gaps, "strict.py failed: %s" % double.gaps)
    finish(scenario, replay, strict.MONGOS_CLAIMS)


def main():
    with Scenario(__doc__) as scenario:
        for name, case in (("the fake mongod", fake_mongod), ("the fake mongos", fake_mongos),
                           ("the strict server", strict_server), ("the strict mongos", strict_mongos)):
            with scenario.case(name):
                case(scenario)


if __name__ == "__main__":
    main()
