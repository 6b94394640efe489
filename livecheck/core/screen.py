"""What a run shows: the result on stdout, everything else on stderr, and never a credential."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO

from livecheck.core.checks import Check, Status

COLOURS = {Status.PASS: 32, Status.FAIL: 31, Status.WARN: 33, Status.SKIP: 36}
WIDTH = 80


class Screen:
    """Lines for a terminal, a pipe or a log; `lines` remembers them. `redact` sees each first.

    With `output` json the result's own lines are remembered only: stdout is the document's.
    """

    def __init__(self, redact: Callable[[str], str], output: str, verbose: bool, debug: bool):
        self.lines: list[str] = []
        self._redact, self._output = redact, output
        self._verbose, self._debug = verbose or debug, debug

    def say(self, text: str = "") -> None:
        """A line of the result."""
        text = self._redact(text)
        self.lines.append(text)
        if self._output == "text":
            write_out(text + "\n")

    def say_check(self, check: Check) -> None:
        word = check.status.value
        text = f"{word}  {check.name}: {self._redact(check.detail)}"
        text = textwrap.fill(text, WIDTH, subsequent_indent=" " * 6, break_on_hyphens=False)
        self.lines.append(text)
        if self._output == "text":
            if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
                text = f"\033[{COLOURS[check.status]}m{word}\033[0m{text[len(word) :]}"
            write_out(text + "\n")

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
        text = self._redact(text)
        self.lines.append(text)
        try:
            print(text, file=sys.stderr, flush=True)
        except OSError:  # nobody reads it any more: no reason to lose the results
            discard(sys.stderr)

    def note_wrapped(self, text: str) -> None:
        """A note that may be longer than a line of the terminal."""
        text = self._redact(text)  # before it is cut: a part of a credential is not recognised
        self.note(textwrap.fill(text, WIDTH, subsequent_indent="    ", break_on_hyphens=False))

    def verbose(self, text: str) -> None:
        if self._verbose:
            self.note(text)

    def debug(self, text: str) -> None:
        if self._debug:
            self.note(text)

    @contextlib.contextmanager
    def progress(self, label: str, total: int | None) -> Iterator[Callable[[], object]]:
        """A bar on a terminal, one line elsewhere. Call what it yields after each step."""
        if not sys.stderr.isatty():
            self.note(label)
            yield lambda: None
            return
        from tqdm import tqdm

        with tqdm(total=total, desc=label, file=sys.stderr, leave=False) as bar:
            yield bar.update


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


def discard(stream: TextIO) -> None:
    """What is written from now on, and what waits in the buffer, goes nowhere."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
