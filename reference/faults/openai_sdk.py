"""The faults that test_openai_sdk.py must notice."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web

from ..hooks import Handler, Hooks
from ..refusals import JsonRefusal
from .answers import (
    APP,
    DETAIL_200,
    change_json,
    error_500,
    instead,
    json_200,
    never_answer,
)
from .completions import (
    LINE,
    Fields,
    answer_text,
    answer_until_stop,
    as_ascii,
    as_json,
    as_latin_1,
    as_question_marks,
    byte_by_byte,
    embedding,
    end_twice,
    failing,
    logprobs,
    no_base64,
    raw_halves,
    surrogates,
    tool_calls,
    twice_escaped,
    two_choices_with_index_0,
    when,
    when_given,
    when_path,
    when_text,
    without_spaces,
    writes_line,
)
from .conditions import (
    header_has,
    only,
    streams,
)
from .fault import Fault, Install
from .gateway_parts import GgufGateway
from .planting import around, on_events, on_gateway, stream_header
from .progress import IN_EVERY_STREAM
from .streams import (
    DONE,
    NOT_JSON,
    Events,
    as_event,
    change_chunks,
    changing_ids,
    compressed,
    content,
    cut,
    error_event,
    error_in_named_event,
    finish,
    flood,
    in_groups,
    insert,
    last_without_delta,
    model_changes,
    named_chunks,
    no_content,
    no_done,
    payload,
    set_field,
    set_in_choice,
    stall,
    usage_has_own_id,
    usage_is_a_number,
    usage_with_bare_choice,
    usage_with_null_choices,
    usage_without_choices,
    with_content,
    with_pings,
    without_field,
    without_in_choice,
)
from .thinking import HIDDEN_THOUGHTS, SHOWN_THOUGHTS

SDK = "test_openai_sdk.py"
BODY_PIECE = b'{"choices": [' + b" " * 65536
HTML: Fields = {"text": "<html>welcome</html>", "content_type": "text/html"}
FLAT_ERROR: Fields = {"text": '{"error": "it went wrong"}', "content_type": "application/json"}


# --- answers that are not streamed


def change_answers(change: Callable[[Fields], object]) -> Install:
    return change_json("backend", change)


def choice(fields: Fields) -> Fields:
    first: Fields = fields["choices"][0]
    return first


def empty_text(fields: Fields) -> None:
    choice(fields)["message"]["content"] = ""


def end_at_once(fields: Fields) -> None:
    for each in fields.get("choices", ()):
        each |= {"message": {"role": "assistant", "content": ""}, "finish_reason": "stop"}


def only_thoughts(fields: Fields) -> None:
    choice(fields)["message"] |= {"content": None, "reasoning_content": "Let me think."}


def no_role(fields: Fields) -> None:
    del choice(fields)["message"]["role"]


def no_finish_reason(fields: Fields) -> None:
    choice(fields)["finish_reason"] = None


def without(name: str) -> Callable[[Fields], object]:
    """Take a field out of an answer."""
    return lambda fields: fields.pop(name, None)


def with_value(name: str, value: object) -> Callable[[Fields], object]:
    return lambda fields: fields.update({name: value})


def finished(reason: str) -> Callable[[Fields], object]:
    return lambda fields: choice(fields).update(finish_reason=reason)


def no_index(fields: Fields) -> None:
    del choice(fields)["index"]


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


def accept_no_key(request: web.BaseRequest, original: Authorize) -> None:
    if "Authorization" in request.headers:
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


def refuses_text(status: int, message: str = "it went wrong") -> Install:
    """Messages that are a string are refused with this status and these words."""
    error = {"message": message, "type": "error", "code": None}
    return when_text(lambda _: web.json_response({"error": error}, status=status))


def plain_text_401(hooks: Hooks) -> None:
    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        response = await handler(request)
        refused = response.status == 401
        return web.Response(status=401, text="Unauthorized") if refused else response

    hooks.around["all"].append(wrapper)


# --- models


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

# Streams that the SDK reads without a word, and clients of other languages do not.
FORMS: tuple[tuple[str, str, Callable[[Events], Events]], ...] = (
    ("no-object", "the chunks of a stream have no object", without_field("object")),
    (
        "whole-object",
        "the object of chunks is that of a whole answer",
        set_field("object", "chat.completion"),
    ),
    ("no-created", "the chunks of a stream have no created", without_field("created")),
    ("created-float", "created is a number with a fraction", set_field("created", 1700000000.5)),
    ("created-text", "created is a text", set_field("created", "2026-01-01")),
    ("no-model", "the chunks of a stream have no model", without_field("model")),
    ("no-id", "the chunks of a stream have no id", without_field("id")),
    ("id-number", "the id of chunks is a number", set_field("id", 7)),
    ("no-index", "the choices of a stream have no index", without_in_choice("index")),
    ("index-text", "the index of a choice is a text", set_in_choice("index", "0")),
    ("delta-null", "the last delta of a stream is null", change_chunks(last_without_delta)),
    ("no-delta", "choices of a stream have no delta", without_in_choice("delta")),
    ("usage-number", "usage is a number", change_chunks(usage_is_a_number)),
    (
        "finish-empty",
        "finish_reason is an empty text in every chunk",
        set_in_choice("finish_reason", ""),
    ),
    ("finish-unknown", "streams end with the finish_reason abort", finish("abort")),
)

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
    _completion(
        "chunk-object",
        "the object of a whole answer is that of a chunk",
        change_answers(with_value("object", "chat.completion.chunk")),
    ),
    _completion(
        "no-created-whole", "the answer has no created", change_answers(without("created"))
    ),
    _completion(
        "created-text-whole",
        "created is a text",
        change_answers(with_value("created", "2026-01-01")),
    ),
    _completion("no-id-whole", "the answer has no id", change_answers(without("id"))),
    _completion("no-index-whole", "the choice has no index", change_answers(no_index)),
    _completion(
        "given-up", "the answer has the finish_reason abort", change_answers(finished("abort"))
    ),
    _completion(
        "eos", "the answer has the finish_reason eos", change_answers(finished("eos")), **WARN
    ),
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
    _stream(
        "refused-in-200",
        "a stream is a 200 whose event stream is the JSON of a framework's error",
        only(streams, DETAIL_200),
    ),
    _usage(
        "usage-id", "the chunk with the usage has an id of its own", on_events(usage_has_own_id)
    ),
    _stream("no-role-first", "no delta of a stream has a role", on_events(no_role_first)),
    _stream(
        "two-finish-reasons",
        "a stream has two events with the same finish_reason",
        on_events(two_finish_reasons),
        **WARN,
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
    *(_wire(name, breaks, on_events(change)) for name, breaks, change in FORMS),
    _wire("finish-eos", "streams end with the finish_reason eos", on_events(finish("eos")), **WARN),
    _wire(
        "model-changes",
        "a stream begins with one model and ends with another",
        on_events(model_changes),
        **WARN,
    ),
    _wire("progress", "a stream begins with a place in a queue", IN_EVERY_STREAM, **WARN),
    _stream(
        "progress-in-sdk",
        "the SDK reads a place in a queue first",
        IN_EVERY_STREAM,
        **WARN,
    ),
    _stream("thoughts", "all tokens of a stream are thoughts", SHOWN_THOUGHTS, **WARN),
    _completion(
        "hidden-thoughts", "all tokens are thoughts that are not shown", HIDDEN_THOUGHTS, **WARN
    ),
    _wire("pings", "a stream has events of the name ping", on_events(with_pings), **WARN),
    _stream(
        "pings-in-sdk",
        "the SDK takes the pings of a stream for chunks",
        on_events(with_pings),
        **WARN,
    ),
    _wire(
        "named-chunks",
        "the chunks of a stream are events with a name",
        on_events(named_chunks),
        **WARN,
    ),
    _wire(
        "named-error",
        "the error in a stream is an event with a name of its own",
        on_events(error_in_named_event),
    ),
    _usage(
        "usage-no-choices",
        "the chunk with the usage has no choices",
        on_events(change_chunks(usage_without_choices)),
    ),
    _usage(
        "usage-null-choices",
        "the choices of the chunk with the usage are null",
        on_events(change_chunks(usage_with_null_choices)),
    ),
    _usage(
        "usage-bare-choice",
        "the chunk with the usage has a choice with nothing in it",
        on_events(change_chunks(usage_with_bare_choice)),
    ),
    _stream(
        "finish-given-up", "streams end with the finish_reason abort", on_events(finish("abort"))
    ),
    _wire("wire-error", "a stream with status 200 contains an error", on_events(error_event)),
    _models("no-models", "the model list is empty", change_json("models", no_models)),
    _models(
        "nameless", "the models of the list have no id", change_json("models", nameless_models)
    ),
    _models("no-data", "the model list is not in the field 'data'", change_json("models", no_data)),
    _models(
        "bare",
        "the models of the list have no created and no owned_by",
        change_json("models", bare_models),
        **WARN,
    ),
    _models("models-html", "the model list is an HTML page", instead("models", **HTML)),
    _models(
        "models-app", "the model list is the page of a web application", instead("models", **APP)
    ),
    _models("models-text", "the model list is a JSON text", json_200("models", "it is away")),
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
    _key(
        "no-key",
        "a wrong key is refused, a request without any key is served",
        authorize(accept_no_key),
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
    *(
        _bad(f"bad-{status}", f"messages of the wrong type get a {status}", refuses_text(status))
        for status in (401, 403, 404, 405, 409, 413, 415, 431)
    ),
    _bad(
        "bad-key-words",
        "the 400 for messages of the wrong type is about the key",
        refuses_text(400, "Invalid API key"),
    ),
    _bad(
        "bad-permission-words",
        "the 400 for messages of the wrong type says that permission is denied",
        refuses_text(400, "Permission denied"),
    ),
    _bad(
        "bad-limit-words",
        "the 422 for messages of the wrong type is about a limit",
        refuses_text(422, "Too many requests, slow down"),
    ),
    _bad(
        "bad-model-words",
        "the 400 for messages of the wrong type says that there is no such model",
        refuses_text(400, "The model `smollm2` does not exist"),
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
        "stop",
        "stop-not-in-streams",
        "streams go on after the stop text, whole answers end there",
        when_given("temperature", answer_until_stop("stop", False, in_streams=False)),
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
        when(lambda asked: str(asked.fields.get("model")).startswith("no-such"), failing),
    ),
    row(
        "unknown_model",
        "fallback",
        "an unknown model is answered by another one; two are listed",
        change_json("models", list_models("sim", "other")),
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
    row(
        "async",
        "async-500",
        "the asynchronous client gets a 500",  # its user agent is AsyncOpenAI/…
        only(header_has("User-Agent", "AsyncOpenAI"), error_500("backend")),
    ),
)


# --- compression

ACCEPTS_GZIP = header_has("Accept-Encoding", "gzip")
SAYS_GZIP = stream_header("Content-Encoding", "gzip")


def only_compressed(*installs: Install) -> Install:
    """What clients meet that accept gzip."""
    return only(ACCEPTS_GZIP, *installs)


_compressed = functools.partial(row, "compressed")

COMPRESSION_ROWS: tuple[Fault, ...] = (
    _compressed(
        "gzip-never-flushed",
        "streams are compressed for clients that accept it, and come in one piece at the end",
        only_compressed(SAYS_GZIP, on_events(compressed(flush=False))),
        **SLOWER,
    ),
    _compressed(
        "gzip-held-back",
        "only for clients that accept gzip, streams come in one piece",
        only_compressed(on_events(held_back)),
        **SLOWER,
    ),
    _compressed(
        "gzip-broken",
        "a compressed stream has no end",
        only_compressed(SAYS_GZIP, on_events(compressed(flush=True, broken=True))),
        **SLOWER,
    ),
    _compressed(
        "gzip-in-name-only",
        "streams that are not compressed have Content-Encoding: gzip",
        only_compressed(SAYS_GZIP),
        **SLOWER,
    ),
    row(
        "pacing",
        "large-blocks",
        "a stream comes in blocks of 16 events",
        on_events(in_groups(16)),
        **WARN,
        **SLOWER,
    ),
)

_unicode = functools.partial(row, "unicode")

UNICODE_ROWS: tuple[Fault, ...] = (
    _unicode(
        "lost-characters",
        "characters of several bytes are U+FFFD in streams, and whole without",
        writes_line(pieces=byte_by_byte),
    ),
    _unicode(
        "not-utf8", "a stream has half a character in each event", writes_line(pieces=raw_halves)
    ),
    _unicode(
        "surrogates",
        "a stream has half a surrogate pair in each event",
        writes_line(pieces=surrogates),
    ),
    _unicode("latin-1", "a stream's UTF-8 was read as Latin-1", writes_line(pieces=as_latin_1)),
    _unicode(
        "ascii-only",
        "characters that are not ASCII vanish in a stream",
        writes_line(pieces=as_ascii),
    ),
    _unicode(
        "question-marks",
        "a stream has question marks in place of characters",
        writes_line(pieces=as_question_marks),
    ),
    _unicode(
        "escaped-twice",
        "a stream has escape sequences in place of characters",
        writes_line(pieces=twice_escaped),
    ),
    _unicode(
        "spaces-lost",
        "a stream loses the white space of its text",
        writes_line(whole=as_json(LINE), pieces=without_spaces),
    ),
    _unicode(
        "end-twice",
        "a stream repeats the end of its text",
        writes_line(whole=as_json(LINE), pieces=end_twice),
    ),
    _unicode(
        "whole-latin-1",
        "a whole answer's UTF-8 was read as Latin-1, a stream's was not",
        writes_line(whole=as_latin_1(LINE)[0]),
    ),
    _unicode(
        "lost-everywhere",
        "characters are U+FFFD with and without a stream",
        writes_line("".join(byte_by_byte(LINE)), byte_by_byte),
        **WARN,
    ),
)


ROWS: tuple[Fault, ...] = CONTRACT_ROWS + CAPABILITY_ROWS + COMPRESSION_ROWS + UNICODE_ROWS
