#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""compare.py: the independent comparison of two deployments, used by all scenario tests.

It shares no code and no idea with the engine's verifier: it reads every user namespace of both
servers whole and compares the bytes. Documents are a multiset keyed by the raw bytes of their _id
element, so 1 and 1.0 are two keys, field order counts, and a document that exists twice is seen.

    compare.py [--ignore-ttl] [--capped-order] SOURCE-URI DESTINATION-URI

prints one line for each difference; the exit status is 0 when there is none, 1 otherwise.
"""
import argparse
import collections
import hashlib
import struct
import sys

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.son import SON
from pymongo import MongoClient
from pymongo.read_concern import ReadConcern

INTERNAL = ("admin", "local", "config")
ORDERED = CodecOptions(document_class=SON, datetime_conversion=DatetimeConversion.DATETIME_AUTO)
LISTED_AT_MOST = 20  # differing documents named for each collection; all are counted

# kind: "missing" and "extra" (as seen from the source), "content", "order", "options", "indexes"
Difference = collections.namedtuple("Difference", "namespace kind text")


def is_user_database(name):
    return name not in INTERNAL and not name.startswith("towline_")


def is_user_collection(name):
    """system.js is data; the other system collections are never replicated."""
    return name == "system.js" or not name.startswith("system.")


# Sizes of the values whose length the type alone tells.
FIXED = {0x01: 8, 0x06: 0, 0x07: 12, 0x08: 1, 0x09: 8, 0x0A: 0, 0x10: 4, 0x11: 8, 0x12: 8,
         0x13: 16, 0x7F: 0, 0xFF: 0}


def value_end(data, kind, start):
    """The offset behind a value of BSON type `kind` that begins at `start`."""
    if kind in FIXED:
        return start + FIXED[kind]
    if kind in (0x03, 0x04, 0x0F):  # document, array, code with scope: the length counts itself
        return start + struct.unpack_from("<i", data, start)[0]
    if kind in (0x02, 0x0D, 0x0E):  # string, code, symbol
        return start + 4 + struct.unpack_from("<i", data, start)[0]
    if kind == 0x05:
        return start + 5 + struct.unpack_from("<i", data, start)[0]
    if kind == 0x0B:
        return data.index(b"\0", data.index(b"\0", start) + 1) + 1
    if kind == 0x0C:
        return start + 4 + struct.unpack_from("<i", data, start)[0] + 12
    raise ValueError("BSON type 0x%02x is unknown" % kind)


def id_bytes(document):
    """Type and value of the top-level _id as raw bytes; b"" for a document without one."""
    at, end = 4, len(document) - 1
    while at < end:
        kind = document[at]
        name_end = document.index(b"\0", at + 1)
        after = value_end(document, kind, name_end + 1)
        if document[at + 1:name_end] == b"_id":
            return document[at:at + 1] + document[name_end + 1:after]
        at = after
    return b""


def show_id(raw):
    """The _id as people read it, for messages."""
    if not raw:
        return "(no _id)"
    element = raw[:1] + b"_id\0" + raw[1:]
    document = struct.pack("<i", len(element) + 5) + element + b"\0"
    return repr(bson.decode(document, ORDERED)["_id"])[:200]


def split_batch(batch):
    """The documents of a raw batch: BSON documents one behind the other."""
    at = 0
    while at < len(batch):
        length = struct.unpack_from("<i", batch, at)[0]
        yield batch[at:at + length]
        at += length


def read_documents(database, name, capped):
    """(Counter of (raw _id, digest), list of raw _ids in natural order for a capped collection)."""
    found, order = collections.Counter(), []
    cursor = database[name].find_raw_batches(batch_size=10000)
    if capped:
        cursor.sort([("$natural", 1)])
    for batch in cursor:
        for document in split_batch(batch):
            key = id_bytes(document)
            found[(key, hashlib.blake2b(document, digest_size=16).digest())] += 1
            if capped:
                order.append(key)
    return found, order


def value_bytes(value):
    return bson.encode(SON([("v", value)]))


def fields_of(document, without):
    """Top-level fields by name, each with its value's bytes: only their order may differ."""
    return {name: value_bytes(value) for name, value in document.items() if name not in without}


def decoded(value):
    return bson.decode(value, ORDERED)["v"]


def compare_fields(source, destination):
    """What differs between two results of fields_of, as text, or None."""
    parts = []
    for name in sorted(set(source) | set(destination)):
        if source.get(name) != destination.get(name):
            values = ["absent" if fields.get(name) is None else repr(decoded(fields[name]))
                      for fields in (source, destination)]
            parts.append("%s: source %s, destination %s" % (name, values[0], values[1]))
    return "; ".join(parts)[:2000] or None


def read_catalog(client, takes):
    """{namespace: listCollections entry} of all user namespaces that `takes` accepts."""
    catalog = {}
    for name in client.list_database_names():
        if not is_user_database(name):
            continue
        database = client.get_database(name, codec_options=ORDERED)
        for entry in database.list_collections():
            if is_user_collection(entry["name"]) and takes(name, entry["name"]):
                catalog[name + "." + entry["name"]] = entry
    return catalog


def read_indexes(database, name, ignore_ttl):
    indexes = {}
    for entry in database[name].list_indexes():
        without = ("v", "ns") + (("expireAfterSeconds",) if ignore_ttl else ())
        if isinstance(entry.get("expireAfterSeconds"), int):  # a real collMod stores every number as int64
            entry["expireAfterSeconds"] = int(entry["expireAfterSeconds"])
        indexes[entry["name"]] = fields_of(entry, without)
    return indexes


def connect(uri):
    return MongoClient(uri, appname="towline-compare", serverSelectionTimeoutMS=20000)


def compare_documents(namespace, capped, capped_order, source, destination):
    (left, left_order), (right, right_order) = source, destination
    differences = []
    if left != right:
        only_left, only_right = left - right, right - left
        left_keys = {key for key, _ in only_left}
        right_keys = {key for key, _ in only_right}
        kinds = (("content", left_keys & right_keys, "differs in content"),
                 ("missing", left_keys - right_keys, "is missing at the destination"),
                 ("extra", right_keys - left_keys, "is not at the source"))
        for kind, keys, what in kinds:
            for key in sorted(keys)[:LISTED_AT_MOST]:
                differences.append(Difference(namespace, kind, "_id %s %s" % (show_id(key), what)))
            if len(keys) > LISTED_AT_MOST:
                differences.append(Difference(namespace, kind, "%d more documents: %s"
                                              % (len(keys) - LISTED_AT_MOST, what)))
    elif capped and capped_order and left_order != right_order:
        differences.append(Difference(namespace, "order", "natural order differs"))
    return differences


def compare(source_uri, destination_uri, takes=None, ignore_ttl=False, capped_order=False):
    """The list of all differences between both deployments; empty when they are equal.

    takes(database, collection) restricts the comparison; by default every user namespace counts.
    """
    takes = takes or (lambda database, collection: True)
    differences = []
    with connect(source_uri) as source, connect(destination_uri) as destination:
        catalogs = [read_catalog(client, takes) for client in (source, destination)]
        for namespace in sorted(set(catalogs[0]) | set(catalogs[1])):
            entries = [catalog.get(namespace) for catalog in catalogs]
            if entries[1] is None:
                differences.append(Difference(namespace, "missing", "missing at the destination"))
                continue
            if entries[0] is None:
                differences.append(Difference(namespace, "extra", "not at the source"))
                continue
            differences += compare_namespace(namespace, entries, (source, destination),
                                             ignore_ttl, capped_order)
    return differences


def compare_namespace(namespace, entries, clients, ignore_ttl, capped_order):
    differences = []
    types = [entry.get("type", "collection") for entry in entries]
    if types[0] != types[1]:
        return [Difference(namespace, "options", "source is a %s, destination a %s"
                           % (types[0], types[1]))]
    text = compare_fields(*[fields_of(entry.get("options", {}), ("uuid",)) for entry in entries])
    if text:
        differences.append(Difference(namespace, "options", text))
    text = compare_fields(*[fields_of(entry.get("idIndex", {}), ("v", "ns")) for entry in entries])
    if text:
        differences.append(Difference(namespace, "indexes", "_id index: " + text))
    if types[0] == "view":
        return differences
    database, name = namespace.split(".", 1)
    databases = [client.get_database(database, codec_options=ORDERED,
                                     read_concern=ReadConcern("majority")) for client in clients]
    left, right = [read_indexes(side, name, ignore_ttl) for side in databases]
    for index in sorted(set(left) | set(right)):
        if index not in right:
            text = "index %s is missing at the destination" % index
        elif index not in left:
            text = "index %s is not at the source" % index
        else:
            text = compare_fields(left[index], right[index])
            text = text and "index %s: %s" % (index, text)
        if text:
            differences.append(Difference(namespace, "indexes", text))
    capped = bool(entries[0].get("options", {}).get("capped"))
    documents = [read_documents(side, name, capped) for side in databases]
    return differences + compare_documents(namespace, capped, capped_order, *documents)


def snapshot(uri):
    """Everything that a deployment holds, towline's own databases too, as a comparable value: two
    equal snapshots mean that nothing was written in between that is still there."""
    content = {}
    with connect(uri) as client:
        for database_name in client.list_database_names():
            if database_name in INTERNAL:
                continue
            database = client.get_database(database_name, codec_options=ORDERED)
            for entry in database.list_collections():
                name = entry["name"]
                view = entry.get("type") == "view"
                content[database_name + "." + name] = (
                    bson.encode(entry),
                    None if view else read_documents(database, name, False)[0],
                    None if view else str(read_indexes(database, name, False)))
    return content


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", metavar="SOURCE-URI")
    parser.add_argument("destination", metavar="DESTINATION-URI")
    parser.add_argument("--ignore-ttl", action="store_true",
                        help="expireAfterSeconds of indexes may differ, as before a cutover")
    parser.add_argument("--capped-order", action="store_true",
                        help="the natural order of capped collections must be equal too")
    arguments = parser.parse_args()
    differences = compare(arguments.source, arguments.destination,
                          ignore_ttl=arguments.ignore_ttl, capped_order=arguments.capped_order)
    for difference in differences:
        print("%s: %s: %s" % difference)
    print("equal" if not differences else "%d differences" % len(differences))
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
