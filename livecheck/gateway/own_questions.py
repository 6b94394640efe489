"""Questions that only the one request can answer, and whether an answer is right. Pure.

Each holds words that nobody else knows: a word of four random syllables is not in an answer by
chance. Two of them always differ in two syllables or more, so that a model that mistakes a letter
does not write another request's word. Examples go before each question, as turns of the same
conversation: with them even a model of 135 million parameters can answer.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from livecheck.core.late_pattern import late_pattern

SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
LENGTH = 4  # syllables: 24 million words, and a run has a few hundred
COUNTED = 2  # numbers that a right answer counts on: all that fits into a short answer
WORD = late_pattern(r"[a-z]+")
NUMBERED = late_pattern(r"([a-z]+)\W{0,3}([0-9]+)")
COLOURS = ("red", "blue", "green")

# The examples of each kind, as what the user says and what the model answers, in turn.
EXAMPLES = {
    "repeat": (
        *("Repeat: moravike", "moravike"),
        *("Repeat: sanibote pelu", "sanibote pelu"),
    ),
    "count": (
        "Count on: moravike 1, moravike 2, moravike 3",
        "moravike 4, moravike 5, moravike 6, moravike 7, moravike 8",
        "Count on: telusani 5, telusani 6, telusani 7",
        "telusani 8, telusani 9, telusani 10, telusani 11, telusani 12",
    ),
    "pick": (
        *("red: moravike, blue: telusani, green: sanibote. blue?", "telusani"),
        *("red: vikahoma, blue: homapelu, green: pelurani. green?", "pelurani"),
        *("red: betasuma, blue: sumavika, green: tinugora. red?", "betasuma"),
    ),
}
KINDS = tuple(EXAMPLES)


@dataclass(frozen=True)
class Question:
    """One question. `words`: those that are in no other one. `is_right` judges the text of an
    answer."""

    kind: str
    messages: Sequence[Mapping[str, Any]]
    words: tuple[str, ...]
    is_right: Callable[[str], bool] = field(compare=False, repr=False)


class Questions:
    """Makes questions, no two of which have a word in common. `owners`: whose each word is."""

    def __init__(self, source: random.Random | None = None) -> None:
        self._random = source or random.SystemRandom()
        examples = " ".join(text for each in EXAMPLES.values() for text in each)
        self._taken: set[str] = set()
        for word in WORD.findall(examples):
            self._taken.update(patterns(word))
        self.owners: dict[str, Question] = {}

    def make(self, kind: str) -> Question:
        question = MAKERS[kind](self)
        self.owners.update(dict.fromkeys(question.words, question))
        return question

    def mixed(self, kinds: Sequence[str], count: int) -> list[Question]:
        """So many questions of these kinds, in turn."""
        return [self.make(kinds[index % len(kinds)]) for index in range(count)]

    def word(self) -> str:
        """A word that differs from all others in two syllables or more."""
        while True:
            word = "".join(self._random.choice(SYLLABLES) for _ in range(LENGTH))
            if self._taken.isdisjoint(found := patterns(word)):
                self._taken.update(found)
                return word

    def choose(self, count: int) -> int:
        return self._random.randrange(count)


def patterns(word: str) -> list[str]:
    """The word with each of its syllables left open: words that differ in one have one of these in
    common."""
    return [f"{word[:at]}--{word[at + 2 :]}" for at in range(0, len(word), 2)]


# --- the kinds


def asked(kind: str, text: str, words: Iterable[str], is_right: Callable[[str], bool]) -> Question:
    turns = (*EXAMPLES[kind], text)
    roles = ("user", "assistant")
    messages = [{"role": roles[at % 2], "content": turn} for at, turn in enumerate(turns)]
    return Question(kind, messages, tuple(words), is_right)


def to_repeat(questions: Questions) -> Question:
    words = [questions.word() for _ in range(1 + questions.choose(2))]
    return asked("repeat", f"Repeat: {' '.join(words)}", words, lambda text: repeats(text, words))


def to_count(questions: Questions) -> Question:
    word, first = questions.word(), 2 + questions.choose(5)
    shown = ", ".join(f"{word} {first + step}" for step in range(3))
    return asked(
        "count", f"Count on: {shown}", [word], lambda text: counts(text, word, first + 3, COUNTED)
    )


def to_pick(questions: Questions) -> Question:
    words = [questions.word() for _ in COLOURS]
    at = questions.choose(len(COLOURS))
    pairs = ", ".join(map(": ".join, zip(COLOURS, words, strict=True)))
    text = f"{pairs}. {COLOURS[at]}?"
    return asked("pick", text, words, lambda text: picks(text, words, words[at]))


MAKERS: dict[str, Callable[[Questions], Question]] = {
    "repeat": to_repeat,
    "count": to_count,
    "pick": to_pick,
}


# --- what is right


def repeats(text: str, words: Sequence[str]) -> bool:
    """Whether the words are in the text, in this order, whatever stands between them."""
    said = iter(WORD.findall(text.lower()))
    return all(word in said for word in words)


def counts(text: str, word: str, first: int, count: int) -> bool:
    """Whether the text counts on from `first`. It may begin with what was in the question."""
    said = [int(number[:9]) for name, number in NUMBERED.findall(text.lower()) if name == word]
    wanted = list(range(first, first + count))
    return any(said[at : at + count] == wanted for at in range(len(said)))


def picks(text: str, words: Sequence[str], wanted: str) -> bool:
    """Whether `wanted` is the first of these words in the text: a model that repeats the whole
    list has not picked one."""
    said = [each for each in WORD.findall(text.lower()) if each in words]
    return bool(said) and said[0] == wanted


def foreign(text: str, question: Question, owners: Mapping[str, Question]) -> list[str]:
    """The words of other questions that are in the text of an answer."""
    said = text.lower()
    return [word for word, owner in owners.items() if owner is not question and word in said]
