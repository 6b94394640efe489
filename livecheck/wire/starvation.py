"""Whether this program itself could tell: how long it could not have looked at the network.

A verdict about time is about the server only when the client was awake. The kernel's receive times
do not help a client that waits for a processor: the kernel joins the packets that nobody has read
yet, and keeps the time of the last one alone. A stream whose pieces came 2 ms apart then looks as
if it had been held back and sent at once.

    with Starvation() as starvation:            # once per run, in the thread that asks
        answer = asker.ask([request])[0]
        blind_ms = starvation.of(answer)        # of the time of this answer
    if value_ms - blind_ms > limit_ms: ...      # too slow, however late this program was: FAIL
    elif value_ms > limit_ms: ...               # cannot tell: ask again, at last SKIP

Two sources are combined. Linux counts how long a thread could have run and had no processor
(`/proc/thread-self/schedstat`, second field, in ns; kernel documentation, "Scheduler Statistics").
Everywhere a thread of its own sleeps for a moment again and again, and notes by how much it woke
too late: that also finds a process that was stopped, a paused virtual machine, and a program that
is busy with its own work. Times are nanoseconds of `time.perf_counter_ns`.
"""

from __future__ import annotations

import bisect
import os
import sys
import threading
import time
from array import array
from collections.abc import Iterable
from types import TracebackType

from livecheck.wire.answer import Timed, ms

TICK_S = 0.01  # the sleep; about 20 µs of work follow
# Less than this is the usual precision of a sleep. An older Python on Windows sleeps in steps of
# 15.6 ms.
LEAST_LATE_NS = 20_000_000 if sys.platform == "win32" else 3_000_000
LEAST_WAIT_NS = 500_000  # of one tick; shorter waits for a processor do not change what is seen
SCHEDSTAT = "/proc/thread-self/schedstat"

Interval = tuple[int, int]  # start and end, ns


def client_lag_ms(answers: Iterable[Timed]) -> float:
    """The longest time that bytes of these answers had been there before they were read.

    A lower bound: when several packets were waiting, only the last one's time is known.
    """
    return ms(max((max(answer.lag_ns, default=0) for answer in answers), default=0))


class Starvation:
    """Notes from `__enter__` to `__exit__` when this process could not run.

    The wait for a processor is that of the thread that enters; of other threads only what the
    sleeping thread feels as well. Questions may come from any thread, also after the end.
    """

    def __init__(self) -> None:
        # when it could not: in order, without overlaps. On a busy machine there are thousands.
        self._starts, self._ends = array("q"), array("q")
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._schedstat: int | None = None
        self._waited_ns = 0  # for a processor, when last asked
        self._due_ns = 0  # when the sleeping thread should wake
        self._thread = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Starvation:
        try:
            self._schedstat = os.open(SCHEDSTAT, os.O_RDONLY)
        except OSError:  # not Linux
            self._schedstat = None
        self._waited_ns = self._processor_wait_ns() or 0
        self._due_ns = time.perf_counter_ns() + int(TICK_S * 1e9)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._note()
        if self._schedstat is not None:
            os.close(self._schedstat)
            self._schedstat = None

    # what it found

    @classmethod
    def found_elsewhere(cls, spans: Iterable[Interval]) -> Starvation:
        """What another process has found with `spans`: it can be asked, and notes nothing."""
        found = cls()
        found._ended.set()
        for begun, ended in spans:
            found._add(begun, ended)
        return found

    def watching(self, answer: Timed) -> Starvation:
        """The one of the process that has read this answer."""
        return self

    def between_ms(self, start_ns: int, end_ns: int) -> float:
        """How much of this time the process could not run; at most the whole of it."""
        near = self._near(start_ns, end_ns)
        found = ((max(begun, start_ns), min(ended, end_ns)) for begun, ended in near)
        return ms(sum(ended - begun for begun, ended in found if ended > begun))

    def spans(self) -> list[Interval]:
        """All the times so far in which the process could not run: separate spans, in order."""
        if not self._ended.is_set():
            self._note()
        with self._lock:
            return list(zip(self._starts, self._ends, strict=True))

    def _near(self, start_ns: int, end_ns: int) -> list[Interval]:
        """The spans that may overlap this time: a long run has thousands, and as many answers."""
        if not self._ended.is_set():
            self._note()
        with self._lock:
            first = max(0, bisect.bisect_left(self._starts, start_ns) - 1)
            last = bisect.bisect_left(self._starts, end_ns)
            return list(zip(self._starts[first:last], self._ends[first:last], strict=True))

    def _add(self, begun: int, ended: int) -> None:
        """A span that ends now: it may overlap the latest ones."""
        while self._ends and self._ends[-1] >= begun:
            begun = min(begun, self._starts.pop())
            self._ends.pop()
        self._starts.append(begun)
        self._ends.append(ended)

    def unseen_ms(self, answer: Timed) -> float:
        """How long before the first output of a stream this program had not looked.

        So much earlier that output may have come. What could not be seen before that does not
        matter: between two such times the program ran, and would have read it. A time is only
        known to a tick, so a pause of less than two ticks does not count as looking.
        """
        begun, first = answer.begun_ns, answer.first_output_ns
        if begun is None or first is None:
            return 0.0
        tick_ns, seen_ns = int(TICK_S * 1e9), first
        for start_ns, end_ns in reversed(self._near(begun - 2 * tick_ns, first + tick_ns)):
            if start_ns - tick_ns >= first:
                continue
            if end_ns + tick_ns < seen_ns:
                break
            seen_ns = min(seen_ns, start_ns - tick_ns)
        return ms(first - max(seen_ns, begun))

    def of(self, answer: Timed) -> float:
        """How long this program could not look while the answer came, in ms.

        Its starvation from the sending (open loop: from when it was due) to the end, or the lag of
        one of its reads, whichever is longer; 0 for a request that was never sent.
        """
        begun, ended = answer.begun_ns, answer.ended_ns
        if begun is None or ended is None:
            return 0.0
        # Until the bytes were read: `ended` may be the kernel's time of the last packet.
        lag_ms = client_lag_ms([answer])
        return max(self.between_ms(begun, ended + int(lag_ms * 1e6)), lag_ms)

    def in_decode(self, answer: Timed) -> float:
        """How much of that was after the first output, in ms: a stream may have waited for minutes
        before it, and this program with it. When exactly is known to a tick."""
        first, ended = answer.first_output_ns, answer.ended_ns
        if first is None or ended is None:
            return 0.0
        lag_ms = client_lag_ms([answer])
        begun = first - int(TICK_S * 1e9)
        return min(self.of(answer), max(lag_ms, self.between_ms(begun, ended + int(lag_ms * 1e6))))

    def in_silence(self, answer: Timed) -> float:
        """How long this program could not look in the longest silence of an answer, in ms."""
        found = answer.silence
        return self.between_ms(found.start_ns, found.end_ns) if found else 0.0

    # how it finds it

    def _tick(self) -> None:
        while not self._ended.wait(TICK_S):
            self._note()
            self._due_ns = time.perf_counter_ns() + int(TICK_S * 1e9)

    def _note(self) -> None:
        """Keep what has happened since the last time."""
        with self._lock:
            now_ns, due_ns = time.perf_counter_ns(), self._due_ns
            if now_ns - due_ns > LEAST_LATE_NS:
                self._add(due_ns, now_ns)
                self._due_ns = now_ns  # what comes later is a new interval
            waited_ns = self._processor_wait_ns()
            if waited_ns is not None:
                spent_ns, self._waited_ns = waited_ns - self._waited_ns, waited_ns
                if spent_ns > LEAST_WAIT_NS:  # counted by the kernel when the wait is over
                    self._add(now_ns - spent_ns, now_ns)

    def _processor_wait_ns(self) -> int | None:
        """How long the thread has waited for a processor in all; None if nobody counts it."""
        if self._schedstat is None:
            return None
        try:
            fields = os.pread(self._schedstat, 100, 0).split()
        except OSError:  # the thread has ended
            return None
        return int(fields[1]) if len(fields) > 1 else None
