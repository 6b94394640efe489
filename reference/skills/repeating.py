"""A model that can repeat words, count on from where a list stops, and pick from a list.

It reads the last thing that the user says, in the forms that `test_concurrency.py` uses:
`Repeat: tavomiqe`, `Count on: tavomiqe 1, tavomiqe 2`, `red: tavomiqe, blue: relukapo. blue?`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .played import Played, cut

REPEAT = re.compile(r"Repeat: (.+)", re.DOTALL)
COUNT = re.compile(r"Count on: .*?(\w+) (\d+)$", re.DOTALL)
PICK = re.compile(r"(\w+: .+)\. (\w+)\?$", re.DOTALL)
PAIR = re.compile(r"(\w+): (\w+)")
COUNTED = 40  # numbers, unless the request sets a limit before that


def last_words(fields: Mapping[str, Any]) -> str:
    """What the user says last."""
    messages = fields.get("messages") or [{}]
    return str(messages[-1].get("content", "")).strip()


def answer(fields: Mapping[str, Any]) -> list[str] | None:
    """The tokens of the right answer; None when this model was asked something else."""
    asked = last_words(fields)
    if found := REPEAT.fullmatch(asked):
        return as_tokens(found[1])
    if found := COUNT.search(asked):
        name, last = found[1], int(found[2])
        return as_tokens(", ".join(f"{name} {last + step}" for step in range(1, COUNTED + 1)))
    if found := PICK.search(asked):
        pairs = dict(PAIR.findall(found[1]))
        return as_tokens(pairs.get(found[2], "none"))
    return None


def as_tokens(text: str) -> list[str]:
    """Words, each with the space before it."""
    return re.findall(r" ?[^ ]+", text)


def repeat(fields: Mapping[str, Any], most_tokens: int) -> Played | None:
    """The skill."""
    tokens = answer(fields)
    return None if tokens is None else cut(tokens, most_tokens)
