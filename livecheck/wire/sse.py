"""Reads server-sent events from a body and its arrival times, and says what was wrong with them.

This module takes bytes and times and returns records; it does not raise, whatever the bytes are.
It has two layers: `events` follows the WHATWG rules (HTML standard, section 9.2 "Server-sent
events") and does not know about models; `read_stream` reads the OpenAI-style chunks in the events.
Times are nanoseconds on the clock of the marks; offsets count bytes of the body.
"""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import (
    Generator,
    Iterator,
    Mapping,
    MutableSequence,
    Sequence,
)
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from typing import Any, NamedTuple

from livecheck.core.json_value import MAX_JSON_BYTES, decode, number, pick
from livecheck.core.late_pattern import late_pattern
from livecheck.core.text import LIMIT, encodable, shorten
from livecheck.wire import chunk_form, progress
from livecheck.wire.alike import Alike, Patterns, Run
from livecheck.wire.beginning import Beginning
from livecheck.wire.choice import MOST_PARTS, Choice, Flood, index_of
from livecheck.wire.chunk_ids import Ids
from livecheck.wire.error_words import error_in_place_of_completion, words_of, words_of_text
from livecheck.wire.http1 import Marks
from livecheck.wire.thinking import Thinking, read_thinking

_BOM = b"\xef\xbb\xbf"
# Only these end a line. str.splitlines() also splits at U+2028 and U+0085, which JSON may contain.
_LINE_END = late_pattern(rb"\r\n?|\n")
# The end of a line, then an empty line. Without the look-ahead one CR LF would count as both.
_EMPTY_LINE = late_pattern(rb"(?:\r\n|\n|\r(?!\n))(\r\n?|\n)")
# llama.cpp's server has sent its errors in a field of this name, which is none of the standard's.
_ERROR_LINE = late_pattern(rb"(?m)^error: ?\S.{0,2000}")
# In the rest of a stream: the first byte of a line that is neither empty nor a comment
_STARTED_LINE = late_pattern(rb"(?:\A|[\r\n])[^:\r\n]")

# What a stream may have; more is a flood, and not read to its end. An answer of 128,000 tokens has
# one event for each and up to four lines in an event; to read all that takes a few seconds.
MAX_EVENTS = 160_000
MAX_LINES = 4 * MAX_EVENTS
MAX_TEXT = 4 << 20  # characters of all text, each piece of it with PIECE_COST more
PIECE_COST = 16
CUT_BYTES = MAX_JSON_BYTES + 16  # of the lines of an event; more of them are not even copied
MAX_NAME = 500  # characters of an id, a model's name or a finish reason that are looked at
MOST_MODELS = 50  # different names of models that are kept
MOST_NOTES = 20_000  # findings about the form of chunks; after so many, it is not looked at
_PATTERNS = Patterns()  # of all streams of this run

# Every kind of complaint, in the order in which they are reported: causes before consequences.
KINDS = (
    "flood",
    "content_type",
    "error_event",
    "not_utf8",
    "not_json",
    "not_an_object",
    "given_up",
    "no_choices",
    "cut_off",
    "done_unended",
    "after_done",
    "no_done",
    "no_finish_reason",
    "empty",
)
# Every kind of finding about the form of chunks; a stream with these can be read all the same.
FORM_KINDS = (
    "said_twice",
    "early_finish",
    "finish_changes",
    "form",
    "ids",
    "model_changes",
    "finish_dialect",
    "finish_repeated",
    "done_repeated",
    "same_thoughts",
    "named_chunk",
    "foreign_event",
    "lost_characters",
    "progress",
    # of the Responses API
    "order",
    "bare_events",
)
# Of both: what an operator may want to know, although no client fails that keeps to the standards.
# All other kinds are breaches of the protocol: clients lose text, fail on it, or wait for ever.
ODDITIES = (
    *("model_changes", "finish_dialect", "finish_repeated", "done_repeated", "same_thoughts"),
    *("named_chunk", "foreign_event", "lost_characters", "progress", "bare_events"),
)
LOST = "\ufffd"  # stands where a character could not be decoded
EVENTS_AT_ONCE = 32  # in one of the steps of a reading: less than 1 ms
MOST_MISSES = 8  # of patterns in a row: then this stream is read without them
MOST_TEXTS = 3  # of one kind of finding


class Event(NamedTuple):
    """One event that a client would be given ("dispatched" in the standard)."""

    data: bytes  # the data fields, joined with LF; of one of more than 1 MB its beginning
    end: int  # offset just after the byte that completes the event: the first of its empty line
    time_ns: int  # when that byte arrived
    name: str  # event type


class Complaint(NamedTuple):
    """One thing that was wrong with a stream. `kind` is one of KINDS or of FORM_KINDS, `text` is
    for people."""

    kind: str
    text: str


# --- events


def events(body: bytes, marks: Sequence[tuple[int, int]] = ()) -> tuple[list[Event], bytes]:
    """All events of `body`, and the rest after the last empty line (an unfinished event, if any).

    `marks` are (body bytes arrived so far, time in ns), ascending. The time of an event is that of
    the first mark that reaches its end, or of the last mark if none does; without marks it is 0.
    """
    read = Events(body, marks)
    return list(read), body[read.rest_at :]


class Events:
    """The events of a body, one by one. `rest_at`: where the part after the last empty line begins,
    once they have all been taken; before that, where the next event begins."""

    def __init__(self, body: bytes, marks: Sequence[tuple[int, int]]) -> None:
        self._body = body
        self._marks = marks if isinstance(marks, Marks) else Marks(marks)
        self.rest_at = len(_BOM) if body.startswith(_BOM) else 0
        self._place = 0  # of the mark that reached the event before
        self.comments = 0  # in what was taken
        self.has_cr = b"\r" in body
        self._matches = _EMPTY_LINE.finditer(body, self.rest_at) if self.has_cr else iter(())

    def __iter__(self) -> Iterator[Event]:
        body = self._body
        while block := self._next_block():
            start, stop, end = block
            lines = body[start : min(stop, start + CUT_BYTES)]
            if not lines:
                continue
            self.comments += _comments(lines if len(lines) == stop - start else body[start:stop])
            if lines.startswith(b"data:") and b"\n" not in lines and b"\r" not in lines:
                data: bytes | None = lines[6:] if lines[5:6] == b" " else lines[5:]
                name = "message"
            else:
                data, name = _fields(lines)
            if data is None:
                continue
            if len(lines) == CUT_BYTES and len(data) <= MAX_JSON_BYTES:
                data = lines  # so that it is as large as it was, and nobody reads what was cut
            (time_ns,), self._place = self._marks.reaching((end,), self._place)
            yield Event(data, end, time_ns, name)

    def skip(self, ends: Sequence[int]) -> list[int]:
        """The times of the next events, which end there: these are not given one by one."""
        self.rest_at = ends[-1]
        found, self._place = self._marks.reaching(ends, self._place)
        return found

    def _next_block(self) -> tuple[int, int, int] | None:
        """Where the next run of lines begins and stops, and its `Event.end`."""
        start = self.rest_at
        if self.has_cr:
            match = next(self._matches, None)
            if match is None:
                return None
            self.rest_at = match.end()
            return start, match.start(), match.start(1) + 1
        stop = self._body.find(b"\n\n", start)  # without CR the same takes a fifth of the time
        if stop < 0:
            return None
        self.rest_at = stop + 2
        return start, stop, stop + 2


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


def _comments(lines: bytes) -> int:
    """How many lines are comments: they begin with a colon."""
    return lines.count(b"\n:") + lines.count(b"\r:") + lines.startswith(b":")


# --- streams


@dataclass(slots=True)
class Stream:
    """What one streamed completion said, when it said it, and what was wrong with it."""

    events: int = 0  # all events, [DONE] included
    comments: int = 0  # lines that say nothing, but keep the connection from being silent
    # Events at the beginning that only told of progress, and what they told. They are in nothing of
    # what follows: they are not output.
    progress: int = 0
    progress_text: str = ""
    output_ns: MutableSequence[int] = field(
        default_factory=list
    )  # arrival of each event that carries output
    output_ends: list[int] = field(default_factory=list)  # `Event.end` of the same events
    output_sizes: list[int] = field(default_factory=list)  # bytes of text in the same events
    text: str = ""
    reasoning: str = ""
    thinking: Thinking | None = None  # where the answer begins behind its thoughts
    usage: dict[str, Any] | None = None  # the last one sent
    timings: dict[str, Any] | None = None  # an extension of llama.cpp; the last one sent
    finish_reason: str | None = None  # the last one sent
    model: str | None = None
    fingerprint: str | None = None  # system_fingerprint: stands for the backend's configuration
    id: str | None = None
    # All names of models and how many ids its chunks have, but for those that tell of progress.
    models: list[str] = field(default_factory=list)
    ids: int = 0
    done_ns: int | None = None  # arrival of [DONE]
    end_ns: int | None = None  # arrival of the last event
    error: str | None = None  # the server's words in its first error event, shortened
    # Each kind once, in the order of KINDS.
    complaints: list[Complaint] = field(default_factory=list)
    form: list[Complaint] = field(default_factory=list)  # the same for FORM_KINDS


def condense(stream: Stream) -> None:
    """Let go of all that only figures are made of; of the times of the output the first stays."""
    stream.output_ns = array("q", stream.output_ns[:1])
    stream.output_ends, stream.output_sizes = [], []
    stream.text = stream.reasoning = ""
    stream.usage = stream.timings = None


def read_stream(
    content_type: str | None, body: bytes, marks: Sequence[tuple[int, int]] = ()
) -> Stream:
    """Read a streamed chat completion, or one of the legacy endpoint. `marks` as for `events`."""
    return read_at_once(reading_steps(content_type, body, marks))


def read_at_once(steps: Generator[None, None, Stream]) -> Stream:
    """All steps of a reading, one after the other."""
    while True:
        try:
            next(steps)
        except StopIteration as ended:
            stream: Stream = ended.value
            return stream


def reading_steps(
    content_type: str | None, body: bytes, marks: Sequence[tuple[int, int]] = ()
) -> Generator[None, None, Stream]:
    """The same in small steps, for a program that has something more urgent to do in between."""
    reader = _Reader()
    if not (content_type or "").strip().lower().startswith("text/event-stream"):
        reader.complain("content_type", f"Content-Type is {content_type or 'missing'}")
    found = Events(body, marks)
    if len(body) > MAX_LINES and max(body.count(b"\n"), body.count(b"\r")) > MAX_LINES:
        reader.complain("flood", f"the stream has more than {MAX_LINES:,} lines")
        return reader.close()
    try:
        for place, event in enumerate(found):
            if place % EVENTS_AT_ONCE == 0:
                yield
            reader.read(event)
            while not found.has_cr and reader.read_alike(body, found):
                yield
    except Flood as flood:
        reader.stream.comments = _comments(body)
        reader.complain("flood", str(flood))
        return reader.close()
    if reader.stream.finish_reason is None and (line := _ERROR_LINE.search(body)):
        said = words_of_text(line[0].decode("utf-8", "replace"))
        reader.doubtful_words = reader.doubtful_words or said
    rest = body[found.rest_at :]
    reader.stream.comments = found.comments + _comments(rest)
    if rest.strip() in (b"data: [DONE]", b"data:[DONE]"):
        reader.complain("done_unended", "[DONE] without the empty line that ends an event")
        reader.stream.done_ns = marks[-1][1] if marks else 0
    elif _STARTED_LINE.search(rest):  # more than empty lines and comments
        reader.complain("cut_off", "the stream ends inside an event", rest)
    return reader.close()


def read_chunks(chunks: Sequence[Mapping[str, Any]], times_ns: Sequence[int] = ()) -> Stream:
    """The same of chunks that another client has read, and when: what is wrong with their events is
    not known then, and `no_done` means nothing."""
    reader = _Reader()
    try:
        for chunk, time_ns in zip_longest(chunks, times_ns[: len(chunks)], fillvalue=0):
            if isinstance(chunk, Mapping):
                reader.read(Event(_as_data(chunk), 0, time_ns, "message"))
    except Flood as flood:
        reader.complain("flood", str(flood))
    reader.stream.events = len(chunks)
    reader.stream.end_ns = times_ns[-1] if times_ns else None
    return reader.close()


def _as_data(chunk: Mapping[str, Any]) -> bytes:
    """A chunk as the data of an event; nothing of one that is nested too deeply."""
    try:
        return json.dumps(chunk, default=str).encode()
    except (ValueError, RecursionError):
        return b""


class _Reader:
    """Collects a Stream, event by event."""

    __slots__ = (
        "_beginning",
        "_choices",
        "_counts",
        "_examples",
        "_foreign_ids",
        "_form",
        "_ids",
        "_last_id",
        "_misses",
        "_models",
        "_notes",
        "_plain",
        "_reasoning",
        "_text",
        "_text_left",
        "doubtful_words",
        "stream",
    )

    def __init__(self) -> None:
        self.stream = Stream()
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._choices: dict[int, Choice] = {}  # by index
        self._counts: dict[str, int] = {}
        self._examples: dict[str, str] = {}
        self._form: dict[str, Counter[str]] = {}  # for each of FORM_KINDS: texts and how often
        self._notes = 0  # how often in all
        self._text_left = MAX_TEXT
        self._ids = Ids()
        self._last_id = ""  # of the last chunk that has one and a choice: the model's own
        self._foreign_ids: set[str] = set()  # of chunks that only tell of progress
        self._models: dict[str, None] = {}  # in their order
        self.doubtful_words = ""  # what may be about an error, if the stream does not end well
        self._plain: tuple[bytes, dict[str, Any]] | None = None  # the chunk with output just read
        self._misses = 0  # times in a row that no pattern matched
        self._beginning = Beginning()

    def complain(self, kind: str, example: str, data: bytes | None = None) -> None:
        """Count a complaint. Only the first example of each kind is kept, with the beginning of the
        data that it is about."""
        count = self._counts.get(kind, 0)
        self._counts[kind] = count + 1
        if not count:
            self._examples[kind] = example if data is None else f"{example}: {_excerpt(data)}"

    def _note_form(self, kind: str, text: str) -> None:
        self._notes += 1
        self._form.setdefault(kind, Counter())[text] += 1

    def read_alike(self, body: bytes, events: Events) -> bool:
        """Take in the next events, if they differ in nothing but their text from one that was read
        before, by `read` or in another stream; whether there was one. What is kept is what `read`
        would keep of them."""
        if self._misses == MOST_MISSES or self.stream.done_ns is not None:
            return False
        if self._plain is None and not self.stream.output_ns:
            return False  # a stream without output is not read in a hurry
        found = _PATTERNS.run(body, events.rest_at)
        if found is None and self._plain is not None:
            _PATTERNS.learn(*self._plain)
            found = _PATTERNS.run(body, events.rest_at)
        self._plain = None
        if found and self._take_run(*found, events):
            self._misses = 0
            return True
        self._misses += 1
        return False

    def _take_run(self, alike: Alike, ident: str, run: Run, events: Events) -> bool:
        stream, choice = self.stream, self._choices.get(alike.index)
        count = len(run.ends)
        cost = sum(run.sizes) + PIECE_COST * count
        is_too_much = stream.events + count > MAX_EVENTS or cost > self._text_left
        if choice is None or is_too_much:  # `read` says what becomes of it
            return False
        times_ns = events.skip(run.ends)
        self._text_left -= cost
        stream.events += count
        stream.end_ns = times_ns[-1]
        stream.output_ns.extend(times_ns)
        stream.output_ends.extend(run.ends)
        stream.output_sizes.extend(run.sizes)
        self._note_extras({**alike.example, "id": ident})
        self._ids.add_alike(ident, count)
        self._last_id = ident
        sender = ident, alike.example["model"]
        before = len(self._text), len(self._reasoning)
        self._beginning.add_alike(times_ns, run.texts, sender, alike.is_thought, before)
        (self._reasoning if alike.is_thought else self._text).extend(run.texts)
        choice.read_alike(run.texts, alike.is_thought)
        return True

    def read(self, event: Event) -> None:
        """Take in the next event. Raises Flood when the stream has more than it may have."""
        stream = self.stream
        data = event.data
        if stream.events == MAX_EVENTS:
            raise Flood(f"the stream has more than {MAX_EVENTS:,} events")
        stream.events += 1
        stream.end_ns = event.time_ns
        if event.name not in ("message", "error") and self._is_foreign(event):
            return
        if stream.done_ns is not None and data.strip() == b"[DONE]":
            self._note_form("done_repeated", "[DONE] comes again")
        elif stream.done_ns is not None:
            self.complain("after_done", "an event after [DONE]", data)
        elif data[:1] != b"{" and data.strip() == b"[DONE]":
            stream.done_ns = event.time_ns
        elif (chunk := self._parse(event)) is not None:
            if event.name == "error" or chunk.get("error") not in (None, False, ""):
                self._note_error(chunk)
            self._note_extras(chunk)
            problems = self._note_chunk(chunk) if _may_be_chunk(chunk, event) else []
            if size := self._read_choices(chunk, event):
                stream.output_ns.append(event.time_ns)
                stream.output_ends.append(event.end)
                stream.output_sizes.append(size)
                if event.name == "message" and self._misses < MOST_MISSES:
                    self._plain = data, chunk
                if self._beginning.has_room:
                    parts = len(self._text), len(self._reasoning)
                    self._beginning.add(progress.said_in(chunk, event.time_ns), problems, parts)

    def _is_foreign(self, event: Event) -> bool:
        """Whether an event with a name of its own is not a part of the completion.

        Clients of the standard give such an event to those who asked for its name. The SDKs of
        OpenAI do not look at the name: for them a chunk, an error or [DONE] is what it is.
        """
        try:
            value = decode(event.data.decode(), allow_nan=False)
        except ValueError:
            value = None
        is_chunk = isinstance(value, dict) and isinstance(value.get("choices"), list)
        if is_chunk or event.data.strip() == b"[DONE]":
            if self._notes < MOST_NOTES:
                name = repr(shorten(event.name, 40))
                self._note_form("named_chunk", f"a chunk is an event of the name {name}")
            return False
        if isinstance(value, dict) and value.get("error") not in (None, False, ""):
            return False
        if self._notes < MOST_NOTES:
            name = repr(shorten(event.name, 40))
            self._note_form("foreign_event", f"an event of the name {name} is not a chunk")
        return True

    def _parse(self, event: Event) -> dict[str, Any] | None:
        """The event's JSON object, or None and a complaint."""
        if len(event.data) > MAX_JSON_BYTES:
            size = f"more than {MAX_JSON_BYTES >> 20} MB"
            self.complain("not_json", f"an event of {size} is not read", event.data)
            return None
        try:
            text = event.data.decode()
        except UnicodeDecodeError:
            self.complain("not_utf8", "an event is not UTF-8", event.data)
            text = event.data.decode("utf-8", "replace")
        try:
            value = decode(text, allow_nan=False)
        except ValueError as problem:
            value = None
            if event.name != "error":  # an error event often has plain text, not JSON
                self.complain("not_json", f"an event is not JSON ({problem})", event.data)
                return None
        if isinstance(value, dict):
            return value
        if event.name == "error":
            self._note_error(text)
        else:
            self.complain("not_an_object", "an event is not a JSON object", event.data)
        return None

    def _note_error(self, said: str | dict[str, Any]) -> None:
        """`said`: the server's words, or the chunk that has them."""
        if self.stream.error is None:  # else the words are not needed
            words = _error_words(said) if isinstance(said, dict) else said
            self.stream.error = shorten(words) or "(no message)"
        words = self.stream.error
        self.complain("error_event", f"the server sent an error inside the stream: {words}")

    def _note_extras(self, chunk: dict[str, Any]) -> None:
        stream = self.stream
        if isinstance(usage := chunk.get("usage"), dict):
            stream.usage = usage
        if isinstance(timings := chunk.get("timings"), dict):
            stream.timings = timings
        if isinstance(model := chunk.get("model"), str) and model:
            if len(self._models) < MOST_MODELS:
                self._models[model[:MAX_NAME]] = None
            if stream.model is None:
                stream.model = encodable(model[:MAX_NAME])
        if stream.fingerprint is None and isinstance(mark := chunk.get("system_fingerprint"), str):
            stream.fingerprint = encodable(mark[:MAX_NAME])
        ident = chunk.get("id")
        if isinstance(ident, str) and ident and stream.id is None:
            stream.id = encodable(ident[:MAX_NAME])

    def _read_choices(self, chunk: dict[str, Any], event: Event) -> int:
        """How many bytes of output all choices of the chunk carry; 0 when there is none.

        An empty list of choices is allowed: OpenAI sends one with `usage`.
        """
        choices = chunk.get("choices")
        if not isinstance(choices, list):
            if event.name == "error" or "error" in chunk:
                return 0
            if chunk.get("object") == "error":  # older vLLM: the error is the chunk itself
                self._note_error(chunk)
                return 0
            self.complain("no_choices", "a chunk without a choices list", event.data)
            if not self.doubtful_words and error_in_place_of_completion(chunk) is not None:
                self.doubtful_words = _error_words(chunk)
            return 0
        if len(choices) > MOST_PARTS:
            raise Flood(f"a chunk has {len(choices):,} choices")
        size = 0
        for place, choice in enumerate(choices):
            if isinstance(choice, dict):
                size += self._read_choice(choice, place)
            else:
                self.complain("no_choices", "a choice is not an object", event.data)
        return size

    def _note_chunk(self, chunk: dict[str, Any]) -> list[str]:
        """Look at the form of a chunk; what is wrong with it, as far as that is noted."""
        problems = chunk_form.chunk_problems(chunk) if self._notes < MOST_NOTES else []
        for problem in problems:
            self._note_form("form", problem)
        if not chunk_form.is_filter_note(chunk):
            self._ids.add(chunk)
            ident = chunk.get("id")
            if ident and isinstance(ident, str) and chunk.get("choices"):
                self._last_id = ident[:MAX_NAME]
        return problems

    def _read_choice(self, fields: dict[str, Any], place: int) -> int:
        """How many bytes of output the choice carries. A delta that has only a role has none."""
        if isinstance(reason := fields.get("finish_reason"), str):
            self._note_finish(encodable(reason[:MAX_NAME]))
        index = index_of(fields, place)
        if (choice := self._choices.get(index)) is None:
            if len(self._choices) == MOST_PARTS:
                raise Flood(f"the stream has more than {MOST_PARTS} different choices")
            choice = self._choices[index] = Choice()
        read = choice.read(fields)
        if read.size:
            self._text_left -= read.size + PIECE_COST * read.pieces
            if self._text_left < 0:
                raise Flood(f"the stream has more than {MAX_TEXT >> 20} MB of text")
        if read.text:
            self._text.append(read.text)
        if read.thoughts:
            self._reasoning.append(read.thoughts)
        return read.size

    def _note_finish(self, reason: str) -> None:
        """What some servers send in place of null ends nothing."""
        if chunk_form.is_placeholder(reason):
            if self._notes < MOST_NOTES:
                self._note_form("form", f"finish_reason is {reason!r} in place of null")
            return
        self.stream.finish_reason = reason
        if problem := chunk_form.given_up(reason):
            self.complain("given_up", problem)
        elif self._notes >= MOST_NOTES:
            return
        elif oddity := chunk_form.dialect(reason):
            self._note_form("finish_dialect", oddity)

    def _note_choices(self) -> None:
        """What can be said of each choice only at the end."""
        stream = self.stream
        if stream.finish_reason is None:
            self.complain("no_finish_reason", "no choice gave a finish_reason")
        for index, choice in self._choices.items():
            if stream.finish_reason is not None and (problem := choice.unended):
                self.complain("no_finish_reason", f"choice {index} {problem}")
            for kind, text in choice.problems():
                self._note_form(kind, text)

    def _note_identity(self) -> None:
        """What is wrong with the ids and the model of all chunks together."""
        if problem := self._ids.problem:
            self._note_form("ids", problem)
        if len(self._models) > 1:
            names = ", then ".join(repr(shorten(each, 40)) for each in list(self._models)[:2])
            self._note_form("model_changes", f"the model changes within the stream: {names}")

    def _set_progress_apart(self) -> None:
        """Take what only tells of progress out of the output."""
        stream = self.stream
        tokens = number(pick(stream.usage, "completion_tokens"))
        if tokens is None:
            tokens = number(pick(stream.timings, "predicted_n"))
        outputs, end_ns = len(stream.output_ns), stream.end_ns or 0
        has_end = stream.finish_reason is not None or stream.done_ns is not None
        is_finished = has_end and stream.error is None
        whole = progress.Whole(self._last_id, tokens, outputs, end_ns, is_finished)
        if not (count := self._beginning.leading(stream.output_ns, whole)):
            return
        told = self._beginning.events[:count]
        stream.progress = count
        stream.progress_text = progress.shown([each.said for each in told])
        del stream.output_ns[:count], stream.output_ends[:count], stream.output_sizes[:count]
        texts, thoughts = told[-1].parts
        del self._text[:texts], self._reasoning[:thoughts]
        for choice in list(self._choices.values())[:1]:  # progress is told once
            choice.forget(texts, thoughts)
        text = progress.words(count, stream.progress_text, bool(stream.output_ns))
        self._note_form("progress", text)
        self._forget_sender(count)
        self._ids.forget([each.said.ident for each in told])
        for problem in chain.from_iterable(each.problems for each in told):  # nobody has to read
            self._form["form"][problem] -= 1
            self._notes -= 1

    def _forget_sender(self, count: int) -> None:
        """Who told of progress is not who answered."""
        said = [each.said for each in self._beginning.events]
        told, rest = said[:count], said[count:]
        self._foreign_ids = {each.ident for each in told} - {self._last_id}
        if own := {each.model for each in rest}:
            for name in {each.model for each in told} - own:
                self._models.pop(name, None)
            self.stream.model = encodable(next(iter(self._models))) if self._models else None

    def close(self) -> Stream:
        """The finished stream, with the complaints that can be made only at its end."""
        stream = self.stream
        self._set_progress_apart()
        stream.models = list(map(encodable, self._models))
        stream.ids = sum(bool(each) and each not in self._foreign_ids for each in self._ids.uses)
        stream.text = encodable("".join(self._text))
        stream.reasoning = encodable("".join(self._reasoning))
        stream.thinking = read_thinking([*self._choices.values()], len(stream.output_ns))
        if "flood" not in self._counts:  # else its end is not known
            self._complain_of_end()
        for kind in KINDS:
            if count := self._counts.get(kind):
                stream.complaints.append(Complaint(kind, _counted(self._examples[kind], count)))
        self._note_identity()
        lost = stream.text.count(LOST) + stream.reasoning.count(LOST)
        if lost and "not_utf8" not in self._counts:  # else we have put it there ourselves
            self._note_form(
                "lost_characters", f"U+FFFD, a lost character, {lost} times in the text"
            )
        for kind in FORM_KINDS if self._form else ():
            if texts := +self._form.get(kind, Counter()):  # without what was taken back
                said = [_counted(text, n) for text, n in texts.most_common(MOST_TEXTS)]
                more = " and more" if self._notes >= MOST_NOTES else ""
                stream.form.append(Complaint(kind, "; ".join(said) + more))
        return stream

    def _complain_of_end(self) -> None:
        """What is missing in a stream that was read to its end."""
        stream = self.stream
        if stream.done_ns is None:
            self.complain("no_done", f"no [DONE] after {stream.events} events")
        if stream.finish_reason is None and self.doubtful_words:
            self._note_error(self.doubtful_words)
        self._note_choices()
        if not stream.output_ns:
            told = progress.words(stream.progress, stream.progress_text, is_followed=False)
            why = f": {told}" if stream.progress else ""
            self.complain("empty", f"none of {stream.events} events carried output{why}")


def _may_be_chunk(chunk: dict[str, Any], event: Event) -> bool:
    """Whether an object is a chunk, or stands in the place of one, and is not an error."""
    if isinstance(chunk.get("choices"), list):
        return True
    return not (event.name == "error" or "error" in chunk or chunk.get("object") == "error")


def _error_words(chunk: dict[str, Any]) -> str:
    """What the server said in an event that is an error."""
    error = chunk.get("error")
    return words_of(error if error not in (None, False, "") else chunk)


# --- text


def _excerpt(data: bytes) -> str:
    shown = shorten(data[: 4 * LIMIT].decode("utf-8", "replace"), 60)
    return repr(shown) if shown else "nothing"


def _counted(text: str, count: int) -> str:
    return shorten(text) if count == 1 else f"{shorten(text, LIMIT - 20)} ({count} times)"
