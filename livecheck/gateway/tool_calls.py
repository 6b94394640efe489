"""The tool calls of an answer, whole or put together from a stream, and what is wrong with them.

Pure. A stream is read as applications read it: its deltas are joined by their index, the texts of
an id, of a name and of arguments one behind the other. That is what OpenAI's own packages do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from livecheck.core.json_value import as_line, pick, pick_list, pick_text, quoted
from livecheck.core.text import plural

# kinds of problems
DELTAS = "deltas"  # a client that joins the deltas of a stream gets something else
GAPS = "gaps"  # the same for some clients
IDS = "ids"  # a call cannot be answered
TYPE = "type"  # the arguments are not a text


class ToolCall(NamedTuple):
    name: str
    arguments: str  # as the model wrote them: JSON, if all is well
    id: str = ""


class Problem(NamedTuple):
    """What is wrong with the form of a call; `kind` is one of those above."""

    kind: str
    text: str


@dataclass
class ToolCalls:
    """The tool calls of one answer, and what is wrong with their form."""

    calls: list[ToolCall] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def texts(self) -> list[str]:
        return [each.text for each in self.problems]


def whole_tool_calls(message: Any) -> ToolCalls:
    """Those of a message that was not streamed."""
    found = ToolCalls()
    for call in pick_list(message, "tool_calls"):
        name, arguments = pick(call, "function", "name"), pick(call, "function", "arguments")
        name = "" if name is None else as_line(name)
        own_id = pick_text(call, "id")
        if not own_id:
            found.problems.append(Problem(IDS, "a tool call has no id"))
        if not isinstance(arguments, str):
            found.problems.append(of_wrong_type(arguments))
            arguments = "{}"
        found.calls.append(ToolCall(name, arguments, own_id))
    return found


def of_wrong_type(arguments: object) -> Problem:
    return Problem(TYPE, f"arguments is of type {type(arguments).__name__}, not a string")


@dataclass
class _Joined:
    """The deltas of one call so far. Each list has the texts that are not empty."""

    ids: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    deltas: int = 0

    def add(self, delta: Any) -> Problem | None:
        """Take in the next delta; what is wrong with it alone."""
        self.deltas += 1
        own_id, arguments = pick_text(delta, "id"), pick(delta, "function", "arguments")
        name = pick_text(delta, "function", "name")
        late = [
            word
            for word, new, old in (("id", own_id, self.ids), ("name", name, self.names))
            if new and not old and self.deltas > 1
        ]
        self.ids += filter(None, [own_id])
        self.names += filter(None, [name])
        if isinstance(arguments, str):
            self.arguments.append(arguments)
        elif arguments is not None:
            return of_wrong_type(arguments)
        if (kind := pick(delta, "type")) not in (None, "function"):
            return Problem(GAPS, f"the type of a call is {quoted(kind)}, not 'function'")
        if late:
            return Problem(DELTAS, f"the {late[0]} of a call is not in its first delta")
        return None

    def problems(self, index: int) -> list[Problem]:
        """What is wrong with all of its deltas together."""
        found = []
        if len(set(self.ids)) > 1:
            both = f"{quoted(self.ids[0])}, then {quoted(self.ids[-1])}"
            found.append(Problem(DELTAS, f"the call with the index {index} has the id {both}"))
        elif len(self.ids) > 1:
            text = f"the id of a call comes {plural(len(self.ids), 'time')}: clients join them"
            found.append(Problem(DELTAS, text))
        elif not self.ids:
            found.append(Problem(IDS, "a tool call has no id"))
        if len(self.names) > 1:
            text = f"the name of a call comes in {len(self.names)} deltas, and belongs in the first"
            found.append(Problem(DELTAS, text))
        return found


def streamed_tool_calls(chunks: Iterable[Any]) -> ToolCalls:
    """Those of a stream, put together from its deltas by their index, as an application does it."""
    joined: dict[int, _Joined] = {}
    found: dict[Problem, None] = {}  # each once, in their order
    for chunk in chunks:
        for delta in pick_list(chunk, "choices", 0, "delta", "tool_calls"):
            index = pick(delta, "index")
            if type(index) is not int:
                found[Problem(DELTAS, "the delta of a tool call has no index")] = None
                continue
            if problem := joined.setdefault(index, _Joined()).add(delta):
                found[problem] = None
    for index in sorted(joined):
        found |= dict.fromkeys(joined[index].problems(index))
    if joined and sorted(joined) != list(range(len(joined))):
        text = f"the calls have the indexes {listed_numbers(joined)}, where OpenAI counts from 0"
        found[Problem(GAPS, text)] = None
    parts = [joined[index] for index in sorted(joined)]
    calls = [ToolCall("".join(p.names), "".join(p.arguments), "".join(p.ids)) for p in parts]
    return ToolCalls(calls, list(found))


def listed_numbers(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(numbers)[:4]))
