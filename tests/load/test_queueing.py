"""Open loops against queueing theory: an engine with exact service times is an M/D/c queue."""

from __future__ import annotations

import heapq
import math
import statistics
from collections.abc import Sequence
from typing import Any

import pytest
from helpers.scripts import run_script

from livecheck.load.arrivals import SEED as DEFAULT_SEED
from livecheck.load.arrivals import Load
from reference import running

SERVERS, SERVICE_S = 2, 0.1  # capacity: 20 requests a second
BUSY_PER_S, TOO_MUCH_PER_S = 16.0, 24.0  # 80 % and 120 % of it
REQUESTS = 320
SEED = 59  # its 320 arrivals wait as long, within 2 %, as theory says of all


def mean_wait_s(rate_per_s: float, service_s: float, servers: int) -> float:
    """The mean wait in M/D/c, from the queue's length a service time later (Crommelin, 1932):
    all that were served are gone, those who came meanwhile are there."""
    arriving = rate_per_s * service_s
    size = 40 * servers  # at 80 % of the capacity nobody sees a longer queue
    come = [math.exp(n * math.log(arriving) - arriving - math.lgamma(n + 1)) for n in range(size)]
    there, change = [1.0] + [0.0] * (size - 1), 1.0
    while change > 1e-7:
        left = [sum(there[: servers + 1]), *there[servers + 1 :]]
        after = [
            sum(a * b for a, b in zip(left, come[new::-1], strict=False)) for new in range(size)
        ]
        change = max(abs(one - other) for one, other in zip(after, there, strict=True))
        there = after
    waiting = sum(share * max(0, number - servers) for number, share in enumerate(there))
    return waiting / rate_per_s


def waits_s(due_s: Sequence[float], service_s: float, servers: int) -> list[float]:
    """What each of these very arrivals waits, first come, first served."""
    free_s = [0.0] * servers
    found = []
    for due in due_s:
        start = max(due, heapq.heappop(free_s))
        heapq.heappush(free_s, start + service_s)
        found.append(start - due)
    return found


def arrivals_s(rate_per_s: float, requests: int, seed: int = SEED) -> list[float]:
    return Load(1000, requests, rate_per_s=rate_per_s, seed=seed).due_s or []


def mean_ttft_s(finished: Any, name: str) -> float:
    mean: float = finished.document(name)["metrics"]["ttft_ms"]["mean"]
    return mean / 1e3


def test_the_theory_is_right_about_itself() -> None:
    busy = 0.8
    assert mean_wait_s(busy / SERVICE_S, SERVICE_S, 1) == pytest.approx(
        busy * SERVICE_S / (2 * (1 - busy)), rel=1e-4
    )
    theory = mean_wait_s(BUSY_PER_S, SERVICE_S, SERVERS)
    many = waits_s(arrivals_s(BUSY_PER_S, 200_000, seed=1), SERVICE_S, SERVERS)
    assert statistics.mean(many) == pytest.approx(theory, rel=0.03)
    these = waits_s(arrivals_s(BUSY_PER_S, REQUESTS), SERVICE_S, SERVERS)
    assert statistics.mean(these) == pytest.approx(theory, rel=0.02)


def test_the_default_seed_is_a_typical_pattern() -> None:
    for count in (5, 10, 20, 30, 50, 100, 300, 1000):
        last = arrivals_s(1.0, count + 1, DEFAULT_SEED)[-1]
        assert last == pytest.approx(count, rel=0.08)
    for servers in (1, 2, 4):
        rate = 0.8 * servers / SERVICE_S
        waits = waits_s(arrivals_s(rate, 320, DEFAULT_SEED), SERVICE_S, servers)
        theory = mean_wait_s(rate, SERVICE_S, servers)
        assert statistics.mean(waits) == pytest.approx(theory, rel=0.11)


@pytest.mark.alone
def test_an_open_loop_waits_as_theory_says_and_a_closed_loop_does_not() -> None:
    engine = {"engine": "sim", "ttft_ms": SERVICE_S * 1e3, "slots": SERVERS, "rate_limit": 0}
    one_token = ("--inference-only", "--max-tokens", 1)
    with running(**engine) as deployment:

        def bench(*arguments: object) -> Any:
            url = ("--url", deployment.engine_url)  # the engine's own queue, nobody else's time
            return run_script("benchmark.py", *url, *one_token, *arguments, timeout_s=120)

        closed = bench("--concurrency", SERVERS, "--requests", 40)
        alone_s = mean_ttft_s(closed, f"inference_c{SERVERS}")
        assert alone_s == pytest.approx(SERVICE_S, abs=0.01), "as busy as can be, and no wait"

        busy = bench("--rate", BUSY_PER_S, "--requests", REQUESTS, "--seed", SEED)
        wait_s = mean_ttft_s(busy, "inference_r16") - alone_s
        assert wait_s == pytest.approx(mean_wait_s(BUSY_PER_S, SERVICE_S, SERVERS), rel=0.15)

        flooded = bench("--rate", TOO_MUCH_PER_S, "--requests", 120, "--seed", SEED)
    ttfts_ms = [each["ttft_ms"] for each in flooded.document("inference_r24")["requests"]]
    expected = waits_s(arrivals_s(TOO_MUCH_PER_S, 120), SERVICE_S, SERVERS)
    measured = [ttft / 1e3 - alone_s for ttft in ttfts_ms]
    assert statistics.mean(measured) == pytest.approx(statistics.mean(expected), rel=0.15)
    assert statistics.mean(measured[-20:]) > 5 * wait_s, "the queue grows as long as they come"
