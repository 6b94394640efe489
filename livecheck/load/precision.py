"""`--precision 5%`: a level goes on until its medians of TTFT and decode rate are that exact. Pure.

After 64, 96, 144 ... answers it is looked whether the 95 % interval of each median lies within that
share of it. The interval is the one of order statistics, by the binomial distribution: how many of
n answers are above the true median (Conover, "Practical Nonparametric Statistics", 3rd edition,
chapter 3.2). Answers of a server are not independent of each other, so n is divided by how much
more the number above the median varies between 32 parts of the series than chance alone explains
(batch means: Conway 1963; for quantiles Heidelberger and Lewis 1984), and by how much each part
resembles the one before. How much that is, is taken from the mean ranks of the parts, not from the
numbers above the median: of values that depend on the one before by 0.9, the numbers above it do by
0.71 only, but forget more slowly from there on than the power of a process of first order.

The error that looking several times adds is paid for in advance: each look has a confidence of
99 %. How often the interval at which a level stops has the true median in it is simulated by
tests/tools/power.py --table precision.

Conway, R. W. (1963), "Some tactical problems in digital simulation", Management Science 10, 47-61.
Heidelberger, P. and Lewis, P. A. W. (1984), "Quantile estimation in dependent sequences",
Operations Research 32, 185-209.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from livecheck.core.json_value import quoted
from livecheck.core.text import figure, plural
from livecheck.load.trend import autocorrelations, ranks
from livecheck.wire.metrics import in_order, percentile
from livecheck.wire.shares import read_share

HELP = "instead of --requests: go on until the medians are as exact as that, as in 5%%"
LONGEST_S = 600  # of a level, unless --max-time says otherwise
LEAST_SHARE, MOST_SHARE = 0.005, 0.5
PARTS = 32
STUDENT_T = 2.744  # 99 %, for one degree of freedom less than there are parts
LEAST, LEAST_PER_SLOT = 64, 16  # answers before the first look
GROWTH = 1.5  # from one look to the next
MOST_MEMORY = 0.9
TOLD = 0.5  # a figure that fewer of the answers tell is not waited for
FIGURES = {"ttft_ms": ("TTFT p50", "ms"), "tokens_per_s": ("decode rate p50", "tok/s")}


def parse_share(text: str) -> float:
    """`5%` or `0.05`. ValueError says what is wrong."""
    share = read_share(text)
    if share is None or not LEAST_SHARE <= share <= MOST_SHARE:
        bounds = f"{100 * LEAST_SHARE:g}% to {100 * MOST_SHARE:g}%"
        raise ValueError(f"{quoted(text)}: a share from {bounds}, as in 5%")
    return share


def usual_requests(slots: int) -> int:
    """What it takes with little noise: two looks."""
    return slots + math.ceil(first_look(slots) * GROWTH)


def first_look(slots: int) -> int:
    return max(LEAST, LEAST_PER_SLOT * slots)


@dataclass(frozen=True)
class Interval:
    """The median of a series, with a confidence of 99 %."""

    low: float
    middle: float
    high: float

    @property
    def half_width(self) -> float:
        """As a share of the median, of the wider side."""
        wider = max(self.high - self.middle, self.middle - self.low)
        return wider / self.middle if self.middle else math.inf


def median_interval(values: Sequence[float]) -> Interval | None:
    """The interval of the median of these values, in the order of time. None: there are too few."""
    count = len(values)
    if count < 2 * PARTS:
        return None
    middle = percentile(values, 50)
    half = STUDENT_T * math.sqrt(count * inflation(values, middle)) / 2
    low, high = math.floor((count + 1) / 2 - half) - 1, math.ceil((count + 1) / 2 + half) - 1
    if low < 0 or high >= count:
        return None
    ordered = in_order(values)
    return Interval(ordered[low], middle, ordered[high])


def inflation(values: Sequence[float], middle: float) -> float:
    """By how much the number of values above the median varies more than that of independent ones;
    at least 1."""
    size = len(values) // PARTS
    above = sums_of_parts([float(each > middle) for each in values], size)
    usual = math.fsum(above) / PARTS
    variance = math.fsum((each - usual) ** 2 for each in above) / (PARTS - 1)
    seen = next(autocorrelations(sums_of_parts(ranks(values), size)))
    # it is estimated too low by that (Marriott and Pope 1954, as in trend.py)
    memory = min(MOST_MEMORY, seen + (1 + 4 * max(0.0, seen)) / PARTS)
    alike = (1 + memory) / (1 - memory) if memory > 0 else 1.0
    return max(1.0, variance / (size / 4) * alike)


def sums_of_parts(values: Sequence[float], size: int) -> list[float]:
    """Of so many consecutive values each; what is left over is left out at the beginning."""
    begins = range(len(values) - size * PARTS, len(values), size)
    return [math.fsum(values[n : n + size]) for n in begins]


@dataclass
class Precision:
    """What a level knows of it while it runs. `slots`: how many requests are in flight; the first
    answer of each says nothing, because they all began at once."""

    wanted: float
    slots: int
    values: dict[str, list[float]] = field(default_factory=lambda: {key: [] for key in FIGURES})
    found: dict[str, Interval | None] = field(default_factory=dict)  # at the last look
    is_reached: bool = False
    looks: int = 0
    answers: int = 0  # good ones
    used: int = 0  # of them, at the last look
    next_look: int = 0

    def __post_init__(self) -> None:
        self.next_look = first_look(self.slots)

    def add(self, figures: Mapping[str, Any]) -> None:
        """An answer that has ended, in the order of their ends. Cheap, but for a few looks."""
        if self.is_reached or figures["error"] or figures["ttft_ms"] is None:
            return
        self.answers += 1
        if self.answers <= self.slots:
            return
        for key, values in self.values.items():
            if figures[key]:
                values.append(figures[key])
        if len(self.values["ttft_ms"]) >= self.next_look:
            self.look()
            self.next_look = math.ceil(self.next_look * GROWTH)

    def look(self) -> None:
        """Whether the medians are exact enough now."""
        self.looks += 1
        self.used = len(self.values["ttft_ms"])
        self.found = {key: median_interval(self.values[key]) for key in self.waited_for}
        widths = [each.half_width if each else math.inf for each in self.found.values()]
        self.is_reached = max(widths) <= self.wanted

    @property
    def waited_for(self) -> list[str]:
        """TTFT, and the decode rate if most of the answers tell one."""
        told = len(self.values["tokens_per_s"]) >= TOLD * len(self.values["ttft_ms"])
        return [key for key in FIGURES if told or key == "ttft_ms"]

    def metrics(self, why_ended: str) -> dict[str, Any]:
        """The part `precision` of a level's figures, when it is over. Where the precision was not
        reached, one more look says how exact the medians are after all."""
        if not self.is_reached:
            self.look()
        found = {key: self.found.get(key) for key in FIGURES}
        return {
            "wanted_share": self.wanted,
            "reached": self.is_reached,
            "requests": self.used,
            "looks": self.looks,
            **{key: as_dict(each) for key, each in found.items()},
            **({} if self.is_reached else {"reason": why_ended}),
        }


def as_dict(found: Interval | None) -> dict[str, float | None] | None:
    if found is None:
        return None
    values = {"p50": found.middle, "low": found.low, "high": found.high}
    share = found.half_width
    rounded: dict[str, float | None] = {key: round(each, 3) for key, each in values.items()}
    return rounded | {"half_width_share": round(share, 6) if math.isfinite(share) else None}


def words_of(precision: Mapping[str, Any]) -> str:
    """`±5 % reached with 144 requests: TTFT p50 103.2 to 108.9 ms (±3.1 %), ...`."""
    wanted = f"±{100 * precision['wanted_share']:.3g} %"
    count = f"{plural(precision['requests'], 'request')}, {plural(precision['looks'], 'look')}"
    told = ", ".join(figure_words(key, precision[key]) for key in FIGURES)
    if precision["reached"]:
        return f"{wanted} reached with {count}: {told}"
    return f"{wanted} not reached ({precision['reason']}) with {count}: {told}"


def figure_words(key: str, found: Mapping[str, Any] | None) -> str:
    name, unit = FIGURES[key]
    if found is None or found["half_width_share"] is None:
        return f"{name} not known"
    share = f"±{100 * found['half_width_share']:.1f} %"
    return f"{name} {figure(found['low'])} to {figure(found['high'])} {unit} ({share})"
