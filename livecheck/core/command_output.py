"""Runs a command of the operator's, and keeps a bounded amount of what it prints.

A command may hang, print without end, or leave a child behind that holds its output open. None of
that costs more than the time and the memory that the caller allows; whatever the command has
started is ended with it, unless it is to stay.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import time
from collections.abc import Mapping, Sequence
from subprocess import DEVNULL, PIPE, Popen, TimeoutExpired
from typing import NamedTuple

MOST_PRINTED = 64 << 10  # bytes; neither a token nor a number is that long
MOST_ERRORS = 1 << 20  # bytes on stderr, of which only the end is kept: more is a flood
ENDED_S = 0.05  # how often to look whether the command has ended while its output is open


class NoOutput(Exception):
    """The command gave nothing that can be used. The text is a predicate: "printed nothing …"."""


class Printed(NamedTuple):
    """What a command printed until it ended; of stderr only the end. `code` as in subprocess: a
    negative one is that of a signal."""

    out: str
    err: str
    code: int

    @property
    def last_words(self) -> str:
        """The last line on stderr, as it came: not for people before it is shortened."""
        return (self.err.strip().splitlines() or ["nothing on stderr"])[-1]


class Command:
    """A command that can be run again and again; a text is for the shell.

    `timeout_s`: how long one run may take. `environment`: variables beside those of this program.
    `leaves_running`: what the command has started is not ended with it, unless it takes too long.
    """

    def __init__(
        self,
        command: Sequence[str] | str,
        timeout_s: float,
        environment: Mapping[str, str] | None = None,
        leaves_running: bool = False,
    ):
        self._leaves_running = leaves_running
        self._command, self._timeout_s = command, timeout_s
        self._environment = {**os.environ, **(environment or {})}
        self._process: Popen[bytes] | None = None

    def run(self) -> Printed:
        """Run it to its end. Raises NoOutput, and OSError or ValueError (a NUL in the command)
        when it cannot be started. No text of these has anything that was printed."""
        self._process = process = Popen(
            self._command,
            shell=isinstance(self._command, str),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            env=self._environment,
            start_new_session=True,  # so that whatever it starts can be ended with it
        )
        try:
            printed = read_printed(process, self._timeout_s)
            if self._leaves_running:
                self._process = None
            return printed
        finally:
            self.abandon()
            process.wait()
            self._process = None

    def abandon(self) -> None:
        """End a run that is in progress in another thread, and what the command has started."""
        if process := self._process:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)


def read_printed(process: Popen[bytes], timeout_s: float) -> Printed:
    """What the process prints until it ends. Raises NoOutput when that takes too long, or when it
    is more than MOST_PRINTED on standard output or MOST_ERRORS on stderr."""
    assert process.stdout and process.stderr
    printed = {process.stdout: bytearray(), process.stderr: bytearray()}
    errors = 0  # bytes on stderr
    end_s, code = time.monotonic() + timeout_s, None
    with selectors.DefaultSelector() as selector, process.stdout, process.stderr:
        for pipe in printed:
            selector.register(pipe, selectors.EVENT_READ, pipe)
        while selector.get_map():
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                raise NoOutput(f"did not end within {timeout_s:g} s")
            ready = selector.select(min(left_s, ENDED_S))
            if not ready and code is not None:
                break  # a child still holds the output open, and the command itself has ended
            for key, _ in ready:
                data = os.read(key.fd, MOST_PRINTED)
                kept = printed[key.data]
                kept += data
                del kept[: -MOST_PRINTED - 1]
                errors += len(data) if key.data is process.stderr else 0
                if not data:
                    selector.unregister(key.fileobj)
            if len(printed[process.stdout]) > MOST_PRINTED:
                raise NoOutput(f"printed more than {MOST_PRINTED >> 10} KB")
            if errors > MOST_ERRORS:
                raise NoOutput(f"printed more than {MOST_ERRORS >> 20} MB on stderr")
            code = process.poll()
    try:
        code = process.wait(max(0.0, end_s - time.monotonic()))
    except TimeoutExpired:
        raise NoOutput(f"did not end within {timeout_s:g} s") from None
    out, err = (bytes(data).decode(errors="replace") for data in printed.values())
    return Printed(out, err, code)
