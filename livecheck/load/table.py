"""Figures as text: a table of summaries that fits 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from livecheck.core.screen import WIDTH
from livecheck.core.text import figure
from livecheck.wire.metrics import SUMMARY_NAMES

FEW = 100  # samples; the p99 of fewer lies between the two slowest ones
LABEL, COUNT, CELL = 19, 6, 7  # widths
NOTE = f"  * fewer than {FEW} samples: close to the slowest one, not a real p99"


def header() -> str:
    return f"  {'':{LABEL}}{'n':>{COUNT}}" + "".join(f"{n:>{cell(n)}}" for n in SUMMARY_NAMES)


def cell(column: str) -> int:
    return CELL + (column == "min")  # the column before may carry a star


def row(label: str, summary: Mapping[str, Any]) -> str:
    """One summary on a line; a p99 of few samples is marked with a star."""
    cells = {name: f"{figure(summary[name]):>{cell(name)}}" for name in SUMMARY_NAMES}
    if is_few(summary):
        cells["p99"] += "*"
        cells["min"] = cells["min"][1:]
    return f"  {label:{LABEL}}{summary['n']:>{COUNT}}" + "".join(cells.values())


def optional_row(label: str, summary: dict[str, Any]) -> list[str]:
    return [row(label, summary)] if summary["n"] else []


def footnote(*summaries: dict[str, Any]) -> list[str]:
    return [NOTE] if any(is_few(summary) for summary in summaries) else []


def is_few(summary: Mapping[str, Any]) -> bool:
    return 0 < int(summary["n"]) < FEW


def whole(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The same figures without decimals: there is no half token."""
    return {name: None if value is None else round(value) for name, value in summary.items()}


def columns(rows: Iterable[Sequence[str]], widths: Sequence[int]) -> list[str]:
    """Rows of cells, each to the right of its column."""
    return [
        "".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows
    ]


def entry(label: str, text: str) -> list[str]:
    """A label and words, on as many lines as they need."""
    first = f"  {label:{LABEL}} "
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=" " * len(first))
