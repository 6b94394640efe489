"""One trial of this program against the truth server, each in a process of its own.

Both run on loopback, without the operator's environment, folder and credentials: nothing of a trial
reaches the deployment, and nothing of the deployment's settings reaches a trial.
"""

from __future__ import annotations

from livecheck.core.interruption import INTERRUPTION

import contextlib
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CERTIFICATE = ROOT / "reference" / "loopback.pem"
BENCHMARK = ROOT / "benchmark.py"
# All of the environment that a trial is given: what Python and the system need to run.
KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "LD_LIBRARY_PATH")
TELL_S = 30.0  # until the truth is told
LOOK_S = 0.02
MOST_TOLD = 256 << 20  # bytes of what the truth server tells


class TrialError(Exception):
    """The trial gave no figures. The text says why, in one line."""


@dataclass(frozen=True)
class Trial:
    """What is sent, and at which pace the server answers."""

    concurrency: int
    requests: int
    tokens: int
    ttft_ms: float
    itl_ms: float
    tls: bool = False
    spread: str = "even"
    options: tuple[str, ...] = ()  # more options of benchmark.py
    timeout_s: float = 30.0  # of the client's process

    @property
    def command(self) -> list[str]:
        """The client's command line, but for the URL and the folder of its results."""
        concurrency = ("--concurrency", self.concurrency, "--requests", self.requests)
        more = ("--inference-only", "--max-tokens", self.tokens, "--timeout", self.timeout_s)
        trust = ("--no-verify-ssl",) if self.tls else ()
        words = (sys.executable, BENCHMARK, *concurrency, *more, *trust, *self.options)
        return [str(word) for word in words]


@dataclass(frozen=True)
class Outcome:
    """What the client reported and what was true. CPU time and memory are those of the client's
    whole process; None where the system does not tell."""

    document: dict[str, Any]
    truth: dict[str, Any]
    started_ns: int
    cpu_s: float | None
    peak_mb: float | None

    @property
    def to_first_request_s(self) -> float | None:
        """From the start of the process until its first request was received."""
        first_ns = self.truth["first_request_ns"]
        return None if first_ns is None else (first_ns - self.started_ns) / 1e9

    @property
    def events(self) -> int:
        """The tokens that the client received, those of the warm-up included."""
        return sum(len(note["sent_ns"]) for note in self.truth["requests"])


@contextlib.contextmanager
def truth_server(trial: Trial, folder: str, processors: set[int] | None = None) -> Iterator[str]:
    """Runs the truth server; gives its URL. Raises TrialError."""
    pace = ("--ttft-ms", trial.ttft_ms, "--itl-ms", trial.itl_ms, "--spread", trial.spread)
    tls = ("--cert", CERTIFICATE) if trial.tls else ()
    words = (sys.executable, "-m", "reference.truth", "--until-eof", *pace, *tls)
    command = [str(word) for word in words]
    with process(command, folder, processors, subprocess.PIPE, subprocess.PIPE) as server:
        yield announced_url(server)


def announced_url(server: subprocess.Popen[bytes]) -> str:
    """What the server prints when it listens; nothing when it cannot."""
    assert server.stdout
    words = server.stdout.readline().decode().split()
    if not words:
        raise TrialError("the truth server did not start: try python -m reference.truth")
    return words[-1]


def run(
    trial: Trial, server_on: set[int] | None = None, client_on: set[int] | None = None
) -> Outcome:
    """Start both, wait for the client's end, and ask for the truth. Raises TrialError.

    `server_on`, `client_on`: the processors that each may use; None: those of this process.
    """
    with (
        temporary_folder() as folder,
        truth_server(trial, folder, server_on) as url,
    ):
        started_ns = time.perf_counter_ns()
        command = [*trial.command, "--url", url, "--results", folder]
        with process(command, folder, client_on) as client:
            usage = wait(client, trial.timeout_s)
        saved = Path(folder) / f"inference_c{trial.concurrency}.json"
        try:
            document = json.loads(saved.read_text())
            truth = ask(f"{url}/truth")
        except (OSError, ValueError) as error:
            raise TrialError(f"the trial has left no figures ({type(error).__name__})") from None
    return Outcome(document, truth, started_ns, *usage)


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder that is gone behind a `with`. Raises TrialError."""
    try:
        return tempfile.TemporaryDirectory(prefix="self-check-", ignore_cleanup_errors=True)
    except OSError as error:
        raise TrialError(f"no temporary folder can be made ({error.strerror})") from None


@contextlib.contextmanager
def process(
    command: Sequence[str],
    folder: str,
    processors: set[int] | None = None,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
    stderr: int = subprocess.DEVNULL,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends, with all that it has started, when the block does."""
    INTERRUPTION.postpone()  # until it is sure to be ended
    try:
        started = subprocess.Popen(
            command,
            cwd=folder,
            env=environment(),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            # Ctrl-C in a terminal reaches a session: it is this process that ends the others
            start_new_session=True,
        )
    except OSError as error:
        INTERRUPTION.resume()
        raise TrialError(f"cannot start {command[0]}: {error.strerror}") from None
    try:
        INTERRUPTION.resume()
        if processors:
            with contextlib.suppress(OSError, AttributeError):
                os.sched_setaffinity(started.pid, processors)
        yield started
    finally:
        end(started)


def end(started: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError, AttributeError):
        os.killpg(started.pid, signal.SIGKILL)
    started.kill()
    for pipe in (started.stdin, started.stdout):
        if pipe:
            pipe.close()
    started.wait()


def environment() -> dict[str, str]:
    """What a trial knows of the operator's environment: no setting, credential or proxy."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), "no_proxy": "*"}


def wait(client: subprocess.Popen[bytes], timeout_s: float) -> tuple[float | None, float | None]:
    """Wait for the end of the client: its CPU time in s and its peak of memory in MB."""
    end_s, peak_mb = time.monotonic() + timeout_s, None
    while time.monotonic() < end_s:
        peak_mb = peak_of(client.pid) or peak_mb
        if not hasattr(os, "wait4"):
            if client.poll() is not None:
                return None, None
        else:
            pid, status, usage = os.wait4(client.pid, os.WNOHANG)
            if pid:
                client.returncode = os.waitstatus_to_exitcode(status)
                unit = 2**20 if sys.platform == "darwin" else 2**10  # of ru_maxrss
                return usage.ru_utime + usage.ru_stime, peak_mb or usage.ru_maxrss / unit
        time.sleep(LOOK_S)
    raise TrialError(f"the client did not end within {timeout_s:g} s")


def peak_of(pid: int) -> float | None:
    """The peak of memory of a running process in MB, where there is a /proc. On Linux `ru_maxrss`
    also counts what this process had when it started the other one."""
    try:
        told = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    found = re.search(r"VmHWM:\s+(\d+) kB", told)
    return int(found[1]) / 2**10 if found else None


def ask(url: str) -> dict[str, Any]:
    """What the truth server tells; no proxy is asked, and its certificate is our own."""
    context = ssl.create_default_context(cafile=str(CERTIFICATE)) if url[4] == "s" else None
    handlers = [urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)]
    with urllib.request.build_opener(*handlers).open(url, timeout=TELL_S) as answer:
        found: dict[str, Any] = json.loads(answer.read(MOST_TOLD))
    return found


def separate_processors(clients: int = 1) -> tuple[set[int] | None, set[int] | None]:
    """Processors for the server and for the client, so that neither disturbs the other; None where
    there are too few, or the system does not let us choose.

    A run that is kept on some processors (`taskset`) leaves these to the client.
    """
    if not hasattr(os, "sched_getaffinity"):
        return None, None
    mine = os.sched_getaffinity(0)
    if others := set(range(os.cpu_count() or 1)) - mine:
        return others, mine
    if len(mine) > clients:
        return {max(mine)}, mine - {max(mine)}
    return None, None
