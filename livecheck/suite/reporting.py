"""Lets report.py judge the folder of a run, and finds its verdict in what it prints."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from livecheck.core.checks import Exit
from livecheck.core.result_file import write_atomically
from livecheck.suite.commands import ROOT
from livecheck.suite.course import StepState
from livecheck.suite.run_folder import DONE, SKIPPED

PAGE, JUNIT, THRESHOLDS = "report.html", "junit.xml", "thresholds.toml"
GATE = "[GATE] "
PATIENCE_S = 300.0


@dataclass(frozen=True)
class Reported:
    """What came of it: the exit code, the report as text, and what went wrong."""

    code: Exit
    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def gate(self) -> str | None:
        """The line with the verdict; None when there is no report."""
        return next((each for each in reversed(self.lines) if each.startswith(GATE)), None)


def report(
    folder: Path,
    steps: Sequence[StepState],
    thresholds: Mapping[str, Any],
    options: Mapping[str, Any],
    baseline: Sequence[Path],
    allow_unclear: bool,
) -> Reported:
    """Judge the results in the folder, and write the page. `options`: other options of report.py.
    `allow_unclear`: a comparison for which there is too little data does not decide.

    A signal does not reach report.py: it is done in seconds, and an interrupted run needs it, too.
    """
    path = folder / THRESHOLDS
    write_atomically(path, as_toml(with_required(thresholds, steps)))
    words = report_words(folder, path, options, baseline, allow_unclear)
    try:
        done = subprocess.run(
            [sys.executable, str(ROOT / "report.py"), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE_S,
            start_new_session=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Reported(Exit.UNDECIDED, [], [f"report.py did not end within {PATIENCE_S:g} s"])
    code = Exit(done.returncode) if done.returncode in set(Exit) else Exit.UNDECIDED
    problems = [each for each in done.stderr.splitlines() if each.startswith("report.py: ")]
    return Reported(code, done.stdout.splitlines(), problems)


def report_words(
    folder: Path,
    thresholds: Path,
    options: Mapping[str, Any],
    baseline: Sequence[Path],
    allow_unclear: bool,
) -> list[str]:
    words = [str(folder), "--html", str(folder / PAGE), "--junit", str(folder / JUNIT)]
    words += ["--thresholds", str(thresholds)]
    words += [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    if allow_unclear:
        words.append("--allow-unclear")
    return words + (["--baseline", *map(str, baseline)] if baseline else [])


def with_required(thresholds: Mapping[str, Any], steps: Sequence[StepState]) -> dict[str, Any]:
    """What has to be there is what was to be run, unless the file of the live test says otherwise.

    Each deployment of its own is judged by its own results.
    """
    wanted = [each for each in steps if each.state != SKIPPED]
    required = [name for each in wanted for name in results_of(each)]
    urls = {(each.command.step.profile, each.command.access.url) for each in wanted}
    found: dict[str, Any] = {"required": list(dict.fromkeys(required))}
    if len(urls) > len({profile for profile, _ in urls}):
        found["same_target"] = False
    return {**found, **thresholds}


def results_of(step: StepState) -> list[str]:
    """The result files that a step leaves, or should have left."""
    is_decided = step.state == DONE and step.exit_code in (Exit.OK, Exit.FAIL)
    return step.results if is_decided and step.results else [step.command.step.result]


def as_toml(content: Mapping[str, Any]) -> str:
    """Values first, then tables, as TOML wants it. JSON's scalars and lists of them are TOML."""
    values = {key: value for key, value in content.items() if not isinstance(value, dict)}
    lines = [f"{as_key(key)} = {as_value(value)}" for key, value in values.items()]
    for name, table in content.items():
        if isinstance(table, dict):
            lines += ["", f"[{as_key(name)}]"]
            lines += [f"{as_key(key)} = {as_value(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


def as_key(key: str) -> str:
    return json.dumps(key)


def as_value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
