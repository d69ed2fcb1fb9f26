#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""filter.py: --include and --exclude take exactly what they say, in the copy and in the stream."""
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.dont_write_bytecode = True

import compare
from scenario import Scenario

DATABASES = ("shop", "shop2", "sho", "a-b", "other")
# Names that a pattern made carelessly would take together: a dot, a prefix, signs of regular
# expressions.
COLLECTIONS = ("orders", "orders2", "order", "orders.old", "or*ders", "o.d.rs", "orders(1)", "|")

# name: (include, exclude, what is taken)
FILTERS = {
    "one database": (["shop"], [], lambda database, name: database == "shop"),
    "one database by .*": (["shop.*"], [], lambda database, name: database == "shop"),
    "one collection": (["shop.orders"], [], lambda database, name:
                       (database, name) == ("shop", "orders")),
    "a name with dots": (["shop.o.d.rs"], [], lambda database, name:
                         (database, name) == ("shop", "o.d.rs")),
    "signs of regular expressions": (["shop.orders(1)", "a-b.|"], [], lambda database, name:
                                     (database, name) in (("shop", "orders(1)"), ("a-b", "|"))),
    "regular expressions": (["/^(shop|oth)/.orders", r"a-b./^or\*/", "/^NEW$/i"], ["/er$/./old/"],
                            lambda database, name:
                            (database.startswith(("shop", "oth")) and name == "orders") or
                            (database == "a-b" and name.startswith("or*"))),
    "regular expressions excluded": ([], ["/^s/", "other./^o.*s/"], lambda database, name:
                                     not database.startswith("s") and not (
                                         database == "other" and re.match("o.*s", name))),
    "excluded database": ([], ["shop"], lambda database, name: database != "shop"),
    "excluded collection": ([], ["shop.orders"], lambda database, name:
                            (database, name) != ("shop", "orders")),
    "excluded wins over included": (["shop", "other.orders"], ["shop.orders", "shop.order"],
                                    lambda database, name:
                                    (database == "shop" and name not in ("orders", "order"))
                                    or (database, name) == ("other", "orders")),
}


def fill(client):
    for database in DATABASES:
        for name in COLLECTIONS:
            client[database][name].insert_many([{"_id": n} for n in range(20)])
            client[database][name].create_index("n")


def change(client, text):
    """Something of every kind in every namespace, after the copy."""
    for database in DATABASES:
        for name in COLLECTIONS:
            collection = client[database][name]
            collection.insert_one({"_id": "in sync " + text})
            collection.update_many({"_id": {"$lt": 10}}, {"$set": {text: 1}})
            collection.delete_one({"_id": 19})
        client[database]["new_" + text].insert_one({"_id": 1})


def main():
    with Scenario(__doc__) as scenario:
        pair = scenario.pair()
        source, destination = pair
        for label, (include, exclude, takes) in FILTERS.items():
            with scenario.case(label):
                scenario.fresh(pair)
                fill(source.client)
                # What stands outside of the filter at the destination is nobody's business.
                outside = not takes("bystander", "c")
                if outside:
                    destination.client["bystander"]["c"].insert_one({"_id": "mine"})
                job = scenario.job(pair, include=include, exclude=exclude)
                job.wait_in_sync()
                change(source.client, "x")
                job.finish()
                scenario.expect_equal(pair, takes=takes)
                catalog = compare.read_catalog(destination.client, lambda *names: True)
                extra = [ns for ns in catalog if not takes(*ns.split(".", 1))
                         and ns != "bystander.c"]
                scenario.expect(not extra, "not within the filter: %s" % ", ".join(extra))
                kept = destination.client["bystander"]["c"].count_documents({})
                scenario.expect(kept == int(outside), "a bystander was touched")
                taken = [ns for ns in catalog if ns != "bystander.c"]
                scenario.expect(taken, "nothing was taken")
        with scenario.case("a filter that matches nothing takes nothing"):
            scenario.fresh(pair)
            source.client["shop"]["c"].insert_one({"_id": 1})
            job = scenario.job(pair, include=["nowhere"])
            # Refused or an empty job: both are honest, a copy would not be.
            job.wait_or_end("in-sync", lambda now: now.get("phase") == "in-sync")
            scenario.expect(job.status in (None, 2, 4), "ended with %s" % job.status)
            job.close()
            catalog = compare.read_catalog(destination.client, lambda *names: True)
            scenario.expect(not catalog, "copied %s" % sorted(catalog))


if __name__ == "__main__":
    main()
