"""The evidence of failures and warnings: what was asked and answered, as the result files keep it.

Of a result file nothing is believed: what has another form than the scripts give it is left out,
and all of it is shown as text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from livecheck.core.exchanges import MAX_EXCHANGES
from livecheck.core.text import duration

MAX_LINES, MAX_LINE = 400, 2100  # of a question or an answer; characters of one
MAX_BEFORE_MS = 1e12  # a request may have been sent before the measurement of its file began
MAX_FIELDS, MAX_FIELD = 60, 300  # header fields, and checks; characters of one


@dataclass(frozen=True)
class Exchange:
    """One exchange of a result file. Times in ms; at_ms since the file's measurement began."""

    number: int  # in its file, from 1
    checks: Mapping[str, str]
    at_ms: float | None
    first_byte_ms: float | None
    spent_ms: float | None
    asked: str
    status: int | None
    error_text: str
    is_cancelled: bool
    answer_bytes: int | None
    sent_headers: Mapping[str, str] = field(default_factory=dict)
    question: Sequence[str] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    answer: Sequence[str] = ()

    @property
    def outcome(self) -> str:
        """`503 after 4.0 ms`."""
        what = self.error_text or ("no answer" if self.status is None else str(self.status))
        if self.error_text and self.status is not None:
            what = f"{self.status}, {self.error_text}"
        after = f" after {duration(self.spent_ms)}" if self.spent_ms is not None else ""
        return what + after + (" (this script hung up on purpose)" if self.is_cancelled else "")


def read_exchanges(content: object) -> list[Exchange]:
    """Those of a file that have the form that the scripts give them."""
    listed = content[:MAX_EXCHANGES] if isinstance(content, list) else []
    found = [each for each in listed if isinstance(each, dict)]
    return [read(number, each) for number, each in enumerate(found, 1)]


def read(number: int, content: Mapping[str, Any]) -> Exchange:
    status, size = content.get("status"), content.get("answer_bytes")
    lines = content.get("question")
    return Exchange(
        number=number,
        checks=texts(content.get("checks")),
        at_ms=figure(content.get("at_ms"), least=-MAX_BEFORE_MS),
        first_byte_ms=figure(content.get("first_byte_ms")),
        spent_ms=figure(content.get("spent_ms")),
        asked=str(content.get("asked") or "?")[:MAX_LINE],
        status=status if isinstance(status, int) else None,
        error_text=str(content.get("error_text") or content.get("error") or "")[:MAX_LINE],
        is_cancelled=content.get("cancelled") is True,
        answer_bytes=size if isinstance(size, int) else None,
        sent_headers=texts(content.get("sent_headers")),
        question=None if lines is None else as_lines(lines),
        headers=texts(content.get("headers")),
        answer=as_lines(content.get("answer")),
    )


def figure(value: object, least: float = 0.0) -> float | None:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    return float(value) if value >= least else None


def texts(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    listed = list(value.items())[:MAX_FIELDS]
    return {k[:MAX_FIELD]: each[:MAX_FIELD] for k, each in listed if isinstance(each, str)}


def as_lines(value: object) -> list[str]:
    """A list of lines, as they are saved; a text of other programs is taken apart."""
    value = value.split("\n") if isinstance(value, str) else value
    if not isinstance(value, list):
        return []
    return [each[:MAX_LINE] for each in value[:MAX_LINES] if isinstance(each, str)]
