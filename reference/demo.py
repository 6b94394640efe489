"""The tour: a real model on this machine, the scripts as an operator runs them, what was found.

Examples:
    python -m reference.demo                    # llama.cpp and SmolLM2-135M: the benchmark
    python -m reference.demo --all              # every script
    python -m reference.demo --engine sim       # without a model, in seconds

Exit code: the first script's that is not 0; 130 on Ctrl-C. No process is left behind.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .deployment import Deployment, running
from .process import ROOT, StartError

SIM = {"ttft_ms": 20, "itl_ms": 4}  # a simulated engine that does not waste a visitor's time
ENGINES = {"llama": "llama.cpp with SmolLM2-135M", "sim": "a simulated engine"}


@dataclass(frozen=True)
class Step:
    """One command, and the deployment it is for.

    The command may name what the deployment exports, in lower case: {health_url}.
    """

    title: str
    command: str
    settings: Mapping[str, object] = field(default_factory=dict)
    profile: str = "gateway"

    def runs_on_that_of(self, other: Step) -> bool:
        return (self.profile, self.settings) == (other.profile, other.settings)


STEPS = (
    Step(
        "Gateway overhead (step 3 of the guide)",
        "benchmark.py --gateway-only --requests 100 --warmup 5",
    ),
    Step(
        "Inference at one, four and eight requests in flight (step 4)",
        "benchmark.py --inference-only --concurrency 1 4 8 --requests 24 --max-tokens 64",
    ),
)
ALL_STEPS = (
    *STEPS,
    Step(
        "The openai package, unmodified (step 5)",
        "test_openai_sdk.py",
        {"rate_limit": 1000},
    ),
    Step(
        "Scale to zero, with an idle timeout of 3 s (step 6)",
        "test_scale_to_zero.py --health-url {health_url} --idle-timeout 8 --probe-interval 1",
        {"idle_timeout": 3},
    ),
    Step(
        "One served, two waiting, the fourth refused (step 7)",
        "test_queue.py",
        {"max_concurrent_requests": 1, "max_queue_size": 2},
    ),
    Step(
        "A web page, and others that have no business there",
        "test_cors.py --origin https://app.example",
        {"cors_origins": "https://app.example"},
    ),
    Step(
        "A fleet asleep: a request, a magic packet, an answer",
        "test_wol.py --token-binary {token_binary} --listen-wol {wol_port} --timing",
        {"asleep": True, "boot_ms": 2000},
        profile="fleet",
    ),
    Step(
        "Who may come in, and who may do what",
        "test_auth.py --token-binary {token_binary}",
        profile="fleet",
    ),
    Step(
        "The model that was asked for is the model that answers",
        "test_model_routing.py --token-binary {token_binary} --models class:fast class:big"
        " --test-permissions",
        profile="fleet",
    ),
    Step(
        "Ten requests at once, two runners",
        "test_workload_routing.py --token-binary {token_binary} --analyze-timing",
        profile="fleet",
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m reference.demo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--all", action="store_true", help="every script, not the benchmark alone")
    parser.add_argument("--engine", choices=sorted(ENGINES), default="llama")
    parser.add_argument("--results", type=Path, default=Path("results/demo"))
    args = parser.parse_args(argv)
    since_s = time.time()
    what = "a gateway, then a fleet" if args.all else "a gateway"
    print(f"A deployment on this machine: {what}, {ENGINES[args.engine]}", flush=True)
    try:
        codes = run_steps(ALL_STEPS if args.all else STEPS, args.engine, args.results)
    except StartError as error:
        print(f"cannot start the deployment: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("interrupted; the deployment is stopped", file=sys.stderr)
        return 130
    print(findings(args.results, since_s))
    return next((code for code in codes if code), 0)


def run_steps(steps: Sequence[Step], engine: str, results: Path) -> list[int]:
    """The exit code of each step. Steps for the same kind of deployment share one."""
    codes: list[int] = []
    while steps:
        first = steps[0]
        same = [step for step in steps if step.runs_on_that_of(first)]
        steps = [step for step in steps if not step.runs_on_that_of(first)]
        options: dict[str, Any] = {**(SIM if engine == "sim" else {}), **first.settings}
        with running(engine=engine, profile=first.profile, **options) as deployment:
            codes += [run_step(deployment, results, step) for step in same]
    return codes


def run_step(deployment: Deployment, results: Path, step: Step) -> int:
    """One command as an operator types it, with the deployment's address in the environment."""
    exported = {name.lower(): shlex.quote(value) for name, value in deployment.environment.items()}
    command = step.command.format(**exported)
    command += f" --results {shlex.quote(str(results))}"
    print(f"\n== {step.title}\n$ python3 {command}\n", flush=True)
    script, *arguments = shlex.split(command)
    environment = {**os.environ, **deployment.environment}
    with subprocess.Popen([sys.executable, ROOT / script, *arguments], env=environment) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:  # it got the Ctrl-C too, and saves what it has
            process.wait()
            raise
    if code == 130:
        raise KeyboardInterrupt
    return code


# --- what was found


def findings(results: Path, since_s: float) -> str:
    """A line for each document that was saved since then (seconds of the wall clock)."""
    lines = ["", "== What was found", ""]
    for path in sorted(results.glob("*.json")):
        if path.stat().st_mtime < since_s:
            continue
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        lines.append(f"{document['verdict'].upper():9} {path.stem:17} {figures(document)}".rstrip())
    lines += ["", f"Every figure, request and arrival time: {results}/*.json, the screen: *.log"]
    return "\n".join(lines)


def figures(document: dict[str, Any]) -> str:
    """What one would ask first: the overhead, the speed, else how many checks there were."""
    metrics = document["metrics"]
    if document["script"] != "benchmark":
        return f"{len(document['checks'])} checks"
    if "ttft_ms" not in metrics:
        ping = metrics["gateway"]["ping_ms"]
        return f"/ping p50 {shown(ping['p50'])} ms, p99 {shown(ping['p99'])} ms"
    return (
        f"TTFT p50 {shown(metrics['ttft_ms']['p50'])} ms, "
        f"{shown(metrics['tokens_per_s']['mean'])} tok/s each, "
        f"{shown(metrics['output_tokens_per_s'])} together"
    )


def shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


if __name__ == "__main__":
    sys.exit(main())
