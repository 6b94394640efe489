"""Requests that are sent by a thread of their own, so that others can be sent meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from livecheck.wire.answer import Answer
from livecheck.wire.wire import Request, Target, Wire

MARGIN_S = 5.0  # beyond the timeout of a request, for the thread to end


class Background(threading.Thread):
    """Sends these requests all at once, over a wire of its own; it begins as soon as it is made."""

    def __init__(self, target: Target, timeout_s: float, requests: Sequence[Request]):
        super().__init__(name="background", daemon=True)  # Ctrl-C does not wait for it
        self._wire = Wire(target, timeout_s)
        self._requests, self._longest_s = requests, timeout_s + MARGIN_S
        self._answers: dict[int, Answer] = {}
        self._error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            with self._wire as wire:
                wire.exchange(self._requests, len(self._requests))
        except Exception as error:  # `collect` raises it, in the thread that waits for the answers
            self._error = error

    @property
    def answers(self) -> list[Answer]:
        """The answers that have ended until now, in the order of sending."""
        ended = [reply for reply in list(self._wire.replies) if reply.end_ns is not None]
        return [self._answers.setdefault(reply.index, Answer(reply)) for reply in ended]

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
