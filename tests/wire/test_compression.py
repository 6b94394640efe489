"""Compressed bodies are decoded read by read, and what is wrong with them is named."""

from __future__ import annotations

import gzip
import os
import zlib

import pytest
from helpers.answers import answer

from livecheck.wire import chat, compression
from livecheck.wire.compression import MAX_DECODED_BYTES, Decoded
from livecheck.wire.wire import Request

TEXT = b"data: one\n\n" * 20
ZLIB, RAW, GZIP = 15, -15, 31
IDENTITY = "identity"


def packed(bits: int, text: bytes = TEXT) -> bytes:
    packer = zlib.compressobj(wbits=bits)
    return packer.compress(text) + packer.flush()


def read(body: bytes, named: str, accepted: str | None = "gzip, deflate", **more: bool) -> Decoded:
    found = compression.read(body, [(len(body), 1)], named, accepted, **more)
    assert found
    return found


@pytest.mark.parametrize("bits", [ZLIB, GZIP, RAW], ids=["deflate", "gzip", "raw deflate"])
def test_the_time_of_a_byte_is_that_of_the_read_that_let_it_be_decoded(bits: int) -> None:
    body = packed(bits)
    named = "gzip" if bits == GZIP else "deflate"
    reads = [(1, 100), (len(body) - 9, 200), (len(body), 300)]
    found = compression.read(body, reads, named, "gzip, deflate")
    assert found and (found.body, found.problem, found.doubt) == (TEXT, None, None)
    assert [time_ns for _, time_ns in found.marks] == [100, 200, 300]
    assert (found.marks[0][0], found.marks[-1][0]) == (0, len(TEXT))


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (packed(GZIP), "gzip"),
        (packed(GZIP), "X-GZip"),
        (packed(GZIP), " GZIP "),
        (packed(ZLIB), "deflate"),
        (packed(RAW), "deflate"),
        (packed(GZIP), "identity, gzip"),
        (packed(GZIP, packed(GZIP)), "gzip, gzip"),
        (packed(GZIP, packed(ZLIB)), "deflate, gzip"),
        (packed(GZIP, TEXT[:50]) + packed(GZIP, TEXT[50:]), "gzip"),  # two members
    ],
)
def test_what_the_request_does_not_accept_is_decoded_and_doubted(body: bytes, named: str) -> None:
    found = read(body, named, IDENTITY)
    assert (found.body, found.problem) == (TEXT, None)
    assert found.doubt and "though the request does not accept" in found.doubt
    assert read(body, named, None).doubt is None  # such a request accepts any


@pytest.mark.parametrize("reads", [1, 2, 3, 7])
def test_members_may_be_cut_anywhere(reads: int) -> None:
    body = packed(GZIP, TEXT[:50]) + packed(GZIP, TEXT[50:])
    marks = [(end, end) for end in [*range(reads, len(body), reads), len(body)]]
    found = compression.read(body, marks, "gzip", "gzip")
    assert found == (TEXT, found.marks, None, None) if found else False


@pytest.mark.parametrize(
    ("body", "named", "words", "left"),
    [
        (TEXT, "gzip", "not compressed", TEXT),
        (TEXT, "br", "not compressed", TEXT),
        (TEXT, "deflate", "not compressed", TEXT),
        (packed(GZIP), "gzip, gzip", "not compressed", TEXT),  # said twice, done once
        (packed(GZIP, packed(GZIP)), "gzip", "compressed once more", TEXT),
        (packed(GZIP), "", "no Content-Encoding", TEXT),
        (packed(ZLIB), "gzip", "the body is zlib", TEXT),
        (packed(GZIP), "deflate", "the body is gzip", TEXT),
        (b"\x0b\x02\x80data\x03", "br", "cannot decode br", b"\x0b\x02\x80data\x03"),
        (b"\x28\xb5\x2f\xfd\x04", "zstd", "cannot decode zstd", b"\x28\xb5\x2f\xfd\x04"),
        (b"\x00\x01\x02\xff", "gzip", "not gzip", b"\x00\x01\x02\xff"),
        (b"\xff\x01\x02\xff", "deflate", "cannot be decoded", b"\xff\x01\x02\xff"),
    ],
)
def test_what_clients_fail_on_is_named_and_read_as_far_as_possible(
    body: bytes, named: str, words: str, left: bytes
) -> None:
    found = read(body, named)
    assert found.problem and words in found.problem
    assert found.body == left


def test_a_body_without_its_end_is_read_up_to_there() -> None:
    cut = packed(GZIP)[:-9]
    assert "no end" in (read(cut, "gzip").problem or "")
    assert read(cut, "gzip", is_whole=False).problem is None
    assert TEXT.startswith(read(cut, "gzip").body)


def test_a_damaged_body_is_read_up_to_there() -> None:
    damaged = bytearray(packed(GZIP))
    damaged[-5] ^= 0xFF  # of the checksum
    found = read(bytes(damaged), "gzip")
    assert "cannot be decoded after" in (found.problem or "")


@pytest.mark.parametrize("extra", [b"x", b"\x1f", b"\x1f\x8b", b"\0" * 1000])
def test_what_follows_after_the_end_is_a_doubt(extra: bytes) -> None:
    found = read(packed(GZIP) + extra, "gzip")
    assert (found.body, found.problem) == (TEXT, None)
    assert found.doubt and f"{len(extra)} bytes follow" in found.doubt


@pytest.mark.parametrize("layers", [1, 2])
def test_a_bomb_is_a_problem_and_costs_no_memory(layers: int) -> None:
    body = gzip.compress(b" " * (MAX_DECODED_BYTES + 1), 9)
    for _ in range(layers - 1):
        body = gzip.compress(body)
    found = read(body, ", ".join(["gzip"] * layers))
    assert "more than 32 MB" in (found.problem or "")
    assert len(found.body) <= 64 << 10
    assert read(gzip.compress(b" " * MAX_DECODED_BYTES, 9), "gzip").problem is None


@pytest.mark.parametrize(("body", "named"), [(b"", "gzip"), (TEXT, ""), (TEXT, "utf-8")])
def test_what_is_not_compressed_needs_no_decoding(body: bytes, named: str) -> None:
    assert compression.read(body, [(len(body), 1)], named, IDENTITY) is None


@pytest.mark.parametrize(
    ("coding", "accepted", "is_accepted"),
    [
        ("gzip", "gzip, deflate", True),
        ("gzip", "deflate, X-GZIP;q=0.5", True),
        ("gzip", "gzip;q=0, *", False),
        ("br", "*", True),
        ("br", "*;q=0.0", False),
        ("gzip", "identity", False),
        ("gzip", None, True),
    ],
)
def test_what_a_request_accepts(coding: str, accepted: str | None, is_accepted: bool) -> None:
    assert compression.is_accepted(coding, accepted) is is_accepted


def test_a_compressed_list_of_models_is_a_list() -> None:
    listing = packed(GZIP, b'{"data": [{"id": "a"}]}')
    found = answer(200, {"Content-Encoding": "gzip"}, listing, request=chat.get(chat.MODELS))
    assert found.json == {"data": [{"id": "a"}]}
    assert found.coding_problem is None
    assert found.reply.decoded and found.reply.decoded.doubt


def test_an_answer_that_was_cancelled_needs_no_end() -> None:
    request = Request("GET", "/", headers={"accept-encoding": "gzip"})
    found = answer(200, {"Content-Encoding": "gzip"}, packed(GZIP)[:-4], request=request)
    found.reply.cancelled = True
    assert found.coding_problem is None


def test_more_than_two_codings_are_not_decoded() -> None:
    body = packed(GZIP, packed(GZIP, packed(GZIP)))
    found = read(body, "gzip, gzip, gzip")
    assert found.body == body
    assert found.problem and "3 codings one inside the other, and more than 2" in found.problem


def test_a_body_is_bounded_as_the_caller_says_also_between_two_codings() -> None:
    inner = gzip.compress(os.urandom(2000))
    for body, named in ((gzip.compress(bytes(1001)), "gzip"), (gzip.compress(inner), "gzip, gzip")):
        marks = [(len(body), 1)]
        found = compression.read(body, marks, named, "gzip", most=1000)
        assert found and "the body has more than 0 MB when decoded" in (found.problem or "")
        assert len(found.body) <= 64 << 10


def test_many_members_are_not_decoded_one_by_one() -> None:
    members = gzip.compress(b"") * (compression.MOST_MEMBERS + 1)
    assert read(members, "gzip").problem is None
    assert "20,000 gzip members" in (read(members * 2, "gzip").problem or "")
