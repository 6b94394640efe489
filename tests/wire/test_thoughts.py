"""Answers that are nothing but thoughts: what happened is said, and nobody is accused."""

from __future__ import annotations

from typing import Any

import pytest

from livecheck.wire import spoken, thoughts
from livecheck.wire.thoughts import Ending, Spent, spent

USAGE = {"completion_tokens": 16}
SAID = {**USAGE, "completion_tokens_details": {"reasoning_tokens": 16}}
TIMINGS = {"predicted_n": 16}


def found(text: str, shown: str, *ending: Any, stream: bool = True) -> Spent | None:
    return spent(text, shown, Ending(*ending), is_stream=stream)


@pytest.mark.parametrize(
    ("text", "shown", "ending", "expected"),
    [
        ("", "Let me", ("length", USAGE), Spent(16, True)),
        ("", "Let me", ("length", None), Spent(None, True)),
        ("", "Let me", ("length", USAGE, TIMINGS), Spent(16, True)),
        ("\n", "Let me", ("length", USAGE), Spent(16, True)),
        ("<think>\nLet me", "", ("length", USAGE), Spent(16, True)),
        ("", "", ("length", SAID), Spent(16, False, True)),
        ("", "", ("length", SAID, TIMINGS), Spent(16, False, True)),
        ("", "", ("length", {**USAGE, "reasoning_tokens": 16}), Spent(16, False, True)),
        ("", "", ("length", USAGE), Spent(16, False)),
        ("", "", ("max_tokens", USAGE), Spent(16, False)),
        ("", "", ("length", None), Spent(None, False)),
        ("", "", (None, USAGE, None, 16), Spent(16, False)),
        ("", "", ("stop", USAGE, None, 16), Spent(16, False)),
        ("", "", ("length", {"prompt_tokens": 5, "total_tokens": 21}), Spent(16, False, True)),
        ("", "", ("length", {"prompt_tokens": 5, "total_tokens": 5}), Spent(None, False)),
        # the answer has begun, or ended by itself
        ("So", "Let me", ("length", USAGE), None),
        ("<think>Let me</think>So", "", ("length", USAGE), None),
        ("", "Let me", ("stop", USAGE, None, 64), None),
        ("", "", ("stop", USAGE), None),
        ("", "", (None, None), None),
        ("", "", ("abort", USAGE, None, 16), None),
        ("", "", ("content_filter", USAGE, None, 16), None),
        # llama.cpp shows its thoughts, and a server that counts none has none
        ("", "", ("length", USAGE, TIMINGS), None),
        ("", "", ("length", None, TIMINGS), None),
        ("", "", ("length", {"completion_tokens": 0}), None),
        (
            *("", ""),
            ("length", {**USAGE, "completion_tokens_details": {"reasoning_tokens": 0}}),
            None,
        ),
    ],
)
def test_what_an_answer_without_content_has_spent_its_tokens_on(
    text: str, shown: str, ending: tuple[Any, ...], expected: Spent | None
) -> None:
    assert found(text, shown, *ending) == expected


def test_a_whole_answer_has_to_count_its_tokens() -> None:
    assert found("", "", "length", None, stream=False) is None
    assert found("", "", "length", USAGE, stream=False) == Spent(16, False)


@pytest.mark.parametrize(
    ("each", "words"),
    [
        (Spent(16, True), "all 16 tokens went into thoughts: raise --max-tokens"),
        (
            Spent(16, False, True),
            "all 16 tokens went into thoughts (reasoning that is not shown): raise --max-tokens",
        ),
        (
            Spent(None, False),
            "all tokens went into thoughts (reasoning that is not shown), or were lost: "
            "raise --max-tokens",
        ),
    ],
)
def test_the_line_says_what_to_do(each: Spent, words: str) -> None:
    assert each.words() == words
    assert thoughts.OPTION not in each.words(None)


@pytest.mark.parametrize(
    ("message", "content", "shown"),
    [
        ({"content": "So", "reasoning_content": "hm"}, "So", "hm"),
        ({"content": None, "reasoning": "hm"}, "", "hm"),
        ({"content": "", "thinking": "hm"}, "", "hm"),
        ({"content": [], "reasoning_content": "hm"}, "", "hm"),
        ({"content": None, "refusal": "No."}, "No.", ""),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                    {"type": "text", "text": "So"},
                ]
            },
            *("So", "hm"),
        ),
        ({"content": [{"type": "thinking", "thinking": "hm"}]}, "", "hm"),
        ({"content": None, "reasoning": ["hm"], "thinking": {}}, "", ""),
        ({"content": 7}, "7", ""),  # of another type: read all the same
        (None, "", ""),
    ],
)
def test_thoughts_are_found_wherever_servers_put_them(
    message: Any, content: str, shown: str
) -> None:
    assert (spoken.content_in(message), spoken.thoughts_in(message)) == (content, shown)


@pytest.mark.parametrize(
    ("text", "is_thought"),
    [
        *(("<think>\nLet me", True), ("  <thinking>hm", True), ("[THINK]hm", True)),
        *(("<think>hm</think> So", False), ("So <think>", False), ("", False)),
    ],
)
def test_a_text_that_is_nothing_but_thoughts(text: str, is_thought: bool) -> None:
    assert spoken.is_unfinished_thought(text) is is_thought
