# SPDX-License-Identifier: Apache-2.0
"""Moves live MongoDB deployments: the engine of Towline in this process.

    with towline.Job(source="mongodb://…", destination="mongodb://…", cutover="auto") as job:
        job.start()
        for event in job.events():
            print(event.name, event.message)
        job.wait()

Options are those of `towline run`, with _ for -: a bool is a flag, a list may hold several values, a timedelta is a
duration. Calls that wait release the GIL. What fails raises a subclass of `towline.Error`, which carries the code.
"""
from ._calls import check, options, plan, verify, version
from ._errors import (CalledOff, Cancelled, Conflict, ControlError, ErrorCode, Error, Expired, HistoryLost, IndexRefused,
                      InternalError, Interrupted, LeaseError, NotInSync, OutputError, OptionError, ServerError, SettingsChanged,
                      SpoolError, StateError, Unequal, Unreachable, Unsuitable)
from ._job import Events, Job
from ._types import CheckReport, CutoverStep, Event, Finding, Level, Option, Phase, Progress, Timestamp

__all__ = ["CalledOff", "Cancelled", "CheckReport", "Conflict", "ControlError", "CutoverStep", "Error", "ErrorCode",
           "Event", "Events", "Expired", "Finding", "HistoryLost", "IndexRefused", "InternalError", "Interrupted", "Job",
           "LeaseError", "Level", "NotInSync", "Option", "OptionError", "OutputError", "Phase", "Progress", "ServerError",
           "SettingsChanged", "SpoolError", "StateError", "Timestamp", "Unequal", "Unreachable", "Unsuitable", "check",
           "options", "plan", "verify", "version"]
__version__ = "1.0.0rc1"
