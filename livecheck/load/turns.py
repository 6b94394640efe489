"""Conversations (`--turns`): each turn sends all that was said before it, so that a server which
keeps what it has read can take it from its cache.

The first turn of each conversation is unique: nothing of it is in a cache. From the second turn on
the prompt begins with what the server has read and said itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from livecheck.core.text import figure
from livecheck.load import table
from livecheck.load.arrivals import Load, Messages
from livecheck.load.record import Record
from livecheck.wire.answer import Answer
from livecheck.wire.conversation import Following
from livecheck.wire.metrics import succeeded, summary
from livecheck.wire.wire import Reply, Request

MOST = 1000  # turns of a conversation
MOST_SAID = 1 << 20  # characters of its answers: 250,000 tokens; what a flood says is not sent back
TOO_LONG = (400, 413, 422)  # statuses by which servers refuse a prompt that has no room
# What the user says from the second turn on, again and again.
GO_ON = ("Go on.", "What happens next?", "Say more about the last part.", "And then?")
GO_ON_TOKENS = 32  # of one of them, with what a chat template adds to it and to the answer, at most
HEADS = ("turn", "n", "TTFT p50", "TTFT p95", "prompt", "cached", "share")
WIDTHS = (9, 7, 12, 12, 11, 11, 10)


@dataclass
class Talk:
    """One conversation: its number, its turns so far, and the messages of the last one."""

    number: int
    turn: int
    messages: Messages
    said: int = 0  # characters of all answers

    def after(self, reply: Reply) -> Talk | None:
        """The next turn of it; None when there was no answer that can be gone on from."""
        answer = Answer(reply)
        if answer.stream_error is not None:
            return None
        said, _ = answer.said  # thoughts are left out of the history, as applications do it
        if self.said + len(said) > MOST_SAID:
            return None
        mine = {"role": "user", "content": GO_ON[(self.turn - 1) % len(GO_ON)]}
        history = [*self.messages, {"role": "assistant", "content": said}, mine]
        return Talk(self.number, self.turn + 1, history, self.said + len(said))


class Talks(Following):
    """The conversations of a level: as many as its requests are, or as its time allows.

    `begin` makes the messages of the first turn, `ask` a request of messages.
    """

    def __init__(
        self, load: Load, begin: Callable[[], Messages], ask: Callable[[Messages], Request]
    ):
        self._begin, self._ask = begin, ask
        self._turns = load.turns or 1
        self._left = None if load.requests is None else load.requests // self._turns
        lasts_s = load.duration_s
        self._end_s = None if lasts_s is None else time.perf_counter() + lasts_s
        self._begun = 0
        self._running: dict[int, Talk] = {}  # by the index of the last request
        self.places: list[tuple[int, int]] = []  # conversation and turn of each request, from 1 on

    def following(self, last: Reply | None) -> Request | None:
        talk = self._running.pop(last.index, None) if last is not None else None
        if self._end_s is not None and time.perf_counter() >= self._end_s:
            return None
        if talk is not None and last is not None:
            talk = talk.after(last) if talk.turn < self._turns else None
        talk = talk or self._new()
        if talk is None:
            return None
        self._running[len(self.places)] = talk
        self.places.append((talk.number, talk.turn))
        return self._ask(talk.messages)

    def _new(self) -> Talk | None:
        if self._left is not None:
            if not self._left:
                return None
            self._left -= 1
        self._begun += 1
        return Talk(self._begun, 1, self._begin())

    def marked(self, records: Iterable[Record]) -> list[Record]:
        """The records with their conversation and turn in front."""
        found = []
        for record in records:
            number, turn = self.places[record["index"]]
            found.append(record.copy(conversation=number, turn=turn))
        return found


# --- figures


def turn_metrics(records: Sequence[Mapping[str, Any]], turns: int) -> dict[str, Any]:
    """The figures by turn, from records with a `turn`: of the successful requests."""
    each = [
        of_turn(turn, [r for r in records if r["turn"] == turn]) for turn in range(1, turns + 1)
    ]
    later = [record for record in records if record["turn"] > 1]
    return {
        "turns": turns,
        "conversations": sum(record["turn"] == 1 for record in records),
        "cached_share": share_of(succeeded(later)),
        "first_turn_ttft_ms": each[0]["ttft_ms"],
        "later_turns_ttft_ms": of_turn(0, later)["ttft_ms"],
        "by_turn": each,
    }


def of_turn(turn: int, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found = succeeded(records)

    def values(name: str) -> list[float]:
        return [each[name] for each in found if each[name] is not None]

    return {
        "turn": turn,
        "requests": sum(not each["excluded"] for each in records),
        "succeeded": len(found),
        "ttft_ms": summary(values("ttft_ms")),
        "prompt_tokens": summary(values("prompt_tokens"), 1),
        "cached_tokens": summary(values("cached_tokens"), 1),
        "cached_share": share_of(found),
    }


def share_of(found: Sequence[Mapping[str, Any]]) -> float | None:
    """How many of the prompt tokens came from a cache, of the answers that say both."""
    names = ("prompt_tokens", "cached_tokens")
    both = [each for each in found if all(each[name] is not None for name in names)]
    prompt, cached = (sum(each[name] for each in both) for name in names)
    return round(cached / prompt, 6) if prompt else None


def refusal(found: Sequence[Mapping[str, Any]]) -> str | None:
    """Why a level says nothing: its conversations outgrow what the server reads, as it is only from
    a later turn on that requests are refused."""
    bad = [each for each in found if each["error"] is not None]
    later = [each for each in bad if (each.get("turn") or 1) > 1 and each["status"] in TOO_LONG]
    if not bad or len(later) < len(bad):
        return None
    first = min(each["turn"] for each in later)
    said = later[0]["error_text"]
    return f"{len(later)} of {len(found)} requests are refused, from turn {first} on: {said}"


# --- show


def turn_lines(figures: Mapping[str, Any]) -> list[str]:
    """TTFT and cached tokens by turn; nothing of a level without turns."""
    if "by_turn" not in figures:
        return []
    rows = [cells(each) for each in figures["by_turn"]]
    lines = table.columns((HEADS, *rows), WIDTHS)
    return ["  by turn, times in ms and medians of tokens; turn 1 is unique:", *lines]


def cells(figures: Mapping[str, Any]) -> tuple[str, ...]:
    share, tokens = figures["cached_share"], ("prompt_tokens", "cached_tokens")
    counts = [figures[name]["p50"] for name in tokens]
    return (
        f"{figures['turn']}",
        f"{figures['succeeded']}",
        *(figure(figures["ttft_ms"][name]) for name in ("p50", "p95")),
        *("-" if count is None else f"{count:.0f}" for count in counts),
        "-" if share is None else f"{share:.0%}",
    )


def cache_words(figures: Mapping[str, Any]) -> str:
    """Whether the history came from a cache, in a line."""
    share = figures.get("cached_share")
    if share is None:
        return "not told by the server (usage.prompt_tokens_details.cached_tokens)"
    return f"{share:.1%} of the prompt tokens from turn 2 on came from it"
