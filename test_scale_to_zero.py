#!/usr/bin/env python3
"""Does an idle worker go to sleep while its health URL is probed, and does it wake when needed?

Sends a few requests, then leaves the model alone and probes the health URL as a platform does,
until no worker is left; then asks again. Zero is proven by a count of the workers
(--workers-command, --runpod-endpoint) or, without one, by the next request being cold.

PASS: it slept although it was probed, the health URL always answered 200, and waking worked.
Cost: 6 answers of up to --max-tokens, 9 at most, and one cold start, which wakes a sleeping worker;
without a worker count a wait of the whole --idle-timeout. By default a quarter of an hour; if it
does not sleep the wait is repeated, and if nothing answers in time either it can take an hour.

Examples:
    # no worker count: wait long enough for any idle timeout, then see whether it is cold
    python3 test_scale_to_zero.py --url https://host:8000 --api-key sk-key --idle-timeout 900
    # RunPod: the control plane counts the workers (RUNPOD_API_KEY), so it ends when they are gone
    python3 test_scale_to_zero.py --url https://id-8000.proxy.runpod.net --runpod-endpoint id
    # anything else that can count workers; the command finds the target in $INFERENCE_URL
    python3 test_scale_to_zero.py --url https://host:8000 \\
        --workers-command 'kubectl get pods -l app=llm --no-headers | wc -l'
    # a first look: a short wait, and no second one to find out whose fault it is
    python3 test_scale_to_zero.py --url https://host:8000 --idle-timeout 120 --no-control
"""

from __future__ import annotations

import argparse
import contextlib
import math
import re
import statistics
import sys
import textwrap
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import common
from common import CannotCheck, Check, Document, Run, Status
from livecheck.core.credentials import check_token
from livecheck.core.settings import check_url
from livecheck.gateway.worker_count import (
    CommandSource,
    Reading,
    RunPodSource,
    Source,
    Workers,
    count_states,
    count_summary,
)
from livecheck.wire import old_chat as chat
from livecheck.wire import wire
from livecheck.wire.records import is_rate_limit, make_record, ms, read_streams, words

CHECKS = ("warm", "workers", "scale_down", "health", "undisturbed", "cold_start", "warm_again")
PROMPT = "Say hello."
WARM_REQUESTS = 3  # after the first, which may be cold
AFTER_REQUESTS = 3  # at most, after the cold one: the second and third only if it is slow
COLD_FACTOR = 3.0  # a first token this many times later than warm, and
COLD_MARGIN_S = 0.4  # this much later, is a cold start: noise makes neither alone
LIKE_WARM = 1.5  # of the slowest warm TTFT: a cold start this quick is hard to believe
ZERO_READINGS = 3  # in a row, or one slip of the control plane would be a proof
STAY_PROBES = 12  # intervals at zero: a minute by default
ANSWER_S = 10.0  # longest answer of the health URL or a control plane, unless --timeout is less
COMMAND_S = 30.0  # the same for the workers command
LOOK_S = 0.25  # between two counts while the cold start runs
LONG_WAIT_S = 60.0
RUNPOD_PROXY = ".proxy.runpod.net"
# RunPod's two control planes: the only places RUNPOD_API_KEY is sent to
RUNPOD_WORKERS = "https://api.runpod.io"
RUNPOD_HEALTH = "https://api.runpod.ai"


def build_parser() -> argparse.ArgumentParser:
    parser = common.new_parser(__file__, __doc__, common.GATEWAY, CHECKS, timeout_s=120)
    add = parser.add_argument_group("scale to zero").add_argument
    add(
        "--health-url",
        type=health_location,
        metavar="URL",
        help="what to probe, or a path of the target (default: its port 8001, /ping)",
    )
    for name, default, text in (
        ("--idle-timeout", 900.0, "longest wait for scale-down"),
        ("--probe-interval", 5.0, "between two probes"),
        ("--cold-start-timeout", 300.0, "longest answer to a cold request"),
    ):
        text += " (default %(default)g)"
        add(name, type=common.seconds, default=default, metavar="SECONDS", help=text)
    add(
        "--max-tokens",
        type=common.whole_number(1),
        default=16,
        metavar="N",
        help="longest answer (default %(default)s)",
    )
    add("--model", metavar="NAME", help="model to ask for (default: the first listed)")
    add(
        "--runpod-endpoint",
        type=endpoint_id,
        metavar="ID",
        help="count workers by RunPod's APIs, with RUNPOD_API_KEY",
    )
    add("--workers-command", metavar="COMMAND", help="shell command, prints how many workers run")
    add("--no-control", action="store_true", help="never repeat the wait without probes")
    return parser


def health_location(text: str) -> str:
    """A whole URL, or a path of the target; nothing that could carry a credential."""
    try:
        check_url(f"http://target{text}" if text.startswith("/") else text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def endpoint_id(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", text):
        raise argparse.ArgumentTypeError("an endpoint id has only letters, digits, - and _")
    return text


def health_url(target: str, given: str | None) -> str:
    """Where to probe: as given, `/ping` if no path is; else the target's port 8001, which
    RunPod's proxy has in the host name."""
    parts = urllib.parse.urlsplit(target)
    if given:
        parts = urllib.parse.urlsplit(
            urllib.parse.urljoin(f"{parts.scheme}://{parts.netloc}", given)
        )
        return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/') or '/ping'}"
    host = parts.hostname or ""
    if host.endswith(f"-8000{RUNPOD_PROXY}"):
        return (
            f"{parts.scheme}://{host.removesuffix(f'-8000{RUNPOD_PROXY}')}-8001{RUNPOD_PROXY}/ping"
        )
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}:8001/ping"


# --- measure


@dataclass
class Answer:
    """One chat completion: `phase` is first, warm, cold or after."""

    phase: str
    reply: wire.Reply
    record: dict[str, Any]
    worker_s: float | None = None  # cold, with a count: until the first worker was seen

    @property
    def ttft_ms(self) -> float | None:
        """None unless the request succeeded."""
        ttft: float | None = self.record["ttft_ms"] if self.record["error"] is None else None
        return ttft

    @property
    def limited(self) -> bool:
        return is_rate_limit(self.reply)

    @property
    def said(self) -> str:
        return str(self.record["error_text"] or self.record["error"])


@dataclass
class Probe:
    """One request to the health URL."""

    at_s: float
    reply: wire.Reply

    @property
    def good(self) -> bool:
        return self.reply.status == 200 and self.reply.failure is None

    @property
    def answer_ms(self) -> float | None:
        first, sent = self.reply.first_byte_ns, self.reply.t0_ns
        return ms(first - sent) if first is not None and sent is not None else None


@dataclass
class Wait:
    """A time without requests to the model."""

    started_s: float
    limit_s: float
    probed: bool
    ended_s: float = 0.0
    probes: list[Probe] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)

    @property
    def zero_s(self) -> float | None:
        """How long it took to zero workers, proven by several readings in a row."""
        last = self.readings[-ZERO_READINGS:]
        if len(last) < ZERO_READINGS or any(each.count != 0 for each in last):
            return None
        return last[0].at_s - self.started_s

    @property
    def begins_zeros(self) -> bool:
        """Whether the last readings are 0, but not yet enough of them."""
        return self.zero_s is None and bool(self.readings) and self.readings[-1].count == 0

    @property
    def awake(self) -> bool:
        """Whether the count says, to the end, that it never settled at zero."""
        return self.zero_s is None and any(r.count for r in self.readings[-ZERO_READINGS:])


@dataclass
class Trial:
    """A wait for sleep, and what came after it."""

    wait: Wait
    stay: Wait | None = None  # probed on, at zero
    cold: Answer | None = None  # the request that should wake it


@dataclass
class Evidence:
    """All that was measured."""

    answers: list[Answer] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)

    def of(self, phase: str) -> list[Answer]:
        return [answer for answer in self.answers if answer.phase == phase]

    @property
    def probes(self) -> list[Probe]:
        waits = [wait for trial in self.trials for wait in (trial.wait, trial.stay) if wait]
        return [probe for wait in waits for probe in wait.probes]

    @property
    def warm_ms(self) -> list[float]:
        return [each.ttft_ms for each in self.of("warm") if each.ttft_ms is not None]

    @property
    def limited(self) -> Answer | None:
        return next((answer for answer in self.answers if answer.limited), None)


class Session:
    """Talks to the deployment and puts everything, with its time, into the evidence."""

    def __init__(
        self,
        run: Run,
        model: wire.Wire,
        health: wire.Wire,
        health_path: str,
        workers: Workers,
        evidence: Evidence,
    ):
        self.run, self.model, self.workers, self.evidence = run, model, workers, evidence
        self.evidence.readings = workers.readings
        self._health, self._probe = health, wire.Request("GET", health_path)
        self._start_ns = time.perf_counter_ns()

    def now_s(self) -> float:
        return (time.perf_counter_ns() - self._start_ns) / 1e9

    def ask(self, phase: str, limit_s: float) -> Answer:
        """One chat completion over a connection that is closed at its end: an open one could keep
        a worker awake."""
        run = self.run
        request = chat.completion(
            run.target["model"], chat.unique(PROMPT), run.args.max_tokens, stream=True
        )
        self.model.timeout_s = limit_s
        try:
            self.model.exchange([request], keep=False)
        finally:  # an interrupted one is on record, too
            for reply in self.model.replies:
                chat.show(run, reply)
                record = make_record(reply, read_streams([reply])[0], self._start_ns)
                answer = Answer(phase, reply, record)
                self.evidence.answers.append(answer)
        return answer

    def probe(self) -> Probe:
        at_s = self.now_s()
        reply = self._health.exchange([self._probe], keep=False)[0]
        chat.show(self.run, reply)
        return Probe(at_s, reply)

    def count(self) -> Reading:
        before = self.workers.readings[-1] if self.workers.readings else None
        reading = self.workers.read(self.now_s())
        if before is None or said_by(before) != said_by(reading):
            note(self.run, f"  {reading.at_s:.1f} s: {said_by(reading)}")
        return reading


def note(run: Run, text: str) -> None:
    """A line about the run that may be long."""
    text = run.secrets.redact(text)  # whole: half a credential would not be recognised
    run.note(textwrap.fill(text, 80, subsequent_indent="    ", break_on_hyphens=False))


def said_by(reading: Reading) -> str:
    """A reading in a line: the count and the raw states, or what was wrong."""
    count = "no worker count"
    if reading.count is not None:
        count = f"{many(reading.count)} ({reading.source})"
    parts = [f"{name}: {raw(states)}" for name, states in reading.states.items() if states]
    parts += [f"{name}: {text}" for name, text in {**reading.doubts, **reading.errors}.items()]
    return "; ".join([count, *parts])


def many(workers: int) -> str:
    return f"{workers} worker{'' if workers == 1 else 's'}"


def raw(states: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in states.items())


def warm_up(session: Session) -> None:
    """The first request, which may be a cold start, and a few warm ones."""
    args = session.run.args
    session.run.note(f"asking {1 + WARM_REQUESTS} times; the first may be a cold start")
    first = session.ask("first", args.cold_start_timeout)
    if first.reply.status == 401:
        raise CannotCheck(chat.refused_credential(session.run))
    if first.limited or (first.reply.failure and first.reply.failure.kind == "timeout"):
        return  # more of it would only cost time
    for _ in range(WARM_REQUESTS):
        if session.ask("warm", args.timeout).record["error"]:
            break


def ticks(length_s: float, interval_s: float) -> Iterator[None]:
    """Now, after every interval, and at the end; what came too late is left out."""
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
    """Probe and count at every tick, as far as there is something to do, until it is over."""
    interval_s = session.run.args.probe_interval
    steps = math.ceil(wait.limit_s / interval_s) + 1
    with session.run.progress(label, steps) as step:
        for _ in ticks(wait.limit_s, interval_s):
            look(session, wait)
            step()
            if is_over(wait):
                return
    # the limit must not cut off a row of zeros that has just begun
    while not is_over(wait) and wait.begins_zeros:
        time.sleep(interval_s)
        look(session, wait)


def look(session: Session, wait: Wait) -> None:
    """One probe and one count, as far as they are wanted."""
    if wait.probed:
        wait.probes.append(session.probe())
    if session.workers.sources:
        wait.readings.append(session.count())
    wait.ended_s = session.now_s()


def attempt(session: Session, probed: bool) -> Trial:
    """Wait until nobody is awake; stay there; wake it."""
    args = session.run.args
    trial = Trial(Wait(session.now_s(), args.idle_timeout, probed))
    session.evidence.trials.append(trial)
    until = "up to" if session.workers.sources else "the whole"
    manner = f"probing every {args.probe_interval:g} s" if probed else "without probes (control)"
    label = f"silence towards the model, {until} {args.idle_timeout:g} s, {manner}"
    wait_in_silence(session, trial.wait, label, lambda wait: wait.zero_s is not None)
    if trial.wait.zero_s is not None and probed:
        length_s = STAY_PROBES * args.probe_interval
        trial.stay = Wait(session.now_s(), length_s, probed)
        label = f"zero workers: probing for another {length_s:g} s, nobody should wake"
        wait_in_silence(session, trial.stay, label, lambda stay: woken(stay) is not None)
    if not trial.wait.awake:
        trial.cold = wake(session)
    return trial


def woken(stay: Wait) -> Reading | None:
    """The reading that showed a worker where none should be."""
    return next((reading for reading in stay.readings if reading.count), None)


def wake(session: Session) -> Answer:
    """The request that should find nobody awake, watched by the worker count if there is one."""
    limit_s = session.run.args.cold_start_timeout
    session.run.note(f"asking again: up to {limit_s:g} s for a cold start")
    before = len(session.workers.readings)
    with watching(session):
        answer = session.ask("cold", limit_s)
    sent_s = answer.record["sent_ms"]
    seen = next((r for r in session.workers.readings[before:] if r.count), None)
    if seen and sent_s is not None:
        answer.worker_s = max(0.0, seen.at_s - sent_s / 1e3)
    return answer


@contextlib.contextmanager
def watching(session: Session) -> Iterator[None]:
    """Count the workers in a thread meanwhile."""
    over, workers = threading.Event(), session.workers

    def watch() -> None:
        while workers.sources and not over.wait(LOOK_S):
            workers.read(session.now_s())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        workers.abandon(thread.join)


def measure(session: Session) -> None:
    """All five phases, and the control if it did not sleep."""
    args, evidence = session.run.args, session.evidence
    warm_up(session)
    later = [name for name in CHECKS if name != "warm"]
    if not evidence.warm_ms or evidence.limited or not any(map(session.run.wants, later)):
        return
    if session.workers.sources:
        session.count()  # while it must be awake: a source that says 0 now proves nothing later
    announce(session)
    trial = attempt(session, probed=True)
    if slept(trial, evidence.warm_ms) is False and not args.no_control:
        trial = attempt(session, probed=False)
    if trial.cold and not trial.cold.limited and trial.cold.record["error"] != "timeout":
        for _ in range(AFTER_REQUESTS):
            ttft_ms = session.ask("after", args.timeout).ttft_ms
            if ttft_ms is None or not is_cold(ttft_ms, evidence.warm_ms):
                break


def announce(session: Session) -> None:
    """What the operator is in for."""
    args, run = session.run.args, session.run
    if not session.workers.sources:
        text = "without a worker count one cannot see when it sleeps: the wait is the whole "
        text += f"{args.idle_timeout:g} s (--workers-command or --runpod-endpoint shorten it)"
        note(run, text)
    if args.idle_timeout > LONG_WAIT_S:
        run.note(f"worst case from here: {worst_case_s(args) / 60:.0f} minutes")


def worst_case_s(args: argparse.Namespace) -> float:
    """The longest that can still come when the first wait begins."""
    waits = 1 if args.no_control else 2
    counted = args.runpod_endpoint or args.workers_command
    stay_s = STAY_PROBES * args.probe_interval if counted else 0.0
    each_s = args.idle_timeout + args.cold_start_timeout
    return float(waits * each_s + stay_s + AFTER_REQUESTS * args.timeout)


# --- judge


def is_cold(ttft_ms: float, warm_ms: Sequence[float]) -> bool:
    """Whether a first token came as late as only a cold start makes it."""
    warm = statistics.median(warm_ms)
    return ttft_ms >= COLD_FACTOR * warm and ttft_ms >= warm + COLD_MARGIN_S * 1e3


def slept(trial: Trial, warm_ms: Sequence[float]) -> bool | None:
    """Whether nobody was awake at the end of the wait; None when that cannot be known."""
    if trial.wait.zero_s is not None:
        return True
    if trial.wait.awake:
        return False
    if trial.cold is None or trial.cold.ttft_ms is None:
        return None
    return is_cold(trial.cold.ttft_ms, warm_ms)


def rate_limited(name: str, answer: Answer) -> Check:
    wait = answer.reply.message.header("retry-after")
    detail = f"the key's rate limit spoke (429 rate_limit_exceeded, Retry-After {wait})"
    return Check(name, Status.SKIP, f"{detail}: wait, or raise it", essential=True)


def check_warm(evidence: Evidence, url: str) -> Check:
    """The deployment answers at all, the first request and the warm ones."""
    answers = evidence.of("first") + evidence.of("warm")
    limited = next((answer for answer in answers if answer.limited), None)
    if limited:
        return rate_limited("warm", limited)
    failed = [answer for answer in answers if answer.record["error"]]
    if failed:
        which = "the first request" if failed[0].phase == "first" else "a warm request"
        detail = f"{len(failed)} of {len(answers)} failed, {which}: {failed[0].said}"
        if failed[0].phase == "first" and RUNPOD_PROXY in url:
            detail += "; RunPod sets max workers to 0 after 7 days without a request"
        return Check("warm", Status.FAIL, detail)
    times, first = evidence.warm_ms, answers[0].ttft_ms or 0.0
    detail = f"TTFT median {show_ms(statistics.median(times))} of {len(times)}"
    note = ", a cold start" if is_cold(first, times) else ""
    detail += f", slowest {show_ms(max(times))}; the first took {show_ms(first)}{note}"
    return Check("warm", Status.PASS, detail, {"ttft_ms": times, "first_ttft_ms": first})


def check_workers(readings: Sequence[Reading], sources: Sequence[str]) -> Check:
    """The worker count can be read, and tells what it should."""
    if not sources:
        detail = "no worker count: give --workers-command or --runpod-endpoint"
        return Check("workers", Status.SKIP, detail)
    problems = Counter(
        f"{name}: {text}"
        for reading in readings
        for name, text in {**reading.errors, **reading.doubts}.items()
        if name in reading.errors or reading.count is None
    )
    good = [reading for reading in readings if reading.count is not None]
    used = ", ".join(dict.fromkeys(reading.source or "" for reading in good)) or "nothing"
    evidence = {"readings": len(readings), "counted": len(good)}
    detail = f"{len(good)} of {len(readings)} readings gave a count, from {used}"
    if not problems:
        return Check("workers", Status.PASS, detail, evidence)
    said = "; ".join(f"{text} (x{count})" for text, count in problems.most_common(3))
    return Check("workers", Status.WARN, f"{detail}; {said}", evidence)


def check_scale_down(trials: Sequence[Trial], warm_ms: Sequence[float]) -> Check:
    """Nobody is awake after the silence, although the health URL was probed."""
    first = trials[0]
    asleep = slept(first, warm_ms)
    evidence = {"waited_s": round(first.wait.ended_s - first.wait.started_s, 3)}
    if asleep is None:
        if first.cold and first.cold.limited:
            return rate_limited("scale_down", first.cold)
        detail = "no worker count, and the request that should have been cold failed"
        return Check("scale_down", Status.SKIP, detail, evidence, essential=True)
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
    ttft_ms = (trial.cold and trial.cold.ttft_ms) or 0.0
    return (
        f"asleep after {wait.limit_s:g} s: the next first token took {show_ms(ttft_ms)}, "
        f"{times_warm(ttft_ms, warm_ms)}; since when cannot be seen without a worker count"
    )


def awake_words(trial: Trial, warm_ms: Sequence[float]) -> str:
    wait = trial.wait
    if wait.awake:
        counts = [reading.count for reading in wait.readings if reading.count is not None]
        zeros = counts.count(0)
        detail = f"after {wait.limit_s:g} s of silence still {many(counts[-1])}"
        if zeros:
            detail = f"no sleep that lasts in {wait.limit_s:g} s: {zeros} of {len(counts)} "
            return detail + f"readings were 0, but never {ZERO_READINGS} in a row"
        return detail + f" ({len(counts)} readings, none 0)"
    ttft_ms = (trial.cold and trial.cold.ttft_ms) or 0.0
    return (
        f"after {wait.limit_s:g} s of silence the first token took {show_ms(ttft_ms)}, warm is "
        f"{show_ms(statistics.median(warm_ms))}: still awake, or resumed within "
        f"{COLD_MARGIN_S:g} s: a worker count would tell"
    )


def control_words(control: Trial, warm_ms: Sequence[float]) -> str:
    """Whose fault it is."""
    asleep = slept(control, warm_ms)
    if asleep is None:
        return "; the control without probes decided nothing: its request failed"
    if not asleep:
        return f"; nor without probes in {control.wait.limit_s:g} s: it never scales down"
    seen = control.wait.zero_s
    when = f"after {seen:.1f} s" if seen is not None else f"within {control.wait.limit_s:g} s"
    return f"; without probes it slept {when}: the probes keep it awake"


def check_health(trials: Sequence[Trial], url: str) -> Check:
    """The health URL answers 200 whenever it is asked, asleep or awake."""
    zero = zero_spans(trials)
    probes = [p for t in trials for wait in (t.wait, t.stay) if wait for p in wait.probes]
    bad = [probe for probe in probes if not probe.good]
    at_zero = [probe for probe in bad if any(a < probe.at_s <= b for a, b in zero)]
    excused = [probe for probe in at_zero if answered_by_platform(probe.reply, url)]
    times = [probe.answer_ms for probe in probes if probe.good and probe.answer_ms is not None]
    evidence: dict[str, Any] = {
        "probes": len(probes),
        "failed": len(bad),
        "failed_at_zero": len(at_zero),
    }
    evidence |= {"slowest_ms": max(times, default=None)}
    if len(excused) < len(bad):
        detail = f"{len(bad)} of {len(probes)} probes of {url} failed: {probe_words(bad)}"
        if zero:
            detail += f"; {len(at_zero)} of them at zero workers"
        if all(p.reply.failure and p.reply.failure.kind == "connect" for p in probes):
            detail += "; nothing listens there: is --health-url right?"
        return Check("health", Status.FAIL, detail, evidence)
    if excused:
        detail = f"{len(excused)} of {len(probes)} probes, all at zero workers, were answered by "
        detail += f"the platform's proxy: {probe_words(excused)}"
        return Check("health", Status.WARN, detail, evidence)
    odd = [p for p in probes if p.reply.body.strip() not in (b"", b"pong")]
    if odd:
        detail = f"200, but the body is neither empty nor pong: {words(odd[0].reply)!r}"
        return Check("health", Status.WARN, detail, evidence)
    detail = f"{len(probes)} probes, all 200, slowest {show_ms(max(times))}"
    return Check("health", Status.PASS, detail, evidence)


def zero_spans(trials: Sequence[Trial]) -> list[tuple[float, float]]:
    """When a count proves that nobody was awake: from the last reading that showed someone."""
    spans = []
    for trial in trials:
        if trial.wait.zero_s is None:
            continue
        begin_s = max((r.at_s for r in trial.wait.readings if r.count != 0), default=-1.0)
        stay = trial.stay or trial.wait
        again = woken(stay)
        # the probe before the reading that showed somebody may have found that one awake
        calm = [r.at_s for r in stay.readings if r.count == 0]
        spans.append((begin_s, (calm[-1] if again and calm else stay.ended_s)))
    return spans


def answered_by_platform(reply: wire.Reply, url: str) -> bool:
    """Whether what answered stands in front of the deployment, and needs no worker for it."""
    if reply.status is None or reply.failure is not None:
        return False
    host = urllib.parse.urlsplit(url).hostname or ""
    return host.endswith(RUNPOD_PROXY) or any(reply.message.header(name) for name in chat.EDGES)


def probe_words(probes: Sequence[Probe]) -> str:
    kinds = Counter(
        p.reply.failure.text if p.reply.failure else f"{p.reply.status} {words(p.reply)}".strip()
        for p in probes
    )
    return "; ".join(f"{text} (x{count})" for text, count in kinds.most_common(3))


def check_undisturbed(trial: Trial) -> Check:
    """At zero, probing the health URL wakes nobody."""
    if trial.stay is None:
        reason = "it never slept" if trial.wait.awake else "no worker count could prove zero"
        return Check("undisturbed", Status.SKIP, f"{reason}: who is woken cannot be seen")
    stay = trial.stay
    probes, spent_s = len(stay.probes), stay.ended_s - stay.started_s
    again = woken(stay)
    if again:
        after_s = again.at_s - stay.started_s
        detail = (
            f"{many(again.count or 0)} again {after_s:.1f} s and {probes} probes after zero was "
        )
        detail += "proven, though nobody asked the model (unless others did)"
        return Check("undisturbed", Status.FAIL, detail)
    counts = [reading for reading in stay.readings if reading.count is not None]
    if not counts:
        return Check("undisturbed", Status.SKIP, "the worker count could not be read at zero")
    detail = f"still 0 workers after another {probes} probes in {spent_s:.1f} s"
    return Check("undisturbed", Status.PASS, detail)


def check_cold_start(trials: Sequence[Trial], warm_ms: Sequence[float], limit_s: float) -> Check:
    """A request to a sleeping deployment is answered, within its limit."""
    trial = trials[-1]
    cold, asleep = trial.cold, slept(trial, warm_ms)
    if cold is None:
        return Check("cold_start", Status.SKIP, "it never slept: no cold start to measure")
    if cold.limited:
        return rate_limited("cold_start", cold)
    if cold.ttft_ms is None:
        return Check("cold_start", Status.FAIL, failure_words(cold, limit_s))
    if not asleep or (trial.stay and woken(trial.stay)):
        detail = f"it was awake: the first token took {show_ms(cold.ttft_ms)}, no cold start"
        return Check("cold_start", Status.SKIP, detail)
    evidence = {"cold_start_s": round(cold.ttft_ms / 1e3, 4), **split(cold)}
    detail = f"first token after {show_ms(cold.ttft_ms)}, {times_warm(cold.ttft_ms, warm_ms)}"
    detail += f" (limit {limit_s:g} s)"
    if cold.ttft_ms < LIKE_WARM * max(warm_ms):
        detail += ": as fast as a warm one, does the count see the workers of this target?"
        return Check("cold_start", Status.WARN, detail, evidence)
    return Check("cold_start", Status.PASS, detail, evidence)


def failure_words(cold: Answer, limit_s: float) -> str:
    if cold.record["error"] == "timeout" and cold.record["ttft_ms"] is None:
        return f"no first token within the limit of {limit_s:g} s (--cold-start-timeout)"
    return f"the request that should wake it failed: {cold.said}"


def split(cold: Answer) -> dict[str, float | None]:
    """The parts of a cold start that can be seen from here, in ms."""
    record, reply = cold.record, cold.reply
    head = None
    if reply.first_byte_ns is not None and reply.t0_ns is not None:
        head = ms(reply.first_byte_ns - reply.t0_ns)
    return {
        "connect_ms": record["connect_ms"],
        "tls_ms": record["tls_ms"],
        "worker_ms": None if cold.worker_s is None else round(cold.worker_s * 1e3, 1),
        "first_byte_ms": head,
        "server_prompt_ms": record["server_prompt_ms"],
        "ttft_ms": record["ttft_ms"],
    }


def check_warm_again(evidence: Evidence) -> Check:
    """After the cold start it stays awake: the next request is warm."""
    answers = evidence.of("after")
    if not answers:
        return Check("warm_again", Status.SKIP, "no cold start came before")
    last = answers[-1]
    if last.limited:
        return rate_limited("warm_again", last)
    if last.ttft_ms is None:
        detail = f"request {len(answers)} after the cold one failed: {last.said}"
        return Check("warm_again", Status.FAIL, detail)
    times = ", ".join(show_ms(answer.ttft_ms or 0.0) for answer in answers)
    warm = show_ms(statistics.median(evidence.warm_ms))
    if is_cold(last.ttft_ms, evidence.warm_ms):
        detail = f"cold again: first tokens after {times}, warm was {warm}"
        return Check("warm_again", Status.FAIL, detail)
    if len(answers) > 1:
        detail = f"only request {len(answers)} was: first tokens after {times}, warm was {warm}"
        return Check("warm_again", Status.WARN, detail)
    return Check("warm_again", Status.PASS, f"first token after {times}, warm was {warm}")


def judge(session: Session, url: str) -> list[Check]:
    """All verdicts that the evidence allows."""
    evidence, limit_s = session.evidence, session.run.args.cold_start_timeout
    checks = [check_warm(evidence, session.run.url)]
    trials, warm_ms = evidence.trials, evidence.warm_ms
    if trials:
        sources = [source.name for source in session.workers.sources]
        checks += [
            check_workers(evidence.readings, sources),
            check_scale_down(trials, warm_ms),
            check_health(trials, url),
            check_undisturbed(trials[0]),
            check_cold_start(trials, warm_ms, limit_s),
            check_warm_again(evidence),
        ]
    return checks


# --- report


def show_ms(value: float) -> str:
    return f"{value / 1e3:.2f} s" if value >= 999.5 else f"{value:.1f} ms"


def times_warm(ttft_ms: float, warm_ms: Sequence[float]) -> str:
    return f"{ttft_ms / statistics.median(warm_ms):.1f} x warm"


def row(label: str, value: str, note: str = "") -> str:
    return f"  {label:22}{value:>10}  {note}".rstrip()


def trial_lines(trial: Trial, warm_ms: Sequence[float]) -> list[str]:
    wait = trial.wait
    title = "silence, probed" if wait.probed else "silence, not probed"
    spent_s = wait.ended_s - wait.started_s
    seen = f"{len(wait.probes)} probes, {len(wait.readings)} worker counts"
    lines = [row(title, f"{spent_s:.1f} s", f"of at most {wait.limit_s:g} s; {seen}")]
    if wait.zero_s is not None:
        lines.append(row("  zero workers after", f"{wait.zero_s:.1f} s", "of silence"))
    if trial.stay:
        spent_s = trial.stay.ended_s - trial.stay.started_s
        seen = f"{len(trial.stay.probes)} probes, at zero"
        lines.append(row("  probed on", f"{spent_s:.1f} s", seen))
    if trial.cold:
        lines += cold_lines(trial.cold, slept(trial, warm_ms))
    return lines


SPLIT = (
    ("connect_ms", "  connect", "before the request, not in its TTFT"),
    ("tls_ms", "  TLS", "before the request, not in its TTFT"),
    ("worker_ms", "  a worker is counted", "at the latest, by the worker count"),
    ("first_byte_ms", "  first byte", "of the answer's head"),
    ("server_prompt_ms", "  prefill", "the server's own time"),
)


def cold_lines(cold: Answer, asleep: bool | None) -> list[str]:
    if cold.ttft_ms is None:
        return [row("next request", "failed")]
    parts = split(cold)
    lines = [row("next request, TTFT", show_ms(cold.ttft_ms))]
    for key, label, note in SPLIT:
        value = parts[key]
        if asleep and value is not None:
            lines.append(row(label, show_ms(value), note))
    return lines


def lines_of(evidence: Evidence, url: str) -> list[str]:
    lines = [f"Scale to zero, probing {url}"]
    if evidence.warm_ms:
        median = show_ms(statistics.median(evidence.warm_ms))
        lines.append(row("warm TTFT", median, f"median of {len(evidence.warm_ms)}"))
    for trial in evidence.trials:
        lines += trial_lines(trial, evidence.warm_ms)
    for answer in evidence.of("after"):
        if answer.ttft_ms is not None:
            lines.append(row("the one after, TTFT", show_ms(answer.ttft_ms)))
    return lines


def records_of(evidence: Evidence) -> list[dict[str, Any]]:
    """Everything that was sent and read, in its order."""
    chats = [
        {"kind": "chat", "phase": a.phase, "at_s": round((a.record["sent_ms"] or 0) / 1e3, 3)}
        | a.record
        | {"index": index}
        for index, a in enumerate(evidence.answers)
    ]
    probes = [
        {
            "kind": "health",
            "at_s": round(p.at_s, 3),
            "status": p.reply.status,
            "error": p.reply.failure.text if p.reply.failure else None,
            "ttfb_ms": p.answer_ms,
        }
        for p in evidence.probes
    ]
    counts = [{"kind": "workers", **vars(r), "at_s": round(r.at_s, 3)} for r in evidence.readings]
    found: list[dict[str, Any]] = [*chats, *probes, *counts]
    return sorted(found, key=lambda record: float(record["at_s"]))


def figures_of(evidence: Evidence, args: argparse.Namespace, url: str) -> dict[str, Any]:
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


# --- run


def sources_of(run: Run, stack: contextlib.ExitStack) -> list[Source]:
    """What can count workers here, the operator's own command first."""
    args = run.args
    found: list[Source] = []
    if args.workers_command:
        environment = {"INFERENCE_URL": run.url}
        timeout_s = min(COMMAND_S, args.timeout)
        found.append(CommandSource(args.workers_command, timeout_s, environment))
        args.workers_command = "(given)"  # it may well hold a credential: not for the results
    if args.runpod_endpoint:
        key = runpod_key(run)
        name = args.runpod_endpoint
        for label, host, path, understand in (
            ("RunPod v2", RUNPOD_WORKERS, f"/v2/serverless/{name}/workers", count_summary),
            ("RunPod health", RUNPOD_HEALTH, f"/v2/{name}/health", count_states),
        ):
            # --no-verify-ssl is about the deployment, not about these
            instrument = wire.Wire(wire.Target(host, key), min(ANSWER_S, args.timeout))
            found.append(RunPodSource(label, stack.enter_context(instrument), path, understand))
    return found


def runpod_key(run: Run) -> str:
    key = run.look_up("RUNPOD_API_KEY")
    if key is None:
        raise CannotCheck("--runpod-endpoint needs RUNPOD_API_KEY in the environment or in .env")
    try:
        return run.secrets.add(check_token(key, "RUNPOD_API_KEY"))
    except ValueError as error:
        raise CannotCheck(str(error)) from None


def check_deployment(run: Run, document: Document) -> None:
    args, evidence = run.args, Evidence()
    url = health_url(run.url, args.health_url)
    place = urllib.parse.urlsplit(url)
    with contextlib.ExitStack() as stack:
        workers = Workers(sources_of(run, stack))
        target = wire.Target(run.url, run.token(), verify=not args.no_verify_ssl)
        with wire.Wire(target, args.timeout) as first:  # closed: what it keeps open may keep awake
            listed = chat.meet(run, first, [chat.MODELS])
        model = stack.enter_context(wire.Wire(target, args.timeout))
        run.client["clock"] = model.clock
        # no credential goes to the health URL, whoever's it is
        target = wire.Target(f"{place.scheme}://{place.netloc}", verify=not args.no_verify_ssl)
        health = stack.enter_context(wire.Wire(target, min(ANSWER_S, args.timeout)))
        run.target["model"] = (
            args.model or chat.first_model(listed[chat.MODELS]) or (chat.UNKNOWN_MODEL)
        )
        session = Session(run, model, health, place.path, workers, evidence)
        try:
            measure(session)
        finally:
            document.requests = records_of(evidence)
            document.metrics = figures_of(evidence, args, url)
    checks = judge(session, url)
    document.add(*checks)
    run.show(lines_of(evidence, url), document)


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    with common.run(args) as run:
        check_deployment(run, run.document("scale_to_zero"))
    return int(run.exit_code)


if __name__ == "__main__":
    sys.exit(main())
