"""The report as a page: one file that opens offline, light or dark, and prints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from livecheck.core.checks import Status
from livecheck.core.result_file import write_atomically
from livecheck.core.run import TOOL_VERSION
from livecheck.core.text import figure
from livecheck.report.baseline import Change, Finding
from livecheck.report.plots import Picture, pictures
from livecheck.report.result_files import Saved
from livecheck.report.text import NO_SPREAD, SPREAD, by_verdict, change_label, finding, legend
from livecheck.report.thresholds import Criterion, Verdict
from livecheck.report.verdict import Comparison, Report, percent

CLASSES = {
    Verdict.PASS: "good",
    Verdict.FAIL: "bad",
    Verdict.UNDECIDED: "open",
    Verdict.REPORTED: "muted",
}
WORDS = {Verdict.UNDECIDED: "NOT DECIDED", Verdict.REPORTED: "not judged"}
CHECK_CLASSES = {
    Status.PASS: "good",
    Status.FAIL: "bad",
    Status.WARN: "warn",
    Status.SKIP: "open",
}
VERDICT_CLASSES = {"PASS": "good", "FAIL": "bad"}

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


def write(report: Report, path: Path) -> None:
    """Write the page. Raises OSError, and ModuleNotFoundError without matplotlib."""
    write_atomically(path, text(report))


def text(report: Report) -> str:
    return "\n".join(lines(report)) + "\n"


def lines(report: Report) -> Iterator[str]:
    yield "<!DOCTYPE html>"
    yield '<html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{escape(f'{report.word}: {report.about.title}')}</title>"
    yield f"<style>{STYLE}</style></head><body>"
    yield from top(report)
    yield from section("Results", result_table(report.documents))
    yield from section("Thresholds", threshold_table(report.thresholds))
    if report.comparison:
        yield from section("Against the baseline", comparison_parts(report.comparison))
    yield from section("Figures", picture_grid(pictures(report)))
    yield from section("Every check", map(check_list, report.folder.documents))
    yield from section("Notes", note_list(report.notes))
    yield f'<p class="muted"><code>{escape(report.gate_line)}</code></p>'
    yield "</body></html>"


def section(heading: str, content: Iterator[str]) -> Iterator[str]:
    """A part of the page, unless there is nothing in it."""
    parts = list(content)
    if parts:
        yield f"<section><h2>{escape(heading)}</h2>"
        yield from parts
        yield "</section>"


# --- the verdict


def top(report: Report) -> Iterator[str]:
    kind = VERDICT_CLASSES.get(report.word, "open")
    counted = f"{report.passed} of {report.judged} criteria"
    yield f"<header><h1>{escape(report.about.title)}</h1>"
    yield f'<p class="verdict {kind}"><strong>{report.word}</strong>'
    yield f"<span>{counted}. Worst: {escape(report.worst)}</span></p><dl>"
    for name, value in facts(report):
        yield f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>"
    yield "</dl></header>"


def facts(report: Report) -> Iterator[tuple[str, str]]:
    about = report.about
    quant = f" ({about.quant})" if about.quant else ""
    yield "GPU", about.gpu or "not given"
    yield "Model", f"{about.model or 'not given'}{quant}"
    if about.measured_at:
        yield "Measured", f"{about.measured_at:%Y-%m-%d %H:%M} UTC"
    yield "Endpoint", ", ".join(about.urls) or "not known"
    yield "Profile", about.profile
    yield "Report", f"{report.created_at:%Y-%m-%d %H:%M} UTC, version {TOOL_VERSION}"


# --- tables


def table(heads: Sequence[str], rows: Sequence[str]) -> Iterator[str]:
    """A table that scrolls by itself where it is too wide; a head with a # is that of numbers."""
    if not rows:
        return
    cells = "".join(
        f'<th class="n">{escape(head[1:])}</th>' if head[:1] == "#" else f"<th>{escape(head)}</th>"
        for head in heads
    )
    yield f'<div class="wide"><table><thead><tr>{cells}</tr></thead><tbody>'
    yield from rows
    yield "</tbody></table></div>"


def word(criterion: Criterion) -> str:
    said = WORDS.get(criterion.verdict, criterion.verdict.value)
    return f'<td class="{CLASSES[criterion.verdict]}">{said}</td>'


def row(criterion: Criterion, cells: str, columns: int) -> str:
    """A criterion's row, and a second one for what there is to say about it."""
    told, why = "", ""
    if criterion.detail:
        told = ' class="told"'
        detail = escape(criterion.detail)
        why = f'<tr class="why"><td></td><td colspan="{columns}">{detail}</td></tr>'
    return f"<tr{told}>{word(criterion)}{cells}</tr>{why}"


def result_table(criteria: Sequence[Criterion]) -> Iterator[str]:
    rows = [
        row(each, f"<td>{escape(each.name)}</td><td>{escape(each.value)}</td>", columns=2)
        for each in by_verdict(criteria)
    ]
    return table(("Verdict", "Result", "Checks"), rows)


def threshold_table(criteria: Sequence[Criterion]) -> Iterator[str]:
    heads = ("Verdict", "Metric", "#Target", "#Value", "#Samples")
    rows = [row(each, threshold_cells(each), columns=4) for each in by_verdict(criteria)]
    return table(heads, rows)


def threshold_cells(criterion: Criterion) -> str:
    samples = "-" if criterion.samples is None else str(criterion.samples)
    figures = (criterion.target, criterion.value, samples)
    numbers = "".join(f'<td class="n">{escape(each)}</td>' for each in figures)
    return f"<td>{escape(criterion.name)}</td>{numbers}"


def comparison_parts(comparison: Comparison) -> Iterator[str]:
    changes = comparison.changes
    yield f"<p>{escape(comparison.paths)}"
    if changes:
        runs = max(each.runs for each in changes)
        yield escape(f" ({f'{runs} runs: {SPREAD}' if runs > 1 else f'one run: {NO_SPREAD}'})")
    yield "</p>"
    yield from result_table(comparison.criteria)
    heads = ("Verdict", "Metric", "#Change", "#95 % interval", "#Then", "#Now")
    yield from table(heads, [change_row(each) for each in changes])
    if changes:
        yield f'<p class="muted">{escape(legend(comparison).strip())}</p>'
    yield from note_list(comparison.notes)


def change_row(change: Change) -> str:
    kinds = {Finding.WORSE: "bad", Finding.BETTER: "good", Finding.UNCLEAR: "open"}
    unit = escape(change.metric.unit)
    cells = (
        percent(change.change),
        f"{percent(change.low)} to {percent(change.high)}",
        f"{figure(change.then)} {unit}",
        f"{figure(change.now)} {unit}",
    )
    numbers = "".join(f'<td class="n">{cell}</td>' for cell in cells)
    said = f'<td class="{kinds.get(change.finding, "muted")}">{escape(finding(change))}</td>'
    return f"<tr>{said}<td>{escape(change_label(change))}</td>{numbers}</tr>"


# --- figures, checks, notes


def picture_grid(drawn: Sequence[Picture]) -> Iterator[str]:
    if not drawn:
        return
    yield '<div class="pictures">'
    for each in drawn:
        label = escape(f"{each.question} {each.caption}", quote=True)
        svg = each.svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
        yield f"<figure><h3>{escape(each.question)}</h3>{svg}"
        yield f"<figcaption>{escape(each.caption)}</figcaption></figure>"
    yield "</div>"


def check_list(document: Saved) -> str:
    """A result's checks, unfolded where one of them wants to be read."""
    wrong = any(each.status is Status.FAIL for each in document.checks)
    rows = "".join(
        f'<li><span class="{CHECK_CLASSES[each.status]}">{each.status.value}</span> '
        f"<b>{escape(each.name)}</b>: {escape(each.detail)}</li>"
        for each in document.checks
    )
    error = f"<p>{escape(document.error)}</p>" if document.error else ""
    head = f"{escape(document.title)} <span class='muted'>{escape(document.name)}.json</span>"
    begin = "<details open>" if wrong else "<details>"
    return f"{begin}<summary>{head}</summary>{error}<ul>{rows}</ul></details>"


def note_list(notes: Sequence[str]) -> Iterator[str]:
    if notes:
        yield "<ul>" + "".join(f"<li>{escape(each)}</li>" for each in notes) + "</ul>"
