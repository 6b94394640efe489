"""The gateway's HTTP/1.1 client of its engine: bytes as they come.

aiohttp's own client takes 1 ms of CPU for a request, as much as the whole measuring error a
time to first token may have here. This one takes 0.1 ms and does only what an engine on
loopback needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

# llama.cpp's server closes a silent connection after 5 s: never send on one that old.
KEEP_S = 3.0
# Some time after a request a connection is opened for the next one, which then need not wait
# for that (0.5 ms).
SPARE_DELAY_S = 0.02
# A client that reads slower than the engine writes stops the reading beyond this.
HIGH_WATER_BYTES = 256 * 2**10
MAX_HEAD_BYTES = 64 * 2**10


class EngineError(Exception):
    """The engine cannot be reached, broke off, or does not speak HTTP."""


class EngineSilent(EngineError):
    """The engine sent nothing for too long."""


class Reply:
    """One answer. Iterate over it for the body's pieces, without their chunked framing."""

    def __init__(self) -> None:
        self.status = 0  # 0 until the head is there
        self.headers: dict[str, str] = {}  # names in lower case
        self.complete = False
        self.heard_s = time.monotonic()
        self.transport: asyncio.Transport | None = None
        self._head = b""
        self._pieces: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._paused = False
        self._error: EngineError | None = None
        self._news: asyncio.Future[None] | None = None
        self._chunked = False
        self._left: int | None = None  # body bytes to come, None: until the connection ends
        self._last_chunk = False
        self._framing = b""  # an unfinished chunk border

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "application/json")

    # --- for the reader

    async def head(self) -> None:
        while not self.status:
            await self._hear()

    async def read(self) -> bytes:
        return b"".join([piece async for piece in self])

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while not self._pieces:
            if self.complete:
                raise StopAsyncIteration
            await self._hear()
        piece = self._pieces.popleft()
        self._waiting_bytes -= len(piece)
        if self._paused and not self._pieces and self.transport is not None:
            self._paused = False
            self.transport.resume_reading()
        return piece

    async def _hear(self) -> None:
        if self._error is not None:
            raise self._error
        self._news = asyncio.get_running_loop().create_future()
        await self._news

    # --- for the connection

    def fail(self, error: EngineError) -> None:
        self._error = error
        self._wake()

    def feed(self, data: bytes) -> None:
        self.heard_s = time.monotonic()
        try:
            self._feed_body(data if self.status else self._feed_head(data))
        except ValueError as error:
            self.fail(EngineError(f"the engine's answer is malformed: {error}"))
        self._wake()

    def feed_end(self) -> None:
        """The connection ended; for a body without framing that is its end."""
        if self.status and self._left is None and not self._chunked:
            self.complete = True
        elif not self.complete:
            self._error = self._error or EngineError("the engine closed the connection")
        self._wake()

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def _feed_head(self, data: bytes) -> bytes:
        """Take bytes of the head; what follows it is the body's beginning."""
        head, blank_line, rest = (self._head + data).partition(b"\r\n\r\n")
        if not blank_line:
            if len(head) > MAX_HEAD_BYTES:
                raise ValueError("an endless head")
            self._head = head
            return b""
        status_line, *lines = head.decode("latin-1").split("\r\n")
        for line in lines:
            name, _, value = line.partition(":")
            self.headers[name.lower()] = value.strip()
        self._chunked = self.headers.get("transfer-encoding", "").lower() == "chunked"
        length = self.headers.get("content-length")
        self._left = 0 if self._chunked else int(length) if length is not None else None
        self.status = int(status_line.split(" ")[1])
        return rest

    def _feed_body(self, data: bytes) -> None:
        if not self.status or self.complete:
            return
        if self._chunked:
            self._feed_chunks(data)
        else:
            self._take(data)
            self.complete = self._left == 0

    def _feed_chunks(self, data: bytes) -> None:
        while data and not self.complete:
            if self._left:
                data = self._take(data)
            elif self._last_chunk:
                # Trailers, which nobody wants, up to the empty line.
                self._framing += data
                self.complete = self._framing == b"\r\n" or self._framing.endswith(b"\r\n\r\n")
                return
            else:
                data = self._feed_border(data)

    def _feed_border(self, data: bytes) -> bytes:
        """Take the line end after one chunk and the size line of the next; the rest comes back."""
        line, line_end, rest = (self._framing + data).lstrip(b"\r\n").partition(b"\r\n")
        if not line_end:
            self._framing += data
            return b""
        self._framing = b""
        self._left = int(line.partition(b";")[0], 16)
        self._last_chunk = self._left == 0
        return rest

    def _take(self, data: bytes) -> bytes:
        """Hand over what belongs to the body (or chunk); the rest comes back."""
        piece = data if self._left is None else data[: self._left]
        if piece:
            self._pieces.append(piece)
            self._waiting_bytes += len(piece)
        if self._left is not None:
            self._left -= len(piece)
        if self._waiting_bytes > HIGH_WATER_BYTES and self.transport and not self._paused:
            self._paused = True
            self.transport.pause_reading()
        return data[len(piece) :]


async def events(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The events of an engine's stream, each with the blank line that ends it."""
    pending = b""
    async for chunk in chunks:
        *complete, pending = (pending + chunk).split(b"\n\n")
        for event in complete:
            yield event + b"\n\n"
    if pending:
        yield pending


class Connection(asyncio.Protocol):
    """One connection to the engine, for one request."""

    def __init__(self) -> None:
        self.reply: Reply | None = None
        self.transport: asyncio.Transport
        self.lost = False
        self.opened_s = time.monotonic()

    @property
    def usable(self) -> bool:
        """Whether the engine has not closed it, nor is about to."""
        return not self.lost and time.monotonic() - self.opened_s < KEEP_S

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.reply is None:
            self.transport.abort()  # nobody asked
        else:
            self.reply.feed(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self.reply is not None:
            self.reply.feed_end()

    def send(self, request: bytes) -> Reply:
        self.reply = Reply()
        self.reply.transport = self.transport
        self.transport.write(request)
        return self.reply


class Client:
    """Requests to engines, each over a connection of its own."""

    def __init__(self, silence_timeout_s: float) -> None:
        self.silence_timeout_s = silence_timeout_s  # 0: wait for ever
        self._ready: defaultdict[str, list[Connection]] = defaultdict(list)
        self._spares: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def request(
        self,
        method: str,
        engine_url: str,
        path: str,
        body: bytes = b"",
        content_type: str = "application/json",
        timeout_s: float | None = None,
    ) -> AsyncIterator[Reply]:
        """An answer with its head; leaving early breaks the connection, so the engine stops.

        EngineSilent after `timeout_s` (or the client's own limit) without a byte, EngineError
        when the engine is not there or breaks off, also while the body is read.
        """
        head = f"{method} {path} HTTP/1.1\r\nHost: {engine_url[7:]}\r\n"
        if body:
            head += f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        message = f"{head}\r\n".encode("latin-1", "replace") + body
        connection, reply = await self._send(engine_url, message)
        silence_s = self.silence_timeout_s if timeout_s is None else timeout_s
        watch = Watch(reply, silence_s) if silence_s else None
        try:
            await reply.head()
            yield reply
        finally:
            if watch is not None:
                watch.stop()
            self._discard(engine_url, connection)

    async def _send(self, engine_url: str, message: bytes) -> tuple[Connection, Reply]:
        """Send on the spare connection, or on a new one."""
        ready = self._ready[engine_url]
        while ready:
            connection = ready.pop()
            if connection.usable:
                return connection, connection.send(message)
            connection.transport.abort()
        connection = await connect(engine_url)
        return connection, connection.send(message)

    def _discard(self, engine_url: str, connection: Connection) -> None:
        """One request, one connection: llama.cpp closes it after a stream without saying so
        before, and a request sent on it just then would be lost."""
        connection.reply = None
        connection.transport.abort()
        self._open_spare_soon(engine_url)

    def _open_spare_soon(self, engine_url: str) -> None:
        if not self._spares:
            task = asyncio.create_task(self._open_spare(engine_url))
            self._spares.add(task)
            task.add_done_callback(self._spares.discard)

    async def _open_spare(self, engine_url: str) -> None:
        await asyncio.sleep(SPARE_DELAY_S)
        ready = self._ready[engine_url]
        ready[:] = [connection for connection in ready if not connection.lost]
        if not ready:
            with contextlib.suppress(EngineError):  # stopped or dead: the next request will see
                ready.append(await connect(engine_url))

    def close(self) -> None:
        for task in self._spares:
            task.cancel()
        for connections in self._ready.values():
            for connection in connections:
                connection.transport.abort()
        self._ready.clear()


class Watch:
    """Fails a reply that stays silent. One timer a reply, not one a piece: pieces are many."""

    def __init__(self, reply: Reply, silence_s: float) -> None:
        self.reply = reply
        self.silence_s = silence_s
        self._timer = asyncio.get_running_loop().call_later(silence_s, self._look)

    def _look(self) -> None:
        left_s = self.reply.heard_s + self.silence_s - time.monotonic()
        if left_s <= 0:
            self.reply.fail(EngineSilent(f"nothing from the engine for {self.silence_s:g} s"))
        else:
            self._timer = asyncio.get_running_loop().call_later(left_s, self._look)

    def stop(self) -> None:
        self._timer.cancel()


async def connect(engine_url: str) -> Connection:
    parts = urlsplit(engine_url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    loop = asyncio.get_running_loop()
    try:
        _, connection = await loop.create_connection(Connection, host, port)
    except OSError as error:
        raise EngineError(f"cannot reach the engine: {error.strerror}") from None
    return connection
