"""The form of chunks and of whole answers, and what finish reasons mean."""

from __future__ import annotations

import json
from typing import Any

import pytest

from livecheck.wire import chunk_form, sse

CHUNK: dict[str, Any] = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
CHOICE: dict[str, Any] = {"index": 0, "delta": {"content": "a"}, "finish_reason": None}
GOOD = {**CHUNK, "choices": [CHOICE]}
LAST = {**CHUNK, "choices": [{**CHOICE, "delta": {}, "finish_reason": "stop"}]}


def without(fields: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key != name}


def with_choice(**changes: Any) -> dict[str, Any]:
    return {**CHUNK, "choices": [{**CHOICE, **changes}]}


@pytest.mark.parametrize(
    "chunk",
    [
        GOOD,
        LAST,
        {**CHUNK, "choices": [], "usage": {"total_tokens": 1}},  # OpenAI, vLLM
        {**GOOD, "usage": None},
        {"id": "", "object": "", "created": 0, "model": "", "choices": []},
        {"choices": [], "prompt_filter_results": [{"prompt_index": 0}]},
        {
            "id": "",
            "object": "",
            "created": 0,
            "model": "",
            "choices": [{"index": 0, "finish_reason": None, "content_filter_offsets": {}}],
        },
        with_choice(delta={"role": "assistant", "content": None, "tool_calls": None}),
        {**CHUNK, "object": "text_completion", "choices": [{"index": 0, "text": "a"}]},
    ],
)
def test_what_sound_servers_send_is_not_a_departure(chunk: dict[str, Any]) -> None:
    assert chunk_form.chunk_problems(chunk) == []


@pytest.mark.parametrize(
    ("chunk", "words"),
    [
        (without(GOOD, "object"), "object is missing, not 'chat.completion.chunk'"),
        ({**GOOD, "object": "chat.completion"}, "object is 'chat.completion'"),
        (without(GOOD, "created"), "created is missing"),
        ({**GOOD, "created": 1.5}, "created is 1.5, not a whole number"),
        ({**GOOD, "created": True}, "created is true"),
        ({**GOOD, "created": "now"}, "created is 'now'"),
        ({**GOOD, "model": None}, "model is null"),
        ({**GOOD, "usage": []}, "usage is of type list"),
        (with_choice(index="0"), "the index of a choice is '0'"),
        (with_choice(index=None), "the index of a choice is null"),
        (with_choice(delta=None), "a choice has no delta"),
        (with_choice(delta="a"), "delta is 'a'"),
        (with_choice(delta={"role": "user"}), "role is 'user'"),
        (with_choice(delta={"content": ["a"]}), "content is of type list"),
        (with_choice(finish_reason=7), "finish_reason is 7"),
    ],
)
def test_a_departure_is_named(chunk: dict[str, Any], words: str) -> None:
    (problem,) = chunk_form.chunk_problems(chunk)
    assert problem.startswith(words)


@pytest.mark.parametrize("reason", ["stop", "length", "tool_calls", "function_call"])
def test_openais_own_reasons_say_nothing(reason: str) -> None:
    assert chunk_form.given_up(reason) is None is chunk_form.dialect(reason)


@pytest.mark.parametrize(
    ("reason", "meaning"),
    [("eos", "stop"), ("STOP", "stop"), ("max_tokens", "length"), ("tool_use", "tool_calls")],
)
def test_a_dialect_is_complete_and_named(reason: str, meaning: str) -> None:
    assert chunk_form.finish_meaning(reason) == meaning
    assert chunk_form.given_up(reason) is None
    assert f"says {meaning!r}" in str(chunk_form.dialect(reason))


@pytest.mark.parametrize("reason", ["abort", "error", "cancelled", "", "quite something else"])
def test_any_other_word_means_that_the_answer_was_given_up(reason: str) -> None:
    assert "given up" in str(chunk_form.given_up(reason))
    assert chunk_form.dialect(reason) is None


WHOLE: dict[str, Any] = {
    "id": "1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {}, "finish_reason": "stop"}],
}


@pytest.mark.parametrize("name", ["id", "object", "created", "model"])
def test_a_whole_answer_has_an_envelope_too(name: str) -> None:
    assert chunk_form.whole_problems(WHOLE) == []
    (problem,) = chunk_form.whole_problems(without(WHOLE, name))
    assert problem.startswith(f"{name} is missing")


# --- as the reader of streams tells it


def read(*events: bytes) -> sse.Stream:
    return sse.read_stream("text/event-stream", b"".join(events) + b"data: [DONE]\n\n")


def event(fields: Any, name: str = "") -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(fields)}\n\n".encode()


def form(stream: sse.Stream) -> dict[str, str]:
    return dict(stream.form)


def test_a_sound_stream_has_no_findings() -> None:
    stream = read(event(GOOD), event(LAST))
    assert (stream.form, stream.complaints) == ([], [])


def test_an_event_of_another_name_is_not_a_chunk_and_is_counted() -> None:
    ping = event({"type": "ping"}, "ping")
    stream = read(ping, event(GOOD), ping, b"event: ping\ndata: hello\n\n", event(LAST))
    assert (stream.text, len(stream.output_ns), stream.complaints) == ("a", 1, [])
    assert form(stream) == {
        "foreign_event": "an event of the name 'ping' is not a chunk (3 times)",
    }


def test_a_lost_character_is_counted() -> None:
    lost = {**GOOD, "choices": [{"index": 0, "delta": {"content": "a\ufffd\ufffd"}}]}
    assert form(read(event(lost), event(LAST))) == {
        "lost_characters": "U+FFFD, a lost character, 2 times in the text",
    }


def test_a_chunk_of_any_name_is_a_chunk() -> None:
    stream = read(event(GOOD, "completion.chunk"), event(LAST))
    assert (stream.text, list(form(stream))) == ("a", ["named_chunk"])
    done = sse.read_stream("text/event-stream", event(LAST) + b"event: end\ndata: [DONE]\n\n")
    assert done.done_ns is not None


def test_an_error_of_any_name_is_an_error() -> None:
    stream = read(event(GOOD), event({"error": {"message": "lost"}}, "failure"), event(LAST))
    assert [each.kind for each in stream.complaints] == ["error_event"]
    assert stream.error == "lost"


def test_azures_first_chunk_is_not_a_second_id() -> None:
    note = {"id": "", "object": "", "created": 0, "model": "", "choices": []}
    stream = read(event({**note, "prompt_filter_results": []}), event(GOOD), event(LAST))
    assert (stream.form, stream.id) == ([], "1")


def test_ids_and_models_are_those_of_one_answer() -> None:
    other = {**LAST, "id": "2", "model": "n"}
    assert form(read(event(GOOD), event(other))) == {
        "ids": "2 different ids in 2 chunks: each has its own",
        "model_changes": "the model changes within the stream: 'm', then 'n'",
    }
    assert "1 of 2 chunks have no id" in form(read(event(without(GOOD, "id")), event(LAST)))["ids"]


def test_usage_in_a_chunk_without_choices_is_read_and_complained_of() -> None:
    tail = {**CHUNK, "usage": {"completion_tokens": 7}}
    for each in (tail, {**tail, "choices": None}):
        stream = read(event(GOOD), event(LAST), event(each))
        assert stream.usage == {"completion_tokens": 7}
        assert [each.kind for each in stream.complaints] == ["no_choices"]


def test_each_departure_is_told_once_with_its_count() -> None:
    bad = {**GOOD, "object": "x"}
    stream = read(event(bad), event(bad), event(without(LAST, "created")))
    assert form(stream)["form"] == (
        "object is 'x', not 'chat.completion.chunk' (2 times); "
        "created is missing, not a whole number"
    )
