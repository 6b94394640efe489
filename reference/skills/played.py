"""The answer that the simulated engine gives to one request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class Refused(Exception):
    """The engine refuses the request. The text is the reason, `kind` the type of the error."""

    def __init__(self, text: str, kind: str = "invalid_request_error", **more: Any) -> None:
        super().__init__(text)
        self.kind = kind
        self.more = more  # other keys of the error object


@dataclass(frozen=True)
class Played:
    """An answer: the deltas of its stream, each of which takes the time of one token, and the same
    as the whole message of an answer that is not streamed."""

    deltas: Sequence[dict[str, Any]]
    message: dict[str, Any]
    finish_reason: str


def spoken(tokens: Sequence[str], finish_reason: str = "stop") -> Played:
    """An answer in text; `tokens` joined are its content."""
    deltas = [{"content": token} for token in tokens]
    message = {"role": "assistant", "content": "".join(tokens)}
    return Played(deltas, message, finish_reason)


def cut(tokens: Sequence[str], most_tokens: int) -> Played:
    """The same for an answer that ends where the limit of the request is reached."""
    is_cut = len(tokens) > most_tokens
    return spoken(tokens[:most_tokens], "length" if is_cut else "stop")
