#!/usr/bin/env python3
"""Does an idle worker scale down while its health URL is probed, and does it wake when needed?

Sends a few requests, then sends none to the model and probes the health URL as a platform does,
until no worker is left; then it sends one more request. That no worker is left is proven by a count
of the workers (--workers-command, --runpod-endpoint) or, without one, by that request being cold.

PASS: the worker scaled down although its health URL was probed, the health URL always answered 200,
and the next request woke a worker.
Cost: 6 answers of up to --max-tokens, 9 at most, and one cold start, which wakes a sleeping worker.
Without a worker count it waits for the whole --idle-timeout, by default a quarter of an hour. If
the worker does not scale down, the wait is repeated; if the server is silent as well, a run can
take an hour.

Examples:
    # no worker count: wait longer than the idle timeout, then see whether the next request is cold
    python3 test_scale_to_zero.py --url https://host:8000 --api-key sk-key --idle-timeout 900
    # RunPod: its control plane counts the workers (RUNPOD_API_KEY), which shortens the wait
    python3 test_scale_to_zero.py --url https://id-8000.proxy.runpod.net --runpod-endpoint id
    # any other way to count workers; the command finds the URL in $INFERENCE_URL
    python3 test_scale_to_zero.py --url https://host:8000 \\
        --workers-command 'kubectl get pods -l app=llm --no-headers | wc -l'
    # a first try: a short wait, which is not repeated without probes
    python3 test_scale_to_zero.py --url https://host:8000 --idle-timeout 120 --no-control
"""

from __future__ import annotations

import argparse
import contextlib
import math
import re
import statistics
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import common
from common import CannotCheck, Check, Run, Status
from livecheck.core.checks import undecided
from livecheck.core.credentials import check_token
from livecheck.core.options import option_type
from livecheck.core.settings import check_url
from livecheck.core.text import counted, plural
from livecheck.core.text import duration as show_ms
from livecheck.gateway.worker_count import (
    CommandSource,
    Reading,
    RunPodSource,
    Source,
    Workers,
    count_states,
    count_summary,
)
from livecheck.wire import chat
from livecheck.wire.answer import Answer, handshake_figures, number
from livecheck.wire.asking import Asker, open_wire, rate_limit_words, refused_credential
from livecheck.wire.wire import Target, Wire

CHECKS = ("warm", "workers", "scale_down", "health", "undisturbed", "cold_start", "warm_again")
PROMPT = "Say hello."
WARM_REQUESTS = 3  # after the first, which may be cold
AFTER_REQUESTS = 3  # at most, after the cold one: the second and third only if it is slow
# A first token that comes this many times later than a warm one, and this much later, is a cold
# start. Each condition alone may be noise.
COLD_FACTOR = 3.0
COLD_MARGIN_S = 0.4
LIKE_WARM = 1.5  # a cold start within this many times the slowest warm TTFT is hard to believe
ZERO_READINGS = 3  # in a row prove zero: a single one may be a slip of the control plane
STAY_PROBES = 12  # probes at zero workers: a minute by default
ANSWER_S = 10.0  # timeout of the health URL and the control planes, unless --timeout is less
COMMAND_S = 30.0  # the same for the workers command
LOOK_S = 0.25  # between two counts during the cold start
LONG_WAIT_S = 60.0  # before a longer wait the worst case is announced
RUNPOD_PROXY = ".proxy.runpod.net"
# RunPod's two control planes: RUNPOD_API_KEY is sent to these and nowhere else
RUNPOD_WORKERS = "https://api.runpod.io"
RUNPOD_HEALTH = "https://api.runpod.ai"


def build_parser() -> argparse.ArgumentParser:
    parser = common.new_parser(__file__, __doc__, common.GATEWAY, CHECKS, timeout_s=120)
    add = parser.add_argument_group("scale to zero").add_argument
    probed = "URL to probe, or a path of --url (default: /ping on its port 8001)"
    add("--health-url", type=health_location, metavar="URL", help=probed)
    for name, default, text in (
        ("--idle-timeout", 900.0, "longest wait for the scale-down"),
        ("--probe-interval", 5.0, "time between two probes"),
        ("--cold-start-timeout", 300.0, "whole time of a cold request"),
    ):
        text += " (default %(default)g)"
        add(name, type=common.seconds, default=default, metavar="SECONDS", help=text)
    longest = "longest answer, in tokens (default %(default)s)"
    add("--max-tokens", type=common.whole_number(1), default=16, metavar="N", help=longest)
    add("--model", metavar="NAME", help="model to ask for (default: the first listed)")
    runpod = "count workers with RunPod's APIs and RUNPOD_API_KEY"
    add("--runpod-endpoint", type=endpoint_id, metavar="ID", help=runpod)
    command = "shell command that prints the number of workers"
    add("--workers-command", metavar="COMMAND", help=command)
    add("--no-control", action="store_true", help="do not repeat the wait without probes")
    return parser


@option_type
def health_location(text: str) -> str:
    """An argparse type: a whole URL or a path, without user, password or query."""
    check_url(f"http://target{text}" if text.startswith("/") else text)
    return text


def endpoint_id(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", text):
        raise argparse.ArgumentTypeError("an endpoint id has only letters, digits, - and _")
    return text


def health_url(target: str, given: str | None) -> str:
    """The URL to probe: the `given` one, with the path `/ping` if it has none; else `/ping` on port
    8001 of the target, which RunPod's proxy has in the host name."""
    parts = urllib.parse.urlsplit(target)
    if given:
        joined = urllib.parse.urljoin(f"{parts.scheme}://{parts.netloc}", given)
        parts = urllib.parse.urlsplit(joined)
        return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/') or '/ping'}"
    host = parts.hostname or ""
    name = host.removesuffix(f"-8000{RUNPOD_PROXY}")
    if name != host:
        return f"{parts.scheme}://{name}-8001{RUNPOD_PROXY}/ping"
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}:8001/ping"


# --- measure


@dataclass
class Asked:
    """A chat completion that was asked for; `phase` is first, warm, cold or after."""

    phase: str
    answer: Answer
    worker_s: float | None = None  # of a cold one: until the first worker was counted

    @property
    def error(self) -> str | None:
        """The kind of error; None for a success."""
        return self.answer.stream_error.kind if self.answer.stream_error else None

    @property
    def ttft_ms(self) -> float | None:
        """None unless the request succeeded."""
        return None if self.error else self.answer.first_output_ms

    @property
    def error_text(self) -> str:
        error = self.answer.stream_error
        return (error.text or error.kind) if error else ""


@dataclass
class Probe:
    """A request to the health URL, and its answer."""

    at_s: float
    answer: Answer


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
    """A wait for the scale-down, and what came after it."""

    wait: Wait
    stay: Wait | None = None  # more probes, at zero workers
    cold: Asked | None = None  # the request that should wake a worker

    @property
    def probes(self) -> list[Probe]:
        return self.wait.probes + (self.stay.probes if self.stay else [])

    @property
    def cold_ttft_ms(self) -> float:
        """0 when there was no such request, or it failed."""
        return (self.cold and self.cold.ttft_ms) or 0.0


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


class Session:
    """Asks the model, probes the health URL and counts workers; all of it is in the evidence."""

    def __init__(
        self, run: Run, model: Wire, health: Wire, path: str, workers: Workers, evidence: Evidence
    ):
        self.run, self.workers, self.evidence = run, workers, evidence
        self.evidence.readings = workers.readings
        self._model, self._health = Asker(run, model), Asker(run, health)
        self._path = path

    def ask(self, phase: str, limit_s: float) -> Asked:
        """One chat completion, within `limit_s`.

        Its connection is closed at its end: an open one could keep a worker awake.
        """
        run, prompt = self.run, chat.unique(PROMPT)
        request = chat.completion(run.target["model"], prompt, run.args.max_tokens)
        asker, asked = self._model, self.evidence.asked
        asker.wire.timeout_s, asker.stopped = limit_s, None

        def keep(answers: list[Answer]) -> None:
            asked.extend(Asked(phase, answer) for answer in answers)

        asker.ask([request], keep=keep, keep_alive=False)
        return asked[-1]

    def probe(self) -> Probe:
        at_s, self._health.stopped = self.evidence.now_s(), None
        (answer,) = self._health.ask([chat.get(self._path)], keep_alive=False)
        return Probe(at_s, answer)

    def count(self) -> Reading:
        before = self.workers.readings[-1] if self.workers.readings else None
        reading = self.workers.read(self.evidence.now_s())
        if before is None or said_by(before) != said_by(reading):
            self.run.note_wrapped(f"  {reading.at_s:.1f} s: {said_by(reading)}")
        return reading


def said_by(reading: Reading) -> str:
    """A reading in one line: the count and the raw states, or what was wrong."""
    count = "no worker count"
    if reading.count is not None:
        count = f"{plural(reading.count, 'worker')} ({reading.source})"
    parts = [count]
    for name, states in reading.states.items():
        parts.append(f"{name}: " + ", ".join(f"{key} {value:g}" for key, value in states.items()))
    parts += [f"{name}: {text}" for name, text in {**reading.doubts, **reading.errors}.items()]
    return "; ".join(parts)


def warm_up(session: Session) -> None:
    """The first request, which may be a cold start, and a few warm ones."""
    args = session.run.args
    session.run.note(f"sending {1 + WARM_REQUESTS} requests; the first one may be a cold start")
    first = session.ask("first", args.cold_start_timeout).answer
    if first.status == 401:
        raise CannotCheck(refused_credential(session.run))
    if first.is_rate_limited or first.timed_out:
        return  # more requests would only cost more time
    for _ in range(WARM_REQUESTS):
        if session.ask("warm", args.timeout).error:
            break


def ticks(length_s: float, interval_s: float) -> Iterator[None]:
    """Now, after every interval, and at the end. A tick that would come too late is left out."""
    begun_ns, due_s = time.perf_counter_ns(), 0.0
    while True:
        time.sleep(max(0.0, due_s - (time.perf_counter_ns() - begun_ns) / 1e9))
        yield
        if due_s >= length_s:
            return
        spent_s = (time.perf_counter_ns() - begun_ns) / 1e9
        due_s = min(max(due_s + interval_s, spent_s), max(length_s, spent_s))


def wait_in_silence(
    session: Session, wait: Wait, label: str, is_over: Callable[[Wait], bool]
) -> None:
    """Probe and count at every tick until the wait is over."""
    interval_s = session.run.args.probe_interval
    steps = math.ceil(wait.limit_s / interval_s) + 1
    with session.run.progress(label, steps) as step:
        for _ in ticks(wait.limit_s, interval_s):
            look(session, wait)
            step()
            if is_over(wait):
                return
    # the limit must not end a row of zeros that has just begun
    while not is_over(wait) and wait.begins_zeros:
        time.sleep(interval_s)
        look(session, wait)


def look(session: Session, wait: Wait) -> None:
    """One probe and one count, where they are wanted."""
    if wait.probed:
        wait.probes.append(session.probe())
    if session.workers.sources:
        wait.readings.append(session.count())
    wait.ended_s = session.evidence.now_s()


def attempt(session: Session, probed: bool) -> Trial:
    """Wait until there are no workers, probe for a while longer, then wake a worker."""
    args = session.run.args
    trial = Trial(Wait(session.evidence.now_s(), args.idle_timeout, probed))
    session.evidence.trials.append(trial)
    until = "up to" if session.workers.sources else "all of"
    manner = f"probing every {args.probe_interval:g} s" if probed else "without probes (control)"
    label = f"no requests to the model for {until} {args.idle_timeout:g} s, {manner}"
    wait_in_silence(session, trial.wait, label, lambda wait: wait.zero_s is not None)
    if trial.wait.zero_s is not None and probed:
        length_s = STAY_PROBES * args.probe_interval
        trial.stay = Wait(session.evidence.now_s(), length_s, probed)
        label = f"no workers: probing for another {length_s:g} s, which should wake none"
        wait_in_silence(session, trial.stay, label, lambda stay: stay.first_worker is not None)
    if not trial.wait.awake:
        trial.cold = wake(session)
    return trial


def wake(session: Session) -> Asked:
    """The request that should find no worker, watched by the worker count if there is one."""
    limit_s = session.run.args.cold_start_timeout
    session.run.note(f"sending one more request: up to {limit_s:g} s for a cold start")
    before = len(session.workers.readings)
    with watching(session):
        asked = session.ask("cold", limit_s)
    sent_ns = asked.answer.sent_ns
    seen = next((r for r in session.workers.readings[before:] if r.count), None)
    if seen and sent_ns is not None:
        asked.worker_s = max(0.0, seen.at_s - (sent_ns - session.evidence.start_ns) / 1e9)
    return asked


@contextlib.contextmanager
def watching(session: Session) -> Iterator[None]:
    """Count the workers in a thread of its own, as long as the block runs."""
    over, workers = threading.Event(), session.workers

    def watch() -> None:
        while workers.sources and not over.wait(LOOK_S):
            workers.read(session.evidence.now_s())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        workers.abandon(thread.join)


def is_cold(ttft_ms: float, warm_ms: Sequence[float]) -> bool:
    """Whether a first token came so late that it must have been a cold start."""
    warm = statistics.median(warm_ms)
    return ttft_ms >= COLD_FACTOR * warm and ttft_ms >= warm + COLD_MARGIN_S * 1e3


def slept(trial: Trial, warm_ms: Sequence[float]) -> bool | None:
    """Whether no worker was awake at the end of the wait; None when that is not known."""
    if trial.wait.zero_s is not None:
        return True
    if trial.wait.awake:
        return False
    if trial.cold is None or trial.cold.ttft_ms is None:
        return None
    return is_cold(trial.cold.ttft_ms, warm_ms)


def measure_all(session: Session) -> None:
    """All phases, and the control if the worker did not scale down."""
    args, evidence = session.run.args, session.evidence
    warm_up(session)
    limited = any(asked.answer.is_rate_limited for asked in evidence.asked)
    later = [name for name in CHECKS if name != "warm"]
    if not evidence.warm_ms or limited or not any(map(session.run.wants, later)):
        return
    if session.workers.sources:
        session.count()  # a source that says 0 while a worker must be awake proves nothing later
    announce(session)
    trial = attempt(session, probed=True)
    if slept(trial, evidence.warm_ms) is False and not args.no_control:
        trial = attempt(session, probed=False)
    if trial.cold and not trial.cold.answer.is_rate_limited and trial.cold.error != "timeout":
        for _ in range(AFTER_REQUESTS):
            ttft_ms = session.ask("after", args.timeout).ttft_ms
            if ttft_ms is None or not is_cold(ttft_ms, evidence.warm_ms):
                break


def announce(session: Session) -> None:
    """Tell the operator how long it will take."""
    args, run = session.run.args, session.run
    stay_s = STAY_PROBES * args.probe_interval
    if not session.workers.sources:
        stay_s = 0.0
        text = "without a worker count nothing shows when the worker scales down, so the wait is "
        text += f"the whole {args.idle_timeout:g} s (--workers-command or --runpod-endpoint "
        run.note_wrapped(text + "shorten it)")
    if args.idle_timeout > LONG_WAIT_S:
        waits_s = (1 if args.no_control else 2) * (args.idle_timeout + args.cold_start_timeout)
        longest_s = waits_s + stay_s + AFTER_REQUESTS * args.timeout
        run.note(f"worst case from here: {longest_s / 60:.0f} minutes")


def sources_of(run: Run, stack: contextlib.ExitStack) -> list[Source]:
    """What can count workers here: the operator's own command first, then RunPod's APIs."""
    args = run.args
    found: list[Source] = []
    if args.workers_command:
        environment, timeout_s = {"INFERENCE_URL": run.url}, min(COMMAND_S, args.timeout)
        found.append(CommandSource(args.workers_command, timeout_s, environment))
        args.workers_command = "(given)"  # it may hold a credential, and options are saved
    if args.runpod_endpoint:
        key, name = runpod_key(run), args.runpod_endpoint
        for label, host, path, understand in (
            ("RunPod v2", RUNPOD_WORKERS, f"/v2/serverless/{name}/workers", count_summary),
            ("RunPod health", RUNPOD_HEALTH, f"/v2/{name}/health", count_states),
        ):
            # --no-verify-ssl is about the deployment, not about RunPod
            wire = Wire(Target(host, key), min(ANSWER_S, args.timeout))
            found.append(RunPodSource(label, stack.enter_context(wire), path, understand))
    return found


def runpod_key(run: Run) -> str:
    key = run.look_up("RUNPOD_API_KEY")
    if key is None:
        raise CannotCheck("--runpod-endpoint needs RUNPOD_API_KEY in the environment or in .env")
    try:
        return run.secrets.add(check_token(key, "RUNPOD_API_KEY"))
    except ValueError as error:
        raise CannotCheck(str(error)) from None


def measure(run: Run) -> None:
    args, evidence, document = run.args, Evidence(), run.document("scale_to_zero")
    url = health_url(run.url, args.health_url)
    place = urllib.parse.urlsplit(url)
    with contextlib.ExitStack() as stack:
        workers = Workers(sources_of(run, stack))
        token = run.token()
        with open_wire(run, token) as first:  # closed here: an open connection may keep awake
            (listed,) = chat.first_contact(run, first, [chat.get(chat.MODELS)])
        model = stack.enter_context(open_wire(run, token))
        # no credential goes to the health URL, whoever's it is
        base, limit_s = f"{place.scheme}://{place.netloc}", min(ANSWER_S, args.timeout)
        health = stack.enter_context(open_wire(run, None, limit_s, base))
        run.target["model"] = chat.model_to_ask(run, listed)
        session = Session(run, model, health, place.path, workers, evidence)
        try:
            measure_all(session)
        finally:
            document.requests = records(evidence)
            document.metrics = metrics(evidence, args, url)
    document.add(*judge(session, url))
    run.show(lines(evidence, url), document.checks)


# --- judge


def rate_limited(name: str, asked: Asked) -> Check:
    return undecided(name, rate_limit_words(asked.answer))


def check_warm(evidence: Evidence, url: str) -> Check:
    """The deployment answers: the first request and the warm ones."""
    found = evidence.of("first") + evidence.of("warm")
    limited = next((asked for asked in found if asked.answer.is_rate_limited), None)
    if limited:
        return rate_limited("warm", limited)
    failed = [asked for asked in found if asked.error]
    if failed:
        which = "the first request" if failed[0].phase == "first" else "a warm request"
        detail = f"{len(failed)} of {len(found)} failed, {which}: {failed[0].error_text}"
        if failed[0].phase == "first" and RUNPOD_PROXY in url:
            detail += "; RunPod sets max workers to 0 after 7 days without a request"
        return Check("warm", Status.FAIL, detail)
    times, first = evidence.warm_ms, found[0].ttft_ms or 0.0
    detail = f"TTFT median {show_ms(statistics.median(times))} of {len(times)}"
    note = ", a cold start" if is_cold(first, times) else ""
    detail += f", slowest {show_ms(max(times))}; the first took {show_ms(first)}{note}"
    return Check("warm", Status.PASS, detail, {"ttft_ms": times, "first_ttft_ms": first})


def check_workers(readings: Sequence[Reading], sources: Sequence[Source]) -> Check:
    """The worker count can be read, and tells how many workers there are."""
    if not sources:
        detail = "no worker count: give --workers-command or --runpod-endpoint"
        return Check("workers", Status.SKIP, detail)
    problems = [
        f"{name}: {text}"
        for reading in readings
        for name, text in {**reading.errors, **reading.doubts}.items()
        if name in reading.errors or reading.count is None
    ]
    good = [reading for reading in readings if reading.count is not None]
    used = ", ".join(dict.fromkeys(reading.source or "" for reading in good)) or "nothing"
    evidence = {"readings": len(readings), "counted": len(good)}
    detail = f"{len(good)} of {len(readings)} readings gave a count, from {used}"
    if problems:
        return Check("workers", Status.WARN, f"{detail}; {counted(problems)}", evidence)
    return Check("workers", Status.PASS, detail, evidence)


def check_scale_down(trials: Sequence[Trial], warm_ms: Sequence[float]) -> Check:
    """No worker is awake after the wait, although the health URL was probed."""
    first = trials[0]
    asleep = slept(first, warm_ms)
    evidence = {"waited_s": round(first.wait.spent_s, 3)}
    if asleep is None:
        if first.cold and first.cold.answer.is_rate_limited:
            return rate_limited("scale_down", first.cold)
        detail = "not decided: no worker count, and the request that should have been cold failed"
        return undecided("scale_down", detail, evidence)
    if asleep:
        return Check("scale_down", Status.PASS, sleep_words(first, warm_ms), evidence)
    detail = awake_words(first, warm_ms)
    if len(trials) > 1:
        detail += control_words(trials[1], warm_ms)
    return Check("scale_down", Status.FAIL, detail, evidence)


def sleep_words(trial: Trial, warm_ms: Sequence[float]) -> str:
    wait = trial.wait
    if wait.zero_s is not None:
        source = wait.readings[-1].source
        return f"0 workers after {wait.zero_s:.1f} s, {ZERO_READINGS} readings in a row ({source})"
    took = f"the next first token took {compared_to_warm(trial.cold_ttft_ms, warm_ms)}"
    return f"scaled down within {wait.limit_s:g} s: {took}; only a worker count could tell when"


def awake_words(trial: Trial, warm_ms: Sequence[float]) -> str:
    wait = trial.wait
    if wait.awake:
        counts = [reading.count for reading in wait.readings if reading.count is not None]
        if zeros := counts.count(0):
            detail = f"never stayed at 0 workers in {wait.limit_s:g} s: {zeros} of {len(counts)} "
            return detail + f"readings were 0, but never {ZERO_READINGS} in a row"
        detail = f"after {wait.limit_s:g} s without requests still {plural(counts[-1], 'worker')}"
        return detail + f" ({len(counts)} readings, none 0)"
    took = show_ms(trial.cold_ttft_ms)
    return (
        f"after {wait.limit_s:g} s without requests the first token took {took}, a "
        f"warm one takes {show_ms(statistics.median(warm_ms))}: the worker is still awake, or "
        f"resumed within {COLD_MARGIN_S:g} s; a worker count would tell"
    )


def control_words(control: Trial, warm_ms: Sequence[float]) -> str:
    """Whether the probes kept the worker awake."""
    asleep, seen, limit_s = slept(control, warm_ms), control.wait.zero_s, control.wait.limit_s
    if asleep is None:
        return "; the wait without probes decided nothing: its request failed"
    if not asleep:
        return f"; without probes it did not scale down in {limit_s:g} s either"
    when = f"after {seen:.1f} s" if seen is not None else f"within {limit_s:g} s"
    return f"; without probes it scaled down {when}: the probes keep it awake"


def check_health(trials: Sequence[Trial], url: str) -> Check:
    """The health URL answers 200 whenever it is probed, with and without workers."""
    zero = zero_spans(trials)
    probes = [probe for trial in trials for probe in trial.probes]
    bad = [probe for probe in probes if not probe.answer.is_ok]
    at_zero = [probe for probe in bad if any(a < probe.at_s <= b for a, b in zero)]
    excused = [probe for probe in at_zero if answered_by_platform(probe.answer, url)]
    good = [probe.answer for probe in probes if probe.answer.is_ok]
    times = [a.first_byte_ms for a in good if a.first_byte_ms is not None]
    evidence: dict[str, Any] = {"probes": len(probes), "failed": len(bad)}
    evidence |= {"failed_at_zero": len(at_zero), "slowest_ms": max(times, default=None)}
    if len(excused) < len(bad):
        detail = f"{len(bad)} of {len(probes)} probes of {url} failed: {probe_words(bad)}"
        if zero:
            detail += f"; {len(at_zero)} of them at zero workers"
        failures = [probe.answer.failure for probe in probes]
        if all(failure and failure.kind == "connect" for failure in failures):
            detail += "; no server listens there: is --health-url right?"
        return Check("health", Status.FAIL, detail, evidence)
    odd = [answer for answer in good if answer.body.strip() not in (b"", b"pong")]
    status = Status.WARN
    if excused:
        detail = f"{len(excused)} of {len(probes)} probes, all at zero workers, were answered by "
        detail += f"the platform's proxy: {probe_words(excused)}"
    elif odd:
        detail = f"200, but the body is neither empty nor pong: {odd[0].words!r}"
    else:
        slowest = show_ms(max(times))
        status, detail = Status.PASS, f"{len(probes)} probes, all 200, slowest {slowest}"
    return Check("health", status, detail, evidence)


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


def answered_by_platform(answer: Answer, url: str) -> bool:
    """Whether what answered stands in front of the deployment, and needs no worker for it."""
    is_edge = (urllib.parse.urlsplit(url).hostname or "").endswith(RUNPOD_PROXY)
    is_edge = is_edge or any(map(answer.header, chat.EDGE_HEADERS))
    return is_edge and answer.status is not None and answer.failure is None


def probe_words(probes: Sequence[Probe]) -> str:
    answers = [probe.answer for probe in probes]
    return counted(a.failure.text if a.failure else a.outcome() for a in answers)


def check_undisturbed(trial: Trial) -> Check:
    """While there are no workers, probing the health URL wakes none."""
    name, stay, awake = "undisturbed", trial.stay, trial.wait.awake
    if stay is None:
        reason = "the worker did not scale down" if awake else "no worker count proved zero"
        return Check(name, Status.SKIP, f"not tried: {reason}")
    probes = len(stay.probes)
    if again := stay.first_worker:
        after_s = again.at_s - stay.started_s
        detail = f"{plural(again.count or 0, 'worker')} again {after_s:.1f} s and {probes} probes "
        detail += "after zero was proven, though this script sent no request to the model"
        return Check(name, Status.FAIL, detail)
    if all(reading.count is None for reading in stay.readings):
        detail = "the worker count could not be read after zero was proven"
        return Check(name, Status.SKIP, detail)
    detail = f"still 0 workers after another {probes} probes in {stay.spent_s:.1f} s"
    return Check(name, Status.PASS, detail)


def check_cold_start(trials: Sequence[Trial], warm_ms: Sequence[float], limit_s: float) -> Check:
    """A request is answered within its limit although no worker was awake."""
    trial, name = trials[-1], "cold_start"
    cold, asleep = trial.cold, slept(trial, warm_ms)
    if cold is None:
        detail = "the worker did not scale down: there is no cold start to measure"
        return Check(name, Status.SKIP, detail)
    if cold.answer.is_rate_limited:
        return rate_limited(name, cold)
    if cold.error == "timeout" and cold.answer.first_output_ms is None:
        detail = f"no first token within the limit of {limit_s:g} s (--cold-start-timeout)"
        return Check(name, Status.FAIL, detail)
    if cold.ttft_ms is None:
        detail = f"the request that should wake a worker failed: {cold.error_text}"
        return Check(name, Status.FAIL, detail)
    if not asleep or (trial.stay and trial.stay.first_worker):
        detail = f"a worker was awake: the first token took {show_ms(cold.ttft_ms)}"
        return Check(name, Status.SKIP, detail)
    evidence = {"cold_start_s": round(cold.ttft_ms / 1e3, 4), **split(cold)}
    detail = f"first token after {compared_to_warm(cold.ttft_ms, warm_ms)} (limit {limit_s:g} s)"
    if cold.ttft_ms < LIKE_WARM * max(warm_ms):
        detail += ": as fast as a warm one; does the count see the workers of this deployment?"
        return Check(name, Status.WARN, detail, evidence)
    return Check(name, Status.PASS, detail, evidence)


def compared_to_warm(ttft_ms: float, warm_ms: Sequence[float]) -> str:
    """A first token's time, and how it compares to a warm one's."""
    return f"{show_ms(ttft_ms)}, {ttft_ms / statistics.median(warm_ms):.1f} x warm"


def split(cold: Asked) -> dict[str, float | None]:
    """The parts of a cold start that can be seen from here, in ms."""
    answer, timings = cold.answer, cold.answer.stream.timings or {}
    return {
        **handshake_figures(answer.handshake),
        "worker_ms": None if cold.worker_s is None else round(cold.worker_s * 1e3, 1),
        "first_byte_ms": answer.first_byte_ms,
        "server_prompt_ms": number(timings.get("prompt_ms")),
        "ttft_ms": cold.answer.first_output_ms,
    }


def check_warm_again(evidence: Evidence) -> Check:
    """After the cold start the worker stays awake: the next request is warm."""
    found = evidence.of("after")
    if not found:
        return Check("warm_again", Status.SKIP, "there was no cold start before")
    last = found[-1]
    if last.answer.is_rate_limited:
        return rate_limited("warm_again", last)
    times = ", ".join(show_ms(asked.ttft_ms) for asked in found)
    times += f", warm was {show_ms(statistics.median(evidence.warm_ms))}"
    if last.ttft_ms is None:
        detail = f"request {len(found)} after the cold one failed: {last.error_text}"
        return Check("warm_again", Status.FAIL, detail)
    if is_cold(last.ttft_ms, evidence.warm_ms):
        return Check("warm_again", Status.FAIL, f"cold again: first tokens after {times}")
    if len(found) > 1:
        detail = f"only request {len(found)} was warm: first tokens after {times}"
        return Check("warm_again", Status.WARN, detail)
    return Check("warm_again", Status.PASS, f"first token after {times}")


def judge(session: Session, url: str) -> list[Check]:
    """All verdicts that the evidence allows."""
    evidence, limit_s = session.evidence, session.run.args.cold_start_timeout
    warm = check_warm(evidence, session.run.url)
    trials, warm_ms = evidence.trials, evidence.warm_ms
    if not trials:
        return [warm]
    return [
        warm,
        check_workers(evidence.readings, session.workers.sources),
        check_scale_down(trials, warm_ms),
        check_health(trials, url),
        check_undisturbed(trials[0]),
        check_cold_start(trials, warm_ms, limit_s),
        check_warm_again(evidence),
    ]


# --- show


def row(label: str, value: str, note: str = "") -> str:
    return f"  {label:22}{value:>10}  {note}".rstrip()


def trial_lines(trial: Trial, warm_ms: Sequence[float]) -> list[str]:
    wait = trial.wait
    title = "wait, probed" if wait.probed else "wait, not probed"
    seen = f"{len(wait.probes)} probes, {len(wait.readings)} worker counts"
    lines = [row(title, f"{wait.spent_s:.1f} s", f"of at most {wait.limit_s:g} s; {seen}")]
    if wait.zero_s is not None:
        lines.append(row("  zero workers after", f"{wait.zero_s:.1f} s", "without requests"))
    if trial.stay:
        seen = f"{len(trial.stay.probes)} probes"
        lines.append(row("  probed at zero", f"{trial.stay.spent_s:.1f} s", seen))
    if trial.cold:
        lines += cold_lines(trial.cold, slept(trial, warm_ms))
    return lines


SPLIT = (
    ("connect_ms", "  connect", "before the request, not part of its TTFT"),
    ("tls_ms", "  TLS", "before the request, not part of its TTFT"),
    ("worker_ms", "  a worker is counted", "by the worker count, at the latest"),
    ("first_byte_ms", "  first byte", "of the head of the answer"),
    ("server_prompt_ms", "  prefill", "as the server says"),
)


def cold_lines(cold: Asked, asleep: bool | None) -> list[str]:
    if cold.ttft_ms is None:
        return [row("next request", "failed")]
    parts = split(cold) if asleep else {}
    lines = [row("next request, TTFT", show_ms(cold.ttft_ms))]
    for key, label, note in SPLIT:
        if parts.get(key) is not None:
            lines.append(row(label, show_ms(parts[key]), note))
    return lines


def lines(evidence: Evidence, url: str) -> list[str]:
    rows, warm_ms = [f"Scale to zero, probing {url}"], evidence.warm_ms
    if warm_ms:
        rows += [row("warm TTFT", show_ms(statistics.median(warm_ms)), f"median of {len(warm_ms)}")]
    for trial in evidence.trials:
        rows += trial_lines(trial, warm_ms)
    times = [asked.ttft_ms for asked in evidence.of("after") if asked.ttft_ms is not None]
    return rows + [row("request after it, TTFT", show_ms(each)) for each in times]


def records(evidence: Evidence) -> list[dict[str, Any]]:
    """Everything that was sent and read, in the order of time."""
    chats = []
    for index, asked in enumerate(evidence.asked):
        record = asked.answer.record(evidence.start_ns) | {"index": index}
        at_s = round((record["sent_ms"] or 0) / 1e3, 3)
        chats.append({"kind": "chat", "phase": asked.phase, "at_s": at_s} | record)
    probes = [
        {
            "kind": "health",
            "at_s": round(p.at_s, 3),
            "status": p.answer.status,
            "error": p.answer.failure.text if p.answer.failure else None,
            "ttfb_ms": p.answer.first_byte_ms,
        }
        for trial in evidence.trials
        for p in trial.probes
    ]
    counts = [{"kind": "workers", **vars(r), "at_s": round(r.at_s, 3)} for r in evidence.readings]
    return sorted([*chats, *probes, *counts], key=lambda record: float(record["at_s"]))


def metrics(evidence: Evidence, args: argparse.Namespace, url: str) -> dict[str, Any]:
    warm_ms, trials = evidence.warm_ms, evidence.trials
    cold = next((t.cold for t in reversed(trials) if t.cold and slept(t, warm_ms)), None)
    after = evidence.of("after")
    return {
        "health_url": url,
        "idle_timeout_s": args.idle_timeout,
        "warm_ttft_ms": statistics.median(warm_ms) if warm_ms else None,
        "scale_down_s": next((round(t.wait.zero_s, 3) for t in trials if t.wait.zero_s), None),
        "control": len(trials) > 1,
        "cold_start_s": round(cold.ttft_ms / 1e3, 4) if cold and cold.ttft_ms is not None else None,
        "cold_start": split(cold) if cold else None,
        "after_ttft_ms": after[-1].ttft_ms if after else None,
    }


def main(argv: Sequence[str] | None = None) -> int:
    return common.main(build_parser(), measure, argv)


if __name__ == "__main__":
    sys.exit(main())
