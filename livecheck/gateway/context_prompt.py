"""Pure: prompts of a wanted length, with a number at the beginning, in the middle and at the end.

No cache has seen any of the text, because it begins with a number.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from livecheck.core.late_pattern import late_pattern
from livecheck.wire.filler import filler

# A model of 135 million parameters repeats the numbers of a short text when it is asked like this.
NAMES = ("first", "second", "third")
NEEDLE = "The {name} number is {value}."
QUESTION = (
    "\n\nWhat are the first number, the second number and the third number in the text? "
    "Write the three numbers."
)
ANSWER_TOKENS = 32  # of an answer with all three
SEPARATOR = late_pattern(r"(?<=\d)[,.'_\u00a0\u202f ](?=\d{3}(?!\d))")  # "5,185"


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
    between = filler(sentences, chance)
    middle = sentences // 2
    needles = [
        NEEDLE.format(name=name, value=value)
        for name, value in zip(NAMES, (first, second, third), strict=True)
    ]
    parts = [needles[0], *between[:middle], needles[1], *between[middle:], needles[2]]
    return Prompt(" ".join(parts) + QUESTION, sentences, (first, second, third))
