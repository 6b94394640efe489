"""The gateway's request log: what is new in it, which entry is about which of our requests, and
what refused requests have cost.

An entry has no id that we could know. Its `timestamp` is when the request came in, its `latency_ms`
the time from then to the end of the answer, of a stream as well (lelloman/simple-ai,
backend/src/routes/chat.rs). Their sum is when the request ended by the gateway's clock, and is
compared with when it ended for us. The request that was sent alone is in both, and tells how far
the two clocks are apart.
"""

from __future__ import annotations

import bisect
import copy
import math
import re
import statistics
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from livecheck.core.late_pattern import late_pattern
from livecheck.fleet.api import LOG_PAGE, Admin, LogEntry, Unreadable
from livecheck.fleet.busy_times import ended_ms
from livecheck.wire.answer import Answer

LAG_S = 5.0  # how long the log may take to show a request that has ended
POLL_S = 0.2
MORE_PAGES = 20  # of the log, beyond those that our own requests fill
REFUSED = late_pattern(r"\b40[13]\b|unauthori[sz]ed|forbidden|denied", re.IGNORECASE)
FAILED = late_pattern(r"[45]\d\d")
# An entry is similar to a request of ours when its times differ by no more than this, or than twice
# the difference that gives enough entries: somebody else's entry may be nearer than our own. On
# loopback the difference is up to 15 ms, but up to 130 ms when 40 requests come in at once.
SIMILAR_MS = 40.0  # in the end and the latency together
NEAR_MS = 1000.0  # an entry is compared with requests that ended this near to it, if there are any
FIT_MS = 200.0  # entries that ended further from ours than this, by the median, are not about ours
NEIGHBOURS = 4  # requests that ended next, and may be confused with this one


# --- read


def is_for(entry: LogEntry, models: Collection[str]) -> bool:
    """Whether the entry is about one of these models, or names none."""
    return entry.model is None or entry.model in models


def has_failed(entry: LogEntry) -> bool:
    return bool(FAILED.fullmatch(entry.status or ""))


def is_over(entry: LogEntry) -> bool:
    """Whether the request has ended, and the entry says what is needed here."""
    is_timed = entry.at_s is not None and entry.latency_ms is not None
    return is_timed and (entry.runner_id is not None or has_failed(entry))


class LogReader:
    """Reads what is new in the log. All the reading together takes at most --timeout."""

    def __init__(self, admin: Admin):
        self._admin = copy.copy(admin)  # where the log cannot be read, the runners may be readable
        self._left_s: float = admin.wire.timeout_s
        self._known: set[str] = set()

    def ignore_present(self) -> None:
        """What the log shows now is not new any more. Raises Unreadable."""
        self._known |= {entry.id for entry in self._page(1)}

    def wait_for(self, count: int, models: Collection[str]) -> list[LogEntry]:
        """The new entries, which are not new any more then. Raises Unreadable.

        It waits until there are `count` ended requests for these models and two readings show the
        same number, but no longer than LAG_S.
        """
        deadline_s, before = time.perf_counter() + LAG_S, -1
        while True:
            new = self.read_new(count)
            ended = sum(is_for(entry, models) and is_over(entry) for entry in new)
            if before == ended >= count or time.perf_counter() > deadline_s:
                self._known |= {entry.id for entry in new}
                return new
            before = ended
            time.sleep(POLL_S)

    def read_new(self, count: int) -> list[LogEntry]:
        """Page by page, the latest first, until one has a known entry on it. Raises Unreadable."""
        found: dict[str, LogEntry] = {}
        most = count + MORE_PAGES * LOG_PAGE
        for page in range(1, MORE_PAGES + count // LOG_PAGE + 1):
            entries = self._page(page)
            new = {entry.id: entry for entry in entries if entry.id not in self._known}
            is_last = len(new) < len(entries) or not new.keys() - found.keys()
            found |= new
            if is_last or len(found) >= most:
                break
        return list(found.values())[:most]

    def _page(self, page: int) -> list[LogEntry]:
        """Raises Unreadable, also when all the reading takes too long."""
        wire, begun_s = self._admin.wire, time.perf_counter()
        timeout_s, wire.timeout_s = wire.timeout_s, max(0.001, self._left_s)
        try:
            return self._admin.log(page)
        except Unreadable as error:
            if time.perf_counter() - begun_s < self._left_s:
                raise
            raise Unreadable(f"reading the request log took more than {timeout_s:g} s") from error
        finally:
            wire.timeout_s = timeout_s
            self._left_s -= time.perf_counter() - begun_s


@dataclass
class RequestLog:
    """What was read of the log: `alone` is the entry of the last request that was sent alone, None
    if the log does not show it; `entries` is what came into it afterwards."""

    alone: LogEntry | None = None
    entries: list[LogEntry] = field(default_factory=list)


def latest(entries: Sequence[LogEntry], models: Collection[str]) -> LogEntry | None:
    """The ended request for one of these models that came in last."""
    own = [entry for entry in entries if is_for(entry, models) and is_over(entry)]
    return max(own, key=lambda entry: entry.at_s or 0.0, default=None)


# --- find our requests in it


class Finish(NamedTuple):
    """How a request ended, by our clock (ms): when, after how long, and whether it failed."""

    at_ms: float
    took_ms: float
    failed: bool

    def distance(self, other: Finish) -> float:
        return abs(self.at_ms - other.at_ms) + abs(self.took_ms - other.took_ms)


@dataclass(frozen=True)
class Found:
    """Entries of the log by the position of our request, and the ids of all the entries that could
    be about one of ours, by their times."""

    entries: dict[int, LogEntry]
    similar: frozenset[str]


def find_requests(
    answers: Sequence[Answer], entries: Sequence[LogEntry], alone: Answer, its_entry: LogEntry
) -> Found | None:
    """Our requests among these entries of ended requests; None when the times do not fit ours."""
    if not (answers and entries):
        return None
    shift_ms = clock_ahead_ms(alone, its_entry)
    lag_ms = (alone.spent_ms or 0.0) - (
        its_entry.latency_ms or 0.0
    )  # a part of the time that only we see
    ours = [
        Finish(ended_ms(each), (each.spent_ms or 0.0) - lag_ms, each.completion.problem is not None)
        for each in answers
    ]
    found = [
        Finish(ended_at_ms(each) - shift_ms, each.latency_ms or 0.0, has_failed(each))
        for each in entries
    ]
    near = similar(ours, found)
    theirs = [found[place] for place in near]
    pairs = exchanged(pair(ours, theirs), ours, theirs)
    off_ms = statistics.median(abs(ours[a].at_ms - theirs[b].at_ms) for a, b in pairs.items())
    if off_ms > FIT_MS:
        return None
    ids = frozenset(entries[place].id for place in near)
    return Found({a: entries[near[b]] for a, b in pairs.items()}, ids)


def clock_ahead_ms(alone: Answer, its_entry: LogEntry) -> float:
    """How far the gateway's clock is ahead of ours, by a request that both have seen."""
    return ended_at_ms(its_entry) - ended_ms(alone)


def ended_at_ms(entry: LogEntry) -> float:
    """When the request ended, by the gateway's clock."""
    return (entry.at_s or 0.0) * 1e3 + (entry.latency_ms or 0.0)


def similar(ours: Sequence[Finish], theirs: Sequence[Finish]) -> list[int]:
    """The places of those that could be ours: one of ours ended at about the same time, and took
    about as long."""
    ordered = sorted(ours)
    times = [each.at_ms for each in ordered]

    def off_ms(each: Finish) -> float:
        first = bisect.bisect_left(times, each.at_ms - NEAR_MS)
        last = bisect.bisect_right(times, each.at_ms + NEAR_MS)
        return min(map(each.distance, ordered[first:last] or ordered))

    off = list(map(off_ms, theirs))
    enough = min(len(ours), len(theirs))
    within_ms = max(SIMILAR_MS, 2 * sorted(off)[enough - 1])
    return [place for place, each in enumerate(off) if each <= within_ms]


def pair(ours: Sequence[Finish], theirs: Sequence[Finish]) -> dict[int, int]:
    """The place in `theirs` for each place in `ours`, by the time of the end. What succeeded is
    paired with what succeeded first, then what failed with what failed, then the rest."""
    pairs: dict[int, int] = {}
    for outcomes in ((False,), (True,), (False, True)):
        taken = set(pairs.values())
        mine = [n for n, each in enumerate(ours) if n not in pairs and each.failed in outcomes]
        left = [n for n, each in enumerate(theirs) if n not in taken and each.failed in outcomes]
        found = align([ours[n].at_ms for n in mine], [theirs[n].at_ms for n in left])
        pairs |= {mine[a]: left[b] for a, b in found}
    return pairs


def exchanged(
    pairs: dict[int, int], ours: Sequence[Finish], theirs: Sequence[Finish]
) -> dict[int, int]:
    """The same pairs; but two requests that ended at about the same time change places when their
    latencies fit better that way."""
    found = dict(pairs)
    order = sorted(pairs, key=lambda place: ours[place].at_ms)
    for n, one in enumerate(order):
        for other in order[n + 1 : n + 1 + NEIGHBOURS]:
            a, b = theirs[found[one]], theirs[found[other]]
            as_it_is = ours[one].distance(a) + ours[other].distance(b)
            exchange = ours[one].distance(b) + ours[other].distance(a)
            if ours[one].failed == ours[other].failed and exchange < as_it_is:
                found[one], found[other] = found[other], found[one]
    return found


def align(mine: Sequence[float], theirs: Sequence[float]) -> list[tuple[int, int]]:
    """Indices of both, paired so that the sum of the differences is the least possible. Each of
    the shorter list has a partner.

    In sorted lists, pairs that cross are never better. So the n-th of the shorter list goes with
    the n-th of the longer one, or with one after it: as many places later as were left out before.
    `least[k]` is the least sum for the rows so far, with up to k of the longer list left out.
    """
    if len(mine) > len(theirs):
        return [(a, b) for b, a in align(theirs, mine)]
    rows = sorted(range(len(mine)), key=mine.__getitem__)
    columns = sorted(range(len(theirs)), key=theirs.__getitem__)
    spare = len(columns) - len(rows)
    least, pairs_better = [0.0] * (spare + 1), []
    for n, row in enumerate(rows):
        sums, better, best = [], bytearray(spare + 1), math.inf
        for left_out in range(spare + 1):
            paired = least[left_out] + abs(mine[row] - theirs[columns[n + left_out]])
            if paired < best:
                best, better[left_out] = paired, 1
            sums.append(best)
        least = sums
        pairs_better.append(better)
    pairs, left_out = [], spare
    for n in reversed(range(len(rows))):
        left_out = pairs_better[n].rindex(1, 0, left_out + 1)
        pairs.append((rows[n], columns[n + left_out]))
    return pairs


# --- what refused requests cost the fleet


@dataclass
class RefusalCost:
    """What is new in the request log after requests that must be refused.

    `charged`: what each refusal cost that reached a runner. `unserved`: how many entries have
    a runner that no served request accounts for. `problem`: why the log could not be read.
    """

    charged: list[str] = field(default_factory=list)
    unserved: int = 0
    problem: str | None = None
    log: LogReader | None = None

    def start(self, admin: Admin) -> None:
        try:
            self.log = LogReader(admin)
            self.log.ignore_present()
        except Unreadable as error:
            self.problem = str(error)

    def finish(self, refused: int, served: int) -> None:
        """Read the log; `refused` and `served` are the numbers of our own requests."""
        if self.log is None or self.problem:
            return
        try:
            entries = self.log.read_new(refused + served)
        except Unreadable as error:
            self.problem = str(error)
            return
        self.charged = [cost for entry in entries if (cost := cost_of(entry))]
        self.unserved = count_unserved(entries, refused, served)


def cost_of(entry: LogEntry) -> str | None:
    """What this entry says that a refusal cost; None for any other entry.

    A request that failed in another way is not counted: it may be somebody else's.
    """
    if not REFUSED.search(entry.status or ""):
        return None
    if entry.wol_sent:
        return f"a {entry.status} with wol_sent"
    return f"a {entry.status} with runner {entry.runner_id}" if entry.runner_id else None


def count_unserved(entries: Sequence[LogEntry], refused: int, served: int) -> int:
    """How many entries have a runner beyond the requests that were served, whatever the log calls
    their status. 0 when they may be somebody else's: fewer than half of what was refused."""
    reached = {entry.id for entry in entries if entry.runner_id or entry.wol_sent}
    beyond = len(reached) - served
    return beyond if refused and beyond >= refused / 2 else 0
