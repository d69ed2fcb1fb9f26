# SPDX-License-Identifier: Apache-2.0
"""The package on two servers: what it does, what it raises, and how it ends."""
import asyncio
import dataclasses
import datetime
import os
import pathlib
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import unittest

import towline
from towline._library import ffi, lib

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "lib"))
from scenario import Server  # noqa: E402

NOWHERE = {"source": "mongodb://127.0.0.1:1/", "destination": "mongodb://127.0.0.1:2/"}


class WithoutServers(unittest.TestCase):
    def test_version(self):
        self.assertEqual(towline.version().replace("-rc.", "rc"), towline.__version__)

    def test_names_are_the_librarys(self):
        for ours, prefix in ((towline.Phase, "TOW_PHASE_"), (towline.Level, "TOW_LEVEL_"),
                             (towline.CutoverStep, "TOW_CUTOVER_"), (towline.ErrorCode, "TOW_ERROR_")):
            theirs = {name: value for name, value in
                      ((name[len(prefix):], getattr(lib, name)) for name in dir(lib) if name.startswith(prefix))}
            self.assertEqual({item.name: int(item) for item in ours}, theirs)
        self.assertEqual([field.name for field in dataclasses.fields(towline.Progress)],
                         [name for name, _ in ffi.typeof("tow_progress_t").fields])
        for phase in towline.Phase:
            self.assertEqual(str(phase), ffi.string(lib.tow_phase_name(phase)).decode())

    def test_every_code_has_its_class(self):
        error = ffi.new("tow_error_t *")
        for code in towline.ErrorCode:
            error.code = int(code)
            found = towline._errors.exception(error)
            self.assertEqual(found.code, code)
            if code != towline.ErrorCode.TIMEOUT:
                self.assertNotEqual(type(found), towline.Error)
        error.code = 99
        self.assertEqual(towline._errors.exception(error).code, towline.ErrorCode.INTERNAL)

    def test_options(self):
        names = [option.name for option in towline.options()]
        self.assertIn("clear-destination", names)
        with self.assertRaises(towline.OptionError) as caught:
            towline.Job(**NOWHERE, workers=1000)
        self.assertEqual(caught.exception.code, towline.ErrorCode.OPTION)
        self.assertIn("workers", str(caught.exception))
        with self.assertRaises(towline.OptionError):
            towline.Job(**NOWHERE, no_such_option=True)
        with towline.Job(**NOWHERE, job="x", window=datetime.timedelta(hours=2), include=["a.b", "c.*"],
                         continuous=False, spool=None) as job:
            self.assertEqual(job.name, "x")
            self.assertEqual(job.progress().phase, towline.Phase.NEW)
            self.assertEqual(job.progress().window_left_ms, -1)
            self.assertIsNone(job.summary())

    def test_config(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "job.yaml")
            with open(path, "w", encoding="utf-8") as file:
                file.write("job: from-file\nworkers: 2\n")
            with towline.Job(config=path, **NOWHERE) as job:
                self.assertEqual(job.name, "from-file")
            with towline.Job(config=path, job="over", **NOWHERE) as job:
                self.assertEqual(job.name, "over")

    def test_a_closed_job_says_so(self):
        job = towline.Job(**NOWHERE)
        with self.assertRaises(towline.StateError):
            job.pause()
        job.close()
        job.close()
        for call in (job.progress, job.start, job.stop):
            with self.assertRaises(ValueError):
                call()
        self.assertEqual(list(job.events()), [])

    def test_closing_ends_what_other_threads_wait_for(self):
        job = towline.Job(**NOWHERE)
        seen = []
        thread = threading.Thread(target=lambda: seen.append(list(job.events())))
        thread.start()
        time.sleep(0.05)
        job.close()
        thread.join(5)
        self.assertFalse(thread.is_alive())
        self.assertEqual(seen, [[]])


class OnServers(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.source, cls.destination = Server(), Server()
        cls.source.client.shop.orders.insert_many([{"_id": n, "text": "x" * 100} for n in range(500)])

    @classmethod
    def tearDownClass(cls):
        cls.source.stop()
        cls.destination.stop()

    def setUp(self):
        for name in self.destination.client.list_database_names():
            if name not in ("admin", "config", "local"):
                self.destination.client.drop_database(name)
        self.folder = tempfile.TemporaryDirectory()
        self.options = {"source": self.source.uri, "destination": self.destination.uri, "spool": self.folder.name}
        self.addCleanup(self.folder.cleanup)

    def test_check_and_plan(self):
        report = towline.check(**self.options)
        self.assertTrue(report.ok)
        self.assertGreater(len(report.findings), 10)
        self.assertEqual({finding.exit_status for finding in report.findings if finding.result == "pass"}, {0})
        self.assertIn("collections", towline.plan(**self.options))
        self.destination.client.shop.orders.insert_one({})
        report = towline.check(**self.options)
        self.assertFalse(report.ok)
        self.assertEqual(report.exit_status, towline.ErrorCode.CONFLICT)
        with towline.Job(**self.options) as job, self.assertRaises(towline.Conflict) as caught:
            job.run()
        self.assertIn("shop.orders", str(caught.exception))

    def test_a_life(self):
        async def live():
            seen = []
            with towline.Job(**self.options) as job:
                with self.assertRaises(TimeoutError):
                    job.wait(timeout=0.01)
                job.start()
                with self.assertRaises(towline.StateError):
                    job.start()
                stream = job.events()
                with self.assertRaises(towline.NotInSync):
                    job.cutover()
                async for event in stream:
                    seen.append(event)
                    if (event.name, event.message) == ("phase", "in-sync") and not job.progress().cutover:
                        self.assertGreater(job.progress().window_left_ms, 0)
                        job.pause()
                    elif (event.name, event.message) == ("phase", "paused"):
                        job.extend(datetime.timedelta(hours=1))
                        job.resume()
                        break
                while not job.progress().can_commit:
                    await asyncio.sleep(0.02)
                job.commit()
                async for event in stream:
                    seen.append(event)
                job.wait(timeout=30)
                self.assertEqual(job.progress().phase, towline.Phase.DONE)
                self.assertEqual(job.progress().copied_documents, 500)
                self.assertEqual(job.summary()["state"], "done")
            return seen

        seen = asyncio.run(live())
        self.assertIn(("phase", "done"), [(event.name, event.message) for event in seen])
        self.assertTrue(all(isinstance(event.level, towline.Level) and not event.lost for event in seen))
        self.assertEqual(self.destination.client.shop.orders.count_documents({}), 500)
        towline.verify(source=self.source.uri, destination=self.destination.uri)
        self.destination.client.shop.orders.delete_one({"_id": 7})
        with self.assertRaises(towline.Unequal) as caught:
            towline.verify(source=self.source.uri, destination=self.destination.uri)
        self.assertIn("shop.orders", str(caught.exception.report))

    def test_a_stopped_job_goes_on(self):
        with towline.Job(**self.options) as job:
            job.start()
            for event in job.events():
                if (event.name, event.message) == ("phase", "in-sync"):
                    job.stop()
            with self.assertRaises(towline.Interrupted):
                job.wait()
        with towline.Job(**self.options, cutover="auto") as job:
            job.run()
            self.assertEqual(job.progress().phase, towline.Phase.DONE)

    def test_the_gil_is_free_while_it_waits(self):
        job = towline.Job(**NOWHERE)
        counted = 0
        with job:
            thread = threading.Thread(target=lambda: job.ended(0.4))
            thread.start()
            while thread.is_alive():
                counted += 1
                time.sleep(0)
        self.assertGreater(counted, 20)

    def test_the_interpreter_ends_while_a_job_runs(self):
        for last in ("pass", "raise SystemExit(3)", "import os; os.fork() or sys.exit(3); os.wait()"):
            code = textwrap.dedent("""
                import sys, threading, towline
                def wait():
                    try:
                        job.wait()
                    except (ValueError, towline.Interrupted):
                        pass
                job = towline.Job(source=%r, destination=%r, spool=%r, clear_destination=True)
                job.start()
                threading.Thread(target=wait, daemon=True).start()
                for event in job.events():
                    if event.name == "phase" and event.message in ("copying", "catching-up", "in-sync"):
                        break
                %s
                """) % (self.source.uri, self.destination.uri, self.folder.name, last)
            done = subprocess.run([sys.executable, "-c", code], timeout=60, stderr=subprocess.PIPE, text=True, check=False,
                                  env=dict(os.environ, PYTHONPATH=str(ROOT / "engine" / "python")))
            self.assertEqual((done.returncode, done.stderr), (3 if last.startswith("raise") else 0, ""), last)


if __name__ == "__main__":
    unittest.main()
