"""A model that calls tools: it picks one by the words of its name, and fills in what is asked for.

It understands simple questions only. Texts stand in quotation marks or are the name of a city,
numbers and the values of an enum stand in the question, a boolean is true when its name does.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .played import Played, Refused, cut

MOST_DELTAS = 24  # for the arguments of one call
SHORT = 4  # characters of a delta, at least
QUOTED = re.compile(r'"(.*?)"', re.DOTALL)
PLACE = re.compile(r"(?<=[a-z,] )([A-Z][a-z]+)")  # a name in the middle of a sentence
NUMBER = re.compile(r"(?<![\w\"])\d+(?![\w\"])")
THOUGHTS = (" Which", " of", " the", " tools", " fits?", " This", " one.")
UNASKED = ("get",)  # parts of a tool's name that say nothing

Fields = Mapping[str, Any]


def play(fields: Fields, most_tokens: int) -> Played | None:
    """The answer to a request that has tools; None to any other."""
    tools, choice = fields.get("tools"), fields.get("tool_choice", "auto")
    if not isinstance(tools, list) or not tools:
        return None
    messages = fields["messages"]
    check_results(messages)
    if messages[-1].get("role") == "tool" and choice == "auto":
        return cut(["The", " tool", f" says: {messages[-1].get('content')}"], most_tokens)
    question = str([m for m in messages if m.get("role") == "user"][-1].get("content"))
    calls = list(calls_for(question, [each["function"] for each in tools], choice))
    if not calls:
        return cut(["Hello", ", that", " needs", " no", " tool."], most_tokens)
    return called(calls, THOUGHTS if question.startswith("Think") else (), most_tokens)


def check_results(messages: Sequence[Fields]) -> None:
    """A result has to belong to a call before it, as in the templates of most models."""
    known: set[Any] = set()
    for message in messages:
        known |= {call.get("id") for call in message.get("tool_calls") or ()}
        if message.get("role") == "tool" and message.get("tool_call_id") not in known:
            raise Refused("a tool message must follow the call with its tool_call_id")


def calls_for(question: str, functions: Sequence[Fields], choice: Any) -> Iterator[Fields]:
    """The calls, each with a name and arguments."""
    if choice == "none":
        return
    named = choice["function"]["name"] if isinstance(choice, dict) else None
    fitting = [each for each in functions if each["name"] == named or fits(each, question)]
    if named:
        fitting = [each for each in fitting if each["name"] == named]
    elif not fitting and choice == "required":
        fitting = list(functions)
    for function in fitting[:1]:
        schema = function.get("parameters", {})
        texts = PLACE.findall(question)
        for text in texts if "both" in question else texts[:1] or [""]:
            arguments = value_for("", schema, question, text) if schema else {}
            yield {"name": function["name"], "arguments": arguments}


def fits(function: Fields, question: str) -> bool:
    words = set(re.findall(r"[a-z]+", QUOTED.sub("", question).lower()))
    return any(part in words for part in function["name"].split("_") if part not in UNASKED)


def value_for(name: str, schema: Fields, question: str, text: str) -> Any:
    """What a property of this schema gets; `text`: the place that this call is about."""
    plain = question.lower()
    if "enum" in schema:
        return next((each for each in schema["enum"] if each in plain), schema["enum"][0])
    kind = schema.get("type")
    if kind == "object":
        parts = schema.get("properties", {})
        return {part: value_for(part, of, question, text) for part, of in parts.items()}
    if kind == "array":
        return [each for each in schema["items"].get("enum", ()) if each in plain]
    if kind == "boolean":
        return name in plain
    if kind == "integer":
        return int(next(iter(NUMBER.findall(question)), 0))
    if own := re.search(rf'\b{name} "(.*?)"', question):
        return own[1]
    return next(iter(QUOTED.findall(question)), text)


def called(calls: Sequence[Fields], thoughts: Sequence[str], most_tokens: int) -> Played:
    """An answer with these calls, whose arguments come in several deltas each."""
    deltas: list[dict[str, Any]] = [{"reasoning_content": each} for each in thoughts]
    whole: list[dict[str, Any]] = []
    for index, call in enumerate(calls):
        arguments = json.dumps(call["arguments"], ensure_ascii=False)
        about = {"id": new_id(), "type": "function"}
        first = {**about, "function": {"name": call["name"], "arguments": ""}}
        deltas.append({"tool_calls": [{"index": index, **first}]})
        for piece in pieces_of(arguments):
            deltas.append({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
        whole.append({**about, "function": {"name": call["name"], "arguments": arguments}})
    message: dict[str, Any] = {"role": "assistant", "content": None}
    if thoughts:
        message["reasoning_content"] = "".join(thoughts)
    if len(deltas) > most_tokens:
        return Played(deltas[:most_tokens], {**message, "content": ""}, "length")
    return Played(deltas, {**message, "tool_calls": whole}, "tool_calls")


_numbers = itertools.count(1)


def new_id() -> str:
    return f"call_{next(_numbers):06d}"


def pieces_of(text: str) -> list[str]:
    size = max(SHORT, -(-len(text) // MOST_DELTAS))
    return [text[start : start + size] for start in range(0, len(text), size)]
