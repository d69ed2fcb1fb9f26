"""fake.py: a deployment in memory that behaves as real ones do where the test server differs.

Resume tokens are KeyStrings, an idle stream's token is a high-water mark that moves with the oplog,
the clock stands still until the test moves it, min and max give sorted documents, a position that is
gone answers 286. It is a source: the test writes to it by calls, the engine reads it. Whatever a
server may answer besides is scripted (wire.py). It is small and slow, and knows only what the engine
asks of a source; anything else is refused as CommandNotFound, and an unknown stage or option as an
error, so that nothing passes unseen.

    fake = Fake()
    fake.insert("shop.a", {"_id": 1})
    fake.script.on("getMore", when=fake.is_stream).error(189, "PrimarySteppedDown")
    job(source=fake.uri, …)
    fake.tick(10)      # ten seconds later the primary writes a no-op
"""
import datetime
import functools
import itertools
import re
import threading
import time
import uuid

import bson
from bson import Binary, Int64, ObjectId, Timestamp
from bson.son import SON

from faults import faults
from wire import ORDERED, Peer, Request, failure, read_message

START_SECONDS = 1760000000
HIGH_WATER, EVENT = "29296E1404", "2C0100296E5A1004"  # behind the version, in a token of 7.0
BATCH_DOCUMENTS = 101


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


class Entry:
    """One change: its time, what the stream tells of it, and its token; large: as a whole the event
    is over 16 MB."""

    def __init__(self, time_, event, large):
        self.time, self.event, self.token, self.large = time_, event, event["_id"], large


class Fake(Peer):
    """sharded: it says that it is a mongos, and `config` is the time of its config servers, which a read
    of `admin` asks alone. opaque: tokens like the test server's, whose time runs ahead. version: as
    buildInfo tells."""

    def __init__(self, sharded=False, opaque=False, version="7.0.14"):
        self.sharded, self.opaque, self.version = sharded, opaque, version
        self.name = "fake%d" % (id(self) % 100000)
        self.cluster = ObjectId()
        self.seconds, self.increment = START_SECONDS, 0
        self.collections = {}     # "db.name": {"options", "uuid", "documents": [bson bytes]}
        self.oplog = []           # Entry, by time
        self.oldest = None        # a resume point before this time is gone
        self.held_from = None     # entries from this index on are not delivered yet
        self.held_at = None       # and this is the high-water mark meanwhile; None: it goes on
        self.config = None        # None: their time is everybody's
        self.cursors = {}         # id: whatever is left of it
        self.numbers = itertools.count(1000)
        self.opened = []          # pipelines of the streams
        self.idle = 0             # answers of streams without an event
        self.failed_large = 0     # answers that an event was too large
        self.gaps = []            # what it was asked and could not do
        self.shard_keys = []      # documents of config.collections
        self.indexes = {}         # ns: specifications besides the one on _id
        self.changed = threading.Condition(threading.RLock())  # guards all of the above
        super().__init__()

    # The clock and the writes: what the test does -------------------------------------------------

    def now(self):
        return Timestamp(self.seconds, self.increment)

    def _next(self):
        self.increment += 1
        return self.now()

    def tick(self, seconds):
        """Time passes; the primary writes its no-op."""
        with self.changed:
            self.seconds += seconds
            self.increment = 0
            self._next()
            self.changed.notify_all()

    def _token(self, time_, event=True):
        head = "82%08X%08X" % (time_.time, time_.inc)
        if self.opaque:  # BSON in hex, with a time somewhere, as the test server has it
            return {"_data": bson.encode(SON([("at", time_), ("n", len(self.oplog) if event else
                                                              -1)])).hex()}
        number = "%08X" % next(self.numbers) if event else ""
        return {"_data": head + "2B04" + (EVENT + "00" * 14 + number + "04" if event
                                          else HIGH_WATER)}

    def _put(self, ns, operation, key=None, large=False, **more):
        time_ = self._next()
        database, name = ns.split(".", 1)
        event = SON([("_id", self._token(time_)), ("operationType", operation),
                     ("clusterTime", time_),
                     ("ns", SON([("db", database), ("coll", name)]))])
        if key is not None:
            event["documentKey"] = SON([("_id", key)])
        event.update(more)
        self.oplog.append(Entry(time_, event, large))
        self.changed.notify_all()
        return time_

    def create(self, ns, **options):
        with self.changed:
            if ns not in self.collections:
                self.collections[ns] = {"options": SON(options), "uuid": uuid.uuid4(),
                                        "documents": []}
                self._put(ns, "create", operationDescription=SON(
                    [("idIndex", SON([("v", 2), ("key", SON(_id=1)), ("name", "_id_")]))]))
            return self.collections[ns]

    def documents(self, ns):
        with self.changed:
            return [bson.decode(raw, ORDERED) for raw in self.collections[ns]["documents"]]

    def insert(self, ns, *documents):
        with self.changed:
            collection = self.create(ns)
            for document in documents:
                raw = bson.encode(document)
                collection["documents"].append(raw)
                self._put(ns, "insert", document["_id"], fullDocument=bson.decode(raw, ORDERED))
        return self.now()

    def _replace(self, ns, key, make):
        documents = self.collections[ns]["documents"]
        for place, raw in enumerate(documents):
            if bson.decode(raw)["_id"] == key:
                documents[place] = bson.encode(make(bson.decode(raw, ORDERED)))
                return bson.decode(documents[place], ORDERED)
        raise KeyError(key)

    def update(self, ns, key, large=False, **fields):
        """large: its event would be, so that the stream fails at it unless it leaves fields out."""
        with self.changed:
            def put(document):
                document.update(fields)
                return document
            self._replace(ns, key, put)
            return self._put(ns, "update", key, large, updateDescription=SON(
                [("updatedFields", SON(fields)), ("removedFields", []), ("truncatedArrays", [])]))

    def delete(self, ns, key):
        with self.changed:
            documents = self.collections[ns]["documents"]
            documents[:] = [raw for raw in documents if bson.decode(raw)["_id"] != key]
            return self._put(ns, "delete", key)

    def unknown_event(self, ns, operation):
        with self.changed:
            return self._put(ns, operation)

    def hold(self):
        """opaque: from now on changes are made but not delivered, while the idle tokens go on."""
        faults.injected("idle tokens ahead of undelivered events")
        with self.changed:
            self.held_from = len(self.oplog)

    def hold_shard(self):
        """From now on one shard is silent: a mongos delivers nothing that others do, since it knows of the
        silent one no later time than that of the last change until now."""
        faults.injected("a silent shard holds back the others")
        with self.changed:
            self.held_from, self.held_at = len(self.oplog), self.now()

    def release(self):
        with self.changed:
            self.held_from = self.held_at = None
            self.changed.notify_all()

    def forget_history(self):
        """The oplog rolls over: every position until now is gone."""
        faults.injected("history forgotten")
        with self.changed:
            self.oldest = self._next()

    @staticmethod
    def is_stream(request):
        """For `when`: an aggregate that opens a change stream, or a getMore of one."""
        if request.name == "getMore":
            return request.collection == "$cmd.aggregate"
        return request.name == "aggregate" and "$changeStream" in str(request.body.get("pipeline"))

    # Serving ----------------------------------------------------------------------------------------

    def serve_connection(self, sock):
        while True:
            request = Request(read_message(sock))
            action = self.script.take(request)
            sock.sendall(action(request, self._serve) if action else self._serve(request))

    def _serve(self, request):
        method = getattr(self, "do_" + request.name, None)
        if method is None:
            return request.answer(failure(59, "CommandNotFound", "no such command: " +
                                          request.name))
        try:
            document = method(request)
        except Exception as error:  # a gap of the fake's must fail the test, not pass for an answer
            self.gaps.append("%s: %r" % (request.name, error))
            return request.answer(failure(8000, "FakeGap", repr(error)))
        with self.changed:
            document.setdefault("ok", 1.0)
            if not self.sharded or "operationTime" not in document:
                document.setdefault("operationTime", self.now())
            document["$clusterTime"] = SON([("clusterTime", self.now()), ("signature", SON(
                [("hash", b"\0" * 20), ("keyId", Int64(0))]))])
        return request.answer(document)

    def do_hello(self, request):
        with self.changed:
            document = SON([("isWritablePrimary", True), ("ismaster", True),
                            ("maxBsonObjectSize", 16777216), ("maxMessageSizeBytes", 48000000),
                            ("maxWriteBatchSize", 100000), ("logicalSessionTimeoutMinutes", 30),
                            ("minWireVersion", 0), ("maxWireVersion", 21), ("readOnly", False)])
            if self.sharded:
                document["msg"] = "isdbgrid"
            else:
                document.update(SON([
                    ("setName", self.name), ("setVersion", 1), ("secondary", False),
                    ("hosts", ["127.0.0.1:%d" % self.port]), ("me", "127.0.0.1:%d" % self.port),
                    ("primary", "127.0.0.1:%d" % self.port),
                    ("lastWrite", SON([
                        ("opTime", SON([("ts", self.now()), ("t", Int64(1))])),
                        ("lastWriteDate", datetime.datetime.fromtimestamp(self.seconds)),
                        ("majorityOpTime", SON([("ts", self.now()), ("t", Int64(1))]))]))]))
        return document

    do_isMaster = do_ismaster = do_hello

    def do_buildInfo(self, request):
        return SON([("version", self.version), ("versionArray", [
            int(part) for part in self.version.split(".")] + [0])])

    def do_ping(self, request):
        return SON()

    do_endSessions = do_ping

    def do_replSetGetConfig(self, request):
        if self.sharded:
            return failure(59, "CommandNotFound")
        return SON(config=SON([("_id", self.name), ("settings", SON(replicaSetId=self.cluster))]))

    def do_connectionStatus(self, request):
        return SON(authInfo=SON([("authenticatedUsers", []), ("authenticatedUserRoles", []),
                                 ("authenticatedUserPrivileges", [])]))

    def do_getParameter(self, request):
        return failure(72, "InvalidOptions", "no such parameter")

    def do_appendOplogNote(self, request):
        with self.changed:
            self._next()
            self.changed.notify_all()
            return SON(operationTime=self.now())

    def do_listDatabases(self, request):
        with self.changed:
            names = sorted({ns.split(".", 1)[0] for ns in self.collections})
        return SON([("databases", [SON([("name", name), ("sizeOnDisk", 8192.0), ("empty", False)])
                                   for name in names + ["admin", "local", "config"]]),
                    ("totalSize", 8192.0)])

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
        return self._cursor(request, [entry for entry in found
                                      if wanted in (None, entry["name"])], "$cmd.listCollections")

    def _collection(self, request, name=None):
        return self.collections.get("%s.%s" % (request.database, name or request.collection))

    def do_listIndexes(self, request):
        with self.changed:
            if self._collection(request) is None:
                return failure(26, "NamespaceNotFound", "ns does not exist")
            own = self.indexes.get("%s.%s" % (request.database, request.collection), [])
        return self._cursor(request, [SON([("v", 2), ("key", SON(_id=1)), ("name", "_id_")]), *own],
                            request.collection)

    def do_dataSize(self, request):
        with self.changed:
            collection = self.collections.get(request.body["dataSize"])
            documents = collection["documents"] if collection else []
            return SON([("size", sum(map(len, documents))), ("numObjects", len(documents))])

    def do_killCursors(self, request):
        with self.changed:
            for number in request.body["cursors"]:
                self.cursors.pop(number, None)
        return SON(cursorsKilled=list(request.body["cursors"]))

    # Reading ----------------------------------------------------------------------------------------

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
                        ("operationTime", self.now())])

    def do_find(self, request):
        body = request.body
        if request.database == "config" and request.collection == "version":
            return self._cursor(request, [SON([("_id", 1), ("clusterId", self.cluster)])],
                                "version")
        if request.database == "config" and request.collection == "collections":
            return self._cursor(request, self.shard_keys, "collections")
        known = {"find", "filter", "projection", "hint", "min", "max", "batchSize", "limit", "lsid",
                 "singleBatch", "noCursorTimeout", "readConcern", "maxTimeMS", "$db", "$clusterTime", "sort",
                 "$readPreference"}
        if set(body) - known:
            return failure(40415, "Location40415", "unknown field %s" % (set(body) - known))
        if self.sharded and request.database == "admin":
            answer = self._cursor(request, [], request.collection)
            answer["operationTime"] = self.config or self.now()
            return answer
        with self.changed:
            after = body.get("readConcern", {}).get("afterClusterTime")
            if after is not None and after > self.now():
                return failure(50, "MaxTimeMSExpired", "afterClusterTime is of the future")
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
            return self._open_stream(request, stages)
        with self.changed:
            collection = self._collection(request)
            documents = [bson.decode(raw, ORDERED) for raw in
                         (collection["documents"] if collection else ())]
        if first == "$sample":
            step = max(1, len(documents) // stages[0]["$sample"]["size"])
            return self._cursor(request, [SON(_id=found["_id"]) for found in documents[::step]],
                                request.collection, 100000)
        if first == "$collStats":
            return self._cursor(request, [SON(storageStats=SON(
                [("count", len(documents)), ("size", sum(len(bson.encode(found))
                                                         for found in documents))]))],
                                request.collection)
        return failure(40324, "Location40324", "unrecognized stage %s" % first)

    # Streams ----------------------------------------------------------------------------------------

    def _open_stream(self, request, stages):
        options = stages[0]["$changeStream"]
        unknown = set(options) - {"allChangesForCluster", "showExpandedEvents", "resumeAfter"}
        if unknown:
            return failure(40415, "Location40415", "unknown field %s" % unknown)
        with self.changed:
            position = len(self.oplog)
            resume = options.get("resumeAfter")
            if resume is not None:
                time_ = self._time_of(resume)
                if self.oldest and time_ < self.oldest:
                    return failure(286, "ChangeStreamHistoryLost",
                                   "Resume of change stream was not possible, as the resume point "
                                   "may no longer be in the oplog.",
                                   labels=["NonResumableChangeStreamError"])
                position = self._position_of(resume, time_)
            number = next(self.numbers)
            self.cursors[number] = {"position": position, "pipeline": stages,
                                    "token": resume or self._token(self.now(), event=False)}
            self.opened.append(stages)
            return SON([("cursor", SON([("firstBatch", []),
                                        ("postBatchResumeToken", self.cursors[number]["token"]),
                                        ("id", Int64(number)), ("ns", "admin.$cmd.aggregate")])),
                        ("operationTime", self.now())])

    def _time_of(self, token):
        data = token["_data"]
        if self.opaque:
            return bson.decode(bytes.fromhex(data))["at"]
        return Timestamp(int(data[2:10], 16), int(data[10:18], 16))

    def _position_of(self, token, time_):
        """Behind the event of this token, or before all of its time when it is a high-water mark."""
        for place, entry in enumerate(self.oplog):
            if entry.token == token:
                return place + 1
        if self.opaque:
            return next((place for place, entry in enumerate(self.oplog) if entry.time > time_),
                        len(self.oplog))
        return next((place for place, entry in enumerate(self.oplog)
                     if entry.time > time_ or (entry.time == time_ and entry.token["_data"] >
                                               token["_data"])), len(self.oplog))

    def _passes(self, event, stages):
        for stage in stages[1:]:
            for name, body in stage.items():
                if name == "$match" and not matches_event(event, body):
                    return None
                if name == "$project":
                    event = SON((key, value) for key, value in event.items()
                                if key == "_id" or key in body)
        return event

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
                                            ("ns", "x")])), ("operationTime", self.now())])
            return self._more_events(request, number, cursor)

    def _more_events(self, request, number, cursor):
        deadline = time.monotonic() + request.body.get("maxTimeMS", 1000) / 1000
        batch, size = [], request.body.get("batchSize") or 1000
        while not batch:
            end = len(self.oplog) if self.held_from is None else self.held_from
            while cursor["position"] < end and len(batch) < size:
                entry = self.oplog[cursor["position"]]
                if entry.large and not any("$project" in stage for stage in cursor["pipeline"]):
                    if batch:
                        break
                    self.failed_large += 1
                    faults.injected("event over 16 MB")
                    return failure(10334, "BSONObjectTooLarge", "BSONObj size: 17825792 is invalid")
                cursor["position"] += 1
                event = self._passes(entry.event, cursor["pipeline"])
                if event is not None:
                    batch.append(event)
            if batch or not self.changed.wait(max(0, deadline - time.monotonic())):
                break
        if batch:
            cursor["token"] = batch[-1]["_id"]
        else:
            self.idle += 1
        mark = self.held_at or self.now()
        if not batch and self._time_of(cursor["token"]) < mark:
            cursor["token"] = self._token(mark, event=False)
        return SON([("cursor", SON([("nextBatch", batch),
                                    ("postBatchResumeToken", cursor["token"]),
                                    ("id", Int64(number)), ("ns", "admin.$cmd.aggregate")])),
                    ("operationTime", self.now())])


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
