"""A process that measures its part of a level for the run that has forked it.

It has a wire, a warm-up and a count of its own lost time, and shows nothing: its notes go to the
run. It begins when the run says so, together with the others. Signals end what it measures, not
what it has to tell; when the run is gone, so is it, at once.
"""

from __future__ import annotations

from livecheck.core.interruption import INTERRUPTION, Terminated

import contextlib
import os
import queue
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from livecheck.core.checks import CONTENT_ENCODING, Exchange
from livecheck.core.credentials import CannotCheck
from livecheck.core.run import Run
from livecheck.load.arrivals import Load, Prompt
from livecheck.load.channel import Channel
from livecheck.load.examples import Examples
from livecheck.load.level import (
    KEPT_BYTES,
    Level,
    PromptMaker,
    Session,
    let_go_of_warmup,
    send_requests,
    warm_up,
)
from livecheck.load.parts import part_of, warmup_of
from livecheck.wire import dialect
from livecheck.wire.answer import Answer, Timed
from livecheck.wire.asking import Stop, open_wire
from livecheck.wire.model_choice import CHOICE
from livecheck.wire.starvation import Interval, Starvation

SPIN_NS = 1_000_000  # before the start: a sleep may end late by less
ANSWERS_OF_A_MESSAGE = 64


@dataclass
class Job:
    """What a process has to know for its part of a level: the part, and what the run has learnt."""

    load: Load  # the whole
    place: int
    of: int
    end_s: float | None  # when the time for all levels is over
    model: str
    usage: bool
    warmup: int  # as --warmup has it
    api_base: str
    learnt: Any  # `Dialect.learnt`
    has_served: bool
    has_completed: bool
    choice: Any  # of the model, in the notes of the run
    deep: PromptMaker | None  # as the session has it


@dataclass
class Outcome:
    """What became of the part, beside its answers. Times in ns and s as everywhere."""

    warmup: list[Answer]
    succeeded: int
    examples: Examples
    lost: list[Interval]  # when the process could not run
    clock: str
    cpu_s: float | None
    wall_s: float | None
    has_served: bool
    has_completed: bool
    rate_limit_wait_s: float | None
    learnt: Any
    choice: Any
    codings: Any  # what is known of compressed answers, of the notes of the run
    noted: list[Exchange]  # exchanges that failed


class NoStart(Exception):
    """The level was stopped while this process waited for its start."""


class Orders:
    """What the run says, heard by a thread that waits for it."""

    def __init__(self, channel: Channel):
        self.jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self.go = threading.Event()
        self.start_ns: int | None = None
        self.level: WorkerLevel | None = None
        self._channel = channel
        self._main = threading.main_thread().ident
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        try:
            while message := self._channel.receive():
                getattr(self, f"_on_{message.kind}")(message.content)
        finally:
            os._exit(0)  # the run is gone: nobody wants to know anything more

    def _on_job(self, job: Job) -> None:
        self.go.clear()
        self.start_ns = self.level = None
        self.jobs.put(job)

    def _on_go(self, start_ns: int) -> None:
        self.start_ns = start_ns
        self.go.set()

    def _on_stop(self, why: Stop) -> None:
        """Another process has a reason to send nothing more."""
        if self.level and self.level.stopped is None:
            self.level.stopped = why
        self.go.set()

    def _on_abandon(self, _: None) -> None:
        self.go.set()
        if self._main is not None:  # as if the signal had come to this process
            signal.pthread_kill(self._main, signal.SIGTERM)


@dataclass
class WorkerLevel(Level):
    """The part of the level, which tells the run at once when it has to stop, and waits for the
    moment at which all begin."""

    channel: Channel | None = None
    orders: Orders | None = None

    def stop(self, why: Stop) -> None:
        super().stop(why)
        if self.channel:
            self.channel.send("stop", why)

    def wait_for_start(self) -> int:
        """`Wire.at_start`. Raises NoStart."""
        assert self.channel and self.orders
        self.channel.send("ready")
        self.orders.go.wait()
        start_ns = self.orders.start_ns
        if self.stopped or start_ns is None:
            raise NoStart
        left_ns = start_ns - SPIN_NS - time.perf_counter_ns()
        if left_ns > 0:
            time.sleep(left_ns / 1e9)
        while time.perf_counter_ns() < start_ns:
            pass
        self.client.begin()
        return start_ns


class Relay:
    """The notes and steps of this process go to the run."""

    def __init__(self, channel: Channel, steps: memoryview, number: int):
        self._channel, self._steps, self._number = channel, steps, number
        self.is_silent = False

    def note(self, text: str) -> None:
        if not self.is_silent:
            self._channel.send("note", text)

    def step(self) -> None:
        self._steps[self._number] += 1


class Worker:
    """What this process does until the run ends."""

    def __init__(
        self,
        run: Run,
        token: str | None,
        prompts: Sequence[Prompt],
        channel: Channel,
        relay: Relay,
    ):
        self.run, self.token, self.prompts = run, token, prompts
        self.channel, self.relay = channel, relay
        run.relay, self.warmup = relay, run.args.warmup
        self.orders = Orders(channel)

    def work(self) -> None:
        """All jobs, one after the other. Never returns; the thread of the orders ends it."""
        with contextlib.ExitStack() as stack:
            session: Session | None = None
            while True:
                job = self.orders.jobs.get()
                self._take_over(job)
                if session is None:
                    session = self._open(stack, job)
                self._measure(session, job)

    def _take_over(self, job: Job) -> None:
        run = self.run
        run.address.base = job.api_base
        run.has_served, run.has_completed = job.has_served, job.has_completed
        run.rate_limit_wait_s = None
        run.noted.clear()
        run.notes.pop(CONTENT_ENCODING, None)
        run.notes[CHOICE] = job.choice
        dialect.of_run(run).adopt(job.learnt)

    def _open(self, stack: contextlib.ExitStack, job: Job) -> Session:
        self.relay.is_silent = True  # the run has said how the deployment is reached
        wire = stack.enter_context(open_wire(self.run, self.token))
        self.relay.is_silent = False
        starvation = stack.enter_context(Starvation())
        return Session(self.run, wire, job.model, self.prompts, starvation)

    def _measure(self, session: Session, job: Job) -> None:
        level = self._level_of(job)
        session.model, session.usage, session.deep = job.model, job.usage, job.deep
        self.run.args.warmup = warmup_of(job.warmup, job.load, job.place, job.of)
        self.orders.level = level
        error = ended_by(session, level)
        self.channel.send("over", self._for_the_run(error))
        level.read()
        self.channel.send("outcome", self._outcome(session, level))
        answers = in_time(level)
        while some := list(islice(answers, ANSWERS_OF_A_MESSAGE)):
            self.channel.send("answers", some)
        self.channel.send("end")

    def _level_of(self, job: Job) -> WorkerLevel:
        orders = self.orders

        def started_s() -> float | None:
            return None if orders.start_ns is None else orders.start_ns / 1e9

        load = part_of(job.load, job.place, job.of, started_s)
        budget = KEPT_BYTES // job.of
        return WorkerLevel(load, job.end_s, budget=budget, channel=self.channel, orders=orders)

    def _for_the_run(self, error: BaseException | None) -> Exception | None:
        """An error in the form in which the run raises it again."""
        if error is None or isinstance(error, CannotCheck):
            return error
        self.run.debug_trace(error)
        return RuntimeError(f"{type(error).__name__}: {error}")

    def _outcome(self, session: Session, level: WorkerLevel) -> Outcome:
        run = self.run
        let_go_of_warmup(level)  # also where no request was sent after it
        return Outcome(
            warmup=level.warmup,
            succeeded=level.succeeded,
            examples=level.examples,
            lost=session.starvation.spans(),
            clock=session.wire.clock,
            cpu_s=level.client.cpu_s,
            wall_s=level.client.wall_s,
            has_served=run.has_served,
            has_completed=run.has_completed,
            rate_limit_wait_s=run.rate_limit_wait_s,
            learnt=dialect.of_run(run).learnt,
            choice=run.notes.get(CHOICE),
            codings=run.notes.get(CONTENT_ENCODING),
            noted=run.noted.exchanges,
        )


def ended_by(session: Session, level: WorkerLevel) -> BaseException | None:
    """Measure the part. The error that has ended it; None also for an interruption, and where the
    level was stopped before the start."""

    def measure() -> None:
        warm_up(session, level)
        if level.stopped is None:
            session.wire.at_start = level.wait_for_start
            try:
                send_requests(session, level)
            finally:
                session.wire.at_start = None

    try:
        error = INTERRUPTION.attempt(measure)
    except BaseException as caught:  # a signal between two instructions of `attempt`
        error = caught
    is_told = isinstance(error, (KeyboardInterrupt, Terminated, NoStart))
    return None if is_told else error


def serve(worker: Worker) -> None:
    """Work, whatever happens; never returns."""
    try:
        worker.work()
    except BaseException as error:
        with contextlib.suppress(BaseException):
            worker.channel.send("over", RuntimeError(f"{type(error).__name__}: {error}"))
    finally:
        os._exit(1)


def in_time(level: Level) -> Iterator[Timed]:
    """The answers of a level that was read, in the order in which their requests were sent."""
    whole = {answer.index: answer for answer in level.answers}
    for _, index in sorted((when(answer), answer.index) for answer in level.all_answers()):
        if answer := whole.get(index):
            yield answer
        elif level.spool:
            yield level.spool.extract(index)


def when(answer: Timed) -> int:
    """When it began, or, if its request was never sent, ended."""
    began = answer.begun_ns
    return (answer.ended_ns or 0) if began is None else began
