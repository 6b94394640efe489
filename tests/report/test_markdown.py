"""The Markdown fits the summary of a job, says first what decides, and links to nothing."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import markdown_it
import pytest

from livecheck.core.checks import Check, Exit, Status
from livecheck.report import markdown, verdict
from livecheck.report.result_files import Folder, ResultFile, kind_of
from livecheck.report.thresholds import Criterion, Verdict

NOW = datetime(2026, 5, 4, tzinfo=timezone.utc)


def criterion(name: str, word: Verdict = Verdict.PASS, detail: str = "") -> Criterion:
    return Criterion(name, name, "", "-", None, word, detail)


def threshold(number: int, word: Verdict = Verdict.PASS) -> Criterion:
    return Criterion("inference_c1", f"metric {number}", "≤ 5 ms", "9 ms", 50, word, "", 0.5)


def result(name: str, *checks: Check) -> ResultFile:
    kind = kind_of(name)
    assert kind
    code = Exit.FAIL if any(each.status is Status.FAIL for each in checks) else Exit.OK
    return ResultFile(
        *(name, Path(name), kind, f"test_{name}", "0", code, None, NOW, 1.0),
        *({}, {}, {}, list(checks), {}, []),
    )


def report(
    results: list[Criterion], thresholds: list[Criterion] | None = None, *files: ResultFile
) -> verdict.Report:
    about = verdict.About("v1", "gateway", None, "sea", None, ("https://host",), NOW)
    folder = Folder(Path("results"), list(files))
    return verdict.Report(about, NOW, folder, results, thresholds or [], None, [])


def test_what_decides_comes_first_and_only_if_something_does() -> None:
    made = [criterion("a"), criterion("b", Verdict.UNDECIDED, "why"), criterion("c", Verdict.FAIL)]
    lines = markdown.text(report(made)).splitlines()
    at = lines.index("### What decides")
    assert lines[at + 2 : at + 4] == ["- FAIL, c: -", "- NOT DECIDED, b: why"]
    assert at < lines.index("### a: PASS")
    assert "### What decides" not in markdown.text(report(made[:1]))


def test_thresholds_are_folded_and_open_when_one_is_missed() -> None:
    kept = markdown.text(report([], [threshold(1)]))
    assert "<details><summary>1 of 1 kept</summary>" in kept
    missed = markdown.text(report([], [threshold(1), threshold(2, Verdict.FAIL)]))
    assert "<details open><summary>1 of 2 kept</summary>" in missed


def test_checks_that_warn_are_there_although_the_result_passed() -> None:
    checks = [Check("others", Status.WARN, "slow <b>"), Check("vary", Status.PASS, "good")]
    made = markdown.text(report([criterion("cors")], None, result("cors", *checks)))
    assert "<details><summary>1 WARN of 2 checks</summary>" in made
    assert "- WARN others: slow \\<b\\>" in made and "good" not in made


def test_a_single_failure_is_not_said_twice() -> None:
    file = result("cors", Check("others", Status.FAIL, "refused"))
    failed = criterion("cors", Verdict.FAIL, "others: refused")
    assert "<details>" not in markdown.text(report([failed], None, file))


@pytest.mark.parametrize("word", [Verdict.FAIL, Verdict.PASS])
@pytest.mark.parametrize("detail", ["x" * 2000, "<@a #1 https://a_" * 100, "漢" * 2000])
def test_it_fits_a_comment_however_much_there_is(word: Verdict, detail: str) -> None:
    results = [criterion(f"result {number} {detail}", word, detail) for number in range(300)]
    thresholds = [threshold(number, word) for number in range(300)]
    checks = [Check(f"check {number}", Status.FAIL, detail) for number in range(200)]
    files = [result("cors", *checks)]
    made = markdown.text(report([criterion("cors", word), *results], thresholds, *files))
    assert len(made) <= markdown.MAX_CHARACTERS
    assert "are left out here: see `--html` or `--output json`." in made
    assert made.rstrip().endswith("`")  # the last line is there


def test_what_is_wrong_is_kept_before_what_passed() -> None:
    results = [criterion(f"good {number}", detail="x" * 900) for number in range(2000)]
    made = markdown.text(report([*results, criterion("bad", Verdict.FAIL)]))
    assert "### bad: FAIL" in made and "more (PASS) are left out" in made


@pytest.mark.parametrize(
    "said", ["@octocat", "#12", "https://a.example/x", "www.a.example", "(@a) b@c.example GH-1"]
)
def test_nothing_that_is_said_becomes_a_link(said: str) -> None:
    source = markdown.item(said)
    for mark in ("@o", "@a", "#1", "s://", "www.a"):
        assert mark not in source
    parser = markdown_it.MarkdownIt("commonmark", {"html": True, "linkify": False})
    assert parser.render(source).replace("<!-- -->", "") == f"<ul>\n<li>{said}</li>\n</ul>\n"
