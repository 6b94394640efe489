"""A process started with the warm Python behaves like one started with Python itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.plain_client import eventually, gone, on_linux
from helpers.warm_python import warm_python

SCRIPT = """
import atexit, os, signal, sys
atexit.register(print, "ended")
print(sys.argv[1:], os.getcwd(), os.environ["NAME"], sys.stdin.read().strip())
print("an error", file=sys.stderr)
sys.exit({end})
"""
WAITS = """
import os, signal, sys
print(os.getpid(), flush=True)
signal.pause()
"""


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with warm_python(tmp_path_factory.mktemp("python"), ["json"]) as python:
        yield python


@pytest.mark.parametrize("end", ["7", "", "0", "'a reason'"])
def test_arguments_folder_environment_streams_and_exit_code(
    end: str, warm: str, tmp_path: Path
) -> None:
    (tmp_path / "script.py").write_text(SCRIPT.format(end=end))
    runs = [
        subprocess.run(
            [python, "script.py", "a", "b c"],
            cwd=tmp_path,
            env={**os.environ, "NAME": "of mine"},
            input="some input\n",
            capture_output=True,
            text=True,
        )
        for python in (sys.executable, warm)
    ]
    results = [(run.returncode, run.stdout, run.stderr) for run in runs]
    assert results[0] == results[1]
    assert "some input" in runs[1].stdout and runs[1].stdout.endswith("ended\n")


def test_a_module_is_run_and_starts_warm_processes_itself(warm: str, tmp_path: Path) -> None:
    (tmp_path / "outer.py").write_text("import sys; print(sys.executable, __name__)")
    done = subprocess.run([warm, tmp_path / "outer.py"], capture_output=True, text=True)
    assert done.stdout.split() == [warm, "__main__"]
    done = subprocess.run([warm, "-m", "json.tool"], input="[1]", capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[\n    1\n]\n", "")


def test_a_sitecustomize_in_pythonpath_is_run_first(warm: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os; os.environ['SEEN'] = 'before it'\n")
    (tmp_path / "script.py").write_text("import os; print(os.environ['SEEN'])\n")
    command = [warm, str(tmp_path / "script.py")]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (0, "before it\n")


@on_linux
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_signals_reach_it(number: int, warm: str, tmp_path: Path) -> None:
    (tmp_path / "waits.py").write_text(WAITS)
    command = [warm, str(tmp_path / "waits.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.send_signal(number)
        assert process.wait(10) == -number
    assert eventually(lambda: gone({pid}))
