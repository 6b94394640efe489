"""What faults are made of: answers replaced, heads and streams changed on their way.

`install` of a row plants it through the hooks of `hooks.py`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Literal

from aiohttp import web
from multidict import CIMultiDict

from ..hooks import Answer, Hooks, Reset, Wrapper
from ..upstream import events as events

Install = Callable[[Hooks], None]
EventFilter = Callable[[AsyncIterator[bytes]], AsyncIterator[bytes]]

HUGE_LINE_BYTES = 10 * 2**20
FLOOD_PIECE_BYTES = 64 * 2**10
EVENTS_BEFORE_TROUBLE = 3  # the role and two tokens
ENDLESS_INTERVAL_S = 0.01
DONE = b"data: [DONE]"


@dataclasses.dataclass(frozen=True)
class Fault:
    """One row: `check` of `script` must come out as `status`, and the exit code be 1 for FAIL.

    options: settings the deployment needs besides (keywords for `running`).
    arguments: what the script should be given so that it notices, and soon.
    """

    name: str
    breaks: str
    script: str
    check: str
    install: Install
    status: Literal["FAIL", "WARN"] = "FAIL"
    options: Mapping[str, object] = dataclasses.field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    profile: str = "gateway"


def nothing(hooks: Hooks) -> None:
    """The deployment as it is: the settings are wrong, or what is expected of it."""


# --- whole answers


def instead(where: str, *args: Any, **kwargs: Any) -> Install:
    """Another answer in the place of `where`; arguments as for web.Response."""

    async def wrapper(answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(*args, **kwargs)

    return around(where, wrapper)


def around(where: str, wrapper: Wrapper) -> Install:
    return lambda hooks: hooks.around[where].append(wrapper)


def error_500(where: str) -> Install:
    body = {"error": {"message": "planted", "type": "server_error", "code": "internal_error"}}
    return instead(where, status=500, text=json.dumps(body), content_type="application/json")


def busy(where: str) -> Install:
    error = {"message": "Server busy, try again later", "type": "server_error"}
    body = {"error": {**error, "code": "queue_full"}}
    headers = {"Retry-After": "5", "Content-Type": "application/json"}
    return instead(where, status=503, text=json.dumps(body), headers=headers)


async def never(answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError("an event nobody sets was set")


def every_third(hooks: Hooks) -> None:
    count = itertools.count(1)

    async def wrapper(answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=500) if next(count) % 3 == 0 else await answer(request)

    hooks.around["backend"].append(wrapper)


# --- heads of streams


def header(name: str, value: str) -> Install:
    def change(headers: CIMultiDict[str]) -> None:
        headers[name] = value

    return lambda hooks: hooks.head.append(change)


# --- streams, event by event


def on_events(change: EventFilter) -> Install:
    return lambda hooks: hooks.stream.append(lambda chunks: change(events(chunks)))


def payload(event: bytes) -> dict[str, Any]:
    """An event's JSON object, empty for anything else."""
    data = event.partition(b"data: ")[2]
    if not data.startswith(b"{"):
        return {}
    parsed: dict[str, Any] = json.loads(data)
    return parsed


def as_event(fields: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def content(fields: dict[str, Any]) -> str:
    """The output text in an event's JSON, "" when there is none."""
    return "".join(choice["delta"].get("content") or "" for choice in fields.get("choices", ()))


def with_content(fields: dict[str, Any], text: str) -> bytes:
    choice = {**fields["choices"][0], "delta": {"content": text}}
    return as_event({**fields, "choices": [choice]})


async def cut(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    left = EVENTS_BEFORE_TROUBLE
    async for event in stream:
        yield event
        left -= 1
        if not left:
            return


async def reset(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for event in cut(stream):
        yield event
    raise Reset


async def stall(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for event in cut(stream):
        yield event
    await asyncio.Event().wait()


async def endless(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for event in cut(stream):
        yield event
    while True:
        yield event
        await asyncio.sleep(ENDLESS_INTERVAL_S)


async def flood(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for event in cut(stream):
        yield event
    piece = event * (FLOOD_PIECE_BYTES // len(event) + 1)
    while True:
        yield piece
        # A reader as fast as we are would otherwise keep the loop from everything else.
        await asyncio.sleep(0)


async def only_error(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for event in cut(stream):
        yield event
    yield as_event({"error": {"message": "planted", "type": "server_error", "code": 500}})
    yield DONE + b"\n\n"


async def insert(extra: bytes, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """One more event in the midst of a stream that is otherwise complete."""
    position = 0
    async for event in stream:
        if position == EVENTS_BEFORE_TROUBLE:
            yield extra
        position += 1
        yield event


async def invalid_utf8(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for event in stream:
        fields = payload(event)
        if content(fields):
            event = with_content(fields, "@@").replace(b"@@", b"\xc3\x28\xff")
        yield event


async def no_content(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for event in stream:
        if not content(payload(event)):
            yield event


async def no_done(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for event in stream:
        if not event.startswith(DONE):
            yield event


async def wrong_usage(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for event in stream:
        fields = payload(event)
        if fields.get("usage"):
            fields["usage"]["completion_tokens"] += 3
            fields["usage"]["total_tokens"] += 3
            event = as_event(fields)
        yield event


async def one_letter_each(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for event in stream:
        fields = payload(event)
        letters = content(fields)
        if len(letters) < 2:
            yield event
            continue
        for letter in letters:
            yield with_content(fields, letter)


NOT_JSON = b'data: {"choices": [{"delta": oops\n\n'
HUGE_LINE = b'data: {"choices": [{"delta": {"content": "' + b"x" * HUGE_LINE_BYTES + b"\n\n"
