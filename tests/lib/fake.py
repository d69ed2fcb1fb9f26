# SPDX-License-Identifier: Apache-2.0
"""fake.py: a deployment in memory that behaves as real ones do where the test server differs.

Resume tokens are those of real servers (keystring.py), a stream's first reply is a high-water mark later than
its operationTime, an idle stream's token moves with the oplog, the clock stands still until the test moves
it, min and max give sorted documents, a position that is gone answers 286 at the first getMore. With
sharded=True it is a mongos with two shards (or more), each with its own clock and oplog, and a config server
with a third: the merged stream waits for the slowest shard. It is a source: the test writes to it by calls,
the engine reads it (fake_answers.py). Whatever a server may answer besides is scripted (wire.py). It is small
and slow, and knows only what the engine asks of a source; anything else is refused as CommandNotFound, and
an unknown stage or option as an error, so that nothing passes unseen. What it claims to know is held to the
recordings of real servers by tests/fault/recorded.py.

    fake = Fake()
    fake.insert("shop.a", {"_id": 1})
    fake.script.on("getMore", when=fake.is_stream).error(189, "PrimarySteppedDown")
    job(source=fake.uri, …)
    fake.tick(10)      # ten seconds later the primary writes a no-op
"""
import threading
import time
import uuid
import zlib

import bson
from bson import Int64, ObjectId, Timestamp
from bson.son import SON

import keystring
from fake_answers import Answers
from faults import faults
from wire import ORDERED

# Lines of recordings/*.jsonl that it answers as a real 4.4.6 does: as a mongod, as a mongos.
CLAIMS = {"handshake": (1, 4, 13, 15, 16, 17, 65, 66, 101),
          "refusals": (174, 176, 195, 262, 307, 308, 309, 310, 313, 367, 368, 369),
          "capped": (12,),
          "streams": (0, 1, 3, 5, 171, 172, 180, 186, 188, 189, 190, 191, 193, 194, 195, 196, 197, 198, 199,
                      213, 255, 256, 257, 258, 259, 260, 261)}
CLUSTER_CLAIMS = {"handshake": (108, 113, 114, 115, 117, 118, 124, 128, 140, 145),
                  "cluster": (1, 2, 3, 8, 10, 23, 26, 27, 28, 30, 31, 35, 60, 152)}
START_SECONDS = 1760000000
NOOP_SECONDS = 10  # a real primary looks every ten seconds whether it was idle


class Entry:
    """One change: its time, what the stream tells of it, and its token; large: as a whole the event
    is over 16 MB."""

    def __init__(self, time_, event, large):
        self.time, self.event, self.token, self.large = time_, event, event["_id"], large


class Shard:
    """One replica set: its oplog without the no-ops, and the time of its newest entry, no-ops included."""

    def __init__(self, fake, name):
        self.fake, self.name = fake, name
        self.oplog = []            # Entry, by time
        self.now = Timestamp(fake.seconds, 1)
        self.silent = False        # it writes no no-op by itself, as for ten seconds after a write
        self.wrote = time.monotonic()

    def next(self, after=None):
        """The time of a new entry; after: a time that it has been told of."""
        # What it is sent through the mongos tells it of the newest time.
        floor = max(self.now, after or self.now, getattr(self.fake, "known", self.now))
        self.now = (Timestamp(self.fake.seconds, 1) if floor.time < self.fake.seconds
                    else Timestamp(floor.time, floor.inc + 1))
        self.wrote = time.monotonic()
        return self.now


class Fake(Answers):
    """sharded: it says that it is a mongos; a number: of that many shards. opaque: tokens like the test
    server's, whose time runs ahead. version: as buildInfo tells. roles: a user of roles.py, or None for one
    who may do everything."""

    def __init__(self, sharded=False, opaque=False, version="7.0.14", roles=None):
        self.sharded, self.opaque, self.text, self.roles = bool(sharded), opaque, version, roles
        self.version = tuple(int(part) for part in version.split("."))
        self.seconds, self.noop_seconds = START_SECONDS, NOOP_SECONDS
        count = 1 if not sharded else 2 if sharded is True else sharded
        self.shards = [Shard(self, "cls%d" % number) for number in range(count)]
        self.known = self.now()   # the newest time that the server which is asked has heard of
        self.config = None        # the config server's time; None: it writes a no-op each second
        self.spread = {}          # ns of a sharded collection: the fields of its key
        self.primaries = {}       # database: its primary shard; the first one otherwise
        self.collections = {}     # "db.name": {"options", "uuid", "documents": [bson bytes]}
        self.oldest = None        # a resume point before this time is gone
        self.held_from = None     # entries from this index on are not delivered yet
        self.shard_keys = []      # documents of config.collections
        self.indexes = {}         # ns: specifications besides the one on _id
        self.changed = threading.Condition(threading.RLock())  # guards all of the above
        super().__init__()

    @property
    def oplog(self):
        """Of the first shard; the only one unless it is sharded."""
        return self.shards[0].oplog

    # The clock ----------------------------------------------------------------------------------------

    def now(self):
        """The time of the newest entry of all."""
        return max(shard.now for shard in self.shards)

    def tick(self, seconds):
        """Time passes; every primary that is not silent writes its no-op."""
        with self.changed:
            self.seconds += seconds
            for shard in self.shards:
                if not shard.silent:
                    shard.next()
            self.changed.notify_all()

    def run(self):
        """From now on the clock goes by itself, and a primary writes a no-op when it was idle for long."""
        def work():
            last = time.monotonic()
            while not self.refusing:
                time.sleep(0.1)  # this is the clock
                with self.changed:
                    passed = int(time.monotonic() - last)
                    self.seconds, last = self.seconds + passed, last + passed
                    for shard in self.shards:
                        if not shard.silent and time.monotonic() - shard.wrote >= self.noop_seconds:
                            shard.next()
                            self.changed.notify_all()
        threading.Thread(target=work, daemon=True).start()

    def silence(self, number, silent=True):
        """This shard writes no no-op by itself. It still writes one where a reader waits for a time."""
        faults.injected("a silent shard holds back the others")
        with self.changed:
            self.shards[number].silent = silent

    # Writes: what the test does -------------------------------------------------------------------------

    def _token(self, time_, event=True, ns=None, key=None, place=0, delivered=-1):
        """delivered: of an idle stream, how many entries it has looked at. A stream that goes on after an
        opaque token begins there, whatever the token's time is ahead of."""
        if self.opaque:  # BSON in hex, with a time somewhere, as the test server has it
            return {"_data": bson.encode(SON([("at", time_), ("n", len(self.oplog) if event else -1),
                                              ("delivered", delivered)])).hex()}
        old = self.version < (6,)
        if not event:
            return keystring.high_water(time_, old)
        collection = self.collections.get(ns)
        return keystring.event(time_, old, collection["uuid"] if collection else None,
                               key.items() if key is not None else None, place)

    def home(self, ns, key=None):
        """The shard that a document, or an unsharded collection, is on."""
        if ns in self.spread and key is not None:
            return self.shards[zlib.crc32(repr(key).encode()) % len(self.shards)]
        return self.primaries.get(ns.split(".", 1)[0], self.shards[0])

    def homes(self, ns):
        return self.shards if ns in self.spread else [self.home(ns)]

    def _put(self, ns, operation, key=None, large=False, shard=None, at=None, **more):
        """at: the time, where it must be a certain one; not before the shard's newest entry."""
        shard = shard or self.home(ns, key)
        if at is None:
            at = shard.next()
        else:
            assert at >= shard.now, "the oplog of %s is at %s" % (shard.name, shard.now)
            shard.now = at
        database, name = ns.split(".", 1) if "." in ns else (ns, None)
        document_key = None
        if key is not None:
            document_key = SON([(field, more.get("fullDocument", {}).get(field))
                                for field in self.spread.get(ns, ()) if field != "_id"] + [("_id", key)])
        event = SON([("_id", self._token(at, True, ns, document_key, more.pop("place", 0))),
                     ("operationType", operation), ("clusterTime", at),
                     ("ns", SON([("db", database)] + ([("coll", name)] if name else [])))])
        if key is not None:
            event["documentKey"] = document_key
        event.update(more)
        shard.oplog.append(Entry(at, event, large))
        self.changed.notify_all()
        return at

    def create(self, ns, **options):
        with self.changed:
            if ns not in self.collections:
                self.collections[ns] = {"options": SON(options), "uuid": uuid.uuid4(),
                                        "documents": []}
                self._put(ns, "create", operationDescription=SON(
                    [("idIndex", SON([("v", 2), ("key", SON(_id=1)), ("name", "_id_")]))]))
            return self.collections[ns]

    def shard_collection(self, ns, *fields):
        """Its documents are spread over the shards; the fields of the key are `_id` unless given."""
        with self.changed:
            self.create(ns)
            self.spread[ns] = fields or ("_id",)

    def documents(self, ns):
        with self.changed:
            return [bson.decode(raw, ORDERED) for raw in self.collections[ns]["documents"]]

    def insert(self, ns, *documents, shard=None):
        with self.changed:
            collection = self.create(ns)
            for document in documents:
                raw = bson.encode(document)
                collection["documents"].append(raw)
                self._put(ns, "insert", document["_id"], fullDocument=bson.decode(raw, ORDERED),
                          shard=self.shards[shard] if shard is not None else None)
        return self.now()

    def _replace(self, ns, key, make):
        documents = self.collections[ns]["documents"]
        for place, raw in enumerate(documents):
            if bson.decode(raw)["_id"] == key:
                documents[place] = bson.encode(make(bson.decode(raw, ORDERED)))
                return bson.decode(documents[place], ORDERED)
        raise KeyError(key)

    def update(self, ns, key, large=False, shard=None, **fields):
        """large: its event would be, so that the stream fails at it unless it leaves fields out."""
        with self.changed:
            def put(document):
                document.update(fields)
                return document
            self._replace(ns, key, put)
            description = SON([("updatedFields", SON(fields)), ("removedFields", [])])
            if self.version >= (4, 7):
                description["truncatedArrays"] = []
            return self._put(ns, "update", key, large, updateDescription=description,
                             shard=self.shards[shard] if shard is not None else None)

    def delete(self, ns, key, shard=None):
        with self.changed:
            documents = self.collections[ns]["documents"]
            documents[:] = [raw for raw in documents if bson.decode(raw)["_id"] != key]
            return self._put(ns, "delete", key, shard=self.shards[shard] if shard is not None else None)

    def unknown_event(self, ns, operation):
        with self.changed:
            return self._put(ns, operation)

    # What only a cluster does -----------------------------------------------------------------------------

    def move(self, ns, key, insert_first=False, equal=False, **fields):
        """An update that changes the document's shard key, so that it moves to the other shard: a transaction
        of both. The order of its two events is that of their times, or of their tokens where those are
        equal; R cluster.jsonl saw 53 of 721 moves with the insert first."""
        with self.changed:
            def put(document):
                document.update(fields)
                return document
            document = self._replace(ns, key, put)
            old, new = self.shards[0], self.shards[1]
            start = max(old.now, new.now, Timestamp(self.seconds, 0))
            first = Timestamp(start.time, start.inc + 1)
            second = first if equal else Timestamp(start.time, start.inc + 2)
            more = {"txnNumber": Int64(1), "lsid": SON([("id", bson.Binary(uuid.uuid4().bytes, 4))])}
            whole = {"fullDocument": document, **more}
            times = (second, first) if insert_first else (first, second)
            # Of equal times the token of the higher place comes last, as that of a higher shard key would.
            self._put(ns, "delete", key, shard=old, at=times[0], place=int(equal and insert_first), **more)
            self._put(ns, "insert", key, shard=new, at=times[1], place=int(equal and not insert_first),
                      **whole)

    def move_primary(self, database, number):
        """The old primary drops what it had of the database; what lives on is another collection to it."""
        with self.changed:
            old = self.primaries.get(database, self.shards[0])
            for ns in [ns for ns in self.collections if ns.split(".", 1)[0] == database]:
                if ns not in self.spread:
                    self._put(ns, "drop", shard=old)
                    self.collections[ns]["uuid"] = uuid.uuid4()
            self.primaries[database] = self.shards[number]

    def drop(self, ns, at=None):
        """One event of each shard that has it."""
        with self.changed:
            for shard in self.homes(ns):
                self._put(ns, "drop", shard=shard, at=at)
            self.collections.pop(ns)
            self.spread.pop(ns, None)

    def drop_database(self, database):
        with self.changed:
            for ns in [ns for ns in self.collections if ns.split(".", 1)[0] == database]:
                self.drop(ns)
            for shard in self.shards:
                self._put(database, "dropDatabase", shard=shard)

    def rename(self, ns, to):
        """Of a sharded collection (5.0+) one event of each shard."""
        with self.changed:
            target, other = to.split(".", 1)
            for shard in self.homes(ns):
                self._put(ns, "rename", shard=shard, to=SON([("db", target), ("coll", other)]))
            self.collections[to] = self.collections.pop(ns)
            if ns in self.spread:
                self.spread[to] = self.spread.pop(ns)

    # What goes wrong --------------------------------------------------------------------------------------

    def hold(self):
        """opaque: from now on changes are made but not delivered, while the idle tokens go on."""
        faults.injected("idle tokens ahead of undelivered events")
        with self.changed:
            self.held_from = len(self.oplog)

    def release(self):
        with self.changed:
            self.held_from = None
            for shard in self.shards:
                shard.silent = False
            self.changed.notify_all()

    def forget_history(self):
        """The oplog rolls over: every position until now is gone. Streams that have not read all of it yet
        are overtaken."""
        faults.injected("history forgotten")
        with self.changed:
            for cursor in self.cursors.values():
                if isinstance(cursor, dict) and any(
                        position < len(shard.oplog) for position, shard in
                        zip(cursor["positions"], self.shards)):
                    cursor["error"] = "overtaken"
            self.oldest = max(shard.next() for shard in self.shards)

    def lose_oplog(self):
        """The same, and the entries are gone, so that no stream will tell of them."""
        with self.changed:
            for shard in self.shards:
                shard.oplog.clear()
            for cursor in self.cursors.values():
                if isinstance(cursor, dict):
                    cursor["positions"] = [0] * len(self.shards)
            self.oldest = self.now()

    @staticmethod
    def is_stream(request):
        """For `when`: an aggregate that opens a change stream, or a getMore of one."""
        if request.name == "getMore":
            return request.collection == "$cmd.aggregate"
        return request.first_stage == "$changeStream"
