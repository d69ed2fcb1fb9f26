#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""window.py: the window begins when first in sync, is shown, is extended also in the last second, and
ends a job cleanly; an expired job goes on with --extend or a longer --window and loses nothing."""
import datetime
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True

from job import EXIT, ApiError, towline
from scenario import Scenario, wait_until


def verb(scenario, job, *words, status="ok"):
    done = towline(*words, "--listen", "127.0.0.1:%d" % job.port)
    scenario.expect(done.returncode == EXIT.get(status, status), "exit status %d: %s"
                    % (done.returncode, done.stderr))
    return done.stdout + done.stderr


def end_of(progress):
    return datetime.datetime.strptime(progress["window"]["endsAt"], "%Y-%m-%dT%H:%M:%SZ").replace(
        tzinfo=datetime.timezone.utc).timestamp()


def fill(pair):
    for server in pair:
        server.client["shop"]["orders"].drop()
    pair.source.client["shop"]["orders"].insert_many([{"_id": n} for n in range(500)])


def expires(scenario, pair):
    fill(pair)
    job = scenario.job(pair, name="short", window="3s")
    job.wait_in_sync()
    with scenario.case("at its end the job stops by itself: expired"):
        status = job.wait(30)
        scenario.expect(status == EXIT["expired"], "ended with %s" % status)
        scenario.expect(job.phases[-1] == "expired", "phases %s" % job.phases)
        scenario.expect("--extend" in job.error_line(), job.error_line())
        summary = job.summary()
        scenario.expect(summary["state"] == "expired" and summary["window"]["endsAt"], str(summary))
    with scenario.case("its state is kept, with the end of the window and without a lease"):
        document = pair.destination.client["towline_short"]["job"].find_one()
        scenario.expect("lease" not in document and document["checkpoint"]["token"], str(document))
        length = document["windowEnd"] - document["windowStart"]
        scenario.expect(length == datetime.timedelta(seconds=3), "a window of %s" % length)
    pair.source.client["shop"]["orders"].insert_one({"_id": "while it was expired"})
    with scenario.case("the same command again is expired at once, and applies nothing"):
        job.start()
        status = job.wait(30)
        scenario.expect(status == EXIT["expired"], "ended with %s" % status)
        scenario.expect("in-sync" not in job.progress.get("phase", ""), str(job.progress))
        count = pair.destination.client["shop"]["orders"].count_documents({})
        scenario.expect(count == 500, "%d documents" % count)
    with scenario.case("--extend goes on, and nothing is lost"):
        job.options["extend"] = "60s"
        job.start()
        progress = job.wait_in_sync()
        left = progress["window"]["leftSeconds"]
        scenario.expect(40 < left <= 60, "left %s" % left)
        job.wait_caught_up(pair.source.client)
        job.finish()
        scenario.expect_equal(pair)


def longer_window(scenario, pair):
    fill(pair)
    job = scenario.job(pair, name="longer", window="2s")
    job.wait_in_sync()
    scenario.expect(job.wait(30) == EXIT["expired"], "ended with %s" % job.status)
    with scenario.case("a longer --window goes on"):
        job.options["window"] = "10m"
        job.start()
        left = job.wait_in_sync()["window"]["leftSeconds"]
        scenario.expect(500 < left < 600, "left %s" % left)
        job.finish()
        scenario.expect_equal(pair)


def extended(scenario, pair):
    fill(pair)
    job = scenario.job(pair, name="more", window="4s")
    with scenario.case("it has not begun before the job is in sync"):
        first = job.wait_for("an answer", lambda progress: True)
        scenario.expect(first["window"]["lengthSeconds"] == 4, str(first["window"]))
        scenario.expect(first["phase"] == "in-sync" or first["window"]["endsAt"] is None,
                        str(first["window"]))
    old_end = end_of(job.wait_in_sync())
    with scenario.case("extended in the last second, it goes on beyond the old end"):
        job.wait_for("the last second", lambda progress: progress["window"]["leftSeconds"] < 1)
        text = verb(scenario, job, "extend", "1h30m")
        scenario.expect("extended" in text, text)
        job.wait_for("time beyond the old end", lambda progress: time.time() > old_end + 1)
        scenario.expect(job.now()["phase"] == "in-sync", str(job.now()["phase"]))
    with scenario.case("extended again and again, by verb and by HTTP"):
        before = end_of(job.now())
        verb(scenario, job, "extend", "--duration", "2m")
        for _ in range(5):
            job.api("POST", "extend", '{"seconds": 60}')
        job.api("POST", "extend", '{"duration": "1h"}')
        scenario.expect(end_of(job.now()) == before + 120 + 300 + 3600,
                        "moved by %s" % (end_of(job.now()) - before))
    with scenario.case("status shows what is left, and until when"):
        text = verb(scenario, job, "status")
        scenario.expect("window" in text and job.now()["window"]["endsAt"] in text, text)
    with scenario.case("what is no time is refused with what was expected"):
        before = end_of(job.now())
        for body in ("", "{}", '{"duration": "soon"}', '{"seconds": 0}', '{"seconds": -5}',
                     '{"seconds": 99999999999}', '{"duration": "9999999d"}', '{"seconds": "60"}'):
            try:
                reply = job.api("POST", "extend", body)
            except ApiError as error:
                scenario.expect(error.status == 400 and "duration" in error.description or "3650"
                                in error.description, str(error))
            else:
                scenario.expect(False, "%r was taken: %s" % (body, reply))
        verb(scenario, job, "extend", "soon", status="option")
        verb(scenario, job, "extend", status="option")
        scenario.expect(end_of(job.now()) == before, "the end moved")
    with scenario.case("kill -9 keeps the end"):
        end = end_of(job.now())
        state = pair.destination.client["towline_more"]["job"]
        wait_until("the end in the job's state", lambda: abs(state.find_one()["windowEnd"].replace(
            tzinfo=datetime.timezone.utc).timestamp() - end) < 1)
        job.kill()
        job.start()
        scenario.expect(end_of(job.wait_in_sync()) == end, "it ends at %s" % end_of(job.now()))
    with scenario.case("the cutover in time"):
        summary = job.finish()
        scenario.expect(summary["window"]["beganAt"] < summary["window"]["endsAt"],
                        str(summary["window"]))
        scenario.expect_equal(pair)


def paused(scenario, pair):
    fill(pair)
    job = scenario.job(pair, name="paused", window="4s")
    job.wait_in_sync()
    job.pause()
    pair.source.client["shop"]["orders"].insert_one({"_id": "while it was paused"})
    with scenario.case("it also runs out while the job is paused, and loses nothing"):
        scenario.expect(job.wait(30) == EXIT["expired"], "ended with %s" % job.status)
        job.options["extend"] = "10m"
        job.start()
        job.wait_caught_up(pair.source.client)
        job.finish()
        scenario.expect_equal(pair)


def main():
    with Scenario(__doc__) as scenario:
        pair = scenario.pair()
        for part in (expires, longer_window, extended, paused):
            scenario.fresh(pair)
            with scenario.case("part %s came to its end" % part.__name__):
                part(scenario, pair)


if __name__ == "__main__":
    main()
