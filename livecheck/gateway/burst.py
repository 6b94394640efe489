"""More requests at once than a deployment has room for: its limits, and what became of each one.

All times are seconds on the clock of `time.perf_counter`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from livecheck.gateway.queue_state import Reading, read_health
from livecheck.wire import metrics
from livecheck.wire.answer import Answer

OVERLAP_S = 0.15  # for which all must be in flight: far more than their arrivals are apart
JITTER_S = 0.05  # what two processes on busy machines add to a round trip


@dataclass(frozen=True)
class Limits:
    """C, the requests served at once, and Q, those that may wait; a `max_queue` of 0 means that
    any number may wait."""

    max_concurrent: int
    max_queue: int

    @classmethod
    def announced_by(cls, health: Answer) -> Limits | None:
        """The limits in the answer of /health, if it has both."""
        figures = read_health(health.body) if health.is_ok else {}
        if figures.get("max_concurrent", 0) < 1 or "max_queue_size" not in figures:
            return None
        return cls(int(figures["max_concurrent"]), int(figures["max_queue_size"]))

    @property
    def room(self) -> int:
        """Requests at once that must all be accepted; at least one of them waits."""
        return self.max_concurrent + (self.max_queue or 1)

    def at_once(self, extra: int) -> int:
        """The number of requests of which `extra` do not fit, when all are sent at once."""
        return self.max_concurrent + self.max_queue + extra

    def waiting(self, accepted: int) -> int:
        """How many wait when `accepted` requests are in the deployment."""
        queued = max(0, accepted - self.max_concurrent)
        return min(queued, self.max_queue) if self.max_queue else queued

    def __str__(self) -> str:
        queue = f"{self.max_queue} may wait" if self.max_queue else "any number may wait"
        return f"{self.max_concurrent} served at once, {queue}"


# --- times of one answer


def sent_s(answer: Answer) -> float:
    """When it was sent; for a request that never was, when that was known."""
    return (answer.sent_ns or answer.ended_ns or 0) / 1e9


def ended_s(answer: Answer) -> float:
    return (answer.ended_ns or answer.sent_ns or 0) / 1e9


def spent_s(answer: Answer) -> float:
    return ended_s(answer) - sent_s(answer)


def first_output_s(answer: Answer) -> float | None:
    return None if answer.first_output_ns is None else answer.first_output_ns / 1e9


def last_event_s(answer: Answer) -> float:
    """When the last event of its stream came; of an answer without events, when it ended."""
    return answer.stream.end_ns / 1e9 if answer.stream.end_ns else ended_s(answer)


def first_rate_limited(answers: Iterable[Answer]) -> Answer | None:
    """The first one that the rate limiter of the key answered."""
    return next((answer for answer in answers if answer.is_rate_limited), None)


# --- the burst


@dataclass
class Burst:
    """C + Q + `extra` requests at once: their answers, and what the deployment said of itself.

    `readings`: those taken during the burst. `before`: the last one before it, with nobody there.
    `after`: the first one after it that is at rest, or the last of all when none is. `quiet`: those
    from before the first request of the run, to compare with. `attempts`: how often it was sent.
    """

    limits: Limits
    extra: int
    answers: list[Answer]
    round_trip_s: float = 0.0
    readings: list[Reading] = field(default_factory=list)
    before: Reading | None = None
    after: Reading | None = None
    quiet: list[Reading] = field(default_factory=list)
    attempts: int = 1

    @property
    def expected_refusals(self) -> int:
        return self.extra if self.limits.max_queue else 0

    @cached_property
    def served(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.stream_error is None]

    @cached_property
    def refused(self) -> list[Answer]:
        """Answers with 503 or 429; when these are fewer than expected, also the quickest ones with
        another status that is not 200."""
        whole = [answer for answer in self.answers if answer.failure is None]
        busy = [answer for answer in whole if answer.status in (429, 503)]
        others = [answer for answer in whole if answer.status not in (200, 429, 503)]
        return busy + sorted(others, key=ended_s)[: max(0, self.expected_refusals - len(busy))]

    @cached_property
    def failed(self) -> list[Answer]:
        """Answers that are neither complete nor a refusal."""
        others = (*self.served, *self.refused)
        return [answer for answer in self.answers if answer not in others]

    @property
    def accepted(self) -> list[Answer]:
        return self.served + self.failed

    @cached_property
    def rate_limited(self) -> Answer | None:
        return first_rate_limited(self.answers)

    @cached_property
    def first_sent_s(self) -> float:
        return min(map(sent_s, self.answers))

    @cached_property
    def all_sent_s(self) -> float:
        return max(map(sent_s, self.answers))

    @cached_property
    def overlap_s(self) -> float:
        """For how long all were in flight together: from the last send to the first end."""
        return min(map(last_event_s, self.served), default=math.inf) - self.all_sent_s

    @cached_property
    def readings_while_full(self) -> list[Reading]:
        """The readings while every place was surely taken, and no request had ended yet."""
        start_s = self.all_sent_s + self.round_trip_s + JITTER_S
        end_s = self.all_sent_s + self.overlap_s
        return [each for each in self.readings if each.sent_s >= start_s and each.ended_s <= end_s]

    @property
    def overlapped(self) -> bool:
        """Whether all were in flight together, and long enough for a reading."""
        if self.overlap_s < max(OVERLAP_S, 4 * self.round_trip_s):
            return False
        has_figures = any(each.health.values or each.metrics_json.values for each in self.readings)
        return bool(self.readings_while_full) or not has_figures

    @property
    def is_conclusive(self) -> bool:
        """Whether what became of the requests says something about the queue."""
        return not self.rate_limited and (not self.served or bool(self.failed) or self.overlapped)

    @cached_property
    def waits_s(self) -> list[float]:
        """How long each queued request waited. The k-th of them got its place when the k-th answer
        ended, whichever that was; so it does not matter how long a first token takes."""
        ends_s = sorted(map(last_event_s, self.accepted))
        queued = max(0, len(ends_s) - self.limits.max_concurrent)
        return [max(0.0, end_s - self.all_sent_s) for end_s in ends_s[:queued]]


def most_at_once(spans: Sequence[tuple[float, float]]) -> int:
    """How many of the spans (start, end) overlap at the most; a span must end after its start."""
    return metrics.most_at_once(span for span in spans if span[0] < span[1])
