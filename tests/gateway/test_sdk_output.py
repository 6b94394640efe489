"""What the SDK has read: progress and thoughts, by the same rules as at the wire."""

from __future__ import annotations

from typing import Any

from livecheck.gateway.sdk_output import Progress, progress_in, spent_in
from livecheck.wire.thoughts import Spent

ASKED = {"max_tokens": 8}


def chunk(reason: str | None = None, ident: str = "c1", **delta: Any) -> dict[str, Any]:
    return {"id": ident, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


def whole(reason: str = "length", **message: Any) -> dict[str, Any]:
    usage = {"completion_tokens": 8, "completion_tokens_details": {"reasoning_tokens": 8}}
    choice = {"index": 0, "message": message, "finish_reason": reason}
    return {"choices": [choice], "usage": usage}


def test_progress_is_told_from_the_model_s_own_chunks() -> None:
    chunks = [chunk(role="assistant"), chunk(ident="q", content="Position in queue: 1"), 7]
    chunks += [chunk(content=word) for word in ("The", " sea", " is")] + [chunk("stop")]
    times = [0.0, 1.0, 2.0, 900.0, 920.0, 940.0, 960.0]
    found = progress_in(chunks, times)
    assert found == Progress(frozenset({1}), "Position in queue: 1")
    assert "1 event before the first token" in found.words
    assert progress_in([], []) == progress_in(chunks[3:], times[3:]) == Progress()


def test_thoughts_alone_are_found_in_both_forms() -> None:
    thoughts = [chunk(reasoning="Let"), chunk(reasoning=" me"), chunk("length")]
    assert spent_in(None, thoughts, ASKED) == Spent(None, True)
    assert spent_in(whole(content=""), [], ASKED) == Spent(8, False, True)
    assert spent_in(whole(content=None, thinking="Let me"), [], ASKED) == Spent(8, True)
    assert spent_in(None, [chunk("length")], ASKED) == Spent(None, False)
    assert spent_in({"choices": [{"text": "", "finish_reason": "stop"}]}, [], ASKED) is None


def test_an_answer_that_has_begun_has_more_than_thoughts() -> None:
    call = {"index": 0, "function": {"name": "get_weather"}}
    for message in ({"content": "So"}, {"tool_calls": [call]}, {"refusal": "No."}):
        assert spent_in(whole(**message), [], ASKED) is None
        assert spent_in(None, [chunk(**message), chunk("length")], ASKED) is None
    assert spent_in(None, [], ASKED) is None
