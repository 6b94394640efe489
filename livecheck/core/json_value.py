"""Values out of JSON that a server sent: any of them may be missing, or of another type.

A path is a row of keys and indices: `pick(answer, "choices", 0, "message")`.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from livecheck.core.text import LIMIT, shorten

MAX_JSON_BYTES = 1 << 20  # what is larger is not read: in memory it takes up to 50 times as much
# Longer integers become floats: Python works with them exactly, slowly, and cannot show those of
# more than 4,300 digits.
MAX_DIGITS = 18
MAX_FIGURE = 1e12  # no true count or time is larger, and sums of larger ones lose their meaning
QUOTED_LENGTH = 60  # characters of a value inside a longer line


def decode(data: bytes | str, *, allow_nan: bool = True) -> Any:
    """The value of JSON that somebody else wrote. ValueError for all that cannot be read.

    That is also JSON that is nested too deeply, or has more than MAX_JSON_BYTES (of a str:
    characters). An integer of more than MAX_DIGITS digits becomes a float, which may be infinite.
    `allow_nan=False` refuses NaN and Infinity, as most clients do; Python's own reader takes them.
    """
    if len(data) > MAX_JSON_BYTES:
        raise ValueError(f"more than {MAX_JSON_BYTES >> 20} MB of JSON")
    read = _read_any if allow_nan else _read_strictly
    try:
        if isinstance(data, bytes):
            data = data.decode(json.detect_encoding(data), "surrogatepass")
        return read(data)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None


def decode_or_none(data: bytes | str) -> Any:
    """The same; None for all that cannot be read."""
    try:
        return decode(data)
    except ValueError:
        return None


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits.lstrip("-")) <= MAX_DIGITS else float(digits)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


_read_any = json.JSONDecoder(parse_int=_integer).decode
_read_strictly = json.JSONDecoder(parse_int=_integer, parse_constant=_refuse).decode


def pick(value: Any, *path: str | int) -> Any:
    """The value at the end of the path; None when there is nothing at one of its steps."""
    for step in path:
        if isinstance(step, str):
            value = value.get(step) if isinstance(value, dict) else None
        else:
            value = value[step] if isinstance(value, list) and len(value) > step else None
    return value


def pick_list(value: Any, *path: str | int) -> list[Any]:
    """The list at the end of the path; an empty one when there is no list."""
    found = pick(value, *path)
    return found if isinstance(found, list) else []


def pick_text(value: Any, *path: str | int) -> str:
    """The text at the end of the path; an empty one when there is no text."""
    found = pick(value, *path)
    return found if isinstance(found, str) else ""


def as_line(value: object, limit: int = LIMIT) -> str:
    """The value as one printable line of at most `limit` characters."""
    try:
        return shorten(str(value), limit)
    except RecursionError:
        return f"a deeply nested {type(value).__name__}"


def quoted(value: object) -> str:
    """The value inside a line for people: a text in quotes, everything else without."""
    line = as_line(value, QUOTED_LENGTH)
    return repr(line) if isinstance(value, str) else line


def figure_or_line(value: object) -> object:
    """The value for a result file: numbers and None as they are, everything else as a line, also
    the numbers that JSON does not have."""
    is_number = isinstance(value, (bool, int, float)) and math.isfinite(value)
    is_simple = value is None or is_number
    return value if is_simple else as_line(value)


def number(value: object) -> float | None:
    """A figure of a server's as a number from 0 to 10^12; None for anything else it may send."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        figure = float(value) if isinstance(value, str) else value
    except ValueError:
        return None
    return figure if 0 <= figure <= MAX_FIGURE else None  # NaN is not in that range either
