"""One endpoint is sick, the others are sound: only the check that is about it may fail."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.scripts import Finished, run_script
from helpers.sick_front import SickFront

from reference import running

GUIDE: dict[str, Any] = {
    **{"engine": "sim", "max_concurrent_requests": 1, "max_queue_size": 2, "rate_limit": 0},
    **{"itl_ms": 5, "output_tokens": 1600, "cors_origins": ["https://a.example"]},
}
# What is said where the endpoint is sick: of its own checks, and of none of the others.
OF_QUEUE = {
    "/ping": {"probes"},
    "/health": {"limits", "health", "probes"},
    # both forms are read, and what they say is compared with /health
    "/metrics": {"metrics"},
}
OF_BENCHMARK = {"/ping": {"ping"}, "/health": {"health"}, "/metrics": set[str]()}


def accused(finished: Finished, name: str) -> set[str]:
    checks = finished.document(name)["checks"]
    return {check["name"] for check in checks if check["status"] in ("FAIL", "WARN")}


@pytest.mark.parametrize("path", OF_QUEUE)
@pytest.mark.parametrize("how", ["silent", "slow", "flooding", "not_json"])
def test_the_queue_is_judged_beside_a_sick_endpoint(path: str, how: str) -> None:
    with running(**GUIDE) as deployment, SickFront(deployment.url, path, how) as front:
        finished = run_script(
            *("test_queue.py", "--url", front.url, "--api-key", deployment.api_key),
            *("--timeout", 12, "--max-tokens", 200, "--max-concurrent", 1, "--max-queue", 2),
            *("--only", "limits", "idle", "single", "burst", "refusals", "served"),
            *("concurrency", "health", "metrics", "probes"),
            timeout_s=150,
        )
    assert finished.code in (0, 1, 3), finished.everything
    assert accused(finished, "queue_behavior") <= OF_QUEUE[path], finished.out
    checks = {
        each["name"]: each["status"] for each in finished.document("queue_behavior")["checks"]
    }
    assert checks["served"] == checks["refusals"] == "PASS", finished.out


@pytest.mark.parametrize("path", OF_BENCHMARK)
@pytest.mark.parametrize("how", ["silent", "garbage"])
def test_the_benchmark_is_judged_beside_a_sick_endpoint(path: str, how: str) -> None:
    with running(**{**GUIDE, "itl_ms": 1}) as deployment:
        with SickFront(deployment.url, path, how) as front:
            finished = run_script(
                *("benchmark.py", "--url", front.url, "--api-key", deployment.api_key),
                *("--timeout", 5, "--requests", 3, "--max-tokens", 8, "--skip", "client", "pacing"),
                timeout_s=150,
            )
    assert accused(finished, "gateway_overhead") <= OF_BENCHMARK[path], finished.out
    assert not accused(finished, "inference_c1") - OF_BENCHMARK[path], finished.out
