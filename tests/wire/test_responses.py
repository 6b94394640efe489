"""The streams of the Responses API: their order, what they say, and what they contradict."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from livecheck.wire import response_stream, sse
from livecheck.wire.responses import (
    TEXT,
    THOUGHTS,
    Call,
    Pieces,
    as_chat_usage,
    finish_reason,
    read_events,
    read_whole,
)
from reference.responses import Response
from reference.skills.played import Played, spoken
from reference.skills.tools import called

COUNTS = {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6}
Events = list[dict[str, Any]]


def told(played: Played) -> Events:
    found = Response("sim", played)
    body = b"".join([found.begin(), *found.deltas(), found.end(COUNTS)])
    lines = [line for line in body.split(b"\n") if line.startswith(b"data: ")]
    return [json.loads(line[6:]) for line in lines]


def text() -> Events:
    return told(spoken([" wave", " after", " wave"]))


def tools() -> Events:
    arguments = {"city": "Paris"}
    calls = [{"name": "get_weather", "arguments": arguments}, {"name": "now", "arguments": {}}]
    return told(called(calls, (" Which?",), 99))


def problems(events: Events) -> str:
    return "; ".join(read_events(events).problems)


def without(events: Events, kind: str) -> Events:
    return [each for each in events if each["type"] != f"response.{kind}"]


def test_a_sound_stream_says_what_its_end_says() -> None:
    found = read_events(text())
    assert (found.problems, found.oddities, found.end) == ([], [], "completed")
    assert found.told(TEXT) == " wave after wave" == found.whole.text
    assert found.whole.usage["output_tokens"] == 2


def test_calls_and_thoughts_are_items_of_their_own() -> None:
    found = read_events(tools())
    assert found.problems == []
    assert found.told(THOUGHTS) == " Which?" == found.whole.thoughts and found.told(TEXT) == ""
    expected = [Call("get_weather", '{"city": "Paris"}'), Call("now", "{}")]
    assert found.calls == expected == found.whole.calls


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("created", "the first event is response.in_progress, not response.created"),
        ("output_item.added", "is about an item that was not added"),
        ("content_part.added", "comes before its response.content_part.added"),
        ("output_item.done", "has no response.output_item.done"),
        ("completed", "there is no response.completed at the end"),
    ],
)
def test_what_is_missing_breaks_the_order(kind: str, says: str) -> None:
    assert says in problems(without(text(), kind))


def test_a_lost_delta_is_told_by_each_whole() -> None:
    events = text()
    del events[5]
    found = problems(events)
    assert "say 'wave wave', its .done says 'wave after wave'" in found
    assert "the deltas say 'wave wave', response.completed says" in found


def test_other_arguments_in_the_item_are_a_contradiction() -> None:
    events = tools()
    for each in events:
        if each["type"].endswith("item.done") and each["item"]["type"] == "function_call":
            each["item"]["arguments"] = '{"city": "Rome"}'
    assert "those of the item" in problems(events)


def test_nothing_comes_after_the_end_and_numbers_grow() -> None:
    events = text()
    again = {**events[1], "sequence_number": 3}
    assert "comes after the end (response.completed)" in problems([*events, again])
    assert "sequence_number does not grow" in problems([*events, again])


def test_what_generated_clients_need_is_odd_where_it_lacks_as_with_llama_cpp() -> None:
    events = text()
    for each in events:
        each.pop("sequence_number"), each.pop("output_index", None)
    found = read_events(events)
    assert found.problems == []
    assert [each.partition(" (")[0] for each in found.oddities] == [
        "the events have no sequence_number",
        "the events about items have no output_index",
    ]


def test_an_error_ends_a_stream() -> None:
    failed = {"type": "error", "code": "server_error", "message": "out of memory"}
    found = read_events([*text()[:5], failed])
    assert found.error is not None and "out of memory" in found.error
    assert found.problems == []


def test_whatever_comes_is_read() -> None:
    odd: list[object] = [None, 3, {}, {"type": 5}, {"type": "response.output_text.delta"}]
    odd += [{"type": "response.completed", "response": [1]}, {"type": "response.output_item.added"}]
    assert read_events(odd).problems
    for whole in (None, [], {"output": [None, {"type": "message", "content": 7}]}, {"usage": 3}):
        assert read_whole(whole).text == ""


def test_the_end_in_the_words_of_chat_completions() -> None:
    assert finish_reason("completed", None, False) == "stop"
    assert finish_reason("completed", None, True) == "tool_calls"
    assert finish_reason("incomplete", read_whole({}), False) == "length"
    assert finish_reason("failed", None, False) is None and finish_reason(None, None, False) is None
    usage = {"input_tokens": 3, "input_tokens_details": {"cached_tokens": 2}, "output_tokens": 1}
    found = as_chat_usage(usage)
    assert found is not None and found["prompt_tokens_details"] == {"cached_tokens": 2}


# --- what a server can make it cost


PIECE = "of 34 characters " * 2


def floods(pieces: int, dones: int, is_mixed: bool) -> Events:
    """So many pieces of a text, and so many events that each say that it is done."""
    begin = {"type": "response.output_item.added", "output_index": 0, "item": {"type": "message"}}
    delta = {"type": "response.output_text.delta", "output_index": 0, "delta": PIECE}
    done = {"type": "response.output_text.done", "output_index": 0, "text": "another"}
    if is_mixed:
        return [begin, *[delta, done] * min(pieces, dones)]
    return [begin, *[delta] * pieces, *[done] * dones]


@pytest.mark.parametrize("is_mixed", [False, True])
def test_many_events_that_say_done_take_no_quadratic_time(is_mixed: bool) -> None:
    """To join all pieces at each of them takes more than ten seconds."""
    events = floods(20_000, 20_000, is_mixed)
    began_s = time.process_time()
    found = read_events(events)
    assert time.process_time() - began_s < 3.0
    assert len(found.told(TEXT)) == 20_000 * 34
    assert "its .done says 'another' (20000 times)" in "; ".join(found.problems) or is_mixed


def test_many_items_that_are_done_take_no_quadratic_time() -> None:
    item = {"type": "function_call", "name": "f"}
    piece = {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": "x" * 60}
    end = {"type": "response.output_item.done", "output_index": 0, "item": {"arguments": "y"}}
    begin = {"type": "response.output_item.added", "output_index": 0, "item": item}
    began_s = time.process_time()
    found = read_events([begin, *[piece] * 20_000, *[end] * 20_000])
    assert time.process_time() - began_s < 3.0
    assert found.calls == [Call("f", "x" * 1_200_000)]
    assert "those of the item says 'y' (20000 times)" in "; ".join(found.problems)


@pytest.mark.parametrize(
    ("told", "whole", "is_kept"),
    [
        (["a", "b"], "ab", True),
        (["a", "b"], "b", True),  # the part before it has been told by the same events
        (["a", "", "b"], "ab", True),
        (["a", "b"], "aab", False),
        (["a", "b"], "", False),
        ([], "", True),
        ([], "a", False),
    ],
)
def test_the_whole_of_a_part_is_compared_with_the_end_of_what_was_told(
    told: list[str], whole: str, is_kept: bool
) -> None:
    pieces = Pieces()
    for piece in told:
        pieces.add(piece)
    assert pieces.ends_with(whole) == is_kept
    assert pieces.text == "".join(told)


def test_a_difference_is_shown_by_the_ends_of_both() -> None:
    events = floods(3, 1, is_mixed=False)
    assert "the pieces of response.output_text say '…" in problems(events)
    assert "34 characters', its .done says 'another'" in problems(events)


# --- as a stream


def body(count: int) -> bytes:
    delta = {"type": "response.output_text.delta", "output_index": 0, "delta": "x"}
    return f"data: {json.dumps(delta)}\n\n".encode() * count


def test_events_are_read_one_by_one_and_not_beyond_a_flood(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    class Counted(sse.Event):
        def __new__(cls, *fields: Any) -> Any:
            made.append(1)
            return super().__new__(cls, *fields)

    monkeypatch.setattr(sse, "Event", Counted)
    monkeypatch.setattr(sse, "MAX_EVENTS", 200)
    steps = response_stream.reading_steps("text/event-stream", body(1000))
    next(steps)
    assert len(made) == 1
    next(steps)
    assert len(made) == 1 + sse.EVENTS_AT_ONCE
    list(steps)
    assert len(made) == 201


def test_the_rest_behind_the_last_event_is_a_complaint() -> None:
    found = response_stream.read_stream("text/event-stream", body(2) + b"data: {")
    assert "cut_off" in [each.kind for each in found.complaints]
    found = response_stream.read_stream("text/event-stream", body(2) + b": waits\n")
    assert "cut_off" not in [each.kind for each in found.complaints]


def test_an_item_that_was_never_added_is_not_said_to_be_over() -> None:
    events = without(text(), "output_item.added")
    found = problems(events)
    assert "response.output_text.delta is about an item that was not added (3 times)" in found
    assert "comes after the item was done" not in found
    assert read_events(events).told(TEXT) == " wave after wave"


def test_of_many_different_problems_some_are_kept() -> None:
    """Each has a count; a stream may have as many kinds of events as it has events."""
    odd = [{"type": f"response.x{n % 500}", "sequence_number": 100 + n} for n in range(1000)]
    found = read_events([*text(), *odd])
    assert len(found.problems) == 20
    assert found.problems[0] == "response.x0 comes after the end (response.completed) (2 times)"


def test_an_event_without_a_type_is_an_error_only_if_it_has_one() -> None:
    events = text()
    nameless = {"sequence_number": 1.5}
    assert read_events([*events[:2], nameless, *events[2:]]).error is None
    failed = {"sequence_number": 1.5, "error": {"message": "out of memory"}}
    assert read_events([*events[:2], failed, *events[2:]]).error == "out of memory"
    named = {"type": "response.in_progress", "sequence_number": 1.5, "error": {"message": "no"}}
    assert read_events([*events[:2], named, *events[2:]]).error is None


def test_a_stream_is_read_as_one_of_chat_completions_is() -> None:
    body = b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in text())
    found = response_stream.read_stream("text/event-stream", body)
    assert (found.complaints, found.form, found.finish_reason) == ([], [], "stop")
    assert found.usage is not None and found.usage["completion_tokens"] == 2
    cut = response_stream.read_stream(
        None, body[: body.index(b'data: {"type": "response.completed')]
    )
    kinds = {each.kind: each.text for each in cut.complaints}
    assert kinds["no_finish_reason"] == "there is no response.completed at the end"
    assert kinds["content_type"] == "Content-Type is missing"
    assert cut.finish_reason is None and cut.usage is None
