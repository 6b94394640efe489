"""What the SDK is given to read: no sound answer comes near a bound, and each bound holds."""

from __future__ import annotations

import math
import time

import pytest
from helpers.hostile import delta

from livecheck.gateway import answer_parts, tool_calls
from livecheck.gateway.openai_client import shorten_integers
from livecheck.gateway.sdk_bounds import MOST_STREAM_BYTES, PIECE_BYTES, Bounds, cut, nested
from livecheck.gateway.sdk_session import word_to_stop_at

STREAM, JSON = "text/event-stream", "application/json"


def read(bounds: Bounds, body: bytes) -> str | None:
    """Why this body is a flood, read as the guard reads it."""
    size = PIECE_BYTES if bounds.is_stream else 1 << 16
    return next(filter(None, map(bounds.add, cut(body, size))), None)


@pytest.mark.parametrize(
    ("tokens", "body"),
    [
        (64, delta(" word") * 64),
        (64, delta(" word") * 64 + b": still here\n\n" * 20_000),
        (1000, delta("a \N{GRINNING FACE} {", padding="x" * 600) * 1000),
        (20_000, delta(" word") * 20_000),
    ],
)
def test_a_sound_stream_is_not_a_flood(tokens: int, body: bytes) -> None:
    assert read(Bounds(True, 200, STREAM, tokens), body) is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (delta(" word") * 10_000, "more than 1.06 MB of answer"),
        (b'data: {"choices": [' + b"{}," * 30_000, "more than 20000 objects and lists in one"),
        (b'data: {"choices": [' + b"1," * 300_000, "more than 100000 JSON values in one event"),
        (b"data: 1\n" * 20_000, "more than 10000 lines in one event"),
        (b"a\r" * 20_000, "more than 10000 lines in one event"),
        (b"data: [[[[[[]]]]]]\n\n" * 40_000, "more than 200000 objects and lists in the answer"),
    ],
)
def test_a_stream_that_would_cost_the_sdk_too_much_is_a_flood(body: bytes, words: str) -> None:
    found = read(Bounds(True, 200, STREAM, 64), body)
    assert found is not None and words in found


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b" " * (2 << 20), "more than 1 MB of answer"),
        (b"[" * 30_000, "more than 20000 objects and lists in the answer"),
        (b"1," * 150_000, "more than 100000 JSON values in the answer"),
    ],
)
def test_so_is_an_answer(body: bytes, words: str) -> None:
    assert read(Bounds(False, 200, JSON), body) == words
    assert read(Bounds(True, 500, STREAM, 10_000), body) == words  # an error, not the stream


def test_the_longest_stream_is_bounded_whatever_was_asked_for() -> None:
    assert Bounds(True, 200, STREAM, 10**9).most_bytes == MOST_STREAM_BYTES


@pytest.mark.parametrize("named", ["", "identity", "gzip", "GZIP", "br", "utf-8, gzip"])
def test_one_coding_is_decoded(named: str) -> None:
    assert nested(named) is None


@pytest.mark.parametrize("named", ["gzip, gzip", "deflate,gzip", "gzip, identity, br"])
def test_several_codings_are_not(named: str) -> None:
    assert nested(named) is not None


def test_long_integers_become_floats_wherever_they_stand() -> None:
    value = {"a": 10**17, "b": [10**18, {"c": -(10**4000)}], "d": True, "e": "1" * 30}
    shorten_integers(value)
    assert value == {"a": 10**17, "b": [1e18, {"c": -math.inf}], "d": True, "e": "1" * 30}


@pytest.mark.parametrize("text", ["a " * 2_000_000, "word " * 800_000, "a" * 4_000_000])
def test_a_word_to_stop_at_is_searched_in_no_time(text: str) -> None:
    begun = time.process_time()
    word_to_stop_at(text)
    assert time.process_time() - begun < 2


def test_a_tool_call_in_many_pieces_is_put_together_in_no_time() -> None:
    piece = {"index": 0, "function": {"arguments": "x" * 20}}
    chunks = [{"choices": [{"delta": {"tool_calls": [piece] * 10}}]}] * 20_000
    begun = time.process_time()
    (call,) = tool_calls.streamed_tool_calls(chunks).calls
    assert time.process_time() - begun < 5
    assert len(call.arguments) == 4_000_000


def test_bytes_of_a_token_may_be_any_number() -> None:
    assert not answer_parts.joins([{"token": "a", "bytes": [10**30]}], "b")
