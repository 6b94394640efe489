"""Whether a text that came in pieces contains itself, as when a server sends it twice.

A small model may repeat itself, and so may a sound text ("ha ha ha"). So the rules are about how
the text was cut into pieces, not about its words: no model knows how much of its answer was sent
before, and begins a piece with all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

LOST = "\ufffd"  # a character that was not complete yet, when the server took its text
SURE_STEPS = 8  # pieces that grow, each by the one before: no way to cut a text does that
LEAST_GROWN = 6  # characters of the longest piece: "1", "10", "100" may come by chance
LEAST_BEFORE = 3  # pieces, before one that has all of them
LEAST_EQUAL = 12  # characters before a last piece that is just these
LEAST_BEGUN = 32  # characters before a last piece that begins with these
LEAST_PAIRS, LEAST_LETTER_PAIRS = 4, 8  # of pieces, of single characters
LEAST_DIFFERENT = 3  # pieces: a looping model writes the same ones again and again
LEAST_SAME = 16  # characters of thoughts that are also the answer
MOST_LOOKED_AT = 2000  # characters: enough to see a period


def said_again(pieces: Sequence[str]) -> str | None:
    """How the text contains itself; None when nothing shows that it does. No piece is empty."""
    if grows(pieces):
        return f"each of {len(pieces)} pieces repeats the text before it"
    if repeats_all(pieces):
        return f"the last of {len(pieces)} pieces repeats the whole text before it"
    if comes_in_pairs(pieces):
        return f"each piece comes twice, {len(pieces) // 2} pairs"
    return None


def grows(pieces: Sequence[str]) -> bool:
    """Whether each piece begins with all of the one before it, so that the last is the text.

    Equal pieces do not count: "ha", "ha", "ha" are three words. A text that has a period may be
    sent in growing pieces by chance, but not in many.
    """
    steps = 0
    for before, after in pairwise(pieces):
        if not after.startswith(before.rstrip(LOST)):
            return False
        steps += len(after) > len(before)
    if steps >= SURE_STEPS:
        return True
    last = pieces[-1].strip() if pieces else ""
    return steps >= 2 and len(last) >= LEAST_GROWN and not has_period(last)


def repeats_all(pieces: Sequence[str]) -> bool:
    """Whether the last piece is, or begins with, the text of all pieces before it.

    In a text that has a period, the rest of it in one block may begin so, too. But it hardly ever
    has the size of all the small pieces before it.
    """
    if len(pieces) <= LEAST_BEFORE:
        return False
    last, before = pieces[-1].strip(), "".join(pieces[:-1]).strip()
    least = LEAST_EQUAL if last == before else LEAST_BEGUN
    if len(before) < least or not last.startswith(before):
        return False
    own = len(last) - len(before)  # what the last piece adds to it
    is_sure = len(pieces) > SURE_STEPS and own <= max(map(len, pieces[:-1]))
    return is_sure or not has_period(before)


def comes_in_pairs(pieces: Sequence[str]) -> bool:
    """Whether each piece comes twice, one right after the other."""
    firsts = pieces[::2]
    if len(pieces) % 2 or firsts != pieces[1::2]:
        return False
    changes = sum(one != other for one, other in pairwise(firsts))
    least = LEAST_PAIRS if any(len(each) > 1 for each in firsts) else LEAST_LETTER_PAIRS
    return len(firsts) >= least and changes >= 2 and len(set(firsts)) >= LEAST_DIFFERENT


def has_period(text: str) -> bool:
    """Whether a text is one part, again and again: at least twice."""
    text = text[:MOST_LOOKED_AT]
    return any(text.startswith(text[size:]) for size in range(1, len(text) // 2 + 1))


def is_same(thoughts: str, content: str) -> bool:
    """Whether thoughts and content are one text, and not just one word."""
    return len(content.strip()) >= LEAST_SAME and content.strip() == thoughts.strip()
