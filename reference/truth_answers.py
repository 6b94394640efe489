"""What the truth server reads and writes: requests, the pieces of a stream, and what it noted.

Pure: no sockets and no clock. Every event with a token carries its own send time (`sent_ns`, as
text, because a number of 19 digits does not fit a JSON reader's float).
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MODEL = "truth"
# All of one length, so that the size of a chunk is known before its event is written.
WORDS = ("tide ", "foam ", "wind ", "gull ", "sand ", "wave ", "rain ", "moon ", "salt ", "reef ")
MOST_HEAD = 16 << 10  # bytes of a request's head
MOST_BODY = 4 << 20  # bytes of its body
MOST_TOKENS = 100_000  # of an answer
STREAM_HEAD = (
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
    "Transfer-Encoding: chunked\r\nX-Request-Id: {}\r\n{}\r\n"
)
CLOSE = "Connection: close\r\n"
REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 413: "Content Too Large"}


class BadRequest(Exception):
    """The request cannot be answered; `status` and one line for the client."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


@dataclass
class Request:
    method: str
    path: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    @property
    def closes(self) -> bool:
        return "close" in self.headers.get("connection", "").lower()


def take_request(received: bytearray) -> Request | None:
    """Take the first request out of these bytes; None when it is not complete.

    Raises BadRequest when it is too long, or not HTTP.
    """
    end = received.find(b"\r\n\r\n")
    if end < 0:
        if len(received) > MOST_HEAD:
            raise BadRequest(413, "the head of the request is too long")
        return None
    lines = received[:end].decode("latin-1").split("\r\n")
    words = lines[0].split()
    if len(words) != 3:
        raise BadRequest(400, "this is not HTTP")
    pairs = (line.partition(":") for line in lines[1:])
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    size = headers.get("content-length", "0")
    if not size.isdecimal() or "transfer-encoding" in headers:
        raise BadRequest(400, "a body needs a Content-Length")
    if int(size) > MOST_BODY:
        raise BadRequest(413, "the body is too long")
    if len(received) < end + 4 + int(size):
        return None
    body = bytes(received[end + 4 : end + 4 + int(size)])
    del received[: end + 4 + int(size)]
    return Request(words[0], words[1].partition("?")[0], headers, body)


@dataclass
class Noted:
    """What happened to one request: times of `perf_counter_ns`.

    `received_ns`: when its last byte came, by the kernel's clock if `is_stamped`. `sent_ns`: just
    before each event with a token was given to the system. `late_ns`: the longest delay of an
    event behind the schedule. `blocked`: events that the client's system did not take at once, so
    that their times are not exact.
    """

    id: str
    client_id: str  # the client's own X-Request-Id
    received_ns: int
    is_stamped: bool
    sent_ns: array[int] = field(default_factory=lambda: array("q"))
    ended_ns: int | None = None
    late_ns: int = 0
    blocked: int = 0

    def as_dict(self) -> dict[str, Any]:
        return {**self.__dict__, "sent_ns": list(self.sent_ns)}


@dataclass
class Task:
    """What a chat completion asks for."""

    stream: bool
    usage: bool
    tokens: int


def read_task(body: bytes, default_tokens: int) -> Task:
    """Raises BadRequest."""
    try:
        fields = json.loads(body)
    except ValueError:
        raise BadRequest(400, "the body is not JSON") from None
    if not isinstance(fields, dict):
        raise BadRequest(400, "the body is not a JSON object")
    options = fields.get("stream_options")
    usage = isinstance(options, dict) and options.get("include_usage") is True
    asked = fields.get("max_completion_tokens") or fields.get("max_tokens") or default_tokens
    if not isinstance(asked, int) or not 0 < asked <= MOST_TOKENS:
        raise BadRequest(400, f"max_tokens must be a number from 1 to {MOST_TOKENS}")
    return Task(fields.get("stream") is True, usage, asked)


class Pieces:
    """The bytes of one streamed answer, made before they are needed.

    An event with a token is `before[n % 10] + b"%019d" % now + after`.
    """

    def __init__(self, ident: str, task: Task, closes: bool) -> None:
        self.head = STREAM_HEAD.format(ident, CLOSE if closes else "").encode()
        self._ident = ident
        role = {"role": "assistant", "content": ""}
        self.head += chunk(self._event([{"index": 0, "delta": role, "finish_reason": None}]))
        self.after = b'"}\n\n\r\n'
        self.before = [self._token(word) for word in WORDS]
        end = self._event([{"index": 0, "delta": {}, "finish_reason": "length"}])
        self.end = chunk(end)
        if task.usage:
            self.end += chunk(self._event([], usage=usage(task.tokens)))
        self.end += chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"

    def _token(self, word: str) -> bytes:
        choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
        event = self._event([choice], sent_ns="")
        event = event[: -len(b'"}\n\n')]
        return b"%x\r\n" % (len(event) + 19 + len(b'"}\n\n')) + event

    def _event(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        return (
            b"data: "
            + json.dumps(
                {
                    "id": self._ident,
                    "object": "chat.completion.chunk",
                    "created": 1760000000,
                    "model": MODEL,
                    "choices": choices,
                    **more,
                },
                separators=(",", ":"),
            ).encode()
            + b"\n\n"
        )


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": 12, "completion_tokens": tokens, "total_tokens": 12 + tokens}


def whole_answer(ident: str, task: Task) -> dict[str, Any]:
    """The answer to a request that does not ask for a stream."""
    text = "".join(WORDS[n % len(WORDS)] for n in range(task.tokens))
    message = {"role": "assistant", "content": text}
    return {
        "id": ident,
        "object": "chat.completion",
        "created": 1760000000,
        "model": MODEL,
        "choices": [{"index": 0, "message": message, "finish_reason": "length"}],
        "usage": usage(task.tokens),
    }


def json_response(status: int, content: object, closes: bool = False) -> bytes:
    body = json.dumps(content, separators=(",", ":")).encode()
    head = f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\n{CLOSE if closes else ''}\r\n"
    return head.encode() + body


def models() -> dict[str, Any]:
    model = {"id": MODEL, "object": "model", "created": 1760000000, "owned_by": "reference"}
    return {"object": "list", "data": [model]}
