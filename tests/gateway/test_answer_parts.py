"""A burst is told from a rhythm."""

from __future__ import annotations

import pytest

from livecheck.gateway.answer_parts import is_burst

# pieces, over ms, of ms, median gap in ms: is it a burst?
BEATS = [
    (64, 600.0, 650.0, 9.4, False),
    (64, 63.0, 70.0, 0.0, False),  # a busy machine joins events, but not all
    (16, 80.0, 2000.0, 5.0, False),  # a long prefill, then a fast model
    (64, 1.0, 650.0, 0.01, True),
    (64, 0.0, 30000.0, 0.0, True),
    (3, 0.0, 650.0, 0.0, False),  # too few to tell
]


@pytest.mark.parametrize(("pieces", "over", "of", "gap", "burst"), BEATS)
def test_a_burst_is_told_from_a_rhythm(
    pieces: int, over: float, of: float, gap: float, burst: bool
) -> None:
    beat = {"pieces": pieces, "over_ms": over, "of_ms": of, "median_gap_ms": gap}
    assert is_burst(beat) is burst
