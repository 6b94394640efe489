"""From answers to records: what became of each request, in plain figures that can be saved."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from livecheck.core.text import shorten
from livecheck.wire import sse, wire

LARGEST = 1e12  # no true count or time is larger; beyond that sums lose their meaning
WORDS_LENGTH = 160
WORDS_BYTES = 4096  # in which the words are looked for
TAGS = re.compile(r"<(script|style|title)\b.*?</\1>|<[^>]*>", re.IGNORECASE | re.DOTALL)


def read_streams(replies: Sequence[wire.Reply]) -> list[sse.Stream]:
    """What the answers said as event streams, in the same order."""
    return [read_stream(reply) for reply in replies]


def read_stream(reply: wire.Reply) -> sse.Stream:
    flooded = reply.failure is not None and reply.failure.kind == "flood"
    body = b"" if flooded else reply.body  # 32 MB of tiny events would take long, to no use
    return sse.read_stream(reply.message.header("content-type"), body, reply.marks)


def make_records(
    replies: Sequence[wire.Reply], streams: Sequence[sse.Stream]
) -> list[dict[str, Any]]:
    """A flat record for each request, times in ms; `event_ms` counts from the request's begin."""
    begun = [begin_ns(reply) for reply in replies]
    start = min((each for each in begun if each is not None), default=0)
    return [make_record(each, stream, start) for each, stream in zip(replies, streams, strict=True)]


def begin_ns(reply: wire.Reply) -> int | None:
    """Where a request's times count from: when it was due, in a closed loop when it was sent."""
    return reply.t0_ns if reply.due_ns is None else reply.due_ns


def make_record(reply: wire.Reply, stream: sse.Stream, start_ns: int) -> dict[str, Any]:
    error = classify(reply, stream)
    begun = begin_ns(reply)
    t0 = begun if begun is not None else reply.end_ns or start_ns
    times = [ms(stamp - t0) for stamp in stream.output_ns]
    tokens, source = count_tokens(stream)
    usage, timings = stream.usage or {}, stream.timings or {}
    handshake = reply.handshake
    decode_ms = times[-1] - times[0] if len(times) > 1 else None
    steps = tokens - 1 if tokens and tokens > 1 and decode_ms else None
    return {
        "index": reply.index,
        **({} if reply.due_ns is None else {"due_ms": ms(reply.due_ns - start_ns)}),
        "status": reply.status,
        "error": error[0] if error else None,
        "error_text": error[1] if error else None,
        "excluded": is_rate_limit(reply) or bool(error and error[0] == "interrupted"),
        "sent_ms": ms(reply.t0_ns - start_ns) if reply.t0_ns is not None else None,
        "ended_ms": ms((reply.end_ns or t0) - start_ns),
        "ttft_ms": times[0] if times else None,
        "e2e_ms": ms(reply.end_ns - t0) if reply.end_ns and not error else None,
        "tpot_ms": round(decode_ms / steps, 4) if decode_ms and steps else None,
        "tokens_per_s": round(1e3 * steps / decode_ms, 3) if decode_ms and steps else None,
        "output_tokens": tokens,
        "token_source": source,
        "output_events": len(times),
        "prompt_tokens": number(usage.get("prompt_tokens")),
        "cached_tokens": cached_tokens(usage, timings),
        "finish_reason": stream.finish_reason,
        "connect_ms": ms(handshake.connect_ns) if handshake else None,
        "tls_ms": ms(handshake.tls_ns) if handshake and handshake.tls_ns is not None else None,
        "late_ms": ms(reply.late_ns) if reply.late_ns is not None else None,
        "retry_after_s": number(reply.message.header("retry-after")),
        "server_prompt_ms": number(timings.get("prompt_ms")),
        "server_predicted_ms": number(timings.get("predicted_ms")),
        "server_predicted_tokens": number(timings.get("predicted_n")),
        "server_tokens_per_s": server_rate(timings),
        "complaints": [f"{each.kind}: {each.text}" for each in complaints(reply, stream)],
        "event_ms": times,
    }


def ms(nanoseconds: float) -> float:
    return round(nanoseconds / 1e6, 4)


def number(value: object) -> float | None:
    """A server's figure as a number from 0 to 10^12, None for anything else it may have sent."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        figure = float(value) if isinstance(value, str) else value
    except ValueError:
        return None
    return figure if 0 <= figure <= LARGEST else None  # not NaN either


def count_tokens(stream: sse.Stream) -> tuple[int | None, str | None]:
    """Output tokens and where the count comes from: usage, else timings, else counted events."""
    for source, figures, key in (
        ("usage", stream.usage, "completion_tokens"),
        ("timings", stream.timings, "predicted_n"),
    ):
        count = number((figures or {}).get(key))
        if count is not None:
            return int(count), source
    return (len(stream.output_ns), "events") if stream.output_ns else (None, None)


def cached_tokens(usage: dict[str, Any], timings: dict[str, Any]) -> float | None:
    """Prompt tokens that the server took from its cache, if it says so."""
    details = usage.get("prompt_tokens_details")
    cached = number(details.get("cached_tokens")) if isinstance(details, dict) else None
    return cached if cached is not None else number(timings.get("cache_n"))


def server_rate(timings: dict[str, Any]) -> float | None:
    """The server's own decode rate, by our definition: its predicted_per_second has one more
    token in it than intervals."""
    count, spent_ms = number(timings.get("predicted_n")), number(timings.get("predicted_ms"))
    return round(1e3 * (count - 1) / spent_ms, 3) if count and count > 1 and spent_ms else None


# what of a stream's complaints means that the request failed, the first that applies
FATAL = {
    "error_event": "stream_error",
    "not_utf8": "malformed",
    "not_json": "malformed",
    "no_choices": "malformed",
    "cut_off": "truncated",
    "no_finish_reason": "truncated",
    "empty": "empty",
}


def classify(reply: wire.Reply, stream: sse.Stream) -> tuple[str, str] | None:
    """The kind of failure and the words for it, None for a success."""
    if reply.failure is not None:
        kind = {"tls": "connect"}.get(reply.failure.kind, reply.failure.kind)
        return kind, reply.failure.text
    status = reply.status or 0
    if status != 200:
        return status_kind(status), f"{status} {words(reply)}".strip()
    wrong = {each.kind: each.text for each in stream.complaints}
    if "content_type" in wrong and not stream.output_ns:
        return "malformed", f"200, but no event stream: {wrong['content_type']}"
    for kind, failure in FATAL.items():
        if kind in wrong:
            return failure, wrong[kind]
    return None


def status_kind(status: int) -> str:
    if status in (429, 503):
        return str(status)
    return f"{status // 100}xx"


def complaints(reply: wire.Reply, stream: sse.Stream) -> list[sse.Complaint]:
    """What was wrong with a stream that is usable all the same."""
    found = [each for each in stream.complaints if each.kind not in FATAL]
    if reply.unterminated:
        found.append(sse.Complaint("unterminated", "the message does not end after [DONE]"))
    return found


def words(reply: wire.Reply) -> str:
    """What the server said in an answer that is no success: one printable line, shortened."""
    location = reply.message.header("location")
    if location and reply.status and 300 <= reply.status < 400:
        target = reply.blotted(location.encode()).decode()
        return shorten(f"redirect to {target}", WORDS_LENGTH)
    try:
        content = json.loads(reply.body)
        error = content.get("error", content)
        text = str(error.get("message", error) if isinstance(error, dict) else error)
    except (ValueError, AttributeError, RecursionError):
        text = reply.body[:WORDS_BYTES].decode("utf-8", "replace")
        if text.lstrip().startswith("<"):  # a proxy's page
            text = TAGS.sub(" ", text).strip().removeprefix(f"{reply.status} ") or text
    return shorten(text, WORDS_LENGTH)


def is_ok(reply: wire.Reply) -> bool:
    """Whether there is a whole answer and it says 200."""
    return reply.status == 200 and reply.failure is None


def outcome(reply: wire.Reply, timed: bool = True) -> str:
    """One request in a few words; without its time, equal outcomes are equal."""
    if reply.failure:
        return f"{reply.failure.kind}: {reply.failure.text}"
    spent = (reply.end_ns or 0) - (reply.t0_ns or 0)
    said = f" {words(reply)}".rstrip() if reply.status != 200 else ""
    return f"{reply.status}{f' in {ms(spent):.1f} ms' if timed else ''}{said}"


def timed_out(reply: wire.Reply) -> bool:
    return reply.failure is not None and reply.failure.kind == "timeout"


def is_rate_limit(reply: wire.Reply) -> bool:
    return reply.status == 429 and b"rate_limit_exceeded" in reply.body


def counted_words(texts: Iterable[str]) -> str:
    """The most frequent of these texts, each once with its count."""
    return "; ".join(f"{text} (x{count})" for text, count in Counter(texts).most_common(3))
