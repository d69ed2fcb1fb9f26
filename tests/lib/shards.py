# SPDX-License-Identifier: Apache-2.0
"""shards.py: a mongos and its shards, in front of one test server, as far as retryable writes see them.

Each shard of a real cluster keeps the numbers of retryable writes by itself (config.transactions). Here all
data is on one server, and each shard has sessions of its own there: a write goes out once for each shard that
it is for, in the session of that shard.

    destination = shards.behind(server)    # unsharded collections are on shard 1, jobs' databases on shard 0
"""
import threading
import zlib

import bson
from bson import Binary
from bson.son import SON

from strict import Strict
from strict_rules import STATEMENTS_OF
from wire import reply_body


class Cluster(Strict):
    def __init__(self, server, version="4.4.6", count=2, roles=None, known=None, keys=None):
        super().__init__(server, version, roles, known, mongos=True)
        self.count = count
        self.keys = {} if keys is None else keys  # ns of a sharded collection: its key
        self.too_old = threading.Event()  # a shard refused a number

    def user(self, roles):
        return Cluster(self.server, self.text, self.count, roles, self.known, self.keys)

    def home(self, ns, key):
        if ns in self.keys:
            return zlib.crc32(repr(key).encode()) % self.count
        return 0 if ns.startswith("towline_") else 1

    def _handle(self, request, serve):
        return super()._handle(request, lambda other: self._route(other, serve))

    def _route(self, request, serve):
        ns = "%s.%s" % (request.database, request.collection)
        if request.name == "enableSharding":
            return request.answer(SON([("ok", 1.0), ("operationTime", self.known.time)]))
        if request.name == "shardCollection":
            return self._shard(request)
        if request.name == "drop":
            self.keys.pop(ns, None)
        if request.name == "dropDatabase":
            for name in [name for name in self.keys if name.split(".")[0] == request.database]:
                self.keys.pop(name, None)
        if request.name == "aggregate" and request.first_stage == "$collStats" and ns in self.keys:
            return self._counts(request, ns)
        if request.name in STATEMENTS_OF and "txnNumber" in request.body:
            return self._write_each(request, serve, ns)
        return serve(request)

    def _shard(self, request):
        ns = request.body["shardCollection"]
        self.known.ask(ns.split(".", 1)[0], SON(create=ns.split(".", 1)[1]))
        self.keys[ns] = request.body["key"]
        return request.answer(SON([("collectionsharded", ns), ("ok", 1.0), ("operationTime", self.known.time)]))

    def _counts(self, request, ns):
        """One document of each shard."""
        counts = [0] * self.count
        for found in self.known.client[request.database][request.collection].find():
            counts[self.home(ns, found["_id"])] += 1
        documents = [SON([("ns", ns), ("shard", "shard%d" % number), ("count", count)])
                     for number, count in enumerate(counts)]
        return request.answer(SON([("cursor", SON([("firstBatch", documents), ("id", bson.Int64(0)), ("ns", ns)])),
                                   ("ok", 1.0), ("operationTime", self.known.time)]))

    # Retryable writes -----------------------------------------------------------------------------------

    def _write_each(self, request, serve, ns):
        name, places = STATEMENTS_OF[request.name], {}
        statements = request.list_of(name)
        for place, statement in enumerate(statements):
            document = bson.decode(statement)
            key = document.get("_id") if request.name == "insert" else document["q"].get("_id")
            places.setdefault(self.home(ns, key), []).append(place)
        merged = None
        for shard, own in sorted(places.items()):
            reply = reply_body(serve(request.changed(lsid=of_shard(request.body["lsid"], shard),
                                                     **{name: [statements[place] for place in own]})))
            if reply.get("code") == 225:
                self.too_old.set()
            merged = merge(merged, reply, own)
        return request.answer(merged)


def of_shard(lsid, shard):
    """The session that stands for this one on that shard."""
    return SON(lsid, id=Binary(bytes([lsid["id"][0] ^ shard]) + lsid["id"][1:], 4))


def merge(merged, reply, places):
    """4.4 s/write_ops/batch_write_op.cpp: an error of a shard's command becomes one of each statement."""
    if not reply.get("ok"):
        reply = SON([("n", 0), ("ok", 1.0), ("writeErrors", [
            SON([("index", place), ("code", reply["code"]), ("errmsg", reply["errmsg"])])
            for place in range(len(places))])])
    for part in reply.get("writeErrors", []) + reply.get("upserted", []):
        part["index"] = places[part["index"]]
    if merged is None:
        return reply
    for name in ("n", "nModified"):
        if name in reply or name in merged:
            merged[name] = merged.get(name, 0) + reply.get(name, 0)
    for name in ("writeErrors", "upserted"):
        if name in reply:
            merged[name] = sorted(merged.get(name, []) + reply[name], key=lambda part: part["index"])
    return merged


def behind(server, version="4.4.6", count=2):
    return Cluster(server, version, count)
