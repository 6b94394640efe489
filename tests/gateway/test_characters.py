"""What became of characters of several bytes."""

from __future__ import annotations

import json

import pytest

from livecheck.gateway import characters
from livecheck.gateway.characters import SAMPLE, damage, is_damaged, problems, vanished

JSON_SAMPLE = json.dumps({"text": SAMPLE}, ensure_ascii=False)


@pytest.mark.parametrize(
    "text", [SAMPLE, JSON_SAMPLE, json.dumps({"text": SAMPLE}), "Why? No.", ""]
)
def test_a_text_without_damage_has_none(text: str) -> None:
    assert damage(text) is None


DAMAGED = [
    SAMPLE.replace(SAMPLE[0], "\ufffd\ufffd"),
    SAMPLE.replace(SAMPLE[0], "\ud83e"),
    SAMPLE.encode().decode("latin-1"),
    "the sea \u00e2\u20ac\u201d and more",  # a dash whose UTF-8 was read as Windows-1252
    json.dumps(SAMPLE)[1:-1],
    json.dumps({"text": json.dumps(SAMPLE)[1:-1]}),
    "???? ??? ??? ??",
    json.dumps({"text": "  "}),
]


@pytest.mark.parametrize("text", DAMAGED)
def test_each_kind_of_damage_is_named(text: str) -> None:
    assert damage(text)
    assert problems(SAMPLE, text)
    assert problems(text, SAMPLE)


def test_characters_have_vanished_only_if_nothing_else_differs() -> None:
    assert vanished(f"the {SAMPLE} sea", "the sea") == characters.SPECIAL
    assert vanished(f"the {SAMPLE} sea", "a poem of the sea") == []
    assert vanished(JSON_SAMPLE, '{"text": "a"}') == characters.SPECIAL


@pytest.mark.parametrize(
    "text",
    [
        JSON_SAMPLE.replace(" ", ""),
        JSON_SAMPLE + JSON_SAMPLE,
        JSON_SAMPLE[:8] + JSON_SAMPLE,
        JSON_SAMPLE.replace("\u2014 \u00e9", "\u00e9 \u2014"),
    ],
)
def test_text_that_is_lost_doubled_or_moved_is_found_where_a_schema_is_kept(text: str) -> None:
    assert "the stream is" in problems(JSON_SAMPLE, text)[0]
    assert "the whole answer is" in problems(text, JSON_SAMPLE)[0]
    assert problems(text, text) == []
    assert problems(JSON_SAMPLE, "I like \u2014 the sea") == []


def test_the_last_character_of_an_answer_that_was_cut_may_be_lost() -> None:
    assert is_damaged("wave \ufffd", was_cut=False)
    assert not is_damaged("wave \ufffd", was_cut=True)
    assert is_damaged("wa\ufffdve \ufffd", was_cut=True)
