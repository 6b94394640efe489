"""What test_openai_sdk.py must notice."""

from __future__ import annotations

import asyncio
import base64
import functools
import json
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web

from ..hooks import Answer, Hooks
from .parts import (
    DONE,
    NOT_JSON,
    Fault,
    Install,
    around,
    as_event,
    content,
    cut,
    error_500,
    flood,
    header,
    insert,
    instead,
    never,
    no_content,
    no_done,
    on_events,
    only_error,
    payload,
    stall,
    with_content,
)

SDK = "test_openai_sdk.py"
PIECE = b'{"choices": [' + b" " * 65536
Fields = dict[str, Any]
HTML: Fields = {"text": "<html>welcome</html>", "content_type": "text/html"}
FLAT_ERROR: Fields = {"text": '{"error": "it went wrong"}', "content_type": "application/json"}


# --- answers that are not streamed


def answers(change: Callable[[Fields], object], where: str = "backend") -> Install:
    """Every JSON answer changed in place, streams left alone."""

    async def wrapper(answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
        response = await answer(request)
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


def pouring(gap_s: float) -> Install:
    """An answer whose body never ends: a trickle, or without a gap a flood."""

    async def wrapper(answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        while True:
            await response.write(b" " if gap_s else PIECE)
            await asyncio.sleep(gap_s)

    return around("backend", wrapper)


# --- streams


async def in_one_piece(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """All the content in the first event that has any."""
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
    """The finish_reason stands in the first event with content."""
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


def authorize(change: Callable[[Any, web.BaseRequest, Callable[..., None]], None]) -> Install:
    """Another way to look at keys: `change` gets the gateway, the request, the right way."""

    def setup(gateway: Any) -> None:
        proper = gateway._authorize
        gateway._authorize = lambda request: change(gateway, request, proper)

    return lambda hooks: hooks.setup.append(setup)


def any_key(gateway: Any, request: web.BaseRequest, proper: Callable[..., None]) -> None:
    if "Authorization" not in request.headers:
        proper(request)


def nobody_asks(gateway: Any, request: web.BaseRequest, proper: Callable[..., None]) -> None:
    """Everybody is let in, while /health says that authentication is enabled."""


def refusing(status: int) -> Install:
    """A wrong key is refused with this status."""

    def change(gateway: Any, request: web.BaseRequest, proper: Callable[..., None]) -> None:
        try:
            proper(request)
        except Exception as refusal:
            refusal.status = status  # type: ignore[attr-defined]
            raise

    return authorize(change)


def wordless_401(hooks: Hooks) -> None:
    async def wrapper(answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
        response = await answer(request)
        refused = response.status == 401
        return web.Response(status=401, text="Unauthorized") if refused else response

    hooks.around["all"].append(wrapper)


# --- requests that are answered by the fault


def when(
    asked: Callable[[web.BaseRequest, Fields], bool], make: Callable[[Fields], Any]
) -> Install:
    """Where `asked` says so, the answer is what `make` gives: a response, or its JSON."""

    async def wrapper(answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
        fields = json.loads(await request.read() or b"{}")
        if not asked(request, fields):
            return await answer(request)
        made = make(fields)
        return made if isinstance(made, web.StreamResponse) else web.json_response(made)

    return around("backend", wrapper)


def when_given(name: str, make: Callable[[Fields], Any]) -> Install:
    return when(lambda request, fields: name in fields, make)


def when_path(path: str, make: Callable[[Fields], Any]) -> Install:
    return when(lambda request, fields: request.path == path, make)


def when_text(make: Callable[[Fields], Any]) -> Install:
    return when(lambda request, fields: isinstance(fields.get("messages"), str), make)


def broken(_fields: Fields) -> web.Response:
    error = {"message": "planted", "type": "server_error", "code": "internal_error"}
    return web.json_response({"error": error}, status=500)


def completion(fields: Fields, *messages: Fields, reason: str = "stop", **more: Any) -> Fields:
    """A whole answer with these messages, one a choice."""
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


def saying(text: str, reason: str = "stop", **more: Any) -> Callable[[Fields], Fields]:
    return lambda fields: completion(fields, {"content": text}, reason=reason, **more)


def with_stop(reason: str, keep: bool) -> Callable[[Fields], Fields]:
    """Ends at the stop text, which stays in the answer if `keep`, for this reason."""

    def make(fields: Fields) -> Fields:
        text = "the sea keeps its time, wave after wave after wave"
        if fields.get("stop"):
            word = fields["stop"][0]
            text = text.partition(word)[0] + (word if keep else "")
        return completion(fields, {"content": text}, reason=reason)

    return make


def two_alike(fields: Fields) -> Fields:
    return completion(fields, {"content": "one"}, {"content": "two"})


def logprobs(*tokens: str, value: float = -0.5) -> Callable[[Fields], Fields]:
    top = [{"token": "a", "logprob": -0.5, "bytes": None}] * 2
    found = [{"token": t, "logprob": value, "bytes": None, "top_logprobs": top} for t in tokens]
    return saying("the sea", logprobs={"content": found})


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
        body = {"error": {"message": "encoding_format must be float", "type": "bad", "code": 400}}
        return web.json_response(body, status=400)
    return embedding([0.1, 0.2], [])(fields)


def tool_calls(arguments: Any, streamed: str | None, index: int | None = 0) -> Install:
    """A call with these arguments, in the stream with others; None: only text there."""

    def call(value: Any) -> Fields:
        return {
            "id": "call_1",
            "type": "function",
            "function": {"name": "get_weather", "arguments": value},
        }

    def make(fields: Fields) -> Any:
        if not fields.get("tools"):
            return saying("Sunny.")(fields)
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


def models_path(make: Callable[[str], web.Response]) -> Install:
    """GET of one model, answered by `make` with its name."""

    async def wrapper(answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
        head, _, name = request.path.rpartition("/v1/models/")
        return make(name) if name and not head else await answer(request)

    return around("all", wrapper)


def listing(*names: str) -> Callable[[Fields], None]:
    def change(fields: Fields) -> None:
        fields["data"] = [{**fields["data"][0], "id": name} for name in names]

    return change


def async_is_blocked(hooks: Hooks) -> None:
    """A filter that knows the user agent OpenAI/… and no other."""

    async def wrapper(answer: Answer, request: web.BaseRequest) -> web.StreamResponse:
        blocked = request.headers.get("User-Agent", "").startswith("Async")
        return broken({}) if blocked else await answer(request)

    hooks.around["backend"].append(wrapper)


# --- the rows


def row(check: str, name: str, breaks: str, install: Install, **more: Any) -> Fault:
    """Only the check that must notice is run, to be quick."""
    arguments = ("--only", check, *more.pop("arguments", ()))
    return Fault(f"sdk-{name}", breaks, SDK, check, install, arguments=arguments, **more)


SHORT = {"arguments": ("--timeout", "2")}  # for faults that only a time-out ends
WARN = {"status": "WARN"}
SLOWER = {"options": {"itl_ms": 5}}  # a burst is told from a rhythm that one can see

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
    _completion("empty", "the answer has no content", answers(empty_text)),
    _completion("only-thoughts", "all tokens went into thoughts", answers(only_thoughts), **WARN),
    _completion("no-role", "the message has no role", answers(no_role)),
    _completion("no-finish-reason", "finish_reason is null", answers(no_finish_reason)),
    _completion("no-usage", "the answer has no usage", answers(no_usage)),
    _completion("zero-usage", "usage counts nothing", answers(zero_usage)),
    _completion("usage-sum", "total_tokens is not the sum", answers(wrong_sum)),
    _completion("too-long", "more tokens than max_tokens", answers(too_long)),
    _completion("html-200", "200 with an HTML page", instead("backend", **HTML)),
    _completion("500", "the engine's answer is a 500", error_500("backend")),
    _completion("hangs", "no answer at all", around("backend", never), **SHORT),
    _completion("trickles", "a byte now and then, for ever", pouring(0.2), **SHORT),
    _completion("floods", "an answer without end", pouring(0), arguments=("--timeout", "20")),
    _stream("one-piece", "all content in one event", on_events(in_one_piece)),
    _stream("ids", "every chunk has an id of its own", on_events(changing_ids)),
    _stream("no-role-first", "no delta has a role", on_events(no_role_first)),
    _stream("two-finish-reasons", "finish_reason comes twice", on_events(two_finish_reasons)),
    _stream("early-finish", "content after finish_reason", on_events(early_finish_reason)),
    _stream("stream-cut", "the stream just ends", on_events(cut)),
    _stream("no-content", "role and finish_reason, no text", on_events(no_content)),
    _stream("error-event", "an error inside the 200 stream", on_events(only_error)),
    _stream("event-is-text", "an event is no JSON at all", on_events(text_not_json)),
    _stream("stalls", "silence after a few tokens", on_events(stall), **SHORT),
    _stream("flood", "tokens for ever, in a flood", on_events(flood), **SHORT),
    row(
        "pacing",
        "burst",
        "the stream is held back, then sent whole",
        on_events(held_back),
        **SLOWER,
    ),
    _usage("usage-ignored", "include_usage has no effect", on_events(no_usage_event)),
    _usage("usage-off", "the stream's usage does not add up", on_events(usage_event_off)),
    _wire("no-done", "the stream lacks its [DONE]", on_events(no_done)),
    _wire("content-type", "a stream called text/plain", header("Content-Type", "text/plain")),
    _wire("broken-event", "one event is no JSON", on_events(functools.partial(insert, NOT_JSON))),
    _wire("wire-error", "an error inside the 200 stream", on_events(only_error)),
    _models("no-models", "the model list is empty", answers(no_models, "models")),
    _models("nameless", "models without an id", answers(nameless_models, "models")),
    _models("no-data", "the list is not in 'data'", answers(no_data, "models")),
    _models("bare", "no created, no owned_by", answers(bare_models, "models"), **WARN),
    _models("models-html", "the model list is a page", instead("models", **HTML)),
    _models("models-500", "the model list is a 500", error_500("models")),
    _models("models-hang", "no model list at all", around("models", never), **SHORT),
    _key("any-key", "a wrong key is served, none is not", authorize(any_key)),
    _key("nobody-asks", "all are served, /health says otherwise", authorize(nobody_asks)),
    _key("key-500", "a wrong key gives 500", refusing(500)),
    _key("key-403", "a wrong key gives 403", refusing(403)),
    _key("key-wordless", "a 401 in plain text", wordless_401, **WARN),
    _bad("bad-500", "messages of the wrong type: 500", when_text(broken)),
    _bad("bad-200", "messages of the wrong type: 200", when_text(saying("Hello."))),
    _bad(
        "bad-html", "400 with an HTML page", when_text(lambda _: web.Response(status=400, **HTML))
    ),
    _bad(
        "bad-flat",
        "400, error is a plain string",
        when_text(lambda _: web.Response(status=400, **FLAT_ERROR)),
    ),
)

OBJECT_ARGUMENTS = {"city": "Paris"}
PARIS = '{"city": "Paris"}'
ONES, ZEROS = [0.6, 0.8, 0.0], [0.0, 0.0, 0.0]
EMBEDDINGS = functools.partial(when_path, "/v1/embeddings")

CAPABILITY_ROWS: tuple[Fault, ...] = (
    _embeddings("zeros", "embeddings are all zero", EMBEDDINGS(embedding(ZEROS, ZEROS))),
    _embeddings("base64", "base64 is another vector", EMBEDDINGS(embedding(ONES, ONES[::-1]))),
    _embeddings("no-base64", "what the SDK asks for is a 400", EMBEDDINGS(no_base64)),
    _embeddings("no-vectors", "200 without any vector", EMBEDDINGS(lambda _: {"data": []})),
    row(
        "stop",
        "stop-kept",
        "the stop text is in the answer",
        when_given("temperature", with_stop("stop", True)),
    ),
    row(
        "stop",
        "stop-reason",
        "stopped, but called length",
        when_given("temperature", with_stop("length", False)),
    ),
    row("n", "n-alike", "two choices, both index 0", when_given("n", two_alike)),
    row("seed", "seed-500", "a seed is a 500", when_given("seed", broken)),
    row(
        "logprobs",
        "logprobs-positive",
        "logprobs above 0",
        when_given("logprobs", logprobs("the", " sea", value=0.5)),
    ),
    row(
        "logprobs",
        "logprobs-other",
        "tokens of another text",
        when_given("logprobs", logprobs("the", " land")),
    ),
    row(
        "json_object",
        "json-broken",
        "JSON mode gives half a JSON",
        when_given("response_format", saying('{"sea": ')),
    ),
    row(
        "json_object",
        "json-fenced",
        "JSON mode gives Markdown",
        when_given("response_format", saying("```json\n{}\n```")),
    ),
    row(
        "json_schema",
        "schema-violated",
        "JSON beside the schema",
        when_given("response_format", saying('{"zorble": "blue"}')),
    ),
    _tools("tools-not-streamed", "a call, but none in the stream", tool_calls(PARIS, None)),
    _tools("tools-object", "arguments are an object", tool_calls(OBJECT_ARGUMENTS, PARIS)),
    _tools("tools-cut", "streamed arguments are half a JSON", tool_calls(PARIS, '{"city": ')),
    _tools("tools-no-index", "a tool delta without an index", tool_calls(PARIS, PARIS, None)),
    row(
        "unknown_model",
        "unknown-500",
        "an unknown model is a 500",
        when(lambda _, fields: str(fields.get("model")).startswith("no-such"), broken),
    ),
    row(
        "unknown_model",
        "fallback",
        "another model answers, of two",
        answers(listing("sim", "other"), "models"),
        **WARN,
    ),
    row("retrieve", "retrieve-500", "a listed model is a 500", models_path(lambda _: broken({}))),
    row(
        "retrieve",
        "retrieve-other",
        "another model is retrieved",
        models_path(lambda _: web.json_response({"id": "other", "object": "model"})),
    ),
    row(
        "completions",
        "completions-shape",
        "chat's shape for a text completion",
        when_path("/v1/completions", saying("teeming with life")),
    ),
    row("async", "async-500", "the asynchronous client is refused", async_is_blocked),
)

ROWS: tuple[Fault, ...] = CONTRACT_ROWS + CAPABILITY_ROWS
