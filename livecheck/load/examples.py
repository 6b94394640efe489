"""The answers of a level that its checks may have to show, chosen while there are bytes of them.

A check that fails names the requests that it rests on (`Check.shown_by`). The answers of a long
level are gone by then: a few with each fault are kept as they will be shown, and the slowest ones.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from livecheck.core.checks import MAX_OF_CHECK
from livecheck.wire.answer import Answer

FAULTS = ("error", "complaints", "token_doubts")  # keys of figures that say that something is wrong
ANY = "any"


class Example(NamedTuple):
    """As `Check.shown_by` wants it."""

    place: int  # of its request in the level
    kind: str
    exchange: dict[str, Any]


def placed(example: Example, places: Callable[[int], int]) -> Example:
    return example._replace(place=places(example.place))


class Examples:
    """Those of one level."""

    def __init__(self) -> None:
        self._first: dict[str, dict[str, list[Example]]] = {}  # by fault and by kind
        self._slowest: list[tuple[float, int, Example]] = []  # a heap
        self._looked_at = 0

    def look(self, answer: Answer) -> None:
        """Choose, and make of it what is shown. It was read, and its bytes are still there."""
        place, kind = answer.reply.index, answer.kind

        def made() -> Example:
            return Example(place, kind, answer.exchange)

        for fault in (*(name for name in FAULTS if answer.figures[name]), ANY):
            self._keep(fault, kind, made)
        spent_ms = answer.figures["e2e_ms"]
        spent_ms = math.inf if spent_ms is None else spent_ms
        self._looked_at += 1
        if len(self._slowest) < MAX_OF_CHECK:
            heapq.heappush(self._slowest, (spent_ms, self._looked_at, made()))
        elif spent_ms > self._slowest[0][0]:
            heapq.heapreplace(self._slowest, (spent_ms, self._looked_at, made()))

    def _keep(self, fault: str, kind: str, made: Callable[[], Example]) -> None:
        kinds = self._first.setdefault(fault, {})
        if len(kinds) == MAX_OF_CHECK and kind not in kinds:
            return
        some = kinds.setdefault(kind, [])
        if len(some) < MAX_OF_CHECK:
            some.append(made())

    def take(self, other: Examples, places: Callable[[int], int]) -> None:
        """Take in those that another process has chosen from its part of the level; `places` gives
        the number of a request in the whole level for that in the part."""
        for fault, kinds in other._first.items():
            for some in kinds.values():
                for example in some:
                    self._keep(fault, example.kind, partial(placed, example, places))
        for spent_ms, _, example in other._slowest:
            self._looked_at += 1
            self._slowest.append((spent_ms, self._looked_at, placed(example, places)))
        self._slowest = heapq.nlargest(MAX_OF_CHECK, self._slowest)
        heapq.heapify(self._slowest)

    def first(self, fault: str) -> list[Example]:
        """The first answers with a fault, in the order of their requests."""
        found = [each for some in self._first.get(fault, {}).values() for each in some]
        return sorted(found, key=lambda each: each.place)

    def slowest(self) -> list[Example]:
        return [example for *_, example in sorted(self._slowest, reverse=True)]
