# SPDX-License-Identifier: Apache-2.0
"""strict.py: stands before the test server and makes it as strict as a real server of a version.

The test server speaks like the newest one and takes more than old ones do. The tables of strict_rules.py
say where real servers differ; what they do not name is passed on.

    source = strict.behind(server, version="4.4.6")
    job(source=source.user("reader").uri, …)      # only what the roles of the README allow

A test writes through it as well (`source.client`): it knows of a collection what went through it.
Indexes that the test server cannot hold (text, hashed, TTL of NaN, options of old servers) are kept here.
"""
import re
import threading
import time
import traceback
import uuid

import bson
from bson import Int64, ObjectId, Timestamp
from bson.raw_bson import RawBSONDocument
from bson.son import SON
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from proxy import Proxy
from roles import allowed, row_of
from strict_rules import (ANSWERED, REFUSED, SENT, STATEMENTS, STATEMENTS_OF, WIRE_VERSIONS, alike, as_listed,
                          batch_of, is_capped, is_nan, known_options, ns_of, opens_stream,
                          refused_by_shard, specifications)
from wire import ORDERED, RAW, Closed, failure, reply_body, with_body

# Lines of recordings/*.jsonl that the test server answers as a real 4.4.6 does once this is before it.
CLAIMS = {
    "handshake": (13, 16, 17, 27, 28, 29, 31, 33, 34, 35, 36, 37, 38, 39, 41, 42, 46, 47, 51, 55, 58, 61, 62,
                  78, 89, 96, 100, 101, 102),
    "refusals": (0, 1, 2, 7, 16, 17, 18, 19, 37, 38, 40, 41, 44, 45, 56, 82, 83, 84, 85, 86, 87, 88, 94,
                 101, 102, 104, 114, 124, 128, 135, 136, 138, 146, 147, 151, 152, 153, 156, 157, 159, 160, 161,
                 163, 164, 165, 166, 168, 170, 171, 174, 176, 197, 200, 201, 203, 204, 205, 262, 307, 308, 309,
                 310, 313),
    "streams": (204, 207, 208, 213)}
# The same as a mongos.
MONGOS_CLAIMS = {"handshake": (108, 113, 114, 115, 117, 122, 124, 128, 130, 131, 133, 134, 135, 137, 144, 145,
                               147),
                 "cluster": (152,)}
PARTIAL = {("refusals", 136): ("dropped",)}  # (file, line): fields that the test server leaves out
BROADCAST = ("createIndexes", "collMod", "dropIndexes")  # a mongos gives each shard's answer as `raw`
SCRATCH = "towline_strict"  # in `local`, which no stream shows


class Known:
    """What is known of the server behind: kinds of collections, indexes that it cannot hold, its time."""

    def __init__(self, server):
        self.client = MongoClient(server.uri, appname="strict", retryWrites=False)  # `local` has none
        # The test server makes a collection anew that it lists while it is being dropped.
        self.catalog = threading.Lock()
        self.lock = threading.RLock()
        self.kinds = {}        # ns: (kind, collation); guarded by lock, as are those below
        self.generation = 0    # of the catalog
        self.indexes = {}      # ns: {name: specification}
        self.building = {}     # ns: names of indexes that are being built
        self.ended = {}        # ns: set when all of them were dropped
        self.streams = {}      # cursor id: None
        self.cluster = ObjectId()
        self.time = Timestamp(0, 0)

    def ask(self, database, command):
        return self.client[database].command(command, codec_options=ORDERED, check=False)

    def heard(self, reply):
        gossip = reply.get("$clusterTime")
        times = [reply.get("operationTime"), gossip.get("clusterTime") if gossip else None]
        with self.lock:
            self.time = max([self.time] + [at for at in times if isinstance(at, Timestamp)])

    def changed(self):
        with self.lock:
            self.generation += 1
            self.kinds.clear()

    def _look(self, ns):
        with self.lock:
            if ns in self.kinds:
                return self.kinds[ns]
            generation = self.generation
        database, name = ns.split(".", 1)
        if not database or not name:
            return (None, None)
        with self.catalog:
            reply = self.ask(database, SON([("listCollections", 1), ("filter", SON(name=name))]))
        found = batch_of(reply)
        kind = (None, None)
        if found:
            options = found[0].get("options", {})
            kind = ("view" if found[0].get("type") == "view" else
                    "capped" if options.get("capped") else "plain", options.get("collation"))
        with self.lock:
            if generation == self.generation and kind[0]:
                self.kinds[ns] = kind
        return kind

    def kind(self, ns):
        """"view", "capped", "plain", or None where there is none."""
        return self._look(ns)[0]

    def collation(self, ns):
        return self._look(ns)[1]

    def _collection(self, ns, options):
        database, name = ns.split(".", 1)
        return self.client[database].get_collection(name, options)

    def find(self, ns, query):
        return self._collection(ns, ORDERED).find_one(query)

    def find_raw(self, ns, query):
        found = self._collection(ns, RAW).find_one(query)
        return found.raw if found is not None else None

    def updated(self, document, update):
        """The size that a document would have after an update."""
        scratch = self.client.local.get_collection("%s_%s" % (SCRATCH, ObjectId()), RAW)
        try:
            scratch.insert_one(RawBSONDocument(document))
            scratch.update_one({}, update)
            return len(scratch.find_one().raw)
        except OperationFailure:
            return None  # the test server refuses it, and says so itself
        finally:
            scratch.drop()

    def drop_oldest(self, ns, documents):
        """R capped.jsonl: a refused insert into a full collection pushes out the oldest all the same."""
        collection = self._collection(ns, RAW)
        options = self.client[ns.split(".", 1)[0]].command(
            "listCollections", filter={"name": ns.split(".", 1)[1]})["cursor"]["firstBatch"][0]["options"]
        full = options.get("max") and collection.count_documents({}) >= options["max"]
        for _ in range(documents if full else 0):
            oldest = next(iter(collection.find().sort("$natural", 1).limit(1)), None)
            if oldest is not None:
                collection.delete_one({"_id": oldest["_id"]})


class Strict(Proxy):
    """version: "4.2.14", "4.4.6" …; roles: a key of ROLES, or None for everything; mongos: it says that it is
    one, of a cluster with one shard."""

    def __init__(self, server, version="4.4.6", roles=None, known=None, mongos=False):
        self.server, self.text, self.roles, self.mongos = server, version, roles, mongos
        self.version = tuple(int(part) for part in version.split("."))
        self.wire_version = max((number, wire) for number, wire in WIRE_VERSIONS.items()
                                if number <= self.version)[1]
        self.known = known or Known(server)
        self.refused = {}      # (command, code): how often; what a test wants to have seen
        self.gaps = []         # commands that the table of roles does not name
        self.build_seconds = 0  # how long an index build takes at least
        self.out_seconds = 0    # how long a $out takes for each document
        self._client = None
        super().__init__(server.port)
        self.uri = re.sub(r":\d+/", ":%d/" % self.port, server.uri)
        if mongos:
            self.uri = "mongodb://127.0.0.1:%d/" % self.port

    def user(self, roles):
        """The same server, as a user with these roles sees it."""
        return Strict(self.server, self.text, roles, self.known, self.mongos)

    @property
    def client(self):
        if self._client is None:
            self._client = MongoClient(self.uri, appname="towline-scenario",
                                       serverSelectionTimeoutMS=30000)
        return self._client

    def again(self, request, answer):
        return self._changed(request, answer)

    def _changed(self, request, answer):
        for rule in ANSWERED:
            if rule.fits(self, request):
                reply = reply_body(answer)
                if reply.get("ok"):
                    rule.does(self, request, reply)
                    answer = with_body(answer, reply)
        if self.mongos and request.name in BROADCAST:
            reply = reply_body(answer)
            if not reply.get("ok"):
                refused_by_shard(reply)
                answer = with_body(answer, reply)
        return answer

    def handle(self, request, serve):
        try:
            return self._handle(request, serve)
        except (Closed, OSError):
            raise
        except Exception as problem:  # a fault of this file must fail the test, not pass for an answer
            traceback.print_exc()
            self.gaps.append("%s: %r" % (request.name, problem))
            return request.answer(failure(8000, "StrictGap", repr(problem)))

    def _handle(self, request, serve):
        gossip = request.body.get("$clusterTime")
        if isinstance(gossip, dict):
            self.known.heard({"$clusterTime": gossip})
        refusal = self._unauthorized(request) or self._refusal(request)
        if refusal is not None:
            self._count(request, refusal)
            if self.mongos and request.name in BROADCAST:
                refused_by_shard(refusal)
            return request.answer(refusal)
        for rule in SENT:
            if rule.fits(self, request):
                request = rule.does(self, request)
        return self._changed(request, self._serve(request, serve))

    def _count(self, request, refusal):
        key = (request.name, refusal.get("code"))
        self.refused[key] = self.refused.get(key, 0) + 1

    def _unauthorized(self, request):
        if not self.roles:
            return None
        row = row_of(request)
        if row is None:
            self.gaps.append(request.name)
            return None
        if allowed(row, self.roles):
            return None
        return failure(13, "Unauthorized", "not authorized on %s to execute command { %s }" % (
            request.database, row))

    def _refusal(self, request):
        for rule in REFUSED:
            found = rule.fits(self, request)
            if found:
                return rule.does(found)
        return None

    def _serve(self, request, serve):
        if request.name in STATEMENTS_OF:
            return self._write(request, serve)
        if request.name in ("create", "drop", "collMod", "renameCollection", "dropDatabase",
                            "convertToCapped", "createIndexes"):
            return self._define(request, serve)
        if request.name == "listIndexes":
            return self._list_indexes(request, serve)
        if request.name == "dropIndexes":
            return self._drop_indexes(request, serve)
        if request.name == "listCollections":
            with self.known.catalog:
                return serve(request)
        if self._is_stream(request):
            return self._stream(request, serve)
        if self.out_seconds and request.name == "aggregate" and "$out" in request.body["pipeline"][-1]:
            return self._out(request)
        return serve(request)

    def _out(self, request):
        """A $out of a large collection: its temporary collection is there, and being filled, for long."""
        database, stages = self.known.client.get_database(request.database, RAW), request.body["pipeline"]
        place = database["tmp.agg_out.%s" % uuid.uuid4()]
        self.known.ask(request.database, SON(create=place.name))
        for document in database[request.collection].aggregate(stages[:-1]):
            place.insert_one(document)
            time.sleep(self.out_seconds)  # how long a document takes is what this stands for
        target = stages[-1]["$out"]
        for index in self.known.ask(request.database, SON(listIndexes=target)).get("cursor", {}).get(
                "firstBatch", []):
            if index["name"] != "_id_":
                self.known.ask(request.database, SON([("createIndexes", place.name), ("indexes", [index])]))
        self.known.ask("admin", SON([("renameCollection", "%s.%s" % (request.database, place.name)),
                                     ("to", "%s.%s" % (request.database, target)), ("dropTarget", True)]))
        self.known.changed()
        return request.answer(SON([("cursor", SON([("firstBatch", []), ("id", Int64(0)), (
            "ns", "%s.%s" % (request.database, request.collection))])), ("ok", 1.0),
                                   ("operationTime", self.known.time)]))

    # Writes -----------------------------------------------------------------------------------------

    def _write(self, request, serve):
        name = STATEMENTS_OF[request.name]
        statements, refused = request.list_of(name), {}
        for place, statement in enumerate(statements):
            for rule in STATEMENTS:
                found = rule.fits(self, request, statement)
                if found:
                    refused[place] = rule.does(found)
                    break
            if place in refused and request.body.get("ordered", True):
                break
        for refusal in refused.values():
            self._count(request, refusal)
        if not refused:
            return self._push_out(request, serve(request))
        end = min(refused) if request.body.get("ordered", True) else len(statements)
        places = [place for place in range(end) if place not in refused]
        if places:
            answer = serve(request.changed(**{name: [statements[place] for place in places]}))
            reply = reply_body(answer)
            if not reply.get("ok"):
                return answer
            for part in reply.get("writeErrors", []) + reply.get("upserted", []):
                part["index"] = places[part["index"]]
            if reply.get("writeErrors") and request.body.get("ordered", True):
                return with_body(answer, reply)
        else:
            reply = SON([("n", 0)] + ([("nModified", 0)] if request.name == "update" else []) +
                        [("ok", 1.0), ("operationTime", self.known.time)])
        errors = reply.get("writeErrors", []) + [
            SON([("index", place), ("code", refusal["code"]), ("errmsg", refusal["errmsg"])])
            for place, refusal in refused.items()]
        reply["writeErrors"] = sorted(errors, key=lambda entry: entry["index"])
        return request.answer(reply)

    def _push_out(self, request, answer):
        if request.name == "insert" and self.version < (5,) and b"E11000" in answer:
            ns = is_capped(self, request)
            duplicates = sum(entry["code"] == 11000 for entry in
                             reply_body(answer).get("writeErrors", []))
            if ns and duplicates:
                self.known.drop_oldest(ns, duplicates)
        return answer

    # Collections and indexes --------------------------------------------------------------------------

    def _define(self, request, serve):
        self.known.changed()
        try:
            if request.name == "createIndexes":
                return self._create_indexes(request, serve)
            with self.known.catalog:
                answer = serve(request)
        finally:
            self.known.changed()
        if reply_body(answer).get("ok"):
            self._move_indexes(request)
        return answer

    def _move_indexes(self, request):
        with self.known.lock:
            kept = self.known.indexes
            if request.name in ("drop", "convertToCapped"):
                kept.pop(ns_of(request), None)
            elif request.name == "dropDatabase":
                for ns in [ns for ns in kept if ns.split(".", 1)[0] == request.database]:
                    del kept[ns]
            elif request.name == "renameCollection":
                kept.pop(request.body["to"], None)
                moved = kept.pop(request.body["renameCollection"], None)
                if moved:
                    kept[request.body["to"]] = moved

    def _is_kept_here(self, specification):
        kinds = [kind for kind in specification["key"].values() if isinstance(kind, str)]
        return (any(kind in ("text", "hashed", "geoHaystack") for kind in kinds) or
                is_nan(specification.get("expireAfterSeconds")) and self.version < (6,))

    def _create_indexes(self, request, serve):
        ns, wanted = ns_of(request), specifications(request)
        if not all("name" in specification and specification.get("key") for specification in wanted):
            return serve(request)
        names = [specification["name"] for specification in wanted]
        ours = [specification for specification in wanted if self._is_kept_here(specification)]
        others = [known_options(self, specification) for specification in wanted
                  if specification not in ours]
        with self.known.lock:
            self.known.building.setdefault(ns, []).extend(names)
            ended = self.known.ended.setdefault(ns, threading.Event())
        try:
            if ended.wait(self.build_seconds):  # how long a build takes is what this stands for
                return request.answer(failure(276, "IndexBuildAborted", "Index build aborted"))
            database, name = ns.split(".", 1)
            if others:
                reply = reply_body(serve(request.changed(
                    drop=("ignoreUnknownIndexOptions",), indexes=[bson.encode(other) for other in others])))
            else:
                if self.known.kind(ns) is None:
                    self.known.ask(database, SON(create=name))
                before = len(batch_of(self.known.ask(database, SON(listIndexes=name))))
                reply = SON([("numIndexesBefore", before), ("numIndexesAfter", before),
                             ("createdCollectionAutomatically", False), ("commitQuorum", "votingMembers"),
                             ("ok", 1.0),
                             ("operationTime", self.known.time)])
        finally:
            with self.known.lock:
                left = [name for name in self.known.building.pop(ns) if name not in names]
                if left:
                    self.known.building[ns] = left
                else:
                    self.known.ended.pop(ns, None)
        return request.answer(self._keep(ns, ours, reply) if reply.get("ok") else reply)

    def _keep(self, ns, ours, reply):
        with self.known.lock:
            kept = self.known.indexes.setdefault(ns, {})
            reply["numIndexesBefore"] += len(kept)
            for specification in ours:
                listed = as_listed(specification, self.known.collation(ns))
                if specification["name"] in kept and not alike(kept[specification["name"]], listed):
                    return failure(86, "IndexKeySpecsConflict", "An existing index has the same name as "
                                   "the requested index.")
                kept[specification["name"]] = listed
            reply["numIndexesAfter"] += len(kept)
        return reply

    def plant_index(self, ns, specification):
        """An index with what an old server once took, or as one that the test server lacks."""
        with self.known.lock:
            self.known.indexes.setdefault(ns, {})[specification["name"]] = specification

    def _list_indexes(self, request, serve):
        answer = serve(request)
        reply = reply_body(answer)
        if not reply.get("ok"):
            return answer
        ns = ns_of(request)
        found = reply["cursor"]["firstBatch"]
        if reply["cursor"]["id"]:
            database = self.known.client.get_database(request.database, ORDERED)
            found[:] = list(database[request.collection].list_indexes())
        with self.known.lock:
            found += [SON(specification) for specification in self.known.indexes.get(ns, {}).values()]
        for specification in found if self.version < (4, 4) else ():
            specification["ns"] = ns
        reply["cursor"]["id"] = Int64(0)
        return with_body(answer, reply)

    def _drop_indexes(self, request, serve):
        wanted, ns = request.body.get("index"), ns_of(request)
        with self.known.lock:
            if self.known.building.get(ns):  # of fewer it was refused: R builds.jsonl
                self.known.ended[ns].set()
                return request.answer(SON([("nIndexesWas", 1), ("ok", 1.0),
                                           ("operationTime", self.known.time)]))
            kept = self.known.indexes.get(ns, {})
            names = [wanted] if isinstance(wanted, str) else wanted if isinstance(wanted, list) else [
                name for name, specification in kept.items() if specification["key"] == wanted]
            if wanted == "*":
                kept.clear()
                return serve(request)
            ours = [name for name in names if name in kept]
            for name in ours:
                del kept[name]
        others = [name for name in names if name not in ours]
        if ours and not others:
            return request.answer(SON([("nIndexesWas", len(kept) + len(ours) + 1), ("ok", 1.0),
                                       ("operationTime", self.known.time)]))
        return serve(request.changed(index=others) if ours else request)

    # Streams ------------------------------------------------------------------------------------------

    def _is_stream(self, request):
        if request.name == "aggregate":
            return opens_stream(self, request)
        return request.name == "getMore" and request.body["getMore"] in self.known.streams

    def _stream(self, request, serve):
        """The events as the version has them; asked on where none of a batch is left."""
        while True:
            answer = serve(request)
            reply = reply_body(answer, RAW)
            if not reply.get("ok"):
                return answer
            cursor = reply["cursor"]
            self.known.streams[cursor["id"]] = None
            name = "firstBatch" if "firstBatch" in cursor else "nextBatch"
            events = [self._event(event) for event in cursor[name]]
            left = [event for event in events if event is not None]
            if events and not left and name == "nextBatch":
                continue
            if events:
                cursor = SON((key, left if key == name else value) for key, value in cursor.items())
                reply = SON((key, cursor if key == "cursor" else value) for key, value in reply.items())
                return with_body(answer, reply)
            return answer

    def _event(self, event):
        """None: a real server has none. A capped collection's own deletes are in no oplog, and before 5.0
        nobody else deletes there."""
        kind = event["operationType"]
        if kind == "delete" and self.version < (5,):
            if self.known.kind("%s.%s" % (event["ns"]["db"], event["ns"]["coll"])) == "capped":
                return None
        left_out = ({"wallTime"} if self.version < (6,) else set())
        made = SON((name, value) for name, value in event.items() if name not in left_out)
        if kind == "update" and self.version < (4, 7) and "updateDescription" in made:
            made["updateDescription"] = SON((name, value) for name, value in
                                            made["updateDescription"].items()
                                            if name != "truncatedArrays")
        return made


def behind(server, version="4.4.6", roles=None, mongos=False):
    return Strict(server, version, roles, mongos=mongos)
