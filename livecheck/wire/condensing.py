"""Keeps a long exchange small: answers that have ended are condensed while nothing is to be read.

As long as the answers have few bytes, nothing is done: no answer is read while streams run. Only
beyond its budget the condenser reads the oldest answers, in steps of about a millisecond, between
two looks at the network that found nothing. A step delays the reading of what comes meanwhile, but
not the time that it has: that is the kernel's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from livecheck.wire.answer import Answer

BYTES_OF_A_READ = 24  # beside its data: where it ends, its time and its lag
CANNOT_WAIT = (
    1.5  # times the budget: from here on a step is done also while something is to be read
)


class Condenser:
    """`budget`: how many bytes all answers together may have before they are condensed."""

    def __init__(self, budget: int):
        self._budget, self._size = budget, 0
        self._waiting: deque[tuple[Answer, int]] = deque()
        self._steps: Iterator[None] = iter(())

    def add(self, answer: Answer) -> None:
        """An answer that has ended."""
        size = answer.reply.size + BYTES_OF_A_READ * len(answer.reply.ends)
        self._waiting.append((answer, size))
        self._size += size

    def work(self, is_urgent: bool) -> bool:
        """One step, if there is one to do; whether there was one. `is_urgent`: something is to be
        read or sent, so that the step is done only if memory cannot wait."""
        if self._size <= self._budget * (CANNOT_WAIT if is_urgent else 1):
            return False
        while True:
            for _ in self._steps:
                return True
            if not self._waiting or self._size <= self._budget:
                return False
            answer, size = self._waiting.popleft()
            self._size -= size
            self._steps = answer.condensing()

    def finish(self) -> None:
        """All steps that are left, when nothing is to be read or sent any more."""
        while self.work(is_urgent=False):
            pass
        for _ in self._steps:  # of an answer that has been begun
            pass
