"""A command as a process of its own, and what it cost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, NamedTuple

# The peak of a process begins with that of the process that started it, which for a test is that of
# the test runner. So a small one lies in between.
LAUNCHER = """
import os, sys, time
begun_ns = time.monotonic_ns()
pid = os.fork()
if not pid:
    os.execv(sys.argv[2], sys.argv[2:])
_, status, used = os.wait4(pid, 0)
code, processor_s = os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime
with open(sys.argv[1], "w") as file:
    file.write(f"{code} {processor_s} {used.ru_maxrss} {begun_ns}")
"""
KB = 1 if sys.platform == "linux" else 1024  # what ru_maxrss counts, in a KB


class Cost(NamedTuple):
    """`code` is None when the command had to be killed. `begun_ns`: when it was started, on the
    clock of `time.monotonic_ns`."""

    code: int | None
    spent_s: float
    processor_s: float
    memory_mb: float
    begun_ns: int = 0


def run_measured(
    command: Sequence[object], out: IO[bytes], err: IO[bytes], limit_s: float, scratch: Path
) -> Cost:
    """Run it to its end, or kill it after `limit_s`. `scratch`: a folder for a file."""
    place = scratch / "cost"
    words = [sys.executable, "-ISc", LAUNCHER, place, *command]
    begun_s = time.monotonic()
    process = subprocess.Popen(
        list(map(str, words)),
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=err,
        start_new_session=True,
    )
    try:
        process.wait(limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return Cost(None, limit_s, 0.0, 0.0)
    code, processor_s, memory_kb, begun_ns = place.read_text().split()
    spent_s = time.monotonic() - begun_s
    memory_mb = float(memory_kb) / KB / 1024
    return Cost(int(code), spent_s, float(processor_s), memory_mb, int(begun_ns))
