#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""migrate.py SOURCE-URI DESTINATION-URI SPOOL-FOLDER: a job from asyncio. It asks for the cutover when the job is in
sync; a real program stops the application before it does.

    pip install ./engine/python
"""
import asyncio
import sys

import towline


async def migrate(source: str, destination: str, spool: str) -> None:
    with towline.Job(source=source, destination=destination, spool=spool) as job:
        job.start()
        async for event in job.events():
            print("%s: %s" % (event.name, event.message), flush=True)
            if (event.name, event.message) == ("phase", "in-sync"):
                job.cutover()
        job.wait()  # raises what went wrong
        print("%s: %d documents" % (job.progress().phase, job.progress().copied_documents))


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    try:
        asyncio.run(migrate(*sys.argv[1:]))
    except towline.Error as error:
        print(error, file=sys.stderr)
        sys.exit(error.code)
