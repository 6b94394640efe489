"""One check says in every script what is wrong with the compression of answers."""

from __future__ import annotations

import gzip

from helpers.answers import answer

from livecheck.core.checks import CONTENT_ENCODING, Check, Exit, Status, exit_code_of
from livecheck.wire import chat
from livecheck.wire.answer import Answer
from livecheck.wire.coding_check import LARGEST_KEPT_BYTES, MOST_OF_ONE, Codings


def coded(named: str, body: bytes) -> Answer:
    headers = {"Content-Encoding": named} if named else {}
    return answer(200, headers, body, request=chat.get("/health"))


def judged(*answers: Answer, is_asked_for: bool = False) -> Check | None:
    codings = Codings()
    for each in answers:
        codings.note(each)
    return codings.judge(is_asked_for)


def test_where_nothing_is_wrong_there_is_no_check_unless_it_is_asked_for() -> None:
    plain, odd = coded("", b"{}"), coded("utf-8", b"{}")
    assert judged(plain, odd) is None
    check = judged(plain, odd, is_asked_for=True)
    assert check and check.status is Status.PASS and "2 answers" in check.detail


def test_what_nobody_asked_for_is_a_warning() -> None:
    check = judged(coded("gzip", gzip.compress(b"{}")))
    assert check and check.status is Status.WARN
    assert "GET /health: it says Content-Encoding: gzip though" in check.detail


def test_what_clients_fail_on_is_a_fail_and_counts_more() -> None:
    fine = coded("gzip", gzip.compress(b"{}"))
    for bad in (coded("gzip", b"{}"), coded("", gzip.compress(b"{}")), coded("br", b"\x0b\x02")):
        check = judged(fine, bad)
        assert check and check.status is Status.FAIL, bad


def test_only_some_answers_are_kept_and_all_are_counted() -> None:
    codings = Codings()
    for _ in range(2 * MOST_OF_ONE):
        codings.note(coded("gzip", gzip.compress(b"{}")))
    codings.note(coded("", b"{}"))
    assert len(codings.found) == MOST_OF_ONE
    check = codings.judge(is_asked_for=False)
    assert check and check.evidence == {
        "answers": 2 * MOST_OF_ONE + 1,
        "compressed": 2 * MOST_OF_ONE,
    }


def test_a_large_answer_is_looked_at_at_once_and_not_kept() -> None:
    codings = Codings()
    codings.note(coded("gzip", bytes(range(256)) * (LARGEST_KEPT_BYTES // 128)))
    assert codings.found == []
    assert len(codings.problems) == 1


def test_it_does_not_decide_what_a_script_exists_for() -> None:
    doubt = Check(CONTENT_ENCODING, Status.WARN, "")
    skipped = Check("requests", Status.SKIP, "")
    assert exit_code_of([skipped, doubt]) is Exit.UNDECIDED
    assert exit_code_of([doubt]) is Exit.OK
    assert exit_code_of([]) is Exit.UNDECIDED
