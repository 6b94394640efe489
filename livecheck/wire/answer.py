"""What became of a request: the one type for it, in every script.

An Answer reads the bytes and times of one reply. Each part is worked out when it is first asked
for, and only once: while requests run, that is nothing but the status. A request that got no answer
at all has an Answer as well, whose `failure` says why.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

from livecheck.core.json_value import pick
from livecheck.core.text import shorten
from livecheck.wire import sse
from livecheck.wire.wire import Failure, Handshake, Reply, Request

MAX_FIGURE = 1e12  # no true count or time is larger, and sums of larger ones lose their meaning
WORDS_LENGTH = 160  # characters of what a server said
WORDS_BYTES = 4096  # of a body, in which they are looked for
HEADER_LENGTH = 40  # characters of a header's value
TAGS = re.compile(r"<(script|style|title)\b.*?</\1>|<[^>]*>", re.IGNORECASE | re.DOTALL)
OUTPUT_FIELDS = ("content", "reasoning_content", "reasoning", "tool_calls")  # of a message

# A stream with one of these complaints did not succeed; the first that applies names the error.
FATAL = {
    "error_event": "stream_error",
    "not_utf8": "malformed",
    "not_json": "malformed",
    "no_choices": "malformed",
    "cut_off": "truncated",
    "no_finish_reason": "truncated",
    "empty": "empty",
}


def ms(nanoseconds: float) -> float:
    """Nanoseconds as milliseconds, to the tenth of a microsecond."""
    return round(nanoseconds / 1e6, 4)


def number(value: object) -> float | None:
    """A figure of a server's as a number from 0 to 10^12; None for anything else it may send."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        figure = float(value) if isinstance(value, str) else value
    except ValueError:
        return None
    return figure if 0 <= figure <= MAX_FIGURE else None  # NaN is not in that range either


class Completion(NamedTuple):
    """An answer read as a chat completion, streamed or not.

    `problem`: why it is not one, in one line. `is_hidden`: every token went into reasoning that the
    server counts and does not show.
    """

    model: str | None = None
    has_output: bool = False  # content, reasoning or a tool call
    problem: str | None = None
    fingerprint: str | None = None  # system_fingerprint
    is_hidden: bool = False


class Answer:
    """One request and what became of it. Times in ns are on the clock of `time.perf_counter_ns`."""

    def __init__(self, reply: Reply):
        self.reply = reply

    # what was asked

    @property
    def request(self) -> Request:
        return self.reply.request

    @property
    def path(self) -> str:
        """The path without its query."""
        return self.request.path.partition("?")[0]

    @property
    def wants_stream(self) -> bool:
        """Whether a stream was asked for, by a request that `chat.completion` made."""
        return self.request.headers.get("accept") == "text/event-stream"

    # what came

    @property
    def status(self) -> int | None:
        return self.reply.status

    @property
    def failure(self) -> Failure | None:
        """Why there is no whole answer; None when there is one, whatever its status."""
        return self.reply.failure

    @property
    def failure_kind(self) -> str | None:
        """The kind of failure when there is no whole answer."""
        return self.failure.kind if self.failure else None

    def header(self, name: str) -> str | None:
        """The value of a header as the server sent it: not for people before it is shortened."""
        return self.reply.message.header(name)

    def shown_header(self, name: str, limit: int = HEADER_LENGTH) -> str | None:
        """The value of a header for people and results; None when there is no such header."""
        value = self.header(name)
        return None if value is None else self.shown(value, limit)

    def shown(self, text: str, limit: int = HEADER_LENGTH) -> str:
        """A text of the server's: printable, of bounded length, without the credential."""
        masked = self.reply.masked(text.encode("latin-1", "replace")).decode("latin-1")
        return shorten(masked, limit)

    @property
    def content_type(self) -> str:
        """In lower case; empty when the server names none."""
        return (self.header("content-type") or "").lower()

    @property
    def body(self) -> bytes:
        return self.reply.body

    @cached_property
    def json(self) -> Any:
        """The body as JSON; None when it is not JSON."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    @cached_property
    def stream(self) -> sse.Stream:
        """The body read as an event stream."""
        # 32 MB of small events take long, and help nobody.
        body = b"" if self.failure_kind == "flood" else self.body
        return sse.read_stream(self.header("content-type"), body, self.reply.marks)

    # what it means

    @property
    def is_ok(self) -> bool:
        """Whether there is a whole answer with status 200."""
        return self.status == 200 and self.failure is None

    @property
    def timed_out(self) -> bool:
        return self.failure_kind == "timeout"

    @property
    def is_costly(self) -> bool:
        """Whether the server was silent or did not stop sending: once is enough of that."""
        return self.failure_kind in ("timeout", "flood")

    @property
    def is_unreachable(self) -> bool:
        """No connection, or one that was closed without a byte: no HTTP server is there."""
        return self.failure_kind in ("connect", "tls") or self.is_closed_at_once

    @property
    def is_closed_at_once(self) -> bool:
        """Whether the connection was closed without a byte."""
        return self.failure_kind == "truncated" and not self.reply.reads

    @property
    def is_excluded(self) -> bool:
        """Whether it says nothing of the deployment: a reached rate limit, an interruption."""
        return self.is_rate_limited or self.failure_kind == "interrupted"

    @property
    def is_rate_limited(self) -> bool:
        """Whether the rate limiter of the key answered, in the form of the GGUF gateway."""
        return self.status == 429 and b"rate_limit_exceeded" in self.body

    @property
    def is_denied(self) -> bool:
        """Permission refused: a 403, or the fleet's own 400 that says so."""
        if self.failure is not None:
            return False
        says_so = self.status == 400 and b"permission" in self.body[:2000].lower()
        return self.status == 403 or says_so

    @cached_property
    def words(self) -> str:
        """What the server said in an answer that is not a success: one printable line."""
        location = self.header("location")
        if location and self.status and 300 <= self.status < 400:
            target = self.reply.masked(location.encode()).decode()
            return shorten(f"redirect to {target}", WORDS_LENGTH)
        if isinstance(self.json, dict):
            error = self.json.get("error", self.json)
            text = str(error.get("message", error) if isinstance(error, dict) else error)
            return shorten(text, WORDS_LENGTH)
        text = self.body[:WORDS_BYTES].decode("utf-8", "replace")
        if text.lstrip().startswith("<"):  # a web page, as proxies send
            text = TAGS.sub(" ", text).strip().removeprefix(f"{self.status} ") or text
        return shorten(text, WORDS_LENGTH)

    def outcome(self, timed: bool = False) -> str:
        """The answer in a few words: `503 in 4.0 ms Server busy`. Untimed, equal ones are equal."""
        if self.failure:
            return f"{self.failure.kind}: {self.failure.text}"
        spent = f" in {self.spent_ms or 0.0:.1f} ms" if timed else ""
        said = f" {self.words}".rstrip() if self.status != 200 else ""
        return f"{self.status}{spent}{said}"

    # as a completion

    @cached_property
    def stream_error(self) -> Failure | None:
        """Why the streamed completion that was asked for did not succeed; None when it did.

        Kinds: those of `Failure` but `tls` (which is `connect`), `429`, `503`, `4xx`, `5xx` and so
        on, `malformed`, `truncated`, `stream_error`, `empty`.
        """
        if self.failure is not None:
            kind = "connect" if self.failure.kind == "tls" else self.failure.kind
            return Failure(kind, self.failure.text)
        status = self.status or 0
        if status != 200:
            return Failure(status_kind(status), f"{status} {self.words}".strip())
        wrong = {each.kind: each.text for each in self.stream.complaints}
        if "content_type" in wrong and not self.stream.output_ns:
            return Failure("malformed", f"200, but no event stream: {wrong['content_type']}")
        found = next((kind for kind in FATAL if kind in wrong), None)
        return None if found is None else Failure(FATAL[found], wrong[found])

    @property
    def complaints(self) -> list[sse.Complaint]:
        """What was wrong with a stream that can be used all the same."""
        found = [each for each in self.stream.complaints if each.kind not in FATAL]
        if self.reply.unterminated:
            found.append(sse.Complaint("unterminated", "the message does not end after [DONE]"))
        return found

    @property
    def is_stream(self) -> bool:
        """Whether to read it as a stream: one was asked for, and the answer is not JSON.

        Some servers ignore `stream` and send the whole answer as JSON.
        """
        return self.wants_stream and "json" not in self.content_type

    @cached_property
    def completion(self) -> Completion:
        """The answer as a chat completion, in whichever of the two forms it came."""
        if not self.is_ok:
            return Completion(problem=self.outcome())
        found = self._streamed_completion() if self.is_stream else self._whole_completion()
        if found.problem is None and not found.has_output:
            return found._replace(problem="200, but without content")
        return found

    def _streamed_completion(self) -> Completion:
        stream, error = self.stream, self.stream_error
        is_hidden = not stream.output_ns and used_up(stream.finish_reason, stream.usage)
        has_output = bool(stream.output_ns) or is_hidden
        problem = error.text if error and not (is_hidden and error.kind == "empty") else None
        return Completion(stream.model, has_output, problem, stream.fingerprint, is_hidden)

    def _whole_completion(self) -> Completion:
        content, choice = self.json, pick(self.json, "choices", 0)
        message = pick(choice, "message")
        if not isinstance(message, dict):
            return Completion(problem=f"200, but no chat completion: {self.words or 'nothing'}")
        pieces = [message.get(name) for name in OUTPUT_FIELDS]
        cut = used_up(choice.get("finish_reason"), content.get("usage"))
        is_hidden = cut and not any(pieces)
        model, mark = text_or_none(content.get("model")), content.get("system_fingerprint")
        return Completion(model, any(pieces) or is_hidden, None, text_or_none(mark), is_hidden)

    # times

    @property
    def handshake(self) -> Handshake | None:
        """What connecting took, for the request that opened a connection."""
        return self.reply.handshake

    @property
    def sent_ns(self) -> int | None:
        return self.reply.t0_ns

    @property
    def ended_ns(self) -> int | None:
        return self.reply.end_ns

    @property
    def begun_ns(self) -> int | None:
        """Where its times count from: when it was sent; in an open loop, when it was due."""
        return self.reply.t0_ns if self.reply.due_ns is None else self.reply.due_ns

    @property
    def first_output_ns(self) -> int | None:
        """Arrival of the first event that carries output."""
        return self.stream.output_ns[0] if self.stream.output_ns else None

    @property
    def first_output_ms(self) -> float | None:
        """From sending to the first event that carries output."""
        sent, first = self.sent_ns, self.first_output_ns
        return ms(first - sent) if sent is not None and first is not None else None

    @property
    def spent_ms(self) -> float | None:
        """From sending to the end of the answer, of a request that was sent and has ended."""
        sent, ended = self.sent_ns, self.ended_ns
        return ms(ended - sent) if sent is not None and ended is not None else None

    @property
    def answer_ms(self) -> float | None:
        """`spent_ms` of a whole answer."""
        return None if self.failure else self.spent_ms

    @property
    def first_byte_ms(self) -> float | None:
        """From sending to the first byte of the answer."""
        sent, first = self.sent_ns, self.reply.first_byte_ns
        return ms(first - sent) if sent is not None and first is not None else None

    @property
    def retry_after_s(self) -> float | None:
        """Retry-After as a number of seconds; None when it is missing or not a number."""
        return number(self.header("retry-after"))

    # as it is saved

    def record(self, start_ns: int) -> dict[str, Any]:
        """The answer as a flat record, times in ms: `sent_ms` and `ended_ms` from `start_ns` on,
        the others (`event_ms` as well) from the beginning of the request."""
        error, stream, reply = self.stream_error, self.stream, self.reply
        begun = self.begun_ns
        zero = begun if begun is not None else reply.end_ns or start_ns
        times = [ms(stamp - zero) for stamp in stream.output_ns]
        due = {} if reply.due_ns is None else {"due_ms": ms(reply.due_ns - start_ns)}
        return {
            "index": reply.index,
            **due,
            "status": self.status,
            "error": error.kind if error else None,
            "error_text": error.text if error else None,
            "excluded": self.is_excluded,
            "sent_ms": ms(reply.t0_ns - start_ns) if reply.t0_ns is not None else None,
            "ended_ms": ms((reply.end_ns or zero) - start_ns),
            "ttft_ms": times[0] if times else None,
            "e2e_ms": ms(reply.end_ns - zero) if reply.end_ns and not error else None,
            **decode_figures(stream, times),
            "finish_reason": stream.finish_reason,
            **handshake_figures(reply.handshake),
            "late_ms": ms(reply.late_ns) if reply.late_ns is not None else None,
            "retry_after_s": self.retry_after_s,
            **server_figures(stream.timings or {}),
            "complaints": [f"{each.kind}: {each.text}" for each in self.complaints],
            "event_ms": times,
        }


def records(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """A record for each answer; the time at which the first request began is 0."""
    begun = [answer.begun_ns for answer in answers]
    start_ns = min((each for each in begun if each is not None), default=0)
    return [answer.record(start_ns) for answer in answers]


def status_kind(status: int) -> str:
    """The kind of error that a status stands for: `429`, `503`, `4xx` …"""
    return str(status) if status in (429, 503) else f"{status // 100}xx"


def text_or_none(value: object) -> str | None:
    """A text that is not empty; None for anything else that a server may send in its place."""
    return value if isinstance(value, str) and value else None


def used_up(finish_reason: object, usage: object) -> bool:
    """Whether an answer ended at max_tokens, and the server counted tokens for it."""
    return finish_reason == "length" and bool(number(pick(usage, "completion_tokens")))


# --- the figures of a record


def decode_figures(stream: sse.Stream, times_ms: Sequence[float]) -> dict[str, Any]:
    """Tokens, and how fast they came: `times_ms` are the arrivals of the output events."""
    tokens, source = count_tokens(stream)
    usage, timings = stream.usage or {}, stream.timings or {}
    decode_ms = times_ms[-1] - times_ms[0] if len(times_ms) > 1 else None
    steps = tokens - 1 if tokens and tokens > 1 and decode_ms else None
    return {
        "tpot_ms": round(decode_ms / steps, 4) if decode_ms and steps else None,
        "tokens_per_s": round(1e3 * steps / decode_ms, 3) if decode_ms and steps else None,
        "output_tokens": tokens,
        "token_source": source,
        "output_events": len(times_ms),
        "prompt_tokens": number(usage.get("prompt_tokens")),
        "cached_tokens": cached_tokens(usage, timings),
    }


def count_tokens(stream: sse.Stream) -> tuple[int | None, str | None]:
    """Output tokens and where the count comes from: usage, else timings, else counted events."""
    if (count := number(pick(stream.usage, "completion_tokens"))) is not None:
        return int(count), "usage"
    if (count := number(pick(stream.timings, "predicted_n"))) is not None:
        return int(count), "timings"
    return (len(stream.output_ns), "events") if stream.output_ns else (None, None)


def cached_tokens(usage: dict[str, Any], timings: dict[str, Any]) -> float | None:
    """Prompt tokens that the server took from its cache, if it says so."""
    cached = number(pick(usage, "prompt_tokens_details", "cached_tokens"))
    return cached if cached is not None else number(timings.get("cache_n"))


def handshake_figures(handshake: Handshake | None) -> dict[str, Any]:
    tls_ns = handshake.tls_ns if handshake else None
    return {
        "connect_ms": ms(handshake.connect_ns) if handshake else None,
        "tls_ms": ms(tls_ns) if tls_ns is not None else None,
    }


def server_figures(timings: dict[str, Any]) -> dict[str, Any]:
    """What llama.cpp says of its own work. Its predicted_per_second counts one token more than
    there are intervals, so the rate is worked out anew, by our definition."""
    count, spent_ms = number(timings.get("predicted_n")), number(timings.get("predicted_ms"))
    steps = count - 1 if count and count > 1 and spent_ms else None
    return {
        "server_prompt_ms": number(timings.get("prompt_ms")),
        "server_predicted_ms": spent_ms,
        "server_predicted_tokens": count,
        "server_tokens_per_s": round(1e3 * steps / spent_ms, 3) if steps and spent_ms else None,
    }
