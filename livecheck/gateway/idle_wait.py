"""Asks the model, then leaves it alone, while the health URL is probed and workers are counted."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator

from livecheck.core.run import Run
from livecheck.core.text import plural
from livecheck.gateway.sleep_evidence import Asked, Evidence, Probe, Wait
from livecheck.gateway.worker_count import Reading, Workers
from livecheck.wire import chat
from livecheck.wire.answer import Answer
from livecheck.wire.asking import Asker
from livecheck.wire.health_cost import COUNT_S, says_it_asks, tokens_counted
from livecheck.wire.probe_limit import blind_time_ms
from livecheck.wire.starvation import Starvation
from livecheck.wire.wire import Target, Wire

PROMPT = "Say hello."
COLD = "cold"  # the phase of a request that should find no worker
METRICS_S = 5.0  # for the deployment's count of tokens
LOOK_S = 0.25  # between two counts during the cold start


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

        # a 503 in the place of a cold start is what is looked for, not the limit of a proxy
        alone = phase != COLD
        with Starvation() as starvation:
            asker.ask([request], keep=keep, keep_alive=False, alone=alone)
        if not alone:
            chat.confirm_limit(run, asker.wire, [asked[-1].answer])
        first_ns = asked[-1].answer.first_output_ns
        if first_ns is not None:
            asked[-1].blind_ms = starvation.between_ms(asked[-1].answer.sent_ns or 0, first_ns)
        asked[-1].blind_silence_ms = starvation.in_silence(asked[-1].answer)
        asked[-1].answer.condense()
        return asked[-1]

    @property
    def health_target(self) -> Target:
        """Where the health URL is, without its path."""
        return self._health.wire.target

    @property
    def may_probe(self) -> bool:
        """Whether no rate limit has answered for the health URL."""
        return self._health.limited is None

    def probe(self) -> Probe:
        at_s, self._health.stopped = self.evidence.now_s(), None
        request = chat.get(self._path)
        with Starvation() as starvation:
            # a 503 while there are no workers is what is looked for, not the limit of a proxy
            (answer,) = self._health.ask([request], keep_alive=False, alone=False)
        found = Probe(at_s, answer, blind_time_ms(answer, starvation, self._health.wire.clock))
        self._health.answers.clear()  # the evidence keeps them
        return found

    def cost_of_a_probe(self) -> tuple[Probe, str | None]:
        """One probe, and why each of them costs inference; None when nothing shows that it does.

        The deployment's own count of tokens is read before it, after it and once more: when it
        grows by itself, others use the model, and nobody knows whose tokens they are.
        """
        before = self._tokens()
        probe = self.probe()
        if said := says_it_asks(probe.answer):
            return probe, said
        if before is None:
            return probe, None
        time.sleep(COUNT_S)
        after = self._tokens() or 0.0
        time.sleep(COUNT_S)
        if after > before and self._tokens() == after:
            return probe, f"the deployment counted {after - before:g} tokens for one"
        return probe, None

    def _tokens(self) -> float | None:
        self._model.wire.timeout_s, self._model.stopped = METRICS_S, None
        (answer,) = self._model.ask([chat.get("/metrics")], keep_alive=False, alone=False)
        return tokens_counted(answer)

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
    if wait.probed and session.may_probe:
        wait.probes.append(session.probe())
        wait.probes[-1].answer.condense()  # there may be thousands
    if session.workers.sources:
        wait.readings.append(session.count())
    wait.ended_s = session.evidence.now_s()


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
