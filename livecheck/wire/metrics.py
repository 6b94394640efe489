"""From records to figures: percentiles, summaries, objectives. Pure: no network, no clock.

Every summary tells how many samples it is made of, and what was not measured is None, never 0.
"""

from __future__ import annotations

import heapq
import math
import operator
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from livecheck.core.json_value import QUOTED_LENGTH, quoted
from livecheck.core.text import shorten
from livecheck.wire import silence, speculation, thinking_figures
from livecheck.wire.decode_figures import NO_OUTPUT, NO_RATE, ONE_ARRIVAL
from livecheck.wire.output_arrivals import read_arrivals
from livecheck.wire.shares import from_percent

Records = Sequence[Mapping[str, Any]]
Span = tuple[float, float]  # start and end of a time
Walls = Mapping[Any, float]  # the wall time of each worker, s; that of None: of records without one
PERCENTILES = (50, 90, 95, 99)
RUN = 500_000  # numbers that are sorted at a time, as a list of 16 MB
TOKENS = ("output", "shown", "hidden", "thinking", "answer", "prompt", "cached")
SUMMARY_NAMES = ("mean", *(f"p{p}" for p in PERCENTILES), "min", "max")


def percentile(values: Sequence[float], p: float) -> float:
    """The p-th percentile by linear interpolation between closest ranks. ValueError if empty.

    The same as numpy's default (method 7 of Hyndman and Fan, 1996).
    """
    if not values:
        raise ValueError("no percentile of no values")
    return _percentile(in_order(values), p)


def _percentile(ordered: Sequence[float], p: float) -> float:
    rank = (len(ordered) - 1) * p / 100
    low = math.floor(rank)
    if low == rank:
        return ordered[low]
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (rank - low)


def in_order(values: Sequence[float]) -> Sequence[float]:
    """The values in ascending order. A very long array stays one: a list of numbers takes four
    times the memory, but to sort it takes half the time."""
    if not isinstance(values, array) or len(values) <= RUN:
        return sorted(values)
    runs = [array("d", sorted(values[n : n + RUN])) for n in range(0, len(values), RUN)]
    return array("d", heapq.merge(*runs))


def summary(values: Sequence[float], digits: int = 3) -> dict[str, float | int | None]:
    """mean, p50, p90, p95, p99, min, max and n of the values; all but n are None without any, and
    those that depend on a value that is infinite."""
    if not values:
        return {name: None for name in SUMMARY_NAMES} | {"n": 0}
    ordered = in_order(values)  # once: a level may have millions of gaps
    mean = math.fsum(ordered) / len(ordered)
    percentiles = [_percentile(ordered, p) for p in PERCENTILES]
    found = (mean, *percentiles, ordered[0], ordered[-1])
    figures = (round(each, digits) if math.isfinite(each) else None for each in found)
    return {**dict(zip(SUMMARY_NAMES, figures, strict=True)), "n": len(values)}


# --- a level's figures, from its request records


def succeeded(records: Records) -> list[Mapping[str, Any]]:
    """Those that figures are made of."""
    return [each for each in records if each["error"] is None and not each["excluded"]]


def level_metrics(records: Records, objectives: Sequence[Objective] = ()) -> dict[str, Any]:
    """The figures of one level, from its records. Failed requests are only counted.

    A record's `error` is None, or the kind of failure; `excluded` marks requests that say nothing
    about the deployment (refused by the key's rate limit, cut off by the operator). Where records
    name a `worker`, each worker has a clock of its own: `wall_s` is the longest of their wall
    times, and a rate is the sum of each worker's own.
    """
    counted = [record for record in records if not record["excluded"]]
    good = [record for record in counted if record["error"] is None]
    walls = _walls_s(records)
    timed = [record for record in records if "due_ms" in record]
    kept = _kept(good, objectives)
    goodput_share = round(len(kept) / len(counted), 6) if kept is not None and counted else None
    return {
        "load_model": "open loop" if timed else "closed loop",
        "requests": len(counted),
        "succeeded": len(good),
        "wall_s": max(walls.values(), default=None),
        **{key: summary(_values(good, key)) for key in ("ttft_ms", "ttfa_ms")},
        **{key: summary(_values(good, key)) for key in ("tpot_ms", "tokens_per_s")},
        "itl_ms": summary(array("d", chain.from_iterable(map(output_gaps, good)))),
        **{key: summary(_values(good, key)) for key in ("e2e_ms", "server_tokens_per_s")},
        **{key: summary(_values(good, key)) for key in ("connect_ms", "tls_ms", "silence_ms")},
        **silence.summary_of(counted),
        "output_tokens_per_s": _throughput(good, walls),
        "requests_per_s": _rate([(each, 1) for each in good], walls) if good else None,
        "goodput_per_s": _goodput(kept, good, walls),
        "error_rate": round(1 - len(good) / len(counted), 6) if counted else None,
        "errors": dict(Counter(_values(counted, "error"))),
        "token_sources": dict(Counter(filter(None, (r["token_source"] for r in good)))),
        "no_rate": dict(Counter(_values(good, "no_rate"))),
        **thinking_figures.summary_of(good),
        **bounds_of_answers(good),
        **speculation.summary_of(good),
        "retry_after_s": sorted(set(_values(counted, "retry_after_s"))),
        **{f"{kind}_tokens": summary(_values(good, f"{kind}_tokens"), 1) for kind in TOKENS},
        **(_open_loop(timed) if timed else {}),
        **({} if kept is None else {"goodput_share": goodput_share}),
    }


def _open_loop(records: Records) -> dict[str, Any]:
    """What an open loop has besides: the wait before the send, and how many it had in flight."""
    sent = [record for record in records if record["sent_ms"] is not None]
    waits = [record["sent_ms"] - record["due_ms"] for record in sent]
    most = most_at_once((record["sent_ms"], record["ended_ms"]) for record in sent)
    return {"due_to_sent_ms": summary(waits), "most_in_flight": most}


def counts_over_time(spans: Iterable[Span]) -> list[tuple[float, int]]:
    """(moment, how many of the spans contain the time after it), in the order of time."""
    steps = sorted(step for start, end in spans for step in ((start, 1), (end, -1)))
    found, count = [], 0
    for moment, step in steps:  # at the same moment the ends come first
        count += step
        found.append((moment, count))
    return found


def most_at_once(spans: Iterable[Span]) -> int:
    """How many of the spans overlap at the most."""
    return max((count for _, count in counts_over_time(spans)), default=0)


def gaps(times: Sequence[float]) -> list[float]:
    """The differences between consecutive times."""
    return list(map(operator.sub, times[1:], times))


def output_gaps(record: Mapping[str, Any]) -> list[float]:
    """The times between the arrivals of its output, in ms; what came together is one arrival."""
    return gaps(read_arrivals(record["event_ms"]).at_ms)


def tokens_of(record: Mapping[str, Any]) -> int | None:
    """The tokens of an answer that were sent; None when that is not known."""
    tokens: int | None = record["shown_tokens" if "shown_tokens" in record else "output_tokens"]
    return tokens


def _throughput(good: Records, walls: Walls) -> float | None:
    """Tokens a second; None without any, or when those of an answer are not known."""
    tokens = [(record, tokens_of(record)) for record in good if record["event_ms"]]
    known = [(record, each) for record, each in tokens if each is not None]
    return _rate(known, walls) if known and len(known) == len(tokens) else None


def bounds_of_answers(good: Records) -> dict[str, Any]:
    """Between which times TTFA is, where answers never began: they would have begun after their
    last output, or never. A figure that depends on the latter is None."""
    least = [each for record in good if (each := thinking_figures.least_ms(record)) is not None]
    if not least:
        return {}
    told = _values(good, ANSWER)
    return {
        AT_LEAST: summary([*told, *least]),
        AT_MOST: summary([*told, *(math.inf for _ in least)]),
    }


def _values(records: Records, key: str) -> list[Any]:
    return [record[key] for record in records if record.get(key) is not None]


def _walls_s(records: Records) -> Walls:
    """The wall time of each clock: from the first request sent (open loop: due) to the last one
    ended. There is one clock, or one for each worker: times of two clocks are never compared."""
    spans: dict[Any, tuple[float, float]] = {}
    for record in records:
        if record["sent_ms"] is None:
            continue
        begun, ended = record.get("due_ms", record["sent_ms"]), record["ended_ms"]
        first, last = spans.get(record.get("worker"), (begun, ended))
        spans[record.get("worker")] = min(first, begun), max(last, ended)
    return {clock: round((end - start) / 1e3, 6) for clock, (start, end) in spans.items()}


def _rate(counts: Iterable[tuple[Mapping[str, Any], float]], walls: Walls) -> float | None:
    """The sum of these counts per second of wall time: with several clocks, the sum of the rates by
    each of them."""
    totals: dict[Any, float] = dict.fromkeys(walls, 0)
    for record, count in counts:
        totals[record.get("worker")] += count
    rates = [total / walls[clock] for clock, total in totals.items() if walls[clock]]
    return round(math.fsum(rates), 3) if rates else None


def _goodput(kept: Records | None, good: Records, walls: Walls) -> float | None:
    """None without objectives for single requests, or without a request that succeeded."""
    return _rate([(each, 1) for each in kept], walls) if kept is not None and good else None


def _kept(good: Records, objectives: Sequence[Objective]) -> Records | None:
    """Those that kept every per-request objective; None without one, or when that is not told."""
    wanted = [objective for objective in objectives if objective.per_request]
    if not wanted or any(each.is_unknown(r) for each in wanted for r in good):
        return None
    return [r for r in good if all(each.holds(each.value_of(r)) for each in wanted)]


def no_rate_words(figures: Mapping[str, Any]) -> str:
    """In how many answers of a level no rate can be told, and why; "" when all have one."""
    reasons: Mapping[str, int] = figures.get("no_rate") or {}
    if not reasons:
        return ""
    most = max(reasons, key=lambda reason: reasons[reason])
    others = "" if len(reasons) == 1 else " (and other reasons)"
    count = f"{sum(reasons.values())} of {figures['succeeded']} answers"
    return f"no decode rate in {count}: {NO_RATE.get(most, most)}{others}"


def no_answer_words(figures: Mapping[str, Any]) -> str:
    """In how many answers of a level nothing came after the thoughts; "" when that is in none."""
    if not (missing := figures.get("without_answer")):
        return ""
    count = f"in {missing} of {figures['succeeded']} answers"
    return f"{count} all tokens went into thoughts: raise --max-tokens"


# --- objectives (SLOs)

SERIES = {  # name -> the key of its summary in a document's metrics, or in their gateway part
    name: f"{name}_ms"
    for name in "ttft ttfa itl tpot e2e connect ping ping_net health health_net".split()
} | {"tokens_per_s": "tokens_per_s"}
SCALARS = ("error_rate", "output_tokens_per_s", "requests_per_s", "goodput_per_s")
PER_REQUEST = ("ttft", "ttfa", "tpot", "e2e", "tokens_per_s")
RATES = ("tpot_ms", "tokens_per_s")  # of a single answer; `no_rate` says why it has none
OF_RATES = ("itl_ms", "output_tokens_per_s", "goodput_per_s")  # they may lack for the same reason
ANSWER = "ttfa_ms"
AT_LEAST, AT_MOST = "ttfa_at_least_ms", "ttfa_at_most_ms"
UNITS_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True)
class Objective:
    """`--slo NAME=VALUE`: a bound for one figure, or (`per_request`) for every request.

    `limit` is in ms for latencies, per second for throughputs, a share for rates of error.
    """

    name: str
    key: str
    statistic: str | None
    limit: float
    upper: bool
    per_request: bool = False

    def __str__(self) -> str:
        return f"{self.name}={self.limit:.15g}{self.unit}"

    @property
    def unit(self) -> str:
        if self.name == "error_rate":
            return ""
        return "ms" if self.upper else ("tok/s" if "tokens" in self.name else "/s")

    def is_unknown(self, record: Mapping[str, Any]) -> bool:
        """Whether it is about a rate that this answer does not tell, or about the beginning of an
        answer that thoughts left no room for, before they took longer than the bound."""
        if self.key == ANSWER:
            return thinking_figures.never_answers(record) and self.holds(self.value_of(record))
        is_told = record.get("no_rate") in (None, NO_OUTPUT)  # where nothing is shown, none is kept
        return self.key in RATES and record[self.key] is None and not is_told

    def why_unknown(self, figures: Mapping[str, Any]) -> str | None:
        """Why a level does not tell this figure, or only that of fewer than half of its answers."""
        if self.key == ANSWER:
            return self._why_no_answer(figures)
        if self.key == "itl_ms" and (why := self._why_steps(figures)):
            return why
        reasons: Mapping[str, int] = figures.get("no_rate") or {}
        missing = sum(count for reason, count in reasons.items() if reason != NO_OUTPUT)
        if not missing or self.key not in (*RATES, *OF_RATES):
            return None
        value = self.value(figures)
        if self.key == "itl_ms":  # of what came in one arrival there is no gap; others have some
            missing = reasons.get(ONE_ARRIVAL, 0) if value is None or self.holds(value) else 0
        is_rare = self.key in (*RATES, "itl_ms") and 2 * missing > figures["succeeded"]
        return no_rate_words(figures) if is_rare or value is None else None

    def _why_steps(self, figures: Mapping[str, Any]) -> str | None:
        """Why the time of a step breaks a bound that the time of a token may keep; None when it
        keeps it, or when each of its tokens takes longer as well."""
        value = self.value(figures)
        tokens = speculation.at_once(figures)
        if value is None or tokens is None or self.holds(value):
            return None
        return speculation.itl_words(tokens) if self.holds(value / tokens) else None

    def _why_no_answer(self, figures: Mapping[str, Any]) -> str | None:
        """Of answers that did not begin, TTFA is longer than all that was seen of them: a broken
        bound stays broken, and a percentile is told if it lies among the others."""
        value = self.value(figures)
        if value is not None and (AT_MOST in figures or not self.holds(value)):
            return None
        return no_answer_words(figures) or None

    def is_at_least(self, figures: Mapping[str, Any]) -> bool:
        """Whether the figure is only known to be as long as its value, or longer."""
        if self.key != ANSWER or AT_MOST not in figures:
            return False
        return self._figure([figures], AT_MOST) != self.value(figures)

    def words_if_unknown(self, figures: Mapping[str, Any]) -> str:
        """Why some answers of a level do not tell this figure of themselves."""
        return no_answer_words(figures) if self.key == ANSWER else no_rate_words(figures)

    def holds(self, value: float | None) -> bool:
        """Whether a measured value keeps the bound; nothing measured keeps none."""
        if value is None:
            return False
        return value <= self.limit if self.upper else value >= self.limit

    def value_of(self, record: Mapping[str, Any]) -> float | None:
        """What a request reached, of a bound for every request. Where its answer never began, what
        it reached at least."""
        own: float | None = record[self.key]
        return thinking_figures.least_ms(record) if own is None and self.key == ANSWER else own

    def value(self, metrics: Mapping[str, Any]) -> float | None:
        """The figure this is about, None if it was not measured. Where answers never began, it is
        what TTFA is at least if that breaks the bound, and else what it is at most."""
        places = (metrics, metrics.get("gateway") or {})
        if self.key != ANSWER or AT_MOST not in metrics:
            return self._figure(places, self.key)
        least = self._figure(places, AT_LEAST)
        is_broken = least is not None and not self.holds(least)
        return least if is_broken else self._figure(places, AT_MOST)

    def _figure(self, places: Iterable[Mapping[str, Any]], key: str) -> float | None:
        for place in places:
            found = place.get(key)
            if isinstance(found, Mapping):
                found = found.get(self.statistic)
            if isinstance(found, (int, float)):
                return found
        return None


def parse_objective(text: str) -> Objective:
    """`ttft_p50=500ms`, `tokens_per_s_mean=20`, `error_rate=1%`. ValueError says what is wrong."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{quoted(text)} is not NAME=VALUE, as in ttft_p50=500ms")
    upper = not name.startswith(("tokens_per_s", "output_tokens", "requests_per", "goodput"))
    series, _, statistic = name.rpartition("_")
    if name in SCALARS:
        key, statistic = name, ""
    elif series in SERIES and statistic in SUMMARY_NAMES:
        key = SERIES[series]
    elif name in PER_REQUEST:
        key, statistic = SERIES[name], ""
    else:
        raise ValueError(f"unknown objective {quoted(name)}: {known_objectives()}")
    per_request = name in PER_REQUEST
    return Objective(name, key, statistic or None, _limit(name, value, upper), upper, per_request)


def known_objectives() -> str:
    return (
        f"{'|'.join(SERIES)} with _{'|_'.join(SUMMARY_NAMES)}; {', '.join(SCALARS)}; "
        f"for every request {', '.join(PER_REQUEST)}"
    )


def _limit(name: str, text: str, upper: bool) -> float:
    number, unit = _number(text)
    shown = shorten(text, QUOTED_LENGTH)
    if name == "error_rate":
        share = from_percent(number) if unit == "%" else number
        if unit not in ("", "%") or share > 1:
            raise ValueError(f"{name}={shown}: a share from 0 to 1, or a percentage, as in 1%")
        return share
    if upper:
        if unit not in UNITS_MS:
            raise ValueError(f"{name}={shown}: a time needs its unit, as in 500ms or 0.5s")
        return round(number * UNITS_MS[unit], 9)  # 1.001 s is 1001 ms, which 1e3 * 1.001 is not
    if unit not in ("", "/s", "tok/s"):
        raise ValueError(f"{name}={shown}: a number per second, as in 20")
    return number


def _number(text: str) -> tuple[float, str]:
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z/%]*)\s*", text.lower())
    if not match:
        raise ValueError(f"{quoted(text)} is not a number with a unit")
    if not math.isfinite(float(match[1])):
        raise ValueError(f"{quoted(text)} is too large")
    return float(match[1]), match[2]
