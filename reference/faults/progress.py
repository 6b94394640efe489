"""Streams that tell of progress before the model has answered, as some gateways send them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web

from ..hooks import Handler
from .fault import Install, SoundVariant
from .planting import around, on_events
from .streams import Events, as_event, content, payload

INNER = "X-Planted-Inner"  # of the requests that the one in front sends
# headers of the inner connection alone, or of how its body was sent
OF_CONNECTION = ("connection", "content-encoding", "content-length", "date", "transfer-encoding")
GRACE_S = 0.1  # a model that is there answers sooner
TICK_S = 0.2
ZERO_WIDTH = "\u200b"

Fields = dict[str, Any]


def bare(text: str) -> Fields:
    """A chunk of llama-swap's: it has nothing but the text, as reasoning."""
    return {"choices": [{"delta": {"reasoning_content": text}}]}


def full(text: str, ident: str = "chatcmpl-progress") -> Fields:
    """A whole chunk with an id of its own, and the text as content."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    envelope = {"id": ident, "object": "chat.completion.chunk", "created": 1, "model": "sim"}
    return {**envelope, "choices": [choice]}


@dataclass(frozen=True)
class Messages:
    """What is sent: at once, again and again, and when the model is there. Bytes are sent as they
    are."""

    first: Sequence[Fields | bytes]
    tick: Fields | bytes
    last: Sequence[Fields | bytes] = ()


LINE = "\u2501" * 5
LLAMA_SWAP = Messages(
    [
        bare(each)
        for each in (LINE, "\n", "llama", "-swap", " load", "ing m", "odel:", " sim", "\n")
    ],
    bare("."),
    [bare(each) for each in ("\n", "Done!", " (1.0", "0s)", "\n", LINE, "\n", " ", "\n")],
)
QUEUE = Messages([full("Position in queue: 2\n")], full("Position in queue: 1\n"))
BLANK = Messages([full(ZERO_WIDTH)], full(ZERO_WIDTH))


def in_front(messages: Messages) -> Install:
    """A proxy in front of all: it sends these messages while a stream has not begun."""

    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read() if request.can_read_body else b""
        if INNER in request.headers or not wants_stream(body):
            return await handler(request)
        host, port = request.transport.get_extra_info("sockname")[:2]  # type: ignore[union-attr]
        headers = {k: v for k, v in request.headers.items() if k.lower() not in ("host", INNER)}
        async with aiohttp.ClientSession() as session:
            url = f"http://{host}:{port}{request.path_qs}"
            asking = session.post(url, data=body, headers={**headers, INNER: "1"})
            return await answer(request, asyncio.ensure_future(asking), messages)

    return around("all", wrapper)


def wants_stream(body: bytes) -> bool:
    with contextlib.suppress(ValueError):
        fields = json.loads(body or b"{}")
        return isinstance(fields, dict) and fields.get("stream") is True
    return False


async def answer(
    request: web.BaseRequest, asked: asyncio.Future[aiohttp.ClientResponse], messages: Messages
) -> web.StreamResponse:
    """The messages, as long as there is nothing else, and then the answer."""
    response: web.StreamResponse | None = None
    await asyncio.wait([asked], timeout=GRACE_S)
    if not asked.done():
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await write(response, messages.first)
        while not asked.done():
            await asyncio.wait([asked], timeout=TICK_S)
            await write(response, [messages.tick])
        await write(response, messages.last)
    inner = await asked
    if response is None:
        kept = {k: v for k, v in inner.headers.items() if k.lower() not in OF_CONNECTION}
        response = web.StreamResponse(status=inner.status, headers=kept)
        await response.prepare(request)
    async for piece in inner.content.iter_any():
        await response.write(piece)
    await response.write_eof()
    return response


async def write(response: web.StreamResponse, chunks: Sequence[Fields | bytes]) -> None:
    for chunk in chunks:
        await response.write(chunk if isinstance(chunk, bytes) else as_event(chunk))


# --- in every stream


def first_says(text: str) -> Callable[[Events], Events]:
    """The first chunk with content comes twice, the first time with this text in its place."""

    async def changed(stream: Events) -> Events:
        is_first = True
        async for event in stream:
            fields = payload(event)
            if is_first and content(fields):
                is_first = False
                choice = {**fields["choices"][0], "delta": {"content": text}}
                yield as_event({**fields, "choices": [choice]})
            yield event

    return changed


IN_EVERY_STREAM = on_events(first_says("Position in queue: 1\n"))

WAKING = ("test_scale_to_zero.py", "test_wol.py")

ROWS: tuple[SoundVariant, ...] = (
    SoundVariant(
        "loading-messages",
        "while a model is loaded, its stream says so as reasoning, as llama-swap's does",
        WAKING,
        in_front(LLAMA_SWAP),
    ),
    SoundVariant(
        "queue-messages",
        "while a request waits, its stream says where in the queue it is, as content",
        (*WAKING, "test_queue.py"),
        in_front(QUEUE),
    ),
    SoundVariant(
        "blank-messages",
        "while a request waits, its stream has characters of no width",
        WAKING,
        in_front(BLANK),
    ),
)
