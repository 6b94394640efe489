"""Pure: prompts of a wanted length, with a number at the beginning, in the middle and at the end.

The text is made of short sentences that have the same number of words, in ever another order: it
grows evenly with their number, and no cache has seen any of it, because it begins with a number.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

# Each has eight words that nearly every tokenizer has as one token, and a full stop.
SENTENCES = (
    "The river runs past the old stone house.",
    "A man walks his dog in the park.",
    "The children play a game in the street.",
    "My sister reads a long book at night.",
    "The train leaves the big city every hour.",
    "We drink hot tea when it is cold.",
    "The farmer sells milk and bread in town.",
    "The birds sing in the tall green trees.",
)
# A model of 135 million parameters repeats the numbers of a short text when it is asked like this.
NAMES = ("first", "second", "third")
NEEDLE = "The {name} number is {value}."
QUESTION = (
    "\n\nWhat are the first number, the second number and the third number in the text? "
    "Write the three numbers."
)
ANSWER_TOKENS = 32  # of an answer with all three
SEPARATOR = re.compile(r"(?<=\d)[,.'_\u00a0\u202f ](?=\d{3}(?!\d))")  # "5,185"


@dataclass(frozen=True)
class Prompt:
    """The text, how many sentences it has, and its numbers: at the beginning, in the middle and at
    the end."""

    text: str
    sentences: int
    numbers: tuple[str, str, str]

    def found_in(self, answer: str) -> tuple[bool, bool, bool]:
        """Which of the numbers an answer has."""
        said = set(re.findall(r"\d+", answer)) | set(re.findall(r"\d+", SEPARATOR.sub("", answer)))
        first, second, third = (each in said for each in self.numbers)
        return first, second, third


def make_prompt(sentences: int, chance: random.Random) -> Prompt:
    first, second, third = map(str, chance.sample(range(1000, 10_000), 3))
    filler = _filler(sentences, chance)
    middle = sentences // 2
    needles = [
        NEEDLE.format(name=name, value=value)
        for name, value in zip(NAMES, (first, second, third), strict=True)
    ]
    parts = [needles[0], *filler[:middle], needles[1], *filler[middle:], needles[2]]
    return Prompt(" ".join(parts) + QUESTION, sentences, (first, second, third))


def _filler(count: int, chance: random.Random) -> list[str]:
    """So many sentences. Each comes once before any of them comes again."""
    found: list[str] = []
    while len(found) < count:
        found += chance.sample(SENTENCES, len(SENTENCES))
    return found[:count]
