"""The report as a page: one file that opens offline, light or dark, and prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from livecheck.core.checks import Status
from livecheck.core.run import TOOL_VERSION, missing
from livecheck.report import words
from livecheck.report.baseline import Finding
from livecheck.report.evidence import Shown, anchor
from livecheck.report.html_parts import bullets, escape, fact_list, page, section, wide_table
from livecheck.report.page_style import STYLE
from livecheck.report.plots import Picture, pictures
from livecheck.report.result_files import ResultFile
from livecheck.report.steady_window import words_of_level
from livecheck.report.thresholds import Criterion, Verdict
from livecheck.report.timeline import picture, timelines
from livecheck.report.verdict import REQUIREMENTS, Comparison, Report

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

NO_LINKS: Mapping[str, str] = {}


def text(report: Report) -> str:
    """The whole page."""
    title = f"{report.word}: {report.about.title}"
    return "\n".join(page(title, STYLE, body(report))) + "\n"


def body(report: Report) -> Iterator[str]:
    yield from header(report)
    links = {each.name: anchor(each) for each in report.folder.files}
    yield from section("Results", criterion_table(RESULT_COLUMNS, report.results, links))
    yield from section("Thresholds", criterion_table(THRESHOLD_COLUMNS, report.thresholds))
    if report.comparison:
        yield from section("Against the baseline", comparison_parts(report.comparison))
    shown = Shown()
    yield from section("Every check", (check_list(each, shown) for each in report.folder.files))
    lines_of_time = timelines(report.folder)
    drawn = (part for n, each in enumerate(lines_of_time) for part in picture(each, n))
    yield from section("Who waited, who served", drawn)
    yield from section("Figures", figures(report))
    yield from section("Notes", bullets(report.notes))
    yield f'<p class="muted"><code>{escape(report.gate_line)}</code></p>'


def header(report: Report) -> Iterator[str]:
    kind = {"PASS": "good", "FAIL": "bad"}.get(report.word, "open")
    yield f"<header><h1>{escape(report.about.title)}</h1>"
    yield f'<p class="verdict {kind}"><strong>{report.word}</strong>'
    yield f"<span>{report.count}. "
    yield f"Worst: {escape(report.worst)}</span></p>"
    made = f"{report.created_at:%Y-%m-%d %H:%M} UTC, version {TOOL_VERSION}"
    shown = {**words.facts(report.about), "Profile": report.about.profile, "Report": made}
    yield from fact_list(shown)
    yield "</header>"


# --- tables


def table(columns: Sequence[str], rows: Sequence[str]) -> Iterator[str]:
    """A table that scrolls by itself where it is too wide."""
    heads = (f'<th scope="col"{align(each)}>{escape(each)}</th>' for each in columns)
    yield from wide_table("".join(heads), rows)


def align(column: str) -> str:
    return "" if column in TEXTS else ' class="n"'


def row(
    columns: Sequence[str],
    cells: Mapping[str, str],
    kind: str,
    detail: str = "",
    to: str | None = None,
) -> str:
    """A row, and a second one for what there is to say about it. kind: the verdict's class. to: the
    id of what the second cell leads to."""
    verdict, *others = columns
    texts = [escape(cells[each]) for each in others]
    if to:
        texts[0] = f'<a href="#{to}">{texts[0]}</a>'
    shown = f'<td class="{kind}">{escape(cells[verdict])}</td>'
    shown += "".join(f"<td{align(e)}>{text}</td>" for e, text in zip(others, texts, strict=True))
    if not detail:
        return f"<tr>{shown}</tr>"
    span = f'<td colspan="{len(others)}">{escape(detail)}</td>'
    return f'<tr class="told">{shown}</tr><tr class="why"><td></td>{span}</tr>'


def criterion_table(
    columns: Sequence[str], criteria: Sequence[Criterion], links: Mapping[str, str] = NO_LINKS
) -> Iterator[str]:
    """links: by the name of a result file, where its checks are on the page."""
    rows = []
    for each in words.by_verdict(criteria):
        cells = words.threshold_cells(each) | {"Result": each.name, "Checks": each.value}
        to = links.get(each.subject)
        rows.append(row(columns, cells, CLASSES[each.verdict], each.detail, to))
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


def figures(report: Report) -> Iterator[str]:
    """The plots; without the package that draws them, what to install: the rest of the page is
    worth having all the same."""
    try:
        drawn = pictures(report)
    except ModuleNotFoundError as error:
        yield f"<p>There are no plots: {escape(missing(error, REQUIREMENTS))}</p>"
        return
    yield from picture_grid(drawn)


def picture_grid(drawn: Sequence[Picture]) -> Iterator[str]:
    if not drawn:
        return
    yield '<div class="pictures">'
    for each in drawn:
        yield f"<figure><h3>{escape(each.question)}</h3>{named(each)}"
        yield f"<figcaption>{escape(each.caption)}</figcaption></figure>"
    yield "</div>"


def named(drawn: Picture) -> str:
    """The SVG with its name and description, for those who cannot see it."""
    about = f"<title>{escape(drawn.question)}</title><desc>{escape(drawn.caption)}</desc>"
    label = f' role="img" aria-label="{escape(drawn.question)}"'
    head, _, rest = drawn.svg.partition(">")
    return f"{head}{label}>{about}{rest}" if rest else drawn.svg


def check_list(file: ResultFile, shown: Shown) -> str:
    """The checks of a result file, unfolded when one of them failed: what is wrong comes first."""
    order = [Status.FAIL, Status.WARN, Status.SKIP, Status.PASS]
    rows = "".join(
        f'<li><span class="{CLASSES[each.status]}">{each.status.value}</span> '
        f"<b>{escape(each.name)}</b>: {escape(each.detail)}"
        f"{''.join(shown.evidence(file, each))}</li>"
        for each in sorted(file.checks, key=lambda check: order.index(check.status))
    )
    error = f"<p>{escape(file.error)}</p>" if file.error else ""
    of_level = words_of_level(file.metrics) if file.is_level else ()
    error += "".join(f"<p>{escape(said)}</p>" for said in of_level)
    head = f"{escape(file.title)} <span class='muted'>{escape(file.name)}.json</span>"
    state = " open" if any(each.status is Status.FAIL for each in file.checks) else ""
    parts = f"<summary>{head}</summary>{error}<ul class='checks'>{rows}</ul>"
    return f'<details id="{anchor(file)}"{state}>{parts}</details>'
