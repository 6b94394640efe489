"""The GGUF gateway on loopback. It behaves as the real gateway does, including its quirks.

What the real gateway's documents leave open was decided here:

* `/ping`, `/health` and `/metrics` need no key; everything below `/v1/` does. Only a POST below
  `/v1/` takes a place in the queue and wakes a sleeping engine. `/v1/models` never wakes it:
  while the engine sleeps, the gateway repeats the list from the engine's last start.
* The rate limit counts every request with an accepted key in the last 60 seconds (`rate_window`).
  It does not count those that it refuses.
* A method that a path does not support is a 404, as with llama.cpp.
* A client that shuts down its sending side is treated as gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import math
import secrets
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

from .engine import Engine
from .engine_client import Client, EngineError, EngineSilent, Reply
from .hooks import Hooks, ResetConnection
from .process import Child, StartError, raise_descriptor_limit
from .refusals import JsonRefusal, queue_full
from .server import (
    DONE,
    HOST,
    BaseGateway,
    UnframedStream,
    abort_stream,
    bind,
    listening,
    new_server,
    read_body,
    send_reset_on_close,
    too_long,
)
from .settings import GatewaySettings
from .slots import QueueFull, Slots
from .telemetry import Counters, wants_text

ENGINE_HEALTH_S = 2.0
TOO_LONG = {
    414: ("the URL is too long", "uri_too_long"),
    431: ("a header is too long", "headers_too_large"),
}
CORS_FIXED = {
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, Content-Type",
    "Access-Control-Max-Age": "86400",
}


def invalid(status: int, message: str, code: str) -> JsonRefusal:
    return JsonRefusal(status, message, "invalid_request_error", code)


def rate_limited(settings: GatewaySettings) -> JsonRefusal:
    window_s = settings.rate_window
    window = "minute" if window_s == 60 else f"{window_s:g} s"
    message = f"Rate limit exceeded: {settings.rate_limit} requests per {window}"
    wait_s = math.ceil(window_s)
    return JsonRefusal(429, message, "rate_limit_error", "rate_limit_exceeded", wait_s)


class RateLimit:
    """Allows each key `limit` requests within any `window_s` seconds (limit 0: no limit)."""

    def __init__(self, limit: int, window_s: float) -> None:
        self.limit, self.window_s = limit, window_s
        self._times_s: defaultdict[str, deque[float]] = defaultdict(deque)

    def allows(self, key: str) -> bool:
        """Whether one more request of this key is allowed; if so, it is counted."""
        if not self.limit:
            return True
        now_s, times_s = time.monotonic(), self._times_s[key]
        while times_s and now_s - times_s[0] >= self.window_s:
            times_s.popleft()
        if len(times_s) >= self.limit:
            return False
        times_s.append(now_s)
        return True


class Gateway(BaseGateway):
    """Answers requests as the real gateway does.

    Faults may replace `authorize`, `cors_headers`, `add_headers`, `slots`, `counters`, `engine` and
    `rate_limit`.
    """

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
        self.rate_limit = RateLimit(settings.rate_limit, settings.rate_window)
        self.known_models = b'{"object":"list","data":[]}'
        for change in hooks.setup:
            change(self)
        self._answer_all = hooks.wrap("all", self._answer)
        self._ping = hooks.wrap("ping", self._answer_ping)
        self._health = hooks.wrap("health", self._answer_health)
        self._metrics = hooks.wrap("metrics", self._answer_metrics)
        self._models = hooks.wrap("models", self._answer_models)
        self._inference = hooks.wrap("inference", self._infer)

    # --- every request

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        if status := too_long(request):
            raise invalid(status, *TOO_LONG[status])
        method, path = request.method, request.path
        if method == "OPTIONS":
            return web.Response(status=204)
        if method == "GET" and path in ("/ping", "/health", "/metrics"):
            own = {"/ping": self._ping, "/health": self._health, "/metrics": self._metrics}
            return await own[path](request)
        if path.startswith("/v1/"):
            return await self._api(request)
        raise invalid(404, f"no such endpoint: {method} {path}", "not_found")

    def add_headers(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        response.headers.update(self.cors_headers(request.headers.get("Origin")))
        if self.settings.connection == "close":
            response.force_close()

    def cors_headers(self, origin: str | None) -> dict[str, str]:
        allowed = self.settings.cors_origins
        if origin is None:
            return {}
        if "*" in allowed:
            return {"Access-Control-Allow-Origin": "*", **CORS_FIXED}
        if origin in allowed:
            return {"Access-Control-Allow-Origin": origin, **CORS_FIXED, "Vary": "Origin"}
        return {}

    # --- the gateway's own endpoints

    async def _answer_ping(self, request: web.BaseRequest) -> web.StreamResponse:
        return web.Response()

    async def _answer_health(self, request: web.BaseRequest) -> web.StreamResponse:
        status, code, backend = await self._engine_health()
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

    async def _engine_health(self) -> tuple[str, int, dict[str, Any]]:
        """The engine's own `/health` as (status, HTTP code, body). It does not wake the engine."""
        if self.engine.url is None:
            return "error", 503, {"status": "stopped"}
        ask = self.client.request("GET", self.engine.url, "/health", timeout_s=ENGINE_HEALTH_S)
        try:
            async with ask as answer:
                body = json.loads(await answer.read())
        except EngineSilent:
            return "timeout", 504, {}
        except (EngineError, ValueError):
            return "error", 502, {}
        status = "ok" if answer.status == 200 else "error"
        return status, answer.status, body if isinstance(body, dict) else {}

    async def _answer_metrics(self, request: web.BaseRequest) -> web.StreamResponse:
        accept = request.headers.get("Accept", "")
        if not wants_text(accept):
            return web.json_response({"gateway": self.counters.as_dict()})
        body, content_type = self.counters.as_text(accept)
        return web.Response(body=body, headers={"Content-Type": content_type})

    # --- the API: key, rate limit, queue, engine

    async def _api(self, request: web.BaseRequest) -> web.StreamResponse:
        counters = self.counters
        counters.requests_total += 1
        request["success"] = False
        try:
            self.authorize(request)
            response = await self._endpoint(request)
            request["success"] = response.status < 400
        finally:
            if request["success"]:
                counters.requests_success += 1
            else:
                counters.requests_error += 1
        if isinstance(response, web.Response) and isinstance(response.body, bytes):
            counters.bytes_sent += len(response.body)
        return response

    def authorize(self, request: web.BaseRequest) -> None:
        """Count a request as authenticated or raise the refusal: 401 without a key, 429 above the
        rate limit."""
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
            raise rate_limited(self.settings)

    async def _endpoint(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "GET" and request.path == "/v1/models":
            return await self._models(request)
        if request.method == "POST":
            return await self._inference(request)
        if request.method == "GET" and self.engine.url is not None:
            return await self._relay(request, self.engine.url, b"")
        raise invalid(404, f"no such endpoint: {request.method} {request.path}", "not_found")

    async def learn_models(self, engine_url: str) -> None:
        """Keep the model list of an engine that has just started. Raises StartError without one."""
        try:
            async with self.client.request("GET", engine_url, "/v1/models") as answer:
                self.known_models = await answer.read()
        except EngineError as error:
            raise StartError(f"the engine started but does not answer: {error}") from None

    async def _answer_models(self, request: web.BaseRequest) -> web.StreamResponse:
        if self.engine.url is not None:
            return await self._relay(request, self.engine.url, b"")
        return web.Response(body=self.known_models, content_type="application/json")

    async def _infer(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await self._read_body(request)
        try:
            async with self.slots.place(), self.engine.use() as engine_url:
                return await self._ask_engine(request, engine_url, body)
        except QueueFull:
            raise queue_full() from None
        except StartError:
            message = "The backend did not start in time"
            raise JsonRefusal(504, message, "server_error", 504) from None

    async def _read_body(self, request: web.BaseRequest) -> bytes:
        try:
            return await read_body(request)
        except web.HTTPRequestEntityTooLarge:
            limit = f"the body exceeds {self.settings.max_body_bytes} bytes"
            raise invalid(413, limit, "request_too_large") from None
        except web.RequestPayloadError:
            raise invalid(400, "the body is malformed", "bad_request") from None

    # --- towards the engine

    async def _ask_engine(
        self, request: web.BaseRequest, engine_url: str, body: bytes
    ) -> web.StreamResponse:
        async def relay(request: web.BaseRequest) -> web.StreamResponse:
            await exact_sleep(self.settings.delay_ms / 1e3)
            return await self._relay(request, engine_url, body)

        return await self.hooks.wrap("backend", relay)(request)

    async def _relay(
        self, request: web.BaseRequest, engine_url: str, body: bytes
    ) -> web.StreamResponse:
        """The engine's answer. A stream is passed on as it arrives."""
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
                abort_stream(request)
            if isinstance(error, EngineSilent):
                message = "The backend did not answer in time"
                raise JsonRefusal(504, message, "server_error", 504) from None
            return web.Response(status=502)
        except ResetConnection:
            send_reset_on_close(request)
            abort_stream(request)

    def _new_stream(self, request: web.BaseRequest, content_type: str) -> web.StreamResponse:
        headers = CIMultiDict({"Content-Type": content_type, "Cache-Control": "no-cache"})
        for change in self.hooks.stream_headers:
            change(headers)
        framed_by_close = self.settings.connection == "close" or "Content-Length" in headers
        if framed_by_close or request.version < aiohttp.HttpVersion11:
            response: web.StreamResponse = UnframedStream(headers)
        else:
            response = web.StreamResponse(headers=headers)
        self.add_headers(request, response)
        return response

    async def _pass_on(
        self, request: web.BaseRequest, reply: Reply, stream: web.StreamResponse
    ) -> None:
        """Pass each piece on as soon as it arrives, without reading it: this must be fast."""
        write, counters = stream.write, self.counters
        piece = b""
        try:
            async for piece in self.hooks.filtered(reply):
                await write(piece)
                counters.bytes_sent += len(piece)
        except asyncio.CancelledError:
            # Many clients close the connection after [DONE] and do not wait for its end.
            request["success"] = piece.endswith(DONE)
            raise


async def exact_sleep(seconds: float) -> None:
    """Wait with an error of some 10 µs. The event loop's own timers round up to a millisecond, and
    a process that has slept is slower afterwards, which would add to the delay."""
    due_s = time.perf_counter() + seconds
    while time.perf_counter() < due_s:
        await asyncio.sleep(0)


def malformed(status: int) -> web.Response:
    """The answer to a malformed HTTP request (400) or to an error in this gateway (500)."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    code = "bad_request" if status < 500 else "internal_error"
    text = "malformed HTTP request" if status < 500 else "internal error"
    return JsonRefusal(status, text, kind, code).response()


@contextlib.asynccontextmanager
async def deploy(settings: GatewaySettings, hooks: Hooks) -> AsyncIterator[dict[str, str]]:
    """Run the health server, the engine and the gateway. Gives the variables for the scripts."""
    raise_descriptor_limit()
    keys = settings.api_keys or tuple(f"sk-{secrets.token_hex(24)}" for _ in range(2))
    async with contextlib.AsyncExitStack() as stack:
        sock = stack.enter_context(bind(settings.port))
        arguments = ["--port", str(settings.health_port)]
        health = await Child.start(
            "the health server", "reference.health_server", arguments, settings.start_timeout
        )
        stack.push_async_callback(health.stop)
        client = Client(settings.request_timeout)
        stack.callback(client.close)
        engine = Engine(settings, settings.idle_timeout)
        gateway = Gateway(settings, keys, engine, client, hooks)
        engine.on_start.append(gateway.learn_models)
        await stack.enter_async_context(engine)
        server = new_server(gateway.handle, settings.max_body_bytes, malformed)
        await stack.enter_async_context(listening(server, sock))
        yield {
            "INFERENCE_URL": f"http://{HOST}:{sock.getsockname()[1]}",
            "INFERENCE_API_KEY": keys[0] if settings.auth_enabled else "",
            "HEALTH_URL": health.url,
            "ENGINE_URL": engine.url or "",
            "INFERENCE_OTHER_KEY": keys[1] if settings.auth_enabled and len(keys) > 1 else "",
        }
