"""Whatever a server sends, reading it takes seconds, and memory that is bounded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.answers import answer
from helpers.flood_bodies import BODIES, STREAM, event

from livecheck.wire import request, sse
from livecheck.wire.http1 import MAX_CHUNKS, Message
from livecheck.wire.wire import MAX_BYTES

ROOT = Path(__file__).parents[2]
MOST_MB = 200
MOST_S = 20.0  # of the processor; on a machine that has nothing else to do it is less than 5


@pytest.mark.hostile
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read in /proc")
@pytest.mark.parametrize("name", BODIES)
def test_reading_a_stream_takes_seconds_and_little_memory(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "helpers.flood_bodies", name, str(tmp_path / "answer")]
    paths = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=paths)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["mb"] < MOST_MB and found["s"] < MOST_S, found
    assert found["longest"] < 2000 and found["kept_bytes"] <= request.BEGINNING_BYTES, found


# --- what is a flood, and what is not yet one


EVENTS = {"Content-Type": "text/event-stream"}


def said(**delta: Any) -> str:
    return json.dumps({"choices": [{"index": 0, "delta": delta}]})


CALL = {"function": {"name": "f", "arguments": "x"}}
FLOODS = {
    "lines": (b":\n" * (sse.MAX_LINES + 1), "more than 640,000 lines"),
    "events": (event("{}") * (sse.MAX_EVENTS + 1), "more than 160,000 events"),
    "text": (event(said(content="x" * (1 << 19))) * 9, "more than 4 MB of text"),
    "thoughts": (event(said(reasoning="x" * (1 << 19))) * 9, "more than 4 MB of text"),
    "choices": (event(json.dumps({"choices": [{}] * 129})), "a chunk has 129 choices"),
    "indices": (
        b"".join(event(json.dumps({"choices": [{"index": n}]})) for n in range(129)),
        "more than 128 different choices",
    ),
    "tool calls": (event(said(tool_calls=[CALL] * 129)), "more than 128 tool calls"),
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_stream_that_cannot_be_an_answer_is_a_flood(name: str) -> None:
    body, words = FLOODS[name]
    found = answer(200, EVENTS, body=body, request=STREAM)
    assert found.stream_error and found.stream_error.kind == "flood"
    assert words in found.stream_error.text


def test_an_answer_of_128_000_tokens_is_read() -> None:
    piece, call = event(said(content=" token")), event(said(tool_calls=[CALL]))
    for body in (b"event: message\nid: 1\n" + piece, call, piece.replace(b"\n", b"\r\n")):
        stream = sse.read_stream("text/event-stream", body * 128_000)
        assert len(stream.output_ns) == 128_000
        assert "flood" not in [each.kind for each in stream.complaints]


def test_a_large_event_is_a_complaint_and_the_others_are_read() -> None:
    body = event(said(content="a" * (1 << 20))) + event(said(content="b"))
    found = sse.read_stream("text/event-stream", body)
    assert found.text == "b"
    (problem,) = [each.text for each in found.complaints if each.kind == "not_json"]
    assert problem.startswith("an event of more than 1 MB is not read: '{")


def test_a_large_answer_is_let_go_once_it_was_read() -> None:
    body = event(said(content="a" * 10_000)) * 200
    found = answer(200, EVENTS, body=body, request=STREAM)
    found.read_if_large()
    assert len(found.stream.text) == 2_000_000 and found.reply.body_size == len(body)
    assert (
        found.body == body[: request.BEGINNING_BYTES]
        and len(found.reply.raw) == request.BEGINNING_BYTES
    )
    small = answer(200, EVENTS, body=body[:MAX_BYTES], request=STREAM)
    small.read_if_large()
    assert small.stream.events > 100 and len(small.body) == MAX_BYTES


def test_a_credential_at_the_cut_of_a_large_answer_is_masked() -> None:
    found = answer(200, EVENTS, body=b"", request=STREAM)
    reply = found.reply
    for before in range(request.BEGINNING_BYTES - 130, request.BEGINNING_BYTES, 13):
        reply = type(reply)(0, STREAM, secret=b"sk-secret")
        data = b"HTTP/1.1 200 OK\r\n\r\n"
        data += b"x" * (before - len(data)) + b"sk-secret" + b"x" * MAX_BYTES
        reply.add(data, 1, 0)
        reply.message.feed(data)
        reply.keep_beginning()
        assert b"sk-s" not in reply.body, before


def test_a_credential_that_is_an_ordinary_word_changes_nothing_that_is_judged() -> None:
    body = b'{"object": "chat.completion"}'
    for key, seen in ((b"chat", body), (b"t", body), (b"sk-12345", body[:-1] + b', "********"}')):
        reply = request.Reply(0, STREAM, secret=key)
        sent = body if key in body else body[:-1] + b', "%s"}' % key
        data = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(sent), sent)
        reply.add(data, 1, 0)
        reply.message.feed(data)
        assert reply.body == seen


def test_chunks_are_bounded() -> None:
    message = Message()
    message.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(MAX_CHUNKS // 10_000 + 2):
        message.feed(b"1\r\nx\r\n" * 10_000)
    assert message.error == "more than 1,000,000 chunks"
