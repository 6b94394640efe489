"""The report as a page: one file that opens offline, light or dark, and prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape as escape_html

from livecheck.core.checks import Status
from livecheck.core.run import TOOL_VERSION
from livecheck.report import words
from livecheck.report.baseline import Finding
from livecheck.report.plots import Picture, pictures
from livecheck.report.result_files import ResultFile
from livecheck.report.thresholds import Criterion, Verdict
from livecheck.report.verdict import Comparison, Report

WORDS_BY_CLASS: Mapping[str, Sequence[Verdict | Status | Finding]] = {  # classes of the style sheet
    "good": (Verdict.PASS, Status.PASS, Finding.BETTER),
    "bad": (Verdict.FAIL, Status.FAIL, Finding.WORSE),
    "warn": (Status.WARN,),
    "open": (Verdict.UNDECIDED, Status.SKIP, Finding.UNCLEAR, Finding.SESSION),
    "muted": (Verdict.REPORTED, Finding.SAME),
}
CLASSES = {word: name for name, members in WORDS_BY_CLASS.items() for word in members}
# the columns from left to right; what a telephone shows without scrolling comes first
RESULT_COLUMNS = ("Verdict", "Result", "Checks")
THRESHOLD_COLUMNS = ("Verdict", "Metric", "Target", "Value", "Samples")
CHANGE_COLUMNS = ("Verdict", "Metric", "Change", "95 % interval", "Then", "Now")
TEXTS = ("Verdict", "Metric", "Result", "Checks")  # all other columns hold numbers

STYLE = """
:root { color-scheme: light dark;
  --paper: #ffffff; --ink: #1c2024; --muted: #5c666f; --grid: #d9dee3; --panel: #f5f7f9;
  --series-1: #1f66b1; --series-2: #c2570c; --series-3: #0d7a5f; --series-4: #8a3ea8;
  --good: #1a7a3c; --bad: #c22f2f; --open: #7a4fc0; --warn: #946000; }
@media screen and (prefers-color-scheme: dark) { :root {
  --paper: #14181c; --ink: #e6eaee; --muted: #9aa5b0; --grid: #343c44; --panel: #1c2228;
  --series-1: #6cb0f5; --series-2: #f59a57; --series-3: #4fcfa9; --series-4: #cf93ea;
  --good: #5ccb82; --bad: #ff7b72; --open: #b79cf2; --warn: #e0b050; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1.25rem 1rem 3rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.4rem; margin: 0 0 .5rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
h3 { font-size: 1rem; margin: 0 0 .3rem; }
.verdict { border: 2px solid; border-radius: .5rem; padding: .9rem 1.1rem; margin: 0 0 1rem; }
.verdict strong { font-size: 1.9rem; line-height: 1.1; display: block; }
.verdict span { color: var(--ink); font-weight: 400; white-space: normal; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: 0; }
dt { color: var(--muted); } dd { margin: 0; min-width: 0; }
.wide { overflow-x: auto; background:  /* a shadow at the side where there is more */
  linear-gradient(to left, var(--paper) 1rem, transparent) right / 2rem 100% no-repeat local,
  linear-gradient(to left, var(--grid), transparent) right / .8rem 100% no-repeat scroll; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: left; padding: .35rem .7rem .35rem 0; border-bottom: 1px solid var(--grid);
  vertical-align: top; }
th { color: var(--muted); font-weight: 600; white-space: nowrap; }
td:nth-child(2) { min-width: 8.5rem; }
.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.told td { border-bottom: 0; padding-bottom: 0; }
.why td { color: var(--muted); font-size: .85rem; padding-top: 0; }
.good, .bad, .open, .warn { font-weight: 600; white-space: nowrap; }
.good { color: var(--good); } .bad { color: var(--bad); } .open { color: var(--open); }
.warn { color: var(--warn); } .muted { color: var(--muted); }
.wide + .wide { margin-top: 1.2rem; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr));
  gap: 1.2rem; align-items: start; }
figure { margin: 0; padding: .9rem; background: var(--panel); border-radius: .5rem;
  break-inside: avoid; }
figure svg { width: 100%; height: auto; display: block; }
figcaption { font-size: .87rem; color: var(--muted); margin-top: .4rem; }
details { border-bottom: 1px solid var(--grid); padding: .35rem 0; }
summary { cursor: pointer; } ul { margin: .4rem 0 .6rem; padding-left: 1.1rem; }
li { font-size: .92rem; } code { font-size: .9em; overflow-wrap: anywhere; }
@media print { body { max-width: none; padding: 0; font-size: 10pt; }
  h2 { break-after: avoid; } tr, details { break-inside: avoid; }
  .pictures { grid-template-columns: 1fr 1fr; } figure { border: 1px solid var(--grid); } }
"""


def text(report: Report) -> str:
    """The whole page. Raises ModuleNotFoundError without matplotlib."""
    return "\n".join(lines(report)) + "\n"


def lines(report: Report) -> Iterator[str]:
    yield "<!DOCTYPE html>"
    yield '<html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{escape(f'{report.word}: {report.about.title}')}</title>"
    yield f"<style>{STYLE}</style></head><body>"
    yield from header(report)
    yield from section("Results", criterion_table(RESULT_COLUMNS, report.results))
    yield from section("Thresholds", criterion_table(THRESHOLD_COLUMNS, report.thresholds))
    if report.comparison:
        yield from section("Against the baseline", comparison_parts(report.comparison))
    yield from section("Figures", picture_grid(pictures(report)))
    yield from section("Every check", map(check_list, report.folder.files))
    yield from section("Notes", bullets(report.notes))
    yield f'<p class="muted"><code>{escape(report.gate_line)}</code></p>'
    yield "</body></html>"


def escape(raw: str) -> str:
    """A text that a browser shows as it is, whatever it holds, also within an attribute."""
    return escape_html(words.shown(raw))


def section(heading: str, content: Iterator[str]) -> Iterator[str]:
    """A part of the page, unless there is nothing in it."""
    parts = list(content)
    if parts:
        yield f"<section><h2>{escape(heading)}</h2>"
        yield from parts
        yield "</section>"


def header(report: Report) -> Iterator[str]:
    kind = {"PASS": "good", "FAIL": "bad"}.get(report.word, "open")
    yield f"<header><h1>{escape(report.about.title)}</h1>"
    yield f'<p class="verdict {kind}"><strong>{report.word}</strong>'
    yield f"<span>{report.passed} of {report.judged} criteria. "
    yield f"Worst: {escape(report.worst)}</span></p><dl>"
    made = f"{report.created_at:%Y-%m-%d %H:%M} UTC, version {TOOL_VERSION}"
    shown = {**words.facts(report.about), "Profile": report.about.profile, "Report": made}
    for name, value in shown.items():
        yield f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>"
    yield "</dl></header>"


# --- tables


def table(columns: Sequence[str], rows: Sequence[str]) -> Iterator[str]:
    """A table that scrolls by itself where it is too wide."""
    if not rows:
        return
    cells = "".join(f"<th{align(each)}>{escape(each)}</th>" for each in columns)
    yield f'<div class="wide"><table><thead><tr>{cells}</tr></thead><tbody>'
    yield from rows
    yield "</tbody></table></div>"


def align(column: str) -> str:
    return "" if column in TEXTS else ' class="n"'


def row(columns: Sequence[str], cells: Mapping[str, str], kind: str, detail: str = "") -> str:
    """A row, and a second one for what there is to say about it. kind: the verdict's class."""
    verdict, *others = columns
    shown = f'<td class="{kind}">{escape(cells[verdict])}</td>'
    shown += "".join(f"<td{align(each)}>{escape(cells[each])}</td>" for each in others)
    if not detail:
        return f"<tr>{shown}</tr>"
    span = f'<td colspan="{len(others)}">{escape(detail)}</td>'
    return f'<tr class="told">{shown}</tr><tr class="why"><td></td>{span}</tr>'


def criterion_table(columns: Sequence[str], criteria: Sequence[Criterion]) -> Iterator[str]:
    rows = []
    for each in words.by_verdict(criteria):
        cells = words.threshold_cells(each) | {"Result": each.name, "Checks": each.value}
        rows.append(row(columns, cells, CLASSES[each.verdict], each.detail))
    return table(columns, rows)


def comparison_parts(comparison: Comparison) -> Iterator[str]:
    changes = comparison.changes
    yield from bullets([words.baseline_run(each) for each in comparison.runs])
    if changes:
        yield f"<p>{escape(words.about_runs(changes))}</p>"
    yield from criterion_table(RESULT_COLUMNS, comparison.criteria)
    rows = [row(CHANGE_COLUMNS, words.change_cells(e), CLASSES[e.finding]) for e in changes]
    yield from table(CHANGE_COLUMNS, rows)
    yield from bullets([*words.legend(changes, comparison.margin), *comparison.notes])


# --- figures, checks, notes


def picture_grid(drawn: Sequence[Picture]) -> Iterator[str]:
    if not drawn:
        return
    yield '<div class="pictures">'
    for each in drawn:
        label = escape(f"{each.question} {each.caption}")
        svg = each.svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
        yield f"<figure><h3>{escape(each.question)}</h3>{svg}"
        yield f"<figcaption>{escape(each.caption)}</figcaption></figure>"
    yield "</div>"


def check_list(file: ResultFile) -> str:
    """The checks of a result file, unfolded when one of them failed."""
    rows = "".join(
        f'<li><span class="{CLASSES[each.status]}">{each.status.value}</span> '
        f"<b>{escape(each.name)}</b>: {escape(each.detail)}</li>"
        for each in file.checks
    )
    error = f"<p>{escape(file.error)}</p>" if file.error else ""
    head = f"{escape(file.title)} <span class='muted'>{escape(file.name)}.json</span>"
    state = " open" if any(each.status is Status.FAIL for each in file.checks) else ""
    return f"<details{state}><summary>{head}</summary>{error}<ul>{rows}</ul></details>"


def bullets(lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield "<ul>" + "".join(f"<li>{escape(each)}</li>" for each in lines) + "</ul>"
