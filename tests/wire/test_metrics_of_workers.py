"""Records of several workers: each has a clock of its own, and no time of two is compared."""

from __future__ import annotations

from typing import Any

from helpers.samples import record

from livecheck.wire import metrics


def of_worker(worker: int, sent_ms: float, ended_ms: float, tokens: int) -> dict[str, Any]:
    times = {"sent_ms": sent_ms, "ended_ms": ended_ms}
    return record(0, 0.0, 60.0, 10.0) | {"worker": worker, "output_tokens": tokens} | times


def test_a_throughput_is_the_sum_of_each_workers_own() -> None:
    found = [
        of_worker(1, 0.0, 1000.0, 100),
        of_worker(1, 1000.0, 2000.0, 100),  # 100 tokens a second
        of_worker(2, 900_000.0, 904_000.0, 800),  # 200 tokens a second, by a clock that is ahead
    ]
    figures = metrics.level_metrics(found)
    assert figures["wall_s"] == 4.0
    assert figures["output_tokens_per_s"] == 300.0
    assert figures["requests_per_s"] == 1.25


def test_records_of_one_clock_are_as_before() -> None:
    found = [of_worker(1, 0.0, 1000.0, 100), of_worker(1, 1000.0, 2000.0, 100)]
    alone = [{k: v for k, v in each.items() if k != "worker"} for each in found]
    assert metrics.level_metrics(found) == metrics.level_metrics(alone)
