"""A proxy in front of a deployment, behind which one endpoint is sick and all others are sound.

with SickFront(deployment.url, "/ping", "silent") as front:
    run_script("test_queue.py", "--url", front.url)
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable

SLOW_S = 2.5  # longer than a platform waits for a probe
PIECE = b"x" * 65536


async def silent(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


async def closing(writer: asyncio.StreamWriter) -> None:
    """Close the connection without a byte."""


async def garbage(writer: asyncio.StreamWriter) -> None:
    writer.write(b"\x00\xff\x1b[31m this is no HTTP\r\n\r\n" * 50)
    await writer.drain()


async def not_json(writer: asyncio.StreamWriter) -> None:
    body = b"a{" * 20_000 + b"[" * 20_000
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    await writer.drain()


async def flooding(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
    while True:
        writer.write(PIECE)
        await writer.drain()


async def dripping(writer: asyncio.StreamWriter) -> None:
    """A byte now and then, without end."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
    while True:
        writer.write(b"#")
        await writer.drain()
        await asyncio.sleep(0.2)


SICK: dict[str, Callable[[asyncio.StreamWriter], Awaitable[None]] | None] = {
    "silent": silent,
    "closing": closing,
    "garbage": garbage,
    "not_json": not_json,
    "flooding": flooding,
    "dripping": dripping,
    "slow": None,  # the deployment's own answer, SLOW_S later
}


class SickFront:
    """Listens on loopback. Requests for `path` are answered as `how` says, all others are passed to
    the deployment at `url`, each over a connection of its own."""

    def __init__(self, url: str, path: str, how: str):
        self._port, self._path, self._how = int(url.rsplit(":", 1)[1]), path.encode(), how
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> SickFront:
        self._thread.start()
        start = asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=512)
        self._server = asyncio.run_coroutine_threadsafe(start, self._loop).result(20)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)

    async def _end(self) -> None:
        self._server.close()
        others = [each for each in asyncio.all_tasks() if each is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = await reader.readuntil(b"\r\n\r\n")
            if head.split(b" ", 2)[1] != self._path:
                await self._pass(head, reader, writer)
            elif sickness := SICK[self._how]:
                await sickness(writer)
            else:
                await asyncio.sleep(SLOW_S)
                await self._pass(head, reader, writer)
        writer.close()

    async def _pass(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        lines = [x for x in head.split(b"\r\n") if not x.lower().startswith(b"connection:")]
        lines[1:1] = [b"Connection: close"]
        inner, outer = await asyncio.open_connection("127.0.0.1", self._port)
        outer.write(b"\r\n".join(lines))
        tasks = [asyncio.create_task(pump(reader, outer)), asyncio.create_task(pump(inner, writer))]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        outer.close()


async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Pass everything on, until the source has ended or one side is gone."""
    with contextlib.suppress(OSError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
