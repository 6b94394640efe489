"""Scripts, run the way an operator runs them."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PYTHON = sys.executable  # itself, also where `fast_starts` puts another one in its place


@dataclass
class Finished:
    """A script's end: exit code, both outputs, and the folder its results went to."""

    code: int
    out: str
    err: str
    results: Path

    @property
    def everything(self) -> str:
        files = (path.read_text() for path in sorted(self.results.glob("*")) if path.is_file())
        return "\n".join([self.out, self.err, *files])

    def document(self, name: str) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((self.results / f"{name}.json").read_text())
        return loaded

    def check(self, name: str, check: str) -> dict[str, Any]:
        """The one check of that name in a result document."""
        found = [each for each in self.document(name)["checks"] if each["name"] == check]
        assert len(found) == 1, found
        return found[0]


@dataclass(frozen=True)
class SavedAs:
    """What the result document of this name says of its checks."""

    name: str

    def statuses(self, finished: Finished) -> dict[str, str]:
        """The status of each check."""
        return {each["name"]: each["status"] for each in finished.document(self.name)["checks"]}

    def only(self, status: str, finished: Finished) -> set[str]:
        """The checks with this status."""
        return {name for name, found in self.statuses(finished).items() if found == status}

    def detail(self, finished: Finished, check: str) -> str:
        return str(finished.check(self.name, check)["detail"])


def load_script(script: str) -> Any:
    """The script as a module, under a name that pytest does not collect."""
    name = f"script_{Path(script).stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / script)
        assert spec and spec.loader
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def restore_signals() -> None:
    """Let SIGINT and SIGHUP have their usual effect, in this process and in all that it starts.

    A shell starts a background job (`make test &`) with SIGINT ignored, `nohup` ignores SIGHUP, and
    every child inherits that. Tests that interrupt a script would then wait in vain.
    """
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    for number, handler in usual.items():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def start_script(
    script: str, *arguments: object, env: Mapping[str, str] | None = None, stdin: Any = None
) -> subprocess.Popen[str]:
    """A script in a process of its own, in the current folder, as an operator starts it."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / script), *map(str, arguments)],
        stdin=stdin if stdin is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
    )


def run_script(
    script: str,
    *arguments: object,
    env: Mapping[str, str] | None = None,
    input: str | None = None,
    timeout_s: float = 90,
    results: Path | None = None,
) -> Finished:
    """Run a script to its end; its results go to `results`, else where a script puts them itself:
    to `results` in the current folder."""
    place = ("--results", results) if results else ()
    stdin = subprocess.PIPE if input is not None else None
    with start_script(script, *arguments, *place, env=env, stdin=stdin) as process:
        try:
            out, err = process.communicate(input, timeout=timeout_s)
        except BaseException:
            process.kill()
            raise
    return Finished(process.returncode, out, err, (results or Path("results")).absolute())
