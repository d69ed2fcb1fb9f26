#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""indexes.py: --build-indexes says when a collection's indexes are built, and which; the comparison of
indexes follows it. A hashed index is a fake source's: the test server has none.
"""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True

from bson.son import SON

from fake import Fake
from job import EXIT, towline
from proxy import behind
from scenario import Pair, Scenario, wait_until


def fill(client):
    things = client["data"]["things"]
    things.insert_many([{"_id": n, "n": n, "u": n} for n in range(300)])
    things.create_index("n", name="plain")
    things.create_index("u", name="unique", unique=True)
    things.create_index("at", name="ttl", expireAfterSeconds=1 << 30)


def names(server):
    return sorted(index["name"] for index in server.client["data"]["things"].list_indexes())


def held(pair):
    """The pair with a proxy at the destination, which lets no document through until its script is cleared."""
    sides = Pair(pair.source, behind(pair.destination))
    sides.destination.script.on("insert", when=lambda request: request.database == "data",
                                times=None).delay(1)
    return sides


def before(scenario, pair):
    """While the copy has yet to write its first document, all but the unique index are there."""
    fill(pair.source.client)
    sides = held(pair)
    job = scenario.job(sides, build_indexes="beforeDataCopy")
    wait_until("the indexes", lambda: names(pair.destination) == ["_id_", "plain", "ttl"])
    scenario.expect(job.now()["phase"] in ("preparing", "copying") and
                    pair.destination.client["data"]["things"].find_one() is None, "they came late")
    sides.destination.script.clear()
    job.wait_in_sync()
    summary = job.finish()
    scenario.expect_equal(pair)
    scenario.expect(summary["indexes"] == 3, "%s indexes were counted" % summary["indexes"])
    sides.destination.close()


def never(scenario, pair):
    """No index, also none of a later createIndexes; one that somebody made at the destination stays."""
    fill(pair.source.client)
    job = scenario.job(pair, build_indexes="never")
    job.wait_in_sync()
    ours, theirs = pair.source.client["data"]["things"], pair.destination.client["data"]["things"]
    theirs.create_index("own", name="own")
    ours.create_index("later", name="later")
    ours.drop_index("plain")
    ours.insert_one({"_id": "last", "u": "last"})
    job.wait_caught_up(pair.source.client)
    job.finish()
    scenario.expect(names(pair.destination) == ["_id_", "own"], lambda: "%s" % names(pair.destination))
    left_out = towline("verify", "--source", pair.source.uri, "--destination", pair.destination.uri,
                       "--progress", "none", "--build-indexes", "never")
    scenario.expect(left_out.returncode == 0, left_out.stderr)
    whole = towline("verify", "--source", pair.source.uri, "--destination", pair.destination.uri,
                    "--progress", "none")
    scenario.expect(whole.returncode == EXIT["verify"], "a missing index is no difference")


def hashed(scenario, destination):
    """This destination refuses hashed indexes: they fail the job, unless they are left out."""
    for choice, status in (("excludeHashedAfterCopy", 0), ("excludeHashed", 0), ("afterDataCopy", EXIT["index"])):
        scenario.reset(destination)
        source = Fake()
        source.insert("data.things", *[{"_id": n, "n": n} for n in range(50)])
        source.indexes["data.things"] = [
            SON([("v", 2), ("key", SON(n="hashed")), ("name", "hashed")]),
            SON([("v", 2), ("key", SON([("m", 1), ("k", "hashed")])), ("name", "also")]),
            SON([("v", 2), ("key", SON(n=1)), ("name", "plain")])]
        job = scenario.job(Pair(source, destination), build_indexes=choice, cutover="auto")
        scenario.expect(job.wait() == status, lambda: "%s: status %s: %s" % (choice, job.status,
                                                                            job.error_line()))
        scenario.expect(status != 0 or names(destination) == ["_id_", "plain"],
                        lambda: "%s: %s" % (choice, names(destination)))
        scenario.expect(not source.gaps, lambda: "the fake lacks: %s" % source.gaps[:3])


def main():
    with Scenario(__doc__) as scenario:
        pair = scenario.pair()
        for name, case in (("beforeDataCopy: built while the collection is empty", before),
                           ("never: none is built, dropped or compared", never)):
            scenario.fresh(pair)
            with scenario.case(name):
                case(scenario, pair)
            for job in scenario.jobs:
                job.close()
        with scenario.case("excludeHashed: all but hashed ones"):
            hashed(scenario, pair.destination)


if __name__ == "__main__":
    main()
