"""The steady window of a level, and how exact its medians are, in the words of a report.

The figures are read from a file, so that anything may stand in their place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from livecheck.core.text import figure, shorten
from livecheck.report.result_files import ResultFile, is_number
from livecheck.wire import client_error

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


def words_of_level(figures: Mapping[str, Any]) -> list[str]:
    """What the forms of a report say of a level's window, precision and client."""
    own = client_error.words(figures.get("client"))
    error = f"Client error: {own}" if own else None
    return [each for each in (window_words(figures), precision_words(figures), error) if each]


def median(figures: Mapping[str, Any], key: str) -> Any:
    found = figures.get(key)
    return found.get("p50") if isinstance(found, Mapping) else None


def precision_words(figures: Mapping[str, Any]) -> str | None:
    """`Precision: ±5 % reached with 144 requests: TTFT p50 ±3.1 %, …`, or why it was not. None when
    the level had another end."""
    found = figures.get("precision")
    wanted = found.get("wanted_share") if isinstance(found, Mapping) else None
    if not isinstance(found, Mapping) or not is_number(wanted):
        return None
    reached = "reached"
    if found.get("reached") is not True:
        reached = f"not reached ({shorten(str(found.get('reason') or 'not known'), 200)})"
    names = {"ttft_ms": "TTFT p50", "tokens_per_s": "Tokens/sec p50"}
    widths = {name: half_width(found.get(key)) for key, name in names.items()}
    told = [
        f"{name} ±{100 * w:.1f} %" if w is not None else f"{name} not known"
        for name, w in widths.items()
    ]
    count = found.get("requests")
    used = f"{count:.0f} requests" if is_number(count) else "requests that were not counted"
    return f"Precision: ±{100 * wanted:.3g} % {reached} with {used}: {', '.join(told)}"


def half_width(found: object) -> float | None:
    share = found.get("half_width_share") if isinstance(found, Mapping) else None
    return share if is_number(share) else None


def notes_about_precision(files: Sequence[ResultFile]) -> list[str]:
    """The levels that were to go on until their medians are exact, and ended before."""
    levels = [each for each in files if each.is_level]
    told = [(each.name, precision_words(each.metrics)) for each in levels]
    return [f"{name}: {words}" for name, words in told if words and " not reached (" in words]


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
