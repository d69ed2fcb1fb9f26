#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""check.py: each check before a start fails for real where a server can be made to, and says what to
do; neither `check` nor `plan` writes anything; the plan's figures and command are right."""
import contextlib
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True

import compare
from job import EXIT, Job, clean_environment, binary, free_port, towline
from scenario import Scenario, scaled

SECRET = "hunter2"
# Every line of the design's list, in the order in which they are told.
NAMES = ["source_uri", "source_name", "source_connection", "source_tls", "source_login",
         "destination_uri", "destination_name", "destination_connection", "destination_tls",
         "destination_login", "source_kind", "source_member", "destination_member",
         "same_deployment", "versions", "source_privileges", "destination_privileges", "source_reads",
         "source_stream", "destination_reads", "job_settings", "job_lease", "unsupported", "left_out", "filter", "indexes",
         "options", "views",
         "destination_empty", "spool_disk", "destination_disk", "oplog_window", "clock_skew",
         "open_files"]
USERS = {"root": ["root"], "full": ["readAnyDatabase", "clusterMonitor"],
         "reader": ["readAnyDatabase"], "nobody": [],
         "writer": ["readWriteAnyDatabase", "dbAdminAnyDatabase"],
         "narrow": [{"role": "dbOwner", "db": "shop"}, {"role": "dbOwner", "db": "towline_default"}]}


def events(server):
    """What was written to a server, but for the entries that it writes by itself."""
    return [(entry["ts"], entry["op"], entry["ns"]) for entry in
            server.client["local"]["oplog.rs"].find({"op": {"$ne": "n"}})]


@contextlib.contextmanager
def untouched(scenario, *servers):
    before = [(compare.snapshot(server.uri), events(server)) for server in servers]
    yield
    for server, (data, oplog) in zip(servers, before):
        scenario.expect(compare.snapshot(server.uri) == data, "the data of %s changed" % server.uri)
        new = events(server)[len(oplog):]
        scenario.expect(not new, "written: %s" % new)


def without_figures(text):
    """Free room and the oplog's age change from one run to the next."""
    return re.sub(r"[0-9.]+", "#", text)


def look(scenario, source, destination, *arguments, verb="check", **options):
    """Runs the verb as table and as JSON: the same exit status; the report, with the checks by name."""
    words = [verb, "--source", source, "--destination", destination, *arguments]
    table = towline(*words, **options)
    done = towline(*words, "--json", **options)
    for text in (table.stdout, table.stderr, done.stdout, done.stderr):
        scenario.expect(SECRET not in text, "the password is printed")
    report = json.loads(done.stdout)
    scenario.expect(table.returncode == done.returncode == report["exitStatus"],
                    "exit statuses %s, %s and %s" % (table.returncode, done.returncode,
                                                     report["exitStatus"]))
    lines = [line for line in done.stderr.splitlines() if line.startswith("towline: ")]
    scenario.expect(len(lines) == (done.returncode != 0), "on stderr: %s" % done.stderr[-300:])
    report["by_name"] = {entry["name"]: entry for entry in report["checks"]}
    missing = [name for name in NAMES if name not in report["by_name"]]
    scenario.expect(not missing, "not checked: %s" % missing)
    shown = without_figures(table.stdout)
    for entry in report["checks"]:
        row = "  %-8s %-22s %s" % (entry["result"], entry["name"].replace("_", " "), entry["facts"])
        scenario.expect(without_figures(row) in shown, "not in the table: %s" % row)
    report["table"], report["line"] = table.stdout, lines[0] if lines else ""
    return report


def expect(scenario, report, name, result, *words):
    """The check has the result, and every word stands in its facts or advice."""
    entry = report["by_name"][name]
    scenario.expect(entry["result"] == result, "%s: %s" % (name, entry))
    for word in words:
        scenario.expect(word in entry["facts"] + " " + entry["advice"], "no %r in %s" % (word, entry))
    if result == "failure":
        scenario.expect(entry["advice"] and entry["exitStatus"], "no advice: %s" % entry)
    return entry


def expect_failure(scenario, report, name, status, *words):
    """It is the first failure, whose exit status is the program's."""
    entry = expect(scenario, report, name, "failure", *words)
    first = next(entry for entry in report["checks"] if entry["result"] == "failure")
    scenario.expect(first["name"] == name, "fails before: %s" % first)
    scenario.expect(report["exitStatus"] == EXIT[status], "exit status %d" % report["exitStatus"])
    scenario.expect(entry["facts"] in report["line"], "not on stderr: %s" % report["line"])


def good(scenario, pair):
    source, destination = pair
    with scenario.case("all is well: exit status 0, nothing is written"), \
            untouched(scenario, source, destination):
        report = look(scenario, *pair.uris(), "--spool", os.path.join(scenario.folder(), "x", "y"))
        bad = [entry for entry in report["checks"] if entry["result"] == "failure"]
        scenario.expect(report["exitStatus"] == 0 and not bad, "failed: %s" % bad)
        expect(scenario, report, "source_login", "pass")
        expect(scenario, report, "source_privileges", "pass", "no login")
        expect(scenario, report, "clock_skew", "pass")
        expect(scenario, report, "filter", "pass", "takes 4 of")
        expect(scenario, report, "destination_empty", "pass")
    with scenario.case("the plan has the figures, and a command that runs"), \
            untouched(scenario, source, destination):
        file = scenario.secret(source.uri)
        words = ["--source-file", file, "--destination", destination.uri, "--include", "shop",
                 "--cutover", "manual", "--range-size", "1"]
        done = towline("plan", *words)
        scenario.expect(done.returncode == 0, done.stderr[-300:])
        scenario.expect("Review and confirm" in done.stdout, done.stdout[-500:])
        plan = json.loads(towline("plan", *words, "--json").stdout)
        scenario.expect((plan["collections"], plan["views"], plan["documents"], plan["indexes"])
                        == (2, 1, 3000, 4), "wrong: %s" % {key: plan[key] for key in
                        ("collections", "views", "documents", "indexes")})
        rows = {row["ns"]: row for row in plan["namespaces"]}
        scenario.expect(sorted(rows) == ["shop.orders", "shop.people", "shop.view"], str(rows))
        scenario.expect(rows["shop.orders"]["bytes"] > 2e6 and rows["shop.orders"]["ranges"] > 1,
                        str(rows["shop.orders"]))
        scenario.expect(plan["estimatedSeconds"] > 0 and plan["oplogWindowSeconds"] >= 0, str(plan))
        command = shlex.split(done.stdout.strip().splitlines()[-1])
        scenario.expect(command == ["towline", "run", *words], "the command is %s" % command)


def connections(scenario, pair):
    source, destination = pair.uris()
    with scenario.case("unreachable host, name that does not resolve: both sides are told"):
        report = look(scenario, "mongodb://u:%s@127.0.0.1:%d/?serverSelectionTimeoutMS=1000"
                      % (SECRET, free_port()),
                      "mongodb://no-such-host.invalid/?serverSelectionTimeoutMS=1000")
        expect_failure(scenario, report, "source_connection", "unreachable", "cannot be reached",
                       "firewall")
        expect(scenario, report, "source_name", "pass")
        expect(scenario, report, "source_login", "skipped")
        expect(scenario, report, "destination_name", "failure", "no-such-host.invalid", "resolve")
        expect(scenario, report, "destination_connection", "skipped")
        expect(scenario, report, "destination_empty", "skipped", "not possible")
        expect(scenario, report, "spool_disk", "pass" if report["by_name"]["spool_disk"]["result"]
               == "pass" else "warning")
        expect(scenario, report, "open_files", "pass")
    with scenario.case("malformed URI"):
        report = look(scenario, "mongodb://u:%s@" % SECRET, destination)
        expect_failure(scenario, report, "source_uri", "option", "malformed", "Empty hostname")
    with scenario.case("unknown options of a URI are named; a misspelt security option fails"):
        join = "&" if "?" in destination else "/?"
        report = look(scenario, "mongodb://127.0.0.1:1/?ssll=true", destination.rstrip("/") + join + "hartbeat=1")
        expect_failure(scenario, report, "source_uri", "option", "ssll", "leave it out")
        expect(scenario, report, "destination_uri", "warning", "unknown option hartbeat")
    with scenario.case("standalone source"), untouched(scenario, pair.destination):
        alone = scenario.server(standalone=True)
        report = look(scenario, alone.uri, destination)
        expect_failure(scenario, report, "source_kind", "unsuitable", "standalone", "replica set")
    with scenario.case("same deployment on both sides"), untouched(scenario, pair.source):
        report = look(scenario, source, source.replace("127.0.0.1", "localhost"))
        expect_failure(scenario, report, "same_deployment", "unsuitable", "same deployment")


def certificate(folder, name):
    """A self-signed certificate with its key in one file, and without the key in another."""
    key, pem, both = (os.path.join(folder, name + end) for end in (".key", ".pem", ".both"))
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out",
                    pem, "-days", "2", "-subj", "/CN=localhost", "-addext",
                    "subjectAltName=DNS:localhost,IP:127.0.0.1"], check=True, capture_output=True)
    with open(both, "w", encoding="utf-8") as out:
        for part in (pem, key):
            with open(part, encoding="utf-8") as file:
                out.write(file.read())
    return pem, both


def tls(scenario, pair):
    folder = scenario.folder()
    right, both = certificate(folder, "right")
    wrong, _ = certificate(folder, "wrong")
    garbage = os.path.join(folder, "garbage.pem")
    with open(garbage, "w", encoding="utf-8") as file:
        file.write("this is no certificate\n")
    server = scenario.server(tls=both)
    for label, ca, status, words in (
            ("that does not exist", os.path.join(folder, "none.pem"), "option", ["none.pem"]),
            ("that holds no certificate", garbage, "option", ["garbage.pem", "no certificate"]),
            ("of another authority", wrong, "unreachable", ["certificate", "tlsCAFile"])):
        with scenario.case("CA file " + label), untouched(scenario, pair.destination):
            report = look(scenario, "%s&tls=true&tlsCAFile=%s&serverSelectionTimeoutMS=1000"
                          % (server.uri, ca), pair.destination.uri)
            expect_failure(scenario, report, "source_tls", status, *words)
    with scenario.case("the right CA file"):
        report = look(scenario, "%s&tls=true&tlsCAFile=%s" % (server.uri, right),
                      pair.destination.uri)
        expect(scenario, report, "source_tls", "pass")
        expect(scenario, report, "source_kind", "pass")


def with_users(scenario):
    """A server that asks for a login, and the URIs of its users."""
    storage = scenario.folder()
    server = scenario.server(storage=storage)
    for name, roles in USERS.items():
        server.client.admin.command("createUser", name, pwd=SECRET, roles=roles)
    server.client["shop"]["orders"].insert_many([{"_id": n} for n in range(10)])
    server.stop()
    scenario.servers.remove(server)
    server = scenario.server(storage=storage, auth=True)
    return server, {name: server.uri.replace("//", "//%s:%s@" % (name, SECRET)) + "&authSource=admin"
                    for name in USERS}


def privileges(scenario, pair):
    server, uris = with_users(scenario)
    other = pair.destination.uri
    with scenario.case("wrong password"):
        report = look(scenario, uris["full"].replace(SECRET, SECRET + "x"), other)
        expect_failure(scenario, report, "source_login", "unreachable", "refuses the login",
                       "password")
        expect(scenario, report, "source_connection", "pass")
    with scenario.case("no user where one is asked for"):
        report = look(scenario, server.uri, other)
        expect_failure(scenario, report, "source_privileges", "unreachable", "names no user",
                       "authSource")
    with scenario.case("source: a user with no privilege"):
        report = look(scenario, uris["nobody"], other)
        expect_failure(scenario, report, "source_privileges", "unreachable", "nobody@admin",
                       "changeStream", "readAnyDatabase")
    with scenario.case("source: only the oplog window cannot be read: a warning"):
        report = look(scenario, uris["reader"], other)
        expect(scenario, report, "source_privileges", "warning", "local.oplog.rs", "clusterMonitor")
    with scenario.case("source: all privileges"):
        expect(scenario, look(scenario, uris["full"], other), "source_privileges", "pass", "full")
    source = scenario.server()
    source.client["shop"]["other"].insert_one({"_id": 1})
    with scenario.case("destination: privileges are named, and the command grants them"):
        report = look(scenario, source.uri, uris["reader"])
        expect_failure(scenario, report, "destination_privileges", "unreachable", "insert on data",
                       "collMod on data")
        advice = report["by_name"]["destination_privileges"]["advice"]
        match = re.search(r'db\.getSiblingDB\("(\w+)"\)\.grantRolesToUser\("(\w+)", \[(.*)\]\)', advice)
        scenario.expect(match, "no command: %s" % advice)
        roles = [{"role": role, "db": db} for role, db in
                 re.findall(r'\{role: "(\w+)", db: "(\w+)"\}', match[3])]
        scenario.expect(roles, "no roles: %s" % advice)
        root = type(server.client)(uris["root"])
        root[match[1]].command("grantRolesToUser", match[2], roles=roles)
        expect(scenario, look(scenario, source.uri, uris["reader"]), "destination_privileges", "pass")
    with scenario.case("destination: rights on the databases written are enough, with a filter"):
        report = look(scenario, source.uri, uris["narrow"], "--include", "shop.other")
        expect(scenario, report, "destination_privileges", "pass", "narrow")
        report = look(scenario, source.uri, uris["narrow"])
        expect(scenario, report, "destination_privileges", "failure", "insert on data")


def namespaces(scenario, pair):
    source, destination = pair
    source.client["odd"].create_collection("times", timeseries={"timeField": "t"})
    for n in range(66):
        source.client["odd"]["many"].create_index("f%d" % n)
    destination.client["shop"]["orders"].insert_one({"_id": "in the way"})
    destination.client["mine"]["c"].insert_one({"_id": 1})
    with scenario.case("time series, indexes, conflict: all are told at once, nothing is written"), \
            untouched(scenario, source, destination):
        report = look(scenario, *pair.uris())
        expect_failure(scenario, report, "unsupported", "unsuitable", "odd.times", "--exclude")
        expect(scenario, report, "indexes", "failure", "odd.many", "64")
        entry = expect(scenario, report, "destination_empty", "failure", "shop.orders",
                       "--clear-destination")
        scenario.expect(entry["exitStatus"] == EXIT["conflict"], str(entry))
    with scenario.case("--index-errors report makes indexes a warning"):
        report = look(scenario, *pair.uris(), "--index-errors", "report")
        expect(scenario, report, "indexes", "warning", "odd.many")
    with scenario.case("--clear-destination says what it would drop, and drops nothing"), \
            untouched(scenario, source, destination):
        report = look(scenario, *pair.uris(), "--include", "shop", "--clear-destination")
        entry = expect(scenario, report, "destination_empty", "warning", "shop.orders")
        scenario.expect("mine.c" not in entry["facts"] and report["exitStatus"] == 0, str(entry))
    with scenario.case("what users keep in the server's own databases is named"):
        source.client["admin"]["orders"].insert_one({"_id": 1})
        report = look(scenario, *pair.uris(), "--include", "shop", "--clear-destination")
        entry = expect(scenario, report, "left_out", "warning", "admin.orders", "another database")
        scenario.expect("system." not in entry["facts"] and "local." not in entry["facts"], str(entry))
        source.client["admin"].drop_collection("orders")
    with scenario.case("a database that differs by case only from one of the source's"):
        destination.client["SHOP"]["c"].insert_one({"_id": 1})
        report = look(scenario, *pair.uris(), "--include", "shop", "--clear-destination")
        expect_failure(scenario, report, "destination_empty", "conflict", "has SHOP", "--exclude")
        destination.client.drop_database("SHOP")
    with scenario.case("a plan of what cannot run is no command"), \
            untouched(scenario, source, destination):
        done = towline("plan", "--source", source.uri, "--destination", destination.uri)
        scenario.expect(done.returncode == EXIT["unsuitable"] and "Not ready" in done.stdout and
                        "towline run" not in done.stdout, done.stdout[-300:])
    with scenario.case("a run is refused by the same checks"), \
            untouched(scenario, source, destination):
        done = towline("run", "--source", source.uri, "--destination", destination.uri,
                       "--listen", "none", "--cutover", "auto", "--progress", "none")
        scenario.expect(done.returncode == EXIT["unsuitable"] and "odd.times" in done.stderr,
                        done.stderr[-300:])
    with scenario.case("a filter that matches nothing"):
        report = look(scenario, *pair.uris(), "--include", "shpo")
        expect_failure(scenario, report, "filter", "option", "none of", "spelling")
    with scenario.case("one of two patterns that matches nothing"):
        report = look(scenario, *pair.uris(), "--include", "other", "--include", "shpo.orders")
        expect(scenario, report, "filter", "warning", "shpo.orders")


def state(scenario, pair):
    job = scenario.job(pair, name="held", include=["shop"], lease="6s")
    job.wait_in_sync()
    words = ["--job", "held", "--include", "shop", "--lease", "6s"]
    with scenario.case("another process holds the job"):
        report = look(scenario, *pair.uris(), *words)
        expect_failure(scenario, report, "job_lease", "lease", str(job.process.pid), "--job")
        expect(scenario, report, "destination_empty", "pass")
        scenario.expect(job.running(), "the job ended")
    with scenario.case("other settings than the job began with"):
        report = look(scenario, *pair.uris(), *words, "--exclude", "shop.people")
        expect_failure(scenario, report, "job_settings", "settings", "filter", "--job")
    with scenario.case("a process that was killed holds the job until its lease has run out"):
        job.kill()
        report = look(scenario, *pair.uris(), *words)
        expect(scenario, report, "job_lease", "warning", str(job.process.pid), "a start waits")
        scenario.expect(report["exitStatus"] == 0, report["line"])
    time.sleep(6)  # so long it lasts
    with scenario.case("a job that can go on"), untouched(scenario, *pair):
        report = look(scenario, *pair.uris(), *words)
        expect(scenario, report, "job_settings", "pass", "goes on")
        expect(scenario, report, "job_lease", "pass")
        scenario.expect(report["exitStatus"] == 0, report["line"])


def machine(scenario, pair):
    words = ["check", "--source", pair.source.uri, "--destination", pair.destination.uri]
    with scenario.case("too few file descriptors"):
        done = subprocess.run(["bash", "-c", 'ulimit -n 100; exec "$@"', "-", binary(), *words],
                              capture_output=True, text=True, env=clean_environment(), timeout=60)
        scenario.expect(done.returncode == EXIT["unsuitable"] and "may open 100 files" in done.stderr
                        and "ulimit -n" in done.stderr, done.stderr[-400:])
    with scenario.case("the spool's folder cannot be written"):
        report = look(scenario, *pair.uris(), "--spool", "/proc/spool")
        expect_failure(scenario, report, "spool_disk", "spool", "/proc/spool", "--spool")
    folder = scenario.folder()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder],
                      capture_output=True, check=False).returncode == 0:
        try:
            with scenario.case("too little disk for the spool"):
                report = look(scenario, *pair.uris(), "--spool", os.path.join(folder, "spool"))
                expect_failure(scenario, report, "spool_disk", "spool", "8.4 MB", "--spool")
        finally:
            subprocess.run(["umount", folder], check=True)
    else:
        print("# no right to mount a small disk here")


def oplog(scenario, pair):
    short = scenario.server(oplog=100)
    rows = [{"_id": n, "pad": os.urandom(2000).hex()} for n in range(scaled(25000, 25000))]
    short.client["big"]["c"].insert_many(rows)
    stopped = threading.Event()

    def overwrite():  # a slow check would see the last writes grow old
        while not stopped.wait(0.2):
            short.client["other"]["c"].insert_many([{} for _ in range(120)])
    writer = threading.Thread(target=overwrite, daemon=True)
    writer.start()
    with scenario.case("an oplog shorter than the copy: a warning with both figures"):
        try:
            report = look(scenario, short.uri, pair.destination.uri, "--include", "big")
        finally:
            stopped.set()
            writer.join()
        expect(scenario, report, "oplog_window", "warning", "reaches back", "estimated to take 2 s",
               "replSetResizeOplog")
        scenario.expect(report["exitStatus"] == 0, report["line"])


def main():
    with Scenario(__doc__) as scenario:
        pair = scenario.pair()
        shop = pair.source.client["shop"]
        shop["orders"].insert_many([{"_id": n, "pad": os.urandom(500).hex()} for n in range(2000)])
        shop["people"].insert_many([{"_id": n} for n in range(1000)])
        shop["people"].create_index("name")
        shop["people"].create_index([("age", 1)], unique=False)
        shop.create_collection("view", viewOn="people", pipeline=[])
        pair.source.client["other"]["c"].insert_one({"_id": 1})
        for part in (good, connections, tls, privileges, state, machine, oplog, namespaces):
            scenario.reset(pair.destination)
            with scenario.case("part %s came to its end" % part.__name__):
                part(scenario, pair)


if __name__ == "__main__":
    main()
