"""The client that fills a deployment's queue: it sends long requests and keeps every answer."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from livecheck.core.run import Run
from livecheck.gateway.burst import Limits
from livecheck.gateway.queue_state import Watcher
from livecheck.wire import chat
from livecheck.wire.answer import Answer, records
from livecheck.wire.asking import Asker
from livecheck.wire.background import Background
from livecheck.wire.wire import Request, Wire

PROMPT = "Write a very long story about the sea, in many chapters."
SHORT_ANSWER_S = 0.5  # of which nothing matters but that it comes


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
        """A request for an answer of so many tokens; `cancel` as in Request."""
        asked = chat.completion(self.model, chat.unique(PROMPT), tokens)
        return dataclasses.replace(asked, **cancel)

    def short_request(self, **cancel: Any) -> Request:
        """A request for an answer that takes SHORT_ANSWER_S, but not more than --max-tokens."""
        most: int = self.args.max_tokens
        share = SHORT_ANSWER_S / max(self.answer_s, 1e-3)
        return self.request(min(most, max(8, math.ceil(share * most))), **cancel)

    def send(self, name: str, requests: Sequence[Request], label: str) -> list[Answer]:
        """All of them at once."""
        step = Step(name)
        self.steps.append(step)
        count = len(requests)
        return self.asker.ask(requests, count, label=label, total=count, keep=step.collected.extend)

    def send_one(self, name: str, request: Request, label: str) -> Answer:
        return self.send(name, [request], label)[0]

    def send_in_background(self, name: str, requests: Sequence[Request]) -> Background:
        """All of them at once, without waiting for the answers."""
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
