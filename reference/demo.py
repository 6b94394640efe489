"""Runs the scripts against a deployment on this machine and shows what they found.

Examples:
    python -m reference.demo                    # the benchmark, with llama.cpp and SmolLM2-135M
    python -m reference.demo --all              # every script
    python -m reference.demo --engine sim       # without a model, in seconds

The exit code is the first one of a script that is not 0, or 130 after Ctrl-C. No process is left.
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
from types import MappingProxyType
from typing import Any

from .deployment import Deployment, running
from .process import ROOT, StartError

SIM = {"ttft_ms": 20, "itl_ms": 4}  # a fast simulated engine, so that the demo is short
HIGH_RATE_LIMIT = {"rate_limit": 1000}  # so that no script has to wait for the next minute
# SmolLM2 calls no tool by itself: its own chat template has none.
TOOLS = Path(__file__).with_name("tools.jinja")
ENGINES = {"llama": "llama.cpp with SmolLM2-135M", "sim": "a simulated engine"}


@dataclass(frozen=True)
class Step:
    """One command, and the deployment that it needs.

    The command may name what the deployment exports, in lower case: {health_url}.
    """

    title: str
    command: str
    settings: Mapping[str, object] = field(default_factory=dict)
    profile: str = "gateway"
    engine: str | None = None  # the only one with which it is run; None: with any

    def shares_deployment_with(self, other: Step) -> bool:
        return (self.profile, self.settings) == (other.profile, other.settings)


STEPS = (
    Step(
        "Gateway overhead (step 3 of the guide)",
        "benchmark.py --gateway-only --requests 100 --warmup 5",
        HIGH_RATE_LIMIT,
    ),
    Step(
        "Inference at one, four and eight requests in flight (step 4)",
        "benchmark.py --inference-only --concurrency 1 4 8 --requests 24 --max-tokens 64",
        HIGH_RATE_LIMIT,
    ),
    Step(
        "What the gateway adds: the same requests with it and without it, in turn",
        "benchmark.py --inference-only --direct-url {engine_url} --requests 30 --max-tokens 32",
        HIGH_RATE_LIMIT,
    ),
)
ALL_STEPS = (
    *STEPS,
    Step(
        "The openai package, unmodified (step 5)",
        "test_openai_sdk.py",
        HIGH_RATE_LIMIT,
    ),
    Step(
        "Scale to zero, with an idle timeout of 3 s (step 6)",
        "test_scale_to_zero.py --health-url {health_url} --idle-timeout 8 --probe-interval 1"
        " --edge-idle 60",
        {"idle_timeout": 3},
    ),
    Step(
        "The queue: one request is served, two wait, the fourth is refused (step 7)",
        "test_queue.py --edge-idle 60",
        {"max_concurrent_requests": 1, "max_queue_size": 2},
    ),
    Step(
        "The context: two requests at once, each with half of what one may have",
        "test_context.py",
        {"slots": 2, "context_size": 2048, "skills": "context"},
    ),
    Step(
        "CORS: one web page is allowed, others are not",
        "test_cors.py --origin https://app.example",
        {"cors_origins": "https://app.example"},
    ),
    Step(
        "Right answers alone and together: a model is asked what only one request can know",
        "test_concurrency.py --concurrency 4",
        {**HIGH_RATE_LIMIT, "skills": "repeat"},
    ),
    Step(
        "Tools: a small model with a chat template that shows it how to call them",
        "test_tools.py --repeat 1 --max-tokens 48"
        " --scenarios required two text none result again empty",
        {"chat_template": TOOLS, **HIGH_RATE_LIMIT},
        engine="llama",
    ),
    Step(
        "Tools: a model that calls them, played by the simulated engine",
        "test_tools.py --repeat 1",
        {"skills": "tools", **HIGH_RATE_LIMIT},
        engine="sim",
    ),
    Step(
        "A sleeping fleet: a request, a magic packet, an answer",
        "test_wol.py --token-binary {token_binary} --listen-wol {wol_port} --timing",
        {"asleep": True, "boot_ms": 2000},
        profile="fleet",
    ),
    Step(
        "The key's rate limit, here of 20 requests in 5 s",
        "test_rate_limit.py --limit 20 --window 5",
        {"rate_limit": 20, "rate_window": 5},
    ),
    Step(
        "Which tokens are accepted, and what each role may do",
        "test_auth.py --token-binary {token_binary}",
        profile="fleet",
    ),
    Step(
        "The model that answers is the one that was asked for",
        "test_model_routing.py --token-binary {token_binary} --models class:fast class:big"
        " --test-permissions",
        profile="fleet",
    ),
    Step(
        "Ten requests at once go to two runners; then one of them dies, and comes back",
        "test_workload_routing.py --token-binary {token_binary} --analyze-timing --settle 3"
        " --kill-command 'kill -USR1 {runner_pid_tower}'"
        " --revive-command 'kill -USR2 {runner_pid_tower}'",
        profile="fleet",
    ),
)

REPORT = "baseline_report.md"
# Only a result that is twice as slow as the last one counts as slower: the demo sends two dozen
# requests, and other programs use the same machine.
MARGIN_PERCENT = 100


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m reference.demo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--all", action="store_true", help="run every script, not only the benchmark"
    )
    parser.add_argument(
        "--engine", choices=sorted(ENGINES), default="llama", help="kind of engine (llama)"
    )
    parser.add_argument(
        "--results", type=Path, help="folder for the results; each run gets its own below it"
    )
    args = parser.parse_args(argv)
    tour = "demo-all" if args.all else "demo"
    suffix = "" if args.engine == "llama" else f"-{args.engine}"
    folders = args.results or Path("results", tour + suffix)
    before = last_run(folders)
    results = folders / time.strftime("%Y-%m-%d-%H%M%S")
    what = "a gateway, then a fleet" if args.all else "a gateway"
    print(f"Starting {what} on this machine, with {ENGINES[args.engine]}", flush=True)
    try:
        steps = ALL_STEPS if args.all else STEPS
        codes = run_steps(
            [s for s in steps if s.engine in (None, args.engine)], args.engine, results
        )
        print(findings(results), flush=True)
        codes.append(run(report_command(tour, results, before)))
    except StartError as error:
        print(f"cannot start the deployment: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("interrupted; the deployment has been stopped", file=sys.stderr)
        return 130
    return next((code for code in codes if code), 0)


def run_steps(steps: Sequence[Step], engine: str, results: Path) -> list[int]:
    """Run the steps. Returns their exit codes. Steps that need the same deployment share one."""
    codes: list[int] = []
    while steps:
        first = steps[0]
        same = [step for step in steps if step.shares_deployment_with(first)]
        steps = [step for step in steps if not step.shares_deployment_with(first)]
        options: dict[str, Any] = {**(SIM if engine == "sim" else {}), **first.settings}
        with running(engine=engine, profile=first.profile, **options) as deployment:
            codes += [run_step(deployment, results, step) for step in same]
    return codes


def run_step(deployment: Deployment, results: Path, step: Step) -> int:
    """Run one command as an operator types it, with the deployment's address in the environment."""
    exported = {name: shlex.quote(value) for name, value in deployment.exported.items()}
    command = step.command.format(**exported)
    print(f"\n== {step.title}", flush=True)
    return run(f"{command} --results {shlex.quote(str(results))}", deployment.environment)


def run(command: str, more: Mapping[str, str] = MappingProxyType({})) -> int:
    """Show a command and run it with `more` in its environment. Returns its exit code."""
    print(f"$ python3 {command}\n", flush=True)
    script, *arguments = shlex.split(command)
    environment = {**os.environ, **more}
    with subprocess.Popen([sys.executable, ROOT / script, *arguments], env=environment) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:  # the script got the Ctrl-C, too, and saves what it has
            process.wait()
            raise
    if code == 130:
        raise KeyboardInterrupt
    return code


# --- the report


def thresholds_of(tour: str) -> Path:
    return Path(__file__).with_name(f"{tour.replace('-', '_')}.toml")


def last_run(folders: Path) -> Path | None:
    """The folder of the latest complete run: the one in which a report was written."""
    ended = sorted(each.parent for each in folders.glob(f"*/{REPORT}"))
    return ended[-1] if ended else None


def report_command(tour: str, results: Path, before: Path | None) -> str:
    """Step 8 of the guide, with the last run as the baseline."""
    words: list[object] = ["report.py", results, "--html", results / "report.html"]
    words += ["--thresholds", os.path.relpath(thresholds_of(tour))]
    words += ["--title", tour, "--model-name", "SmolLM2-135M"]
    if before:
        words += ["--baseline", before, "--margin", MARGIN_PERCENT]
        print("\n== Good enough? And as fast as last time? (step 8)", flush=True)
    else:
        print("\n== Good enough? (step 8; the next run will be compared with this one)", flush=True)
    return shlex.join(map(str, words))


# --- what was found


def findings(results: Path) -> str:
    """One line for each document that was saved."""
    lines = ["", "== What was found", ""]
    for path in sorted(results.glob("*.json")):
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        lines.append(f"{document['verdict'].upper():9} {path.stem:17} {figures(document)}".rstrip())
    lines += [
        "",
        f"All figures, requests and arrival times are in {results}/*.json, the output in *.log",
    ]
    return "\n".join(lines)


def figures(document: dict[str, Any]) -> str:
    """The most important figures: the overhead or the speed, else the number of checks."""
    metrics = document["metrics"]
    if document["script"] != "benchmark":
        return f"{len(document['checks'])} checks"
    if "cost" in metrics:
        cost = {name: shown(value) for name, value in metrics["cost"]["ttft_ms"].items()}
        return f"the gateway adds {cost['cost']} ms to TTFT ({cost['low']} to {cost['high']})"
    if "ttft_ms" not in metrics:
        ping = metrics["gateway"]["ping_ms"]
        return f"/ping p50 {shown(ping['p50'])} ms, p99 {shown(ping['p99'])} ms"
    return (
        f"TTFT p50 {shown(metrics['ttft_ms']['p50'])} ms, "
        f"{shown(metrics['tokens_per_s']['mean'])} tok/s each, "
        f"{shown(metrics['output_tokens_per_s'])} tok/s together"
    )


def shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


if __name__ == "__main__":
    sys.exit(main())
