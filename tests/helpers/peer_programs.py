"""Servers that operators put in front of a model: nginx, HAProxy, Caddy, LiteLLM. On loopback.

with start("nginx", {"engine": "127.0.0.1:8080", ...}) as ports:
    ports["gzip"]                # of the server with this name in tests/peers/nginx.conf

Their configurations are in tests/peers/. Words between two @ in them are filled in here:
@port:NAME@ becomes a free port, @folder@ an empty folder, every other word a value that is given.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .scripts import ROOT

CONFIGURATIONS = ROOT / "tests" / "peers"
LITELLM = ROOT / ".venv" / "litellm" / "bin" / "litellm"
PORTS = range(20_000, 32_000)
MOST_WORKERS = 8  # each has its share of the ports
PR_SET_PDEATHSIG = 1  # prctl(2)
STOP_S = 5.0


@dataclass(frozen=True)
class Program:
    """How one of the servers is found and started.

    command: its arguments, from the path of the configuration.
    start_s: longest time until it accepts connections.
    """

    executable: str
    configuration: str
    command: Callable[[Path], list[str]]
    start_s: float = 15.0
    environment: Mapping[str, str] = field(default_factory=dict)


PROGRAMS = {
    "nginx": Program(
        "nginx",
        "nginx.conf",
        lambda file: ["-p", str(file.parent), "-e", "stderr", "-c", str(file)],
    ),
    "haproxy": Program("haproxy", "haproxy.cfg", lambda file: ["-db", "-f", str(file)]),
    "caddy": Program(
        "caddy",
        "Caddyfile",
        lambda file: ["run", "--adapter", "caddyfile", "--config", str(file)],
    ),
    "litellm": Program(
        str(LITELLM),
        "litellm.yaml",
        lambda file: ["--config", str(file), "--host", "127.0.0.1", "--port", "@port:proxy@"],
        start_s=120.0,  # it imports for 20 s on a slow machine
        # It would fetch its list of prices and report that it was started.
        environment={"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"},
    ),
}


def executable(name: str) -> str:
    """The path of the server's program. Without it the tests fail: they must not be left out."""
    places = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    found = shutil.which(PROGRAMS[name].executable, path=places)
    if not found:
        raise AssertionError(f"{name} is not installed: make peers-install")
    return found


def free_port() -> int:
    """A port that nothing listens on, and that neither a system picks for outgoing connections nor
    another worker of pytest-xdist for its servers: one of those could be taken before the server
    listens on it."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    while True:
        port = random.SystemRandom().choice(PORTS[worker % MOST_WORKERS :: MOST_WORKERS])
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Ports(dict[str, int]):
    """Free ports by name; a new name gets a new one, that no other name has."""

    def __missing__(self, name: str) -> int:
        port = free_port()
        while port in self.values():
            port = free_port()
        self[name] = port
        return port


def filled_in(text: str, values: Mapping[str, str], ports: Ports) -> str:
    """The text with a value for every @word@. Raises KeyError for a word that has none."""
    text = re.sub(r"@port:(\w+)@", lambda match: str(ports[match[1]]), text)
    return re.sub(r"@(\w+)@", lambda match: values[match[1]], text)


@contextlib.contextmanager
def start(name: str, values: Mapping[str, str]) -> Iterator[dict[str, int]]:
    """One server, and the ports that it listens on, by name. Raises AssertionError."""
    program, ports = PROGRAMS[name], Ports()
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as place:
        file = Path(place) / program.configuration
        template = (CONFIGURATIONS / program.configuration).read_text()
        file.write_text(filled_in(template, {**values, "folder": place}, ports))
        command = [filled_in(part, {}, ports) for part in program.command(file)]
        log = Path(place) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [executable(name), *command],
                cwd=place,
                env={**os.environ, "HOME": place, **program.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=end_with_parent,
            )
        try:
            for port in ports.values():
                wait_for(port, process, log, program.start_s)
            yield ports
        finally:
            stop(process)


def end_with_parent() -> None:
    """In the new process: be killed when the tests are, also by a signal they cannot catch."""
    with contextlib.suppress(AttributeError):  # only Linux has it
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path, within_s: float) -> None:
    """Wait until something accepts connections on this port."""
    end_s = time.monotonic() + within_s
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        ended = process.poll() is not None
        assert not ended and time.monotonic() < end_s, f"not started: {log.read_text()[-2000:]}"
        time.sleep(0.02)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the process and what it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
            return
