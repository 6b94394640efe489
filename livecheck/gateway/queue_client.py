"""The client that fills a deployment's queue: it sends long requests and keeps every answer."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from livecheck.core.checks import Check, with_answers
from livecheck.core.result_file import Document
from livecheck.core.run import Run
from livecheck.gateway.burst import Limits
from livecheck.gateway.queue_state import Reading, Watcher, take_places
from livecheck.wire import chat, silence
from livecheck.wire.answer import Answer, records
from livecheck.wire.asking import Asker
from livecheck.wire.background import Background
from livecheck.wire.probe_limit import blind_time_ms
from livecheck.wire.starvation import Starvation
from livecheck.wire.wire import KERNEL_CLOCK, Request, Wire

PROMPT = "Write a very long story about the sea, in many chapters."
PAUSE_S = 0.2
LONG_PROBE_MS = 200.0  # for a probe that waits in a queue, at least; and half of an answer
SHORT_ANSWER_S = 0.5  # of which nothing matters but that it comes


OF_REFUSALS = ("retry_after", "error_body", "refused_fast")
OF_BURST = ("burst", "refusals", *OF_REFUSALS, "served", "concurrency")
STEPS = {  # of the checks about other steps
    "single": ("single",),
    "retry": ("retry",),
    "left_streaming": ("left_streaming", "holders"),
    "left_queued": ("holders", "left_queued", "refill"),
    "order": ("queued", "queued_after"),
}


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
    gateway and back. Both are known when the first answer has come. `of_guide`: the deployment
    speaks of its queue as the guide's gateway does. `probes_in_queue`: see `give_up_probing`.
    """

    def __init__(
        self,
        run: Run,
        wire: Wire,
        watcher: Watcher,
        limits: Limits,
        model: str,
        starvation: Starvation,
    ):
        self.starvation = starvation
        self.run, self.args = run, run.args
        self.watcher, self.limits, self.model = watcher, limits, model
        self.asker = Asker(run, wire, reason=lambda _: None)  # each step decides for itself
        self.steps: list[Step] = []
        self.answer_s = 0.0
        self.round_trip_s = 0.0
        self.of_guide = True
        self.health_cost: str | None = None  # as in Burst
        self.probes_in_queue: list[Reading] = []

    def request(self, tokens: int, **cancel: Any) -> Request:
        """A request for an answer of that many `tokens`; `cancel` as in Request."""
        asked = chat.completion(self.model, chat.unique(PROMPT), tokens)
        return dataclasses.replace(asked, **cancel)

    @property
    def short_tokens(self) -> int:
        """The tokens of an answer that takes SHORT_ANSWER_S, but not more than --max-tokens."""
        most: int = self.args.max_tokens
        share = SHORT_ANSWER_S / max(self.answer_s, 1e-3)
        return min(most, max(8, math.ceil(share * most)))

    def short_request(self, **cancel: Any) -> Request:
        """A request for an answer of `short_tokens`."""
        return self.request(self.short_tokens, **cancel)

    @property
    def single(self) -> Answer:
        """The answer to the first request, which was alone."""
        return self.steps[0].answers[0]

    def choose_endpoints(self) -> None:
        """Read /metrics only where it, or /health, has said anything about a queue."""
        self.of_guide |= any(reading.of_guide for reading in self.watcher.readings)
        if not self.of_guide:
            self.watcher.asks = ("ping", "health")

    @staticmethod
    def requests_total(reading: Reading | None) -> float | None:
        """How many requests the gateway has counted until this reading, if it says so."""
        return reading.metrics_json.values.get("requests_total") if reading else None

    def with_lag(self, reading: Reading) -> Reading:
        """The reading, and how long this program could not run during it, where that matters: the
        kernel stamps the first byte of an answer also while nobody reads it."""
        if self.asker.wire.clock == KERNEL_CLOCK:
            return reading
        blind_ms = 1e3 * self.blind_s(reading.sent_s, reading.ended_s)
        return dataclasses.replace(reading, blind_ms=blind_ms)

    def blind_times_s(self, answers: Sequence[Answer]) -> list[float]:
        """For each answer, for how long of its time this program could not run, if it matters."""
        clock = self.asker.wire.clock
        return [blind_time_ms(answer, self.starvation, clock) / 1e3 for answer in answers]

    def blind_s(self, start_s: float, end_s: float) -> float:
        """For how long this program could not run between these two times."""
        return self.starvation.between_ms(int(start_s * 1e9), int(end_s * 1e9)) / 1e3

    def late_ends_s(self, answers: Sequence[Answer]) -> float:
        """By how much the end of one of these answers may have been noticed too late: not at all
        where the kernel notes when a packet comes."""
        if self.asker.wire.clock == KERNEL_CLOCK:
            return 0.0
        return max((self.starvation.of(answer) for answer in answers), default=0.0) / 1e3

    def give_up_probing(self, readings: Sequence[Reading]) -> bool:
        """Stop the watcher, if these readings show that its probes take places of the queue and
        that they say nothing about it. Whether it was stopped; `probes_in_queue` keeps them."""
        waited_ms = max(LONG_PROBE_MS, 500 * self.answer_s)
        if self.of_guide or not self.watcher.asks or not take_places(readings, waited_ms):
            return False
        self.probes_in_queue = list(readings)
        self.watcher.asks = ()
        return True

    def pause(self) -> None:
        """Where no figure tells it: the time that a gateway may take to notice that an answer has
        ended, before the next requests come."""
        time.sleep(PAUSE_S + self.round_trip_s)

    def send(self, name: str, requests: Sequence[Request], label: str) -> list[Answer]:
        """Send all of them at once, and return the answers."""
        step = Step(name)
        self.steps.append(step)
        count, keep = len(requests), step.collected.extend
        alone = count == 1 and not any(s.background and s.background.is_alive() for s in self.steps)
        return self.asker.ask(requests, count, label=label, total=count, keep=keep, alone=alone)

    def send_one(self, name: str, request: Request, label: str) -> Answer:
        return self.send(name, [request], label)[0]

    def send_in_background(self, name: str, requests: Sequence[Request]) -> Background:
        """Send all of them at once, without waiting for the answers."""
        background = Background(self.asker.wire, self.args.timeout, requests)
        self.steps.append(Step(name, background=background))
        return background

    def decide(self, document: Document, *checks: Check) -> None:
        """As the run does; a check that names no answers gets those of its step."""
        self.run.decide(document, *with_answers(checks, self._behind))

    def _behind(self, check: str) -> list[Answer]:
        """The answers of the steps of this check; what was not served comes first, and where it is
        about refusals nothing else."""
        steps = STEPS.get(check, ("burst",) if check in OF_BURST else ())
        found = [each for step in self.steps if step.name in steps for each in step.answers]
        failed = [each for each in found if each.stream_error and not each.reply.cancelled]
        if check in OF_REFUSALS:
            return failed
        return sorted(found, key=lambda each: not each.stream_error or each.reply.cancelled)

    def records(self) -> list[dict[str, Any]]:
        """A record for each request of each step, with times from the first request of the run."""
        pairs = [(step.name, answer) for step in self.steps for answer in step.answers]
        rows: list[dict[str, Any]] = []
        for (name, answer), record in zip(pairs, records([a for _, a in pairs]), strict=True):
            cancelled = answer.reply.cancelled
            if cancelled:  # on purpose: it is not an error of the deployment
                record |= {"error": None, "error_text": None, "excluded": True}
            record["starved_silence_ms"] = round(self.starvation.in_silence(answer), 3)
            rows.append({"step": name, **record, "index": len(rows), "cancelled": cancelled})
        silence.tell_phases(rows)
        return rows
