"""The search for the capacity: the highest level that keeps the service level objectives (SLOs).

The level is doubled until one breaks them, then the gap is halved. Pure: no network, no clock.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from typing import Any

from livecheck.core.checks import Check, failed, passed, undecided, warned
from livecheck.core.screen import WIDTH
from livecheck.core.text import figure
from livecheck.load import table
from livecheck.wire.metrics import Objective

DOUBLINGS = 6  # of the first level, without --max-level
RESOLUTION = 0.05  # share of the level: a finer result would be noise
MOST_REPEATS = 2  # of levels that this program itself broke, or did not put their load on
LOWEST = 1 / 16  # share of the first rate: the lowest that is tried when the first is too much


@dataclass(frozen=True)
class Trial:
    """One level and its figures. `broken`: which objectives it breaks; `kept`: those it keeps."""

    level: float
    figures: dict[str, Any]
    broken: dict[str, str]  # name of the objective, or "requests" -> figure and bound in words
    kept: dict[str, str]


@dataclass
class Search:
    """The search until now. `whole`: levels are whole numbers."""

    start: float
    most: float
    whole: bool
    trials: list[Trial] = field(default_factory=list)
    ended: str | None = None  # why it ended early
    is_undecided: bool = False  # it ended where nothing could be told, as at the key's rate limit
    repeats: int = 0  # of levels that say nothing, because of this program's own delay

    @property
    def unit(self) -> str:
        return "in flight" if self.whole else "requests/s"

    @property
    def kept(self) -> Trial | None:
        """The highest level that keeps the objectives and is below every level that breaks one."""
        broken = self.broken
        good = [trial for trial in self.trials if not trial.broken]
        below = [trial for trial in good if broken is None or trial.level < broken.level]
        return max(below, key=lambda trial: trial.level, default=None)

    @property
    def broken(self) -> Trial | None:
        """The lowest level that breaks an objective."""
        bad = [trial for trial in self.trials if trial.broken]
        return min(bad, key=lambda trial: trial.level, default=None)

    @property
    def bounds(self) -> dict[str, float | None]:
        kept, broken = self.kept, self.broken
        return {
            "capacity": kept.level if kept else None,
            "broken_at": broken.level if broken else None,
        }

    def repeat(self, level: float) -> None:
        """A level was broken by nothing but this program's own delay, or had fewer requests in
        flight because of it: it says nothing. It is tried again, as long as it is not too often."""
        self.repeats += 1
        if self.repeats > MOST_REPEATS:
            self.ended = (
                f"at {level:g} this program could not run: repeat it on a less busy machine"
            )

    def next_level(self) -> float | None:
        """The level to try next; None when the search is over."""
        kept, broken = self.kept, self.broken
        return self.after(kept.level if kept else 0, broken.level if broken else None)

    def after(self, kept: float, broken: float | None) -> float | None:
        """The next level when the highest kept and the lowest broken one are these (0: none)."""
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
        """How many levels the search takes at most."""
        level = self.after(kept, broken)
        if level is None:
            return 0
        return 1 + max(self.most_levels(level, broken), self.most_levels(kept, level))

    def metrics(self) -> dict[str, Any]:
        return {
            **self.bounds,
            "capacity_unit": self.unit,
            "levels": [
                {"level": each.level, "within_slos": not each.broken, **each.figures}
                for each in self.trials
            ],
        }


def figure_words(objective: Objective, value: float | None) -> str:
    """A figure and its bound, as in `TTFT p95 0.41 s ≤ 0.5 s`."""
    name = label(objective)
    bound = f"{'≤' if objective.upper else '≥'} {amount(objective.limit, objective.unit)}"
    if value is None:
        return f"{name} not measured"
    if objective.per_request:
        return f"{name} {bound} in {value:.1%}"
    measured = f"{name} {amount(value, objective.unit)}"
    return f"{measured} {bound}" if objective.holds(value) else measured


def label(objective: Objective) -> str:
    """The name of an objective for people: `ttft_p95` is TTFT p95."""
    series, _, statistic = objective.name.rpartition("_")
    name = series if objective.statistic else objective.name
    shown = name.upper() if name in ("ttft", "itl", "tpot", "e2e") else name
    return f"{shown} {statistic}" if objective.statistic else shown


def amount(value: float, unit: str) -> str:
    """A value with its unit: 410 ms is 0.41 s, 41 ms is 41 ms."""
    if unit == "ms" and value >= 100:
        return f"{value / 1e3:.3g} s"
    if not unit:
        return f"{100 * value:.3g} %"
    return f"{value:.3g} {unit}"


# --- judge


def check_capacity(search: Search) -> Check:
    """A level keeps the objectives, and it is known which one is the highest."""
    kept, broken = search.kept, search.broken
    evidence = {**search.bounds, "levels": len(search.trials)}
    if search.is_undecided or not (kept or broken):
        detail = f"not found: {search.ended or 'no level was tried'}"
        return undecided("capacity", detail, evidence)
    breaks = f"at {broken.level:g}: {words(broken.broken)}" if broken else ""
    if kept is None:
        return failed("capacity", f"no level keeps the SLOs: {breaks}", evidence)
    found = f"highest level that keeps the SLOs: {kept.level:g}"
    if broken is None and search.ended:
        found = f"the SLOs are kept at {kept.level:g} at least ({words(kept.kept)})"
        return warned("capacity", f"{found}; {search.ended}", evidence)
    if broken is None:
        found += f", the highest tried ({words(kept.kept)}); --max-level ended the search"
        return passed("capacity", found, evidence)
    # of the objectives that it keeps, name those that the next level breaks
    same = {name: text for name, text in kept.kept.items() if name in broken.broken}
    found += f" ({words(same or kept.kept)}); {breaks}"
    if search.ended:
        found += f"; the levels between were not tried: {search.ended}"
        return warned("capacity", found, evidence)
    return passed("capacity", found, evidence)


def words(texts: dict[str, str]) -> str:
    return ", ".join(texts.values()) or "no SLO applies to it"


# --- show


def forecast(search: Search, size: str, bound_s: float, timeout_s: float) -> list[str]:
    """What the operator is told before: how long it can take."""
    text = (
        f"capacity: from {search.start:g} up to {search.most:g} {search.unit}, doubled until an "
        f"SLO is broken, then bisected: at most {search.most_levels()} levels of {size}; it ends "
        f"after {bound_s:g} s and one timeout ({timeout_s:g} s) at the latest"
    )
    return textwrap.wrap(text, WIDTH)


def trial_lines(trial: Trial) -> list[str]:
    """The line of a level, shown as soon as it is decided."""
    word = "broken" if trial.broken else "kept"
    rate = figure(trial.figures["output_tokens_per_s"])
    text = f"{word}: {words(trial.broken or trial.kept)}; {rate} tok/s"
    count = f"{trial.figures['succeeded']} of {trial.figures['requests']}"
    return table.entry(f"{trial.level:>7g}  {count:>9}", text)


def head(search: Search) -> str:
    """The line above the lines of the levels."""
    unit = "requests in flight" if search.whole else "requests a second"
    return f"Capacity: {unit}, how many requests of the level succeeded, the SLOs"
