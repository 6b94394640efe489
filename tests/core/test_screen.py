"""screen.py: progress is a bar on a terminal and a line elsewhere."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.scripts import PYTHON, ROOT

from livecheck.core.screen import Screen

LABEL = "asking [red] {model} [/nope]"  # as a server's words may be: no markup, no format
RUN = f"""
from livecheck.core.screen import Screen
screen = Screen(str, "text", False, False)
with screen.progress({LABEL!r}, 3) as step:
    step()
    screen.note("in between [/x]")
    print("the result")
    step()
screen.note("afterwards")
"""


def on_terminal(code: str) -> tuple[str, str]:
    """What a program writes on a terminal that is its stderr, and what on its stdout."""
    ours, its = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "80"}
    command = [PYTHON, "-c", code]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=its, env=environment, text=True
    ) as process:
        os.close(its)
        shown = b""
        with contextlib.suppress(OSError):  # EIO when nobody has the other end any more
            while data := os.read(ours, 65536):
                shown += data
        os.close(ours)
        assert process.stdout
        out = process.stdout.read()
    assert process.returncode == 0
    return shown.decode(), out


def test_on_a_terminal_progress_is_a_bar_with_the_label_as_it_is() -> None:
    shown, out = on_terminal(RUN)
    assert LABEL in shown and "2/3" in shown
    assert "in between [/x]\r\n" in shown  # above the bar, and whole
    assert shown.endswith("\x1b[2Kafterwards\r\n")  # the bar is gone
    assert out == "the result\n"


def test_the_cursor_is_never_hidden() -> None:
    assert "\x1b[?25l" not in on_terminal(RUN)[0]


def test_elsewhere_progress_is_one_line_and_needs_no_rich(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rich.progress", None)  # as if it were not installed
    with Screen(str, "text", False, False).progress(LABEL, 3) as step:
        step()
    assert capsys.readouterr() == ("", f"{LABEL}\n")


def test_no_command_needs_rich_before_it_shows_a_bar() -> None:
    names = [*ROOT.glob("*.py"), *ROOT.glob("livecheck/**/*.py")]
    lines = [line for path in map(Path, names) for line in path.read_text().splitlines()]
    assert [line for line in lines if line.startswith(("import rich", "from rich"))] == []
