"""The answers of a sound deployment, of either kind, for a server that spoils some of them.

`Gateway` and `Fleet` answer like the deployments of the guides do, as far as a script can tell:
there is no engine behind them, and every text is made of the same words, unless the model is asked
to repeat some. They are much cheaper than `reference/`, so that hundreds of them can be started in
a minute.
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from reference.skills import context, repeating, tools
from reference.skills.played import Played, cut

JSON = "application/json"
STREAM = "text/event-stream"
WORDS = (" wave", " after", " wave", " the", " sea", " keeps", " its", " even", " time,")
MODEL = "sim"
ORIGIN = "https://app.example"
MOST_TOKENS = 256


class Request(Protocol):
    """What an answer depends on. Names of headers are in lower case, and may come twice."""

    sock: socket.socket
    method: str
    path: str
    pairs: list[tuple[str, str]]
    body: bytes
    over: threading.Event

    @property
    def headers(self) -> dict[str, str]: ...


@dataclass
class Sound:
    """An answer that is in order. A stream is in `events`, everything else in `body`."""

    endpoint: str
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    events: list[bytes] = field(default_factory=list)
    first_s: float = 0.0  # until the answer begins
    gap_s: float = 0.0  # between two events

    @property
    def content(self) -> bytes:
        return self.body or b"".join(self.events)

    @property
    def content_type(self) -> str:
        return self.headers.get("Content-Type", JSON)


class Left(Exception):
    """The client has closed the connection while it waited."""


def as_json(endpoint: str, fields: object, status: int = 200, **headers: str) -> Sound:
    return Sound(endpoint, status, {"Content-Type": JSON, **headers}, json.dumps(fields).encode())


def as_text(endpoint: str, text: str, status: int, **headers: str) -> Sound:
    return Sound(
        endpoint, status, {"Content-Type": "text/plain; charset=utf-8", **headers}, text.encode()
    )


def event(fields: object) -> bytes:
    return b"data: " + json.dumps(fields, separators=(",", ":")).encode() + b"\n\n"


def has_left(sock: socket.socket) -> bool:
    readable, _, _ = select.select([sock], [], [], 0)
    try:
        return bool(readable) and not sock.recv(1, socket.MSG_PEEK)
    except (OSError, ValueError):  # ValueError: TLS has no MSG_PEEK
        return False


def read_fields(body: bytes) -> dict[str, Any] | None:
    """The JSON object that was sent, if its messages can be answered."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return None
    messages = fields.get("messages") if isinstance(fields, dict) else None
    if not isinstance(messages, list) or not all(isinstance(each, dict) for each in messages):
        return None
    limit = fields.get("max_tokens", fields.get("max_completion_tokens"))
    is_limit = limit is None or (isinstance(limit, int) and limit > 0)
    return fields if messages and is_limit else None


def play(fields: dict[str, Any]) -> Played:
    """What a model says that can call tools, and repeat words and numbers that it is told; else the
    words."""
    count = fields.get("max_tokens") or fields.get("max_completion_tokens") or MOST_TOKENS
    words = repeating.answer(fields) or [WORDS[at % len(WORDS)] for at in range(MOST_TOKENS)]
    return tools.play(fields, count) or context.recall(fields, count) or cut(words, count)


def completion(
    fields: dict[str, Any], model: str, fingerprint: str, first_s: float, gap_s: float
) -> Sound:
    """A chat completion, whole or as a stream: a token after `first_s`, then one each `gap_s`."""
    played = play(fields)
    deltas, reason = played.deltas, played.finish_reason
    prompt = sum(len(str(each.get("content", "")).split()) or 1 for each in fields["messages"])
    counts = {"prompt_tokens": prompt, "completion_tokens": len(deltas)}
    counts["total_tokens"] = prompt + len(deltas)
    envelope = {"id": f"chatcmpl-{time.monotonic_ns():x}", "created": int(time.time())}
    envelope |= {"model": model, "system_fingerprint": fingerprint}
    if not fields.get("stream"):
        choice = {"index": 0, "message": played.message, "finish_reason": reason}
        whole = {**envelope, "object": "chat.completion", "choices": [choice], "usage": counts}
        sound = as_json("chat", whole)
        sound.first_s = first_s + gap_s * len(deltas)
        return sound
    envelope["object"] = "chat.completion.chunk"

    def chunk(said: dict[str, Any], ended: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": said, "finish_reason": ended}
        return event({**envelope, "choices": [choice], **more})

    first = chunk({"role": "assistant", "content": None}) + chunk(deltas[0])
    events = [first, *map(chunk, deltas[1:])]
    last = chunk({}, reason)
    options = fields.get("stream_options")
    if isinstance(options, dict) and options.get("include_usage"):
        last += event({**envelope, "choices": [], "usage": counts})
    events.append(last + b"data: [DONE]\n\n")
    headers = {"Content-Type": STREAM, "Cache-Control": "no-cache"}
    return Sound("stream", 200, headers, b"", events, first_s, gap_s)


class Places:
    """The places of a queue: `most` are served at once, `longest` may wait."""

    def __init__(self, most: int, longest: int):
        self.most, self.longest = most, longest
        self.active, self.waiting, self.rejected, self.waited_s = 0, 0, 0, 0.0
        self._lock = threading.Condition()
        self._line: list[object] = []

    @contextlib.contextmanager
    def place(self, request: Request) -> Iterator[bool]:
        """Whether there is a place. Raises Left."""
        started_s = time.monotonic()
        ticket = object()
        with self._lock:
            if self.active >= self.most:
                if len(self._line) >= self.longest:
                    self.rejected += 1
                    yield False
                    return
                self._line.append(ticket)
                self._wait(request, ticket)
            self.active += 1
            self.waited_s += time.monotonic() - started_s
        try:
            yield True
        finally:
            with self._lock:
                self.active -= 1
                self._lock.notify_all()

    def _wait(self, request: Request, ticket: object) -> None:
        try:
            while self.active >= self.most or self._line[0] is not ticket:
                self._lock.wait(0.02)
                if has_left(request.sock) or request.over.is_set():
                    raise Left
        finally:
            self._line.remove(ticket)

    @property
    def in_line(self) -> int:
        return len(self._line)


@dataclass
class Gateway:
    """The GGUF gateway: /ping, /health, /metrics in both forms, models, completions, CORS.

    `idle_s`: after so long without a completion its worker sleeps, and the next one takes `load_s`
    more. `workers`: a file that always has the number of workers. `limit`: so many requests in
    `limit_s`; 0: no limit.
    """

    key: str
    places: Places = field(default_factory=lambda: Places(8, 8))
    idle_s: float = float("inf")
    load_s: float = 0.5
    first_s: float = 0.004
    gap_s: float = 0.001
    workers: Path | None = None
    retry_after_s: int = 1
    limit: int = 0
    limit_s: float = 1.0

    def __post_init__(self) -> None:
        self.allowed_s: deque[float] = deque(maxlen=self.limit)
        self.asked = self.succeeded = self.failed = 0
        self.used_s = self.began_s = time.monotonic()

    @property
    def is_asleep(self) -> bool:
        return not self.places.active and time.monotonic() - self.used_s > self.idle_s

    def figures(self) -> dict[str, float]:
        return {
            "requests_total": self.asked,
            "requests_success": self.succeeded,
            "requests_error": self.failed,
            "requests_active": self.places.active,
            "requests_authenticated": self.asked,
            "requests_unauthorized": 0,
            "bytes_sent": 1000,
            "queue_depth": self.places.in_line,
            "queue_rejections": self.places.rejected,
            "queue_wait_seconds_total": round(self.places.waited_s, 6),
            "uptime_seconds": round(time.monotonic() - self.began_s, 3),
        }

    def cors(self, request: Request) -> dict[str, str]:
        if request.headers.get("origin") != ORIGIN:
            return {}
        return {
            "Access-Control-Allow-Origin": ORIGIN,
            "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
            "Access-Control-Allow-Headers": "Authorization, Content-Type",
            "Access-Control-Max-Age": "86400",
            "Vary": "Origin",
        }

    @contextlib.contextmanager
    def answer(self, request: Request) -> Iterator[Sound]:
        with self._answer(request) as sound:
            sound.headers |= self.cors(request)
            yield sound

    @contextlib.contextmanager
    def _answer(self, request: Request) -> Iterator[Sound]:
        path = urlsplit(request.path).path
        if request.method == "OPTIONS":
            yield Sound("preflight", 204)
        elif request.method == "GET" and path == "/ping":
            yield Sound("ping")
        elif request.method == "GET" and path == "/workers":
            yield as_json("workers", {"workers": {"idle": 0, "running": int(not self.is_asleep)}})
        elif request.method == "GET" and path == "/health":
            yield as_json("health", self._health())
        elif request.method == "GET" and path == "/metrics":
            yield self._metrics(request)
        elif not path.startswith("/v1/"):
            yield refusal("other", 404, "no such endpoint", "not_found")
        elif request.headers.get("authorization") != f"Bearer {self.key}":
            yield refusal("error", 401, "Invalid or missing API key", "invalid_api_key")
        elif not self.is_allowed():
            self.asked += 1
            self.failed += 1
            wait = {"Retry-After": str(math.ceil(self.limit_s))}
            yield refusal("error", 429, "Rate limit exceeded", "rate_limit_exceeded", **wait)
        elif path == "/v1/models":
            self.asked += 1
            self.succeeded += 1
            listed = {"id": MODEL, "object": "model", "created": 1, "owned_by": "sim"}
            yield as_json("models", {"object": "list", "data": [listed]})
        elif path == "/v1/chat/completions" and request.method == "POST":
            with self._chat(request) as sound:
                yield sound
        elif path == "/v1/embeddings":
            yield as_json("embeddings", embedding(json.loads(request.body)))
        else:
            yield refusal("other", 404, "File Not Found", "not_found")

    def is_allowed(self) -> bool:
        """Whether the limit allows one more request; if so, it is counted."""
        now_s, times_s = time.monotonic(), self.allowed_s
        if self.limit and len(times_s) == self.limit and now_s - times_s[0] < self.limit_s:
            return False
        times_s.append(now_s)
        return True

    def _health(self) -> dict[str, Any]:
        queue = {"max_concurrent": self.places.most, "max_queue_size": self.places.longest}
        queue |= {"active": self.places.active, "waiting": self.places.in_line}
        return {
            "status": "ok",
            "code": 200,
            "backend": {"status": "ok"},
            "gateway": {"metrics": self.figures()},
            "queue": queue,
            "authentication": {"enabled": True},
        }

    def _metrics(self, request: Request) -> Sound:
        if "text/plain" not in request.headers.get("accept", ""):
            return as_json("metrics", {"gateway": self.figures()})
        lines = [
            f"# HELP gateway_{name} {name}\n# TYPE gateway_{name} gauge\ngateway_{name} {figure}\n"
            for name, figure in self.figures().items()
        ]
        return Sound("metrics", 200, {"Content-Type": "text/plain; version=0.0.4"}, text_of(lines))

    @contextlib.contextmanager
    def _chat(self, request: Request) -> Iterator[Sound]:
        self.asked += 1
        sound = None
        try:
            fields = read_fields(request.body)
            if fields is None:
                yield refusal("error", 400, "'messages' must be an array", "invalid_request_error")
                return
            with self.places.place(request) as is_free:
                if not is_free:
                    wait = {"Retry-After": str(self.retry_after_s)}
                    yield refusal("error", 503, "The queue is full", "queue_full", **wait)
                    return
                sound = completion(fields, MODEL, "sim", self.first_s, self.gap_s)
                if self.is_cold():
                    sound.first_s += self.load_s
                try:
                    yield sound
                finally:
                    self.used_s = time.monotonic()
            self.succeeded += 1
        finally:
            self.failed += sound is None

    def is_cold(self) -> bool:
        """Whether the worker slept until this request."""
        return time.monotonic() - self.used_s > self.idle_s

    def keep_count(self) -> None:
        """Write the number of workers, if anybody wants to know."""
        if self.workers:
            new = self.workers.with_suffix(".new")
            new.write_text("0\n" if self.is_asleep else "1\n")
            new.replace(self.workers)


def text_of(lines: Sequence[str]) -> bytes:
    return "".join(lines).encode()


def refusal(endpoint: str, status: int, message: str, code: str, **headers: str) -> Sound:
    fields = {"error": {"message": message, "type": "invalid_request_error", "code": code}}
    return as_json(endpoint, fields, status, **headers)


def embedding(fields: dict[str, Any]) -> dict[str, Any]:
    packed = base64.b64encode(b"\0\0\x80>" * 4).decode()  # four times 0.25
    vector: Any = packed if fields.get("encoding_format") == "base64" else [0.25] * 4
    data = [{"object": "embedding", "index": 0, "embedding": vector}]
    usage = {"prompt_tokens": 3, "total_tokens": 3}
    return {"object": "list", "model": MODEL, "data": data, "usage": usage}


# --- the fleet

SMALL, BIG = "small:1b", "big:7b"
CLASSES = {"class:fast": SMALL, "class:big": BIG}
SPECIFIC, ADMIN = "model:specific", "admin"


def utc_now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass
class Machine:
    id: str
    name: str
    mac: str
    is_online: bool
    active: int = 0

    def fields(self) -> dict[str, Any]:
        models = [SMALL, BIG]
        return {
            "id": self.id,
            "name": self.name,
            "machine_type": "gpu",
            "health": "healthy" if self.is_online else "offline",
            "loaded_models": models if self.is_online else [],
            "available_models": models,
            "last_heartbeat": utc_now(),
            "mac_address": self.mac,
            "is_online": self.is_online,
        }


@dataclass
class Fleet:
    """The fleet: classes and models by roles, two runners, the admin API.

    `tokens`: the roles of every token that is accepted. `asleep`: both runners sleep until the
    first request, which wakes one of them within `boot_s`.
    """

    tokens: dict[str, frozenset[str]]
    asleep: bool = False
    boot_s: float = 0.6
    first_s: float = 0.01
    gap_s: float = 0.001
    keys: Sequence[dict[str, str]] = ()

    def __post_init__(self) -> None:
        self.log: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self.machines = [
            Machine("3f9c1bd6-8f31", "desk", "02:00:5e:00:00:01", not self.asleep),
            Machine("1226445a-bfb1", "tower", "02:00:5e:00:00:02", not self.asleep),
        ]

    def roles(self, request: Request) -> frozenset[str] | None:
        sent = [value for name, value in request.pairs if name == "authorization"]
        if len(sent) != 1 or not sent[0].startswith("Bearer "):
            return None
        return self.tokens.get(sent[0].removeprefix("Bearer "))

    @contextlib.contextmanager
    def answer(self, request: Request) -> Iterator[Sound]:
        url = urlsplit(request.path)
        if request.method == "OPTIONS":
            yield Sound("preflight", 204)
        elif url.path == "/v1/chat/completions" and request.method == "POST":
            with self._chat(request) as sound:
                yield sound
        elif request.method != "GET":
            yield as_text("other", "Method not allowed", 405)
        elif url.path == "/health":
            yield as_json("health", {"status": "ok", "version": "0.1.0"})
        elif url.path == "/v1/models":
            models = sorted({SMALL, BIG} if any(m.is_online for m in self.machines) else ())
            data = [{"id": model, "object": "model", "owned_by": "us"} for model in models]
            yield as_json("models", {"object": "list", "data": data})
        elif url.path == "/.well-known/jwks.json":
            yield as_json("jwks", {"keys": self.keys})
        elif url.path in ("/admin/runners", "/admin/api/requests"):
            yield self._admin(request, url.path, parse_qs(url.query))
        else:
            yield as_text("other", "Not found", 404)

    def _admin(self, request: Request, path: str, query: dict[str, list[str]]) -> Sound:
        roles = self.roles(request)
        if roles is None:
            return as_text("error", "Missing authorization header", 401)
        if ADMIN not in roles:
            return as_text("error", "Admin access required", 403)
        if path == "/admin/runners":
            runners = [machine.fields() for machine in self.machines]
            return as_json("runners", {"runners": runners, "total": len(runners)})
        page, size = (int(query.get(name, ["50"])[0]) for name in ("page", "per_page"))
        with self._lock:
            newest = self.log[::-1]
        shown = newest[(page - 1) * size :][:size]
        return as_json(
            "log", {"requests": shown, "total": len(newest), "page": page, "per_page": size}
        )

    @contextlib.contextmanager
    def _chat(self, request: Request) -> Iterator[Sound]:
        roles, fields = self.roles(request), None
        if roles is None:
            challenge = {"WWW-Authenticate": "Bearer"}
            yield as_text("error", "Missing authorization header", 401, **challenge)
            return
        fields = read_fields(request.body)
        wanted = (fields or {}).get("model", "class:fast")
        model = CLASSES.get(wanted, wanted) if isinstance(wanted, str) else None
        if fields is None or model is None:
            yield as_text("error", "Failed to parse the request body as JSON", 400)
        elif wanted not in CLASSES and not wanted.startswith("class:") and SPECIFIC not in roles:
            yield as_text("error", "Permission denied: cannot request specific models.", 400)
        elif model not in (SMALL, BIG):
            yield as_text("error", f"No runners available for model {wanted[:50]!r}", 500)
        else:
            with self._served(fields, model) as sound:
                yield sound

    @contextlib.contextmanager
    def _served(self, fields: dict[str, Any], model: str) -> Iterator[Sound]:
        began_s, stamp = time.monotonic(), utc_now()
        with self._lock:
            is_waking = not any(machine.is_online for machine in self.machines)
            machine = min(
                [each for each in self.machines if each.is_online] or self.machines[:1],
                key=lambda each: each.active,
            )
            machine.active += 1
        try:
            if is_waking:
                time.sleep(self.boot_s)
                machine.is_online = True
            yield completion(fields, model, machine.name, self.first_s, self.gap_s)
        finally:
            spent_ms = round((time.monotonic() - began_s) * 1e3)
            entry = {"id": f"{time.monotonic_ns():x}", "timestamp": stamp, "model": model}
            entry |= {"status": 200, "latency_ms": spent_ms, "runner_id": machine.id}
            with self._lock:
                machine.active -= 1
                self.log.append({**entry, "wol_sent": is_waking})
