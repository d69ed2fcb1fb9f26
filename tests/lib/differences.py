# SPDX-License-Identifier: Apache-2.0
"""differences.py: what tests expect of the test server and a real mongod does otherwise.

The only place where a test may know which server it runs on. A case that is named here may fail on a real
server (TOWLINE_TEST_MONGOD, or `mongod` on the PATH), and its line says why; all others must pass there, too.
"""
import os
import shutil

# (program, part of the case's name): why it cannot hold on a real server
KNOWN = {
    ("check.py", "an oplog shorter than the copy"): "a real oplog has 990 MB at least",
    ("verify.py", "rollover: a job that lost its position"): "a real oplog has 990 MB at least, which no test fills",
}


def is_real():
    """Whether `servers` starts real ones."""
    return bool(os.environ.get("TOWLINE_TEST_MONGOD") or shutil.which("mongod"))


def known(program, case):
    """The reason why this case may fail on these servers, or None."""
    if not is_real():
        return None
    return next((reason for (other, part), reason in KNOWN.items()
                 if other == os.path.basename(program) and part in case), None)
