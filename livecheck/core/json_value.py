"""Values out of JSON that a server sent: any of them may be missing, or of another type.

A path is a row of keys and indices: `pick(answer, "choices", 0, "message")`.
"""

from __future__ import annotations

from typing import Any

from livecheck.core.text import LIMIT, shorten

QUOTED_LENGTH = 60  # characters of a value inside a longer line


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
    """The value for a result file: numbers and None as they are, everything else as a line."""
    is_simple = value is None or isinstance(value, (bool, int, float))
    return value if is_simple else as_line(value)
