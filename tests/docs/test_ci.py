"""The pipelines of docs/ci.md and the action can work: their YAML, and each option and input in it.

The program of the action is run, with a stand-in for run_all.py.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.scripts import ROOT

import run_all

PAGE = (ROOT / "docs" / "ci.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text())
FOLDER = "2026-05-04T030405Z-v1"  # of a run
STAND_IN = f"""
import json, os, pathlib, sys
folder = pathlib.Path("results", "{FOLDER}")
folder.mkdir(parents=True)
(folder / "run.json").write_text(json.dumps(sys.argv[1:]))
(folder / "baseline_report.md").write_text("the report")
os.symlink("{FOLDER}", "results/latest")
sys.exit(1)
"""


def load(block: str) -> Any:
    return yaml.safe_load(block)


def workflow_steps() -> Iterator[dict[str, Any]]:
    """The steps of the workflow, and of the parts of one."""
    for content in map(load, BLOCKS):
        if isinstance(content, list):
            yield from content
        elif "jobs" in content:
            yield from (step for job in content["jobs"].values() for step in job["steps"])


def uses_of_the_action() -> list[dict[str, Any]]:
    return [step for step in workflow_steps() if step.get("uses") == "./"]


def step_of_action(name: str) -> dict[str, Any]:
    (found,) = [step for step in ACTION["runs"]["steps"] if step["name"] == name]
    return dict(found)


def parse(words: list[str]) -> None:
    run_all.build_parser().parse_args(words)


# --- what is written in them


def test_there_are_complete_pipelines_of_both() -> None:
    keys: list[set[Any]] = [set(content) for content in map(load, BLOCKS) if type(content) is dict]
    assert any({"jobs", "permissions", "concurrency"} <= each for each in keys)
    assert {"live-test"} in keys


def test_the_action_is_used_with_inputs_that_it_has() -> None:
    assert uses_of_the_action()
    for step in uses_of_the_action():
        assert set(step["with"]) <= set(ACTION["inputs"])
        assert "INFERENCE_API_KEY" in step["env"]


def test_every_input_of_the_action_is_explained_and_used() -> None:
    used = (ROOT / "action.yml").read_text()
    for name in ACTION["inputs"]:
        assert f"| `{name}` |" in PAGE
        assert f"inputs.{name} " in used.replace("}", " ")


def test_the_options_in_args_exist() -> None:
    given = [step["with"]["args"] for step in uses_of_the_action() if "args" in step["with"]]
    assert given
    for each in given:
        parse(shlex.split(each))


def test_the_options_that_the_action_gives_exist() -> None:
    options = re.findall(r"options\+=\((--[\w-]+)", step_of_action("Run")["run"])
    assert len(options) == 5
    for option in options:
        parse([option, "gateway"])


def test_outputs_are_those_of_the_action() -> None:
    named = re.findall(r"steps\.live-test\.outputs\.([\w-]+)", PAGE)
    assert named
    assert set(named) <= set(ACTION["outputs"])


def test_no_input_is_a_part_of_a_program() -> None:
    """An expression within a program would be taken for a part of it, whatever it holds."""
    programs = [step["run"] for step in ACTION["runs"]["steps"] if "run" in step]
    assert [each for each in programs if "${{" in each] == []


def test_requirements_of_the_action_and_of_gitlab_exist() -> None:
    texts = PAGE + step_of_action("Set up")["run"]
    names = set(re.findall(r"requirements[\w-]*\.txt", texts))
    assert names == {"requirements.txt", "requirements-report.txt"}


# --- what the action does


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A folder with the files of a job, and in `action` the stand-in."""
    (tmp_path / "action").mkdir()
    (tmp_path / "action" / "run_all.py").write_text(STAND_IN)
    (tmp_path / "live-test" / "bin").mkdir(parents=True)
    (tmp_path / "live-test" / "bin" / "python").symlink_to(sys.executable)
    return tmp_path


def run_step(name: str, job: Path, **variables: str) -> int:
    step = step_of_action(name)
    environment = dict.fromkeys(step.get("env", {}), "")
    environment |= {"GITHUB_ACTION_PATH": str(job / "action"), "RUNNER_TEMP": str(job)}
    environment |= {"GITHUB_OUTPUT": str(job / "output"), "PATH": os.environ["PATH"]}
    environment |= {"GITHUB_STEP_SUMMARY": str(job / "summary"), **variables}
    shell = [shutil.which("bash") or "bash", "--noprofile", "--norc", "-eo", "pipefail", "-c"]
    return subprocess.run([*shell, step["run"]], cwd=job, env=environment, check=False).returncode


def test_the_inputs_become_options_word_by_word(job: Path) -> None:
    args = "--skip test_wol --origin 'https://a b' --limit \"$(touch bad)\""
    inputs = {"URL": "https://host; touch bad", "TITLE": "v1 `touch bad`", "BASELINE": "a 'b c'"}
    variables = {f"LIVE_TEST_{name}": value for name, value in {**inputs, "ARGS": args}.items()}
    assert run_step("Run", job, **variables) == 1
    assert yaml.safe_load((job / "results" / "latest" / "run.json").read_text()) == [
        *("--url", "https://host; touch bad", "--title", "v1 `touch bad`"),
        *("--baseline", "a", "b c", "--skip", "test_wol", "--origin", "https://a b"),
        *("--limit", "$(touch bad)"),
    ]
    assert not (job / "bad").exists()


def test_it_hands_the_exit_code_and_the_folder_on(job: Path) -> None:
    assert run_step("Run", job) == 1
    folder = job / "results" / FOLDER
    assert (job / "output").read_text() == f"exit-code=1\nresults={folder.resolve()}\n"
    assert run_step("Show the report", job, LIVE_TEST_RESULTS=str(folder)) == 0
    assert (job / "summary").read_text() == "the report"


def test_an_older_run_is_not_taken_for_this_one(job: Path) -> None:
    run_step("Run", job)
    (job / "action" / "run_all.py").write_text("raise SystemExit(2)")
    (job / "output").unlink()
    older = (job / "results" / "latest" / "run.json").stat().st_mtime - 100
    os.utime(job / "results" / "latest" / "run.json", (older, older))
    assert run_step("Run", job) == 2
    assert (job / "output").read_text() == "exit-code=2\n"


def test_a_mistake_in_args_ends_the_step(job: Path) -> None:
    assert run_step("Run", job, LIVE_TEST_ARGS="--title 'no end") != 0
    assert not (job / "results").exists()


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ("github-workflows", BLOCKS[0]),
        ("gitlab-ci", BLOCKS[-1]),
        ("github-actions", (ROOT / "action.yml").read_text()),
    ],
)
def test_the_pipelines_keep_the_schemas_of_their_services(
    schema: str, text: str, tmp_path: Path
) -> None:
    file = tmp_path / "pipeline.yml"
    file.write_text(text)
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
    done = subprocess.run([*command, file], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
