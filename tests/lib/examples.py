#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""examples.py BUILD: runs each example of engine/examples on two servers, and compares them; and `host`, a program
that looks after what is its own."""
import os
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from scenario import Server  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCUMENTS = 5000


def run(source, destination, words, expected):
    """What is wrong; "" for nothing."""
    for name in destination.client.list_database_names():
        if name not in ("admin", "config", "local"):
            destination.client.drop_database(name)
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([*words, source.uri, destination.uri, folder], text=True, timeout=60,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    copied = destination.client.shop.orders.count_documents({})
    if done.returncode or copied != DOCUMENTS or expected not in done.stdout:
        return "exit status %d, %d documents copied: %s" % (done.returncode, copied, done.stdout[-1500:])
    return ""


def main(build):
    os.environ["TOWLINE_LIBRARY"] = str(build / "engine" / "cmd" / "libtowline.so.0")
    os.environ["PYTHONPATH"] = str(ROOT / "engine" / "python")
    examples = build / "engine" / "examples"
    programs = [([str(examples / "migrate")], "done: %d documents copied" % DOCUMENTS),
                ([str(examples / "operate")], '"state"'),
                ([sys.executable, str(ROOT / "engine" / "examples" / "migrate.py")], "done: %d documents" % DOCUMENTS),
                ([str(build / "tests" / "host")], "done: the host is as it was")]
    source, destination = Server(), Server()
    source.client.shop.orders.insert_many([{"_id": n, "text": "x" * 100} for n in range(DOCUMENTS)])
    source.client.shop.orders.create_index("text")
    failed = False
    for words, expected in programs:
        wrong = run(source, destination, words, expected)
        print("%s %s%s" % ("not ok" if wrong else "ok", pathlib.Path(words[-1]).name, wrong and ": " + wrong), flush=True)
        failed = failed or bool(wrong)
    source.stop()
    destination.stop()
    sys.exit(failed)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]).resolve())
