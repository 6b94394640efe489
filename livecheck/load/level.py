"""Measuring a level: a session with the deployment, its warm-up, its requests, and when to stop."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from livecheck.core.run import Run
from livecheck.load.arrivals import Load, Prompt
from livecheck.wire import old_chat as chat
from livecheck.wire import wire
from livecheck.wire.records import is_ok, is_rate_limit, timed_out

SILENT_AT_LEAST = 2  # time-outs in a row, and no fewer than slots: it will not answer any more
SILENT_AT_MOST = 10  # in an open loop, where there may be a thousand slots
FAILED_AT_MOST = 100  # failures in a row, where only a duration ends the level
FAILED_AFTER_SUCCESS = 1000


class Stop(Enum):
    """Why nothing more is sent."""

    RATE_LIMIT = "the key's rate limit"
    CREDENTIAL = "the credential is refused"
    USAGE = "stream_options is refused"
    SILENT = "nothing answered within the timeout"
    FLOOD = "the server does not stop sending"
    FAILING = "nothing but failures"
    TIME = "the time for all levels is over"


@dataclass
class Session:
    """A run in progress: how to ask, and what was found out about the deployment."""

    run: Run
    instrument: wire.Wire
    met: dict[str, wire.Reply]  # the first answer of each path
    model: str
    prompts: Sequence[Prompt]
    edge: str | None = None  # why the network cannot be told from the gateway
    usage: bool = True  # ask for it with stream_options
    stopped: Stop | None = None


@dataclass
class Level:
    """One level as it was measured."""

    load: Load
    end_s: float | None = None  # of the time for all levels (perf_counter)
    warmup: list[wire.Reply] = field(default_factory=list)
    replies: list[wire.Reply] = field(default_factory=list)
    stopped: Stop | None = None
    answered: int = 0  # with 200 and to the end, warm-up included
    failed: int = 0  # in a row
    silent: int = 0  # time-outs in a row

    @property
    def limited(self) -> wire.Reply | None:
        """The answer of the key's rate limiter, if it spoke."""
        return next((r for r in self.warmup + self.replies if is_rate_limit(r)), None)

    @property
    def patience(self) -> int:
        """How many time-outs in a row it takes to believe that there will be no answer."""
        slots = self.load.concurrency
        if self.load.is_open:
            slots = min(slots, SILENT_AT_MOST)
        return max(slots, SILENT_AT_LEAST)

    @property
    def fails_only(self) -> bool:
        """Whether all that a duration still could bring is more of the same failures."""
        most = FAILED_AFTER_SUCCESS if self.answered else FAILED_AT_MOST
        return self.load.duration_s is not None and self.failed >= most


def chat_request(session: Session, number: int = 0) -> wire.Request:
    """A streamed chat completion. Its first line is unique, so no prompt cache can know it."""
    args = session.run.args
    prompt = session.prompts[number % len(session.prompts)]
    messages = prompt.messages if args.same_prompt else prompt.unique()
    more: dict[str, Any] = {"stream_options": {"include_usage": True}} if session.usage else {}
    most = prompt.max_tokens or args.max_tokens
    return chat.completion(session.model, "", most, messages=messages, **more)


def measure_level(session: Session, level: Level) -> None:
    """Warm up, then send the level's requests; once more if the server refuses stream_options."""
    while True:
        level.stopped = None
        send(session, level, level.warmup, warm_up(session, level), "warm-up")
        if level.stopped is None:
            level.stopped = hopeless(level.warmup)
        if level.stopped is None:
            send(session, level, level.replies, level.load, "requests")
        if level.stopped is not Stop.USAGE:
            return
        session.usage = False


def warm_up(session: Session, level: Level) -> Load:
    """At least one a slot, or none; an open loop has no slots: one after the other."""
    count: int = session.run.args.warmup
    slots = 1 if level.load.is_open else level.load.concurrency
    return Load(slots, max(count, slots) if count else 0)


def send(session: Session, level: Level, replies: list[wire.Reply], load: Load, label: str) -> None:
    """What the load says; `replies` gets what was begun, whatever happens."""
    count = load.planned
    amount = f"{count} {label}" if load.duration_s is None else f"{label} for {load.duration_s:g} s"
    with session.run.progress(f"{level.load.title}: {amount}", count) as step:

        def on_reply(reply: wire.Reply) -> bool:
            step()
            chat.show(session.run, reply)
            note(level, reply, session.usage)
            return level.stopped is not None

        try:
            requests = make_requests(session, load)
            session.instrument.exchange(requests, load.concurrency, on_reply, due_s=load.due_s)
        finally:
            replies[:] = session.instrument.replies


def make_requests(session: Session, load: Load) -> Iterable[wire.Request]:
    """Made before the first is sent, where it is known how many it takes."""
    requests = (chat_request(session, number) for number in load.numbers())
    return list(requests) if load.planned is not None else requests


def note(level: Level, reply: wire.Reply, usage: bool) -> None:
    """What an answer means for the rest of the level."""
    level.answered += is_ok(reply)
    level.silent = level.silent + 1 if timed_out(reply) else 0
    level.failed = 0 if is_ok(reply) else level.failed + 1
    level.stopped = level.stopped or reason_to_stop(level, reply, usage)


def reason_to_stop(level: Level, reply: wire.Reply, usage: bool) -> Stop | None:
    """Why no further request should be sent after this answer."""
    if is_rate_limit(reply):
        return Stop.RATE_LIMIT
    if level.silent >= level.patience:
        return Stop.SILENT
    if level.fails_only:
        return Stop.FAILING
    if level.end_s is not None and time.perf_counter() > level.end_s:
        return Stop.TIME
    if level.answered:
        return None
    if reply.status == 401:
        return Stop.CREDENTIAL
    if usage and reply.status in (400, 422):
        return Stop.USAGE
    return hopeless([reply])


def is_costly(reply: wire.Reply) -> bool:
    """Whether the server hangs or floods: once is enough of that."""
    return reply.failure is not None and reply.failure.kind in ("timeout", "flood")


def hopeless(replies: Sequence[wire.Reply]) -> Stop | None:
    """Why more requests would only cost more of the operator's time."""
    if replies and all(timed_out(reply) for reply in replies):
        return Stop.SILENT
    if replies and all(is_costly(reply) for reply in replies):
        return Stop.FLOOD
    return None
