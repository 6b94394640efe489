"""Text that is not the answer, and unclear ends, which test_openai_sdk.py must notice."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from aiohttp import web

from . import stream_texts as texts
from .answers import change_json
from .completions import Fields, chunk_of, completion, when_given
from .conditions import every, only
from .fault import Fault, Install
from .openai_sdk import change_answers, choice, finished, row
from .openai_sdk_failures import now_and_then
from .planting import on_events
from .streams import DONE, change_chunks, finish

ARGUMENTS = ('{"ci', 'ty": ', '"Paris"}')


def as_parts(fields: Fields) -> None:
    message = choice(fields)["message"]
    message["content"] = texts.as_parts(message["content"])


def twice(fields: Fields) -> None:
    message = choice(fields)["message"]
    message["reasoning_content"] = message["content"]


def call_in_pieces(pieces: Sequence[str], every_name: bool = False) -> Install:
    """A tool call whose arguments come in these pieces; `every_name`: its name in each of them."""

    def make(fields: Fields) -> Fields | web.Response:
        name = {"name": "get_weather"}
        call: Fields = {"id": "call_1", "type": "function"}
        if not fields.get("stream"):
            whole = {**call, "function": {**name, "arguments": "".join(ARGUMENTS)}}
            return completion(fields, {"content": None, "tool_calls": [whole]}, reason="tool_calls")
        first = {"index": 0, **call, "function": {**name, "arguments": ""}}
        deltas: list[Fields] = [{"role": "assistant", "tool_calls": [first]}]
        for piece in pieces:
            function = {"arguments": piece, **(name if every_name else {})}
            deltas.append({"tool_calls": [{"index": 0, "function": function}]})
        body = b"".join(chunk_of(fields, delta) for delta in deltas)
        body += chunk_of(fields, {}, "tool_calls") + DONE + b"\n\n"
        return web.Response(body=body, content_type="text/event-stream")

    return when_given("tools", make)


def counts_prompt_twice(fields: Fields) -> None:
    if usage := fields.get("usage"):
        usage["total_tokens"] += usage["prompt_tokens"]
        usage["prompt_tokens"] *= 2


_stream = functools.partial(row, "stream")
_completion = functools.partial(row, "completion")
_same = functools.partial(row, "same_text")
_tools = functools.partial(row, "tools")
WARN = {"status": "WARN"}

ROWS: tuple[Fault, ...] = (
    row(
        "usage",
        "usage-prompt-twice",
        "streams count the prompt twice, whole answers once",
        on_events(change_chunks(counts_prompt_twice)),
        status="WARN",
        arguments=("completion",),
    ),
    _stream(
        "cumulative",
        "each event of a stream has all the text before it once more",
        on_events(texts.cumulative),
    ),
    _stream(
        "text-again",
        "the last event with text has the whole text once more",
        on_events(texts.whole_text_last),
    ),
    _stream("events-twice", "each event with text comes twice", on_events(texts.each_twice)),
    _stream(
        "thoughts-too",
        "the text of a stream is in its content and in its reasoning_content",
        on_events(texts.as_thoughts_too),
    ),
    _stream(
        "reason-everywhere",
        "each event of a stream has the finish_reason stop",
        on_events(texts.reason_everywhere),
    ),
    _stream(
        "reason-changes",
        "streams end with the finish_reason stop, then with length",
        on_events(texts.ends_with("stop", "length")),
    ),
    row(
        "wire",
        "content-parts",
        "the content of events is a list of parts",
        on_events(texts.content_as(texts.as_parts)),
    ),
    row(
        "async",
        "async-cumulative",
        "each event of a stream has all the text before it once more",
        on_events(texts.cumulative),
    ),
    _completion(
        "parts-whole", "the content of the answer is a list of parts", change_answers(as_parts)
    ),
    _completion(
        "error-whole", "the answer has the finish_reason error", change_answers(finished("error"))
    ),
    _completion(
        "empty-reason", "the answer has an empty finish_reason", change_answers(finished(""))
    ),
    _completion(
        "thoughts-copied-whole",
        "the content of the answer is the same text as its thoughts",
        change_answers(twice),
        **WARN,
    ),
    _same("text-lost", "a stream loses every third piece", on_events(texts.without_text(1, 3))),
    _same("first-lost", "a stream loses its first piece", on_events(texts.without_text(0))),
    _same("end-lost", "a stream loses its last piece", on_events(texts.without_last_text)),
    _same(
        "spaces-stripped",
        "a stream loses the white space around each piece",
        on_events(texts.with_texts(str.strip)),
    ),
    _same(
        "other-text",
        "a stream says something else than a whole answer",
        on_events(texts.with_texts(str.upper)),
    ),
    _same("piece-doubled", "a stream has each piece twice", on_events(texts.each_twice)),
    _same(
        "other-end",
        "a stream has another finish_reason than the same whole answer",
        on_events(finish("stop")),
    ),
    _tools(
        "arguments-cumulative",
        "each delta of a tool call has all the arguments before it once more",
        call_in_pieces([ARGUMENTS[0], "".join(ARGUMENTS[:2]), "".join(ARGUMENTS)]),
    ),
    _tools(
        "name-again",
        "each delta of a tool call has its name",
        call_in_pieces(ARGUMENTS, every_name=True),
    ),
    now_and_then(
        "some-given-up",
        "one answer in five has the finish_reason error",
        only(every(5), change_json("backend", finished("error"))),
    ),
)
