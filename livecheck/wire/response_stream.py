"""A stream of the Responses API, read as `sse.read_stream` reads one of chat completions.

What is said and when is the same `sse.Stream`, so that all figures are made of it alike; which
events may follow which is `responses.py`. Pure.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from livecheck.core.json_value import decode, pick
from livecheck.core.text import encodable, shorten
from livecheck.wire import responses, sse
from livecheck.wire.choice import Flood, size_of
from livecheck.wire.thinking import Thinking

PATH = "/responses"
MOST_EXAMPLE = 60  # bytes of an event that cannot be read, as it is shown


def is_response_path(path: str) -> bool:
    return path.endswith(PATH)


def read_stream(
    content_type: str | None, body: bytes, marks: Sequence[tuple[int, int]] = ()
) -> sse.Stream:
    """`marks` as for `sse.events`."""
    return sse.read_at_once(reading_steps(content_type, body, marks))


def reading_steps(
    content_type: str | None, body: bytes, marks: Sequence[tuple[int, int]] = ()
) -> Generator[None, None, sse.Stream]:
    """The same in small steps, for a program that has something more urgent to do in between."""
    reader = _Reader()
    if not (content_type or "").strip().lower().startswith("text/event-stream"):
        reader.complain("content_type", f"Content-Type is {content_type or 'missing'}")
    if max(body.count(b"\n"), body.count(b"\r")) > sse.MAX_LINES:
        reader.complain("flood", f"the stream has more than {sse.MAX_LINES:,} lines")
        return reader.close()
    reader.stream.comments = body.count(b"\n:") + body.startswith(b":")
    found = sse.Events(body, marks)
    try:
        for place, event in enumerate(found):
            if place % sse.EVENTS_AT_ONCE == 0:
                yield
            reader.read(event)
    except Flood as flood:
        reader.complain("flood", str(flood))
        return reader.close()
    rest = body[found.rest_at :]
    if rest.strip() and not rest.lstrip().startswith(b":"):
        reader.complain("cut_off", "the stream ends inside an event")
    return reader.close()


class _Reader:
    def __init__(self) -> None:
        self.stream = sse.Stream()
        self._told = responses.Reader()
        self._found: dict[str, str] = {}  # the first complaint of each kind
        self._text_left = sse.MAX_TEXT
        self._thoughts = 0  # events
        self._first_answer: int | None = None  # the place of its first output event

    def complain(self, kind: str, text: str) -> None:
        self._found.setdefault(kind, text)

    def read(self, event: sse.Event) -> None:
        stream = self.stream
        if stream.events == sse.MAX_EVENTS:
            raise Flood(f"the stream has more than {sse.MAX_EVENTS:,} events")
        stream.events += 1
        stream.end_ns = event.time_ns
        if event.data.strip() == b"[DONE]":  # of gateways that add what chat completions have
            stream.done_ns = event.time_ns
            return
        if (fields := self._fields(event.data)) is None:
            return
        said = self._told.read(fields)
        if isinstance(timings := fields.get("timings"), dict):
            stream.timings = timings
        if said.text:
            self._take(said, event)

    def _fields(self, data: bytes) -> dict[str, Any] | None:
        try:
            fields = decode(data.decode())
            if isinstance(fields, dict):
                return fields
            kind, what = "not_an_object", "a JSON object"
        except UnicodeDecodeError:
            kind, what = "not_utf8", "UTF-8"
        except ValueError:
            kind, what = "not_json", "JSON"
        begin = data[: 4 * MOST_EXAMPLE].decode("utf-8", "replace")
        self.complain(kind, f"an event is not {what}: {shorten(begin, MOST_EXAMPLE)!r}")
        return None

    def _take(self, said: responses.Said, event: sse.Event) -> None:
        stream, size = self.stream, size_of(said.text)
        self._text_left -= size + sse.PIECE_COST
        if self._text_left < 0:
            raise Flood(f"the stream has more than {sse.MAX_TEXT >> 20} MB of text")
        if said.kind == responses.THOUGHTS:
            self._thoughts += 1
        elif self._first_answer is None:
            self._first_answer = len(stream.output_ns)
        stream.output_ns.append(event.time_ns)
        stream.output_ends.append(event.end)
        stream.output_sizes.append(size)

    def close(self) -> sse.Stream:
        stream, told = self.stream, self._told
        if "flood" not in self._found:
            told.close()
        whole = told.whole
        stream.text = encodable(told.told(responses.TEXT))
        stream.reasoning = encodable(told.told(responses.THOUGHTS))
        stream.usage = responses.as_chat_usage(whole.usage) if whole else None
        stream.finish_reason = responses.finish_reason(told.end, whole, bool(told.calls))
        stream.error = told.error and shorten(told.error)
        created = told.created.get("response")
        stream.id, model = responses.text_of(created, "id"), responses.text_of(created, "model")
        model = model or (whole.model if whole else None)
        stream.id = encodable(stream.id[: sse.MAX_NAME]) if stream.id else None
        stream.model = encodable(model[: sse.MAX_NAME]) if model else None
        stream.models, stream.ids = [stream.model] if stream.model else [], int(bool(stream.id))
        if self._thoughts:
            size = size_of(stream.reasoning)
            stream.thinking = Thinking(self._first_answer, self._thoughts, size)
        self._complain_of_all()
        return stream

    def _complain_of_all(self) -> None:
        stream, told = self.stream, self._told
        if told.error:
            self.complain("error_event", f"an error in the stream: {shorten(told.error)}")
        elif told.end is None and "flood" not in self._found:
            self.complain("no_finish_reason", "there is no response.completed at the end")
        if not stream.output_ns and "flood" not in self._found:
            self.complain("empty", f"none of {stream.events} events carried output")
        stream.complaints = [
            sse.Complaint(kind, shorten(self._found[kind]))
            for kind in sse.KINDS
            if kind in self._found
        ]
        bare = [each.partition(" (")[0] for each in told.oddities]  # how often is no news
        for kind, texts in (("order", told.problems), ("bare_events", bare)):
            if texts:
                said = "; ".join(shorten(each) for each in texts[: sse.MOST_TEXTS])
                stream.form.append(sse.Complaint(kind, said))
        if pick(stream.usage, "completion_tokens") is None:
            stream.usage = None
