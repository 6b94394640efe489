"""Keeps a long exchange small: answers that have ended are condensed while nothing is to be read.

As long as the answers have few bytes, nothing is done: no answer is read while streams run. Only
beyond its budget the condenser reads the oldest answers, in steps of about a millisecond, between
two looks at the network that found nothing. A step delays the reading of what comes meanwhile, but
not the time that it has: that is the kernel's.
"""

from __future__ import annotations

from livecheck.core.interruption import INTERRUPTION

from collections import deque
from collections.abc import Callable, Iterator

from livecheck.wire.answer import Answer

BYTES_OF_A_READ = 24  # beside its data: where it ends, its time and its lag
# Times the budget: from here on a step is done also while something is to be read. The machine may
# never be idle, and what can wait until then only makes the memory grow for longer.
CANNOT_WAIT = 1.1
URGENT_STEPS = 20  # at a time


OnAnswer = Callable[[Answer], object]


class Condenser:
    """`budget`: how many bytes all answers together may have before they are condensed. `look` sees
    each of these when it was read and its bytes are still there, `take` gets it afterwards.
    `is_eager`: as long as there is nothing else to do, each answer is condensed; the budget is then
    the one beyond which that cannot wait."""

    def __init__(
        self,
        budget: int,
        take: OnAnswer | None = None,
        look: OnAnswer | None = None,
        is_eager: bool = False,
    ):
        self._budget, self._size, self._take, self._look = budget, 0, take, look
        self._is_eager, self._is_begun = is_eager, False
        self._idle_budget = -1 if is_eager else budget  # an answer of no bytes counts as well
        self._waiting: deque[tuple[Answer, int]] = deque()
        self._steps: Iterator[None] = iter(())

    def add(self, answer: Answer) -> None:
        """An answer that has ended."""
        size = answer.reply.size + BYTES_OF_A_READ * len(answer.reply.ends)
        size += len(answer.request.body or b"")  # a long prompt is kept as long as its answer is
        self._waiting.append((answer, size))
        self._size += size

    def work(self, is_urgent: bool) -> bool:
        """One step, if there is one to do; whether there may be more. `is_urgent`: something is to
        be read or sent, so that steps are done only if memory cannot wait: then up to URGENT_STEPS,
        because on a busy machine many answers may end between two calls."""
        if not is_urgent:
            return self._next_step(self._idle_budget)
        for _ in range(URGENT_STEPS):
            if self._size <= CANNOT_WAIT * self._budget or not self._next_step(self._budget):
                break
        return self._has_more

    @property
    def _has_more(self) -> bool:
        if self._is_eager:
            return bool(self._waiting) or self._is_begun
        return self._size > self._budget

    def _next_step(self, budget: int) -> bool:
        if self._size <= budget:
            return False
        while not self._step():
            if not self._waiting or self._size <= budget:
                return False
            answer, size = self._waiting.popleft()
            self._size -= size
            self._steps = self._steps_of(answer)
        return True

    def finish(self) -> None:
        """All steps that are left, when nothing is to be read or sent any more."""
        while self.work(is_urgent=False):
            pass
        while self._step():  # of an answer that has been begun
            pass

    def _step(self) -> bool:
        INTERRUPTION.postpone()  # in the middle of a step an answer is half let go of
        try:
            self._is_begun = next(self._steps, self) is not self
            return self._is_begun
        finally:
            INTERRUPTION.resume()

    def _steps_of(self, answer: Answer) -> Iterator[None]:
        yield from answer.condensing(self._look)
        if self._take:
            self._take(answer)
