"""A request as it is sent, and its reply as it came back: bytes and times, not yet what they mean.

All times are nanoseconds of `time.perf_counter_ns()`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from livecheck.wire.connection import Failure, Handshake, Target
from livecheck.wire.http1 import Message

USER_AGENT = "live-inference-checks"


@dataclass(frozen=True)
class Request:
    """What to send. `headers` are added to the usual ones or replace them; None leaves one out.

    A request with `cancel_after_s` is cancelled that long after it was sent, one with
    `cancel_at_bytes` as soon as that many bytes of the answer have arrived. `secret` is a
    credential in the request other than the target's token; it is masked in the answer.
    """

    method: str
    path: str
    body: bytes | None = None
    headers: Mapping[str, str | None] = field(default_factory=dict)
    cancel_after_s: float | None = None
    cancel_at_bytes: int | None = None
    secret: str | None = field(default=None, repr=False)

    def encode(self, target: Target) -> bytes:
        """The bytes to send for this request (RFC 9112, section 3)."""
        host = f"[{target.host}]" if ":" in target.host else target.host
        default_port = 443 if target.is_tls else 80
        headers: dict[str, str | None] = {
            "host": host if target.port == default_port else f"{host}:{target.port}",
            "user-agent": USER_AGENT,
            "accept": "*/*",
            "accept-encoding": "identity",
        }
        if target.token:
            headers["authorization"] = f"Bearer {target.token}"
        if self.body is not None:
            headers["content-type"] = "application/json"
            headers["content-length"] = str(len(self.body))
        headers |= {name.lower(): value for name, value in self.headers.items()}
        lines = [f"{self.method} {target.parts.path}{self.path} HTTP/1.1"]
        lines += [
            f"{name.title()}: {value}" for name, value in headers.items() if value is not None
        ]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + (self.body or b"")


@dataclass(eq=False)
class Reply:
    """What came back for one request, read by read.

    `reads`, `stamps_ns` and `lag_ns` have one entry for each read that brought bytes. A reply
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
    unterminated: bool = False  # [DONE] came, the end of the message did not
    reads: list[bytes] = field(default_factory=list)
    stamps_ns: list[int] = field(default_factory=list)  # when the read's last byte arrived
    lag_ns: list[int] = field(default_factory=list)  # how long the read's bytes lay unread

    @property
    def status(self) -> int | None:
        return self.message.status

    @property
    def first_byte_ns(self) -> int | None:
        return self.stamps_ns[0] if self.stamps_ns else None

    @cached_property
    def body(self) -> bytes:
        """The body without its framing. If the server echoes the credential, it is masked."""
        return self.masked(self.message.body(b"".join(self.reads)))

    def masked(self, data: bytes) -> bytes:
        """The same number of bytes, with the credential replaced by asterisks.

        Mask first, shorten afterwards: half a credential would not be recognised.
        """
        return data.replace(self.secret, b"*" * len(self.secret)) if self.secret else data

    @cached_property
    def marks(self) -> list[tuple[int, int]]:
        """(body bytes so far, time) for each read that brought some of the body."""
        ends, total = [], 0
        for data in self.reads:
            total += len(data)
            ends.append(total)
        return self.message.marks(ends, self.stamps_ns)
