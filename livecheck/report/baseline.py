"""Whether a run is slower than a baseline: ratios with intervals, and which of them count. Pure.

**One metric of one level, one baseline run.** Every successful request gives one value (for ITL the
median of its gaps, because the gaps of one answer are not independent). A change is a ratio, so the
calculation is done on logarithms. The typical ratio is the Hodges-Lehmann estimate, the median of
the ratios of every request now to every request then; its interval inverts the
Wilcoxon-Mann-Whitney test (Hodges and Lehmann 1963; Lehmann 1963). That assumes nothing about the
distribution of the values but that a change shifts it, and outliers do not move it. For lognormal
values it needs two thirds of the requests that a bootstrap of two medians would need. The 95th
percentile is compared from 60 requests on, with the standard errors of Maritz and Jarrett (1978).
Output throughput is one figure for each run; its noise is that of the ratio of all output tokens to
all seconds spent on them, by linearisation (closed loops only: in an open loop the throughput is
that of the arrivals).

**Requests that resemble their neighbours** (a machine that drifts, slots that slow each other down)
tell less than their number suggests. When the autocorrelation r of their ranks at lag 1 is
significant, the variance is multiplied by (1 + r) / (1 - r), and the interval is Student's, with
the degrees of freedom reduced by the same factor.

**Several baseline runs** are combined in `session_spread.py`: repeats of one session (sessions.py)
show the noise between repeats, and only several sessions show the spread between sessions.

**Findings**, for a margin of M per cent ("worse by M %": a time is M % longer; for a rate, each
token takes M % longer). *Worse*: more than M % worse, beyond the noise within the sessions at a
one-sided error of 2.5 % over all comparisons of the report together (Holm 1979), and beyond the
spread between sessions at 2.5 %. That second error is not divided by the number of comparisons,
because all of them share the same sessions: tests/tools/power.py counts the false alarms. *Needs
another session*: beyond the noise, but the spread between sessions could explain it. *Same*: the
95 % interval excludes that it is M % worse. *Better*: the interval excludes that it is not better
at all, and the estimate is better by M %. Otherwise there is not enough data to see M %: the
finding then says how many requests in each run would exclude M % in four of five comparisons of
equal systems.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from livecheck.core.text import shorten
from livecheck.report.result_files import ResultFile, short_name
from livecheck.report.session_spread import (
    ALPHA,
    SESSION_SPREAD,
    Between,
    Shift,
    Z,
    by_session,
    combined,
    spread_between,
    student_shift,
)
from livecheck.wire.metrics import percentile, tokens_of
from livecheck.wire.speculation import at_once
from livecheck.wire.thinking_figures import thinks

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, Any]

POWER = 0.8  # of "how many requests would be enough"
MIN_REQUESTS_P95 = 60  # three of them lie above the p95
MIN_REQUESTS_R = 10  # the autocorrelation of fewer requests is noise
MAX_R = 0.8  # an autocorrelation above counts as this one
MAX_VALUES = 600  # of a run; more are replaced by as many quantiles, which say the same
MIN_VALUE = 1e-3  # in the metric's unit: the clock cannot tell less from 0
MAX_ADVICE = 10_000  # requests; to advise more would help nobody
NOTABLE = 0.05  # from this difference on, change and medians visibly disagree
PROMPT_SHARE, PROMPT_TOKENS = 0.05, 2  # a prompt's own first line has a token more or less
Z_AUTOCORRELATION = statistics.NormalDist().inv_cdf(0.95)


class Finding(str, Enum):
    """The result of one comparison."""

    WORSE = "worse"
    SESSION = "needs another session"
    UNCLEAR = "not enough data"
    SAME = "same"
    BETTER = "better"


@dataclass(frozen=True)
class Metric:
    """A figure that is compared.

    statistic: p50 or p95 over the requests, or one figure for each `run`. floor: in the unit of the
    metric; a smaller change does not matter to anybody. required: while this metric is unclear, the
    comparison is undecided.
    """

    key: str
    label: str
    unit: str
    statistic: str = "p50"
    higher_is_better: bool = False
    required: bool = False
    floor: float = 0.0

    def label_in(self, document: str) -> str:
        """The level and the metric; for the gateway's overhead the metric alone."""
        level = short_name(document)
        return f"{level} {self.label}" if level != document else self.label


LEVEL_METRICS = (
    Metric("ttft_ms", "TTFT p50", "ms", required=True),
    Metric("ttfa_ms", "TTFA p50", "ms"),
    Metric("tokens_per_s", "decode rate p50", "tok/s", higher_is_better=True, required=True),
    Metric("tpot_ms", "TPOT p50", "ms"),
    Metric("itl_ms", "ITL p50", "ms"),
    Metric("e2e_ms", "E2E p50", "ms", required=True),
    Metric("output_tokens_per_s", "output throughput", "tok/s", "run", higher_is_better=True),
    Metric("ttft_ms", "TTFT p95", "ms", "p95"),
    Metric("tpot_ms", "TPOT p95", "ms", "p95"),
    Metric("e2e_ms", "E2E p95", "ms", "p95"),
)
# The floor of a p95 is what the guide allows, 5 and 50 ms: whatever else the machine does at that
# moment adds as much. The floor of a median is a tenth of that.
GATEWAY_METRICS = tuple(
    Metric(f"{name}_net_ms", f"/{name} {statistic}, net", "ms", statistic, floor=share * allowed)
    for statistic, share in (("p50", 0.1), ("p95", 1.0))
    for name, allowed in (("ping", 5.0), ("health", 50.0))
)
DECODING = ("tokens_per_s", "tpot_ms", "itl_ms")  # three views of the same thing


@dataclass(frozen=True)
class Change:
    """One metric of one result file, now and in the baseline.

    document: the name of the result file. then, now: the figures themselves, in the metric's unit
    (then: the median over the runs).
    change, low, high: now / then - 1 by the estimate, and its 95 % interval; None: not bounded.
    worsening, worsening_high: the same, but above 0 is worse, whatever the metric.
    margin: the share that counts (--margin, or the metric's floor if that is more).
    samples, samples_then: requests, in the smallest run of the baseline. runs, sessions: of the
    baseline.
    p: of the hypothesis that it is worse by the margin at most, by the noise within the sessions.
    p_sessions: the same, by the spread between sessions as well.
    noise, spread: variances of the logarithm, of one request and between runs.
    needed: requests in each run that would decide; None when decided, or when no number would.
    comparisons: how many the report makes, for which the findings are corrected.
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
    sessions: int
    p: float
    p_sessions: float
    noise: float
    spread: float
    finding: Finding = Finding.UNCLEAR
    needed: int | None = None
    comparisons: int = 1

    @property
    def is_worse_alone(self) -> bool:
        """Whether its own interval lies beyond the margin, were it the only comparison."""
        bound = self.high if self.metric.higher_is_better else self.low
        if bound is None:
            return False
        least = 1 / (1 + bound) - 1 if self.metric.higher_is_better else bound
        return least > self.margin

    @property
    def differs_from_medians(self) -> bool:
        """Whether a reader who divides `now` by `then` gets another change."""
        return bool(self.then) and abs(self.now / self.then - 1 - self.change) > NOTABLE


# --- what is compared


def values_of(file: ResultFile, metric: Metric) -> list[float]:
    """One value for each successful request or probe, in the order of sending."""
    if metric in GATEWAY_METRICS:
        return list(net_of_network(file, f"/{metric.key.partition('_')[0]}"))
    if metric.key == "itl_ms":
        return file.itl_ms
    if metric.key == "ttfa_ms" and not any(thinks(record) for record in file.succeeded):
        return []  # it is the TTFT of every answer, and would be compared twice
    return [r[metric.key] for r in file.succeeded if r.get(metric.key) is not None]


def net_of_network(file: ResultFile, path: str) -> Iterator[float]:
    for record in file.requests:
        spent, trip = record.get("ttfb_ms"), record.get("round_trip_ms")
        good = record.get("path") == path and record.get("status") == 200
        if good and record.get("error") is None and spent is not None and trip is not None:
            yield max(0.0, spent - trip)


def tokens_and_times(file: ResultFile) -> list[tuple[float, float]]:
    """(tokens that were sent, ms spent on them) of each successful request."""
    pairs = ((tokens_of(record), record["e2e_ms"]) for record in file.succeeded)
    return [(tokens, spent) for tokens, spent in pairs if tokens and spent]


def figure_of(file: ResultFile, metric: Metric) -> float:
    """The figure that the report shows; 0 without any."""
    if metric.statistic == "run":
        return float(file.metrics.get(metric.key) or 0.0)
    found = values_of(file, metric)
    return percentile(found, int(metric.statistic[1:])) if found else 0.0


# --- two runs


def shift_between(now: ResultFile, then: ResultFile, metric: Metric) -> Shift | None:
    """How far they are apart; None when one of them has too few values."""
    import numpy

    if metric.statistic == "run":
        return shift_of_throughput(now, then)
    sign = -1.0 if metric.higher_is_better else 1.0
    first, second = (
        sign * numpy.log(numpy.maximum(values_of(each, metric), MIN_VALUE)) for each in (now, then)
    )
    if metric.statistic == "p95":
        if min(len(first), len(second)) < MIN_REQUESTS_P95:
            return None
        return shift_of_quantile(first, second, 0.95 if sign > 0 else 0.05)
    return shift_of_medians(first, second) if len(first) and len(second) else None


def inflation(ordered: Array) -> float:
    """How many times the variance of independent values this series has; at least 1."""
    import numpy

    count = len(ordered)
    _, position, ties = numpy.unique(ordered, return_inverse=True, return_counts=True)
    mean_ranks = numpy.cumsum(ties) - (ties - 1) / 2
    ranks: Array = mean_ranks[position] - (count + 1) / 2
    squares = float(numpy.dot(ranks, ranks))
    if count < MIN_REQUESTS_R or not squares:
        return 1.0
    r = float(numpy.dot(ranks[1:], ranks[:-1])) / squares
    if r < Z_AUTOCORRELATION / math.sqrt(count):
        return 1.0
    return (1 + min(r, MAX_R)) / (1 - min(r, MAX_R))


def thinned(found: Array) -> Array:
    """At most MAX_VALUES quantiles in place of all values."""
    import numpy

    if len(found) <= MAX_VALUES:
        return found
    return numpy.quantile(found, (numpy.arange(MAX_VALUES) + 0.5) / MAX_VALUES)


def shift_of_medians(now: Array, then: Array) -> Shift:
    """Hodges and Lehmann's estimate, with the interval of the test by Mann and Whitney.

    Where requests resemble their neighbours, with Student's: they count as fewer requests, perhaps
    as fewer than a rank test needs, and still they may lie far apart.
    """
    import numpy

    sizes = len(now), len(then)
    ratios = numpy.sort(numpy.subtract.outer(thinned(now), thinned(then)).ravel())
    estimate, (low, high) = float(numpy.median(ratios)), rank_interval(ratios, sizes)
    factors = inflation(now), inflation(then)
    variance = ((high - low) / (2 * Z)) ** 2 / sum(1 / size for size in sizes)
    var_now, var_then = (variance * f / size for f, size in zip(factors, sizes, strict=True))
    if max(factors) == 1 or not math.isfinite(variance):
        return Shift(estimate, var_now, var_then, low, high, rank_tail(ratios, sizes))
    independent = [size / f for f, size in zip(factors, sizes, strict=True)]
    return student_shift(estimate, var_now, var_then, max(1.0, sum(independent) - 2))


def rank_interval(ratios: Array, sizes: tuple[int, int]) -> tuple[float, float]:
    """The 95 % interval of a shift, from all differences in ascending order."""
    deviation, step = rank_deviation(sizes)
    rank = math.floor((0.5 - Z * deviation - step) * len(ratios))
    if rank < 0:
        return -math.inf, math.inf
    return float(ratios[rank]), float(ratios[len(ratios) - 1 - rank])


def rank_tail(ratios: Array, sizes: tuple[int, int]) -> Callable[[float], float]:
    """The p of "the shift is x or less"; at least one half where that looks likely."""
    import numpy

    deviation, step = rank_deviation(sizes)

    def tail(x: float) -> float:
        first, last = (numpy.searchsorted(ratios, x, side) for side in ("left", "right"))
        above = 1 - (first + last) / 2 / len(ratios)  # a tie counts as half
        return statistics.NormalDist().cdf(-max(0.0, above - 0.5 - step) / deviation)

    return tail


def rank_deviation(sizes: tuple[int, int]) -> tuple[float, float]:
    """The standard deviation of the share of differences above 0, and its continuity correction."""
    pairs = sizes[0] * sizes[1]
    return math.sqrt((sum(sizes) + 1) / pairs / 12), 0.5 / pairs


def shift_of_quantile(now: Array, then: Array, share: float) -> Shift:
    import numpy

    quantiles = [float(numpy.quantile(each, share)) for each in (now, then)]
    var_now, var_then = (
        variance_of_quantile(each, share) * inflation(each) for each in (now, then)
    )
    return student_shift(quantiles[0] - quantiles[1], var_now, var_then, math.inf)


def variance_of_quantile(found: Array, share: float) -> float:
    """By Maritz and Jarrett (1978): each value weighs as much as it is likely to be the quantile.

    The same as the square of scipy.stats.mstats.mjci, whose import takes 45 MB.
    """
    import numpy
    from scipy import special

    ordered = numpy.sort(found)
    count = len(ordered)
    rank = int(share * count + 0.5)
    weights = numpy.diff(special.betainc(rank - 1, count - rank, numpy.linspace(0, 1, count + 1)))
    mean = float(numpy.dot(weights, ordered))
    return max(0.0, float(numpy.dot(weights, ordered**2)) - mean**2)


def shift_of_throughput(now: ResultFile, then: ResultFile) -> Shift | None:
    rates = [each.metrics.get("output_tokens_per_s") or 0.0 for each in (now, then)]
    spent = [tokens_and_times(each) for each in (now, then)]
    closed = all(each.metrics.get("load_model") == "closed loop" for each in (now, then))
    fewest = min(map(len, spent))
    if not (all(rates) and closed and fewest > 1):
        return None
    var_now, var_then = (variance_of_ratio(each) for each in spent)
    return student_shift(math.log(rates[1] / rates[0]), var_now, var_then, fewest - 1)


def variance_of_ratio(pairs: Sequence[tuple[float, float]]) -> float:
    """Of the logarithm of sum(a) / sum(b), linearised (Cochran 1977, section 6.4)."""
    import numpy

    a, b = numpy.asarray(pairs, dtype=float).T
    residuals = a / a.mean() - b / b.mean()
    return float(residuals.var(ddof=1)) / len(a) * inflation(residuals)


# --- several runs


@dataclass(frozen=True)
class Compared:
    """One metric of one result file, and its shift from each baseline run that has it.

    sessions: the number of each of these runs' session.
    """

    now: ResultFile
    metric: Metric
    then: Sequence[ResultFile]
    shifts: Sequence[Shift]
    sessions: Sequence[int]

    @property
    def grouped(self) -> list[list[Shift]]:
        return by_session(self.shifts, self.sessions)


def spreads_of(compared: Sequence[Compared]) -> dict[Metric, Between]:
    """For each metric, from all the levels together."""
    return {
        metric: spread_between([each.grouped for each in compared if each.metric is metric])
        for metric in {each.metric for each in compared}
    }


# --- judge


def compare(
    pairs: Sequence[tuple[ResultFile, Sequence[ResultFile]]],
    margin: float,
    sessions: Mapping[Path, int],
    session_spread: float = SESSION_SPREAD,
) -> list[Change]:
    """Every file of a run beside the same file of each baseline run; the worst change first.

    margin and session_spread are shares. sessions: the number of each baseline folder's session.
    One call has to get everything that the report compares:
    the findings are corrected for the number of comparisons.
    """
    found = (
        compare_metric(now, then, metric, sessions)
        for now, then in pairs
        for metric in metrics_of(now)
    )
    compared = [each for each in found if each]
    spreads = spreads_of(compared)
    assumed = math.log1p(session_spread) ** 2
    changes = [change_of(each, spreads[each.metric], margin, assumed) for each in compared]
    return judge(changes)


def metrics_of(file: ResultFile) -> Sequence[Metric]:
    return LEVEL_METRICS if file.is_level else GATEWAY_METRICS


def compare_metric(
    now: ResultFile, then: Sequence[ResultFile], metric: Metric, sessions: Mapping[Path, int]
) -> Compared | None:
    if metric.key == "itl_ms" and any(at_once(each.metrics) for each in (now, *then)):
        return None  # `about_steps` says so
    shifts = [(each, shift_between(now, each, metric)) for each in then]
    known = [(each, shift) for each, shift in shifts if shift]
    if not known:
        return None
    files = [each for each, _ in known]
    numbers = [sessions[each.path.parent] for each in files]
    return Compared(now, metric, files, [shift for _, shift in known], numbers)


def about_steps(now: ResultFile, then: Sequence[ResultFile]) -> list[str]:
    """Why ITL is not compared, where an arrival brings the tokens of a step."""
    several = [tokens for each in (now, *then) if (tokens := at_once(each.metrics))]
    if not (now.is_level and several):
        return []
    told = f"{now.name}: ITL is not compared, TPOT is: up to {max(several):.1f} tokens come at once"
    return [f"{told} on average (speculative decoding, or several tokens in a step)"]


def missing_metric(now: ResultFile, then: Sequence[ResultFile]) -> str | None:
    """A required metric that is in this run and not in a baseline run, or the other way round."""
    for metric in (each for each in metrics_of(now) if each.required):
        here, there = bool(values_of(now, metric)), [bool(values_of(e, metric)) for e in then]
        if not here and any(there):
            return f"no {metric.label} in this run, but in the baseline"
        if here and not all(there):
            return f"no {metric.label} in the baseline, but in this run"
    return None


def change_of(compared: Compared, between: Between, margin: float, assumed: float) -> Change:
    now, metric = compared.now, compared.metric
    found = combined(compared.grouped, between, assumed)
    whole = found.whole
    usual = statistics.median(figure_of(each, metric) for each in compared.then)
    least = max(margin, metric.floor / max(usual, MIN_VALUE))
    counts = [len(samples_of(each, metric)) for each in (now, *compared.then)]
    bounds = (whole.low, whole.estimate, whole.high)
    if metric.higher_is_better:  # a shift above 0 is worse, so this rate has fallen
        bounds = (-whole.high, -whole.estimate, -whole.low)
    variance = whole.var_now + whole.var_then
    return Change(
        document=now.name,
        metric=metric,
        then=usual,
        now=figure_of(now, metric),
        change=as_share(bounds[1]) or 0.0,
        low=as_share(bounds[0]),
        high=as_share(bounds[2]),
        worsening=as_share(whole.estimate) or 0.0,
        worsening_high=as_share(whole.high),
        margin=least,
        samples=counts[0],
        samples_then=min(counts[1:]),
        runs=len(compared.shifts),
        sessions=len(compared.grouped),
        p=found.within.tail(math.log1p(least)),
        p_sessions=found.p_sessions(math.log1p(least)),
        noise=max(0.0, variance - found.spread) * statistics.harmonic_mean(counts),
        spread=found.spread,
    )


def samples_of(file: ResultFile, metric: Metric) -> Sequence[Any]:
    return tokens_and_times(file) if metric.statistic == "run" else values_of(file, metric)


def as_share(logarithm: float) -> float | None:
    """A logarithm of a ratio as a relative change; None where it is not bounded."""
    return math.expm1(logarithm) if abs(logarithm) < 20 else None


def requests_needed(change: Change, comparisons: int) -> int | None:
    """How many requests in each run would decide; None when no number would.

    First the number that shows equal systems to be equal, four times in five. Where this run has as
    many, the change lies too close to the margin: then the number that tells it from the margin.
    """
    bound, found = math.log1p(change.margin), math.log1p(change.worsening)
    level = ALPHA / (comparisons if found > bound else 1)
    z = statistics.NormalDist().inv_cdf(1 - level) + statistics.NormalDist().inv_cdf(POWER)
    for distance in (bound, abs(bound - found)):
        left = (distance / z) ** 2 - change.spread
        if left <= 0 or not change.noise <= MAX_ADVICE * left:
            return None
        count = rounded_up(math.ceil(change.noise / left))
        if count > change.samples:
            return count
    return rounded_up(change.samples + 1)


def rounded_up(count: int) -> int:
    """To two digits: more would claim a precision that the advice does not have."""
    step: int = 10 ** max(0, len(str(count)) - 2)
    return math.ceil(count / step) * step


def judge(changes: Sequence[Change]) -> list[Change]:
    """With their findings, corrected for their number; the worst first."""
    is_worse = holm([change.p for change in changes], ALPHA)
    found = []
    for change, worse in zip(changes, is_worse, strict=True):
        finding = finding_if_worse(change) if worse else finding_unless_worse(change)
        needed = requests_needed(change, len(changes)) if finding is Finding.UNCLEAR else None
        found.append(replace(change, finding=finding, needed=needed, comparisons=len(changes)))
    return sorted(found, key=severity(found))


def holm(ps: Sequence[float], level: float) -> list[bool]:
    """Which hypotheses are rejected, with an error of `level` over all of them (Holm 1979)."""
    rejected = [False] * len(ps)
    for rank, index in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        if ps[index] > level / (len(ps) - rank):
            break
        rejected[index] = True
    return rejected


def finding_if_worse(change: Change) -> Finding:
    """Of a change beyond the noise: whether the spread between sessions could explain it."""
    return Finding.WORSE if change.p_sessions <= ALPHA else Finding.SESSION


def finding_unless_worse(change: Change) -> Finding:
    high = change.worsening_high
    if high is None or high >= change.margin:
        return Finding.UNCLEAR
    improved = high < 0 and change.worsening <= 1 / (1 + change.margin) - 1
    matters = abs(change.then - change.now) >= change.metric.floor
    return Finding.BETTER if improved and matters else Finding.SAME


def severity(changes: Sequence[Change]) -> Callable[[Change], Any]:
    """A sort key: the worst first, and a cause before the metrics that only contain it."""
    findings, largest = list(Finding), dict[Any, float]()
    for change in changes:
        topic = topic_of(change)
        largest[topic] = max(largest.get(topic, -math.inf), change.worsening)
    rank = {metric: i for i, metric in enumerate((*LEVEL_METRICS, *GATEWAY_METRICS))}
    return lambda change: (
        findings.index(change.finding),
        -largest[topic_of(change)],
        change.document,
        rank[change.metric],
    )


def topic_of(change: Change) -> tuple[str, str]:
    """Decode rate, TPOT and ITL are one topic: noise must not decide which is named first."""
    key = change.metric.key
    return change.document, "decoding" if key in DECODING else f"{key} {change.metric.statistic}"


# --- what has to be equal

OPTIONS = {"prompt": "prompt", "--max-tokens": "max_tokens", "--prompt-file": "prompt_file"}
FIGURES = {
    "prompts": "prompt",
    "concurrency": "concurrency",
    "load model": "load_model",
    "rate": "rate_per_s",
    "arrivals": "arrivals",
}


def differences(now: ResultFile, then: ResultFile) -> list[str]:
    """Why two files are not measurements of the same thing, each reason in a few words."""
    here, there = conditions_of(now), conditions_of(then)
    pairs = {name: (here[name], there[name]) for name in here}
    if now.is_level:
        pairs |= prompt_lengths(now, then)
    return [
        f"{name} {shorten(str(a), 60)} here, {shorten(str(b), 60)} there"
        for name, (a, b) in pairs.items()
        if a != b
    ]


def conditions_of(file: ResultFile) -> dict[str, Any]:
    if not file.is_level:
        gateway = file.metrics.get("gateway") or {}
        return {"network": "not separable" if gateway.get("net_not_separable") else "separable"}
    sources = sorted({str(record.get("token_source")) for record in file.succeeded})
    return {
        "model": file.target.get("model"),
        **{name: file.options.get(key) for name, key in OPTIONS.items()},
        **{name: file.metrics.get(key) for name, key in FIGURES.items()},
        "token source": " and ".join(sources) or "none",
    }


def prompt_lengths(now: ResultFile, then: ResultFile) -> dict[str, tuple[Any, Any]]:
    """Only the path of a prompt file is saved: its tokens tell whether the content is the same."""
    here, there = (each.median_tokens("prompt_tokens") for each in (now, then))
    if not here or not there or abs(here - there) <= max(PROMPT_TOKENS, PROMPT_SHARE * there):
        return {}
    return {"prompt tokens": (f"{here:g}", f"{there:g}")}
