"""sse: events by the WHATWG rules, however the bytes are split, and what is wrong with a stream."""

import bisect
import functools
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livecheck.wire import http1, sse
from livecheck.wire.sse import Event, events, read_stream

RIGHT_TYPE = "text/event-stream; charset=utf-8"
many_examples = settings(max_examples=200, deadline=None, database=None)


def chunk(delta, finish_reason=None, **extra):
    """One chat completion chunk."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return json.dumps({"id": "c1", "choices": [choice], **extra}, ensure_ascii=False)


ENVELOPE = {"object": "chat.completion.chunk", "created": 1, "model": "m"}


def stream_of(*chunks, end="\n", done=True):
    """A body with one event for each chunk, and [DONE]."""
    datas = [*chunks, "[DONE]"] if done else chunks
    return "".join(f"data: {data}{end}{end}" for data in datas).encode()


def said(text):
    return chunk({"content": text})


ROLE = chunk({"role": "assistant", "content": None})
STOP = chunk({}, "stop")
HELLO = stream_of(ROLE, said("Hé"), said("llo"), STOP)


def read(body, content_type=RIGHT_TYPE):
    return read_stream(content_type, body, [(len(body), 1)])


def kinds(body, content_type=RIGHT_TYPE):
    return [complaint.kind for complaint in read(body, content_type).complaints]


def datas(body):
    return [event.data for event in events(body)[0]]


# --- events, rule by rule (HTML standard 9.2.5 and 9.2.6)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_lines_end_with_lf_crlf_or_cr(end):
    assert datas(end.join([b"data: a", b"", b"data: b", b"", b""])) == [b"a", b"b"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"data: a\n\r\ndata: b\r\n\r", [b"a", b"b"]),
        (b"data: a\r\n\ndata: b\r\r\n", [b"a", b"b"]),
        (b"data: a\r\ndata: b\rdata: c\ndata: d\n\n", [b"a\nb\nc\nd"]),
        (b"data: a\r\n", []),  # one line end, not two
    ],
)
def test_line_ends_may_be_mixed(body, expected):
    assert datas(body) == expected


@pytest.mark.parametrize(
    ("body", "end"),
    [(b"data: a\n\n", 9), (b"data: a\r\r", 9), (b"data: a\r\n\r", 10), (b"data: a\r\n\r\n", 10)],
)
def test_an_event_is_complete_at_the_first_byte_of_the_empty_line(body, end):
    assert events(body) == ([Event(b"a", end, 0, "message")], b"")


def test_the_late_lf_of_a_crlf_does_not_delay_the_event():
    (event,), _ = events(b"data: a\r\n\r\n", [(10, 1), (11, 2)])
    assert event.time_ns == 1


def test_one_leading_bom_is_dropped():
    assert datas(b"\xef\xbb\xbfdata: a\n\n") == [b"a"]
    assert datas(b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n") == []
    assert events(b"\xef\xbb\xbfdata: a\n\n")[0][0].end == 12


def test_comments_are_ignored():
    assert datas(b": ping\n\n:\ndata: a\n: between\ndata: b\n\n") == [b"a\nb"]


def test_data_lines_are_joined_with_lf():
    assert datas(b"data: a\ndata:\ndata: b\n\n") == [b"a\n\nb"]


def test_one_space_after_the_colon_is_dropped():
    assert datas(b"data:a\n\ndata: a\n\ndata:  a\n\ndata:\ta\n\n") == [b"a", b"a", b" a", b"\ta"]


def test_data_without_colon_is_an_empty_line_of_data():
    assert datas(b"data\n\ndata\ndata\n\ndata:") == [b"", b"\n"]


def test_unknown_fields_are_ignored():
    assert datas(b"id: 1\nretry: 5\nfoo: bar\nDATA: x\n data: y\ndata: a\n\n") == [b"a"]


def test_without_a_data_field_nothing_is_dispatched():
    assert datas(b"event: ping\n\nid: 1\n\n\n\ndata: a\n\n") == [b"a"]


def test_an_event_name_is_that_of_one_event_only():
    found, _ = events(b"event: error\ndata: a\n\nevent: x\n\ndata: b\n\nevent:\ndata: c\n\n")
    assert [event.name for event in found] == ["error", "message", "message"]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c"])
def test_other_separators_do_not_end_a_line(separator):
    text = f"one{separator}two"
    assert datas(f"data: {text}\n\n".encode()) == [text.encode()]


def test_the_rest_is_what_follows_the_last_empty_line():
    assert events(b"data: a\n\ndata: b\n") == ([Event(b"a", 9, 0, "message")], b"data: b\n")
    assert events(b"") == ([], b"")


def test_the_time_is_that_of_the_first_mark_that_reaches_the_end():
    body = b"data: a\n\ndata: b\n\n"  # ends at 9 and 18
    times = [event.time_ns for event in events(body, [(8, 1), (9, 2), (17, 3), (18, 4)])[0]]
    assert times == [2, 4]


def test_two_events_in_one_read_have_its_time():
    assert [event.time_ns for event in events(b"data: a\n\ndata: b\n\n", [(18, 5)])[0]] == [5, 5]


def test_too_few_marks_give_the_last_time_and_none_give_0():
    body = b"data: a\n\ndata: b\n\n"
    assert [event.time_ns for event in events(body, [(10, 7)])[0]] == [7, 7]
    assert [event.time_ns for event in events(body)[0]] == [0, 0]


# --- against a second reading of the rules, byte by byte


def slow_events(body):
    """(data, end, name) of each event: a plain state machine, one byte at a time."""
    found, line, data, name, after_cr = [], b"", None, b"", False
    start = 3 if body.startswith(b"\xef\xbb\xbf") else 0
    for end in range(start + 1, len(body) + 1):
        byte = body[end - 1 : end]
        skip, after_cr = after_cr and byte == b"\n", byte == b"\r"
        if skip:
            continue
        if byte not in (b"\r", b"\n"):
            line += byte
            continue
        key, _, value = line.partition(b":")
        value = value[1:] if value.startswith(b" ") else value
        if not line:
            if data is not None:
                found.append((data, end, name.decode("utf-8", "replace") or "message"))
            data, name = None, b""
        elif key == b"data":
            data = value if data is None else data + b"\n" + value
        elif key == b"event":
            name = value
        line = b""
    return found


PIECES = [
    b"data",
    b"data: ",
    b"event",
    b":",
    b" ",
    b"\r",
    b"\n",
    b"\r\n",
    b"\n\n",
    b"x",
    b"\xef\xbb\xbf",
]


@given(st.lists(st.sampled_from([*PIECES, "\u2028".encode(), b"\xff"]), max_size=30).map(b"".join))
@settings(many_examples, max_examples=1000)
def test_events_agree_with_a_byte_by_byte_reading(body):
    found, rest = events(body)
    assert [(event.data, event.end, event.name) for event in found] == slow_events(body)
    assert body.endswith(rest)


# --- any split of the bytes on the wire


MULTI_LINE = b'data: {"choices":\ndata: [{"delta": {"content": "multi"}}]}\nevent: message\n\n'
BODIES = {
    "LF": HELLO,
    "CRLF": HELLO.replace(b"\n", b"\r\n"),
    "CR": HELLO.replace(b"\n", b"\r"),
    "mixed": stream_of(said("a"), end="\r\n") + stream_of(STOP, end="\r", done=False) + HELLO,
    "BOM and comments": b"\xef\xbb\xbf: hi\n\n" + HELLO.replace(b"data: [", b": ping\r\ndata: ["),
    "multi-line": MULTI_LINE + MULTI_LINE.replace(b"\n", b"\r\n") + stream_of(STOP),
    "characters": stream_of(said("ß€\U0001fae0"), said("龜\u2028\u2029\u0085é"), STOP),
    "cut off": HELLO[:-3],
    "cut inside a character": HELLO[: HELLO.index("é".encode()) + 1],
    "broken": stream_of(said("a"), "{", "7", '{"error": {"message": "no"}}')
    + b"data: \xff\n\ndata: x",
    "empty": b"",
}


def sent_chunked(body, size, tail=b"\r\n", extension=b""):
    """The raw bytes, and the raw offset of each body byte, of `body` in chunks of `size` bytes."""
    raw = bytearray(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    offsets = []
    for start in range(0, len(body), size):
        part = body[start : start + size]
        raw += b"%x%b\r\n" % (len(part), extension)
        offsets += range(len(raw), len(raw) + len(part))
        raw += part + b"\r\n"
    return bytes(raw + b"0\r\n" + tail), offsets


def sent_plain(body, head):
    raw = head + b"\r\n\r\n" + body
    return raw, range(len(raw) - len(body), len(raw))


INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: %d"
WAYS = {
    "chunks of 1": lambda body: sent_chunked(body, 1),
    "chunks of 7": lambda body: sent_chunked(body, 7, b"X-Trailer: 1\r\n\r\n", b";a=b"),
    "one chunk": lambda body: sent_chunked(body, max(1, len(body))),
    "length after 100": lambda body: sent_plain(body, INTERIM % len(body)),
    "close": lambda body: sent_plain(body, b"HTTP/1.1 200 OK\r\nConnection: close"),
}


def without_times(stream):
    fields = {name: getattr(stream, name) for name in stream.__slots__ if not name.endswith("_ns")}
    return fields, len(stream.output_ns), stream.done_ns is None, stream.end_ns is None


@functools.cache
def in_one_piece(body):
    """What the body says when it comes in one read, and where its events really end."""
    stream = read_stream(RIGHT_TYPE, body, [(len(body), 1)])
    return without_times(stream), [end for _, end, _ in slow_events(body)]


def check_split(body, raw, offsets, cuts):
    """Cut there, all but the times is as in one piece, and the times are those of the reads."""
    message = http1.Message("POST")
    ends = [*sorted(cuts), len(raw)]
    for start, end in zip([0, *ends], ends, strict=False):
        message.feed(raw[start:end])
    message.eof()
    assert message.complete and message.body(raw) == body
    marks = message.marks(ends, [1000 + index for index in range(len(ends))])
    stream = read_stream(RIGHT_TYPE, body, marks)
    said_whole, true_ends = in_one_piece(body)
    assert without_times(stream) == said_whole

    def arrived(end):
        return 1000 + bisect.bisect_right(ends, offsets[end - 1])

    assert [event.time_ns for event in events(body, marks)[0]] == [*map(arrived, true_ends)]
    assert stream.output_ns == [*map(arrived, stream.output_ends)]
    assert stream.end_ns == (arrived(true_ends[-1]) if true_ends else None)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", BODIES)
def test_a_cut_at_any_offset_changes_nothing_but_the_times(name, way):
    raw, offsets = WAYS[way](BODIES[name])
    # a chunk of one byte has six: every seventh place is at another one of them
    for cut in range(0, len(raw) + 1, 7 if way == "chunks of 1" else 1):
        check_split(BODIES[name], raw, offsets, [cut])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", BODIES)
def test_byte_by_byte_changes_nothing_but_the_times(name, way):
    raw, offsets = WAYS[way](BODIES[name])
    check_split(BODIES[name], raw, offsets, range(1, len(raw)))


@given(
    name=st.sampled_from(sorted(BODIES)),
    size=st.integers(1, 400),
    places=st.lists(st.integers(0, 5000), max_size=25),
)
@many_examples
def test_any_cuts_and_any_chunks_change_nothing_but_the_times(name, size, places):
    raw, offsets = sent_chunked(BODIES[name], size)
    check_split(BODIES[name], raw, offsets, [place % (len(raw) + 1) for place in places])


# --- what a stream says


def test_a_good_stream_is_read_without_complaint():
    stream = read_stream(RIGHT_TYPE, HELLO, [(len(HELLO) - 1, 5), (len(HELLO), 8)])
    assert (stream.text, stream.finish_reason, stream.id, stream.events) == (
        "Héllo",
        "stop",
        "c1",
        5,
    )
    assert (stream.output_ns, stream.done_ns, stream.end_ns) == ([5, 5], 8, 8)
    assert (stream.error, stream.complaints) == (None, [])


def test_output_ends_are_the_ends_of_the_output_events():
    stream = read(HELLO)
    all_ends = [event.end for event in events(HELLO)[0]]
    assert stream.output_ends == all_ends[1:3]


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "a"},
        {"content": " "},
        {"content": "", "reasoning_content": "hm"},
        {"reasoning": "hm"},
        {"tool_calls": [{"index": 0, "id": "x", "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 0}, {"index": 1, "function": {"arguments": "{"}}]},
    ],
)
def test_text_of_any_kind_is_output(delta):
    assert len(read(stream_of(chunk(delta))).output_ns) == 1


@pytest.mark.parametrize(
    "delta",
    [
        {"role": "assistant"},
        {"role": "assistant", "content": ""},
        {"role": "assistant", "content": None, "reasoning_content": None, "tool_calls": None},
        {"tool_calls": []},
        {"tool_calls": [{"index": 0, "id": "x", "function": {"name": "", "arguments": ""}}]},
        {"content": [], "reasoning": [{}], "tool_calls": {"function": {"name": "f"}}},
        {"content": True, "reasoning": {"type": "text"}, "tool_calls": [7]},
        {},
        None,
        [],
        "content",
    ],
)
def test_a_delta_without_text_is_not_output(delta):
    assert read(stream_of(chunk(delta))).output_ns == []


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}], "Hello"),
        ([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Hello"}], "Hello"),
        (["Hel", "lo"], "Hello"),
        ({"text": "Hello"}, "Hello"),
        (7, "7"),
    ],
)
def test_text_of_another_type_is_read_and_complained_of(content, text):
    stream = read(stream_of(chunk({"content": content}, **ENVELOPE), STOP))
    assert (stream.text, len(stream.output_ns)) == (text, 1)
    assert "content is" in dict(stream.form)["form"]


def test_a_deep_list_in_place_of_a_text_does_no_harm():
    deep = "[" * 400 + '"a"' + "]" * 400
    body = stream_of('{"choices": [{"delta": {"content": ' + deep + "}}]}", STOP)
    assert read(body).text == "a"


def test_legacy_completions_carry_text():
    stream = read(stream_of('{"choices": [{"text": "one"}]}', '{"choices": [{"text": ""}]}'))
    assert (stream.text, len(stream.output_ns)) == ("one", 1)


def test_output_in_any_choice_is_one_output_event():
    body = stream_of(
        '{"choices": [{"delta": {}}, {"delta": {"content": "b"}}, {"delta": {"content": "c"}}]}'
    )
    assert (len(read(body).output_ns), read(body).text) == (1, "bc")


# --- how each choice ends


def choice(index, text=None, finish_reason=None):
    delta = {} if text is None else {"content": text}
    one = {"index": index, "delta": delta, "finish_reason": finish_reason}
    return json.dumps({"id": "c1", **ENVELOPE, "choices": [one]})


def ends(*chunks):
    """What is wrong with the end of a stream: complaints, and findings about finish reasons."""
    stream = read(stream_of(*chunks))
    found = {each.kind: each.text for each in stream.complaints + stream.form}
    return {kind: text for kind, text in found.items() if "finish" in kind or kind == "given_up"}


def test_each_choice_has_a_reason_of_its_own():
    assert (
        ends(choice(0, "a"), choice(1, "b"), choice(0, None, "stop"), choice(1, "c", "stop")) == {}
    )
    assert ends(choice(0, "a"), choice(1, "b"), choice(0, None, "stop"), choice(1, "c")) == {
        "no_finish_reason": "choice 1 gave no finish_reason"
    }


def test_a_reason_before_the_last_output_does_not_prove_that_the_answer_is_whole():
    assert ends(choice(0, "a", "stop"), choice(0, "b")) == {
        "no_finish_reason": "choice 0 goes on after its last finish_reason, 'stop'"
    }
    tool = {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ""}}]}
    assert "no_finish_reason" in ends(choice(0, "a", "stop"), chunk(tool))


def test_a_reason_in_every_chunk_ends_the_answer_and_is_a_breach():
    assert ends(choice(0, "a", "stop"), choice(0, "b", "stop")) == {
        "early_finish": "output goes on after a finish_reason"
    }


def test_the_same_reason_twice_is_odd_and_two_reasons_are_a_breach():
    again = choice(0, None, "stop")
    assert ends(choice(0, "a"), again, again) == {"finish_repeated": "finish_reason comes 2 times"}
    assert ends(choice(0, "a"), again, choice(0, "", "eos")).keys() == {
        *("finish_dialect", "finish_repeated")
    }
    assert ends(choice(0, "a"), again, choice(0, None, "length")) == {
        "finish_changes": "finish_reason is 'stop', then 'length'"
    }
    assert ends(choice(0, "a"), again, choice(0, None, "abort")).keys() == {"given_up"}


@pytest.mark.parametrize("text", ["", "null", "None"])
def test_what_stands_for_null_ends_nothing(text):
    stream = read(stream_of(choice(0, "a", text), choice(0, None, "stop")))
    assert (stream.complaints, stream.finish_reason) == ([], "stop")
    assert dict(stream.form)["form"].startswith(f"finish_reason is {text!r} in place of null")
    assert "no_finish_reason" in ends(choice(0, "a", text))


def test_without_an_index_the_place_in_the_list_counts():
    pair = '{"choices": [{"delta": {"content": "a"}}, {"delta": {"content": "b"}}]}'
    last = '{"choices": [{"finish_reason": "stop"}, {"finish_reason": "stop"}]}'
    assert "no_finish_reason" not in ends(pair, last)


# --- text that comes twice


def said_twice(*deltas):
    found = dict(read(stream_of(*map(chunk, deltas), STOP)).form)
    return found.get("said_twice"), found.get("same_thoughts")


def arguments(*pieces, names=()):
    functions = [{"arguments": piece} for piece in pieces] + [{"name": name} for name in names]
    return [{"tool_calls": [{"index": 0, "function": each}]} for each in functions]


TEXTS = ["The", " sea", " keeps", " its", " time"]


def test_text_thoughts_and_arguments_may_not_contain_themselves():
    so_far = ["".join(TEXTS[: n + 1]) for n in range(len(TEXTS))]
    for name in ("content", "reasoning", "reasoning_content"):
        assert said_twice(*({name: text} for text in so_far))[0]
        assert said_twice(*({name: text} for text in TEXTS)) == (None, None)
    assert said_twice(*arguments('{"a', '{"a": "b', '{"a": "b", "c": 1}'))[0]
    assert said_twice(*arguments('{"a', '": "b', '"}', names=["f"])) == (None, None)
    assert said_twice(*arguments("{}", names=["f", "f"]))[0] == (
        "the name of a tool call comes 2 times"
    )


def test_the_same_text_as_content_and_as_thoughts():
    both = [{"content": text, "reasoning": text} for text in TEXTS]
    in_turn = [{name: text} for text in TEXTS for name in ("content", "reasoning")]
    copied = [{name: text} for name in ("reasoning", "content") for text in TEXTS]
    assert said_twice(*both)[0] == "the same text comes as content and as thoughts"
    assert said_twice(*in_turn)[0] == "the same text comes as content and as thoughts"
    assert said_twice(*copied) == (None, "the content is the same text as the thoughts")
    assert said_twice({"reasoning": "hm"}, {"reasoning": "hm"}, {"content": "hm"}) == (None, None)


def test_chunks_that_another_client_has_read_are_judged_alike():
    chunks = [json.loads(each) for each in (ROLE, said("a"), STOP, said("b"))]
    stream = sse.read_chunks(chunks)
    assert (stream.text, stream.events) == ("ab", 4)
    assert "goes on after its last finish_reason" in dict(stream.complaints)["no_finish_reason"]


def test_reasoning_is_kept_apart_and_counted_once_under_two_names():
    stream = read(stream_of(chunk({"reasoning_content": "hm", "reasoning": "hm"}), said("so")))
    assert (stream.reasoning, stream.text) == ("hm", "so")


def test_usage_and_timings_come_from_the_last_that_has_them():
    first, last = (
        json.dumps({"choices": [], "usage": {"n": n}, "timings": {"predicted_n": n}, "model": "m"})
        for n in (2, 3)
    )
    null, wrong = chunk({"content": "a"}, usage=None), chunk({}, "stop", usage=7, timings=[])
    stream = read(stream_of(null, first, last, wrong))
    assert (stream.usage, stream.timings) == ({"n": 3}, {"predicted_n": 3})
    assert (stream.model, stream.complaints) == ("m", [])


def test_halves_of_a_character_in_two_events_are_joined():
    halves = [
        r'{"choices": [{"delta": {"content": "\ud83d"}}]}',
        r'{"choices": [{"delta": {"content": "\ude00"}}]}',
    ]
    assert read(stream_of(*halves)).text == "\U0001f600"
    assert read(stream_of(halves[0], said("x"))).text == "\ufffdx"


def test_done_may_stand_between_blanks():
    assert read(b"data:   [DONE] \n\n").done_ns == 1


# --- complaints, one kind after the other


def test_every_kind_of_complaint_is_tested():
    assert set(WRONG) | {"content_type"} == set(sse.KINDS)


# kind: (body, how the text of the complaint begins)
WRONG = {
    "flood": (b":\n" * (sse.MAX_LINES + 1), "the stream has more than 640,000 lines"),
    "no_done": (stream_of(said("a"), STOP, done=False), "no [DONE] after 2 events"),
    "no_finish_reason": (stream_of(said("a")), "no choice gave a finish_reason"),
    "done_unended": (HELLO[:-1], "[DONE] without the empty line"),
    "cut_off": (HELLO + b"data: {", "the stream ends inside an event: 'data: {'"),
    "error_event": (
        stream_of(said("a"), '{"error": {"message": "slot lost"}}', STOP),
        "the server sent an error inside the stream: slot lost",
    ),
    "not_json": (stream_of(said("a"), "<html>", STOP), "an event is not JSON (Expecting value"),
    "not_utf8": (HELLO.replace("é".encode(), b"\xe9"), "an event is not UTF-8: "),
    "not_an_object": (stream_of(said("a"), "7", STOP), "an event is not a JSON object: '7'"),
    "given_up": (
        stream_of(said("a"), chunk({}, "abort")),
        "finish_reason is 'abort': the answer was given up",
    ),
    "no_choices": (
        stream_of(said("a"), '{"id": "c1"}', STOP),
        "a chunk without a choices list: '{\"id",
    ),
    "after_done": (HELLO + b"data: {}\n\n", "an event after [DONE]: '{}'"),
    "empty": (stream_of(ROLE, STOP), "none of 3 events carried output"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_each_fault_brings_its_complaint_and_no_other(kind):
    body, text = WRONG[kind]
    (complaint,) = read(body).complaints
    assert complaint.kind == kind
    assert complaint.text.startswith(text)


@pytest.mark.parametrize(
    "right", ["text/event-stream", "Text/Event-Stream;charset=x", " text/event-stream "]
)
def test_the_content_type_may_have_parameters_and_any_case(right):
    assert kinds(HELLO, right) == []


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (None, "missing"),
        ("", "missing"),
        ("text/html", "text/html"),
        ("application/json", "application/json"),
    ],
)
def test_another_content_type_is_a_complaint(wrong, text):
    assert read(HELLO, wrong).complaints == [("content_type", f"Content-Type is {text}")]


@pytest.mark.parametrize("data", ["7", "null", '"text"', "[]", "9" * 5000])
def test_json_that_is_not_an_object_is_malformed(data):
    assert kinds(stream_of(said("a"), data, STOP)) == ["not_an_object"]


@pytest.mark.parametrize(
    "data", ["{}", '{"choices": null}', '{"choices": {"a": 1}}', '{"choices": [7]}']
)
def test_an_object_without_a_list_of_choices_is_a_complaint(data):
    assert kinds(stream_of(said("a"), data, STOP)) == ["no_choices"]


@pytest.mark.parametrize("data", ["", "{", "NaN", '{"a": Infinity}', "{'a': 1}", "[" * 100_000])
def test_data_that_json_parsers_refuse_is_malformed(data):
    assert kinds(stream_of(said("a"), data, STOP)) == ["not_json"]


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ('data: {"error": {"message": "m", "type": "t"}}', "m"),
        ('data: {"error": "plain"}', "plain"),
        ('data: {"error": {"code": 500}}', '{"code": 500}'),
        ('data: {"error": {}}', "{}"),
        ('data: {"error": {"message": "a\\n\\u001b[31mb"}}', "a \\x1b[31mb"),
        ('data: {"object": "error", "message": "old vLLM"}', "old vLLM"),
        ('data: {"error": {"message": "m"}, "choices": []}', "m"),
        ('event: error\ndata: {"detail": "d"}', "d"),
        ("event: error\ndata: just words", "just words"),
        ("event: error\ndata: 7", "7"),
        ("event: error\ndata:", "(no message)"),
    ],
)
def test_the_words_of_an_error_event_are_kept(event, words):
    stream = read(HELLO.replace(b"data: [DONE]", event.encode() + b"\n\ndata: [DONE]"))
    assert (stream.error, [complaint.kind for complaint in stream.complaints]) == (
        words,
        ["error_event"],
    )


@pytest.mark.parametrize("nothing", ["null", "false", '""'])
def test_an_error_field_without_a_value_is_not_an_error(nothing):
    chunks = '{"choices": [], "error": ' + nothing + "}"
    assert kinds(stream_of(said("a"), chunks, STOP)) == []


def test_the_first_error_is_kept_and_all_are_counted():
    stream = read(stream_of('{"error": "one"}', '{"error": "two"}'))
    assert stream.error == "one"
    assert stream.complaints[0].text.endswith("one (2 times)")


@pytest.mark.parametrize("rest", [b"", b"\n", b"\r\n\n", b": ping", b": ping\n: pong\r"])
def test_empty_lines_and_comments_at_the_end_are_not_cut_off(rest):
    assert kinds(HELLO + rest) == []


def test_done_without_its_empty_line_still_counts_as_done():
    assert kinds(HELLO[:-1]) == kinds(HELLO[:-2]) == ["done_unended"]


def test_what_follows_done_is_counted_but_not_read():
    stream = read(HELLO + stream_of(said("more"), '{"error": "late"}', done=False))
    assert (stream.events, stream.text, stream.error) == (7, "Héllo", None)
    assert stream.complaints[0].text.endswith("(2 times)")


def test_a_web_page_is_a_bad_stream():
    stream = read(b"<html>\n\n<body>hello</body></html>\n", "text/html")
    assert [c.kind for c in stream.complaints] == [
        "content_type",
        "cut_off",
        "no_done",
        "no_finish_reason",
        "empty",
    ]
    assert (stream.events, stream.end_ns) == (0, None)


def test_complaints_are_short_printable_lines():
    body = (
        stream_of("\x1b[2J\u202e" * 5000, '{"error": "' + "long " * 5000 + '"}', done=False)
        + b"data: "
        + b"y" * 9999
    )
    for complaint in read(body, "x" * 5000).complaints:
        assert len(complaint.text) <= 130
        assert complaint.text.isprintable()


# --- nothing raises, nothing is slow


def check_sane(stream):
    found = [complaint.kind for complaint in stream.complaints]
    assert found == sorted(set(found), key=sse.KINDS.index)
    assert all(text.isprintable() and len(text) <= 130 for _, text in stream.complaints)
    assert len(stream.output_ns) == len(stream.output_ends) <= stream.events
    (stream.text + stream.reasoning + (stream.error or "") + (stream.model or "")).encode()


@given(st.binary(max_size=200), st.none() | st.text(max_size=20))
@many_examples
def test_reading_never_raises_whatever_the_bytes(body, content_type):
    check_sane(read_stream(content_type, body, [(len(body) // 2, 3)]))


@given(
    st.lists(
        st.sampled_from([*PIECES, b"{", b"}", b"[DONE]", b'"choices"', b"[", b"]", b'"']),
        max_size=40,
    )
)
@many_examples
def test_reading_never_raises_whatever_the_event(pieces):
    check_sane(read(b"data: " + b"".join(pieces) + b"\n\n"))


NAMES = [
    "choices",
    "delta",
    "content",
    "text",
    "reasoning",
    "tool_calls",
    "function",
    "name",
    "arguments",
]
NAMES += ["error", "message", "usage", "timings", "finish_reason", "model", "id", "object"]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.just("\ud83d")
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(
    top=st.dictionaries(st.sampled_from(NAMES), VALUES),
    choice=st.dictionaries(st.sampled_from(NAMES), VALUES),
    delta=st.dictionaries(st.sampled_from(NAMES), VALUES),
    name=st.sampled_from(["", "event: error\n"]),
)
@many_examples
def test_reading_never_raises_whatever_the_types(top, choice, delta, name):
    for value in (
        top,
        {**top, "choices": [choice]},
        {**top, "choices": [{**choice, "delta": delta}]},
    ):
        check_sane(read(f"{name}data: {json.dumps(value)}\n\n".encode()))


TEN_MB = 10_000_000
HUGE = {
    "one line": b"x" * TEN_MB,
    "one event": b"data: " + b"x" * TEN_MB + b"\n\n",
    "one text": stream_of(said("x" * TEN_MB)),
    "one error": stream_of('{"error": "' + "x" * TEN_MB + '"}'),
    "no UTF-8": b"data: " + b"\xff" * TEN_MB + b"\n\n",
    "empty lines": b"\n" * TEN_MB,
    "CR CR LF": b"\r\r\n" * (TEN_MB // 6),
    "empty data": b"data\n" * (TEN_MB // 10),
    "deep": b"data: " + b'{"error":' * (TEN_MB // 10) + b"\n\n",
    "blanks": b"data: " + b" " * TEN_MB + b"\n\n",
}


@pytest.mark.parametrize("name", HUGE)
def test_ten_megabytes_of_anything_are_read_in_seconds(name):
    began = time.process_time()
    check_sane(read(HUGE[name]))
    assert time.process_time() - began < 10


def test_the_time_is_linear_in_events_and_marks():
    body = stream_of(*[said("word")] * 20_000)
    marks = [(end, end) for end in range(1, len(body) + 1, 3)]
    began = time.process_time()
    stream = read_stream(RIGHT_TYPE, body, marks)
    assert time.process_time() - began < 5  # it takes 0.2 s
    assert len(stream.output_ns) == 20_000


def test_chunks_that_only_tell_of_progress_are_no_part_of_the_form():
    bare = json.dumps({"choices": [{"delta": {"reasoning_content": "loading model: m\n"}}]})
    words = [chunk({"content": text}, **ENVELOPE) for text in TEXTS]
    stream = read(stream_of(bare, *words, chunk({}, "stop", **ENVELOPE)))
    assert (stream.progress, [each.kind for each in stream.form]) == (1, ["progress"])
    assert stream.text == "".join(TEXTS)


def test_done_twice_is_odd_and_no_breach():
    stream = read(HELLO + stream_of(done=True))
    assert (stream.complaints, stream.text) == ([], read(HELLO).text)
    assert ("done_repeated", "[DONE] comes again") in stream.form
    assert stream.done_ns is not None
