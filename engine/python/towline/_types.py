# SPDX-License-Identifier: Apache-2.0
"""What the library says, in Python's types."""
import dataclasses
import datetime
import enum
from typing import Any, Dict, List, NamedTuple

from ._library import ffi


class Phase(enum.IntEnum):
    """Where a job is."""

    NEW = 0
    VALIDATING = 1
    PREPARING = 2
    COPYING = 3
    CATCHING_UP = 4
    IN_SYNC = 5
    FINALIZING = 6
    DONE = 7
    PAUSED = 8
    FAILED = 9
    EXPIRED = 10
    CANCELLED = 11

    def __str__(self) -> str:
        return self.name.lower().replace("_", "-")

    @property
    def final(self) -> bool:
        return self in (Phase.DONE, Phase.FAILED, Phase.EXPIRED, Phase.CANCELLED)


class CutoverStep(enum.IntEnum):
    """How far a cutover is."""

    NONE = 0
    CONFIRMED = 1
    FINALIZING = 2
    DONE = 3


class Level(enum.IntEnum):
    """How much an event matters."""

    DEBUG = 0
    INFO = 1
    WARNING = 2
    ERROR = 3


class Timestamp(NamedTuple):
    """A cluster time; (0, 0) is "none yet"."""

    t: int
    i: int


class Event(NamedTuple):
    """Something happened. `name` is stable, `message` is for people."""

    name: str
    message: str
    level: Level
    time: datetime.datetime
    lost: int
    """Events before this one that were not taken in time."""


class Option(NamedTuple):
    """One row of the table of options."""

    name: str
    environment: str
    unit: str
    range: str
    initial: str
    help: str


@dataclasses.dataclass(frozen=True)
class Progress:
    """A snapshot of a job: the fields of tow_progress_t, which libtowline(3) explains."""

    phase: Phase
    can_commit: bool
    cutover: CutoverStep
    cutover_seconds: float
    writes_blocked: bool
    late_writes: int
    reason: str
    elapsed_seconds: float
    estimated_documents: int
    estimated_bytes: int
    copied_documents: int
    copied_bytes: int
    collections_total: int
    collections_copied: int
    ranges_total: int
    ranges_copied: int
    indexes_total: int
    indexes_built: int
    events_seen: int
    events_skipped: int
    events_applied: int
    keys_dirty: int
    keys_refetched: int
    statements_applied: int
    spool_bytes: int
    dirty_bytes: int
    backlog_events: int
    direct_mode: bool
    lag_ms: int
    source_time: Timestamp
    start: Timestamp
    read: Timestamp
    spooled: Timestamp
    floor: Timestamp
    checkpoint: Timestamp
    consistent: Timestamp
    stop: Timestamp
    verified: Timestamp
    verified_documents: int
    verified_bytes: int
    verify_total_documents: int
    retries: int
    retrying: str
    source_ping_ms: float
    destination_ping_ms: float
    source_silent_ms: int
    destination_silent_ms: int
    moved_ms: int
    oplog_headroom_seconds: float
    window_length_ms: int
    window_end_ms: int
    window_left_ms: int


def progress_of(source: Any) -> Progress:
    values: Dict[str, Any] = {}
    for field in dataclasses.fields(Progress):
        value = getattr(source, field.name)
        if field.type is Timestamp:
            value = Timestamp(value.t, value.i)
        elif field.type is str:
            value = ffi.string(value).decode("utf-8", "replace")
        else:
            value = field.type(value)
        values[field.name] = value
    return Progress(**values)


@dataclasses.dataclass(frozen=True)
class Finding:
    """One check: `result` is pass, warning, failure or skipped."""

    name: str
    result: str
    facts: str
    advice: str
    exit_status: int


@dataclasses.dataclass(frozen=True)
class CheckReport:
    """What all checks found. `ok`: a job may start."""

    ok: bool
    exit_status: int
    findings: List[Finding]


def check_report(report: Dict[str, Any]) -> CheckReport:
    return CheckReport(report["ok"], report["exitStatus"],
                       [Finding(item["name"], item["result"], item["facts"], item["advice"], item["exitStatus"])
                        for item in report["checks"]])
