"""Beside each failure and warning the page shows the requests behind it, whatever they hold."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from helpers import samples
from helpers.answers import answer
from helpers.damaged_results import MARK, strange_text
from lxml import html as lxml_html

from livecheck.core.checks import Check, Status, failed, passed, warned
from livecheck.report.evidence import Shown, command_for
from livecheck.report.exchanges import MAX_LINE, read_exchanges
from livecheck.report.result_files import ResultFile, read_folder
from livecheck.wire.wire import Request

NASTY = '"><script>alert(1)</script>\x1b[2J\u202e'
ASKED = Request("POST", "/v1/chat/completions", b'{"max_tokens": 4}')


def file_with(folder: Path, *checks: Check, **changes: Any) -> ResultFile:
    """A result file of test_cors.py with these checks, as a report reads it again."""
    content = (
        samples.result("cors", *checks, command="python3 test_cors.py --url http://h") | changes
    )
    samples.write_results(folder, cors=content)
    found = read_folder(folder)
    assert not found.problems
    return found.files[0]


def shown(file: ResultFile) -> Any:
    parts = Shown()
    text = "".join(part for check in file.checks for part in parts.evidence(file, check))
    assert list(strange_text(text)) == []
    return lxml_html.document_fromstring(f"<main>{text}</main>")


def refusal(body: object = b"busy", status: int = 503) -> Any:
    headers = {"Content-Type": "text/plain", "Retry-After": "5"}
    return answer(status, headers, body, request=ASKED, spent_ms=4.0)


def test_a_failure_opens_what_was_asked_and_answered_and_how_to_repeat_it(tmp_path: Path) -> None:
    check = failed("others", "let in", {"status": 503}).shown_by([refusal(b"one\ntwo\x07")])
    tree = shown(file_with(tmp_path, check, passed("vary", "")))
    (details,) = tree.xpath("//details")
    said = details.text_content()
    for part in (
        "Evidence: the request behind it",
        "python3 test_cors.py --url http://h --only others",
        '{"status": 503}',
        "POST /v1/chat/completions",
        "503 after 4.0 ms",
        '{"max_tokens": 4}',
        "retry-after: 5",
        "one\ntwo\\x07",
    ):
        assert part in said
    assert details.xpath(".//svg/title") and details.xpath(".//svg/desc")


def test_a_request_of_two_checks_is_shown_once_and_linked_to(tmp_path: Path) -> None:
    same = refusal()
    one, two = failed("others", "").shown_by([same]), warned("vary", "").shown_by([same])
    tree = shown(file_with(tmp_path, one, two))
    (article,) = tree.xpath("//article")
    assert tree.xpath("//a/@href") == [f"#{article.get('id')}"]
    assert len(set(tree.xpath("//@id"))) == len(tree.xpath("//@id"))


def test_of_a_check_without_requests_its_figures_are_shown(tmp_path: Path) -> None:
    tree = shown(file_with(tmp_path, warned("vary", "", {"lacking": 3})))
    assert '{"lacking": 3}' in tree.text_content()
    assert "it rests on figures" in tree.text_content()


def test_a_file_of_an_earlier_version_says_that_it_has_none(tmp_path: Path) -> None:
    content = samples.result("cors", failed("others", ""))
    del content["exchanges"]
    samples.write_results(tmp_path, cors=content)
    file = read_folder(tmp_path).files[0]
    assert "saved without requests" in shown(file).text_content()
    assert command_for(file, file.checks[0]) == ""


def test_what_a_server_said_stays_text(tmp_path: Path) -> None:
    headers = {"X-Evil": NASTY[:-1], "Content-Type": "text/html"}
    said = answer(500, headers, NASTY.encode(), request=Request("GET", f"/{MARK}"))
    tree = shown(file_with(tmp_path, failed("others", MARK).shown_by([said])))
    assert not tree.xpath("//script | //@onerror")
    assert "<script>alert(1)</script>\\x1b[2J\\u202e" in tree.text_content()


def test_whatever_a_file_claims_to_have_is_bounded_and_shown(tmp_path: Path) -> None:
    """Of another form, much too long, or with text that would be code."""
    odd: list[Any] = [
        3,
        {},
        {"checks": [], "asked": None},
        {"checks": {"others": NASTY}, "asked": 7, "status": "x", "at_ms": -1, "headers": [1]},
        {"checks": {"others": "named"}, "answer": ["x" * 9000] * 900, "answer_bytes": 10**9},
        {"checks": {"others": "named"}, "answer": NASTY, "question": {"a": 1}, "error": [NASTY]},
        *[{"checks": {"others": "named"}}] * 500,
    ]
    file = file_with(tmp_path, failed("others", ""), exchanges=odd)
    assert len(file.exchanges) < 50
    assert all(len(line) <= MAX_LINE for each in file.exchanges for line in each.answer)
    assert not shown(file).xpath("//script")
    assert read_exchanges("none") == []


def test_no_room_is_no_reason_to_refuse_a_file(tmp_path: Path) -> None:
    large = {"checks": {"others": "named"}, "answer": ["x" * 2000] * 300}
    content = samples.result("cors", failed("others", ""))
    samples.write_results(tmp_path, cors=content | {"exchanges": [large] * 40})
    found = read_folder(tmp_path)
    assert not found.problems
    kept = sum(len(line) for each in found.files[0].exchanges for line in each.answer)
    assert 0 < kept <= 4 << 20


def test_a_pass_and_a_skip_have_nothing_to_open(tmp_path: Path) -> None:
    file = file_with(tmp_path, passed("vary", ""), Check("others", Status.SKIP, "not asked"))
    assert not shown(file).xpath("//details")


@pytest.mark.parametrize(
    ("script", "check", "is_alone"),
    [
        ("cors", "edge_idle", True),
        ("benchmark", "edge_idle", False),  # it would measure nothing
        ("benchmark", "content_encoding", False),
        ("benchmark", "slo:ttft_p50", False),
        ("benchmark", "pacing", True),
    ],
)
def test_the_line_that_repeats_a_check_is_one_that_runs(
    script: str, check: str, is_alone: bool, tmp_path: Path
) -> None:
    file = dataclasses.replace(file_with(tmp_path, warned(check, "")), script=script)
    assert ("--only" in command_for(file, file.checks[0])) is is_alone
