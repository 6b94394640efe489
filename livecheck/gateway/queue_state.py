"""What the gateway says of its queue, read again and again while something else is measured.

`read_state` asks /ping, /health and both forms of /metrics once; a `Watcher` does so in a thread
and over a wire of its own, until it is stopped. A figure that the gateway does not give is not in
`values`; it is never 0 instead. Times are seconds on the clock of `time.perf_counter`.
"""

from __future__ import annotations

import dataclasses
import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from livecheck.core.json_value import pick
from livecheck.wire.answer import Answer, number
from livecheck.wire.wire import Request, Target, Wire

LONGEST_S = 5.0  # for one answer; a probe that takes longer says nothing of its moment
LARGEST_BYTES = 1 << 20  # of one answer; the documented ones have a few hundred
FIRST_INTERVAL_S = 0.05
STEP_S = 0.01  # how often `wait_for` looks whether there is a new reading

HEALTH = ("max_concurrent", "max_queue_size", "active", "waiting")
METRICS = ("queue_depth", "queue_rejections", "queue_wait_seconds_total")
PREFIX = "gateway_"  # of each name in the Prometheus text
SAMPLE = re.compile(r"^([A-Za-z_:][\w:]*)(?:\{[^}]*\})?[ \t]+(\S+)", re.MULTILINE)

REQUESTS = {
    name: Request("GET", path, headers={"accept": accept}, cancel_at_bytes=LARGEST_BYTES)
    for name, path, accept in (
        ("ping", "/ping", "*/*"),
        ("health", "/health", "*/*"),
        ("metrics_json", "/metrics", "application/json"),
        # the gateway gives the Prometheus form only to a client that asks for this type
        ("metrics_text", "/metrics", "text/plain"),
    )
}


@dataclass(frozen=True)
class Probe:
    """One endpoint's answer: its figures, and why it cannot be used (`trouble`), if it cannot.

    It keeps the figures and not the answer: 20 readings per second of answers that may have a
    megabyte would fill the memory. `spent_ms` is the time from sending to the first byte.
    """

    status: int | None = None
    spent_ms: float | None = None
    values: dict[str, float] = field(default_factory=dict)
    trouble: str | None = None

    @property
    def is_missing(self) -> bool:
        """Whether the deployment has no such endpoint: it answers with a 4xx."""
        return self.status is not None and 400 <= self.status < 500


NOT_ASKED = Probe(trouble="not asked")


@dataclass(frozen=True)
class Reading:
    """What the deployment said of itself between `sent_s` and `ended_s`: four probes at once."""

    sent_s: float
    ended_s: float
    ping: Probe = NOT_ASKED
    health: Probe = NOT_ASKED
    metrics_json: Probe = NOT_ASKED
    metrics_text: Probe = NOT_ASKED

    @property
    def occupancy(self) -> tuple[int, int] | None:
        """Requests (being served, waiting); None when neither /health nor /metrics has both."""
        for values, names in (
            (self.health.values, ("active", "waiting")),
            (self.metrics_json.values, ("requests_active", "queue_depth")),
        ):
            if all(name in values for name in names):
                return int(values[names[0]]), int(values[names[1]])
        return None

    @property
    def is_idle(self) -> bool:
        """Whether it says that no request is being served and none is waiting."""
        return self.occupancy == (0, 0)

    @property
    def is_at_rest(self) -> bool:
        """Whether every gauge that there is says 0."""
        gauges = [self.health.values.get("active"), self.health.values.get("waiting")]
        gauges += [p.values.get("queue_depth") for p in (self.metrics_json, self.metrics_text)]
        return not any(gauges)


# --- read


def read_health(body: bytes) -> dict[str, float]:
    """The figures of /health's `queue`."""
    return _numbers(pick(_json(body), "queue"), HEALTH)


def read_metrics_json(body: bytes) -> dict[str, float]:
    """The figures of /metrics in its JSON form."""
    content = _json(body)
    return _numbers(pick(content, "gateway") or content, (*METRICS, "requests_active"))


def read_metrics_text(body: bytes) -> dict[str, float]:
    """The same from Prometheus text, where each name has a prefix: gateway_queue_depth.

    https://prometheus.io/docs/instrumenting/exposition_formats/ (text-based format)
    """
    found = dict(SAMPLE.findall(body.decode("utf-8", "replace")))
    return _numbers({name: found.get(PREFIX + name) for name in METRICS}, METRICS)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _numbers(content: Any, names: tuple[str, ...]) -> dict[str, float]:
    figures = {name: number(pick(content, name)) for name in names}
    return {name: figure for name, figure in figures.items() if figure is not None}


READERS: dict[str, Callable[[bytes], dict[str, float]]] = {
    "ping": lambda _: {},
    "health": read_health,
    "metrics_json": read_metrics_json,
    "metrics_text": read_metrics_text,
}


def read_probe(name: str, answer: Answer) -> Probe:
    """The answer to the request of that name in REQUESTS."""
    trouble = None if answer.is_ok else answer.outcome(timed=True)
    if answer.reply.cancelled:
        trouble = f"the answer has more than {LARGEST_BYTES >> 20} MB"
    values = {} if trouble else READERS[name](answer.body)
    return Probe(answer.status, answer.first_byte_ms if answer.status else None, values, trouble)


def read_state(wire: Wire) -> Reading:
    """Ask all four at once."""
    sent_s = time.perf_counter()
    replies = wire.exchange(list(REQUESTS.values()), len(REQUESTS))
    ended_s = time.perf_counter()
    pairs = zip(REQUESTS, replies, strict=True)
    return Reading(sent_s, ended_s, **{name: read_probe(name, Answer(r)) for name, r in pairs})


# --- watch


def watch_target(wire: Wire) -> Target:
    """The wire's target, without the key where /health and /metrics need none: what watches the
    queue should not use up the rate limit of the key."""
    anonymous = dataclasses.replace(wire.target, token=None)
    with Wire(anonymous, wire.timeout_s) as other:
        replies = other.exchange([Request("GET", "/health"), Request("GET", "/metrics")], 2)
    is_refused = any(reply.status in (401, 403) for reply in replies)
    return wire.target if is_refused else anonymous


class Watcher(threading.Thread):
    """Reads the state every `interval_s`, as long as its `with` block lasts."""

    def __init__(self, target: Target, timeout_s: float):
        super().__init__(name="watcher", daemon=True)  # a silent probe must not delay the end
        self.interval_s = FIRST_INTERVAL_S
        self.readings: list[Reading] = []
        self._target, self._timeout_s = target, min(timeout_s, LONGEST_S)
        self._stop_asked = threading.Event()
        self._error: Exception | None = None

    def __enter__(self) -> Watcher:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_asked.set()
        self.join(0.5)

    def run(self) -> None:
        try:
            with Wire(self._target, self._timeout_s) as wire:
                while not self._stop_asked.is_set():
                    self.readings.append(read_state(wire))
                    self._stop_asked.wait(self.interval_s)
        except Exception as error:  # `wait_for` raises it, in the thread that waits for a reading
            self._error = error

    def next_reading(self, timeout_s: float) -> Reading | None:
        """The first reading that begins from now on; None when there is none in that time."""
        return self.wait_for(lambda _: True, time.perf_counter(), timeout_s)

    def wait_for(
        self, condition: Callable[[Reading], bool], after_s: float, timeout_s: float
    ) -> Reading | None:
        """The first reading begun after `after_s` for which the condition holds; None when there
        is none until `timeout_s` from now."""
        deadline_s = time.perf_counter() + timeout_s
        examined = 0
        while True:
            for reading in self.readings[examined:]:
                examined += 1
                if reading.sent_s >= after_s and condition(reading):
                    return reading
            if self._error:
                raise self._error
            if time.perf_counter() > deadline_s:
                return None
            time.sleep(STEP_S)
