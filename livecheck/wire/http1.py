"""Where an HTTP/1.1 response begins and ends, and which of its bytes are the body.

This module takes bytes and returns offsets; it has no socket, no clock and no decompression. The
wire keeps every read and feeds it here only to learn where the response ends. The body and the
arrival time of each of its bytes are worked out afterwards, from offsets into all that was read. So
`feed` does not keep the body, and returns at once while it is inside of one.

Rules: RFC 9112 (message syntax and framing). Where a client may choose, this one is lenient in the
head (a bare LF ends a line, folded values are joined) and strict in the framing of the body,
because a wrong length there means wrong times.
"""

from __future__ import annotations

import re
import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate, repeat
from operator import add
from typing import overload

from livecheck.core.late_pattern import late_pattern

HEAD_LIMIT_BYTES = 64 * 1024  # for one head, and for the trailer section; empty line included

MAX_CHUNKS = 1_000_000  # each costs more than its bytes; an answer has one or two for each event

# What the parser expects next.
_HEAD, _CHUNK_LINE, _CHUNK_DATA, _TRAILER, _LENGTH, _CLOSE, _OVER = range(7)

_NEVER = sys.maxsize
_MOST = (1 << 32) - 1  # the largest number in the arrays of offsets: no answer is that long
_COMPARED_AT_ONCE = 1024  # reads with chunks
_JOINED_AT_ONCE = 200_000  # chunks: to join more takes more memory than their bytes
_EMPTY_LINE = late_pattern(rb"\n\r?\n")  # the end of a line, then an empty line
_VERSION = late_pattern(rb"HTTP/1\.[0-9] ")
_VERSION_BYTES = len(b"HTTP/1.1 ")
# How an HTTP/2 server begins, whatever it is asked: with a SETTINGS frame, or with GOAWAY when it
# does not like what it reads. Length, type, flags, and the number of the connection itself, which
# is 0 (RFC 9113, sections 3.4, 4.1 and 6.8).
_HTTP_2_FRAME = late_pattern(rb"\x00[\x00-\x40].[\x04\x07]\x00\x00\x00\x00\x00", re.DOTALL)
HTTP_2 = "an HTTP/2 frame in the place of an HTTP/1.1 response"
_STATUS_LINE = late_pattern(r"HTTP/1\.([0-9]) ([1-9][0-9][0-9])(?: (.*))?")
_LENGTH_VALUE = late_pattern(r"[0-9]{1,18}")  # bounded, because int() raises on thousands of digits

# A chunk's size line (RFC 9112 section 7.1), and any beginning of one. Every part is bounded: so an
# unfinished line stays short, and the first wrong byte is the same however the input was split.
_SIZE_LINE = late_pattern(rb"([0-9A-Fa-f]{1,16})[ \t]{0,16}(?:;[^\r\n]{0,256})?\r\n")
_SIZE_LINE_START = late_pattern(rb"(?:[0-9A-Fa-f]{1,16}[ \t]{0,16}(?:;[^\r\n]{0,256})?\r?)?")
_LINE_LENGTH = 200  # of a header line that is kept to be found again


class _WholeChunks(dict[int, tuple[bytes, int]]):
    """By the length of a whole chunk with its framing: the size line that it has as most servers
    write it, and its size; 0 where none has this length, or a long one. A look-up takes a third of
    the time of a match, which is used for all others (upper case, extensions, larger sizes)."""

    def __missing__(self, length: int) -> tuple[bytes, int]:
        for digits in (1, 2, 3):
            line = b"%x\r\n" % max(0, length - digits - 4)
            if len(line) == digits + 2 and line > b"0\r\n":
                self[length] = line, length - digits - 4
                return self[length]
        return b"", 0


WHOLE_CHUNKS = _WholeChunks()


class Marks(Sequence[tuple[int, int]]):
    """(body bytes so far, time in ns), for each read that brought some of the body.

    A server may send millions of pieces: here each takes 16 bytes, in a list of pairs 130.
    """

    __slots__ = ("_sizes", "_times_ns")

    def __init__(self, pairs: Iterable[tuple[int, int]] = ()) -> None:
        self._sizes, self._times_ns = array("q"), array("q")
        for size, time_ns in pairs:
            self.append(size, time_ns)

    def append(self, size: int, time_ns: int) -> None:
        self._sizes.append(size)
        self._times_ns.append(time_ns)

    def reaching(self, ends: Sequence[int], place: int = 0) -> tuple[list[int], int]:
        """The times of the first marks, from `place` on, that reach each of these ends (ascending),
        and the place of the last of these marks. An end that no mark reaches has the time of the
        last one, or 0 without any."""
        sizes, times_ns, last = self._sizes, self._times_ns, len(self._sizes) - 1
        if last < 0:
            return [0] * len(ends), 0
        place = min(bisect_left(sizes, ends[0], place), last)
        # nearly always each end is that of a read of its own
        same = common_length(sizes[place : place + len(ends)], array("q", ends))
        found = times_ns[place : place + same].tolist()
        place += max(0, same - 1)
        for end in ends[same:]:
            while place < last and sizes[place] < end:
                place += 1
            found.append(times_ns[place])
        return found, place

    def extend(self, sizes: array[int], times_ns: array[int]) -> None:
        self._sizes += sizes
        self._times_ns += times_ns

    def __len__(self) -> int:
        return len(self._sizes)

    @overload
    def __getitem__(self, at: int) -> tuple[int, int]: ...
    @overload
    def __getitem__(self, at: slice) -> Marks: ...
    def __getitem__(self, at: int | slice) -> tuple[int, int] | Marks:
        if isinstance(at, slice):
            return Marks(zip(self._sizes[at], self._times_ns[at], strict=True))
        return self._sizes[at], self._times_ns[at]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._sizes, self._times_ns, strict=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


class Message:
    """One response, fed as it arrives. The result does not depend on how the bytes were split.

    Raw offsets count from the first byte fed; at most 4 GB may be fed. Interim (1xx) responses are
    skipped, but their bytes count. After an error nothing more is read: `complete` stays False, and
    what was known until then (status, headers, spans) stays.
    """

    __slots__ = (
        "_announced",
        "_end",
        "_fed",
        "_lengths",
        "_next_work",
        "_passed",
        "_section",
        "_stage",
        "_starts",
        "_unfinished",
        "complete",
        "error",
        "framing",
        "headers",
        "method",
        "reason",
        "status",
        "version",
    )

    def __init__(self, method: str = "GET") -> None:
        """`method` is that of the request: an answer to HEAD never has a body (section 6.3)."""
        self.method = method.upper()
        self.status: int | None = None
        self.reason = ""
        self.version = ""  # "1.1" or "1.0"
        self.headers: list[tuple[str, str]] = []  # names as sent, values stripped, latin-1
        self.framing: str | None = None  # "chunked", "length", "close", "none"; None: unknown
        self.complete = False
        self.error: str | None = None
        self._fed = 0  # bytes fed so far
        self._next_work = 0  # there is nothing to do before this many bytes were fed
        self._stage = _HEAD
        self._end = 0  # raw offset where the current chunk, length body or complete message ends
        self._unfinished = b""  # chunk framing: part of a size line, or the CR after a chunk
        self._section = bytearray()  # unfinished head or trailer section
        self._announced = 0  # bytes of the current chunk, as its size line says
        # Raw offset and length of each run of body bytes, as announced: the last one may reach
        # beyond what was fed. A server may send millions: in arrays each takes 8 bytes.
        self._starts, self._lengths = array("I"), array("I")
        # Where among these runs, and among all bytes, there are whole chunks that are told of later
        self._passed: tuple[int, int] | None = None

    # --- feeding

    def feed(self, data: bytes) -> bool:
        """Read the next bytes; True when the message is complete, and at every call after that.

        Never raises. A broken message is never complete: look at `error` as well.
        """
        fed = self._fed = self._fed + len(data)
        if fed < self._next_work:
            return False
        return self._advance(data)

    @property
    def is_between_chunks(self) -> bool:
        """Whether what comes next is the beginning of a chunk."""
        return self._stage == _CHUNK_LINE and not self._unfinished

    def pass_over(self, size: int) -> None:
        """Go on behind so many bytes of whole chunks (`WHOLE_CHUNKS`), of which `add_passed` tells
        later."""
        self._passed = len(self._starts), self._fed
        self._fed += size

    def add_passed(self, lengths: Sequence[int]) -> None:
        """The same as `feed` with pieces of these lengths, each of which was one whole chunk; they
        are passed over first, unless they were."""
        if self._passed is None:
            self.pass_over(sum(lengths))
        assert self._passed
        (place, start), self._passed = self._passed, None
        ends = list(accumulate(lengths, initial=start))[1:]
        sizes = [WHOLE_CHUNKS[length][1] for length in lengths]
        starts = [end - size - 2 for end, size in zip(ends, sizes, strict=True)]
        self._starts[place:place] = array("I", starts)
        self._lengths[place:place] = array("I", sizes)

    def _advance(self, data: bytes) -> bool:
        if self._unfinished:
            data = self._unfinished + data
            self._unfinished = b""
        stage = self._stage
        if stage == _CHUNK_LINE:
            return self._read_chunks(data, 0)
        if stage == _CHUNK_DATA:
            return self._end_chunk(data, self._end - (self._fed - len(data)))
        if stage == _LENGTH:
            return self._finish(self._end)
        if stage == _HEAD:
            return self._read_head(data)
        if stage == _TRAILER:
            return self._read_trailer(data, 0)
        return self.complete

    def eof(self) -> None:
        """The peer closed the connection: this ends a close-delimited body, else it is an error."""
        if self._stage == _CLOSE:
            self._finish(self._fed)
        elif self._stage != _OVER:
            self._fail(f"connection closed {self._where()}")

    def _where(self) -> str:
        missing = self._end - self._fed
        if self._stage == _LENGTH:
            return f"{missing} bytes before the announced Content-Length"
        if self._stage == _CHUNK_DATA and missing > 0:
            return f"{missing} bytes before the end of a chunk of {self._announced}"
        if self._stage == _TRAILER:
            return "after the last chunk, before the empty line that ends the message"
        if self._stage != _HEAD:
            return "before the last chunk"
        return f"inside the head, after {self._fed} bytes" if self._fed else "without an answer"

    # --- head and trailer

    def _read_head(self, data: bytes) -> bool:
        pos = 0
        while True:
            pos = self._collect(data, pos)
            if not self._has_version() or not self._fits(pos, "head") or pos < 0:
                return False
            if not self._parse_head(self._take_lines()):
                return False
            if self.status is None or self.status >= 200:
                return self._start_body(data, pos)

    def _read_trailer(self, data: bytes, pos: int) -> bool:
        pos = self._collect(data, pos)
        if not self._fits(pos, "trailer section") or pos < 0:
            return False
        # The section begins with the LF before it. Trailers are checked, not kept (section 7.1.2).
        if self._parse_fields(self._take_lines()[1:]) is None:
            return False
        return self._finish(self._fed - len(data) + pos)

    def _collect(self, data: bytes, pos: int) -> int:
        """Add `data` from `pos` on to the section.

        Returns the position after the section's empty line, or -1 if that has not come yet. At
        most the limit is kept, and only new bytes are searched. A section that is whole within one
        read is cut out of it directly: otherwise thousands of interim responses in one read would
        cost 64 KiB of copying each.
        """
        seen = len(self._section)
        stop = pos + HEAD_LIMIT_BYTES - seen
        if not seen:
            match = _EMPTY_LINE.search(data, pos, stop)
            self._section += data[pos : match.end() if match else stop]
            return match.end() if match else -1
        self._section += data[pos:stop]
        match = _EMPTY_LINE.search(self._section, max(0, seen - 2))
        if match is None:
            return -1
        del self._section[match.end() :]
        return pos + match.end() - seen

    def _fits(self, pos: int, what: str) -> bool:
        if pos >= 0 or len(self._section) < HEAD_LIMIT_BYTES:
            return True
        return self._fail(f"{what} over {HEAD_LIMIT_BYTES // 1024} KiB")

    def _has_version(self) -> bool:
        """Whether this can be HTTP/1. Garbage is refused early: it may never have an empty line."""
        start = bytes(self._section[:_VERSION_BYTES])
        ended = _EMPTY_LINE.search(start) is not None
        if _VERSION.match(start) or (len(start) < _VERSION_BYTES and not ended):
            return True
        if _HTTP_2_FRAME.match(start):
            return self._fail(HTTP_2)
        return self._fail(f"not an HTTP/1.1 response: it starts with {_quote(start)}")

    def _take_lines(self) -> list[str]:
        lines = [line.rstrip("\r") for line in self._section.decode("latin-1").split("\n")]
        self._section.clear()
        return lines[:-2]  # without the empty line, and what split() finds after its LF

    def _parse_head(self, lines: list[str]) -> bool:
        """Set the attributes from status line and fields (sections 4 and 5); False on an error."""
        match = _STATUS_LINE.fullmatch(lines[0])
        if match is None:
            return self._fail(f"not an HTTP/1.1 status line: {_quote(lines[0].encode('latin-1'))}")
        fields = self._parse_fields(lines[1:])
        if fields is None:
            return False
        self.version = "1.0" if match[1] == "0" else "1.1"
        self.status = int(match[2])
        self.reason = (match[3] or "").strip(" \t")
        self.headers = fields
        return True

    def _parse_fields(self, lines: list[str]) -> list[tuple[str, str]] | None:
        fields: list[tuple[str, str]] = []
        for line in lines:
            if line[:1] in (" ", "\t"):
                # A folded value (section 5.2). Before the first field it is ignored (section 2.2).
                if fields:
                    name, value = fields[-1]
                    parts = [part for part in (value, line.strip(" \t")) if part]
                    fields[-1] = name, sys.intern(" ".join(parts))
                continue
            field = _known_field(line) if len(line) < _LINE_LENGTH else _field_of(line)
            if field is None:
                self._fail(f"not a header line: {_quote(line.encode('latin-1'))}")
                return None
            fields.append(field)
        return fields

    # --- body

    def _start_body(self, data: bytes, pos: int) -> bool:
        """Choose the framing, in the order of precedence of section 6.3."""
        start = self._fed - len(data) + pos
        if self.method == "HEAD" or self.status in (204, 304):
            self.framing = "none"
            return self._finish(start)
        codings = self._tokens("Transfer-Encoding")
        if codings and codings[-1] == "chunked":
            self.framing = "chunked"
            self._stage = _CHUNK_LINE
            return self._read_chunks(data, pos)
        lengths = self.headers_all("Content-Length")
        if lengths and not codings:
            return self._start_length(start, lengths)
        self.framing = "close"
        self._stage, self._next_work = _CLOSE, _NEVER
        self._add_span(start, _MOST)
        return False

    def _start_length(self, start: int, values: list[str]) -> bool:
        parts = [part.strip(" \t") for value in values for part in value.split(",")]
        wrong = next((part for part in parts if not _LENGTH_VALUE.fullmatch(part)), None)
        if wrong is not None:
            return self._fail(f"Content-Length is not a length: {_quote(wrong.encode('latin-1'))}")
        lengths = {int(part) for part in parts}
        if len(lengths) > 1:
            return self._fail(f"Content-Length given as {min(lengths)} and as {max(lengths)}")
        length = lengths.pop()
        self.framing = "length"
        self._end = start + length
        if length:
            self._add_span(start, length)
        if self._fed >= self._end:
            return self._finish(self._end)
        self._stage, self._next_work = _LENGTH, self._end
        return False

    def _add_span(self, start: int, length: int) -> None:
        self._starts.append(start)
        self._lengths.append(min(length, _MOST))

    def _read_chunks(self, data: bytes, pos: int) -> bool:
        """Read chunk after chunk; the first size line begins at `pos`."""
        if len(self._starts) > MAX_CHUNKS:
            return self._fail(f"more than {MAX_CHUNKS:,} chunks")
        base = self._fed - len(data)
        while line := _SIZE_LINE.match(data, pos):
            pos = line.end()
            size = int(line[1], 16)
            if not size:
                self._stage = _TRAILER
                return self._read_trailer(data, pos - 1)
            self._add_span(base + pos, size)
            pos += size
            if data[pos : pos + 2] != b"\r\n":
                self._stage, self._end, self._next_work = _CHUNK_DATA, base + pos, base + pos + 1
                self._announced = size
                return self._end_chunk(data, pos) if pos < len(data) else False
            pos += 2
        return self._keep_partial_size_line(data, pos)

    def _keep_partial_size_line(self, data: bytes, pos: int) -> bool:
        start = _SIZE_LINE_START.match(data, pos)
        good = start.end() if start else pos
        if good < len(data):
            return self._fail(f"not a chunk size line: {_quote(data[pos : good + 1])}")
        self._unfinished = data[pos:]
        return False

    def _end_chunk(self, data: bytes, pos: int) -> bool:
        """`pos` is just after the bytes of a chunk: CR LF, or the beginning of it, must follow."""
        end = data[pos : pos + 2]
        if end == b"\r\n":
            self._stage = _CHUNK_LINE
            return self._read_chunks(data, pos + 2)
        if end not in (b"", b"\r"):
            return self._fail(f"chunk of {self._announced} bytes not followed by CR LF")
        self._unfinished = end
        return False

    # --- ends

    def _finish(self, end: int) -> bool:
        self.complete = True
        self._stage, self._next_work, self._end = _OVER, 0, end
        return True

    def _fail(self, error: str) -> bool:
        self.error = error
        self._stage, self._next_work = _OVER, _NEVER
        self._unfinished = b""
        self._section.clear()
        return False

    @property
    def surplus(self) -> int:
        """Bytes that arrived after the end of the message; 0 while it has not ended."""
        return self._fed - self._end if self.complete else 0

    @property
    def keep_alive(self) -> bool:
        """Whether the next request may go over the same connection (section 9.3)."""
        if not self.complete or self.surplus or self.framing == "close":
            return False
        options = self._tokens("Connection")
        if "close" in options:
            return False
        # HTTP/1.0 has no Transfer-Encoding: close after an answer that uses it (section 6.1).
        return self.version == "1.1" or ("keep-alive" in options and self.framing != "chunked")

    # --- headers

    def header(self, name: str) -> str | None:
        """The first value of that name, or None. Upper and lower case are the same."""
        return next(iter(self.headers_all(name)), None)

    def headers_all(self, name: str) -> list[str]:
        """All values of that name, in order. Upper and lower case are the same."""
        wanted = name.lower()
        return [value for key, value in self.headers if key.lower() == wanted]

    def _tokens(self, name: str) -> list[str]:
        listed = ",".join(self.headers_all(name)).lower().split(",")
        return [token for token in (part.strip(" \t") for part in listed) if token]

    # --- the body, afterwards

    @property
    def spans(self) -> list[tuple[int, int]]:
        """(raw offset, length) of each run of body bytes that arrived, in order."""
        return list(zip(*self._arrived_spans(), strict=True))

    def let_go(self) -> None:
        """Forget where the body is: it was read, and its bytes are not kept."""
        del self._starts[:], self._lengths[:]

    def _arrived_spans(self) -> tuple[array[int], array[int]]:
        """The raw offsets and the lengths of these runs."""
        last = self._end if self.complete else self._fed
        count = len(self._starts)
        while count and self._starts[count - 1] >= last:
            count -= 1
        starts, lengths = self._starts[:count], self._lengths[:count]
        if count:  # only the last one can reach further
            lengths[-1] = min(lengths[-1], last - starts[-1])
        return starts, lengths

    def body(self, raw: bytes | bytearray) -> bytes:
        """The body without its framing; `raw` is all that was fed, from the first byte."""
        last = self._end if self.complete else self._fed  # only the last span can reach further
        with memoryview(raw) as whole, whole[:last] as view:
            spans = zip(self._starts, self._lengths, strict=True)
            if len(self._starts) <= _JOINED_AT_ONCE:
                return b"".join([view[start : start + length] for start, length in spans])
            body = bytearray()
            for start, length in spans:
                body += view[start : start + length]
            return bytes(body)

    def marks(self, raw_ends: Sequence[int], times_ns: Sequence[int]) -> Marks:
        """(body bytes so far, time in ns) for each read that brought some of the body.

        `raw_ends[i]` is the number of raw bytes after read i, `times_ns[i]` its time; both are in
        the order of arrival.
        """
        marks, spans = Marks(), _Spans(*self._arrived_spans())
        raw_ends, times_ns = array("q", raw_ends), array("q", times_ns)
        read = span = reached = 0
        while read < len(raw_ends):
            # nearly always a read brings one whole chunk: all of these are taken together
            if count := spans.whole_chunks(raw_ends, read, span):
                marks.extend(spans.sizes[span : span + count], times_ns[read : read + count])
                read, span = read + count, span + count
                reached = spans.sizes[span - 1]
                continue
            span, now = spans.size_at(raw_ends[read], span)
            if now > reached:
                marks.append(now, times_ns[read])
                reached = now
            read += 1
        return marks


class _Spans:
    """The runs of body bytes that arrived. `sizes`: of the body, after each of them."""

    __slots__ = ("_closed", "_ends", "_starts", "sizes")

    def __init__(self, starts: array[int], lengths: array[int]) -> None:
        self._starts = starts
        self.sizes = array("q", accumulate(lengths))
        self._ends = array("q", map(add, starts, lengths))
        self._closed = array("q", map(add, self._ends, repeat(2)))  # where CR LF ends a chunk

    def whole_chunks(self, raw_ends: array[int], read: int, span: int) -> int:
        """How many reads from this one on end where a chunk does, one after the other."""
        if span == len(self._closed) or raw_ends[read] != self._closed[span]:
            return 0
        some = raw_ends[read : read + _COMPARED_AT_ONCE]
        return common_length(some, self._closed[span : span + _COMPARED_AT_ONCE])

    def size_at(self, raw_end: int, span: int) -> tuple[int, int]:
        """The next span that has not ended before this raw offset, and the size of the body there.
        All spans before `span` have."""
        while span < len(self._ends) and raw_end >= self._ends[span]:
            span += 1
        size = self.sizes[span - 1] if span else 0
        if span < len(self._starts) and raw_end > self._starts[span]:
            size += raw_end - self._starts[span]
        return span, size


def common_length(one: array[int], other: array[int]) -> int:
    """How many numbers two arrays have in common at their beginning."""
    low, high = 0, min(len(one), len(other))
    if one[:high] == other[:high]:
        return high
    while high - low > 1:  # those before `low` are equal, those before `high` are not
        middle = (low + high) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle
    return low


def _field_of(line: str) -> tuple[str, str] | None:
    """Name and value of a header line; None when it is none. Kept once for all answers that have
    the same: a run may keep a hundred thousand."""
    name, colon, value = line.partition(":")
    name = name.rstrip(" \t")
    return (sys.intern(name), sys.intern(value.strip(" \t"))) if colon and name else None


_known_field = lru_cache(maxsize=256)(_field_of)  # all answers of a server have nearly the same


def _quote(data: bytes) -> str:
    """The first 40 bytes as one printable line, to be shown in a message."""
    return repr(data[:40])[1:] + ("..." if len(data) > 40 else "")
