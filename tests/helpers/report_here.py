"""Runs report.py, inside the tests' own process where that will do."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import report as report_module
from helpers.scripts import Finished, run_script


def run_here(folder: Path, *arguments: object) -> Finished:
    """The command inside this process, because a process of its own takes longer to start."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = report_module.main(list(map(str, arguments)))
        except SystemExit as exit:
            code = int(exit.code or 0)
    finished = Finished(code, out.getvalue(), err.getvalue(), folder)
    assert "Traceback" not in finished.everything
    return finished


def report(folder: Path, *arguments: object) -> Finished:
    return run_here(folder, folder, *arguments)


def report_process(folder: Path, *arguments: object) -> Finished:
    finished = run_script("report.py", folder, *arguments)
    assert "Traceback" not in finished.everything
    return Finished(finished.code, finished.out, finished.err, folder)


def as_json(folder: Path, *arguments: object) -> dict[str, Any]:
    finished = report(folder, *arguments, "--output", "json")
    content: dict[str, Any] = json.loads(finished.out)
    assert content["exit_code"] == finished.code
    return content


def verdicts(content: dict[str, Any]) -> dict[str, str]:
    return {each["subject"]: each["verdict"] for each in content["documents"]}


def gate_line(finished: Finished) -> str:
    return finished.out.splitlines()[-1]
