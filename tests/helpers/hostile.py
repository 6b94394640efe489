"""A server that does exactly what a test tells it: real sockets, one thread a connection.

with Server(chat=HEAD + good_stream()) as server:
    run_script("benchmark.py", "--url", server.url)
    assert server.count("/v1/chat/completions") == 11

An answer is bytes, sent as they are before the connection is closed, or a function of the Call.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

CHAT = "/v1/chat/completions"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
DONE = b"data: [DONE]\n\n"


@dataclass
class Call:
    """A request as it came in, and the connection to answer on."""

    sock: socket.socket
    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes
    over: threading.Event  # the test is over

    def send(self, *pieces: bytes, gap_s: float = 0.0) -> None:
        for piece in pieces:
            self.sock.sendall(piece)
            time.sleep(gap_s)

    def wait(self, seconds: float | None = None) -> None:
        """Say nothing for so long, or until the test is over."""
        self.over.wait(seconds)

    @property
    def fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = json.loads(self.body)
        return fields

    @property
    def prompt(self) -> str:
        text: str = self.fields["messages"][0]["content"]
        return text


Answer = bytes | Callable[[Call], None]


class Server:
    """Listens on loopback. `chat` answers completions, `answers` other paths, `everywhere` all."""

    def __init__(
        self,
        chat: Answer | None = None,
        answers: dict[str, Answer] | None = None,
        everywhere: Answer | None = None,
        tls: ssl.SSLContext | None = None,
    ):
        self.calls: list[Call] = []
        self.connections = 0
        self._answers = {
            "/ping": response(200),
            "/health": response(200, {"status": "ok"}),
            "/v1/models": response(200, {"object": "list", "data": [{"id": "scripted"}]}),
            CHAT: HEAD + good_stream() if chat is None else chat,
            **(answers or {}),
        }
        self._everywhere, self._tls = everywhere, tls
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        scheme = "https" if tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Server:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def to(self, path: str) -> list[Call]:
        """The requests for this path, in the order they came."""
        return [call for call in list(self.calls) if call.path == path]

    def count(self, path: str = CHAT) -> int:
        return len(self.to(path))

    def wait_for(self, count: int, path: str = CHAT, seconds: float = 20) -> None:
        """Until so many requests for the path have come."""
        deadline = time.monotonic() + seconds
        while self.count(path) < count:
            assert time.monotonic() < deadline, f"{self.count(path)} of {count} requests came"
            time.sleep(0.01)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.callback(sock.close)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls:
                sock = self._tls.wrap_socket(sock, server_side=True)
                stack.callback(sock.close)
            if call := self._receive(sock):
                self.calls.append(call)
                self._answer(call)

    def _receive(self, sock: socket.socket) -> Call | None:
        with sock.makefile("rb") as stream:
            line = stream.readline().decode("latin-1").split()
            if len(line) != 3:
                return None
            headers = {}
            while text := stream.readline().decode("latin-1").strip():
                name, _, value = text.partition(":")
                headers[name.lower()] = value.strip()
            body = stream.read(int(headers.get("content-length", 0)))
        return Call(sock, line[0], line[1], headers, body, self._over)

    def _answer(self, call: Call) -> None:
        answer = self._everywhere
        if answer is None:
            answer = self._answers.get(call.path, response(404))
        if isinstance(answer, bytes):
            call.send(answer)
        else:
            answer(call)


# --- answers


def response(status: int, body: object = b"", **headers: object) -> bytes:
    """A whole answer; keywords become header lines, `retry_after=5` as Retry-After."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Scripted", f"Content-Length: {len(content)}"]
    lines += [f"{name.replace('_', '-').title()}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1") + content


def error(status: int, message: str, code: object = None, **headers: object) -> bytes:
    """An error in OpenAI's form."""
    fields = {"error": {"message": message, "type": "server_error", "code": code}}
    return response(status, fields, content_type="application/json", **headers)


def in_turn(*answers: Answer) -> Callable[[Call], None]:
    """The first answer to the first request, and so on; the last one to all that follow."""
    rest = itertools.chain(answers, itertools.repeat(answers[-1]))
    lock = threading.Lock()

    def answer(call: Call) -> None:
        with lock:
            chosen = next(rest)
        call.send(chosen) if isinstance(chosen, bytes) else chosen(call)

    return answer


def first(count: int, answer: Answer, then: Answer) -> Callable[[Call], None]:
    return in_turn(*[answer] * count, then)


def hang(call: Call) -> None:
    call.wait()


def event(fields: object) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


ENVELOPE = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}


WHOLE = {"id": "c1", "object": "chat.completion", "created": 1}  # of a whole answer


def delta(content: str | None = None, reason: str | None = None, **more: object) -> bytes:
    """A chunk of the stream; without content only its role or its finish_reason."""
    said = {"role": "assistant"} if content is None and reason is None else {}
    said |= {"content": content} if content is not None else {}
    choice = {"index": 0, "delta": said, "finish_reason": reason}
    return event({**ENVELOPE, "choices": [choice], **more})


def usage(count: object) -> bytes:
    """The chunk that counts the tokens."""
    counts = {"prompt_tokens": 5, "completion_tokens": count, "total_tokens": 0}
    return event({**ENVELOPE, "choices": [], "usage": counts})


def timings(count: object, milliseconds: object = 40.0) -> bytes:
    own = {"prompt_ms": 1.0, "predicted_n": count, "predicted_ms": milliseconds, "cache_n": 0}
    return event({**ENVELOPE, "choices": [], "timings": own})


def good_stream(events: int = 3, counted: bytes | None = None) -> bytes:
    """A stream with nothing wrong; `counted` replaces the usage chunk."""
    body = delta() + b"".join(delta(f" word{number}") for number in range(events))
    return body + delta(reason="stop") + (usage(events) if counted is None else counted) + DONE
