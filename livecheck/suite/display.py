"""What run_all.py shows while it runs: a table on a terminal, lines everywhere else."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import IO, Any, TextIO, cast

from livecheck.core.plan import in_words
from livecheck.core.screen import Screen, discard
from livecheck.suite.course import RUNNING, WAITING, StepState
from livecheck.suite.run_folder import DONE, INTERRUPTED, NOT_RUN, SKIPPED

COLOURS = {"pass": "green", "fail": "red", "undecided": "yellow", "interrupted": "yellow"}
NAME_WIDTH = 18


class Lines:
    """A line when a step begins, with its command, and its result when it has ended."""

    def __init__(self, screen: Screen):
        self.screen = screen
        self.steps: Sequence[StepState] = ()

    def begin(self, steps: Sequence[StepState]) -> None:
        self.steps = steps
        for each in steps:
            if each.state == DONE:
                say_result(self.screen, each)

    def started(self, step: StepState) -> None:
        wanted = [each for each in self.steps if each.state != SKIPPED]
        about = f", about {in_words(step.estimate.typical_s)}" if step.estimate else ""
        self.screen.note(f"[{wanted.index(step) + 1}/{len(wanted)}] {step.name}{about}")
        self.screen.note(f"$ {step.line}")

    def heard(self, step: StepState, line: str) -> None:
        self.screen.verbose(line)

    def tick(self) -> None:
        pass

    def waiting(self, step: StepState) -> None:
        self.screen.note(f"{step.name} is run again: {step.said}")

    def ended(self, step: StepState) -> None:
        say_result(self.screen, step)

    def end(self) -> None:
        pass


class Terminal:
    """The stream that rich draws on. It may be gone, which is no reason to leave a run without its
    report."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, action: Callable[[], object]) -> None:
        try:
            action()
        except (OSError, ValueError):
            discard(self._stream)


class Table:
    """A line for each script, on stderr, which is brought up to date; the results stay on stdout.

    ModuleNotFoundError without rich.
    """

    def __init__(self, screen: Screen):
        from rich.console import Console
        from rich.live import Live

        self.screen = screen
        self.steps: Sequence[StepState] = ()
        self.console = Console(
            file=cast("IO[str]", Terminal(sys.stderr)), no_color=bool(os.environ.get("NO_COLOR"))
        )
        self.live = Live(
            console=self.console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),
            vertical_overflow="ellipsis",
        )

    def begin(self, steps: Sequence[StepState]) -> None:
        self.steps = steps
        self.live.start()
        self.tick()

    def started(self, step: StepState) -> None:
        self.tick()

    def heard(self, step: StepState, line: str) -> None:
        self.screen.verbose(line)

    def tick(self) -> None:
        self.live.update(self.table(), refresh=True)

    def ended(self, step: StepState) -> None:
        self.tick()

    def waiting(self, step: StepState) -> None:
        self.tick()

    def end(self) -> None:
        """The table goes, and what was found stays. Does no harm when called again."""
        if not self.live.is_started:
            return
        self.live.stop()
        for each in self.steps:
            if each.exit_code is not None:
                self.screen.note(f"$ {each.line}")
                say_result(self.screen, each)

    def table(self) -> Any:
        from rich.console import Group
        from rich.table import Table as Rows
        from rich.text import Text

        rows = Rows(box=None, pad_edge=False, show_header=False, expand=True)
        for width in (11, NAME_WIDTH, 17):
            rows.add_column(no_wrap=True, width=width)
        rows.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        running = [each for each in self.steps if each.state == RUNNING]
        for each in self.steps:
            style = COLOURS.get(each.verdict or "", "bold" if each.state == RUNNING else "dim")
            cells = (word_of(each), each.name, time_of(each), evidence_of(each))
            rows.add_row(*(Text(cell, style=style) for cell in cells[:1]), *map(Text, cells[1:]))
        # below the table, in full: it can be copied
        commands = (Text(f"$ {each.line}", style="dim", overflow="fold") for each in running)
        return Group(rows, Text(), *commands)


def display_for(screen: Screen, is_terminal: bool) -> Lines | Table:
    """The table on a terminal, if rich is installed and nothing else is shown line by line."""
    if is_terminal:
        try:
            return Table(screen)
        except ModuleNotFoundError:
            pass
    return Lines(screen)


# --- the words


def word_of(step: StepState) -> str:
    if step.state == NOT_RUN and step.why is None:
        return "to come"
    if step.verdict is None or step.state == WAITING:
        return step.state
    return step.verdict.upper()


def time_of(step: StepState) -> str:
    """Elapsed and expected."""
    expected = f"about {in_words(step.estimate.typical_s)}" if step.estimate else ""
    if step.state == RUNNING:
        return f"{in_words(step.elapsed_s)} of {expected}" if expected else in_words(step.elapsed_s)
    if step.duration_s is not None:
        return in_words(step.duration_s)
    return "" if step.state == SKIPPED else expected


def evidence_of(step: StepState) -> str:
    if step.state in (RUNNING, WAITING):
        return step.said.strip()
    if step.exit_code is not None:
        return next((each for each in step.findings if each.startswith("FAIL")), step.said)
    return step.why or ""


def say_result(screen: Screen, step: StepState) -> None:
    """The line that stays of a step, and below it what failed and what was warned of."""
    took = in_words(step.duration_s or 0.0)
    screen.say(f"{word_of(step):11} {step.name:{NAME_WIDTH}} {took:>7}  {step.said}".rstrip())
    for each in step.findings:
        screen.say(f"    {each}")
    if step.state == INTERRUPTED and not step.results:
        screen.note(f"    {step.name} had nothing to save")
