"""What a run would send, and how long it would take: each script's own estimate, and their sum."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from livecheck.core.checks import Exit
from livecheck.core.text import one_line
from livecheck.suite.commands import Command

PATIENCE_S = 60.0  # for all scripts together, on a machine that is busy with other work


class MistakeInOptions(ValueError):
    """A script does not take its options; the text is its own line. `command`: whose options."""

    def __init__(self, command: Command, line: str):
        super().__init__(line)
        self.command = command


@dataclass(frozen=True)
class Estimate:
    """The script's own: `requests`, `tokens_at_most` and `at_most_s` are bounds."""

    requests: int
    tokens_at_most: int
    wakes: str | None
    typical_s: float
    at_most_s: float


def estimates(commands: Sequence[Command]) -> list[Estimate | None]:
    """That of each command, all asked side by side; None where a script could not tell.

    Nothing is sent. MistakeInOptions when a script refuses its options.
    """
    processes = [
        subprocess.Popen(
            each.words("--plan", "--output", "json"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=each.environment(),
            text=True,
            errors="replace",
        )
        for each in commands
    ]
    try:
        return [read(*each) for each in zip(commands, processes, strict=True)]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def read(command: Command, process: subprocess.Popen[str]) -> Estimate | None:
    try:
        out, err = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        return None
    if process.returncode == Exit.USAGE:
        line = one_line((err.strip().splitlines() or ["refuses its options"])[-1])
        raise MistakeInOptions(command, line)
    return parse(out) if process.returncode == Exit.OK else None


def parse(text: str) -> Estimate | None:
    try:
        said: dict[str, Any] = json.loads(text)
        return Estimate(
            int(said["requests"]),
            int(said["tokens_at_most"]),
            said["wakes"],
            float(said["typical_s"]),
            float(said["at_most_s"]),
        )
    except (ValueError, KeyError, TypeError):
        return None


def total(found: Sequence[Estimate | None]) -> Estimate:
    """The sum of what is known."""
    known = [each for each in found if each]
    parts = (part for each in known for part in (each.wakes or "").split(", and "))
    wakes = [part for part in dict.fromkeys(parts) if part]
    return Estimate(
        sum(each.requests for each in known),
        sum(each.tokens_at_most for each in known),
        ", ".join(wakes) or None,
        sum(each.typical_s for each in known),
        sum(each.at_most_s for each in known),
    )


def as_dict(estimate: Estimate | None) -> dict[str, Any]:
    return vars(estimate) if estimate else dict.fromkeys(Estimate.__dataclass_fields__)
