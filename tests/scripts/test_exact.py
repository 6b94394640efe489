"""With a real model: our figures beside the server's own, for the very same requests."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

import pytest
from helpers.scripts import Finished, run_script

from reference import Deployment, running

LEVELS = (4, 8)
PROMPT = "List the planets of the solar system, and for each of them tell a long story about a ship"


@pytest.fixture(scope="module")
def llama() -> Iterator[Deployment]:
    with running(engine="llama", rate_limit=0) as deployment:
        yield deployment


def benchmark(deployment: Deployment, *arguments: object) -> Finished:
    common = ["--inference-only", "--prompt", PROMPT]
    done = run_script("benchmark.py", *common, *arguments, env=deployment.environment)
    assert done.code == 0, done.out + done.err
    return done


def test_at_every_level_each_request_counts_and_tokens_are_the_servers(llama: Deployment) -> None:
    done = benchmark(llama, "--concurrency", *LEVELS, "--requests", 8, "--max-tokens", 16)
    for level in LEVELS:
        records = done.document(f"inference_c{level}")["requests"]
        assert [record["error"] for record in records] == [None] * 8
        check_tokens(records)


def test_one_at_a_time_the_figures_are_the_servers_own(llama: Deployment) -> None:
    done = benchmark(llama, "--requests", 10, "--max-tokens", 64)
    records = done.document("inference_c1")["requests"]
    assert [record["error"] for record in records] == [None] * 10
    cut = [record for record in records if record["finish_reason"] == "length"]
    assert len(cut) >= 6, "too few answers were cut by length to compare"
    check_tokens(records)
    check_decode_rate(cut)
    check_ttft(cut)


def check_tokens(records: list[dict[str, Any]]) -> None:
    assert all(r["output_tokens"] == r["server_predicted_tokens"] > 0 for r in records)
    assert all(r["token_source"] == "usage" for r in records)


def check_decode_rate(records: list[dict[str, Any]]) -> None:
    """Within 2 % of (predicted_n - 1) / predicted_ms."""
    ours = statistics.median(record["tokens_per_s"] for record in records)
    own = statistics.median(
        1e3 * (record["server_predicted_tokens"] - 1) / record["server_predicted_ms"]
        for record in records
    )
    assert ours == pytest.approx(own, rel=0.02)


def check_ttft(records: list[dict[str, Any]]) -> None:
    """Within 2 % or 2 ms above prompt_ms, and for no request below it."""
    assert all(record["ttft_ms"] >= record["server_prompt_ms"] for record in records)
    above = statistics.median(r["ttft_ms"] - r["server_prompt_ms"] for r in records)
    prefill = statistics.median(record["server_prompt_ms"] for record in records)
    assert above <= max(0.02 * prefill, 2)
