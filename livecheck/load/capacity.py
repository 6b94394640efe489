"""How much can the deployment take within its objectives? Finds the highest level that keeps them.

Doubles the level until one does not keep them, then halves the gap. Pure: no network, no clock.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from typing import Any

from livecheck.core.checks import Check, Status
from livecheck.core.screen import WIDTH
from livecheck.core.text import figure
from livecheck.load import table
from livecheck.wire.metrics import Objective

DOUBLINGS = 6  # without --max-level
RESOLUTION = 0.05  # of the level: a finer answer would be noise
LOWEST = 1 / 16  # of the first rate, when already that is too much


@dataclass(frozen=True)
class Trial:
    """One level and what became of it. `broken`: why it does not keep the objectives."""

    level: float
    figures: dict[str, Any]
    broken: dict[str, str]  # name of the objective, or "requests" -> the words for it
    kept: dict[str, str]


@dataclass
class Search:
    """The search as far as it got. `whole`: levels are whole numbers."""

    start: float
    most: float
    whole: bool
    trials: list[Trial] = field(default_factory=list)
    ended: str | None = None  # why it did not come to its end
    limited: bool = False  # by the key's rate limit: nothing is decided

    @property
    def kept(self) -> Trial | None:
        """The highest level that keeps the objectives, below any that does not."""
        broken = self.broken
        good = [trial for trial in self.trials if not trial.broken]
        below = [trial for trial in good if broken is None or trial.level < broken.level]
        return max(below, key=lambda trial: trial.level, default=None)

    @property
    def broken(self) -> Trial | None:
        """The lowest level that does not."""
        bad = [trial for trial in self.trials if trial.broken]
        return min(bad, key=lambda trial: trial.level, default=None)

    def next_level(self) -> float | None:
        """The level to try next; None: nothing more to find out."""
        kept = self.kept.level if self.kept else 0
        return self.after(kept, self.broken.level if self.broken else None)

    def after(self, kept: float, broken: float | None) -> float | None:
        if broken is None:
            higher = min(2 * kept, self.most) if kept else self.start
            return higher if higher > kept else None
        if broken - kept <= max(self.whole, RESOLUTION * kept):
            return None
        if not kept and not self.whole and broken <= LOWEST * self.start:
            return None
        middle = (kept + broken) / 2
        return int(middle) if self.whole else float(f"{middle:.3g}")

    def most_levels(self, kept: float = 0, broken: float | None = None) -> int:
        """How many levels it takes at most."""
        level = self.after(kept, broken)
        if level is None:
            return 0
        return 1 + max(self.most_levels(level, broken), self.most_levels(kept, level))

    def metrics(self) -> dict[str, Any]:
        levels = [
            {"level": each.level, "within_slos": not each.broken, **each.figures}
            for each in self.trials
        ]
        return {
            "capacity": self.kept.level if self.kept else None,
            "broken_at": self.broken.level if self.broken else None,
            "capacity_unit": "in flight" if self.whole else "requests/s",
            "levels": levels,
        }


def figure_words(objective: Objective, value: float | None) -> str:
    """A figure beside its bound, as in `TTFT p95 0.41 s ≤ 0.5 s`."""
    name = label(objective)
    if value is None:
        return f"{name} not measured"
    if objective.per_request:
        return f"{name} {sign(objective)} {amount(objective.limit, objective.unit)} in {value:.1%}"
    limit = amount(objective.limit, objective.unit)
    if objective.holds(value):
        return f"{name} {amount(value, objective.unit)} {sign(objective)} {limit}"
    return f"{name} {amount(value, objective.unit)}"


def sign(objective: Objective) -> str:
    return "≤" if objective.upper else "≥"


def label(objective: Objective) -> str:
    """`ttft_p95` as people say it: TTFT p95."""
    series, _, statistic = objective.name.rpartition("_")
    name = series if objective.statistic else objective.name
    shown = name.upper() if name in ("ttft", "itl", "tpot", "e2e") else name
    return f"{shown} {statistic}" if objective.statistic else shown


def amount(value: float, unit: str) -> str:
    """410 ms is 0.41 s, 41 ms is 41 ms."""
    if unit == "ms" and value >= 100:
        return f"{value / 1e3:.3g} s"
    if not unit:
        return f"{100 * value:.3g} %"
    return f"{value:.3g} {unit}"


# --- judge


def check_capacity(search: Search) -> Check:
    """Some level keeps the objectives, and it is known which is the highest."""
    kept, broken = search.kept, search.broken
    evidence = {
        "capacity": kept.level if kept else None,
        "broken_at": broken.level if broken else None,
        "levels": len(search.trials),
    }
    status, detail = verdict(search, kept, broken)
    return Check("capacity", status, detail, evidence, essential=status is Status.SKIP)


def verdict(search: Search, kept: Trial | None, broken: Trial | None) -> tuple[Status, str]:
    if search.limited or not (kept or broken):
        return Status.SKIP, f"not found: {search.ended or 'nothing was tried'}"
    if kept is None and broken is not None:
        return Status.FAIL, f"no level within the SLOs: at {broken.level:g}: {words(broken.broken)}"
    assert kept
    found = f"highest level within the SLOs: {kept.level:g}"
    if broken is None:
        seen = f"{found}, the highest tried ({words(kept.kept)})"
        if search.ended:
            return Status.WARN, f"{seen}; {search.ended}"
        return Status.PASS, f"{seen}; --max-level goes no further"
    # of the figures that it keeps, those that the next level breaks
    same = {name: text for name, text in kept.kept.items() if name in broken.broken}
    detail = f"{found} ({words(same or kept.kept)}); at {broken.level:g}: {words(broken.broken)}"
    if search.ended:
        return Status.WARN, f"{detail}; what is between was not tried: {search.ended}"
    return Status.PASS, detail


def words(texts: dict[str, str]) -> str:
    return ", ".join(texts.values()) or "no SLO applies"


# --- report


def forecast(search: Search, size: str, bound_s: float, timeout_s: float) -> list[str]:
    """Said before: how long it can take."""
    unit = "in flight" if search.whole else "requests/s"
    text = (
        f"capacity: from {search.start:g} up to {search.most:g} {unit}, doubled until an SLO "
        f"breaks, then bisected: at most {search.most_levels()} levels of {size}; "
        f"over after {bound_s:g} s and one time-out ({timeout_s:g} s) at the latest"
    )
    return textwrap.wrap(text, WIDTH)


def trial_lines(trial: Trial) -> list[str]:
    """A level as soon as it is decided."""
    word = "broken" if trial.broken else "kept"
    rate = figure(trial.figures["output_tokens_per_s"])
    text = f"{word}: {words(trial.broken or trial.kept)}; {rate} tok/s"
    count = f"{trial.figures['succeeded']} of {trial.figures['requests']}"
    return table.entry(f"{trial.level:>7g}  {count:>9}", text)


def head(search: Search) -> list[str]:
    unit = "requests in flight" if search.whole else "requests a second"
    return [f"Capacity: {unit}, how many of the level succeeded, the SLOs"]
