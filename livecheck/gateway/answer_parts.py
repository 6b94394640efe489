"""What the SDK's check looks at in an answer: tool calls, logprobs, tokens, vectors."""

from __future__ import annotations

import contextlib
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from livecheck.core.json_value import as_line, figure_or_line, pick, pick_list, pick_text, quoted

MAX_COORDINATE = 1e30  # no embedding has a larger one
COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")  # of a usage

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
    names: defaultdict[int, list[str]] = defaultdict(list)
    arguments: defaultdict[int, list[str]] = defaultdict(list)
    problems = set()
    for chunk in chunks:
        for call in pick_list(chunk, "choices", 0, "delta", "tool_calls"):
            index = pick(call, "index")
            if not isinstance(index, int):
                problems.add("the delta of a tool call has no index")
                continue
            names[index].append(pick_text(call, "function", "name"))
            arguments[index].append(pick_text(call, "function", "arguments"))
    calls = [ToolCall("".join(names[each]), "".join(arguments[each])) for each in sorted(names)]
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
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            forms.append(b"".join(map(bytes, codes[:count])).decode("utf-8", "replace"))
        if whole_characters(content) in map(whole_characters, forms):
            return True
    return False


def whole_characters(text: str) -> str:
    """The text without characters that were cut in two, and without white space at its ends."""
    return text.replace("\N{REPLACEMENT CHARACTER}", "").strip()


# --- the chunks of a stream, as the SDK gives them

CHUNK_FIELDS = ("id", "object", "created", "model", "choices")


def is_chunk(value: Any) -> bool:
    """Whether it is a chunk: the SDK gives whatever object an event has, a `ping` as well."""
    return isinstance(value, dict) and any(name in value for name in CHUNK_FIELDS)


def without_choices(chunks: Sequence[Any]) -> list[Any]:
    """The chunks whose `choices` is not a list."""
    return [c for c in chunks if is_chunk(c) and not isinstance(c.get("choices"), list)]


# --- usage


def counts_of(usage: Any) -> dict[str, Any]:
    """What an account of tokens says, as far as it is one."""
    return {name: figure_or_line(pick(usage, name)) for name in COUNTS}


def is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def usage_problems(usage: Any, max_tokens: int) -> list[str]:
    """What is wrong with an account of tokens."""
    if not isinstance(usage, dict):
        return ["there is no usage"]
    problems = [f"{n} is {quoted(usage.get(n))}" for n in COUNTS if not is_count(usage.get(n))]
    if problems:
        return problems
    prompt, output, total = (usage[name] for name in COUNTS)
    if prompt + output != total:
        problems.append(f"usage does not add up: {prompt} + {output} is not {total}")
    if output > max_tokens:
        problems.append(f"{output} tokens, although max_tokens was {max_tokens}")
    return problems


# --- embeddings


def vector_problem(vector: object) -> str | None:
    if not isinstance(vector, list) or not vector:
        return "no vector in the answer"
    # NaN is not below the limit either
    if not all(isinstance(x, (int, float)) and abs(x) < MAX_COORDINATE for x in vector):
        return "a value in the vector is not a finite number"
    return None if any(vector) else f"all {len(vector)} dimensions are zero"


def cosine(one: list[float], other: list[float]) -> float:
    """-1 to 1; 0 for vectors of different length."""
    if len(one) != len(other):
        return 0.0
    product = sum(a * b for a, b in zip(one, other, strict=True))
    return product / math.hypot(*one) / math.hypot(*other)
