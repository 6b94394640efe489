"""thinking.py, thinking_figures.py: where an answer begins behind its thoughts."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import pytest

from livecheck.wire import metrics, sse
from livecheck.wire.decode_figures import decode_figures
from livecheck.wire.metrics import Objective, bounds_of_answers, parse_objective
from livecheck.wire.thinking import Thinking, between_tags
from livecheck.wire.thinking_figures import summary_of, thinking_figures, thinks

THOUGHT, SAID = {"reasoning_content": "hm "}, {"content": "so "}
CALL = {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{}"}}]}
STEP_MS = 10.0


def stream_of(deltas: Sequence[dict[str, Any]], usage: dict[str, Any] | None = None) -> sse.Stream:
    chunks = [{"choices": [{"index": 0, "delta": each}]} for each in deltas]
    end: dict[str, Any] = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    tail = [{"choices": [], "usage": usage}] if usage else []
    lines = [f"data: {json.dumps(each)}\n\n".encode() for each in (*chunks, end, *tail)]
    body = b"".join(lines) + b"data: [DONE]\n\n"
    return sse.read_stream("text/event-stream", body)


def figures(deltas: Sequence[dict[str, Any]], usage: dict[str, Any] | None = None) -> Any:
    """Of a stream whose output events come 10 ms apart, the first after 10 ms."""
    stream = stream_of(deltas, usage)
    times = [STEP_MS * (place + 1) for place in range(len(stream.output_ns))]
    return thinking_figures(stream, times, decode_figures(stream, times))


def tags(*texts: str) -> list[dict[str, Any]]:
    return [{"content": text} for text in texts]


@pytest.mark.parametrize(
    ("deltas", "expected"),
    [
        ([SAID, SAID], None),
        ([THOUGHT, THOUGHT, SAID], Thinking(2, 2, 6)),
        ([{"reasoning": "hm "}, SAID], Thinking(1, 1, 3)),
        ([{"thinking": "hm "}, SAID], Thinking(1, 1, 3)),
        # blanks between both are no answer
        ([THOUGHT, {"content": "\n\n"}, SAID], Thinking(2, 1, 3)),
        # the last thought comes with the first of the answer
        ([THOUGHT, {**THOUGHT, **SAID}, SAID], Thinking(1, 2, 6)),
        # thoughts also after the answer has begun
        ([THOUGHT, SAID, THOUGHT, SAID], Thinking(1, 2, 6)),
        ([{"role": "assistant"}, THOUGHT, CALL], Thinking(1, 1, 3)),
        ([THOUGHT, THOUGHT], Thinking(None, 2, 6)),
        (tags("<think>", "hm", "</think>", "\n\n", "so"), Thinking(4, 3, 17)),
        (tags("<think>hm</thi", "nk>so", " it is"), Thinking(1, 1, 17)),
        (tags("hm", "</think>", "so"), Thinking(2, 2, 10)),  # the template has opened them
        (tags("<think>", "hm"), Thinking(None, 2, 9)),
        (tags("I think", " so"), None),
    ],
)
def test_where_the_answer_begins(deltas: list[dict[str, Any]], expected: Thinking | None) -> None:
    assert stream_of(deltas).thinking == expected


def test_the_answer_is_looked_for_once_however_many_blanks_stand_before_it() -> None:
    """With a look for each event, this takes as long as 26 s."""
    texts = ["<think>a</think>", *[" " * 60] * 40_000, "so"]
    began_s = time.process_time()
    assert between_tags(texts) == Thinking(40_001, 1, 16)
    assert between_tags(texts[:-1]) == Thinking(None, 1, 16)
    assert time.process_time() - began_s < 2.0


def test_without_thoughts_the_answer_begins_with_the_first_token() -> None:
    found = figures([SAID, SAID], {"completion_tokens": 3})
    nothing = {"thinking_tokens": None, "answer_tokens": None, "thinking_source": None}
    assert found == {"ttfa_ms": STEP_MS, **nothing}


NAMED = {"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 5}}


@pytest.mark.parametrize(
    ("usage", "thinking", "answer", "source"),
    [
        (NAMED, 5, 4, "usage"),
        ({"completion_tokens": 9, "reasoning_tokens": 5}, 5, 4, "usage"),
        ({"completion_tokens": 9}, 5, 4, "events"),  # the end token is the answer's
        (None, 5, 3, "events"),
        # four tokens in an event: five eighths of the text are thoughts
        ({"completion_tokens": 32}, 20, 12, "text"),
        # xAI counts them beside the tokens of the answer
        (
            {
                **{"prompt_tokens": 1, "completion_tokens": 4, "total_tokens": 10},
                "completion_tokens_details": {"reasoning_tokens": 5},
            },
            *(5, 4, "usage"),
        ),
    ],
)
def test_tokens_apart(usage: Any, thinking: int, answer: int, source: str) -> None:
    found = figures(
        [{"reasoning_content": "let me see what "}] * 5 + [{"content": "so it is this..."}] * 3,
        usage,
    )
    assert found["ttfa_ms"] == 6 * STEP_MS
    counts = (found["thinking_tokens"], found["answer_tokens"], found["thinking_source"])
    assert counts == (thinking, answer, source)


def test_hidden_thoughts_are_counted_and_do_not_delay_the_answer() -> None:
    found = figures([SAID] * 4, NAMED)
    assert (found["ttfa_ms"], found["thinking_tokens"], found["answer_tokens"]) == (STEP_MS, 5, 4)


def test_an_answer_that_never_begins_has_no_time() -> None:
    found = figures([THOUGHT] * 4, {"completion_tokens": 4})
    assert (found["ttfa_ms"], found["thinking_tokens"], found["answer_tokens"]) == (None, 4, 0)


def test_progress_before_the_thoughts_is_not_the_answer() -> None:
    """A gateway's line about its queue, as content, with an id of its own and before a pause."""
    own = {"id": "own", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    told = {"choices": [{"index": 0, "delta": {"content": "loading model: m\n"}}]}
    chunks = [told, *({**own, "choices": [{"index": 0, "delta": d}]} for d in (THOUGHT, SAID))]
    end = {**own, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    stream = sse.read_chunks([*chunks, end], [0, 5_000_000_000, 5_010_000_000, 5_020_000_000])
    assert stream.progress == 1
    assert stream.thinking == Thinking(1, 1, 3)


# --- of a level


def record(ttft_ms: float | None, ttfa_ms: float | None, **more: Any) -> dict[str, Any]:
    return {"ttft_ms": ttft_ms, "ttfa_ms": ttfa_ms, **more}


def test_what_a_level_says_of_its_thoughts() -> None:
    thought = {"thinking_tokens": 5, "thinking_source": "events"}
    found = [record(10, 10), record(10, 50, **thought), record(10, None, **thought), {}]
    expected = {"with_thoughts": 2, "without_answer": 1, "thinking_sources": {"events": 2}}
    assert summary_of(found) == expected


def test_a_record_of_an_older_version_says_nothing_of_thoughts() -> None:
    assert not thinks({"ttft_ms": 10.0})


def bound(text: str) -> Objective:
    return parse_objective(text)


def level(missing: int, thought_for_ms: float = 50.0) -> dict[str, Any]:
    """100 answers, those that begin after 10, 20, … ms; the others only think, for so long."""
    begun = [record(5.0, 10.0 * n, event_ms=[]) for n in range(1, 101 - missing)]
    never = [record(5.0, None, event_ms=[5.0, thought_for_ms]) for _ in range(missing)]
    found = {
        "succeeded": 100,
        **summary_of([*begun, *never]),
        **bounds_of_answers([*begun, *never]),
    }
    return found | {"ttfa_ms": metrics.summary([each["ttfa_ms"] for each in begun])}


@pytest.mark.parametrize(
    ("objective", "missing", "is_told"),
    [
        ("ttfa_p50=1s", 0, True),
        ("ttfa_p50=1s", 49, True),
        ("ttfa_p50=1s", 50, False),
        ("ttfa_p95=1s", 4, True),
        ("ttfa_p95=1s", 6, False),
        ("ttfa_mean=1s", 1, False),
        ("ttfa_max=1s", 1, False),
        ("ttfa_min=1s", 99, True),
        ("ttfa_p95=400ms", 20, True),  # it is missed by the others already
        ("ttfa_p50=1s", 100, False),
        ("ttfa_p50=40ms", 100, True),  # the thoughts alone took longer
        ("ttfa_max=40ms", 100, True),
    ],
)
def test_answers_that_never_began_may_leave_a_bound_undecided(
    objective: str, missing: int, is_told: bool
) -> None:
    why = bound(objective).why_unknown(level(missing))
    assert (why is None) is is_told
    assert why is None or "raise --max-tokens" in why


def test_the_median_counts_the_answers_that_never_began() -> None:
    """40 of 100 think for longer than all others need: the median is between the 50th and 51st of
    these, and not that of the others alone, 305 ms."""
    figures = level(40, thought_for_ms=900.0)
    assert figures["ttfa_ms"]["p50"] == 305.0
    assert bound("ttfa_p50=400ms").value(figures) == 505.0
    assert not bound("ttfa_p50=400ms").is_at_least(figures)


def test_thoughts_that_took_longer_than_the_bound_break_it() -> None:
    figures, limit = level(100), bound("ttfa_p95=40ms")
    assert limit.value(figures) == 50.0 and limit.is_at_least(figures)
    each = bound("ttfa=40ms")
    never = record(5.0, None, event_ms=[5.0, 50.0])
    assert not each.is_unknown(never) and not each.holds(each.value_of(never))
    assert bound("ttfa=60ms").is_unknown(never)


def test_a_result_of_an_older_version_leaves_a_bound_open_that_its_others_keep() -> None:
    figures = {"succeeded": 100, "without_answer": 4, "ttfa_ms": {"p50": 500.0}}
    assert bound("ttfa_p50=1s").why_unknown(figures)
    assert bound("ttfa_p50=400ms").why_unknown(figures) is None
