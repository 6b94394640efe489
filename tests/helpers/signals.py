"""Signals at chosen moments: what becomes of a command, and whether it is what is promised.

outcome = interrupt(["test_cors.py", "--url", url], 0.2, (signal.SIGINT,), folder)
assert outcome.problems() == []

What is promised: exit code 130 (143 for SIGTERM), or the command's own when it had done its work;
never a trace; and as soon as a run was open, all its result files.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from helpers.scripts import PYTHON, ROOT

OWN_CODES = (0, 1, 2, 3)
NEVER = ("Traceback", "Exception ignored", "race condition", "never retrieved", "unexpected")
FIRST_LINE_S = 10.0


@dataclass
class Outcome:
    """How the command ended. `code` is None when it had to be killed; `spent_s`: from the signal
    to its end."""

    script: str
    signals: Sequence[int]
    code: int | None
    out: str
    err: str
    files: Mapping[str, bytes]
    spent_s: float
    was_over: bool  # before the signal came

    @property
    def was_early(self) -> bool:
        """Whether it ended before a run was open: one line says so, and there is no result."""
        lines = [f"{self.script}: {word}\n" for word in ("interrupted", "terminated")]
        return self.err in lines and not self.files

    def problems(self) -> list[str]:
        """What is not as it is promised."""
        found = [f"{word!r} is shown" for word in NEVER if word in self.out + self.err]
        if self.code is None:
            return [*found, "it did not end"]
        allowed = {128 + each for each in self.signals}
        if self.code not in allowed and self.code not in OWN_CODES:
            found.append(f"exit code {self.code}")
        if self.code in allowed and self.was_early:
            return found
        if self.code == 2 or self.script == "report.py":  # no result is saved
            return found
        documents = {name for name in self.files if name.endswith(".json")}
        logs = {name.removesuffix(".log") for name in self.files if name.endswith(".log")}
        if not documents or {name.removesuffix(".json") for name in documents} != logs:
            found.append(f"result files: {sorted(self.files)}")
        if set(self.files) - documents - {f"{name}.log" for name in logs}:
            found.append(f"other files: {sorted(self.files)}")
        for name in documents:
            try:
                content = json.loads(self.files[name])
            except ValueError:
                found.append(f"{name} is not JSON")
                continue
            if self.code not in allowed and content["interrupted"]:
                found.append(f"{name} is interrupted, but the exit code is {self.code}")
        return found


def interrupt(
    command: Sequence[str],
    moment_s: float,
    signals: Sequence[int],
    folder: Path,
    environment: Mapping[str, str] | None = None,
    limit_s: float = 60.0,
) -> Outcome:
    """Start the command in the folder, and send these signals, one right after the other.

    command: a script and its options; its results go to `folder`/results.
    moment_s: counted from the first line of the command. Until then Python itself decides what
    becomes of a signal: it starts, and compiles the script.
    """
    place = [] if command[0] == "report.py" else ["--results", "results"]
    with subprocess.Popen(
        [PYTHON, str(ROOT / command[0]), *command[1:], *place],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(os.environ if environment is None else environment),
    ) as process:
        wait_for_first_line(process)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(moment_s)
        was_over = process.poll() is not None
        for number in signals:
            process.send_signal(number)
        sent_s = time.monotonic()
        try:
            (out, err), has_ended = process.communicate(timeout=limit_s), True
        except subprocess.TimeoutExpired:
            process.kill()
            (out, err), has_ended = process.communicate(), False
    spent_s = time.monotonic() - sent_s
    text, errors = out.decode(errors="replace"), err.decode(errors="replace")
    files = files_in(folder / "results")
    code = process.returncode if has_ended else None
    return Outcome(command[0], signals, code, text, errors, files, spent_s, was_over)


def files_in(place: Path) -> dict[str, bytes]:
    """The files of this folder by their names, hidden ones among them."""
    found = [*place.glob("*"), *place.glob(".*")]
    return {each.name: each.read_bytes() for each in found if each.is_file()}


def wait_for_first_line(process: subprocess.Popen[bytes]) -> None:
    """Until the command handles SIGTERM (Linux); elsewhere for a while."""
    end_s = time.monotonic() + FIRST_LINE_S
    while time.monotonic() < end_s and process.poll() is None:
        try:
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        except OSError:
            time.sleep(0.5)
            return
        caught = next((line.split()[1] for line in lines if line.startswith("SigCgt:")), "0")
        if int(caught, 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.001)
