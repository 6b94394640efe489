"""Compression that nobody asked for, or only in name: every script must notice it, and go on."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from ..hooks import Handler
from .answers import instead
from .cors import CORS, ORIGIN
from .fault import Fault, Install
from .planting import all_of, around, on_events, stream_header
from .queue import GUIDE, QUEUE
from .scale_to_zero import SCRIPT as SCALE_TO_ZERO
from .scale_to_zero import SLEEPY, WITHOUT_CONTROL
from .streams import compressed
from .wol import ASLEEP, LISTEN, WOL

Pack = Callable[[bytes], bytes]
FLEET: dict[str, Any] = {"profile": "fleet"}
# what each script needs to come to its verdict soon
GIVEN: Mapping[str, Mapping[str, Any]] = {
    "benchmark.py": {},
    "test_openai_sdk.py": {
        "arguments": ("--only", *"completion stream wire models content_encoding".split())
    },
    SCALE_TO_ZERO: {"options": SLEEPY, "arguments": WITHOUT_CONTROL},
    QUEUE: {"options": GUIDE},
    CORS: {"options": {"cors_origins": ORIGIN}, "arguments": ("--origin", ORIGIN)},
    "test_auth.py": {
        **FLEET,
        "arguments": ("--only", *"no_credentials user admin content_encoding".split()),
    },
    "test_model_routing.py": FLEET,
    "test_workload_routing.py": {**FLEET, "arguments": ("--requests", "8")},
    WOL: {**FLEET, "options": ASLEEP, "arguments": LISTEN},
}


def raw_deflate(body: bytes) -> bytes:
    """Without the header of zlib, as some servers understand "deflate"."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


def coded(where: str, name: str, pack: Pack = bytes) -> Install:
    """What this handler answers is packed and has that Content-Encoding; streams are left alone."""

    async def wrapper(handler: Handler, request: web.BaseRequest) -> web.StreamResponse:
        response = await handler(request)
        if isinstance(response, web.Response) and isinstance(response.body, bytes):
            if response.body and "Content-Encoding" not in response.headers:
                response.body = pack(response.body)
                response.headers["Content-Encoding"] = name
        return response

    return around(where, wrapper)


GZIP_STREAMS = all_of(stream_header("Content-Encoding", "gzip"), on_events(compressed(flush=True)))
GZIP_ALL = all_of(coded("all", "gzip", gzip.compress), GZIP_STREAMS)
ONLY_IN_NAME = all_of(coded("all", "gzip"), stream_header("Content-Encoding", "gzip"))


def row(
    script: str, name: str, breaks: str, install: Install, status: str = "WARN", **more: Any
) -> Fault:
    given = {**GIVEN[script], **more}
    return Fault(name, breaks, script, "content_encoding", install, status=status, **given)  # type: ignore[arg-type]


def stem(script: str) -> str:
    return script.removesuffix(".py").removeprefix("test_").replace("_", "-")


EVERY_SCRIPT = (
    *(
        row(
            script,
            f"gzip-unasked-{stem(script)}",
            "every answer is compressed, although no request accepts that",
            GZIP_ALL,
        )
        for script in GIVEN
    ),
    *(
        row(
            script,
            f"gzip-name-{stem(script)}",
            "every answer says that it is compressed, and is not",
            ONLY_IN_NAME,
            "FAIL",
        )
        for script in GIVEN
    ),
)

ROWS: tuple[Fault, ...] = (
    *EVERY_SCRIPT,
    row(
        "benchmark.py",
        "gzip-models",
        "the list of models is compressed, although the request does not accept that",
        coded("models", "GZIP", gzip.compress),
    ),
    row(
        "benchmark.py",
        "gzip-ping",
        "pong is compressed with x-gzip, although the request does not accept that",
        all_of(instead("ping", text="pong"), coded("ping", "x-gzip", gzip.compress)),
    ),
    row(
        "benchmark.py",
        "raw-deflate",
        "/health is compressed with raw deflate",
        coded("health", "deflate", raw_deflate),
    ),
    row(
        "benchmark.py",
        "gzip-twice",
        "/health is compressed twice, as its head says",
        coded("health", "gzip, gzip", lambda body: gzip.compress(gzip.compress(body))),
    ),
    row(
        "benchmark.py",
        "gzip-twice-said-once",
        "/health is compressed twice, and its head says it once",
        coded("health", "gzip", lambda body: gzip.compress(gzip.compress(body))),
        "FAIL",
    ),
    row(
        "benchmark.py",
        "gzip-cut",
        "the compressed /health has no end",
        coded("health", "gzip", lambda body: gzip.compress(body)[:-6]),
        "FAIL",
    ),
    row(
        "benchmark.py",
        "gzip-surplus",
        "other bytes follow after the compressed /health",
        coded("health", "gzip", lambda body: gzip.compress(body) + b"\n\n"),
    ),
    row(
        "benchmark.py",
        "gzip-bomb",
        "/health has 64 MB when it is decoded",
        coded("health", "gzip", lambda _: gzip.compress(bytes(64 << 20), 9)),
        "FAIL",
    ),
    row(
        "benchmark.py",
        "gzip-not-said",
        "the list of models is compressed, and its head does not say so",
        coded("models", "identity", gzip.compress),
        "FAIL",
    ),
    row(
        "benchmark.py",
        "brotli-models",
        "the list of models is said to be compressed with br, which no request accepts",
        coded("models", "br", lambda body: b"\x0b\x02\x80" + bytes(255 - each for each in body)),
        "FAIL",
    ),
)
