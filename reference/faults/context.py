"""Contexts that are not what they promise to be, which test_context.py must notice; and sound ones
that are unusual.

The engine plays a model that reads the prompt and repeats the numbers in it (skills/context.py). A
word is a token. One request has SIZE of them.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from aiohttp import web

from ..hooks import Handler, Hooks
from .answers import change_json, error_500, instead, json_200, never_answer
from .completions import Fields, chunk_of
from .conditions import Asked, Condition, after, given, on_path, only
from .fault import Fault, Install, SoundVariant
from .planting import all_of, around, change_fields, nothing, on_events
from .streams import DONE, Events, as_event, finish, no_done, payload, without_field

SCRIPT = "test_context.py"
OPTIONS: dict[str, object] = {"skills": "context", "slots": 4, "context_size": 4096}
SIZE = 1024
HALF, LONG = 400, 900  # tokens: prompts of half the context, and of nearly all of it, have more
KEPT = 700
PREFILL_S = 0.0004  # for a token: 160 ms from a tenth of the context to the half of it
CACHED = 24  # tokens of a template that the engine has in its cache
SENT: contextvars.ContextVar[int] = contextvars.ContextVar("sent", default=0)
BODY_BYTES = 4200  # less than a prompt of nearly all of the context has
BEYOND_BYTES = 5150  # more than such a prompt has, and less than one of 105 percent


# --- requests


def prompt_of(fields: Fields) -> str:
    return str(fields["messages"][-1]["content"])


def tokens_of(fields: Fields) -> int:
    return len(prompt_of(fields).split())


def longer_than(tokens: int, most: int = 10**9) -> Condition:
    """Completions whose prompt has more tokens than this, and no more than `most`."""

    def condition(asked: Asked) -> bool:
        return "messages" in asked.fields and tokens < tokens_of(asked.fields) <= most

    return condition


def change_prompt(change: Callable[[str], str]) -> Install:
    """The engine gets another prompt than the one that was sent."""

    def replace(fields: dict[str, Any]) -> None:
        SENT.set(tokens_of(fields))
        fields["messages"][-1]["content"] = change(prompt_of(fields))

    return change_fields(replace)


def keep_end(tokens: int) -> Install:
    """Of a longer prompt the beginning is dropped."""
    return change_prompt(lambda text: " ".join(text.split(" ")[-tokens:]))


def keep_ends(text: str) -> str:
    """The middle is dropped."""
    words = text.split(" ")
    return text if len(words) < KEPT else " ".join(words[: KEPT // 2] + words[-KEPT // 2 :])


def forget(name: str) -> Install:
    """As a weak model that overlooks one of the numbers, though it has read all of the text."""
    found = re.compile(rf"The {name} number is \d+\.")
    return change_prompt(lambda text: found.sub(f"The {name} number is unknown.", text))


def refuse(status: int, message: str, **more: Any) -> Install:
    error = {"message": message, "type": "invalid_request_error", **more}
    text = json.dumps({"error": {"code": status, **error}})
    return instead("inference", status=status, text=text, content_type="application/json")


def under_load(*installs: Install) -> Install:
    """For a request that comes while another one is in flight."""
    faulty, active = Hooks(), 0
    for each in installs:
        each(faulty)

    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        nonlocal active
        active += 1
        try:
            is_alone = active == 1
            chosen = handler if is_alone else faulty.wrap("inference", handler)
            return await chosen(request)
        finally:
            active -= 1

    return around("inference", wrapper)


def second_of_three(asked: Asked) -> bool:
    """Of three requests at once after eight others, and one more after them: also in the next run
    against the same deployment."""
    return asked.number % 12 == 10


def large(*installs: Install) -> Install:
    return only(longer_than(LONG), *installs)


def too_long(*installs: Install) -> Install:
    return only(longer_than(SIZE), *installs)


# --- answers


async def as_sent(stream: Events) -> Events:
    """All that was sent is counted, and the engine's own figures are not passed on."""
    async for event in stream:
        fields = payload(event)
        fields.pop("timings", None)
        if (usage := fields.get("usage")) and (sent := SENT.get()):
            usage |= {"prompt_tokens": sent, "total_tokens": sent + usage["completion_tokens"]}
        yield as_event(fields) if fields else event


async def without_counts(stream: Events) -> Events:
    """Nothing is counted in streams."""
    async for event in stream:
        fields = payload(event)
        fields.pop("timings", None)
        if fields.pop("usage", None) is None:
            yield as_event(fields) if fields else event


async def cached_apart(stream: Events) -> Events:
    """Tokens from the cache are left out of the count; the engine's own figures are missing."""
    async for event in stream:
        fields = payload(event)
        fields.pop("timings", None)
        if usage := fields.get("usage"):
            usage["prompt_tokens"] -= CACHED
            usage["total_tokens"] -= CACHED
            usage["prompt_tokens_details"] = {"cached_tokens": CACHED}
        yield as_event(fields) if fields else event


def slow_prefill() -> Install:
    """Each token of a prompt takes its time."""

    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        fields = json.loads(await request.read())
        await asyncio.sleep(tokens_of(fields) * PREFILL_S)
        return await handler(request)

    return around("inference", wrapper)


def empty(reason: str, tokens: int) -> Install:
    """A stream without a token of text."""

    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        fields = json.loads(await request.read())
        count = tokens_of(fields)
        usage = {"prompt_tokens": count, "completion_tokens": tokens}
        last = {**payload(chunk_of(fields, {})), "choices": [], "usage": usage}
        usage["total_tokens"] = count + tokens
        events = chunk_of(fields, {"role": "assistant", "content": ""})
        events += chunk_of(fields, {}, reason) + as_event(last)
        body = events + DONE + b"\n\n"
        return web.Response(body=body, content_type="text/event-stream")

    return around("backend", wrapper)


def error_event(message: str) -> Install:
    body = as_event({"error": {"message": message, "code": 400}}) + DONE + b"\n\n"
    return instead("backend", body=body, content_type="text/event-stream")


def promise(**fields: Any) -> Install:
    """What the list of models says about the model."""

    def change(content: Fields) -> None:
        content["data"][0].pop("meta")
        content["data"][0] |= fields

    return change_json("models", change)


def of_vllm(asked: Asked) -> bool:
    """A prompt and an answer that do not have room together."""
    fields = asked.fields
    return "messages" in fields and tokens_of(fields) + fields["max_tokens"] > SIZE


VLLM = (
    f"This model's maximum context length is {SIZE} tokens. However, you requested more tokens in "
    "the messages and the completion. Please reduce the length of the messages or completion."
)
FORM = ("--only", "form")
RESERVED = 40  # tokens that a gateway keeps for itself
PROPS = {"default_generation_settings": {"n_ctx": SIZE}, "total_slots": 4}
GROWS = "Input length exceeds the context"


def row(
    name: str,
    breaks: str,
    check: str,
    install: Install,
    status: Literal["FAIL", "WARN"] = "FAIL",
    arguments: tuple[str, ...] = (),
    says: str = "",
    **options: object,
) -> Fault:
    found = Fault(f"context-{name}", breaks, SCRIPT, check, install, status, says=says)
    return replace(found, options={**OPTIONS, **options}, arguments=arguments)


ROWS: tuple[Fault, ...] = (
    # what is taken
    row(
        "drops-beginning",
        "the beginning of a prompt that is longer than two thirds of the context is dropped",
        "taken",
        keep_end(KEPT),
        says="the prompt is cut",
    ),
    row(
        "drops-middle",
        "the middle of a long prompt is dropped",
        "taken",
        change_prompt(keep_ends),
        says="the prompt is cut",
    ),
    row(
        "divided",
        "the context that is promised is shared by the slots",
        "taken",
        nothing,
        arguments=("--context", "4096"),
        says="divided by 4",
    ),
    row(
        "cuts-all",
        "every prompt is cut to a tenth of the context",
        "taken",
        keep_end(SIZE // 10),
        says="do not grow with the prompt",
    ),
    row(
        "half-500",
        "a prompt of half of the context is a 500",
        "taken",
        only(longer_than(HALF), error_500("backend")),
        says="50 %: 2 of 2",
    ),
    row(
        "long-500",
        "a prompt of nearly all of the context is a 500",
        "taken",
        large(error_500("backend")),
        says="95 %: 1 of 1",
    ),
    row(
        "long-hangs",
        "a prompt of nearly all of the context is never answered",
        "taken",
        large(around("backend", never_answer)),
        arguments=("--timeout", "1"),
        says="95 %: 1 of 1",
    ),
    row(
        "models-silent",
        "the list of models never comes",
        "taken",
        around("models", never_answer),
        arguments=("--timeout", "1"),
        says="GET /v1/models",
    ),
    row(
        "body-limit",
        "the longest body that is accepted is shorter than the context",
        "taken",
        nothing,
        max_body_bytes=BODY_BYTES,
        says="a limit on the length of a body",
    ),
    row(
        "promise-differs",
        "the deployment says a smaller context than the operator",
        "promise",
        promise(max_model_len=1000),
        "WARN",
        ("--context", "1024", "--skip", "together"),
        says="says 1000",
    ),
    # what is remembered
    row(
        "drops-and-counts",
        "the beginning of a long prompt is dropped, and counted all the same",
        "remembered",
        all_of(keep_end(KEPT), on_events(as_sent)),
        says="the beginning is dropped",
    ),
    row(
        "forgets",
        "the model does not repeat the beginning of a long text, which the engine has read",
        "remembered",
        large(forget("first")),
        "WARN",
        ("--skip", "together"),
        says="so it is the model that cannot",
    ),
    row(
        "overlooks",
        "the model does not repeat the number in the middle of a long text",
        "remembered",
        large(forget("second")),
        "WARN",
        ("--skip", "together"),
        says="so the model is weak",
    ),
    row(
        "weak",
        "the model overlooks numbers that are nearer to the end than others that it finds",
        "remembered",
        all_of(
            only(longer_than(HALF, LONG), forget("second")),
            large(forget("first")),
            on_events(without_field("timings")),
        ),
        "WARN",
        ("--skip", "together"),
        says="nearer than others",
    ),
    row(
        "reads-and-forgets",
        "the model does not repeat the beginning of a long text, for which it took its time",
        "remembered",
        all_of(large(forget("first")), slow_prefill(), on_events(without_field("timings"))),
        "WARN",
        ("--skip", "together"),
        says="the prefill took as long",
    ),
    # room
    row(
        "no-room",
        "a long prompt leaves no room for a token of answer",
        "room",
        large(empty("length", 0)),
        says="no room for a single token",
    ),
    row(
        "reserve",
        "an answer that has room in the context is refused, and one of a token is not",
        "room",
        only(
            lambda asked: (
                "messages" in asked.fields
                and tokens_of(asked.fields) + asked.fields["max_tokens"] > SIZE - RESERVED
            ),
            refuse(400, GROWS),
        ),
        "WARN",
        ("--skip", "together"),
        says="though both fit",
    ),
    row(
        "room-unseen",
        "the tokens of a long prompt's answer are counted, and none of them is shown",
        "room",
        large(empty("stop", 8)),
        "WARN",
        ("--skip", "together"),
        says="none shown",
    ),
    row(
        "says-nothing",
        "the model ends its answer to a long prompt before the first token",
        "room",
        large(empty("stop", 0)),
        "WARN",
        ("--skip", "together"),
        says="the model says nothing",
    ),
    # together
    row(
        "shared-under-load",
        "requests at once share the context, and the beginning of each is dropped",
        "together",
        under_load(keep_end(HALF)),
        says="alone they are not",
    ),
    row(
        "refused-under-load",
        "requests at once share the context, and what is too long for a share is refused",
        "together",
        under_load(refuse(400, "the request exceeds the available context size (256 tokens)")),
        says="not answered: 400",
    ),
    row(
        "forgotten-under-load",
        "the beginning is dropped under load, and counted all the same",
        "together",
        all_of(under_load(keep_end(HALF)), on_events(as_sent)),
        arguments=("--concurrency", "8"),
        says="dropped under load",
    ),
    row(
        "some-forgotten",
        "under load one of the requests is answered without its beginning",
        "together",
        all_of(only(second_of_three, forget("first")), on_events(without_field("timings"))),
        "WARN",
        ("--concurrency", "3"),
        says="the model may be too weak",
    ),
    row(
        "forgets-under-load",
        "under load the model does not repeat the beginning, which the engine has read",
        "together",
        under_load(forget("first")),
        "WARN",
        says="the engine has read all of them",
    ),
    row(
        "500-under-load",
        "under load a prompt of half of the context is a 500",
        "together",
        only(longer_than(HALF, LONG), under_load(instead("inference", status=500))),
        says="not answered: 500",
    ),
    # the form
    row("no-done", "streams have no [DONE]", "form", on_events(no_done), arguments=FORM),
    row(
        "eos",
        "streams end with the finish_reason eos",
        "form",
        on_events(finish("eos")),
        "WARN",
        FORM,
    ),
    # beyond
    row(
        "beyond-cut",
        "what is too long is cut to the context, in silence",
        "beyond",
        keep_end(SIZE - RESERVED),
        says="the prompt is cut",
    ),
    row(
        "beyond-empty",
        "what is too long is a 200 that ends because of the length, without a token",
        "beyond",
        too_long(empty("length", 0)),
        says="no token of an answer has room",
    ),
    row(
        "beyond-500",
        "what is too long is a 500",
        "beyond",
        too_long(error_500("backend")),
        says="expected a 4xx",
    ),
    row(
        "beyond-hangs",
        "what is too long is never answered",
        "beyond",
        too_long(around("backend", never_answer)),
        arguments=("--timeout", "1"),
        says="expected a 4xx",
    ),
    row(
        "beyond-forgotten",
        "what is too long is answered without its beginning, and counted in full",
        "beyond",
        all_of(too_long(keep_end(KEPT)), on_events(as_sent)),
        says="it is dropped",
    ),
    row(
        "beyond-unexplained",
        "what is too long is a 400 that does not say why",
        "beyond",
        too_long(refuse(400, "bad request")),
        "WARN",
        ("--skip", "together"),
        says="it does not say",
    ),
    row(
        "beyond-other-context",
        "what is too long is a 400 that speaks of another context",
        "beyond",
        too_long(refuse(400, "invalid field in the context of this request")),
        "WARN",
        ("--skip", "together"),
        says="it does not say",
    ),
    row(
        "beyond-413",
        "what is too long is a 413 without a word",
        "beyond",
        too_long(instead("inference", status=413)),
        "WARN",
        ("--skip", "together"),
        says="it does not say",
    ),
    row(
        "beyond-read",
        "what is longer than promised is read, and its beginning is not repeated",
        "beyond",
        all_of(promise(max_model_len=LONG), large(forget("first"))),
        "WARN",
        ("--skip", "together"),
        says="this model cannot show",
    ),
    row(
        "beyond-in-stream",
        "what is too long is refused inside of a 200 stream",
        "beyond",
        too_long(error_event(VLLM)),
        "WARN",
        ("--skip", "together"),
        says="inside of a 200 stream",
    ),
)


def sound(
    name: str, shows: str, install: Install = nothing, *arguments: str, **options: object
) -> SoundVariant:
    return SoundVariant(f"context-{name}", shows, (SCRIPT,), install, options, arguments)


SOUND: tuple[SoundVariant, ...] = (
    sound(
        "weak-model",
        "the model repeats nothing, and whatever comes has room",
        nothing,
        "--context",
        "1024",
        skills="",
    ),
    sound(
        "of-vllm",
        "max_model_len is promised, a prompt and its answer share it, and there are no timings",
        all_of(promise(max_model_len=SIZE), only(of_vllm, refuse(400, VLLM)), on_events(as_sent)),
    ),
    sound(
        "no-stream-options",
        "stream_options are refused",
        only(given("stream_options"), refuse(400, "Unrecognized parameter: stream_options")),
    ),
    sound("whole-counts", "only whole answers have usage", on_events(without_counts)),
    sound(
        "cached-apart",
        "tokens from the cache are left out of prompt_tokens",
        only(after(1), on_events(cached_apart)),
    ),
    sound("one-at-once", "one request is served at once", max_concurrent_requests=1),
    sound(
        "larger-than-asked-for",
        "the deployment says a larger context than the operator",
        nothing,
        "--context",
        "1000",
    ),
    sound(
        "body-limit-beyond",
        "what is too long is refused by the gateway, whose limit of a body is beyond the context",
        max_body_bytes=BEYOND_BYTES,
    ),
    sound(
        "promised-by-props",
        "only /props says how large the context is",
        all_of(promise(), only(on_path("/props"), json_200("all", PROPS))),
    ),
    sound("more-than-promised", "more has room than is promised", promise(max_model_len=900)),
)
