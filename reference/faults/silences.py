"""Deployments that are silent for longer than an edge in front of them waits, and sound ones that
send comments meanwhile."""

from __future__ import annotations

import asyncio

from .fault import Fault, SoundVariant
from .planting import nothing, on_events
from .progress import Messages, in_front
from .scale_to_zero import SLEEPY, WITHOUT_CONTROL
from .streams import EVENTS_BEFORE_TROUBLE, Events

PAUSE_S = 0.8
PACE_S = 0.05  # as the model: a client that is a little late merges no events
PATIENCE = ("--edge-idle", "0.4")
COMMENT = b": keep-alive\n\n"


async def pause(stream: Events) -> Events:
    """The model rests once in the middle of its answer."""
    position = 0
    async for event in stream:
        if position == EVENTS_BEFORE_TROUBLE:
            await asyncio.sleep(PAUSE_S)
        elif position > EVENTS_BEFORE_TROUBLE:  # what came meanwhile is not sent all at once
            await asyncio.sleep(PACE_S)
        position += 1
        yield event


ROWS: tuple[Fault, ...] = (
    Fault(
        "silence-between-tokens",
        "a stream is silent between two tokens for longer than the edge waits",
        "benchmark.py",
        "edge_idle",
        on_events(pause),
        "WARN",
        options={"itl_ms": 50},
        arguments=("--inference-only", *PATIENCE),
        says="of 3 requests: between tokens, ",
    ),
    Fault(
        "silence-in-prefill",
        "a prefill takes longer than the edge waits",
        "benchmark.py",
        "edge_idle",
        nothing,
        "WARN",
        options={"ttft_ms": 800, "itl_ms": 50},
        arguments=("--inference-only", *PATIENCE),
        says="of 3 requests: prefill, ",
    ),
    Fault(
        "silence-in-queue",
        "a request waits in the queue for longer than the edge waits",
        "test_queue.py",
        "edge_idle",
        nothing,
        "WARN",
        options={"max_concurrent_requests": 1, "max_queue_size": 2, "output_tokens": 1600},
        arguments=("--max-tokens", "500", "--only", "edge_idle", *PATIENCE),
        says="queue",
    ),
    Fault(
        "silence-of-cold-start",
        "a cold start takes longer than the edge waits",
        "test_scale_to_zero.py",
        "edge_idle",
        nothing,
        "WARN",
        options=SLEEPY,
        arguments=(*WITHOUT_CONTROL, *PATIENCE),
        says="cold start",
    ),
)

SOUND: tuple[SoundVariant, ...] = (
    SoundVariant(
        "comments-while-waiting",
        "while a request waits, its stream has comments",
        ("test_scale_to_zero.py",),
        in_front(Messages([COMMENT], COMMENT)),
        arguments=("--edge-idle", "0.6", "--strict"),
    ),
    SoundVariant(
        "comments-in-queue",
        "while a request waits in the queue, its stream has comments",
        ("test_queue.py",),
        in_front(Messages([COMMENT], COMMENT)),
        arguments=("--max-tokens", "800", "--edge-idle", "0.6", "--strict"),
    ),
)
