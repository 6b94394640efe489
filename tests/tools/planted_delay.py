"""Does benchmark.py --direct-url find a planted delay of the gateway, and none where there is none?

Not collected by pytest: it takes minutes, and a machine that does nothing else. Two deployments
that are alike but for the delay; a run misses when its interval does not hold what was planted.

    python tests/tools/planted_delay.py --runs 20
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

sys.path[:0] = map(str, Path(__file__).parents[1:3])

from helpers.scripts import run_script  # noqa: E402

from reference import Deployment, running  # noqa: E402

SIM = {"engine": "sim", "ttft_ms": 20, "itl_ms": 5, "rate_limit": 0}


def compare(
    gateway: Deployment, direct: Deployment, pairs: int, results: Path
) -> dict[str, dict[str, float]]:
    """The costs that one run found; `direct` stands for the inference server."""
    key = ("--direct-url", direct.url, "--direct-key", direct.api_key)
    few = ("--inference-only", "--max-tokens", 4, "--requests", pairs)
    done = run_script("benchmark.py", *few, *key, env=gateway.environment, results=results)
    assert done.code == 0, done.out + done.err
    costs: dict[str, dict[str, float]] = done.document("gateway_cost")["metrics"]["cost"]
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--delay-ms", type=float, default=5.0)
    args = parser.parse_args()
    for planted in (args.delay_ms, 0.0):
        with (
            running(delay_ms=planted, **SIM) as gateway,
            running(**SIM) as direct,
            tempfile.TemporaryDirectory() as folder,
        ):
            costs = [compare(gateway, direct, args.pairs, Path(folder)) for _ in range(args.runs)]
        for key in ("ttft_ms", "e2e_ms"):
            found = [cost[key] for cost in costs]
            missed = sum(not each["low"] <= planted <= each["high"] for each in found)
            medians = [each["cost"] for each in found]
            print(
                f"planted {planted:g} ms, {key}: {min(medians):.2f} to {max(medians):.2f}, "
                f"mean {statistics.mean(medians):.2f}; {missed} of {len(found)} runs missed it"
            )


if __name__ == "__main__":
    main()
