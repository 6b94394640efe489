"""Whether there are fewer right answers in one of two groups than chance explains. Pure.

R. A. Fisher's exact test, one-sided. Where the questions are of several kinds, each kind has its
own table, so that an uneven mix of easy and hard ones decides nothing (the exact form of the test
of Cochran, Mantel and Haenszel).
"""

from __future__ import annotations

from collections.abc import Iterable
from math import comb
from typing import NamedTuple


class Table(NamedTuple):
    """The answers to one kind of questions in the two groups."""

    right: int  # in the first group
    asked: int
    other_right: int  # in the second group
    other_asked: int


def chance_of_so_few(tables: Iterable[Table]) -> float:
    """How likely it is that the second group has so few right answers in all, or even fewer, if it
    makes no difference to which group an answer belongs."""
    chances, seen = [1.0], 0
    for table in tables:
        chances = sums(chances, chances_of(table))
        seen += table.other_right
    return min(1.0, sum(chances[: seen + 1]))


def chances_of(table: Table) -> list[float]:
    """For each number of right answers in the second group, how likely it is, given how many there
    are in both together (the hypergeometric distribution)."""
    right = table.right + table.other_right
    ways = comb(table.asked + table.other_asked, right)
    return [
        comb(table.other_asked, count) * comb(table.asked, right - count) / ways
        for count in range(min(table.other_asked, right) + 1)
    ]


def sums(one: list[float], other: list[float]) -> list[float]:
    """The chances of the sum of two numbers with these chances."""
    found = [0.0] * (len(one) + len(other) - 1)
    for a, chance in enumerate(one):
        for b, more in enumerate(other):
            found[a + b] += chance * more
    return found
