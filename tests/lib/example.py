#!/usr/bin/env python3
"""example.py PROGRAM: runs the embedding example on two servers and compares them."""
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import compare  # noqa: E402
from scenario import Server  # noqa: E402

source, destination = Server(), Server()
source.client.shop.orders.insert_many([{"_id": n, "text": "x" * 100} for n in range(5000)])
source.client.shop.orders.create_index("text")
with tempfile.TemporaryDirectory() as folder:
    done = subprocess.run([sys.argv[1], source.uri, destination.uri, folder], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=50)
print(done.stdout)
copied = destination.client.shop.orders.count_documents({})
source.stop()
destination.stop()
if done.returncode or copied != 5000 or "done: 5000 documents copied" not in done.stdout:
    sys.exit("exit status %d, %d documents copied" % (done.returncode, copied))
