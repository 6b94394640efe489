"""Plots for the report's page, each of which answers one question. Needs matplotlib.

A picture is an SVG element without colours of its own: matplotlib draws in the placeholder colours
below, and these become CSS variables, so the same file suits light and dark screens and paper.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from livecheck.core.text import shorten
from livecheck.report import server_load
from livecheck.report.baseline import Finding
from livecheck.report.result_files import ResultFile, has_own_work, is_number, short_name
from livecheck.report.verdict import Comparison, Report
from livecheck.report.words import change_label, margin_text, percent
from livecheck.wire.engine_metrics import CACHE, RUNNING, WAITING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Records = Sequence[Mapping[str, Any]]
Plot = Callable[["Axes"], None]

WIDTH_IN, HEIGHT_IN = 4.8, 3.0  # 346 x 216 units: still legible on a telephone
ROW_IN = 0.2  # of a picture with many rows
BAR_IN = 0.3  # of a picture with few
FRAME_IN = 0.8  # the axis below the rows, and its label
FONT_SIZE = 8.5
MAX_BARS = 40
MAX_STEPS = 2000  # of a stream; nobody sees more
MAX_CHANGES = 30
SECONDS_FROM_MS = 2000  # longer times are drawn in seconds
HEADROOM = 1.05  # a marker at the edge would be cut
REACH = 3  # times the largest change: wider intervals leave the picture at its sides

# Placeholders for the variables of the page's style sheet; these colours appear nowhere else.
NAMES = "ink muted grid good bad open series-1 series-2 series-3 series-4".split()
VARIABLES = {f"#0101{number:02}": name for number, name in enumerate(NAMES)}
INK, MUTED, GRID, GOOD, BAD, OPEN, *SERIES = VARIABLES
STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: it can be searched, and read aloud
    "text.parse_math": False,  # a dollar sign in a runner's name is no formula
    "font.size": FONT_SIZE,
    "font.family": "sans-serif",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GRID,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": FONT_SIZE - 0.5,
    "legend.handlelength": 1.6,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
}


@dataclass(frozen=True)
class Picture:
    """One plot: the question it answers, how to read it, and the SVG element."""

    question: str
    caption: str
    svg: str


def pictures(report: Report) -> list[Picture]:
    """All that the results have the figures for, in the order of the guide's steps."""
    find = report.folder.find
    return [
        *comparison_pictures(report.comparison),
        *level_pictures(report),
        *cold_start_pictures(find("scale_to_zero")),
        *share_pictures(find("workload_routing")),
        *wake_pictures(find("wol")),
    ]


# --- drawing


def draw(question: str, caption: str, plot: Plot, height_in: float = HEIGHT_IN) -> Picture:
    """A picture from a function that fills the axes."""
    # it warns while it builds its font cache, which does not concern the reader
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**STYLE, "svg.hashsalt": question}):
        figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        axes.grid(visible=True)
        plot(axes)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return Picture(question, caption, themed(text.getvalue(), question))


def themed(svg: str, question: str) -> str:
    """The SVG element alone, its colours as variables, its ids unlike those of other pictures."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for size in ("height", "width"):
        svg = re.sub(rf'(<svg[^>]*?) {size}="[^"]*"', r"\1", svg, count=1)
    own = re.sub(r"\W+", "-", question.lower())
    svg = re.sub(r'id="([^"]+)"', rf'id="{own}-\1"', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\1{own}-", svg)
    for colour, name in VARIABLES.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg


def label_rows(axes: Axes, labels: Sequence[str]) -> None:
    """One label for each row, from top to bottom, and no grid between them."""
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(axis="y", labelcolor=INK)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")


def height_of(bars: int) -> float:
    return FRAME_IN + BAR_IN * max(3, bars)


def numbers(records: Records, key: str) -> list[float]:
    return [record[key] for record in records if is_number(record.get(key))]


# --- the baseline


def comparison_pictures(comparison: Comparison | None) -> Iterator[Picture]:
    if comparison is None or not comparison.changes:
        return
    changes = comparison.changes[:MAX_CHANGES]
    colours = {Finding.WORSE: BAD, Finding.BETTER: GOOD, Finding.SAME: MUTED, Finding.UNCLEAR: OPEN}
    colours[Finding.SESSION] = OPEN
    reach = 100 * REACH * max(comparison.margin, *(abs(each.change) for each in changes))

    def plot(axes: Axes) -> None:
        for row, change in enumerate(changes):
            colour = colours[change.finding]
            # on a side that is not bounded the line ends at the point
            low = change.change if change.low is None else change.low
            high = change.change if change.high is None else change.high
            axes.plot([low * 100, high * 100], [row, row], color=colour, linewidth=2)
            axes.plot(change.change * 100, row, color=colour, marker="o")
        axes.axvline(0, color=INK, linewidth=0.8)
        label_rows(axes, [change_label(each) for each in changes])
        left, right = axes.get_xlim()
        axes.set_xlim(max(left, -reach), min(right, reach))
        axes.set_xlabel("change against the baseline [%]")

    worst = changes[0]
    caption = (
        f"Point: the change; line: its 95 % interval. First row: {change_label(worst)}, "
        f"{percent(worst.change)}. Red: worse by more than {margin_text(comparison.margin)}; "
        "green: better; grey: the same; violet: not enough data or "
        "sessions. For a rate, more is better."
    )
    height_in = FRAME_IN + ROW_IN * len(changes)
    yield draw("What changed since the baseline?", caption, plot, height_in)


# --- the levels


def level_pictures(report: Report) -> Iterator[Picture]:
    levels = [each for each in report.folder.levels if each.metrics and each.succeeded]
    if not levels:
        return
    for key, what in (("ttft_ms", "the first token"), ("e2e_ms", "the whole answer")):
        yield distribution(report, spread_out(levels), key, what)
    usual = [each for each in levels if not has_own_work(each.name)]
    closed = [each for each in usual if each.name.startswith("inference_c")]
    if len(closed) > 1:
        yield from pictures_by_level(closed)
    yield arrivals(levels)
    yield from server_pictures(levels)


def server_pictures(levels: Sequence[ResultFile]) -> Iterator[Picture]:
    """What the server said of itself, over the time of the highest level in which it was read."""
    read = [each for each in levels if len(server_load.samples(each, RUNNING)) > 1]
    if not read:
        return
    level = read[-1]
    lines = {
        "ours in flight": server_load.in_flight(level),
        "running": server_load.samples(level, RUNNING),
        "waiting": server_load.samples(level, WAITING),
    }
    cache = server_load.samples(level, CACHE)

    def plot(axes: Axes) -> None:
        for (name, points), colour in zip(lines.items(), (MUTED, *SERIES), strict=False):
            if points:
                at_s, counts = zip(*points, strict=True)
                axes.step(at_s, counts, where="post", color=colour, label=name, linewidth=1.2)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("seconds since the level began")
        axes.set_ylabel("requests")
        if cache:
            right = axes.twinx()
            at_s, shares = zip(*cache, strict=True)
            percent_full = [100 * share for share in shares]
            right.plot(at_s, percent_full, color=SERIES[2], linestyle=":", label="cache")
            right.set_ylim(0, 100)
            right.set_ylabel("cache in use [%], dotted")
        axes.legend()

    caption = (
        f"{short_name(level.name)}: our requests in flight, and those that the server says it runs "
        "and keeps waiting, read once a second. What is ours and neither runs nor waits there is "
        "in front of it: at a gateway, or on its way."
    )
    yield draw("What did the server say meanwhile?", caption, plot)


def spread_out(levels: Sequence[ResultFile]) -> list[ResultFile]:
    """At most as many levels as there are colours, the lowest and the highest among them."""
    if len(levels) <= len(SERIES):
        return list(levels)
    step = (len(levels) - 1) / (len(SERIES) - 1)
    return [levels[round(index * step)] for index in range(len(SERIES))]


def distribution(report: Report, levels: Sequence[ResultFile], key: str, what: str) -> Picture:
    """The empirical distribution function of a time, for each level, and the baseline's."""
    folders = report.comparison.folders if report.comparison else []
    lines = []  # values, colour, style
    for level, colour in zip(levels, SERIES, strict=False):
        now = {"label": short_name(level.name)}
        lines.append((numbers(level.succeeded, key), colour, now))
        for old in filter(None, (folder.find(level.name) for folder in folders)):
            lines.append((numbers(old.succeeded, key), colour, {"linestyle": ":"}))
    longest = max((max(values) for values, _, _ in lines if values), default=0.0)
    unit, scale = ("s", 1e3) if longest >= SECONDS_FROM_MS else ("ms", 1.0)

    def plot(axes: Axes) -> None:
        for values, colour, style in lines:
            if values:
                axes.ecdf([value / scale for value in values], color=colour, **style)  # type: ignore[arg-type]
        axes.set_xlabel(f"{key.removesuffix('_ms').upper()} [{unit}]")
        axes.set_ylabel("share of the requests")
        axes.legend()

    dotted = " Dotted: the baseline." if len(lines) > len(levels) else ""
    caption = f"Read across at 0.5 for the median, at 0.95 for the p95.{dotted}"
    return draw(f"How long until {what}?", caption, plot)


def pictures_by_level(levels: Sequence[ResultFile]) -> Iterator[Picture]:
    """The wait for the first token and the throughput, over the number of requests in flight."""
    names, metrics = ("p50", "p95"), [each.metrics for each in levels]
    waits = {name: [each["ttft_ms"].get(name) for each in metrics] for name in names}
    caption = "Flat up to the number of slots; beyond it requests wait for one another."
    plot = by_level(levels, waits, "TTFT [ms]")
    yield draw("What do more users do to the first token?", caption, plot)
    rates = {
        "all together": [each.get("output_tokens_per_s") for each in metrics],
        "each request": [each["tokens_per_s"].get("mean") for each in metrics],
    }
    caption = "Where the upper line stops rising, the machine is full."
    plot = by_level(levels, rates, "tokens per second")
    yield draw("How many tokens per second does it generate?", caption, plot)


def by_level(
    levels: Sequence[ResultFile], series: Mapping[str, Sequence[float | None]], label: str
) -> Plot:
    """Lines over the number of requests in flight."""
    at = [each.metrics["concurrency"] for each in levels]

    def plot(axes: Axes) -> None:
        for (name, values), colour, marker in zip(series.items(), SERIES, "os", strict=False):
            axes.plot(at, values, color=colour, marker=marker, label=name)  # type: ignore[arg-type]
        axes.set_ylim(0, axes.get_ylim()[1] * HEADROOM)
        axes.set_xticks(at, [f"{each:g}" for each in at])
        axes.set_xlabel("requests in flight")
        axes.set_ylabel(label)
        axes.legend()

    return plot


def arrivals(levels: Sequence[ResultFile]) -> Picture:
    """Output events over time, of a few requests of the lowest and the highest level."""
    shown = [levels[0], levels[-1]] if len(levels) > 1 else levels

    def plot(axes: Axes) -> None:
        for level, colour in zip(shown, SERIES, strict=False):
            for index, record in enumerate(level.streams):
                every = 1 + len(record["event_ms"]) // MAX_STEPS
                times = [time / 1e3 for time in record["event_ms"][::every]]
                label = short_name(level.name) if index == 0 else None
                steps = range(1, every * len(times) + 1, every)
                axes.step(times, steps, where="post", color=colour, linewidth=1.2, label=label)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("seconds since the request was sent")
        axes.set_ylabel("output events")
        axes.legend(loc="lower right")

    caption = (
        "Of the lowest and the highest level the requests with the shortest, the median and the "
        "longest TTFT. A steep, even stair is a steady stream; a long step is a stall."
    )
    return draw("Do the tokens come steadily?", caption, plot)


# --- cold start and wake


def cold_start_pictures(file: ResultFile | None) -> Iterator[Picture]:
    metrics = file.metrics if file else {}
    phases, total_s = metrics.get("cold_start"), metrics.get("cold_start_s")
    if isinstance(phases, Mapping) and is_number(total_s):
        worker_s, byte_s = (in_seconds(phases.get(key)) for key in ("worker_ms", "first_byte_ms"))
        marks = {"a worker is there": worker_s, "first byte": byte_s, "first token": total_s}
        warm_s = in_seconds(metrics.get("warm_ttft_ms"))
        yield phase_picture("How long does a cold start take?", marks, warm_s)


def wake_pictures(file: ResultFile | None) -> Iterator[Picture]:
    metrics = file.metrics if file else {}
    total = metrics.get("first_output_s")
    if metrics.get("asleep_before") is not True or not is_number(total):
        return
    marks = {
        "magic packet heard": metrics.get("packet_s"),
        "runner online": metrics.get("runner_online_s"),
        "first token": total,
    }
    warm_s = metrics.get("warm_first_output_s")
    yield phase_picture("How long does it take to wake a runner?", marks, warm_s)


def in_seconds(value_ms: object) -> float | None:
    return value_ms / 1e3 if is_number(value_ms) else None


def phase_picture(question: str, marks: Mapping[str, object], warm_s: object) -> Picture:
    """The way from a request to its first token, a bar for each phase that was seen."""
    seen = [(name, at) for name, at in marks.items() if is_number(at)]
    bars = []  # label, begin and end in seconds, colour
    last, begin_s = "the request", 0.0
    for name, at in sorted(seen, key=lambda each: each[1]):
        bars.append((f"{last} → {name}", begin_s, at, SERIES[0]))
        last, begin_s = name, at
    caption = "Each phase begins where the one above it ends."
    if is_number(warm_s):
        bars.append(("when it is warm", 0.0, warm_s, SERIES[1]))
        caption += " The last bar is a request to a deployment that is awake."

    def plot(axes: Axes) -> None:
        for row, (_, begin, end, colour) in enumerate(bars):
            axes.barh(row, end - begin, left=begin, height=0.6, color=colour)
            axes.annotate(f" {end - begin:.2f} s", (end, row), va="center", color=INK)
        label_rows(axes, [label for label, *_ in bars])
        axes.set_xlim(0, 1.2 * max(end for _, _, end, _ in bars))
        axes.set_xlabel("seconds since the request was sent")

    return draw(question, caption, plot, height_of(len(bars)))


# --- the fleet's shares


def share_pictures(file: ResultFile | None) -> Iterator[Picture]:
    saved = file.metrics.get("runners") if file else None
    rows = [e for e in saved if isinstance(e, Mapping)] if isinstance(saved, list) else []
    runners = [each for each in rows if is_number(each.get("share"))][:MAX_BARS]
    if len(runners) < 2:
        return

    def plot(axes: Axes) -> None:
        for row, runner in enumerate(runners):
            low, high = (runner.get(name) for name in ("share_low", "share_high"))
            axes.barh(row, 100 * runner["share"], height=0.6, color=SERIES[0])
            if is_number(low) and is_number(high):
                axes.plot([100 * low, 100 * high], [row, row], color=INK, linewidth=1)
        label_rows(axes, [shorten(str(each.get("runner", "?")), 24) for each in runners])
        axes.set_xlim(0, 100)
        axes.set_xlabel("share of the requests [%]")

    caption = "The thin line is the 95 % interval of the share. Equal shares are not promised."
    yield draw("Which runner served?", caption, plot, height_of(len(runners)))
