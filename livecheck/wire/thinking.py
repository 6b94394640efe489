"""Where the answer of a stream begins, behind its thoughts. Pure.

A model that thinks sends its thoughts first, in fields of their own or between tags at the
beginning of the text (`spoken.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from livecheck.wire import spoken
from livecheck.wire.choice import Choice, size_of

# Each tag that ends thoughts has one of these words in it; to look for them takes a microsecond.
TAG_WORDS = ("think", "thought", "reasoning", "channel")


class Thinking(NamedTuple):
    """The thoughts that a stream shows.

    `answer_at`: the place of the first output event of the answer; None: there is none, or it
    cannot be told. `events`, `size`: how many events the thoughts have, and how many bytes of text.
    """

    answer_at: int | None
    events: int
    size: int


def read_thinking(choices: Sequence[Choice], outputs: int) -> Thinking | None:
    """The thoughts of a stream with so many output events; None when it shows none.

    Of several choices it cannot be told which event belongs to which.
    """
    if len(choices) != 1:
        thoughts = [piece for choice in choices for piece in choice.thoughts]
        return Thinking(None, len(thoughts), bytes_of(thoughts)) if thoughts else None
    (choice,) = choices
    if choice.thoughts:
        return Thinking(choice.begin, len(choice.thoughts), bytes_of(choice.thoughts))
    return between_tags(choice.texts) if len(choice.texts) == outputs else None


def between_tags(texts: Sequence[str]) -> Thinking | None:
    """Thoughts at the beginning of a text whose pieces came in an event each; None without any."""
    text = "".join(texts)
    lower = text.lower()
    if not any(word in lower for word in TAG_WORDS):
        return None
    end = spoken.CLOSING.search(text)
    if end is None:
        size = bytes_of(texts)
        return Thinking(None, len(texts), size) if spoken.OPENING.match(text) else None
    rest = text[end.end() :]
    begin = len(text) - len(rest.lstrip())  # of the answer: once, as a stream may be all blanks
    reached, events = 0, 0
    for place, piece in enumerate(texts):
        reached += len(piece)
        if reached <= end.end():
            events = place + 1
        elif reached > begin:
            return Thinking(place, events, bytes_of([text[: end.end()]]))
    return Thinking(None, events, bytes_of([text[: end.end()]]))


def bytes_of(texts: Sequence[str]) -> int:
    return size_of("".join(texts))
