"""Starts deployments on this machine, and runs run_all.py against them.

Examples:
    python -m reference.demo                    # the benchmark, with llama.cpp and SmolLM2-135M
    python -m reference.demo --all              # every script
    python -m reference.demo --engine sim       # without a model, in seconds

What is run, and how it is judged, is in reference/demo.toml and reference/demo_all.toml. The exit
code is that of run_all.py. No process is left.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import string
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .deployment import running
from .process import ROOT, StartError

SIM = {"ttft_ms": 20, "itl_ms": 4}  # a fast simulated engine, so that the demo is short
HIGH_RATE_LIMIT = {"rate_limit": 1000}  # so that no script has to wait for the next minute
# SmolLM2 calls no tool by itself: its own chat template has none. The simulated engine plays one.
TOOLS: dict[str, dict[str, object]] = {
    "llama": {"chat_template": Path(__file__).with_name("tools.jinja")},
    "sim": {"skills": "tools"},
}
ENGINES = {"llama": "llama.cpp with SmolLM2-135M", "sim": "a simulated engine"}


@dataclass(frozen=True)
class Needed:
    """A deployment that some script of a tour needs. `by_engine`: settings for one engine only."""

    settings: Mapping[str, object] = field(default_factory=dict)
    profile: str = "gateway"
    by_engine: Mapping[str, Mapping[str, object]] = field(default_factory=dict)


# What a deployment exports is in the environment of run_all.py, and in its configuration, under the
# deployment's name: QUEUE_INFERENCE_URL.
DEMO = {"gateway": Needed(HIGH_RATE_LIMIT)}
DEMO_ALL = {
    **DEMO,
    "cors": Needed({"cors_origins": "https://app.example"}),
    "tools": Needed(HIGH_RATE_LIMIT, by_engine=TOOLS),
    "context": Needed({"slots": 2, "context_size": 2048, "skills": "context"}),
    "repeating": Needed({"skills": "repeat", **HIGH_RATE_LIMIT}),
    "queue": Needed({"max_concurrent_requests": 1, "max_queue_size": 2}),
    "sleeping": Needed({"idle_timeout": 3}),
    "limited": Needed({"rate_limit": 20, "rate_window": 5}),
    "asleep": Needed({"asleep": True, "boot_ms": 2000}, profile="fleet"),
    "fleet": Needed(profile="fleet"),
}


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
    results = args.results or Path("results", tour + suffix)
    needed = DEMO_ALL if args.all else DEMO
    what = f"{len(needed)} deployments" if args.all else "a gateway"
    print(f"Starting {what} on this machine, with {ENGINES[args.engine]}", flush=True)
    try:
        return run_against(needed, tour, args.engine, results)
    except StartError as error:
        print(f"cannot start the deployment: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("interrupted; the deployments have been stopped", file=sys.stderr)
        return 130


def run_against(needed: Mapping[str, Needed], tour: str, engine: str, results: Path) -> int:
    """Start all of them, and run run_all.py. Returns its exit code."""
    template = Path(__file__).with_name(f"{tour.replace('-', '_')}.toml").read_text("utf-8")
    with contextlib.ExitStack() as stack:
        exported: dict[str, str] = {}
        for name, each in needed.items():
            own = each.by_engine.get(engine, {})
            options: dict[str, Any] = {**(SIM if engine == "sim" else {}), **each.settings, **own}
            deployment = running(engine=engine, profile=each.profile, **options)
            environment = stack.enter_context(deployment).environment
            exported |= {f"{name.upper()}_{key}": value for key, value in environment.items()}
        config = stack.enter_context(tempfile.NamedTemporaryFile("w", suffix=".toml"))
        config.write(string.Template(template).substitute(exported))
        config.flush()
        return run(["--config", config.name, "--results", str(results)], exported)


def run(arguments: Sequence[str], exported: Mapping[str, str]) -> int:
    """run_all.py to its end, also after Ctrl-C: then it saves what it has, and reports it."""
    print(f"$ python3 run_all.py {shlex.join(arguments)}\n", flush=True)
    command = [sys.executable, str(ROOT / "run_all.py"), *arguments]
    with subprocess.Popen(command, env={**os.environ, **exported}) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue  # run_all.py got it, too


if __name__ == "__main__":
    sys.exit(main())
