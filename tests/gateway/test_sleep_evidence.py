"""What a first token's time says of a worker."""

from __future__ import annotations

import pytest

from livecheck.gateway.sleep_evidence import is_cold


@pytest.mark.parametrize(
    ("ttft_ms", "warm_ms", "cold"),
    [
        (1000, [20, 30, 40], True),
        (430, [20, 30, 40], True),
        (429, [20, 30, 40], False),  # not 0.4 s later
        (2900, [1000], False),  # not three times as late
        (3000, [1000], True),
    ],
)
def test_cold_is_both_much_later_and_many_times_later(
    ttft_ms: float, warm_ms: list[float], cold: bool
) -> None:
    assert is_cold(ttft_ms, warm_ms) is cold
