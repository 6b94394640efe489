"""Runs one command against one hostile server, and measures what it cost.

The command is forked from a Python that has imported it already (helpers/warm_python), one such
Python for each script, so that the memory of a run is that of this script alone.
"""

from __future__ import annotations

import array
import contextlib
import itertools
import marshal
import os
import shlex
import signal
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.hostile_server import Behaviour, HostileServer
from helpers.scripts import ROOT
from helpers.warm_python import warm_python

from hostile.commands import SECRETS, TIMEOUT_S, TOKEN_BINARY, Command

ENVIRONMENT = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
# What a script imports when it needs it, and always does.
LATER = ("requests", "livecheck.wire.wire", "urllib3")
FOR_THE_SDK = ("openai", "openai.resources.chat", "openai.resources.embeddings")
MOST_OUTPUT = 1 << 20  # bytes of stdout and stderr that are kept


@dataclass
class Ended:
    """How a run ended. Times in s, memory in MB. `code` is None when it had to be killed.

    own_wait_s: Command.own_wait_s. gaps_s: the times between two requests, from the start of the
    run and to its end.
    """

    own_wait_s: float
    code: int | None
    out: bytes
    err: bytes
    files: Mapping[str, bytes]
    spent_s: float
    memory_mb: float
    gaps_s: Sequence[float] = ()
    requests: int = 0
    hits: int = 0
    was_led_away: bool = False
    calls: Sequence[Any] = ()


@dataclass
class Child:
    """What came back from a process: wait status and peak memory."""

    code: int | None
    memory_mb: float


class Pythons:
    """A warm Python for each script; `start` runs one command line in it."""

    def __init__(self, folder: Path):
        self._folder, self._stack, self._lock = folder, contextlib.ExitStack(), threading.Lock()
        self._known: dict[str, str] = {}

    def __enter__(self) -> Pythons:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def of(self, script: str) -> str:
        with self._lock:
            if script not in self._known:
                name = Path(script).stem
                place = self._folder / name
                place.mkdir()
                modules = [name, *LATER, *(FOR_THE_SDK if "sdk" in name else ())]
                self._known[script] = self._stack.enter_context(warm_python(place, modules))
            return self._known[script]

    def run(
        self,
        words: Sequence[str],
        folder: Path,
        streams: Sequence[int],
        environment: Mapping[str, str],
        limit_s: float,
        warm: str | None = None,
    ) -> Child:
        """Run to the end, or kill it after `limit_s`, in the Python for this script, or `warm`."""
        launcher = self.of(warm or Path(words[0]).name)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
            server.connect(f"{launcher}.socket")
            own = {name.encode(): text.encode() for name, text in environment.items()}
            start = marshal.dumps((list(words), str(folder), own))
            handed = array.array("i", streams)
            server.sendmsg([start], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, handed)])
            pid = int(server.recv(64))
            server.settimeout(limit_s)
            try:
                return read_end(server.recv(64))
            except TimeoutError:
                with contextlib.suppress(OSError):
                    os.killpg(pid, signal.SIGKILL)  # with what it has started
                server.settimeout(20)
                return Child(None, read_end(server.recv(64)).memory_mb)


def read_end(message: bytes) -> Child:
    code, memory_kb = message.split()
    return Child(int(code), int(memory_kb) / 1024)


def words_of(command: Command, server: HostileServer, folder: Path) -> list[str]:
    """Its command line; writes the token binary that it names."""
    binary = folder / "get-token"
    binary.write_text(TOKEN_BINARY)
    binary.chmod(0o755)
    given = command.options.format(url=server.url, workers=folder / "workers", binary=binary)
    fixed = ["--url", server.url, "--timeout", f"{TIMEOUT_S:g}", "--results", "results"]
    return [str(ROOT / command.script), *fixed, *shlex.split(given)]


@contextlib.contextmanager
def serving(
    command: Command, folder: Path, behaviour: Behaviour | None, tls: ssl.SSLContext | None = None
) -> Iterator[HostileServer]:
    """The command's deployment, with a behaviour."""
    with HostileServer(command.deploy(folder), behaviour, SECRETS, tls) as server:
        yield server


def run_against(
    command: Command,
    behaviour: Behaviour | None,
    pythons: Pythons,
    limit_s: float,
    more: Sequence[str] = (),
    tls: ssl.SSLContext | None = None,
) -> Ended:
    """Run the command against its deployment with this behaviour."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with serving(command, folder, behaviour, tls) as server:
            words = [*words_of(command, server, folder), *more]
            return run_words(words, folder, pythons, limit_s, server, command.own_wait_s)


def run_words(
    words: Sequence[str],
    folder: Path,
    pythons: Pythons,
    limit_s: float,
    server: HostileServer,
    own_wait_s: float = 0.0,
    stdout: int | None = None,
    warm: str | None = None,
) -> Ended:
    """Run this command line in the folder. `stdout`: a descriptor in place of a file. `warm`: the
    script whose Python runs it, when it is another one than the first word."""
    with (
        (folder / "out").open("wb") as out,
        (folder / "err").open("wb") as err,
        open(os.devnull) as null,
    ):
        streams = (null.fileno(), out.fileno() if stdout is None else stdout, err.fileno())
        began_s = time.monotonic()
        child = pythons.run(words, folder, streams, environment_of(folder), limit_s, warm)
        ended_s = time.monotonic()
    moments = [began_s, *sorted(server.began), ended_s]
    return Ended(
        own_wait_s,
        child.code,
        first_bytes(folder / "out"),
        first_bytes(folder / "err"),
        files_in(folder / "results"),
        ended_s - began_s,
        child.memory_mb,
        [late - early for early, late in itertools.pairwise(moments)],
        len(server.began),
        server.hits,
        server.was_led_away,
        server.calls,
    )


def environment_of(folder: Path) -> dict[str, str]:
    return {**ENVIRONMENT, "HOME": str(folder), "TMPDIR": str(folder)}


def first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MOST_OUTPUT)


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*")) if path.is_file()}
