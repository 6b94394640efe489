"""Compressed bodies, decoded read by read: what a client could have seen at which time.

A body is decoded whether or not the request accepts it, as nearly every client does, and so that
nothing else is accused of it. What is wrong is said in two strengths: with a `problem` clients fail
on the body, with a `doubt` they read it. Rules: RFC 9110, sections 8.4 and 12.5.3; RFC 1950 (zlib),
1951 (deflate), 1952 (gzip).
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from livecheck.core.text import shorten
from livecheck.wire.http1 import Marks as ArrivalMarks

ACCEPTED = "gzip, deflate"  # what a request asks for that wants compression
GZIP, DEFLATE = "gzip", "deflate"
ALIASES = {"x-gzip": GZIP}  # RFC 9110, section 8.4.1.3
# Codings that change the bytes. Others, such as utf-8, are mistakes that do no harm: clients ignore
# them.
CODINGS = (GZIP, DEFLATE, "br", "zstd", "compress", "x-compress", "dcb", "dcz")
GZIP_START = b"\x1f\x8b\x08"  # RFC 1952: two bytes of every gzip file, then the only method
WINDOW_BITS = {GZIP: 16 + zlib.MAX_WBITS, "zlib": zlib.MAX_WBITS, "raw": -zlib.MAX_WBITS}
MOST_LAYERS = 2  # codings of one body that are decoded, one inside the other; no server uses more
PIECE_BYTES = 64 << 10  # that are decoded at once, as a read brings them
MOST_MEMBERS = 20_000  # of a gzip body; each of them costs more than its bytes
MOST_PIECES = 10_000  # in which a damaged body is decoded once more
MAX_DECODED_BYTES = 32 << 20  # as for every stream; for other answers the caller says less
KEPT_BYTES = 64 << 10  # of a body that has more: its beginning tells what it is
LOOKED_AT_BYTES = 512  # of a body that may be plain text
TEXT_CONTROLS = b"\t\n\r\x1b"  # control characters that plain text may have

Marks = Sequence[tuple[int, int]]  # (bytes so far, time in ns), for each read


class Decoded(NamedTuple):
    """A body without its compression, and what is wrong with that.

    `problem`: why clients fail on it; what could be decoded of it is in `body` all the same.
    `doubt`: what is not in order although clients can read it. Both are clauses about the answer:
    "it says Content-Encoding: gzip and …".
    """

    body: bytes
    marks: Marks
    problem: str | None = None
    doubt: str | None = None


def read(
    body: bytes,
    marks: Marks,
    named: str,
    accepted: str | None,
    is_whole: bool = True,
    most: int = MAX_DECODED_BYTES,
) -> Decoded | None:
    """The decoded body; None of one that is not compressed and does not say so.

    `named`: all values of Content-Encoding. `accepted`: Accept-Encoding of the request, None where
    it had none. `is_whole`: the message has come to its end, so the compressed body must have one.
    `most`: how many bytes the body may have when decoded, also between two codings.
    """
    codings = codings_in(named)
    if not body or not (codings or body.startswith(GZIP_START)):
        return None
    said = f"it says Content-Encoding: {shorten(named, 40)}"
    if not codings:
        layer = unpack(GZIP, body, marks, is_whole, most)
        problem = "its body is compressed with gzip and it has no Content-Encoding, so that no "
        return layer._replace(problem=f"{problem}client can read it")
    if len(codings) > MOST_LAYERS:
        problem = f"{said}, {len(codings)} codings one inside the other, and more than "
        return Decoded(body, marks, f"{problem}{MOST_LAYERS} are not decoded")
    found = Decoded(body, marks)
    for coding in reversed(codings):
        layer = unpack(coding, found.body, found.marks, is_whole, most)
        found = layer._replace(doubt=found.doubt or layer.doubt)
        if layer.problem:
            problem = f"{said} and {layer.problem}"
            return found._replace(problem=problem, doubt=None)
    if found.body.startswith(GZIP_START):  # two programs compressed it, one of them said so
        again = unpack(GZIP, found.body, found.marks, is_whole, most)
        problem = f"{said} and the body is compressed once more, so that no client can read it"
        return again._replace(problem=problem, doubt=None)
    if unasked := [each for each in codings if not is_accepted(each, accepted)]:
        return found._replace(doubt=f"{said} {unasked_words(unasked[0], accepted)}")
    return found._replace(doubt=f"{said} and {found.doubt}") if found.doubt else found


def unasked_words(coding: str, accepted: str | None) -> str:
    asked = f"Accept-Encoding: {shorten(accepted or '', 40)}"
    why = "and clients that cannot decode it fail"
    return f"though the request does not accept {coding} ({asked}), {why}"


def codings_in(named: str) -> list[str]:
    """The codings that change the bytes, in the order in which they were applied."""
    names = [part.strip().lower() for part in named.split(",")]
    return [name for each in names if (name := ALIASES.get(each, each)) in CODINGS]


def is_accepted(coding: str, accepted: str | None) -> bool:
    """Whether this Accept-Encoding allows the coding; a request without one allows any."""
    if accepted is None:
        return True
    weights: dict[str, str] = {}
    for part in accepted.lower().split(","):
        name, _, weight = part.strip().partition(";")
        weights[ALIASES.get(name.strip(), name.strip())] = weight.replace(" ", "")
    weight = weights.get(coding, weights.get("*", "q=0"))
    return weight.rstrip("0.") != "q="


# --- one coding


def unpack(coding: str, body: bytes, marks: Marks, is_whole: bool, most: int) -> Decoded:
    """The body without this coding. `problem` and `doubt` go on after "it says … and"."""
    if not body:
        return Decoded(body, marks)
    if looks_plain(body):
        return Decoded(body, marks, "the body is not compressed, so that clients fail on it")
    if coding not in (GZIP, DEFLATE):
        return Decoded(body, marks, f"this program cannot decode {coding}")
    form = form_of(body)
    if coding == GZIP and form == "raw":
        return Decoded(body, marks, "the body is not gzip, so that clients fail on it")
    found = inflate(body, marks, form, is_whole, most)
    is_other = (form == GZIP) != (coding == GZIP)
    if found.problem is None and is_other:
        return found._replace(problem=f"the body is {form}, so that clients fail on it")
    return found


def looks_plain(body: bytes) -> bool:
    """Whether the beginning is text in UTF-8: compressed bytes never are, but for a handful."""
    start = body[:LOOKED_AT_BYTES]
    if any(byte < 32 and byte not in TEXT_CONTROLS for byte in start):
        return False
    try:
        start.decode()
    except UnicodeDecodeError as error:
        return len(body) > len(start) and error.start > len(start) - 4  # cut inside a character
    return True


def form_of(body: bytes) -> str:
    """Which form of deflate it begins like: gzip, zlib, or raw without any header."""
    if body.startswith(GZIP_START[:2]):
        return GZIP
    is_zlib = len(body) > 1 and body[0] & 15 == 8 and (body[0] << 8 | body[1]) % 31 == 0
    return "zlib" if is_zlib else "raw"


class Inflater:
    """Decodes pieces, of gzip also several members, one after the other. `surplus`: bytes after the
    end of the last one, and `members`: how many have ended. Raises zlib.error."""

    def __init__(self, form: str, most: int) -> None:
        self.form, self.surplus, self.most = form, 0, most
        self.members = 0
        self.decoded = bytearray()
        self._decoder = zlib.decompressobj(WINDOW_BITS[form])
        self._after = b""  # what has come after the end, while it is too short to be a member

    @property
    def is_over(self) -> bool:
        """Whether the compressed body has come to its end."""
        return self._decoder.eof

    @property
    def is_too_large(self) -> bool:
        return len(self.decoded) > self.most or self.members > MOST_MEMBERS

    def feed(self, data: bytes) -> None:
        for start in range(0, len(data), PIECE_BYTES):
            self._feed(data[start : start + PIECE_BYTES])

    def _feed(self, data: bytes) -> None:
        while data and not self.surplus and not self.is_too_large:
            if self._decoder.eof:
                data = self._next_member(data)
                continue
            self.decoded += self._decoder.decompress(data, self.most + 1 - len(self.decoded))
            data = self._decoder.unused_data
        self.surplus += len(data) if self.surplus else 0

    def _next_member(self, data: bytes) -> bytes:
        """What is left to decode, when another member begins; else it is surplus."""
        data, self._after = self._after + data, b""
        if self.form == GZIP and data.startswith(GZIP_START):
            self._decoder = zlib.decompressobj(WINDOW_BITS[GZIP])
            self.members += 1
            return data
        if self.form == GZIP and GZIP_START.startswith(data):
            self._after = data
            return b""
        self.surplus = 1
        return data[1:]

    def close(self) -> None:
        self.surplus += len(self._after)


def readable_part(body: bytes, form: str, most: int) -> Inflater:
    """What can be decoded before the place at which it fails: zlib gives nothing of a piece that it
    fails on, so the pieces are small."""
    inflater, size = Inflater(form, most), max(1, len(body) // MOST_PIECES)
    with contextlib.suppress(zlib.error):
        for start in range(0, len(body), size):
            inflater.feed(body[start : start + size])
    return inflater


def inflate(body: bytes, marks: Marks, form: str, is_whole: bool, most: int) -> Decoded:
    """The body, decoded read by read."""
    inflater, start = Inflater(form, most), 0
    found = ArrivalMarks()
    problem = doubt = None
    for end, time_ns in marks:
        try:
            inflater.feed(body[start:end])
        except zlib.error as error:
            inflater = readable_part(body, form, most)
            if not inflater.decoded:
                return Decoded(body, marks, f"the body cannot be decoded ({error})")
            problem = f"the body cannot be decoded after {len(inflater.decoded)} bytes ({error})"
        found.append(len(inflater.decoded), time_ns)
        start = end
        if inflater.is_too_large:
            problem = f"the body has more than {most >> 20} MB when decoded"
            if inflater.members > MOST_MEMBERS:
                problem = f"the body has more than {MOST_MEMBERS:,} gzip members"
            return Decoded(bytes(inflater.decoded[:KEPT_BYTES]), [(KEPT_BYTES, time_ns)], problem)
        if problem:
            break
    inflater.close()
    if not problem and is_whole and not inflater.is_over:
        problem = "the compressed body has no end"
    if inflater.surplus:
        doubt = f"{inflater.surplus} bytes follow after the end of the compressed body"
    return Decoded(bytes(inflater.decoded), found, problem, doubt)
