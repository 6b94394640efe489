"""A history as text, as Markdown and as JSON, and the words that its page shares with them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from livecheck.core.result_file import SCHEMA_VERSION
from livecheck.core.run import TOOL_VERSION
from livecheck.core.text import figure, plural
from livecheck.report import markdown, text, words
from livecheck.report.change_points import MIN_VALUES
from livecheck.report.history import Change, History, Point, Release, Series, all_changes
from livecheck.report.result_files import REPORT

MAX_NAMED = 5  # releases in a line


def summary(history: History) -> str:
    """How many releases, how many changes, and where, in a line."""
    count = sum(len(each.changes) for each in history.series)
    releases = plural(len(history.releases), "release")
    if not any(each.is_tested for each in history.series):
        return f"{releases}: changes are looked for from {MIN_VALUES} releases on"
    if not count:
        return f"{releases}: no figure changes its level"
    places = sorted({change.release for _, change in all_changes(history)})
    named = ", ".join(history.releases[each].title for each in places[:MAX_NAMED])
    more = " and later" if len(places) > MAX_NAMED else ""
    return f"{releases}: {plural(count, 'change')} of a level, from {named}{more} on"


def explanation(history: History) -> list[str]:
    """How to read it."""
    found = [
        "Each point is a release: its figure, and the 95 % interval of the noise within the run; "
        "for several repeats of a session their mean and their range.",
        "A change is a lasting step between two levels, of at least "
        f"{words.margin_text(history.margin)}, that would come by chance in one of 20 histories. "
        "A single release that is unlike the others is not one.",
    ]
    if short := sum(not each.is_tested for each in history.series):
        found.append(f"{plural(short, 'figure')} with fewer than {MIN_VALUES} releases: no test.")
    return found


def change_words(series: Series, change: Change) -> str:
    """A change without its release: `c=1 TTFT p50: 101.2 → 121.9 ms, +20.4 %, worse`."""
    unit, kind = series.metric.unit, "worse" if change.is_worse else "better"
    levels = f"{figure(change.before)} → {figure(change.after)} {unit}"
    return f"{series.label}: {levels}, {words.percent(change.change)}, {kind}"


def release_words(release: Release) -> str:
    return f"{release.title} ({release.started_at:%Y-%m-%d})"


def interval_words(point: Point) -> str:
    if point.low is None and point.high is None:
        return "-"
    ends = ("?" if each is None else figure(each) for each in (point.low, point.high))
    return " to ".join(ends)


def threshold_words(series: Series) -> str:
    return str(series.threshold) if series.threshold else "none"


# --- text and Markdown


def lines(history: History) -> Iterator[str]:
    """For a terminal, in 80 columns."""
    yield from text.wrapped(f"{history.title}, {', '.join(history.urls)}")
    yield from text.wrapped(summary(history))
    yield from ("", "Releases")
    for each in history.releases:
        yield from text.wrapped(f"{release_line(each)}", "  ", text.DETAIL)
    yield from ("", f"{'Figures':28}{'first':>10}{'last':>10}{'lowest':>10}{'highest':>10}  unit")
    for series in history.series:
        yield from rows(series)
    yield from ("", "Changes")
    for series, change in all_changes(history):
        where = history.releases[change.release].title
        yield from text.wrapped(f"from {where} on, {change_words(series, change)}", "  ", "      ")
    if not any(each.changes for each in history.series):
        yield "  none"
    for said in (*explanation(history), *map(str, history.left_out)):
        is_left_out = said not in explanation(history)
        yield from text.wrapped(f"{'left out' if is_left_out else 'note'}: {said}", "", text.DETAIL)


def release_line(release: Release) -> str:
    runs = f", {plural(len(release.folders), 'repeat')}" if len(release.folders) > 1 else ""
    time = f"{release.started_at:%Y-%m-%d %H:%M} UTC"
    return f"{time}  {release.verdict.upper()}  {release.title}{runs}"


def rows(series: Series) -> Iterator[str]:
    values = [point.value for point in series.points]
    cells = (values[0], values[-1], min(values), max(values))
    shown = "".join(f"{figure(each):>10}" for each in cells)
    of_row = f"{shown}  {series.metric.unit}"
    return (f"  {line}" for line in text.labelled(series.label, 26, of_row))


def markdown_text(history: History) -> str:
    return "\n".join(markdown_lines(history)) + "\n"


def markdown_lines(history: History) -> Iterator[str]:
    yield f"## Performance History — {markdown.escape(history.title)}"
    yield ""
    yield markdown.escape(summary(history))
    yield ""
    for series, change in all_changes(history):
        where = release_words(history.releases[change.release])
        yield markdown.item(f"from {where} on, {change_words(series, change)}")
    yield ""
    yield from markdown.table([cells(history, each) for each in history.series])
    yield ""
    yield from map(markdown.item, explanation(history))
    yield from map(markdown.item, (f"left out: {each}" for each in history.left_out))


def cells(history: History, series: Series) -> dict[str, str]:
    first, last = series.points[0], series.points[-1]
    unit = series.metric.unit
    return {
        "Figure": series.label,
        "First": f"{figure(first.value)} {unit}",
        "Last": f"{figure(last.value)} {unit}",
        "Interval": interval_words(last),
        "Threshold": threshold_words(series),
        "Changes": ", ".join(history.releases[each.release].title for each in series.changes),
    }


# --- JSON


def as_dict(history: History) -> dict[str, Any]:
    """One document; `release` is a position in `releases`."""
    content: dict[str, Any] = words.shown_within(raw_dict(history))
    return content


def raw_dict(history: History) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "script": REPORT,
        "tool_version": TOOL_VERSION,
        "kind": "history",
        "title": history.title,
        "urls": history.urls,
        "model": history.model,
        "margin": history.margin,
        "releases": [
            {**asdict(each), "started_at": each.started_at.isoformat(timespec="seconds")}
            for each in history.releases
        ],
        "figures": [series_as_dict(each) for each in history.series],
        "left_out": [asdict(each) for each in history.left_out],
    }


def series_as_dict(series: Series) -> dict[str, Any]:
    metric, threshold = series.metric, series.threshold
    return {
        "document": series.document,
        "metric": metric.key,
        "statistic": metric.statistic,
        "label": series.label,
        "unit": metric.unit,
        "higher_is_better": metric.higher_is_better,
        "threshold": {"name": threshold.name, "limit": threshold.limit} if threshold else None,
        "is_tested": series.is_tested,
        "points": [asdict(each) for each in series.points],
        "changes": [asdict(each) for each in series.changes],
    }
