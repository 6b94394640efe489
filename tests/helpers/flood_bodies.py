"""Event streams of 31 MB that no deployment sends, and a program that reads one and measures that.

python -m helpers.flood_bodies NAME FILE    # FILE: where to put the answer meanwhile
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from livecheck.wire.answer import Answer
from livecheck.wire.wire import Reply, Request

SIZE = 31 << 20
STREAM = Request("POST", "/v1/chat/completions", b"{}", {"accept": "text/event-stream"})
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
WRONG_CHUNK = '{"id": 1, "choices": [{"delta": {"content": "x"}}]}'
CALL = {"function": {"name": "x", "arguments": "x"}}


def event(text: str) -> bytes:
    return f"data: {text}\n\n".encode()


def chunk(ident: str = "c", reason: str | None = None, **delta: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    whole = {"id": ident, "object": "chat.completion.chunk", "created": 1, "model": ident}
    return event(json.dumps(whole | {"choices": [choice]}, ensure_ascii=False))


def each(piece: bytes) -> bytes:
    return piece * (SIZE // len(piece))


def many(make: Callable[[int], bytes]) -> bytes:
    """400,000 pieces, or as many as there is room for."""
    found, size = bytearray(), 0
    for number in range(400_000):
        found += make(number)
        size = len(found)
        if size > SIZE - 1000:
            break
    return bytes(found)


BODIES: dict[str, Callable[[], bytes]] = {
    "one giant event": lambda: event('{"a": "' + "x" * (SIZE - 100) + '"}'),
    "one giant list": lambda: event("[" + "[]," * (SIZE // 3 - 10) + "[]]"),
    "empty events": lambda: each(b"data:\n\n"),
    "empty events with CR LF": lambda: each(b"data:\r\n\r\n"),
    "empty objects": lambda: each(b"data: {}\n\n"),
    "comments": lambda: each(b":\n"),
    "events of comments": lambda: each(b":\n\n"),
    "nothing but newlines": lambda: each(b"\n"),
    "nothing but CR": lambda: each(b"\r"),
    "lines of one event": lambda: each(b"data:\n"),
    "lines of an error": lambda: each(b"error: " + b"x" * 1990 + b"\n"),
    "usual chunks": lambda: each(chunk(content=" word")),
    "wrong chunks": lambda: each(event(WRONG_CHUNK)),
    "a new id and model each": lambda: many(lambda n: chunk(ident=f"m{n}", content="x")),
    "a new finish reason each": lambda: many(lambda n: chunk(reason=f"r{n}", content="x")),
    "a new event name each": lambda: many(lambda n: f"event: {n}\n".encode() + event("{}")),
    "few large texts": lambda: each(chunk(content="x" * 1_000_000)),
    "few wide texts": lambda: each(chunk(content="x" * 1_000_000 + "\U0001f600")),
    "arguments in many pieces": lambda: each(chunk(tool_calls=[CALL])),
    "many tool calls": lambda: each(chunk(tool_calls=[CALL] * 20_000)),
    "many choices": lambda: each(event('{"choices": [' + "{}," * 300_000 + "{}]}")),
    "many parts": lambda: each(chunk(content=[{"text": "x"}] * 50_000)),
    "large usage": lambda: each(
        event(json.dumps({"choices": [], "usage": {str(n): {} for n in range(80_000)}}))
    ),
    "not UTF-8": lambda: each(chunk(content="@").replace(b"@", b"\xff")),
    "errors": lambda: each(event('{"error": {"message": "x"}}')),
}


def reply_of(path: str) -> Reply:
    """The bytes of a file as the reply to a request for a stream."""
    reply = Reply(0, STREAM, 0)
    with open(path, "rb", buffering=0) as file:
        while data := file.read(1 << 16):
            reply.add(data, reply.size, 0)
            reply.message.feed(data)
    reply.message.eof()
    reply.end_ns = reply.size
    return reply


def main(name: str, path: str) -> None:
    with open(path, "wb") as file:
        file.write(HEAD + BODIES[name]())
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak begins anew
    reply = reply_of(path)
    begun_s = time.process_time()
    answer = Answer(reply)
    words = [answer.words, str(answer.stream_error), str(answer.completion), str(answer.form)]
    answer.record(0)
    spent_s = time.process_time() - begun_s
    with open("/proc/self/status") as file:
        peak = next(line for line in file if line.startswith("VmHWM"))
    found = {"s": spent_s, "mb": int(peak.split()[1]) / 1024, "kept_bytes": len(reply.raw)}
    print(json.dumps(found | {"longest": max(map(len, words))}))


if __name__ == "__main__":
    main(*sys.argv[1:])
