"""A client that is starved does not accuse the server of its own delays."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from helpers.scripts import Finished, start_script

from reference import running

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no SIGSTOP here")
STOPPED_S, RUNNING_S = 0.2, 0.006  # longer than a whole stream of 64 tokens, and in between
BRISK: dict[str, Any] = {"engine": "sim", "ttft_ms": 4, "itl_ms": 1, "rate_limit": 0}


def starve(process: subprocess.Popen[str]) -> tuple[str, str]:
    """From its first line on let the process run for a moment now and then; its output."""
    assert process.stdout
    process.stdout.readline()  # its imports are over: with so little time they would take long
    while process.poll() is None:
        process.send_signal(signal.SIGSTOP)
        time.sleep(STOPPED_S)
        process.send_signal(signal.SIGCONT)
        time.sleep(RUNNING_S)
    return process.communicate()


def run_starved(script: str, *arguments: object) -> Finished:
    with start_script(script, *arguments, env={"PYTHONUNBUFFERED": "1"}) as process:
        out, err = starve(process)
    return Finished(process.returncode, out, err, Path("results").absolute())


@pytest.mark.parametrize("attempt", range(2))
def test_a_stream_that_flows_is_never_called_a_burst(attempt: int) -> None:
    with running(**BRISK) as deployment:
        finished = run_starved(
            *("test_openai_sdk.py", "--url", deployment.url, "--api-key", deployment.api_key),
            *("--only", "pacing", "--max-tokens", 64),
        )
    check = finished.check("openai_sdk_test", "pacing")
    assert (finished.code, check["status"]) in [(0, "PASS"), (3, "SKIP")], finished.out
    if finished.code == 3:
        assert "this program could not run" in check["detail"]


def test_a_bound_that_only_the_starved_client_misses_is_not_missed() -> None:
    with running(**BRISK) as deployment:
        finished = run_starved(
            *("benchmark.py", "--url", deployment.url, "--api-key", deployment.api_key),
            *("--inference-only", "--requests", 3, "--max-tokens", 64, "--warmup", 0),
            *("--slo", "e2e_p50=150ms", "--slo", "itl_p99=100ms"),
        )
    checks = {each["name"]: each for each in finished.document("inference_c1")["checks"]}
    for name in ("slo:e2e_p50", "slo:itl_p99"):
        assert checks[name]["status"] in ("PASS", "SKIP"), checks[name]
        if checks[name]["status"] == "SKIP":
            assert "this program could not run" in checks[name]["detail"]


def test_a_bound_that_the_server_misses_is_missed_with_a_starved_client_too() -> None:
    with running(**{**BRISK, "ttft_ms": 1500}) as deployment:
        finished = run_starved(
            *("benchmark.py", "--url", deployment.url, "--api-key", deployment.api_key),
            *("--inference-only", "--requests", 1, "--max-tokens", 4, "--warmup", 0),
            *("--slo", "ttft_p50=10ms"),
        )
    # nearly all of that time the program was stopped: it cannot tell, and does not say "kept"
    check = finished.check("inference_c1", "slo:ttft_p50")
    assert check["status"] in ("FAIL", "SKIP"), check
