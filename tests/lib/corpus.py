# SPDX-License-Identifier: Apache-2.0
"""corpus.py: data of every kind, for all scenario tests.

    plant(client)              a database "corpus" with every type as a value and as an _id, every
                               shape of document, collections with every kind of name
    Stirrer(client, seed)      changes that database while a job runs

What a server refuses is said in a `# left out` line: servers differ, and the corpus is what is left.
Documents are raw bytes, so that no driver puts them in order, unites their fields or reads them.
"""
import datetime
import random
import struct
import threading

import bson
from bson import (Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex,
                  Timestamp)
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from bson.son import SON
from pymongo.errors import AutoReconnect, DuplicateKeyError, OperationFailure

from compare import value_end

LARGEST = 16 * 1024 * 1024

# Equal numbers are one _id to a server, so each number stands here once, in one of its types.
IDS = [
    1, "1", 2.0, 2.5, Int64(3), Int64(1 << 62), -(1 << 31), Decimal128("4"), Decimal128("1.70"),
    Decimal128("5.000"), Decimal128("1E+40"), Decimal128("-1E-6176"), -0.0, 5e-324, 1.7e308,
    float("nan"), float("inf"), float("-inf"), MinKey(), MaxKey(), None, True, False,
    ObjectId("5f" * 12), ObjectId("00" * 12), "", "a\0b", "\u65e5\U0001f600", "x" * 900,
    Binary(b"", 0), Binary(b"1" * 16, 4), Binary(b"x", 128), Binary(b"1" * 16, 3),
    datetime.datetime(1960, 1, 1), datetime.datetime(9999, 12, 31), Timestamp(5, 6),
    Timestamp(0, 0), Code("f()"), Code("g()", {"a": 1}), DBRef("c", 1), {}, {"a": 1},
    SON([("a", 1), ("b", 2)]), SON([("b", 2), ("a", 1)]), {"deep": {"er": [1, {"x": 2}]}},
    {"n": Int64(1 << 40)},
]

VALUES = IDS + [
    Decimal128("1.0"), Decimal128("1.00"), Decimal128("10E-1"), Decimal128("NaN"),
    Decimal128("-Infinity"), Decimal128("-0"), Decimal128("0E+6111"), 0.1, -1, Int64(-1), [], [[]],
    [1, "a", None, {"b": []}], Regex("^a/b", "imsx"), Regex("", ""), Timestamp(0, 1),
    Binary(b"\0" * 33, 5), Binary(bytes(range(256)), 0), Binary(b"column", 7),
    "\ud7ff\ue000\uffff\U00010000\U0010ffff", "\u0000", "e\u0301", "\u00e9", "\u202eabc", "\ufeff",
    datetime.datetime(1, 1, 1), datetime.datetime(1970, 1, 1), "$field", "$$ROOT", {"$literal": 1},
    {"$expr": {"$eq": [1, 1]}},
]


def element(kind, name, value):
    """One BSON element as raw bytes, for what no driver writes any more."""
    return bytes([kind]) + name + b"\0" + value


def raw(*elements):
    body = b"".join(elements)
    return RawBSONDocument(struct.pack("<i", len(body) + 5) + body + b"\0")


def text(value):
    return struct.pack("<i", len(value) + 1) + value + b"\0"


def encoded(document):
    """The elements of a document."""
    return bson.encode(document)[4:-1]


def deprecated():
    """Undefined, symbol, DBPointer; as values and as an _id."""
    kinds = {"undefined": (0x06, b""), "symbol": (0x0E, text(b"sym")),
             "pointer": (0x0C, text(b"db.c") + bytes(range(12)))}
    for name, (kind, value) in kinds.items():
        yield raw(encoded({"_id": "deprecated " + name}), element(kind, b"v", value))
        yield raw(element(kind, b"_id", value), encoded({"deprecated": name}))


def deep(levels):
    document = {"bottom": 1}
    for _ in range(levels - 2):
        document = {"d": document}
    return document


def shapes():
    """Documents whose fields, not values, are special."""
    yield SON([("_id", "dotted"), ("a.b", 1), ("a", {"b": 2})])
    yield SON([("_id", "dollar"), ("$x", 1)])
    yield SON([("_id", "dollar-set"), ("$set", {"a": 1})])
    yield SON([("_id", "empty"), ("", 1)])
    yield SON([("_id", "nested"), ("a", SON([("$y", 1), ("x.y", 2), ("", 3)]))])
    yield SON([("_id", "numeric"), ("1", 1), ("0", {"2": 3})])
    yield SON([("_id", "order"), ("z", 1), ("a", 2), ("m", 3)])
    yield SON([("z", 1), ("_id", "id in the middle"), ("a", 2)])
    yield SON([("_id", "array"), ("items", list(range(10000)))])
    yield SON([("_id", "array of documents"), ("items", [{"n": n} for n in range(2000)])])
    yield SON([("_id", "deepest"), ("d", deep(99))])
    yield SON([("_id", "many fields")] + [("f%d" % n, n) for n in range(3000)])
    yield SON([("_id", "long name"), ("n" * 5000, 1)])
    yield SON([("_id", "names"), ("\u65e5\u672c", 1), ("\U0001f600", 2), ("\u00e9", 3),
               ("e\u0301", 4)])
    yield raw(encoded(SON([("_id", "twice"), ("a", 1)])), encoded({"a": 2}))
    yield raw(encoded(SON([("_id", "twice below"), ("x", 0)])),
              element(0x03, b"d", raw(encoded({"a": 1}), encoded({"a": 2})).raw))
    yield raw(encoded({"_id": "array keys"}),
              element(0x04, b"items", raw(element(0x10, b"7", b"\1\0\0\0"),
                                          element(0x10, b"x", b"\2\0\0\0")).raw))
    yield SON([("_id", "zero bytes"), ("text", "a\0b\0")])


def largest(number=0, spare=1):
    """A document of `spare` bytes under the limit."""
    overhead = len(bson.encode(SON([("_id", number), ("x", "")])))
    return SON([("_id", number), ("x", "y" * (LARGEST - overhead - spare))])


NAMES = [
    "with space", "dots.in.name", "\u00fcn\u00efc\u00f6d\u00e9.\u65e5\u672c\u8a9e",
    "emoji\U0001f600", "UPPER", "upper", "-dash", "quote\"'\\", "percent%s%n",
    "towline_lookalike", "\u0420\u0443\u0441\u0441\u043a\u0438\u0439",
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629", "\u05e2\u05d1\u05e8\u05d9\u05ea",
    "\u0939\u093f\u0928\u094d\u0926\u0940", "\u0e44\u0e17\u0e22", "\ud55c\uad6d\uc5b4",
    "\u10e5\u10d0\u10e0", "\u1208\u121b", "e\u0301", "\u00e9", "tab\tnew\nline",
    "x" * 200, "0",
]


def longest(database):
    """A collection whose namespace takes the 255 bytes that servers allow."""
    return "n" * (255 - len(database) - 1)


told = set()


def attempt(what, action):
    """True when the server took it; a server that lacks the feature refuses, which is said once."""
    try:
        action()
        return True
    except OperationFailure as error:
        reason = ("one key with another to this server" if isinstance(error, DuplicateKeyError)
                  else "refused by this server (%s)" % error.code)
        if what not in told:
            print("# left out, %s: %s" % (reason, what))
        told.add(what)
        return False


def insert(collection, what, document):
    return attempt(what, lambda: collection.insert_one(document))


def plant(client, database="corpus", large=0):
    """Fills the database; `large` documents of nearly 16 MB besides."""
    place = client[database]
    for number, identity in enumerate(IDS):
        insert(place["ids"], "_id %r" % (identity,), SON([("_id", identity), ("n", number)]))
    for number, value in enumerate(VALUES):
        insert(place["values"], "value %r" % (value,),
               SON([("_id", number), ("v", value), ("in", [value, {"v": value}])]))
    for document in list(shapes()) + list(deprecated()):
        insert(place["shapes"], "document %r" % document.get("_id", "?"), document)
    # A server fills in Timestamp(0,0) at the top level of an insert; $set sets it. A pipeline does so on the primary
    # alone: before 5.0 its oplog entry is a replacement, in which each secondary fills in a time of its own (4.4
    # db/update/object_replace_executor.cpp), and the members differ from then on.
    place["zero_timestamp"].insert_one(SON([("_id", 1), ("before", 1), ("t", 0), ("after", 2)]))
    place["zero_timestamp"].update_one({"_id": 1}, {"$set": {"t": Timestamp(0, 0)}})
    for name in NAMES + [longest(database)]:
        insert(place[name], "collection %r" % name[:40], {"_id": 1, "name": name})
    for number in range(large):
        insert(place["large"], "%d bytes under the limit" % (number + 1),
               largest(number, number + 1))


class Stirrer:
    """A thread that deletes, inserts again and changes documents of a planted database."""

    def __init__(self, client, seed, database="corpus", pace=0.01):
        self.place, self.random, self.pace = client[database], random.Random(seed), pace
        self.done, self.refused, self.error = 0, 0, None
        self.stopped = threading.Event()
        self.everything = [("ids", SON([("_id", identity), ("n", 0)])) for identity in IDS]
        self.everything += [("values", SON([("_id", number), ("v", value)]))
                            for number, value in enumerate(VALUES)]
        self.everything += [("shapes", document) for document in list(shapes()) +
                            list(deprecated()) if self._is_kept(document)]
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def _is_kept(self, document):
        """Whether an upsert keeps the document's bytes: not every server does, as when it unites
        fields of one name. There the documents are planted and left as they are."""
        collection = self.place.get_collection("upserted", CodecOptions(
            document_class=RawBSONDocument))
        which = by_id(document)
        try:
            collection.replace_one(which, document, upsert=True)
            kept = collection.find_one(which).raw == raw_of(document)
        except (OperationFailure, ValueError):
            kept = True  # fields that begin with a dollar: those are inserted
        collection.drop()
        return kept

    def _work(self):
        try:
            while not self.stopped.wait(self.pace):  # the pace, no synchronisation
                try:
                    self._step(*self.random.choice(self.everything))
                    self.done += 1
                except AutoReconnect:
                    continue  # the server is away, which the test means it to be
                except OperationFailure:
                    self.refused += 1  # what this server lacks, as when it was planted
        except Exception as error:
            self.error = error

    def _step(self, name, document):
        collection, dice = self.place[name], self.random.random()
        which = by_id(document)
        if dice < 0.4:
            collection.delete_one(which)
            collection.insert_one(document)
        elif dice < 0.6:
            collection.delete_one(which)
        elif dice < 0.8:
            collection.update_one(which, {"$set": {"stirred": self.random.choice(VALUES[:40]),
                                                   "at.%d" % (self.done % 5): self.done}})
        else:
            collection.update_one(which, [{"$unset": "n"},
                                          {"$set": {"n": {"$literal": self.done}}}])

    def stop(self):
        self.stopped.set()
        self.thread.join()
        if self.error:
            raise self.error


def by_id(document):
    """A filter for it, of raw bytes: a driver would not give back every _id as it was. With $eq, since
    a DBRef begins with a dollar."""
    found = element_of(document, b"_id")
    equal = raw(element(found[0], b"$eq", found[found.index(b"\0", 1) + 1:]))
    return raw(element(0x03, b"_id", equal.raw))


def raw_of(document):
    return document.raw if isinstance(document, RawBSONDocument) else bson.encode(document)


def element_of(document, name):
    """One element of a document, as its raw bytes."""
    data = raw_of(document)
    at = 4
    while data[at]:
        end = data.index(b"\0", at + 1)
        after = value_end(data, data[at], end + 1)
        if data[at + 1:end] == name:
            return data[at:after]
        at = after
    return b""
