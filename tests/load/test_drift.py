"""Whether a level has a steady state: what is accused, and what is not."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from livecheck.core.checks import Check, Status
from livecheck.load.drift import check_steady, too_short, trend_metrics
from livecheck.load.steady import steady_metrics, window_of
from livecheck.wire.metrics import level_metrics

TTFT_MS, TPOT_MS, TOKENS = 200.0, 20.0, 11
Factor = Callable[[int], float]


def flat(_: int) -> float:
    return 1.0


def level(count: int, slots: int = 1, prompts: int = 1, **more: Any) -> dict[str, Any]:
    return figures_of(records_of_level(count, slots, **more), slots, prompts)


def records_of_level(
    count: int,
    slots: int = 1,
    ttft: Factor = flat,
    pace: Factor = flat,
    noise: float = 0.05,
) -> list[dict[str, Any]]:
    """The records of a closed loop, in which request n is slower by these factors."""
    chance = random.Random(5)
    free, found = [0.0] * slots, []
    for index in range(count):
        ttft_ms = TTFT_MS * ttft(index) * chance.lognormvariate(0, noise)
        tpot_ms = TPOT_MS * pace(index) * chance.lognormvariate(0, noise)
        slot = free.index(min(free))
        times = [ttft_ms + n * tpot_ms for n in range(TOKENS)]
        row = {"index": index, "error": None, "excluded": False, "sent_ms": free[slot]}
        free[slot] += times[-1]
        row |= {"ended_ms": free[slot], "ttft_ms": ttft_ms, "e2e_ms": times[-1]}
        row |= {"tpot_ms": tpot_ms, "tokens_per_s": 1e3 / tpot_ms, "event_ms": times}
        row |= {"output_tokens": TOKENS, "token_source": "usage"}
        found.append(row)
    return found


def figures_of(found: list[dict[str, Any]], slots: int = 1, prompts: int = 1) -> dict[str, Any]:
    figures = level_metrics(found)
    window = window_of(found, slots, False)
    figures["steady"] = steady_metrics(found, window, figures)
    figures["steady"]["trend"] = trend_metrics(found, window, slots, False, prompts)
    return figures | {"client": client()}


def client(lag_ms: float | None = None) -> dict[str, Any]:
    is_bound = lag_ms is not None
    return {"client_bound": is_bound, "lag_ms": {"p99": lag_ms}, "send_lag_ms": {"p99": None}}


def check(figures: dict[str, Any], is_wanted: bool = True) -> Check:
    found = check_steady(figures, is_wanted)
    assert found
    return found


def growth(share: float, count: int) -> Factor:
    return lambda n: 1 + share * n / count


def test_a_level_whose_ttft_grows_is_told_with_its_rate() -> None:
    found = check(level(400, ttft=growth(0.5, 400)))
    assert found.status is Status.WARN
    assert found.detail.startswith("no steady state: TTFT grew ")
    assert " % a minute (2" in found.detail and "decode rate" not in found.detail
    trend = found.evidence["ttft_ms"]
    assert trend["growth"] == pytest.approx(0.5, abs=0.1)
    per_min = trend["growth"] / found.evidence["window_s"] * 60
    assert trend["growth_per_min"] == pytest.approx(per_min, rel=0.01)
    assert (trend["requests"], trend["points"]) == (399, 49)
    assert trend["to"] / trend["from"] == pytest.approx(1 + trend["growth"], rel=1e-3)


def test_a_level_whose_decode_rate_falls_is_told() -> None:
    found = check(level(60, pace=growth(0.5, 60)))
    assert found.status is Status.WARN
    assert "decode rate fell 3" in found.detail and " % in " in found.detail


def test_what_gets_faster_or_hardly_slower_is_no_matter() -> None:
    for factor in (growth(-0.4, 60), growth(0.06, 60)):
        assert check(level(60, ttft=factor, noise=0.001)).status is Status.PASS


def test_a_growth_of_less_than_two_milliseconds_is_no_matter() -> None:
    tiny = check(level(60, ttft=lambda n: 0.01 * (1 + n / 60), noise=0.001))
    assert tiny.evidence["ttft_ms"]["growth"] > 0.5
    assert tiny.status is Status.PASS


@pytest.mark.parametrize("slots", [1, 4])
def test_a_ramp_at_the_start_is_not_accused(slots: int) -> None:
    slow = check(level(40 * slots, slots, ttft=lambda n: 3.0 if n < 3 * slots else 1.0))
    fast = check(level(40 * slots, slots, ttft=lambda n: 0.3 if n < slots else 1.0))
    assert slow.status is fast.status is Status.PASS


def test_a_series_that_comes_back_is_not_a_trend() -> None:
    """Slow in the middle third."""
    figures = level(60, ttft=lambda n: 1.0 + (20 <= n < 40) + n / 300)
    assert check(figures).status is Status.PASS


def test_prompts_of_mixed_lengths_are_compared_with_themselves_alone() -> None:
    """Eight prompts, each twice as long as the one before, in the order of their lengths."""
    figures = level(80, ttft=lambda n: 2.0 ** (n % 8), prompts=8)
    assert check(figures).status is Status.PASS
    growing = level(80, ttft=lambda n: 2.0 ** (n % 8) * (1 + n / 80), prompts=8)
    assert "TTFT grew" in check(growing).detail
    once = check(level(30, ttft=lambda n: 1.1**n, prompts=30))
    assert once.status is Status.SKIP, "each was asked once"


def test_what_runs_at_the_same_time_is_one_value() -> None:
    """Eight at once, all of which share the load of each moment: no trend, but alike."""
    chance = random.Random(2)
    shared = [chance.lognormvariate(0, 0.3) for _ in range(50)]
    figures = level(400, 8, ttft=lambda n: shared[n // 8], noise=0.01)
    assert figures["steady"]["trend"]["ttft_ms"]["points"] <= 49
    assert check(figures).status is Status.PASS


def test_a_short_level_is_not_judged_unless_it_is_asked_for() -> None:
    figures = level(10)
    assert check_steady(figures, is_wanted=False) is None
    found = check(figures)
    assert found.status is Status.SKIP
    assert found.detail.startswith("cannot tell: 10 requests in the steady window, about 26")
    assert check_steady(level_metrics([]), is_wanted=True) is None, "of a comparison"


def test_enough_requests_are_never_called_too_few() -> None:
    """1.2 in flight on average are two at once, and 60 requests without a figure are not short."""
    steady = {"requests": 40, "in_flight_mean": 1.2}
    assert too_short(steady).startswith("40 requests in the steady window, about 52 are needed")
    told = too_short({"requests": 60, "in_flight_mean": 1.2})
    assert "needed" not in told and "too few of which have a TTFT" in told


@pytest.mark.parametrize("factors", [{"ttft": growth(0.5, 60)}, {"pace": growth(0.5, 60)}])
def test_what_may_be_this_programs_own_delay_is_not_accused(factors: dict[str, Any]) -> None:
    """It took about 100 ms longer in the end."""
    figures = level(60, **factors)
    found = check(figures | {"client": client(lag_ms=60.0)})
    assert found.status is Status.SKIP
    assert found.detail.endswith("client-bound (this program was up to 60.0 ms late)")
    assert check(figures | {"client": client(lag_ms=20.0)}).status is Status.WARN


def test_a_growth_that_may_be_this_programs_own_is_not_accused() -> None:
    """Half of the later TTFTs is time in which it could not run."""
    figures = level(60, ttft=growth(0.5, 60))
    rows = records_of_level(60, ttft=growth(0.5, 60))
    for index, row in enumerate(rows):
        row["starved_ms"] = row["starved_ttft_ms"] = index / 60 * 0.5 * TTFT_MS
    found = check(figures_of(rows))
    assert check(figures).status is Status.WARN
    assert found.status is Status.SKIP
    assert found.detail.endswith("but this program could not run for a part of that time")
    for row in rows:
        row["starved_ms"] = row["starved_ttft_ms"] = 0.3 * TTFT_MS
    assert check(figures_of(rows)).status is Status.WARN, "it could not run as long at any time"


def test_a_rate_that_may_be_this_programs_own_is_not_accused() -> None:
    rows = records_of_level(60, pace=growth(0.5, 60))
    assert check(figures_of(rows)).status is Status.WARN
    for index, row in enumerate(rows):
        row["starved_ms"] = row["starved_decode_ms"] = index / 60 * 0.5 * TPOT_MS * TOKENS
    assert check(figures_of(rows)).status is Status.SKIP
    for row in rows:  # it could not run while it waited for the first token
        row["starved_decode_ms"] = 0.0
    assert check(figures_of(rows)).status is Status.WARN


def test_both_figures_share_the_error() -> None:
    """A trend that is just significant for one figure alone is not accused."""
    figures = level(60)
    trend = figures["steady"]["trend"]["ttft_ms"]
    trend |= {"growth": 0.5, "from": 100.0, "to": 150.0, "p": 0.003}
    assert check(figures).status is Status.PASS
    trend["p"] = 0.002
    assert check(figures).status is Status.WARN


def test_a_rate_above_the_capacity_has_no_steady_state() -> None:
    """An open loop: ten arrive in a second, each waits 10 ms longer than the one before."""
    rows = []
    for n in range(300):
        times = [10.0 * n + TTFT_MS + k * TPOT_MS for k in range(TOKENS)]
        due_ms = 100.0 * n
        rows.append(
            {
                **{"index": n, "error": None, "excluded": False, "due_ms": due_ms},
                **{"sent_ms": due_ms, "ended_ms": due_ms + times[-1], "ttft_ms": times[0]},
                **{"e2e_ms": times[-1], "tpot_ms": TPOT_MS, "tokens_per_s": 1e3 / TPOT_MS},
                **{"event_ms": times, "output_tokens": TOKENS, "token_source": "usage"},
            }
        )
    figures = level_metrics(rows) | {"client": client()}
    window = window_of(rows, 1000, True)
    figures["steady"] = steady_metrics(rows, window, figures)
    figures["steady"]["trend"] = trend_metrics(rows, window, 1000, True)
    assert "TTFT grew" in check(figures).detail
    trend = figures["steady"]["trend"]["ttft_ms"]
    assert rows[0]["ttft_ms"] <= trend["from"] < trend["to"] <= rows[-1]["ttft_ms"]
    assert trend["growth"] == pytest.approx(trend["to"] / trend["from"] - 1, rel=1e-3)


@pytest.mark.parametrize("late", ["lag_ms", "send_lag_ms"])
def test_the_longest_delay_and_the_smallest_growth_count(late: str) -> None:
    """TTFT grows by 200 ms, and the time for an answer's tokens by 66 ms."""
    figures = level(120, ttft=lambda n: 1 + n / 119, pace=lambda n: 1 + 0.3 * n / 119)
    own = client(lag_ms=1.0) | {"send_lag_ms": {"p99": 1.0}}
    assert check(figures | {"client": own}).status is Status.WARN
    found = check(figures | {"client": own | {late: {"p99": 60.0}}})
    assert found.status is Status.SKIP
    assert "up to 60.0 ms late" in found.detail
