"""Folders of runs: names, which one is resumed, which one is the baseline."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from livecheck.suite.run_folder import (
    LATEST,
    NothingToResume,
    RunFolder,
    SavedRun,
    baseline_of,
    folder_name,
    interrupted_run,
    point_latest,
    runs_in,
)

HERE = {"gateway": "http://here"}
SETTINGS: dict[str, Any] = {"profile": "gateway", "steps": {"inference_c1": {"requests": 10}}}
PASSED = {"state": "done", "exit_code": 0}


def saved(name: str, **changes: Any) -> SavedRun:
    content = {
        "deployment": HERE,
        "settings": SETTINGS,
        "session": name,
        "started_at": name,
        "ended_at": name,
        "verdict": "pass",
        "steps": [PASSED],
        **changes,
    }
    return SavedRun(Path(name), content)


def baseline(*runs: SavedRun) -> list[str]:
    return [str(each.path) for each in baseline_of(runs, HERE, SETTINGS, "now")]


def test_a_folder_is_named_by_time_and_title() -> None:
    now = datetime(2026, 11, 30, 6, 23, 37, tzinfo=timezone.utc)
    assert folder_name(now, "v1.0 rc/1") == "2026-11-30T062337Z-v1.0-rc-1"
    assert folder_name(now, "../..") == "2026-11-30T062337Z"


def test_the_baseline_is_the_last_passed_run_of_the_same_deployment_and_settings() -> None:
    other = saved("2", settings={**SETTINGS, "steps": {}})
    elsewhere = saved("3", deployment={"gateway": "http://there"})
    failed = saved("4", verdict="fail")
    cut_off = saved("5", steps=[PASSED, {"state": "not run"}])
    assert baseline(cut_off, failed, elsewhere, other, saved("1"), saved("0")) == ["1"]
    assert baseline(failed, other) == []


def test_repeats_of_one_session_are_a_baseline_together_and_never_their_own() -> None:
    repeats = [saved("b", session="monday"), saved("a", session="monday"), saved("0")]
    assert baseline(*repeats) == ["b", "a"]
    assert baseline(saved("c", session="now"), *repeats) == ["b", "a"]


def test_the_last_run_that_did_not_come_to_its_end_is_resumed() -> None:
    killed = saved("2", ended_at=None, verdict=None)
    cut_off = saved("1", steps=[PASSED, {"state": "interrupted"}])
    assert interrupted_run([saved("3"), killed, cut_off], HERE, SETTINGS) is killed


def test_nothing_is_resumed_that_is_not_the_same() -> None:
    with pytest.raises(NothingToResume, match="no interrupted run"):
        interrupted_run([saved("1")], HERE, SETTINGS)
    elsewhere = saved("2", ended_at=None, deployment={"gateway": "http://there"})
    with pytest.raises(NothingToResume, match="of another deployment: http://there"):
        interrupted_run([elsewhere], HERE, SETTINGS)
    steps = {"inference_c1": {"requests": 20}}
    other = saved("3", ended_at=None, settings={**SETTINGS, "steps": steps})
    words = "has other options: steps inference_c1 requests was 20 and is now 10"
    with pytest.raises(NothingToResume, match=words):
        interrupted_run([other, elsewhere], HERE, SETTINGS)


def test_runs_are_read_again_and_what_is_no_run_is_left_alone(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "results", "one")
    folder.save({"started_at": "1"})
    again = RunFolder.create(tmp_path / "results", "one")
    assert again.path.name == "one-2"
    again.save({"started_at": "2"})
    for name, text in {"a": "{", "b": "[]", "c": '{"script": "other"}'}.items():
        (tmp_path / "results" / name).mkdir()
        (tmp_path / "results" / name / "run.json").write_text(text)
    point_latest(tmp_path / "results", again.path)
    assert (tmp_path / "results" / LATEST).resolve() == again.path.resolve()
    assert [each.path.name for each in runs_in(tmp_path / "results")] == ["one-2", "one"]


def test_a_folder_belongs_to_one_run_at_a_time(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "one")
    assert not RunFolder(folder.path).take()
    folder.release()
    assert RunFolder(folder.path).take()


def test_of_a_result_file_only_its_head_is_read(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "one")
    before = folder.documents()
    text = '{\n "error": "cannot reach it",\n "no_access": true,\n "target": {"model": "m"},\n'
    (folder.path / "cors.json").write_text(text + json.dumps("y" * 200_000))
    assert folder.changed_since(before) == ["cors"]
    assert folder.head("cors") == {
        "error": "cannot reach it",
        "no_access": True,
        "target": {"model": "m"},
    }
