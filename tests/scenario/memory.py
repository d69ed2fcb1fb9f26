#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""memory.py: memory stays within --memory + 150 MB while the dirty keys of a job exceed it.

Every document of a collection with long, shuffled _ids changes while the job is paused, and again
while it copies: the keys alone are more bytes than --memory, so they must go to the spool.
"""
import hashlib
import pathlib
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True

from scenario import Scenario, scaled

MEMORY_MB = 64
ALLOWED_MB = MEMORY_MB + 150
ID_BYTES = 220
PARTS = 8


def identity(number):
    """Long and without order, so that neither coalescing nor prefixes make the keys small."""
    return hashlib.blake2b(b"%d" % number).hexdigest() + "-" * (ID_BYTES - 128)


def fill(client, count):
    def insert(part):
        for first in range(part * 5000, count, PARTS * 5000):
            client["wide"]["keys"].insert_many(
                [{"_id": identity(n), "part": n % PARTS, "n": 0}
                 for n in range(first, min(first + 5000, count))], ordered=False)
    in_threads(insert, range(PARTS))


def in_threads(work, arguments):
    failed = []

    def guarded(argument):
        try:
            work(argument)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=guarded, args=(argument,)) for argument in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def change_all(client, field):
    for part in range(PARTS):
        client["wide"]["keys"].update_many({"part": part}, {"$inc": {field: 1}})


def main():
    with Scenario(__doc__) as scenario:
        pair = scenario.pair()
        source = pair.source.client
        # The limit is 64 MB at any scale, so the number of keys has a floor that exceeds it.
        count = scaled(400000, 330000)
        scenario.fresh(pair)
        fill(source, count)
        key_mb = count * ID_BYTES / 1e6
        scenario.expect(key_mb > MEMORY_MB, "%d MB of keys are too few" % key_mb)
        print("# %d documents, %.0f MB of keys" % (count, key_mb))
        job = scenario.job(pair, memory=MEMORY_MB)
        job.wait_in_sync()
        job.pause()
        events = job.now()["eventsSeen"]
        with scenario.case("pause stops applying, not reading"):
            change_all(source, "n")
            progress = job.wait_for("all events read", lambda now:
                                    now["eventsSeen"] >= events + count)
            scenario.expect(progress["phase"] == "paused", "phase %s" % progress["phase"])
        with scenario.case("what exceeds --memory goes to the spool"):
            progress = job.now()
            scenario.expect(progress["spoolBytes"] > 0, "spoolBytes is 0")
            scenario.expect(progress["dirtyBytes"] <= MEMORY_MB << 20, "dirty keys hold %d bytes"
                            % progress["dirtyBytes"])
        with scenario.case("the backlog drains"):
            job.resume()
            job.wait_caught_up(source, 400)
            job.finish()
        with scenario.case("peak memory below --memory + 150 MB"):
            peak = job.peak_bytes >> 20
            print("# peak %d MB, cpu %.1f s" % (peak, job.cpu_seconds))
            scenario.expect(0 < peak < ALLOWED_MB, "%d MB, allowed %d MB" % (peak, ALLOWED_MB))
        with scenario.case("both sides are equal"):
            scenario.expect_equal(pair)


if __name__ == "__main__":
    main()
