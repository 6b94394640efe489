"""At which moments the output of a stream arrived: piece by piece, or in blocks? Pure.

Engines that decode several tokens in a step (speculative decoding, multi-step scheduling) send a
few at once, many times a second. A proxy that collects 4 or 16 KB, or some time, before it passes
anything on sends many at once, and seldom: a reader sees the text jump, and the time between two
events of a block says nothing about the engine.
"""

from __future__ import annotations

import bisect
import operator
from collections.abc import Sequence
from dataclasses import dataclass

TOGETHER_MS = 0.25  # events with less between them were sent together: no model is as fast
BURST_TOGETHER_MS = 0.5  # the same at the end of a long request: hardly any model is as fast
BURST_SHARE = 0.1  # of the request's time
# The events of a block are written and carried one after the other: there is some time between
# them, but little of all the time, and each gap is a small share of that to the next block. A
# single long gap may as well be the pause of a fast engine: that is no verdict.
MOST_TOGETHER_MS = 1.0
TOGETHER_SHARE = 0.2
MOST_OF_TIME = 0.4
CERTAIN_ARRIVALS = 3
# Tokens in an arrival, on average.
GROUPED = 2  # several: the last arrival may be a part of one
CLEARLY_GROUPED = 4  # fewer than a quarter of the tokens arrive apart
STEP = 8  # no engine decodes more in a step
# Arrivals a second from which on text seems to flow. 4: it grows by a few words at a time. 10: what
# takes 0.1 s seems to happen at once (Miller 1968). 25: the pictures of a film.
MANY_PER_S = 4
SMOOTH_PER_S = 10
FILM_PER_S = 25


@dataclass(frozen=True)
class Arrivals:
    """When output arrived (ms, ascending), how many events each arrival brought, and how many
    pieces all of them brought: tokens, or events if these are more. `are_apart`: the events of an
    arrival have some time between them."""

    at_ms: Sequence[float]
    events: Sequence[int]
    pieces: float
    are_apart: bool = False

    @property
    def count(self) -> int:
        return len(self.at_ms)

    @property
    def per_s(self) -> float | None:
        """Arrivals a second; None when there are fewer than two."""
        span_ms = self.at_ms[-1] - self.at_ms[0] if self.at_ms else 0.0
        return 1e3 * (self.count - 1) / span_ms if span_ms else None

    @property
    def are_grouped(self) -> bool:
        """Whether an arrival brings several tokens."""
        return self.pieces >= GROUPED * self.count

    @property
    def are_large(self) -> bool:
        """Whether an arrival brings more tokens than an engine decodes in a step."""
        return self.pieces > STEP * self.count

    @property
    def are_jerky(self) -> bool:
        """Whether a reader sees the text jump: many tokens at once, and seldom."""
        if self.per_s is None or self.pieces <= CLEARLY_GROUPED * self.count:
            return False
        if self._may_be_a_pause:
            return False
        least_per_s = SMOOTH_PER_S if self.are_large else MANY_PER_S
        return self.per_s < least_per_s

    @property
    def are_blocks(self) -> bool:
        """Whether the output was held back and sent in blocks. All of it in one arrival is the
        extreme case."""
        is_film = self.per_s is not None and self.per_s >= FILM_PER_S
        is_large = self.are_large and not (is_film or self._may_be_a_pause)
        return self.are_jerky or is_large

    @property
    def _may_be_a_pause(self) -> bool:
        return self.are_apart and 1 < self.count < CERTAIN_ARRIVALS


def read_arrivals(times_ms: Sequence[float], tokens: float | None = None) -> Arrivals:
    """The arrivals of output events that came at these times (ascending, in ms after the request).

    `tokens`: how many are in these events, where a server counts them. A block that is too large
    for the first flight of a connection comes in parts, one round trip apart: where many events
    come at once, arrivals that are much closer than the average are one.
    """
    if len(times_ms) > 1 and min(map(operator.sub, times_ms[1:], times_ms)) > MOST_TOGETHER_MS:
        return Arrivals(times_ms, [1] * len(times_ms), max(len(times_ms), tokens or 0))  # the usual
    starts = _starts(times_ms, together_ms(times_ms))
    if len(times_ms) > CLEARLY_GROUPED * len(starts) > CLEARLY_GROUPED:
        average_ms = (starts[-1] - starts[0]) / (len(starts) - 1)
        starts = _starts(starts, TOGETHER_SHARE * average_ms)
    bounds = [*(bisect.bisect_left(times_ms, start) for start in starts), len(times_ms)]
    events = [end - begin for begin, end in zip(bounds, bounds[1:], strict=False)]
    are_apart = len(starts) < len(_starts(times_ms, TOGETHER_MS))
    return Arrivals(starts, events, max(len(times_ms), tokens or 0), are_apart)


def together_ms(times_ms: Sequence[float]) -> float:
    """Up to which distance two events of this stream came together."""
    gaps = [later - earlier for earlier, later in zip(times_ms, times_ms[1:], strict=False)]
    far = [gap for gap in gaps if gap > MOST_TOGETHER_MS]
    if gaps and sum(gaps) < BURST_SHARE * times_ms[-1]:
        return BURST_TOGETHER_MS
    if not far or sum(gaps) - sum(far) > MOST_OF_TIME * sum(gaps):
        return TOGETHER_MS
    share_ms = TOGETHER_SHARE * sum(far) / len(far)
    return max(TOGETHER_MS, min(MOST_TOGETHER_MS, share_ms))


def _starts(times_ms: Sequence[float], together_ms: float) -> list[float]:
    """The times without those that follow the one before so closely that they came with it."""
    pairs = zip(times_ms, times_ms[1:], strict=False)
    later = [b for a, b in pairs if b - a > together_ms]
    return [*times_ms[:1], *later]
