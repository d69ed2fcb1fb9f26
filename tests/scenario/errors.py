#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""errors.py: every documented refusal has its exit status, one line that says what to do, and no
effect: a snapshot of the destination before and after is the same."""
import contextlib
import fcntl
import json
import os
import pathlib
import select
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True

import bson
from bson import Int64

import compare
from job import EXIT, binary, clean_environment, free_port, towline
from scenario import Scenario, scaled, wait_until

HOLD = 5  # times that a job is caught while it copies before the case gives up


def expect_exit(scenario, done, status, *words):
    """The exit status, and one line `towline: …` on stderr that holds every word."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("towline: ")]
    scenario.expect(done.returncode == EXIT[status], "exit status %s instead of %d (%s): %s"
                    % (done.returncode, EXIT[status], status, done.stderr[-300:]))
    scenario.expect(len(lines) == 1, "%d lines `towline: …` on stderr: %s"
                    % (len(lines), done.stderr[-600:]))
    for word in words:
        scenario.expect(word.lower() in lines[0].lower(),
                        "the message does not say %r: %s" % (word, lines[0]))
    return lines[0]


@contextlib.contextmanager
def untouched(scenario, server):
    before = compare.snapshot(server.uri)
    yield
    after = compare.snapshot(server.uri)
    changed = [name for name in sorted(set(before) | set(after))
               if before.get(name) != after.get(name)]
    scenario.expect(not changed, "the destination changed: %s" % ", ".join(changed))


def run(source, destination, *arguments, **options):
    """`towline run` to its end, with our settings for what `arguments` leave open."""
    words = ["run"]
    for name, value in (("--source", source), ("--destination", destination), ("--listen", "none"),
                        ("--progress", "none"), ("--cutover", "auto")):
        if name not in arguments:
            words += [name, value]
    return towline(*words, *arguments, timeout=60, **options)


def bad_options(scenario, pair):
    source, destination = pair.uris()
    bad = [(["--no-such-option"], "no-such-option"), (["--workers", "none"], "workers"),
           (["--workers", "0"], "workers"), (["--memory", "-5"], "memory"),
           (["--cutover", "later"], "cutover"), (["--job", "not/a name"], "job"),
           (["--include", "$bad"], "include"), (["--exclude", "admin"], "admin"),
           (["--source", "no-uri"], "source"), (["--listen", "nowhere"], "listen"),
           (["--job"], "job"), (["surplus"], "surplus"), (["--wait"], "wait")]
    with scenario.case("bad option: a cutover waits for its end only"):
        expect_exit(scenario, towline("cutover", "--wait=verified"), "option", "--wait", "verified")
        expect_exit(scenario, towline("status", "--wait", "later"), "option", "--wait", "later")
    with scenario.case("bad option: --abort with --wait"):
        expect_exit(scenario, towline("cutover", "--abort", "--wait"), "option", "--abort", "--wait")
    with scenario.case("bad option: --timeout without --wait"):
        expect_exit(scenario, towline("cutover", "--timeout", "5m"), "option", "--timeout", "--wait")
    with scenario.case("bad option: a manual cutover that nobody can ask for"):
        expect_exit(scenario, run(source, destination, "--cutover", "manual"), "option", "--listen", "--cutover auto")
    with scenario.case("bad option: --continuous with a window"):
        for words in (["--window", "3h"], ["--extend", "3h"]):
            expect_exit(scenario, run(source, destination, "--continuous", *words), "option", "--continuous", words[0])
    for arguments, word in bad:
        with scenario.case("bad option: " + " ".join(arguments)), \
                untouched(scenario, pair.destination):
            expect_exit(scenario, run(source, destination, *arguments), "option", word)
    with scenario.case("bad option: no source at all"):
        expect_exit(scenario, towline("run", "--destination", destination), "option", "source")
    with scenario.case("bad option: no such verb"):
        expect_exit(scenario, towline("fly"), "option", "fly")
    with scenario.case("bad option: in the environment"):
        done = run(source, destination, environment={"TOWLINE_WORKERS": "many"})
        expect_exit(scenario, done, "option", "workers")
    with scenario.case("bad option: a secret is not repeated"):
        done = run("mongodb://user:hunter2@", destination)
        scenario.expect(done.returncode == EXIT["option"], "exit status %d" % done.returncode)
        scenario.expect("hunter2" not in done.stdout + done.stderr, "the password is printed")
    nowhere = "mongodb://127.0.0.1:%d/" % free_port()
    for name, uri, words in (("a port", "mongodb://127.0.0.1:99999/", ("port 99999",)),
                             ("a misspelt security option", "mongodb://127.0.0.1/?ssll=true", ("ssll", "ssl"))):
        for side, arguments in (("source", ["--source", uri, "--destination", nowhere]),
                                ("destination", ["--source", nowhere, "--destination", uri])):
            with scenario.case("bad URI, before anything is dialled: %s of the %s" % (name, side)):
                for verb in (["run", "--listen", "none", "--cutover", "auto"], ["verify"]):
                    began = time.monotonic()
                    done = towline(*verb, *arguments)
                    expect_exit(scenario, done, "option", "--" + side, "the URI of the " + side, *words)
                    scenario.expect(time.monotonic() - began < 3, "it took %.1f s" % (time.monotonic() - began))
                    scenario.expect("Summary" not in done.stdout, done.stdout)
    with scenario.case("an option that the driver does not know is named in the log"):
        done = run(source + "&hartbeat=1" if "?" in source else source + "/?hartbeat=1", nowhere +
                   "?serverSelectionTimeoutMS=300")
        scenario.expect("unknown option hartbeat" in done.stderr, done.stderr)
    with scenario.case("source-file that does not exist is named"):
        done = towline("run", "--source-file", "/no/such/file", "--destination", destination)
        expect_exit(scenario, done, "option", "/no/such/file")


def unreachable(scenario, pair):
    source, destination = pair.uris()
    nowhere = "mongodb://u:hunter2@127.0.0.1:%d/?serverSelectionTimeoutMS=2000" % free_port()
    for side, uris in (("source", (nowhere, destination)), ("destination", (source, nowhere))):
        with scenario.case("unreachable %s" % side), untouched(scenario, pair.destination):
            done = run(*uris)
            expect_exit(scenario, done, "unreachable", side)
            scenario.expect("hunter2" not in done.stderr, "the password is printed")
    with scenario.case("unreachable: no table of zeros"):
        done = towline("run", "--source", nowhere, "--destination", destination, "--listen", "none", "--cutover", "auto")
        expect_exit(scenario, done, "unreachable", "source")
        scenario.expect("Summary" not in done.stdout and " 0 " not in done.stdout, done.stdout)
    with scenario.case("unreachable: a name that does not resolve"):
        done = run("mongodb://no-such-host.invalid/?serverSelectionTimeoutMS=2000", destination)
        expect_exit(scenario, done, "unreachable", "source")


def unsuitable(scenario, pair):
    source, destination = pair.uris()
    with scenario.case("same deployment on both sides"), untouched(scenario, pair.source):
        expect_exit(scenario, run(source, source), "unsuitable", "same")
    with scenario.case("same deployment under another name"), untouched(scenario, pair.source):
        expect_exit(scenario, run(source, source.replace("127.0.0.1", "localhost")), "unsuitable",
                    "same")
    with scenario.case("standalone source"), untouched(scenario, pair.destination):
        alone = scenario.server(standalone=True)
        expect_exit(scenario, run(alone.uri, destination), "unsuitable", "standalone")


def conflicts(scenario, pair):
    source, destination = pair
    target = destination.client
    for number in range(3):
        target["taken"]["c%d" % number].insert_one({"_id": "in the way"})
    target["taken"]["bystander"].insert_one({"_id": "mine"})
    target["elsewhere"]["c"].insert_one({"_id": "mine"})
    for number in range(3):
        source.client["taken"]["c%d" % number].insert_many([{"_id": n} for n in range(20)])
    filters = []
    for number in range(3):
        filters += ["--include", "taken.c%d" % number]
    with scenario.case("conflict lists the namespaces"), untouched(scenario, destination):
        line = expect_exit(scenario, run(*pair.uris(), *filters), "conflict", "taken.c0",
                           "taken.c1", "taken.c2", "--clear-destination")
        scenario.expect("bystander" not in line and "elsewhere" not in line,
                        "names a namespace that is in nobody's way: " + line)
    with scenario.case("excluded namespaces do not conflict"), untouched(scenario, destination):
        done = run(*pair.uris(), *filters, "--exclude", "taken.c1")
        line = expect_exit(scenario, done, "conflict", "taken.c0", "taken.c2")
        scenario.expect("taken.c1" not in line, "names an excluded namespace: " + line)
    with scenario.case("--clear-destination drops exactly those"):
        done = run(*pair.uris(), *filters, "--clear-destination")
        scenario.expect(done.returncode == 0, "exit status %d: %s"
                        % (done.returncode, done.stderr[-300:]))
        scenario.expect_equal(pair, takes=lambda database, name:
                              database == "taken" and name != "bystander")
        kept = [target["taken"]["bystander"].find_one(), target["elsewhere"]["c"].find_one()]
        scenario.expect(kept == [{"_id": "mine"}] * 2, "a bystander was dropped: %r" % kept)


def settings_and_lease(scenario, pair):
    pair.source.client["data"]["c"].insert_many([{"_id": n} for n in range(1000)])
    job = scenario.job(pair, name="held")
    job.wait_in_sync()
    with scenario.case("a second process is refused while the first lives"), \
            same_documents(scenario, pair):
        done = towline("run", "--source", pair.source.uri, "--destination", pair.destination.uri,
                       "--job", "held", "--cutover", "auto", "--listen", "none", "--progress",
                       "none", "--spool", os.path.join(scenario.folder(), "spool"))
        expect_exit(scenario, done, "lease")
        scenario.expect(job.running(), "the first process ended with %s" % job.status)
    job.kill()
    with scenario.case("another filter at a restart is refused"), \
            untouched(scenario, pair.destination):
        done = towline(*job.command()[1:], "--exclude", "other.thing")
        expect_exit(scenario, done, "settings", "exclude")
    with scenario.case("another source at a restart is refused"), \
            untouched(scenario, pair.destination):
        other = scenario.server()
        command = job.command()[1:]
        command[command.index("--source") + 1] = other.uri
        expect_exit(scenario, towline(*command), "settings", "source")
    with scenario.case("the same command continues after all that"):
        pair.source.client["data"]["c"].insert_one({"_id": "while it was down"})
        job.start()
        job.finish()
        scenario.expect_equal(pair)


@contextlib.contextmanager
def same_documents(scenario, pair):
    before = scenario.differences(pair, ignore_ttl=True)
    yield
    scenario.expect(scenario.differences(pair, ignore_ttl=True) == before, "documents changed")


def not_in_sync(scenario, pair):
    """The source is stopped (SIGSTOP) as soon as the job copies, so that it surely still copies
    when it is asked; the control server answers all the same."""
    bytes_each = 4000
    for attempt in range(HOLD):
        pair.source.client["big%d" % attempt]["c"].insert_many(
            [{"_id": n, "pad": os.urandom(bytes_each // 2).hex()} for n in range(scaled(15000))])
        scenario.reset(pair.destination)
        job = scenario.job(pair, name="early%d" % attempt)
        job.wait_for("copying", lambda progress: progress["phase"] in
                     ("copying", "catching-up", "in-sync"))
        pair.source.kill(signal.SIGSTOP)
        try:
            if job.now().get("phase") == "copying":
                with scenario.case("cutover before the job is in sync"):
                    done = towline("cutover", "--listen", "127.0.0.1:%d" % job.port)
                    expect_exit(scenario, done, "not-in-sync")
                    scenario.expect(job.running(), "the job ended")
                break
        finally:
            pair.source.kill(signal.SIGCONT)
        job.kill()
    else:
        scenario.report("cutover before the job is in sync", "never caught while it copies")
        return
    with scenario.case("the refused cutover did no harm"):
        job.finish()
        scenario.expect_equal(pair)


def control_server(scenario, pair):
    listen = "127.0.0.1:%d" % free_port()
    for verb in ("status", "pause", "resume", "cutover"):
        with scenario.case("no control server: %s" % verb):
            expect_exit(scenario, towline(verb, "--listen", listen), "control", listen)
    with scenario.case("the control server's port is taken"), \
            untouched(scenario, pair.destination), socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        where = "127.0.0.1:%d" % taken.getsockname()[1]
        done = towline("run", "--source", pair.source.uri, "--destination", pair.destination.uri,
                       "--progress", "none", "--listen", where)
        expect_exit(scenario, done, "control", where)


def verify(scenario, pair):
    """Differences are planted one by one; the verb finds each and names it, and invents none."""
    scenario.job(pair, cutover="auto").wait_done()  # the corpus
    rows = [{"_id": n, "n": n, "pad": "x" * 200} for n in range(scaled(20000, 500))]
    for server in pair:
        for name in ("content", "missing", "extra", "type", "order", "quiet"):
            server.client["proof"][name].insert_many(rows)
        server.client["proof"]["indexes"].create_index("a")
        server.client["proof"].create_collection("options")
    report_file = os.path.join(scenario.folder(), "report.json")
    command = ["verify", "--source", pair.source.uri, "--destination", pair.destination.uri,
               "--report", report_file]
    with scenario.case("verify: equal sides end with 0"):
        done = towline(*command)
        scenario.expect(done.returncode == 0, "exit status %d: %s"
                        % (done.returncode, done.stderr[-300:]))
        with open(report_file, encoding="utf-8") as file:
            scenario.expect(json.load(file)["equal"] is True, "the report says not equal")
    with scenario.case("verify -q: no table"):
        done = towline(*command, "-q")
        scenario.expect((done.returncode, done.stdout) == (0, ""), done.stdout)
    last = len(rows) - 1
    proof = pair.destination.client["proof"]
    proof["content"].update_one({"_id": last // 2}, {"$set": {"n": -1}})
    proof["missing"].delete_one({"_id": last})
    proof["extra"].insert_one({"_id": -77})
    proof["type"].update_one({"_id": 3}, {"$set": {"n": Int64(3)}})
    proof["order"].replace_one({"_id": 5}, bson.SON([("pad", "x" * 200), ("n", 5)]))
    proof["indexes"].create_index("b")
    proof.command("collMod", "options", validator={"a": 1})
    with scenario.case("verify: differences end with 12"), untouched(scenario, pair.destination):
        done = towline(*command)
        expect_exit(scenario, done, "verify", "differ")
    with open(report_file, encoding="utf-8") as file:
        report = json.load(file)
    planted = {"content": (last // 2, "different"), "missing": (last, "missing"),
               "extra": (-77, "extra"), "type": (3, "different"), "order": (5, "different")}
    for name, (identity, kind) in planted.items():
        with scenario.case("verify: names the planted difference in proof.%s" % name):
            found = [item for item in report["differences"] if item["ns"] == "proof." + name]
            scenario.expect(len(found) == 1, "found %d: %s" % (len(found), found[:3]))
            text = json.dumps(found[0].get("id"))
            scenario.expect(str(identity) in text, "_id is %s" % text)
            scenario.expect(found[0].get("kind") == kind, "kind is %s" % found[0].get("kind"))
            scenario.expect(found[0].get("range"), "no range: %s" % found[0])
            scenario.expect("proof." + name in done.stdout, "not in the table on stdout")
    for name in ("indexes", "options"):
        with scenario.case("verify: names the planted difference in proof.%s" % name):
            found = [item for item in report["differences"] if item["ns"] == "proof." + name]
            scenario.expect([item["kind"] for item in found] == [name], "found %s" % found[:3])
    with scenario.case("verify: invents nothing"):
        names = {item["ns"] for item in report["differences"]}
        wanted = {"proof." + name for name in list(planted) + ["indexes", "options"]}
        scenario.expect(names == wanted, "named %s" % sorted(names - wanted))


# Output ---------------------------------------------------------------------------------------------

# Turns the terminal red and sets its title, as an escape and as one byte, and forges a line of a log.
HOSTILE = "x\x1b]0;pwned\x07\x1b[31m\u009b31m\n2026-11-26T00:00:00.000Z info    phase: forged\r"


def expect_clean(scenario, what, text):
    """Nothing that a terminal acts on, and no line that a name has begun."""
    bad = [c for c in text if (ord(c) < 0x20 and c not in "\n") or 0x7f <= ord(c) < 0xa0]
    scenario.expect(not bad, "%s: %d control characters: %r" % (what, len(bad), text[:600]))
    forged = [line for line in text.splitlines() if line.startswith("2026-11-26")]
    scenario.expect(not forged, "%s: a forged line: %s" % (what, forged))


def foreign_names(scenario, pair):
    source, destination = pair
    scenario.reset(*pair)
    source.client["shop"][HOSTILE].insert_many([{"_id": n} for n in range(50)])
    words = ["--source", source.uri, "--destination", destination.uri]
    with scenario.case("a name with control characters: check and plan"):
        for verb in ("check", "plan"):
            for more in ([], ["--json"]):
                done = towline(verb, *words, *more)
                scenario.expect(done.returncode == 0, done.stderr)
                expect_clean(scenario, verb, done.stdout + done.stderr)
                if more:
                    rows = json.loads(done.stdout).get("namespaces", [{"ns": "shop." + HOSTILE}])
                    scenario.expect([row["ns"] for row in rows] == ["shop." + HOSTILE], str(rows))
                elif verb == "plan":
                    scenario.expect("\\x1b" in done.stdout, "the name is not shown: %s" % done.stdout)
    with scenario.case("a name with control characters: the log and the summary of a run"):
        for form in ("text", "json"):
            scenario.reset(destination)
            done = run(*pair.uris(), "--log-level", "debug", "--log-format", form, "--progress", "bar")
            scenario.expect(done.returncode == 0, done.stderr)
            expect_clean(scenario, form, done.stdout + done.stderr)
            scenario.expect("\\x1b" in done.stdout, "the name is not shown: %s" % done.stdout)
    with scenario.case("a name with control characters: the last error line"):
        line = expect_exit(scenario, run(*pair.uris(), "--progress", "none"), "conflict", "\\x1b")
        expect_clean(scenario, "the line", line)
    with scenario.case("a name with control characters: differences"):
        destination.client["shop"][HOSTILE].delete_one({"_id": 7})
        destination.client["shop"][HOSTILE].insert_one({"_id": "\x1b[31m\n"})
        done = towline("verify", *words, "--progress", "none")
        scenario.expect(done.returncode == EXIT["verify"] and "missing" in done.stdout, done.stdout)
        expect_clean(scenario, "verify", done.stdout + done.stderr)
    scenario.reset(*pair)


def unwritten_results(scenario, pair):
    """What could not be printed is no success."""
    uris = ["--source", pair.source.uri, "--destination", pair.destination.uri]
    run_words = ["run", *uris, "--listen", "none", "--cutover", "auto"]
    for words in (["check", "--json", *uris], ["plan", *uris], ["verify", *uris],
                  [*run_words, "--progress", "json"], [*run_words, "--progress", "bar"], ["config"], ["man"]):
        with scenario.case("standard output is full: %s" % " ".join(
                word for word in words if not word.startswith("mongodb"))):
            scenario.reset(*pair)
            pair.source.client["shop"]["orders"].insert_many([{"_id": n} for n in range(100)])
            if words[0] == "verify":
                pair.destination.client["shop"]["orders"].insert_many([{"_id": n} for n in range(100)])
            with open("/dev/full", "w", encoding="ascii") as full:
                done = subprocess.run([binary(), *words], stdout=full, stderr=subprocess.PIPE, text=True,
                                      timeout=120, env=clean_environment())
            scenario.expect(done.returncode == EXIT["output"] and "standard output" in done.stderr,
                            "%d: %s" % (done.returncode, done.stderr[-300:]))


def peak_memory(scenario, pair):
    """The kernel's ru_maxrss is that of whoever started the process, where that is larger."""
    scenario.reset(*pair)
    pair.source.client["shop"]["orders"].insert_many([{"_id": n} for n in range(100)])
    summary = os.path.join(scenario.folder(), "summary.json")
    ballast = b"x" * (300 << 20)
    with scenario.case("the peak memory is the job's own, not that of its parent"):
        done = run(*pair.uris(), "--summary", summary)
        scenario.expect(done.returncode == 0 and len(ballast), done.stderr)
        with open(summary, encoding="utf-8") as file:
            peak = json.load(file)["peakMemoryBytes"]
        scenario.expect(5e6 < peak < 250e6, "%d MB" % (peak / 1e6))


def in_group(scenario, megabytes, *words):
    """A run in a control group with that limit, of either version; None: this user cannot play one."""
    folder = scenario.folder()
    os.mkdir(os.path.join(folder, "memory"))
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with open(os.path.join(folder, name), "w", encoding="ascii") as file:
            file.write("%d\n" % (megabytes << 20))
    mount = ["unshare", "--mount", "sh", "-c", "mount --bind %s /sys/fs/cgroup && exec \"$@\"" % folder, "-"]
    if os.geteuid() != 0 or subprocess.run(mount + ["true"], capture_output=True, check=False).returncode:
        print("# skipped: no folder can be put in the place of /sys/fs/cgroup")
        return None
    return subprocess.run(mount + [binary(), "run", *words], capture_output=True, text=True, timeout=60,
                          env=clean_environment())


def little_memory(scenario, pair):
    """Refused before anything is written, or enough."""
    scenario.reset(*pair)
    pair.source.client["shop"]["orders"].insert_many([{"_id": n} for n in range(2000)])

    def limited(megabytes):
        words = ["bash", "-c", "ulimit -v %d; exec \"$@\"" % (megabytes * 1024), "-", binary(), "run",
                 "--source", pair.source.uri, "--destination", pair.destination.uri, "--cutover", "auto",
                 "--progress", "none", "--listen", "127.0.0.1:%d" % free_port()]
        return subprocess.run(words, capture_output=True, text=True, timeout=60, env=clean_environment())

    if "sanitize" in binary() or "-address" in binary() or "-thread" in binary():
        return  # a sanitizer's shadow takes terabytes of addresses
    with scenario.case("100 MB of addresses are refused"), untouched(scenario, pair.destination):
        expect_exit(scenario, limited(100), "unsuitable", "ulimit -v", "160 MB")
    with scenario.case("a container's limit below what --memory needs is refused; a little more is a warning"):
        words = ("--source", pair.source.uri, "--destination", pair.destination.uri, "--memory", "100", "--listen",
                 "none", "--cutover", "auto", "--job", "grouped", "--progress", "none")
        done = in_group(scenario, 150, *words)
        if done:
            expect_exit(scenario, done, "unsuitable", "needs 164 MB with --memory 100", "lower --memory")
            done = in_group(scenario, 200, *words)
            scenario.expect(done.returncode == 0 and "up to 250 MB" in done.stderr, done.stderr)
            done = in_group(scenario, 250, *words, "--clear-destination")
            scenario.expect(done.returncode == 0 and "MB of memory" not in done.stderr, done.stderr)
            scenario.reset(pair.destination)
    with scenario.case("200 MB of addresses are enough for a small job"):
        done = limited(200)
        scenario.expect(done.returncode == 0, "%d: %s" % (done.returncode, done.stderr[-400:]))
        scenario.expect_equal(pair)


def unread_log(scenario, pair):
    """Nobody reads stderr, as when a terminal is stopped: the job goes on, and a signal ends it."""
    scenario.reset(*pair)
    source = pair.source.client
    source["shop"]["orders"].insert_many([{"_id": n} for n in range(100)])
    port = free_port()
    ends = os.pipe()
    fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, 4096)
    command = [binary(), "run", "--source", pair.source.uri, "--destination", pair.destination.uri, "--job",
               "unread", "--cutover", "manual", "--log-level", "debug", "--listen", "127.0.0.1:%d" % port,
               "--progress", "none", "--spool", os.path.join(scenario.folder(), "spool")]
    with scenario.case("a log that nobody reads holds up nothing, and SIGTERM ends the job"):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=ends[1], env=clean_environment())
        try:
            wait_until("the copy", lambda: pair.destination.client["shop"]["orders"].count_documents({}) == 100)
            for number in range(60):  # each is an event, and all of them more than the pipe holds
                source["shop"].create_collection("made%d" % number)
                source["shop"].drop_collection("made%d" % number)
            source["shop"]["orders"].insert_one({"_id": "behind them"})
            wait_until("a later write", lambda: pair.destination.client["shop"]["orders"].find_one(
                {"_id": "behind them"}), 30)
            full = select.poll()
            full.register(ends[1], select.POLLOUT)
            scenario.expect(not full.poll(0), "the pipe has room: nothing was held up")
            began = time.monotonic()
            process.terminate()
            status = process.wait(20)
            scenario.expect(time.monotonic() - began < 6 and status == EXIT["interrupted"],
                            "status %s after %.1f s" % (status, time.monotonic() - began))
        finally:
            process.kill()
            process.wait()
            os.close(ends[0])
            os.close(ends[1])
    scenario.reset(*pair)


def expect_unsaid(scenario, *words, status="option"):
    done = towline(*words)
    scenario.expect(status is None or done.returncode == EXIT[status], "%s: exit status %d" % (words, done.returncode))
    scenario.expect("hunter2" not in done.stdout + done.stderr, "%s: %s" % (words, done.stdout + done.stderr))


def kept_secrets(scenario, pair):
    """What others see of a process: its words, its limits, its files."""
    folder = scenario.folder()
    port = free_port()
    uri = pair.source.uri.replace("mongodb://", "mongodb://somebody:hunter2@")
    command = [binary(), "run", "--source", uri, "--destination=" + uri, "--job", "kept", "--listen",
               "127.0.0.1:%d" % port, "--progress", "none", "--summary", os.path.join(folder, "summary"),
               "--log-path", folder, "--retry-window", "60"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                               env=clean_environment())
    try:
        wait_until("the log", lambda: os.path.exists(os.path.join(folder, "towline.log")))
        with open("/proc/%d/cmdline" % process.pid, encoding="utf-8") as file:
            words = file.read().split("\0")
        with open("/proc/%d/limits" % process.pid, encoding="ascii") as file:
            core = [line.split()[4:6] for line in file if line.startswith("Max core file size")]
    finally:
        process.terminate()
        process.communicate(timeout=20)
    with scenario.case("the process list shows no password"):
        shown = [word for word in words if "127.0.0.1" in word]
        scenario.expect("hunter2" not in str(words) and len(shown) == 3, str(words))
    with scenario.case("no core file, but for debugging"):
        scenario.expect(core == [["0", "0"]], str(core))
    with scenario.case("log and summary are private, and no link is followed"):
        scenario.expect(os.stat(os.path.join(folder, "towline.log")).st_mode & 0o777 == 0o600, "the log")
        os.unlink(os.path.join(folder, "towline.log"))
        victim = os.path.join(folder, "victim")
        os.symlink(victim, os.path.join(folder, "towline.log"))
        done = towline("serve", "--listen", "127.0.0.1:0", "--log-path", folder)
        scenario.expect(done.returncode == EXIT["option"] and not os.path.exists(victim), done.stderr)
    with scenario.case("a secret that others may read is refused, with what to do"):
        open_file = os.path.join(folder, "open")
        with open(open_file, "w", encoding="utf-8") as file:
            file.write(uri + "\n")
        os.chmod(open_file, 0o644)
        for words in (["run", "--source-file", open_file, "--destination", uri, "--listen", "none", "--cutover", "auto"],
                      ["check", "--destination-file", open_file, "--source", uri],
                      ["notify", "--test", "--notify-webhook", "http://127.0.0.1:1/", "--notify-key-file",
                       open_file]):
            done = towline(*words)
            expect_exit(scenario, done, "option", "chmod 600 " + open_file)
            scenario.expect("hunter2" not in done.stderr, done.stderr)
    with scenario.case("a password in the wrong place is not repeated"):
        for words in ([uri], ["--job", uri], ["--workers", uri], ["--listen", uri], ["--include", uri],
                      ["--source", "mongodb://somebody:hunter2"], ["--source=mongodb://a:hunter2@"],
                      ["--sauce=" + uri]):
            expect_unsaid(scenario, "run", *words)
            expect_unsaid(scenario, "config", *words, status=None)
    with scenario.case("a password that does not end where one should is not repeated"):
        for word in ("mongodb://user:hunter2", "mongodb://user:S3 hunter2@h/x", "mongodb://user:1 hunter2",
                     "smtp://user:hunter2"):
            for words in ([word], ["verify", word], ["run", word], ["run", "--job", word],
                          ["run", "--source-file", word], ["run", "--config", word]):
                expect_unsaid(scenario, *words)
            expect_unsaid(scenario, "config", "--log-path", word, status=None)
        for words in (["user:hunter2@h"], ["verify", "user:hunter2@h"], ["run", "user:hunter2"]):
            expect_unsaid(scenario, *words)


def main():
    with Scenario(__doc__) as scenario:
        pair = scenario.pair()
        scenario.fresh(pair)
        pair.source.client["shop"]["orders"].insert_many([{"_id": n} for n in range(100)])
        bad_options(scenario, pair)
        unreachable(scenario, pair)
        unsuitable(scenario, pair)
        control_server(scenario, pair)
        foreign_names(scenario, pair)
        unwritten_results(scenario, pair)
        peak_memory(scenario, pair)
        little_memory(scenario, pair)
        unread_log(scenario, pair)
        kept_secrets(scenario, pair)
        for part in (conflicts, settings_and_lease, verify, not_in_sync):
            scenario.fresh(pair)
            with scenario.case("part %s came to its end" % part.__name__):
                part(scenario, pair)


if __name__ == "__main__":
    main()
