"""Streams against whole answers: what is damage, what is another text, and what nobody can tell."""

from __future__ import annotations

import pytest

from livecheck.core.checks import Status
from livecheck.gateway.same_text import Said, compare

TEXT = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16"
OTHER = "One, two, three, four, five, six, seven, eight, nine, ten"


def said(content: str, thoughts: str = "", finish: str | None = "length") -> Said:
    return Said(thoughts, content, finish)


def judged(whole: Said, stream: Said) -> tuple[str, str]:
    status, words = compare([whole, whole], [stream, stream])
    return status.value, words


@pytest.mark.parametrize(
    ("whole", "stream"),
    [
        (said(TEXT), said(TEXT)),
        (said(TEXT), said(" " + TEXT + "\n")),  # white space at the ends may be cut off
        (said(TEXT), said(TEXT + "\ufffd")),  # and half a character, at max_tokens
        (said("4", "two and two"), said("4", "two and two ")),
        (said("", "two and two is"), said("", "two and two is")),
        (said(TEXT), said(TEXT, "two and two is")),  # only one form shows the thoughts
        (said(TEXT, "two and two is"), said(TEXT)),
    ],
)
def test_the_same_text_passes(whole: Said, stream: Said) -> None:
    assert judged(whole, stream)[0] == "PASS"


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        (said(TEXT[:-4]), "the stream lacks the end: ', 16'"),
        (said(""), "the stream lacks the end: '1, 2, 3"),
        (said(TEXT + ", 17"), "the stream goes on after the end: ', 17'"),
        (said(TEXT[3:]), "the stream lacks 3 of 53 characters: '1, 2, 3"),
        (said(TEXT.replace(", 8", "")), "the stream lacks 3 of 53 characters"),
        (said(TEXT.replace(", 8", ", 8, 8")), "the stream has 3 characters too many"),
        (said(TEXT.replace(" ", "")), "the white space of the stream is another one"),
        (said(OTHER), "the stream says something else, 2 times: '1, 2, 3"),
        (said(TEXT[20:], TEXT[:20]), "another part of the same text is the content: '1, 2, 3"),
        (said("", TEXT), "another part of the same text is the content: '1, 2, 3"),
        (said(TEXT, finish="stop"), "the same text, but finish_reason is 'length' without"),
    ],
)
def test_damage_is_named(stream: Said, words: str) -> None:
    status, found = judged(said(TEXT), stream)
    assert status == "FAIL"
    assert found.startswith(words)


def test_a_late_token_may_change_with_the_form() -> None:
    status, words = judged(said(TEXT), said(TEXT[:40] + " and so on, as before"))
    assert status == "SKIP"
    assert words.startswith("the same text for 40 characters, then ")


def test_a_model_that_never_says_the_same_twice_cannot_be_judged() -> None:
    status, words = compare([said(TEXT), said(OTHER)], [said(OTHER), said(TEXT)])
    assert status is Status.SKIP
    assert words == "cannot tell: whole answers to the same request differ from the start"


def test_two_backends_that_take_turns_are_not_accused() -> None:
    wholes, streams = [said(TEXT), said(OTHER)], [said(OTHER), said(OTHER)]
    assert compare(wholes, streams)[0] is Status.SKIP


def test_texts_are_compared_as_far_as_each_form_agrees_with_itself() -> None:
    late = said(TEXT[:45] + " or so")
    status, words = compare([said(TEXT), late], [said(TEXT), said(TEXT)])
    assert (status, words.split(" are ")[0]) == (Status.PASS, "the first 45 characters")
    broken = said(TEXT.replace(" ", ""))
    assert compare([said(TEXT), late], [broken, broken])[0] is Status.FAIL


def test_no_text_at_all_shows_nothing() -> None:
    assert judged(said(""), said("")) == ("SKIP", "the answers have no text")
