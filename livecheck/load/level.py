"""Measuring a level: its warm-up, its requests, and when to stop it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from livecheck.core.run import Run
from livecheck.load import embeddings
from livecheck.load.arrivals import CHAT, RESPONSES, Load, Messages, Prompt
from livecheck.load.client_delay import Client, records_of
from livecheck.load.examples import ANY, Example, Examples
from livecheck.load.precision import Precision
from livecheck.load.record import Record
from livecheck.load.server_metrics import Source, Watched, watching
from livecheck.load.turns import Talks
from livecheck.wire import chat, endpoints
from livecheck.wire.access import no_access, refusal_of
from livecheck.wire.answer import Answer, Timed, first_begun_ns
from livecheck.wire.asking import Asker, Cause, Stop, rate_limit_words, reason_to_stop
from livecheck.wire.spool import Spool
from livecheck.wire.starvation import Starvation
from livecheck.wire.wire import Request, Wire

# So many time-outs in a row, and no fewer than requests are in flight, mean that the server will
# not answer any more. An open loop may have a thousand in flight: there fewer are enough.
LEAST_TIMEOUTS = 2
MOST_TIMEOUTS = 10
# Failures in a row that end a level which only its duration would end otherwise.
MOST_FAILURES = 100
MOST_FAILURES_AFTER_SUCCESS = 1000

# Of the answers of a level as they came. A level with more reads those that have ended, whenever
# nothing else is to be done; a shorter one reads no answer before its end.
KEPT_BYTES = 32 << 20
KEPT_TOKENS = KEPT_BYTES // 5  # of long prompts: those of a level with more are made one by one


class PromptMaker(Protocol):
    def prompt(self, tokens: int) -> Prompt:
        """A prompt of so many tokens."""


@dataclass
class Session:
    """How to ask for completions in this run, and what is known about the deployment.

    `is_direct`: it is the inference server of --direct-url.
    """

    run: Run
    wire: Wire
    model: str
    prompts: Sequence[Prompt]
    starvation: Starvation
    contact: dict[str, Answer] = field(default_factory=dict)  # the first answer of each path
    edge: str | None = None  # why the network cannot be told from the gateway
    usage: bool = True  # ask for usage with stream_options
    fair_probes: dict[str, Any] = field(default_factory=dict)  # `gateway_probes.fair_metrics`
    stopped: Stop | None = None
    is_direct: bool = False
    deep: PromptMaker | None = None  # of levels with a depth
    measure: Callable[[Session, Level], None] | None = None  # a level, by several processes
    self_checks: dict[int, dict[str, Any]] = field(default_factory=dict)  # `self_check.measure`
    metrics_source: Source | None = None  # of --server-metrics

    @property
    def endpoint(self) -> str:
        """Which one is measured: CHAT, RESPONSES or EMBEDDINGS."""
        found: str = getattr(self.run.args, "endpoint", CHAT)
        return found


@dataclass
class Level:
    """One level as it was measured.

    `answers` are those of its requests that are whole: that were not read yet, or may tell why the
    level was stopped; `spool` has what is needed of the others.
    """

    load: Load
    end_s: float | None = None  # when the time for all levels is over (perf_counter)
    warmup: list[Answer] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    spool: Spool | None = None
    talks: Talks | None = None  # of a level with turns
    examples: Examples = field(default_factory=Examples)
    precision: Precision | None = None  # of a level that goes on until its medians are exact
    began_s: float = 0.0  # when its requests did, after the warm-up (perf_counter)
    stopped: Stop | None = None
    client: Client = field(default_factory=Client)
    budget: int = KEPT_BYTES
    succeeded: int = 0  # answers with 200 and to the end, warm-up included
    failed_in_a_row: int = 0
    timeouts_in_a_row: int = 0
    server: Watched | None = None  # what --server-metrics has read beside it

    @property
    def number(self) -> float:
        """The concurrency, or the rate of an open loop."""
        return self.load.rate_per_s or self.load.concurrency

    @property
    def rate_limited(self) -> Answer | None:
        """The answer of the key's rate limiter, if there is one."""
        return next((a for a in self.warmup + self.answers if a.is_rate_limited), None)

    @property
    def refused(self) -> Answer | None:
        """The answer that did not let this program in, if that is why the level was stopped."""
        answers = self.warmup + self.answers
        is_refused = self.stop_for(Cause.CREDENTIAL)
        return next((a for a in answers if is_refused and refusal_of(a)), None)

    def behind(self, check: str) -> Sequence[Answer | Example]:
        """The answers that a check of the level rests on: those with a fault of its kind; for a
        bound of time the slowest ones."""
        if check.startswith("slo:"):
            return self.examples.slowest()
        fault = {"stream": "complaints", "tokens": "token_doubts"}.get(check, "error")
        shown: list[Answer | Example] = [*self.examples.first(fault)]
        if check == "requests":
            shown += [answer for answer in self.warmup if not answer.is_ok]
        return shown or (self.examples.first(ANY) if check == "pacing" else [])

    @property
    def most_timeouts(self) -> int:
        """How many time-outs in a row it takes to believe that there will be no answer."""
        in_flight = self.load.concurrency
        if self.load.is_open:
            in_flight = min(in_flight, MOST_TIMEOUTS)
        return max(in_flight, LEAST_TIMEOUTS)

    @property
    def only_fails(self) -> bool:
        """Whether the rest of the duration would only bring more of the same failures."""
        most = MOST_FAILURES_AFTER_SUCCESS if self.succeeded else MOST_FAILURES
        return self.load.duration_s is not None and self.failed_in_a_row >= most

    def stop_for(self, cause: Cause) -> bool:
        """Whether this is why the level was stopped."""
        return self.stopped is not None and self.stopped.cause is cause

    def keep_watched(self, found: Watched) -> None:
        self.server = found

    def stop(self, why: Stop) -> None:
        """Send no further request."""
        self.stopped = why

    def look(self, answer: Answer) -> None:
        """Each answer, when it was read and its bytes are still there."""
        self.examples.look(answer)
        if self.precision:
            self.precision.add(answer.figures)

    def numbers(self, load: Load) -> Iterator[int]:
        """Those of the requests of this load, as long as another one may be sent."""
        precision = self.precision if load is self.load else None
        if precision is None:
            return load.numbers()
        return itertools.takewhile(lambda _: not precision.is_reached, load.numbers())

    def precision_metrics(self) -> dict[str, Any]:
        """How exact its medians are, where it was to go on until they are; after `read`."""
        if self.precision is None:
            return {}
        longest_s = self.load.duration_s or 0.0
        over = f"its time of {longest_s:g} s was over"
        if time.perf_counter() < self.began_s + longest_s:
            over = "it was interrupted"
        return {"precision": self.precision.metrics(str(self.stopped or over))}

    def read(self) -> None:
        """Read the answers that were not read while the level ran, one after the other: of each
        what is needed goes into the spool, and the rest is let go."""
        if self.spool is None:
            return
        whole, self.answers = self.answers[::-1], []
        while whole:
            answer = whole.pop()
            if not answer.reply.is_condensed:
                answer.condense(self.spool.look)
            if answer.is_rate_limited or refusal_of(answer):
                self.answers.append(answer)
            else:
                self.spool.add(answer)

    def all_answers(self) -> Iterator[Timed]:
        """All its answers in the order of their requests, after `read`. Raises OSError when those
        of the spool cannot be read."""
        whole = {answer.reply.index: answer for answer in self.answers}
        for index in sorted({*whole, *(self.spool or ())}):
            if answer := whole.get(index):
                yield answer
            elif self.spool:
                yield self.spool.extract(index)

    @property
    def begun_ns(self) -> int:
        """When its first request began, which is 0 in its records; 0 without any."""
        begun = first_begun_ns(self.answers), self.spool.begun_ns if self.spool else None
        return min((each for each in begun if each is not None), default=0)

    def records(self, starvation: Starvation, clock: str | None = None) -> list[Record]:
        """Their records; `clock`: what the times come from. Raises OSError as `all_answers`."""
        self.read()
        starvation = self.client.starvation or starvation
        start_ns = self.begun_ns
        later = self.spool.times_later if self.spool else None
        clock = self.client.clock or clock
        found = records_of(self.all_answers(), start_ns, starvation, later, clock)
        return self.talks.marked(found) if self.talks else found


def chat_request(session: Session, number: int = 0, prompt: Prompt | None = None) -> Request:
    """A streamed chat completion. Its first line is unique, so no prompt cache can know it."""
    args = session.run.args
    prompt = prompt or session.prompts[number % len(session.prompts)]
    messages = prompt.messages if args.same_prompt else prompt.unique()
    return completion(session, messages, prompt.max_tokens or args.max_tokens)


def completion(session: Session, messages: Messages, most: int) -> Request:
    if session.endpoint == RESPONSES:
        return endpoints.response(session.model, messages, most)
    more: dict[str, Any] = {"stream_options": {"include_usage": True}} if session.usage else {}
    return chat.completion(session.model, messages, most, **more)


def embedding_request(session: Session, number: int, batch: int) -> Request:
    same = session.run.args.same_prompt
    return embeddings.request_of(session.model, session.prompts, number, batch, same)


def talks_of(session: Session, load: Load, prompt: Prompt | None) -> Talks:
    """The conversations of a level; `prompt` begins each of them, instead of the usual one."""
    first, most = prompt or session.prompts[0], session.run.args.max_tokens
    return Talks(load, first.unique, lambda messages: completion(session, messages, most))


def measure_level(
    session: Session, level: Level, instead: Callable[[], bool] = lambda: False
) -> None:
    """Warm up, then send the level's requests; once more if the server refuses stream_options.

    `instead` is called in between, and sends the requests in another way, if that is better.
    """
    while True:
        level.stopped = None
        warm_up(session, level)
        if level.stopped is None and instead():
            return
        if level.stopped is None:
            with beside(session, level):
                send_requests(session, level)
        if not level.stop_for(Cause.USAGE):
            return
        session.usage = False


def beside(session: Session, level: Level) -> AbstractContextManager[None]:
    """What is watched while the requests of a level are sent (--server-metrics)."""
    return watching(session.metrics_source, session.wire.timeout_s, level.keep_watched)


def warm_up(session: Session, level: Level) -> None:
    """Fills `level.warmup`; says why the level's requests would be in vain, if they would."""
    level.client.begin()
    try:
        send(session, level, level.warmup, warmup_load(session, level), "warm-up")
    finally:
        level.client.end()
    if level.stopped is None and (why := cannot_recover(level.warmup)):
        level.stop(why)


def let_go_of_warmup(level: Level) -> None:
    """Forget the bytes of its good answers, of which nothing is shown."""
    for answer in level.warmup:
        if answer.is_ok and not answer.reply.is_condensed:
            answer.reply.condense(0)


def send_requests(session: Session, level: Level) -> None:
    let_go_of_warmup(level)
    folder, tell = session.run.args.results, session.run.note
    level.spool = Spool(folder, tell, level.look, is_eager=level.load.precision is not None)
    if level.load.precision is not None:
        level.precision = Precision(level.load.precision, level.load.concurrency)
    level.began_s = time.perf_counter()
    level.client.begin()
    try:
        send(session, level, level.answers, level.load, "requests", level.spool)
    finally:
        level.client.end()


def warmup_load(session: Session, level: Level) -> Load:
    """At least one request per slot, or none at all. In an open loop: one after the other."""
    count: int = session.run.args.warmup
    slots = 1 if level.load.is_open else level.load.concurrency
    requests = max(count, slots) if count else 0
    load = Load(slots, requests, depth=level.load.depth)
    return replace(load, endpoint=level.load.endpoint, batch=level.load.batch)


def send(
    session: Session,
    level: Level,
    answers: list[Answer],
    load: Load,
    what: str,
    spool: Spool | None = None,
) -> None:
    """Send what the load says. `answers` gets what was begun, also when it is interrupted, but for
    what is in the spool."""
    count = load.planned
    asker = Asker(session.run, session.wire, reason_of(level, session))
    label = f"{level.load.title}: {load.amount(what)}"
    answers.clear()
    try:
        asker.ask(
            requests_of(session, level, load),
            load.concurrency,
            label=label,
            total=count,
            keep=answers.extend,
            due_s=load.due_s,
            budget=level.budget,
            spool=spool,
        )
    finally:
        session.wire.replies = []  # nothing is kept twice


def requests_of(session: Session, level: Level, load: Load) -> Iterable[Request]:
    """The requests of a load of the level: all of them, where they can be made before the first one
    is sent."""
    prompt = session.deep.prompt(load.depth) if session.deep and load.depth else None
    if load.turns:
        level.talks = talks_of(session, load, prompt)
        return level.talks
    made: Iterator[Request] = (chat_request(session, n, prompt) for n in level.numbers(load))
    if load.batch:
        made = (embedding_request(session, n, load.batch or 1) for n in level.numbers(load))
    count = load.planned
    is_small = count is not None and count * (load.depth or 0) <= KEPT_TOKENS
    return list(made) if is_small else made


def reason_of(level: Level, session: Session) -> Callable[[Answer], Stop | None]:
    """Counts what each answer means for the level, and says why to stop after it, if at all."""

    def reason(answer: Answer) -> Stop | None:
        level.succeeded += answer.is_ok
        level.timeouts_in_a_row = level.timeouts_in_a_row + 1 if answer.timed_out else 0
        level.failed_in_a_row = 0 if answer.is_ok else level.failed_in_a_row + 1
        if level.stopped is None and (why := next_stop(level, answer, session)):
            level.stop(why)
        return level.stopped

    return reason


def next_stop(level: Level, answer: Answer, session: Session) -> Stop | None:
    """Why no further request of the level should be sent after this answer."""
    if answer.is_rate_limited:
        return Stop(Cause.RATE_LIMIT, rate_limit_words(answer))
    if level.timeouts_in_a_row >= level.most_timeouts:
        return Stop(Cause.SILENT)
    if level.only_fails:
        return Stop(Cause.FAILING)
    if level.end_s is not None and time.perf_counter() > level.end_s:
        return Stop(Cause.TIME)
    # a 200 with an error about the key counts as an answer, and does not let anybody in
    is_first = not (level.succeeded and session.run.has_completed)
    if is_first and refusal_of(answer) and (session.is_direct or no_access(session.run, answer)):
        return Stop(Cause.CREDENTIAL)
    if level.succeeded:
        return None
    if session.endpoint != CHAT:
        line = endpoints.missing(answer)
        return Stop(Cause.ENDPOINT, line) if line else cannot_recover([answer])
    if session.usage and level.load.depth is None and answer.status in (400, 422):
        return Stop(Cause.USAGE)
    return cannot_recover([answer])


def cannot_recover(answers: Sequence[Answer]) -> Stop | None:
    """Why more requests would only cost more time: each of these was silent, or flooded."""
    if answers and all(answer.timed_out for answer in answers):
        return Stop(Cause.SILENT)
    if answers and all(answer.is_costly for answer in answers):
        return Stop(Cause.FLOOD)
    return None


def stop_at_first(answer: Answer) -> Stop | None:
    """For small probes: one that is silent, floods, or meets a rate limit is enough."""
    return reason_to_stop(answer)
