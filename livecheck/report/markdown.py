"""The report as Markdown, in the form that step 8 of the live-testing guide asks for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from livecheck.core.text import figure
from livecheck.report.baseline import Change
from livecheck.report.result_files import Saved
from livecheck.report.text import NO_SPREAD, SPREAD, change_label, finding, legend
from livecheck.report.thresholds import Criterion, Verdict
from livecheck.report.verdict import Comparison, Report, percent

WORDS = {Verdict.UNDECIDED: "NOT DECIDED", Verdict.REPORTED: "reported, not judged"}
STATISTICS = ("p50", "p95", "p99")
NOT_GIVEN = "not given"


def text(report: Report) -> str:
    return "\n".join(lines(report)) + "\n"


def lines(report: Report) -> Iterator[str]:
    yield f"## Performance Baseline — {escape(report.about.title)}"
    yield ""
    yield from facts(report)
    present = {each.name: each for each in report.folder.documents}
    for criterion in report.documents:
        yield ""
        yield from section(criterion, present.get(criterion.subject))
    if report.thresholds:
        yield ""
        yield from threshold_table(report.thresholds)
    if report.comparison:
        yield ""
        yield from comparison_table(report.comparison)
    if report.notes:
        yield from ["", "### Notes", "", *(f"- {escape(note)}" for note in report.notes)]
    yield from ["", f"`{report.gate_line.replace('`', chr(39))}`"]


def facts(report: Report) -> Iterator[str]:
    about = report.about
    model = escape(about.model or f"{NOT_GIVEN} (--model-name)")
    quant = f" ({escape(about.quant)})" if about.quant else ""
    date = about.measured_at
    yield f"- GPU: {escape(about.gpu or f'{NOT_GIVEN} (--gpu)')}"
    yield f"- Model: {model}{quant}"
    yield f"- Date: {f'{date:%Y-%m-%d}' if date else NOT_GIVEN}"
    yield f"- Endpoint: {escape(', '.join(about.urls) or NOT_GIVEN)}"
    yield f"- Verdict: **{report.word}**, {report.passed} of {report.judged} criteria"


def escape(words: str) -> str:
    """A text as Markdown shows it, whatever it holds."""
    return re.sub(r"([\\`*\[\]<>|])", r"\\\1", words)


# --- a result file


def section(criterion: Criterion, document: Saved | None) -> Iterator[str]:
    word = WORDS.get(criterion.verdict, criterion.verdict.value)
    heading = f"### {escape(criterion.name)}"
    figures = list(figure_lines(document)) if document else []
    if not figures:
        yield f"{heading}: {word}"
    else:
        yield heading
        yield from figures
        if criterion.verdict is not Verdict.PASS:
            yield f"- Checks: {word}"
    if criterion.detail:
        yield f"- {escape(criterion.detail)}"
    elif criterion.value not in ("", "-") and not figures:
        yield f"- {escape(criterion.value)}"


def figure_lines(document: Saved) -> Iterator[str]:
    if document.is_level and "ttft_ms" in document.metrics:
        yield from level_lines(document.metrics)
    elif document.name == "gateway_overhead" and document.metrics:
        yield from gateway_lines(document.metrics["gateway"])


def gateway_lines(figures: Mapping[str, Any]) -> Iterator[str]:
    for path in ("ping", "health"):
        if not (figures.get(f"{path}_ms") or {}).get("n"):
            continue
        yield f"- /{path} {statistics(figures[f'{path}_ms'])}"
        if (figures.get(f"{path}_net_ms") or {}).get("n"):
            yield f"- /{path} net of the network {statistics(figures[f'{path}_net_ms'])}"
    if figures.get("net_not_separable"):
        yield f"- net of the network: not separable, {escape(str(figures['net_not_separable']))}"


def level_lines(figures: Mapping[str, Any]) -> Iterator[str]:
    rate, share = figures["tokens_per_s"], figures.get("error_rate")
    yield f"- TTFT {statistics(figures['ttft_ms'])}"
    yield f"- Tokens/sec mean: {figure(rate['mean'])}, p50: {figure(rate['p50'])}"
    yield f"- Total latency {statistics(figures['e2e_ms'])}"
    yield f"- ITL {statistics(figures['itl_ms'])}"
    yield f"- Output throughput: {figure(figures.get('output_tokens_per_s'))} tok/s"
    errors = "-" if share is None else f"{share:.1%}"
    yield f"- Error rate: {errors} of {figures['requests']} requests"


def statistics(summary: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {in_ms(summary.get(name))}" for name in STATISTICS)


def in_ms(value: float | None) -> str:
    return "-" if value is None else f"{figure(value)}ms"


# --- tables


def threshold_table(criteria: list[Criterion]) -> Iterator[str]:
    yield "### Thresholds"
    yield ""
    yield "| Metric | Target | Value | Samples | Verdict |"
    yield "|---|---|---|---|---|"
    for each in criteria:
        word = WORDS.get(each.verdict, each.verdict.value)
        detail = f" ({escape(each.detail)})" if each.detail else ""
        count = "-" if each.samples is None else each.samples
        cells = f"{escape(each.name)} | {each.target} | {each.value} | {count} | {word}{detail}"
        yield f"| {cells} |"


def comparison_table(comparison: Comparison) -> Iterator[str]:
    yield f"### Against the baseline {escape(comparison.paths)}"
    if comparison.changes:
        runs = max(each.runs for each in comparison.changes)
        yield f"- {f'{runs} runs: {SPREAD}' if runs > 1 else f'one run: {NO_SPREAD}'}"
        yield f"- {legend(comparison).strip()}"
    for each in comparison.criteria:
        word = WORDS.get(each.verdict, each.verdict.value)
        said = escape(each.detail or each.value)
        yield f"- {escape(each.name)}: {word}" + (f", {said}" if said else "")
    yield from (f"- {escape(note)}" for note in comparison.notes)
    if comparison.changes:
        yield ""
        yield "| Metric | Then | Now | Change | 95 % interval | Verdict |"
        yield "|---|---|---|---|---|---|"
        yield from (change_row(each) for each in comparison.changes)


def change_row(change: Change) -> str:
    interval = f"{percent(change.low)} to {percent(change.high)}"
    cells = f"{escape(change_label(change))} | {figure(change.then)} {change.metric.unit} | "
    cells += f"{figure(change.now)} {change.metric.unit} | {percent(change.change)} | {interval}"
    return f"| {cells} | {finding(change)} |"
