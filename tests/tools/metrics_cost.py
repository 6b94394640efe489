"""What --server-metrics costs a level: runs of benchmark.py with and without it, in turn.

The simulated engine streams at a set pace, and its metrics are read once a second. Each pair of
runs gives the relative change of a figure; shown is the median of the pairs. The bar is a change of
the median ITL of at most 1 %.

    .venv/bin/python tests/tools/metrics_cost.py --pairs 5 --streams 64
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from reference import Deployment, running  # noqa: E402  (needs the path above)

BAR = 0.01
FIGURES = (("itl_ms", "p50"), ("itl_ms", "p99"), ("ttft_ms", "p50"), ("ttft_ms", "p95"))


def measured(deployment: Deployment, args: argparse.Namespace, *more: str) -> dict[str, Any]:
    """The figures of one level."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [
                *(sys.executable, str(ROOT / "benchmark.py"), "--url", deployment.url),
                *("--api-key", deployment.api_key, "--inference-only", "--results", folder),
                *("--concurrency", str(args.streams), "--duration", str(args.seconds)),
                *("--max-tokens", "64", "--warmup", "0", *more),
            ],
            capture_output=True,
            check=False,
        )
        path = Path(folder) / f"inference_c{args.streams}.json"
        found: dict[str, Any] = json.loads(path.read_text())["metrics"]
        return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=8.0)
    args = parser.parse_args()
    places = {"slots": args.streams, "max_concurrent_requests": args.streams}
    pairs = []
    with running(engine="sim", ttft_ms=50, itl_ms=20, rate_limit=0, **places) as deployment:
        watch = ("--server-metrics", deployment.exported["engine_url"])
        for number in range(args.pairs):
            order = ((), watch) if number % 2 == 0 else (watch, ())
            runs = {bool(more): measured(deployment, args, *more) for more in order}
            pairs.append((runs[False], runs[True]))
    print(f"{args.pairs} pairs of levels, {args.streams} streams, {args.seconds:g} s each")
    print(f"{'':14}{'without':>10}{'with':>10}{'change':>10}   (medians)")
    changes = {}
    for key, statistic in FIGURES:
        values = [(one[key][statistic], other[key][statistic]) for one, other in pairs]
        changes[key, statistic] = statistics.median(other / one - 1 for one, other in values)
        without, beside = (statistics.median(column) for column in zip(*values, strict=True))
        change = f"{100 * changes[key, statistic]:+.2f} %"
        label = f"{key.removesuffix('_ms').upper()} {statistic}"
        print(f"{label:14}{without:>10.3f}{beside:>10.3f}{change:>10}")
    for which, name in enumerate(("without", "with")):
        merged = [pair[which]["client"]["merged_reads"] for pair in pairs]
        print(f"merged reads {name}: {merged}")
    is_kept = abs(changes["itl_ms", "p50"]) <= BAR
    print(f"{'kept' if is_kept else 'MISSED'}: ITL p50 changes by at most {BAR:.0%}")
    return 0 if is_kept else 1


if __name__ == "__main__":
    sys.exit(main())
