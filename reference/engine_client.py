"""The gateways' HTTP/1.1 client for their engines. It passes bytes on as they arrive.

aiohttp's own client needs 1 ms of CPU for each request. That is as much as the whole error that
a measured time to first token may have here. This client needs 0.1 ms, and it can do only what
an engine on loopback needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

# llama.cpp's server closes a silent connection after 5 s. An older one is not used.
SPARE_LIFE_S = 3.0
# Soon after a request a connection is opened for the next one, so that it does not have to
# wait for the connecting (0.5 ms).
SPARE_DELAY_S = 0.02
# When a client reads slower than the engine writes, this much is kept before reading pauses.
HIGH_WATER_BYTES = 256 * 2**10
MAX_HEAD_BYTES = 64 * 2**10


class EngineError(Exception):
    """The engine cannot be reached, ended its answer too early, or does not speak HTTP."""


class EngineSilent(EngineError):
    """The engine sent nothing for too long."""


class Reply:
    """One answer of an engine. Iterating over it gives the body's pieces, without chunk sizes."""

    def __init__(self) -> None:
        self.status = 0  # until the head has arrived
        self.headers: dict[str, str] = {}  # names in lower case
        self.complete = False
        self.last_data_s = time.monotonic()
        self.transport: asyncio.Transport | None = None
        self._head = b""
        self._pieces: deque[bytes] = deque()
        self._unread_bytes = 0
        self._paused = False
        self._error: EngineError | None = None
        self._progress: asyncio.Future[None] | None = None
        self._chunked = False
        # Body bytes still to come. None: the body ends with the connection.
        self._bytes_left: int | None = None
        self._last_chunk = False
        self._framing = b""  # the unfinished line between two chunks

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "application/json")

    # --- for who reads the answer

    async def head(self) -> None:
        while not self.status:
            await self._wait_for_progress()

    async def read(self) -> bytes:
        return b"".join([piece async for piece in self])

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while not self._pieces:
            if self.complete:
                raise StopAsyncIteration
            await self._wait_for_progress()
        piece = self._pieces.popleft()
        self._unread_bytes -= len(piece)
        if self._paused and not self._pieces and self.transport is not None:
            self._paused = False
            self.transport.resume_reading()
        return piece

    async def _wait_for_progress(self) -> None:
        if self._error is not None:
            raise self._error
        self._progress = asyncio.get_running_loop().create_future()
        await self._progress

    # --- for the connection that receives it

    def fail(self, error: EngineError) -> None:
        self._error = error
        self._notify_reader()

    def feed(self, data: bytes) -> None:
        self.last_data_s = time.monotonic()
        try:
            self._feed_body(data if self.status else self._feed_head(data))
        except ValueError as error:
            self.fail(EngineError(f"the engine's answer is malformed: {error}"))
        self._notify_reader()

    def feed_end(self) -> None:
        """The connection ended. For a body without framing this is the regular end."""
        if self.status and self._bytes_left is None and not self._chunked:
            self.complete = True
        elif not self.complete:
            self._error = self._error or EngineError("the engine closed the connection")
        self._notify_reader()

    def _notify_reader(self) -> None:
        if self._progress is not None and not self._progress.done():
            self._progress.set_result(None)

    def _feed_head(self, data: bytes) -> bytes:
        """Add bytes to the head. Returns what follows the head: the beginning of the body."""
        head, blank_line, rest = (self._head + data).partition(b"\r\n\r\n")
        if not blank_line:
            if len(head) > MAX_HEAD_BYTES:
                raise ValueError("the head is too long")
            self._head = head
            return b""
        status_line, *lines = head.decode("latin-1").split("\r\n")
        for line in lines:
            name, _, value = line.partition(":")
            self.headers[name.lower()] = value.strip()
        self._chunked = self.headers.get("transfer-encoding", "").lower() == "chunked"
        length = self.headers.get("content-length")
        self._bytes_left = 0 if self._chunked else int(length) if length is not None else None
        self.status = int(status_line.split(" ")[1])
        return rest

    def _feed_body(self, data: bytes) -> None:
        if not self.status or self.complete:
            return
        if self._chunked:
            self._feed_chunks(data)
        else:
            self._add_to_body(data)
            self.complete = self._bytes_left == 0

    def _feed_chunks(self, data: bytes) -> None:
        while data and not self.complete:
            if self._bytes_left:
                data = self._add_to_body(data)
            elif self._last_chunk:
                # Trailers are skipped, up to the empty line that ends them.
                self._framing += data
                self.complete = self._framing == b"\r\n" or self._framing.endswith(b"\r\n\r\n")
                return
            else:
                data = self._feed_chunk_size(data)

    def _feed_chunk_size(self, data: bytes) -> bytes:
        """Read the line end after one chunk and the size of the next one. Returns the rest."""
        line, line_end, rest = (self._framing + data).lstrip(b"\r\n").partition(b"\r\n")
        if not line_end:
            self._framing += data
            return b""
        self._framing = b""
        self._bytes_left = int(line.partition(b";")[0], 16)
        self._last_chunk = self._bytes_left == 0
        return rest

    def _add_to_body(self, data: bytes) -> bytes:
        """Add what belongs to the body, or to this chunk. Returns the rest."""
        piece = data if self._bytes_left is None else data[: self._bytes_left]
        if piece:
            self._pieces.append(piece)
            self._unread_bytes += len(piece)
        if self._bytes_left is not None:
            self._bytes_left -= len(piece)
        if self._unread_bytes > HIGH_WATER_BYTES and self.transport and not self._paused:
            self._paused = True
            self.transport.pause_reading()
        return data[len(piece) :]


async def events(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The events of an engine's stream, each including the blank line that ends it."""
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
        self.closed = False
        self.opened_s = time.monotonic()

    @property
    def usable(self) -> bool:
        """Whether the engine has not closed it and will not close it soon."""
        return not self.closed and time.monotonic() - self.opened_s < SPARE_LIFE_S

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.reply is None:
            self.transport.abort()  # it answers although nothing was asked
        else:
            self.reply.feed(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self.reply is not None:
            self.reply.feed_end()

    def send(self, request: bytes) -> Reply:
        self.reply = Reply()
        self.reply.transport = self.transport
        self.transport.write(request)
        return self.reply


class Client:
    """Sends requests to engines, each over a connection of its own."""

    def __init__(self, silence_timeout_s: float) -> None:
        self.silence_timeout_s = silence_timeout_s  # 0: no limit
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
        """An answer whose head has arrived. Leaving the block early makes the engine stop.

        Raises EngineSilent after `timeout_s` (default: the client's own limit) without a byte.
        Raises EngineError when the engine cannot be reached or ends its answer too early. Both
        can also be raised while the body is read.
        """
        head = f"{method} {path} HTTP/1.1\r\nHost: {engine_url[7:]}\r\n"
        if body:
            head += f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        message = f"{head}\r\n".encode("latin-1", "replace") + body
        connection, reply = await self._send(engine_url, message)
        silence_s = self.silence_timeout_s if timeout_s is None else timeout_s
        watch = SilenceWatch(reply, silence_s) if silence_s else None
        try:
            await reply.head()
            yield reply
        finally:
            if watch is not None:
                watch.stop()
            self._discard(engine_url, connection)

    async def _send(self, engine_url: str, message: bytes) -> tuple[Connection, Reply]:
        """Send on the spare connection if it is usable, else on a new one."""
        ready = self._ready[engine_url]
        while ready:
            connection = ready.pop()
            if connection.usable:
                return connection, connection.send(message)
            connection.transport.abort()
        connection = await connect(engine_url)
        return connection, connection.send(message)

    def _discard(self, engine_url: str, connection: Connection) -> None:
        """Close it: one connection for one request. llama.cpp closes a connection after a stream
        without announcing it, and a request sent at that moment would be lost."""
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
        ready[:] = [connection for connection in ready if not connection.closed]
        if not ready:
            with contextlib.suppress(EngineError):  # it has ended: the next request will report it
                ready.append(await connect(engine_url))

    def close(self) -> None:
        for task in self._spares:
            task.cancel()
        for connections in self._ready.values():
            for connection in connections:
                connection.transport.abort()
        self._ready.clear()


class SilenceWatch:
    """Fails a reply after a time without data. There is one timer for each reply, because one for
    each piece would be too slow."""

    def __init__(self, reply: Reply, silence_s: float) -> None:
        self.reply = reply
        self.silence_s = silence_s
        self._timer = asyncio.get_running_loop().call_later(silence_s, self._check)

    def _check(self) -> None:
        left_s = self.reply.last_data_s + self.silence_s - time.monotonic()
        if left_s <= 0:
            self.reply.fail(EngineSilent(f"nothing from the engine for {self.silence_s:g} s"))
        else:
            self._timer = asyncio.get_running_loop().call_later(left_s, self._check)

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
