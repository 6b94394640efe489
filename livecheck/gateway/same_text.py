"""Whether a stream says what the same request gives without streaming.

A model need not give the same answer twice, not even at temperature 0: another batch rounds
otherwise, and a late token changes. So each form is asked for twice, and the two forms are compared
only as far as the two answers of one form agree with each other. Pure.
"""

from __future__ import annotations

import os.path
from collections.abc import Sequence
from typing import NamedTuple

from livecheck.core.checks import Status
from livecheck.core.json_value import quoted
from livecheck.core.text import plural

LOST = "\N{REPLACEMENT CHARACTER}"
# The next number is by far the likeliest token, so that rounding does not change it, as in a poem.
PROMPT = "Count from 1 to 40. Write the numbers with a comma and a space between them."
EARLY = 0.25  # of the shorter text: rounding seldom changes a token before that
LEAST = 12  # characters in common: fewer show nothing
SHOWN = 30  # characters of a text around the first difference
MOST_TIMES = 3  # a text in which another one is hidden is not many times longer by chance


class Said(NamedTuple):
    """The text of one answer, and what its finish_reason means."""

    thoughts: str
    content: str
    finish: str | None

    @property
    def text(self) -> str:
        """Thoughts and content; white space at the ends and half a character may be cut off."""
        return (self.thoughts.strip() + "\n" + self.content.strip()).strip().rstrip(LOST)

    @property
    def letters(self) -> str:
        """The same without white space."""
        return "".join(self.text.split())


Answers = Sequence[Said]  # two or more of one form
Verdict = tuple[Status, str]


def compare(wholes: Answers, streams: Answers) -> Verdict:
    """The verdict on whole answers and streams to the same request, with its words."""
    if not (has_thoughts(wholes) and has_thoughts(streams)):
        if is_told_apart(wholes, streams):
            return Status.FAIL, split_words(wholes[0], streams[0])
        # one of the forms does not show them
        wholes, streams = ([each._replace(thoughts="") for each in e] for e in (wholes, streams))
    one, other = common(wholes), common(streams)
    is_exact = is_same(wholes) and is_same(streams)
    if is_exact and one == other:
        return equal_verdict(wholes[0], streams[0])
    agreed = len(os.path.commonprefix([one, other]))
    if agreed == min(len(one), len(other)) and not is_exact:
        return uncertain_verdict(agreed, one, other)
    if words := damage(one, other, is_exact):
        return Status.FAIL, words
    where = around(one, other)
    if agreed < EARLY * min(len(one), len(other)):
        return Status.FAIL, f"the stream says something else, {len(streams)} times: {where}"
    detail = f"the same text for {plural(agreed, 'character')}, then {where}: a late token may "
    return Status.SKIP, detail + "change with the form of the request"


def has_thoughts(answers: Answers) -> bool:
    return any(each.thoughts.strip() for each in answers)


def is_told_apart(wholes: Answers, streams: Answers) -> bool:
    """Whether the content of one form is thoughts and content of the other one."""
    letters = {each.letters for each in (*wholes, *streams)}
    return len(letters) == 1 and has_thoughts(wholes) != has_thoughts(streams)


def common(answers: Answers) -> str:
    """What answers of one form have in common, from their beginning."""
    return os.path.commonprefix([each.text for each in answers])


def is_same(answers: Answers) -> bool:
    return len({each.text for each in answers}) == 1


def equal_verdict(whole: Said, stream: Said) -> Verdict:
    """Of two equal texts: do they end alike, and are their thoughts told apart alike?"""
    if not whole.text:
        return Status.SKIP, "the answers have no text"
    if whole.content.strip().rstrip(LOST) != stream.content.strip().rstrip(LOST):
        return Status.FAIL, split_words(whole, stream)
    if whole.finish != stream.finish:
        both = f"{quoted(whole.finish)} without streaming, {quoted(stream.finish)} in the stream"
        return Status.FAIL, f"the same text, but finish_reason is {both}"
    return Status.PASS, f"{plural(len(whole.text), 'character')}, the same with and without stream"


def split_words(whole: Said, stream: Said) -> str:
    both = f"{quoted(whole.content[:SHOWN])} without streaming, "
    both += f"{quoted(stream.content[:SHOWN])} in the stream"
    return f"another part of the same text is the content: {both}"


def uncertain_verdict(agreed: int, one: str, other: str) -> Verdict:
    """The forms agree as far as the answers of one form agree with each other."""
    if agreed >= LEAST:
        detail = f"the first {plural(agreed, 'character')} are the same; after them answers of "
        return Status.PASS, detail + "one form differ, too"
    form = "whole answers" if len(one) <= len(other) else "streams"
    return Status.SKIP, f"cannot tell: {form} to the same request differ from the start"


# --- how one text is another one, damaged


def damage(whole: str, streamed: str, is_exact: bool) -> str | None:
    """In what way a stream is the text of the whole answer with something lost or added; None
    when it is another text. Texts that are not `is_exact` may go on: their ends say nothing."""
    where = around(whole, streamed)
    if differs_in_space(whole, streamed, is_exact):
        return f"the white space of the stream is another one: {where}"
    if not is_exact:
        return None
    if whole.startswith(streamed):
        return f"the stream lacks the end: {quoted(whole[len(streamed) :][:SHOWN])}"
    if streamed.startswith(whole):
        return f"the stream goes on after the end: {quoted(streamed[len(whole) :][:SHOWN])}"
    if is_hidden_in(streamed, whole):
        lost = len(whole) - len(streamed)
        return f"the stream lacks {lost} of {plural(len(whole), 'character')}: {where}"
    if is_hidden_in(whole, streamed):
        return f"the stream has {len(streamed) - len(whole)} characters too many: {where}"
    return None


def differs_in_space(whole: str, streamed: str, is_exact: bool) -> bool:
    """Whether two texts that are not the same are so without their white space."""
    one, other = ("".join(text.split()) for text in (whole, streamed))
    size = len(os.path.commonprefix([one, other]))
    if is_exact:
        return one == other
    return size >= LEAST and size == min(len(one), len(other))


def is_hidden_in(short: str, long: str) -> bool:
    """Whether a text is the other one with characters left out."""
    if not LEAST <= len(short) < len(long) <= MOST_TIMES * len(short):
        return False
    rest = iter(long)
    return all(char in rest for char in short)


def around(whole: str, streamed: str) -> str:
    """Both texts where they begin to differ."""
    start = max(0, len(os.path.commonprefix([whole, streamed])) - SHOWN // 3)
    one, other = (quoted(text[start : start + SHOWN]) for text in (whole, streamed))
    return f"{one} without streaming, {other} in the stream"
