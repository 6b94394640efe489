"""The report as Markdown, in the form that step 8 of the live-testing guide asks for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from livecheck.core.text import figure
from livecheck.report import words
from livecheck.report.result_files import ResultFile
from livecheck.report.thresholds import Criterion, Verdict
from livecheck.report.verdict import Comparison, Report
from livecheck.wire.metrics import no_rate_words

STATISTICS = ("p50", "p95", "p99")
# What has a meaning within a line (CommonMark 0.31, section 6; tables and ~~ of GitHub), and at its
# begin (section 4). An underscore within a word has none.
SPECIAL = re.compile(r"[\\`*\[\]<>|&~!$]|(?<![^\W_])_|_(?![^\W_])")
BEGIN, MARKED = re.compile(r"^(\d*)([#+=-]|[.)](?=\s|$))"), r"\1\\\2"


def text(report: Report) -> str:
    return "\n".join(lines(report)) + "\n"


def lines(report: Report) -> Iterator[str]:
    yield f"## Performance Baseline — {escape(report.about.title)}"
    yield ""
    yield from (f"- {name}: {escape(fact)}" for name, fact in words.facts(report.about).items())
    yield f"- Verdict: **{report.word}**, {report.passed} of {report.judged} criteria"
    for criterion in report.results:
        yield ""
        yield from section(criterion, report.folder.find(criterion.subject))
    if report.thresholds:
        yield from ("", "### Thresholds", "")
        yield from table([threshold_row(each) for each in report.thresholds])
    if report.comparison:
        yield ""
        yield from comparison_lines(report.comparison)
    if report.notes:
        yield from ("", "### Notes", "", *map(item, report.notes))
    yield from ("", f"`{words.shown(report.gate_line).replace('`', chr(39))}`")


def escape(raw: str) -> str:
    """A text that Markdown shows as it is, whatever it holds."""
    return SPECIAL.sub(r"\\\g<0>", words.shown(raw))


def item(raw: str) -> str:
    """An entry of a list. A mark at its begin would make it a heading, a list or a line."""
    return f"- {BEGIN.sub(MARKED, escape(raw.lstrip()))}"


# --- a result file


def section(criterion: Criterion, file: ResultFile | None) -> Iterator[str]:
    word, heading = words.verdict_word(criterion), f"### {escape(criterion.name)}"
    figures = list(figure_lines(file)) if file else []
    if figures:
        yield heading
        yield from figures
        if criterion.verdict is not Verdict.PASS:
            yield f"- Checks: {word}"
    else:
        yield f"{heading}: {word}"
    if criterion.detail:
        yield item(criterion.detail)
    elif criterion.value != "-" and not figures:
        yield item(criterion.value)


def figure_lines(file: ResultFile) -> Iterator[str]:
    if file.is_level and "ttft_ms" in file.metrics:
        yield from level_lines(file.metrics)
    elif file.name == "gateway_overhead" and file.metrics:
        yield from gateway_lines(file.metrics["gateway"])


def gateway_lines(figures: Mapping[str, Any]) -> Iterator[str]:
    for path in ("ping", "health"):
        if not (figures.get(f"{path}_ms") or {}).get("n"):
            continue
        yield f"- /{path} {statistics(figures[f'{path}_ms'])}"
        if (figures.get(f"{path}_net_ms") or {}).get("n"):
            yield f"- /{path} net of the network {statistics(figures[f'{path}_net_ms'])}"
    if reason := figures.get("net_not_separable"):
        yield f"- net of the network: not separable, {escape(str(reason))}"


def level_lines(figures: Mapping[str, Any]) -> Iterator[str]:
    rate, share = figures["tokens_per_s"], figures.get("error_rate")
    yield f"- TTFT {statistics(figures['ttft_ms'])}"
    yield f"- Tokens/sec mean: {figure(rate['mean'])}, p50: {figure(rate['p50'])}"
    if why := no_rate_words(figures):
        yield item(why)
    yield f"- Total latency {statistics(figures['e2e_ms'])}"
    yield f"- ITL {statistics(figures['itl_ms'])}"
    yield f"- Output throughput: {figure(figures.get('output_tokens_per_s'))} tok/s"
    errors = "-" if share is None else f"{100 * share:.1f} %"
    yield f"- Error rate: {errors} of {figures['requests']} requests"


def statistics(summary: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {in_ms(summary.get(name))}" for name in STATISTICS)


def in_ms(value: float | None) -> str:
    return "-" if value is None else f"{figure(value)}ms"


# --- tables


def table(rows: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """Rows of cells by the heads of their columns."""
    yield f"| {' | '.join(rows[0])} |"
    yield "|" + "---|" * len(rows[0])
    for row in rows:
        yield f"| {' | '.join(map(escape, row.values()))} |"


def threshold_row(criterion: Criterion) -> dict[str, str]:
    cells = words.threshold_cells(criterion)
    if criterion.detail:
        cells["Verdict"] += f" ({criterion.detail})"
    return cells


def comparison_lines(comparison: Comparison) -> Iterator[str]:
    yield "### Against the baseline"
    yield from map(item, map(words.baseline_run, comparison.runs))
    changes = comparison.changes
    about = (
        [words.about_runs(changes), *words.legend(changes, comparison.margin)] if changes else []
    )
    for each in comparison.criteria:
        said = each.detail or each.value
        about.append(f"{each.name}: {words.verdict_word(each)}" + (f", {said}" if said else ""))
    yield from map(item, (*about, *comparison.notes))
    if changes:
        yield ""
        yield from table([words.change_cells(each) for each in changes])
