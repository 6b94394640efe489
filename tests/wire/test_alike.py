"""alike: chunks that are read by a pattern give exactly what reading each with care gives."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livecheck.wire import alike, sse

TYPE = "text/event-stream"
TEXTS = (" the", " sea", "é", "海", "\n", '"', "\\", "\ud83d", "\ude00", "{", "data: x", "\x00", "")


def chunk(content=" sea", ident="c1", **more):
    """A chunk as nearly every server sends it."""
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": None}
    envelope = {"id": ident, "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return {**envelope, "choices": [choice], **more}


def body_of(chunks, done=True, ascii_only=True):
    data = [
        json.dumps(each, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
        for each in chunks
    ]
    return b"".join(b"data: %b\n\n" % each for each in [*data, *([b"[DONE]"] if done else [])])


def marks_of(body, pieces):
    """Arrivals: `pieces` events in each read."""
    ends, at = [], 0
    while (at := body.find(b"\n\n", at)) >= 0:
        at += 2
        ends.append(at)
    return [(end, 1000 * place) for place, end in enumerate(ends, 1) if place % pieces == 0]


def both(body, marks, monkeypatch):
    """What the stream is with patterns, and without."""
    with monkeypatch.context() as patch:
        patch.setattr(sse, "_PATTERNS", alike.Patterns())
        # twice: at the second time the patterns are there from the first event on
        found = [sse.read_stream(TYPE, body, marks) for _ in range(2)]
        patch.setattr(sse, "MOST_MISSES", 0)
        careful = sse.read_stream(TYPE, body, marks)
    assert found[0] == found[1]
    return found[0], careful


def read_by_pattern(chunks, monkeypatch):
    """How many of these chunks were read by a pattern."""
    patterns = alike.Patterns()
    with monkeypatch.context() as patch:
        patch.setattr(sse, "_PATTERNS", patterns)
        sse.read_stream(TYPE, body_of(chunks))
    return patterns._read


def test_all_chunks_but_the_first_are_read_by_a_pattern(monkeypatch):
    assert read_by_pattern([chunk(f" {n}") for n in range(50)], monkeypatch) == 49


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "thinking"])
def test_so_are_thoughts(field, monkeypatch):
    chunks = [chunk() for _ in range(20)]
    for each in chunks:
        each["choices"][0]["delta"] = {field: "hm"}
    assert read_by_pattern(chunks, monkeypatch) == 19


def test_fields_that_nobody_looks_at_may_differ(monkeypatch):
    chunks = [chunk(created=n, x_seq=n, x_time=n + 0.5, obfuscation="a" * n) for n in range(20)]
    assert read_by_pattern(chunks, monkeypatch) == 19


def test_a_pattern_is_of_use_for_the_next_stream(monkeypatch):
    patterns = alike.Patterns()
    monkeypatch.setattr(sse, "_PATTERNS", patterns)
    for number in range(3):
        sse.read_stream(TYPE, body_of([chunk(ident=f"c{number}") for _ in range(10)]))
    assert (patterns._made, patterns._read) == (1, 27)


@pytest.mark.parametrize(
    "other",
    [
        chunk(ident="c2"),
        chunk(model="other"),
        chunk(object="text"),
        chunk(system_fingerprint="f"),
        chunk(usage={"completion_tokens": 1}),
        chunk(timings={"prompt_ms": 1}),
        chunk(error={"message": "no"}),
        chunk(choices=[]),
        chunk(created="now"),
        chunk(created=True),
        chunk(created=10**30),
        chunk(""),
        chunk(None),
        chunk(7),
        {**chunk(), "choices": [{"index": 1, "delta": {"content": "a"}, "finish_reason": None}]},
        {**chunk(), "choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]},
        {**chunk(), "choices": [{"index": 0, "delta": {"content": "a", "role": 1}}]},
    ],
)
def test_what_is_different_is_read_with_care(other, monkeypatch):
    around = [chunk(f" {n}") for n in range(5)]
    body = body_of([*around, other, *around, other])
    found, careful = both(body, marks_of(body, 1), monkeypatch)
    assert found == careful


@pytest.mark.parametrize(
    "data",
    [
        b'{"id":"c1","choices":[{"delta":{"content":"a","content":"b"}}]}',
        b'{"id":"c1","id":"c2","choices":[{"delta":{"content":"a"}}]}',
        b'{"content":"a","id":"c1","choices":[{"delta":{"content":"b"}}]}',
        b'{"id":"c1","choices":[{"delta":{"content":["b"]}}]}',
        b'{"id":"content","choices":[{"delta":{"content":"b"}}]}',
    ],
)
def test_where_the_text_is_not_certain_there_is_no_pattern(data):
    assert alike.alike(data, json.loads(data)) is None


def test_patterns_that_are_of_no_use_are_not_made_for_ever(monkeypatch):
    patterns = alike.Patterns()
    monkeypatch.setattr(sse, "_PATTERNS", patterns)
    for number in range(200):
        chunks = [chunk(system_fingerprint=f"f{number}-{n}") for n in range(3)]
        sse.read_stream(TYPE, body_of(chunks))
    assert patterns._made <= alike.MADE_IN_VAIN + 1


deltas = st.one_of(
    st.builds(lambda text: {"content": text}, st.sampled_from(TEXTS)),
    st.builds(lambda text: {"content": text, "role": "assistant"}, st.sampled_from(TEXTS)),
    st.builds(lambda text: {"reasoning_content": text}, st.sampled_from(TEXTS)),
    st.builds(lambda text: {"content": None, "reasoning": text}, st.sampled_from(TEXTS)),
    st.sampled_from([{}, None, {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}]),
)
extras = st.sampled_from(
    [{}, {}, {}, {"usage": None}, {"usage": {"completion_tokens": 3}}, {"x": 1}, {"x": "y"}]
)


@st.composite
def streams(draw):
    """Chunks that are alike for a while, then not, then damaged."""
    found = []
    for _ in range(draw(st.integers(1, 4))):
        more = draw(extras)
        ident = draw(st.sampled_from(["c1", "c1", "c2", "", "ü"]))
        model = draw(st.sampled_from(["m", "m", "other"]))
        ends = draw(st.sampled_from([None, None, None, "stop", ""]))
        for _ in range(draw(st.integers(1, 6))):
            each = chunk(ident=ident, model=model, **more)
            each["choices"][0] |= {"delta": draw(deltas), "finish_reason": ends}
            found.append(each)
    body = bytearray(body_of(found, draw(st.booleans()), draw(st.booleans())))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(body) - 1))
        body[at : at + draw(st.integers(0, 3))] = draw(st.sampled_from([b"", b'"', b"\xff", b"\n"]))
    return bytes(body)


@settings(max_examples=300, deadline=None, database=None)
@given(body=streams(), pieces=st.integers(1, 3))
def test_any_stream_is_the_same_with_and_without_patterns(body, pieces):
    with pytest.MonkeyPatch.context() as monkeypatch:
        found, careful = both(body, marks_of(body, pieces), monkeypatch)
    assert found == careful
