#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""writer.py: writes to a server in every way that an application does, at random.

As a program it fills a server and keeps writing until its time is over or SIGTERM; as a module it gives
the scenario tests the class Writer. Random choices come from the seed alone; how threads interleave
does not, so a seed repeats the load, not the exact result.

What a server may rightly refuse under load (a duplicate key, a transaction that lost a race, a
collection that another thread just dropped) is counted and passed over; everything else is raised by
stop().
"""
import argparse
import collections
import datetime
import random
import signal
import sys
import threading
import time
import uuid

from bson import (Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, SON,
                  Timestamp)
from pymongo import MongoClient
from pymongo.errors import (AutoReconnect, BulkWriteError, DuplicateKeyError, OperationFailure)

# NamespaceNotFound, IndexNotFound, NamespaceExists, WriteConflict, NoSuchTransaction, duplicate key,
# an index or collection that changed under a statement, background operation in progress.
EXPECTED = {11000, 26, 27, 48, 112, 251, 225, 244, 276, 12587, 85, 86, 117, 24, 175, 10107, 17}
ORDERS, USERS, HOT = 3000, 400, 20


def mixed_ids(random_source):
    """One `_id` of every kind that a server allows, and near relations of each."""
    number = random_source.randrange(200)
    return random_source.choice([
        lambda: number, lambda: Int64(number + 2 ** 40), lambda: number + 0.5,
        lambda: Decimal128("%d.25" % number), lambda: "text %d" % number,
        lambda: "ü€𝄞%d" % number, lambda: ObjectId("%024x" % number),
        lambda: Binary(b"%d" % number, 0), lambda: Binary.from_uuid(uuid.UUID(int=number)),
        lambda: datetime.datetime(2020, 1, 1) + datetime.timedelta(hours=number),
        lambda: bool(number % 2), lambda: None, lambda: {"a": number, "b": {"c": "x"}},
        lambda: {"b": {"c": "x"}, "a": number}, lambda: float("nan"), lambda: MinKey(),
        lambda: MaxKey(), lambda: Timestamp(number + 1, 1), lambda: -float(number),
        lambda: "%d" % number,
    ])()


def value(random_source, depth=0):
    """A value of any type."""
    number = random_source.randrange(1000)
    makers = [
        lambda: number, lambda: Int64(number), lambda: number / 7, lambda: "s%d" % number,
        lambda: True, lambda: None, lambda: Decimal128("%d.50" % number), lambda: -0.0,
        lambda: float("nan"), lambda: Binary(b"\0\1%d" % number, 5), lambda: Regex("a%d" % number, "i"),
        lambda: ObjectId(), lambda: Timestamp(number, 2), lambda: Code("f(%d)" % number),
        lambda: datetime.datetime(2021, 3, 4, 5, 6, 7), lambda: MinKey(), lambda: MaxKey(),
    ]
    if depth < 3:
        makers += [
            lambda: {"k%d" % i: value(random_source, depth + 1) for i in range(number % 4)},
            lambda: [value(random_source, depth + 1) for _ in range(number % 5)],
        ]
    return random_source.choice(makers)()


class Writer:
    """Writes with `threads` threads, `rate` operations a second in all (None: as fast as it goes)."""

    def __init__(self, uri, threads=8, seed=1, rate=None):
        self.client = MongoClient(uri, appname="writer", maxPoolSize=threads + 4)
        self.threads, self.seed, self.rate = threads, seed, rate
        self.counts, self.refused = collections.Counter(), collections.Counter()
        self.errors = []
        self._stop = threading.Event()
        self._running = []
        self.shop, self.mixed = self.client["shop"], self.client["mixed"]
        self._kinds = [getattr(self, name) for name in sorted(dir(self)) if name.startswith("do_")]
        self._rare = {"do_scratch", "do_index", "do_transaction", "do_swap", "do_large"}

    # Filling

    def fill(self, orders=ORDERS):
        source = random.Random(self.seed)
        self.shop.create_collection("log", capped=True, size=400000)
        self.shop.create_collection("checked", validator={"$jsonSchema": {"required": ["n"]}})
        for start in range(0, orders, 1000):
            self.shop.orders.insert_many(
                [self.order(source, number) for number in range(start, min(start + 1000, orders))])
        self.shop.users.insert_many([{"_id": number, "email": "user%d@example" % number, "n": 0}
                                     for number in range(USERS)])
        self.shop.users.create_index("email", unique=True)
        self.shop.orders.create_index([("customer", 1), ("total", -1)])
        self.shop.orders.create_index("tags")
        self.shop.hot.insert_many([{"_id": number, "n": 0, "list": []} for number in range(HOT)])
        self.shop.hot.create_index("when", expireAfterSeconds=86400)
        self.shop.checked.insert_many([{"_id": number, "n": number} for number in range(100)])
        self.shop.log.insert_many([{"n": number} for number in range(200)])
        self.shop.create_collection("large_orders", viewOn="orders",
                                    pipeline=[{"$match": {"total": {"$gt": 500}}}])
        for _ in range(300):
            try:
                self.mixed.things.insert_one({"_id": mixed_ids(source), "v": value(source)})
            except DuplicateKeyError:
                pass

    def order(self, source, number):
        return {"_id": number, "customer": "c%d" % source.randrange(500),
                "total": source.randrange(1000), "tags": ["a", "b"], "address": {"city": "x", "zip": 1},
                "items": [{"sku": i, "count": 1} for i in range(source.randrange(4))],
                "note": "n" * source.randrange(600)}

    # Running

    def start(self):
        for number in range(self.threads):
            thread = threading.Thread(target=self._work, args=(number,), daemon=True)
            thread.start()
            self._running.append(thread)

    def stop(self):
        self._stop.set()
        for thread in self._running:
            thread.join(60)
        self._running = []
        if self.errors:
            raise self.errors[0]

    def _work(self, number):
        source = random.Random("%d/%d" % (self.seed, number))
        pause = self.threads / self.rate if self.rate else 0
        due = time.monotonic()
        while not self._stop.is_set():
            act = source.choice(self._kinds)
            if act.__name__ in self._rare and source.random() > 0.2:
                continue
            try:
                act(source)
                self.counts[act.__name__[3:]] += 1
            except AutoReconnect:
                self._stop.wait(0.2)  # a server that a test killed comes back
                self.refused["reconnect"] += 1
            except (BulkWriteError, OperationFailure) as error:
                code = error.code
                if isinstance(error, BulkWriteError):
                    code = (error.details.get("writeErrors") or [{"code": 0}])[0]["code"]
                if code not in EXPECTED and not error.has_error_label("TransientTransactionError"):
                    self.errors.append(error)
                    return
                self.refused[code] += 1
            except Exception as error:  # told by stop()
                self.errors.append(error)
                return
            if pause:
                due = max(due + pause, time.monotonic() - 0.2)
                self._stop.wait(max(0, due - time.monotonic()))

    # Operations: each method is one kind

    def pick(self, source):
        return {"_id": source.randrange(ORDERS)}

    def do_insert(self, source):
        self.shop.orders.insert_one(self.order(source, Int64(source.randrange(ORDERS, ORDERS * 20))))

    def do_insert_many(self, source):
        self.shop.events.insert_many([{"n": source.random(), "v": value(source)}
                                      for _ in range(source.randrange(1, 20))])

    def do_set(self, source):
        self.shop.orders.update_one(self.pick(source), {"$set": {
            "address.city": "city%d" % source.randrange(50), "seen": source.random()}})

    def do_set_many_new(self, source):
        names = source.sample(["zeta", "alpha", "mid", "beta", "omega"], 3)
        self.shop.orders.update_one(self.pick(source), {"$set": {n: value(source) for n in names}})

    def do_unset(self, source):
        self.shop.orders.update_one(self.pick(source),
                                    {"$unset": {source.choice(["seen", "zeta", "alpha", "note"]): 1}})

    def do_unset_and_set(self, source):
        self.shop.orders.update_one(self.pick(source), {"$unset": {"alpha": 1}, "$set": {"mid": 1}})
        self.shop.orders.update_one(self.pick(source), [{"$unset": "mid"}, {"$set": {"mid": 2}}])

    def do_push(self, source):
        self.shop.orders.update_one(self.pick(source), {"$push": {"tags": {
            "$each": ["t%d" % source.randrange(9)], "$slice": -5}}})

    def do_slice(self, source):
        self.shop.orders.update_one(self.pick(source),
                                    {"$push": {"tags": {"$each": [], "$slice": 2}}})

    def do_pull(self, source):
        self.shop.orders.update_one(self.pick(source), {"$pull": {"tags": "a"}})

    def do_add_to_set(self, source):
        self.shop.orders.update_one(self.pick(source),
                                    {"$addToSet": {"tags": "t%d" % source.randrange(9)}})

    def do_inc(self, source):
        self.shop.orders.update_many({"customer": "c%d" % source.randrange(500)},
                                     {"$inc": {"total": 1, "address.zip": 1}})

    def do_mul(self, source):
        self.shop.orders.update_one(self.pick(source), {"$mul": {"total": 2}, "$min": {"low": 3},
                                                        "$max": {"high": source.random()}})

    def do_current_date(self, source):
        self.shop.orders.update_one(self.pick(source), {"$currentDate": {"when": True}})

    def do_rename_field(self, source):
        self.shop.orders.update_one(self.pick(source), {"$rename": {"note": "remark"}})
        self.shop.orders.update_one(self.pick(source), {"$rename": {"remark": "note"}})

    def do_array_filter(self, source):
        self.shop.orders.update_one({**self.pick(source), "items": {"$type": "array"}},
                                    {"$inc": {"items.$[each].count": 1}},
                                    array_filters=[{"each.sku": {"$lt": 2}}])

    def do_array_index(self, source):
        self.shop.orders.update_one({**self.pick(source), "items.0": {"$exists": True}},
                                    {"$set": {"items.0.sku": source.randrange(9)}})

    def do_pipeline(self, source):
        self.shop.orders.update_one(self.pick(source), [
            {"$set": {"double": {"$multiply": [{"$ifNull": ["$total", 0]}, 2]}, "p": {"q": 1}}},
            {"$unset": "low"}])

    def do_replace_with(self, source):
        self.shop.orders.update_one(self.pick(source), [{"$replaceWith": {
            "_id": "$_id", "total": source.randrange(1000), "customer": "$customer"}}])

    def do_replace(self, source):
        number = source.randrange(ORDERS)
        self.shop.orders.replace_one({"_id": number}, self.order(source, number))

    def do_delete(self, source):
        self.shop.orders.delete_one({"_id": source.randrange(ORDERS * 2)})

    def do_delete_many(self, source):
        self.shop.events.delete_many({"n": {"$lt": source.random() / 10}})

    def do_upsert(self, source):
        self.shop.orders.update_one({"_id": source.randrange(ORDERS * 2)},
                                    {"$set": {"upserted": True}, "$setOnInsert": {"total": 1}},
                                    upsert=True)

    def do_hot(self, source):
        for _ in range(5):
            self.shop.hot.update_one({"_id": source.randrange(HOT)}, {
                "$inc": {"n": 1},
                "$push": {"list": {"$each": [source.randrange(99)], "$slice": -10}}})

    def do_capped(self, source):
        self.shop.log.insert_many([{"n": source.random(), "text": "x" * source.randrange(200)}
                                   for _ in range(3)])

    def do_checked(self, source):
        self.shop.checked.update_one({"_id": source.randrange(150)}, {"$set": {"n": 1}}, upsert=True)

    def do_mixed_insert(self, source):
        self.mixed.things.insert_one(SON([("_id", mixed_ids(source)), ("v", value(source)),
                                          ("t", Timestamp(0, 0))]))

    def do_mixed_update(self, source):
        self.mixed.things.update_one({"_id": {"$eq": mixed_ids(source)}},
                                     {"$set": {"v": value(source), "w": value(source)}})

    def do_mixed_delete(self, source):
        self.mixed.things.delete_one({"_id": {"$eq": mixed_ids(source)}})

    def do_large(self, source):
        self.mixed.large.replace_one({"_id": source.randrange(6)},
                                     {"x": "y" * source.randrange(1, 400000)}, upsert=True)

    def do_swap(self, source):
        """Two documents exchange their unique values through a third one."""
        a, b = source.sample(range(USERS), 2)
        users = self.shop.users
        first, second = users.find_one({"_id": a}), users.find_one({"_id": b})
        if not first or not second:
            return
        users.update_one({"_id": a}, {"$set": {"email": "free%d/%s" % (a, uuid.uuid4())}})
        users.update_one({"_id": b}, {"$set": {"email": first["email"]}})
        users.update_one({"_id": a}, {"$set": {"email": second["email"]}})

    def do_transaction(self, source):
        with self.client.start_session() as session:
            with session.start_transaction():
                self.shop.orders.update_one(self.pick(source), {"$inc": {"total": -1}},
                                            session=session)
                self.shop.payments.insert_one({"amount": source.random()}, session=session)
                self.shop.users.update_one({"_id": source.randrange(USERS)}, {"$inc": {"n": 1}},
                                           session=session)

    def do_scratch(self, source):
        name = "scratch_%d" % source.randrange(4)
        act = source.randrange(6)
        if act == 0:
            self.mixed[name].drop()
        elif act == 1:
            self.mixed[name].rename("scratch_%d" % source.randrange(4, 6),
                                    dropTarget=source.random() < 0.5)
        elif act == 2:
            self.mixed["scratch_%d" % source.randrange(4, 6)].drop()
        else:
            self.mixed[name].insert_many([{"n": source.random()} for _ in range(20)])
            self.mixed[name].update_many({}, {"$set": {"u": source.random()}})

    def do_index(self, source):
        name = source.choice(["low", "high", "double"])
        if source.random() < 0.5:
            self.shop.orders.create_index(name)
        else:
            self.shop.orders.drop_index(name + "_1")


def main():
    parser = argparse.ArgumentParser(description="Writes to a server in every way.")
    parser.add_argument("--uri", required=True)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    parser.add_argument("--rate", type=float, default=1000, help="operations a second")
    parser.add_argument("--orders", type=int, default=ORDERS)
    parser.add_argument("--fill", action="store_true", help="fill first")
    parser.add_argument("--fill-only", action="store_true")
    arguments = parser.parse_args()
    writer = Writer(arguments.uri, arguments.threads, arguments.seed, arguments.rate)
    if arguments.fill or arguments.fill_only:
        writer.fill(arguments.orders)
    if arguments.fill_only:
        return
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    signal.signal(signal.SIGINT, lambda *_: ended.set())
    print("writer: seed %d, %d threads" % (writer.seed, writer.threads), flush=True)
    writer.start()
    ended.wait(arguments.seconds)
    writer.stop()
    print("writer: %d operations of %d kinds: %s" % (
        sum(writer.counts.values()), len(writer.counts),
        ", ".join("%s %d" % item for item in sorted(writer.counts.items()))), flush=True)


if __name__ == "__main__":
    sys.exit(main())
