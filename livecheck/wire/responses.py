"""The streams of the Responses API: which event may follow which, and what they say together. Pure.

A stream begins with response.created. It adds items to its output (a message, thoughts, a call of a
function), tells each piece by piece, and says the whole of it again when it is done. It ends with
response.completed, .incomplete or .failed, which has the whole response. Rules: OpenAI's API
reference, "Streaming events" of "Responses".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from livecheck.core.json_value import number, pick, pick_list, pick_text
from livecheck.core.text import plural, shorten
from livecheck.wire.error_words import words_of

CREATED = "response.created"
ENDS = {f"response.{status}": status for status in ("completed", "incomplete", "failed")}
ERROR = "error"
TEXT, THOUGHTS, ARGUMENTS = "text", "thoughts", "arguments"
# The pieces of which an item is made, what they are of, and the event and its field with the whole.
PIECES = {
    "response.output_text": (TEXT, "text"),
    "response.refusal": (TEXT, "refusal"),
    "response.reasoning_text": (THOUGHTS, "text"),
    "response.reasoning_summary_text": (THOUGHTS, "text"),
    "response.function_call_arguments": (ARGUMENTS, "arguments"),
}
CALL_ARGUMENTS = "response.function_call_arguments"
IN_A_PART = ("response.output_text", "response.refusal")  # of a message: in one of its parts
MOST_FINDINGS = 20  # that are kept
SHOWN = 40  # characters of a foreign text


class Call(NamedTuple):
    name: str
    arguments: str


class Said(NamedTuple):
    """What one event says: a piece of text, thoughts or arguments; "" for none."""

    kind: str
    text: str


NOTHING = Said("", "")


class Pieces:
    """A text that is told piece by piece. To compare it takes no longer than the other text is
    long, however often a server says that it is done."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self.length = 0  # in characters
        self.is_begun = False

    def add(self, text: str) -> None:
        self.is_begun = True
        if text:
            self._parts.append(text)
            self.length += len(text)

    @property
    def text(self) -> str:
        return "".join(self._parts)

    def tail(self, length: int) -> str:
        """The last so many characters, or all."""
        found, size = [], 0
        for part in reversed(self._parts):
            if size >= length:
                break
            found.append(part)
            size += len(part)
        return "".join(reversed(found))[-length:] if length else ""

    def shown_beside(self, other: str) -> str:
        """As much of its end as a comparison with the other text may show."""
        return self.tail(max(len(other), SHOWN) + 1)

    def ends_with(self, text: str) -> bool:
        """Whether it ends with this text; nothing but an empty one ends with an empty one."""
        return self.tail(len(text)) == text if text else not self.length


@dataclass
class Item:
    """One item of the output while it is told. `pieces`: by the kind of their events. `is_added`:
    its beginning was told; else it is known from its pieces alone."""

    kind: str
    name: str = ""
    pieces: dict[str, Pieces] = field(default_factory=dict)
    has_part: bool = False
    is_added: bool = True
    is_done: bool = False

    def pieces_of(self, base: str) -> Pieces:
        return self.pieces.setdefault(base, Pieces())

    def text_of(self, base: str) -> str:
        return self.pieces[base].text if base in self.pieces else ""


@dataclass
class Whole:
    """A response as a whole: of an answer without a stream, or of a stream's last event."""

    status: str | None = None
    text: str = ""
    thoughts: str = ""
    calls: list[Call] = field(default_factory=list)
    usage: dict[str, Any] | None = None
    model: str | None = None
    has_output: bool = False  # whether it has a list of items at all
    why_incomplete: str | None = None
    error: str | None = None  # the server's words


def read_whole(fields: object) -> Whole:
    """A response object; what is missing or foreign in it is left out."""
    found = Whole(text_of(fields, "status"), model=text_of(fields, "model"))
    usage, output = pick(fields, "usage"), pick(fields, "output")
    found.usage = usage if isinstance(usage, dict) else None
    found.has_output = isinstance(output, list)
    found.why_incomplete = text_of(pick(fields, "incomplete_details"), "reason")
    if error := pick(fields, "error"):
        found.error = words_of(error)
    for item in output if isinstance(output, list) else ():
        kind = pick(item, "type")
        if kind == "function_call":
            found.calls.append(Call(pick_text(item, "name"), pick_text(item, "arguments")))
            continue
        texts = [
            pick_text(part, "text") or pick_text(part, "refusal")
            for name in ("content", "summary")
            for part in pick_list(item, name)
        ]
        if kind == "message":
            found.text += "".join(texts)
        elif kind == "reasoning":
            found.thoughts += "".join(texts)
    return found


def text_of(fields: object, name: str) -> str | None:
    value = pick(fields, name)
    return value if isinstance(value, str) and value else None


class Reader:
    """Takes in the events of a stream, one by one.

    `problems`: where it breaks the order that clients rely on, or contradicts itself. `oddities`:
    fields that only generated clients need. Each once, with how often it was so.
    """

    def __init__(self) -> None:
        self.events = 0
        self.whole: Whole | None = None  # of the last event, once it has come
        self.created: Mapping[str, Any] = {}
        self.end: str | None = None  # the status by the last event's name
        self.error: str | None = None  # the server's words in an error event
        self._items: dict[str, Item] = {}
        self._order: list[Item] = []
        self._last_number: float | None = None
        self._problems: dict[str, int] = {}
        self._oddities: dict[str, int] = {}

    def read(self, event: Mapping[str, Any]) -> Said:
        """Take in the next event, and tell what it says."""
        kind = pick_text(event, "type")
        self.events += 1
        self._look_at_order(kind, event)
        if kind == ERROR or (not kind and event.get("error")):
            error = event.get("error")
            self.error = self.error or words_of(error if error else dict(event))
        elif kind == CREATED:
            self.created = event
        elif kind in ENDS:
            self._finish(kind, event)
        elif kind == "response.output_item.added":
            self._add(event)
        elif kind == "response.output_item.done":
            self._end_item(event)
        elif kind == "response.content_part.added":
            if item := self._item(event, kind):
                item.has_part = True
        elif (base := kind.rpartition(".")[0]) in PIECES:
            return self._piece(base, kind.endswith(".delta"), event)
        return NOTHING

    def close(self) -> None:
        """The stream is over."""
        if self.end is None and self.error is None:
            self._complain("there is no response.completed at the end")
        if self.end == "completed":
            for item in self._order:
                if item.is_added and not item.is_done:
                    self._complain(f"an item ({shown(item.kind)}) has no response.output_item.done")
            self._compare()

    @property
    def problems(self) -> list[str]:
        return counted(self._problems)

    @property
    def oddities(self) -> list[str]:
        return counted(self._oddities)

    def told(self, kind: str) -> str:
        """All pieces of a kind together: TEXT, THOUGHTS."""
        bases = [base for base, (of, _) in PIECES.items() if of == kind]
        return "".join(item.text_of(base) for item in self._order for base in bases)

    @property
    def calls(self) -> list[Call]:
        """The calls of functions, with their arguments as the pieces told them."""
        calls = [each for each in self._order if each.kind == "function_call"]
        return [Call(each.name, each.text_of(CALL_ARGUMENTS)) for each in calls]

    # the order

    def _look_at_order(self, kind: str, event: Mapping[str, Any]) -> None:
        if self.events == 1 and kind not in (CREATED, ERROR):
            self._complain(f"the first event is {shown(kind)}, not {CREATED}")
        if self.events > 1 and kind == CREATED:
            self._complain(f"{CREATED} comes again")
        if self.end is not None:
            self._complain(f"{shown(kind)} comes after the end (response.{self.end})")
        sequence = number(event.get("sequence_number"))
        if sequence is None and kind.startswith("response."):
            self._note("the events have no sequence_number")
        elif sequence is not None and self._last_number is not None:
            if sequence <= self._last_number:
                self._complain("sequence_number does not grow")
        self._last_number = sequence if sequence is not None else self._last_number
        of_item = "item" in event or "item_id" in event
        if of_item and number(event.get("output_index")) is None:
            self._note("the events about items have no output_index")

    def _add(self, event: Mapping[str, Any]) -> None:
        fields = event.get("item")
        item = Item(pick_text(fields, "type"), pick_text(fields, "name"))
        if item.kind == "function_call" and (arguments := pick_text(fields, "arguments")):
            item.pieces_of(CALL_ARGUMENTS).add(arguments)
        for key in keys_of(event, pick_text(fields, "id")):
            self._items[key] = item
        self._order.append(item)

    def _item(self, event: Mapping[str, Any], kind: str) -> Item | None:
        """The item that an event is about; a problem when it was not added, or is done."""
        keys = keys_of(event, pick_text(event, "item_id") or pick_text(event.get("item"), "id"))
        found = next((self._items[key] for key in keys if key in self._items), None)
        if found is None or not found.is_added:
            self._complain(f"{shown(kind)} is about an item that was not added")
        elif found.is_done:
            self._complain(f"{shown(kind)} comes after the item was done")
        return found

    def _piece(self, base: str, is_delta: bool, event: Mapping[str, Any]) -> Said:
        kind, name = PIECES[base]
        item = self._item(event, f"{base}.{'delta' if is_delta else 'done'}")
        if item is None:  # it is output all the same
            item = Item("message" if kind == TEXT else kind, has_part=True, is_added=False)
            self._order.append(item)
            for key in keys_of(event, pick_text(event, "item_id")):
                self._items[key] = item
        if base in IN_A_PART and not item.has_part:
            self._complain(f"{base} comes before its response.content_part.added")
            item.has_part = True
        pieces = item.pieces_of(base)
        if is_delta:
            text = pick_text(event, "delta")
            pieces.add(text)
            return Said(kind, text) if text else NOTHING
        if name in event and not pieces.ends_with(whole := pick_text(event, name)):
            told = pieces.shown_beside(whole)
            self._complain(differ(f"the pieces of {base}", told, "its .done", whole))
        return NOTHING

    def _end_item(self, event: Mapping[str, Any]) -> None:
        item = self._item(event, "response.output_item.done")
        if item is None:
            return
        item.is_done = True
        fields = event.get("item")
        if item.kind != "function_call":
            return
        item.name = item.name or pick_text(fields, "name")
        pieces, whole = item.pieces_of(CALL_ARGUMENTS), pick_text(fields, "arguments")
        if not pieces.is_begun:
            pieces.add(whole)  # of a server that tells a call as a whole
        elif pieces.length != len(whole) or not pieces.ends_with(whole):
            told = pieces.shown_beside(whole)
            self._complain(differ("the arguments", told, "those of the item", whole))

    def _finish(self, kind: str, event: Mapping[str, Any]) -> None:
        self.end = ENDS[kind]
        self.whole = read_whole(event.get("response"))
        if self.end == "failed":
            self.error = self.error or self.whole.error or "response.failed"
        if self.whole.status not in (None, self.end):
            self._complain(f"response.{self.end} has the status {shown(self.whole.status)}")

    def _compare(self) -> None:
        """What the pieces told is what the whole response says."""
        whole, text = self.whole, self.told(TEXT)
        if whole is None:
            return
        if not whole.has_output:
            self._complain("response.completed has no list of output")
        elif whole.text != text:
            self._complain(differ("the deltas", text, "response.completed", whole.text))
        elif whole.calls != self.calls:
            told, said = (
                str([list(each) for each in calls]) for calls in (self.calls, whole.calls)
            )
            self._complain(differ("the calls that were told", told, "response.completed", said))

    def _complain(self, text: str) -> None:
        count(self._problems, text)

    def _note(self, text: str) -> None:
        count(self._oddities, text)


def keys_of(event: Mapping[str, Any], ident: str) -> list[str]:
    """By what an item is known: its id, and its place in the output."""
    index = number(event.get("output_index"))
    return [key for key in (ident, None if index is None else f"#{index:g}") if key]


def count(found: dict[str, int], text: str) -> None:
    if text in found or len(found) < MOST_FINDINGS:
        found[text] = found.get(text, 0) + 1


def counted(found: Mapping[str, int]) -> list[str]:
    return [text if n == 1 else f"{text} ({plural(n, 'time')})" for text, n in found.items()]


def shown(text: str | None) -> str:
    return shorten(text or "nothing", SHOWN)


def differ(one: str, said: str, other: str, says: str) -> str:
    return f"{one} say {quote(said)}, {other} says {quote(says)}"


def quote(text: str) -> str:
    """The end of a text: it is mostly there that two differ."""
    return repr(shorten(text if len(text) <= SHOWN else f"…{text[-SHOWN:]}", SHOWN + 1))


def read_events(events: Sequence[object]) -> Reader:
    """All events of a stream that another client has read."""
    reader = Reader()
    for event in events:
        reader.read(event if isinstance(event, Mapping) else {})
    reader.close()
    return reader


# --- in the words of chat completions, by which figures are made


def as_chat_usage(usage: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The account of tokens by the names that chat completions have for the same."""
    if usage is None:
        return None
    return {
        "prompt_tokens": usage.get("input_tokens"),
        "completion_tokens": usage.get("output_tokens"),
        "total_tokens": usage.get("total_tokens"),
        "prompt_tokens_details": usage.get("input_tokens_details"),
        "completion_tokens_details": usage.get("output_tokens_details"),
    }


def finish_reason(end: str | None, whole: Whole | None, has_calls: bool) -> str | None:
    """How the response ended, as chat completions say it; None: nothing shows that it did."""
    if end == "completed":
        return "tool_calls" if has_calls else "stop"
    if end == "incomplete":
        return "content_filter" if whole and whole.why_incomplete == "content_filter" else "length"
    return None
