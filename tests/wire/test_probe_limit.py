"""How long a probe may take, apart from the way to the server."""

from __future__ import annotations

import pytest

from livecheck.wire.probe_limit import is_too_slow


@pytest.mark.parametrize(
    ("spent_s", "network_s", "expected"),
    [(0.9, 0, False), (1.1, 0, True), (1.1, 0.2, False), (8.0, 0.2, True)],
)
def test_a_probe_may_take_a_second_and_its_way(
    spent_s: float, network_s: float, expected: bool
) -> None:
    assert is_too_slow(spent_s, network_s) is expected
