"""The exact test: right figures, and no alarm about groups that do not differ."""

from __future__ import annotations

import random

import pytest

from livecheck.gateway.exact_test import Table, chance_of_so_few


@pytest.mark.parametrize(
    ("tables", "chance"),
    [
        # all ways to put 3 right answers among 6 are equally likely: 1 in 20 has all in the first
        ([Table(3, 3, 0, 3)], 1 / 20),
        # R. A. Fisher's lady tasting tea: 3 of 4 cups right, or more, is 17 in 70
        ([Table(3, 4, 1, 4)], 17 / 70),
        ([Table(0, 3, 3, 3)], 1.0),  # more are right together
        ([], 1.0),
        ([Table(0, 0, 0, 8)], 1.0),  # nothing to compare with
        ([Table(3, 3, 0, 3), Table(3, 3, 0, 3)], 1 / 400),
    ],
)
def test_the_chance_is_exact(tables: list[Table], chance: float) -> None:
    assert chance_of_so_few(tables) == pytest.approx(chance)


def test_an_uneven_mix_of_easy_and_hard_questions_decides_nothing() -> None:
    """Half of the hard ones are right in either group, and all of the easy ones."""
    assert chance_of_so_few([Table(20, 20, 4, 4), Table(2, 4, 20, 40)]) > 0.5
    assert chance_of_so_few([Table(22, 24, 24, 44)]) < 0.01  # as one table


def test_groups_of_the_same_model_seldom_differ() -> None:
    source = random.Random(1)

    def right(share: float, count: int) -> int:
        return sum(source.random() < share for _ in range(count))

    runs = [[Table(right(p, 12), 12, right(p, 24), 24) for p in (0.97, 0.8)] for _ in range(1000)]
    assert sum(chance_of_so_few(tables) < 0.01 for tables in runs) <= 10
