"""Locust with `locustfile.py`: a master and its workers, each a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .peer_programs import free_port
from .scripts import ROOT, Finished

LOCUST = ROOT / ".venv" / "locust" / "bin" / "locust"
LONGEST_S = 60.0
LOOK_S = 0.05


@dataclass
class Swarm:
    """What runs. `folder` has the outputs of the processes and, in `results`, the results."""

    folder: Path
    port: int
    environment: Mapping[str, str] = field(default_factory=dict)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *words: object, name: str, **environment: str) -> subprocess.Popen[bytes]:
        """A process of Locust, whose output goes to a file of this name."""
        command = [str(LOCUST), "-f", str(ROOT / "locustfile.py"), *map(str, words)]
        with (self.folder / f"{name}.txt").open("wb") as out:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a group of its own, as a shell gives to a command
                env={**os.environ, **self.environment, **environment},
            )
        self.processes.append(process)
        return process

    def master(self, workers: int, *words: object, **environment: str) -> subprocess.Popen[bytes]:
        places = ("--master-bind-host", "127.0.0.1", "--master-bind-port", self.port)
        return self.start(
            *("--master", "--expect-workers", workers, *places, *words),
            name="master",
            **environment,
        )

    def worker(self, number: int, **environment: str) -> subprocess.Popen[bytes]:
        place = ("--master-host", "127.0.0.1", "--master-port", self.port)
        return self.start("--worker", *place, name=f"worker{number}", **environment)

    def output(self, name: str = "master") -> str:
        return (self.folder / f"{name}.txt").read_text(errors="replace")

    def wait_for(self, text: str, name: str = "master") -> None:
        """Until the output of a process has this text."""
        end_s = time.monotonic() + LONGEST_S
        while text not in self.output(name):
            assert time.monotonic() < end_s, self.output(name)
            time.sleep(LOOK_S)

    def document(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "results" / f"{name}.json").read_text())
        return found

    @property
    def everything(self) -> str:
        """All that was printed and saved."""
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        return "\n".join(path.read_text(errors="replace") for path in files)


@contextlib.contextmanager
def swarm(folder: Path, **environment: str) -> Iterator[Swarm]:
    """At the end nothing of it runs any more."""
    found = Swarm(folder, free_port(), environment)
    try:
        yield found
    finally:
        for process in found.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with what --processes has started
            process.wait()


def run_alone(results: Path, *words: object, **environment: str) -> Finished:
    """A test in one command: a master and two workers, which it forks."""
    results.mkdir(parents=True)
    with swarm(results.parent, **environment) as here:
        ports = ("--master-port", here.port, "--master-bind-port", here.port, "--processes", 2)
        users = ("--headless", "-u", 4, "-r", 4, "-t", "5s", "--results", results)
        code = here.start(*ports, *users, *words, name="locust").wait(LONGEST_S)
        return Finished(code, here.output("locust"), "", results)


def checks_of(document: Mapping[str, Any]) -> dict[str, str]:
    return {check["name"]: check["status"] for check in document["checks"]}
