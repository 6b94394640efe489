"""What a run shows: the result on stdout, everything else on stderr, and never a credential."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TextIO

from livecheck.core.checks import Check, Status
from livecheck.core.cleaning import MAX_LINE, clean_line

COLOURS = {Status.PASS: 32, Status.FAIL: 31, Status.WARN: 33, Status.SKIP: 36}
WIDTH = 80
REDRAW_S = 0.2  # between two drawings of a bar: each takes up to a millisecond
# Characters that a run shows at most, of its result and of its notes each: no server makes more.
# What comes after them is left out on the screen and in the log. Result files have all of it.
MAX_SHOWN = 400_000


class Relay(Protocol):
    """Where the notes and steps of a process go that measures for another one."""

    def note(self, text: str) -> None: ...

    def step(self) -> None: ...


class Screen:
    """Lines for a terminal, a pipe or a log; `lines` remembers them.

    Each line passes `clean_line` (core/cleaning.py) here, so that no caller can forget it: what
    they give is one line, whatever a server has written into it. With `output` json the result's
    own lines are remembered only: stdout is the document's.
    """

    def __init__(self, redact: Callable[[str], str], output: str, verbose: bool, debug: bool):
        self.lines: list[str] = []
        self.stdout_problem: OSError | None = None  # why stdout could not be written to
        self.is_ending = False  # whether all was measured
        self.relay: Relay | None = None  # shows nothing itself
        self._redact, self._output = redact, output
        self._verbose, self._debug = verbose or debug, debug
        self._left = {"result": MAX_SHOWN, "notes": MAX_SHOWN}

    def clean(self, text: str) -> str:
        """The text as one line that may be shown."""
        return clean_line(text, self._redact)

    def say(self, text: str = "") -> None:
        """A line of the result."""
        self._say(self.clean(text))

    def say_check(self, check: Check) -> None:
        word = check.status.value
        text = f"{word}  {self.clean(check.name)}: {self.clean(check.detail)}"
        text = textwrap.fill(text, WIDTH, subsequent_indent=" " * 6, break_on_hyphens=False)
        is_coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        colour = f"\033[{COLOURS[check.status]}m{word}\033[0m" if is_coloured else word
        self._say(text, colour + text[len(word) :])

    def show(self, lines: Iterable[str], checks: Iterable[Check]) -> None:
        """The result: what was seen, then the checks."""
        for line in lines:
            self.say(line)
        self.say()
        for check in checks:
            self.say_check(check)
        self.say()

    def note(self, text: str) -> None:
        """A line about the run: progress, warnings, errors."""
        self._note(self.clean(text))

    def note_wrapped(self, text: str) -> None:
        """A note that may be longer than a line of the terminal."""
        text = self.clean(text)
        self._note(textwrap.fill(text, WIDTH, subsequent_indent="    ", break_on_hyphens=False))

    def note_always(self, text: str) -> None:
        """A note about the end of the run, which is shown whatever was shown before."""
        self._left["notes"] = max(self._left["notes"], MAX_LINE + 1)
        self.note(text)

    def say_always(self, text: str) -> None:
        """The same for a line of the result."""
        self._left["result"] = max(self._left["result"], MAX_LINE + 1)
        self.say(text)

    def verbose(self, text: str) -> None:
        if self._verbose:
            self.note(text)

    def debug(self, text: str) -> None:
        if self._debug:
            self.note(text)

    def write_out(self, text: str) -> None:
        """Write on stdout. When that fails, it is said once, and the run goes on without.

        A reader who closes the pipe at the end, as `head` does, has seen enough.
        """
        try:
            write_out(text)
        except OSError as error:
            if self.is_ending and isinstance(error, BrokenPipeError):
                return
            self.stdout_problem = error
            self.note_always(f"cannot write to standard output: {error.strerror}")

    def _say(self, text: str, coloured: str | None = None) -> None:
        if self.relay:
            self.relay.note(text)
        elif self._is_left("result", text):
            self.lines.append(text)
            if self._output == "text":
                self.write_out((coloured or text) + "\n")

    def _note(self, text: str) -> None:
        if self.relay:
            self.relay.note(text)
        elif self._is_left("notes", text):
            self.lines.append(text)
            write_error(text + "\n")

    def _is_left(self, kind: str, text: str) -> bool:
        """Whether there is room for this text; when it ends, that is said."""
        if self._left[kind] <= 0:
            return False
        self._left[kind] -= len(text) + 1
        if self._left[kind] <= 0:
            line = f"more than {MAX_SHOWN // 1000} KB: what follows is not shown"
            self.lines.append(line)
            write_error(line + "\n")
            return False
        return True

    @contextlib.contextmanager
    def progress(self, label: str, total: int | None) -> Iterator[Callable[[], object]]:
        """A bar on a terminal, one line elsewhere. Call what it yields after each step."""
        label = self.clean(label)
        if self.relay:
            yield self.relay.step
            return
        if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
            self._note(label)
            yield lambda: None
            return
        with progress_bar(label, total) as step:
            yield step


@contextlib.contextmanager
def progress_bar(label: str, total: int | None) -> Iterator[Callable[[], None]]:
    """A bar on the terminal of stderr, which disappears at its end; what is written on stderr
    meanwhile stands above it. It is drawn by the steps themselves: a thread that draws would take
    the processor away from what is measured."""
    from rich.console import Console  # here: a run without a terminal does not need it
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    class SteadyConsole(Console):
        def show_cursor(self, show: bool = True) -> bool:
            return False  # a hidden cursor would stay hidden if the run is killed

    # a label may have the words of a server in it: they are no markup
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    options: dict[str, Any] = {"auto_refresh": False, "redirect_stdout": False, "transient": True}
    bar = Progress(*columns, TimeElapsedColumn(), console=SteadyConsole(stderr=True), **options)
    drawn_s = time.monotonic()

    def step() -> None:
        nonlocal drawn_s
        bar.advance(task)
        if time.monotonic() >= drawn_s + REDRAW_S:
            bar.refresh()
            drawn_s = time.monotonic()

    with bar:
        task = bar.add_task(label, total=total)
        bar.refresh()
        yield step


def open_streams(output: str) -> None:
    """Both exist, and take any character: a server's words must not end the run."""
    sys.stdout = sys.stdout or open(os.devnull, "w")
    sys.stderr = sys.stderr or open(os.devnull, "w")
    if isinstance(sys.stdout, io.TextIOWrapper):
        encoding = "utf-8" if output == "json" else None  # RFC 8259, section 8.1
        sys.stdout.reconfigure(encoding=encoding, errors="backslashreplace")


def write_out(text: str) -> None:
    """On stdout, at once. Raises OSError once; then what is written goes nowhere."""
    try:
        print(text, end="", flush=True)
    except OSError:
        discard(sys.stdout)
        raise


def write_error(text: str) -> None:
    """On stderr, at once; when nobody reads it, that is no reason to lose the results."""
    try:
        print(text, end="", file=sys.stderr, flush=True)
    except (OSError, ValueError):
        discard(sys.stderr)


def discard(stream: TextIO) -> None:
    """What is written from now on, and what waits in the buffer, goes nowhere."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
