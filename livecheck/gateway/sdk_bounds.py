"""How much of an answer the SDK is given to read: bytes, events, lines and JSON values. Pure.

The SDK reads whatever comes. It makes an object of 2 KB out of each `{}` and takes 0.1 ms for that,
and it joins the lines of an event one by one, which takes a time that grows with the square of
their number. So the bytes are looked at before the SDK gets them, and what no sound server sends is
a flood.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from livecheck.wire.compression import DEFLATE, GZIP, codings_in
from livecheck.wire.wire import MAX_BYTES, most_bytes

# A chunk is about 250 bytes for a token, with the extensions of some gateways up to 1 KB. Beside
# the chunks there are news of progress, comments, an account of tokens.
BYTES_PER_TOKEN = 1 << 10
MOST_STREAM_BYTES = 8 << 20  # of the longest answer: the SDK's objects take ten times as much
MOST_EVENTS = 50_000  # the SDK takes 30 to 100 µs for each
MOST_EVENT_BYTES = MAX_BYTES
MOST_LINES = 10_000  # of one event, which has one line from most servers
PIECE_BYTES = 4096  # of a stream: between two of them the time is looked at
# Compressed bytes that are decoded at once: gzip makes up to 1 MB of them. A few bytes of the newer
# codings may be blocks of 16 MB each.
CODED_BYTES, NEWER_CODED_BYTES = 1024, 16
EMPTY_LINES = (b"\n\n", b"\n\r\n", b"\r\r")


class Values(NamedTuple):
    """How many JSON values a text has, counted by its signs: those inside of strings count, too."""

    containers: int = 0  # objects and lists
    items: int = 0  # what commas separate

    @classmethod
    def of(cls, text: bytes) -> Values:
        return cls(text.count(b"{") + text.count(b"["), text.count(b","))

    def plus(self, other: Values) -> Values:
        return Values(self.containers + other.containers, self.items + other.items)

    def exceed(self, most: Values) -> str | None:
        if self.containers > most.containers:
            return f"more than {most.containers} objects and lists"
        return f"more than {most.items} JSON values" if self.items > most.items else None


MOST_VALUES = Values(20_000, 100_000)  # of one JSON text; a list of 300 models has 3,000 and 15,000
MOST_STREAM_VALUES = Values(200_000, 1_000_000)  # of all events; a chunk has 4 to 8, and 10 to 30


class Bounds:
    """Counts what comes of one answer. `tokens`: as many as were asked for."""

    def __init__(self, wants_stream: bool, status: int, content_type: str, tokens: int = 0) -> None:
        self.is_stream = wants_stream and status == 200
        most = min(MAX_BYTES + tokens * BYTES_PER_TOKEN, MOST_STREAM_BYTES)
        self.most_bytes = most_bytes(wants_stream, status, content_type, most)
        self._bytes = self._coded_bytes = self._event_bytes = self._event_lines = 0
        self._values = self._event_values = Values()

    def add(self, piece: bytes) -> str | None:
        """Why the answer with these bytes is a flood; None when it is not. A piece of a stream has
        PIECE_BYTES at most."""
        self._bytes += len(piece)
        self._values = self._values.plus(Values.of(piece))
        if self._bytes > self.most_bytes:
            return f"more than {self._megabytes} MB of answer"
        if found := self._values.exceed(MOST_STREAM_VALUES if self.is_stream else MOST_VALUES):
            return f"{found} in the answer"
        return self._look_at_event(piece) if self.is_stream else None

    def _look_at_event(self, piece: bytes) -> str | None:
        """The same for the event that is being read."""
        start = max(piece.rfind(line) for line in EMPTY_LINES)
        if start >= 0:
            piece = piece[start:]
            self._event_bytes, self._event_lines, self._event_values = 0, 0, Values()
        self._event_bytes += len(piece)
        self._event_lines += piece.count(b"\n") + piece.count(b"\r")
        self._event_values = self._event_values.plus(Values.of(piece))
        if self._event_bytes > MOST_EVENT_BYTES:
            return f"more than {MOST_EVENT_BYTES >> 20} MB in one event"
        if self._event_lines > MOST_LINES:
            return f"more than {MOST_LINES} lines in one event"
        found = self._event_values.exceed(MOST_VALUES)
        return f"{found} in one event" if found else None

    def add_coded(self, piece: bytes) -> str | None:
        """The same for bytes that are still compressed: they may be many, and stand for none."""
        self._coded_bytes += len(piece)
        is_flood = self._coded_bytes > self.most_bytes
        return f"more than {self._megabytes} MB of compressed answer" if is_flood else None

    @property
    def _megabytes(self) -> str:
        return f"{self.most_bytes / (1 << 20):.3g}"


def cut(piece: bytes, size: int | None) -> Iterator[bytes]:
    """The piece in pieces of at most `size` bytes; None: as it is."""
    size = size or max(1, len(piece))
    for start in range(0, len(piece), size):
        yield piece[start : start + size]


def coded_bytes(named: str) -> int | None:
    """How many bytes of a body with this Content-Encoding to decode at once; None: any number."""
    codings = codings_in(named)
    if not codings:
        return None
    return CODED_BYTES if codings[0] in (GZIP, DEFLATE) else NEWER_CODED_BYTES


def nested(named: str) -> str | None:
    """Why a body with this Content-Encoding is not decoded; None when it has one coding at most.

    A few bytes in two codings are gigabytes: each makes up to a thousand times as much of them.
    """
    if len(codings_in(named)) < 2:
        return None
    return "the body is compressed several times over, and is not decoded"
