# SPDX-License-Identifier: Apache-2.0
"""Options, and what needs no job."""
import contextlib
import datetime
import json
from typing import Any, Callable, Dict, Iterator, List, Optional, Union

from ._errors import Unequal, exception, new_error
from ._library import ffi, lib, take, text
from ._types import CheckReport, Option, check_report

Value = Union[str, int, bool, datetime.timedelta, List[str], None]


def version() -> str:
    """The library's version."""
    return text(lib.tow_version()) or ""


def options() -> List[Option]:
    """All options there are."""
    count = ffi.new("size_t *")
    table = lib.tow_options_table(count)
    return [Option(*(text(getattr(table[i], name)) or "" for name in Option._fields)) for i in range(count[0])]


def _texts(value: Value) -> List[str]:
    if value is None:
        return []
    if isinstance(value, (list, tuple)):
        return [str(item) for item in value]
    if isinstance(value, bool):
        return ["true" if value else "false"]
    if isinstance(value, datetime.timedelta):
        return ["%ds" % round(value.total_seconds())]
    return [str(value)]


@contextlib.contextmanager
def made(values: Dict[str, Value]) -> Iterator[Any]:
    """Options for a call. `config` names a YAML file, over which the others win."""
    made_options = ffi.gc(lib.tow_options_new(), lib.tow_options_destroy)
    error = new_error()
    values = dict(values)
    path = values.pop("config", None)
    if path is not None:
        if not lib.tow_options_load(made_options, str(path).encode(), error):
            raise exception(error)
        lib.tow_options_override(made_options)
    for name, value in values.items():
        for item in _texts(value):
            if not lib.tow_options_set(made_options, name.replace("_", "-").encode(), item.encode(), error):
                raise exception(error)
    yield made_options


def _look(call: Callable[..., bool], values: Dict[str, Value]) -> Dict[str, Any]:
    error, out = new_error(), ffi.new("char **")
    with made(values) as made_options:
        call(made_options, out, error)
    found: Optional[str] = take(out[0])
    if found is None:
        raise exception(error)
    report: Dict[str, Any] = json.loads(found)
    return report


def check(**values: Value) -> CheckReport:
    """Makes every check that comes before a start, and writes nothing. Raises OptionError for options that cannot be
    used; what the checks find is in the report."""
    return check_report(_look(lib.tow_check, values))


def plan(**values: Value) -> Dict[str, Any]:
    """The same, and what a job would copy: collections, sizes, ranges, estimated time."""
    return _look(lib.tow_plan, values)


def verify(**values: Value) -> Dict[str, Any]:
    """Compares both sides once, and returns the report. Raises Unequal when they differ, with the report as `report`."""
    error, out = new_error(), ffi.new("char **")
    with made(values) as made_options:
        equal = lib.tow_verify(made_options, out, error)
    found = take(out[0])
    report: Optional[Dict[str, Any]] = json.loads(found) if found is not None else None
    if equal and report is not None:
        return report
    failure = exception(error)
    if isinstance(failure, Unequal):
        failure.report = report
    raise failure
