"""The key figures of one release after another: what a history is made of. Pure but for reading.

A point is a session: the repeats of one invocation of run_all.py are one point, whose interval is
their range. The interval of a single run's median or percentile is that of its order statistics
(David and Nagaraja 2003, section 7.1), which assumes nothing about the distribution.

Points are compared only with what measured the same thing: the same deployment, model, prompt and
load as the newest run. Everything else is left out, with the reason.
"""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from livecheck.core.checks import VERDICTS, Exit
from livecheck.report.baseline import (
    LEVEL_METRICS,
    MIN_VALUE,
    Metric,
    differences,
    net_of_network,
    tokens_and_times,
    values_of,
)
from livecheck.report.change_points import MIN_VALUES, Step, find_steps
from livecheck.report.documents import Allowance
from livecheck.report.result_files import (
    Folder,
    ResultFile,
    guide_order,
    is_number,
    read_folder,
    target_url,
)
from livecheck.report.session_spread import ALPHA, Z
from livecheck.report.thresholds import OVERHEAD, Thresholds
from livecheck.report.verdict import verdict_of_run
from livecheck.wire import client_bound
from livecheck.wire.metrics import Objective, percentile

ERROR = 0.05  # of a false change, over all figures of the history together
MAX_RUNS = 100
MAX_FIGURES = 60
MIN_SAMPLES = {"p95": 20, "p99": 20}  # with fewer, it is the slowest request and nothing else
MANY = 1000  # samples from which on the binomial distribution is taken for a normal one
COLD_START = "scale_to_zero"
KEYS = {("ttft_ms", "p50"), ("ttft_ms", "p95"), ("tokens_per_s", "p50"), ("e2e_ms", "p50")}
OF_LEVELS = [e for e in LEVEL_METRICS if (e.key, e.statistic) in KEYS or e.statistic == "run"]
OF_GATEWAY = [
    Metric("ping_net_ms", "/ping p50, net", "ms"),
    Metric("ping_net_ms", "/ping p99, net", "ms", "p99"),
    Metric("health_net_ms", "/health p50, net", "ms"),
]
OF_COLD_START = [Metric("cold_start_s", "cold start", "s", "run")]


class NoHistory(ValueError):
    """Why there is nothing to show, in one line."""


@dataclass(frozen=True)
class Measured:
    """A figure of one run, in its metric's unit; low, high: 95 % interval, None: not bounded."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Release:
    """A session: one run, or several repeats of it. started_at: of its first result."""

    title: str
    started_at: datetime
    folders: tuple[str, ...]
    verdict: str


@dataclass(frozen=True)
class Point:
    """A figure of one release. release: its place in the history. of_repeats: the interval is the
    range of the repeats, not that of the noise within a run."""

    release: int
    value: float
    low: float | None
    high: float | None
    of_repeats: bool


@dataclass(frozen=True)
class Change:
    """A change of level. release: the first with the new level. before, after: the mean levels.

    change: after / before - 1. worsening: the same, but above 0 is worse, whatever the metric.
    """

    release: int
    p: float
    before: float
    after: float
    change: float
    worsening: float

    @property
    def is_worse(self) -> bool:
        return self.worsening > 0


@dataclass(frozen=True)
class Series:
    """One figure over all releases that have it, and where it changes."""

    document: str
    metric: Metric
    threshold: Objective | None
    points: Sequence[Point]
    changes: Sequence[Change] = ()

    @property
    def label(self) -> str:
        return self.metric.label_in(self.document)

    @property
    def is_tested(self) -> bool:
        return len(self.points) >= MIN_VALUES


@dataclass(frozen=True)
class LeftOut:
    """What could not be used. documents: the result files; none: the whole folder."""

    folder: str
    documents: tuple[str, ...]
    why: str

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.folder, ", ".join(self.documents), self.why)))


@dataclass
class History:
    """Releases in order of time. margin: the share below which a change is not marked."""

    title: str
    urls: tuple[str, ...]
    model: str | None
    margin: float
    releases: list[Release]
    series: list[Series]
    left_out: list[LeftOut] = field(default_factory=list)


# --- read


@dataclass
class Run:
    """The figures of one folder, without its requests."""

    folder: Folder
    started_at: datetime
    figures: dict[tuple[str, Metric], Measured]


def find_runs(paths: Sequence[Path]) -> list[Path]:
    """The folders with results: each path itself, or the folders in it. Raises NoHistory.

    A link, such as `latest`, is left out: it leads to a run that is there under its own name.
    """
    found: dict[Path, None] = {}
    for path in paths:
        try:
            inside = sorted(e.path for e in os.scandir(path) if e.is_dir(follow_symlinks=False))
        except OSError as error:
            raise NoHistory(f"{path} cannot be read ({error.strerror})") from None
        own = [each for each in (path, *map(Path, inside)) if has_results(each)]
        if not own:
            raise NoHistory(f"no run in {path}: give folders that the scripts wrote to")
        found |= dict.fromkeys(own)
    if len(found) > MAX_RUNS:
        raise NoHistory(f"{len(found)} runs are more than {MAX_RUNS}: give only some of them")
    return list(found)


def has_results(path: Path) -> bool:
    try:
        with os.scandir(path) as entries:
            return any(each.name.endswith(".json") for each in entries)
    except OSError:
        return False


def read_history(
    paths: Sequence[Path], thresholds: Thresholds, margin: float, title: str | None = None
) -> History:
    """All runs in these folders. Raises NoHistory when there are fewer than two releases."""
    allowance, left_out = Allowance(), list[LeftOut]()  # one for all: so much fits into the time
    folders = [
        read_folder(path, thresholds.same_target, allowance=allowance)
        for path in reversed(find_runs(paths))  # run_all.py names them by time: the newest first
    ]
    for folder in folders:
        problems = map(str, folder.problems)
        left_out += [LeftOut(str(folder.path), (), why) for why in problems]
    dated = [(folder.started_at, folder) for folder in folders if folder.started_at]
    runs = [(time, folder) for time, folder in sorted(dated, key=lambda each: each[0])]
    if not runs:
        raise NoHistory(f"no result that could be used{first_problem(left_out)}")
    newest = find_newest([folder for _, folder in runs])
    kept = [Run(folder, time, measure(folder, newest, left_out)) for time, folder in runs]
    kept = [each for each in kept if each.figures]
    return build(kept, newest, thresholds, margin, title, left_out)


def first_problem(left_out: Sequence[LeftOut]) -> str:
    return f": {left_out[0]}" if left_out else ""


@dataclass
class Newest:
    """The newest run with a level that can be used, or else with any other file: what the others
    have to have measured."""

    folder: Folder
    files: dict[str, ResultFile]

    def is_same_deployment(self, folder: Folder) -> bool:
        """Whether run.json says so: a deployment with a name may have moved to another URL."""
        one, other = folder.run, self.folder.run
        return bool(one and other and one.deployment and one.deployment == other.deployment)


def find_newest(folders: Sequence[Folder]) -> Newest:
    """folders: in order of time, at least one."""
    found = Newest(folders[-1], {})
    for folder in reversed(folders):
        usable = {e.name: e for e in folder.files if is_kept(e) and not why_unusable(e)}
        if any(each.is_level for each in usable.values()):
            return Newest(folder, usable)
        if usable and not found.files:
            found = Newest(folder, usable)
    return found


def is_kept(file: ResultFile) -> bool:
    return file.is_level or file.name in (OVERHEAD, COLD_START)


def why_unusable(file: ResultFile) -> str | None:
    if file.exit_code not in (Exit.OK, Exit.FAIL):
        return f"{VERDICTS[file.exit_code]}: {file.error or 'see its checks'}"
    if file.is_level and not file.succeeded:
        return "no request succeeded"
    return (client_bound.words(file.metrics) or None) if file.is_level else None


def measure(
    folder: Folder, newest: Newest, left_out: list[LeftOut]
) -> dict[tuple[str, Metric], Measured]:
    """The figures of a run that can stand beside those of the newest one."""
    found, reasons = dict[tuple[str, Metric], Measured](), dict[str, list[str]]()
    for file in filter(is_kept, folder.files):
        if why := why_unusable(file) or why_different(file, folder, newest):
            reasons.setdefault(why, []).append(file.name)
            continue
        for metric in metrics_of(file):
            if value := measured(file, metric):
                found[file.name, metric] = value
    for why, names in reasons.items():
        shown = tuple(names) if found or len(reasons) > 1 else ()
        left_out.append(LeftOut(str(folder.path), shown, why))
    return found


def why_different(file: ResultFile, folder: Folder, newest: Newest) -> str | None:
    """Why it is not a measurement of the same thing as the newest file of its name."""
    other = newest.files.get(file.name)
    anything = other or next(iter(newest.files.values()), None)
    if anything is None:
        return None
    here, there = target_url(file), target_url(anything)
    if here != there and not newest.is_same_deployment(folder):
        return f"another deployment: {here} here, {there} in the newest run"
    if other is None:
        return "the newest run does not have it"
    found = [] if file.name == COLD_START else differences(file, other)
    return f"measured otherwise than in the newest run: {'; '.join(found)}" if found else None


# --- figures


def metrics_of(file: ResultFile) -> Sequence[Metric]:
    if file.name == COLD_START:
        return OF_COLD_START
    return OF_LEVELS if file.is_level else OF_GATEWAY


def measured(file: ResultFile, metric: Metric) -> Measured | None:
    """The figure and its interval; None without enough samples."""
    if metric in OF_COLD_START:
        value = file.metrics.get(metric.key)
        return Measured(value, None, None) if is_number(value) and value > 0 else None
    if metric.statistic == "run":
        return throughput(file, metric)
    if metric in OF_GATEWAY:
        values = list(net_of_network(file, f"/{metric.key.partition('_')[0]}"))
    else:
        values = values_of(file, metric)
    share = int(metric.statistic[1:]) / 100
    if len(values) < MIN_SAMPLES.get(metric.statistic, 1):
        return None
    return Measured(percentile(values, 100 * share), *order_interval(sorted(values), share))


def order_interval(ordered: Sequence[float], share: float) -> tuple[float | None, float | None]:
    """The 95 % interval of a quantile: two of the values themselves."""
    count = len(ordered)
    below = binomial_below(count, share)  # below[r]: fewer than r values lie below the quantile
    low = next((r for r in range(count, 0, -1) if below[r] <= ALPHA), 0)
    high = next((r for r in range(1, count + 1) if below[r] >= 1 - ALPHA), 0)
    return (ordered[low - 1] if low else None, ordered[high - 1] if high else None)


def binomial_below(count: int, share: float) -> list[float]:
    """The probabilities of fewer than 0, 1, … `count` successes."""
    if count > MANY:
        normal = statistics.NormalDist(count * share, math.sqrt(count * share * (1 - share)))
        return [normal.cdf(r - 0.5) for r in range(count + 1)]
    total, found = 0.0, [0.0]
    for r in range(count):
        ways = math.lgamma(count + 1) - math.lgamma(r + 1) - math.lgamma(count - r + 1)
        total += math.exp(ways + r * math.log(share) + (count - r) * math.log1p(-share))
        found.append(total)
    return found


def throughput(file: ResultFile, metric: Metric) -> Measured | None:
    """Output throughput, with the interval of a ratio (Cochran 1977, section 6.4) in closed loops;
    in an open loop it is that of the arrivals."""
    value, pairs = file.metrics.get(metric.key), tokens_and_times(file)
    if not is_number(value) or not value:
        return None
    if file.metrics.get("load_model") != "closed loop" or len(pairs) < 2:
        return Measured(value, None, None)
    tokens, times = (statistics.fmean(column) for column in zip(*pairs, strict=True))
    residuals = [a / tokens - b / times for a, b in pairs]
    error = math.sqrt(statistics.variance(residuals) / len(pairs))
    return Measured(value, value * math.exp(-Z * error), value * math.exp(min(Z * error, 10.0)))


# --- from runs to a history


def build(
    runs: Sequence[Run],
    newest: Newest,
    thresholds: Thresholds,
    margin: float,
    title: str | None,
    left_out: list[LeftOut],
) -> History:
    sessions = by_session(runs)
    if len(sessions) < 2:
        why = first_problem(left_out[::-1])
        raise NoHistory(f"a history takes two releases, and there is {len(sessions)}{why}")
    figures = dict.fromkeys(figure for run in reversed(runs) for figure in run.figures)
    order = sorted(figures, key=lambda figure: guide_order(figure[0]))
    series = [series_of(figure, sessions, thresholds) for figure in order]
    shown = [each for each in series if len(each.points) > 1]
    left_out += [
        LeftOut(each.label, (), "only one release has it")
        for each in series
        if len(each.points) == 1
    ]
    left_out += [LeftOut(e.label, (), "too many figures") for e in shown[MAX_FIGURES:]]
    if not shown:
        raise NoHistory("there is no figure that two of these releases have")
    model = next(
        (str(e.target["model"]) for e in newest.files.values() if e.target.get("model")), None
    )
    urls = tuple(dict.fromkeys(map(target_url, newest.files.values())))
    releases = [release_of(session) for session in sessions]
    series = with_changes(shown[:MAX_FIGURES], margin)
    return History(title or model or urls[0], urls, model, margin, releases, series, left_out)


def by_session(runs: Sequence[Run]) -> list[list[Run]]:
    """The repeats of each session together, in order of time."""
    found: dict[str, list[Run]] = {}
    for index, run in enumerate(runs):
        about = run.folder.run
        found.setdefault(f"session {about.session}" if about else f"run {index}", []).append(run)
    return list(found.values())


def release_of(session: Sequence[Run]) -> Release:
    first = session[0].folder
    verdicts = [verdict_of_run(each.folder) for each in session]
    order = ("fail", "interrupted", "undecided", "pass")
    return Release(
        title=(first.run.title if first.run else None) or first.path.name or str(first.path),
        started_at=session[0].started_at,
        folders=tuple(str(each.folder.path) for each in session),
        verdict=min(verdicts, key=order.index),
    )


def series_of(
    figure: tuple[str, Metric], sessions: Sequence[Sequence[Run]], thresholds: Thresholds
) -> Series:
    document, metric = figure
    points = []
    for release, session in enumerate(sessions):
        found = [run.figures[figure] for run in session if figure in run.figures]
        if found:
            points.append(point_of(release, found))
    return Series(document, metric, threshold_of(document, metric, thresholds), points)


def point_of(release: int, repeats: Sequence[Measured]) -> Point:
    if len(repeats) == 1:
        (only,) = repeats
        return Point(release, only.value, only.low, only.high, False)
    values = [each.value for each in repeats]
    mean = math.exp(statistics.fmean(map(logarithm, values)))
    return Point(release, mean, min(values), max(values), True)


def logarithm(value: float) -> float:
    return math.log(max(value, MIN_VALUE))


def threshold_of(document: str, metric: Metric, thresholds: Thresholds) -> Objective | None:
    """The threshold on this very figure; for a rate also that on its mean."""
    statistics_of = {metric.statistic, "mean"} if metric.higher_is_better else {metric.statistic}
    if metric.statistic == "run":
        statistics_of = {None}  # type: ignore[arg-type]
    for each in thresholds.objectives(document):
        if each.key == metric.key and each.statistic in statistics_of:
            return each
    return None


def with_changes(series: Sequence[Series], margin: float) -> list[Series]:
    """The same, with their changes; the error is shared by all series that are long enough."""
    tested = sum(each.is_tested for each in series)
    found = []
    for each in series:
        steps = (
            find_steps(
                [logarithm(point.value) for point in each.points],
                ERROR / tested,
                math.log1p(margin),
            )
            if each.is_tested
            else []
        )
        changes = [change_of(step, each) for step in steps]
        found.append(Series(each.document, each.metric, each.threshold, each.points, changes))
    return found


def change_of(step: Step, series: Series) -> Change:
    by = step.after - step.before
    worse = -by if series.metric.higher_is_better else by
    return Change(
        release=series.points[step.index].release,
        p=step.p,
        before=math.exp(step.before),
        after=math.exp(step.after),
        change=math.expm1(min(by, 700.0)),
        worsening=math.expm1(min(worse, 700.0)),
    )


def all_changes(history: History) -> Iterator[tuple[Series, Change]]:
    """In order of time, the most certain first within a release."""
    found = [(each, change) for each in history.series for change in each.changes]
    yield from sorted(found, key=lambda pair: (pair[1].release, pair[1].p))
