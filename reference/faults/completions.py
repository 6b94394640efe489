"""Completions that faults make themselves, instead of the engine: whole ones and streams."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Sequence
from typing import Any

from aiohttp import web

from ..hooks import Handler
from ..refusals import JsonRefusal
from .answers import server_error
from .conditions import Asked, Condition, given, on_path, only
from .fault import Install
from .planting import around
from .streams import DONE, as_event

Fields = dict[str, Any]

# --- requests that the fault answers itself


def when(condition: Condition, make: Callable[[Fields], Any]) -> Install:
    """Requests for which the condition is true get what `make` returns: a response or its JSON."""

    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        made = make(json.loads(await request.read() or b"{}"))
        return made if isinstance(made, web.StreamResponse) else web.json_response(made)

    return only(condition, around("backend", wrapper))


def when_given(name: str, make: Callable[[Fields], Any]) -> Install:
    return when(given(name), make)


def when_path(path: str, make: Callable[[Fields], Any]) -> Install:
    return when(on_path(path), make)


def when_text(make: Callable[[Fields], Any]) -> Install:
    return when(lambda asked: isinstance(asked.fields.get("messages"), str), make)


def failing(_: object) -> web.Response:
    return server_error()


def completion(fields: Fields, *messages: Fields, reason: str = "stop", **more: Any) -> Fields:
    """A whole answer with these messages, one for each choice."""
    choices = [
        {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason, **more}
        for message in messages
    ]
    usage = {"prompt_tokens": 12, "completion_tokens": 1, "total_tokens": 13}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": fields.get("model"),
        "choices": choices,
        "usage": usage,
    }


def answer_text(text: str, reason: str = "stop", **more: Any) -> Callable[[Fields], Fields]:
    return lambda fields: completion(fields, {"content": text}, reason=reason, **more)


def answer_until_stop(
    reason: str, keep: bool, in_streams: bool = True
) -> Callable[[Fields], Fields | web.Response]:
    """An answer that ends at the stop text; `keep` leaves the stop text in it. `in_streams`: they
    end there as well."""

    def make(fields: Fields) -> Fields | web.Response:
        text = "the sea keeps its time, wave after wave after wave"
        is_stream = bool(fields.get("stream"))
        if fields.get("stop") and (in_streams or not is_stream):
            word = fields["stop"][0]
            text = text.partition(word)[0] + (word if keep else "")
        said = {"role": "assistant", "content": text}
        if is_stream:
            return as_stream({**fields, "delta": said, "reason": reason})
        return completion(fields, said, reason=reason)

    return make


def two_choices_with_index_0(fields: Fields) -> Fields:
    return completion(fields, {"content": "one"}, {"content": "two"})


def logprobs(*tokens: str, value: float = -0.5) -> Callable[[Fields], Fields]:
    top = [{"token": "a", "logprob": -0.5, "bytes": None}] * 2
    found = [{"token": t, "logprob": value, "bytes": None, "top_logprobs": top} for t in tokens]
    return answer_text("the sea", logprobs={"content": found})


Vector = list[float]


def embedding(as_floats: Vector, as_base64: Vector) -> Callable[[Fields], Fields]:
    def make(fields: Fields) -> Fields:
        vector: Any = as_floats
        if fields.get("encoding_format") == "base64":
            packed = struct.pack(f"<{len(as_base64)}f", *as_base64)
            vector = base64.b64encode(packed).decode()
        data = [{"object": "embedding", "index": 0, "embedding": vector}]
        usage = {"prompt_tokens": 3, "total_tokens": 3}
        return {"object": "list", "data": data, "model": "sim", "usage": usage}

    return make


def no_base64(fields: Fields) -> Any:
    if fields.get("encoding_format") == "base64":
        return JsonRefusal(400, "encoding_format must be float", "bad", 400).response()
    return embedding([0.1, 0.2], [])(fields)


def tool_calls(arguments: Any, streamed: str | None, index: int | None = 0) -> Install:
    """An answer with a tool call that has these arguments.

    streamed: the arguments in a stream; None: the stream has text and no call.
    index: the index of the call in a stream; None leaves it out.
    """

    def call(value: Any) -> Fields:
        return {
            "id": "call_1",
            "type": "function",
            "function": {"name": "get_weather", "arguments": value},
        }

    def make(fields: Fields) -> Any:
        if not fields.get("tools"):
            return answer_text("Sunny.")(fields)
        if not fields.get("stream"):
            message = {"content": None, "tool_calls": [call(arguments)]}
            return completion(fields, message, reason="tool_calls")
        delta: Fields = {"role": "assistant", "content": "Sunny."}
        if streamed is not None:
            place = {} if index is None else {"index": index}
            delta = {"role": "assistant", "tool_calls": [{**place, **call(streamed)}]}
        reason = "stop" if streamed is None else "tool_calls"
        return as_stream({**fields, "delta": delta, "reason": reason})

    return when_path("/v1/chat/completions", make)


def as_stream(fields: Fields) -> web.Response:
    envelope = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": fields["model"],
    }
    parts: tuple[tuple[Fields, str | None], ...]
    parts = ((fields["delta"], None), ({}, fields["reason"]))
    body = b""
    for delta, reason in parts:
        one = {"index": 0, "delta": delta, "finish_reason": reason}
        body += as_event({**envelope, "choices": [one]})
    return web.Response(body=body + DONE + b"\n\n", content_type="text/event-stream")


# --- characters of several bytes


LINE = "\N{MELTING FACE} \u9f9c \N{EM DASH} \u00e9"  # what the check wants to be written
Pieces = Callable[[str], Sequence[str | bytes]]


def is_line_asked(asked: Asked) -> bool:
    return LINE in json.dumps(asked.fields.get("messages"), ensure_ascii=False)


def writes_line(whole: str = LINE, pieces: Pieces = list) -> Install:
    """An engine that writes the line, whole as `whole` and as a stream in these pieces of it.

    A piece as bytes is put into the JSON as it is.
    """

    def make(fields: Fields) -> Any:
        if not fields.get("stream"):
            return completion(fields, {"content": whole})
        events = [chunk_of(fields, {"role": "assistant", "content": ""})]
        events += [chunk_of(fields, {"content": piece}) for piece in pieces(LINE)]
        events.append(chunk_of(fields, {}, "stop"))
        body = b"".join(events) + DONE + b"\n\n"
        return web.Response(body=body, content_type="text/event-stream")

    return when(is_line_asked, make)


def chunk_of(fields: Fields, delta: Fields, reason: str | None = None) -> bytes:
    raw = delta.get("content")
    if isinstance(raw, bytes):
        return chunk_of(fields, {"content": "@@"}).replace(b"@@", raw)
    one = {"index": 0, "delta": delta, "finish_reason": reason}
    envelope = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1}
    return as_event({**envelope, "model": fields.get("model"), "choices": [one]})


def as_json(line: str) -> str:
    """The answer that the check's schema demands."""
    return json.dumps({"text": line}, ensure_ascii=False)


def without_spaces(line: str) -> list[str]:
    return list(as_json(line.replace(" ", "")))


def end_twice(line: str) -> list[str]:
    return [*as_json(line), as_json(line)[-6:]]


def byte_by_byte(line: str) -> list[str]:
    """Each token becomes text by itself, so that half a character is lost twice."""
    code = line.encode()
    return [code[i : i + 2].decode(errors="replace") for i in range(0, len(code), 2)]


def raw_halves(line: str) -> list[bytes]:
    """Bytes that are not UTF-8: each character is cut into two events."""
    code = line.encode()
    return [code[:2], code[2:]]


def surrogates(line: str) -> list[bytes]:
    return [b"\\ud83e", b"\\udee0", json.dumps(line[1:])[1:-1].encode()]


def as_latin_1(line: str) -> list[str]:
    return [line.encode().decode("latin-1")]


def as_ascii(line: str) -> list[str]:
    return ["".join(char for char in line if char.isascii())]


def as_question_marks(line: str) -> list[str]:
    return [line.encode("ascii", "replace").decode()]


def twice_escaped(line: str) -> list[str]:
    return [json.dumps(line)[1:-1]]
