"""What the SDK's check looks at in an answer: logprobs, tokens, chunks, vectors."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any

from livecheck.core.json_value import figure_or_line, pick, pick_list, pick_text, quoted

MAX_COORDINATE = 1e30  # no embedding has a larger one
ALIKE = 0.1  # of a count: two that differ by no more are not told apart
COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")  # of a usage
# what the Responses API calls them
OF_RESPONSES = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens"}

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
    found = {name: figure_or_line(pick(usage, name)) for name in COUNTS}
    for name, other in OF_RESPONSES.items():
        if found[name] is None:
            found[name] = figure_or_line(pick(usage, other))
    return found


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


def prompt_doubt(streamed: Any, whole: Any) -> str | None:
    """Why two accounts of the same prompt cannot both be right, None if they can: of a stream, and
    of a whole answer before it. Fewer tokens later may have come from a cache, more cannot."""
    later, before = (counts_of(usage)["prompt_tokens"] for usage in (streamed, whole))
    if not (is_count(later) and is_count(before)):
        return None
    if later - before <= max(1, before * ALIKE):
        return None
    return f"{later} tokens of the prompt, and {before} in a whole answer to the same prompt"


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
