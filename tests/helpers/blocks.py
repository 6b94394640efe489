"""A stream as a gateway passes it on that collects before it sends, and the truth about it.

The engine writes one event per token at an even pace; the gateway holds back what comes and sends
it in blocks. Times in ms, sizes in bytes.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

EVENT_BYTES = 197
END_BYTES = 700  # the chunks with the finish_reason and the usage, and [DONE]


@dataclass(frozen=True)
class Written:
    """Events as the engine writes them: when, and where each ends in the stream's bytes."""

    at_ms: Sequence[float]
    ends: Sequence[int]
    closed_ms: float  # the stream ends


def written(rate: float, tokens: int, ttft_ms: float = 180.0, late_end: bool = False) -> Written:
    """`late_end`: the model ends by itself, after one more step; else at the last token."""
    at_ms = [ttft_ms + 1e3 * n / rate for n in range(tokens)]
    # sizes differ, as words do
    sizes = [EVENT_BYTES + (7 * n) % 11 for n in range(tokens)]
    ends = [EVENT_BYTES + sum(sizes[: n + 1]) for n in range(tokens)]  # first the role
    return Written(at_ms, ends, at_ms[-1] + (1e3 / rate if late_end else 0.02))


# --- ways to hold back: the times at which the events arrive


def exact_blocks(stream: Written, size: int) -> list[float]:
    """Blocks of exactly so many bytes, which may end within an event."""
    found = []
    for end in stream.ends:
        until = -(-end // size) * size  # the block that has its last byte is full here
        full = bisect.bisect_left(stream.ends, until)
        found.append(stream.at_ms[full] if full < len(stream.ends) else stream.closed_ms)
    return found


def full_blocks(stream: Written, size: int) -> list[float]:
    """Whole events, as soon as they are so many bytes."""
    found: list[float] = []
    begin, waiting = 0, 0
    for number, end in enumerate(stream.ends):
        waiting += 1
        if end - begin >= size:
            found += [stream.at_ms[number]] * waiting
            begin, waiting = end, 0
    return found + [stream.closed_ms] * waiting


def ticks(stream: Written, every_ms: float, phase_ms: float = 0.0) -> list[float]:
    """At every tick of a clock; what is left at the end waits for the next one."""
    return [every_ms * -(-(at - phase_ms) // every_ms) + phase_ms for at in stream.at_ms]


def ticks_and_end(stream: Written, every_ms: float) -> list[float]:
    """The same, but what is left at the end is sent at once."""
    return [min(at, stream.closed_ms) for at in ticks(stream, every_ms, 31.0)]


def groups(stream: Written, count: int) -> list[float]:
    """So many events at once."""
    last = len(stream.at_ms) - 1
    found = [stream.at_ms[min(last, n // count * count + count - 1)] for n in range(last + 1)]
    return [stream.closed_ms if n // count == last // count else at for n, at in enumerate(found)]


def spread(times_ms: Sequence[float], apart_ms: float) -> list[float]:
    """The events of a block written one after the other, so much apart."""
    found: list[float] = []
    for at in times_ms:
        found.append(max(at, found[-1] + apart_ms) if found else at)
    return found


def in_flights(times_ms: Sequence[float], first: int, round_trip_ms: float) -> list[float]:
    """Of each block only so many events come at first, the rest a round trip later."""
    seen: dict[float, int] = {}
    found = []
    for at in times_ms:
        seen[at] = seen.get(at, 0) + 1
        found.append(at if seen[at] <= first else at + round_trip_ms)
    return sorted(found)


WAYS: dict[str, Callable[[Written], list[float]]] = {
    **{f"exactly {n} KB": lambda s, n=n: exact_blocks(s, n << 10) for n in (1, 4, 16)},  # type: ignore[misc]
    **{f"full {n} KB": lambda s, n=n: full_blocks(s, n << 10) for n in (1, 4, 16)},  # type: ignore[misc]
    **{f"every {n} ms": lambda s, n=n: ticks(s, n) for n in (50, 200, 1000)},  # type: ignore[misc]
    **{f"within {n} ms": lambda s, n=n: ticks_and_end(s, n) for n in (50, 200, 1000)},  # type: ignore[misc]
    **{f"{n} events": lambda s, n=n: groups(s, n) for n in (12, 30)},  # type: ignore[misc]
}
