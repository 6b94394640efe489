"""The tour: a real model on this machine, the benchmark as an operator runs it, what was found.

Examples:
    python -m reference.demo                    # llama.cpp and SmolLM2-135M
    python -m reference.demo --engine sim       # without a model, in seconds

Ends with the benchmark's exit code; on Ctrl-C with 130, and no process is left.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .deployment import Deployment, running
from .process import ROOT, StartError

LEVELS = (1, 4, 8)
STEPS = (
    ("Gateway overhead (step 3 of the guide)", "--gateway-only --requests 100 --warmup 5"),
    (
        "Inference at one, four and eight requests in flight (step 4)",
        "--inference-only --concurrency 1 4 8 --requests 16 --max-tokens 64",
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m reference.demo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--engine", choices=("llama", "sim"), default="llama")
    parser.add_argument("--results", type=Path, default=Path("results/demo"))
    args = parser.parse_args(argv)
    print("Starting a deployment on this machine: a gateway, llama.cpp, SmolLM2-135M", flush=True)
    try:
        with running(engine=args.engine) as deployment:
            codes = [run_step(deployment, args.results, *step) for step in STEPS]
    except StartError as error:
        print(f"cannot start the deployment: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("interrupted; the deployment is stopped", file=sys.stderr)
        return 130
    print(findings(args.results))
    return next((code for code in codes if code), 0)


def run_step(deployment: Deployment, results: Path, title: str, options: str) -> int:
    """One command as an operator types it, with the deployment's address in the environment."""
    options += f" --results {shlex.quote(str(results))}"
    print(f"\n== {title}\n$ python3 benchmark.py {options}\n", flush=True)
    command = [sys.executable, str(ROOT / "benchmark.py"), *shlex.split(options)]
    environment = {**os.environ, **deployment.environment}
    with subprocess.Popen(command, env=environment) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:  # it got the Ctrl-C too, and saves what it has
            process.wait()
            raise
    if code == 130:
        raise KeyboardInterrupt
    return code


def findings(results: Path) -> str:
    """A line a step, from the saved documents."""
    lines = ["", "== What was found", ""]
    overhead = load(results / "gateway_overhead.json")
    ping = overhead["metrics"]["gateway"]["ping_ms"]
    verdict = overhead["verdict"].upper()
    figures = f"/ping p50 {shown(ping['p50'])} ms, p99 {shown(ping['p99'])} ms"
    lines.append(f"{verdict:5} gateway overhead   {figures}")
    for level in LEVELS:
        document = load(results / f"inference_c{level}.json")
        figures = document["metrics"]
        lines.append(
            f"{document['verdict'].upper():5} concurrency {level}      "
            f"TTFT p50 {shown(figures['ttft_ms']['p50'])} ms, "
            f"decode {shown(figures['tokens_per_s']['mean'])} tok/s, "
            f"all together {shown(figures['output_tokens_per_s'])} tok/s"
        )
    lines += ["", f"Every figure, request and arrival time: {results}/*.json, the screen: *.log"]
    return "\n".join(lines)


def load(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


if __name__ == "__main__":
    sys.exit(main())
