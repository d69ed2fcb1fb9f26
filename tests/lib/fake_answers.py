# SPDX-License-Identifier: Apache-2.0
"""fake_answers.py: what the fake deployment of fake.py answers to a client.

The forms are those of shared/recordings: hello and times of a mongos, cursors, positions that are gone,
afterClusterTime, refused commands.
"""
import datetime
import functools
import itertools
import re
import time
import uuid

import bson
from bson import Binary, Int64, ObjectId, Timestamp
from bson.son import SON

import keystring
from faults import faults
from roles import allowed, row_of
from strict_rules import WIRE_VERSIONS
from wire import ORDERED, Peer, Request, failure, read_message

BATCH_DOCUMENTS = 101
# Only a stream with showExpandedEvents shows them.
EXPANDED = ("create", "createIndexes", "dropIndexes", "modify", "shardCollection", "reshardCollection",
            "refineCollectionShardKey")
STREAM_OPTIONS = {"allChangesForCluster", "showExpandedEvents", "resumeAfter", "startAtOperationTime"}
FIND_FIELDS = {"find", "filter", "projection", "hint", "min", "max", "batchSize", "limit", "lsid",
               "singleBatch", "noCursorTimeout", "readConcern", "$db", "$clusterTime", "sort",
               "$readPreference", "maxTimeMS"}


def type_order(value):
    """Where a value's type stands in the order of BSON types; only what _ids of tests are."""
    if isinstance(value, bool):
        return 8
    for order, kind in enumerate((type(None), (int, float), str, dict, list, (bytes, uuid.UUID),
                                  ObjectId)):
        if isinstance(value, kind):
            return order
    raise NotImplementedError("an _id of type %s" % type(value).__name__)


def compare_ids(left, right):
    first, second = type_order(left), type_order(right)
    if first != second:
        return -1 if first < second else 1
    return (left > right) - (left < right)


class Refused(Exception):
    """A command ends with this document."""

    def __init__(self, *arguments, **more):
        super().__init__(arguments)
        self.document = failure(*arguments, **more)


class Answers(Peer):
    """Needs of the deployment: shards, clocks and collections of fake.Fake."""

    def __init__(self):
        self.name = "fake%d" % (id(self) % 100000)
        self.cluster = ObjectId()
        self.cursors = {}         # id: whatever is left of it
        self.numbers = itertools.count(1000)
        self.opened = []          # pipelines of the streams
        self.idle = 0             # answers of streams without an event
        self.failed_large = 0     # answers that an event was too large
        self.sessions = {}        # id: (number of its last retryable write, {statement: result})
        self.gaps = []            # what it was asked and could not do
        super().__init__()

    def serve_connection(self, sock):
        while True:
            request = Request(read_message(sock))
            action = self.script.take(request)
            sock.sendall(action(request, self._serve) if action else self._serve(request))

    def _serve(self, request):
        gossip = request.body.get("$clusterTime")
        with self.changed:
            if isinstance(gossip, dict):
                self.known = max(self.known, gossip["clusterTime"])
        method = getattr(self, "do_" + request.name, None)
        try:
            self._allow(request)
            document = method(request) if method else self._unknown(request)
        except Refused as refused:
            document = refused.document
        except Exception as error:  # a gap of the fake's must fail the test, not pass for an answer
            self.gaps.append("%s: %r" % (request.name, error))
            return request.answer(failure(8000, "FakeGap", repr(error)))
        with self.changed:
            document.setdefault("ok", 1.0)
            if not self.sharded:
                self.known = max(self.known, self.now())
            document.setdefault("operationTime", self.known if self.sharded else self.now())
            self.known = max(self.known, document["operationTime"])
            document["$clusterTime"] = SON([("clusterTime", self.known), ("signature", SON(
                [("hash", b"\0" * 20), ("keyId", Int64(0))]))])
        return request.answer(document)

    def _unknown(self, request):
        """R handshake.jsonl: a mongos says it in other words."""
        return failure(59, "CommandNotFound", ("no such cmd: %s" if self.sharded else
                                               "no such command: '%s'") % request.name)

    def _allow(self, request):
        if self.roles:
            row = row_of(request)
            if row is None:
                self.gaps.append("the table of roles lacks " + request.name)
            elif not allowed(row, self.roles):
                raise Refused(13, "Unauthorized", "not authorized on %s to execute command { %s }"
                              % (request.database, row))

    # Times ----------------------------------------------------------------------------------------------

    def _heard(self, shards):
        """The time of an answer that these shards gave."""
        if not shards:
            return self.known
        newest = max(shard.now for shard in shards)
        self.known = max(self.known, newest)
        return newest

    def _config_time(self):
        """The config server writes a no-op each second (4.4+); it knows nothing of the shards."""
        return self.config or Timestamp(self.seconds, 1)

    def _reach(self, request, shards):
        """readConcern.afterClusterTime: refused when it is later than what the server has heard of; a shard
        that is behind writes a no-op, a set waits for its next one."""
        after = request.body.get("readConcern", {}).get("afterClusterTime")
        if after is None:
            return
        known = self.known if self.sharded else max(self.known, self.now())
        if after > known:
            raise Refused(72, "InvalidOptions", "readConcern afterClusterTime value must not be greater than "
                          "the current clusterTime. Requested clusterTime: { ts: %s }; current "
                          "clusterTime: { ts: %s }" % (after, known))
        for shard in shards:
            if shard.now < after and self.sharded:
                shard.next(after)
                self.changed.notify_all()
        deadline = time.monotonic() + request.body.get("maxTimeMS", 60000) / 1000
        while any(shard.now < after for shard in shards):
            if not self.changed.wait(max(0, deadline - time.monotonic())):
                raise Refused(50, "MaxTimeMSExpired", "operation exceeded time limit")

    def _config_reaches(self, request):
        """The config server's time, after its no-op where it is behind."""
        after = request.body.get("readConcern", {}).get("afterClusterTime")
        if after is not None and self._config_time() < after:
            self.config = Timestamp(after.time, after.inc + 1)
        return self._config_time()

    def _asked(self, request):
        """The shards that a command on a collection goes to; nobody where the database is missing."""
        if not self.sharded:
            return self.shards
        if not any(ns.split(".", 1)[0] == request.database for ns in self.collections):
            return []
        return self.homes("%s.%s" % (request.database, request.collection))

    # Handshake --------------------------------------------------------------------------------------------

    def do_hello(self, request):
        wire = max((number, wire) for number, wire in WIRE_VERSIONS.items() if number <= self.version)[1]
        now = datetime.datetime.fromtimestamp(self.seconds)
        with self.changed:
            last = SON([("ts", self.now()), ("t", Int64(1))])
            document = SON([
                ("ismaster" if request.name.lower() == "ismaster" else "isWritablePrimary", True),
                ("maxBsonObjectSize", 16777216),
                ("maxMessageSizeBytes", 48000000), ("maxWriteBatchSize", 100000), ("localTime", now),
                ("logicalSessionTimeoutMinutes", 30), ("connectionId", 1), ("minWireVersion", 0),
                ("maxWireVersion", wire)])
            if self.sharded:
                document["msg"] = "isdbgrid"
            else:
                host = "127.0.0.1:%d" % self.port
                document.update(SON([
                    ("readOnly", False), ("setName", self.name), ("setVersion", 1), ("secondary", False),
                    ("hosts", [host]), ("me", host), ("primary", host),
                    ("lastWrite", SON([("opTime", last), ("lastWriteDate", now), ("majorityOpTime", last),
                                       ("majorityWriteDate", now)]))]))
        return document

    do_isMaster = do_ismaster = do_hello

    def do_buildInfo(self, request):
        return SON([("version", self.text), ("versionArray", [
            int(part) for part in self.text.split(".")] + [0])])

    def do_ping(self, request):
        return SON()

    do_endSessions = do_ping

    def do_replSetGetConfig(self, request):
        if self.sharded:
            return self._unknown(request)
        return SON(config=SON([("_id", self.name), ("settings", SON(replicaSetId=self.cluster))]))

    def do_replSetGetStatus(self, request):
        if not self.sharded:
            return self._unknown(request)
        return SON([("info", "mongos"), ("ok", 0.0), ("errmsg", "replSetGetStatus is not supported through "
                                                      "mongos")])

    def do_connectionStatus(self, request):
        return SON(authInfo=SON([("authenticatedUsers", []), ("authenticatedUserRoles", []),
                                 ("authenticatedUserPrivileges", [])]))

    def do_getParameter(self, request):
        return SON([("ok", 0.0), ("errmsg", "no option found to get")])  # without a code

    def do_appendOplogNote(self, request):
        if self.sharded and self.version < (8,):
            return self._unknown(request)
        with self.changed:
            at = max(shard.next() for shard in self.shards)
            self.changed.notify_all()
            return SON(operationTime=at)

    # Catalog ----------------------------------------------------------------------------------------------

    def do_listDatabases(self, request):
        """Through a mongos it asks every shard, with its readConcern, and has no `local`; sizes are doubles on
        a mongod."""
        with self.changed:
            self._reach(request, self.shards)
            heard = self._heard(self.shards)
            if self.sharded:  # the config server is asked, too
                heard = self.known = max(heard, self._config_reaches(request), self.known)
            names = sorted({ns.split(".", 1)[0] for ns in self.collections})
            names += ["admin", "config"] + ([] if self.sharded else ["local"])
            wanted = request.body.get("filter", {}).get("name")
            names = [name for name in names if wanted in (None, name)]
            size = 8192 if self.sharded else 8192.0
            entries = [SON([("name", name), ("sizeOnDisk", size), ("empty", False)]) for name in names]
            if request.body.get("nameOnly"):
                return SON([("databases", [SON(name=name) for name in names]),
                            ("operationTime", heard)])
            return SON([("databases", entries), ("totalSize", size), ("operationTime", heard)])

    def do_listCollections(self, request):
        wanted = request.body.get("filter", {}).get("name")
        with self.changed:
            found = [SON([("name", ns.split(".", 1)[1]), ("type", "collection"),
                          ("options", collection["options"]),
                          ("info", SON([("readOnly", False),
                                        ("uuid", Binary(collection["uuid"].bytes, 4))])),
                          ("idIndex", SON([("v", 2), ("key", SON(_id=1)), ("name", "_id_")]))])
                     for ns, collection in sorted(self.collections.items())
                     if ns.split(".", 1)[0] == request.database]
        if request.body.get("nameOnly"):
            found = [SON([("name", entry["name"]), ("type", "collection")]) for entry in found]
        return self._cursor(request, [entry for entry in found
                                      if wanted in (None, entry["name"])], "$cmd.listCollections")

    def _collection(self, request, name=None):
        return self.collections.get("%s.%s" % (request.database, name or request.collection))

    def do_listIndexes(self, request):
        ns = "%s.%s" % (request.database, request.collection)
        with self.changed:
            if self._collection(request) is None:
                return failure(26, "NamespaceNotFound", "ns does not exist: " + ns)
            own = self.indexes.get(ns, [])
        return self._cursor(request, [SON([("v", 2), ("key", SON(_id=1)), ("name", "_id_")]), *own],
                            request.collection)

    def do_dataSize(self, request):
        with self.changed:
            collection = self.collections.get(request.body["dataSize"])
            documents = collection["documents"] if collection else []
            return SON([("size", sum(map(len, documents))), ("numObjects", len(documents)), ("millis", 0)])

    def do_killCursors(self, request):
        known = [number for number in request.body["cursors"] if number in self.cursors]
        with self.changed:
            for number in known:
                self.cursors.pop(number, None)
        return SON([("cursorsKilled", known), ("cursorsNotFound", [
            number for number in request.body["cursors"] if number not in known]), ("cursorsAlive", []),
            ("cursorsUnknown", [])])

    # Writes of a client -------------------------------------------------------------------------------------

    def do_insert(self, request):
        """Retryable: a statement that was done is answered from memory, whatever it holds now; an older
        number is refused."""
        ns = "%s.%s" % (request.database, request.collection)
        number, session = request.body.get("txnNumber"), repr(request.body.get("lsid"))
        with self.changed:
            last, done = self.sessions.get(session, (-1, {}))
            if number is not None and number < last:
                return failure(225, "TransactionTooOld", "Retryable write with txnNumber %d is prohibited on "
                               "session %s because a newer retryable write with txnNumber %d has already "
                               "started on this session." % (number, session, last))
            if number is not None and number > last:
                done = {}
                self.sessions[session] = (number, done)
            count, errors = 0, []
            for place, raw in enumerate(request.list_of("documents")):
                if number is not None and place in done:
                    count += 1
                    continue
                error = self._insert_one(ns, raw)
                if error is None:
                    done[place] = True
                    count += 1
                    continue
                errors.append(SON([("index", place), *error]))
                if request.body.get("ordered", True):
                    break
            document = SON(n=count)
            if errors:
                document["writeErrors"] = errors
            if not self.sharded:  # a mongos sends neither to a client
                document["electionId"] = ObjectId("7fffffff0000000000000001")
                document["opTime"] = SON([("ts", self.now()), ("t", Int64(1))])
            document["operationTime"] = self._heard(self.shards)
            return document

    def _insert_one(self, ns, raw):
        collection = self.create(ns)
        documents, key = collection["documents"], bson.decode(raw, ORDERED).get("_id")
        top = collection["options"].get("max") if collection["options"].get("capped") else None
        if any(bson.decode(other, ORDERED)["_id"] == key for other in documents):
            if top and len(documents) >= top:
                documents.pop(0)  # R capped.jsonl: refused, and the oldest is pushed out all the same
            message = "E11000 duplicate key error collection: %s index: _id_ dup key: { _id: %r }" % (ns, key)
            if self.sharded:
                return [("code", 11000), ("codeName", "DuplicateKey"), ("errmsg", message)]
            return [("code", 11000), ("keyPattern", SON(_id=1)), ("keyValue", SON(_id=key)),
                    ("errmsg", message)]
        self.insert(ns, bson.decode(raw, ORDERED))
        while top and len(documents) > top:
            documents.pop(0)
        return None

    # Reading ------------------------------------------------------------------------------------------------

    def _cursor(self, request, documents, name, size=BATCH_DOCUMENTS):
        documents = list(documents)
        number = 0
        with self.changed:
            if len(documents) > size:
                number = next(self.numbers)
                self.cursors[number] = documents[size:]
            return SON([("cursor", SON([("firstBatch", documents[:size]),
                                        ("id", Int64(number)),
                                        ("ns", "%s.%s" % (request.database, name))])),
                        ("operationTime", self._heard(self._asked(request)))])

    def _of_config(self, request, documents):
        answer = self._cursor(request, documents, request.collection)
        after = request.body.get("readConcern", {}).get("afterClusterTime")
        if after is not None and after > self.known:
            self._reach(request, [])
        if after is not None and self._config_time() < after:
            self.config = Timestamp(after.time, after.inc + 1)
        answer["operationTime"] = self._config_time()
        return answer

    def do_find(self, request):
        body = request.body
        if set(body) - FIND_FIELDS:
            return failure(9 if self.version < (5,) else 40415, "FailedToParse",
                           "Unrecognized field %s" % (set(body) - FIND_FIELDS))
        if request.database == "config" and request.collection in ("version", "collections"):
            found = (self.shard_keys if request.collection == "collections" else
                     [SON([("_id", 1), ("clusterId", self.cluster)])])
            return (self._of_config(request, found) if self.sharded
                    else self._cursor(request, found, request.collection))
        if self.sharded and request.database in ("admin", "config"):
            return self._of_config(request, [])
        if request.collection == "oplog.rs":  # it shows what the stream does, and nothing else
            return self._cursor(request, [], request.collection)
        with self.changed:
            self._reach(request, self._asked(request))
            collection = self._collection(request)
            documents = [bson.decode(raw, ORDERED) for raw in
                         (collection["documents"] if collection else ())]
            documents = [found for found in documents if self._matches(found, body)]
            if "hint" in body and "$natural" not in body["hint"]:
                documents.sort(key=functools.cmp_to_key(
                    lambda one, two: compare_ids(one["_id"], two["_id"])))
            if body.get("projection") == {"_id": 1}:
                documents = [SON(_id=found["_id"]) for found in documents]
            elif body.get("projection"):
                return failure(2, "BadValue", "the fake knows no such projection")
            if body.get("limit"):
                documents = documents[:body["limit"]]
            return self._cursor(request, documents, request.collection,
                                body.get("batchSize") or BATCH_DOCUMENTS)

    @staticmethod
    def _matches(document, body):
        key, rest = document.get("_id"), dict(body.get("filter", {}))
        condition = rest.pop("_id", None)
        if rest:
            raise NotImplementedError("filter %s" % rest)
        if condition is not None and not isinstance(condition, dict):
            condition = {"$in": [condition]}
        for name, bound in (condition or {}).items():
            if name == "$in":
                if key not in bound:
                    return False
            elif name in ("$gte", "$lt"):
                if type_order(key) != type_order(bound):
                    return False
                if (compare_ids(key, bound) >= 0) != (name == "$gte"):
                    return False
            else:
                raise NotImplementedError(name)
        return not ("min" in body and compare_ids(key, body["min"]["_id"]) < 0 or
                    "max" in body and compare_ids(key, body["max"]["_id"]) >= 0)

    def do_aggregate(self, request):
        stages = request.body["pipeline"]
        first = next(iter(stages[0]))
        if first == "$changeStream":
            with self.changed:
                return self._open_stream(request, stages)
        with self.changed:
            self._reach(request, self._asked(request))
            collection = self._collection(request)
            documents = [bson.decode(raw, ORDERED) for raw in
                         (collection["documents"] if collection else ())]
        if first == "$sample":
            step = max(1, len(documents) // stages[0]["$sample"]["size"])
            return self._cursor(request, [SON(_id=found["_id"]) for found in documents[::step]],
                                request.collection, 100000)
        if first == "$collStats":
            if collection is None and self.version < (5,):
                return failure(40280, "Location40280", "Unable to retrieve storageStats in $collStats stage: "
                               "Collection [%s.%s] not found." % (request.database, request.collection))
            return self._cursor(request, [SON(storageStats=SON(
                [("count", len(documents)), ("size", sum(len(bson.encode(found))
                                                         for found in documents))]))],
                                request.collection)
        return failure(40324, "Location40324", "unrecognized stage %s" % first)

    def do_getMore(self, request):
        number = request.body["getMore"]
        with self.changed:
            cursor = self.cursors.get(number)
            if cursor is None:
                return failure(43, "CursorNotFound", "cursor id %d not found" % number)
            if isinstance(cursor, list):
                size = request.body.get("batchSize") or BATCH_DOCUMENTS
                left = cursor[size:]
                if left:
                    self.cursors[number] = left
                else:
                    del self.cursors[number]
                return SON([("cursor", SON([("nextBatch", cursor[:size]),
                                            ("id", Int64(number if left else 0)),
                                            ("ns", "%s.%s" % (request.database, request.collection))])),
                            ("operationTime", self._heard(self._asked(request)))])
            try:
                return self._more_events(request, number, cursor)
            except Refused:
                self.cursors.pop(number, None)
                raise

    # Streams ------------------------------------------------------------------------------------------------

    def _open_stream(self, request, stages):
        options = stages[0]["$changeStream"]
        unknown = set(options) - STREAM_OPTIONS
        if self.version < (6,) and "showExpandedEvents" in options:
            unknown = {"showExpandedEvents"}
        if unknown:
            return failure(40415, "Location40415", "BSON field '$changeStream.%s' is an unknown field."
                           % "".join(unknown))
        self._reach(request, self.shards)
        operation_time = self._heard(self.shards)
        token = self._start_of(options)
        error = None
        if token is None:
            token = self._token(operation_time if self.opaque else
                                Timestamp(self.known.time, self.known.inc + 1), event=False)
            positions = [len(shard.oplog) for shard in self.shards]
        else:
            positions = [self._position_of(shard, token) for shard in self.shards]
            error = self._why_lost(token)
        number = next(self.numbers)
        self.cursors[number] = {"positions": positions, "pipeline": stages, "token": token, "error": error,
                                "reads": 0}
        if error and request.body.get("cursor", {}).get("batchSize") != 0:
            raise self._lost(self.cursors.pop(number))
        self.opened.append(stages)
        return SON([("cursor", SON([("firstBatch", []), ("postBatchResumeToken", token),
                                    ("id", Int64(number)), ("ns", "admin.$cmd.aggregate")])),
                    ("operationTime", operation_time)])

    def _start_of(self, options):
        if "resumeAfter" in options and "startAtOperationTime" in options:
            raise Refused(40674, "Location40674", "Only one type of resume option is allowed, but multiple "
                          "were found.")
        if "resumeAfter" in options:
            problem = None if self.opaque else keystring.problem(options["resumeAfter"], self.version < (6,))
            if problem:
                raise Refused(problem[0], problem[1] or "Location%d" % problem[0], problem[2])
            return options["resumeAfter"]
        if "startAtOperationTime" in options:
            return self._token(options["startAtOperationTime"], event=False)
        return None

    def _time_of(self, token):
        if self.opaque:
            return bson.decode(bytes.fromhex(token["_data"]))["at"]
        return keystring.time_of(token)

    def _position_of(self, shard, token):
        """Behind the event of this token, or before all of its time when it is a high-water mark."""
        if self.opaque:
            time_ = self._time_of(token)
            for place, entry in enumerate(shard.oplog):
                if entry.token == token:
                    return place + 1
            delivered = bson.decode(bytes.fromhex(token["_data"]))["delivered"]
            if delivered >= 0:
                return delivered
            return next((place for place, entry in enumerate(shard.oplog) if entry.time > time_),
                        len(shard.oplog))
        return next((place for place, entry in enumerate(shard.oplog)
                     if entry.token["_data"] > token["_data"]), len(shard.oplog))

    def _why_lost(self, token):
        time_ = self._time_of(token)
        if self.oldest and time_ < self.oldest:
            return "history"
        if self.opaque or not keystring.is_event(token) or time_ > self.now():
            return None
        return None if any(entry.token == token for shard in self.shards for entry in shard.oplog) else "event"

    def _lost(self, cursor):
        """Why a stream ends; R streams.jsonl "lost position": only the first two have a label."""
        if cursor["error"] == "history":
            return Refused(286, "ChangeStreamHistoryLost", "Resume of change stream was not possible, as the "
                           "resume point may no longer be in the oplog.",
                           labels=["NonResumableChangeStreamError"])
        if cursor["error"] == "event":
            return Refused(280, "ChangeStreamFatalError", "cannot resume stream; the resume token was not "
                           "found. %s" % cursor["token"], labels=["NonResumableChangeStreamError"])
        if cursor["reads"]:
            return Refused(136, "CappedPositionLost", "Error in $cursor stage :: caused by :: CollectionScan "
                           "died due to failure to restore tailable cursor position.")
        return Refused(326, "OplogQueryMinTsMissing", "Specified minTs has already fallen off the oplog")

    def _passes(self, event, stages):
        if event["operationType"] in EXPANDED and not stages[0]["$changeStream"].get("showExpandedEvents"):
            return None
        for stage in stages[1:]:
            for name, body in stage.items():
                if name == "$match" and not matches_event(event, body):
                    return None
                if name == "$project":
                    event = projected(event, body)
        return event

    def _promise(self, shard):
        """What a shard's own stream has come to, as its token: no event of it will come before that."""
        if shard.oplog and shard.oplog[-1].time == shard.now:
            return shard.oplog[-1].token["_data"]
        return self._token(shard.now, event=False)["_data"]

    def _deliverable(self, cursor):
        """[(shard's place, entry)], in the order of the stream. A mongos gives nothing that another shard
        may still come before."""
        found = []
        for place, shard in enumerate(self.shards):
            end = len(shard.oplog) if self.held_from is None else self.held_from
            found += [(place, entry) for entry in shard.oplog[cursor["positions"][place]:end]]
        if not self.sharded:
            return found
        limit = min(map(self._promise, self.shards))
        return sorted(((place, entry) for place, entry in found if entry.token["_data"] <= limit),
                      key=lambda pair: pair[1].token["_data"])

    def _too_large(self, entry, cursor):
        """A $project lets it pass, but the user's stages run on the mongos, not on the shards (4.2 to 5.0)."""
        if not entry.large:
            return False
        at_once = self.sharded and self.version < (6,)
        return at_once or not any("$project" in stage for stage in cursor["pipeline"])

    def _more_events(self, request, number, cursor):
        deadline = time.monotonic() + request.body.get("maxTimeMS", 1000) / 1000
        batch, size, left = [], request.body.get("batchSize") or 1000, []
        while not batch:
            if cursor["error"]:
                raise self._lost(cursor)
            left = self._deliverable(cursor)
            while left and len(batch) < size:
                place, entry = left[0]
                if self._too_large(entry, cursor):
                    if batch:
                        break
                    self.failed_large += 1
                    faults.injected("event over 16 MB")
                    raise Refused(10334, "BSONObjectTooLarge", "BSONObj size: 17825792 is invalid")
                del left[0]
                cursor["positions"][place] += 1
                event = self._passes(entry.event, cursor["pipeline"])
                if event is not None:
                    batch.append(event)
            if batch or not self.changed.wait(max(0, deadline - time.monotonic())):
                break
        cursor["reads"] += 1
        self.idle += not batch
        cursor["token"] = self._token_after(cursor, batch, left)
        return SON([("cursor", SON([("nextBatch", batch),
                                    ("postBatchResumeToken", cursor["token"]),
                                    ("id", Int64(number)), ("ns", "admin.$cmd.aggregate")])),
                    ("operationTime", self._heard(self.shards))])

    def _token_after(self, cursor, batch, left):
        """A mongod's token is the event's own until something else happens; a mongos's is what the slowest
        shard has come to."""
        if self.sharded and not left:
            return {"_data": max(cursor["token"]["_data"], min(map(self._promise, self.shards)))}
        if batch:
            return batch[-1]["_id"]
        mark = self.now()
        if self._time_of(cursor["token"]) >= mark:
            return cursor["token"]
        return self._token(mark, event=False, delivered=cursor["positions"][0])


def projected(event, body):
    """With exclusions, or with inclusions, of top-level fields."""
    if all(value in (0, False) for name, value in body.items() if name != "_id"):
        return SON((key, value) for key, value in event.items() if key not in body)
    return SON((key, value) for key, value in event.items() if key == "_id" or key in body)


def matches_event(event, condition):
    """The operators that the engine's filter uses, on a path into the event."""
    for path, wanted in condition.items():
        if path in ("$or", "$and", "$nor"):
            results = [matches_event(event, part) for part in wanted]
            good = {"$or": any(results), "$and": all(results), "$nor": not any(results)}[path]
        else:
            value = event
            for part in path.split("."):
                value = value.get(part) if isinstance(value, dict) else None
            good = matches_value(value, wanted)
        if not good:
            return False
    return True


def matches_value(value, wanted):
    if not isinstance(wanted, dict) or not any(key.startswith("$") for key in wanted):
        return value == wanted
    for operator, operand in wanted.items():
        if operator == "$in":
            good = value in operand
        elif operator == "$nin":
            good = value not in operand
        elif operator == "$ne":
            good = value != operand
        elif operator == "$exists":
            good = (value is not None) == bool(operand)
        elif operator == "$not":
            good = not matches_value(value, operand)
        elif operator in ("$lt", "$lte", "$gt", "$gte"):
            good = isinstance(value, str) and {"$lt": value < operand, "$lte": value <= operand,
                                               "$gt": value > operand,
                                               "$gte": value >= operand}[operator]
        elif operator == "$regex":
            good = isinstance(value, str) and re.search(operand, value) is not None
        else:
            raise NotImplementedError(operator)
        if not good:
            return False
    return True
