"""token_counts.py: which tokens were shown, which were hidden, which counts are not believed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from livecheck.wire import sse
from livecheck.wire.token_counts import count_tokens


def stream(
    usage: Mapping[str, Any] | None,
    events: int = 40,
    text: str = " wave",
    reasoning: str = "",
    timings: Mapping[str, Any] | None = None,
) -> sse.Stream:
    """`events` of content with this text, after one event with the reasoning, if there is any."""
    found = sse.Stream(usage=dict(usage) if usage is not None else None)
    found.timings = dict(timings) if timings is not None else None
    found.text, found.reasoning = text * events, reasoning
    count = events + bool(reasoning)
    found.output_ns = [n * 10_000_000 for n in range(count)]
    thoughts = [len(reasoning.encode())] if reasoning else []
    found.output_sizes = thoughts + [len(text.encode())] * events
    return found


def usage(completion: object, reasoning: object = None, prompt: int = 9, total: Any = None) -> Any:
    found: dict[str, Any] = {"completion_tokens": completion, "prompt_tokens": prompt}
    if reasoning is not None:
        found["completion_tokens_details"] = {"reasoning_tokens": reasoning}
    if total is not None:
        found["total_tokens"] = total
    return found


@pytest.mark.parametrize(
    ("given", "counted", "source", "shown", "hidden", "doubt"),
    [
        (stream(usage(40)), 40, "usage", 40, None, None),
        (stream(usage(41)), 41, "usage", 41, None, None),  # the end token
        (stream(usage("40")), 40, "usage", 40, None, None),
        (stream(usage(40, 0)), 40, "usage", 40, 0, None),
        # reasoning that was not shown
        (stream(usage(1500, 1460)), 1500, "usage", 40, 1460, None),
        (stream(usage(1500, "1460")), 1500, "usage", 40, 1460, None),
        (
            stream({"completion_tokens": 1500, "reasoning_tokens": 1460}),
            1500,
            "usage",
            40,
            1460,
            None,
        ),
        # reasoning that was shown: in its own field, or in the text
        (stream(usage(60, 20), reasoning="hm " * 20), 60, "usage", 60, 0, None),
        (stream(usage(40, 30)), 40, "usage", 40, 0, None),
        # reasoning that was shown in part, or whose count is missing
        (stream(usage(1500, 1460), reasoning="in short"), 1500, "usage", None, None, "hidden"),
        (stream(usage(1500)), 1500, "usage", None, None, "hidden"),
        (stream(usage(120)), 120, "usage", None, None, "hidden"),
        # twice as many tokens as events, in a text that is short for them
        (stream(usage(80)), 80, "usage", 80, None, "short"),
        # reasoning beside the completion's tokens
        (stream(usage(40, 500)), 40, "usage", 40, 500, "apart"),
        (stream(usage(40, 30, total=79)), 40, "usage", 40, 30, "apart"),
        (stream(usage(40, 30, total=79), reasoning="hm " * 30), 40, "usage", 70, 0, "apart"),
        # the prompt among the output
        (stream(usage(140, prompt=100, total=140)), 140, "usage", 40, None, "prompt"),
        # the total is wrong, not the output
        (stream(usage(40, prompt=9, total=40)), 40, "usage", 40, None, None),
        # less than was shown: reasoning, for example
        (stream(usage(40), reasoning="hm " * 200, events=60), 40, "usage", None, None, "few"),
        (stream(usage(20), text=" wave after wave"), 20, "usage", None, None, "few"),
        # no count at all, or 0
        (stream(usage(0)), 40, "events", 40, None, "zero"),
        (stream(usage(0), timings={"predicted_n": 41}), 41, "timings", 41, None, "zero"),
        (stream(None), 40, "events", 40, None, None),
        (stream({"completion_tokens": None}), 40, "events", 40, None, None),
        (stream(None, timings={"predicted_n": 900}), 900, "timings", None, None, "hidden"),
        # nothing was shown
        (stream(usage(64), events=0), 64, "usage", 0, 64, None),
        (stream(usage(64, 64), events=0), 64, "usage", 0, 64, None),
        (stream(None, events=0), None, None, None, None, None),
    ],
)
def test_shown_and_hidden_tokens(
    given: sse.Stream,
    counted: int | None,
    source: str | None,
    shown: int | None,
    hidden: int | None,
    doubt: str | None,
) -> None:
    found = count_tokens(given)
    assert found[:4] == (counted, source, shown, hidden)
    assert [kind for kind, _ in found.doubts] == ([doubt] if doubt else [])


@pytest.mark.parametrize(
    "given",
    [
        stream(usage(160), text=" wave after wave the sea"),  # four or five tokens in each event
        stream(usage(120), text="海上"),  # in other scripts a token may be one byte
        stream(usage(40), text="7"),  # one digit in each event
        stream(usage(6), events=2, text="ok"),
    ],
)
def test_a_text_that_can_hold_the_tokens_is_believed(given: sse.Stream) -> None:
    found = count_tokens(given)
    assert found.shown == found.counted and not found.doubts


def test_a_count_is_compared_with_what_was_asked_for() -> None:
    assert count_tokens(stream(usage(40)), most=40).doubts == ()
    (doubt,) = count_tokens(stream(usage(43)), most=40).doubts
    assert doubt == ("limit", "usage counts more than max_tokens, as 43 of 40")
    found = count_tokens(stream(usage(49)), most=40)
    assert found.shown == 40 and found.doubts[0][0] == "prompt"
    assert count_tokens(stream(usage(1500, 1460)), most=40).doubts == ()
