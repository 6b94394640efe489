"""What both gateways are built on: an aiohttp server on loopback, and how a stream is ended."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any, NoReturn

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from multidict import CIMultiDict

from .hooks import Answer
from .process import StartError

HOST = "127.0.0.1"
BACKLOG = 4096
MAX_LINE_BYTES = 8190
# What the parser itself accepts: beyond MAX_LINE_BYTES we still can answer properly.
PARSER_LINE_BYTES = 65536
SHUTDOWN_S = 0.2
DONE = b"data: [DONE]\n\n"

# The answer to what is not even HTTP (400), and to a mistake of our own (500).
ErrorAnswer = Callable[[int], web.Response]


class RawStream(web.StreamResponse):
    """A stream whose end is the end of the connection: neither chunked nor with a length."""

    # aiohttp's own switch for answers that are not framed; it uses it for WebSockets.
    _length_check = False

    def __init__(self, headers: CIMultiDict[str]) -> None:
        super().__init__(headers=headers)
        self.force_close()


class Refused(Exception):
    """An answer other than 2xx that a gateway gives itself; each has its own form for it."""

    def response(self) -> web.Response:
        raise NotImplementedError


class Site:
    """What becomes of every request to a gateway; `handle` is what an aiohttp server needs."""

    _answer_all: Answer  # `_answer`, with what faults have put around it

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        return await self._answer_all(request)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            response = await self._route(request)
        except Refused as refusal:
            response = refusal.response()
        if not response.prepared:
            self._dress(request, response)
        return response

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        raise NotImplementedError

    def _dress(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Add what every answer carries, before its headers are sent."""
        raise NotImplementedError


def too_long(request: web.BaseRequest) -> int | None:
    """The status to refuse an over-long URL or header with, None when none is."""
    if len(request.path_qs) > MAX_LINE_BYTES:
        return 414
    if any(len(value) > MAX_LINE_BYTES for value in request.headers.values()):
        return 431
    return None


class BrokenOff(ConnectionResetError):
    """A stream was ended on purpose, before its end."""


async def read_body(request: web.BaseRequest) -> bytes:
    """The body, asked for where the client waits; aiohttp's exceptions for a bad one."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    return await request.read()


def break_off(request: web.BaseRequest) -> NoReturn:
    """End a stream that cannot go on, so that it does not look complete."""
    if request.transport is not None:
        request.transport.abort()
    raise BrokenOff


def send_reset_on_close(request: web.BaseRequest) -> None:
    """Make the kernel close this connection with RST instead of FIN."""
    transport = request.transport
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


# --- the server


class Connection(RequestHandler):
    """aiohttp's connection, with the gateway's own answer to what is not even HTTP."""

    error_answer: ErrorAnswer

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        gone = request.transport is None or request.transport.is_closing()
        if gone and isinstance(exc, ConnectionError):
            raise exc  # nobody is left to answer, and it is no mistake of ours: not worth a log
        super().handle_error(request, status, exc, message)  # logs what is our own mistake
        response = self.error_answer(status)
        response.force_close()
        return response


class Server(web.Server):
    error_answer: ErrorAnswer

    def __call__(self) -> RequestHandler:
        connection = Connection(self, loop=self._loop, **self._kwargs)
        connection.error_answer = self.error_answer
        return connection


def new_server(handle: Answer, max_body_bytes: int, error_answer: ErrorAnswer) -> Server:
    def new_request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> Any:
        loop = asyncio.get_running_loop()
        return web.BaseRequest(
            message, payload, protocol, writer, task, loop, client_max_size=max_body_bytes
        )

    server = Server(
        handle,
        request_factory=new_request,
        # A client that leaves cancels its handler: that frees its place and ends the
        # engine's work for it, wherever the handler waits.
        handler_cancellation=True,
        access_log=None,
        max_line_size=PARSER_LINE_BYTES,
        max_field_size=PARSER_LINE_BYTES,
    )
    server.error_answer = error_answer
    return server


def bind(port: int) -> socket.socket:
    """A bound socket that does not listen yet; StartError says what is wrong with the port."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if hasattr(socket, "SO_REUSEADDR"):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((HOST, port))
    except OSError as error:
        sock.close()
        reason = "in use" if error.errno == errno.EADDRINUSE else error.strerror
        raise StartError(f"port {port}: {reason}, choose another with --port") from None
    return sock


@contextlib.asynccontextmanager
async def listening(server: Server, sock: socket.socket) -> AsyncIterator[None]:
    """Serve on this socket."""
    runner = web.ServerRunner(server, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    try:
        await listen(runner, sock)
        yield
    finally:
        await runner.cleanup()


async def listen(runner: web.ServerRunner, sock: socket.socket) -> None:
    try:
        await web.SockSite(runner, sock, backlog=BACKLOG).start()
    except OSError as error:
        port = sock.getsockname()[1]
        raise StartError(f"port {port}: {error.strerror}, choose another with --port") from None
