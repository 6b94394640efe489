"""What the gateway says of its queue, read again and again while something else is measured.

A `Watcher` asks /ping, /health and both forms of /metrics until it is stopped, each of them in a
thread and over a wire of its own: one that is silent or slow never holds up the others. A figure
that the gateway does not give is not in `values`; it is never 0 instead. Times are seconds on the
clock of `time.perf_counter`.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from livecheck.core.json_value import decode_or_none, number, pick
from livecheck.wire.answer import Answer
from livecheck.wire.asking import rate_limit_words
from livecheck.wire.prometheus import read_samples
from livecheck.wire.wire import Request, Target, Wire

LONGEST_S = 5.0  # for one answer; a probe that takes longer says nothing of its moment
FIRST_INTERVAL_S = 0.05
GRACE_S = 0.1  # for the others, after the first answer: who takes longer has a reading of its own
STEP_S = 0.01  # how often `wait_for` looks whether there is a new reading

HEALTH = ("max_concurrent", "max_queue_size", "active", "waiting")
METRICS = ("queue_depth", "queue_rejections", "queue_wait_seconds_total")
COUNTERS = (  # of /metrics: they never become smaller
    *("queue_rejections", "queue_wait_seconds_total"),
    *("requests_total", "requests_success", "requests_error"),
)
PREFIX = "gateway_"  # of each name in the Prometheus text
GATEWAY = (*METRICS, "requests_active", *COUNTERS[2:])
Figures = Sequence[tuple[str, Any]]  # names, and what the gateway sends for them
OBJECTS = ("gateway", "queue")  # of the guide's /health; `gateway` is in its /metrics as well

REQUESTS = {
    name: Request("GET", path, headers={"accept": accept})
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
    `of_guide`: it has something that the guide's gateway says of its queue, be it incomplete.
    `impossible`: figures that are no counts, which are not in `values`: "active is -1".
    `limit`: what to say of the rate limit that answered in its place. `is_page`: a web page did.
    `kind`: the kind of failure, where there is no whole answer.
    """

    status: int | None = None
    spent_ms: float | None = None
    values: dict[str, float] = field(default_factory=dict)
    trouble: str | None = None
    of_guide: bool = False
    impossible: tuple[str, ...] = ()
    limit: str | None = None
    is_page: bool = False
    kind: str | None = None

    @property
    def is_asked(self) -> bool:
        """Whether it stands for an answer, or for a question that got none."""
        return self is not NOT_ASKED

    @property
    def is_whole(self) -> bool:
        """Whether there is an answer, be it a refusal; not a silence or a broken one."""
        return self.status is not None and self.kind is None

    @property
    def is_missing(self) -> bool:
        """Whether the deployment has no such endpoint: it answers with a 4xx, or with a page."""
        is_4xx = self.status is not None and 400 <= self.status < 500
        return self.limit is None and (is_4xx or self.is_page)

    @property
    def answered_by(self) -> str:
        """What came where there is no such endpoint."""
        return f"{self.status}, a web page" if self.is_page else f"{self.status}"


NOT_ASKED = Probe(trouble="not asked")


@dataclass(frozen=True)
class Reading:
    """What the deployment said of itself between `sent_s` and `ended_s`: up to four probes at once.

    An endpoint that answers later than the others has a reading of its own.
    `blind_ms`: how long this program could not run meanwhile, where somebody has worked that out.
    """

    sent_s: float
    ended_s: float
    ping: Probe = NOT_ASKED
    health: Probe = NOT_ASKED
    metrics_json: Probe = NOT_ASKED
    metrics_text: Probe = NOT_ASKED
    blind_ms: float = 0.0

    @property
    def limit(self) -> str | None:
        """What to say of a rate limit that answered for one of the endpoints; None if none did."""
        probes = (self.ping, self.health, self.metrics_json, self.metrics_text)
        return next((probe.limit for probe in probes if probe.limit), None)

    @property
    def figures(self) -> dict[str, dict[str, Any]]:
        """What each endpoint has said, with its status, for the evidence of a check."""
        asked = {"ping": self.ping, "health": self.health}
        asked |= {"metrics_json": self.metrics_json, "metrics_text": self.metrics_text}
        return {
            name: {"status": probe.status, **probe.values, "impossible": list(probe.impossible)}
            for name, probe in asked.items()
            if probe.is_asked
        }

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
    def of_guide(self) -> bool:
        """Whether any of the endpoints speaks of the queue as the guide's gateway does."""
        return self.health.of_guide or self.metrics_json.of_guide or self.metrics_text.of_guide

    @property
    def is_idle(self) -> bool:
        """Whether it says that no request is being served and none is waiting."""
        return self.occupancy == (0, 0)

    @property
    def requests_active(self) -> float:
        """The larger one of the two forms of /metrics; 0 where neither has it."""
        probes = (self.metrics_json, self.metrics_text)
        return max(probe.values.get("requests_active", 0) for probe in probes)

    @property
    def is_at_rest(self) -> bool:
        """Whether every gauge that there is says 0."""
        gauges = [self.health.values.get("active"), self.health.values.get("waiting")]
        gauges += [p.values.get("queue_depth") for p in (self.metrics_json, self.metrics_text)]
        return not any(gauges)


# --- read


class Said(NamedTuple):
    """What one of the endpoints says. `of_guide`: it has a part of what the guide's gateway says of
    its queue; other gateways have their own /health and /metrics, or those of the engine.
    `problem`: why no client can read it."""

    figures: Figures = ()
    of_guide: bool = False
    problem: str | None = None


def health_said(body: bytes) -> Said:
    """/health: its `queue`, and the counters of its `gateway`."""
    content = decode_or_none(body)
    queue = _figures(pick(content, "queue"), HEALTH)
    counters = _figures(pick(content, "gateway", "metrics"), METRICS)
    return Said([*queue, *counters], _has_object(content))


def metrics_json_said(body: bytes) -> Said:
    """/metrics in its JSON form."""
    content = decode_or_none(body)
    of_guide = _has_object(content) or any(pick(content, name) is not None for name in METRICS)
    return Said(_figures(pick(content, "gateway") or content, GATEWAY), of_guide)


def metrics_text_said(body: bytes) -> Said:
    """The same from Prometheus text, where each name has a prefix: gateway_queue_depth."""
    if isinstance(
        decode_or_none(body), dict
    ):  # the other form, also to a client that asks for this one
        return Said(of_guide=_has_object(decode_or_none(body)))
    samples, problem = read_samples(body)
    found: dict[str, Any] = {sample.name: sample.value for sample in samples}
    figures = _figures({name: found.get(PREFIX + name) for name in GATEWAY}, GATEWAY)
    return Said(figures, any(name.startswith(PREFIX + "queue_") for name in found), problem)


def _has_object(content: Any) -> bool:
    return any(isinstance(pick(content, name), dict) for name in OBJECTS)


def read_health(body: bytes) -> dict[str, float]:
    """The figures of /health that are counts."""
    return counts(health_said(body).figures)


def counts(figures: Figures) -> dict[str, float]:
    """Those that can be a count or a time: not negative, not NaN."""
    known = {name: number(value) for name, value in figures}
    return {name: figure for name, figure in known.items() if figure is not None}


def impossible(figures: Figures) -> tuple[str, ...]:
    """Those that are numbers, and cannot be a count."""
    return tuple(
        f"{name} is {figure:g}"
        for name, value in figures
        if number(value) is None and (figure := _float(value)) is not None
    )


def _float(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def speaks_of_queue(health: Answer, metrics_json: Answer, metrics_text: Answer) -> bool:
    """Whether one of these answers has a part of what the guide's gateway says of its queue."""
    answers = {"health": health, "metrics_json": metrics_json, "metrics_text": metrics_text}
    return any(READERS[name](answer.body).of_guide for name, answer in answers.items())


def take_places(readings: Sequence[Reading], waited_ms: float) -> bool:
    """Whether /ping or /health were refused as a completion is, or waited at least that long: some
    proxies queue every request, whatever its path."""
    probes = [probe for reading in readings for probe in (reading.ping, reading.health)]
    return any(probe.status in (429, 503) or (probe.spent_ms or 0) > waited_ms for probe in probes)


def _figures(content: Any, names: Sequence[str]) -> Figures:
    return [(name, pick(content, name)) for name in names]


READERS: dict[str, Callable[[bytes], Said]] = {
    "ping": lambda _: Said(),
    "health": health_said,
    "metrics_json": metrics_json_said,
    "metrics_text": metrics_text_said,
}


def read_probe(name: str, answer: Answer) -> Probe:
    """The answer to the request of that name in REQUESTS."""
    trouble = None if answer.is_ok else answer.outcome(timed=True)
    is_page = answer.is_ok and answer.is_web_page
    if is_page:
        trouble = f"a web page: {answer.words}"
    said = Said() if answer.failure_kind == "flood" else READERS[name](answer.body)
    trouble = trouble or said.problem
    figures = [] if trouble else said.figures
    spent_ms = answer.first_byte_ms if answer.status else None
    values, wrong = counts(figures), impossible(figures)
    limit = rate_limit_words(answer) if answer.is_rate_limited else None
    return Probe(
        *(answer.status, spent_ms, values, trouble, said.of_guide, wrong, limit, is_page),
        answer.failure_kind,
    )


def merged(readings: Sequence[Reading], after_s: float = 0.0) -> Reading | None:
    """The latest answer of each endpoint, of readings that began after `after_s`. An endpoint whose
    latest question got no whole answer has that one, whenever it was. None without any."""
    latest: dict[str, Reading] = {}
    for reading in readings:
        for name in REQUESTS:
            probe: Probe = getattr(reading, name)
            if probe.is_asked and (reading.sent_s >= after_s or not probe.is_whole):
                latest[name] = reading
    begun = [reading for reading in latest.values() if reading.sent_s >= after_s]
    if not begun:
        return None
    probes: dict[str, Any] = {name: getattr(each, name) for name, each in latest.items()}
    sent_s, ended_s = min(each.sent_s for each in begun), max(each.ended_s for each in begun)
    return Reading(sent_s, ended_s, **probes)


# --- watch


def watch_target(wire: Wire, spares_health: bool = False) -> Target:
    """The wire's target, without the key where /health and /metrics need none: what watches the
    queue should not use up the rate limit of the key."""
    anonymous = dataclasses.replace(wire.target, token=None)
    names = ["metrics_json"] if spares_health else ["health", "metrics_json"]
    with Wire(anonymous, min(wire.timeout_s, LONGEST_S)) as other:
        replies = other.exchange([REQUESTS[name] for name in names], 2)
    is_refused = any(reply.status in (401, 403) for reply in replies)
    return wire.target if is_refused else anonymous


Answered = tuple[str, float, float, Probe | Exception]


class Endpoint(threading.Thread):
    """Asks for one of REQUESTS each time that it is told to. What came is put into `answered`, as
    (its name, when it was asked, when it had answered, Probe), or in place of the Probe what ended
    this thread."""

    def __init__(
        self, name: str, target: Target, timeout_s: float, answered: SimpleQueue[Answered]
    ):
        super().__init__(name=f"watcher of {name}", daemon=True)  # must not delay the end
        self.endpoint, self.is_busy = name, False
        self._target, self._timeout_s, self._answered = target, timeout_s, answered
        self._orders: SimpleQueue[bool] = SimpleQueue()

    def ask(self) -> None:
        self.is_busy = True
        self._orders.put(True)

    def end(self) -> None:
        self._orders.put(False)

    def run(self) -> None:
        name, sent_s = self.endpoint, time.perf_counter()
        try:
            with Wire(self._target, self._timeout_s) as wire:
                while self._orders.get():
                    sent_s = time.perf_counter()
                    (reply,) = wire.exchange([REQUESTS[name]])
                    ended_s = time.perf_counter()
                    self._answered.put((name, sent_s, ended_s, read_probe(name, Answer(reply))))
        except Exception as error:  # the watcher raises it
            self._answered.put((name, sent_s, time.perf_counter(), error))


class Watcher(threading.Thread):
    """Reads the state every `interval_s`, as long as its `with` block lasts.

    `asks`: the names in REQUESTS of what it reads; with none of them there are no new readings.
    `readings`: in the order in which they were over; a part of them may be about one endpoint.
    `spares_health`: /health is not read at all, because each answer of it costs inference.
    """

    def __init__(self, target: Target, timeout_s: float, spares_health: bool = False):
        super().__init__(name="watcher", daemon=True)  # a silent probe must not delay the end
        self.interval_s = FIRST_INTERVAL_S
        self.asks: tuple[str, ...] = tuple(REQUESTS)
        self.readings: list[Reading] = []
        self.limit: str | None = None  # the rate limit that ended the reading
        self._spared = {"health"} if spares_health else set()
        self._answered: SimpleQueue[Answered] = SimpleQueue()
        limit_s = min(timeout_s, LONGEST_S)
        self._endpoints = {n: Endpoint(n, target, limit_s, self._answered) for n in REQUESTS}
        self._stop_asked = threading.Event()
        self._error: Exception | None = None

    def __enter__(self) -> Watcher:
        for endpoint in self._endpoints.values():
            endpoint.start()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_asked.set()
        for endpoint in self._endpoints.values():
            endpoint.end()
        self.join(0.5)

    @property
    def asked(self) -> list[str]:
        """The names of what it reads."""
        return [name for name in self.asks if name not in self._spared]

    def run(self) -> None:
        try:
            while not self._stop_asked.is_set() and self.limit is None:
                begun_s = time.perf_counter()
                names = [name for name in self.asked if not self._endpoints[name].is_busy]
                for name in names:
                    self._endpoints[name].ask()
                self._collect(names, begun_s)
                self._stop_asked.wait(self.interval_s)
        except Exception as error:  # `wait_for` raises it, in the thread that waits for a reading
            self._error = error

    def _collect(self, names: Sequence[str], begun_s: float) -> None:
        """Wait until these have answered, or GRACE_S after the first of them; then keep that as one
        reading, and each answer to an earlier question as another."""
        found: dict[str, Any] = {}
        last_s = begun_s
        until_s = begun_s + (GRACE_S if len(names) < len(self.asked) else 2 * LONGEST_S)
        while len(found) < len(names) or not self._answered.empty():
            try:
                left_s = max(0.0, until_s - time.perf_counter())
                name, sent_s, ended_s, probe = self._answered.get(timeout=left_s)
            except Empty:
                break
            self._endpoints[name].is_busy = False
            if isinstance(probe, Exception):
                raise probe
            if sent_s < begun_s:
                alone: dict[str, Any] = {name: probe}
                self._keep(Reading(sent_s, ended_s, **alone))
                continue
            found[name], last_s = probe, max(last_s, ended_s)
            until_s = min(until_s, time.perf_counter() + GRACE_S)
        if found:
            self._keep(Reading(begun_s, last_s, **found))

    def _keep(self, reading: Reading) -> None:
        self.readings.append(reading)
        self.limit = self.limit or reading.limit

    @property
    def tells(self) -> bool:
        """Whether it reads how many requests there are, as far as the readings show."""
        return bool(self.asks) and any(each.occupancy is not None for each in self.readings)

    def next_reading(self, timeout_s: float) -> Reading | None:
        """The first answer of each endpoint to a question from now on, as one reading."""
        return self.whole_reading(time.perf_counter(), timeout_s)

    def whole_reading(
        self,
        after_s: float,
        timeout_s: float,
        condition: Callable[[Reading], bool] = lambda _: True,
    ) -> Reading | None:
        """The latest answers of all endpoints to questions after `after_s`, as soon as there are
        some of each and the condition holds for them; those that there are `timeout_s` from now.
        Nobody waits for an endpoint whose latest question got no whole answer."""
        deadline_s = time.perf_counter() + timeout_s
        while self.asks:
            is_over = self.limit is not None or time.perf_counter() > deadline_s
            reading = merged(list(self.readings), after_s)
            if self._error:
                raise self._error
            if reading and (is_over or (self._is_whole(reading) and condition(reading))):
                return reading
            if is_over:
                return None
            time.sleep(STEP_S)
        return None

    def _is_whole(self, reading: Reading) -> bool:
        return all(getattr(reading, name).is_asked for name in self.asked)

    def wait_for(
        self, condition: Callable[[Reading], bool], after_s: float, timeout_s: float
    ) -> Reading | None:
        """The first reading begun after `after_s` for which the condition holds; None when there
        is none until `timeout_s` from now."""
        deadline_s = time.perf_counter() + timeout_s
        examined = 0
        while self.asks:
            is_over = self.limit is not None
            for reading in self.readings[examined:]:
                examined += 1
                if reading.sent_s >= after_s and condition(reading):
                    return reading
            if self._error:
                raise self._error
            if is_over or time.perf_counter() > deadline_s:
                return None
            time.sleep(STEP_S)
        return None
