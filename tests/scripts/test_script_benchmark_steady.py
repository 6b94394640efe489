"""What benchmark.py says about the steady state of a level, as an operator runs it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from helpers.bench import bench, level

from reference import Deployment, running

TTFT_MS, ITL_MS, TOKENS = 80, 10, 13
LONG_MS = TTFT_MS + (TOKENS - 1) * ITL_MS


@pytest.fixture(scope="module")
def sim() -> Iterator[Deployment]:
    times = {"ttft_ms": TTFT_MS, "itl_ms": ITL_MS}
    with running(engine="sim", slots=4, rate_limit=0, **times) as deployment:
        yield deployment


def test_a_level_has_figures_of_its_steady_window(sim: Deployment) -> None:
    """Four slots and 22 requests: five rounds, and a sixth with two."""
    arguments = ("--concurrency", 4, "--requests", 22, "--max-tokens", TOKENS)
    finished = bench(sim, "--inference-only", *arguments)
    figures = level(finished, 4)["metrics"]
    steady = figures["steady"]
    assert 0 <= steady["start_ms"] < LONG_MS / 2
    assert 5 * LONG_MS <= steady["end_ms"] + 1 < 1e3 * figures["wall_s"] - LONG_MS / 2
    assert 0.7 < steady["share"] < 0.95
    assert 16 <= steady["requests"] < 22
    assert 3 < steady["in_flight_mean"] <= 4
    assert TTFT_MS - 1 <= steady["ttft_ms"]["p50"] < 2 * TTFT_MS
    assert steady["itl_ms"]["p50"] == pytest.approx(ITL_MS, rel=0.3)
    for key in ("output_tokens_per_s", "requests_per_s"):
        assert steady[key] > figures[key], "the tail is not in it"
    assert steady["output_tokens_per_s"] < 4 * TOKENS / LONG_MS * 1e3
    assert "in the steady window:" in finished.out
    assert f"(steady: {steady['output_tokens_per_s']:.1f})" in finished.out


def test_a_small_level_says_that_it_has_no_steady_window(sim: Deployment) -> None:
    """Eight in flight, of which four are served at once: when the first ends, there are seven."""
    arguments = ("--concurrency", 8, "--requests", 8, "--max-tokens", 4)
    finished = bench(sim, "--inference-only", *arguments)
    steady = level(finished, 8)["metrics"]["steady"]
    assert steady["requests"] is None and "are needed" in steady["reason"]
    assert "steady window       none: only" in finished.out
    assert "in the steady window:" not in finished.out
