"""The faults that test_openai_sdk.py must notice."""

from __future__ import annotations

import asyncio
import base64
import functools
import json
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web

from ..hooks import Handler, Hooks
from ..refusals import JsonRefusal
from .answers import error_500, instead, never_answer, server_error
from .fault import Fault, Install
from .gateway_parts import GgufGateway
from .planting import around, on_events, on_gateway, stream_header
from .streams import (
    DONE,
    NOT_JSON,
    as_event,
    content,
    cut,
    error_event,
    flood,
    insert,
    no_content,
    no_done,
    payload,
    stall,
    with_content,
)

SDK = "test_openai_sdk.py"
BODY_PIECE = b'{"choices": [' + b" " * 65536
Fields = dict[str, Any]
HTML: Fields = {"text": "<html>welcome</html>", "content_type": "text/html"}
FLAT_ERROR: Fields = {"text": '{"error": "it went wrong"}', "content_type": "application/json"}


# --- answers that are not streamed


def change_answers(change: Callable[[Fields], object], where: str = "backend") -> Install:
    """Change every JSON answer in place; streams are not changed."""

    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        response = await handler(request)
        if not isinstance(response, web.Response) or not isinstance(response.body, bytes):
            return response
        fields = json.loads(response.body)
        change(fields)
        return web.json_response(fields, status=response.status)

    return around(where, wrapper)


def choice(fields: Fields) -> Fields:
    first: Fields = fields["choices"][0]
    return first


def empty_text(fields: Fields) -> None:
    choice(fields)["message"]["content"] = ""


def only_thoughts(fields: Fields) -> None:
    choice(fields)["message"] |= {"content": None, "reasoning_content": "Let me think."}


def no_role(fields: Fields) -> None:
    del choice(fields)["message"]["role"]


def no_finish_reason(fields: Fields) -> None:
    choice(fields)["finish_reason"] = None


def no_usage(fields: Fields) -> None:
    del fields["usage"]


def zero_usage(fields: Fields) -> None:
    fields["usage"] = dict.fromkeys(fields["usage"], 0)


def wrong_sum(fields: Fields) -> None:
    fields["usage"]["total_tokens"] += 1


def too_long(fields: Fields) -> None:
    fields["usage"]["completion_tokens"] += 1000
    fields["usage"]["total_tokens"] += 1000


def no_models(fields: Fields) -> None:
    fields["data"] = []


def nameless_models(fields: Fields) -> None:
    fields["data"] = [{"name": model["id"]} for model in fields["data"]]


def bare_models(fields: Fields) -> None:
    fields["data"] = [{"id": model["id"], "object": "model"} for model in fields["data"]]


def no_data(fields: Fields) -> None:
    fields["models"] = fields.pop("data")


def endless_body(gap_s: float) -> Install:
    """An answer whose body never ends: one byte after each gap, or much data without a gap."""

    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        while True:
            await response.write(b" " if gap_s else BODY_PIECE)
            await asyncio.sleep(gap_s)

    return around("backend", wrapper)


# --- streams


async def in_one_piece(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The first event with content has the content of all events."""
    found = [event async for event in stream]
    whole = "".join(content(payload(event)) for event in found)
    for event in found:
        if not content(payload(event)):
            yield event
        elif whole:
            yield with_content(payload(event), whole)
            whole = ""


async def changing_ids(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    number = 0
    async for event in stream:
        if fields := payload(event):
            number += 1
            event = as_event({**fields, "id": f"chatcmpl-{number}"})
        yield event


async def no_role_first(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for event in stream:
        if b'"role"' not in event:
            yield event


async def two_finish_reasons(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for event in stream:
        fields = payload(event)
        yield event
        if fields.get("choices") and choice(fields)["finish_reason"]:
            yield event


async def early_finish_reason(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The finish_reason is in the first event with content."""
    given = False
    async for event in stream:
        fields = payload(event)
        if fields.get("choices"):
            first = not given and bool(content(fields))
            given = given or first
            choice(fields)["finish_reason"] = "stop" if first else None
            event = as_event(fields)
        yield event


async def held_back(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield b"".join([event async for event in stream])


async def no_usage_event(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for event in stream:
        if not payload(event).get("usage"):
            yield event


async def usage_event_off(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for event in stream:
        fields = payload(event)
        if fields.get("usage"):
            wrong_sum(fields)
            event = as_event(fields)
        yield event


async def text_not_json(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield b"data: hello\n\n"
    yield DONE + b"\n\n"


# --- keys


Authorize = Callable[[web.BaseRequest], None]


def authorize(change: Callable[[web.BaseRequest, Authorize], None]) -> Install:
    """Another way to check keys. `change` gets the request and the original function."""

    def setup(gateway: GgufGateway) -> None:
        original = gateway.authorize
        gateway.authorize = lambda request: change(request, original)

    return on_gateway(setup)


def accept_any_key(request: web.BaseRequest, original: Authorize) -> None:
    if "Authorization" not in request.headers:
        original(request)


def accept_everything(request: web.BaseRequest, original: Authorize) -> None:
    """No key is needed, while /health says that authentication is enabled."""


def refuses_key(status: int) -> Install:
    """A wrong key is refused with this status."""

    def change(request: web.BaseRequest, original: Authorize) -> None:
        try:
            original(request)
        except JsonRefusal as refusal:
            refusal.status = status
            raise

    return authorize(change)


def plain_text_401(hooks: Hooks) -> None:
    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        response = await handler(request)
        refused = response.status == 401
        return web.Response(status=401, text="Unauthorized") if refused else response

    hooks.around["all"].append(wrapper)


# --- requests that the fault answers itself


def when(
    applies: Callable[[web.BaseRequest, Fields], bool], make: Callable[[Fields], Any]
) -> Install:
    """Requests for which `applies` is true get what `make` returns: a response or its JSON."""

    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        fields = json.loads(await request.read() or b"{}")
        if not applies(request, fields):
            return await handler(request)
        made = make(fields)
        return made if isinstance(made, web.StreamResponse) else web.json_response(made)

    return around("backend", wrapper)


def when_given(name: str, make: Callable[[Fields], Any]) -> Install:
    return when(lambda request, fields: name in fields, make)


def when_path(path: str, make: Callable[[Fields], Any]) -> Install:
    return when(lambda request, fields: request.path == path, make)


def when_text(make: Callable[[Fields], Any]) -> Install:
    return when(lambda request, fields: isinstance(fields.get("messages"), str), make)


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


def answer_until_stop(reason: str, keep: bool) -> Callable[[Fields], Fields]:
    """An answer that ends at the stop text; `keep` leaves the stop text in it."""

    def make(fields: Fields) -> Fields:
        text = "the sea keeps its time, wave after wave after wave"
        if fields.get("stop"):
            word = fields["stop"][0]
            text = text.partition(word)[0] + (word if keep else "")
        return completion(fields, {"content": text}, reason=reason)

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

    return when(lambda request, fields: request.path.endswith("/chat/completions"), make)


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


def one_model(make: Callable[[str], web.Response]) -> Install:
    """GET of one model gets what `make` returns for its name."""

    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        head, _, name = request.path.rpartition("/v1/models/")
        return make(name) if name and not head else await handler(request)

    return around("all", wrapper)


def list_models(*names: str) -> Callable[[Fields], None]:
    def change(fields: Fields) -> None:
        fields["data"] = [{**fields["data"][0], "id": name} for name in names]

    return change


def block_async_client(hooks: Hooks) -> None:
    """A filter that accepts the user agent OpenAI/… and refuses AsyncOpenAI/…."""

    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        blocked = request.headers.get("User-Agent", "").startswith("Async")
        return server_error() if blocked else await handler(request)

    hooks.around["backend"].append(wrapper)


# --- the rows


def row(check: str, name: str, breaks: str, install: Install, **more: Any) -> Fault:
    """Only the check that must notice the fault is run, to be quick."""
    arguments = ("--only", check, *more.pop("arguments", ()))
    return Fault(f"sdk-{name}", breaks, SDK, check, install, arguments=arguments, **more)


SHORT_TIMEOUT = {"arguments": ("--timeout", "2")}  # for faults that only a time-out ends
WARN = {"status": "WARN"}
SLOWER = {"options": {"itl_ms": 5}}  # so that a burst differs clearly from the normal pace

_completion = functools.partial(row, "completion")
_stream = functools.partial(row, "stream")
_usage = functools.partial(row, "usage")
_wire = functools.partial(row, "wire")
_models = functools.partial(row, "models")
_key = functools.partial(row, "wrong_key")
_bad = functools.partial(row, "bad_request")
_embeddings = functools.partial(row, "embeddings")
_tools = functools.partial(row, "tools")

CONTRACT_ROWS: tuple[Fault, ...] = (
    _completion("empty", "the answer has no content", change_answers(empty_text)),
    _completion(
        "only-thoughts",
        "the answer has only reasoning, no content",
        change_answers(only_thoughts),
        **WARN,
    ),
    _completion("no-role", "the message has no role", change_answers(no_role)),
    _completion("no-finish-reason", "finish_reason is null", change_answers(no_finish_reason)),
    _completion("no-usage", "the answer has no usage", change_answers(no_usage)),
    _completion("zero-usage", "usage says 0 tokens", change_answers(zero_usage)),
    _completion(
        "usage-sum", "total_tokens is not the sum of the others", change_answers(wrong_sum)
    ),
    _completion("too-long", "usage counts more tokens than max_tokens", change_answers(too_long)),
    _completion("html-200", "the answer is a 200 with an HTML page", instead("backend", **HTML)),
    _completion("500", "the answer is a 500", error_500("backend")),
    _completion(
        "hangs", "the request is never answered", around("backend", never_answer), **SHORT_TIMEOUT
    ),
    _completion(
        "trickles",
        "the answer never ends; a byte comes now and then",
        endless_body(0.2),
        **SHORT_TIMEOUT,
    ),
    _completion(
        "floods",
        "the answer never ends; much data comes",
        endless_body(0),
        arguments=("--timeout", "20"),
    ),
    _stream("one-piece", "one event has all the content", on_events(in_one_piece)),
    _stream("ids", "every chunk has another id", on_events(changing_ids)),
    _stream("no-role-first", "no delta of a stream has a role", on_events(no_role_first)),
    _stream(
        "two-finish-reasons",
        "a stream has two events with a finish_reason",
        on_events(two_finish_reasons),
    ),
    _stream(
        "early-finish", "content comes after the finish_reason", on_events(early_finish_reason)
    ),
    _stream("stream-cut", "the stream ends after a few tokens", on_events(cut)),
    _stream(
        "no-content", "a stream has a role and a finish_reason, but no text", on_events(no_content)
    ),
    _stream("error-event", "a stream with status 200 contains an error", on_events(error_event)),
    _stream("event-is-text", "an event of a stream is plain text", on_events(text_not_json)),
    _stream("stalls", "the stream is silent after a few tokens", on_events(stall), **SHORT_TIMEOUT),
    _stream(
        "flood",
        "the stream never ends; tokens come as fast as they can be read",
        on_events(flood),
        **SHORT_TIMEOUT,
    ),
    row(
        "pacing",
        "burst",
        "the whole stream is held back, then sent at once",
        on_events(held_back),
        **SLOWER,
    ),
    _usage("usage-ignored", "include_usage has no effect", on_events(no_usage_event)),
    _usage("usage-off", "the stream's usage does not add up", on_events(usage_event_off)),
    _wire("no-done", "streams have no [DONE]", on_events(no_done)),
    _wire(
        "content-type",
        "streams have the content type text/plain",
        stream_header("Content-Type", "text/plain"),
    ),
    _wire(
        "broken-event",
        "one event of a stream is not JSON",
        on_events(functools.partial(insert, NOT_JSON)),
    ),
    _wire("wire-error", "a stream with status 200 contains an error", on_events(error_event)),
    _models("no-models", "the model list is empty", change_answers(no_models, "models")),
    _models(
        "nameless", "the models of the list have no id", change_answers(nameless_models, "models")
    ),
    _models(
        "no-data", "the model list is not in the field 'data'", change_answers(no_data, "models")
    ),
    _models(
        "bare",
        "the models of the list have no created and no owned_by",
        change_answers(bare_models, "models"),
        **WARN,
    ),
    _models("models-html", "the model list is an HTML page", instead("models", **HTML)),
    _models("models-500", "the model list is a 500", error_500("models")),
    _models(
        "models-hang",
        "the model list is never answered",
        around("models", never_answer),
        **SHORT_TIMEOUT,
    ),
    _key(
        "any-key",
        "a request with any key is served; only a missing key is refused",
        authorize(accept_any_key),
    ),
    _key(
        "nobody-asks",
        "every request is served although /health says that a key is needed",
        authorize(accept_everything),
    ),
    _key("key-500", "a wrong key gets a 500", refuses_key(500)),
    _key("key-403", "a wrong key gets a 403", refuses_key(403)),
    _key("key-wordless", "the 401 for a wrong key is plain text", plain_text_401, **WARN),
    _bad("bad-500", "messages of the wrong type get a 500", when_text(failing)),
    _bad("bad-200", "messages of the wrong type get a 200", when_text(answer_text("Hello."))),
    _bad(
        "bad-html",
        "the 400 for a bad request is an HTML page",
        when_text(lambda _: web.Response(status=400, **HTML)),
    ),
    _bad(
        "bad-flat",
        "the error in the 400 for a bad request is a plain string",
        when_text(lambda _: web.Response(status=400, **FLAT_ERROR)),
    ),
)

OBJECT_ARGUMENTS = {"city": "Paris"}
PARIS = '{"city": "Paris"}'
ONES, ZEROS = [0.6, 0.8, 0.0], [0.0, 0.0, 0.0]
EMBEDDINGS = functools.partial(when_path, "/v1/embeddings")

CAPABILITY_ROWS: tuple[Fault, ...] = (
    _embeddings("zeros", "embeddings are all zero", EMBEDDINGS(embedding(ZEROS, ZEROS))),
    _embeddings(
        "base64",
        "an embedding in base64 is another vector",
        EMBEDDINGS(embedding(ONES, ONES[::-1])),
    ),
    _embeddings(
        "no-base64",
        "embeddings in base64, which the SDK asks for, get a 400",
        EMBEDDINGS(no_base64),
    ),
    _embeddings(
        "no-vectors",
        "the answer for embeddings is a 200 without a vector",
        EMBEDDINGS(lambda _: {"data": []}),
    ),
    row(
        "stop",
        "stop-kept",
        "the stop text is part of the answer",
        when_given("temperature", answer_until_stop("stop", True)),
    ),
    row(
        "stop",
        "stop-reason",
        "an answer that ends at the stop text has the finish_reason length",
        when_given("temperature", answer_until_stop("length", False)),
    ),
    row(
        "n",
        "n-alike",
        "both of two choices have the index 0",
        when_given("n", two_choices_with_index_0),
    ),
    row("seed", "seed-500", "a request with a seed gets a 500", when_given("seed", failing)),
    row(
        "logprobs",
        "logprobs-positive",
        "logprobs are above 0",
        when_given("logprobs", logprobs("the", " sea", value=0.5)),
    ),
    row(
        "logprobs",
        "logprobs-other",
        "logprobs have the tokens of another text",
        when_given("logprobs", logprobs("the", " land")),
    ),
    row(
        "json_object",
        "json-broken",
        "an answer in JSON mode is incomplete JSON",
        when_given("response_format", answer_text('{"sea": ')),
    ),
    row(
        "json_object",
        "json-fenced",
        "an answer in JSON mode is Markdown",
        when_given("response_format", answer_text("```json\n{}\n```")),
    ),
    row(
        "json_schema",
        "schema-violated",
        "the JSON of an answer violates the schema",
        when_given("response_format", answer_text('{"zorble": "blue"}')),
    ),
    _tools(
        "tools-not-streamed",
        "a whole answer has a tool call, a stream has none",
        tool_calls(PARIS, None),
    ),
    _tools(
        "tools-object",
        "the arguments of a tool call are an object instead of a string",
        tool_calls(OBJECT_ARGUMENTS, PARIS),
    ),
    _tools(
        "tools-cut",
        "the streamed arguments of a tool call are incomplete JSON",
        tool_calls(PARIS, '{"city": '),
    ),
    _tools("tools-no-index", "a streamed tool call has no index", tool_calls(PARIS, PARIS, None)),
    row(
        "unknown_model",
        "unknown-500",
        "a request for an unknown model gets a 500",
        when(lambda _, fields: str(fields.get("model")).startswith("no-such"), failing),
    ),
    row(
        "unknown_model",
        "fallback",
        "an unknown model is answered by another one; two are listed",
        change_answers(list_models("sim", "other"), "models"),
        **WARN,
    ),
    row(
        "retrieve",
        "retrieve-500",
        "retrieving a listed model gets a 500",
        one_model(failing),
    ),
    row(
        "retrieve",
        "retrieve-other",
        "retrieving a model gives another one",
        one_model(lambda _: web.json_response({"id": "other", "object": "model"})),
    ),
    row(
        "completions",
        "completions-shape",
        "a text completion has the shape of a chat completion",
        when_path("/v1/completions", answer_text("teeming with life")),
    ),
    row("async", "async-500", "the asynchronous client gets a 500", block_async_client),
)

ROWS: tuple[Fault, ...] = CONTRACT_ROWS + CAPABILITY_ROWS
