"""plan.py: the parts of a plan add up, and its times and its form are for people."""

from __future__ import annotations

import json

import pytest

from livecheck.core.plan import Plan, ask, in_words, lines, notes, prompt_tokens, show, wait


def test_what_is_asked_one_after_the_other_takes_each_time_out_at_most() -> None:
    plan = ask(10, timeout_s=30, tokens=100, prompt=20)
    assert (plan.requests, plan.tokens_at_most, plan.at_most_s) == (10, 1200, 300)
    assert plan.typical_s == pytest.approx(10 * (0.5 + 100 * 0.02))


def test_several_at_once_take_as_many_rounds_as_are_needed() -> None:
    assert ask(5, timeout_s=30, at_once=4).at_most_s == 60
    assert ask(8, timeout_s=30, at_once=4).at_most_s == 60
    assert ask(0, timeout_s=30, at_once=4).at_most_s == 0


def test_what_is_seldom_asked_is_in_the_bounds_alone() -> None:
    plan = ask(10, timeout_s=30, tokens=100, usual=0)
    assert (plan.requests, plan.tokens_at_most, plan.typical_s) == (10, 1000, 0)


def test_parts_add_up_and_the_first_to_wake_something_says_what() -> None:
    plan = ask(1, 30) + wait(5, 60) + notes("a", wakes="a worker") + notes("b", wakes="a runner")
    assert (plan.requests, plan.at_most_s, plan.wakes) == (1, 90, "a worker")
    assert plan.notes == ("a", "b")


def test_no_prompt_has_more_tokens_than_bytes() -> None:
    assert prompt_tokens("Grüße") >= len("Grüße".encode())


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 s"),
        (99, "99 s"),
        (100.5, "2 min"),
        (3600, "60 min"),
        (7200, "2 h"),
        (7260, "2 h 1 min"),
    ],
)
def test_a_time_in_words_is_rounded_up(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_every_line_fits_a_terminal() -> None:
    plan = Plan(1, 2, 3.0, 4.0, "a sleeping worker", ("many words " * 30,))
    assert max(map(len, lines("test_tools", plan))) <= 80


def test_the_json_has_units_in_its_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert show("test_tools", Plan(1, 2, 3.04, 4.06), "json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "script": "test_tools",
        "requests": 1,
        "tokens_at_most": 2,
        "wakes": None,
        "typical_s": 3.0,
        "at_most_s": 4.1,
        "notes": [],
    }
