"""The rhythm in which the output of a stream comes: piece by piece, or held back and then at once.

A proxy that buffers holds back every stream. A busy machine may hold back one.
"""

from __future__ import annotations

from typing import Any

from livecheck.wire.answer import Answer

# A stream is one burst when its pieces come faster than any model writes, all at its end.
BURST_GAP_MS = 0.25
BURST_SHARE = 0.1  # of the request's time
LEAST_PIECES = 4  # fewer have no rhythm


def rhythm(answer: Answer) -> dict[str, Any]:
    """How the output came: pieces, reads that brought them, times in ms."""
    times = answer.stream.output_ns
    gaps = [(after - before) / 1e6 for before, after in zip(times, times[1:], strict=False)]
    return {
        "pieces": len(times),
        "reads": len(set(times)),
        "over_ms": round((times[-1] - times[0]) / 1e6, 3) if times else None,
        "of_ms": round(answer.spent_ms or 0.0, 3),
        "median_gap_ms": round(sorted(gaps)[len(gaps) // 2], 3) if gaps else None,
    }


def is_burst(beat: dict[str, Any]) -> bool:
    """Whether a stream with this rhythm was held back and then sent at once."""
    if beat["pieces"] < LEAST_PIECES:
        return False
    is_late = beat["over_ms"] < BURST_SHARE * beat["of_ms"]
    return bool(is_late and beat["median_gap_ms"] < BURST_GAP_MS)
