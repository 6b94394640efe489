"""Runs every script again and again against a sound deployment: none may raise an alarm.

    python tests/tools/soak.py               20 runs of each
    python tests/tools/soak.py --runs 100 benchmark.py
    python tests/tools/soak.py "test_queue.py --edge-idle"

Exit code 1 if any run ended with anything but 0, had a FAIL in it, or a WARN of `edge_idle`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from helpers.fault_walk import SETTINGS, SOUND_CASES, SoundCase  # noqa: E402

from reference import Deployment, running  # noqa: E402

# In the plain deployment these do not even warn.
STRICT = (
    "test_queue.py",
    "test_rate_limit.py",
    "test_model_routing.py",
    "test_wol.py",
    "test_workload_routing.py",
)
# Slow enough that the times of an answer can be told apart.
PACE = {"ttft_ms": 20, "itl_ms": 4}


def with_options(script: str, arguments: str, **settings: Any) -> SoundCase:
    """The usual case of a script, with more of its options."""
    usual = SOUND_CASES[script]
    more = {**usual.settings, **settings}
    return dataclasses.replace(usual, arguments=f"{usual.arguments} {arguments}", settings=more)


# Much longer than the longest silence of these deployments, and shorter than --timeout.
EDGE = "--edge-idle 15"
KILL = (
    "--kill-command 'kill -USR1 {runner_pid_tower}'"
    " --revive-command 'kill -USR2 {runner_pid_tower}' --settle 1 --revive-timeout 30"
)
# By what is said of them: the script, and what it is asked for beside the usual.
CASES = {
    **SOUND_CASES,
    "benchmark.py --edge-idle": with_options("benchmark.py", EDGE),
    "test_queue.py --edge-idle": with_options("test_queue.py", EDGE),
    "test_scale_to_zero.py --edge-idle": with_options("test_scale_to_zero.py", EDGE),
    "test_workload_routing.py --kill-command": with_options("test_workload_routing.py", KILL),
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scripts", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--runs", type=int, default=20)
    args = parser.parse_args()
    alarms = [soak(script, args.runs) for script in args.scripts or CASES]
    print("no alarm" if not any(alarms) else f"{sum(alarms)} alarms")
    return 1 if any(alarms) else 0


def settings_of(case: SoundCase) -> dict[str, Any]:
    """Those of the deployment that the case is right for."""
    return {**SETTINGS[case.profile], **PACE, **case.settings}


def soak(name: str, runs: int) -> int:
    """The number of runs of this case with an alarm."""
    case, alarms, started = CASES[name], 0, time.monotonic()
    script = name.partition(" ")[0]
    with running(**settings_of(case)) as deployment:
        for number in range(1, runs + 1):
            complaint = run_once(script, case, deployment)
            if complaint:
                alarms += 1
                print(f"{name} run {number}: {complaint}", flush=True)
    print(
        f"{name:40} {runs - alarms} of {runs} sound, {time.monotonic() - started:.0f} s",
        flush=True,
    )
    return alarms


def run_once(script: str, case: SoundCase, deployment: Deployment) -> str | None:
    """What was wrong with one run, or None."""
    with tempfile.TemporaryDirectory() as folder:
        exported = deployment.exported
        arguments = shlex.split(case.arguments.format(**exported))
        arguments += ["--strict"] if script in STRICT else []
        command = [sys.executable, ROOT / script, "--results", folder, *arguments]
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **deployment.environment},
            capture_output=True,
            text=True,
            check=False,
        )
        saved = [json.loads(path.read_text()) for path in Path(folder).glob("*.json")]
    checks = [check for document in saved for check in document["checks"]]
    alarms = {("edge_idle", "WARN")}
    failed = [c for c in checks if c["status"] == "FAIL" or (c["name"], c["status"]) in alarms]
    if done.returncode == 0 and not failed:
        return None
    told = "; ".join(f"{check['name']}: {check['detail']}" for check in failed)
    return f"exit {done.returncode}: {told or done.stderr.strip()[-300:]}"


if __name__ == "__main__":
    sys.exit(main())
