"""What both gateways are built on: an aiohttp server on loopback, and ways to end a stream."""

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

from .hooks import Handler
from .process import StartError
from .refusals import Refused

HOST = "127.0.0.1"
BACKLOG = 4096
MAX_LINE_BYTES = 8190
# The limit of aiohttp's parser. It is higher, so that a line above MAX_LINE_BYTES still gets a
# proper answer from the gateway.
PARSER_LINE_BYTES = 65536
SHUTDOWN_S = 0.2
DONE = b"data: [DONE]\n\n"

# Makes the answer to a malformed HTTP request (400) or to an error in the gateway itself (500).
ErrorAnswer = Callable[[int], web.Response]


class UnframedStream(web.StreamResponse):
    """A stream that ends with the connection: it has neither chunks nor a length."""

    # aiohttp's own switch for answers without framing. It uses it for WebSockets.
    _length_check = False

    def __init__(self, headers: CIMultiDict[str]) -> None:
        super().__init__(headers=headers)
        self.force_close()


class BaseGateway:
    """The way of every request through a gateway. An aiohttp server calls `handle`."""

    _answer_all: Handler  # `_answer`, inside the wrappers of the planted faults

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        return await self._answer_all(request)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            response = await self._route(request)
        except Refused as refusal:
            response = refusal.response()
        if not response.prepared:
            self.add_headers(request, response)
        return response

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        raise NotImplementedError

    def add_headers(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Add the headers that every answer has. Called before the headers are sent."""
        raise NotImplementedError


def too_long(request: web.BaseRequest) -> int | None:
    """414 for a URL that is too long, 431 for a header that is too long, else None."""
    if len(request.path_qs) > MAX_LINE_BYTES:
        return 414
    if any(len(value) > MAX_LINE_BYTES for value in request.headers.values()):
        return 431
    return None


class StreamAborted(ConnectionResetError):
    """A gateway ended a stream on purpose before it was complete."""


async def read_body(request: web.BaseRequest) -> bytes:
    """The body of a request. Raises aiohttp's exceptions when it is malformed or too long.

    A client that sent `Expect: 100-continue` is told to go on first (RFC 9110 10.1.1).
    """
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    return await request.read()


def abort_stream(request: web.BaseRequest) -> NoReturn:
    """End a stream that cannot go on, in a way that does not look complete to the client."""
    if request.transport is not None:
        request.transport.abort()
    raise StreamAborted


def send_reset_on_close(request: web.BaseRequest) -> None:
    """Make the kernel close this connection with RST instead of FIN."""
    transport = request.transport
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


# --- the server


class Connection(RequestHandler):
    """aiohttp's connection, with the gateway's own answer to a malformed HTTP request."""

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
            raise exc  # the client has left, which is not an error: it is not logged
        super().handle_error(request, status, exc, message)  # logs errors of the gateway
        response = self.error_answer(status)
        response.force_close()
        return response


class Server(web.Server):
    error_answer: ErrorAnswer

    def __call__(self) -> RequestHandler:
        connection = Connection(self, loop=self._loop, **self._kwargs)
        connection.error_answer = self.error_answer
        return connection


def new_server(handle: Handler, max_body_bytes: int, error_answer: ErrorAnswer) -> Server:
    def new_request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> Any:
        loop = asyncio.get_running_loop()
        return web.BaseRequest(
            message, payload, protocol, writer, task, loop, client_max_size=max_body_bytes
        )

    server = Server(
        handle,
        request_factory=new_request,
        # When a client leaves, its handler is cancelled wherever it waits. This frees the
        # place of the request and ends the engine's work for it.
        handler_cancellation=True,
        access_log=None,
        max_line_size=PARSER_LINE_BYTES,
        max_field_size=PARSER_LINE_BYTES,
    )
    server.error_answer = error_answer
    return server


def bind(port: int) -> socket.socket:
    """A bound socket that does not listen yet. Raises StartError when the port is not available."""
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
    """Serve on this socket for as long as the block runs."""
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
