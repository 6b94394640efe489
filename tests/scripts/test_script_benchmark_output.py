"""benchmark.py: its outputs and files, the guide's own commands, and an interruption."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.bench import SPARE_S, SUMMARY, bench, level, quick
from helpers.hostile import (
    CHAT,
    HEAD,
    Server,
    first,
    good_stream,
    hang,
)
from helpers.scripts import ROOT, run_script, start_script

import benchmark
from livecheck.load.level_plan import find_scope
from reference import Deployment

# --- output

TOP = {
    *("schema_version", "script", "tool_version", "verdict", "exit_code", "started_at"),
    *("duration_s", "target", "client", "options", "checks", "metrics", "requests"),
}
WITHOUT_UNIT = {  # counts and words
    *("index", "status", "error", "error_text", "excluded", "output_tokens", "token_source"),
    *("output_events", "prompt_tokens", "cached_tokens", "finish_reason", "complaints"),
    *("progress_events", "thoughts_only", "silence_phase", "comments", "answer_id"),
    *("output_arrivals", "no_rate", "token_doubts", "server_predicted_tokens", "thinking_source"),
}


def test_the_document_is_as_the_design_says(sim: Deployment) -> None:
    finished = bench(sim, "--requests", 2, "--max-tokens", 8, "--output", "json")
    document = json.loads(finished.out)
    assert set(document) >= TOP
    assert document["script"] == "benchmark" and document["verdict"] == "pass"
    assert document["started_at"].endswith("+00:00")
    assert set(document["target"]) == {"url", "api_base", "model", "server"}
    assert set(document["client"]) >= {"python", "platform", "clock"}
    for check in document["checks"]:
        assert set(check) >= {"name", "status", "detail", "evidence"}
    assert "api_key" not in document["options"] and "token" not in document["options"]
    for record in document["requests"]:
        unitless = {key for key in record if not re.search(r"_(ms|s|per_s|tokens)$", key)}
        assert unitless <= WITHOUT_UNIT
    for key in ("ttft_ms", "itl_ms", "tpot_ms", "tokens_per_s", "e2e_ms"):
        assert set(document["metrics"][key]) == SUMMARY
    assert document == level(finished)


def test_one_level_is_its_files_document_and_several_are_a_list(sim: Deployment) -> None:
    finished = quick(sim, "--concurrency", 1, 3, 2, "--requests", 4, "--output", "json")
    levels = json.loads(finished.out)["levels"]
    assert levels == [level(finished, each) for each in (1, 3, 2)]
    assert [each["metrics"]["concurrency"] for each in levels] == [1, 3, 2]
    assert len(list(finished.results.glob("inference_c*.json"))) == 3


def test_json_on_stdout_is_the_only_thing_there_and_progress_is_on_stderr(sim: Deployment) -> None:
    finished = quick(sim, "--output", "json")
    assert finished.out == (finished.results / "inference_c1.json").read_text()
    assert "concurrency 1: 2 requests" in finished.err
    assert "saved results/inference_c1.json" in finished.err


LABELS = [
    *("TTFT [ms]", "ITL [ms]", "TPOT [ms]", "decode rate [tok/s]", "  the server's own"),
    *("E2E latency [ms]", "output tokens", "prompt tokens", "  of them cached", "connect [ms]"),
    *("output throughput", "request throughput", "error rate", "prompt", "tokens counted by"),
]


def test_the_text_has_the_rows_that_the_readme_explains(sim: Deployment) -> None:
    finished = bench(sim, "--requests", 2, "--max-tokens", 8)
    lines = finished.out.splitlines()
    for label in ["/ping [ms]", "/health [ms]", "round trip [ms]", *LABELS]:
        assert any(line.startswith(f"  {label} ") for line in lines), label
    assert "Inference at concurrency 1: 2 of 2 requests succeeded" in lines
    assert any(line.startswith("  * fewer than 100 samples") for line in lines)


def test_the_log_is_what_was_on_the_screen(sim: Deployment) -> None:
    finished = quick(sim)
    log = (finished.results / "inference_c1.log").read_text()
    for line in finished.out.splitlines():
        assert line in log


def test_help_shows_the_defaults_of_the_guide() -> None:
    finished = run_script("benchmark.py", "--help")
    shown = " ".join(finished.out.split())
    assert finished.code == 0
    for words in (
        r"--max-tokens N [^-]*128",
        r"--requests N [^-]*10",
        r"--warmup N warm-up [^()]*\(default 1\)",
    ):
        assert re.search(words, shown)
    args = benchmark.build_parser().parse_args([])
    find_scope(args)  # sets the defaults that depend on other options
    assert args.prompt == "Write a short poem about the sea"
    assert (args.max_tokens, args.concurrency, args.requests, args.warmup) == (128, [1], 10, 1)
    assert (args.output, args.timeout, args.slo) == ("text", 120, [])


# --- the guide's own commands


def shell(command: str, sim: Deployment) -> subprocess.CompletedProcess[str]:
    """A command of the guide: its script, host and key are ours, the rest stands as it is."""
    script = f"{shlex.quote(sys.executable)} {shlex.quote(str(ROOT / 'benchmark.py'))}"
    command = command.replace("python3 scripts/benchmark.py", script)
    command = command.replace("https://<endpoint>:8000", sim.url)
    command = command.replace("sk-<key>", sim.api_key)
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=90)


OVERHEAD = "python3 scripts/benchmark.py --url https://<endpoint>:8000 --gateway-only"
OVERHEAD += " --requests 50 --warmup 5"
BASELINE = """python3 scripts/benchmark.py \\
  --url https://<endpoint>:8000 \\
  --api-key sk-<key> \\
  --prompt "{prompt}" \\
  --max-tokens {tokens} \\
  --concurrency {concurrency} \\
  --requests {requests} \\
  --warmup {warmup} \\
  --output json > results/inference_c{concurrency}.json
"""
SEA, QUANTUM = "Write a short poem about the sea", "Explain quantum computing in simple terms"


def test_the_guides_step_3_works(sim: Deployment) -> None:
    Path("results").mkdir()
    plain = shell(OVERHEAD, sim)
    assert plain.returncode == 0 and "/ping [ms]" in plain.stdout
    saved = shell(f"{OVERHEAD} --output json > results/gateway_overhead.json", sim)
    assert saved.returncode == 0 and saved.stdout == ""
    document = json.loads(Path("results/gateway_overhead.json").read_text())
    assert document["verdict"] == "pass"
    assert document["metrics"]["gateway"]["ping_ms"]["n"] == 50


@pytest.mark.parametrize(
    ("concurrency", "requests", "warmup", "tokens", "prompt"),
    [(1, 10, 2, 128, SEA), (4, 20, 2, 128, SEA), (8, 30, 3, 256, QUANTUM)],
)
def test_the_guides_step_4_works_redirection_included(
    concurrency: int, requests: int, warmup: int, tokens: int, prompt: str, sim: Deployment
) -> None:
    Path("results").mkdir()
    done = shell(BASELINE.format(**locals()), sim)
    assert (done.returncode, done.stdout) == (0, "")
    document = json.loads(Path(f"results/inference_c{concurrency}.json").read_text())
    assert document["verdict"] == "pass"
    assert len(document["requests"]) == document["metrics"]["succeeded"] == requests
    assert document["metrics"]["output_tokens"]["mean"] == tokens
    assert document["options"]["prompt"] == prompt


def test_the_redirected_document_is_the_one_on_stdout(sim: Deployment) -> None:
    few = OVERHEAD.replace("--gateway-only", f"--inference-only --api-key {sim.api_key}")
    few = few.replace("--requests 50", "--requests 2 --max-tokens 8")
    done = shell(f"set -o pipefail; {few} --output json | tee copy.json > /dev/null", sim)
    assert done.returncode == 0
    assert Path("copy.json").read_text() == Path("results/inference_c1.json").read_text()


# --- interruption


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
)
def test_an_interrupted_run_saves_what_there_is_and_finished_levels_keep_their_verdict(
    number: signal.Signals, code: int
) -> None:
    # level 1: a warm-up and 4; level 2: 2 warm-ups, then 2 that are answered and 2 that hang
    with Server(chat=first(9, HEAD + good_stream(), hang)) as server:
        few = ("--inference-only", "--requests", 4, "--concurrency", 1, 2, "--output", "json")
        process = start_script("benchmark.py", "--url", server.url, *few)
        with contextlib.closing(process.stdout or process.stderr):
            server.wait_for(11)
            time.sleep(0.1)
            process.send_signal(number)
            started = time.monotonic()
            out, err = process.communicate(timeout=30)
    assert time.monotonic() - started < SPARE_S
    assert process.returncode == code
    assert "Traceback" not in err
    done, cut = json.loads(out)["levels"]
    assert (done["verdict"], done["exit_code"]) == ("pass", 0)
    assert (cut["verdict"], cut["exit_code"], cut["interrupted"]) == ("interrupted", code, True)
    assert [each["error"] for each in cut["requests"]].count(None) == 2
    assert [each["error"] for each in cut["requests"]].count("interrupted") == 2
    assert cut["metrics"]["succeeded"] == cut["metrics"]["requests"] == 2
    assert json.loads(Path("results/inference_c2.json").read_text()) == cut
    assert json.loads(Path("results/inference_c1.json").read_text()) == done


@pytest.mark.parametrize("path", ["/v1/models", "/ping", CHAT])
def test_a_run_that_is_interrupted_early_says_so(path: str) -> None:
    with Server(answers={path: hang}) as server:
        process = start_script("benchmark.py", "--url", server.url, "--requests", 2)
        server.wait_for(1, path)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted" in err and "Traceback" not in err
    assert json.loads(Path("results/inference_c1.json").read_text())["verdict"] == "interrupted"
