"""Child processes that announce where they listen and never outlive their parent.

The protocol between parent and child is small and works on every system:

* When the child is ready to serve, it prints one line, ``listening http://127.0.0.1:PORT``.
* The parent keeps the child's standard input open. When it ends, the child exits at once. This
  also works after ``kill -9`` of the parent, because the kernel closes the pipe then.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO

ANNOUNCEMENT = "listening "
STOP_GRACE_S = 3.0  # from SIGTERM to SIGKILL

ROOT = Path(__file__).resolve().parent.parent


class StartError(Exception):
    """The deployment or a part of it cannot start. The text is one line for the operator."""


# --- in the parent


def child_environment() -> dict[str, str]:
    """This process's environment, and the package can be imported from any working directory."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


class Child:
    """One running child process and the base URL that it announced."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: IO[bytes]) -> None:
        self.name = name
        self.url = ""
        self._process = process
        self._log = log

    @classmethod
    async def start(cls, name: str, module: str, arguments: list[str], timeout_s: float) -> Child:
        """Run ``python -m module`` and wait until it listens. Raises StartError if it does not."""
        log = tempfile.TemporaryFile()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            env=child_environment(),
            # Ctrl-C in a terminal reaches all processes of a session. Only the parent may react to
            # it: it decides what ends and in which order.
            start_new_session=True,
        )
        child = cls(name, process, log)
        try:
            child.url = await asyncio.wait_for(child._announcement(), timeout_s)
        except asyncio.TimeoutError:
            await child.stop()
            raise StartError(f"{name} was not ready after {timeout_s:g} s") from None
        except BaseException:
            await child.stop()
            raise
        return child

    async def _announcement(self) -> str:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            text = line.decode("utf-8", "replace").strip()
            if text.startswith(ANNOUNCEMENT):
                return text[len(ANNOUNCEMENT) :]
        code = await self._process.wait()
        raise StartError(
            f"{self.name} did not start: {self._last_log_line() or f'exit code {code}'}"
        )

    def _last_log_line(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode("utf-8", "replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, line: str) -> None:
        """Write a line to the child's standard input, for a child that reads it."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")

    def kill(self) -> None:
        """End it at once, as a machine that loses its power does. `stop` is still needed."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def stop(self) -> None:
        """Ask the process to end and wait for it. It is killed when it does not end in time."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_GRACE_S)
        except asyncio.TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        self._log.close()


# --- in the child


def end_with_parent() -> None:
    """Exit as soon as standard input ends, whatever this process is doing then. Does not block."""

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        os._exit(0)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()


def announce(url: str) -> None:
    """Tell the parent where this process listens. What is printed later goes to the log."""
    print(f"{ANNOUNCEMENT}{url}", flush=True)
    # Nobody reads standard output from now on. A library that prints much would fill the pipe and
    # then block.
    os.dup2(2, 1)


def raise_descriptor_limit() -> None:
    """Allow as many open sockets as the hard limit does. Does nothing where limits do not exist."""
    try:
        import resource
    except ImportError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
