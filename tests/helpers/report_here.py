"""Runs report.py inside the tests' own process."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import report as report_module
from helpers.scripts import Finished


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
