# SPDX-License-Identifier: Apache-2.0
"""recorded.py: exchanges with real servers, and whether a double answers in the same way.

recordings/*.jsonl hold the lines of shared/recordings (real 4.4.6) that a double claims to know: its
CLAIMS name them. A Replay sends a line's request, with the double's own cursors, tokens and times put in,
and compares the reply with the recorded one: its fields and their types, code, codeName, labels, the
places of write errors, the number of documents, the kinds of events, and for a token whether it is an
event's or a high-water mark.

    recorded.py --take FOLDER    copies what is claimed from the folder of the recordings
"""
import json
import pathlib
import socket
import struct
import sys

import bson
from bson import Timestamp, json_util
from bson.json_util import JSONOptions
from bson.son import SON

from wire import read_message, reply_body

FOLDER = pathlib.Path(__file__).resolve().parent / "recordings"
READING = JSONOptions(json_mode=2, document_class=SON, tz_aware=False)
# Left out of many lines, or different on every machine; see the recordings' README.
IGNORED = {"$clusterTime", "operationTime", "opTime", "electionId", "topologyVersion", "$gleStats",
           "lastCommittedOpTime", "$configServerState", "errmsg", "retriedStmtIds"}
NUMBERS = {int: "int", float: "double", bson.Int64: "long"}


def load(name, line):
    """(note, request, reply) of a line of a file."""
    with open(FOLDER / (name + ".jsonl"), encoding="utf-8") as file:
        for text in file:
            entry = json_util.loads(text, json_options=READING)
            if int(entry["line"]) == line:
                return entry["note"], entry["request"], entry["reply"]
    raise KeyError("%s:%d is not in %s; take it again" % (name, line, FOLDER))


def take(folder, claims):
    FOLDER.mkdir(exist_ok=True)
    for name in sorted({name for name, _ in claims}):
        wanted = {line for other, line in claims if other == name}
        with open(pathlib.Path(folder) / (name + ".jsonl"), encoding="utf-8") as source, \
                open(FOLDER / (name + ".jsonl"), "w", encoding="utf-8") as target:
            for number, text in enumerate(source):
                if number in wanted:
                    entry = {"line": number, **json.loads(text)}
                    entry.pop("decoded", None)
                    target.write(json.dumps(entry, ensure_ascii=False) + "\n")


class Connection:
    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port))

    def send(self, document):
        data = bson.encode(document)
        payload = struct.pack("<I", 0) + b"\0" + data
        self.sock.sendall(struct.pack("<iiii", 16 + len(payload), 1, 0, 2013) + payload)
        return reply_body(read_message(self.sock))

    def close(self):
        self.sock.close()


def kind(value):
    return NUMBERS.get(type(value), "document" if isinstance(value, dict) else type(value).__name__)


def token_kind(token):
    data = token.get("_data", "")
    return "event" if data[22:28] == "2C0100" else "high water mark" if data[22:24] == "29" else "opaque"


def shape_differences(recorded, got, partial, path=""):
    """Names of what differs. partial: the double may leave fields out."""
    found = []
    for name in got:
        if name not in recorded and name not in IGNORED:
            found.append("%s%s is not in the recording" % (path, name))
    for name, value in recorded.items():
        if name in IGNORED:
            continue
        here = path + name
        if name not in got:
            if name not in partial and "*" not in partial:
                found.append("%s is missing" % here)
        elif kind(value) != kind(got[name]):
            found.append("%s is %s, recorded %s" % (here, kind(got[name]), kind(value)))
        elif name in ("code", "codeName", "errorLabels", "index", "operationType", "ok", "n", "nModified"):
            if value != got[name]:
                found.append("%s is %r, recorded %r" % (here, got[name], value))
        elif name == "postBatchResumeToken" or name == "_id" and "_data" in (
                value if isinstance(value, dict) else {}):
            if "opaque" != token_kind(got[name]) != token_kind(value):
                found.append("%s is a token of: %s, recorded: %s" % (here, token_kind(got[name]),
                                                                    token_kind(value)))
        elif name in ("firstBatch", "nextBatch", "writeErrors", "indexes"):
            found += list_differences(value, got[name], partial, here)
        elif isinstance(value, dict) and name in ("cursor", "ns", "updateDescription", "options", "info"):
            found += shape_differences(value, got[name], partial, here + ".")
    return found


def list_differences(recorded, got, partial, path):
    if len(recorded) != len(got):
        return ["%s has %d entries, recorded %d" % (path, len(got), len(recorded))]
    found = []
    for place, (value, other) in enumerate(zip(recorded, got)):
        if isinstance(value, dict):
            found += shape_differences(value, other, partial, "%s.%d." % (path, place))
    return found


class Replay:
    """Sends lines to a double. `sent` is what was compared, `found` what differed."""

    def __init__(self, name, port):
        self.name, self.connection = name, Connection(port)
        self.sent, self.found, self.last = set(), [], None

    def line(self, name, number, partial=(), change=None, **fields):
        """fields: of the request, in place of the recorded ones; change(request) does anything else."""
        note, request, recorded = load(name, number)
        request = SON((key, fields.get(key, value)) for key, value in request.items())
        request.update((key, value) for key, value in fields.items() if key not in request)
        request.setdefault("$db", "admin")
        if change:
            change(request)
        self.last = self.connection.send(request)
        self.sent.add((name, number))
        self.found += ["%s %s:%d (%s): %s" % (self.name, name, number, note, difference)
                       for difference in shape_differences(recorded, self.last, partial)]
        return self.last

    def lines(self, name, *numbers, **options):
        for number in numbers:
            self.line(name, number, **options)

    def expect(self, condition, text):
        """Of positions, which a shape does not show."""
        if not condition:
            self.found.append("%s: %s: %s" % (self.name, text, self.last))

    def token_time(self, reply=None):
        data = (reply or self.last)["cursor"]["postBatchResumeToken"]["_data"]
        return Timestamp(int(data[2:10], 16), int(data[10:18], 16))


def main():
    import fake
    import strict
    tables = (fake.CLAIMS, fake.CLUSTER_CLAIMS, strict.CLAIMS, strict.MONGOS_CLAIMS)
    claims = {claim for table in tables for claim in claimed(table)}
    take(sys.argv[sys.argv.index("--take") + 1], claims)
    print("%d lines" % len(claims))


def claimed(table):
    return {(name, line) for name, lines in table.items() for line in lines}


if __name__ == "__main__":
    main()
