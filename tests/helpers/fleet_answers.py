"""Answers of a fleet made by hand, and entries of its request log. Times in ms from any start."""

from __future__ import annotations

from typing import Any

from livecheck.fleet.api import LogEntry
from livecheck.wire import chat
from livecheck.wire.answer import Answer
from livecheck.wire.connection import Handshake

from . import answers, hostile

MODEL = "small:1b"
REQUEST = chat.completion("class:fast", "hi", 16)
STREAM = {"content-type": "text/event-stream"}


def ns(milliseconds: float) -> int:
    return answers.SENT_NS + round(milliseconds * 1e6)


def served(
    sent: float,
    ended: float,
    first: float = 10.0,
    *,
    model: str = MODEL,
    fingerprint: str | None = None,
    round_trip: float = 0.0,
) -> Answer:
    """A stream whose first output comes `first` after it was sent."""
    more = {"model": model, "system_fingerprint": fingerprint}
    pieces = [
        (min(first, ended - sent), hostile.delta("one", **more)),
        (ended - sent, hostile.delta(reason="stop", **more) + hostile.DONE),
    ]
    found = answers.answer(
        headers=STREAM,
        request=REQUEST,
        pieces=pieces,
        sent_ns=ns(sent),
        spent_ms=ended - sent,
    )
    found.reply.handshake = Handshake(0, None, round(round_trip * 1e6))
    return found


def failed(sent: float, ended: float, status: int = 500, words: str = "boom") -> Answer:
    body = words.encode()
    return answers.answer(
        status, {}, body, request=REQUEST, sent_ns=ns(sent), spent_ms=ended - sent
    )


def entry(number: int, at_s: float, latency_ms: float, runner: str | None, **more: Any) -> LogEntry:
    """An entry of the log: when the request came in, by the gateway's clock, and its latency."""
    fields = {"model": MODEL, "status": "200", "wol_sent": False, **more}
    return LogEntry(id=f"e{number}", latency_ms=latency_ms, runner_id=runner, at_s=at_s, **fields)
