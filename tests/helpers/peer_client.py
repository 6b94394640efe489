"""Requests without any of the scripts' code, to see what a server really does."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import threading
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

CHAT = "/v1/chat/completions"
TOGETHER_S = 0.003
GZIP_OR_ZLIB = 47  # zlib finds out which of both it is


@dataclass
class Seen:
    """An answer; `pieces_s`: when each part of its text came, in seconds after the request."""

    status: int
    headers: http.client.HTTPMessage
    text: str
    pieces_s: list[float]

    @property
    def spread_s(self) -> float:
        """Between the first piece and the last one."""
        return self.pieces_s[-1] - self.pieces_s[0]

    @property
    def arrivals(self) -> int:
        """How often something came: what came within 3 ms came together."""
        gaps_s = [
            later - sooner for sooner, later in zip(self.pieces_s, self.pieces_s[1:], strict=False)
        ]
        return 1 + sum(gap_s > TOGETHER_S for gap_s in gaps_s)

    @property
    def json(self) -> Any:
        return json.loads(self.text)


def ask(
    url: str,
    path: str = CHAT,
    method: str = "",
    tokens: int = 2,
    stream: bool = False,
    model: str = "sim",
    trust: Path | None = None,
    **headers: str,
) -> Seen:
    """One request: a completion, a GET of any other path. Underscores in header names are hyphens.

    Raises OSError when there is no answer.
    """
    body: bytes | None = None
    if path == CHAT and method in ("", "POST"):
        body, method = chat_body(model, tokens, stream), "POST"
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    with contextlib.closing(connect(url, trust)) as connection:
        begun = time.monotonic()
        connection.request(
            method or "GET", path, body, {"Content-Type": "application/json", **sent}
        )
        return read(connection.getresponse(), begun)


def chat_body(model: str, tokens: int, stream: bool) -> bytes:
    messages = [{"role": "user", "content": "Count to ten please"}]
    fields = {"model": model, "messages": messages, "max_tokens": tokens, "stream": stream}
    return json.dumps(fields).encode()


def leave_early(url: str, after_s: float = 0.1) -> None:
    """A request whose client does not wait for the answer."""
    with contextlib.closing(connect(url, None)) as connection:
        connection.request("POST", CHAT, chat_body("sim", 2, False))
        time.sleep(after_s)


def connect(url: str, trust: Path | None) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    place = (parts.hostname or "", parts.port)
    if parts.scheme == "http":
        return http.client.HTTPConnection(*place, timeout=30)
    context = ssl.create_default_context(cafile=str(trust) if trust else None)
    return http.client.HTTPSConnection(*place, timeout=30, context=context)


def read(response: http.client.HTTPResponse, begun: float) -> Seen:
    compressed = response.getheader("Content-Encoding") in ("gzip", "deflate")
    unpack = zlib.decompressobj(GZIP_OR_ZLIB).decompress if compressed else bytes
    text, pieces_s = b"", []
    while data := response.read1():
        if piece := unpack(data):
            text += piece
            pieces_s.append(time.monotonic() - begun)
    return Seen(response.status, response.headers, text.decode(), pieces_s)


def at_once(count: int, url: str, **request: Any) -> list[Seen]:
    """The same request several times, 50 ms apart, so that their order is known."""
    seen: list[Seen | None] = [None] * count

    def one(number: int) -> None:
        time.sleep(0.05 * number)
        seen[number] = ask(url, **request)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [each for each in seen if each]
