"""Pure: text that makes a prompt as long as it has to be.

It is made of short sentences that have the same number of words, in ever another order: it grows
evenly with their number, so that two counts of a server foretell the others (`token_rate`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

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
USUAL_TOKENS = 9  # of a sentence: its words, and the full stop


def filler(count: int, chance: random.Random) -> list[str]:
    """So many sentences. Each comes once before any of them comes again."""
    found: list[str] = []
    while len(found) < count:
        found += chance.sample(SENTENCES, len(SENTENCES))
    return found[:count]
