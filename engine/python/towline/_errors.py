# SPDX-License-Identifier: Apache-2.0
"""What fails, as exceptions."""
import enum
from typing import Any, Dict, Optional, Type

from ._library import ffi


class ErrorCode(enum.IntEnum):
    """The code of an error: the exit status that the program `towline` would end with."""

    INTERNAL = 1
    OPTION = 2
    UNREACHABLE = 3
    UNSUITABLE = 4
    CONFLICT = 5
    SETTINGS = 6
    LEASE = 7
    SERVER = 8
    HISTORY_LOST = 9
    SPOOL = 10
    INDEX = 11
    VERIFY = 12
    NOT_IN_SYNC = 13
    STATE = 14
    CONTROL = 15
    INTERRUPTED = 16
    CANCELLED = 17
    EXPIRED = 18
    TIMEOUT = 19
    CALLED_OFF = 20
    OUTPUT = 21


class Error(Exception):
    """What the engine says of a failure, and what to do about it; `code` says which kind it is."""

    code: ErrorCode
    server_code: int

    def __init__(self, message: str, code: ErrorCode, server_code: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.server_code = server_code


class InternalError(Error):
    """A bug, or the machine failed."""


class OptionError(Error):
    """An option is unknown, malformed or out of range."""


class Unreachable(Error):
    """A server cannot be reached, or refuses the login."""


class Unsuitable(Error):
    """Standalone source, one deployment on both sides, and the like."""


class Conflict(Error):
    """Namespaces of the destination exist already."""


class SettingsChanged(Error):
    """The job began with another source, destination or filter."""


class LeaseError(Error):
    """Another process holds the job, or took it over."""


class ServerError(Error):
    """A server's error that retries did not cure; `server_code` is its number."""


class HistoryLost(Error):
    """The source's oplog no longer reaches back to the job's position."""


class SpoolError(Error):
    """The spool cannot be written, or is broken."""


class IndexRefused(Error):
    """The destination refused an index."""


class Unequal(Error):
    """Both sides differ; `report` says where, when a comparison found it."""

    report: Optional[Dict[str, Any]] = None


class NotInSync(Error):
    """The cutover was asked for too early."""


class StateError(Error):
    """The request does not fit the job's phase."""


class ControlError(Error):
    """The control server cannot listen."""


class Interrupted(Error):
    """Stopped: a job with the same options goes on."""


class Cancelled(Error):
    """Given up by cancel()."""


class Expired(Error):
    """The window ran out."""


class CalledOff(Error):
    """The cutover was called off."""


class OutputError(Error):
    """All is done, and what says so could not be written."""


_CLASSES: Dict[ErrorCode, Type[Error]] = {
    ErrorCode.INTERNAL: InternalError, ErrorCode.OPTION: OptionError, ErrorCode.UNREACHABLE: Unreachable,
    ErrorCode.UNSUITABLE: Unsuitable, ErrorCode.CONFLICT: Conflict, ErrorCode.SETTINGS: SettingsChanged,
    ErrorCode.LEASE: LeaseError, ErrorCode.SERVER: ServerError, ErrorCode.HISTORY_LOST: HistoryLost,
    ErrorCode.SPOOL: SpoolError, ErrorCode.INDEX: IndexRefused, ErrorCode.VERIFY: Unequal,
    ErrorCode.NOT_IN_SYNC: NotInSync, ErrorCode.STATE: StateError, ErrorCode.CONTROL: ControlError,
    ErrorCode.INTERRUPTED: Interrupted, ErrorCode.CANCELLED: Cancelled, ErrorCode.EXPIRED: Expired,
    ErrorCode.CALLED_OFF: CalledOff, ErrorCode.OUTPUT: OutputError}


def new_error() -> Any:
    return ffi.new("tow_error_t *")


def exception(error: Any) -> Error:
    """The exception of an error that was filled. A library newer than this package may have codes of its own."""
    message = ffi.string(error.message).decode("utf-8", "replace")
    try:
        code = ErrorCode(int(error.code))
    except ValueError:
        code = ErrorCode.INTERNAL
    return _CLASSES.get(code, Error)(message, code, int(error.server_code))
