"""The report as Markdown, in the form that step 8 of the live-testing guide asks for.

It fits the summary of a job and a comment: at most MAX_CHARACTERS, with the long parts folded.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from livecheck.core.checks import Check, Status
from livecheck.core.late_pattern import late_pattern
from livecheck.core.text import figure, plural
from livecheck.report import words
from livecheck.report.result_files import ResultFile
from livecheck.report.server_load import load_words
from livecheck.report.steady_window import words_of_level
from livecheck.report.thresholds import Criterion, Verdict
from livecheck.report.verdict import Comparison, Report, in_words
from livecheck.wire import speculation
from livecheck.wire.metrics import no_rate_words

STATISTICS = ("p50", "p95", "p99")
# GitHub refuses a comment with more than 65,536 characters; the summary of a job has 1 MiB.
MAX_CHARACTERS = 65_000
# What has a meaning within a line (CommonMark 0.31, section 6; tables and ~~ of GitHub), and at its
# begin (section 4). An underscore within a word has none.
SPECIAL = late_pattern(r"[\\`*\[\]<>|&~!$]|(?<![^\W_])_|_(?![^\W_])")
BEGIN, MARKED = re.compile(r"^(\d*)([#+=-]|[.)](?=\s|$))"), r"\1\\\2"
# What GitHub makes a link of although no mark is there: addresses, names of people (who are told of
# it), numbers of issues. An escape keeps it from the first; the others need something in between.
ADDRESS = late_pattern(r"(?<=\w):(?=//)|(?<=\bwww)\.", re.IGNORECASE)
REFERENCE, NOTHING = re.compile(r"(?<![\w`])@(?=\w)|#(?=\d)"), r"\g<0><!-- -->"
WRONG = (Verdict.FAIL, Verdict.UNDECIDED)


@dataclass(frozen=True)
class Size:
    """How much is written: rows of each table or list, characters of each text."""

    rows: int
    length: int


# The first with which the report fits is taken. With the last one any report does.
SIZES = (Size(1000, 2000), Size(100, 800), Size(40, 300), Size(15, 160), Size(5, 80), Size(3, 60))


def text(report: Report) -> str:
    for size in SIZES:
        made = "\n".join(lines(report, size)) + "\n"
        if len(made) <= MAX_CHARACTERS:
            break
    return made


def lines(report: Report, size: Size) -> Iterator[str]:
    yield f"## Performance Baseline — {escape(report.about.title, size)}"
    yield ""
    about = words.facts(report.about).items()
    yield from (f"- {name}: {escape(fact, size)}" for name, fact in about)
    yield f"- Verdict: **{report.word}**, {report.count}"
    yield from deciding(report.criteria, size)
    kept, left_out = most_important(report.results, size)
    for criterion in kept:
        yield ""
        yield from section(criterion, report.folder.find(criterion.subject), size)
    yield from left_out
    if report.thresholds:
        yield from ("", "### Thresholds")
        yield from threshold_lines(report.thresholds, size)
    if report.comparison:
        yield ""
        yield from comparison_lines(report.comparison, size)
    if report.notes:
        yield from ("", "### Notes", "", *entries(report.notes, size))
    gate = words.shown(report.gate_line).replace("`", "'")
    yield from ("", f"`{gate}`")


def escape(raw: str, size: Size = SIZES[0]) -> str:
    """A text that Markdown shows as it is, whatever it holds."""
    shown = words.shown(raw)
    shown = shown if len(shown) <= size.length else shown[: size.length - 3] + "..."
    shown = ADDRESS.sub(r"\\\g<0>", SPECIAL.sub(r"\\\g<0>", shown))
    return REFERENCE.sub(NOTHING, shown)


def item(raw: str, size: Size = SIZES[0]) -> str:
    """An entry of a list. A mark at its begin would make it a heading, a list or a line."""
    return f"- {BEGIN.sub(MARKED, escape(raw.lstrip(), size))}"


def entries(texts: Sequence[str], size: Size) -> Iterator[str]:
    """The first of these texts as a list."""
    yield from (item(each, size) for each in texts[: size.rows])
    yield from more(len(texts) - size.rows)


def folded(summary: str, inside: Iterable[str], is_open: bool = False) -> Iterator[str]:
    """Lines that are shown when the reader opens them. `summary`: HTML, in our own words."""
    yield f"<details{' open' if is_open else ''}><summary>{summary}</summary>"
    yield from ("", *inside, "", "</details>")


# --- what is left out


def most_important(
    criteria: Sequence[Criterion], size: Size
) -> tuple[list[Criterion], Iterator[str]]:
    """As many as there is room for, those that are wrong before the others, in the order given; and
    the line about the rest."""
    kept = {id(each) for each in words.by_verdict(criteria)[: size.rows]}
    left = [each for each in criteria if id(each) not in kept]
    kinds = dict.fromkeys(words.verdict_word(each) for each in left)
    return [each for each in criteria if id(each) in kept], more(len(left), " and ".join(kinds))


def more(count: int, kinds: str = "") -> Iterator[str]:
    """The line about so many that are left out."""
    if count > 0:
        what = f" ({kinds})" if kinds else ""
        yield from ("", f"{count} more{what} are left out here: see `--html` or `--output json`.")


# --- what decides, and the result files


def deciding(criteria: Sequence[Criterion], size: Size) -> Iterator[str]:
    """Everything that keeps the report from a PASS, in a line each."""
    wrong = [each for each in words.by_verdict(criteria) if each.verdict in WRONG]
    if wrong:
        yield from ("", "### What decides", "")
        yield from entries(
            [f"{words.verdict_word(each)}, {in_words(each)}" for each in wrong], size
        )


def section(criterion: Criterion, file: ResultFile | None, size: Size) -> Iterator[str]:
    word, heading = words.verdict_word(criterion), f"### {escape(criterion.name, size)}"
    figures = list(figure_lines(file, size)) if file else []
    if figures:
        yield heading
        yield from figures
        if criterion.verdict is not Verdict.PASS:
            yield f"- Checks: {word}"
    else:
        yield f"{heading}: {word}"
    if criterion.detail:
        yield item(criterion.detail, size)
    elif criterion.value != "-" and not figures:
        yield item(criterion.value, size)
    checks = file.checks if file else []
    noted = [c for status in (Status.FAIL, Status.WARN) for c in checks if c.status is status]
    if len(noted) > bool(criterion.detail):  # else the line above has said it
        yield from check_lines(noted, len(checks), size)


def check_lines(noted: Sequence[Check], count: int, size: Size) -> Iterator[str]:
    """The checks that failed or warned, of so many, folded."""
    told = [f"{each.status.value} {each.name}: {each.detail}" for each in noted]
    numbers = Counter(each.status.value for each in noted)
    summary = ", ".join(f"{number} {word}" for word, number in numbers.items())
    yield ""
    yield from folded(f"{summary} of {plural(count, 'check')}", entries(told, size))


def figure_lines(file: ResultFile, size: Size) -> Iterator[str]:
    if file.is_level and "ttft_ms" in file.metrics:
        yield from level_lines(file.metrics, size)
    elif file.name == "gateway_overhead" and file.metrics:
        yield from gateway_lines(file.metrics["gateway"], size)


def gateway_lines(figures: Mapping[str, Any], size: Size) -> Iterator[str]:
    for path in ("ping", "health"):
        if not (figures.get(f"{path}_ms") or {}).get("n"):
            continue
        yield f"- /{path} {statistics(figures[f'{path}_ms'])}"
        if (figures.get(f"{path}_net_ms") or {}).get("n"):
            yield f"- /{path} net of the network {statistics(figures[f'{path}_net_ms'])}"
    if reason := figures.get("net_not_separable"):
        yield f"- net of the network: not separable, {escape(str(reason), size)}"


def level_lines(figures: Mapping[str, Any], size: Size) -> Iterator[str]:
    rate, share = figures["tokens_per_s"], figures.get("error_rate")
    yield f"- TTFT {statistics(figures['ttft_ms'])}"
    if figures.get("with_thoughts") and "ttfa_ms" in figures:
        yield f"- TTFA {statistics(figures['ttfa_ms'])}"
    if "first_turn_ttft_ms" in figures and "later_turns_ttft_ms" in figures:
        yield f"- TTFT of first turns {statistics(figures['first_turn_ttft_ms'])}"
        yield f"- TTFT of later turns {statistics(figures['later_turns_ttft_ms'])}"
    if prefill := figures.get("prefill_tokens_per_s"):
        yield f"- Prefill mean: {figure(prefill['mean'])}, p50: {figure(prefill['p50'])} tok/s"
    yield f"- Tokens/sec mean: {figure(rate['mean'])}, p50: {figure(rate['p50'])}"
    if why := no_rate_words(figures):
        yield item(why, size)
    yield f"- Total latency {statistics(figures['e2e_ms'])}"
    yield f"- ITL {statistics(figures['itl_ms'])}"
    if told := speculation.words(figures):
        yield f"- TPOT {statistics(figures['tpot_ms'])}"
        yield item(f"Tokens: {told}", size)
    if told := load_words(figures):
        yield item(told, size)
    if accepted := speculation.draft_words(figures):
        yield f"- Speculative decoding: {accepted} accepted"
    yield f"- Output throughput: {figure(figures.get('output_tokens_per_s'))} tok/s"
    yield from (item(said, size) for said in words_of_level(figures))
    errors = "-" if share is None else f"{100 * share:.1f} %"
    yield f"- Error rate: {errors} of {figures['requests']} requests"


def statistics(summary: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {in_ms(summary.get(name))}" for name in STATISTICS)


def in_ms(value: float | None) -> str:
    return "-" if value is None else f"{figure(value)}ms"


# --- tables


def table(rows: Sequence[Mapping[str, str]], size: Size = SIZES[0]) -> Iterator[str]:
    """The first of these rows of cells, by the heads of their columns."""
    yield f"| {' | '.join(rows[0])} |"
    yield "|" + "---|" * len(rows[0])
    for row in rows[: size.rows]:
        yield f"| {' | '.join(escape(cell, size) for cell in row.values())} |"
    yield from more(len(rows) - size.rows)


def threshold_lines(criteria: Sequence[Criterion], size: Size) -> Iterator[str]:
    kept, left_out = most_important(criteria, size)
    passed = sum(each.verdict is Verdict.PASS for each in criteria)
    is_wrong = any(each.verdict in WRONG for each in criteria)
    rows = table([threshold_row(each) for each in kept], size)
    yield ""
    yield from folded(f"{passed} of {len(criteria)} kept", (*rows, *left_out), is_wrong)


def threshold_row(criterion: Criterion) -> dict[str, str]:
    cells = words.threshold_cells(criterion)
    if criterion.detail:
        cells["Verdict"] += f" ({criterion.detail})"
    return cells


def comparison_lines(comparison: Comparison, size: Size) -> Iterator[str]:
    changes, seen = comparison.changes, []
    for each in comparison.criteria:
        said = each.detail or each.value
        seen.append(f"{each.name}: {words.verdict_word(each)}" + (f", {said}" if said else ""))
    yield "### Against the baseline"
    yield from entries([words.baseline_run(run) for run in comparison.runs], size)
    yield from entries([*seen, *comparison.notes], size)
    if changes:
        legend = [words.about_runs(changes), *words.legend(changes, comparison.margin)]
        rows = table([words.change_cells(each) for each in changes], size)
        yield ""
        inside = (*rows, "", *entries(legend, size))
        yield from folded(plural(len(changes), "comparison"), inside)
