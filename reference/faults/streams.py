"""Streams that faults change on their way, event by event; see `planting.on_events`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from ..hooks import ResetConnection

Events = AsyncIterator[bytes]  # each with the blank line that ends it

HUGE_LINE_BYTES = 10 * 2**20
FLOOD_PIECE_BYTES = 64 * 2**10
EVENTS_BEFORE_TROUBLE = 3  # the role and two tokens
ENDLESS_INTERVAL_S = 0.01
DONE = b"data: [DONE]"
NOT_JSON = b'data: {"choices": [{"delta": oops\n\n'
HUGE_LINE = b'data: {"choices": [{"delta": {"content": "' + b"x" * HUGE_LINE_BYTES + b"\n\n"


# --- reading and writing an event


def payload(event: bytes) -> dict[str, Any]:
    """An event's JSON object, empty for any other event."""
    data = event.partition(b"data: ")[2]
    if not data.startswith(b"{"):
        return {}
    parsed: dict[str, Any] = json.loads(data)
    return parsed


def as_event(fields: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def content(fields: dict[str, Any]) -> str:
    """The output text in an event's JSON, "" if it has none."""
    return "".join(choice["delta"].get("content") or "" for choice in fields.get("choices", ()))


def with_content(fields: dict[str, Any], text: str) -> bytes:
    """The same event with another output text."""
    choice = {**fields["choices"][0], "delta": {"content": text}}
    return as_event({**fields, "choices": [choice]})


# --- streams that do not end well


async def cut(stream: Events) -> Events:
    """End cleanly after a few events."""
    left = EVENTS_BEFORE_TROUBLE
    async for event in stream:
        yield event
        left -= 1
        if not left:
            return


async def reset(stream: Events) -> Events:
    async for event in cut(stream):
        yield event
    raise ResetConnection


async def stall(stream: Events) -> Events:
    async for event in cut(stream):
        yield event
    await asyncio.Event().wait()


async def endless(stream: Events) -> Events:
    """Repeat an event for ever, at a normal pace."""
    async for event in cut(stream):
        yield event
    while True:
        yield event
        await asyncio.sleep(ENDLESS_INTERVAL_S)


async def flood(stream: Events) -> Events:
    """Repeat an event for ever, as fast as the client reads."""
    async for event in cut(stream):
        yield event
    piece = event * (FLOOD_PIECE_BYTES // len(event) + 1)
    while True:
        yield piece
        # Without this, a fast reader would keep the event loop from doing anything else.
        await asyncio.sleep(0)


async def error_event(stream: Events) -> Events:
    """End with an error object and [DONE], while the status is 200."""
    async for event in cut(stream):
        yield event
    yield as_event({"error": {"message": "planted", "type": "server_error", "code": 500}})
    yield DONE + b"\n\n"


# --- complete streams with something wrong in them


async def insert(extra: bytes, stream: Events) -> Events:
    """One additional event in the middle of a complete stream."""
    position = 0
    async for event in stream:
        if position == EVENTS_BEFORE_TROUBLE:
            yield extra
        position += 1
        yield event


async def invalid_utf8(stream: Events) -> Events:
    async for event in stream:
        fields = payload(event)
        if content(fields):
            event = with_content(fields, "@@").replace(b"@@", b"\xc3\x28\xff")
        yield event


async def no_content(stream: Events) -> Events:
    async for event in stream:
        if not content(payload(event)):
            yield event


async def no_done(stream: Events) -> Events:
    async for event in stream:
        if not event.startswith(DONE):
            yield event


async def wrong_usage(stream: Events) -> Events:
    """Usage counts three tokens too many."""
    async for event in stream:
        fields = payload(event)
        if fields.get("usage"):
            fields["usage"]["completion_tokens"] += 3
            fields["usage"]["total_tokens"] += 3
            event = as_event(fields)
        yield event


async def one_letter_each(stream: Events) -> Events:
    """One event for each letter, so there are more events than tokens."""
    async for event in stream:
        fields = payload(event)
        letters = content(fields)
        if len(letters) < 2:
            yield event
            continue
        for letter in letters:
            yield with_content(fields, letter)
