"""benchmark.py --self-check: how wrong its own figures are, before it measures a deployment."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from helpers.plain_client import eventually, family, gone, on_linux
from helpers.scripts import ROOT, Finished, run_script, start_script

from livecheck.load import self_check, truth_trial
from livecheck.load.arrivals import Load
from reference import running

KEY = "sk-secret-of-the-operator"
SIM = {"engine": "sim", "ttft_ms": 5, "itl_ms": 2, "rate_limit": 0, "api_keys": KEY}
SHORT = ("--inference-only", "--requests", 4, "--max-tokens", 4)


def own(finished: Finished, name: str) -> Any:
    return finished.document(name)["metrics"]["client"].get("self_check")


def test_each_level_says_how_wrong_its_figures_are(tmp_path: Path) -> None:
    with running(**SIM) as deployment:
        levels = (*SHORT, "--concurrency", 1, 3, "--self-check")
        done = run_script("benchmark.py", *levels, env=deployment.environment, results=tmp_path)
    assert done.code == 0, done.everything
    for number in (1, 3):
        found = own(done, f"inference_c{number}")
        assert found["concurrency"] == number and found["problem"] is None
        assert found["kernel_times"] == (sys.platform == "linux")
        assert not found["tls"] and found["tokens_per_s"] == 100
        requests = self_check.LEAST_REQUESTS
        assert found["ttft_error_ms"]["n"] + found["not_compared"] == requests
        assert found["event_error_ms"]["n"] >= (requests - 1) * self_check.TOKENS
        for errors in (found["ttft_error_ms"], found["event_error_ms"]):
            assert abs(errors["p50"]) < 5 and errors["p99"] <= errors["p99_9"]
        assert f"(at {number} in flight" in " ".join(done.out.split())
    assert "client error" in done.out
    assert "self-check: this program against a server with known times, 3 in flight" in done.err
    # the deployment got what it gets without the check
    assert len(done.document("inference_c3")["requests"]) == 4


def test_without_the_option_there_is_no_such_figure(tmp_path: Path) -> None:
    with running(**SIM) as deployment:
        done = run_script("benchmark.py", *SHORT, env=deployment.environment, results=tmp_path)
    assert done.code == 0 and own(done, "inference_c1") is None
    assert "client error" not in done.out


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (("--find-capacity", "--slo", "ttft_p95=5s", "--max-level", 3), "capacity"),
        (("--direct-url", "{url}", "--direct-key", KEY, "--max-tokens", 1), "gateway_cost"),
    ],
)
def test_a_search_and_a_comparison_say_it_too(
    tmp_path: Path, options: tuple[object, ...], name: str
) -> None:
    with running(**SIM) as deployment:
        given = [str(each).format(url=deployment.url) for each in (*options, "--self-check")]
        env = deployment.environment
        done = run_script("benchmark.py", *SHORT, *given, env=env, results=tmp_path)
    assert done.code == 0, done.everything
    assert "client error" in done.out
    figures = done.document(name)["metrics"]
    for each in figures.get("levels", [figures]):
        assert each["client"]["self_check"]["problem"] is None


def test_with_tls() -> None:
    found = self_check.figures_at(self_check.trial_at(2, tls=True))
    assert found["problem"] is None and found["tls"]
    assert abs(found["ttft_error_ms"]["p50"]) < 5


def test_a_trial_knows_nothing_of_the_operator(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in (
        "INFERENCE_API_KEY",
        "INFERENCE_URL",
        "HTTP_PROXY",
        "OPENAI_API_KEY",
        "AWS_SECRET",
    ):
        monkeypatch.setenv(name, "http://secret.invalid")
    assert "secret" not in json.dumps(truth_trial.environment())
    Path(".env").write_text("INFERENCE_API_KEY=secret\nINFERENCE_URL=http://secret.invalid\n")
    outcome = truth_trial.run(self_check.trial_at(1, tls=False))
    assert "secret" not in json.dumps(outcome.document)
    assert outcome.events == (self_check.LEAST_REQUESTS + 1) * self_check.TOKENS
    assert outcome.to_first_request_s and 0 < outcome.to_first_request_s < 30


def test_a_copied_script_says_what_it_lacks(tmp_path: Path) -> None:
    for name in ("benchmark.py", "common.py"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "livecheck", tmp_path / "livecheck")
    url = ("--url", "http://127.0.0.1:9")
    command = [sys.executable, str(tmp_path / "benchmark.py"), *url, "--self-check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "needs the folder reference/" in done.stderr


def test_a_check_that_cannot_be_made_is_said_and_the_levels_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(truth_trial, "CERTIFICATE", Path("/nowhere.pem"))
    found = self_check.figures_at(self_check.trial_at(1, tls=True))
    assert found["problem"].startswith("the truth server did not start")
    assert found["ttft_error_ms"]["p50"] is None and found["client_bound"] is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--gateway-only"], "--self-check is about requests to the model"),
        (["--only", "ping"], "--self-check is about requests to the model"),
    ],
)
def test_options_that_contradict_it(options: list[str], words: str) -> None:
    done = run_script("benchmark.py", "--url", "http://127.0.0.1:9", "--self-check", *options)
    assert done.code == 2 and words in done.err


def test_the_plan_counts_no_request_for_it() -> None:
    def plan(*more: str) -> Any:
        url = ("--url", "http://127.0.0.1:9", "--concurrency", 1, 8)
        done = run_script("benchmark.py", *url, "--plan", "--output", "json", *more)
        return json.loads(done.out)

    without, found = plan(), plan("--self-check")
    assert found["requests"] == without["requests"]
    assert found["typical_s"] == pytest.approx(without["typical_s"] + 2 * self_check.TYPICAL_S)
    assert any("none of them reaches the deployment" in note for note in found["notes"])


def test_a_closed_door_is_told_before_any_check(tmp_path: Path) -> None:
    with running(**{**SIM, "rate_limit": 0}) as deployment:
        url = ("--url", deployment.url, "--api-key", "sk-wrong", "--self-check")
        done = run_script("benchmark.py", *SHORT, *url, results=tmp_path)
    assert done.code == 3 and "self-check" not in done.err, done.everything


def test_an_open_loop_says_how_many_it_had_in_flight(tmp_path: Path) -> None:
    with running(**SIM) as deployment:
        options = ("--inference-only", "--rate", 5, "--requests", 10, "--max-tokens", 2)
        env = deployment.environment
        done = run_script("benchmark.py", *options, "--self-check", env=env, results=tmp_path)
    found = own(done, "inference_r5")
    assert found["concurrency"] == 10 > found["level_in_flight"] >= 1
    assert f"the level had at most {found['level_in_flight']}" in " ".join(done.out.split())


@on_linux
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_no_process_and_no_folder(
    number: signal.Signals, tmp_path: Path
) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    with running(**SIM) as deployment:
        interrupt_the_check(number, tmp_path, folder, deployment.environment)
    assert not os.listdir(folder)


def interrupt_the_check(
    number: signal.Signals, tmp_path: Path, folder: Path, environment: dict[str, str]
) -> None:
    env = {**environment, "TMPDIR": str(folder)}
    options = ("--inference-only", "--results", tmp_path / "r", "--self-check")
    with start_script("benchmark.py", *options, env=env) as process:
        assert eventually(lambda: len(family(process.pid)) == 3, 20)
        time.sleep(0.3)
        started = family(process.pid)
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 128 + number and "Traceback" not in err
    assert eventually(lambda: gone(started))


def test_which_concurrency_is_checked() -> None:
    closed, few = Load(64, 100), Load(64, 10)
    rate = Load(1000, 30, rate_per_s=5.0)
    assert self_check.concurrencies([Load(1, 10), Load(8, 10), Load(8, 10)]) == [1, 8]
    assert [self_check.in_flight(each) for each in (closed, few, rate)] == [64, 10, 30]
    assert self_check.in_flight(Load(5000, 9000)) == self_check.MOST_IN_FLIGHT
    assert self_check.concurrencies([Load(2, 10)], most=128) == [128]
    checks: Any = {8: {"concurrency": 8}, 128: {"concurrency": 128}}
    for number, expected in ((4, 8), (8, 8), (9, 128), (500, 128)):
        found = self_check.for_level(checks, Load(number, 1000))
        assert found["self_check"]["concurrency"] == expected
    assert self_check.for_level({}, closed) == {}


def test_the_copy_has_as_many_processes() -> None:
    assert self_check.trial_at(8, False).options == ()
    assert self_check.trial_at(8, False, processes=2).options == ("--processes", "2")
    assert self_check.trial_at(1, False, processes=2).options == ()


def test_without_a_temporary_folder_the_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    found = self_check.figures_at(self_check.trial_at(1, tls=False))
    assert found["problem"] == "no temporary folder can be made (No such file or directory)"
    assert found["ttft_error_ms"]["n"] == 0 and found["client_bound"] is None
