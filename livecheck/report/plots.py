"""Plots for the report's page, each of which answers one question. Needs matplotlib.

A picture is SVG text without fixed colours: what matplotlib draws in the colours of INK becomes
CSS variables, so that the same file suits light and dark screens and paper.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from livecheck.core.text import shorten
from livecheck.report.baseline import Change, Finding
from livecheck.report.result_files import LEVEL, Saved, is_number, short_name
from livecheck.report.text import change_label
from livecheck.report.verdict import Report, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Rows = Sequence[Mapping[str, Any]]

WIDTH_IN, HEIGHT_IN = 4.8, 3.0  # 346 x 216 units: still legible on a telephone
ROW_IN = 0.2  # of a picture that has a row for each thing
FONT_SIZE = 8.5
MOST_SERIES = 4
MOST_STREAMS = 3  # of a level: the fastest to begin, the median, the slowest
MOST_BARS = 40
MOST_CHANGES = 30
HEADROOM = 1.05  # a marker at the edge would be cut

# Colours that stand for a variable of the page's style sheet, and appear nowhere else.
INK, MUTED, GRID = "#010101", "#010102", "#010103"
SERIES = ("#010111", "#010112", "#010113", "#010114")
GOOD, BAD, OPEN = "#010121", "#010122", "#010123"
VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    **{colour: f"series-{index}" for index, colour in enumerate(SERIES, 1)},
    GOOD: "good",
    BAD: "bad",
    OPEN: "open",
}


@dataclass(frozen=True)
class Picture:
    """One plot: the question it answers, how to read it, and the SVG element."""

    question: str
    caption: str
    svg: str


def pictures(report: Report) -> list[Picture]:
    """All that the results have the figures for, in the order of the guide's steps."""
    drawn = (
        *baseline_pictures(report),
        *level_pictures(report),
        *queue_pictures(report.folder.find("queue_behavior")),
        *cold_start_pictures(report.folder.find("scale_to_zero")),
        *share_pictures(report.folder.find("workload_routing")),
        *wake_pictures(report.folder.find("wol")),
    )
    return list(drawn)


# --- drawing


def draw(
    question: str, caption: str, plot: Callable[[Axes], None], height_in: float = HEIGHT_IN
) -> Picture:
    """A picture from a function that fills the axes."""
    logging.getLogger("matplotlib").setLevel(
        logging.ERROR
    )  # it is building its font cache: so what
    import matplotlib
    from matplotlib.figure import Figure

    style: Any = {
        "svg.fonttype": "none",  # text stays text: it can be searched, and read aloud
        "svg.hashsalt": question,
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
        "lines.linewidth": 1.6,
    }
    with matplotlib.rc_context(style):
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
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    own = re.sub(r"\W+", "-", question.lower())
    svg = re.sub(r'id="([^"]+)"', rf'id="{own}-\1"', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\1{own}-", svg)
    for colour, name in VARIABLES.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg


def legend(axes: Axes, **where: Any) -> None:
    axes.legend(**{"fontsize": FONT_SIZE - 0.5, "handlelength": 1.6, **where})


def in_seconds(values_ms: Sequence[float]) -> tuple[list[float], str]:
    """Times in the unit that suits the largest of them."""
    if max(values_ms, default=0.0) >= 2000:
        return [value / 1e3 for value in values_ms], "s"
    return list(values_ms), "ms"


def numbers(rows: Rows, key: str) -> list[float]:
    return [row[key] for row in rows if is_number(row.get(key))]


def rows_of(value: object) -> list[Mapping[str, Any]]:
    """The objects in a list that another script saved; [] for anything else."""
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


# --- the levels


def level_pictures(report: Report) -> Iterator[Picture]:
    levels = [each for each in report.folder.levels if each.succeeded]
    if not levels:
        return
    for key, what in (("ttft_ms", "the first token"), ("e2e_ms", "the whole answer")):
        yield distribution(report, spread_out(levels), key, what)
    closed = [each for each in levels if each.name.startswith("inference_c")]
    if len(closed) > 1:
        yield latency_by_level(closed)
        yield throughput_by_level(closed)
    yield arrivals(levels)


def spread_out(levels: Sequence[Saved]) -> list[Saved]:
    """At most as many levels as there are colours, the lowest and the highest among them."""
    if len(levels) <= MOST_SERIES:
        return list(levels)
    step = (len(levels) - 1) / (MOST_SERIES - 1)
    return [levels[round(index * step)] for index in range(MOST_SERIES)]


def distribution(report: Report, levels: Sequence[Saved], key: str, what: str) -> Picture:
    """The empirical distribution function of a time, for each level, and the baseline's."""
    before = report.comparison.folders if report.comparison else []
    old = {
        level.name: [found for each in before if (found := each.find(level.name))]
        for level in levels
    }
    every = [numbers(each.succeeded, key) for each in (*levels, *sum(old.values(), []))]
    _, unit = in_seconds([value for values in every for value in values])
    scale = 1e3 if unit == "s" else 1.0

    def plot(axes: Axes) -> None:
        for level, colour in zip(levels, SERIES, strict=False):
            label = short_name(level.name)
            for values, style in (
                (numbers(level.succeeded, key), {"label": label}),
                *((numbers(each.succeeded, key), {"linestyle": ":"}) for each in old[level.name]),
            ):
                if values:
                    axes.ecdf([value / scale for value in values], color=colour, **style)  # type: ignore[arg-type]
        axes.set_xlabel(f"{key.removesuffix('_ms').upper()} [{unit}]")
        axes.set_ylabel("share of the requests")
        legend(axes, loc="best")

    dotted = " Dotted: the baseline." if any(old.values()) else ""
    caption = f"Read across at 0.5 for the median, at 0.95 for the p95.{dotted}"
    return draw(f"How long until {what}?", caption, plot)


def level_of(document: Saved) -> float:
    match = LEVEL.fullmatch(document.name)
    return float(match[2]) if match else 0.0


def latency_by_level(levels: Sequence[Saved]) -> Picture:
    at = [level_of(each) for each in levels]

    def plot(axes: Axes) -> None:
        for name, colour, marker in (("p50", SERIES[0], "o"), ("p95", SERIES[1], "s")):
            values = [statistic(each, "ttft_ms", name) for each in levels]
            axes.plot(at, values, color=colour, marker=marker, markersize=4, label=name)  # type: ignore[arg-type]
        axes.set_ylim(0, axes.get_ylim()[1] * HEADROOM)
        axes.set_xticks(at, [f"{each:g}" for each in at])
        axes.set_xlabel("requests in flight")
        axes.set_ylabel("TTFT [ms]")
        legend(axes)

    caption = "Flat up to the number of slots; beyond it requests wait for one another."
    return draw("What do more users do to the first token?", caption, plot)


def throughput_by_level(levels: Sequence[Saved]) -> Picture:
    at = [level_of(each) for each in levels]

    def plot(axes: Axes) -> None:
        together = [each.metrics.get("output_tokens_per_s") for each in levels]
        each_one = [statistic(each, "tokens_per_s", "mean") for each in levels]
        axes.plot(at, together, color=SERIES[0], marker="o", markersize=4, label="all together")  # type: ignore[arg-type]
        axes.plot(at, each_one, color=SERIES[1], marker="s", markersize=4, label="each request")  # type: ignore[arg-type]
        axes.set_ylim(bottom=0)
        axes.set_xticks(at, [f"{each:g}" for each in at])
        axes.set_xlabel("requests in flight")
        axes.set_ylabel("tokens per second")
        legend(axes)

    caption = "Where the upper line stops rising, the machine is full."
    return draw("How much does it do at once?", caption, plot)


def statistic(document: Saved, key: str, name: str) -> float | None:
    summary = document.metrics.get(key)
    return summary.get(name) if isinstance(summary, Mapping) else None


def arrivals(levels: Sequence[Saved]) -> Picture:
    """Output events over time, of a few requests of the lowest and the highest level."""
    shown = [levels[0], *levels[1:][-1:]]

    def plot(axes: Axes) -> None:
        for level, colour in zip(shown, SERIES, strict=False):
            for index, record in enumerate(typical(level.succeeded)):
                times = [time / 1e3 for time in record["event_ms"]]
                label = short_name(level.name) if index == 0 else None
                axes.step(
                    times,
                    range(1, len(times) + 1),
                    where="post",
                    color=colour,
                    linewidth=1.2,
                    label=label,
                )
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("seconds since the request was sent")
        axes.set_ylabel("output events")
        legend(axes, loc="lower right")

    caption = (
        "Of the lowest and the highest level the request that began first, the middle one and the "
        "last. A steep, even stair is a steady stream; a long tread is a stall."
    )
    return draw("Do the tokens come steadily?", caption, plot)


def typical(records: Rows) -> list[Mapping[str, Any]]:
    """The record with the shortest TTFT, the median one and the longest."""
    ordered = sorted(
        (each for each in records if each.get("event_ms") and is_number(each.get("ttft_ms"))),
        key=lambda record: record["ttft_ms"],
    )
    if len(ordered) <= MOST_STREAMS:
        return ordered
    return [ordered[0], ordered[len(ordered) // 2], ordered[-1]]


# --- the baseline


def baseline_pictures(report: Report) -> Iterator[Picture]:
    changes = report.comparison.changes[:MOST_CHANGES] if report.comparison else []
    if not changes or report.comparison is None:
        return
    colours = {Finding.WORSE: BAD, Finding.BETTER: GOOD, Finding.SAME: MUTED, Finding.UNCLEAR: OPEN}

    def plot(axes: Axes) -> None:
        for row, change in enumerate(changes):
            colour = colours[change.finding]
            low, high = ends(change)
            axes.plot([low * 100, high * 100], [row, row], color=colour, linewidth=2)
            axes.plot(change.change * 100, row, color=colour, marker="o", markersize=4)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_yticks(range(len(changes)), [change_label(each) for each in changes])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("change against the baseline [%]")

    worst, margin = changes[0], report.comparison.margin
    caption = (
        f"Point: the change; line: its 95 % interval. First {change_label(worst)}: "
        f"{percent(worst.change)}. Red: worse by at least {margin:.0%}; green: better; grey: the "
        "same; violet: not enough data. Of a rate, more is better."
    )
    height_in = 0.8 + ROW_IN * len(changes)
    yield draw("What changed since the baseline?", caption, plot, height_in)


def ends(change: Change) -> tuple[float, float]:
    """The interval, drawn to where the point is on a side that is not bounded."""
    low = change.change if change.low is None else change.low
    high = change.change if change.high is None else change.high
    return low, high


# --- the queue


def queue_pictures(document: Saved | None) -> Iterator[Picture]:
    burst = [each for each in document.requests if each.get("step") == "burst"] if document else []
    burst = [r for r in burst if is_number(r.get("sent_ms")) and is_number(r.get("ended_ms"))]
    if not burst:
        return
    begun_ms = min(record["sent_ms"] for record in burst)
    burst = sorted(burst, key=lambda r: (r.get("status") != 200, r["ended_ms"]))[:MOST_BARS]

    def plot(axes: Axes) -> None:
        for row, record in enumerate(burst):
            queue_bar(axes, row, record, begun_ms)
        axes.set_yticks(range(len(burst)), [queue_label(each) for each in burst])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        last = max(axes.get_xlim()[1], 1e-3)
        axes.set_xlim(-0.02 * last, last)  # the cross of a refusal at once is as wide
        axes.set_xlabel("seconds since the burst")

    caption = (
        "A bar for each request: pale until its first token (queue and prefill), full while tokens "
        "come; a cross is a refusal, which should be at the very left."
    )
    yield draw("Who waited, who was refused?", caption, plot, 0.9 + ROW_IN * max(4, len(burst)))


def queue_bar(axes: Axes, row: int, record: Mapping[str, Any], begun_ms: float) -> None:
    sent, ended = (record["sent_ms"] - begun_ms) / 1e3, (record["ended_ms"] - begun_ms) / 1e3
    if record.get("status") != 200:
        axes.plot(ended, row, color=BAD, marker="x", markersize=5)
        return
    ttft_ms = record.get("ttft_ms")
    first = sent + ttft_ms / 1e3 if is_number(ttft_ms) else ended
    axes.barh(row, first - sent, left=sent, height=0.6, color=SERIES[0], alpha=0.3)
    axes.barh(row, ended - first, left=first, height=0.6, color=SERIES[0])


def queue_label(record: Mapping[str, Any]) -> str:
    return shorten(str(record.get("status") or record.get("error") or "-"), 12)


# --- cold start and wake


def cold_start_pictures(document: Saved | None) -> Iterator[Picture]:
    metrics = document.metrics if document else {}
    total, phases = metrics.get("cold_start_s"), metrics.get("cold_start")
    if not (is_number(total) and isinstance(phases, Mapping)):
        return
    marks = [
        ("a worker is there", seconds_of(phases.get("worker_ms"))),
        ("first byte", seconds_of(phases.get("first_byte_ms"))),
        ("first token", total),
    ]
    warm = seconds_of(metrics.get("warm_ttft_ms"))
    yield phase_picture("How long does a cold start take?", "the request", marks, warm)


def wake_pictures(document: Saved | None) -> Iterator[Picture]:
    metrics = document.metrics if document else {}
    total = metrics.get("first_output_s")
    if metrics.get("asleep_before") is not True or not is_number(total):
        return
    marks = [
        ("magic packet heard", metrics.get("packet_s")),
        ("runner online", metrics.get("runner_online_s")),
        ("first token", total),
    ]
    warm = metrics.get("warm_first_output_s")
    yield phase_picture("How long does it take to wake a runner?", "the request", marks, warm)


def seconds_of(value_ms: object) -> float | None:
    return value_ms / 1e3 if is_number(value_ms) else None


def phase_picture(
    question: str, start: str, marks: Sequence[tuple[str, Any]], warm_s: object
) -> Picture:
    """The way from a request to its first token, a bar for each phase that was seen."""
    seen = sorted(((name, at) for name, at in marks if is_number(at)), key=lambda each: each[1])
    rows = []
    before, begun = 0.0, start
    for name, at in seen:
        rows.append((f"{begun} → {name}", before, at))
        before, begun = at, name
    if is_number(warm_s):
        rows.append(("when it is warm", 0.0, warm_s))

    def plot(axes: Axes) -> None:
        end = max(at for _, _, at in rows)
        for row, (name, left, right) in enumerate(rows):
            colour = SERIES[1] if name == "when it is warm" else SERIES[0]
            axes.barh(row, right - left, left=left, height=0.6, color=colour)
            axes.annotate(f" {right - left:.2f} s", (right, row), va="center", color=INK)
        axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_xlim(0, end * 1.2)
        axes.set_xlabel("seconds since the request was sent")

    caption = "Each phase begins where the one above it ends."
    if is_number(warm_s):
        caption += " The last bar is a request that waits for nobody."
    return draw(question, caption, plot, 0.8 + 0.3 * max(3, len(rows)))


# --- the fleet's shares


def share_pictures(document: Saved | None) -> Iterator[Picture]:
    runners = rows_of(document.metrics.get("runners")) if document else []
    runners = [each for each in runners if is_number(each.get("share"))][:MOST_BARS]
    if len(runners) < 2:
        return

    def plot(axes: Axes) -> None:
        for row, runner in enumerate(runners):
            share = 100 * runner["share"]
            low, high = (runner.get(name) for name in ("share_low", "share_high"))
            axes.barh(row, share, height=0.6, color=SERIES[0])
            if is_number(low) and is_number(high):
                axes.plot([100 * low, 100 * high], [row, row], color=INK, linewidth=1)
        names = [shorten(str(each.get("runner", "?")), 24) for each in runners]
        axes.set_yticks(range(len(runners)), names)
        axes.tick_params(axis="y", labelcolor=INK)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_xlim(0, 100)
        axes.set_xlabel("share of the requests [%]")

    caption = "The thin line is the 95 % interval of the share. Equal shares are not promised."
    yield draw("Which runner served?", caption, plot, 0.8 + 0.3 * max(3, len(runners)))
