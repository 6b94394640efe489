"""A Python that has imported everything already, for tests that start very many processes.

with warm_python(folder, ["benchmark", "reference.gateway"]) as python:
    subprocess.run([python, "benchmark.py", "--help"])

`python` is used like `sys.executable`. A process started with it takes a tenth of the CPU time,
because it is forked from one that has imported these modules (server.py). It has the arguments,
folder, environment, standard streams, signals and exit code that were meant for it. A process that
it starts with its own `sys.executable` is forked as well.

This works on Linux. Elsewhere `python` is `sys.executable` itself.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent


@contextlib.contextmanager
def warm_python(folder: Path, modules: Sequence[str]) -> Iterator[str]:
    """The executable, for as long as the block runs; `folder` keeps it and a socket."""
    if sys.platform != "linux" or not hasattr(os, "pidfd_open"):
        yield sys.executable
        return
    # -I -S: the launcher needs nothing but the interpreter, and this way it starts in 10 ms.
    launcher = folder / "python"
    launcher.write_text(f"#!{sys.executable} -IS\n{(HERE / 'launcher.py').read_text()}")
    launcher.chmod(0o755)
    command = [sys.executable, HERE / "server.py", launcher, ROOT, *modules]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as server:
        assert server.stdin is not None and server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        yield str(launcher)
        server.stdin.close()  # this ends the server and all that it has forked
