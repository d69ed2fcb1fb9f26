#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""serve.py: jobs that are started and driven over HTTP.

The first part is a script as one writes it from mongosync's documentation alone. The rest: every path of
the API against its description, what is refused, who may ask, TLS, and a password that is looked for in
everything that comes out.
"""
import contextlib
import hmac
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True

import jsonschema
import corpus
from job import EXIT, ROOT, ApiError, binary, clean_environment, free_port, towline
from scenario import Scenario, scaled, wait_until
from writer import Writer

CLUSTERS = {"source": "cluster0", "destination": "cluster1"}


class Service:
    """`towline serve`, or whatever command line is given, with a state folder of its own."""

    def __init__(self, scenario, *words, uris=None, token=True):
        self.scenario, self.port, self.folder = scenario, free_port(), scenario.folder()
        self.token, self.words = token, list(words)
        self.files = []
        for side, uri in zip(("source", "destination"), uris or ()):
            self.files += ["--%s-file" % side, scenario.secret(uri)]
        self.environment = dict(clean_environment(), XDG_STATE_HOME=self.folder)
        self.log = os.path.join(self.folder, "log")
        self.process = None

    def start(self):
        words = [binary(), *(self.words or ["serve", "--listen", "127.0.0.1:%d" % self.port]), *self.files]
        with open(self.log, "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                            stderr=log, text=True, env=self.environment)
        wait_until("the server", self.answers, 30)
        return self

    def answers(self):
        if self.process.poll() is not None:
            raise AssertionError("serve ended with %s: %s" % (self.process.returncode, self.text()))
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        return False

    def text(self):
        with open(self.log, encoding="utf-8") as file:
            return file.read()

    def secret(self):
        with open(os.path.join(self.folder, "towline", "token"), encoding="ascii") as file:
            return file.read().strip()

    def request(self, method, path, body=None, headers=None, scheme="http", context=None):
        """The status, the type and the text of an answer, whatever it is."""
        given = {"Authorization": "Bearer " + self.secret()} if self.token else {}
        given.update(headers or {})
        data = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
        request = urllib.request.Request("%s://127.0.0.1:%d%s" % (scheme, self.port, path), method=method,
                                         data=data if method == "POST" else None, headers=given)
        try:
            with urllib.request.urlopen(request, timeout=60, context=context) as reply:
                return reply.status, reply.headers, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read().decode()

    def api(self, method, name, body=None):
        status, _, text = self.request(method, "/api/v1/" + name, body)
        answer = json.loads(text)
        if not answer["success"]:
            raise ApiError(status, answer)
        return answer

    def progress(self):
        return self.api("GET", "progress")["progress"]

    def wait_for(self, what, condition, timeout=90):
        found = []

        def look():
            found[:] = [self.progress()]
            if found[0]["phase"] in ("failed", "cancelled") and not condition(found[0]):
                raise AssertionError("%s: %s" % (found[0]["phase"], found[0]["reason"]))
            return condition(found[0])
        wait_until(what, look, timeout)
        return found[0]

    def wait_in_sync(self):
        return self.wait_for("canCommit", lambda now: now["canCommit"])

    def end(self, number=15):
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(30)
        if status not in (0, -number):
            sys.stderr.write("--- log of serve (status %s)\n%s" % (status, self.text()))
        return status


@contextlib.contextmanager
def service(scenario, *words, **options):
    made = Service(scenario, *words, **options).start()
    try:
        yield made
    finally:
        made.end(9)


def refused(scenario, act, name, part):
    try:
        act()
    except ApiError as error:
        scenario.expect(error.name == name and part in error.description and error.body["exitStatus"],
                        "%s: %s" % (error.name, error.description))
    else:
        scenario.expect(False, "it was taken")


# mongosync ------------------------------------------------------------------------------------------

def documented(scenario, pair):
    """A script that knows nothing but mongosync's documentation."""
    scenario.fresh(pair)
    client = pair.source.client
    client["sales"]["orders"].insert_many([{"_id": n} for n in range(scaled(5000, 200))])
    client["sales"]["drafts"].insert_one({"_id": 1})
    client["hr"]["people"].insert_one({"_id": 1})
    port = free_port()
    made = Service(scenario, "--cluster0", pair.source.uri, "--cluster1", pair.destination.uri,
                   "--port", str(port), "--no-token", "--loadLevel", "3", token=False)
    made.port = port

    def ask(method, name, body=None):
        request = urllib.request.Request("http://localhost:%d/api/v1/%s" % (port, name), method=method,
                                         data=None if body is None else json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.load(reply)

    def progress():
        return ask("GET", "progress")["progress"]

    made.start()
    writer = Writer(pair.source.uri, threads=2, seed=scenario.seed, rate=200)
    try:
        with scenario.case("mongosync: a script of start, progress, pause, resume, commit"):
            scenario.expect(progress()["state"] == "IDLE", str(progress()))
            answer = ask("POST", "start", {
                "source": "cluster0", "destination": "cluster1", "buildIndexes": "afterDataCopy",
                "reversible": False, "enableUserWriteBlocking": "none",
                "verification": {"enabled": True},
                "excludeNamespaces": [{"database": "sales", "collections": ["drafts"]},
                                      {"databaseRegex": {"pattern": "^H", "options": "i"}}]})
            scenario.expect(answer == {"success": True}, str(answer))
            writer.fill()
            writer.start()
            wait_until("canCommit", lambda: progress()["canCommit"], 90)
            ask("POST", "pause", {})
            wait_until("PAUSED", lambda: progress()["state"] == "PAUSED")
            ask("POST", "resume", {})
            wait_until("RUNNING", lambda: progress()["state"] == "RUNNING")
            writer.stop()
            wait_until("canCommit", lambda: progress()["canCommit"], 90)
            client["sales"]["orders"].insert_one({"_id": "last"})
            now = progress()
            for field in ("state", "canCommit", "canWrite", "totalEventsApplied", "info", "lag",
                          "lagTimeSeconds", "collectionCopy", "indexBuilding", "verification",
                          "estimatedSecondsToCEACatchup", "directionMapping", "mongosyncID",
                          "coordinatorID", "warnings", "source", "destination"):
                scenario.expect(field in now, "no %s" % field)
            wait_until("the commit", lambda: try_commit(ask))
            wait_until("COMMITTED", lambda: progress()["state"] == "COMMITTED", 90)
            scenario.expect(progress()["canWrite"] is True, "canWrite is false")
            scenario.expect_equal(pair, takes=lambda database, name: database != "hr" and
                                  (database, name) != ("sales", "drafts"))
    finally:
        writer.stop()
        made.end(9)


def try_commit(ask):
    try:
        return ask("POST", "commit", {})["success"]
    except urllib.error.HTTPError as error:
        if json.load(error)["error"] == "NotInSync":
            return False
        raise


# The API and its description -------------------------------------------------------------------------

def description(made):
    return json.loads(made.request("GET", "/api/v1/openapi.json")[2])


def check_schema(document, schema, value):
    jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(value)


def described(scenario, pair):
    """Every path is described, everything described is there, and answers are as described."""
    with service(scenario, uris=pair.uris()) as made:
        document = description(made)
        with scenario.case("the description names every route, and no other"):
            source = (ROOT / "engine" / "http" / "routes.c").read_text(encoding="utf-8")
            routes = set(re.findall(r'\{"(/[^"]*)", "([A-Z]+)",', source))
            routes = {(path.replace("*", "{file}"), method) for path, method in routes}
            paths = {(path, method.upper()) for path, methods in document["paths"].items()
                     for method in methods}
            scenario.expect(routes == paths and len(routes) > 15, str(routes ^ paths))

        def answer_of(method, path, body=None):
            """Asks, and holds the answer to its schema."""
            status, headers, text = made.request(method, path, body)
            responses = document["paths"][path.split("?")[0]][method.lower()]["responses"]
            response = responses.get(str(status), responses["default"])
            kind = headers["Content-Type"].split(";")[0]
            schema = response["content"][kind]["schema"]
            value = json.loads(text) if kind == "application/json" else text
            check_schema(document, schema, value)
            return status, value

        def all_answers(label):
            with scenario.case("answers are as described: " + label):
                for path, methods in document["paths"].items():
                    for method in methods:
                        if path.endswith("events") or "{" in path or method == "post":
                            continue
                        answer_of(method.upper(), path)
                answer_of("GET", "/api/v1/collections?limit=3")

        all_answers("before a start")
        with scenario.case("status before a start says that there is no job"):
            done = towline("status", "--listen", "127.0.0.1:%d" % made.port,
                           environment={"XDG_STATE_HOME": made.folder})
            scenario.expect(done.returncode == 0 and "no job was started" in done.stdout and
                            "-1" not in done.stdout, done.stdout + done.stderr)
        with scenario.case("check and plan answer what the verbs print"):
            for name in ("check", "plan"):
                status, value = answer_of("POST", "/api/v1/" + name, dict(CLUSTERS))
                scenario.expect(status == 200 and value[name]["ok"], str(value)[:300])
            with service(scenario) as other:
                value = other.api("POST", "check", {
                    "sourceUri": "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=300",
                    "destinationUri": pair.destination.uri})["check"]
            scenario.expect(not value["ok"] and value["exitStatus"] == EXIT["unreachable"], str(value)[:300])
        with scenario.case("what needs a job is refused before one"):
            for name in ("pause", "resume", "commit", "cutover/abort", "cancel", "verify", "extend"):
                status, value = answer_of("POST", "/api/v1/" + name, {"duration": "1h"})
                scenario.expect((status, value["error"]) == (400, "InvalidState"), str(value))
        start = dict(CLUSTERS, options={"workers": 2, "job": "api", "range-size": 1})
        with scenario.case("start: a job of the asked for settings"):
            status, _ = answer_of("POST", "/api/v1/start", start)
            scenario.expect(status == 200, str(status))
            scenario.expect(made.wait_in_sync()["job"] == "api", "the job's name")
            refused(scenario, lambda: made.api("POST", "start", start), "InvalidState", "running")
            scenario.expect(made.request("GET", "/readyz")[0] == 200, "not ready")
        all_answers("in sync")
        with scenario.case("cutover wants the confirmation; reverse is refused; verify compares again"):
            refused(scenario, lambda: made.api("POST", "cutover"), "NotConfirmed", "writesStopped")
            refused(scenario, lambda: made.api("POST", "cutover/abort"), "InvalidState", "no cutover")
            refused(scenario, lambda: made.api("POST", "reverse"), "Unsupported", "start one")
            answer_of("POST", "/api/v1/verify")
            answer_of("POST", "/api/v1/extend", {"duration": "1h"})
            made.wait_for("verified", lambda now: now["positions"]["verified"])
        with scenario.case("events: what happened, then progress each second; a reader that sleeps holds "
                           "up nothing"):
            sleeper = socket.create_connection(("127.0.0.1", made.port))
            sleeper.sendall(("GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\n"
                             "\r\n" % made.secret()).encode())
            names = read_events(made, lambda events: events.count("progress") >= 2)
            scenario.expect("log" in names and names.index("log") < names.index("progress"), str(names))
        with scenario.case("cutover, and a summary"):
            wait_until("the cutover", lambda: try_commit(
                lambda method, name, body: made.api(method, "cutover", {"writesStopped": True}))
                if made.progress()["canCommit"] else False)
            made.wait_for("done", lambda now: now["phase"] == "done")
            scenario.expect(made.api("GET", "summary")["summary"]["state"] == "done", "no summary")
            scenario.expect_equal(pair)
        all_answers("done")
        sleeper.close()
        with scenario.case("cancel tells what remains, and another job may follow"):
            scenario.reset(pair.destination)
            made.api("POST", "start", start)
            made.wait_in_sync()
            answer = made.api("POST", "cancel")
            scenario.expect("documents" in answer["remains"], str(answer))
            made.wait_for("cancelled", lambda now: now["phase"] == "cancelled")
        with scenario.case("from cluster1 to cluster0"):
            pair.source.client.drop_database("corpus")
            for name in pair.source.client.list_database_names():
                if name not in ("admin", "local", "config"):
                    pair.source.client.drop_database(name)
            scenario.reset(pair.destination)
            pair.destination.client["back"]["c"].insert_one({"_id": 1})
            made.api("POST", "start", {"source": "cluster1", "destination": "cluster0",
                                       "options": {"cutover": "auto", "job": "back"}})
            made.wait_for("done", lambda now: now["phase"] == "done")
            scenario.expect(pair.source.client["back"]["c"].count_documents({}) == 1, "nothing came")
        with scenario.case("SIGTERM ends it within five seconds"):
            began = time.monotonic()
            scenario.expect(made.end() == 0, "status %s" % made.process.returncode)
            scenario.expect(time.monotonic() - began < 5, "it took longer")


def read_events(made, enough):
    request = urllib.request.Request("http://127.0.0.1:%d/api/v1/events" % made.port,
                                     headers={"Authorization": "Bearer " + made.secret()})
    names = []
    with urllib.request.urlopen(request, timeout=20) as stream:
        for line in stream:
            if line.startswith(b"event: "):
                names.append(line[7:].strip().decode())
            if line.startswith(b"data: "):
                json.loads(line[6:])
                if enough(names):
                    return names
    raise AssertionError("the stream ended: %s" % names)


def bad_bodies(scenario, pair):
    with service(scenario, uris=pair.uris()) as made:
        with scenario.case("what is not supported is refused, each with its reason"):
            for field, value in (("reversible", True), ("sharding", {"shardingEntries": []}),
                                 ("copyInNaturalOrder", True), ("detectRandomId", True),
                                 ("skipDiskSpaceCheck", True), ("hotDocIDs", [1]),
                                 ("createIndexesBatchSize", 5), ("buildIndexes", "sometimes"),
                                 ("enableUserWriteBlocking", "destinationOnly"), ("nonsense", 1),
                                 ("verification", True), ("source", "cluster2"),
                                 ("includeNamespaces", "a"), ("includeNamespaces", [{"collections": []}]),
                                 ("includeNamespaces", [{"database": "admin"}]),
                                 ("includeNamespaces", [{"databaseRegex": {"pattern": "("}}]),
                                 ("options", {"workers": 0}), ("options", {"nonsense": 1}),
                                 ("options", {"spool": "/"}), ("options", {"summary": "/tmp/x"}),
                                 ("options", {"workers": 1.5}), ("sourceUri", 7)):
                refused(scenario, lambda: made.api("POST", "start", dict(CLUSTERS, **{field: value})),
                        "InvalidOption", "" if field == "options" else field.replace("Namespaces", "")
                        .replace("source", "source"))
            scenario.expect(made.progress()["state"] == "IDLE", "something was started")
        with scenario.case("a body that is no object, or too long, is refused"):
            for body in (b"[]", b"{", b"{}" + b" " * (1 << 20), b"\0\1\2", b'{"a": "\0"}', b'{"buildIndexes": "never\\u0000"}',
                         b'{"a\\u0000b": 1}', b'{"a": ' * 10000, b'{"a": ' + b"[" * 30000):
                try:
                    status = made.request("POST", "/api/v1/start", body)[0]
                except OSError:
                    continue  # the connection was closed on it
                scenario.expect(status in (400, 413), "%r: %d" % (body[:5], status))
        with scenario.case("mongosync's options: those that have no counterpart are refused"):
            done = towline("--cluster0", "mongodb://x", "--hotDocIDs", "1")
            scenario.expect(done.returncode == EXIT["option"] and "hotDocIDs" in done.stderr, done.stderr)


# Who may ask -------------------------------------------------------------------------------------------

def access(scenario, pair):
    with service(scenario, uris=pair.uris()) as made:
        with scenario.case("the token: in a file of the user's alone, in no log"):
            path = os.path.join(made.folder, "towline", "token")
            scenario.expect(stat.S_IMODE(os.stat(path).st_mode) == 0o600, "its mode")
            scenario.expect(len(made.secret()) == 64 and made.secret() not in made.text(), "its text")
        with scenario.case("without it, or with another, nothing but the page and the health is told"):
            for method, path in (("GET", "/api/v1/progress"), ("POST", "/api/v1/start"), ("GET", "/metrics"),
                                 ("GET", "/api/v1/events"), ("POST", "/api/v1/cancel")):
                for given in ("", "Bearer", "Bearer " + "0" * 64, "Basic " + made.secret(), made.secret(),
                              "Bearer " + made.secret() + "0", "Bearer " + made.secret()[:-1]):
                    status = made.request(method, path, headers={"Authorization": given})[0]
                    scenario.expect(status == 401, "%s %s with '%s': %d" % (method, path, given, status))
            for path in ("/", "/healthz"):
                scenario.expect(made.request("GET", path, headers={"Authorization": ""})[0] == 200, path)
            status = made.request("GET", "/readyz", headers={"Authorization": ""})[0]
            scenario.expect(status == 503, "/readyz before a job: %d" % status)
        with scenario.case("pages of other sites are refused, its own is not"):
            own = "http://127.0.0.1:%d" % made.port
            for headers, status in (({"Origin": "http://evil.example"}, 403), ({"Origin": "null"}, 403),
                                    ({"Host": "evil.example"}, 403), ({"Origin": own}, 200),
                                    ({"Host": "localhost:%d" % made.port}, 200)):
                got = made.request("GET", "/api/v1/progress", headers=headers)[0]
                scenario.expect(got == status, "%s: %d" % (headers, got))
        with scenario.case("a --summary is not passed over in silence"):
            words = ["serve", "--listen", "127.0.0.1:%d" % free_port(), "--summary", "/tmp/x"]
            with subprocess.Popen([binary(), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  text=True, env=made.environment) as other:
                other.stdout.readline()
                other.terminate()
                said = other.communicate(timeout=20)[1]
            scenario.expect("option_ignored" in said and "/api/v1/summary" in said and
                            other.returncode == 0, "%s: %s" % (other.returncode, said))
        with scenario.case("another address of loopback answers to its own name, and to no other"):
            listen = "127.0.1.1:%d" % free_port()  # what Debian's /etc/hosts calls this host
            words = [binary(), "serve", "--no-token", "--listen", listen]
            with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                  env=made.environment) as other:
                other.stdout.readline()
                done = towline("status", "--no-token", "--listen", listen)
                request = urllib.request.Request("http://%s/healthz" % listen, headers={"Host": "evil.example"})
                try:
                    status = urllib.request.urlopen(request, timeout=20).status
                except urllib.error.HTTPError as error:
                    status = error.code
                other.kill()
            scenario.expect(done.returncode == 0 and status == 403, "%d: %s" % (status, done.stderr))
        with scenario.case("replies keep a browser from anything else"):
            headers = made.request("GET", "/")[1]
            scenario.expect("default-src 'self'" in headers["Content-Security-Policy"] and
                            headers["X-Content-Type-Options"] == "nosniff" and
                            headers["Access-Control-Allow-Origin"] is None, str(headers))
        with scenario.case("a path out of the page's folder is not found"):
            for path in ("/page/../routes.c", "/page/%2e%2e/openapi.json", "/page/", "/openapi.json"):
                scenario.expect(made.request("GET", path)[0] == 404, path)
        with scenario.case("too many connections are turned away, and the server lives on"):
            many = [socket.create_connection(("127.0.0.1", made.port)) for _ in range(100)]
            for peer in many:
                peer.close()
            wait_until("an answer", lambda: answers(made))
    with scenario.case("what would be open to others is refused"):
        folder = scenario.folder()
        token = os.path.join(folder, "token")
        with open(token, "w", encoding="ascii") as file:
            file.write("t" * 32)
        os.chmod(token, 0o644)
        for words, part in ((["--listen", "0.0.0.0:0"], "--tls-cert"),
                            (["--listen", "0.0.0.0:0", "--no-token"], "--no-token"),
                            (["--token-file", token], "chmod 600"),
                            (["--token-file", os.path.join(folder, "none")], "there is no"),
                            (["--listen", "none"], "nothing to do"),
                            (["--tls-cert", token], "--tls-key"),
                            (["--listen", "192.0.2.1:1"], "--tls-cert")):
            done = towline("serve", "--listen", "127.0.0.1:0", *words)
            scenario.expect(done.returncode in (EXIT["option"], EXIT["control"]) and part in done.stderr,
                            "%s: %d %s" % (words, done.returncode, done.stderr))
    with scenario.case("a token of one's own: the verbs show it"):
        os.chmod(token, 0o600)
        with service_of_token(scenario, pair, token) as made:
            words = ["status", "--listen", "127.0.0.1:%d" % made.port]
            done = towline(*words, "--token-file", token)
            scenario.expect(done.returncode == 0 and "phase" in done.stdout, done.stderr)
            done = towline(*words, "--no-token")
            scenario.expect(done.returncode == EXIT["control"] and "token" in done.stderr, done.stderr)


def answers(made):
    try:
        return made.request("GET", "/healthz")[0] == 200
    except OSError:
        return False


@contextlib.contextmanager
def service_of_token(scenario, pair, token):
    made = Service(scenario, uris=pair.uris())
    made.words = ["serve", "--listen", "127.0.0.1:%d" % made.port, "--token-file", token]
    made.start()
    try:
        yield made
    finally:
        made.end(9)


def over_tls(scenario, pair):
    folder = scenario.folder()
    key, certificate = os.path.join(folder, "key"), os.path.join(folder, "certificate")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out",
                    certificate, "-days", "2", "-subj", "/CN=localhost", "-addext",
                    "subjectAltName=IP:127.0.0.1,DNS:localhost"], check=True, capture_output=True)
    made = Service(scenario, uris=pair.uris())
    made.words = ["serve", "--listen", "0.0.0.0:%d" % made.port, "--tls-cert", certificate, "--tls-key", key]
    made.start()
    with scenario.case("TLS: everywhere, for requests and verbs"):
        context = ssl.create_default_context(cafile=certificate)
        status, _, text = made.request("GET", "/api/v1/progress", scheme="https", context=context)
        scenario.expect(status == 200 and json.loads(text)["success"], text)
        done = towline("status", "--listen", "127.0.0.1:%d" % made.port, "--tls-ca", certificate,
                       environment={"XDG_STATE_HOME": made.folder})
        scenario.expect(done.returncode == 0, done.stderr)
        done = towline("status", "--listen", "127.0.0.1:%d" % made.port,
                       environment={"XDG_STATE_HOME": made.folder})
        scenario.expect(done.returncode == EXIT["control"], "without TLS: %d" % done.returncode)
    made.end(9)


# Others on this host -----------------------------------------------------------------------------------

NOBODY = 65534


def as_nobody(*words):
    """A command of another local user; what it prints. None: this user cannot become another one."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        return None
    done = subprocess.run(["setpriv", "--reuid=%d" % NOBODY, "--regid=%d" % NOBODY, "--clear-groups", *words],
                          capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


ASK = """import json, socket, sys, urllib.error, urllib.request
port, method, path, body = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4].encode()
if method == "LEAVE":  # asks, and closes before the answer: its socket has no user any more
    for _ in range(200):
        peer = socket.create_connection(("127.0.0.1", port))
        peer.sendall(("POST %s HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\nContent-Length: 2\\r\\n\\r\\n{}" % path).encode())
        peer.close()
    sys.exit()
request = urllib.request.Request("http://127.0.0.1:%d%s" % (port, path), method=method,
                                 data=body if method == "POST" else None)
try:
    print(urllib.request.urlopen(request, timeout=20).status)
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
"""


def read_link(scenario):
    made = Service(scenario).start()
    token, environment = made.secret(), made.environment
    made.end(15)
    said = made.process.stdout.read() + made.text()
    scenario.expect(token not in said and os.path.join(made.folder, "towline", "token") in said, said)
    file = scenario.secret("t" * 32)
    made = Service(scenario)
    made.words = ["serve", "--listen", "127.0.0.1:%d" % made.port, "--token-file", file]
    made.start().end(15)
    said = made.process.stdout.read() + made.text()
    scenario.expect("t" * 32 not in said and file in said, said)
    ours, theirs = os.openpty()
    with subprocess.Popen([binary(), "serve", "--listen", "127.0.0.1:%d" % free_port()], stdin=subprocess.DEVNULL,
                          stdout=theirs, stderr=subprocess.DEVNULL, env=environment) as serve:
        os.close(theirs)
        said = b""
        while said.count(b"\n") < 3:
            said += os.read(ours, 4096)
        serve.terminate()
    os.close(ours)
    scenario.expect(b"#token=page-" in said and token.encode() not in said, said)
    page = re.search(rb"#token=(page-[0-9a-f]+)", said)[1].decode()
    made = Service(scenario).start()
    for given, status in ((made.secret(), 200), (page, 401)):
        got = made.request("GET", "/api/v1/progress", headers={"Authorization": "Bearer " + given})[0]
        scenario.expect(got == status, "HTTP status %d" % got)
    done = towline("page", "--listen", "127.0.0.1:%d" % made.port, environment={"XDG_STATE_HOME": made.folder})
    page = re.fullmatch(r"http://127.0.0.1:%d/#token=(page-[0-9a-f]{64})\n" % made.port, done.stdout)
    scenario.expect(page, done.stdout + done.stderr)
    page = page[1]
    got = made.request("GET", "/api/v1/progress", headers={"Authorization": "Bearer " + page})[0]
    nonce = "0123456789abcdef" * 4
    proof = json.loads(made.request("GET", "/api/v1/proof?nonce=" + nonce, headers={"Authorization": ""})[2])["proof"]
    scenario.expect(got == 200 and proof == hmac.new(page.encode(), nonce.encode(), "sha256").hexdigest(),
                    "%s %s" % (got, proof))
    made.end()


SNOOP = """import socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
server.settimeout(60)
print("ready", flush=True)
while True:
    peer = server.accept()[0]
    peer.settimeout(2)
    try:
        print(repr(peer.recv(65536)), flush=True)
    except OSError as error:
        print(error, flush=True)
    peer.close()
"""


def snoop_on_verbs(scenario):
    """What verbs send to another user's process on the job's address, to ours, and to one that accepts nothing."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        print("# skipped: this user cannot become another one")
        return
    script, state = os.path.join(scenario.folder(), "snoop.py"), scenario.folder()
    os.chmod(os.path.dirname(script), 0o755)
    with open(script, "w", encoding="utf-8") as file:
        file.write(SNOOP)
    verbs = [verb + more for verb in (["status"], ["cutover"], ["status", "--wait", "in-sync"])
             for more in ([], ["--no-token"])]
    for user in (NOBODY, 0):
        port = free_port()
        with subprocess.Popen(["setpriv", "--reuid=%d" % user, "--regid=%d" % user, "--clear-groups",
                               sys.executable, script, str(port)], stdout=subprocess.PIPE, text=True) as snoop:
            scenario.expect(snoop.stdout.readline() == "ready\n", "another user has no Python here")
            for verb in verbs:
                done = towline(*verb, "--listen", "127.0.0.1:%d" % port, environment={"XDG_STATE_HOME": state})
                scenario.expect(done.returncode == EXIT["control"], "%s: %d" % (verb, done.returncode))
                scenario.expect(("another user (uid %d)" % NOBODY in done.stderr) == (user != 0), done.stderr)
            snoop.kill()
            heard = snoop.stdout.read()
            scenario.expect(heard.count("Bearer") >= len(verbs) / 2 if user == 0 else
                            heard and "HTTP" not in heard, "user %d heard %s" % (user, heard))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        asks = subprocess.Popen([binary(), "status", "--listen", "127.0.0.1:%d" % silent.getsockname()[1]],
                                env=dict(clean_environment(), XDG_STATE_HOME=state), stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)
        time.sleep(0.5)
        silent.settimeout(5)
        heard = b""
        for _ in range(2):  # it looks first whether anybody listens
            with silent.accept()[0] as peer:
                peer.settimeout(5)
                heard += peer.recv(65536)
        scenario.expect(b"Bearer" in heard, "a job that is slow to accept is not asked")
        asks.kill()
        asks.wait()


def answer_without_end(scenario):
    """An answer that grows and grows is given up, and not kept."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        asks = subprocess.Popen([binary(), "status", "--no-token", "--listen",
                                 "127.0.0.1:%d" % server.getsockname()[1]], env=clean_environment(),
                                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        server.settimeout(5)
        while asks.poll() is None:
            with contextlib.suppress(OSError), server.accept()[0] as peer:
                if not peer.recv(65536):
                    continue
                peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 40000000\r\n\r\n")
                for _ in range(40):
                    peer.sendall(b" " * 1000000)
                asks.wait(20)
        said = asks.stderr.read()
    scenario.expect(asks.returncode == EXIT["control"] and "answers with more" in said, said)


def others(scenario, pair):
    """A local user who tries to read, redirect or stop somebody's migration."""
    scenario.fresh(pair)
    pair.source.client["bank"]["accounts"].insert_many([{"_id": n} for n in range(100)])
    elsewhere = "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=300"
    key = scenario.secret("k" * 32)
    with service(scenario, uris=pair.uris()) as made:
        with scenario.case("a request does not replace what the process was started with"):
            for body in ({"sourceUri": elsewhere}, {"destinationUri": elsewhere},
                         {"options": {"source": elsewhere}}, {"options": {"destination": elsewhere}}):
                for name in ("start", "check", "plan"):
                    refused(scenario, lambda: made.api("POST", name, body), "InvalidOption", "started with")
            scenario.expect(made.progress()["state"] == "IDLE", "something was started")
    made = Service(scenario, uris=pair.uris())
    made.words = ["serve", "--listen", "127.0.0.1:%d" % made.port, "--notify-key-file", key]
    made.start()
    with scenario.case("the operator's key signs no notices to an address of a request"):
        for name in ("notify-webhook", "notify-smtp"):
            value = {"notify-webhook": "http://127.0.0.1:1/", "notify-smtp": "smtp://127.0.0.1:1"}[name]
            refused(scenario, lambda: made.api("POST", "start", {"options": {name: value}}), "InvalidOption",
                    "--notify-key-file")
    made.end(9)
    made = Service(scenario, uris=pair.uris(), token=False)
    made.words = ["serve", "--listen", "127.0.0.1:%d" % made.port, "--no-token"]
    made.start()
    with scenario.case("--no-token: no request gives an address"):
        for body in ({"sourceUri": elsewhere}, {"destinationUri": elsewhere},
                     {"options": {"notify-webhook": "http://127.0.0.1:1/"}}):
            refused(scenario, lambda: made.api("POST", "start", body), "InvalidOption", "--no-token")
    with scenario.case("--no-token: another local user is refused, ours is not"):
        made.api("POST", "start", {})
        made.wait_in_sync()
        script = os.path.join(scenario.folder(), "ask.py")
        os.chmod(os.path.dirname(script), 0o755)
        with open(script, "w", encoding="utf-8") as file:
            file.write(ASK)
        for method, path in (("GET", "/api/v1/progress"), ("GET", "/metrics"), ("POST", "/api/v1/cancel"),
                             ("POST", "/api/v1/commit")):
            said = as_nobody(sys.executable if os.access(sys.executable, os.X_OK) else "python3", script,
                             str(made.port), method, path, "{}")
            if said is None:
                print("# skipped in part: this user cannot become another one")
                break
            scenario.expect(said.startswith("403 ") and "only the user who started" in said, said)
        else:
            as_nobody(sys.executable, script, str(made.port), "LEAVE", "/api/v1/cancel", "")
        scenario.expect(made.progress()["phase"] == "in-sync", "it was stopped")
    made.end(9)
    with scenario.case("the token is printed for a person at a terminal, and is in no other output"):
        read_link(scenario)
    with scenario.case("no verb asks another user who listens in the job's place, or believes him"):
        snoop_on_verbs(scenario)
    with scenario.case("an answer without end is not kept"):
        answer_without_end(scenario)
    with scenario.case("a state folder that another user owns or may write is refused"):
        state = scenario.folder()
        os.mkdir(os.path.join(state, "towline"))
        os.chmod(os.path.join(state, "towline"), 0o777)
        words = ["serve", "--listen", "127.0.0.1:0"]
        done = towline(*words, environment={"XDG_STATE_HOME": state})
        scenario.expect(done.returncode == EXIT["control"] and "chmod go-w" in done.stderr, done.stderr)
        if os.geteuid() == 0:
            os.chmod(os.path.join(state, "towline"), 0o700)
            os.chown(os.path.join(state, "towline"), NOBODY, NOBODY)
            for verb in (words, ["status"]):
                done = towline(*verb, environment={"XDG_STATE_HOME": state})
                scenario.expect(done.returncode == EXIT["control"] and "another user" in done.stderr, done.stderr)


def crowd(scenario, pair):
    """Somebody without the token opens all connections that he can, and keeps them with half requests."""
    with service(scenario, uris=pair.uris()) as made:
        made.api("POST", "start", {})
        made.wait_in_sync()
        halt, peers = threading.Event(), []

        def press():
            while not halt.wait(0.002):
                with contextlib.suppress(OSError):
                    peer = socket.create_connection(("127.0.0.1", made.port), 1)
                    peer.sendall(b"GET /api/v1/progress HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")
                    peers.append(peer)
                for peer in peers[-300::30]:  # a byte now and then keeps them alive
                    with contextlib.suppress(OSError):
                        peer.send(b"x")

        threads = [threading.Thread(target=press) for _ in range(2)]
        with scenario.case("hundreds of slow connections do not keep the operator out"):
            for thread in threads:
                thread.start()
            try:
                wait_until("a crowd", lambda: len(peers) > 300)
                for _ in range(8):
                    done = towline("status", "--listen", "127.0.0.1:%d" % made.port,
                                   environment={"XDG_STATE_HOME": made.folder}, timeout=20)
                    scenario.expect(done.returncode == 0 and "in-sync" in done.stdout, done.stderr)
            finally:
                halt.set()
                for thread in threads:
                    thread.join()
            threads_of = len(os.listdir("/proc/%d/task" % made.process.pid))
            scenario.expect(threads_of < 250, "%d threads" % threads_of)
        for peer in peers:
            peer.close()
        with scenario.case("a request that does not come to its end is cut off, however slowly it comes"):
            began = time.monotonic()
            slow = socket.create_connection(("127.0.0.1", made.port))
            slow.settimeout(0.3)
            slow.sendall(b"POST /api/v1/start HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 60000\r\n\r\n{")
            with contextlib.suppress(ConnectionError):
                while time.monotonic() - began < 20:
                    slow.sendall(b" ")
                    with contextlib.suppress(TimeoutError):
                        if not slow.recv(1):
                            break
            scenario.expect(4 < time.monotonic() - began < 10, "after %.1f s" % (time.monotonic() - began))
            slow.close()
        with scenario.case("status says that the process is there, and does not answer"):
            made.process.send_signal(signal.SIGSTOP)
            try:
                done = towline("status", "--listen", "127.0.0.1:%d" % made.port,
                               environment={"XDG_STATE_HOME": made.folder}, timeout=40)
            finally:
                made.process.send_signal(signal.SIGCONT)
            scenario.expect(done.returncode == EXIT["control"] and "did not answer" in done.stderr and
                            "is it running" not in done.stderr, done.stderr)
        with scenario.case("the job was not disturbed"):
            made.wait_in_sync()


# Crashes and secrets -----------------------------------------------------------------------------------

def killed(scenario, pair):
    """SIGKILL in the copy and in sync; a start with the same settings goes on."""
    scenario.fresh(pair)
    client = pair.source.client
    client["data"]["c"].insert_many([{"_id": n, "pad": "x" * 500} for n in range(scaled(20000, 2000))])
    made = Service(scenario, uris=pair.uris()).start()
    stirrer = corpus.Stirrer(client, scenario.seed)
    with scenario.case("kill -9 in the copy and in sync: the same start goes on"):
        try:
            for wait in (lambda: made.wait_for("copying", lambda now: now["phase"] in (
                    "copying", "catching-up", "in-sync")), made.wait_in_sync):
                made.api("POST", "start", {"options": {"range-size": 1}})
                wait()
                made.end(9)
                made.start()
                scenario.expect(made.progress()["state"] == "IDLE", "it does not tell the truth")
            made.api("POST", "start", {"options": {"range-size": 1}})
            made.wait_in_sync()
        finally:
            stirrer.stop()
        made.wait_in_sync()
        wait_until("the commit", lambda: try_commit(
            lambda method, name, body: made.api(method, name, body)) if made.progress()["canCommit"] else False)
        made.wait_for("done", lambda now: now["phase"] == "done")
        scenario.expect_equal(pair)
    made.end(9)


def secrets(scenario, pair):
    """A password that was planted in both connection strings is looked for in all that comes out."""
    word = "pl4ntedSecret"
    scenario.reset(*pair)
    pair.source.client["data"]["c"].insert_one({"_id": 1})

    def with_password(uri):
        return uri.replace("mongodb://", "mongodb://somebody:%s@" % word) + "&serverSelectionTimeoutMS=300"

    out = []
    for source, destination in ((with_password(pair.source.uri), pair.destination.uri),
                                (pair.source.uri, with_password(pair.destination.uri)),
                                ("mongodb://somebody:%s@127.0.0.1:1/?serverSelectionTimeoutMS=300" % word, pair.destination.uri),
                                ("mongodb://somebody:%s@:bad/" % word, pair.destination.uri),
                                ("mongodb+srv://somebody:%s@nowhere.invalid/?serverSelectionTimeoutMS=300" % word, pair.destination.uri)):
        with service(scenario) as made:
            body = {"sourceUri": source, "destinationUri": destination}
            for method, name in (("POST", "check"), ("POST", "plan"), ("POST", "start")):
                out.append(made.request(method, "/api/v1/" + name, body)[2])
            for _ in range(200):
                text = made.request("GET", "/api/v1/progress")[2]
                if json.loads(text)["progress"]["phase"] in ("new", "failed", "in-sync"):
                    break
                time.sleep(0.05)
            for path in ("/api/v1/progress", "/api/v1/summary", "/api/v1/collections", "/metrics",
                         "/api/v1/options", "/"):
                out.append(made.request("GET", path)[2])
            states = [str(list(pair.destination.client[name][collection].find()))
                      for name in pair.destination.client.list_database_names() if name.startswith("towline_")
                      for collection in pair.destination.client[name].list_collection_names()]
            out += states
            made.end()
            out += [made.text(), made.process.stdout.read()]
            for folder, _, files in os.walk(made.folder):
                for name in files:
                    with open(os.path.join(folder, name), "rb") as file:
                        out.append(file.read().decode("latin-1"))
        done = towline("run", "--source", source, "--destination", destination, "--listen", "none",
                       "--retry-window", "1", "--cutover", "auto", "--job", "other",
                       environment={"XDG_STATE_HOME": scenario.folder()})
        out += [done.stdout, done.stderr]
        scenario.reset(pair.destination)
    with scenario.case("a planted password is in no output, log, reply, file or state"):
        found = [text[max(0, text.index(word) - 80):text.index(word) + 40] for text in out if word in text]
        scenario.expect(len(out) > 40 and not found, "%d of %d: %s" % (len(found), len(out), found[:1]))


def main():
    with Scenario(__doc__, [("--part", {"default": ""})]) as scenario:
        pair = scenario.pair()
        for part in (documented, described, bad_bodies, access, others, crowd, over_tls, killed, secrets):
            if scenario.arguments.part not in part.__name__:
                continue
            scenario.fresh(pair)
            with scenario.case("part %s came to its end" % part.__name__):
                part(scenario, pair)


if __name__ == "__main__":
    main()
