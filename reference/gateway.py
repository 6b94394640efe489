"""The GGUF gateway on loopback: what BACKENDS.md tells of the real one, quirks included.

Not in BACKENDS.md, so decided here:

* `/ping`, `/health` and `/metrics` need no key; `/v1/…` does. Only POST requests below `/v1/`
  take a place in the queue and wake a sleeping engine. `/v1/models` never wakes it: while the
  engine sleeps the list it gave when it last started is repeated.
* The rate limit counts every request with an accepted key in the last 60 seconds.
* A method a path does not have is a 404, as with llama.cpp.
* A client that shuts down its sending side counts as gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hmac
import json
import secrets
import socket
import struct
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Sequence
from typing import Any, NoReturn

import aiohttp
from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from multidict import CIMultiDict

from .engine import Engine
from .faults import Fault
from .hooks import Hooks, Reset
from .process import Child, StartError, raise_descriptor_limit
from .settings import GatewaySettings
from .slots import QueueFull, Slots
from .telemetry import Counters, wants_text
from .upstream import Client, EngineError, EngineSilent, Reply

HOST = "127.0.0.1"
BACKLOG = 4096
BACKEND_POLL_S = 2.0
RATE_WINDOW_S = 60.0
RETRY_BUSY_S = 5
MAX_LINE_BYTES = 8190
# What the parser itself accepts: beyond MAX_LINE_BYTES we still can answer properly.
PARSER_LINE_BYTES = 65536
SHUTDOWN_S = 0.2
DONE = b"data: [DONE]\n\n"
CORS_FIXED = {
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, Content-Type",
    "Access-Control-Max-Age": "86400",
}


class Refusal(Exception):
    """An answer other than 2xx that the gateway gives itself, with an OpenAI-shaped body."""

    def __init__(
        self, status: int, message: str, kind: str, code: str | int, retry_after_s: int = 0
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "code": code}}
        self.headers = {"Retry-After": str(retry_after_s)} if retry_after_s else {}

    def response(self) -> web.Response:
        return web.json_response(self.body, status=self.status, headers=self.headers)


def invalid(status: int, message: str, code: str) -> Refusal:
    return Refusal(status, message, "invalid_request_error", code)


def queue_full() -> Refusal:
    message = "Server busy, try again later"
    return Refusal(503, message, "server_error", "queue_full", RETRY_BUSY_S)


class RateLimit:
    """At most `per_minute` requests of a key in any 60 seconds (0: no limit)."""

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._times_s: defaultdict[str, deque[float]] = defaultdict(deque)

    def allows(self, key: str) -> bool:
        """Count a request of this key, unless that is one too many."""
        if not self.per_minute:
            return True
        now_s, times_s = time.monotonic(), self._times_s[key]
        while times_s and now_s - times_s[0] >= RATE_WINDOW_S:
            times_s.popleft()
        if len(times_s) >= self.per_minute:
            return False
        times_s.append(now_s)
        return True


class RawStream(web.StreamResponse):
    """A stream whose end is the end of the connection: neither chunked nor with a length."""

    # aiohttp's own switch for answers that are not framed; it uses it for WebSockets.
    _length_check = False

    def __init__(self, headers: CIMultiDict[str]) -> None:
        super().__init__(headers=headers)
        self.force_close()


class Gateway:
    """Answers requests; `handle` is what an aiohttp server needs."""

    def __init__(
        self,
        settings: GatewaySettings,
        keys: Sequence[str],
        engine: Engine,
        client: Client,
        hooks: Hooks,
    ) -> None:
        self.settings = settings
        self.keys = [key.encode() for key in keys]
        self.engine = engine
        self.client = client
        self.hooks = hooks
        self.slots = Slots(
            settings.max_concurrent_requests or settings.slots, settings.max_queue_size
        )
        self.counters = Counters(self.slots)
        self.rate_limit = RateLimit(settings.rate_limit)
        self.known_models = b'{"object":"list","data":[]}'
        for change in hooks.setup:
            change(self)
        self._answer_all = hooks.wrap("all", self._answer)
        self._ping = hooks.wrap("ping", self._say_ping)
        self._health = hooks.wrap("health", self._say_health)
        self._metrics = hooks.wrap("metrics", self._say_metrics)
        self._models = hooks.wrap("models", self._say_models)
        self._inference = hooks.wrap("inference", self._infer)

    # --- every request

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        return await self._answer_all(request)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            response = await self._route(request)
        except Refusal as refusal:
            response = refusal.response()
        if not response.prepared:
            self._dress(request, response)
        return response

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        check_lengths(request)
        method, path = request.method, request.path
        if method == "OPTIONS":
            return web.Response(status=204)
        if method == "GET" and path in ("/ping", "/health", "/metrics"):
            own = {"/ping": self._ping, "/health": self._health, "/metrics": self._metrics}
            return await own[path](request)
        if path.startswith("/v1/"):
            return await self._api(request)
        raise invalid(404, f"no such endpoint: {method} {path}", "not_found")

    def _dress(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Add what every answer carries, before its headers are sent."""
        response.headers.update(self._cors(request.headers.get("Origin")))
        if self.settings.connection == "close":
            response.force_close()

    def _cors(self, origin: str | None) -> dict[str, str]:
        allowed = self.settings.cors_origins
        if origin is None:
            return {}
        if "*" in allowed:
            return {"Access-Control-Allow-Origin": "*", **CORS_FIXED}
        if origin in allowed:
            return {"Access-Control-Allow-Origin": origin, **CORS_FIXED, "Vary": "Origin"}
        return {}

    # --- the gateway's own endpoints

    async def _say_ping(self, request: web.BaseRequest) -> web.StreamResponse:
        return web.Response()

    async def _say_health(self, request: web.BaseRequest) -> web.StreamResponse:
        status, code, backend = await self._ask_backend()
        queue = {
            "max_concurrent": self.slots.max_active,
            "max_queue_size": self.slots.max_waiting,
            "active": self.slots.active,
            "waiting": self.slots.waiting,
        }
        body = {
            "status": status,
            "code": code,
            "backend": backend,
            "gateway": {"metrics": self.counters.as_dict()},
            "queue": queue,
            "authentication": {"enabled": self.settings.auth_enabled},
        }
        return web.json_response(body)

    async def _ask_backend(self) -> tuple[str, int, dict[str, Any]]:
        """The engine's own health as (status, HTTP code, body), without waking it."""
        if self.engine.url is None:
            return "error", 503, {"status": "stopped"}
        ask = self.client.request("GET", self.engine.url, "/health", timeout_s=BACKEND_POLL_S)
        try:
            async with ask as answer:
                body = json.loads(await answer.read())
        except EngineSilent:
            return "timeout", 504, {}
        except (EngineError, ValueError):
            return "error", 502, {}
        status = "ok" if answer.status == 200 else "error"
        return status, answer.status, body if isinstance(body, dict) else {}

    async def _say_metrics(self, request: web.BaseRequest) -> web.StreamResponse:
        accept = request.headers.get("Accept", "")
        if not wants_text(accept):
            return web.json_response({"gateway": self.counters.as_dict()})
        body, content_type = self.counters.as_text(accept)
        return web.Response(body=body, headers={"Content-Type": content_type})

    # --- the API: key, rate limit, queue, engine

    async def _api(self, request: web.BaseRequest) -> web.StreamResponse:
        counters = self.counters
        counters.requests_total += 1
        request["good"] = False
        try:
            self._authorize(request)
            response = await self._endpoint(request)
            request["good"] = response.status < 400
        finally:
            if request["good"]:
                counters.requests_success += 1
            else:
                counters.requests_error += 1
        if isinstance(response, web.Response) and isinstance(response.body, bytes):
            counters.bytes_sent += len(response.body)
        return response

    def _authorize(self, request: web.BaseRequest) -> None:
        if not self.settings.auth_enabled:
            return
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        sent = key.strip().encode("utf-8", "surrogateescape")
        known = [hmac.compare_digest(sent, accepted) for accepted in self.keys]
        if scheme.lower() != "bearer" or not any(known):
            self.counters.requests_unauthorized += 1
            raise invalid(401, "Invalid or missing API key", "invalid_api_key")
        self.counters.requests_authenticated += 1
        if not self.rate_limit.allows(key.strip()):
            limit = f"{self.settings.rate_limit} requests per minute"
            message = f"Rate limit exceeded: {limit}"
            wait_s = int(RATE_WINDOW_S)
            raise Refusal(429, message, "rate_limit_error", "rate_limit_exceeded", wait_s)

    async def _endpoint(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "GET" and request.path == "/v1/models":
            return await self._models(request)
        if request.method == "POST":
            return await self._inference(request)
        if request.method == "GET" and self.engine.url is not None:
            return await self._relay(request, self.engine.url, b"")
        raise invalid(404, f"no such endpoint: {request.method} {request.path}", "not_found")

    async def learn_models(self, engine_url: str) -> None:
        """Remember the model list of an engine that just started; proves that it answers."""
        try:
            async with self.client.request("GET", engine_url, "/v1/models") as answer:
                self.known_models = await answer.read()
        except EngineError as error:
            raise StartError(f"the engine started but does not answer: {error}") from None

    async def _say_models(self, request: web.BaseRequest) -> web.StreamResponse:
        if self.engine.url is not None:
            return await self._relay(request, self.engine.url, b"")
        return web.Response(body=self.known_models, content_type="application/json")

    async def _infer(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await self._read_body(request)
        try:
            async with self.slots.place(), self.engine.use() as engine_url:
                return await self._backend(request, engine_url, body)
        except QueueFull:
            raise queue_full() from None
        except StartError:
            message = "The backend did not start in time"
            raise Refusal(504, message, "server_error", 504) from None

    async def _read_body(self, request: web.BaseRequest) -> bytes:
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        try:
            return await request.read()
        except web.HTTPRequestEntityTooLarge:
            limit = f"the body exceeds {self.settings.max_body_bytes} bytes"
            raise invalid(413, limit, "request_too_large") from None
        except web.RequestPayloadError:
            raise invalid(400, "the body is malformed", "bad_request") from None

    # --- towards the engine

    async def _backend(
        self, request: web.BaseRequest, engine_url: str, body: bytes
    ) -> web.StreamResponse:
        async def relay(request: web.BaseRequest) -> web.StreamResponse:
            return await self._relay(request, engine_url, body)

        return await self.hooks.wrap("backend", relay)(request)

    async def _relay(
        self, request: web.BaseRequest, engine_url: str, body: bytes
    ) -> web.StreamResponse:
        """The engine's answer: passed through as it comes when it is a stream."""
        content_type = request.headers.get("Content-Type", "application/json")
        ask = self.client.request(request.method, engine_url, request.path_qs, body, content_type)
        stream: web.StreamResponse | None = None
        try:
            async with ask as reply:
                if not reply.content_type.startswith("text/event-stream"):
                    headers = {"Content-Type": reply.content_type}
                    whole = await reply.read()
                    return web.Response(status=reply.status, body=whole, headers=headers)
                stream = self._new_stream(request, reply.content_type)
                await stream.prepare(request)
                await self._pass_on(request, reply, stream)
                return stream
        except EngineError as error:
            if stream is not None:
                break_off(request)
            if isinstance(error, EngineSilent):
                message = "The backend did not answer in time"
                raise Refusal(504, message, "server_error", 504) from None
            return web.Response(status=502)
        except Reset:
            send_reset_on_close(request)
            break_off(request)

    def _new_stream(self, request: web.BaseRequest, content_type: str) -> web.StreamResponse:
        headers = CIMultiDict({"Content-Type": content_type, "Cache-Control": "no-cache"})
        for change in self.hooks.head:
            change(headers)
        framed_by_close = self.settings.connection == "close" or "Content-Length" in headers
        if framed_by_close or request.version < aiohttp.HttpVersion11:
            response: web.StreamResponse = RawStream(headers)
        else:
            response = web.StreamResponse(headers=headers)
        self._dress(request, response)
        return response

    async def _pass_on(
        self, request: web.BaseRequest, reply: Reply, stream: web.StreamResponse
    ) -> None:
        """The hot path: each piece goes out in the moment it came in, unread."""
        write, counters = stream.write, self.counters
        piece = b""
        try:
            async for piece in self.hooks.filtered(reply):
                await write(piece)
                counters.bytes_sent += len(piece)
        except asyncio.CancelledError:
            # Many clients hang up at [DONE] rather than wait for the connection's end.
            request["good"] = piece.endswith(DONE)
            raise


def check_lengths(request: web.BaseRequest) -> None:
    if len(request.path_qs) > MAX_LINE_BYTES:
        raise invalid(414, "the URL is too long", "uri_too_long")
    if any(len(value) > MAX_LINE_BYTES for value in request.headers.values()):
        raise invalid(431, "a header is too long", "headers_too_large")


def break_off(request: web.BaseRequest) -> NoReturn:
    """End a stream that cannot go on, so that it does not look complete."""
    if request.transport is not None:
        request.transport.abort()
    raise ConnectionResetError("stream broken off")


def send_reset_on_close(request: web.BaseRequest) -> None:
    """Make the kernel close this connection with RST instead of FIN."""
    transport = request.transport
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


# --- the server


class Connection(RequestHandler):
    """aiohttp's connection, with an OpenAI-shaped body for what is not even HTTP."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        super().handle_error(request, status, exc, message)  # logs what is our own mistake
        kind = "invalid_request_error" if status < 500 else "server_error"
        code = "bad_request" if status < 500 else "internal_error"
        text = "malformed HTTP request" if status < 500 else "internal error"
        response = Refusal(status, text, kind, code).response()
        response.force_close()
        return response


class Server(web.Server):
    def __call__(self) -> RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)


def new_server(gateway: Gateway) -> Server:
    max_body_bytes = gateway.settings.max_body_bytes

    def new_request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> Any:
        loop = asyncio.get_running_loop()
        return web.BaseRequest(
            message, payload, protocol, writer, task, loop, client_max_size=max_body_bytes
        )

    return Server(
        gateway.handle,
        request_factory=new_request,
        # A client that leaves cancels its handler: that frees its place and ends the
        # engine's work for it, wherever the handler waits.
        handler_cancellation=True,
        access_log=None,
        max_line_size=PARSER_LINE_BYTES,
        max_field_size=PARSER_LINE_BYTES,
    )


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
async def deploy(
    settings: GatewaySettings, faults: Sequence[Fault]
) -> AsyncIterator[dict[str, str]]:
    """Health server, engine and gateway; gives the environment variables that lead to them."""
    raise_descriptor_limit()
    keys = settings.api_keys or (f"sk-{secrets.token_hex(24)}",)
    hooks = Hooks()
    for fault in faults:
        fault.install(hooks)
    async with contextlib.AsyncExitStack() as stack:
        sock = stack.enter_context(bind(settings.port))
        arguments = ["--port", str(settings.health_port)]
        health = await Child.start(
            "the health server", "reference.health", arguments, settings.start_timeout
        )
        stack.push_async_callback(health.stop)
        client = Client(settings.request_timeout)
        stack.callback(client.close)
        engine = Engine(settings, settings.idle_timeout)
        gateway = Gateway(settings, keys, engine, client, hooks)
        engine.on_start.append(gateway.learn_models)
        await stack.enter_async_context(engine)
        runner = web.ServerRunner(new_server(gateway), shutdown_timeout=SHUTDOWN_S)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await listen(runner, sock)
        yield {
            "INFERENCE_URL": f"http://{HOST}:{sock.getsockname()[1]}",
            "INFERENCE_API_KEY": keys[0] if settings.auth_enabled else "",
            "HEALTH_URL": health.url,
            "ENGINE_URL": engine.url or "",
        }


async def listen(runner: web.ServerRunner, sock: socket.socket) -> None:
    try:
        await web.SockSite(runner, sock, backlog=BACKLOG).start()
    except OSError as error:
        port = sock.getsockname()[1]
        raise StartError(f"port {port}: {error.strerror}, choose another with --port") from None
