"""Shares, their intervals and bounds."""

from __future__ import annotations

import pytest

from livecheck.wire.shares import Share, parse_bound

NAMES = ("schema_accuracy", "right_tool")


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    # Wilson's intervals as R's binom.confint(method = "wilson") gives them
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (1, 1, 0.2065, 1.0)],
)
def test_the_interval_is_wilsons(hits: int, of: int, low: float, high: float) -> None:
    assert Share(hits, of).interval == pytest.approx((low, high), abs=1e-4)


def test_of_nothing_there_is_no_share() -> None:
    assert Share(0, 0).as_dict() == {"share": None, "low": None, "high": None, "hits": 0, "n": 0}
    assert str(Share(0, 0)) == "- of 0"
    assert str(Share(19, 20)) == "95 % of 20 (76 to 99 %)"


@pytest.mark.parametrize("text", ["schema_accuracy=95%", "schema_accuracy=0.95"])
def test_a_bound_is_a_share_or_a_percentage(text: str) -> None:
    bound = parse_bound(text, NAMES)
    assert str(bound) == "schema_accuracy=95%"
    assert bound.holds(Share(19, 20)) and not bound.holds(Share(18, 20))
    assert not bound.holds(Share(0, 0))


@pytest.mark.parametrize(
    "text",
    ["", "95%", "speed=95%", "right_tool=", "right_tool=95", "right_tool=-1", "right_tool=x%"],
)
def test_a_wrong_bound_is_named(text: str) -> None:
    with pytest.raises(ValueError):
        parse_bound(text, NAMES)


@pytest.mark.parametrize("hits", [9, 11, 18, 145, 570, 999])
def test_a_share_of_exactly_the_bound_keeps_it(hits: int) -> None:
    """1.1 / 100 is more than 11 / 1000."""
    bound = parse_bound(f"{NAMES[0]}={hits / 10}%", NAMES)
    assert bound.holds(Share(hits, 1000)) and not bound.holds(Share(hits - 1, 1000))
