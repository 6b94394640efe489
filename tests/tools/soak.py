"""Runs every script again and again against a sound deployment: none may raise an alarm.

    python tests/tools/soak.py               20 runs of each
    python tests/tools/soak.py --runs 100 benchmark.py

Exit code 1 if any run ended with anything but 0, or had a FAIL in it.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from reference import Deployment, running  # noqa: E402


@dataclass(frozen=True)
class Case:
    """A script's arguments, and the settings of the deployment it is right for.

    The arguments may name what the deployment exports, in lower case: {health_url}.
    """

    arguments: str
    settings: Mapping[str, Any] = field(default_factory=dict)


CASES = {
    "benchmark.py": Case("--concurrency 1 4 --requests 8 --max-tokens 16"),
    "test_openai_sdk.py": Case(""),
    "test_scale_to_zero.py": Case(
        "--health-url {health_url} --idle-timeout 2.5 --probe-interval 0.2 --max-tokens 4",
        {"idle_timeout": 1, "load_ms": 800},
    ),
    "test_queue.py": Case("--strict", {"max_concurrent_requests": 1, "max_queue_size": 2}),
    "test_cors.py": Case("--origin https://app.example", {"cors_origins": "https://app.example"}),
    "test_auth.py": Case("", {"profile": "fleet"}),
    "test_model_routing.py": Case(
        "--strict --test-permissions --skip full_access", {"profile": "fleet"}
    ),
    "test_wol.py": Case(
        "--strict --wait-asleep 60 --listen-wol {wol_port} --burst 4 --timing",
        {"profile": "fleet", "asleep": True, "idle_timeout": 2, "boot_ms": 1500},
    ),
    "test_workload_routing.py": Case(
        "--strict --requests 20 --expect-runners 2 --analyze-timing", {"profile": "fleet"}
    ),
}
SIM = {"engine": "sim", "ttft_ms": 20, "itl_ms": 4}
QUICK: dict[str, dict[str, Any]] = {"gateway": {**SIM, "rate_limit": 0}, "fleet": SIM}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scripts", nargs="*", metavar="SCRIPT", help=", ".join(CASES))
    parser.add_argument("--runs", type=int, default=20)
    args = parser.parse_args()
    alarms = [soak(script, args.runs) for script in args.scripts or CASES]
    print("no alarm" if not any(alarms) else f"{sum(alarms)} alarms")
    return 1 if any(alarms) else 0


def soak(script: str, runs: int) -> int:
    """The number of runs with an alarm."""
    case, alarms, started = CASES[script], 0, time.monotonic()
    quick = QUICK[case.settings.get("profile", "gateway")]
    with running(**{**quick, **case.settings}) as deployment:
        for number in range(1, runs + 1):
            complaint = run_once(script, case, deployment)
            if complaint:
                alarms += 1
                print(f"{script} run {number}: {complaint}")
    print(
        f"{script:24} {runs - alarms} of {runs} sound, {time.monotonic() - started:.0f} s",
        flush=True,
    )
    return alarms


def run_once(script: str, case: Case, deployment: Deployment) -> str | None:
    """What was wrong with one run, or None."""
    with tempfile.TemporaryDirectory() as folder:
        exported = deployment.exported
        arguments = case.arguments.format(**exported)
        command = [sys.executable, ROOT / script, "--results", folder, *shlex.split(arguments)]
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **deployment.environment},
            capture_output=True,
            text=True,
            check=False,
        )
        saved = [json.loads(path.read_text()) for path in Path(folder).glob("*.json")]
    failed = [c for document in saved for c in document["checks"] if c["status"] == "FAIL"]
    if done.returncode == 0 and not failed:
        return None
    told = "; ".join(f"{check['name']}: {check['detail']}" for check in failed)
    return f"exit {done.returncode}: {told or done.stderr.strip()[-300:]}"


if __name__ == "__main__":
    sys.exit(main())
