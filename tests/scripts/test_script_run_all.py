"""run_all.py, run as an operator runs it: whole runs, early ends, interruptions, mistakes."""

from __future__ import annotations

import errno
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from helpers.plain_client import eventually
from helpers.scripts import ROOT, Finished, load_script, run_script, start_script

from reference import Deployment, running

QUICK = """
[thresholds.gateway_overhead]
ping_net_p99 = false   # not on a busy machine
[thresholds.inference_c1]
ttft_p50 = false
ttft_p95 = false
tokens_per_s_mean = false
[script.benchmark]
requests = 10
warmup = 1
[script.inference_c1]
max_tokens = 8
"""
TWO = ("--only", "gateway_overhead", "inference_c1")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Steps that take a second or two."""
    path = tmp_path / "quick.toml"
    path.write_text(QUICK)
    return path


def run_all(*arguments: object, env: dict[str, str] | None = None) -> Finished:
    return run_script("run_all.py", *arguments, env=env)


def latest() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(Path("results/latest/run.json").read_text())
    return loaded


def states() -> dict[str, str]:
    return {each["name"]: each["state"] for each in latest()["steps"]}


def everything() -> str:
    return "".join(path.read_text() for path in Path("results/latest").iterdir() if path.is_file())


def test_a_sound_deployment_is_a_go_with_a_page_and_is_the_next_baseline(
    sim: Deployment, config: Path
) -> None:
    first = run_all(*TWO, "--config", config, "--title", "one", env=sim.environment)
    assert first.code == 0, first.out + first.err
    *_, gate, blank, go, page = first.out.splitlines()
    assert gate.startswith("[GATE] one PASS: ") and blank == ""
    assert go == "GO (exit 0): 2 of 2 steps passed"
    assert page.startswith("the page is results/") and Path(page.split()[-1]).exists()
    saved = latest()
    assert (saved["verdict"], saved["url"], saved["model"]) == ("pass", sim.url, "sim")
    assert sim.api_key not in everything() + first.out + first.err
    assert "--gateway-only" in first.err and first.err.count("$ python3 ") == 2

    second = run_all(*TWO, "--config", config, "--title", "two", env=sim.environment)
    assert latest()["baseline"] == [str(Path(page.split()[-1]).parent)]
    assert "Against the baseline\n" in second.out


def test_a_failing_script_does_not_keep_the_others_from_running(config: Path) -> None:
    with running(faults=["stream-cut"], rate_limit=0, ttft_ms=4, itl_ms=1) as broken:
        wanted = ("--only", "inference_c1", "test_cors", "--origin", "https://app.example")
        ended = run_all(*wanted, "--config", config, env=broken.environment)
    assert ended.code == 1
    assert set(states().values()) == {"done"} and len(states()) == 2
    assert "    FAIL  " in ended.out
    assert "NO-GO (exit 1): " in ended.out and "inference_c1 (fail)" in ended.out


def test_nothing_answers_exit_3_at_once() -> None:
    begun = time.monotonic()
    ended = run_all("--url", "http://127.0.0.1:9")
    assert (ended.code, time.monotonic() - begun < 60) == (3, True)
    found = states()
    assert found.pop("gateway_overhead") == "done"
    assert found.pop("test_cors") == found.pop("test_rate_limit") == "skipped"
    assert set(found.values()) == {"not run"}
    assert "NOT DECIDED (exit 3)" in ended.out and "cannot reach" in ended.err


def test_a_refused_credential_is_exit_3_at_once(sim: Deployment) -> None:
    ended = run_all("--url", sim.url, "--api-key", "sk-wrong-0123456789")
    assert ended.code == 3
    found = states()
    assert (found["test_openai_sdk"], found["test_tools"]) == ("done", "not run")
    assert "the API key was refused" in ended.out + ended.err
    assert "0123456789" not in everything() + ended.out + ended.err


def start(deployment: Deployment, *arguments: object) -> subprocess.Popen[str]:
    return start_script("run_all.py", *TWO, *arguments, env=deployment.environment)


def is_measuring() -> bool:
    """Whether the second step has begun."""
    try:
        steps = latest()["steps"]
    except (OSError, ValueError):
        return False
    return bool(steps[0]["state"] == "done" and steps[1]["started_at"])


@pytest.fixture
def slow_config(tmp_path: Path) -> Path:
    path = tmp_path / "slow.toml"
    path.write_text(QUICK + "duration = 60\n")
    return path


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGHUP, 143)])
def test_a_signal_stops_the_script_and_reports_what_there_is(
    sim: Deployment, slow_config: Path, number: int, code: int
) -> None:
    with start(sim, "--config", slow_config) as process:
        assert eventually(is_measuring, 60)
        time.sleep(1)
        process.send_signal(number)  # not to the group: it hands the signal on
        out, err = process.communicate(timeout=60)
    assert process.returncode == code, out + err
    assert states() == {"gateway_overhead": "done", "inference_c1": "interrupted"}
    assert (latest()["verdict"], latest()["exit_code"]) == ("interrupted", code)
    assert f"NOT DECIDED (exit {code})" in out and Path("results/latest/report.html").exists()


def test_a_run_whose_terminal_is_closed_is_reported(sim: Deployment, slow_config: Path) -> None:
    """Its table cannot be drawn any more."""
    words = [sys.executable, str(ROOT / "run_all.py"), *TWO, "--config", str(slow_config)]
    environment = {**os.environ, **sim.environment, "TERM": "xterm"}
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(words[0], words, environment)

    def is_drawn_and_measuring() -> bool:
        while select.select([terminal], [], [], 0)[0]:
            os.read(terminal, 1 << 16)
        return is_measuring()

    assert eventually(is_drawn_and_measuring, 60)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 143
    assert states() == {"gateway_overhead": "done", "inference_c1": "interrupted"}
    assert (latest()["verdict"], latest()["exit_code"]) == ("interrupted", 143)
    assert Path("results/latest/report.html").exists()


def test_a_full_folder_is_named_though_the_system_does_not_name_it() -> None:
    script = load_script("run_all.py")
    told = script.why(OSError(errno.ENOSPC, "No space left on device"))
    assert told.startswith("cannot write to the folder of the run (No space left")


def test_a_killed_run_is_resumed_in_its_own_folder(sim: Deployment, slow_config: Path) -> None:
    with start(sim, "--config", slow_config) as process:
        assert eventually(is_measuring, 60)
        process.kill()
        process.wait()
        # the script that it has left holds the folder until it has ended
        slow_config.write_text(QUICK)
        other = run_all(*TWO, "--config", slow_config, "--resume", env=sim.environment)
        assert other.code == 2 and "has other options: steps inference_c1" in other.err
        end_children_of_the_run()
        process.communicate()
    before = latest()
    slow_config.write_text(QUICK + "duration = 2\n")
    change_duration(2)
    ended = run_all(*TWO, "--config", slow_config, "--resume", env=sim.environment)
    assert ended.code == 0, ended.out + ended.err
    after = latest()
    assert after["steps"][0] == before["steps"][0]
    assert states() == {"gateway_overhead": "done", "inference_c1": "done"}
    assert len([each for each in Path("results").iterdir() if not each.is_symlink()]) == 1


def change_duration(seconds: int) -> None:
    """In run.json, so that the test does not wait a minute."""
    path = Path("results/latest/run.json")
    path.write_text(path.read_text().replace('"duration": 60', f'"duration": {seconds}'))


def end_children_of_the_run() -> None:
    """The benchmark that the killed run has left: it has this folder, and writes to its results."""
    for each in Path("/proc").glob("[0-9]*"):
        try:
            is_here = (each / "cwd").resolve() == Path.cwd()
            is_script = b"--results" in (each / "cmdline").read_bytes()
        except OSError:
            continue
        if is_here and is_script:
            os.kill(int(each.name), signal.SIGKILL)


def test_repeats_are_runs_of_one_session(sim: Deployment, config: Path) -> None:
    only = ("--only", "gateway_overhead", "--config", config)
    ended = run_all(*only, "--repeat", "2", "--cooldown", "0.1", env=sim.environment)
    assert ended.code == 0, ended.out + ended.err
    runs = [json.loads(path.read_text()) for path in Path("results").glob("2*/run.json")]
    assert sorted(each["repeat"] for each in runs) == [1, 2]
    assert len({each["session"] for each in runs}) == 1
    assert ended.out.count("the page is ") == 2


def test_a_plan_sends_nothing_and_needs_no_url() -> None:
    ended = run_all("--plan")
    assert ended.code == 0 and not Path("results").exists()
    assert "python3 " in ended.out and "total of 10" in ended.out
    assert "left out: test_cors: give --origin" in ended.out
    plan = json.loads(run_all("--plan", "--output", "json", "--profile", "fleet").out)
    assert [each["name"] for each in plan["steps"]][0] == "test_wol"
    assert plan["requests"] == sum(each["requests"] for each in plan["steps"]) > 300


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "which deployment? give --url or set INFERENCE_URL"),
        (["--url", "host"], "that is not a URL"),
        (["--url", "http://h", "--only", "test_qeue"], "unknown script"),
        (["--url", "http://h", "--only", "test_wol"], "nothing is left to run"),
        (["--url", "http://h", "--profile", "all"], "--profile all is about two deployments"),
        (["--url", "http://h", "--resume"], "there is no interrupted run to resume"),
        (["--url", "http://h", "--token", "two words"], "the token from --token has white space"),
        (["--config", "missing.toml"], "cannot read missing.toml"),
    ],
)
def test_a_mistake_is_exit_2_and_one_line(arguments: list[str], words: str) -> None:
    ended = run_all(*arguments)
    assert (ended.code, ended.out, len(ended.err.splitlines())) == (2, "", 1)
    assert words in ended.err and not Path("results").exists()


def test_an_option_that_a_script_does_not_have_is_a_mistake_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text("[script.test_queue]\nextra = 1\nmax_queu = 2\n")
    ended = run_all("--url", "http://127.0.0.1:9", "--config", path)
    assert (ended.code, ended.out) == (2, "")
    assert f"{path}, line 3: test_queue.py: unknown option --max-queu" in ended.err


@pytest.mark.parametrize(
    ("table", "option"),
    [
        ("script.inference_c8", "concurrency = 16"),
        ("script.inference_c8", "find_capacity = true"),
        ("script.inference_c8", "endpoint = 'responses'"),
        ("script.inference_c2_t3", "turns = 4"),
        ("script.inference_r5", "rate = 6"),
        ("script.benchmark", "depth = [100, 1000]"),
        ("gateway", "concurrency = 2"),
    ],
)
def test_a_level_measures_what_its_name_says(tmp_path: Path, table: str, option: str) -> None:
    """Else its thresholds would be left out, and the run could still end with GO."""
    path = tmp_path / "my.toml"
    path.write_text(f"[{table}]\ntimeout = 5\n{option}\n")
    ended = run_all("--url", "http://127.0.0.1:9", "--config", path, "--skip", "gateway_overhead")
    assert (ended.code, ended.out) == (2, "")
    assert f"{path}, line 3: with this {option.partition(' ')[0]}, inference_" in ended.err
    assert "write a table with the name of that level, as [script.inference_" in ended.err


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("inference_c8", "concurrency = 8"),
        ("inference_r0.5", "rate = 0.5\nserver_metrics = 'auto'"),
        ("inference_c2", "endpoint = 'embeddings'\nbatch = 4"),
        ("inference_c3", "find_capacity = true\nslo = 'ttft_p50=1s'"),
    ],
)
def test_what_agrees_with_its_name_or_has_no_name_may_be_given(
    tmp_path: Path, name: str, options: str
) -> None:
    path = tmp_path / "my.toml"
    path.write_text(f'[script."{name}"]\n{options}\n')
    ended = run_all("--url", "http://127.0.0.1:9", "--config", path, "--only", name, "--plan")
    assert ended.code == 0, ended.err


def test_json_is_the_run(sim: Deployment, config: Path) -> None:
    only = ("--only", "gateway_overhead", "--config", config, "--output", "json")
    ended = run_all(*only, env=sim.environment)
    assert ended.code == 0
    assert json.loads(ended.out)["steps"][0]["results"] == ["gateway_overhead"]
