# SPDX-License-Identifier: Apache-2.0
"""proxy.py: stands between the engine and a real server, and does what networks do.

It passes messages on whole and may break, delay or throttle the connection, or act on a command as
its script says (wire.py). A request whose answer is lost has been done by the server: that is the
case which a cut cable cannot be told to produce.
"""
import socket
import struct
import threading
import time

from faults import faults
from wire import OP_MSG, Closed, Peer, Request, read_message, reply_body


class Proxy(Peer):
    def __init__(self, port):
        self.target = port
        self.delay = 0.0      # seconds, before each answer
        self.rate = 0         # bytes a second, both ways together; 0: no limit
        self.flowing = threading.Event()
        self.flowing.set()
        super().__init__()

    def stall(self, seconds=None):
        """Nothing passes, and nothing breaks, until `flow` or the seconds are over."""
        faults.injected("network stalls")
        self.flowing.clear()
        if seconds is not None:
            threading.Timer(seconds, self.flow).start()

    def flow(self):
        self.flowing.set()

    def hold_back(self, rule, released):
        """The rule's request is on its way for long: its connection breaks, and the server sees it
        when the event `released` is set. Its answer is then put into the list that this returns."""
        answers = []

        def deliver(request):
            with self._connect() as upstream:
                def serve(other):
                    upstream.sendall(other.message)
                    return read_message(upstream)

                released.wait()
                answers.append(reply_body(self.handle(request, serve)))

        def perform(request, serve):
            threading.Thread(target=deliver, args=(request,), daemon=True).start()
            raise Closed("scripted")
        rule.act(perform, "request arrives long after its connection broke")
        return answers

    def _connect(self):
        return socket.create_connection(("127.0.0.1", self.target))

    def serve_connection(self, sock):
        upstream = self._connect()
        upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.lock:
            self.sockets.add(upstream)

        def serve(request):
            self._pass(len(request.message))
            upstream.sendall(request.message)
            answer = read_message(upstream)
            self._pass(len(answer))
            return answer

        try:
            while True:
                request = Request(read_message(sock))
                action = self.script.take(request)
                answer = (action(request, lambda other: self.handle(other, serve)) if action
                          else self.handle(request, serve))
                while goes_on(answer):  # a monitor's stream of hellos
                    sock.sendall(answer)
                    answer = self.again(request, read_message(upstream))
                if self.delay:
                    time.sleep(self.delay)
                sock.sendall(answer)
        finally:
            with self.lock:
                self.sockets.discard(upstream)
            upstream.close()

    def handle(self, request, serve):
        """The answer to a request; strict.py makes another one of it."""
        return serve(request)

    def again(self, request, answer):
        """One more answer to a request that was answered before."""
        return answer

    def _pass(self, length):
        self.flowing.wait()
        if self.rate:
            time.sleep(length / self.rate)


def goes_on(answer):
    """Whether the server sends more without being asked (moreToCome)."""
    opcode, = struct.unpack_from("<i", answer, 12)
    return opcode == OP_MSG and bool(struct.unpack_from("<I", answer, 16)[0] & 2)


def behind(server):
    """A proxy in front of a scenario's Server; its URI keeps the server's options."""
    proxy = Proxy(server.port)
    proxy.uri = server.uri.replace(":%d/" % server.port, ":%d/" % proxy.port)
    return proxy


class Proxied:
    """A scenario's pair with a proxy before either side."""

    def __init__(self, pair):
        self.pair = pair
        self.source, self.destination = behind(pair.source), behind(pair.destination)

    def __iter__(self):
        return iter((self.source, self.destination))

    def uris(self):
        return self.source.uri, self.destination.uri

    def close(self):
        for side in self:
            side.flow()
            side.close()
