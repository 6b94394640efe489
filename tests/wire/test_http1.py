"""http1.Message: where a message ends and which bytes are the body, however the input is split."""

import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livecheck.wire import http1
from livecheck.wire.http1 import Message

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
SOME_BYTES = st.binary(max_size=40)
many_examples = settings(max_examples=200, deadline=None, database=None)

# name: (all bytes from the peer, method of the request, what the response is)
WHOLE = {
    "chunked": (CHUNKED + b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "GET", b"hello world"),
    "chunk of one byte": (CHUNKED + b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n", "GET", b"ab"),
    "chunk holding CR LF": (CHUNKED + b"4\r\n\r\n\r\n\r\n0\r\n\r\n", "GET", b"\r\n\r\n"),
    "chunk border in a character": (
        CHUNKED + b"1\r\n\xc3\r\n1\r\n\xa9\r\n0\r\n\r\n",
        "GET",
        b"\xc3\xa9",
    ),
    "upper case and leading zeros": (
        CHUNKED + b"00A\r\n0123456789\r\n000\r\n\r\n",
        "GET",
        b"0123456789",
    ),
    "chunk extensions": (CHUNKED + b'2;a=b;c="d"\r\nhi\r\n0;last\r\n\r\n', "GET", b"hi"),
    "blanks after the size": (CHUNKED + b"2  \r\nhi\r\n0 ; x\r\n\r\n", "GET", b"hi"),
    "trailers": (CHUNKED + b"2\r\nhi\r\n0\r\nX: 1\r\nY: 2\r\n\r\n", "GET", b"hi"),
    "chunked last of two": (
        OK + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        "GET",
        b"hi",
    ),
    "empty chunked": (CHUNKED + b"0\r\n\r\n", "GET", b""),
    "length": (OK + b"Content-Length: 5\r\n\r\nhello", "GET", b"hello"),
    "length zero": (OK + b"Content-Length: 0\r\n\r\n", "GET", b""),
    "length with surplus": (OK + b"Content-Length: 5\r\n\r\nhelloHTTP/1.1 ", "GET", b"hello"),
    "chunked with surplus": (CHUNKED + b"0\r\n\r\nmore", "GET", b""),
    "same length twice": (
        OK + b"Content-Length: 2\r\ncontent-length: 2, 2\r\n\r\nhi",
        "GET",
        b"hi",
    ),
    "both framings": (
        OK + b"Content-Length: 99\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        "GET",
        b"hi",
    ),
    "interim first": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n"
        + OK
        + b"Content-Length: 2\r\n\r\nhi",
        "POST",
        b"hi",
    ),
    "HEAD": (OK + b"Content-Length: 5\r\n\r\n", "HEAD", b""),
    "204": (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", "GET", b""),
    "304": (b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", "GET", b""),
    "bare LF in the head": (b"HTTP/1.1 200 OK\nA: 1\nContent-Length: 2\n\nhi", "GET", b"hi"),
    "folded value": (
        OK + b"A: one\r\n two\r\n\tthree\r\nContent-Length: 2\r\n\r\nhi",
        "GET",
        b"hi",
    ),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", "GET", b"hi"),
}
UNTIL_CLOSE = {
    "close": (OK + b"Connection: close\r\n\r\nhello", "GET", b"hello"),
    "chunked not last": (OK + b"Transfer-Encoding: chunked, gzip\r\n\r\nab", "GET", b"ab"),
    "empty until close": (OK + b"\r\n", "GET", b""),
    "coded, not chunked": (
        OK + b"Transfer-Encoding: gzip\r\nContent-Length: 1\r\n\r\nab",
        "GET",
        b"ab",
    ),
}
# name: (bytes, method, the error once the peer has closed)
BROKEN = {
    "nothing": (b"", "GET", "connection closed without an answer"),
    "half a head": (b"HTTP/1.1 200", "GET", "connection closed inside the head, after 12 bytes"),
    "only interim": (
        b"HTTP/1.1 100 C\r\n\r\n",
        "POST",
        "connection closed inside the head, after 18 bytes",
    ),
    "short body": (
        OK + b"Content-Length: 17\r\n\r\nhello",
        "GET",
        "connection closed 12 bytes before the announced Content-Length",
    ),
    "short chunk": (
        CHUNKED + b"a\r\nhello",
        "GET",
        "connection closed 5 bytes before the end of a chunk of 10",
    ),
    "no last chunk": (CHUNKED + b"2\r\nhi\r\n", "GET", "connection closed before the last chunk"),
    "chunk without its CR LF": (
        CHUNKED + b"2\r\nhi",
        "GET",
        "connection closed before the last chunk",
    ),
    "half a size line": (
        CHUNKED + b"2\r\nhi\r\n1",
        "GET",
        "connection closed before the last chunk",
    ),
    "half a trailer": (
        CHUNKED + b"0\r\nX: 1\r\n",
        "GET",
        "connection closed after the last chunk, before the empty line that ends the message",
    ),
    "HTTP/0.9": (
        b"<html>hello</html>",
        "GET",
        "not an HTTP/1.1 response: it starts with '<html>hel'",
    ),
    "HTTP/2": (
        b"HTTP/2 200\r\n\r\n",
        "GET",
        r"not an HTTP/1.1 response: it starts with 'HTTP/2 20'",
    ),
    "short garbage": (
        b"no\n\nmore of it",
        "GET",
        r"not an HTTP/1.1 response: it starts with 'no\n\n'",
    ),
    "leading empty line": (
        b"\r\n\r\n" + OK,
        "GET",
        r"not an HTTP/1.1 response: it starts with '\r\n\r\n'",
    ),
    "no status": (b"HTTP/1.1 OK\r\n\r\n", "GET", "not an HTTP/1.1 status line: 'HTTP/1.1 OK'"),
    "four digits": (
        b"HTTP/1.1 2000\r\n\r\n",
        "GET",
        "not an HTTP/1.1 status line: 'HTTP/1.1 2000'",
    ),
    "no colon": (OK + b"hello there\r\n\r\n", "GET", "not a header line: 'hello there'"),
    "no name": (OK + b": there\r\n\r\n", "GET", "not a header line: ': there'"),
    "trailer without colon": (
        CHUNKED + b"0\r\nHTTP/1.1 200\r\n\r\n",
        "GET",
        "not a header line: 'HTTP/1.1 200'",
    ),
    "two lengths": (
        OK + b"Content-Length: 5\r\nContent-Length: 7\r\n\r\nhello",
        "GET",
        "Content-Length given as 5 and as 7",
    ),
    "signed length": (
        OK + b"Content-Length: +5\r\n\r\nhello",
        "GET",
        "Content-Length is not a length: '+5'",
    ),
    "empty length": (
        OK + b"Content-Length:\r\n\r\nhello",
        "GET",
        "Content-Length is not a length: ''",
    ),
    "latin-1 digit": (
        OK + b"Content-Length: \xb2\r\n\r\nab",
        "GET",
        r"Content-Length is not a length: '\xb2'",
    ),
    "endless length": (
        OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nhello",
        "GET",
        "Content-Length is not a length: '" + "9" * 40 + "'...",
    ),
    "signed size": (CHUNKED + b"+5\r\nhello\r\n", "GET", "not a chunk size line: '+'"),
    "prefixed size": (CHUNKED + b"0x5\r\nhello\r\n", "GET", "not a chunk size line: '0x'"),
    "underscore in size": (CHUNKED + b"1_0\r\nhello\r\n", "GET", "not a chunk size line: '1_'"),
    "17 digits": (
        CHUNKED + b"0" * 16 + b"5\r\nhello",
        "GET",
        "not a chunk size line: '00000000000000005'",
    ),
    "no size": (CHUNKED + b"2\r\nhi\r\n\r\n", "GET", r"not a chunk size line: '\r'"),
    "bare LF in framing": (CHUNKED + b"2\nhi\n0\n\n", "GET", r"not a chunk size line: '2\n'"),
    "longer than its size": (
        CHUNKED + b"2\r\nhello\r\n",
        "GET",
        "chunk of 2 bytes not followed by CR LF",
    ),
    "CR without LF": (CHUNKED + b"2\r\nhi\rx", "GET", "chunk of 2 bytes not followed by CR LF"),
}
CORPUS = {**WHOLE, **UNTIL_CLOSE, **BROKEN}


def fed(raw, method="GET", cuts=(), closed=True):
    """A message fed with `raw`, cut at those offsets."""
    message = Message(method)
    edges = [0, *sorted(cuts), len(raw)]
    for start, end in zip(edges, edges[1:], strict=False):
        assert message.feed(raw[start:end]) is message.complete
    if closed:
        message.eof()
    return message


def outcome(message, raw):
    """Everything a message says about itself."""
    public = ("status", "reason", "version", "headers", "framing", "spans", "complete", "error")
    return [getattr(message, name) for name in (*public, "surplus", "keep_alive")] + [
        message.body(raw)
    ]


# --- any split gives the same


@pytest.mark.parametrize("name", CORPUS)
def test_a_cut_at_any_offset_changes_nothing(name):
    raw, method, _ = CORPUS[name]
    whole = outcome(fed(raw, method), raw)
    for cut in range(len(raw) + 1):
        assert outcome(fed(raw, method, [cut]), raw) == whole, cut


@pytest.mark.parametrize("name", CORPUS)
def test_byte_by_byte_gives_the_same(name):
    raw, method, _ = CORPUS[name]
    assert outcome(fed(raw, method, range(len(raw))), raw) == outcome(fed(raw, method), raw)


@given(name=st.sampled_from(sorted(CORPUS)), places=st.lists(st.integers(0, 2000), max_size=12))
@many_examples
def test_any_cuts_change_nothing(name, places):
    raw, method, _ = CORPUS[name]
    cuts = [place % (len(raw) + 1) for place in places]
    assert outcome(fed(raw, method, cuts), raw) == outcome(fed(raw, method), raw)


@given(
    start=st.sampled_from([b"", OK, OK + b"\r\n", CHUNKED]),
    parts=st.lists(SOME_BYTES),
    closed=st.booleans(),
)
@many_examples
def test_nothing_raises_and_garbage_is_the_same_in_any_split(start, parts, closed):
    raw = start + b"".join(parts)
    cuts = [len(start)]
    for part in parts:
        cuts.append(cuts[-1] + len(part))
    split = fed(raw, "GET", cuts, closed)
    assert outcome(split, raw) == outcome(fed(raw, "GET", (), closed), raw)
    assert split.complete or split.error or not closed


SNIPPETS = [
    CHUNKED,
    OK,
    b"\r\n",
    b"\n",
    b"0",
    b"1",
    b"5",
    b"a",
    b";x",
    b" ",
    b"hello",
    b"Content-Length: 3\r\n",
]


@given(parts=st.lists(st.sampled_from(SNIPPETS), max_size=20), closed=st.booleans())
@many_examples
def test_nearly_right_messages_are_the_same_in_any_split(parts, closed):
    raw = CHUNKED + b"".join(parts)
    bytewise = fed(raw, "GET", range(len(raw)), closed)
    assert outcome(bytewise, raw) == outcome(fed(raw, "GET", (), closed), raw)


# --- what is read


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_message_is_complete_before_the_peer_closes(name):
    raw, method, body = WHOLE[name]
    message = fed(raw, method, closed=False)
    assert (message.complete, message.error, message.body(raw)) == (True, None, body)


@pytest.mark.parametrize("name", WHOLE)
def test_a_message_is_complete_at_its_last_byte_and_not_before(name):
    raw, method, _ = WHOLE[name]
    end = len(raw) - fed(raw, method).surplus
    assert not fed(raw[: end - 1], method, closed=False).complete
    assert fed(raw[:end], method, closed=False).complete


@pytest.mark.parametrize("name", UNTIL_CLOSE)
def test_a_body_without_length_ends_with_the_connection(name):
    raw, method, body = UNTIL_CLOSE[name]
    assert not fed(raw, method, closed=False).complete
    message = fed(raw, method)
    assert (message.complete, message.framing, message.body(raw)) == (True, "close", body)
    assert not message.keep_alive


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_message_says_what_was_wrong(name):
    raw, method, error = BROKEN[name]
    message = fed(raw, method)
    assert (message.complete, message.error, message.keep_alive) == (False, error, False)


def test_status_line_and_headers_are_kept_as_sent():
    raw = b"HTTP/1.0 503 Slow Down \r\nRetry-After:  5 \r\nX-Name: caf\xe9\r\nx-name : b\r\n\r\n"
    message = fed(raw)
    assert (message.version, message.status, message.reason) == ("1.0", 503, "Slow Down")
    assert message.headers == [("Retry-After", "5"), ("X-Name", "caf\xe9"), ("x-name", "b")]
    assert message.header("retry-after") == "5"
    assert message.headers_all("X-NAME") == ["caf\xe9", "b"]
    assert message.header("missing") is None


def test_a_reason_may_be_missing():
    assert fed(b"HTTP/1.1 200\r\n\r\n").reason == ""


def test_a_folded_value_is_joined_by_one_space():
    raw, method, _ = WHOLE["folded value"]
    assert fed(raw, method).header("A") == "one two three"


def test_a_folded_line_before_the_first_header_is_ignored():
    assert fed(OK + b" folded\r\nA: 1\r\n\r\n").headers == [("A", "1")]


def test_only_the_bytes_of_interim_responses_count():
    raw, method, _ = WHOLE["interim first"]
    message = fed(raw, method)
    assert (message.status, message.headers) == (200, [("Content-Length", "2")])
    assert message.spans == [(len(raw) - 2, 2)]


@pytest.mark.parametrize(
    ("name", "framing"),
    [("chunked", "chunked"), ("both framings", "chunked"), ("length", "length"), ("204", "none")],
)
def test_the_framing_is_named(name, framing):
    raw, method, _ = WHOLE[name]
    assert fed(raw, method).framing == framing


def test_nothing_is_known_before_the_head_has_ended():
    message = fed(OK, closed=False)
    assert (message.status, message.framing, message.spans, message.surplus) == (None, None, [], 0)


def test_spans_point_at_the_bytes_of_each_chunk():
    raw, method, _ = WHOLE["chunked"]
    at = len(CHUNKED)
    assert fed(raw, method).spans == [(at + 3, 5), (at + 13, 6)]


def test_spans_hold_only_what_has_arrived():
    message = fed(CHUNKED + b"a\r\nhel", closed=False)
    assert message.spans == [(len(CHUNKED) + 3, 3)]
    message.feed(b"lo")
    assert message.spans == [(len(CHUNKED) + 3, 5)]


def test_surplus_counts_what_follows_the_end_and_goes_on_counting():
    message = fed(OK + b"Content-Length: 2\r\n\r\nhixyz", closed=False)
    assert (message.surplus, message.keep_alive) == (3, False)
    assert message.feed(b"more") is True
    assert message.surplus == 7


def test_a_read_that_looks_like_a_whole_chunk_may_be_the_middle_of_one():
    body = b"hello\r\n" + b"x" * 14
    raw = CHUNKED + b"15\r\n" + body + b"\r\n0\r\n\r\n"
    start = len(CHUNKED) + 1
    message = fed(raw, cuts=[start, start + len(b"5\r\nhello\r\n")])
    assert (message.complete, message.body(raw)) == (True, body)


def test_whole_chunks_can_be_told_by_their_lengths_alone():
    sizes = [1, 15, 16, 255, 256, 4095, 7]
    pieces = [b"%x\r\n%b\r\n" % (size, b"x" * size) for size in sizes]
    assert [http1.WHOLE_CHUNKS[len(each)][1] for each in pieces] == sizes
    one, other = fed(CHUNKED, closed=False), fed(CHUNKED, closed=False)
    for piece in pieces:
        assert one.is_between_chunks and not one.feed(piece)
    lengths = list(map(len, pieces))
    other.add_passed(lengths)
    assert other.spans == one.spans and other.is_between_chunks
    later = fed(CHUNKED, closed=False)
    later.pass_over(sum(lengths))
    for message in (one, other, later):
        assert message.feed(b"2\r\nhi") is False and not message.is_between_chunks
        assert message.feed(b"\r\n0\r\n\r\n") is True
    later.add_passed(lengths)
    assert later.spans == one.spans
    raw = CHUNKED + b"".join(pieces) + b"2\r\nhi\r\n0\r\n\r\n"
    assert one.body(raw) == other.body(raw)


def test_bytes_after_the_close_are_not_part_of_the_body():
    raw = OK + b"\r\nhello"
    message = fed(raw)
    assert message.feed(b"more") is True
    assert (message.body(raw + b"more"), message.surplus) == (b"hello", 4)


def test_after_an_error_nothing_more_is_read():
    message = fed(CHUNKED + b"2\r\nhi\r\nx", closed=False)
    error = message.error
    assert message.feed(b"2\r\nhi\r\n0\r\n\r\n") is False
    message.eof()
    assert (message.error, message.status) == (error, 200)


def test_closing_the_connection_after_the_end_is_not_an_error():
    message = fed(CHUNKED + b"0\r\n\r\n")
    message.eof()
    assert (message.complete, message.error) == (True, None)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\n", True),
        (b"HTTP/1.1 200 OK\r\nConnection: Keep-Alive, CLOSE\r\n", False),
        (b"HTTP/1.1 200 OK\r\nConnection: x\r\nConnection: close\r\n", False),
        (b"HTTP/1.0 200 OK\r\n", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n", True),
    ],
)
def test_a_connection_is_kept_when_both_sides_agree(head, expected):
    assert fed(head + b"Content-Length: 0\r\n\r\n", closed=False).keep_alive is expected


def test_a_chunked_answer_of_http_1_0_ends_the_connection():
    head = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
    message = fed(head + b"0\r\n\r\n")
    assert (message.complete, message.keep_alive) == (True, False)


# --- limits


def head_of(size):
    """A head of exactly that many bytes."""
    start = OK + b"Content-Length: 0\r\nX: "
    return start + b"x" * (size - len(start) - 4) + b"\r\n\r\n"


@pytest.mark.parametrize("step", [1, 1000, 200_000])
@pytest.mark.parametrize("extra", [-1, 0, 1, 2, 70_000])
def test_a_head_over_64_kib_is_an_error_in_any_split(extra, step):
    raw = head_of(http1.HEAD_LIMIT_BYTES + extra)
    message = fed(raw, cuts=range(0, len(raw), step), closed=False)
    assert message.error == ("head over 64 KiB" if extra > 0 else None)
    assert message.complete is (extra <= 0)


@pytest.mark.parametrize("step", [1, 1000, 200_000])
def test_endless_trailers_are_an_error(step):
    raw = CHUNKED + b"0\r\n" + b"X: y\r\n" * 12_000
    message = fed(raw, cuts=range(0, len(raw), step), closed=False)
    assert message.error == "trailer section over 64 KiB"


@pytest.mark.parametrize("step", [1, 100, 100_000])
def test_endless_chunk_extensions_are_an_error(step):
    raw = CHUNKED + b"5;" + b"x" * 600
    message = fed(raw, cuts=range(0, len(raw), step), closed=False)
    assert message.error == "not a chunk size line: '5;" + "x" * 38 + "'..."


def test_a_chunk_of_2_to_the_64_bytes_is_not_an_error():
    message = fed(CHUNKED + b"f" * 16 + b"\r\nabc", closed=False)
    assert (message.error, message.spans) == (None, [(len(CHUNKED) + 18, 3)])


BIG = 200_000
HEAVY = {
    "one chunk": CHUNKED + b"%x\r\n" % BIG + b"x" * BIG + b"\r\n0\r\n\r\n",
    "small chunks": CHUNKED + b"3\r\nabc\r\n" * (BIG // 8) + b"0\r\n\r\n",
    "long extensions": CHUNKED + (b"1;" + b"x" * 250 + b"\r\na\r\n") * (BIG // 257) + b"0\r\n\r\n",
    "length": OK + b"Content-Length: %d\r\n\r\n" % BIG + b"x" * BIG,
    "interim": b"HTTP/1.1 100 \r\n\r\n" * (BIG // 17) + OK + b"Content-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("step", [1, BIG * 2])
@pytest.mark.parametrize("name", HEAVY)
def test_the_time_is_linear_in_the_bytes(name, step):
    raw = HEAVY[name]
    began = time.process_time()
    message = fed(raw, cuts=range(0, len(raw), step), closed=False)
    message.marks(range(len(raw)), range(len(raw)))
    assert (
        time.process_time() - began < 4
    )  # it takes 0.3 s; anything quadratic would take ten times that
    assert message.complete


def test_the_body_is_not_kept():
    message = fed(OK + b"Content-Length: 5000000\r\n\r\n", closed=False)
    piece = b"x" * 50_000
    tracemalloc.start()
    for _ in range(100):
        message.feed(piece)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert message.complete
    assert kept < 20_000


# --- marks


def test_marks_say_how_much_of_the_body_each_read_brought():
    raw = CHUNKED + b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
    at = len(CHUNKED)
    ends = [10, at, at + 4, at + 5, at + 9, at + 12, at + 20, len(raw)]
    times = [1, 2, 3, 4, 5, 6, 7, 8]
    # Neither the head's reads nor those that end inside or only add framing are there.
    assert fed(raw).marks(ends, times) == [(1, 3), (2, 4), (5, 5), (11, 7)]


def test_marks_of_a_broken_message_end_where_it_ends():
    raw = CHUNKED + b"a\r\nhello"
    assert fed(raw).marks([len(raw) - 2, len(raw)], [7, 9]) == [(3, 7), (5, 9)]


def test_marks_do_not_count_surplus_bytes():
    raw = OK + b"Content-Length: 2\r\n\r\nhixyz"
    assert fed(raw).marks([len(raw) - 4, len(raw) - 1, len(raw)], [1, 2, 3]) == [(1, 1), (2, 2)]


def test_without_reads_or_body_there_are_no_marks():
    assert fed(OK + b"\r\nhello").marks([], []) == []
    assert fed(OK + b"Content-Length: 0\r\n\r\n").marks([30, 40], [1, 2]) == []
    assert fed(b"").marks([0], [1]) == []


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=30), max_size=8),
    places=st.lists(st.integers(0, 600), max_size=30),
)
@many_examples
def test_marks_agree_with_counting_byte_by_byte(chunks, places):
    raw = bytearray(CHUNKED)
    places_of_body = []  # raw offset of each body byte
    for chunk in chunks:
        raw += b"%x\r\n" % len(chunk)
        places_of_body += range(len(raw), len(raw) + len(chunk))
        raw += chunk + b"\r\n"
    raw += b"0\r\n\r\n"
    ends = sorted(place % (len(raw) + 1) for place in places) + [len(raw)]
    message = fed(bytes(raw), cuts=ends)
    expected, before = [], 0
    for time_ns, end in enumerate(ends):
        count = sum(place < end for place in places_of_body)
        if count > before:
            expected.append((count, time_ns))
        before = count
    assert message.marks(ends, range(len(ends))) == expected
    assert message.body(bytes(raw)) == b"".join(chunks)
