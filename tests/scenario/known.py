#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""known.py: failures that tools of this field are known for, each as a case of its own.

A job is held in its copy by a proxy that answers reads of the source slowly, so that what a case does
"during the copy" happens then. Two more of these failures need a server that can be told to misbehave:
the idle token that overtakes an event, and the lag that shows 0 while the stream stalls
(tests/fault/answers.py).
"""
import pathlib
import signal
import sys
import threading
import time
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True

from bson import Binary, DBRef, Decimal128, Int64, ObjectId
from pymongo import InsertOne, ReplaceOne, UpdateOne

from job import ApiError, stamp
from proxy import behind
from scenario import Scenario, scaled, wait_until

PAD = "x" * 400


class Slow:
    """The pair with a source whose reads of data can be held back."""

    def __init__(self, pair):
        self.pair, self.source = pair, behind(pair.source)

    def uris(self):
        return self.source.uri, self.pair.destination.uri

    def hold(self, collection, seconds=0.5, times=None):
        """Each batch of this collection takes so long from now on."""
        def reads(request):
            return request.database == "data" and request.collection == collection
        self.source.script.on("find", when=reads, times=times).delay(seconds)
        self.source.script.on("getMore", when=reads, times=times).delay(seconds)

    def wait_read(self):
        wait_until("a read of the source", lambda: self.source.script.acted() > 0)

    def release(self):
        self.source.script.clear()


def move(scenario, pair, job=None):
    """To the end, and equal."""
    job = job or scenario.job(pair)
    job.wait_in_sync()
    job.finish()
    scenario.expect_equal(pair)
    return job


def in_parts(collection, documents, size=20000):
    for first in range(0, len(documents), size):
        collection.insert_many(documents[first:first + size], ordered=False)


# _ids ------------------------------------------------------------------------------------------------

def mixed_ids(scenario, pair, slow):
    """Types side by side, and ranges whose bounds fall between and into them."""
    documents = []
    for number in range(scaled(1500, 100)):
        documents += [{"_id": key, "pad": PAD} for key in (
            number, "s%d" % number, number + 0.5, Int64(1 << 40 | number), {"k": number},
            Binary(b"%016d" % number, 4), ObjectId("%024x" % number),
            Decimal128("%d.25" % number))]
    in_parts(pair.source.client["data"]["mixed"], documents)
    move(scenario, pair)


def nan_id(scenario, pair, slow):
    data = pair.source.client["data"]["nan"]
    data.insert_one({"_id": float("nan"), "a": 1, "b": {"c": [1, 2]}})
    data.insert_many([{"_id": float(n), "a": n} for n in range(100)])
    job = scenario.job(pair)
    job.wait_in_sync()
    data.update_one({"_id": float("nan")}, {"$set": {"b.c.1": 5, "late": PAD}})
    job.wait_caught_up(pair.source.client)
    move(scenario, pair, job)


def ids_in_parallel(scenario, pair, slow):
    """int64, UUID, document: each collection is cut into ranges, whatever its _ids are."""
    kinds = {"int64": lambda n: Int64(n << 33), "uuid": lambda n: Binary(uuid.uuid4().bytes, 4),
             "document": lambda n: {"tenant": n % 7, "n": n}, "string": str}
    for name, make in kinds.items():
        in_parts(pair.source.client["data"][name],
                 [{"_id": make(n), "pad": PAD * 3} for n in range(5000)])
    job = scenario.job(pair)
    progress = job.wait_in_sync()
    ranges = progress["collectionCopy"]["rangesTotal"]
    scenario.expect(ranges >= 5 * len(kinds), "only %d ranges of %d collections of 6 MB" % (
        ranges, len(kinds)))
    move(scenario, pair, job)


# Order -----------------------------------------------------------------------------------------------

def key_change_overtaken(scenario, pair, slow):
    """What a change of the shard key is in a stream: a delete, an insert of the same _id, an update
    right behind it."""
    data = pair.source.client["data"]["keyed"]
    data.insert_many([{"_id": n, "key": 0, "n": 0} for n in range(200)])
    job = scenario.job(pair)
    job.wait_in_sync()
    for turn in range(5):
        for number in range(0, 200, 3):
            data.delete_one({"_id": number})
            data.insert_one({"key": turn, "_id": number, "n": 0})
            data.update_one({"_id": number}, {"$inc": {"n": turn}, "$set": {"t%d" % turn: 1}})
    job.wait_caught_up(pair.source.client)
    move(scenario, pair, job)


def unique_swap(scenario, pair, slow):
    data = pair.source.client["data"]["swap"]
    data.insert_many([{"_id": n, "u": n} for n in range(100)])
    data.create_index("u", unique=True)
    job = scenario.job(pair)
    job.wait_in_sync()
    for number in range(0, 100, 2):
        data.update_one({"_id": number}, {"$set": {"u": -1}})
        data.update_one({"_id": number + 1}, {"$set": {"u": number}})
        data.update_one({"_id": number}, {"$set": {"u": number + 1}})
    job.wait_caught_up(pair.source.client)
    move(scenario, pair, job)


def write_in_flight(scenario, pair, slow):
    """A transaction that began before the stream was opened and commits behind it."""
    client = pair.source.client
    data = client["data"]["flight"]
    data.insert_many([{"_id": n, "n": 0} for n in range(100)])
    jobs = []
    with client.start_session() as session:
        session.start_transaction()
        data.update_one({"_id": 1}, {"$set": {"flight": 1}}, session=session)
        data.insert_one({"_id": "flight"}, session=session)
        data.delete_one({"_id": 2}, session=session)
        jobs.append(scenario.job(pair))
        jobs[0].wait_phase("copying", "catching-up", "in-sync")
        data.update_one({"_id": 3}, {"$set": {"beside": 1}})
        session.commit_transaction()
    jobs[0].wait_caught_up(client)
    move(scenario, pair, jobs[0])


def floor_waits(scenario, pair, slow):
    """While an event cannot be applied, neither idle tokens nor later events move the floor."""
    client = pair.source.client
    client["data"]["floor"].insert_many([{"_id": n} for n in range(10)])
    job = scenario.job(pair)
    job.wait_in_sync()
    job.wait_caught_up(client)
    pair.destination.kill(signal.SIGSTOP)
    try:
        with client.start_session() as session:
            client["data"]["floor"].insert_one({"_id": "stuck"}, session=session)
            time_ = (session.operation_time.time, session.operation_time.inc)
        job.wait_for("idle tokens behind the event", lambda now:
                     now["positions"]["read"]["t"] >= time_[0] + 2)
        floor = stamp(job.now()["positions"]["floor"])
        scenario.expect(floor < time_, "the floor is at %s, the event at %s" % (floor, time_))
        scenario.expect(job.now()["lagMs"] > 500, "the lag shows %s" % job.now()["lagMs"])
    finally:
        pair.destination.kill(signal.SIGCONT)
    job.wait_caught_up(client)
    move(scenario, pair, job)


# Catalog ---------------------------------------------------------------------------------------------

def rename_across(scenario, pair, slow):
    """Renamed into the filter, out of it, and over a collection within it."""
    client = pair.source.client
    for name in ("inside.a", "inside.b", "outside.c", "outside.d"):
        database, collection = name.split(".")
        client[database][collection].insert_many([{"_id": n, "from": name} for n in range(50)])
    job = scenario.job(pair, include="inside")
    job.wait_in_sync()
    client.admin.command("renameCollection", "outside.c", to="inside.c")
    client.admin.command("renameCollection", "inside.a", to="outside.a")
    client.admin.command("renameCollection", "outside.d", to="inside.b", dropTarget=True)
    client["inside"]["c"].insert_one({"_id": "after"})
    client["inside"]["b"].update_one({"_id": 1}, {"$set": {"after": 1}})
    job.wait_caught_up(client)
    job.wait_in_sync()
    job.finish()
    found = [item for item in scenario.differences(pair) if item.namespace.startswith("inside")]
    scenario.expect(not found, lambda: "%s" % (found[0],))
    scenario.expect("outside" not in pair.destination.client.list_database_names(),
                    "the filter leaks")


def created_again(scenario, pair, slow):
    """Dropped and created with other options while its ranges are read."""
    data = pair.source.client["data"]
    in_parts(data["again"], [{"_id": n, "old": PAD * 2} for n in range(4000)])
    slow.hold("again", 0.3)
    job = scenario.job(slow)
    slow.wait_read()
    data.drop_collection("again")
    data.create_collection("again", validator={"n": {"$exists": True}})
    data["again"].insert_many([{"_id": n, "n": n} for n in range(500)])
    data["again"].create_index("n")
    slow.release()
    job.wait_caught_up(pair.source.client)
    move(scenario, pair, job)


def modified_while_copied(scenario, pair, slow):
    """collMod in the midst of a copy. A unique index that came with it would refuse what the rest of the
    collection holds: the values are where they were when each range was read."""
    data = pair.source.client["data"]
    in_parts(data["modified"], [{"_id": n, "u": n, "pad": PAD} for n in range(6000)])
    data["modified"].create_index("u", unique=True)
    slow.source.script.on("find", when=lambda request: request.collection == "modified", after=1,
                          times=None).delay(3)
    job = scenario.job(slow, workers=1)
    slow.wait_read()
    data.command("collMod", "modified", validator={"u": {"$exists": True}})
    wait_until("the event", lambda: "modify data.modified" in job.tail(400))
    data["modified"].update_one({"_id": 0}, {"$set": {"u": -1}})
    data["modified"].update_one({"_id": 5999}, {"$set": {"u": 0}})
    slow.release()
    job.wait_caught_up(pair.source.client)
    move(scenario, pair, job)


def index_dropped(scenario, pair, slow):
    data = pair.source.client["data"]
    in_parts(data["indexed"], [{"_id": n, "a": n, "b": -n, "pad": PAD} for n in range(4000)])
    for name in "ab":
        data["indexed"].create_index(name, name="by_" + name)
    slow.hold("indexed", 0.3)
    job = scenario.job(slow)
    slow.wait_read()
    data["indexed"].drop_index("by_a")
    data["indexed"].create_index([("b", 1), ("a", 1)], name="both")
    slow.release()
    job.wait_caught_up(pair.source.client)
    move(scenario, pair, job)


def long_index_build(scenario, pair, slow):
    """An index on a large collection while it is written to: the replay goes on beside the build."""
    client = pair.source.client
    data = client["data"]["built"]
    in_parts(data, [{"_id": n, "a": n % 1000, "t": "w%d" % n, "n": 0}
                    for n in range(scaled(60000, 5000))])
    job = scenario.job(pair, name="built")
    job.wait_in_sync()
    data.create_index([("a", 1), ("t", 1)])
    data.create_index("t", unique=True)
    for number in range(300):
        data.update_one({"_id": number}, {"$inc": {"n": 1}})
    job.wait_caught_up(client)
    move(scenario, pair, job)


def many_indexes(scenario, pair, slow):
    data = pair.source.client["data"]["wide"]
    for number in range(50):
        data.create_index([("f%d" % number, 1), ("g%d" % (number % 5), -1)],
                          unique=number % 10 == 0, sparse=number % 10 == 0)
    data.insert_many([{"_id": n, "f%d" % (n % 50): n, "g%d" % (n % 5): n} for n in range(1000)])
    job = scenario.job(pair)
    job.wait_in_sync()
    for number in range(200):
        data.update_one({"_id": number}, {"$set": {"f%d" % ((number + 1) % 50): 10000 + number}})
    job.wait_caught_up(pair.source.client)
    move(scenario, pair, job)


# Load ------------------------------------------------------------------------------------------------

def hot_document(scenario, pair, slow):
    """One document, a thousand updates a second: the lag stays small and the result exact."""
    data = pair.source.client["data"]["hot"]
    data.insert_one({"_id": "hot", "n": 0, "list": []})
    job = scenario.job(pair)
    job.wait_in_sync()
    began, lags = time.monotonic(), []
    for second in range(3):
        data.bulk_write([UpdateOne({"_id": "hot"}, {"$inc": {"n": 1}, "$set": {"at.%d" % (n % 9): n},
                                                    "$push": {"list": {"$each": [n],
                                                                       "$slice": -20}}})
                         for n in range(1000)], ordered=True)
        lags.append(job.now()["lagMs"])
        time.sleep(max(0, began + second + 1 - time.monotonic()))  # the rate is the test
    job.wait_caught_up(pair.source.client)
    scenario.expect(max(lags) < 5000, "lags were %s ms" % lags)
    move(scenario, pair, job)


def mass_delete(scenario, pair, slow):
    """Everything of a large collection goes at once, while another is written to."""
    client = pair.source.client
    count = scaled(100000, 5000)
    in_parts(client["data"]["mass"], [{"_id": n, "n": n} for n in range(count)])
    client["data"]["beside"].insert_many([{"_id": n} for n in range(100)])
    job = scenario.job(pair)
    job.wait_in_sync()
    deleted = threading.Thread(target=client["data"]["mass"].delete_many, args=({},))
    deleted.start()
    for number in range(100):
        client["data"]["beside"].replace_one({"_id": number}, {"n": number})
    deleted.join()
    job.wait_caught_up(client)
    move(scenario, pair, job)


def capped_overflow(scenario, pair, slow):
    """A capped collection loses its first documents while they are read; the order is kept."""
    data = pair.source.client["data"]
    data.create_collection("ring", capped=True, size=2000000, max=2000)
    data["ring"].insert_many([{"n": n, "pad": PAD} for n in range(2000)])
    slow.hold("ring", 0.4)
    job = scenario.job(slow)
    slow.wait_read()
    for first in range(2000, 5000, 500):
        data["ring"].insert_many([{"n": n, "pad": PAD} for n in range(first, first + 500)])
    slow.release()
    job.wait_in_sync()
    data["ring"].insert_many([{"n": n, "pad": PAD} for n in range(5000, 5300)])
    job.wait_caught_up(pair.source.client)
    job.wait_in_sync()
    job.finish()
    scenario.expect_equal(pair, capped_order=True)


def refusal(job):
    """Why a cutover is refused; "" when it is not."""
    try:
        job.api("POST", "commit")
        return ""
    except ApiError as error:
        return error.description


def reference_ids(scenario, pair, slow):
    """Queries by an _id whose first field begins with a dollar, which is a DBRef's."""
    collection = pair.source.client["data"]["references"]
    collection.insert_many([{"_id": DBRef("c", number), "n": 0} for number in range(100)])
    job = scenario.job(pair, verify_repair="yes")
    job.wait_in_sync()
    for turn in range(4):
        for number in range(turn, 100, 3):
            query = {"_id": {"$eq": DBRef("c", number)}}
            collection.update_one(query, {"$inc": {"n": 1}})
            collection.delete_one({"_id": {"$eq": DBRef("c", number + turn)}})
            collection.insert_one({"_id": DBRef("d", number + 100 * turn)})
        job.wait_caught_up(pair.source.client)
    pair.destination.client["data"]["references"].delete_one({"_id": {"$eq": DBRef("d", 0)}})
    move(scenario, pair, job)  # its verification repairs that


def twin_ids(scenario, pair, slow):
    """Two _ids that some servers take for one: each goes before the other comes, and their keys are
    different lanes' work."""
    collection = pair.source.client["data"]["twins"]
    twins = [[Binary(b"%016d" % number, kind) for kind in (3, 4)] for number in range(200)]
    collection.insert_many([{"_id": twin[0]} for twin in twins])
    job = scenario.job(pair)
    job.wait_in_sync()
    for turn in range(6):
        for twin in twins:
            collection.delete_one({"_id": twin[turn % 2]})
            collection.insert_one({"_id": twin[1 - turn % 2], "turn": turn})
    job.wait_caught_up(pair.source.client)
    move(scenario, pair, job)


def cutover_while_behind(scenario, pair, slow):
    client = pair.source.client
    client["data"]["behind"].insert_many([{"_id": n, "n": 0} for n in range(1000)])
    slow.hold("behind", 1.0)
    job = scenario.job(slow)
    slow.wait_read()
    refusals = [refusal(job)]
    slow.release()
    job.wait_in_sync()
    job.pause()
    refusals.append(refusal(job))
    scenario.expect(all("refused" in text for text in refusals), "it said %s" % refusals)
    job.resume()
    client["data"]["behind"].bulk_write([ReplaceOne({"_id": n}, {"n": 1}) for n in range(100)] +
                                        [InsertOne({"_id": "late"})])
    job.wait_caught_up(client)
    move(scenario, pair, job)


CASES = [
    ("mixed-type _ids skipped by range queries", mixed_ids),
    ("a NaN _id's document losing its fields", nan_id),
    ("int64, UUID and document _ids all on one worker", ids_in_parallel),
    ("an update after a shard-key-like change overtaking it", key_change_overtaken),
    ("unique values swapped between two documents", unique_swap),
    ("the write in flight when the stream opens", write_in_flight),
    ("an idle token overtaking an unapplied event", floor_waits),
    ("a rename across the filter's boundary", rename_across),
    ("a collection dropped and created again during its copy", created_again),
    ("a collection modified during its copy", modified_while_copied),
    ("an index dropped during the copy", index_dropped),
    ("createIndexes that takes long while writes go on", long_index_build),
    ("50 indexes on one collection", many_indexes),
    ("a hot document updated 1,000 times a second", hot_document),
    ("a delete of very many documents", mass_delete),
    ("a capped collection that overflows during the copy", capped_overflow),
    ("_ids that are DBRefs", reference_ids),
    ("two _ids that a server takes for one", twin_ids),
    ("cutover asked while behind", cutover_while_behind),
]


def main():
    with Scenario(__doc__) as scenario:
        pair = scenario.pair()
        for name, case in CASES:
            if scenario.arguments.only not in name:
                continue
            scenario.fresh(pair)
            slow = Slow(pair)
            with scenario.case(name):
                case(scenario, pair, slow)
            slow.release()
            for job in scenario.jobs:
                job.close()
            slow.source.close()


if __name__ == "__main__":
    main()
