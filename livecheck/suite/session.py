"""One invocation of run_all.py: a run, or several repeats of it, and what they come to."""

from __future__ import annotations

from livecheck.core.interruption import INTERRUPTION

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from livecheck.core.checks import Exit, worst
from livecheck.core.screen import Screen
from livecheck.core.text import plural
from livecheck.suite import reporting
from livecheck.suite.commands import Command
from livecheck.suite.course import Course, Display, StepState, utc_now
from livecheck.suite.estimates import Estimate
from livecheck.suite.run_folder import (
    DONE,
    SKIPPED,
    NothingToResume,
    RunFolder,
    SavedRun,
    baseline_of,
    folder_name,
    interrupted_run,
    point_latest,
    runs_in,
)

RELEASE_S = 10.0  # how long a resumed run waits for a script that the killed one has left
WORDS = {Exit.OK: "GO", Exit.FAIL: "NO-GO"}
NOT_DECIDED = "NOT DECIDED"


class StillRunning(Exception):
    """Why a run cannot be resumed now."""


@dataclass(frozen=True)
class Wanted:
    """What is to be run. `left_out`: the reason for each step that is not.

    title: None without one. baseline: None when it is to be found. report: options of report.py.
    """

    profile: str
    title: str | None
    commands: Sequence[Command]
    estimates: Sequence[Estimate | None]
    left_out: Mapping[str, str]
    results: Path
    repeats: int
    cooldown_s: float
    baseline: Sequence[Path] | None
    thresholds: Mapping[str, Any]
    report: Mapping[str, Any]

    @property
    def running(self) -> list[Command]:
        return [each for each in self.commands if each.step.name not in self.left_out]

    @property
    def deployment(self) -> dict[str, str]:
        """What a run is of, for each profile: the operator's name for it, else its URLs."""
        found: dict[str, dict[str, None]] = {}
        for each in self.running:
            name = each.access.name or each.access.url or ""
            found.setdefault(each.step.profile, {})[name] = None
        return {profile: " ".join(names) for profile, names in found.items()}

    @property
    def settings(self) -> dict[str, Any]:
        """What makes two runs comparable: the steps, and the options that say what is measured."""
        steps = {each.step.name: each.settings() for each in self.running}
        return {"profile": self.profile, "steps": steps}

    @property
    def name(self) -> str:
        """For the folder: the title, else the deployment."""
        found = next(iter(self.deployment.values()), "")
        return self.title or found.partition("://")[2] or found


@dataclass
class Session:
    """The runs of one invocation. `display` makes one for each run."""

    wanted: Wanted
    screen: Screen
    display: Any
    courses: list[Course] = field(default_factory=list)
    reports: list[reporting.Reported] = field(default_factory=list)
    started_at: str = field(default_factory=utc_now)
    first: int = 1  # the repeat to begin with
    repeats: int = 1
    resumed: SavedRun | None = None
    baseline: list[Path] = field(default_factory=list)

    def prepare(self, resume: bool) -> None:
        """Find the run to resume, and the baseline. Raises NothingToResume, StillRunning."""
        wanted = self.wanted
        runs = runs_in(wanted.results)
        self.repeats = wanted.repeats
        if resume:
            self.resumed = interrupted_run(runs, wanted.deployment, wanted.settings)
            self.take_over(self.resumed.content)
        if wanted.baseline is not None:
            self.baseline = list(wanted.baseline)
            return
        found = baseline_of(runs, wanted.deployment, wanted.settings, self.started_at)
        self.baseline = [each.path for each in found]

    def take_over(self, content: Mapping[str, Any]) -> None:
        """The session of the interrupted run goes on."""
        self.started_at = str(content.get("session"))
        first, repeats = content.get("repeat"), content.get("repeats")
        if not isinstance(first, int) or not isinstance(repeats, int):
            raise NothingToResume("the run.json of the interrupted run is damaged")
        self.first, self.repeats = first, repeats

    # the runs

    def run(self) -> None:
        """All of it, until a signal comes."""
        for number in range(self.first, self.repeats + 1):
            course = self.open(number)
            self.courses.append(course)
            course.run()
            self.close(course)
            if course.closed:
                return  # nothing answers, or nobody is let in: neither would it in a repeat
            if number < self.repeats and self.wanted.cooldown_s:
                self.screen.note(f"waiting {self.wanted.cooldown_s:g} s before the next repeat")
                time.sleep(self.wanted.cooldown_s)

    def open(self, number: int) -> Course:
        saved = self.resumed if number == self.first else None
        steps = self.make_steps()
        INTERRUPTION.postpone()
        try:
            folder = self.take_folder(saved) if saved else self.make_folder()
        finally:
            INTERRUPTION.resume()
        if saved:
            by_name = {each.get("name"): each for each in saved.content["steps"]}
            for step in steps:
                step.restore(by_name.get(step.name, {}))
            self.screen.note(f"resuming {folder.path}: {plural(done(steps), 'step')} done already")
        about = self.about(number, saved)
        display: Display = self.display()
        return Course(folder, steps, about, display, self.screen.clean)

    def make_steps(self) -> list[StepState]:
        wanted, estimates = self.wanted, iter(self.wanted.estimates)
        steps = []
        for each in wanted.commands:
            why = wanted.left_out.get(each.step.name)
            if why is None:
                steps.append(StepState(each, next(estimates), each.shown()))
            elif why:
                steps.append(StepState(each, None, each.shown(), SKIPPED, why))
        return steps

    def make_folder(self) -> RunFolder:
        now = datetime.now(timezone.utc)
        folder = RunFolder.create(self.wanted.results, folder_name(now, self.wanted.name))
        point_latest(self.wanted.results, folder.path)
        return folder

    def take_folder(self, saved: SavedRun) -> RunFolder:
        folder, last = RunFolder(saved.path), time.monotonic() + RELEASE_S
        while not folder.take():
            if time.monotonic() > last:
                raise StillRunning(
                    f"a script of the interrupted run still runs, and writes to {saved.path}: "
                    "wait for its end, or end it"
                )
            time.sleep(0.2)
        point_latest(self.wanted.results, folder.path)
        return folder

    def about(self, number: int, saved: SavedRun | None) -> dict[str, Any]:
        wanted = self.wanted
        urls = dict.fromkeys(each.access.url for each in wanted.running)
        return {
            "title": wanted.title,
            "profile": wanted.profile,
            "session": self.started_at,
            "repeat": number,
            "repeats": self.repeats,
            "started_at": saved.content.get("started_at") if saved else utc_now(),
            "resumed": saved is not None,
            "url": next(iter(urls), None),
            "deployment": wanted.deployment,
            "settings": wanted.settings,
            "baseline": [str(each) for each in self.baseline],
        }

    def close(self, course: Course, code: Exit = Exit.OK) -> None:
        """Let report.py judge the run, whatever there is of it, and save the verdict."""
        course.display.end()
        options = dict(self.wanted.report)
        if self.wanted.title:
            options["title"] = self.wanted.title
        found = reporting.Reported(Exit.UNDECIDED)
        if any(each.results for each in course.steps):
            course.save()  # the report reads run.json, too; there is no verdict before its own
            # the guide's few requests seldom show a small difference: nobody has asked for it
            allow_unclear = self.wanted.baseline is None
            found = reporting.report(
                course.folder.path,
                course.steps,
                self.wanted.thresholds,
                options,
                self.baseline,
                allow_unclear,
            )
        self.reports.append(found)
        course.report_code = found.code
        course.end(code)
        course.folder.release()

    def interrupt(self, code: Exit) -> None:
        """After a signal: the script that runs is stopped, and what there is gets its report."""
        if not self.courses or len(self.reports) == len(self.courses):
            return  # between two runs
        course = self.courses[-1]
        course.interrupt(int(code) - 128)
        self.close(course, code)

    def abandon(self) -> None:
        """After an error of this program: the script that runs is stopped, so that it does not go
        on loading the deployment."""
        if self.courses:
            self.courses[-1].abandon()

    @property
    def exit_code(self) -> Exit:
        return worst([each.exit_code for each in self.courses] or [Exit.UNDECIDED])

    # the end

    def show(self, code: Exit) -> None:
        """The report, and the last lines: go or no-go, and where the page is."""
        say = self.screen.say
        for course, found in zip(self.courses, self.reports, strict=False):
            say()
            lines = found.lines if self.repeats == 1 else [found.gate or "[GATE] no report"]
            for line in lines:
                say(line)
            for problem in found.problems:
                self.screen.note_always(problem)
            for step in course.steps:
                if step.why:
                    self.screen.note_always(f"{step.state}: {step.name}: {step.why}")
        if not self.courses:
            return
        say()
        self.screen.say_always(f"{WORDS.get(code, NOT_DECIDED)} (exit {int(code)}): {self.words()}")
        for course in self.courses:
            page = course.folder.path / reporting.PAGE
            is_there = page.exists()
            where = f"the page is {page}" if is_there else f"results are in {course.folder.path}"
            self.screen.say_always(where)

    def words(self) -> str:
        """How many scripts passed, and the first that did not."""
        steps = [e for course in self.courses for e in course.steps if e.state != SKIPPED]
        passed = [each for each in steps if each.state == DONE and each.exit_code is Exit.OK]
        text = f"{len(passed)} of {plural(len(steps), 'step')} passed"
        others = [each for each in steps if each not in passed]
        if others:
            names = [f"{e.name} ({e.verdict or e.state})" for e in others]
            text += f"; not {', '.join(names[:6])}{' and others' if len(names) > 6 else ''}"
        gates = [found.code for found in self.reports]
        if gates and worst(gates) is not Exit.OK and not others:
            text += f", but the report says {WORDS.get(worst(gates), NOT_DECIDED)}"
        if others and self.exit_code is Exit.OK:
            text += ", which the report does not judge: it says why"
        return text

    def as_dict(self) -> dict[str, Any]:
        found = [each.as_dict() for each in self.courses]
        return found[0] if len(found) == 1 else {"runs": found}


def done(steps: Sequence[StepState]) -> int:
    return sum(each.state == DONE for each in steps)
