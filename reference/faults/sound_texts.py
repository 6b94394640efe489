"""Sound texts and ends that look like a broken stream."""

from __future__ import annotations

from . import stream_texts as texts
from .fault import OF_WORDS, SoundVariant
from .planting import on_events

# The scripts whose verdicts depend on what is in a stream.
STREAMING = (
    "benchmark.py",
    "test_openai_sdk.py",
    "test_queue.py",
    "test_model_routing.py",
    "test_workload_routing.py",
)

ROWS: tuple[SoundVariant, ...] = (
    SoundVariant(
        "reason-with-usage",
        "the chunk with the usage has the finish_reason once more",
        STREAMING,
        on_events(texts.reason_with_usage),
    ),
    SoundVariant(
        "role-each-time",
        "each delta has the role",
        STREAMING,
        on_events(texts.role_each_time),
    ),
    SoundVariant(
        "loops",
        "the model writes the same word again and again",
        ("benchmark.py", "test_queue.py", "test_workload_routing.py"),
        on_events(texts.with_texts(lambda text: " ha")),
    ),
    SoundVariant(
        "one-letter-words",
        "each piece of a stream is the same single character",
        ("benchmark.py", "test_queue.py", "test_workload_routing.py"),
        on_events(texts.with_texts(lambda text: "a")),
    ),
    SoundVariant(
        "thoughts-of-its-own",
        "thoughts come before the content, and they repeat a word",
        ("benchmark.py", "test_model_routing.py", "test_workload_routing.py", *OF_WORDS),
        on_events(texts.thoughts_first(copies=False)),
    ),
)
