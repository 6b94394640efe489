"""The fleet's gateway on loopback. It behaves as the real one does, including its quirks.

What the real gateway's documents leave open was decided here:

* A runner offers two models, a small one and a big one. They are two names for the same file, so
  that each runner can serve each class. The setting `models` gives another layout.
* The user whose `sub` is "disabled" is locked out.
* The request log contains each chat request of an accepted user once it has ended. Its `status`
  is the HTTP status, or 499 for a client that left, or 502 for a stream that was cut off.
* When an engine refuses a request, its message is passed on as plain text with its status.
* A client that shuts down its sending side is treated as gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import re
import shlex
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

from . import magic_packet, tokens
from .engine_client import Client, EngineError, Reply, events
from .fleet_registry import Registry, Runner, WakeFailed, Waker, utc_now
from .fleet_routing import Place, Router
from .hooks import Handler, Hooks, ResetConnection
from .process import ROOT, Child, raise_descriptor_limit
from .refusals import TextRefusal
from .request_log import RequestLog
from .server import (
    HOST,
    BaseGateway,
    StreamAborted,
    UnframedStream,
    abort_stream,
    bind,
    listening,
    new_server,
    read_body,
    send_reset_on_close,
    too_long,
)
from .settings import EngineSettings, FleetSettings
from .token_verifier import Denied, User, Verifier

VERSION = "0.1.0"
CHAT = "/v1/chat/completions"
DEFAULT_MODEL = "class:fast"
MODELS = ("smollm2:135m", "smollm2:135m-big")
NAMES = ("desk", "tower")
MACHINE_TYPES = ("desktop", "gpu")
PER_PAGE = 50
MAX_PER_PAGE = 100
# Statuses in the request log that the client never saw.
CLIENT_LEFT = 499
STREAM_ABORTED = 502
TOO_LONG = {414: "The URL is too long", 431: "A header is too long"}
MODEL_FIELD = re.compile(rb'("model"\s*:\s*)"(?:[^"\\]|\\.)*"')
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Vary": "origin, access-control-request-method, access-control-request-headers",
}
PREFLIGHT = {"Access-Control-Allow-Methods": "*", "Access-Control-Allow-Headers": "*"}
SPECIFIC_DENIED = "Permission denied: cannot request specific models. Use class:fast or class:big."


def malformed(status: int) -> web.Response:
    """The answer to a malformed HTTP request (400) or to an error in this gateway (500)."""
    return web.Response(
        status=status, text="malformed HTTP request" if status < 500 else "internal error"
    )


class Fleet(BaseGateway):
    """Answers requests as the real backend does.

    Faults may replace the methods whose names do not begin with an underscore.
    """

    def __init__(
        self,
        settings: FleetSettings,
        verifier: Verifier,
        router: Router,
        client: Client,
        hooks: Hooks,
    ) -> None:
        self.settings = settings
        self.verifier = verifier
        self.router = router
        self.registry = router.registry
        self.waker = router.waker
        self.client = client
        self.hooks = hooks
        self.log = RequestLog()
        for change in hooks.setup:
            change(self)
        self._answer_all = hooks.wrap("all", self._answer)
        self.endpoints: dict[str, dict[str, Handler]] = {
            "/health": {"GET": hooks.wrap("health", self._answer_health)},
            "/metrics": {"GET": hooks.wrap("metrics", self._answer_metrics)},
            "/v1/models": {"GET": hooks.wrap("models", self._answer_models)},
            "/.well-known/jwks.json": {"GET": hooks.wrap("jwks", self._answer_jwks)},
            "/admin/runners": {"GET": hooks.wrap("runners", self._answer_runners)},
            "/admin/api/requests": {"GET": hooks.wrap("requests", self._answer_requests)},
            CHAT: {"POST": hooks.wrap("inference", self._infer)},
        }

    # --- every request

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        if status := too_long(request):
            raise TextRefusal(status, TOO_LONG[status])
        if request.method == "OPTIONS":
            return web.Response(headers=PREFLIGHT)
        methods = self.endpoints.get(request.path)
        if methods is None:
            raise TextRefusal(404, "Not found")
        handler = methods.get("GET" if request.method == "HEAD" else request.method)
        if handler is None:
            raise TextRefusal(405, "Method not allowed")
        return await handler(request)

    def add_headers(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        response.headers.update(CORS)

    # --- users and what they may do

    def user(self, request: web.BaseRequest) -> User:
        """Who sent this request. TextRefusal: 401 without a valid token, 403 if locked out."""
        sent = request.headers.getall("Authorization", [])
        if len(sent) > 1:
            raise TextRefusal(400, "More than one authorization header")
        try:
            return self.verifier.user(sent[0] if sent else None, request.query)
        except Denied as denied:
            raise TextRefusal(denied.status, str(denied)) from None

    def may_ask_specific(self, user: User) -> bool:
        return tokens.SPECIFIC in user.roles

    def may_administer(self, user: User) -> bool:
        return tokens.ADMIN in user.roles

    def check_admin(self, request: web.BaseRequest) -> None:
        """Raises TextRefusal unless the request comes from an administrator."""
        if not self.may_administer(self.user(request)):
            raise TextRefusal(403, "Admin access required")

    # --- the gateway's own endpoints

    async def _answer_health(self, request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({"status": "ok", "version": VERSION})

    async def _answer_metrics(self, request: web.BaseRequest) -> web.StreamResponse:
        gauges = {
            "simpleai_runners_online": ("Runners connected", len(self.registry.online)),
            "simpleai_requests_active": ("Requests being served", self.router.active),
        }
        lines = [
            f"# HELP {name} {text}\n# TYPE {name} gauge\n{name} {value}\n"
            for name, (text, value) in gauges.items()
        ]
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body="".join(lines).encode(), headers=headers)

    async def _answer_models(self, request: web.BaseRequest) -> web.StreamResponse:
        data = [
            {"id": model, "object": "model", "created": 0, "owned_by": "simpleai"}
            for model in self.registry.models()
        ]
        return web.json_response({"object": "list", "data": data})

    async def _answer_jwks(self, request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response(tokens.jwks(self.verifier.key))

    async def _answer_runners(self, request: web.BaseRequest) -> web.StreamResponse:
        self.check_admin(request)
        runners = [runner.as_dict() for runner in self.registry.runners]
        return web.json_response({"runners": runners, "total": len(runners)})

    async def _answer_requests(self, request: web.BaseRequest) -> web.StreamResponse:
        self.check_admin(request)
        page = whole_number(request, "page", 1)
        per_page = min(whole_number(request, "per_page", PER_PAGE), MAX_PER_PAGE)
        return web.json_response(self.log.page(page, per_page))

    # --- inference: find the user, the model, the runner, then ask its engine

    async def _infer(self, request: web.BaseRequest) -> web.StreamResponse:
        user = self.user(request)
        entry = {
            "id": str(uuid.uuid4()),
            "timestamp": utc_now(),
            "model": None,
            "status": CLIENT_LEFT,
            "latency_ms": None,
            "runner_id": None,
            "wol_sent": False,
        }
        started_s = time.perf_counter()
        try:
            response = await self._serve(request, user, entry)
            entry["status"] = STREAM_ABORTED if request.get("aborted") else response.status
            return response
        except TextRefusal as refusal:
            entry["status"] = refusal.status
            raise
        except StreamAborted:
            entry["status"] = STREAM_ABORTED
            raise
        finally:
            entry["latency_ms"] = round((time.perf_counter() - started_s) * 1e3)
            self.log.add(entry)

    async def _serve(
        self, request: web.BaseRequest, user: User, entry: dict[str, Any]
    ) -> web.StreamResponse:
        fields = await read_fields(request)
        place = Place(self.resolve(user, fields.get("model")))
        entry["model"] = place.wanted
        try:
            async with self.router.hold(place) as runner:
                entry.update(model=place.model, runner_id=runner.id)
                return await self.ask_engine(request, fields, place)
        except WakeFailed as failure:
            raise TextRefusal(500, f"Failed to wake inference runners: {failure}") from None
        finally:
            entry["wol_sent"] = place.wol_sent

    def resolve(self, user: User, model: object) -> str:
        """The model that is wanted: `class:X` or the exact id of a model that some runner has.

        Raises TextRefusal when this user may not ask for it or no runner has it.
        """
        wanted = DEFAULT_MODEL if model is None else model
        if not isinstance(wanted, str):
            raise TextRefusal(400, "Failed to parse the request: model is not a string")
        is_class = wanted.startswith("class:")
        if not is_class and not self.may_ask_specific(user):
            raise TextRefusal(400, SPECIFIC_DENIED)
        if not self.router.knows(wanted):
            name = wanted.removeprefix("class:")[:100]
            if is_class:
                raise TextRefusal(500, f"No runners have models of class '{name}'")
            raise TextRefusal(500, f"No runners available for model '{name}'")
        return wanted

    async def ask_engine(
        self, request: web.BaseRequest, fields: dict[str, Any], place: Place
    ) -> web.StreamResponse:
        request["place"] = place

        async def relay(request: web.BaseRequest) -> web.StreamResponse:
            return await self._relay(request, fields, place)

        return await self.hooks.wrap("backend", relay)(request)

    def answered_model(self, place: Place) -> str:
        """The model that the answer names."""
        return place.model

    async def _relay(
        self, request: web.BaseRequest, fields: dict[str, Any], place: Place
    ) -> web.StreamResponse:
        """The engine's answer with the model's name. A stream is passed on as it arrives."""
        assert place.runner is not None
        if place.runner.engine_url is None:
            raise TextRefusal(500, f"Runner '{place.runner.name}' failed: it has disconnected")
        body = json.dumps({**fields, "model": place.model}).encode()
        ask = self.client.request("POST", place.runner.engine_url, CHAT, body)
        name = json.dumps(self.answered_model(place)).encode()
        stream: web.StreamResponse | None = None
        try:
            async with ask as reply:
                if not reply.content_type.startswith("text/event-stream"):
                    return self._whole(reply, await reply.read(), name, place.runner)
                stream = self._new_stream(request, place.runner)
                await stream.prepare(request)
                await self._pass_on(request, reply, stream, name)
                return stream
        except EngineError as error:
            said = f"Runner '{place.runner.name}' failed: {error}"
            if stream is None:
                raise TextRefusal(500, said) from None
            await self.break_off(request, stream, said)
            return stream
        except ResetConnection:
            send_reset_on_close(request)
            abort_stream(request)

    async def break_off(
        self, request: web.BaseRequest, stream: web.StreamResponse, said: str
    ) -> None:
        """End a stream whose runner has failed: with an error event, so that no client takes what
        has come for a whole answer."""
        error = {"error": {"message": said, "type": "server_error", "code": 500}}
        await stream.write(b"data: " + json.dumps(error).encode() + b"\n\n")
        await stream.write_eof()
        request["aborted"] = True

    def _whole(self, reply: Reply, body: bytes, name: bytes, runner: Runner) -> web.Response:
        if reply.status >= 400:
            raise TextRefusal(reply.status, error_text(body))
        headers = {"Content-Type": reply.content_type, **self._runner_header(runner)}
        return web.Response(status=reply.status, body=with_model(body, name), headers=headers)

    def _runner_header(self, runner: Runner) -> dict[str, str]:
        name = self.settings.runner_header
        return {name: runner.name} if name else {}

    def _new_stream(self, request: web.BaseRequest, runner: Runner) -> web.StreamResponse:
        headers = CIMultiDict({"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        headers.update({**self._runner_header(runner), **CORS})
        for change in self.hooks.stream_headers:
            change(headers)
        if "Content-Length" in headers or request.version < aiohttp.HttpVersion11:
            return UnframedStream(headers)
        return web.StreamResponse(headers=headers)

    async def _pass_on(
        self, request: web.BaseRequest, reply: Reply, stream: web.StreamResponse, name: bytes
    ) -> None:
        named = (with_model(event, name) async for event in events(reply))
        async for piece in self.hooks.filtered(named):
            await stream.write(piece)


def whole_number(request: web.BaseRequest, name: str, default: int) -> int:
    """A query parameter that must be at least 1. Raises TextRefusal (400) for anything else."""
    text = request.query.get(name, str(default))
    if not re.fullmatch("0*[1-9][0-9]{0,8}", text):
        raise TextRefusal(400, f"Failed to deserialize query string: {name}: invalid number")
    return int(text)


async def read_fields(request: web.BaseRequest) -> dict[str, Any]:
    """The JSON object in a request's body. Raises TextRefusal when there is none."""
    try:
        fields = json.loads(await read_body(request))
    except web.HTTPRequestEntityTooLarge:
        raise TextRefusal(413, "Failed to buffer the request body: length limit exceeded") from None
    except web.RequestPayloadError:
        raise TextRefusal(400, "Failed to buffer the request body") from None
    except (ValueError, RecursionError):
        raise TextRefusal(400, "Failed to parse the request body as JSON") from None
    if not isinstance(fields, dict):
        raise TextRefusal(400, "Failed to parse the request body: not an object")
    return fields


def error_text(body: bytes) -> str:
    """The message in an engine's error, without the JSON around it."""
    with contextlib.suppress(ValueError, LookupError, TypeError):
        return str(json.loads(body)["error"]["message"])
    return body[:200].decode("utf-8", "replace")


def with_model(text: bytes, name: bytes) -> bytes:
    """JSON text with this name as its `model`. The pattern cannot match inside a string, because
    the quotes would be escaped there."""
    return MODEL_FIELD.sub(lambda match: match[1] + name, text, count=1)


# --- the processes


def new_runners(settings: FleetSettings) -> list[Runner]:
    """The machines of the fleet. Their MACs are locally administered and end in 01, 02, …"""
    count = settings.runners or len(NAMES)
    names = list(settings.models) or [
        NAMES[index] if index < len(NAMES) else f"runner-{index + 1}" for index in range(count)
    ]
    return [
        Runner(
            id=str(uuid.uuid5(uuid.NAMESPACE_DNS, name)),
            name=name,
            machine_type=machine_type(name, index),
            mac=f"02:00:5e:00:00:{index + 1:02x}",
            models=settings.models.get(name, MODELS),
            slots=settings.slots,
        )
        for index, name in enumerate(names)
    ]


def machine_type(name: str, index: int) -> str:
    position = NAMES.index(name) if name in NAMES else index
    return MACHINE_TYPES[position % len(MACHINE_TYPES)]


def runner_arguments(
    settings: FleetSettings, runner: Runner, gateway_port: int, wol_port: int
) -> list[str]:
    arguments = [
        f"--name={runner.name}",
        f"--mac={runner.mac}",
        f"--gateway-port={gateway_port}",
        f"--wol-port={wol_port}",
        f"--boot-ms={settings.boot_ms}",
        *(["--asleep"] if settings.asleep else []),
    ]
    for field in dataclasses.fields(EngineSettings):
        value = getattr(settings, field.name)
        shown = ",".join(value) if isinstance(value, tuple) else value
        if shown not in (None, ""):
            arguments.append(f"--{field.name.replace('_', '-')}={shown}")
    return arguments


def runner_pids(registry: Registry) -> dict[str, str]:
    """For `kill -USR1` and `kill -USR2`: by RUNNER_PID_DESK and so on, each runner's process."""
    return {
        f"RUNNER_PID_{re.sub('[^A-Z0-9]', '_', runner.name.upper())}": str(runner.child.pid)
        for runner in registry.runners
        if runner.child is not None
    }


async def start_runners(
    settings: FleetSettings, registry: Registry, gateway_port: int, wol_port: int
) -> contextlib.AsyncExitStack:
    """Start all runners at once. Closing the stack ends them.

    Raises StartError with the reason of the first one that fails.
    """
    stack = contextlib.AsyncExitStack()

    async def start(runner: Runner) -> None:
        arguments = runner_arguments(settings, runner, gateway_port, wol_port)
        # The time-out of the engine inside is shorter, because its message says more.
        timeout_s = settings.start_timeout + 5
        name = f"runner {runner.name}"
        runner.child = await Child.start(name, "reference.fleet_runner", arguments, timeout_s)
        stack.push_async_callback(runner.child.stop)

    tasks = [asyncio.create_task(start(runner)) for runner in registry.runners]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await stack.aclose()
        raise
    return stack


@contextlib.asynccontextmanager
async def deploy(settings: FleetSettings, hooks: Hooks) -> AsyncIterator[dict[str, str]]:
    """Run the runners and the gateway. Gives the variables for the scripts."""
    raise_descriptor_limit()
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fleet-"))
        key, key_file = tokens.new_key(), Path(folder) / "key.pem"
        tokens.write_key(key, key_file)
        sock = stack.enter_context(bind(settings.port))
        wol_port = settings.wol_port or magic_packet.free_port()
        registry = Registry(new_runners(settings))
        waker = Waker(wol_port, settings.wake_timeout)
        stack.callback(waker.close)
        client = Client(settings.request_timeout)
        stack.callback(client.close)
        verifier = Verifier(key.public_key())
        fleet = Fleet(settings, verifier, Router(registry, waker), client, hooks)
        gateway_port = await stack.enter_async_context(registry.listening())
        await stack.enter_async_context(
            await start_runners(settings, registry, gateway_port, wol_port)
        )
        if settings.idle_timeout:
            watch = asyncio.create_task(registry.sleep_when_idle(settings.idle_timeout))
            stack.callback(watch.cancel)
        server = new_server(fleet.handle, settings.max_body_bytes, malformed)
        await stack.enter_async_context(listening(server, sock))
        yield {
            "SIMPLEAI_URL": f"http://{HOST}:{sock.getsockname()[1]}",
            "SIMPLEAI_TEST_TOKEN": tokens.new_token(key, tokens.DEFAULT_USER, ()),
            # This is a command, so the path is quoted in case it contains a space.
            "TOKEN_BINARY": shlex.quote(str(ROOT / "reference" / "get-token")),
            tokens.KEY_VARIABLE: str(key_file),
            "WOL_PORT": str(wol_port),
            **runner_pids(registry),
        }
