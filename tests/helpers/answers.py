"""Answers made by hand: what a server is supposed to have sent, without a server."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from livecheck.wire.answer import Answer
from livecheck.wire.wire import Failure, Reply, Request

SENT_NS = 1_000_000_000  # when the request was sent, unless a test says otherwise


def answer(
    status: int | None = 200,
    headers: Mapping[str, str | Sequence[str]] = {},  # noqa: B006 (never changed)
    body: object = b"",
    *,
    request: Request | None = None,
    failure: Failure | None = None,
    pieces: Sequence[tuple[float, bytes]] = (),
    sent_ns: int | None = SENT_NS,
    spent_ms: float = 1.0,
    index: int = 0,
) -> Answer:
    """An answer of this status, headers and body (bytes, or an object that becomes JSON).

    `pieces`: more of the body, each with its time of arrival in ms after sending. `status` None:
    nothing came at all.
    """
    request = request or Request("GET", "/")
    reply = Reply(index, request, sent_ns, failure=failure)
    reply.end_ns = (sent_ns or SENT_NS) + int(spent_ms * 1e6)
    if status is not None:
        whole = body if isinstance(body, bytes) else json.dumps(body).encode()
        at_ms = pieces[0][0] if pieces else spent_ms
        read(reply, head(status, headers) + whole, at_ms)
        for arrived_ms, piece in pieces:
            read(reply, piece, arrived_ms)
        if failure is None:
            reply.message.eof()
    return Answer(reply)


def answer_to(request: Request, response: bytes = b"", failure: str | None = None) -> Answer:
    """What became of a request to a server that sent these bytes, head and body.

    `failure`: a kind of failure, such as "timeout", of a request that got no whole answer.
    """
    reply = Reply(0, request, SENT_NS, secret=(request.secret or "").encode())
    reply.end_ns = SENT_NS + 1_000_000
    if response:
        read(reply, response, 1.0)
        reply.message.eof()
    if failure:
        reply.failure = Failure(failure, "as the test wants it")
    return Answer(reply)


def streamed(
    ttft_ms: float | None,
    *,
    texts: Sequence[str] = ("Hello", " there"),
    gap_ms: float = 1.0,
    request: Request | None = None,
    usage: Mapping[str, object] | None = None,
) -> Answer:
    """A streamed completion whose first output comes after `ttft_ms`; None: an error 500."""
    if ttft_ms is None:
        return answer(500, {}, {"error": {"message": "broken"}}, request=request)
    pieces = [(ttft_ms + gap_ms * n, event({"content": text})) for n, text in enumerate(texts)]
    end_ms = ttft_ms + gap_ms * len(texts)
    last = event({}, "stop") + b"data: [DONE]\n\n"
    if usage is not None:
        last = event({}, "stop", usage=usage) + b"data: [DONE]\n\n"
    kind = {"content-type": "text/event-stream"}
    return answer(200, kind, request=request, pieces=[*pieces, (end_ms, last)], spent_ms=end_ms)


def event(delta: Mapping[str, object], finish: str | None = None, **more: object) -> bytes:
    """One event of a streamed completion."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return b"data: " + json.dumps({**chunk, "choices": [choice], **more}).encode() + b"\n\n"


def head(status: int, headers: Mapping[str, str | Sequence[str]]) -> bytes:
    lines = [f"HTTP/1.1 {status} Some Words"]
    for name, values in headers.items():
        lines += [f"{name}: {each}" for each in ([values] if isinstance(values, str) else values)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def read(reply: Reply, data: bytes, after_ms: float) -> None:
    """Take in some bytes, as if they had arrived then."""
    reply.message.feed(data)
    reply.add(data, (reply.t0_ns or SENT_NS) + int(after_ms * 1e6), 0)
