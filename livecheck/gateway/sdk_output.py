"""What a model wrote in an answer that the SDK has read: thoughts alone, or not yet anything. Pure.

`wire/thoughts.py` and `wire/progress.py` have the rules; at the wire, `wire/sse.py` and
`wire/answer.py` apply them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from livecheck.core.json_value import number, pick, pick_text
from livecheck.wire import progress, spoken
from livecheck.wire.thoughts import Ending, Spent, spent


class Progress(NamedTuple):
    """The chunks of a stream that only tell of progress, by their numbers, and what they tell."""

    chunks: frozenset[int] = frozenset()
    text: str = ""

    @property
    def words(self) -> str:
        return progress.words(len(self.chunks), self.text)


def progress_in(chunks: Sequence[Any], chunk_ms: Sequence[float]) -> Progress:
    """`chunk_ms`: when each came, in ms."""
    if not chunks or len(chunks) != len(chunk_ms):
        return Progress()
    said: list[progress.Said] = []
    numbers: list[int] = []
    for index, (chunk, at_ms) in enumerate(zip(chunks, chunk_ms, strict=True)):
        if not isinstance(chunk, dict):
            continue
        one = progress.said_in(chunk, int(at_ms * 1e6))
        if one.text or one.has_call:
            said.append(one)
            numbers.append(index)
    if not said:
        return Progress()
    with_choices = [chunk for chunk in chunks if pick(chunk, "choices")]
    idents = [ident for chunk in with_choices if (ident := pick_text(chunk, "id"))]
    usage, timings = last_of(chunks, "usage"), last_of(chunks, "timings")
    tokens = number(pick(usage, "completion_tokens"))
    if tokens is None:
        tokens = number(pick(timings, "predicted_n"))
    end_ns = int(chunk_ms[-1] * 1e6)
    whole = progress.Whole(idents[-1] if idents else "", tokens, len(said), end_ns)
    count = progress.leading(said, whole)
    return Progress(frozenset(numbers[:count]), progress.shown(said[:count]))


def spent_in(data: Any, chunks: Sequence[Any], asked: Mapping[str, Any]) -> Spent | None:
    """Whether all tokens went into thoughts: of a whole answer, else of a stream. `asked`: the
    arguments of the call."""
    choices = [choice for each in (data, *chunks) if (choice := pick(each, "choices", 0))]
    messages = [pick(each, "delta") or pick(each, "message") for each in choices]
    if any(map(spoken.has_tool_call, messages)) or not choices:
        return None
    text = "".join(map(spoken.content_in, messages))
    text += "".join(pick_text(choice, "text") for choice in choices)  # the legacy endpoint
    thoughts = "".join(map(spoken.thoughts_in, messages))
    reasons = [reason for each in choices if (reason := pick(each, "finish_reason"))]
    parts = [data, *chunks]
    usage, timings = last_of(parts, "usage"), last_of(parts, "timings")
    ending = Ending(reasons[-1] if reasons else None, usage, timings, asked.get("max_tokens"))
    return spent(text, thoughts, ending, is_stream=not isinstance(data, dict))


def last_of(parts: Sequence[Any], name: str) -> Any:
    """The last object of this name in an answer; None when there is none."""
    return next((found for part in parts[::-1] if (found := pick(part, name))), None)
