"""A report for a terminal: 80 columns, what is wrong first, and last one line for a log."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from livecheck.core.screen import WIDTH
from livecheck.core.text import figure
from livecheck.report.baseline import Change, Finding
from livecheck.report.result_files import short_name
from livecheck.report.thresholds import Criterion, Verdict
from livecheck.report.verdict import Comparison, Report

ORDER = (Verdict.FAIL, Verdict.UNDECIDED, Verdict.PASS, Verdict.REPORTED)
WORDS = {Verdict.UNDECIDED: "NOT DECIDED"}
SPREAD = "the intervals hold the spread between runs"
NO_SPREAD = "the intervals are noise within the runs; the spread between runs is not in them"


def lines(report: Report) -> Iterator[str]:
    """The whole report."""
    yield from wrapped(headline(report), "  ")
    yield ""
    yield "Results"
    for each in by_verdict(report.documents):
        yield from entry(f"{each.name:26}{word(each):12}{each.value}", each.detail)
    if report.thresholds:
        yield ""
        yield f"{'Thresholds':33}{'target':>13}{'value':>13}{'n':>7}  verdict"
        for each in by_verdict(report.thresholds):
            yield from threshold_lines(each)
    if report.comparison:
        yield ""
        yield from comparison_lines(report.comparison)
    if report.notes:
        yield ""
    for note in report.notes:
        yield from wrapped(f"note: {note}", "      ")
    yield ""
    yield report.gate_line


def word(criterion: Criterion) -> str:
    return WORDS.get(criterion.verdict, criterion.verdict.value)


def headline(report: Report) -> str:
    about = report.about
    parts = [about.title, f"profile {about.profile}", *about.urls[:2]]
    if about.measured_at:
        parts.append(f"measured {about.measured_at:%Y-%m-%d %H:%M} UTC")
    return ", ".join(parts)


def by_verdict(criteria: Sequence[Criterion]) -> list[Criterion]:
    return sorted(criteria, key=lambda each: ORDER.index(each.verdict))


def wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def entry(text: str, detail: str) -> Iterator[str]:
    """A line, and what else there is to say below it."""
    yield from wrapped(f"  {text}".rstrip(), "      ")
    if detail:
        yield from textwrap.wrap(
            detail, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6, break_on_hyphens=False
        )


def threshold_lines(each: Criterion) -> Iterator[str]:
    count = "" if each.samples is None else each.samples
    row = f"{each.name:31}{each.target:>13}{each.value:>13}{count:>7}  {word(each)}"
    return entry(row, each.detail)


# --- the baseline


def comparison_lines(comparison: Comparison) -> Iterator[str]:
    yield from wrapped(f"Against the baseline {comparison.paths}", "  ")
    open_ones = [each for each in comparison.criteria if each.verdict is Verdict.UNDECIDED]
    if comparison.changes:
        runs = max(each.runs for each in comparison.changes)
        told = f"{runs} runs: {SPREAD}" if runs > 1 else f"one run: {NO_SPREAD}"
        yield from wrapped(f"  {told}", "  ")
        yield f"{'':25}{'then':>8}{'now':>8}{'change':>9}{'95 % interval':>17}  verdict"
    for change in comparison.changes:
        yield change_line(change)
    yield from wrapped(legend(comparison), "  ") if comparison.changes else []
    for each in open_ones:
        yield from entry(f"{each.name}: {word(each)}", each.detail)
    for note in comparison.notes:
        yield from wrapped(f"note: {note}", "      ")


def change_line(change: Change) -> str:
    return (
        f"  {change_label(change):23}{figure(change.then):>8}{figure(change.now):>8}"
        f"{share(change.change):>8}%{interval(change):>17}  {finding(change)}"
    )


def change_label(change: Change) -> str:
    """The level and the metric; of the gateway's overhead the metric alone."""
    level = short_name(change.document)
    return f"{level} {change.label}" if level != change.document else change.label


def share(value: float | None) -> str:
    return "?" if value is None else f"{value * 100:+.1f}"


def interval(change: Change) -> str:
    return f"{share(change.low)} to {share(change.high)}"


def finding(change: Change) -> str:
    if change.finding is Finding.UNCLEAR:
        return f"needs {change.needed}" if change.needed else "unclear"
    word: str = change.finding.value
    return word.upper() if change.finding is Finding.WORSE else word


def legend(comparison: Comparison) -> str:
    """What the words of the last column mean, those that are there."""
    margin = f"{comparison.margin * 100:.3g} %"
    found = {each.finding for each in comparison.changes}
    parts = []
    if Finding.WORSE in found:
        count = len(comparison.changes)
        parts.append(f"WORSE: by at least {margin}, corrected for {count} comparisons")
    if any(each.needed for each in comparison.changes):
        text = f"needs N: not enough data to see {margin}, N requests in each run would be"
        parts.append(text)
    if any(each.finding is Finding.UNCLEAR and not each.needed for each in comparison.changes):
        parts.append("unclear: too few requests, or the runs differ too much, to see it")
    if Finding.SAME in found:
        parts.append(f"same: not worse by {margin}")
    if any(each.margin > comparison.margin for each in comparison.changes):
        parts.append("of /ping and /health small changes are no matter")
    if any(each.is_odd and each.metric.statistic == "p50" for each in comparison.changes):
        parts.append("change: the median over all pairs of requests, not that of the medians")
    return f"  {'; '.join(parts)}"
