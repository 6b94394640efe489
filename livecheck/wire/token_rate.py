"""Pure: how many tokens a prompt has by the server's own count, from a few prompts that were
counted.

All prompts have the same form and differ in the number of their sentences, so their tokens lie on a
straight line. How far the counts depart from it is the error of everything that it foretells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

LEAST_ERROR = 2.0  # tokens: tokenizers differ in how they cut the numbers of a prompt
LEAST_TOKENS = 3.0  # of a sentence of eight words, with any tokenizer
UNEVEN = 0.25  # of a sentence: where the error grows faster, the count tells nothing


class Counted(NamedTuple):
    """A prompt of so many sentences, and how many tokens the server counts in it. `cached`: those
    that it has taken from a cache; some servers leave them out of the count."""

    sentences: int
    tokens: float
    cached: float = 0.0

    @property
    def most(self) -> float:
        """The count, however the cached tokens are meant."""
        return self.tokens + self.cached


class Rate(NamedTuple):
    """A line through two counts. `error`: of each of them, in tokens. `unseen`: tokens of a prompt
    that the server leaves out of its count, because they are in its cache."""

    near: Counted
    far: Counted
    error: float
    unseen: float = 0.0

    @property
    def per_sentence(self) -> float:
        return (self.far.tokens - self.near.tokens) / (self.far.sentences - self.near.sentences)

    def expected(self, sentences: int) -> float:
        """The tokens of a prompt of so many sentences."""
        return self.near.tokens + self.per_sentence * (sentences - self.near.sentences)

    def error_at(self, sentences: int) -> float:
        """How far that may be wrong: the two counts by `error` each, in opposite directions, and
        the count of that prompt itself."""
        beyond = max(0, sentences - self.far.sentences)
        return 2 * self.error + self.error_growth * beyond

    @property
    def error_growth(self) -> float:
        """By how much the error grows with each sentence."""
        return 2 * self.error / (self.far.sentences - self.near.sentences)

    def sentences_for(self, tokens: float) -> int:
        """The most sentences with which a prompt is expected to have at most so many tokens."""
        more = (tokens - self.unseen - self.near.tokens) / self.per_sentence
        return max(0, self.near.sentences + math.floor(more))

    def lacking(self, found: Counted) -> float:
        """How many tokens a count is short of what was sent, beyond the error; 0 if that is less
        than a sentence."""
        least = self.expected(found.sentences) - self.error_at(found.sentences)
        short = least - found.most
        return short if short >= self.per_sentence else 0.0


def find_rate(counts: Sequence[Counted]) -> Rate | None:
    """The line through the shortest and the longest of these prompts; None where the counts do not
    grow evenly with the prompts, so that they tell nothing."""
    if not counts:
        return None
    near = min(counts, key=lambda each: each.sentences)
    far = max(counts, key=lambda each: each.sentences)
    if near.sentences == far.sentences:
        return None
    line = Rate(near, far, 0.0)
    if line.per_sentence < LEAST_TOKENS:
        return None
    off = max(abs(each.tokens - line.expected(each.sentences)) for each in counts)
    whole = [each._replace(tokens=each.most) for each in counts]
    other = Rate(near._replace(tokens=near.most), far._replace(tokens=far.most), 0.0)
    other_off = max(abs(each.tokens - other.expected(each.sentences)) for each in whole)
    unseen = near.cached if other_off + LEAST_ERROR < off else 0.0
    found = Rate(near, far, LEAST_ERROR + min(off, other_off), unseen)
    return found if found.error_growth <= UNEVEN * found.per_sentence else None


def stalls(counts: Sequence[Counted]) -> bool:
    """Whether the counts stop growing where a longer prompt must have more tokens: it was cut. The
    shortest one has to be large enough to be the count of its prompt."""
    ordered = sorted(counts, key=lambda each: each.sentences)
    if not ordered or ordered[0].tokens < LEAST_TOKENS * ordered[0].sentences:
        return False
    pairs = zip(ordered, ordered[1:], strict=False)
    return any(b.most - a.tokens < LEAST_TOKENS * (b.sentences - a.sentences) for a, b in pairs)
