"""The prompt cache of the simulated engine: what it has read and said, by its beginning."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any


def words_of(message: Mapping[str, Any]) -> list[str]:
    """The tokens of a message: each word is one, and one without words has one as well."""
    return str(message.get("content", "")).split() or [""]


class PrefixCache:
    """The latest conversations, as many as `size`; 0: it keeps none."""

    def __init__(self, size: int) -> None:
        self._known: deque[tuple[str, ...]] = deque(maxlen=size)

    @property
    def is_there(self) -> bool:
        return self._known.maxlen != 0

    def cached(self, prompt: Sequence[str]) -> int:
        """How many tokens of a prompt need not be read again; as with llama.cpp, the last one is
        always read."""
        most = max((common(known, prompt) for known in self._known), default=0)
        return min(most, len(prompt) - 1)

    def add(self, conversation: Sequence[str]) -> None:
        self._known.append(tuple(conversation))


def common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many tokens both begin with."""
    count = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        count += 1
    return count
