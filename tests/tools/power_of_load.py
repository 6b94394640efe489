"""How often benchmark.py's judgement of a level is right: simulated levels, for `power.py`.

Not collected by pytest. Noise is lognormal, and each request's resembles that of the request before
(`memory`), so that the series wanders as those of real deployments do.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

from livecheck.load.drift import FIGURES, is_drift, trend_metrics
from livecheck.load.precision import Precision
from livecheck.load.steady import steady_metrics, window_of
from livecheck.wire.metrics import level_metrics, percentile

TTFT_MS, TPOT_MS, TOKENS = 200.0, 20.0, 5
NOISE = 0.15
SERVICE_S = 0.5  # of a queue's servers
Factor = Callable[[float], float]  # of the part of the level that is over


def wander(chance: random.Random, memory: float) -> Callable[[], float]:
    """The next state of a process of first order, with the variance 1."""
    state, fresh = chance.gauss(0, 1), math.sqrt(1 - memory**2)

    def following() -> float:
        nonlocal state
        state = memory * state + fresh * chance.gauss(0, 1)
        return state

    return following


def row(index: int, sent_ms: float, ttft_ms: float, tpot_ms: float) -> dict[str, Any]:
    times = [ttft_ms + n * tpot_ms for n in range(TOKENS)]
    return {
        **{"index": index, "error": None, "excluded": False, "sent_ms": sent_ms},
        **{"ended_ms": sent_ms + times[-1], "ttft_ms": ttft_ms, "e2e_ms": times[-1]},
        **{"tpot_ms": tpot_ms, "tokens_per_s": 1e3 / tpot_ms, "event_ms": times},
        **{"output_tokens": TOKENS, "token_source": "usage"},
    }


def closed_loop(
    chance: random.Random, count: int, slots: int, memory: float, ttft: Factor
) -> list[dict[str, Any]]:
    states = [wander(chance, memory) for _ in FIGURES]
    free, found = [(0.0, slot) for slot in range(slots)], []
    for index in range(count):
        sent_ms, slot = heapq.heappop(free)
        noise = [math.exp(NOISE * following()) for following in states]
        ttft_ms = TTFT_MS * ttft(index / count) * noise[0]
        found.append(row(index, sent_ms, ttft_ms, TPOT_MS * noise[1]))
        heapq.heappush(free, (found[-1]["ended_ms"], slot))
    return found


def open_loop(chance: random.Random, count: int, servers: int, use: float) -> list[dict[str, Any]]:
    """A queue: requests at random, each served for the same time. use: share of the capacity."""
    free_s, due_s, found = [0.0] * servers, 0.0, []
    for index in range(count):
        start_s = max(due_s, heapq.heappop(free_s))
        heapq.heappush(free_s, start_s + SERVICE_S)
        ttft_ms = 1e3 * (start_s - due_s) + TTFT_MS
        own = row(index, 1e3 * due_s, ttft_ms, (1e3 * SERVICE_S - TTFT_MS) / (TOKENS - 1))
        found.append(own | {"due_ms": 1e3 * due_s})
        due_s += chance.expovariate(use * servers / SERVICE_S)
    return found


def accused(rows: Sequence[dict[str, Any]], slots: int, is_open: bool = False) -> bool | None:
    """Whether the check warns of this level; None when it cannot tell."""
    figures = level_metrics(rows)
    window = window_of(rows, slots, is_open)
    if steady_metrics(rows, window, figures)["requests"] is None:
        return None
    trends = {k: t for k, t in trend_metrics(rows, window, slots, is_open).items() if t}
    return any(is_drift(key, trend) for key, trend in trends.items()) if trends else None


def share(outcomes: Sequence[bool | None]) -> str:
    known = [each for each in outcomes if each is not None]
    return f"{sum(known) / len(known):6.1%}" if known else f"{'-':>6}"


@dataclass(frozen=True)
class Course:
    """How the TTFT of a level goes. noise: the sigma of its logarithm; alike: so many requests in
    turn share a state, which resembles the state before by `memory`; own: the share of the variance
    that is each request's own."""

    slots: int
    noise: float
    memory: float
    alike: int = 1
    own: float = 0.0


COURSES = tuple(
    Course(slots, noise, memory, alike, own)
    for slots, alike, own in ((1, 1, 0.0), (8, 1, 0.0), (8, 8, 0.0), (1, 1, 0.5), (8, 8, 0.5))
    for noise in (0.05, 0.1, 0.3)
    for memory in (0.0, 0.5, 0.8, 0.9)
    if memory or not own or alike > 1
)
MOST = 20_000  # answers of a simulated level


def print_precision(levels: int) -> None:
    """How many answers --precision 5% takes, and how often the true median is in its interval.

    The chance of each row begins with a fixed seed, so that two versions see the same levels.
    """
    print(f"{levels} levels a row, at most {MOST:,} answers; the true median in the interval:\n")
    print("slots  alike  own  noise  memory  answers p50     p90  not reached  coverage")
    with ProcessPoolExecutor() as pool:
        found = pool.map(ends_of, COURSES, [levels] * len(COURSES))
        for course, ends in zip(COURSES, found, strict=True):
            done = [is_right for _, is_right in ends if is_right is not None]
            p50, p90 = (percentile([count for count, _ in ends], each) for each in (50, 90))
            right = f"{sum(done) / len(done):8.1%}" if done else f"{'-':>8}"
            row = f"{course.slots:5}  {course.alike:5}  {course.own:3.0%}  {course.noise:5.0%}"
            row += f"  {course.memory:6.1f}  {p50:11,.0f}  {p90:6,.0f}"
            print(f"{row}  {1 - len(done) / levels:11.1%}  {right}", flush=True)


def ends_of(course: Course, levels: int) -> list[tuple[int, bool | None]]:
    chance = random.Random(2)
    return [stops_at(chance, course) for _ in range(levels)]


def stops_at(chance: random.Random, course: Course, most: int = MOST) -> tuple[int, bool | None]:
    """After how many answers a level of --precision 5% ends, and whether the true median is in its
    interval; None when it does not end."""
    following, judge, state = wander(chance, course.memory), Precision(0.05, course.slots), 0.0
    common, own = course.noise * math.sqrt(1 - course.own), course.noise * math.sqrt(course.own)
    for index in range(most):
        if index % course.alike == 0:
            state = common * following()
        ttft_ms = TTFT_MS * math.exp(state + (chance.gauss(0, own) if own else 0.0))
        judge.add({"error": None, "ttft_ms": ttft_ms, "tokens_per_s": 50.0})
        if judge.is_reached:
            found = judge.found["ttft_ms"]
            assert found
            return judge.used, found.low <= TTFT_MS <= found.high
    return most, None


def print_trends(levels: int) -> None:
    """How often the check `steady` warns: of sound levels, and of levels that get slower."""
    chance = random.Random(1)
    kinds: dict[str, Factor] = {
        "steady": lambda _: 1.0,
        "ramp": lambda part: 2.0 if part < 0.1 else 1.0,
        "+5 %": lambda part: 1 + 0.05 * part,
        "+25 %": lambda part: 1 + 0.25 * part,
        "+50 %": lambda part: 1 + 0.5 * part,
        "flattens": lambda part: 1 + 0.5 * (1 - math.exp(-4 * part)),
    }
    print(f"{levels} levels a cell, noise {NOISE:.0%}; closed loops, TTFT grows over the level\n")
    print("slots  requests  memory" + "".join(f"{name:>10}" for name in kinds))
    for slots, count in ((1, 30), (1, 60), (1, 300), (4, 240), (16, 960)):
        for memory in (0.0, 0.5, 0.8):
            cells = ""
            for ttft in kinds.values():
                made = (closed_loop(chance, count, slots, memory, ttft) for _ in range(levels))
                cells += f"    {share([accused(rows, slots) for rows in made])}"
            print(f"{slots:5}  {count:8}  {memory:6.1f}{cells}", flush=True)
    uses = (0.5, 0.7, 0.8, 0.9, 1.1, 1.3)
    print("\nopen loops, by the share of the capacity that they ask for (two servers)\n")
    print("requests" + "".join(f"{use:>10.0%}" for use in uses))
    for count in (100, 300, 1000):
        cells = ""
        for use in uses:
            made = (open_loop(chance, count, 2, use) for _ in range(levels))
            cells += f"    {share([accused(rows, 1000, True) for rows in made])}"
        print(f"{count:8}{cells}", flush=True)
