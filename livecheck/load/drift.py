"""Whether a level has a steady state: does TTFT grow over its steady window, or decoding slow down?

A figure that drifts depends on how long the level lasted, and says nothing about an hour. Pure.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from livecheck.core.checks import Check, passed, skip, warned
from livecheck.core.text import figure, plural
from livecheck.load.steady import Window, succeeded
from livecheck.load.trend import LEAST_POINTS, Trend, find_trend, in_points
from livecheck.wire.metrics import Records, percentile

NAME = "steady"
ERROR = 0.005  # of a false alarm in a level, shared by both figures
CARED_FOR = 0.10  # growth over the window that an operator wants to know of
LEAST_MS = 2.0  # and this growth of TTFT: less is the network's, or the machine's
# Times the p99 of this program's delays: a median cannot be later by more than once that.
CLEARLY_MORE = 2
LEAST_LEFT = 0.05  # of a time, when this program's own delay is taken off
LEAST_REPEATS = 4  # of a prompt: of fewer it is not known how long it usually takes
FIGURES = {"ttft_ms": ("TTFT", 1), "tokens_per_s": ("decode rate", -1)}
NOT_RUN = "this program could not run for a part of that time"
PARTS = 3  # of the window, each of which has to be worse than the one before
SHOWN_PER_MIN_S = 60.0  # of shorter windows the growth is told, not its rate

Series = list[tuple[float, float]]
Valued = tuple[Mapping[str, Any], float]  # a record and the figure of it


def trend_metrics(
    records: Records,
    window: Window,
    concurrency: int,
    is_open: bool,
    prompts: int = 1,
    processes: int = 1,
) -> dict[str, dict[str, Any] | None]:
    """How TTFT and decode rate change over the steady window: for each `growth` (a share, over the
    window; of the decode rate negative when it falls), `growth_per_min`, `p` (of the direction in
    which it gets worse), `requests`, `points` that were tested, `from` and `to` in its own unit, at
    most as far apart as these points. None where that cannot be told.

    prompts: how many are asked in turn; which request had which is not known when several processes
    sent them. The first request of each slot is left out: they begin all at once, in a deployment
    that is empty. `without_own_delay` has the same, but of the figures without the time in which
    this program could not run; null when there was none.
    """
    if processes > 1 and prompts > 1:
        return dict.fromkeys(FIGURES)
    first = 0 if is_open else concurrency
    started = sorted((e for e in records if e["sent_ms"] is not None), key=begin_of)[:first]
    left_out = {id(each) for each in started}
    kept = [each for each in succeeded(window) if id(each) not in left_out]
    least = 1 if is_open else at_once(kept, window)
    return {key: drift_of(kept, key, window, prompts, least) for key in FIGURES}


def begin_of(record: Mapping[str, Any]) -> float:
    begin_ms: float = record.get("due_ms", record["sent_ms"])
    return begin_ms


def drift_of(
    kept: Records, key: str, window: Window, prompts: int, least: int
) -> dict[str, Any] | None:
    """The trend of one figure; None when it cannot be told. least: how many requests are one value,
    because they ran at the same time."""
    told = [each for each in kept if each.get(key)]
    found = trend_of([(each, each[key]) for each in told], key, window, prompts, least)
    if found is None:
        return None
    own = None
    if any(each.get("starved_ms") for each in told):
        fair = [(each, value_without_delay(each, key)) for each in told]
        own = trend_of(fair, key, window, prompts, least)
    return found | {"without_own_delay": own}


def trend_of(
    told: Sequence[Valued], key: str, window: Window, prompts: int, least: int
) -> dict[str, Any] | None:
    series, direction = levelled(told, prompts), FIGURES[key][1]
    if not series:
        return None
    times, logs = in_points(series, least)
    trend = find_trend(times, [direction * each for each in logs])
    if trend is None:
        return None
    half = direction * trend.slope * window.length_ms / 6e4 / 2
    middle = percentile([value for _, value in told], 50)
    # a slope of logarithms leads beyond all that was seen where the figure grew as a line
    begin, end = (min(max(logs), max(min(logs), each)) for each in (-half, half))
    growth = math.expm1(end - begin)
    return {
        "growth": round(growth, 6),
        "growth_per_min": round(growth / (window.length_ms / 6e4), 6),
        "p": round(p_of(trend, logs, direction), 9),
        "requests": len(series),
        "points": trend.points,
        "from": round(middle * math.exp(begin), 3),
        "to": round(middle * math.exp(end), 3),
    }


def value_without_delay(record: Mapping[str, Any], key: str) -> float:
    """The figure, if all the time in which this program could not run was its own delay."""
    first_ms, whole_ms = record["ttft_ms"], record["e2e_ms"] or record["ttft_ms"]
    if key == "ttft_ms":
        own_first_ms = record.get("starved_ttft_ms") or 0.0
        return float(max(LEAST_LEFT * first_ms, first_ms - own_first_ms))
    own_ms, decode_ms = record.get("starved_decode_ms") or 0.0, whole_ms - first_ms
    left = 1 - own_ms / decode_ms if decode_ms > 0 else 1.0
    return float(record[key] / max(LEAST_LEFT, left))


def at_once(kept: Records, window: Window) -> int:
    """How many of these requests were in flight at the same time, on average."""
    spent_ms = sum(each["ended_ms"] - each["sent_ms"] for each in kept)
    return math.ceil(round(spent_ms / window.length_ms, 2)) if window.length_ms else 1


def levelled(told: Sequence[Valued], prompts: int) -> Series:
    """(minutes, logarithm of the value by the median of its prompt), in the order of sending.

    A file of prompts has long and short ones, which are not asked evenly often at any time: each is
    compared with its own repeats alone. So is each turn of a conversation, and each depth of its
    context.
    """
    groups: dict[Hashable, list[float]] = defaultdict(list)
    for each, value in told:
        groups[kind_of(each, prompts)].append(math.log(value))
    usual = {
        kind: percentile(logs, 50) for kind, logs in groups.items() if len(logs) >= LEAST_REPEATS
    }
    return [
        (begin_of(each) / 6e4, math.log(value) - usual[kind])
        for each, value in sorted(told, key=lambda pair: begin_of(pair[0]))
        if (kind := kind_of(each, prompts)) in usual
    ]


def kind_of(record: Mapping[str, Any], prompts: int) -> Hashable:
    return record["index"] % prompts, record.get("turn"), record.get("depth")


def p_of(trend: Trend, logs: Sequence[float], direction: int) -> float:
    """The p of the trend, or 1 when a part of the window is not worse than the one before: such a
    series wanders."""
    size = len(logs) / PARTS
    cuts = [round(n * size) for n in range(PARTS + 1)]
    middles = [direction * percentile(logs[a:b], 50) for a, b in pairwise(cuts)]
    return trend.p if all(a < b for a, b in pairwise(middles)) else 1.0


# --- judge


def check_steady(figures: Mapping[str, Any], is_wanted: bool) -> Check | None:
    """The level has a steady state: neither TTFT nor the decode rate gets worse while it lasts.

    None when the level is too short to tell, unless the check was asked for by name.
    """
    steady = figures.get("steady")
    if steady is None:  # of a comparison
        return None
    trends = steady["trend"]
    known = {key: each for key, each in trends.items() if each is not None}
    if not known:
        return skip(NAME, f"cannot tell: {too_short(steady)}") if is_wanted else None
    bad = {key: each for key, each in known.items() if is_drift(key, each)}
    sure = {key: each for key, each in bad.items() if is_drift_anyway(key, each)}
    length_s = (steady["end_ms"] - steady["start_ms"]) / 1e3
    told = [words_of(key, each, length_s) for key, each in (sure or bad or known).items()]
    evidence = {"window_s": round(length_s, 3), **trends}
    said = ", ".join(told)
    if bad and not sure:
        return skip(NAME, f"cannot tell: {said}, but {NOT_RUN}")
    if sure and (own := own_delay_words(sure, figures)):
        return skip(NAME, f"cannot tell: {said}, but {own}")
    if sure:
        advice = "the figures depend on how long the level lasts"
        return warned(NAME, f"no steady state: {said}: {advice}", evidence)
    count = plural(max(each["requests"] for each in known.values()), "request")
    return passed(NAME, f"no trend beyond the noise in {count}: {said}", evidence)


def own_delay_words(bad: Mapping[str, Any], figures: Mapping[str, Any]) -> str | None:
    """Why a trend may be this program's own delay: the level is client-bound, and the figures have
    not grown by far more than it was late. None when they have."""
    client = figures["client"]
    lags = (client["lag_ms"]["p99"], client["send_lag_ms"]["p99"])
    late_ms = max((lag for lag in lags if lag is not None), default=0.0)
    grown_ms = min(grown_by_ms(key, each, figures) for key, each in bad.items())
    if not client["client_bound"] or grown_ms > CLEARLY_MORE * late_ms:
        return None
    return f"the level is client-bound (this program was up to {late_ms:.1f} ms late)"


def grown_by_ms(key: str, trend: Mapping[str, Any], figures: Mapping[str, Any]) -> float:
    """By how much the figure has grown; of a rate, the time for an answer's tokens."""
    if key == "ttft_ms":
        return float(trend["to"] - trend["from"])
    tokens = figures["output_tokens"]["p50"] or 1.0
    return float(tokens * (1e3 / trend["to"] - 1e3 / trend["from"]))


def too_short(steady: Mapping[str, Any]) -> str:
    if steady["requests"] is None:
        return f"no steady window ({steady['reason']})"
    # as in `at_once`: requests that run at the same time are one value
    least = (LEAST_POINTS + 1) * max(1, math.ceil(round(steady["in_flight_mean"], 2)))
    seen = f"{plural(steady['requests'], 'request')} in the steady window"
    if steady["requests"] >= least:
        return f"{seen}, too few of which have a TTFT or a decode rate, or the same prompt"
    return f"{seen}, about {least} are needed, and {LEAST_REPEATS} per prompt"


def is_drift(key: str, trend: Mapping[str, Any]) -> bool:
    """Whether it is certain, and large enough that somebody cares."""
    direction = FIGURES[key][1]
    change = math.log1p(trend["growth"]) * direction
    is_large = change >= math.log1p(CARED_FOR)
    if key == "ttft_ms":
        is_large = is_large and trend["to"] - trend["from"] >= LEAST_MS
    return is_large and trend["p"] < ERROR / len(FIGURES)


def is_drift_anyway(key: str, trend: Mapping[str, Any]) -> bool:
    """Whether it is one also if this program's own delay is taken off."""
    own = trend["without_own_delay"]
    return is_drift(key, trend) and (own is None or is_drift(key, own))


def words_of(key: str, trend: Mapping[str, Any], length_s: float) -> str:
    """`TTFT grew 2.1 % a minute (40.1 to 52.3 ms)`, or `TTFT +1.2 % in 20 s`."""
    name = FIGURES[key][0]
    is_long = length_s >= SHOWN_PER_MIN_S
    share = trend["growth_per_min"] if is_long else trend["growth"]
    time = "a minute" if is_long else f"in {length_s:.3g} s"
    if not is_drift(key, trend):
        return f"{name} {100 * share:+.1f} % {time}"
    verb, unit = ("grew", "ms") if key == "ttft_ms" else ("fell", "tok/s")
    span = f"{figure(trend['from'])} to {figure(trend['to'])} {unit}"
    return f"{name} {verb} {abs(100 * share):.1f} % {time} ({span})"
