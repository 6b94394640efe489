"""One run of all steps into one folder: what is run next, when it ends early, what is saved."""

from __future__ import annotations

from livecheck.core.interruption import INTERRUPTION

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Protocol

from livecheck.core.checks import VERDICTS, Exit, worst
from livecheck.core.late_pattern import late_pattern
from livecheck.core.text import shorten
from livecheck.suite.commands import Command
from livecheck.suite.estimates import Estimate
from livecheck.suite.run_folder import DONE, INTERRUPTED, NOT_RUN, RunFolder
from livecheck.suite.running import RunningScript

TICK_S = 0.25  # how often the display is brought up to date
RUNNING, WAITING = "running", "waiting"
FINDINGS = ("FAIL  ", "WARN  ")  # how such a line of a script begins
INDENT = " " * 6  # of what belongs to the line before
MAX_FINDINGS = 50  # lines that are kept of one script
MAX_LIMIT_WAIT_S = 120.0  # for a rate limit to be over: those of a day are not waited for
SPARE_S = 1.0  # a Retry-After is a whole number of seconds
ENDING = late_pattern(r"[A-Z]+ \(exit \d+\): (.+)")  # what a script says last of its result


@dataclass
class StepState:
    """What has become of a step. `why`: why it was left out or not run. `said`: its last line."""

    command: Command
    estimate: Estimate | None
    line: str
    state: str = NOT_RUN
    why: str | None = None
    exit_code: Exit | None = None
    started_at: str | None = None
    started_s: float = 0.0
    duration_s: float | None = None
    results: list[str] = field(default_factory=list)
    said: str = ""
    findings: list[str] = field(default_factory=list)
    counts: str = ""  # how many checks had which status, in the script's words
    limit_wait_s: float | None = None  # until the rate limit may be over that it has met

    @property
    def name(self) -> str:
        return self.command.step.name

    @property
    def verdict(self) -> str | None:
        return None if self.exit_code is None else VERDICTS[self.exit_code]

    @property
    def elapsed_s(self) -> float:
        if self.duration_s is not None:
            return self.duration_s
        return time.monotonic() - self.started_s if self.state == RUNNING else 0.0

    def hear(self, line: str) -> None:
        """Take in a line that the script has printed."""
        is_more = bool(self.findings) and line.startswith(INDENT) and self.said in self.findings[-1]
        if (line.startswith(FINDINGS) or is_more) and len(self.findings) < MAX_FINDINGS:
            self.findings.append(line)
        if match := ENDING.fullmatch(line):
            self.counts = match[1]
        self.said = line

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "script": self.command.file,
            "command": self.line,
            "state": INTERRUPTED if self.state in (RUNNING, WAITING) else self.state,
            "why": self.why,
            "exit_code": None if self.exit_code is None else int(self.exit_code),
            "verdict": self.verdict,
            "started_at": self.started_at,
            "duration_s": None if self.duration_s is None else round(self.duration_s, 3),
            "results": self.results,
            "said": self.said or None,
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Take over what an interrupted run has done, if it was done to its end."""
        if saved.get("state") != DONE or saved.get("exit_code") not in set(Exit):
            return
        self.state, self.exit_code = DONE, Exit(saved["exit_code"])
        self.started_at, self.said = saved.get("started_at"), str(saved.get("said") or "")
        self.duration_s = float(saved.get("duration_s") or 0)
        self.results = [str(each) for each in saved.get("results") or ()]


class Display(Protocol):
    """What shows the run while it goes on."""

    def begin(self, steps: Sequence[StepState]) -> None: ...
    def started(self, step: StepState) -> None: ...
    def heard(self, step: StepState, line: str) -> None: ...
    def tick(self) -> None: ...
    def ended(self, step: StepState) -> None: ...
    def waiting(self, step: StepState) -> None: ...
    def end(self) -> None: ...


@dataclass
class Course:
    """One run. `about`: what run.json says besides. Nothing of a credential is in any of it.

    `clean` makes a line of a script fit to be shown; the scripts have done so themselves.
    """

    folder: RunFolder
    steps: list[StepState]
    about: dict[str, Any]
    display: Display
    clean: Callable[[str], str]
    current: RunningScript | None = None
    report_code: Exit | None = None
    ended_at: str | None = None
    targets: dict[str, Any] = field(default_factory=lambda: {"model": None, "server": None})
    closed: dict[str | None, str] = field(default_factory=dict)  # URLs that let nobody in, and why

    def run(self) -> None:
        """Run what is left to run. A step that fails does not keep the others from running."""
        self.save()
        self.display.begin(self.steps)
        for step in self.steps:
            if step.state != NOT_RUN:
                continue
            if (why := self.closed.get(step.command.access.url)) is not None:
                step.why = why
                continue
            self.run_step(step)
        self.display.end()

    def run_step(self, step: StepState) -> None:
        """Run it; once more when it has met a rate limit that is over soon."""
        self.run_once(step)
        wait_s = step.limit_wait_s
        if step.exit_code is Exit.UNDECIDED and wait_s is not None and wait_s <= MAX_LIMIT_WAIT_S:
            step.state, step.said = WAITING, f"waiting {wait_s:g} s for the rate limit"
            self.save()
            self.display.waiting(step)
            end_s = time.monotonic() + wait_s + SPARE_S
            while time.monotonic() < end_s:
                time.sleep(TICK_S)
                self.display.tick()
            self.run_once(step)

    def run_once(self, step: StepState) -> None:
        before = self.folder.documents()
        self.start(step)
        self.wait_for(step)  # Ctrl-C leaves it here: then `interrupt` does the rest
        step.results = self.folder.changed_since(before)
        self.finish(step)

    def start(self, step: StepState) -> None:
        words = step.command.words("--results", self.folder.path)
        step.started_at, step.started_s = utc_now(), time.monotonic()
        step.why, step.said, step.counts, step.findings = None, "", "", []
        step.exit_code = step.duration_s = step.limit_wait_s = None
        INTERRUPTION.postpone()  # a script that nobody knows of would run on
        try:
            environment = step.command.environment()
            self.current = RunningScript(words, environment, self.folder.kept_open)
            step.state = RUNNING
        finally:
            INTERRUPTION.resume()
        self.save()
        self.display.started(step)

    def wait_for(self, step: StepState) -> None:
        assert self.current
        while (lines := self.current.read(TICK_S)) is not None:
            self.hear(step, lines)
            self.display.tick()

    def hear(self, step: StepState, lines: Sequence[str]) -> None:
        for line in map(self.clean, lines):
            step.hear(line)
            self.display.heard(step, line)

    def finish(self, step: StepState) -> None:
        """The script has ended."""
        assert self.current
        step.exit_code, ending = self.current.exit_code, self.current.ending
        step.duration_s = time.monotonic() - step.started_s
        step.state = INTERRUPTED if step.exit_code.is_interruption else DONE
        step.said = step.counts or step.said
        self.read_heads(step)
        if ending:
            step.said = f"{ending}: {step.said}" if step.said else ending
        self.current.close()
        self.current = None
        self.save()
        self.display.ended(step)

    def read_heads(self, step: StepState) -> None:
        """What the result files say of the deployment, and why the script ended early."""
        for name in step.results:
            head = self.folder.head(name)
            target, error = head.get("target"), head.get("error")
            if isinstance(target, dict):
                for key in self.targets:
                    self.targets[key] = self.targets[key] or target.get(key)
            if isinstance(error, str):
                step.said = shorten(self.clean(error), 300)
            wait_s = head.get("rate_limit_wait_s")
            if isinstance(wait_s, (int, float)) and wait_s >= 0:
                step.limit_wait_s = max(step.limit_wait_s or 0.0, float(wait_s))
            if head.get("no_access") is True and step.exit_code is Exit.UNDECIDED:
                self.closed[step.command.access.url] = f"not tried: {step.said}"

    def interrupt(self, number: int) -> None:
        """Stop the script that runs, and keep what it has. Nothing more is run."""
        step = next((each for each in self.steps if each.state == RUNNING), None)
        if step and self.current:
            self.hear(step, self.current.stop(number))
            step.results = [name for name in self.folder.documents() if self.is_of(step, name)]
            self.finish(step)
            step.state = INTERRUPTED
        for each in self.steps:
            if each.state == WAITING:
                each.state = INTERRUPTED
            if each.state == NOT_RUN and each.why is None:
                each.why = "the run was interrupted before"

    def abandon(self) -> None:
        """Stop the script that runs, whatever it has said."""
        self.display.end()
        if self.current:
            self.current.stop(signal.SIGTERM)
            self.current.close()

    def is_of(self, step: StepState, name: str) -> bool:
        """Whether no other step has written this result file."""
        return not any(name in each.results for each in self.steps if each is not step)

    # what it comes to

    @property
    def exit_code(self) -> Exit:
        """The worst of all. A failure that the report passes does not count: it knows the limits
        of the queue that a level of the benchmark only ran into."""
        codes = [each.exit_code for each in self.steps if each.exit_code is not None]
        if self.report_code is Exit.OK:
            codes = [each for each in codes if each is not Exit.FAIL]
        if any(each.state in (NOT_RUN, INTERRUPTED) for each in self.steps):
            codes.append(Exit.UNDECIDED)
        if self.report_code is not None:
            codes.append(self.report_code)
        return worst(codes)

    def end(self, code: Exit = Exit.OK) -> None:
        """The run is over, with this code of an interruption."""
        self.ended_at = utc_now()
        self.save(worst([self.exit_code, code]))

    def save(self, code: Exit | None = None) -> None:
        self.folder.save(self.as_dict(code))

    def as_dict(self, code: Exit | None = None) -> dict[str, Any]:
        """run.json. Until the run has ended, there is no verdict."""
        ended: dict[str, Any] = {"ended_at": self.ended_at, "verdict": None, "exit_code": None}
        if self.ended_at is not None:
            code = self.exit_code if code is None else code
            ended |= {"verdict": VERDICTS[code], "exit_code": int(code)}
        return {**self.about, **self.targets, **ended, "steps": [e.as_dict() for e in self.steps]}


def utc_now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
