"""The part of a level that one of several processes sends. Pure, but for the clock of a duration.

A closed loop is dealt by its slots, so that each process keeps its own ones busy: request n belongs
to slot n modulo the number of slots, slot s to process s modulo the number of processes. The
arrivals of an open loop are dealt in turn.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import cached_property

from livecheck.load.arrivals import Load


def share(count: int, place: int, of: int) -> int:
    """How many of so many things, dealt in turn, are those of one."""
    return len(range(place, count, of))


@dataclass(frozen=True)
class Part(Load):
    """What the process `place` (from 0) of `of` sends of the load `whole`.

    `concurrency` and `requests` are its own; `started_s` says when the level began
    (`time.perf_counter`), None before that.
    """

    whole: Load = Load(1, 1)
    place: int = 0
    of: int = 1
    started_s: Callable[[], float | None] = lambda: None

    @property
    def title(self) -> str:
        return self.whole.title

    @cached_property
    def due_s(self) -> list[float] | None:
        """Its arrivals of an open loop, in seconds after the start that all parts have."""
        due = self.whole.due_s
        return None if due is None else due[self.place :: self.of]

    def numbers(self) -> Iterator[int]:
        """The numbers that its requests have in the whole, as long as another one may be sent."""
        if self.whole.due_s is not None:
            yield from range(self.place, len(self.whole.due_s), self.of)
        elif self.requests is not None:
            yield from itertools.islice(self._dealt(), self.requests)
        else:
            yield from itertools.takewhile(lambda _: self._goes_on(), self._dealt())

    def _dealt(self) -> Iterator[int]:
        for first in itertools.count(step=self.whole.concurrency):
            for slot in range(self.place, self.whole.concurrency, self.of):
                yield first + slot

    def _goes_on(self) -> bool:
        started_s = self.started_s()
        if started_s is None:  # each slot has its first request before the start
            return True
        return time.perf_counter() < started_s + (self.duration_s or 0)


def part_of(
    whole: Load, place: int, of: int, started_s: Callable[[], float | None] = lambda: None
) -> Part:
    slots, count = share(whole.concurrency, place, of), whole.requests
    if count is not None and not whole.is_open:
        rounds, rest = divmod(count, whole.concurrency)
        count = rounds * slots + share(rest, place, of)
    same = {each.name: getattr(whole, each.name) for each in fields(Load)}
    own = same | {"concurrency": slots, "requests": count}
    return Part(**own, whole=whole, place=place, of=of, started_s=started_s)


def warmup_of(count: int, whole: Load, place: int, of: int) -> int:
    """How many of the warm-up requests that --warmup asks for are those of one process: of a closed
    loop as many as there are for its slots; of an open loop at least one, for its connection."""
    if not count:
        return 0
    if whole.is_open:
        return max(1, share(count, place, of))
    return share(max(count, whole.concurrency), place, of)
