"""Figures of a queue that cannot be true, or not all at once, whoever uses the deployment.

A single reading may be taken just when a place is handed over, so only what lasts is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from livecheck.gateway.burst import Limits
from livecheck.gateway.queue_state import COUNTERS, Probe, Reading

LASTS_S = 5.0  # for which every reading must contradict itself
IN_A_ROW = 3  # readings, while it is known that nobody comes or goes
FORMS = {"metrics_json": "/metrics (JSON)", "metrics_text": "/metrics (Prometheus)"}


def contradiction(reading: Reading, limits: Limits) -> str | None:
    """What a reading says of the queue that cannot be; None when it may be true.

    The limits that /health announces in the same answer count before the others. Only /health has a
    figure that is surely the number of those served: `requests_active` may count those waiting.
    """
    if reading.occupancy is None:
        return None
    served, waiting = reading.occupancy
    values = reading.health.values
    most = int(values.get("max_concurrent", limits.max_concurrent))
    longest = int(values["max_queue_size"]) if "max_queue_size" in values else limits.max_queue
    seen, is_exact = f"{served} served and {waiting} waiting", "active" in values
    if waiting and (served == 0 or (is_exact and served < most)):
        return f"{seen}, but nobody can be waiting while a place is free ({most} served at once)"
    if is_exact and served > most:
        return f"{seen}, but only {most} can be served at once"
    if longest != 0 and waiting > (longest or 0):
        return f"{seen}, but only {longest or 0} may wait"
    return None


def lasting_contradiction(readings: Sequence[Reading], limits: Limits) -> str | None:
    """What every reading of the last LASTS_S contradicts itself in."""
    last: list[Reading] = []
    for reading in reversed([each for each in readings if each.occupancy is not None]):
        if contradiction(reading, limits) is None:
            break
        last.append(reading)
        spent_s = last[0].ended_s - reading.sent_s
        if spent_s >= LASTS_S and len(last) >= IN_A_ROW:
            text = contradiction(last[0], limits)
            return f"{text}: so in each of {len(last)} readings over {spent_s:.0f} s"
    return None


def contradiction_in_a_row(readings: Sequence[Reading], limits: Limits) -> str | None:
    """What IN_A_ROW of these readings contradict themselves in, one after the other."""
    texts = [contradiction(reading, limits) for reading in readings]
    for start in range(len(texts) - IN_A_ROW + 1):
        if all(texts[start : start + IN_A_ROW]):
            return texts[start]
    return None


def impossible_figures(readings: Sequence[Reading]) -> list[str]:
    """Figures that are no counts, such as negative ones, each named once."""
    found: dict[str, None] = {}
    for reading in readings:
        probes = {"/health": reading.health} | {t: getattr(reading, n) for n, t in FORMS.items()}
        for form, probe in probes.items():
            found |= {f"{form}: {text}": None for text in probe.impossible}
    return list(found)


def falls(readings: Sequence[Reading]) -> list[str]:
    """Counters that became smaller from one reading to the next, once for each."""
    found: dict[tuple[str, str], str] = {}
    for form, shown in FORMS.items():
        probes: list[Probe] = [getattr(reading, form) for reading in readings]
        for name in COUNTERS:
            values = [probe.values[name] for probe in probes if name in probe.values]
            for before, after in pairwise(values):
                if after < before - 1e-6:
                    text = f"{shown}: {name} fell from {before:g} to {after:g}"
                    found.setdefault((form, name), text)
    return list(found.values())


def broken_sums(form: str, probe: Probe) -> list[str]:
    """Totals that are less than their parts, in one form of /metrics."""
    values = probe.values
    names = ("requests_total", "requests_success", "requests_error")
    if not all(name in values for name in names):
        return []
    total, success, error = (values[name] for name in names)
    if total >= success + error:
        return []
    parts = f"requests_success {success:g} and requests_error {error:g}"
    return [f"{form}: requests_total {total:g} is less than {parts} together"]


def disagreements_while_full(readings: Sequence[Reading]) -> list[str]:
    """Where /health and /metrics never agree on how many are served, though nobody came or went.

    `requests_active` may count those that wait, and the requests that read the figures.
    """
    pairs = [
        (reading.health.values, reading.metrics_json.values)
        for reading in readings
        if {"active", "waiting"} <= set(reading.health.values)
        and "requests_active" in reading.metrics_json.values
    ]
    if len(pairs) < IN_A_ROW:
        return []
    for health, metrics in pairs:
        most = health["active"] + health["waiting"] + len(FORMS) + 2
        if health["active"] <= metrics["requests_active"] <= most:
            return []
    health, metrics = pairs[-1]
    return [
        f"requests_active {metrics['requests_active']:g} in /metrics, while /health said "
        f"{health['active']:g} active and {health['waiting']:g} waiting"
    ]
