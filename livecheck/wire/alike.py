"""Chunks that differ in nothing that is looked at but their text, read by one pattern. Pure.

Nearly all chunks of a stream, and of all streams of a run, are the same bytes around another piece
of text. The first of them is read with care; from its bytes a pattern is made, with a gap for the
text and for each field that may differ. What matches it is the same JSON with other values in the
gaps, so all that was found out about the first one holds for it. What does not match is read with
care.

A gap takes one JSON token of the kind that was there. That it is the value of the right field is
proved and not guessed: the bytes with other tokens in the gaps are decoded, and must be the chunk
with just these values.
"""

from __future__ import annotations

import contextlib
import copy
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from livecheck.core.json_value import decode, pick_list
from livecheck.wire import chunk_form, spoken
from livecheck.wire.choice import index_of, size_of

MOST_BYTES = 4096  # of a chunk that a pattern is made of
MOST_PATTERNS = 8  # are kept; an engine has one or two forms of chunks
AT_ONCE = 128  # chunks in a run: they take about 0.1 ms
# To make a pattern takes as long as to read so many chunks with care. Of a server whose chunks have
# something new in each answer a few are made in vain.
WORTH = 100
MADE_IN_VAIN = 20
# Fields at the top of a chunk that may not differ: all others are not looked at, but for `id`, and
# for the type of `created`.
LOOKED_AT = ("choices", "error", "model", "object", "system_fingerprint", "timings", "usage")

# One token of JSON each. Without control characters a text cannot contain the end of an event, and
# numbers are as short as those that Python reads as they are.
TEXT = rb'"(?!")([^"\\\x00-\x1f]*(?:\\.[^"\\\x00-\x1f]*)*)"'
IDENT = rb'"([A-Za-z0-9_.:-]{1,200})"'
ANY_TEXT = rb'"[A-Za-z0-9 _.:+/=-]{0,200}"'
WHOLE = rb"(?:0|[1-9][0-9]{0,17})"
FIGURE = rb"-?(?:0|[1-9][0-9]{0,14})\.[0-9]{1,20}"
# What is put into the gaps, to see that they are in the right places.
TRIAL_TEXT, TRIAL_IDENT, TRIAL_WHOLE, TRIAL_FIGURE = "a text\u00e4", "an-id", 98765432101234, 987.5


class Run(NamedTuple):
    """Chunks in a row: where each event ends, its text, and the bytes of that in UTF-8."""

    ends: list[int]
    texts: list[str]
    sizes: list[int]


class Gap(NamedTuple):
    """A place in the bytes of a chunk: what may stand there, and what is put there for a trial."""

    start: int
    end: int
    token: bytes
    trial: object


class Alike:
    """A pattern, and the chunk that it was made of. `field`: where the text is in its delta.
    `index`: of its choice."""

    __slots__ = ("_find", "_match", "_text_at", "example", "index", "is_thought")

    def __init__(self, pattern: bytes, text_at: int, field: str, chunk: dict[str, Any]):
        """`pattern` has a group for the id and one for the text, which is that of this number."""
        compiled = re.compile(b"(%b)" % pattern)
        # not `finditer`: each call of it leaves a name in Python's cache of methods
        self._match, self._find, self._text_at = compiled.match, compiled.findall, text_at
        self.example, self.is_thought = chunk, field != "content"
        self.index = index_of(chunk["choices"][0], 0)

    def run(self, body: bytes, start: int) -> tuple[str, Run] | None:
        """The events from `start` on that match and have the same id, and this id; None when the
        first one does not match."""
        first = self._match(body, start)
        if first is None:
            return None
        found = self._find(body, start, start + AT_ONCE * (first.end() - start))
        columns = list(zip(*found, strict=True))
        whole, idents, texts = columns[0], columns[3 - self._text_at], columns[self._text_at]
        said, sizes = _said(texts[: _in_a_row(body, start, whole, idents)])
        ends = list(accumulate(map(len, whole[: len(said)]), initial=start))[1:]
        return (idents[0].decode(), Run(ends, said, sizes)) if said else None


def _in_a_row(body: bytes, start: int, whole: Sequence[bytes], idents: Sequence[bytes]) -> int:
    """How many of the events that were found follow one another from `start` on, with the same
    id."""
    if body.startswith(b"".join(whole), start) and idents.count(idents[0]) == len(whole):
        return len(whole)
    count = 0
    while body.startswith(whole[count], start) and idents[count] == idents[0]:
        start += len(whole[count])
        count += 1
    return count


def _said(texts: Sequence[bytes]) -> tuple[list[str], list[int]]:
    """The texts and how many bytes each has, up to one that is not UTF-8, or not JSON: who reads
    with care says so."""
    said: list[str] = []
    try:
        said = _decoded(texts)
    except ValueError:
        with contextlib.suppress(ValueError):
            for each in texts:
                said += _decoded([each])
    is_escaped = b"\\" in b"".join(texts)
    return said, list(map(size_of, said) if is_escaped else map(len, texts[: len(said)]))


def _decoded(texts: Sequence[bytes]) -> list[str]:
    joined = b'","'.join(texts).decode()
    found: list[str] = json.loads(f'["{joined}"]')
    return found


def text_field(chunk: Mapping[str, Any]) -> str | None:
    """Which field of its delta has the text of a chunk that says one thing and nothing else, all in
    order; None of any other chunk."""
    choices = chunk.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        return None
    choice = choices[0]
    delta = choice.get("delta")
    says_more = chunk.get("error") or chunk.get("usage") or chunk.get("timings")
    says_more = says_more or isinstance(choice.get("finish_reason"), str) or "text" in choice
    if says_more or not isinstance(delta, dict) or delta.get("tool_calls"):
        return None
    if pick_list(choice, "logprobs", "content") or chunk_form.chunk_problems(chunk):
        return None
    text, thoughts = spoken.content_in(delta), spoken.thoughts_in(delta)
    if bool(text) == bool(thoughts):
        return None
    names = ("content",) if text else spoken.THOUGHT_FIELDS
    filled = [name for name in names if isinstance(delta.get(name), str) and delta[name]]
    return filled[0] if len(filled) == 1 else None


def alike(data: bytes, chunk: dict[str, Any]) -> Alike | None:
    """The pattern of chunks that differ from this one in nothing that is looked at; None when there
    is no pattern for it. `data`: its bytes."""
    if len(data) > MOST_BYTES or b"\n" in data or (field := text_field(chunk)) is None:
        return None
    expected = copy.deepcopy(chunk)
    gaps = [gap for name in chunk if (gap := _gap_at_top(data, chunk, name, expected))]
    text = _gap(data, field, TEXT, TRIAL_TEXT)
    ident = next((gap for gap in gaps if gap.token is IDENT), None)
    if text is None or ident is None:
        return None
    expected["choices"][0]["delta"][field] = TRIAL_TEXT
    gaps = sorted([*gaps, text])
    if any(one.end > other.start for one, other in zip(gaps, gaps[1:], strict=False)):
        return None
    trial = b"".join(_filled(data, gaps, lambda gap: json.dumps(gap.trial).encode()))
    try:
        if decode(trial.decode(), allow_nan=False) != expected:
            return None
    except ValueError:
        return None
    pattern = b"".join(_filled(data, gaps, lambda gap: gap.token, re.escape))
    return Alike(b"data: ?" + pattern + rb"\n\n", 2 if ident < text else 1, field, chunk)


def _gap(data: bytes, name: str, token: bytes, trial: object) -> Gap | None:
    """The value of the only field of this name, if it is such a token."""
    quoted = json.dumps(name).encode()
    if data.count(quoted) != 1:
        return None
    found = re.compile(rb"[ \t]*:[ \t]*(%b)" % token).match(data, data.index(quoted) + len(quoted))
    return Gap(*found.span(1), token, trial) if found else None


def _gap_at_top(
    data: bytes, chunk: Mapping[str, Any], name: str, expected: dict[str, Any]
) -> Gap | None:
    """The gap for a field that may differ; what a trial puts there is then in `expected`."""
    value = chunk[name]
    if name in LOOKED_AT:
        return None
    if name == "id":
        found = _gap(data, name, IDENT, TRIAL_IDENT)
    elif type(value) is int:
        found = _gap(data, name, WHOLE, TRIAL_WHOLE)
    elif type(value) is float:
        found = _gap(data, name, FIGURE, TRIAL_FIGURE)
    elif isinstance(value, str):
        found = _gap(data, name, ANY_TEXT, TRIAL_IDENT)
    else:
        return None
    if found:
        expected[name] = found.trial
    return found


def _filled(
    data: bytes,
    gaps: Iterable[Gap],
    fill: Callable[[Gap], bytes],
    between: Callable[[bytes], bytes] = bytes,
) -> Iterator[bytes]:
    """The bytes with something else in the gaps, piece by piece."""
    start = 0
    for gap in gaps:
        yield between(data[start : gap.start])
        yield fill(gap)
        start = gap.end
    yield between(data[start:])


class Patterns:
    """The patterns of a run, those that matched last first."""

    def __init__(self) -> None:
        self._known: list[Alike] = []
        self._made = self._read = 0

    def run(self, body: bytes, start: int) -> tuple[Alike, str, Run] | None:
        """The events from `start` on that a pattern matches, one at least."""
        for place, each in enumerate(self._known):
            if found := each.run(body, start):
                if place:
                    self._known.insert(0, self._known.pop(place))
                self._read += len(found[1].ends)
                return each, *found
        return None

    def learn(self, data: bytes, chunk: dict[str, Any]) -> None:
        """Make a pattern of this chunk, if there is one and it is likely to be of use."""
        if WORTH * self._made > self._read + WORTH * MADE_IN_VAIN:
            return
        self._made += 1
        if found := alike(data, chunk):
            self._known = [found, *self._known[: MOST_PATTERNS - 1]]
