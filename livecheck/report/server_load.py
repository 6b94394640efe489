"""What the server said of itself while a level ran (`--server-metrics`), for a report. The figures
are read from a file, so that anything may stand in their place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from livecheck.core.text import figure, plural, shorten
from livecheck.report.result_files import ResultFile, is_number
from livecheck.wire.engine_metrics import CACHE, PREEMPTIONS, RUNNING, WAITING
from livecheck.wire.metrics import counts_over_time

Points = list[tuple[float, float]]  # (seconds since the level began, value)
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
    if is_number(count := found.get(PREEMPTIONS)):
        told.append(plural(round(count), "preemption"))
    if is_number(share := found.get("acceptance_rate")):
        told.append(f"{100 * share:.1f} % of the draft tokens accepted")
    own = found.get("ttft_ms")
    if isinstance(own, Mapping) and is_number(own.get("mean")):
        told.append(f"its TTFT {figure(own['mean'])} ms on average, without gateway and network")
    engine = shorten(str(found.get("engine")), 40)
    return f"Figures of {engine} itself: {', '.join(told) or 'nothing was read'}"


def highest(found: Mapping[str, Any], name: str) -> float | None:
    summary = found.get(name)
    value = summary.get("max") if isinstance(summary, Mapping) else None
    return float(value) if is_number(value) else None


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
    return thinned([(at_s, value) for at_s, value in pairs if is_number(at_s) and is_number(value)])


def in_flight(file: ResultFile) -> Points:
    """Our own requests in flight, on the same scale of time."""
    sent = [each for each in file.requests if is_number(each.get("sent_ms"))]
    spans = [(each["sent_ms"] / 1e3, each["ended_ms"] / 1e3) for each in sent]
    return thinned([(at_s, float(count)) for at_s, count in counts_over_time(spans)])


def thinned(points: Points) -> Points:
    return points[:: 1 + len(points) // MOST_POINTS]
