"""Sound deployments that look unusual: no script may accuse them.

Each row is a liberty that the protocol leaves to a server and that some server takes. A script that
passes a plain deployment has to pass all of these as well; it may warn, but nothing may fail.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

from ..fleet_routing import Place
from . import (
    concurrency,
    context,
    dead_addresses,
    drifts,
    other_gateways,
    progress,
    rate_limit,
    rates,
    responses_api,
    runner_losses,
    silences,
    sound_addresses,
    sound_models,
    sound_paths,
    sound_texts,
    thinking,
    tools,
)
from .answers import MAX_TOKENS_REFUSED, TEMPERATURE_REFUSED, instead
from .completions import writes_line
from .conditions import header_has, only
from .fault import FLEET, GATEWAY, OF_WORDS, Install, SoundVariant
from .gateway_parts import FleetGateway
from .planting import all_of, around, late, nothing, on_events, on_gateway, stream_header
from .sound_texts import STREAMING
from .streams import (
    Events,
    as_event,
    compressed,
    content,
    in_groups,
    named_chunks,
    payload,
    with_content,
    with_filter_results,
    with_pings,
)

QUEUE = ("test_queue.py",)
LIMIT = ("test_rate_limit.py",)
SPLIT_DELAY_S = 0.0005  # so that the two halves of an event are two reads of the client
UNHURRIED_S = 0.6  # of the second that a probe may take
LINE_SEPARATOR = "\u2028"  # legal inside JSON, although some programs take it for the end of a line


# --- the form of the events


async def crlf(stream: Events) -> Events:
    async for event in stream:
        yield event.replace(b"\n", b"\r\n")


async def named_message(stream: Events) -> Events:
    """The event's type in full: `message` is what an event without a name is."""
    async for event in stream:
        yield b"event: message\n" + event


async def with_comments(stream: Events) -> Events:
    async for event in stream:
        yield b": keep-alive\n\n"
        yield event


async def split(stream: Events) -> Events:
    """Each event in two writes."""
    async for event in stream:
        middle = len(event) // 2
        yield event[:middle]
        await asyncio.sleep(SPLIT_DELAY_S)
        yield event[middle:]


async def in_pairs(stream: Events) -> Events:
    """Two events in each write, as servers send them that decode several tokens in a step."""
    held = b""
    async for event in stream:
        if held:
            yield held + event
            held = b""
        else:
            held = event
    if held:
        yield held


# --- what is in the chunks


def on_chunks(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Install:
    """Change the JSON of every chunk."""

    async def filtered(stream: Events) -> Events:
        async for event in stream:
            fields = payload(event)
            yield as_event(change(fields)) if fields else event

    return on_events(filtered)


def usage_null(fields: dict[str, Any]) -> dict[str, Any]:
    return {"usage": None, **fields}


def without_fingerprint(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name != "system_fingerprint"}


def with_null_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """The optional fields of a delta and of a choice, without a value."""
    empty = {"refusal": None, "tool_calls": None, "function_call": None}
    choices = [
        {"logprobs": None, **choice, "delta": {**empty, **choice["delta"]}}
        for choice in fields.get("choices", ())
    ]
    return {**fields, "choices": choices}


def with_additional_fields(fields: dict[str, Any]) -> dict[str, Any]:
    return {**fields, "provider": "planted", "service_tier": "default", "x_trace": {"node": 1}}


async def role_with_text(stream: Events) -> Events:
    """The role in the same chunk as the first text, instead of in one of its own."""
    is_first = True
    async for event in stream:
        fields = payload(event)
        text = content(fields)
        if fields and is_first and not text:
            continue
        if text and is_first:
            is_first = False
            choice = {**fields["choices"][0], "delta": {"role": "assistant", "content": text}}
            event = as_event({**fields, "choices": [choice]})
        yield event


async def reasoning_first(stream: Events) -> Events:
    """The first half of the tokens is reasoning, under the name that vLLM and DeepSeek use."""
    position = 0
    async for event in stream:
        fields = payload(event)
        text = content(fields)
        position += bool(text)
        if text and position <= 2:
            choice = {**fields["choices"][0], "delta": {"reasoning_content": text}}
            event = as_event({**fields, "choices": [choice]})
        yield event


async def with_line_separators(stream: Events) -> Events:
    async for event in stream:
        fields = payload(event)
        text = content(fields)
        if text:
            marked = with_content(fields, text + "@@")
            event = marked.replace(b"@@", LINE_SEPARATOR.encode())
        yield event


def separated(message: dict[str, Any], text: str) -> None:
    """As in `with_line_separators`, after each token of a whole answer."""
    message["content"] = re.sub(r" \S+", lambda token: token[0] + LINE_SEPARATOR, text)


# --- probes and waking


def log_each_wait(fleet: FleetGateway) -> None:
    original = fleet.router.wake_for

    def wake_for(place: Place) -> None:
        original(place)
        place.wol_sent = True

    fleet.router.wake_for = wake_for  # type: ignore[method-assign]


SOUND: tuple[SoundVariant, ...] = (
    SoundVariant("plain", "nothing is unusual", (*GATEWAY, *LIMIT, *FLEET), nothing),
    SoundVariant(
        "keep-alive",
        "connections stay open after an answer",
        (*GATEWAY, *LIMIT),
        nothing,
        options={"connection": "keep-alive"},
    ),
    SoundVariant(
        "short-key",
        "the key is an ordinary word, as where a server takes any",
        GATEWAY,
        nothing,
        options={"api_keys": ("data", "other")},
    ),
    SoundVariant(
        "far-away",
        "the gateway takes 30 ms more for each answer",
        ("benchmark.py", "test_openai_sdk.py", "test_queue.py"),
        nothing,
        options={"delay_ms": 30},
    ),
    SoundVariant("crlf", "lines of a stream end with CR LF", STREAMING, on_events(crlf)),
    SoundVariant(
        "with-comments", "a comment stands before each event", STREAMING, on_events(with_comments)
    ),
    SoundVariant("named-message", "events are named message", STREAMING, on_events(named_message)),
    SoundVariant("halved-events", "events come in two writes", STREAMING, on_events(split)),
    SoundVariant("paired-events", "two events come in each write", STREAMING, on_events(in_pairs)),
    SoundVariant(
        "grouped-events", "four events come in each write", STREAMING, on_events(in_groups(4))
    ),
    SoundVariant(
        "named-pings", "events of the name ping come in between", STREAMING, on_events(with_pings)
    ),
    SoundVariant(
        "event-names", "chunks are events with a name", STREAMING, on_events(named_chunks)
    ),
    SoundVariant(
        "filter-results",
        "chunks about the content filter, as Azure sends them",
        STREAMING,
        on_events(with_filter_results),
    ),
    SoundVariant("usage-null", "chunks have usage: null", STREAMING, on_chunks(usage_null)),
    SoundVariant(
        "no-fingerprint",
        "chunks have no system_fingerprint",
        STREAMING,
        on_chunks(without_fingerprint),
    ),
    SoundVariant(
        "null-fields",
        "chunks have their optional fields, without a value",
        STREAMING,
        on_chunks(with_null_fields),
    ),
    SoundVariant(
        "additional-fields",
        "chunks have fields that OpenAI does not know",
        STREAMING,
        on_chunks(with_additional_fields),
    ),
    SoundVariant(
        "role-with-text", "the role comes with the first text", STREAMING, on_events(role_with_text)
    ),
    SoundVariant(
        "reasoning-first",
        "the first tokens are reasoning",
        STREAMING,
        all_of(on_events(reasoning_first), thinking.in_whole_answers(thinking.some_thoughts(2))),
    ),
    SoundVariant(
        "line-separators",
        "the text has U+2028, not escaped",
        (*STREAMING, *OF_WORDS),
        all_of(on_events(with_line_separators), thinking.in_whole_answers(separated)),
    ),
    SoundVariant(
        "gzip",
        "streams are compressed for clients that accept it, and flushed after each event",
        STREAMING,
        only(
            header_has("Accept-Encoding", "gzip"),
            stream_header("Content-Encoding", "gzip"),
            on_events(compressed(flush=True)),
        ),
    ),
    SoundVariant(
        "rare-characters",
        "the model writes characters of several bytes when it is asked to",
        ("test_openai_sdk.py",),
        writes_line(),
    ),
    SoundVariant(
        "other-gateway",
        "/health and /metrics say nothing about the queue",
        QUEUE,
        other_gateways.OF_LLAMA,
        arguments=("--max-concurrent", "1", "--max-queue", "2"),
    ),
    SoundVariant(
        "unlimited-queue",
        "the queue has no bound, and /metrics is the engine's",
        QUEUE,
        other_gateways.OF_VLLM,
        options={"max_concurrent_requests": 2, "max_queue_size": 0, "output_tokens": 1600},
        arguments=("--max-concurrent", "2", "--max-queue", "0"),
    ),
    SoundVariant(
        "no-queue",
        "what is not served at once is refused",
        QUEUE,
        other_gateways.WITHOUT_QUEUE,
        options={"max_concurrent_requests": 2, "output_tokens": 1600},
        arguments=("--max-concurrent", "2", "--max-queue", "none"),
    ),
    SoundVariant(
        "no-queue-of-one",
        "one request is served, and every other one is refused",
        QUEUE,
        other_gateways.WITHOUT_QUEUE,
        arguments=("--max-concurrent", "1", "--max-queue", "none"),
    ),
    SoundVariant(
        "queued-probes",
        "/ping and /health take places of the queue, as behind a proxy that queues everything",
        QUEUE,
        other_gateways.QUEUES_PROBES,
        arguments=("--max-concurrent", "1", "--max-queue", "2"),
    ),
    SoundVariant(
        "no-ping",
        "there is no /ping, and the gateway is not the guide's",
        ("benchmark.py",),
        all_of(other_gateways.OF_LLAMA, instead("ping", status=404)),
    ),
    SoundVariant(
        "no-probes",
        "there is neither /ping nor /health, as in front of many engines",
        ("benchmark.py",),
        all_of(*(instead(each, status=404) for each in ("ping", "health", "metrics"))),
    ),
    SoundVariant(
        "ping-not-allowed",
        "/ping may not be asked for with GET, and the gateway is not the guide's",
        ("benchmark.py",),
        all_of(other_gateways.OF_LLAMA, instead("ping", status=405)),
    ),
    SoundVariant(
        "unhurried-probes",
        "the health URL takes 0.6 s, which platforms allow",
        ("test_scale_to_zero.py",),
        around("ping", late(UNHURRIED_S)),
        arguments=("--health-url", "/ping"),
    ),
    SoundVariant(
        "waits-are-logged",
        "the log has wol_sent for each request that waits, though one packet is sent",
        ("test_wol.py",),
        on_gateway(log_each_wait),
    ),
    *sound_paths.ROWS,
    *sound_addresses.ROWS,
    *sound_models.ROWS,
    *progress.ROWS,
    *thinking.ROWS,
    *dead_addresses.SOUND,
    *rates.SOUND,
    *drifts.SOUND,
    *silences.SOUND,
    *concurrency.SOUND,
    *rate_limit.SOUND,
    *runner_losses.SOUND,
    *sound_texts.ROWS,
    *context.SOUND,
    *tools.SOUND,
    *responses_api.SOUND_ROWS,
    SoundVariant(
        "max-completion-tokens",
        "the model takes max_completion_tokens in the place of max_tokens",
        (*GATEWAY, *FLEET),
        MAX_TOKENS_REFUSED,
    ),
    SoundVariant(
        "default-temperature",
        "the model takes only the default temperature",
        ("test_openai_sdk.py",),
        TEMPERATURE_REFUSED,
    ),
)
