"""The rhythm of a stream: does it flow, or was it held back and sent at once, or in blocks?

A proxy that buffers holds back every stream. A busy machine may hold back one, and a client that
waits for a processor cannot tell: so what was held back counts only if that is so although the
client may have missed as much as it was starved.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from livecheck.wire import metrics
from livecheck.wire.answer import Answer
from livecheck.wire.chunk_form import finish_meaning
from livecheck.wire.output_arrivals import TOGETHER_MS, read_arrivals
from livecheck.wire.token_counts import can_hold, count_tokens

# A stream is one burst when its pieces come faster than any model writes, all at its end.
BURST_SHARE = 0.1  # of the request's time
LEAST_PIECES = 4  # fewer have no rhythm
CERTAIN = 3  # so many streams that were certainly held back are a verdict
MOST_STREAMS = 6  # with those that say nothing because the client was starved
LEAST_PER_S = 1  # arrivals of several tokens: fewer are jerks, however many events these come in

Beat = dict[str, Any]


class Paced(NamedTuple):
    """A stream at the wire, how long this program could not look while it came, and how long it had
    not looked just before the first output."""

    answer: Answer
    starved_ms: float
    unseen_ms: float

    @property
    def beat(self) -> Beat:
        return rhythm(self.answer, self.starved_ms, self.unseen_ms)


def rhythm(answer: Answer, starved_ms: float = 0.0, unseen_ms: float = 0.0) -> Beat:
    """How the output came: pieces, tokens in them, reads that brought them, times in ms.

    `arrivals`: what came together is one. `is_jerky`: a reader sees the text jump. `in_blocks`:
    more tokens come at once than an engine decodes in a step.
    """
    times = answer.stream.output_ns
    times_ms = [(each - (answer.sent_ns or 0)) / 1e6 for each in times]
    gaps = metrics.gaps(times_ms)
    by_event = read_arrivals(times_ms)
    tokens = tokens_of(answer)
    by_token = read_arrivals(times_ms, tokens)
    is_slow = by_token.per_s is not None and by_token.per_s < LEAST_PER_S
    return {
        "pieces": len(times),
        "tokens": tokens,
        "reads": len(set(times)),
        "arrivals": by_event.count,
        "over_ms": round(times_ms[-1] - times_ms[0], 3) if times else None,
        "of_ms": round(answer.spent_ms or 0.0, 3),
        "median_gap_ms": round(sorted(gaps)[len(gaps) // 2], 3) if gaps else None,
        "is_jerky": by_event.are_jerky or (by_token.are_jerky and is_slow),
        "in_blocks": by_token.are_blocks,
        "starved_ms": round(starved_ms, 3),
        "unseen_ms": round(unseen_ms, 3),
    }


def tokens_of(answer: Answer) -> float | None:
    """The tokens that were shown, by the server's count; without one, as many as were asked for
    when the answer ended there and its text can hold them."""
    stream, most = answer.stream, answer.most_tokens
    found = count_tokens(stream, most)
    if found.source == "events" and most and finish_meaning(stream.finish_reason or "") == "length":
        return most if can_hold(stream, int(most)) else found.shown
    return found.shown


def is_burst(beat: Beat) -> bool:
    """Whether a stream with this rhythm looks as if it was held back and then sent at once."""
    if beat["pieces"] < LEAST_PIECES:
        return False
    is_late = beat["over_ms"] < BURST_SHARE * beat["of_ms"]
    return bool(is_late and (beat["median_gap_ms"] < TOGETHER_MS or beat["arrivals"] == 1))


def is_held_back(beat: Beat) -> bool:
    """Whether it looks as if it was held back so that a reader sees it: at once, or in jerks."""
    return is_burst(beat) or (beat["pieces"] >= LEAST_PIECES and beat["is_jerky"])


def is_certain(beat: Beat) -> bool:
    """Whether that is the server's doing.

    A burst: its pieces came at the end of the request's time, even if the first of them came as
    much earlier as the client had not looked. Blocks: from one to the next it takes longer than
    the client could not look.
    """
    if is_burst(beat):
        return bool(beat["over_ms"] + beat["unseen_ms"] < BURST_SHARE * beat["of_ms"])
    return bool(beat["starved_ms"] < beat["over_ms"] / max(1, beat["arrivals"] - 1))


def certain_holds(beats: Sequence[Beat]) -> int:
    return sum(is_held_back(beat) and is_certain(beat) for beat in beats)


def is_decided(beats: Sequence[Beat]) -> bool:
    """Whether another stream would add nothing: the last one flows (or has no rhythm at all), or
    enough were certainly held back, or there are enough streams."""
    if not beats:
        return False
    flows = not is_held_back(beats[-1])
    return flows or certain_holds(beats) >= CERTAIN or len(beats) >= MOST_STREAMS
