"""Which exchanges a result file keeps, and how much of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from livecheck.core.checks import MAX_OF_CHECK, Check, failed, passed, warned
from livecheck.core.cleaning import MAX_LINES, Cleaner, Lines
from livecheck.core.exchanges import MAX_EXCHANGES, MAX_NOTED, Exchanges, Noted
from livecheck.core.redaction import Secrets


@dataclass
class Answered:
    """As much of an answer as a check needs."""

    number: int
    kind: str = "a"

    def __post_init__(self) -> None:
        self.exchange: dict[str, Any] = {"sent_ns": self.number * 1_000_000, "asked": self.number}


def kept(*checks: Check, noted: Noted | None = None) -> list[dict[str, Any]]:
    exchanges = Exchanges(noted or Noted())
    exchanges.take(checks)
    return exchanges.as_list(started_ns=0)


def test_a_failure_keeps_the_answers_that_it_names_in_the_order_of_sending() -> None:
    found = kept(failed("one", "").shown_by([Answered(7), Answered(3)]))
    assert [(each["index"], each["asked"], each["at_ms"]) for each in found] == [
        (0, 3, 3.0),
        (1, 7, 7.0),
    ]
    assert found[0]["checks"] == {"one": "named"}


def test_a_pass_keeps_nothing() -> None:
    assert kept(passed("one", "").shown_by([Answered(1)])) == []


def test_answers_that_differ_come_before_more_of_the_same() -> None:
    many = [Answered(number) for number in range(100)]
    found = kept(failed("one", "").shown_by([*many, Answered(100, "b")]))
    assert len(found) == MAX_OF_CHECK
    assert found[-1]["asked"] == 100


def test_an_answer_of_two_checks_is_kept_once() -> None:
    answer = Answered(1)
    (found,) = kept(failed("one", "").shown_by([answer]), warned("two", "").shown_by([answer]))
    assert found["checks"] == {"one": "named", "two": "named"}


def test_a_check_that_names_none_has_those_that_failed_meanwhile() -> None:
    noted = Noted()
    for number in range(10):
        noted.add(Answered(number))
    exchanges = Exchanges(noted)
    exchanges.take([failed("one", "")])
    assert len(exchanges.as_list(0)) == MAX_NOTED
    assert exchanges.as_list(0)[0]["checks"] == {"one": "failed_meanwhile"}
    exchanges.take([failed("two", "")])
    assert len(exchanges.as_list(0)) == MAX_NOTED  # they were let go when one was decided


def test_a_file_is_bounded_and_each_failure_has_one_before_another_has_two() -> None:
    checks = [
        failed(f"check {number}", "").shown_by([Answered(10 * number + n) for n in range(4)])
        for number in range(30)
    ]
    found = kept(warned("a doubt", "").shown_by([Answered(999)]), *checks)
    assert len(found) == MAX_EXCHANGES
    named = {name for each in found for name in each["checks"]}
    assert named == {check.name for check in checks} | {"a doubt"}


def test_lines_are_kept_and_pieces_of_credentials_and_control_characters_are_not() -> None:
    secrets = Secrets()
    secrets.add("sk-very-secret-0123456789")
    text = Lines("one\r\ntwo\x1b[31m sk-very-secret-0123456789\n\n" + "x" * 9000)
    lines = Cleaner(secrets).document({"exchanges": [{"answer": text}]})["exchanges"][0]["answer"]
    assert lines[:3] == ["one\\x0d", "two\\x1b[31m [redacted]", ""]
    assert sum(map(len, lines)) <= MAX_LINES + len("...")


def test_a_credential_that_the_bound_would_cut_is_taken_out_first() -> None:
    secrets = Secrets()
    secrets.add("sk-very-secret-0123456789")
    text = Lines("x" * (MAX_LINES - 6) + "sk-very-secret-0123456789")
    lines = Cleaner(secrets).document({"exchanges": [{"answer": text}]})["exchanges"][0]["answer"]
    assert "sk-ver" not in "".join(lines)
