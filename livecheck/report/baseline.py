"""Whether a run is slower than a baseline: ratios with intervals, and which of them count. Pure.

**A metric of one level, one baseline run.** Every successful request gives one value (of ITL: the
median of its gaps, because the gaps of one answer are not independent). Changes are ratios, so all
is done on logarithms. The typical ratio is the Hodges-Lehmann estimate, the median of all ratios of
a request now to one then; its interval inverts the Wilcoxon-Mann-Whitney test (Hodges and Lehmann
1963; Lehmann 1963). Nothing is assumed of the values' distribution but that a change shifts it, and
outliers do not move it. For lognormal values it needs two thirds of the requests that the bootstrap
of two medians would. The 95th percentile is compared from 60 requests on, with the standard errors
of Maritz and Jarrett (1978). Output throughput is one figure a run; its noise is that of the ratio
of all output tokens to all seconds spent on them, by linearisation (closed loops only: in an
open loop it is the arrivals').

**Requests that resemble their neighbours** (a machine that drifts, slots that slow each other down)
tell less than their number says: when the ranks' autocorrelation r at lag 1 is significant, the
variance is multiplied by (1 + r) / (1 - r), and the interval is Student's with as many fewer
degrees of freedom.

**Several baseline runs.** The ratio is the mean of the ratios to each run, on the logarithms. What
these differ by beyond the noise within runs is the run-to-run variance (method of moments, as in
DerSimonian and Laird 1986); it counts once for this run and once for each of the baseline's.
The interval is Student's, its degrees of freedom by Satterthwaite (1946): with two or three runs it
is wide when they differ, as it should be. With one baseline run nobody knows that spread: the
interval is noise within runs alone, and the margin has to make up for the rest.

**Verdicts**, for a margin of M per cent ("worse by M %": so much longer; of rates, that a token
takes so much longer). *Worse*: more than M % worse, at a one-sided error of 2.5 % over all
comparisons of the report together (Holm 1979). *Same*: the 95 % interval rules out that it is M %
worse. *Better*: the interval rules out that it is not better at all, and the estimate is better by
M %. Else there is not enough data to see M %: it says how many requests in each run would rule out
M % in four of five comparisons of equal systems.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from livecheck.core.text import shorten
from livecheck.report.result_files import Saved, is_number
from livecheck.wire.metrics import gaps, percentile

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, Any]

LEVEL_OF_ERROR = 0.025  # one-sided, which is a 95 % interval
POWER = 0.8
LEAST_OF_P95 = 60  # requests: three of them lie above
LEAST_OF_R = 10  # requests: the autocorrelation of fewer is noise
MOST_R = 0.8
MOST_VALUES = 600  # of a run: as many quantiles stand for more, and say the same
SMALLEST = 1e-3  # in the unit: what the clock cannot tell from 0
ODD = 0.05  # of the figure
PROMPT_SHARE, PROMPT_TOKENS = 0.05, 2  # a unique first line has a token more or less
UNHEARD_OF = 10_000  # requests: more is no advice
Z = statistics.NormalDist().inv_cdf(1 - LEVEL_OF_ERROR)
SIGNIFICANT = statistics.NormalDist().inv_cdf(0.95)


class Finding(str, Enum):
    """What a comparison comes to."""

    WORSE = "worse"
    UNCLEAR = "not enough data"
    SAME = "same"
    BETTER = "better"


@dataclass(frozen=True)
class Metric:
    """A figure to compare. `floor`, in its unit: a smaller change does not matter to anybody.

    required: a baseline that was asked for is not kept while this is unclear.
    """

    key: str
    label: str
    unit: str
    statistic: str = "p50"
    higher_is_better: bool = False
    required: bool = False
    floor: float = 0.0


LEVEL_METRICS = (
    Metric("ttft_ms", "TTFT p50", "ms", required=True),
    Metric("tokens_per_s", "decode rate p50", "tok/s", higher_is_better=True, required=True),
    Metric("tpot_ms", "TPOT p50", "ms"),
    Metric("itl_ms", "ITL p50", "ms"),
    Metric("e2e_ms", "E2E p50", "ms", required=True),
    Metric("output_tokens_per_s", "output throughput", "tok/s", "run", higher_is_better=True),
    Metric("ttft_ms", "TTFT p95", "ms", "p95"),
    Metric("tpot_ms", "TPOT p95", "ms", "p95"),
    Metric("e2e_ms", "E2E p95", "ms", "p95"),
)
# What the guide allows, 5 and 50 ms, at the p95: what else a machine does at the moment raises it
# by that much. A tenth of it at the median.
GATEWAY_METRICS = tuple(
    Metric(f"{name}_net_ms", f"/{name} {statistic}, net", "ms", statistic, floor=share * allowed)
    for statistic, share in (("p50", 0.1), ("p95", 1.0))
    for name, allowed in (("ping", 5.0), ("health", 50.0))
)
DECODING = ("tokens_per_s", "tpot_ms", "itl_ms")  # the same thing, seen three ways


@dataclass(frozen=True)
class Change:
    """One metric of one level, now and in the baseline.

    then, now: the figures themselves, in the metric's unit (then: the median over the runs).
    change, low, high: now / then - 1 by the estimate, and its 95 % interval; None: no bound.
    worsening, worsening_high: the same, but above 0 is worse, whatever the metric.
    margin: what counts, as a share (the metric's floor may be more than --margin).
    samples, samples_then: requests, in the baseline's smallest run. runs: of the baseline.
    p: of the hypothesis that it is worse by the margin at the most.
    noise, spread: variances of the logarithm: of one request, and between runs.
    needed: requests in each run that would decide; None when decided, or when no number would.
    comparisons: how many there were in all, for which the findings are corrected.
    """

    document: str
    metric: Metric
    then: float
    now: float
    change: float
    low: float | None
    high: float | None
    worsening: float
    worsening_high: float | None
    margin: float
    samples: int
    samples_then: int
    runs: int
    p: float
    noise: float
    spread: float
    finding: Finding = Finding.UNCLEAR
    needed: int | None = None
    comparisons: int = 1

    @property
    def is_beyond_alone(self) -> bool:
        """Its own interval lies beyond the margin, which among many does not suffice."""
        bound = self.high if self.metric.higher_is_better else self.low
        if bound is None:
            return False
        least = 1 / (1 + bound) - 1 if self.metric.higher_is_better else bound
        return least > self.margin

    @property
    def label(self) -> str:
        return self.metric.label

    @property
    def is_odd(self) -> bool:
        """The two medians say something else than a typical pair of requests."""
        return bool(self.then) and abs(self.now / self.then - 1 - self.change) > ODD


@dataclass(frozen=True)
class Shift:
    """How far one run lies from another on the logarithms; above 0 is worse.

    tail(x) is the p of "it is x or less". var_now and var_then add up to the estimate's variance.
    """

    estimate: float
    var_now: float
    var_then: float
    low: float
    high: float
    tail: Callable[[float], float]


# --- what is compared


def values(document: Saved, metric: Metric) -> list[float]:
    """One value for each successful request or probe, in the order of sending."""
    if metric in GATEWAY_METRICS:
        return list(net_of_network(document, f"/{metric.key.partition('_')[0]}"))
    if metric.key == "itl_ms":
        between = (gaps(record["event_ms"]) for record in document.succeeded)
        return [percentile(each, 50) for each in between if each]
    key = metric.key
    return [record[key] for record in document.succeeded if record.get(key) is not None]


def net_of_network(document: Saved, path: str) -> Iterator[float]:
    for record in document.requests:
        spent, trip = record.get("ttfb_ms"), record.get("round_trip_ms")
        good = record.get("path") == path and record.get("status") == 200
        if good and record.get("error") is None and spent is not None and trip is not None:
            yield max(0.0, spent - trip)


def spending(document: Saved) -> list[tuple[float, float]]:
    """(output tokens, ms spent on them) of each successful request."""
    return [
        (record["output_tokens"], record["e2e_ms"])
        for record in document.succeeded
        if record["output_tokens"] and record["e2e_ms"]
    ]


def figure(document: Saved, metric: Metric) -> float | None:
    """The figure that the report shows."""
    if metric.statistic == "run":
        found = document.metrics.get(metric.key)
        return float(found) if found else None
    found = values(document, metric)
    return percentile(found, int(metric.statistic[1:])) if found else None


# --- two runs


def shift(now: Saved, then: Saved, metric: Metric) -> Shift | None:
    """How far they are apart; None when one of them has too little to tell."""
    sign = -1.0 if metric.higher_is_better else 1.0
    if metric.statistic == "run":
        return shift_of_throughput(now, then)
    first, second = (logarithms(values(each, metric), sign) for each in (now, then))
    if metric.statistic == "p95":
        if min(len(first), len(second)) < LEAST_OF_P95:
            return None
        return shift_of_quantile(first, second, 0.95 if sign > 0 else 0.05)
    return shift_of_medians(first, second) if len(first) and len(second) else None


def logarithms(found: Sequence[float], sign: float) -> Array:
    import numpy

    logs: Array = sign * numpy.log(numpy.maximum(numpy.asarray(found, dtype=float), SMALLEST))
    return logs


def inflation(ordered: Array) -> float:
    """How many times the variance of independent values this series has, at least 1."""
    import numpy
    from scipy.stats import rankdata

    count = len(ordered)
    ranks: Array = rankdata(ordered) - (count + 1) / 2
    squares = float(numpy.dot(ranks, ranks))
    if count < LEAST_OF_R or not squares:
        return 1.0
    r = float(numpy.dot(ranks[1:], ranks[:-1])) / squares
    if r < SIGNIFICANT / math.sqrt(count):
        return 1.0
    return (1 + min(r, MOST_R)) / (1 - min(r, MOST_R))


def thinned(found: Array) -> Array:
    import numpy

    if len(found) <= MOST_VALUES:
        return found
    return numpy.quantile(found, (numpy.arange(MOST_VALUES) + 0.5) / MOST_VALUES)


def shift_of_medians(now: Array, then: Array) -> Shift:
    """Hodges and Lehmann's estimate, with the interval of the test by Mann and Whitney.

    Where requests resemble their neighbours, with Student's: fewer independent ones than a rank
    test needs may still be far apart.
    """
    import numpy

    sizes = len(now), len(then)
    apart = numpy.sort(numpy.subtract.outer(thinned(now), thinned(then)).ravel())
    estimate, (low, high) = float(numpy.median(apart)), rank_interval(apart, sizes)
    factors = inflation(now), inflation(then)
    variance = ((high - low) / (2 * Z)) ** 2 / sum(1 / size for size in sizes)
    var_now, var_then = (variance * f / size for f, size in zip(factors, sizes, strict=True))
    if max(factors) == 1 or not math.isfinite(variance):
        return Shift(estimate, var_now, var_then, low, high, rank_tail(apart, sizes))
    independent = [size / f for f, size in zip(factors, sizes, strict=True)]
    return normal(estimate, var_now, var_then, max(1.0, sum(independent) - 2))


def rank_interval(apart: Array, sizes: tuple[int, int]) -> tuple[float, float]:
    """The 95 % interval of a shift, of all differences in their order."""
    spread, step = rank_spread(sizes)
    rank = math.floor((0.5 - Z * spread - step) * len(apart))
    if rank < 0:
        return -math.inf, math.inf
    return float(apart[rank]), float(apart[len(apart) - 1 - rank])


def rank_tail(apart: Array, sizes: tuple[int, int]) -> Callable[[float], float]:
    """The p of "the shift is so much or less"; at least one half where it looks like that."""
    import numpy

    spread, step = rank_spread(sizes)

    def tail(threshold: float) -> float:
        below = numpy.searchsorted(apart, threshold, "left")
        ties = numpy.searchsorted(apart, threshold, "right") - below
        above = 1 - (below + ties / 2) / len(apart)
        return statistics.NormalDist().cdf(-max(0.0, above - 0.5 - step) / spread)

    return tail


def rank_spread(sizes: tuple[int, int]) -> tuple[float, float]:
    """The standard deviation of the share of differences above 0, and its continuity correction."""
    pairs = sizes[0] * sizes[1]
    return math.sqrt((sum(sizes) + 1) / pairs / 12), 0.5 / pairs


def shift_of_quantile(now: Array, then: Array, share: float) -> Shift:
    import numpy
    from scipy.stats import mstats

    found = [float(numpy.quantile(each, share)) for each in (now, then)]
    errors = [float(mstats.mjci(each, [share])[0]) for each in (now, then)]
    variances = [e**2 * inflation(each) for e, each in zip(errors, (now, then), strict=True)]
    return normal(found[0] - found[1], variances[0], variances[1], math.inf)


def shift_of_throughput(now: Saved, then: Saved) -> Shift | None:
    figures = [each.metrics.get("output_tokens_per_s") or 0.0 for each in (now, then)]
    spent = [spending(each) for each in (now, then)]
    closed = all(each.metrics.get("load_model") == "closed loop" for each in (now, then))
    least = min(map(len, spent))
    if not (all(figures) and closed and least > 1):
        return None
    variances = [variance_of_ratio(each) for each in spent]
    return normal(math.log(figures[1] / figures[0]), variances[0], variances[1], least - 1)


def variance_of_ratio(pairs: Sequence[tuple[float, float]]) -> float:
    """Of the logarithm of sum(a) / sum(b), linearised (Cochran 1977, section 6.4)."""
    import numpy

    a, b = numpy.asarray(pairs, dtype=float).T
    residuals = a / a.mean() - b / b.mean()
    return float(residuals.var(ddof=1)) / len(a) * inflation(residuals)


def normal(estimate: float, var_now: float, var_then: float, df: float) -> Shift:
    """A shift whose estimate is Student-distributed; normal for infinite `df`."""
    from scipy import stats

    distribution = stats.t(df) if math.isfinite(df) else stats.norm
    error = max(math.sqrt(var_now + var_then), 1e-12)
    half = float(distribution.ppf(1 - LEVEL_OF_ERROR)) * error

    def tail(threshold: float) -> float:
        return float(distribution.sf((estimate - threshold) / error))

    return Shift(estimate, var_now, var_then, estimate - half, estimate + half, tail)


# --- one run and several


@dataclass(frozen=True)
class Measured:
    """One metric of one document, and its shift from each run of the baseline that has it."""

    document: Saved
    metric: Metric
    then: Sequence[Saved]
    shifts: Sequence[Shift]

    @property
    def excess(self) -> float:
        """By how much the runs differ beyond the noise within them, as a variance."""
        spread = statistics.variance(each.estimate for each in self.shifts)
        return spread - statistics.fmean(each.var_then for each in self.shifts)


@dataclass(frozen=True)
class Between:
    """The run-to-run variance of a metric's logarithm, and its degrees of freedom."""

    variance: float = 0.0
    df: int = 0


def between_runs(measured: Sequence[Measured]) -> dict[Metric, Between]:
    """For each metric with several baseline runs, from all the levels together."""
    found: dict[Metric, Between] = {}
    for metric in {each.metric for each in measured}:
        several = [
            each
            for each in measured
            if each.metric is metric
            and len(each.shifts) > 1
            and all(math.isfinite(one.var_then) for one in each.shifts)
        ]
        if df := sum(len(each.shifts) - 1 for each in several):
            excess = sum((len(each.shifts) - 1) * each.excess for each in several) / df
            found[metric] = Between(max(0.0, excess), df)
    return found


def over_runs(shifts: Sequence[Shift], between: Between) -> Shift:
    """The shift from all runs of the baseline together."""
    if len(shifts) == 1 or not all(math.isfinite(each.var_now) for each in shifts):
        return shifts[0]
    runs = len(shifts)
    estimate = statistics.fmean(each.estimate for each in shifts)
    var_now = statistics.fmean(each.var_now for each in shifts) + between.variance
    var_then = (statistics.fmean(each.var_then for each in shifts) + between.variance) / runs
    share = between.variance * (1 + 1 / runs) / (var_now + var_then)
    return normal(estimate, var_now, var_then, between.df / share**2 if share else math.inf)


# --- judge


def compare(pairs: Sequence[tuple[Saved, Sequence[Saved]]], margin: float) -> list[Change]:
    """Every document of a run beside the same one of each baseline run; the worst change first.

    margin is a share. All of a report has to be in one call: findings are corrected for their
    number.
    """
    measured = [
        found
        for now, then in pairs
        for metric in (LEVEL_METRICS if now.is_level else GATEWAY_METRICS)
        if (found := measure(now, then, metric))
    ]
    between = between_runs(measured)
    return judge([change(each, between.get(each.metric, Between()), margin) for each in measured])


def measure(now: Saved, then: Sequence[Saved], metric: Metric) -> Measured | None:
    found = [(each, shift(now, each, metric)) for each in then]
    known = [(each, one) for each, one in found if one]
    shifts = [one for _, one in known]
    return Measured(now, metric, [each for each, _ in known], shifts) if known else None


def one_sided(now: Saved, then: Sequence[Saved]) -> str | None:
    """A required metric that one of these runs has and another has not, in words."""
    for metric in LEVEL_METRICS if now.is_level else GATEWAY_METRICS:
        here, there = (bool(values(now, metric)), [bool(values(each, metric)) for each in then])
        if metric.required and not here and any(there):
            return f"no {metric.label} in this run, but in the baseline"
        if metric.required and here and not all(there):
            return f"no {metric.label} in the baseline, but in this run"
    return None


def change(measured: Measured, between: Between, margin: float) -> Change:
    document, metric = measured.document, measured.metric
    whole = over_runs(measured.shifts, between)
    usual = statistics.median(figure(each, metric) or 0.0 for each in measured.then)
    least = max(margin, metric.floor / max(usual, SMALLEST))
    counts = [len(samples(each, metric)) for each in (document, *measured.then)]
    sign = -1 if metric.higher_is_better else 1
    low, high = [whole.low, whole.high][::sign]
    runs = len(measured.shifts)
    spread = between.variance * (1 + 1 / runs) if runs > 1 else 0.0
    return Change(
        document=document.name,
        metric=metric,
        then=usual,
        now=figure(document, metric) or 0.0,
        change=ratio(sign * whole.estimate) or 0.0,
        low=ratio(sign * low),
        high=ratio(sign * high),
        worsening=ratio(whole.estimate) or 0.0,
        worsening_high=ratio(whole.high),
        margin=least,
        samples=counts[0],
        samples_then=min(counts[1:]),
        runs=runs,
        p=whole.tail(math.log1p(least)),
        noise=max(0.0, whole.var_now + whole.var_then - spread) * statistics.harmonic_mean(counts),
        spread=spread,
    )


def samples(document: Saved, metric: Metric) -> Sequence[Any]:
    return spending(document) if metric.statistic == "run" else values(document, metric)


def ratio(logarithm: float) -> float | None:
    """As a relative change; None for what is no bound."""
    return math.expm1(logarithm) if abs(logarithm) < 20 else None


def needed(change: Change, comparisons: int) -> int | None:
    """How many requests in each run would decide; None when their number would not.

    First, those that show equal systems to be equal, four times in five. Where there were as many
    it is the change that lies too close to the margin: those that tell it from that.
    """
    bound, found = math.log1p(change.margin), math.log1p(change.worsening)
    level = LEVEL_OF_ERROR / (comparisons if found > bound else 1)
    for distance in (bound, abs(bound - found)):
        z = statistics.NormalDist().inv_cdf(1 - level) + statistics.NormalDist().inv_cdf(POWER)
        left = (distance / z) ** 2 - change.spread
        if left <= 0 or not change.noise <= UNHEARD_OF * left:
            return None
        count = tidy(math.ceil(change.noise / left))
        if count > change.samples:
            return count
    return tidy(change.samples + 1)


def tidy(count: int) -> int:
    """Two figures, rounded up: more would pretend to know."""
    step = 10 ** max(0, len(str(count)) - 2)
    return int(-(-count // step) * step)


def judge(changes: Sequence[Change]) -> list[Change]:
    """With their findings, corrected for their number; the worst first."""
    worse = holm([change.p for change in changes], LEVEL_OF_ERROR)
    found = []
    for change, is_worse in zip(changes, worse, strict=True):
        finding = Finding.WORSE if is_worse else without_worse(change)
        needs = needed(change, len(changes)) if finding is Finding.UNCLEAR else None
        found.append(replace(change, finding=finding, needed=needs, comparisons=len(changes)))
    return sorted(found, key=severity(found))


def holm(ps: Sequence[float], level: float) -> list[bool]:
    """Which hypotheses are rejected, with an error of `level` over all of them (Holm 1979)."""
    rejected = [False] * len(ps)
    for rank, index in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        if ps[index] > level / (len(ps) - rank):
            break
        rejected[index] = True
    return rejected


def without_worse(change: Change) -> Finding:
    high = change.worsening_high
    if high is None or high >= change.margin:
        return Finding.UNCLEAR
    improved = high < 0 and change.worsening <= 1 / (1 + change.margin) - 1
    matters = abs(change.then - change.now) >= change.metric.floor
    return Finding.BETTER if improved and matters else Finding.SAME


def severity(changes: Sequence[Change]) -> Callable[[Change], Any]:
    """A key that sorts the worst first, and a cause before what only contains it."""
    order, largest = list(Finding), dict[Any, float]()
    for change in changes:
        about = topic(change)
        largest[about] = max(largest.get(about, -math.inf), change.worsening)
    rank = {metric: i for i, metric in enumerate((*LEVEL_METRICS, *GATEWAY_METRICS))}
    return lambda change: (
        order.index(change.finding),
        -largest[topic(change)],
        change.document,
        rank[change.metric],
    )


def topic(change: Change) -> tuple[str, str]:
    """Decode rate, TPOT and ITL are one thing: noise must not decide which is named first."""
    key = change.metric.key
    return change.document, "decoding" if key in DECODING else f"{key} {change.metric.statistic}"


# --- what must be equal

OPTIONS = {"prompt": "prompt", "--max-tokens": "max_tokens", "--prompt-file": "prompt_file"}
FIGURES = {
    "prompts": "prompt",
    "concurrency": "concurrency",
    "load model": "load_model",
    "rate": "rate_per_s",
    "arrivals": "arrivals",
}


def differences(now: Saved, then: Saved) -> list[str]:
    """What makes two documents answers to different questions, each in a few words."""
    pairs = {**shared(now, then), **(load(now, then) if now.is_level else separable(now, then))}
    return [
        f"{name} {shorten(str(a), 60)}, there {shorten(str(b), 60)}"
        for name, (a, b) in pairs.items()
        if a != b
    ]


def shared(now: Saved, then: Saved) -> dict[str, tuple[Any, Any]]:
    return {"model": (now.target.get("model"), then.target.get("model"))} if now.is_level else {}


def load(now: Saved, then: Saved) -> dict[str, tuple[Any, Any]]:
    options = {k: (now.options.get(key), then.options.get(key)) for k, key in OPTIONS.items()}
    figures = {k: (now.metrics.get(key), then.metrics.get(key)) for k, key in FIGURES.items()}
    sources = (token_sources(now), token_sources(then))
    return {**options, **figures, "token source": sources, **prompt_lengths(now, then)}


def prompt_lengths(now: Saved, then: Saved) -> dict[str, tuple[Any, Any]]:
    """Of a prompt file only the path is saved: the tokens tell whether it is the same."""
    found = [
        [r["prompt_tokens"] for r in each.succeeded if r.get("prompt_tokens")]
        for each in (now, then)
    ]
    if not all(found) or not all(is_number(each) for each in (*found[0], *found[1])):
        return {}
    here, there = (percentile(each, 50) for each in found)
    apart = abs(here - there)
    if apart <= max(PROMPT_TOKENS, PROMPT_SHARE * there):
        return {}
    return {"prompt tokens": (f"{here:g}", f"{there:g}")}


def token_sources(document: Saved) -> str:
    return " and ".join(sorted({str(r.get("token_source")) for r in document.succeeded})) or "none"


def separable(now: Saved, then: Saved) -> dict[str, tuple[Any, Any]]:
    def told(document: Saved) -> str:
        gateway: Mapping[str, Any] = document.metrics.get("gateway") or {}
        return "not separable from" if gateway.get("net_not_separable") else "separable from"

    return {"the network is": (told(now), told(then))}
