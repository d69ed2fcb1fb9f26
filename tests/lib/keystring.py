# SPDX-License-Identifier: Apache-2.0
"""keystring.py: resume tokens as real servers make them (R: shared/recordings/README.md, "How to read").

A token of 4.2 to 5.x is `82`, seconds, increment, version `2B02`, the type (`29`: a high water mark, `2C0100`:
an event), the place within a transaction, `6E`, then of an event the collection's uuid and the document key.
From 6.0 on the version is `2B04`, and a high water mark ends in `1404`.
"""
import re

from bson import Timestamp

VERSION_1, VERSION_2 = "2B02", "2B04"


def number(value):
    """A small int as KeyStrings hold it."""
    if value == 0:
        return "29"
    magnitude = abs(value) << 1
    length = (magnitude.bit_length() + 7) // 8
    if value < 0:
        magnitude = (1 << 8 * length) - 1 - magnitude
        return "%02X" % (0x28 - length) + "%0*X" % (2 * length, magnitude)
    return "%02X" % (0x2A + length) + "%0*X" % (2 * length, magnitude)


def element(name, value):
    """One element of a document key; what keys of tests are: ints and text, else its repr as text."""
    label = name.encode().hex().upper() + "00"
    if isinstance(value, int) and not isinstance(value, bool):
        return "1E" + label + number(value)
    text = value if isinstance(value, str) else repr(value)
    return "3C" + label + "3C" + text.encode().hex().upper() + "00"


def head(time_, old):
    return "82%08X%08X" % (time_.time, time_.inc) + (VERSION_1 if old else VERSION_2)


def high_water(time_, old):
    return {"_data": head(time_, old) + ("29296E04" if old else "29296E1404")}


def event(time_, old, uuid=None, key=None, place=0):
    """`key`: the document key as pairs; `place`: within a transaction."""
    data = head(time_, old) + "2C0100" + number(place) + "6E"
    if uuid is not None:
        data += "5A1004" + uuid.hex.upper()
    if key is not None:
        data += "46" + "".join(element(*pair) for pair in key) + "00"
    return {"_data": data + "04"}


def time_of(token):
    data = token["_data"]
    return Timestamp(int(data[2:10], 16), int(data[10:18], 16))


def is_event(token):
    return token["_data"][22:28] == "2C0100"


def problem(token, old):
    """(code, codeName or "", message) of what a server says of a malformed token; None: it is well-formed."""
    data = token.get("_data")
    if not isinstance(data, str):
        return (40647, "", "Bad resume token: _data of missing or of wrong type.")
    if not data:
        return (40649, "", "invalid empty resume token")
    if len(data) % 2 or re.search("[^0-9A-Fa-f]", data):
        return (9, "FailedToParse", "resume token string was not a valid hex string")
    if len(data) < 18 or len(data) > 22 and not data.endswith("04"):
        return (15, "Overflow", "Invalid advance past end of buffer")
    if len(data) < 22:
        return (50796, "", "Resume Token does not contain version")
    if data[18:22] != VERSION_1 and (old or data[18:22] != VERSION_2):
        return (50795, "", "Invalid Resume Token: only supports version 0 or 1")
    return None
