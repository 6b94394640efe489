"""Requests that run in a thread of their own, while this program does something else."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sized

from livecheck.wire.answer import Answer
from livecheck.wire.wire import Request, Wire

MARGIN_S = 5.0  # beyond the timeout of a request, for the thread of it to end


class Background(threading.Thread):
    """Sends these requests over a wire of its own; it begins as soon as it is made.

    All at once or, as `Wire.exchange` has it, on the schedule `due_s` with `at_once` in flight at
    most; `keep=False`: a new connection for each.
    """

    def __init__(
        self,
        wire: Wire,
        timeout_s: float,
        requests: Iterable[Request],
        at_once: int | None = None,
        *,
        keep: bool = True,
        due_s: Iterable[float] | None = None,
    ):
        """`wire`: the run's, for the same target."""
        super().__init__(name="background", daemon=True)  # Ctrl-C does not wait for it
        self._wire = Wire(wire.target, timeout_s, dialect=wire.dialect)
        self._requests, self._longest_s = requests, timeout_s + MARGIN_S
        self._at_once = len(requests) if isinstance(requests, Sized) else at_once or 1
        self._keep, self._due_s = keep, due_s
        self._answers: dict[int, Answer] = {}
        self._error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            with self._wire as wire:
                wire.exchange(self._requests, self._at_once, keep=self._keep, due_s=self._due_s)
        except Exception as error:  # `collect` raises it, in the thread that waits for the answers
            self._error = error

    @property
    def answers(self) -> list[Answer]:
        """The answers that have ended until now, in the order of sending."""
        ended = [reply for reply in list(self._wire.replies) if reply.end_ns is not None]
        return [self._answers.setdefault(reply.index, Answer(reply)) for reply in ended]

    @property
    def sent_s(self) -> list[float]:
        """When each request was sent until now, on the clock of `time.perf_counter`."""
        sent_ns = [reply.t0_ns for reply in list(self._wire.replies)]
        return [each / 1e9 for each in sent_ns if each is not None]

    @property
    def begun(self) -> int:
        """How many requests have got the first byte of their answer."""
        return sum(1 for reply in list(self._wire.replies) if reply.stamps_ns)

    def collect(self) -> list[Answer]:
        """Wait until all have ended. Raises what has ended the thread before its time."""
        self.join(self._longest_s)
        if self._error:
            raise self._error
        return self.answers
