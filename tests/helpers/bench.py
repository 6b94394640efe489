"""benchmark.py against a server of the tests, and what its results say."""

from __future__ import annotations

import json
from typing import Any

from helpers.hostile import Server
from helpers.scripts import Finished, run_script
from reference import Deployment

KEY = "sk-hostileHOSTILE0123456789abcdefXYZ"
SPARE_S = 6.0  # for starting Python on a busy machine, and for scheduling
SUMMARY = {"mean", "p50", "p90", "p95", "p99", "min", "max", "n"}


def bench(target: Server | Deployment | str, *arguments: object, **more: Any) -> Finished:
    """Run benchmark.py; whatever happens, it keeps what every run has to keep."""
    url = target if isinstance(target, str) else target.url
    key = ["--api-key", target.api_key] if isinstance(target, Deployment) else []
    finished = run_script("benchmark.py", "--url", url, *key, *arguments, **more)
    assert "Traceback" not in finished.everything
    if "json" in arguments:
        json.loads(finished.out)
    else:
        assert [line for line in finished.out.splitlines() if len(line) > 80] == []
    return finished


def quick(target: Server | Deployment | str, *arguments: object, **more: Any) -> Finished:
    """Two short requests, one warm-up, no probes, a short time-out; later options win."""
    few = ("--inference-only", "--requests", 2, "--max-tokens", 8, "--timeout", 10)
    return bench(target, *few, *arguments, **more)


def level(finished: Finished, concurrency: int = 1) -> dict[str, Any]:
    return finished.document(f"inference_c{concurrency}")


def status(finished: Finished, check: str, name: str = "inference_c1") -> str:
    found: str = finished.check(name, check)["status"]
    return found


def detail(finished: Finished, check: str, name: str = "inference_c1") -> str:
    found: str = finished.check(name, check)["detail"]
    return found
