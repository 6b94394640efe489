"""The report for a terminal: 80 columns, what is wrong first, and one line for a log at the end."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from livecheck.core.screen import WIDTH
from livecheck.core.text import figure
from livecheck.report import words
from livecheck.report.baseline import Change
from livecheck.report.thresholds import Criterion, Verdict
from livecheck.report.verdict import Comparison, Report

DETAIL = " " * 6  # the indent of what is said about the line above


def lines(report: Report) -> Iterator[str]:
    """The whole report."""
    return map(words.shown, raw_lines(report))


def raw_lines(report: Report) -> Iterator[str]:
    yield from wrapped(headline(report))
    yield from ("", "Results")
    for each in words.by_verdict(report.results):
        row = f"{words.verdict_word(each):12}{each.value}"
        *above, last = labelled(each.name, 26, row)
        for line in above:
            yield from wrapped(f"  {line}", then=DETAIL)
        yield from entry(last, each.detail)
    if report.thresholds:
        yield from ("", f"{'Thresholds':33}{'target':>13}{'value':>13}{'n':>7}  verdict")
    for each in words.by_verdict(report.thresholds):
        *above, last = threshold_rows(each)
        yield from (f"  {line}" for line in above)
        yield from entry(last, each.detail)
    if report.comparison:
        yield ""
        yield from comparison_lines(report.comparison)
    if report.notes:
        yield ""
    for note in report.notes:
        yield from wrapped(f"note: {note}", then=DETAIL)
    yield from ("", report.gate_line)


def wrapped(text: str, first: str = "", then: str = "  ") -> list[str]:
    return textwrap.wrap(
        words.shown(text),
        WIDTH,
        initial_indent=first,
        subsequent_indent=then,
        break_on_hyphens=False,
    )


def labelled(label: str, width: int, values: str) -> Iterator[str]:
    """A row of a table; a label that is too long for its column has a line of its own."""
    if len(label) >= width:
        yield label
        label = ""
    yield f"{label:{width}}{values}"


def entry(text: str, detail: str) -> Iterator[str]:
    """A line, and below it what else there is to say."""
    yield from wrapped(f"  {text}".rstrip(), then=DETAIL)
    yield from wrapped(detail, DETAIL, DETAIL)


def headline(report: Report) -> str:
    about = report.about
    parts = [about.title, f"profile {about.profile}", *about.urls[:2]]
    if about.measured_at:
        parts.append(f"measured {about.measured_at:%Y-%m-%d %H:%M} UTC")
    return ", ".join(parts)


def threshold_rows(each: Criterion) -> Iterator[str]:
    count = "" if each.samples is None else each.samples
    values = f"{each.target:>13}{each.value:>13}{count:>7}  {words.verdict_word(each)}"
    return labelled(each.name, 31, values)


def comparison_lines(comparison: Comparison) -> Iterator[str]:
    yield "Against the baseline"
    for run in comparison.runs:
        yield from wrapped(words.baseline_run(run), "  ", DETAIL)
    if comparison.changes:
        yield from wrapped(words.about_runs(comparison.changes), "  ", "  ")
        yield f"{'':25}{'then':>8}{'now':>8}{'change':>9}{'95 % interval':>17}  verdict"
        for change in comparison.changes:
            yield from change_rows(change)
        for line in words.legend(comparison.changes, comparison.margin):
            yield from wrapped(line, "  ", DETAIL)
    for each in comparison.criteria:
        if each.verdict is Verdict.UNDECIDED:
            yield from entry(f"{each.name}: {words.verdict_word(each)}", each.detail)
    for note in comparison.notes:
        yield from wrapped(f"note: {note}", then=DETAIL)


def change_rows(change: Change) -> Iterator[str]:
    interval = words.interval(change).replace(" %", "")  # a narrow column
    values = (
        f"{figure(change.then):>8}{figure(change.now):>8}"
        f"{change.change:>+9.1%}{interval:>17}  {words.short_finding_word(change)}"
    )
    return (f"  {line}" for line in labelled(words.change_label(change), 23, values))
