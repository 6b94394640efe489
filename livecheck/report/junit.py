"""The report as JUnit XML, as Jenkins, GitLab and GitHub Actions read it.

A suite for each result file with a case for each of its checks, then one for the thresholds and one
for the baseline. FAIL is a failure and SKIP is skipped. What could not be decided is an error: a
pipeline that reads nothing else must not take it for a pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as xml

from livecheck.core.checks import Check, Status
from livecheck.core.late_pattern import late_pattern
from livecheck.report.baseline import Change, Finding
from livecheck.report.result_files import ResultFile
from livecheck.report.thresholds import Criterion, Verdict
from livecheck.report.verdict import Report
from livecheck.report.words import change_in_words, margin_text, shown, unclear_in_words

# what XML 1.0 cannot contain (section 2.2), lone surrogates among it
FORBIDDEN = late_pattern("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
COUNTED = {"tests": "testcase", "failures": "failure", "errors": "error", "skipped": "skipped"}


def text(report: Report) -> str:
    """The whole file."""
    root = xml.Element("testsuites", name=clean(report.about.title))
    root.extend(suites(report))
    count(root, "tests", "failures", "errors")
    root.set("time", f"{sum(each.duration_s for each in report.folder.files):.3f}")
    xml.indent(root)
    head = '<?xml version="1.0" encoding="UTF-8"?>\n'
    return head + xml.tostring(root, encoding="unicode") + "\n"


def clean(words: str) -> str:
    return FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", shown(words))


def count(element: xml.Element, *names: str) -> None:
    for name in names:
        element.set(name, str(sum(1 for _ in element.iter(COUNTED[name]))))


def make_suite(name: str, cases: Sequence[xml.Element]) -> xml.Element:
    suite = xml.Element("testsuite", name=clean(name))
    suite.extend(cases)
    for case in cases:
        case.set("classname", clean(name))
    count(suite, *COUNTED)
    return suite


def make_case(name: str, kind: str = "", words: str = "", finding: str = "") -> xml.Element:
    """kind: failure, error or skipped; without one the case has passed, and `words` are output."""
    case = xml.Element("testcase", name=clean(name))
    result = xml.SubElement(case, kind or "system-out")
    if kind:
        result.set("message", clean(words))
    if finding:
        result.set("type", finding)
    if kind != "skipped":
        result.text = clean(words)
    return case


# --- what goes in


def suites(report: Report) -> list[xml.Element]:
    criteria = {each.subject: each for each in report.results}
    found = [suite_of(each, criteria.pop(each.name)) for each in report.folder.files]
    if criteria:  # those of files that are missing or cannot be used
        found.append(make_suite("results", [case_of(each) for each in criteria.values()]))
    if report.thresholds:
        found.append(make_suite("thresholds", [case_of(each) for each in report.thresholds]))
    if report.comparison:
        cases = [case_of_change(each) for each in report.comparison.changes]
        undecided = [e for e in report.comparison.criteria if e.verdict is Verdict.UNDECIDED]
        found.append(make_suite("baseline", cases + [case_of(each) for each in undecided]))
    return found


def suite_of(file: ResultFile, criterion: Criterion) -> xml.Element:
    """A file's checks, and one more case when these do not say what became of it."""
    is_excused = criterion.verdict is Verdict.REPORTED
    cases = [case_of_check(each, is_excused) for each in file.checks]
    is_interrupted = file.exit_code.is_interruption
    if criterion.verdict is Verdict.UNDECIDED or is_interrupted:
        cases.append(make_case("verdict", "error", criterion.detail, Verdict.UNDECIDED.value))
    suite = make_suite(file.name, cases)
    suite.set("time", f"{file.duration_s:.3f}")
    suite.set("timestamp", f"{file.started_at:%Y-%m-%dT%H:%M:%S}")
    return suite


def case_of_check(check: Check, is_excused: bool) -> xml.Element:
    if check.status is Status.FAIL and not is_excused:
        return make_case(check.name, "failure", check.detail, Status.FAIL.value)
    if check.status is Status.SKIP:
        return make_case(check.name, "skipped", check.detail)
    return make_case(check.name, words=f"{check.status.value}: {check.detail}")


def case_of(criterion: Criterion) -> xml.Element:
    name = f"{criterion.name} {criterion.target}" if criterion.samples else criterion.name
    words = ", ".join(filter(None, (criterion.value.strip("-"), criterion.detail)))
    kind = {Verdict.FAIL: "failure", Verdict.UNDECIDED: "error"}.get(criterion.verdict)
    if kind:
        return make_case(name, kind, words, criterion.verdict.value)
    return make_case(name, words=f"{criterion.verdict.value}: {words}")


def case_of_change(change: Change) -> xml.Element:
    name, said = f"{change.document} {change.metric.label}", change_in_words(change)
    if change.finding is Finding.WORSE:
        message = f"worse by more than {margin_text(change.margin)}: {said}"
        return make_case(name, "failure", message, change.finding.value)
    if change.finding is Finding.SESSION:
        message = f"{said}: the spread between sessions could explain it"
        return make_case(name, "error", message, change.finding.value)
    if change.finding is Finding.UNCLEAR:
        return make_case(name, "skipped", unclear_in_words(change))
    return make_case(name, words=f"{change.finding.value}: {said}")
