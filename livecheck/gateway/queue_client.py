"""The client that fills a deployment's queue: it sends long requests and keeps every answer."""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from livecheck.core.run import Run
from livecheck.gateway.burst import Limits
from livecheck.gateway.queue_state import Watcher
from livecheck.wire import chat
from livecheck.wire.answer import Answer, records
from livecheck.wire.asking import Asker
from livecheck.wire.wire import Request, Target, Wire

PROMPT = "Write a very long story about the sea, in many chapters."
MARGIN_S = 5.0  # beyond the timeout of a request, for the thread of it to end
SHORT_ANSWER_S = 0.5  # of which nothing matters but that it comes


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


@dataclass
class Step:
    """The requests of one step: their answers, or the thread that collects them."""

    name: str
    collected: list[Answer] = field(default_factory=list)
    background: Background | None = None

    @property
    def answers(self) -> list[Answer]:
        return self.background.answers if self.background else self.collected


class QueueClient:
    """Sends the requests of one run; `steps` has what came back, also when it was interrupted.

    `answer_s`: what an answer of --max-tokens takes from its first token on. `round_trip_s`: to the
    gateway and back. Both are known when the first answer has come.
    """

    def __init__(self, run: Run, wire: Wire, watcher: Watcher, limits: Limits, model: str):
        self.run, self.args = run, run.args
        self.watcher, self.limits, self.model = watcher, limits, model
        self.asker = Asker(run, wire, reason=lambda _: None)  # each step decides for itself
        self.steps: list[Step] = []
        self.answer_s = 0.0
        self.round_trip_s = 0.0

    def request(self, tokens: int, **cancel: Any) -> Request:
        """A request for an answer of that many `tokens`; `cancel` as in Request."""
        asked = chat.completion(self.model, chat.unique(PROMPT), tokens)
        return dataclasses.replace(asked, **cancel)

    def short_request(self, **cancel: Any) -> Request:
        """A request for an answer that takes SHORT_ANSWER_S, but not more than --max-tokens."""
        most: int = self.args.max_tokens
        share = SHORT_ANSWER_S / max(self.answer_s, 1e-3)
        return self.request(min(most, max(8, math.ceil(share * most))), **cancel)

    def send(self, name: str, requests: Sequence[Request], label: str) -> list[Answer]:
        """Send all of them at once, and return the answers."""
        step = Step(name)
        self.steps.append(step)
        count = len(requests)
        return self.asker.ask(requests, count, label=label, total=count, keep=step.collected.extend)

    def send_one(self, name: str, request: Request, label: str) -> Answer:
        return self.send(name, [request], label)[0]

    def send_in_background(self, name: str, requests: Sequence[Request]) -> Background:
        """Send all of them at once, without waiting for the answers."""
        background = Background(self.asker.wire.target, self.args.timeout, requests)
        self.steps.append(Step(name, background=background))
        return background

    def records(self) -> list[dict[str, Any]]:
        """A record for each request of each step, with times from the first request of the run."""
        pairs = [(step.name, answer) for step in self.steps for answer in step.answers]
        rows: list[dict[str, Any]] = []
        for (name, answer), record in zip(pairs, records([a for _, a in pairs]), strict=True):
            cancelled = answer.reply.cancelled
            if cancelled:  # on purpose: it is not an error of the deployment
                record |= {"error": None, "error_text": None, "excluded": True}
            rows.append({"step": name, **record, "index": len(rows), "cancelled": cancelled})
        return rows
