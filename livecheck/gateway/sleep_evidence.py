"""What a run finds out about a deployment that may sleep, and the plain facts that follow from it.

Nothing here talks to a server, and nothing here is a verdict. Times in s count from the start of
the run.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from livecheck.gateway.worker_count import Reading
from livecheck.wire import notices, silence
from livecheck.wire.answer import Answer, handshake_figures

# A first token that comes this many times later than a warm one, and this much later, is a cold
# start. Each condition alone may be noise.
COLD_FACTOR = 3.0
COLD_MARGIN_S = 0.4
# A first token that comes this much later than the fastest one may have waited for a worker that
# resumed, or not. Less is proof that none had to: no process starts and no model loads so fast.
LEAST_WAKE_MS = 20.0
ZERO_READINGS = 3  # in a row prove zero: a single one may be a slip of the control plane


@dataclass
class Asked:
    """A chat completion that was asked for; `phase` is first, warm, cold or after."""

    phase: str
    answer: Answer
    worker_s: float | None = None  # of a cold one: until the first worker was counted
    blind_ms: float = 0.0  # for which this program could not run meanwhile
    blind_silence_ms: float = 0.0  # the same in the longest silence of the answer

    @property
    def error(self) -> str | None:
        """The kind of error; None for a success."""
        return self.answer.stream_error.kind if self.answer.stream_error else None

    @property
    def ttft_ms(self) -> float | None:
        """None unless the request succeeded."""
        return None if self.error else self.answer.first_output_ms

    @property
    def server_ttft_ms(self) -> float | None:
        """The same without the time for which this program could not run."""
        return None if self.ttft_ms is None else max(0.0, self.ttft_ms - self.blind_ms)

    @property
    def silence(self) -> str | None:
        """Why a success shows no first token, in words; None when it shows one, or failed."""
        is_silent = self.error is None and self.answer.first_output_ms is None
        return notices.of_thoughts([self.answer]) if is_silent else None

    @property
    def wait_ms(self) -> float | None:
        """`ttft_ms` without the prefill, as llama.cpp's server tells it: its time varies, and it is
        no part of waking. None where the server does not tell it."""
        prefill_ms = self.answer.figures["server_prompt_ms"]
        return None if self.ttft_ms is None or prefill_ms is None else self.ttft_ms - prefill_ms

    @property
    def error_text(self) -> str:
        error = self.answer.stream_error
        return (error.text or error.kind) if error else ""


@dataclass
class Probe:
    """A request to the health URL, and its answer. `blind_ms`: as in `Asked`."""

    at_s: float
    answer: Answer
    blind_ms: float = 0.0


@dataclass
class Wait:
    """A time without requests to the model. Times in s from the start of the run."""

    started_s: float
    limit_s: float
    probed: bool
    ended_s: float = 0.0
    probes: list[Probe] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)

    @property
    def spent_s(self) -> float:
        return self.ended_s - self.started_s

    @property
    def first_worker(self) -> Reading | None:
        """The first reading that showed a worker."""
        return next((reading for reading in self.readings if reading.count), None)

    @property
    def zero_s(self) -> float | None:
        """After how many seconds there were no workers, proven by several readings in a row."""
        last = self.readings[-ZERO_READINGS:]
        if len(last) < ZERO_READINGS or any(each.count != 0 for each in last):
            return None
        return last[0].at_s - self.started_s

    @property
    def begins_zeros(self) -> bool:
        """Whether the last readings are 0, but there are not enough of them yet."""
        return self.zero_s is None and bool(self.readings) and self.readings[-1].count == 0

    @property
    def awake(self) -> bool:
        """Whether the count never stayed at zero until the end of the wait."""
        return self.zero_s is None and any(r.count for r in self.readings[-ZERO_READINGS:])


@dataclass
class Trial:
    """A wait for the scale-down, and what came after it.

    cost: why each probe is a load, so that only the first one was sent; None: it is none.
    warm_wait_ms: the shortest `wait_ms` of a warm request before it.
    """

    wait: Wait
    stay: Wait | None = None  # more probes, at zero workers
    cold: Asked | None = None  # the request that should wake a worker
    cost: str | None = None
    warm_wait_ms: float | None = None

    @property
    def waited_as_warm(self) -> bool:
        """Whether the request after the wait had to wait no longer than a warm one."""
        wait_ms = self.cold.wait_ms if self.cold else None
        if wait_ms is None or self.warm_wait_ms is None:
            return False
        return wait_ms <= self.warm_wait_ms + LEAST_WAKE_MS

    @property
    def waited_as_cold(self) -> bool:
        """Whether it had to wait so much longer that it must have been a cold start."""
        wait_ms = self.cold.wait_ms if self.cold else None
        if self.cold is None or wait_ms is None or self.warm_wait_ms is None:
            return False
        return is_cold(wait_ms - self.cold.blind_ms, [self.warm_wait_ms])

    @property
    def probes(self) -> list[Probe]:
        return self.wait.probes + (self.stay.probes if self.stay else [])

    @property
    def cold_ttft_ms(self) -> float:
        """0 when there was no such request, or it failed."""
        return (self.cold and self.cold.ttft_ms) or 0.0

    @property
    def server_ttft_ms(self) -> float:
        """The same without the time for which this program could not run."""
        return (self.cold and self.cold.server_ttft_ms) or 0.0


@dataclass
class Evidence:
    """All that was measured. `start_ns`: from when its times count."""

    asked: list[Asked] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    start_ns: int = field(default_factory=time.perf_counter_ns)

    def now_s(self) -> float:
        return (time.perf_counter_ns() - self.start_ns) / 1e9

    def of(self, phase: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.phase == phase]

    @property
    def warm_ms(self) -> list[float]:
        return [each.ttft_ms for each in self.of("warm") if each.ttft_ms is not None]

    @property
    def warm_wait_ms(self) -> float | None:
        return min((w for each in self.of("warm") if (w := each.wait_ms) is not None), default=None)

    @property
    def awake_ms(self) -> list[float]:
        """The first tokens of all requests to a worker that was awake: `warm_ms`, and those after
        the cold start that were as fast."""
        after = [each.ttft_ms for each in self.of("after") if each.ttft_ms is not None]
        return self.warm_ms + [each for each in after if not is_cold(each, self.warm_ms)]


def is_cold(ttft_ms: float, warm_ms: Sequence[float]) -> bool:
    """Whether a first token came so late that it must have been a cold start."""
    warm = statistics.median(warm_ms)
    return ttft_ms >= COLD_FACTOR * warm and ttft_ms >= warm + COLD_MARGIN_S * 1e3


def slept(trial: Trial, warm_ms: Sequence[float]) -> bool | None:
    """Whether no worker was awake at the end of the wait; None when that is not known.

    Without a count the next request tells it, when it was a cold start, or when it was as fast as
    the fastest warm one; where the server tells how long its prefill took, without that. In
    between, a worker that resumed quickly looks like one that was awake.
    """
    if trial.wait.zero_s is not None:
        return True
    if trial.wait.awake:
        return False
    if trial.cold is None or trial.cold.ttft_ms is None:
        return None
    if trial.waited_as_warm:
        return False
    if trial.waited_as_cold or is_cold(trial.server_ttft_ms, warm_ms):
        return True
    return False if trial.cold_ttft_ms <= min(warm_ms) + LEAST_WAKE_MS else None


def zero_spans(trials: Sequence[Trial]) -> list[tuple[float, float]]:
    """The times, in s, at which a count proves that no worker was awake: they begin with the last
    reading that showed one."""
    spans = []
    for trial in trials:
        if trial.wait.zero_s is None:
            continue
        begin_s = max((r.at_s for r in trial.wait.readings if r.count != 0), default=-1.0)
        stay = trial.stay or trial.wait
        # the last probe before a reading that shows a worker may have found that worker awake
        calm = [r.at_s for r in stay.readings if r.count == 0]
        spans.append((begin_s, calm[-1] if stay.first_worker and calm else stay.ended_s))
    return spans


def split(cold: Asked) -> dict[str, float | None]:
    """The parts of a cold start that can be seen from here, in ms."""
    answer = cold.answer
    return {
        **handshake_figures(answer.handshake),
        "worker_ms": None if cold.worker_s is None else round(cold.worker_s * 1e3, 1),
        "first_byte_ms": answer.first_byte_ms,
        "server_prompt_ms": answer.figures["server_prompt_ms"],
        "ttft_ms": answer.first_output_ms,
    }


def woke_a_worker(asked: Asked, evidence: Evidence) -> bool:
    """Whether the request had to wait for a worker: it was to find none, or it was as late."""
    if not evidence.warm_ms:
        return False
    if asked.phase == "cold":
        trial = next((each for each in evidence.trials if each.cold is asked), None)
        return trial is None or slept(trial, evidence.warm_ms) is not False
    ttft_ms = asked.server_ttft_ms
    return ttft_ms is not None and is_cold(ttft_ms, evidence.warm_ms)


def chats(evidence: Evidence) -> list[dict[str, Any]]:
    """A record for each request to the model."""
    found = []
    for index, asked in enumerate(evidence.asked):
        record = asked.answer.record(evidence.start_ns) | {"index": index}
        at_s = round((record["sent_ms"] or 0) / 1e3, 3)
        record["starved_silence_ms"] = round(asked.blind_silence_ms, 3)
        found.append({"kind": "chat", "phase": asked.phase, "at_s": at_s} | record)
    silence.tell_phases(found)
    for chat, asked in zip(found, evidence.asked, strict=True):
        if chat["silence_phase"] in silence.BEFORE_OUTPUT and woke_a_worker(asked, evidence):
            chat["silence_phase"] = silence.COLD
    return found


def records(evidence: Evidence) -> list[dict[str, Any]]:
    """Everything that was sent and read, in the order of time."""
    probes = [
        {
            "kind": "health",
            "at_s": round(p.at_s, 3),
            "status": p.answer.status,
            "error": p.answer.failure.text if p.answer.failure else None,
            "ttfb_ms": p.answer.first_byte_ms,
            "spent_ms": p.answer.spent_ms,
        }
        for trial in evidence.trials
        for p in trial.probes
    ]
    counts = [{"kind": "workers", **vars(r), "at_s": round(r.at_s, 3)} for r in evidence.readings]
    return sorted([*chats(evidence), *probes, *counts], key=lambda record: float(record["at_s"]))
