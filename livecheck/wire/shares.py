"""How often something was so, how sure that is, and a bound for it (`--slo schema_accuracy=95%`).

Pure. The interval is Wilson's, at 95 %: it is right for few samples, and near 0 and 1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from livecheck.core.json_value import QUOTED_LENGTH, quoted
from livecheck.core.text import shorten

Z = 1.959964  # of the normal distribution, for 95 %


@dataclass(frozen=True)
class Share:
    """`hits` of `of`."""

    hits: int
    of: int

    @property
    def value(self) -> float | None:
        """None without any."""
        return self.hits / self.of if self.of else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's interval, at 95 %; None without any."""
        if not self.of:
            return None
        share, square = self.hits / self.of, Z * Z / self.of
        centre = share + square / 2
        spread = math.sqrt(square * share * (1 - share) + square * square / 4)
        low, high = ((centre + sign * spread) / (1 + square) for sign in (-1, 1))
        return max(0.0, low), min(1.0, high)

    def as_dict(self) -> dict[str, Any]:
        low, high = self.interval or (None, None)
        figures = {"share": self.value, "low": low, "high": high}
        rounded = {k: None if v is None else round(v, 6) for k, v in figures.items()}
        return {**rounded, "hits": self.hits, "n": self.of}

    def __str__(self) -> str:
        """`97 % of 60 (92 to 99 %)`."""
        if self.value is None or self.interval is None:
            return "- of 0"
        low, high = (f"{100 * each:.0f}" for each in self.interval)
        return f"{100 * self.value:.0f} % of {self.of} ({low} to {high} %)"


def share_of(found: Iterable[bool]) -> Share:
    kept = list(found)
    return Share(sum(kept), len(kept))


@dataclass(frozen=True)
class Bound:
    """`--slo NAME=SHARE`: the least share."""

    name: str
    least: float

    def __str__(self) -> str:
        return f"{self.name}={100 * self.least:g}%"

    def holds(self, share: Share) -> bool:
        return share.value is not None and share.value >= self.least


def from_percent(percent: float) -> float:
    """The share that is so many percent. It is the same number as a division of counts gives:
    0.7 / 100 is less than 7 / 1000, and a bound of 0.7 % would be broken by 7 of 1000."""
    return round(percent / 100, 15)


def read_share(text: str) -> float | None:
    """`95%` or `0.95`; None for anything else."""
    match = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{0,9})?|\.\d{1,9})\s*(%?)\s*", text)
    if match is None:
        return None
    return from_percent(float(match[1])) if match[2] else float(match[1])


def parse_bound(text: str, names: Sequence[str]) -> Bound:
    """`schema_accuracy=95%` or `=0.95`. ValueError says what is wrong."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{quoted(text)} is not NAME=SHARE, as in {names[0]}=95%")
    if name not in names:
        raise ValueError(f"unknown objective {quoted(name)}: {', '.join(names)}")
    least = read_share(value)
    if least is None or least > 1:
        shown = shorten(value, QUOTED_LENGTH)
        raise ValueError(f"{name}={shown}: a share from 0 to 1, or a percentage, as in 95%")
    return Bound(name, least)
