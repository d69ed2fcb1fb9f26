# SPDX-License-Identifier: Apache-2.0
"""A job.

No thread of the engine ever calls into Python: events wait in a queue of the library's until a thread of Python's
takes them, without the GIL. So the end of the interpreter meets no callback, and nothing holds up the job."""
import asyncio
import atexit
import contextlib
import datetime
import json
import os
import threading
import time
from types import TracebackType
from typing import Any, AsyncIterator, Callable, Dict, Iterator, List, Optional, Set, Type, Union

from ._calls import Value, made
from ._errors import exception, new_error
from ._library import ffi, lib, take, text
from ._types import Event, Level, Progress, progress_of

SLICE_MS = 200  # after which a wait looks for ^C, and for close()
EXIT_SECONDS = 10.0

_running: Set["Job"] = set()


class _Closed(ValueError):
    """The job is closed, or another process's."""


class _End:
    """There are no more events."""


_END = _End()


class Job:
    """A copy that is followed, verified and cut over. All methods may be called from any thread; a child of fork()
    leaves it alone. As a context manager it ends with close()."""

    def __init__(self, **options: Value) -> None:
        """Checks the options (OptionError), and talks to no server."""
        error = new_error()
        self._job: Any = None
        self._busy = 0
        self._closing = self._started = False
        self._taking = threading.Lock()  # the queue is one thread's at a time
        self._changed = threading.Condition()
        self._pid = os.getpid()
        with made(options) as made_options:
            job = lib.tow_job_new(made_options, error)
        if job == ffi.NULL:
            raise exception(error)
        self._job = job
        self._queue = lib.tow_event_queue_new(job)
        _running.add(self)

    def __enter__(self) -> "Job":
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        self.close()

    # The handle is not freed under a call that another thread makes.
    @contextlib.contextmanager
    def _held(self) -> Iterator[Any]:
        with self._changed:
            if self._closing or self._pid != os.getpid():
                raise _Closed("the job is closed")
            self._busy += 1
        try:
            yield self._job
        finally:
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()

    def _ask(self, call: Callable[..., bool], *arguments: Any) -> None:
        error = new_error()
        with self._held() as job:
            if not call(job, *arguments, error):
                raise exception(error)

    def _json(self, call: Callable[..., Any], *arguments: Any) -> Any:
        with self._held() as job:
            found = take(call(job, *arguments))
        return None if found is None else json.loads(found)

    @property
    def name(self) -> str:
        with self._held() as job:
            return text(lib.tow_job_name(job)) or ""

    def start(self) -> None:
        """Returns as soon as the job runs."""
        self._started = True
        self._ask(lib.tow_job_start)

    def ended(self, timeout: float = 0) -> bool:
        """Waits for the end, at most that many seconds; whether it has come."""
        until = time.monotonic() + timeout
        while True:
            left_ms = int(max(0.0, until - time.monotonic()) * 1000)
            with self._held() as job:
                if lib.tow_job_ended(job, min(SLICE_MS, left_ms)):
                    return True
            if left_ms <= 0:
                return False

    def wait(self, timeout: Optional[float] = None) -> None:
        """Waits for a good end: done, cut over, verified. Raises what else it was, and TimeoutError when there was none
        in that many seconds."""
        if not self.ended(timeout if timeout is not None else 100 * 365 * 86400.0):
            raise TimeoutError("the job has not ended within %g s; it goes on" % (timeout or 0))
        self._ask(lib.tow_job_wait)

    def run(self) -> None:
        """start() and wait()."""
        self.start()
        self.wait()

    def progress(self) -> Progress:
        """Where the job is."""
        out = ffi.new("tow_progress_t *")
        with self._held() as job:
            lib.tow_job_progress_sized(job, out, ffi.sizeof("tow_progress_t"))
        return progress_of(out)

    def collections(self, limit: int = 100) -> List[Dict[str, Any]]:
        """The largest collections, and how far each is copied."""
        found: List[Dict[str, Any]] = self._json(lib.tow_job_collections_json, limit)["collections"]
        return found

    def summary(self) -> Optional[Dict[str, Any]]:
        """The summary; None before the end of the job."""
        found: Optional[Dict[str, Any]] = self._json(lib.tow_job_summary_json)
        return found

    def remains(self) -> str:
        """What a cancelled job leaves on the destination, and how to clear it."""
        with self._held() as job:
            return take(lib.tow_job_remains(job)) or ""

    def pause(self) -> None:
        """Stops applying changes; reading goes on."""
        self._ask(lib.tow_job_pause)

    def resume(self) -> None:
        """Applies changes again."""
        self._ask(lib.tow_job_resume)

    def cutover(self, block_writes: bool = False) -> None:
        """Confirms that nothing writes to the source any more, and begins the cutover; with block_writes the job blocks
        the writes itself (MongoDB 6.0+). NotInSync: too early. wait() returns when it is done."""
        self._ask(lib.tow_job_cutover_blocking if block_writes else lib.tow_job_cutover)

    commit = cutover

    def call_off(self) -> None:
        """Calls the cutover off: the job goes on in sync."""
        self._ask(lib.tow_job_call_off)

    def extend(self, time_to_add: Union[datetime.timedelta, float]) -> None:
        """Adds time (seconds, or a timedelta) to the window."""
        seconds = time_to_add.total_seconds() if isinstance(time_to_add, datetime.timedelta) else time_to_add
        self._ask(lib.tow_job_extend, int(seconds))

    def verify_again(self) -> None:
        """Forgets what the background verification compared."""
        self._ask(lib.tow_job_verify_again)

    def cancel(self) -> None:
        """Ends the job for good; the destination keeps what was copied."""
        self._ask(lib.tow_job_cancel)

    def stop(self) -> None:
        """Ends this process's work with a checkpoint, and returns at once; a job with the same options goes on."""
        with self._held() as job:
            lib.tow_job_stop(job)

    def events(self) -> "Events":
        """The job's events from its beginning, as far as they were not taken before: for `for` and `async for`. They
        end with the job, and with close(). The newest 1024 wait."""
        return Events(self)

    def _next_event(self) -> Union[Event, "_End", None]:
        """The next; None: none came in a while."""
        try:
            return self._take_event()
        except _Closed:
            return _END

    def _take_event(self) -> Union[Event, "_End", None]:
        with self._held() as job, self._taking:
            over = lib.tow_job_ended(job, 0)  # before: what comes after it is not the last
            event = lib.tow_event_queue_next(self._queue, SLICE_MS)
            if event == ffi.NULL:
                return _END if over else None
            return Event(text(event.name) or "", text(event.message) or "", Level(event.level),
                         datetime.datetime.fromtimestamp(event.time_ms / 1000, datetime.timezone.utc), event.lost)

    def close(self) -> None:
        """Stops the job at a checkpoint if it runs, waits for that, and frees it. Again: nothing."""
        self._close(None)

    def _close(self, patience: Optional[float]) -> None:
        with self._changed:
            if self._closing or self._job is None or self._pid != os.getpid():
                return
            self._closing = True
        lib.tow_job_stop(self._job)
        lib.tow_event_queue_close(self._queue)
        with self._changed:
            self._changed.wait_for(lambda: not self._busy, patience)
            if self._busy:
                return
        if patience is not None and self._started and not lib.tow_job_ended(self._job, int(patience * 1000)):
            return  # a server does not answer: nothing is lost, the job goes on from its last checkpoint
        lib.tow_job_destroy(self._job)
        lib.tow_event_queue_destroy(self._queue)
        _running.discard(self)


class Events:
    """A job's events, one after another. Several of one job share them."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._pending: Optional["asyncio.Future[Union[Event, _End, None]]"] = None

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        while True:
            event = self._job._next_event()
            if isinstance(event, _End):
                raise StopIteration
            if event is not None:
                return event

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        while True:
            if self._pending is None:
                self._pending = asyncio.get_running_loop().run_in_executor(None, self._job._next_event)
            # One that a cancelled task waited for is the next task's.
            event = await asyncio.shield(self._pending)
            self._pending = None
            if isinstance(event, _End):
                raise StopAsyncIteration
            if event is not None:
                return event


def _close_all() -> None:
    """At exit nothing of the engine may run: the libraries below it are about to be torn down."""
    for job in list(_running):
        job._close(EXIT_SECONDS)
    lib.tow_threads_ended(int(EXIT_SECONDS * 1000))


def _forget() -> None:
    """In a child of fork(), where there is none of the engine's threads."""
    _running.clear()
    atexit.unregister(_close_all)


atexit.register(_close_all)
os.register_at_fork(after_in_child=_forget)
