"""What the SDK's check looks at in an answer: tool calls, logprobs, and the rhythm of a stream."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from livecheck.core.json_value import as_line, pick, pick_list, pick_text
from livecheck.wire import metrics
from livecheck.wire.answer import Answer

# A stream is one burst when its pieces come faster than any model writes, all at its end.
BURST_GAP_MS = 0.25
BURST_SHARE = 0.1  # of the request's time
LEAST_PIECES = 4  # fewer have no rhythm

# --- tool calls


class ToolCall(NamedTuple):
    name: str
    arguments: str  # as the model wrote them: JSON, if all is well


@dataclass
class ToolCalls:
    """The tool calls of one answer, and what is wrong with their form."""

    calls: list[ToolCall] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def whole_tool_calls(message: Any) -> ToolCalls:
    """Those of a message that was not streamed."""
    found = ToolCalls()
    for call in pick_list(message, "tool_calls"):
        name, arguments = pick(call, "function", "name"), pick(call, "function", "arguments")
        if not pick_text(call, "id"):
            found.problems.append("a tool call has no id")
        if not isinstance(arguments, str):
            kind, arguments = type(arguments).__name__, "{}"
            found.problems.append(f"arguments is of type {kind}, not a string")
        found.calls.append(ToolCall(as_line(name), arguments))
    return found


def streamed_tool_calls(chunks: Sequence[Any]) -> ToolCalls:
    """Those of a stream, put together from its deltas by their index, as an application does it."""
    names: defaultdict[int, str] = defaultdict(str)
    arguments: defaultdict[int, str] = defaultdict(str)
    problems = set()
    for chunk in chunks:
        for call in pick_list(chunk, "choices", 0, "delta", "tool_calls"):
            index = pick(call, "index")
            if not isinstance(index, int):
                problems.add("the delta of a tool call has no index")
                continue
            names[index] += pick_text(call, "function", "name")
            arguments[index] += pick_text(call, "function", "arguments")
    calls = [ToolCall(names[index], arguments[index]) for index in sorted(names)]
    return ToolCalls(calls, sorted(problems))


# --- logprobs


def is_logprob(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value <= 0


def joins(tokens: Sequence[Any], content: str) -> bool:
    """Whether the tokens together are the content.

    The marker of the end may count as one of them, and white space at both ends may be missing. A
    character may be split over several tokens: then their bytes tell.
    """
    texts = [pick_text(token, "token") for token in tokens]
    codes = [pick_list(token, "bytes") for token in tokens]
    for count in (len(tokens), len(tokens) - 1):
        forms = ["".join(texts[:count])]
        with contextlib.suppress(ValueError, TypeError):
            forms.append(b"".join(map(bytes, codes[:count])).decode("utf-8", "replace"))
        if whole_characters(content) in map(whole_characters, forms):
            return True
    return False


def whole_characters(text: str) -> str:
    """The text without characters that were cut in two, and without white space at its ends."""
    return text.replace("\N{REPLACEMENT CHARACTER}", "").strip()


# --- rhythm: a proxy that buffers holds back every stream, a busy machine may hold back one


def rhythm(answer: Answer) -> dict[str, Any]:
    """How the output came: pieces, reads that brought them, times in ms."""
    times = answer.stream.output_ns
    gaps = [each / 1e6 for each in metrics.gaps(times)]
    return {
        "pieces": len(times),
        "reads": len(set(times)),
        "over_ms": round((times[-1] - times[0]) / 1e6, 3) if times else None,
        "of_ms": round(answer.spent_ms or 0.0, 3),
        "median_gap_ms": round(sorted(gaps)[len(gaps) // 2], 3) if gaps else None,
    }


def is_burst(beat: dict[str, Any]) -> bool:
    """Whether a stream with this rhythm was held back and then sent at once."""
    if beat["pieces"] < LEAST_PIECES:
        return False
    is_late = beat["over_ms"] < BURST_SHARE * beat["of_ms"]
    return bool(is_late and beat["median_gap_ms"] < BURST_GAP_MS)
