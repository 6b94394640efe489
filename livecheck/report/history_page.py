"""A history as a page: one file that opens offline, light or dark, and prints.

The plots are written here as SVG, without matplotlib: they are small, alike, and take their colours
from the style sheet. Each has a table with the same figures, for screen readers and for copying.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from itertools import pairwise

from livecheck.core.run import TOOL_VERSION
from livecheck.core.text import figure, plural, shorten
from livecheck.report import history_text, words
from livecheck.report.history import Change, History, Point, Release, Series, all_changes
from livecheck.report.html_parts import bullets, escape, fact_list, folded, page, section
from livecheck.report.page_style import STYLE

# In units of the SVG, of which a telephone shows 310 and a desktop 400.
WIDTH, HEIGHT = 360.0, 186.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 8.0, 36.0, 24.0
LABEL_ROWS, LABEL_HEIGHT, LABEL_WIDTH = 2, 15.0, 100.0  # of what is said about a change
MAX_LEFT_OUT = 100  # lines; more would be read by nobody
NEAR = 0.6  # a threshold within so many times the plotted range is drawn, and others are only named
ROOM = 0.12  # above and below the figures, as a share of their range
LEAST_RANGE = 0.1  # of the level: noise of 1 % must not fill the plot
HISTORY_STYLE = """
.grid-line { stroke: var(--grid); stroke-width: 1; } .axis { fill: var(--muted); font-size: 12px; }
.level { stroke: var(--ink); stroke-width: 1.2; opacity: .55; }
.noise { stroke: var(--series-1); stroke-width: 1.6; opacity: .55; }
.point { fill: var(--series-1); stroke: var(--series-1); stroke-width: 1.6; }
.point.failed { fill: var(--panel); }
.limit { stroke: var(--bad); stroke-width: 1.2; stroke-dasharray: 2 3; }
.limit-name { fill: var(--bad); font-size: 12px; }
.mark { stroke-width: 1.2; stroke-dasharray: 5 3; }
.mark-name { font-size: 13px; font-weight: 600; }
.mark.worse { stroke: var(--bad); } .mark-name.worse { fill: var(--bad); }
.mark.better { stroke: var(--good); } .mark-name.better { fill: var(--good); }
figure details { border: 0; font-size: .87rem; padding: .3rem 0 0; }
caption { text-align: left; color: var(--muted); font-size: .85rem; padding-bottom: .2rem; }
"""


def text(history: History) -> str:
    """The whole page."""
    title = f"History: {history.title}"
    return "\n".join(page(title, STYLE + HISTORY_STYLE, body(history))) + "\n"


def body(history: History) -> Iterator[str]:
    yield from header(history)
    yield from section("Changes", changes_table(history))
    yield from section("Figures", plots(history))
    yield from section("Releases", releases_table(history))
    yield from section("Left out", bullets(left_out(history)))
    yield from section("How to read this page", bullets(how_to_read(history)))


def header(history: History) -> Iterator[str]:
    first, last = history.releases[0], history.releases[-1]
    yield f"<header><h1>History: {escape(history.title)}</h1>"
    yield f'<p class="verdict muted"><span>{escape(history_text.summary(history))}</span></p>'
    now = datetime.now(timezone.utc)
    facts = {
        "Endpoint": ", ".join(history.urls),
        "Model": history.model or "not known",
        "First": history_text.release_words(first),
        "Last": history_text.release_words(last),
        "Report": f"{now:%Y-%m-%d %H:%M} UTC, version {TOOL_VERSION}",
    }
    yield from fact_list(facts)
    yield "</header>"


def left_out(history: History) -> list[str]:
    found = [str(each) for each in history.left_out]
    more = len(found) - MAX_LEFT_OUT
    return found[:MAX_LEFT_OUT] + ([f"and {plural(more, 'more')}"] if more > 0 else [])


def how_to_read(history: History) -> list[str]:
    return [
        *history_text.explanation(history),
        "Vertical line at a point: its interval. Horizontal line: the level between two changes. "
        "Dashed line with a percentage: the first release of a new level; dotted: the threshold. "
        "Hollow point: a release whose own verdict is not a pass.",
    ]


# --- tables


def table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table that scrolls by itself where it is too wide. The first column heads its row."""
    if not rows:
        return
    heads = "".join(f'<th scope="col">{escape(each)}</th>' for each in columns)
    yield f'<div class="wide" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
    yield f"<caption>{escape(caption)}</caption><thead><tr>{heads}</tr></thead><tbody>"
    for first, *others in rows:
        cells = "".join(f"<td{kind_of(each)}>{escape(each)}</td>" for each in others)
        yield f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>'
    yield "</tbody></table></div>"


def kind_of(cell: str) -> str:
    """The style of a cell that says better or worse."""
    kinds = {"better": ' class="good"', "worse": ' class="bad"'}
    return kinds.get(cell.rpartition(", ")[2], "")


def changes_table(history: History) -> Iterator[str]:
    rows = []
    for series, change in all_changes(history):
        release = history.releases[change.release]
        before, after = (f"{figure(e)} {series.metric.unit}" for e in (change.before, change.after))
        kind = "worse" if change.is_worse else "better"
        by = f"{words.percent(change.change)}, {kind}"
        rows.append((release.title, by, series.label, before, after, f"{change.p:.1g}"))
    columns = ("From", "Change", "Figure", "Before", "After", "p")
    caption = "The first release of each new level, in order of time"
    return table(caption, columns, rows)


def releases_table(history: History) -> Iterator[str]:
    rows = [
        (
            each.title,
            f"{each.started_at:%Y-%m-%d %H:%M}",
            each.verdict.upper(),
            str(len(each.folders)),
            ", ".join(each.folders),
        )
        for each in history.releases
    ]
    return table("In order of time", ("Release", "UTC", "Verdict", "Runs", "Folders"), rows)


def points_table(history: History, series: Series) -> Iterator[str]:
    news = {change.release for change in series.changes}
    rows = []
    for point in series.points:
        release = history.releases[point.release]
        rows.append(
            (
                release.title,
                f"{release.started_at:%Y-%m-%d}",
                figure(point.value),
                history_text.interval_words(point) + (", repeats" if point.of_repeats else ""),
                "new level" if point.release in news else "",
            )
        )
    unit = series.metric.unit
    columns = ("Release", "Date", unit, "Interval", "Change")
    return table(f"{series.label} in {unit}", columns, rows)


# --- plots


def plots(history: History) -> Iterator[str]:
    if not history.series:
        return
    yield '<div class="pictures">'
    for series in history.series:
        yield f"<figure><h3>{escape(f'{series.label} [{series.metric.unit}]')}</h3>"
        yield from plot(history, series)
        yield f"<figcaption>{escape(caption(history, series))}</figcaption>"
        yield from folded("Its figures", points_table(history, series))
        yield "</figure>"
    yield "</div>"


def caption(history: History, series: Series) -> str:
    unit, first, last = series.metric.unit, series.points[0], series.points[-1]
    said = f"{figure(first.value)} {unit} at first, {figure(last.value)} {unit} now."
    for change in series.changes:
        where = history.releases[change.release].title
        kind = "worse" if change.is_worse else "better"
        said += f" From {shorten(where, 40)} on {words.percent(change.change)}, {kind}."
    if series.threshold:
        bound = "at most" if series.threshold.upper else "at least"
        said += f" Threshold: {bound} {figure(series.threshold.limit)} {unit}."
    return said


class Scale:
    """From figures to positions. low, high: the figures at the bottom and at the top."""

    def __init__(self, series: Series):
        values = [point.value for point in series.points]
        ends = [e for p in series.points for e in (p.low, p.high) if e is not None]
        least, most = min(values), max(values)
        span = max(most - least, LEAST_RANGE * most, 1e-9)
        # an interval that is far wider than all figures would press them into a line
        low = max(min([least, *ends]), least - span)
        high = min(max([most, *ends]), most + span)
        limit = series.threshold.limit if series.threshold else None
        self.limit = limit if limit and low - NEAR * span <= limit <= high + NEAR * span else None
        if self.limit is not None:
            low, high = min(low, self.limit), max(high, self.limit)
        room = max(ROOM * (high - low), (span - (high - low)) / 2)
        self.low, self.high = max(0.0, low - room), high + room
        self.count = len(series.points)

    def y(self, value: float) -> float:
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def x(self, position: float) -> float:
        step = (WIDTH - LEFT - RIGHT - 16) / max(1, self.count - 1)
        return LEFT + 8 + position * step


def plot(history: History, series: Series) -> Iterator[str]:
    scale = Scale(series)
    label = escape(f"{series.label}. {caption(history, series)}")
    yield f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{label}">'
    yield from grid(scale)
    yield from dates(history, series, scale)
    yield from limit_line(scale)
    yield from levels(series, scale)
    yield from marks(series, scale)
    for position, point in enumerate(series.points):
        yield from dot(history.releases[point.release], point, position, series, scale)
    yield "</svg>"


def line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def label_at(kind: str, x: float, y: float, anchor: str, words: str) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="{kind}" {place}>{escape(words)}</text>'


def grid(scale: Scale) -> Iterator[str]:
    for share in (0.0, 0.5, 1.0):
        value = scale.low + share * (scale.high - scale.low)
        y = scale.y(value)
        yield line("grid-line", LEFT, y, WIDTH - RIGHT, y)
        yield label_at("axis", LEFT - 5, y + 4, "end", figure(value))


def dates(history: History, series: Series, scale: Scale) -> Iterator[str]:
    for position, anchor in ((0, "start"), (len(series.points) - 1, "end")):
        release = history.releases[series.points[position].release]
        x = scale.x(position) + (-8 if anchor == "start" else 8)
        shown = f"{shorten(release.title, 12)} {release.started_at:%Y-%m-%d}"
        yield label_at("axis", x, HEIGHT - 7, anchor, shown)


def limit_line(scale: Scale) -> Iterator[str]:
    if scale.limit is not None:
        y = scale.y(scale.limit)
        yield line("limit", LEFT, y, WIDTH - RIGHT, y)
        yield label_at("limit-name", LEFT + 3, y - 4, "start", "threshold")


def levels(series: Series, scale: Scale) -> Iterator[str]:
    """A line at the mean of each part between two changes."""
    if not series.changes:
        return
    begins = [0, *(position_of(series, each) for each in series.changes)]
    means = [series.changes[0].before, *(each.after for each in series.changes)]
    for (begin, end), mean in zip(pairwise([*begins, scale.count]), means, strict=True):
        y = scale.y(mean)
        yield line("level", scale.x(begin) - 4, y, scale.x(end - 1) + 4, y)


def position_of(series: Series, change: Change) -> int:
    return next(i for i, each in enumerate(series.points) if each.release == change.release)


def marks(series: Series, scale: Scale) -> Iterator[str]:
    for index, change in enumerate(series.changes):
        kind = "worse" if change.is_worse else "better"
        x = scale.x(position_of(series, change) - 0.5)
        y = 12 + index % LABEL_ROWS * LABEL_HEIGHT  # two that are close to each other differ
        yield line(f"mark {kind}", x, y - 9, x, HEIGHT - BOTTOM)
        fits = x + LABEL_WIDTH < WIDTH
        anchor, beside = ("start", 4.0) if fits else ("end", -4.0)
        shown = f"{words.percent(change.change)} {kind}"
        yield label_at(f"mark-name {kind}", x + beside, y, anchor, shown)


def dot(
    release: Release, point: Point, position: int, series: Series, scale: Scale
) -> Iterator[str]:
    x, y = scale.x(position), scale.y(point.value)
    interval = history_text.interval_words(point)
    said = f"{history_text.release_words(release)}: {figure(point.value)} {series.metric.unit}"
    yield f"<g><title>{escape(f'{said} ({interval})')}</title>"
    if point.low is not None or point.high is not None:
        low, high = (scale.y(y_or(end, point)) for end in (point.low, point.high))
        yield line("noise", x, low, x, high)
    kind = "point" if release.verdict == "pass" else "point failed"
    yield f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
    yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="9" fill="none" pointer-events="all"/></g>'


def y_or(end: float | None, point: Point) -> float:
    """An end of an interval; on a side that is not bounded the line ends at the point."""
    return point.value if end is None else end
