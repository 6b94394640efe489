"""A request as it is sent, and its reply as it came back: bytes and times, not yet what they mean.

All times are nanoseconds of `time.perf_counter_ns()`.
"""

from __future__ import annotations

import dataclasses
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any

from livecheck.core.redaction import PIECE_LENGTH
from livecheck.wire import compression
from livecheck.wire.connection import Failure, Handshake, Target
from livecheck.wire.http1 import Marks, Message
from livecheck.wire.proxy import Proxy

USER_AGENT = "live-inference-checks"
MAX_BYTES = 1 << 20  # of an answer: a list, an error, a text, figures; more is a flood
MAX_STREAM_BYTES = 32 << 20  # of a stream that was asked for: 128,000 tokens, one in each event
BYTES_FOR_A_TOKEN = 4 << 10  # of a stream that was asked for so many tokens, beside MAX_BYTES
MOST_IN_4_BYTES = 2**32 - 1  # four seconds in ns; only a client that was stopped reads so late
MAX_READS = 1_000_000  # of an answer; each is remembered
BEGINNING_BYTES = 256 << 10  # of a large answer whose bytes were let go
EVENT_STREAM = "text/event-stream"
IDENTITY = "identity"  # Accept-Encoding of a request that does not say another one


def stream_bytes(tokens: int) -> int:
    """How many bytes a stream of so many tokens may have. Many are asked for at once, and the
    bytes of all of them are kept until they have ended."""
    return min(MAX_BYTES + BYTES_FOR_A_TOKEN * tokens, MAX_STREAM_BYTES)


def lags_array(lags_ns: Sequence[int]) -> array[int]:
    """The lags of reads, in 4 bytes each where that is enough."""
    return array("q" if lags_ns and max(lags_ns) > MOST_IN_4_BYTES else "I", lags_ns)


def most_bytes(
    wants_stream: bool, status: int | None, content_type: str | None, most: int = MAX_STREAM_BYTES
) -> int:
    """How many bytes an answer may have, head and framing included; `most`: if it is a stream.

    A stream with a wrong Content-Type may be as long as any other; JSON and web pages never are
    streams.
    """
    kind = (content_type or "").lower()
    is_stream = wants_stream and status == 200 and "json" not in kind and "html" not in kind
    return most if is_stream else MAX_BYTES


@dataclass(frozen=True, slots=True)
class Request:
    """What to send. `headers` are added to the usual ones or replace them; None leaves one out.
    `repeated` are lines sent after these, also with a name that is there already.

    A request with `cancel_after_s` is cancelled that long after it was sent, one with
    `cancel_at_bytes` as soon as that many bytes of the answer have arrived. A `path` that begins
    with /v1 is one of the API, which the target may have at another place; with `is_raw` it is sent
    as it is, whatever the target's URL. `secret` is a credential in the request other than the
    target's token; it is masked in the answer. `stream_bytes`: how many bytes the answer may have,
    if it is a stream; `answer_bytes`: if it is none, and a success.
    """

    method: str
    path: str
    body: bytes | None = None
    headers: Mapping[str, str | None] = field(default_factory=dict)
    cancel_after_s: float | None = None
    cancel_at_bytes: int | None = None
    secret: str | None = field(default=None, repr=False)
    repeated: Sequence[tuple[str, str]] = field(default=(), repr=False)
    is_raw: bool = False
    stream_bytes: int = MAX_STREAM_BYTES
    answer_bytes: int = MAX_BYTES

    @property
    def wants_stream(self) -> bool:
        """Whether it asks for an event stream, as `chat.completion` does."""
        return self.headers.get("accept") == EVENT_STREAM

    def encode(self, target: Target) -> bytes:
        """The bytes to send for this request (RFC 9112, section 3), to the target or to the proxy
        that forwards it."""
        headers: dict[str, str | None] = {
            "host": target.host_and_port,
            "user-agent": USER_AGENT,
            "accept": "*/*",
            "accept-encoding": IDENTITY,
        }
        if target.token:
            headers["authorization"] = f"Bearer {target.token}"
        if self.body is not None:
            headers["content-type"] = "application/json"
            headers["content-length"] = str(len(self.body))
        headers |= {name.lower(): value for name, value in self.headers.items()}
        path = self.path if self.is_raw else target.path_of(self.path)
        if target.proxy and target.proxy.forwards:
            path = f"http://{target.host_and_port}{path}" if path.startswith("/") else path
            if target.proxy.authorization:  # also where a request has one: that never gets further
                headers["proxy-authorization"] = target.proxy.authorization
        lines = [f"{self.method} {path} HTTP/1.1"]
        lines += [
            f"{name.title()}: {value}"
            for name, value in (*headers.items(), *self.repeated)
            if value is not None
        ]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + (self.body or b"")


@dataclass(eq=False)
class Reply:
    """What came back for one request, read by read.

    `ends`, `stamps_ns` and `lag_ns` have one entry for each read that brought bytes. A reply
    without `failure` is a whole message, or `cancelled`, or `unterminated`.
    """

    index: int  # in the order in which the requests were begun
    request: Request
    t0_ns: int | None = None  # when it was sent; None: it was not
    due_ns: int | None = None  # open loop: when it should have been sent
    late_ns: int | None = None  # from when it could have been sent until it was sent
    message: Message = field(default_factory=Message)
    handshake: Handshake | None = None  # when a connection was opened for this request
    failure: Failure | None = None
    end_ns: int | None = None
    cancelled: bool = False  # as the request wanted it
    resent: bool = False  # the server had closed the idle connection: sent again on a new one
    secret: bytes = b""  # the credential it was sent with
    is_condensed: bool = False  # most of its bytes are not kept
    unterminated: bool = False  # [DONE] came, the end of the message did not
    proxy: Proxy | None = None  # that it went through
    stream: Any = None  # what its bytes say as a stream, once they were read (`Answer.stream`)
    raw: bytearray = field(default_factory=bytearray)  # all bytes, head and framing included
    ends: array[int] = field(default_factory=lambda: array("q"))  # bytes so far, after the read
    # when the read's last byte arrived; how long its bytes lay unread
    stamps_ns: array[int] = field(default_factory=lambda: array("q"))
    lag_ns: array[int] = field(default_factory=lambda: array("q"))
    # Reads that are not among these yet: data, its stamp, its lag. Each is a whole chunk, but for
    # the last one, if it ends the message.
    waiting: list[Any] = field(default_factory=list)

    @property
    def status(self) -> int | None:
        return self.message.status

    def add(self, data: bytes, stamp_ns: int, lag_ns: int) -> None:
        """Take in what a read brought."""
        self.raw += data
        self.ends.append(len(self.raw))
        self.stamps_ns.append(stamp_ns)
        self.lag_ns.append(lag_ns)

    def add_waiting(self) -> None:
        """Take in the reads that wait for it."""
        if not self.waiting:
            return
        pieces, stamps_ns, lags_ns = (self.waiting[part::3] for part in range(3))
        lengths = list(map(len, pieces))
        self.message.add_passed(lengths[:-1] if self.message.complete else lengths)
        self.ends.extend(list(accumulate(lengths, initial=self.size))[1:])
        self.raw += b"".join(pieces)
        self.stamps_ns.extend(stamps_ns)
        self.lag_ns.extend(lags_ns)
        self.waiting.clear()

    @property
    def read_count(self) -> int:
        """How many reads brought some of it."""
        return len(self.ends) + len(self.waiting) // 3

    @property
    def size(self) -> int:
        """How many bytes came, head and framing included."""
        return self.ends[-1] if self.ends else 0

    @property
    def reads(self) -> list[bytes]:
        """What each read brought, as long as the bytes are kept."""
        starts = [0, *self.ends]
        return [bytes(self.raw[a:b]) for a, b in zip(starts, self.ends, strict=False)]

    @property
    def first_byte_ns(self) -> int | None:
        return self.stamps_ns[0] if self.stamps_ns else None

    @property
    def most_bytes(self) -> int:
        """How many bytes it may have, as far as its head tells."""
        kind = self.message.header("content-type")
        request = self.request
        most = most_bytes(request.wants_stream, self.status, kind, request.stream_bytes)
        return max(most, request.answer_bytes) if self.status == 200 else most

    @cached_property
    def body(self) -> bytes:
        """The body without its framing. If the server echoes the credential, it is masked."""
        body = self.masked(self.message.body(self.raw))
        if self.end_ns is not None and self.size > MAX_BYTES:  # nothing large is kept twice
            self.raw = self.raw[:BEGINNING_BYTES]
        return body

    @cached_property
    def body_size(self) -> int:
        """The bytes of the body, also when they are no longer kept."""
        return len(self.body)

    def keep_beginning(self) -> None:
        """Keep only the beginning of a large answer that has been read, or that nobody will read.
        Its size and the times of its reads stay."""
        if self.size <= BEGINNING_BYTES and "decoded" not in self.__dict__:
            return
        if "body" not in self.__dict__:
            del self.raw[BEGINNING_BYTES + len(self.secret) :]  # masked before it is cut
        self.body_size = self.body_size
        self.body, self.raw = self.body[:BEGINNING_BYTES], self.raw[:BEGINNING_BYTES]
        self.marks = Marks()
        if found := self.__dict__.get("decoded"):
            self.decoded = found._replace(body=found.body[:BEGINNING_BYTES], marks=Marks())

    def let_go(self, size: int) -> None:
        """Forget all that came but for the head, the first `size` bytes of the body, and when the
        first bytes came."""
        self.condense(size)
        del self.lag_ns[1:]

    def refusal_of_proxy(self) -> Failure | None:
        """Why the proxy did not pass the request on, where the answer is its own."""
        if not (self.proxy and self.proxy.forwards) or (self.status or 0) < 400:
            return None
        words = self.proxy.own_words(self.message, self.body)
        return Failure("connect", words) if words else None

    def masked(self, data: bytes) -> bytes:
        """The same number of bytes, with the credential replaced by asterisks.

        Mask first, shorten afterwards: half a credential would not be recognised. A short one, such
        as the `x` or `test` of a server that takes any key, is a part of ordinary words: it is
        left in what is judged, and taken out where a text is shown or saved (core/cleaning.py).
        """
        if len(self.secret) < PIECE_LENGTH:
            return data
        return data.replace(self.secret, b"*" * len(self.secret))

    @cached_property
    def decoded(self) -> compression.Decoded | None:
        """The body of a compressed answer, not masked again; None of any other, and of a flood."""
        return self.decode()

    def decode(self) -> compression.Decoded | None:
        """The same, not kept: it may be much larger than what came."""
        if self.is_condensed:
            return self.decoded
        if self.failure and self.failure.kind == "flood":
            return None
        named = ", ".join(self.message.headers_all("content-encoding"))
        accepted = self.request.headers.get("accept-encoding", IDENTITY)
        is_whole = not (self.failure or self.cancelled or self.unterminated)
        return compression.read(self.body, self.marks, named, accepted, is_whole, self.most_bytes)

    def condense(self, length: int) -> None:
        """Keep only so many bytes of the body, and what is wrong with the compression. Of the reads
        stay the time of the first one, the size of all, and how long each lay unread."""
        head, decoded = self.body[:length], self.decoded
        if decoded:
            decoded = decoded._replace(body=decoded.body[:length], marks=Marks())
        self.body_size = self.body_size
        self.__dict__.update(body=head, decoded=decoded, marks=Marks())
        self.raw = bytearray(head)
        self.message.let_go()
        del self.stamps_ns[1:], self.ends[:-1]
        if self.lag_ns and min(self.lag_ns) < 0:
            self.lag_ns = array("q", [max(lag, 0) for lag in self.lag_ns])
        self.lag_ns = lags_array(self.lag_ns)
        self.request = dataclasses.replace(self.request, body=None)
        self.is_condensed = True

    @cached_property
    def marks(self) -> Marks:
        """(body bytes so far, time) for each read that brought some of the body."""
        return self.message.marks(self.ends, self.stamps_ns)
