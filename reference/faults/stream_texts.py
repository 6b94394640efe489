"""Streams whose text is not the answer, or whose end is not clear; see `planting.on_events`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from .streams import Events, Fields, as_event, content, payload, with_content


def with_delta(fields: Fields, delta: Fields) -> bytes:
    """The same event with another delta."""
    return as_event({**fields, "choices": [{**fields["choices"][0], "delta": delta}]})


def has_reason(fields: Fields) -> bool:
    return any(choice["finish_reason"] for choice in fields.get("choices", ()))


# --- the same text twice


async def cumulative(stream: Events) -> Events:
    """Each event has all the text so far, and not just what is new."""
    so_far = ""
    async for event in stream:
        fields = payload(event)
        if text := content(fields):
            so_far += text
            event = with_content(fields, so_far)
        yield event


async def whole_text_last(stream: Events) -> Events:
    """An event with the whole text comes before the one with the finish_reason."""
    so_far, last = "", b""
    async for event in stream:
        fields = payload(event)
        if text := content(fields):
            so_far, last = so_far + text, event
        if has_reason(fields) and last:
            yield with_content(payload(last), so_far)
        yield event


async def each_twice(stream: Events) -> Events:
    async for event in stream:
        yield event
        if content(payload(event)):
            yield event


async def as_thoughts_too(stream: Events) -> Events:
    """The text is in the content and in the reasoning_content of the same delta."""
    async for event in stream:
        fields = payload(event)
        if text := content(fields):
            event = with_delta(fields, {"content": text, "reasoning_content": text})
        yield event


def thoughts_first(copies: bool) -> Callable[[Events], Events]:
    """Thoughts before the content: of their own, or the same text as the content (`copies`)."""

    async def changed(stream: Events) -> Events:
        held = [event async for event in stream]
        texts = [event for event in held if content(payload(event))]
        for event in held:
            if texts and event is texts[0]:
                for each in texts:
                    text = content(payload(each)) if copies else " hm,"
                    yield with_delta(payload(each), {"reasoning_content": text})
            yield event

    return changed


# --- text of another type


def content_as(change: Callable[[str], Any]) -> Callable[[Events], Events]:
    """The content of each event as another type."""

    async def changed(stream: Events) -> Events:
        async for event in stream:
            fields = payload(event)
            if text := content(fields):
                event = with_delta(fields, {"content": change(text)})
            yield event

    return changed


def as_parts(text: str) -> list[Fields]:
    return [{"type": "text", "text": text}]


# --- text that is lost or changed, in streams alone


def without_text(place: int, period: int = 0) -> Callable[[Events], Events]:
    """One event with text is missing, counted from 0; or one in each `period`."""

    async def changed(stream: Events) -> Events:
        position = -1
        async for event in stream:
            if content(payload(event)):
                position += 1
                if (position % period if period else position) == place:
                    continue
            yield event

    return changed


async def without_last_text(stream: Events) -> Events:
    held = b""
    async for event in stream:
        if not content(payload(event)):
            yield event
            continue
        if held:
            yield held
        held = event


def with_texts(change: Callable[[str], str]) -> Callable[[Events], Events]:
    """Change the text of each event."""

    async def changed(stream: Events) -> Events:
        async for event in stream:
            fields = payload(event)
            text = content(fields)
            yield with_content(fields, change(text)) if text else event

    return changed


# --- finish reasons


def ends_with(*reasons: str) -> Callable[[Events], Events]:
    """So many events with a finish_reason at the end, one for each of these."""

    async def changed(stream: Events) -> Events:
        async for event in stream:
            fields = payload(event)
            if not has_reason(fields):
                yield event
                continue
            for reason in reasons:
                one = copy.deepcopy(fields)
                one["choices"][0]["finish_reason"] = reason
                yield as_event(one)

    return changed


async def reason_everywhere(stream: Events) -> Events:
    """Each event has a finish_reason, and so has the last one."""
    async for event in stream:
        fields = payload(event)
        for choice in fields.get("choices", ()):
            choice["finish_reason"] = "stop"
        yield as_event(fields) if fields else event


async def reason_first(stream: Events) -> Events:
    """The finish_reason is in the first event with text, and nowhere else."""
    given = False
    async for event in stream:
        fields = payload(event)
        is_first = not given and bool(content(fields))
        given = given or is_first
        for choice in fields.get("choices", ()):
            choice["finish_reason"] = "stop" if is_first else None
        yield as_event(fields) if fields else event


def unfinished_as(value: object) -> Callable[[Events], Events]:
    """What each chunk but the last has as finish_reason."""

    async def changed(stream: Events) -> Events:
        async for event in stream:
            fields = payload(event)
            for choice in fields.get("choices", ()):
                choice["finish_reason"] = choice["finish_reason"] or value
            yield as_event(fields) if fields else event

    return changed


async def reason_with_usage(stream: Events) -> Events:
    """The chunk with the usage has the last choice once more, as some gateways send it."""
    last: Fields = {}
    async for event in stream:
        fields = payload(event)
        if has_reason(fields):
            last = fields["choices"][0]
        if fields.get("usage") and last:
            event = as_event({**fields, "choices": [{**last, "delta": {}}]})
        yield event


async def role_each_time(stream: Events) -> Events:
    """The role stands in every delta, as in vLLM's."""
    async for event in stream:
        fields = payload(event)
        for choice in fields.get("choices", ()):
            choice["delta"] = {"role": "assistant", **choice["delta"]}
        yield as_event(fields) if fields else event
