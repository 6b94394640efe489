"""One script in a process of its own: what it prints, line by line, and how it ends."""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import IO

from livecheck.core.checks import Exit

MOST_READ = 64 << 10  # bytes at once, and of one line
HELD_OPEN_S = 0.3  # how long a child of the script may hold its output open after its end
PATIENCE_S = 30.0  # for the script to save what it has after a signal; it promises five seconds


class RunningScript:
    """A script that has been started. `keep_open`: a file that stays locked while it runs.

    It is in the process group of this program, so that Ctrl-C reaches it, too.
    """

    def __init__(
        self, words: Sequence[str], environment: Mapping[str, str], keep_open: Sequence[int] = ()
    ):
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            pass_fds=keep_open,
        )
        self._parts: dict[IO[bytes], bytes] = {}  # of each pipe: the line that has not ended
        self._selector = selectors.DefaultSelector()
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe
            self._parts[pipe] = b""
            self._selector.register(pipe, selectors.EVENT_READ)
        self._ended_s: float | None = None  # when it was seen to have ended

    def read(self, wait_s: float) -> list[str] | None:
        """The lines that came within this time; None when it has ended and all was read."""
        if self._is_over():
            return None
        lines: list[str] = []
        ready = self._selector.select(wait_s) if self._selector.get_map() else []
        if not ready and not self._selector.get_map():
            time.sleep(min(wait_s, 0.02))  # it has closed its output, and has not ended yet
        for key, _ in ready:
            pipe = key.fileobj
            assert not isinstance(pipe, int)
            lines += self._read_pipe(pipe)  # type: ignore[arg-type]
        return lines

    def _read_pipe(self, pipe: IO[bytes]) -> list[str]:
        data = os.read(pipe.fileno(), MOST_READ)
        if not data:
            self._selector.unregister(pipe)
            data = b"\n"
        *ended, rest = (self._parts[pipe] + data).split(b"\n")
        self._parts[pipe] = rest[-MOST_READ:]
        texts = (each.decode("utf-8", "replace").rstrip() for each in ended)
        return [text for text in texts if text]

    def _is_over(self) -> bool:
        if self._process.poll() is None:
            return False
        self._ended_s = self._ended_s or time.monotonic()
        is_late = time.monotonic() - self._ended_s > HELD_OPEN_S
        return is_late or not self._selector.get_map()

    @property
    def exit_code(self) -> Exit:
        """After its end. What no script ends with is "could not check"."""
        code = self._process.wait()
        return Exit(code) if code in set(Exit) else Exit.UNDECIDED

    @property
    def ending(self) -> str | None:
        """How it ended, when that is not one of the exit codes of a script."""
        code = self._process.wait()
        if code in set(Exit):
            return None
        return f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}"

    def signal(self, number: int) -> None:
        with contextlib.suppress(OSError):
            self._process.send_signal(number)

    def stop(self, number: int) -> list[str]:
        """Send it this signal, and wait for its end. Returns what it says meanwhile."""
        self.signal(number)
        last, said = time.monotonic() + PATIENCE_S, []
        while (lines := self.read(0.1)) is not None:
            said += lines
            if time.monotonic() > last:
                self._process.kill()
        return said

    def close(self) -> None:
        """After its end, or when nobody waits for it."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._selector.close()
        for pipe in self._parts:
            pipe.close()
