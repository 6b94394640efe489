"""What the gateway says of itself, read again and again while something else is measured.

`look` asks /ping, /health and both forms of /metrics once; `Watch` does so in a thread with a Wire
of its own, until it is stopped. Figures that were not there are not in `values`, never 0.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from livecheck.wire import wire
from livecheck.wire.records import number, outcome

LONGEST_S = 5.0  # for one answer; a probe that takes longer helps nobody
LARGEST_BYTES = 1 << 20  # of one answer; the documented ones have some hundred
FIRST_INTERVAL_S = 0.05
STEP_S = 0.01  # how often a waiting thread looks for news

HEALTH = ("max_concurrent", "max_queue_size", "active", "waiting")
METRICS = ("queue_depth", "queue_rejections", "queue_wait_seconds_total")
REQUESTS = {
    "ping": wire.Request("GET", "/ping", cancel_at_bytes=LARGEST_BYTES),
    "health": wire.Request("GET", "/health", cancel_at_bytes=LARGEST_BYTES),
    "json": wire.Request(
        "GET", "/metrics", None, {"accept": "application/json"}, cancel_at_bytes=LARGEST_BYTES
    ),
    # the gateway gives the Prometheus form only to those who name it
    "text": wire.Request(
        "GET", "/metrics", None, {"accept": "text/plain"}, cancel_at_bytes=LARGEST_BYTES
    ),
}
SAMPLE = re.compile(r"^([A-Za-z_:][\w:]*)(?:\{[^}]*\})?[ \t]+(\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Probe:
    """One endpoint's answer. `spent_ms`: sent to first byte; `trouble`: why it is no use."""

    status: int | None = None
    spent_ms: float | None = None
    values: dict[str, float] = field(default_factory=dict)
    trouble: str | None = None


NOTHING = Probe(trouble="not asked")


@dataclass(frozen=True)
class Look:
    """What the deployment said of itself between `sent_ns` and `end_ns`."""

    sent_ns: int
    end_ns: int
    ping: Probe = NOTHING
    health: Probe = NOTHING
    json: Probe = NOTHING
    text: Probe = NOTHING

    @property
    def busy(self) -> tuple[int, int] | None:
        """Requests (being served, waiting), None when nothing here tells."""
        for values, names in (
            (self.health.values, ("active", "waiting")),
            (self.json.values, ("requests_active", "queue_depth")),
        ):
            if all(name in values for name in names):
                return int(values[names[0]]), int(values[names[1]])
        return None


# --- read


def read_health(body: bytes) -> dict[str, float]:
    """The figures of /health's `queue`."""
    content = _object(body).get("queue")
    return _numbers(content if isinstance(content, dict) else {}, HEALTH)


def read_json(body: bytes) -> dict[str, float]:
    """The figures of /metrics in its JSON form."""
    content = _object(body)
    inner = content.get("gateway", content)
    return _numbers(inner if isinstance(inner, dict) else {}, (*METRICS, "requests_active"))


def read_text(body: bytes) -> dict[str, float]:
    """The same from Prometheus text, where each name has a prefix: gateway_queue_depth.

    https://prometheus.io/docs/instrumenting/exposition_formats/ (text-based format)
    """
    found = dict(SAMPLE.findall(body.decode("utf-8", "replace")))
    named = {key: value for key, value in found.items() if key.startswith("gateway_")}
    return _numbers({key[8:]: value for key, value in named.items()}, METRICS)


def _object(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _numbers(content: dict[str, Any], names: tuple[str, ...]) -> dict[str, float]:
    figures = {name: number(content.get(name)) for name in names}
    return {name: figure for name, figure in figures.items() if figure is not None}


READERS = {"health": read_health, "json": read_json, "text": read_text}


def read_probe(name: str, reply: wire.Reply) -> Probe:
    trouble = outcome(reply) if reply.failure or reply.status != 200 else None
    if reply.cancelled:
        trouble = f"more than {LARGEST_BYTES >> 20} MB of answer"
    spent = (reply.first_byte_ns or 0) - (reply.t0_ns or 0)
    reader = READERS.get(name)
    values = reader(reply.body) if reader and trouble is None else {}
    return Probe(reply.status, round(spent / 1e6, 3) if reply.status else None, values, trouble)


def look(instrument: wire.Wire) -> Look:
    """Ask all four at once."""
    sent_ns = time.perf_counter_ns()
    replies = instrument.exchange(list(REQUESTS.values()), len(REQUESTS))
    probes = {name: read_probe(name, each) for name, each in zip(REQUESTS, replies, strict=True)}
    return Look(sent_ns, time.perf_counter_ns(), **probes)


# --- watch


class Watch(threading.Thread):
    """Looks every `interval_s`, from `start` until the `with` block is left."""

    def __init__(self, target: wire.Target, timeout_s: float):
        super().__init__(name="watch", daemon=True)  # a hung probe must not hold up the end
        self.interval_s = FIRST_INTERVAL_S
        self.looks: list[Look] = []
        self._target, self._timeout_s = target, min(timeout_s, LONGEST_S)
        self._stop_asked = threading.Event()
        self._error: Exception | None = None

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_asked.set()
        self.join(0.5)

    def run(self) -> None:
        try:
            with wire.Wire(self._target, self._timeout_s) as instrument:
                while not self._stop_asked.is_set():
                    self.looks.append(look(instrument))
                    self._stop_asked.wait(self.interval_s)
        except Exception as error:  # raised where somebody waits for a look
            self._error = error

    def between(self, start_ns: int, end_ns: int) -> list[Look]:
        """The looks that began and ended in that time."""
        return [each for each in self.looks if each.sent_ns >= start_ns and each.end_ns <= end_ns]

    def first(self, wanted: Callable[[Look], bool], after_ns: int, timeout_s: float) -> Look | None:
        """The first look sent after `after_ns` that is as wanted; waits for it that long."""
        deadline_ns = time.perf_counter_ns() + int(timeout_s * 1e9)
        seen = 0
        while True:
            while seen < len(self.looks):
                each = self.looks[seen]
                seen += 1
                if each.sent_ns >= after_ns and wanted(each):
                    return each
            if self._error:
                raise self._error
            if time.perf_counter_ns() > deadline_ns:
                return None
            time.sleep(STEP_S)
