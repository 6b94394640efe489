"""The tool calls in a chat completion: of a whole message, or put together from a stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from livecheck.core.json_value import as_line, pick, pick_list, pick_text


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
            kind = type(arguments).__name__
            found.problems.append(f"arguments is of type {kind}, not a string")
        text = arguments if isinstance(arguments, str) else "{}"
        found.calls.append(ToolCall(as_line(name), text))
    return found


def streamed_tool_calls(chunks: Sequence[Any]) -> ToolCalls:
    """Those of a stream, put together from its deltas by their index, as an application does it."""
    names: dict[int, str] = {}
    arguments: dict[int, str] = {}
    problems = set()
    for chunk in chunks:
        for call in pick_list(chunk, "choices", 0, "delta", "tool_calls"):
            index = pick(call, "index")
            if not isinstance(index, int):
                problems.add("the delta of a tool call has no index")
                continue
            names[index] = names.get(index, "") + pick_text(call, "function", "name")
            more = pick_text(call, "function", "arguments")
            arguments[index] = arguments.get(index, "") + more
    calls = [ToolCall(names[index], arguments[index]) for index in sorted(names)]
    return ToolCalls(calls, sorted(problems))
