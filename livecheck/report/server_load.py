"""What the server said of itself while a level ran (`--server-metrics`), for a report. The figures
are read from a file, so that anything may stand in their place."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from livecheck.core.text import figure, plural, shorten
from livecheck.report.result_files import ResultFile, is_number
from livecheck.wire.engine_metrics import CACHE, PREEMPTIONS, RUNNING, WAITING
from livecheck.wire.metrics import counts_over_time

Points = list[tuple[float, float]]  # (seconds since the level began, value)
BINS = 120  # times over which our own requests are averaged
MOST_POINTS = 2000  # of a line in a picture; nobody sees more


def load_words(figures: Mapping[str, Any]) -> str | None:
    """`vLLM's own figures: at most 4 running, 12 waiting, cache 87 % full, 3 preemptions; …`; None
    when the file has none."""
    found = figures.get("server_metrics")
    if not isinstance(found, Mapping):
        return None
    most = {name: highest(found, name) for name in (RUNNING, WAITING, CACHE)}
    told = []
    if most[RUNNING] is not None:
        told.append(f"at most {most[RUNNING]:g} running")
    if most[WAITING] is not None:
        told.append(f"at most {most[WAITING]:g} waiting")
    if (cache := most[CACHE]) is not None:
        told.append(f"cache up to {100 * cache:.0f} % full")
    if is_finite(count := found.get(PREEMPTIONS)):
        told.append(plural(round(count), "preemption"))
    if is_finite(share := found.get("acceptance_rate")):
        told.append(f"{100 * share:.1f} % of the draft tokens accepted")
    own = found.get("ttft_ms")
    if isinstance(own, Mapping) and is_finite(own.get("mean")):
        told.append(f"its TTFT {figure(own['mean'])} ms on average, without gateway and network")
    engine, problem = shorten(str(found.get("engine")), 40), found.get("problem")
    more = f"; {shorten(problem, 200)}" if isinstance(problem, str) else ""
    return f"Figures of {engine} itself: {', '.join(told) or nothing_words(found)}{more}"


def nothing_words(found: Mapping[str, Any]) -> str:
    """Why there are no figures of a level: its readings have failed, or none fell into it."""
    count = found.get("readings")
    if not (is_finite(count) and count > 0):
        return "nothing was read"
    return f"none, because no reading fell into the level ({plural(round(count), 'reading')})"


def highest(found: Mapping[str, Any], name: str) -> float | None:
    summary = found.get(name)
    value = summary.get("max") if isinstance(summary, Mapping) else None
    return float(value) if is_finite(value) else None


def samples(file: ResultFile, name: str) -> Points:
    """A figure of the server's over the time of a level; empty when it was not read."""
    found = file.metrics.get("server_metrics")
    columns = found.get("samples") if isinstance(found, Mapping) else None
    if not isinstance(columns, Mapping):
        return []
    times, values = columns.get("at_s"), columns.get(name)
    if not (isinstance(times, Sequence) and isinstance(values, Sequence)):
        return []
    pairs = zip(times, values, strict=False)
    return thinned([(at_s, value) for at_s, value in pairs if is_finite(at_s) and is_finite(value)])


def in_flight(file: ResultFile) -> Points:
    """Our own requests in flight, on the same scale of time: averages over short times, because
    between the end of a request and the next one there is always a moment with one less."""
    sent = [e for e in file.requests if is_finite(e.get("sent_ms")) and is_finite(e["ended_ms"])]
    spans = [(e["sent_ms"] / 1e3, max(e["sent_ms"], e["ended_ms"]) / 1e3) for e in sent]
    steps = counts_over_time(spans)
    if not steps:
        return []
    begin_s, width_s = steps[0][0], (steps[-1][0] - steps[0][0]) / BINS
    if not width_s > 0:
        return []
    seconds = [0.0] * (BINS + 1)  # of all requests together, in each of these times
    for (at_s, count), (until_s, _) in itertools.pairwise(steps):
        place = min(BINS - 1, int((at_s - begin_s) / width_s))
        while at_s < until_s and place < BINS:
            end_s = min(until_s, begin_s + (place + 1) * width_s)
            seconds[place] += count * max(0.0, end_s - at_s)
            at_s, place = end_s, place + 1
    seconds[BINS] = seconds[BINS - 1]  # so that the last step has a width
    return [(begin_s + n * width_s, spent / width_s) for n, spent in enumerate(seconds)]


def is_finite(value: object) -> TypeGuard[float]:
    """Whether it is a number that can be drawn: JSON has some beyond all others, as 1e999."""
    return is_number(value) and math.isfinite(value)


def thinned(points: Points) -> Points:
    return points[:: 1 + len(points) // MOST_POINTS]
