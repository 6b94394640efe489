"""Pure: which kinds of sound rate limiters could have served these requests.

There are several ways to allow N requests in W seconds, and each of them is right:

* sliding window: never more than N within any W seconds;
* fixed window: N in each window, which begins at a time that nobody outside knows, so that up to
  2 N can be served one after the other, around the moment at which it turns over;
* token bucket: N at once, and N in W seconds more, little by little (nginx's `limit_req` serves one
  more than its `burst` at once).

What was served is compared with the most that each kind can serve. Requests of other clients can
only make it less, so that they never lead to a false accusation. A request was decided on at some
time between its sending and its end: only what is too much whenever that was counts.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from typing import NamedTuple

SLIDING, FIXED, BUCKET = "sliding window", "fixed window", "token bucket"
TIMER_S = 0.01  # by so much a limiter's own clock and timer may be off


class Span(NamedTuple):
    """When a request was sent, and when its answer had come, in s on one clock."""

    sent_s: float
    ended_s: float


class Served:
    """What was served, in order. `within` never counts too many: of requests that overlap its ends
    it may leave out some that belong to it."""

    def __init__(self, spans: Sequence[Span]):
        self.sent_s = sorted(each.sent_s for each in spans)
        self.ended_s = sorted(each.ended_s for each in spans)

    def within(self, start_s: float, end_s: float) -> int:
        """How many were certainly decided on from the one time to the other."""
        ended = bisect.bisect_right(self.ended_s, end_s)
        return max(0, ended - bisect.bisect_left(self.sent_s, start_s))

    def most_within(self, length_s: float) -> int:
        """The most within any time of this length."""
        return max((self.within(at_s, at_s + length_s) for at_s in self.sent_s), default=0)


def sound_kinds(
    spans: Sequence[Span], limit: int, window_s: float, may_refill: bool = True
) -> list[str]:
    """The kinds that could have served all of these requests; an empty list: no sound limiter did.

    `may_refill`: whether it may be a token bucket. It is not one if requests were refused after
    half a window, in which a bucket fills up by half.
    """
    served, found = Served(spans), []
    if served.most_within(window_s - TIMER_S) <= limit:
        found.append(SLIDING)
    if fits_fixed(served, limit, window_s):
        found.append(FIXED)
    if may_refill and fits_bucket(served, limit, window_s):
        found.append(BUCKET)
    return found


def fits_fixed(served: Served, limit: int, window_s: float) -> bool:
    """Whether there is a time at which the windows may turn over, so that none has more than N.

    It is enough to try the times at which a request leaves a window, or enters the next one.
    """
    if served.most_within(window_s - TIMER_S) > 2 * limit:  # two windows, wherever one ends
        return False
    times = [*served.sent_s, *served.ended_s]
    return not times or any(
        _most_in_window(served, at_s, window_s) <= limit for at_s in dict.fromkeys(times)
    )


def _most_in_window(served: Served, edge_s: float, window_s: float) -> int:
    """The most requests of one window, if one begins at `edge_s`."""
    first = math.floor((served.sent_s[0] - edge_s) / window_s)
    last = math.floor((served.ended_s[-1] - edge_s) / window_s)
    starts = (edge_s + number * window_s for number in range(first, last + 1))
    return max(served.within(at_s + TIMER_S, at_s + window_s - TIMER_S) for at_s in starts)


def fits_bucket(served: Served, limit: int, window_s: float) -> bool:
    """Whether a bucket of N + 1 that gets N new places in W seconds can have had enough of them:
    from any time to any later one no more than it has, and gets meanwhile."""
    rate = limit / window_s
    least, begun = math.inf, 0
    for number, end_s in enumerate(served.ended_s, start=1):
        while begun < len(served.sent_s) and served.sent_s[begun] <= end_s:
            least = min(least, begun - rate * served.sent_s[begun])
            begun += 1
        if number - rate * (end_s + TIMER_S) - least > limit + 1:
            return False
    return True
