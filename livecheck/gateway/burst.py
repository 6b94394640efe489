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
from livecheck.wire.probe_limit import PROBE_LIMIT_S

OVERLAP_S = 0.15  # for which all must be in flight: far more than their arrivals are apart
REFUSED_S = 1.0  # a refusal needs no model: one that takes longer has waited as well
JITTER_S = 0.05  # what two processes on busy machines add to a round trip


@dataclass(frozen=True)
class Limits:
    """C, the requests served at once, and Q, those that may wait: 0 means that any number may
    wait, None that there is no queue."""

    max_concurrent: int
    max_queue: int | None

    @classmethod
    def announced_by(cls, health: Answer) -> Limits | None:
        """The limits in the answer of /health, if it has both."""
        figures = read_health(health.body) if health.is_ok else {}
        if figures.get("max_concurrent", 0) < 1 or "max_queue_size" not in figures:
            return None
        return cls(int(figures["max_concurrent"]), int(figures["max_queue_size"]))

    @property
    def room(self) -> int:
        """Requests at once that must all be accepted; at least one of them waits if it may."""
        return self.max_concurrent + self.may_wait(1)

    def may_wait(self, wanted: int) -> int:
        """Q; of a queue without a bound, as many as `wanted`."""
        return wanted if self.is_unlimited else self.max_queue or 0

    @property
    def is_unlimited(self) -> bool:
        return self.max_queue == 0

    def at_once(self, extra: int) -> int:
        """The number of requests of which `extra` do not fit, when all are sent at once."""
        return self.max_concurrent + (self.max_queue or 0) + extra

    def waiting(self, accepted: int) -> int:
        """How many wait when `accepted` requests are in the deployment."""
        queued = max(0, accepted - self.max_concurrent)
        return min(queued, self.may_wait(queued))

    def __str__(self) -> str:
        queue = f"{self.max_queue} may wait"
        if not self.max_queue:
            queue = "any number may wait" if self.is_unlimited else "none may wait"
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
    """The first one that a rate limit answered."""
    return next((answer for answer in answers if answer.is_rate_limited), None)


# --- the burst


@dataclass
class Burst:
    """C + Q + `extra` requests at once: their answers, and what the deployment said of itself.

    `readings`: those taken during the burst. `before`: the last one before it, with nobody there.
    `after`: the first one after it that is at rest, or the last of all when none is. `quiet`: those
    from before the first request of the run, to compare with. `attempts`: how often it was sent.
    `later`: a single request after the burst, when a refusal in it may be that of a rate limit.
    `probe_limit`: the rate limit that ended the readings.
    `of_guide`: the deployment speaks of its queue as the guide's gateway does. `in_queue`: readings
    of an earlier step, which have shown that probes take places of the queue; so there were none
    during this burst. `blind_s`: for each answer, how long this program could not run meanwhile.
    `falls`: counters that have become smaller since the beginning of the run. `late_ends_s`: by how
    much this program may have noticed the end of an answer too late.
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
    later: Answer | None = None
    probe_limit: str | None = None
    of_guide: bool = True
    health_cost: str | None = None  # why each answer of /health costs inference
    in_queue: list[Reading] = field(default_factory=list)
    blind_s: list[float] = field(default_factory=list)
    falls: list[str] = field(default_factory=list)
    late_ends_s: float = 0.0

    @property
    def expected_refusals(self) -> int:
        return 0 if self.limits.is_unlimited else self.extra

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

    @property
    def may_be_limited(self) -> list[Answer]:
        """Refusals that a rate limit may have given, as well as a full queue."""
        return [each for each in self.answers if each.is_rate_limited or each.looks_like_limit]

    @property
    def rate_limited(self) -> Answer | None:
        """The answer of a rate limit, which says nothing about the queue; None without one.

        A queue that is full for a burst has room for the single request after it, a limit that is
        reached has not. A limit that has recovered until then is known by its words, or by a web
        page, which no gateway writes, in a burst of which less than the queue holds was accepted.
        """
        if self.later and self.later.is_rate_limited:
            return self.later
        too_few = len(self.accepted) < self.limits.room
        limits = (
            each
            for each in self.may_be_limited
            if each.names_rate_limit or (each.status == 429 and each.is_page and too_few)
        )
        return next(limits, None)

    def refusals_later_than(self, limit_s: float, own_lag: bool) -> list[Answer]:
        """The refusals that took longer; with `own_lag`, what this program did not see counts."""
        blind_s = dict(zip(self.answers, self.blind_s, strict=False))
        lags_s = {answer: 0.0 if own_lag else blind_s.get(answer, 0.0) for answer in self.refused}
        return [each for each, lag_s in lags_s.items() if spent_s(each) - lag_s > limit_s]

    @property
    def late_refusals(self) -> list[Answer]:
        """The refusals that took longer than a refusal may, whatever this program did not see."""
        return self.refusals_later_than(REFUSED_S + self.round_trip_s, own_lag=False)

    @property
    def slow_by_own_lag(self) -> bool:
        """Whether a refusal is late, and it may be this program that is."""
        late = self.refusals_later_than(REFUSED_S + self.round_trip_s, own_lag=True)
        return len(late) > len(self.late_refusals)

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
        """Whether all were in flight together, and long enough for a reading.

        A reading that takes longer than a platform waits for a probe may never fit in; that is a
        finding of its own, and longer answers would not help.
        """
        if self.overlap_s < max(OVERLAP_S, 4 * self.round_trip_s):
            return False
        telling = [each for each in self.readings if each.health.values or each.metrics_json.values]
        is_slow = any(each.ended_s - each.sent_s > PROBE_LIMIT_S for each in telling)
        is_read = any(each in telling for each in self.readings_while_full)
        return is_read or is_slow or not telling

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
