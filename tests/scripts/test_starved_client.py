"""A client that is starved does not accuse the server of its own delays."""

from __future__ import annotations

import os
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


# --- stopped once, for half of a level


STEADY: dict[str, Any] = {"engine": "sim", "ttft_ms": 20, "itl_ms": 2, "slots": 8, "rate_limit": 0}
LEVEL = ("--inference-only", "--concurrency", 4, "--duration", 5, "--max-tokens", 8)
BEFORE_S, HOLE_S = 2.5, 1.8  # the level has begun before, and goes on after it


def children_of(pid: int) -> list[int]:
    place = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in place.read_text().split()]


def run_stopped(whole: bool, *arguments: object) -> Finished:
    """Of the two processes of a level, stop both and what started them, or (not `whole`) one."""
    with running(**STEADY) as deployment:
        access = ("--url", deployment.url, "--api-key", deployment.api_key)
        command = ("benchmark.py", *access, *LEVEL, "--processes", 2, *arguments)
        with start_script(*command) as process:
            time.sleep(BEFORE_S)
            children = children_of(process.pid)
            stopped = [process.pid, *children] if whole else children[:1]
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            time.sleep(HOLE_S)
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
            out, err = process.communicate(timeout=60)
    return Finished(process.returncode, out, err, Path("results").absolute())


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no /proc here")
@pytest.mark.parametrize("whole", [True, False])
def test_a_level_in_which_the_client_hardly_ran_says_so_and_breaks_no_throughput(
    whole: bool,
) -> None:
    bounds = ("--slo", "requests_per_s=80", "--slo", "output_tokens_per_s=640")
    finished = run_stopped(whole, *bounds)  # 4 in flight of 34 ms: 118 requests per second
    level = finished.document("inference_c4")
    checks = {each["name"]: each for each in level["checks"]}
    assert checks["client"]["status"] == "WARN", finished.out
    assert "this program could not run for " in checks["client"]["detail"]
    assert level["metrics"]["client"]["starved_share"] > 0.2
    for name in ("slo:requests_per_s", "slo:output_tokens_per_s"):
        assert checks[name]["status"] in ("PASS", "SKIP"), checks[name]
    if whole:
        assert finished.code == 3, finished.out
        assert "in flight on average" in level["metrics"]["steady"]["reason"]
