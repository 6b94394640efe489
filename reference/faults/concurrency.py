"""The faults that test_concurrency.py must notice, and sound deployments that look like them.

They are planted in answers of the skill `repeat`. Most show only while several requests are being
answered.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any

from aiohttp import web

from ..hooks import Handler
from ..skills import repeating
from .answers import instead, never_answer, refuses_parameter, server_error
from .completions import chunk_of, completion
from .conditions import only
from .fault import Fault, Install, SoundVariant
from .planting import around, nothing, on_events
from .streams import DONE, finish, no_done

SCRIPT = "test_concurrency.py"
PLAYS: dict[str, Any] = {"skills": "repeat"}
FEW = ("--concurrency", "4", "--alone", "6", "--max-tokens", "48")
LOOK_S = 0.005  # for which an answer waits, so that the others have come
MOST_TOKENS = 1000  # of an answer without a limit

Fields = dict[str, Any]
# What is said in the place of an answer, with the answers to the other requests that run.
Change = Callable[[str, Sequence[str]], "str | bytes"]


class Running:
    """The answer to one request that runs."""

    def __init__(self, fields: Fields) -> None:
        tokens = repeating.answer(fields) or []
        limit = int(fields.get("max_tokens") or MOST_TOKENS)
        self.text = "".join(tokens[:limit])
        self.reason = "length" if len(tokens) > limit else "stop"


async def fields_of(request: web.BaseRequest) -> Fields:
    found: Fields = json.loads(await request.read() or b"{}")
    return found


def says(fields: Fields, text: str | bytes, reason: str = "stop") -> web.Response:
    """An answer with this text, in the form that is asked for. Bytes come as they are."""
    if not fields.get("stream"):
        return whole(fields, text, reason)
    events = [chunk_of(fields, {"role": "assistant", "content": text})]
    events.append(chunk_of(fields, {}, reason))
    return web.Response(body=b"".join(events) + DONE + b"\n\n", content_type="text/event-stream")


def whole(fields: Fields, text: str | bytes, reason: str) -> web.Response:
    if isinstance(text, str):
        return web.json_response(completion(fields, {"content": text}, reason=reason))
    body = json.dumps(completion(fields, {"content": "@@"}, reason=reason)).encode()
    return web.Response(body=body.replace(b"@@", text), content_type="application/json")


def among_others(handle: Callable[[Fields, Running, list[Running]], Any]) -> Install:
    """What is done with a request while others run; None: it is answered as always."""
    running: list[Running] = []

    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        fields = await fields_of(request)
        mine = Running(fields)
        running.append(mine)
        try:
            await asyncio.sleep(LOOK_S)
            others = [each for each in running if each is not mine]
            found = handle(fields, mine, others) if others else None
            if isinstance(found, web.StreamResponse):
                return found
            return await (found(handler, request) if found else handler(request))
        finally:
            running.remove(mine)

    return around("backend", wrapper)


def under_load(change: Change) -> Install:
    """Other words while other requests run."""

    def handle(fields: Fields, mine: Running, others: list[Running]) -> web.Response:
        text = change(mine.text, [each.text for each in others])
        return says(fields, text, mine.reason)

    return among_others(handle)


def always(change: Callable[[str, Fields], str]) -> Install:
    """Other words, also in answers to requests that run alone."""

    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        fields = await fields_of(request)
        mine = Running(fields)
        return says(fields, change(mine.text, fields), mine.reason)

    return around("backend", wrapper)


def leaves_rest(is_met: Callable[[Fields], object]) -> Install:
    """What was cancelled stands before the next answer, for requests for which `is_met`."""
    left: list[str] = []

    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        fields = await fields_of(request)
        mine = Running(fields)
        if left and is_met(fields):
            return says(fields, f"{left.pop()} {mine.text}", mine.reason)
        try:
            return await handler(request)
        except asyncio.CancelledError:
            left.append(mine.text)
            raise

    return around("backend", wrapper)


def cached_by_likeness() -> Install:
    """The first answer to a question of its kind is given to all of that kind."""
    known: dict[str, str] = {}

    def change(text: str, fields: Fields) -> str:
        return known.setdefault(repeating.last_words(fields)[:5], text)

    return always(change)


def unlucky_at_first(count: int) -> Install:
    """Half of the first answers are wrong, as those of a small model may be by chance."""
    numbers = itertools.count()

    def change(text: str, fields: Fields) -> str:
        number = next(numbers)
        return "I do not know" if number < count and number // 3 % 2 else text

    return always(change)


def in_thoughts(fields: Fields, mine: Running, others: list[Running]) -> web.Response:
    """The answer to another request, as what the model has thought before its own answer."""
    return says(fields, f"<think>{others[0].text}</think>{mine.text}", mine.reason)


def given_up(fields: Fields, mine: Running, others: list[Running]) -> web.Response:
    return server_error()


def silent(fields: Fields, mine: Running, others: list[Running]) -> Any:
    return never_answer


def ends_early(fields: Fields, mine: Running, others: list[Running]) -> web.Response:
    """Nothing shows that the answer is whole."""
    if not fields.get("stream"):
        return says(fields, mine.text, mine.reason)
    events = chunk_of(fields, {"role": "assistant", "content": mine.text[:5]})
    return web.Response(body=events, content_type="text/event-stream")


_fault = functools.partial(Fault, script=SCRIPT, options=PLAYS, arguments=FEW)

ROWS: tuple[Fault, ...] = (
    _fault(
        "answers-swapped",
        "a request gets the answer to another one that runs at the same time",
        check="crosstalk",
        install=under_load(lambda mine, others: others[0]),
    ),
    _fault(
        "answers-mixed",
        "an answer has some of another one after it",
        check="crosstalk",
        install=under_load(lambda mine, others: f"{mine} {others[-1]}"),
    ),
    _fault(
        "thoughts-mixed",
        "the thoughts of an answer are those of another request",
        check="crosstalk",
        install=among_others(in_thoughts),
        says="was answered",
    ),
    _fault(
        "cached-by-likeness",
        "a cache gives the answer to a question that is only alike",
        check="crosstalk",
        install=cached_by_likeness(),
    ),
    _fault(
        "garbage-under-load",
        "answers are exclamation marks while other requests run",
        check="correct",
        install=under_load(lambda mine, others: "!" * len(mine)),
        says="the chance of so few",
    ),
    _fault(
        "empty-under-load",
        "answers are empty while other requests run",
        check="correct",
        install=under_load(lambda mine, others: ""),
    ),
    _fault(
        "fails-under-load",
        "requests fail with a 500 while others run",
        check="answered",
        install=among_others(given_up),
        says="500 planted",
    ),
    _fault(
        "silent-under-load",
        "requests are not answered while others run",
        check="answered",
        install=among_others(silent),
        arguments=(*FEW, "--timeout", "2"),
        says="not finished",
    ),
    _fault(
        "cut-under-load",
        "streams end early while other requests run",
        check="answered",
        install=among_others(ends_early),
    ),
    _fault(
        "broken-under-load",
        "answers are not UTF-8 while other requests run",
        check="answered",
        install=under_load(lambda mine, others: mine.encode() + b" \xc3\x28"),
        says="not UTF-8",
    ),
    _fault(
        "not-utf8-under-load",
        "characters are not UTF-8 while other requests run",
        check="characters",
        status="WARN",
        install=under_load(lambda mine, others: mine.encode() + b" caf\xe9"),
        arguments=(*FEW, "--only", "characters"),
        says="are not UTF-8",
    ),
    _fault(
        "lost-under-load",
        "answers have U+FFFD in them while other requests run",
        check="characters",
        status="WARN",
        install=under_load(lambda mine, others: f"\ufffd {mine}"),
        says="U+FFFD in them",
    ),
    _fault(
        "other-text-under-load",
        "answers at temperature 0 have another text while other requests run",
        check="same_text",
        status="WARN",
        install=under_load(lambda mine, others: f"{mine} indeed"),
    ),
    _fault(
        "leaves-rest",
        "the next answer begins with what was cancelled",
        check="leftovers",
        install=leaves_rest(lambda fields: True),
    ),
    _fault(
        "leaves-rest-in-cache",
        "the next answer begins with what was cancelled, if the prompt may come from a cache",
        check="leftovers",
        install=leaves_rest(lambda fields: fields.get("cache_prompt")),
    ),
    _fault(
        "concurrency-no-done",
        "streams have no [DONE]",
        check="form",
        install=on_events(no_done),
        arguments=(*FEW, "--only", "form"),
    ),
    _fault(
        "concurrency-eos",
        "streams end with the finish_reason eos",
        check="form",
        status="WARN",
        install=on_events(finish("eos")),
        arguments=(*FEW, "--only", "form"),
        says="eos",
    ),
    _fault(
        "concurrency-models-silent",
        "the list of models never comes",
        check="answered",
        install=around("models", never_answer),
        arguments=("--timeout", "1"),
        says="GET /v1/models",
    ),
)


# --- sound


def parrot(text: str, fields: Fields) -> str:
    """The whole question, and then the answer."""
    return f"You asked: {repeating.last_words(fields)}\nThe answer is: {text}"


def polite(text: str, fields: Fields) -> str:
    return f'Sure! Here it is: "{text.upper()}".'


def thinking_aloud(text: str, fields: Fields) -> str:
    return f"<think>The user says {repeating.last_words(fields)!r}.</think>\n{text}"


def weak() -> Install:
    """A model that gets every sixth question wrong, whatever else runs."""
    count = itertools.count()
    return always(lambda text, fields: text if next(count) % 6 else "I am not sure.")


def unsteady() -> Install:
    """No text comes twice."""
    count = itertools.count()
    return always(lambda text, fields: f"{text} ({next(count)})")


def short_answers(most_tokens: int) -> Install:
    """A model with so little context that it refuses longer answers, as vLLM says it."""
    message = f"max_tokens is too large: the maximum context length is {most_tokens} tokens"
    content = {"error": {"message": message, "type": "BadRequestError", "code": 400}}
    refusal = instead(
        "backend", status=400, text=json.dumps(content), content_type="application/json"
    )
    return only(lambda asked: (asked.fields.get("max_tokens") or 0) > most_tokens, refusal)


_sound = functools.partial(SoundVariant, scripts=(SCRIPT,), options=PLAYS, arguments=FEW)

SOUND: tuple[SoundVariant, ...] = (
    _sound(
        "parrot", "the model repeats the whole question before it answers", install=always(parrot)
    ),
    _sound("polite", "answers are in capitals, and in quotation marks", install=always(polite)),
    _sound(
        "thinks-aloud",
        "thoughts with the question in them come first",
        install=always(thinking_aloud),
    ),
    _sound("weak-model", "one answer in six is wrong, alone and together", install=weak()),
    _sound(
        "unsteady-texts", "no text comes twice, also when nothing else runs", install=unsteady()
    ),
    _sound(
        "little-room",
        "of four requests at once some are refused, because only three have room",
        install=nothing,
        options={**PLAYS, "max_concurrent_requests": 2, "max_queue_size": 1},
    ),
    _sound(
        "one-in-turn",
        "one request is served at a time, and the others wait",
        install=nothing,
        options={**PLAYS, "max_concurrent_requests": 1},
    ),
    _sound(
        "unlucky-at-first",
        "the model is wrong in half of its first answers",
        install=unlucky_at_first(14),
    ),
    _sound(
        "short-answers",
        "an answer of 200 tokens is too long, so that none can be cancelled in mid-stream",
        install=short_answers(199),
    ),
    _sound(
        "no-seed",
        "the model takes no seed",
        install=refuses_parameter("seed", "Unsupported parameter: 'seed' is not supported."),
    ),
)
