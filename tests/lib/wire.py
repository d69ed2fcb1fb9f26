# SPDX-License-Identifier: Apache-2.0
"""wire.py: MongoDB's wire protocol, as far as a proxy and a fake server need it; and what a test
scripts into their answers.

A Script is a list of rules. A rule names a command and what happens when it is seen:

    script.on("getMore", after=2).error(286, "ChangeStreamHistoryLost")
    script.on("insert", times=3).lost()          # done, but the answer never arrives

A rule without `times` acts once. Rules are looked through in their order; the first that fits acts.
`script.seen` tells how often each rule acted, so that a test can say that its fault did happen.
"""
import socket
import struct
import threading
import time

import bson
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from bson.son import SON

from faults import faults

OP_REPLY, OP_QUERY, OP_MSG, OP_COMPRESSED = 1, 2004, 2013, 2012
CHECKSUM = 1
ORDERED = CodecOptions(document_class=SON)
RAW = CodecOptions(document_class=RawBSONDocument)
# What the driver sends by itself, at times of its own.
BACKGROUND = ("hello", "isMaster", "ismaster", "endSessions", "ping", "saslStart", "saslContinue")


class Closed(Exception):
    """The other side is gone."""


def read_exactly(sock, length):
    parts, missing = [], length
    while missing:
        try:
            part = sock.recv(min(missing, 1 << 20))
        except OSError as error:
            raise Closed(str(error)) from None
        if not part:
            raise Closed("end of stream")
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def read_message(sock):
    """One whole message as bytes, its head included."""
    head = read_exactly(sock, 16)
    length = struct.unpack_from("<i", head)[0]
    if not 16 <= length <= 64 << 20:
        raise Closed("a message of %d bytes" % length)
    return head + read_exactly(sock, length - 16)


class Request:
    """A parsed command: .name, .body (SON), .raw (its bytes), .database, .sequences {name: [bytes]}."""

    def __init__(self, message):
        self.message = message
        _, self.id, _, self.opcode = struct.unpack_from("<iiii", message)
        self.sequences = {}
        if self.opcode == OP_QUERY:
            end = message.index(b"\0", 20)
            self.legacy = True
            self.raw = self._document(end + 9)
            self.body = bson.decode(self.raw, ORDERED)
            self.database = message[20:end].decode().split(".", 1)[0]
        elif self.opcode == OP_MSG:
            self.legacy = False
            self._sections()
            self.database = self.body.get("$db", "admin")
        else:
            raise Closed("opcode %d" % self.opcode)
        self.name = next(iter(self.body), "")

    def _document(self, offset):
        length = struct.unpack_from("<i", self.message, offset)[0]
        return self.message[offset:offset + length]

    def _sections(self):
        flags = struct.unpack_from("<I", self.message, 16)[0]
        offset, end = 20, len(self.message) - (4 if flags & CHECKSUM else 0)
        while offset < end:
            kind = self.message[offset]
            offset += 1
            if kind == 0:
                self.raw = self._document(offset)
                self.body = bson.decode(self.raw, ORDERED)
                offset += len(self.raw)
                continue
            stop = offset + struct.unpack_from("<i", self.message, offset)[0]
            close = self.message.index(b"\0", offset + 4)
            name, offset = self.message[offset + 4:close].decode(), close + 1
            documents = self.sequences[name] = []
            while offset < stop:
                documents.append(self._document(offset))
                offset += len(documents[-1])

    def list_of(self, name):
        """The statements of a write: raw bytes, from wherever they stand."""
        if name in self.sequences:
            return self.sequences[name]
        found = bson.decode(self.raw, RAW).get(name, ())
        return [part.raw if isinstance(part, RawBSONDocument) else bson.encode(part)
                for part in found]

    def changed(self, drop=(), **fields):
        """The same request with other fields in its body. A list of bytes becomes a sequence, so that no
        document is encoded again; names with `drop` are left out."""
        lists = {name: value for name, value in fields.items()
                 if isinstance(value, list) and all(isinstance(part, bytes) for part in value)}
        left_out = set(drop) | set(fields) | set(self.sequences)
        body = SON((name, fields.get(name, value)) for name, value in
                   bson.decode(self.raw, RAW).items()
                   if name not in left_out or name in fields and name not in lists)
        body.update((name, value) for name, value in fields.items()
                    if name not in lists and name not in body)
        data = bson.encode(body)
        payload = struct.pack("<I", 0) + b"\0" + data
        for name, documents in {**self.sequences, **lists}.items():
            if name in drop:
                continue
            part = name.encode() + b"\0" + b"".join(documents)
            payload += b"\1" + struct.pack("<i", 4 + len(part)) + part
        return Request(struct.pack("<iiii", 16 + len(payload), self.id, 0, OP_MSG) + payload)

    @property
    def collection(self):
        value = self.body.get("collection" if self.name == "getMore" else self.name)
        return value if isinstance(value, str) else ""

    @property
    def first_stage(self):
        """The name of a pipeline's first stage, or ""."""
        stages = self.body.get("pipeline") or [{}]
        return next(iter(stages[0]), "")

    def answer(self, document):
        """The bytes of a reply to this request; `document` is a mapping or BSON."""
        data = document if isinstance(document, bytes) else bson.encode(document)
        if self.legacy:
            payload = struct.pack("<iqii", 8, 0, 0, 1) + data
            return struct.pack("<iiii", 16 + len(payload), 0, self.id, OP_REPLY) + payload
        payload = struct.pack("<I", 0) + b"\0" + data
        return struct.pack("<iiii", 16 + len(payload), 0, self.id, OP_MSG) + payload


def is_barrier(request):
    """For `when` of a rule on "find": the read by which the engine takes a replica set's barrier."""
    return request.database == "towline_probe" and "afterClusterTime" in request.body.get("readConcern", {})


def reply_body(message, options=ORDERED):
    """The document of a reply, as SON; None when it is not one that we know."""
    opcode = struct.unpack_from("<i", message, 12)[0]
    if opcode == OP_MSG:
        return bson.decode(message[21:], options) if message[20] == 0 else None
    if opcode == OP_REPLY:
        return bson.decode(message[36:], options)
    return None


def with_body(message, document):
    """The same reply with another document."""
    head = 21 if struct.unpack_from("<i", message, 12)[0] == OP_MSG else 36
    data = bson.encode(document)
    return struct.pack("<i", head + len(data)) + message[4:head] + data


def failure(code, name="", message="", labels=(), **more):
    """An error reply as servers send it."""
    document = SON([("ok", 0.0), ("errmsg", message or "scripted: %s" % (name or code)),
                    ("code", code), ("codeName", name or "Error%d" % code)])
    if labels:
        document["errorLabels"] = list(labels)
    document.update(more)
    return document


# Actions: what happens to a request. Each returns the reply's bytes, or raises Closed. -------------

class Rule:
    """One line of a script; `perform` is what its action makes of a request."""

    def __init__(self, script, command, when, after, times):
        self.script, self.command, self.when = script, command, when
        self.after, self.times, self.acted, self.perform = after, times, 0, None
        self.fault = None  # its name, when it is one

    def fits(self, request):
        if self.command not in (request.name, "*"):
            return False
        if self.command == "*" and request.name in BACKGROUND:
            return False
        return self.when is None or bool(self.when(request))

    def act(self, perform, fault=None):
        self.perform, self.fault = perform, fault
        self.script._add(self)
        return self

    def error(self, code, name="", message="", labels=(), **more):
        """Refused: nothing is done."""
        return self.act(lambda request, serve: request.answer(
            failure(code, name, message, labels, **more)),
                        "request refused: %s" % (name or code))

    def error_after(self, code, name="", labels=()):
        """Done, and reported as failed all the same."""
        def perform(request, serve):
            serve(request)
            return request.answer(failure(code, name, labels=labels))
        return self.act(perform, "request done, reported as %s" % (name or code))

    def reply(self, document):
        """Nothing is done, and this is the answer: a document, or a function of the request."""
        return self.act(lambda request, serve: request.answer(
            document(request) if callable(document) else document))

    def change(self, function, fault=None):
        """Done; the reply's document is changed in place by the function."""
        def perform(request, serve):
            document = reply_body(serve(request))
            function(request, document)
            return request.answer(document)
        return self.act(perform, fault)

    def concern_error(self, code=64, name="WriteConcernTimeout"):
        """Done, and the majority did not acknowledge it."""
        def put(request, document):
            document["writeConcernError"] = SON([("code", code), ("codeName", name),
                                                 ("errmsg", "scripted: " + name)])
        return self.change(put, "write concern error: " + name)

    def close(self):
        """The connection breaks before anything is done."""
        def perform(request, serve):
            raise Closed("scripted")
        return self.act(perform, "connection broken before the request")

    def lost(self):
        """Done; the connection breaks before the answer."""
        def perform(request, serve):
            serve(request)
            raise Closed("scripted")
        return self.act(perform, "request done, answer lost")

    def half(self):
        """Done; half of the answer arrives, then the connection breaks."""
        def perform(request, serve):
            answer = serve(request)
            raise Half(answer[:len(answer) // 2])
        return self.act(perform, "request done, half an answer")

    def delay(self, seconds, fault=None):
        def perform(request, serve):
            time.sleep(seconds)  # a slow server is what this stands for
            return serve(request)
        return self.act(perform, fault)


class Half(Closed):
    """The connection breaks behind these bytes."""

    def __init__(self, part):
        super().__init__("scripted")
        self.part = part


class Script:
    def __init__(self):
        self.lock = threading.Lock()
        self.rules = []      # guarded by lock, as is what rules count
        self.count = 0       # of the requests that are not the driver's own
        self.log = []        # their names

    def on(self, command, when=None, after=0, times=1):
        """A rule for the command ("*": any that is not the driver's own) whose action follows:
        it lets `after` requests pass, then acts on `times` (None: on all)."""
        return Rule(self, command, when, after, times)

    def _add(self, rule):
        with self.lock:
            self.rules.append(rule)

    def clear(self):
        with self.lock:
            self.rules.clear()

    def acted(self):
        with self.lock:
            return sum(rule.acted for rule in self.rules)

    def take(self, request):
        """The action for this request, or None."""
        with self.lock:
            if request.name not in BACKGROUND:
                self.count += 1
                self.log.append(request.name)
            for rule in self.rules:
                if not rule.fits(request):
                    continue
                if rule.after > 0:
                    rule.after -= 1
                elif rule.times is None or rule.acted < rule.times:
                    rule.acted += 1
                    if rule.fault:
                        faults.injected(rule.fault)
                    return rule.perform
        return None


class Peer:
    """Listens on loopback; one thread for each connection, which `serve_connection` runs."""

    def __init__(self):
        self.script = Script()
        self.lock = threading.Lock()
        self.sockets = set()  # guarded by lock
        self.refusing = False
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(64)
        self.port = self.listener.getsockname()[1]
        self.uri = "mongodb://127.0.0.1:%d/?directConnection=true" % self.port
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.refusing:
                abort(sock)
                continue
            with self.lock:
                self.sockets.add(sock)
            threading.Thread(target=self._run, args=(sock,), daemon=True).start()

    def _run(self, sock):
        try:
            self.serve_connection(sock)
        except Half as half:
            try:
                sock.sendall(half.part)
            except OSError:
                pass
        except (Closed, OSError):
            pass
        finally:
            with self.lock:
                self.sockets.discard(sock)
            abort(sock)

    def cut(self):
        """Breaks every connection and takes no new ones until `mend`."""
        faults.injected("network cut")
        self._refuse()

    def _refuse(self):
        self.refusing = True
        self._abort_all()

    def mend(self):
        self.refusing = False

    def drop(self):
        """Breaks every connection there is."""
        faults.injected("all connections of a side dropped")
        self._abort_all()

    def _abort_all(self):
        with self.lock:
            sockets = list(self.sockets)
        for sock in sockets:
            abort(sock)

    def close(self):
        self.listener.close()
        self._refuse()


def abort(sock):
    """As a machine does that is gone: the other side sees a reset, not an end."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    sock.close()
