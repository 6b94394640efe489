"""Models that think before they answer, and use up all their tokens for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from aiohttp import web

from ..hooks import Handler
from .fault import Install, SoundVariant
from .planting import all_of, around, on_events
from .streams import Events, as_event, content, payload

PAUSE_S = 0.7
PACE_S = 0.004  # between two tokens after it: the engine has not waited
THOUGHTS_BEFORE_PAUSE = 2

Fields = dict[str, Any]
Change = Callable[[Fields, str], None]  # of a delta or a message that has this text


def as_thoughts(name: str) -> Change:
    """The text is in the field of this name, and there is no content."""

    def change(message: Fields, text: str) -> None:
        message |= {"content": None, name: text}

    return change


def hidden(message: Fields, text: str) -> None:
    message["content"] = ""


def in_streams(change: Change, is_counted: bool = False) -> Install:
    """Change the text of each delta that has one."""

    async def changed(stream: Events) -> Events:
        async for event in stream:
            if not (fields := payload(event)):
                yield event
                continue
            if text := content(fields):
                change(fields["choices"][0]["delta"], text)
            yield as_event(counted(fields) if is_counted else fields)

    return on_events(changed)


def in_whole_answers(change: Change, is_counted: bool = False) -> Install:
    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        response = await handler(request)
        if not isinstance(response, web.Response) or response.status != 200:
            return response
        fields = json.loads(response.text or "{}")
        for choice in fields.get("choices", ()):
            if text := choice.get("message", {}).get("content"):
                change(choice["message"], text)
        return web.json_response(counted(fields) if is_counted else fields)

    return around("backend", wrapper)


def thinks(change: Change, is_counted: bool = False) -> Install:
    """What the model writes is thoughts. `is_counted`: the usage says so, and is in each stream."""
    return all_of(in_streams(change, is_counted), in_whole_answers(change, is_counted))


def counted(fields: Fields) -> Fields:
    """The same with the thoughts among its tokens, and without the figures of llama.cpp."""
    timings = fields.pop("timings", None)
    if timings and not fields.get("usage"):
        tokens = {"prompt_tokens": timings["prompt_n"], "completion_tokens": timings["predicted_n"]}
        fields["usage"] = {**tokens, "total_tokens": sum(tokens.values())}
    if usage := fields.get("usage"):
        usage["completion_tokens_details"] = {"reasoning_tokens": usage["completion_tokens"]}
    return fields


async def tagged(stream: Events) -> Events:
    """The text begins with the tag of thoughts, which does not end."""
    is_first = True
    async for event in stream:
        fields = payload(event)
        if is_first and (text := content(fields)):
            is_first = False
            choice = {**fields["choices"][0], "delta": {"content": f"<think>\n{text}"}}
            event = as_event({**fields, "choices": [choice]})
        yield event


async def pausing(stream: Events) -> Events:
    """Some thoughts, then a pause as for a tool, then the answer at its own pace."""
    count = 0
    async for event in stream:
        fields = payload(event)
        if text := content(fields):
            count += 1
            if count <= THOUGHTS_BEFORE_PAUSE:
                choice = {**fields["choices"][0], "delta": {"reasoning_content": text}}
                event = as_event({**fields, "choices": [choice]})
            else:
                await asyncio.sleep(PAUSE_S if count == THOUGHTS_BEFORE_PAUSE + 1 else PACE_S)
        yield event


def some_thoughts(count: int) -> Change:
    """So many words at the beginning of a whole answer are thoughts."""

    def change(message: Fields, text: str) -> None:
        words = text.split(" ")
        cut = count + (not words[0])  # the text begins with a space
        message["reasoning_content"] = " ".join(words[:cut])
        message["content"] = " " + " ".join(words[cut:])

    return change


def with_tag(message: Fields, text: str) -> None:
    message["content"] = f"<think>\n{text}"


SHOWN = (
    "benchmark.py",
    "test_openai_sdk.py",
    "test_scale_to_zero.py",
    "test_queue.py",
    "test_model_routing.py",
    "test_workload_routing.py",
)
SHOWN_THOUGHTS = thinks(as_thoughts("reasoning_content"))
HIDDEN_THOUGHTS = thinks(hidden, is_counted=True)

ROWS: tuple[SoundVariant, ...] = (
    SoundVariant(
        "thoughts-only",
        "all tokens of each answer are thoughts",
        SHOWN,
        SHOWN_THOUGHTS,
    ),
    SoundVariant(
        "thinking-field",
        "all tokens are thoughts, in a field of the name thinking",
        ("benchmark.py", "test_openai_sdk.py"),
        thinks(as_thoughts("thinking")),
    ),
    SoundVariant(
        "hidden-thoughts",
        "all tokens are thoughts, which are counted and not shown",
        ("test_openai_sdk.py",),
        HIDDEN_THOUGHTS,
    ),
    SoundVariant(
        "think-tags",
        "the content begins with <think>, and ends before the thoughts do",
        ("benchmark.py", "test_openai_sdk.py"),
        all_of(on_events(tagged), in_whole_answers(with_tag)),
    ),
    SoundVariant(
        "pause-after-thoughts",
        "the model thinks, pauses, and then answers",
        ("benchmark.py", "test_openai_sdk.py", "test_workload_routing.py"),
        all_of(on_events(pausing), in_whole_answers(some_thoughts(THOUGHTS_BEFORE_PAUSE))),
    ),
)
