"""Streams that faults change on their way, event by event; see `planting.on_events`."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from ..hooks import ResetConnection

Events = AsyncIterator[bytes]  # each with the blank line that ends it

HUGE_LINE_BYTES = 10 * 2**20
FLOOD_PIECE_BYTES = 64 * 2**10
EVENTS_BEFORE_TROUBLE = 3  # the role and two tokens
ENDLESS_INTERVAL_S = 0.01
GZIP = 16 + zlib.MAX_WBITS  # zlib's way to say it
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


async def lost_characters(stream: Events) -> Events:
    """U+FFFD in the place of the last character of each token."""
    async for event in stream:
        fields = payload(event)
        text = content(fields)
        yield with_content(fields, text[:-1] + "\ufffd") if text else event


async def no_content(stream: Events) -> Events:
    async for event in stream:
        if not content(payload(event)):
            yield event


async def no_done(stream: Events) -> Events:
    async for event in stream:
        if not event.startswith(DONE):
            yield event


async def done_twice(stream: Events) -> Events:
    async for event in stream:
        yield event
        if event.startswith(DONE):
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


# --- chunks of another form than OpenAI's API promises


Fields = dict[str, Any]


def change_chunks(change: Callable[[Fields], object]) -> Callable[[Events], Events]:
    """Change the JSON of every chunk in place."""

    async def changed(stream: Events) -> Events:
        async for event in stream:
            fields = payload(event)
            if fields:
                change(fields)
                event = as_event(fields)
            yield event

    return changed


def set_field(name: str, value: object) -> Callable[[Events], Events]:
    """Another value of this field in every chunk."""
    return change_chunks(lambda fields: fields.update({name: value}))


def without_field(name: str) -> Callable[[Events], Events]:
    return change_chunks(lambda fields: fields.pop(name, None))


def set_in_choice(name: str, value: object) -> Callable[[Events], Events]:
    """Another value of this field in the choice of every chunk that has one."""

    def change(fields: Fields) -> None:
        for choice in fields["choices"]:
            choice[name] = value

    return change_chunks(change)


def without_in_choice(name: str) -> Callable[[Events], Events]:
    def change(fields: Fields) -> None:
        for choice in fields["choices"]:
            choice.pop(name, None)

    return change_chunks(change)


def usage_without_choices(fields: Fields) -> None:
    """The chunk that counts the tokens is one without `choices`."""
    if fields.get("usage"):
        del fields["choices"]


def usage_with_null_choices(fields: Fields) -> None:
    if fields.get("usage"):
        fields["choices"] = None


def last_without_delta(fields: Fields) -> None:
    """The chunk with the finish_reason has the delta null."""
    for choice in fields["choices"]:
        if choice["finish_reason"]:
            choice["delta"] = None


def usage_with_bare_choice(fields: Fields) -> None:
    if fields.get("usage"):
        fields["choices"] = [{}]


def usage_is_a_number(fields: Fields) -> None:
    if fields["choices"] and fields["choices"][0]["finish_reason"]:
        fields["usage"] = 7


def finish(reason: str) -> Callable[[Events], Events]:
    """Every answer ends with this finish_reason."""

    def change(fields: Fields) -> None:
        for choice in fields["choices"]:
            choice["finish_reason"] = choice["finish_reason"] and reason

    return change_chunks(change)


async def changing_ids(stream: Events) -> Events:
    number = 0
    async for event in stream:
        if fields := payload(event):
            number += 1
            event = as_event({**fields, "id": f"chatcmpl-{number}"})
        yield event


async def usage_has_own_id(stream: Events) -> Events:
    async for event in stream:
        fields = payload(event)
        if fields.get("usage"):
            event = as_event({**fields, "id": "chatcmpl-of-usage"})
        yield event


async def model_changes(stream: Events) -> Events:
    """From the middle on another model speaks."""
    position = 0
    async for event in stream:
        fields = payload(event)
        position += 1
        if fields and position > EVENTS_BEFORE_TROUBLE:
            event = as_event({**fields, "model": "another-model"})
        yield event


# --- events that are not chunks

PING = b'event: ping\ndata: {"type": "ping"}\n\n'


async def with_pings(stream: Events) -> Events:
    """A named event before each chunk, as some servers send it to keep the connection open."""
    async for event in stream:
        yield PING
        yield event


async def named_chunks(stream: Events) -> Events:
    async for event in stream:
        yield b"event: completion.chunk\n" + event


async def error_in_named_event(stream: Events) -> Events:
    """The error of a stream is an event with a name of its own."""
    async for event in cut(stream):
        yield event
    yield b'event: failure\ndata: {"error": {"message": "planted", "code": 500}}\n\n'
    yield DONE + b"\n\n"


def filter_note(**more: object) -> bytes:
    """A chunk of Azure's that is only about its content filter."""
    return as_event({"id": "", "object": "", "created": 0, "model": "", **more})


async def with_filter_results(stream: Events) -> Events:
    """As Azure sends it: first a chunk about the prompt, in between some about the text."""
    verdict = {"hate": {"filtered": False, "severity": "safe"}}
    yield filter_note(choices=[], prompt_filter_results=[{"prompt_index": 0}])
    note = {"index": 0, "finish_reason": None, "content_filter_results": verdict}
    async for event in stream:
        yield event
        if content(payload(event)):
            yield filter_note(choices=[note])


# --- several events in one write


def in_groups(size: int) -> Callable[[Events], Events]:
    """So many events in each write, as speculative decoding and multi-step scheduling send them."""

    async def grouped(stream: Events) -> Events:
        held: list[bytes] = []
        async for event in stream:
            held.append(event)
            if len(held) == size:
                yield b"".join(held)
                held = []
        yield b"".join(held)

    return grouped


# --- compression


def compressed(flush: bool, broken: bool = False) -> Callable[[Events], Events]:
    """Compress the stream with gzip. `flush`: after each event, so that clients can read it.

    broken: the end is missing.
    """

    async def change(stream: Events) -> Events:
        packer = zlib.compressobj(wbits=GZIP)
        async for event in stream:
            piece = packer.compress(event) + (packer.flush(zlib.Z_SYNC_FLUSH) if flush else b"")
            if piece:
                yield piece
        if not broken:
            yield packer.flush()

    return change
