"""The skill "context": a model that reads a long text and repeats the numbers that it names.

The engine then has a context of a fixed size, as llama.cpp's server: it refuses what is longer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .played import Played, Refused, cut

NAMED = re.compile(r"The (first|second|third) number is (\d{4})\.")
QUESTION = "Write the three numbers"
NONE_SEEN = (" I", " see", " no", " numbers.")


def recall(fields: Mapping[str, Any], most_tokens: int) -> Played | None:
    """Repeats the numbers in the text, when it asks for them."""
    text = " ".join(str(message.get("content", "")) for message in fields.get("messages", ()))
    if QUESTION not in text:
        return None
    tokens: list[str] = []
    for name, value in NAMED.findall(text):
        tokens += [" The", f" {name}", " number", " is", f" {value}", "."]
    return cut(tokens or NONE_SEEN, most_tokens)


def room_in(context: int, prompt_tokens: int) -> int:
    """How many tokens an answer may have in a context of so many. Raises Refused: there is no
    room for any."""
    if prompt_tokens < context:
        return context - prompt_tokens
    raise Refused(
        f"request ({prompt_tokens} tokens) exceeds the available context size ({context} tokens), "
        "try increasing it",
        "exceed_context_size_error",
        n_prompt_tokens=prompt_tokens,
        n_ctx=context,
    )
