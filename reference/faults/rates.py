"""Streams whose figures are easily wrong: they come in blocks, or count tokens that nobody sees.

What `benchmark.py` must notice of it, what the check `pacing` of `test_openai_sdk.py` must, and the
sound streams that look like it.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable
from typing import Any

from .answers import APP, instead
from .conditions import only
from .fault import Fault, Install, SoundVariant
from .planting import all_of, on_events
from .streams import Events, as_event, content, in_groups, payload, with_content
from .thinking import in_whole_answers, some_thoughts

BENCHMARK, SDK = "benchmark.py", "test_openai_sdk.py"
HIDDEN_TOKENS = 400
PROMPT_TOKENS = 300
WHOLE = 1_000_000  # bytes: more than a stream has
LEVEL = ("--inference-only", "--requests", "6", "--max-tokens", "32", "--timeout", "10")


# --- held back in blocks


def in_blocks(size: int) -> Callable[[Events], Events]:
    """Blocks of so many bytes, which end within an event, as a proxy's buffer does."""

    async def blocks(stream: Events) -> Events:
        held = b""
        async for event in stream:
            held += event
            while len(held) >= size:
                yield held[:size]
                held = held[size:]
        yield held

    return blocks


def written_singly(size: int) -> Callable[[Events], Events]:
    """The same, and the events of a block are written one after the other."""

    async def blocks(stream: Events) -> Events:
        held: list[bytes] = []
        async for event in stream:
            held.append(event)
            if sum(map(len, held)) >= size:
                for each in held:
                    yield each
                    await asyncio.sleep(0)  # so that each is a write of its own
                held = []
        for each in held:
            yield each

    return blocks


def in_intervals(every_s: float) -> Callable[[Events], Events]:
    """What has come, each time when so much time is over."""

    async def blocks(stream: Events) -> Events:
        held, sent_s = b"", time.monotonic()
        async for event in stream:
            held += event
            if time.monotonic() - sent_s >= every_s:
                yield held
                held, sent_s = b"", time.monotonic()
        yield held

    return blocks


def joined(count: int) -> Callable[[Events], Events]:
    """The text of so many tokens in one event."""

    async def fewer(stream: Events) -> Events:
        texts: list[str] = []
        last: dict[str, Any] = {}
        async for event in stream:
            fields = payload(event)
            if text := content(fields):
                texts.append(text)
                last = fields
            if texts and (len(texts) == count or not text):
                yield with_content(last, "".join(texts))
                texts = []
            if not text:
                yield event

    return fewer


# --- tokens that were counted and not shown


def change_usage(change: Callable[[dict[str, Any]], None]) -> Callable[[Events], Events]:
    """Another account of tokens, and no second one (`timings`) that contradicts it."""

    async def changed(stream: Events) -> Events:
        async for event in stream:
            fields = payload(event)
            if fields:
                fields.pop("timings", None)
                if fields.get("usage"):
                    change(fields["usage"])
                event = as_event(fields)
            yield event

    return changed


def with_hidden(usage: dict[str, Any]) -> None:
    usage["completion_tokens"] += HIDDEN_TOKENS
    usage["total_tokens"] += HIDDEN_TOKENS


def with_named_hidden(usage: dict[str, Any]) -> None:
    with_hidden(usage)
    usage["completion_tokens_details"] = {"reasoning_tokens": HIDDEN_TOKENS}


def with_reasoning_beside(usage: dict[str, Any]) -> None:
    """As xAI's API counts: beside completion_tokens, and in the total."""
    usage["completion_tokens_details"] = {"reasoning_tokens": HIDDEN_TOKENS}
    usage["total_tokens"] += HIDDEN_TOKENS


def with_prompt(usage: dict[str, Any]) -> None:
    usage["prompt_tokens"] += PROMPT_TOKENS
    usage["completion_tokens"] += usage["prompt_tokens"]
    usage["total_tokens"] = usage["completion_tokens"]


def of_nothing(usage: dict[str, Any]) -> None:
    for name in usage:
        usage[name] = 0


def as_words(usage: dict[str, Any]) -> None:
    """Numbers as text."""
    for name in usage:
        usage[name] = str(usage[name])


# Tokens of each step of an engine that drafts three and has some of them right, and one more.
STEPS = (4, 1, 3, 2, 4, 4)
DRAFTED = 3


def speculative(is_sound: bool = True) -> Install:
    """Several tokens in an event, and llama.cpp's account of the drafts in the timings."""

    async def steps(stream: Events) -> Events:
        texts: list[str] = []
        last: dict[str, Any] = {}
        sent = tokens = 0
        async for event in stream:
            fields = payload(event)
            if text := content(fields):
                texts.append(text)
                last = fields
            if texts and (len(texts) == STEPS[sent % len(STEPS)] or not text):
                yield with_content(last, "".join(texts))
                sent, tokens, texts = sent + 1, tokens + len(texts), []
            if not text:
                if fields and fields.get("timings"):
                    drafted, accepted = DRAFTED * sent, tokens - sent
                    if not is_sound:
                        drafted, accepted = accepted, drafted
                    fields["timings"] |= {"draft_n": drafted, "draft_n_accepted": accepted}
                    event = as_event(fields)
                yield event

    return on_events(steps)


SHOWN = 4  # tokens


async def thinks_aloud(stream: Events) -> Events:
    """The first half of the tokens is reasoning that is shown, and usage names how much that is."""
    shown = 0
    async for event in stream:
        fields = payload(event)
        if (text := content(fields)) and shown < SHOWN:
            shown += 1
            choice = {**fields["choices"][0], "delta": {"reasoning_content": text}}
            event = as_event({**fields, "choices": [choice]})
        elif fields.get("usage"):
            fields["usage"]["completion_tokens_details"] = {"reasoning_tokens": shown}
            event = as_event(fields)
        yield event


# Long enough for several blocks, and slow enough that a reader sees them.
_pacing = functools.partial(
    Fault,
    script=BENCHMARK,
    check="pacing",
    status="WARN",
    options={"itl_ms": 5},
    arguments=("--max-tokens", "128", "--requests", "2", "--timeout", "10"),
)
_tokens = functools.partial(Fault, script=BENCHMARK, check="tokens", status="WARN")
_sdk = functools.partial(
    Fault,
    script=SDK,
    check="pacing",
    options={"itl_ms": 12},
    arguments=("--only", "pacing", "--max-tokens", "128"),
)

ROWS: tuple[Fault, ...] = (
    _pacing(
        "blocks-4k", "streams are passed on in blocks of 4 KB", install=on_events(in_blocks(4096))
    ),
    _pacing(
        "blocks-16k",
        "streams are passed on in blocks of 16 KB",
        install=on_events(in_blocks(16384)),
    ),
    _pacing(
        "blocks-written-singly",
        "streams are held back for 4 KB, then written event by event",
        install=on_events(written_singly(4096)),
    ),
    _pacing(
        "blocks-timed",
        "streams are passed on every 200 ms",
        install=on_events(in_intervals(0.2)),
    ),
    _pacing(
        "large-events",
        "an event of a stream has the text of 24 tokens",
        install=on_events(joined(24)),
    ),
    Fault(
        "most-held-back",
        "two of three streams come at once at their end, so that they have no gaps to judge",
        BENCHMARK,
        "slo:itl_p99",
        only(lambda asked: asked.number % 3, on_events(in_blocks(WHOLE))),
        "SKIP",
        options={"itl_ms": 5},
        arguments=(*LEVEL, "--slo", "itl_p99=100ms"),
        says="all output came in one arrival",
    ),
    _tokens(
        "hidden-tokens",
        "usage counts 400 tokens that are not shown",
        install=on_events(change_usage(with_hidden)),
    ),
    _tokens(
        "reasoning-beside",
        "reasoning_tokens are not among the completion_tokens",
        install=on_events(change_usage(with_reasoning_beside)),
    ),
    _tokens(
        "prompt-as-output",
        "usage counts the prompt's tokens as output",
        install=on_events(change_usage(with_prompt)),
    ),
    _tokens(
        "drafts-contradict",
        "more draft tokens are accepted than were drafted",
        install=speculative(is_sound=False),
        says="more draft tokens accepted than drafted",
    ),
    _tokens("usage-zero", "usage counts 0 tokens", install=on_events(change_usage(of_nothing))),
    _sdk(
        "sdk-blocks-4k",
        "streams are passed on in blocks of 4 KB",
        install=on_events(in_blocks(4096)),
    ),
    _sdk(
        "sdk-blocks-written-singly",
        "streams are held back for 4 KB, then written event by event",
        install=on_events(written_singly(4096)),
    ),
    _sdk(
        "sdk-blocks-timed",
        "streams are passed on every 400 ms",
        install=on_events(in_intervals(0.4)),
    ),
)

SOUND: tuple[SoundVariant, ...] = (
    SoundVariant(
        "eight-at-once",
        "eight events come in each write, 30 times a second",
        (BENCHMARK, SDK),
        on_events(in_groups(8)),
        options={"itl_ms": 4},
    ),
    SoundVariant(
        "tokens-joined",
        "an event has the text of four tokens",
        (BENCHMARK, SDK),
        on_events(joined(4)),
        options={"itl_ms": 4},
    ),
    SoundVariant(
        "speculative",
        "an engine drafts three tokens in each step, and sends what it accepts in one event",
        (BENCHMARK, SDK),
        speculative(),
        options={"itl_ms": 4},
    ),
    *(
        SoundVariant(name, shows, (BENCHMARK,), install, arguments=("--server-metrics", "auto"))
        for name, shows, install in (
            ("metrics-missing", "there is no /metrics", instead("metrics", status=404)),
            ("metrics-strange", "/metrics is a web page", instead("metrics", **APP)),
            ("metrics-large", "/metrics has 300 KB", instead("metrics", text="# more\n" * 45_000)),
        )
    ),
    SoundVariant(
        "hidden-reasoning",
        "usage counts reasoning that is not shown, and says so",
        (BENCHMARK,),
        on_events(change_usage(with_named_hidden)),
    ),
    SoundVariant(
        "shown-reasoning",
        "the reasoning is shown, and usage says how much it is",
        (BENCHMARK, SDK),
        all_of(on_events(thinks_aloud), in_whole_answers(some_thoughts(SHOWN))),
    ),
    SoundVariant(
        "usage-as-text",
        "the numbers of usage are texts",
        (BENCHMARK,),
        on_events(change_usage(as_words)),
    ),
)
