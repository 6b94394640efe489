"""The one place that every text passes before it is shown or saved.

What a server says is data. Whatever a caller has done to it before, here pieces of credentials are
taken out, then characters that a terminal would act on are made visible, then the length is
bounded: in this order, because a part of a credential cannot be recognised when it is too short.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any

from livecheck.core.late_pattern import late_pattern
from livecheck.core.redaction import MIN_SECRET_LENGTH, PIECE_LENGTH, Secrets
from livecheck.core.text import visible

MAX_LINE = 1000  # characters of a line on the screen
MAX_TEXT = 1000  # of a text in a result file
# So many characters of a result file are text of any length. After them each text is cut to
# MAX_LATER: thousands of requests may be refused with the same long words.
MAX_TEXTS = 1_000_000
MAX_LATER = 120
MAX_LINES = 2048  # of a text that is saved line by line
MAX_ITEMS = 1000  # of a list of texts, and of names in an object
MAX_OBJECTS = 20_000  # of a list of objects: those of readings over time are long
MAX_DEPTH = 30
MAX_DIGITS = 10**18  # as in JSON that is read (json_value.py)
REQUESTS = "requests"  # at the top of a document, and at its end
KEPT_WHOLE = (REQUESTS, "checks")  # at the top of a document: figures of ours, one for each
# What a document is made of. A short credential may be a word of it: "PASS", "user".
VOCABULARY = {"status", "verdict", "script", "tool_version", "started_at", "name", "group"}
OURS = ("script", "tool_version", "verdict", "started_at", "schema_version")  # at the top
PLAIN = (type(None), bool, array)  # as they are: an array has times of ours alone
WORD = late_pattern(r"[a-z]+(_[a-z]+)*(_p?\d\d?)?")  # as a key of ours
MIN_IN_WORD = 12  # characters of a secret in such a word that are no coincidence


def clean_line(text: str, redact: Callable[[str], str], most: int = MAX_LINE) -> str:
    """One line of at most `most` characters, for people."""
    # What is cut off here can only come into the first `most` characters by redaction; that a
    # server repeats a credential so often is a reason to show less.
    line = visible(redact(text[: 4 * most]))
    return line if len(line) <= most else line[: most - 3] + "..."


class Lines(str):
    """A text of which the lines are kept: it is saved as a list of them."""


def clean_lines(text: str, redact: Callable[[str], str], most: int = MAX_LINES) -> list[str]:
    """A text of several lines as a list of them, together of at most `most` characters."""
    lines, left = [], most
    for line in redact(text[: 2 * most]).split("\n"):
        shown = visible(line)
        lines.append(shown if len(shown) <= left else shown[:left] + "...")
        left -= len(shown) + 1
        if left <= 0:
            break
    return lines


class Cleaner:
    """Makes the content of one result file fit to be saved. It never raises an exception."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets
        self._left = MAX_TEXTS
        self._keys: dict[str, str] = {}  # thousands of records have the same ones

    def document(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """A document with nothing in it that JSON cannot hold. Its requests are cleaned one by one
        while they are taken: there may be a hundred thousand."""
        cleaned = {
            key: value if key in OURS else self._value(value, key, key in KEPT_WHOLE)
            for key, value in content.items()
            if key != REQUESTS
        }
        if requests := content.get(REQUESTS):
            cleaned[REQUESTS] = (self._value(each, REQUESTS, depth=1) for each in requests)
        else:
            cleaned[REQUESTS] = []
        return cleaned

    def _value(self, value: Any, key: str = "", whole: bool = False, depth: int = 0) -> Any:
        if type(value) is float:
            return value if math.isfinite(value) else None  # servers do send NaN
        if isinstance(value, Enum):
            value = value.value
        if isinstance(value, PLAIN):
            return value
        if isinstance(value, int):
            return clean_integer(value)
        if isinstance(value, float):
            return value if math.isfinite(value) else None  # servers do send NaN
        if depth > MAX_DEPTH:
            return "(too deep to be saved)"
        if isinstance(value, Mapping):
            return self._object(value, depth)
        if isinstance(value, (list, tuple, set, frozenset)):
            return self._list(value, key, whole, depth)
        if isinstance(value, Lines):
            return clean_lines(value, self._secrets.redact)
        return self._text(value, key)

    def _text(self, value: object, key: str = "") -> str:
        text = value if isinstance(value, str) else as_text(value)
        least = least_in_word(text) if key in VOCABULARY else MIN_SECRET_LENGTH
        most = MAX_TEXT if self._left > 0 else MAX_LATER
        text = clean_line(text, lambda each: self._secrets.redact(each, least), most)
        self._left -= len(text)
        return text

    def _object(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        items = list(value.items())
        known = self._keys.get
        cleaned = {
            known(key) or self._key(key): item
            if type(item) in PLAIN
            else self._value(item, str(key), depth=depth + 1)
            for key, item in items[:MAX_ITEMS]
        }
        if len(items) > MAX_ITEMS:
            cleaned["left_out"] = len(items) - MAX_ITEMS
        return cleaned

    def _key(self, key: object) -> str:
        text = as_text(key)
        if (found := self._keys.get(text)) is not None:
            return found
        least = least_in_word(text)
        cleaned = clean_line(text, lambda each: self._secrets.redact(each, least), MAX_LATER)
        if len(self._keys) < MAX_ITEMS:
            self._keys[text] = cleaned
        return cleaned

    def _list(self, value: Iterable[Any], key: str, whole: bool, depth: int) -> list[Any]:
        items = list(value)
        if all(item is None or isinstance(item, (int, float)) for item in items):
            whole = True  # figures of ours: nothing that was measured is lost
        most = len(items) if whole else MAX_ITEMS
        if not whole and all(isinstance(item, Mapping) for item in items):
            most = MAX_OBJECTS
        cleaned = [self._value(item, key, depth=depth + 1) for item in items[:most]]
        if len(items) > most:
            left = len(items) - most
            cleaned.append({"left_out": left} if isinstance(items[0], Mapping) else f"{left} more")
        return cleaned


def least_in_word(text: str) -> int:
    """How many characters of a secret are hidden in a word that may be one of ours."""
    return MIN_IN_WORD if WORD.fullmatch(text) else PIECE_LENGTH


def clean_integer(value: int) -> int | float | None:
    """The integer; as a float, or None, if it has more than 18 digits."""
    if abs(value) < MAX_DIGITS:
        return int(value)
    try:
        return float(value)
    except OverflowError:
        return None


def as_text(value: object) -> str:
    try:
        return str(value)
    except Exception:  # of an object that is no text in the first place
        return f"(a {type(value).__name__})"
