"""One choice of a streamed completion: what its deltas say together, and how it ended.

Pure. A delta is read as it is meant, whatever is wrong with its form: `chunk_form` tells that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

from livecheck.core.json_value import pick_text
from livecheck.core.text import encodable, plural
from livecheck.wire import chunk_form, repeats, spoken

Problem = tuple[str, str]  # a kind of `sse.FORM_KINDS`, and words for people
MOST_PARTS = 128  # choices of a stream, tool calls of a choice; OpenAI's API takes as many
MAX_REASON = 200  # characters of a finish reason that are kept
TOGETHER = 3  # equal pieces of content and thoughts in one delta: that is not by chance


class Flood(ValueError):
    """A stream has more of something than an answer can have; the text says of what."""


class Piece(NamedTuple):
    """What one chunk adds to a choice. A role alone is not output; a tool call is.

    `size`: the bytes (UTF-8) of all output, content, thoughts and tool calls; 0: there is none.
    `pieces`: how many texts that is.
    """

    text: str
    thoughts: str
    size: int
    pieces: int = 1


class Choice:
    """The deltas of one choice so far. None of the pieces in its lists is empty."""

    __slots__ = (
        *("arguments", "begin", "is_mixed", "is_open", "names", "reasons"),
        *("texts", "thoughts", "together", "went_on"),
    )

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.thoughts: list[str] = []
        self.names: defaultdict[int, list[str]] = defaultdict(list)  # by the index of a tool call
        self.arguments: defaultdict[int, list[str]] = defaultdict(list)
        self.reasons: list[str] = []  # finish reasons, without what stands for null
        self.is_open = False  # whether there is output after which no finish reason has come
        self.went_on = False  # whether output came after a finish reason
        self.together = 0  # deltas with the same piece as content and as thoughts
        self.is_mixed = False  # whether a thought came after the first content
        self.begin: int | None = None  # how many events came before the first of the answer itself

    def read(self, choice: dict[str, Any]) -> Piece:
        """Take in the choice of one chunk, and say what it carries."""
        delta = choice.get("delta")
        if isinstance(delta, dict):
            piece = self._read_delta(delta)
        else:
            text = pick_text(choice, "text")  # the legacy completions endpoint
            piece = Piece(text, "", size_of(text))
        if self.begin is None and piece.size and (piece.text.strip() or is_call(piece)):
            self.begin = len(self.texts) + len(self.thoughts) - bool(piece.thoughts)
        if piece.text:
            self.texts.append(piece.text)
        if piece.size:
            self.is_open = True
            self.went_on = self.went_on or bool(self.reasons)
        reason = choice.get("finish_reason")
        if isinstance(reason, str) and not chunk_form.is_placeholder(reason):
            self.reasons.append(encodable(reason[:MAX_REASON]))
            self.is_open = False
        return piece

    def read_alike(self, pieces: list[str], are_thoughts: bool) -> None:
        """Take in chunks in a row that have nothing but such a piece."""
        if are_thoughts:
            self.thoughts += pieces
            self.is_mixed = self.is_mixed or bool(self.texts)
        else:
            if self.begin is None:
                begun = next((n for n, piece in enumerate(pieces) if piece.strip()), None)
                before = len(self.texts) + len(self.thoughts)
                self.begin = None if begun is None else before + begun
            self.texts += pieces
        self.is_open = True
        self.went_on = self.went_on or bool(self.reasons)

    def _read_delta(self, delta: dict[str, Any]) -> Piece:
        text, thoughts = spoken.content_in(delta), spoken.thoughts_in(delta)
        if thoughts:
            self.thoughts.append(thoughts)
            self.is_mixed = self.is_mixed or bool(self.texts)
            self.together += text == thoughts
        size, calls = size_of(text) + size_of(thoughts), delta.get("tool_calls")
        if not calls or not isinstance(calls, list):
            return Piece(text, thoughts, size)
        return Piece(text, thoughts, size + self._read_calls(calls), len(calls))

    def _read_calls(self, calls: list[Any]) -> int:
        """How many bytes of names and arguments a delta has. An id or an index is not output.
        Raises Flood."""
        size = 0
        for place, call in enumerate(calls):
            function = call.get("function") if isinstance(call, dict) else None
            if isinstance(function, dict):
                index = index_of(call, place)
                size += _append(self.names[index], function.get("name"))
                size += _append(self.arguments[index], function.get("arguments"))
        if max(len(calls), len(self.names)) > MOST_PARTS:
            raise Flood(f"the stream has more than {MOST_PARTS} tool calls")
        return size

    # at the end of the stream

    def forget(self, texts: int, thoughts: int) -> None:
        """Take the first pieces out, which the model has not written."""
        del self.texts[:texts], self.thoughts[:thoughts]
        if self.begin is not None:
            rest = self.begin - texts - thoughts
            self.begin = rest if rest >= 0 else len(self.thoughts)

    @property
    def unended(self) -> str | None:
        """Why nothing shows that the answer is whole; None when its end is clear, or there is no
        output. A reason that comes before the last output does not prove anything."""
        if not self.is_open:
            return None
        if not self.reasons:
            return "gave no finish_reason"
        last = chunk_form.named(self.reasons[-1])
        return f"goes on after its last finish_reason, {last}"

    def problems(self) -> Iterator[Problem]:
        """What is odd about the end of a choice, and in what way its text contains itself."""
        if not self.is_open:
            yield from self._end_problems()
        parts = [("content", self.texts), ("thoughts", self.thoughts)]
        parts += [("arguments of a tool call", each) for each in self.arguments.values()]
        for name, pieces in parts:
            if problem := repeats.said_again(pieces):
                yield "said_twice", f"{name}: {problem}"
        for pieces in self.names.values():
            if len(pieces) > 1 and len(set(pieces)) == 1:
                yield "said_twice", f"the name of a tool call comes {len(pieces)} times"
        yield from self._thought_problems()

    def _end_problems(self) -> Iterator[Problem]:
        reasons = self.reasons
        meanings = list(dict.fromkeys(map(chunk_form.finish_meaning, reasons)))
        if len(meanings) > 1 and None not in meanings:  # else the answer was given up
            named = [chunk_form.named(each or "") for each in meanings]
            yield "finish_changes", f"finish_reason is {', then '.join(named)}"
        if self.went_on:
            yield "early_finish", "output goes on after a finish_reason"
        elif len(meanings) == 1 and len(reasons) > 1:
            yield "finish_repeated", f"finish_reason comes {plural(len(reasons), 'time')}"

    def _thought_problems(self) -> Iterator[Problem]:
        is_same = repeats.is_same("".join(self.thoughts), "".join(self.texts))
        if self.together >= TOGETHER or (is_same and (self.together or self.is_mixed)):
            yield "said_twice", "the same text comes as content and as thoughts"
        elif is_same:
            yield "same_thoughts", chunk_form.SAME_THOUGHTS


def is_call(piece: Piece) -> bool:
    """Whether a tool call is all that it carries."""
    return piece.size > 0 and not (piece.text or piece.thoughts)


def index_of(part: dict[str, Any], place: int) -> int:
    """The index of a choice or of a tool call; its place in the list where it has none."""
    index = part.get("index")
    return index if type(index) is int else place


def size_of(text: str) -> int:
    """The bytes of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode(errors="replace"))


def _append(pieces: list[str], value: object) -> int:
    """The bytes of a text, which is appended to the pieces; 0 when it is none, or empty."""
    if not isinstance(value, str) or not value:
        return 0
    pieces.append(value)
    return size_of(value)
