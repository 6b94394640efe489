"""Reads server-sent events from a body and its arrival times, and says what was wrong with them.

This module takes bytes and times and returns records; it does not raise, whatever the bytes are.
It has two layers: `events` follows the WHATWG rules (HTML standard, section 9.2 "Server-sent
events") and does not know about models; `read_stream` reads the OpenAI-style chunks in the events.
Times are nanoseconds on the clock of the marks; offsets count bytes of the body.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from livecheck.core.text import LIMIT, encodable, shorten

_BOM = b"\xef\xbb\xbf"
# Only these end a line. str.splitlines() also splits at U+2028 and U+0085, which JSON may contain.
_LINE_END = re.compile(rb"\r\n?|\n")
# The end of a line, then an empty line. Without the look-ahead one CR LF would count as both.
_EMPTY_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n))(\r\n?|\n)")

# Every kind of complaint, in the order in which they are reported: causes before consequences.
KINDS = (
    "content_type",
    "error_event",
    "not_utf8",
    "not_json",
    "no_choices",
    "cut_off",
    "done_unended",
    "after_done",
    "no_done",
    "no_finish_reason",
    "empty",
)


class Event(NamedTuple):
    """One event that a client would be given ("dispatched" in the standard)."""

    data: bytes  # the data fields, joined with LF
    end: int  # offset just after the byte that completes the event: the first of its empty line
    time_ns: int  # when that byte arrived
    name: str  # event type


class Complaint(NamedTuple):
    """One thing that was wrong with a stream. `kind` is one of KINDS, `text` is for people."""

    kind: str
    text: str


# --- events


def events(body: bytes, marks: Sequence[tuple[int, int]] = ()) -> tuple[list[Event], bytes]:
    """All events of `body`, and the rest after the last empty line (an unfinished event, if any).

    `marks` are (body bytes arrived so far, time in ns), ascending. The time of an event is that of
    the first mark that reaches its end, or of the last mark if none does; without marks it is 0.
    """
    found: list[Event] = []
    arrivals = iter(marks)
    reached, time_ns = next(arrivals, (len(body), 0))
    start = len(_BOM) if body.startswith(_BOM) else 0
    for stop, end, after in _blocks(body, start):
        block = body[start:stop]
        start = after
        if not block:
            continue
        if block.startswith(b"data:") and b"\n" not in block and b"\r" not in block:
            data: bytes | None = block[6:] if block[5:6] == b" " else block[5:]
            name = "message"
        else:
            data, name = _fields(block)
        if data is None:
            continue
        while reached < end:
            reached, time_ns = next(arrivals, (len(body), time_ns))
        found.append(Event(data, end, time_ns, name))
    return found, body[start:]


def _blocks(body: bytes, start: int) -> Iterator[tuple[int, int, int]]:
    """For each run of lines: where it stops, its `Event.end`, and where the next run starts."""
    if b"\r" in body:
        for match in _EMPTY_LINE.finditer(body, start):
            yield match.start(), match.start(1) + 1, match.end()
        return
    stop = body.find(b"\n\n", start)  # without CR the same takes a fifth of the time
    while stop >= 0:
        yield stop, stop + 2, stop + 2
        stop = body.find(b"\n\n", stop + 2)


def _fields(block: bytes) -> tuple[bytes | None, str]:
    """Data and event type of a block of lines. Data is None when there is no data field: then the
    block is not an event."""
    data: list[bytes] = []
    name = b""
    for line in _LINE_END.split(block):
        key, _, value = line.partition(b":")
        if value[:1] == b" ":
            value = value[1:]
        if key == b"data":
            data.append(value)
        elif key == b"event":
            name = value
    return b"\n".join(data) if data else None, name.decode("utf-8", "replace") or "message"


# --- streams


@dataclass(slots=True)
class Stream:
    """What one streamed completion said, when it said it, and what was wrong with it."""

    events: int = 0  # all events, [DONE] included
    output_ns: list[int] = field(default_factory=list)  # arrival of each event that carries output
    output_ends: list[int] = field(default_factory=list)  # `Event.end` of the same events
    text: str = ""
    reasoning: str = ""
    usage: dict[str, Any] | None = None  # the last one sent
    timings: dict[str, Any] | None = None  # an extension of llama.cpp; the last one sent
    finish_reason: str | None = None  # the last one sent
    model: str | None = None
    fingerprint: str | None = None  # system_fingerprint: stands for the backend's configuration
    id: str | None = None
    done_ns: int | None = None  # arrival of [DONE]
    end_ns: int | None = None  # arrival of the last event
    error: str | None = None  # the server's words in its first error event, shortened
    # Each kind once, in the order of KINDS.
    complaints: list[Complaint] = field(default_factory=list)


def read_stream(
    content_type: str | None, body: bytes, marks: Sequence[tuple[int, int]] = ()
) -> Stream:
    """Read a streamed chat completion, or one of the legacy endpoint. `marks` as for `events`."""
    found, rest = events(body, marks)
    reader = _Reader()
    if not (content_type or "").strip().lower().startswith("text/event-stream"):
        reader.complain("content_type", f"Content-Type is {content_type or 'missing'}")
    for event in found:
        reader.read(event)
    reader.stream.events = len(found)
    reader.stream.end_ns = found[-1].time_ns if found else None
    if rest.strip() in (b"data: [DONE]", b"data:[DONE]"):
        reader.complain("done_unended", "[DONE] without the empty line that ends an event")
        reader.stream.done_ns = marks[-1][1] if marks else 0
    elif _unfinished(rest):
        reader.complain("cut_off", f"the stream ends inside an event: {_excerpt(rest)}")
    return reader.close()


def _unfinished(rest: bytes) -> bool:
    """Whether the rest has more than empty lines and comments."""
    return any(line and line[:1] != b":" for line in _LINE_END.split(rest))


class _Reader:
    """Collects a Stream, event by event."""

    __slots__ = ("_counts", "_examples", "_reasoning", "_text", "stream")

    def __init__(self) -> None:
        self.stream = Stream()
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._counts: dict[str, int] = {}
        self._examples: dict[str, str] = {}

    def complain(self, kind: str, example: str) -> None:
        """Count a complaint. Only the first example of each kind is kept."""
        self._counts[kind] = self._counts.get(kind, 0) + 1
        self._examples.setdefault(kind, example)

    def read(self, event: Event) -> None:
        stream = self.stream
        data = event.data
        if stream.done_ns is not None:
            self.complain("after_done", f"an event after [DONE]: {_excerpt(data)}")
        elif data[:1] != b"{" and data.strip() == b"[DONE]":
            stream.done_ns = event.time_ns
        elif (chunk := self._parse(event)) is not None:
            if event.name == "error" or chunk.get("error") not in (None, False, ""):
                self._note_error(_error_words(chunk))
            self._note_extras(chunk)
            if self._read_choices(chunk, event):
                stream.output_ns.append(event.time_ns)
                stream.output_ends.append(event.end)

    def _parse(self, event: Event) -> dict[str, Any] | None:
        """The event's JSON object, or None and a complaint."""
        try:
            text = event.data.decode()
        except UnicodeDecodeError:
            self.complain("not_utf8", f"an event is not UTF-8: {_excerpt(event.data)}")
            text = event.data.decode("utf-8", "replace")
        try:
            value = _decode(text)
        except (ValueError, RecursionError) as problem:
            value = None
            if event.name != "error":  # an error event often has plain text, not JSON
                why = shorten(str(problem), 60)
                self.complain("not_json", f"an event is not JSON ({why}): {_excerpt(event.data)}")
                return None
        if isinstance(value, dict):
            return value
        if event.name == "error":
            self._note_error(text)
        else:
            self.complain("no_choices", f"an event is not a JSON object: {_excerpt(event.data)}")
        return None

    def _note_error(self, words: str) -> None:
        words = shorten(words) or "(no message)"
        if self.stream.error is None:
            self.stream.error = words
        self.complain("error_event", f"the server sent an error inside the stream: {words}")

    def _note_extras(self, chunk: dict[str, Any]) -> None:
        stream = self.stream
        if isinstance(usage := chunk.get("usage"), dict):
            stream.usage = usage
        if isinstance(timings := chunk.get("timings"), dict):
            stream.timings = timings
        if stream.model is None and isinstance(model := chunk.get("model"), str):
            stream.model = encodable(model)
        if stream.fingerprint is None and isinstance(mark := chunk.get("system_fingerprint"), str):
            stream.fingerprint = encodable(mark)
        if stream.id is None and isinstance(ident := chunk.get("id"), str):
            stream.id = encodable(ident)

    def _read_choices(self, chunk: dict[str, Any], event: Event) -> bool:
        """Whether any choice of the chunk carries output.

        An empty list of choices is allowed: OpenAI sends one with `usage`.
        """
        choices = chunk.get("choices")
        if not isinstance(choices, list):
            if event.name == "error" or "error" in chunk:
                return False
            if chunk.get("object") == "error":  # older vLLM: the error is the chunk itself
                self._note_error(_error_words(chunk))
                return False
            self.complain("no_choices", f"a chunk without a choices list: {_excerpt(event.data)}")
            return False
        output = False
        for choice in choices:
            if isinstance(choice, dict):
                output |= self._read_choice(choice)
            else:
                self.complain("no_choices", f"a choice is not an object: {_excerpt(event.data)}")
        return output

    def _read_choice(self, choice: dict[str, Any]) -> bool:
        """Whether the choice carries output. A delta that has only a role does not."""
        if isinstance(reason := choice.get("finish_reason"), str):
            self.stream.finish_reason = encodable(reason)
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            return _append(self._text, choice.get("text"))  # the legacy completions endpoint
        output = _append(self._text, delta.get("content"))
        # Two names of the same field. Some servers send both, with the same text.
        for key in ("reasoning_content", "reasoning"):
            if _append(self._reasoning, delta.get(key)):
                return True
        return output or _has_tool_text(delta.get("tool_calls"))

    def close(self) -> Stream:
        """The finished stream, with the complaints that can be made only at its end."""
        stream = self.stream
        stream.text = encodable("".join(self._text))
        stream.reasoning = encodable("".join(self._reasoning))
        if stream.done_ns is None:
            self.complain("no_done", f"no [DONE] after {stream.events} events")
        if stream.finish_reason is None:
            self.complain("no_finish_reason", "no choice gave a finish_reason")
        if not stream.output_ns:
            self.complain("empty", f"none of {stream.events} events carried output")
        for kind in KINDS:
            if count := self._counts.get(kind):
                stream.complaints.append(Complaint(kind, _counted(self._examples[kind], count)))
        return stream


def _append(parts: list[str], text: object) -> bool:
    """Whether there is any text; then it is appended to the parts."""
    if not isinstance(text, str) or not text:
        return False
    parts.append(text)
    return True


def _has_tool_text(calls: object) -> bool:
    """Whether a tool_calls delta has a name or arguments. An id or an index is not output."""
    if not isinstance(calls, list):
        return False
    functions = [call.get("function") for call in calls if isinstance(call, dict)]
    texts = [f.get(key) for f in functions if isinstance(f, dict) for key in ("name", "arguments")]
    return any(isinstance(text, str) and text for text in texts)


def _error_words(chunk: dict[str, Any]) -> str:
    """What the server said: `error.message` as OpenAI sends it, or what comes closest to it."""
    error = chunk.get("error")
    said = error if error not in (None, False, "") else chunk
    if isinstance(said, dict):
        for key in ("message", "detail", "type", "code"):
            if isinstance(words := said.get(key), str) and words:
                return words
    return said if isinstance(said, str) else _dump(said)


def _dump(value: object) -> str:
    try:
        return json.dumps(value)
    except (ValueError, RecursionError):
        return f"a {type(value).__name__} too large to show"


# --- text


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")  # Python accepts NaN, other clients do not


_decode = json.JSONDecoder(parse_constant=_refuse).decode


def _excerpt(data: bytes) -> str:
    shown = shorten(data[: 4 * LIMIT].decode("utf-8", "replace"), 60)
    return repr(shown) if shown else "nothing"


def _counted(text: str, count: int) -> str:
    return shorten(text) if count == 1 else f"{shorten(text, LIMIT - 20)} ({count} times)"
