"""The faults of the Responses API: what its streams say, and in which order."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from typing import Any

from .answers import change_json
from .completions import failing, when_path
from .fault import Fault, Install, SoundVariant
from .openai_sdk import SDK, row
from .planting import nothing, on_events
from .streams import Events, payload

Fields = dict[str, Any]
# What stands in the place of an event: nothing, this one changed, or several.
Change = Callable[[Fields], "Iterator[Fields]"]
OFFERED: dict[str, Any] = {"endpoints": ("responses",), "skills": ("tools",)}
ENDS = ("response.completed", "response.incomplete")


def on_responses(change: Change) -> Install:
    """Change the events of the Responses API; the streams of chat completions stay as they are."""

    async def changed(stream: Events) -> Events:
        async for event in stream:
            fields = payload(event)
            if not str(fields.get("type", "")).startswith("response."):
                yield event
                continue
            for each in change(fields):
                yield as_named_event(each)

    return on_events(changed)


def as_named_event(fields: Fields) -> bytes:
    return f"event: {fields['type']}\ndata: {json.dumps(fields)}\n\n".encode()


def without(*kinds: str) -> Change:
    def change(fields: Fields) -> Iterator[Fields]:
        if fields["type"] not in kinds:
            yield fields

    return change


def delta_changed(kind: str, old: str, new: str) -> Change:
    """The pieces of this kind say something else than the whole."""

    def change(fields: Fields) -> Iterator[Fields]:
        if fields["type"] == f"response.{kind}.delta":
            fields["delta"] = fields["delta"].replace(old, new)
        yield fields

    return change


def goes_on(fields: Fields) -> Iterator[Fields]:
    yield fields
    if fields["type"] in ENDS:
        yield {**fields, "type": "response.in_progress"}


def without_numbers(fields: Fields) -> Iterator[Fields]:
    yield {k: v for k, v in fields.items() if k not in ("sequence_number", "output_index")}


def numbers_stand_still(fields: Fields) -> Iterator[Fields]:
    yield {**fields, "sequence_number": 1}


def failed_in_the_end(fields: Fields) -> Iterator[Fields]:
    if fields["type"] in ENDS:
        error = {"code": "server_error", "message": "out of memory"}
        response = {**fields["response"], "status": "failed", "error": error}
        yield {**fields, "type": "response.failed", "response": response}
    else:
        yield fields


def waits_first(fields: Fields) -> Iterator[Fields]:
    """Sound: it waits in a queue first, and tells of what no client has to know."""
    number = fields["sequence_number"] * 3
    for more, kind in enumerate((fields["type"], "response.queued", "response.engine.warm")):
        if not more or fields["type"] == "response.created":
            yield {**fields, "type": kind, "sequence_number": number + more}


def is_response(fields: Fields) -> bool:
    return fields.get("object") == "response"


def other_text(fields: Fields) -> None:
    for each in fields["output"] if is_response(fields) else ():
        for part in each.get("content") or ():
            part["text"] = "It is a quarter past nine."


def bad_usage(fields: Fields) -> None:
    if is_response(fields):
        fields["usage"]["total_tokens"] += 7


def tool_of_another_name(fields: Fields) -> None:
    for each in fields["output"] if is_response(fields) else ():
        if each["type"] == "function_call":
            each["name"] = "get_time"


_responses = functools.partial(row, "responses", options=OFFERED)
AS_JSON = functools.partial(change_json, "backend")

SDK_ROWS: tuple[Fault, ...] = (
    _responses(
        "responses-order",
        "items of a response are told that were never added",
        on_responses(without("response.output_item.added")),
    ),
    _responses(
        "responses-parts",
        "the text of a response comes before its part is added",
        on_responses(without("response.content_part.added")),
    ),
    _responses(
        "responses-first",
        "the stream of a response does not begin with response.created",
        on_responses(without("response.created")),
    ),
    _responses(
        "responses-text",
        "the deltas of a response say another text than its end",
        on_responses(delta_changed("output_text", " the", " a")),
    ),
    _responses(
        "responses-no-end",
        "the stream of a response has no response.completed",
        on_responses(without(*ENDS)),
    ),
    _responses("responses-after-end", "a response goes on after its end", on_responses(goes_on)),
    _responses(
        "responses-numbers",
        "the sequence numbers of a response stand still",
        on_responses(numbers_stand_still),
    ),
    _responses("responses-failed", "a response fails in the end", on_responses(failed_in_the_end)),
    _responses(
        "responses-arguments",
        "the arguments of a call are others in the deltas than in the item",
        on_responses(delta_changed("function_call_arguments", "ci", "ki")),
    ),
    _responses(
        "responses-forms",
        "a response without a stream says something else than the stream",
        AS_JSON(other_text),
    ),
    _responses(
        "responses-tool", "a response calls a tool that there is not", AS_JSON(tool_of_another_name)
    ),
    _responses("responses-usage", "the usage of a response does not add up", AS_JSON(bad_usage)),
    _responses("responses-500", "a response gets a 500", when_path("/v1/responses", failing)),
    _responses(
        "responses-bare",
        "the events of a response have no sequence_number and no output_index",
        on_responses(without_numbers),
        status="WARN",
        says="no sequence_number",
    ),
)


def measured(check: str, name: str, breaks: str, change: Change, status: Any = "FAIL") -> Fault:
    """What benchmark.py must notice in a stream of this API."""
    quick = {"ttft_ms": 5, "itl_ms": 2, "endpoints": ("responses",)}
    asked = ("--endpoint", "responses", "--inference-only", "--requests", "3", "--max-tokens", "8")
    install = on_responses(change)
    return Fault(f"benchmark-{name}", breaks, "benchmark.py", check, install, status, quick, asked)


BENCHMARK_ROWS: tuple[Fault, ...] = (
    measured(
        "requests", "responses-no-end", "responses have no response.completed", without(*ENDS)
    ),
    measured("requests", "responses-failed", "responses fail in the end", failed_in_the_end),
    measured(
        "stream",
        "responses-order",
        "items of a response are told that were never added",
        without("response.output_item.added"),
    ),
    measured(
        "stream",
        "responses-text",
        "the deltas of a response say another text than its end",
        delta_changed("output_text", " the", " a"),
    ),
    measured(
        "stream",
        "responses-bare",
        "the events of a response have no sequence_number and no output_index",
        without_numbers,
        "WARN",
    ),
)


def lose_a_vector(fields: Fields) -> None:
    if isinstance(fields.get("data"), list) and "embedding" in fields["data"][0]:
        del fields["data"][-1]


def empty_vectors(fields: Fields) -> None:
    for each in fields.get("data") or ():
        if "embedding" in each:
            each["embedding"] = []


WITH_EMBEDDINGS: dict[str, Any] = {"ttft_ms": 5, "endpoints": ("embeddings",)}
BATCHES = ("--endpoint", "embeddings", "--batch", "3", "--inference-only", "--requests", "3")
_embedded = functools.partial(
    Fault,
    script="benchmark.py",
    check="requests",
    options=WITH_EMBEDDINGS,
    arguments=BATCHES,
)

EMBEDDING_ROWS: tuple[Fault, ...] = (
    _embedded(
        name="benchmark-embeddings-lost",
        breaks="embeddings of a batch have a vector less than there are inputs",
        install=AS_JSON(lose_a_vector),
        says="2 vectors for 3 inputs",
    ),
    _embedded(
        name="benchmark-embeddings-empty",
        breaks="the vectors of embeddings are empty",
        install=AS_JSON(empty_vectors),
    ),
)

ROWS = (*SDK_ROWS, *BENCHMARK_ROWS, *EMBEDDING_ROWS)

SOUND_ROWS: tuple[SoundVariant, ...] = (
    SoundVariant("responses-api", "there is a Responses API", (SDK,), nothing, OFFERED),
    SoundVariant(
        "responses-measured",
        "the Responses API is measured, and a response waits in a queue first",
        ("benchmark.py",),
        on_responses(waits_first),
        OFFERED,
        ("--endpoint", "responses"),
    ),
    SoundVariant(
        "embeddings-measured",
        "embeddings are measured",
        ("benchmark.py",),
        nothing,
        WITH_EMBEDDINGS,
        ("--endpoint", "embeddings", "--batch", "3"),
    ),
    SoundVariant(
        "responses-queued",
        "a response waits in a queue, and tells of more than clients know",
        (SDK,),
        on_responses(waits_first),
        OFFERED,
    ),
)
