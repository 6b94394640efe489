"""How requests ran beside each other: in parallel, one after the other, or something in between."""

from __future__ import annotations

import math
import operator
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from livecheck.core.text import duration, plural
from livecheck.fleet import busy_times as times
from livecheck.fleet.attribution import Attribution, succeeded
from livecheck.wire.answer import Answer
from livecheck.wire.metrics import percentile

PARALLEL_SHARE = 0.75  # of the first requests were served together: they ran in parallel
ONE_BY_ONE = 1.5  # served together at the most: they ran one after the other


@dataclass(frozen=True)
class Timing:
    """How the requests ran beside each other.

    parallelism: sum of the latencies / wall time. first: how many were sent before any of them
    ended; about `together` of them were served at the same time (None: too few to tell).
    """

    wall_ms: float
    parallelism: float
    first: int
    together: float | None

    @property
    def kind(self) -> str:
        if self.together is None:
            return "unknown"
        if self.together >= PARALLEL_SHARE * self.first:
            return "parallel"
        return "queued" if self.together < ONE_BY_ONE else "mixed"


def find_timing(served: Sequence[Answer], alone: Answer | None) -> Timing | None:
    """`served`: the answers of those that succeeded. `alone`: of a request that was sent alone."""
    if not served:
        return None
    wall_ms = max(map(times.ended_ms, served)) - min(map(times.sent_ms, served))
    latencies = sum(times.latency_ms(answer) or 0.0 for answer in served)
    first_end = min(map(times.ended_ms, served))
    first = [answer for answer in served if times.sent_ms(answer) < first_end]
    together = served_together(first, alone)
    parallelism = round(latencies / wall_ms, 2) if wall_ms else 1.0
    return Timing(wall_ms, parallelism, len(first), together)


def served_together(answers: Sequence[Answer], alone: Answer | None) -> float | None:
    """How many of these were served at a time, all of them sent before any ended.

    That is all of them when the last first output comes no later than the earliest one, and half
    of them when it comes the time of one request later.
    """
    if len(answers) < 3:
        return None
    latencies = [times.latency_ms(answer) or 0.0 for answer in answers]
    starts = [start for start in map(times.first_output_ms, answers) if start is not None]
    if len(starts) == len(answers):
        rest_ms = statistics.median(map(operator.sub, latencies, starts))
        request_ms, waited_ms = min(starts) + rest_ms, max(starts) - min(starts)
    else:  # not streamed: the wait can only be seen in the whole
        request_ms = (times.latency_ms(alone) if alone else None) or min(latencies)
        waited_ms = max(latencies) - min(latencies)
    rounds = 1 + waited_ms / request_ms if request_ms else 1.0
    return round(len(answers) / rounds, 2)


def timing_lines(
    timing: Timing,
    served: Sequence[Answer],
    alone: Sequence[Answer],
    at_once: int,
    served_by: Attribution,
) -> list[str]:
    """`alone`: those that were sent one at a time, before the others."""
    text = f"  effective parallelism {timing.parallelism:.1f} of {at_once}: the latencies"
    shown = [f"{text} of {plural(len(served), 'request')} in {duration(timing.wall_ms)}"]
    shown += [f"  {'by position':14}{'n':>4}{'first output p50':>20}{'latency p50':>16}"]
    if alone:
        shown.append(position_line("alone", succeeded(alone)))
    third = max(1, math.ceil(len(served) / 3))
    for start in range(0, len(served), third):
        part = served[start : start + third]
        shown.append(position_line(f"{start + 1} to {start + len(part)}", part))
    return [*shown, f"  {conclusion(timing, at_once, served_by)}"]


def position_line(label: str, answers: Sequence[Answer]) -> str:
    starts = [start for start in map(times.first_output_ms, answers) if start is not None]
    start = duration(percentile(starts, 50) if starts else None)
    latency = duration(times.median_latency_ms(answers))
    return f"  {label:14}{len(answers):>4}{start:>20}{latency:>16}"


def conclusion(timing: Timing, at_once: int, served_by: Attribution) -> str:
    """In words, how they ran."""
    if at_once < 2:
        return "one at a time: no request ran beside another"
    if timing.together is None:
        return f"{timing.first} at once are too few to tell whether they waited for each other"
    if timing.kind == "parallel":
        return f"served in parallel: of the first {timing.first}, none waited for another"
    if timing.kind == "mixed":
        of = f"of the first {timing.first}, about {timing.together:.0f} at a time"
        return f"mixed: {of}, the others waited"
    counts = served_by.counts
    if len(counts) == 1 and served_by.limits is None:
        return f"queued on one runner ({next(iter(counts))}): one after the other"
    many = f", though {len(counts)} runners served" if len(counts) > 1 else ""
    return f"queued: one after the other{many}"
