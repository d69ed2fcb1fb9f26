#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""notices.py: each notice reaches a webhook (signed, with retries) and a mailbox (STARTTLS and login);
a mail server that never answers delays nothing; no password comes out."""
import base64
import hashlib
import hmac
import http.server
import json
import os
import pathlib
import socket
import ssl
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True

from job import EXIT, towline
from scenario import Scenario, wait_until

PASSWORD, KEY, TOKEN = "hunter2-password", "hunter2-key", "hunter2-token"


class Hook:
    """A webhook that keeps what it was sent; the first `refusals` requests are answered with 503."""

    def __init__(self, refusals=0, status=503):
        self.bodies, self.signatures, self.seen, self.times = [], [], 0, []
        hook = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.seen += 1
                hook.times.append(time.monotonic())
                refused = hook.seen <= refusals
                if not refused:
                    hook.bodies.append(body)
                    hook.signatures.append(self.headers.get("X-Towline-Signature"))
                self.send_response(status if refused else 204)
                self.end_headers()

            def log_message(self, *words):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = "http://127.0.0.1:%d/hooks/%s" % (self.server.server_port, TOKEN)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def events(self):
        return [json.loads(body)["event"] for body in self.bodies]


class Mailbox:
    """An SMTP server: STARTTLS with `certificate` (unless None), login needed, one mail a connection."""

    def __init__(self, certificate):
        self.mails, self.logins, self.plain = [], [], []
        self.certificate = certificate
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = "smtp://localhost:%d" % self.socket.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.socket.accept()
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        try:
            self.talk(connection)
        except (OSError, IndexError):
            pass
        finally:
            connection.close()

    def talk(self, connection):
        stream = connection.makefile("rwb")
        secure = False

        def say(*lines):
            for index, line in enumerate(lines):
                end = "" if index + 1 == len(lines) else "-"
                stream.write(("%s%s%s\r\n" % (line[:3], end or " ", line[4:])).encode())
            stream.flush()

        say("220 test")
        envelope = []
        while True:
            line = stream.readline().decode().strip()
            word = line.split(" ")[0].upper()
            if not line:
                return
            if not secure and word not in ("EHLO", "STARTTLS", "QUIT", "HELO"):
                self.plain.append(line)
            if word == "EHLO":
                offers = ["250 test"]
                if self.certificate and not secure:
                    offers.append("250 STARTTLS")
                else:
                    offers.append("250 AUTH PLAIN")
                say(*offers)
            elif word == "STARTTLS" and self.certificate:
                say("220 go on")
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(self.certificate)
                connection = context.wrap_socket(connection, server_side=True)
                stream, secure = connection.makefile("rwb"), True
            elif word == "AUTH":
                text = line.split(" ")[2] if line.count(" ") == 2 else None
                if text is None:
                    say("334 ")
                    text = stream.readline().decode().strip()
                login = base64.b64decode(text).decode().split("\0")[1:]
                self.logins.append(login)
                say("235 ok" if login == ["bob", PASSWORD] else "535 no")
            elif word in ("MAIL", "RCPT"):
                envelope.append(line)
                say("250 ok")
            elif word == "DATA":
                say("354 go on")
                lines = []
                while (line := stream.readline()) != b".\r\n":
                    lines.append(line.decode())
                self.mails.append((envelope, "".join(lines)))
                envelope = []
                say("250 taken")
            elif word == "QUIT":
                say("221 bye")
                return
            else:
                say("500 what?")

    def subjects(self):
        return [line for _, text in self.mails for line in text.split("\r\n")
                if line.startswith("Subject: ")]


def make_certificate(scenario):
    """One file with key and certificate of localhost."""
    folder = scenario.folder()
    key, pem, both = (os.path.join(folder, name) for name in ("key", "pem", "both"))
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out",
                    pem, "-days", "2", "-subj", "/CN=localhost", "-addext",
                    "subjectAltName=DNS:localhost"], check=True, capture_output=True)
    with open(both, "w", encoding="utf-8") as out:
        for part in (key, pem):
            with open(part, encoding="utf-8") as file:
                out.write(file.read())
    return both


def channels(scenario, hook, box, certificate):
    options = {}
    if hook:
        options.update(notify_webhook=hook.url, notify_key_file=scenario.secret(KEY))
    if box:
        options.update(notify_smtp=box.url, notify_from="towline@example.com",
                       notify_to="ops@example.com, boss@example.com", notify_user="bob",
                       notify_password_file=scenario.secret(PASSWORD),
                       notify_ca_file=certificate)
    return options


def words_of(options):
    return [word for name, value in options.items()
            for word in ("--" + name.replace("_", "-"), value)]


def expect_no_secret(scenario, *texts):
    for text in texts:
        for secret in (PASSWORD, KEY, TOKEN):
            scenario.expect(secret not in text, "a secret came out: %s" % text[-500:])


def tried(scenario, certificate):
    hook, box = Hook(), Mailbox(certificate)
    options = channels(scenario, hook, box, certificate)
    with scenario.case("notify --test: both channels, signed, encrypted, logged in"):
        done = towline("notify", "--test", *words_of(options), "--job", "mine")
        scenario.expect(done.returncode == 0, done.stderr)
        expect_no_secret(scenario, done.stdout, done.stderr)
        body = hook.bodies[0]
        wanted = "sha256=" + hmac.new(KEY.encode(), body, hashlib.sha256).hexdigest()
        scenario.expect(hook.signatures == [wanted], "signed %s" % hook.signatures)
        scenario.expect(json.loads(body)["event"] == "test" and json.loads(body)["job"] == "mine",
                        str(body))
        scenario.expect(box.logins == [["bob", PASSWORD]] and not box.plain, "%s %s"
                        % (box.logins, box.plain))
        envelope, text = box.mails[0]
        scenario.expect([line.split(":")[1].strip("<>") for line in envelope] ==
                        ["towline@example.com", "ops@example.com", "boss@example.com"],
                        str(envelope))
        scenario.expect("Subject: [towline] job mine: a test notice\r\n" in text and "Date: " in text
                        and "\r\n\r\nJob mine" in text, text)
    bad = [("a wrong password", dict(options, notify_password_file=scenario.secret("wrong")),
            "mail server"),
           ("a certificate of nobody we know", {name: value for name, value in options.items()
                                                if name != "notify_ca_file"}, "mail server"),
           ("a mail server without TLS", dict(options, notify_smtp=Mailbox(None).url), "mail server"),
           ("a webhook that refuses", channels(scenario, Hook(99, 403), None, None), "403"),
           ("a webhook that is not there", {"notify_webhook": "http://127.0.0.1:1/" + TOKEN},
            "webhook")]
    for label, settings, word in bad:
        with scenario.case("notify --test: " + label):
            before = len(box.mails)
            done = towline("notify", "--test", *words_of(settings))
            scenario.expect(done.returncode == EXIT["unreachable"] and word in done.stderr,
                            "%d %s" % (done.returncode, done.stderr))
            expect_no_secret(scenario, done.stdout, done.stderr)
            scenario.expect(len(box.mails) == before, "a mail arrived")
    with scenario.case("notify: what cannot be used is refused"):
        for words, part in (([], "--test"), (["--test"], "--notify-webhook"),
                            (["--test", "--notify-smtp", "smtp://h"], "--notify-from"),
                            (["--test", "--notify-webhook", "ftp://h"], "https://")):
            done = towline("notify", *words)
            scenario.expect(done.returncode == EXIT["option"] and part in done.stderr, done.stderr)


def fill(scenario, pair):
    scenario.fresh(pair)
    pair.source.client["shop"]["orders"].insert_many([{"_id": n} for n in range(200)])


def told(scenario, pair, certificate):
    hook, box = Hook(refusals=2), Mailbox(certificate)
    options = channels(scenario, hook, box, certificate)
    fill(scenario, pair)
    with scenario.case("in sync and cutover done, after a webhook that failed twice"):
        job = scenario.job(pair, name="told", **options)
        job.wait_in_sync()
        wait_until("in_sync by both", lambda: "in_sync" in hook.events() and box.mails, 30)
        gaps = [after - before for before, after in zip(hook.times, hook.times[1:])]
        scenario.expect(gaps[0] > 0.9 and gaps[1] > 1.8, "no backoff: %s" % gaps)
        job.finish()
        scenario.expect(hook.events() == ["in_sync", "done"], str(hook.events()))
        scenario.expect(box.subjects() == ["Subject: [towline] job told: in sync",
                                           "Subject: [towline] job told: cutover done"],
                        str(box.subjects()))
        last = json.loads(hook.bodies[-1])
        scenario.expect(last["job"] == "told" and last["source"] in pair.source.uri, str(last))
        expect_no_secret(scenario, job.tail(400), json.dumps(job.summary()), job.output)
    fill(scenario, pair)
    pair.source.client["shop"]["orders"].insert_one({"_id": "more"})
    with scenario.case("window nearly over, and expired"):
        hook.bodies.clear()
        job = scenario.job(pair, name="window", window="3605s", **options)
        job.wait_in_sync()
        wait_until("window_low", lambda: "window_low" in hook.events(), 30)
        scenario.expect(json.loads(hook.bodies[-1])["message"].startswith("60 min left"),
                        str(hook.bodies[-1]))
        job.kill()
        job.options["window"] = "1s"
        hook.bodies.clear()
        scenario.expect(job.start().wait(60) == EXIT["expired"], "ended with %s" % job.status)
        scenario.expect(hook.events() == ["expired"], str(hook.events()))
    scenario.reset(pair.destination)
    with scenario.case("a cutover that was called off, since this server cannot block writes"):
        hook.bodies.clear()
        job = scenario.job(pair, name="off", **options)
        job.wait_in_sync()
        job.api("POST", "cutover", '{"blockWrites": true}')
        wait_until("the notice", lambda: "cutover_called_off" in hook.events(), 30)
        job.finish()
        scenario.expect(hook.events() == ["in_sync", "cutover_called_off", "done"], str(hook.events()))
        scenario.expect("setUserWriteBlockMode" in json.loads(hook.bodies[1])["message"],
                        str(hook.bodies[1]))
    scenario.reset(pair.destination)
    with scenario.case("the verification found differences"):
        hook.bodies.clear()
        job = scenario.job(pair, name="different", verify_repair="no", **options)
        job.wait_in_sync()
        pair.destination.client["shop"]["orders"].insert_one({"_id": "planted"})
        job.commit()
        scenario.expect(job.wait() == EXIT["verify"], "ended with %s" % job.status)
        scenario.expect(hook.events() == ["in_sync", "different"], str(hook.events()))
    scenario.reset(pair.destination)
    with scenario.case("the verification repaired differences"):
        hook.bodies.clear()
        job = scenario.job(pair, name="repaired", verify_repair="yes", **options)
        job.wait_in_sync()
        pair.destination.client["shop"]["orders"].insert_one({"_id": "planted"})
        job.commit()
        scenario.expect(job.wait() == EXIT["ok"], "ended with %s" % job.status)
        scenario.expect("different" in hook.events(), str(hook.events()))
    with scenario.case("failed"):
        hook.bodies.clear()
        job = scenario.job(pair, name="failed", include=["shop"], **options)
        scenario.expect(job.wait() == EXIT["conflict"], "ended with %s" % job.status)
        scenario.expect(hook.events() == ["failed"], str(hook.events()))
        scenario.expect("shop.orders" in json.loads(hook.bodies[0])["message"], str(hook.bodies))


def dead(scenario, pair, certificate):
    silent = socket.create_server(("127.0.0.1", 0))  # takes connections, and never says a word
    fill(scenario, pair)
    options = channels(scenario, None, Mailbox(certificate), certificate)
    options["notify_smtp"] = "smtp://localhost:%d" % silent.getsockname()[1]
    with scenario.case("a mail server that never answers delays the end by a few seconds at most"):
        job = scenario.job(pair, name="dead", **options)
        job.wait_in_sync()
        job.commit()
        job.wait_for("done", lambda progress: progress["phase"] == "done")
        began = time.monotonic()
        job.wait_done()
        scenario.expect(time.monotonic() - began < 6, "took %.1f s" % (time.monotonic() - began))
        scenario.expect("notice_lost" in job.tail(), job.tail())
        expect_no_secret(scenario, job.tail(400))
        scenario.expect_equal(pair)
    silent.close()


def main():
    with Scenario(__doc__) as scenario:
        certificate = make_certificate(scenario)
        tried(scenario, certificate)
        pair = scenario.pair()
        for part in (told, dead):
            with scenario.case("part %s came to its end" % part.__name__):
                part(scenario, pair, certificate)


if __name__ == "__main__":
    main()
