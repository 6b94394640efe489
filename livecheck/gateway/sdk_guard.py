"""Holds one request of the SDK within its bounds: its time, and what comes of its answer.

The SDK runs in a thread of its own, and this program waits for it. So an interruption never comes
in the middle of the SDK, whose connections, generators and tasks would each tell of it, and the
time is over when it is over, whatever the SDK is doing then.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from livecheck.core.text import shorten
from livecheck.gateway.sdk_bounds import (
    MOST_EVENTS,
    PIECE_BYTES,
    Bounds,
    coded_bytes,
    cut,
    nested,
)
from livecheck.wire.answer import WORDS_BYTES
from livecheck.wire.connection import through_proxy
from livecheck.wire.wire import Failure, Reply, Request, Target

GRACE_S = 3.0  # for what the SDK is doing when the time is over
STOP_S = 0.5  # the same after an interruption
KEPT_CODING = 40  # characters of a Content-Encoding
# Python's decoders for these take a time that grows with the square of the length.
SLOW_CHARSETS = ("punycode", "idna")


class Stopped(Exception):
    """Ends the reading of an answer; the reply says why."""


class Aside:
    """Something that runs in a thread of its own. The thread does not keep the program alive."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.result: Any = None
        self.error: BaseException | None = None
        self._work, self._over = work, threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            self.result = self._work()
        except BaseException as error:
            self.error = error
        self._over.set()

    def has_ended(self, seconds: float | None = None) -> bool:
        """Whether it ends within this time."""
        return self._over.wait(seconds)


def aside(work: Callable[[], Any]) -> Any:
    """What `work` returns, or raises, in a thread of its own."""
    task = Aside(work)
    task.start()
    task.has_ended()
    if task.error:
        raise task.error
    return task.result


class Guard:
    """Bounds one request at a time, and fills its Reply.

    httpx bounds each read alone, so a server that sends a byte now and then is never too slow for
    it. Here the sockets are shut down when the time is over, and the pieces of the body are
    counted. The failure in the reply says that the guard stepped in, whatever the SDK made of that.
    """

    def __init__(self, target: Target, timeout_s: float) -> None:
        self.target, self.timeout_s = target, timeout_s
        self.opened = False  # whether the request opened a connection, and did not take a kept one
        self.coding = ""  # Content-Encoding of the answer
        self.cancel: Callable[[], object] | None = None  # ends what runs in an event loop
        self._reply = Reply(0, Request("", ""))
        self._wants_stream, self._tokens, self._events = False, 0, 0
        self._sockets: list[socket.socket] = []
        self._body = bytearray()  # an error's, or the beginning of any other
        self._bounds = Bounds(False, 0, "")

    def run(
        self,
        reply: Reply,
        ask: Callable[[], object],
        wants_stream: bool = False,
        tokens: int = 0,
    ) -> bool:
        """Call `ask`, which sends the request of `reply`, in another thread. Whether that has
        ended; if not, it goes on with nothing to read, and this guard cannot be used again.

        `tokens`: as many as were asked for. Raises what `ask` raises.
        """
        self._begin(reply, wants_stream, tokens)
        task = Aside(ask)
        try:
            task.start()
            if not task.has_ended(self.timeout_s):
                self.time_out()
                self._stop()
            has_ended = task.has_ended(GRACE_S)
        except BaseException:  # the run is interrupted
            self._fail("interrupted", "the run was interrupted")
            self._stop()
            task.has_ended(STOP_S)
            raise
        finally:
            self._end()
        if task.error:
            raise task.error
        return has_ended

    def _begin(self, reply: Reply, wants_stream: bool, tokens: int) -> None:
        self._reply, self._wants_stream, self._tokens = reply, wants_stream, tokens
        self.opened, self.coding, self.cancel = False, "", None
        self._body, self._events = bytearray(), 0
        reply.t0_ns = time.perf_counter_ns()

    def _end(self) -> None:
        reply = self._reply
        reply.end_ns = time.perf_counter_ns()
        reply.body = reply.masked(bytes(self._body))
        failure = reply.failure or reply.refusal_of_proxy()
        reply.failure = through_proxy(failure, self.target) if failure else None

    def time_out(self) -> None:
        self._fail("timeout", f"not finished after {self.timeout_s:g} s")

    def note_event(self) -> None:
        """The SDK has given one more object of a stream. Raises Stopped when it must be the
        last one, also when all of them had come in time."""
        self._events += 1
        if self._events > MOST_EVENTS:
            self._fail("flood", f"more than {MOST_EVENTS} events in the answer")
        self._look_at_time()

    def _fail(self, kind: str, text: str) -> None:
        """The first reason stays."""
        self._reply.failure = self._reply.failure or Failure(kind, text)

    def _look_at_time(self) -> None:
        if time.perf_counter_ns() > (self._reply.t0_ns or 0) + int(self.timeout_s * 1e9):
            self.time_out()
        if failure := self._reply.failure:
            raise Stopped(failure.text)

    def _stop(self) -> None:
        """End what the SDK is waiting for."""
        if self.cancel:
            self.cancel()
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                # not SSLSocket.shutdown, which takes TLS away while another thread reads
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    # the body

    def _add(self, piece: bytes) -> bytes:
        """Count what was decoded of the body. Raises Stopped."""
        if too_much := self._bounds.add(piece):
            self._fail("flood", too_much)
        is_error = not 200 <= (self._reply.status or 0) < 300
        if is_error or len(self._body) < WORDS_BYTES:  # a 200 may have an error in it
            self._body += piece
        self._look_at_time()
        return piece

    def _add_coded(self, piece: bytes) -> bytes:
        """The same of what is to be decoded."""
        if too_much := self._bounds.add_coded(piece):
            self._fail("flood", too_much)
        self._look_at_time()
        return piece

    # event hooks, which are the same in httpx and httpx2

    def on_request(self, request: Any) -> None:
        self._note_request(request)
        request.extensions["trace"] = self._on_connect

    async def on_async_request(self, request: Any) -> None:
        self._note_request(request)

    def _note_request(self, request: Any) -> None:
        self._reply.request = Request(request.method, request.url.path, request.content)
        host = self.target.hosts.at(self.target.host, self.target.port)
        if self.target.proxy is None and host.way_round:
            # httpx would wait for each address that does not answer, on every connection. That is
            # a warning of its own, not a failure of the server. The Host header stays as it is.
            request.extensions["sni_hostname"] = self.target.host
            request.url = request.url.copy_with(host=host.way_round)

    def _on_connect(self, event: str, info: dict[str, Any]) -> None:
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            self.opened = True
            sock = info["return_value"].get_extra_info("socket")
            self._sockets = [each for each in self._sockets if each.fileno() >= 0] + [sock]

    def on_response(self, response: Any) -> None:
        self._note_head(response)
        read, read_coded = response.iter_bytes, response.iter_raw
        coded_size, size = coded_bytes(self.coding), self._piece_bytes

        def iter_raw(chunk_size: int | None = None) -> Iterator[bytes]:
            for piece in read_coded(chunk_size):
                yield from map(self._add_coded, cut(piece, coded_size))

        def iter_bytes(chunk_size: int | None = None) -> Iterator[bytes]:
            for piece in read(chunk_size):
                yield from map(self._add, cut(piece, size))

        if coded_size:
            response.iter_raw = iter_raw
        response.iter_bytes = iter_bytes

    async def on_async_response(self, response: Any) -> None:
        self._note_head(response)
        read, read_coded = response.aiter_bytes, response.aiter_raw
        coded_size, size = coded_bytes(self.coding), self._piece_bytes

        async def aiter_raw(chunk_size: int | None = None) -> AsyncIterator[bytes]:
            async for piece in read_coded(chunk_size):
                for part in cut(piece, coded_size):
                    yield self._add_coded(part)

        async def aiter_bytes(chunk_size: int | None = None) -> AsyncIterator[bytes]:
            async for piece in read(chunk_size):
                for part in cut(piece, size):
                    yield self._add(part)

        if coded_size:
            response.aiter_raw = aiter_raw
        response.aiter_bytes = aiter_bytes

    @property
    def _piece_bytes(self) -> int | None:
        """A stream is read in small pieces, so that the time is looked at between them."""
        return PIECE_BYTES if self._bounds.is_stream else None

    def _note_head(self, response: Any) -> None:
        """Raises Stopped when the body must not be decoded."""
        headers, status = response.headers, response.status_code
        self._reply.message.status = status
        # The SDK's HTTP library asks for compression and decodes it: the pieces are plain.
        self.coding = headers.get("content-encoding", "")
        self._reply.message.headers = [
            (name, value)
            for name, value in headers.multi_items()
            if name.lower() != "content-encoding"
        ]
        kind = headers.get("content-type", "")
        self._bounds = Bounds(self._wants_stream, status, kind, self._tokens)
        if any(name in kind.lower() for name in SLOW_CHARSETS):
            response.encoding = "utf-8"
        if why := nested(self.coding):
            self._fail("malformed", f"Content-Encoding {shorten(self.coding, KEPT_CODING)}: {why}")
        self._look_at_time()
