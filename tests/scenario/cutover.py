#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""cutover.py: the cutover in three steps: late writes delay it or call it off, blocked writes are
allowed again when it fails, traces are removed, and it can be refused or cancelled in every phase."""
import json
import os
import pathlib
import signal
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True

from pymongo import MongoClient

from job import EXIT, ApiError, towline
from proxy import Proxied, behind
from scenario import Pair, Scenario
from wire import failure, is_barrier

SECRET = "planted-password"
HELD_OFF = 2147483647


class Hold:
    """The next request that fits stops here, before it is done (or, `behind`, after), until let go."""

    def __init__(self, side, command, when=None, behind=False, after=0):
        self.reached, self.go = threading.Event(), threading.Event()

        def perform(request, serve):
            answer = serve(request) if behind else None
            self.reached.set()
            self.go.wait(60)
            return answer or serve(request)
        side.script.on(command, when=when, after=after).act(perform)

    def wait(self, scenario):
        scenario.expect(self.reached.wait(60), "what is to be held never came")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.go.set()


class Blocks:
    """The source's setUserWriteBlockMode, which the test server does not know: played by the proxy."""

    def __init__(self, side):
        self.asked, self.refuses = [], False
        side.script.on("setUserWriteBlockMode", times=None).reply(self.answer)

    def answer(self, request):
        self.asked.append(request.body["global"])
        return failure(13, "Unauthorized") if self.refuses else {"ok": 1.0}


class Address:
    def __init__(self, uri):
        self.uri = uri


class Writes:
    """Writes to the source until it is told to stop: several threads, so that it never rests, also where
    the machine is busy."""

    def __init__(self, server):
        self.collection, self.quit = server.client["shop"]["late"], threading.Event()
        self.counts = [0] * 4
        self.threads = [threading.Thread(target=self._write, args=(number,), daemon=True)
                        for number in range(len(self.counts))]
        for thread in self.threads:
            thread.start()

    def _write(self, number):
        while not self.quit.wait(0.002):
            self.collection.insert_one({"thread": number, "number": self.counts[number]})
            self.counts[number] += 1

    @property
    def count(self):
        return sum(self.counts)

    def stop(self):
        self.quit.set()
        for thread in self.threads:
            thread.join()


def fill(scenario, pair, documents=300):
    scenario.reset(*pair)
    shop = pair.source.client["shop"]
    shop["orders"].insert_many([{"_id": n, "at": n} for n in range(documents)])
    shop["orders"].create_index("at", unique=True)
    shop["sessions"].create_index("seen", expireAfterSeconds=3600)


def ttl(server):
    return server.client["shop"]["sessions"].index_information()["seen_1"]["expireAfterSeconds"]


def block(job):
    job.wait_in_sync()
    return job.api("POST", "cutover", '{"blockWrites": true}')


def verb(scenario, job, *words, status="ok"):
    done = towline(*words, "--listen", "127.0.0.1:%d" % job.port)
    scenario.expect(done.returncode == EXIT[status], "exit status %d: %s"
                    % (done.returncode, done.stderr))
    return done.stdout + done.stderr


def logged(job, name):
    with job.changed:
        return [line for line in job.log if name in line]


# Late writes ----------------------------------------------------------------------------------------

def late_writes(scenario, pair):
    proxied = Proxied(pair)
    orders = pair.source.client["shop"]["orders"]
    for label, side, command, when in (("before the last replay", 0, "find", is_barrier),
                                       ("behind the last replay", 1, "listCollections", None)):
        fill(scenario, pair)
        with scenario.case("writes %s are applied, counted and reported" % label):
            job = scenario.job(proxied, name="late", verify_rate=0)
            job.wait_in_sync()
            # The catalogs are compared once when the job gets in sync: that is over, and is not held.
            log, count = proxied.destination.script.log, -1
            while count != log.count("listCollections"):
                count = log.count("listCollections")
                time.sleep(0.5)
            with Hold(list(proxied)[side], command, when, after=1 - side) as hold:
                job.commit()
                hold.wait(scenario)
                orders.insert_many([{"_id": "late %d" % n, "at": -n} for n in range(1, 8)])
                orders.update_one({"_id": 5}, {"$set": {"late": True}})
                pair.source.client["shop"]["brand new"].insert_one({"_id": 1, "at": 1})
                pair.source.client["shop"]["brand new"].create_index("at")
                # Which changes of the catalog are told depends on the server.
                progress = job.wait_for("late writes", lambda now:
                                        now["cutover"]["lateWrites"] >= 9)
                scenario.expect(progress["cutover"]["step"] == "finalizing" and
                                progress["phase"] == "finalizing", str(progress["cutover"]))
                text = verb(scenario, job, "status")
                scenario.expect("finalizing" in text and " late writes" in text, text)
            summary = job.wait_done()
            scenario.expect(9 <= summary["cutover"]["lateWrites"] <= 12, str(summary["cutover"]))
            scenario.expect(summary["verification"]["equal"], "not verified")
            scenario.expect(logged(job, "late_writes"), "nothing was logged")
            scenario.expect_equal(pair)
            scenario.expect(ttl(pair.destination) == 3600, "TTL %s" % ttl(pair.destination))
    proxied.close()


def called_off(scenario, pair):
    fill(scenario, pair)
    job = scenario.job(pair, name="off")
    job.wait_in_sync()
    writes = Writes(pair.source)
    try:
        with scenario.case("writes that never stop call the cutover off, and the job goes on"):
            text = verb(scenario, job, "cutover", "--wait", "--timeout", "100s", status="called-off")
            scenario.expect("called off" in text, text)
            progress = job.wait_in_sync()
            scenario.expect(progress["cutover"]["step"] == "none" and
                            progress["cutover"]["lateWrites"] > 50, str(progress["cutover"]))
            attempt = progress["cutover"]["lastAttempt"]
            scenario.expect(attempt["lateWrites"] == progress["cutover"]["lateWrites"] and
                            attempt["confirmedAt"] <= attempt["calledOffAt"], str(attempt))
            text = verb(scenario, job, "status")
            scenario.expect(" writes after the confirmation" in text and "find what still writes" in text, text)
            line = "".join(logged(job, "cutover_called_off"))
            scenario.expect("stop them and ask again" in line, "logged: %r" % line)
            scenario.expect(ttl(pair.destination) == HELD_OFF, "TTL %s" % ttl(pair.destination))
            scenario.expect(progress["canCommit"], progress["reason"])
    finally:
        writes.stop()
    with scenario.case("a second cutover succeeds, and nothing is lost"):
        pair.source.client["shop"]["orders"].delete_one({"_id": 7})
        summary = job.finish()
        scenario.expect(summary["cutover"]["calledOff"] == 1 and
                        summary["cutover"]["lateWrites"] == 0, str(summary["cutover"]))
        scenario.expect(summary["downtimeSeconds"] < 4, "%s s" % summary["downtimeSeconds"])
        scenario.expect(pair.destination.client["shop"]["late"].count_documents({}) == writes.count,
                        "documents are missing")
        scenario.expect(ttl(pair.destination) == 3600, "TTL %s" % ttl(pair.destination))
        scenario.expect_equal(pair)


def by_hand(scenario, pair):
    proxied = Proxied(pair)
    fill(scenario, pair)
    blocks = Blocks(proxied.source)
    job = scenario.job(proxied, name="hand", verify_rate=0, workers=2)  # one of which compares
    job.wait_in_sync()
    with scenario.case("without a cutover there is none to call off"):
        text = verb(scenario, job, "cutover", "--abort", status="state")
        scenario.expect("no cutover" in text, text)
    with scenario.case("a cutover that takes longer than --timeout goes on, and can be called off"):
        with Hold(proxied.destination, "listCollections", when=lambda request: blocks.asked == [True]) as hold:
            text = verb(scenario, job, "cutover", "--block-writes", "--wait", "--timeout", "1s",
                        status="timeout")
            scenario.expect("1 s" in text.replace("1s", "1 s") and "goes on" in text, text)
            hold.wait(scenario)
            scenario.expect(job.now()["phase"] == "finalizing", job.now()["phase"])
            verb(scenario, job, "cutover", "--abort")
        progress = job.wait_in_sync()
        scenario.expect(progress["cutover"]["step"] == "none", str(progress["cutover"]))
        scenario.expect(blocks.asked == [True, False], str(blocks.asked))
        scenario.expect("asked for" in "".join(logged(job, "cutover_called_off")), "nothing was logged")
        scenario.expect(ttl(pair.destination) == HELD_OFF, "TTL %s" % ttl(pair.destination))
    with scenario.case("the job follows the source as before"):
        pair.source.client["shop"]["orders"].insert_one({"_id": "since", "at": "since"})
        job.wait_caught_up(pair.source.client)
        scenario.expect(pair.destination.client["shop"]["orders"].find_one({"_id": "since"}), "it is not there")
    with scenario.case("called off while it compares: the comparison ends early"):
        for number in range(12):
            pair.source.client["shop"]["c%d" % number].insert_one({"_id": number})
        job.wait_caught_up(pair.source.client)
        log = proxied.destination.script.log
        with Hold(proxied.destination, "find", when=lambda request: request.database == "shop") as hold:
            job.commit()
            hold.wait(scenario)
            verb(scenario, job, "cutover", "--abort")
            before = log.count("find")
        job.wait_in_sync()
        scenario.expect(log.count("find") - before < 6, "%d more were read" % (log.count("find") - before))
    with scenario.case("writes that go on while it compares call it off, however few"):
        with Hold(proxied.destination, "find", when=lambda request: request.database == "shop") as hold:
            job.commit()
            hold.wait(scenario)
            orders = pair.source.client["shop"]["orders"]
            orders.insert_one({"_id": "one", "at": "one"})
            job.wait_for("a late write", lambda now: now["cutover"]["lateWrites"] == 1)
            time.sleep(5.1)  # the time that writes may go on, not a wait for anything
            orders.insert_one({"_id": "another", "at": "another"})
            job.wait_for("another", lambda now: now["cutover"]["lateWrites"] == 2)
        attempt = job.wait_in_sync()["cutover"]["lastAttempt"]
        scenario.expect(attempt["lateWrites"] == 2 and "writes go on" in attempt["reason"], str(attempt))
    with scenario.case("a restart knows the last attempt"):
        job.kill()
        job.start()
        job.wait_in_sync()
        scenario.expect(job.now()["cutover"]["lastAttempt"] == attempt, str(job.now()["cutover"]))
    with scenario.case("after the point of no return it is refused, and the job comes to its end"):
        with Hold(proxied.destination, "collMod", behind=True) as hold:
            job.commit()
            hold.wait(scenario)
            text = verb(scenario, job, "cutover", "--abort", status="state")
            scenario.expect("point of no return" in text, text)
        scenario.expect(job.wait_done()["cutover"]["calledOff"] == 0, "this process called one off")
        scenario.expect_equal(pair)
        scenario.expect(ttl(pair.destination) == 3600, "TTL %s" % ttl(pair.destination))
    proxied.close()
    fill(scenario, pair)
    writes = Writes(pair.source)
    try:
        with scenario.case("--cutover auto: called off by hand, it waits to be asked"):
            job = scenario.job(pair, name="word", cutover="auto")
            job.wait_phase("finalizing")
            verb(scenario, job, "cutover", "--abort")
            job.wait_in_sync()
            writes.stop()
            scenario.expect(not job.ended.wait(3), "it cut over by itself")
            job.finish()
            scenario.expect_equal(pair)
    finally:
        writes.stop()


def commands(scenario, pair):
    """--on-phase and --continuous."""
    told = os.path.join(scenario.folder(), "told")
    command = ("echo \"$TOWLINE_JOB $TOWLINE_PHASE $TOWLINE_EXIT_STATUS ${#TOWLINE_SUMMARY} ${#TOWLINE_PROGRESS}"
               " [$TOWLINE_BIN]\" >> %s; test $TOWLINE_PHASE != in-sync" % told)
    fill(scenario, pair)
    job = scenario.job(pair, name="hooked", on_phase=command, continuous=True)
    with scenario.case("--continuous: in sync without a window, and none to extend"):
        progress = job.wait_in_sync()
        scenario.expect(progress["window"] is None, str(progress["window"]))
        scenario.expect("until it is cut over" in verb(scenario, job, "status"), "status")
        text = verb(scenario, job, "extend", "1h", status="state")
        scenario.expect("--continuous" in text, text)
    with scenario.case("--on-phase runs the command at each phase, with progress and summary, and no secret"):
        job.finish()
        lines = [line.split() for line in open(told)]
        phases = [line[1] for line in lines]
        scenario.expect(phases[0] == "validating" and phases[-2:] == ["finalizing", "done"] and "in-sync" in phases,
                        str(phases))
        scenario.expect(all(line[0] == "hooked" and line[-1] == "[]" for line in lines), str(lines))
        scenario.expect(lines[-1][2] == "0" and int(lines[-1][3]) > 500 and int(lines[-1][4]) > 500, str(lines[-1]))
        scenario.expect("ended with status 1" in "".join(logged(job, "on_phase")), "no warning")
        scenario.expect_equal(pair)


def killed_behind_ttl(scenario, pair):
    proxied = Proxied(pair)
    fill(scenario, pair)
    with scenario.case("killed when TTL was restored: held off again until the next cutover"):
        job = scenario.job(proxied, name="ttl")
        job.wait_in_sync()
        with Hold(proxied.destination, "collMod", behind=True) as hold:
            job.commit()
            hold.wait(scenario)
            scenario.expect(ttl(pair.destination) == 3600, "TTL %s" % ttl(pair.destination))
            job.kill()
        job.start()
        job.wait_in_sync()
        scenario.expect(ttl(pair.destination) == HELD_OFF, "TTL %s" % ttl(pair.destination))
        job.finish()
        scenario.expect(ttl(pair.destination) == 3600, "TTL %s" % ttl(pair.destination))
        scenario.expect_equal(pair)
    proxied.close()


def late_checkpoint(scenario, pair):
    """A checkpoint on its way when the job's database is dropped would make it anew."""
    proxied = Proxied(pair)
    fill(scenario, pair)
    with scenario.case("a checkpoint that hangs until the end brings the job's database not back"):
        job = scenario.job(proxied, name="slow")
        job.wait_in_sync()
        with Hold(proxied.destination, "update",
                  when=lambda request: request.collection == "compared") as hold:
            pair.source.client["shop"]["orders"].update_one({"_id": 1}, {"$set": {"again": 1}})
            hold.wait(scenario)
            job.commit()
            job.ended.wait(2)
        job.wait_done()
        scenario.expect_no_state(pair, job)
        scenario.expect_equal(pair)
    proxied.close()


def automatic(scenario, pair):
    fill(scenario, pair)
    writes = Writes(pair.source)
    try:
        with scenario.case("--cutover auto waits for the writes to stop, and loses none"):
            job = scenario.job(pair, name="auto", cutover="auto")
            job.wait_for("a cutover that is called off", lambda now:
                         logged(job, "cutover_called_off"))
            writes.stop()
            job.wait_done()
            scenario.expect_equal(pair)
    finally:
        writes.stop()


def paused_first(scenario, pair):
    proxied = Proxied(pair)
    fill(scenario, pair)
    with scenario.case("--cutover auto: a pause that comes while unique indexes are built holds it up"):
        with Hold(proxied.destination, "createIndexes",
                  lambda request: b"at_1" in request.message) as hold:
            job = scenario.job(proxied, name="paused", cutover="auto")
            hold.wait(scenario)
            job.wait_for("direct mode", lambda now: now["mode"] == "direct" and now["lagMs"] == 0)
            job.api("POST", "pause")
        job.wait_phase("paused")
        job.resume()
        job.wait_done()
        scenario.expect_equal(pair)
    proxied.close()


# Blocked writes -------------------------------------------------------------------------------------

def blocking(scenario, pair):
    proxied = Proxied(pair)
    fill(scenario, pair)
    with scenario.case("a source that cannot block writes: called off, and said why"):
        job = scenario.job(pair, name="cannot")
        job.wait_in_sync()
        verb(scenario, job, "cutover", "--block-writes")
        job.wait_for("the cutover to be called off", lambda now: logged(job, "cutover_called_off"))
        line = "".join(logged(job, "cutover_called_off"))
        scenario.expect("setUserWriteBlockMode" in line, line)
        scenario.expect(job.wait_in_sync()["cutover"]["writesBlocked"] is False, "still blocked")
        job.finish()
        scenario.expect_equal(pair)

    def old(request, document):
        document["version"], document["versionArray"] = "5.0.9", [5, 0, 9, 0]
    proxied.source.script.on("buildInfo", times=None).change(old)
    with scenario.case("a source before 6.0: refused by check and by the cutover"):
        done = towline("check", "--source", proxied.source.uri, "--destination",
                       pair.destination.uri, "--block-writes", "--clear-destination", "--json")
        found = {entry["name"]: entry for entry in json.loads(done.stdout)["checks"]}
        scenario.expect(done.returncode == EXIT["unsuitable"] and "5.0.9" in
                        found["block_writes"]["facts"] and found["block_writes"]["advice"],
                        done.stdout)
        job = scenario.job(proxied, name="old", clear_destination=True)
        job.wait_in_sync()
        text = verb(scenario, job, "cutover", "--block-writes", status="unsuitable")
        scenario.expect("6.0" in text and job.now()["cutover"]["step"] == "none", text)
        job.finish()
        scenario.expect_equal(pair)
    proxied.source.script.clear()

    fill(scenario, pair)
    blocks = Blocks(proxied.source)
    with scenario.case("blocked writes stay blocked after a good end, and the summary says so"):
        job = scenario.job(proxied, name="blocks", block_writes=True, progress="bar")
        job.commit()
        summary = job.wait_done()
        scenario.expect(blocks.asked == [True], str(blocks.asked))
        scenario.expect(summary["cutover"]["writesBlocked"], str(summary["cutover"]))
        scenario.expect("global: false" in str(summary["remains"]), str(summary["remains"]))
        scenario.expect("takes no writes" in job.output and "global: false" in job.output, job.output)
        scenario.expect_equal(pair)

    for label, end, status in (("a failure", None, "verify"), ("a cancel", "cancel", "cancelled"),
                               ("a stop", signal.SIGTERM, "interrupted")):
        fill(scenario, pair)
        blocks.asked.clear()
        with scenario.case("%s allows the writes again" % label):
            job = scenario.job(proxied, name="undone", verify_repair="no", verify_rate=0)
            with Hold(proxied.destination, "listCollections", when=lambda request:
                      blocks.asked == [True]) as hold:
                block(job)
                hold.wait(scenario)
                scenario.expect(job.now()["cutover"]["writesBlocked"], "not blocked")
                state = pair.destination.client["towline_undone"]["job"].find_one()
                scenario.expect(state["writesBlocked"] is True, "the block is not recorded")
                if end == "cancel":
                    scenario.expect("300 documents" in job.api("POST", "cancel")["remains"], "")
                elif end:
                    job.signal(end)
                else:
                    pair.destination.client["shop"]["orders"].insert_one({"_id": "odd", "at": "odd"})
            scenario.expect(job.wait() == EXIT[status], "ended with %s" % job.status)
            scenario.expect(blocks.asked == [True, False], str(blocks.asked))
            if end == "cancel":
                scenario.expect_no_state(pair, job)
            else:
                state = pair.destination.client["towline_undone"]["job"].find_one()
                scenario.expect(state["writesBlocked"] is False, "the record says it is blocked")

    fill(scenario, pair)
    blocks.asked.clear()
    with scenario.case("a block that cannot be lifted is told, and lifted by the next start"):
        job = scenario.job(proxied, name="stuck", verify_rate=0)
        with Hold(proxied.destination, "listCollections", when=lambda request:
                  blocks.asked == [True]) as hold:
            block(job)
            hold.wait(scenario)
            blocks.refuses = True
            job.signal(signal.SIGTERM)
        scenario.expect(job.wait() == EXIT["interrupted"], "ended with %s" % job.status)
        summary = job.summary()
        scenario.expect(summary["cutover"]["writesBlocked"] and "global: false" in
                        str(summary["remains"]), str(summary))
        scenario.expect(logged(job, "writes_still_blocked"), "nothing was logged")
        blocks.refuses = False
        job.start()
        job.wait_in_sync()
        scenario.expect(blocks.asked == [True, False, False], str(blocks.asked))
        blocks.refuses = True
        block(job)
        job.wait_for("the cutover to be called off", lambda now: logged(job, "cutover_called_off"))
        scenario.expect(not job.wait_in_sync()["cutover"]["writesBlocked"] and
                        len(blocks.asked) == 4, "a refused block counts as one")
        blocks.refuses = False
        job.finish()
        scenario.expect_equal(pair)

    fill(scenario, pair)
    blocks.asked.clear()
    with scenario.case("kill -9 while blocked: the next start allows the writes again"):
        job = scenario.job(proxied, name="killed", verify_rate=0)
        with Hold(proxied.destination, "listCollections", when=lambda request:
                  blocks.asked == [True]) as hold:
            block(job)
            hold.wait(scenario)
            job.kill()
        job.start()
        scenario.expect(job.wait_in_sync()["cutover"] == {
            "step": "none", "estimatedSeconds": -1, "writesBlocked": False, "lateWrites": 0,
            "lastAttempt": None},
            str(job.now()["cutover"]))
        scenario.expect(blocks.asked == [True, False], str(blocks.asked))
        pair.source.client["shop"]["orders"].insert_one({"_id": "since", "at": "since"})
        block(job)
        job.wait_done()
        scenario.expect(blocks.asked == [True, False, True], str(blocks.asked))
        scenario.expect_equal(pair)

    for label, status in (("fails its validation", "unsuitable"), ("is cancelled", "cancelled")):
        fill(scenario, pair)
        blocks.asked.clear()
        with scenario.case("so does a start that %s" % label):
            job = scenario.job(proxied, name="ended", verify_rate=0)
            with Hold(proxied.destination, "listCollections", when=lambda request:
                      blocks.asked == [True]) as hold:
                block(job)
                hold.wait(scenario)
                job.kill()
            job.options["remove-user"] = status == "unsuitable"  # there is none
            with Hold(proxied.destination, "connectionStatus") as hold:
                job.start()
                hold.wait(scenario)
                if status == "cancelled":
                    job.api("POST", "cancel")
            scenario.expect(job.wait() == EXIT[status], "ended with %s" % job.status)
            scenario.expect(blocks.asked == [True, False], str(blocks.asked))
            state = pair.destination.client["towline_ended"]["job"].find_one()
            scenario.expect(state is None if status == "cancelled" else
                            state["writesBlocked"] is False, str(state))
    proxied.close()


# Phases ---------------------------------------------------------------------------------------------

def in_phase(scenario, proxied, phase):
    """A job that stands still in that phase, and what lets it go on."""
    holds = {"validating": (1, "dbStats"), "preparing": (1, "create"),
             "copying": (1, "insert", lambda request: request.database == "shop"),
             "catching-up": (1, "createIndexes", lambda request: b"at_1" in request.message),
             "finalizing": (1, "listCollections")}
    options = dict(name="phase", verify_rate=0)
    if phase in ("in-sync", "paused", "finalizing"):
        job = scenario.job(proxied, **options)
        job.wait_in_sync()
    hold = None
    if phase in holds:
        side, command, *when = holds[phase]
        hold = Hold(list(proxied)[side], command, *when)
    if phase == "paused":
        job.pause()
    elif phase == "finalizing":
        job.commit()
    elif phase != "in-sync":
        job = scenario.job(proxied, **options)
    if hold:
        hold.wait(scenario)
    return job, hold


def phases(scenario, pair):
    proxied = Proxied(pair)
    for phase in ("validating", "preparing", "copying", "catching-up", "in-sync", "paused",
                  "finalizing"):
        fill(scenario, pair)
        for side in proxied:
            side.script.clear()
        with scenario.case("cutover and cancel while %s" % phase):
            before = list(pair.source.client["shop"]["orders"].find())
            job, hold = in_phase(scenario, proxied, phase)
            progress = job.wait_phase(phase)
            scenario.expect(progress["canCommit"] == (phase == "in-sync"), "canCommit is wrong")
            scenario.expect(progress["canCommit"] or progress["reason"], "no reason")
            if phase != "in-sync":
                try:
                    job.api("POST", "cutover", '{"writesStopped": true}')
                    scenario.expect(False, "the cutover was accepted")
                except ApiError as error:
                    scenario.expect(error.name in ("NotInSync", "InvalidState") and phase.split(
                        "-")[0] in error.description, str(error))
            text = verb(scenario, job, "cancel")
            scenario.expect("source is untouched" in text and "on the destination" in text, text)
            if hold:
                hold.go.set()
            scenario.expect(job.wait() == EXIT["cancelled"], "ended with %s" % job.status)
            scenario.expect("untouched" in job.error_line(), job.error_line())
            scenario.expect_no_state(pair, job)
            scenario.expect(job.summary()["state"] == "cancelled" and job.summary()["remains"],
                            str(job.summary()))
            scenario.expect(list(pair.source.client["shop"]["orders"].find()) == before,
                            "the source was written to")
    with scenario.case("after a cancel the job begins anew with --clear-destination"):
        job.options["clear-destination"] = True
        job.start()
        scenario.expect(job.finish()["restarts"] == 0, "it went on from somewhere")
        scenario.expect_equal(pair)
    with scenario.case("a cancel while validating removes what an earlier start left"):
        fill(scenario, pair)
        job = scenario.job(proxied, name="phase")
        job.wait_in_sync()
        job.kill()
        with Hold(proxied.destination, "connectionStatus") as hold:
            job.start()
            hold.wait(scenario)
            job.api("POST", "cancel")
        scenario.expect(job.wait() == EXIT["cancelled"], "ended with %s" % job.status)
        scenario.expect_no_state(pair, job)
        scenario.expect("what an earlier process of this job copied remains" in job.error_line() and
                        "what an earlier" in str(job.summary()["remains"]), job.error_line())
    proxied.close()


# The end --------------------------------------------------------------------------------------------

def asked_again(scenario, pair):
    proxied = Proxied(pair)
    for label, behind in (("before", False), ("after", True)):
        fill(scenario, pair)
        with scenario.case("killed %s its state was removed, it is done when asked again" % label):
            job = scenario.job(proxied, name="again", clear_destination=True)
            job.wait_in_sync()
            with Hold(proxied.destination, "dropDatabase", behind=behind) as hold:
                job.commit()
                hold.wait(scenario)
                job.kill()
            scenario.expect(os.path.exists(job.summary_file), "the state goes before the end was told")
            destination = pair.destination.client["shop"]["orders"]
            destination.insert_one({"_id": "written by the application since", "at": "since"})
            job.start()
            summary = job.wait_done()
            scenario.expect(summary["state"] == "done" and summary["initialDocuments"] == 300,
                            str(summary))
            scenario.expect_no_state(pair, job)
            scenario.expect(logged(job, "done_before"), "it does not say why")
            destination.delete_one({"_id": "written by the application since"})
            scenario.expect_equal(pair)
    with scenario.case("once it was told, the same command finds a conflict"):
        del job.options["clear_destination"]
        job.start()
        scenario.expect(job.wait() == EXIT["conflict"], "ended with %s" % job.status)
    proxied.close()


def summary(scenario, pair):
    fill(scenario, pair)
    with scenario.case("the summary has what the procedure shows, as JSON and as a table"):
        link = os.path.join(scenario.folder(), "link")  # as /dev/stdout is one
        os.symlink(link + "ed", link)
        job = scenario.job(pair, name="sum", progress="bar", summary=link)
        job.summary_file = link
        job.wait_in_sync()
        pair.source.client["shop"]["orders"].insert_one({"_id": "more", "at": "more"})
        shown = job.finish()
        scenario.expect(shown["syncedChanges"]["complete"] and shown["syncedChanges"]["left"] == 0 and
                        shown["syncedChanges"]["seen"] >= 1 and shown["syncedChanges"]["upTo"],
                        str(shown["syncedChanges"]))
        scenario.expect(0 < shown["downtimeSeconds"] < shown["durationSeconds"], str(shown))
        scenario.expect(all(shown["phaseSeconds"].get(phase, -1) >= 0 for phase in (
            "validating", "preparing", "copying", "catching-up", "in-sync", "finalizing")) and
            abs(sum(shown["phaseSeconds"].values()) - shown["durationSeconds"]) < 0.2,
            str(shown["phaseSeconds"]))
        scenario.expect(shown["initialDocuments"] == 300 and shown["initialBytes"] > 3000 and
                        shown["collections"] == 2 and shown["indexes"] == 2 and
                        shown["verification"]["equal"] and shown["cutover"]["confirmedAt"] and
                        not shown["remains"], str(shown))
        for word in ("synced changes", "all ", "application downtime", "phases", "finalizing ",
                     "300 documents", "collections           2", "verification          equal",
                     "connect to            mongodb://127.0.0.1:%d/" % pair.destination.port):
            scenario.expect(word in job.output, "no %r in: %s" % (word, job.output))
        scenario.expect(os.path.islink(link), "the link was replaced by a file")


def own_user(scenario, pair):
    storage = scenario.folder()
    server = scenario.server(storage=storage)
    for name, roles in (("admin", ["root"]), ("mover", ["root"]), ("weak", [
            "readWriteAnyDatabase", "dbAdminAnyDatabase"])):
        server.client.admin.command("createUser", name, pwd=SECRET, roles=roles)
    server.stop()
    scenario.servers.remove(server)
    server = scenario.server(storage=storage, auth=True)
    uris = {name: server.uri.replace("//", "//%s:%s@" % (name, SECRET)) + "&authSource=admin"
            for name in ("admin", "mover", "weak")}
    fill(scenario, pair)

    def check(destination):
        done = towline("check", "--source", pair.source.uri, "--destination", destination,
                       "--remove-user", "--json")
        found = [entry for entry in json.loads(done.stdout)["checks"]
                 if entry["name"] == "destination_privileges"]
        return done.returncode, str(found)
    with scenario.case("--remove-user is refused without a user, and without the privilege"):
        status, text = check(pair.destination.uri)
        scenario.expect(status == EXIT["unsuitable"] and "names no user" in text, text)
        status, text = check(uris["weak"])
        scenario.expect(status == EXIT["unreachable"] and "dropUser" in text and
                        "userAdminAnyDatabase" in text, text)
    proxy = behind(server)
    moved = Pair(pair.source, Address(uris["mover"].replace(":%d/" % server.port,
                                                            ":%d/" % proxy.port)))
    with scenario.case("a user that cannot be removed: done all the same, and said how"):
        proxy.script.on("dropUser").error(13, "Unauthorized")
        shown = scenario.job(moved, name="user", remove_user=True).finish()
        scenario.expect('dropUser("mover")' in str(shown["remains"]) and
                        shown["cutover"]["userRemoved"] is None, str(shown))
    with scenario.case("--remove-user removes the user that the job logged in with, and no other"):
        job = scenario.job(moved, name="user", remove_user=True, clear_destination=True,
                           progress="bar")
        shown = job.finish()
        rest = job.tail().split("user_removed")[-1]
        scenario.expect("warning" not in rest and "error" not in rest, rest)
        scenario.expect(shown["cutover"]["userRemoved"] == "mover@admin", str(shown["cutover"]))
        client = MongoClient(uris["admin"])
        users = [user["user"] for user in client.admin.command("usersInfo", 1)["users"]]
        scenario.expect(sorted(users) == ["admin", "weak"], str(users))
        scenario.expect(client["shop"]["orders"].count_documents({}) == 300, "documents are missing")
        scenario.expect("towline_user" not in client.list_database_names(), "the state is there")
        scenario.expect(SECRET not in job.output + str(shown) + job.tail(400) and
                        "mover:" not in shown["destinationAddress"], "the password is told")
        client.close()
    proxy.close()


PARTS = (late_writes, called_off, by_hand, commands, killed_behind_ttl, late_checkpoint, automatic, paused_first,
         blocking, phases, asked_again, summary, own_user)


def main():
    with Scenario(__doc__) as scenario:
        pair = scenario.pair()
        for part in PARTS:
            with scenario.case("part %s came to its end" % part.__name__):
                part(scenario, pair)


if __name__ == "__main__":
    main()
