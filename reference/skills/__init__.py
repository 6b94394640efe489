"""What the simulated engine can do besides repeating its list of words.

A skill looks at a request and plays the answer of a model that can do what is asked, or leaves the
request to the next skill. `SKILLS` names them; a deployment has those of its setting `skills`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import context, repeating, tools
from .played import Played, Refused

# The answer to a request, of so many tokens at most; None: this skill has nothing to say to it.
Skill = Callable[[Mapping[str, Any], int], "Played | None"]

SKILLS: dict[str, Skill] = {
    "repeat": repeating.repeat,
    "context": context.recall,
    "tools": tools.play,
}


def play(names: Sequence[str], fields: Mapping[str, Any], most_tokens: int) -> Played | None:
    """The answer of the first of these skills that has one. Raises Refused."""
    for name in names:
        if played := SKILLS[name](fields, most_tokens):
            return played
    return None


__all__ = ["SKILLS", "Played", "Refused", "Skill", "play"]
