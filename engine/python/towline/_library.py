# SPDX-License-Identifier: Apache-2.0
"""The library, loaded: `ffi` and `lib`."""
import os
from typing import Any, Optional

import cffi

from ._declarations import CDEF

ffi = cffi.FFI()
ffi.cdef(CDEF)
# TOWLINE_LIBRARY names another than the loader finds.
lib: Any = ffi.dlopen(os.environ.get("TOWLINE_LIBRARY") or "libtowline.so.0")
lib.tow_take_driver_log()  # a warning is an event, not a line on stderr


def text(pointer: Any) -> Optional[str]:
    """A string that the library keeps."""
    return None if pointer == ffi.NULL else ffi.string(pointer).decode("utf-8", "replace")


def take(pointer: Any) -> Optional[str]:
    """A string that the library gave away."""
    try:
        return text(pointer)
    finally:
        lib.tow_free(pointer)
