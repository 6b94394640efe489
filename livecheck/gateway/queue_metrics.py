"""Both forms of /metrics, against what a burst of requests has shown."""

from __future__ import annotations

from collections.abc import Sequence

from livecheck.gateway.burst import JITTER_S, Burst
from livecheck.gateway.contradictions import (
    broken_sums,
    disagreements_while_full,
    impossible_figures,
)
from livecheck.gateway.queue_state import METRICS, Probe, Reading

WAIT_SHARE = 0.2  # allowed error of queue_wait_seconds_total against the waits seen from here


def metrics_problems(burst: Burst, before: Reading, after: Reading, settle_s: float) -> list[str]:
    """What is wrong in either form. `before` and `after`: with nobody there; for `after` this was
    waited for, `settle_s` at the most."""
    return [
        *form_problems("JSON", before.metrics_json, after.metrics_json, burst, settle_s),
        *form_problems("Prometheus", before.metrics_text, after.metrics_text, burst, settle_s),
        *(disagreements(before) or disagreements(after)),
        *disagreements_while_full(burst.readings_while_full),
        *(f"{text}: a restart, or several gateways at one URL" for text in burst.falls),
        *impossible_figures([*burst.readings, after]),
    ]


def form_problems(
    form: str, before: Probe, after: Probe, burst: Burst, settle_s: float
) -> list[str]:
    """What one form lacks, or what is wrong in it."""
    if trouble := after.trouble or before.trouble:
        return [f"{form}: {trouble}"]
    missing = [name for name in METRICS if name not in before.values or name not in after.values]
    if missing:
        return [f"{form} lacks {', '.join(missing)}"]
    problems = [
        *counter_problems(before, after, burst),
        *depth_problems(form, burst),
        *gauges_left(after, burst, settle_s),
    ]
    return [f"{form}: {text}" for text in problems] + broken_sums(form, after)


def growth(before: Probe, after: Probe) -> dict[str, float]:
    """By how much each figure that both have has grown."""
    values = before.values
    return {name: value - values[name] for name, value in after.values.items() if name in values}


def counter_problems(before: Probe, after: Probe, burst: Burst) -> list[str]:
    problems, grown = [], growth(before, after)
    refused = sum(1 for answer in burst.refused if answer.status == 503)
    if (seen := grown["queue_rejections"]) != refused:
        problems.append(f"queue_rejections +{seen:g}, expected +{refused}")
    waited_s, seen_s = grown["queue_wait_seconds_total"], sum(burst.waits_s)
    allowed_s = WAIT_SHARE * seen_s + (JITTER_S + burst.round_trip_s) * (1 + len(burst.waits_s))
    if abs(waited_s - seen_s) > allowed_s + sum(burst.blind_s):
        problems.append(f"queue_wait_seconds_total +{waited_s:.2f}, expected about +{seen_s:.2f}")
    if (total := grown.get("requests_total", len(burst.served))) < len(burst.served):
        problems.append(f"requests_total +{total:g}, but {len(burst.served)} were served")
    return problems


def depth_problems(form: str, burst: Burst) -> list[str]:
    """A depth that is not that of the queue; two readings, since one may be taken in between."""
    waiting = burst.limits.waiting(len(burst.accepted))
    depths = queue_depths(form, burst.readings_while_full)
    if depths and max(depths) != waiting:
        return [f"queue_depth {max(depths):g} while {waiting} waited"]
    deepest = sorted(queue_depths(form, burst.readings))[-2:]
    if len(deepest) > 1 and deepest[0] > waiting:
        return [f"queue_depth up to {deepest[1]:g}, but at most {waiting} waited"]
    return []


def gauges_left(after: Probe, burst: Burst, settle_s: float) -> list[str]:
    """Gauges that are not 0 again. `requests_active` may count the requests that read it; where it
    was 0 before the first request of the run, it does not."""
    names = ["queue_depth"]
    if burst.quiet and not any(reading.requests_active for reading in burst.quiet):
        names.append("requests_active")
    left = [(name, value) for name in names if (value := after.values.get(name))]
    return [f"{name} still {value:g}, {settle_s:g} s after the last answer" for name, value in left]


def queue_depths(form: str, readings: Sequence[Reading]) -> list[float]:
    probes = [each.metrics_json if form == "JSON" else each.metrics_text for each in readings]
    return [each.values["queue_depth"] for each in probes if "queue_depth" in each.values]


def disagreements(reading: Reading) -> list[str]:
    """Where the two forms or /health differ, though asked at the same moment, with nobody there."""
    others = {"in Prometheus text": reading.metrics_text, "in /health": reading.health}
    found = []
    for name in METRICS:
        one = reading.metrics_json.values.get(name)
        for where, probe in others.items():
            other = probe.values.get(name)
            if one is not None and other is not None and abs(one - other) > 0.01 + 1e-3 * one:
                found.append(f"{name} is {one:g} in JSON and {other:g} {where}")
    return found
