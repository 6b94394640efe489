"""The report as JUnit XML, as Jenkins, GitLab and GitHub Actions read it.

A suite for each result file with a case for each of its checks, then one for the thresholds and
one for the baseline. FAIL is a failure, SKIP skipped, and what could not be decided an error: a
pipeline that reads nothing else must not take it for a pass.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from xml.etree import ElementTree as xml

from livecheck.core.checks import Check, Exit, Status
from livecheck.report.baseline import Change, Finding
from livecheck.report.result_files import Saved
from livecheck.report.thresholds import Criterion, Verdict
from livecheck.report.verdict import Report, change_in_words, unclear_in_words

# what XML 1.0 has no way to write (section 2.2), lone surrogates among it
FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass
class Case:
    """A test case: passed, or with what went wrong. kind: failure, error, skipped or None."""

    name: str
    kind: str | None = None
    message: str = ""
    output: str = ""
    type: str = ""


@dataclass
class Suite:
    name: str
    cases: list[Case] = field(default_factory=list)
    time_s: float | None = None
    timestamp: str | None = None

    def count(self, kind: str) -> str:
        return str(sum(case.kind == kind for case in self.cases))


def text(report: Report) -> str:
    """The whole file."""
    root = xml.Element("testsuites", name=clean(report.about.title))
    found = suites(report)
    cases = [case for suite in found for case in suite.cases]
    root.set("tests", str(len(cases)))
    root.set("failures", str(sum(case.kind == "failure" for case in cases)))
    root.set("errors", str(sum(case.kind == "error" for case in cases)))
    root.set("time", seconds(sum(suite.time_s or 0.0 for suite in found)))
    for suite in found:
        root.append(as_element(suite))
    xml.indent(root)
    head = '<?xml version="1.0" encoding="UTF-8"?>\n'
    return head + xml.tostring(root, encoding="unicode") + "\n"


def clean(words: str) -> str:
    return FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", words)


def seconds(time_s: float) -> str:
    return f"{time_s:.3f}"


def as_element(suite: Suite) -> xml.Element:
    element = xml.Element("testsuite", name=clean(suite.name), tests=str(len(suite.cases)))
    element.set("failures", suite.count("failure"))
    element.set("errors", suite.count("error"))
    element.set("skipped", suite.count("skipped"))
    if suite.time_s is not None:
        element.set("time", seconds(suite.time_s))
    if suite.timestamp:
        element.set("timestamp", suite.timestamp)
    for case in suite.cases:
        element.append(case_element(case, suite.name))
    return element


def case_element(case: Case, suite: str) -> xml.Element:
    element = xml.Element("testcase", name=clean(case.name), classname=clean(suite))
    if case.kind:
        result = xml.SubElement(element, case.kind, message=clean(case.message))
        if case.type:
            result.set("type", case.type)
        if case.kind != "skipped":
            result.text = clean(case.message)
    if case.output:
        xml.SubElement(element, "system-out").text = clean(case.output)
    return element


# --- what goes in


def suites(report: Report) -> list[Suite]:
    said = {each.subject: each for each in report.documents}
    found = [of_document(each, said.pop(each.name)) for each in report.folder.documents]
    if said:  # nothing that could be read
        found.append(Suite("results", [of_criterion(each) for each in said.values()]))
    if report.thresholds:
        found.append(Suite("thresholds", [of_criterion(each) for each in report.thresholds]))
    if report.comparison:
        cases = [of_change(each) for each in report.comparison.changes]
        undecided = [e for e in report.comparison.criteria if e.verdict is Verdict.UNDECIDED]
        found.append(Suite("baseline", cases + [of_criterion(each) for each in undecided]))
    return found


def of_document(document: Saved, criterion: Criterion) -> Suite:
    """Its checks; and one case more when they do not say what came of it."""
    excused = criterion.verdict is Verdict.REPORTED
    cases = [of_check(each, excused) for each in document.checks]
    if criterion.verdict is Verdict.UNDECIDED or document.exit_code in (
        Exit.INTERRUPTED,
        Exit.TERMINATED,
    ):
        cases.append(Case("verdict", "error", criterion.detail, type=Verdict.UNDECIDED.value))
    started = f"{document.started_at:%Y-%m-%dT%H:%M:%S}"
    return Suite(document.name, cases, document.duration_s, started)


def of_check(check: Check, excused: bool) -> Case:
    name, detail = check.name, check.detail
    if check.status is Status.FAIL and not excused:
        return Case(name, "failure", detail, type=Status.FAIL.value)
    if check.status is Status.SKIP:
        return Case(name, "skipped", detail)
    return Case(name, output=f"{check.status.value}: {detail}")


def of_criterion(criterion: Criterion) -> Case:
    name = f"{criterion.name} {criterion.target}" if criterion.samples else criterion.name
    words = ", ".join(filter(None, (criterion.value.strip("-"), criterion.detail)))
    kind = {Verdict.FAIL: "failure", Verdict.UNDECIDED: "error"}.get(criterion.verdict)
    if kind:
        return Case(name, kind, words, type=criterion.verdict.value)
    return Case(name, output=f"{criterion.verdict.value}: {words}")


def of_change(change: Change) -> Case:
    name = f"{change.document} {change.label}"
    said = change_in_words(change)
    if change.finding is Finding.WORSE:
        message = f"worse by at least {change.margin * 100:.3g} %: {said}"
        return Case(name, "failure", message, type=change.finding.value)
    if change.finding is Finding.UNCLEAR:
        return Case(name, "skipped", unclear_in_words(change))
    return Case(name, output=f"{change.finding.value}: {said}")
