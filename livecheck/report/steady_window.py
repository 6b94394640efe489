"""The steady window of a level, in the words of a report. The figures are read from a file, so that
anything may stand in their place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from livecheck.core.text import figure, shorten
from livecheck.report.result_files import ResultFile, is_number

NOTED = 0.05  # a throughput that is so much higher in the window is a note


def window_words(figures: Mapping[str, Any]) -> str | None:
    """`Steady window: 82 % of the time, 26 requests: TTFT p50 60.4 ms, …`, or why there is none.
    None when the file does not say it, as those of earlier versions."""
    steady = figures.get("steady")
    if not isinstance(steady, Mapping):
        return None
    share, requests = steady.get("share"), steady.get("requests")
    if not (is_number(share) and is_number(requests)):
        return f"Steady window: none, {shorten(str(steady.get('reason') or 'not measured'), 200)}"
    values = {
        "TTFT p50": (median(steady, "ttft_ms"), "ms"),
        "ITL p50": (median(steady, "itl_ms"), "ms"),
        "Tokens/sec p50": (median(steady, "tokens_per_s"), ""),
        "output throughput": (steady.get("output_tokens_per_s"), "tok/s"),
        "requests": (steady.get("requests_per_s"), "per second"),
    }
    known = {name: (value, unit) for name, (value, unit) in values.items() if is_number(value)}
    told = [f"{name} {figure(value)} {unit}".rstrip() for name, (value, unit) in known.items()]
    of_time = f"{100 * share:.0f} % of the time, {requests:.0f} whole requests"
    return f"Steady window: {of_time}: {', '.join(told) or 'nothing measured'}"


def median(figures: Mapping[str, Any], key: str) -> Any:
    found = figures.get(key)
    return found.get("p50") if isinstance(found, Mapping) else None


def notes_about_windows(files: Sequence[ResultFile]) -> list[str]:
    """The levels whose ramp and tail make a difference: too few requests for each in flight."""
    found = []
    for each in files:
        steady, whole = each.metrics.get("steady"), each.metrics.get("output_tokens_per_s")
        inside = steady.get("output_tokens_per_s") if isinstance(steady, Mapping) else None
        if not (each.is_level and is_number(inside) and is_number(whole) and whole > 0):
            continue
        if inside > (1 + NOTED) * whole:
            told = f"{figure(whole)} tok/s over the whole level, {figure(inside)} tok/s in its "
            found.append(f"{each.name}: {told}steady window: more requests make this smaller")
    return found
