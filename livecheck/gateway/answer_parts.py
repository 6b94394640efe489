"""What only some chat completions have: tool calls, and the tokens that come with `logprobs`."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from livecheck.core.json_value import as_line, pick, pick_list, pick_text

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
